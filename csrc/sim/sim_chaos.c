#include "sim/sim_chaos.h"

#include "core/raft.h"
#include "sim/sim_partition.h"
#include "sim/sim_trace.h"
#include "store/store.h"

const char *const sim_chaos_names[SIM_KINDS + 1] = {"network", "partitions", "links", "crashes", "pauses",
                                                    "clocks", "disks", "rot", "wipes", "members", "lies", NULL};

#define LEADER_PERMILLE 300u           /* how often the leader is hit as such */
#define DIE_OPS 60u                    /* who is to die does so within so many file operations, */
#define DIE_US (50 * US_PER_MS)        /* and within this time */
#define REPAIR_US (100 * US_PER_MS)    /* until somebody has read why a node does not start */
#define FAIL_OPS 40u                   /* what is to fail is one of so many */
#define FLAPS_MAX 20u
#define HEALED_DISK_US (2 * US_PER_MS) /* what a good disk takes for a job, at most */

static uint64_t between(struct prng *prng, uint64_t min, uint64_t max)
{
    return min + prng_below(prng, max - min + 1);
}

/* Each magnitude between min and min * 2^doublings is as likely as any other. */
static uint64_t magnitude(struct prng *prng, uint64_t min, uint64_t doublings)
{
    uint64_t least = min << prng_below(prng, doublings);
    return between(prng, least, 2 * least);
}

static struct prng *chance(const struct sim_chaos *chaos)
{
    return sim_world_prng(chaos->cluster->world);
}

static bool likely(const struct sim_chaos *chaos, uint32_t permille)
{
    return prng_chance(chance(chaos), permille);
}

static int nodes_of(const struct sim_chaos *chaos)
{
    return chaos->cluster->config.nodes;
}

/* Does fn with ctx after a time that a fault of this seed may last. */
static void later(struct sim_chaos *chaos, void (*fn)(void *ctx), void *ctx)
{
    sim_world_after(chaos->cluster->world, between(chance(chaos), 1, chaos->lasts_us), fn, ctx);
}

static bool is_leader(const struct sim_member *m)
{
    struct raft_status status;
    const struct raft *r = m->engine != NULL ? engine_raft(m->engine) : NULL;
    if (r == NULL) return false;
    raft_status_get(r, &status);
    return status.role == RAFT_LEADER;
}

static struct sim_victim *pick(struct sim_chaos *chaos)
{
    int id = (int)between(chance(chaos), 1, (uint64_t)nodes_of(chaos));
    bool leader = likely(chaos, LEADER_PERMILLE);
    for (int i = 0; leader && i < nodes_of(chaos); i++) {
        if (is_leader(chaos->victims[i].member)) id = i + 1;
    }
    struct sim_victim *v = &chaos->victims[id - 1];
    if (chaos->aimed != NULL) chaos->aimed(chaos->aimed_ctx, v->member);
    return v;
}

/* ---- lives ---- */

static void start_turn(void *ctx);

static void crash_turn(void *ctx)
{
    struct sim_victim *v = ctx;
    if (v->chaos->healed) return;
    sim_member_crash(v->member);
    if (likely(v->chaos, 300)) sim_world_after(v->chaos->cluster->world, 1, start_turn, v);
    else later(v->chaos, start_turn, v);
}

/* What its disk held is gone. */
static void lose(struct sim_victim *v)
{
    const struct sim_cluster *c = v->chaos->cluster;
    v->member->rejoins = v->chaos->rejoins && c->config.program->change != NULL;
    if (v->member->rejoins) sim_check_refilled(c->check, v->member->id);
    else sim_check_lost(c->check, v->member->id);
}

