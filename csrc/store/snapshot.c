#include "store/snapshot.h"

#include "base/hash.h"

#define VERSION 1u
#define BLOCK_MAGIC 0x62536152u
#define BLOCK_HASHED 16u /* bytes of a block's header that are under its hash */
#define HEADER_HASHED 120u
#define FOOTER_HASHED 56u

static const uint8_t header_magic[8] = {'R', 'a', 'f', 't', 'S', 'n', 'a', 'p'};
static const uint8_t footer_magic[8] = {'R', 'a', 'f', 't', 'S', 'E', 'n', 'd'};

static uint64_t block_hash(const uint8_t *block, size_t bytes, uint64_t id)
{
    return hash64(block + SNAPSHOT_BLOCK_HEADER, bytes, hash64(block, BLOCK_HASHED, id));
}

/* One more block's hash into the hash over all. */
static uint64_t chain_on(uint64_t chain, uint64_t hash)
{
    uint8_t bytes[8];
    put_u64(bytes, hash);
    return hash64(bytes, sizeof bytes, chain);
}

/* ---- writing ---- */

static int hand_out(struct snapshot_writer *w, const void *data, size_t size)
{
    if (w->status == OK) w->status = w->sink->put(w->sink, data, size, &w->error);
    w->at += size;
    return w->status;
}

int snapshot_write_begin(struct snapshot_writer *w, struct io_sink *sink, const uint8_t *cluster,
                         const struct store_snapshot *what)
{
    uint8_t header[SNAPSHOT_HEADER] = {0};
    w->sink = sink;
    w->status = OK;
    w->id = w->chain = what->id;
    w->at = w->records = w->bytes = 0;
    w->left = 0;
    w->used = SNAPSHOT_BLOCK_HEADER;
    memcpy(header, header_magic, sizeof header_magic);
    put_u32(header + 8, VERSION);
    memcpy(header + 16, cluster, 16);
    put_u64(header + 32, what->index);
    put_u64(header + 40, what->term);
    put_u64(header + 48, what->time_us);
    put_u64(header + 56, what->version);
    put_u64(header + 64, what->id);
    put_u64(header + HEADER_HASHED, hash64(header, HEADER_HASHED, 0));
    return hand_out(w, header, sizeof header);
}

static int flush(struct snapshot_writer *w)
{
    size_t bytes = w->used - SNAPSHOT_BLOCK_HEADER;
    if (bytes == 0) return w->status;
    put_u32(w->block, BLOCK_MAGIC);
    put_u32(w->block + 4, (uint32_t)bytes);
    put_u64(w->block + 8, w->at);
    uint64_t hash = block_hash(w->block, bytes, w->id);
    put_u64(w->block + BLOCK_HASHED, hash);
    w->chain = chain_on(w->chain, hash);
    w->bytes += bytes;
    size_t size = w->used;
    w->used = SNAPSHOT_BLOCK_HEADER;
    return hand_out(w, w->block, size);
}

static int add(struct snapshot_writer *w, const uint8_t *data, size_t size)
{
    while (size > 0 && w->status == OK) {
        size_t some = MIN(size, SNAPSHOT_BLOCK - w->used);
        memcpy(w->block + w->used, data, some);
        w->used += some;
        data += some;
        size -= some;
        if (w->used == SNAPSHOT_BLOCK) flush(w);
    }
    return w->status;
}

int snapshot_write_record_begin(struct snapshot_writer *w, uint8_t kind, size_t size)
{
    uint8_t head[SNAPSHOT_RECORD_HEADER] = {0};
    ASSERT(w->left == 0 && kind != 0 && size <= SNAPSHOT_RECORD_MAX);
    put_u32(head, (uint32_t)size);
    head[4] = kind;
    w->left = (uint32_t)size;
    w->records++;
    return add(w, head, sizeof head);
}

int snapshot_write_record_bytes(struct snapshot_writer *w, const void *data, size_t size)
{
    ASSERT(size <= w->left);
    w->left -= (uint32_t)size;
    return add(w, data, size);
}

