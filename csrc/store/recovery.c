/* What a directory holds, found out at the start: identity, epoch, peers, snapshot and log; how it begins, and how one
 * that is lost begins anew. What of a damaged log counts: store/scan.h. */
#include <stdio.h>

#include "base/mem.h"
#include "store/internal.h"
#include "store/scan.h"

#define LIFE_SPREAD US_PER_S

struct recovery {
    struct scan log;     /* log.s: the store that is filled */
    bool identity;       /* there is one */
    bool created;        /* the directory is new, or made anew */
    bool is_void;        /* the log is: the snapshot is ahead of it */
    bool set_aside;      /* what was here has been, just now */
    char damaged[ERR_TEXT_MAX]; /* the newest snapshot is */
    char stranger[64];   /* a name that is not ours; empty: there is none */
};

/* ---- the directory ---- */

static bool ends_with(const char *name, const char *end)
{
    size_t size = strlen(name), end_size = strlen(end);
    return size >= end_size && strcmp(name + size - end_size, end) == 0;
}

static bool is_ours(const char *name)
{
    static const char *const names[] = {"lock", "identity", "epoch", "peers", "rejoin", "lost+found"};
    uint64_t file, term;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (strcmp(name, names[i]) == 0) return true;
    }
    return format_segment_name(name, &file) || format_snapshot_name(name, &file, &term) || rejoin_is_set_aside(name);
}

/* Removes what was unfinished when the last process ended, and notes names that are not ours. */
static int tidy(struct recovery *r, const struct io_names *names, struct err *e)
{
    struct store *s = r->log.s;
    for (size_t i = 0; i < names->count; i++) {
        const char *name = names->names[i];
        if (strcmp(name, "identity") == 0) r->identity = true;
        if (ends_with(name, ".tmp")) {
            char path[FORMAT_PATH_MAX];
            if (strlen(s->dir) + strlen(name) + 2 > sizeof path) continue;
            format_path(path, s->dir, name);
            if (io_remove(s->io, path, e) != OK) return e->code;
        } else if (!is_ours(name)) {
            snprintf(r->stranger, sizeof r->stranger, "%s", name);
        }
    }
    return OK;
}

static int add_files(struct recovery *r, const struct io_names *names, struct err *e)
{
    for (size_t i = 0; i < names->count; i++) {
        uint64_t file;
        if (format_segment_name(names->names[i], &file) && scan_add(&r->log, file, e) != OK) return e->code;
    }
    return OK;
}

/* ---- a new directory ---- */

/* Later than the one before, and than any before that, if the clock is right. Of two lives that begin with copies of
 * one directory, both must not be the same. */
static uint64_t next_life(struct store *s)
{
    return MAX(io_wall(s->io), s->epoch.life + 1) + io_random(s->io) % LIFE_SPREAD;
}

/* What an interrupted creation has left goes. */
static int clear_leftovers(struct recovery *r, const struct io_names *names, struct err *e)
{
    struct store *s = r->log.s;
    uint64_t index, term;
    for (size_t i = 0; i < names->count; i++) {
        if (!format_snapshot_name(names->names[i], &index, &term)) continue;
        return err_set(e, ERR_CORRUPT, "%s/identity is missing, but there is a snapshot, %s", s->dir, names->names[i]);
    }
    for (size_t i = 0; i < r->log.n; i++) {
        char path[FORMAT_PATH_MAX];
        format_segment_path(path, s->dir, r->log.found[i].segment->file);
        if (r->log.found[i].header.state == SEGMENT_LIVE) {
            return err_set(e, ERR_CORRUPT, "%s/identity is missing, but %s holds a log", s->dir, path);
        }
        if (io_remove(s->io, path, e) != OK) return e->code;
    }
    return OK;
}

/* The identity is written last: until then the directory counts as new. */
static int create(struct recovery *r, const struct io_names *names, const struct store_identity *identity,
                  struct err *e)
{
    struct store *s = r->log.s;
    if (clear_leftovers(r, names, e) != OK) return e->code;
    s->identity = *identity;
    s->epoch = (struct epoch){.life = next_life(s)}; /* of another directory than before, if there was one */
    memcpy(s->keeper.header.cluster, s->identity.cluster, sizeof s->identity.cluster);
    s->keeper.header.node = s->identity.node;

