/* The simulated disk: bytes become durable when a write runs, names when their directory is synced. */
#include "base/hash.h"
#include "base/mem.h"
#include "sim/sim_internal.h"

#include <stdlib.h>

#define SECTOR 512u                        /* what a disk writes whole or not at all, but for the last one */
#define DISK_ROOM (UINT64_C(64) << 30)     /* bytes free on a disk that is not full */
#define FILE_MAX (UINT64_C(1) << 30)       /* nothing simulated grows larger */

/* ---- names and inodes ---- */

static struct sim_inode *inode_ref(struct sim_inode *inode)
{
    if (inode != NULL) inode->refs++;
    return inode;
}

/* A write that was not synced: where, and what the file held there before. */
struct sim_put {
    struct sim_put *next;
    uint64_t at;
    size_t size, size_before; /* size_before: of the file */
    struct buf before;
};

static void puts_free(struct sim_inode *inode)
{
    while (inode->puts != NULL) {
        struct sim_put *put = inode->puts;
        inode->puts = put->next;
        buf_free(&put->before);
        mem_free(put);
    }
}

static void inode_unref(struct sim_inode *inode)
{
    if (inode == NULL || --inode->refs > 0) return;
    puts_free(inode);
    buf_free(&inode->bytes);
    mem_free(inode);
}

static struct sim_name *names_find(const struct sim_names *names, const char *path)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->list[i].path, path) == 0) return &names->list[i];
    }
    return NULL;
}

static void names_set(struct sim_names *names, const char *path, struct sim_inode *inode)
{
    struct sim_name *name = names_find(names, path);
    inode_ref(inode);
    if (name != NULL) {
        inode_unref(name->inode);
        name->inode = inode;
        return;
    }
    void *list = names->list;
    sim_grow(&list, &names->capacity, names->count + 1, sizeof(struct sim_name));
    names->list = list;
    names->list[names->count++] = (struct sim_name){.path = sim_strdup(path), .inode = inode};
}

static void names_drop(struct sim_names *names, struct sim_name *name)
{
    mem_free(name->path);
    inode_unref(name->inode);
    *name = names->list[--names->count];
}

static void names_clear(struct sim_names *names)
{
    while (names->count > 0) names_drop(names, &names->list[names->count - 1]);
    mem_free(names->list);
    *names = (struct sim_names){0};
}

static void names_copy(struct sim_names *to, const struct sim_names *from)
{
    names_clear(to);
    for (size_t i = 0; i < from->count; i++) names_set(to, from->list[i].path, from->list[i].inode);
}

/* ---- changes of names on their way to the disk ---- */

static void change_apply(struct sim_names *names, const struct sim_change *change)
{
    struct sim_name *old = change->from != NULL ? names_find(names, change->from) : NULL;
    if (old != NULL && old->inode == change->inode) names_drop(names, old);
    if (change->to != NULL) names_set(names, change->to, change->inode);
}

static void change_free(struct sim_change *change)
{
    mem_free(change->from);
    mem_free(change->to);
    inode_unref(change->inode);
}

/* Makes the change for the process that asked for it, and remembers it for the disk. */
static void change_add(struct sim_disk *d, const char *from, const char *to, struct sim_inode *inode)
{
    void *changes = d->changes;
    sim_grow(&changes, &d->changes_capacity, d->n_changes + 1, sizeof(struct sim_change));
    d->changes = changes;
    struct sim_change *change = &d->changes[d->n_changes++];
    change->from = from != NULL ? sim_strdup(from) : NULL;
    change->to = to != NULL ? sim_strdup(to) : NULL;
    change->inode = inode_ref(inode);
    change_apply(&d->now, change);
}

static size_t parent_size(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? 0 : (size_t)(slash - path);
}

static bool is_child(const char *path, const char *dir)
{
    size_t size = parent_size(path);
    if (size == 0) return strcmp(dir, ".") == 0 || strcmp(dir, "/") == 0 || *dir == '\0';
    return strlen(dir) == size && memcmp(path, dir, size) == 0;
}

