#include "store/recover.h"

#include "base/mem.h"
#include "store/internal.h"

/* The log tells nobody. */
static void on_persisted(void *ctx, uint64_t seq)
{
    *(uint64_t *)ctx = seq;
}

static void on_failed(void *ctx, const struct err *e)
{
    (void)ctx;
    (void)e;
}

static void on_room(void *ctx, bool has_room)
{
    (void)ctx;
    (void)has_room;
}

/* The configuration that a snapshot begins with. */
static int read_snapshot_conf(struct store *s, const struct store_snapshot *snapshot, struct conf *out, struct err *e)
{
    char path[FORMAT_PATH_MAX];
    const uint8_t *bytes, *record;
    size_t size;
    uint32_t record_size;
    uint8_t kind;
    format_snapshot_path(path, s->dir, snapshot->index, snapshot->term);
    struct snapshot_scan *scan = mem_alloc(sizeof *scan);
    if (scan == NULL) return err_set(e, ERR_NOMEM, "out of memory while reading %s", path);
    int status = snapshot_scan_open(scan, s->io, path, s->identity.cluster, NULL, e);
    if (status == OK) {
        status = snapshot_scan_next(scan, &bytes, &size, e);
        struct reader r = {.data = bytes, .size = status == OK ? size : 0};
        bool there = snapshot_record_next(&r, &kind, &record, &record_size);
        if (status == OK && !there)
            status = err_set(e, ERR_CORRUPT, "%s: it does not begin with a configuration", path);
        if (status == OK) status = conf_read(record, record_size, out, e);
        snapshot_scan_close(scan);
    }
    mem_free(scan);
    return status;
}

/* The newest configuration: of the log, else of the snapshot, else the first one. */
static int newest_conf(struct store *s, const struct store_recovered *r, struct conf *out, struct err *e)
{
    if (r->n_confs > 0) {
        struct entry entry = entry_view(r->confs[r->n_confs - 1]);
        return conf_read(entry.payload, entry.payload_size, out, e);
    }
    if (r->snapshot.index > 0) return read_snapshot_conf(s, &r->snapshot, out, e);
    struct members first;
    if (members_parse(&first, r->identity.list, e) != OK) return e->code;
    *out = conf_first(&first);
    return OK;
}

/* The same without the others; they go into *lost. */
static int alone(const struct store_recovered *r, const char *address, uint64_t incarnation, struct conf *conf,
                 struct members *lost, struct err *e)
{
    raft_id node = r->identity.node;
    const struct member *self = members_find(&conf->members, node);
    struct members members = {0};
    *lost = (struct members){0};
    if (r->rejoining || (self == NULL && address == NULL)) {
        return err_set(e, ERR_REFUSED, "node %" PRIu64 " %s: take the directory of another one", node,
                       r->rejoining ? "was about to rejoin, and may have forgotten anything" : "is no member");
    }
    if (members_add(&members, node, address != NULL ? address : self->address, e) != OK) return e->code;
    for (size_t i = 0; i < conf->members.count; i++) {
        if (conf->members.list[i].id != node) lost->list[lost->count++] = conf->members.list[i];
    }
    members.list[0].incarnation = incarnation;
    conf->members = members;
    conf->raft = members_conf(&members);
    conf->next_id = MAX(conf->next_id, node + 1);
    return OK;
}

/* The leader's clock in the last entry: it never falls. */
static uint64_t last_time(struct store *s, const struct store_recovered *r)
{
    struct store_read read = {.first = r->last, .last = r->last, .max_bytes = 1};
    uint64_t time_us = r->snapshot.time_us;
    if (r->last < r->first || read_now(s, &read) != OK) return time_us;
    time_us = MAX(time_us, entry_view(read.blocks[0]).time_us);
    block_unref(read.blocks[0]);
    mem_free(read.blocks);
    return time_us;
}

static int append(struct store *s, const struct store_recovered *r, const struct conf *conf,
                  const struct recover_report *report, struct err *e)
{
    struct buf payload = {0};
    struct block *block = conf_write(&payload, conf) ? entry_new(RAFT_ENTRY_CONFIG, payload.data, payload.size) : NULL;
    buf_free(&payload);
    if (block == NULL) return err_set(e, ERR_NOMEM, "out of memory while writing to %s", s->dir);
    entry_stamp(block, report->index, report->term, MAX(io_wall(s->io), last_time(s, r)));
    struct store_batch batch = {
        .seq = 1, .vote_changed = true, .term = report->term, .vote = report->node, .first = report->index,
        .blocks = &block, .n = 1};
    int status = store_append(s, &batch);
    block_unref(block);
    if (status != OK) return err_set(e, status, "out of memory while writing to %s", s->dir);
    if (s->failed) {
        *e = s->writer.error;
        return e->code;
    }
    if (*(uint64_t *)s->ctx == 1) return OK;
    if (s->keeper.status == OK) return err_set(e, ERR_NOMEM, "out of memory while writing to %s", s->dir);
    *e = s->keeper.error;
    return e->code;
}

/* Those that know the old incarnation will not count on the new one; and this one waits for nobody. */
static int become_another(struct store *s, struct recover_report *report, struct err *e)
{
    report->incarnation = s->identity.incarnation;
    s->peers.n = 0;
    int status = peers_write(&s->peers, e);
    return status == OK ? identity_write(s->io, s->dir, &s->identity, e) : status;
}

/* Frees s. */
static int recover(struct store *s, const struct store_config *config, const char *address,
                   struct recover_report *out, struct err *e)
{
    struct store_recovered r;
    struct conf conf;
    int status = recovery_run(s, config, &r, e);
    if (status != OK) {
        store_destroy(s, s->io);
        return status;
    }
    *out = (struct recover_report){.node = r.identity.node, .index = r.last + 1, .term = r.term + 1};
    if (r.last >= r.first) out->term = MAX(out->term, r.runs[r.n_runs - 1].term + 1);
    status = newest_conf(s, &r, &conf, e);
    if (status == OK) s->identity.incarnation = identity_draw_incarnation(s->io);
    if (status == OK) status = alone(&r, address, s->identity.incarnation, &conf, &out->lost, e);
    if (status == OK) writer_kick(s);
    if (status == OK) status = append(s, &r, &conf, out, e);
    if (status == OK) status = become_another(s, out, e);
    store_recovered_free(&r);
    store_finish(s);
    store_destroy(s, NULL);
    return status;
}

int recover_alone(struct io *io, const char *dir, const char *address, struct recover_report *out, struct err *e)
{
    static const struct store_events events = {on_persisted, on_failed, on_room};
    struct store_config config = {.dir = dir, .segment_bytes = STORE_SEGMENT_MIN, .spares = 1};
    struct store *s;
    uint64_t persisted = 0;
    int status = identity_read(io, dir, &config.identity, e);
    if (status == ERR_NOENT) return err_set(e, ERR_FOREIGN, "%s is not a directory of a node", dir);
    if (status == OK) status = store_prepare(&s, io, &config, &events, &persisted, e);
    if (status != OK) return status;
    s->offline = true;
    return recover(s, &config, address, out, e);
}