    struct segment *spare = mem_zero(1, sizeof *spare);
    if (spare == NULL) return err_set(e, ERR_NOMEM, "out of memory while creating %s", s->dir);
    spare->file = s->keeper.next_file++;
    spare->size = s->segment_bytes;
    if (keeper_prepare(&s->keeper, spare, e) != OK) {
        mem_free(spare);
        return e->code;
    }
    segments_push(&s->spares, spare);
    if (peers_write(&s->peers, e) != OK) return e->code;
    if (epoch_create(s->io, s->dir, &s->epoch, e) != OK) return e->code;
    return identity_write(s->io, s->dir, &s->identity, e);
}

/* ---- the snapshot and the log ---- */

/* What of the log is behind the snapshot, and whether it continues it (see store_open). */
static int join(struct recovery *r, struct err *e)
{
    struct store *s = r->log.s;
    struct map *map = &s->map;
    struct store_snapshot snapshot = store_snapshot(s);
    const char *more = r->damaged[0] != 0 ? "; a newer one is damaged: " : "";
    if (snapshot.index + 1 < map->first) {
        return err_set(e, ERR_CORRUPT, "%s: the log begins with entry %" PRIu64 ", and no snapshot holds what came "
                       "before (the newest sound one ends with entry %" PRIu64 ")%s%s", s->dir, map->first,
                       snapshot.index, more, r->damaged);
    }
    raft_term term = snapshot.index <= map->last ? map_term(map, snapshot.index) : 0;
    if (snapshot.index == 0 || term == snapshot.term) return OK;
    if (snapshot.index + 1 == map->first && term == 0) {
        map->base_term = snapshot.term;
        return OK;
    }
    if (snapshot.index + 1 == map->first && snapshot.index <= map->last) {
        return err_set(e, ERR_CORRUPT, "%s: the snapshot ends with entry %" PRIu64 " of term %" PRIu64 ", the log goes "
                       "on after one of term %" PRIu64, s->dir, snapshot.index, snapshot.term, term);
    }
    r->is_void = true;
    return OK;
}

/* Where a truncation has reached below the segments that are left, the term before the first entry is not known: it is
 * given up. */
static void know_first(struct map *map)
{
    if (map->first > 1 && map->first <= map->last && map->base_term == 0) map_skip(map, map->first);
}

/* ---- making sure of it ---- */

/* Writes size bytes at `at` of a file once more, as they are, so that what was read (from a page cache, perhaps) is
 * durable; over them the header of f, when it is given. *tail gets the last block. */
static int write_again(struct store *s, struct segment *segment, uint64_t at, size_t size,
                       const struct segment_header *header, uint8_t *tail, struct err *e)
{
    char path[FORMAT_PATH_MAX];
    struct io_file *file;
    size_t got = 0;
    format_segment_path(path, s->dir, segment->file);
    uint8_t *bytes = mem_aligned(IO_BLOCK, size);
    if (bytes == NULL) return err_set(e, ERR_NOMEM, "out of memory while reading %s", path);
    int status = io_open(s->io, path, IO_OPEN_WRITE | IO_OPEN_DIRECT, &file, e);
    if (status == OK) {
        status = io_read(s->io, file, at, bytes, size, &got, e);
        if (status == OK && got < size) status = err_set(e, ERR_IO, "%s: short read at offset %" PRIu64, path, at);
        if (status == OK && header != NULL) segment_header_put(bytes, header);
        if (status == OK) status = io_write(s->io, file, at, bytes, size, e);
        io_close(s->io, file);
    }
    if (status == OK && tail != NULL) memcpy(tail, bytes + size - IO_BLOCK, IO_BLOCK);
    mem_free(bytes);
    return status;
}

/* Decides where the log goes on: in the newest segment when that ends in a seal, else in a new one. The newest one may
 * hold no whole batch, when its first write was torn. */
static int secure_tail(struct recovery *r, const struct scanned *f, struct err *e)
{
    struct store *s = r->log.s;
    uint8_t tail[IO_BLOCK];
    char path[FORMAT_PATH_MAX];
    uint64_t end = f->segment->end;
    uint64_t from = f->batches <= 1 ? 0 : f->last_at / IO_BLOCK * IO_BLOCK;
    uint64_t to = (end + IO_BLOCK - 1) / IO_BLOCK * IO_BLOCK;
    if (write_again(s, f->segment, from, (size_t)(to - from), NULL, tail, e) != OK) return e->code;
    s->writer.open = f->batches > 0 && r->log.sealed && r->log.torn == 0;
    s->writer.sealed = r->log.sealed;
    if (s->writer.open) {
        format_segment_path(path, s->dir, f->segment->file);
        int status = io_open(s->io, path, IO_OPEN_WRITE | IO_OPEN_DIRECT, &f->segment->handle, e);
        if (status != OK) return status;
    }
    if (writer_init(s, tail)) return OK;
    return err_set(e, ERR_NOMEM, "out of memory while opening %s", s->dir);
}

