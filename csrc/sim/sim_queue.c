#include "sim/sim_queue.h"

#include "base/mem.h"

#define TAIL_DOUBLINGS 6u

/* ---- memory ---- */

void *sim_alloc(size_t size)
{
    void *memory = mem_zero(1, size);
    if (memory == NULL) memory = mem_zero(1, size);
    ASSERT(memory != NULL);
    return memory;
}

char *sim_strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    return memcpy(sim_alloc(size), text, size);
}

void sim_grow(void **items, size_t *capacity, size_t need, size_t size)
{
    bool grown = mem_grow(items, capacity, need, size) || mem_grow(items, capacity, need, size);
    ASSERT(grown);
}

void sim_buf_append(struct buf *b, const void *data, size_t size)
{
    if (size == 0) return;
    bool appended = buf_append(b, data, size) || buf_append(b, data, size);
    ASSERT(appended);
}

/* ---- chance ---- */

void sim_fold(struct sim_queue *q, uint64_t value)
{
    uint64_t h = (q->hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    q->hash = h ^ (h >> 29);
}

uint64_t sim_draw_us(struct sim_queue *q, uint64_t min_us, uint64_t max_us)
{
    uint64_t drawn = min_us + (max_us > min_us ? prng_below(&q->prng, max_us - min_us + 1) : 0);
    return MAX(drawn, 1);
}

uint64_t sim_draw_tail_us(struct sim_queue *q, uint64_t max_us)
{
    uint32_t doublings = 0;
    while (doublings < TAIL_DOUBLINGS && prng_chance(&q->prng, 500)) doublings++;
    return sim_draw_us(q, 0, max_us << doublings);
}

/* ---- the queue: a binary heap ---- */

static bool event_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static struct sim_event *push(struct sim_queue *q, struct sim_event event)
{
    void *heap = q->heap;
    sim_grow(&heap, &q->capacity, q->count + 1, sizeof(struct sim_event));
    q->heap = heap;
    size_t at = q->count++;
    while (at > 0 && event_before(&event, &q->heap[(at - 1) / 2])) {
        q->heap[at] = q->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    q->heap[at] = event;
    return &q->heap[at];
}

struct sim_event *sim_queue_add(struct sim_queue *q, enum sim_event_kind kind, uint64_t at_us)
{
    ASSERT(at_us >= q->now_us);
    return push(q, (struct sim_event){.at_us = at_us, .order = q->order++, .kind = (uint8_t)kind});
}

void sim_queue_return(struct sim_queue *q, const struct sim_event *event)
{
    struct sim_event again = *event;
    again.at_us = MAX(again.at_us, q->now_us);
    push(q, again);
}

struct sim_event sim_queue_take(struct sim_queue *q)
{
    ASSERT(q->count > 0);
    struct sim_event first = q->heap[0], last = q->heap[--q->count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= q->count) break;
        if (child + 1 < q->count && event_before(&q->heap[child + 1], &q->heap[child])) child++;
        if (!event_before(&q->heap[child], &last)) break;
        q->heap[at] = q->heap[child];
        at = child;
    }
    if (q->count > 0) q->heap[at] = last;
    return first;
}

void sim_queue_free(struct sim_queue *q)
{
    mem_free(q->heap);
    q->heap = NULL;
    q->count = q->capacity = 0;
}
