#include "sim/sim_image.h"

#include "base/mem.h"

#include <stdlib.h>

#define WALL_US (UINT64_C(1700000000) * US_PER_S)
#define ROOM_BYTES (UINT64_C(64) << 30)

struct image_undo {
    struct image_inode *inode; /* NULL: the whole directory is put back */
    uint64_t at, size;         /* of the bytes to put back */
    size_t old_size;           /* of the file */
    size_t old;                /* offset in image_disk.old */
};

struct io_file {
    struct io_file *next;
    struct image_inode *inode;
};

struct io_lock {
    bool held;
};

static struct image_disk *disk_of(struct io *io) { return (struct image_disk *)io; }

/* ---- memory: a lack of it ends the loop ---- */

static void *need(void *memory)
{
    ASSERT(memory != NULL);
    return memory;
}

static void *grow(void *items, size_t *capacity, size_t count, size_t size)
{
    bool grown = mem_grow(&items, capacity, count, size);
    ASSERT(grown);
    return items;
}

static void append(struct buf *b, const void *data, size_t size)
{
    bool appended = buf_append(b, data, size);
    ASSERT(appended);
}

/* ---- what is taken back ---- */

static struct image_undo *undo_add(struct image_disk *d)
{
    d->undo = grow(d->undo, &d->undo_capacity, d->n_undo + 1, sizeof *d->undo);
    d->undo[d->n_undo] = (struct image_undo){.old = d->old.size};
    return &d->undo[d->n_undo++];
}

static void keep_directory(struct image_disk *d)
{
    undo_add(d);
    append(&d->old, &d->directory, sizeof d->directory);
}

static void keep_bytes(struct image_disk *d, struct image_inode *inode, uint64_t at, uint64_t size)
{
    struct image_undo *undo = undo_add(d);
    undo->inode = inode;
    undo->old_size = inode->size;
    undo->at = at;
    undo->size = at < inode->size ? MIN(size, inode->size - at) : 0;
    if (undo->size > 0) append(&d->old, inode->data + at, (size_t)undo->size);
}

struct image_mark image_mark(const struct image_disk *d)
{
    return (struct image_mark){.n_undo = d->n_undo, .prng = d->prng, .now_us = d->now_us};
}

void image_undo(struct image_disk *d, struct image_mark mark)
{
    ASSERT(mark.n_undo <= d->n_undo);
    while (d->n_undo > mark.n_undo) {
        const struct image_undo *undo = &d->undo[--d->n_undo];
        const uint8_t *old = d->old.data + undo->old;
        if (undo->inode == NULL) {
            memcpy(&d->directory, old, sizeof d->directory);
        } else {
            if (undo->size > 0) memcpy(undo->inode->data + undo->at, old, (size_t)undo->size);
            undo->inode->size = undo->old_size;
        }
        d->old.size = undo->old;
    }
    d->prng = mark.prng;
    d->now_us = mark.now_us;
}

void image_commit(struct image_disk *d)
{
    d->n_undo = 0;
    d->old.size = 0;
}

/* ---- inodes and names ---- */

static struct image_inode *inode_new(struct image_disk *d)
{
    struct image_inode *inode = need(mem_zero(1, sizeof *inode));
    inode->next = d->inodes;
    d->inodes = inode;
    return inode;
}

void image_forget(struct image_disk *d, const struct image_inode *youngest)
{
    while (d->inodes != youngest) {
        struct image_inode *inode = d->inodes;
        ASSERT(inode != NULL);
        d->inodes = inode->next;
        mem_free(inode->data);
        mem_free(inode);
    }
}

static void inode_grow(struct image_inode *inode, uint64_t size)
{
    if (size <= inode->size) return;
    inode->data = grow(inode->data, &inode->capacity, (size_t)size, 1);
    memset(inode->data + inode->size, 0, (size_t)size - inode->size);
    inode->size = (size_t)size;
}

static struct image_name *find(struct image_names *names, const char *text)
{
    for (uint32_t i = 0; i < names->count; i++) {
        if (strcmp(names->list[i].text, text) == 0) return &names->list[i];
    }
    return NULL;
}

