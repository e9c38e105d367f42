/* What a directory holds, found out at the start: identity, epoch, peers, and the log batch by batch.
 *
 * The one question that matters is what damage at the end means. Batch N + 1 is written only after N is durable. So
 * when anything of a later batch is found, the damaged one had been durable, perhaps acknowledged: that is rot, and
 * the directory is refused. When nothing later is found, it is the torn end of a write that nobody was told about: it
 * is cut, that is, ignored from now on, and the log goes on in a new segment, whose header says with which batch. */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "store/internal.h"
#include "store/window.h"

#define PROGRESS_BYTES (4u << 20) /* between two calls of progress() */
#define WINDOW (512u << 10)       /* read at once, at least: no more than stays in a cache until it is checked */
#define LIFE_SPREAD US_PER_S
#define SANE_MAX (UINT64_C(1) << 62) /* no index, number or term of ours gets there */

/* One segment file. */
struct found {
    struct segment *segment;
    struct segment_header header;
    bool damaged;                /* one copy of the header is */
    uint64_t last_at, batches;   /* offset of its last whole batch; how many it has */
};

struct recovery {
    struct store *s;
    struct found *found; /* live segments, in order */
    size_t n, capacity;
    uint64_t next;       /* number of the next batch */
    bool sealed;         /* the last batch is a seal */
    uint64_t torn;       /* bytes of the torn tail, as far as they can be seen */
    bool identity;       /* there is one */
    bool created;        /* the directory is new, or made anew */
    bool is_void;        /* the log is: the snapshot is ahead of it */
    bool set_aside;      /* what was here has been, just now */
    struct block **confs; /* entries of that type, in the log */
    size_t n_confs, confs_capacity;
    char damaged[ERR_TEXT_MAX]; /* the newest snapshot is */
    char stranger[64];   /* a name that is not ours; empty: there is none */
};

/* ---- the directory ---- */

static bool ends_with(const char *name, const char *end)
{
    size_t size = strlen(name), end_size = strlen(end);
    return size >= end_size && strcmp(name + size - end_size, end) == 0;
}

static bool is_ours(const char *name)
{
    static const char *const names[] = {"lock", "identity", "epoch", "peers", "rejoin", "lost+found"};
    uint64_t file, term;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (strcmp(name, names[i]) == 0) return true;
    }
    return format_segment_name(name, &file) || format_snapshot_name(name, &file, &term) || rejoin_is_set_aside(name);
}

/* Opens a segment's file and reads its header. Takes it over when it fails too. */
static int read_header(struct store *s, struct found *f, struct err *e)
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

static int check_header(struct store *s, const struct found *f, struct err *e)
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
static int add_spare(struct store *s, struct found *f, struct err *e)
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

static int add_file(struct recovery *r, uint64_t file, struct err *e)
{
    struct store *s = r->s;
    void *found = r->found;
    bool room = mem_grow(&found, &r->capacity, r->n + 1, sizeof *r->found);
    r->found = found;
    struct found f = {.segment = room ? mem_zero(1, sizeof *f.segment) : NULL};
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
    r->found[r->n++] = f;
    return OK;
}

/* Removes what was unfinished when the last process ended, and notes names that are not ours. */
static int tidy(struct recovery *r, const struct io_names *names, struct err *e)
{
    struct store *s = r->s;
    for (size_t i = 0; i < names->count; i++) {
        const char *name = names->names[i];
        if (strcmp(name, "identity") == 0) r->identity = true;
        if (ends_with(name, ".tmp")) {
            char path[FORMAT_PATH_MAX];
            if (strlen(s->dir) + strlen(name) + 2 > sizeof path) continue;
            format_path(path, s->dir, name);
            if (io_remove(s->io, path, e) != OK) return e->code;
        } else if (!is_ours(name)) {
            snprintf(r->stranger, sizeof r->stranger, "%s", name);
        }
    }
    return OK;
}

static int add_files(struct recovery *r, const struct io_names *names, struct err *e)
{
    for (size_t i = 0; i < names->count; i++) {
        uint64_t file;
        if (format_segment_name(names->names[i], &file) && add_file(r, file, e) != OK) return e->code;
    }
    return OK;
}

/* ---- a new directory ---- */

