/* core.simulation: a simulated cluster of Lua processes, for lua/raft/sim.lua. Its user runs it by advance(), which
 * returns whenever there is something to be told. */
#include <stdio.h>

#include "base/hash.h"
#include "base/mem.h"
#include "lua/lua_process.h"
#include "sim/sim_trace.h"

#define SIMULATION_CLASS "raft.core.simulation"
#define STRETCH_EVENTS 10000 /* run at once: an interrupt of the interpreter is heard in between */
#define FAULTS_AFTER_US US_PER_S
#define START_US (10 * US_PER_MS) /* all nodes start within */

/* A moment its user waits for. */
struct timer {
    struct box *box;
    lua_Integer token;
    struct timer *next, **at; /* at: what points to it */
};

struct box {
    struct lua_simulation s;
    struct timer *timers;
    bool open;
};

static struct box *box_arg(lua_State *L)
{
    struct box *box = luaL_checkudata(L, 1, SIMULATION_CLASS);
    if (!box->open) luaL_error(L, "the simulation is over");
    return box;
}

static struct sim_member *member_arg(lua_State *L, struct box *box, int arg)
{
    lua_Integer id = luaL_checkinteger(L, arg);
    luaL_argcheck(L, id >= 1 && id <= box->s.cluster.config.nodes, arg, "no such node");
    return sim_cluster_member(&box->s.cluster, (int)id);
}

static uint64_t us_arg(lua_State *L, int arg)
{
    lua_Number s = luaL_checknumber(L, arg);
    luaL_argcheck(L, s >= 0 && s <= 1e9, arg, "seconds from 0 to 1e9 expected");
    return (uint64_t)(s * (lua_Number)US_PER_S + 0.5);
}

/* ---- making one ---- */

static lua_Integer field_integer(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    lua_Integer value = luaL_optinteger(L, -1, 0);
    lua_pop(L, 1);
    return value;
}

static uint64_t field_us(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    uint64_t us = us_arg(L, -1);
    lua_pop(L, 1);
    return us;
}

static void field_bytes(lua_State *L, const char *name, struct buf *out)
{
    size_t size;
    lua_getfield(L, 1, name);
    const char *bytes = luaL_checklstring(L, -1, &size);
    if (!buf_append(out, bytes, size)) luaL_error(L, "not enough memory");
    lua_pop(L, 1);
}

static unsigned field_faults(lua_State *L)
{
    unsigned faults = 0;
    lua_getfield(L, 1, "faults");
    luaL_checktype(L, -1, LUA_TTABLE);
    for (lua_Integer i = 1; lua_rawgeti(L, -1, i) != LUA_TNIL; i++) {
        faults |= 1u << luaL_checkoption(L, -1, NULL, sim_chaos_names);
        lua_pop(L, 1);
    }
    lua_pop(L, 2);
    return faults;
}

static void read_options(lua_State *L, struct box *box, struct sim_cluster_config *config, unsigned *faults)
{
    *config = (struct sim_cluster_config){
        .seed = (uint64_t)field_integer(L, "seed"), .nodes = (int)field_integer(L, "nodes"),
        .election_timeout_us = field_us(L, "election_timeout"), .heartbeat_us = field_us(L, "heartbeat"),
        .program = &lua_program,
    };
    luaL_argcheck(L, config->nodes >= 1 && config->nodes <= SIM_NODES_MAX, 1, "nodes: from 1 to 9 expected");
    *faults = field_faults(L);
    field_bytes(L, "code", &box->s.code);
    field_bytes(L, "boot", &box->s.boot);
}

/* simulation{ seed=, nodes=, election_timeout=, heartbeat=, lease=, faults={ names }, code=, boot=, closely_from=,
 * trace= }; lease: clocks run apart by no more than that allows */
static int simulation_new(lua_State *L)
{
    struct sim_cluster_config config;
    unsigned faults;
    luaL_checktype(L, 1, LUA_TTABLE);
    struct box *box = lua_newuserdatauv(L, sizeof *box, 0);
    struct lua_simulation *s = &box->s;
    memset(box, 0, sizeof *box);
    luaL_setmetatable(L, SIMULATION_CLASS);
    s->news_end = &s->news;
    read_options(L, box, &config, &faults);
    lua_getfield(L, 1, "trace");
    if (lua_toboolean(L, -1)) config.trace = s->trace = sim_trace_new();
    sim_chaos_draw(&s->chaos, config.seed, faults, config.election_timeout_us);
    config.faults = s->chaos.faults;
    lua_getfield(L, 1, "lease");
    s->chaos.bound = lua_toboolean(L, -1);
    lua_pop(L, 1);
    s->journal = sim_journal_new((raft_index)field_integer(L, "closely_from"));
    if (s->journal == NULL || sim_cluster_init(&s->cluster, &config) != OK) return luaL_error(L, "not enough memory");
    box->open = true;
    sim_chaos_start(&s->chaos, &s->cluster, FAULTS_AFTER_US);
    sim_chaos_start_members(&s->chaos, START_US);
    lua_pushvalue(L, -2);
    return 1;
}

