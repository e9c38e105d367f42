#include "base/ring.h"

#include "base/mem.h"

bool ring_init(struct ring *r, size_t capacity)
{
    ASSERT(capacity > 0 && (capacity & (capacity - 1)) == 0);
    r->slots = mem_zero(capacity, sizeof *r->slots);
    r->mask = capacity - 1;
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

bool ring_push(struct ring *r, struct ring_item item)
{
    size_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    size_t head = atomic_load_explicit(&r->head, memory_order_acquire);
    if (tail - head > r->mask) return false;
    r->slots[tail & r->mask] = item;
    /* Sequentially consistent, as is the consumer's store to `sleeping`: of push-then-look and sleep-then-look
     * at least one sees the other. */
    atomic_store(&r->tail, tail + 1);
    return true;
}

size_t ring_room(const struct ring *r)
{
    size_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    return r->mask + 1 - (tail - atomic_load_explicit(&r->head, memory_order_acquire));
}

bool ring_must_wake(struct ring *r)
{
    return atomic_load(&r->sleeping) && atomic_exchange(&r->sleeping, false);
}

bool ring_pop(struct ring *r, struct ring_item *item)
{
    size_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    if (head == atomic_load_explicit(&r->tail, memory_order_acquire)) return false;
    *item = r->slots[head & r->mask];
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
