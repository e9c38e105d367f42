#include "sim/sim_disk.h"

#include "base/hash.h"
#include "base/mem.h"
#include "sim/sim_trace.h"

#include <stdlib.h>

#define SECTOR 512u                    /* what a disk writes whole or not at all, but for the last one */
#define DISK_ROOM (UINT64_C(64) << 30) /* bytes free on a disk that is not full */
#define FILE_MAX (UINT64_C(1) << 30)   /* nothing simulated grows larger */

/* ---- over lives ---- */

void sim_disk_init(struct sim_disk *d, struct sim_queue *q, int node, const struct sim_faults *faults)
{
    *d = (struct sim_disk){.queue = q, .node = node, .faults = faults};
}

static void drop_process(struct sim_disk *d)
{
    while (d->files != NULL) sim_disk_close(d, d->files);
    while (d->locks != NULL) sim_disk_unlock_dir(d, d->locks);
}

void sim_disk_free(struct sim_disk *d)
{
    drop_process(d);
    sim_names_free(&d->names);
}

static void inode_crash(struct sim_disk *d, struct sim_inode *inode);

void sim_disk_crash(struct sim_disk *d)
{
    drop_process(d);
    sim_names_crash(&d->names, d->queue);
    for (size_t i = 0; i < d->names.now.count; i++) inode_crash(d, d->names.now.list[i].inode);
    d->fail_at = d->die_at = 0;
    d->dead = false;
}

void sim_disk_wipe(struct sim_disk *d)
{
    ASSERT(d->files == NULL && d->locks == NULL);
    sim_names_clear(&d->names);
}

/* ---- planned failures ---- */

void sim_disk_fail(struct sim_disk *d, uint64_t n, int code)
{
    d->fail_at = n > 0 ? d->ops + n : 0;
    d->fail_code = code;
}

void sim_disk_die(struct sim_disk *d, uint64_t n)
{
    d->die_at = n > 0 ? d->ops + n : 0;
    d->dead = false;
}

/* To be asked by every operation that touches the disk, before it does. */
static bool op_fails(struct sim_disk *d, const char *what, const char *path, struct err *e)
{
    d->ops++;
    sim_fold(d->queue, (uint64_t)(uint8_t)what[0] << 8 | (uint8_t)what[1]);
    if (d->dead) {
        err_set(e, ERR_IO, "%s %s: the process is dying", what, path);
    } else if (d->die_at == d->ops) {
        d->dead = true;
        err_set(e, ERR_IO, "%s %s: the process dies", what, path);
    } else if (d->fail_at == d->ops) {
        d->fail_at = 0;
        sim_trace_add(d->queue->trace, SIM_TRACE_NOTE, d->queue->now_us, d->node, "file operation fails", 0,
                      "%s %s: %s", what, path, err_name(d->fail_code));
        err_set(e, d->fail_code, "%s %s: planned failure", what, path);
    } else {
        return false;
    }
    return true;
}

/* ---- files ---- */

int sim_disk_open(struct sim_disk *d, const char *path, int flags, struct io_file **out, struct err *e)
{
    if (op_fails(d, "open", path, e)) return e->code;
    struct sim_inode *inode = sim_names_find(&d->names, path);
    if ((flags & IO_OPEN_CREATE) != 0) {
        if (inode != NULL) return err_set(e, ERR_EXIST, "create %s: it exists already", path);
        if (!sim_names_has_parent(&d->names, path)) {
            return err_set(e, ERR_NOENT, "create %s: no such directory", path);
        }
        if (d->full) return err_set(e, ERR_FULL, "create %s: no space left on device", path);
        inode = sim_inode_new();
        sim_names_change(&d->names, NULL, path, inode);
        sim_inode_unref(inode);
    }
    if (inode == NULL) return err_set(e, ERR_NOENT, "open %s: no such file", path);
    struct io_file *file = sim_alloc(sizeof(*file));
    file->inode = sim_inode_ref(inode);
    file->path = sim_strdup(path);
    file->flags = flags;
    file->next = d->files;
    d->files = file;
    *out = file;
    return OK;
}

