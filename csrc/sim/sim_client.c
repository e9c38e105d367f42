#include "sim/sim_client.h"

#define BURST_MAX 40u
#define CROWD_PERMILLE 300u
#define CROWD_LARGE_PERMILLE 100u
#define SMALL_MAX 200u /* bytes of a small command */

static uint32_t draw_bytes(struct sim_clients *clients, struct prng *prng, uint32_t large)
{
    uint32_t limit = clients->cluster->config.command_bytes;
    if (!prng_chance(prng, large)) return (uint32_t)prng_below(prng, SMALL_MAX);
    return (uint32_t)prng_below(prng, limit + limit / 16); /* some are too large */
}

void sim_clients_crowd(void *ctx, struct sim_member *m)
{
    struct sim_clients *clients = ctx;
    struct prng *prng = sim_world_prng(clients->cluster->world);
    if (clients->stopped || !prng_chance(prng, CROWD_PERMILLE)) return;
    uint32_t large = prng_chance(prng, CROWD_LARGE_PERMILLE) ? 1000 : clients->large;
    for (uint64_t burst = 1 + prng_below(prng, BURST_MAX); burst > 0; burst--) {
        sim_member_propose(m, draw_bytes(clients, prng, large));
    }
}

static void act(struct sim_clients *clients)
{
    struct sim_cluster *c = clients->cluster;
    struct prng *prng = sim_world_prng(c->world);
    struct sim_member *m = sim_cluster_member(c, 1 + (int)prng_below(prng, (uint64_t)c->config.nodes));
    uint64_t what = prng_below(prng, 100);
    if (prng_chance(prng, clients->transfers)) {
        uint64_t target = prng_below(prng, (uint64_t)c->config.nodes + 1);
        sim_member_transfer(m, target == 0 ? 0 : sim_cluster_member(c, (int)target)->raft_id);
    } else if (what < 5) {
        sim_member_barrier(m);
    } else if (what < 12) {
        sim_member_read(m, c->config.lease && prng_chance(prng, 500));
    } else if (what < 15 && m->running && m->n_calls > 0) {
        host_cancel(m->host, m->calls[prng_below(prng, m->n_calls)].sequence);
    } else {
        uint64_t burst = what >= 95 ? 1 + prng_below(prng, BURST_MAX) : 1;
        while (burst-- > 0) sim_member_propose(m, draw_bytes(clients, prng, clients->large));
    }
}

static void client_turn(void *ctx)
{
    struct sim_clients *clients = ctx;
    struct sim_cluster *c = clients->cluster;
    if (!clients->stopped) act(clients);
    sim_world_after(c->world, 1 + prng_below(sim_world_prng(c->world), 2 * clients->pause_us), client_turn, clients);
}

void sim_clients_start(struct sim_clients *clients, int count)
{
    ASSERT(count >= 1 && count <= SIM_CLIENTS_MAX && clients->pause_us > 0);
    for (int i = 0; i < count; i++) sim_world_after(clients->cluster->world, 1 + (uint64_t)i, client_turn, clients);
}
