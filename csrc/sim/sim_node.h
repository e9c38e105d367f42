/* One simulated node, as far as it is not network: its process (an engine that is told events, a host that is woken,
 * lanes that run jobs), its clocks, and the disk under it. */
#ifndef RAFT_SIM_SIM_NODE_H
#define RAFT_SIM_SIM_NODE_H

#include "sim/sim_clock.h"
#include "sim/sim_disk.h"

#pragma GCC visibility push(hidden)

/* Jobs of one lane: waiting (the first of them runs while `running`), then finished but not told yet. */
struct sim_lane {
    struct io_job *waiting, **waiting_end;
    struct io_job *finished, **finished_end;
    bool running;
    uint64_t stamp;     /* of the event that ends what runs: an older one is void */
    uint64_t told_us;   /* when the last finished job is told: the next one not before */
};

struct sim_node {
    struct io io; /* first: an io is its node */
    struct sim_queue *queue;
    struct sim_net *net;
    const struct sim_faults *faults;
    uint8_t number;
    bool stopped, waking, notifying, turning, paused, stalled;
    uint64_t life;
    struct sim_clock clock;
    int64_t wall_us;   /* what its wall clock is off the world's */
    uint64_t alarm;    /* number of the newest alarm: older ones are void */
    uint64_t alarm_us; /* on its clock; NEVER_US = off */
    uint64_t slow_us;  /* what its disk takes longer for a job, at most */
    void (*notify)(void *ctx);
    void *notify_ctx;
    struct sim_lane lanes[IO_LANES];
    struct sim_disk disk;
    struct sim_event *kept; /* that have come while it was paused, in order */
    size_t n_kept, kept_capacity;
};

void sim_node_init(struct sim_node *node, uint8_t number, struct sim_queue *q, struct sim_net *net,
                   const struct sim_faults *faults);
void sim_node_free(struct sim_node *node); /* precondition: nothing is kept */
static inline struct sim_node *sim_node_of(struct io *io) { return (struct sim_node *)io; }

/* Runs one of its events, SIM_ALARM .. SIM_DONE. */
void sim_node_event(struct sim_node *node, const struct sim_event *event);
/* Of an earlier life, of an alarm that was set anew, of a job that was begun anew, or of an engine that has stopped:
 * such an event never happens. */
bool sim_node_is_void(const struct sim_node *node, const struct sim_event *event);
/* Keeps an event for later: precondition: it is paused. */
void sim_node_keep(struct sim_node *node, const struct sim_event *event);
/* To be called after each event told to an engine: its turn() follows, now or a little later. */
void sim_node_turn(struct sim_node *node);

/* The parts of struct io that are neither file nor link; their contracts are in base/io.h. */
uint64_t sim_node_now(struct io *io);
uint64_t sim_node_due(struct io *io, uint64_t after_us);
uint64_t sim_node_wall(struct io *io);
uint64_t sim_node_random(struct io *io);
void sim_node_alarm(struct io *io, uint64_t at_us);
void sim_node_wake(struct io *io);
void sim_node_notify(struct io *io);
void sim_node_submit(struct io *io, enum io_lane lane, struct io_job *job);
bool sim_node_idle(const struct sim_node *node); /* no job is submitted */

/* See sim_world_pause, sim_world_stall_disk, sim_world_set_clock, sim_world_jump_clock. */
void sim_node_pause(struct sim_node *node, bool pause);
void sim_node_stall(struct sim_node *node, bool stall);
void sim_node_set_clock(struct sim_node *node, uint64_t rate);
void sim_node_jump_clock(struct sim_node *node, uint64_t us);

/* The jobs that run now may get anywhere; they and all that wait are handed to lost() in order, unless it is NULL. */
void sim_node_kill_lanes(struct sim_node *node, void (*lost)(struct io_job *job));
/* Whatever was to come for this process never happens. */
void sim_node_end_life(struct sim_node *node);

#pragma GCC visibility pop

#endif
