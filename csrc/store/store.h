/* The durable log of one node, with its term and vote in it; identities and the directory's lock.
 *
 * Why a log of our own: one durable write per batch, nothing else to sync. Segments are preallocated and zero-filled on
 * the bulk lane before they are needed, and recycled when released (a fresh salt per use makes old content invalid), so
 * that an append changes no metadata and waits for nothing. Term and vote travel in the batch that needs them.
 *
 * Group commit: one write is in flight at a time; whatever is appended meanwhile forms the next one. Batch N+1 is
 * written only after N is durable, hence a valid later batch proves that an earlier one was whole: damage before it is
 * rot and is refused; damage with no valid batch after it is a torn tail and is cut. An idle or closing log writes a
 * seal, so that rot in the last acknowledged batch is told from a torn tail as well. The layout of the bytes is in
 * store/format.h.
 *
 * All functions are called on the engine's thread; the callbacks of a store come there too. The store does not know
 * consensus: it keeps what it is given and gives back what it kept.
 *
 * Directory: lock (the held lock), identity (who this is), peers (incarnations of the others), epoch (which life this
 * is), NNNNNNNN.seg (segments: in use or ready, told by their headers), spare-NNNNNNNN.tmp (being prepared). */
#ifndef RAFT_STORE_STORE_H
#define RAFT_STORE_STORE_H

#include "base/io.h"
#include "core/raft.h"
#include "wire/entry.h"

#pragma GCC visibility push(hidden)

struct store;

#define STORE_NAME_MAX 64u
#define STORE_LIST_MAX 2048u
#define STORE_SEGMENT_MIN (64u << 10)
#define STORE_SEGMENT_MAX (1u << 30)

/* Who a directory belongs to. Written once, when it is created. */
struct store_identity {
    uint8_t cluster[16];          /* id of the cluster */
    char name[STORE_NAME_MAX + 1]; /* the cluster's name */
    char list[STORE_LIST_MAX + 1]; /* its first members, as text: "1=host:port 2=host:port" */
    uint64_t node;                /* member id */
    uint64_t incarnation;         /* random, drawn at creation, never 0: an emptied directory is another directory */
};

struct store_config {
    const char *dir;         /* created when missing */
    uint64_t segment_bytes;  /* of new segments; a multiple of IO_BLOCK, STORE_SEGMENT_MIN .. _MAX; an entry
                                that is too large for it gets a larger segment made */
    uint32_t spares;         /* segments kept ready, >= 1; 2 in production */
    uint64_t seal_after_us;  /* an idle log seals its last batch after this long */
    struct store_identity identity; /* written when the directory is empty, with an incarnation drawn now. Otherwise
                                       only name and node are compared (cluster and list are those of the directory);
                                       node 0 = whatever the directory knows (ERR_INVALID when it is empty) */
};

/* What recovery found. */
struct store_recovered {
    bool created;                   /* the directory was empty and has just been made */
    struct store_identity identity; /* as stored */
    uint64_t epoch;                 /* which life of this node this is: durable, larger than any before it */
    raft_term term;
    raft_id vote;
    raft_index first, last;         /* indexes in the log; first = last + 1 when empty */
    struct raft_run *runs;          /* terms of first .. last; freed by store_recovered_free */
    size_t n_runs;
    uint64_t torn_bytes;            /* cut off at the tail; 0 = it ended cleanly */
};
void store_recovered_free(struct store_recovered *r);

/* Called on the engine's thread, from the world's events, never from inside a function below. */
struct store_events {
    void (*persisted)(void *ctx, uint64_t seq); /* appends up to seq are durable */
    void (*failed)(void *ctx, const struct err *e); /* a durable write failed: the log is latched, for good */
    void (*room)(void *ctx, bool has_room);     /* store_has_room changed */
};

/* Locks and opens a directory, creates it when it is empty, recovers the log. Blocks. Errors, each naming the file (and
 * the offset and index range where there are such): ERR_LOCKED, ERR_FOREIGN (of another node, or of a cluster of
 * another name: both are printed; or not empty and not of a node at all), ERR_VERSION, ERR_CORRUPT (rot), ERR_FULL
 * (only when it is created), ERR_IO, ERR_NOMEM, ERR_INVALID. After an error nothing is held. */
