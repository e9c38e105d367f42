#include "store/scan.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "store/internal.h"
#include "store/window.h"

#define WINDOW (512u << 10) /* read at once, at least: no more than stays in a cache until it is checked */
#define SANE_MAX (UINT64_C(1) << 62) /* no index, number or term of ours gets there */

/* ---- what is there ---- */

/* Opens a segment's file and reads its header. Takes it over when it fails too. */
static int read_header(struct store *s, struct scanned *f, struct err *e)
{
    char path[FORMAT_PATH_MAX];
    uint8_t block[IO_BLOCK];
    struct io_file *file;
    size_t got = 0;
    format_segment_path(path, s->dir, f->segment->file);
    if (io_open(s->io, path, 0, &file, e) != OK) return e->code;
    int status = io_size(s->io, file, &f->segment->size, e);
    if (status == OK) status = io_read(s->io, file, 0, block, sizeof block, &got, e);
    io_close(s->io, file);
    if (status != OK) return status;
    if (got < sizeof block) {
        return err_set(e, ERR_CORRUPT, "%s: damaged at offset %zu: the file has been cut there", path, got);
    }
    if (segment_header_get(block, &f->header, &f->damaged, e) != OK) return err_wrap(e, "%s", path);
    return OK;
}

static int check_header(struct store *s, const struct scanned *f, struct err *e)
{
    const struct segment_header *h = &f->header;
    uint64_t file = f->segment->file;
    if (memcmp(h->cluster, s->identity.cluster, sizeof h->cluster) != 0 || h->node != s->identity.node) {
        return err_set(e, ERR_FOREIGN, "%s/%08" PRIu64 ".seg belongs to node %" PRIu64 " of another cluster or life, "
                       "the directory to node %" PRIu64 ": files have been mixed", s->dir, file, h->node,
                       s->identity.node);
    }
    if (h->state == SEGMENT_SPARE) return OK;
    if (h->size != f->segment->size) {
        return err_set(e, ERR_CORRUPT, "%s/%08" PRIu64 ".seg: damaged at offset %" PRIu64 ": the file was made with %"
                       PRIu64 " bytes, now it has %" PRIu64, s->dir, file, MIN(h->size, f->segment->size), h->size,
                       f->segment->size);
    }
    bool sane = h->size % IO_BLOCK == 0 && h->size > SEGMENT_FIRST && h->number > 0 && h->number < SANE_MAX &&
                h->first_batch > 0 && h->first_batch < SANE_MAX && h->last < SANE_MAX &&
                (h->number > 1 || (h->first_batch == 1 && h->last == 0));
    if (!sane) return err_set(e, ERR_CORRUPT, "%s/%08" PRIu64 ".seg: its header makes no sense", s->dir, file);
    return OK;
}

/* A spare is opened for use, and mended if a copy of its header is damaged: the write that will make it live may be
 * torn in the other one. One of the wrong size, which holds nothing, is removed. */
static int add_spare(struct store *s, struct scanned *f, struct err *e)
{
    char path[FORMAT_PATH_MAX];
    format_segment_path(path, s->dir, f->segment->file);
    if (s->visitor != NULL) {
        segments_push(&s->spares, f->segment);
        return OK;
    }
    if (f->header.size != f->segment->size || f->header.size % IO_BLOCK != 0) {
        mem_free(f->segment);
        return io_remove(s->io, path, e) == OK ? io_sync_dir(s->io, s->dir, e) : e->code;
    }
    int status = f->damaged ? keeper_recycle(&s->keeper, f->segment, e)
                            : io_open(s->io, path, IO_OPEN_WRITE | IO_OPEN_DIRECT, &f->segment->handle, e);
    if (status == OK) segments_push(&s->spares, f->segment);
    else mem_free(f->segment);
    return status;
}

