/* The calls of a node that wait: proposals by their sequence, reads and barriers in rounds; each until it is due.
 *
 * A round tells how far this node must have applied the log: by the leader's word (that it still leads, which it knows
 * from a majority or by its lease), or by a barrier, an entry of the log. Dissertation 6.4. */
#ifndef RAFT_LUA_LUA_CALLS_H
#define RAFT_LUA_LUA_CALLS_H

#include "lua/lua_node.h"

#pragma GCC visibility push(hidden)

/* pending: most proposals at once. ERR_NOMEM. */
int lua_calls_init(struct lua_calls *c, struct lua_line *line, uint32_t pending);
void lua_calls_free(struct lua_calls *c);

/* A proposal was applied: whoever waits for it gets the values at first and first + 1. */
void lua_calls_applied(lua_State *L, struct lua_node *n, uint64_t sequence, int first);
/* A call has ended otherwise: a proposal (code OK: it was in the log before, or a session was opened by it, at index),
 * or a round. text, name: of the error; NULL: none. false: it is none of those. */
bool lua_calls_done(struct lua_node *n, uint64_t sequence, const char *text, const char *name, raft_index index);

/* Methods of a node. Those with a timeout (seconds) wait, in the running coroutine, if no waiter is given (a function,
 * or a box: then they return true at once): what they return is the answer, or nil, message, code. */
int lua_calls_propose(lua_State *L); /* (cmd, timeout, waiter) */
/* (session, number, cmd, timeout, waiter); session 0: opens one, whose id is the answer */
int lua_calls_client(lua_State *L);
/* (timeout, waiter, fn): everything committed before the call is applied. A waiter gets an index; without one, what
 * fn(machine, index, time) returns is the answer, or machine:query(fn, index, time) if it is no function. */
int lua_calls_read(lua_State *L);
int lua_calls_lease(lua_State *L);   /* the same; the leader's lease will do */
int lua_calls_barrier(lua_State *L); /* (timeout, waiter): the same, by an entry of the log; its index is the answer */
int lua_calls_look(lua_State *L);    /* (fn): what a read without a waiter calls then, now */
int lua_calls_expire(lua_State *L);  /* (): ends what is due; seconds until the next call may be, or nil */
int lua_calls_end(lua_State *L);     /* (message, code): ends all that still wait */

#pragma GCC visibility pop

#endif
