#include "store/writer.h"

#include "base/mem.h"
#include "store/internal.h"

#define WRITER_BRIEF (4 * IO_BLOCK) /* bytes; more is of a busy node, whose engine has other things to do meanwhile */
#define STAGING_BYTES (SEGMENT_FIRST + WRITER_BYTES + IO_BLOCK) /* more is given back after use */
#define STAGING_FIRST (16u * IO_BLOCK)

struct append {
    struct append *next;
    uint64_t seq;
    bool vote_changed;
    raft_term term;
    raft_id vote;
    raft_index reset;
    raft_term reset_term;
    raft_index truncate_from, first; /* first: of what is left in blocks */
    size_t n, taken;                 /* blocks, and how many of them are in batches already */
    struct block *blocks[];          /* one reference each, until taken */
};

static uint64_t block_down(uint64_t offset) { return offset / IO_BLOCK * IO_BLOCK; }
static uint64_t block_up(uint64_t offset) { return block_down(offset + IO_BLOCK - 1); }

/* ---- the queue ---- */

static void append_free(struct append *a)
{
    for (size_t i = a->taken; i < a->n; i++) block_unref(a->blocks[i]);
    mem_free(a);
}

static void queue_pop(struct writer *w)
{
    struct append *a = w->head;
    w->head = a->next;
    if (w->head == NULL) w->end = &w->head;
    append_free(a);
}

static struct append *append_new(const struct store_batch *b)
{
    if (b->n > (SIZE_MAX - sizeof(struct append)) / sizeof(struct block *)) return NULL;
    struct append *a = mem_alloc(sizeof *a + b->n * sizeof(struct block *));
    if (a == NULL) return NULL;
    *a = (struct append){
        .seq = b->seq,
        .vote_changed = b->vote_changed,
        .term = b->term,
        .vote = b->vote,
        .reset = b->reset,
        .reset_term = b->reset_term,
        .truncate_from = b->truncate_from,
        .first = b->first,
        .n = b->n,
    };
    for (size_t i = 0; i < b->n; i++) a->blocks[i] = block_ref(b->blocks[i]);
    return a;
}

/* What an append voids can be read no more, from now on. */
static raft_index readable(const struct append *a, raft_index last)
{
    if (a->taken > 0) return last;
    if (a->reset != 0) return 0;
    return a->truncate_from != 0 ? MIN(last, a->truncate_from - 1) : last;
}

static bool enqueue(struct store *s, const struct store_batch *b)
{
    struct writer *w = &s->writer;
    struct append *a = append_new(b);
    if (a == NULL) return false;
    *w->end = a;
    w->end = &a->next;
    s->durable_last = readable(a, s->durable_last);
    if (b->reset != 0 || b->truncate_from != 0) reads_cancel(s, b->truncate_from);
    return true;
}

int store_append(struct store *s, const struct store_batch *b)
{
    struct writer *w = &s->writer;
    raft_index last = b->truncate_from != 0 ? b->truncate_from - 1 : b->reset != 0 ? b->reset : w->last;
    ASSERT(!s->closing && b->seq > w->last_seq);
    ASSERT((b->reset != 0 || last <= w->last) && (b->n == 0 || b->first == last + 1));
    ASSERT(b->reset == 0 || (b->truncate_from == 0 && b->reset <= store_snapshot(s).index));
    if (!s->failed && !enqueue(s, b)) return ERR_NOMEM;
    w->last_seq = b->seq;
    w->last = last + b->n;
    writer_kick(s);
    return OK;
}

bool writer_reset(struct store *s, raft_index index, raft_term term)
{
    ASSERT(s->writer.head == NULL && s->writer.since == 0);
    s->writer.last = index;
    return enqueue(s, &(struct store_batch){.reset = index, .reset_term = term});
}

/* ---- forming a batch ---- */

static uint64_t entry_room(const struct block *block)
{
    return FORMAT_ALIGN(block->size);
}

/* Length of the smallest batch that takes something off the queue. */
static uint64_t least_length(const struct append *a)
{
    uint64_t begin = batch_entries(a != NULL && a->reset != 0 ? BATCH_RESET : 0);
    return begin + (a != NULL && a->taken < a->n ? entry_room(a->blocks[a->taken]) : 0);
}

/* Bytes left in the current segment for a batch with or without entries. */
static uint64_t room_left(const struct store *s, bool entries)
{
    const struct segment *current = store_current(s);
    uint64_t reserve = entries ? WRITER_RESERVE : 0;
    if (current == NULL || current->size < current->end + reserve) return 0;
    return current->size - current->end - reserve;
}