static bool dir_exists(const struct sim_disk *d, const char *dir, size_t size)
{
    if (size == 0 || (size == 1 && (*dir == '.' || *dir == '/'))) return true;
    for (size_t i = 0; i < d->n_dirs; i++) {
        if (strlen(d->dirs[i]) == size && memcmp(d->dirs[i], dir, size) == 0) return true;
    }
    return false;
}

static void dirs_add(struct sim_disk *d, const char *dir, size_t size)
{
    if (dir_exists(d, dir, size)) return;
    void *dirs = d->dirs;
    sim_grow(&dirs, &d->dirs_capacity, d->n_dirs + 1, sizeof(char *));
    d->dirs = dirs;
    char *copy = sim_alloc(size + 1);
    memcpy(copy, dir, size);
    d->dirs[d->n_dirs++] = copy;
}

static void dirs_add_all(struct sim_disk *d, const char *dir)
{
    for (size_t size = 1; dir[size] != '\0'; size++) {
        if (dir[size] == '/') dirs_add(d, dir, size);
    }
    dirs_add(d, dir, strlen(dir));
}

/* ---- the disk over crashes ---- */

void sim_disk_init(struct sim_disk *d)
{
    *d = (struct sim_disk){0};
}

static void disk_empty(struct sim_disk *d)
{
    for (size_t i = 0; i < d->n_changes; i++) change_free(&d->changes[i]);
    d->n_changes = 0;
    names_clear(&d->now);
    names_clear(&d->durable);
    for (size_t i = 0; i < d->n_dirs; i++) mem_free(d->dirs[i]);
    d->n_dirs = 0;
}

static void disk_drop_process(struct sim_disk *d)
{
    while (d->files != NULL) {
        struct io_file *file = d->files;
        d->files = file->next;
        inode_unref(file->inode);
        mem_free(file->path);
        mem_free(file);
    }
    while (d->locks != NULL) {
        struct io_lock *lock = d->locks;
        d->locks = lock->next;
        mem_free(lock->path);
        mem_free(lock);
    }
}

void sim_disk_free(struct sim_disk *d)
{
    disk_drop_process(d);
    disk_empty(d);
    mem_free(d->changes);
    mem_free(d->dirs);
    *d = (struct sim_disk){0};
}

static void inode_crash(struct sim_world *w, struct sim_inode *inode);

/* A journal keeps changes in order up to some point; not every file system is that kind. */
void sim_disk_crash(struct sim_world *w, struct sim_disk *d)
{
    disk_drop_process(d);
    bool in_order = prng_chance(&w->prng, 500);
    size_t kept = prng_below(&w->prng, d->n_changes + 1);
    for (size_t i = 0; i < d->n_changes; i++) {
        bool keep = in_order ? i < kept : prng_chance(&w->prng, 500);
        if (keep) change_apply(&d->durable, &d->changes[i]);
        change_free(&d->changes[i]);
    }
    d->n_changes = 0;
    names_copy(&d->now, &d->durable);
    for (size_t i = 0; i < d->now.count; i++) inode_crash(w, d->now.list[i].inode);
    d->fail_at = d->die_at = 0;
    d->dead = false;
}

/* ---- planned failures ---- */

enum outcome { GO_ON, FAIL, DIE };

/* To be asked by every operation that touches the disk, before it does. */
static enum outcome op_begin(struct sim_node *node, const char *what, const char *path, struct err *e)
{
    struct sim_disk *d = &node->disk;
    d->ops++;
    sim_fold(node->world, (uint64_t)(uint8_t)what[0] << 8 | (uint8_t)what[1]);
    if (d->dead) {
        err_set(e, ERR_IO, "%s %s: the process is dying", what, path);
        return DIE;
    }
    if (d->die_at == d->ops) {
        d->dead = true;
        err_set(e, ERR_IO, "%s %s: the process dies", what, path);
        return DIE;
    }
    if (d->fail_at == d->ops) {
        d->fail_at = 0;
        err_set(e, d->fail_code, "%s %s: planned failure", what, path);
        return FAIL;
    }
    return GO_ON;
}

static bool op_fails(struct sim_node *node, const char *what, const char *path, struct err *e)
{
    return op_begin(node, what, path, e) != GO_ON;
}

/* ---- files ---- */