static void change_apply(struct image_names *names, const struct image_change *change)
{
    struct image_name *from = change->from[0] != 0 ? find(names, change->from) : NULL;
    if (from != NULL && from->inode == change->inode) *from = names->list[--names->count];
    if (change->to[0] == 0) return;
    struct image_name *to = find(names, change->to);
    if (to == NULL) {
        ASSERT(names->count < IMAGE_NAMES);
        to = &names->list[names->count++];
        memcpy(to->text, change->to, sizeof to->text);
    }
    to->inode = change->inode;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static void set_name(char *out, const char *path)
{
    const char *name = base_name(path);
    ASSERT(strlen(name) < IMAGE_NAME_SIZE);
    memset(out, 0, IMAGE_NAME_SIZE);
    memcpy(out, name, strlen(name));
}

/* ---- steps ---- */

uint8_t *image_touch(struct image_disk *d, struct image_inode *inode, uint64_t at, uint64_t size)
{
    keep_bytes(d, inode, at, size);
    inode_grow(inode, at + size);
    return inode->data + at;
}

/* A sync covers what its own actor has changed, and what is older: what the other one did at the same time may have
 * come too late for it. */
static void sync_names(struct image_directory *dir, enum image_actor actor)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < dir->n_changes; i++) {
        const struct image_change *change = &dir->changes[i];
        if (change->actor == actor || change->actor == IMAGE_OPENING) change_apply(&dir->durable, change);
        else dir->changes[left++] = *change;
    }
    dir->n_changes = left;
}

void image_redo(struct image_disk *d, const struct image_steps *steps, const struct image_step *step,
                enum image_actor actor)
{
    struct image_directory *dir = &d->directory;
    switch (step->kind) {
    case IMAGE_WRITE:
        memcpy(image_touch(d, step->inode, step->at, step->size), steps->bytes.data + step->bytes, (size_t)step->size);
        break;
    case IMAGE_FILL:
        keep_bytes(d, step->inode, 0, step->inode->size);
        step->inode->size = 0;
        inode_grow(step->inode, step->size);
        break;
    case IMAGE_CHANGE:
        ASSERT(dir->n_changes < IMAGE_CHANGES);
        keep_directory(d);
        dir->changes[dir->n_changes] = step->change;
        dir->changes[dir->n_changes++].actor = actor;
        change_apply(&dir->now, &step->change);
        break;
    case IMAGE_SYNC:
        keep_directory(d);
        sync_names(dir, actor);
        break;
    }
}

void image_steps_clear(struct image_steps *steps)
{
    steps->n = 0;
    steps->bytes.size = 0;
}

void image_steps_free(struct image_steps *steps)
{
    mem_free(steps->list);
    buf_free(&steps->bytes);
    *steps = (struct image_steps){0};
}

/* Does a step for the first time. data: of a write. */
static void step_do(struct image_disk *d, struct image_step step, const void *data)
{
    struct buf bytes = {.data = (uint8_t *)(uintptr_t)data, .size = step.kind == IMAGE_WRITE ? (size_t)step.size : 0};
    struct image_steps once = {.bytes = bytes};
    if (d->record != NULL) {
        struct image_steps *record = d->record;
        record->list = grow(record->list, &record->capacity, record->n + 1, sizeof step);
        record->list[record->n] = step;
        record->list[record->n++].bytes = record->bytes.size;
        append(&record->bytes, data, bytes.size);
    }
    image_redo(d, &once, &step, d->actor);
}

struct image_process image_suspend(struct image_disk *d)
{
    struct image_process process = {.files = d->files, .locked = d->lock->held};
    memcpy(process.jobs, d->jobs, sizeof d->jobs);
    memset(d->jobs, 0, sizeof d->jobs);
    d->files = NULL;
    d->lock->held = false;
    return process;
}

void image_resume(struct image_disk *d, struct image_process process)
{
    while (d->files != NULL) io_close(&d->io, d->files);
    memcpy(d->jobs, process.jobs, sizeof d->jobs);
    d->files = process.files;
    d->lock->held = process.locked;
}

