/* Lua's memory while a child process saves a machine. No finaliser may run there, since it would run in two processes,
 * and so the collector stands still; but what a save leaves behind, record by record, may be more than fits into
 * memory. A collection that Lua is forced to because an allocation has failed calls no finaliser: so when enough has
 * been allocated, the creation of an object fails once. */
#ifndef RAFT_LUA_LUA_THRIFT_H
#define RAFT_LUA_LUA_THRIFT_H

#include "lua/lua_room.h"

#pragma GCC visibility push(hidden)

struct lua_thrift {
    lua_Alloc allocate; /* as it was */
    void *ud;
    bool collects;      /* the collector was running */
    bool refused;       /* the last creation was: Lua has collected, and asks again */
    int64_t grown, most; /* bytes since the last collection, at most */
};

/* From here to the end garbage of L's state is collected now and then, without finalisers. t stays where it is. */
void lua_thrift_begin(lua_State *L, struct lua_thrift *t);
void lua_thrift_end(lua_State *L, struct lua_thrift *t);

#pragma GCC visibility pop

#endif
