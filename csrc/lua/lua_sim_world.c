#include <stdio.h>

#include "base/mem.h"
#include "lua/lua_room.h"
#include "sim/sim_world.h"

#define WORLD_CLASS "raft.core.sim_world"

/* ---- the world, and what stands for engines in it ---- */

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

static uint64_t number_arg(lua_State *L, int arg)
{
    return (uint64_t)luaL_checkinteger(L, arg);
}

static uint32_t permille_field(lua_State *L, const char *name)
{
    lua_getfield(L, 2, name);
    lua_Integer value = luaL_optinteger(L, -1, 0);
    luaL_argcheck(L, value >= 0 && value <= 1000, 2, "a rate in permille expected");
    lua_pop(L, 1);
    return (uint32_t)value;
}

/* core.sim_world(seed [, faults]) */
static int l_world_new(lua_State *L)
{
    static const char *const rates[] = {"frame_lost", "frame_doubled", "frame_late", "link_broken", "connect_failed",
                                        "news_lost", "torn", "disk_late"};
    struct sim_faults faults = {.network_min_us = 100, .network_max_us = 1000, .disk_min_us = 50, .disk_max_us = 500};
    uint32_t *const dials[] = {&faults.frame_lost, &faults.frame_doubled, &faults.frame_late, &faults.link_broken,
                               &faults.connect_failed, &faults.news_lost, &faults.torn, &faults.disk_late};
    uint64_t seed = number_arg(L, 1);
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        for (size_t i = 0; i < COUNT_OF(rates); i++) *dials[i] = permille_field(L, rates[i]);
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

/* world:wipe(node): after a crash */
static int l_world_wipe(lua_State *L)
{
    struct world_engine *engine = engine_arg(L);
    sim_world_wipe(engine->world->sim, engine->node);
    return 0;
}

/* world:pause(node, whether) */
static int l_world_pause(lua_State *L)
{
    struct world_engine *engine = engine_arg(L);
    sim_world_pause(engine->world->sim, engine->node, lua_toboolean(L, 3));
    return 0;
}

static int other_node_arg(lua_State *L)
{
    lua_Integer node = luaL_checkinteger(L, 3);
    luaL_argcheck(L, node >= 1 && node <= SIM_NODES_MAX, 3, "no such node");
    return (int)node;
}

/* world:cut(from, to, whether) */
static int l_world_cut(lua_State *L)
{
    struct world_engine *from = engine_arg(L);
    sim_world_cut(from->world->sim, from->node, other_node_arg(L), lua_toboolean(L, 4));
    return 0;
}

/* world:slow_link(from, to, us, bytes a second) */
static int l_world_slow_link(lua_State *L)
{
    struct world_engine *from = engine_arg(L);
    sim_world_slow_link(from->world->sim, from->node, other_node_arg(L), number_arg(L, 4), number_arg(L, 5));
    return 0;
}

/* world:reset(a, b) */
static int l_world_reset(lua_State *L)
{
    struct world_engine *from = engine_arg(L);
    sim_world_reset(from->world->sim, from->node, other_node_arg(L));
    return 0;
}

/* world:clock(node) -> monotonic, wall */
static int l_world_clock(lua_State *L)
{
    struct io *io = engine_arg(L)->io;
    lua_pushinteger(L, (lua_Integer)io_now(io));
    lua_pushinteger(L, (lua_Integer)io_wall(io));
    return 2;
}

/* world:set_clock(node, us a second) */
static int l_world_set_clock(lua_State *L)
{
    struct world_engine *engine = engine_arg(L);
    sim_world_set_clock(engine->world->sim, engine->node, number_arg(L, 3));
    return 0;
}

static int l_world_jump_clock(lua_State *L)
{
    struct world_engine *engine = engine_arg(L);
    sim_world_jump_clock(engine->world->sim, engine->node, number_arg(L, 3));
    return 0;
}

static int l_world_jump_wall(lua_State *L)
{
    struct world_engine *engine = engine_arg(L);
    sim_world_jump_wall(engine->world->sim, engine->node, luaL_checkinteger(L, 3));
    return 0;
}

/* world:rot(node) -> path, offset, or nil */
static int l_world_rot(lua_State *L)
{
    struct world_engine *engine = engine_arg(L);
    uint64_t at = 0;
    const char *path = sim_world_rot(engine->world->sim, engine->node, &at);
    lua_pushstring(L, path);
    if (path == NULL) return 1;
    lua_pushinteger(L, (lua_Integer)at);
    return 2;
}

/* world:slow_disk(node, us) */
static int l_world_slow_disk(lua_State *L)
{
    struct world_engine *engine = engine_arg(L);
    sim_world_slow_disk(engine->world->sim, engine->node, number_arg(L, 3));
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

void lua_sim_world_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"step", l_world_step}, {"run", l_world_run}, {"now", l_world_now}, {"hash", l_world_hash},
        {"log", l_world_log}, {"create", l_world_create}, {"read", l_world_read}, {"rename", l_world_rename},
        {"remove", l_world_remove}, {"make_dir", l_world_make_dir}, {"sync_dir", l_world_sync_dir},
        {"list", l_world_list}, {"lock", l_world_lock}, {"write", l_world_write}, {"listen", l_world_listen},
        {"connect", l_world_connect}, {"send", l_world_send}, {"close", l_world_close},
        {"alarm", l_world_alarm}, {"wake", l_world_wake}, {"notify", l_world_notify}, {"crash", l_world_crash},
        {"cut", l_world_cut}, {"stall_disk", l_world_stall_disk}, {"fill_disk", l_world_fill_disk},
        {"fail_file", l_world_fail_file}, {"die", l_world_die},
        {"wipe", l_world_wipe}, {"pause", l_world_pause}, {"slow_link", l_world_slow_link},
        {"reset", l_world_reset}, {"clock", l_world_clock}, {"set_clock", l_world_set_clock},
        {"jump_clock", l_world_jump_clock}, {"jump_wall", l_world_jump_wall}, {"rot", l_world_rot},
        {"slow_disk", l_world_slow_disk}, {NULL, NULL},
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
