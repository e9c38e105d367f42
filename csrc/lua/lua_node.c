/* core.node: joins the two halves of a server, in the world that this state lives in, and the state machine in Lua.
 *
 * Two rules carry this file. No Lua error may cross the frames of server: whatever may raise, lack of memory included,
 * happens in a C function below a protected call. And the machine runs on a Lua thread of its own, whose hook is
 * cleared: the interpreter interrupts by a hook on the main thread, so that Ctrl-C cannot cut an apply in half. */
#include "lua/lua_node.h"

#include "base/mem.h"
#include "lua/lua_asks.h"
#include "lua/lua_calls.h"
#include "lua/lua_thrift.h"

#define STEP_ENTRIES_MAX 65536
#define FEW 256u /* commands: with more, the machine's thread and the engine's get more done side by side */
#define SEGMENT_SPARES 2u

/* The lowest slots of the machine's Lua thread: what a node calls. */
enum slot {
    SLOT_HANDLER = 1, /* the message handler; its upvalue is the last message without traceback */
    SLOT_MACHINE,
    SLOT_APPLY,
    SLOT_RAISED,
    SLOT_DONE,
    SLOT_STARTED,
    SLOT_CHANGED,
    SLOT_HALTED,
    SLOT_CLOSED,
    SLOT_FAILED,
    SLOT_SAVE,
    SLOT_LOAD,
    SLOT_SNAPSHOT,
    SLOT_PROGRESS,
    SLOT_APPLIED, /* may be nil; read anew at each step */
    SLOTS = SLOT_APPLIED
};

static const char *const slot_names[SLOTS + 1] = {
    [SLOT_MACHINE] = "machine", [SLOT_APPLY] = "apply",     [SLOT_RAISED] = "raised",
    [SLOT_DONE] = "done",       [SLOT_STARTED] = "started", [SLOT_CHANGED] = "changed", [SLOT_HALTED] = "halted",
    [SLOT_CLOSED] = "closed",   [SLOT_FAILED] = "failed",   [SLOT_APPLIED] = "applied",
    [SLOT_SAVE] = "save",       [SLOT_LOAD] = "load",       [SLOT_SNAPSHOT] = "snapshot",
    [SLOT_PROGRESS] = "progress",
};

/* ---- calling Lua ---- */

/* Message handler: keeps the bare message in its upvalue and returns it with a traceback. */
static int on_error(lua_State *L)
{
    if (!lua_isstring(L, 1)) {
        if (!luaL_callmeta(L, 1, "__tostring") || !lua_isstring(L, -1))
            lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
        lua_replace(L, 1);
    }
    lua_settop(L, 1);
    lua_pushvalue(L, 1);
    lua_replace(L, lua_upvalueindex(1));
    luaL_traceback(L, L, lua_tostring(L, 1), 1);
    return 1;
}

/* One argument of a callback: an integer, or a text (NULL: nil). */
struct argument {
    bool is_text;
    const char *text;
    uint64_t integer;
};
#define TEXT(value) ((struct argument){.is_text = true, .text = (value)})
#define INTEGER(value) ((struct argument){.integer = (value)})

struct tell {
    const struct argument *arguments;
    int n;
};

/* (callback, struct tell) */
static int tell_body(lua_State *L)
{
    const struct tell *t = lua_touserdata(L, 2);
    lua_settop(L, 1);
    for (int i = 0; i < t->n; i++) {
        const struct argument *a = &t->arguments[i];
        if (a->is_text) lua_pushstring(L, a->text);
        else lua_pushinteger(L, (lua_Integer)a->integer);
    }
    lua_call(L, t->n, 0);
    return 0;
}

/* Calls one callback. What it raises goes to `failed`; what that raises goes nowhere. */
static void tell(struct lua_node *n, enum slot slot, int count, const struct argument *arguments)
{
    lua_State *T = n->thread;
    int top = lua_gettop(T);
    struct tell t = {arguments, count};
    lua_pushcfunction(T, tell_body);
    lua_pushvalue(T, slot);
    lua_pushlightuserdata(T, &t);
    if (lua_pcall(T, 2, 0, SLOT_HANDLER) != LUA_OK && slot != SLOT_FAILED) {
        const char *text = lua_type(T, -1) == LUA_TSTRING ? lua_tostring(T, -1) : "error without a message";
        tell(n, SLOT_FAILED, 1, &TEXT(text));
    }
    lua_settop(T, top);
}

/* ---- the state machine ---- */

enum stage { STAGE_DECODE, STAGE_APPLY, STAGE_TELL };

struct apply_call {
    struct lua_node *node;
    const struct entry *command;
    uint64_t time_us, sequence;
    struct buf *result; /* NULL, or where what it came to is kept for the client's next try */
    enum stage stage;
};

/* What is kept of a client's command: what apply returned, or how it failed. */
enum kept { KEPT_VALUES = 'v', KEPT_ERROR = 'e' };

/* Two packed values, one after the other, with the size of the first one before them. Raises as packing does; false: no
 * memory. */
static bool append_pair(lua_State *L, struct lua_node *n, int first, int second, const char *what, struct buf *out)
{
    size_t size, size2, start = out->size;
    const uint8_t *bytes = lua_packer_pack(L, n->packer, first, what, &size);
    const uint8_t *bytes2 = lua_packer_pack(L, n->packer2, second, what, &size2);
    uint8_t *at = buf_extend(out, 4 + size + size2);
    if (at == NULL) return false;
    put_u32(out->data + start, (uint32_t)size);
    memcpy(at + 4, bytes, size);
    memcpy(at + 4 + size, bytes2, size2);
    return true;
}

/* Pushes two values; false (and pushes a message instead): these are not such bytes. */
static bool push_pair(lua_State *L, const uint8_t *data, size_t size)
{
    uint32_t first = size >= 4 ? get_u32(data) : 0;
    if (size < 4 || first > size - 4) {
        lua_pushliteral(L, "not a pair of packed values");
        return false;
    }
    return lua_unpack_value(L, data + 4, first) && lua_unpack_value(L, data + 4 + first, size - 4 - first);
}