void sim_disk_close(struct sim_disk *d, struct io_file *file)
{
    struct io_file **at = &d->files;
    while (*at != file) {
        ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = file->next;
    sim_inode_unref(file->inode);
    mem_free(file->path);
    mem_free(file);
}

int sim_disk_size(struct sim_disk *d, struct io_file *file, uint64_t *size, struct err *e)
{
    if (op_fails(d, "size of", file->path, e)) return e->code;
    *size = file->inode->bytes.size;
    return OK;
}

int sim_disk_read(struct sim_disk *d, struct io_file *file, uint64_t at, void *data, size_t size, size_t *got,
                  struct err *e)
{
    if (op_fails(d, "read", file->path, e)) return e->code;
    const struct buf *bytes = &file->inode->bytes;
    *got = at < bytes->size ? MIN(size, bytes->size - (size_t)at) : 0;
    if (*got > 0) memcpy(data, bytes->data + at, *got);
    return OK;
}

static void inode_grow(struct sim_inode *inode, uint64_t size)
{
    ASSERT(size <= FILE_MAX);
    size_t old = inode->bytes.size;
    if (size <= old) return;
    size_t more = (size_t)size - old;
    uint8_t *fresh = buf_extend(&inode->bytes, more);
    if (fresh == NULL) fresh = buf_extend(&inode->bytes, more);
    ASSERT(fresh != NULL);
    memset(fresh, 0, more);
}

static void inode_write(struct sim_inode *inode, uint64_t at, const uint8_t *data, size_t size)
{
    if (size == 0) return;
    inode_grow(inode, at + size);
    memcpy(inode->bytes.data + at, data, size);
}

/* A write has returned: what stands before it is old. */
static void inode_written(struct sim_inode *inode, uint64_t at, size_t size)
{
    inode->writes = MIN(inode->writes + 1, 2);
    inode->newest_at = at;
    inode->newest_end = at + size;
}

/* A write has not: it proves nothing. */
static void inode_disturbed(struct sim_inode *inode, uint64_t at)
{
    inode->writes = 2;
    inode->newest_at = MIN(inode->newest_at, at);
}

/* What power loss leaves of a write: all, nothing, a beginning cut at a byte, or some of its sectors. */
static void inode_tear(struct sim_disk *d, struct sim_inode *inode, uint64_t at, const uint8_t *data, size_t size)
{
    struct prng *prng = &d->queue->prng;
    if (!sim_chance(d->queue, d->faults->torn)) {
        if (prng_chance(prng, 500)) inode_write(inode, at, data, size);
        return;
    }
    size_t most = prng_chance(prng, 500) ? MIN(size, SECTOR) : size; /* headers stand at the front */
    size_t reached = prng_below(prng, most + 1);
    if (prng_chance(prng, 500)) {
        inode_write(inode, at, data, reached);
        return;
    }
    for (size_t done = 0; done < size;) {
        size_t sector = MIN(SECTOR - (size_t)((at + done) % SECTOR), size - done);
        bool cut = reached >= done && reached < done + sector;
        if (prng_chance(prng, 500)) inode_write(inode, at + done, data + done, cut ? reached - done : sector);
        done += sector;
    }
}

int sim_disk_write(struct sim_disk *d, struct io_file *file, uint64_t at, const void *data, size_t size,
                   struct err *e)
{
    struct sim_inode *inode = file->inode;
    ASSERT((file->flags & IO_OPEN_WRITE) != 0);
    if ((file->flags & IO_OPEN_DIRECT) != 0) {
        ASSERT(at % IO_BLOCK == 0 && size % IO_BLOCK == 0 && (uintptr_t)data % IO_BLOCK == 0);
    }
    bool was_dead = d->dead;
    if (op_fails(d, "write", file->path, e)) {
        if (!was_dead) inode_tear(d, inode, at, data, size);
        inode_disturbed(inode, at);
        return e->code;
    }
    if (d->full && at + size > inode->bytes.size) {
        return err_set(e, ERR_FULL, "write %s: no space left on device", file->path);
    }
    if (!sim_chance(d->queue, d->faults->disk_lies)) inode_write(inode, at, data, size);
    inode_written(inode, at, size);
    sim_fold(d->queue, hash64(data, size, at));
    return OK;
}

/* Takes back the writes that were not synced, and then makes each of them, or a part, or nothing of it. */
static void inode_crash(struct sim_disk *d, struct sim_inode *inode)
{
    struct buf written = {0};
    struct sim_put *oldest = NULL;
    if (inode->puts == NULL) return;
    sim_buf_append(&written, inode->bytes.data, inode->bytes.size);
    while (inode->puts != NULL) {
        struct sim_put *put = inode->puts;
        inode->puts = put->next;
        if (put->before.size > 0) memcpy(inode->bytes.data + put->at, put->before.data, put->before.size);
        inode->bytes.size = put->size_before;
        put->next = oldest;
        oldest = put;
    }
    for (inode->puts = oldest; oldest != NULL; oldest = oldest->next) {
        inode_tear(d, inode, oldest->at, written.data + oldest->at, oldest->size);
    }
    sim_inode_forget_puts(inode);
    inode_disturbed(inode, 0);
    buf_free(&written);
}

int sim_disk_put_part(struct sim_disk *d, struct io_file *file, uint64_t at, const void *data, size_t size,
                      struct err *e)
{
    struct sim_inode *inode = file->inode;
    ASSERT((file->flags & IO_OPEN_WRITE) != 0 && (file->flags & IO_OPEN_DIRECT) == 0);
    if (op_fails(d, "put into", file->path, e)) return e->code;
    if (size == 0) return OK;
    if (d->full && at + size > inode->bytes.size) {
        return err_set(e, ERR_FULL, "write %s: no space left on device", file->path);
    }
    struct sim_put *put = sim_alloc(sizeof(*put));
    *put = (struct sim_put){.next = inode->puts, .at = at, .size = size, .size_before = inode->bytes.size};
    if (at < inode->bytes.size) {
        sim_buf_append(&put->before, inode->bytes.data + at, MIN(size, inode->bytes.size - (size_t)at));
    }
    inode->puts = put;
    inode_write(inode, at, data, size);
    sim_fold(d->queue, hash64(data, size, at));
    return OK;
}

int sim_disk_sync(struct sim_disk *d, struct io_file *file, struct err *e)
{
    struct sim_inode *inode = file->inode;
    if (op_fails(d, "sync", file->path, e)) {
        inode->puts_failed = inode->puts != NULL;
        return e->code;
    }
    if (inode->puts_failed) return OK; /* as the system does, that has forgotten what it could not write */
    sim_inode_forget_puts(inode);
    inode_written(inode, 0, inode->bytes.size);
    return OK;
}

int sim_disk_fill(struct sim_disk *d, struct io_file *file, uint64_t size, struct err *e)
{
    struct buf *bytes = &file->inode->bytes;
    ASSERT((file->flags & IO_OPEN_WRITE) != 0);
    bool was_dead = d->dead;
    if (op_fails(d, "allocate", file->path, e)) {
        if (!was_dead) inode_grow(file->inode, prng_below(&d->queue->prng, size + 1));
        return e->code;
    }
    if (d->full && size > bytes->size) {
        return err_set(e, ERR_FULL, "allocate %s: no space left on device", file->path);
    }
    bytes->size = MIN(bytes->size, (size_t)size);
    if (bytes->size > 0) memset(bytes->data, 0, bytes->size);
    inode_grow(file->inode, size);
    return OK;
}

/* ---- directories ---- */

int sim_disk_rename(struct sim_disk *d, const char *from, const char *to, struct err *e)
{
    if (op_fails(d, "rename", from, e)) return e->code;
    struct sim_inode *inode = sim_names_find(&d->names, from);
    if (inode == NULL) return err_set(e, ERR_NOENT, "rename %s: no such file", from);
    if (!sim_names_has_parent(&d->names, to)) {
        return err_set(e, ERR_NOENT, "rename %s to %s: no such directory", from, to);
    }
    sim_names_change(&d->names, from, to, inode);
    return OK;
}

int sim_disk_remove(struct sim_disk *d, const char *path, struct err *e)
{
    if (op_fails(d, "remove", path, e)) return e->code;
    struct sim_inode *inode = sim_names_find(&d->names, path);
    if (inode == NULL) return err_set(e, ERR_NOENT, "remove %s: no such file", path);
    sim_names_change(&d->names, path, NULL, inode);
    return OK;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list_add(void *ctx, const char *name)
{
    struct io_names *out = ctx;
    void *list = out->names;
    sim_grow(&list, &out->capacity, out->count + 1, sizeof(char *));
    out->names = list;
    out->names[out->count++] = sim_strdup(name);
}

int sim_disk_list(struct sim_disk *d, const char *dir, struct io_names *out, struct err *e)
{
    *out = (struct io_names){0};
    if (op_fails(d, "list", dir, e)) return e->code;
    if (!sim_names_has_dir(&d->names, dir)) return err_set(e, ERR_NOENT, "list %s: no such directory", dir);
    sim_names_list(&d->names, dir, list_add, out);
    if (out->count > 0) qsort(out->names, out->count, sizeof(char *), by_bytes); /* no two are the same */
    return OK;
}

/* Is dir, or one of its parents, a file? */
static bool is_blocked(const struct sim_disk *d, const char *dir)
{
    size_t size = strlen(dir);
    char *path = sim_strdup(dir);
    bool blocked = false;
    for (size_t i = 1; i <= size && !blocked; i++) {
        if (dir[i] != '/' && dir[i] != '\0') continue;
        path[i] = '\0';
        blocked = sim_names_find(&d->names, path) != NULL;
        path[i] = dir[i];
    }
    mem_free(path);
    return blocked;
}

int sim_disk_make_dir(struct sim_disk *d, const char *dir, struct err *e)
{
    if (op_fails(d, "make", dir, e)) return e->code;
    if (sim_names_has_dir(&d->names, dir)) return OK;
    if (is_blocked(d, dir)) return err_set(e, ERR_EXIST, "make %s: a file is in the way", dir);
    if (d->full) return err_set(e, ERR_FULL, "make %s: no space left on device", dir);
    sim_names_make_dir(&d->names, dir);
    return OK;
}

int sim_disk_sync_dir(struct sim_disk *d, const char *dir, struct err *e)
{
    if (op_fails(d, "sync", dir, e)) return e->code;
    if (!sim_names_has_dir(&d->names, dir)) return err_set(e, ERR_NOENT, "sync %s: no such directory", dir);
    sim_names_sync(&d->names, dir);
    return OK;
}

int sim_disk_lock_dir(struct sim_disk *d, const char *dir, struct io_lock **out, struct err *e)
{
    if (op_fails(d, "lock", dir, e)) return e->code;
    if (!sim_names_has_dir(&d->names, dir)) return err_set(e, ERR_NOENT, "lock %s: no such directory", dir);
    for (struct io_lock *held = d->locks; held != NULL; held = held->next) {
        if (strcmp(held->path, dir) == 0) {
            return err_set(e, ERR_LOCKED, "lock %s: another process holds it", dir);
        }
    }
    struct io_lock *lock = sim_alloc(sizeof(*lock));
    lock->path = sim_strdup(dir);
    lock->next = d->locks;
    *out = d->locks = lock;
    return OK;
}

void sim_disk_unlock_dir(struct sim_disk *d, struct io_lock *lock)
{
    struct io_lock **at = &d->locks;
    while (*at != lock) {
        ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = lock->next;
    mem_free(lock->path);
    mem_free(lock);
}

int sim_disk_room(struct sim_disk *d, const char *dir, uint64_t *bytes, struct err *e)
{
    if (op_fails(d, "room in", dir, e)) return e->code;
    *bytes = d->full ? 0 : DISK_ROOM;
    return OK;
}

/* ---- what lies on it ---- */

const uint8_t *sim_disk_file(const struct sim_disk *d, const char *path, size_t *size)
{
    static const uint8_t nothing[1];
    const struct sim_inode *inode = sim_names_durable(&d->names, path);
    if (inode == NULL) return NULL;
    *size = inode->bytes.size;
    return *size > 0 ? inode->bytes.data : nothing;
}

bool sim_disk_put(struct sim_disk *d, const char *path, const void *data, size_t size)
{
    if (size > FILE_MAX) return false;
    struct sim_inode *inode = sim_inode_new();
    inode_write(inode, 0, data, size);
    inode_written(inode, 0, size);
    sim_names_put(&d->names, path, inode);
    sim_inode_unref(inode);
    return true;
}

/* How many bytes at its beginning are old: nothing is being made of them any more. The newest write is not old, unless
 * it is the only one there ever was: a file that is written once is done with. */
static uint64_t old_bytes(const struct sim_inode *inode)
{
    uint64_t old = inode->writes == 1 ? inode->newest_end : inode->newest_at;
    return MIN(old, inode->bytes.size);
}

/* One bit, or up to a sector of noise. */
static void damage(struct prng *prng, uint8_t *bytes, uint64_t at, uint64_t end)
{
    if (prng_chance(prng, 500)) {
        bytes[at] ^= (uint8_t)(1u << prng_below(prng, 8));
        return;
    }
    end = MIN(end, (at / SECTOR + 1) * SECTOR);
    bytes[at] ^= (uint8_t)(1 + prng_below(prng, 255));
    for (uint64_t i = at + 1; i < end; i++) bytes[i] = (uint8_t)prng_next(prng);
}

const char *sim_disk_rot(struct sim_disk *d, uint64_t *at)
{
    const struct sim_table *files = &d->names.durable;
    struct prng *prng = &d->queue->prng;
    if (files->count == 0) return NULL;
    const struct sim_name *file = &files->list[prng_below(prng, files->count)];
    uint64_t old = old_bytes(file->inode);
    if (old == 0) return NULL;
    *at = prng_below(prng, old);
    damage(prng, file->inode->bytes.data, *at, old);
    sim_fold(d->queue, *at);
    sim_trace_add(d->queue->trace, SIM_TRACE_NOTE, d->queue->now_us, d->node, "rot", 0, "%s at %" PRIu64, file->path,
                  *at);
    return file->path;
}
