#include "sim/sim_node.h"

#include "base/mem.h"

#define WALL_START_US (INT64_C(1700000000) * 1000000)
#define WALL_SKEW_US UINT64_C(2000000) /* wall clocks differ by as much */
#define THREAD_MAX_US 60u              /* until another thread notices that it was woken */
#define BURST_MAX_US 200u              /* events this close may share one turn */
#define DIE_OPS 6u                     /* a job that a crash interrupts gets so far at most */

static struct sim_event *node_event(struct sim_node *node, enum sim_event_kind kind, uint64_t at_us)
{
    struct sim_event *event = sim_queue_add(node->queue, kind, at_us);
    event->node = node->number;
    event->stamp = node->life;
    return event;
}

/* When another thread gets to it. */
static uint64_t soon_us(struct sim_node *node)
{
    return node->queue->now_us + sim_draw_us(node->queue, 1, THREAD_MAX_US);
}

/* ---- time and chance ---- */

uint64_t sim_node_now(struct io *io)
{
    const struct sim_node *node = sim_node_of(io);
    return sim_clock_now(&node->clock, node->queue->now_us);
}

uint64_t sim_node_due(struct io *io, uint64_t after_us)
{
    return sim_node_now(io) + after_us;
}

uint64_t sim_node_wall(struct io *io)
{
    const struct sim_node *node = sim_node_of(io);
    return (uint64_t)(WALL_START_US + (int64_t)node->queue->now_us + node->wall_us);
}

uint64_t sim_node_random(struct io *io)
{
    return prng_next(&sim_node_of(io)->queue->prng);
}

void sim_node_alarm(struct io *io, uint64_t at_us)
{
    struct sim_node *node = sim_node_of(io);
    node->alarm++;
    node->alarm_us = at_us;
    if (at_us == NEVER_US) return;
    uint64_t world_us = sim_clock_when(&node->clock, at_us);
    if (world_us == NEVER_US) return;
    uint64_t late_us = sim_draw_us(node->queue, 1, THREAD_MAX_US);
    node_event(node, SIM_ALARM, MAX(world_us, node->queue->now_us) + late_us)->stamp = node->alarm;
}

void sim_node_set_clock(struct sim_node *node, uint64_t rate)
{
    sim_clock_set_rate(&node->clock, node->queue->now_us, rate);
    sim_node_alarm(&node->io, node->alarm_us);
}

void sim_node_jump_clock(struct sim_node *node, uint64_t us)
{
    sim_clock_jump(&node->clock, us);
    sim_node_alarm(&node->io, node->alarm_us);
}

/* ---- the engine and the host ---- */

void sim_node_wake(struct io *io)
{
    struct sim_node *node = sim_node_of(io);
    if (node->waking || node->stopped) return;
    node->waking = true;
    node_event(node, SIM_WAKE, soon_us(node));
}

void sim_node_notify(struct io *io)
{
    struct sim_node *node = sim_node_of(io);
    if (node->notifying) return;
    node->notifying = true;
    node_event(node, SIM_NOTIFY, soon_us(node));
}

static void turn_now(struct sim_node *node)
{
    const struct io_events *events = node->io.events;
    if (!node->stopped && events != NULL && events->turn != NULL) events->turn(node->io.engine);
}

void sim_node_turn(struct sim_node *node)
{
    struct sim_queue *q = node->queue;
    if (node->stopped || node->turning) return;
    if (!prng_chance(&q->prng, 250)) {
        turn_now(node);
        return;
    }
    node->turning = true;
    node_event(node, SIM_TURN, q->now_us + sim_draw_us(q, 1, BURST_MAX_US));
}

static void ring(struct sim_node *node)
{
    const struct io_events *events = node->io.events;
    node->alarm++;
    node->alarm_us = NEVER_US;
    if (events != NULL && events->alarm != NULL) events->alarm(node->io.engine);
    sim_node_turn(node);
}

static void be_woken(struct sim_node *node)
{
    const struct io_events *events = node->io.events;
    node->waking = false;
    if (events != NULL && events->woken != NULL) events->woken(node->io.engine);
    sim_node_turn(node);
}

/* ---- lanes ---- */

static void lane_init(struct sim_lane *lane)
{
    *lane = (struct sim_lane){.stamp = UINT64_MAX};
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
    struct sim_queue *q = node->queue;
    struct sim_lane *lane = &node->lanes[which];
    if (lane->waiting == NULL || lane->running) return;
    lane->running = true;
    uint64_t takes_us = sim_draw_us(q, node->faults->disk_min_us, node->faults->disk_max_us);
    if (sim_chance(q, node->faults->disk_late)) takes_us += sim_draw_tail_us(q, node->faults->disk_max_us);
    if (node->slow_us > 0) takes_us += sim_draw_us(q, 1, node->slow_us);
    struct sim_event *event = node_event(node, SIM_WORK, q->now_us + takes_us);
    event->aux = which;
    event->stamp = lane->stamp = event->order;
}

