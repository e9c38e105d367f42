/* Values as bytes: canonical MessagePack. The same value always gives the same bytes: integers and floats stay
 * apart and take one form each, keys of a map stand in the order of their packed bytes. Metatables are not looked
 * at, so no Lua code runs while packing. */
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/mem.h"
#include "lua/lua_room.h"

#define DEPTH_MAX 100u            /* tables in tables */
#define PACKED_MAX (1u << 30)     /* a table that holds others many times over can be exponentially large */
#define PACKER_KEEP (1u << 20)    /* bytes a packer keeps from one call to the next */
#define UNPACK_RESERVE 1024u      /* items a table is sized for before they have been seen */
#define PACKER_CLASS "raft.packer"

/* One pair of a map: in the buffer its key stands from at to value, its value from there to end. */
struct pair {
    uint32_t at, value, end;
};

struct lua_packer {
    struct buf bytes;
    struct pair *pairs; /* of the maps being packed, the innermost one's last */
    size_t n_pairs, pairs_capacity;
};

/* ---- the packer ---- */

static void packer_empty(struct lua_packer *p)
{
    buf_free(&p->bytes);
    mem_free(p->pairs);
    *p = (struct lua_packer){0};
}

static int packer_gc(lua_State *L)
{
    packer_empty(luaL_checkudata(L, 1, PACKER_CLASS));
    return 0;
}

