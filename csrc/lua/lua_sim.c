#include <stdio.h>

#include "base/mem.h"
#include "lua/lua_room.h"
#include "sim/sim_check.h"
#include "sim/sim_scenario.h"
#include "sim/sim_world.h"

#define WORLD_CLASS "raft.core.sim_world"
#define CHECK_CLASS "raft.core.sim_check"

/* ---- options ---- */

static lua_Integer field_integer(lua_State *L, int table, const char *name, lua_Integer or, lua_Integer min,
                                 lua_Integer max)
{
    lua_getfield(L, table, name);
    int is_integer = 1;
    lua_Integer value = lua_isnil(L, -1) ? or : lua_tointegerx(L, -1, &is_integer);
    if (!is_integer || value < min || value > max) {
        luaL_error(L, "%s: an integer from %I to %I expected", name, min, max);
    }
    lua_pop(L, 1);
    return value;
}

/* true or nil: all but lies; false: none; a list of names: these. */
static unsigned field_faults(lua_State *L, int table)
{
    static const char *const names[] = {"network", "partitions", "crashes", "disks", "hosts", "lies", NULL};
    unsigned faults = 0;
    int type = lua_getfield(L, table, "faults");
    if (type == LUA_TNIL || (type == LUA_TBOOLEAN && lua_toboolean(L, -1))) {
        faults = SIM_ALL;
    } else if (type == LUA_TTABLE) {
        lua_Integer count = luaL_len(L, -1);
        for (lua_Integer i = 1; i <= count; i++) {
            lua_rawgeti(L, -1, i);
            faults |= 1u << luaL_checkoption(L, -1, NULL, names);
            lua_pop(L, 1);
        }
    } else if (type != LUA_TBOOLEAN) {
        luaL_error(L, "faults: true, false or a list of names expected");
    }
    lua_pop(L, 1);
    return faults;
}

static void set_integer(lua_State *L, const char *name, uint64_t value)
{
    lua_pushinteger(L, (lua_Integer)value);
    lua_setfield(L, -2, name);
}

static void set_seconds(lua_State *L, const char *name, uint64_t us)
{
    lua_pushnumber(L, (lua_Number)us / 1e6);
    lua_setfield(L, -2, name);
}

/* core.sim{ seed=, nodes=, seconds=, faults=, clients= } -> report: one scenario of a simulated cluster. */
static int l_sim(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct sim_options options = {
        .seed = (uint64_t)field_integer(L, 1, "seed", 1, LUA_MININTEGER, LUA_MAXINTEGER),
        .nodes = (int)field_integer(L, 1, "nodes", 3, 1, SIM_NODES_MAX),
        .clients = (int)field_integer(L, 1, "clients", 3, 1, SIM_CLIENTS_MAX),
        .seconds = (uint64_t)field_integer(L, 1, "seconds", 20, 0, 1000000),
        .faults = field_faults(L, 1),
    };
    struct sim_report report;
    if (sim_scenario_run(&options, &report) != OK) return luaL_error(L, "not enough memory");
    lua_createtable(L, 0, 9);
    lua_pushboolean(L, report.ok);
    lua_setfield(L, -2, "ok");
    if (!report.ok) {
        lua_pushstring(L, report.failure);
        lua_setfield(L, -2, "failure");
    }
    set_integer(L, "hash", report.hash);
    set_integer(L, "events", report.events);
    set_integer(L, "commands", report.commands);
    set_integer(L, "elections", report.elections);
    set_integer(L, "crashes", report.crashes);
    set_seconds(L, "simulated", report.simulated_us);
    set_seconds(L, "recovery", report.recovery_us);
    return 1;
}

/* ---- the checker, fed by hand ---- */

static struct sim_check *check_arg(lua_State *L)
{
    return *(struct sim_check **)luaL_checkudata(L, 1, CHECK_CLASS);
}

static uint64_t number_arg(lua_State *L, int arg)
{
    return (uint64_t)luaL_checkinteger(L, arg);
}

static int node_arg(lua_State *L)
{
    lua_Integer node = luaL_checkinteger(L, 2);
    luaL_argcheck(L, node >= 1 && node <= 3, 2, "a node from 1 to 3 expected");
    return (int)node;
}

/* core.sim_check() -> checker of a cluster of three */
static int l_check_new(lua_State *L)
{
    struct sim_check **c = lua_newuserdatauv(L, sizeof(*c), 0);
    *c = NULL;
    luaL_setmetatable(L, CHECK_CLASS);
    *c = sim_check_new(3);
    return *c == NULL ? luaL_error(L, "not enough memory") : 1;
}

