/* luaopen_raft_core: the one symbol of the module that is seen from outside. */
#include <dlfcn.h>

#include "lua/lua_room.h"

#define VERSION "0.1.0"

/* Keeps the module in memory until the process ends: a closing Lua state unloads its modules, and a thread of a node
 * or a signal handler must never find its code gone. */
static void pin(lua_State *L)
{
    static const char here; /* an address inside the module */
    Dl_info info;
    if (dladdr(&here, &info) == 0 || dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE) == NULL)
        luaL_error(L, "raft.core cannot pin itself in memory: %s", dlerror());
}

int luaopen_raft_core(lua_State *L)
{
    luaL_checkversion(L);
    pin(L);
    lua_newtable(L);
    lua_pushliteral(L, VERSION);
    lua_setfield(L, -2, "version");
    lua_line_open(L);
    lua_loop_open(L);
    lua_pack_open(L);
    lua_node_open(L);
    lua_raft_open(L);
    lua_store_open(L);
    lua_inspect_open(L);
    lua_images_open(L);
    lua_starve_open(L);
    lua_wire_open(L);
    lua_server_open(L);
    lua_sim_open(L);
    lua_sim_world_open(L);
    lua_check_open(L);
    lua_simulation_open(L);
    lua_uv_open(L);
    return 1;
}
