/* The configurations in the log with their addresses: the core knows by which one a log is governed (raft_conf_at) but
 * not where the members are. The latest in the log governs, committed or not; truncation goes back to an earlier one
 * (dissertation 4.1). */
#ifndef RAFT_SERVER_CONFS_H
#define RAFT_SERVER_CONFS_H

#include "wire/conf.h"

#pragma GCC visibility push(hidden)

struct confs {
    struct conf_at {
        raft_index index; /* of its entry; of the first one: where the log begins */
        raft_term term;
        struct conf conf;
    } *list;              /* ascending; never empty once it is set up */
    size_t count, capacity;
};

void confs_free(struct confs *c);
/* One more, of the entry at index; those at index and behind are void. ERR_NOMEM: nothing changed. */
int confs_add(struct confs *c, raft_index index, raft_term term, const struct conf *conf);
/* All up to index are known to be committed: but for the last of them, they are forgotten. */
void confs_commit(struct confs *c, raft_index index);
/* The log ends before the last of them, or has another entry there: it is void. Precondition: it is not the only
 * one. */
void confs_drop_last(struct confs *c);
/* Precondition: it is set up. */
static inline const struct conf_at *confs_latest(const struct confs *c)
{
    return &c->list[c->count - 1];
}
/* The one that governs a log that ends at index. Precondition: not forgotten. */
const struct conf_at *confs_at(const struct confs *c, raft_index index);

#pragma GCC visibility pop

#endif
