/* The claims of Raft (dissertation, figure 3.2), and this project's own, checked on the history of a whole cluster.
 *
 * The checker is told what happens in each node, in the order in which it happens, and remembers all of it: what it
 * says is wrong is wrong, whatever the code under test believes. It knows nothing of engines and worlds, so that a
 * spec can feed it a broken history and see it complain. The first failure stays.
 *
 *  election safety       one leader a term, ever
 *  log matching          the same index and term: the same entry, after the same entry
 *  leader completeness   a new leader has every entry that was committed in an earlier term
 *  state machine safety  what is committed or applied at an index is the same on every node, for good
 *  durability            committed: on the disks of a majority; what was on a disk is there again after a crash, and
 *                        is in its bytes before; what a node promises to others is on its disk
 *  order                 a commit index, an applied index, a term and the leader's time never fall; one vote a term
 *  exactly once          no value is applied twice; what was refused for certain is never applied; who asks again in
 *                        a session is told the same again, or that the session has ended: then it is applied no more
 *  linearizability       what is proposed, or a barrier that begins, after something was acknowledged comes after it */
#ifndef RAFT_SIM_SIM_CHECK_H
#define RAFT_SIM_SIM_CHECK_H

#include "core/raft.h"

#pragma GCC visibility push(hidden)

#define SIM_CHECK_NODES 9
#define SIM_FAILURE_MAX 600

struct sim_check;

/* Of the nodes numbered from 1, at first all are voters. NULL: no memory. */
struct sim_check *sim_check_new(int nodes);
void sim_check_free(struct sim_check *c);
/* What went wrong first, with check, time, node and index; NULL: nothing did. */
const char *sim_check_failure(const struct sim_check *c);
/* Says so itself: for what others check. */
void sim_check_fail(struct sim_check *c, int node, const char *format, ...) PRINTF_LIKE(3, 4);
/* The time that failures are told with, us. */
void sim_check_time(struct sim_check *c, uint64_t now_us);

/* ---- the core of a node ---- */

void sim_check_term(struct sim_check *c, int node, raft_term term, raft_id vote, raft_term durable);
void sim_check_leader(struct sim_check *c, int node, raft_term term);

/* This node is a member with that id, if a configuration says so; at first its number is its id. */
void sim_check_identity(struct sim_check *c, int node, raft_id id);
/* By which configuration this node counts from now on, and the index of its entry. What a leader commits next is on
 * disks of its majorities. */
void sim_check_conf(struct sim_check *c, int node, raft_index index, const struct raft_conf *conf);
/* The log of a node as the checker knows it: last index, and the term at one (0: beyond the end). */
raft_index sim_check_last(const struct sim_check *c, int node);
raft_term sim_check_term_at(const struct sim_check *c, int node, raft_index index);
void sim_check_truncate(struct sim_check *c, int node, raft_index last); /* entries after last are gone */
/* The next entry. hash: of its bytes; 0 = not known yet. */
void sim_check_append(struct sim_check *c, int node, raft_term term, uint64_t hash);
void sim_check_hash(struct sim_check *c, int node, raft_index index, uint64_t hash); /* now it is */
void sim_check_stable(struct sim_check *c, int node, raft_index index); /* durable on this node up to here */
void sim_check_commit(struct sim_check *c, int node, raft_index index);

/* ---- what a node says to others: promises, kept over crashes ---- */

void sim_check_says(struct sim_check *c, int node, raft_term term, raft_term durable);
void sim_check_says_stored(struct sim_check *c, int node, raft_index index, raft_index stable);
void sim_check_says_vote(struct sim_check *c, int node, raft_term term, raft_id candidate);

/* ---- lives ---- */

void sim_check_crash(struct sim_check *c, int node); /* or stop */
/* The committed entries up to index, of which the last one is of this term, take the place of its log: it was given a
 * snapshot. */
void sim_check_restore(struct sim_check *c, int node, raft_index index, raft_term term);
/* What a new life found on its disk: terms of entries 1 .. last; 0: a snapshot covers that entry. */
void sim_check_recover(struct sim_check *c, int node, raft_term term, raft_id vote, const raft_term *terms,
                       raft_index last);
