/* core.disk: a simulated disk, and logs on it, for specs. Everything happens in simulated time: disk:run(seconds).
 * The disk owns its logs and their reads; a log's userdata keeps the disk alive. */
#include "base/mem.h"
#include "lua/lua_room.h"
#include "sim/sim_world.h"
#include "store/store.h"

#define DISK_CLASS "raft.disk"
#define LOG_CLASS "raft.log"
#define NODE 1 /* the world's node whose disk is used */

struct log_read {
    struct log_read *next;
    struct store_read read;
    lua_Integer id;
    bool done;
};

struct log {
    struct log *next;
    struct disk *disk;
    struct store *store; /* NULL: closed, or lost in a crash */
    struct store_recovered recovered;
    uint64_t persisted;
    struct err error; /* of the latched failure */
    bool failed, closing, closed;
    uint32_t room_changes;
    lua_Integer remembered; /* requests of remember() that are done, and the status of the last */
    int remember_status;
    struct log_read *reads;
    lua_Integer next_read;
};

struct disk {
    struct sim_world *world;
    struct io *io;
    struct log *logs;
};

/* ---- the engine's part: time ---- */

static void disk_arm(struct disk *d)
{
    uint64_t at = NEVER_US;
    for (struct log *log = d->logs; log != NULL; log = log->next) {
        if (log->store != NULL) at = MIN(at, store_deadline(log->store));
    }
    io_alarm(d->io, at);
}

static void on_alarm(void *engine)
{
    struct disk *d = engine;
    for (struct log *log = d->logs; log != NULL; log = log->next) {
        if (log->store != NULL) store_tick(log->store);
    }
}

static void on_turn(void *engine)
{
    disk_arm(engine);
}

static const struct io_events disk_events = {.turn = on_turn, .alarm = on_alarm};

static void disk_start(struct disk *d)
{
    d->io = sim_world_io(d->world, NODE, NULL, NULL);
    d->io->events = &disk_events;
    d->io->engine = d;
}

/* ---- what a log tells ---- */

static void on_persisted(void *ctx, uint64_t seq)
{
    struct log *log = ctx;
    ASSERT(seq > log->persisted);
    log->persisted = seq;
}

static void on_failed(void *ctx, const struct err *e)
{
    struct log *log = ctx;
    ASSERT(!log->failed);
    log->failed = true;
    log->error = *e;
}

static void on_room(void *ctx, bool has_room)
{
    struct log *log = ctx;
    ASSERT(store_has_room(log->store) == has_room);
    log->room_changes++;
}

static void on_closed(void *ctx)
{
    struct log *log = ctx;
    log->store = NULL;
    log->closed = true;
}

static void on_remembered(void *ctx, int status)
{
    struct log *log = ctx;
    log->remembered++;
    log->remember_status = status;
}

static void on_read(struct store_read *read)
{
    CONTAINER_OF(read, struct log_read, read)->done = true;
}

static const struct store_events log_events = {.persisted = on_persisted, .failed = on_failed, .room = on_room};

/* ---- memory ---- */

static void free_blocks(struct store_read *read)
{
    for (size_t i = 0; i < read->n; i++) block_unref(read->blocks[i]);
    mem_free(read->blocks);
    read->blocks = NULL;
    read->n = 0;
}

static void log_free(struct log *log)
{
    while (log->reads != NULL) {
        struct log_read *r = log->reads;
        log->reads = r->next;
        free_blocks(&r->read);
        mem_free(r);
    }
    store_recovered_free(&log->recovered);
    mem_free(log);
}

static void crash(struct disk *d)
{
    sim_world_crash(d->world, NODE, NULL);
    for (struct log *log = d->logs; log != NULL; log = log->next) {
        if (log->store != NULL) store_abandon(log->store);
        log->store = NULL;
    }
    disk_start(d);
}

static struct disk *to_disk(lua_State *L)
{
    return luaL_checkudata(L, 1, DISK_CLASS);
}