static int l_check_free(lua_State *L)
{
    struct sim_check **c = luaL_checkudata(L, 1, CHECK_CLASS);
    sim_check_free(*c);
    *c = NULL;
    return 0;
}

/* check:failure() -> text or nil */
static int l_check_failure(lua_State *L)
{
    lua_pushstring(L, sim_check_failure(check_arg(L)));
    return 1;
}

/* check:term(node, term, vote, durable) */
static int l_check_term(lua_State *L)
{
    sim_check_term(check_arg(L), node_arg(L), number_arg(L, 3), number_arg(L, 4), number_arg(L, 5));
    return 0;
}

static int l_check_leader(lua_State *L)
{
    sim_check_leader(check_arg(L), node_arg(L), number_arg(L, 3));
    return 0;
}

static int l_check_truncate(lua_State *L)
{
    struct sim_check *c = check_arg(L);
    luaL_argcheck(L, number_arg(L, 3) <= sim_check_last(c, node_arg(L)), 3, "beyond the log");
    sim_check_truncate(c, node_arg(L), number_arg(L, 3));
    return 0;
}

/* check:append(node, term, hash) */
static int l_check_append(lua_State *L)
{
    sim_check_append(check_arg(L), node_arg(L), number_arg(L, 3), number_arg(L, 4));
    return 0;
}

static int l_check_stable(lua_State *L)
{
    sim_check_stable(check_arg(L), node_arg(L), number_arg(L, 3));
    return 0;
}

static int l_check_commit(lua_State *L)
{
    sim_check_commit(check_arg(L), node_arg(L), number_arg(L, 3));
    return 0;
}

/* check:says(node, term, durable) */
static int l_check_says(lua_State *L)
{
    sim_check_says(check_arg(L), node_arg(L), number_arg(L, 3), number_arg(L, 4));
    return 0;
}

/* check:says_stored(node, index, stable) */
static int l_check_says_stored(lua_State *L)
{
    sim_check_says_stored(check_arg(L), node_arg(L), number_arg(L, 3), number_arg(L, 4));
    return 0;
}

/* check:says_vote(node, term, candidate) */
static int l_check_says_vote(lua_State *L)
{
    sim_check_says_vote(check_arg(L), node_arg(L), number_arg(L, 3), number_arg(L, 4));
    return 0;
}

static int l_check_crash(lua_State *L)
{
    sim_check_crash(check_arg(L), node_arg(L));
    return 0;
}

/* check:recover(node, term, vote, { terms }) */
static int l_check_recover(lua_State *L)
{
    raft_term terms[64];
    lua_Integer last = luaL_len(L, 5);
    luaL_argcheck(L, last <= (lua_Integer)COUNT_OF(terms), 5, "at most 64 terms");
    for (lua_Integer i = 1; i <= last; i++) {
        lua_rawgeti(L, 5, i);
        terms[i - 1] = number_arg(L, -1);
        lua_pop(L, 1);
    }
    sim_check_recover(check_arg(L), node_arg(L), number_arg(L, 3), number_arg(L, 4), terms, (raft_index)last);
    return 0;
}

/* check:apply(node, index, value, time) */
static int l_check_apply(lua_State *L)
{
    sim_check_apply(check_arg(L), node_arg(L), number_arg(L, 3), number_arg(L, 4), number_arg(L, 5));
    return 0;
}

/* check:acknowledge(node, index, value) */
static int l_check_acknowledge(lua_State *L)
{
    sim_check_acknowledge(check_arg(L), node_arg(L), number_arg(L, 3), number_arg(L, 4));
    return 0;
}

static int l_check_refuse(lua_State *L)
{
    sim_check_refuse(check_arg(L), node_arg(L), number_arg(L, 3));
    return 0;
}

/* check:barrier(node, began) */
static int l_check_barrier(lua_State *L)
{
    sim_check_barrier(check_arg(L), node_arg(L), number_arg(L, 3));
    return 0;
}

static int l_check_finish(lua_State *L)
{
    sim_check_end(check_arg(L));
    return 0;
}

