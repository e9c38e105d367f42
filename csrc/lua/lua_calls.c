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

void lua_calls_applied(lua_State *L, struct lua_node *n, uint64_t sequence, int first)
{
    struct lua_calls *c = &n->calls;
    uint32_t id = proposals_find(c, sequence);
    if (id == LUA_CALL_NONE) return;
    bool two = !lua_isnil(L, first + 1);
    lua_pushvalue(L, first);
    if (two) lua_pushvalue(L, first + 1);
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

/* Whoever proposes outside a turn of the loop, or in a simulation, has nobody else who does it. */
static void flush_unless_held(struct lua_node *n)
{
    const struct lua_line *line = n->calls.line;
    if (!line->held || line->simulated) host_flush(n->host);
}

/* ---- rounds ---- */

static int round_ask(struct lua_node *n, enum lua_round_kind kind, uint64_t *number)
{
    struct lua_calls *c = &n->calls;
    struct ask_what what = {.kind = ASK_READ, .lease = kind == LUA_ROUND_LEASE};
    if (kind != LUA_ROUND_BARRIER) return host_ask(n->host, &what, number);
    int code = proposals_fit(c) ? host_barrier(n->host, number) : ERR_BUSY;
    if (code == OK) flush_unless_held(n);
    if (code == OK) proposals_put(c, *number, LUA_CALL_NONE);
    return code;
}

static const char *round_text(enum lua_round_kind kind, int code)
{
    return kind == LUA_ROUND_BARRIER ? lua_node_text(code) : lua_asks_text(code);
}

/* Precondition: none is under way. */
static int round_start(struct lua_node *n, enum lua_round_kind kind)
{
    struct lua_round *r = &n->calls.rounds[kind];
    int code = round_ask(n, kind, &r->number);
    if (code != OK) r->number = 0;
    return code == ERR_NOMEM ? ERR_BUSY : code;
}

/* One has ended: those who came meanwhile share the next one; and those whom, for lack of memory, nobody could tell. */
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
    int code = round_start(n, kind);
    if (code != OK) end_list(n, &r->running, round_text(kind, code), err_name(code), 0);
}

