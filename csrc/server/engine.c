#include "server/engine_state.h"

#include "base/mem.h"

#define ALARM_APART_US US_PER_MS      /* at least, between two alarms */
#define REST_APART_US (10 * US_PER_S) /* of slab_rest */

/* ---- life ---- */

struct engine *engine_new(const struct engine_config *config, struct channel *channel)
{
    struct engine *e = mem_zero(1, sizeof *e);
    if (e == NULL) return NULL;
    e->config = *config;
    e->channel = channel;
    e->io = channel->io;
    e->dir = mem_strdup(config->dir);
    e->name = mem_strdup(config->name);
    e->feed.remind_us = NEVER_US;
    e->listen = config->listen == NULL ? NULL : mem_strdup(config->listen);
    bool ok = e->dir != NULL && e->name != NULL && (config->listen == NULL || e->listen != NULL) &&
              pending_init(&e->pending, config->pending) == OK;
    if (ok) return e;
    engine_free(e);
    return NULL;
}

void engine_free(struct engine *e)
{
    if (e == NULL) return;
    struct ring_item item;
    while (ring_pop(&e->channel->requests, &item)) { /* what came too late */
        if (item.kind == REQUEST_PROPOSE) block_unref(item.pointer);
        if (item.kind == REQUEST_SNAPSHOT) snapshotting_order_free(e, item.pointer);
        if (item.kind == REQUEST_ASK) mem_free(item.pointer);
    }
    while (ring_pop(&e->channel->notices, &item)) { /* what the host did not take any more */
        if (item.kind == NOTICE_ANSWERED) mem_free(item.pointer);
    }
    asks_free(e);
    snapshotting_free(e);
    offers_free(e);
    fetch_free(e);
    feed_free(e);
    confs_free(&e->confs);
    pending_free(&e->pending);
    raft_free(e->raft);
    mem_free(e->dir);
    mem_free(e->name);
    mem_free(e->listen);
    mem_free(e);
}

void engine_abandon(struct engine *e)
{
    links_abandon(e->links);
    if (e->store != NULL) store_abandon(e->store);
    engine_free(e);
}

const struct raft *engine_raft(const struct engine *e)
{
    return e->raft;
}

const struct store *engine_store(const struct engine *e)
{
    return e->store;
}

/* ---- closing ---- */

static void on_store_closed(void *ctx)
{
    struct engine *e = ctx;
    e->store = NULL;
    e->phase = ENGINE_CLOSED;
    struct ring_item last = {.kind = e->start_code != OK ? NOTICE_STARTED : NOTICE_CLOSED, .code = e->start_code};
    channel_notice(e->channel, last);
    io_stop(e->io);
}

static void close_links(struct engine *e)
{
    if (e->server != NULL) io_unlisten(e->io, e->server);
    links_free(e->links);
    e->server = NULL;
    e->links = NULL;
}

/* What a node that has failed or is closing does not do any more. Not done where the phase changes, since that may be
 * in the middle of a link's event. */
static void wind_down(struct engine *e)
{
    if (e->links != NULL || e->server != NULL) close_links(e);
    proposals_end(e, e->phase == ENGINE_FAILED ? ERR_FAULT : ERR_CLOSED);
    asks_end(e, e->phase == ENGINE_FAILED ? ERR_FAULT : ERR_CLOSED);
    snapshotting_stop(e);
    offers_stop(e);
    fetch_stop(e);
    if (e->phase != ENGINE_CLOSING || snapshotting_busy(e) || offers_busy(e) || fetch_busy(e)) return;
    status_publish(e, io_now(e->io));
    e->phase = ENGINE_CLOSED;
    io_alarm(e->io, NEVER_US);
    if (e->store != NULL) store_close(e->store, on_store_closed, e);
    else on_store_closed(e);
}

static void begin_closing(struct engine *e)
{
    if (e->phase == ENGINE_RUNNING) raft_step_down(e->raft, io_now(e->io));
    if (e->phase == ENGINE_JOINING) joining_end(e);
    if (e->phase == ENGINE_JOINING)
        e->start_code = err_set(&e->channel->start_error, ERR_CLOSED, "the node was closed");
    if (e->phase == ENGINE_RUNNING || e->phase == ENGINE_JOINING || e->phase == ENGINE_FAILED)
        e->phase = ENGINE_CLOSING;
    e->leave_until_us = 0;
    e->news = true;
}

/* ---- events ---- */

