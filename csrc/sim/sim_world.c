#include "base/mem.h"
#include "sim/sim_internal.h"

#define WALL_START_US (INT64_C(1700000000) * 1000000)
#define WALL_SKEW_US UINT64_C(2000000) /* wall clocks differ by as much */
#define THREAD_MAX_US 60u              /* until another thread notices that it was woken */
#define BURST_MAX_US 200u              /* events this close may share one turn */

/* ---- memory and chance ---- */

void *sim_alloc(size_t size)
{
    void *memory = mem_zero(1, size);
    if (memory == NULL) memory = mem_zero(1, size);
    ASSERT(memory != NULL);
    return memory;
}

char *sim_strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    return memcpy(sim_alloc(size), text, size);
}

void sim_grow(void **items, size_t *capacity, size_t need, size_t size)
{
    bool grown = mem_grow(items, capacity, need, size) || mem_grow(items, capacity, need, size);
    ASSERT(grown);
}

void sim_buf_append(struct buf *b, const void *data, size_t size)
{
    if (size == 0) return;
    bool appended = buf_append(b, data, size) || buf_append(b, data, size);
    ASSERT(appended);
}

void sim_fold(struct sim_world *w, uint64_t value)
{
    uint64_t h = (w->hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    w->hash = h ^ (h >> 29);
}

uint64_t sim_draw_us(struct sim_world *w, uint64_t min_us, uint64_t max_us)
{
    uint64_t drawn = min_us + (max_us > min_us ? prng_below(&w->prng, max_us - min_us + 1) : 0);
    return MAX(drawn, 1);
}

/* ---- the queue of events: a binary heap ---- */

static bool event_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

struct sim_event *sim_event_add(struct sim_world *w, enum sim_event_kind kind, uint64_t at_us)
{
    ASSERT(at_us >= w->now_us);
    void *heap = w->heap;
    sim_grow(&heap, &w->heap_capacity, w->n_events + 1, sizeof(struct sim_event));
    w->heap = heap;
    struct sim_event event = {.at_us = at_us, .order = w->order++, .kind = (uint8_t)kind};
    size_t at = w->n_events++;
    while (at > 0 && event_before(&event, &w->heap[(at - 1) / 2])) {
        w->heap[at] = w->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    w->heap[at] = event;
    return &w->heap[at];
}

static struct sim_event event_take(struct sim_world *w)
{
    struct sim_event first = w->heap[0], last = w->heap[--w->n_events];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= w->n_events) break;
        if (child + 1 < w->n_events && event_before(&w->heap[child + 1], &w->heap[child])) child++;
        if (!event_before(&w->heap[child], &last)) break;
        w->heap[at] = w->heap[child];
        at = child;
    }
    if (w->n_events > 0) w->heap[at] = last;
    return first;
}

static struct sim_event *node_event(struct sim_node *node, enum sim_event_kind kind, uint64_t at_us)
{
    struct sim_event *event = sim_event_add(node->world, kind, at_us);
    event->node = node->number;
    event->stamp = node->life;
    return event;
}

/* ---- an engine's events ---- */

static void turn_now(struct sim_node *node)
{
    const struct io_events *events = node->io.events;
    if (!node->stopped && events != NULL && events->turn != NULL) events->turn(node->io.engine);
}

void sim_turn(struct sim_node *node)
{
    struct sim_world *w = node->world;
    if (node->stopped || node->turning) return;
    if (!prng_chance(&w->prng, 250)) {
        turn_now(node);
        return;
    }
    node->turning = true;
    node_event(node, SIM_TURN, w->now_us + sim_draw_us(w, 1, BURST_MAX_US));
}

static void node_run_event(struct sim_node *node, const struct sim_event *event)
{
    const struct io_events *events = node->io.events;
    switch (event->kind) {
    case SIM_ALARM:
        node->alarm++;
        if (events != NULL && events->alarm != NULL) events->alarm(node->io.engine);
        break;
    case SIM_WAKE:
        node->waking = false;
        if (events != NULL && events->woken != NULL) events->woken(node->io.engine);
        break;
    case SIM_TURN:
        node->turning = false;
        turn_now(node);
        return;
    default: ASSERT(false);
    }
    sim_turn(node);
}

/* ---- lanes ---- */

static void lane_init(struct sim_lane *lane)
{
    *lane = (struct sim_lane){0};
    lane->waiting_end = &lane->waiting;
    lane->finished_end = &lane->finished;
}

