#include "sim/sim_world.h"

#include "base/mem.h"
#include "sim/sim_io.h"
#include "sim/sim_net.h"
#include "sim/sim_trace.h"

#define WALL_SKEW_US UINT64_C(2000000) /* wall clocks differ by as much after a start */

struct sim_world {
    struct sim_queue queue;
    struct sim_faults faults;
    struct sim_net net;
    struct sim_node nodes[SIM_NODES_MAX]; /* node n at n - 1 */
};

/* ---- life ---- */

struct sim_world *sim_world_new(uint64_t seed, const struct sim_faults *faults)
{
    struct sim_world *w = mem_zero(1, sizeof(*w));
    if (w == NULL) return NULL;
    w->queue.prng.state = seed;
    w->faults = *faults;
    w->net.queue = &w->queue;
    w->net.faults = &w->faults;
    w->net.nodes = w->nodes;
    for (int i = 0; i < SIM_NODES_MAX; i++) {
        sim_node_init(&w->nodes[i], (uint8_t)(i + 1), &w->queue, &w->net, &w->faults);
        w->nodes[i].io.ops = &sim_io_ops;
    }
    return w;
}

void sim_world_free(struct sim_world *w)
{
    if (w == NULL) return;
    for (int i = 0; i < SIM_NODES_MAX; i++) sim_node_pause(&w->nodes[i], false);
    for (size_t i = 0; i < w->queue.count; i++) {
        if (w->queue.heap[i].kind >= SIM_NET_SYN) sim_net_drop(&w->net, &w->queue.heap[i]);
    }
    sim_net_free(&w->net);
    for (int i = 0; i < SIM_NODES_MAX; i++) sim_node_free(&w->nodes[i]);
    sim_queue_free(&w->queue);
    mem_free(w);
}

void sim_world_set_faults(struct sim_world *w, const struct sim_faults *faults)
{
    w->faults = *faults;
}

struct prng *sim_world_prng(struct sim_world *w)
{
    return &w->queue.prng;
}

uint64_t sim_world_now(const struct sim_world *w)
{
    return w->queue.now_us;
}

uint64_t sim_world_hash(const struct sim_world *w)
{
    return w->queue.hash ^ w->queue.prng.state; /* and of every draw */
}

int sim_world_touched(const struct sim_world *w)
{
    return w->queue.touched;
}

static struct sim_node *world_node(const struct sim_world *w, int node)
{
    ASSERT(node >= 1 && node <= SIM_NODES_MAX);
    return (struct sim_node *)&w->nodes[node - 1];
}

void sim_world_observe(struct sim_world *w, void (*sent)(void *ctx, int node, const struct buf *bytes), void *ctx)
{
    w->net.sent = sent;
    w->net.sent_ctx = ctx;
}

void sim_world_set_trace(struct sim_world *w, struct sim_trace *trace)
{
    w->queue.trace = trace;
}

static void trace_life(struct sim_world *w, int node, const char *what)
{
    sim_trace_add(w->queue.trace, SIM_TRACE_LIFE, w->queue.now_us, node, what, 0, NULL);
}

static void trace_fault(struct sim_world *w, int node, int peer, const char *what, bool on)
{
    sim_trace_fault(w->queue.trace, w->queue.now_us, node, peer, what, on);
}

/* ---- events ---- */

static bool is_void(const struct sim_world *w, const struct sim_event *event)
{
    return event->node > 0 && sim_node_is_void(&w->nodes[event->node - 1], event);
}

/* The paused process that this event would tell something; NULL: it happens now. A host is told by its own thread, and
 * jobs run on others. */
static struct sim_node *kept_by(struct sim_world *w, const struct sim_event *event)
{
    int told = event->node;
    if (event->kind >= SIM_NET_SYN) told = sim_net_told(&w->net, event);
    if (told == 0 || event->kind == SIM_NOTIFY || event->kind == SIM_WORK) return NULL;
    struct sim_node *node = &w->nodes[told - 1];
    return node->paused ? node : NULL;
}

static void run(struct sim_world *w, const struct sim_event *event)
{
    struct sim_queue *q = &w->queue;
    q->touched = event->node;
    sim_fold(q, event->at_us);
    sim_fold(q, (uint64_t)event->kind << 16 | (uint64_t)event->node << 8 | event->aux);
    if (event->kind == SIM_CALL) event->call(event->pointer);
    else if (event->kind >= SIM_NET_SYN) sim_net_event(&w->net, event);
    else sim_node_event(&w->nodes[event->node - 1], event);
}

/* Runs the next event up to this time. false: there is none. */
static bool step(struct sim_world *w, uint64_t until_us)
{
    while (w->queue.count > 0 && w->queue.heap[0].at_us <= until_us) {
        struct sim_event event = sim_queue_take(&w->queue);
        if (is_void(w, &event)) continue;
        ASSERT(event.at_us >= w->queue.now_us);
        w->queue.now_us = event.at_us;
        struct sim_node *keeper = kept_by(w, &event);
        if (keeper != NULL) {
            sim_node_keep(keeper, &event);
            continue;
        }
        run(w, &event);
        return true;
    }
    return false;
}

bool sim_world_step(struct sim_world *w)
{
    return step(w, NEVER_US);
}

void sim_world_run(struct sim_world *w, uint64_t us)
{
    uint64_t until_us = w->queue.now_us + us;
    while (step(w, until_us)) continue;
    w->queue.now_us = until_us;
}

