/* For specs of the server: core.sessions, the session table alone, and core.servers, nodes in a simulated world (with
 * outsiders among them: a spec speaks for those byte by byte). */
#include <stdio.h>

#include "base/mem.h"
#include "core/raft.h"
#include "lua/lua_asks.h"
#include "lua/lua_room.h"
#include "server/engine.h"
#include "server/host.h"
#include "server/clients.h"
#include "server/sessions.h"
#include "sim/sim_world.h"

#define SESSIONS_CLASS "raft.sessions"
#define SERVERS_CLASS "raft.core.servers"

/* ---- the session table ---- */

static int sessions_gc(lua_State *L)
{
    sessions_free(luaL_checkudata(L, 1, SESSIONS_CLASS));
    return 0;
}

/* sessions:admit(session, epoch, sequence, lowest) -> "new" | "duplicate" | "fenced" */
static int sessions_judge(lua_State *L)
{
    static const char *const verdicts[] = {"new", "duplicate", "fenced"};
    struct sessions *s = luaL_checkudata(L, 1, SESSIONS_CLASS);
    struct entry e = {.session = (uint64_t)luaL_checkinteger(L, 2),
                      .epoch = (uint64_t)luaL_checkinteger(L, 3),
                      .sequence = (uint64_t)luaL_checkinteger(L, 4)};
    e.behind = (uint32_t)(e.sequence - (uint64_t)luaL_checkinteger(L, 5));
    enum session_verdict verdict;
    if (sessions_admit(s, &e, &verdict) != OK) return luaL_error(L, "out of memory");
    lua_pushstring(L, verdicts[verdict]);
    return 1;
}

/* sessions:has(session, epoch, sequence) -> boolean */
static int sessions_seen(lua_State *L)
{
    lua_pushboolean(L, sessions_has(luaL_checkudata(L, 1, SESSIONS_CLASS), (uint64_t)luaL_checkinteger(L, 2),
                                    (uint64_t)luaL_checkinteger(L, 3), (uint64_t)luaL_checkinteger(L, 4)));
    return 1;
}

/* sessions:write() -> bytes */
static int sessions_save(lua_State *L)
{
    struct buf out = {0};
    if (!sessions_write(luaL_checkudata(L, 1, SESSIONS_CLASS), &out)) return luaL_error(L, "out of memory");
    lua_pushlstring(L, (const char *)out.data, out.size);
    buf_free(&out);
    return 1;
}

/* sessions:read(bytes) -> how many bytes were read; nil, message, code */
static int sessions_load(lua_State *L)
{
    struct reader from = {0};
    struct err e;
    from.data = (const uint8_t *)luaL_checklstring(L, 2, &from.size);
    int rv = sessions_read(luaL_checkudata(L, 1, SESSIONS_CLASS), &from);
    if (rv != OK) {
        err_set(&e, rv, "not a table of sessions");
        return lua_room_fail(L, &e);
    }
    lua_pushinteger(L, (lua_Integer)from.at);
    return 1;
}

static int sessions_new(lua_State *L)
{
    struct sessions *s = lua_newuserdatauv(L, sizeof *s, 0);
    *s = (struct sessions){0};
    luaL_setmetatable(L, SESSIONS_CLASS);
    return 1;
}

/* ---- sessions of clients ---- */

#define CLIENTS_CLASS "raft.clients"

static struct clients *check_clients(lua_State *L)
{
    return luaL_checkudata(L, 1, CLIENTS_CLASS);
}

static uint64_t check_number(lua_State *L, int arg)
{
    return (uint64_t)luaL_checkinteger(L, arg);
}

static int clients_gc(lua_State *L)
{
    clients_free(check_clients(L));
    return 0;
}

/* clients:open(id, time_us) */
static int clients_begin(lua_State *L)
{
    if (clients_open(check_clients(L), check_number(L, 2), check_number(L, 3)) != OK)
        return luaL_error(L, "out of memory");
    return 0;
}

/* clients:command(id, sequence, time_us, result) -> "new" | "repeat", the result that is kept | "expired". As the host
 * does it: sessions expire, the command is judged, and what is new is kept with its result. */
static int clients_command(lua_State *L)
{
    static const char *const verdicts[] = {"new", "repeat", "expired"};
    struct clients *c = check_clients(L);
    uint64_t sequence = check_number(L, 3), time_us = check_number(L, 4);
    struct client *client = NULL;
    size_t size;
    const char *result = luaL_checklstring(L, 5, &size);
    clients_expire(c, time_us);
    enum client_verdict verdict = clients_admit(c, check_number(L, 2), sequence, time_us, &client);
    lua_pushstring(L, verdicts[verdict]);
    if (verdict == CLIENT_NEW && clients_keep(c, client, sequence, result, size) != OK) luaL_error(L, "out of memory");
    if (verdict != CLIENT_REPEAT || client->result == NULL) return 1;
    lua_pushlstring(L, (const char *)client->result, client->result_size);
    return 2;
}

