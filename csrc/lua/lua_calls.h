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

/* Pushes the command of this entry, if whoever waits for it still holds it: a string, which spares a copy of it and the
 * collection of that. false: nobody does. */
bool lua_calls_command(lua_State *L, struct lua_node *n, uint64_t sequence, const struct entry *command);
/* A proposal was applied: whoever waits for it gets the two values on top of the stack, which may be taken off. */
void lua_calls_applied(lua_State *L, struct lua_node *n, uint64_t sequence);
/* A call has ended otherwise: a proposal (code OK: it was in the log before, or a session was opened by it, at index),
 * or a round. text, name: of the error; NULL: none. false: it is none of those. */
bool lua_calls_done(struct lua_node *n, uint64_t sequence, const char *text, const char *name, raft_index index);

/* The engine learns of what was proposed, and rounds begin. */
void lua_calls_flush(struct lua_node *n);

/* method("propose" | "read", otherwise) -> what users call as node:propose(cmd, opts, callback) or
 * node:read(fn, opts, callback), and `parks`. The usual ways, a coroutine that may park or a callback, and no options,
 * do not leave C. All else is left to otherwise(node, ...), which returns what the call returns, or parks, timeout,
 * lease: then the coroutine waits. A read then returns what lua_calls_look does. */
int lua_calls_method(lua_State *L);

/* Methods of the core's node. Those with a timeout (seconds) wait, in the running coroutine, if no waiter is given (a
 * function, or a box: then they return true at once): what they return is the answer, or nil, message, code. */
int lua_calls_propose(lua_State *L); /* (cmd, timeout, waiter) */
/* (session, number, cmd, timeout, waiter); session 0: opens one, whose id is the answer */
int lua_calls_client(lua_State *L);
/* (timeout, waiter): everything committed before the call is applied; the answer is an index. */
int lua_calls_read(lua_State *L);
int lua_calls_lease(lua_State *L);   /* the same; the leader's lease will do */
int lua_calls_barrier(lua_State *L); /* (timeout, waiter): the same, by an entry of the log; its index is the answer */
/* (fn): what fn(machine, index, time) returns; machine:query(fn, index, time) if it is no function */
int lua_calls_look(lua_State *L);
int lua_calls_expire(lua_State *L);  /* (): ends what is due; seconds until the next call may be, or nil */
int lua_calls_end(lua_State *L);     /* (message, code): ends all that still wait */

#pragma GCC visibility pop

#endif
