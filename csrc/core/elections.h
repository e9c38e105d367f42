/* Leader election: campaigns, votes and their tally, with pre-vote (dissertation 3.4, 3.6.1, 4.2.3, 9.6). */
#ifndef RAFT_CORE_ELECTIONS_H
#define RAFT_CORE_ELECTIONS_H

#include "core/state.h"

#pragma GCC visibility push(hidden)

/* Starts a pre-vote. A voter that is the only one goes on to the election at once. Put off while a lease is promised.
 * Preconditions: electable, not the leader; log and outbox have room for what follows (raft.c reserves it). */
void election_campaign(struct raft *r, uint64_t now);
/* Not electable, and no leader is heard: asks for pre-votes all the same, without standing for election. Who was
 * removed learns it from the answers, whatever its log holds, in each of its lives (dissertation 4.2.3). It believes
 * them of those whom it takes for members, and not while it hears a leader; and all that follows is that it asks no
 * more, until a leader speaks to it: a word that was wrong, or out of date, takes no vote from anybody. */
void election_ask(struct raft *r, uint64_t now);
/* The leader hands over to this node: an election at once, without a pre-vote (dissertation 3.10). */
void election_on_timeout_now(struct raft *r, const struct raft_message *m, uint64_t now);
/* The leader's process has most likely died: see raft_leader_lost. */
void election_on_leader_lost(struct raft *r, uint64_t now);
/* Somebody asks for a vote or a pre-vote. */
void election_on_vote(struct raft *r, const struct raft_message *m, uint64_t now);
/* Somebody answers. */
void election_on_vote_reply(struct raft *r, const struct raft_message *m, uint64_t now);
/* (term, vote) became durable: a candidate's own vote counts from now on, a pre-candidate may go on. */
void election_on_durable(struct raft *r, uint64_t now);

#pragma GCC visibility pop

#endif
