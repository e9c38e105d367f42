/* A cluster that has lost more than half of its voters for good goes on with one of those that are left: a tool's act
 * on that node's directory, at rest. It cannot be made safe, and whoever does it has to know what is given up:
 *
 * - entries that the lost ones had acknowledged and this one never got are gone, committed or not;
 * - entries that this one has and the cluster had not committed become committed;
 * - the members left out must never run again with their old directories: they would go on as the old cluster.
 *
 * The directory gets another incarnation, so that those that know the old one will not listen to it. */
#ifndef RAFT_STORE_RECOVER_H
#define RAFT_STORE_RECOVER_H

#include "store/store.h"
#include "wire/conf.h"

#pragma GCC visibility push(hidden)

struct recover_report {
    raft_id node;
    raft_index index;        /* of the configuration that was appended */
    raft_term term;
    struct members lost;     /* who is a member no more */
    uint64_t incarnation;    /* the new one */
};

/* Appends to the log a configuration with this node as the only member, a voter at `address` (NULL: where it was
 * before), in a term of its own. Blocks. Can be done again. ERR_LOCKED, ERR_CORRUPT and all that store_open may say;
 * ERR_REFUSED: the node was rejoining (it may have forgotten anything), or it is no member and no address was given. */
int recover_alone(struct io *io, const char *dir, const char *address, struct recover_report *out, struct err *e);

#pragma GCC visibility pop

#endif
