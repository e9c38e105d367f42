/* The host half's snapshots: of state machine, session tables and configuration at one index. */
#include <stdio.h>

#include "base/mem.h"
#include "server/host_state.h"

#define RETRY_US (10 * US_PER_S) /* after a snapshot that failed */
#define PATH_BYTES 4096u
#define COUNTED_BYTES 1024u    /* of records that are loaded count as one more in a step */
#define SMALL_BYTES (1u << 20) /* to write a snapshot of so many is nothing, however often */

/* ---- taking one ---- */

/* In the child, or in its place: reads what the host holds, and nothing else. */
static int write_state(void *ctx, struct io_sink *sink, struct err *e)
{
    struct host *h = ctx;
    struct buf tables = {0}, clients = {0};
    struct snapshot_writer *w = mem_alloc(sizeof *w);
    int rv = w == NULL || !sessions_write(&h->sessions, &tables) || !clients_write(&h->clients, &clients)
                 ? err_set(e, ERR_NOMEM, "out of memory for a snapshot")
                 : OK;
    if (rv == OK) {
        snapshot_write_begin(w, sink, h->channel->cluster, &h->order->what);
        snapshot_write_record(w, SNAPSHOT_CONF, h->conf.data, h->conf.size);
        snapshot_write_record(w, SNAPSHOT_SESSIONS, tables.data, tables.size);
        snapshot_write_record(w, SNAPSHOT_CLIENTS, clients.data, clients.size);
        rv = h->machine.save(h->ctx, w, e);
    }
    if (rv == OK) {
        uint64_t size;
        rv = snapshot_write_end(w, &size);
        if (rv != OK) *e = w->error;
    }
    mem_free(w);
    buf_free(&tables);
    buf_free(&clients);
    return rv;
}

static int begin(struct host *h, const char *path, struct err *e)
{
    struct io *io = h->channel->io;
    h->order = mem_zero(1, sizeof *h->order);
    if (h->order == NULL) return err_set(e, ERR_NOMEM, "out of memory for a snapshot");
    h->order->what = (struct store_snapshot){
        .index = h->applied, .term = h->applied_term, .time_us = h->applied_time_us, .id = io_random(io)};
    int rv = io_fork(io, path, h->config.snapshot_apart, write_state, h, &h->order->child, e);
    if (rv == OK) return OK;
    mem_free(h->order);
    h->order = NULL;
    return rv;
}

int host_snapshot(struct host *h, struct err *e)
{
    char path[PATH_BYTES];
    if (h->halted) return err_set(e, ERR_FAULT, "the node has stopped after a fault");
    if (!h->started || h->closing) return err_set(e, ERR_CLOSED, "the node is closed");
    if (h->order != NULL || h->restoring) return err_set(e, ERR_BUSY, "a snapshot is on its way already");
    if (h->applied == h->snapshot) return err_set(e, ERR_EXIST, "there is a snapshot of this state already");
    int length = snprintf(path, sizeof path, "%s/%s", h->channel->dir, SNAPSHOT_OWN_NAME);
    if (length >= (int)sizeof path) return err_set(e, ERR_IO, "%.100s...: the path is too long", h->channel->dir);
    int rv = begin(h, path, e);
    if (rv != OK) return rv;
    h->ordered_us = io_now(h->channel->io);
    h->bytes = h->entries = 0;
    channel_request(h->channel, (struct ring_item){.kind = REQUEST_SNAPSHOT, .pointer = h->order});
    return OK;
}

static void note_newest(struct host *h, const struct store_snapshot *what)
{
    if (what->index < h->snapshot) return;
    h->snapshot = what->index;
    h->snapshot_size = what->size;
}

static void tell(struct host *h, const struct snapshot_order *order, uint64_t took_us)
{
    if (order->error.code != OK) h->retry_at_us = io_now(h->channel->io) + RETRY_US;
    else note_newest(h, &order->what);
    h->machine.snapshot(h->ctx, order, took_us);
}

void host_on_snapshot(struct host *h, struct snapshot_order *order)
{
    ASSERT(order == h->order);
    h->order = NULL;
    tell(h, order, io_now(h->channel->io) - h->ordered_us);
}

bool host_snapshot_is_due(const struct host *h)
{
    const struct host_config *c = &h->config;
    bool due = (c->snapshot_bytes > 0 && h->bytes >= c->snapshot_bytes) ||
               (c->snapshot_entries > 0 && h->entries >= c->snapshot_entries);
    /* A large state that changes little is not written again and again: at most twice what the log took. */
    bool worth = h->snapshot_size <= SMALL_BYTES || h->bytes >= h->snapshot_size;
    return due && worth && h->order == NULL && !h->restoring && !h->closing && !h->halted &&
           io_now(h->channel->io) >= h->retry_at_us;
}

void host_snapshot_if_due(struct host *h)
{
    if (!host_snapshot_is_due(h)) return;
    struct snapshot_order failed = {.what.index = h->applied};
    failed.error.code = host_snapshot(h, &failed.error);
    if (failed.error.code != OK) tell(h, &failed, 0);
}

/* ---- restoring one ---- */

