#include "store/epoch.h"

#include "base/hash.h"
#include "store/format.h"

#define COPY_BYTES 40u
#define HASHED 32u
#define VERSION 1u

static const uint8_t magic[8] = {'R', 'a', 'f', 't', 'L', 'i', 'f', 'e'};

static void encode(uint8_t *p, const struct epoch *epoch)
{
    memset(p, 0, COPY_BYTES);
    memcpy(p, magic, sizeof magic);
    put_u32(p + 8, VERSION);
    put_u64(p + 16, epoch->life);
    put_u64(p + 24, epoch->batch);
    put_u64(p + HASHED, hash64(p, HASHED, 0));
}

/* Takes over a copy that is whole and newer than *out. */
static void decode(const uint8_t *p, struct epoch *out, bool *newer_version)
{
    if (memcmp(p, magic, sizeof magic) != 0 || get_u64(p + HASHED) != hash64(p, HASHED, 0)) return;
    struct epoch copy = {.life = get_u64(p + 16), .batch = get_u64(p + 24)};
    if (get_u32(p + 8) != VERSION) *newer_version = true;
    else if (copy.life > out->life || (copy.life == out->life && copy.batch > out->batch)) *out = copy;
}

static int write_copies(struct io *io, struct io_file *file, const struct epoch *epoch, struct err *e)
{
    uint8_t copy[COPY_BYTES];
    encode(copy, epoch);
    int status = io_write(io, file, 0, copy, sizeof copy, e);
    return status != OK ? status : io_write(io, file, IO_BLOCK, copy, sizeof copy, e);
}

int epoch_create(struct io *io, const char *dir, const struct epoch *epoch, struct err *e)
{
    char path[FORMAT_PATH_MAX];
    struct io_file *file;
    format_path(path, dir, "epoch");
    int status = io_remove(io, path, e);
    if (status != OK && status != ERR_NOENT) return status;
    if (io_open(io, path, IO_OPEN_WRITE | IO_OPEN_CREATE, &file, e) != OK) return e->code;
    status = write_copies(io, file, epoch, e);
    io_close(io, file);
    return status != OK ? status : io_sync_dir(io, dir, e);
}

int epoch_update(struct io *io, const char *dir, const struct epoch *epoch, struct err *e)
{
    char path[FORMAT_PATH_MAX];
    struct io_file *file;
    format_path(path, dir, "epoch");
    if (io_open(io, path, IO_OPEN_WRITE, &file, e) != OK) return e->code;
    int status = write_copies(io, file, epoch, e);
    io_close(io, file);
    return status;
}

int epoch_read(struct io *io, const char *dir, struct epoch *out, struct err *e)
{
    char path[FORMAT_PATH_MAX];
    uint8_t bytes[IO_BLOCK + COPY_BYTES] = {0};
    struct io_file *file;
    size_t got;
    bool newer_version = false;
    *out = (struct epoch){0};
    format_path(path, dir, "epoch");
    if (io_open(io, path, 0, &file, e) != OK) return e->code;
    int status = io_read(io, file, 0, bytes, sizeof bytes, &got, e);
    io_close(io, file);
    if (status != OK) return status;
    decode(bytes, out, &newer_version);
    decode(bytes + IO_BLOCK, out, &newer_version);
    if (newer_version) return err_set(e, ERR_VERSION, "%s: written by another version of this program", path);
    if (out->life > 0) return OK;
    return err_set(e, ERR_CORRUPT, "%s: damaged at offset 0: neither of its two copies is whole", path);
}
