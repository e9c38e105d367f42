/* The real world as the place of a node: one uv world each, whose threads wake the state through its descriptor. */
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>

#include "base/mem.h"
#include "lua/lua_place.h"
#include "uv/uv_world.h"

struct real_server {
    struct lua_server server;
    struct uv_world *world;
    struct channel channel;
    bool channel_made;
    int notify_fd;
};

static struct real_server *real_of(struct lua_server *s)
{
    return CONTAINER_OF(s, struct real_server, server);
}

static void real_free(struct lua_server *s)
{
    struct real_server *real = real_of(s);
    host_free(s->host);
    engine_free(s->engine);
    if (real->channel_made) channel_free(&real->channel);
    uv_world_free(real->world);
    mem_free(real);
}

static int real_open(const struct lua_place *place, int notify_fd, const struct engine_config *config,
                     const struct host_config *host, const struct host_machine *machine, void *ctx,
                     struct lua_server **out, struct err *e)
{
    *out = NULL;
    struct real_server *real = mem_zero(1, sizeof *real);
    if (real == NULL) return err_set(e, ERR_NOMEM, "out of memory for a node");
    struct lua_server *s = &real->server;
    s->place = place;
    real->notify_fd = notify_fd;
    if (uv_world_new(&real->world, notify_fd, e) != OK) {
        real_free(s);
        return e->code;
    }
    s->io = uv_world_io(real->world);
    real->channel_made = channel_init(&real->channel, s->io, config->pending) == OK;
    if (real->channel_made) s->engine = engine_new(config, &real->channel);
    if (s->engine != NULL) s->host = host_new(&real->channel, machine, ctx, host);
    if (s->host == NULL) {
        real_free(s);
        return err_set(e, ERR_NOMEM, "out of memory for a node");
    }
    *out = s;
    return OK;
}

static int engine_main(void *engine)
{
    return engine_start(engine);
}

static int real_run(struct lua_server *s, struct err *e)
{
    return uv_world_run(real_of(s)->world, engine_main, s->engine, e);
}

static void real_sleep(struct lua_server *s, int ms, bool keeps)
{
    uv_world_wait(real_of(s)->world, ms, keeps);
}

static void real_wait(struct lua_server *s)
{
    struct pollfd p = {.fd = real_of(s)->notify_fd, .events = POLLIN};
    eventfd_t count;
    while (poll(&p, 1, -1) < 0 && errno == EINTR) continue;
    eventfd_read(p.fd, &count);
}

static void real_waited(struct lua_server *s)
{
    eventfd_write(real_of(s)->notify_fd, 1);
}

static void real_join(struct lua_server *s)
{
    uv_world_join(real_of(s)->world);
    engine_free(s->engine);
    s->engine = NULL;
}

const struct lua_place lua_real = {
    .prepare = lua_loop_notify_fd, .open = real_open, .run = real_run, .sleep = real_sleep, .wait = real_wait,
    .waited = real_waited, .join = real_join, .free = real_free,
};

/* ---- which place a state is in ---- */

static const char place_key; /* its address is the key in the registry */

const struct lua_place *lua_place_of(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &place_key);
    const struct lua_place *place = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return place != NULL ? place : &lua_real;
}

void lua_place_set(lua_State *L, const struct lua_place *place)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t)place);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &place_key);
}
