/* A simulated process: a Lua state of its own for each life of a simulated node. In it the same Lua half runs as
 * everywhere else, and the user's machine; clocks, chance and the order of pairs are the simulation's (lua_chance.c).
 *
 * lua/raft/sim_process.lua is what runs there. It is called with a table `here`, by which it tells what happened, and
 * returns a table of functions: start(), turn() -> seconds, close(), and others that lua_process_ask calls. */
#ifndef RAFT_LUA_LUA_PROCESS_H
#define RAFT_LUA_LUA_PROCESS_H

#include "lua/lua_room.h"
#include "sim/sim_chaos.h"
#include "sim/sim_journal.h"

#pragma GCC visibility push(hidden)

struct lua_process;

/* Something that a process says to the simulation's user. */
struct lua_news {
    struct lua_news *next;
    int node;
    lua_Integer token; /* of whatever it answers */
    char kind[16];
    size_t size;
    char bytes[];
};

/* The simulation, as its processes see it. */
struct lua_simulation {
    struct sim_cluster cluster;
    struct sim_chaos chaos;
    struct sim_journal *journal;
    struct sim_trace *trace;  /* NULL: nothing is recorded */
    struct buf code;  /* of sim_process.lua, loadable */
    struct buf boot;  /* packed, for sim_process.lua */
    struct buf raised;        /* what a process raised: it has failed, and so has the run */
    struct lua_news *news, **news_end;
    struct lua_process *witness; /* no node: a state of its own, in which commands are applied once more */
};

extern const struct sim_program lua_program; /* of clusters that are the first field of a struct lua_simulation */

/* kind: static text, shorter than that field. Without memory the process ends: it is the simulator's own. */
void lua_simulation_tell(struct lua_simulation *s, int node, const char *kind, lua_Integer token, const void *bytes,
                         size_t size);

/* The process of a member's life, or one without a member (NULL). NULL: why is appended to text. */
struct lua_process *lua_process_new(struct lua_simulation *s, struct sim_member *m, struct buf *text);
void lua_process_free(struct lua_process *p); /* closes its node, if it has one, as the member's end demands */

/* Calls a function of sim_process.lua with the arguments from index `first` to the top of L (nil, booleans, numbers,
 * strings), and pushes what it returns, the same kinds. Raises in L what it raises. */
int lua_process_ask(lua_State *L, struct lua_process *p, const char *name, int first);

/* ---- lua_chance.c ---- */

/* What the programs of a state take from clocks and chance. */
struct lua_chance {
    uint64_t seed; /* of this life: the order of pairs, math.random */
    struct prng prng;
    uint64_t (*now_us)(void *ctx);  /* since the process began */
    uint64_t (*wall_us)(void *ctx);
    void *ctx;
};

/* Puts seeded versions of pairs, next, tostring, os.clock, os.date, os.exit, os.time, math.randomseed and of the
 * generator behind math.random into the globals of a state. chance outlives it. */
void lua_chance_open(lua_State *L, struct lua_chance *chance);

#pragma GCC visibility pop

#endif
