#include "lua/lua_calls.h"

#include <inttypes.h>

#include "base/mem.h"
#include "lua/lua_asks.h"

#define CANCEL_US US_PER_S /* how long a cancelled proposal may take to tell what became of it */

int lua_calls_init(struct lua_calls *c, struct lua_line *line, uint32_t pending)
{
    size_t size = 1;
    while (size < pending) size *= 2;
    *c = (struct lua_calls){.line = line, .mask = size - 1, .due_us = NEVER_US};
    for (int i = 0; i < LUA_ROUNDS; i++) c->rounds[i].running = c->rounds[i].next = LUA_LIST_EMPTY;
    c->proposals = mem_alloc(size * sizeof *c->proposals);
    return c->proposals == NULL ? ERR_NOMEM : OK;
}

void lua_calls_free(struct lua_calls *c)
{
    mem_free(c->proposals);
}

static struct lua_call *call_at(const struct lua_calls *c, uint32_t id)
{
    return &c->line->calls[id];
}

enum { NODE = 1, CMD, FN = CMD, OPTIONS, CALLBACK }; /* arguments of what users call, on the stack of who waits too */

/* ---- proposals by sequence ---- */

/* Precondition: proposals_fit. Sequences come one after the other. */
static void proposals_put(struct lua_calls *c, uint64_t sequence, uint32_t id)
{
    if (c->lowest == c->next) c->lowest = c->next = sequence;
    ASSERT(sequence == c->next);
    c->proposals[c->next++ & c->mask] = id;
}

/* Only what could not be answered for lack of memory can keep the ring from taking as many as the host does. */
static bool proposals_fit(const struct lua_calls *c)
{
    return c->next - c->lowest <= c->mask;
}

static uint32_t proposals_find(const struct lua_calls *c, uint64_t sequence)
{
    return sequence >= c->lowest && sequence < c->next ? c->proposals[sequence & c->mask] : LUA_CALL_NONE;
}

static void proposals_forget(struct lua_calls *c, uint64_t sequence)
{
    c->proposals[sequence & c->mask] = LUA_CALL_NONE;
    while (c->lowest < c->next && c->proposals[c->lowest & c->mask] == LUA_CALL_NONE) c->lowest++;
}

/* ---- answers ---- */

bool lua_calls_command(lua_State *L, struct lua_node *n, uint64_t sequence, const struct entry *command)
{
    uint32_t id = proposals_find(&n->calls, sequence);
    lua_State *co = id == LUA_CALL_NONE ? NULL : call_at(&n->calls, id)->co;
    if (co == NULL || lua_status(co) != LUA_YIELD || lua_type(co, CMD) != LUA_TSTRING) return false;
    size_t size;
    uint8_t head[LUA_STRING_HEAD_MAX];
    const char *text = lua_tolstring(co, CMD, &size);
    size_t width = lua_pack_string_head(head, size);
    /* Its stack is not what vouches for that: a debugger may have been there. */
    bool same = command->payload_size == width + size && memcmp(command->payload, head, width) == 0 &&
                memcmp(command->payload + width, text, size) == 0;
    if (!same || !lua_checkstack(co, 1)) return false;
    lua_pushvalue(co, CMD);
    lua_xmove(co, L, 1);
    return true;
}

void lua_calls_applied(lua_State *L, struct lua_node *n, uint64_t sequence)
{
    struct lua_calls *c = &n->calls;
    uint32_t id = proposals_find(c, sequence);
    if (id == LUA_CALL_NONE) return;
    bool two = !lua_isnil(L, -1);
    if (!two) lua_pop(L, 1);
    lua_call_answer(L, c->line, id, two ? 2 : 1);
    proposals_forget(c, sequence);
    c->n--;
}

struct ending {
    struct lua_calls *calls;
    struct lua_list *list;
    const char *text, *name; /* NULL: the answer is the index */
    raft_index index;
};

