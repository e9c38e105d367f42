/* Decisions by majority, of a simple or a joint configuration (dissertation 4.3); by all voters of a founding one: pure
 * functions. */
#ifndef RAFT_CORE_QUORUM_H
#define RAFT_CORE_QUORUM_H

#include "core/types.h"

#pragma GCC visibility push(hidden)

/* Is id among these n? */
bool ids_have(const raft_id *ids, size_t n, raft_id id);

/* Membership of a configuration. */
bool conf_is_voter(const struct raft_conf *conf, raft_id id);  /* in either list of voters */
bool conf_is_member(const struct raft_conf *conf, raft_id id); /* voter or learner */
bool conf_is_joint(const struct raft_conf *conf);
bool conf_is_empty(const struct raft_conf *conf); /* nobody: not known yet */
bool conf_is_learner(const struct raft_conf *conf, raft_id id);
/* All members once, sorted, into ids (room for 3 * RAFT_MEMBERS_MAX); returns how many. */
size_t conf_members(const struct raft_conf *conf, raft_id *ids);
/* At least one voter, lists sorted and unique, no id 0, at most RAFT_MEMBERS_MAX members in all, no learner
 * among the voters (but it may be among the outgoing: then it still votes); of a founding one no other list. */
bool conf_is_valid(const struct raft_conf *conf);

/* A number a member: how far its log is durable, or when it was last heard of. */
typedef uint64_t (*quorum_value)(const void *ctx, raft_id id);
/* The largest number that a majority of each list of voters has reached, or all of a founding list. */
uint64_t quorum_reached(const struct raft_conf *conf, quorum_value value, const void *ctx);

enum quorum_vote { VOTE_MISSING, VOTE_GRANTED, VOTE_REFUSED };
enum quorum_result { QUORUM_PENDING, QUORUM_WON, QUORUM_LOST };
typedef enum quorum_vote (*quorum_voter)(const void *ctx, raft_id id);
/* WON when a majority of each list granted, or all of a founding list; LOST when one list cannot come to that any
 * more. */
enum quorum_result quorum_tally(const struct raft_conf *conf, quorum_voter vote, const void *ctx);

#pragma GCC visibility pop

#endif