/* A rotten disk is whole after all, or what it held is lost: its store must say so, and say where. */
static void judge_rot(struct sim_victim *v)
{
    struct sim_member *m = v->member;
    struct sim_check *check = v->chaos->cluster->check;
    const struct err *e = &m->channel.start_error;
    v->rotten = m->planted = false;
    if (m->engine != NULL && engine_store(m->engine) != NULL) return;
    m->planted = true;
    v->gone = true;
    sim_trace_add(m->cluster->config.trace, SIM_TRACE_NOTE, sim_world_now(m->cluster->world), m->id, "refused", 0, "%s",
                  e->text);
    lose(v);
    if (m->rejoins) sim_world_after(m->cluster->world, REPAIR_US, start_turn, v); /* also when this was the healing */
    if (e->code == ERR_CORRUPT && strstr(e->text, m->dir) != NULL) return;
    sim_check_fail(check, m->id, "rot: told as %s: %s", err_name(e->code), e->text);
}

/* One of its next file operations fails. */
static void plant_failure(struct sim_victim *v)
{
    struct prng *prng = chance(v->chaos);
    uint64_t n = between(prng, 1, FAIL_OPS);
    v->member->planted = true;
    sim_world_fail_file(v->chaos->cluster->world, v->member->id, n, prng_chance(prng, 700) ? ERR_IO : ERR_FULL);
    later(v->chaos, crash_turn, v);
}

/* One of them is its last. */
static void plant_death(struct sim_victim *v)
{
    struct sim_world *w = v->chaos->cluster->world;
    v->member->planted = true;
    sim_world_die(w, v->member->id, between(chance(v->chaos), 1, DIE_OPS));
    sim_world_after(w, between(chance(v->chaos), 1, DIE_US), crash_turn, v);
}

void sim_chaos_start_member(struct sim_chaos *chaos, int id)
{
    struct sim_victim *v = &chaos->victims[id - 1];
    struct sim_member *m = v->member;
    bool dies = !chaos->healed && (chaos->kinds & SIM_CRASHES) != 0 && likely(chaos, 150);
    bool fails = !chaos->healed && (chaos->kinds & SIM_DISKS) != 0 && likely(chaos, 50);
    if (v->gone && !m->rejoins) return;
    if (v->gone) v->wiped = true;
    v->gone = false;
    sim_world_die(chaos->cluster->world, id, 0); /* what was planted in an earlier life */
    m->planted = v->full || v->rotten;
    if (dies) plant_death(v);
    else if (fails) plant_failure(v);
    sim_member_start(m);
    if (v->rotten && !dies && !fails && !v->full) judge_rot(v);
}

static void start_turn(void *ctx)
{
    struct sim_victim *v = ctx;
    struct sim_member *m = v->member;
    if (v->chaos->over) return;
    if (m->engine == NULL) sim_chaos_start_member(v->chaos, m->id);
    else if (m->closing) sim_world_after(m->cluster->world, 50 * US_PER_MS, start_turn, v);
}

static void strike_life(struct sim_chaos *chaos)
{
    struct sim_victim *v = pick(chaos);
    uint64_t how = prng_below(chance(chaos), 100);
    if (how < 20) {
        sim_member_close(v->member);
        later(chaos, start_turn, v);
    } else if (how < 30) {
        for (int i = 0; i < nodes_of(chaos); i++) crash_turn(&chaos->victims[i]); /* the power fails */
    } else if (how < 50 && v->member->running) {
        plant_death(v);
    } else {
        crash_turn(v);
    }
}

/* ---- the network ---- */

static void join_turn(void *ctx)
{
    struct sim_chaos *chaos = ctx;
    sim_partition_end(chaos->cluster->world, nodes_of(chaos));
}

static void strike_partition(struct sim_chaos *chaos)
{
    enum sim_shape shape = (enum sim_shape)prng_below(chance(chaos), SIM_SHAPES);
    int about = pick(chaos)->member->id;
    bool one_way = likely(chaos, 300);
    sim_partition_make(chaos->cluster->world, nodes_of(chaos), shape, about, one_way);
    later(chaos, join_turn, chaos);
}

static void unslow_turn(void *ctx)
{
    const struct sim_pair *pair = ctx;
    sim_world_slow_link(pair->chaos->cluster->world, pair->a, pair->b, 0, 0);
}

