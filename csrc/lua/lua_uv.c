#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"
#include "lua/lua_room.h"
#include "sim/sim_world.h"
#include "uv/uv_world.h"

/* core.world: struct io from Lua, for specs. The real world runs on its own threads, a simulated one is
 * stepped while Lua waits; a spec cannot tell them apart, so that one suite holds both to the contract.
 *
 * A method of a world becomes a call that runs on the engine's thread while Lua waits for its answer. Events
 * are written to a log that Lua takes. */

#define WORLD_CLASS "raft.core.world"
#define FILES_MAX   16
#define LOCKS_MAX   8
#define SERVERS_MAX 8
#define WAIT_S      10
#define SLOW_US     2000

enum received_mode { RECEIVED_LOG, RECEIVED_ECHO, RECEIVED_CLOSE, RECEIVED_MODES };
static const char *const mode_names[] = {"log", "echo", "close", NULL};

struct sim_share {
    struct sim_world *world;
    int nodes; /* made so far */
    int users;
};

struct call;

struct harness {
    struct io *io;
    struct uv_world *real;
    struct sim_share *sim;
    bool visits;      /* calls are visits: they run on Lua's thread, if the engine sleeps */
    atomic_int wakes; /* asked for by world:wake and world:visit, not by calls */
    pthread_t visitor;
    atomic_bool visiting;
    atomic_bool slow; /* each turn takes a while */

    pthread_mutex_t mutex; /* guards the three that follow */
    pthread_cond_t news;   /* the call was answered, or the log has grown */
    struct call *call;     /* to run on the engine's thread; NULL: none */
    struct buf log;

    /* the engine's */
    bool inside; /* an io_ function is running: no event may come */
    bool fresh;  /* something was logged since the last turn */
    enum received_mode mode;
    uint64_t alarm_us;
    int code; /* of the last call */
    struct io_link **links; /* by id - 1; NULL: gone */
    size_t links_count, links_capacity;
    struct io_file *files[FILES_MAX];
    struct io_lock *locks[LOCKS_MAX];
    struct io_server *servers[SERVERS_MAX];
};

/* One method on its way through the engine's thread, and through a lane if it is about files. */
struct call {
    struct harness *h;
    void (*run)(struct call *); /* on the engine's thread, inside io_ functions; NULL for file calls */
    int (*file)(struct call *); /* on a lane's thread; returns an ERR_ code */
    enum io_lane lane;
    struct io_job job;
    bool brief;      /* the jobs it submits */
    bool own_thread; /* of the engine: not for a visitor */
    bool answered; /* guarded by the mutex */

    const char *path, *path2;
    const char *bytes;
    size_t size;
    uint64_t number; /* an offset, a time, ... */
    int id, flags;

    struct io_child *child;

    int code;
    struct err err;
    uint64_t result;
    struct buf data;
    struct io_names names;
};

/* ---- the log ---- */

static void log_add(struct harness *h, const char *kind, uint32_t id, const void *data, size_t size)
{
    size_t kind_size = strlen(kind);
    pthread_mutex_lock(&h->mutex);
    uint8_t *at = buf_extend(&h->log, 12 + kind_size + size);
    ASSERT(at != NULL);
    put_u32(at, (uint32_t)kind_size);
    put_u32(at + 4, id);
    put_u32(at + 8, (uint32_t)size);
    memcpy(at + 12, kind, kind_size);
    if (size > 0) memcpy(at + 12 + kind_size, data, size);
    pthread_cond_signal(&h->news);
    pthread_mutex_unlock(&h->mutex);
}

/* The name of the thread that this is. */
static void log_thread(struct harness *h, const char *kind, uint32_t id)
{
    char name[16] = "";
    pthread_getname_np(pthread_self(), name, sizeof name);
    log_add(h, kind, id, name, strlen(name));
}

/* An event of struct io_events. */
static void log_event(struct harness *h, const char *kind, uint32_t id, const void *data, size_t size)
{
    if (h->inside) log_add(h, "inside", id, kind, strlen(kind));
    h->fresh = true;
    log_add(h, kind, id, data, size);
}

/* ---- events ---- */

static void call_answer(struct call *call)
{
    struct harness *h = call->h;
    pthread_mutex_lock(&h->mutex);
    call->answered = true;
    pthread_cond_signal(&h->news);
    pthread_mutex_unlock(&h->mutex);
}

static void job_work(struct io_job *job)
{
    struct call *call = CONTAINER_OF(job, struct call, job);
    call->code = call->file(call);
}

