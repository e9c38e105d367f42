/* What this node's host wants of the leader that is no entry of the log: from which index on a read may be answered, a
 * change of the members, a hand-over. The leader may be this node or another one. When it changes, reads are asked
 * again; what became of a change is told by the one that was asked, or it is not known. */
#include "server/engine_state.h"

#include "base/mem.h"

#define ASKS_MAX 4096u    /* of all peers, on the leader */
#define GIVE_UP_TIMES 5u  /* as long as a read waits for its answer: a leader that lives has made a change by then, or
                             leads no more */

static struct ask **find(struct engine *e, raft_id from, uint64_t number)
{
    struct ask **at = &e->asks;
    while (*at != NULL && !((*at)->from == from && (*at)->number == number)) at = &(*at)->next;
    return at;
}

static void add(struct engine *e, struct ask *ask)
{
    struct ask **at = &e->asks;
    while (*at != NULL) at = &(*at)->next;
    *at = ask;
    ask->next = NULL;
    ask->state = ASK_WAITING;
    ask->since_us = io_now(e->io);
}

/* It is answered: takes it off the list at *at. */
static void answer(struct engine *e, struct ask **at, int code)
{
    struct ask *ask = *at;
    *at = ask->next;
    ask->next = NULL;
    ask->answer.number = ask->number;
    ask->answer.code = code;
    if (ask->from == 0) {
        feed_await(e, ask->answer.index);
        channel_notice(e->channel, (struct ring_item){.kind = NOTICE_ANSWERED, .pointer = ask});
        return;
    }
    struct buf *out = e->links != NULL ? links_out(e->links, ask->from) : NULL;
    if (out != NULL) answer_write(out, LINKS_GROUP, &ask->answer);
    raft_await_commit(e->raft, ask->from, ask->answer.index); /* it applies so far before it tells who asked */
    mem_free(ask);
}

/* Refused for now: reads are asked again, all else is told; but whoever says that it does not lead was the wrong one to
 * ask. */
static bool is_asked_again(const struct ask *ask, int code)
{
    bool for_now = code == ERR_BUSY || code == ERR_NOMEM || code == ERR_TRANSFERRING || code == ERR_NOT_READY;
    return ask->from == 0 && (code == ERR_NOT_LEADER || (for_now && ask->what.kind == ASK_READ));
}

static void wait_again(struct engine *e, struct ask *ask)
{
    ask->state = ASK_WAITING;
    ask->since_us = io_now(e->io);
    e->ask_again_at_us = ask->since_us + e->config.heartbeat_us;
}

/* What the leader has said; it may be this node. */
static void on_result(struct engine *e, struct ask **at, int code)
{
    if (is_asked_again(*at, code)) wait_again(e, *at);
    else answer(e, at, code);
}

/* ---- on the leader ---- */

/* To itself: that is so already. */
static int serve_transfer(struct engine *e, struct ask *ask)
{
    struct raft_status status;
    raft_status_get(e->raft, &status);
    ask->answer.id = ask->what.target;
    if (status.role == RAFT_LEADER && ask->what.target == status.id) return OK;
    return raft_transfer(e->raft, ask->what.target, io_now(e->io), &ask->answer.id);
}

static int serve(struct engine *e, struct ask *ask)
{
    ask->state = ASK_SERVED;
    ask->since_us = io_now(e->io);
    switch (ask->what.kind) {
    case ASK_READ:
        ask->context = ++e->ask_context;
        return raft_read(e->raft, ask->context, ask->what.lease, io_now(e->io));
    case ASK_CHANGE: return changes_make(e, &ask->what, &ask->answer, &ask->term);
    default: return serve_transfer(e, ask);
    }
}

void asks_on_reads(struct engine *e, const struct raft_read *reads, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct ask **at = &e->asks;
        while (*at != NULL && !((*at)->state == ASK_SERVED && (*at)->what.kind == ASK_READ &&
                                (*at)->context == reads[i].context)) {
            at = &(*at)->next;
        }
        if (*at == NULL) continue; /* given up meanwhile */
        (*at)->answer.index = reads[i].index;
        on_result(e, at, reads[i].index != 0 ? OK : ERR_NOT_LEADER);
    }
}