int sim_open(struct io *io, const char *path, int flags, struct io_file **out, struct err *e)
{
    struct sim_node *node = sim_node_of(io);
    struct sim_disk *d = &node->disk;
    if (op_fails(node, "open", path, e)) return e->code;
    struct sim_name *name = names_find(&d->now, path);
    struct sim_inode *inode = name != NULL ? name->inode : NULL;
    if ((flags & IO_OPEN_CREATE) != 0) {
        if (name != NULL) return err_set(e, ERR_EXIST, "create %s: it exists already", path);
        if (!dir_exists(d, path, parent_size(path))) {
            return err_set(e, ERR_NOENT, "create %s: no such directory", path);
        }
        if (d->full) return err_set(e, ERR_FULL, "create %s: no space left on device", path);
        inode = sim_alloc(sizeof(*inode));
        change_add(d, NULL, path, inode);
    }
    if (inode == NULL) return err_set(e, ERR_NOENT, "open %s: no such file", path);
    struct io_file *file = sim_alloc(sizeof(*file));
    file->inode = inode_ref(inode);
    file->path = sim_strdup(path);
    file->flags = flags;
    file->next = d->files;
    d->files = file;
    *out = file;
    return OK;
}

void sim_close(struct io *io, struct io_file *file)
{
    struct io_file **at = &sim_node_of(io)->disk.files;
    while (*at != file) {
        ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = file->next;
    inode_unref(file->inode);
    mem_free(file->path);
    mem_free(file);
}

int sim_size(struct io *io, struct io_file *file, uint64_t *size, struct err *e)
{
    if (op_fails(sim_node_of(io), "size of", file->path, e)) return e->code;
    *size = file->inode->bytes.size;
    return OK;
}

int sim_read(struct io *io, struct io_file *file, uint64_t at, void *data, size_t size, size_t *got, struct err *e)
{
    if (op_fails(sim_node_of(io), "read", file->path, e)) return e->code;
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

/* What power loss leaves of a write: all, nothing, a beginning cut at a byte, or some of its sectors. */
static void inode_tear(struct sim_world *w, struct sim_inode *inode, uint64_t at, const uint8_t *data, size_t size)
{
    if (!prng_chance(&w->prng, w->faults.torn)) {
        if (prng_chance(&w->prng, 500)) inode_write(inode, at, data, size);
        return;
    }
    size_t reached = prng_below(&w->prng, size + 1);
    if (prng_chance(&w->prng, 500)) {
        inode_write(inode, at, data, reached);
        return;
    }
    for (size_t done = 0; done < size;) {
        size_t sector = MIN(SECTOR - (size_t)((at + done) % SECTOR), size - done);
        bool cut = reached >= done && reached < done + sector;
        if (prng_chance(&w->prng, 500)) inode_write(inode, at + done, data + done, cut ? reached - done : sector);
        done += sector;
    }
}

int sim_write(struct io *io, struct io_file *file, uint64_t at, const void *data, size_t size, struct err *e)
{
    struct sim_node *node = sim_node_of(io);
    ASSERT((file->flags & IO_OPEN_WRITE) != 0);
    if ((file->flags & IO_OPEN_DIRECT) != 0) {
        ASSERT(at % IO_BLOCK == 0 && size % IO_BLOCK == 0 && (uintptr_t)data % IO_BLOCK == 0);
    }
    bool was_dead = node->disk.dead;
    if (op_fails(node, "write", file->path, e)) {
        if (!was_dead) inode_tear(node->world, file->inode, at, data, size);
        return e->code;
    }
    if (node->disk.full && at + size > file->inode->bytes.size) {
        return err_set(e, ERR_FULL, "write %s: no space left on device", file->path);
    }
    if (!prng_chance(&node->world->prng, node->world->faults.disk_lies)) inode_write(file->inode, at, data, size);
    sim_fold(node->world, hash64(data, size, at));
    return OK;
}

/* Takes back the writes that were not synced, and then makes each of them, or a part, or nothing of it. */
static void inode_crash(struct sim_world *w, struct sim_inode *inode)
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
        inode_tear(w, inode, oldest->at, written.data + oldest->at, oldest->size);
    }
    puts_free(inode);
    buf_free(&written);
}

