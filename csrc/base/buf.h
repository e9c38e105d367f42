/* A growing run of bytes, and little-endian reading and writing of integers. */
#ifndef RAFT_BASE_BUF_H
#define RAFT_BASE_BUF_H

#include "base/base.h"

#pragma GCC visibility push(hidden)

struct buf {
    uint8_t *data;
    size_t size, capacity;
};

void buf_free(struct buf *b);                    /* back to empty, memory given back */
uint8_t *buf_extend(struct buf *b, size_t size); /* room for size more bytes, counted as written; NULL: no memory */
bool buf_append(struct buf *b, const void *data, size_t size); /* false: no memory, nothing changed */
void buf_drop_front(struct buf *b, size_t size);               /* the rest moves to the front */

static inline void put_u16(uint8_t *p, uint16_t v)
{
    for (int i = 0; i < 2; i++) p[i] = (uint8_t)(v >> (8 * i));
}
static inline void put_u32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (8 * i));
}
static inline void put_u64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(v >> (8 * i));
}
static inline uint16_t get_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)get_u16(p) | (uint32_t)get_u16(p + 2) << 16;
}
static inline uint64_t get_u64(const uint8_t *p)
{
    return (uint64_t)get_u32(p) | (uint64_t)get_u32(p + 4) << 32;
}

/* Reads a run of bytes that nobody has vouched for: past the end every read gives 0 and `bad` is set. */
struct reader {
    const uint8_t *data;
    size_t size, at;
    bool bad;
};

const uint8_t *reader_take(struct reader *r, size_t size); /* NULL and bad when fewer bytes are left */
uint8_t reader_u8(struct reader *r);
uint16_t reader_u16(struct reader *r);
uint32_t reader_u32(struct reader *r);
uint64_t reader_u64(struct reader *r);

#pragma GCC visibility pop

#endif
