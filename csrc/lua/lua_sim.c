#include "lua/lua_room.h"
#include "sim/sim_scenario.h"
#include "sim/sim_trace.h"

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
    unsigned faults = 0;
    int type = lua_getfield(L, table, "faults");
    if (type == LUA_TNIL || (type == LUA_TBOOLEAN && lua_toboolean(L, -1))) {
        faults = SIM_ALL;
    } else if (type == LUA_TTABLE) {
        lua_Integer count = luaL_len(L, -1);
        for (lua_Integer i = 1; i <= count; i++) {
            lua_rawgeti(L, -1, i);
            faults |= 1u << luaL_checkoption(L, -1, NULL, sim_chaos_names);
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

/* The kinds of faults that the seed has drawn, as names. */
static void set_faults(lua_State *L, unsigned kinds)
{
    lua_newtable(L);
    for (size_t i = 0; sim_chaos_names[i] != NULL; i++) {
        if ((kinds >> i & 1u) == 0) continue;
        lua_pushstring(L, sim_chaos_names[i]);
        lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    }
    lua_setfield(L, -2, "faults");
}

/* What was recorded, as text: sim/sim_trace.h tells its form. */
static void set_trace(lua_State *L, struct sim_trace *trace)
{
    struct buf text = {0};
    sim_trace_text(trace, &text);
    lua_pushlstring(L, (const char *)text.data, text.size);
    lua_setfield(L, -2, "trace");
    buf_free(&text);
}

/* core.sim{ seed=, nodes=, seconds=, faults=, clients=, visitors=, trace= } -> report: one scenario of a
 * simulated cluster. */
static int l_sim(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_getfield(L, 1, "trace");
    bool traced = lua_toboolean(L, -1);
    struct sim_options options = {
        .seed = (uint64_t)field_integer(L, 1, "seed", 1, LUA_MININTEGER, LUA_MAXINTEGER),
        .nodes = (int)field_integer(L, 1, "nodes", 3, 1, SIM_NODES_MAX),
        .clients = (int)field_integer(L, 1, "clients", 3, 1, SIM_CLIENTS_MAX),
        .visitors = (int)field_integer(L, 1, "visitors", 0, 0, SIM_VISITORS_MAX),
        .seconds = (uint64_t)field_integer(L, 1, "seconds", 20, 0, 1000000),
        .faults = field_faults(L, 1),
    };
    struct sim_report report;
    if (traced) options.trace = sim_trace_new();
    if (sim_scenario_run(&options, &report) != OK) {
        sim_trace_free(options.trace);
        return luaL_error(L, "not enough memory");
    }
    lua_createtable(L, 0, 12);
    lua_pushboolean(L, report.ok);
    lua_setfield(L, -2, "ok");
    if (!report.ok) {
        lua_pushstring(L, report.failure);
        lua_setfield(L, -2, "failure");
    }
    lua_pushboolean(L, report.lease);
    lua_setfield(L, -2, "lease");
    set_integer(L, "hash", report.hash);
    set_integer(L, "events", report.events);
    set_integer(L, "commands", report.commands);
    set_integer(L, "elections", report.elections);
    set_integer(L, "crashes", report.crashes);
    set_integer(L, "changes", report.changes);
    set_integer(L, "snapshots", report.snapshots);
    set_integer(L, "restores", report.restores);
    set_integer(L, "repeats", report.repeats);
    set_integer(L, "ended", report.ended);
    set_seconds(L, "simulated", report.simulated_us);
    set_seconds(L, "recovery", report.recovery_us);
    set_seconds(L, "timeout", report.timeout_us);
    set_faults(L, report.kinds);
    if (traced) set_trace(L, options.trace);
    sim_trace_free(options.trace);
    return 1;
}

void lua_sim_open(lua_State *L)
{
    lua_pushcfunction(L, l_sim);
    lua_setfield(L, -2, "sim");
}