int sim_put(struct io *io, struct io_file *file, uint64_t at, const void *data, size_t size, struct err *e)
{
    struct sim_node *node = sim_node_of(io);
    struct sim_inode *inode = file->inode;
    ASSERT((file->flags & IO_OPEN_WRITE) != 0 && (file->flags & IO_OPEN_DIRECT) == 0);
    if (op_fails(node, "put into", file->path, e)) return e->code;
    if (size == 0) return OK;
    if (node->disk.full && at + size > inode->bytes.size) {
        return err_set(e, ERR_FULL, "write %s: no space left on device", file->path);
    }
    struct sim_put *put = sim_alloc(sizeof(*put));
    *put = (struct sim_put){.next = inode->puts, .at = at, .size = size, .size_before = inode->bytes.size};
    if (at < inode->bytes.size) {
        sim_buf_append(&put->before, inode->bytes.data + at, MIN(size, inode->bytes.size - (size_t)at));
    }
    inode->puts = put;
    inode_write(inode, at, data, size);
    sim_fold(node->world, hash64(data, size, at));
    return OK;
}

int sim_sync(struct io *io, struct io_file *file, struct err *e)
{
    struct sim_node *node = sim_node_of(io);
    if (op_fails(node, "sync", file->path, e)) {
        file->inode->puts_failed = file->inode->puts != NULL;
        return e->code;
    }
    if (file->inode->puts_failed) return OK; /* as the system does, that has forgotten what it could not write */
    puts_free(file->inode);
    return OK;
}

int sim_fill(struct io *io, struct io_file *file, uint64_t size, struct err *e)
{
    struct sim_node *node = sim_node_of(io);
    ASSERT((file->flags & IO_OPEN_WRITE) != 0);
    bool was_dead = node->disk.dead;
    if (op_fails(node, "allocate", file->path, e)) {
        if (!was_dead) inode_grow(file->inode, prng_below(&node->world->prng, size + 1));
        return e->code;
    }
    if (node->disk.full && size > file->inode->bytes.size) {
        return err_set(e, ERR_FULL, "allocate %s: no space left on device", file->path);
    }
    file->inode->bytes.size = MIN(file->inode->bytes.size, (size_t)size);
    if (file->inode->bytes.size > 0) memset(file->inode->bytes.data, 0, file->inode->bytes.size);
    inode_grow(file->inode, size);
    return OK;
}

/* ---- directories ---- */

int sim_rename(struct io *io, const char *from, const char *to, struct err *e)
{
    struct sim_node *node = sim_node_of(io);
    struct sim_disk *d = &node->disk;
    if (op_fails(node, "rename", from, e)) return e->code;
    struct sim_name *name = names_find(&d->now, from);
    if (name == NULL) return err_set(e, ERR_NOENT, "rename %s: no such file", from);
    if (!dir_exists(d, to, parent_size(to))) {
        return err_set(e, ERR_NOENT, "rename %s to %s: no such directory", from, to);
    }
    change_add(d, from, to, name->inode);
    return OK;
}

