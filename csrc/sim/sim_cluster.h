/* A cluster of the real server in the simulated world. Each member is a process: channel, engine, host, and a program
 * above them - a small state machine in C (sim_machine.h), or a Lua state with a user's machine. Everything that it
 * does is told to the checker. Actors are the engines (events of the world), their lanes, and the hosts, which step
 * when they are notified or have asked for it, late if the seed wants it so. */
#ifndef RAFT_SIM_SIM_CLUSTER_H
#define RAFT_SIM_SIM_CLUSTER_H

#include "server/engine.h"
#include "server/host.h"
#include "sim/sim_check.h"
#include "sim/sim_world.h"
#include "wire/frame.h"

#pragma GCC visibility push(hidden)

struct sim_cluster;
struct sim_member;

/* What the host thread of a member runs. */
struct sim_program {
    /* A new process starts. Before this returns it has called sim_member_open and sim_member_run, or has told the
     * checker why it cannot. */
    void (*start)(struct sim_member *m);
    /* The host's turn: host_step and what follows from it. How many us from now the next one is due, unless the host
     * is notified before; 0: as soon as it can be, NEVER_US: not. */
    uint64_t (*turn)(struct sim_member *m);
    /* Asks for an orderly end: host_close, or what leads to it. Precondition: it is running. */
    void (*close)(struct sim_member *m);
    /* The process is gone, after a crash or in good order: calls sim_member_free if sim_member_open was called. */
    void (*end)(struct sim_member *m);
    /* NULL, or what watches the machine that was given to sim_member_open: called before each apply. */
    void (*change)(struct sim_member *m); /* NULL, or asks for a change of the members, whichever it likes */
    void (*applying)(struct sim_member *m, const struct entry *command, uint64_t time_us, uint64_t sequence);
};

/* An open call of the machine in C. */
struct sim_call {
    uint64_t sequence;
    uint64_t value;   /* 0 = a barrier, a read, a transfer, a change of members, a visitor that wants a session */
    bool changes;     /* that */
    raft_index began; /* what was acknowledged when a barrier or a read began */
    void (*told)(void *ctx, uint64_t value, int code, raft_index index); /* of a visitor (sim_visit); else NULL */
    void *ctx;
};

struct sim_member {
    struct sim_cluster *cluster;
    int id;
    char dir[16];
    struct io *io;         /* of its present life */
    void *process;         /* the program's */
    struct engine *engine; /* NULL = down */
    struct host *host;
    struct channel channel;
    struct host_machine machine; /* what the program gave to sim_member_open */
    void *machine_ctx;
    struct sim_call *calls; /* of the machine in C */
    size_t n_calls, calls_capacity;
    struct sim_state loaded; /* by the machine in C, from a snapshot that is being restored */
    uint64_t to_load;        /* records of that, not loaded yet */
    raft_index replaced;     /* the last command in a snapshot that has taken the place of the log; 0: in none since the
                                start */
    raft_id raft_id; /* of its present directory; 0 = it has none yet, and asks for a place */
    bool joins;      /* it is not added by its id, but asks for a place; once it is out it is another one */
    uint64_t turn_us; /* when the next turn is planned; NEVER_US: it is not */
    uint64_t lives;   /* processes so far */
    bool up;      /* there is a process */
    bool running; /* up and started */
    bool closing; /* sim_member_close was called */
    bool closed;  /* the host was told so: the process is to end */
    bool crashed; /* it ends by a crash */
    bool planted; /* a disk failure was planted in this life: it may stop itself */
    bool faulted; /* it did */
    bool paused;  /* its host does not step */
    bool rejoins; /* it is started with the word to have a lost directory made anew */
};

/* Dials, drawn by the scenario. */
struct sim_cluster_config {
    uint64_t seed;
    int nodes; /* 1 .. SIM_NODES_MAX */
    int first; /* nodes 1 .. first are the first members; 0 = all */
    uint64_t election_timeout_us, heartbeat_us;
    uint32_t pending, command_bytes, cache_bytes;
    uint64_t segment_bytes;
    uint64_t snapshot_bytes, snapshot_entries, keep; /* as host_config and engine_config have them */
    struct client_limits clients; /* of visitors; 0, 0: there are none */
    bool lease; /* reads may rest on leases: clocks are as good as they ask for */
    uint32_t state_bytes; /* by which the machine in C makes its snapshots larger, so that they travel in pieces */
    uint32_t host_entries; /* most that a host applies in one step */
    struct sim_faults faults;
    const struct sim_program *program;
    struct sim_trace *trace; /* where to record what happens; NULL: nowhere */
};

struct sim_cluster {
    struct sim_cluster_config config;
    struct sim_world *world;
    struct sim_check *check;
    struct sim_watch *watch;
    struct frame_reader reader; /* of what members send */
    struct sim_member members[SIM_NODES_MAX]; /* member id at id - 1 */
    uint64_t next_value;
    uint64_t events, acknowledged, crashes, leaders, snapshots, restores, changes;
    uint64_t repeats, ended; /* visitors told what a first try came to; that their session has ended or gone on */
    raft_term newest_term; /* that had a leader */
};

int sim_cluster_init(struct sim_cluster *c, const struct sim_cluster_config *config); /* ERR_NOMEM */
void sim_cluster_free(struct sim_cluster *c); /* drops nodes that are up as a crash does */
/* Runs the next event and checks the member that it touched. false: there is none, or a check has failed. */
bool sim_cluster_step(struct sim_cluster *c);

struct sim_member *sim_cluster_member(struct sim_cluster *c, int id);
void sim_member_address(int id, char out[32]); /* where a member listens */
void sim_member_start(struct sim_member *m);  /* precondition: down */
void sim_member_crash(struct sim_member *m);  /* a node that is down loses what its disk has not made durable */
void sim_member_close(struct sim_member *m);  /* asks for an orderly end; it is down some time later */
void sim_member_pause(struct sim_member *m, bool pause); /* the host alone: the engine goes on */
/* The program has something to do: its turn comes within us, or when the host is notified. */
void sim_member_wake(struct sim_member *m, uint64_t us);

/* ---- for programs ---- */

/* Builds channel, engine and host; the world tells this member's host to take its turn. machine is copied, and
 * called with ctx. config->dir and ->members are whatever the program chose. */
void sim_member_open(struct sim_member *m, const struct engine_config *config, const struct host_config *host,
                     const struct host_machine *machine, void *ctx);
/* Starts the engine; as engine_start. */
int sim_member_run(struct sim_member *m);
/* Frees what sim_member_open built, as the way in which the process ended demands. */
void sim_member_free(struct sim_member *m);

#pragma GCC visibility pop

#endif
