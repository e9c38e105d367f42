/* Is each step that a core takes one that Raft allows? (Ongaro's dissertation; its figure 3.1 is all of it on one
 * page.)
 *
 * A step is (state before, input, state after, messages out). Of each node an abstract state is kept - what figure 3.1
 * lists, and what has been promised about durability - and each input is played on it by the rules of the paper. Where
 * they leave a choice (a candidate may begin a new round, a leader may send), the state after tells what the core
 * chose, and the rule says whether it was free to. In the end the two states must be the same: what no rule explains is
 * wrong.
 *
 * It is written from the paper and shares no code with the core, so that the two do not err together. Logs are not
 * copied: they are those of the checker (sim_check.h), which hears of a step after it has been judged here. A step
 * costs what it changes, whatever the length of the log. */
#ifndef RAFT_SIM_SIM_RELATION_H
#define RAFT_SIM_SIM_RELATION_H

#include "core/raft.h"
#include "sim/sim_check.h"

#pragma GCC visibility push(hidden)

struct sim_peer {
    raft_id id;
    raft_index match, next;
};

/* The state of a core after a step, as far as the rules speak of it. */
struct sim_core {
    enum raft_role role;
    raft_term term, durable_term;
    raft_id vote, leader;
    raft_index last, stable, commit, applied;
    raft_index restored;  /* a snapshot up to here has taken the place of its log, in this step; 0 = none has */
    bool asking;          /* candidate: in a pre-vote */
    bool corrupt;
    bool removed;         /* it knows that it was */
    raft_id transfer;     /* leader: to whom it hands over; 0 = nobody */
    raft_index conf_index; /* of the configuration that governs, */
    const struct raft_conf *conf; /* and what that says */
    uint64_t deadline_us; /* follower, candidate: the end of its election timeout */
    /* How its log came to be: the entries up to `kept` from before the step, then n_added entries of these terms. */
    raft_index kept;
    const raft_term *added;
    size_t n_added;
    struct sim_peer peers[RAFT_MEMBERS_MAX]; /* of a leader */
    size_t n_peers;
};

struct sim_relation;

/* Complaints go to check, which outlives the relation; nodes are numbered as there. NULL: no memory. */
struct sim_relation *sim_relation_new(struct sim_check *check, int nodes);
void sim_relation_free(struct sim_relation *r);

/* Judges a step of a node, whose log as the checker has it is the one before the step (of RAFT_INPUT_START: the one it
 * starts with). The first input of each life is RAFT_INPUT_START. */
void sim_relation_step(struct sim_relation *r, int node, const struct raft_input *input, const struct sim_core *after);

#pragma GCC visibility pop

#endif
