/* The insides of a store, shared by the files of this room. */
#ifndef RAFT_STORE_INTERNAL_H
#define RAFT_STORE_INTERNAL_H

#include "store/epoch.h"
#include "store/identity.h"
#include "store/inspect.h"
#include "store/map.h"
#include "store/peers.h"
#include "store/rejoin.h"
#include "store/segments.h"
#include "store/snapshots.h"
#include "store/writer.h"

#pragma GCC visibility push(hidden)

#define STORE_RETRY_US US_PER_S        /* between attempts that lack of room has stopped */
#define STORE_NO_MEMORY_RETRY_US 10000 /* between attempts that lack of memory has stopped */

struct store {
    struct io *io;
    char *dir;
    uint64_t segment_bytes;
    uint32_t spares_wanted;
    uint32_t spares_kept;     /* released segments become spares up to so many; see spares_worth_keeping */
    uint64_t seal_after_us;
    struct store_events events;
    void *ctx;
    struct io_lock *lock;
    struct store_identity identity;
    struct epoch epoch;
    const struct inspect_visitor *visitor; /* it is being looked at: nothing is changed */
    const struct store_config *opening; /* while it is being opened */
    uint64_t read_bytes, total_bytes;   /* for opening->progress */

    struct segments live, spares, retired; /* live: oldest first; the last one is the current one. retired: released,
                                              waiting to be recycled */
    struct map map;           /* of what is durable */
    raft_index durable_last;  /* readable up to here: durable, and not to be truncated by what is queued */
    raft_term term;           /* durable, with vote */
    raft_id vote;
    struct writer writer;
    struct keeper keeper;
    struct peers peers;
    struct snapshots snapshots;
    struct rejoin rejoin;
    struct read_plan *reads;  /* running */

    uint64_t room;            /* bytes that can still be written, when last looked; UINT64_MAX = not known */
    bool has_room;            /* as told last */
    bool failed;              /* latched */
    bool offline;             /* no node: jobs run in the calling thread */
    bool closing, ended;      /* ended: the last job is on its way */
    struct io_job end_job;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

/* The segment that is appended to, when there is one. */
static inline struct segment *store_current(const struct store *s)
{
    return s->writer.open ? s->live.tail : NULL;
}

/* The directory is locked, but nothing else is done. Errors as store_open. */
int store_prepare(struct store **out, struct io *io, const struct store_config *config,
                  const struct store_events *events, void *ctx, struct err *e);
/* Frees the store. With io: what it holds of the world is given back first (blocks). */
void store_destroy(struct store *s, struct io *io);
/* Notes that the log has come to its end whole, and gives the directory back; s is still to be destroyed. Blocks. */
void store_finish(struct store *s);
/* As io_submit; offline the job is worked and done before this returns. */
void store_submit(struct store *s, enum io_lane lane, struct io_job *job);
/* While it is being opened: so many more bytes have been read. */
void store_progress(struct store *s, uint64_t bytes);

/* To be called at the end of each job's done(), as the last thing that touches s: tells of room gained or lost, and
 * goes on with closing. */
void store_settle(struct store *s);

/* read.c: reads that reach index or beyond will end with ERR_NOENT. */
void reads_cancel(struct store *s, raft_index index);
/* read.c: as store_read_range, but in the calling thread: read->done is not called. Blocks. */
int read_now(struct store *s, struct store_read *read);
/* read.c: frees the plans without telling anyone. */
void reads_abandon(struct store *s);

/* recovery.c: finds out what is in s->dir and fills s with it: identity, epoch, peers, segments, map, term and vote.
 * Blocks. Errors as store_open; what s holds then is the caller's to free. */
int recovery_run(struct store *s, const struct store_config *config, struct store_recovered *out, struct err *e);
/* recovery.c: the same, but changes nothing: for tools. What could be read before an error stays in s. */
int recovery_look(struct store *s, const struct inspect_visitor *visitor, struct store_recovered *out, struct err *e);

#pragma GCC visibility pop

#endif
