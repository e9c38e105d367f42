#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lua/lua_node.h"

/* One descriptor a Lua state: engines and the signal handler write to it, core.poll waits for it. */

#define LOOP_CLASS "raft.core.loop" /* also the key in the registry */

struct loop {
    int fd;
};

/* ---- signals ---- */

static const int numbers[] = {SIGINT, SIGTERM};
static struct sigaction before[COUNT_OF(numbers)]; /* the handlers that ours took the place of */
static atomic_int signal_fd = -1;                  /* of the state that catches signals; -1: none does */
static atomic_int caught;                          /* the number of a signal nobody has taken yet; 0: none */

/* Only calls that are safe in a handler; lock-free atomics are. */
static void on_signal(int number)
{
    int saved = errno, none = 0;
    uint64_t one = 1;
    if (atomic_compare_exchange_strong(&caught, &none, number)) {
        /* A full counter (EAGAIN) is readable already. Nothing else can be done here about a failure. */
        ssize_t wrote = write(atomic_load(&signal_fd), &one, sizeof one);
        (void)wrote;
    } else {
        /* The first one was not heard: what is running does not come back to the loop. */
        signal(number, SIG_DFL);
        raise(number);
    }
    errno = saved;
}

static void signals_on(lua_State *L, int fd)
{
    int none = -1;
    if (!atomic_compare_exchange_strong(&signal_fd, &none, fd)) {
        if (none != fd) luaL_error(L, "another Lua state of this process catches signals already");
        return;
    }
    atomic_store(&caught, 0);
    struct sigaction ours = {.sa_handler = on_signal,
                             .sa_flags = SA_RESTART}; /* poll() returns all the same */
    sigemptyset(&ours.sa_mask);
    for (size_t i = 0; i < COUNT_OF(numbers); i++) sigaction(numbers[i], &ours, &before[i]);
}

static void signals_off(int fd)
{
    if (atomic_load(&signal_fd) != fd) return;
    for (size_t i = 0; i < COUNT_OF(numbers); i++) sigaction(numbers[i], &before[i], NULL);
    atomic_store(&signal_fd, -1);
}

/* ---- the descriptor ---- */

static int loop_gc(lua_State *L)
{
    struct loop *loop = lua_touserdata(L, 1);
    if (loop->fd < 0) return 0;
    signals_off(loop->fd);
    close(loop->fd);
    loop->fd = -1;
    return 0;
}

int lua_loop_notify_fd(lua_State *L)
{
    if (lua_getfield(L, LUA_REGISTRYINDEX, LOOP_CLASS ".fd") != LUA_TNIL) {
        int fd = ((struct loop *)lua_touserdata(L, -1))->fd;
        lua_pop(L, 1);
        return fd;
    }
    lua_pop(L, 1);
    struct loop *loop = lua_newuserdatauv(L, sizeof *loop, 0);
    loop->fd = -1;
    if (luaL_newmetatable(L, LOOP_CLASS)) {
        lua_pushcfunction(L, loop_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    loop->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->fd < 0) luaL_error(L, "cannot make an eventfd: %s", strerror(errno));
    lua_setfield(L, LUA_REGISTRYINDEX, LOOP_CLASS ".fd");
    return loop->fd;
}

static int l_fd(lua_State *L)
{
    lua_pushinteger(L, lua_loop_notify_fd(L));
    return 1;
}

static int timeout_ms(lua_State *L, int index)
{
    if (lua_isnoneornil(L, index)) return -1;
    lua_Number seconds = luaL_checknumber(L, index);
    luaL_argcheck(L, seconds >= 0, index, "a timeout cannot be negative");
    return seconds >= 1e6 ? 1000000000 : (int)ceil(seconds * 1000); /* never back before its time */
}

/* poll([seconds [, node]]) -> was the descriptor readable? Comes back early, with false, when a signal interrupts it: a
 * handler set by the interpreter gets its turn. */
static int l_poll(lua_State *L)
{
    int fd = lua_loop_notify_fd(L), ms = timeout_ms(L, 1);
    struct pollfd waits = {.fd = fd, .events = POLLIN};
    if (lua_toboolean(L, 2)) lua_node_sleep(L, 2, ms);
    else if (ms != 0) poll(&waits, 1, ms);
    uint64_t count;
    lua_pushboolean(L, read(fd, &count, sizeof count) > 0);
    return 1;
}

static int l_now(lua_State *L)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    lua_pushnumber(L, (lua_Number)t.tv_sec + (lua_Number)t.tv_nsec * 1e-9);
    return 1;
}

static int l_signals(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TBOOLEAN);
    int fd = lua_loop_notify_fd(L);
    if (lua_toboolean(L, 1)) signals_on(L, fd);
    else signals_off(fd);
    return 0;
}

static int l_signal(lua_State *L)
{
    int number = atomic_exchange(&caught, 0);
    if (number == 0) lua_pushnil(L);
    else lua_pushstring(L, number == SIGINT ? "SIGINT" : "SIGTERM");
    return 1;
}

static int l_free_address(lua_State *L)
{
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof where;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool found = fd >= 0 && bind(fd, (struct sockaddr *)&where, size) == 0 &&
                 getsockname(fd, (struct sockaddr *)&where, &size) == 0;
    if (fd >= 0) close(fd);
    if (!found) return luaL_error(L, "cannot find a free port: %s", strerror(errno));
    lua_pushfstring(L, "127.0.0.1:%d", (int)ntohs(where.sin_port));
    return 1;
}

void lua_loop_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"fd", l_fd},           {"poll", l_poll},     {"now", l_now},
        {"signals", l_signals}, {"signal", l_signal}, {"free_address", l_free_address},
        {NULL, NULL},
    };
    luaL_setfuncs(L, functions, 0);
}