struct lua_packer *lua_packer_new(lua_State *L)
{
    struct lua_packer *p = lua_newuserdatauv(L, sizeof *p, 0);
    *p = (struct lua_packer){0};
    if (luaL_newmetatable(L, PACKER_CLASS)) {
        lua_pushcfunction(L, packer_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return p;
}

/* ---- packing ---- */

/* Where in the value we are. */
struct level {
    const struct level *above; /* NULL: the value itself */
    const void *table;
    lua_Integer item;          /* of an array; for a map 0, and its key is on the Lua stack at key */
    int key;
};

struct packing {
    lua_State *L;
    struct lua_packer *p;
    const char *what;
    unsigned depth;
};

static bool is_name(const char *s, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        bool letter = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || s[i] == '_';
        if (!letter && (i == 0 || s[i] < '0' || s[i] > '9')) return false;
    }
    return size > 0 && size <= 40;
}

/* Adds one step of the path to the text on top of the Lua stack, written as Lua would: .name [3] ["a b"] */
static void push_step(lua_State *L, const struct level *at)
{
    size_t size;
    if (at->item > 0) {
        lua_pushfstring(L, "[%I]", (LUAI_UACINT)at->item);
    } else if (lua_type(L, at->key) != LUA_TSTRING) {
        luaL_tolstring(L, at->key, NULL);
        lua_pushfstring(L, "[%s]", lua_tostring(L, -1));
        lua_remove(L, -2);
    } else {
        const char *key = lua_tolstring(L, at->key, &size);
        char cut[41];
        snprintf(cut, sizeof cut, "%s", key);
        lua_pushfstring(L, is_name(key, size) ? ".%s" : "[\"%s\"]", cut);
    }
    lua_concat(L, 2);
}

static void push_path(const struct packing *k, const struct level *at)
{
    luaL_checkstack(k->L, 4, "path");
    if (at == NULL) {
        lua_pushstring(k->L, k->what);
        return;
    }
    push_path(k, at->above);
    push_step(k->L, at);
}

static void refuse(const struct packing *k, const struct level *at, const char *why)
{
    push_path(k, at);
    luaL_error(k->L, "%s: %s", lua_tostring(k->L, -1), why);
}

static uint8_t *extend(const struct packing *k, const struct level *at, size_t size)
{
    struct buf *b = &k->p->bytes;
    if (size > PACKED_MAX - b->size) refuse(k, at, "larger than 1 GiB when packed");
    bool has_room = size <= b->capacity - b->size;
    uint8_t *p = has_room ? b->data + b->size : buf_extend(b, size);
    if (has_room) b->size += size;
    if (p == NULL) luaL_error(k->L, "not enough memory");
    return p;
}

/* A code and a big-endian number of 1, 2, 4 or 8 bytes. */
static uint8_t *put_code(uint8_t *p, uint8_t code, uint64_t v, unsigned width)
{
    *p++ = code;
    for (unsigned i = 0; i < width; i++) p[i] = (uint8_t)(v >> (8 * (width - 1 - i)));
    return p + width;
}

static void pack_integer(const struct packing *k, const struct level *at, lua_Integer v)
{
    if (v >= -32 && v <= 127) {
        *extend(k, at, 1) = (uint8_t)v;
        return;
    }
    uint64_t u = (uint64_t)v, reach = v < 0 ? ~u << 1 : u; /* a negative number needs its sign bit too */
    unsigned power = (reach > UINT8_MAX) + (reach > UINT16_MAX) + (reach > UINT32_MAX), width = 1u << power;
    put_code(extend(k, at, 1 + width), (uint8_t)((v < 0 ? 0xd0 : 0xcc) + power), u, width);
}

static void pack_float(const struct packing *k, const struct level *at, lua_Number v)
{
    double d = (double)v;
    uint64_t bits = UINT64_C(0x7ff8000000000000); /* machines differ in the bits of a NaN they make */
    if (d == d) memcpy(&bits, &d, sizeof bits);
    put_code(extend(k, at, 9), 0xcb, bits, 8);
}

size_t lua_pack_string_head(uint8_t *head, size_t size)
{
    unsigned power = (size > UINT8_MAX) + (size > UINT16_MAX), width = size < 32 ? 0 : 1u << power;
    put_code(head, (uint8_t)(width == 0 ? 0xa0 + size : 0xd9 + power), size, width);
    return 1 + width;
}

static void pack_string(const struct packing *k, const struct level *at, int index)
{
    size_t size;
    uint8_t head[LUA_STRING_HEAD_MAX];
    const char *s = lua_tolstring(k->L, index, &size);
    if (size > PACKED_MAX) refuse(k, at, "larger than 1 GiB when packed");
    size_t width = lua_pack_string_head(head, size);
    uint8_t *p = extend(k, at, width + size);
    memcpy(p, head, width);
    memcpy(p + width, s, size);
}

/* fix: the code of a short one; the next ones, of 2 and 4 bytes, are at wide and wide + 1. */
static void pack_count(const struct packing *k, const struct level *at, size_t n, uint8_t fix, uint8_t wide)
{
    unsigned width = n < 16 ? 0 : n <= UINT16_MAX ? 2 : 4;
    uint8_t code = (uint8_t)(width == 0 ? fix + n : width == 2 ? wide : wide + 1u);
    put_code(extend(k, at, 1 + width), code, n, width);
}

static void pack_value(struct packing *k, const struct level *at, int index);

/* How many pairs; *array: the keys are 1 .. n (an empty table is an array). */
static size_t count_pairs(lua_State *L, int index, bool *array)
{
    size_t n = 0;
    lua_Integer highest = 0;
    *array = true;
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1), n++) {
        if (!*array) continue;
        lua_Integer i = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;
        if (i < 1) *array = false;
        highest = MAX(highest, i);
    }
    if ((lua_Unsigned)highest != n) *array = false;
    return n;
}

static void pack_key(struct packing *k, const struct level *at, int index)
{
    switch (lua_type(k->L, index)) {
    case LUA_TNUMBER:
    case LUA_TSTRING:
    case LUA_TBOOLEAN: pack_value(k, at, index); break;
    default:
        lua_pushfstring(k->L, "a %s cannot be a key", luaL_typename(k->L, index));
        refuse(k, at->above, lua_tostring(k->L, -1));
    }
}

static int pair_compare(const void *a, const void *b, void *bytes)
{
    const struct pair *l = a, *r = b;
    const uint8_t *data = bytes;
    uint32_t left = l->value - l->at, right = r->value - r->at;
    int order = memcmp(data + l->at, data + r->at, MIN(left, right));
    return order != 0 ? order : (left > right) - (left < right);
}

/* Puts the n pairs, which fill the buffer from start to its end, into the order of their keys' bytes. */
static void sort_pairs(const struct packing *k, const struct level *at, struct pair *pairs, size_t n, size_t start)
{
    struct buf *b = &k->p->bytes;
    size_t i = 1, size = b->size - start;
    while (i < n && pair_compare(&pairs[i - 1], &pairs[i], b->data) < 0) i++;
    if (i >= n) return;
    uint8_t *sorted = extend(k, at, size);
    qsort_r(pairs, n, sizeof *pairs, pair_compare, b->data);
    for (i = 0; i < n; i++) {
        memcpy(sorted, b->data + pairs[i].at, pairs[i].end - pairs[i].at);
        sorted += pairs[i].end - pairs[i].at;
    }
    memcpy(b->data + start, b->data + start + size, size);
    b->size -= size;
}

