#include "store/map.h"

#include "base/mem.h"

void map_init(struct map *m, raft_index last, raft_term last_term)
{
    *m = (struct map){.first = last + 1, .last = last, .base_term = last_term, .jump = true};
}

void map_free(struct map *m)
{
    mem_free(m->marks);
    mem_free(m->runs);
    *m = (struct map){0};
}

bool map_reserve(struct map *m, size_t n)
{
    void *marks = m->marks, *runs = m->runs;
    bool done = mem_grow(&marks, &m->marks_capacity, m->n_marks + 1, sizeof(struct mark)) &&
                mem_grow(&runs, &m->runs_capacity, m->n_runs + n, sizeof(struct raft_run));
    m->marks = marks;
    m->runs = runs;
    return done;
}

/* Would scanning on from the last mark come to this batch soon enough? */
static bool is_near(const struct map *m, const struct segment *segment, uint64_t offset)
{
    if (m->jump || m->n_marks == 0) return false;
    const struct mark *mark = &m->marks[m->n_marks - 1];
    return mark->segment == segment && offset - mark->offset < MAP_MARK_BYTES;
}

static void add_run(struct map *m, struct raft_run run)
{
    if (m->n_runs > 0 && m->runs[m->n_runs - 1].term == run.term) return;
    ASSERT(m->n_runs < m->runs_capacity);
    m->runs[m->n_runs++] = run;
}

void map_extend(struct map *m, struct raft_run run)
{
    ASSERT(run.start == m->last + 1);
    add_run(m, run);
    m->last = run.start;
}

void map_add(struct map *m, struct segment *segment, uint64_t offset, raft_index first, size_t n,
             const struct raft_run *runs, size_t n_runs)
{
    ASSERT(first == m->last + 1 && n > 0);
    ASSERT(m->n_marks < m->marks_capacity);
    if (!is_near(m, segment, offset)) {
        m->marks[m->n_marks++] = (struct mark){.index = first, .segment = segment, .offset = offset};
        m->jump = false;
    }
    for (size_t i = 0; i < n_runs; i++) add_run(m, runs[i]);
    m->last = first + n - 1;
}

void map_truncate(struct map *m, raft_index index)
{
    ASSERT(index >= 1 && index <= m->last + 1);
    while (m->n_marks > 0 && m->marks[m->n_marks - 1].index >= index) m->n_marks--;
    while (m->n_runs > 0 && m->runs[m->n_runs - 1].start >= index) m->n_runs--;
    m->last = index - 1;
    if (index < m->first) {
        m->first = index;
        m->base_term = 0;
    }
    m->jump = true;
}

void map_reset(struct map *m, raft_index last, raft_term last_term)
{
    m->n_marks = m->n_runs = 0;
    m->first = last + 1;
    m->last = last;
    m->base_term = last_term;
    m->jump = true;
}

void map_skip(struct map *m, raft_index index)
{
    ASSERT(m->first <= index && index <= m->last);
    size_t ended = 0; /* runs that end before the new first */
    m->base_term = map_term(m, index);
    m->first = index + 1;
    while (ended + 1 < m->n_runs && m->runs[ended + 1].start <= m->first) ended++;
    if (m->first > m->last) ended = m->n_runs;
    m->n_runs -= ended;
    if (ended > 0) memmove(m->runs, m->runs + ended, m->n_runs * sizeof *m->runs);
    if (m->n_runs > 0) m->runs[0].start = MAX(m->runs[0].start, m->first);
}

void map_drop_segment(struct map *m, const struct segment *segment)
{
    size_t gone = 0;
    while (gone < m->n_marks && m->marks[gone].segment == segment) gone++;
    m->n_marks -= gone;
    if (gone > 0) memmove(m->marks, m->marks + gone, m->n_marks * sizeof *m->marks);
    raft_index first = m->n_marks > 0 ? MAX(m->first, m->marks[0].index) : m->last + 1;
    if (first > m->first) map_skip(m, first - 1);
}

size_t map_find(const struct map *m, raft_index index)
{
    ASSERT(m->first <= index && index <= m->last && m->n_marks > 0);
    size_t low = 0, high = m->n_marks; /* the mark is in low .. high - 1 */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (m->marks[middle].index <= index) low = middle;
        else high = middle;
    }
    ASSERT(m->marks[low].index <= index);
    return low;
}

raft_index map_mark_last(const struct map *m, size_t i)
{
    ASSERT(i < m->n_marks);
    return i + 1 < m->n_marks ? m->marks[i + 1].index - 1 : m->last;
}

raft_term map_term(const struct map *m, raft_index index)
{
    ASSERT(index + 1 >= m->first && index <= m->last);
    if (index < m->first) return m->base_term;
    size_t i = m->n_runs;
    while (i > 0 && m->runs[i - 1].start > index) i--;
    ASSERT(i > 0);
    return m->runs[i - 1].term;
}

raft_term map_last_term(const struct map *m)
{
    return m->n_runs > 0 ? m->runs[m->n_runs - 1].term : m->base_term;
}