static int disk_gc(lua_State *L)
{
    struct disk *d = to_disk(L);
    if (d->world == NULL) return 0;
    crash(d);
    while (d->logs != NULL) {
        struct log *log = d->logs;
        d->logs = log->next;
        log_free(log);
    }
    sim_world_free(d->world);
    d->world = NULL;
    return 0;
}

/* ---- fields of tables ---- */

static lua_Integer get_integer(lua_State *L, int table, const char *name, lua_Integer otherwise)
{
    lua_getfield(L, table, name);
    lua_Integer value = luaL_optinteger(L, -1, otherwise);
    lua_pop(L, 1);
    return value;
}

/* The text stays in the table, which keeps it. */
static const char *get_text(lua_State *L, int table, const char *name, const char *otherwise)
{
    lua_getfield(L, table, name);
    const char *text = luaL_optstring(L, -1, otherwise);
    lua_pop(L, 1);
    return text;
}

static void set_integer(lua_State *L, const char *name, uint64_t value)
{
    lua_pushinteger(L, (lua_Integer)value);
    lua_setfield(L, -2, name);
}

static void set_bool(lua_State *L, const char *name, bool value)
{
    lua_pushboolean(L, value);
    lua_setfield(L, -2, name);
}

static void set_text(lua_State *L, const char *name, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

static void get_name(lua_State *L, int table, const char *name, const char *otherwise, char *out, size_t most)
{
    const char *text = get_text(L, table, name, otherwise);
    if (strlen(text) > most) luaL_error(L, "%s is too long", name);
    memcpy(out, text, strlen(text) + 1);
}

/* ---- core.disk(seed, faults) ---- */

static int disk_new(lua_State *L)
{
    struct sim_faults faults = {.disk_min_us = 100, .disk_max_us = 100};
    lua_Integer seed = luaL_optinteger(L, 1, 1);
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        faults.torn = (uint32_t)get_integer(L, 2, "torn", 0);
        faults.disk_min_us = (uint64_t)get_integer(L, 2, "disk_min_us", 100);
        faults.disk_max_us = (uint64_t)get_integer(L, 2, "disk_max_us", 100);
    }
    struct disk *d = lua_newuserdatauv(L, sizeof *d, 0);
    *d = (struct disk){0};
    luaL_setmetatable(L, DISK_CLASS);
    d->world = sim_world_new((uint64_t)seed, &faults);
    if (d->world == NULL) return luaL_error(L, "not enough memory");
    disk_start(d);
    return 1;
}

static int disk_run(lua_State *L)
{
    struct disk *d = to_disk(L);
    disk_arm(d);
    sim_world_run(d->world, (uint64_t)(luaL_checknumber(L, 2) * 1e6));
    return 0;
}

/* The next event only; false: there is none. */
static int disk_step(lua_State *L)
{
    struct disk *d = to_disk(L);
    disk_arm(d);
    lua_pushboolean(L, sim_world_step(d->world));
    return 1;
}

static int disk_crash(lua_State *L)
{
    crash(to_disk(L));
    return 0;
}