static void check_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"failure", l_check_failure}, {"term", l_check_term},         {"leader", l_check_leader},
        {"truncate", l_check_truncate}, {"append", l_check_append},   {"stable", l_check_stable},
        {"commit", l_check_commit},   {"crash", l_check_crash},       {"recover", l_check_recover},
        {"apply", l_check_apply},     {"acknowledge", l_check_acknowledge}, {"refuse", l_check_refuse},
        {"barrier", l_check_barrier}, {"finish", l_check_finish},     {"says", l_check_says},
        {"says_stored", l_check_says_stored}, {"says_vote", l_check_says_vote}, {NULL, NULL},
    };
    if (luaL_newmetatable(L, CHECK_CLASS)) {
        luaL_newlib(L, methods);
        lua_setfield(L, -2, "__index");
        lua_pushcfunction(L, l_check_free);
        lua_setfield(L, -2, "__gc");
    }
    lua_pop(L, 1);
    lua_pushcfunction(L, l_check_new);
    lua_setfield(L, -2, "sim_check");
}

/* ---- the world, without a node in it ---- */

struct world_link {
    struct io_link *link; /* NULL = gone */
    struct lua_world *world;
    int node, id;
};

/* What stands for the engine of one node. */
struct world_engine {
    struct lua_world *world;
    struct io *io;
    int node;
};

struct lua_world {
    struct sim_world *sim;
    struct world_engine engines[SIM_NODES_MAX];
    struct world_link **links;
    size_t n_links, links_capacity;
    struct buf log; /* lines */
    int jobs;
};

/* A durable write on a lane. */
struct world_write {
    struct io_job job;
    struct world_engine *engine;
    int number, code;
    uint64_t at;
    struct buf bytes;
    char *path;
};

static void world_log(struct world_engine *engine, const char *what, int number, const void *data, size_t size)
{
    char head[64];
    int used = snprintf(head, sizeof(head), "%d %s %d ", engine->node, what, number);
    struct buf *log = &engine->world->log;
    bool logged = buf_append(log, head, (size_t)used) && (size == 0 || buf_append(log, data, size)) &&
                  buf_append(log, "\n", 1);
    ASSERT(logged);
}

static void log_text(struct world_engine *engine, const char *what, int number, const char *text)
{
    world_log(engine, what, number, text, strlen(text));
}

static struct world_link *link_add(struct world_engine *engine, struct io_link *link)
{
    struct lua_world *w = engine->world;
    struct world_link *known = mem_zero(1, sizeof(*known));
    void *links = w->links;
    bool grown = mem_grow(&links, &w->links_capacity, w->n_links + 1, sizeof(known));
    ASSERT(known != NULL && grown);
    w->links = links;
    w->links[w->n_links++] = known;
    *known = (struct world_link){.link = link, .world = w, .node = engine->node, .id = (int)w->n_links};
    link->user = known;
    return known;
}

static void on_alarm(void *engine)
{
    log_text(engine, "alarm", 0, "");
}

static void on_woken(void *engine)
{
    log_text(engine, "woken", 0, "");
}

static void on_accepted(void *engine, struct io_link *link)
{
    log_text(engine, "accepted", link_add(engine, link)->id, "");
}

static void on_connected(void *engine, struct io_link *link)
{
    log_text(engine, "connected", ((struct world_link *)link->user)->id, "");
}

static void on_received(void *engine, struct io_link *link, const uint8_t *data, size_t size)
{
    world_log(engine, "received", ((struct world_link *)link->user)->id, data, size);
}

static void on_closed(void *engine, struct io_link *link, enum io_close reason)
{
    struct world_link *known = link->user;
    known->link = NULL;
    log_text(engine, "closed", known->id, io_close_name(reason));
}

static void on_notify(void *engine)
{
    log_text(engine, "notified", 0, "");
}

static const struct io_events world_events = {
    .alarm = on_alarm, .woken = on_woken, .accepted = on_accepted,
    .connected = on_connected, .received = on_received, .closed = on_closed,
};

static void world_enter(struct world_engine *engine)
{
    engine->io = sim_world_io(engine->world->sim, engine->node, on_notify, engine);
    engine->io->events = &world_events;
    engine->io->engine = engine;
}