/* (struct ending): answers all calls of a list; those that are left, should memory run out, stay in it. */
static int end_body(lua_State *L)
{
    struct ending *e = lua_touserdata(L, 1);
    struct lua_list *list = e->list;
    while (list->head != LUA_CALL_NONE) {
        uint32_t id = list->head, next = call_at(e->calls, id)->next;
        lua_settop(L, 1);
        if (e->name == NULL && e->index > 0) lua_pushinteger(L, (lua_Integer)e->index);
        else lua_pushnil(L);
        if (e->name != NULL) {
            lua_pushstring(L, e->text);
            lua_pushstring(L, e->name);
        }
        lua_call_answer(L, e->calls->line, id, lua_gettop(L) - 1);
        list->head = next;
        e->calls->n--;
    }
    return 0;
}

/* false: memory ran out. */
static bool end_list(struct lua_node *n, struct lua_list *list, const char *text, const char *name, raft_index index)
{
    lua_State *T = n->thread;
    struct ending e = {&n->calls, list, text, name, index};
    if (list->head == LUA_CALL_NONE) return true;
    lua_pushcfunction(T, end_body);
    lua_pushlightuserdata(T, &e);
    if (lua_pcall(T, 1, 0, 0) == LUA_OK) return true;
    lua_pop(T, 1);
    return false;
}

/* ---- reads: who has waited for a round looks at the machine ---- */

static int add_traceback(lua_State *L)
{
    luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
    return 1;
}

/* Pushes what a read calls, and its arguments, whose number it returns. fn, machine: where they are. */
static int push_reader(lua_State *L, struct lua_node *n, int fn, int machine)
{
    bool given = lua_isfunction(L, fn);
    if (given) lua_pushvalue(L, fn);
    else lua_getfield(L, machine, "query");
    lua_pushvalue(L, machine);
    if (!given) lua_pushvalue(L, fn);
    lua_pushinteger(L, (lua_Integer)host_applied(n->host));
    lua_pushnumber(L, (lua_Number)host_applied_time(n->host) / (lua_Number)US_PER_S);
    return given ? 3 : 4;
}

/* Takes trailing nil off what a reader returned: how many are left. */
static int looked(lua_State *L)
{
    if (!lua_isnil(L, -1)) return 2;
    lua_pop(L, 1);
    return 1;
}

/* A round that has passed. */
struct passed {
    struct lua_node *node;
    struct lua_list *list;
    raft_index index;
    bool looking; /* inside a reader */
};

enum { PASSED = 1, MACHINE, RAISED, READER }; /* on the stack of look_body */

/* The coroutine is still where it waits, unless somebody has meddled with it: then the reader gets what there is. */
static int look_for(lua_State *L, struct passed *p, lua_State *co)
{
    if (lua_status(co) != LUA_YIELD || !lua_checkstack(co, 1)) return 0; /* it was closed: nobody looks */
    lua_pushvalue(co, FN);
    lua_xmove(co, L, 1);
    p->looking = true;
    lua_call(L, push_reader(L, p->node, READER, MACHINE), 2);
    p->looking = false;
    return looked(L);
}

/* What the reader has raised is its answer. */
static int push_raised(lua_State *L)
{
    lua_pushnil(L);
    lua_pushvalue(L, RAISED);
    lua_pushliteral(L, "query");
    lua_pushnil(L);
    lua_replace(L, RAISED);
    return 3;
}

/* (struct passed, machine, error): answers all calls of a round, one after the other. Those who read look at the
 * machine right here: one protected call for all of them. error: what the first one's reader has raised. */
static int look_body(lua_State *L)
{
    struct passed *p = lua_touserdata(L, PASSED);
    struct lua_calls *c = &p->node->calls;
    while (p->list->head != LUA_CALL_NONE) {
        uint32_t id = p->list->head;
        int n = 1;
        if (!lua_isnil(L, RAISED)) {
            n = push_raised(L);
        } else if (call_at(c, id)->looks) {
            n = look_for(L, p, call_at(c, id)->co);
        } else {
            lua_pushinteger(L, (lua_Integer)p->index);
        }
        uint32_t next = call_at(c, id)->next;
        lua_call_answer(L, c->line, id, n);
        lua_settop(L, RAISED);
        p->list->head = next;
        c->n--;
    }
    return 0;
}