int scan_add(struct scan *c, uint64_t file, struct err *e)
{
    struct store *s = c->s;
    void *found = c->found;
    bool room = mem_grow(&found, &c->capacity, c->n + 1, sizeof *c->found);
    c->found = found;
    struct scanned f = {.segment = room ? mem_zero(1, sizeof *f.segment) : NULL};
    if (f.segment == NULL) return err_set(e, ERR_NOMEM, "out of memory while opening %s", s->dir);
    f.segment->file = file;
    s->keeper.next_file = MAX(s->keeper.next_file, file + 1);
    int status = read_header(s, &f, e);
    if (status == OK && s->visitor != NULL) s->visitor->segment(s->visitor->ctx, file, f.segment->size, &f.header);
    if (status == OK && s->identity.node != 0) status = check_header(s, &f, e);
    if (status == OK && f.header.state == SEGMENT_SPARE && s->identity.node != 0) return add_spare(s, &f, e);
    if (status != OK) {
        mem_free(f.segment);
        return status;
    }
    c->found[c->n++] = f;
    return OK;
}

/* ---- batches ---- */

static int rot(const struct store *s, const struct scanned *f, raft_index last, const char *why, const char *proof,
               struct err *e)
{
    char range[80];
    raft_index from = s->map.last + 1;
    if (last >= from) snprintf(range, sizeof range, "entries %" PRIu64 "..%" PRIu64, from, last);
    else snprintf(range, sizeof range, "entries from %" PRIu64 " on", from);
    return err_set(e, ERR_CORRUPT, "%s/%08" PRIu64 ".seg: damaged at offset %" PRIu64 " (%s), and this was durable "
                   "once, because %s: %s may be lost", s->dir, f->segment->file, f->segment->end, why, proof, range);
}

/* Reads the record at offset. *why: what is wrong with it, NULL when it is sound. */
static int read_record(struct window *w, const struct scanned *f, uint64_t number, uint64_t offset,
                       struct batch_header *h, const uint8_t **p, const char **why, struct err *e)
{
    int status = window_view(w, offset, BATCH_HEADER, p, e);
    *why = "the segment ends";
    if (status != OK) return status == ERR_NOENT ? OK : status;
    bool magic = batch_header_get(*p, h);
    *why = "no batch begins there";
    if (!magic || h->salt != f->header.salt || h->offset != offset) return OK;
    *why = "the header of the batch makes no sense";
    if (h->number != number || h->length < BATCH_HEADER || h->length % 8 != 0) return OK;
    status = window_view(w, offset, h->length, p, e);
    if (status != OK) return status == ERR_NOENT ? OK : status;
    *why = batch_check(*p, h);
    return OK;
}

/* Forgets configurations from index on. */
static void drop_confs(struct scan *c, raft_index index)
{
    while (c->n_confs > 0 && entry_view(c->confs[c->n_confs - 1]).index >= index) block_unref(c->confs[--c->n_confs]);
}

static bool keep_conf(struct scan *c, const uint8_t *entry, uint32_t size)
{
    void *confs = c->confs;
    bool room = mem_grow(&confs, &c->confs_capacity, c->n_confs + 1, sizeof *c->confs);
    c->confs = confs;
    struct block *block = room ? block_new(size) : NULL;
    if (block == NULL) return false;
    memcpy(block->bytes, entry, size);
    c->confs[c->n_confs++] = block;
    return true;
}

/* The terms of a batch's entries, which batch_check has looked at, and where they are. */
static int map_batch(struct scan *c, const struct scanned *f, const struct batch_header *h, const uint8_t *record,
                     struct err *e)
{
    struct store *s = c->s;
    uint64_t at = batch_entries(h->flags);
    for (uint32_t i = 0; i < h->count; i++) {
        struct entry entry = entry_peek(record + at);
        uint32_t used = ENTRY_HEADER + entry.payload_size;
        struct raft_run run = {.start = entry.index, .term = entry.term};
        bool room = map_reserve(&s->map, 1) &&
                    (entry.type != RAFT_ENTRY_CONFIG || keep_conf(c, record + at, used));
        if (!room) return err_set(e, ERR_NOMEM, "out of memory while reading %s", s->dir);
        if (s->visitor != NULL) s->visitor->entry(s->visitor->ctx, &entry);
        if (i == 0) map_add(&s->map, f->segment, h->offset, h->first, 1, &run, 1);
        else map_extend(&s->map, run);
        at += FORMAT_ALIGN(used);
    }
    return OK;
}

