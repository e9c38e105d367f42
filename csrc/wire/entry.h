/* The encoding of an entry: the same bytes in the proposer's hands, in each frame, in every log file and in memory.
 *
 * The proposer encodes the payload once, with its hash (entry_new, entry_set_session). The leader stamps what only it
 * knows (entry_stamp); from then on the bytes never change: a proposal that must be sent again is a new block. Nothing
 * is encoded twice and nothing is hashed twice on the way; whoever receives or reads an entry checks it once
 * (entry_read).
 *
 *   offset size
 *        0    8  header hash: of bytes 8..79; 0 until stamped
 *        8    4  payload size
 *       12    1  type (enum raft_entry_type)
 *       13    1  version of this layout: 1
 *       14    2  zero
 *       16    8  index              24  8  term
 *       32    8  leader's wall clock when stamped, us since the epoch
 *       40    8  session: member id of the proposer, 0 = none (EMPTY)
 *       48    8  epoch: which life of that member
 *       56    8  sequence within the epoch
 *       64    4  sequence - lowest sequence that is still awaited
 *       68    4  zero
 *       72    8  payload hash
 *       80       payload
 */
#ifndef RAFT_WIRE_ENTRY_H
#define RAFT_WIRE_ENTRY_H

#include "base/block.h"
#include "base/buf.h"
#include "base/err.h"
#include "core/types.h"

#pragma GCC visibility push(hidden)

#define ENTRY_HEADER 80u
#define ENTRY_PAYLOAD_MAX (16u << 20) /* no command is ever larger; bounds every allocation made for a peer */

/* Where the fields stand in the header. */
enum {
    ENTRY_AT_HASH = 0,
    ENTRY_AT_SIZE = 8,
    ENTRY_AT_TYPE = 12,
    ENTRY_AT_VERSION = 13,
    ENTRY_AT_ZERO = 14,
    ENTRY_AT_INDEX = 16,
    ENTRY_AT_TERM = 24,
    ENTRY_AT_TIME = 32,
    ENTRY_AT_SESSION = 40,
    ENTRY_AT_EPOCH = 48,
    ENTRY_AT_SEQUENCE = 56,
    ENTRY_AT_BEHIND = 64,
    ENTRY_AT_ZERO2 = 68,
    ENTRY_AT_PAYLOAD_HASH = 72
};

/* One entry, decoded: payload points into the bytes it was read from. */
struct entry {
    uint8_t type;
    raft_index index;
    raft_term term;
    uint64_t time_us;
    uint64_t session, epoch, sequence;
    uint32_t behind; /* sequence - lowest awaited */
    const uint8_t *payload;
    uint32_t payload_size;
};

/* A new block with header (not stamped, no session) and payload. Any thread. NULL: no memory.
 * Precondition: size <= ENTRY_PAYLOAD_MAX. */
struct block *entry_new(uint8_t type, const void *payload, size_t size);
/* As entry_new, but the payload is filled in later: write at block->bytes + ENTRY_HEADER, then entry_seal. */
struct block *entry_reserve(uint8_t type, size_t size);
void entry_seal(struct block *b); /* hashes the payload */

/* Precondition: not stamped; behind <= sequence. */
void entry_set_session(struct block *b, uint64_t session, uint64_t epoch, uint64_t sequence, uint32_t behind);

/* Makes it an entry of the log. Precondition: not stamped; the caller holds the only reference that reads it. */
void entry_stamp(struct block *b, raft_index index, raft_term term, uint64_t time_us);

/* Reads the header of bytes that entry_read has taken, or would take: nothing is checked. */
static inline struct entry entry_peek(const uint8_t *p)
{
    return (struct entry){
        .type = p[ENTRY_AT_TYPE],
        .index = get_u64(p + ENTRY_AT_INDEX),
        .term = get_u64(p + ENTRY_AT_TERM),
        .time_us = get_u64(p + ENTRY_AT_TIME),
        .session = get_u64(p + ENTRY_AT_SESSION),
        .epoch = get_u64(p + ENTRY_AT_EPOCH),
        .sequence = get_u64(p + ENTRY_AT_SEQUENCE),
        .behind = get_u32(p + ENTRY_AT_BEHIND),
        .payload = p + ENTRY_HEADER,
        .payload_size = get_u32(p + ENTRY_AT_SIZE),
    };
}

/* The same of a block that this process made or has checked already. payload points into the block. Inlined: most want
 * one field. */
static inline struct entry entry_view(const struct block *b)
{
    ASSERT(b->size >= ENTRY_HEADER && b->size == ENTRY_HEADER + get_u32(b->bytes + ENTRY_AT_SIZE));
    return entry_peek(b->bytes);
}

/* Whole size (header and payload) announced by the header at p; 0 when it is no sane header. Reads ENTRY_HEADER bytes.
 * Checks layout and limits only, so that a caller can find out how much to read. */
uint32_t entry_size(const uint8_t *p);

/* Checks and reads the entry at data, of at most size bytes; *used is its whole size. stamped: whether it must be (log,
 * append) or must not be (forwarded proposals). ERR_CORRUPT: cut off, hashes differ, unknown type or layout; e says
 * which. e may be NULL. */
int entry_read(const uint8_t *data, size_t size, bool stamped, struct entry *out, uint32_t *used, struct err *e);

#pragma GCC visibility pop

#endif
