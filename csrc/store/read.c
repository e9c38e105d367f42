/* Ranges of the log, read on the bulk lane. What is to be read where is planned in an event, from the map;
 * the job works from that plan alone. Segments are recycled on the same lane, hence only after the reads before. */
#include "base/mem.h"
#include "store/internal.h"
#include "store/window.h"

#define PIECES_MAX 64u         /* marks in one plan: 4 MiB of log or more */
#define WINDOW (128u << 10)    /* read at once, at least */

struct piece {
    uint64_t file, file_size, salt, offset;
    raft_index first, last;
};

struct read_plan {
    struct read_plan *next;
    struct store *store;
    struct store_read *read;
    struct io *io;
    char *dir;
    raft_index last; /* of all pieces */
    bool cancelled;
    size_t n, blocks_capacity, bytes;
    struct piece pieces[];
};

/* ---- on the bulk lane ---- */

/* Says what is damaged where. Returns ERR_CORRUPT. */
static int damaged(const struct read_plan *plan, const struct piece *piece, uint64_t offset, const char *what,
                   struct err *e)
{
    return err_set(e, ERR_CORRUPT, "%s/%08" PRIu64 ".seg: damaged at offset %" PRIu64 " (%s): entries %" PRIu64
                   "..%" PRIu64 " cannot be read", plan->dir, piece->file, offset, what, piece->first, piece->last);
}

/* Copies one entry that has been checked. */
static int keep(struct read_plan *plan, const uint8_t *entry, uint32_t size, struct err *e)
{
    struct store_read *read = plan->read;
    void *blocks = read->blocks;
    bool done = mem_grow(&blocks, &plan->blocks_capacity, read->n + 1, sizeof *read->blocks);
    read->blocks = blocks;
    struct block *block = done ? block_new(size) : NULL;
    if (block == NULL) return err_set(e, ERR_NOMEM, "out of memory while reading the log");
    memcpy(block->bytes, entry, size);
    read->blocks[read->n++] = block;
    plan->bytes += size;
    return OK;
}

static bool is_full(const struct read_plan *plan, uint32_t more)
{
    return plan->read->n > 0 && plan->bytes + more > plan->read->max_bytes;
}

static bool is_done(const struct read_plan *plan, const struct piece *piece)
{
    return plan->read->first + plan->read->n > piece->last;
}

/* The entry at offset, of at most `room` bytes and *size in the end: takes it when it is the next one wanted. */
static int read_entry(struct read_plan *plan, const struct piece *piece, struct window *w, uint64_t offset,
                      uint64_t room, raft_index index, uint32_t *size, bool *full, struct err *e)
{
    const uint8_t *p;
    struct entry entry;
    int status = room < ENTRY_HEADER ? ERR_NOENT : window_view(w, offset, ENTRY_HEADER, &p, e);
    *size = status == OK ? entry_size(p) : 0;
    if (status == OK && (*size == 0 || *size > room)) status = ERR_NOENT;
    bool wanted = status == OK && index == plan->read->first + plan->read->n;
    *full = wanted && is_full(plan, *size);
    if (wanted && !*full) status = window_view(w, offset, *size, &p, e);
    if (status == ERR_NOENT) return damaged(plan, piece, offset, "an entry is cut off", e);
    if (status != OK || !wanted || *full) return status;
    if (entry_read(p, *size, true, &entry, size, NULL) != OK || entry.index != index) {
        return damaged(plan, piece, offset, "the checksum of an entry differs", e);
    }
    return keep(plan, p, *size, e);
}

/* Takes what is wanted from the batch at *offset and moves on to the next one. *full: max_bytes is reached. */
static int read_batch(struct read_plan *plan, const struct piece *piece, struct window *w, uint64_t *offset,
                      bool *full, struct err *e)
{
    struct batch_header h;
    const uint8_t *p;
    int status = window_view(w, *offset, BATCH_HEADER, &p, e);
    if (status != OK && status != ERR_NOENT) return status;
    if (status == ERR_NOENT || !batch_header_get(p, &h) || h.salt != piece->salt || h.offset != *offset ||
        h.length < BATCH_HEADER || h.length % 8 != 0) {
        return damaged(plan, piece, *offset, "no batch is there", e);
    }
    uint64_t at = *offset + batch_entries(h.flags), end = *offset + h.length;
    for (raft_index index = h.first; at < end && !*full && !is_done(plan, piece); index++) {
        uint32_t size;
        status = read_entry(plan, piece, w, at, end - at, index, &size, full, e);
        if (status != OK) return status;
        at += FORMAT_ALIGN(size);
    }
    *offset = end;
    return OK;
}

/* The segment that is being read. */
struct source {
    uint64_t number; /* of its file */
    struct io_file *file;
    struct window window;
    char path[FORMAT_PATH_MAX];
};

static void source_close(const struct read_plan *plan, struct source *from)
{
    if (from->file == NULL) return;
    window_free(&from->window);
    io_close(plan->io, from->file);
    from->file = NULL;
}

