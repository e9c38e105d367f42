/* core.wire: the encodings of entries, frames, configurations and lists of members, for specs. Entries and frames
 * are strings; a frame that was read is a table { type, group, meta, entries }. core.mem_fail_at lets an
 * allocation fail. */
#include "base/hash.h"
#include "base/mem.h"
#include "core/quorum.h"
#include "lua/lua_room.h"
#include "wire/ask.h"
#include "wire/conf.h"
#include "wire/hello.h"
#include "wire/members.h"
#include "wire/message.h"
#include "wire/transfer.h"

#define SCRATCH_CLASS "raft.wire.scratch"
#define READER_CLASS "raft.wire.reader"

/* What one call holds outside Lua: freed by the collector, whichever way the call ends. */
struct scratch {
    struct buf out;
    struct block **blocks;
    size_t n;
    struct raft_message message;
    uint64_t *sequences;
};

static int scratch_gc(lua_State *L)
{
    struct scratch *s = luaL_checkudata(L, 1, SCRATCH_CLASS);
    buf_free(&s->out);
    for (size_t i = 0; i < s->n; i++) block_unref(s->blocks[i]);
    mem_free(s->blocks);
    mem_free(s->sequences);
    message_free(&s->message);
    *s = (struct scratch){0};
    return 0;
}

