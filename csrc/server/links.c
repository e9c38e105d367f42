#include "server/links.h"

#include <stdio.h>

#include "base/mem.h"
#include "wire/message.h"

#define PEERS_MAX (RAFT_MEMBERS_MAX + LINKS_GUESTS_MAX)

enum dial_state { DIAL_IDLE, DIAL_CONNECTING, DIAL_GREETING, DIAL_UP };

/* What link->user points to, of a dialled and of an accepted link. */
struct peer_link {
    struct io_link *link;
    struct frame_reader reader;
    uint64_t heard_us;     /* when anything came last; before the hello was answered: since when it is made */
    struct dial *dialled;  /* whose link this is; NULL: an accepted link */
    raft_id from;          /* accepted: who it is; 0 until the hello was answered */
    bool admitting;        /* accepted: the life of the peer is being remembered */
    bool counted;          /* accepted, introduced: see links_events.frame */
    struct links_life life; /* introduced: who it says it is */
    enum hello_channel channel; /* accepted, introduced */
    bool doomed;           /* to be closed when the reader is done with its bytes */
    struct peer_link *next; /* accepted ones in a list */
};

/* What this node says to a peer on one channel. */
struct dial {
    struct peer *peer;
    enum hello_channel channel;
    enum dial_state state;
    bool wanted;           /* there is something to be said */
    struct peer_link end;
    struct buf out;        /* control: frames that leave together */
    uint64_t dial_at_us, backoff_us, ping_at_us, up_us;
    char down[ERR_TEXT_MAX];
};

struct peer {
    struct member member;
    bool guest;
    struct dial control, bulk;
    struct links_life remembering; /* that is being made durable; id 0 = none */
};