static void job_done(struct io_job *job)
{
    call_answer(CONTAINER_OF(job, struct call, job));
}

static void call_run(struct call *call)
{
    struct harness *h = call->h;
    call->job = (struct io_job){.work = job_work, .done = job_done};
    h->inside = true;
    if (call->file != NULL) io_submit(h->io, call->lane, &call->job);
    else call->run(call);
    h->inside = false;
    if (call->file == NULL) call_answer(call);
}

static void on_woken(void *engine)
{
    struct harness *h = engine;
    pthread_mutex_lock(&h->mutex);
    struct call *call = h->call;
    h->call = NULL;
    pthread_mutex_unlock(&h->mutex);
    const char *where = atomic_load(&h->visiting) && pthread_equal(pthread_self(), h->visitor) ? "here" : "";
    if (atomic_exchange(&h->wakes, 0) > 0) log_event(h, "woken", 0, where, strlen(where));
    if (call != NULL) call_run(call);
}

static void on_turn(void *engine)
{
    struct harness *h = engine;
    if (h->fresh) log_event(h, "turn", 0, NULL, 0);
    h->fresh = false;
    if (atomic_load(&h->slow)) usleep(SLOW_US);
}

static void on_alarm(void *engine)
{
    struct harness *h = engine;
    const char *when = io_now(h->io) >= h->alarm_us ? "" : "early";
    log_event(h, "alarm", 0, when, strlen(when));
    if (h->sim == NULL) log_thread(h, "keeper", 0);
}

static uint32_t link_id(const struct io_link *link)
{
    return (uint32_t)(uintptr_t)link->user;
}

static uint32_t link_add(struct harness *h, struct io_link *link)
{
    bool grown = mem_grow((void **)&h->links, &h->links_capacity, h->links_count + 1, sizeof *h->links);
    ASSERT(grown);
    h->links[h->links_count++] = link;
    link->user = (void *)(uintptr_t)h->links_count;
    return (uint32_t)h->links_count;
}

static void link_close(struct harness *h, uint32_t id)
{
    struct io_link *link = h->links[id - 1];
    if (link == NULL) return;
    h->links[id - 1] = NULL;
    io_link_close(h->io, link);
}

static void on_accepted(void *engine, struct io_link *link)
{
    uint32_t id = link_add(engine, link);
    log_event(engine, "accepted", id, NULL, 0);
}

static void on_connected(void *engine, struct io_link *link)
{
    log_event(engine, "connected", link_id(link), NULL, 0);
}

static void on_received(void *engine, struct io_link *link, const uint8_t *data, size_t size)
{
    struct harness *h = engine;
    if (h->inside) log_event(h, "received", link_id(link), NULL, 0);
    if (h->mode == RECEIVED_LOG) {
        log_event(h, "received", link_id(link), data, size);
    } else if (h->mode == RECEIVED_CLOSE) {
        uint32_t id = link_id(link);
        link_close(h, id);
        log_event(h, "received", id, data, size); /* data is the world's until we return, link or no link */
    } else {
        struct buf back = {0};
        bool copied = buf_append(&back, data, size);
        ASSERT(copied);
        io_send(h->io, link, &back);
    }
}

static void on_closed(void *engine, struct io_link *link, enum io_close reason)
{
    struct harness *h = engine;
    const char *name = io_close_name(reason);
    h->links[link_id(link) - 1] = NULL;
    log_event(h, "closed", link_id(link), name, strlen(name));
}

static const struct io_events events = {
    .turn = on_turn,
    .alarm = on_alarm,
    .woken = on_woken,
    .accepted = on_accepted,
    .connected = on_connected,
    .received = on_received,
    .closed = on_closed,
};

/* ---- calls ---- */

static bool real_wait(struct harness *h, const struct timespec *until)
{
    return pthread_cond_clockwait(&h->news, &h->mutex, CLOCK_MONOTONIC, until) == 0;
}

static struct timespec after_s(lua_Number seconds)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t ns = (uint64_t)t.tv_nsec + (uint64_t)(seconds * 1e9);
    t.tv_sec += (time_t)(ns / 1000000000);
    t.tv_nsec = (long)(ns % 1000000000);
    return t;
}