/* A result that cannot be kept is an error on every node alike. */
static int keep_values(lua_State *L)
{
    struct apply_call *c = lua_touserdata(L, 1);
    buf_append(c->result, &(uint8_t){KEPT_VALUES}, 1);
    if (!append_pair(L, c->node, 2, 3, "result", c->result)) return luaL_error(L, "not enough memory");
    return 0;
}

static void keep_error(struct buf *result, const char *message)
{
    result->size = 0;
    buf_append(result, &(uint8_t){KEPT_ERROR}, 1);
    buf_append(result, message, strlen(message));
}

enum { APPLY = 1, MACHINE, APPLIED, CALL, COMMAND, FIRST, SECOND }; /* the last two: what apply returned */

/* One command. */
static void apply(lua_State *L, struct apply_call *c)
{
    const struct entry *command = c->command;
    lua_Integer index = (lua_Integer)command->index;
    lua_Number time = (lua_Number)c->time_us / (lua_Number)US_PER_S;
    c->stage = STAGE_DECODE;
    bool held = c->sequence != 0 && c->result == NULL && lua_calls_command(L, c->node, c->sequence, command);
    if (!held && !lua_unpack_value(L, command->payload, command->payload_size)) lua_error(L);

    c->stage = STAGE_APPLY;
    c->node->applying = true;
    lua_pushvalue(L, APPLY);
    lua_pushvalue(L, MACHINE);
    lua_pushvalue(L, COMMAND);
    lua_pushinteger(L, index);
    lua_pushnumber(L, time);
    lua_call(L, 4, 2);
    c->node->applying = false;
    if (c->result != NULL) {
        lua_pushcfunction(L, keep_values);
        lua_pushlightuserdata(L, c);
        lua_pushvalue(L, FIRST);
        lua_pushvalue(L, SECOND);
        lua_call(L, 3, 0);
    }

    c->stage = STAGE_TELL;
    if (!lua_isnil(L, APPLIED)) {
        lua_pushvalue(L, APPLIED);
        lua_pushinteger(L, index);
        lua_pushnumber(L, time);
        lua_pushvalue(L, COMMAND);
        lua_pushvalue(L, FIRST);
        lua_pushvalue(L, SECOND);
        lua_call(L, 5, 0);
    }
    if (c->sequence != 0) lua_calls_applied(L, c->node, c->sequence);
}

/* (apply, machine, applied, struct apply_call). One protected call for all stages of as many commands as follow one
 * another; an error is the last one's. */
static int apply_body(lua_State *L)
{
    struct apply_call *c = lua_touserdata(L, CALL);
    while (c->command != NULL) {
        apply(L, c);
        lua_settop(L, CALL);
        c->command = host_next(c->node->host, &c->time_us, &c->sequence);
    }
    return 0;
}

/* Where another node goes on, this one ran out of something: replicas would part if that counted as applied. Lua's
 * buffers report lack of memory as an ordinary error. */
static bool is_exhaustion(int status, const char *message)
{
    static const char overflow[] = "stack overflow";
    size_t size = strlen(message), tail = sizeof overflow - 1;
    return status == LUA_ERRMEM || status == LUA_ERRERR || strcmp(message, "not enough memory") == 0 ||
           (size >= tail && memcmp(message + size - tail, overflow, tail) == 0);
}

static enum host_verdict halt(struct lua_node *n, const char *message)
{
    tell(n, SLOT_HALTED, 1, &TEXT(message));
    return HOST_HALT;
}

/* The error value is on top of the machine's thread. */
static enum host_verdict apply_failed(struct lua_node *n, const struct apply_call *c, int status)
{
    lua_State *T = n->thread;
    const char *trace = lua_type(T, -1) == LUA_TSTRING ? lua_tostring(T, -1) : "error without a message";
    const char *message = trace;
    if (status == LUA_ERRRUN && lua_getupvalue(T, SLOT_HANDLER, 1) != NULL) message = lua_tostring(T, -1);
    if (c->stage == STAGE_DECODE || is_exhaustion(status, message)) return halt(n, message);
    if (c->stage == STAGE_TELL) {
        tell(n, SLOT_FAILED, 1, &TEXT(trace));
        return HOST_GO_ON;
    }
    const struct argument arguments[] = {INTEGER(c->command->index), TEXT(message), TEXT(trace)};
    if (c->result != NULL) keep_error(c->result, message);
    if (n->stop_on_error) return halt(n, trace);
    if (c->sequence != 0) lua_calls_done(n, c->sequence, message, "apply", 0);
    tell(n, SLOT_RAISED, COUNT_OF(arguments), arguments);
    return HOST_GO_ON;
}

static enum host_verdict on_apply(void *ctx, const struct entry *command, uint64_t time_us, uint64_t sequence,
                                  struct buf *result)
{
    struct lua_node *n = ctx;
    if (n->muted) return HOST_HALT; /* there is no machine any more */
    lua_State *T = n->thread;
    struct apply_call call = {n, command, time_us, sequence, result, STAGE_DECODE};
    lua_pushcfunction(T, apply_body);
    lua_pushvalue(T, SLOT_APPLY);
    lua_pushvalue(T, SLOT_MACHINE);
    lua_pushvalue(T, SLOT_APPLIED);
    lua_pushlightuserdata(T, &call);
    int status = lua_pcall(T, 4, 0, SLOT_HANDLER);
    if (status == LUA_OK) return HOST_GO_ON;
    n->applying = false;
    enum host_verdict verdict = apply_failed(n, &call, status);
    lua_settop(T, SLOTS);
    return verdict;
}

/* ---- what else a host says ---- */