static bool staging_reserve(struct writer *w, size_t kept, size_t size)
{
    if (size <= w->capacity && (w->capacity <= STAGING_BYTES || size > STAGING_BYTES)) return true;
    size_t capacity = MAX(STAGING_FIRST, MIN(w->capacity, STAGING_BYTES));
    while (capacity < size && capacity < STAGING_BYTES) capacity = MIN(capacity * 2, STAGING_BYTES);
    capacity = MAX(capacity, block_up(size));
    uint8_t *staging = mem_aligned(IO_BLOCK, capacity);
    if (staging == NULL) return size <= w->capacity;
    memcpy(staging, w->staging, kept);
    mem_free(w->staging);
    w->staging = staging;
    w->capacity = capacity;
    return true;
}

/* A new run of terms when the term changes. false: no memory. */
static bool note_term(struct writer *w, raft_index index, raft_term term)
{
    if (w->n_runs > 0 && w->runs[w->n_runs - 1].term == term) return true;
    void *runs = w->runs;
    bool done = mem_grow(&runs, &w->runs_capacity, w->n_runs + 1, sizeof *w->runs);
    w->runs = runs;
    if (done) w->runs[w->n_runs++] = (struct raft_run){.start = index, .term = term};
    return done;
}

static bool fits(const struct writing *b, const struct block *block, uint64_t limit)
{
    return b->length + entry_room(block) <= limit;
}

/* Plans the next batch: what it takes from the front of the queue, within limit bytes but at least one entry when
 * the queue begins with one. It ends before a later truncation. Changes nothing. false: no memory. */
static bool plan(struct store *s, uint64_t limit)
{
    struct writer *w = &s->writer;
    struct writing b = {.length = BATCH_HEADER};
    w->n_runs = 0;
    for (const struct append *a = w->head; a != NULL; a = a->next) {
        bool head = a == w->head, begins = a->taken == 0;
        size_t i = a->taken;
        if (!head && (a->truncate_from != 0 || a->reset != 0 || (i < a->n && !fits(&b, a->blocks[i], limit)))) break;
        if (begins && a->vote_changed) {
            b.flags |= BATCH_VOTE;
            b.term = a->term;
            b.vote = a->vote;
        }
        if (begins && a->truncate_from != 0) b.truncate_from = a->truncate_from;
        if (begins && a->reset != 0) {
            b.flags |= BATCH_RESET;
            b.reset = a->reset;
            b.reset_term = a->reset_term;
            b.length += BATCH_RESET_BYTES;
        }
        if (b.n == 0 && i < a->n) b.first = a->first + i;
        for (; i < a->n && ((head && b.n == 0) || fits(&b, a->blocks[i], limit)); i++, b.n++) {
            if (!note_term(w, a->first + i, entry_view(a->blocks[i]).term)) return false;
            b.length += entry_room(a->blocks[i]);
        }
        if (i < a->n) break;
        b.seq = a->seq;
    }
    w->writing = b;
    return map_reserve(&s->map, w->n_runs);
}

/* Moves the planned entries from the queue into the record at p, and takes what is complete off the queue. */
static void fill(struct writer *w, uint8_t *p, const struct batch_header *header)
{
    uint8_t *at = p + batch_entries(header->flags);
    size_t left = w->writing.n;
    batch_header_put(p, header);
    if ((header->flags & BATCH_RESET) != 0) {
        put_u64(p + BATCH_HEADER, w->writing.reset);
        put_u64(p + BATCH_HEADER + 8, w->writing.reset_term);
    }
    uint64_t hash = batch_hash_begin(p, header->flags, header->salt);
    while (w->head != NULL && (left > 0 || w->head->seq <= w->writing.seq)) {
        struct append *a = w->head;
        for (; a->taken < a->n && left > 0; a->taken++, left--) {
            struct block *block = a->blocks[a->taken];
            hash = batch_hash_entry(hash, block->bytes);
            memcpy(at, block->bytes, block->size);
            memset(at + block->size, 0, entry_room(block) - block->size);
            at += entry_room(block);
            block_unref(block);
        }
        if (a->taken < a->n) break;
        queue_pop(w);
    }
    ASSERT(left == 0 && at == p + header->length);
    put_u64(p + BATCH_HASHED, hash);
}

/* ---- segments ---- */