/* Waits without a limit: a call that is not answered uses memory of this frame. */
static void call_world(struct harness *h, struct call *call)
{
    call->h = h;
    if (h->sim != NULL) {
        call_run(call);
        while (!call->answered && sim_world_step(h->sim->world)) continue;
        ASSERT(call->answered);
        h->code = call->code;
        return;
    }
    pthread_mutex_lock(&h->mutex);
    h->call = call;
    pthread_mutex_unlock(&h->mutex);
    if (h->visits && !call->own_thread) io_visit(h->io);
    else io_wake(h->io);
    pthread_mutex_lock(&h->mutex);
    while (!call->answered) pthread_cond_wait(&h->news, &h->mutex);
    pthread_mutex_unlock(&h->mutex);
    h->code = call->code;
}

static void run_stop(struct call *call)
{
    struct harness *h = call->h;
    for (uint32_t id = 1; id <= h->links_count; id++) link_close(h, id);
    for (int i = 0; i < SERVERS_MAX; i++) {
        if (h->servers[i] != NULL) io_unlisten(h->io, h->servers[i]);
    }
    io_stop(h->io);
}

static int file_nothing(struct call *call)
{
    (void)call;
    return OK;
}

static int real_start(void *arg)
{
    (void)arg;
    return OK;
}

static void harness_stop(struct harness *h)
{
    if (h->io == NULL) return;
    for (int lane = 0; lane < IO_LANES; lane++) {
        call_world(
            h, &(struct call){.file = file_nothing, .lane = (enum io_lane)lane}); /* all before it are done */
    }
    call_world(h, &(struct call){.run = run_stop});
    if (h->real != NULL) uv_world_join(h->real);
    for (int i = 0; i < FILES_MAX; i++) {
        if (h->files[i] != NULL) io_close(h->io, h->files[i]);
    }
    for (int i = 0; i < LOCKS_MAX; i++) {
        if (h->locks[i] != NULL) io_unlock_dir(h->io, h->locks[i]);
    }
    uv_world_free(h->real);
    if (h->sim != NULL && --h->sim->users == 0) {
        sim_world_free(h->sim->world);
        mem_free(h->sim);
    }
    mem_free(h->links);
    buf_free(&h->log);
    pthread_mutex_destroy(&h->mutex);
    pthread_cond_destroy(&h->news);
    h->io = NULL;
}

/* ---- what runs on the engine's thread ---- */

static void run_listen(struct call *c)
{
    struct harness *h = c->h;
    int slot = 0;
    while (slot < SERVERS_MAX - 1 && h->servers[slot] != NULL) slot++;
    ASSERT(h->servers[slot] == NULL);
    c->code = io_listen(h->io, c->path, &h->servers[slot], &c->err);
    c->result = (uint64_t)slot + 1;
}

static void run_unlisten(struct call *c)
{
    struct io_server **server = &c->h->servers[c->id - 1];
    io_unlisten(c->h->io, *server);
    *server = NULL;
}

static void run_connect(struct call *c)
{
    struct io_link *link;
    c->code = io_connect(c->h->io, c->path, &link, &c->err);
    if (c->code == OK) c->result = link_add(c->h, link);
}

static void run_send(struct call *c)
{
    struct buf frame = {0};
    bool copied = buf_append(&frame, c->bytes, c->size);
    ASSERT(copied);
    c->code = io_send(c->h->io, c->h->links[c->id - 1], &frame);
    ASSERT(frame.data == NULL && frame.size == 0);
}

static void run_queued(struct call *c)
{
    c->result = io_queued(c->h->io, c->h->links[c->id - 1]);
}

static void run_close_link(struct call *c)
{
    link_close(c->h, (uint32_t)c->id);
}

static void run_has_link(struct call *c)
{
    c->result = c->id >= 1 && (size_t)c->id <= c->h->links_count && c->h->links[c->id - 1] != NULL;
}

static void run_mode(struct call *c)
{
    c->h->mode = (enum received_mode)c->id;
}

static void run_alarm(struct call *c)
{
    struct harness *h = c->h;
    h->alarm_us = c->number == NEVER_US ? NEVER_US : io_now(h->io) + c->number;
    io_alarm(h->io, h->alarm_us);
}

/* A job that only says that it ran. */
struct tally {
    struct io_job job;
    struct harness *h;
    uint32_t number;
    enum io_lane lane;
    uint64_t takes_us;
};

static const char *const lane_names[] = {"disk", "bulk", "child", NULL};

static void tally_work(struct io_job *job)
{
    struct tally *t = CONTAINER_OF(job, struct tally, job);
    const char *lane = lane_names[t->lane];
    log_add(t->h, "work", t->number, lane, strlen(lane));
}

