/* The engine's table of this node's own open proposals: what to send again when the leader changes.
 *
 * A proposal leaves the table when it is seen committed, when it is refused for certain, or when its caller gives it
 * up. `copies` counts the copies that may have entered a log: as long as it is 0, "nothing was handed over" is the
 * truth. */
#ifndef RAFT_SERVER_PENDING_H
#define RAFT_SERVER_PENDING_H

#include "wire/entry.h"

#pragma GCC visibility push(hidden)

struct proposal {
    struct block *block; /* NULL: not in the table */
    uint32_t copies;
    bool sent;           /* on the way to the present leader */
    uint32_t late;       /* times it was sent again to it because nothing was heard */
    uint64_t sent_us;
};

struct pending {
    struct proposal *ring; /* sequence at sequence & mask */
    size_t mask;
    uint64_t lowest, next; /* sequences in the table lie in lowest .. next - 1 */
    uint64_t unsent;       /* none below is to be sent */
};

int pending_init(struct pending *p, uint32_t capacity); /* ERR_NOMEM */
/* The sequence of the first proposal that will be added. Precondition: none was added yet. */
void pending_start(struct pending *p, uint64_t sequence);
void pending_free(struct pending *p);
/* Takes the block, whose sequence is the largest so far. Precondition: the host's bounds keep the ring from filling. */
void pending_add(struct pending *p, struct block *block);
/* NULL when it is not in the table. */
struct proposal *pending_find(struct pending *p, uint64_t sequence);
void pending_remove(struct pending *p, uint64_t sequence);
/* The first proposal to be sent at or after *sequence (moved on to it); NULL: none. */
struct proposal *pending_unsent(struct pending *p, uint64_t *sequence);
/* The proposal's present copy is lost or was refused: it is to be sent again. */
void pending_resend(struct pending *p, uint64_t sequence);
/* So are all: another leader, or another link to it. */
void pending_resend_all(struct pending *p);
/* Those of which nothing was heard are to be sent again: after patience_us, then after twice as long each time, since
 * copies that wait in a log (for a slow disk, a busy host) are not lost, and each one makes the log longer. What went
 * to other leaders, or on links that broke, says nothing about this one: it does not count. */
void pending_resend_late(struct pending *p, uint64_t now, uint64_t patience_us);
/* Makes the proposal's block one that was never stamped, so that it can be proposed once more. ERR_NOMEM. */
int pending_renew(struct proposal *proposal);

#pragma GCC visibility pop

#endif