/* Pieces that follow each other in a file are read as one: its window goes on. */
static int source_open(const struct read_plan *plan, struct source *from, const struct piece *piece, struct err *e)
{
    if (from->file != NULL && from->number == piece->file) return OK;
    source_close(plan, from);
    from->number = piece->file;
    format_segment_path(from->path, plan->dir, piece->file);
    if (io_open(plan->io, from->path, 0, &from->file, e) != OK) {
        from->file = NULL;
        if (e->code == ERR_NOENT) e->code = ERR_IO; /* a live segment is missing: not what ERR_NOENT says to a reader */
        return e->code;
    }
    window_init(&from->window, plan->io, from->file, from->path, piece->file_size, WINDOW);
    return OK;
}

static int read_piece(struct read_plan *plan, const struct piece *piece, struct source *from, bool *full, struct err *e)
{
    uint64_t offset = piece->offset;
    int status = source_open(plan, from, piece, e);
    while (status == OK && !*full && !is_done(plan, piece)) {
        status = read_batch(plan, piece, &from->window, &offset, full, e);
    }
    return status;
}

static void drop_blocks(struct store_read *read)
{
    for (size_t i = 0; i < read->n; i++) block_unref(read->blocks[i]);
    mem_free(read->blocks);
    read->blocks = NULL;
    read->n = 0;
}

static void read_work(struct io_job *job)
{
    struct store_read *read = CONTAINER_OF(job, struct store_read, job);
    struct read_plan *plan = read->plan;
    struct source from = {.file = NULL};
    bool full = false;
    for (size_t i = 0; i < plan->n && read->status == OK && !full; i++) {
        read->status = read_piece(plan, &plan->pieces[i], &from, &full, &read->error);
    }
    source_close(plan, &from);
}

/* ---- in events ---- */

static void unlink_plan(struct store *s, struct read_plan *plan)
{
    struct read_plan **at = &s->reads;
    while (*at != plan) {
        ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = plan->next;
}

static void add_piece(struct store *s, struct read_plan *plan, size_t mark, raft_index first, raft_index last)
{
    const struct segment *segment = s->map.marks[mark].segment;
    plan->pieces[plan->n++] = (struct piece){
        .file = segment->file,
        .file_size = segment->end,
        .salt = segment->salt,
        .offset = s->map.marks[mark].offset,
        .first = first,
        .last = MIN(last, map_mark_last(&s->map, mark)),
    };
}

/* NULL: no memory. */
static struct read_plan *plan_new(struct store *s, struct store_read *read)
{
    raft_index last = MIN(read->last, s->durable_last);
    bool there = read->first >= s->map.first && read->first <= last;
    size_t mark = there ? map_find(&s->map, read->first) : 0, end = there ? map_find(&s->map, last) + 1 : 0;
    end = MIN(end, mark + MIN(PIECES_MAX, read->max_bytes / MAP_MARK_BYTES + 2));
    struct read_plan *plan = mem_zero(1, sizeof *plan + (end - mark) * sizeof plan->pieces[0]);
    if (plan == NULL) return NULL;
    plan->store = s;
    plan->read = read;
    plan->io = s->io;
    plan->dir = s->dir;
    plan->cancelled = !there;
    for (; mark < end; mark++) add_piece(s, plan, mark, MAX(read->first, s->map.marks[mark].index), last);
    plan->last = plan->n > 0 ? plan->pieces[plan->n - 1].last : 0;
    plan->next = s->reads;
    s->reads = plan;

    read->status = OK;
    read->blocks = NULL;
    read->n = 0;
    read->plan = plan;
    return plan;
}

/* What the reader gets. */
static void conclude(struct store_read *read)
{
    struct read_plan *plan = read->plan;
    unlink_plan(plan->store, plan);
    if (plan->cancelled) {
        read->status = err_set(&read->error, ERR_NOENT, "entries from %" PRIu64 " on are not (or no longer) stored",
                               read->first);
    }
    if (read->status != OK) drop_blocks(read);
    read->plan = NULL;
    mem_free(plan);
}

static void read_done(struct io_job *job)
{
    struct store_read *read = CONTAINER_OF(job, struct store_read, job);
    struct store *s = ((struct read_plan *)read->plan)->store;
    conclude(read);
    read->done(read);
    store_settle(s);
}

int read_now(struct store *s, struct store_read *read)
{
    if (plan_new(s, read) == NULL) return err_set(&read->error, ERR_NOMEM, "out of memory while reading the log");
    read_work(&read->job);
    conclude(read);
    return read->status;
}

int store_read_range(struct store *s, struct store_read *read)
{
    ASSERT(!s->closing && read->first <= read->last && read->last <= s->writer.last);
    if (plan_new(s, read) == NULL) return ERR_NOMEM;
    read->job.work = read_work;
    read->job.done = read_done;
    io_submit(s->io, IO_LANE_BULK, &read->job);
    return OK;
}

void reads_cancel(struct store *s, raft_index index)
{
    for (struct read_plan *plan = s->reads; plan != NULL; plan = plan->next) {
        if (plan->last >= index) plan->cancelled = true;
    }
}

void reads_abandon(struct store *s)
{
    while (s->reads != NULL) {
        struct read_plan *plan = s->reads;
        s->reads = plan->next;
        drop_blocks(plan->read);
        mem_free(plan);
    }
}
