#include "sim/sim_scenario.h"

#include "base/mem.h"
#include "sim/sim_trace.h"
#include "sim/sim_watch.h"

#include <stdio.h>

#define RECOVERY_TIMEOUTS 10u            /* of the shortest: they are drawn from T .. 2T */
#define SETTLE_US (30 * US_PER_S)        /* until every call is answered and all states are equal */
#define ROUND_S 25u                      /* of faults between two healings */
#define QUIET_PERMILLE 400u              /* of healings: nobody asks for anything at first */
#define CLOSE_US (20 * US_PER_S)
#define HEALED_ENTRIES 1024u             /* applied in a step: a host too slow to replay its log is at fault as well */
#define FAULTS_AFTER_US US_PER_S         /* until the first fault */
#define STARTS_WITHIN_US (100 * US_PER_MS)
#define STATE_BYTES_MAX (1u << 20)       /* some pieces, in which a snapshot travels */
#define PROBE_PAUSE_US (10 * US_PER_MS)

struct scenario {
    struct sim_cluster cluster;
    struct sim_clients clients;
    struct sim_clients probe; /* asks often once all is healed: other clients of this seed may hardly ever */
    struct sim_visitors visitors;
    struct sim_chaos chaos;
    const struct sim_options *options;
    raft_index committed_before;  /* the healing */
    uint64_t acknowledged_before; /* what is awaited */
};

/* ---- dials ---- */

static uint64_t between(struct prng *prng, uint64_t min, uint64_t max)
{
    return min + prng_below(prng, max - min + 1);
}

/* Many are small, some are large: up to 64 times max. In two statements: the operands of one are evaluated in an order
 * that each compiler chooses, and the seed must mean the same under all of them. */
static uint64_t spread(struct prng *prng, uint64_t min, uint64_t max)
{
    uint64_t number = between(prng, min, max);
    return number << prng_below(prng, 7);
}

/* A rate that is nought in half of the seeds. */
static uint32_t rate(struct prng *prng, uint64_t max)
{
    return prng_chance(prng, 500) ? 0 : (uint32_t)between(prng, 1, max);
}

static struct sim_cluster_config draw_config(struct scenario *s, struct prng *prng)
{
    const struct sim_options *options = s->options;
    uint64_t timeout_us = between(prng, 150, 1000) * US_PER_MS;
    sim_chaos_draw(&s->chaos, options->seed, options->faults, timeout_us);
    struct sim_cluster_config config = {
        .seed = options->seed,
        .nodes = options->nodes,
        .election_timeout_us = timeout_us,
        .command_bytes = 8192,
        .faults = s->chaos.faults,
        .program = &sim_machine,
        .trace = options->trace,
    };
    config.clients = sim_visitors_draw(&s->visitors, options->seed, options->visitors);
    config.heartbeat_us = timeout_us / between(prng, 4, 10);
    config.pending = (uint32_t)between(prng, 8, 512);
    config.cache_bytes = (uint32_t)between(prng, 4096, 262144);
    config.segment_bytes = 65536 * between(prng, 1, 4);
    config.host_entries = (uint32_t)between(prng, 1, 256);
    s->clients.pause_us = spread(prng, 3, 6) * US_PER_MS * (uint64_t)options->nodes; /* each node works for each */
    s->clients.large = rate(prng, 100);
    s->clients.transfers = rate(prng, 50);
    if (s->chaos.kinds == 0) s->clients.transfers = 0;
    config.lease = prng_chance(prng, 500) || (s->chaos.kinds & SIM_CLOCKS) == 0;
    s->chaos.bound = config.lease;
    if ((s->chaos.kinds & SIM_MEMBERS) != 0 && config.nodes > 1) {
        config.first = config.nodes - (int)prng_below(prng, (uint64_t)(config.nodes + 1) / 2);
    }
    if (!prng_chance(prng, 800)) return config;
    /* Small numbers, so that logs end soon, and who was away needs a snapshot. */
    config.snapshot_entries = spread(prng, 4, 16);
    config.snapshot_bytes = prng_chance(prng, 300) ? between(prng, 1024, 65536) : 0;
    config.keep = spread(prng, 0, 4);
    if (config.snapshot_entries >= 64 && prng_chance(prng, 300)) {
        config.state_bytes = (uint32_t)between(prng, 1, STATE_BYTES_MAX);
    }
    if (prng_chance(prng, 500)) s->clients.large = (uint32_t)between(prng, 50, 400); /* whole segments are released */
    return config;
}

/* ---- phases ---- */