void sim_world_after(struct sim_world *w, uint64_t us, void (*fn)(void *ctx), void *ctx)
{
    struct sim_event *event = sim_queue_add(&w->queue, SIM_CALL, w->queue.now_us + us);
    event->call = fn;
    event->pointer = ctx;
}

/* ---- processes ---- */

struct io *sim_world_io(struct sim_world *w, int number, void (*notify)(void *ctx), void *ctx)
{
    struct sim_node *node = world_node(w, number);
    if (node->stopped) sim_node_end_life(node);
    trace_life(w, number, "start");
    node->notify = notify;
    node->notify_ctx = ctx;
    return &node->io;
}

void sim_world_crash(struct sim_world *w, int number, void (*lost)(struct io_job *job))
{
    struct sim_node *node = world_node(w, number);
    trace_life(w, number, "crash");
    trace_fault(w, number, 0, "engine pauses", false);
    sim_node_kill_lanes(node, lost);
    sim_net_crash(&w->net, number);
    sim_disk_crash(&node->disk);
    sim_node_end_life(node);
    node->wall_us = (int64_t)prng_below(&w->queue.prng, WALL_SKEW_US);
    sim_fold(&w->queue, node->life);
}

bool sim_world_stopped(const struct sim_world *w, int node)
{
    return world_node(w, node)->stopped;
}

void sim_world_pause(struct sim_world *w, int node, bool pause)
{
    sim_node_pause(world_node(w, node), pause);
    trace_fault(w, node, 0, "engine pauses", pause);
}

/* ---- the network ---- */

static struct sim_path *world_path(struct sim_world *w, int from, int to)
{
    return &w->net.paths[world_node(w, from)->number][world_node(w, to)->number];
}

void sim_world_cut(struct sim_world *w, int from, int to, bool cut)
{
    world_path(w, from, to)->cut = cut;
    trace_fault(w, from, to, "cut", cut);
}

void sim_world_slow_link(struct sim_world *w, int from, int to, uint64_t slow_us, uint64_t byte_rate)
{
    struct sim_path *path = world_path(w, from, to);
    path->slow_us = slow_us;
    path->byte_rate = byte_rate;
    trace_fault(w, from, to, "slow", slow_us > 0 || byte_rate > 0);
}

void sim_world_reset(struct sim_world *w, int a, int b)
{
    sim_net_reset(&w->net, a, b);
    sim_trace_add(w->queue.trace, SIM_TRACE_NOTE, w->queue.now_us, a, "links break", 0, "with node %d", b);
}

/* ---- clocks ---- */

void sim_world_set_clock(struct sim_world *w, int node, uint64_t rate)
{
    sim_node_set_clock(world_node(w, node), rate);
    trace_fault(w, node, 0, "clock runs wrong", rate != SIM_CLOCK_TRUE);
}

void sim_world_jump_clock(struct sim_world *w, int node, uint64_t us)
{
    sim_node_jump_clock(world_node(w, node), us);
    sim_trace_add(w->queue.trace, SIM_TRACE_NOTE, w->queue.now_us, node, "clock jumps", 0, "by %" PRIu64 " us", us);
}

void sim_world_jump_wall(struct sim_world *w, int node, int64_t us)
{
    world_node(w, node)->wall_us += us;
    sim_trace_add(w->queue.trace, SIM_TRACE_NOTE, w->queue.now_us, node, "wall clock jumps", 0, "by %" PRId64 " us",
                  us);
}

/* ---- disks ---- */

void sim_world_stall_disk(struct sim_world *w, int node, bool stall)
{
    sim_node_stall(world_node(w, node), stall);
    trace_fault(w, node, 0, "disk stalls", stall);
}

void sim_world_slow_disk(struct sim_world *w, int node, uint64_t us)
{
    world_node(w, node)->slow_us = us;
    trace_fault(w, node, 0, "disk slow", us > 0);
}

void sim_world_fill_disk(struct sim_world *w, int node, bool full)
{
    world_node(w, node)->disk.full = full;
    trace_fault(w, node, 0, "disk full", full);
}

void sim_world_fail_file(struct sim_world *w, int node, uint64_t n, int code)
{
    sim_disk_fail(&world_node(w, node)->disk, n, code);
}

void sim_world_die(struct sim_world *w, int node, uint64_t n)
{
    sim_disk_die(&world_node(w, node)->disk, n);
}

uint64_t sim_world_file_ops(const struct sim_world *w, int node)
{
    return world_node(w, node)->disk.ops;
}

const char *sim_world_rot(struct sim_world *w, int node, uint64_t *at)
{
    return sim_disk_rot(&world_node(w, node)->disk, at);
}

const uint8_t *sim_world_file(struct sim_world *w, int node, const char *path, size_t *size)
{
    return sim_disk_file(&world_node(w, node)->disk, path, size);
}

void sim_world_list(struct sim_world *w, int node, const char *dir, void (*found)(void *ctx, const char *name),
                    void *ctx)
{
    sim_names_list(&world_node(w, node)->disk.names, dir, found, ctx);
}

bool sim_world_put_file(struct sim_world *w, int node, const char *path, const void *data, size_t size)
{
    return sim_disk_put(&world_node(w, node)->disk, path, data, size);
}

void sim_world_wipe(struct sim_world *w, int node)
{
    sim_disk_wipe(&world_node(w, node)->disk);
    trace_life(w, node, "wipe");
}
