/* core.raft: the pure consensus core, for specs that drive it step by step and for programs that put it under a
 * transport and a storage of their own. Entries are { term, type, size } and carry no bytes: whoever drives the core
 * keeps them by index. Times are integers, in microseconds. What csrc/core/raft.h calls a precondition raises here.
 * core.quorum: decisions by majority, pure; core.membership: changes of configurations, pure. Configurations are
 * { voters, outgoing, learners }: lists of ids. */
#include "core/membership.h"
#include "core/quorum.h"
#include "core/raft.h"
#include "lua/lua_room.h"

#define RAFT_CLASS "raft.core.raft"

struct lua_raft {
    struct raft *raft;
    uint64_t handed, done;       /* batches: newest handed out, newest acknowledged */
    raft_index commit, applied;  /* handed out as committed, reported as applied */
};

static const char *const role_names[] = {
    [RAFT_FOLLOWER] = "follower", [RAFT_CANDIDATE] = "candidate", [RAFT_LEADER] = "leader"};
static const char *const entry_names[] = {
    [RAFT_ENTRY_EMPTY] = "empty", [RAFT_ENTRY_COMMAND] = "command", [RAFT_ENTRY_BARRIER] = "barrier",
    [RAFT_ENTRY_CONFIG] = "config", [RAFT_ENTRY_CLIENT] = "client"};
static const char *const message_names[RAFT_MESSAGE_TYPES] = {
    [RAFT_APPEND] = "append",       [RAFT_APPEND_REPLY] = "append_reply",
    [RAFT_HEARTBEAT] = "heartbeat", [RAFT_HEARTBEAT_REPLY] = "heartbeat_reply",
    [RAFT_VOTE] = "vote",           [RAFT_VOTE_REPLY] = "vote_reply",
    [RAFT_TIMEOUT_NOW] = "timeout_now", [RAFT_SNAPSHOT] = "snapshot"};
static const char *const change_names[] = {[RAFT_ADD] = "add", [RAFT_PROMOTE] = "promote", [RAFT_DEMOTE] = "demote",
                                           [RAFT_MOVE] = "move", [RAFT_REMOVE] = "remove"};

/* ---- tables to C ---- */

/* Raises for a field that is not in names: a misspelt one would be ignored. */
static void check_fields(lua_State *L, int index, const char *what, const char *const *names)
{
    luaL_checktype(L, index, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : luaL_typename(L, -2);
        bool known = false;
        for (size_t i = 0; names[i] != NULL; i++) known = known || strcmp(names[i], key) == 0;
        if (!known) luaL_error(L, "%s: unknown field '%s'", what, key);
    }
}

/* All 64 bits count: -1 is the largest number. */
static uint64_t get_integer(lua_State *L, int index, const char *name, uint64_t otherwise)
{
    lua_getfield(L, index, name);
    int is_integer = 1;
    uint64_t v = lua_isnil(L, -1) ? otherwise : (uint64_t)lua_tointegerx(L, -1, &is_integer);
    if (!is_integer) luaL_error(L, "'%s' must be an integer, not a %s", name, luaL_typename(L, -1));
    lua_pop(L, 1);
    return v;
}

static bool get_bool(lua_State *L, int index, const char *name)
{
    lua_getfield(L, index, name);
    bool v = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return v;
}

/* The number of the name on top of the stack, or the integer itself (specs send nonsense); pops it. */
static uint8_t pop_type(lua_State *L, const char *const *names, size_t n, uint8_t otherwise)
{
    uint8_t type = otherwise;
    if (lua_isinteger(L, -1)) {
        type = (uint8_t)lua_tointeger(L, -1);
    } else if (!lua_isnil(L, -1)) {
        const char *name = luaL_tolstring(L, -1, NULL);
        for (type = 0; type < n && (names[type] == NULL || strcmp(names[type], name) != 0);) type++;
        if (type == n) luaL_error(L, "unknown type '%s'", name);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return type;
}

static uint8_t get_ids(lua_State *L, int index, const char *name, raft_id ids[RAFT_MEMBERS_MAX])
{
    lua_getfield(L, index, name);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return 0;
    }
    if (!lua_istable(L, -1)) luaL_error(L, "'%s' must be a list of member ids", name);
    lua_Integer n = luaL_len(L, -1);
    if (n > RAFT_MEMBERS_MAX) luaL_error(L, "'%s': at most %d members", name, RAFT_MEMBERS_MAX);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_geti(L, -1, i);
        ids[i - 1] = (raft_id)luaL_checkinteger(L, -1);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return (uint8_t)n;
}