static int apply(struct scan *c, struct scanned *f, const struct batch_header *h, const uint8_t *record,
                 struct err *e)
{
    struct store *s = c->s;
    bool seal = (h->flags & BATCH_SEAL) != 0, reset = (h->flags & BATCH_RESET) != 0;
    raft_index last = h->truncate_from != 0 ? h->truncate_from - 1 : s->map.last;
    if (reset) last = get_u64(record + BATCH_HEADER);
    bool fits = (reset ? last > 0 && h->truncate_from == 0 : last <= s->map.last) &&
                (h->count == 0 || (!seal && h->first == last + 1));
    if (!fits || last >= SANE_MAX || last + h->count >= SANE_MAX) {
        return err_set(e, ERR_CORRUPT, "%s/%08" PRIu64 ".seg: the batch at offset %" PRIu64 " contradicts the log "
                       "before it, which ends with entry %" PRIu64, s->dir, f->segment->file, h->offset, s->map.last);
    }
    if (h->truncate_from != 0 || reset) drop_confs(c, h->truncate_from);
    if (h->truncate_from != 0) map_truncate(&s->map, h->truncate_from);
    if (reset) map_reset(&s->map, last, get_u64(record + BATCH_HEADER + 8));
    if (h->flags & BATCH_VOTE) {
        s->term = h->term;
        s->vote = h->vote;
    }
    if (s->visitor != NULL) s->visitor->batch(s->visitor->ctx, f->segment->file, h);
    c->sealed = seal;
    f->batches++;
    f->last_at = h->offset;
    f->segment->end = h->offset + h->length;
    return map_batch(c, f, h, record, e);
}

/* Looks behind offset for anything of a batch later than `number`. Salt and offset in it leave no doubt whose it is,
 * even if the rest of that batch is torn. */
static int find_later(struct window *w, const struct scanned *f, uint64_t offset, uint64_t number, bool *found,
                      struct batch_header *h, struct err *e)
{
    const size_t span = 64u << 10;
    *found = false;
    while (offset < f->segment->size && f->segment->size - offset >= BATCH_HEADER) {
        const uint8_t *p;
        size_t size = (size_t)MIN(span, f->segment->size - offset), i = 0;
        int status = window_view(w, offset, size, &p, e);
        if (status != OK) return status == ERR_NOENT ? OK : status;
        for (; i + BATCH_HEADER <= size; i += 8) {
            if (get_u32(p + i) != BATCH_MAGIC || !batch_header_get(p + i, h)) continue;
            if (h->salt == f->header.salt && h->offset == offset + i && h->number > number) {
                *found = true;
                return OK;
            }
        }
        offset += i;
    }
    return OK;
}

/* How much of a torn write can be seen at the end of the log. */
static int measure_torn(struct scan *c, struct window *w, const struct scanned *f, struct err *e)
{
    uint64_t end = f->segment->end;
    const uint8_t *p;
    struct batch_header h;
    size_t rest = (size_t)(IO_BLOCK - end % IO_BLOCK) % IO_BLOCK;
    int status = window_view(w, end, MAX(rest, BATCH_HEADER), &p, e);
    if (status != OK) return status == ERR_NOENT ? OK : status;
    for (size_t i = 0; i < rest; i++) {
        if (p[i] != 0) c->torn = i + 1;
    }
    if (batch_header_get(p, &h) && h.salt == f->header.salt && h.offset == end) {
        c->torn = MAX(c->torn, MIN(MAX(h.length, BATCH_HEADER), f->segment->size - end));
    }
    return OK;
}

/* Reads one segment's batches up to the first that is not whole, or that the next segment begins with. */
static int read_batches(struct scan *c, struct scanned *f, const struct scanned *after, struct err *e)
{
    struct store *s = c->s;
    char path[FORMAT_PATH_MAX];
    struct io_file *file;
    struct window w;
    struct batch_header h;
    const uint8_t *p;
    const char *why = NULL;
    bool later = false;
    format_segment_path(path, s->dir, f->segment->file);
    if (io_open(s->io, path, 0, &file, e) != OK) return e->code;
    window_init(&w, s->io, file, path, f->segment->size, WINDOW);
    f->segment->end = SEGMENT_FIRST;
    int status = OK;
    while (status == OK && why == NULL && (after == NULL || c->next < after->header.first_batch)) {
        status = read_record(&w, f, c->next, f->segment->end, &h, &p, &why, e);
        if (status == OK && why == NULL) status = apply(c, f, &h, p, e);
        if (status == OK && why == NULL) {
            c->next++;
            store_progress(s, h.length);
        }
    }
    if (status == OK && after != NULL && c->next < after->header.first_batch) {
        status = rot(s, f, after->header.last, why, "the log goes on in another segment", e);
    } else if (status == OK && after == NULL) {
        status = find_later(&w, f, f->segment->end + 8, c->next, &later, &h, e);
        if (status == OK && later) {
            raft_index last = h.truncate_from == 0 && h.first > 0 ? h.first - 1 : 0;
            status = rot(s, f, last, why, "a later batch stands behind it", e);
        }
        if (status == OK) status = measure_torn(c, &w, f, e);
    }
    window_free(&w);
    io_close(s->io, file);
    return status;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = ((const struct scanned *)a)->header.number, y = ((const struct scanned *)b)->header.number;
    return x < y ? -1 : x > y;
}

