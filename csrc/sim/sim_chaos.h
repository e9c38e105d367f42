/* The faults that a seed brings upon a cluster.
 *
 * They are a swarm: each seed turns its own choice of kinds on, each at a rate of its own, since a run that has a
 * little of everything rarely gets far into anything. A kind has a source that strikes again and again, and most of
 * what it does is undone after a while. sim_chaos_heal undoes all of it at once.
 *
 * Disks that are lost for good (rotten, wiped) stay within what a cluster promises to survive: never more than a
 * minority of them, counted over the whole run, so that a majority keeps all that it ever held; a node is wiped only
 * when all others know it (a voter that nobody remembers cannot be told from a new one), and never are old bytes
 * damaged whose damage no log can tell from a torn write (sim_world_rot). What is refused for its rot stays down. Where
 * members change no disk is lost: any minority of them may become a majority. */
#ifndef RAFT_SIM_SIM_CHAOS_H
#define RAFT_SIM_SIM_CHAOS_H

#include "sim/sim_cluster.h"

#pragma GCC visibility push(hidden)

/* Kinds of faults, as bits; sim_chaos_names[i] is the name of bit i, NULL ends it. */
enum {
    SIM_NETWORK = 1,    /* frames lost, doubled, late, cut off; connections that fail, break, stay half open */
    SIM_PARTITIONS = 2, /* groups of nodes that do not reach each other, in one direction or both */
    SIM_LINKS = 4,      /* between two nodes: slow, flapping, reset */
    SIM_CRASHES = 8,    /* at any event, of one or of all, also while starting; and orderly restarts */
    SIM_PAUSES = 16,    /* of an engine, a host, a disk, or all of a process */
    SIM_CLOCKS = 32,    /* that run at wrong rates, stand still, jump */
    SIM_DISKS = 64,     /* slow, full, failing */
    SIM_ROT = 128,      /* old bytes on a disk change */
    SIM_WIPES = 256,    /* a node comes back with an empty disk */
    SIM_MEMBERS = 512,  /* members are added, promoted, demoted, moved, removed, and come back as new ones */
    SIM_LIES = 1024,    /* disks that do not write what they say: a check must fail */
    SIM_ALL = 1023,     /* but lies */
};
#define SIM_KINDS 11
extern const char *const sim_chaos_names[SIM_KINDS + 1];

/* What strikes again and again. */
struct sim_source {
    struct sim_chaos *chaos;
    void (*strike)(struct sim_chaos *chaos);
    uint64_t pause_us; /* between two, on average */
};

/* A member, as chaos sees it. */
struct sim_victim {
    struct sim_chaos *chaos;
    struct sim_member *member;
    bool full;   /* its disk is */
    bool rotten; /* its disk is damaged, and it may not know yet */
    bool wiped;  /* it has come back, or will, with an empty disk: the others refuse it, unless it rejoins */
    bool gone;   /* its rot was found: it stays down, unless it rejoins */
};

/* Two members, and the way between them. */
struct sim_pair {
    struct sim_chaos *chaos;
    int a, b;
    uint32_t flaps; /* left */
};

struct sim_chaos {
    unsigned kinds;           /* on in this seed */
    struct sim_faults faults; /* the world's rates while it goes on: for the cluster's config */
    uint64_t timeout_us, lasts_us; /* lasts: how long a fault lasts, at most */
    struct sim_source sources[SIM_KINDS];
    struct sim_cluster *cluster;
    void (*aimed)(void *ctx, struct sim_member *m); /* a fault is about to strike this member; may be NULL */
    void *aimed_ctx;
    struct sim_victim victims[SIM_NODES_MAX]; /* of member id at id - 1 */
    struct sim_pair pairs[SIM_NODES_MAX][SIM_NODES_MAX];
    bool bound;   /* reads rest on leases: clocks run apart by less than those allow */
    uint64_t jumped_us; /* when a clock has last jumped, if they are bound */
    bool rejoins; /* who has lost its disk is started with the word to be admitted anew: in two seeds of three that
                     bring all kinds; where kinds are named it stays lost, as their specs want to see */
    bool healed; /* nothing strikes any more */
    bool over;   /* and nobody is started any more */
};

/* Draws what this seed has in store: of SIM_ALL, with SIM_MEMBERS or without, a choice of kinds, else all that are
 * named. Given by name, the kinds that a seed has chosen make the same run. */
void sim_chaos_draw(struct sim_chaos *chaos, uint64_t seed, unsigned allowed, uint64_t election_timeout_us);
/* The first fault strikes after `us`. chaos stays where it is as long as the cluster runs. */
void sim_chaos_start(struct sim_chaos *chaos, struct sim_cluster *c, uint64_t us);
/* Undoes all faults; who is down is started, but for those whose rot was found. */
void sim_chaos_heal(struct sim_chaos *chaos);
/* The same faults begin again. Precondition: healed. */
void sim_chaos_resume(struct sim_chaos *chaos);
/* Whatever was still to come does not: nobody is started any more but by sim_chaos_start_member. */
void sim_chaos_stop(struct sim_chaos *chaos);

/* Starts all members, each at a moment of its own within us. */
void sim_chaos_start_members(struct sim_chaos *chaos, uint64_t us);
/* Starts a member that is down; where crashes are on it may be made to die on the way. */
void sim_chaos_start_member(struct sim_chaos *chaos, int id);
/* Crashes a member and empties its disk. NULL, or why that would be more than a cluster promises to survive. */
const char *sim_chaos_wipe(struct sim_chaos *chaos, int id);
/* Its disk was wiped, or is refused for its rot, and it does not rejoin: it takes no part any more. */
bool sim_chaos_lost(const struct sim_chaos *chaos, int id);

#pragma GCC visibility pop

#endif
