/* Links to the other members. Every node dials every other one: what it has to say to a peer goes out on the link it
 * dialled, what it hears comes in on links that were accepted. So there is nothing to negotiate, and a link that was
 * dialled anew replaces the old one at both ends.
 *
 * Two channels. Control carries everything that is small and urgent, and is dialled at once and always. Bulk carries
 * snapshots, so that they never delay a heartbeat; it is dialled when there is one to be sent.
 *
 * A dialled link says hello, waits for the answer, and is up. A ping on it every heartbeat, echoed by the peer, tells a
 * peer that vanished without closing (no answer within the election timeout). Dialling again backs off with jitter.
 * An accepted link must say hello in time, of the same cluster, and as a voter from the directory that has its vote
 * (wire/conf.h): one that lost its directory, or came back with an older copy of it, may have forgotten a vote and what
 * it acknowledged, and is refused. Each directory seen, and each later life of it, is remembered durably before the
 * hello is answered. A voter whose directory is named by a configuration that has not arrived here yet is heard, since
 * it may lead, but not counted.
 *
 * Members change. Whoever introduces itself as of this cluster without being a member here is a guest: it may know a
 * configuration that has not arrived here yet, and then has to be heard and answered (dissertation 4.1). */
#ifndef RAFT_SERVER_LINKS_H
#define RAFT_SERVER_LINKS_H

#include "base/io.h"
#include "base/prng.h"
#include "wire/members.h"
#include "store/store.h"
#include "wire/hello.h"

#pragma GCC visibility push(hidden)

#define LINKS_GROUP 0u                     /* group id of every frame: several groups a process come later */
#define LINKS_QUEUE_BYTES (64u << 20)      /* unsent bytes to one peer: beyond it nothing is queued */
#define LINKS_STRANGERS_MAX 64u            /* accepted links that have not said who they are */
#define LINKS_GUESTS_MAX 8u                /* peers that are no members */
#define LINKS_HANDSHAKE_US (5 * US_PER_S)  /* time for a hello */
#define LINKS_BACKOFF_MIN_US (20 * US_PER_MS)
#define LINKS_BACKOFF_FIRST_US (2 * US_PER_MS) /* after a link that lasted: if its process died, that is to be known */
#define LINKS_PONGS_BYTES (64u << 10)      /* unsent bytes to one peer that pings and does not read: no pongs beyond */

struct links;

/* Whose life it is that shall be remembered. */
struct links_life {
    raft_id id;
    uint64_t incarnation, epoch;
};

/* How this node counts a member. */
struct links_standing {
    bool voter;
    uint64_t incarnation; /* of a voter: of the directory that has its vote; 0 = any has */
    raft_index index;     /* of the configuration that says so */
};

struct links_events {
    /* Any but hello and ping; not to be kept. counted: not so when another directory has the vote of this member, so
     * that what it asks is to be heard, and what it answers is not. */
    void (*frame)(void *ctx, raft_id from, enum hello_channel channel, bool counted, const struct frame *frame);
    /* A member comes with another directory than before, or an older copy of it: what it confirmed is void. Before it
     * is heard, or anything is said to it. */
    void (*lost)(void *ctx, raft_id id);
    void (*up)(void *ctx, raft_id id, enum hello_channel channel); /* the dialled link */
    /* It is down; or down still, for another reason. refused: nobody listens there any more, so that its process is
     * gone. */
    void (*down)(void *ctx, raft_id id, enum hello_channel channel, bool refused);
    /* Make this life durable (store_remember_peer), then call links_remembered, if the links are still there. One call
     * a peer at a time. false: not started. */
    bool (*remember)(void *ctx, struct links_life life);
    struct links_standing (*standing)(void *ctx, raft_id id);
    /* A member has said hello, and that its directory replaces one that was lost; 0: that it does not. */
    void (*rejoining)(void *ctx, raft_id id, uint64_t incarnation);
    /* One that is refused for its directory will ask for the reason, and what can be done: a text for people. */
    void (*outlook)(void *ctx, raft_id id, bool rejoining, char *text, size_t size);
    /* A member refuses this node for its directory: ERR_REPLACED, ERR_ROLLED_BACK. */
    void (*disowned)(void *ctx, raft_id by, int code);
    /* A frame other than a hello on a link that was not introduced: *out takes the answer, after which the link is
     * closed. false: it makes no sense. */
    bool (*stranger)(void *ctx, const struct frame *frame, struct buf *out);
};

struct links_config {
    struct io *io;
    const struct store *store;           /* knows incarnations */
    const struct store_identity *identity;
    uint64_t epoch;                      /* of this life */
    const uint64_t *before;              /* STORE_LIVES: those before it */
    bool rejoining;                      /* see hello.h, as the next two functions */
    const char *address;                 /* where this node can be dialled, while it is no member; read during
                                            links_new only */
    uint64_t election_timeout_us, heartbeat_us;
};

/* config's pointers outlive the links; without peers. NULL: no memory. Starts dialling at the first links_tick after
 * links_set. */
struct links *links_new(const struct links_config *config, const struct links_events *events, void *ctx);
/* Closes all links, without events. NULL is allowed. */
void links_free(struct links *p);
/* The same where the world has died, and its links with it: frees memory only. */
void links_abandon(struct links *p);

/* Who the members are from now on; this node may be among them. Links to those that are not any more stay until they
 * break: they may have something to be told. Not from inside an event. ERR_NOMEM: some are missing, call again. */
int links_set(struct links *p, const struct members *members);

/* The newest configuration here, of this index, names this directory as a voter's; 0: none does. */
void links_name(struct links *p, raft_index index);
/* Tells of it in later hellos. anew: at once, everywhere; the identity has changed. Not from inside an event. */
void links_rejoin(struct links *p, bool rejoining, bool anew);

/* The world's events about links, passed on by the engine. */
void links_accepted(struct links *p, struct io_link *link);
void links_connected(struct links *p, struct io_link *link);
void links_received(struct links *p, struct io_link *link, const uint8_t *data, size_t size);
void links_closed(struct links *p, struct io_link *link, enum io_close reason);

/* The end of events.remember: the store knows the life now, or could not write it. */
void links_remembered(struct links *p, raft_id id);

void links_tick(struct links *p);
uint64_t links_deadline(const struct links *p);

/* Where to write frames for a peer; they leave together with links_flush. NULL: its link is down, or its queue full. */
struct buf *links_out(struct links *p, raft_id id);
/* Can a frame be sent on the bulk channel? It is dialled if it is not there yet: events.up follows. */
bool links_bulk(struct links *p, raft_id id);
/* Sends one, which is taken whatever comes of it. false: it could not be. */
bool links_bulk_send(struct links *p, raft_id id, struct buf *frame);
/* Nothing more is to be said on the bulk channel. */
void links_bulk_end(struct links *p, raft_id id);
/* Bytes to a peer on the bulk channel that have not left yet. */
size_t links_bulk_queued(const struct links *p, raft_id id);
void links_flush(struct links *p);

bool links_is_up(const struct links *p, raft_id id);
/* Why the link is down, for people; "" when up or never tried. */
const char *links_down_reason(const struct links *p, raft_id id);

#pragma GCC visibility pop

#endif