/* Checks that segment i begins where the log has come to. */
static int check_chain(struct scan *c, size_t i, struct err *e)
{
    struct store *s = c->s;
    const struct segment_header *h = &c->found[i].header;
    if (i == 0) {
        map_init(&s->map, h->last, h->last_term);
        s->term = h->term;
        s->vote = h->vote;
        c->next = h->first_batch;
        return OK;
    }
    uint64_t expected = c->found[i - 1].header.number + 1;
    if (h->number > expected) {
        return err_set(e, ERR_CORRUPT, "%s: the log has a gap: segment %" PRIu64 " is missing between %08" PRIu64
                       ".seg and %08" PRIu64 ".seg; entries from %" PRIu64 " on", s->dir, expected,
                       c->found[i - 1].segment->file, c->found[i].segment->file, s->map.last + 1);
    }
    if (h->number < expected || h->first_batch != c->next || h->last != s->map.last || h->term != s->term ||
        h->vote != s->vote) {
        return err_set(e, ERR_CORRUPT, "%s/%08" PRIu64 ".seg: its header contradicts the log before it", s->dir,
                       c->found[i].segment->file);
    }
    return OK;
}

/* The disk fetches a segment while the one before is being checked. An error will come up when it is read. */
static void look_ahead(const struct scan *c, size_t i)
{
    char path[FORMAT_PATH_MAX];
    struct io_file *file;
    struct err ignored;
    if (i >= c->n) return;
    const struct segment *segment = c->found[i].segment;
    format_segment_path(path, c->s->dir, segment->file);
    if (io_open(c->s->io, path, 0, &file, &ignored) != OK) return;
    io_ahead(c->s->io, file, 0, segment->size);
    io_close(c->s->io, file);
}

int scan_read(struct scan *c, struct err *e)
{
    struct store *s = c->s;
    c->next = 1;
    map_init(&s->map, 0, 0);
    if (c->n > 0) qsort(c->found, c->n, sizeof *c->found, by_number);
    for (size_t i = 0; i < c->n; i++) {
        const struct scanned *after = i + 1 < c->n ? &c->found[i + 1] : NULL;
        if (check_chain(c, i, e) != OK) return e->code;
        if (i == 0) look_ahead(c, 0);
        look_ahead(c, i + 1);
        if (after != NULL && after->header.number != c->found[i].header.number + 1) after = NULL;
        if (read_batches(c, &c->found[i], after, e) != OK) return e->code;
    }
    return OK;
}

/* ---- when it is read ---- */

int scan_check_reached(const struct scan *c, uint64_t least, struct err *e)
{
    const struct store *s = c->s;
    if (least < c->next) return OK;
    const struct scanned *f = c->n > 0 ? &c->found[c->n - 1] : NULL;
    if (f != NULL) return rot(s, f, 0, "no whole batch is there", "the file \"epoch\" tells of later batches", e);
    return err_set(e, ERR_CORRUPT, "%s: the segments of the log are missing: entries from 1 on are lost", s->dir);
}

void scan_hand_over(struct scan *c)
{
    for (size_t i = 0; i < c->n; i++) {
        struct segment *segment = c->found[i].segment;
        segment->number = c->found[i].header.number;
        segment->salt = c->found[i].header.salt;
        segments_push(&c->s->live, segment);
    }
    c->n = 0;
}

void scan_forget(struct scan *c)
{
    drop_confs(c, 0);
    for (size_t i = 0; i < c->n; i++) mem_free(c->found[i].segment);
    mem_free(c->confs);
    mem_free(c->found);
    *c = (struct scan){.s = c->s};
}