static struct raft_conf get_conf(lua_State *L, int index)
{
    struct raft_conf conf = {0};
    conf.n_voters = get_ids(L, index, "voters", conf.voters);
    conf.n_outgoing = get_ids(L, index, "outgoing", conf.outgoing);
    conf.n_learners = get_ids(L, index, "learners", conf.learners);
    conf.founding = get_bool(L, index, "founding");
    return conf;
}

/* The field conf of the table at index, if it is one. */
static bool get_conf_field(lua_State *L, int index, struct raft_conf *out)
{
    static const char *const known[] = {"voters", "outgoing", "learners", "founding", NULL};
    bool has = lua_getfield(L, index, "conf") == LUA_TTABLE;
    if (has) {
        check_fields(L, lua_gettop(L), "conf", known);
        *out = get_conf(L, lua_gettop(L));
    }
    lua_pop(L, 1);
    return has;
}

/* Entries of the list at index as a userdata, pushed with another one for their configurations; NULL for an empty
 * one. */
static struct raft_entry *push_entries(lua_State *L, int index, size_t n)
{
    struct raft_entry *entries = lua_newuserdatauv(L, MAX(n, 1) * sizeof *entries, 0);
    struct raft_conf *confs = lua_newuserdatauv(L, MAX(n, 1) * sizeof *confs, 0);
    for (size_t i = 0; i < n; i++) {
        lua_geti(L, index, (lua_Integer)i + 1);
        int entry = lua_gettop(L);
        luaL_checktype(L, entry, LUA_TTABLE);
        entries[i] = (struct raft_entry){
            .term = get_integer(L, entry, "term", 0),
            .size = (uint32_t)get_integer(L, entry, "size", 1),
            .conf = get_conf_field(L, entry, &confs[i]) ? &confs[i] : NULL,
        };
        lua_getfield(L, entry, "type");
        entries[i].type = pop_type(L, entry_names, RAFT_ENTRY_TYPES, RAFT_ENTRY_COMMAND);
        lua_pop(L, 1);
    }
    return n == 0 ? NULL : entries;
}

/* The configurations of { {index, conf = conf}, ... } as a userdata, pushed. */
static struct raft_conf_at *push_confs(lua_State *L, int index, size_t *n)
{
    lua_getfield(L, index, "confs");
    *n = lua_isnil(L, -1) ? 0 : (size_t)luaL_len(L, -1);
    int list = lua_gettop(L);
    struct raft_conf_at *confs = lua_newuserdatauv(L, MAX(*n, 1) * sizeof *confs, 0);
    for (size_t i = 0; i < *n; i++) {
        lua_geti(L, list, (lua_Integer)i + 1);
        luaL_checktype(L, -1, LUA_TTABLE);
        confs[i] = (struct raft_conf_at){.index = get_integer(L, lua_gettop(L), "index", 0)};
        get_conf_field(L, lua_gettop(L), &confs[i].conf);
        lua_pop(L, 1);
    }
    return confs;
}

/* The runs of { {start, term}, ... } as a userdata, pushed. */
static struct raft_run *push_runs(lua_State *L, int index, size_t *n)
{
    lua_getfield(L, index, "runs");
    *n = lua_isnil(L, -1) ? 0 : (size_t)luaL_len(L, -1);
    int list = lua_gettop(L);
    struct raft_run *runs = lua_newuserdatauv(L, MAX(*n, 1) * sizeof *runs, 0);
    for (size_t i = 0; i < *n; i++) {
        lua_geti(L, list, (lua_Integer)i + 1);
        luaL_checktype(L, -1, LUA_TTABLE);
        lua_geti(L, -1, 1);
        lua_geti(L, -2, 2);
        runs[i].start = (raft_index)luaL_checkinteger(L, -2);
        runs[i].term = (raft_term)luaL_checkinteger(L, -1);
        lua_pop(L, 3);
    }
    return runs;
}

/* ---- C to tables ---- */

static void set_integer(lua_State *L, const char *name, uint64_t v)
{
    lua_pushinteger(L, (lua_Integer)v);
    lua_setfield(L, -2, name);
}

static void set_bool(lua_State *L, const char *name, bool v)
{
    lua_pushboolean(L, v);
    lua_setfield(L, -2, name);
}

static void set_string(lua_State *L, const char *name, const char *v)
{
    lua_pushstring(L, v);
    lua_setfield(L, -2, name);
}

static void set_ids(lua_State *L, const char *name, const raft_id *ids, size_t n)
{
    if (n == 0) return;
    lua_createtable(L, (int)n, 0);
    for (size_t i = 0; i < n; i++) {
        lua_pushinteger(L, (lua_Integer)ids[i]);
        lua_seti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, name);
}

/* Lists that are empty are left out. */
static void push_conf(lua_State *L, const struct raft_conf *conf)
{
    lua_createtable(L, 0, 3);
    set_ids(L, "voters", conf->voters, conf->n_voters);
    set_ids(L, "outgoing", conf->outgoing, conf->n_outgoing);
    set_ids(L, "learners", conf->learners, conf->n_learners);
    if (conf->founding) set_bool(L, "founding", true);
}

