#include "sim/sim_sessions.h"

#include "base/hash.h"
#include "base/mem.h"
#include "sim/sim_queue.h"

#define LARGE_EVERY 64u

void sim_result_put(uint8_t out[SIM_RESULT_BYTES], uint64_t value, struct sim_state state)
{
    put_u64(out, value);
    put_u64(out + 8, state.applied);
    put_u64(out + 16, state.digest);
}

bool sim_result_is_large(uint64_t value)
{
    return value % LARGE_EVERY == 0;
}

/* An entry as it was told; those of other terms at the same index are linked. */
struct told {
    struct told *other;
    struct entry e; /* its payload is gone */
    uint64_t visitor, command, value; /* of a CLIENT */
};

/* A member, whose proposals are let in once. */
struct proposer {
    uint64_t id, epoch, lowest;
    uint64_t *seen; /* of what is not below lowest, in no order */
    size_t n_seen, capacity;
};

struct visit {
    uint64_t id, command, time_us;
    uint64_t used; /* number of its last use: the smaller, the longer ago */
    bool kept;
    uint8_t result[SIM_RESULT_BYTES];
    size_t result_size;
};

/* The table after an entry. */
struct after {
    uint64_t hash;
    size_t count;
};

struct sim_sessions {
    struct sim_check *check;
    struct client_limits limits;
    struct told **told; /* of index i at i - 1; NULL: nothing yet */
    size_t n_told, told_capacity;
    struct after *after; /* likewise */
    size_t n_after, after_capacity;
    struct proposer *proposers;
    size_t n_proposers, proposers_capacity;
    struct visit *visits;
    size_t n_visits, visits_capacity;
    uint64_t time_us, uses;
    struct buf bytes;
};

struct sim_sessions *sim_sessions_new(struct sim_check *check, struct client_limits limits)
{
    struct sim_sessions *s = mem_zero(1, sizeof *s);
    if (s == NULL) return NULL;
    s->check = check;
    s->limits = limits;
    return s;
}

void sim_sessions_free(struct sim_sessions *s)
{
    if (s == NULL) return;
    for (size_t i = 0; i < s->n_told; i++) {
        while (s->told[i] != NULL) {
            struct told *gone = s->told[i];
            s->told[i] = gone->other;
            mem_free(gone);
        }
    }
    for (size_t i = 0; i < s->n_proposers; i++) mem_free(s->proposers[i].seen);
    mem_free(s->told);
    mem_free(s->after);
    mem_free(s->proposers);
    mem_free(s->visits);
    buf_free(&s->bytes);
    mem_free(s);
}

/* One more of them, zeroed. */
static void *add(void **items, size_t *n, size_t *capacity, size_t size)
{
    sim_grow(items, capacity, *n + 1, size);
    return memset((uint8_t *)*items + (*n)++ * size, 0, size);
}

/* ---- entries ---- */

static struct told *told_at(const struct sim_sessions *s, raft_index index, raft_term term)
{
    struct told *told = index <= s->n_told ? s->told[index - 1] : NULL;
    while (told != NULL && told->e.term != term) told = told->other;
    return told;
}

void sim_sessions_entry(struct sim_sessions *s, const struct entry *e)
{
    struct reader from = {.data = e->payload, .size = e->payload_size};
    if (told_at(s, e->index, e->term) != NULL) return;
    while (s->n_told < e->index) {
        void *list = s->told;
        add(&list, &s->n_told, &s->told_capacity, sizeof *s->told);
        s->told = list;
    }
    struct told *told = sim_alloc(sizeof *told);
    told->e = *e;
    told->e.payload = NULL;
    told->other = s->told[e->index - 1];
    s->told[e->index - 1] = told;
    if (e->type != RAFT_ENTRY_CLIENT) return;
    told->visitor = reader_u64(&from);
    told->command = reader_u64(&from);
    told->value = told->visitor != 0 ? reader_u64(&from) : 0;
}

/* ---- members: what they propose is let in once ---- */

static struct proposer *proposer_of(struct sim_sessions *s, uint64_t id)
{
    for (size_t i = 0; i < s->n_proposers; i++) {
        if (s->proposers[i].id == id) return &s->proposers[i];
    }
    void *list = s->proposers;
    struct proposer *made = add(&list, &s->n_proposers, &s->proposers_capacity, sizeof *made);
    s->proposers = list;
    made->id = id;
    return made;
}

static void forget_settled(struct proposer *p)
{
    size_t left = 0;
    for (size_t i = 0; i < p->n_seen; i++) {
        if (p->seen[i] >= p->lowest) p->seen[left++] = p->seen[i];
    }
    p->n_seen = left;
}

static bool is_new(struct sim_sessions *s, const struct entry *e)
{
    struct proposer *p = proposer_of(s, e->session);
    if (e->epoch < p->epoch) return false;
    if (e->epoch > p->epoch) {
        p->epoch = e->epoch;
        p->lowest = p->n_seen = 0;
    }
    p->lowest = MAX(p->lowest, e->sequence - e->behind);
    forget_settled(p);
    for (size_t i = 0; i < p->n_seen; i++) {
        if (p->seen[i] == e->sequence) return false;
    }
    if (e->sequence < p->lowest) return false;
    void *list = p->seen;
    uint64_t *seen = add(&list, &p->n_seen, &p->capacity, sizeof *seen);
    p->seen = list;
    *seen = e->sequence;
    return true;
}