/* Says which thread it runs on. */
static void tally_brief(struct io_job *job)
{
    struct tally *t = CONTAINER_OF(job, struct tally, job);
    log_thread(t->h, "work", t->number);
    if (t->takes_us > 0) usleep((useconds_t)t->takes_us);
}

static void tally_done(struct io_job *job)
{
    struct tally *t = CONTAINER_OF(job, struct tally, job);
    const char *lane = lane_names[t->lane];
    log_event(t->h, "done", t->number, lane, strlen(lane));
    mem_free(t);
}

static void run_jobs(struct call *c)
{
    for (uint64_t i = 1; i <= c->number; i++) {
        struct tally *t = mem_zero(1, sizeof *t);
        ASSERT(t != NULL);
        *t = (struct tally){.job = {.work = c->brief ? tally_brief : tally_work, .done = tally_done, .brief = c->brief},
                            .h = c->h,
                            .number = (uint32_t)i,
                            .lane = c->lane,
                            .takes_us = c->size};
        io_submit(c->h->io, c->lane, &t->job);
    }
}

/* ---- what runs on a lane's thread ---- */

static int file_open(struct call *c)
{
    struct harness *h = c->h;
    int slot = 0;
    while (slot < FILES_MAX - 1 && h->files[slot] != NULL) slot++;
    ASSERT(h->files[slot] == NULL);
    c->result = (uint64_t)slot + 1;
    return io_open(h->io, c->path, c->flags, &h->files[slot], &c->err);
}

static int file_close(struct call *c)
{
    io_close(c->h->io, c->h->files[c->id - 1]);
    c->h->files[c->id - 1] = NULL;
    return OK;
}

static int file_size(struct call *c)
{
    return io_size(c->h->io, c->h->files[c->id - 1], &c->result, &c->err);
}

static int file_read(struct call *c)
{
    size_t got = 0;
    uint8_t *room = buf_extend(&c->data, c->size);
    ASSERT(room != NULL);
    int code = io_read(c->h->io, c->h->files[c->id - 1], c->number, room, c->size, &got, &c->err);
    c->data.size = got;
    return code;
}

static int file_write(struct call *c)
{
    size_t whole = (c->size + IO_BLOCK - 1) / IO_BLOCK * IO_BLOCK;
    uint8_t *copy =
        mem_aligned(IO_BLOCK, MAX(whole, IO_BLOCK)); /* a direct file wants it so, others do not mind */
    ASSERT(copy != NULL);
    memcpy(copy, c->bytes, c->size);
    int code = io_write(c->h->io, c->h->files[c->id - 1], c->number, copy, c->size, &c->err);
    mem_free(copy);
    return code;
}

static int file_put(struct call *c)
{
    return io_put(c->h->io, c->h->files[c->id - 1], c->number, c->bytes, c->size, &c->err);
}

static int file_sync(struct call *c)
{
    return io_sync(c->h->io, c->h->files[c->id - 1], &c->err);
}

static int file_fill(struct call *c)
{
    return io_fill(c->h->io, c->h->files[c->id - 1], c->number, &c->err);
}

static int file_rename(struct call *c)
{
    return io_rename(c->h->io, c->path, c->path2, &c->err);
}

static int file_remove(struct call *c)
{
    return io_remove(c->h->io, c->path, &c->err);
}

static int file_list(struct call *c)
{
    return io_list(c->h->io, c->path, &c->names, &c->err);
}

static int file_make_dir(struct call *c)
{
    return io_make_dir(c->h->io, c->path, &c->err);
}

static int file_sync_dir(struct call *c)
{
    return io_sync_dir(c->h->io, c->path, &c->err);
}

static int file_lock_dir(struct call *c)
{
    struct harness *h = c->h;
    int slot = 0;
    while (slot < LOCKS_MAX - 1 && h->locks[slot] != NULL) slot++;
    ASSERT(h->locks[slot] == NULL);
    c->result = (uint64_t)slot + 1;
    return io_lock_dir(h->io, c->path, &h->locks[slot], &c->err);
}

static int file_unlock_dir(struct call *c)
{
    io_unlock_dir(c->h->io, c->h->locks[c->id - 1]);
    c->h->locks[c->id - 1] = NULL;
    return OK;
}

static int file_room(struct call *c)
{
    return io_room(c->h->io, c->path, &c->result, &c->err);
}

/* ---- Lua ---- */

static struct harness *check_world(lua_State *L)
{
    struct harness *h = luaL_checkudata(L, 1, WORLD_CLASS);
    luaL_argcheck(L, h->io != NULL, 1, "the world is stopped");
    return h;
}