/* Those who are left in the list could not be told, for lack of memory. */
static void look_all(struct lua_node *n, struct lua_list *list, raft_index index)
{
    enum { HANDLER = 1, MACHINE, RAISED };
    lua_State *T = n->thread;
    struct passed p = {.node = n, .list = list, .index = index};
    int top = lua_gettop(T), status;
    lua_pushcfunction(T, add_traceback);
    lua_node_push_machine(T, n);
    lua_pushnil(T);
    do {
        lua_pushcfunction(T, look_body);
        lua_pushlightuserdata(T, &p);
        lua_pushvalue(T, top + MACHINE);
        lua_pushvalue(T, top + RAISED);
        p.looking = false;
        n->calls.line->inside++;
        status = lua_pcall(T, 3, 0, top + HANDLER);
        n->calls.line->inside--;
        if (status != LUA_OK) lua_replace(T, top + RAISED);
    } while (status != LUA_OK && p.looking);
    lua_settop(T, top);
}

/* index 0: no value */
static bool end_proposal(struct lua_node *n, uint64_t sequence, const char *text, const char *name, raft_index index)
{
    uint32_t id = proposals_find(&n->calls, sequence);
    struct lua_list list = LUA_LIST_EMPTY;
    if (id == LUA_CALL_NONE) return true;
    lua_list_append(n->calls.line, &list, id);
    if (!end_list(n, &list, text, name, index)) return false;
    proposals_forget(&n->calls, sequence);
    return true;
}

/* ---- rounds ---- */

static int round_ask(struct lua_node *n, enum lua_round_kind kind, uint64_t *number)
{
    struct lua_calls *c = &n->calls;
    struct ask_what what = {.kind = ASK_READ, .lease = kind == LUA_ROUND_LEASE};
    if (kind != LUA_ROUND_BARRIER) return host_ask(n->host, &what, number);
    int code = proposals_fit(c) ? host_barrier(n->host, number) : ERR_BUSY;
    if (code == OK) proposals_put(c, *number, LUA_CALL_NONE);
    return code;
}

static const char *round_text(enum lua_round_kind kind, int code)
{
    return kind == LUA_ROUND_BARRIER ? lua_node_text(code) : lua_asks_text(code);
}

/* None is under way: those who have come meanwhile share the next one; and those whom, for lack of memory, nobody could
 * tell. */
static void round_go_on(struct lua_node *n, enum lua_round_kind kind)
{
    struct lua_calls *c = &n->calls;
    struct lua_round *r = &c->rounds[kind];
    if (r->running.head == LUA_CALL_NONE) {
        r->running = r->next;
    } else if (r->next.head != LUA_CALL_NONE) {
        call_at(c, r->running.tail)->next = r->next.head;
        r->running.tail = r->next.tail;
    }
    r->next = LUA_LIST_EMPTY;
    if (r->running.head == LUA_CALL_NONE) return;
    int code = round_ask(n, kind, &r->number);
    if (code == OK) return;
    if (code == ERR_NOMEM) code = ERR_BUSY;
    r->number = 0;
    end_list(n, &r->running, round_text(kind, code), err_name(code), 0);
}

void lua_calls_flush(struct lua_node *n)
{
    for (int kind = 0; kind < LUA_ROUNDS; kind++) {
        if (n->calls.rounds[kind].number == 0) round_go_on(n, (enum lua_round_kind)kind);
    }
    host_flush(n->host);
}

/* Whoever calls outside a turn of the loop, or in a simulation, has nobody else who does it. */
static void flush_unless_held(struct lua_node *n)
{
    const struct lua_line *line = n->calls.line;
    if (!line->held || line->simulated) lua_calls_flush(n);
}