/* Later than the one before, and than any before that, if the clock is right. Of two lives that begin with copies of one
 * directory, both must not be the same. */
static uint64_t next_life(struct store *s)
{
    return MAX(io_wall(s->io), s->epoch.life + 1) + io_random(s->io) % LIFE_SPREAD;
}

/* What an interrupted creation has left goes. */
static int clear_leftovers(struct recovery *r, const struct io_names *names, struct err *e)
{
    struct store *s = r->s;
    uint64_t index, term;
    for (size_t i = 0; i < names->count; i++) {
        if (!format_snapshot_name(names->names[i], &index, &term)) continue;
        return err_set(e, ERR_CORRUPT, "%s/identity is missing, but there is a snapshot, %s", s->dir, names->names[i]);
    }
    for (size_t i = 0; i < r->n; i++) {
        char path[FORMAT_PATH_MAX];
        format_segment_path(path, s->dir, r->found[i].segment->file);
        if (r->found[i].header.state == SEGMENT_LIVE) {
            return err_set(e, ERR_CORRUPT, "%s/identity is missing, but %s holds a log", s->dir, path);
        }
        if (io_remove(s->io, path, e) != OK) return e->code;
    }
    return OK;
}

/* The identity is written last: until then the directory counts as new. */
static int create(struct recovery *r, const struct io_names *names, const struct store_identity *identity,
                  struct err *e)
{
    struct store *s = r->s;
    if (clear_leftovers(r, names, e) != OK) return e->code;
    s->identity = *identity;
    s->epoch = (struct epoch){.life = next_life(s)}; /* of another directory than before, if there was one */
    memcpy(s->keeper.header.cluster, s->identity.cluster, sizeof s->identity.cluster);
    s->keeper.header.node = s->identity.node;

    struct segment *spare = mem_zero(1, sizeof *spare);
    if (spare == NULL) return err_set(e, ERR_NOMEM, "out of memory while creating %s", s->dir);
    spare->file = s->keeper.next_file++;
    spare->size = s->segment_bytes;
    if (keeper_prepare(&s->keeper, spare, e) != OK) {
        mem_free(spare);
        return e->code;
    }
    segments_push(&s->spares, spare);
    if (peers_write(&s->peers, e) != OK) return e->code;
    if (epoch_create(s->io, s->dir, &s->epoch, e) != OK) return e->code;
    return identity_write(s->io, s->dir, &s->identity, e);
}

/* ---- the log ---- */