static int clients_save(lua_State *L)
{
    struct buf out = {0};
    if (!clients_write(check_clients(L), &out)) return luaL_error(L, "out of memory");
    lua_pushlstring(L, (const char *)out.data, out.size);
    buf_free(&out);
    return 1;
}

/* clients:read(bytes) -> how many bytes were read; nil, message, code */
static int clients_load(lua_State *L)
{
    struct reader from = {0};
    struct err e;
    from.data = (const uint8_t *)luaL_checklstring(L, 2, &from.size);
    int rv = clients_read(check_clients(L), &from);
    if (rv != OK) {
        err_set(&e, rv, "not a table of clients");
        return lua_room_fail(L, &e);
    }
    lua_pushinteger(L, (lua_Integer)from.at);
    return 1;
}

static int clients_count(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)check_clients(L)->count);
    return 1;
}

static int clients_new(lua_State *L)
{
    static const luaL_Reg methods[] = {{"open", clients_begin}, {"command", clients_command}, {"write", clients_save},
                                       {"read", clients_load},  {"count", clients_count},     {NULL, NULL}};
    struct clients *c = lua_newuserdatauv(L, sizeof *c, 0);
    clients_init(c, (struct client_limits){0});
    if (luaL_newmetatable(L, CLIENTS_CLASS)) {
        lua_pushcfunction(L, clients_gc);
        lua_setfield(L, -2, "__gc");
        luaL_newlib(L, methods);
        lua_setfield(L, -2, "__index");
    }
    lua_setmetatable(L, -2);
    return 1;
}

/* ---- servers: what they are made of ---- */

/* A link of an outsider. */
struct outside {
    struct io_link *link; /* NULL = gone */
    int node;
    bool accepted, up;
    const char *down; /* why it is gone */
    struct buf received;
};

struct servers;

/* One node: a server while engine is there, an outsider once it has listened or dialled. */
struct server {
    struct servers *world;
    int number;
    struct io *io;
    struct engine *engine;
    struct host *host;
    struct channel channel;
    struct server_status status; /* the newest told; stays when the node has ended */
    struct buf events;           /* lines */
    struct buf state;            /* of its machine: what was applied, a line each */
    raft_index halt_at;          /* the machine halts here; 0 = never */
    uint32_t host_entries;
    uint64_t host_turns;         /* so often did its host look for what came in */
    bool paused, closed, refuses_save;
};

struct servers {
    struct sim_world *sim;
    struct server nodes[SIM_NODES_MAX];
    struct outside **links;
    size_t n_links, links_capacity;
    bool time_is_up;
};

/* A failure that a spec has planted (mem_fail_at) is meant for the code under test, and comes once: here and below,
 * asking again gets by it. */
static void append(struct buf *b, const void *data, size_t size)
{
    bool done = buf_append(b, data, size) || buf_append(b, data, size);
    ASSERT(done);
}

static void note(struct server *s, const char *what, uint64_t sequence, raft_index index, const char *text, size_t size)
{
    char head[80];
    int used = snprintf(head, sizeof head, "%s %" PRIu64 " %" PRIu64 " ", what, sequence, index);
    append(&s->events, head, (size_t)used);
    append(&s->events, text, size);
    append(&s->events, "\n", 1);
}

/* ---- the host's side of a server ---- */

static void apply(struct server *s, const struct entry *command, uint64_t sequence, struct buf *result)
{
    const uint8_t *end = memchr(command->payload, ' ', command->payload_size);
    size_t shown = end != NULL ? (size_t)(end - command->payload) : command->payload_size;
    note(s, "apply", sequence, command->index, (const char *)command->payload, shown);
    append(&s->state, command->payload, shown);
    append(&s->state, "\n", 1);
    if (result != NULL) append(result, command->payload, shown); /* what a client gets: its text */
}

/* All that follow at once together, as raft's own machines in Lua do. */
static enum host_verdict on_apply(void *ctx, const struct entry *command, uint64_t time_us, uint64_t sequence,
                                  struct buf *result)
{
    struct server *s = ctx;
    for (; command != NULL; command = host_next(s->host, &time_us, &sequence)) {
        if (command->index == s->halt_at) return HOST_HALT;
        apply(s, command, sequence, result);
    }
    return HOST_GO_ON;
}

static void on_repeat(void *ctx, uint64_t sequence, const uint8_t *result, size_t size)
{
    note(ctx, result == NULL ? "gone" : "repeat", sequence, 0, (const char *)result, size);
}

/* Its lines, in records that cut them anywhere. */
static int on_save(void *ctx, struct snapshot_writer *w, struct err *e)
{
    const struct server *s = ctx;
    int rv = OK;
    for (size_t at = 0, size; at < s->state.size && rv == OK; at += size) {
        size = MIN(s->state.size - at, (size_t)1000);
        rv = snapshot_write_record(w, SNAPSHOT_MACHINE, s->state.data + at, size);
    }
    return s->refuses_save ? err_set(e, ERR_INVALID, "the machine cannot be saved") : rv;
}

