/* The simulated network: links are pipes with two ends; what travels through them are events.
 *
 * An end is gone when its engine closed it, was told that it is closed, or died; the other end then hears of it by an
 * event that a partition can swallow. A pipe lives until both ends are gone and no event refers to it.
 *
 * Connections are made, and bytes are received, by a node's system: a process that is paused hears of it later.
 * The functions named like those of struct io are what these are for one node; their contracts are in base/io.h. */
#ifndef RAFT_SIM_SIM_NET_H
#define RAFT_SIM_SIM_NET_H

#include "sim/sim_node.h"

#pragma GCC visibility push(hidden)

/* The way from one node to another. */
struct sim_path {
    bool cut;
    uint64_t slow_us;   /* what it takes longer, at most */
    uint64_t byte_rate; /* of each link, a second; 0 = no limit */
};

struct sim_net {
    struct sim_queue *queue;
    const struct sim_faults *faults;
    struct sim_node *nodes; /* node n at n - 1 */
    struct io_server *servers;
    struct sim_pipe *pipes;
    struct sim_path paths[SIM_NODES_MAX + 1][SIM_NODES_MAX + 1]; /* from, to; 0: nobody yet */
    void (*sent)(void *ctx, int node, const struct buf *bytes);
    void *sent_ctx;
};

void sim_net_free(struct sim_net *net); /* precondition: no event refers to it any more (sim_net_drop) */
/* See sim_world_reset. */
void sim_net_reset(struct sim_net *net, int a, int b);
void sim_net_crash(struct sim_net *net, int node); /* links break, addresses are free again */
bool sim_net_quiet(const struct sim_net *net, int node); /* neither links nor addresses */

/* Runs an event, SIM_NET_SYN .. SIM_NET_CLOSED. */
void sim_net_event(struct sim_net *net, const struct sim_event *event);
/* The node whose process is told by this event; 0 = none. */
int sim_net_told(const struct sim_net *net, const struct sim_event *event);
/* Frees what an event that never runs holds. */
void sim_net_drop(struct sim_net *net, const struct sim_event *event);

int sim_net_listen(struct io *io, const char *address, struct io_server **server, struct err *e);
void sim_net_unlisten(struct io *io, struct io_server *server);
int sim_net_connect(struct io *io, const char *address, struct io_link **link, struct err *e);
int sim_net_send(struct io *io, struct io_link *link, struct buf *frame);
size_t sim_net_queued(struct io *io, struct io_link *link);
void sim_net_close_link(struct io *io, struct io_link *link);

#pragma GCC visibility pop

#endif