static void pack_map(struct packing *k, struct level *here, int index, size_t n)
{
    struct lua_packer *p = k->p;
    size_t first = p->n_pairs, start = p->bytes.size;
    if (!mem_grow((void **)&p->pairs, &p->pairs_capacity, first + n, sizeof *p->pairs))
        luaL_error(k->L, "not enough memory");
    p->n_pairs += n;
    size_t i = first;
    for (lua_pushnil(k->L); lua_next(k->L, index); lua_pop(k->L, 1), i++) {
        struct pair pair = {.at = (uint32_t)p->bytes.size};
        here->key = lua_gettop(k->L) - 1;
        pack_key(k, here, here->key);
        pair.value = (uint32_t)p->bytes.size;
        pack_value(k, here, here->key + 1);
        pair.end = (uint32_t)p->bytes.size;
        p->pairs[i] = pair;
    }
    ASSERT(i == first + n);
    sort_pairs(k, here->above, p->pairs + first, n, start);
    p->n_pairs = first;
}

static void pack_array(struct packing *k, struct level *here, int index, size_t n)
{
    for (size_t i = 1; i <= n; i++) {
        here->item = (lua_Integer)i;
        lua_rawgeti(k->L, index, here->item);
        pack_value(k, here, lua_gettop(k->L));
        lua_pop(k->L, 1);
    }
}

static void pack_pairs(struct packing *k, struct level *here, int index)
{
    bool array;
    size_t n = count_pairs(k->L, index, &array);
    pack_count(k, here->above, n, array ? 0x90 : 0x80, array ? 0xdc : 0xde);
    if (array) pack_array(k, here, index, n);
    else pack_map(k, here, index, n);
}

/* In one go what has the keys 1 .. n and no others, and no tables, if lua_next comes to them in that order. false: it
 * is not so, and nothing was packed. (With tables in it that would be twice the work at each level.) */
static bool pack_sequence(struct packing *k, struct level *here, int index, size_t n)
{
    lua_State *L = k->L;
    struct buf *b = &k->p->bytes;
    size_t start = b->size, i = 0;
    int key = lua_gettop(L) + 1, value = key + 1;
    pack_count(k, here->above, n, 0x90, 0xdc);
    lua_pushnil(L);
    while (lua_next(L, index)) {
        int type = lua_type(L, value);
        if (i == n || type == LUA_TTABLE) break;
        if (!lua_isinteger(L, key) || lua_tointeger(L, key) != (lua_Integer)i + 1) break;
        here->item = (lua_Integer)++i;
        if (type == LUA_TSTRING) pack_string(k, here, value);
        else pack_value(k, here, value);
        lua_settop(L, key);
    }
    bool fits = lua_gettop(L) < key && i == n; /* the last key is gone */
    lua_settop(L, key - 1);
    if (fits) return true;
    here->item = 0;
    b->size = start;
    return false;
}

static void pack_table(struct packing *k, const struct level *at, int index)
{
    struct level here = {.above = at, .table = lua_topointer(k->L, index)};
    for (const struct level *up = at; up != NULL; up = up->above) {
        if (up->table == here.table) refuse(k, at, "a table that holds itself cannot be packed");
    }
    if (k->depth == DEPTH_MAX) refuse(k, at, "nested more than 100 deep");
    luaL_checkstack(k->L, 4, "packing");
    k->depth++;
    size_t n = lua_rawlen(k->L, index);
    if (n == 0 || !pack_sequence(k, &here, index, n)) pack_pairs(k, &here, index);
    k->depth--;
}

