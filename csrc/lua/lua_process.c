#include <lualib.h>
#include <math.h>
#include <stdio.h>

#include "base/mem.h"
#include "lua/lua_place.h"
#include "lua/lua_process.h"
#include "sim/sim_queue.h"
#include "sim/sim_trace.h"
#include "store/store.h"

#define WALL_START_US (UINT64_C(1700000000) * US_PER_S) /* of the witness, which has no clocks of its own */
#define SKEW_US (100 * US_PER_S)
#define SEGMENT_SIZES 4u /* of the log, drawn for each life: small, so that a short run goes through many */

struct lua_process {
    struct lua_place place; /* of the one node in it */
    struct lua_server server;
    struct lua_simulation *simulation;
    struct sim_member *member; /* NULL: the witness */
    struct lua_chance chance;
    struct io *io;    /* the member's, for its clocks */
    uint64_t born_us;
    lua_State *L;
    int functions; /* of sim_process.lua: a reference in the registry */
    bool opened;   /* it has its node */
};

/* ---- news ---- */

void lua_simulation_tell(struct lua_simulation *s, int node, const char *kind, lua_Integer token, const void *bytes,
                         size_t size)
{
    struct lua_news *news = sim_alloc(sizeof *news + size);
    news->node = node;
    news->token = token;
    news->size = size;
    snprintf(news->kind, sizeof news->kind, "%s", kind);
    if (size > 0) memcpy(news->bytes, bytes, size);
    *s->news_end = news;
    s->news_end = &news->next;
}

/* ---- clocks ---- */

static uint64_t process_now(void *ctx)
{
    struct lua_process *p = ctx;
    if (p->io != NULL) return io_now(p->io) - p->born_us;
    return sim_world_now(p->simulation->cluster.world) + p->chance.seed % SKEW_US;
}

static uint64_t process_wall(void *ctx)
{
    struct lua_process *p = ctx;
    if (p->io != NULL) return io_wall(p->io);
    return WALL_START_US + sim_world_now(p->simulation->cluster.world) + p->chance.seed % SKEW_US;
}

/* ---- the place of a node ---- */

static struct lua_process *process_of(lua_State *L)
{
    return CONTAINER_OF(lua_place_of(L), struct lua_process, place);
}

static int place_prepare(lua_State *L)
{
    struct lua_process *p = process_of(L);
    if (p->member == NULL || p->opened) luaL_error(L, "a simulated process has one node, and that is there already");
    return -1;
}

static int place_open(const struct lua_place *place, int notify_fd, const struct engine_config *config,
                      const struct host_config *host, const struct host_machine *machine, void *ctx,
                      struct lua_server **out, struct err *e)
{
    struct lua_process *p = CONTAINER_OF(place, struct lua_process, place);
    struct engine_config small = *config;
    (void)notify_fd;
    (void)e;
    small.segment_bytes = STORE_SEGMENT_MIN * (1 + prng_below(&p->chance.prng, SEGMENT_SIZES));
    sim_member_open(p->member, &small, host, machine, ctx);
    p->opened = true;
    p->server = (struct lua_server){&p->place, p->io, p->member->engine, p->member->host};
    *out = &p->server;
    return OK;
}

static int place_run(struct lua_server *s, struct err *e)
{
    struct lua_process *p = CONTAINER_OF(s, struct lua_process, server);
    (void)e;
    sim_member_run(p->member); /* the host hears of a failure */
    return OK;
}

/* The member frees its engine together with its host. */
static void place_join(struct lua_server *s)
{
    s->engine = NULL;
}

static void place_free(struct lua_server *s)
{
    sim_member_free(CONTAINER_OF(s, struct lua_process, server)->member);
}

/* ---- what sim_process.lua is given ---- */

