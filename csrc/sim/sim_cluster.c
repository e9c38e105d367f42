#include "sim/sim_cluster.h"

#include "base/mem.h"
#include "sim/sim_watch.h"

#include <stdio.h>

#define VALUE_BYTES 8u
#define PENDING_BYTES (64u << 20)
#define HOST_LATE_US (20 * US_PER_MS) /* how late a host that has more to do may step again */
#define CLUSTER_NAME "sim"

struct sim_member *sim_cluster_member(struct sim_cluster *c, int id)
{
    ASSERT(id >= 1 && id <= c->config.nodes);
    return &c->members[id - 1];
}

/* ---- the state machine, and the ends of calls ---- */

static bool call_take(struct sim_member *m, uint64_t sequence, struct sim_call *out)
{
    for (size_t i = 0; i < m->n_calls; i++) {
        if (m->calls[i].sequence != sequence) continue;
        *out = m->calls[i];
        m->calls[i] = m->calls[--m->n_calls];
        return true;
    }
    sim_check_fail(m->cluster->check, m->id, "call %" PRIu64 " was answered that is not open", sequence);
    return false;
}

static enum host_verdict on_apply(void *ctx, const struct entry *command, uint64_t time_us, uint64_t sequence,
                                  struct buf *result)
{
    struct sim_member *m = ctx;
    (void)result;
    struct sim_check *check = m->cluster->check;
    if (command->payload_size < VALUE_BYTES) {
        sim_check_fail(check, m->id, "index %" PRIu64 " is no command of ours", command->index);
        return HOST_GO_ON;
    }
    uint64_t value = get_u64(command->payload);
    sim_check_apply(check, m->id, command->index, value, time_us);
    struct sim_call call;
    if (sequence == 0 || !call_take(m, sequence, &call)) return HOST_GO_ON;
    if (call.value != value) {
        sim_check_fail(check, m->id, "call %" PRIu64 " of value %" PRIu64 " is answered with value %" PRIu64,
                       sequence, call.value, value);
    }
    sim_check_acknowledge(check, m->id, command->index, value);
    m->cluster->acknowledged++;
    return HOST_GO_ON;
}

/* Codes that say for certain that no copy of a proposal entered any log. */
static bool is_refusal(int code)
{
    return code == ERR_NOT_LEADER || code == ERR_FULL || code == ERR_TOO_LARGE || code == ERR_CLOSED ||
           code == ERR_FAULT || code == ERR_REFUSED;
}

static void on_done(void *ctx, uint64_t sequence, int code, raft_index index, raft_id id)
{
    (void)id;
    struct sim_member *m = ctx;
    struct sim_check *check = m->cluster->check;
    struct sim_call call;
    if (!call_take(m, sequence, &call)) return;
    if (code == OK && call.value == 0) {
        sim_check_barrier(check, m->id, call.began);
    } else if (code == OK) {
        sim_check_fail(check, m->id, "value %" PRIu64 " has passed at index %" PRIu64 " without an apply", call.value,
                       index);
    } else if (!is_refusal(code) && code != ERR_TIMEOUT && code != ERR_UNKNOWN) {
        sim_check_fail(check, m->id, "value %" PRIu64 " ended with %s", call.value, err_name(code));
    } else if (call.value != 0 && is_refusal(code)) {
        sim_check_refuse(check, m->id, call.value);
    }
}

static void on_started(void *ctx, int code)
{
    struct sim_member *m = ctx;
    m->running = code == OK;
    m->closed = code != OK;
    if (code == OK || m->planted) return;
    sim_check_fail(m->cluster->check, m->id, "it cannot start: %s", host_start_error(m->host)->text);
}

static void on_changed(void *ctx, const struct server_status *status)
{
    struct sim_member *m = ctx;
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
    if (m->n_calls > 0) sim_check_fail(m->cluster->check, m->id, "%zu calls are open after closing", m->n_calls);
}

/* ---- lives ---- */

/* end: engine_free after an orderly end, engine_abandon after a crash. */
static void member_drop(struct sim_member *m, void (*end)(struct engine *e))
{
    host_free(m->host);
    end(m->engine);
    channel_free(&m->channel);
    m->host = NULL;
    m->engine = NULL;
    m->n_calls = 0;
    m->running = m->closing = m->closed = m->planted = m->faulted = m->paused = false;
    sim_world_fail_file(m->cluster->world, m->id, 0, OK);
    sim_check_crash(m->cluster->check, m->id);
}

/* The host's turn. It may come for a later life than it was meant for, which does no harm. */
static void host_turn(void *ctx)
{
    struct sim_member *m = ctx;
    struct sim_cluster *c = m->cluster;
    struct prng *prng = sim_world_prng(c->world);
    if (m->host == NULL || m->paused) return;
    bool more = !m->closed && host_step(m->host, 1 + (uint32_t)prng_below(prng, c->config.host_entries));
    if (m->closed) {
        if (!sim_world_stopped(c->world, m->id)) sim_world_crash(c->world, m->id, NULL); /* it could not start */
        member_drop(m, engine_free);
    } else if (more) {
        uint64_t late_us = prng_chance(prng, 20) ? HOST_LATE_US : 200;
        sim_world_after(c->world, 1 + prng_below(prng, late_us), host_turn, m);
    }
}