const char *lua_node_text(int code)
{
    switch (code) {
    case ERR_NOT_LEADER: return "no leader took the command in time; it was not applied";
    case ERR_TIMEOUT: return "no answer in time; the command may still be applied";
    case ERR_UNKNOWN: return "the node stopped while the command was under way; it may have been applied";
    case ERR_CLOSED: return "the node is closed";
    case ERR_FULL: return "the leader's disk is full";
    case ERR_FAULT: return "the node has stopped after a fault";
    case ERR_REMOVED: return "this node is no member of the cluster";
    case ERR_REFUSED: return "a later life of this node has taken over";
    case ERR_BUSY: return "too many commands are under way";
    case ERR_TOO_LARGE: return "the command is too large for the leader";
    case ERR_NO_RESULT: return "the command was applied, but a snapshot has overtaken its result";
    case ERR_EXPIRED: return "the session is gone, or has gone on: an earlier try may have been applied";
    default: return "the command was refused";
    }
}

static void on_done(void *ctx, uint64_t sequence, int code, raft_index index, raft_id id)
{
    struct lua_node *n = ctx;
    const char *name = code == OK ? NULL : err_name(code);
    const char *text = code == OK ? NULL : sequence >= HOST_FIRST_ASK ? lua_asks_text(code) : lua_node_text(code);
    const struct argument arguments[] = {INTEGER(sequence), TEXT(name), TEXT(text), INTEGER(index), INTEGER(id)};
    if (n->muted || lua_calls_done(n, sequence, text, name, index)) return;
    tell(n, SLOT_DONE, COUNT_OF(arguments), arguments);
}

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct lua_node *n = ctx;
    const struct argument arguments[] = {INTEGER(done), INTEGER(total)};
    if (!n->muted) tell(n, SLOT_PROGRESS, COUNT_OF(arguments), arguments);
}

static void on_started(void *ctx, int code)
{
    struct lua_node *n = ctx;
    const char *text = code == OK ? NULL : host_start_error(n->host)->text;
    const char *note = host_start_note(n->host);
    const struct argument arguments[] = {TEXT(code == OK ? NULL : err_name(code)), TEXT(text),
                                         TEXT(note[0] == 0 ? NULL : note)};
    n->started = code == OK;
    n->ended = code != OK;
    if (n->started && n->closing) host_close(n->host);
    if (!n->muted) tell(n, SLOT_STARTED, COUNT_OF(arguments), arguments);
}

static struct news news_of(const struct server_status *s)
{
    struct news now = {.term = s->term, .leader = s->leader, .role = s->role, .phase = s->phase,
                       .fault = s->fault, .ready = s->ready, .learner = s->learner, .removed = s->removed,
                       .rejoining = s->rejoining, .conf_index = s->conf_index, .disk = s->disk,
                       .host_slow = s->host_slow};
    for (uint8_t i = 0; i < s->n_members; i++)
        if (s->members[i].connected) now.connected |= UINT32_C(1) << i;
    for (uint8_t i = 0; i < s->n_members; i++) {
        const char *down = s->members[i].down;
        bool objected = strncmp(down, "refused:", 8) == 0 || strncmp(down, "it has come back", 16) == 0;
        if (objected) now.objected |= UINT32_C(1) << i;
    }
    return now;
}

/* Most statuses differ in counters alone: Lua hears of the others only. */
static void on_changed(void *ctx, const struct server_status *status)
{
    struct lua_node *n = ctx;
    struct news now = news_of(status), *old = &n->news;
    bool same = now.term == old->term && now.leader == old->leader && now.role == old->role &&
                now.phase == old->phase && now.connected == old->connected && now.objected == old->objected &&
                now.fault == old->fault &&
                now.ready == old->ready && now.learner == old->learner && now.removed == old->removed &&
                now.rejoining == old->rejoining && now.conf_index == old->conf_index && now.disk == old->disk &&
                now.host_slow == old->host_slow;
    n->news = now;
    if (!same && !n->muted) tell(n, SLOT_CHANGED, 0, NULL);
}

static void on_closed(void *ctx)
{
    struct lua_node *n = ctx;
    n->ended = true;
    if (!n->muted) tell(n, SLOT_CLOSED, 0, NULL);
}

/* ---- a client's command once more ---- */

struct repeat_call {
    struct lua_node *node;
    uint64_t sequence;
    const uint8_t *result;
    size_t size;
};

/* (struct repeat_call) */
static int repeat_body(lua_State *L)
{
    const struct repeat_call *c = lua_touserdata(L, 1);
    if (!push_pair(L, c->result + 1, c->size - 1)) return lua_error(L);
    lua_calls_applied(L, c->node, c->sequence);
    return 0;
}

static void on_repeat(void *ctx, uint64_t sequence, const uint8_t *result, size_t size)
{
    struct lua_node *n = ctx;
    lua_State *T = n->thread;
    if (n->muted) return;
    if (result == NULL || size == 0) {
        on_done(ctx, sequence, ERR_NO_RESULT, 0, 0);
        return;
    }
    if (result[0] == KEPT_ERROR) {
        char message[ERR_TEXT_MAX];
        size_t shown = MIN(size - 1, sizeof message - 1);
        memcpy(message, result + 1, shown);
        message[shown] = '\0';
        lua_calls_done(n, sequence, message, "apply", 0);
        return;
    }
    struct repeat_call call = {n, sequence, result, size};
    lua_pushcfunction(T, repeat_body);
    lua_pushlightuserdata(T, &call);
    if (lua_pcall(T, 1, 0, SLOT_HANDLER) != LUA_OK)
        tell(n, SLOT_FAILED, 1, &TEXT(lua_type(T, -1) == LUA_TSTRING ? lua_tostring(T, -1) : "error"));
    lua_settop(T, SLOTS);
}

/* ---- snapshots ---- */

struct save_call {
    struct lua_node *node;
    struct snapshot_writer *writer;
};

