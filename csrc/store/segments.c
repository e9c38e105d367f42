#include "store/segments.h"

#include "base/mem.h"
#include "store/internal.h"

void segments_push(struct segments *list, struct segment *segment)
{
    segment->next = NULL;
    if (list->tail != NULL) list->tail->next = segment;
    else list->head = segment;
    list->tail = segment;
    list->count++;
}

struct segment *segments_take(struct segments *list, uint64_t size)
{
    struct segment *before = NULL, *segment = list->head;
    while (segment != NULL && segment->size < size) {
        before = segment;
        segment = segment->next;
    }
    if (segment == NULL) return NULL;
    if (before != NULL) before->next = segment->next;
    else list->head = segment->next;
    if (list->tail == segment) list->tail = before;
    list->count--;
    segment->next = NULL;
    return segment;
}

struct segment *segments_pop(struct segments *list)
{
    return segments_take(list, 0);
}

void segments_clear(struct segments *list, struct io *io)
{
    struct segment *segment;
    while ((segment = segments_pop(list)) != NULL) {
        if (segment->handle != NULL && io != NULL) io_close(io, segment->handle);
        mem_free(segment);
    }
}

uint64_t segment_size_for(uint64_t usual, uint64_t length)
{
    uint64_t needed = SEGMENT_FIRST + length + WRITER_RESERVE;
    return MAX(usual, (needed + IO_BLOCK - 1) / IO_BLOCK * IO_BLOCK);
}

bool keeper_init(struct keeper *k, struct io *io, char *dir)
{
    *k = (struct keeper){.io = io, .dir = dir, .next_file = 1, .header = {.state = SEGMENT_SPARE}, .room = UINT64_MAX};
    k->block = mem_aligned(IO_BLOCK, IO_BLOCK);
    return k->block != NULL;
}

void keeper_look(struct keeper *k)
{
    struct err ignored;
    if (io_room(k->io, k->dir, &k->room, &ignored) != OK) k->room = UINT64_MAX;
}

void keeper_free(struct keeper *k)
{
    mem_free(k->block);
    k->block = NULL;
}

/* Writes the header of a spare; on an error the handle is closed. */
static int mark_spare(struct keeper *k, struct segment *segment, struct err *e)
{
    k->header.size = segment->size;
    segment_header_put(k->block, &k->header);
    int status = io_write(k->io, segment->handle, 0, k->block, IO_BLOCK, e);
    if (status != OK) {
        io_close(k->io, segment->handle);
        segment->handle = NULL;
    }
    return status;
}

static int open_for_writing(struct keeper *k, struct segment *segment, const char *path, int more, struct err *e)
{
    segment->handle = NULL;
    return io_open(k->io, path, IO_OPEN_WRITE | IO_OPEN_DIRECT | more, &segment->handle, e);
}

int keeper_prepare(struct keeper *k, struct segment *segment, struct err *e)
{
    char path[FORMAT_PATH_MAX], unfinished[FORMAT_PATH_MAX];
    struct err ignored;
    format_segment_path(path, k->dir, segment->file);
    format_unfinished_path(unfinished, k->dir, segment->file);
    if (open_for_writing(k, segment, unfinished, IO_OPEN_CREATE, e) != OK) return e->code;
    int status = io_fill(k->io, segment->handle, segment->size, e);
    if (status != OK) {
        io_close(k->io, segment->handle);
        segment->handle = NULL;
    } else {
        status = mark_spare(k, segment, e);
    }
    if (status == OK) {
        status = io_rename(k->io, unfinished, path, e);
        if (status == OK) status = io_sync_dir(k->io, k->dir, e);
        if (status == OK) return OK;
        io_close(k->io, segment->handle);
        segment->handle = NULL;
        io_remove(k->io, path, &ignored);
    }
    io_remove(k->io, unfinished, &ignored);
    return status;
}

int keeper_recycle(struct keeper *k, struct segment *segment, struct err *e)
{
    char path[FORMAT_PATH_MAX];
    format_segment_path(path, k->dir, segment->file);
    if (open_for_writing(k, segment, path, 0, e) != OK) return e->code;
    return mark_spare(k, segment, e);
}

static int remove_file(struct keeper *k, const struct segment *segment, struct err *e)
{
    char path[FORMAT_PATH_MAX];
    format_segment_path(path, k->dir, segment->file);
    int status = io_remove(k->io, path, e);
    if (status != OK && status != ERR_NOENT) return status; /* not there: an earlier attempt was half successful */
    return io_sync_dir(k->io, k->dir, e);
}

static int trim(struct keeper *k, struct segment *spare, struct err *e)
{
    io_close(k->io, spare->handle);
    spare->handle = NULL;
    return remove_file(k, spare, e);
}