static enum host_verdict on_load(void *ctx, enum host_load step, struct host_records *records)
{
    struct server *s = ctx;
    const uint8_t *record;
    uint32_t size;
    if (step == HOST_LOAD_BEGIN) s->state.size = 0;
    while (step == HOST_LOAD_RECORDS && host_record_next(records, &record, &size)) append(&s->state, record, size);
    if (step == HOST_LOAD_END) note(s, "restored", 0, 0, "", 0);
    return HOST_GO_ON;
}

static void on_snapshot(void *ctx, const struct snapshot_order *order, uint64_t took_us)
{
    (void)took_us;
    note(ctx, "snapshot", 0, order->what.index, order->error.text, strlen(order->error.text));
}

static void on_done(void *ctx, uint64_t sequence, int code, raft_index index, raft_id id)
{
    if (id != 0) note(ctx, "who", sequence, id, "", 0);
    note(ctx, "done", sequence, index, err_name(code), strlen(err_name(code)));
}

static void on_started(void *ctx, int code)
{
    struct server *s = ctx;
    s->closed = code != OK;
    note(s, "started", 0, 0, err_name(code), strlen(err_name(code)));
}

static void on_changed(void *ctx, const struct server_status *status)
{
    struct server *s = ctx;
    if (s->closed) note(s, "late", 0, 0, "", 0);
    s->status = *status;
}

static void on_closed(void *ctx)
{
    struct server *s = ctx;
    s->closed = true;
    note(s, "closed", 0, 0, "", 0);
}

static void server_drop(struct server *s, void (*end)(struct engine *e))
{
    host_free(s->host);
    end(s->engine);
    channel_free(&s->channel);
    s->host = NULL;
    s->engine = NULL;
    s->closed = s->paused = false;
}

static void host_turn(void *ctx)
{
    struct server *s = ctx;
    if (s->host == NULL || s->paused) return;
    s->host_turns++;
    bool more = host_step(s->host, s->host_entries);
    if (s->closed) {
        if (!sim_world_stopped(s->world->sim, s->number)) sim_world_crash(s->world->sim, s->number, NULL);
        server_drop(s, engine_free);
    } else if (more) {
        sim_world_after(s->world->sim, 50, host_turn, s);
    }
}

/* ---- outsiders ---- */

static struct outside *outside_add(struct server *s, struct io_link *link, bool accepted)
{
    struct servers *w = s->world;
    struct outside *o = mem_zero(1, sizeof *o);
    if (o == NULL) o = mem_zero(1, sizeof *o);
    bool grown = mem_grow((void **)&w->links, &w->links_capacity, w->n_links + 1, sizeof *w->links) ||
                 mem_grow((void **)&w->links, &w->links_capacity, w->n_links + 1, sizeof *w->links);
    ASSERT(o != NULL && grown);
    *o = (struct outside){.link = link, .node = s->number, .accepted = accepted, .up = accepted};
    w->links[w->n_links++] = o;
    link->user = o;
    return o;
}

static void outside_accepted(void *engine, struct io_link *link)
{
    outside_add(engine, link, true);
}

static void outside_connected(void *engine, struct io_link *link)
{
    (void)engine;
    ((struct outside *)link->user)->up = true;
}

static void outside_received(void *engine, struct io_link *link, const uint8_t *data, size_t size)
{
    (void)engine;
    append(&((struct outside *)link->user)->received, data, size);
}

static void outside_closed(void *engine, struct io_link *link, enum io_close reason)
{
    struct outside *o = link->user;
    (void)engine;
    o->link = NULL;
    o->up = false;
    o->down = io_close_name(reason);
}

static const struct io_events outside_events = {
    .accepted = outside_accepted,
    .connected = outside_connected,
    .received = outside_received,
    .closed = outside_closed,
};

/* ---- options ---- */

static uint64_t field(lua_State *L, int table, const char *name, uint64_t or)
{
    uint64_t value = or;
    if (lua_istable(L, table)) {
        if (lua_getfield(L, table, name) != LUA_TNIL) value = (uint64_t)luaL_checkinteger(L, -1);
        lua_pop(L, 1);
    }
    return value;
}

/* list = { "host:port", ... }; the first three nodes without it. */
static void members_of(lua_State *L, int table, struct members *members)
{
    struct err e;
    bool listed = lua_istable(L, table) && lua_getfield(L, table, "list") == LUA_TTABLE;
    for (int id = 1; id <= (listed ? (int)luaL_len(L, -1) : 3); id++) {
        char address[32];
        snprintf(address, sizeof address, "node-%d:7000", id);
        if (listed) lua_rawgeti(L, -1, id);
        if (members_add(members, (raft_id)id, listed ? luaL_checkstring(L, -1) : address, &e) != OK) {
            luaL_error(L, "%s", e.text);
        }
        if (listed) lua_pop(L, 1);
    }
    if (lua_istable(L, table)) lua_pop(L, 1);
}

