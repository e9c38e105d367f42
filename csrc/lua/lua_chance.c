/* Chance, seeded: what differs between two runs of a Lua program - the order of pairs, clocks, random numbers, the
 * addresses that tostring shows - is drawn from the seed of a simulated process instead. Two processes differ, as real
 * ones do; the same process of the same simulation does not.
 *
 * Order. Keys are visited by a hash of their value and the seed. A key that is a table, a function or the like has no
 * value to hash: it gets a number when it is first seen here. (Several that are first seen together, as keys of one
 * table, get theirs in the order of their real addresses: no run repeats that. Nor does it repeat what libraries in C
 * do on their own.) */
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "lua/lua_process.h"

#define OBJECTS "raft.core.chance.objects"     /* registry: numbers of objects, by weak keys */
#define KEYS "raft.core.chance.keys"           /* registry: of a table that next goes through, its keys in order */
#define PLACES "raft.core.chance.places"       /* registry: and where each of them stands there */

static struct lua_chance *chance_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* ---- an order of keys ---- */

/* The number of the object at index (absolute). The next free one is kept under 0, which is no object. */
static lua_Integer object_number(lua_State *L, int index)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, OBJECTS);
    lua_pushvalue(L, index);
    bool known = lua_rawget(L, -2) != LUA_TNIL;
    lua_Integer number = lua_tointeger(L, -1);
    lua_pop(L, 1);
    if (!known) {
        lua_rawgeti(L, -1, 0);
        number = lua_tointeger(L, -1) + 1;
        lua_pop(L, 1);
        lua_pushinteger(L, number);
        lua_rawseti(L, -2, 0);
        lua_pushvalue(L, index);
        lua_pushinteger(L, number);
        lua_rawset(L, -3);
    }
    lua_pop(L, 1);
    return number;
}

static uint64_t key_rank(lua_State *L, const struct lua_chance *chance, int index)
{
    int type = lua_type(L, index);
    uint64_t seed = chance->seed + (uint64_t)type;
    if (type == LUA_TSTRING) {
        size_t size;
        const char *text = lua_tolstring(L, index, &size);
        return hash64(text, size, seed);
    }
    lua_Integer integer = 0;
    if (lua_isinteger(L, index)) {
        integer = lua_tointeger(L, index);
    } else if (type == LUA_TNUMBER) {
        lua_Number number = lua_tonumber(L, index);
        memcpy(&integer, &number, sizeof integer);
        seed += 16;
    } else if (type == LUA_TBOOLEAN) {
        integer = lua_toboolean(L, index);
    } else {
        integer = object_number(L, index);
    }
    return hash64(&integer, sizeof integer, seed);
}

struct ranked {
    uint64_t rank;
    lua_Integer at; /* in the order of lua_next: a tie is next to impossible */
};

