#include "sim/sim_scenario.h"

#include "base/mem.h"
#include "wire/frame.h"

#include <stdio.h>

#define RECOVERY_TIMEOUTS 20u            /* election timeouts are T .. 2T: ten of the longest */
#define SETTLE_US (30 * US_PER_S)        /* until every call is answered and all states are equal */
#define CLOSE_US (20 * US_PER_S)
#define DOWN_MAX_US (3 * US_PER_S)       /* how long a fault lasts at most */

struct scenario {
    struct sim_cluster cluster;
    struct sim_clients clients;
    const struct sim_options *options;
    unsigned kinds;        /* of faults, in this seed */
    uint64_t pause_us;     /* between two faults, on average */
    bool full[SIM_NODES_MAX];
    bool calm;             /* healed: no more faults */
    bool ending;           /* settled: nobody is to be started by what chaos has left behind */
    uint64_t acknowledged_before; /* the healing */
};

static struct scenario *scenario_of(struct sim_member *m)
{
    return CONTAINER_OF(m->cluster, struct scenario, cluster);
}

/* ---- dials ---- */

static uint64_t between(struct prng *prng, uint64_t min, uint64_t max)
{
    return min + prng_below(prng, max - min + 1);
}

/* A rate that is nought in half of the seeds. */
static uint32_t rate(struct prng *prng, uint64_t max)
{
    return prng_chance(prng, 500) ? 0 : (uint32_t)between(prng, 1, max);
}

/* A stream never doubles what it carries, and forwarded proposals rely on that to know what was certainly not taken;
 * the core's messages must stand it. */
static bool may_double(const uint8_t *frames, size_t size)
{
    for (size_t at = 0; at + FRAME_HEADER <= size; at += FRAME_HEADER + get_u32(frames + at + 12)) {
        if (frames[at + 4] != FRAME_MESSAGE) return false;
    }
    return true;
}

static void draw_faults(struct scenario *s, struct prng *prng, struct sim_faults *faults, uint64_t timeout_us)
{
    faults->network_min_us = between(prng, 50, 1000);
    faults->network_max_us = faults->network_min_us + between(prng, 100, timeout_us / 20);
    faults->disk_min_us = between(prng, 20, 500);
    faults->disk_max_us = faults->disk_min_us + between(prng, 100, timeout_us / (prng_chance(prng, 250) ? 2 : 20));
    faults->torn = 700;
    if ((s->kinds & SIM_LIES) != 0) faults->disk_lies = 20;
    if ((s->kinds & SIM_NETWORK) == 0) return;
    faults->frame_lost = rate(prng, 100);
    faults->frame_doubled = rate(prng, 100);
    faults->may_double = may_double;
    faults->frame_late = rate(prng, 100);
    faults->link_broken = rate(prng, 20);
    faults->connect_failed = rate(prng, 300);
}

static struct sim_cluster_config draw_config(struct scenario *s, struct prng *prng)
{
    uint64_t timeout_us = between(prng, 150, 1000) * US_PER_MS;
    struct sim_cluster_config config = {
        .seed = s->options->seed,
        .nodes = s->options->nodes,
        .election_timeout_us = timeout_us,
        .heartbeat_us = timeout_us / between(prng, 4, 10),
        .pending = (uint32_t)between(prng, 8, 512),
        .command_bytes = 16384,
        .cache_bytes = (uint32_t)between(prng, 4096, 262144),
        .segment_bytes = 65536 * between(prng, 1, 4),
        .host_entries = (uint32_t)between(prng, 1, 256),
    };
    for (unsigned kind = 1; kind <= SIM_LIES; kind *= 2) {
        if ((s->options->faults & kind) != 0 && (kind == SIM_LIES || prng_chance(prng, 700))) s->kinds |= kind;
    }
    draw_faults(s, prng, &config.faults, timeout_us);
    s->pause_us = between(prng, 50, 1500) * US_PER_MS;
    s->clients.pause_us = between(prng, 3, 100) * US_PER_MS;
    s->clients.large = rate(prng, 100);
    return config;
}

/* ---- lives ---- */

static void crash_turn(void *ctx);
static void start_turn(void *ctx);

