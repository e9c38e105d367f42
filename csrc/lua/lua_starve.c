/* core.starve: runs a chunk in a Lua state of its own, one of whose allocations fails, for specs. What is in C has
 * core.mem_fail_at for that; this is for the half that lives in Lua's memory. */
#include <lualib.h>
#include <stdlib.h>

#include "lua/lua_room.h"

int luaopen_raft_core(lua_State *L);

struct diet {
    bool on;
    uint64_t asked, fail_at; /* allocations since it is on; which one fails */
    uint64_t noted;          /* bits that the chunk has set */
};

/* The allocation and the one after it: when the first fails, Lua collects its garbage and asks once more. */
static void *allocate(void *ud, void *old, size_t old_size, size_t size)
{
    struct diet *d = ud;
    if (size == 0) {
        free(old);
        return NULL;
    }
    bool more = old == NULL || size > old_size;
    if (d->on && more && ++d->asked >= d->fail_at && d->asked <= d->fail_at + 1) return NULL;
    return realloc(old, size);
}

/* note(i): the caller learns that the chunk came here. Allocates nothing. */
static int note(lua_State *L)
{
    struct diet *d = lua_touserdata(L, lua_upvalueindex(1));
    d->noted |= UINT64_C(1) << (luaL_checkinteger(L, 1) & 63);
    return 0;
}

static void copy_path(lua_State *from, lua_State *to, const char *name)
{
    lua_getglobal(from, "package");
    lua_getfield(from, -1, name);
    lua_getglobal(to, "package");
    lua_pushstring(to, lua_tostring(from, -1));
    lua_setfield(to, -2, name);
    lua_pop(from, 2);
    lua_pop(to, 1);
}

static int run(lua_State *L, lua_State *fresh, struct diet *d)
{
    luaL_openlibs(fresh);
    copy_path(L, fresh, "path");
    copy_path(L, fresh, "cpath");
    luaL_requiref(fresh, "raft.core", luaopen_raft_core, 0);
    lua_pushlightuserdata(fresh, d);
    lua_pushcclosure(fresh, note, 1);
    lua_setglobal(fresh, "note");
    lua_settop(fresh, 0);
    int status = luaL_loadstring(fresh, lua_tostring(L, 2));
    lua_pushstring(fresh, luaL_optstring(L, 3, ""));
    if (status == LUA_OK) status = lua_pcall(fresh, 1, 1, 0);
    d->on = true;
    if (status == LUA_OK) status = lua_pcall(fresh, 0, 1, 0);
    d->on = false;
    return status;
}

/* core.starve(n, source, argument): the chunk, called with the argument, returns a function; the n-th allocation while
 * that runs fails (0: none). Returns whether it ended without an error, its result or the error as a string, how many
 * allocations there were, the bits that it noted. */
static int starve(lua_State *L)
{
    struct diet d = {.fail_at = (uint64_t)luaL_checkinteger(L, 1)};
    luaL_checkstring(L, 2);
    if (d.fail_at == 0) d.fail_at = UINT64_MAX - 1;
    lua_State *fresh = lua_newstate(allocate, &d);
    if (fresh == NULL) return luaL_error(L, "not enough memory");
    int status = run(L, fresh, &d);
    lua_pushboolean(L, status == LUA_OK);
    lua_pushstring(L, lua_tostring(fresh, -1));
    lua_pushinteger(L, (lua_Integer)d.asked);
    lua_pushinteger(L, (lua_Integer)d.noted);
    lua_close(fresh);
    return 4;
}

void lua_starve_open(lua_State *L)
{
    lua_pushcfunction(L, starve);
    lua_setfield(L, -2, "starve");
}