bool lua_calls_done(struct lua_node *n, uint64_t sequence, const char *text, const char *name, raft_index index)
{
    for (int kind = 0; kind < LUA_ROUNDS; kind++) {
        struct lua_round *r = &n->calls.rounds[kind];
        if (r->number != sequence) continue;
        r->number = 0;
        end_list(n, &r->running, text, name, index);
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

/* The waiter at index, or the running coroutine if there is none; due in as many seconds as are at index - 1. */
static uint32_t call_begin(lua_State *L, struct lua_node *n, int index)
{
    struct lua_calls *c = &n->calls;
    lua_Number seconds = luaL_checknumber(L, index - 1);
    bool here = lua_isnoneornil(L, index);
    if (here && !lua_isyieldable(L)) luaL_error(L, "nobody can wait here");
    uint64_t due_us = io_now(n->server->io) + (uint64_t)(MIN(seconds, 1e12) * (lua_Number)US_PER_S);
    uint32_t id = lua_call_open(L, c->line, here ? 0 : index);
    call_at(c, id)->due_us = due_us;
    c->due_us = MIN(c->due_us, due_us);
    c->n++;
    return id;
}

static void call_refuse(struct lua_calls *c, uint32_t id)
{
    lua_call_close(c->line, id);
    c->n--;
}

/* What a method returns when its call is under way. */
static int call_wait(lua_State *L, struct lua_node *n, int index)
{
    if (lua_isnoneornil(L, index)) return lua_call_park(L, n->calls.line);
    lua_pushboolean(L, 1);
    return 1;
}

static int propose(lua_State *L, struct lua_node *n, uint32_t id, struct block *block, uint64_t *sequence)
{
    bool fits = proposals_fit(&n->calls);
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

static void tell_handed(lua_State *L, uint64_t sequence)
{
    lua_getiuservalue(L, 1, 3);
    lua_getfield(L, -1, "handed");
    lua_pushinteger(L, (lua_Integer)sequence);
    lua_call(L, 1, 0);
    lua_pop(L, 1);
}

int lua_calls_propose(lua_State *L)
{
    enum { CMD = 2, WAITER = 4 };
    struct lua_node *n = lua_node_check(L);
    size_t size;
    uint64_t sequence;
    const uint8_t *payload = lua_packer_pack(L, n->packer, CMD, "cmd", &size);
    if (size > n->command_bytes) {
        struct err e;
        err_set(&e, ERR_TOO_LARGE, "the command is %zu bytes packed, more than command_bytes (%" PRIu32 ") allows",
                size, n->command_bytes);
        return lua_room_fail(L, &e);
    }
    int code = lua_node_refusal(n);
    if (code != OK) return lua_node_fail(L, code, lua_node_text(code));
    uint32_t id = call_begin(L, n, WAITER);
    int failed = propose(L, n, id, entry_new(RAFT_ENTRY_COMMAND, payload, size), &sequence);
    if (failed) return failed;
    if (n->tells_handed) tell_handed(L, sequence);
    return call_wait(L, n, WAITER);
}

/* What a program outside the cluster proposes: u64 its session, u64 its number, the command. NULL: no memory. */
static struct block *client_block(lua_Integer session, lua_Integer number, const uint8_t *payload, size_t size)
{
    struct block *block = entry_reserve(RAFT_ENTRY_CLIENT, 16 + size);
    if (block == NULL) return NULL;
    put_u64(block->bytes + ENTRY_HEADER, (uint64_t)session);
    put_u64(block->bytes + ENTRY_HEADER + 8, (uint64_t)number);
    memcpy(block->bytes + ENTRY_HEADER + 16, payload, size);
    entry_seal(block);
    return block;
}

int lua_calls_client(lua_State *L)
{
    enum { SESSION = 2, NUMBER, CMD, WAITER = 6 };
    struct lua_node *n = lua_node_check(L);
    size_t size;
    uint64_t sequence;
    lua_Integer session = luaL_checkinteger(L, SESSION), number = luaL_checkinteger(L, NUMBER);
    const uint8_t *payload = lua_packer_pack(L, n->packer, CMD, "cmd", &size);
    if (size > n->command_bytes)
        return lua_node_fail(L, ERR_TOO_LARGE, "the command is larger than command_bytes allows");
    int code = lua_node_refusal(n);
    if (code != OK) return lua_node_fail(L, code, lua_node_text(code));
    uint32_t id = call_begin(L, n, WAITER);
    call_at(&n->calls, id)->wants_index = session == 0;
    int failed = propose(L, n, id, client_block(session, number, payload, size), &sequence);
    return failed ? failed : call_wait(L, n, WAITER);
}

/* Joins the next round of this kind; the waiter is argument 3. 0: it has; else the number of a failure's results. */
static int join_round(lua_State *L, struct lua_node *n, enum lua_round_kind kind)
{
    struct lua_round *r = &n->calls.rounds[kind];
    bool starts = r->number == 0;
    int code = lua_node_refusal(n);
    if (code == OK && starts) code = round_start(n, kind);
    if (code != OK) return lua_node_fail(L, code, round_text(kind, code));
    lua_list_append(n->calls.line, starts ? &r->running : &r->next, call_begin(L, n, 3));
    return 0;
}

int lua_calls_barrier(lua_State *L)
{
    struct lua_node *n = lua_node_check(L);
    int failed = join_round(L, n, LUA_ROUND_BARRIER);
    return failed ? failed : call_wait(L, n, 3);
}

/* ---- reads ---- */

enum { READ_TIMEOUT = 2, READ_WAITER, READ_FN }; /* arguments */

static int add_traceback(lua_State *L)
{
    luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
    return 1;
}

/* Raises when there is neither a function nor a query that could be asked. */
static void check_reader(lua_State *L, struct lua_node *n)
{
    if (lua_isfunction(L, READ_FN)) return;
    lua_node_push_machine(L, n);
    if (lua_getfield(L, -1, "query") != LUA_TFUNCTION)
        luaL_error(L, "node:read: a function (machine, index, time) expected, got %s (the machine has no query)",
                   luaL_typename(L, READ_FN));
    lua_settop(L, READ_FN);
}

/* Pushes what is to be called, and its arguments, whose number it returns. */
static int push_reader(lua_State *L, struct lua_node *n)
{
    bool given = lua_isfunction(L, READ_FN);
    lua_node_push_machine(L, n);
    if (given) lua_pushvalue(L, READ_FN);
    else lua_getfield(L, -1, "query");
    lua_insert(L, -2);
    if (!given) lua_pushvalue(L, READ_FN);
    lua_pushinteger(L, (lua_Integer)host_applied(n->host));
    lua_pushnumber(L, (lua_Number)host_applied_time(n->host) / (lua_Number)US_PER_S);
    return given ? 3 : 4;
}

/* Calls the reader, where nobody can wait. */
static int look(lua_State *L, struct lua_node *n)
{
    lua_settop(L, READ_FN);
    lua_pushcfunction(L, add_traceback);
    int handler = READ_FN + 1, n_arguments = push_reader(L, n);
    n->calls.line->inside++;
    int status = lua_pcall(L, n_arguments, 2, handler);
    n->calls.line->inside--;
    if (status != LUA_OK) {
        lua_pushnil(L);
        lua_insert(L, -2);
        lua_pushliteral(L, "query");
        return 3;
    }
    if (!lua_isnil(L, -1)) return 2;
    lua_pop(L, 1);
    return 1;
}

/* The round has passed, or failed; the node may have ended since. */
static int round_passed(lua_State *L, int status, lua_KContext context)
{
    struct lua_node **box = lua_touserdata(L, 1);
    (void)status;
    (void)context;
    if (lua_isnil(L, READ_FN + 1)) return lua_gettop(L) - READ_FN;
    if (*box == NULL) return lua_node_fail(L, ERR_CLOSED, lua_node_text(ERR_CLOSED));
    return look(L, *box);
}

static int read(lua_State *L, enum lua_round_kind kind)
{
    struct lua_node *n = lua_node_check(L);
    lua_settop(L, READ_FN);
    if (lua_isnil(L, READ_WAITER)) check_reader(L, n);
    int failed = join_round(L, n, kind);
    if (failed) return failed;
    if (!lua_isnil(L, READ_WAITER)) return call_wait(L, n, READ_WAITER);
    n->calls.line->parked = L;
    return lua_yieldk(L, 0, 0, round_passed);
}

int lua_calls_read(lua_State *L)
{
    return read(L, LUA_ROUND_READ);
}

int lua_calls_lease(lua_State *L)
{
    return read(L, LUA_ROUND_LEASE);
}

int lua_calls_look(lua_State *L)
{
    struct lua_node *n = lua_node_check(L);
    lua_settop(L, READ_FN);
    lua_pushvalue(L, 2);
    lua_replace(L, READ_FN);
    return look(L, n);
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