/* write(key, value), for the machine's save. */
static int write_record(lua_State *L)
{
    struct save_call *c = lua_touserdata(L, lua_upvalueindex(1));
    if (c == NULL) return luaL_error(L, "write was called after save had returned");
    luaL_argcheck(L, !lua_isnil(L, 1), 1, "a key cannot be nil");
    lua_settop(L, 2);
    size_t size, size2;
    uint8_t head[4];
    const uint8_t *key = lua_packer_pack(L, c->node->packer, 1, "key", &size);
    const uint8_t *value = lua_packer_pack(L, c->node->packer2, 2, "machine", &size2);
    if (size2 > SNAPSHOT_RECORD_MAX - 4 - size) return luaL_error(L, "a record of a snapshot is at most 1 GiB");
    put_u32(head, (uint32_t)size);
    snapshot_write_record_begin(c->writer, SNAPSHOT_MACHINE, 4 + size + size2);
    snapshot_write_record_bytes(c->writer, head, sizeof head);
    snapshot_write_record_bytes(c->writer, key, size);
    if (snapshot_write_record_bytes(c->writer, value, size2) != OK) return luaL_error(L, "%s", c->writer->error.text);
    return 0;
}

/* (handler, save, struct save_call). What save was given to write with is of no use afterwards, to whoever keeps it. */
static int save_body(lua_State *L)
{
    enum { HANDLER = 1, SAVE, WRITE };
    lua_pushcclosure(L, write_record, 1);
    lua_pushvalue(L, SAVE);
    lua_pushvalue(L, WRITE);
    int status = lua_pcall(L, 1, 0, HANDLER);
    lua_pushlightuserdata(L, NULL);
    lua_setupvalue(L, WRITE, 1);
    return status == LUA_OK ? 0 : lua_error(L);
}

/* In a child this is the last that is ever done with this state: no finaliser shall run in two processes. */
static int on_save(void *ctx, struct snapshot_writer *w, struct err *e)
{
    struct lua_node *n = ctx;
    lua_State *T = n->thread;
    struct save_call call = {n, w};
    struct lua_thrift thrift;
    if (n->snapshot_apart) lua_thrift_begin(T, &thrift);
    int top = lua_gettop(T), rv = OK;
    lua_pushcfunction(T, save_body);
    lua_pushvalue(T, SLOT_HANDLER);
    lua_pushvalue(T, SLOT_SAVE);
    lua_pushlightuserdata(T, &call);
    if (lua_pcall(T, 3, 0, 0) != LUA_OK) {
        const char *text = lua_type(T, -1) == LUA_TSTRING ? lua_tostring(T, -1) : "error without a message";
        rv = w->status != OK ? w->status : err_set(e, ERR_INVALID, "%s", text);
        if (w->status != OK) *e = w->error;
    }
    lua_settop(T, top);
    if (n->snapshot_apart) lua_thrift_end(T, &thrift);
    return rv;
}

struct load_call {
    struct lua_node *node;
    enum host_load step;
};

/* -> key, value of the next record; nothing: there are no more of them now */
static int next_record(lua_State *L)
{
    const struct lua_node *n = lua_touserdata(L, lua_upvalueindex(1));
    const uint8_t *record;
    uint32_t size;
    if (n->records == NULL || !host_record_next(n->records, &record, &size)) return 0;
    if (!push_pair(L, record, size)) return lua_error(L);
    return 2;
}

/* (load, struct load_call): load("begin", total), load("records", next_record), load("end") -> machine, its apply */
static int load_body(lua_State *L)
{
    static const char *const steps[] = {"begin", "records", "end"};
    const struct load_call *c = lua_touserdata(L, 2);
    lua_settop(L, 1);
    lua_pushstring(L, steps[c->step]);
    if (c->step == HOST_LOAD_BEGIN) {
        lua_pushinteger(L, (lua_Integer)host_records_total(c->node->records));
    } else if (c->step == HOST_LOAD_RECORDS) {
        lua_pushlightuserdata(L, c->node);
        lua_pushcclosure(L, next_record, 1);
    }
    lua_call(L, lua_gettop(L) - 1, 2);
    return 2;
}

static enum host_verdict on_load(void *ctx, enum host_load step, struct host_records *records)
{
    struct lua_node *n = ctx;
    lua_State *T = n->thread;
    struct load_call call = {n, step};
    if (n->muted) return HOST_HALT;
    if (step == HOST_LOAD_BEGIN) lua_grant_begin(T, &n->grant);
    n->records = records;
    lua_grant_open(T, &n->grant);
    lua_pushcfunction(T, load_body);
    lua_pushvalue(T, SLOT_LOAD);
    lua_pushlightuserdata(T, &call);
    enum host_verdict verdict = HOST_GO_ON;
    if (lua_pcall(T, 2, 2, SLOT_HANDLER) != LUA_OK) {
        verdict = halt(n, lua_type(T, -1) == LUA_TSTRING ? lua_tostring(T, -1) : "error without a message");
    } else if (step == HOST_LOAD_END) {
        lua_replace(T, SLOT_APPLY);
        lua_replace(T, SLOT_MACHINE);
    }
    n->records = NULL;
    lua_settop(T, SLOTS);
    lua_grant_close(T, &n->grant);
    return verdict;
}

static void on_snapshot(void *ctx, const struct snapshot_order *order, uint64_t took_us)
{
    struct lua_node *n = ctx;
    bool failed = order->error.code != OK;
    const struct argument arguments[] = {INTEGER(order->what.index), INTEGER(order->what.size), INTEGER(took_us),
                                         TEXT(failed ? order->error.text : NULL),
                                         TEXT(failed ? err_name(order->error.code) : NULL)};
    if (!n->muted) tell(n, SLOT_SNAPSHOT, COUNT_OF(arguments), arguments);
}