int store_open(struct store **out, struct io *io, const struct store_config *config,
               const struct store_events *events, void *ctx, struct store_recovered *recovered, struct err *e);

/* One batch to make durable. All arrays are read during the call only; each block gets a reference until its bytes
 * have been copied for the write. */
struct store_batch {
    uint64_t seq;             /* ascending; told to persisted() */
    bool vote_changed;
    raft_term term;           /* with vote_changed */
    raft_id vote;
    raft_index truncate_from; /* entries from here on are void; 0 = none. Before the entries below are added */
    raft_index first;         /* index of blocks[0]; n = 0: none */
    struct block *const *blocks;
    size_t n;
};

/* Queues a batch. ERR_NOMEM: nothing was queued, try again. A latched log takes it and never acknowledges it.
 * Precondition: seq larger than any before; entries continue the log as truncated. */
int store_append(struct store *s, const struct store_batch *b);

/* Is there room for new entries? It is lost when no segment could be prepared, no spare is left and half of the current
 * one is used: proposals are then to be refused with ERR_FULL; votes and what was accepted before still find the rest.
 * Tried again about every second, by store_tick. Changes are told by room(). */
bool store_has_room(const struct store *s);

/* Since when (io_now) the write in flight has been outstanding; 0 = none in flight. */
uint64_t store_write_since(const struct store *s);

/* When store_tick next has something to do (a seal, another attempt), io_now; NEVER_US when never. Changes with every
 * call and event of the store. */
uint64_t store_deadline(const struct store *s);
/* Time has passed. Call at store_deadline() or soon after; calling earlier is harmless. */
void store_tick(struct store *s);

/* A read of a range, on the bulk lane. The caller owns the struct until done() has been called. */
struct store_read {
    raft_index first, last; /* in: the range wanted, within what has been appended; what is not durable is left out */
    size_t max_bytes;       /* in: stop after this many bytes (but always at least one entry) */
    void (*done)(struct store_read *); /* engine's thread */
    void *ctx;

    int status;             /* out: OK; ERR_CORRUPT (rot found by reading), ERR_IO, ERR_NOMEM; ERR_NOENT: the range
                               was truncated or released, or is not durable yet */
    struct err error;       /* out: with status */
    struct block **blocks;  /* out: entries first .. first + n - 1, checked, perhaps fewer than
                               wanted but at least one; the caller unrefs them and frees the array
                               with mem_free */
    size_t n;

    struct io_job job;      /* the store's */
    void *plan;             /* the store's */
};
/* ERR_NOMEM: not started, done() is not called. Truncation of the range cancels it: it ends with ERR_NOENT. */
int store_read_range(struct store *s, struct store_read *read);

/* Entries up to index are no longer needed: releases whole segments for recycling. index <= durable last. */
void store_release(struct store *s, raft_index index);

/* Incarnations of peers, remembered durably: 0 = never seen. */
uint64_t store_peer(const struct store *s, uint64_t node);
/* Remembers one; done(ctx, status) on the engine's thread once it is durable. ERR_NOMEM: not started. */
int store_remember_peer(struct store *s, uint64_t node, uint64_t incarnation, void (*done)(void *ctx, int status),
                        void *ctx);

struct store_status {
    uint64_t bytes;       /* of all segments in use */
    uint32_t segments;    /* in use */
    uint32_t spares;      /* ready */
    uint64_t room;        /* bytes that can still be written, when a segment was last prepared; UINT64_MAX: unknown */
    uint64_t writes;      /* durable writes so far */
    uint64_t write_us_last; /* how long the last one took */
    raft_index first, durable_last;
    bool failed, has_room;
};
void store_status_get(const struct store *s, struct store_status *out);

/* Finishes: what was appended is written, a seal follows, running jobs end; then done(ctx) on the engine's thread, with
 * the directory unlocked and the store freed. No other call is allowed after this one, and no other event follows it.
 * At once (or as soon as the running job ends) when the log is latched. */
void store_close(struct store *s, void (*done)(void *ctx), void *ctx);

/* The simulated process has died (sim_world_crash), and its jobs with it: frees the memory, without a call to io and
 * without any event. Reads that were running are the caller's again; it frees them after this call. */
void store_abandon(struct store *s);

#pragma GCC visibility pop

#endif
