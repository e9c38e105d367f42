/* A cluster of the real server in the simulated world: each member is channel, engine, host and a small state
 * machine, and everything that it does is told to the checker. Actors are the engines (events of the world), their
 * lanes, and the hosts, which step when they are notified, late if the seed wants it so. */
#ifndef RAFT_SIM_SIM_CLUSTER_H
#define RAFT_SIM_SIM_CLUSTER_H

#include "server/engine.h"
#include "server/host.h"
#include "sim/sim_check.h"
#include "sim/sim_world.h"
#include "wire/frame.h"

#pragma GCC visibility push(hidden)

struct sim_cluster;

/* An open call of a member. */
struct sim_call {
    uint64_t sequence;
    uint64_t value;   /* 0 = a barrier */
    raft_index began; /* what was acknowledged when a barrier began */
};

struct sim_member {
    struct sim_cluster *cluster;
    int id;
    char dir[16];
    struct engine *engine; /* NULL = down */
    struct host *host;
    struct channel channel;
    struct sim_call *calls;
    size_t n_calls, calls_capacity;
    bool running; /* up and started */
    bool closing; /* sim_member_close was called */
    bool closed;  /* the host was told so: to be freed */
    bool planted; /* a disk failure was planted in this life: it may stop itself */
    bool faulted; /* it did */
    bool paused;  /* its host does not step */
};

/* Dials, drawn by the scenario. */
struct sim_cluster_config {
    uint64_t seed;
    int nodes; /* 1 .. SIM_NODES_MAX */
    uint64_t election_timeout_us, heartbeat_us;
    uint32_t pending, command_bytes, cache_bytes;
    uint64_t segment_bytes;
    uint32_t host_entries; /* most that a host applies in one step */
    struct sim_faults faults;
};

struct sim_cluster {
    struct sim_cluster_config config;
    struct sim_world *world;
    struct sim_check *check;
    struct frame_reader reader; /* of what members send */
    struct sim_member members[SIM_NODES_MAX]; /* member id at id - 1 */
    uint64_t next_value;
    uint64_t events, acknowledged, crashes, leaders;
    raft_term newest_term; /* that had a leader */
};

int sim_cluster_init(struct sim_cluster *c, const struct sim_cluster_config *config); /* ERR_NOMEM */
void sim_cluster_free(struct sim_cluster *c); /* drops nodes that are up as a crash does */
/* Runs the next event and checks the member that it touched. false: there is none, or a check has failed. */
bool sim_cluster_step(struct sim_cluster *c);

struct sim_member *sim_cluster_member(struct sim_cluster *c, int id);
void sim_member_start(struct sim_member *m);  /* precondition: down */
void sim_member_crash(struct sim_member *m);  /* a node that is down loses what its disk has not made durable */
void sim_member_close(struct sim_member *m);  /* asks for an orderly end; it is down some time later */
void sim_member_pause(struct sim_member *m, bool pause); /* the host alone: the engine goes on */

/* One proposal of a new value, at least 8 bytes; its end is told to the checker. ERR_CLOSED when it is not running,
 * else as host_propose: with an error it is refused for certain. */
int sim_member_propose(struct sim_member *m, uint32_t bytes);
int sim_member_barrier(struct sim_member *m);

#pragma GCC visibility pop

#endif