static struct servers *world_arg(lua_State *L)
{
    return luaL_checkudata(L, 1, SERVERS_CLASS);
}

static struct server *server_arg(lua_State *L)
{
    struct servers *w = world_arg(L);
    lua_Integer number = luaL_checkinteger(L, 2);
    luaL_argcheck(L, number >= 1 && number <= SIM_NODES_MAX, 2, "no such node");
    return &w->nodes[number - 1];
}

static struct server *running_arg(lua_State *L)
{
    struct server *s = server_arg(L);
    luaL_argcheck(L, s->host != NULL, 2, "this node is down");
    return s;
}

/* ---- servers: life ---- */

/* core.servers{ seed=, network_us=, disk_us= } */
static int servers_new(lua_State *L)
{
    uint64_t network_us = field(L, 1, "network_us", 200), disk_us = field(L, 1, "disk_us", 200);
    struct sim_faults faults = {.network_min_us = network_us, .network_max_us = network_us + 100,
                                .disk_min_us = disk_us, .disk_max_us = disk_us + 100};
    uint64_t seed = field(L, 1, "seed", 1);
    struct servers *w = lua_newuserdatauv(L, sizeof *w, 0);
    memset(w, 0, sizeof *w);
    luaL_setmetatable(L, SERVERS_CLASS);
    w->sim = sim_world_new(seed, &faults);
    if (w->sim == NULL) return luaL_error(L, "not enough memory");
    for (int i = 0; i < SIM_NODES_MAX; i++) {
        w->nodes[i].world = w;
        w->nodes[i].number = i + 1;
    }
    return 1;
}

static int servers_gc(lua_State *L)
{
    struct servers *w = world_arg(L);
    for (int i = 0; i < SIM_NODES_MAX && w->sim != NULL; i++) {
        sim_world_crash(w->sim, i + 1, NULL);
        if (w->nodes[i].engine != NULL) server_drop(&w->nodes[i], engine_abandon);
        buf_free(&w->nodes[i].events);
        buf_free(&w->nodes[i].state);
    }
    sim_world_free(w->sim);
    for (size_t i = 0; i < w->n_links; i++) {
        buf_free(&w->links[i]->received);
        mem_free(w->links[i]);
    }
    mem_free(w->links);
    memset(w, 0, sizeof *w);
    return 0;
}

/* w:start(node [, { name=, id=, list=, pending=, command_bytes=, cache_bytes=, segment_bytes=, ... }]) -> whether there
 * was memory for it */
static int servers_start(lua_State *L)
{
    static const struct host_machine machine = {
        .apply = on_apply, .repeat = on_repeat, .done = on_done, .started = on_started, .changed = on_changed,
        .closed = on_closed, .save = on_save, .load = on_load, .snapshot = on_snapshot,
    };
    struct server *s = server_arg(L);
    luaL_argcheck(L, s->engine == NULL, 2, "this node is up");
    lua_settop(L, 3);
    char dir[16];
    snprintf(dir, sizeof dir, "node-%d", s->number);
    struct engine_config config = {
        .dir = dir, .name = "bank",
        .id = (raft_id)field(L, 3, "id", (uint64_t)s->number),
        .election_timeout_us = field(L, 3, "election_timeout_us", 200 * US_PER_MS),
        .heartbeat_us = field(L, 3, "heartbeat_us", 40 * US_PER_MS),
        .host_timeout_us = field(L, 3, "host_timeout_us", 10 * US_PER_S),
        .lease = field(L, 3, "lease", 0) != 0,
        .pending = (uint32_t)field(L, 3, "pending", 256),
        .command_bytes = (uint32_t)field(L, 3, "command_bytes", 1u << 20),
        .cache_bytes = (uint32_t)field(L, 3, "cache_bytes", 16u << 20),
        .segment_bytes = field(L, 3, "segment_bytes", 1u << 20), .spares = 2,
        .keep = field(L, 3, "keep", 0),
        .rejoin = field(L, 3, "rejoin", 0) != 0,
    };
    struct host_config host = {
        .pending = config.pending, .pending_bytes = 64u << 20,
        .snapshot_bytes = field(L, 3, "snapshot_bytes", 0), .snapshot_entries = field(L, 3, "snapshot_entries", 0),
    };
    if (lua_istable(L, 3) && lua_getfield(L, 3, "name") == LUA_TSTRING) config.name = lua_tostring(L, -1);
    if (lua_istable(L, 3) && lua_getfield(L, 3, "join") == LUA_TSTRING) {
        snprintf(config.join[0], sizeof config.join[0], "%s", lua_tostring(L, -1));
        config.n_join = 1;
        config.id = 0;
    }
    lua_settop(L, 3);
    if (lua_istable(L, 3) && lua_getfield(L, 3, "listen") == LUA_TSTRING) config.listen = lua_tostring(L, -1);
    lua_settop(L, 3);
    members_of(L, 3, &config.members);
    s->status = (struct server_status){0};
    s->host_entries = (uint32_t)field(L, 3, "host_entries", 64);
    s->halt_at = field(L, 3, "halt_at", 0);
    s->state.size = 0;
    s->io = sim_world_io(s->world->sim, s->number, host_turn, s);
    if (channel_init(&s->channel, s->io, config.pending) != OK) return 0;
    s->engine = engine_new(&config, &s->channel);
    s->host = s->engine == NULL ? NULL : host_new(&s->channel, &machine, s, &host);
    if (s->host == NULL) {
        engine_free(s->engine);
        s->engine = NULL;
        channel_free(&s->channel);
        return 0;
    }
    engine_start(s->engine);
    sim_world_after(s->world->sim, 1, host_turn, s);
    lua_pushboolean(L, 1);
    return 1;
}

