#include "wire/transfer.h"

#include "base/hash.h"

#define FILE_BYTES 32u
#define META_MAX (16 + FILE_BYTES + 12)
#define HASH_BYTES 8u

static uint8_t *put_file(uint8_t *p, const struct transfer_file *file)
{
    put_u64(p, file->index);
    put_u64(p + 8, file->term);
    put_u64(p + 16, file->id);
    put_u64(p + 24, file->size);
    return p + FILE_BYTES;
}

static size_t put_meta(uint8_t *meta, enum frame_type type, const struct transfer *t)
{
    uint8_t *p = meta;
    if (type == FRAME_FETCHED) {
        put_u64(p, t->file.index);
        p[8] = t->ok;
        return 9;
    }
    if (type == FRAME_OFFER) {
        put_u64(p, t->term);
        put_u64(p + 8, t->first);
        return (size_t)(put_file(p + 16, &t->file) - meta);
    }
    p = put_file(p, &t->file);
    put_u64(p, t->offset);
    if (type == FRAME_CHUNK) return (size_t)(p + 8 - meta);
    put_u32(p + 8, t->size);
    return (size_t)(p + 12 - meta);
}

/* What stands before the bytes of a piece. */
#define CHUNK_HEAD (FRAME_HEADER + FILE_BYTES + 8 + HASH_BYTES)

bool transfer_chunk_begin(struct buf *frame)
{
    ASSERT(frame->size == 0);
    return buf_extend(frame, CHUNK_HEAD) != NULL;
}

/* The head is written into room that is there: nothing can fail. */
void transfer_chunk_end(struct buf *frame, uint32_t group, const struct transfer_file *file, uint64_t offset)
{
    uint8_t meta[META_MAX];
    const struct transfer t = {.file = *file, .offset = offset};
    size_t start, size = put_meta(meta, FRAME_CHUNK, &t), whole = frame->size;
    ASSERT(whole > CHUNK_HEAD && whole - CHUNK_HEAD <= TRANSFER_CHUNK_MAX);
    frame->size = 0;
    frame_begin(frame, FRAME_CHUNK, group, &start);
    buf_append(frame, meta, size);
    frame_meta_done(frame, start);
    ASSERT(frame->size + HASH_BYTES == CHUNK_HEAD);
    put_u64(frame->data + frame->size, hash64(frame->data + CHUNK_HEAD, whole - CHUNK_HEAD, offset));
    frame->size = whole;
    frame_end(frame, start);
}

bool transfer_write(struct buf *out, uint32_t group, enum frame_type type, const struct transfer *t)
{
    uint8_t meta[META_MAX];
    struct buf chunk = {0};
    if (type != FRAME_CHUNK || t->size == 0) return frame_write(out, type, group, meta, put_meta(meta, type, t));
    bool written = transfer_chunk_begin(&chunk) && buf_append(&chunk, t->bytes, t->size);
    if (written) {
        transfer_chunk_end(&chunk, group, &t->file, t->offset);
        written = buf_append(out, chunk.data, chunk.size);
    }
    buf_free(&chunk);
    return written;
}

static void take_file(struct reader *r, struct transfer_file *file)
{
    file->index = reader_u64(r);
    file->term = reader_u64(r);
    file->id = reader_u64(r);
    file->size = reader_u64(r);
}

static bool take_bytes(const struct frame *f, struct transfer *out)
{
    if (f->entries_size == 0) return true;
    if (f->entries_size <= HASH_BYTES || f->entries_size - HASH_BYTES > TRANSFER_CHUNK_MAX) return false;
    out->size = f->entries_size - HASH_BYTES;
    out->bytes = f->entries + HASH_BYTES;
    out->holder = f->holder;
    return out->offset <= out->file.size && out->size <= out->file.size - out->offset &&
           get_u64(f->entries) == hash64(out->bytes, out->size, out->offset);
}

int transfer_read(const struct frame *f, struct transfer *out, struct err *e)
{
    struct reader r = {.data = f->meta, .size = f->meta_size};
    bool ok = true;
    *out = (struct transfer){0};
    if (f->type == FRAME_FETCHED) {
        out->file.index = reader_u64(&r);
        uint8_t told = reader_u8(&r);
        out->ok = told == 1;
        ok = told <= 1;
    } else {
        if (f->type == FRAME_OFFER) out->term = reader_u64(&r);
        if (f->type == FRAME_OFFER) out->first = reader_u64(&r);
        take_file(&r, &out->file);
        if (f->type != FRAME_OFFER) out->offset = reader_u64(&r);
        if (f->type == FRAME_FETCH) out->size = reader_u32(&r);
        if (f->type == FRAME_FETCH) ok = out->size >= 1 && out->size <= TRANSFER_CHUNK_MAX;
        if (f->type == FRAME_CHUNK) ok = take_bytes(f, out);
    }
    bool empty = f->type == FRAME_CHUNK || f->entries_size == 0;
    if (ok && empty && !r.bad && r.at == r.size && out->file.index != 0) return OK;
    return err_set(e, ERR_CORRUPT, "malformed transfer of a snapshot");
}