static void push_entry(lua_State *L, const struct raft *r, raft_index index)
{
    const struct raft_cached *entry = raft_entry_at(r, index);
    raft_term term = 0;
    raft_term_at(r, index, &term);
    lua_createtable(L, 0, 4);
    set_integer(L, "term", term);
    set_integer(L, "size", entry->size);
    set_string(L, "type", entry_names[entry->type]);
    if (entry->type != RAFT_ENTRY_CONFIG) return;
    push_conf(L, raft_conf_at(r, index));
    lua_setfield(L, -2, "conf");
}

/* The entries that an APPEND names, or range = true when they have left memory. */
static void set_entries(lua_State *L, const struct raft *r, const struct raft_message *m)
{
    set_integer(L, "n_entries", m->n_entries);
    if (m->n_entries > 0 && raft_entry_at(r, m->index + 1) == NULL) {
        set_bool(L, "range", true);
        return;
    }
    lua_createtable(L, (int)m->n_entries, 0);
    for (uint32_t i = 0; i < m->n_entries; i++) {
        push_entry(L, r, m->index + 1 + i);
        lua_seti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "entries");
}

static void push_message(lua_State *L, const struct raft *r, const struct raft_message *m)
{
    lua_createtable(L, 0, 15);
    set_string(L, "type", message_names[m->type]);
    set_integer(L, "from", m->from);
    set_integer(L, "to", m->to);
    set_integer(L, "term", m->term);
    set_integer(L, "index", m->index);
    set_integer(L, "log_term", m->log_term);
    set_integer(L, "hint", m->hint);
    set_integer(L, "commit", m->commit);
    set_integer(L, "context", m->context);
    set_integer(L, "round", m->round);
    set_integer(L, "lease", m->lease_us);
    set_integer(L, "priority", (uint64_t)(int64_t)m->priority);
    if (m->force) set_bool(L, "force", true);
    if (m->pre) set_bool(L, "pre", true);
    if (m->reject) set_bool(L, "reject", true);
    if (m->type == RAFT_APPEND) set_entries(L, r, m);
}

/* nil, text, name of the code. */
static int fail(lua_State *L, int code, const char *text)
{
    struct err e;
    err_set(&e, code, "%s", text);
    return lua_room_fail(L, &e);
}

/* true, or nil with the code that an input gave. */
static int push_result(lua_State *L, int rv)
{
    if (rv == ERR_NOMEM) return fail(L, rv, "no memory; nothing was changed, try again later");
    if (rv == ERR_INVALID) return fail(L, rv, "this message makes no sense here; nothing was changed");
    if (rv == ERR_CORRUPT) return fail(L, rv, "the inputs contradict each other; the core takes no more of them");
    if (rv == ERR_NOT_LEADER) return fail(L, rv, "only the leader can do this");
    if (rv == ERR_BUSY) return fail(L, rv, "too many wait already");
    if (rv == ERR_TRANSFERRING) return fail(L, rv, "transferring: leadership is being handed over");
    if (rv == ERR_CHANGING) return fail(L, rv, "changing: another change of members is open");
    if (rv == ERR_NOT_READY) return fail(L, rv, "not ready: nothing of this term is committed yet");
    if (rv == ERR_LAGGING) return fail(L, rv, "lagging: it has not caught up yet");
    if (rv == ERR_NO_MEMBER) return fail(L, rv, "no member of that kind");
    if (rv == ERR_ALREADY) return fail(L, rv, "already so");
    if (rv == ERR_NO_VOTERS) return fail(L, rv, "no voters would be left");
    if (rv == ERR_TOO_MANY) return fail(L, rv, "too many members");
    ASSERT(rv == OK);
    lua_pushboolean(L, true);
    return 1;
}

/* ---- the class ---- */

static struct lua_raft *check_raft(lua_State *L)
{
    return luaL_checkudata(L, 1, RAFT_CLASS);
}

static uint64_t check_now(lua_State *L, int arg)
{
    return (uint64_t)luaL_checkinteger(L, arg);
}