static int servers_crash(lua_State *L)
{
    struct server *s = server_arg(L);
    sim_world_crash(s->world->sim, s->number, NULL);
    if (s->engine != NULL) server_drop(s, engine_abandon);
    s->status = (struct server_status){0};
    return 0;
}

static int servers_close(lua_State *L)
{
    host_close(running_arg(L)->host);
    return 0;
}

/* w:pause(node, whether): its host does not step */
static int servers_pause(lua_State *L)
{
    struct server *s = server_arg(L);
    s->paused = lua_toboolean(L, 3);
    if (!s->paused) sim_world_after(s->world->sim, 1, host_turn, s);
    return 0;
}

static void time_is_up(void *ctx)
{
    ((struct servers *)ctx)->time_is_up = true;
}

/* w:run(seconds) -> number of events that it took */
static int servers_run(lua_State *L)
{
    struct servers *w = world_arg(L);
    lua_Integer events = 0;
    w->time_is_up = false;
    sim_world_after(w->sim, (uint64_t)(luaL_checknumber(L, 2) * 1e6), time_is_up, w);
    for (; !w->time_is_up && sim_world_step(w->sim); events++) continue;
    lua_pushinteger(L, events);
    return 1;
}

/* ---- servers: calls ---- */

static int push_call(lua_State *L, int code, uint64_t sequence)
{
    struct err e;
    if (code != OK) {
        err_set(&e, code, "%s", err_name(code));
        return lua_room_fail(L, &e);
    }
    lua_pushinteger(L, (lua_Integer)sequence);
    return 1;
}

/* w:propose(node, text [, size]) -> sequence: a command of that text, filled up with spaces */
static int servers_propose(lua_State *L)
{
    struct server *s = server_arg(L);
    if (s->host == NULL) return push_call(L, ERR_CLOSED, 0);
    size_t length;
    const char *text = luaL_checklstring(L, 3, &length);
    size_t size = MAX((size_t)luaL_optinteger(L, 4, 0), length + 1);
    luaL_argcheck(L, size <= ENTRY_PAYLOAD_MAX, 4, "too large");
    struct block *block = entry_reserve(RAFT_ENTRY_COMMAND, size);
    if (block == NULL) return push_call(L, ERR_NOMEM, 0);
    memset(block->bytes + ENTRY_HEADER, ' ', size);
    memcpy(block->bytes + ENTRY_HEADER, text, length);
    entry_seal(block);
    uint64_t sequence = 0;
    int code = host_propose(s->host, block, &sequence);
    host_flush(s->host);
    return push_call(L, code, sequence);
}

static int servers_barrier(lua_State *L)
{
    struct server *s = server_arg(L);
    uint64_t sequence = 0;
    int code = s->host == NULL ? ERR_CLOSED : host_barrier(s->host, &sequence);
    if (code == OK) host_flush(s->host);
    return push_call(L, code, sequence);
}

/* w:client(node, id, sequence, text) -> sequence of the call; id 0 opens a session */
static int servers_client(lua_State *L)
{
    struct server *s = server_arg(L);
    if (s->host == NULL) return push_call(L, ERR_CLOSED, 0);
    size_t length;
    const char *text = luaL_checklstring(L, 5, &length);
    struct block *block = entry_reserve(RAFT_ENTRY_CLIENT, 16 + length);
    if (block == NULL) return push_call(L, ERR_NOMEM, 0);
    put_u64(block->bytes + ENTRY_HEADER, (uint64_t)luaL_checkinteger(L, 3));
    put_u64(block->bytes + ENTRY_HEADER + 8, (uint64_t)luaL_checkinteger(L, 4));
    memcpy(block->bytes + ENTRY_HEADER + 16, text, length);
    entry_seal(block);
    uint64_t sequence = 0;
    int code = host_propose(s->host, block, &sequence);
    host_flush(s->host);
    return push_call(L, code, sequence);
}

