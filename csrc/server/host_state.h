/* The state of the host half, shared by its files: host.c (calls, apply, notices) and host_snapshot.c (taking and
 * restoring snapshots). */
#ifndef RAFT_SERVER_HOST_STATE_H
#define RAFT_SERVER_HOST_STATE_H

#include "server/host.h"
#include "server/sessions.h"

#pragma GCC visibility push(hidden)

/* An open call: a proposal or a barrier of this node whose end the caller has not been told. */
struct call {
    bool open, cancelled;
    uint8_t type;             /* of its entry */
    uint32_t bytes;
    uint64_t client, command; /* of a program outside: its session (0: it wants one), and the command's number there */
};

/* Records of a part that is being loaded. */
struct host_records {
    struct reader from;
    uint32_t left; /* so many of the machine's at most, now */
    uint64_t total; /* of the snapshot: the host's and the machine's */
};

struct host {
    struct channel *channel;
    struct host_machine machine;
    void *ctx;
    struct host_config config;

    struct call *calls;          /* a ring: the call with this sequence at sequence & calls_mask */
    size_t calls_mask;
    uint64_t lowest, next;       /* sequences lowest .. next - 1 are in the ring; lowest is open, or lowest == next */
    uint32_t pending;
    uint64_t pending_bytes;

    struct apply_batch *batch;   /* being applied */
    uint32_t batch_at;
    uint32_t entries_left;       /* of those, and of records, that this step may take */
    struct entry entry;          /* at batch_at */
    bool handed;                 /* the machine has it, and may go on from it */
    uint64_t node, epoch;
    uint64_t read_bytes;         /* of the directory, as told last */
    bool started, closing, closed, halted, stepping;

    /* The replicated state, at one index. */
    raft_index applied;
    raft_term applied_term;
    uint64_t applied_time_us;    /* the leader's clock at that entry; never falls */
    struct sessions sessions;
    struct clients clients;
    struct buf conf;             /* wire/conf.h */
    struct buf result;           /* of a client's command, while it is applied */

    /* Asks. */
    uint64_t asked;              /* number of the newest, without HOST_FIRST_ASK; of no other life of this node, whose
                                    answers may still come */
    uint32_t n_asks;             /* under way */
    struct ask *answered;        /* those that wait until their index is applied here */

    /* Snapshots. */
    struct snapshot_order *order; /* being made; NULL: none is. The engine's as soon as it was handed over */
    bool restoring;              /* a part has come, the last one was not loaded */
    struct restore_part *part;   /* being loaded */
    struct host_records records; /* of it, not loaded yet */
    uint64_t ordered_us, retry_at_us;
    uint64_t bytes, entries;     /* applied since the last one */
    raft_index snapshot;         /* index of the newest one that this half knows of, */
    uint64_t snapshot_size;      /* and its bytes */
};

/* host_asks.c */
void host_on_answered(struct host *h, struct ask *ask);
/* Reads whose index is applied now are answered. */
void host_asks_applied(struct host *h);
void host_asks_cancel(struct host *h, uint64_t number);
void host_asks_end(struct host *h); /* of a node that is closed */
void host_asks_free(struct host *h);

/* host.c */
/* The machine cannot go on: neither can this node, whose state would differ from the others'. */
void host_halt(struct host *h);
/* Ends an open call, and tells; nothing when it is not open. */
void host_call_end(struct host *h, uint64_t sequence, int code, raft_index index);
/* The same with what the client's last command came to. */
void host_call_repeat(struct host *h, uint64_t sequence, const struct client *client);

/* host_snapshot.c */
/* Between two entries: is it time for a snapshot? */
bool host_snapshot_is_due(const struct host *h);
void host_snapshot_if_due(struct host *h);
void host_on_snapshot(struct host *h, struct snapshot_order *order);
void host_on_restore(struct host *h, struct restore_part *part);
/* Loads some of the part. */
void host_restore_next(struct host *h);

#pragma GCC visibility pop

#endif
