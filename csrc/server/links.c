#include "server/links.h"

#include <stdio.h>

#include "base/mem.h"
#include "wire/message.h"

enum dial_state { DIAL_IDLE, DIAL_CONNECTING, DIAL_GREETING, DIAL_UP };

/* What link->user points to, of a dialled and of an accepted link. */
struct peer_link {
    struct io_link *link;
    struct frame_reader reader;
    uint64_t heard_us;     /* when anything came last; before the hello was answered: since when it is made */
    struct peer *dialled;  /* the peer whose link this is; NULL: an accepted link */
    raft_id from;          /* accepted: who it is; 0 until the hello was answered */
    bool admitting;        /* accepted: the peer's incarnation is being remembered */
    uint64_t incarnation;  /* accepted, admitting */
    raft_id claims;        /* accepted, admitting: who it says it is */
    bool doomed;           /* to be closed when the reader is done with its bytes */
    struct peer_link *next; /* accepted ones in a list */
};

struct peer {
    const struct member *member;
    enum dial_state state;
    struct peer_link dial;
    struct buf out;
    uint64_t dial_at_us, backoff_us, ping_at_us;
    uint64_t remembering;  /* its incarnation that is being remembered; 0 = none */
    char down[ERR_TEXT_MAX];
};

struct links {
    struct links_config config;
    struct links_events events;
    void *ctx;
    struct prng prng;
    struct peer list[RAFT_MEMBERS_MAX]; /* all members but this one */
    size_t count;
    struct peer_link *accepted;
    size_t strangers;
};

/* ---- life ---- */

struct links *links_new(const struct links_config *config, const struct links_events *events, void *ctx)
{
    struct links *p = mem_zero(1, sizeof *p);
    if (p == NULL) return NULL;
    p->config = *config;
    p->events = *events;
    p->ctx = ctx;
    p->prng.state = io_random(config->io);
    for (size_t i = 0; i < config->members->count; i++) {
        const struct member *member = &config->members->list[i];
        if (member->id != config->identity->node) p->list[p->count++].member = member;
    }
    return p;
}

/* Frees what hangs on a link that the world has closed or that is closed here. */
static void accepted_free(struct links *p, struct peer_link *l)
{
    struct peer_link **at = &p->accepted;
    while (*at != l) at = &(*at)->next;
    *at = l->next;
    if (l->from == 0) p->strangers--;
    frame_reader_free(&l->reader);
    mem_free(l);
}

static void accepted_close(struct links *p, struct peer_link *l)
{
    io_link_close(p->config.io, l->link);
    accepted_free(p, l);
}

void links_abandon(struct links *p)
{
    if (p == NULL) return;
    while (p->accepted != NULL) accepted_free(p, p->accepted);
    for (size_t i = 0; i < p->count; i++) {
        frame_reader_free(&p->list[i].dial.reader);
        buf_free(&p->list[i].out);
    }
    mem_free(p);
}

void links_free(struct links *p)
{
    if (p == NULL) return;
    while (p->accepted != NULL) accepted_close(p, p->accepted);
    for (size_t i = 0; i < p->count; i++) {
        if (p->list[i].state != DIAL_IDLE) io_link_close(p->config.io, p->list[i].dial.link);
    }
    links_abandon(p);
}

static struct peer *find(const struct links *p, raft_id id)
{
    for (size_t i = 0; i < p->count; i++) {
        if (p->list[i].member->id == id) return (struct peer *)&p->list[i];
    }
    return NULL;
}

static struct hello my_hello(const struct links *p, raft_id to)
{
    const struct store_identity *me = p->config.identity;
    struct hello h = {.protocol_min = HELLO_PROTOCOL_MIN, .protocol = HELLO_PROTOCOL, .from = me->node, .to = to,
                      .incarnation = me->incarnation, .channel = HELLO_CONTROL};
    memcpy(h.cluster, me->cluster, sizeof h.cluster);
    snprintf(h.name, sizeof h.name, "%s", me->name);
    snprintf(h.list, sizeof h.list, "%s", me->list);
    return h;
}

/* ---- the dialled link ---- */

/* The link is gone (closed by the world or here): dial again after a while, the longer the more often it failed. */
static void dial_lost(struct links *p, struct peer *peer, const char *reason)
{
    bool was_up = peer->state == DIAL_UP;
    bool news = was_up || strncmp(peer->down, reason, sizeof peer->down - 1) != 0;
    uint64_t now = io_now(p->config.io), longest_us = p->config.election_timeout_us;
    snprintf(peer->down, sizeof peer->down, "%s", reason);
    peer->state = DIAL_IDLE;
    frame_reader_free(&peer->dial.reader);
    buf_free(&peer->out);
    uint64_t doubled_us = MIN(MAX(2 * peer->backoff_us, LINKS_BACKOFF_MIN_US), longest_us);
    peer->backoff_us = was_up ? LINKS_BACKOFF_MIN_US : doubled_us;
    peer->dial_at_us = now + peer->backoff_us / 2 + prng_below(&p->prng, peer->backoff_us / 2 + 1);
    if (news) p->events.down(p->ctx, peer->member->id);
}

