/* What is asked of the leader, in Lua's words: for nodes, and for specs of the server. */
#ifndef RAFT_LUA_LUA_ASKS_H
#define RAFT_LUA_LUA_ASKS_H

#include "lua/lua_room.h"
#include "wire/ask.h"

#pragma GCC visibility push(hidden)

/* The list at index: { { "add" | "promote" | "demote" | "move" | "remove", id [, address] }, ... }, of which id is 0
 * with an "add" that shall get one that was never used. Raises for anything else. */
void lua_asks_change(lua_State *L, int index, struct ask_what *what);

/* How an ask has ended, for people; code is not OK. */
const char *lua_asks_text(int code);

#pragma GCC visibility pop

#endif
