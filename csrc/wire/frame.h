/* Frames: what a link carries, one after another. Little-endian.
 *
 *   offset size
 *        0    4  magic "RaFt"
 *        4    1  type (enum frame_type)
 *        5    1  version: 1
 *        6    2  zero
 *        8    4  group id: 0 (several groups over one link come later)
 *       12    4  size of the body
 *       16    4  size of its first part, meta
 *       20    8  hash of meta
 *       28    4  hash of bytes 0..27: believed before any length is
 *       32       meta, then entries (wire/entry.h), which carry hashes of their own
 *
 * Nothing a peer sends can make this code allocate more than it has sent, or more than the cap. */
#ifndef RAFT_WIRE_FRAME_H
#define RAFT_WIRE_FRAME_H

#include "base/buf.h"
#include "base/err.h"

#pragma GCC visibility push(hidden)

#define FRAME_HEADER 32u
#define FRAME_BODY_MAX (32u << 20)     /* of any frame */
#define FRAME_BODY_MAX_STRANGER 4096u  /* before the hello is accepted */
#define FRAME_VERSION 1u

enum frame_type {
    FRAME_HELLO = 1,     /* wire/hello.h: first in both directions */
    FRAME_REFUSAL,       /* wire/hello.h: instead of the hello in answer, then the link is closed */
    FRAME_PING,          /* are you there; meta: u64 that the pong echoes */
    FRAME_PONG,
    FRAME_MESSAGE,       /* wire/message.h: of the core */
    FRAME_FORWARD,       /* wire/message.h: proposals for the leader */
    FRAME_FORWARD_REPLY, /* wire/message.h: proposals that did not enter the leader's log */
    FRAME_OFFER,         /* wire/transfer.h: a snapshot that the receiver needs */
    FRAME_FETCH,         /* wire/transfer.h: a piece of it is wanted */
    FRAME_CHUNK,         /* wire/transfer.h: that piece; on the bulk channel */
    FRAME_FETCHED,       /* wire/transfer.h: it is durable here, or given up */
    FRAME_ASK,           /* wire/ask.h: of the leader, to be done or told */
    FRAME_ANSWER,        /* wire/ask.h */
    FRAME_JOIN,          /* wire/ask.h: a stranger's, instead of a hello */
    FRAME_JOINED,        /* wire/ask.h: its answer, then the link is closed */
    FRAME_TYPES
};

/* One received frame; the pointers hold until the next call on the same reader. */
struct frame {
    uint8_t type;
    uint32_t group;
    const uint8_t *meta, *entries;
    uint32_t meta_size, entries_size;
    struct buf *holder; /* the reader's memory that it lies in, which may be taken (*holder = {0}); NULL: another's */
};

/* Writing. Begin a frame at the end of out, append meta to out, then frame_meta_done, append entries, then frame_end:
 * sizes and hashes are filled in. Between begin and end nobody else writes to out. false: no memory; out is then cut
 * back to where the frame began. */
bool frame_begin(struct buf *out, enum frame_type type, uint32_t group, size_t *start);
void frame_meta_done(struct buf *out, size_t start);
void frame_end(struct buf *out, size_t start);
/* A whole frame of meta alone. false: no memory, nothing changed. */
bool frame_write(struct buf *out, enum frame_type type, uint32_t group, const void *meta, size_t size);

/* Reading: a stream cut anywhere. */
struct frame_reader {
    struct buf partial; /* the beginning of a frame that is not complete yet */
    uint32_t body_max;  /* FRAME_BODY_MAX_STRANGER until the owner raises it */
};

void frame_reader_init(struct frame_reader *r);
void frame_reader_free(struct frame_reader *r);
/* Takes bytes from *data (moving *data and *size on) until one frame is complete. 1: *out is a frame, call again;
 * 0: all bytes taken, more are needed. Negative: ERR_CORRUPT (magic, hash, size, type), ERR_VERSION, ERR_NOMEM: the
 * link must be closed; e says why. Where a frame lies whole in *data it is not copied. */
int frame_reader_next(struct frame_reader *r, const uint8_t **data, size_t *size, struct frame *out, struct err *e);

#pragma GCC visibility pop

#endif
