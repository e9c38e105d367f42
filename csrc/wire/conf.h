/* A configuration as it travels and lies on disks: who the members are, where, and what they may (dissertation 4). It is
 * the payload of a CONFIG entry, and the first record of a snapshot. Little-endian:
 *
 *   u64  the lowest id that was never given to a member: ids are not used twice
 *   u8   number of members, then for each, by ascending id:
 *     u64 id, u8 what it may (1 voter, 2 voter of the configuration that is being left, 4 learner), u8 size, address */
#ifndef RAFT_WIRE_CONF_H
#define RAFT_WIRE_CONF_H

#include "base/buf.h"
#include "wire/members.h"

#pragma GCC visibility push(hidden)

#define CONF_BYTES_MAX (9u + RAFT_MEMBERS_MAX * (10u + ADDRESS_MAX))

struct conf {
    raft_id next_id;
    struct members members;
    struct raft_conf raft; /* of the same ids */
};

/* The configuration that a cluster starts with: all of the list are voters. */
struct conf conf_first(const struct members *list);
/* Precondition: both halves hold the same ids. false: no memory, out unchanged. */
bool conf_write(struct buf *out, const struct conf *c);
/* ERR_CORRUPT: cut off, out of order, no address, a member that may nothing or two things that exclude each other. */
int conf_read(const uint8_t *data, size_t size, struct conf *out, struct err *e);

#pragma GCC visibility pop

#endif