static struct scratch *scratch_new(lua_State *L)
{
    struct scratch *s = lua_newuserdatauv(L, sizeof *s, 0);
    *s = (struct scratch){0};
    if (luaL_newmetatable(L, SCRATCH_CLASS)) {
        lua_pushcfunction(L, scratch_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return s;
}

static int fail_memory(lua_State *L)
{
    struct err e;
    err_set(&e, ERR_NOMEM, "not enough memory");
    return lua_room_fail(L, &e);
}

/* The bytes that were written, or the failure. */
static int push_written(lua_State *L, const struct scratch *s, bool written)
{
    if (!written && s->out.size == 0) return fail_memory(L);
    ASSERT(written);
    lua_pushlstring(L, (const char *)s->out.data, s->out.size);
    return 1;
}

/* ---- fields of tables ---- */

static uint64_t get_integer(lua_State *L, int index, const char *name)
{
    lua_getfield(L, index, name);
    lua_Integer v = luaL_optinteger(L, -1, 0);
    lua_pop(L, 1);
    return (uint64_t)v;
}

static bool get_bool(lua_State *L, int index, const char *name)
{
    lua_getfield(L, index, name);
    bool v = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return v;
}

/* The string stays in the table, so that the pointer holds as long as the table. */
static const char *get_string(lua_State *L, int index, const char *name, size_t *size)
{
    lua_getfield(L, index, name);
    const char *s = luaL_optlstring(L, -1, "", size);
    lua_pop(L, 1);
    return s;
}

static void set_integer(lua_State *L, const char *name, uint64_t v)
{
    lua_pushinteger(L, (lua_Integer)v);
    lua_setfield(L, -2, name);
}

static void set_bool(lua_State *L, const char *name, bool v)
{
    lua_pushboolean(L, v);
    lua_setfield(L, -2, name);
}

static void set_string(lua_State *L, const char *name, const void *data, size_t size)
{
    lua_pushlstring(L, data, size);
    lua_setfield(L, -2, name);
}

/* ---- entries ---- */

static int new_entry(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    size_t size;
    const char *payload = get_string(L, 1, "payload", &size);
    uint64_t type = get_integer(L, 1, "type"), sequence = get_integer(L, 1, "sequence");
    uint64_t behind = get_integer(L, 1, "behind");
    luaL_argcheck(L, type >= RAFT_ENTRY_EMPTY && type < RAFT_ENTRY_TYPES, 1, "type");
    luaL_argcheck(L, size <= ENTRY_PAYLOAD_MAX, 1, "payload is too large");
    luaL_argcheck(L, behind <= sequence && behind <= UINT32_MAX, 1, "behind is larger than sequence");
    uint64_t session = get_integer(L, 1, "session"), epoch = get_integer(L, 1, "epoch");
    struct block *b = entry_new((uint8_t)type, payload, size);
    if (b == NULL) return fail_memory(L);
    entry_set_session(b, session, epoch, sequence, (uint32_t)behind);
    lua_pushlstring(L, (const char *)b->bytes, b->size);
    block_unref(b);
    return 1;
}

static struct block *to_block(lua_State *L, int index)
{
    size_t size;
    const char *data = luaL_checklstring(L, index, &size);
    struct block *b = block_new(size);
    if (b != NULL) memcpy(b->bytes, data, size);
    return b;
}

static int stamp(lua_State *L)
{
    lua_Integer index = luaL_checkinteger(L, 2), term = luaL_checkinteger(L, 3), time = luaL_checkinteger(L, 4);
    size_t size;
    const char *data = luaL_checklstring(L, 1, &size);
    luaL_argcheck(L, index > 0 && term > 0, 2, "index and term are above 0");
    luaL_argcheck(L, size >= ENTRY_HEADER && get_u64((const uint8_t *)data) == 0, 1, "stamped already");
    struct block *b = to_block(L, 1);
    if (b == NULL) return fail_memory(L);
    entry_stamp(b, (raft_index)index, (raft_term)term, (uint64_t)time);
    lua_pushlstring(L, (const char *)b->bytes, b->size);
    block_unref(b);
    return 1;
}

static void push_entry(lua_State *L, const struct entry *it)
{
    lua_newtable(L);
    set_integer(L, "type", it->type);
    set_integer(L, "index", it->index);
    set_integer(L, "term", it->term);
    set_integer(L, "time", it->time_us);
    set_integer(L, "session", it->session);
    set_integer(L, "epoch", it->epoch);
    set_integer(L, "sequence", it->sequence);
    set_integer(L, "behind", it->behind);
    set_string(L, "payload", it->payload, it->payload_size);
}

static int read_entry(lua_State *L)
{
    struct entry it;
    struct err e;
    size_t size;
    uint32_t used;
    const char *data = luaL_checklstring(L, 1, &size);
    if (entry_read((const uint8_t *)data, size, lua_toboolean(L, 2), &it, &used, &e) != OK)
        return lua_room_fail(L, &e);
    push_entry(L, &it);
    lua_pushinteger(L, used);
    return 2;
}

static int size_of_entry(lua_State *L)
{
    size_t size;
    const char *data = luaL_checklstring(L, 1, &size);
    luaL_argcheck(L, size >= ENTRY_HEADER, 1, "shorter than a header");
    lua_pushinteger(L, entry_size((const uint8_t *)data));
    return 1;
}

/* ---- frames ---- */

static int write_frame(lua_State *L)
{
    size_t meta_size, entries_size, start;
    lua_Integer type = luaL_checkinteger(L, 1);
    const char *meta = luaL_checklstring(L, 2, &meta_size), *entries = luaL_optlstring(L, 3, "", &entries_size);
    lua_Integer group = luaL_optinteger(L, 4, 0);
    luaL_argcheck(L, type >= FRAME_HELLO && type < FRAME_TYPES, 1, "type");
    luaL_argcheck(L, meta_size + entries_size <= FRAME_BODY_MAX, 2, "too large");
    struct scratch *s = scratch_new(L);
    if (!frame_begin(&s->out, (enum frame_type)type, (uint32_t)group, &start)) return fail_memory(L);
    if (!buf_append(&s->out, meta, meta_size)) return fail_memory(L);
    frame_meta_done(&s->out, start);
    if (!buf_append(&s->out, entries, entries_size)) return fail_memory(L);
    frame_end(&s->out, start);
    return push_written(L, s, true);
}

static int reader_gc(lua_State *L)
{
    frame_reader_free(luaL_checkudata(L, 1, READER_CLASS));
    return 0;
}

/* feed(bytes): list of frames, or nil, message, code. */
static int reader_feed(lua_State *L)
{
    struct frame_reader *r = luaL_checkudata(L, 1, READER_CLASS);
    size_t size;
    const uint8_t *data = (const uint8_t *)luaL_checklstring(L, 2, &size);
    struct frame f;
    struct err e;
    int code;
    lua_newtable(L);
    for (lua_Integer n = 1; (code = frame_reader_next(r, &data, &size, &f, &e)) > 0; n++) {
        lua_newtable(L);
        set_integer(L, "type", f.type);
        set_integer(L, "group", f.group);
        set_string(L, "meta", f.meta, f.meta_size);
        set_string(L, "entries", f.entries, f.entries_size);
        lua_rawseti(L, -2, n);
    }
    if (code < 0) return lua_room_fail(L, &e);
    ASSERT(size == 0);
    return 1;
}

/* held(): bytes of memory. */
static int reader_held(lua_State *L)
{
    struct frame_reader *r = luaL_checkudata(L, 1, READER_CLASS);
    lua_pushinteger(L, (lua_Integer)r->partial.capacity);
    return 1;
}

/* trust(bytes): raises the largest body that is taken. */
static int reader_trust(lua_State *L)
{
    struct frame_reader *r = luaL_checkudata(L, 1, READER_CLASS);
    lua_Integer most = luaL_optinteger(L, 2, FRAME_BODY_MAX);
    luaL_argcheck(L, most >= 0 && most <= (lua_Integer)FRAME_BODY_MAX, 2, "out of range");
    r->body_max = (uint32_t)most;
    return 0;
}

static const luaL_Reg reader_methods[] = {
    {"feed", reader_feed}, {"held", reader_held}, {"trust", reader_trust}, {NULL, NULL}};

static int new_reader(lua_State *L)
{
    frame_reader_init(lua_newuserdatauv(L, sizeof(struct frame_reader), 0));
    if (luaL_newmetatable(L, READER_CLASS)) {
        lua_pushcfunction(L, reader_gc);
        lua_setfield(L, -2, "__gc");
        luaL_newlib(L, reader_methods);
        lua_setfield(L, -2, "__index");
    }
    lua_setmetatable(L, -2);
    return 1;
}

/* The frame in the table at 1. Its bytes are copied into userdata, so that a sanitizer sees reads beyond them. */
static struct frame to_frame(lua_State *L)
{
    struct frame f = {0};
    size_t meta_size, entries_size;
    luaL_checktype(L, 1, LUA_TTABLE);
    const char *meta = get_string(L, 1, "meta", &meta_size), *entries = get_string(L, 1, "entries", &entries_size);
    uint8_t *copy = lua_newuserdatauv(L, meta_size + entries_size, 0);
    memcpy(copy, meta, meta_size);
    memcpy(copy + meta_size, entries, entries_size);
    f.type = (uint8_t)get_integer(L, 1, "type");
    f.group = (uint32_t)get_integer(L, 1, "group");
    f.meta = copy;
    f.meta_size = (uint32_t)meta_size;
    f.entries = copy + meta_size;
    f.entries_size = (uint32_t)entries_size;
    return f;
}

static struct frame check_frame(lua_State *L, enum frame_type type)
{
    struct frame f = to_frame(L);
    luaL_argcheck(L, f.type == type, 1, "a frame of another type");
    return f;
}

/* ---- hello and refusal ---- */

static void get_text(lua_State *L, const char *name, char *out, size_t max)
{
    size_t size;
    const char *text = get_string(L, 1, name, &size);
    luaL_argcheck(L, size <= max, 1, name);
    memcpy(out, text, size + 1);
}

static int write_hello(lua_State *L)
{
    struct hello h = {.channel = (uint8_t)get_integer(L, 1, "channel")};
    size_t size;
    luaL_checktype(L, 1, LUA_TTABLE);
    const char *cluster = get_string(L, 1, "cluster", &size);
    luaL_argcheck(L, size == sizeof h.cluster, 1, "cluster");
    memcpy(h.cluster, cluster, size);
    get_text(L, "name", h.name, HELLO_NAME_MAX);
    get_text(L, "list", h.list, HELLO_LIST_MAX);
    h.protocol_min = (uint16_t)get_integer(L, 1, "protocol_min");
    h.protocol = (uint16_t)get_integer(L, 1, "protocol");
    h.from = get_integer(L, 1, "from");
    h.to = get_integer(L, 1, "to");
    h.incarnation = get_integer(L, 1, "incarnation");
    h.epoch = get_integer(L, 1, "epoch");
    lua_getfield(L, 1, "before");
    for (lua_Integer i = 0; i < (lua_Integer)HELLO_LIVES && lua_istable(L, -1); i++) {
        lua_rawgeti(L, -1, i + 1);
        h.before[i] = (uint64_t)luaL_optinteger(L, -1, 0);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    h.named = get_integer(L, 1, "named");
    lua_getfield(L, 1, "rejoining");
    h.rejoining = lua_toboolean(L, -1);
    get_text(L, "address", h.address, HELLO_ADDRESS_MAX);
    luaL_argcheck(L, h.epoch != 0, 1, "epoch");
    luaL_argcheck(L, h.protocol_min <= h.protocol, 1, "protocol");
    luaL_argcheck(L, h.from != 0 && h.to != 0 && h.incarnation != 0, 1, "from, to, incarnation");
    struct scratch *s = scratch_new(L);
    return push_written(L, s, hello_write(&s->out, 0, &h));
}

static int read_hello(lua_State *L)
{
    struct frame f = to_frame(L);
    struct hello h;
    struct err e;
    if (hello_read(&f, &h, &e) != OK) return lua_room_fail(L, &e);
    lua_newtable(L);
    set_integer(L, "protocol_min", h.protocol_min);
    set_integer(L, "protocol", h.protocol);
    set_string(L, "cluster", h.cluster, sizeof h.cluster);
    set_string(L, "name", h.name, strlen(h.name));
    set_string(L, "list", h.list, strlen(h.list));
    set_integer(L, "from", h.from);
    set_integer(L, "to", h.to);
    set_integer(L, "incarnation", h.incarnation);
    set_integer(L, "epoch", h.epoch);
    lua_newtable(L);
    for (lua_Integer i = 0; i < (lua_Integer)HELLO_LIVES && h.before[i] != 0; i++) {
        lua_pushinteger(L, (lua_Integer)h.before[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "before");
    set_integer(L, "named", h.named);
    lua_pushboolean(L, h.rejoining);
    lua_setfield(L, -2, "rejoining");
    set_string(L, "address", h.address, strlen(h.address));
    set_integer(L, "channel", h.channel);
    return 1;
}

static int to_code(lua_State *L, int index)
{
    lua_Integer code = luaL_checkinteger(L, index);
    luaL_argcheck(L, code < 0 && code >= INT16_MIN, index, "a code is below 0");
    return (int)code;
}

static int write_refusal(lua_State *L)
{
    int code = to_code(L, 1);
    const char *text = luaL_checkstring(L, 2);
    struct scratch *s = scratch_new(L);
    return push_written(L, s, refusal_write(&s->out, 0, code, text));
}

static int read_refusal(lua_State *L)
{
    struct frame f = to_frame(L);
    struct refusal r;
    struct err e;
    if (refusal_read(&f, &r, &e) != OK) return lua_room_fail(L, &e);
    lua_pushinteger(L, r.code);
    lua_pushstring(L, r.text);
    return 2;
}

/* ---- messages ---- */

/* The list of entries in the table at index becomes blocks of s. false: no memory. */
static bool take_blocks(lua_State *L, int index, struct scratch *s)
{
    size_t n = (size_t)luaL_len(L, index);
    luaL_argcheck(L, n <= MESSAGE_ENTRIES_MAX, index, "too many entries");
    if (n > 0 && (s->blocks = mem_zero(n, sizeof *s->blocks)) == NULL) return false;
    for (; s->n < n; s->n++) {
        lua_rawgeti(L, index, (lua_Integer)s->n + 1);
        s->blocks[s->n] = to_block(L, -1);
        lua_pop(L, 1);
        if (s->blocks[s->n] == NULL) return false;
    }
    return true;
}

static int write_message(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct raft_message m = {
        .type = (uint8_t)get_integer(L, 1, "type"),
        .pre = get_bool(L, 1, "pre"),
        .reject = get_bool(L, 1, "reject"),
        .from = get_integer(L, 1, "from"),
        .to = get_integer(L, 1, "to"),
        .term = get_integer(L, 1, "term"),
        .index = get_integer(L, 1, "index"),
        .log_term = get_integer(L, 1, "log_term"),
        .hint = get_integer(L, 1, "hint"),
        .commit = get_integer(L, 1, "commit"),
        .context = get_integer(L, 1, "context"),
        .force = get_bool(L, 1, "force"),
        .round = get_integer(L, 1, "round"),
        .lease_us = (uint32_t)get_integer(L, 1, "lease"),
        .priority = (int32_t)get_integer(L, 1, "priority"),
    };
    luaL_argcheck(L, m.type >= RAFT_APPEND && m.type < RAFT_SNAPSHOT, 1, "type");
    struct scratch *s = scratch_new(L);
    if (lua_getfield(L, 1, "entries") == LUA_TTABLE && !take_blocks(L, lua_gettop(L), s)) return fail_memory(L);
    luaL_argcheck(L, s->n == 0 || m.type == RAFT_APPEND, 1, "only an append has entries");
    m.n_entries = (uint32_t)s->n;
    return push_written(L, s, message_write(&s->out, 0, &m, s->blocks));
}

static void push_block(lua_State *L, const struct block *b, lua_Integer at)
{
    lua_pushlstring(L, (const char *)b->bytes, b->size);
    lua_rawseti(L, -2, at);
}

static void set_ids(lua_State *L, const char *name, const raft_id *ids, uint8_t n)
{
    lua_createtable(L, n, 0);
    for (uint8_t i = 0; i < n; i++) {
        lua_pushinteger(L, (lua_Integer)ids[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, name);
}

static void set_conf(lua_State *L, const struct raft_conf *conf)
{
    set_ids(L, "voters", conf->voters, conf->n_voters);
    set_ids(L, "outgoing", conf->outgoing, conf->n_outgoing);
    set_ids(L, "learners", conf->learners, conf->n_learners);
}

/* confs: by their place, what the entries of a message that are configurations say. */
static void set_confs(lua_State *L, const struct raft_message *m)
{
    lua_newtable(L);
    for (uint32_t i = 0; i < m->n_entries; i++) {
        if (m->entries[i].conf == NULL) continue;
        lua_newtable(L);
        set_conf(L, m->entries[i].conf);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "confs");
}

static int read_message(lua_State *L)
{
    struct frame f = check_frame(L, FRAME_MESSAGE);
    struct scratch *s = scratch_new(L);
    struct raft_message *m = &s->message;
    struct err e;
    if (message_read(&f, m, &e) != OK) return lua_room_fail(L, &e);
    lua_newtable(L);
    set_integer(L, "type", m->type);
    set_bool(L, "pre", m->pre);
    set_bool(L, "reject", m->reject);
    set_integer(L, "from", m->from);
    set_integer(L, "to", m->to);
    set_integer(L, "term", m->term);
    set_integer(L, "index", m->index);
    set_integer(L, "log_term", m->log_term);
    set_integer(L, "hint", m->hint);
    set_integer(L, "commit", m->commit);
    set_integer(L, "context", m->context);
    set_bool(L, "force", m->force);
    set_integer(L, "round", m->round);
    set_integer(L, "lease", m->lease_us);
    set_integer(L, "priority", (uint64_t)(int64_t)m->priority);
    set_confs(L, m);
    lua_newtable(L);
    for (uint32_t i = 0; i < m->n_entries; i++) push_block(L, m->entries[i].block, (lua_Integer)i + 1);
    lua_setfield(L, -2, "entries");
    return 1;
}

static int write_forward(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct scratch *s = scratch_new(L);
    if (!take_blocks(L, 1, s)) return fail_memory(L);
    luaL_argcheck(L, s->n > 0, 1, "nothing to forward");
    return push_written(L, s, forward_write(&s->out, 0, s->blocks, s->n));
}

static int read_forward(lua_State *L)
{
    struct frame f = check_frame(L, FRAME_FORWARD);
    struct scratch *s = scratch_new(L);
    struct err e;
    if (forward_read(&f, &s->blocks, &s->n, &e) != OK) return lua_room_fail(L, &e);
    lua_newtable(L);
    for (size_t i = 0; i < s->n; i++) push_block(L, s->blocks[i], (lua_Integer)i + 1);
    return 1;
}

static int write_forward_reply(lua_State *L)
{
    int code = to_code(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    size_t n = (size_t)luaL_len(L, 2);
    luaL_argcheck(L, n > 0 && n <= MESSAGE_ENTRIES_MAX, 2, "no sequences, or too many");
    struct scratch *s = scratch_new(L);
    if ((s->sequences = mem_zero(n, sizeof *s->sequences)) == NULL) return fail_memory(L);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, 2, (lua_Integer)i + 1);
        s->sequences[i] = (uint64_t)luaL_checkinteger(L, -1);
        lua_pop(L, 1);
    }
    return push_written(L, s, forward_reply_write(&s->out, 0, code, s->sequences, n));
}

static int read_forward_reply(lua_State *L)
{
    struct frame f = check_frame(L, FRAME_FORWARD_REPLY);
    struct scratch *s = scratch_new(L);
    struct err e;
    int code;
    size_t n;
    if (forward_reply_read(&f, &code, &s->sequences, &n, &e) != OK) return lua_room_fail(L, &e);
    lua_pushinteger(L, code);
    lua_newtable(L);
    for (size_t i = 0; i < n; i++) {
        lua_pushinteger(L, (lua_Integer)s->sequences[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 2;
}

static int write_ping(lua_State *L)
{
    lua_Integer type = luaL_checkinteger(L, 1), echo = luaL_checkinteger(L, 2);
    luaL_argcheck(L, type == FRAME_PING || type == FRAME_PONG, 1, "ping or pong");
    struct scratch *s = scratch_new(L);
    return push_written(L, s, ping_write(&s->out, 0, (enum frame_type)type, (uint64_t)echo));
}

static int read_ping(lua_State *L)
{
    struct frame f = to_frame(L);
    struct err e;
    uint64_t echo;
    luaL_argcheck(L, f.type == FRAME_PING || f.type == FRAME_PONG, 1, "a frame of another type");
    if (ping_read(&f, &echo, &e) != OK) return lua_room_fail(L, &e);
    lua_pushinteger(L, (lua_Integer)echo);
    return 1;
}

/* ---- lists of members ---- */

/* The list { { id, address [, incarnation [, returns]] }, ... } at index. */
static int to_members(lua_State *L, int index, struct members *m, struct err *e)
{
    *m = (struct members){.count = 0};
    luaL_checktype(L, index, LUA_TTABLE);
    for (lua_Integer i = 1; i <= luaL_len(L, index); i++) {
        lua_rawgeti(L, index, i);
        int at = lua_gettop(L);
        for (lua_Integer field = 1; field <= 4; field++) lua_rawgeti(L, at, field);
        raft_id id = (raft_id)luaL_checkinteger(L, at + 1);
        int code = members_add(m, id, luaL_checkstring(L, at + 2), e);
        for (uint8_t k = 0; k < m->count && code == OK; k++) {
            if (m->list[k].id != id) continue;
            m->list[k].incarnation = (uint64_t)luaL_optinteger(L, at + 3, 0);
            m->list[k].returns = lua_toboolean(L, at + 4);
        }
        lua_settop(L, at - 1);
        if (code != OK) return code;
    }
    return OK;
}

/* members(list[, size]): their text, for which there is room for size bytes. */
static int format_members(lua_State *L)
{
    struct members m;
    struct err e;
    char text[HELLO_LIST_MAX + 1];
    lua_Integer size = luaL_optinteger(L, 2, sizeof text);
    luaL_argcheck(L, size > 0 && size <= (lua_Integer)sizeof text, 2, "out of range");
    if (to_members(L, 1, &m, &e) != OK || members_format(&m, text, (size_t)size, &e) != OK)
        return lua_room_fail(L, &e);
    lua_pushstring(L, text);
    return 1;
}

static int parse_members(lua_State *L)
{
    struct members m;
    struct err e;
    if (members_parse(&m, luaL_checkstring(L, 1), &e) != OK) return lua_room_fail(L, &e);
    struct raft_conf conf = members_conf(&m);
    ASSERT(conf.n_voters == m.count && conf.n_outgoing == 0 && conf.n_learners == 0);
    lua_newtable(L);
    for (uint8_t i = 0; i < m.count; i++) {
        const struct member *it = members_find(&m, conf.voters[i]);
        lua_newtable(L);
        lua_pushinteger(L, (lua_Integer)it->id);
        lua_rawseti(L, -2, 1);
        lua_pushstring(L, it->address);
        lua_rawseti(L, -2, 2);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static int cluster_id(lua_State *L)
{
    struct members m;
    struct err e;
    uint8_t id[16];
    if (to_members(L, 1, &m, &e) != OK) return lua_room_fail(L, &e);
    members_cluster_id(&m, luaL_checkstring(L, 2), id);
    lua_pushlstring(L, (const char *)id, sizeof id);
    return 1;
}

/* ---- configurations ---- */

static uint8_t get_ids(lua_State *L, const char *name, raft_id ids[RAFT_MEMBERS_MAX])
{
    lua_getfield(L, 1, name);
    lua_Integer n = lua_isnil(L, -1) ? 0 : luaL_len(L, -1);
    luaL_argcheck(L, n <= RAFT_MEMBERS_MAX, 1, name);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, -1, i);
        ids[i - 1] = (raft_id)luaL_checkinteger(L, -1);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return (uint8_t)n;
}

/* conf { next_id, members = { { id, address [, incarnation [, returns]] }, ... }, voters, outgoing, learners }: its
 * bytes. */
static int write_conf(lua_State *L)
{
    struct conf c = {.next_id = get_integer(L, 1, "next_id")};
    struct err e;
    lua_getfield(L, 1, "members");
    if (to_members(L, lua_gettop(L), &c.members, &e) != OK) return lua_room_fail(L, &e);
    c.raft.n_voters = get_ids(L, "voters", c.raft.voters);
    c.raft.n_outgoing = get_ids(L, "outgoing", c.raft.outgoing);
    c.raft.n_learners = get_ids(L, "learners", c.raft.learners);
    for (uint8_t i = 0; i < c.members.count; i++)
        luaL_argcheck(L, conf_is_member(&c.raft, c.members.list[i].id), 1, "a member that may nothing");
    struct scratch *s = scratch_new(L);
    return push_written(L, s, conf_write(&s->out, &c));
}

static int read_conf(lua_State *L)
{
    size_t size;
    const char *bytes = luaL_checklstring(L, 1, &size);
    uint8_t *copy = lua_newuserdatauv(L, size, 0); /* so that a sanitizer sees reads beyond them */
    memcpy(copy, bytes, size);
    struct conf c;
    struct err e;
    if (conf_read(copy, size, &c, &e) != OK) return lua_room_fail(L, &e);
    lua_newtable(L);
    set_integer(L, "next_id", c.next_id);
    set_conf(L, &c.raft);
    lua_newtable(L);
    for (uint8_t i = 0; i < c.members.count; i++) {
        lua_newtable(L);
        lua_pushinteger(L, (lua_Integer)c.members.list[i].id);
        lua_rawseti(L, -2, 1);
        lua_pushstring(L, c.members.list[i].address);
        lua_rawseti(L, -2, 2);
        if (c.members.list[i].incarnation != 0) {
            lua_pushinteger(L, (lua_Integer)c.members.list[i].incarnation);
            lua_rawseti(L, -2, 3);
        }
        if (c.members.list[i].returns) {
            lua_pushboolean(L, true);
            lua_rawseti(L, -2, 4);
        }
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "members");
    return 1;
}

/* ---- snapshots on their way ---- */

/* transfer(type, { index, term, id, size, leader_term, first, offset, wanted, bytes, ok }) */
static int write_transfer(lua_State *L)
{
    lua_Integer type = luaL_checkinteger(L, 1);
    luaL_argcheck(L, type >= FRAME_OFFER && type <= FRAME_FETCHED, 1, "type");
    luaL_checktype(L, 2, LUA_TTABLE);
    size_t size;
    const char *bytes = get_string(L, 2, "bytes", &size);
    luaL_argcheck(L, size <= TRANSFER_CHUNK_MAX, 2, "bytes");
    struct transfer t = {
        .file = {get_integer(L, 2, "index"), get_integer(L, 2, "term"), get_integer(L, 2, "id"),
                 get_integer(L, 2, "size")},
        .term = get_integer(L, 2, "leader_term"),
        .first = get_integer(L, 2, "first"),
        .offset = get_integer(L, 2, "offset"),
        .size = type == FRAME_CHUNK ? (uint32_t)size : (uint32_t)get_integer(L, 2, "wanted"),
        .bytes = (const uint8_t *)bytes,
        .ok = get_bool(L, 2, "ok"),
    };
    struct scratch *s = scratch_new(L);
    return push_written(L, s, transfer_write(&s->out, 0, (enum frame_type)type, &t));
}

static int read_transfer(lua_State *L)
{
    struct frame f = to_frame(L);
    struct transfer t;
    struct err e;
    luaL_argcheck(L, f.type >= FRAME_OFFER && f.type <= FRAME_FETCHED, 1, "a frame of another type");
    if (transfer_read(&f, &t, &e) != OK) return lua_room_fail(L, &e);
    lua_newtable(L);
    set_integer(L, "index", t.file.index);
    set_integer(L, "term", t.file.term);
    set_integer(L, "id", t.file.id);
    set_integer(L, "size", t.file.size);
    set_integer(L, "leader_term", t.term);
    set_integer(L, "first", t.first);
    set_integer(L, "offset", t.offset);
    set_bool(L, "ok", t.ok);
    if (f.type == FRAME_FETCH) set_integer(L, "wanted", t.size);
    if (f.type == FRAME_CHUNK) set_string(L, "bytes", t.bytes, t.size);
    return 1;
}

/* ---- what members and strangers ask ---- */

static void copy_text(lua_State *L, int index, const char *name, char *out, size_t max)
{
    size_t size;
    const char *text = get_string(L, index, name, &size);
    luaL_argcheck(L, size <= max, 1, name);
    memcpy(out, text, size + 1);
}

/* ask(number, { kind, lease, target, changes = { { op, id, address }, ... } }) */
static int write_ask(lua_State *L)
{
    luaL_checktype(L, 2, LUA_TTABLE);
    struct ask_what what = {
        .kind = (uint8_t)get_integer(L, 2, "kind"),
        .lease = get_bool(L, 2, "lease"),
        .target = get_integer(L, 2, "target"),
    };
    luaL_argcheck(L, what.kind > 0 && what.kind < ASK_KINDS, 2, "kind");
    if (lua_getfield(L, 2, "changes") == LUA_TTABLE) {
        luaL_argcheck(L, luaL_len(L, -1) <= RAFT_MEMBERS_MAX, 2, "changes");
        what.n = (uint8_t)luaL_len(L, -1);
        for (uint8_t i = 0; i < what.n; i++) {
            lua_rawgeti(L, -1, i + 1);
            int change = lua_gettop(L);
            what.changes[i].op = (uint8_t)get_integer(L, change, "op");
            what.changes[i].id = get_integer(L, change, "id");
            copy_text(L, change, "address", what.changes[i].address, ADDRESS_MAX);
            lua_pop(L, 1);
        }
    }
    struct scratch *s = scratch_new(L);
    return push_written(L, s, ask_write(&s->out, 0, (uint64_t)luaL_checkinteger(L, 1), &what));
}

static int read_ask(lua_State *L)
{
    struct frame f = check_frame(L, FRAME_ASK);
    struct ask_what what;
    struct err e;
    uint64_t number;
    if (ask_read(&f, &number, &what, &e) != OK) return lua_room_fail(L, &e);
    lua_pushinteger(L, (lua_Integer)number);
    lua_newtable(L);
    set_integer(L, "kind", what.kind);
    set_bool(L, "lease", what.lease);
    set_integer(L, "target", what.target);
    lua_newtable(L);
    for (uint8_t i = 0; i < what.n; i++) {
        lua_newtable(L);
        set_integer(L, "op", what.changes[i].op);
        set_integer(L, "id", what.changes[i].id);
        set_string(L, "address", what.changes[i].address, strlen(what.changes[i].address));
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "changes");
    return 2;
}

static int write_answer(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct answer a = {
        .number = get_integer(L, 1, "number"),
        .code = (int)get_integer(L, 1, "code"),
        .index = get_integer(L, 1, "index"),
        .id = get_integer(L, 1, "id"),
    };
    struct scratch *s = scratch_new(L);
    return push_written(L, s, answer_write(&s->out, 0, &a));
}

static int read_answer(lua_State *L)
{
    struct frame f = check_frame(L, FRAME_ANSWER);
    struct answer a;
    struct err e;
    if (answer_read(&f, &a, &e) != OK) return lua_room_fail(L, &e);
    lua_newtable(L);
    set_integer(L, "number", a.number);
    set_integer(L, "code", (uint64_t)(int64_t)a.code);
    set_integer(L, "index", a.index);
    set_integer(L, "id", a.id);
    return 1;
}

static int write_join(lua_State *L)
{
    struct join j;
    luaL_checktype(L, 1, LUA_TTABLE);
    copy_text(L, 1, "name", j.name, HELLO_NAME_MAX);
    copy_text(L, 1, "address", j.address, ADDRESS_MAX);
    struct scratch *s = scratch_new(L);
    return push_written(L, s, join_write(&s->out, 0, &j));
}

static int read_join(lua_State *L)
{
    struct frame f = check_frame(L, FRAME_JOIN);
    struct join j;
    struct err e;
    if (join_read(&f, &j, &e) != OK) return lua_room_fail(L, &e);
    lua_newtable(L);
    set_string(L, "name", j.name, strlen(j.name));
    set_string(L, "address", j.address, strlen(j.address));
    return 1;
}

static int write_joined(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct joined j = {.code = (int)get_integer(L, 1, "code"), .id = get_integer(L, 1, "id")};
    size_t size;
    const char *cluster = get_string(L, 1, "cluster", &size);
    luaL_argcheck(L, size == 0 || size == sizeof j.cluster, 1, "cluster");
    memcpy(j.cluster, cluster, size);
    copy_text(L, 1, "leader", j.leader, ADDRESS_MAX);
    copy_text(L, 1, "list", j.list, HELLO_LIST_MAX);
    struct scratch *s = scratch_new(L);
    return push_written(L, s, joined_write(&s->out, 0, &j));
}

static int read_joined(lua_State *L)
{
    struct frame f = check_frame(L, FRAME_JOINED);
    struct joined j;
    struct err e;
    if (joined_read(&f, &j, &e) != OK) return lua_room_fail(L, &e);
    lua_newtable(L);
    set_integer(L, "code", (uint64_t)(int64_t)j.code);
    set_string(L, "leader", j.leader, strlen(j.leader));
    set_integer(L, "id", j.id);
    set_string(L, "cluster", j.cluster, sizeof j.cluster);
    set_string(L, "list", j.list, strlen(j.list));
    return 1;
}

/* ---- the module's functions ---- */

static int hash(lua_State *L)
{
    size_t size;
    const char *data = luaL_checklstring(L, 1, &size);
    lua_pushinteger(L, (lua_Integer)hash64(data, size, (uint64_t)luaL_optinteger(L, 2, 0)));
    return 1;
}

static int set_fail_at(lua_State *L)
{
    mem_fail_at((uint64_t)luaL_checkinteger(L, 1));
    return 0;
}

static int count_asked(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)mem_asked());
    return 1;
}

static const luaL_Reg functions[] = {
    {"entry", new_entry},
    {"stamp", stamp},
    {"entry_read", read_entry},
    {"entry_size", size_of_entry},
    {"frame", write_frame},
    {"reader", new_reader},
    {"hello", write_hello},
    {"hello_read", read_hello},
    {"refusal", write_refusal},
    {"refusal_read", read_refusal},
    {"message", write_message},
    {"message_read", read_message},
    {"forward", write_forward},
    {"forward_read", read_forward},
    {"forward_reply", write_forward_reply},
    {"forward_reply_read", read_forward_reply},
    {"ping", write_ping},
    {"ping_read", read_ping},
    {"conf", write_conf},
    {"conf_read", read_conf},
    {"transfer", write_transfer},
    {"transfer_read", read_transfer},
    {"ask", write_ask},
    {"ask_read", read_ask},
    {"answer", write_answer},
    {"answer_read", read_answer},
    {"join", write_join},
    {"join_read", read_join},
    {"joined", write_joined},
    {"joined_read", read_joined},
    {"members", format_members},
    {"members_parse", parse_members},
    {"cluster_id", cluster_id},
    {"hash", hash},
    {NULL, NULL}};

void lua_wire_open(lua_State *L)
{
    luaL_newlib(L, functions);
    lua_setfield(L, -2, "wire");
    lua_pushcfunction(L, set_fail_at);
    lua_setfield(L, -2, "mem_fail_at");
    lua_pushcfunction(L, count_asked);
    lua_setfield(L, -2, "mem_asked");
}
