#include "base/mem.h"
#include "server/host_state.h"

#define LOOK_AHEAD 2u /* entries: they come from the engine's core */

struct host *host_new(struct channel *channel, const struct host_machine *machine, void *ctx,
                      const struct host_config *config)
{
    ASSERT(config->pending > 0 && config->pending <= CHANNEL_PENDING_MAX && config->pending <= SESSION_WINDOW);
    size_t ring = 1;
    while (ring < config->pending) ring *= 2;
    struct host *h = mem_zero(1, sizeof *h);
    struct call *calls = mem_zero(ring, sizeof *calls);
    if (h == NULL || calls == NULL) {
        mem_free(h);
        mem_free(calls);
        return NULL;
    }
    h->channel = channel;
    h->machine = *machine;
    h->ctx = ctx;
    h->calls = calls;
    h->calls_mask = ring - 1;
    h->config = *config;
    clients_init(&h->clients, config->clients);
    return h;
}

void host_free(struct host *h)
{
    if (h == NULL) return;
    host_asks_free(h);
    sessions_free(&h->sessions);
    clients_free(&h->clients);
    buf_free(&h->conf);
    buf_free(&h->result);
    mem_free(h->calls);
    mem_free(h);
}

/* ---- open calls ---- */

static struct call *call_at(struct host *h, uint64_t sequence)
{
    return &h->calls[sequence & h->calls_mask];
}

static bool call_is_open(struct host *h, uint64_t sequence)
{
    return sequence >= h->lowest && sequence < h->next && call_at(h, sequence)->open;
}

/* Ends an open call; the caller then tells whoever waits. */
static void call_close(struct host *h, uint64_t sequence)
{
    struct call *call = call_at(h, sequence);
    ASSERT(call_is_open(h, sequence) && h->pending > 0);
    call->open = false;
    h->pending--;
    h->pending_bytes -= call->bytes;
    while (h->lowest < h->next && !call_at(h, h->lowest)->open) h->lowest++;
}

void host_call_end(struct host *h, uint64_t sequence, int code, raft_index index)
{
    if (!call_is_open(h, sequence)) return;
    call_close(h, sequence);
    h->machine.done(h->ctx, sequence, code, index, 0);
}

void host_call_repeat(struct host *h, uint64_t sequence, const struct client *client)
{
    if (!call_is_open(h, sequence)) return;
    call_close(h, sequence);
    h->machine.repeat(h->ctx, sequence, client->result, client->result_size);
}

/* The client's session and the number of its command in an entry, from its beginning. */
static void read_client(struct reader *from, uint64_t *client, uint64_t *command)
{
    *client = reader_u64(from);
    *command = reader_u64(from);
}

static struct call call_of(const struct block *block)
{
    struct entry e = entry_view(block);
    struct call call = {.open = true, .type = e.type, .bytes = block->size};
    struct reader from = {.data = e.payload, .size = e.payload_size};
    if (e.type == RAFT_ENTRY_CLIENT) read_client(&from, &call.client, &call.command);
    return call;
}

static int propose(struct host *h, struct block *block, uint64_t *sequence)
{
    if (!h->started || h->closing || h->halted) return h->halted ? ERR_FAULT : ERR_CLOSED;
    bool fits = h->pending < h->config.pending && h->next - h->lowest <= h->calls_mask &&
                h->pending_bytes + block->size <= h->config.pending_bytes;
    if (!fits) return ERR_BUSY;
    entry_set_session(block, h->node, h->epoch, h->next, (uint32_t)(h->next - h->lowest));
    struct call call = call_of(block); /* the block is the engine's once it is pushed */
    if (!channel_propose(h->channel, block)) return ERR_BUSY;
    *call_at(h, h->next) = call;
    *sequence = h->next++;
    h->pending++;
    h->pending_bytes += call.bytes;
    return OK;
}