bool lua_calls_done(struct lua_node *n, uint64_t sequence, const char *text, const char *name, raft_index index)
{
    for (int kind = 0; kind < LUA_ROUNDS; kind++) {
        struct lua_round *r = &n->calls.rounds[kind];
        if (r->number != sequence) continue;
        r->number = 0;
        if (name == NULL && kind != LUA_ROUND_BARRIER) look_all(n, &r->running, index);
        else end_list(n, &r->running, text, name, index);
        if (sequence < HOST_FIRST_ASK) proposals_forget(&n->calls, sequence);
        round_go_on(n, (enum lua_round_kind)kind);
        return true;
    }
    if (sequence >= HOST_FIRST_ASK) return false;
    uint32_t id = proposals_find(&n->calls, sequence);
    bool opens = id != LUA_CALL_NONE && call_at(&n->calls, id)->wants_index;
    end_proposal(n, sequence, text, name, opens ? index : 0);
    return true;
}

/* ---- making calls ---- */

/* How a call is made. */
struct manner {
    uint64_t timeout_us;
    bool lease, looks; /* of reads: the leader's lease will do; the coroutine's reader stands at FN */
    int waiter;        /* at that index; 0: the coroutine */
};

/* waiter: at that index; 0: the coroutine L. */
static uint32_t call_begin(lua_State *L, struct lua_node *n, int waiter, uint64_t timeout_us)
{
    struct lua_calls *c = &n->calls;
    uint64_t due_us = io_due(n->server->io, timeout_us);
    uint32_t id = lua_call_open(L, c->line, waiter);
    call_at(c, id)->due_us = due_us;
    c->due_us = MIN(c->due_us, due_us);
    c->n++;
    return id;
}

/* What a method was given: a waiter, at index; 0: the running coroutine waits. */
static int waiter_at(lua_State *L, int index)
{
    if (!lua_isnoneornil(L, index)) return index;
    if (!lua_isyieldable(L)) luaL_error(L, "nobody can wait here");
    return 0;
}

static void call_refuse(struct lua_calls *c, uint32_t id)
{
    lua_call_close(c->line, id);
    c->n--;
}

/* What a method returns when its call is under way. */
static int call_wait(lua_State *L, struct lua_node *n, int waiter)
{
    if (waiter == 0) return lua_call_park(L, n->calls.line);
    lua_pushboolean(L, 1);
    return 1;
}

/* A command, packed but for its place in a block. */
struct command {
    const void *bytes;
    size_t n, size;  /* of bytes; packed */
    bool is_text;    /* it lacks its head */
};

/* Raises for what cannot be packed. */
static struct command command_at(lua_State *L, struct lua_node *n, int index)
{
    struct command c = {.is_text = lua_type(L, index) == LUA_TSTRING};
    uint8_t head[LUA_STRING_HEAD_MAX];
    if (c.is_text) c.bytes = lua_tolstring(L, index, &c.n);
    else c.bytes = lua_packer_pack(L, n->packer, index, "cmd", &c.n);
    c.size = c.n + (c.is_text ? lua_pack_string_head(head, c.n) : 0);
    return c;
}

/* It stands behind so many bytes. NULL: no memory. */
static struct block *command_block(uint8_t type, size_t before, const struct command *c)
{
    struct block *block = entry_reserve(type, before + c->size);
    if (block == NULL) return NULL;
    uint8_t *at = block->bytes + ENTRY_HEADER + before;
    if (c->is_text) at += lua_pack_string_head(at, c->n);
    memcpy(at, c->bytes, c->n);
    return block;
}

/* 0: it may be proposed; else the number of a failure's results. */
static int refuse_command(lua_State *L, const struct lua_node *n, const struct command *c)
{
    struct err e;
    int code = lua_node_refusal(n);
    if (c->size <= n->command_bytes) return code == OK ? 0 : lua_node_fail(L, code, lua_node_text(code));
    err_set(&e, ERR_TOO_LARGE, "the command is %zu bytes packed, more than command_bytes (%" PRIu32 ") allows", c->size,
            n->command_bytes);
    return lua_room_fail(L, &e);
}