static int secure(struct recovery *r, struct err *e)
{
    struct store *s = r->log.s;
    if (scan_check_reached(&r->log, s->epoch.batch, e) != OK) return e->code;
    for (size_t i = 0; i < r->log.n; i++) {
        struct scanned *f = &r->log.found[i];
        if (f->damaged && write_again(s, f->segment, 0, IO_BLOCK, &f->header, NULL, e) != OK) return e->code;
    }
    const struct scanned *newest = r->log.n > 0 ? &r->log.found[r->log.n - 1] : NULL;
    scan_hand_over(&r->log);
    s->writer.next_batch = r->log.next;
    s->writer.sealed = true;
    if (newest != NULL && secure_tail(r, newest, e) != OK) return e->code;
    if (newest == NULL && !writer_init(s, NULL)) {
        return err_set(e, ERR_NOMEM, "out of memory while opening %s", s->dir);
    }
    epoch_begin_life(&s->epoch, next_life(s));
    s->epoch.batch = writer_newest_batch(s);
    return epoch_update(s->io, s->dir, &s->epoch, e);
}

/* ---- a directory ---- */

static int must_exist(struct store *s, int status, const char *name, struct err *e)
{
    if (status != ERR_NOENT) return status;
    return err_set(e, ERR_CORRUPT, "%s/%s is missing", s->dir, name);
}

/* Opens a directory that has an identity. */
static int open_existing(struct recovery *r, const struct io_names *names, struct err *e)
{
    struct store *s = r->log.s;
    memcpy(s->keeper.header.cluster, s->identity.cluster, sizeof s->identity.cluster);
    s->keeper.header.node = s->identity.node;
    if (must_exist(s, peers_read(&s->peers, e), "peers", e) != OK) return e->code;
    if (must_exist(s, epoch_read(s->io, s->dir, &s->epoch, e), "epoch", e) != OK) return e->code;
    if (snapshots_recover(s, names, r->damaged, e) != OK) return e->code;
    if (add_files(r, names, e) != OK) return e->code;
    if (scan_read(&r->log, e) != OK) return e->code;
    if (join(r, e) != OK) return e->code;
    know_first(&s->map);
    return secure(r, e);
}

static int create_new(struct recovery *r, const struct io_names *names, const struct store_identity *identity,
                      struct err *e)
{
    struct store *s = r->log.s;
    r->created = true;
    s->identity.node = 0; /* files are not looked at as this node's */
    if (add_files(r, names, e) != OK) return e->code;
    if (create(r, names, identity, e) != OK) return e->code;
    map_init(&s->map, 0, 0);
    s->writer.next_batch = 1;
    s->writer.sealed = true;
    return writer_init(s, NULL) ? OK : err_set(e, ERR_NOMEM, "out of memory while creating %s", s->dir);
}

/* ---- a directory that is lost ---- */

/* Gives back what reading the old directory has left in s and r. */
static void forget(struct recovery *r)
{
    struct store *s = r->log.s;
    scan_forget(&r->log);
    r->is_void = false;
    segments_clear(&s->live, s->io);
    segments_clear(&s->spares, s->io);
    snapshots_free(s);
    writer_free(s);
    map_free(&s->map);
    s->writer.open = false;
    s->term = s->vote = 0;
}

/* Carries on from the mark: sets aside what is to be set aside, and makes the directory anew. */
static int replace(struct recovery *r, struct err *e)
{
    struct store *s = r->log.s;
    struct io_names names = {0};
    struct err ignored;
    if (s->rejoin.step == REJOIN_MOVING) {
        bool peers_lost = s->peers.n == 0 && peers_read(&s->peers, &ignored) != OK;
        if (rejoin_move(s->io, s->dir, &s->rejoin, peers_lost, e) != OK) return e->code;
        s->rejoin.step = REJOIN_MOVED;
        if (rejoin_write(s->io, s->dir, &s->rejoin, e) != OK) return e->code;
        r->set_aside = true;
    } else {
        peers_read(&s->peers, &ignored);
    }
    int status = io_list(s->io, s->dir, &names, e);
    if (status == OK) status = create_new(r, &names, &s->rejoin.identity, e);
    io_names_free(&names);
    return status;
}