/* Runs the call; 0 when it went well, else pushes nil, message, code. */
static int finish(lua_State *L, struct call *call)
{
    call_world(check_world(L), call);
    return call->code == OK ? 0 : lua_room_fail(L, &call->err);
}

static int finish_true(lua_State *L, struct call *call)
{
    int failed = finish(L, call);
    if (failed > 0) return failed;
    lua_pushboolean(L, 1);
    return 1;
}

static int finish_number(lua_State *L, struct call *call)
{
    int failed = finish(L, call);
    if (failed > 0) return failed;
    lua_pushinteger(L, (lua_Integer)call->result);
    return 1;
}

static int check_slot(lua_State *L, int index, void *const *slots, int count)
{
    lua_Integer id = luaL_checkinteger(L, index);
    luaL_argcheck(L, id >= 1 && id <= count && slots[id - 1] != NULL, index, "no such handle");
    return (int)id;
}

static int l_open(lua_State *L)
{
    const char *letters = luaL_optstring(L, 3, "");
    int flags = (strchr(letters, 'w') != NULL ? IO_OPEN_WRITE : 0) |
                (strchr(letters, 'c') != NULL ? IO_OPEN_CREATE : 0) |
                (strchr(letters, 'd') != NULL ? IO_OPEN_DIRECT : 0);
    return finish_number(L,
                         &(struct call){.file = file_open, .path = luaL_checkstring(L, 2), .flags = flags});
}

static int check_file(lua_State *L)
{
    return check_slot(L, 2, (void *const *)check_world(L)->files, FILES_MAX);
}

static int l_close(lua_State *L)
{
    return finish_true(L, &(struct call){.file = file_close, .id = check_file(L)});
}

static int l_size(lua_State *L)
{
    return finish_number(L, &(struct call){.file = file_size, .id = check_file(L)});
}

static int l_read(lua_State *L)
{
    struct call call = {.file = file_read,
                        .id = check_file(L),
                        .number = (uint64_t)luaL_checkinteger(L, 3),
                        .size = (size_t)luaL_checkinteger(L, 4)};
    int results = finish(L, &call);
    if (results == 0) {
        lua_pushlstring(L, (const char *)call.data.data, call.data.size);
        results = 1;
    }
    buf_free(&call.data);
    return results;
}

static int l_write(lua_State *L)
{
    struct call call = {.file = file_write, .id = check_file(L), .number = (uint64_t)luaL_checkinteger(L, 3)};
    call.bytes = luaL_checklstring(L, 4, &call.size);
    return finish_true(L, &call);
}

static int l_put(lua_State *L)
{
    struct call call = {.file = file_put, .id = check_file(L), .number = (uint64_t)luaL_checkinteger(L, 3)};
    call.bytes = luaL_checklstring(L, 4, &call.size);
    return finish_true(L, &call);
}

static int l_sync(lua_State *L)
{
    return finish_true(L, &(struct call){.file = file_sync, .id = check_file(L)});
}

/* ---- children ---- */

struct child_plan {
    const char *bytes, *failure;
    size_t size;
    lua_Integer times;
    bool hangs;
};

static int child_body(void *ctx, struct io_sink *sink, struct err *e)
{
    const struct child_plan *plan = ctx;
    for (lua_Integer i = 0; i < plan->times; i++) {
        int rv = sink->put(sink, plan->bytes, plan->size, e);
        if (rv != OK) return rv;
    }
    while (plan->hangs) pause();
    return plan->failure == NULL ? OK : err_set(e, ERR_INVALID, "%s", plan->failure);
}

static int file_join(struct call *c)
{
    return io_join(c->h->io, c->child, &c->err);
}

static void run_kill(struct call *c)
{
    io_kill(c->h->io, c->child);
}

/* world:child(path, apart, bytes, times [, failure | "hang"]): forks and joins; one that hangs is killed. */
static int l_child(lua_State *L)
{
    struct harness *h = check_world(L);
    struct call call = {.file = file_join, .lane = IO_LANE_CHILD};
    struct child_plan plan = {.times = luaL_checkinteger(L, 5), .failure = luaL_optstring(L, 6, NULL)};
    const char *path = luaL_checkstring(L, 2);
    plan.bytes = luaL_checklstring(L, 4, &plan.size);
    plan.hangs = plan.failure != NULL && strcmp(plan.failure, "hang") == 0 && h->real != NULL;
    struct err e;
    bool apart = lua_toboolean(L, 3);
    if (io_fork(h->io, path, apart, child_body, &plan, &call.child, &e) != OK) return lua_room_fail(L, &e);
    if (plan.failure != NULL && strcmp(plan.failure, "hang") == 0) {
        struct call kill = {.run = run_kill, .child = call.child};
        call_world(h, &kill);
    }
    int results = finish_true(L, &call);
    io_child_free(h->io, call.child);
    return results;
}

