#include "store/smallfile.h"

#include <stdio.h>

#include "base/hash.h"
#include "store/format.h"

#define HEADER 32u
#define VERSION 1u

static const uint8_t magic[8] = {'R', 'a', 'f', 't', 'F', 'i', 'l', 'e'};

const char *smallfile_name(enum smallfile_kind kind)
{
    switch (kind) {
    case SMALLFILE_IDENTITY: return "identity";
    case SMALLFILE_PEERS: return "peers";
    default: ASSERT(kind == SMALLFILE_REJOIN); return "rejoin";
    }
}

static uint64_t body_hash(const uint8_t *header, const void *body, size_t size)
{
    return hash64(body, size, hash64(header, 24, 0));
}

static bool encode(struct buf *out, enum smallfile_kind kind, const void *body, size_t size)
{
    uint8_t *p = buf_extend(out, HEADER + size);
    if (p == NULL) return false;
    memset(p, 0, HEADER);
    memcpy(p, magic, sizeof magic);
    put_u32(p + 8, VERSION);
    put_u32(p + 12, kind);
    put_u32(p + 16, (uint32_t)size);
    put_u64(p + 24, body_hash(p, body, size));
    if (size > 0) memcpy(p + HEADER, body, size);
    return true;
}

/* Writes data under a temporary name, then moves it to its place. */
static int replace(struct io *io, const char *dir, const char *name, const struct buf *data, struct err *e)
{
    char path[FORMAT_PATH_MAX], aside[FORMAT_PATH_MAX], aside_name[32];
    snprintf(aside_name, sizeof aside_name, "%s.tmp", name);
    format_path(path, dir, name);
    format_path(aside, dir, aside_name);
    struct err ignored;
    io_remove(io, aside, &ignored); /* what an earlier attempt left; if it cannot go, creating says so */
    struct io_file *file;
    if (io_open(io, aside, IO_OPEN_WRITE | IO_OPEN_CREATE, &file, e) != OK) return e->code;
    int status = io_write(io, file, 0, data->data, data->size, e);
    io_close(io, file);
    if (status == OK) status = io_rename(io, aside, path, e);
    if (status == OK) status = io_sync_dir(io, dir, e);
    return status;
}

int smallfile_write(struct io *io, const char *dir, enum smallfile_kind kind, const void *body, size_t size,
                    struct err *e)
{
    const char *name = smallfile_name(kind);
    struct buf data = {0};
    if (size > SMALLFILE_BODY_MAX) {
        return err_set(e, ERR_TOO_LARGE, "%s/%s: %zu bytes are too many for one small file", dir, name, size);
    }
    if (!encode(&data, kind, body, size)) return err_set(e, ERR_NOMEM, "%s/%s: out of memory", dir, name);
    int status = replace(io, dir, name, &data, e);
    buf_free(&data);
    return status;
}

static int read_whole(struct io *io, struct io_file *file, const char *path, struct buf *out, struct err *e)
{
    uint64_t size;
    size_t got;
    if (io_size(io, file, &size, e) != OK) return e->code;
    if (size < HEADER || size > HEADER + SMALLFILE_BODY_MAX) {
        return err_set(e, ERR_CORRUPT, "%s: damaged: a size of %" PRIu64 " bytes makes no sense", path, size);
    }
    uint8_t *p = buf_extend(out, (size_t)size);
    if (p == NULL) return err_set(e, ERR_NOMEM, "%s: out of memory", path);
    if (io_read(io, file, 0, p, (size_t)size, &got, e) != OK) return e->code;
    if (got != size) return err_set(e, ERR_IO, "%s: only %zu of %" PRIu64 " bytes were read", path, got, size);
    return OK;
}

static int check(const struct buf *data, enum smallfile_kind kind, const char *path, struct err *e)
{
    const uint8_t *p = data->data;
    if (memcmp(p, magic, sizeof magic) != 0) {
        return err_set(e, ERR_CORRUPT, "%s: damaged at offset 0: it does not begin as such a file does", path);
    }
    if (get_u64(p + 24) != body_hash(p, p + HEADER, data->size - HEADER)) {
        return err_set(e, ERR_CORRUPT, "%s: damaged: the checksum of bytes 0..%zu differs", path, data->size - 1);
    }
    if (get_u32(p + 8) > VERSION) {
        return err_set(e, ERR_VERSION, "%s: written in format %u, this program reads up to %u: use a newer one", path,
                       (unsigned)get_u32(p + 8), VERSION);
    }
    if (get_u32(p + 12) != (uint32_t)kind || get_u32(p + 16) != data->size - HEADER) {
        return err_set(e, ERR_CORRUPT, "%s: damaged: its header does not fit its name and size", path);
    }
    return OK;
}

int smallfile_read(struct io *io, const char *dir, enum smallfile_kind kind, struct buf *body, struct err *e)
{
    char path[FORMAT_PATH_MAX];
    struct io_file *file;
    *body = (struct buf){0};
    format_path(path, dir, smallfile_name(kind));
    if (io_open(io, path, 0, &file, e) != OK) return e->code;
    int status = read_whole(io, file, path, body, e);
    io_close(io, file);
    if (status == OK) status = check(body, kind, path, e);
    if (status == OK) buf_drop_front(body, HEADER);
    return status;
}