static int propose(lua_State *L, struct lua_node *n, uint32_t id, struct block *block, uint64_t *sequence)
{
    bool fits = proposals_fit(&n->calls);
    if (block != NULL) entry_seal(block);
    if (block != NULL && !fits) block_unref(block);
    int code = block == NULL || !fits ? ERR_BUSY : host_propose(n->host, block, sequence);
    if (code == OK) {
        flush_unless_held(n);
        proposals_put(&n->calls, *sequence, id);
        return OK;
    }
    call_refuse(&n->calls, id);
    return lua_node_fail(L, code, lua_node_text(code));
}

/* Precondition: the stack has the node's userdata on top. */
static void tell_handed(lua_State *L, uint64_t sequence)
{
    lua_getiuservalue(L, -1, 3);
    lua_getfield(L, -1, "handed");
    lua_pushinteger(L, (lua_Integer)sequence);
    lua_call(L, 1, 0);
    lua_pop(L, 1);
}

static int propose_command(lua_State *L, struct lua_node *n, int waiter, uint64_t timeout_us, uint64_t *sequence)
{
    struct command c = command_at(L, n, CMD);
    int failed = refuse_command(L, n, &c);
    if (failed) return failed;
    uint32_t id = call_begin(L, n, waiter, timeout_us);
    return propose(L, n, id, command_block(RAFT_ENTRY_COMMAND, 0, &c), sequence);
}

int lua_calls_propose(lua_State *L)
{
    enum { TIMEOUT = 3, WAITER };
    struct lua_node *n = lua_node_check(L);
    uint64_t sequence;
    int waiter = waiter_at(L, WAITER);
    int failed = propose_command(L, n, waiter, lua_seconds(luaL_checknumber(L, TIMEOUT)), &sequence);
    if (failed) return failed;
    if (n->tells_handed) {
        lua_pushvalue(L, NODE);
        tell_handed(L, sequence);
    }
    return call_wait(L, n, waiter);
}

int lua_calls_client(lua_State *L)
{
    enum { SESSION = 2, NUMBER, COMMAND, TIMEOUT, WAITER };
    struct lua_node *n = lua_node_check(L);
    uint64_t sequence;
    lua_Integer session = luaL_checkinteger(L, SESSION), number = luaL_checkinteger(L, NUMBER);
    struct command c = command_at(L, n, COMMAND);
    int failed = refuse_command(L, n, &c);
    if (failed) return failed;
    int waiter = waiter_at(L, WAITER);
    uint32_t id = call_begin(L, n, waiter, lua_seconds(luaL_checknumber(L, TIMEOUT)));
    call_at(&n->calls, id)->wants_index = session == 0;
    struct block *block = command_block(RAFT_ENTRY_CLIENT, 16, &c);
    if (block != NULL) {
        put_u64(block->bytes + ENTRY_HEADER, (uint64_t)session);
        put_u64(block->bytes + ENTRY_HEADER + 8, (uint64_t)number);
    }
    failed = propose(L, n, id, block, &sequence);
    return failed ? failed : call_wait(L, n, waiter);
}

/* Joins the next round of this kind, which begins when one that is under way has ended, or at the end of this turn. 0:
 * it has; else the number of a failure's results. */
static int join_round(lua_State *L, struct lua_node *n, enum lua_round_kind kind, const struct manner *m)
{
    int code = lua_node_refusal(n);
    if (code != OK) return lua_node_fail(L, code, round_text(kind, code));
    uint32_t id = call_begin(L, n, m->waiter, m->timeout_us);
    call_at(&n->calls, id)->looks = m->looks;
    lua_list_append(n->calls.line, &n->calls.rounds[kind].next, id);
    flush_unless_held(n);
    return 0;
}