static int rot(struct store *s, const struct found *f, raft_index last, const char *why, const char *proof,
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
static int read_record(struct window *w, const struct found *f, uint64_t number, uint64_t offset,
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
static void drop_confs(struct recovery *r, raft_index index)
{
    while (r->n_confs > 0 && entry_view(r->confs[r->n_confs - 1]).index >= index) block_unref(r->confs[--r->n_confs]);
}

static bool keep_conf(struct recovery *r, const uint8_t *entry, uint32_t size)
{
    void *confs = r->confs;
    bool room = mem_grow(&confs, &r->confs_capacity, r->n_confs + 1, sizeof *r->confs);
    r->confs = confs;
    struct block *block = room ? block_new(size) : NULL;
    if (block == NULL) return false;
    memcpy(block->bytes, entry, size);
    r->confs[r->n_confs++] = block;
    return true;
}

/* The terms of a batch's entries, which batch_check has looked at, and where they are. */
static int map_batch(struct recovery *r, const struct found *f, const struct batch_header *h, const uint8_t *record,
                     struct err *e)
{
    struct store *s = r->s;
    uint64_t at = batch_entries(h->flags);
    for (uint32_t i = 0; i < h->count; i++) {
        struct entry entry = entry_peek(record + at);
        uint32_t used = ENTRY_HEADER + entry.payload_size;
        struct raft_run run = {.start = entry.index, .term = entry.term};
        bool room = map_reserve(&s->map, 1) &&
                    (entry.type != RAFT_ENTRY_CONFIG || keep_conf(r, record + at, used));
        if (!room) return err_set(e, ERR_NOMEM, "out of memory while reading %s", s->dir);
        if (s->visitor != NULL) s->visitor->entry(s->visitor->ctx, &entry);
        if (i == 0) map_add(&s->map, f->segment, h->offset, h->first, 1, &run, 1);
        else map_extend(&s->map, run);
        at += FORMAT_ALIGN(used);
    }
    return OK;
}

static int apply(struct recovery *r, struct found *f, const struct batch_header *h, const uint8_t *record,
                 struct err *e)
{
    struct store *s = r->s;
    bool seal = (h->flags & BATCH_SEAL) != 0, reset = (h->flags & BATCH_RESET) != 0;
    raft_index last = h->truncate_from != 0 ? h->truncate_from - 1 : s->map.last;
    if (reset) last = get_u64(record + BATCH_HEADER);
    bool fits = (reset ? last > 0 && h->truncate_from == 0 : last <= s->map.last) &&
                (h->count == 0 || (!seal && h->first == last + 1));
    if (!fits || last >= SANE_MAX || last + h->count >= SANE_MAX) {
        return err_set(e, ERR_CORRUPT, "%s/%08" PRIu64 ".seg: the batch at offset %" PRIu64 " contradicts the log "
                       "before it, which ends with entry %" PRIu64, s->dir, f->segment->file, h->offset, s->map.last);
    }
    if (h->truncate_from != 0 || reset) drop_confs(r, h->truncate_from);
    if (h->truncate_from != 0) map_truncate(&s->map, h->truncate_from);
    if (reset) map_reset(&s->map, last, get_u64(record + BATCH_HEADER + 8));
    if (h->flags & BATCH_VOTE) {
        s->term = h->term;
        s->vote = h->vote;
    }
    if (s->visitor != NULL) s->visitor->batch(s->visitor->ctx, f->segment->file, h);
    r->sealed = seal;
    f->batches++;
    f->last_at = h->offset;
    f->segment->end = h->offset + h->length;
    return map_batch(r, f, h, record, e);
}

/* Looks behind offset for anything of a batch later than `number`. Salt and offset in it leave no doubt whose it is,
 * even if the rest of that batch is torn. */
static int find_later(struct window *w, const struct found *f, uint64_t offset, uint64_t number, bool *found,
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
static int measure_torn(struct recovery *r, struct window *w, const struct found *f, struct err *e)
{
    uint64_t end = f->segment->end;
    const uint8_t *p;
    struct batch_header h;
    size_t rest = (size_t)(IO_BLOCK - end % IO_BLOCK) % IO_BLOCK;
    int status = window_view(w, end, MAX(rest, BATCH_HEADER), &p, e);
    if (status != OK) return status == ERR_NOENT ? OK : status;
    for (size_t i = 0; i < rest; i++) {
        if (p[i] != 0) r->torn = i + 1;
    }
    if (batch_header_get(p, &h) && h.salt == f->header.salt && h.offset == end) {
        r->torn = MAX(r->torn, MIN(MAX(h.length, BATCH_HEADER), f->segment->size - end));
    }
    return OK;
}

/* Reads one segment's batches up to the first that is not whole, or that the next segment begins with. */
static int read_batches(struct recovery *r, struct found *f, const struct found *after, struct err *e)
{
    struct store *s = r->s;
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
    while (status == OK && why == NULL && (after == NULL || r->next < after->header.first_batch)) {
        status = read_record(&w, f, r->next, f->segment->end, &h, &p, &why, e);
        if (status == OK && why == NULL) status = apply(r, f, &h, p, e);
        if (status == OK && why == NULL) {
            r->next++;
            recovery_progress(s, h.length);
        }
    }
    if (status == OK && after != NULL && r->next < after->header.first_batch) {
        status = rot(s, f, after->header.last, why, "the log goes on in another segment", e);
    } else if (status == OK && after == NULL) {
        status = find_later(&w, f, f->segment->end + 8, r->next, &later, &h, e);
        if (status == OK && later) {
            raft_index last = h.truncate_from == 0 && h.first > 0 ? h.first - 1 : 0;
            status = rot(s, f, last, why, "a later batch stands behind it", e);
        }
        if (status == OK) status = measure_torn(r, &w, f, e);
    }
    window_free(&w);
    io_close(s->io, file);
    return status;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = ((const struct found *)a)->header.number, y = ((const struct found *)b)->header.number;
    return x < y ? -1 : x > y;
}

/* Checks that segment i begins where the log has come to. */
static int check_chain(struct recovery *r, size_t i, struct err *e)
{
    struct store *s = r->s;
    const struct segment_header *h = &r->found[i].header;
    if (i == 0) {
        map_init(&s->map, h->last, h->last_term);
        s->term = h->term;
        s->vote = h->vote;
        r->next = h->first_batch;
        return OK;
    }
    uint64_t expected = r->found[i - 1].header.number + 1;
    if (h->number > expected) {
        return err_set(e, ERR_CORRUPT, "%s: the log has a gap: segment %" PRIu64 " is missing between %08" PRIu64
                       ".seg and %08" PRIu64 ".seg; entries from %" PRIu64 " on", s->dir, expected,
                       r->found[i - 1].segment->file, r->found[i].segment->file, s->map.last + 1);
    }
    if (h->number < expected || h->first_batch != r->next || h->last != s->map.last || h->term != s->term ||
        h->vote != s->vote) {
        return err_set(e, ERR_CORRUPT, "%s/%08" PRIu64 ".seg: its header contradicts the log before it", s->dir,
                       r->found[i].segment->file);
    }
    return OK;
}

/* The disk fetches a segment while the one before is being checked. An error will come up when it is read. */
static void look_ahead(const struct recovery *r, size_t i)
{
    char path[FORMAT_PATH_MAX];
    struct io_file *file;
    struct err ignored;
    if (i >= r->n) return;
    const struct segment *segment = r->found[i].segment;
    format_segment_path(path, r->s->dir, segment->file);
    if (io_open(r->s->io, path, 0, &file, &ignored) != OK) return;
    io_ahead(r->s->io, file, 0, segment->size);
    io_close(r->s->io, file);
}

static int read_log(struct recovery *r, struct err *e)
{
    struct store *s = r->s;
    r->next = 1;
    map_init(&s->map, 0, 0);
    if (r->n > 0) qsort(r->found, r->n, sizeof *r->found, by_number);
    for (size_t i = 0; i < r->n; i++) {
        const struct found *after = i + 1 < r->n ? &r->found[i + 1] : NULL;
        if (check_chain(r, i, e) != OK) return e->code;
        if (i == 0) look_ahead(r, 0);
        look_ahead(r, i + 1);
        if (after != NULL && after->header.number != r->found[i].header.number + 1) after = NULL;
        if (read_batches(r, &r->found[i], after, e) != OK) return e->code;
    }
    return OK;
}

/* ---- the snapshot and the log ---- */

/* What of the log is behind the snapshot, and whether it continues it (see store_open). */
static int join(struct recovery *r, struct err *e)
{
    struct store *s = r->s;
    struct map *map = &s->map;
    struct store_snapshot snapshot = store_snapshot(s);
    const char *more = r->damaged[0] != 0 ? "; a newer one is damaged: " : "";
    if (snapshot.index + 1 < map->first) {
        return err_set(e, ERR_CORRUPT, "%s: the log begins with entry %" PRIu64 ", and no snapshot holds what came "
                       "before (the newest sound one ends with entry %" PRIu64 ")%s%s", s->dir, map->first,
                       snapshot.index, more, r->damaged);
    }
    raft_term term = snapshot.index <= map->last ? map_term(map, snapshot.index) : 0;
    if (snapshot.index == 0 || term == snapshot.term) return OK;
    if (snapshot.index + 1 == map->first && term == 0) {
        map->base_term = snapshot.term;
        return OK;
    }
    if (snapshot.index + 1 == map->first && snapshot.index <= map->last) {
        return err_set(e, ERR_CORRUPT, "%s: the snapshot ends with entry %" PRIu64 " of term %" PRIu64 ", the log goes "
                       "on after one of term %" PRIu64, s->dir, snapshot.index, snapshot.term, term);
    }
    r->is_void = true;
    return OK;
}

/* Where a truncation has reached below the segments that are left, the term before the first entry is not known: it is
 * given up. */
static void know_first(struct map *map)
{
    if (map->first > 1 && map->first <= map->last && map->base_term == 0) map_skip(map, map->first);
}

/* ---- making sure of it ---- */

/* Writes size bytes at `at` of a file once more, as they are, so that what was read (from a page cache, perhaps) is
 * durable; over them the header of f, when it is given. *tail gets the last block. */
static int write_again(struct store *s, struct segment *segment, uint64_t at, size_t size,
                       const struct segment_header *header, uint8_t *tail, struct err *e)
{
    char path[FORMAT_PATH_MAX];
    struct io_file *file;
    size_t got = 0;
    format_segment_path(path, s->dir, segment->file);
    uint8_t *bytes = mem_aligned(IO_BLOCK, size);
    if (bytes == NULL) return err_set(e, ERR_NOMEM, "out of memory while reading %s", path);
    int status = io_open(s->io, path, IO_OPEN_WRITE | IO_OPEN_DIRECT, &file, e);
    if (status == OK) {
        status = io_read(s->io, file, at, bytes, size, &got, e);
        if (status == OK && got < size) status = err_set(e, ERR_IO, "%s: short read at offset %" PRIu64, path, at);
        if (status == OK && header != NULL) segment_header_put(bytes, header);
        if (status == OK) status = io_write(s->io, file, at, bytes, size, e);
        io_close(s->io, file);
    }
    if (status == OK && tail != NULL) memcpy(tail, bytes + size - IO_BLOCK, IO_BLOCK);
    mem_free(bytes);
    return status;
}

/* Decides where the log goes on: in the newest segment when that ends in a seal, else in a new one. The newest one may
 * hold no whole batch, when its first write was torn. */
static int secure_tail(struct recovery *r, const struct found *f, struct err *e)
{
    struct store *s = r->s;
    uint8_t tail[IO_BLOCK];
    char path[FORMAT_PATH_MAX];
    uint64_t end = f->segment->end;
    uint64_t from = f->batches <= 1 ? 0 : f->last_at / IO_BLOCK * IO_BLOCK;
    uint64_t to = (end + IO_BLOCK - 1) / IO_BLOCK * IO_BLOCK;
    if (write_again(s, f->segment, from, (size_t)(to - from), NULL, tail, e) != OK) return e->code;
    s->writer.open = f->batches > 0 && r->sealed && r->torn == 0;
    s->writer.sealed = r->sealed;
    if (s->writer.open) {
        format_segment_path(path, s->dir, f->segment->file);
        int status = io_open(s->io, path, IO_OPEN_WRITE | IO_OPEN_DIRECT, &f->segment->handle, e);
        if (status != OK) return status;
    }
    if (writer_init(s, tail)) return OK;
    return err_set(e, ERR_NOMEM, "out of memory while opening %s", s->dir);
}

/* The live segments belong to the store from now on. */
static void hand_over(struct recovery *r)
{
    for (size_t i = 0; i < r->n; i++) {
        struct segment *segment = r->found[i].segment;
        segment->number = r->found[i].header.number;
        segment->salt = r->found[i].header.salt;
        segments_push(&r->s->live, segment);
    }
    r->n = 0;
}

/* The log must get at least to where it was noted to be. */
static int check_reached(struct recovery *r, struct err *e)
{
    struct store *s = r->s;
    if (s->epoch.batch < r->next) return OK;
    const struct found *f = r->n > 0 ? &r->found[r->n - 1] : NULL;
    if (f != NULL) return rot(s, f, 0, "no whole batch is there", "the file \"epoch\" tells of later batches", e);
    return err_set(e, ERR_CORRUPT, "%s: the segments of the log are missing: entries from 1 on are lost", s->dir);
}

static int secure(struct recovery *r, struct err *e)
{
    struct store *s = r->s;
    if (check_reached(r, e) != OK) return e->code;
    for (size_t i = 0; i < r->n; i++) {
        struct found *f = &r->found[i];
        if (f->damaged && write_again(s, f->segment, 0, IO_BLOCK, &f->header, NULL, e) != OK) return e->code;
    }
    const struct found *newest = r->n > 0 ? &r->found[r->n - 1] : NULL;
    hand_over(r);
    s->writer.next_batch = r->next;
    s->writer.sealed = true;
    if (newest != NULL && secure_tail(r, newest, e) != OK) return e->code;
    if (newest == NULL && !writer_init(s, NULL)) {
        return err_set(e, ERR_NOMEM, "out of memory while opening %s", s->dir);
    }
    epoch_begin_life(&s->epoch, next_life(s));
    s->epoch.batch = writer_newest_batch(s);
    return epoch_update(s->io, s->dir, &s->epoch, e);
}

/* ---- a directory ---- */

static int must_exist(struct store *s, int status, const char *name, struct err *e)
{
    if (status != ERR_NOENT) return status;
    return err_set(e, ERR_CORRUPT, "%s/%s is missing", s->dir, name);
}

/* Opens a directory that has an identity. */
static int open_existing(struct recovery *r, const struct io_names *names, struct err *e)
{
    struct store *s = r->s;
    memcpy(s->keeper.header.cluster, s->identity.cluster, sizeof s->identity.cluster);
    s->keeper.header.node = s->identity.node;
    if (must_exist(s, peers_read(&s->peers, e), "peers", e) != OK) return e->code;
    if (must_exist(s, epoch_read(s->io, s->dir, &s->epoch, e), "epoch", e) != OK) return e->code;
    if (snapshots_recover(s, names, r->damaged, e) != OK) return e->code;
    if (add_files(r, names, e) != OK) return e->code;
    if (read_log(r, e) != OK) return e->code;
    if (join(r, e) != OK) return e->code;
    know_first(&s->map);
    return secure(r, e);
}

static int create_new(struct recovery *r, const struct io_names *names, const struct store_identity *identity,
                      struct err *e)
{
    struct store *s = r->s;
    r->created = true;
    s->identity.node = 0; /* files are not looked at as this node's */
    if (add_files(r, names, e) != OK) return e->code;
    if (create(r, names, identity, e) != OK) return e->code;
    map_init(&s->map, 0, 0);
    s->writer.next_batch = 1;
    s->writer.sealed = true;
    return writer_init(s, NULL) ? OK : err_set(e, ERR_NOMEM, "out of memory while creating %s", s->dir);
}

/* ---- a directory that is lost ---- */

/* Gives back what reading the old directory has left in s and r. */
static void forget(struct recovery *r)
{
    struct store *s = r->s;
    drop_confs(r, 0);
    for (size_t i = 0; i < r->n; i++) mem_free(r->found[i].segment);
    r->n = 0;
    r->torn = 0;
    r->is_void = false;
    segments_clear(&s->live, s->io);
    segments_clear(&s->spares, s->io);
    snapshots_free(s);
    writer_free(s);
    map_free(&s->map);
    s->writer.open = false;
    s->term = s->vote = 0;
}

/* Carries on from the mark: sets aside what is to be set aside, and makes the directory anew. */
static int replace(struct recovery *r, struct err *e)
{
    struct store *s = r->s;
    struct io_names names = {0};
    struct err ignored;
    if (s->rejoin.step == REJOIN_MOVING) {
        bool peers_lost = s->peers.n == 0 && peers_read(&s->peers, &ignored) != OK;
        if (rejoin_move(s->io, s->dir, &s->rejoin, peers_lost, e) != OK) return e->code;
        s->rejoin.step = REJOIN_MOVED;
        if (rejoin_write(s->io, s->dir, &s->rejoin, e) != OK) return e->code;
        r->set_aside = true;
    } else {
        peers_read(&s->peers, &ignored);
    }
    int status = io_list(s->io, s->dir, &names, e);
    if (status == OK) status = create_new(r, &names, &s->rejoin.identity, e);
    io_names_free(&names);
    return status;
}

/* The first list names no other member. */
static bool is_alone(const struct store_identity *identity)
{
    return identity->list[0] != 0 && strchr(identity->list, ' ') == NULL;
}

/* The directory is to be made anew: the mark first. lost: it held something, and *e says what is wrong with it. */
static int begin_replacing(struct recovery *r, const struct store_identity *wanted, bool lost, struct err *e)
{
    struct store *s = r->s;
    struct store_identity identity = *wanted, old;
    struct err ignored;
    if (lost && identity_read(s->io, s->dir, &old, &ignored) == OK) identity = old;
    if (identity.node == 0) return e->code; /* nobody knows whose it is */
    if (lost && is_alone(&identity)) {
        return err_wrap(e, "%s cannot be refilled by others, since its node is the only first member: repair it by hand, "
                        "or remove the node from its cluster and let a new one join", s->dir);
    }
    identity.incarnation = identity_draw_incarnation(s->io);
    if (lost) forget(r);
    if (lost) memcpy(r->damaged, e->text, sizeof r->damaged);
    s->rejoin = (struct rejoin){
        .step = lost ? REJOIN_MOVING : REJOIN_MOVED,
        .number = lost ? MAX(io_wall(s->io), s->epoch.life) : 0,
        .identity = identity,
    };
    if (rejoin_write(s->io, s->dir, &s->rejoin, e) != OK) return e->code;
    return replace(r, e);
}

/* ---- all of it ---- */

static int report_log(struct recovery *r, struct store_recovered *out)
{
    struct store *s = r->s;
    struct store_snapshot snapshot = store_snapshot(s);
    out->before = snapshot.term;
    out->first = snapshot.index + 1;
    out->last = snapshot.index;
    if (r->is_void) return OK;
    out->before = s->map.base_term;
    out->first = s->map.first;
    out->last = s->map.last;
    out->runs = mem_alloc(s->map.n_runs * sizeof *out->runs);
    if (out->runs == NULL) return ERR_NOMEM;
    out->n_runs = s->map.n_runs;
    if (out->n_runs > 0) memcpy(out->runs, s->map.runs, out->n_runs * sizeof *out->runs);
    size_t covered = 0; /* of the configurations: by the snapshot */
    while (covered < r->n_confs && entry_view(r->confs[covered]).index <= snapshot.index) covered++;
    for (size_t i = 0; i < covered; i++) block_unref(r->confs[i]);
    r->n_confs -= covered;
    if (covered > 0) memmove(r->confs, r->confs + covered, r->n_confs * sizeof *r->confs);
    out->confs = r->confs;
    out->n_confs = r->n_confs;
    r->confs = NULL;
    r->n_confs = 0;
    return OK;
}

static int report(struct recovery *r, struct store_recovered *out, struct err *e)
{
    struct store *s = r->s;
    *out = (struct store_recovered){
        .created = r->created,
        .identity = s->identity,
        .epoch = s->epoch.life,
        .rejoining = s->rejoin.step != 0,
        .term = s->term,
        .vote = s->vote,
        .snapshot = store_snapshot(s),
        .torn_bytes = r->torn,
    };
    memcpy(out->lives_before, s->epoch.before, sizeof out->lives_before);
    memcpy(out->damaged, r->damaged, sizeof out->damaged);
    if (r->set_aside) rejoin_set_aside_name(out->set_aside, s->rejoin.number);
    if (report_log(r, out) == OK) return OK;
    return err_set(e, ERR_NOMEM, "out of memory while opening %s", s->dir);
}

/* The mark is there, but not the new incarnation yet (store_rejoin). */
static int finish_renaming(struct store *s, struct err *e)
{
    if (s->rejoin.step != REJOIN_MOVED || s->identity.incarnation == s->rejoin.identity.incarnation) return OK;
    s->identity.incarnation = s->rejoin.identity.incarnation;
    return identity_write(s->io, s->dir, &s->identity, e);
}

/* Does the mark tell of a replacing that has not come to its end? */
static bool is_unfinished(const struct recovery *r)
{
    return r->s->rejoin.step == REJOIN_MOVING || (r->s->rejoin.step == REJOIN_MOVED && !r->identity);
}

static int open_any(struct recovery *r, const struct store_config *config, const struct io_names *names, struct err *e)
{
    struct store *s = r->s;
    struct store_identity wanted = config->identity;
    if (tidy(r, names, e) != OK || rejoin_read(s->io, s->dir, &s->rejoin, e) != OK) return e->code;
    if (r->identity && s->rejoin.step != REJOIN_MOVING) {
        if (identity_read(s->io, s->dir, &s->identity, e) != OK) return e->code;
        if (identity_compare(s->dir, &s->identity, &wanted, e) != OK) return e->code;
        if (finish_renaming(s, e) != OK) return e->code;
    }
    if (is_unfinished(r)) return replace(r, e);
    if (r->identity) return open_existing(r, names, e);
    if (r->stranger[0] != 0) {
        return err_set(e, ERR_FOREIGN, "%s holds \"%s\" and no identity: it is not a directory of a node; give an "
                       "empty one", s->dir, r->stranger);
    }
    if (wanted.node == 0) return err_set(e, ERR_INVALID, "%s is new: a node's id is needed to create it", s->dir);
    wanted.incarnation = identity_draw_incarnation(s->io);
    return config->rejoin ? OK : create_new(r, names, &wanted, e); /* or recovery_run does, with a mark */
}

/* Adds up what will be read. */
static int measure(struct store *s, const struct io_names *names, struct err *e)
{
    uint64_t a, b, size = 0;
    for (size_t i = 0; i < names->count; i++) {
        char path[FORMAT_PATH_MAX];
        struct io_file *file;
        if (!format_segment_name(names->names[i], &a) && !format_snapshot_name(names->names[i], &a, &b)) continue;
        format_path(path, s->dir, names->names[i]);
        if (io_open(s->io, path, 0, &file, e) != OK) return e->code;
        int status = io_size(s->io, file, &size, e);
        io_close(s->io, file);
        if (status != OK) return status;
        s->total_bytes += size;
    }
    return OK;
}

void recovery_progress(struct store *s, uint64_t bytes)
{
    uint64_t before = s->read_bytes / PROGRESS_BYTES;
    s->read_bytes += bytes;
    if (s->opening == NULL || s->opening->progress == NULL || s->read_bytes / PROGRESS_BYTES == before) return;
    s->opening->progress(s->opening->progress_ctx, s->read_bytes, MAX(s->read_bytes, s->total_bytes));
}

int recovery_run(struct store *s, const struct store_config *config, struct store_recovered *out, struct err *e)
{
    struct recovery r = {.s = s};
    struct io_names names = {0};
    s->opening = config;
    int status = io_list(s->io, s->dir, &names, e);
    if (status == OK && config->progress != NULL) status = measure(s, &names, e);
    if (status == OK) status = open_any(&r, config, &names, e);
    if (status == OK && !r.identity && !r.created) status = begin_replacing(&r, &config->identity, false, e);
    if (status == ERR_CORRUPT && config->rejoin) status = begin_replacing(&r, &config->identity, true, e);
    s->durable_last = s->map.last;
    s->spares_kept = MAX(s->spares_wanted, s->spares.count); /* it had use for them */
    if (status == OK) status = report(&r, out, e);
    if (status == OK && r.is_void && !writer_reset(s, out->snapshot.index, out->snapshot.term)) {
        status = err_set(e, ERR_NOMEM, "out of memory while opening %s", s->dir);
    }
    drop_confs(&r, 0);
    mem_free(r.confs);
    for (size_t i = 0; i < r.n; i++) mem_free(r.found[i].segment);
    mem_free(r.found);
    io_names_free(&names);
    s->opening = NULL;
    return status;
}

static int look(struct recovery *r, const struct io_names *names, struct err *e)
{
    struct store *s = r->s;
    if (rejoin_read(s->io, s->dir, &s->rejoin, e) != OK || identity_read(s->io, s->dir, &s->identity, e) != OK) {
        return e->code == ERR_NOENT ? err_set(e, ERR_FOREIGN, "%s is not a directory of a node", s->dir) : e->code;
    }
    if (must_exist(s, peers_read(&s->peers, e), "peers", e) != OK) return e->code;
    if (must_exist(s, epoch_read(s->io, s->dir, &s->epoch, e), "epoch", e) != OK) return e->code;
    if (snapshots_recover(s, names, r->damaged, e) != OK) return e->code;
    if (add_files(r, names, e) != OK || read_log(r, e) != OK || join(r, e) != OK) return e->code;
    know_first(&s->map);
    return check_reached(r, e);
}

int recovery_look(struct store *s, const struct inspect_visitor *visitor, struct store_recovered *out, struct err *e)
{
    struct recovery r = {.s = s};
    struct io_names names = {0};
    struct err ignored;
    s->visitor = visitor;
    int status = io_list(s->io, s->dir, &names, e);
    if (status == OK) status = look(&r, &names, e);
    s->durable_last = s->writer.last = s->map.last;
    int reported = report(&r, out, status == OK ? e : &ignored);
    if (status == OK) status = reported;
    hand_over(&r);
    drop_confs(&r, 0);
    mem_free(r.confs);
    mem_free(r.found);
    io_names_free(&names);
    s->visitor = NULL;
    return status;
}