/* Runs until the time is over, or `until` holds. false: it did not come to hold, or a check has failed. */
static bool run(struct scenario *s, uint64_t us, bool (*until)(struct scenario *s))
{
    struct sim_cluster *c = &s->cluster;
    uint64_t end_us = sim_world_now(c->world) + us;
    while (sim_world_now(c->world) < end_us) {
        if (until != NULL && until(s)) return true;
        if (!sim_cluster_step(c)) return false;
    }
    return false;
}

/* Takes it part in the cluster, as it is by now? Who was lost, or is no member, is asked for nothing. */
static bool takes_part(const struct scenario *s, int id)
{
    return !sim_chaos_lost(&s->chaos, id) && sim_check_is_member(s->cluster.check, id);
}

/* Was it removed, and does not say so? */
static bool is_unaware(const struct scenario *s, const struct sim_member *m)
{
    return m->running && sim_check_is_removed(s->cluster.check, m->id) && !host_status(m->host)->removed;
}

static bool is_settled(struct scenario *s)
{
    struct sim_cluster *c = &s->cluster;
    if (!sim_check_is_steady(c->check)) return false;
    for (int id = 1; id <= c->config.nodes; id++) {
        struct sim_member *m = sim_cluster_member(c, id);
        bool starting = m->engine != NULL && !m->running;
        if (starting || is_unaware(s, m)) return false;
        if (!takes_part(s, id)) continue;
        if (!m->running || m->n_calls > 0) return false;
        if (host_applied(m->host) < sim_check_committed(c->check)) return false;
    }
    return true;
}

static bool is_closed(struct scenario *s)
{
    for (int id = 1; id <= s->options->nodes; id++) {
        if (sim_cluster_member(&s->cluster, id)->engine != NULL) return false;
    }
    return true;
}

/* Names what keeps the cluster from settling. */
static void fail_unsettled(struct scenario *s, const char *when)
{
    struct sim_cluster *c = &s->cluster;
    for (int id = 1; id <= c->config.nodes; id++) {
        struct sim_member *m = sim_cluster_member(c, id);
        raft_index applied = m->running ? host_applied(m->host) : 0;
        if (is_unaware(s, m)) {
            sim_check_fail(c->check, id, "convergence: %s it does not know that it was removed", when);
        }
        if (!takes_part(s, id) && (m->running || m->engine == NULL)) continue;
        if (m->running && m->n_calls == 0 && applied >= sim_check_committed(c->check)) continue;
        sim_check_fail(c->check, id, "convergence: %s it is %s, has applied %" PRIu64 " of %" PRIu64
                       " entries and has %zu open calls", when, m->running ? "running" : "down", applied,
                       sim_check_committed(c->check), m->n_calls);
    }
}

/* Every node closes, comes back, and is what it was. */
static void check_reopening(struct scenario *s)
{
    struct sim_cluster *c = &s->cluster;
    sim_chaos_stop(&s->chaos);
    for (int id = 1; id <= c->config.nodes; id++) sim_member_close(sim_cluster_member(c, id));
    if (!run(s, CLOSE_US, is_closed)) {
        sim_check_fail(c->check, 0, "convergence: not every node closes within %" PRIu64 " s", CLOSE_US / US_PER_S);
        return;
    }
    for (int id = 1; id <= c->config.nodes; id++) sim_chaos_start_member(&s->chaos, id);
    if (run(s, SETTLE_US, is_settled)) sim_check_end(c->check);
    else fail_unsettled(s, "after opening again");
}

static bool has_committed(struct scenario *s)
{
    return sim_check_committed(s->cluster.check) > s->committed_before;
}

/* Has everyone applied what was committed before? */
static bool has_replayed(struct scenario *s)
{
    for (int id = 1; id <= s->options->nodes; id++) {
        const struct sim_member *m = sim_cluster_member(&s->cluster, id);
        if (!takes_part(s, id)) continue;
        if (!m->running || host_applied(m->host) < s->committed_before) return false;
    }
    return true;
}

static bool has_recovered(struct scenario *s)
{
    return s->cluster.acknowledged > s->acknowledged_before;
}

/* A while without anything new to do: what was lost before has to be made up for by itself. */
static void check_quiet(struct scenario *s)
{
    struct sim_cluster *c = &s->cluster;
    for (int id = 1; id <= c->config.nodes; id++) sim_clients_crowd(&s->clients, sim_cluster_member(c, id));
    s->clients.stopped = s->visitors.stopped = true;
    if (!run(s, SETTLE_US, is_settled)) fail_unsettled(s, "after healing, with nothing new to do,");
}

static void await_progress(struct scenario *s, const char *what, bool (*until)(struct scenario *s))
{
    struct sim_cluster *c = &s->cluster;
    s->acknowledged_before = c->acknowledged;
    if (run(s, RECOVERY_TIMEOUTS * c->config.election_timeout_us, until)) return;
    sim_check_fail(c->check, 0, "progress: nothing is %s within %u election timeouts of healing", what,
                   RECOVERY_TIMEOUTS);
}

