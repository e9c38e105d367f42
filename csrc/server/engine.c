#include "server/engine_state.h"

#include "base/mem.h"
#include "wire/message.h"

#define DEFAULT_SEGMENT_BYTES (16u << 20)
#define DEFAULT_SPARES 2u
#define SEAL_AFTER_US (200 * US_PER_MS)
#define ALARM_APART_US US_PER_MS      /* at least, between two alarms */
#define APPEND_BYTES (1u << 20)       /* entries in one message */
#define WINDOW_BYTES (16u << 20)      /* entries on the way to one follower */
#define UNCOMMITTED_BYTES (64u << 20)

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
    }
    feed_free(e);
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

/* ---- starting ---- */

static void on_persisted(void *ctx, uint64_t seq)
{
    struct engine *e = ctx;
    struct err reason;
    if (e->phase != ENGINE_RUNNING) return;
    int rv = raft_persisted(e->raft, seq, io_now(e->io));
    if (rv != ERR_NOMEM) return; /* corrupt: ready_drain tells */
    err_set(&reason, ERR_NOMEM, "out of memory while taking note of a durable write");
    engine_fail(e, &reason);
}

static void on_store_failed(void *ctx, const struct err *reason)
{
    engine_fail(ctx, reason);
}

static void on_room(void *ctx, bool has_room)
{
    struct engine *e = ctx;
    (void)has_room; /* status asks for it */
    e->news = true;
}

static void on_frame(void *ctx, raft_id from, const struct frame *f)
{
    struct engine *e = ctx;
    struct raft_message m;
    if (e->phase != ENGINE_RUNNING) return;
    if (f->type == FRAME_FORWARD) proposals_on_forward(e, from, f);
    else if (f->type == FRAME_FORWARD_REPLY) proposals_on_forward_reply(e, from, f);
    else if (f->type == FRAME_MESSAGE && message_read(f, &m, NULL) == OK) {
        /* A refused message (malformed, or no memory for it) is as good as lost on the way: Raft copes. */
        if (m.from == from) raft_step(e->raft, &m, io_now(e->io));
        message_free(&m);
    }
}

static void on_up(void *ctx, raft_id id)
{
    struct engine *e = ctx;
    if (id == e->leader) pending_resend_all(&e->pending);
    e->news = true;
}

static void on_down(void *ctx, raft_id id)
{
    struct engine *e = ctx;
    raft_unreachable(e->raft, id);
    if (id == e->leader) pending_resend_all(&e->pending);
    e->news = true;
}

/* The links may have been closed meanwhile. What became of it the store tells. */
static void on_remembered(void *ctx, int status)
{
    const struct remembering *r = ctx;
    (void)status;
    if (r->engine->links != NULL) links_remembered(r->engine->links, r->id);
}

static bool on_remember(void *ctx, raft_id id, uint64_t incarnation)
{
    struct engine *e = ctx;
    struct remembering *r = &e->remembering[members_find(&e->members, id) - e->members.list];
    *r = (struct remembering){.engine = e, .id = id};
    return store_remember_peer(e->store, id, incarnation, 1, on_remembered, r) == OK;
}

static const struct io_events engine_events;

static int open_store(struct engine *e, struct store_recovered *recovered, struct err *err)
{
    static const struct store_events events = {on_persisted, on_store_failed, on_room};
    struct store_config config = {
        .dir = e->dir,
        .segment_bytes = e->config.segment_bytes > 0 ? e->config.segment_bytes : DEFAULT_SEGMENT_BYTES,
        .spares = e->config.spares > 0 ? e->config.spares : DEFAULT_SPARES,
        .seal_after_us = SEAL_AFTER_US,
        .identity = {.node = e->config.id},
    };
    if (strlen(e->name) >= sizeof config.identity.name) return err_set(err, ERR_INVALID, "name: longer than 64 bytes");
    memcpy(config.identity.name, e->name, strlen(e->name) + 1);
    members_cluster_id(&e->config.members, e->name, config.identity.cluster);
    int rv = members_format(&e->config.members, config.identity.list, sizeof config.identity.list, err);
    if (rv == OK) rv = store_open(&e->store, e->io, &config, &events, e, recovered, err);
    return rv;
}