static void on_request(struct engine *e, struct ring_item item)
{
    switch (item.kind) {
    case REQUEST_PROPOSE: proposals_add(e, item.pointer); break;
    case REQUEST_CANCEL: proposals_cancel(e, item.value); break;
    case REQUEST_APPLIED: feed_applied(e, item.pointer); break;
    case REQUEST_ASK: asks_add(e, item.pointer); break;
    case REQUEST_UNASK: asks_cancel(e, item.value); break;
    case REQUEST_SNAPSHOT: snapshotting_take(e, item.pointer); break;
    case REQUEST_RESTORED: snapshotting_restored(e, item.pointer); break;
    case REQUEST_SETTLED: pending_remove(&e->pending, item.value); break;
    case REQUEST_CLOSE:
        if (!handover_begin(e)) begin_closing(e);
        break;
    default: ASSERT(!"a known request");
    }
}

/* Not all of them come with a wake-up: see channel_give_back. */
static void take_requests(struct engine *e)
{
    struct ring_item item;
    while (ring_pop(&e->channel->requests, &item)) on_request(e, item);
}

static void on_woken(void *ctx)
{
    struct engine *e = ctx;
    do take_requests(e);
    while (!ring_sleep(&e->channel->requests));
}

static void on_alarm(void *ctx)
{
    struct engine *e = ctx;
    uint64_t now = io_now(e->io);
    if (e->phase == ENGINE_JOINING) joining_alarm(e);
    if (e->phase == ENGINE_RUNNING) take_requests(e);
    if (e->phase != ENGINE_RUNNING) return;
    e->alarmed_us = now;
    raft_tick(e->raft, now); /* out of memory: the next alarm tries again */
    links_tick(e->links);
    store_tick(e->store);
    offers_tick(e, now);
    feed_tick(e, now);
    handover_tick(e, now);
    if (now >= e->rest_at_us) {
        e->rest_at_us = now + REST_APART_US;
        slab_rest();
    }
    if (now < e->resend_at_us) return;
    /* A copy may get lost on the way without any link breaking; sending it twice does no harm. What is in this node's
     * own log is not on any way. */
    if (e->leader != e->identity.node) pending_resend_late(&e->pending, now, 2 * e->config.election_timeout_us);
    e->resend_at_us = now + e->config.election_timeout_us;
}

static uint64_t next_alarm(const struct engine *e, uint64_t now)
{
    uint64_t at_us = MIN(MIN(raft_deadline(e->raft), links_deadline(e->links)),
                         MIN(store_deadline(e->store), handover_deadline(e)));
    at_us = MIN(at_us, MIN(asks_deadline(e), MIN(offers_deadline(e), MIN(fetch_deadline(e), feed_deadline(e)))));
    if (e->leave_until_us != 0) at_us = MIN(at_us, e->leave_until_us);
    if (e->retry_at_us > now) at_us = MIN(at_us, e->retry_at_us);
    if (e->pending.lowest < e->pending.next) at_us = MIN(at_us, e->resend_at_us);
    /* What an alarm could not do for lack of memory is due at once, again and again. */
    return MAX(at_us, e->alarmed_us + ALARM_APART_US);
}

static void on_turn(void *ctx)
{
    struct engine *e = ctx;
    if (e->phase == ENGINE_RUNNING) take_requests(e);
    if (e->phase == ENGINE_RUNNING) {
        handover_note_ends(e);
        proposals_flush(e);
        asks_flush(e);
        ready_drain(e);
    }
    if (e->phase == ENGINE_RUNNING) {
        changes_follow(e);
        readmission_follow(e);
        fetch_pump(e);
        snapshotting_pump(e);
        feed_pump(e);
        links_flush(e->links);
    }
    if (handover_is_over(e, io_now(e->io))) begin_closing(e);
    if (e->phase == ENGINE_FAILED || e->phase == ENGINE_CLOSING) wind_down(e);
    uint64_t now = io_now(e->io);
    if (e->phase != ENGINE_CLOSED) status_publish(e, now);
    if (e->phase == ENGINE_RUNNING) io_alarm(e->io, next_alarm(e, now));
}

static void on_accepted(void *ctx, struct io_link *link)
{
    struct engine *e = ctx;
    if (e->links != NULL) links_accepted(e->links, link);
    else io_link_close(e->io, link);
}

static void on_connected(void *ctx, struct io_link *link)
{
    struct engine *e = ctx;
    if (e->phase == ENGINE_JOINING) joining_connected(e);
    else links_connected(e->links, link);
}

static void on_received(void *ctx, struct io_link *link, const uint8_t *data, size_t size)
{
    struct engine *e = ctx;
    if (e->phase == ENGINE_JOINING) joining_received(e, data, size);
    else links_received(e->links, link, data, size);
}

static void on_link_closed(void *ctx, struct io_link *link, enum io_close reason)
{
    struct engine *e = ctx;
    if (e->phase == ENGINE_JOINING) joining_closed(e);
    else links_closed(e->links, link, reason);
}

const struct io_events engine_events = {
    .turn = on_turn,
    .alarm = on_alarm,
    .woken = on_woken,
    .accepted = on_accepted,
    .connected = on_connected,
    .received = on_received,
    .closed = on_link_closed,
};