static void dial_drop(struct links *p, struct peer *peer, const char *reason)
{
    io_link_close(p->config.io, peer->dial.link);
    dial_lost(p, peer, reason);
}

static void dial(struct links *p, struct peer *peer)
{
    struct err e;
    peer->dial = (struct peer_link){.dialled = peer, .heard_us = io_now(p->config.io)};
    frame_reader_init(&peer->dial.reader);
    if (io_connect(p->config.io, peer->member->address, &peer->dial.link, &e) != OK) {
        dial_lost(p, peer, e.text);
        return;
    }
    peer->dial.link->user = &peer->dial;
    peer->state = DIAL_CONNECTING;
}

static void dial_send(struct links *p, struct peer *peer, struct buf *frame, bool written)
{
    if (written && io_send(p->config.io, peer->dial.link, frame) == OK) return;
    buf_free(frame);
    dial_drop(p, peer, "out of memory");
}

void links_connected(struct links *p, struct io_link *link)
{
    struct peer_link *l = link->user;
    struct peer *peer = l->dialled;
    ASSERT(peer != NULL && peer->state == DIAL_CONNECTING);
    peer->state = DIAL_GREETING;
    l->heard_us = io_now(p->config.io);
    struct buf frame = {0};
    struct hello h = my_hello(p, peer->member->id);
    dial_send(p, peer, &frame, hello_write(&frame, LINKS_GROUP, &h));
}

static void ping(struct links *p, struct peer *peer, uint64_t now)
{
    struct buf frame = {0};
    peer->ping_at_us = now + p->config.heartbeat_us;
    dial_send(p, peer, &frame, ping_write(&frame, LINKS_GROUP, FRAME_PING, now));
}

static void dial_up(struct links *p, struct peer *peer)
{
    peer->state = DIAL_UP;
    peer->down[0] = '\0';
    peer->backoff_us = 0;
    peer->dial.heard_us = io_now(p->config.io);
    peer->ping_at_us = peer->dial.heard_us + p->config.heartbeat_us;
    p->events.up(p->ctx, peer->member->id);
}

/* The answer to this node's hello. */
static void dial_on_answer(struct links *p, struct peer *peer, const struct frame *f)
{
    struct hello h;
    struct refusal refusal;
    struct err e = {0};
    char text[sizeof peer->down];
    uint64_t known = store_peer(p->config.store, peer->member->id);
    if (f->type == FRAME_REFUSAL && refusal_read(f, &refusal, &e) == OK) {
        peer->backoff_us = p->config.election_timeout_us; /* it will not change its mind soon */
        snprintf(text, sizeof text, "refused: %.*s", (int)(sizeof text - sizeof "refused: "), refusal.text);
        dial_drop(p, peer, text);
    } else if (f->type != FRAME_HELLO || hello_read(f, &h, &e) != OK) {
        dial_drop(p, peer, "no hello in answer");
    } else if (h.from != peer->member->id || memcmp(h.cluster, p->config.identity->cluster, sizeof h.cluster) != 0) {
        snprintf(text, sizeof text, "member %" PRIu64 " of cluster \"%.32s\" answers there", h.from, h.name);
        dial_drop(p, peer, text);
    } else if (known != 0 && known != h.incarnation) {
        dial_drop(p, peer, "it has come back with another directory");
    } else {
        dial_up(p, peer);
    }
}

/* ---- accepted links ---- */

void links_accepted(struct links *p, struct io_link *link)
{
    struct peer_link *l = p->strangers < LINKS_STRANGERS_MAX ? mem_zero(1, sizeof *l) : NULL;
    if (l == NULL) {
        link->user = NULL;
        io_link_close(p->config.io, link);
        return;
    }
    l->link = link;
    l->heard_us = io_now(p->config.io);
    frame_reader_init(&l->reader);
    l->next = p->accepted;
    p->accepted = l;
    p->strangers++;
    link->user = l;
}

static void refuse(struct links *p, struct peer_link *l, int code, const char *text)
{
    struct buf frame = {0};
    if (refusal_write(&frame, LINKS_GROUP, code, text)) io_send(p->config.io, l->link, &frame);
    buf_free(&frame);
    l->admitting = false;
    l->doomed = true; /* closed at its deadline, so that the words get across */
    l->heard_us = io_now(p->config.io);
}