static void slow_down(struct sim_pair *pair)
{
    struct sim_chaos *chaos = pair->chaos;
    uint64_t slow_us = between(chance(chaos), 1, 2 * chaos->timeout_us);
    uint64_t byte_rate = likely(chaos, 500) ? magnitude(chance(chaos), 1000, 10) : 0;
    sim_world_slow_link(chaos->cluster->world, pair->a, pair->b, slow_us, byte_rate);
    later(chaos, unslow_turn, pair);
}

static void flap_turn(void *ctx)
{
    struct sim_pair *pair = ctx;
    struct sim_chaos *chaos = pair->chaos;
    struct sim_world *w = chaos->cluster->world;
    if (pair->flaps == 0) return; /* healed meanwhile */
    bool cut = --pair->flaps % 2 != 0;
    sim_world_cut(w, pair->a, pair->b, cut);
    sim_world_cut(w, pair->b, pair->a, cut);
    if (likely(chaos, 500)) sim_world_reset(w, pair->a, pair->b);
    if (pair->flaps > 0) sim_world_after(w, between(chance(chaos), 1, chaos->timeout_us), flap_turn, pair);
}

static void strike_link(struct sim_chaos *chaos)
{
    int a = pick(chaos)->member->id - 1, b = (int)prng_below(chance(chaos), (uint64_t)nodes_of(chaos));
    struct sim_pair *forth = &chaos->pairs[a][b], *back = &chaos->pairs[b][a];
    uint64_t how = prng_below(chance(chaos), 3);
    if (a == b) return;
    if (how == 0) {
        slow_down(forth);
        if (likely(chaos, 500)) slow_down(back);
    } else if (how == 1) {
        sim_world_reset(chaos->cluster->world, a + 1, b + 1);
    } else if (forth->flaps == 0) {
        forth->flaps = 2 * (uint32_t)between(chance(chaos), 1, FLAPS_MAX / 2);
        flap_turn(forth);
    }
}

/* ---- pauses ---- */

static void resume_engine(void *ctx)
{
    const struct sim_victim *v = ctx;
    sim_world_pause(v->chaos->cluster->world, v->member->id, false);
}

static void resume_host(void *ctx)
{
    const struct sim_victim *v = ctx;
    sim_member_pause(v->member, false);
}

static void resume_disk(void *ctx)
{
    const struct sim_victim *v = ctx;
    sim_world_stall_disk(v->chaos->cluster->world, v->member->id, false);
}

static void resume_all(void *ctx)
{
    resume_engine(ctx);
    resume_host(ctx);
    resume_disk(ctx);
}

static void strike_pause(struct sim_chaos *chaos)
{
    static void (*const resume[])(void *ctx) = {resume_engine, resume_host, resume_disk, resume_all};
    struct sim_victim *v = pick(chaos);
    uint64_t what = prng_below(chance(chaos), COUNT_OF(resume));
    bool all = resume[what] == resume_all;
    if (v->member->engine == NULL) return;
    if (all || resume[what] == resume_engine) sim_world_pause(chaos->cluster->world, v->member->id, true);
    if (all || resume[what] == resume_host) sim_member_pause(v->member, true);
    if (all || resume[what] == resume_disk) sim_world_stall_disk(chaos->cluster->world, v->member->id, true);
    later(chaos, resume[what], v);
}

/* ---- clocks ---- */

static void true_turn(void *ctx)
{
    const struct sim_victim *v = ctx;
    sim_world_set_clock(v->chaos->cluster->world, v->member->id, 1000000);
}

/* Two clocks differ by less than a tenth of an election timeout in its course: by a 25th for the rates of both, and by
 * one jump of a 25th. */
static void strike_bound_clock(struct sim_chaos *chaos, struct sim_victim *v)
{
    struct sim_world *w = chaos->cluster->world;
    struct prng *prng = chance(chaos);
    bool jumps = prng_chance(prng, 500) && sim_world_now(w) > chaos->jumped_us + 3 * chaos->timeout_us;
    if (!jumps) {
        sim_world_set_clock(w, v->member->id, between(prng, 980000, 1020000));
        return;
    }
    chaos->jumped_us = sim_world_now(w);
    sim_world_jump_clock(w, v->member->id, between(prng, 1, chaos->timeout_us / 25));
}

