#include "core/log.h"

#include "base/mem.h"

#define DROP_AHEAD 8u /* entries: the oldest ones have left the processor's caches long since */

/* Drops what lies before first from the runs. */
static void drop_runs(struct raft_log *log)
{
    size_t old = 0;
    while (old < log->n_runs && (old + 1 < log->n_runs ? log->runs[old + 1].start : log->last + 1) <= log->first) old++;
    log->n_runs -= old;
    memmove(log->runs, log->runs + old, log->n_runs * sizeof *log->runs);
    if (log->n_runs > 0) log->runs[0].start = log->first;
}

/* Where the log begins. The term of the entry before its first one is known when that is the snapshot's last; else the
 * first one serves as such. */
static void init_start(struct raft_log *log, const struct raft_initial *initial)
{
    bool older = initial->n_runs > 0 && initial->runs[0].start <= initial->snapshot;
    raft_index base = older ? initial->runs[0].start : initial->snapshot;
    log->first = base + 1;
    log->before = older ? initial->runs[0].term : initial->snapshot_term;
}

int log_init(struct raft_log *log, const struct raft_initial *initial)
{
    *log = (struct raft_log){.window = 1};
    size_t n_runs = initial->n_runs, n_confs = initial->n_confs;
    if (!mem_grow((void **)&log->runs, &log->runs_capacity, n_runs + 1, sizeof *log->runs)) return ERR_NOMEM;
    if (!mem_grow((void **)&log->confs, &log->confs_capacity, n_confs + 1, sizeof *log->confs)) return ERR_NOMEM;
    if (n_runs > 0) memcpy(log->runs, initial->runs, n_runs * sizeof *log->runs);
    log->n_runs = n_runs;
    log->confs[0] = (struct raft_conf_at){.index = initial->snapshot, .conf = initial->conf};
    if (n_confs > 0) memcpy(log->confs + 1, initial->confs, n_confs * sizeof *log->confs);
    log->n_confs = n_confs + 1;
    init_start(log, initial);
    log->last = log->stable = log->handed = initial->last;
    log->window = initial->last + 1;
    log->commit = log->applied = MAX(initial->applied, initial->snapshot);
    drop_runs(log);
    return OK;
}

void log_free(struct raft_log *log)
{
    for (raft_index i = log->window; i <= log->last; i++) block_unref(log_entry(log, i)->block);
    cache_free(&log->cache);
    mem_free(log->runs);
    mem_free(log->confs);
}

int log_reserve(struct raft_log *log, size_t n, size_t n_confs)
{
    size_t confs = log->n_confs + n_confs;
    if (!mem_grow((void **)&log->confs, &log->confs_capacity, confs, sizeof *log->confs)) return ERR_NOMEM;
    if (!mem_grow((void **)&log->runs, &log->runs_capacity, log->n_runs + n, sizeof *log->runs)) return ERR_NOMEM;
    return cache_reserve(&log->cache, n);
}

void log_append(struct raft_log *log, const struct raft_entry *entry)
{
    ASSERT(entry->term >= log_last_term(log) && entry->term > 0);
    if (log->n_runs == 0 || entry->term != log_last_term(log)) {
        ASSERT(log->n_runs < log->runs_capacity);
        log->runs[log->n_runs++] = (struct raft_run){.start = log->last + 1, .term = entry->term};
    }
    log->last++;
    if (entry->type == RAFT_ENTRY_CONFIG) {
        ASSERT(entry->conf != NULL && log->n_confs < log->confs_capacity);
        log->confs[log->n_confs++] = (struct raft_conf_at){.index = log->last, .conf = *entry->conf};
        log->conf_changes++;
    }
    *cache_push(&log->cache, log->last) =
        (struct raft_cached){.block = entry->block, .size = entry->size, .type = entry->type};
    log->window_bytes += entry->size;
    if (entry->block != NULL) block_ref(entry->block);
}

void log_truncate(struct raft_log *log, raft_index from)
{
    ASSERT(from > log->commit && from <= log->last);
    for (raft_index i = MAX(from, log->window); i <= log->last; i++) {
        struct raft_cached *entry = log_entry(log, i);
        log->window_bytes -= entry->size;
        block_unref(entry->block);
    }
    log->last = from - 1;
    log->window = MIN(log->window, from);
    cache_trim(&log->cache, log->window, log->last);
    log->stable = MIN(log->stable, from - 1);
    while (log->n_runs > 0 && log->runs[log->n_runs - 1].start >= from) log->n_runs--;
    for (; log->confs[log->n_confs - 1].index >= from; log->n_confs--) log->conf_changes++;
    if (log->handed >= from) {
        log->handed = from - 1;
        log->truncated = log->truncated == 0 ? from : MIN(log->truncated, from);
    }
}

