/* What happened in a simulated run, for people: the newest events of each sort, told as lines of text that
 * lua/raft/diagram.lua draws as a space-time diagram.
 *
 * A run records nothing unless it is asked to: the same seed gives the same run, so a seed that has failed is simply
 * run again with a trace. Recording draws nothing from the seed and changes nothing. Every function takes NULL for "no
 * trace" and then returns at once. Memory is bounded; what is rare (lives, roles, faults) is kept apart from what is
 * frequent (messages, commits), so that the second cannot push out the first.
 *
 * From Lua: core.sim { ..., trace = true } returns the text as report.trace, and require "raft.diagram".write(path,
 * { trace = report.trace, failure = report.failure }) draws it. */
#ifndef RAFT_SIM_SIM_TRACE_H
#define RAFT_SIM_SIM_TRACE_H

#include "base/buf.h"
#include "core/types.h"

#pragma GCC visibility push(hidden)

struct sim_trace;

enum sim_trace_kind {
    SIM_TRACE_LIFE = 1, /* of a node: "start", "crash", "stop", "wipe" */
    SIM_TRACE_ROLE,     /* "follower", "candidate", "leader", in a term */
    SIM_TRACE_FAULT,    /* lasts from .. until; of a node, of a pair (from node to peer), or of all (node 0) */
    SIM_TRACE_NOTE,     /* anything else worth a word at one moment */
    SIM_TRACE_COMMIT,   /* a node's commit index is now index */
    SIM_TRACE_DURABLE,  /* what a node has on its disk now ends at index */
    SIM_TRACE_COMMAND,  /* the entry at index was acknowledged to its caller at this node */
    SIM_TRACE_MESSAGE,  /* a frame from node to peer, from .. until */
};

struct sim_trace *sim_trace_new(void);
void sim_trace_free(struct sim_trace *t);
/* Nothing is recorded from now on: what follows a failure, or the end, is no part of the story. */
void sim_trace_stop(struct sim_trace *t);

/* One event at one moment. name is static text; details are made by format (NULL: none) and cut if too long;
 * control characters in them become spaces. */
void sim_trace_add(struct sim_trace *t, enum sim_trace_kind kind, uint64_t now_us, int node, const char *name,
                   uint64_t index, const char *format, ...) PRINTF_LIKE(7, 8);
/* A fault begins (on) or is over; one that has begun already, or is over already, is left alone. */
void sim_trace_fault(struct sim_trace *t, uint64_t now_us, int node, int peer, const char *name, bool on);
/* The core of a node after an event: role, commit index and end of the durable log, each recorded when it changes. */
void sim_trace_core(struct sim_trace *t, uint64_t now_us, int node, enum raft_role role, raft_term term,
                    raft_index commit, raft_index stable);

/* Frames that were sent together and share their fate. */
struct sim_sent {
    uint64_t first;
    uint32_t count;
};
/* bytes: whole frames. how: NULL, or static words about it ("a copy"). They are on their way until told. */
struct sim_sent sim_trace_sent(struct sim_trace *t, uint64_t now_us, int from, int to, const struct buf *bytes,
                               const char *how);
void sim_trace_arrived(struct sim_trace *t, uint64_t now_us, struct sim_sent sent);
void sim_trace_lost(struct sim_trace *t, uint64_t now_us, struct sim_sent sent);

/* Appends all records to out, empty for NULL, oldest first within each sort, one a line, of fields divided by tabs:
 *   kind  from_us  until_us  node  peer  fate  term  index  name  details
 * kind: life role fault note commit durable command message. until_us: 0 = still on. fate: of messages, - (on its
 * way), arrived or lost; else "-". Texts hold neither tabs nor line ends. */
void sim_trace_text(const struct sim_trace *t, struct buf *out);

#pragma GCC visibility pop

#endif