static void keeper_work(struct io_job *job)
{
    struct keeper *k = CONTAINER_OF(job, struct keeper, job);
    switch (k->task) {
    case KEEPER_PREPARE: k->status = keeper_prepare(k, k->segment, &k->error); break;
    case KEEPER_RECYCLE: k->status = keeper_recycle(k, k->segment, &k->error); break;
    case KEEPER_REMOVE: k->status = remove_file(k, k->segment, &k->error); break;
    case KEEPER_TRIM: k->status = trim(k, k->segment, &k->error); break;
    default: k->status = OK; break;
    }
    keeper_look(k);
}

static void keeper_done(struct io_job *job)
{
    struct keeper *k = CONTAINER_OF(job, struct keeper, job);
    struct store *s = CONTAINER_OF(k, struct store, keeper);
    struct segment *segment = k->segment;
    bool makes = k->task == KEEPER_PREPARE || k->task == KEEPER_RECYCLE;
    bool releases = k->task == KEEPER_RECYCLE || k->task == KEEPER_REMOVE;
    ASSERT(k->busy && (segment != NULL || k->task == KEEPER_LOOK));
    k->busy = false;
    k->segment = NULL;
    s->room = k->room;
    k->retry_at = k->status == OK ? 0 : io_now(s->io) + STORE_RETRY_US;
    if (k->task == KEEPER_PREPARE) k->short_of_room = k->status != OK;
    if (releases) k->release_failed = k->status != OK;
    if (releases && k->status == OK) {
        const struct segment *oldest = segments_pop(&s->retired);
        ASSERT(oldest == segment);
    }

    if (k->status == OK && makes) {
        segments_push(&s->spares, segment);
        if (segment->size >= k->needed) k->needed = 0;
    } else if (k->status == OK || !releases) {
        mem_free(segment); /* a spare that could not be removed is found when the directory is opened next */
    }
    writer_kick(s);
    keeper_kick(s);
    store_settle(s);
}

static bool wants_new(const struct store *s)
{
    return s->keeper.needed > 0 || (s->spares.count < s->spares_wanted && !s->closing);
}

void keeper_released(struct store *s, uint32_t count)
{
    uint32_t worth = s->spares_wanted + MIN(count, SPARES_RECYCLED_MAX);
    if (count > 0) s->spares_kept = MAX(s->spares_kept - 1, worth);
}

/* While as much room again is free: a snapshot needs it more, and only a snapshot lets the log end. */
static uint32_t spares_worth_keeping(const struct store *s)
{
    bool plenty = s->room / s->segment_bytes >= s->spares_kept;
    return plenty ? s->spares_kept : s->spares_wanted;
}

/* NULL: no memory, it is tried again. */
static struct segment *plan_new(struct store *s)
{
    struct keeper *k = &s->keeper;
    struct segment *segment = mem_zero(1, sizeof *segment);
    if (segment == NULL) {
        k->retry_at = io_now(s->io) + STORE_NO_MEMORY_RETRY_US;
        return NULL;
    }
    segment->file = k->next_file++;
    segment->size = MAX(s->segment_bytes, k->needed);
    return segment;
}

/* What is to be done next. */
static void plan_task(struct store *s)
{
    struct keeper *k = &s->keeper;
    k->segment = NULL;
    k->task = KEEPER_NOTHING;
    if (s->retired.head != NULL && !s->closing && !(k->release_failed && wants_new(s))) {
        bool useful = s->retired.head->size == s->segment_bytes && s->spares.count < spares_worth_keeping(s);
        k->segment = s->retired.head;
        k->task = useful ? KEEPER_RECYCLE : KEEPER_REMOVE;
    } else if (wants_new(s)) {
        k->segment = plan_new(s);
        if (k->segment != NULL) k->task = KEEPER_PREPARE;
    } else if (s->spares.count > spares_worth_keeping(s) && !s->closing) {
        k->segment = segments_pop(&s->spares);
        k->task = KEEPER_TRIM;
    } else if (k->look_due && !s->closing) {
        k->task = KEEPER_LOOK;
    }
}

void keeper_kick(struct store *s)
{
    struct keeper *k = &s->keeper;
    if (k->busy || s->failed || s->ended || k->retry_at > io_now(s->io)) return;
    k->retry_at = 0;
    plan_task(s);
    if (k->task == KEEPER_NOTHING) return;
    k->look_due = false;
    k->busy = true;
    k->job.work = keeper_work;
    k->job.done = keeper_done;
    store_submit(s, IO_LANE_BULK, &k->job);
}

uint64_t keeper_deadline(const struct store *s)
{
    const struct keeper *k = &s->keeper;
    return k->busy || k->retry_at == 0 || s->failed || s->ended ? NEVER_US : k->retry_at;
}
