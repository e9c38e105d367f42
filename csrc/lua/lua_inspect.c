/* core.inspect and core.recover: a directory that no node has open, looked into and changed by tools. */
#include "base/mem.h"
#include "lua/lua_room.h"
#include "store/inspect.h"
#include "store/recover.h"
#include "store/snapshot.h"
#include "uv/uv_world.h"

#define CLASS "raft.inspection"

struct lua_inspection {
    struct uv_world *world; /* NULL: a simulated disk, whose userdata is the user value */
    struct inspection *in;
    struct store_recovered recovered;
    struct err found;
    struct snapshot_scan *scan; /* of the snapshot's records; NULL: not begun */
    struct buf records;         /* read, from `at` on not handed out */
    size_t at;
};

/* What the visitor needs: a Lua error must not jump across the store. */
struct visiting {
    lua_State *L;
    int fn;      /* stack index of the function; 0: none */
    bool failed; /* its error is on top of the stack */
};

static void set_integer(lua_State *L, const char *name, uint64_t value)
{
    lua_pushinteger(L, (lua_Integer)value);
    lua_setfield(L, -2, name);
}

static void set_text(lua_State *L, const char *name, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

static void set_bytes(lua_State *L, const char *name, const void *data, size_t size)
{
    lua_pushlstring(L, data, size);
    lua_setfield(L, -2, name);
}

static void push_entry(lua_State *L, const struct entry *entry)
{
    static const char *const types[RAFT_ENTRY_TYPES] = {
        [RAFT_ENTRY_EMPTY] = "empty", [RAFT_ENTRY_COMMAND] = "command", [RAFT_ENTRY_BARRIER] = "barrier",
        [RAFT_ENTRY_CONFIG] = "config", [RAFT_ENTRY_CLIENT] = "client"};
    lua_createtable(L, 0, 10);
    set_integer(L, "index", entry->index);
    set_integer(L, "term", entry->term);
    set_integer(L, "time", entry->time_us);
    set_integer(L, "session", entry->session);
    set_integer(L, "epoch", entry->epoch);
    set_integer(L, "sequence", entry->sequence);
    set_integer(L, "lowest", entry->sequence - entry->behind);
    set_integer(L, "size", entry->payload_size);
    set_text(L, "type", types[entry->type] != NULL ? types[entry->type] : "other");
}

/* ---- visiting ---- */

struct call {
    struct visiting *v;
    const char *kind;
    uint64_t file, size;
    const struct segment_header *segment;
    const struct batch_header *batch;
    const struct entry *entry;
};

static void push_segment(lua_State *L, const struct call *c)
{
    const struct segment_header *h = c->segment;
    lua_createtable(L, 0, 9);
    set_integer(L, "size", c->size);
    set_text(L, "state", h->state == SEGMENT_LIVE ? "live" : "spare");
    set_integer(L, "number", h->number);
    set_integer(L, "first_batch", h->first_batch);
    set_integer(L, "term", h->term);
    set_integer(L, "vote", h->vote);
    set_integer(L, "last", h->last);
    set_integer(L, "last_term", h->last_term);
}

static void push_batch(lua_State *L, const struct batch_header *h)
{
    lua_createtable(L, 0, 10);
    set_integer(L, "number", h->number);
    set_integer(L, "offset", h->offset);
    set_integer(L, "length", h->length);
    set_integer(L, "count", h->count);
    set_integer(L, "first", h->first);
    set_integer(L, "truncate", h->truncate_from);
    if ((h->flags & BATCH_VOTE) != 0) {
        set_integer(L, "term", h->term);
        set_integer(L, "vote", h->vote);
    }
    lua_pushboolean(L, (h->flags & BATCH_SEAL) != 0);
    lua_setfield(L, -2, "seal");
    lua_pushboolean(L, (h->flags & BATCH_RESET) != 0);
    lua_setfield(L, -2, "reset");
}

/* Calls fn(kind, what), protected. */
static int call_body(lua_State *L)
{
    const struct call *c = lua_touserdata(L, 1);
    lua_pushvalue(L, 2);
    lua_pushstring(L, c->kind);
    if (c->segment != NULL) push_segment(L, c);
    else if (c->batch != NULL) push_batch(L, c->batch);
    else push_entry(L, c->entry);
    if (c->entry == NULL) set_integer(L, "file", c->file);
    lua_call(L, 2, 0);
    return 0;
}

static void visit(struct call *c)
{
    struct visiting *v = c->v;
    if (v->fn == 0 || v->failed) return;
    lua_pushcfunction(v->L, call_body);
    lua_pushlightuserdata(v->L, c);
    lua_pushvalue(v->L, v->fn);
    v->failed = lua_pcall(v->L, 2, 0, 0) != LUA_OK;
}

static void on_segment(void *ctx, uint64_t file, uint64_t size, const struct segment_header *header)
{
    visit(&(struct call){.v = ctx, .kind = "segment", .file = file, .size = size, .segment = header});
}

static void on_batch(void *ctx, uint64_t file, const struct batch_header *batch)
{
    visit(&(struct call){.v = ctx, .kind = "batch", .file = file, .batch = batch});
}

static void on_entry(void *ctx, const struct entry *entry)
{
    visit(&(struct call){.v = ctx, .kind = "entry", .entry = entry});
}

/* ---- core.inspect(dir, { force, disk, visit }) -> inspection; nil, message, code ---- */

static int inspection_close(lua_State *L)
{
    struct lua_inspection *i = luaL_checkudata(L, 1, CLASS);
    if (i->scan != NULL) snapshot_scan_close(i->scan);
    if (i->in != NULL) inspect_close(i->in);
    mem_free(i->scan);
    buf_free(&i->records);
    store_recovered_free(&i->recovered);
    uv_world_free(i->world);
    *i = (struct lua_inspection){0};
    return 0;
}

static int l_inspect(lua_State *L)
{
    const char *dir = luaL_checkstring(L, 1);
    struct visiting v = {.L = L};
    struct inspect_visitor visitor = {on_segment, on_entry, on_batch, &v};
    struct err e = {0};
    lua_settop(L, 2);
    if (lua_isnil(L, 2)) {
        lua_newtable(L);
        lua_replace(L, 2);
    }
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_getfield(L, 2, "force");
    bool force = lua_toboolean(L, -1);
    if (lua_getfield(L, 2, "visit") != LUA_TNIL) v.fn = lua_gettop(L);
    struct lua_inspection *i = lua_newuserdatauv(L, sizeof *i, 1);
    *i = (struct lua_inspection){0};
    luaL_setmetatable(L, CLASS);
    int self = lua_gettop(L);
    struct io *io;
    if (lua_getfield(L, 2, "disk") != LUA_TNIL) {
        io = lua_store_io(L, -1);
        lua_setiuservalue(L, self, 1);
    } else {
        if (uv_world_new(&i->world, -1, &e) != OK) return lua_room_fail(L, &e);
        io = uv_world_io(i->world);
    }
    lua_settop(L, self);
    luaL_checkstack(L, 10, NULL);
    int status = inspect_open(&i->in, io, dir, force, &visitor, &i->recovered, &i->found, &e);
    if (v.failed) return lua_error(L);
    return status == OK ? 1 : lua_room_fail(L, &e);
}

static struct lua_inspection *to_open(lua_State *L)
{
    struct lua_inspection *i = luaL_checkudata(L, 1, CLASS);
    luaL_argcheck(L, i->in != NULL, 1, "the inspection is closed");
    return i;
}

static void push_snapshot(lua_State *L, const struct store_snapshot *what)
{
    lua_createtable(L, 0, 6);
    set_integer(L, "index", what->index);
    set_integer(L, "term", what->term);
    set_integer(L, "time", what->time_us);
    set_integer(L, "version", what->version);
    set_integer(L, "id", what->id);
    set_integer(L, "size", what->size);
}

/* inspection:report() -> what a start would find; error and code: what it would be refused with */
static int inspection_report(lua_State *L)
{
    const struct lua_inspection *i = to_open(L);
    const struct store_recovered *r = &i->recovered;
    lua_newtable(L);
    set_text(L, "name", r->identity.name);
    set_text(L, "list", r->identity.list);
    set_bytes(L, "cluster", r->identity.cluster, sizeof r->identity.cluster);
    set_integer(L, "node", r->identity.node);
    set_integer(L, "incarnation", r->identity.incarnation);
    set_integer(L, "epoch", r->epoch);
    lua_pushboolean(L, r->rejoining);
    lua_setfield(L, -2, "rejoining");
    set_integer(L, "term", r->term);
    set_integer(L, "vote", r->vote);
    set_integer(L, "first", r->first);
    set_integer(L, "last", r->last);
    set_integer(L, "before", r->before);
    set_integer(L, "torn_bytes", r->torn_bytes);
    if (r->damaged[0] != 0) set_text(L, "damaged", r->damaged);
    if (r->snapshot.index > 0) {
        push_snapshot(L, &r->snapshot);
        lua_setfield(L, -2, "snapshot");
    }
    if (i->found.code != OK) {
        set_text(L, "error", i->found.text);
        set_text(L, "code", err_name(i->found.code));
    }
    return 1;
}

static int push_blocks(lua_State *L)
{
    const struct store_read *read = lua_touserdata(L, 1);
    lua_createtable(L, (int)read->n, 0);
    for (size_t k = 0; k < read->n; k++) {
        struct entry entry = entry_view(read->blocks[k]);
        push_entry(L, &entry);
        set_bytes(L, "data", entry.payload, entry.payload_size);
        lua_rawseti(L, -2, (lua_Integer)k + 1);
    }
    return 1;
}

/* inspection:read(first [, max_bytes]) -> entries from there on, at least one; an empty list behind the last one */
static int inspection_read(lua_State *L)
{
    struct lua_inspection *i = to_open(L);
    raft_index first = (raft_index)luaL_checkinteger(L, 2);
    size_t most = (size_t)luaL_optinteger(L, 3, 1 << 20);
    struct store_read read = {.first = first, .last = i->recovered.last, .max_bytes = most};
    luaL_argcheck(L, first >= 1, 2, "indexes begin with 1");
    if (first > i->recovered.last) {
        lua_newtable(L);
        return 1;
    }
    if (inspect_read(i->in, &read) != OK) return lua_room_fail(L, &read.error);
    lua_pushcfunction(L, push_blocks);
    lua_pushlightuserdata(L, &read);
    bool failed = lua_pcall(L, 1, 1, 0) != LUA_OK;
    for (size_t k = 0; k < read.n; k++) block_unref(read.blocks[k]);
    mem_free(read.blocks);
    return failed ? lua_error(L) : 1;
}

/* ERR_NOENT: there is no snapshot. */
static int begin_records(struct lua_inspection *i, struct err *e)
{
    i->scan = mem_alloc(sizeof *i->scan);
    if (i->scan == NULL) return err_set(e, ERR_NOMEM, "not enough memory");
    int status = inspect_snapshot(i->in, i->scan, e);
    if (status == OK) return OK;
    mem_free(i->scan);
    i->scan = NULL;
    return status;
}

/* inspection:record() -> kind, bytes of the snapshot's next record, how many there are in all; nothing at the end; nil,
 * message, code */
static int inspection_record(lua_State *L)
{
    struct lua_inspection *i = to_open(L);
    struct err e;
    if (i->scan == NULL && begin_records(i, &e) != OK) return e.code == ERR_NOENT ? 0 : lua_room_fail(L, &e);
    for (;;) {
        struct reader r = {.data = i->records.data + i->at, .size = i->records.size - i->at};
        const uint8_t *bytes;
        uint32_t length;
        uint8_t kind;
        size_t size;
        if (snapshot_record_next(&r, &kind, &bytes, &length)) {
            i->at += r.at;
            lua_pushinteger(L, kind);
            lua_pushlstring(L, (const char *)bytes, length);
            lua_pushinteger(L, (lua_Integer)snapshot_scan_total(i->scan));
            return 3;
        }
        buf_drop_front(&i->records, i->at);
        i->at = 0;
        if (snapshot_scan_next(i->scan, &bytes, &size, &e) != OK) return lua_room_fail(L, &e);
        if (size == 0) return 0;
        if (!buf_append(&i->records, bytes, size)) return luaL_error(L, "not enough memory");
    }
}

/* core.recover(dir, { disk, address }) -> { node, index, term, incarnation, lost = "2=b:2 3=c:3" }; nil, message,
 * code */
static int l_recover(lua_State *L)
{
    const char *dir = luaL_checkstring(L, 1);
    struct recover_report report;
    struct uv_world *world = NULL;
    struct err e = {0};
    struct io *io;
    char lost[STORE_LIST_MAX + 1] = "";
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    lua_getfield(L, 2, "address");
    const char *address = luaL_optstring(L, 3, NULL);
    if (lua_getfield(L, 2, "disk") != LUA_TNIL) io = lua_store_io(L, -1);
    else if (uv_world_new(&world, -1, &e) == OK) io = uv_world_io(world);
    else return lua_room_fail(L, &e);
    int status = recover_alone(io, dir, address, &report, &e);
    uv_world_free(world);
    if (status == OK && report.lost.count > 0) status = members_format(&report.lost, lost, sizeof lost, &e);
    if (status != OK) return lua_room_fail(L, &e);
    lua_newtable(L);
    set_integer(L, "node", report.node);
    set_integer(L, "index", report.index);
    set_integer(L, "term", report.term);
    set_integer(L, "incarnation", report.incarnation);
    set_text(L, "lost", lost);
    return 1;
}

void lua_inspect_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"report", inspection_report}, {"read", inspection_read},   {"record", inspection_record},
        {"close", inspection_close},   {"__gc", inspection_close},  {"__close", inspection_close},
        {NULL, NULL},
    };
    luaL_newmetatable(L, CLASS);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    luaL_setfuncs(L, methods, 0);
    lua_pop(L, 1);
    lua_pushcfunction(L, l_inspect);
    lua_setfield(L, -2, "inspect");
    lua_pushcfunction(L, l_recover);
    lua_setfield(L, -2, "recover");
}
