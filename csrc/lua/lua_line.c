#include "lua/lua_line.h"

#include "base/mem.h"

#define LINE_CLASS "raft.core.line"

/* Keys in the registry: the line; the set of coroutines that may wait. */
static const char line_key, ours_key;

static int line_gc(lua_State *L)
{
    struct lua_line *line = lua_touserdata(L, 1);
    mem_free(line->calls);
    line->calls = NULL;
    line->capacity = 0;
    line->free = LUA_CALL_NONE;
    line->ready = LUA_LIST_EMPTY;
    line->n_ready = 0;
    return 0;
}

struct lua_line *lua_line_of(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &line_key);
    struct lua_line *line = lua_touserdata(L, -1);
    lua_pop(L, 1);
    if (line != NULL) return line;
    line = lua_newuserdatauv(L, sizeof *line, 0);
    *line = (struct lua_line){.free = LUA_CALL_NONE, .ready = LUA_LIST_EMPTY};
    if (luaL_newmetatable(L, LINE_CLASS)) {
        lua_pushcfunction(L, line_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    lua_newtable(L);
    line->waiters = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &line_key);
    return line;
}

/* ---- lists ---- */

void lua_list_append(struct lua_line *line, struct lua_list *list, uint32_t call)
{
    line->calls[call].next = LUA_CALL_NONE;
    *(list->head == LUA_CALL_NONE ? &list->head : &line->calls[list->tail].next) = call;
    list->tail = call;
}

static void release(struct lua_line *line, uint32_t call)
{
    line->calls[call].next = line->free;
    line->free = call;
}

/* ---- calls ---- */

static void grow(lua_State *L, struct lua_line *line)
{
    size_t old = line->capacity;
    if (!mem_grow((void **)&line->calls, &line->capacity, old + 1, sizeof *line->calls))
        luaL_error(L, "not enough memory");
    for (size_t i = line->capacity; i-- > old;) {
        line->calls[i] = (struct lua_call){0};
        release(line, (uint32_t)i);
    }
}

/* co NULL: its place holds a table. */
static uint32_t take_free(struct lua_line *line, lua_State *co)
{
    uint32_t call = line->free;
    line->free = line->calls[call].next;
    line->calls[call] = (struct lua_call){.co = co, .kept = co == NULL, .next = LUA_CALL_NONE};
    return call;
}

static void push_waiters(lua_State *L, const struct lua_line *line)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, line->waiters);
}

/* Takes the coroutine co, on top of the stack, for its place in the table of waiters. */
static uint32_t open_parked(lua_State *L, struct lua_line *line, lua_State *co)
{
    if (line->free == LUA_CALL_NONE) grow(L, line);
    push_waiters(L, line);
    lua_insert(L, -2);
    lua_rawseti(L, -2, (lua_Integer)line->free + 1);
    lua_pop(L, 1);
    return take_free(line, co);
}

/* Another waiter, at index: in the table that stands in its place, with room for an answer. */
static uint32_t open_kept(lua_State *L, struct lua_line *line, int index)
{
    if (line->free == LUA_CALL_NONE) grow(L, line);
    lua_Integer place = (lua_Integer)line->free + 1;
    push_waiters(L, line);
    if (line->calls[line->free].kept) {
        lua_rawgeti(L, -1, place);
    } else {
        lua_createtable(L, 1 + LUA_ANSWER_MAX, 0);
        lua_pushvalue(L, -1);
        lua_rawseti(L, -3, place);
    }
    lua_pushvalue(L, index);
    lua_rawseti(L, -2, 1);
    lua_pop(L, 2);
    return take_free(line, NULL);
}

/* Is L in the table of waiters already, where the next call comes? So it is when it has just been answered, and calls
 * once more. */
static bool is_next(const lua_State *L, const struct lua_line *line)
{
    return line->free != LUA_CALL_NONE && line->calls[line->free].co == L;
}

uint32_t lua_call_open(lua_State *L, struct lua_line *line, int waiter)
{
    if (waiter != 0) return open_kept(L, line, waiter);
    if (is_next(L, line)) return take_free(line, L);
    lua_pushthread(L);
    return open_parked(L, line, L);
}

void lua_call_close(struct lua_line *line, uint32_t call)
{
    release(line, call); /* the waiter stays in the table until the place is used again */
}

