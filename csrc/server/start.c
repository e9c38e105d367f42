/* Starting a node: its directory, the consensus core with what the directory holds, and the links. */
#include "server/engine_state.h"

#include <stdio.h>

#include "base/mem.h"
#include "store/format.h"
#include "store/snapshot.h"

#define DEFAULT_SEGMENT_BYTES (16u << 20)
#define DEFAULT_SPARES 2u
#define SEAL_AFTER_US (200 * US_PER_MS)
#define APPEND_BYTES (1u << 20)       /* entries in one message */
#define WINDOW_BYTES (16u << 20)      /* entries on the way to one follower */
#define CLOCK_DRIFT_PART 10u          /* of an election timeout: so far may two clocks run apart in its course */
#define UNCOMMITTED_BYTES (64u << 20)
#define OTHER_PART 8u                 /* of cache_bytes: frames and writes on their way, the index of segments */

/* ---- the store ---- */

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

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
    channel_progress(ctx, done, total);
}

static int open_store(struct engine *e, struct store_recovered *recovered, struct err *err)
{
    static const struct store_events events = {on_persisted, on_store_failed, on_room};
    struct store_config config = {
        .dir = e->dir,
        .segment_bytes = e->config.segment_bytes > 0 ? e->config.segment_bytes : DEFAULT_SEGMENT_BYTES,
        .spares = e->config.spares > 0 ? e->config.spares : DEFAULT_SPARES,
        .seal_after_us = SEAL_AFTER_US,
        .identity = {.node = e->config.id},
        .rejoin = e->config.rejoin,
        .progress = on_progress,
        .progress_ctx = e->channel,
    };
    if (strlen(e->name) >= sizeof config.identity.name) return err_set(err, ERR_INVALID, "name: longer than 64 bytes");
    memcpy(config.identity.name, e->name, strlen(e->name) + 1);
    int rv = OK;
    if (e->joining.joined.id != 0) {
        config.identity.node = e->joining.joined.id;
        memcpy(config.identity.cluster, e->joining.joined.cluster, sizeof config.identity.cluster);
        memcpy(config.identity.list, e->joining.joined.list, sizeof config.identity.list);
    } else {
        members_cluster_id(&e->config.members, e->name, config.identity.cluster);
        rv = members_format(&e->config.members, config.identity.list, sizeof config.identity.list, err);
    }
    if (rv == OK) rv = store_open(&e->store, e->io, &config, &events, e, recovered, err);
    return rv;
}

/* ---- who the members are ---- */

/* The first record of the newest snapshot. Blocks, as all does while a node starts. */
static int read_snapshot_conf(struct engine *e, const struct store_snapshot *snapshot, struct conf *conf,
                              struct err *err)
{
    char path[FORMAT_PATH_MAX];
    struct snapshot_scan *scan = mem_alloc(sizeof *scan);
    const uint8_t *bytes, *record;
    uint8_t kind;
    uint32_t record_size;
    size_t size;
    if (scan == NULL) return err_set(err, ERR_NOMEM, "out of memory");
    format_snapshot_path(path, e->dir, snapshot->index, snapshot->term);
    int rv = snapshot_scan_open(scan, e->io, path, NULL, NULL, err);
    if (rv == OK) {
        rv = snapshot_scan_next(scan, &bytes, &size, err);
        struct reader from = {.data = bytes, .size = rv == OK ? size : 0};
        bool found = rv == OK && snapshot_record_next(&from, &kind, &record, &record_size) && kind == SNAPSHOT_CONF;
        if (found) rv = conf_read(record, record_size, conf, err);
        else if (rv == OK) rv = err_set(err, ERR_CORRUPT, "%s: it does not begin with a configuration", path);
        snapshot_scan_close(scan);
    }
    mem_free(scan);
    return rv;
}

/* The configuration that the log begins with, then those in it. */
static int recover_confs(struct engine *e, const struct store_recovered *recovered, struct err *err)
{
    struct members first;
    struct conf conf;
    int rv = members_parse(&first, e->identity.list, err);
    if (rv != OK) return rv;
    conf = conf_first(&first);
    if (recovered->snapshot.index > 0) rv = read_snapshot_conf(e, &recovered->snapshot, &conf, err);
    if (rv == OK && !conf_write(&e->channel->conf, &conf)) rv = err_set(err, ERR_NOMEM, "out of memory");
    if (rv == OK && confs_add(&e->confs, recovered->snapshot.index, recovered->snapshot.term, &conf) != OK)
        rv = err_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < recovered->n_confs && rv == OK; i++) {
        struct entry entry = entry_view(recovered->confs[i]);
        rv = conf_read(entry.payload, entry.payload_size, &conf, err);
        if (rv == OK && confs_add(&e->confs, entry.index, entry.term, &conf) != OK)
            rv = err_set(err, ERR_NOMEM, "out of memory");
    }
    if (rv == OK) e->members = confs_latest(&e->confs)->conf.members;
    return rv;
}

/* ---- the core ---- */