static void strike_clock(struct sim_chaos *chaos)
{
    struct sim_world *w = chaos->cluster->world;
    struct sim_victim *v = pick(chaos);
    struct prng *prng = chance(chaos);
    uint64_t what = prng_below(prng, 4);
    if (chaos->bound && what < 3) {
        strike_bound_clock(chaos, v);
    } else if (what == 0) {
        sim_world_set_clock(w, v->member->id, magnitude(prng, 250000, 4));
    } else if (what == 1) {
        sim_world_set_clock(w, v->member->id, 0);
        later(chaos, true_turn, v);
    } else if (what == 2) {
        sim_world_jump_clock(w, v->member->id, magnitude(prng, US_PER_MS, 22));
    } else {
        int64_t jump_us = (int64_t)magnitude(prng, US_PER_MS, 26);
        sim_world_jump_wall(w, v->member->id, prng_chance(prng, 500) ? jump_us : -jump_us);
    }
}

/* ---- disks ---- */

static void unslow_disk(void *ctx)
{
    const struct sim_victim *v = ctx;
    sim_world_slow_disk(v->chaos->cluster->world, v->member->id, 0);
}

/* Who could not start for lack of room tries it again. */
static void unfill_turn(void *ctx)
{
    struct sim_victim *v = ctx;
    v->full = false;
    sim_world_fill_disk(v->chaos->cluster->world, v->member->id, false);
    start_turn(v);
}

static void strike_disk(struct sim_chaos *chaos)
{
    struct sim_world *w = chaos->cluster->world;
    struct sim_victim *v = pick(chaos);
    struct prng *prng = chance(chaos);
    uint64_t what = prng_below(prng, 3);
    if (what == 0) {
        sim_world_slow_disk(w, v->member->id, between(prng, 1, chaos->timeout_us));
        later(chaos, unslow_disk, v);
    } else if (what == 1) {
        v->full = true;
        if (!v->member->running) v->member->planted = true; /* it may be about to make its directory */
        sim_world_fill_disk(w, v->member->id, true);
        later(chaos, unfill_turn, v);
    } else if (v->member->running) {
        plant_failure(v);
    }
}

/* ---- disks that are lost ---- */

/* May this one be lost too? A cluster that has not begun needs all of its members. */
static bool spares(const struct sim_chaos *chaos, const struct sim_victim *v)
{
    int lost = 0;
    if (sim_check_committed(chaos->cluster->check) == 0) return false;
    if ((chaos->kinds & SIM_MEMBERS) != 0) return false;
    for (int i = 0; i < nodes_of(chaos); i++) {
        const struct sim_victim *other = &chaos->victims[i];
        lost += other == v || other->rotten || other->wiped || other->gone;
    }
    return 2 * lost < nodes_of(chaos);
}

static void strike_rot(struct sim_chaos *chaos)
{
    struct sim_victim *v = pick(chaos);
    uint64_t at;
    if (v->wiped || v->gone || !spares(chaos, v)) return;
    if (sim_world_rot(chaos->cluster->world, v->member->id, &at) == NULL) return;
    v->rotten = true;
    sim_check_damaged(chaos->cluster->check, v->member->id);
    if (v->member->engine == NULL) return;
    v->member->planted = true; /* it may meet it while it reads */
    later(chaos, crash_turn, v);
}

/* Do all others that count remember whose directory this is? */
static bool is_known(const struct sim_chaos *chaos, const struct sim_victim *v)
{
    for (int i = 0; i < nodes_of(chaos); i++) {
        const struct sim_victim *other = &chaos->victims[i];
        if (other == v || other->wiped || other->gone) continue;
        const struct store *store = other->member->running ? engine_store(other->member->engine) : NULL;
        if (store == NULL || store_peer(store, (raft_id)v->member->id) == 0) return false;
    }
    return true;
}

