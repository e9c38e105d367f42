/* Changes of term and role, and the timers of each (dissertation 3.3, 3.4). */
#ifndef RAFT_CORE_ROLES_H
#define RAFT_CORE_ROLES_H

#include "core/state.h"

#pragma GCC visibility push(hidden)

/* Follower in this term or a later one, of a leader (0 = not known yet). The vote is kept within a term. */
void role_follow(struct raft *r, raft_term term, raft_id leader, uint64_t now);
/* The leader of this term has spoken: follow it, and wait another timeout for it. */
void role_hear_leader(struct raft *r, raft_id leader, uint64_t now);
/* Asks around whether an election would be won: no term or vote changes yet (dissertation 9.6). */
void role_become_precandidate(struct raft *r, uint64_t now);
/* A new term, with a vote for itself. */
void role_become_candidate(struct raft *r, uint64_t now);
/* Won: appends the empty entry of its term; the first leader of a cluster its first configuration instead.
 * Precondition: room for one entry, and one configuration, is reserved in the log. */
void role_lead(struct raft *r, uint64_t now);
/* Votes in the current term, durably before anybody hears of it. */
void role_vote(struct raft *r, raft_id candidate);

/* Draws a new randomised election timeout (dissertation 3.4), counted from now; by config.priority. */
void role_wait(struct raft *r, uint64_t now);
/* Has a leader been heard of within the shortest election timeout (dissertation 4.2.3)? A leader has heard of itself
 * while it hears of a quorum. */
bool role_has_live_leader(const struct raft *r, uint64_t now);
/* Leader: when a majority was last heard of. */
uint64_t role_quorum_contact(const struct raft *r, uint64_t now);
/* May this node campaign? Not while it withholds its votes. A voter by the latest configuration, or by one that may
 * still be in force: a node that is being removed, and alone has the entry that says so, must be able to lead until
 * that is committed (dissertation 4.2.2). */
bool role_is_electable(const struct raft *r);

#pragma GCC visibility pop

#endif
