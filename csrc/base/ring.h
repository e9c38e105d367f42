/* A bounded queue of small items from one thread to one other, with no lock: how host and engine talk.
 *
 * The consumer says when it is going to sleep; the producer wakes it only then, because a wake-up is dear (5-80 us
 * across cores) and a push is cheap. */
#ifndef RAFT_BASE_RING_H
#define RAFT_BASE_RING_H

#include "base/base.h"

#include <stdatomic.h>

#pragma GCC visibility push(hidden)

struct ring_item {
    uint32_t kind; /* the meaning is the users' business */
    int32_t code;
    union {
        uint64_t value;
        void *pointer;
    };
};

struct ring {
    struct ring_item *slots;
    size_t mask;                   /* capacity - 1 */
    _Atomic size_t head;           /* next to pop; written by the consumer */
    size_t told;                   /* the consumer's: the tail when it looked last */
    char apart[64];                /* the two ends on cache lines of their own */
    _Atomic size_t tail;           /* next to push; written by the producer */
    size_t next, freed;            /* the producer's: the tail; the head when it looked last */
    _Atomic bool sleeping;         /* the consumer waits for a wake-up */
};

/* capacity: a power of two. false: no memory. */
bool ring_init(struct ring *r, size_t capacity);
void ring_free(struct ring *r);

/* Producer. false when full, nothing changed. A consumer that is awake finds the item when it looks; one that goes to
 * sleep may miss it until the next ring_tell, which costs as much as many puts. */
bool ring_put(struct ring *r, struct ring_item item);
void ring_tell(struct ring *r);
/* Both. */
bool ring_push(struct ring *r, struct ring_item item);
/* Producer. Are so many slots free? */
bool ring_has_room(struct ring *r, size_t n);
/* Producer, after telling: true when the consumer sleeps and must now be woken (once). */
bool ring_must_wake(struct ring *r);

/* Consumer. false when empty. */
bool ring_pop(struct ring *r, struct ring_item *item);
/* Consumer: announces sleep. false when something came in meanwhile: do not sleep, pop again. */
bool ring_sleep(struct ring *r);

#pragma GCC visibility pop

#endif
