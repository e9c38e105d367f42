/* Places for the log's entries in memory, a run of indexes: in pages, so that they take up what they need and no more,
 * while the newest come and the oldest go by the million. */
#ifndef RAFT_CORE_CACHE_H
#define RAFT_CORE_CACHE_H

#include "base/slab.h"
#include "core/types.h"

#pragma GCC visibility push(hidden)

#define CACHE_PAGE 256u /* entries */
/* Bytes that an entry takes up in memory beyond its own, at the most, but for blocks that are too large for a slab: its
 * place, its block's header, what the block is rounded up by. */
#define CACHE_ENTRY_COST (sizeof(struct raft_cached) + sizeof(struct block) + SLAB_ALIGNMENT)

struct raft_cache_page {
    union {
        struct raft_cached entries[CACHE_PAGE];
        struct raft_cache_page *next; /* spare */
    };
};

struct raft_cache {
    struct raft_cache_page **pages; /* page p stands at pages[p & (capacity - 1)] */
    size_t capacity;                /* a power of two, or 0 */
    uint64_t first, end;            /* pages in use: page p has the entries from p * CACHE_PAGE on; none: 0, 0 */
    struct raft_cache_page *spare;
    size_t n_spare;
};

void cache_free(struct raft_cache *c); /* what entries point to is the caller's business */
int cache_reserve(struct raft_cache *c, size_t n); /* for n calls of cache_push. ERR_NOMEM */
void cache_open(struct raft_cache *c, uint64_t page); /* of cache_push */
/* Only entries from .. last are left (from > last: none): gives back what they do not need. */
void cache_trim(struct raft_cache *c, raft_index from, raft_index last);

/* Precondition: it is there. */
static inline struct raft_cached *cache_at(const struct raft_cache *c, raft_index index)
{
    return &c->pages[index / CACHE_PAGE & (c->capacity - 1)]->entries[index % CACHE_PAGE];
}

/* The place of the next entry. Preconditions: reserved; index follows the last one, or there is none. */
static inline struct raft_cached *cache_push(struct raft_cache *c, raft_index index)
{
    if (index / CACHE_PAGE + 1 != c->end) cache_open(c, index / CACHE_PAGE);
    return cache_at(c, index);
}

#pragma GCC visibility pop

#endif
