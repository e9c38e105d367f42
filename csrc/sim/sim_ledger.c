#include "sim/sim_ledger.h"

#include "base/mem.h"

struct ledger_part {
    uint64_t seq;             /* of the append */
    bool begins;              /* it */
    struct store_batch batch; /* then: without entries */
    struct block *block;      /* else: one entry */
};

/* ---- states ---- */

static void state_put(struct ledger_state *state, raft_index index, struct block *block)
{
    void *blocks = state->blocks;
    bool grown = mem_grow(&blocks, &state->capacity, (size_t)index, sizeof *state->blocks);
    ASSERT(grown && index == state->last + 1);
    state->blocks = blocks;
    state->blocks[index - 1] = block_ref(block);
    state->last = index;
}

static void state_truncate(struct ledger_state *state, raft_index last)
{
    while (state->last > last) block_unref(state->blocks[--state->last]);
}

void ledger_state_free(struct ledger_state *state)
{
    state_truncate(state, 0);
    mem_free(state->blocks);
    *state = (struct ledger_state){0};
}

void ledger_state_copy(struct ledger_state *to, const struct ledger_state *from)
{
    raft_index same = 0;
    while (same < MIN(to->last, from->last) && to->blocks[same] == from->blocks[same]) same++;
    state_truncate(to, same);
    for (raft_index i = same + 1; i <= from->last; i++) state_put(to, i, from->blocks[i - 1]);
    to->term = from->term;
    to->vote = from->vote;
}

static void state_begin(struct ledger_state *state, const struct store_batch *b)
{
    if (b->vote_changed) {
        state->term = b->term;
        state->vote = b->vote;
    }
    if (b->truncate_from != 0) state_truncate(state, b->truncate_from - 1);
}

void ledger_state_apply(struct ledger_state *state, const struct store_batch *b)
{
    state_begin(state, b);
    for (size_t i = 0; i < b->n; i++) state_put(state, b->first + i, b->blocks[i]);
}

static void state_add(struct ledger_state *state, const struct ledger_part *part)
{
    if (part->begins) state_begin(state, &part->batch);
    else state_put(state, state->last + 1, part->block);
}

/* ---- appends ---- */

static void part_add(struct ledger *l, struct ledger_part part)
{
    void *parts = l->parts;
    bool grown = mem_grow(&parts, &l->parts_capacity, l->n_parts + 1, sizeof part);
    ASSERT(grown);
    l->parts = parts;
    l->parts[l->n_parts++] = part;
}

void ledger_append(struct ledger *l, const struct store_batch *b)
{
    struct ledger_part begin = {.begins = true, .seq = b->seq, .batch = *b};
    begin.batch.blocks = NULL;
    begin.batch.n = 0;
    part_add(l, begin);
    for (size_t i = 0; i < b->n; i++) {
        part_add(l, (struct ledger_part){.seq = b->seq, .block = block_ref(b->blocks[i])});
    }
}

/* The first n parts become part of the base. */
static void parts_take(struct ledger *l, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct ledger_part *part = &l->parts[i];
        if (part->begins) ledger_state_copy(&l->before, &l->base);
        state_add(&l->base, part);
        block_unref(part->block);
    }
    l->n_parts -= n;
    if (l->n_parts > 0) memmove(l->parts, l->parts + n, l->n_parts * sizeof *l->parts);
}

void ledger_acknowledge(struct ledger *l, uint64_t seq)
{
    size_t n = 0;
    while (n < l->n_parts && l->parts[n].seq <= seq) n++;
    parts_take(l, n);
}

void ledger_adopt(struct ledger *l, const struct store_recovered *r)
{
    parts_take(l, l->n_found);
    for (size_t i = 0; i < l->n_parts; i++) block_unref(l->parts[i].block);
    l->n_parts = l->n_found = 0;
    l->life = r->epoch;
    l->incarnation = r->identity.incarnation;
    l->released = MAX(l->released, r->first - 1);
}

void ledger_free(struct ledger *l)
{
    for (size_t i = 0; i < l->n_parts; i++) block_unref(l->parts[i].block);
    mem_free(l->parts);
    ledger_state_free(&l->base);
    ledger_state_free(&l->before);
    ledger_state_free(&l->found);
    *l = (struct ledger){0};
}

/* ---- checking ---- */

static bool same_entry(const struct block *a, const struct block *b)
{
    return a == b || (a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0);
}

bool ledger_equal(const struct ledger_state *state, const struct store_recovered *r, struct block *const *entries)
{
    if (state->term != r->term || state->vote != r->vote || state->last != r->last) return false;
    for (raft_index i = r->first; i <= r->last; i++) {
        if (!same_entry(state->blocks[i - 1], entries[i - r->first])) return false;
    }
    return true;
}

/* The terms that recovery has told are those of the entries. */
static bool runs_fit(const struct store_recovered *r, struct block *const *entries)
{
    size_t run = 0;
    if (r->first > r->last) return r->n_runs == 0;
    if (r->n_runs == 0 || r->runs[0].start != r->first) return false;
    for (raft_index i = r->first; i <= r->last; i++) {
        if (run + 1 < r->n_runs && r->runs[run + 1].start == i) run++;
        if (entry_view(entries[i - r->first]).term != r->runs[run].term) return false;
    }
    return run + 1 == r->n_runs;
}

static bool find_state(struct ledger *l, const struct store_recovered *r, struct block *const *entries)
{
    ledger_state_copy(&l->found, &l->base);
    for (l->n_found = 0;; l->n_found++) {
        if (ledger_equal(&l->found, r, entries)) return true;
        if (l->n_found == l->n_parts) return false;
        state_add(&l->found, &l->parts[l->n_found]);
    }
}

const char *ledger_check(struct ledger *l, const struct store_recovered *r, struct block *const *entries,
                         const struct store *s)
{
    if (r->epoch <= l->life) return "the epoch has not grown";
    if (r->identity.incarnation == 0) return "there is no incarnation";
    if (l->incarnation != 0 && (r->created || r->identity.incarnation != l->incarnation)) return "it is made anew";
    if (r->first > l->released + 1) return "entries at the beginning are gone";
    if (!runs_fit(r, entries)) return "the terms are not those of the entries";
    for (uint64_t node = 1; node <= LEDGER_PEERS; node++) {
        uint64_t known = store_peer(s, node);
        if (known != l->peers[node - 1].known && known != l->peers[node - 1].wanted) return "a peer was forgotten";
    }
    return find_state(l, r, entries) ? NULL : "this log was never written, or something acknowledged is lost";
}