/* core.sim_world(seed [, faults]) */
static int l_world_new(lua_State *L)
{
    static const char *const rates[] = {"frame_lost", "frame_doubled", "frame_late", "link_broken", "connect_failed",
                                        "torn"};
    struct sim_faults faults = {.network_min_us = 100, .network_max_us = 1000, .disk_min_us = 50, .disk_max_us = 500};
    uint32_t *const dials[] = {&faults.frame_lost, &faults.frame_doubled, &faults.frame_late, &faults.link_broken,
                               &faults.connect_failed, &faults.torn};
    uint64_t seed = number_arg(L, 1);
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        for (size_t i = 0; i < COUNT_OF(rates); i++) *dials[i] = (uint32_t)field_integer(L, 2, rates[i], 0, 0, 1000);
    }
    struct lua_world *w = lua_newuserdatauv(L, sizeof(*w), 0);
    memset(w, 0, sizeof(*w));
    luaL_setmetatable(L, WORLD_CLASS);
    w->sim = sim_world_new(seed, &faults);
    if (w->sim == NULL) return luaL_error(L, "not enough memory");
    for (int i = 0; i < SIM_NODES_MAX; i++) {
        w->engines[i] = (struct world_engine){.world = w, .node = i + 1};
        world_enter(&w->engines[i]);
    }
    return 1;
}

static void write_free(struct io_job *job)
{
    struct world_write *write = CONTAINER_OF(job, struct world_write, job);
    buf_free(&write->bytes);
    mem_free(write->path);
    mem_free(write);
}

static int l_world_free(lua_State *L)
{
    struct lua_world *w = luaL_checkudata(L, 1, WORLD_CLASS);
    for (int node = 1; node <= SIM_NODES_MAX && w->sim != NULL; node++) sim_world_crash(w->sim, node, write_free);
    sim_world_free(w->sim);
    for (size_t i = 0; i < w->n_links; i++) mem_free(w->links[i]);
    mem_free(w->links);
    buf_free(&w->log);
    memset(w, 0, sizeof(*w));
    return 0;
}

static struct lua_world *world_arg(lua_State *L)
{
    struct lua_world *w = luaL_checkudata(L, 1, WORLD_CLASS);
    luaL_argcheck(L, w->sim != NULL, 1, "the world is gone");
    return w;
}

static struct world_engine *engine_arg(lua_State *L)
{
    struct lua_world *w = world_arg(L);
    lua_Integer node = luaL_checkinteger(L, 2);
    luaL_argcheck(L, node >= 1 && node <= SIM_NODES_MAX, 2, "no such node");
    return &w->engines[node - 1];
}

static int world_result(lua_State *L, int code, const struct err *e)
{
    if (code != OK) return lua_room_fail(L, e);
    lua_pushboolean(L, 1);
    return 1;
}

/* world:step() -> whether there was an event */
static int l_world_step(lua_State *L)
{
    lua_pushboolean(L, sim_world_step(world_arg(L)->sim));
    return 1;
}

/* world:run(us) */
static int l_world_run(lua_State *L)
{
    sim_world_run(world_arg(L)->sim, number_arg(L, 2));
    return 0;
}

static int l_world_now(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)sim_world_now(world_arg(L)->sim));
    return 1;
}

static int l_world_hash(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)sim_world_hash(world_arg(L)->sim));
    return 1;
}

/* world:log() -> the lines since the last call, as one text */
static int l_world_log(lua_State *L)
{
    struct buf *log = &world_arg(L)->log;
    lua_pushlstring(L, (const char *)log->data, log->size);
    buf_free(log);
    return 1;
}

/* ---- files: at once, as while a node starts ---- */

/* world:create(node, path, size): a new file of zeroes */
static int l_world_create(lua_State *L)
{
    struct io *io = engine_arg(L)->io;
    struct io_file *file;
    struct err e;
    int code = io_open(io, luaL_checkstring(L, 3), IO_OPEN_WRITE | IO_OPEN_CREATE, &file, &e);
    if (code != OK) return lua_room_fail(L, &e);
    code = io_fill(io, file, number_arg(L, 4), &e);
    io_close(io, file);
    return world_result(L, code, &e);
}

/* world:read(node, path) -> bytes */
static int l_world_read(lua_State *L)
{
    struct io *io = engine_arg(L)->io;
    struct io_file *file;
    struct err e;
    uint64_t size = 0;
    size_t got = 0;
    int code = io_open(io, luaL_checkstring(L, 3), 0, &file, &e);
    if (code != OK) return lua_room_fail(L, &e);
    code = io_size(io, file, &size, &e);
    luaL_Buffer b;
    char *room = luaL_buffinitsize(L, &b, size);
    if (code == OK) code = io_read(io, file, 0, room, size, &got, &e);
    io_close(io, file);
    luaL_pushresultsize(&b, got);
    return code == OK ? 1 : lua_room_fail(L, &e);
}

