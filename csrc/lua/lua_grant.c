#include "lua/lua_grant.h"

#define LEAST_KIB (INT64_C(32) << 10)

/* The collector owes so many KiB less, or (below 0) more: LUA_GCSTEP pretends that some were allocated, and takes any
 * number of them; but 0 is a step. */
static void forgive(lua_State *L, int64_t kib)
{
    if (kib != 0) lua_gc(L, LUA_GCSTEP, (int)-kib);
}

void lua_grant_begin(lua_State *L, struct lua_grant *g)
{
    g->left = MIN(MAX(lua_gc(L, LUA_GCCOUNT), LEAST_KIB), INT32_MAX);
}

void lua_grant_open(lua_State *L, struct lua_grant *g)
{
    g->open = lua_gc(L, LUA_GCISRUNNING) ? g->left : 0;
    g->used = lua_gc(L, LUA_GCCOUNT);
    forgive(L, g->open);
}

void lua_grant_close(lua_State *L, struct lua_grant *g)
{
    int64_t grown = lua_gc(L, LUA_GCCOUNT) - g->used;
    if (grown < 0) return; /* the machine has collected: what the collector owes begins anew */
    int64_t used = MIN(grown, g->open);
    g->left -= used;
    forgive(L, used - g->open);
}