static int join(lua_State *L, enum lua_round_kind kind)
{
    enum { TIMEOUT = 2, WAITER };
    struct lua_node *n = lua_node_check(L);
    struct manner m = {.waiter = waiter_at(L, WAITER), .timeout_us = lua_seconds(luaL_checknumber(L, TIMEOUT))};
    int failed = join_round(L, n, kind, &m);
    return failed ? failed : call_wait(L, n, m.waiter);
}

int lua_calls_barrier(lua_State *L)
{
    return join(L, LUA_ROUND_BARRIER);
}

int lua_calls_read(lua_State *L)
{
    return join(L, LUA_ROUND_READ);
}

int lua_calls_lease(lua_State *L)
{
    return join(L, LUA_ROUND_LEASE);
}

/* ---- reads ---- */

/* Raises when there is neither a function nor a query that could be asked. */
static void check_reader(lua_State *L, struct lua_node *n)
{
    if (lua_isfunction(L, FN)) return;
    lua_node_push_machine(L, n);
    if (lua_getfield(L, -1, "query") != LUA_TFUNCTION)
        luaL_error(L, "node:read: a function (machine, index, time) expected, got %s (the machine has no query)",
                   luaL_typename(L, FN));
    lua_pop(L, 2);
}

/* Calls the reader, where nobody can wait. Precondition: FN is on top. */
static int look(lua_State *L, struct lua_node *n)
{
    lua_pushcfunction(L, add_traceback);
    enum { HANDLER = FN + 1, MACHINE };
    lua_node_push_machine(L, n);
    int n_arguments = push_reader(L, n, FN, MACHINE);
    n->calls.line->inside++;
    int status = lua_pcall(L, n_arguments, 2, HANDLER);
    n->calls.line->inside--;
    if (status != LUA_OK) {
        lua_pushnil(L);
        lua_insert(L, -2);
        lua_pushliteral(L, "query");
        return 3;
    }
    return looked(L);
}

int lua_calls_look(lua_State *L)
{
    struct lua_node *n = lua_node_check(L);
    lua_settop(L, FN);
    return look(L, n);
}

/* ---- what users call ---- */

enum { UP_LINE = 1, UP_OTHERWISE }; /* upvalues */
static const char parks; /* its address tells that a coroutine waits here */

static struct lua_node *node_here(lua_State *L)
{
    return lua_node_of_face(L, lua_touserdata(L, lua_upvalueindex(UP_LINE)), NODE);
}

/* Whose callback it is, if that is all that was given besides CMD or FN; 0: it is not. */
static int callback_at(lua_State *L)
{
    int given = lua_isnoneornil(L, OPTIONS) ? CALLBACK : OPTIONS;
    bool alone = given == CALLBACK || lua_isnoneornil(L, CALLBACK);
    return alone && lua_isfunction(L, given) ? given : 0;
}

/* Is it one of the usual ways? */
static bool is_usual(lua_State *L, const struct lua_node *n, struct manner *m)
{
    if (n == NULL || n->ended) return false;
    m->timeout_us = n->timeout_us;
    if (lua_gettop(L) <= CMD || (lua_isnoneornil(L, OPTIONS) && lua_isnoneornil(L, CALLBACK)))
        return lua_may_park(L, n->calls.line);
    m->waiter = callback_at(L);
    return m->waiter != 0 && n->calls.line->inside == 0 && !n->calls.line->simulated;
}

/* Nobody who is asked below waits, but all have to know whether the caller can: so they are called as if they could. */
static int made_otherwise(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    return lua_gettop(L) - CALLBACK;
}