static int l_world_rename(lua_State *L)
{
    struct err e;
    int code = io_rename(engine_arg(L)->io, luaL_checkstring(L, 3), luaL_checkstring(L, 4), &e);
    return world_result(L, code, &e);
}

static int l_world_remove(lua_State *L)
{
    struct err e;
    return world_result(L, io_remove(engine_arg(L)->io, luaL_checkstring(L, 3), &e), &e);
}

static int l_world_make_dir(lua_State *L)
{
    struct err e;
    return world_result(L, io_make_dir(engine_arg(L)->io, luaL_checkstring(L, 3), &e), &e);
}

static int l_world_sync_dir(lua_State *L)
{
    struct err e;
    return world_result(L, io_sync_dir(engine_arg(L)->io, luaL_checkstring(L, 3), &e), &e);
}

/* world:list(node, dir) -> names, with spaces in between */
static int l_world_list(lua_State *L)
{
    struct io_names names;
    struct err e;
    if (io_list(engine_arg(L)->io, luaL_checkstring(L, 3), &names, &e) != OK) return lua_room_fail(L, &e);
    lua_pushliteral(L, "");
    for (size_t i = 0; i < names.count; i++) {
        lua_pushfstring(L, i > 0 ? "%s %s" : "%s%s", lua_tostring(L, -1), names.names[i]);
        lua_remove(L, -2);
    }
    io_names_free(&names);
    return 1;
}

/* world:lock(node, dir); the lock is held until the node crashes */
static int l_world_lock(lua_State *L)
{
    struct io_lock *lock;
    struct err e;
    return world_result(L, io_lock_dir(engine_arg(L)->io, luaL_checkstring(L, 3), &lock, &e), &e);
}

/* ---- jobs ---- */

static void write_work(struct io_job *job)
{
    struct world_write *write = CONTAINER_OF(job, struct world_write, job);
    struct io *io = write->engine->io;
    struct io_file *file;
    struct err e = {0};
    write->code = io_open(io, write->path, IO_OPEN_WRITE, &file, &e);
    if (write->code == OK) {
        write->code = io_write(io, file, write->at, write->bytes.data, write->bytes.size, &e);
        io_close(io, file);
    }
    log_text(write->engine, "work", write->number, "");
}

static void write_done(struct io_job *job)
{
    struct world_write *write = CONTAINER_OF(job, struct world_write, job);
    log_text(write->engine, "done", write->number, err_name(write->code));
    write_free(job);
}

/* world:write(node, "disk" | "bulk", path, at, bytes) -> number of the job */
static int l_world_write(lua_State *L)
{
    static const char *const lanes[] = {"disk", "bulk", NULL};
    struct world_engine *engine = engine_arg(L);
    enum io_lane lane = (enum io_lane)luaL_checkoption(L, 3, NULL, lanes);
    const char *path = luaL_checkstring(L, 4);
    uint64_t at = number_arg(L, 5);
    size_t size;
    const char *bytes = luaL_checklstring(L, 6, &size);
    struct world_write *write = mem_zero(1, sizeof(*write));
    ASSERT(write != NULL);
    write->job = (struct io_job){.work = write_work, .done = write_done};
    write->engine = engine;
    write->number = ++engine->world->jobs;
    write->at = at;
    write->path = mem_strdup(path);
    bool copied = write->path != NULL && buf_append(&write->bytes, bytes, size);
    ASSERT(copied);
    lua_pushinteger(L, write->number);
    io_submit(engine->io, lane, &write->job);
    return 1;
}

/* ---- links and events ---- */

static int l_world_listen(lua_State *L)
{
    struct io_server *server;
    struct err e;
    return world_result(L, io_listen(engine_arg(L)->io, luaL_checkstring(L, 3), &server, &e), &e);
}

/* world:connect(node, address) -> link */
static int l_world_connect(lua_State *L)
{
    struct world_engine *engine = engine_arg(L);
    struct io_link *link;
    struct err e;
    if (io_connect(engine->io, luaL_checkstring(L, 3), &link, &e) != OK) return lua_room_fail(L, &e);
    lua_pushinteger(L, link_add(engine, link)->id);
    return 1;
}

static struct world_link *link_arg(lua_State *L)
{
    struct lua_world *w = world_arg(L);
    lua_Integer id = luaL_checkinteger(L, 2);
    luaL_argcheck(L, id >= 1 && (size_t)id <= w->n_links && w->links[id - 1]->link != NULL, 2, "no such link");
    return w->links[id - 1];
}

