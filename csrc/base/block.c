#include "base/block.h"

#include "base/slab.h"

struct block *block_new(size_t size)
{
    ASSERT(size <= UINT32_MAX);
    struct block *b = slab_alloc(sizeof *b + size);
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
    if (--b->refs == 0) slab_free(b, sizeof *b + b->size);
}