static void job_push(struct io_job ***end, struct io_job *job)
{
    job->next = NULL;
    **end = job;
    *end = &job->next;
}

static struct io_job *job_pop(struct io_job **first, struct io_job ***end)
{
    struct io_job *job = *first;
    ASSERT(job != NULL);
    *first = job->next;
    if (*first == NULL) *end = first;
    job->next = NULL;
    return job;
}

static void lane_start(struct sim_node *node, uint8_t which)
{
    struct sim_world *w = node->world;
    struct sim_lane *lane = &node->lanes[which];
    if (lane->waiting == NULL || lane->running) return;
    lane->running = true;
    uint64_t takes_us = sim_draw_us(w, w->faults.disk_min_us, w->faults.disk_max_us);
    node_event(node, SIM_WORK, w->now_us + takes_us)->aux = which;
}

static void lane_work(struct sim_node *node, uint8_t which)
{
    struct sim_world *w = node->world;
    struct sim_lane *lane = &node->lanes[which];
    if (node->disk.stalled) {
        lane->held = true;
        return;
    }
    struct io_job *job = job_pop(&lane->waiting, &lane->waiting_end);
    lane->running = false;
    job->work(job);
    job_push(&lane->finished_end, job);
    lane->told_us = MAX(lane->told_us, w->now_us + sim_draw_us(w, 1, THREAD_MAX_US));
    node_event(node, SIM_DONE, lane->told_us)->aux = which;
    lane_start(node, which);
}

static void lane_done(struct sim_node *node, uint8_t which)
{
    struct sim_lane *lane = &node->lanes[which];
    struct io_job *job = job_pop(&lane->finished, &lane->finished_end);
    job->done(job);
    sim_turn(node);
}

/* The job that was running may have got anywhere. */
static void lane_die(struct sim_node *node, struct sim_lane *lane)
{
    struct sim_world *w = node->world;
    if (!lane->running || node->disk.dead || prng_chance(&w->prng, 300)) return;
    sim_world_die(w, node->number, 1 + prng_below(&w->prng, 3));
    struct io_job *job = lane->waiting;
    job->work(job);
    sim_world_die(w, node->number, 0);
}

static void lane_lose(struct sim_lane *lane, void (*lost)(struct io_job *job))
{
    while (lane->finished != NULL) {
        struct io_job *job = job_pop(&lane->finished, &lane->finished_end);
        if (lost != NULL) lost(job);
    }
    while (lane->waiting != NULL) {
        struct io_job *job = job_pop(&lane->waiting, &lane->waiting_end);
        if (lost != NULL) lost(job);
    }
    lane_init(lane);
}

/* ---- struct io: time, chance, threads ---- */

static uint64_t node_now(struct io *io)
{
    struct sim_node *node = sim_node_of(io);
    return node->world->now_us + node->clock_us;
}

static uint64_t node_wall(struct io *io)
{
    struct sim_node *node = sim_node_of(io);
    return (uint64_t)(WALL_START_US + (int64_t)node->world->now_us + node->wall_us);
}

static uint64_t node_random(struct io *io)
{
    return prng_next(&sim_node_of(io)->world->prng);
}

static void node_alarm(struct io *io, uint64_t at_us)
{
    struct sim_node *node = sim_node_of(io);
    struct sim_world *w = node->world;
    node->alarm++;
    if (at_us == NEVER_US) return;
    uint64_t world_us = at_us > node->clock_us ? at_us - node->clock_us : 0;
    uint64_t at = MAX(world_us, w->now_us) + sim_draw_us(w, 1, THREAD_MAX_US);
    node_event(node, SIM_ALARM, at)->stamp = node->alarm;
}

static void node_wake(struct io *io)
{
    struct sim_node *node = sim_node_of(io);
    struct sim_world *w = node->world;
    if (node->waking || node->stopped) return;
    node->waking = true;
    node_event(node, SIM_WAKE, w->now_us + sim_draw_us(w, 1, THREAD_MAX_US));
}

static void node_notify(struct io *io)
{
    struct sim_node *node = sim_node_of(io);
    struct sim_world *w = node->world;
    if (node->notifying) return;
    node->notifying = true;
    node_event(node, SIM_NOTIFY, w->now_us + sim_draw_us(w, 1, THREAD_MAX_US));
}