/* Also __gc and __close; twice is harmless. */
static int simulation_close(lua_State *L)
{
    struct box *box = luaL_checkudata(L, 1, SIMULATION_CLASS);
    struct lua_simulation *s = &box->s;
    if (box->open) sim_cluster_free(&s->cluster);
    box->open = false;
    lua_process_free(s->witness);
    sim_journal_free(s->journal);
    sim_trace_free(s->trace);
    buf_free(&s->raised);
    buf_free(&s->code);
    buf_free(&s->boot);
    for (struct lua_news *news = s->news; news != NULL; news = s->news) {
        s->news = news->next;
        mem_free(news);
    }
    for (struct timer *timer = box->timers; timer != NULL; timer = box->timers) {
        box->timers = timer->next;
        mem_free(timer);
    }
    s->witness = NULL;
    s->journal = NULL;
    s->trace = NULL;
    return 0;
}

/* ---- running ---- */

/* Pushes kind, node, token, bytes of the oldest news. */
static int push_news(lua_State *L, struct lua_simulation *s)
{
    struct lua_news *news = s->news;
    lua_pushstring(L, news->kind);
    lua_pushinteger(L, news->node);
    lua_pushinteger(L, news->token);
    lua_pushlstring(L, news->bytes, news->size);
    s->news = news->next;
    if (s->news == NULL) s->news_end = &s->news;
    mem_free(news);
    return 4;
}

/* advance() -> kind, node, token, bytes of something that a process told, "timer", 0, token; "failure", text;
 * "go on" when nothing was told for a while. */
static int simulation_advance(lua_State *L)
{
    struct lua_simulation *s = &box_arg(L)->s;
    bool more = true;
    for (int i = 0; s->news == NULL && more && i < STRETCH_EVENTS; i++) more = sim_cluster_step(&s->cluster);
    const char *failure = sim_check_failure(s->cluster.check);
    if (failure != NULL) {
        lua_pushliteral(L, "failure");
        if (s->raised.size > 0) lua_pushlstring(L, (const char *)s->raised.data, s->raised.size);
        else lua_pushstring(L, failure);
        return 2;
    }
    if (s->news != NULL) return push_news(L, s);
    lua_pushliteral(L, "go on");
    return 1;
}

static void timer_rings(void *ctx)
{
    struct timer *timer = ctx;
    *timer->at = timer->next;
    if (timer->next != NULL) timer->next->at = timer->at;
    lua_simulation_tell(&timer->box->s, 0, "timer", timer->token, NULL, 0);
    mem_free(timer);
}

/* after(seconds, token) */
static int simulation_after(lua_State *L)
{
    struct box *box = box_arg(L);
    uint64_t us = us_arg(L, 2);
    lua_Integer token = luaL_checkinteger(L, 3);
    struct timer *timer = mem_alloc(sizeof *timer);
    if (timer == NULL) return luaL_error(L, "not enough memory");
    *timer = (struct timer){box, token, box->timers, &box->timers};
    if (timer->next != NULL) timer->next->at = &timer->next;
    box->timers = timer;
    sim_world_after(box->s.cluster.world, us, timer_rings, timer);
    return 0;
}

static struct lua_process *process_arg(lua_State *L, struct box *box, int arg)
{
    bool witness = lua_isinteger(L, arg) && lua_tointeger(L, arg) == 0;
    struct lua_process *p = witness ? box->s.witness : member_arg(L, box, arg)->process;
    if (p == NULL) luaL_error(L, "node %d has no process", (int)lua_tointeger(L, arg));
    return p;
}

/* ask(node, name, ...) -> what that function of sim_process.lua returns, now. node 0: the witness. Raises when down */
static int simulation_ask(lua_State *L)
{
    return lua_process_ask(L, process_arg(L, box_arg(L), 2), luaL_checkstring(L, 3), 4);
}

