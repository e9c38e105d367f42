/* The log as the core knows it: terms of all entries as runs, and a window of the newest entries with their sizes and
 * blocks (dissertation 3.5, 3.6). A log of 10^8 entries costs a few runs and the window.
 *
 *   1 ........ commit ........ stable ........ handed ........ last
 *                    window ...................................last
 *
 * stable: durable here. handed: given out for persisting. window: first entry still in memory; what is not durable or
 * not committed yet never leaves it. commit <= last always; commit may pass stable (others were faster). */
#ifndef RAFT_CORE_LOG_H
#define RAFT_CORE_LOG_H

#include "core/raft.h"

#pragma GCC visibility push(hidden)

struct raft_log {
    struct raft_run *runs;
    size_t n_runs, runs_capacity;
    raft_index last, stable, handed, commit, applied;
    raft_index truncated; /* stored entries from here on are void and the store was not told yet; 0 = none */
    struct raft_entry *ring; /* entry i stands at ring[i & (capacity - 1)] */
    size_t ring_capacity;    /* a power of two, or 0 */
    raft_index window;
    uint64_t window_bytes;
};

/* Takes over last and runs of initial: all durable, all handed out, none in the window. ERR_NOMEM. */
int log_init(struct raft_log *log, const struct raft_initial *initial);
void log_free(struct raft_log *log); /* drops the window's references */

/* Room for n more entries, so that log_append cannot fail. ERR_NOMEM: nothing changed. */
int log_reserve(struct raft_log *log, size_t n);
/* Appends at last + 1 and takes a reference on its block. Preconditions: reserved; term >= the last one's. */
void log_append(struct raft_log *log, const struct raft_entry *entry);
/* Voids the entries from `from` on. Precondition: commit < from <= last. */
void log_truncate(struct raft_log *log, raft_index from);
/* Drops the oldest entries from the window while it holds more than bytes. */
void log_evict(struct raft_log *log, uint64_t bytes);

raft_term log_term(const struct raft_log *log, raft_index index); /* 0 for index 0. Precondition: index <= last */
raft_term log_last_term(const struct raft_log *log);
/* The entry in the window; NULL when older. Precondition: index <= last. */
struct raft_entry *log_entry(const struct raft_log *log, raft_index index);
/* The largest index <= index whose term is <= term (0 if none): where two logs may still agree (fast back-tracking,
 * dissertation 3.5, end). */
raft_index log_find_term(const struct raft_log *log, raft_index index, raft_term term);
/* Is a log that ends in (term, index) at least as up to date as this one (dissertation 3.6.1)? */
bool log_is_up_to_date(const struct raft_log *log, raft_index index, raft_term term);

#pragma GCC visibility pop

#endif
