/* What a node keeps: its durable log, with term and vote in it, the newest snapshot, identities, the directory's lock.
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
 * All functions are called inside events of the world (base/io.h); the callbacks of a store come there too. The store
 * does not know consensus: it keeps what it is given and gives back what it kept.
 *
 * Snapshots (dissertation 5) are files of their own, in the format of store/snapshot.h. Whoever makes one - this
 * process, a forked child, or another node by sending its own - fills an unfinished file beside the log; it is checked
 * as a whole, made durable, and only then gets its name. The one before stays until then. A snapshot covers the
 * entries up to its index: only those can be released.
 *
 * Directory: lock (the held lock), identity (who this is), peers (incarnations of the others), epoch (which life this
 * is), rejoin (this directory replaces one that was lost), NNNNNNNN.seg (segments: in use or ready, told by their
 * headers), INDEX-TERM.snap (snapshots), *.tmp (unfinished: removed when the directory is opened), set-aside-NNN (what
 * a repair has put aside). */
#ifndef RAFT_STORE_STORE_H
#define RAFT_STORE_STORE_H

#include "base/io.h"
#include "core/raft.h"
#include "wire/entry.h"
#include "wire/hello.h"

#pragma GCC visibility push(hidden)

struct store;

#define STORE_NAME_MAX 64u
#define STORE_LIST_MAX 2048u
#define STORE_SET_ASIDE_MAX 40u
#define STORE_LIVES HELLO_LIVES
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

/* What a snapshot says about itself. */
struct store_snapshot {
    raft_index index;        /* the state after this entry; 0 = there is no snapshot */
    raft_term term;          /* of that entry */
    uint64_t time_us;        /* the leader's clock in that entry, or before it */
    uint64_t version;        /* of the machine that wrote it: its own business */
    uint64_t id;             /* drawn at random by who made it: two files of one index need not be the same */
    uint64_t size;           /* of the file, bytes */
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
    bool rejoin;             /* a directory that is refused as ERR_CORRUPT, or empty, is made anew for the same node,
                                with another incarnation; what it held is set aside. See recovered.rejoining */
    void (*progress)(void *ctx, uint64_t done, uint64_t total); /* called while store_open reads the directory, each few
                                MiB: bytes read, bytes to read (more or less). NULL: not wanted */
    void *progress_ctx;
};

/* What recovery found. */
struct store_recovered {
    bool created;                   /* the directory was empty and has just been made */
    struct store_identity identity; /* as stored */
    uint64_t epoch;                 /* which life of this node this is: durable, larger than any before it */
    uint64_t lives_before[STORE_LIVES]; /* the lives before, newest first; 0 = none. Peers tell by them a directory that
                                       has been rolled back: it does not know of a life that they have seen
                                       (store_peer_judge) */
    bool rejoining;                 /* the directory replaces one that was lost: votes and acknowledged entries may be
                                       forgotten. The node must neither vote nor campaign nor count for a quorum until
                                       the others have admitted it anew; then store_rejoined */
    char set_aside[STORE_SET_ASIDE_MAX]; /* name of the directory, inside this one, where a repair just now has put what
                                       was here; empty: there was none */
    raft_term term;
    raft_id vote;
    struct store_snapshot snapshot; /* the newest; index 0: none. index >= first - 1 always */
    char damaged[ERR_TEXT_MAX];     /* what was found damaged, file and offset: with set_aside; or a newer snapshot,
                                       passed over because the log still has what it covered. Empty: nothing */
    raft_index first, last;         /* indexes in the log; first = last + 1 when empty. Entries up to snapshot.index may
                                       still be there, for followers that are behind */
    raft_term before;               /* term of entry first - 1 (0 when first = 1) */
    struct raft_run *runs;          /* terms of first .. last; freed by store_recovered_free */
    size_t n_runs;
    struct block **confs;           /* entries of type RAFT_ENTRY_CONFIG behind the snapshot, ascending, checked; freed
                                       by store_recovered_free. What came before them is in the snapshot */
    size_t n_confs;
    uint64_t torn_bytes;            /* cut off at the tail; 0 = it ended cleanly */
};
void store_recovered_free(struct store_recovered *r);

/* Called from the world's events, never from inside a function below. */
struct store_events {
    void (*persisted)(void *ctx, uint64_t seq); /* appends up to seq are durable */
    void (*failed)(void *ctx, const struct err *e); /* a durable write failed: the log is latched, for good */
    void (*room)(void *ctx, bool has_room);     /* store_has_room changed */
};

