/* Lua's memory while a snapshot is loaded. All of a state comes at once, and nearly all of it stays: a collection
 * meanwhile finds nothing, and goes through tables that are being filled in one piece each, however large. So what is
 * loaded does not count as allocated, and the collector goes on at the pace of all else; up to as much as was in use
 * before, which is what it lets Lua's memory grow by anyway. What a load throws away beyond that is collected. */
#ifndef RAFT_LUA_LUA_GRANT_H
#define RAFT_LUA_LUA_GRANT_H

#include "lua/lua_room.h"

#pragma GCC visibility push(hidden)

struct lua_grant {
    int64_t left;       /* KiB that need not be counted any more */
    int64_t open, used; /* between open and close: left then; KiB in use before */
};

/* Another snapshot is loaded. None of the three raises. */
void lua_grant_begin(lua_State *L, struct lua_grant *g);
/* Around each step of that. */
void lua_grant_open(lua_State *L, struct lua_grant *g);
void lua_grant_close(lua_State *L, struct lua_grant *g);

#pragma GCC visibility pop

#endif