/* The call is left to Lua. 0: not quite, the coroutine waits here; else the number of results + 1. */
static int make_otherwise(lua_State *L, const struct lua_node *n, struct manner *m)
{
    lua_settop(L, CALLBACK);
    lua_pushvalue(L, lua_upvalueindex(UP_OTHERWISE));
    for (int i = NODE; i <= CALLBACK; i++) lua_pushvalue(L, i);
    lua_callk(L, CALLBACK, LUA_MULTRET, 0, made_otherwise);
    if (lua_touserdata(L, CALLBACK + 1) != &parks) return lua_gettop(L) - CALLBACK + 1;
    if (n == NULL) luaL_typeerror(L, NODE, "raft.node");
    *m = (struct manner){.timeout_us = lua_seconds(lua_tonumber(L, CALLBACK + 2)),
                         .lease = lua_toboolean(L, CALLBACK + 3)};
    return 0;
}

static int l_propose(lua_State *L)
{
    struct lua_node *n = node_here(L);
    struct manner m = {0};
    uint64_t sequence;
    int done = is_usual(L, n, &m) ? 0 : make_otherwise(L, n, &m);
    if (done) return done - 1;
    lua_settop(L, m.waiter == 0 ? CMD : m.waiter);
    int failed = propose_command(L, n, m.waiter, m.timeout_us, &sequence);
    if (failed && m.waiter != 0) return make_otherwise(L, n, &m) - 1; /* it fails there too, and is told */
    if (failed) return failed;
    if (n->tells_handed) {
        lua_getfield(L, NODE, "core");
        tell_handed(L, sequence);
    }
    return m.waiter == 0 ? lua_call_park(L, n->calls.line) : 0;
}

/* What a read's callback waits with: (index), or (nil, message, code) of its round. Upvalues: line, node, fn,
 * callback. */
static int l_read_told(lua_State *L)
{
    enum { UP_NODE = UP_LINE + 1, UP_FN, UP_CALLBACK };
    int results = lua_gettop(L);
    if (!lua_isnil(L, 1)) {
        lua_settop(L, 0);
        lua_pushvalue(L, lua_upvalueindex(UP_NODE));
        lua_pushvalue(L, lua_upvalueindex(UP_FN));
        struct lua_node *n = node_here(L);
        results = n != NULL ? look(L, n) : lua_node_fail(L, ERR_CLOSED, lua_node_text(ERR_CLOSED));
    }
    lua_pushvalue(L, lua_upvalueindex(UP_CALLBACK));
    lua_insert(L, -1 - results);
    lua_call(L, results, 0);
    return 0;
}

static int read_with_callback(lua_State *L, struct lua_node *n, struct manner *m)
{
    check_reader(L, n);
    lua_settop(L, m->waiter);
    lua_pushlightuserdata(L, n->calls.line);
    lua_pushvalue(L, NODE);
    lua_pushvalue(L, FN);
    lua_pushvalue(L, m->waiter);
    lua_pushcclosure(L, l_read_told, 4);
    struct manner told = {.timeout_us = m->timeout_us, .waiter = lua_gettop(L)};
    int failed = join_round(L, n, LUA_ROUND_READ, &told);
    return failed ? make_otherwise(L, n, m) - 1 : 0; /* it fails there too, and is told */
}

static int l_read(lua_State *L)
{
    struct lua_node *n = node_here(L);
    struct manner m = {0};
    int done = is_usual(L, n, &m) ? 0 : make_otherwise(L, n, &m);
    if (done) return done - 1;
    if (m.waiter != 0) return read_with_callback(L, n, &m);
    lua_settop(L, FN);
    check_reader(L, n);
    m.looks = true;
    int failed = join_round(L, n, m.lease ? LUA_ROUND_LEASE : LUA_ROUND_READ, &m);
    return failed ? failed : lua_call_park(L, n->calls.line);
}

int lua_calls_method(lua_State *L)
{
    static const char *const names[] = {"propose", "read", NULL};
    bool proposes = luaL_checkoption(L, 1, NULL, names) == 0;
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushlightuserdata(L, lua_line_of(L));
    lua_pushvalue(L, 2);
    lua_pushcclosure(L, proposes ? l_propose : l_read, 2);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&parks);
    return 2;
}