const char *sim_chaos_wipe(struct sim_chaos *chaos, int id)
{
    struct sim_victim *v = &chaos->victims[id - 1];
    if (!spares(chaos, v)) return "no majority of disks would be left";
    if (!is_known(chaos, v)) return "not all other nodes are up and have met this one";
    sim_member_crash(v->member);
    sim_world_wipe(chaos->cluster->world, id);
    lose(v);
    v->rotten = v->gone = false;
    v->wiped = true;
    return NULL;
}

static void strike_wipe(struct sim_chaos *chaos)
{
    struct sim_victim *v = pick(chaos);
    if (v->gone || sim_chaos_wipe(chaos, v->member->id) != NULL) return;
    later(chaos, start_turn, v);
}

/* ---- members ---- */

/* Who is out for good makes room: another node begins in its place, and asks for a place in the cluster. */
static void renew(struct sim_victim *v)
{
    struct sim_member *m = v->member;
    sim_member_crash(m);
    sim_world_wipe(v->chaos->cluster->world, m->id);
    sim_check_renew(v->chaos->cluster->check, m->id);
    m->raft_id = 0;
    m->rejoins = false;
    later(v->chaos, start_turn, v);
}

static void strike_members(struct sim_chaos *chaos)
{
    const struct sim_program *program = chaos->cluster->config.program;
    struct sim_victim *v = pick(chaos);
    struct sim_member *m = v->member;
    if (program->change == NULL) return;
    if (m->joins && m->raft_id != 0 && sim_check_is_out(chaos->cluster->check, m->id)) renew(v);
    else program->change(m);
}

/* ---- all of it ---- */

static void (*const strikes[SIM_KINDS])(struct sim_chaos *chaos) = {
    NULL, strike_partition, strike_link, strike_life, strike_pause, strike_clock, strike_disk, strike_rot, strike_wipe,
    strike_members, NULL,
};