/* Who may speak here? NULL: the one that says this hello. */
static const char *objection(const struct links *p, const struct hello *h, char *text, size_t size)
{
    const struct store_identity *me = p->config.identity;
    const struct peer *peer = find(p, h->from);
    uint64_t known = store_peer(p->config.store, h->from);
    if (known == 0 && peer != NULL) known = peer->remembering; /* the first one seen counts */
    if (strcmp(h->name, me->name) != 0) {
        snprintf(text, size, "this is cluster \"%s\", not \"%s\"", me->name, h->name);
    } else if (memcmp(h->cluster, me->cluster, sizeof me->cluster) != 0) {
        snprintf(text, size, "the lists of members differ: here %.150s, there %.150s", me->list, h->list);
    } else if (h->to != me->node) {
        snprintf(text, size, "this is member %" PRIu64 ", not %" PRIu64, me->node, h->to);
    } else if (peer == NULL) {
        snprintf(text, size, "%" PRIu64 " is not another member here", h->from);
    } else if (known != 0 && known != h->incarnation) {
        snprintf(text, size, "member %" PRIu64 " has come back with another directory: it may have forgotten a vote and "
                 "entries it acknowledged; give it its old directory", h->from);
    } else {
        return NULL;
    }
    return text;
}

/* The newest link of a member replaces the older ones. */
static void accept_member(struct links *p, struct peer_link *l)
{
    for (struct peer_link *at = p->accepted, *next; at != NULL; at = next) {
        next = at->next;
        if (at != l && at->from == l->claims) accepted_close(p, at);
    }
    l->from = l->claims;
    l->admitting = false;
    l->heard_us = io_now(p->config.io);
    l->reader.body_max = FRAME_BODY_MAX;
    p->strangers--;
    struct buf frame = {0};
    struct hello h = my_hello(p, l->from);
    if (hello_write(&frame, LINKS_GROUP, &h)) io_send(p->config.io, l->link, &frame);
    buf_free(&frame);
}

/* The newest link that waits for this member's incarnation to be remembered. */
static struct peer_link *find_admitting(const struct links *p, raft_id id)
{
    struct peer_link *l = p->accepted;
    while (l != NULL && !(l->admitting && l->claims == id)) l = l->next;
    return l;
}

/* Who waits is answered; a member that dialled several times meanwhile, on its newest link alone. */
void links_remembered(struct links *p, raft_id id)
{
    struct peer *peer = find(p, id);
    struct peer_link *newest = find_admitting(p, id);
    ASSERT(peer != NULL && peer->remembering != 0);
    if (newest != NULL && store_peer(p->config.store, id) == newest->incarnation) accept_member(p, newest);
    for (struct peer_link *l; (l = find_admitting(p, id)) != NULL;) accepted_close(p, l);
    peer->remembering = 0;
}

static void admit(struct links *p, struct peer_link *l, const struct hello *h)
{
    struct peer *peer = find(p, h->from);
    l->claims = h->from;
    l->incarnation = h->incarnation;
    l->admitting = true;
    if (store_peer(p->config.store, h->from) == h->incarnation) {
        accept_member(p, l);
    } else if (peer->remembering == 0) {
        bool started = p->events.remember(p->ctx, h->from, h->incarnation);
        if (started) peer->remembering = h->incarnation;
        else refuse(p, l, ERR_BUSY, "out of memory");
    }
}

static void on_hello(struct links *p, struct peer_link *l, const struct frame *f)
{
    struct hello h;
    struct err e = {0};
    char text[ERR_TEXT_MAX];
    if (f->type != FRAME_HELLO || l->admitting || hello_read(f, &h, &e) != OK) {
        refuse(p, l, e.code == ERR_VERSION ? ERR_VERSION : ERR_CORRUPT, e.code != OK ? e.text : "expected one hello");
        return;
    }
    if (objection(p, &h, text, sizeof text) != NULL) {
        refuse(p, l, ERR_REFUSED, text);
        return;
    }
    admit(p, l, &h);
}

static void on_ping(struct links *p, struct peer_link *l, const struct frame *f)
{
    uint64_t stamp;
    struct buf frame = {0};
    if (ping_read(f, &stamp, NULL) != OK || io_queued(p->config.io, l->link) >= LINKS_PONGS_BYTES) return;
    if (ping_write(&frame, LINKS_GROUP, FRAME_PONG, stamp)) io_send(p->config.io, l->link, &frame);
    buf_free(&frame);
}

/* ---- both ---- */