/* What became of a change: 1 = it is made, 0 = not yet, or ERR_UNKNOWN. */
static int change_state(const struct engine *e, const struct ask *ask, const struct raft_status *status)
{
    raft_term term;
    bool there = raft_term_at(e->raft, ask->answer.index, &term) && term == ask->term;
    if (there && status->commit >= ask->answer.index && !status->changing) return 1;
    return status->role == RAFT_LEADER && there ? 0 : ERR_UNKNOWN;
}

/* What became of a hand-over. */
static int transfer_state(const struct ask *ask, const struct raft_status *status)
{
    if (status->leader == ask->answer.id) return 1;
    if (status->role == RAFT_LEADER) return status->transfer == ask->answer.id ? 0 : ERR_TIMEOUT;
    return status->leader == 0 ? 0 : ERR_UNKNOWN;
}

/* Changes and hand-overs take their time. */
static void see_what_came_true(struct engine *e, const struct raft_status *status)
{
    for (struct ask **at = &e->asks; *at != NULL;) {
        const struct ask *ask = *at;
        int state = 0;
        if (ask->state == ASK_SERVED && ask->what.kind == ASK_CHANGE) state = change_state(e, ask, status);
        if (ask->state == ASK_SERVED && ask->what.kind == ASK_TRANSFER) state = transfer_state(ask, status);
        if (state == 0) at = &(*at)->next;
        else answer(e, at, state == 1 ? OK : state);
    }
}

void asks_on_ask(struct engine *e, raft_id from, const struct frame *f)
{
    uint64_t number;
    struct ask_what what;
    size_t count = 0;
    if (ask_read(f, &number, &what, NULL) != OK || *find(e, from, number) != NULL) return;
    for (const struct ask *ask = e->asks; ask != NULL; ask = ask->next) count++;
    struct ask *ask = count < ASKS_MAX ? mem_zero(1, sizeof *ask) : NULL;
    if (ask == NULL) return; /* it will be asked again, or given up */
    ask->number = number;
    ask->what = what;
    ask->from = from;
    add(e, ask);
    int rv = serve(e, ask);
    if (rv != OK) answer(e, find(e, from, number), rv);
}

/* ---- asking ---- */

void asks_add(struct engine *e, struct ask *ask)
{
    ask->from = 0;
    add(e, ask);
    if (e->phase == ENGINE_RUNNING) return;
    answer(e, find(e, 0, ask->number), e->phase == ENGINE_FAILED ? ERR_FAULT : ERR_CLOSED);
}

/* A change or a hand-over that is under way cannot be taken back. */
void asks_cancel(struct engine *e, uint64_t number)
{
    struct ask **at = find(e, 0, number);
    if (*at == NULL) return;
    answer(e, at, (*at)->state == ASK_WAITING ? ERR_NOT_LEADER : ERR_TIMEOUT);
}

void asks_on_answer(struct engine *e, raft_id from, const struct frame *f)
{
    struct answer told;
    if (answer_read(f, &told, NULL) != OK) return;
    struct ask **at = find(e, 0, told.number);
    if (*at == NULL || (*at)->state != ASK_SENT || (*at)->to != from) return;
    (*at)->answer = told;
    on_result(e, at, told.code);
}

/* What a hand-over that another node was asked for has come to: 1 = it has come true, 0 = not known yet, or
 * ERR_UNKNOWN. The one that was asked may be heard again after a silence, and lead on. */
static int handed_over(const struct engine *e, const struct ask *ask)
{
    if (e->leader == 0 || e->leader == ask->to) return 0;
    return ask->what.target == 0 || ask->what.target == e->leader ? 1 : ERR_UNKNOWN;
}

