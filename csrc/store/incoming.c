/* Snapshots coming in: an unfinished file each, filled, checked, made durable, named. One job at a time, on the bulk
 * lane, none longer than a few MiB: the log's next segment is prepared on the same lane. */
#include <stdio.h>

#include "base/mem.h"
#include "store/internal.h"

#define CHECK_BYTES (4u << 20) /* checked in one job */

enum task { TASK_WRITE = 1, TASK_CHECK, TASK_NAME, TASK_REMOVE };

/* Bytes that were added in one call. */
struct piece {
    struct piece *next;
    struct buf holder; /* where they lie */
    const uint8_t *bytes;
    size_t size;
};

struct pieces {
    struct piece *first, **last;
    uint64_t memory; /* that they take, all in all */
};

struct store_incoming {
    struct store_incoming *next;
    struct store *store;
    struct store_snapshot what;
    struct store_incoming_events events;
    void *ctx;
    struct kept *kept; /* for when it has its name: that shall not fail for lack of memory */
    uint64_t taken;
    struct pieces queued;
    bool publishing, dropped, busy;
    enum task task;
    struct err failure; /* code OK: none so far */

    struct io_job job; /* what follows is the job's while it runs */
    struct io *io;
    int status;
    struct err error;
    struct pieces writing;
    uint64_t written;
    struct io_file *file;
    bool scanning, checked;
    struct snapshot_scan scan;
    char path[FORMAT_PATH_MAX], name[FORMAT_PATH_MAX];
};

/* ---- what is to be written ---- */

static void pieces_free(struct pieces *all)
{
    for (struct piece *p = all->first, *next; p != NULL; p = next) {
        next = p->next;
        buf_free(&p->holder);
        mem_free(p);
    }
    *all = (struct pieces){0};
}

/* holder: see store_incoming_write. false: no memory. */
static bool pieces_add(struct pieces *all, const uint8_t *bytes, size_t size, struct buf *holder)
{
    struct piece *p = mem_zero(1, sizeof *p);
    if (p == NULL) return false;
    if (holder == NULL && !buf_append(&p->holder, bytes, size)) {
        mem_free(p);
        return false;
    }
    p->bytes = holder == NULL ? p->holder.data : bytes;
    p->size = size;
    if (holder != NULL) {
        p->holder = *holder;
        *holder = (struct buf){0};
    }
    *(all->first != NULL ? all->last : &all->first) = p;
    all->last = &p->next;
    all->memory += sizeof *p + p->holder.capacity;
    return true;
}

/* ---- on the bulk lane ---- */

static int write_queued(struct store_incoming *in, struct err *e)
{
    if (in->file == NULL && io_open(in->io, in->path, IO_OPEN_WRITE | IO_OPEN_CREATE, &in->file, e) != OK) {
        in->file = NULL;
        return e->code;
    }
    for (const struct piece *p = in->writing.first; p != NULL; p = p->next) {
        if (io_put(in->io, in->file, in->written, p->bytes, p->size, e) != OK) return e->code;
        in->written += p->size;
    }
    return OK;
}

/* Makes durable what was written here. A file that a child has written, of which nothing was, is durable already: so
 * io_join has said, without which it has not come here. */
static int sync_all(struct store_incoming *in, struct err *e)
{
    if (in->file == NULL) return OK;
    int status = io_sync(in->io, in->file, e);
    io_close(in->io, in->file);
    in->file = NULL;
    return status;
}

static int begin_check(struct store_incoming *in, struct err *e)
{
    const struct store_snapshot *what = &in->what, *found = &in->scan.what;
    if (sync_all(in, e) != OK) return e->code;
    int status = snapshot_scan_open(&in->scan, in->io, in->path, in->store->identity.cluster, NULL, e);
    in->scanning = status == OK;
    if (status != OK) return status;
    if (found->index == what->index && found->term == what->term && found->id == what->id &&
        (what->size == 0 || found->size == what->size)) {
        return OK;
    }
    return err_set(e, ERR_CORRUPT, "%s: it is another snapshot than announced: of index %" PRIu64 ", not %" PRIu64,
                   in->path, found->index, what->index);
}

