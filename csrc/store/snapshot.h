/* The bytes of a snapshot: a run of records, cut into blocks with checksums, between a header and a footer. Little-
 * endian.
 *
 * It is written from front to back, in a fixed amount of memory, into any sink: a forked child can do it, and a state
 * larger than memory can be written and read record by record. The footer is written last and proves that all of it is
 * there. Every block but the last has the same size: any part of the file can be read and checked without the rest.
 *
 *   offset size
 *        0    8  magic "RaftSnap"
 *        8    4  version: 1
 *       12    4  group id: 0
 *       16   16  cluster id
 *       32    8  index            40  8  term: of the last entry that is in it
 *       48    8  leader's clock, us
 *       56    8  version of the machine
 *       64    8  id: drawn at random
 *       72   48  zero
 *      120    8  hash of bytes 0..119
 *
 * Blocks of SNAPSHOT_BLOCK bytes follow, the last one perhaps shorter:
 *        0    4  magic "RaSb"
 *        4    4  size of its bytes
 *        8    8  its offset in the file
 *       16    8  hash, seeded by the id: of bytes 0..15 and then of its bytes
 *       24       its bytes
 *
 * The footer, the last SNAPSHOT_FOOTER bytes of the file:
 *        0    8  magic "RaftSEnd"
 *        8    8  size of the file
 *       16    8  number of records
 *       24    8  bytes of all blocks, without headers
 *       32    8  hash over the hashes of the blocks, seeded by the id
 *       40   16  zero
 *       56    8  hash, seeded by the id: of bytes 0..55
 *
 * The bytes of all blocks together are the records, without a gap; a record may go over many blocks:
 *        0    4  size             4  1  kind: the writer's business             5  3  zero
 *        8       bytes */
#ifndef RAFT_STORE_SNAPSHOT_H
#define RAFT_STORE_SNAPSHOT_H

#include "base/io.h"
#include "store/store.h"

#pragma GCC visibility push(hidden)

#define SNAPSHOT_HEADER 128u
#define SNAPSHOT_BLOCK 16384u
#define SNAPSHOT_BLOCK_HEADER 24u
#define SNAPSHOT_FOOTER 64u
#define SNAPSHOT_RECORD_HEADER 8u
#define SNAPSHOT_RECORD_MAX (1u << 30)

/* ---- writing ---- */

/* Uses nothing but the sink. */
struct snapshot_writer {
    struct io_sink *sink;
    int status;        /* of the first put that failed: no other follows it */
    struct err error;  /* with status */
    uint64_t id, at;   /* at: bytes put */
    uint64_t records, bytes, chain;
    uint32_t left;     /* of the record that is open */
    size_t used;       /* of block */
    uint8_t block[SNAPSHOT_BLOCK];
};

/* All return status: OK, or what the sink has returned. */

/* what->size is not looked at. */
int snapshot_write_begin(struct snapshot_writer *w, struct io_sink *sink, const uint8_t *cluster,
                         const struct store_snapshot *what);
/* Precondition: kind is not 0, size <= SNAPSHOT_RECORD_MAX. */
int snapshot_write_record(struct snapshot_writer *w, uint8_t kind, const void *data, size_t size);
/* The same in pieces: first the size of all, then as many bytes in any number of calls. */
int snapshot_write_record_begin(struct snapshot_writer *w, uint8_t kind, size_t size);
int snapshot_write_record_bytes(struct snapshot_writer *w, const void *data, size_t size);
/* The last block and the footer. *size: of the file. */
int snapshot_write_end(struct snapshot_writer *w, uint64_t *size);

/* ---- reading ---- */

/* Takes the next record off a run of whole records (store_view_records). false: none is left, or (r->bad) what is left
 * is no whole record. */
bool snapshot_record_next(struct reader *r, uint8_t *kind, const uint8_t **data, uint32_t *size);

/* A file that is read from front to back, a block at a time. What is read is checked. */
struct snapshot_scan {
    struct io *io;
    struct io_file *file;
    const char *path;           /* borrowed */
    struct store_snapshot what; /* size: of the file */
    uint64_t at;                /* offset of the next block */
    uint64_t blocks_end;        /* where the footer begins */
    uint64_t records, bytes, chain;
    uint8_t head[SNAPSHOT_RECORD_HEADER]; /* of the record that has begun, as far as it was seen */
    size_t head_size;
    uint32_t left;              /* of its bytes, not seen yet */
    uint8_t header[SNAPSHOT_HEADER], footer[SNAPSHOT_FOOTER];
    uint8_t block[SNAPSHOT_BLOCK];
};

/* All block. Errors name the file, and the offset of damage: ERR_CORRUPT (cut off, hashes or places differ),
 * ERR_FOREIGN (of another cluster), ERR_VERSION, ERR_IO, ERR_NOMEM, ERR_NOENT. */

/* Opens a file and reads header and footer. cluster: whose it must be; NULL = whoever's, then *found is set.
 * On success the caller closes it with snapshot_scan_close. */
int snapshot_scan_open(struct snapshot_scan *s, struct io *io, const char *path, const uint8_t *cluster, uint8_t *found,
                       struct err *e);
void snapshot_scan_close(struct snapshot_scan *s);
/* Records in the whole file, as its footer says. */
uint64_t snapshot_scan_total(const struct snapshot_scan *s);
/* The bytes of the next block, in s->block until the next call. *size is 0 when there is no other: then the whole file
 * is sound, if it was scanned from its beginning. */
int snapshot_scan_next(struct snapshot_scan *s, const uint8_t **bytes, size_t *size, struct err *e);
/* The bytes of the block that begins at *offset, which moves on to the next one: from anywhere, without a look at
 * records and footer. *size is 0 when there is no other. */
int snapshot_scan_block(struct snapshot_scan *s, uint64_t *offset, const uint8_t **bytes, size_t *size, struct err *e);
/* Appends bytes [offset, offset + size) of the file, or as many as there are, to out; they are checked. After an error
 * out is as before. */
int snapshot_scan_copy(struct snapshot_scan *s, uint64_t offset, size_t size, struct buf *out, struct err *e);

#pragma GCC visibility pop

#endif