static void line_up(struct lua_line *line, uint32_t call, int n)
{
    line->calls[call].n_values = (uint8_t)n;
    lua_list_append(line, &line->ready, call);
    line->n_ready++;
}

/* A coroutine that was closed while it waited gets nothing any more. */
void lua_call_answer(lua_State *L, struct lua_line *line, uint32_t call, int n)
{
    lua_State *co = line->calls[call].co;
    if (co == NULL) {
        int first = lua_gettop(L) - n + 1;
        push_waiters(L, line);
        lua_rawgeti(L, -1, (lua_Integer)call + 1);
        for (int i = 0; i < n; i++) {
            lua_pushvalue(L, first + i);
            lua_rawseti(L, -2, i + 2);
        }
        lua_settop(L, first - 1);
    } else if (lua_status(co) == LUA_YIELD && lua_checkstack(co, n)) {
        lua_xmove(L, co, n);
    } else {
        lua_pop(L, n);
        n = 0;
    }
    line_up(line, call, n);
}

bool lua_may_park(lua_State *L, const struct lua_line *line)
{
    if (line->inside > 0 || line->simulated || !lua_isyieldable(L)) return false;
    if (is_next(L, line)) return true;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &ours_key);
    lua_pushthread(L);
    bool ours = lua_rawget(L, -2) != LUA_TNIL;
    lua_pop(L, 2);
    return ours;
}

int lua_call_park(lua_State *L, struct lua_line *line)
{
    line->parked = L;
    return lua_yield(L, 0);
}

/* ---- running what is ready ---- */

enum { UP_LINE = 1, UP_WAITERS, UP_TELL, UP_FAILED, UP_TRACE }; /* upvalues of run */

/* Who is told that something was raised: by the coroutine at `at`; 0: by a callback. The error is on top. */
static void tell_failed(lua_State *L, int at)
{
    lua_pushvalue(L, lua_upvalueindex(UP_FAILED));
    lua_insert(L, -2);
    if (at != 0) lua_pushvalue(L, at);
    else lua_pushnil(L);
    lua_insert(L, -2);
    lua_call(L, 2, 0);
}

/* Has somebody closed it who has no more use for it? Else it waits, or its function lies below n values. */
static bool is_closed(lua_State *co, int n)
{
    return lua_status(co) != LUA_YIELD && (lua_status(co) != LUA_OK || lua_gettop(co) <= n);
}

/* Resumes the coroutine with the n values on its stack. It is at `at`, anchored by that. false: it has ended. */
static bool resume(lua_State *L, struct lua_line *line, int at, lua_State *co, int n)
{
    int n_results = 0;
    if (is_closed(co, n)) return false;
    line->parked = NULL;
    int status = lua_resume(co, L, n, &n_results);
    if (status == LUA_YIELD && line->parked == co) {
        if (n_results > 0) lua_pop(co, n_results);
        return true;
    }
    if (status == LUA_OK) return false;
    if (status == LUA_YIELD) lua_pushnil(L);
    else lua_xmove(co, L, 1);
    tell_failed(L, at);
    return false;
}

static void run_parked(lua_State *L, struct lua_line *line, int top, uint32_t id, const struct lua_call *call)
{
    lua_rawgeti(L, lua_upvalueindex(UP_WAITERS), (lua_Integer)id + 1);
    if (resume(L, line, top + 1, call->co, call->n_values) || line->free != id) return;
    line->calls[id].co = NULL; /* its place is still the coroutine's, which has ended */
    lua_pushboolean(L, 0);
    lua_rawseti(L, lua_upvalueindex(UP_WAITERS), (lua_Integer)id + 1);
}

/* Takes the n values of the table on top, which stays there, empty. */
static void take_kept(lua_State *L, int n)
{
    int table = lua_gettop(L);
    for (int i = 1; i <= n; i++) {
        lua_rawgeti(L, table, i);
        lua_pushboolean(L, 0);
        lua_rawseti(L, table, i);
    }
}