static int check(struct store_incoming *in, struct err *e)
{
    const uint8_t *bytes;
    size_t size = 1;
    int status = in->scanning ? OK : begin_check(in, e);
    for (uint64_t end = in->scan.at + CHECK_BYTES; status == OK && size > 0 && in->scan.at < end;) {
        status = snapshot_scan_next(&in->scan, &bytes, &size, e);
    }
    in->checked = status == OK && size == 0;
    return status;
}

static int give_name(struct store_incoming *in, struct err *e)
{
    struct err ignored;
    const struct store *s = in->store; /* its directory and io never change */
    int status = io_rename(in->io, in->path, in->name, e);
    if (status != OK) return status;
    status = io_sync_dir(in->io, s->dir, e);
    if (status != OK) io_remove(in->io, in->name, &ignored);
    return status;
}

static void close_all(struct store_incoming *in)
{
    if (in->scanning) snapshot_scan_close(&in->scan);
    if (in->file != NULL) io_close(in->io, in->file);
    in->scanning = false;
    in->file = NULL;
}

static void incoming_work(struct io_job *job)
{
    struct store_incoming *in = CONTAINER_OF(job, struct store_incoming, job);
    struct err ignored; /* what stays is removed when the directory is opened the next time */
    switch (in->task) {
    case TASK_WRITE: in->status = write_queued(in, &in->error); break;
    case TASK_CHECK: in->status = check(in, &in->error); break;
    case TASK_NAME:
        close_all(in);
        in->status = give_name(in, &in->error);
        break;
    case TASK_REMOVE:
        close_all(in);
        io_remove(in->io, in->path, &ignored);
        in->status = OK;
        break;
    }
}

/* ---- in events ---- */

static void kick(struct store_incoming *in);

/* Some may have waited for another one to get its name. */
static void kick_all(struct store *s)
{
    for (struct store_incoming *in = s->snapshots.incoming; in != NULL; in = in->next) kick(in);
}

static void unlink_incoming(struct store_incoming *in)
{
    struct store_incoming **at = &in->store->snapshots.incoming;
    while (*at != in) at = &(*at)->next;
    *at = in->next;
}

static void incoming_free(struct store_incoming *in)
{
    pieces_free(&in->queued);
    pieces_free(&in->writing);
    mem_free(in->kept);
    mem_free(in);
}

/* It has its name: whatever has been thought of it meanwhile. */
static void adopt(struct store_incoming *in)
{
    struct store *s = in->store;
    in->kept->what = in->scan.what;
    for (struct kept *other = s->snapshots.kept; other != NULL; other = other->next) other->stuck = false;
    snapshots_adopt(s, in->kept);
    in->kept = NULL;
    snapshots_prune(s);
}

static void finish(struct store_incoming *in)
{
    struct store *s = in->store;
    unlink_incoming(in);
    if (in->task == TASK_NAME) adopt(in);
    kick_all(s);
    if (!in->dropped) in->events.ended(in->ctx, in->failure.code, &in->failure);
    incoming_free(in);
    store_settle(s);
}

static void incoming_done(struct io_job *job)
{
    struct store_incoming *in = CONTAINER_OF(job, struct store_incoming, job);
    struct store *s = in->store;
    in->busy = false;
    if (in->status != OK && in->failure.code == OK) in->failure = in->error;
    if (in->task == TASK_REMOVE || (in->task == TASK_NAME && in->status == OK)) {
        finish(in);
        return;
    }
    bool tell = in->task == TASK_WRITE && in->status == OK && !in->dropped && in->events.written != NULL;
    if (in->task == TASK_WRITE) pieces_free(&in->writing);
    kick_all(s);
    if (tell) in->events.written(in->ctx);
    store_settle(s);
}

/* One gets its name at a time: two of the same index, this node's own and a received one, would have the same, and the
 * one that is older by a moment would be removed with it. */