static int core_raft(lua_State *L)
{
    static const char *const known[] = {
        "id", "voters", "outgoing", "learners", "founding", "withhold", "seed", "election_timeout", "heartbeat",
        "append_bytes", "window_bytes", "uncommitted_bytes", "cache_bytes", "term", "vote", "last", "runs", "applied",
        "now", "lease", "clock_drift", "priority", "snapshot", "snapshot_term", "confs", NULL};
    check_fields(L, 1, "core.raft", known);
    lua_settop(L, 1);
    struct raft_config config = {
        .id = get_integer(L, 1, "id", 0),
        .seed = get_integer(L, 1, "seed", 1),
        .election_timeout_us = get_integer(L, 1, "election_timeout", US_PER_S),
        .heartbeat_us = get_integer(L, 1, "heartbeat", 100 * US_PER_MS),
        .append_bytes = (uint32_t)get_integer(L, 1, "append_bytes", 1 << 20),
        .window_bytes = (uint32_t)get_integer(L, 1, "window_bytes", 4 << 20),
        .uncommitted_bytes = (uint32_t)get_integer(L, 1, "uncommitted_bytes", 64 << 20),
        .cache_bytes = (uint32_t)get_integer(L, 1, "cache_bytes", 64 << 20),
        .lease = get_bool(L, 1, "lease"),
        .clock_drift_us = get_integer(L, 1, "clock_drift", 0),
        .priority = (int32_t)get_integer(L, 1, "priority", 0),
        .withhold = get_bool(L, 1, "withhold"),
    };
    struct raft_initial initial = {
        .term = get_integer(L, 1, "term", 0),
        .vote = get_integer(L, 1, "vote", 0),
        .snapshot = get_integer(L, 1, "snapshot", 0),
        .snapshot_term = get_integer(L, 1, "snapshot_term", 0),
        .last = get_integer(L, 1, "last", get_integer(L, 1, "snapshot", 0)),
        .applied = get_integer(L, 1, "applied", 0),
        .conf = get_conf(L, 1),
    };
    initial.runs = push_runs(L, 1, &initial.n_runs);
    initial.confs = push_confs(L, 1, &initial.n_confs);
    struct lua_raft *u = lua_newuserdatauv(L, sizeof *u, 0);
    raft_index applied = MAX(initial.applied, initial.snapshot);
    *u = (struct lua_raft){.commit = applied, .applied = applied};
    luaL_setmetatable(L, RAFT_CLASS);
    struct err e;
    if (raft_new(&u->raft, &config, &initial, get_integer(L, 1, "now", 0), &e) != OK) return lua_room_fail(L, &e);
    return 1;
}

static int raft_gc(lua_State *L)
{
    struct lua_raft *u = check_raft(L);
    raft_free(u->raft);
    u->raft = NULL;
    return 0;
}

/* step(message, now): entries are what an APPEND carries; n_entries is only looked at without them. */
static int method_step(lua_State *L)
{
    static const char *const known[] = {"type", "from", "to", "term", "index", "log_term", "hint", "commit", "context",
                                        "round", "lease", "priority", "pre", "reject", "force", "entries",
                                        "n_entries", "conf", NULL};
    struct lua_raft *u = check_raft(L);
    struct raft_conf conf;
    check_fields(L, 2, "message", known);
    uint64_t now = check_now(L, 3);
    struct raft_message m = {
        .from = get_integer(L, 2, "from", 0),
        .to = get_integer(L, 2, "to", 0),
        .term = get_integer(L, 2, "term", 0),
        .index = get_integer(L, 2, "index", 0),
        .log_term = get_integer(L, 2, "log_term", 0),
        .hint = get_integer(L, 2, "hint", 0),
        .commit = get_integer(L, 2, "commit", 0),
        .context = get_integer(L, 2, "context", 0),
        .round = get_integer(L, 2, "round", 0),
        .lease_us = (uint32_t)get_integer(L, 2, "lease", 0),
        .priority = (int32_t)get_integer(L, 2, "priority", 0),
        .n_entries = (uint32_t)get_integer(L, 2, "n_entries", 0),
        .conf = get_conf_field(L, 2, &conf) ? &conf : NULL,
        .force = get_bool(L, 2, "force"),
        .pre = get_bool(L, 2, "pre"),
        .reject = get_bool(L, 2, "reject"),
    };
    lua_getfield(L, 2, "type");
    m.type = pop_type(L, message_names, RAFT_MESSAGE_TYPES, 0);
    if (lua_getfield(L, 2, "entries") == LUA_TTABLE) {
        m.n_entries = (uint32_t)luaL_len(L, -1);
        m.entries = push_entries(L, lua_gettop(L), m.n_entries);
    }
    return push_result(L, raft_step(u->raft, &m, now));
}

