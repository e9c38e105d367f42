/* Sessions of programs outside the cluster: whoever lost the answer of one member and asks again at another one gets
 * the first try's result, and nothing is applied twice (dissertation 6.3).
 *
 * Part of the replicated state: it changes only by entries of the log, in their order, and is therefore the same on
 * every node at the same index. A session does one thing after the other: it keeps the sequence of its last command and
 * that one's result. It ends when it has been idle for too long by the leader's clock; or, when there are too many of
 * them or their results take too much, as the one that has been idle for longest. */
#ifndef RAFT_SERVER_CLIENTS_H
#define RAFT_SERVER_CLIENTS_H

#include "base/buf.h"
#include "base/err.h"

#pragma GCC visibility push(hidden)

#define CLIENTS_MAX 16384u
#define CLIENT_IDLE_US (3600 * US_PER_S)
#define CLIENT_RESULT_MAX (64u << 10) /* bytes of a result that is kept */
#define CLIENTS_BYTES_MAX (64u << 20) /* of all of them */

/* What ends sessions. The same on every node of a cluster: it shapes what they all have to agree on. */
struct client_limits {
    uint32_t sessions; /* at most; 0 = CLIENTS_MAX */
    uint64_t idle_us;  /* after so long; 0 = CLIENT_IDLE_US */
};

struct client {
    uint64_t id;
    uint64_t sequence;             /* of its last command; 0 = none yet */
    uint64_t time_us;              /* the leader's clock then */
    uint8_t *result;               /* of that command, packed; NULL: too large to be kept */
    uint32_t result_size;
    struct client *older, *newer;  /* by time of use */
};

struct clients {
    struct client_limits limits;
    struct client **list;          /* sorted by id */
    size_t count, capacity;
    uint64_t bytes;                /* of results */
    struct client *oldest, *newest;
};

void clients_init(struct clients *c, struct client_limits limits);
void clients_free(struct clients *c); /* empty, with the same limits */

/* Ends sessions that have been idle for too long. Called for each entry, before anything else. */
void clients_expire(struct clients *c, uint64_t time_us);
/* A new session. Precondition: id is larger than any before (the index of the entry that opens it). ERR_NOMEM: nothing
 * changed. */
int clients_open(struct clients *c, uint64_t id, uint64_t time_us);

enum client_verdict {
    CLIENT_NEW,     /* apply it, then clients_keep */
    CLIENT_REPEAT,  /* it is the last command once more: its result is the answer */
    CLIENT_EXPIRED, /* no such session, or a command before the last one: whether it was applied is not known here */
};
/* Judges a command; a session that is still there counts as used now. *client: for NEW and REPEAT. */
enum client_verdict clients_admit(struct clients *c, uint64_t id, uint64_t sequence, uint64_t time_us,
                                  struct client **client);
/* Remembers what the command came to; others may have to end for it. ERR_NOMEM: nothing changed; the caller must not go
 * on without it. Precondition: clients_admit has just said NEW of it. */
int clients_keep(struct clients *c, struct client *client, uint64_t sequence, const void *result, size_t size);
/* The session with that id, NULL: there is none. It does not count as used. */
const struct client *clients_find(const struct clients *c, uint64_t id);

/* The table as bytes, the same for the same table, for a snapshot: u32 number, then from the one that has been idle for
 * longest: u64 id, sequence, time_us, u8 kept, u32 size, result. false: no memory, out may hold a part. */
bool clients_write(const struct clients *c, struct buf *out);
/* Fills an empty table. ERR_CORRUPT, ERR_NOMEM: it is empty again. */
int clients_read(struct clients *c, struct reader *from);

#pragma GCC visibility pop

#endif
