/* The simulated world: struct io for several nodes by one seed - one clock, one network, a disk a node - in one
 * thread.
 *
 * Everything that happens is an event in one queue ordered by simulated time (ties by order of creation): a frame
 * arrives, a job of a lane runs, a job is done, an alarm rings, a host wakes. sim_world_step runs the next one.
 * Delays, losses and what a crash leaves on a disk are drawn from the seed: the same seed and the same calls give the
 * same run, bit for bit, whatever compiled it.
 *
 * Disk. io_write makes its bytes durable when the job that calls it runs, at some time after it was submitted; a
 * crash before that may run the job part of the way, and then tears its write (a beginning cut at a byte, or any subset
 * of its sectors), makes it whole, or loses it. Of what the lanes have in flight any subset survives. A create, rename
 * or remove without sync_dir may be kept or lost, in order or not.
 *
 * Network. Links are streams, but faults are drawn a frame at a time: a frame may be lost, doubled or delayed past
 * later ones (as reconnecting would do to a real stream), a link may break in mid-frame or end at one end alone, a pair
 * of nodes may be cut apart or slowed down in one direction or both.
 *
 * Clocks. Each node has a monotonic clock and a wall clock of its own. */
#ifndef RAFT_SIM_SIM_WORLD_H
#define RAFT_SIM_SIM_WORLD_H

#include "base/io.h"
#include "base/prng.h"
#include "sim/sim_faults.h"

#pragma GCC visibility push(hidden)

struct sim_trace;
struct sim_world;

struct sim_world *sim_world_new(uint64_t seed, const struct sim_faults *faults); /* NULL: no memory */
void sim_world_free(struct sim_world *w);
void sim_world_set_faults(struct sim_world *w, const struct sim_faults *faults);
struct prng *sim_world_prng(struct sim_world *w); /* the one source of chance */
uint64_t sim_world_now(const struct sim_world *w);
/* Folds every event so far: equal for equal runs. */
uint64_t sim_world_hash(const struct sim_world *w);

/* The io of node 1 .. SIM_NODES_MAX, for a new life of it. It keeps its disk over lives. notify is called (as an
 * event of its own, a little later) when the engine calls io_notify. */
struct io *sim_world_io(struct sim_world *w, int node, void (*notify)(void *ctx), void *ctx);
/* Calls sent() with everything that a node hands to io_send, before the network does its worst. */
void sim_world_observe(struct sim_world *w, void (*sent)(void *ctx, int node, const struct buf *bytes), void *ctx);
/* Records in trace what happens from now on: lives, links, disks, faults. NULL: nothing. It stays the caller's. */
void sim_world_set_trace(struct sim_world *w, struct sim_trace *trace);
/* Records in trace what happens from now on: lives, links, disks, faults. NULL: nothing. It stays the caller's. */
void sim_world_set_trace(struct sim_world *w, struct sim_trace *trace);
/* Runs the next event, moving the clock to it. false: there is none. */
bool sim_world_step(struct sim_world *w);
/* The node whose engine, lane or host the last step ran; 0 = none of them (a call of sim_world_after). */
int sim_world_touched(const struct sim_world *w);
/* Runs all events up to now + us and moves the clock there. */
void sim_world_run(struct sim_world *w, uint64_t us);
/* Calls fn(ctx) as an event at now + us. */
void sim_world_after(struct sim_world *w, uint64_t us, void (*fn)(void *ctx), void *ctx);

/* The process of this node dies now: its links break at the other ends, its queued jobs, alarms and events vanish (a
 * write in flight may reach the disk in part), its lock is released. The caller then drops engine and host without
 * any call to io. The node's io is usable again at once (for a restart). Memory of jobs in flight is handed to
 * lost(job) in order, so that their owner can be freed by whoever knows them; it may be NULL. */
void sim_world_crash(struct sim_world *w, int node, void (*lost)(struct io_job *job));
/* Has io_stop been called since the last start? */
bool sim_world_stopped(const struct sim_world *w, int node);
/* The engine of this process is told nothing until it goes on, then everything at once; its clocks go on, its system
 * answers for it, its jobs run. A crash ends it. */
void sim_world_pause(struct sim_world *w, int node, bool pause);

/* Cuts frames and connections from a to b (one way). */
void sim_world_cut(struct sim_world *w, int from, int to, bool cut);
/* From a to b all takes up to slow_us longer, and a link carries byte_rate bytes a second. 0, 0: as fast as any. */
void sim_world_slow_link(struct sim_world *w, int from, int to, uint64_t slow_us, uint64_t byte_rate);
/* The links between two nodes break, at both ends. */
void sim_world_reset(struct sim_world *w, int a, int b);

/* The monotonic clock of this node gains `rate` us in a second from now on: 1000000 is true, 0 stands still, at most
 * 4000000. */
void sim_world_set_clock(struct sim_world *w, int node, uint64_t rate);
void sim_world_jump_clock(struct sim_world *w, int node, uint64_t us); /* forward: it never falls */
void sim_world_jump_wall(struct sim_world *w, int node, int64_t us);

/* The disk of this node makes no progress (durable writes do not finish) until told otherwise; what it is about then is
 * begun anew. */
void sim_world_stall_disk(struct sim_world *w, int node, bool stall);
/* Each job of its lanes takes up to us longer. 0: no longer. */
void sim_world_slow_disk(struct sim_world *w, int node, uint64_t us);
/* No room for new or growing files on this node's disk. */
void sim_world_fill_disk(struct sim_world *w, int node, bool full);
/* The n-th file operation from now on (of those that touch the disk) fails with code, once; 0: none. */
void sim_world_fail_file(struct sim_world *w, int node, uint64_t n, int code);
/* From the n-th file operation from now on (1 = the next) the process is as good as dead: that one may take effect in
 * part, it and all later ones answer ERR_IO, until sim_world_crash. 0: turned off. */
void sim_world_die(struct sim_world *w, int node, uint64_t n);
/* File operations of this node so far. */
uint64_t sim_world_file_ops(const struct sim_world *w, int node);

/* Old bytes on this node's disk change: a bit, or up to a sector of noise. Old is what a later write of the same file
 * stands behind, and all of a file that was written but once: the newest write of a log cannot be told from a torn one
 * (see store.h). The path of the file, valid until the disk changes, and the first offset in it; NULL: nothing was
 * found to damage. */
const char *sim_world_rot(struct sim_world *w, int node, uint64_t *at);
/* What is on the disk of a node, durable bytes only: for specs that damage or copy it. NULL data: no such file. */
const uint8_t *sim_world_file(struct sim_world *w, int node, const char *path, size_t *size);
/* Calls found for each name in dir, durable or not, in no order. */
void sim_world_list(struct sim_world *w, int node, const char *dir, void (*found)(void *ctx, const char *name),
                    void *ctx);
bool sim_world_put_file(struct sim_world *w, int node, const char *path, const void *data, size_t size);
void sim_world_wipe(struct sim_world *w, int node); /* an empty disk. Precondition: the process has crashed */

#pragma GCC visibility pop

#endif
