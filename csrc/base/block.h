/* A ref-counted run of bytes in one allocation: an encoded entry on its way from proposer to wire, log and apply.
 *
 * Counts are not atomic. Blocks belong to the engine's thread; another thread may read the bytes while the engine
 * holds a reference for it (the disk's copy is made on the engine's thread; the host reports when it has applied). */
#ifndef RAFT_BASE_BLOCK_H
#define RAFT_BASE_BLOCK_H

#include "base/base.h"

#pragma GCC visibility push(hidden)

struct block_group;

struct block {
    uint32_t refs;
    uint32_t size;             /* of bytes */
    struct block_group *group; /* it came with; NULL: it came alone */
    uint8_t bytes[];
};

struct block *block_new(size_t size); /* one reference, bytes not set; NULL when out of memory */
struct block *block_ref(struct block *b);
void block_unref(struct block *b); /* gives it back with the last reference; NULL is allowed */

/* Blocks that come together, as in one frame, share one allocation, which is freed with the last of them: a tenth of
 * what malloc and free of each would cost. For blocks that also go at about the same time. */
struct block_group *block_group_new(size_t n, size_t bytes); /* for n blocks, bytes in all; NULL when out of memory */
/* As block_new. Precondition: it is one of the n, and they have no more bytes than was said. */
struct block *block_group_add(struct block_group *g, size_t size);
void block_group_done(struct block_group *g); /* no more are added; the group belongs to its blocks. NULL is allowed */

#pragma GCC visibility pop

#endif
