#include "base/ring.h"

#include "base/mem.h"

#define AHEAD 4u /* what an item points to comes from another core: it is fetched before its turn comes */

bool ring_init(struct ring *r, size_t capacity)
{
    ASSERT(capacity > 0 && (capacity & (capacity - 1)) == 0);
    r->slots = mem_zero(capacity, sizeof *r->slots);
    r->mask = capacity - 1;
    r->told = r->next = r->freed = 0;
    atomic_init(&r->head, 0);
    atomic_init(&r->tail, 0);
    atomic_init(&r->sleeping, true);
    return r->slots != NULL;
}

void ring_free(struct ring *r)
{
    mem_free(r->slots);
    r->slots = NULL;
}

bool ring_has_room(struct ring *r, size_t n)
{
    if (r->mask + 1 - (r->next - r->freed) >= n) return true;
    r->freed = atomic_load_explicit(&r->head, memory_order_acquire);
    return r->mask + 1 - (r->next - r->freed) >= n;
}

static bool fill(struct ring *r, struct ring_item item)
{
    if (!ring_has_room(r, 1)) return false;
    r->slots[r->next++ & r->mask] = item;
    return true;
}

bool ring_put(struct ring *r, struct ring_item item)
{
    if (!fill(r, item)) return false;
    atomic_store_explicit(&r->tail, r->next, memory_order_release);
    return true;
}

void ring_tell(struct ring *r)
{
    /* Sequentially consistent, as is the consumer's store to `sleeping`: of push-then-look and sleep-then-look
     * at least one sees the other. */
    atomic_store(&r->tail, r->next);
}

bool ring_push(struct ring *r, struct ring_item item)
{
    if (!fill(r, item)) return false;
    ring_tell(r);
    return true;
}

bool ring_must_wake(struct ring *r)
{
    return atomic_load(&r->sleeping) && atomic_exchange(&r->sleeping, false);
}

bool ring_pop(struct ring *r, struct ring_item *item)
{
    size_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    if (head == r->told) r->told = atomic_load_explicit(&r->tail, memory_order_acquire);
    if (head == r->told) return false;
    *item = r->slots[head & r->mask];
    if (r->told - head > AHEAD) __builtin_prefetch(r->slots[(head + AHEAD) & r->mask].pointer);
    atomic_store_explicit(&r->head, head + 1, memory_order_release);
    return true;
}

bool ring_sleep(struct ring *r)
{
    atomic_store(&r->sleeping, true);
    if (atomic_load(&r->tail) == atomic_load_explicit(&r->head, memory_order_relaxed)) return true;
    atomic_store(&r->sleeping, false);
    return false;
}