/* ---- time ---- */
/* Thousands of calls a second, nearly all answered long before they are due: so only a bound is kept, below which none
 * is, and all are looked at when it has passed. */

/* Its node finds out what became of a proposal. Its answer may have come while this program was busy with something
 * else: so it is not given up before a step has taken what had come by then. */
static void expire_proposal(struct lua_node *n, uint64_t sequence, struct lua_call *call, uint64_t now)
{
    if (call->cancelled) {
        if (n->stepped_us < call->due_us) return;
        end_proposal(n, sequence, lua_node_text(ERR_TIMEOUT), err_name(ERR_TIMEOUT), 0);
        return;
    }
    call->cancelled = true;
    call->due_us = now + CANCEL_US;
    host_cancel(n->host, sequence);
}

static void expire_proposals(struct lua_node *n, uint64_t now)
{
    struct lua_calls *c = &n->calls;
    for (uint64_t sequence = c->lowest; sequence < c->next; sequence++) {
        uint32_t id = proposals_find(c, sequence);
        if (id != LUA_CALL_NONE && call_at(c, id)->due_us <= now) expire_proposal(n, sequence, call_at(c, id), now);
        id = proposals_find(c, sequence);
        if (id != LUA_CALL_NONE) c->due_us = MIN(c->due_us, call_at(c, id)->due_us);
    }
}

/* A round goes on for the others. */
static void expire_list(struct lua_node *n, struct lua_list *list, uint64_t now)
{
    struct lua_calls *c = &n->calls;
    struct lua_list due = LUA_LIST_EMPTY, rest = LUA_LIST_EMPTY;
    for (uint32_t id = list->head, next; id != LUA_CALL_NONE; id = next) {
        next = call_at(c, id)->next;
        lua_list_append(c->line, call_at(c, id)->due_us <= now ? &due : &rest, id);
        if (call_at(c, id)->due_us > now) c->due_us = MIN(c->due_us, call_at(c, id)->due_us);
    }
    bool led = host_status(n->host)->leader != 0;
    bool done = end_list(n, &due, led ? "no answer in time" : "no leader was known in time",
                         err_name(led ? ERR_TIMEOUT : ERR_NOT_LEADER), 0);
    for (uint32_t id = due.head, next; !done && id != LUA_CALL_NONE; id = next) { /* tried again */
        next = call_at(c, id)->next;
        lua_list_append(c->line, &rest, id);
        c->due_us = MIN(c->due_us, call_at(c, id)->due_us);
    }
    *list = rest;
}

int lua_calls_expire(lua_State *L)
{
    struct lua_node *n = lua_node_check(L);
    struct lua_calls *c = &n->calls;
    uint64_t now = io_now(n->server->io);
    if (c->n == 0) c->due_us = NEVER_US;
    if (c->due_us <= now) {
        c->due_us = NEVER_US;
        expire_proposals(n, now);
        for (int kind = 0; kind < LUA_ROUNDS; kind++) {
            expire_list(n, &c->rounds[kind].running, now);
            expire_list(n, &c->rounds[kind].next, now);
        }
    }
    if (c->due_us == NEVER_US) return 0;
    lua_pushnumber(L, (lua_Number)(c->due_us > now ? c->due_us - now : 0) / (lua_Number)US_PER_S);
    return 1;
}

int lua_calls_end(lua_State *L)
{
    struct lua_node *n = lua_node_check(L);
    struct lua_calls *c = &n->calls;
    const char *text = luaL_checkstring(L, 2), *name = luaL_checkstring(L, 3);
    bool done = true;
    for (uint64_t sequence = c->lowest; done && sequence < c->next; sequence++)
        done = end_proposal(n, sequence, text, name, 0);
    for (int kind = 0; done && kind < LUA_ROUNDS; kind++) {
        done = end_list(n, &c->rounds[kind].running, text, name, 0) &&
               end_list(n, &c->rounds[kind].next, text, name, 0);
    }
    return done ? 0 : luaL_error(L, "not enough memory");
}
