#include "core/reads.h"

#include "base/mem.h"

void reads_free(struct raft_reads *q)
{
    mem_free(q->waiting);
    mem_free(q->decided);
    mem_free(q->lent);
}

int reads_put(struct raft_reads *q, const struct raft_read *read, uint64_t round)
{
    size_t all = q->n_decided + q->n_waiting + 1; /* so that all may be decided at once */
    bool ok = mem_grow((void **)&q->waiting, &q->waiting_capacity, q->n_waiting + 1, sizeof *q->waiting) &&
              mem_grow((void **)&q->decided, &q->decided_capacity, all, sizeof *q->decided);
    if (!ok) return ERR_NOMEM;
    q->waiting[q->n_waiting++] = (struct waiting_read){.read = *read, .round = round};
    return OK;
}

static void decide(struct raft_reads *q, const struct raft_read *read)
{
    ASSERT(q->n_decided < q->decided_capacity);
    q->decided[q->n_decided++] = *read;
}

void reads_confirm(struct raft_reads *q, uint64_t round)
{
    size_t kept = 0;
    for (size_t i = 0; i < q->n_waiting; i++) {
        if (q->waiting[i].round <= round) decide(q, &q->waiting[i].read);
        else q->waiting[kept++] = q->waiting[i];
    }
    q->n_waiting = kept;
}

void reads_fail(struct raft_reads *q)
{
    for (size_t i = 0; i < q->n_waiting; i++) {
        struct raft_read failed = {.context = q->waiting[i].read.context};
        decide(q, &failed);
    }
    q->n_waiting = 0;
}

int reads_reserve(struct raft_reads *q)
{
    /* The two arrays change places: what still waits must find room in the other one. */
    bool ok = mem_grow((void **)&q->lent, &q->lent_capacity, q->decided_capacity, sizeof *q->lent);
    return ok ? OK : ERR_NOMEM;
}

const struct raft_read *reads_lend(struct raft_reads *q, size_t *n)
{
    struct raft_read *lent = q->decided;
    size_t capacity = q->decided_capacity;
    ASSERT(q->lent_capacity >= capacity);
    *n = q->n_decided;
    q->decided = q->lent;
    q->decided_capacity = q->lent_capacity;
    q->n_decided = 0;
    q->lent = lent;
    q->lent_capacity = capacity;
    return lent;
}