/* What this node had on its disk is gone for good (wiped, or found rotten). Others may still count on what it has told
 * them before. It may live on with an empty disk, and the end does not ask it for the others' state. Precondition: it
 * is down. */
void sim_check_lost(struct sim_check *c, int node);
/* The same, but it comes back to be filled again by the others: the end asks it for their state. */
void sim_check_refilled(struct sim_check *c, int node);
/* It is no member any more, and comes back as another one, with an empty disk. Preconditions: it is down, and
 * sim_check_is_out. */
void sim_check_renew(struct sim_check *c, int node);
/* By the newest commit: is this node a member? Is it none, for good unless it is added again? Is no change open? */
bool sim_check_is_member(const struct sim_check *c, int node);
bool sim_check_is_out(const struct sim_check *c, int node);
bool sim_check_is_steady(const struct sim_check *c);
/* Is it in that list; is it a member of that configuration? By the judges' own looking, not by the core's. */
bool sim_ids_have(const raft_id *ids, size_t n, raft_id id);
bool sim_conf_has(const struct raft_conf *conf, raft_id id);
/* Is it to know that it was removed? It is out, was a member before, and one that it takes for a member still is: who
 * can tell it. */
bool sim_check_is_removed(const struct sim_check *c, int node);
/* A fault has damaged its disk behind its back: until sim_check_lost nothing is said about what that disk holds. */
void sim_check_damaged(struct sim_check *c, int node);

/* ---- disks, looked at from outside: their bytes, while the node runs or is down ---- */

/* What a look at one has found, as with sim_check_recover: all that was durable has to be there. */
void sim_check_disk(struct sim_check *c, int node, raft_term term, raft_id vote, const raft_term *terms,
                    raft_index last);
/* After a look at each of them, at one moment: what is committed is on the disks of a majority (of both, in a joint
 * configuration). */
void sim_check_disks(struct sim_check *c);

/* ---- the state machine of a node, and its callers ---- */

/* Values are numbers from 1, each proposed at most once, and told before it is. */
void sim_check_propose(struct sim_check *c, uint64_t value);
void sim_check_apply(struct sim_check *c, int node, raft_index index, uint64_t value, uint64_t time_us);
void sim_check_acknowledge(struct sim_check *c, int node, raft_index index, uint64_t value);
void sim_check_refuse(struct sim_check *c, int node, uint64_t value); /* certainly never to be applied */
/* A snapshot has overtaken it: it was applied, elsewhere, and is in the state here. */
void sim_check_overtaken(struct sim_check *c, int node, uint64_t value);
/* A value that its visitor asks for until it is told: it was applied at index, and came to that state. However often it
 * is told, that has to be the same, and true on the node that tells it. Is this the first time? */
bool sim_check_answer(struct sim_check *c, int node, uint64_t value, raft_index index, uint64_t digest);
/* Its visitor is told by the entry at index that the session has ended, or gone on: it is applied before, or never. */
void sim_check_expired(struct sim_check *c, int node, uint64_t value, raft_index index);
/* Where it was applied; 0: nowhere yet. */
raft_index sim_check_index_of(const struct sim_check *c, uint64_t value);

/* The state of a node's machine, to be kept in a snapshot and to be restored from it. */
struct sim_state {
    raft_index applied; /* the last command */
    uint64_t time_us, digest;
};
struct sim_state sim_check_state(const struct sim_check *c, int node);
/* The same after the command at that index, on every node; its digest is 0 when none was applied there yet. */
struct sim_state sim_check_state_at(const struct sim_check *c, raft_index index);
/* It is what every node's state was after that command, and no older than this node's own. */
void sim_check_restored(struct sim_check *c, int node, struct sim_state state);
/* The highest index acknowledged anywhere so far, and a barrier that began then and has been passed now. */
raft_index sim_check_acknowledged(const struct sim_check *c);
void sim_check_barrier(struct sim_check *c, int node, raft_index began);

raft_index sim_check_committed(const struct sim_check *c); /* the highest index committed anywhere */
raft_term sim_check_committed_term(const struct sim_check *c, raft_index index); /* 0: nothing is, there */
/* The end: the same state on every member, with all that was acknowledged and nothing that was refused. */
void sim_check_end(struct sim_check *c);

#pragma GCC visibility pop

#endif