static void lane_work(struct sim_node *node, uint8_t which)
{
    struct sim_lane *lane = &node->lanes[which];
    if (node->stalled) return;
    struct io_job *job = job_pop(&lane->waiting, &lane->waiting_end);
    lane->running = false;
    job->work(job);
    job_push(&lane->finished_end, job);
    lane->told_us = MAX(lane->told_us, soon_us(node));
    node_event(node, SIM_DONE, lane->told_us)->aux = which;
    lane_start(node, which);
}

static void lane_done(struct sim_node *node, uint8_t which)
{
    struct sim_lane *lane = &node->lanes[which];
    struct io_job *job = job_pop(&lane->finished, &lane->finished_end);
    job->done(job);
    sim_node_turn(node);
}

void sim_node_submit(struct io *io, enum io_lane lane, struct io_job *job)
{
    struct sim_node *node = sim_node_of(io);
    ASSERT(!node->stopped && lane < IO_LANES && job->work != NULL && job->done != NULL);
    job_push(&node->lanes[lane].waiting_end, job);
    lane_start(node, (uint8_t)lane);
}

bool sim_node_idle(const struct sim_node *node)
{
    for (int i = 0; i < IO_LANES; i++) {
        if (node->lanes[i].waiting != NULL || node->lanes[i].finished != NULL) return false;
    }
    return true;
}

void sim_node_stall(struct sim_node *node, bool stall)
{
    node->stalled = stall;
    for (uint8_t i = 0; i < IO_LANES && !stall; i++) {
        node->lanes[i].running = false;
        lane_start(node, i);
    }
}

/* The job that was running may have got anywhere. */
static void lane_die(struct sim_node *node, struct sim_lane *lane)
{
    struct prng *prng = &node->queue->prng;
    if (!lane->running || node->disk.dead || prng_chance(prng, 300)) return;
    uint64_t most = 1 + prng_below(prng, DIE_OPS); /* most jobs are short */
    sim_disk_die(&node->disk, 1 + prng_below(prng, most));
    struct io_job *job = lane->waiting;
    job->work(job);
    sim_disk_die(&node->disk, 0);
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

void sim_node_kill_lanes(struct sim_node *node, void (*lost)(struct io_job *job))
{
    for (int i = 0; i < IO_LANES; i++) lane_die(node, &node->lanes[i]);
    for (int i = 0; i < IO_LANES; i++) lane_lose(&node->lanes[i], lost);
}

/* ---- events ---- */

bool sim_node_is_void(const struct sim_node *node, const struct sim_event *event)
{
    if (event->kind == SIM_ALARM) return event->stamp != node->alarm || node->stopped;
    if (event->kind == SIM_WORK) return event->stamp != node->lanes[event->aux].stamp;
    return event->stamp != node->life || (node->stopped && event->kind != SIM_NOTIFY);
}

void sim_node_event(struct sim_node *node, const struct sim_event *event)
{
    switch (event->kind) {
    case SIM_ALARM: ring(node); break;
    case SIM_WAKE: be_woken(node); break;
    case SIM_NOTIFY:
        node->notifying = false;
        if (node->notify != NULL) node->notify(node->notify_ctx);
        break;
    case SIM_TURN:
        node->turning = false;
        turn_now(node);
        break;
    case SIM_WORK: lane_work(node, event->aux); break;
    case SIM_DONE: lane_done(node, event->aux); break;
    default: ASSERT(!"an event of a node");
    }
}

void sim_node_keep(struct sim_node *node, const struct sim_event *event)
{
    ASSERT(node->paused);
    void *kept = node->kept;
    sim_grow(&kept, &node->kept_capacity, node->n_kept + 1, sizeof(*event));
    node->kept = kept;
    node->kept[node->n_kept++] = *event;
}

void sim_node_pause(struct sim_node *node, bool pause)
{
    node->paused = pause;
    if (pause) return;
    for (size_t i = 0; i < node->n_kept; i++) sim_queue_return(node->queue, &node->kept[i]);
    node->n_kept = 0;
}

/* ---- life ---- */

void sim_node_init(struct sim_node *node, uint8_t number, struct sim_queue *q, struct sim_net *net,
                   const struct sim_faults *faults)
{
    *node = (struct sim_node){.queue = q, .net = net, .faults = faults, .number = number, .alarm_us = NEVER_US};
    node->clock = (struct sim_clock){.rate = SIM_CLOCK_TRUE};
    node->clock.read_us = US_PER_S + prng_below(&q->prng, 1000 * US_PER_S);
    node->wall_us = (int64_t)prng_below(&q->prng, WALL_SKEW_US);
    for (int lane = 0; lane < IO_LANES; lane++) lane_init(&node->lanes[lane]);
    sim_disk_init(&node->disk, q, number, faults);
}

void sim_node_free(struct sim_node *node)
{
    ASSERT(node->n_kept == 0);
    mem_free(node->kept);
    sim_disk_free(&node->disk);
}

void sim_node_end_life(struct sim_node *node)
{
    sim_node_pause(node, false);
    node->life++;
    node->alarm++;
    node->alarm_us = NEVER_US;
    node->stopped = node->waking = node->notifying = node->turning = false;
    node->io.events = NULL;
    node->io.engine = NULL;
}
