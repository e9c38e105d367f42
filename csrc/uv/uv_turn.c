#include "uv/uv_turn.h"

enum { TAKEN = 1, WORD = 2, AWAITED = 4 };

#ifndef SPINS
#define SPINS 2000 /* of a few ns: about what one short visit takes */
#endif

int turn_init(struct uv_turn *t)
{
    atomic_init(&t->state, 0);
    return uv_sem_init(&t->ended, 0);
}

void turn_free(struct uv_turn *t)
{
    uv_sem_destroy(&t->ended);
}

static bool take_if_free(struct uv_turn *t)
{
    uint32_t state = atomic_load(&t->state);
    return (state & TAKEN) == 0 && atomic_compare_exchange_strong(&t->state, &state, state | TAKEN);
}

void turn_take(struct uv_turn *t)
{
    for (int i = 0; i < SPINS; i++) {
        if (take_if_free(t)) return;
    }
    while (!take_if_free(t)) {
        uint32_t state = TAKEN;
        bool waits = atomic_compare_exchange_strong(&t->state, &state, TAKEN | AWAITED);
        if (!waits && state == (TAKEN | WORD))
            waits = atomic_compare_exchange_strong(&t->state, &state, TAKEN | WORD | AWAITED);
        if (waits) uv_sem_wait(&t->ended);
    }
}

bool turn_offer(struct uv_turn *t)
{
    uint32_t state = atomic_load(&t->state), next;
    do next = (state & TAKEN) != 0 ? state | WORD : state | TAKEN;
    while (!atomic_compare_exchange_weak(&t->state, &state, next));
    return (state & TAKEN) == 0;
}

bool turn_tell(struct uv_turn *t)
{
    uint32_t state = atomic_load(&t->state);
    while ((state & TAKEN) != 0) {
        if (atomic_compare_exchange_weak(&t->state, &state, state | WORD)) return true;
    }
    return false;
}

bool turn_end(struct uv_turn *t)
{
    uint32_t state = atomic_load(&t->state), next;
    ASSERT((state & TAKEN) != 0);
    do next = (state & WORD) != 0 ? state & ~(uint32_t)WORD : 0;
    while (!atomic_compare_exchange_weak(&t->state, &state, next));
    if ((state & WORD) != 0) return false;
    if ((state & AWAITED) != 0) uv_sem_post(&t->ended);
    return true;
}

void post_leave(struct uv_post *p, enum uv_post_state how)
{
    atomic_store(&p->state, how);
}

bool post_take(struct uv_post *p, enum uv_post_state how)
{
    int state = how;
    return atomic_compare_exchange_strong(&p->state, &state, POST_TAKEN);
}