/* The first list names no other member. */
static bool is_alone(const struct store_identity *identity)
{
    return identity->list[0] != 0 && strchr(identity->list, ' ') == NULL;
}

/* The directory is to be made anew: the mark first. lost: it held something, and *e says what is wrong with it. */
static int begin_replacing(struct recovery *r, const struct store_identity *wanted, bool lost, struct err *e)
{
    struct store *s = r->log.s;
    struct store_identity identity = *wanted, old;
    struct err ignored;
    if (lost && identity_read(s->io, s->dir, &old, &ignored) == OK) identity = old;
    if (identity.node == 0) return e->code; /* nobody knows whose it is */
    if (lost && is_alone(&identity)) {
        return err_wrap(e, "%s cannot be refilled by others, since its node is the only first member: repair it by "
                        "hand, or remove the node from its cluster and let a new one join", s->dir);
    }
    identity.incarnation = identity_draw_incarnation(s->io);
    if (lost) forget(r);
    if (lost) memcpy(r->damaged, e->text, sizeof r->damaged);
    s->rejoin = (struct rejoin){
        .step = lost ? REJOIN_MOVING : REJOIN_MOVED,
        .number = lost ? MAX(io_wall(s->io), s->epoch.life) : 0,
        .identity = identity,
    };
    if (rejoin_write(s->io, s->dir, &s->rejoin, e) != OK) return e->code;
    return replace(r, e);
}

/* ---- all of it ---- */

static int report_log(struct recovery *r, struct store_recovered *out)
{
    struct store *s = r->log.s;
    struct store_snapshot snapshot = store_snapshot(s);
    out->before = snapshot.term;
    out->first = snapshot.index + 1;
    out->last = snapshot.index;
    if (r->is_void) return OK;
    out->before = s->map.base_term;
    out->first = s->map.first;
    out->last = s->map.last;
    out->runs = mem_alloc(s->map.n_runs * sizeof *out->runs);
    if (out->runs == NULL) return ERR_NOMEM;
    out->n_runs = s->map.n_runs;
    if (out->n_runs > 0) memcpy(out->runs, s->map.runs, out->n_runs * sizeof *out->runs);
    size_t covered = 0; /* of the configurations: by the snapshot */
    while (covered < r->log.n_confs && entry_view(r->log.confs[covered]).index <= snapshot.index) covered++;
    for (size_t i = 0; i < covered; i++) block_unref(r->log.confs[i]);
    r->log.n_confs -= covered;
    if (covered > 0) memmove(r->log.confs, r->log.confs + covered, r->log.n_confs * sizeof *r->log.confs);
    out->confs = r->log.confs;
    out->n_confs = r->log.n_confs;
    r->log.confs = NULL;
    r->log.n_confs = 0;
    return OK;
}

static int report(struct recovery *r, struct store_recovered *out, struct err *e)
{
    struct store *s = r->log.s;
    *out = (struct store_recovered){
        .created = r->created,
        .identity = s->identity,
        .epoch = s->epoch.life,
        .rejoining = s->rejoin.step != 0,
        .term = s->term,
        .vote = s->vote,
        .snapshot = store_snapshot(s),
        .torn_bytes = r->log.torn,
    };
    memcpy(out->lives_before, s->epoch.before, sizeof out->lives_before);
    memcpy(out->damaged, r->damaged, sizeof out->damaged);
    if (r->set_aside) rejoin_set_aside_name(out->set_aside, s->rejoin.number);
    if (report_log(r, out) == OK) return OK;
    return err_set(e, ERR_NOMEM, "out of memory while opening %s", s->dir);
}

/* The mark is there, but not the new incarnation yet (store_rejoin). */
static int finish_renaming(struct store *s, struct err *e)
{
    if (s->rejoin.step != REJOIN_MOVED || s->identity.incarnation == s->rejoin.identity.incarnation) return OK;
    s->identity.incarnation = s->rejoin.identity.incarnation;
    return identity_write(s->io, s->dir, &s->identity, e);
}

/* Does the mark tell of a replacing that has not come to its end? */
static bool is_unfinished(const struct recovery *r)
{
    return r->log.s->rejoin.step == REJOIN_MOVING || (r->log.s->rejoin.step == REJOIN_MOVED && !r->identity);
}