struct links {
    struct links_config config;
    char address[ADDRESS_MAX + 1]; /* where this node can be dialled, by what the members know */
    struct links_events events;
    void *ctx;
    struct prng prng;
    raft_index named;
    struct peer *list[PEERS_MAX]; /* all members but this one, and guests */
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
    snprintf(p->address, sizeof p->address, "%s", config->address);
    p->events = *events;
    p->ctx = ctx;
    p->prng.state = io_random(config->io);
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

static void peer_free(struct peer *peer)
{
    frame_reader_free(&peer->control.end.reader);
    frame_reader_free(&peer->bulk.end.reader);
    buf_free(&peer->control.out);
    mem_free(peer);
}

void links_abandon(struct links *p)
{
    if (p == NULL) return;
    while (p->accepted != NULL) accepted_free(p, p->accepted);
    while (p->count > 0) peer_free(p->list[--p->count]);
    mem_free(p);
}

/* Closes without an event, at the end of all. */
static void dial_end(struct links *p, struct dial *d)
{
    if (d->state != DIAL_IDLE) io_link_close(p->config.io, d->end.link);
    d->state = DIAL_IDLE;
}

void links_free(struct links *p)
{
    if (p == NULL) return;
    while (p->accepted != NULL) accepted_close(p, p->accepted);
    for (size_t i = 0; i < p->count; i++) {
        dial_end(p, &p->list[i]->control);
        dial_end(p, &p->list[i]->bulk);
    }
    links_abandon(p);
}

static struct peer *find(const struct links *p, raft_id id)
{
    for (size_t i = 0; i < p->count; i++) {
        if (p->list[i]->member.id == id) return p->list[i];
    }
    return NULL;
}

/* ---- who there is ---- */

static size_t count_guests(const struct links *p)
{
    size_t guests = 0;
    for (size_t i = 0; i < p->count; i++) guests += p->list[i]->guest;
    return guests;
}

/* NULL: no memory, or too many guests. */
static struct peer *peer_add(struct links *p, const struct member *member, bool guest)
{
    if (p->count == PEERS_MAX || (guest && count_guests(p) >= LINKS_GUESTS_MAX)) return NULL;
    struct peer *peer = mem_zero(1, sizeof *peer);
    if (peer == NULL) return NULL;
    peer->member = *member;
    peer->guest = guest;
    peer->control = (struct dial){.peer = peer, .channel = HELLO_CONTROL, .wanted = true};
    peer->bulk = (struct dial){.peer = peer, .channel = HELLO_BULK};
    p->list[p->count++] = peer;
    return peer;
}

static bool has_accepted(const struct links *p, raft_id id)
{
    for (const struct peer_link *l = p->accepted; l != NULL; l = l->next) {
        if (l->from == id || (l->admitting && l->life.id == id)) return true;
    }
    return false;
}

/* A guest that is gone is forgotten; its dial, as long as it is heard, is kept up so that it can be answered. */
static bool is_forgotten(const struct links *p, const struct peer *peer)
{
    return peer->guest && peer->remembering.id == 0 && !has_accepted(p, peer->member.id) &&
           peer->control.state == DIAL_IDLE && peer->bulk.state == DIAL_IDLE;
}

static void forget_guests(struct links *p)
{
    size_t kept = 0;
    for (size_t i = 0; i < p->count; i++) {
        if (is_forgotten(p, p->list[i])) peer_free(p->list[i]);
        else p->list[kept++] = p->list[i];
    }
    p->count = kept;
}

static void dial_drop(struct links *p, struct dial *d, const char *reason);

/* Has another directory the vote of this member? */
static bool is_counted(const struct links *p, const struct links_life *life)
{
    struct links_standing s = p->events.standing(p->ctx, life->id);
    return !s.voter || s.incarnation == 0 || s.incarnation == life->incarnation;
}

/* By another configuration, other directories may have votes. */
static void count_again(struct links *p)
{
    for (struct peer_link *l = p->accepted; l != NULL; l = l->next) {
        if (l->from != 0) l->counted = is_counted(p, &l->life);
    }
}

/* It is dialled anew, where it is now. */
static void peer_move(struct links *p, struct peer *peer, const struct member *member)
{
    peer->member = *member;
    if (peer->control.state != DIAL_IDLE) dial_drop(p, &peer->control, "its address has changed");
    if (peer->bulk.state != DIAL_IDLE) dial_drop(p, &peer->bulk, "its address has changed");
    peer->control.dial_at_us = peer->bulk.dial_at_us = 0;
}

/* A guest that has become a member introduces itself once more: its incarnation matters now. */
static void peer_promote(struct links *p, struct peer *peer)
{
    peer->guest = false;
    for (struct peer_link *l = p->accepted, *next; l != NULL; l = next) {
        next = l->next;
        if (l->from == peer->member.id) accepted_close(p, l);
    }
}

int links_set(struct links *p, const struct members *members)
{
    int rv = OK;
    for (size_t i = 0; i < p->count; i++) {
        if (members_find(members, p->list[i]->member.id) == NULL) p->list[i]->guest = true;
    }
    forget_guests(p);
    for (size_t i = 0; i < members->count; i++) {
        const struct member *member = &members->list[i];
        struct peer *peer = find(p, member->id);
        if (member->id == p->config.identity->node) {
            snprintf(p->address, sizeof p->address, "%s", member->address);
            continue;
        }
        if (peer == NULL && peer_add(p, member, false) == NULL) rv = ERR_NOMEM;
        if (peer != NULL && peer->guest) peer_promote(p, peer);
        if (peer != NULL && strcmp(peer->member.address, member->address) != 0) peer_move(p, peer, member);
    }
    count_again(p);
    return rv;
}

void links_name(struct links *p, raft_index index)
{
    p->named = index;
}

void links_rejoin(struct links *p, bool rejoining, bool anew)
{
    p->config.rejoining = rejoining;
    while (anew && p->accepted != NULL) accepted_close(p, p->accepted);
    for (size_t i = 0; i < p->count && anew; i++) {
        struct dial *dials[] = {&p->list[i]->control, &p->list[i]->bulk};
        for (size_t k = 0; k < COUNT_OF(dials); k++) {
            if (dials[k]->state != DIAL_IDLE) dial_drop(p, dials[k], "this node's directory is another one now");
        }
    }
}

static struct hello my_hello(const struct links *p, raft_id to, enum hello_channel channel)
{
    const struct store_identity *me = p->config.identity;
    struct hello h = {.protocol_min = HELLO_PROTOCOL_MIN, .protocol = HELLO_PROTOCOL, .from = me->node, .to = to,
                      .incarnation = me->incarnation, .epoch = p->config.epoch,
                      .named = p->named, .rejoining = p->config.rejoining,
                      .channel = (uint8_t)channel};
    memcpy(h.cluster, me->cluster, sizeof h.cluster);
    memcpy(h.before, p->config.before, sizeof h.before);
    snprintf(h.name, sizeof h.name, "%s", me->name);
    snprintf(h.list, sizeof h.list, "%s", me->list);
    snprintf(h.address, sizeof h.address, "%s", p->address);
    return h;
}

/* ---- the dialled link ---- */

/* The link is gone (closed by the world or here): dial again after a while, the longer the more often it failed. */
static void dial_lost(struct links *p, struct dial *d, const char *reason, bool refused)
{
    bool was_up = d->state == DIAL_UP;
    bool news = was_up || strncmp(d->down, reason, sizeof d->down - 1) != 0;
    uint64_t now = io_now(p->config.io), longest_us = p->config.election_timeout_us;
    snprintf(d->down, sizeof d->down, "%s", reason);
    d->state = DIAL_IDLE;
    frame_reader_free(&d->end.reader);
    buf_free(&d->out);
    uint64_t doubled_us = MIN(MAX(2 * d->backoff_us, LINKS_BACKOFF_MIN_US), longest_us);
    bool lasted = was_up && now >= d->up_us + p->config.heartbeat_us;
    d->backoff_us = lasted ? LINKS_BACKOFF_FIRST_US : was_up ? LINKS_BACKOFF_MIN_US : doubled_us;
    d->dial_at_us = now + d->backoff_us / 2 + prng_below(&p->prng, d->backoff_us / 2 + 1);
    if (news) p->events.down(p->ctx, d->peer->member.id, d->channel, refused);
}

static void dial_drop(struct links *p, struct dial *d, const char *reason)
{
    io_link_close(p->config.io, d->end.link);
    dial_lost(p, d, reason, false);
}

static void dial(struct links *p, struct dial *d)
{
    struct err e;
    d->end = (struct peer_link){.dialled = d, .heard_us = io_now(p->config.io)};
    frame_reader_init(&d->end.reader);
    if (io_connect(p->config.io, d->peer->member.address, &d->end.link, &e) != OK) {
        dial_lost(p, d, e.text, false);
        return;
    }
    d->end.link->user = &d->end;
    d->state = DIAL_CONNECTING;
}

static void dial_send(struct links *p, struct dial *d, struct buf *frame, bool written)
{
    if (written && io_send(p->config.io, d->end.link, frame) == OK) return;
    buf_free(frame);
    dial_drop(p, d, "out of memory");
}

void links_connected(struct links *p, struct io_link *link)
{
    struct peer_link *l = link->user;
    struct dial *d = l->dialled;
    ASSERT(d != NULL && d->state == DIAL_CONNECTING);
    d->state = DIAL_GREETING;
    l->heard_us = io_now(p->config.io);
    struct buf frame = {0};
    struct hello h = my_hello(p, d->peer->member.id, d->channel);
    dial_send(p, d, &frame, hello_write(&frame, LINKS_GROUP, &h));
}

static void ping(struct links *p, struct dial *d, uint64_t now)
{
    struct buf frame = {0};
    d->ping_at_us = now + p->config.heartbeat_us;
    dial_send(p, d, &frame, ping_write(&frame, LINKS_GROUP, FRAME_PING, now));
}

static void dial_up(struct links *p, struct dial *d)
{
    d->state = DIAL_UP;
    d->down[0] = '\0';
    d->backoff_us = 0;
    d->end.heard_us = d->up_us = io_now(p->config.io);
    d->ping_at_us = d->end.heard_us + p->config.heartbeat_us;
    p->events.up(p->ctx, d->peer->member.id, d->channel);
}

/* Is it the directory that has this voter's vote, and not an older copy of that? OK, ERR_REPLACED, ERR_ROLLED_BACK.
 * One that a later configuration names than is known here need not be. */
static int judge(const struct links *p, const struct hello *h)
{
    struct links_standing s = p->events.standing(p->ctx, h->from);
    if (!s.voter || s.incarnation == 0) return OK;
    if (h->incarnation != s.incarnation) return h->named > s.index ? OK : ERR_REPLACED;
    enum store_peer_verdict v = store_peer_judge(p->config.store, h->from, h->incarnation, h->epoch, h->before);
    return v == STORE_PEER_ROLLED_BACK ? ERR_ROLLED_BACK : OK;
}

static const char *fault_text(int code)
{
    return code == ERR_ROLLED_BACK ? "has come back with an older copy of its directory"
                                   : "has come back with another directory";
}

/* What the directory before has said, and is still under way, is not heard any more: it is void. */
static void tell_lost(struct links *p, const struct hello *h)
{
    enum store_peer_verdict v = store_peer_judge(p->config.store, h->from, h->incarnation, h->epoch, h->before);
    if (v != STORE_PEER_REPLACED && v != STORE_PEER_ROLLED_BACK) return;
    for (struct peer_link *l = p->accepted, *next; l != NULL; l = next) {
        next = l->next;
        if (l->from == h->from && l->life.epoch != h->epoch) accepted_close(p, l);
    }
    p->events.lost(p->ctx, h->from);
}

/* Refused for its directory, or not: a member says whether it is to be admitted anew. */
static void note_rejoining(struct links *p, const struct hello *h)
{
    const struct peer *peer = find(p, h->from);
    bool ours = memcmp(h->cluster, p->config.identity->cluster, sizeof h->cluster) == 0;
    if (peer == NULL || peer->guest || !ours) return;
    p->events.rejoining(p->ctx, h->from, h->rejoining ? h->incarnation : 0);
}

/* The answer to this node's hello. */
static void dial_on_answer(struct links *p, struct dial *d, const struct frame *f)
{
    struct hello h;
    struct refusal refusal;
    struct err e = {0};
    char text[sizeof d->down];
    raft_id id = d->peer->member.id;
    if (f->type == FRAME_REFUSAL && refusal_read(f, &refusal, &e) == OK) {
        d->backoff_us = p->config.election_timeout_us; /* it will not change its mind soon */
        snprintf(text, sizeof text, "refused: %.*s", (int)(sizeof text - sizeof "refused: "), refusal.text);
        dial_drop(p, d, text);
        bool disowned = refusal.code == ERR_REPLACED || refusal.code == ERR_ROLLED_BACK;
        if (disowned) p->events.disowned(p->ctx, id, refusal.code);
    } else if (f->type != FRAME_HELLO || hello_read(f, &h, &e) != OK) {
        dial_drop(p, d, "no hello in answer");
    } else if (h.from != id || memcmp(h.cluster, p->config.identity->cluster, sizeof h.cluster) != 0) {
        snprintf(text, sizeof text, "member %" PRIu64 " of cluster \"%.32s\" answers there", h.from, h.name);
        dial_drop(p, d, text);
    } else if (judge(p, &h) != OK) {
        snprintf(text, sizeof text, "it %s", fault_text(judge(p, &h)));
        dial_drop(p, d, text);
        note_rejoining(p, &h);
    } else {
        tell_lost(p, &h);
        dial_up(p, d);
        note_rejoining(p, &h);
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

/* Another directory than the one that is just being remembered: one after the other. */
static bool is_second(const struct links *p, const struct hello *h)
{
    const struct peer *peer = find(p, h->from);
    return peer != NULL && peer->remembering.id != 0 && peer->remembering.incarnation != h->incarnation;
}

static int object_to_directory(const struct links *p, const struct hello *h, int code, char *text, size_t size)
{
    char outlook[ERR_TEXT_MAX];
    p->events.outlook(p->ctx, h->from, h->rejoining, outlook, sizeof outlook);
    int used = snprintf(text, size,
                        "member %" PRIu64 " %s, and may have forgotten a vote and entries it acknowledged: ",
                        h->from, fault_text(code));
    size_t at = MIN((size_t)used, size - 1);
    snprintf(text + at, size - at, "%.*s", (int)(size - at - 1), outlook);
    return code;
}

/* Who may speak here? OK: the one that says this hello. */
static int objection(const struct links *p, const struct hello *h, char *text, size_t size)
{
    const struct store_identity *me = p->config.identity;
    int code = ERR_REFUSED;
    if (strcmp(h->name, me->name) != 0) {
        snprintf(text, size, "this is cluster \"%s\", not \"%s\"", me->name, h->name);
    } else if (memcmp(h->cluster, me->cluster, sizeof me->cluster) != 0) {
        snprintf(text, size, "the lists of members differ: here %.150s, there %.150s", me->list, h->list);
    } else if (h->to != me->node) {
        snprintf(text, size, "this is member %" PRIu64 ", not %" PRIu64, me->node, h->to);
    } else if (h->from == me->node) {
        snprintf(text, size, "%" PRIu64 " is this member itself", h->from);
    } else if (judge(p, h) != OK) {
        code = object_to_directory(p, h, judge(p, h), text, size);
    } else if (is_second(p, h)) {
        snprintf(text, size, "another directory of member %" PRIu64 " is just being remembered", h->from);
        code = ERR_BUSY;
    } else {
        code = OK;
    }
    return code;
}

/* The newest link of a member replaces the older ones. */
static void accept_member(struct links *p, struct peer_link *l)
{
    for (struct peer_link *at = p->accepted, *next; at != NULL; at = next) {
        next = at->next;
        if (at != l && at->from == l->life.id && at->channel == l->channel) accepted_close(p, at);
    }
    l->from = l->life.id;
    l->counted = is_counted(p, &l->life);
    l->admitting = false;
    l->heard_us = io_now(p->config.io);
    l->reader.body_max = FRAME_BODY_MAX;
    p->strangers--;
    struct buf frame = {0};
    struct hello h = my_hello(p, l->from, l->channel);
    if (hello_write(&frame, LINKS_GROUP, &h)) io_send(p->config.io, l->link, &frame);
    buf_free(&frame);
}

/* The newest link that waits on this channel for the life of its member to be remembered. */
static struct peer_link *find_admitting(const struct links *p, raft_id id, enum hello_channel channel)
{
    struct peer_link *l = p->accepted;
    while (l != NULL && !(l->admitting && l->life.id == id && l->channel == channel)) l = l->next;
    return l;
}

static bool is_known(const struct links *p, const struct links_life *life)
{
    static const uint64_t none[STORE_LIVES];
    return store_peer_judge(p->config.store, life->id, life->incarnation, life->epoch, none) == STORE_PEER_KNOWN;
}

/* Who waits is answered; a member that dialled several times meanwhile, on its newest link of each channel alone. */
void links_remembered(struct links *p, raft_id id)
{
    struct peer *peer = find(p, id);
    ASSERT(peer != NULL && peer->remembering.id == id);
    peer->remembering.id = 0;
    for (enum hello_channel channel = HELLO_CONTROL; channel <= HELLO_BULK; channel++) {
        struct peer_link *l = find_admitting(p, id, channel);
        if (l != NULL && is_known(p, &l->life)) accept_member(p, l);
        while ((l = find_admitting(p, id, channel)) != NULL) accepted_close(p, l);
    }
}

/* Who is no member here gets a place among the guests, so that it can be answered. NULL: there is none. */
static struct peer *peer_of(struct links *p, const struct hello *h)
{
    struct peer *peer = find(p, h->from);
    struct member member = {.id = h->from};
    if (peer != NULL || h->address[0] == '\0') return peer;
    snprintf(member.address, sizeof member.address, "%s", h->address);
    return peer_add(p, &member, true);
}

static void admit(struct links *p, struct peer_link *l, const struct hello *h)
{
    struct peer *peer = peer_of(p, h);
    l->life = (struct links_life){h->from, h->incarnation, h->epoch};
    l->channel = (enum hello_channel)h->channel;
    l->admitting = true;
    if (peer == NULL) {
        refuse(p, l, ERR_BUSY, "too many who are no members have called; or out of memory");
    } else if (peer->guest || is_known(p, &l->life)) {
        accept_member(p, l);
    } else if (peer->remembering.id == 0) {
        tell_lost(p, h);
        bool started = p->events.remember(p->ctx, l->life);
        if (started) peer->remembering = l->life;
        else refuse(p, l, ERR_BUSY, "out of memory");
    }
}

/* Not one of the cluster, or not yet: one question and its answer. */
static void on_stranger(struct links *p, struct peer_link *l, const struct frame *f)
{
    struct buf answer = {0};
    if (!p->events.stranger(p->ctx, f, &answer)) {
        refuse(p, l, ERR_CORRUPT, "expected one hello");
        return;
    }
    io_send(p->config.io, l->link, &answer);
    l->doomed = true;
    l->heard_us = io_now(p->config.io);
}

static void on_hello(struct links *p, struct peer_link *l, const struct frame *f)
{
    struct hello h;
    struct err e = {0};
    char text[ERR_TEXT_MAX];
    if (f->type != FRAME_HELLO && !l->admitting) {
        on_stranger(p, l, f);
        return;
    }
    if (l->admitting || hello_read(f, &h, &e) != OK) {
        refuse(p, l, e.code == ERR_VERSION ? ERR_VERSION : ERR_CORRUPT, e.code != OK ? e.text : "expected one hello");
        return;
    }
    int code = objection(p, &h, text, sizeof text);
    if (code == OK) admit(p, l, &h);
    else refuse(p, l, code, text);
    note_rejoining(p, &h);
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
    else p->events.frame(p->ctx, l->from, l->channel, l->counted, f);
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
    if (l->dialled != NULL) dial_lost(p, l->dialled, io_close_name(reason), reason == IO_CLOSE_REFUSED);
    else accepted_free(p, l);
}

/* ---- time ---- */

/* When an accepted link is given up: a stranger that does not say who it is, a member that says nothing for so long
 * that its pings must have been lost. */
static uint64_t accepted_deadline(const struct links *p, const struct peer_link *l)
{
    if (l->doomed) return l->heard_us + p->config.heartbeat_us;
    return l->heard_us + (l->from == 0 ? LINKS_HANDSHAKE_US : 3 * p->config.election_timeout_us);
}

static uint64_t dial_deadline(const struct links *p, const struct dial *d)
{
    if (d->state == DIAL_IDLE) return d->wanted ? d->dial_at_us : NEVER_US;
    if (!d->wanted) return 0;
    uint64_t lost_us = d->end.heard_us + p->config.election_timeout_us;
    return d->state == DIAL_UP ? MIN(lost_us, d->ping_at_us) : lost_us;
}

static void tick_dial(struct links *p, struct dial *d, uint64_t now)
{
    if (now < dial_deadline(p, d)) return;
    if (d->state == DIAL_IDLE) dial(p, d);
    else if (!d->wanted) dial_drop(p, d, "nothing more to say");
    else if (now >= d->end.heard_us + p->config.election_timeout_us) dial_drop(p, d, "no answer in time");
    else if (d->state == DIAL_UP) ping(p, d, now);
}

void links_tick(struct links *p)
{
    uint64_t now = io_now(p->config.io);
    for (struct peer_link *l = p->accepted, *next; l != NULL; l = next) {
        next = l->next;
        if (now >= accepted_deadline(p, l)) accepted_close(p, l);
    }
    for (size_t i = 0; i < p->count; i++) {
        struct peer *peer = p->list[i];
        peer->control.wanted = !peer->guest || has_accepted(p, peer->member.id);
        tick_dial(p, &peer->control, now);
        tick_dial(p, &peer->bulk, now);
    }
    forget_guests(p);
}

uint64_t links_deadline(const struct links *p)
{
    uint64_t at_us = NEVER_US;
    for (size_t i = 0; i < p->count; i++) {
        at_us = MIN(at_us, dial_deadline(p, &p->list[i]->control));
        at_us = MIN(at_us, dial_deadline(p, &p->list[i]->bulk));
    }
    for (const struct peer_link *l = p->accepted; l != NULL; l = l->next) at_us = MIN(at_us, accepted_deadline(p, l));
    return at_us;
}

/* ---- sending ---- */

static bool has_room(const struct links *p, const struct dial *d)
{
    return d->state == DIAL_UP && io_queued(p->config.io, d->end.link) + d->out.size < LINKS_QUEUE_BYTES;
}

struct buf *links_out(struct links *p, raft_id id)
{
    struct peer *peer = find(p, id);
    if (peer == NULL || !has_room(p, &peer->control)) return NULL;
    if (peer->control.out.data == NULL) peer->control.out = io_buffer(p->config.io);
    return &peer->control.out;
}

bool links_bulk(struct links *p, raft_id id)
{
    struct peer *peer = find(p, id);
    if (peer == NULL) return false;
    peer->bulk.wanted = true;
    return has_room(p, &peer->bulk);
}

bool links_bulk_send(struct links *p, raft_id id, struct buf *frame)
{
    bool room = links_bulk(p, id);
    if (room) dial_send(p, &find(p, id)->bulk, frame, true);
    buf_free(frame);
    return room;
}

/* The link is closed by the next tick: what was written may still leave. */
void links_bulk_end(struct links *p, raft_id id)
{
    struct peer *peer = find(p, id);
    if (peer != NULL) peer->bulk.wanted = false;
}

size_t links_bulk_queued(const struct links *p, raft_id id)
{
    const struct peer *peer = find(p, id);
    if (peer == NULL || peer->bulk.state != DIAL_UP) return 0;
    return io_queued(p->config.io, peer->bulk.end.link);
}

void links_flush(struct links *p)
{
    for (size_t i = 0; i < p->count; i++) {
        struct dial *d = &p->list[i]->control;
        if (d->out.size > 0) dial_send(p, d, &d->out, true);
    }
}

bool links_is_up(const struct links *p, raft_id id)
{
    const struct peer *peer = find(p, id);
    return peer != NULL && peer->control.state == DIAL_UP;
}

const char *links_down_reason(const struct links *p, raft_id id)
{
    const struct peer *peer = find(p, id);
    return peer == NULL ? "" : peer->control.down;
}
