#include "store/store.h"

#include "base/mem.h"
#include "store/internal.h"

#define PROGRESS_BYTES (4u << 20) /* between two calls of progress() */

void store_recovered_free(struct store_recovered *r)
{
    for (size_t i = 0; i < r->n_confs; i++) block_unref(r->confs[i]);
    mem_free(r->confs);
    mem_free(r->runs);
    r->confs = NULL;
    r->runs = NULL;
    r->n_confs = r->n_runs = 0;
}

/* ---- opening ---- */

static bool has_room(const struct store *s)
{
    if (!s->keeper.short_of_room || s->spares.head != NULL) return true;
    const struct segment *current = store_current(s);
    return current != NULL && current->size - current->end >= current->size / 2;
}

void store_destroy(struct store *s, struct io *io)
{
    reads_abandon(s);
    segments_clear(&s->live, io);
    segments_clear(&s->spares, io);
    segments_clear(&s->retired, io);
    bool owned = s->keeper.task == KEEPER_PREPARE || s->keeper.task == KEEPER_TRIM; /* by no list */
    if (s->keeper.busy && owned) mem_free(s->keeper.segment);
    writer_free(s);
    keeper_free(&s->keeper);
    peers_free(&s->peers);
    snapshots_free(s);
    map_free(&s->map);
    if (s->lock != NULL && io != NULL) io_unlock_dir(io, s->lock);
    mem_free(s->dir);
    mem_free(s);
}

static int check_config(const struct store_config *c, struct err *e)
{
    const struct store_identity *id = &c->identity;
    if (strlen(c->dir) == 0 || strlen(c->dir) > FORMAT_PATH_MAX - 64) {
        return err_set(e, ERR_INVALID, "a directory's name has 1 to %u bytes, this one %zu", FORMAT_PATH_MAX - 64,
                       strlen(c->dir));
    }
    if (c->segment_bytes < STORE_SEGMENT_MIN || c->segment_bytes > STORE_SEGMENT_MAX ||
        c->segment_bytes % IO_BLOCK != 0) {
        return err_set(e, ERR_INVALID, "segment_bytes must be a multiple of %u from %u to %u, not %" PRIu64, IO_BLOCK,
                       STORE_SEGMENT_MIN, STORE_SEGMENT_MAX, c->segment_bytes);
    }
    if (c->spares == 0) return err_set(e, ERR_INVALID, "spares must be at least 1");
    ASSERT(memchr(id->name, 0, sizeof id->name) != NULL && memchr(id->list, 0, sizeof id->list) != NULL);
    return OK;
}

static struct store *store_new(struct io *io, const struct store_config *c, const struct store_events *events,
                               void *ctx)
{
    struct store *s = mem_zero(1, sizeof *s);
    if (s == NULL) return NULL;
    s->io = io;
    s->segment_bytes = c->segment_bytes;
    s->spares_wanted = c->spares;
    s->spares_kept = c->spares;
    s->room = UINT64_MAX;
    s->seal_after_us = c->seal_after_us;
    s->events = *events;
    s->ctx = ctx;
    s->has_room = true;
    s->writer.end = &s->writer.head;
    s->dir = mem_strdup(c->dir);
    peers_init(&s->peers, io, s->dir);
    if (s->dir != NULL && keeper_init(&s->keeper, io, s->dir)) return s;
    store_destroy(s, NULL);
    return NULL;
}

int store_prepare(struct store **out, struct io *io, const struct store_config *config,
                  const struct store_events *events, void *ctx, struct err *e)
{
    *out = NULL;
    if (check_config(config, e) != OK) return e->code;
    struct store *s = store_new(io, config, events, ctx);
    if (s == NULL) return err_set(e, ERR_NOMEM, "out of memory while opening %s", config->dir);
    int status = io_make_dir(io, s->dir, e);
    if (status == OK) status = io_lock_dir(io, s->dir, &s->lock, e);
    if (status == OK) *out = s;
    else store_destroy(s, io);
    return status;
}

int store_open(struct store **out, struct io *io, const struct store_config *config,
               const struct store_events *events, void *ctx, struct store_recovered *recovered, struct err *e)
{
    ASSERT(events->persisted != NULL && events->failed != NULL && events->room != NULL);
    *recovered = (struct store_recovered){0};
    if (store_prepare(out, io, config, events, ctx, e) != OK) return e->code;
    struct store *s = *out;
    int status = recovery_run(s, config, recovered, e);
    if (status != OK) {
        store_recovered_free(recovered);
        store_destroy(s, io);
        *out = NULL;
        return status;
    }
    keeper_look(&s->keeper);
    s->room = s->keeper.room;
    keeper_kick(s);
    writer_kick(s);
    snapshots_prune(s);
    return OK;
}