static int start_core(struct engine *e, const struct store_recovered *recovered, struct err *err)
{
    struct raft_config config = {.id = e->identity.node,
                                 .seed = io_random(e->io),
                                 .election_timeout_us = e->config.election_timeout_us,
                                 .heartbeat_us = e->config.heartbeat_us,
                                 .append_bytes = APPEND_BYTES,
                                 .window_bytes = WINDOW_BYTES,
                                 .uncommitted_bytes = UNCOMMITTED_BYTES,
                                 .cache_bytes = e->config.cache_bytes - e->config.cache_bytes / OTHER_PART,
                                 .lease = e->config.lease,
                                 .clock_drift_us = e->config.election_timeout_us / CLOCK_DRIFT_PART,
                                 .priority = e->config.priority,
                                 .withhold = readmission_withholds(e, &confs_latest(&e->confs)->conf),
                                 .tap = e->config.tap};
    struct raft_conf_at *confs = mem_zero(e->confs.count, sizeof *confs);
    if (confs == NULL) return err_set(err, ERR_NOMEM, "no memory for the consensus core");
    for (size_t i = 1; i < e->confs.count; i++) {
        confs[i - 1] = (struct raft_conf_at){.index = e->confs.list[i].index, .conf = e->confs.list[i].conf.raft};
    }
    struct raft_initial initial = {.term = recovered->term,
                                   .vote = recovered->vote,
                                   .snapshot = recovered->snapshot.index,
                                   .snapshot_term = recovered->snapshot.term,
                                   .last = recovered->last,
                                   .runs = recovered->runs,
                                   .n_runs = recovered->n_runs,
                                   .applied = recovered->snapshot.index,
                                   .conf = e->confs.list[0].conf.raft,
                                   .confs = confs,
                                   .n_confs = e->confs.count - 1};
    e->feed.next = recovered->snapshot.index + 1;
    int rv = raft_new(&e->raft, &config, &initial, io_now(e->io), err);
    mem_free(confs);
    /* Nobody else could lead: there is nothing to wait for. */
    if (rv == OK && e->members.count == 1) rv = raft_campaign(e->raft, io_now(e->io));
    if (rv == OK && recovered->snapshot.index > 0) snapshotting_restore(e);
    return rv == ERR_NOMEM ? err_set(err, rv, "no memory for the consensus core") : rv;
}

/* ---- the links ---- */

static int start_links(struct engine *e, const struct store_recovered *recovered, struct err *err)
{
    const struct member *me = members_find(&e->members, e->identity.node);
    const char *listen = e->listen != NULL ? e->listen : me != NULL ? me->address : NULL;
    if (listen == NULL) return err_set(err, ERR_INVALID, "listen: it is not known where to listen");
    struct links_config config = {.io = e->io,
                                  .store = e->store,
                                  .identity = &e->identity,
                                  .epoch = recovered->epoch,
                                  .before = e->before,
                                  .rejoining = recovered->rejoining,
                                  .address = me != NULL ? me->address : listen,
                                  .election_timeout_us = e->config.election_timeout_us,
                                  .heartbeat_us = e->config.heartbeat_us};
    e->links = links_new(&config, &engine_peers, e);
    if (e->links == NULL || links_set(e->links, &e->members) != OK)
        return err_set(err, ERR_NOMEM, "no memory for the links");
    return io_listen(e->io, listen, &e->server, err);
}

/* ---- all of it ---- */

static int start_all(struct engine *e, const struct store_recovered *recovered, struct err *err)
{
    struct channel *c = e->channel;
    e->identity = recovered->identity;
    e->epoch = recovered->epoch;
    memcpy(e->before, recovered->lives_before, sizeof e->before);
    e->rejoining = recovered->rejoining;
    e->conf_news = true;
    c->node = e->identity.node;
    c->epoch = e->epoch;
    c->dir = e->dir;
    memcpy(c->cluster, e->identity.cluster, sizeof c->cluster);
    pending_start(&e->pending, channel_first_sequence(e->epoch));
    int rv = recover_confs(e, recovered, err);
    if (rv == OK) rv = start_core(e, recovered, err);
    if (rv == OK) rv = start_links(e, recovered, err);
    return rv;
}

/* What was found, for people. */
static void note_found(struct engine *e, const struct store_recovered *recovered)
{
    char *note = e->channel->start_note;
    size_t size = sizeof e->channel->start_note;
    if (recovered->set_aside[0] != 0) {
        snprintf(note, size, "%s; what was there has been set aside in %s, and the others will refill this node",
                 recovered->damaged, recovered->set_aside);
    } else if (recovered->damaged[0] != 0) {
        snprintf(note, size, "%s; the log has what it covered", recovered->damaged);
    }
}

static void tell_started(struct engine *e, int code)
{
    channel_notice(e->channel, (struct ring_item){.kind = NOTICE_STARTED, .code = code});
}

/* With a directory that is open: the rest. */
static void start_opened(struct engine *e, struct store_recovered *recovered)
{
    note_found(e, recovered);
    e->start_code = start_all(e, recovered, &e->channel->start_error);
    store_recovered_free(recovered);
    e->phase = e->start_code == OK ? ENGINE_RUNNING : ENGINE_CLOSING;
    e->news = true;
    if (e->start_code == OK) {
        status_publish(e, io_now(e->io)); /* so that the host knows what the log held before this life adds to it */
        tell_started(e, OK);
    }
    io_alarm(e->io, io_now(e->io)); /* the first turn */
}

int engine_start(struct engine *e)
{
    struct store_recovered recovered = {0};
    ASSERT(e->phase == ENGINE_NEW);
    e->io->events = &engine_events;
    e->io->engine = e;
    int rv = open_store(e, &recovered, &e->channel->start_error);
    if (rv == ERR_INVALID && e->config.n_join > 0) { /* the directory does not know who this is */
        joining_begin(e);
        return OK;
    }
    if (rv != OK) {
        e->store = NULL;
        tell_started(e, rv);
        return rv;
    }
    start_opened(e, &recovered);
    return OK;
}

void start_joined(struct engine *e)
{
    struct store_recovered recovered = {0};
    int rv = open_store(e, &recovered, &e->channel->start_error);
    if (rv == OK) {
        start_opened(e, &recovered);
        return;
    }
    e->store = NULL;
    e->start_code = rv;
    e->phase = ENGINE_CLOSING;
}