static int push_ask(lua_State *L, struct server *s, const struct ask_what *what)
{
    uint64_t number = 0;
    int code = s->host == NULL ? ERR_CLOSED : host_ask(s->host, what, &number);
    return push_call(L, code, number);
}

/* w:read(node [, lease]) -> number */
static int servers_read(lua_State *L)
{
    return push_ask(L, server_arg(L), &(struct ask_what){.kind = ASK_READ, .lease = lua_toboolean(L, 3)});
}

static int servers_transfer(lua_State *L)
{
    struct ask_what what = {.kind = ASK_TRANSFER, .target = (raft_id)luaL_optinteger(L, 3, 0)};
    return push_ask(L, server_arg(L), &what);
}

/* w:change(node, { { "add" | "promote" | "demote" | "move" | "remove", id [, address] }, ... }) -> number */
static int servers_change(lua_State *L)
{
    struct ask_what what;
    lua_asks_change(L, 3, &what);
    return push_ask(L, server_arg(L), &what);
}

/* w:snapshot(node [, whether its machine fails to be saved]) -> true; a `snapshot` event follows */
static int servers_snapshot(lua_State *L)
{
    struct server *s = running_arg(L);
    struct err e;
    s->refuses_save = lua_toboolean(L, 3);
    if (host_snapshot(s->host, &e) != OK) return lua_room_fail(L, &e);
    lua_pushboolean(L, 1);
    return 1;
}

/* w:state(node) -> the machine's lines, applied index */
static int servers_state(lua_State *L)
{
    struct server *s = running_arg(L);
    lua_pushlstring(L, s->state.size > 0 ? (const char *)s->state.data : "", s->state.size);
    lua_pushinteger(L, (lua_Integer)host_applied(s->host));
    return 2;
}

static int servers_cancel(lua_State *L)
{
    host_cancel(running_arg(L)->host, (uint64_t)luaL_checkinteger(L, 3));
    return 0;
}

/* w:events(node) -> lines of what its host was told since the last call: what, sequence, index, text */
static int servers_events(lua_State *L)
{
    struct server *s = server_arg(L);
    lua_pushlstring(L, s->events.size > 0 ? (const char *)s->events.data : "", s->events.size);
    buf_free(&s->events);
    return 1;
}

static int servers_host_turns(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)running_arg(L)->host_turns);
    return 1;
}

static int servers_pending(lua_State *L)
{
    lua_pushinteger(L, host_pending(running_arg(L)->host));
    return 1;
}

static void set_integer(lua_State *L, const char *name, uint64_t value)
{
    lua_pushinteger(L, (lua_Integer)value);
    lua_setfield(L, -2, name);
}

static void set_text(lua_State *L, const char *name, const char *value)
{
    lua_pushstring(L, value);
    lua_setfield(L, -2, name);
}

static void set_bool(lua_State *L, const char *name, bool value)
{
    lua_pushboolean(L, value);
    lua_setfield(L, -2, name);
}

static void set_member(lua_State *L, const struct member_status *m)
{
    lua_newtable(L);
    set_bool(L, "connected", m->connected);
    set_bool(L, "voter", !m->learner);
    set_text(L, "down", m->down);
    set_integer(L, "match", m->match);
    lua_rawseti(L, -2, (lua_Integer)m->id);
}

/* w:status(node) -> the newest status that its host was told */
static int servers_status(lua_State *L)
{
    static const char *const phases[] = {"starting", "running", "failed", "closed"};
    static const char *const roles[] = {"none", "follower", "candidate", "leader"};
    struct server *s = server_arg(L);
    const struct server_status *now = &s->status;
    lua_newtable(L);
    set_text(L, "phase", phases[now->phase]);
    set_text(L, "role", roles[now->role]);
    set_integer(L, "leader", now->leader);
    set_integer(L, "term", now->term);
    set_integer(L, "first", now->first);
    set_integer(L, "last", now->last);
    set_integer(L, "commit", now->commit);
    set_integer(L, "elections", now->elections);
    set_bool(L, "ready", now->ready);
    set_bool(L, "rejoining", now->rejoining);
    set_text(L, "disk", now->disk);
    set_bool(L, "host_slow", now->host_slow);
    set_bool(L, "removed", now->removed);
    set_text(L, "fault", now->fault == 0 ? NULL : now->fault_text);
    uint64_t now_us = s->io != NULL ? io_now(s->io) : 0;
    set_integer(L, "leader_age_us", now->leader_contact_us > 0 ? now_us - now->leader_contact_us : 0);
    lua_newtable(L);
    for (uint8_t i = 0; i < now->n_members; i++) set_member(L, &now->members[i]);
    lua_setfield(L, -2, "members");
    return 1;
}

