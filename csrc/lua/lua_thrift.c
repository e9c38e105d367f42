#include "lua/lua_thrift.h"

#define GROWN_MIN (INT64_C(64) << 20) /* collecting copies pages that are shared with the parent: not for less */

/* Lua tries again after a failure only where it creates an object, and then old_size says of which type (the reference
 * manual, lua_Alloc); libraries ask for buffers without that. */
static bool creates_object(const void *old, size_t old_size)
{
    return old == NULL && (old_size == LUA_TSTRING || old_size == LUA_TTABLE || old_size == LUA_TFUNCTION ||
                           old_size == LUA_TUSERDATA);
}

static void *allocate(void *ud, void *old, size_t old_size, size_t size)
{
    struct lua_thrift *t = ud;
    if (t->refused && size > 0) {
        t->refused = false;
        t->grown = 0;
    } else if (t->grown > t->most && size > 0 && creates_object(old, old_size)) {
        t->refused = true;
        return NULL;
    }
    void *block = t->allocate(t->ud, old, old_size, size);
    if (block != NULL || size == 0) t->grown += (int64_t)size - (int64_t)(old != NULL ? old_size : 0);
    return block;
}

void lua_thrift_begin(lua_State *L, struct lua_thrift *t)
{
    *t = (struct lua_thrift){.collects = lua_gc(L, LUA_GCISRUNNING)};
    lua_gc(L, LUA_GCSTOP);
    t->most = MAX(GROWN_MIN, (int64_t)lua_gc(L, LUA_GCCOUNT) << 10);
    t->allocate = lua_getallocf(L, &t->ud);
    lua_setallocf(L, allocate, t);
}

void lua_thrift_end(lua_State *L, struct lua_thrift *t)
{
    lua_setallocf(L, t->allocate, t->ud);
    if (t->collects) lua_gc(L, LUA_GCRESTART);
}