static const struct host_machine machine = {
    .apply = on_apply, .repeat = on_repeat, .done = on_done, .started = on_started, .changed = on_changed,
    .closed = on_closed, .save = on_save, .load = on_load, .snapshot = on_snapshot,
    .progress = on_progress,
};

/* ---- life ---- */

static void node_free(struct lua_node *n)
{
    struct lua_node **at = &n->calls.line->nodes;
    while (*at != NULL && *at != n) at = &(*at)->next;
    if (*at != NULL) *at = n->next;
    if (n->server != NULL) n->server->place->free(n->server);
    lua_calls_free(&n->calls);
    mem_free(n);
}

/* NULL: e says why. */
static struct lua_node *node_create(const struct lua_place *place, int notify_fd, const struct engine_config *config,
                                    const struct host_config *host, struct lua_line *line, struct err *e)
{
    struct lua_node *n = mem_zero(1, sizeof *n);
    if (n == NULL || lua_calls_init(&n->calls, line, config->pending) != OK) {
        mem_free(n);
        err_set(e, ERR_NOMEM, "out of memory for a node");
        return NULL;
    }
    if (place->open(place, notify_fd, config, host, &machine, n, &n->server, e) != OK) {
        node_free(n);
        return NULL;
    }
    n->host = n->server->host;
    n->born_us = io_now(n->server->io);
    n->command_bytes = config->command_bytes;
    n->joins = config->n_join > 0;
    n->next = line->nodes;
    line->nodes = n;
    return n;
}

/* The thread has nothing left to do: the engine's memory and files are given back at once. */
static void node_join(struct lua_node *n)
{
    if (n->ended && n->server->engine != NULL) n->server->place->join(n->server);
}

static void node_close(struct lua_node *n)
{
    if (n->closing || n->ended) return;
    n->closing = true;
    if (n->started || n->joins) host_close(n->host);
}

/* Closes and waits, without any callback. */
static void node_drain(struct lua_node *n)
{
    ASSERT(!n->stepping);
    const struct lua_place *place = n->server->place;
    bool waited = false;
    n->muted = true;
    if (place->wait == NULL) return;
    node_close(n);
    while (!n->ended) {
        if (host_step(n->host, STEP_ENTRIES_MAX) || n->ended) continue;
        place->wait(n->server);
        waited = true;
    }
    if (waited) place->waited(n->server);
    node_join(n);
}

/* ---- Lua's view: making one ---- */

static lua_Integer field_integer(lua_State *L, const char *name, lua_Integer low, lua_Integer high)
{
    int is_integer = 0;
    lua_getfield(L, 1, name);
    lua_Integer value = lua_tointegerx(L, -1, &is_integer);
    if (!is_integer || value < low || value > high)
        luaL_error(L, "core.node: %s must be an integer from %I to %I", name, (LUAI_UACINT)low, (LUAI_UACINT)high);
    lua_pop(L, 1);
    return value;
}

static uint64_t field_us(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    lua_Number seconds = lua_tonumber(L, -1);
    if (!(seconds > 0 && seconds <= 1e6)) luaL_error(L, "core.node: %s must be seconds, above 0", name);
    lua_pop(L, 1);
    return (uint64_t)(seconds * (lua_Number)US_PER_S);
}

/* The string stays the option table's. */
static const char *field_text(lua_State *L, const char *name, bool optional)
{
    lua_getfield(L, 1, name);
    if (lua_type(L, -1) != LUA_TSTRING && !(optional && lua_isnil(L, -1)))
        luaL_error(L, "core.node: %s must be a string", name);
    const char *text = lua_tostring(L, -1);
    lua_pop(L, 1);
    return text;
}

static void read_members(lua_State *L, struct members *members)
{
    struct err e;
    lua_getfield(L, 1, "members");
    luaL_argcheck(L, lua_istable(L, -1), 1, "members must be a table");
    lua_Integer count = luaL_len(L, -1);
    for (lua_Integer i = 1; i <= count; i++) {
        lua_geti(L, -1, i);
        luaL_argcheck(L, lua_istable(L, -1), 1, "a member must be a table");
        lua_getfield(L, -1, "id");
        lua_getfield(L, -2, "address");
        luaL_argcheck(L, lua_isinteger(L, -2) && lua_type(L, -1) == LUA_TSTRING, 1, "a member has id and address");
        if (members_add(members, (raft_id)lua_tointeger(L, -2), lua_tostring(L, -1), &e) != OK)
            luaL_error(L, "raft.node: cluster: %s", e.text);
        lua_pop(L, 3);
    }
    lua_pop(L, 1);
}