static void member_start(struct sim_member *m)
{
    struct scenario *s = scenario_of(m);
    struct sim_world *w = m->cluster->world;
    struct prng *prng = sim_world_prng(w);
    bool dies = !s->calm && (s->kinds & SIM_CRASHES) != 0 && prng_chance(prng, 150);
    if (dies) sim_world_die(w, m->id, between(prng, 1, 60));
    m->planted = dies || s->full[m->id - 1];
    sim_member_start(m);
    if (dies) sim_world_after(w, between(prng, 1, 50 * US_PER_MS), crash_turn, m);
}

static void start_turn(void *ctx)
{
    struct sim_member *m = ctx;
    if (scenario_of(m)->ending) return;
    if (m->engine == NULL) member_start(m);
    else if (m->closing) sim_world_after(m->cluster->world, 50 * US_PER_MS, start_turn, m);
}

static void crash_turn(void *ctx)
{
    struct sim_member *m = ctx;
    struct scenario *s = scenario_of(m);
    struct sim_world *w = m->cluster->world;
    struct prng *prng = sim_world_prng(w);
    if (s->calm) return;
    sim_member_crash(m);
    uint64_t down_us = prng_chance(prng, 300) ? 1 : between(prng, 1, DOWN_MAX_US);
    sim_world_after(w, down_us, start_turn, m);
}

/* ---- faults that are undone ---- */

static void cut_clear(struct sim_cluster *c)
{
    for (int a = 1; a <= c->config.nodes; a++) {
        for (int b = 1; b <= c->config.nodes; b++) sim_world_cut(c->world, a, b, false);
    }
}

/* Splits the nodes at random, or cuts single links at random; both ways or one. */
static void cut_draw(struct sim_cluster *c)
{
    struct prng *prng = sim_world_prng(c->world);
    bool split = prng_chance(prng, 600), one_way = prng_chance(prng, 300);
    uint64_t side = prng_next(prng);
    cut_clear(c);
    for (int a = 1; a <= c->config.nodes; a++) {
        for (int b = 1; b < a; b++) {
            bool cut = split ? (side >> a & 1) != (side >> b & 1) : prng_chance(prng, 300);
            bool forth = !one_way || (side >> a & 1) != 0;
            if (cut && forth) sim_world_cut(c->world, a, b, true);
            if (cut && (!one_way || !forth)) sim_world_cut(c->world, b, a, true);
        }
    }
}

static void uncut_turn(void *ctx)
{
    cut_clear(ctx);
}

static void unstall_turn(void *ctx)
{
    struct sim_member *m = ctx;
    sim_world_stall_disk(m->cluster->world, m->id, false);
}

static void unfill_turn(void *ctx)
{
    struct sim_member *m = ctx;
    scenario_of(m)->full[m->id - 1] = false;
    sim_world_fill_disk(m->cluster->world, m->id, false);
}

static void unpause_turn(void *ctx)
{
    sim_member_pause(ctx, false);
}

/* ---- chaos ---- */

static void harm_life(struct sim_member *m)
{
    struct sim_world *w = m->cluster->world;
    struct prng *prng = sim_world_prng(w);
    if (prng_chance(prng, 800)) {
        crash_turn(m);
    } else {
        sim_member_close(m);
        sim_world_after(w, between(prng, 1, DOWN_MAX_US), start_turn, m);
    }
}

static void harm_disk(struct scenario *s, struct sim_member *m, uint64_t lasts_us)
{
    struct sim_world *w = s->cluster.world;
    struct prng *prng = sim_world_prng(w);
    uint64_t what = prng_below(prng, 3);
    if (what == 0) {
        sim_world_stall_disk(w, m->id, true);
        sim_world_after(w, lasts_us, unstall_turn, m);
    } else if (what == 1) {
        s->full[m->id - 1] = true;
        sim_world_fill_disk(w, m->id, true);
        sim_world_after(w, lasts_us, unfill_turn, m);
    } else if (m->running) {
        m->planted = true;
        sim_world_fail_file(w, m->id, between(prng, 1, 30), prng_chance(prng, 700) ? ERR_IO : ERR_FULL);
        sim_world_after(w, lasts_us, crash_turn, m);
    }
}