static void pack_value(struct packing *k, const struct level *at, int index)
{
    lua_State *L = k->L;
    switch (lua_type(L, index)) {
    case LUA_TNIL: *extend(k, at, 1) = 0xc0; break;
    case LUA_TBOOLEAN: *extend(k, at, 1) = lua_toboolean(L, index) ? 0xc3 : 0xc2; break;
    case LUA_TNUMBER:
        if (lua_isinteger(L, index)) pack_integer(k, at, lua_tointeger(L, index));
        else pack_float(k, at, lua_tonumber(L, index));
        break;
    case LUA_TSTRING: pack_string(k, at, index); break;
    case LUA_TTABLE: pack_table(k, at, index); break;
    default:
        lua_pushfstring(L, "a %s cannot be packed", luaL_typename(L, index));
        refuse(k, at, lua_tostring(L, -1));
    }
}

const uint8_t *lua_packer_pack(lua_State *L, struct lua_packer *p, int index, const char *what, size_t *size)
{
    struct packing k = {.L = L, .p = p, .what = what};
    if (p->bytes.capacity > PACKER_KEEP) packer_empty(p);
    p->n_pairs = 0; /* a call before may have been left by an error */
    p->bytes.size = 0;
    pack_value(&k, NULL, lua_absindex(L, index));
    *size = p->bytes.size;
    return p->bytes.data;
}

/* ---- unpacking ---- */

struct unpacking {
    lua_State *L;
    struct reader in;
    unsigned depth;
    const char *fault; /* what is wrong, once something is */
};

static bool unpack_value(struct unpacking *u);

static bool fail(struct unpacking *u, const char *fault)
{
    u->fault = fault;
    return false;
}

static size_t left(const struct unpacking *u)
{
    return u->in.size - u->in.at;
}

static bool take_number(struct unpacking *u, unsigned width, uint64_t *v)
{
    const uint8_t *p = reader_take(&u->in, width);
    if (p == NULL) return fail(u, "cut off");
    *v = 0;
    for (unsigned i = 0; i < width; i++) *v = *v << 8 | p[i];
    return true;
}

static bool unpack_integer(struct unpacking *u, uint8_t code)
{
    uint64_t v;
    unsigned power = code & 3, spare = 64 - (8u << power);
    if (!take_number(u, 1u << power, &v)) return false;
    if (code == 0xcf && v > INT64_MAX) return fail(u, "an integer is too large");
    if (code >= 0xd0 && (v << spare) >> 63) v |= ~(UINT64_MAX >> spare); /* the sign goes all the way up */
    lua_pushinteger(u->L, (lua_Integer)v);
    return true;
}

static bool unpack_float(struct unpacking *u, uint8_t code)
{
    uint64_t v;
    if (!take_number(u, code == 0xca ? 4 : 8, &v)) return false;
    if (code == 0xca) {
        uint32_t bits = (uint32_t)v;
        float f;
        memcpy(&f, &bits, sizeof f);
        lua_pushnumber(u->L, (lua_Number)f);
    } else {
        double d;
        memcpy(&d, &v, sizeof d);
        lua_pushnumber(u->L, (lua_Number)d);
    }
    return true;
}

static bool unpack_string(struct unpacking *u, uint64_t size)
{
    const uint8_t *p = size > left(u) ? NULL : reader_take(&u->in, (size_t)size);
    if (p == NULL) return fail(u, "cut off");
    lua_pushlstring(u->L, (const char *)p, (size_t)size);
    return true;
}

static bool enter_table(struct unpacking *u, uint64_t items)
{
    if (items > left(u)) return fail(u, "cut off"); /* each takes a byte at least */
    if (u->depth++ == DEPTH_MAX) return fail(u, "nested more than 100 deep");
    luaL_checkstack(u->L, 6, "unpacking");
    return true;
}

static bool unpack_array(struct unpacking *u, uint64_t n)
{
    if (!enter_table(u, n)) return false;
    lua_createtable(u->L, (int)MIN(n, UNPACK_RESERVE), 0);
    for (uint64_t i = 1; i <= n; i++) {
        if (!unpack_value(u)) return false;
        lua_rawseti(u->L, -2, (lua_Integer)i);
    }
    u->depth--;
    return true;
}

/* Is the value on top of the Lua stack a key that the table below it does not hold yet? */
static bool check_key(struct unpacking *u)
{
    int type = lua_type(u->L, -1);
    if (type == LUA_TNIL || type == LUA_TTABLE) return fail(u, "a key is nil or a table");
    if (type == LUA_TNUMBER && lua_tonumber(u->L, -1) != lua_tonumber(u->L, -1)) return fail(u, "a key is NaN");
    lua_pushvalue(u->L, -1);
    type = lua_rawget(u->L, -3);
    lua_pop(u->L, 1);
    return type == LUA_TNIL ? true : fail(u, "a key stands twice");
}