/* Members to ask for a place: a list of addresses, or nil. */
static void read_join(lua_State *L, struct engine_config *c)
{
    if (lua_getfield(L, 1, "join") == LUA_TTABLE) {
        lua_Integer count = luaL_len(L, -1);
        luaL_argcheck(L, count <= RAFT_MEMBERS_MAX, 1, "join has too many addresses");
        for (lua_Integer i = 1; i <= count; i++) {
            size_t size;
            lua_geti(L, -1, i);
            const char *address = luaL_checklstring(L, -1, &size);
            luaL_argcheck(L, size <= ADDRESS_MAX, 1, "join: an address is too long");
            memcpy(c->join[c->n_join++], address, size + 1);
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
}

static void read_config(lua_State *L, struct engine_config *c)
{
    memset(c, 0, sizeof *c);
    c->dir = field_text(L, "dir", false);
    c->name = field_text(L, "name", false);
    c->listen = field_text(L, "listen", true);
    c->id = (raft_id)field_integer(L, "id", 0, LUA_MAXINTEGER);
    c->election_timeout_us = field_us(L, "election_timeout");
    c->heartbeat_us = field_us(L, "heartbeat");
    c->host_timeout_us = field_us(L, "host_timeout");
    c->pending = (uint32_t)field_integer(L, "pending", 1, CHANNEL_PENDING_MAX);
    c->command_bytes = (uint32_t)field_integer(L, "command_bytes", 1, ENTRY_PAYLOAD_MAX);
    c->cache_bytes = (uint32_t)field_integer(L, "cache_bytes", 0, UINT32_MAX);
    c->spares = SEGMENT_SPARES;
    c->priority = (int32_t)field_integer(L, "priority", INT32_MIN, INT32_MAX);
    lua_getfield(L, 1, "lease");
    c->lease = lua_toboolean(L, -1);
    lua_pop(L, 1);
    lua_getfield(L, 1, "rejoin");
    c->rejoin = lua_toboolean(L, -1);
    lua_pop(L, 1);
    read_members(L, &c->members);
    read_join(L, c);
}

static void read_snapshot(lua_State *L, struct engine_config *c, struct host_config *host)
{
    host->snapshot_bytes = (uint64_t)field_integer(L, "snapshot_bytes", 0, LUA_MAXINTEGER);
    host->snapshot_entries = (uint64_t)field_integer(L, "snapshot_entries", 0, LUA_MAXINTEGER);
    c->keep = (uint64_t)field_integer(L, "snapshot_keep", 0, LUA_MAXINTEGER);
    lua_getfield(L, 1, "snapshot_apart");
    host->snapshot_apart = lua_toboolean(L, -1);
    lua_pop(L, 1);
}

/* The machine's thread, with what it calls in its slots, from the callbacks at index 2. Leaves it on the stack. */
static lua_State *new_thread(lua_State *L)
{
    lua_State *T = lua_newthread(L);
    lua_sethook(T, NULL, 0, 0);
    if (!lua_checkstack(T, SLOTS + LUA_MINSTACK)) luaL_error(L, "out of memory for a node");
    lua_pushnil(L);
    lua_pushcclosure(L, on_error, 1);
    lua_xmove(L, T, 1);
    for (int slot = SLOT_MACHINE; slot <= SLOTS; slot++) {
        int type = lua_getfield(L, 2, slot_names[slot]);
        if (slot == SLOT_MACHINE ? type != LUA_TTABLE && type != LUA_TUSERDATA
                                 : type != LUA_TFUNCTION && slot != SLOT_APPLIED)
            luaL_error(L, "core.node: callbacks.%s is missing", slot_names[slot]);
        lua_xmove(L, T, 1);
    }
    return T;
}

/* node(options, callbacks, stop_on_error) */
static int node_new(lua_State *L)
{
    struct engine_config config;
    struct err e = {0};
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 3);
    read_config(L, &config);
    struct host_config host = {.pending = config.pending,
                               .pending_bytes = (uint64_t)field_integer(L, "pending_bytes", 1, LUA_MAXINTEGER)};
    read_snapshot(L, &config, &host);
    const struct lua_place *place = lua_place_of(L);
    int notify_fd = place->prepare(L);
    struct lua_node **box = lua_newuserdatauv(L, sizeof *box, 4);
    *box = NULL;
    luaL_setmetatable(L, NODE_CLASS);
    lua_State *thread = new_thread(L);
    lua_setiuservalue(L, -2, 1);
    struct lua_packer *packer = lua_packer_new(L);
    lua_setiuservalue(L, -2, 2);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, 3);
    struct lua_packer *packer2 = lua_packer_new(L);
    lua_setiuservalue(L, -2, 4);

    struct lua_line *line = lua_line_of(L);
    lua_getfield(L, 2, "handed");
    bool tells_handed = !lua_isnil(L, -1);
    lua_pop(L, 1);

    struct lua_node *n = node_create(place, notify_fd, &config, &host, line, &e);
    if (n == NULL) return lua_room_fail(L, &e);
    n->thread = thread;
    n->packer = packer;
    n->packer2 = packer2;
    n->snapshot_apart = host.snapshot_apart;
    n->tells_handed = tells_handed;
    n->stop_on_error = lua_toboolean(L, 3);
    if (place->run(n->server, &e) != OK) {
        node_free(n);
        return lua_room_fail(L, &e);
    }
    *box = n;
    return 1;
}

/* ---- Lua's view: methods ---- */

/* The class is upvalue 1 of its methods. */
struct lua_node *lua_node_check(lua_State *L)
{
    struct lua_node **box = lua_touserdata(L, 1);
    bool is_node = box != NULL && lua_getmetatable(L, 1) && lua_rawequal(L, -1, lua_upvalueindex(1));
    if (!is_node) luaL_typeerror(L, 1, NODE_CLASS);
    lua_pop(L, 1);
    if (*box == NULL) luaL_error(L, "the node is destroyed");
    return *box;
}

struct lua_node *lua_node_of_face(lua_State *L, const struct lua_line *line, int index)
{
    const void *face = lua_topointer(L, index);
    struct lua_node *n = line->nodes;
    while (n != NULL && n->face != face) n = n->next;
    return face != NULL ? n : NULL;
}

void lua_node_push_machine(lua_State *L, struct lua_node *n)
{
    ASSERT(!n->stepping || L == n->thread);
    lua_pushvalue(n->thread, SLOT_MACHINE);
    if (L != n->thread) lua_xmove(n->thread, L, 1);
}

int lua_node_fail(lua_State *L, int code, const char *text)
{
    struct err e;
    err_set(&e, code, "%s", text);
    return lua_room_fail(L, &e);
}

int lua_node_refusal(const struct lua_node *n)
{
    if (n->started && host_status(n->host)->fault != 0) return ERR_FAULT;
    if (!n->started || n->closing || n->ended) return ERR_CLOSED;
    return host_status(n->host)->removed ? ERR_REMOVED : OK;
}

