/* Links to the other members. Every node dials every other one: what it has to say to a peer goes out on the link it
 * dialled, what it hears comes in on links that were accepted. So there is nothing to negotiate, and a link that was
 * dialled anew replaces the old one at both ends.
 *
 * A dialled link says hello, waits for the answer, and is up. A ping on it every heartbeat, echoed by the peer, tells a
 * peer that vanished without closing (no answer within the election timeout). Dialling again backs off with jitter.
 * An accepted link must say hello in time, of the same cluster, from a member, and from the directory that this node
 * remembers for that member: one that lost its directory may have forgotten a vote and what it acknowledged, and is refused
 * as a voter. The first incarnation seen is remembered durably before the hello is answered. */
#ifndef RAFT_SERVER_LINKS_H
#define RAFT_SERVER_LINKS_H

#include "base/io.h"
#include "base/prng.h"
#include "server/members.h"
#include "store/store.h"
#include "wire/hello.h"

#pragma GCC visibility push(hidden)

#define LINKS_GROUP 0u                     /* group id of every frame: several groups a process come later */
#define LINKS_QUEUE_BYTES (64u << 20)      /* unsent bytes to one peer: beyond it nothing is queued */
#define LINKS_STRANGERS_MAX 64u            /* accepted links that have not said who they are */
#define LINKS_HANDSHAKE_US (5 * US_PER_S)  /* time for a hello */
#define LINKS_BACKOFF_MIN_US (20 * US_PER_MS)
#define LINKS_PONGS_BYTES (64u << 10)      /* unsent bytes to one peer that pings and does not read: no pongs beyond */

struct links;

struct links_events {
    void (*frame)(void *ctx, raft_id from, const struct frame *frame); /* any but hello and ping; not to be kept */
    void (*up)(void *ctx, raft_id id);   /* the dialled link */
    void (*down)(void *ctx, raft_id id); /* it, or it is down still, for another reason */
    /* Make this incarnation durable (store_remember_peer), then call links_remembered, if the links are still there.
     * One call a member at a time. false: not started. */
    bool (*remember)(void *ctx, raft_id id, uint64_t incarnation);
};

struct links_config {
    struct io *io;
    const struct store *store;           /* knows incarnations */
    const struct store_identity *identity;
    const struct members *members;       /* this node among them */
    uint64_t election_timeout_us, heartbeat_us;
};

/* config's pointers outlive the peers. NULL: no memory. Starts dialling at the first links_tick. */
struct links *links_new(const struct links_config *config, const struct links_events *events, void *ctx);
/* Closes all links, without events. NULL is allowed. */
void links_free(struct links *p);
/* The same where the world has died, and its links with it: frees memory only. */
void links_abandon(struct links *p);

/* The world's events about links, passed on by the engine. */
void links_accepted(struct links *p, struct io_link *link);
void links_connected(struct links *p, struct io_link *link);
void links_received(struct links *p, struct io_link *link, const uint8_t *data, size_t size);
void links_closed(struct links *p, struct io_link *link, enum io_close reason);

/* The end of events.remember: the store knows the incarnation now, or could not write it. */
void links_remembered(struct links *p, raft_id id);

void links_tick(struct links *p);
uint64_t links_deadline(const struct links *p);

/* Where to write frames for a peer; they leave together with links_flush. NULL: its link is down, or its queue full. */
struct buf *links_out(struct links *p, raft_id id);
void links_flush(struct links *p);

bool links_is_up(const struct links *p, raft_id id);
/* Why the link is down, for people; "" when up or never tried. */
const char *links_down_reason(const struct links *p, raft_id id);

#pragma GCC visibility pop

#endif