/* propose(n | { size, ... }) -> first index, term. n entries count as one byte each. */
static int method_propose(lua_State *L)
{
    struct lua_raft *u = check_raft(L);
    bool sized = lua_istable(L, 2);
    lua_Integer n = sized ? luaL_len(L, 2) : luaL_checkinteger(L, 2);
    luaL_argcheck(L, n > 0 && n <= 1 << 20, 2, "between one and 2^20 entries");
    struct raft_entry *entries = lua_newuserdatauv(L, (size_t)n * sizeof *entries, 0);
    for (lua_Integer i = 0; i < n; i++) {
        lua_Integer size = 1;
        if (sized) {
            lua_geti(L, 2, i + 1);
            size = luaL_checkinteger(L, -1);
            lua_pop(L, 1);
        }
        entries[i] = (struct raft_entry){.type = RAFT_ENTRY_COMMAND, .size = (uint32_t)size};
    }
    raft_index first;
    raft_term term;
    int rv = raft_propose(u->raft, entries, (size_t)n, &first, &term);
    if (rv != OK) return push_result(L, rv);
    lua_pushinteger(L, (lua_Integer)first);
    lua_pushinteger(L, (lua_Integer)term);
    return 2;
}

static int method_tick(lua_State *L)
{
    struct lua_raft *u = check_raft(L);
    return push_result(L, raft_tick(u->raft, check_now(L, 2)));
}

/* deadline() -> when the next tick has something to do; nil: never. */
static int method_deadline(lua_State *L)
{
    uint64_t at = raft_deadline(check_raft(L)->raft);
    if (at == NEVER_US) lua_pushnil(L);
    else lua_pushinteger(L, (lua_Integer)at);
    return 1;
}

static int method_persisted(lua_State *L)
{
    struct lua_raft *u = check_raft(L);
    uint64_t seq = (uint64_t)luaL_checkinteger(L, 2);
    luaL_argcheck(L, seq > u->done && seq <= u->handed, 2, "a batch handed out and not acknowledged yet");
    int rv = raft_persisted(u->raft, seq, check_now(L, 3));
    if (rv == OK) u->done = seq;
    return push_result(L, rv);
}

static int method_applied(lua_State *L)
{
    struct lua_raft *u = check_raft(L);
    raft_index index = (raft_index)luaL_checkinteger(L, 2);
    luaL_argcheck(L, index >= u->applied && index <= u->commit, 2, "never falls, and only what was handed out");
    raft_applied(u->raft, index);
    u->applied = index;
    return 0;
}

static int method_unreachable(lua_State *L)
{
    raft_unreachable(check_raft(L)->raft, (raft_id)luaL_checkinteger(L, 2));
    return 0;
}

/* range_sent(peer, named, last, now): a range up to `named` was sent only now, and only up to `last`. */
static int method_range_sent(lua_State *L)
{
    struct lua_raft *u = check_raft(L);
    raft_id peer = (raft_id)luaL_checkinteger(L, 2);
    raft_index named = (raft_index)luaL_checkinteger(L, 3), last = (raft_index)luaL_checkinteger(L, 4);
    luaL_argcheck(L, last <= named, 4, "no more than was named");
    raft_range_sent(u->raft, peer, named, last, check_now(L, 5));
    return 0;
}

static int method_await_commit(lua_State *L)
{
    struct lua_raft *u = check_raft(L);
    raft_await_commit(u->raft, (raft_id)luaL_checkinteger(L, 2), (raft_index)luaL_checkinteger(L, 3));
    return 0;
}

static int method_campaign(lua_State *L)
{
    struct lua_raft *u = check_raft(L);
    return push_result(L, raft_campaign(u->raft, check_now(L, 2)));
}

static int method_step_down(lua_State *L)
{
    struct lua_raft *u = check_raft(L);
    raft_step_down(u->raft, check_now(L, 2));
    return 0;
}

/* snapshot_taken(index): a snapshot up to there is durable. */
static int method_snapshot_taken(lua_State *L)
{
    struct lua_raft *u = check_raft(L);
    raft_index index = (raft_index)luaL_checkinteger(L, 2);
    luaL_argcheck(L, index <= u->commit, 2, "handed out as committed");
    raft_snapshot_taken(u->raft, index);
    return 0;
}

/* compact(index): the stored entries up to there are gone. */
static int method_compact(lua_State *L)
{
    struct lua_raft *u = check_raft(L);
    struct raft_status s;
    raft_status_get(u->raft, &s);
    raft_index index = (raft_index)luaL_checkinteger(L, 2);
    luaL_argcheck(L, index <= s.snapshot, 2, "not beyond the newest snapshot");
    raft_compact(u->raft, index);
    return 0;
}

static int method_snapshot_sent(lua_State *L)
{
    raft_snapshot_sent(check_raft(L)->raft, (raft_id)luaL_checkinteger(L, 2), lua_toboolean(L, 3));
    return 0;
}