/* Locks and opens a directory, creates it when it is empty, recovers the log. Blocks. Errors, each naming the file (and
 * the offset and index range where there are such): ERR_LOCKED, ERR_FOREIGN (of another node, or of a cluster of
 * another name: both are printed; or not empty and not of a node at all), ERR_VERSION, ERR_CORRUPT (rot), ERR_FULL
 * (only when it is created), ERR_IO, ERR_NOMEM, ERR_INVALID. After an error nothing is held.
 *
 * A snapshot and a log that do not fit together are what a crash while installing leaves: when the snapshot is ahead of
 * the log, or the log has an entry of another term at its index, the log is void and goes on after the snapshot. A log
 * that begins behind the snapshot has lost entries: ERR_CORRUPT. */
int store_open(struct store **out, struct io *io, const struct store_config *config,
               const struct store_events *events, void *ctx, struct store_recovered *recovered, struct err *e);

/* One batch to make durable. All arrays are read during the call only; each block gets a reference until its bytes
 * have been copied for the write. */
struct store_batch {
    uint64_t seq;             /* ascending; told to persisted() */
    bool vote_changed;
    raft_term term;           /* with vote_changed */
    raft_id vote;
    raft_index reset;         /* all entries are void, and the log goes on after this index: a snapshot has taken their
                                 place; 0 = not. Before the entries below are added; not with truncate_from */
    raft_term reset_term;     /* with reset: of the entry at that index */
    raft_index truncate_from; /* entries from here on are void; 0 = none. Before the entries below are added */
    raft_index first;         /* index of blocks[0]; n = 0: none */
    struct block *const *blocks;
    size_t n;
};

/* Queues a batch. ERR_NOMEM: nothing was queued, try again. A latched log takes it and never acknowledges it.
 * Preconditions: seq larger than any before; entries continue the log as truncated or reset; a snapshot of at least the
 * index of a reset is in the directory (store_incoming_publish has ended with OK). */
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
    void (*done)(struct store_read *); /* in an event */
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

/* Entries up to index are no longer needed, by this node or by others: releases whole segments for recycling. Nothing
 * is released that the newest snapshot does not cover, or that is not durable: any index is safe. Returns the first
 * index that is still stored. */
raft_index store_release(struct store *s, raft_index index);

/* ---- snapshots coming in ----
 *
 * An unfinished file, of any source. In steps: store_incoming_new; the bytes of the file (store/snapshot.h), either
 * through store_incoming_write or by io_fork into store_incoming_path; store_incoming_publish. Lack of room, a failed
 * write, damage: ended() says so, the file is gone, everything else is as it was. */
struct store_incoming;

struct store_incoming_events {
    void (*written)(void *ctx); /* store_incoming_queued has fallen; may be NULL */
    void (*ended)(void *ctx, int status, const struct err *e); /* OK: published. Else given up: ERR_FULL, ERR_IO,
                                 ERR_NOMEM, ERR_CORRUPT (what was written is not that snapshot, whole), ERR_EXIST
                                 (there is a newer one, or this one). The incoming is freed; called once, never from
                                 inside a function below */
};

/* what: index, term and id must be those in the file; the others are not looked at but for size, if it is not 0.
 * NULL: no memory. Owned by the store until ended() or store_incoming_drop. */
struct store_incoming *store_incoming_new(struct store *s, const struct store_snapshot *what,
                                          const struct store_incoming_events *events, void *ctx);
/* Is it that very file (index, term, id, size)? Then its receiving goes on at store_incoming_size, whoever sends it. */
bool store_incoming_is(const struct store_incoming *in, const struct store_snapshot *what);
/* Where the unfinished file is, for io_fork: it is not there yet. It must be joined before this incoming is published
 * or dropped. */
const char *store_incoming_path(const struct store_incoming *in);
/* Bytes taken so far: the offset of the next one wanted. */
uint64_t store_incoming_size(const struct store_incoming *in);
/* Bytes of memory that those take which are not written yet. The caller's bound. */
uint64_t store_incoming_queued(const struct store_incoming *in);
/* Adds bytes at the end. holder: the memory that they lie in, which is taken in place of a copy (*holder = {0}); NULL:
 * they are the caller's. ERR_NOMEM: none of them, and nothing is taken. */
int store_incoming_write(struct store_incoming *in, const void *data, size_t size, struct buf *holder);
/* All of it is there. It is checked, byte by byte (on the bulk lane, in small steps), made durable and given its name;
 * older snapshots are removed. ended() follows. No other call but store_incoming_drop is allowed afterwards. */
void store_incoming_publish(struct store_incoming *in);
/* Gives it up: the file is removed, ended() will not be called. When it was being published, it may end up
 * published. */
void store_incoming_drop(struct store_incoming *in);

/* ---- snapshots going out ---- */

/* The newest snapshot; index 0: none. */
struct store_snapshot store_snapshot(const struct store *s);

/* A view of one snapshot: its file stays while there is one. */
struct store_view;