static int disk_files(lua_State *L)
{
    struct disk *d = to_disk(L);
    struct io_names names;
    struct err e;
    if (io_list(d->io, luaL_checkstring(L, 2), &names, &e) != OK) return lua_room_fail(L, &e);
    lua_createtable(L, (int)names.count, 0);
    for (size_t i = 0; i < names.count; i++) {
        lua_pushstring(L, names.names[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    io_names_free(&names);
    return 1;
}

static int disk_file(lua_State *L)
{
    size_t size = 0;
    const uint8_t *data = sim_world_file(to_disk(L)->world, NODE, luaL_checkstring(L, 2), &size);
    if (data == NULL) lua_pushnil(L);
    else lua_pushlstring(L, (const char *)data, size);
    return 1;
}

static int disk_put(lua_State *L)
{
    size_t size;
    const char *data = luaL_checklstring(L, 3, &size);
    lua_pushboolean(L, sim_world_put_file(to_disk(L)->world, NODE, luaL_checkstring(L, 2), data, size));
    return 1;
}

static int disk_fail(lua_State *L)
{
    static const char *const names[] = {"io", "full", NULL};
    static const int codes[] = {ERR_IO, ERR_FULL};
    int code = codes[luaL_checkoption(L, 3, "io", names)];
    sim_world_fail_file(to_disk(L)->world, NODE, (uint64_t)luaL_checkinteger(L, 2), code);
    return 0;
}

static int disk_die(lua_State *L)
{
    sim_world_die(to_disk(L)->world, NODE, (uint64_t)luaL_checkinteger(L, 2));
    return 0;
}

static int disk_fill(lua_State *L)
{
    sim_world_fill_disk(to_disk(L)->world, NODE, lua_toboolean(L, 2));
    return 0;
}

static int disk_stall(lua_State *L)
{
    sim_world_stall_disk(to_disk(L)->world, NODE, lua_toboolean(L, 2));
    return 0;
}

static int disk_operations(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)sim_world_file_ops(to_disk(L)->world, NODE));
    return 1;
}

/* ---- disk:open{ dir, segment_bytes, spares, seal_after, name, node, cluster, list } ---- */

static void get_config(lua_State *L, int table, struct store_config *c)
{
    *c = (struct store_config){
        .dir = get_text(L, table, "dir", "data"),
        .segment_bytes = (uint64_t)get_integer(L, table, "segment_bytes", STORE_SEGMENT_MIN),
        .spares = (uint32_t)get_integer(L, table, "spares", 2),
        .identity = {.node = (uint64_t)get_integer(L, table, "node", 1)},
    };
    lua_getfield(L, table, "seal_after");
    c->seal_after_us = (uint64_t)(luaL_optnumber(L, -1, 1000) * 1e6);
    lua_pop(L, 1);
    get_name(L, table, "name", "test", c->identity.name, STORE_NAME_MAX);
    get_name(L, table, "list", "1=a:1", c->identity.list, STORE_LIST_MAX);
    char cluster[sizeof c->identity.cluster + 1] = {0};
    get_name(L, table, "cluster", "c", cluster, sizeof c->identity.cluster);
    memcpy(c->identity.cluster, cluster, sizeof c->identity.cluster);
}

static int disk_open(lua_State *L)
{
    struct disk *d = to_disk(L);
    struct store_config config;
    struct err e;
    luaL_checktype(L, 2, LUA_TTABLE);
    get_config(L, 2, &config);
    struct log **slot = lua_newuserdatauv(L, sizeof *slot, 1);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    struct log *log = *slot = mem_zero(1, sizeof *log);
    if (log == NULL) {
        err_set(&e, ERR_NOMEM, "not enough memory");
        return lua_room_fail(L, &e);
    }
    luaL_setmetatable(L, LOG_CLASS);
    log->disk = d;
    log->next = d->logs;
    d->logs = log;
    if (store_open(&log->store, d->io, &config, &log_events, log, &log->recovered, &e) != OK) {
        return lua_room_fail(L, &e);
    }
    return 1;
}

static struct log *to_log(lua_State *L)
{
    return *(struct log **)luaL_checkudata(L, 1, LOG_CLASS);
}

static struct log *to_open_log(lua_State *L)
{
    struct log *log = to_log(L);
    luaL_argcheck(L, log->store != NULL && !log->closing, 1, "the log is closed");
    return log;
}

static int log_recovered(lua_State *L)
{
    const struct store_recovered *r = &to_log(L)->recovered;
    lua_newtable(L);
    set_bool(L, "created", r->created);
    set_integer(L, "epoch", r->epoch);
    set_integer(L, "term", r->term);
    set_integer(L, "vote", r->vote);
    set_integer(L, "first", r->first);
    set_integer(L, "last", r->last);
    set_integer(L, "torn_bytes", r->torn_bytes);
    set_integer(L, "node", r->identity.node);
    set_integer(L, "incarnation", r->identity.incarnation);
    set_text(L, "name", r->identity.name);
    set_text(L, "list", r->identity.list);
    lua_createtable(L, (int)r->n_runs, 0);
    for (size_t i = 0; i < r->n_runs; i++) {
        lua_newtable(L);
        set_integer(L, "start", r->runs[i].start);
        set_integer(L, "term", r->runs[i].term);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "runs");
    return 1;
}

/* ---- log:append{ seq, term, vote, truncate, first, entries = { { term, data }, ... } } ---- */

/* The entry in the table at the top. Lua's errors come before anything is allocated. */
static struct block *make_entry(lua_State *L, raft_index index)
{
    size_t size;
    luaL_checktype(L, -1, LUA_TTABLE);
    raft_term term = (raft_term)get_integer(L, -1, "term", 1);
    lua_getfield(L, -1, "data");
    const char *data = luaL_optlstring(L, -1, "", &size);
    lua_pop(L, 1);
    struct block *block = entry_new(RAFT_ENTRY_COMMAND, data, size);
    if (block != NULL) entry_stamp(block, index, term, 0);
    return block;
}

static void check_entries(lua_State *L, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        luaL_checktype(L, -1, LUA_TTABLE);
        get_integer(L, -1, "term", 1);
        luaL_argcheck(L, strlen(get_text(L, -1, "data", "")) <= ENTRY_PAYLOAD_MAX, 2, "an entry is too large");
        lua_pop(L, 1);
    }
}

