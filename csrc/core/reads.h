/* Reads that wait for their confirmation, in order of arrival (dissertation 6.4): a queue, no more. */
#ifndef RAFT_CORE_READS_H
#define RAFT_CORE_READS_H

#include "core/raft.h"

#pragma GCC visibility push(hidden)

struct raft_reads {
    struct waiting_read {
        struct raft_read read;
        uint64_t round; /* of heartbeats: when a quorum has answered it, or a later one, the read is confirmed */
    } *waiting;
    size_t n_waiting, waiting_capacity;
    struct raft_read *decided; /* for the next raft_ready */
    size_t n_decided, decided_capacity;
    struct raft_read *lent; /* of the last one: the caller still looks at them */
    size_t lent_capacity;
};

void reads_free(struct raft_reads *q);
/* ERR_NOMEM: nothing changed. What is done with it later cannot fail. */
int reads_put(struct raft_reads *q, const struct raft_read *read, uint64_t round);
/* Decides those that wait for this round or an earlier one. */
void reads_confirm(struct raft_reads *q, uint64_t round);
void reads_fail(struct raft_reads *q); /* all that wait */
/* Ends the loan of the last reads_lend, and makes room for the next. ERR_NOMEM: nothing else changed. */
int reads_reserve(struct raft_reads *q);
/* Gives the decided ones to the caller: valid until the next reads_reserve. Precondition: reserved. */
const struct raft_read *reads_lend(struct raft_reads *q, size_t *n);

#pragma GCC visibility pop

#endif