int host_propose(struct host *h, struct block *block, uint64_t *sequence)
{
    int rv = propose(h, block, sequence);
    if (rv != OK) block_unref(block);
    return rv;
}

int host_barrier(struct host *h, uint64_t *sequence)
{
    struct block *block = entry_new(RAFT_ENTRY_BARRIER, NULL, 0);
    return block == NULL ? ERR_NOMEM : host_propose(h, block, sequence);
}

void host_flush(struct host *h)
{
    channel_flush(h->channel);
}

void host_cancel(struct host *h, uint64_t sequence)
{
    if (sequence >= HOST_FIRST_ASK) {
        host_asks_cancel(h, sequence);
        return;
    }
    if (h->closed || !call_is_open(h, sequence) || call_at(h, sequence)->cancelled) return;
    struct ring_item item = {.kind = REQUEST_CANCEL, .value = sequence};
    call_at(h, sequence)->cancelled = channel_request(h->channel, item);
}

void host_close(struct host *h)
{
    if (h->closing || h->closed) return;
    h->closing = true;
    channel_request(h->channel, (struct ring_item){.kind = REQUEST_CLOSE});
}

/* ---- applying ---- */

void host_halt(struct host *h)
{
    h->halted = true;
    channel_request(h->channel, (struct ring_item){.kind = REQUEST_CLOSE});
}

/* ours: the sequence of the open call that this is, or 0. */
static void hand_over(struct host *h, const struct entry *e, uint64_t ours)
{
    if (ours != 0) call_close(h, ours);
    if (h->machine.applying != NULL) h->machine.applying(h->ctx, e, h->applied_time_us, ours);
}

static void apply_command(struct host *h, const struct entry *e, uint64_t ours, struct buf *result)
{
    hand_over(h, e, ours);
    if (h->machine.apply(h->ctx, e, h->applied_time_us, ours, result) == HOST_HALT) host_halt(h);
}

/* A new command in a client's session: its result is kept. */
static void apply_kept(struct host *h, const struct entry *e, uint64_t ours, struct client *client, uint64_t sequence)
{
    h->result.size = 0;
    apply_command(h, e, ours, &h->result);
    if (!h->halted && clients_keep(&h->clients, client, sequence, h->result.data, h->result.size) != OK) host_halt(h);
}

/* Something of a program outside the cluster: u64 its session (0: it wants one), u64 sequence, the command. */
static void apply_client(struct host *h, const struct entry *e, uint64_t ours)
{
    struct reader from = {.data = e->payload, .size = e->payload_size};
    uint64_t id, sequence;
    struct client *client = NULL;
    read_client(&from, &id, &sequence);
    if (from.bad) { /* of a broken proposer: the same nothing on every node */
        host_call_end(h, ours, ERR_INVALID, e->index);
    } else if (id == 0) {
        if (clients_open(&h->clients, e->index, h->applied_time_us) != OK) host_halt(h);
        else host_call_end(h, ours, OK, e->index);
    } else {
        enum client_verdict verdict = clients_admit(&h->clients, id, sequence, h->applied_time_us, &client);
        struct entry command = *e;
        command.payload += from.at;
        command.payload_size -= (uint32_t)from.at;
        if (verdict == CLIENT_NEW) {
            apply_kept(h, &command, ours, client, sequence);
        } else if (verdict == CLIENT_EXPIRED) {
            host_call_end(h, ours, ERR_EXPIRED, e->index);
        } else {
            host_call_repeat(h, ours, client);
        }
    }
}