static int log_append(lua_State *L)
{
    struct log *log = to_open_log(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    struct store_batch b = {
        .seq = (uint64_t)get_integer(L, 2, "seq", 0),
        .term = (raft_term)get_integer(L, 2, "term", 0),
        .vote = (raft_id)get_integer(L, 2, "vote", 0),
        .truncate_from = (raft_index)get_integer(L, 2, "truncate", 0),
        .first = (raft_index)get_integer(L, 2, "first", 0),
    };
    b.vote_changed = b.term != 0;
    lua_getfield(L, 2, "entries");
    b.n = lua_istable(L, -1) ? (size_t)lua_rawlen(L, -1) : 0;
    if (b.n > 0) check_entries(L, b.n);
    struct block **blocks = lua_newuserdatauv(L, (b.n + 1) * sizeof *blocks, 0);
    lua_insert(L, -2);
    int status = OK;
    size_t made = 0;
    for (; made < b.n && status == OK; made++) {
        lua_rawgeti(L, -1, (lua_Integer)made + 1);
        blocks[made] = make_entry(L, b.first + made);
        if (blocks[made] == NULL) status = ERR_NOMEM;
        lua_pop(L, 1);
    }
    b.blocks = blocks;
    if (status == OK) status = store_append(log->store, &b);
    for (size_t i = 0; i < made; i++) block_unref(blocks[i]);
    lua_pushstring(L, err_name(status));
    return 1;
}

/* ---- reading ---- */

/* log:start_read(first, last, max_bytes): a number for log:result. */
static int log_start_read(lua_State *L)
{
    struct log *log = to_open_log(L);
    raft_index first = (raft_index)luaL_checkinteger(L, 2), last = (raft_index)luaL_checkinteger(L, 3);
    lua_Integer most = luaL_optinteger(L, 4, 1 << 30);
    struct log_read *r = mem_zero(1, sizeof *r);
    if (r == NULL) return luaL_error(L, "not enough memory");
    r->read = (struct store_read){.first = first, .last = last, .max_bytes = (size_t)most, .done = on_read};
    r->id = ++log->next_read;
    if (store_read_range(log->store, &r->read) != OK) {
        mem_free(r);
        lua_pushnil(L);
        lua_pushliteral(L, "memory");
        return 2;
    }
    r->next = log->reads;
    log->reads = r;
    lua_pushinteger(L, r->id);
    return 1;
}

/* log:result(id): false while it runs; { { index, term, data }, ... }; nil, message, code. */
static int log_result(lua_State *L)
{
    struct log_read *r = to_log(L)->reads;
    while (r != NULL && r->id != luaL_checkinteger(L, 2)) r = r->next;
    luaL_argcheck(L, r != NULL, 2, "no such read");
    if (!r->done) {
        lua_pushboolean(L, false);
        return 1;
    }
    if (r->read.status != OK) return lua_room_fail(L, &r->read.error);
    lua_createtable(L, (int)r->read.n, 0);
    for (size_t i = 0; i < r->read.n; i++) {
        struct entry entry = entry_view(r->read.blocks[i]);
        lua_newtable(L);
        set_integer(L, "index", entry.index);
        set_integer(L, "term", entry.term);
        lua_pushlstring(L, (const char *)entry.payload, entry.payload_size);
        lua_setfield(L, -2, "data");
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* ---- the rest ---- */

static int log_persisted(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)to_log(L)->persisted);
    return 1;
}

/* nil, or the text of the failure. */
static int log_failed(lua_State *L)
{
    const struct log *log = to_log(L);
    if (log->failed) lua_pushstring(L, log->error.text);
    else lua_pushnil(L);
    return 1;
}

static int log_status(lua_State *L)
{
    const struct log *log = to_open_log(L);
    struct store_status status;
    store_status_get(log->store, &status);
    lua_newtable(L);
    set_integer(L, "bytes", status.bytes);
    set_integer(L, "segments", status.segments);
    set_integer(L, "spares", status.spares);
    set_integer(L, "writes", status.writes);
    set_integer(L, "write_us_last", status.write_us_last);
    set_integer(L, "first", status.first);
    set_integer(L, "durable_last", status.durable_last);
    set_bool(L, "failed", status.failed);
    set_bool(L, "has_room", status.has_room);
    set_bool(L, "writing", store_write_since(log->store) != 0);
    set_integer(L, "room_changes", log->room_changes);
    return 1;
}

static int log_release(lua_State *L)
{
    store_release(to_open_log(L)->store, (raft_index)luaL_checkinteger(L, 2));
    return 0;
}

static int log_peer(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)store_peer(to_open_log(L)->store, (uint64_t)luaL_checkinteger(L, 2)));
    return 1;
}