static int open_any(struct recovery *r, const struct store_config *config, const struct io_names *names, struct err *e)
{
    struct store *s = r->log.s;
    struct store_identity wanted = config->identity;
    if (tidy(r, names, e) != OK || rejoin_read(s->io, s->dir, &s->rejoin, e) != OK) return e->code;
    if (r->identity && s->rejoin.step != REJOIN_MOVING) {
        if (identity_read(s->io, s->dir, &s->identity, e) != OK) return e->code;
        if (identity_compare(s->dir, &s->identity, &wanted, e) != OK) return e->code;
        if (finish_renaming(s, e) != OK) return e->code;
    }
    if (is_unfinished(r)) return replace(r, e);
    if (r->identity) return open_existing(r, names, e);
    if (r->stranger[0] != 0) {
        return err_set(e, ERR_FOREIGN, "%s holds \"%s\" and no identity: it is not a directory of a node; give an "
                       "empty one", s->dir, r->stranger);
    }
    if (wanted.node == 0) return err_set(e, ERR_INVALID, "%s is new: a node's id is needed to create it", s->dir);
    wanted.incarnation = identity_draw_incarnation(s->io);
    return config->rejoin ? OK : create_new(r, names, &wanted, e); /* or recovery_run does, with a mark */
}

/* Adds up what will be read. */
static int measure(struct store *s, const struct io_names *names, struct err *e)
{
    uint64_t a, b, size = 0;
    for (size_t i = 0; i < names->count; i++) {
        char path[FORMAT_PATH_MAX];
        struct io_file *file;
        if (!format_segment_name(names->names[i], &a) && !format_snapshot_name(names->names[i], &a, &b)) continue;
        format_path(path, s->dir, names->names[i]);
        if (io_open(s->io, path, 0, &file, e) != OK) return e->code;
        int status = io_size(s->io, file, &size, e);
        io_close(s->io, file);
        if (status != OK) return status;
        s->total_bytes += size;
    }
    return OK;
}

int recovery_run(struct store *s, const struct store_config *config, struct store_recovered *out, struct err *e)
{
    struct recovery r = {.log.s = s};
    struct io_names names = {0};
    s->opening = config;
    int status = io_list(s->io, s->dir, &names, e);
    if (status == OK && config->progress != NULL) status = measure(s, &names, e);
    if (status == OK) status = open_any(&r, config, &names, e);
    if (status == OK && !r.identity && !r.created) status = begin_replacing(&r, &config->identity, false, e);
    if (status == ERR_CORRUPT && config->rejoin) status = begin_replacing(&r, &config->identity, true, e);
    s->durable_last = s->map.last;
    s->spares_kept = MAX(s->spares_wanted, s->spares.count); /* it had use for them */
    if (status == OK) status = report(&r, out, e);
    if (status == OK && r.is_void && !writer_reset(s, out->snapshot.index, out->snapshot.term)) {
        status = err_set(e, ERR_NOMEM, "out of memory while opening %s", s->dir);
    }
    scan_forget(&r.log);
    io_names_free(&names);
    s->opening = NULL;
    return status;
}

static int look(struct recovery *r, const struct io_names *names, struct err *e)
{
    struct store *s = r->log.s;
    if (rejoin_read(s->io, s->dir, &s->rejoin, e) != OK || identity_read(s->io, s->dir, &s->identity, e) != OK) {
        return e->code == ERR_NOENT ? err_set(e, ERR_FOREIGN, "%s is not a directory of a node", s->dir) : e->code;
    }
    if (must_exist(s, peers_read(&s->peers, e), "peers", e) != OK) return e->code;
    if (must_exist(s, epoch_read(s->io, s->dir, &s->epoch, e), "epoch", e) != OK) return e->code;
    if (snapshots_recover(s, names, r->damaged, e) != OK) return e->code;
    if (add_files(r, names, e) != OK || scan_read(&r->log, e) != OK || join(r, e) != OK) return e->code;
    know_first(&s->map);
    return scan_check_reached(&r->log, s->epoch.batch, e);
}

int recovery_look(struct store *s, const struct inspect_visitor *visitor, struct store_recovered *out, struct err *e)
{
    struct recovery r = {.log.s = s};
    struct io_names names = {0};
    struct err ignored;
    s->visitor = visitor;
    int status = io_list(s->io, s->dir, &names, e);
    if (status == OK) status = look(&r, &names, e);
    s->durable_last = s->writer.last = s->map.last;
    int reported = report(&r, out, status == OK ? e : &ignored);
    if (status == OK) status = reported;
    scan_hand_over(&r.log);
    scan_forget(&r.log);
    io_names_free(&names);
    s->visitor = NULL;
    return status;
}