void image_crash(struct image_disk *d, uint32_t kept)
{
    struct image_directory *dir = &d->directory;
    image_resume(d, (struct image_process){0});
    if (dir->n_changes == 0) return;
    keep_directory(d);
    for (uint32_t i = 0; i < dir->n_changes; i++) {
        if (kept >> i & 1) change_apply(&dir->durable, &dir->changes[i]);
    }
    dir->n_changes = 0;
    dir->now = dir->durable;
}

/* ---- struct io: time, chance, lanes ---- */

static uint64_t image_now(struct io *io) { return ++disk_of(io)->now_us; }
static uint64_t image_wall(struct io *io) { return WALL_US + disk_of(io)->now_us; }
static uint64_t image_random(struct io *io) { return prng_next(&disk_of(io)->prng); }

static void image_submit(struct io *io, enum io_lane lane, struct io_job *job)
{
    struct io_job **end = &disk_of(io)->jobs[lane];
    while (*end != NULL) end = &(*end)->next;
    job->next = NULL;
    *end = job;
}

bool image_work(struct image_disk *d, enum io_lane lane)
{
    struct io_job *job = d->jobs[lane];
    if (job == NULL) return false;
    enum image_actor before = d->actor;
    d->actor = (enum image_actor)lane;
    job->work(job);
    d->actor = before;
    return true;
}

void image_done(struct image_disk *d, enum io_lane lane)
{
    struct image_directory *dir = &d->directory;
    struct io_job *job = d->jobs[lane];
    ASSERT(job != NULL);
    d->jobs[lane] = job->next;
    for (uint32_t i = 0; i < dir->n_changes; i++) dir->changes[i].actor = IMAGE_OPENING; /* that is: older */
    job->done(job);
}

void image_run_last(struct image_disk *d, enum io_lane lane)
{
    struct io_job **at = &d->jobs[lane], *job;
    ASSERT(*at != NULL);
    while ((*at)->next != NULL) at = &(*at)->next;
    job = *at;
    *at = NULL;
    job->work(job);
    job->done(job);
}

/* ---- struct io: files ---- */

static int image_open(struct io *io, const char *path, int flags, struct io_file **out, struct err *e)
{
    struct image_disk *d = disk_of(io);
    struct image_name *name = find(&d->directory.now, base_name(path));
    struct image_inode *inode = name != NULL ? name->inode : NULL;
    if ((flags & IO_OPEN_CREATE) != 0) {
        if (name != NULL) return err_set(e, ERR_EXIST, "create %s: it exists already", path);
        struct image_step step = {.kind = IMAGE_CHANGE, .change = {.inode = inode_new(d)}};
        inode = step.change.inode;
        set_name(step.change.to, path);
        step_do(d, step, NULL);
    }
    if (inode == NULL) return err_set(e, ERR_NOENT, "open %s: no such file", path);
    struct io_file *file = need(mem_alloc(sizeof *file));
    *file = (struct io_file){.next = d->files, .inode = inode};
    d->files = *out = file;
    return OK;
}