static int ranked_compare(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* Pushes a sequence of the keys of the table at index (absolute), in order. */
static void push_keys(lua_State *L, const struct lua_chance *chance, int index)
{
    size_t n = 0, i = 0;
    int top = lua_gettop(L);
    luaL_checkstack(L, 6, "pairs");
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) n++;
    struct ranked *ranks = lua_newuserdatauv(L, MAX(n, 1) * sizeof *ranks, 0);
    lua_createtable(L, (int)n, 0);
    for (lua_pushnil(L); i < n && lua_next(L, index); i++) {
        lua_pop(L, 1);
        ranks[i] = (struct ranked){key_rank(L, chance, lua_gettop(L)), (lua_Integer)i + 1};
        lua_pushvalue(L, -1);
        lua_rawseti(L, -3, (lua_Integer)i + 1);
    }
    lua_settop(L, top + 2);
    n = i; /* a weak table may have lost some meanwhile */
    qsort(ranks, n, sizeof *ranks, ranked_compare);
    lua_createtable(L, (int)n, 0);
    for (i = 0; i < n; i++) {
        lua_rawgeti(L, -2, ranks[i].at);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_replace(L, -3);
    lua_pop(L, 1);
}

/* From `at` in the keys at index on: pushes the first key that still has a value in the table at index 1, and that
 * value, or nil. Returns how many were pushed, and moves *at behind it. */
static int push_pair(lua_State *L, int keys, lua_Integer *at)
{
    while (lua_rawgeti(L, keys, (*at)++) != LUA_TNIL) {
        lua_pushvalue(L, -1);
        if (lua_rawget(L, 1) != LUA_TNIL) return 2;
        lua_pop(L, 2);
    }
    return 1;
}

/* ---- pairs, next ---- */

/* The iterator of pairs. Upvalues: keys, position. */
static int pairs_next(lua_State *L)
{
    lua_Integer at = lua_tointeger(L, lua_upvalueindex(2));
    lua_settop(L, 1);
    luaL_checktype(L, 1, LUA_TTABLE);
    int pushed = push_pair(L, lua_upvalueindex(1), &at);
    lua_pushinteger(L, at);
    lua_replace(L, lua_upvalueindex(2));
    return pushed;
}

static int chance_pairs(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_settop(L, 1);
    if (luaL_getmetafield(L, 1, "__pairs") != LUA_TNIL) {
        lua_pushvalue(L, 1);
        lua_call(L, 1, 3);
        return 3;
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    push_keys(L, chance_of(L), 1);
    lua_pushinteger(L, 1);
    lua_pushcclosure(L, pairs_next, 2);
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

/* Pushes the key of the table at index 1 with the least rank from `least` on, and its value; or nil. */
static int push_least(lua_State *L, const struct lua_chance *chance, uint64_t least)
{
    uint64_t found = 0;
    lua_settop(L, 1);
    lua_pushnil(L); /* 2: the key found so far */
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
        uint64_t rank = key_rank(L, chance, 3);
        if (rank < least || (!lua_isnil(L, 2) && rank >= found)) continue;
        found = rank;
        lua_copy(L, 3, 2);
    }
    if (lua_isnil(L, 2)) return 1;
    lua_pushvalue(L, 2);
    lua_rawget(L, 1);
    return 2;
}

/* Remembers for the table at index 1 its keys, in order, and where each of them stands. */
static void traversal_begin(lua_State *L, const struct lua_chance *chance)
{
    lua_settop(L, 2);
    push_keys(L, chance, 1); /* 3 */
    lua_newtable(L);         /* 4 */
    for (lua_Integer i = 1; lua_rawgeti(L, 3, i) != LUA_TNIL; i++) {
        lua_pushinteger(L, i);
        lua_rawset(L, 4);
    }
    lua_settop(L, 4);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, PLACES);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 4);
    lua_rawset(L, 5);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, KEYS);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 3);
    lua_rawset(L, 6);
    lua_settop(L, 2);
}

/* Keys may have come since: whoever begins again begins a new one. */
static void traversal_end(lua_State *L)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, PLACES);
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

/* Where the key at index 2 stands in the traversal of the table at index 1; 0: there is none that knows it. */
static lua_Integer traversal_place(lua_State *L)
{
    lua_Integer place = 0;
    luaL_getsubtable(L, LUA_REGISTRYINDEX, PLACES);
    lua_pushvalue(L, 1);
    if (lua_rawget(L, 3) == LUA_TTABLE) {
        lua_pushvalue(L, 2);
        lua_rawget(L, 4);
        place = lua_tointeger(L, -1);
    }
    lua_settop(L, 2);
    return place;
}

/* A key that is gone, and that no traversal knows any more, still has its rank. */
static int chance_next(lua_State *L)
{
    const struct lua_chance *chance = chance_of(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    if (lua_isnil(L, 2)) {
        traversal_end(L);
        return push_least(L, chance, 0);
    }
    lua_Integer place = traversal_place(L);
    if (place == 0) {
        traversal_begin(L, chance);
        place = traversal_place(L);
    }
    if (place == 0) return push_least(L, chance, key_rank(L, chance, 2) + 1);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, KEYS);
    lua_pushvalue(L, 1);
    lua_rawget(L, 3);
    place++;
    return push_pair(L, 4, &place);
}

/* ---- addresses ---- */

/* Would tostring show an address of what is at index? */
static bool shows_address(lua_State *L, int index)
{
    int type = lua_type(L, index);
    if (type != LUA_TTABLE && type != LUA_TFUNCTION && type != LUA_TTHREAD && type != LUA_TUSERDATA) return false;
    if (luaL_getmetafield(L, index, "__tostring") == LUA_TNIL) return true;
    lua_pop(L, 1);
    return false;
}

