/* core.disk: a simulated disk, and logs on it, for specs. Everything happens in simulated time: disk:run(seconds).
 * The disk owns its logs and their reads; a log's userdata keeps the disk alive. */
#include "base/mem.h"
#include "lua/lua_room.h"
#include "sim/sim_world.h"
#include "store/snapshot.h"
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

/* A snapshot coming in, or a read of a view. Both stay until the disk goes. */
struct log_incoming {
    struct log_incoming *next;
    lua_Integer id;
    struct store_incoming *in; /* NULL: ended, dropped, or lost in a crash */
    bool ended;
    uint32_t written; /* calls of written() */
    int status;
    struct err error;
};

struct log_part {
    struct log_part *next;
    lua_Integer id;
    struct store_view_read read;
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
    struct log_incoming *incoming;
    struct log_part *parts;
    struct store_view *view;
    uint32_t progress; /* calls of it while opening */
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
    while (log->incoming != NULL) {
        struct log_incoming *in = log->incoming;
        log->incoming = in->next;
        mem_free(in);
    }
    while (log->parts != NULL) {
        struct log_part *part = log->parts;
        log->parts = part->next;
        buf_free(&part->read.bytes);
        mem_free(part);
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
        log->view = NULL;
        for (struct log_incoming *in = log->incoming; in != NULL; in = in->next) in->in = NULL;
    }
    disk_start(d);
}

static struct disk *to_disk(lua_State *L)
{
    return luaL_checkudata(L, 1, DISK_CLASS);
}

struct io *lua_store_io(lua_State *L, int index)
{
    return ((struct disk *)luaL_checkudata(L, index, DISK_CLASS))->io;
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
    lua_getfield(L, table, "rejoin");
    c->rejoin = lua_toboolean(L, -1);
    lua_pop(L, 1);
    get_name(L, table, "name", "test", c->identity.name, STORE_NAME_MAX);
    get_name(L, table, "list", "1=a:1", c->identity.list, STORE_LIST_MAX);
    char cluster[sizeof c->identity.cluster + 1] = {0};
    get_name(L, table, "cluster", "c", cluster, sizeof c->identity.cluster);
    memcpy(c->identity.cluster, cluster, sizeof c->identity.cluster);
}

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct log *log = ctx;
    ASSERT(done <= total);
    log->progress++;
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
    config.progress = on_progress;
    config.progress_ctx = log;
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

static void push_snapshot(lua_State *L, const struct store_snapshot *what)
{
    lua_newtable(L);
    set_integer(L, "index", what->index);
    set_integer(L, "term", what->term);
    set_integer(L, "time", what->time_us);
    set_integer(L, "version", what->version);
    set_integer(L, "id", what->id);
    set_integer(L, "size", what->size);
}

static void set_confs(lua_State *L, const struct store_recovered *r)
{
    lua_createtable(L, (int)r->n_confs, 0);
    for (size_t i = 0; i < r->n_confs; i++) {
        struct entry entry = entry_view(r->confs[i]);
        lua_newtable(L);
        set_integer(L, "index", entry.index);
        lua_pushlstring(L, (const char *)entry.payload, entry.payload_size);
        lua_setfield(L, -2, "data");
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "confs");
}