int snapshot_write_record(struct snapshot_writer *w, uint8_t kind, const void *data, size_t size)
{
    snapshot_write_record_begin(w, kind, size);
    return snapshot_write_record_bytes(w, data, size);
}

int snapshot_write_end(struct snapshot_writer *w, uint64_t *size)
{
    uint8_t footer[SNAPSHOT_FOOTER] = {0};
    ASSERT(w->left == 0);
    flush(w);
    *size = w->at + sizeof footer;
    memcpy(footer, footer_magic, sizeof footer_magic);
    put_u64(footer + 8, *size);
    put_u64(footer + 16, w->records);
    put_u64(footer + 24, w->bytes);
    put_u64(footer + 32, w->chain);
    put_u64(footer + FOOTER_HASHED, hash64(footer, FOOTER_HASHED, w->id));
    return hand_out(w, footer, sizeof footer);
}

/* ---- reading ---- */

bool snapshot_record_next(struct reader *r, uint8_t *kind, const uint8_t **data, uint32_t *size)
{
    if (r->at == r->size) return false;
    *size = reader_u32(r);
    *kind = reader_u8(r);
    reader_take(r, 3);
    *data = r->bad ? NULL : reader_take(r, *size);
    return !r->bad;
}

/* Returns ERR_CORRUPT. */
static int damaged(const struct snapshot_scan *s, uint64_t offset, const char *why, struct err *e)
{
    return err_set(e, ERR_CORRUPT, "%s: damaged at offset %" PRIu64 " (%s)", s->path, offset, why);
}

static int read_at(struct snapshot_scan *s, uint64_t offset, void *data, size_t size, struct err *e)
{
    size_t got;
    if (io_read(s->io, s->file, offset, data, size, &got, e) != OK) return e->code;
    return got == size ? OK : damaged(s, offset + got, "the file has been cut there", e);
}

static int check_header(struct snapshot_scan *s, const uint8_t *cluster, uint8_t *found, struct err *e)
{
    const uint8_t *header = s->header;
    if (memcmp(header, header_magic, sizeof header_magic) != 0) {
        return damaged(s, 0, "it does not begin as a snapshot does", e);
    }
    if (get_u64(header + HEADER_HASHED) != hash64(header, HEADER_HASHED, 0)) {
        return damaged(s, 0, "the checksum of the header differs", e);
    }
    if (get_u32(header + 8) != VERSION || get_u32(header + 12) != 0) {
        return err_set(e, ERR_VERSION, "%s: written by another version of this program: use that one", s->path);
    }
    if (cluster != NULL && memcmp(header + 16, cluster, 16) != 0) {
        return err_set(e, ERR_FOREIGN, "%s belongs to another cluster: files have been mixed", s->path);
    }
    if (found != NULL) memcpy(found, header + 16, 16);
    s->what.index = get_u64(header + 32);
    s->what.term = get_u64(header + 40);
    s->what.time_us = get_u64(header + 48);
    s->what.version = get_u64(header + 56);
    s->what.id = s->chain = get_u64(header + 64);
    return s->what.index > 0 ? OK : damaged(s, 32, "an index of 0", e);
}

static int check_footer(struct snapshot_scan *s, struct err *e)
{
    const uint8_t *footer = s->footer;
    if (memcmp(footer, footer_magic, sizeof footer_magic) != 0) {
        return damaged(s, s->blocks_end, "it does not end as a snapshot does: it is not whole", e);
    }
    if (get_u64(footer + FOOTER_HASHED) != hash64(footer, FOOTER_HASHED, s->what.id)) {
        return damaged(s, s->blocks_end, "the checksum of the footer differs", e);
    }
    if (get_u64(footer + 8) != s->what.size) {
        return damaged(s, s->blocks_end, "it was made with another size", e);
    }
    return OK;
}