static int start_core(struct engine *e, const struct store_recovered *recovered, struct err *err)
{
    struct raft_config config = {.id = e->identity.node,
                                 .seed = io_random(e->io),
                                 .election_timeout_us = e->config.election_timeout_us,
                                 .heartbeat_us = e->config.heartbeat_us,
                                 .append_bytes = APPEND_BYTES,
                                 .window_bytes = WINDOW_BYTES,
                                 .uncommitted_bytes = UNCOMMITTED_BYTES,
                                 .cache_bytes = e->config.cache_bytes};
    struct raft_initial initial = {.term = recovered->term,
                                   .vote = recovered->vote,
                                   .last = recovered->last,
                                   .runs = recovered->runs,
                                   .n_runs = recovered->n_runs,
                                   .conf = members_conf(&e->members)};
    e->feed.next = 1;
    int rv = raft_new(&e->raft, &config, &initial, io_now(e->io), err);
    /* Nobody else could lead: there is nothing to wait for. */
    if (rv == OK && e->members.count == 1) rv = raft_campaign(e->raft, io_now(e->io));
    return rv == ERR_NOMEM ? err_set(err, rv, "no memory for the consensus core") : rv;
}

static int start_links(struct engine *e, struct err *err)
{
    static const struct links_events events = {on_frame, on_up, on_down, on_remember};
    struct links_config config = {.io = e->io,
                                  .store = e->store,
                                  .identity = &e->identity,
                                  .members = &e->members,
                                  .election_timeout_us = e->config.election_timeout_us,
                                  .heartbeat_us = e->config.heartbeat_us};
    e->links = links_new(&config, &events, e);
    if (e->links == NULL) return err_set(err, ERR_NOMEM, "no memory for the links");
    const char *address = e->listen != NULL ? e->listen : members_find(&e->members, e->identity.node)->address;
    return io_listen(e->io, address, &e->server, err);
}

static int start_all(struct engine *e, const struct store_recovered *recovered, struct err *err)
{
    e->identity = recovered->identity;
    e->epoch = recovered->epoch;
    e->channel->node = e->identity.node;
    e->channel->epoch = e->epoch;
    pending_start(&e->pending, channel_first_sequence(e->epoch));
    int rv = members_parse(&e->members, e->identity.list, err);
    if (rv == OK && members_find(&e->members, e->identity.node) == NULL) {
        rv = err_set(err, ERR_INVALID, "%s: member %" PRIu64 " is not in its own list, %.200s", e->dir, e->identity.node,
                     e->identity.list);
    }
    if (rv == OK) rv = start_core(e, recovered, err);
    if (rv == OK) rv = start_links(e, err);
    return rv;
}

static void tell_started(struct engine *e, int code)
{
    channel_notice(e->channel, (struct ring_item){.kind = NOTICE_STARTED, .code = code});
}

int engine_start(struct engine *e)
{
    struct store_recovered recovered = {0};
    struct err *err = &e->channel->start_error;
    ASSERT(e->phase == ENGINE_NEW);
    e->io->events = &engine_events;
    e->io->engine = e;
    int rv = open_store(e, &recovered, err);
    if (rv != OK) {
        e->store = NULL;
        tell_started(e, rv);
        return rv;
    }
    e->start_code = start_all(e, &recovered, err);
    store_recovered_free(&recovered);
    e->phase = e->start_code == OK ? ENGINE_RUNNING : ENGINE_CLOSING;
    e->news = true;
    if (e->start_code == OK) {
        status_publish(e, io_now(e->io)); /* so that the host knows what the log held before this life adds to it */
        tell_started(e, OK);
    }
    io_alarm(e->io, io_now(e->io)); /* the first turn */
    return OK;
}

/* ---- closing ---- */

static void on_store_closed(void *ctx)
{
    struct engine *e = ctx;
    e->store = NULL;
    e->phase = ENGINE_CLOSED;
    if (e->start_code != OK) tell_started(e, e->start_code);
    else channel_notice(e->channel, (struct ring_item){.kind = NOTICE_CLOSED});
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
    if (e->phase != ENGINE_CLOSING) return;
    status_publish(e, io_now(e->io));
    e->phase = ENGINE_CLOSED;
    io_alarm(e->io, NEVER_US);
    store_close(e->store, on_store_closed, e);
}