static void node_stop(struct io *io)
{
    struct sim_node *node = sim_node_of(io);
    for (int i = 0; i < IO_LANES; i++) ASSERT(node->lanes[i].waiting == NULL && node->lanes[i].finished == NULL);
    ASSERT(sim_net_quiet(node->world, node->number));
    node->stopped = true;
}

static void node_submit(struct io *io, enum io_lane lane, struct io_job *job)
{
    struct sim_node *node = sim_node_of(io);
    ASSERT(!node->stopped && lane < IO_LANES && job->work != NULL && job->done != NULL);
    job_push(&node->lanes[lane].waiting_end, job);
    lane_start(node, (uint8_t)lane);
}

static const struct io_ops sim_ops = {
    .now = node_now, .wall = node_wall, .random = node_random, .alarm = node_alarm, .wake = node_wake,
    .notify = node_notify, .stop = node_stop, .submit = node_submit,
    .open = sim_open, .close = sim_close, .size = sim_size, .read = sim_read, .write = sim_write, .fill = sim_fill,
    .put = sim_put, .sync = sim_sync,
    .rename = sim_rename, .remove = sim_remove, .list = sim_list, .make_dir = sim_make_dir,
    .sync_dir = sim_sync_dir, .lock_dir = sim_lock_dir, .unlock_dir = sim_unlock_dir, .room = sim_room,
    .fork = sim_fork, .join = sim_join, .kill = sim_kill, .child_free = sim_child_free,
    .listen = sim_listen, .unlisten = sim_unlisten, .connect = sim_connect, .send = sim_send,
    .queued = sim_queued, .close_link = sim_close_link,
};

/* ---- the world ---- */

struct sim_world *sim_world_new(uint64_t seed, const struct sim_faults *faults)
{
    struct sim_world *w = mem_zero(1, sizeof(*w));
    if (w == NULL) return NULL;
    w->prng.state = seed;
    w->faults = *faults;
    for (int i = 0; i < SIM_NODES_MAX; i++) {
        struct sim_node *node = &w->nodes[i];
        node->io.ops = &sim_ops;
        node->world = w;
        node->number = (uint8_t)(i + 1);
        node->clock_us = US_PER_S + prng_below(&w->prng, 1000 * US_PER_S);
        node->wall_us = (int64_t)prng_below(&w->prng, WALL_SKEW_US);
        for (int lane = 0; lane < IO_LANES; lane++) lane_init(&node->lanes[lane]);
        sim_disk_init(&node->disk);
    }
    return w;
}

void sim_world_free(struct sim_world *w)
{
    if (w == NULL) return;
    for (size_t i = 0; i < w->n_events; i++) sim_net_drop(w, &w->heap[i]);
    w->n_events = 0;
    sim_net_free(w);
    for (int i = 0; i < SIM_NODES_MAX; i++) sim_disk_free(&w->nodes[i].disk);
    mem_free(w->heap);
    mem_free(w);
}

void sim_world_set_faults(struct sim_world *w, const struct sim_faults *faults)
{
    w->faults = *faults;
}

struct prng *sim_world_prng(struct sim_world *w)
{
    return &w->prng;
}

uint64_t sim_world_now(const struct sim_world *w)
{
    return w->now_us;
}

uint64_t sim_world_hash(const struct sim_world *w)
{
    return w->hash;
}

int sim_world_touched(const struct sim_world *w)
{
    return w->touched;
}

static struct sim_node *world_node(const struct sim_world *w, int node)
{
    ASSERT(node >= 1 && node <= SIM_NODES_MAX);
    return (struct sim_node *)&w->nodes[node - 1];
}

void sim_world_observe(struct sim_world *w, void (*sent)(void *ctx, int node, const struct buf *bytes), void *ctx)
{
    w->sent = sent;
    w->sent_ctx = ctx;
}

/* Whatever is still to come for this process never happens. */
static void node_end_life(struct sim_node *node)
{
    node->life++;
    node->alarm++;
    node->stopped = node->waking = node->notifying = node->turning = false;
    node->io.events = NULL;
    node->io.engine = NULL;
}

struct io *sim_world_io(struct sim_world *w, int number, void (*notify)(void *ctx), void *ctx)
{
    struct sim_node *node = world_node(w, number);
    if (node->stopped) node_end_life(node);
    node->notify = notify;
    node->notify_ctx = ctx;
    return &node->io;
}