/* The list { { op, id }, ... } at index; room for more than one change of every member. */
static size_t get_changes(lua_State *L, int index, struct raft_change changes[4 * RAFT_MEMBERS_MAX])
{
    luaL_checktype(L, index, LUA_TTABLE);
    size_t n = (size_t)luaL_len(L, index);
    luaL_argcheck(L, n <= 4 * RAFT_MEMBERS_MAX, index, "too many");
    for (size_t i = 0; i < n; i++) {
        lua_geti(L, index, (lua_Integer)i + 1);
        luaL_checktype(L, -1, LUA_TTABLE);
        lua_geti(L, -1, 2);
        lua_geti(L, -2, 1);
        changes[i].op = pop_type(L, change_names, COUNT_OF(change_names), 0);
        changes[i].id = (raft_id)luaL_checkinteger(L, -1);
        lua_pop(L, 2);
    }
    return n;
}

/* change({ { op, id }, ... }, now) -> index, term */
static int method_change(lua_State *L)
{
    struct lua_raft *u = check_raft(L);
    struct raft_change changes[4 * RAFT_MEMBERS_MAX];
    size_t n = get_changes(L, 2, changes);
    raft_index index;
    raft_term term;
    int rv = raft_change(u->raft, changes, n, check_now(L, 3), &index, &term);
    if (rv != OK) return push_result(L, rv);
    lua_pushinteger(L, (lua_Integer)index);
    lua_pushinteger(L, (lua_Integer)term);
    return 2;
}

static int method_peer_lost(lua_State *L)
{
    raft_peer_lost(check_raft(L)->raft, (raft_id)luaL_checkinteger(L, 2));
    return 0;
}

/* transfer(id or 0, now) -> id */
static int method_transfer(lua_State *L)
{
    struct lua_raft *u = check_raft(L);
    raft_id chosen;
    int rv = raft_transfer(u->raft, (raft_id)luaL_checkinteger(L, 2), check_now(L, 3), &chosen);
    if (rv != OK) return push_result(L, rv);
    lua_pushinteger(L, (lua_Integer)chosen);
    return 1;
}

/* transfer_to(match, applied, except, now): to one that has so much on its disk, has applied so much, and is not
 * `except` -> the chosen. */
static int method_transfer_to(lua_State *L)
{
    struct lua_raft *u = check_raft(L);
    raft_id chosen, except = (raft_id)luaL_checkinteger(L, 4);
    struct raft_wish wish = {.match = (raft_index)luaL_checkinteger(L, 2),
                             .applied = (raft_index)luaL_checkinteger(L, 3), .except = &except, .n_except = 1};
    int rv = raft_transfer_to(u->raft, &wish, check_now(L, 5), &chosen);
    if (rv != OK) return push_result(L, rv);
    lua_pushinteger(L, (lua_Integer)chosen);
    return 1;
}

static int method_leader_lost(lua_State *L)
{
    raft_leader_lost(check_raft(L)->raft, check_now(L, 2));
    return 0;
}

/* withhold(yes, now) */
static int method_withhold(lua_State *L)
{
    luaL_checktype(L, 2, LUA_TBOOLEAN);
    raft_withhold(check_raft(L)->raft, lua_toboolean(L, 2), check_now(L, 3));
    return 0;
}

/* read(context, now[, lease]) */
static int method_read(lua_State *L)
{
    struct lua_raft *u = check_raft(L);
    uint64_t context = (uint64_t)luaL_checkinteger(L, 2);
    return push_result(L, raft_read(u->raft, context, lua_toboolean(L, 4), check_now(L, 3)));
}

/* conf([index]) -> the configuration in force there; the latest; nil: not known any more. */
static int method_conf(lua_State *L)
{
    const struct raft_conf *conf = raft_conf_at(check_raft(L)->raft, (raft_index)luaL_optinteger(L, 2, -1));
    if (conf == NULL) lua_pushnil(L);
    else push_conf(L, conf);
    return 1;
}

/* lease_until() -> time; nil: no lease. */
static int method_lease_until(lua_State *L)
{
    uint64_t until = raft_lease_until(check_raft(L)->raft);
    if (until == 0) lua_pushnil(L);
    else lua_pushinteger(L, (lua_Integer)MIN(until, (uint64_t)LUA_MAXINTEGER));
    return 1;
}

static int method_has_ready(lua_State *L)
{
    lua_pushboolean(L, raft_has_ready(check_raft(L)->raft));
    return 1;
}

