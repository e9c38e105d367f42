/* The log as its segments have it, found out at the start: read from front to back, batch by batch.
 *
 * The one question that matters is what damage at the end means. Batch N + 1 is written only after N is durable. So
 * when anything of a later batch is found, the damaged one had been durable, perhaps acknowledged: that is rot, and
 * the directory is refused. When nothing later is found, it is the torn end of a write that nobody was told about: it
 * is cut, that is, ignored from now on, and the log goes on in a new segment, whose header says with which batch. */
#ifndef RAFT_STORE_SCAN_H
#define RAFT_STORE_SCAN_H

#include "base/block.h"
#include "store/segments.h"

#pragma GCC visibility push(hidden)

/* One segment file. */
struct scanned {
    struct segment *segment;
    struct segment_header header;
    bool damaged;              /* one copy of the header is */
    uint64_t last_at, batches; /* offset of its last whole batch; how many it has */
};

/* Begins with all zero but s; scan_forget frees the rest. All calls block. */
struct scan {
    struct store *s;       /* borrowed; what the calls put into it is its own, also after an error */
    struct scanned *found; /* segments with a log, its own until scan_hand_over; in order once they are read */
    size_t n, capacity;
    uint64_t next;        /* number of the next batch */
    bool sealed;          /* the last batch is a seal */
    uint64_t torn;        /* bytes of the torn tail, as far as they can be seen */
    struct block **confs; /* entries of that type, in the log; one reference each. Who takes the list leaves NULL, 0 */
    size_t n_confs, confs_capacity;
};

/* Looks at a segment's file: one with a log is found, a spare goes to s->spares, mended or removed if need be (not when
 * s is only looked at). While s->identity is of no node, all are found. ERR_CORRUPT, ERR_VERSION, ERR_FOREIGN, ERR_IO,
 * ERR_NOMEM. */
int scan_add(struct scan *c, uint64_t file, struct err *e);
/* Reads what was found: fills s->map, s->term and s->vote. ERR_CORRUPT (rot, a gap, a contradiction), ERR_IO,
 * ERR_NOMEM. */
int scan_read(struct scan *c, struct err *e);
/* The log must get at least to batch `least`, which was noted elsewhere. ERR_CORRUPT. */
int scan_check_reached(const struct scan *c, uint64_t least, struct err *e);
/* What was found belongs to s->live from now on. */
void scan_hand_over(struct scan *c);
/* Forgets what was read and found, as before the first scan_add; the last call, too. */
void scan_forget(struct scan *c);

#pragma GCC visibility pop

#endif
