#include "sim/sim_reader.h"

#include "base/mem.h"
#include "sim/sim_queue.h"
#include "store/format.h"

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

static void on_name(void *ctx, const char *name)
{
    struct search *s = ctx;
    char path[FORMAT_PATH_MAX];
    uint64_t file;
    bool damaged;
    struct part part;
    struct err e;
    if (!format_segment_name(name, &file)) return;
    format_segment_path(path, s->dir, file);
    part.bytes = sim_world_file(s->world, s->node, path, &part.size);
    if (part.bytes == NULL || part.size < IO_BLOCK) return;
    if (segment_header_get(part.bytes, &part.header, &damaged, &e) != OK) return;
    if (part.header.state == SEGMENT_LIVE) part_add(s, &part);
}

static void add_entries(struct sim_found *found, const struct batch_header *h, const uint8_t *record)
{
    uint64_t at = BATCH_HEADER;
    void *terms = found->terms;
    if (h->truncate_from != 0) found->last = (size_t)h->truncate_from - 1;
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
        if (last > found->last || (h.count > 0 && h.first != last + 1)) return;
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

void sim_reader_read(struct sim_world *w, int node, const char *dir, struct sim_found *found)
{
    struct search s = {.world = w, .node = node, .dir = dir};
    sim_world_list(w, node, dir, on_name, &s);
    const struct part *part = part_of(&s, found->part), *next;
    if (part == NULL || part->header.salt != found->salt) { /* nothing read yet, or this log is not that one */
        sim_found_forget(found);
        part = part_of(&s, 1);
        if (part != NULL) enter_part(found, part);
    }
    for (; part != NULL; part = next) {
        next = part_of(&s, found->part + 1);
        read_part(found, part, next != NULL ? next->header.first_batch : UINT64_MAX);
        bool goes_on = next != NULL && next->header.first_batch == found->number && next->header.last == found->last;
        if (!goes_on) break;
        enter_part(found, next);
    }
    mem_free(s.parts);
}

void sim_found_forget(struct sim_found *found)
{
    found->term = 0;
    found->vote = 0;
    found->last = 0;
    found->part = 0;
    found->number = 1;
}

void sim_found_free(struct sim_found *found)
{
    mem_free(found->terms);
}