static int l_fill(lua_State *L)
{
    uint64_t size = (uint64_t)luaL_checkinteger(L, 3);
    return finish_true(L, &(struct call){.file = file_fill, .id = check_file(L), .number = size});
}

static int l_rename(lua_State *L)
{
    const char *from = luaL_checkstring(L, 2), *to = luaL_checkstring(L, 3);
    return finish_true(L, &(struct call){.file = file_rename, .path = from, .path2 = to});
}

static int l_remove(lua_State *L)
{
    return finish_true(L, &(struct call){.file = file_remove, .path = luaL_checkstring(L, 2)});
}

static int l_list(lua_State *L)
{
    struct call call = {.file = file_list, .path = luaL_checkstring(L, 2)};
    int failed = finish(L, &call);
    if (failed > 0) return failed;
    lua_createtable(L, (int)call.names.count, 0);
    for (size_t i = 0; i < call.names.count; i++) {
        lua_pushstring(L, call.names.names[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    io_names_free(&call.names);
    return 1;
}

static int l_make_dir(lua_State *L)
{
    return finish_true(L, &(struct call){.file = file_make_dir, .path = luaL_checkstring(L, 2)});
}

static int l_sync_dir(lua_State *L)
{
    return finish_true(L, &(struct call){.file = file_sync_dir, .path = luaL_checkstring(L, 2)});
}

static int l_lock_dir(lua_State *L)
{
    return finish_number(L, &(struct call){.file = file_lock_dir, .path = luaL_checkstring(L, 2)});
}

static int l_unlock_dir(lua_State *L)
{
    int id = check_slot(L, 2, (void *const *)check_world(L)->locks, LOCKS_MAX);
    return finish_true(L, &(struct call){.file = file_unlock_dir, .id = id});
}

static int l_room(lua_State *L)
{
    return finish_number(L, &(struct call){.file = file_room, .path = luaL_checkstring(L, 2)});
}

static int l_listen(lua_State *L)
{
    return finish_number(L, &(struct call){.run = run_listen, .own_thread = true, .path = luaL_checkstring(L, 2)});
}

static int l_unlisten(lua_State *L)
{
    int id = check_slot(L, 2, (void *const *)check_world(L)->servers, SERVERS_MAX);
    return finish_true(L, &(struct call){.run = run_unlisten, .id = id});
}

static int l_connect(lua_State *L)
{
    return finish_number(L, &(struct call){.run = run_connect, .path = luaL_checkstring(L, 2)});
}

/* Raises for a link that is gone. */
static int check_link(lua_State *L)
{
    struct call call = {.run = run_has_link, .id = (int)luaL_checkinteger(L, 2)};
    call_world(check_world(L), &call);
    luaL_argcheck(L, call.result, 2, "no such link");
    return call.id;
}

static int l_send(lua_State *L)
{
    struct call call = {.run = run_send, .id = check_link(L)};
    call.bytes = luaL_checklstring(L, 3, &call.size);
    return finish_true(L, &call);
}

static int l_queued(lua_State *L)
{
    return finish_number(L, &(struct call){.run = run_queued, .id = check_link(L)});
}

static int l_close_link(lua_State *L)
{
    return finish_true(L, &(struct call){.run = run_close_link, .id = check_link(L)});
}

static int l_on_received(lua_State *L)
{
    return finish_true(L, &(struct call){.run = run_mode, .id = luaL_checkoption(L, 2, NULL, mode_names)});
}

static int l_alarm(lua_State *L)
{
    uint64_t us = lua_isnil(L, 2) ? NEVER_US : (uint64_t)(luaL_checknumber(L, 2) * 1e6);
    return finish_true(L, &(struct call){.run = run_alarm, .number = us});
}

static int l_jobs(lua_State *L)
{
    struct call call = {.run = run_jobs, .number = (uint64_t)luaL_checkinteger(L, 3)};
    call.lane = (enum io_lane)luaL_checkoption(L, 2, NULL, lane_names);
    return finish_true(L, &call);
}

/* world:brief(count, seconds): jobs of the disk's lane that are said to be brief, and take so long each; "work" comes
 * with the name of the thread. The real world only. */
static int l_brief(lua_State *L)
{
    struct call call = {.run = run_jobs, .lane = IO_LANE_DISK, .brief = true};
    call.number = (uint64_t)luaL_checkinteger(L, 2);
    call.size = (size_t)(luaL_optnumber(L, 3, 0) * 1e6);
    return finish_true(L, &call);
}

/* world:wake(times) */
static int l_wake(lua_State *L)
{
    struct harness *h = check_world(L);
    for (lua_Integer i = luaL_optinteger(L, 2, 1); i > 0; i--) {
        atomic_fetch_add(&h->wakes, 1);
        io_wake(h->io);
    }
    return 0;
}

/* world:visit(times): "woken" with "here", if this thread saw to it. */
static int l_visit(lua_State *L)
{
    struct harness *h = check_world(L);
    h->visitor = pthread_self();
    atomic_store(&h->visiting, true);
    for (lua_Integer i = luaL_optinteger(L, 2, 1); i > 0; i--) {
        atomic_fetch_add(&h->wakes, 1);
        io_visit(h->io);
    }
    atomic_store(&h->visiting, false);
    return 0;
}

/* world:wait(seconds, keeps): the real one; see uv_world_wait. */
static int l_wait(lua_State *L)
{
    struct harness *h = check_world(L);
    int ms = (int)(luaL_checknumber(L, 2) * 1000);
    luaL_argcheck(L, h->real != NULL, 1, "not a real world");
    uv_world_wait(h->real, ms, lua_toboolean(L, 3));
    return 0;
}

/* world:slow(): the real one is at its turns for so long that what comes meanwhile finds it there. */
static int l_slow(lua_State *L)
{
    atomic_store(&check_world(L)->slow, true);
    return 0;
}

/* world:notify(times): in the simulated world an event "notified" follows, in the real one core.poll tells. */
static int l_notify(lua_State *L)
{
    struct harness *h = check_world(L);
    for (lua_Integer i = luaL_optinteger(L, 2, 1); i > 0; i--) io_notify(h->io);
    return 0;
}

/* world:clock() -> both clocks, us. */
static int l_clock(lua_State *L)
{
    struct harness *h = check_world(L);
    lua_pushinteger(L, (lua_Integer)io_now(h->io));
    lua_pushinteger(L, (lua_Integer)io_wall(h->io));
    return 2;
}

/* world:due(us) -> a deadline so far ahead, and the most that it may be late. */
static int l_due(lua_State *L)
{
    struct harness *h = check_world(L);
    lua_pushinteger(L, (lua_Integer)io_due(h->io, (uint64_t)luaL_checkinteger(L, 2)));
    lua_pushinteger(L, IO_DUE_LATE_US);
    return 2;
}

static int l_random(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)io_random(check_world(L)->io));
    return 1;
}

/* world:code() -> the number of the last call's code: several have one name. */
static int l_code(lua_State *L)
{
    lua_pushinteger(L, check_world(L)->code);
    return 1;
}

static void wait_for_log(struct harness *h, lua_Number seconds)
{
    if (h->sim != NULL) {
        uint64_t end_us = sim_world_now(h->sim->world) + (uint64_t)(seconds * 1e6);
        while (h->log.size == 0 && sim_world_now(h->sim->world) < end_us && sim_world_step(h->sim->world))
            continue;
        return;
    }
    struct timespec until = after_s(seconds);
    while (h->log.size == 0 && real_wait(h, &until)) continue;
}

/* world:events(seconds) -> list of { kind, id, data }: waits until there is at least one. */
static int l_events(lua_State *L)
{
    struct harness *h = check_world(L);
    lua_Number seconds = luaL_optnumber(L, 2, WAIT_S);
    struct buf log;
    if (h->sim == NULL) pthread_mutex_lock(&h->mutex);
    wait_for_log(h, seconds);
    log = h->log;
    h->log = (struct buf){0};
    if (h->sim == NULL) pthread_mutex_unlock(&h->mutex);
    lua_newtable(L);
    struct reader r = {.data = log.data, .size = log.size};
    for (lua_Integer i = 1; r.at < r.size; i++) {
        uint32_t kind_size = reader_u32(&r), id = reader_u32(&r), size = reader_u32(&r);
        lua_createtable(L, 0, 3);
        lua_pushlstring(L, (const char *)reader_take(&r, kind_size), kind_size);
        lua_setfield(L, -2, "kind");
        lua_pushinteger(L, id);
        lua_setfield(L, -2, "id");
        lua_pushlstring(L, (const char *)reader_take(&r, size), size);
        lua_setfield(L, -2, "data");
        lua_rawseti(L, -2, i);
    }
    buf_free(&log);
    return 1;
}

static int l_stop(lua_State *L)
{
    harness_stop(luaL_checkudata(L, 1, WORLD_CLASS));
    return 0;
}

static void on_notified(void *ctx)
{
    log_add(ctx, "notified", 0, NULL, 0);
}

static int open_real(struct harness *h, int notify_fd, struct err *e)
{
    if (uv_world_new(&h->real, notify_fd, e) != OK) return e->code;
    h->io = uv_world_io(h->real);
    h->io->events = &events;
    h->io->engine = h;
    if (uv_world_run(h->real, real_start, NULL, e) == OK) return OK;
    uv_world_free(h->real);
    h->real = NULL;
    h->io = NULL;
    return e->code;
}

static int open_sim(struct harness *h, const struct harness *other, struct err *e)
{
    const struct sim_faults perfect = {0};
    if (other != NULL) {
        h->sim = other->sim;
    } else {
        h->sim = mem_zero(1, sizeof *h->sim);
        if (h->sim != NULL) h->sim->world = sim_world_new(1, &perfect);
        if (h->sim == NULL || h->sim->world == NULL) return err_set(e, ERR_NOMEM, "out of memory");
    }
    h->sim->users++;
    h->io = sim_world_io(h->sim->world, ++h->sim->nodes, on_notified, h);
    h->io->events = &events;
    h->io->engine = h;
    return OK;
}

/* core.world("real" | "sim" | "visited" [, other]): a world of its own; a second simulated one shares the network with
 * other. "visited" is the real one, whose calls are made by visits. */
static int l_world(lua_State *L)
{
    static const char *const kinds[] = {"real", "sim", "visited", NULL};
    int kind = luaL_checkoption(L, 1, NULL, kinds);
    bool real = kind != 1;
    struct harness *other = real || lua_isnoneornil(L, 2) ? NULL : luaL_checkudata(L, 2, WORLD_CLASS);
    struct err err = {0};
    int notify_fd = lua_loop_notify_fd(L);
    struct harness *h = lua_newuserdatauv(L, sizeof *h, 0);
    memset(h, 0, sizeof *h);
    h->visits = kind == 2;
    luaL_setmetatable(L, WORLD_CLASS);
    pthread_mutex_init(&h->mutex, NULL);
    pthread_cond_init(&h->news, NULL);
    int code = real ? open_real(h, notify_fd, &err) : open_sim(h, other, &err);
    return code == OK ? 1 : lua_room_fail(L, &err);
}

void lua_uv_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"open", l_open},
        {"close", l_close},
        {"size", l_size},
        {"read", l_read},
        {"write", l_write},
        {"fill", l_fill},
        {"child", l_child},
        {"put", l_put},
        {"sync", l_sync},
        {"rename", l_rename},
        {"remove", l_remove},
        {"list", l_list},
        {"make_dir", l_make_dir},
        {"sync_dir", l_sync_dir},
        {"lock_dir", l_lock_dir},
        {"room", l_room},
        {"unlock_dir", l_unlock_dir},
        {"listen", l_listen},
        {"unlisten", l_unlisten},
        {"connect", l_connect},
        {"send", l_send},
        {"queued", l_queued},
        {"close_link", l_close_link},
        {"on_received", l_on_received},
        {"alarm", l_alarm},
        {"wake", l_wake},
        {"visit", l_visit},
        {"wait", l_wait},
        {"slow", l_slow},
        {"notify", l_notify},
        {"clock", l_clock},
        {"due", l_due},
        {"random", l_random},
        {"code", l_code},
        {"jobs", l_jobs},
        {"brief", l_brief},
        {"events", l_events},
        {"stop", l_stop},
        {NULL, NULL},
    };
    if (luaL_newmetatable(L, WORLD_CLASS)) {
        luaL_newlib(L, methods);
        lua_setfield(L, -2, "__index");
        lua_pushcfunction(L, l_stop);
        lua_setfield(L, -2, "__gc");
        lua_pushcfunction(L, l_stop);
        lua_setfield(L, -2, "__close");
    }
    lua_pop(L, 1);
    lua_pushcfunction(L, l_world);
    lua_setfield(L, -2, "world");
}
