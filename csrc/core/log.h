/* The log as the core knows it: terms of all entries as runs, the configurations in it, and a window of the newest
 * entries with their sizes and blocks (dissertation 3.5, 3.6, 5.1). A log of 10^8 entries costs a few runs and the
 * window.
 *
 *   first ........ commit ........ stable ........ handed ........ last
 *                        window ...................................last
 *
 * first: oldest that is not compacted; of the one before it the term is still known. stable: durable here. handed:
 * given out for persisting. window: first entry still in memory; what is not durable or not committed yet never
 * leaves it. commit <= last always; commit may pass stable (others were faster). */
#ifndef RAFT_CORE_LOG_H
#define RAFT_CORE_LOG_H

#include "core/cache.h"
#include "core/raft.h"

#pragma GCC visibility push(hidden)

struct raft_log {
    struct raft_run *runs;      /* from first on */
    size_t n_runs, runs_capacity;
    struct raft_conf_at *confs; /* ascending; the first is the one in force at first - 1 */
    size_t n_confs, confs_capacity;
    uint64_t conf_changes;      /* how often the latest one became another */
    raft_index first;
    raft_term before;           /* term of entry first - 1 */
    raft_index last, stable, handed, commit, applied;
    raft_index truncated; /* stored entries from here on are void and the store was not told yet; 0 = none */
    struct raft_cache cache; /* window .. last */
    raft_index window;
    uint64_t window_bytes;   /* entries' sizes */
};

/* Takes over last, runs and configurations of initial: all durable, all handed out, none in the window. ERR_NOMEM. */
int log_init(struct raft_log *log, const struct raft_initial *initial);
void log_free(struct raft_log *log); /* drops the window's references */

/* Room for n more entries, of them n_confs configurations, so that log_append cannot fail. ERR_NOMEM: nothing
 * changed. */
int log_reserve(struct raft_log *log, size_t n, size_t n_confs);
/* Appends at last + 1 and takes a reference on its block. Preconditions: reserved; term >= the last one's. */
void log_append(struct raft_log *log, const struct raft_entry *entry);
/* Voids the entries from `from` on. Precondition: commit < from <= last. */
void log_truncate(struct raft_log *log, raft_index from);
/* Forgets the entries up to index, which are covered by a snapshot. Precondition: index <= stable and commit. */
void log_compact(struct raft_log *log, raft_index index);
/* Forgets all: from now on the log is empty behind a snapshot of (index, term), which is committed. Nothing of it is
 * handed out or durable. Precondition: index > commit. */
void log_restore(struct raft_log *log, raft_index index, raft_term term, const struct raft_conf *conf);
/* Drops the oldest entries from the window while it takes up more memory than that. */
void log_evict(struct raft_log *log, uint64_t bytes);

raft_term log_term(const struct raft_log *log, raft_index index); /* Precondition: first - 1 <= index <= last */
raft_term log_last_term(const struct raft_log *log);
/* Does this log hold what another one holds at (index, term), so that they agree up to there? Of what is compacted:
 * yes, it was committed. */
bool log_matches(const struct raft_log *log, raft_index index, raft_term term);
/* The entry in the window; NULL when older. Precondition: index <= last. */
static inline struct raft_cached *log_entry(const struct raft_log *log, raft_index index)
{
    ASSERT(index <= log->last);
    return index < log->window ? NULL : cache_at(&log->cache, index);
}
/* The largest index <= index where this log may still agree with one whose term there is `term`: its own term is not
 * above it (fast back-tracking, dissertation 3.5, end). Below first when only compacted entries may. */
raft_index log_find_term(const struct raft_log *log, raft_index index, raft_term term);
/* The latest configuration, and the one in force at an index (NULL: not known any more). */
const struct raft_conf_at *log_conf(const struct raft_log *log);
const struct raft_conf *log_conf_at(const struct raft_log *log, raft_index index);
/* Is a log that ends in (term, index) at least as up to date as this one (dissertation 3.6.1)? */
bool log_is_up_to_date(const struct raft_log *log, raft_index index, raft_term term);

#pragma GCC visibility pop

#endif
