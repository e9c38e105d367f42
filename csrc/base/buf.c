#include "base/buf.h"

#include "base/mem.h"

void buf_free(struct buf *b)
{
    mem_free(b->data);
    *b = (struct buf){0};
}

uint8_t *buf_extend(struct buf *b, size_t size)
{
    if (size > SIZE_MAX - b->size) return NULL;
    if (!mem_grow((void **)&b->data, &b->capacity, b->size + size, 1)) return NULL;
    uint8_t *at = b->data + b->size;
    b->size += size;
    return at;
}

bool buf_append(struct buf *b, const void *data, size_t size)
{
    if (size == 0) return true;
    uint8_t *at = buf_extend(b, size);
    if (at == NULL) return false;
    memcpy(at, data, size);
    return true;
}

void buf_drop_front(struct buf *b, size_t size)
{
    ASSERT(size <= b->size);
    if (size == 0) return;
    memmove(b->data, b->data + size, b->size - size);
    b->size -= size;
}

const uint8_t *reader_take(struct reader *r, size_t size)
{
    if (r->bad || size > r->size - r->at) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *p = r->data + r->at;
    r->at += size;
    return p;
}

uint8_t reader_u8(struct reader *r)
{
    const uint8_t *p = reader_take(r, 1);
    return p == NULL ? 0 : *p;
}

uint16_t reader_u16(struct reader *r)
{
    const uint8_t *p = reader_take(r, 2);
    return p == NULL ? 0 : get_u16(p);
}

uint32_t reader_u32(struct reader *r)
{
    const uint8_t *p = reader_take(r, 4);
    return p == NULL ? 0 : get_u32(p);
}

uint64_t reader_u64(struct reader *r)
{
    const uint8_t *p = reader_take(r, 8);
    return p == NULL ? 0 : get_u64(p);
}
