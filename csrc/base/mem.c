#include "base/mem.h"

#include <stdlib.h>

static _Thread_local uint64_t fail_at, asked;

bool mem_fails(void)
{
    asked++;
    return fail_at != 0 && asked == fail_at;
}

void *mem_alloc(size_t size)
{
    return mem_fails() ? NULL : malloc(size > 0 ? size : 1);
}

void *mem_zero(size_t count, size_t size)
{
    return mem_fails() ? NULL : calloc(count > 0 ? count : 1, size);
}

void *mem_resize(void *old, size_t size)
{
    return mem_fails() ? NULL : realloc(old, size > 0 ? size : 1);
}

void *mem_aligned(size_t alignment, size_t size)
{
    ASSERT(size % alignment == 0);
    return mem_fails() ? NULL : aligned_alloc(alignment, size);
}

char *mem_strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = mem_alloc(size);
    return copy == NULL ? NULL : memcpy(copy, text, size);
}

void mem_free(void *memory)
{
    free(memory);
}

bool mem_grow(void **items, size_t *capacity, size_t need, size_t size)
{
    if (need <= *capacity) return true;
    size_t wanted = MAX(*capacity, 8);
    while (wanted < need) {
        if (wanted > SIZE_MAX / 2 / size) return false;
        wanted *= 2;
    }
    void *bigger = mem_resize(*items, wanted * size);
    if (bigger == NULL) return false;
    *items = bigger;
    *capacity = wanted;
    return true;
}

void mem_fail_at(uint64_t n)
{
    fail_at = n;
    asked = 0;
}

uint64_t mem_asked(void)
{
    return asked;
}