/* What starting was told, for people. */
static int servers_start_error(lua_State *L)
{
    lua_pushstring(L, running_arg(L)->channel.start_error.text);
    return 1;
}

/* The term and last index of its core now, which a host that does not step would not be told. */
static int servers_core(lua_State *L)
{
    struct raft_status now;
    raft_status_get(engine_raft(running_arg(L)->engine), &now);
    lua_pushinteger(L, (lua_Integer)now.last);
    lua_pushinteger(L, (lua_Integer)now.term);
    return 2;
}

/* ---- servers: faults ---- */

static int servers_stall(lua_State *L)
{
    sim_world_stall_disk(world_arg(L)->sim, server_arg(L)->number, lua_toboolean(L, 3));
    return 0;
}

static int servers_fill(lua_State *L)
{
    sim_world_fill_disk(world_arg(L)->sim, server_arg(L)->number, lua_toboolean(L, 3));
    return 0;
}

/* w:fail_file(node, n): its n-th file operation from now on fails */
static int servers_fail_file(lua_State *L)
{
    sim_world_fail_file(world_arg(L)->sim, server_arg(L)->number, (uint64_t)luaL_checkinteger(L, 3), ERR_IO);
    return 0;
}

struct listing {
    lua_State *L;
    struct server *server;
    const char *dir;
};

static void add_file(void *ctx, const char *name)
{
    struct listing *l = ctx;
    size_t size = 0;
    lua_pushfstring(l->L, "%s/%s", l->dir, name);
    const char *path = lua_tostring(l->L, -1);
    const uint8_t *data = sim_world_file(l->server->world->sim, l->server->number, path, &size);
    if (data == NULL) {
        lua_pop(l->L, 1);
        return;
    }
    lua_pushlstring(l->L, (const char *)data, size);
    lua_rawset(l->L, -3);
}

/* w:image(node) -> { path = bytes } of all that is durable in its directory */
static int servers_image(lua_State *L)
{
    struct server *s = server_arg(L);
    struct listing l = {.L = L, .server = s, .dir = lua_pushfstring(L, "node-%d", s->number)};
    lua_newtable(L);
    luaL_checkstack(L, 100, NULL);
    sim_world_list(s->world->sim, s->number, l.dir, add_file, &l);
    return 1;
}

/* w:put(node, path, bytes) */
static int servers_put(lua_State *L)
{
    struct server *s = server_arg(L);
    size_t size;
    const char *bytes = luaL_checklstring(L, 4, &size);
    lua_pushboolean(L, sim_world_put_file(s->world->sim, s->number, luaL_checkstring(L, 3), bytes, size));
    return 1;
}

static int servers_wipe(lua_State *L)
{
    sim_world_wipe(world_arg(L)->sim, server_arg(L)->number);
    return 0;
}

/* w:cut(from, to, whether) */
static int servers_cut(lua_State *L)
{
    struct servers *w = world_arg(L);
    lua_Integer from = luaL_checkinteger(L, 2), to = luaL_checkinteger(L, 3);
    luaL_argcheck(L, from >= 1 && from <= SIM_NODES_MAX && to >= 1 && to <= SIM_NODES_MAX, 2, "no such node");
    sim_world_cut(w->sim, (int)from, (int)to, lua_toboolean(L, 4));
    return 0;
}

/* w:slow(from, to, bytes): each link between them carries so many bytes a second in that direction; 0: all that come */
static int servers_slow(lua_State *L)
{
    struct servers *w = world_arg(L);
    lua_Integer from = luaL_checkinteger(L, 2), to = luaL_checkinteger(L, 3), byte_rate = luaL_checkinteger(L, 4);
    luaL_argcheck(L, from >= 1 && from <= SIM_NODES_MAX && to >= 1 && to <= SIM_NODES_MAX, 2, "no such node");
    sim_world_slow_link(w->sim, (int)from, (int)to, 0, (uint64_t)byte_rate);
    return 0;
}

/* w:network(us [, { frame_lost=, link_broken= }]): how long a frame takes from now on, and what befalls it, permille */
static int servers_network(lua_State *L)
{
    uint64_t us = (uint64_t)luaL_checkinteger(L, 2);
    struct sim_faults faults = {.network_min_us = us, .network_max_us = us + 100,
                                .frame_lost = (uint32_t)field(L, 3, "frame_lost", 0),
                                .link_broken = (uint32_t)field(L, 3, "link_broken", 0),
                                .disk_min_us = 200, .disk_max_us = 300};
    sim_world_set_faults(world_arg(L)->sim, &faults);
    return 0;
}

/* ---- servers: outsiders ---- */

static struct server *outsider_arg(lua_State *L)
{
    struct server *s = server_arg(L);
    luaL_argcheck(L, s->engine == NULL, 2, "this node is no outsider");
    s->io = sim_world_io(s->world->sim, s->number, NULL, NULL);
    s->io->events = &outside_events;
    s->io->engine = s;
    return s;
}