static int log_recovered(lua_State *L)
{
    const struct log *log = to_log(L);
    const struct store_recovered *r = &log->recovered;
    lua_newtable(L);
    push_snapshot(L, &r->snapshot);
    lua_setfield(L, -2, "snapshot");
    set_confs(L, r);
    set_integer(L, "progress", log->progress);
    lua_newtable(L);
    for (lua_Integer i = 0; i < (lua_Integer)STORE_LIVES && r->lives_before[i] != 0; i++) {
        lua_pushinteger(L, (lua_Integer)r->lives_before[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "lives_before");
    set_bool(L, "rejoining", r->rejoining);
    set_text(L, "set_aside", r->set_aside);
    set_text(L, "damaged", r->damaged);
    set_integer(L, "before", r->before);
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
    uint8_t type = (uint8_t)get_integer(L, -1, "type", RAFT_ENTRY_COMMAND);
    struct block *block = entry_new(type, data, size);
    if (block != NULL) entry_stamp(block, index, term, 0);
    return block;
}

static void check_entries(lua_State *L, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        luaL_checktype(L, -1, LUA_TTABLE);
        get_integer(L, -1, "term", 1);
        lua_Integer type = get_integer(L, -1, "type", RAFT_ENTRY_COMMAND);
        luaL_argcheck(L, type > 0 && type < RAFT_ENTRY_TYPES, 2, "no such type of entry");
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
        .reset = (raft_index)get_integer(L, 2, "reset", 0),
        .reset_term = (raft_term)get_integer(L, 2, "reset_term", 0),
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
    set_integer(L, "write_us_p99", status.write_us_p99);
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
    lua_pushinteger(L, (lua_Integer)store_release(to_open_log(L)->store, (raft_index)luaL_checkinteger(L, 2)));
    return 1;
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

/* log:judge(node, incarnation, epoch, { lives before, newest first }) */
static int log_judge(lua_State *L)
{
    static const char *const names[] = {"new", "known", "later", "rolled back", "replaced"};
    uint64_t before[STORE_LIVES] = {0};
    luaL_checktype(L, 5, LUA_TTABLE);
    for (lua_Integer i = 0; i < (lua_Integer)STORE_LIVES; i++) {
        lua_rawgeti(L, 5, i + 1);
        before[i] = (uint64_t)luaL_optinteger(L, -1, 0);
        lua_pop(L, 1);
    }
    enum store_peer_verdict verdict =
        store_peer_judge(to_open_log(L)->store, (uint64_t)luaL_checkinteger(L, 2), (uint64_t)luaL_checkinteger(L, 3),
                         (uint64_t)luaL_checkinteger(L, 4), before);
    lua_pushstring(L, names[verdict]);
    return 1;
}

/* As log:remember, log:remembered tells of its end. */
static int log_rejoin(lua_State *L)
{
    struct log *log = to_open_log(L);
    luaL_argcheck(L, !log->recovered.rejoining, 1, "it is rejoining");
    store_rejoin(log->store, on_remembered, log);
    return 0;
}

/* Likewise. */
static int log_rejoined(lua_State *L)
{
    struct log *log = to_open_log(L);
    luaL_argcheck(L, log->recovered.rejoining, 1, "it is not rejoining");
    store_rejoined(log->store, on_remembered, log);
    return 0;
}

/* ---- snapshots ---- */

static void get_snapshot(lua_State *L, int table, struct store_snapshot *what)
{
    *what = (struct store_snapshot){
        .index = (raft_index)get_integer(L, table, "index", 1),
        .term = (raft_term)get_integer(L, table, "term", 1),
        .time_us = (uint64_t)get_integer(L, table, "time", 0),
        .version = (uint64_t)get_integer(L, table, "version", 0),
        .id = (uint64_t)get_integer(L, table, "id", 1),
        .size = (uint64_t)get_integer(L, table, "size", 0),
    };
}

struct lua_sink {
    struct io_sink sink;
    lua_State *L;
    luaL_Buffer buffer;
    lua_Integer left; /* puts that succeed */
};

static int sink_put(struct io_sink *sink, const void *data, size_t size, struct err *e)
{
    struct lua_sink *s = CONTAINER_OF(sink, struct lua_sink, sink);
    if (s->left-- == 0) return err_set(e, ERR_FULL, "the sink is full");
    luaL_addlstring(&s->buffer, data, size);
    return OK;
}

/* core.snapshot{ index, term, time, version, id, cluster, puts, { kind, data }, ... } -> the bytes of its file; puts:
 * so many succeed. piece: each record's bytes come in pieces of so many. */
static int snapshot_make(lua_State *L)
{
    struct store_snapshot what;
    char cluster[17] = {0};
    uint64_t size;
    luaL_checktype(L, 1, LUA_TTABLE);
    get_snapshot(L, 1, &what);
    get_name(L, 1, "cluster", "c", cluster, 16);
    lua_Integer n = (lua_Integer)lua_rawlen(L, 1), piece = get_integer(L, 1, "piece", SNAPSHOT_RECORD_MAX);
    struct snapshot_writer *w = lua_newuserdatauv(L, sizeof *w, 0);
    struct lua_sink sink = {.sink.put = sink_put, .L = L, .left = get_integer(L, 1, "puts", -1)};
    luaL_buffinit(L, &sink.buffer);
    snapshot_write_begin(w, &sink.sink, (const uint8_t *)cluster, &what);
    for (lua_Integer i = 1; i <= n; i++) {
        size_t left;
        lua_rawgeti(L, 1, i);
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        uint8_t kind = (uint8_t)lua_tointeger(L, -2);
        const char *data = lua_tolstring(L, -1, &left);
        lua_pop(L, 3); /* the table keeps it; the buffer needs its own on top */
        snapshot_write_record_begin(w, kind, left);
        for (size_t some; left > 0; data += some, left -= some) {
            some = MIN((size_t)piece, left);
            snapshot_write_record_bytes(w, data, some);
        }
    }
    snapshot_write_end(w, &size);
    luaL_pushresult(&sink.buffer);
    if (w->status != OK) return lua_room_fail(L, &w->error);
    luaL_argcheck(L, size == lua_rawlen(L, -1), 1, "the writer has lost count");
    return 1;
}

/* core.snapshot_records(bytes) -> { { kind, data }, ... }; nil when they are not whole */
static int snapshot_records(lua_State *L)
{
    struct reader r = {0};
    uint8_t kind;
    const uint8_t *data;
    uint32_t size;
    r.data = (const uint8_t *)luaL_checklstring(L, 1, &r.size);
    lua_newtable(L);
    for (lua_Integer i = 1; snapshot_record_next(&r, &kind, &data, &size); i++) {
        lua_createtable(L, 2, 0);
        lua_pushinteger(L, kind);
        lua_rawseti(L, -2, 1);
        lua_pushlstring(L, (const char *)data, size);
        lua_rawseti(L, -2, 2);
        lua_rawseti(L, -2, i);
    }
    if (r.bad) lua_pushnil(L);
    return 1;
}

static void on_incoming_written(void *ctx)
{
    ((struct log_incoming *)ctx)->written++;
}

static void on_incoming_ended(void *ctx, int status, const struct err *e)
{
    struct log_incoming *in = ctx;
    ASSERT(!in->ended && in->in != NULL);
    in->ended = true;
    in->in = NULL;
    in->status = status;
    if (status != OK) in->error = *e;
}

/* log:incoming{ index, term, id, size } -> a number for the functions below; nil, "memory" */
static int log_incoming(lua_State *L)
{
    static const struct store_incoming_events incoming_events = {on_incoming_written, on_incoming_ended};
    struct log *log = to_open_log(L);
    struct store_snapshot what;
    luaL_checktype(L, 2, LUA_TTABLE);
    get_snapshot(L, 2, &what);
    struct log_incoming *in = mem_zero(1, sizeof *in);
    if (in != NULL) in->in = store_incoming_new(log->store, &what, &incoming_events, in);
    if (in == NULL || in->in == NULL) {
        mem_free(in);
        lua_pushnil(L);
        lua_pushliteral(L, "memory");
        return 2;
    }
    in->id = ++log->next_read;
    in->next = log->incoming;
    log->incoming = in;
    lua_pushinteger(L, in->id);
    return 1;
}

static struct log_incoming *to_incoming(lua_State *L)
{
    struct log_incoming *in = to_log(L)->incoming;
    while (in != NULL && in->id != luaL_checkinteger(L, 2)) in = in->next;
    luaL_argcheck(L, in != NULL, 2, "no such incoming");
    return in;
}

static struct store_incoming *to_open_incoming(lua_State *L)
{
    struct log_incoming *in = to_incoming(L);
    luaL_argcheck(L, in->in != NULL, 2, "it has ended");
    return in->in;
}

/* log:incoming_write(id, bytes) -> status */
static int log_incoming_write(lua_State *L)
{
    struct store_incoming *in = to_open_incoming(L);
    size_t size;
    const char *data = luaL_checklstring(L, 3, &size);
    lua_pushstring(L, err_name(store_incoming_write(in, data, size, NULL)));
    return 1;
}

static int log_incoming_publish(lua_State *L)
{
    store_incoming_publish(to_open_incoming(L));
    return 0;
}

static int log_incoming_drop(lua_State *L)
{
    struct log_incoming *in = to_incoming(L);
    store_incoming_drop(to_open_incoming(L));
    in->in = NULL;
    return 0;
}

/* log:incoming_state(id) -> { size, queued, path, written } */
static int log_incoming_state(lua_State *L)
{
    const struct log_incoming *in = to_incoming(L);
    const struct store_incoming *open = to_open_incoming(L);
    lua_newtable(L);
    set_integer(L, "size", store_incoming_size(open));
    set_integer(L, "queued", store_incoming_queued(open));
    set_integer(L, "written", in->written);
    set_text(L, "path", store_incoming_path(open));
    return 1;
}

/* log:incoming_is(id, what) */
static int log_incoming_is(lua_State *L)
{
    struct store_snapshot what;
    luaL_checktype(L, 3, LUA_TTABLE);
    get_snapshot(L, 3, &what);
    lua_pushboolean(L, store_incoming_is(to_open_incoming(L), &what));
    return 1;
}

/* log:ended(id): false while it is on its way; true; nil, message, code. */
static int log_ended(lua_State *L)
{
    const struct log_incoming *in = to_incoming(L);
    if (in->ended && in->status != OK) return lua_room_fail(L, &in->error);
    lua_pushboolean(L, in->ended);
    return 1;
}

/* log:snapshot() -> the newest */
static int log_snapshot(lua_State *L)
{
    struct store_snapshot what = store_snapshot(to_open_log(L)->store);
    push_snapshot(L, &what);
    return 1;
}

/* log:view() -> what it is of; nil */
static int log_view(lua_State *L)
{
    struct log *log = to_open_log(L);
    luaL_argcheck(L, log->view == NULL, 1, "there is a view already");
    log->view = store_view_open(log->store);
    if (log->view == NULL) return 0;
    push_snapshot(L, store_view_what(log->view));
    return 1;
}

static struct log *to_viewing(lua_State *L)
{
    struct log *log = to_open_log(L);
    luaL_argcheck(L, log->view != NULL, 1, "there is no view");
    return log;
}

static int log_view_close(lua_State *L)
{
    struct log *log = to_viewing(L);
    store_view_close(log->view);
    log->view = NULL;
    return 0;
}

static void on_part(struct store_view_read *read)
{
    CONTAINER_OF(read, struct log_part, read)->done = true;
}

static struct log_part *new_part(lua_State *L, struct log *log)
{
    struct log_part *part = mem_zero(1, sizeof *part);
    if (part == NULL) luaL_error(L, "not enough memory");
    part->id = ++log->next_read;
    part->read.done = on_part;
    part->next = log->parts;
    log->parts = part;
    lua_pushinteger(L, part->id);
    return part;
}

/* log:view_bytes(offset, max), log:view_records(max): a number for log:part. */
static int log_view_bytes(lua_State *L)
{
    struct log *log = to_viewing(L);
    uint64_t offset = (uint64_t)luaL_checkinteger(L, 2);
    size_t most = (size_t)luaL_checkinteger(L, 3);
    struct log_part *part = new_part(L, log);
    part->read.offset = offset;
    part->read.max_bytes = most;
    store_view_bytes(log->view, &part->read);
    return 1;
}

static int log_view_records(lua_State *L)
{
    struct log *log = to_viewing(L);
    size_t most = (size_t)luaL_checkinteger(L, 2);
    struct log_part *part = new_part(L, log);
    part->read.max_bytes = most;
    store_view_records(log->view, &part->read);
    return 1;
}

/* log:part(id): false while it runs; bytes; nil, message, code. */
static int log_part(lua_State *L)
{
    struct log_part *part = to_log(L)->parts;
    while (part != NULL && part->id != luaL_checkinteger(L, 2)) part = part->next;
    luaL_argcheck(L, part != NULL, 2, "no such part");
    if (part->done && part->read.status != OK) return lua_room_fail(L, &part->read.error);
    if (part->done) lua_pushlstring(L, (const char *)part->read.bytes.data, part->read.bytes.size);
    else lua_pushboolean(L, false);
    return 1;
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
        {"closed", log_closed},       {"judge", log_judge},     {"rejoined", log_rejoined},
        {"rejoin", log_rejoin},
        {"incoming", log_incoming},   {"incoming_write", log_incoming_write},
        {"incoming_publish", log_incoming_publish}, {"incoming_drop", log_incoming_drop},
        {"incoming_state", log_incoming_state}, {"incoming_is", log_incoming_is}, {"ended", log_ended},
        {"snapshot", log_snapshot},   {"view", log_view},       {"view_close", log_view_close},
        {"view_bytes", log_view_bytes}, {"view_records", log_view_records}, {"part", log_part},
        {NULL, NULL},
    };
    add_class(L, DISK_CLASS, disk_methods);
    add_class(L, LOG_CLASS, log_methods);
    lua_pushcfunction(L, disk_new);
    lua_setfield(L, -2, "disk");
    lua_pushcfunction(L, snapshot_make);
    lua_setfield(L, -2, "snapshot");
    lua_pushcfunction(L, snapshot_records);
    lua_setfield(L, -2, "snapshot_records");
}
