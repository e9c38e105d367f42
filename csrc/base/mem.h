/* Every allocation of the C core goes through here, so that a spec can fail the n-th one. */
#ifndef RAFT_BASE_MEM_H
#define RAFT_BASE_MEM_H

#include "base/base.h"

#pragma GCC visibility push(hidden)

void *mem_alloc(size_t size);                       /* NULL when out of memory; not zeroed */
void *mem_zero(size_t count, size_t size);          /* zeroed; NULL when out of memory or count * size overflows */
void *mem_resize(void *old, size_t size);           /* realloc: on NULL old stays valid */
void *mem_aligned(size_t alignment, size_t size);   /* for direct I/O; size is a multiple of alignment */
char *mem_strdup(const char *text);
void mem_free(void *memory); /* anything from above, or NULL */

/* Doubles an array until it holds at least `need` items of `size` bytes (from 8 on), updating *items and
 * *capacity. false and nothing changed when out of memory. */
bool mem_grow(void **items, size_t *capacity, size_t need, size_t size);

/* For specs of one thread only: the n-th allocation from now on fails (1 = the next), once; 0 turns it off. */
void mem_fail_at(uint64_t n);
/* Allocations asked for since the last mem_fail_at. */
uint64_t mem_asked(void);
/* Counts one more: is it the one that fails? For whoever gets memory in another way (base/slab.h). */
bool mem_fails(void);

#pragma GCC visibility pop

#endif