/* A command or barrier, by its proposer's session. true: it is left to the machine, as *ours. */
static bool apply_proposed(struct host *h, const struct entry *e, uint64_t *ours)
{
    enum session_verdict verdict;
    clients_expire(&h->clients, h->applied_time_us);
    if (sessions_admit(&h->sessions, e, &verdict) != OK) {
        host_halt(h);
        return false;
    }
    bool is_ours = e->session == h->node && e->epoch == h->epoch && call_is_open(h, e->sequence);
    *ours = is_ours ? e->sequence : 0;
    bool applies = verdict == SESSION_NEW && e->type != RAFT_ENTRY_BARRIER;
    if (applies && e->type == RAFT_ENTRY_COMMAND) return true;
    if (applies) apply_client(h, e, *ours);
    else host_call_end(h, *ours, verdict == SESSION_FENCED ? ERR_REFUSED : OK, e->index);
    return false;
}

static void apply_conf(struct host *h, const struct entry *e)
{
    h->conf.size = 0;
    if (!buf_append(&h->conf, e->payload, e->payload_size)) host_halt(h);
}

/* true: it is left to the machine, as *ours. */
static bool apply_entry(struct host *h, const struct entry *e, uint64_t *ours)
{
    ASSERT(e->index == h->applied + 1);
    h->applied_time_us = MAX(h->applied_time_us, e->time_us);
    if (e->type == RAFT_ENTRY_CONFIG) apply_conf(h, e);
    else if (e->type != RAFT_ENTRY_EMPTY) return apply_proposed(h, e, ours);
    return false;
}

/* Precondition: there is a batch. */
static const struct entry *look_at_next(struct host *h)
{
    if (h->batch_at + LOOK_AHEAD < h->batch->n) block_ahead(h->batch->entries[h->batch_at + LOOK_AHEAD]);
    h->entry = entry_view(h->batch->entries[h->batch_at]);
    return &h->entry;
}

/* The entry that was looked at. true: it is left to the machine, as *ours. */
static bool begin(struct host *h, uint64_t *ours)
{
    h->entries_left--;
    return apply_entry(h, &h->entry, ours);
}

/* It has been applied. */
static void finish(struct host *h)
{
    const struct entry *e = &h->entry;
    h->handed = false;
    h->applied = e->index;
    h->applied_term = e->term;
    h->bytes += ENTRY_HEADER + e->payload_size;
    h->entries++;
    h->batch_at++;
    atomic_store_explicit(&h->channel->applied, h->applied, memory_order_relaxed);
}

/* Does the next entry follow at once? Some things are done between two entries, and results of clients are kept one by
 * one. */
static bool goes_on(struct host *h)
{
    return !h->halted && h->entries_left > 0 && h->batch_at < h->batch->n && h->answered == NULL &&
           !host_snapshot_is_due(h) && look_at_next(h)->type != RAFT_ENTRY_CLIENT;
}

const struct entry *host_next(struct host *h, uint64_t *time_us, uint64_t *sequence)
{
    if (!h->handed) return NULL; /* a client's: it ends with what becomes of its result */
    finish(h);
    while (goes_on(h)) {
        h->handed = begin(h, sequence);
        if (h->handed) {
            hand_over(h, &h->entry, *sequence);
            *time_us = h->applied_time_us;
            return &h->entry;
        }
        if (!h->halted) finish(h);
    }
    return NULL;
}

/* Precondition: there is a batch, with entries left. */
static void apply_next(struct host *h)
{
    uint64_t ours;
    look_at_next(h);
    bool hands = begin(h, &ours);
    h->handed = hands;
    if (hands) apply_command(h, &h->entry, ours, NULL);
    if (h->halted) return;
    if (h->handed || !hands) finish(h); /* else host_next() has */
    host_asks_applied(h);
    host_snapshot_if_due(h);
    if (h->batch_at < h->batch->n) return;
    channel_give_back(h->channel, h->batch);
    h->batch = NULL;
}

/* ---- notices ---- */

static void on_started(struct host *h, int code)
{
    h->started = code == OK;
    h->closed = code != OK;
    h->node = h->channel->node;
    h->epoch = h->channel->epoch;
    h->lowest = h->next = h->asked = channel_first_sequence(h->epoch);
    if (code == OK && !buf_append(&h->conf, h->channel->conf.data, h->channel->conf.size)) host_halt(h);
    h->machine.started(h->ctx, code);
}