static bool is_name_free(struct store_incoming *in)
{
    const struct store *s = in->store;
    for (const struct store_incoming *other = s->snapshots.incoming; other != NULL; other = other->next) {
        if (other != in && other->busy && other->task == TASK_NAME) return false;
    }
    raft_index newest = store_snapshot(s).index;
    if (newest >= in->what.index && in->failure.code == OK)
        err_set(&in->failure, ERR_EXIST, "a snapshot of index %" PRIu64 " is there already", newest);
    return true;
}

static void kick(struct store_incoming *in)
{
    if (in->busy) return;
    if (in->publishing && in->checked && !is_name_free(in)) return;
    if (in->failure.code != OK || in->dropped) {
        in->task = TASK_REMOVE;
    } else if (in->queued.first != NULL) {
        in->writing = in->queued;
        in->queued = (struct pieces){0};
        in->task = TASK_WRITE;
    } else if (in->publishing) {
        in->task = in->checked ? TASK_NAME : TASK_CHECK;
    } else {
        return;
    }
    in->busy = true;
    in->job.work = incoming_work;
    in->job.done = incoming_done;
    io_submit(in->io, IO_LANE_BULK, &in->job);
}

struct store_incoming *store_incoming_new(struct store *s, const struct store_snapshot *what,
                                          const struct store_incoming_events *events, void *ctx)
{
    char name[64];
    ASSERT(!s->closing && what->index > 0 && events->ended != NULL);
    struct store_incoming *in = mem_zero(1, sizeof *in);
    struct kept *kept = mem_zero(1, sizeof *kept);
    if (in == NULL || kept == NULL) {
        mem_free(in);
        mem_free(kept);
        return NULL;
    }
    in->kept = kept;
    in->store = s;
    in->io = s->io;
    in->what = *what;
    in->events = *events;
    in->ctx = ctx;
    snprintf(name, sizeof name, "snapshot-%" PRIu64 ".tmp", ++s->snapshots.serial);
    format_path(in->path, s->dir, name);
    format_snapshot_path(in->name, s->dir, what->index, what->term);
    in->next = s->snapshots.incoming;
    s->snapshots.incoming = in;
    return in;
}

bool store_incoming_is(const struct store_incoming *in, const struct store_snapshot *what)
{
    return in->what.index == what->index && in->what.term == what->term && in->what.id == what->id &&
           in->what.size == what->size;
}

const char *store_incoming_path(const struct store_incoming *in)
{
    return in->path;
}

uint64_t store_incoming_size(const struct store_incoming *in)
{
    return in->taken;
}

uint64_t store_incoming_queued(const struct store_incoming *in)
{
    return in->queued.memory + in->writing.memory;
}

int store_incoming_write(struct store_incoming *in, const void *data, size_t size, struct buf *holder)
{
    ASSERT(!in->publishing && !in->dropped);
    if (!pieces_add(&in->queued, data, size, holder)) return ERR_NOMEM;
    in->taken += size;
    kick(in);
    return OK;
}

void store_incoming_publish(struct store_incoming *in)
{
    ASSERT(!in->publishing && !in->dropped);
    in->publishing = true;
    raft_index newest = store_snapshot(in->store).index;
    if (in->failure.code == OK && newest >= in->what.index) {
        err_set(&in->failure, ERR_EXIST, "a snapshot of index %" PRIu64 " is there already", newest);
    }
    kick(in);
}

void store_incoming_drop(struct store_incoming *in)
{
    ASSERT(!in->dropped);
    in->dropped = true;
    kick(in);
}

void incoming_drop_all(struct store *s)
{
    for (struct store_incoming *in = s->snapshots.incoming, *next; in != NULL; in = next) {
        next = in->next;
        if (!in->dropped) store_incoming_drop(in);
    }
}

void incoming_free_all(struct store *s)
{
    while (s->snapshots.incoming != NULL) {
        struct store_incoming *in = s->snapshots.incoming;
        s->snapshots.incoming = in->next;
        incoming_free(in);
    }
}