/* All is healed: there is a leader and commits soon, every call is answered, all states are equal. Calls wait for the
 * node that they are made on, which may have to apply a long log first. */
static void check_recovery(struct scenario *s, struct sim_report *report)
{
    struct sim_cluster *c = &s->cluster;
    sim_trace_add(c->config.trace, SIM_TRACE_NOTE, sim_world_now(c->world), 0, "healed", 0, NULL);
    if (prng_chance(sim_world_prng(c->world), QUIET_PERMILLE)) check_quiet(s);
    uint64_t began_us = sim_world_now(c->world);
    s->committed_before = sim_check_committed(c->check);
    s->probe.stopped = false;
    await_progress(s, "committed", has_committed);
    report->recovery_us = MAX(report->recovery_us, sim_world_now(c->world) - began_us);
    if (!run(s, SETTLE_US, has_replayed)) fail_unsettled(s, "after healing");
    await_progress(s, "acknowledged", has_recovered);
    s->clients.stopped = s->visitors.stopped = s->probe.stopped = true;
    if (!run(s, SETTLE_US, is_settled)) fail_unsettled(s, "after healing");
    sim_watch_disks(c);
    sim_check_end(c->check);
}

/* In half of the seeds nodes that are no first members wait until they are added, by their ids. In the others they ask
 * for a place, and so does who comes in the place of one that is out: ids that are given out must not meet the
 * former. */
static void draw_newcomers(struct scenario *s, struct prng *prng)
{
    struct sim_cluster *c = &s->cluster;
    bool ask = prng_chance(prng, 500);
    for (int id = 1; id <= c->config.nodes && ask; id++) {
        struct sim_member *m = sim_cluster_member(c, id);
        m->joins = prng_chance(prng, 500) || id > c->config.first;
        if (c->config.first > 0 && id > c->config.first) m->raft_id = 0;
    }
}

static void play(struct scenario *s, struct sim_report *report)
{
    struct sim_cluster *c = &s->cluster;
    uint64_t rounds = 1 + s->options->seconds / ROUND_S;
    s->chaos.aimed = sim_clients_crowd;
    s->chaos.aimed_ctx = &s->clients;
    sim_chaos_start(&s->chaos, c, FAULTS_AFTER_US);
    sim_chaos_start_members(&s->chaos, STARTS_WITHIN_US);
    sim_clients_start(&s->clients, s->options->clients);
    s->probe = (struct sim_clients){.cluster = c, .pause_us = PROBE_PAUSE_US, .stopped = true};
    sim_clients_start(&s->probe, 1);
    sim_visitors_start(&s->visitors, c);
    for (uint64_t i = 0; i < rounds; i++) {
        if (i > 0) sim_chaos_resume(&s->chaos);
        s->clients.stopped = s->visitors.stopped = false;
        run(s, s->options->seconds * US_PER_S / rounds, NULL);
        sim_chaos_heal(&s->chaos);
        check_recovery(s, report);
    }
    if (sim_check_failure(c->check) == NULL) check_reopening(s);
}

int sim_scenario_run(const struct sim_options *options, struct sim_report *report)
{
    ASSERT(options->nodes >= 1 && options->nodes <= SIM_NODES_MAX);
    *report = (struct sim_report){0};
    struct scenario *s = mem_zero(1, sizeof(*s));
    if (s == NULL) return ERR_NOMEM;
    s->options = options;
    s->clients.cluster = &s->cluster;
    struct prng dials = {.state = ~options->seed};
    struct sim_cluster_config config = draw_config(s, &dials);
    int rv = sim_cluster_init(&s->cluster, &config);
    if (rv == OK) {
        struct sim_cluster *c = &s->cluster;
        draw_newcomers(s, &dials);
        play(s, report);
        const char *failure = sim_check_failure(c->check);
        report->ok = failure == NULL;
        if (failure != NULL) {
            snprintf(report->failure, sizeof(report->failure), "seed %" PRIu64 ": %s", options->seed, failure);
        }
        report->lease = config.lease;
        report->kinds = s->chaos.kinds;
        report->hash = sim_world_hash(c->world);
        report->events = c->events;
        report->commands = c->acknowledged;
        report->elections = c->leaders;
        report->crashes = c->crashes;
        report->changes = c->changes;
        report->snapshots = c->snapshots;
        report->restores = c->restores;
        report->repeats = c->repeats;
        report->ended = c->ended;
        report->timeout_us = config.election_timeout_us;
        report->simulated_us = sim_world_now(c->world);
        sim_cluster_free(c);
    }
    mem_free(s);
    return rv;
}
