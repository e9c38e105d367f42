/* Views of a snapshot: its bytes for another node, its records for the machine of this one. Each job opens the file for
 * itself. */
#include "base/mem.h"
#include "store/internal.h"

struct store_view {
    struct store_view *next;
    struct store *store;
    struct kept *kept;
    struct store_snapshot what;
    uint32_t reads; /* running */
    struct io *io;
    char path[FORMAT_PATH_MAX];

    uint64_t at;        /* of the records: the next block */
    struct buf records; /* bytes of blocks before that were not handed out */
    size_t whole;       /* of these, whole records */
};

struct store_view *store_view_open(struct store *s)
{
    ASSERT(!s->closing);
    struct kept *newest = snapshots_newest(s);
    struct store_view *view = newest != NULL ? mem_zero(1, sizeof *view) : NULL;
    if (view == NULL) return NULL;
    view->store = s;
    view->kept = newest;
    view->what = newest->what;
    view->io = s->io;
    view->at = SNAPSHOT_HEADER;
    format_snapshot_path(view->path, s->dir, newest->what.index, newest->what.term);
    newest->views++;
    view->next = s->snapshots.views;
    s->snapshots.views = view;
    return view;
}

const struct store_snapshot *store_view_what(const struct store_view *view)
{
    return &view->what;
}

static void view_free(struct store_view *view)
{
    buf_free(&view->records);
    mem_free(view);
}

void store_view_close(struct store_view *view)
{
    struct store *s = view->store;
    struct store_view **at = &s->snapshots.views;
    ASSERT(view->reads == 0);
    while (*at != view) at = &(*at)->next;
    *at = view->next;
    view->kept->views--;
    view_free(view);
    snapshots_prune(s);
}

void views_free_all(struct store *s)
{
    while (s->snapshots.views != NULL) {
        struct store_view *view = s->snapshots.views;
        s->snapshots.views = view->next;
        view_free(view);
    }
}

/* ---- on the bulk lane ---- */

static int open_scan(const struct store_view *view, struct snapshot_scan *scan, struct err *e)
{
    int status = snapshot_scan_open(scan, view->io, view->path, NULL, NULL, e);
    if (status == ERR_NOENT) e->code = status = ERR_IO;
    if (status != OK) return status;
    if (scan->what.id == view->what.id && scan->what.size == view->what.size) return OK;
    snapshot_scan_close(scan);
    return err_set(e, ERR_CORRUPT, "%s: damaged at offset 0 (it is not the file that it was)", view->path);
}

static void bytes_work(struct io_job *job)
{
    struct store_view_read *read = CONTAINER_OF(job, struct store_view_read, job);
    struct snapshot_scan scan;
    read->status = open_scan(read->view, &scan, &read->error);
    if (read->status != OK) return;
    read->status = snapshot_scan_copy(&scan, read->offset, read->max_bytes, &read->bytes, &read->error);
    snapshot_scan_close(&scan);
    if (read->status == OK && read->more != NULL) read->more(read);
}

/* Counts the whole records in memory. true: there is as much as may be handed out. */
static bool measure(struct store_view *view, size_t max_bytes)
{
    const struct buf *b = &view->records;
    while (b->size - view->whole >= SNAPSHOT_RECORD_HEADER) {
        uint64_t size = SNAPSHOT_RECORD_HEADER + (uint64_t)get_u32(b->data + view->whole);
        if (view->whole > 0 && view->whole + size > max_bytes) return true;
        if (b->size - view->whole < size) return false;
        view->whole += (size_t)size;
    }
    return view->whole > 0 && view->whole >= max_bytes;
}

static int gather(struct store_view *view, struct snapshot_scan *scan, size_t max_bytes, struct err *e)
{
    const uint8_t *bytes;
    size_t size;
    while (!measure(view, max_bytes)) {
        uint64_t next = view->at;
        if (snapshot_scan_block(scan, &next, &bytes, &size, e) != OK) return e->code;
        if (size > 0 && !buf_append(&view->records, bytes, size)) {
            return err_set(e, ERR_NOMEM, "out of memory for %s", view->path);
        }
        view->at = next;
        if (size == 0 && view->whole < view->records.size) {
            return err_set(e, ERR_CORRUPT, "%s: damaged at offset %" PRIu64 " (its last record is cut off)", view->path,
                           view->at);
        }
        if (size == 0) return OK;
    }
    return OK;
}

static int hand_out(struct store_view *view, struct buf *out, struct err *e)
{
    if (view->whole == view->records.size) {
        *out = view->records;
        view->records = (struct buf){0};
    } else {
        if (!buf_append(out, view->records.data, view->whole)) {
            return err_set(e, ERR_NOMEM, "out of memory for %s", view->path);
        }
        buf_drop_front(&view->records, view->whole);
    }
    view->whole = 0;
    return OK;
}

static void records_work(struct io_job *job)
{
    struct store_view_read *read = CONTAINER_OF(job, struct store_view_read, job);
    struct snapshot_scan scan;
    read->status = open_scan(read->view, &scan, &read->error);
    if (read->status != OK) return;
    read->total = snapshot_scan_total(&scan);
    read->status = gather(read->view, &scan, read->max_bytes, &read->error);
    snapshot_scan_close(&scan);
    if (read->status == OK) read->status = hand_out(read->view, &read->bytes, &read->error);
}

/* ---- in events ---- */

static void view_read_done(struct io_job *job)
{
    struct store_view_read *read = CONTAINER_OF(job, struct store_view_read, job);
    struct store *s = read->view->store;
    read->view->reads--;
    s->snapshots.reads--;
    if (read->status != OK) buf_free(&read->bytes);
    read->done(read);
    store_settle(s);
}

static void start(struct store_view *view, struct store_view_read *read, void (*work)(struct io_job *))
{
    ASSERT(!view->store->closing && read->done != NULL);
    read->view = view;
    read->status = OK;
    view->reads++;
    view->store->snapshots.reads++;
    read->job.work = work;
    read->job.done = view_read_done;
    io_submit(view->io, IO_LANE_BULK, &read->job);
}

void store_view_bytes(struct store_view *view, struct store_view_read *read)
{
    start(view, read, bytes_work);
}

void store_view_records(struct store_view *view, struct store_view_read *read)
{
    ASSERT(read->bytes.data == NULL);
    start(view, read, records_work);
}