static int method_ready(lua_State *L)
{
    struct lua_raft *u = check_raft(L);
    struct raft_ready out;
    int rv = raft_ready(u->raft, check_now(L, 2), &out);
    if (rv != OK) return push_result(L, rv);
    if (out.seq > 0) u->handed = out.seq;
    u->commit = out.commit;
    lua_createtable(L, 0, 12);
    set_integer(L, "seq", out.seq);
    set_integer(L, "restore", out.restore);
    set_integer(L, "restore_term", out.restore_term);
    set_bool(L, "vote_changed", out.vote_changed);
    set_integer(L, "term", out.term);
    set_integer(L, "vote", out.vote);
    set_integer(L, "truncate_from", out.truncate_from);
    set_integer(L, "first", out.first);
    set_integer(L, "last", out.last);
    set_integer(L, "commit", out.commit);
    lua_createtable(L, (int)out.n_messages, 0);
    for (size_t i = 0; i < out.n_messages; i++) {
        push_message(L, u->raft, &out.messages[i]);
        lua_seti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "messages");
    lua_createtable(L, (int)out.n_reads, 0);
    for (size_t i = 0; i < out.n_reads; i++) {
        lua_createtable(L, 0, 2);
        set_integer(L, "context", out.reads[i].context);
        set_integer(L, "index", out.reads[i].index);
        lua_seti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "reads");
    return 1;
}

/* entry(index) -> { term, type, size }; nil when it has left memory or is beyond the log. */
static int method_entry(lua_State *L)
{
    const struct raft *r = check_raft(L)->raft;
    raft_index index = (raft_index)luaL_checkinteger(L, 2);
    if (raft_entry_at(r, index) == NULL) lua_pushnil(L);
    else push_entry(L, r, index);
    return 1;
}

static int method_term(lua_State *L)
{
    raft_term term;
    if (raft_term_at(check_raft(L)->raft, (raft_index)luaL_checkinteger(L, 2), &term)) {
        lua_pushinteger(L, (lua_Integer)term);
    } else {
        lua_pushnil(L);
    }
    return 1;
}

static int method_status(lua_State *L)
{
    struct raft_status s;
    raft_status_get(check_raft(L)->raft, &s);
    lua_createtable(L, 0, 28);
    set_integer(L, "id", s.id);
    set_integer(L, "leader", s.leader);
    set_integer(L, "vote", s.vote);
    set_string(L, "role", role_names[s.role]);
    set_integer(L, "term", s.term);
    set_integer(L, "durable_term", s.durable_term);
    set_integer(L, "first", s.first);
    set_integer(L, "last", s.last);
    set_integer(L, "snapshot", s.snapshot);
    set_integer(L, "commit", s.commit);
    set_integer(L, "stable", s.stable);
    set_integer(L, "applied", s.applied);
    set_integer(L, "window", s.window);
    set_integer(L, "window_bytes", s.window_bytes);
    set_integer(L, "uncommitted_bytes", s.uncommitted_bytes);
    set_integer(L, "leader_contact", s.leader_contact_us);
    set_integer(L, "elections", s.elections);
    set_bool(L, "ready", s.ready);
    set_bool(L, "corrupt", s.corrupt);
    set_bool(L, "voter", s.voter);
    set_bool(L, "learner", s.learner);
    set_bool(L, "removed", s.removed);
    set_bool(L, "withheld", s.withheld);
    set_bool(L, "joint", s.joint);
    set_bool(L, "changing", s.changing);
    set_integer(L, "conf_index", s.conf_index);
    set_integer(L, "transfer", s.transfer);
    set_integer(L, "reads", s.reads);
    return 1;
}

/* peer(id) -> what the leader knows of it; nil: not the leader, or no such peer. */
static int method_peer(lua_State *L)
{
    struct raft_peer_status s;
    if (!raft_peer_status_get(check_raft(L)->raft, (raft_id)luaL_checkinteger(L, 2), &s)) {
        lua_pushnil(L);
        return 1;
    }
    lua_createtable(L, 0, 11);
    set_string(L, "state", s.state);
    set_integer(L, "applied", s.applied);
    set_integer(L, "snapshot", s.snapshot);
    set_bool(L, "caught_up", s.caught_up);
    set_integer(L, "rounds", s.rounds);
    set_integer(L, "priority", (uint64_t)(int64_t)s.priority);
    set_integer(L, "match", s.match);
    set_integer(L, "next", s.next);
    set_integer(L, "inflight_bytes", s.inflight_bytes);
    set_integer(L, "contact", s.contact_us);
    set_integer(L, "rtt", s.rtt_us);
    return 1;
}

/* ---- quorum ---- */

/* What each member is said to have: a number, or how it voted. Read before the pure functions run, which must not be
 * left by a Lua error. */
struct ballot {
    raft_id ids[3 * RAFT_MEMBERS_MAX];
    uint64_t values[3 * RAFT_MEMBERS_MAX];
    size_t n;
};

static uint64_t ballot_value(const void *ctx, raft_id id)
{
    const struct ballot *b = ctx;
    for (size_t i = 0; i < b->n; i++) {
        if (b->ids[i] == id) return b->values[i];
    }
    ASSERT(!"a member of the configuration");
    return 0;
}

static enum quorum_vote ballot_vote(const void *ctx, raft_id id)
{
    return (enum quorum_vote)ballot_value(ctx, id);
}

