/* core.sim_check: the checker of simulated clusters and the relation of allowed steps, fed by hand: for specs that show
 * them broken histories. */
#include "lua/lua_room.h"
#include "sim/sim_relation.h"

#define CHECK_CLASS "raft.core.sim_check"
#define TERMS_MAX 64 /* in one list */

struct lua_check {
    struct sim_check *check;
    struct sim_relation *relation;
};

static struct sim_check *check_arg(lua_State *L)
{
    return ((struct lua_check *)luaL_checkudata(L, 1, CHECK_CLASS))->check;
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
    struct lua_check *c = lua_newuserdatauv(L, sizeof(*c), 0);
    *c = (struct lua_check){0};
    luaL_setmetatable(L, CHECK_CLASS);
    c->check = sim_check_new(3);
    c->relation = sim_relation_new(c->check, 3);
    return c->check == NULL || c->relation == NULL ? luaL_error(L, "not enough memory") : 1;
}

static int l_check_free(lua_State *L)
{
    struct lua_check *c = luaL_checkudata(L, 1, CHECK_CLASS);
    sim_relation_free(c->relation);
    sim_check_free(c->check);
    *c = (struct lua_check){0};
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

/* The terms of the list at arg, in order, into terms; how many. */
static raft_index terms_arg(lua_State *L, int arg, raft_term terms[TERMS_MAX])
{
    lua_Integer last = luaL_len(L, arg);
    luaL_argcheck(L, last <= TERMS_MAX, arg, "too many terms");
    for (lua_Integer i = 1; i <= last; i++) {
        lua_geti(L, arg, i);
        terms[i - 1] = number_arg(L, -1);
        lua_pop(L, 1);
    }
    return (raft_index)last;
}

/* check:recover(node, term, vote, { terms }) */
static int l_check_recover(lua_State *L)
{
    raft_term terms[TERMS_MAX];
    raft_index last = terms_arg(L, 5, terms);
    sim_check_recover(check_arg(L), node_arg(L), number_arg(L, 3), number_arg(L, 4), terms, last);
    return 0;
}

/* check:disk(node, term, vote, { terms }) */
static int l_check_disk(lua_State *L)
{
    raft_term terms[TERMS_MAX];
    raft_index last = terms_arg(L, 5, terms);
    sim_check_disk(check_arg(L), node_arg(L), number_arg(L, 3), number_arg(L, 4), terms, last);
    return 0;
}

static int l_check_disks(lua_State *L)
{
    sim_check_disks(check_arg(L));
    return 0;
}

static int l_check_lost(lua_State *L)
{
    sim_check_lost(check_arg(L), node_arg(L));
    return 0;
}

static int l_check_damaged(lua_State *L)
{
    sim_check_damaged(check_arg(L), node_arg(L));
    return 0;
}

/* check:hash(node, index, hash): of an entry appended with hash 0 */
static int l_check_hash(lua_State *L)
{
    sim_check_hash(check_arg(L), node_arg(L), number_arg(L, 3), number_arg(L, 4));
    return 0;
}

/* check:propose(value) */
static int l_check_propose(lua_State *L)
{
    sim_check_propose(check_arg(L), number_arg(L, 2));
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

/* check:digest(node) -> of its state */
static int l_check_digest(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)sim_check_state(check_arg(L), node_arg(L)).digest);
    return 1;
}

/* check:answer(node, value, index, digest) -> is this the first time? */
static int l_check_answer(lua_State *L)
{
    bool first = sim_check_answer(check_arg(L), node_arg(L), number_arg(L, 3), number_arg(L, 4), number_arg(L, 5));
    lua_pushboolean(L, first);
    return 1;
}