static void run_kept(lua_State *L, struct lua_line *line, int top, uint32_t id, int n)
{
    int handler = top + 1, waiter = top + 3;
    lua_pushvalue(L, lua_upvalueindex(UP_TRACE));
    lua_rawgeti(L, lua_upvalueindex(UP_WAITERS), (lua_Integer)id + 1);
    take_kept(L, 1 + n);
    lua_State *co = lua_tothread(L, waiter);
    if (lua_isfunction(L, waiter)) {
        if (lua_pcall(L, n, 0, handler) != LUA_OK) tell_failed(L, 0);
    } else if (co == NULL) {
        lua_pushvalue(L, lua_upvalueindex(UP_TELL));
        lua_insert(L, waiter);
        lua_call(L, 1 + n, 0);
    } else { /* it had not yielded yet when it was answered */
        if (!lua_checkstack(co, n)) n = 0;
        lua_xmove(L, co, n);
        resume(L, line, waiter, co, n);
    }
}

static void run_first(lua_State *L, struct lua_line *line, int top)
{
    uint32_t id = line->ready.head;
    struct lua_call call = line->calls[id];
    line->ready.head = call.next;
    line->n_ready--;
    release(line, id);
    if (call.co != NULL) run_parked(L, line, top, id, &call);
    else run_kept(L, line, top, id, call.n_values);
    lua_settop(L, top);
}

/* run(): all that are in line now */
static int l_run(lua_State *L)
{
    struct lua_line *line = lua_touserdata(L, lua_upvalueindex(UP_LINE));
    int top = lua_gettop(L);
    for (uint32_t n = line->n_ready; n > 0 && line->n_ready > 0; n--) run_first(L, line, top);
    return 0;
}

/* ---- what loop.lua is given ---- */

static struct lua_line *upvalue_line(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* push(waiter, a, b, c): in line with these values, of which trailing nils beyond the first are left out */
static int l_push(lua_State *L)
{
    struct lua_line *line = upvalue_line(L);
    lua_settop(L, 4);
    int n = !lua_isnil(L, 4) ? 3 : !lua_isnil(L, 3) ? 2 : 1;
    lua_State *co = lua_tothread(L, 1);
    bool parked = co != NULL && lua_status(co) == LUA_YIELD;
    if (parked) lua_pushvalue(L, 1);
    uint32_t call = parked ? open_parked(L, line, co) : lua_call_open(L, line, 1);
    lua_settop(L, 1 + n);
    lua_call_answer(L, line, call, n);
    return 0;
}

/* ready() -> how many are in line */
static int l_ready(lua_State *L)
{
    lua_pushinteger(L, upvalue_line(L)->n_ready);
    return 1;
}

/* may_park() -> can the running coroutine wait for us, here? */
static int l_may_park(lua_State *L)
{
    lua_pushboolean(L, lua_may_park(L, upvalue_line(L)));
    return 1;
}

static int l_park(lua_State *L)
{
    lua_settop(L, 0);
    return lua_call_park(L, upvalue_line(L));
}

static int l_inside(lua_State *L)
{
    lua_pushboolean(L, upvalue_line(L)->inside > 0);
    return 1;
}

/* hold(on): from now on */
static int l_hold(lua_State *L)
{
    upvalue_line(L)->held = lua_toboolean(L, 1);
    return 0;
}

static int l_simulated(lua_State *L)
{
    struct lua_line *line = upvalue_line(L);
    bool was = line->simulated;
    if (!lua_isnone(L, 1)) line->simulated = lua_toboolean(L, 1);
    lua_pushboolean(L, was);
    return 1;
}

/* line(ours, tell, failed, trace) -> functions. ours: a table that has the coroutines that may wait; tell(waiter, ...):
 * tells any waiter that is no function; failed(co, error): a coroutine has raised, or (error nil) yielded by itself, or
 * (co nil) a callback has raised; trace: the message handler of callbacks. */
static int l_line(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"push", l_push}, {"ready", l_ready}, {"park", l_park}, {"inside", l_inside}, {"hold", l_hold},
        {"simulated", l_simulated}, {"may_park", l_may_park}, {NULL, NULL},
    };
    lua_settop(L, 4);
    struct lua_line *line = lua_line_of(L);
    lua_createtable(L, 0, 8);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &line_key);
    luaL_setfuncs(L, functions, 1);
    lua_pushvalue(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &ours_key);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &line_key);
    push_waiters(L, line);
    for (int i = 2; i <= 4; i++) lua_pushvalue(L, i);
    lua_pushcclosure(L, l_run, 5);
    lua_setfield(L, -2, "run");
    return 1;
}

void lua_line_open(lua_State *L)
{
    lua_pushcfunction(L, l_line);
    lua_setfield(L, -2, "line");
}
