/* What the links tell: frames of peers, and who comes and goes. */
#include "server/engine_state.h"

#include "wire/message.h"

static bool is_answer(uint8_t type)
{
    return type == RAFT_APPEND_REPLY || type == RAFT_HEARTBEAT_REPLY || type == RAFT_VOTE_REPLY;
}

static void on_message(struct engine *e, raft_id from, bool counted, const struct frame *f)
{
    struct raft_message m;
    if (message_read(f, &m, NULL) != OK) return;
    if (!counted && is_answer(m.type)) {
        message_free(&m);
        return;
    }
    /* A refused message (malformed, or no memory for it) is as good as lost on the way: Raft copes. A snapshot comes by
     * other ways. */
    bool taken = m.from == from && m.type != RAFT_SNAPSHOT && raft_step(e->raft, &m, io_now(e->io)) == OK;
    if (taken && m.type == RAFT_APPEND) changes_on_append(e, &m);
    message_free(&m);
}

static void on_transfer(struct engine *e, raft_id from, enum hello_channel channel, const struct frame *f)
{
    struct transfer t;
    if (transfer_read(f, &t, NULL) != OK) return;
    if (f->type == FRAME_OFFER) fetch_on_offer(e, from, &t);
    else if (f->type == FRAME_FETCH) offers_on_fetch(e, from, &t);
    else if (f->type == FRAME_FETCHED) offers_on_fetched(e, from, &t);
    else if (channel == HELLO_BULK || t.size == 0) fetch_on_chunk(e, from, &t);
}

static void on_frame(void *ctx, raft_id from, enum hello_channel channel, bool counted, const struct frame *f)
{
    struct engine *e = ctx;
    if (e->phase != ENGINE_RUNNING) return;
    if (f->type == FRAME_FORWARD) proposals_on_forward(e, from, f);
    else if (f->type == FRAME_FORWARD_REPLY) proposals_on_forward_reply(e, from, f);
    else if (f->type == FRAME_MESSAGE) on_message(e, from, counted, f);
    else if (f->type == FRAME_ASK) asks_on_ask(e, from, f);
    else if (f->type == FRAME_ANSWER) asks_on_answer(e, from, f);
    else if (f->type >= FRAME_OFFER && f->type <= FRAME_FETCHED) on_transfer(e, from, channel, f);
}

static void on_lost(void *ctx, raft_id id)
{
    struct engine *e = ctx;
    raft_peer_lost(e->raft, id);
}

static void on_up(void *ctx, raft_id id, enum hello_channel channel)
{
    struct engine *e = ctx;
    e->news = true;
    if (channel == HELLO_BULK) offers_up(e, id);
    else if (id == e->leader) pending_resend_all(&e->pending);
}

static void on_down(void *ctx, raft_id id, enum hello_channel channel, bool refused)
{
    struct engine *e = ctx;
    struct raft_status status;
    e->news = true;
    if (channel == HELLO_BULK) return; /* what was on its way is asked for again */
    raft_status_get(e->raft, &status);
    raft_unreachable(e->raft, id);
    if (refused && id == status.leader) raft_leader_lost(e->raft, io_now(e->io)); /* no need to wait out the timeout */
    if (id == e->leader) pending_resend_all(&e->pending);
    asks_on_down(e, id);
}

/* The links may have been closed meanwhile. What became of it the store tells. */
static void on_remembered(void *ctx, int status)
{
    struct remembering *r = ctx;
    raft_id id = r->id;
    (void)status;
    r->id = 0;
    if (r->engine->links != NULL) links_remembered(r->engine->links, id);
}

static bool on_remember(void *ctx, struct links_life life)
{
    struct engine *e = ctx;
    struct raft_status status;
    struct remembering *r = e->remembering;
    while (r < e->remembering + COUNT_OF(e->remembering) && r->id != 0) r++;
    if (r == e->remembering + COUNT_OF(e->remembering)) return false;
    *r = (struct remembering){.engine = e, .id = life.id};
    /* A later life of the leader: the one that led is over, whether anybody saw it end or not. */
    raft_status_get(e->raft, &status);
    if (store_peer(e->store, life.id) != 0 && life.id == status.leader) raft_leader_lost(e->raft, io_now(e->io));
    bool started = store_remember_peer(e->store, life.id, life.incarnation, life.epoch, on_remembered, r) == OK;
    if (!started) r->id = 0;
    return started;
}

static struct links_standing on_standing(void *ctx, raft_id id)
{
    const struct engine *e = ctx;
    const struct conf_at *at = confs_latest(&e->confs);
    const struct member *member = members_find(&at->conf.members, id);
    bool voter = member != NULL && conf_is_voter(&at->conf.raft, id);
    return (struct links_standing){.voter = voter, .incarnation = voter ? member->incarnation : 0, .index = at->index};
}

static void on_rejoining(void *ctx, raft_id id, uint64_t incarnation)
{
    readmission_note(ctx, id, incarnation);
}

static void on_outlook(void *ctx, raft_id id, bool rejoining, char *text, size_t size)
{
    readmission_outlook(ctx, id, rejoining, text, size);
}

static void on_disowned(void *ctx, raft_id by, int code)
{
    (void)by;
    readmission_disowned(ctx, code);
}

static bool on_stranger(void *ctx, const struct frame *frame, struct buf *out)
{
    struct join j;
    struct joined answer;
    return frame->type == FRAME_JOIN && join_read(frame, &j, NULL) == OK && joining_answer(ctx, &j, &answer) &&
           joined_write(out, LINKS_GROUP, &answer);
}

const struct links_events engine_peers = {.frame = on_frame,
                                          .lost = on_lost,
                                          .up = on_up,
                                          .down = on_down,
                                          .remember = on_remember,
                                          .standing = on_standing,
                                          .rejoining = on_rejoining,
                                          .outlook = on_outlook,
                                          .disowned = on_disowned,
                                          .stranger = on_stranger};