/* Of the newest snapshot. NULL: there is none, or no memory. */
struct store_view *store_view_open(struct store *s);
const struct store_snapshot *store_view_what(const struct store_view *view);
/* Precondition: no read is running. To be closed before the store is. */
void store_view_close(struct store_view *view);

/* A read of a part, on the bulk lane. The caller owns the struct until done() has been called. */
struct store_view_read {
    uint64_t offset;        /* in: store_view_bytes: where in the file */
    size_t max_bytes;       /* in: no more than this, but for store_view_records at least one record */
    void (*done)(struct store_view_read *); /* in an event */
    void (*more)(struct store_view_read *); /* store_view_bytes: what is to be done with bytes on that lane, when they
                               were read; NULL: nothing */
    void *ctx;

    int status;             /* out: OK; ERR_CORRUPT (rot: file and offset are named), ERR_IO, ERR_NOMEM */
    struct err error;       /* out: with status */
    uint64_t total;         /* out: store_view_records: records in the whole file */
    struct buf bytes;       /* out: the caller's to free; empty after an error. store_view_bytes appends to what it has,
                               if anything. Nothing new: the end has come */

    struct io_job job;      /* the store's */
    struct store_view *view; /* the store's */
};
/* Bytes of the file, checked, for another node. Several may run. */
void store_view_bytes(struct store_view *view, struct store_view_read *read);
/* The next whole records, one after the other as snapshot_record_next reads them. One at a time; each call goes on
 * where the one before ended; after an error it does not go on. */
void store_view_records(struct store_view *view, struct store_view_read *read);

/* ---- peers ---- */

/* Incarnations of peers, remembered durably: 0 = never seen. */
uint64_t store_peer(const struct store *s, uint64_t node);

enum store_peer_verdict {
    STORE_PEER_NEW,        /* never seen: to be remembered before it is listened to */
    STORE_PEER_KNOWN,      /* this life of it has been seen */
    STORE_PEER_LATER,      /* a later life of the same directory: to be remembered */
    STORE_PEER_ROLLED_BACK, /* the directory has been replaced by an older copy of itself: it does not know of a life
                              that was seen here, and may have forgotten a vote and entries acknowledged in it */
    STORE_PEER_REPLACED,   /* another directory: the old one has been emptied or lost */
};
/* What to think of a peer that says this of itself (epoch, before: as recovered.epoch and .lives_before there). An old
 * copy is told when the node had a life of its own since the copy was made, and a member that judges saw that life;
 * however often it was started since, but for more than STORE_LIVES times. */
enum store_peer_verdict store_peer_judge(const struct store *s, uint64_t node, uint64_t incarnation, uint64_t epoch,
                                         const uint64_t before[STORE_LIVES]);
/* Remembers one and its life, in place of what was known of it; done(ctx, status) in an event once it is
 * durable. ERR_NOMEM: not started. */
int store_remember_peer(struct store *s, uint64_t node, uint64_t incarnation, uint64_t epoch,
                        void (*done)(void *ctx, int status), void *ctx);

/* The others say that this directory is not the one that they count on: it is an older copy of itself, or was made anew
 * without a word. It keeps what it holds, and is another incarnation from now on (store_incarnation), rejoining,
 * durably when done(ctx, status) says OK. Precondition: it is not rejoining, and nothing of the kind is under way. */
void store_rejoin(struct store *s, void (*done)(void *ctx, int status), void *ctx);
uint64_t store_incarnation(const struct store *s);
/* The others have admitted this node anew: recovered.rejoining is over, durably when done(ctx, status) says OK.
 * Precondition: it was true, and this has not been called before, or has failed. */
void store_rejoined(struct store *s, void (*done)(void *ctx, int status), void *ctx);

struct store_status {
    uint64_t bytes;       /* of all segments in use */
    uint32_t segments;    /* in use */
    uint32_t spares;      /* ready */
    uint64_t room;        /* bytes that can still be written, when a segment was last prepared; UINT64_MAX: unknown */
    uint64_t writes;      /* durable writes so far */
    uint64_t write_us_last; /* how long the last one took */
    uint64_t write_us_p99;  /* no more than one of the last 100 took longer */
    raft_index first, durable_last;
    bool failed, has_room;
};
void store_status_get(const struct store *s, struct store_status *out);

/* Finishes: what was appended is written, a seal follows, running jobs end; then done(ctx) in an event, with
 * the directory unlocked and the store freed. No other call is allowed after this one, and no other event follows it.
 * At once (or as soon as the running job ends) when the log is latched. Incoming snapshots are dropped. */
void store_close(struct store *s, void (*done)(void *ctx), void *ctx);

/* The simulated process has died (sim_world_crash), and its jobs with it: frees the memory, without a call to io and
 * without any event. Reads that were running are the caller's again; it frees them after this call. */
void store_abandon(struct store *s);

#pragma GCC visibility pop

#endif
