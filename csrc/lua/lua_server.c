/* core.sessions: the session table alone, for specs. */
#include "lua/lua_room.h"

#include "server/sessions.h"

#define SESSIONS_CLASS "raft.sessions"

static int sessions_gc(lua_State *L)
{
    sessions_free(luaL_checkudata(L, 1, SESSIONS_CLASS));
    return 0;
}

/* sessions:admit(session, epoch, sequence, lowest) -> "new" | "duplicate" | "fenced" */
static int sessions_judge(lua_State *L)
{
    static const char *const verdicts[] = {"new", "duplicate", "fenced"};
    struct sessions *s = luaL_checkudata(L, 1, SESSIONS_CLASS);
    struct entry e = {.session = (uint64_t)luaL_checkinteger(L, 2),
                      .epoch = (uint64_t)luaL_checkinteger(L, 3),
                      .sequence = (uint64_t)luaL_checkinteger(L, 4)};
    e.behind = (uint32_t)(e.sequence - (uint64_t)luaL_checkinteger(L, 5));
    enum session_verdict verdict;
    if (sessions_admit(s, &e, &verdict) != OK) return luaL_error(L, "out of memory");
    lua_pushstring(L, verdicts[verdict]);
    return 1;
}

static int sessions_new(lua_State *L)
{
    struct sessions *s = lua_newuserdatauv(L, sizeof *s, 0);
    *s = (struct sessions){0};
    luaL_setmetatable(L, SESSIONS_CLASS);
    return 1;
}

void lua_server_open(lua_State *L)
{
    luaL_newmetatable(L, SESSIONS_CLASS);
    lua_pushcfunction(L, sessions_gc);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    lua_pushcfunction(L, sessions_judge);
    lua_setfield(L, -2, "admit");
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushcfunction(L, sessions_new);
    lua_setfield(L, -2, "sessions");
}