static void chaos_turn(void *ctx)
{
    struct scenario *s = ctx;
    struct sim_world *w = s->cluster.world;
    struct prng *prng = sim_world_prng(w);
    if (s->calm) return;
    struct sim_member *m = sim_cluster_member(&s->cluster, (int)between(prng, 1, (uint64_t)s->options->nodes));
    uint64_t lasts_us = between(prng, 1, DOWN_MAX_US);
    unsigned kind = SIM_PARTITIONS << prng_below(prng, 4);
    if ((s->kinds & kind) == SIM_PARTITIONS) {
        cut_draw(&s->cluster);
        sim_world_after(w, lasts_us, uncut_turn, &s->cluster);
    } else if ((s->kinds & kind) == SIM_CRASHES) {
        harm_life(m);
    } else if ((s->kinds & kind) == SIM_DISKS) {
        harm_disk(s, m, lasts_us);
    } else if ((s->kinds & kind) == SIM_HOSTS) {
        sim_member_pause(m, true);
        sim_world_after(w, lasts_us, unpause_turn, m);
    }
    sim_world_after(w, 1 + prng_below(prng, 2 * s->pause_us), chaos_turn, s);
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

static void heal(struct scenario *s)
{
    struct sim_cluster *c = &s->cluster;
    struct sim_faults mild = c->config.faults;
    s->calm = true;
    mild.frame_lost = mild.frame_doubled = mild.frame_late = mild.link_broken = mild.connect_failed = 0;
    mild.disk_lies = 0;
    mild.disk_max_us = MIN(mild.disk_max_us, mild.disk_min_us + c->config.election_timeout_us / 20);
    sim_world_set_faults(c->world, &mild);
    cut_clear(c);
    for (int id = 1; id <= c->config.nodes; id++) {
        struct sim_member *m = sim_cluster_member(c, id);
        unstall_turn(m);
        unfill_turn(m);
        sim_member_pause(m, false);
        if (m->planted) sim_member_crash(m);
        start_turn(m);
    }
}

static bool is_settled(struct scenario *s)
{
    struct sim_cluster *c = &s->cluster;
    for (int id = 1; id <= c->config.nodes; id++) {
        struct sim_member *m = sim_cluster_member(c, id);
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
    s->ending = true;
    for (int id = 1; id <= c->config.nodes; id++) sim_member_close(sim_cluster_member(c, id));
    if (!run(s, CLOSE_US, is_closed)) {
        sim_check_fail(c->check, 0, "convergence: not every node closes within %" PRIu64 " s", CLOSE_US / US_PER_S);
        return;
    }
    for (int id = 1; id <= c->config.nodes; id++) member_start(sim_cluster_member(c, id));
    if (run(s, SETTLE_US, is_settled)) sim_check_end(c->check);
    else fail_unsettled(s, "after opening again");
}


static bool has_recovered(struct scenario *s)
{
    return s->cluster.acknowledged > s->acknowledged_before;
}

static void play(struct scenario *s, struct sim_report *report)
{
    struct sim_cluster *c = &s->cluster;
    struct prng *prng = sim_world_prng(c->world);
    for (int id = 1; id <= c->config.nodes; id++) {
        sim_world_after(c->world, prng_below(prng, 100 * US_PER_MS), start_turn, sim_cluster_member(c, id));
    }
    sim_clients_start(&s->clients, s->options->clients);
    sim_world_after(c->world, US_PER_S, chaos_turn, s);
    run(s, s->options->seconds * US_PER_S, NULL);

    heal(s);
    uint64_t healed_us = sim_world_now(c->world);
    s->acknowledged_before = c->acknowledged;
    if (!run(s, RECOVERY_TIMEOUTS * c->config.election_timeout_us, has_recovered)) {
        sim_check_fail(c->check, 0, "progress: nothing is acknowledged within 10 election timeouts of healing");
    }
    report->recovery_us = sim_world_now(c->world) - healed_us;
    s->clients.stopped = true;
    if (!run(s, SETTLE_US, is_settled)) fail_unsettled(s, "after healing");
    sim_check_end(c->check);
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
        play(s, report);
        const char *failure = sim_check_failure(c->check);
        report->ok = failure == NULL;
        if (failure != NULL) {
            snprintf(report->failure, sizeof(report->failure), "seed %" PRIu64 ": %s", options->seed, failure);
        }
        report->hash = sim_world_hash(c->world);
        report->events = c->events;
        report->commands = c->acknowledged;
        report->elections = c->leaders;
        report->crashes = c->crashes;
        report->simulated_us = sim_world_now(c->world);
        sim_cluster_free(c);
    }
    mem_free(s);
    return rv;
}