void sim_member_pause(struct sim_member *m, bool pause)
{
    m->paused = pause;
    if (!pause && m->host != NULL) sim_world_after(m->cluster->world, 1, host_turn, m);
}

static void member_build(struct sim_member *m, const struct engine_config *config)
{
    static const struct host_machine machine = {.apply = on_apply, .done = on_done, .started = on_started, .changed = on_changed, .closed = on_closed};
    struct host_config hc = {.pending = m->cluster->config.pending, .pending_bytes = PENDING_BYTES};
    struct sim_cluster *c = m->cluster;
    struct io *io = sim_world_io(c->world, m->id, host_turn, m);
    int rv = channel_init(&m->channel, io, c->config.pending);
    ASSERT(rv == OK);
    m->engine = engine_new(config, &m->channel);
    m->host = host_new(&m->channel, &machine, m, &hc);
    ASSERT(m->engine != NULL && m->host != NULL);
}

void sim_member_start(struct sim_member *m)
{
    struct sim_cluster *c = m->cluster;
    ASSERT(m->engine == NULL);
    struct engine_config config = {
        .dir = m->dir, .name = CLUSTER_NAME, .id = (raft_id)m->id,
        .election_timeout_us = c->config.election_timeout_us, .heartbeat_us = c->config.heartbeat_us,
        .pending = c->config.pending, .command_bytes = c->config.command_bytes,
        .cache_bytes = c->config.cache_bytes, .segment_bytes = c->config.segment_bytes, .spares = 2,
    };
    for (int id = 1; id <= c->config.nodes; id++) {
        char address[32];
        snprintf(address, sizeof(address), "node-%d:7000", id);
        int rv = members_add(&config.members, (raft_id)id, address, NULL);
        ASSERT(rv == OK);
    }
    member_build(m, &config);
    if (engine_start(m->engine) == OK) sim_watch_recovery(m);
    sim_world_after(c->world, 1, host_turn, m);
}

void sim_member_crash(struct sim_member *m)
{
    sim_world_crash(m->cluster->world, m->id, NULL);
    if (m->engine == NULL) return;
    m->cluster->crashes++;
    member_drop(m, engine_abandon);
}

void sim_member_close(struct sim_member *m)
{
    if (!m->running) return;
    m->closing = true;
    host_close(m->host);
}

/* ---- calls ---- */

static void call_add(struct sim_member *m, struct sim_call call)
{
    void *calls = m->calls;
    bool grown = mem_grow(&calls, &m->calls_capacity, m->n_calls + 1, sizeof(call));
    ASSERT(grown);
    m->calls = calls;
    m->calls[m->n_calls++] = call;
}

int sim_member_propose(struct sim_member *m, uint32_t bytes)
{
    struct sim_cluster *c = m->cluster;
    if (!m->running) return ERR_CLOSED;
    struct sim_call call = {.value = ++c->next_value};
    struct block *block = entry_reserve(RAFT_ENTRY_COMMAND, MAX(bytes, VALUE_BYTES));
    ASSERT(block != NULL);
    memset(block->bytes + ENTRY_HEADER, (int)(call.value & 0xff), MAX(bytes, VALUE_BYTES));
    put_u64(block->bytes + ENTRY_HEADER, call.value);
    entry_seal(block);
    int rv = host_propose(m->host, block, &call.sequence);
    if (rv == OK) call_add(m, call);
    else sim_check_refuse(c->check, m->id, call.value);
    return rv;
}

int sim_member_barrier(struct sim_member *m)
{
    if (!m->running) return ERR_CLOSED;
    struct sim_call call = {.began = sim_check_acknowledged(m->cluster->check)};
    int rv = host_barrier(m->host, &call.sequence);
    if (rv == OK) call_add(m, call);
    return rv;
}

/* ---- the cluster ---- */

int sim_cluster_init(struct sim_cluster *c, const struct sim_cluster_config *config)
{
    *c = (struct sim_cluster){.config = *config};
    c->world = sim_world_new(config->seed, &config->faults);
    c->check = sim_check_new(config->nodes);
    if (c->world == NULL || c->check == NULL) {
        sim_cluster_free(c);
        return ERR_NOMEM;
    }
    frame_reader_init(&c->reader);
    c->reader.body_max = FRAME_BODY_MAX;
    sim_world_observe(c->world, sim_watch_sent, c);
    for (int id = 1; id <= config->nodes; id++) {
        struct sim_member *m = sim_cluster_member(c, id);
        m->cluster = c;
        m->id = id;
        snprintf(m->dir, sizeof(m->dir), "node-%d", id);
    }
    return OK;
}

void sim_cluster_free(struct sim_cluster *c)
{
    for (int i = 0; i < SIM_NODES_MAX; i++) {
        if (c->members[i].engine != NULL) sim_member_crash(&c->members[i]);
        mem_free(c->members[i].calls);
    }
    sim_world_free(c->world);
    frame_reader_free(&c->reader);
    sim_check_free(c->check);
}

bool sim_cluster_step(struct sim_cluster *c)
{
    if (sim_check_failure(c->check) != NULL || !sim_world_step(c->world)) return false;
    c->events++;
    sim_check_time(c->check, sim_world_now(c->world));
    int touched = sim_world_touched(c->world);
    if (touched >= 1 && touched <= c->config.nodes) sim_watch_core(sim_cluster_member(c, touched));
    return sim_check_failure(c->check) == NULL;
}