/* ---- visits ---- */

static struct visit *visit_of(struct sim_sessions *s, uint64_t id)
{
    for (size_t i = 0; i < s->n_visits; i++) {
        if (s->visits[i].id == id) return &s->visits[i];
    }
    return NULL;
}

static void visit_end(struct sim_sessions *s, size_t at)
{
    s->visits[at] = s->visits[--s->n_visits];
}

static void expire(struct sim_sessions *s)
{
    for (size_t i = s->n_visits; i-- > 0;) {
        if (s->time_us - s->visits[i].time_us >= s->limits.idle_us) visit_end(s, i);
    }
}

/* The one of those used later than `after` that was used first; at n_visits: there is none. */
static size_t used_next(const struct sim_sessions *s, uint64_t after)
{
    size_t found = s->n_visits;
    for (size_t i = 0; i < s->n_visits; i++) {
        if (s->visits[i].used <= after) continue;
        if (found == s->n_visits || s->visits[i].used < s->visits[found].used) found = i;
    }
    return found;
}

static void open_visit(struct sim_sessions *s, raft_index index)
{
    if (s->n_visits == s->limits.sessions) visit_end(s, used_next(s, 0));
    void *list = s->visits;
    struct visit *made = add(&list, &s->n_visits, &s->visits_capacity, sizeof *made);
    s->visits = list;
    *made = (struct visit){.id = index, .time_us = s->time_us, .used = ++s->uses};
}

/* A command in a session: is it applied? */
static bool take_command(struct sim_sessions *s, const struct told *told)
{
    struct visit *visit = visit_of(s, told->visitor);
    if (visit == NULL) return false;
    visit->time_us = s->time_us;
    visit->used = ++s->uses;
    if (told->command <= visit->command) return false;
    visit->command = told->command;
    visit->kept = !sim_result_is_large(told->value);
    visit->result_size = visit->kept ? SIM_RESULT_BYTES : 0;
    sim_result_put(visit->result, told->value, sim_check_state_at(s->check, told->e.index));
    return true;
}

/* ---- the table after each entry ---- */

static void put_number(struct buf *out, uint64_t number, size_t size)
{
    uint8_t bytes[8];
    put_u64(bytes, number);
    sim_buf_append(out, bytes, size);
}

/* As clients_write has it. */
static struct after look(struct sim_sessions *s)
{
    struct buf *out = &s->bytes;
    out->size = 0;
    put_number(out, s->n_visits, 4);
    for (uint64_t used = 0; used_next(s, used) < s->n_visits;) {
        const struct visit *visit = &s->visits[used_next(s, used)];
        used = visit->used;
        put_number(out, visit->id, 8);
        put_number(out, visit->command, 8);
        put_number(out, visit->time_us, 8);
        put_number(out, visit->kept, 1);
        put_number(out, visit->result_size, 4);
        sim_buf_append(out, visit->result, visit->result_size);
    }
    return (struct after){.hash = hash64(out->data, out->size, 0), .count = s->n_visits};
}

static void take_entry(struct sim_sessions *s, int node, raft_index index)
{
    const struct told *told = told_at(s, index, sim_check_committed_term(s->check, index));
    bool applied = false, ought = false;
    if (told == NULL) {
        sim_check_fail(s->check, node, "sessions: nobody has shown the entry committed at index %" PRIu64, index);
        return;
    }
    s->time_us = MAX(s->time_us, told->e.time_us);
    if (told->e.type == RAFT_ENTRY_CONFIG || told->e.type == RAFT_ENTRY_EMPTY) return;
    expire(s);
    if (is_new(s, &told->e) && told->e.type == RAFT_ENTRY_CLIENT) {
        if (told->visitor == 0) open_visit(s, index);
        else ought = take_command(s, told);
    }
    if (told->e.type != RAFT_ENTRY_CLIENT) return;
    applied = sim_check_state_at(s->check, index).digest != 0;
    if (applied == ought) return;
    sim_check_fail(s->check, node, "exactly once: command %" PRIu64 " of session %" PRIu64 " at index %" PRIu64
                   " is %s", told->command, told->visitor, index,
                   applied ? "applied, and ought not to be" : "not applied, and ought to be");
}

void sim_sessions_judge(struct sim_sessions *s, int node, raft_index index, const struct clients *table)
{
    struct buf bytes = {0};
    while (s->n_after < index && sim_check_failure(s->check) == NULL) {
        take_entry(s, node, s->n_after + 1);
        void *list = s->after;
        struct after *after = add(&list, &s->n_after, &s->after_capacity, sizeof *after);
        s->after = list;
        *after = look(s);
    }
    if (index == 0 || index > s->n_after) return;
    bool written = clients_write(table, &bytes);
    ASSERT(written);
    const struct after *ought = &s->after[index - 1];
    if (hash64(bytes.data, bytes.size, 0) != ought->hash) {
        sim_check_fail(s->check, node, "exactly once: after index %" PRIu64 " its table has %zu sessions, and is not "
                       "the one of %zu that the log makes", index, table->count, ought->count);
    }
    buf_free(&bytes);
}
