/* Appending: the queue of appends, the batch formed from its front, and the one durable write in flight.
 *
 * Group commit: while a write is in flight the queue grows; when it ends, everything queued (up to WRITER_BYTES)
 * becomes the next batch and the next write. Writes are of whole blocks: the last block of a segment, while only partly
 * used, is written again with the next batch, its first bytes unchanged. */
#ifndef RAFT_STORE_WRITER_H
#define RAFT_STORE_WRITER_H

#include "store/segments.h"
#include "store/store.h"

#pragma GCC visibility push(hidden)

#define WRITER_BYTES (1u << 20)          /* most bytes of one batch, but always one entry */
#define WRITER_RESERVE (4u * IO_BLOCK)   /* end of each segment, kept for votes and seals */

struct append; /* one store_append in the queue */

/* The batch in flight. */
struct writing {
    uint64_t offset, length; /* of the record in the current segment */
    uint32_t flags;
    raft_term term; /* with BATCH_VOTE */
    raft_id vote;
    raft_index reset;   /* with BATCH_RESET */
    raft_term reset_term;
    raft_index truncate_from, first;
    size_t n;     /* entries */
    uint64_t seq; /* newest append that is complete with it; 0 = none */
};

#define WRITER_TIMES 100u /* so many that one of them is a hundredth */

struct writer {
    struct append *head, **end; /* the queue */
    raft_index last;            /* of the log with all that was appended */
    uint64_t last_seq;
    uint64_t next_batch;        /* its number */
    bool open;                  /* the newest live segment is appended to */
    bool sealed;                /* the last batch is a seal, or there is none */
    uint64_t seal_at, retry_at; /* io_now; 0 = not */

    uint8_t *staging; /* aligned; begins with what the current block holds already */
    size_t capacity;
    struct raft_run *runs; /* terms of the batch in flight */
    size_t n_runs, runs_capacity;
    struct writing writing;
    uint64_t since; /* when the write in flight was started; 0 = there is none */

    struct io_job job; /* what follows is the job's while it runs */
    struct io *io;
    struct io_file *file, *finished; /* finished: the segment before, to be closed */
    uint64_t at;
    size_t size;
    int status;
    struct err error;

    uint64_t writes;
    uint64_t took_us[WRITER_TIMES]; /* of the newest of them, number n at n % WRITER_TIMES */
};

struct store;

/* After recovery. block: the bytes of the current segment's last block, when one is open. false: no memory. */
bool writer_init(struct store *s, const uint8_t *block);
/* Queues a reset that no batch of the caller stands for: the snapshot was there, the log had not been told. Before any
 * other append. false: no memory. */
bool writer_reset(struct store *s, raft_index index, raft_term term);
void writer_free(struct store *s); /* the queue too */
void writer_drop_queue(struct store *s); /* tells nobody */
/* Starts the next write, if there is something to write and none is in flight. */
void writer_kick(struct store *s);
/* When writer_kick has something to do again; NEVER_US: not by time. */
uint64_t writer_deadline(const struct store *s);
/* How long the last durable write took, us; and the longest but one of the last 100, or of as many as there were the
 * longest. 0: there was none. */
uint64_t writer_last_us(const struct store *s);
uint64_t writer_p99_us(const struct store *s);
/* Number of the newest durable batch that is no seal; 0 = none. */
uint64_t writer_newest_batch(const struct store *s);
/* Nothing queued, nothing in flight, sealed (as far as there is room for it). */
bool writer_is_finished(const struct store *s);

#pragma GCC visibility pop

#endif