static bool unpack_map(struct unpacking *u, uint64_t n)
{
    if (!enter_table(u, 2 * n)) return false;
    lua_createtable(u->L, 0, (int)MIN(n, UNPACK_RESERVE));
    for (uint64_t i = 0; i < n; i++) {
        if (!unpack_value(u) || !check_key(u) || !unpack_value(u)) return false;
        lua_rawset(u->L, -3);
    }
    u->depth--;
    return true;
}

/* Codes from 0xc0 to 0xdf that announce a length, and of how many bytes it is. */
static bool unpack_sized(struct unpacking *u, uint8_t code)
{
    uint64_t n;
    unsigned power = code >= 0xdc ? 1u + (code & 1u) : code >= 0xd9 ? code - 0xd9u : code - 0xc4u;
    if (!take_number(u, 1u << power, &n)) return false;
    if (code >= 0xde) return unpack_map(u, n);
    if (code >= 0xdc) return unpack_array(u, n);
    return unpack_string(u, n);
}

static bool unpack_value(struct unpacking *u)
{
    uint8_t code = reader_u8(&u->in);
    if (u->in.bad) return fail(u, "cut off");
    if (code <= 0x7f || code >= 0xe0) {
        lua_pushinteger(u->L, (int8_t)code);
        return true;
    }
    if (code <= 0x8f) return unpack_map(u, code & 15);
    if (code <= 0x9f) return unpack_array(u, code & 15);
    if (code <= 0xbf) return unpack_string(u, code & 31);
    switch (code) {
    case 0xc0: lua_pushnil(u->L); return true;
    case 0xc2:
    case 0xc3: lua_pushboolean(u->L, code == 0xc3); return true;
    case 0xca:
    case 0xcb: return unpack_float(u, code);
    case 0xc4: case 0xc5: case 0xc6: /* binary: a string too */
    case 0xd9: case 0xda: case 0xdb: case 0xdc: case 0xdd: case 0xde: case 0xdf: return unpack_sized(u, code);
    case 0xcc: case 0xcd: case 0xce: case 0xcf:
    case 0xd0: case 0xd1: case 0xd2: case 0xd3: return unpack_integer(u, code);
    default: return fail(u, "a type that Lua has no value for");
    }
}

bool lua_unpack_value(lua_State *L, const uint8_t *data, size_t size)
{
    struct unpacking u = {.L = L, .in = {.data = data, .size = size}};
    int top = lua_gettop(L);
    bool good = unpack_value(&u);
    if (good && left(&u) > 0) good = fail(&u, "bytes are left over");
    if (good) return true;
    lua_settop(L, top);
    lua_pushfstring(L, "not a packed value: %s at byte %I", u.fault, (LUAI_UACINT)u.in.at);
    return false;
}

/* ---- the module's functions ---- */

static int pack(lua_State *L)
{
    struct lua_packer *p = lua_touserdata(L, lua_upvalueindex(1));
    size_t size;
    luaL_checkany(L, 1);
    const char *what = luaL_optstring(L, 2, "value");
    const uint8_t *data = lua_packer_pack(L, p, 1, what, &size);
    lua_pushlstring(L, (const char *)data, size);
    return 1;
}

static int unpack(lua_State *L)
{
    size_t size;
    const char *data = luaL_checklstring(L, 1, &size);
    if (lua_unpack_value(L, (const uint8_t *)data, size)) return 1;
    lua_pushnil(L);
    lua_insert(L, -2);
    lua_pushstring(L, err_name(ERR_CORRUPT));
    return 3;
}

/* table(n): empty, with room for n keys; raft.table has looked at n */
static int l_table(lua_State *L)
{
    lua_createtable(L, 0, (int)luaL_checkinteger(L, 1));
    return 1;
}

void lua_pack_open(lua_State *L)
{
    lua_packer_new(L);
    lua_pushcclosure(L, pack, 1);
    lua_setfield(L, -2, "pack");
    lua_pushcfunction(L, unpack);
    lua_setfield(L, -2, "unpack");
    lua_pushcfunction(L, l_table);
    lua_setfield(L, -2, "table");
}
