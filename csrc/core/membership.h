/* Changes of membership, pure: from one configuration to the next (dissertation 4.1, 4.3).
 *
 *   one voter more or less         old -> new: majorities of the two always overlap
 *   several voters at once         old -> joint(old, new) -> new: in between, both lists must agree
 *   learners only                  old -> new: they have no say
 */
#ifndef RAFT_CORE_MEMBERSHIP_H
#define RAFT_CORE_MEMBERSHIP_H

#include "core/raft.h"

#pragma GCC visibility push(hidden)

/* What a cluster of configuration `from` has to adopt first for all n changes to happen in one step: the target itself,
 * or the joint configuration that leads to it. Precondition: from is neither joint nor founding.
 * ERR_INVALID: no changes, an unknown operation, id 0, an id twice. ERR_NO_MEMBER: not a member, or for PROMOTE no
 * learner, for DEMOTE no voter. ERR_ALREADY: ADD of a member. ERR_NO_VOTERS, ERR_TOO_MANY. */
int membership_change(const struct raft_conf *from, const struct raft_change *changes, size_t n, struct raft_conf *to);

/* Where a joint configuration leads to: the outgoing voters are gone. */
struct raft_conf membership_leave(const struct raft_conf *joint);

#pragma GCC visibility pop

#endif