/* check:expired(node, value, index) */
static int l_check_expired(lua_State *L)
{
    sim_check_expired(check_arg(L), node_arg(L), number_arg(L, 3), number_arg(L, 4));
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

/* ---- the relation ---- */

static uint64_t field(lua_State *L, int table, const char *name, uint64_t otherwise)
{
    lua_getfield(L, table, name);
    int is_integer = 1;
    uint64_t value = lua_isnil(L, -1) ? otherwise : (uint64_t)lua_tointegerx(L, -1, &is_integer);
    if (!is_integer) luaL_error(L, "%s: an integer expected", name);
    lua_pop(L, 1);
    return value;
}

static bool flag(lua_State *L, int table, const char *name)
{
    lua_getfield(L, table, name);
    bool value = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return value;
}

/* Which of names (from 1 on, NULL at the end) the field is. */
static int choice(lua_State *L, int table, const char *name, const char *const *names)
{
    lua_getfield(L, table, name);
    int value = luaL_checkoption(L, -1, NULL, names + 1) + 1;
    lua_pop(L, 1);
    return value;
}

static const char *const role_names[] = {NULL, "follower", "candidate", "leader", NULL};
static const char *const message_names[] = {NULL, "append", "append_reply", "heartbeat", "heartbeat_reply", "vote",
                                            "vote_reply", "timeout_now", "snapshot", NULL};
static const char *const input_names[] = {
    NULL, "start", "tick", "step", "propose", "persisted", "applied", "unreachable", "range_sent", "campaign",
    "step_down", "ready", "snapshot_taken", "compact", "snapshot_sent", "change", "peer_lost", "transfer",
    "leader_lost", "read", "withhold", NULL};
static const char *const result_names[] = {NULL, "ok", "nomem", "invalid", "corrupt", "not_leader", "transferring",
                                           "changing", "not_ready", "lagging", NULL};
static const int results[] = {0, OK, ERR_NOMEM, ERR_INVALID, ERR_CORRUPT, ERR_NOT_LEADER, ERR_TRANSFERRING,
                              ERR_CHANGING, ERR_NOT_READY, ERR_LAGGING};
static const char *const change_names[] = {NULL, "add", "promote", "demote", "move", "remove", NULL};

/* What an input points to. */
struct given {
    struct raft_config config;
    struct raft_initial initial;
    struct raft_run runs[TERMS_MAX];
    struct raft_message message, messages[8];
    struct raft_conf conf, message_conf; /* of the core after the step; in a message */
    struct raft_change changes[RAFT_MEMBERS_MAX];
    struct raft_read reads[8];
    struct raft_entry entries[TERMS_MAX];
    struct raft_ready ready;
    raft_term added[TERMS_MAX];
};

/* The terms in the list that is the field; none when it is nil. */
static raft_index terms_field(lua_State *L, int table, const char *name, raft_term terms[TERMS_MAX])
{
    raft_index n = lua_getfield(L, table, name) == LUA_TNIL ? 0 : terms_arg(L, lua_gettop(L), terms);
    lua_pop(L, 1);
    return n;
}

static uint8_t ids_field(lua_State *L, int table, const char *name, raft_id ids[RAFT_MEMBERS_MAX])
{
    raft_term list[TERMS_MAX];
    raft_index n = MIN(terms_field(L, table, name, list), RAFT_MEMBERS_MAX);
    memcpy(ids, list, n * sizeof *ids);
    return (uint8_t)n;
}

/* The field { voters = { ids }, outgoing = , learners = , founding = }; nil: voters 1, 2, 3. Was it there? */
static bool conf_field(lua_State *L, int table, const char *name, struct raft_conf *conf)
{
    *conf = (struct raft_conf){.voters = {1, 2, 3}, .n_voters = 3};
    bool given = lua_getfield(L, table, name) == LUA_TTABLE;
    if (given) {
        int fields = lua_gettop(L);
        conf->n_voters = ids_field(L, fields, "voters", conf->voters);
        conf->n_outgoing = ids_field(L, fields, "outgoing", conf->outgoing);
        conf->n_learners = ids_field(L, fields, "learners", conf->learners);
        conf->founding = flag(L, fields, "founding");
    }
    lua_pop(L, 1);
    return given;
}

/* { type, from, to, term, index, log_term, hint, commit, context, n_entries, pre, reject, force,
 *   entries = { terms }, conf = what the last of them says, if it is a configuration } */
static struct raft_message read_message(lua_State *L, int table, struct given *g)
{
    raft_term terms[TERMS_MAX];
    struct raft_entry *entries = g->entries;
    raft_index n = terms_field(L, table, "entries", terms);
    for (raft_index i = 0; i < n; i++) entries[i] = (struct raft_entry){.term = terms[i], .type = RAFT_ENTRY_COMMAND};
    bool changes = conf_field(L, table, "conf", &g->message_conf);
    if (changes && n > 0) {
        entries[n - 1].type = RAFT_ENTRY_CONFIG;
        entries[n - 1].conf = &g->message_conf;
    }
    return (struct raft_message){
        .type = (uint8_t)choice(L, table, "type", message_names),
        .from = field(L, table, "from", 0), .to = field(L, table, "to", 0), .term = field(L, table, "term", 0),
        .index = field(L, table, "index", 0), .log_term = field(L, table, "log_term", 0),
        .hint = field(L, table, "hint", 0), .commit = field(L, table, "commit", 0),
        .n_entries = (uint32_t)field(L, table, "n_entries", n), .entries = entries,
        .context = field(L, table, "context", 0), .conf = &g->message_conf,
        .pre = flag(L, table, "pre"), .reject = flag(L, table, "reject"), .force = flag(L, table, "force"),
    };
}

/* { id, election_timeout, heartbeat, lease, drift, term, vote, log = { terms }, applied, withhold, conf } */
static void read_start(lua_State *L, int table, struct given *g)
{
    raft_term terms[TERMS_MAX];
    g->config = (struct raft_config){
        .id = field(L, table, "id", 1),
        .election_timeout_us = field(L, table, "election_timeout", US_PER_S),
        .heartbeat_us = field(L, table, "heartbeat", US_PER_S / 10),
        .lease = flag(L, table, "lease"), .clock_drift_us = field(L, table, "drift", 0),
        .withhold = flag(L, table, "withhold"),
    };
    g->initial = (struct raft_initial){
        .term = field(L, table, "term", 0), .vote = field(L, table, "vote", 0), .runs = g->runs,
        .last = terms_field(L, table, "log", terms), .applied = field(L, table, "applied", 0),
    };
    conf_field(L, table, "conf", &g->initial.conf);
    for (raft_index i = 0; i < g->initial.last; i++) {
        if (i > 0 && terms[i] == terms[i - 1]) continue;
        g->runs[g->initial.n_runs++] = (struct raft_run){.start = i + 1, .term = terms[i]};
    }
}

/* reads = { { context, index }, ... } */
static void read_reads(lua_State *L, int table, struct given *g)
{
    if (lua_getfield(L, table, "reads") == LUA_TTABLE) {
        int list = lua_gettop(L);
        g->ready.n_reads = MIN((size_t)luaL_len(L, list), COUNT_OF(g->reads));
        for (size_t i = 0; i < g->ready.n_reads; i++) {
            lua_geti(L, list, (lua_Integer)i + 1);
            int read = lua_gettop(L);
            g->reads[i] = (struct raft_read){field(L, read, "context", 0), field(L, read, "index", 0)};
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
}

/* changes = { { op, id }, ... }; how many */
static size_t read_changes(lua_State *L, int table, struct given *g)
{
    size_t n = 0;
    if (lua_getfield(L, table, "changes") == LUA_TTABLE) {
        int list = lua_gettop(L);
        for (n = 0; n < MIN((size_t)luaL_len(L, list), COUNT_OF(g->changes)); n++) {
            lua_geti(L, list, (lua_Integer)n + 1);
            int change = lua_gettop(L);
            g->changes[n].op = (uint8_t)choice(L, change, "op", change_names);
            g->changes[n].id = field(L, change, "id", 0);
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
    return n;
}

/* { seq, vote_changed, term, vote, truncate_from, first, last, commit, messages = { ... }, reads = { ... } } */
static void read_ready(lua_State *L, int table, struct given *g)
{
    g->ready = (struct raft_ready){
        .seq = field(L, table, "seq", 0), .vote_changed = flag(L, table, "vote_changed"),
        .term = field(L, table, "term", 0), .vote = field(L, table, "vote", 0),
        .truncate_from = field(L, table, "truncate_from", 0), .first = field(L, table, "first", 1),
        .last = field(L, table, "last", 0), .commit = field(L, table, "commit", 0),
        .messages = g->messages, .reads = g->reads,
    };
    read_reads(L, table, g);
    if (lua_getfield(L, table, "messages") == LUA_TTABLE) {
        int list = lua_gettop(L);
        g->ready.n_messages = MIN((size_t)luaL_len(L, list), COUNT_OF(g->messages));
        for (size_t i = 0; i < g->ready.n_messages; i++) {
            lua_geti(L, list, (lua_Integer)i + 1);
            g->messages[i] = read_message(L, lua_gettop(L), g);
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
}

/* { type, result = "ok", now, message, n, seq, index, peer, context, lease, changes }, and what else the type has. */
static struct raft_input read_input(lua_State *L, int table, struct given *g)
{
    struct raft_input input = {
        .type = (enum raft_input_type)choice(L, table, "type", input_names),
        .now = field(L, table, "now", 0), .n = (size_t)field(L, table, "n", 0), .seq = field(L, table, "seq", 0),
        .index = field(L, table, "index", 0), .peer = field(L, table, "peer", 0),
        .context = field(L, table, "context", 0), .lease = flag(L, table, "lease"), .changes = g->changes,
    };
    if (input.type == RAFT_INPUT_CHANGE) input.n = read_changes(L, table, g);
    if (lua_getfield(L, table, "result") != LUA_TNIL) input.result = results[choice(L, table, "result", result_names)];
    lua_pop(L, 1);
    if (input.type == RAFT_INPUT_START) {
        read_start(L, table, g);
        input.config = &g->config;
        input.initial = &g->initial;
    } else if (input.type == RAFT_INPUT_STEP) {
        lua_getfield(L, table, "message");
        g->message = read_message(L, lua_gettop(L), g);
        input.message = &g->message;
        lua_pop(L, 1);
    } else if (input.type == RAFT_INPUT_READY) {
        read_ready(L, table, g);
        input.ready = &g->ready;
    }
    return input;
}

/* { role, term, durable_term, vote, leader, stable, commit, applied, asking, removed, transfer, conf, conf_index,
 *   deadline, kept, added = { terms }, peers = { { id, match, next }, ... } } */
static struct sim_core read_core(lua_State *L, int table, raft_index known, struct given *g)
{
    struct sim_core core = {
        .role = (enum raft_role)choice(L, table, "role", role_names),
        .term = field(L, table, "term", 0), .durable_term = field(L, table, "durable_term", 0),
        .vote = field(L, table, "vote", 0), .leader = field(L, table, "leader", 0),
        .stable = field(L, table, "stable", 0), .commit = field(L, table, "commit", 0),
        .applied = field(L, table, "applied", 0), .asking = flag(L, table, "asking"),
        .deadline_us = field(L, table, "deadline", 0), .kept = MIN(field(L, table, "kept", known), known),
        .added = g->added, .n_added = (size_t)terms_field(L, table, "added", g->added),
        .removed = flag(L, table, "removed"), .transfer = field(L, table, "transfer", 0), .conf = &g->conf,
        .conf_index = field(L, table, "conf_index", 0),
    };
    conf_field(L, table, "conf", &g->conf);
    core.last = core.kept + core.n_added;
    if (lua_getfield(L, table, "peers") == LUA_TTABLE) {
        int list = lua_gettop(L);
        core.n_peers = MIN((size_t)luaL_len(L, list), COUNT_OF(core.peers));
        for (size_t i = 0; i < core.n_peers; i++) {
            lua_geti(L, list, (lua_Integer)i + 1);
            int peer = lua_gettop(L);
            core.peers[i] = (struct sim_peer){field(L, peer, "id", 0), field(L, peer, "match", 0),
                                              field(L, peer, "next", 1)};
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
    return core;
}

/* check:step(node, input, state after it): judged by the relation; then the checker's log is brought up to it. */
static int l_check_step(lua_State *L)
{
    struct lua_check *c = luaL_checkudata(L, 1, CHECK_CLASS);
    int node = node_arg(L);
    struct given g;
    struct raft_input input = read_input(L, 3, &g);
    if (input.type == RAFT_INPUT_START) {
        raft_term terms[TERMS_MAX];
        raft_index last = terms_field(L, 3, "log", terms);
        sim_check_truncate(c->check, node, 0);
        sim_check_term(c->check, node, g.initial.term, g.initial.vote, g.initial.term);
        for (raft_index i = 0; i < last; i++) sim_check_append(c->check, node, terms[i], 0);
    }
    struct sim_core core = read_core(L, 4, sim_check_last(c->check, node), &g);
    sim_relation_step(c->relation, node, &input, &core);
    if (sim_check_failure(c->check) != NULL) return 0;
    sim_check_term(c->check, node, core.term, core.vote, core.durable_term);
    if (core.kept < sim_check_last(c->check, node)) sim_check_truncate(c->check, node, core.kept);
    for (size_t i = 0; i < core.n_added; i++) sim_check_append(c->check, node, core.added[i], 0);
    return 0;
}

void lua_check_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"failure", l_check_failure}, {"term", l_check_term},         {"leader", l_check_leader},
        {"truncate", l_check_truncate}, {"append", l_check_append},   {"stable", l_check_stable},
        {"commit", l_check_commit},   {"crash", l_check_crash},       {"recover", l_check_recover},
        {"apply", l_check_apply},     {"acknowledge", l_check_acknowledge}, {"refuse", l_check_refuse},
        {"barrier", l_check_barrier}, {"finish", l_check_finish},     {"says", l_check_says},
        {"says_stored", l_check_says_stored}, {"says_vote", l_check_says_vote}, {"hash", l_check_hash},
        {"propose", l_check_propose}, {"lost", l_check_lost},         {"damaged", l_check_damaged},
        {"disk", l_check_disk},       {"disks", l_check_disks},       {"step", l_check_step},
        {"digest", l_check_digest},   {"answer", l_check_answer},     {"expired", l_check_expired},
        {NULL, NULL},
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
