/* Snapshots for peers that are so far behind that the log has no more what they need: offered by the leader, fetched by
 * them piece by piece, read on the bulk lane and sent on the bulk channel, so that no commit and no heartbeat waits.
 *
 * An offer keeps its file while it is being fetched, whoever leads meanwhile: the peer need not begin again when
 * leadership changes. */
#include "server/engine_state.h"

#include "base/mem.h"

#define PIECES_MAX 32u                /* of one offer, being read */
#define QUEUED_MAX (8u << 20)         /* bytes to one peer that have not left yet */
#define FORGOTTEN_US (30 * US_PER_S)  /* nobody has asked for a piece for so long */

static struct offer *find(struct engine *e, raft_id to)
{
    for (size_t i = 0; i < COUNT_OF(e->offers); i++) {
        if (e->offers[i].view != NULL && e->offers[i].to == to) return &e->offers[i];
    }
    return NULL;
}

static struct transfer_file file_of(const struct offer *o)
{
    const struct store_snapshot *what = store_view_what(o->view);
    return (struct transfer_file){.index = what->index, .term = what->term, .id = what->id, .size = what->size};
}

static void end(struct offer *o)
{
    o->ending = true;
    if (o->reads > 0) return;
    struct engine *e = o->engine;
    if (e->links != NULL) links_bulk_end(e->links, o->to);
    store_view_close(o->view);
    *o = (struct offer){.view = NULL};
}

/* Tells the peer, once the channel is there on which the pieces will go. */
static void tell(struct offer *o)
{
    struct engine *e = o->engine;
    struct raft_status status;
    raft_status_get(e->raft, &status);
    struct buf *out = links_out(e->links, o->to);
    if (out == NULL || !links_bulk(e->links, o->to) || status.role != RAFT_LEADER) return;
    struct transfer t = {.file = file_of(o), .term = status.term, .first = status.first};
    transfer_write(out, LINKS_GROUP, FRAME_OFFER, &t);
    o->offered_us = io_now(e->io);
}

void offers_make(struct engine *e, raft_id to)
{
    struct offer *o = find(e, to);
    bool newest = o != NULL && store_view_what(o->view)->index == store_snapshot(e->store).index;
    if (o != NULL && !newest && !o->ending) end(o);
    o = find(e, to);
    if (o == NULL) {
        for (o = e->offers; o->view != NULL;) { /* some are still being ended: the next tick gives a place back */
            if (++o == e->offers + COUNT_OF(e->offers)) return;
        }
        *o = (struct offer){.engine = e, .to = to, .view = store_view_open(e->store), .wanted_us = io_now(e->io)};
        if (o->view == NULL) return;
    }
    if (!o->ending) tell(o);
}

void offers_up(struct engine *e, raft_id to)
{
    struct offer *o = find(e, to);
    if (o != NULL && !o->ending) tell(o);
}

/* ---- pieces ---- */

static void piece_free(struct piece *piece)
{
    struct piece **at = &piece->offer->pieces;
    while (*at != piece) at = &(*at)->next;
    *at = piece->next;
    piece->offer->reads--;
    buf_free(&piece->read.bytes);
    mem_free(piece);
}

/* On the bulk lane: hashing is not for the engine's thread. */
static void make_frame(struct store_view_read *read)
{
    const struct piece *piece = read->ctx;
    if (read->bytes.size > piece->head) transfer_chunk_end(&read->bytes, LINKS_GROUP, &piece->file, read->offset);
}

static void on_read(struct store_view_read *read)
{
    struct piece *piece = read->ctx;
    struct offer *o = piece->offer;
    struct engine *e = o->engine;
    bool rotten = read->status == ERR_CORRUPT;
    bool goes = e->phase == ENGINE_RUNNING && !o->ending && read->status == OK && read->bytes.size > piece->head;
    if (goes) links_bulk_send(e->links, o->to, &read->bytes); /* not sent: it will be asked for again */
    piece_free(piece);
    if (rotten || o->ending) end(o); /* rot: nobody gets this one; the next snapshot takes its place */
}

