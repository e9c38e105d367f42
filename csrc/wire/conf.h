/* A configuration as it travels and lies on disks: who the members are, where, and what they may (dissertation 4). It
 * is the payload of a CONFIG entry, and the first record of a snapshot. Little-endian:
 *
 *   u64  the lowest id that was never given to a member: ids are not used twice
 *   u8   number of members, then for each, by ascending id:
 *     u64 id, u8 what it may (1 voter, 2 voter of the configuration that is being left, 4 learner; with 4 also 8: it
 *     gets its vote back), u64 incarnation, u8 size, address
 *
 * A configuration names the directory, by its incarnation, that has the vote of each voter. So whoever counts by a
 * configuration knows whom it counts, also those that it has never met, and cannot take an emptied directory for the
 * one that voted and acknowledged. A voter that has lost its directory has no vote until a configuration names its new
 * one: first as of a learner, which it is refilled as, then as of a voter. Every vote and acknowledgement of the old
 * one was given under configurations that name the old one, and by those the new one is never counted.
 *
 * The list that a cluster begins with can name nobody. By it all voters have to agree (raft_conf.founding), so that no
 * decision by it can do without a member that knows of an earlier one; the first entry of the first leader names
 * them. */
#ifndef RAFT_WIRE_CONF_H
#define RAFT_WIRE_CONF_H

#include "base/buf.h"
#include "wire/members.h"

#pragma GCC visibility push(hidden)

#define CONF_BYTES_MAX (9u + RAFT_MEMBERS_MAX * (18u + ADDRESS_MAX))

struct conf {
    raft_id next_id;
    struct members members;
    struct raft_conf raft; /* of the same ids */
};

/* The configuration that a cluster starts with: all of the list are voters, and found it. */
struct conf conf_first(const struct members *list);
/* Precondition: both halves hold the same ids. false: no memory, out unchanged. */
bool conf_write(struct buf *out, const struct conf *c);
/* ERR_CORRUPT: cut off, out of order, no address, a member that may nothing or two things that exclude each other.
 * Whether incarnations are named is not looked at. */
int conf_read(const uint8_t *data, size_t size, struct conf *out, struct err *e);

#pragma GCC visibility pop

#endif
