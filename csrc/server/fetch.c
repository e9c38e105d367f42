/* A snapshot of another node on its way here (dissertation 5): asked for piece by piece, written aside, and given to
 * the core when all of it is durable. The core then says whether it takes the place of what is here. */
#include "server/engine_state.h"

#include "store/snapshot.h"
#include "wire/conf.h"

#define PIECE_BYTES (256u << 10) /* asked for by one message, at most */
#define WINDOW_MIN (16u << 10)   /* asked for and not here yet */
#define WINDOW_FIRST (64u << 10)
#define WINDOW_MAX (4u << 20)
#define MEMORY_BYTES (16u << 20) /* of what is here and not written yet: no more is asked for; a piece takes up to twice
                                    its size */
#define MEMORY_MAX (2 * (MEMORY_BYTES + WINDOW_MAX)) /* no more is taken: that was never asked for */

static void tell_leader(struct engine *e, raft_index index, bool ok)
{
    struct raft_status status;
    struct transfer t = {.file.index = index, .ok = ok};
    raft_status_get(e->raft, &status);
    struct buf *out = status.leader != 0 ? links_out(e->links, status.leader) : NULL;
    if (out != NULL) transfer_write(out, LINKS_GROUP, FRAME_FETCHED, &t);
}

/* ---- it is here ---- */

/* The leader of this moment stands for it: what a snapshot holds was committed, whoever made it. */
static void give_to_core(struct engine *e, const struct store_snapshot *what)
{
    struct raft_status status;
    raft_status_get(e->raft, &status);
    if (status.leader == 0 || status.role == RAFT_LEADER) return; /* the next leader will offer one, and find it here */
    struct raft_message m = {.type = RAFT_SNAPSHOT,
                             .from = status.leader,
                             .to = e->identity.node,
                             .term = status.term,
                             .index = what->index,
                             .log_term = what->term,
                             .conf = &e->fetching.conf.raft};
    if (raft_step(e->raft, &m, io_now(e->io)) == OK) tell_leader(e, what->index, true);
}

static void on_first_record(struct store_view_read *read)
{
    struct engine *e = read->ctx;
    struct fetching *f = &e->fetching;
    struct store_snapshot what = *store_view_what(f->view);
    struct reader from = {.data = read->bytes.data, .size = read->bytes.size};
    const uint8_t *data;
    uint8_t kind;
    uint32_t size;
    store_view_close(f->view);
    f->view = NULL;
    bool found = read->status == OK && snapshot_record_next(&from, &kind, &data, &size) && kind == SNAPSHOT_CONF;
    if (found && e->phase == ENGINE_RUNNING && conf_read(data, size, &f->conf, NULL) == OK) give_to_core(e, &what);
    else if (e->phase == ENGINE_RUNNING) tell_leader(e, what.index, false);
    buf_free(&read->bytes);
}

/* The newest snapshot here is to be given to the core. */
static void use_newest(struct engine *e)
{
    struct fetching *f = &e->fetching;
    if (f->view != NULL || e->phase != ENGINE_RUNNING) return;
    f->view = store_view_open(e->store);
    if (f->view == NULL) return; /* no memory: it will be offered again */
    f->read = (struct store_view_read){.max_bytes = 1, .done = on_first_record, .ctx = e};
    store_view_records(f->view, &f->read);
}

static void on_ended(void *ctx, int status, const struct err *reason)
{
    struct engine *e = ctx;
    struct fetching *f = &e->fetching;
    raft_index index = f->file.index;
    (void)reason;
    f->incoming = NULL;
    f->publishing = false;
    if (e->phase != ENGINE_RUNNING) return;
    if (status == OK || status == ERR_EXIST) use_newest(e);
    else tell_leader(e, index, false);
}

static void on_written(void *ctx)
{
    fetch_pump(ctx);
}

/* ---- on its way ---- */

/* What was asked for and is not here is to be asked for once more. */
static void ask_again(struct fetching *f)
{
    f->asked = store_incoming_size(f->incoming);
    f->timed_us = 0;
}

/* As much is on its way as comes within a fraction of an election timeout: what waits in a link that carries little
 * holds up the leader's pings on it, and the leader would take the link for dead, again and again. */
static void fit_window(struct engine *e)
{
    struct fetching *f = &e->fetching;
    if (f->timed_us == 0 || store_incoming_size(f->incoming) < f->timed_end) return;
    bool soon = io_now(e->io) < f->timed_us + e->config.election_timeout_us / 4;
    f->window = soon ? MIN(2 * f->window, WINDOW_MAX) : MAX(f->window / 2, WINDOW_MIN);
    f->timed_us = 0;
}

