#include "core/log.h"

#include "base/mem.h"

#define RING_MIN 64u

int log_init(struct raft_log *log, const struct raft_initial *initial)
{
    *log = (struct raft_log){0};
    if (!mem_grow((void **)&log->runs, &log->runs_capacity, initial->n_runs + 1, sizeof *log->runs)) return ERR_NOMEM;
    if (initial->n_runs > 0) memcpy(log->runs, initial->runs, initial->n_runs * sizeof *log->runs);
    log->n_runs = initial->n_runs;
    log->last = log->stable = log->handed = initial->last;
    log->window = initial->last + 1;
    log->commit = log->applied = initial->applied;
    return OK;
}

void log_free(struct raft_log *log)
{
    for (raft_index i = log->window; i <= log->last && log->ring != NULL; i++) block_unref(log_entry(log, i)->block);
    mem_free(log->ring);
    mem_free(log->runs);
}

static size_t ring_at(const struct raft_log *log, raft_index index)
{
    return (size_t)index & (log->ring_capacity - 1);
}

int log_reserve(struct raft_log *log, size_t n)
{
    if (!mem_grow((void **)&log->runs, &log->runs_capacity, log->n_runs + n, sizeof *log->runs)) return ERR_NOMEM;
    size_t used = (size_t)(log->last + 1 - log->window);
    if (used + n <= log->ring_capacity) return OK;
    size_t capacity = MAX(log->ring_capacity, RING_MIN);
    while (capacity < used + n) capacity *= 2;
    struct raft_entry *ring = mem_zero(capacity, sizeof *ring);
    if (ring == NULL) return ERR_NOMEM;
    for (raft_index i = log->window; i <= log->last; i++) ring[(size_t)i & (capacity - 1)] = *log_entry(log, i);
    mem_free(log->ring);
    log->ring = ring;
    log->ring_capacity = capacity;
    return OK;
}

void log_append(struct raft_log *log, const struct raft_entry *entry)
{
    ASSERT(log->last + 1 - log->window < log->ring_capacity);
    ASSERT(entry->term >= log_last_term(log) && entry->term > 0);
    if (entry->term != log_last_term(log)) {
        ASSERT(log->n_runs < log->runs_capacity);
        log->runs[log->n_runs++] = (struct raft_run){.start = log->last + 1, .term = entry->term};
    }
    log->last++;
    log->ring[ring_at(log, log->last)] = *entry;
    log->window_bytes += entry->size;
    if (entry->block != NULL) block_ref(entry->block);
}

void log_truncate(struct raft_log *log, raft_index from)
{
    ASSERT(from > log->commit && from <= log->last);
    for (raft_index i = MAX(from, log->window); i <= log->last; i++) {
        struct raft_entry *entry = log_entry(log, i);
        log->window_bytes -= entry->size;
        block_unref(entry->block);
    }
    log->last = from - 1;
    log->window = MIN(log->window, from);
    log->stable = MIN(log->stable, from - 1);
    while (log->n_runs > 0 && log->runs[log->n_runs - 1].start >= from) log->n_runs--;
    if (log->handed >= from) {
        log->handed = from - 1;
        log->truncated = log->truncated == 0 ? from : MIN(log->truncated, from);
    }
}

void log_evict(struct raft_log *log, uint64_t bytes)
{
    raft_index safe = MIN(log->stable, log->commit);
    while (log->window_bytes > bytes && log->window <= safe) {
        struct raft_entry *entry = log_entry(log, log->window);
        log->window_bytes -= entry->size;
        block_unref(entry->block);
        log->window++;
    }
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
    ASSERT(index <= log->last);
    if (index == 0) return 0;
    const struct raft_run *run = run_of(log, index);
    ASSERT(run != NULL);
    return run->term;
}

raft_term log_last_term(const struct raft_log *log)
{
    return log->n_runs == 0 ? 0 : log->runs[log->n_runs - 1].term;
}

struct raft_entry *log_entry(const struct raft_log *log, raft_index index)
{
    ASSERT(index <= log->last);
    return index < log->window ? NULL : &log->ring[ring_at(log, index)];
}

raft_index log_find_term(const struct raft_log *log, raft_index index, raft_term term)
{
    ASSERT(index <= log->last);
    for (const struct raft_run *run = run_of(log, index); run != NULL; run = run_of(log, index)) {
        if (run->term <= term) return index;
        index = run->start - 1;
    }
    return 0;
}

bool log_is_up_to_date(const struct raft_log *log, raft_index index, raft_term term)
{
    raft_term mine = log_last_term(log);
    return term > mine || (term == mine && index >= log->last);
}