/* node:face(table, timeout): users know it as this table, which holds it from now on. */
static int node_face(lua_State *L)
{
    struct lua_node *n = lua_node_check(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    n->timeout_us = lua_seconds(luaL_checknumber(L, 3));
    n->face = lua_topointer(L, 2);
    return 0;
}

/* node:snapshot() -> true: `snapshot` is called later; or the index of the newest one, if it is of this very state */
static int node_snapshot(lua_State *L)
{
    struct lua_node *n = lua_node_check(L);
    struct err e;
    if (!n->started) return lua_node_fail(L, ERR_CLOSED, lua_node_text(ERR_CLOSED));
    int code = host_snapshot(n->host, &e);
    if (code == OK) lua_pushboolean(L, 1);
    else if (code == ERR_EXIST) lua_pushinteger(L, (lua_Integer)host_applied(n->host));
    else return lua_room_fail(L, &e);
    return 1;
}

/* node:ask("transfer", id or 0) | ("change", changes) -> number of the call */
static int node_ask(lua_State *L)
{
    static const char *const kinds[] = {"change", "transfer", NULL};
    struct lua_node *n = lua_node_check(L);
    uint64_t number;
    struct ask_what what = {.kind = luaL_checkoption(L, 2, NULL, kinds) == 0 ? ASK_CHANGE : ASK_TRANSFER};
    if (what.kind == ASK_TRANSFER) what.target = (raft_id)luaL_checkinteger(L, 3);
    else lua_asks_change(L, 3, &what);
    int code = lua_node_refusal(n);
    if (code == OK) code = host_ask(n->host, &what, &number);
    if (code == ERR_NOMEM) code = ERR_BUSY;
    if (code != OK) return lua_node_fail(L, code, lua_asks_text(code));
    lua_pushinteger(L, (lua_Integer)number);
    return 1;
}

static int node_cancel(lua_State *L)
{
    struct lua_node *n = lua_node_check(L);
    lua_Integer sequence = luaL_checkinteger(L, 2);
    if (n->started && !n->ended) host_cancel(n->host, (uint64_t)sequence);
    return 0;
}

/* A listener for `applied` may have come or gone. */
static void refresh_applied(lua_State *L, lua_State *T)
{
    lua_getiuservalue(L, 1, 3);
    lua_getfield(L, -1, slot_names[SLOT_APPLIED]);
    lua_xmove(L, T, 1);
    lua_replace(T, SLOT_APPLIED);
    lua_pop(L, 1);
}

static int node_step(lua_State *L)
{
    struct lua_node *n = lua_node_check(L);
    lua_Integer entries = luaL_checkinteger(L, 2);
    luaL_argcheck(L, entries > 0 && entries <= STEP_ENTRIES_MAX, 2, "out of range");
    if (n->stepping) return luaL_error(L, "a node is stepped from inside its own step");
    bool more = false;
    if (!n->ended) {
        refresh_applied(L, n->thread);
        n->stepping = true;
        n->calls.line->inside++;
        n->stepped_us = io_now(n->server->io);
        more = host_step(n->host, (uint32_t)entries);
        n->calls.line->inside--;
        n->stepping = false;
        node_join(n);
    }
    lua_pushboolean(L, more && !n->ended);
    return 1;
}

static int node_flush(lua_State *L)
{
    lua_calls_flush(lua_node_check(L));
    return 0;
}

/* Few commands are under way, and few have been applied since it slept last: others may propose more. */
static bool has_little_to_do(struct lua_node *n)
{
    raft_index applied = host_applied(n->host);
    bool little = n->calls.n > 0 && n->calls.n <= FEW && applied - n->slept_at <= FEW;
    n->slept_at = applied;
    return little;
}

void lua_node_sleep(lua_State *L, int index, int ms)
{
    struct lua_node *n = *(struct lua_node **)luaL_checkudata(L, index, NODE_CLASS);
    if (n == NULL) luaL_error(L, "the node is destroyed");
    if (n->ended) return;
    bool leads = host_status(n->host)->role == RAFT_LEADER;
    n->server->place->sleep(n->server, ms, has_little_to_do(n) && leads);
}

static int node_stepping(lua_State *L)
{
    lua_pushboolean(L, lua_node_check(L)->stepping);
    return 1;
}

static int node_applying(lua_State *L)
{
    lua_pushboolean(L, lua_node_check(L)->applying);
    return 1;
}

static int node_applied(lua_State *L)
{
    struct lua_node *n = lua_node_check(L);
    lua_pushinteger(L, (lua_Integer)host_applied(n->host));
    lua_pushnumber(L, (lua_Number)host_applied_time(n->host) / (lua_Number)US_PER_S);
    return 2;
}

/* node:heard() -> seconds since a leader was surely there; nil: none is known */
static int node_heard(lua_State *L)
{
    struct lua_node *n = lua_node_check(L);
    uint64_t heard_us = host_heard(n->host), now_us = io_now(n->server->io);
    if (heard_us == 0) return 0;
    lua_pushnumber(L, now_us > heard_us ? (lua_Number)(now_us - heard_us) / (lua_Number)US_PER_S : 0);
    return 1;
}

static int node_id(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)host_node(lua_node_check(L)->host));
    return 1;
}

static int node_close_method(lua_State *L)
{
    node_close(lua_node_check(L));
    return 0;
}

static int node_destroy(lua_State *L)
{
    struct lua_node **box = luaL_checkudata(L, 1, NODE_CLASS);
    if (*box == NULL) return 0;
    if ((*box)->stepping) return luaL_error(L, "a node is destroyed from inside its own step");
    node_drain(*box);
    node_free(*box);
    *box = NULL;
    return 0;
}

/* A state that is closed from inside a step (os.exit in an apply) ends the process right after: the threads are left
 * to it, since the frames of that step are still below us. */
static int node_gc(lua_State *L)
{
    struct lua_node **box = luaL_checkudata(L, 1, NODE_CLASS);
    if (*box == NULL || (*box)->stepping) return 0;
    return node_destroy(L);
}

/* ---- Lua's view: status ---- */

