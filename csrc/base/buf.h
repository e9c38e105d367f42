/* A growing run of bytes, and little-endian reading and writing of integers. */
#ifndef RAFT_BASE_BUF_H
#define RAFT_BASE_BUF_H

#include <endian.h>

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

/* By memcpy: byte by byte, compilers make eight stores of one. */
static inline void put_u16(uint8_t *p, uint16_t v)
{
    v = htole16(v);
    memcpy(p, &v, sizeof v);
}
static inline void put_u32(uint8_t *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, sizeof v);
}
static inline void put_u64(uint8_t *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, sizeof v);
}
static inline uint16_t get_u16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return le16toh(v);
}
static inline uint32_t get_u32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return le32toh(v);
}
static inline uint64_t get_u64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return le64toh(v);
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