static void drop_oldest(struct raft_log *log)
{
    struct raft_cached *entry = log_entry(log, log->window);
    if (log->window % CACHE_PAGE < CACHE_PAGE - DROP_AHEAD) block_ref_ahead(entry[DROP_AHEAD].block);
    log->window_bytes -= entry->size;
    block_unref(entry->block);
    log->window++;
    if (log->window % CACHE_PAGE == 0 || log->window > log->last) cache_trim(&log->cache, log->window, log->last);
}

void log_compact(struct raft_log *log, raft_index index)
{
    ASSERT(index >= log->first && index <= MIN(log->stable, log->commit));
    while (log->window <= index) drop_oldest(log);
    log->before = log_term(log, index);
    log->first = index + 1;
    drop_runs(log);
    size_t old = 0; /* configurations that are not in force at index any more */
    while (old + 1 < log->n_confs && log->confs[old + 1].index <= index) old++;
    log->n_confs -= old;
    memmove(log->confs, log->confs + old, log->n_confs * sizeof *log->confs);
}

void log_restore(struct raft_log *log, raft_index index, raft_term term, const struct raft_conf *conf)
{
    ASSERT(index > log->commit && term > 0);
    while (log->window <= log->last) drop_oldest(log);
    log->n_runs = 0;
    log->confs[0] = (struct raft_conf_at){.index = index, .conf = *conf};
    log->n_confs = 1;
    log->conf_changes++;
    log->first = log->window = index + 1;
    log->before = term;
    log->last = log->handed = log->commit = index;
    log->truncated = 0;
}

static uint64_t memory_of_window(const struct raft_log *log)
{
    return log->window_bytes + (log->last + 1 - log->window) * CACHE_ENTRY_COST;
}

void log_evict(struct raft_log *log, uint64_t bytes)
{
    raft_index safe = MIN(log->stable, log->commit);
    while (log->window <= safe && memory_of_window(log) > bytes) drop_oldest(log);
}

/* The run that holds the largest index whose start is <= index: the last such run; NULL for index before all. */
static const struct raft_run *run_of(const struct raft_log *log, raft_index index)
{
    size_t low = 0, high = log->n_runs; /* runs[low - 1].start <= index < runs[high].start */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (log->runs[middle].start <= index) low = middle + 1;
        else high = middle;
    }
    return low == 0 ? NULL : &log->runs[low - 1];
}

raft_term log_term(const struct raft_log *log, raft_index index)
{
    ASSERT(index + 1 >= log->first && index <= log->last);
    if (index + 1 == log->first) return log->before;
    const struct raft_run *run = run_of(log, index);
    ASSERT(run != NULL);
    return run->term;
}

raft_term log_last_term(const struct raft_log *log)
{
    return log->n_runs == 0 ? log->before : log->runs[log->n_runs - 1].term;
}

bool log_matches(const struct raft_log *log, raft_index index, raft_term term)
{
    if (index + 1 < log->first) return true;
    return index <= log->last && log_term(log, index) == term;
}

raft_index log_find_term(const struct raft_log *log, raft_index index, raft_term term)
{
    ASSERT(index <= log->last);
    while (index >= log->first) {
        const struct raft_run *run = run_of(log, index);
        if (run->term <= term) return index;
        index = run->start - 1;
    }
    bool known = index + 1 == log->first;
    return known && log->before > term ? index - 1 : index;
}

const struct raft_conf_at *log_conf(const struct raft_log *log)
{
    return &log->confs[log->n_confs - 1];
}

const struct raft_conf *log_conf_at(const struct raft_log *log, raft_index index)
{
    for (size_t i = log->n_confs; i > 0; i--) {
        if (log->confs[i - 1].index <= index) return &log->confs[i - 1].conf;
    }
    return NULL;
}

bool log_is_up_to_date(const struct raft_log *log, raft_index index, raft_term term)
{
    raft_term mine = log_last_term(log);
    return term > mine || (term == mine && index >= log->last);
}
