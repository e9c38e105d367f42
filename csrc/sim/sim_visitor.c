#include "sim/sim_visitor.h"

#define BYTES_MAX 400u
#define DOUBLINGS_MAX 6u /* of the pause before a try, with each that was in vain */

static uint64_t between(struct prng *prng, uint64_t min, uint64_t max)
{
    return min + prng_below(prng, max - min + 1);
}

struct client_limits sim_visitors_draw(struct sim_visitors *v, uint64_t seed, int count)
{
    struct prng prng = {.state = seed ^ UINT64_C(0x5e5510115e551011)};
    struct client_limits limits = {0};
    ASSERT(count >= 0 && count <= SIM_VISITORS_MAX);
    *v = (struct sim_visitors){.count = count};
    if (count == 0) return limits;
    bool crowded = prng_chance(&prng, 300);
    uint64_t most = (uint64_t)count;
    limits.sessions = (uint32_t)(crowded ? between(&prng, 1, most) : between(&prng, most, 3 * most));
    limits.idle_us = between(&prng, 500, 1000) * US_PER_MS;
    limits.idle_us <<= prng_below(&prng, 8);
    v->pause_us = between(&prng, 5, 10) * US_PER_MS;
    v->pause_us <<= prng_below(&prng, 6);
    v->lost = (uint32_t)between(&prng, 0, 300);
    v->leaves = (uint32_t)between(&prng, 0, 50);
    v->away = (uint32_t)between(&prng, 0, 20);
    v->prng = prng;
    return limits;
}

/* A new command, or a session first. */
static void begin(struct sim_visitor *v)
{
    struct sim_cluster *c = v->all->cluster;
    struct prng *prng = &v->all->prng;
    if (prng_chance(prng, v->all->leaves)) v->session = 0;
    v->waits = true;
    v->tries = 0;
    v->value = 0;
    if (v->session == 0) return;
    v->value = ++c->next_value;
    v->sequence += between(prng, 1, 2);
    v->bytes = (uint32_t)prng_below(prng, BYTES_MAX);
    sim_check_propose(c->check, v->value);
}

/* The answer to one of its tries has come, or it is known that none will. */
static void told(void *ctx, uint64_t value, int code, raft_index index)
{
    struct sim_visitor *v = ctx;
    if (!v->waits || value != v->value) return; /* of an earlier thing */
    if ((code != OK && code != ERR_EXPIRED) || prng_chance(&v->all->prng, v->all->lost)) return;
    v->waits = false;
    if (code == ERR_EXPIRED) v->session = 0;
    if (value != 0 || code != OK) return;
    v->session = index;
    v->sequence = 0;
}

static void act(struct sim_visitor *v)
{
    struct sim_cluster *c = v->all->cluster;
    if (!v->waits) begin(v);
    v->tries++;
    int id = 1 + (int)prng_below(&v->all->prng, (uint64_t)c->config.nodes);
    struct sim_visit visit = {.session = v->session, .sequence = v->value != 0 ? v->sequence : 0, .value = v->value,
                              .bytes = v->bytes, .told = told, .ctx = v};
    sim_member_visit(sim_cluster_member(c, id), &visit);
}

static void visitor_turn(void *ctx)
{
    struct sim_visitor *v = ctx;
    struct sim_visitors *all = v->all;
    uint64_t pause_us = all->pause_us << MIN(v->tries, DOUBLINGS_MAX);
    if (!all->stopped) act(v);
    if (prng_chance(&all->prng, all->away)) pause_us = all->cluster->config.clients.idle_us;
    sim_world_after(all->cluster->world, between(&all->prng, 1, 2 * pause_us), visitor_turn, v);
}

void sim_visitors_start(struct sim_visitors *v, struct sim_cluster *c)
{
    v->cluster = c;
    for (int i = 0; i < v->count; i++) {
        v->list[i].all = v;
        sim_world_after(c->world, between(&v->prng, 1, 2 * v->pause_us), visitor_turn, &v->list[i]);
    }
}