static void begin(struct engine *e, raft_id from, const struct transfer_file *file)
{
    static const struct store_incoming_events events = {.written = on_written, .ended = on_ended};
    struct fetching *f = &e->fetching;
    struct store_snapshot what = {.index = file->index, .term = file->term, .id = file->id, .size = file->size};
    if (f->incoming != NULL) store_incoming_drop(f->incoming);
    f->incoming = store_incoming_new(e->store, &what, &events, e);
    f->file = *file;
    f->from = from;
    f->asked = f->timed_us = 0;
    f->window = WINDOW_FIRST;
    f->heard_us = f->asked_us = io_now(e->io);
    f->publishing = false;
}

/* Is what is being fetched as good as what is offered, and does it still come? */
static bool goes_on(const struct engine *e, const struct transfer *t)
{
    const struct fetching *f = &e->fetching;
    bool alive = io_now(e->io) < f->heard_us + 2 * e->config.election_timeout_us;
    return transfer_same(&f->file, &t->file) || (alive && f->file.index + 1 >= t->first);
}

void fetch_on_offer(struct engine *e, raft_id from, const struct transfer *t)
{
    struct fetching *f = &e->fetching;
    struct raft_status status;
    raft_status_get(e->raft, &status);
    if (status.leader != from || status.term != t->term || f->publishing || f->view != NULL) return;
    if (e->restoring.view != NULL || e->restoring.n_parts > 0) return;
    raft_index here = store_snapshot(e->store).index;
    if (t->file.index <= status.commit) {
        tell_leader(e, t->file.index, true);
    } else if (here > status.commit && here + 1 >= t->first) {
        /* Another one must not become the newest while this one takes the place of the log. */
        if (f->incoming != NULL) store_incoming_drop(f->incoming);
        f->incoming = NULL;
        use_newest(e);
    } else if (f->incoming == NULL || !goes_on(e, t)) {
        begin(e, from, &t->file);
    } else if (transfer_same(&f->file, &t->file)) {
        if (f->from != from) ask_again(f); /* the one before was asked for the rest */
        f->from = from;
    }
    fetch_pump(e);
}

static void give_up(struct engine *e)
{
    store_incoming_drop(e->fetching.incoming);
    e->fetching.incoming = NULL;
    tell_leader(e, e->fetching.file.index, false);
}

void fetch_on_chunk(struct engine *e, raft_id from, const struct transfer *t)
{
    struct fetching *f = &e->fetching;
    if (f->incoming == NULL || f->publishing || from != f->from || !transfer_same(&f->file, &t->file)) return;
    uint64_t here = store_incoming_size(f->incoming);
    if (t->size == 0) {
        give_up(e); /* it is not there any more */
        return;
    }
    if (t->offset != here) {
        if (t->offset > here) ask_again(f); /* one between was lost */
        fetch_pump(e);
        return;
    }
    if (store_incoming_queued(f->incoming) > MEMORY_MAX) return;
    f->heard_us = f->asked_us = io_now(e->io);
    if (store_incoming_write(f->incoming, t->bytes, t->size, t->holder) != OK) ask_again(f); /* no memory: once more */
    f->asked = MAX(f->asked, store_incoming_size(f->incoming));
    fit_window(e);
    if (store_incoming_size(f->incoming) == f->file.size) {
        f->publishing = true;
        store_incoming_publish(f->incoming);
    }
    fetch_pump(e);
}

void fetch_pump(struct engine *e)
{
    struct fetching *f = &e->fetching;
    if (f->incoming == NULL || f->publishing || e->phase != ENGINE_RUNNING) return;
    uint64_t now = io_now(e->io), here = store_incoming_size(f->incoming);
    if (now >= f->asked_us + e->config.election_timeout_us) {
        ask_again(f); /* what was asked for does not come */
        f->window = WINDOW_MIN;
        f->asked_us = now; /* and not heard_us: who sends nothing must not seem alive for being asked */
    }
    while (f->asked < f->file.size && f->asked - here < f->window &&
           store_incoming_queued(f->incoming) < MEMORY_BYTES) {
        struct transfer t = {.file = f->file, .offset = f->asked};
        struct buf *out = links_out(e->links, f->from);
        t.size = (uint32_t)MIN(f->file.size - f->asked, MIN(f->window, PIECE_BYTES));
        if (out == NULL || !transfer_write(out, LINKS_GROUP, FRAME_FETCH, &t)) return;
        f->asked += t.size;
        if (f->timed_us != 0) continue;
        f->timed_us = now;
        f->timed_end = f->asked;
    }
}

uint64_t fetch_deadline(const struct engine *e)
{
    const struct fetching *f = &e->fetching;
    bool waits = f->incoming != NULL && !f->publishing;
    return waits ? f->asked_us + e->config.election_timeout_us : NEVER_US;
}

void fetch_stop(struct engine *e)
{
    if (e->fetching.incoming != NULL) store_incoming_drop(e->fetching.incoming);
    e->fetching.incoming = NULL;
}

bool fetch_busy(const struct engine *e)
{
    return e->fetching.view != NULL;
}

void fetch_free(struct engine *e)
{
    buf_free(&e->fetching.read.bytes);
}