int sim_remove(struct io *io, const char *path, struct err *e)
{
    struct sim_node *node = sim_node_of(io);
    if (op_fails(node, "remove", path, e)) return e->code;
    struct sim_name *name = names_find(&node->disk.now, path);
    if (name == NULL) return err_set(e, ERR_NOENT, "remove %s: no such file", path);
    change_add(&node->disk, path, NULL, name->inode);
    return OK;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_add(struct io_names *out, const char *path)
{
    void *list = out->names;
    sim_grow(&list, &out->capacity, out->count + 1, sizeof(char *));
    out->names = list;
    const char *slash = strrchr(path, '/');
    out->names[out->count++] = sim_strdup(slash == NULL ? path : slash + 1);
}

int sim_list(struct io *io, const char *dir, struct io_names *out, struct err *e)
{
    struct sim_node *node = sim_node_of(io);
    struct sim_disk *d = &node->disk;
    *out = (struct io_names){0};
    if (op_fails(node, "list", dir, e)) return e->code;
    if (!dir_exists(d, dir, strlen(dir))) return err_set(e, ERR_NOENT, "list %s: no such directory", dir);
    for (size_t i = 0; i < d->now.count; i++) {
        if (is_child(d->now.list[i].path, dir)) names_add(out, d->now.list[i].path);
    }
    for (size_t i = 0; i < d->n_dirs; i++) {
        if (is_child(d->dirs[i], dir)) names_add(out, d->dirs[i]);
    }
    if (out->count > 0) qsort(out->names, out->count, sizeof(char *), by_bytes);
    return OK;
}

int sim_make_dir(struct io *io, const char *dir, struct err *e)
{
    struct sim_node *node = sim_node_of(io);
    struct sim_disk *d = &node->disk;
    if (op_fails(node, "make", dir, e)) return e->code;
    if (dir_exists(d, dir, strlen(dir))) return OK;
    if (names_find(&d->now, dir) != NULL) return err_set(e, ERR_EXIST, "make %s: it is a file", dir);
    if (d->full) return err_set(e, ERR_FULL, "make %s: no space left on device", dir);
    dirs_add_all(d, dir);
    return OK;
}

int sim_sync_dir(struct io *io, const char *dir, struct err *e)
{
    struct sim_node *node = sim_node_of(io);
    struct sim_disk *d = &node->disk;
    if (op_fails(node, "sync", dir, e)) return e->code;
    if (!dir_exists(d, dir, strlen(dir))) return err_set(e, ERR_NOENT, "sync %s: no such directory", dir);
    size_t left = 0;
    for (size_t i = 0; i < d->n_changes; i++) {
        struct sim_change *change = &d->changes[i];
        if (is_child(change->to != NULL ? change->to : change->from, dir)) {
            change_apply(&d->durable, change);
            change_free(change);
        } else {
            d->changes[left++] = *change;
        }
    }
    d->n_changes = left;
    return OK;
}

int sim_lock_dir(struct io *io, const char *dir, struct io_lock **out, struct err *e)
{
    struct sim_node *node = sim_node_of(io);
    struct sim_disk *d = &node->disk;
    if (op_fails(node, "lock", dir, e)) return e->code;
    if (!dir_exists(d, dir, strlen(dir))) return err_set(e, ERR_NOENT, "lock %s: no such directory", dir);
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

void sim_unlock_dir(struct io *io, struct io_lock *lock)
{
    struct io_lock **at = &sim_node_of(io)->disk.locks;
    while (*at != lock) {
        ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = lock->next;
    mem_free(lock->path);
    mem_free(lock);
}

int sim_room(struct io *io, const char *dir, uint64_t *bytes, struct err *e)
{
    struct sim_node *node = sim_node_of(io);
    if (op_fails(node, "room in", dir, e)) return e->code;
    *bytes = node->disk.full ? 0 : DISK_ROOM;
    return OK;
}

/* ---- for specs ---- */

static struct sim_disk *world_disk(const struct sim_world *w, int node)
{
    ASSERT(node >= 1 && node <= SIM_NODES_MAX);
    return (struct sim_disk *)&w->nodes[node - 1].disk;
}

const uint8_t *sim_world_file(struct sim_world *w, int node, const char *path, size_t *size)
{
    static const uint8_t nothing[1];
    const struct sim_name *name = names_find(&world_disk(w, node)->durable, path);
    if (name == NULL) return NULL;
    *size = name->inode->bytes.size;
    return *size > 0 ? name->inode->bytes.data : nothing;
}

bool sim_world_put_file(struct sim_world *w, int node, const char *path, const void *data, size_t size)
{
    struct sim_disk *d = world_disk(w, node);
    if (size > FILE_MAX) return false;
    struct sim_inode *inode = sim_alloc(sizeof(*inode));
    inode_write(inode, 0, data, size);
    for (size_t i = 1; path[i] != '\0'; i++) {
        if (path[i] == '/') dirs_add(d, path, i);
    }
    names_set(&d->now, path, inode);
    names_set(&d->durable, path, inode);
    return true;
}

void sim_world_wipe(struct sim_world *w, int node)
{
    struct sim_disk *d = world_disk(w, node);
    ASSERT(d->files == NULL && d->locks == NULL);
    disk_empty(d);
}
