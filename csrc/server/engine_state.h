/* The state of an engine, shared by its files: engine.c (life, events, requests), proposals.c (to the leader), ready.c
 * (what the core wants done), feed.c (committed entries to the host), ranges.c (entries that are not in memory), status.c,
 * fault.c. */
#ifndef RAFT_SERVER_ENGINE_STATE_H
#define RAFT_SERVER_ENGINE_STATE_H

#include "core/raft.h"
#include "server/engine.h"
#include "server/links.h"
#include "server/pending.h"
#include "store/store.h"

#pragma GCC visibility push(hidden)

enum engine_phase { ENGINE_NEW, ENGINE_RUNNING, ENGINE_FAILED, ENGINE_CLOSING, ENGINE_CLOSED };

/* A batch lent to the host, in a list so that it can be freed when the host never gives it back. */
struct lent {
    struct apply_batch *batch;
    struct lent *next;
};

/* Committed entries on their way to the host. */
struct feed {
    raft_index next, commit;  /* next one to hand over; last one that may be */
    struct lent *lent;
    uint32_t n_lent;
    bool reading;
    struct store_read read;   /* of entries that are not in memory */
};

/* An append to one peer of entries that are not in memory. */
struct range {
    struct engine *engine;
    bool reading;
    struct raft_message message;
    struct store_read read;
};

/* A member's incarnation on its way to the disk. */
struct remembering {
    struct engine *engine;
    raft_id id;
};

struct engine {
    struct engine_config config;      /* strings below */
    char *dir, *name, *listen;
    struct channel *channel;
    struct io *io;
    enum engine_phase phase;
    struct store *store;
    struct store_identity identity;
    uint64_t epoch;
    struct members members;
    struct raft *raft;
    struct links *links;
    struct io_server *server;
    struct pending pending;
    struct feed feed;
    struct range ranges[RAFT_MEMBERS_MAX]; /* beside members.list */
    struct remembering remembering[RAFT_MEMBERS_MAX]; /* beside members.list */
    raft_id leader;                   /* proposals go to it, in its term: a change sends them again */
    raft_term leader_term;
    uint64_t retry_at_us;             /* proposals that were refused for now are tried again */
    uint64_t resend_at_us;            /* ... and those of which nothing was heard */
    uint64_t stalled_us;              /* start of the write whose stall has been reacted to; 0 = none stalls */
    uint64_t alarmed_us;              /* when the last alarm rang */
    struct err fault;                 /* what stopped this node */
    int start_code;                   /* ERR_: starting failed late, told when all is closed */
    struct raft_status seen;          /* at the last publication: changes are news */
    bool seen_ready;
    uint64_t publish_at_us;
    bool news;
};

/* fault.c */
/* Stops taking part, for good: the reason is told by status. What is open is ended at the end of the turn. */
void engine_fail(struct engine *e, const struct err *reason);

/* proposals.c */
void proposals_add(struct engine *e, struct block *block);
void proposals_cancel(struct engine *e, uint64_t sequence);
/* Sends what is to be sent to the present leader. */
void proposals_flush(struct engine *e);
void proposals_on_forward(struct engine *e, raft_id from, const struct frame *f);
void proposals_on_forward_reply(struct engine *e, raft_id from, const struct frame *f);
/* Ends all of them: code for those that were never handed over, ERR_UNKNOWN for the others. */
void proposals_end(struct engine *e, int code);

/* ready.c */
/* Hands everything the core has ready to store, peers and feed. */
void ready_drain(struct engine *e);

/* feed.c */
void feed_pump(struct engine *e);
void feed_applied(struct engine *e, struct apply_batch *batch);
void feed_free(struct engine *e);

/* status.c */
/* Publishes the status when there is news, or when it is time. */
void status_publish(struct engine *e, uint64_t now);

/* ranges.c */
/* Reads the entries that an APPEND names, and sends it. */
void range_send(struct engine *e, const struct raft_message *m);

#pragma GCC visibility pop

#endif
