#include "lua/lua_asks.h"

#include <string.h>

static void read_change(lua_State *L, int at, struct ask_change *change)
{
    static const char *const ops[] = {"add", "promote", "demote", "move", "remove", NULL};
    size_t size;
    for (int i = 1; i <= 3; i++) lua_rawgeti(L, at, i);
    change->op = (uint8_t)(RAFT_ADD + luaL_checkoption(L, -3, NULL, ops));
    change->id = (raft_id)luaL_checkinteger(L, -2);
    const char *address = luaL_optlstring(L, -1, "", &size);
    if (size > ADDRESS_MAX) luaL_error(L, "an address is longer than %d bytes", ADDRESS_MAX);
    memcpy(change->address, address, size + 1);
    lua_pop(L, 3);
}

void lua_asks_change(lua_State *L, int index, struct ask_what *what)
{
    index = lua_absindex(L, index);
    luaL_checktype(L, index, LUA_TTABLE);
    lua_Integer n = luaL_len(L, index);
    if (n < 1 || n > RAFT_MEMBERS_MAX) luaL_error(L, "1 to %d changes expected", RAFT_MEMBERS_MAX);
    memset(what, 0, sizeof *what);
    what->kind = ASK_CHANGE;
    what->n = (uint8_t)n;
    for (uint8_t i = 0; i < what->n; i++) {
        lua_rawgeti(L, index, i + 1);
        luaL_checktype(L, -1, LUA_TTABLE);
        read_change(L, lua_gettop(L), &what->changes[i]);
        lua_pop(L, 1);
    }
}

const char *lua_asks_text(int code)
{
    switch (code) {
    case ERR_NOT_LEADER: return "no leader was asked in time; nothing was changed";
    case ERR_TIMEOUT: return "no answer in time; it may still be done";
    case ERR_UNKNOWN: return "the leader that was asked leads no more, or cannot be reached; it may have been done";
    case ERR_CLOSED: return "the node is closed";
    case ERR_FAULT: return "the node has stopped after a fault";
    case ERR_BUSY: return "too much is asked of the leader at once";
    case ERR_CHANGING: return "another change of the members is not finished yet";
    case ERR_NOT_READY: return "the leader has just been elected and is not ready yet";
    case ERR_TRANSFERRING: return "the leader is handing over";
    case ERR_LAGGING: return "the member has not caught up yet, or cannot be reached";
    case ERR_NO_MEMBER: return "there is no such member, or it is none of that kind, or it cannot be reached";
    case ERR_ALREADY: return "it is so already: the member is one, or another one has this address";
    case ERR_NO_VOTERS: return "nobody would be left to vote";
    case ERR_TOO_MANY: return "the cluster would have more than 15 members";
    case ERR_REMOVED: return "this node is no member of the cluster";
    case ERR_INVALID: return "the change makes no sense: a member is named twice, or an address is none";
    default: return "the leader has refused it";
    }
}