/* A rate that is nought in half of the seeds. */
static uint32_t rate(struct prng *prng, uint64_t max)
{
    bool none = prng_chance(prng, 500);
    return none ? 0 : (uint32_t)between(prng, 1, max);
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

static void draw_rates(struct sim_chaos *chaos, struct prng *prng)
{
    struct sim_faults *f = &chaos->faults;
    uint64_t timeout_us = chaos->timeout_us;
    f->network_min_us = between(prng, 50, 1000);
    f->network_max_us = f->network_min_us + between(prng, 100, timeout_us / 20);
    f->disk_min_us = between(prng, 20, 500);
    f->disk_max_us = f->disk_min_us + between(prng, 100, timeout_us / 20);
    f->torn = 700;
    f->may_double = may_double;
    if ((chaos->kinds & SIM_LIES) != 0) f->disk_lies = 20;
    if ((chaos->kinds & SIM_DISKS) != 0) {
        f->disk_max_us = f->disk_min_us + between(prng, 100, timeout_us / 2);
        f->disk_late = rate(prng, 50);
    }
    if ((chaos->kinds & SIM_NETWORK) == 0) return;
    f->frame_lost = rate(prng, 100);
    f->frame_doubled = rate(prng, 100);
    f->frame_late = rate(prng, 100);
    f->link_broken = rate(prng, 20);
    f->connect_failed = rate(prng, 300);
    f->news_lost = rate(prng, 500);
}

void sim_chaos_draw(struct sim_chaos *chaos, uint64_t seed, unsigned allowed, uint64_t election_timeout_us)
{
    struct prng prng = {.state = seed ^ UINT64_C(0xc4a05c4a05c4a05)};
    *chaos = (struct sim_chaos){.timeout_us = election_timeout_us};
    for (int i = 0; i < SIM_KINDS; i++) {
        unsigned kind = 1u << i;
        bool on = prng_chance(&prng, 600) || (allowed | SIM_MEMBERS) != SIM_ALL;
        chaos->sources[i].strike = strikes[i];
        bool for_good = (kind & (SIM_ROT | SIM_WIPES)) != 0; /* who loses a disk is out: not too soon */
        chaos->sources[i].pause_us = for_good ? magnitude(&prng, 4 * US_PER_S, 4)
                                              : magnitude(&prng, 200 * US_PER_MS, 6);
        if (on) chaos->kinds |= kind & allowed;
    }
    chaos->lasts_us = magnitude(&prng, 50 * US_PER_MS, 7);
    chaos->rejoins = (allowed | SIM_MEMBERS) == SIM_ALL && seed % 3 != 0;
    draw_rates(chaos, &prng);
}

static void source_turn(void *ctx)
{
    struct sim_source *source = ctx;
    struct sim_chaos *chaos = source->chaos;
    if (chaos->over) return;
    if (!chaos->healed) source->strike(chaos);
    sim_world_after(chaos->cluster->world, 1 + prng_below(chance(chaos), 2 * source->pause_us), source_turn, source);
}

void sim_chaos_start_members(struct sim_chaos *chaos, uint64_t us)
{
    for (int i = 0; i < nodes_of(chaos); i++) {
        sim_world_after(chaos->cluster->world, prng_below(chance(chaos), us), start_turn, &chaos->victims[i]);
    }
}

void sim_chaos_start(struct sim_chaos *chaos, struct sim_cluster *c, uint64_t us)
{
    chaos->cluster = c;
    for (int a = 0; a < c->config.nodes; a++) {
        chaos->victims[a] = (struct sim_victim){.chaos = chaos, .member = &c->members[a]};
        for (int b = 0; b < c->config.nodes; b++) {
            chaos->pairs[a][b] = (struct sim_pair){.chaos = chaos, .a = a + 1, .b = b + 1};
        }
    }
    for (int i = 0; i < SIM_KINDS; i++) {
        struct sim_source *source = &chaos->sources[i];
        source->chaos = chaos;
        if ((chaos->kinds >> i & 1u) == 0 || source->strike == NULL) continue;
        sim_world_after(c->world, us + prng_below(chance(chaos), 2 * source->pause_us), source_turn, source);
    }
}

static void heal_member(struct sim_victim *v)
{
    struct sim_member *m = v->member;
    resume_all(v);
    true_turn(v);
    unslow_disk(v);
    v->full = false;
    sim_world_fill_disk(m->cluster->world, m->id, false);
    if (m->planted) sim_member_crash(m);
    start_turn(v);
}

void sim_chaos_heal(struct sim_chaos *chaos)
{
    struct sim_cluster *c = chaos->cluster;
    struct sim_faults *f = &chaos->faults;
    struct sim_faults mild = {
        .network_min_us = f->network_min_us, .network_max_us = f->network_max_us, .torn = f->torn,
        .disk_min_us = f->disk_min_us,
        .disk_max_us = MIN(f->disk_max_us, f->disk_min_us + HEALED_DISK_US),
    };
    chaos->healed = true;
    sim_world_set_faults(c->world, &mild);
    sim_partition_end(c->world, c->config.nodes);
    for (int a = 0; a < c->config.nodes; a++) {
        for (int b = 0; b < c->config.nodes; b++) {
            unslow_turn(&chaos->pairs[a][b]);
            chaos->pairs[a][b].flaps = 0;
        }
    }
    for (int i = 0; i < c->config.nodes; i++) heal_member(&chaos->victims[i]);
}

void sim_chaos_resume(struct sim_chaos *chaos)
{
    chaos->healed = false;
    sim_world_set_faults(chaos->cluster->world, &chaos->faults);
}

void sim_chaos_stop(struct sim_chaos *chaos)
{
    chaos->over = true;
}

bool sim_chaos_lost(const struct sim_chaos *chaos, int id)
{
    const struct sim_victim *v = &chaos->victims[id - 1];
    return (v->wiped || v->gone) && !v->member->rejoins;
}
