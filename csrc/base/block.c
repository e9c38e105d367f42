#include "base/block.h"

#include "base/mem.h"

struct block *block_new(size_t size)
{
    ASSERT(size <= UINT32_MAX);
    struct block *b = mem_alloc(sizeof *b + size);
    if (b == NULL) return NULL;
    *b = (struct block){.refs = 1, .size = (uint32_t)size};
    return b;
}

struct block *block_ref(struct block *b)
{
    ASSERT(b->refs > 0 && b->refs < UINT32_MAX);
    b->refs++;
    return b;
}

void block_unref(struct block *b)
{
    if (b == NULL) return;
    ASSERT(b->refs > 0);
    if (--b->refs > 0) return;
    if (b->group != NULL) block_group_done(b->group);
    else mem_free(b);
}

/* ---- groups ---- */

struct block_group {
    size_t used, capacity; /* bytes of room */
    size_t owners;         /* blocks in use, and who adds them */
    max_align_t room[];
};

/* What a block takes up in a group. */
static size_t footprint(size_t size)
{
    size_t align = _Alignof(struct block);
    return (sizeof(struct block) + size + align - 1) / align * align;
}

struct block_group *block_group_new(size_t n, size_t bytes)
{
    size_t most = SIZE_MAX / 2 / footprint(0);
    if (n > most || bytes > SIZE_MAX / 4) return NULL;
    size_t capacity = n * footprint(0) + bytes + n * (_Alignof(struct block) - 1);
    struct block_group *g = mem_alloc(sizeof *g + capacity);
    if (g == NULL) return NULL;
    *g = (struct block_group){.capacity = capacity, .owners = 1};
    return g;
}

struct block *block_group_add(struct block_group *g, size_t size)
{
    ASSERT(size <= UINT32_MAX && footprint(size) <= g->capacity - g->used);
    struct block *b = (struct block *)((uint8_t *)g->room + g->used);
    *b = (struct block){.refs = 1, .size = (uint32_t)size, .group = g};
    g->used += footprint(size);
    g->owners++;
    return b;
}

void block_group_done(struct block_group *g)
{
    if (g == NULL) return;
    ASSERT(g->owners > 0);
    if (--g->owners == 0) mem_free(g);
}