static struct lua_process *here_process(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* tell(kind, token, bytes) */
static int here_tell(lua_State *L)
{
    struct lua_process *p = here_process(L);
    size_t size = 0;
    const char *bytes = luaL_optlstring(L, 3, "", &size);
    lua_simulation_tell(p->simulation, p->member->id, luaL_checkstring(L, 1), luaL_checkinteger(L, 2), bytes, size);
    return 0;
}

static struct sim_bytes bytes_arg(lua_State *L, int arg)
{
    size_t size;
    const char *bytes = luaL_checklstring(L, arg, &size);
    return (struct sim_bytes){(const uint8_t *)bytes, size};
}

/* The first divergence ends the run; what it is, the journal knows. */
static void check_divergence(struct lua_process *p)
{
    struct sim_divergence d;
    if (!sim_journal_divergence(p->simulation->journal, &d)) return;
    sim_check_fail(p->simulation->cluster.check, d.nodes[1], "its machine parts from that of node %d at index %" PRIu64,
                   d.nodes[0], d.index);
}

/* In the journal; the witness is 0. */
static int node_of(const struct lua_process *p)
{
    return p->member != NULL ? p->member->id : 0;
}

/* result(index, bytes, raised) -> whether a digest is wanted */
static int here_result(lua_State *L)
{
    struct lua_process *p = here_process(L);
    raft_index index = (raft_index)luaL_checkinteger(L, 1);
    sim_journal_result(p->simulation->journal, node_of(p), index, bytes_arg(L, 2), lua_toboolean(L, 3));
    check_divergence(p);
    lua_pushboolean(L, sim_journal_wants_digest(p->simulation->journal, index));
    return 1;
}

/* digest(index, bytes) */
static int here_digest(lua_State *L)
{
    struct lua_process *p = here_process(L);
    raft_index index = (raft_index)luaL_checkinteger(L, 1);
    sim_journal_digest(p->simulation->journal, node_of(p), index, bytes_arg(L, 2));
    check_divergence(p);
    return 0;
}

/* reseed(): chance and clocks go on as in another process. For the witness. */
static int here_reseed(lua_State *L)
{
    struct lua_chance *chance = &here_process(L)->chance;
    chance->seed = prng_next(&chance->prng);
    return 0;
}

/* In place of raft.core's functions of the real world: now, poll, fd, signals, signal. */
static int here_now(lua_State *L)
{
    struct lua_process *p = here_process(L);
    lua_pushnumber(L, (lua_Number)(process_now(p) + p->born_us) / (lua_Number)US_PER_S);
    return 1;
}

/* Its loop is driven from outside: it is called when there is something to do, and never waits. */
static int here_poll(lua_State *L)
{
    if (lua_isnoneornil(L, 1) || lua_tonumber(L, 1) > 0)
        return luaL_error(L, "a simulated node cannot wait here: its loop is driven by the simulation");
    lua_pushboolean(L, 1);
    return 1;
}

static int here_absent(lua_State *L)
{
    return luaL_error(L, "a simulated node has neither a descriptor nor signals: the simulation drives its loop");
}

static int here_signal(lua_State *L)
{
    lua_pushnil(L);
    return 1;
}

static void set_functions(lua_State *L, struct lua_process *p, const luaL_Reg *functions)
{
    lua_pushlightuserdata(L, p);
    luaL_setfuncs(L, functions, 1);
}

/* ---- making one ---- */

/* (struct lua_process): loads everything and leaves the reference to sim_process.lua's functions. */
static int process_boot(lua_State *L)
{
    static const luaL_Reg core[] = {{"now", here_now}, {"poll", here_poll}, {"fd", here_absent},
                                    {"signals", here_absent}, {"signal", here_signal}, {NULL, NULL}};
    static const luaL_Reg here[] = {{"tell", here_tell}, {"result", here_result}, {"digest", here_digest},
                                    {"reseed", here_reseed}, {NULL, NULL}};
    struct lua_process *p = lua_touserdata(L, 1);
    const struct lua_simulation *s = p->simulation;
    luaL_openlibs(L);
    lua_chance_open(L, &p->chance);
    lua_place_set(L, &p->place);
    if (luaL_loadbuffer(L, (const char *)s->code.data, s->code.size, "raft.sim_process") != LUA_OK) return lua_error(L);
    luaL_requiref(L, "raft.core", luaopen_raft_core, 0);
    set_functions(L, p, core);
    lua_createtable(L, 0, (int)COUNT_OF(here));
    set_functions(L, p, here);
    lua_pushlstring(L, (const char *)s->boot.data, s->boot.size);
    lua_pushinteger(L, p->member != NULL ? p->member->id : 0);
    lua_call(L, 4, 1);
    luaL_checktype(L, -1, LUA_TTABLE);
    p->functions = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

static const char *error_text(lua_State *L)
{
    const char *text = lua_tostring(L, -1);
    return text != NULL ? text : "an error without a message";
}

/* A message that has a traceback already, of a coroutine, keeps it. */
static int with_traceback(lua_State *L)
{
    const char *text = lua_tostring(L, 1);
    if (text != NULL && strstr(text, "\nstack traceback:") == NULL) luaL_traceback(L, L, text, 1);
    return 1;
}

struct lua_process *lua_process_new(struct lua_simulation *s, struct sim_member *m, struct buf *text)
{
    struct sim_cluster *c = &s->cluster;
    struct lua_process *p = sim_alloc(sizeof *p);
    struct prng lives = {.state = c->config.seed + (m != NULL ? (uint64_t)m->id << 32 | m->lives : 0)};
    p->simulation = s;
    p->member = m;
    p->place = (struct lua_place){.prepare = place_prepare, .open = place_open, .run = place_run, .join = place_join,
                                  .free = place_free};
    if (m != NULL) p->io = m->io;
    if (m != NULL) p->born_us = io_now(p->io);
    p->chance = (struct lua_chance){.seed = prng_next(&lives), .prng = {.state = prng_next(&lives)},
                                    .now_us = process_now, .wall_us = process_wall, .ctx = p};
    p->L = luaL_newstate();
    ASSERT(p->L != NULL);
    lua_pushcfunction(p->L, with_traceback);
    lua_pushcfunction(p->L, process_boot);
    lua_pushlightuserdata(p->L, p);
    if (lua_pcall(p->L, 1, 0, 1) == LUA_OK) {
        lua_settop(p->L, 0);
        return p;
    }
    const char *raised = error_text(p->L);
    sim_buf_append(text, raised, strlen(raised) + 1);
    lua_process_free(p);
    return NULL;
}

void lua_process_free(struct lua_process *p)
{
    if (p == NULL) return;
    lua_close(p->L);
    mem_free(p);
}

/* ---- calling it ---- */

/* (name): calls a function without arguments; at most one result. */
static int call_body(lua_State *L)
{
    struct lua_process *p = process_of(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, p->functions);
    lua_getfield(L, -1, lua_tostring(L, 1));
    lua_call(L, 0, 1);
    return 1;
}

/* A process fails: so does the run. */
static void fail(struct lua_process *p, const char *text)
{
    sim_check_fail(p->simulation->cluster.check, p->member->id, "its process has failed");
    if (p->simulation->raised.size > 0) return;
    char head[32];
    int size = snprintf(head, sizeof head, "node %d: ", p->member->id);
    sim_buf_append(&p->simulation->raised, head, (size_t)size);
    sim_buf_append(&p->simulation->raised, text, strlen(text));
}

/* Leaves the result on the state's stack at index 2. What the function raises is a failure of the run. */
static bool call(struct lua_process *p, const char *name)
{
    lua_State *L = p->L;
    lua_settop(L, 0);
    lua_pushcfunction(L, with_traceback);
    lua_pushcfunction(L, call_body);
    lua_pushstring(L, name);
    if (lua_pcall(L, 1, 1, 1) == LUA_OK) return true;
    fail(p, error_text(L));
    lua_settop(L, 0);
    return false;
}

struct asking {
    lua_State *from;
    int first;
    const char *name;
};

/* Copies the plain value at index of `from`. */
static void copy_value(lua_State *from, int index, lua_State *to)
{
    size_t size;
    switch (lua_type(from, index)) {
    case LUA_TBOOLEAN: lua_pushboolean(to, lua_toboolean(from, index)); break;
    case LUA_TNUMBER:
        if (lua_isinteger(from, index)) lua_pushinteger(to, lua_tointeger(from, index));
        else lua_pushnumber(to, lua_tonumber(from, index));
        break;
    case LUA_TSTRING: {
        const char *text = lua_tolstring(from, index, &size);
        lua_pushlstring(to, text, size);
        break;
    }
    default: lua_pushnil(to);
    }
}

/* (struct asking) */
static int ask_body(lua_State *L)
{
    const struct asking *a = lua_touserdata(L, 1);
    int n = lua_gettop(a->from) - a->first + 1;
    luaL_checkstack(L, n + 4, "arguments");
    lua_rawgeti(L, LUA_REGISTRYINDEX, process_of(L)->functions);
    lua_getfield(L, -1, a->name);
    for (int i = 0; i < n; i++) copy_value(a->from, a->first + i, L);
    lua_call(L, n, LUA_MULTRET);
    return lua_gettop(L) - 2;
}

int lua_process_ask(lua_State *L, struct lua_process *p, const char *name, int first)
{
    struct asking a = {L, first, name};
    lua_State *T = p->L;
    lua_settop(T, 0);
    lua_pushcfunction(T, with_traceback);
    lua_pushcfunction(T, ask_body);
    lua_pushlightuserdata(T, &a);
    int status = lua_pcall(T, 1, LUA_MULTRET, 1);
    int n = status == LUA_OK ? lua_gettop(T) - 1 : 1;
    luaL_checkstack(L, n, "results");
    for (int i = 0; i < n; i++) copy_value(T, 2 + i, L);
    lua_settop(T, 0);
    return status == LUA_OK ? n : lua_error(L);
}

/* ---- as the program of a member ---- */

static void program_start(struct sim_member *m)
{
    struct lua_simulation *s = CONTAINER_OF(m->cluster, struct lua_simulation, cluster);
    m->process = lua_process_new(s, m, &s->raised);
    if (m->process == NULL) sim_check_fail(m->cluster->check, m->id, "its process has failed");
    else call(m->process, "start");
}

static uint64_t program_turn(struct sim_member *m)
{
    struct lua_process *p = m->process;
    if (p == NULL || !call(p, "turn") || lua_isnil(p->L, 2)) return NEVER_US;
    lua_Number us = ceil(lua_tonumber(p->L, 2) * (lua_Number)US_PER_S);
    return us < (lua_Number)US_PER_S * 1e6 ? (uint64_t)us : NEVER_US;
}

static void program_close(struct sim_member *m)
{
    if (call(m->process, "close")) sim_member_wake(m, 1);
}

/* Whoever waits for an answer of this life hears that there will be none. */
static void program_end(struct sim_member *m)
{
    struct lua_simulation *s = CONTAINER_OF(m->cluster, struct lua_simulation, cluster);
    const char *how = m->crashed ? "crashed" : "closed";
    lua_process_free(m->process);
    lua_simulation_tell(s, m->id, "ended", (lua_Integer)m->lives, how, strlen(how));
}

static void program_applying(struct sim_member *m, const struct entry *command, uint64_t time_us, uint64_t sequence)
{
    struct lua_simulation *s = CONTAINER_OF(m->cluster, struct lua_simulation, cluster);
    struct sim_cluster *c = m->cluster;
    sim_check_apply(c->check, m->id, command->index, command->index, time_us);
    sim_journal_apply(s->journal, command, time_us);
    if (sequence == 0) return;
    sim_check_acknowledge(c->check, m->id, command->index, command->index);
    c->acknowledged++;
    sim_trace_add(c->config.trace, SIM_TRACE_COMMAND, sim_world_now(c->world), m->id, "command", command->index, NULL);
}

const struct sim_program lua_program = {.start = program_start, .turn = program_turn, .close = program_close,
                                        .end = program_end, .applying = program_applying};
