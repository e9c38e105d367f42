/* A ref-counted run of bytes in one allocation: an encoded entry on its way from proposer to wire, log and apply.
 *
 * Counts are not atomic. Blocks are the engine's, inside its events (base/io.h); a thread outside may read the bytes
 * while the engine holds a reference for it (the disk's copy is made by the engine; the host reports when it has
 * applied).
 * They are cut from slabs (base/slab.h): none may be kept for long after those that were made around it. */
#ifndef RAFT_BASE_BLOCK_H
#define RAFT_BASE_BLOCK_H

#include "base/base.h"

#pragma GCC visibility push(hidden)

struct block {
    uint32_t refs;
    uint32_t size; /* of bytes */
    uint8_t bytes[];
};

struct block *block_new(size_t size); /* one reference, bytes not set; NULL when out of memory. Any thread */
struct block *block_ref(struct block *b);
void block_unref(struct block *b); /* gives it back with the last reference; NULL is allowed */

#pragma GCC visibility pop

#endif
