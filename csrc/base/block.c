#include "base/block.h"

struct block *block_new(size_t size)
{
    ASSERT(size <= UINT32_MAX);
    struct block *b = slab_alloc(sizeof *b + size);
    if (b == NULL) return NULL;
    *b = (struct block){.refs = 1, .size = (uint32_t)size};
    return b;
}
