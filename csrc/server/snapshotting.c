/* Snapshots of this node: waiting for the child that writes one, making it the node's newest, letting go of the log
 * behind it; and reading one for the host, when it takes the place of what the log has no more. */
#include "server/engine_state.h"

#include <stdio.h>

#include "base/mem.h"

/* ---- taking one ---- */

/* On the lane that waits for children. */
static void taking_work(struct io_job *job)
{
    struct taking *t = CONTAINER_OF(job, struct taking, job);
    struct io *io = t->engine->io;
    struct err ignored;
    t->error.code = io_join(io, t->child, &t->error);
    if (t->error.code == OK) t->error.code = io_rename(io, t->own, store_incoming_path(t->incoming), &t->error);
    if (t->error.code != OK) io_remove(io, t->own, &ignored);
}

static void taking_end(struct engine *e)
{
    struct taking *t = &e->taking;
    t->running = false;
    t->incoming = NULL;
    t->order->error = t->error;
    t->order->what = t->what;
    channel_notice(e->channel, (struct ring_item){.kind = NOTICE_SNAPSHOT, .pointer = t->order});
}

static void on_ended(void *ctx, int status, const struct err *reason)
{
    struct engine *e = ctx;
    if (status != OK) e->taking.error = *reason;
    else e->taking.what = store_snapshot(e->store);
    if (status == OK) snapshotting_taken(e);
    if (e->phase == ENGINE_RUNNING) status_publish(e, io_now(e->io)); /* whoever hears of it finds it in the status */
    taking_end(e);
}

static void taking_done(struct io_job *job)
{
    struct taking *t = CONTAINER_OF(job, struct taking, job);
    struct engine *e = t->engine;
    io_child_free(e->io, t->child);
    t->child = NULL;
    if (t->error.code == OK && e->phase == ENGINE_RUNNING) {
        store_incoming_publish(t->incoming);
        return;
    }
    if (t->error.code == OK) err_set(&t->error, ERR_CLOSED, "the node is closing");
    store_incoming_drop(t->incoming);
    taking_end(e);
    if (e->phase == ENGINE_CLOSING) io_alarm(e->io, io_now(e->io)); /* that is what it has waited for */
}

void snapshotting_take(struct engine *e, struct snapshot_order *order)
{
    static const struct store_incoming_events events = {.ended = on_ended};
    struct taking *t = &e->taking;
    ASSERT(!t->running);
    mem_free(t->order); /* the one before: the host has read it */
    mem_free(t->own);
    *t = (struct taking){.engine = e, .order = order, .child = order->child, .what = order->what, .running = true};
    size_t size = strlen(e->dir) + sizeof "/" SNAPSHOT_OWN_NAME;
    t->own = mem_alloc(size);
    t->incoming = t->own == NULL || e->store == NULL ? NULL : store_incoming_new(e->store, &order->what, &events, e);
    if (t->incoming == NULL) { /* the file is removed when the directory is opened next */
        struct err reason;
        err_set(&reason, ERR_NOMEM, "out of memory for a snapshot");
        io_kill(e->io, t->child);
        engine_fail(e, &reason);
        return;
    }
    snprintf(t->own, size, "%s/%s", e->dir, SNAPSHOT_OWN_NAME);
    t->job = (struct io_job){.work = taking_work, .done = taking_done};
    io_submit(e->io, IO_LANE_CHILD, &t->job);
    if (e->phase != ENGINE_RUNNING) io_kill(e->io, t->child);
}

/* ---- letting go ---- */

/* A snapshot that some peer is fetching needs what follows it. */
static raft_index needed_from(const struct engine *e, raft_index index)
{
    for (size_t i = 0; i < RAFT_MEMBERS_MAX; i++) {
        if (e->offers[i].view != NULL) index = MIN(index, store_view_what(e->offers[i].view)->index);
    }
    return index;
}

void snapshotting_taken(struct engine *e)
{
    raft_index index = store_snapshot(e->store).index;
    struct raft_status status;
    raft_status_get(e->raft, &status);
    if (e->phase != ENGINE_RUNNING || index > status.applied) return; /* a received one, that is still to be restored */
    raft_snapshot_taken(e->raft, index);
    raft_index covered = needed_from(e, index);
    raft_index first = store_release(e->store, covered > e->config.keep ? covered - e->config.keep : 0);
    if (first > 1) raft_compact(e->raft, MIN(first - 1, index));
    e->news = true;
}

/* ---- restoring one ---- */

static void restoring_end(struct engine *e)
{
    store_view_close(e->restoring.view);
    e->restoring.view = NULL;
}

