#include "server/channel.h"

static size_t power_of_two(size_t at_least)
{
    size_t size = 1;
    while (size < at_least) size *= 2;
    return size;
}

int channel_init(struct channel *c, struct io *io, uint32_t pending)
{
    ASSERT(pending > 0 && pending <= CHANNEL_PENDING_MAX);
    *c = (struct channel){.io = io, .burst = CHANNEL_BURST};
    /* A call open at once means at most a proposal and a cancellation; twice that, since the engine may still have
     * those of calls that have ended meanwhile. A restored snapshot may settle all that are open. */
    bool ok = ring_init(&c->requests, power_of_two(5 * (size_t)pending + 2 * CHANNEL_RESERVE)) &&
              ring_init(&c->notices, power_of_two((size_t)pending + CHANNEL_RESERVE)) &&
              mailbox_init(&c->status, sizeof(struct server_status));
    if (!ok) channel_free(c);
    return ok ? OK : ERR_NOMEM;
}

void channel_free(struct channel *c)
{
    ring_free(&c->requests);
    ring_free(&c->notices);
    mailbox_free(&c->status);
    buf_free(&c->conf);
}

/* false: what is left is not for items of this kind. */
static bool enter(struct channel *c, struct ring_item item)
{
    bool yields = item.kind == REQUEST_PROPOSE || item.kind == REQUEST_CANCEL;
    if (yields && !ring_has_room(&c->requests, CHANNEL_RESERVE + 1)) return false;
    bool fits = ring_put(&c->requests, item);
    ASSERT(fits);
    return true;
}

/* The engine is sure to learn of what was put: soon, or here. */
static void wake(struct channel *c)
{
    ring_tell(&c->requests);
    if (ring_must_wake(&c->requests)) io_wake(c->io);
}

static void visit(struct channel *c)
{
    ring_tell(&c->requests);
    if (ring_must_wake(&c->requests)) io_visit(c->io);
}

bool channel_request(struct channel *c, struct ring_item item)
{
    if (!enter(c, item)) return false;
    if (item.kind == REQUEST_ASK) visit(c);
    else wake(c);
    return true;
}

bool channel_propose(struct channel *c, struct block *block)
{
    if (!enter(c, (struct ring_item){.kind = REQUEST_PROPOSE, .pointer = block})) return false;
    c->turn++;
    if (++c->proposed < c->burst) return true;
    c->proposed = 0;
    wake(c);
    return true;
}

void channel_flush(struct channel *c)
{
    c->burst = c->turn <= CHANNEL_SMALL ? CHANNEL_SMALL + 1 : CHANNEL_BURST;
    c->turn = 0;
    if (c->proposed == 0) return;
    c->proposed = 0;
    visit(c);
}

void channel_give_back(struct channel *c, struct apply_batch *batch)
{
    enter(c, (struct ring_item){.kind = REQUEST_APPLIED, .pointer = batch});
    ring_tell(&c->requests);
    if (++c->given_back < CHANNEL_BATCHES / 2) return;
    c->given_back = 0;
    wake(c);
}

void channel_notice(struct channel *c, struct ring_item item)
{
    channel_leave(c, item);
    channel_remind(c);
}

void channel_leave(struct channel *c, struct ring_item item)
{
    bool pushed = ring_push(&c->notices, item);
    ASSERT(pushed);
}

void channel_remind(struct channel *c)
{
    if (ring_must_wake(&c->notices)) io_notify(c->io);
}

void channel_progress(struct channel *c, uint64_t done, uint64_t total)
{
    c->total_bytes = total;
    c->read_bytes = done;
    channel_remind(c);
}

void channel_publish(struct channel *c)
{
    mailbox_publish(&c->status);
    channel_remind(c);
}