/* Events of an earlier life, of an alarm that was set anew, or of an engine that has stopped never happen. */
static bool event_is_void(struct sim_world *w, const struct sim_event *event)
{
    if (event->node == 0) return false;
    const struct sim_node *node = &w->nodes[event->node - 1];
    if (event->stamp != (event->kind == SIM_ALARM ? node->alarm : node->life)) return true;
    return node->stopped && event->kind != SIM_NOTIFY;
}

static void event_run(struct sim_world *w, const struct sim_event *event)
{
    struct sim_node *node = event->node > 0 ? &w->nodes[event->node - 1] : NULL;
    switch (event->kind) {
    case SIM_CALL: event->call(event->pointer); return;
    case SIM_NOTIFY:
        node->notifying = false;
        if (node->notify != NULL) node->notify(node->notify_ctx);
        return;
    case SIM_WORK: lane_work(node, event->aux); return;
    case SIM_DONE: lane_done(node, event->aux); return;
    case SIM_ALARM:
    case SIM_WAKE:
    case SIM_TURN: node_run_event(node, event); return;
    default: sim_net_event(w, event);
    }
}

bool sim_world_step(struct sim_world *w)
{
    while (w->n_events > 0) {
        struct sim_event event = event_take(w);
        if (event_is_void(w, &event)) continue;
        ASSERT(event.at_us >= w->now_us);
        w->now_us = event.at_us;
        w->touched = event.node;
        sim_fold(w, event.at_us);
        sim_fold(w, (uint64_t)event.kind << 16 | (uint64_t)event.node << 8 | event.aux);
        event_run(w, &event);
        return true;
    }
    return false;
}

void sim_world_run(struct sim_world *w, uint64_t us)
{
    uint64_t until_us = w->now_us + us;
    while (w->n_events > 0 && w->heap[0].at_us <= until_us) {
        if (event_is_void(w, &w->heap[0])) event_take(w);
        else sim_world_step(w);
    }
    w->now_us = until_us;
}

void sim_world_after(struct sim_world *w, uint64_t us, void (*fn)(void *ctx), void *ctx)
{
    struct sim_event *event = sim_event_add(w, SIM_CALL, w->now_us + us);
    event->call = fn;
    event->pointer = ctx;
}

/* ---- faults ---- */

void sim_world_crash(struct sim_world *w, int number, void (*lost)(struct io_job *job))
{
    struct sim_node *node = world_node(w, number);
    for (int i = 0; i < IO_LANES; i++) lane_die(node, &node->lanes[i]);
    for (int i = 0; i < IO_LANES; i++) lane_lose(&node->lanes[i], lost);
    sim_net_crash(w, number);
    sim_disk_crash(w, &node->disk);
    node_end_life(node);
    node->wall_us = (int64_t)prng_below(&w->prng, WALL_SKEW_US);
    sim_fold(w, node->life);
}

bool sim_world_stopped(const struct sim_world *w, int node)
{
    return world_node(w, node)->stopped;
}

void sim_world_cut(struct sim_world *w, int from, int to, bool cut)
{
    w->cut[world_node(w, from)->number][world_node(w, to)->number] = cut;
}

void sim_world_stall_disk(struct sim_world *w, int number, bool stall)
{
    struct sim_node *node = world_node(w, number);
    node->disk.stalled = stall;
    for (uint8_t i = 0; i < IO_LANES && !stall; i++) {
        if (!node->lanes[i].held) continue;
        node->lanes[i].held = node->lanes[i].running = false;
        lane_start(node, i);
    }
}

void sim_world_fill_disk(struct sim_world *w, int node, bool full)
{
    world_node(w, node)->disk.full = full;
}

void sim_world_fail_file(struct sim_world *w, int node, uint64_t n, int code)
{
    struct sim_disk *d = &world_node(w, node)->disk;
    d->fail_at = n > 0 ? d->ops + n : 0;
    d->fail_code = code;
}

void sim_world_die(struct sim_world *w, int node, uint64_t n)
{
    struct sim_disk *d = &world_node(w, node)->disk;
    d->die_at = n > 0 ? d->ops + n : 0;
    d->dead = false;
}

uint64_t sim_world_file_ops(const struct sim_world *w, int node)
{
    return world_node(w, node)->disk.ops;
}
