/* One node of a Lua state: what the files share that bind it. lua_node.c: the machine and the node's life; lua_calls.c:
 * the calls that wait. */
#ifndef RAFT_LUA_LUA_NODE_H
#define RAFT_LUA_LUA_NODE_H

#include "lua/lua_grant.h"
#include "lua/lua_line.h"
#include "lua/lua_place.h"

#pragma GCC visibility push(hidden)

#define NODE_CLASS "raft.core.node"

/* The part of a status whose change is news. */
struct news {
    raft_term term;
    raft_id leader;
    enum raft_role role;
    enum server_phase phase;
    uint32_t connected; /* a bit a member */
    uint32_t objected;  /* likewise: one of the two will not have the other */
    int fault;
    bool ready, learner, removed, rejoining, host_slow;
    raft_index conf_index;
    const char *disk;
};

/* Reads and barriers of one kind. All that come while a round is under way share the next one. */
enum lua_round_kind { LUA_ROUND_READ, LUA_ROUND_LEASE, LUA_ROUND_BARRIER, LUA_ROUNDS };
struct lua_round {
    uint64_t number;               /* under way; 0: none is */
    struct lua_list running, next; /* calls */
};

/* The calls of a node that wait (lua_calls.c). */
struct lua_calls {
    struct lua_line *line;
    uint32_t *proposals; /* a ring: the call that waits for a sequence at sequence & mask, or LUA_CALL_NONE */
    size_t mask;
    uint64_t lowest, next; /* those that wait have sequences in lowest .. next - 1 */
    struct lua_round rounds[LUA_ROUNDS];
    size_t n;            /* of both */
    uint64_t due_us;     /* none is due before; NEVER_US: none waits */
};

/* Not in the userdata itself: should the state be closed in the middle of a step (os.exit in an apply), the threads
 * outlive it. */
struct lua_node {
    struct lua_node *next; /* of the same state */
    const void *face;      /* the table of node.lua that users know it by (lua_topointer); NULL: none yet */
    uint64_t timeout_us;   /* of calls that say nothing else; with face */
    struct lua_server *server;
    struct host *host;     /* the server's */
    lua_State *thread;     /* the machine's; anchored by the userdata, like the packer */
    struct lua_packer *packer, *packer2; /* two: keys and values, first and second results */
    uint32_t command_bytes;
    bool snapshot_apart;
    struct host_records *records; /* of the snapshot that is being loaded, during that call */
    struct lua_grant grant;       /* for what is loaded of that snapshot */
    uint64_t born_us;
    uint64_t stepped_us; /* when the last step began */
    raft_index slept_at; /* what had been applied when the state slept last */
    struct news news;
    struct lua_calls calls;
    bool tells_handed; /* there is a callback `handed` */
    bool stop_on_error;
    bool stepping, applying;
    bool joins;      /* it may have to ask for a place first, as long as that takes */
    bool started;    /* calls are accepted */
    bool closing;    /* or to be closed as soon as it has started */
    bool muted;      /* no callback any more */
    bool ended;      /* the engine's thread ends, or has ended */
};

/* The node that is argument 1 of a method of lua_node.c's class. Raises for anything else, and when it is destroyed. */
struct lua_node *lua_node_check(lua_State *L);
/* The node whose face is at index; NULL: there is none, or it is destroyed. Raises nothing: anything may be there. */
struct lua_node *lua_node_of_face(lua_State *L, const struct lua_line *line, int index);
/* Pushes its machine. Precondition: it is not in a step. */
void lua_node_push_machine(lua_State *L, struct lua_node *n);
/* Sleeps until the state is notified, ms are over (-1: never) or a signal comes, for the node at index, the only one of
 * its state: as long as it leads and has little to wait for, it runs its engine's loop meanwhile (uv_world_wait). Comes
 * back at once for one that has ended; raises for one that is destroyed. */
void lua_node_sleep(lua_State *L, int index, int ms);
/* nil, message, code: a call was refused, or ended so. */
int lua_node_fail(lua_State *L, int code, const char *text);
/* What refuses a call before the host is asked; OK when nothing does. */
int lua_node_refusal(const struct lua_node *n);
/* How a proposal or barrier has ended, for people; code is not OK. */
const char *lua_node_text(int code);

#pragma GCC visibility pop

#endif
