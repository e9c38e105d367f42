#include "core/outbox.h"

#include "base/mem.h"

void outbox_free(struct raft_outbox *o)
{
    mem_free(o->messages);
    mem_free(o->lent);
    mem_free(o->batches);
}

int outbox_reserve(struct raft_outbox *o, size_t n)
{
    bool ok = mem_grow((void **)&o->messages, &o->messages_capacity, o->n_messages + n, sizeof *o->messages) &&
              mem_grow((void **)&o->batches, &o->batches_capacity, o->n_batches + 1, sizeof *o->batches);
    return ok ? OK : ERR_NOMEM;
}

static void put_now(struct raft_outbox *o, const struct raft_message *m)
{
    ASSERT(o->n_messages < o->messages_capacity);
    o->messages[o->n_messages++] = *m;
}

/* A refused pre-vote, asked for before and delivered late, must not take the place of a vote that was granted. */
static bool replaces(const struct raft_message *m, const struct raft_message *held)
{
    return m->to == held->to && m->type == held->type && m->pre == held->pre;
}

void outbox_put(struct raft_outbox *o, const struct raft_message *m, uint64_t after)
{
    ASSERT(after <= o->handed + 1);
    if (after <= o->done) {
        put_now(o, m);
        return;
    }
    size_t at = 0;
    while (at < o->n_held && !replaces(m, &o->held[at].message)) at++;
    if (at == COUNT_OF(o->held)) return; /* so many strangers ask at once: as good as lost on the way */
    if (at == o->n_held) o->n_held++;
    o->held[at] = (struct held){.message = *m, .after = after};
}

uint64_t outbox_hand_out(struct raft_outbox *o, struct raft_batch batch)
{
    ASSERT(o->n_batches < o->batches_capacity && o->n_batches == o->handed - o->done);
    o->batches[o->n_batches++] = batch;
    return ++o->handed;
}

const struct raft_message *outbox_lend(struct raft_outbox *o, size_t *n)
{
    struct raft_message *lent = o->messages;
    size_t capacity = o->messages_capacity;
    *n = o->n_messages;
    o->messages = o->lent;
    o->messages_capacity = o->lent_capacity;
    o->n_messages = 0;
    o->lent = lent;
    o->lent_capacity = capacity;
    return lent;
}

struct raft_batch outbox_persisted(struct raft_outbox *o, uint64_t seq)
{
    ASSERT(seq > o->done && seq <= o->handed);
    size_t n = (size_t)(seq - o->done);
    struct raft_batch newest = o->batches[n - 1];
    o->n_batches -= n;
    memmove(o->batches, o->batches + n, o->n_batches * sizeof *o->batches);
    o->done = seq;
    size_t kept = 0;
    for (size_t i = 0; i < o->n_held; i++) {
        if (o->held[i].after <= seq) put_now(o, &o->held[i].message);
        else o->held[kept++] = o->held[i];
    }
    o->n_held = kept;
    return newest;
}

static bool is_heartbeat(const struct raft_message *m, raft_id to)
{
    return m->type == RAFT_HEARTBEAT && m->to == to;
}

void outbox_forget_heartbeats(struct raft_outbox *o, raft_id peer)
{
    size_t kept = 0, n_held = 0;
    for (size_t i = 0; i < o->n_messages; i++)
        if (!is_heartbeat(&o->messages[i], peer)) o->messages[kept++] = o->messages[i];
    for (size_t i = 0; i < o->n_held; i++)
        if (!is_heartbeat(&o->held[i].message, peer)) o->held[n_held++] = o->held[i];
    o->n_messages = kept;
    o->n_held = n_held;
}

void outbox_clamp(struct raft_outbox *o, raft_index last)
{
    for (size_t i = 0; i < o->n_batches; i++) o->batches[i].last = MIN(o->batches[i].last, last);
}
