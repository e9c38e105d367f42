/* The session table: what makes a command that was proposed twice be applied once (dissertation 6.3).
 *
 * Part of the replicated state: it changes only by entries of the log, in their order, and is therefore the same on
 * every node at the same index. A session belongs to a member and is keyed by its id. Its epoch is one life of that
 * member: a larger one fences what an earlier life still has on the way. Within an epoch each proposal has a sequence
 * and tells the lowest one that is still awaited: what lies below is settled for good, what lies above is one bit
 * each. */
#ifndef RAFT_SERVER_SESSIONS_H
#define RAFT_SERVER_SESSIONS_H

#include "base/buf.h"
#include "wire/entry.h"

#pragma GCC visibility push(hidden)

#define SESSION_WINDOW 65536u /* sequences from the lowest awaited one that can be told apart */

struct session {
    uint64_t id, epoch;
    uint64_t lowest;                    /* all below is settled */
    uint64_t seen[SESSION_WINDOW / 64]; /* bit sequence % SESSION_WINDOW: applied, for lowest .. lowest + window - 1 */
};

struct sessions {
    struct session **list; /* sorted by id */
    size_t count, capacity;
};

enum session_verdict {
    SESSION_NEW,       /* apply it */
    SESSION_DUPLICATE, /* it was applied before, or given up by its proposer */
    SESSION_FENCED,    /* of an earlier life of its member, or beyond the window */
};

void sessions_free(struct sessions *s);
/* Judges the entry and remembers it. ERR_NOMEM: nothing changed; the caller must not go on without it. */
int sessions_admit(struct sessions *s, const struct entry *e, enum session_verdict *verdict);
/* Has this been applied, or given up? Changes nothing. */
bool sessions_has(const struct sessions *s, uint64_t id, uint64_t epoch, uint64_t sequence);

/* The table as bytes, the same for the same table, for a snapshot: u32 number of sessions, then for each u64 id, epoch,
 * lowest, u32 number of sequences seen, u16 each: sequence - lowest. false: no memory, out may hold a part. */
bool sessions_write(const struct sessions *s, struct buf *out);
/* Fills an empty table. ERR_CORRUPT, ERR_NOMEM: it is empty again. */
int sessions_read(struct sessions *s, struct reader *from);

#pragma GCC visibility pop

#endif
