/* The C module raft.core, the only room that knows Lua. One file a subject; each adds its functions and classes to the
 * module's table, which is on top of the stack when it is called and stays there. */
#ifndef RAFT_LUA_LUA_ROOM_H
#define RAFT_LUA_LUA_ROOM_H

#include <lauxlib.h>
#include <lua.h>

#include "base/base.h"
#include "base/err.h"

#pragma GCC visibility push(hidden)

__attribute__((visibility("default"))) int luaopen_raft_core(lua_State *L); /* module.c */

void lua_line_open(lua_State *L);  /* lua_line.c: core.line, who waits and who is ready */
void lua_loop_open(lua_State *L);  /* lua_loop.c: the pollable descriptor, clocks, signals */
void lua_node_open(lua_State *L);  /* lua_node.c: core.node, one node of a cluster */
void lua_pack_open(lua_State *L);  /* lua_pack.c: pack and unpack, table */
void lua_raft_open(lua_State *L);  /* lua_raft.c: core.raft, the pure consensus core, for specs and own transports */
void lua_images_open(lua_State *L); /* lua_images.c: core.images, crashes and rot of a log in memory, for specs */
void lua_starve_open(lua_State *L); /* lua_starve.c: core.starve, a Lua state whose memory runs out, for specs */
void lua_store_open(lua_State *L); /* lua_store.c: core.log, the durable log on a simulated disk, for specs */
void lua_inspect_open(lua_State *L); /* lua_inspect.c: core.inspect, a directory at rest, for tools */
void lua_server_open(lua_State *L); /* lua_server.c: core.sessions, for specs */
void lua_wire_open(lua_State *L);  /* lua_wire.c: core.wire, entries and frames, for specs */
void lua_sim_open(lua_State *L);   /* lua_sim.c: core.sim, a simulated cluster */
void lua_sim_world_open(lua_State *L); /* lua_sim_world.c: core.sim_world, its world without nodes, for specs */
void lua_check_open(lua_State *L); /* lua_check.c: core.sim_check, what judges simulated clusters, for specs */
void lua_simulation_open(lua_State *L); /* lua_simulation.c: core.simulation, below raft.sim */
void lua_uv_open(lua_State *L);    /* lua_uv.c: core.world, the real world's io, for specs */

/* lua_pack.c, for lua_node.c: packing without a Lua string in between. */
struct lua_packer; /* a userdata-backed buffer, reused from call to call */
struct lua_packer *lua_packer_new(lua_State *L);   /* pushes the userdata that owns it */
/* The packed bytes of the value at index: valid until the next call on p. Raises as said above. Precondition, also of
 * the next one: a few free slots on the stack, as every C function has them. */
const uint8_t *lua_packer_pack(lua_State *L, struct lua_packer *p, int index, const char *what, size_t *size);
/* A string is packed as a head, which this writes (its size is returned), and its bytes. Less than 1 GiB. */
#define LUA_STRING_HEAD_MAX 5
size_t lua_pack_string_head(uint8_t *head, size_t size);
/* Pushes the value packed in data; false (and pushes a message instead) when data is no packed value. Raises only for
 * lack of memory. */
bool lua_unpack_value(lua_State *L, const uint8_t *data, size_t size);

/* lua_loop.c, for lua_node.c: the eventfd of this Lua state that wakes its host. Created on first use; raises if it
 * cannot be. */
int lua_loop_notify_fd(lua_State *L);

/* lua_store.c: the world of the core.disk at index; raises for anything else. */
struct io *lua_store_io(lua_State *L, int index);

/* Seconds, as many as there may be, in us. */
static inline uint64_t lua_seconds(lua_Number seconds)
{
    return (uint64_t)(MIN(seconds, 1e12) * (lua_Number)US_PER_S);
}

/* Pushes nil, e->text, err_name(e->code); returns 3. */
int lua_room_fail(lua_State *L, const struct err *e);

#pragma GCC visibility pop

#endif