/* Of a change the one that was asked tells what became of it, though it leads no more: its answer may be on its way,
 * and if it only handed over first, the next leader is to be asked. Of a hand-over the next leader tells enough. */
void asks_on_leader(struct engine *e)
{
    for (struct ask **at = &e->asks; *at != NULL;) {
        struct ask *ask = *at;
        bool sent = ask->from == 0 && ask->state == ASK_SENT;
        int state = sent && ask->what.kind == ASK_TRANSFER ? handed_over(e, ask) : 0;
        if (sent && ask->what.kind == ASK_READ) wait_again(e, ask);
        if (state == 1) ask->answer.id = e->leader;
        if (state != 0) answer(e, at, state == 1 ? OK : state);
        else at = &ask->next;
    }
}

void asks_on_down(struct engine *e, raft_id id)
{
    for (struct ask **at = &e->asks; *at != NULL;) {
        struct ask *ask = *at;
        bool sent = ask->from == 0 && ask->state == ASK_SENT && ask->to == id;
        bool read = ask->what.kind == ASK_READ;
        bool waits = ask->what.kind == ASK_TRANSFER && e->leader == 0; /* for whoever leads next */
        if (sent && read) wait_again(e, ask);
        if (sent && !read && !waits) answer(e, at, ERR_UNKNOWN);
        else at = &ask->next;
    }
}

static void send(struct engine *e, struct ask **at)
{
    struct ask *ask = *at;
    if (e->leader == e->identity.node) {
        int rv = serve(e, ask);
        if (rv != OK) on_result(e, find(e, 0, ask->number), rv);
        return;
    }
    struct buf *out = links_out(e->links, e->leader);
    if (out == NULL || !ask_write(out, LINKS_GROUP, ask->number, &ask->what)) return;
    ask->state = ASK_SENT;
    ask->to = e->leader;
    ask->since_us = io_now(e->io);
}

void asks_flush(struct engine *e)
{
    struct raft_status status;
    uint64_t now = io_now(e->io), patience_us = 2 * e->config.election_timeout_us;
    if (e->asks == NULL) return;
    raft_status_get(e->raft, &status);
    see_what_came_true(e, &status);
    for (struct ask **at = &e->asks; *at != NULL;) {
        struct ask *ask = *at, *next = ask->next;
        bool mine = ask->from == 0, sent = mine && ask->state == ASK_SENT, read = ask->what.kind == ASK_READ;
        if (sent && read && now >= ask->since_us + patience_us) wait_again(e, ask); /* the answer is lost */
        if (sent && !read && now >= ask->since_us + GIVE_UP_TIMES * patience_us) answer(e, at, ERR_UNKNOWN);
        else if (mine && ask->state == ASK_WAITING && e->leader != 0 && now >= e->ask_again_at_us) send(e, at);
        if (*at != next) at = &ask->next; /* else it was answered */
    }
}

uint64_t asks_deadline(const struct engine *e)
{
    uint64_t at_us = NEVER_US;
    for (const struct ask *ask = e->asks; ask != NULL; ask = ask->next) {
        if (ask->from != 0) continue;
        if (ask->state != ASK_WAITING) at_us = MIN(at_us, ask->since_us + 2 * e->config.election_timeout_us);
        else if (e->ask_again_at_us > io_now(e->io)) at_us = MIN(at_us, e->ask_again_at_us);
        /* else it waits for a leader, or for the link to it: an event */
    }
    return at_us;
}

/* ---- the end ---- */

void asks_end(struct engine *e, int code)
{
    for (struct ask **at = &e->asks; *at != NULL;) {
        struct ask *ask = *at;
        if (ask->from == 0) {
            answer(e, at, ask->state == ASK_WAITING ? code : ERR_UNKNOWN);
        } else {
            *at = ask->next;
            mem_free(ask);
        }
    }
}

void asks_free(struct engine *e)
{
    while (e->asks != NULL) {
        struct ask *ask = e->asks;
        e->asks = ask->next;
        mem_free(ask);
    }
}