/* Pushes what tostring would show of the object at index, with an address by seed. */
static void push_address(lua_State *L, const struct lua_chance *chance, int index)
{
    lua_Integer number = object_number(L, index);
    char text[24];
    snprintf(text, sizeof text, "0x%012" PRIx64,
             hash64(&number, sizeof number, chance->seed) >> 20 & ~UINT64_C(15));
    bool named = luaL_getmetafield(L, index, "__name") == LUA_TSTRING;
    lua_pushfstring(L, "%s: %s", named ? lua_tostring(L, -1) : luaL_typename(L, index), text);
}

static int chance_tostring(lua_State *L)
{
    luaL_checkany(L, 1);
    if (shows_address(L, 1)) push_address(L, chance_of(L), 1);
    else luaL_tolstring(L, 1, NULL);
    return 1;
}

/* ---- clocks ---- */

static int chance_clock(lua_State *L)
{
    const struct lua_chance *chance = chance_of(L);
    lua_pushnumber(L, (lua_Number)chance->now_us(chance->ctx) / (lua_Number)US_PER_S);
    return 1;
}

static void push_time(lua_State *L)
{
    const struct lua_chance *chance = chance_of(L);
    lua_pushinteger(L, (lua_Integer)(chance->wall_us(chance->ctx) / US_PER_S));
}

/* Calls the real one (the second upvalue) with all arguments. */
static int call_real(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

static int chance_time(lua_State *L)
{
    if (!lua_isnoneornil(L, 1)) return call_real(L);
    push_time(L);
    return 1;
}

static int chance_date(lua_State *L)
{
    lua_settop(L, 2);
    if (lua_isnil(L, 1)) {
        lua_pushliteral(L, "%c");
        lua_replace(L, 1);
    }
    if (lua_isnil(L, 2)) {
        push_time(L);
        lua_replace(L, 2);
    }
    return call_real(L);
}

/* ---- the rest ---- */

static int chance_format(lua_State *L)
{
    int n = lua_gettop(L);
    for (int i = 2; i <= n; i++) {
        if (!shows_address(L, i)) continue;
        push_address(L, chance_of(L), i);
        lua_replace(L, i);
        lua_settop(L, n);
    }
    return call_real(L);
}

static int chance_randomseed(lua_State *L)
{
    if (lua_gettop(L) > 0) return call_real(L);
    struct lua_chance *chance = chance_of(L);
    lua_pushinteger(L, (lua_Integer)prng_next(&chance->prng));
    lua_pushinteger(L, (lua_Integer)prng_next(&chance->prng));
    return call_real(L);
}

static int chance_exit(lua_State *L)
{
    return luaL_error(L, "os.exit was called in a simulated node");
}

static void make_weak(lua_State *L, const char *name)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, name);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
}

/* Replaces library.name by fn, whose upvalues are the chance and what was there. */
static void replace(lua_State *L, struct lua_chance *chance, const char *library, const char *name, lua_CFunction fn)
{
    lua_getglobal(L, library);
    lua_pushlightuserdata(L, chance);
    lua_getfield(L, -2, name);
    lua_pushcclosure(L, fn, 2);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

void lua_chance_open(lua_State *L, struct lua_chance *chance)
{
    static const struct {
        const char *library, *name;
        lua_CFunction fn;
    } replaced[] = {
        {LUA_GNAME, "pairs", chance_pairs},   {LUA_GNAME, "next", chance_next},
        {LUA_GNAME, "tostring", chance_tostring}, {LUA_OSLIBNAME, "clock", chance_clock},
        {LUA_OSLIBNAME, "date", chance_date}, {LUA_OSLIBNAME, "exit", chance_exit},
        {LUA_OSLIBNAME, "time", chance_time}, {LUA_MATHLIBNAME, "randomseed", chance_randomseed},
        {LUA_STRLIBNAME, "format", chance_format},
    };
    make_weak(L, OBJECTS);
    make_weak(L, KEYS);
    make_weak(L, PLACES);
    for (size_t i = 0; i < COUNT_OF(replaced); i++)
        replace(L, chance, replaced[i].library, replaced[i].name, replaced[i].fn);
    lua_getglobal(L, LUA_MATHLIBNAME);
    lua_getfield(L, -1, "randomseed");
    lua_call(L, 0, 0);
    lua_pop(L, 1);
}
