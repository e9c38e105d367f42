#include "sim/sim_cluster.h"

#include "base/mem.h"
#include "sim/sim_trace.h"
#include "sim/sim_watch.h"

#include <stdio.h>

#define HOST_LATE_US (20 * US_PER_MS) /* how late a host that has something to do may step, now and then */
#define HOST_SOON_US 200u             /* and usually */

struct sim_member *sim_cluster_member(struct sim_cluster *c, int id)
{
    ASSERT(id >= 1 && id <= c->config.nodes);
    return &c->members[id - 1];
}

void sim_member_address(int id, char out[32])
{
    snprintf(out, 32, "node-%d:7000", id);
}

/* ---- what a host says: noted here, then told to the program ---- */

static enum host_verdict on_apply(void *ctx, const struct entry *command, uint64_t time_us, uint64_t sequence,
                                  struct buf *result)
{
    struct sim_member *m = ctx;
    return m->machine.apply(m->machine_ctx, command, time_us, sequence, result);
}

static void on_applying(void *ctx, const struct entry *command, uint64_t time_us, uint64_t sequence)
{
    struct sim_member *m = ctx;
    const struct sim_program *program = m->cluster->config.program;
    if (program->applying != NULL) program->applying(m, command, time_us, sequence);
}

static void on_repeat(void *ctx, uint64_t sequence, const uint8_t *result, size_t size)
{
    struct sim_member *m = ctx;
    m->machine.repeat(m->machine_ctx, sequence, result, size);
}

static void on_done(void *ctx, uint64_t sequence, int code, raft_index index, raft_id id)
{
    struct sim_member *m = ctx;
    m->machine.done(m->machine_ctx, sequence, code, index, id);
}

static int on_save(void *ctx, struct snapshot_writer *w, struct err *e)
{
    struct sim_member *m = ctx;
    return m->machine.save(m->machine_ctx, w, e);
}

static enum host_verdict on_load(void *ctx, enum host_load step, struct host_records *records)
{
    struct sim_member *m = ctx;
    return m->machine.load(m->machine_ctx, step, records);
}

static void on_snapshot(void *ctx, const struct snapshot_order *order, uint64_t took_us)
{
    struct sim_member *m = ctx;
    m->machine.snapshot(m->machine_ctx, order, took_us);
}

static void on_started(void *ctx, int code)
{
    struct sim_member *m = ctx;
    m->running = code == OK;
    if (code == OK) m->raft_id = host_node(m->host);
    m->closed = code != OK;
    if (code != OK && !m->planted) {
        sim_check_fail(m->cluster->check, m->id, "it cannot start: %s", host_start_error(m->host)->text);
    }
    m->machine.started(m->machine_ctx, code);
}

static void on_changed(void *ctx, const struct server_status *status)
{
    struct sim_member *m = ctx;
    m->machine.changed(m->machine_ctx, status);
    if (status->fault == 0) return;
    m->faulted = true;
    if (m->planted) return;
    sim_check_fail(m->cluster->check, m->id, "it stopped itself: %s", status->fault_text);
}

static void on_closed(void *ctx)
{
    struct sim_member *m = ctx;
    m->running = false;
    m->closed = true;
    m->machine.closed(m->machine_ctx);
}

/* ---- turns ---- */

static void member_end(struct sim_member *m)
{
    m->cluster->config.program->end(m);
    ASSERT(m->engine == NULL && m->host == NULL);
    m->process = NULL;
    m->up = m->running = m->closing = m->closed = m->crashed = m->planted = m->faulted = m->paused = false;
    m->turn_us = NEVER_US;
    sim_world_fail_file(m->cluster->world, m->id, 0, OK);
    sim_check_crash(m->cluster->check, m->id);
}

static void member_turn(struct sim_member *m)
{
    uint64_t next_us = m->cluster->config.program->turn(m);
    if (m->closed) {
        member_end(m);
    } else if (next_us != NEVER_US) {
        struct prng *prng = sim_world_prng(m->cluster->world);
        uint64_t late_us = prng_chance(prng, 20) ? HOST_LATE_US : HOST_SOON_US;
        sim_member_wake(m, next_us + 1 + prng_below(prng, late_us));
    }
}

/* An event may come for a turn that was put off, or for a later life than it was meant for: neither does harm. */
static void turn_planned(void *ctx)
{
    struct sim_member *m = ctx;
    if (!m->up || m->paused || sim_world_now(m->cluster->world) < m->turn_us) return;
    m->turn_us = NEVER_US;
    member_turn(m);
}

static void turn_notified(void *ctx)
{
    struct sim_member *m = ctx;
    if (m->up && !m->paused) member_turn(m);
}