void store_submit(struct store *s, enum io_lane lane, struct io_job *job)
{
    if (!s->offline) {
        io_submit(s->io, lane, job);
        return;
    }
    job->work(job);
    job->done(job);
}

void store_progress(struct store *s, uint64_t bytes)
{
    uint64_t before = s->read_bytes / PROGRESS_BYTES;
    s->read_bytes += bytes;
    if (s->opening == NULL || s->opening->progress == NULL || s->read_bytes / PROGRESS_BYTES == before) return;
    s->opening->progress(s->opening->progress_ctx, s->read_bytes, MAX(s->read_bytes, s->total_bytes));
}

/* ---- while it runs ---- */

bool store_has_room(const struct store *s)
{
    return s->has_room;
}

uint64_t store_write_since(const struct store *s)
{
    return s->writer.since;
}

uint64_t store_deadline(const struct store *s)
{
    return MIN(writer_deadline(s), keeper_deadline(s));
}

void store_tick(struct store *s)
{
    writer_kick(s);
    keeper_kick(s);
}

raft_index store_release(struct store *s, raft_index index)
{
    ASSERT(!s->closing);
    index = MIN(index, MIN(s->durable_last, store_snapshot(s).index));
    uint32_t released = 0;
    for (; s->live.count > 1; released++) {
        struct segment *oldest = s->live.head;
        size_t next = 0; /* first mark outside of it */
        while (next < s->map.n_marks && s->map.marks[next].segment == oldest) next++;
        if (next > 0 && map_mark_last(&s->map, next - 1) > index) break;
        bool activating = s->live.count == 2 && s->writer.since != 0 && s->live.tail->end == SEGMENT_FIRST;
        if (activating) break; /* the newest is not durable yet: this one holds term and vote */
        map_drop_segment(&s->map, oldest);
        segments_push(&s->retired, segments_pop(&s->live));
    }
    keeper_released(s, released);
    keeper_kick(s);
    return s->map.first;
}

void store_status_get(const struct store *s, struct store_status *out)
{
    *out = (struct store_status){
        .segments = s->live.count,
        .spares = s->spares.count,
        .room = s->room,
        .writes = s->writer.writes,
        .write_us_last = writer_last_us(s),
        .write_us_p99 = writer_p99_us(s),
        .first = s->map.first,
        .durable_last = s->durable_last,
        .failed = s->failed,
        .has_room = s->has_room,
    };
    for (const struct segment *segment = s->live.head; segment != NULL; segment = segment->next) {
        out->bytes += segment->size;
    }
}

/* ---- the end ---- */

void store_finish(struct store *s)
{
    struct err ignored; /* the log is whole without it */
    s->epoch.batch = writer_newest_batch(s);
    if (!s->failed) epoch_update(s->io, s->dir, &s->epoch, &ignored);
    segments_clear(&s->live, s->io);
    segments_clear(&s->spares, s->io);
    segments_clear(&s->retired, s->io);
    io_unlock_dir(s->io, s->lock);
    s->lock = NULL;
}

static void end_work(struct io_job *job)
{
    store_finish(CONTAINER_OF(job, struct store, end_job));
}

static void end_done(struct io_job *job)
{
    struct store *s = CONTAINER_OF(job, struct store, end_job);
    void (*closed)(void *ctx) = s->closed;
    void *ctx = s->closed_ctx;
    store_destroy(s, NULL);
    closed(ctx);
}

static void go_on_closing(struct store *s)
{
    if (s->ended) return;
    /* No room for what is queued: nobody was told that it is durable, and waiting for room would be for ever. */
    if (!s->failed && s->writer.head != NULL && s->writer.since == 0 && s->keeper.short_of_room) writer_drop_queue(s);
    writer_kick(s);
    if (!writer_is_finished(s) || s->keeper.busy || s->reads != NULL) return;
    if (peers_busy(&s->peers) || snapshots_busy(s) || s->rejoin.busy) return;
    s->ended = true;
    s->end_job.work = end_work;
    s->end_job.done = end_done;
    io_submit(s->io, IO_LANE_BULK, &s->end_job);
}

void store_settle(struct store *s)
{
    bool room = has_room(s);
    if (s->closing) {
        go_on_closing(s);
    } else if (room != s->has_room) {
        s->has_room = room;
        s->events.room(s->ctx, room);
    }
}

void store_close(struct store *s, void (*done)(void *ctx), void *ctx)
{
    ASSERT(!s->closing && done != NULL);
    s->closing = true;
    s->closed = done;
    s->closed_ctx = ctx;
    incoming_drop_all(s);
    go_on_closing(s);
}

void store_abandon(struct store *s)
{
    store_destroy(s, NULL);
}
