#include "sim/sim_reader.h"

#include "base/mem.h"
#include "sim/sim_queue.h"
#include "store/format.h"
#include "store/snapshot.h"

/* A live segment. */
struct part {
    struct segment_header header;
    const uint8_t *bytes;
    size_t size;
};

struct search {
    struct sim_world *world;
    int node;
    const char *dir;
    struct part *parts; /* by number */
    size_t n_parts, capacity;
    raft_index index;   /* of the newest snapshot that is whole; 0 = there is none */
    raft_term term;
};

static void part_add(struct search *s, const struct part *part)
{
    void *parts = s->parts;
    sim_grow(&parts, &s->capacity, s->n_parts + 1, sizeof *part);
    s->parts = parts;
    size_t at = s->n_parts++;
    for (; at > 0 && s->parts[at - 1].header.number > part->header.number; at--) s->parts[at] = s->parts[at - 1];
    s->parts[at] = *part;
}

/* A whole one ends with a footer that knows its size. */
static void look_at_snapshot(struct search *s, raft_index index, raft_term term)
{
    char path[FORMAT_PATH_MAX];
    size_t size;
    format_snapshot_path(path, s->dir, index, term);
    const uint8_t *bytes = sim_world_file(s->world, s->node, path, &size);
    if (bytes == NULL || size < SNAPSHOT_HEADER + SNAPSHOT_FOOTER || index < s->index) return;
    const uint8_t *footer = bytes + size - SNAPSHOT_FOOTER;
    if (memcmp(footer, "RaftSEnd", 8) != 0 || get_u64(footer + 8) != size) return;
    if (get_u64(bytes + 32) != index || get_u64(bytes + 40) != term) return;
    s->index = index;
    s->term = term;
}

static void on_name(void *ctx, const char *name)
{
    struct search *s = ctx;
    char path[FORMAT_PATH_MAX];
    uint64_t file;
    bool damaged;
    struct part part;
    struct err e;
    raft_index index;
    raft_term term;
    if (format_snapshot_name(name, &index, &term)) look_at_snapshot(s, index, term);
    if (!format_segment_name(name, &file)) return;
    format_segment_path(path, s->dir, file);
    part.bytes = sim_world_file(s->world, s->node, path, &part.size);
    if (part.bytes == NULL || part.size < IO_BLOCK) return;
    if (segment_header_get(part.bytes, &part.header, &damaged, &e) != OK) return;
    if (part.header.state == SEGMENT_LIVE) part_add(s, &part);
}

/* The log goes on after this entry; those up to it have to be in a snapshot. */
static void begin_after(struct sim_found *found, raft_index base)
{
    void *terms = found->terms;
    sim_grow(&terms, &found->capacity, base, sizeof *found->terms);
    found->terms = terms;
    if (base > 0) memset(found->terms, 0, base * sizeof *found->terms);
    found->base = base;
    found->last = MAX(found->last, base);
}

static void add_entries(struct sim_found *found, const struct batch_header *h, const uint8_t *record)
{
    uint64_t at = batch_entries(h->flags);
    if ((h->flags & BATCH_RESET) != 0) {
        found->last = 0;
        begin_after(found, get_u64(record + BATCH_HEADER));
    }
    void *terms = found->terms;
    if (h->truncate_from != 0) found->last = (size_t)h->truncate_from - 1;
    found->base = MIN(found->base, found->last); /* what was cut off may have begun in a segment that was released */
    sim_grow(&terms, &found->capacity, found->last + h->count, sizeof *found->terms);
    found->terms = terms;
    for (uint32_t i = 0; i < h->count; i++) {
        found->terms[found->last++] = get_u64(record + at + 24);
        at += FORMAT_ALIGN(entry_size(record + at));
    }
    if (h->flags & BATCH_VOTE) {
        found->term = h->term;
        found->vote = h->vote;
    }
}

/* Its batches from where reading has come to, but those that the next segment begins with. */
static void read_part(struct sim_found *found, const struct part *part, uint64_t end)
{
    struct batch_header h;
    for (; found->number < end && part->size - found->at >= BATCH_HEADER; found->at += h.length, found->number++) {
        const uint8_t *record = part->bytes + found->at;
        if (!batch_header_get(record, &h) || h.salt != found->salt || h.offset != found->at) return;
        if (h.number != found->number || h.length < BATCH_HEADER || h.length > part->size - found->at) return;
        if (batch_check(record, &h) != NULL) return;
        raft_index last = h.truncate_from != 0 ? h.truncate_from - 1 : found->last;
        if ((h.flags & BATCH_RESET) != 0) last = get_u64(record + BATCH_HEADER);
        else if (last > found->last) return;
        if (h.count > 0 && h.first != last + 1) return;
        add_entries(found, &h, record);
    }
}

static const struct part *part_of(const struct search *s, uint64_t number)
{
    for (size_t i = 0; i < s->n_parts; i++) {
        if (s->parts[i].header.number == number) return &s->parts[i];
    }
    return NULL;
}

static void enter_part(struct sim_found *found, const struct part *part)
{
    found->part = part->header.number;
    found->salt = part->header.salt;
    found->at = SEGMENT_FIRST;
}

/* The oldest of the segments that follow each other up to the newest. */
static const struct part *oldest_part(const struct search *s)
{
    size_t i = s->n_parts;
    if (i == 0) return NULL;
    for (i--; i > 0 && s->parts[i - 1].header.number + 1 == s->parts[i].header.number;) i--;
    return &s->parts[i];
}

static void read_log(const struct search *s, struct sim_found *found)
{
    const struct part *oldest = oldest_part(s), *part = part_of(s, found->part), *next;
    bool begins_there = oldest != NULL && oldest->header.number == found->oldest; /* else segments were released */
    if (part == NULL || part->header.salt != found->salt || !begins_there) {
        sim_found_forget(found);
        part = oldest;
        if (part == NULL) return;
        enter_part(found, part);
        found->oldest = part->header.number;
        begin_after(found, part->header.last);
        found->number = part->header.first_batch;
        found->term = part->header.term;
        found->vote = part->header.vote;
    }
    for (; part != NULL; part = next) {
        next = part_of(s, found->part + 1);
        read_part(found, part, next != NULL ? next->header.first_batch : UINT64_MAX);
        bool goes_on = next != NULL && next->header.first_batch == found->number && next->header.last == found->last;
        if (!goes_on) break;
        enter_part(found, next);
    }
}

/* A snapshot that the log does not lead to voids the log. One that does not reach the log is as good as none. */
static void join(const struct search *s, struct sim_found *found)
{
    bool leads = s->index <= found->last && (s->index <= found->base || found->terms[s->index - 1] == s->term);
    if (s->index < found->base) found->last = 0;
    else if (leads) return;
    found->part = 0; /* to be read again */
    if (found->last == 0 && s->index == 0) return;
    found->last = 0;
    begin_after(found, s->index);
}

void sim_reader_read(struct sim_world *w, int node, const char *dir, struct sim_found *found)
{
    struct search s = {.world = w, .node = node, .dir = dir};
    sim_world_list(w, node, dir, on_name, &s);
    read_log(&s, found);
    join(&s, found);
    mem_free(s.parts);
}

void sim_found_forget(struct sim_found *found)
{
    found->term = 0;
    found->vote = 0;
    found->last = found->base = 0;
    found->part = 0;
    found->number = 1;
}

void sim_found_free(struct sim_found *found)
{
    mem_free(found->terms);
}