static void set_integer(lua_State *L, const char *name, uint64_t value)
{
    lua_pushinteger(L, (lua_Integer)value);
    lua_setfield(L, -2, name);
}

static void set_seconds(lua_State *L, const char *name, uint64_t us)
{
    lua_pushnumber(L, (lua_Number)us / (lua_Number)US_PER_S);
    lua_setfield(L, -2, name);
}

/* NULL and "" are nil. */
static void set_text(lua_State *L, const char *name, const char *text)
{
    if (text == NULL || *text == '\0') return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

static void set_boolean(lua_State *L, const char *name, bool value)
{
    lua_pushboolean(L, value);
    lua_setfield(L, -2, name);
}

/* How long ago; not set when it never was. */
static void set_age(lua_State *L, const char *name, uint64_t now_us, uint64_t at_us)
{
    if (at_us != 0) set_seconds(L, name, now_us > at_us ? now_us - at_us : 0);
}

static void push_member(lua_State *L, const struct member_status *m, uint64_t now_us)
{
    lua_createtable(L, 0, 8);
    set_integer(L, "id", m->id);
    set_text(L, "address", m->address);
    set_boolean(L, "connected", m->connected);
    set_text(L, "down", m->down);
    set_text(L, "role", m->learner ? "learner" : "voter");
    set_text(L, "state", m->state);
    if (m->state != NULL && m->learner) set_boolean(L, "caught_up", m->caught_up);
    if (m->state != NULL) set_integer(L, "match", m->match);
    if (m->rtt_us != 0) set_seconds(L, "rtt", m->rtt_us);
    set_age(L, "contact", now_us, m->contact_us);
}

/* A leader that has removed itself leads until that is committed. */
static const char *role_name(const struct server_status *s)
{
    if (s->role == RAFT_LEADER) return "leader";
    if (s->removed) return "removed";
    return s->learner ? "learner" : s->role == RAFT_CANDIDATE ? "candidate" : "follower";
}

static const char *phase_name(enum server_phase phase)
{
    static const char *const names[] = {"starting", "running", "failed", "closed"};
    return names[phase];
}

static void set_engine_status(lua_State *L, const struct server_status *s, uint64_t now_us)
{
    set_text(L, "phase", phase_name(s->phase));
    set_text(L, "role", role_name(s));
    if (s->leader != 0) set_integer(L, "leader", s->leader);
    set_integer(L, "term", s->term);
    set_integer(L, "first", s->first);
    set_integer(L, "last", s->last);
    set_integer(L, "durable", s->durable);
    set_integer(L, "commit", s->commit);
    set_boolean(L, "ready", s->ready);
    set_boolean(L, "changing", s->changing);
    if (s->rejoining) set_boolean(L, "rejoining", true);
    if (s->transfer != 0) set_integer(L, "transfer", s->transfer);
    set_integer(L, "conf_index", s->conf_index);
    set_integer(L, "elections", s->elections);
    set_age(L, "leader_age", now_us, s->role == RAFT_LEADER ? now_us : s->leader_contact_us);
    set_integer(L, "log_bytes", s->log_bytes);
    set_integer(L, "log_segments", s->log_segments);
    set_integer(L, "snapshot_index", s->snapshot_index);
    set_seconds(L, "snapshot_time", s->snapshot_time_us);
    set_integer(L, "snapshot_bytes", s->snapshot_bytes);
    set_seconds(L, "sync", s->sync_us);
    set_seconds(L, "sync_p99", s->sync_p99_us);
    set_text(L, "disk", s->disk);
    set_boolean(L, "host_slow", s->host_slow);
    set_seconds(L, "host_lag", s->host_lag_us);
    if (s->disk_free != UINT64_MAX) set_integer(L, "disk_free", s->disk_free);
    if (s->fault != 0) set_text(L, "fault", err_name(s->fault));
    set_text(L, "fault_text", s->fault_text);
    lua_createtable(L, s->n_members, 0);
    for (uint8_t i = 0; i < s->n_members; i++) {
        push_member(L, &s->members[i], now_us);
        lua_seti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "members");
}

static int node_status(lua_State *L)
{
    struct lua_node *n = lua_node_check(L);
    uint64_t now_us = io_now(n->server->io);
    lua_createtable(L, 0, 28);
    set_engine_status(L, host_status(n->host), now_us);
    set_integer(L, "id", host_node(n->host));
    set_integer(L, "applied", host_applied(n->host));
    set_seconds(L, "applied_time", host_applied_time(n->host));
    set_integer(L, "pending", host_pending(n->host));
    set_integer(L, "sessions", host_sessions(n->host));
    set_boolean(L, "snapshotting", host_snapshotting(n->host));
    set_age(L, "uptime", now_us, n->born_us);
    return 1;
}

void lua_node_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"face", node_face},
        {"propose", lua_calls_propose}, {"client", lua_calls_client}, {"read", lua_calls_read},
        {"lease", lua_calls_lease},  {"barrier", lua_calls_barrier}, {"look", lua_calls_look},
        {"expire", lua_calls_expire},
        {"end_calls", lua_calls_end}, {"snapshot", node_snapshot},  {"cancel", node_cancel},
        {"ask", node_ask},           {"heard", node_heard},
        {"step", node_step},         {"flush", node_flush},
        {"stepping", node_stepping}, {"applying", node_applying},
        {"applied", node_applied},   {"id", node_id},               {"close", node_close_method},
        {"destroy", node_destroy},   {"status", node_status},       {"__gc", node_gc},
        {"__close", node_destroy},   {NULL, NULL},
    };
    luaL_newmetatable(L, NODE_CLASS);
    lua_pushvalue(L, -1);
    luaL_setfuncs(L, methods, 1);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushcfunction(L, node_new);
    lua_setfield(L, -2, "node");
    lua_pushcfunction(L, lua_calls_method);
    lua_setfield(L, -2, "method");
}
