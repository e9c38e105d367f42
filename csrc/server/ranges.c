/* Appends to followers that are so far behind that their entries have left memory: read from the log on the bulk lane,
 * so that a commit never waits for it. Terms are checked again before anything is sent: meanwhile the log may have
 * changed. */
#include "server/engine_state.h"

#include "base/mem.h"
#include "wire/message.h"

#define RANGE_READ_BYTES (4u << 20)
#define RANGE_FRAME_BYTES (1u << 20)

/* Is this node still the leader that wanted to send it, and are these its entries? */
static bool is_current(const struct engine *e, const struct range *range)
{
    struct raft_status status;
    raft_status_get(e->raft, &status);
    if (status.role != RAFT_LEADER || status.term != range->message.term) return false;
    for (size_t i = 0; i < range->read.n; i++) {
        raft_term term;
        if (!raft_term_at(e->raft, range->read.first + i, &term)) return false;
        if (entry_view(range->read.blocks[i]).term != term) return false;
    }
    return true;
}

/* As several frames, none much larger than RANGE_FRAME_BYTES. */
static void send_read(struct engine *e, struct range *range)
{
    struct raft_message m = range->message;
    raft_index named = m.index + m.n_entries;
    struct block **blocks = range->read.blocks;
    for (size_t at = 0; at < range->read.n; at += m.n_entries) {
        size_t bytes = 0;
        m.index = range->read.first + at - 1;
        if (!raft_term_at(e->raft, m.index, &m.log_term)) return;
        for (m.n_entries = 0; at + m.n_entries < range->read.n && bytes < RANGE_FRAME_BYTES; m.n_entries++) {
            bytes += blocks[at + m.n_entries]->size;
        }
        struct buf *out = links_out(e->links, m.to);
        if (out == NULL || !message_write(out, LINKS_GROUP, &m, blocks + at)) return;
    }
    raft_range_sent(e->raft, m.to, named, range->read.first + range->read.n - 1, io_now(e->io));
}

static void on_read(struct store_read *read)
{
    struct range *range = read->ctx;
    struct engine *e = range->engine;
    range->reading = false;
    /* Not read, or not wanted any more: as good as lost on the way; the next heartbeat finds that out. */
    if (read->status == OK && e->phase == ENGINE_RUNNING && is_current(e, range)) send_read(e, range);
    for (size_t i = 0; i < read->n; i++) block_unref(read->blocks[i]);
    mem_free(read->blocks);
    if (read->status == ERR_CORRUPT && e->phase == ENGINE_RUNNING) engine_fail(e, &read->error);
}

void range_send(struct engine *e, const struct raft_message *m)
{
    struct range *range = NULL;
    for (size_t i = 0; i < COUNT_OF(e->ranges); i++) {
        bool is_read = e->ranges[i].reading && e->ranges[i].message.to == m->to;
        if (is_read) return; /* one at a time: this one is lost on the way */
        if (!e->ranges[i].reading) range = &e->ranges[i];
    }
    if (range == NULL) return;
    range->engine = e;
    range->message = *m;
    range->read = (struct store_read){.first = m->index + 1,
                                      .last = m->index + m->n_entries,
                                      .max_bytes = RANGE_READ_BYTES,
                                      .done = on_read,
                                      .ctx = range};
    range->reading = store_read_range(e->store, &range->read) == OK;
}