/* ---- events ---- */

static void on_request(struct engine *e, struct ring_item item)
{
    switch (item.kind) {
    case REQUEST_PROPOSE: proposals_add(e, item.pointer); break;
    case REQUEST_CANCEL: proposals_cancel(e, item.value); break;
    case REQUEST_APPLIED: feed_applied(e, item.pointer); break;
    case REQUEST_CLOSE:
    case REQUEST_HALT:
        if (e->phase == ENGINE_RUNNING) raft_step_down(e->raft, io_now(e->io));
        if (e->phase == ENGINE_RUNNING || e->phase == ENGINE_FAILED) e->phase = ENGINE_CLOSING;
        e->news = true;
        break;
    default: ASSERT(!"a known request");
    }
}

static void on_woken(void *ctx)
{
    struct engine *e = ctx;
    struct ring_item item;
    do {
        while (ring_pop(&e->channel->requests, &item)) on_request(e, item);
    } while (!ring_sleep(&e->channel->requests));
}

/* When the write in flight has been so for too long; NEVER_US when there is none, or nothing to be done about it. */
static uint64_t stall_deadline(const struct engine *e)
{
    uint64_t since_us = store_write_since(e->store);
    return since_us == 0 || since_us == e->stalled_us ? NEVER_US : since_us + e->config.election_timeout_us;
}

/* Not every write is told of when it is done (a seal, a part of a batch): so it is asked for. */
static void note_stall_end(struct engine *e)
{
    if (e->stalled_us == 0 || e->stalled_us == store_write_since(e->store)) return;
    e->stalled_us = 0;
    e->news = true;
}

/* A leader whose disk hangs steps down, once per stall: the others elect one that can store what it promises. */
static void check_stall(struct engine *e, uint64_t now)
{
    if (now < stall_deadline(e)) return;
    e->stalled_us = store_write_since(e->store);
    e->news = true;
    raft_step_down(e->raft, now);
}

static void on_alarm(void *ctx)
{
    struct engine *e = ctx;
    uint64_t now = io_now(e->io);
    if (e->phase != ENGINE_RUNNING) return;
    e->alarmed_us = now;
    raft_tick(e->raft, now); /* out of memory: the next alarm tries again */
    links_tick(e->links);
    store_tick(e->store);
    check_stall(e, now);
    if (now < e->resend_at_us) return;
    /* A copy may get lost on the way without any link breaking; sending it twice does no harm. What is in this node's
     * own log is not on any way. */
    if (e->leader != e->identity.node) pending_resend_late(&e->pending, now, 2 * e->config.election_timeout_us);
    e->resend_at_us = now + e->config.election_timeout_us;
}

static uint64_t next_alarm(const struct engine *e, uint64_t now)
{
    uint64_t at_us = MIN(MIN(raft_deadline(e->raft), links_deadline(e->links)),
                         MIN(store_deadline(e->store), stall_deadline(e)));
    if (e->retry_at_us > now) at_us = MIN(at_us, e->retry_at_us);
    if (e->pending.lowest < e->pending.next) at_us = MIN(at_us, e->resend_at_us);
    /* What an alarm could not do for lack of memory is due at once, again and again. */
    return MAX(at_us, e->alarmed_us + ALARM_APART_US);
}

static void on_turn(void *ctx)
{
    struct engine *e = ctx;
    if (e->phase == ENGINE_RUNNING) {
        note_stall_end(e);
        proposals_flush(e);
        ready_drain(e);
    }
    if (e->phase == ENGINE_RUNNING) {
        feed_pump(e);
        links_flush(e->links);
    }
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
    links_connected(((struct engine *)ctx)->links, link);
}

static void on_received(void *ctx, struct io_link *link, const uint8_t *data, size_t size)
{
    links_received(((struct engine *)ctx)->links, link, data, size);
}

static void on_link_closed(void *ctx, struct io_link *link, enum io_close reason)
{
    links_closed(((struct engine *)ctx)->links, link, reason);
}

static const struct io_events engine_events = {
    .turn = on_turn,
    .alarm = on_alarm,
    .woken = on_woken,
    .accepted = on_accepted,
    .connected = on_connected,
    .received = on_received,
    .closed = on_link_closed,
};
