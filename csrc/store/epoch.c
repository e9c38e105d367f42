#include "store/epoch.h"

#include "base/hash.h"
#include "store/format.h"

#define HASHED (32u + 8u * HELLO_LIVES)
#define COPY_BYTES (HASHED + 8u)
#define VERSION 1u

static const uint8_t magic[8] = {'R', 'a', 'f', 't', 'L', 'i', 'f', 'e'};

void epoch_begin_life(struct epoch *epoch, uint64_t life)
{
    ASSERT(life > epoch->life);
    memmove(epoch->before + 1, epoch->before, sizeof epoch->before - sizeof epoch->before[0]);
    epoch->before[0] = epoch->life;
    epoch->life = life;
}

static void encode(uint8_t *p, const struct epoch *epoch)
{
    memset(p, 0, COPY_BYTES);
    memcpy(p, magic, sizeof magic);
    put_u32(p + 8, VERSION);
    put_u64(p + 16, epoch->life);
    put_u64(p + 24, epoch->batch);
    for (size_t i = 0; i < HELLO_LIVES; i++) put_u64(p + 32 + 8 * i, epoch->before[i]);
    put_u64(p + HASHED, hash64(p, HASHED, 0));
}

/* Takes over a copy if it is whole. */
static void decode(const uint8_t *p, struct epoch *out, bool *newer_version)
{
    if (memcmp(p, magic, sizeof magic) != 0 || get_u64(p + HASHED) != hash64(p, HASHED, 0)) return;
    if (get_u32(p + 8) != VERSION) {
        *newer_version = true;
        return;
    }
    *out = (struct epoch){.life = get_u64(p + 16), .batch = get_u64(p + 24)};
    for (size_t i = 0; i < HELLO_LIVES; i++) out->before[i] = get_u64(p + 32 + 8 * i);
}

static bool is_newer(const struct epoch *a, const struct epoch *b)
{
    return a->life != b->life ? a->life > b->life : a->batch > b->batch;
}

/* first: 0 or 1, the copy that is written before the other. */
static int write_copies(struct io *io, struct io_file *file, const struct epoch *epoch, int first, struct err *e)
{
    uint8_t copy[COPY_BYTES];
    encode(copy, epoch);
    int status = io_write(io, file, first * IO_BLOCK, copy, sizeof copy, e);
    return status != OK ? status : io_write(io, file, (1 - first) * IO_BLOCK, copy, sizeof copy, e);
}

static int read_copies(struct io *io, struct io_file *file, struct epoch copies[2], bool *newer_version, struct err *e)
{
    uint8_t bytes[IO_BLOCK + COPY_BYTES] = {0};
    size_t got;
    copies[0] = copies[1] = (struct epoch){0};
    int status = io_read(io, file, 0, bytes, sizeof bytes, &got, e);
    if (status != OK) return status;
    decode(bytes, &copies[0], newer_version);
    decode(bytes + IO_BLOCK, &copies[1], newer_version);
    return OK;
}

int epoch_create(struct io *io, const char *dir, const struct epoch *epoch, struct err *e)
{
    char path[FORMAT_PATH_MAX];
    struct io_file *file;
    format_path(path, dir, "epoch");
    int status = io_remove(io, path, e);
    if (status != OK && status != ERR_NOENT) return status;
    if (io_open(io, path, IO_OPEN_WRITE | IO_OPEN_CREATE, &file, e) != OK) return e->code;
    status = write_copies(io, file, epoch, 0, e);
    io_close(io, file);
    return status != OK ? status : io_sync_dir(io, dir, e);
}

int epoch_update(struct io *io, const char *dir, const struct epoch *epoch, struct err *e)
{
    char path[FORMAT_PATH_MAX];
    struct io_file *file;
    format_path(path, dir, "epoch");
    if (io_open(io, path, IO_OPEN_WRITE, &file, e) != OK) return e->code;
    struct epoch copies[2];
    bool newer_version = false;
    int status = read_copies(io, file, copies, &newer_version, e);
    /* The better copy stays until the other one is whole: an earlier update may have died in between. */
    if (status == OK) status = write_copies(io, file, epoch, is_newer(&copies[0], &copies[1]), e);
    io_close(io, file);
    return status;
}

int epoch_read(struct io *io, const char *dir, struct epoch *out, struct err *e)
{
    char path[FORMAT_PATH_MAX];
    struct io_file *file;
    struct epoch copies[2];
    bool newer_version = false;
    *out = (struct epoch){0};
    format_path(path, dir, "epoch");
    if (io_open(io, path, 0, &file, e) != OK) return e->code;
    int status = read_copies(io, file, copies, &newer_version, e);
    io_close(io, file);
    if (status != OK) return status;
    *out = copies[is_newer(&copies[1], &copies[0])];
    if (newer_version) return err_set(e, ERR_VERSION, "%s: written by another version of this program", path);
    if (out->life > 0) return OK;
    return err_set(e, ERR_CORRUPT, "%s: damaged at offset 0: neither of its two copies is whole", path);
}
