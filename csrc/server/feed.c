/* Committed entries to the host, by credits: from memory where they are there, else read from the log. */
#include "server/engine_state.h"

#include "base/mem.h"

/* For how long the host is left alone with entries that no call of its own waits for. Under load it finds them
 * when it looks for others; else one wake-up does for several. */
#define LEFT_ALONE_US (2 * US_PER_MS)
#define FREE_AHEAD 4u   /* entries that come back were last touched on the host's core */
#define READ_BATCHES 4u /* read from the log at once: while the host applies them the next ones are read */

static struct apply_batch *batch_new(raft_index first, size_t n)
{
    struct apply_batch *batch = mem_alloc(sizeof *batch + n * sizeof batch->entries[0]);
    if (batch == NULL) return NULL;
    batch->first = first;
    batch->n = 0;
    return batch;
}

static void batch_free(struct apply_batch *batch)
{
    for (uint32_t i = 0; i < batch->n; i++) {
        if (i + FREE_AHEAD < batch->n) block_ref_ahead(batch->entries[i + FREE_AHEAD]);
        block_unref(batch->entries[i]);
    }
    mem_free(batch);
}

/* This node's own proposals among them are settled now. false: there are none. */
static bool settle_own(struct engine *e, const struct apply_batch *batch)
{
    bool any = false;
    for (uint32_t i = 0; i < batch->n; i++) {
        struct entry entry = entry_view(batch->entries[i]);
        bool ours = entry.session == e->identity.node && entry.epoch == e->epoch;
        if (ours) pending_remove(&e->pending, entry.sequence);
        any = any || ours;
    }
    return any;
}

static void remind(struct engine *e)
{
    e->feed.remind_us = NEVER_US;
    channel_remind(e->channel);
}

/* Lends a batch to the host. false: no memory, nothing changed. */
static bool lend(struct engine *e, struct apply_batch *batch)
{
    struct feed *feed = &e->feed;
    struct lent *lent = mem_alloc(sizeof *lent);
    if (lent == NULL) return false;
    ASSERT(batch->first == feed->next && batch->n > 0);
    *lent = (struct lent){.batch = batch, .next = feed->lent};
    feed->lent = lent;
    feed->n_lent++;
    feed->next += batch->n;
    bool awaited = settle_own(e, batch) || batch->first <= feed->awaited;
    channel_leave(e->channel, (struct ring_item){.kind = NOTICE_COMMITTED, .pointer = batch});
    if (awaited || feed->n_lent >= CHANNEL_BATCHES / 2) remind(e);
    else feed->remind_us = MIN(feed->remind_us, io_now(e->io) + LEFT_ALONE_US);
    return true;
}

/* One batch out of the window. false: no memory. */
static bool lend_cached(struct engine *e)
{
    struct feed *feed = &e->feed;
    size_t most = (size_t)MIN(feed->commit - feed->next + 1, CHANNEL_BATCH_ENTRIES), bytes = 0;
    struct apply_batch *batch = batch_new(feed->next, most);
    if (batch == NULL) return false;
    while (batch->n < most && bytes < CHANNEL_BATCH_BYTES) {
        const struct raft_cached *entry = raft_entry_at(e->raft, feed->next + batch->n);
        bytes += entry->size;
        block_ref_ahead(entry->block);
        batch->entries[batch->n++] = entry->block;
    }
    for (uint32_t i = 0; i < batch->n; i++) block_ref(batch->entries[i]);
    if (lend(e, batch)) return true;
    batch_free(batch);
    return false;
}

/* One batch out of n blocks: how many of them; 0: no memory. */
static size_t lend_blocks(struct engine *e, struct block *const *blocks, size_t n)
{
    size_t bytes = 0;
    struct apply_batch *batch = batch_new(e->feed.next, MIN(n, CHANNEL_BATCH_ENTRIES));
    if (batch == NULL) return 0;
    while (batch->n < n && batch->n < CHANNEL_BATCH_ENTRIES && bytes < CHANNEL_BATCH_BYTES) {
        bytes += blocks[batch->n]->size;
        batch->entries[batch->n] = block_ref(blocks[batch->n]);
        batch->n++;
    }
    n = batch->n;
    if (lend(e, batch)) return n;
    batch_free(batch);
    return 0;
}

static void on_read(struct store_read *read)
{
    struct engine *e = read->ctx;
    struct feed *feed = &e->feed;
    bool wanted = e->phase == ENGINE_RUNNING && read->first == feed->next; /* else a snapshot has taken their place */
    size_t at = 0, lent = wanted;
    feed->reading = false;
    for (; lent > 0 && at < read->n && feed->n_lent < CHANNEL_BATCHES; at += lent) {
        lent = lend_blocks(e, read->blocks + at, read->n - at); /* what is left is read once more */
    }
    if (at > 0) remind(e); /* a host that is so far behind has work for a while */
    for (size_t i = 0; i < read->n; i++) block_unref(read->blocks[i]);
    mem_free(read->blocks);
    /* Committed entries are never truncated: that they cannot be read is rot, or a broken disk. */
    if (read->status != OK && read->status != ERR_NOMEM && wanted) {
        err_wrap(&read->error, "reading committed entries from %" PRIu64, read->first);
        engine_fail(e, &read->error);
    }
}

static void read_older(struct engine *e)
{
    struct feed *feed = &e->feed;
    struct raft_status status;
    raft_status_get(e->raft, &status);
    raft_index most = feed->next + READ_BATCHES * CHANNEL_BATCH_ENTRIES - 1;
    feed->read = (struct store_read){.first = feed->next,
                                     .last = MIN(MIN(status.window - 1, feed->commit), most),
                                     .max_bytes = READ_BATCHES * CHANNEL_BATCH_BYTES,
                                     .done = on_read,
                                     .ctx = e};
    feed->reading = store_read_range(e->store, &feed->read) == OK;
}

void feed_pump(struct engine *e)
{
    struct feed *feed = &e->feed;
    bool going = e->restoring.view == NULL; /* else what comes before is still on its way to the host */
    while (going && e->phase == ENGINE_RUNNING && !feed->reading && feed->next <= feed->commit &&
           feed->n_lent < CHANNEL_BATCHES) {
        if (raft_entry_at(e->raft, feed->next) != NULL) {
            going = lend_cached(e); /* no memory: tried again at the next turn */
        } else {
            if (feed->n_lent + READ_BATCHES <= CHANNEL_BATCHES) read_older(e);
            going = false;
        }
    }
}

void feed_applied(struct engine *e, struct apply_batch *batch)
{
    struct lent **at = &e->feed.lent;
    while ((*at)->batch != batch) at = &(*at)->next;
    struct lent *lent = *at;
    *at = lent->next;
    e->feed.n_lent--;
    raft_index last = batch->first + batch->n - 1;
    if (e->raft != NULL) raft_applied(e->raft, last);
    batch_free(batch);
    mem_free(lent);
}

void feed_await(struct engine *e, raft_index index)
{
    e->feed.awaited = MAX(e->feed.awaited, index);
    remind(e);
}

void feed_tick(struct engine *e, uint64_t now)
{
    if (now >= e->feed.remind_us) remind(e);
}

uint64_t feed_deadline(const struct engine *e)
{
    return e->feed.remind_us;
}

void feed_free(struct engine *e)
{
    for (struct lent *lent = e->feed.lent, *next; lent != NULL; lent = next) {
        next = lent->next;
        batch_free(lent->batch);
        mem_free(lent);
    }
    e->feed.lent = NULL;
}