/* A spare becomes the current segment; its header goes in front of the staging area. */
static void activate(struct store *s, struct segment *spare)
{
    struct writer *w = &s->writer;
    struct segment *before = store_current(s);
    if (before != NULL) {
        w->finished = before->handle;
        before->handle = NULL;
    }
    spare->number = s->live.tail != NULL ? s->live.tail->number + 1 : 1;
    spare->salt = io_random(s->io);
    spare->end = SEGMENT_FIRST;
    struct segment_header header = {
        .state = SEGMENT_LIVE,
        .node = s->identity.node,
        .size = spare->size,
        .number = spare->number,
        .salt = spare->salt,
        .first_batch = w->next_batch,
        .term = s->term,
        .vote = s->vote,
        .last = s->map.last,
        .last_term = map_last_term(&s->map),
    };
    memcpy(header.cluster, s->identity.cluster, sizeof header.cluster);
    segment_header_put(w->staging, &header);
    segments_push(&s->live, spare);
    s->keeper.look_due = true;
    w->open = true;
}

/* Plans the next batch and finds room for it. false: no spare is ready (the keeper knows), or no memory (it is tried
 * again by time). */
static bool make_room(struct store *s, bool new_segment)
{
    struct writer *w = &s->writer;
    struct segment *spare = NULL;
    if (new_segment) {
        uint64_t size = segment_size_for(0, least_length(w->head));
        spare = segments_take(&s->spares, size);
        if (spare == NULL) {
            s->keeper.needed = MAX(s->keeper.needed, size);
            keeper_kick(s);
            return false;
        }
    }
    uint64_t end = spare != NULL ? SEGMENT_FIRST : store_current(s)->end;
    uint64_t room = (spare != NULL ? spare->size : store_current(s)->size) - end;
    uint64_t limit = MIN(WRITER_BYTES, room > WRITER_RESERVE ? room - WRITER_RESERVE : 0);
    size_t kept = spare != NULL ? SEGMENT_FIRST : end % IO_BLOCK;
    if (!plan(s, limit) || !staging_reserve(w, spare != NULL ? 0 : kept, kept + w->writing.length)) {
        if (spare != NULL) segments_push(&s->spares, spare);
        w->retry_at = io_now(s->io) + STORE_NO_MEMORY_RETRY_US;
        return false;
    }
    if (spare != NULL) activate(s, spare);
    return true;
}

/* ---- the write ---- */

static void writer_work(struct io_job *job)
{
    struct writer *w = CONTAINER_OF(job, struct writer, job);
    w->status = io_write(w->io, w->file, w->at, w->staging, w->size, &w->error);
    if (w->finished != NULL) io_close(w->io, w->finished);
}

uint64_t writer_last_us(const struct store *s)
{
    const struct writer *w = &s->writer;
    return w->writes > 0 ? w->took_us[(w->writes - 1) % WRITER_TIMES] : 0;
}

uint64_t writer_p99_us(const struct store *s)
{
    const struct writer *w = &s->writer;
    uint64_t most = 0, second = 0;
    for (size_t i = 0; i < MIN(w->writes, WRITER_TIMES); i++) {
        second = MAX(second, MIN(most, w->took_us[i]));
        most = MAX(most, w->took_us[i]);
    }
    return w->writes < WRITER_TIMES ? most : second;
}

static void writer_done(struct io_job *job);

/* Starts the write of what is planned. Precondition: it fits into the current segment. */
static void start(struct store *s)
{
    struct writer *w = &s->writer;
    struct segment *current = store_current(s);
    struct writing *b = &w->writing;
    b->offset = current->end;
    w->at = current->end == SEGMENT_FIRST ? 0 : block_down(current->end); /* a new one: with its header */
    size_t kept = (size_t)(current->end - w->at);
    w->size = (size_t)block_up(kept + b->length);
    ASSERT(current->handle != NULL && w->at + w->size <= current->size && w->size <= w->capacity);
    struct batch_header header = {
        .flags = b->flags,
        .salt = current->salt,
        .number = w->next_batch,
        .offset = b->offset,
        .length = (uint32_t)b->length,
        .count = (uint32_t)b->n,
        .first = b->first,
        .truncate_from = b->truncate_from,
        .term = b->term,
        .vote = b->vote,
    };
    fill(w, w->staging + kept, &header);
    memset(w->staging + kept + b->length, 0, w->size - kept - b->length);
    w->file = current->handle;
    w->job.work = writer_work;
    w->job.done = writer_done;
    w->job.brief = w->size <= WRITER_BRIEF;
    w->since = io_now(s->io);
    w->seal_at = w->retry_at = 0;
    store_submit(s, IO_LANE_DISK, &w->job);
}

static bool seal_fits(const struct store *s)
{
    return !s->writer.sealed && room_left(s, false) >= BATCH_HEADER;
}

