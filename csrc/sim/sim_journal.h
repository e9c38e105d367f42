/* What the state machines of a simulated cluster did with each command, and where two of them part.
 *
 * The checker (sim_check.h) knows that all nodes apply the same commands in the same order. A machine that depends on
 * anything else shows it here: another result for the same command, or another state after it. The first node to apply
 * an index is remembered, all others - and the same node after a restart - are compared with it. Digests of states are
 * taken as often as they are cheap: after every command while the state is small. */
#ifndef RAFT_SIM_SIM_JOURNAL_H
#define RAFT_SIM_SIM_JOURNAL_H

#include "base/buf.h"
#include "wire/entry.h"

#pragma GCC visibility push(hidden)

struct sim_journal;

/* A run of bytes that stays the journal's, valid until the next call. */
struct sim_bytes {
    const uint8_t *data;
    size_t size;
};

/* One applied command. */
struct sim_applied {
    raft_index index;
    uint64_t time_us;                  /* what apply was told */
    uint64_t session, epoch, sequence; /* of its proposer */
    struct sim_bytes command, result;  /* result: the first node's */
    bool raised;                       /* apply raised; result is the message */
    int node;                          /* the first that gave a result; 0: none did yet */
};

/* How two nodes part. */
struct sim_divergence {
    raft_index index;
    raft_index equal;           /* the last index before it at which the second of them was known to be right; or 0 */
    bool digest;                /* states differ after index; else the results do */
    int nodes[2];               /* the first one to apply it, and the one that differs */
    bool raised[2];
    struct sim_bytes values[2]; /* results; digests' bytes if both are kept, else empty */
    uint64_t hashes[2];         /* of the two */
};

/* closely_from: from this index on a digest is taken after every command and its bytes are kept; 0: never. */
struct sim_journal *sim_journal_new(raft_index closely_from); /* NULL: no memory */
void sim_journal_free(struct sim_journal *j);

/* Before a node applies a command; time_us: what apply is told. */
void sim_journal_apply(struct sim_journal *j, const struct entry *command, uint64_t time_us);
/* What it returned, packed; or that it raised. Precondition: sim_journal_apply of this index. */
void sim_journal_result(struct sim_journal *j, int node, raft_index index, struct sim_bytes result, bool raised);
/* Shall the node that has just applied this index give a digest of its state? */
bool sim_journal_wants_digest(const struct sim_journal *j, raft_index index);
void sim_journal_digest(struct sim_journal *j, int node, raft_index index, struct sim_bytes digest);

/* The first divergence; false: none. */
bool sim_journal_divergence(const struct sim_journal *j, struct sim_divergence *out);
raft_index sim_journal_last(const struct sim_journal *j); /* the highest index of a command so far */
/* false: no command has this index. */
bool sim_journal_at(const struct sim_journal *j, raft_index index, struct sim_applied *out);
uint64_t sim_journal_hash(const struct sim_journal *j); /* of all results and digests, in the order they came in */

#pragma GCC visibility pop

#endif