/* world:send(link, bytes); the link is up */
static int l_world_send(lua_State *L)
{
    struct world_link *known = link_arg(L);
    size_t size;
    const char *bytes = luaL_checklstring(L, 3, &size);
    struct buf frame = {0};
    bool copied = buf_append(&frame, bytes, size);
    ASSERT(copied);
    io_send(known->world->engines[known->node - 1].io, known->link, &frame);
    return 0;
}

static int l_world_close(lua_State *L)
{
    struct world_link *known = link_arg(L);
    io_link_close(known->world->engines[known->node - 1].io, known->link);
    known->link = NULL;
    return 0;
}

/* world:alarm(node, us from now) */
static int l_world_alarm(lua_State *L)
{
    struct io *io = engine_arg(L)->io;
    io_alarm(io, io_now(io) + number_arg(L, 3));
    return 0;
}

static int l_world_wake(lua_State *L)
{
    io_wake(engine_arg(L)->io);
    return 0;
}

static int l_world_notify(lua_State *L)
{
    io_notify(engine_arg(L)->io);
    return 0;
}

/* ---- faults ---- */

static int l_world_crash(lua_State *L)
{
    struct world_engine *engine = engine_arg(L);
    struct lua_world *w = engine->world;
    for (size_t i = 0; i < w->n_links; i++) {
        if (w->links[i]->node == engine->node) w->links[i]->link = NULL;
    }
    sim_world_crash(w->sim, engine->node, write_free);
    world_enter(engine);
    return 0;
}

/* world:cut(from, to, whether) */
static int l_world_cut(lua_State *L)
{
    struct world_engine *from = engine_arg(L);
    lua_Integer to = luaL_checkinteger(L, 3);
    luaL_argcheck(L, to >= 1 && to <= SIM_NODES_MAX, 3, "no such node");
    sim_world_cut(from->world->sim, from->node, (int)to, lua_toboolean(L, 4));
    return 0;
}

static int l_world_stall_disk(lua_State *L)
{
    struct world_engine *engine = engine_arg(L);
    sim_world_stall_disk(engine->world->sim, engine->node, lua_toboolean(L, 3));
    return 0;
}

static int l_world_fill_disk(lua_State *L)
{
    struct world_engine *engine = engine_arg(L);
    sim_world_fill_disk(engine->world->sim, engine->node, lua_toboolean(L, 3));
    return 0;
}

/* world:fail_file(node, n): the n-th file operation from now on fails */
static int l_world_fail_file(lua_State *L)
{
    struct world_engine *engine = engine_arg(L);
    sim_world_fail_file(engine->world->sim, engine->node, number_arg(L, 3), ERR_IO);
    return 0;
}

/* world:die(node, n): nothing works from the n-th file operation on */
static int l_world_die(lua_State *L)
{
    struct world_engine *engine = engine_arg(L);
    sim_world_die(engine->world->sim, engine->node, number_arg(L, 3));
    return 0;
}

static void world_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"step", l_world_step}, {"run", l_world_run}, {"now", l_world_now}, {"hash", l_world_hash},
        {"log", l_world_log}, {"create", l_world_create}, {"read", l_world_read}, {"rename", l_world_rename},
        {"remove", l_world_remove}, {"make_dir", l_world_make_dir}, {"sync_dir", l_world_sync_dir},
        {"list", l_world_list}, {"lock", l_world_lock}, {"write", l_world_write}, {"listen", l_world_listen},
        {"connect", l_world_connect}, {"send", l_world_send}, {"close", l_world_close},
        {"alarm", l_world_alarm}, {"wake", l_world_wake}, {"notify", l_world_notify}, {"crash", l_world_crash},
        {"cut", l_world_cut}, {"stall_disk", l_world_stall_disk}, {"fill_disk", l_world_fill_disk},
        {"fail_file", l_world_fail_file}, {"die", l_world_die}, {NULL, NULL},
    };
    if (luaL_newmetatable(L, WORLD_CLASS)) {
        luaL_newlib(L, methods);
        lua_setfield(L, -2, "__index");
        lua_pushcfunction(L, l_world_free);
        lua_setfield(L, -2, "__gc");
    }
    lua_pop(L, 1);
    lua_pushcfunction(L, l_world_new);
    lua_setfield(L, -2, "sim_world");
}

void lua_sim_open(lua_State *L)
{
    check_open(L);
    world_open(L);
    lua_pushcfunction(L, l_sim);
    lua_setfield(L, -2, "sim");
}