static int read_table(struct host *h, uint8_t kind, struct reader *from)
{
    int rv = kind == SNAPSHOT_SESSIONS ? sessions_read(&h->sessions, from) : clients_read(&h->clients, from);
    return rv == OK && from->at != from->size ? ERR_CORRUPT : rv;
}

static int read_conf(struct host *h, const uint8_t *data, size_t size)
{
    h->conf.size = 0;
    return buf_append(&h->conf, data, size) ? OK : ERR_NOMEM;
}

/* One record that is the host's own. The file was checked as a whole: what does not fit was written so. */
static enum host_verdict load_own(struct host *h, uint8_t kind, const uint8_t *data, uint32_t size)
{
    struct reader from = {.data = data, .size = size};
    int rv = ERR_VERSION;
    if (kind == SNAPSHOT_CONF) rv = read_conf(h, data, size);
    else if (kind == SNAPSHOT_SESSIONS || kind == SNAPSHOT_CLIENTS) rv = read_table(h, kind, &from);
    return rv == OK ? HOST_GO_ON : HOST_HALT;
}

bool host_record_next(struct host_records *r, const uint8_t **record, uint32_t *size)
{
    struct reader from = r->from;
    uint8_t kind;
    if (r->left == 0 || !snapshot_record_next(&from, &kind, record, size) || kind != SNAPSHOT_MACHINE) return false;
    r->from = from;
    r->left--;
    return true;
}

uint64_t host_records_total(const struct host_records *r)
{
    return r->total - MIN(r->total, SNAPSHOT_HOST_RECORDS);
}

/* The next record if it is the host's own, else as many of the machine's as may be. false: none is left. */
static bool load_some(struct host *h, enum host_verdict *verdict)
{
    struct host_records *r = &h->records;
    struct reader from = r->from;
    const uint8_t *data;
    uint8_t kind;
    uint32_t size;
    if (!snapshot_record_next(&from, &kind, &data, &size)) return false;
    if (kind != SNAPSHOT_MACHINE) {
        r->from = from;
        h->entries_left--;
        *verdict = load_own(h, kind, data, size);
        return true;
    }
    size_t at = r->from.at;
    r->left = h->entries_left;
    *verdict = h->machine.load(h->ctx, HOST_LOAD_RECORDS, r);
    while (host_record_next(r, &data, &size)) {}
    /* A step ends in time with large records, too: one of several KiB takes longer than one of some bytes. */
    h->entries_left = r->left - (uint32_t)MIN(r->left, (r->from.at - at) / COUNTED_BYTES);
    return true;
}

static enum host_verdict begin_loading(struct host *h)
{
    sessions_free(&h->sessions);
    clients_free(&h->clients);
    return h->machine.load(h->ctx, HOST_LOAD_BEGIN, &h->records);
}

/* Nobody here saw how it ended; of a client's last command the table tells. */
static void settle(struct host *h, uint64_t sequence, const struct call *call)
{
    const struct client *client = clients_find(&h->clients, call->client);
    int code = call->type == RAFT_ENTRY_BARRIER ? OK : ERR_NO_RESULT;
    if (call->client == 0) host_call_end(h, sequence, code, h->applied);
    else if (client != NULL && client->sequence == call->command) host_call_repeat(h, sequence, client);
    else host_call_end(h, sequence, ERR_EXPIRED, h->applied);
}

/* What this node proposed and the snapshot holds has passed. */
static void settle_calls(struct host *h)
{
    for (uint64_t sequence = h->lowest; sequence < h->next; sequence++) {
        const struct call *call = &h->calls[sequence & h->calls_mask];
        if (!call->open || !sessions_has(&h->sessions, h->node, h->epoch, sequence)) continue;
        channel_request(h->channel, (struct ring_item){.kind = REQUEST_SETTLED, .value = sequence});
        settle(h, sequence, call);
    }
}

void host_on_restore(struct host *h, struct restore_part *part)
{
    ASSERT(h->batch == NULL && h->part == NULL && part->first != h->restoring);
    h->restoring = true;
    h->part = part;
    h->records = (struct host_records){.from = {.data = part->records.data, .size = part->records.size},
                                       .total = part->total};
    if (part->first && !h->halted && begin_loading(h) == HOST_HALT) host_halt(h);
}

/* The state is that of the snapshot. */
static void end_restoring(struct host *h, const struct store_snapshot *what)
{
    ASSERT(what->index > h->applied);
    h->restoring = false;
    h->applied = what->index;
    note_newest(h, what);
    h->applied_term = what->term;
    h->applied_time_us = MAX(h->applied_time_us, what->time_us);
    h->bytes = h->entries = 0;
    settle_calls(h);
    host_asks_applied(h);
}

void host_restore_next(struct host *h)
{
    struct restore_part *part = h->part;
    enum host_verdict verdict = HOST_GO_ON;
    bool more = !h->halted && load_some(h, &verdict);
    if (!more && part->last && !h->halted) verdict = h->machine.load(h->ctx, HOST_LOAD_END, NULL);
    if (verdict == HOST_HALT) host_halt(h);
    if (more && !h->halted) return;
    if (part->last && !h->halted) end_restoring(h, &part->what);
    h->part = NULL;
    channel_request(h->channel, (struct ring_item){.kind = REQUEST_RESTORED, .pointer = part});
}