/* NULL: no memory. */
static struct piece *piece_new(struct offer *o, const struct transfer *t)
{
    struct piece *piece = mem_zero(1, sizeof *piece);
    if (piece == NULL) return NULL;
    piece->read = (struct store_view_read){.offset = t->offset, .max_bytes = t->size, .ctx = piece,
                                           .done = on_read, .more = make_frame, .bytes = io_buffer(o->engine->io)};
    if (!transfer_chunk_begin(&piece->read.bytes)) {
        buf_free(&piece->read.bytes);
        mem_free(piece);
        return NULL;
    }
    piece->head = piece->read.bytes.size;
    piece->file = t->file;
    piece->offer = o;
    piece->next = o->pieces;
    o->pieces = piece;
    o->reads++;
    return piece;
}

static void refuse(struct engine *e, raft_id to, const struct transfer *t)
{
    struct transfer none = {.file = t->file, .offset = t->offset};
    struct buf *out = links_out(e->links, to);
    if (out != NULL) transfer_write(out, LINKS_GROUP, FRAME_CHUNK, &none);
}

void offers_on_fetch(struct engine *e, raft_id from, const struct transfer *t)
{
    struct offer *o = find(e, from);
    struct transfer_file file = {0};
    if (o != NULL) file = file_of(o);
    if (o == NULL || o->ending || !transfer_same(&file, &t->file)) {
        refuse(e, from, t);
        return;
    }
    o->wanted_us = io_now(e->io);
    /* Too much is on its way, or the channel is down: it will ask again. */
    if (o->reads >= PIECES_MAX || !links_bulk(e->links, from) || links_bulk_queued(e->links, from) > QUEUED_MAX)
        return;
    struct piece *piece = piece_new(o, t);
    if (piece == NULL) return;
    store_view_bytes(o->view, &piece->read);
}

void offers_on_fetched(struct engine *e, raft_id from, const struct transfer *t)
{
    struct offer *o = find(e, from);
    raft_snapshot_sent(e->raft, from, t->ok);
    if (o != NULL && !o->ending) end(o);
}

/* ---- time ---- */

/* Does the core wait until that peer has one? */
static bool is_wanted(const struct engine *e, raft_id to)
{
    struct raft_peer_status peer;
    return raft_peer_status_get(e->raft, to, &peer) && strcmp(peer.state, "snapshot") == 0;
}

/* What the core has ordered and nobody offers: there was no place or no memory for it, an older offer to the same peer
 * was still being ended, or the file has rotted. The core is told, and orders again when it next hears of the peer. */
static void give_back_orders(struct engine *e)
{
    for (uint8_t i = 0; i < e->members.count; i++) {
        raft_id id = e->members.list[i].id;
        if (find(e, id) == NULL && is_wanted(e, id)) raft_snapshot_sent(e->raft, id, false);
    }
}

void offers_tick(struct engine *e, uint64_t now)
{
    uint64_t patience_us = e->config.election_timeout_us;
    for (size_t i = 0; i < COUNT_OF(e->offers); i++) {
        struct offer *o = &e->offers[i];
        if (o->view == NULL || o->ending) continue;
        bool idle = now >= o->wanted_us + patience_us;
        bool wanted = is_wanted(e, o->to);
        if (idle && !wanted && now >= o->wanted_us + FORGOTTEN_US) end(o);
        else if (idle && wanted && now >= o->offered_us + patience_us) tell(o);
    }
    give_back_orders(e);
}

uint64_t offers_deadline(const struct engine *e)
{
    uint64_t at_us = NEVER_US, patience_us = e->config.election_timeout_us;
    for (size_t i = 0; i < COUNT_OF(e->offers); i++) {
        const struct offer *o = &e->offers[i];
        if (o->view != NULL && !o->ending) at_us = MIN(at_us, io_now(e->io) + patience_us);
    }
    return at_us;
}

void offers_stop(struct engine *e)
{
    for (size_t i = 0; i < COUNT_OF(e->offers); i++) {
        if (e->offers[i].view != NULL) end(&e->offers[i]);
    }
}

bool offers_busy(const struct engine *e)
{
    for (size_t i = 0; i < COUNT_OF(e->offers); i++) {
        if (e->offers[i].view != NULL) return true;
    }
    return false;
}

void offers_free(struct engine *e)
{
    for (size_t i = 0; i < COUNT_OF(e->offers); i++) {
        while (e->offers[i].pieces != NULL) piece_free(e->offers[i].pieces);
    }
}