static void image_close(struct io *io, struct io_file *file)
{
    struct io_file **at = &disk_of(io)->files;
    while (*at != file) {
        ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = file->next;
    mem_free(file);
}

static int image_size(struct io *io, struct io_file *file, uint64_t *size, struct err *e)
{
    (void)io;
    (void)e;
    *size = file->inode->size;
    return OK;
}

static int image_read(struct io *io, struct io_file *file, uint64_t at, void *data, size_t size, size_t *got,
                      struct err *e)
{
    const struct image_inode *inode = file->inode;
    (void)io;
    (void)e;
    *got = at < inode->size ? MIN(size, inode->size - (size_t)at) : 0;
    if (*got > 0) memcpy(data, inode->data + at, *got);
    return OK;
}

static void image_ahead(struct io *io, struct io_file *file, uint64_t at, uint64_t size)
{
    (void)io;
    (void)file;
    (void)at;
    (void)size;
}

static int image_write(struct io *io, struct io_file *file, uint64_t at, const void *data, size_t size, struct err *e)
{
    (void)e;
    struct image_step step = {.kind = IMAGE_WRITE, .inode = file->inode, .at = at, .size = size};
    step_do(disk_of(io), step, data);
    return OK;
}

static int image_fill(struct io *io, struct io_file *file, uint64_t size, struct err *e)
{
    (void)e;
    step_do(disk_of(io), (struct image_step){.kind = IMAGE_FILL, .inode = file->inode, .size = size}, NULL);
    return OK;
}

/* ---- struct io: names ---- */

static int change_name(struct io *io, const char *from, const char *to, const char *what, struct err *e)
{
    struct image_disk *d = disk_of(io);
    const struct image_name *name = find(&d->directory.now, base_name(from));
    if (name == NULL) return err_set(e, ERR_NOENT, "%s %s: no such file", what, from);
    struct image_step step = {.kind = IMAGE_CHANGE, .change = {.inode = name->inode}};
    set_name(step.change.from, from);
    if (to != NULL) set_name(step.change.to, to);
    step_do(d, step, NULL);
    return OK;
}

static int image_rename(struct io *io, const char *from, const char *to, struct err *e)
{
    return change_name(io, from, to, "rename", e);
}

static int image_remove(struct io *io, const char *path, struct err *e)
{
    return change_name(io, path, NULL, "remove", e);
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int image_list(struct io *io, const char *dir, struct io_names *out, struct err *e)
{
    const struct image_names *names = &disk_of(io)->directory.now;
    (void)dir;
    (void)e;
    *out = (struct io_names){.count = names->count};
    out->names = grow(NULL, &out->capacity, MAX(names->count, 1), sizeof(char *));
    for (uint32_t i = 0; i < names->count; i++) out->names[i] = need(mem_strdup(names->list[i].text));
    if (out->count > 0) qsort(out->names, out->count, sizeof(char *), by_bytes);
    return OK;
}

static int image_make_dir(struct io *io, const char *dir, struct err *e)
{
    (void)io;
    (void)dir;
    (void)e;
    return OK;
}

static int image_sync_dir(struct io *io, const char *dir, struct err *e)
{
    (void)dir;
    (void)e;
    step_do(disk_of(io), (struct image_step){.kind = IMAGE_SYNC}, NULL);
    return OK;
}

static int image_lock_dir(struct io *io, const char *dir, struct io_lock **lock, struct err *e)
{
    struct io_lock *held = disk_of(io)->lock;
    if (held->held) return err_set(e, ERR_LOCKED, "lock %s: another process holds it", dir);
    held->held = true;
    *lock = held;
    return OK;
}

static void image_unlock_dir(struct io *io, struct io_lock *lock)
{
    (void)io;
    lock->held = false;
}

static int image_room(struct io *io, const char *dir, uint64_t *bytes, struct err *e)
{
    (void)io;
    (void)dir;
    (void)e;
    *bytes = ROOM_BYTES;
    return OK;
}

static const struct io_ops image_ops = {
    .now = image_now,
    .wall = image_wall,
    .random = image_random,
    .submit = image_submit,
    .open = image_open,
    .close = image_close,
    .size = image_size,
    .read = image_read,
    .ahead = image_ahead,
    .write = image_write,
    .fill = image_fill,
    .rename = image_rename,
    .remove = image_remove,
    .list = image_list,
    .make_dir = image_make_dir,
    .sync_dir = image_sync_dir,
    .lock_dir = image_lock_dir,
    .unlock_dir = image_unlock_dir,
    .room = image_room,
};

void image_disk_init(struct image_disk *d, uint64_t seed)
{
    *d = (struct image_disk){.io = {.ops = &image_ops}, .prng = {seed}, .actor = IMAGE_OPENING};
    d->lock = need(mem_zero(1, sizeof *d->lock));
}

void image_disk_free(struct image_disk *d)
{
    image_crash(d, 0);
    image_forget(d, NULL);
    mem_free(d->lock);
    mem_free(d->undo);
    buf_free(&d->old);
}