static void on_closed(struct host *h)
{
    h->closing = h->closed = true;
    h->batch = NULL; /* the engine frees what it lent */
    h->part = NULL;
    while (h->lowest < h->next) host_call_end(h, h->lowest, ERR_UNKNOWN, 0);
    host_asks_end(h);
    h->machine.closed(h->ctx);
}

static void on_notice(struct host *h, struct ring_item item)
{
    switch (item.kind) {
    case NOTICE_STARTED: on_started(h, item.code); break;
    case NOTICE_COMMITTED:
        h->batch = item.pointer;
        h->batch_at = 0;
        break;
    case NOTICE_RESTORE: host_on_restore(h, item.pointer); break;
    case NOTICE_ANSWERED: host_on_answered(h, item.pointer); break;
    case NOTICE_SNAPSHOT: host_on_snapshot(h, item.pointer); break;
    case NOTICE_REFUSED: host_call_end(h, item.value, item.code, 0); break;
    case NOTICE_CLOSED: on_closed(h); break;
    default: ASSERT(!"a known notice");
    }
}

/* Some commands, some records, or one notice. false: nothing to do. */
static bool step_once(struct host *h)
{
    if (h->batch != NULL && !h->halted) {
        apply_next(h);
        return true;
    }
    if (h->part != NULL) {
        host_restore_next(h);
        return true;
    }
    struct ring_item item;
    if (!ring_pop(&h->channel->notices, &item)) return false;
    bool dead = h->halted && item.kind == NOTICE_COMMITTED;
    if (!dead) on_notice(h, item);
    return true;
}

static bool look_at_status(struct host *h)
{
    if (h->closed || !mailbox_take(&h->channel->status)) return false;
    h->machine.changed(h->ctx, mailbox_read(&h->channel->status));
    return true;
}

static bool look_at_progress(struct host *h)
{
    uint64_t done = h->channel->read_bytes;
    if (h->started || h->closed || h->machine.progress == NULL || done == h->read_bytes) return false;
    h->read_bytes = done;
    h->machine.progress(h->ctx, done, h->channel->total_bytes);
    return true;
}

/* Nothing is left to do: from now on the host is told of what comes. */
static bool falls_asleep(struct host *h)
{
    bool busy = (h->batch != NULL && !h->halted) || h->part != NULL;
    return !busy && ring_sleep(&h->channel->notices) && !look_at_status(h) && !look_at_progress(h);
}

bool host_step(struct host *h, uint32_t entries)
{
    ASSERT(!h->stepping && entries > 0);
    h->stepping = true;
    h->entries_left = entries;
    bool more = true;
    while (more && h->entries_left > 0) {
        look_at_status(h);
        look_at_progress(h);
        if (!step_once(h) || h->entries_left == 0) more = !falls_asleep(h);
    }
    h->stepping = false;
    return more;
}

/* ---- looking in ---- */

const struct server_status *host_status(const struct host *h)
{
    return mailbox_read(&h->channel->status);
}

uint64_t host_heard(const struct host *h)
{
    return h->channel->heard_us;
}

const char *host_start_note(const struct host *h)
{
    return h->channel->start_note;
}

const struct err *host_start_error(const struct host *h)
{
    return &h->channel->start_error;
}

raft_index host_applied(const struct host *h)
{
    return h->applied;
}

uint64_t host_applied_time(const struct host *h)
{
    return h->applied_time_us;
}

uint32_t host_pending(const struct host *h)
{
    return h->pending;
}

uint32_t host_sessions(const struct host *h)
{
    return (uint32_t)(h->sessions.count + h->clients.count);
}

uint64_t host_node(const struct host *h)
{
    return h->node;
}

bool host_snapshotting(const struct host *h)
{
    return h->order != NULL;
}
