/* The engine half of a node: joins core, store and links, and never blocks. It is a set of io_events; one
 * thread (or the simulator) calls it.
 *
 * One turn: events step the core; then, once for the whole burst, ready batches are handed to store, links and host.
 * Everything that arrived in one burst becomes one disk write, one frame a follower, one reply. */
#ifndef RAFT_SERVER_ENGINE_H
#define RAFT_SERVER_ENGINE_H

#include "server/channel.h"

#pragma GCC visibility push(hidden)

struct engine;
struct raft_tap;

struct engine_config {
    const char *dir;
    const char *name;             /* of the cluster */
    raft_id id;                   /* 0 = as the directory knows */
    struct members members;       /* first members; used while the directory is empty */
    const char *listen;           /* NULL = this member's address in the list */
    uint64_t election_timeout_us, heartbeat_us;
    uint64_t host_timeout_us;     /* a host that has something to apply and does not go on for so long stands still */
    uint32_t pending;             /* most proposals of this node open at once */
    uint32_t command_bytes;       /* largest payload */
    uint32_t cache_bytes;         /* most memory for the log: recent entries, and what is on its way to the
                                     disk and to peers */
    uint64_t segment_bytes;       /* 0 = the default */
    uint32_t spares;              /* segments kept ready */
    char join[RAFT_MEMBERS_MAX][ADDRESS_MAX + 1]; /* members to ask for a place, instead of being a first member */
    uint8_t n_join;               /* 0 = not */
    bool lease;                   /* reads may rest on leases (raft_config.lease); the same on all members */
    int32_t priority;             /* who shall rather lead (raft_config.priority) */
    bool rejoin;                  /* a directory that is lost or damaged is made anew (store_config.rejoin) */
    uint64_t keep;                /* entries that stay in the log behind a snapshot, for followers that are behind */
    const struct raft_tap *tap;   /* who watches the core (core/raft.h); NULL = nobody */
};

/* Copies the config. NULL: no memory. channel outlives the engine. */
struct engine *engine_new(const struct engine_config *config, struct channel *channel);

/* On the engine's thread, before its events run: recovers the directory, listens, starts the core. The result goes to
 * the host as NOTICE_STARTED. Returns an error when nothing is held and no event is to be delivered; OK when events
 * are: also when a late step failed and the directory must be closed in an orderly way first (NOTICE_STARTED then comes
 * with the error, followed by io_stop). */
int engine_start(struct engine *e);

/* After REQUEST_CLOSE the engine (a leader hands over first) closes links and store, pushes NOTICE_CLOSED and calls
 * io_stop. */

/* After its thread has ended (or after engine_start failed, or was never called). NULL is allowed. */
void engine_free(struct engine *e);
/* As engine_free, of an engine whose world has died with all links and jobs (a simulated crash): makes no call of
 * io. */
void engine_abandon(struct engine *e);

/* The core, for checks in the simulator; NULL before start and after close. */
struct raft;
const struct raft *engine_raft(const struct engine *e);
/* Its log and what it remembers of its peers; NULL likewise. */
struct store;
const struct store *engine_store(const struct engine *e);

#pragma GCC visibility pop

#endif
