/* What the core wants done: batches to the store, messages to the peers, the commit index to the feed. */
#include "server/engine_state.h"

#include "base/mem.h"
#include "wire/message.h"

#define NO_MEMORY "out of memory: the node cannot keep its promises and stops"

/* The core itself appends the empty entry of a new leader, and configurations; only the server can encode them. */
static int attach(struct engine *e, raft_index index)
{
    const struct raft_cached *entry = raft_entry_at(e->raft, index);
    raft_term term = 0;
    if (entry->block != NULL) return OK;
    bool known = raft_term_at(e->raft, index, &term);
    ASSERT(known);
    struct block *block =
        entry->type == RAFT_ENTRY_CONFIG ? changes_encode(e, index) : entry_new(RAFT_ENTRY_EMPTY, NULL, 0);
    if (block == NULL) return ERR_NOMEM;
    entry_stamp(block, index, term, io_wall(e->io));
    raft_attach(e->raft, index, block);
    block_unref(block);
    return OK;
}

static int store_entries(struct engine *e, const struct raft_ready *ready)
{
    size_t n = ready->last >= ready->first ? (size_t)(ready->last - ready->first + 1) : 0;
    struct block **blocks = mem_alloc(n * sizeof *blocks);
    if (blocks == NULL) return ERR_NOMEM;
    int rv = OK;
    for (size_t i = 0; i < n && rv == OK; i++) {
        rv = attach(e, ready->first + i);
        blocks[i] = raft_entry_at(e->raft, ready->first + i)->block;
    }
    struct store_batch batch = {.seq = ready->seq,
                                .vote_changed = ready->vote_changed,
                                .term = ready->term,
                                .vote = ready->vote,
                                .reset = ready->restore,
                                .reset_term = ready->restore_term,
                                .truncate_from = ready->truncate_from,
                                .first = ready->first,
                                .blocks = blocks,
                                .n = n};
    if (rv == OK) rv = store_append(e->store, &batch);
    mem_free(blocks);
    return rv;
}

/* An append whose entries are all in memory. */
static void send_cached(struct engine *e, const struct raft_message *m, struct buf *out)
{
    struct block **blocks = mem_alloc(m->n_entries * sizeof *blocks);
    if (blocks == NULL) return; /* lost on the way */
    for (uint32_t i = 0; i < m->n_entries; i++) blocks[i] = raft_entry_at(e->raft, m->index + 1 + i)->block;
    message_write(out, LINKS_GROUP, m, blocks);
    mem_free(blocks);
}

static void send(struct engine *e, const struct raft_message *m, raft_term term)
{
    if (m->type == RAFT_SNAPSHOT) {
        offers_make(e, m->to);
        return;
    }
    struct buf *out = links_out(e->links, m->to);
    if (out == NULL) return;
    if (m->type == RAFT_APPEND && m->term != term) return; /* left over from lack of memory: its entries may be gone */
    if (m->n_entries == 0) message_write(out, LINKS_GROUP, m, NULL);
    else if (raft_entry_at(e->raft, m->index + 1) == NULL) range_send(e, m);
    else send_cached(e, m, out);
}

void ready_drain(struct engine *e)
{
    struct raft_ready ready;
    struct err reason;
    while (e->phase == ENGINE_RUNNING && raft_has_ready(e->raft)) {
        int rv = raft_ready(e->raft, io_now(e->io), &ready);
        if (rv == ERR_NOMEM) return; /* nothing is lost: tried again at the next turn */
        if (rv == ERR_CORRUPT) {
            err_set(&reason, rv, "this node's log contradicts what the cluster has committed: it has lost entries");
            engine_fail(e, &reason);
            return;
        }
        if (ready.seq != 0 && store_entries(e, &ready) != OK) {
            err_set(&reason, ERR_NOMEM, NO_MEMORY);
            engine_fail(e, &reason);
            return;
        }
        if (ready.restore != 0) {
            changes_on_restore(e, ready.restore, ready.restore_term, &e->fetching.conf);
            snapshotting_restore(e);
        }
        for (size_t i = 0; i < ready.n_messages; i++) send(e, &ready.messages[i], ready.term);
        asks_on_reads(e, ready.reads, ready.n_reads);
        e->feed.commit = ready.commit;
    }
}