int snapshot_scan_open(struct snapshot_scan *s, struct io *io, const char *path, const uint8_t *cluster, uint8_t *found,
                       struct err *e)
{
    memset(s, 0, offsetof(struct snapshot_scan, block));
    s->io = io;
    s->path = path;
    s->at = SNAPSHOT_HEADER;
    if (io_open(io, path, 0, &s->file, e) != OK) return e->code;
    int status = io_size(io, s->file, &s->what.size, e);
    if (status == OK && s->what.size < SNAPSHOT_HEADER + SNAPSHOT_FOOTER) {
        status = damaged(s, s->what.size, "the file has been cut there", e);
    }
    if (status == OK) s->blocks_end = s->what.size - SNAPSHOT_FOOTER;
    if (status == OK) status = read_at(s, 0, s->header, sizeof s->header, e);
    if (status == OK) status = check_header(s, cluster, found, e);
    if (status == OK) status = read_at(s, s->blocks_end, s->footer, sizeof s->footer, e);
    if (status == OK) status = check_footer(s, e);
    if (status != OK) snapshot_scan_close(s);
    return status;
}

void snapshot_scan_close(struct snapshot_scan *s)
{
    io_close(s->io, s->file);
}

uint64_t snapshot_scan_total(const struct snapshot_scan *s)
{
    return get_u64(s->footer + 16);
}

/* Of the block that begins at offset. */
static size_t block_size(const struct snapshot_scan *s, uint64_t offset)
{
    return (size_t)MIN(SNAPSHOT_BLOCK, s->blocks_end - offset);
}

/* The block that has been read from offset. */
static int check_block(const struct snapshot_scan *s, uint64_t offset, const uint8_t *block, size_t size, struct err *e)
{
    if (size <= SNAPSHOT_BLOCK_HEADER) return damaged(s, offset, "the last block makes no sense", e);
    size_t bytes = size - SNAPSHOT_BLOCK_HEADER;
    if (get_u32(block) != BLOCK_MAGIC || get_u32(block + 4) != bytes || get_u64(block + 8) != offset) {
        return damaged(s, offset, "no block begins there", e);
    }
    if (get_u64(block + BLOCK_HASHED) != block_hash(block, bytes, s->what.id)) {
        return damaged(s, offset, "the checksum of the block differs", e);
    }
    return OK;
}

/* Reads and checks the block at offset, which is where one begins. */
static int read_block(struct snapshot_scan *s, uint64_t offset, size_t *size, struct err *e)
{
    *size = block_size(s, offset);
    if (read_at(s, offset, s->block, *size, e) != OK) return e->code;
    return check_block(s, offset, s->block, *size, e);
}

/* Follows the records through the bytes of one more block. NULL, or what is wrong with them. */
static const char *follow(struct snapshot_scan *s, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        size_t some;
        if (s->head_size < sizeof s->head) {
            some = MIN(size, sizeof s->head - s->head_size);
            memcpy(s->head + s->head_size, bytes, some);
            s->head_size += some;
            if (s->head_size < sizeof s->head) return NULL;
            s->left = get_u32(s->head);
            s->records++;
            if (s->head[4] == 0 || s->left > SNAPSHOT_RECORD_MAX) return "a record makes no sense";
        } else {
            some = MIN(size, s->left);
            s->left -= (uint32_t)some;
        }
        bytes += some;
        size -= some;
        if (s->left == 0) s->head_size = 0;
    }
    return NULL;
}

static int check_end(struct snapshot_scan *s, struct err *e)
{
    if (s->head_size > 0) return damaged(s, s->blocks_end, "its last record is cut off", e);
    if (s->records != snapshot_scan_total(s) || s->bytes != get_u64(s->footer + 24) ||
        s->chain != get_u64(s->footer + 32)) {
        return damaged(s, s->blocks_end, "its blocks are not those that it was made of", e);
    }
    return OK;
}

