/* Where the nodes of a Lua state live: in the real world (lua_real.c), or in a simulated one (lua_process.c), where the
 * whole state is one simulated process. lua_node.c is the same in both. */
#ifndef RAFT_LUA_LUA_PLACE_H
#define RAFT_LUA_LUA_PLACE_H

#include "lua/lua_room.h"
#include "server/engine.h"
#include "server/host.h"

#pragma GCC visibility push(hidden)

/* The server of one node. */
struct lua_server {
    const struct lua_place *place;
    struct io *io;
    struct engine *engine; /* NULL once it has ended and was joined */
    struct host *host;
};

struct lua_place {
    /* Makes what has to be older than a node's userdata, to be closed after it: the descriptor by which the host is
     * notified, if there is one. Raises when there can be no node. */
    int (*prepare)(lua_State *L);
    /* Builds the server; machine is copied and called with ctx. On failure *out is NULL. */
    int (*open)(const struct lua_place *place, int notify_fd, const struct engine_config *config,
                const struct host_config *host, const struct host_machine *machine, void *ctx, struct lua_server **out,
                struct err *e);
    /* Starts the engine. On failure the server is still to be freed. */
    int (*run)(struct lua_server *s, struct err *e);
    /* Sleeps as uv_world_wait does. NULL: nobody sleeps here. */
    void (*sleep)(struct lua_server *s, int ms, bool keeps);
    /* Waits until the host is notified. NULL: nobody can wait here, and a server that is freed early just dies. */
    void (*wait)(struct lua_server *s);
    /* After wait(), when the server has ended: what was taken may have been meant for other nodes of this state. */
    void (*waited)(struct lua_server *s);
    /* The engine has ended: gives back its memory and files at once. */
    void (*join)(struct lua_server *s);
    void (*free)(struct lua_server *s);
};

extern const struct lua_place lua_real;

/* The place of this state: lua_real, unless lua_place_set was called before raft.core was opened in it. */
const struct lua_place *lua_place_of(lua_State *L);
void lua_place_set(lua_State *L, const struct lua_place *place);

#pragma GCC visibility pop

#endif
