/* A ref-counted run of bytes in one allocation: an encoded entry on its way from proposer to wire, log and apply.
 *
 * Counts are not atomic. Blocks are the engine's, inside its events (base/io.h); a thread outside may read the bytes
 * while the engine holds a reference for it (the disk's copy is made by the engine; the host reports when it has
 * applied).
 * They are cut from slabs (base/slab.h): none may be kept for long after those that were made around it. */
#ifndef RAFT_BASE_BLOCK_H
#define RAFT_BASE_BLOCK_H

#include "base/slab.h"

#pragma GCC visibility push(hidden)

struct block {
    uint32_t refs;
    uint32_t size; /* of bytes */
    uint8_t bytes[];
};

struct block *block_new(size_t size); /* one reference, bytes not set; NULL when out of memory. Any thread */

/* Has the beginning of a block fetched, for whoever reads it soon: it was last touched on another core, or long ago. */
static inline void block_ahead(const struct block *b)
{
    for (size_t at = 0; at < 256; at += 64) __builtin_prefetch((const uint8_t *)b + at);
}

/* The same for block_ref or block_unref, which write. */
static inline void block_ref_ahead(const struct block *b)
{
    __builtin_prefetch(b, 1);
}

static inline struct block *block_ref(struct block *b)
{
    ASSERT(b->refs > 0 && b->refs < UINT32_MAX);
    b->refs++;
    return b;
}

/* Gives it back with the last reference; NULL is allowed. */
static inline void block_unref(struct block *b)
{
    if (b == NULL) return;
    ASSERT(b->refs > 0);
    if (--b->refs == 0) slab_free(b, sizeof *b + b->size);
}

#pragma GCC visibility pop

#endif