int snapshot_scan_block(struct snapshot_scan *s, uint64_t *offset, const uint8_t **bytes, size_t *size, struct err *e)
{
    size_t whole;
    *size = 0;
    if (*offset == s->blocks_end) return OK;
    if (read_block(s, *offset, &whole, e) != OK) return e->code;
    *offset += whole;
    *bytes = s->block + SNAPSHOT_BLOCK_HEADER;
    *size = whole - SNAPSHOT_BLOCK_HEADER;
    return OK;
}

int snapshot_scan_next(struct snapshot_scan *s, const uint8_t **bytes, size_t *size, struct err *e)
{
    uint64_t at = s->at;
    if (snapshot_scan_block(s, &s->at, bytes, size, e) != OK) return e->code;
    if (*size == 0) return check_end(s, e);
    const char *why = follow(s, *bytes, *size);
    if (why != NULL) return damaged(s, at, why, e);
    s->chain = chain_on(s->chain, get_u64(s->block + BLOCK_HASHED));
    s->bytes += *size;
    return OK;
}

/* The part of the file that offset is in, read into s->block and checked: header, footer (both were checked when the
 * file was opened), or a block. */
static int read_part(struct snapshot_scan *s, uint64_t offset, uint64_t *begin, size_t *size, struct err *e)
{
    if (offset >= s->blocks_end) {
        *begin = s->blocks_end;
        *size = sizeof s->footer;
        memcpy(s->block, s->footer, sizeof s->footer);
        return OK;
    }
    if (offset < SNAPSHOT_HEADER) {
        *begin = 0;
        *size = sizeof s->header;
        memcpy(s->block, s->header, sizeof s->header);
        return OK;
    }
    *begin = offset - (offset - SNAPSHOT_HEADER) % SNAPSHOT_BLOCK;
    return read_block(s, *begin, size, e);
}

/* Bytes of the whole blocks that begin at offset, of size bytes that are wanted from there; 0: none begins there. */
static size_t whole_blocks(const struct snapshot_scan *s, uint64_t offset, size_t size)
{
    bool begins = offset >= SNAPSHOT_HEADER && (offset - SNAPSHOT_HEADER) % SNAPSHOT_BLOCK == 0;
    if (!begins || offset >= s->blocks_end) return 0;
    uint64_t left = s->blocks_end - offset;
    return left <= size ? (size_t)left : size - size % SNAPSHOT_BLOCK;
}

/* Many blocks in one read, into their place, where they are checked. */
static int read_blocks(struct snapshot_scan *s, uint64_t offset, uint8_t *at, size_t size, struct err *e)
{
    int status = read_at(s, offset, at, size, e);
    for (size_t done = 0, some; status == OK && done < size; done += some) {
        some = block_size(s, offset + done);
        status = check_block(s, offset + done, at + done, some, e);
    }
    return status;
}

/* Wanted bytes of the one part that offset is in, through s->block: at most size. */
static int read_some(struct snapshot_scan *s, uint64_t offset, uint8_t *at, size_t size, size_t *some, struct err *e)
{
    uint64_t begin;
    size_t whole;
    if (read_part(s, offset, &begin, &whole, e) != OK) return e->code;
    size_t skip = (size_t)(offset - begin);
    *some = MIN(size, whole - skip);
    memcpy(at, s->block + skip, *some);
    return OK;
}

int snapshot_scan_copy(struct snapshot_scan *s, uint64_t offset, size_t size, struct buf *out, struct err *e)
{
    size = offset < s->what.size ? (size_t)MIN(size, s->what.size - offset) : 0;
    if (size == 0) return OK;
    size_t before = out->size;
    uint8_t *at = buf_extend(out, size);
    if (at == NULL) return err_set(e, ERR_NOMEM, "out of memory for %s", s->path);
    for (size_t some; size > 0; at += some, offset += some, size -= some) {
        some = whole_blocks(s, offset, size);
        int status = some > 0 ? read_blocks(s, offset, at, some, e) : read_some(s, offset, at, size, &some, e);
        if (status == OK) continue;
        out->size = before;
        return status;
    }
    return OK;
}