/* A part that the host shall load. false: no memory. */
static bool lend_part(struct engine *e, struct buf *records, uint64_t total)
{
    struct restoring *r = &e->restoring;
    struct restore_part *part = mem_zero(1, sizeof *part);
    if (part == NULL) return false;
    part->what = *store_view_what(r->view);
    part->first = !r->begun;
    part->last = records->size == 0;
    part->total = total;
    part->records = *records;
    *records = (struct buf){0};
    part->next = r->parts;
    r->parts = part;
    r->n_parts++;
    r->begun = true;
    r->ended = part->last;
    channel_notice(e->channel, (struct ring_item){.kind = NOTICE_RESTORE, .pointer = part});
    return true;
}

static void on_records(struct store_view_read *read)
{
    struct engine *e = read->ctx;
    struct restoring *r = &e->restoring;
    r->reading = false;
    if (e->phase != ENGINE_RUNNING) {
        restoring_end(e);
    } else if (read->status != OK) {
        err_wrap(&read->error, "restoring a snapshot");
        engine_fail(e, &read->error);
        restoring_end(e);
    } else if (!lend_part(e, &read->bytes, read->total)) {
        err_set(&read->error, ERR_NOMEM, "out of memory while restoring a snapshot");
        engine_fail(e, &read->error);
        restoring_end(e);
    } else if (r->ended) {
        restoring_end(e);
    }
    buf_free(&read->bytes);
}

void snapshotting_restore(struct engine *e)
{
    struct restoring *r = &e->restoring;
    struct err reason;
    ASSERT(r->view == NULL);
    r->view = store_view_open(e->store);
    r->begun = r->ended = false;
    if (r->view == NULL) {
        err_set(&reason, ERR_NOMEM, "out of memory while restoring a snapshot");
        engine_fail(e, &reason);
        return;
    }
    r->replacing = store_view_what(r->view)->index;
    e->feed.next = r->replacing + 1;
}

/* Once it has taken the log's place durably. What follows it is lent to the host only then, and whoever sees that
 * applied finds in the status where the log begins. */
static void tell_status(struct engine *e)
{
    struct restoring *r = &e->restoring;
    if (r->replacing == 0 || e->feed.commit < r->replacing) return;
    r->replacing = 0;
    e->news = true;
    status_publish(e, io_now(e->io));
}

/* The host may have loaded it before the log was replaced by it durably. */
static void tell_core(struct engine *e)
{
    struct restoring *r = &e->restoring;
    struct raft_status status;
    if (r->restored == 0 || e->feed.commit < r->restored) return;
    raft_status_get(e->raft, &status);
    if (status.applied < r->restored) raft_applied(e->raft, r->restored);
    r->restored = 0;
}

void snapshotting_pump(struct engine *e)
{
    struct restoring *r = &e->restoring;
    tell_status(e);
    tell_core(e);
    if (r->view == NULL || r->reading || r->ended || r->n_parts >= CHANNEL_RESTORE_PARTS) return;
    r->read = (struct store_view_read){.max_bytes = CHANNEL_RESTORE_BYTES, .done = on_records, .ctx = e};
    r->reading = true;
    store_view_records(r->view, &r->read);
}

static void part_free(struct restore_part *part)
{
    buf_free(&part->records);
    mem_free(part);
}

void snapshotting_restored(struct engine *e, struct restore_part *part)
{
    struct restore_part **at = &e->restoring.parts;
    while (*at != part) at = &(*at)->next;
    *at = part->next;
    e->restoring.n_parts--;
    if (part->last) e->restoring.restored = part->what.index;
    part_free(part);
}

bool snapshotting_busy(const struct engine *e)
{
    return e->taking.running || e->restoring.reading;
}

void snapshotting_stop(struct engine *e)
{
    if (e->taking.child != NULL) io_kill(e->io, e->taking.child);
    if (e->restoring.view != NULL && !e->restoring.reading) restoring_end(e);
}

void snapshotting_order_free(struct engine *e, struct snapshot_order *order)
{
    io_child_free(e->io, order->child);
    mem_free(order);
}

void snapshotting_free(struct engine *e)
{
    while (e->restoring.parts != NULL) {
        struct restore_part *part = e->restoring.parts;
        e->restoring.parts = part->next;
        part_free(part);
    }
    if (e->taking.child != NULL) io_child_free(e->io, e->taking.child); /* of a world that has died */
    mem_free(e->taking.order);
    mem_free(e->taking.own);
    buf_free(&e->restoring.read.bytes);
}