/* request(node, name, ...): as ask, and the process takes its turn soon. */
static int simulation_request(lua_State *L)
{
    struct box *box = box_arg(L);
    struct sim_member *m = member_arg(L, box, 2);
    lua_process_ask(L, process_arg(L, box, 2), luaL_checkstring(L, 3), 4);
    sim_member_wake(m, 1);
    return 0;
}

/* witness(): a fresh process without a node. Raises what its start raises. */
static int simulation_witness(lua_State *L)
{
    struct lua_simulation *s = &box_arg(L)->s;
    lua_process_free(s->witness);
    s->witness = lua_process_new(s, NULL, &s->raised);
    if (s->witness != NULL) return 0;
    lua_pushlstring(L, (const char *)s->raised.data, s->raised.size);
    return lua_error(L);
}

/* ---- faults by hand ---- */

static int simulation_start(lua_State *L)
{
    struct box *box = box_arg(L);
    struct sim_member *m = member_arg(L, box, 2);
    if (!m->up) sim_chaos_start_member(&box->s.chaos, m->id);
    return 0;
}

static int simulation_crash(lua_State *L)
{
    sim_member_crash(member_arg(L, box_arg(L), 2));
    return 0;
}

/* wipe(node) -> why it is not done; nil: it is */
static int simulation_wipe(lua_State *L)
{
    struct box *box = box_arg(L);
    lua_pushstring(L, sim_chaos_wipe(&box->s.chaos, member_arg(L, box, 2)->id));
    return 1;
}

/* pause(node, whether): all of its process */
static int simulation_pause(lua_State *L)
{
    struct box *box = box_arg(L);
    struct sim_member *m = member_arg(L, box, 2);
    sim_world_pause(box->s.cluster.world, m->id, lua_toboolean(L, 3));
    sim_member_pause(m, lua_toboolean(L, 3));
    return 0;
}

/* cut(from, to, whether) */
static int simulation_cut(lua_State *L)
{
    struct box *box = box_arg(L);
    int from = member_arg(L, box, 2)->id, to = member_arg(L, box, 3)->id;
    sim_world_cut(box->s.cluster.world, from, to, lua_toboolean(L, 4));
    return 0;
}

/* slow(from, to, seconds): what goes that way takes up to so much longer */
static int simulation_slow(lua_State *L)
{
    struct box *box = box_arg(L);
    int from = member_arg(L, box, 2)->id, to = member_arg(L, box, 3)->id;
    sim_world_slow_link(box->s.cluster.world, from, to, us_arg(L, 4), 0);
    return 0;
}

static int simulation_heal(lua_State *L)
{
    sim_chaos_heal(&box_arg(L)->s.chaos);
    return 0;
}

/* ---- looking in ---- */

/* state(node) -> "down", "starting", "running" */
static int simulation_state(lua_State *L)
{
    const struct sim_member *m = member_arg(L, box_arg(L), 2);
    lua_pushstring(L, !m->up ? "down" : m->running ? "running" : "starting");
    return 1;
}

/* life(node) -> the number of its present process, or of the last one */
static int simulation_life(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)member_arg(L, box_arg(L), 2)->lives);
    return 1;
}

/* failed() -> whether a check has */
static int simulation_failed(lua_State *L)
{
    lua_pushboolean(L, sim_check_failure(box_arg(L)->s.cluster.check) != NULL);
    return 1;
}

/* lost(node) -> whether its disk was lost: it takes no part any more */
static int simulation_lost(lua_State *L)
{
    struct box *box = box_arg(L);
    lua_pushboolean(L, sim_chaos_lost(&box->s.chaos, member_arg(L, box, 2)->id));
    return 1;
}

/* applied(node) -> index. Precondition: running */
static int simulation_applied(lua_State *L)
{
    const struct sim_member *m = member_arg(L, box_arg(L), 2);
    lua_pushinteger(L, m->host != NULL ? (lua_Integer)host_applied(m->host) : 0);
    return 1;
}

static int simulation_committed(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)sim_check_committed(box_arg(L)->s.cluster.check));
    return 1;
}

static int simulation_time(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)sim_world_now(box_arg(L)->s.cluster.world) / (lua_Number)US_PER_S);
    return 1;
}

/* hash() -> of all events, results and digests so far */
static int simulation_hash(lua_State *L)
{
    const struct lua_simulation *s = &box_arg(L)->s;
    uint64_t world = sim_world_hash(s->cluster.world);
    lua_pushinteger(L, (lua_Integer)hash64(&world, sizeof world, sim_journal_hash(s->journal)));
    return 1;
}