static struct outside *link_arg(lua_State *L)
{
    struct servers *w = world_arg(L);
    lua_Integer id = luaL_checkinteger(L, 2);
    luaL_argcheck(L, id >= 1 && (size_t)id <= w->n_links, 2, "no such link");
    return w->links[id - 1];
}

static int servers_listen(lua_State *L)
{
    struct server *s = outsider_arg(L);
    struct io_server *server;
    struct err e;
    if (io_listen(s->io, luaL_checkstring(L, 3), &server, &e) != OK) return lua_room_fail(L, &e);
    lua_pushboolean(L, 1);
    return 1;
}

/* w:dial(node, address) -> link */
static int servers_dial(lua_State *L)
{
    struct server *s = outsider_arg(L);
    struct io_link *link;
    struct err e;
    if (io_connect(s->io, luaL_checkstring(L, 3), &link, &e) != OK) return lua_room_fail(L, &e);
    outside_add(s, link, false);
    lua_pushinteger(L, (lua_Integer)s->world->n_links);
    return 1;
}

/* w:accepted(node) -> links that it accepted and that are up, in order */
static int servers_accepted(lua_State *L)
{
    struct server *s = server_arg(L);
    lua_Integer n = 0;
    lua_newtable(L);
    for (size_t i = 0; i < s->world->n_links; i++) {
        const struct outside *o = s->world->links[i];
        if (o->node != s->number || !o->accepted || !o->up) continue;
        lua_pushinteger(L, (lua_Integer)i + 1);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

/* w:send(link, bytes) -> whether it is up */
static int servers_send(lua_State *L)
{
    struct outside *o = link_arg(L);
    size_t size;
    const char *bytes = luaL_checklstring(L, 3, &size);
    struct buf frame = {0};
    if (o->up) {
        append(&frame, bytes, size);
        io_send(world_arg(L)->nodes[o->node - 1].io, o->link, &frame);
    }
    lua_pushboolean(L, o->up);
    return 1;
}

static int servers_hang_up(lua_State *L)
{
    struct outside *o = link_arg(L);
    if (o->link != NULL) io_link_close(world_arg(L)->nodes[o->node - 1].io, o->link);
    o->link = NULL;
    o->up = false;
    o->down = "hung up";
    return 0;
}

/* w:link(link) -> whether it is up, why it is down, bytes received since the last call */
static int servers_link(lua_State *L)
{
    struct outside *o = link_arg(L);
    lua_pushboolean(L, o->up);
    lua_pushstring(L, o->down);
    lua_pushlstring(L, o->received.size > 0 ? (const char *)o->received.data : "", o->received.size);
    buf_free(&o->received);
    return 3;
}

static const luaL_Reg methods[] = {
    {"start", servers_start},       {"crash", servers_crash},     {"close", servers_close},
    {"pause", servers_pause},       {"run", servers_run},         {"propose", servers_propose},
    {"read", servers_read},         {"change", servers_change},   {"transfer", servers_transfer},
    {"client", servers_client},     {"snapshot", servers_snapshot}, {"state", servers_state},
    {"barrier", servers_barrier},   {"cancel", servers_cancel},   {"events", servers_events},
    {"pending", servers_pending},   {"host_turns", servers_host_turns},
        {"status", servers_status},     {"start_error", servers_start_error},
    {"core", servers_core},         {"stall", servers_stall},     {"fill", servers_fill},
    {"fail_file", servers_fail_file}, {"wipe", servers_wipe},     {"cut", servers_cut},
    {"image", servers_image},       {"put", servers_put},
    {"network", servers_network},   {"slow", servers_slow},       {"listen", servers_listen},   {"dial", servers_dial},
    {"accepted", servers_accepted}, {"send", servers_send},       {"hang_up", servers_hang_up},
    {"link", servers_link},         {NULL, NULL}};

void lua_server_open(lua_State *L)
{
    luaL_newmetatable(L, SESSIONS_CLASS);
    lua_pushcfunction(L, sessions_gc);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    lua_pushcfunction(L, sessions_judge);
    lua_setfield(L, -2, "admit");
    lua_pushcfunction(L, sessions_seen);
    lua_setfield(L, -2, "has");
    lua_pushcfunction(L, sessions_save);
    lua_setfield(L, -2, "write");
    lua_pushcfunction(L, sessions_load);
    lua_setfield(L, -2, "read");
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushcfunction(L, sessions_new);
    lua_setfield(L, -2, "sessions");
    lua_pushcfunction(L, clients_new);
    lua_setfield(L, -2, "clients");
    luaL_newmetatable(L, SERVERS_CLASS);
    lua_pushcfunction(L, servers_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushcfunction(L, servers_new);
    lua_setfield(L, -2, "servers");
}