void writer_kick(struct store *s)
{
    struct writer *w = &s->writer;
    uint64_t now = io_now(s->io);
    if (w->since != 0 || s->failed || s->ended || w->retry_at > now) return;
    w->retry_at = 0;
    if (w->head != NULL) {
        bool entries = w->head->taken < w->head->n;
        if (make_room(s, room_left(s, entries) < least_length(w->head))) start(s);
    } else if (s->closing || (w->seal_at != 0 && w->seal_at <= now)) {
        w->seal_at = 0;
        if (!seal_fits(s)) return;
        w->n_runs = 0;
        w->writing = (struct writing){.length = BATCH_HEADER, .flags = BATCH_SEAL};
        if (staging_reserve(w, store_current(s)->end % IO_BLOCK, 2 * IO_BLOCK)) start(s);
        else w->retry_at = now + STORE_NO_MEMORY_RETRY_US;
    }
}

/* ---- when it is durable ---- */

static void latch(struct store *s)
{
    struct writer *w = &s->writer;
    s->failed = true;
    writer_drop_queue(s);
    if (!s->closing) s->events.failed(s->ctx, &w->error);
}

/* What the batch that has just become durable changes. */
static void adopt(struct store *s)
{
    struct writer *w = &s->writer;
    struct segment *current = store_current(s);
    const struct writing *b = &w->writing;
    if (b->flags & BATCH_VOTE) {
        s->term = b->term;
        s->vote = b->vote;
    }
    if (b->flags & BATCH_RESET) map_reset(&s->map, b->reset, b->reset_term);
    if (b->truncate_from != 0) map_truncate(&s->map, b->truncate_from);
    if (b->n > 0) map_add(&s->map, current, b->offset, b->first, b->n, w->runs, w->n_runs);
    s->durable_last = s->map.last;
    for (const struct append *a = w->head; a != NULL; a = a->next) s->durable_last = readable(a, s->durable_last);
    current->end = b->offset + b->length;
    uint64_t tail = block_down(current->end);
    memmove(w->staging, w->staging + (tail - w->at), (size_t)(current->end - tail));
    w->next_batch++;
    w->sealed = (b->flags & BATCH_SEAL) != 0;
}

static void writer_done(struct io_job *job)
{
    struct writer *w = CONTAINER_OF(job, struct writer, job);
    struct store *s = CONTAINER_OF(w, struct store, writer);
    uint64_t now = io_now(s->io), seq = w->writing.seq, took_us = now - w->since;
    ASSERT(w->since != 0);
    w->since = 0;
    w->finished = NULL;
    if (w->status != OK) {
        latch(s);
    } else {
        w->took_us[w->writes++ % WRITER_TIMES] = took_us;
        adopt(s);
        if (!w->sealed && w->head == NULL) w->seal_at = now + s->seal_after_us;
        writer_kick(s);
        keeper_kick(s);
        if (seq != 0 && !s->closing) s->events.persisted(s->ctx, seq);
    }
    store_settle(s);
}

/* ---- beginning, end, time ---- */

bool writer_init(struct store *s, const uint8_t *block)
{
    struct writer *w = &s->writer;
    w->io = s->io;
    w->end = &w->head;
    w->last = s->map.last;
    w->staging = mem_aligned(IO_BLOCK, STAGING_FIRST);
    if (w->staging == NULL) return false;
    w->capacity = STAGING_FIRST;
    if (block != NULL) memcpy(w->staging, block, IO_BLOCK);
    return true;
}

void writer_drop_queue(struct store *s)
{
    while (s->writer.head != NULL) queue_pop(&s->writer);
}

void writer_free(struct store *s)
{
    struct writer *w = &s->writer;
    writer_drop_queue(s);
    mem_free(w->staging);
    mem_free(w->runs);
    w->staging = NULL;
    w->runs = NULL;
}

uint64_t writer_newest_batch(const struct store *s)
{
    uint64_t last = s->writer.next_batch - 1;
    return s->writer.sealed && last > 0 ? last - 1 : last;
}

bool writer_is_finished(const struct store *s)
{
    const struct writer *w = &s->writer;
    return w->since == 0 && (s->failed || (w->head == NULL && !seal_fits(s)));
}

uint64_t writer_deadline(const struct store *s)
{
    const struct writer *w = &s->writer;
    if (w->since != 0 || s->failed || s->ended) return NEVER_US;
    if (w->retry_at != 0) return w->retry_at;
    return w->head == NULL && w->seal_at != 0 ? w->seal_at : NEVER_US;
}
