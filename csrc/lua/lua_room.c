#include "lua/lua_room.h"

int lua_room_fail(lua_State *L, const struct err *e)
{
    ASSERT(e->code != OK);
    lua_pushnil(L);
    lua_pushstring(L, e->text);
    lua_pushstring(L, err_name(e->code));
    return 3;
}
