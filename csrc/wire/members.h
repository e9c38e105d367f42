/* Members of a cluster: ids and addresses, of the first ones also as text, "1=host:port 2=host:port". */
#ifndef RAFT_WIRE_MEMBERS_H
#define RAFT_WIRE_MEMBERS_H

#include "base/err.h"
#include "core/types.h"

#pragma GCC visibility push(hidden)

#define ADDRESS_MAX 255u

struct member {
    raft_id id;
    char address[ADDRESS_MAX + 1];
    uint64_t incarnation; /* of the directory that has its vote: see wire/conf.h. 0 = none is named */
    bool returns;         /* a learner that has lost its directory, and gets its vote back when it has caught up */
};

struct members {
    struct member list[RAFT_MEMBERS_MAX]; /* sorted by id */
    uint8_t count;
};

/* Adds one, keeping order; no incarnation is named. ERR_INVALID: id 0 or already there, address empty, too long or with
 * spaces, too many. */
int members_add(struct members *m, raft_id id, const char *address, struct err *e);
/* Which directory has the vote of a member, and is it to get it back? Precondition: it is there. */
void members_name(struct members *m, raft_id id, uint64_t incarnation, bool returns);
const struct member *members_find(const struct members *m, raft_id id); /* NULL: not a member */
/* Text into out (terminated). ERR_INVALID: longer than size. */
int members_format(const struct members *m, char *out, size_t size, struct err *e);
int members_parse(struct members *m, const char *text, struct err *e); /* ERR_CORRUPT */
/* All of them voters. */
struct raft_conf members_conf(const struct members *m);
/* The cluster's id: a hash of its name and its first list, so that nodes with different lists never mix. */
void members_cluster_id(const struct members *m, const char *name, uint8_t id[16]);

#pragma GCC visibility pop

#endif