/* Arguments voters, outgoing, {[id] = value}: an integer, or a boolean for a vote. */
static struct raft_conf check_ballot(lua_State *L, struct ballot *b)
{
    lua_settop(L, 3);
    luaL_checktype(L, 3, LUA_TTABLE);
    lua_createtable(L, 0, 2);
    lua_pushvalue(L, 1);
    lua_setfield(L, -2, "voters");
    lua_pushvalue(L, 2);
    lua_setfield(L, -2, "outgoing");
    struct raft_conf conf = get_conf(L, 4);
    if (!conf_is_valid(&conf)) luaL_error(L, "voters: at least one, sorted, each once, at most %d", RAFT_MEMBERS_MAX);
    b->n = conf_members(&conf, b->ids);
    for (size_t i = 0; i < b->n; i++) {
        int type = lua_geti(L, 3, (lua_Integer)b->ids[i]);
        if (type == LUA_TBOOLEAN) b->values[i] = lua_toboolean(L, -1) ? VOTE_GRANTED : VOTE_REFUSED;
        else b->values[i] = type == LUA_TNIL ? 0 : (uint64_t)luaL_checkinteger(L, -1);
        lua_pop(L, 1);
    }
    return conf;
}

/* committed(voters, outgoing or nil, {[id] = index}) -> the largest index that a majority of each list has reached. */
static int quorum_committed(lua_State *L)
{
    struct ballot b;
    struct raft_conf conf = check_ballot(L, &b);
    lua_pushinteger(L, (lua_Integer)quorum_reached(&conf, ballot_value, &b));
    return 1;
}

/* tally(voters, outgoing or nil, {[id] = granted}) -> "won", "lost" or "pending". */
static int quorum_votes(lua_State *L)
{
    static const char *const names[] = {[QUORUM_PENDING] = "pending", [QUORUM_WON] = "won", [QUORUM_LOST] = "lost"};
    struct ballot b;
    struct raft_conf conf = check_ballot(L, &b);
    lua_pushstring(L, names[quorum_tally(&conf, ballot_vote, &b)]);
    return 1;
}

/* ---- membership ---- */

/* change(conf, { { op, id }, ... }) -> conf: the next configuration. */
static int membership_next(lua_State *L)
{
    struct raft_change changes[4 * RAFT_MEMBERS_MAX];
    struct raft_conf conf = get_conf(L, 1), next;
    luaL_argcheck(L, conf_is_valid(&conf) && !conf_is_joint(&conf), 1, "a simple configuration");
    int rv = membership_change(&conf, changes, get_changes(L, 2, changes), &next);
    if (rv != OK) return push_result(L, rv);
    push_conf(L, &next);
    return 1;
}

/* leave(conf) -> conf: where a joint configuration leads to. */
static int membership_end(lua_State *L)
{
    struct raft_conf conf = get_conf(L, 1);
    luaL_argcheck(L, conf_is_valid(&conf) && conf_is_joint(&conf), 1, "a joint configuration");
    conf = membership_leave(&conf);
    push_conf(L, &conf);
    return 1;
}

void lua_raft_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"step", method_step},
        {"propose", method_propose},
        {"tick", method_tick},
        {"deadline", method_deadline},
        {"persisted", method_persisted},
        {"applied", method_applied},
        {"unreachable", method_unreachable},
        {"range_sent", method_range_sent},
        {"await_commit", method_await_commit},
        {"campaign", method_campaign},
        {"step_down", method_step_down},
        {"snapshot_taken", method_snapshot_taken},
        {"compact", method_compact},
        {"snapshot_sent", method_snapshot_sent},
        {"change", method_change},
        {"peer_lost", method_peer_lost},
        {"transfer", method_transfer},
        {"transfer_to", method_transfer_to},
        {"leader_lost", method_leader_lost},
        {"withhold", method_withhold},
        {"read", method_read},
        {"conf", method_conf},
        {"lease_until", method_lease_until},
        {"has_ready", method_has_ready},
        {"ready", method_ready},
        {"entry", method_entry},
        {"term", method_term},
        {"status", method_status},
        {"peer", method_peer},
        {NULL, NULL}};
    static const luaL_Reg quorum[] = {{"committed", quorum_committed}, {"tally", quorum_votes}, {NULL, NULL}};
    static const luaL_Reg membership[] = {{"change", membership_next}, {"leave", membership_end}, {NULL, NULL}};
    luaL_newmetatable(L, RAFT_CLASS);
    lua_pushcfunction(L, raft_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushcfunction(L, core_raft);
    lua_setfield(L, -2, "raft");
    luaL_newlib(L, quorum);
    lua_setfield(L, -2, "quorum");
    luaL_newlib(L, membership);
    lua_setfield(L, -2, "membership");
}