static void on_frame(struct links *p, struct peer_link *l, const struct frame *f)
{
    if (l->dialled != NULL) {
        if (l->dialled->state == DIAL_GREETING) dial_on_answer(p, l->dialled, f);
        return; /* pongs: that they came is all they say */
    }
    if (f->group != LINKS_GROUP) refuse(p, l, ERR_REFUSED, "this process serves no other group than 0");
    else if (l->from == 0) on_hello(p, l, f);
    else if (f->type == FRAME_PING) on_ping(p, l, f);
    else p->events.frame(p->ctx, l->from, f);
}

/* Is the link still there, after one of its frames was handled? A dialled one may have been dropped. */
static bool lives(const struct peer_link *l)
{
    return l->dialled == NULL ? !l->doomed : l->dialled->state != DIAL_IDLE;
}

/* Who has not introduced itself gains no time by single bytes. */
static bool is_introduced(const struct peer_link *l)
{
    return l->dialled == NULL ? l->from != 0 : l->dialled->state == DIAL_UP;
}

void links_received(struct links *p, struct io_link *link, const uint8_t *data, size_t size)
{
    struct peer_link *l = link->user;
    struct frame f;
    struct err e = {0};
    if (l == NULL || !lives(l)) return;
    if (is_introduced(l)) l->heard_us = io_now(p->config.io);
    int rv = 1;
    while (lives(l) && (rv = frame_reader_next(&l->reader, &data, &size, &f, &e)) == 1) on_frame(p, l, &f);
    if (rv >= 0 || !lives(l)) return;
    if (l->dialled != NULL) dial_drop(p, l->dialled, e.text);
    else accepted_close(p, l);
}

void links_closed(struct links *p, struct io_link *link, enum io_close reason)
{
    struct peer_link *l = link->user;
    if (l == NULL) return;
    if (l->dialled != NULL) dial_lost(p, l->dialled, io_close_name(reason));
    else accepted_free(p, l);
}

/* ---- time ---- */

/* When an accepted link is given up: a stranger that does not say who it is, a member that says nothing for so long that
 * its pings must have been lost. */
static uint64_t accepted_deadline(const struct links *p, const struct peer_link *l)
{
    if (l->doomed) return l->heard_us + p->config.heartbeat_us;
    return l->heard_us + (l->from == 0 ? LINKS_HANDSHAKE_US : 3 * p->config.election_timeout_us);
}

static uint64_t dial_deadline(const struct links *p, const struct peer *peer)
{
    if (peer->state == DIAL_IDLE) return peer->dial_at_us;
    uint64_t lost_us = peer->dial.heard_us + p->config.election_timeout_us;
    return peer->state == DIAL_UP ? MIN(lost_us, peer->ping_at_us) : lost_us;
}

static void tick_peer(struct links *p, struct peer *peer, uint64_t now)
{
    if (now < dial_deadline(p, peer)) return;
    if (peer->state == DIAL_IDLE) dial(p, peer);
    else if (now >= peer->dial.heard_us + p->config.election_timeout_us) dial_drop(p, peer, "no answer in time");
    else if (peer->state == DIAL_UP) ping(p, peer, now);
}

void links_tick(struct links *p)
{
    uint64_t now = io_now(p->config.io);
    for (size_t i = 0; i < p->count; i++) tick_peer(p, &p->list[i], now);
    for (struct peer_link *l = p->accepted, *next; l != NULL; l = next) {
        next = l->next;
        if (now >= accepted_deadline(p, l)) accepted_close(p, l);
    }
}

uint64_t links_deadline(const struct links *p)
{
    uint64_t at_us = NEVER_US;
    for (size_t i = 0; i < p->count; i++) at_us = MIN(at_us, dial_deadline(p, &p->list[i]));
    for (const struct peer_link *l = p->accepted; l != NULL; l = l->next) at_us = MIN(at_us, accepted_deadline(p, l));
    return at_us;
}

/* ---- sending ---- */

struct buf *links_out(struct links *p, raft_id id)
{
    struct peer *peer = find(p, id);
    if (peer == NULL || peer->state != DIAL_UP) return NULL;
    size_t queued = io_queued(p->config.io, peer->dial.link) + peer->out.size;
    return queued < LINKS_QUEUE_BYTES ? &peer->out : NULL;
}

void links_flush(struct links *p)
{
    for (size_t i = 0; i < p->count; i++) {
        struct peer *peer = &p->list[i];
        if (peer->out.size > 0) dial_send(p, peer, &peer->out, true);
    }
}

bool links_is_up(const struct links *p, raft_id id)
{
    const struct peer *peer = find(p, id);
    return peer != NULL && peer->state == DIAL_UP;
}

const char *links_down_reason(const struct links *p, raft_id id)
{
    const struct peer *peer = find(p, id);
    return peer == NULL ? "" : peer->down;
}
