/* Who waits in this Lua state, and who is ready: the half of lua/raft/loop.lua that every call goes through.
 *
 * A call is somebody who waits for an answer: a coroutine of raft.go, a function (called with the answer), or a box
 * (told it). Once answered it stands in line, and is resumed when the loop comes to that, never from inside a machine.
 * The answer of a coroutine waits on its own stack, that of another waiter in a table that is used again: nothing is
 * allocated, once the most that ever waited have waited. */
#ifndef RAFT_LUA_LUA_LINE_H
#define RAFT_LUA_LUA_LINE_H

#include "lua/lua_room.h"

#pragma GCC visibility push(hidden)

#define LUA_CALL_NONE UINT32_MAX
#define LUA_ANSWER_MAX 3 /* values */

struct lua_call {
    lua_State *co;      /* the coroutine that waits, on whose stack its answer comes; NULL: another waiter. Of one that
                           is not used: which coroutine its place in the table of waiters still holds; NULL: none */
    uint64_t due_us;    /* this and the last three: for who opened it */
    uint32_t next;      /* in a list; of whoever opened it, until it is answered */
    uint8_t n_values;   /* of the answer */
    bool kept;          /* its place in the table of waiters holds a table, for such a waiter and its answer */
    bool cancelled, wants_index, looks;
};

struct lua_list {
    uint32_t head, tail; /* LUA_CALL_NONE: empty */
};
#define LUA_LIST_EMPTY ((struct lua_list){LUA_CALL_NONE, LUA_CALL_NONE})

struct lua_node;

struct lua_line {
    struct lua_node *nodes; /* of this state (lua_node.c), the youngest first */
    int waiters;        /* their table, in the registry: call + 1 -> the coroutine, or { waiter, answer ... } */
    struct lua_call *calls;
    size_t capacity;
    uint32_t free;      /* the first of those that are not used */
    struct lua_list ready;
    uint32_t n_ready;
    uint32_t inside;    /* frames of machines and readers below: nobody can wait there */
    bool held;          /* what is proposed waits for the end of this turn: the loop flushes then */
    bool simulated;     /* the body of raft.sim is running: nobody can wait for anything real */
    lua_State *parked;  /* who has just yielded to wait, and not by a coroutine.yield of its own */
};

/* The line of this state; made on first use. Raises for lack of memory. */
struct lua_line *lua_line_of(lua_State *L);

/* Can the coroutine L wait for us, here? It is one of raft.go's, and no machine's function is below it. */
bool lua_may_park(lua_State *L, const struct lua_line *line);
/* A call for the waiter at this index, no coroutine that waits already; 0: for the coroutine L itself. Raises for lack
 * of memory. */
uint32_t lua_call_open(lua_State *L, struct lua_line *line, int waiter);
/* Ends a call that nobody will answer. */
void lua_call_close(struct lua_line *line, uint32_t call);
/* Answers a call with the n values on top of the stack, which are taken off, and puts it in line. Raises nothing.
 * Precondition: its coroutine, if it waits for that, has yielded by lua_call_park. */
void lua_call_answer(lua_State *L, struct lua_line *line, uint32_t call, int n);
/* return lua_call_park(L, line): the coroutine waits for the call that it has opened; what it is answered is what the C
 * function returns. Precondition: lua_isyieldable. */
int lua_call_park(lua_State *L, struct lua_line *line);

void lua_list_append(struct lua_line *line, struct lua_list *list, uint32_t call);

#pragma GCC visibility pop

#endif