static void set_integer(lua_State *L, const char *name, uint64_t value)
{
    lua_pushinteger(L, (lua_Integer)value);
    lua_setfield(L, -2, name);
}

static void set_bytes(lua_State *L, const char *name, struct sim_bytes bytes)
{
    lua_pushlstring(L, (const char *)bytes.data, bytes.size);
    lua_setfield(L, -2, name);
}

/* The index of the last command applied anywhere. */
static int simulation_last(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)sim_journal_last(box_arg(L)->s.journal));
    return 1;
}

/* command(index) -> nil, or { time=, session=, sequence=, command=, result=, raised=, node= }: applied there */
static int simulation_command(lua_State *L)
{
    struct sim_applied a;
    if (!sim_journal_at(box_arg(L)->s.journal, (raft_index)luaL_checkinteger(L, 2), &a)) return 0;
    lua_createtable(L, 0, 7);
    lua_pushnumber(L, (lua_Number)a.time_us / (lua_Number)US_PER_S);
    lua_setfield(L, -2, "time");
    set_integer(L, "session", a.session);
    set_integer(L, "sequence", a.sequence);
    set_bytes(L, "command", a.command);
    set_bytes(L, "result", a.result);
    lua_pushboolean(L, a.raised);
    lua_setfield(L, -2, "raised");
    set_integer(L, "node", (uint64_t)a.node);
    return 1;
}

/* divergence() -> nil, or { index=, equal=, digest=, { node=, raised=, value=, hash= }, { of the second } } */
static int simulation_divergence(lua_State *L)
{
    struct sim_divergence d;
    if (!sim_journal_divergence(box_arg(L)->s.journal, &d)) return 0;
    lua_createtable(L, 2, 3);
    set_integer(L, "index", d.index);
    set_integer(L, "equal", d.equal);
    lua_pushboolean(L, d.digest);
    lua_setfield(L, -2, "digest");
    for (int i = 0; i < 2; i++) {
        lua_createtable(L, 0, 4);
        set_integer(L, "node", (uint64_t)d.nodes[i]);
        set_integer(L, "hash", d.hashes[i]);
        set_bytes(L, "value", d.values[i]);
        lua_pushboolean(L, d.raised[i]);
        lua_setfield(L, -2, "raised");
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* faults() -> the kinds that the seed has chosen: given by name, they make the same run */
static int simulation_faults(lua_State *L)
{
    const struct sim_chaos *chaos = &box_arg(L)->s.chaos;
    lua_newtable(L);
    for (size_t i = 0; sim_chaos_names[i] != NULL; i++) {
        if ((chaos->kinds >> i & 1u) == 0) continue;
        lua_pushstring(L, sim_chaos_names[i]);
        lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    }
    return 1;
}

/* trace() -> text, as sim/sim_trace.h tells; nil when none was asked for */
static int simulation_trace(lua_State *L)
{
    struct lua_simulation *s = &box_arg(L)->s;
    struct buf text = {0};
    if (s->trace == NULL) return 0;
    sim_trace_text(s->trace, &text);
    lua_pushlstring(L, (const char *)text.data, text.size);
    buf_free(&text);
    return 1;
}

void lua_simulation_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"advance", simulation_advance}, {"after", simulation_after}, {"ask", simulation_ask},
        {"request", simulation_request}, {"witness", simulation_witness}, {"start", simulation_start},
        {"crash", simulation_crash}, {"wipe", simulation_wipe}, {"pause", simulation_pause}, {"cut", simulation_cut},
        {"slow", simulation_slow}, {"heal", simulation_heal}, {"state", simulation_state}, {"lost", simulation_lost},
        {"life", simulation_life}, {"failed", simulation_failed},
        {"applied", simulation_applied}, {"committed", simulation_committed}, {"time", simulation_time},
        {"hash", simulation_hash}, {"last", simulation_last}, {"command", simulation_command},
        {"divergence", simulation_divergence}, {"trace", simulation_trace},
        {"faults", simulation_faults}, {"close", simulation_close},
        {"__gc", simulation_close}, {"__close", simulation_close}, {NULL, NULL},
    };
    luaL_newmetatable(L, SIMULATION_CLASS);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushcfunction(L, simulation_new);
    lua_setfield(L, -2, "simulation");
    lua_newtable(L);
    for (size_t i = 0; sim_chaos_names[i] != NULL; i++) {
        if (1u << i == SIM_MEMBERS) continue; /* whose members these are is up to the test */
        lua_pushstring(L, sim_chaos_names[i]);
        lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    }
    lua_setfield(L, -2, "simulation_faults");
}