void sim_member_wake(struct sim_member *m, uint64_t us)
{
    struct sim_world *w = m->cluster->world;
    uint64_t at_us = sim_world_now(w) + us;
    if (at_us >= m->turn_us) return;
    m->turn_us = at_us;
    sim_world_after(w, us, turn_planned, m);
}

void sim_member_pause(struct sim_member *m, bool pause)
{
    struct sim_cluster *c = m->cluster;
    m->paused = pause;
    sim_trace_fault(c->config.trace, sim_world_now(c->world), m->id, 0, "host pauses", pause);
    if (pause || !m->up) return;
    m->turn_us = NEVER_US;
    sim_member_wake(m, 1);
}

/* ---- lives ---- */

void sim_member_open(struct sim_member *m, const struct engine_config *config, const struct host_config *host,
                     const struct host_machine *machine, void *ctx)
{
    static const struct host_machine noted = {
        .apply = on_apply, .repeat = on_repeat, .done = on_done, .started = on_started, .changed = on_changed,
        .closed = on_closed, .save = on_save, .load = on_load, .snapshot = on_snapshot, .applying = on_applying,
    };
    ASSERT(m->up && m->engine == NULL);
    m->machine = *machine;
    m->machine_ctx = ctx;
    int rv = channel_init(&m->channel, m->io, config->pending);
    ASSERT(rv == OK);
    struct engine_config watched = *config;
    sim_watch_open(m, &watched);
    m->engine = engine_new(&watched, &m->channel);
    m->host = host_new(&m->channel, &noted, m, host);
    ASSERT(m->engine != NULL && m->host != NULL);
}

int sim_member_run(struct sim_member *m)
{
    int rv = engine_start(m->engine);
    sim_member_wake(m, 1);
    return rv;
}

void sim_member_free(struct sim_member *m)
{
    struct sim_world *w = m->cluster->world;
    bool died = m->crashed || !sim_world_stopped(w, m->id);
    if (died && !m->crashed) sim_world_crash(w, m->id, NULL); /* it could not start */
    host_free(m->host);
    if (m->crashed) engine_abandon(m->engine);
    else engine_free(m->engine);
    channel_free(&m->channel);
    m->host = NULL;
    m->engine = NULL;
}

void sim_member_start(struct sim_member *m)
{
    ASSERT(!m->up);
    m->up = true;
    m->lives++;
    m->turn_us = NEVER_US;
    m->io = sim_world_io(m->cluster->world, m->id, turn_notified, m);
    m->cluster->config.program->start(m);
}

void sim_member_crash(struct sim_member *m)
{
    sim_world_crash(m->cluster->world, m->id, NULL);
    if (!m->up) return;
    m->cluster->crashes++;
    m->crashed = true;
    member_end(m);
}

void sim_member_close(struct sim_member *m)
{
    if (!m->running) return;
    m->closing = true;
    m->cluster->config.program->close(m);
}

/* ---- the cluster ---- */

int sim_cluster_init(struct sim_cluster *c, const struct sim_cluster_config *config)
{
    *c = (struct sim_cluster){.config = *config};
    c->world = sim_world_new(config->seed, &config->faults);
    c->check = sim_check_new(config->nodes);
    c->watch = c->check != NULL ? sim_watch_new(c) : NULL;
    if (c->world == NULL || c->watch == NULL) {
        sim_cluster_free(c);
        return ERR_NOMEM;
    }
    frame_reader_init(&c->reader);
    c->reader.body_max = FRAME_BODY_MAX;
    sim_world_observe(c->world, sim_watch_sent, c);
    sim_world_set_trace(c->world, config->trace);
    for (int id = 1; id <= config->nodes; id++) {
        struct sim_member *m = sim_cluster_member(c, id);
        m->cluster = c;
        m->id = id;
        m->raft_id = (raft_id)id;
        snprintf(m->dir, sizeof(m->dir), "node-%d", id);
    }
    return OK;
}

void sim_cluster_free(struct sim_cluster *c)
{
    sim_trace_stop(c->config.trace);
    for (int i = 0; i < SIM_NODES_MAX; i++) {
        if (c->members[i].up) sim_member_crash(&c->members[i]);
        mem_free(c->members[i].calls);
    }
    sim_world_free(c->world);
    frame_reader_free(&c->reader);
    sim_watch_free(c->watch);
    sim_check_free(c->check);
}

bool sim_cluster_step(struct sim_cluster *c)
{
    if (sim_check_failure(c->check) != NULL || !sim_world_step(c->world)) return false;
    c->events++;
    sim_check_time(c->check, sim_world_now(c->world));
    int touched = sim_world_touched(c->world);
    if (touched >= 1 && touched <= c->config.nodes) sim_watch_event(sim_cluster_member(c, touched));
    if (sim_check_failure(c->check) == NULL) return true;
    sim_trace_stop(c->config.trace);
    return false;
}
