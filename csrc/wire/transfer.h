/* How a snapshot gets from one node to another (dissertation 5, the InstallSnapshot RPC, turned round). The leader
 * offers one; who needs it fetches it, piece by piece, from whoever has that very file: first from the leader, and
 * still from the same node when that has lost leadership meanwhile. So the one that needs it knows how much it can
 * take, and goes on at the byte where a connection broke. Pieces travel on the bulk channel, all else on the control
 * channel.
 *
 *   OFFER    u64 term of the leader, u64 first index of its log, then the file
 *   FETCH    the file, u64 offset, u32 size
 *   CHUNK    the file, u64 offset; its bytes follow meta, with a hash of their own at their head (u64). No bytes at
 *            all: the file is not here any more
 *   FETCHED  u64 index, u8 ok
 *   where the file is  u64 index, term of its last entry, id, size
 *
 * The bytes of the file have checksums of their own (store/snapshot.h): the hash here only keeps a broken link from
 * spoiling it. */
#ifndef RAFT_WIRE_TRANSFER_H
#define RAFT_WIRE_TRANSFER_H

#include "core/types.h"
#include "wire/frame.h"

#pragma GCC visibility push(hidden)

#define TRANSFER_CHUNK_MAX (1u << 20) /* bytes in one */

/* One very file: two nodes' snapshots of one index are two. */
struct transfer_file {
    raft_index index;
    raft_term term;
    uint64_t id, size;
};

struct transfer {
    struct transfer_file file;
    raft_term term;         /* OFFER */
    raft_index first;       /* OFFER: any snapshot that reaches up to here will do: the log has what follows */
    uint64_t offset;        /* FETCH, CHUNK */
    uint32_t size;          /* FETCH: wanted, 1 .. TRANSFER_CHUNK_MAX; CHUNK: of bytes */
    const uint8_t *bytes;   /* CHUNK */
    struct buf *holder;     /* CHUNK, received: the memory that bytes lie in, as in the frame */
    bool ok;                /* FETCHED, of which only file.index is told */
};

/* type: FRAME_OFFER .. FRAME_FETCHED. false: no memory, out unchanged. */
bool transfer_write(struct buf *out, uint32_t group, enum frame_type type, const struct transfer *t);
/* A CHUNK made in two steps, in a buffer of its own, so that its bytes are read to where they are sent from. begin
 * (into an empty one) leaves room for what stands before them; the caller appends them, at least one; end writes that,
 * and may be called on another thread. false: no memory, as before. */
bool transfer_chunk_begin(struct buf *frame);
void transfer_chunk_end(struct buf *frame, uint32_t group, const struct transfer_file *file, uint64_t offset);
/* Precondition: f->type is one of them. bytes points into the frame. ERR_CORRUPT. */
int transfer_read(const struct frame *f, struct transfer *out, struct err *e);

static inline bool transfer_same(const struct transfer_file *a, const struct transfer_file *b)
{
    return a->index == b->index && a->term == b->term && a->id == b->id && a->size == b->size;
}

#pragma GCC visibility pop

#endif
