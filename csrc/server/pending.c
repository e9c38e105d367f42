#include "server/pending.h"

#include "base/mem.h"

#define PATIENCE_DOUBLINGS_MAX 6u

int pending_init(struct pending *p, uint32_t capacity)
{
    size_t size = 1;
    while (size < capacity) size *= 2;
    *p = (struct pending){.mask = size - 1};
    p->ring = mem_zero(size, sizeof *p->ring);
    return p->ring == NULL ? ERR_NOMEM : OK;
}

void pending_start(struct pending *p, uint64_t sequence)
{
    ASSERT(p->lowest == p->next);
    p->lowest = p->next = p->unsent = sequence;
}

void pending_free(struct pending *p)
{
    for (uint64_t i = p->lowest; p->ring != NULL && i < p->next; i++) block_unref(p->ring[i & p->mask].block);
    mem_free(p->ring);
    p->ring = NULL;
}

void pending_add(struct pending *p, struct block *block)
{
    uint64_t sequence = entry_view(block).sequence;
    ASSERT(sequence == p->next && p->next - p->lowest <= p->mask);
    p->ring[sequence & p->mask] = (struct proposal){.block = block};
    p->next++;
}

struct proposal *pending_find(struct pending *p, uint64_t sequence)
{
    if (sequence < p->lowest || sequence >= p->next) return NULL;
    struct proposal *proposal = &p->ring[sequence & p->mask];
    return proposal->block == NULL ? NULL : proposal;
}

void pending_remove(struct pending *p, uint64_t sequence)
{
    struct proposal *proposal = pending_find(p, sequence);
    if (proposal == NULL) return;
    block_unref(proposal->block);
    proposal->block = NULL;
    while (p->lowest < p->next && p->ring[p->lowest & p->mask].block == NULL) p->lowest++;
    p->unsent = MAX(p->unsent, p->lowest);
}

struct proposal *pending_unsent(struct pending *p, uint64_t *sequence)
{
    uint64_t i = MAX(*sequence, p->unsent);
    bool first = i == p->unsent;
    while (i < p->next && (p->ring[i & p->mask].block == NULL || p->ring[i & p->mask].sent)) i++;
    if (first) p->unsent = i;
    *sequence = i;
    return i < p->next ? &p->ring[i & p->mask] : NULL;
}

void pending_resend(struct pending *p, uint64_t sequence)
{
    struct proposal *proposal = pending_find(p, sequence);
    if (proposal == NULL) return;
    proposal->sent = false;
    p->unsent = MIN(p->unsent, sequence);
}

void pending_resend_all(struct pending *p)
{
    for (uint64_t i = p->lowest; i < p->next; i++) {
        pending_resend(p, i);
        p->ring[i & p->mask].late = 0;
    }
}

void pending_resend_late(struct pending *p, uint64_t now, uint64_t patience_us)
{
    for (uint64_t i = p->lowest; i < p->next; i++) {
        struct proposal *proposal = pending_find(p, i);
        if (proposal == NULL || !proposal->sent) continue;
        if (now - proposal->sent_us < patience_us << MIN(proposal->late, PATIENCE_DOUBLINGS_MAX)) continue;
        pending_resend(p, i);
        proposal->late++;
    }
}

int pending_renew(struct proposal *proposal)
{
    struct entry e = entry_view(proposal->block);
    if (e.index == 0) return OK;
    struct block *fresh = entry_new(e.type, e.payload, e.payload_size);
    if (fresh == NULL) return ERR_NOMEM;
    entry_set_session(fresh, e.session, e.epoch, e.sequence, e.behind);
    block_unref(proposal->block);
    proposal->block = fresh;
    return OK;
}
