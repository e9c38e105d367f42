/* What everything simulated stands on: one clock, one queue of events ordered by it, one source of chance, one hash of
 * all that has happened. And memory: a failure that a spec has planted (mem_fail_at) is meant for the code under test
 * and passed over; a real lack of memory ends the process. */
#ifndef RAFT_SIM_SIM_QUEUE_H
#define RAFT_SIM_SIM_QUEUE_H

#include "base/buf.h"
#include "base/prng.h"

#pragma GCC visibility push(hidden)

enum sim_event_kind {
    SIM_CALL = 1,     /* sim_world_after */
    SIM_ALARM,
    SIM_WAKE,
    SIM_NOTIFY,
    SIM_TURN,
    SIM_WORK,         /* the head of a lane runs */
    SIM_DONE,         /* and is told about */
    SIM_NET_SYN,      /* a connection request arrives */
    SIM_NET_ACCEPTED, /* the engine hears of it */
    SIM_NET_UP,       /* its answer arrives */
    SIM_NET_FRAME,
    SIM_NET_CLOSED,
};

struct sim_event {
    uint64_t at_us, order; /* order of creation breaks ties */
    uint64_t stamp;        /* of the node's life or alarm when it was created: an older one is void */
    uint8_t kind, node, aux, more; /* node: 0 = the network's, or nobody's; aux and more are the kind's business */
    union {
        void (*call)(void *ctx);
        struct sim_pipe *pipe;
    };
    void *pointer;
};

struct sim_queue {
    uint64_t now_us, order, hash;
    struct prng prng;
    int touched; /* the node that the present event is about; 0 = none */
    struct sim_event *heap;
    size_t count, capacity;
    struct sim_trace *trace; /* where what happens is recorded; NULL = nowhere */
};

void sim_queue_free(struct sim_queue *q);
/* Adds an event at at_us; fill in what its kind needs. Valid until the next one is added. */
struct sim_event *sim_queue_add(struct sim_queue *q, enum sim_event_kind kind, uint64_t at_us);
/* Puts back one that was taken, to happen now if its time has passed, in the order of creation among those of now. */
void sim_queue_return(struct sim_queue *q, const struct sim_event *event);
/* Takes the first one out. Precondition: there is one. Does not move the clock. */
struct sim_event sim_queue_take(struct sim_queue *q);

void sim_fold(struct sim_queue *q, uint64_t value); /* into the run's hash */
/* A rate of 0 costs nothing and draws nothing. */
static inline bool sim_chance(struct sim_queue *q, uint32_t permille)
{
    return permille > 0 && prng_chance(&q->prng, permille);
}
uint64_t sim_draw_us(struct sim_queue *q, uint64_t min_us, uint64_t max_us); /* at least 1 */
/* A delay with a long tail: mostly below max_us, half as often up to twice that, a quarter as often ... 64 times. */
uint64_t sim_draw_tail_us(struct sim_queue *q, uint64_t max_us);

void *sim_alloc(size_t size); /* zeroed */
char *sim_strdup(const char *text);
void sim_grow(void **items, size_t *capacity, size_t need, size_t size);
void sim_buf_append(struct buf *b, const void *data, size_t size);

#pragma GCC visibility pop

#endif