static int log_remember(lua_State *L)
{
    struct log *log = to_open_log(L);
    uint64_t node = (uint64_t)luaL_checkinteger(L, 2), incarnation = (uint64_t)luaL_checkinteger(L, 3);
    lua_pushstring(L, err_name(store_remember_peer(log->store, node, incarnation, (uint64_t)luaL_optinteger(L, 4, 1),
                                                      on_remembered, log)));
    return 1;
}

/* How many calls of remember are done, and how the last one ended. */
static int log_remembered(lua_State *L)
{
    const struct log *log = to_log(L);
    lua_pushinteger(L, log->remembered);
    lua_pushstring(L, err_name(log->remember_status));
    return 2;
}

static int log_close(lua_State *L)
{
    struct log *log = to_open_log(L);
    log->closing = true;
    store_close(log->store, on_closed, log);
    return 0;
}

static int log_closed(lua_State *L)
{
    lua_pushboolean(L, to_log(L)->closed);
    return 1;
}

static void add_class(lua_State *L, const char *name, const luaL_Reg *methods)
{
    luaL_newmetatable(L, name);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    luaL_setfuncs(L, methods, 0);
    lua_pop(L, 1);
}

void lua_store_open(lua_State *L)
{
    static const luaL_Reg disk_methods[] = {
        {"__gc", disk_gc},       {"run", disk_run},     {"step", disk_step},   {"crash", disk_crash},
        {"files", disk_files},   {"file", disk_file},   {"put", disk_put},     {"fail", disk_fail},
        {"die", disk_die},       {"fill", disk_fill},   {"stall", disk_stall}, {"operations", disk_operations},
        {"open", disk_open},     {NULL, NULL},
    };
    static const luaL_Reg log_methods[] = {
        {"recovered", log_recovered}, {"append", log_append},   {"start_read", log_start_read},
        {"result", log_result},       {"persisted", log_persisted}, {"failed", log_failed},
        {"status", log_status},       {"release", log_release}, {"peer", log_peer},
        {"remember", log_remember},   {"remembered", log_remembered}, {"close", log_close},
        {"closed", log_closed},       {NULL, NULL},
    };
    add_class(L, DISK_CLASS, disk_methods);
    add_class(L, LOG_CLASS, log_methods);
    lua_pushcfunction(L, disk_new);
    lua_setfield(L, -2, "disk");
}
