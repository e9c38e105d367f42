#include "sim/sim_check.h"

#include "base/mem.h"
#include "sim/sim_queue.h"

#include <stdarg.h>
#include <stdio.h>

/* An entry as it once stood in some log. */
struct version {
    raft_term term, before; /* before: term of the entry in front of it */
    uint64_t hash;          /* 0 = not known yet */
    uint16_t lost;          /* bits: nodes that had it on their disk when that was lost */
};

/* All that is known of one index. Most have had one version only. */
struct slot {
    struct version first; /* term 0 = none yet */
    struct version *others;
    size_t n_others, others_capacity;
    raft_term committed;    /* term of the committed entry, 0 = none yet */
    raft_term committed_in; /* term of the leader that committed it */
    uint64_t state;         /* digest of the state after it was applied, 0 = no command or not yet */
    uint64_t value;         /* of that command */
};

struct check_node {
    raft_id id; /* of its present directory */
    raft_term term, durable_term;
    raft_id vote;
    raft_term *log; /* terms; index i at i - 1 */
    size_t last, log_capacity;
    struct raft_conf_at members; /* its latest configuration */
    raft_index stable, commit, applied;
    uint64_t applied_us, state;
    uint8_t *values; /* bits: applied in this life */
    size_t values_size, values_capacity;
    uint8_t *said; /* whom it has told that it votes for in term t, over all lives, at t - 1; 0 = nobody */
    size_t n_said, said_capacity;
    bool lost;       /* it forgot everything once, and is not filled again */
    bool damaged;    /* its disk does not hold what it was given, and it does not know that yet */
    bool disk_short; /* at the last look, the highest committed entry was not on its disk */
};

enum outcome { CALL_OPEN = 0, CALL_ACKNOWLEDGED, CALL_REFUSED };

/* What became of a value. */
struct fate {
    enum outcome outcome;
    raft_index began; /* the highest index acknowledged anywhere when it was proposed */
    raft_index index; /* where it was applied; 0 = nowhere yet */
    raft_index ended; /* from there on its session is over, or has gone on; 0 = it has not, as far as was told */
};

struct sim_check {
    int nodes;
    uint64_t now_us;
    struct check_node node[SIM_CHECK_NODES + 1]; /* from 1 */
    struct slot *slots;                          /* index i at i - 1 */
    size_t n_slots, slots_capacity;
    uint8_t *leaders; /* of term t at t - 1; 0 = none */
    size_t n_leaders, leaders_capacity;
    struct fate *fates; /* of value v at v - 1 */
    size_t n_fates, fates_capacity;
    raft_index committed, acknowledged;
    struct raft_conf_at members; /* by which the newest commit was counted, or the one right after it */
    uint8_t node_of[UINT8_MAX + 1]; /* member id; 0 = no node */
    bool been[UINT8_MAX + 1];       /* member id: a committed configuration had it */
    bool failed;
    char failure[SIM_FAILURE_MAX];
};

struct sim_check *sim_check_new(int nodes)
{
    ASSERT(nodes >= 1 && nodes <= SIM_CHECK_NODES);
    struct sim_check *c = mem_zero(1, sizeof(*c));
    if (c == NULL) return NULL;
    c->nodes = nodes;
    struct raft_conf *conf = &c->members.conf;
    for (int node = 1; node <= nodes; node++) {
        conf->voters[conf->n_voters++] = (raft_id)node;
        sim_check_identity(c, node, (raft_id)node);
    }
    for (int node = 1; node <= nodes; node++) c->node[node].members = c->members;
    return c;
}

void sim_check_free(struct sim_check *c)
{
    if (c == NULL) return;
    for (int i = 1; i <= c->nodes; i++) {
        mem_free(c->node[i].log);
        mem_free(c->node[i].values);
        mem_free(c->node[i].said);
    }
    for (size_t i = 0; i < c->n_slots; i++) mem_free(c->slots[i].others);
    mem_free(c->slots);
    mem_free(c->leaders);
    mem_free(c->fates);
    mem_free(c);
}

const char *sim_check_failure(const struct sim_check *c)
{
    return c->failed ? c->failure : NULL;
}

void sim_check_fail(struct sim_check *c, int node, const char *format, ...)
{
    if (c->failed) return;
    c->failed = true;
    char text[SIM_FAILURE_MAX - 80];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    snprintf(c->failure, sizeof(c->failure), "at %.6f s, node %d: %s", (double)c->now_us / (double)US_PER_S, node,
             text);
}

void sim_check_time(struct sim_check *c, uint64_t now_us)
{
    c->now_us = now_us;
}

/* ---- memory that grows: zeroed up to count ---- */

static void *grown(void *items, size_t *count, size_t *capacity, size_t need, size_t size)
{
    if (need <= *count) return items;
    sim_grow(&items, capacity, need, size);
    memset((char *)items + *count * size, 0, (need - *count) * size);
    *count = need;
    return items;
}

static struct slot *slot_at(struct sim_check *c, raft_index index)
{
    ASSERT(index > 0);
    c->slots = grown(c->slots, &c->n_slots, &c->slots_capacity, index, sizeof(*c->slots));
    return &c->slots[index - 1];
}

static struct fate *fate_of(struct sim_check *c, uint64_t value)
{
    ASSERT(value > 0);
    c->fates = grown(c->fates, &c->n_fates, &c->fates_capacity, value, sizeof(*c->fates));
    return &c->fates[value - 1];
}

static struct check_node *node_of(const struct sim_check *c, int node)
{
    ASSERT(node >= 1 && node <= c->nodes);
    return (struct check_node *)&c->node[node];
}

static struct version *version_of(struct slot *slot, raft_term term)
{
    if (slot->first.term == term) return &slot->first;
    for (size_t i = 0; i < slot->n_others; i++) {
        if (slot->others[i].term == term) return &slot->others[i];
    }
    return NULL;
}

/* ---- the core of a node ---- */

void sim_check_term(struct sim_check *c, int node, raft_term term, raft_id vote, raft_term durable)
{
    struct check_node *n = node_of(c, node);
    if (term < n->term) {
        sim_check_fail(c, node, "order: its term fell from %" PRIu64 " to %" PRIu64, n->term, term);
    }
    if (durable < n->durable_term || durable > term) {
        sim_check_fail(c, node, "order: its durable term is %" PRIu64 " after %" PRIu64 ", in term %" PRIu64, durable,
                       n->durable_term, term);
    }
    if (term == n->term && n->vote != 0 && vote != n->vote) {
        sim_check_fail(c, node, "order: its vote in term %" PRIu64 " changed from %" PRIu64 " to %" PRIu64, term,
                       n->vote, vote);
    }
    n->term = term;
    n->vote = vote;
    n->durable_term = durable;
}

void sim_check_leader(struct sim_check *c, int node, raft_term term)
{
    ASSERT(term > 0);
    c->leaders = grown(c->leaders, &c->n_leaders, &c->leaders_capacity, term, 1);
    uint8_t *leader = &c->leaders[term - 1];
    if (*leader == node) return;
    if (*leader != 0) {
        sim_check_fail(c, node, "election safety: term %" PRIu64 " has two leaders, %d and %d", term, *leader, node);
        return;
    }
    *leader = (uint8_t)node;
    for (raft_index i = 1; i <= c->committed; i++) {
        const struct slot *slot = &c->slots[i - 1];
        if (slot->committed_in >= term || sim_check_term_at(c, node, i) == slot->committed) continue;
        sim_check_fail(c, node, "leader completeness: leads term %" PRIu64 " without index %" PRIu64 " of term %"
                       PRIu64 ", committed in term %" PRIu64, term, i, slot->committed, slot->committed_in);
        return;
    }
}

void sim_check_identity(struct sim_check *c, int node, raft_id id)
{
    ASSERT(id <= UINT8_MAX);
    c->node_of[id] = (uint8_t)node;
    node_of(c, node)->id = id;
}

void sim_check_conf(struct sim_check *c, int node, raft_index index, const struct raft_conf *conf)
{
    node_of(c, node)->members = (struct raft_conf_at){.index = index, .conf = *conf};
}

/* As bits. Members that are no node (never started) have none. */
static unsigned nodes_of(const struct sim_check *c, const raft_id *ids, size_t n)
{
    unsigned nodes = 0;
    for (size_t i = 0; i < n; i++) nodes |= ids[i] <= UINT8_MAX ? 1u << c->node_of[ids[i]] : 0;
    return nodes & ~1u;
}

bool sim_check_is_member(const struct sim_check *c, int node)
{
    const struct raft_conf *m = &c->members.conf;
    unsigned nodes = nodes_of(c, m->voters, m->n_voters) | nodes_of(c, m->outgoing, m->n_outgoing) |
                     nodes_of(c, m->learners, m->n_learners);
    return (nodes & 1u << node) != 0;
}

bool sim_ids_have(const raft_id *ids, size_t n, raft_id id)
{
    while (n > 0 && ids[n - 1] != id) n--;
    return n > 0;
}

bool sim_conf_has(const struct raft_conf *conf, raft_id id)
{
    return sim_ids_have(conf->voters, conf->n_voters, id) || sim_ids_have(conf->outgoing, conf->n_outgoing, id) ||
           sim_ids_have(conf->learners, conf->n_learners, id);
}

bool sim_check_is_steady(const struct sim_check *c)
{
    return c->members.index <= c->committed && c->members.conf.n_outgoing == 0;
}

bool sim_check_is_removed(const struct sim_check *c, int node)
{
    const struct check_node *n = node_of(c, node);
    bool told = false;
    if (!sim_check_is_out(c, node) || !c->been[n->id]) return false;
    for (raft_id id = 1; id <= UINT8_MAX; id++) {
        told |= sim_conf_has(&c->members.conf, id) && sim_conf_has(&n->members.conf, id);
    }
    return told;
}

bool sim_check_is_out(const struct sim_check *c, int node)
{
    return sim_check_is_steady(c) && !sim_check_is_member(c, node);
}

raft_index sim_check_last(const struct sim_check *c, int node)
{
    return node_of(c, node)->last;
}

raft_term sim_check_term_at(const struct sim_check *c, int node, raft_index index)
{
    const struct check_node *n = node_of(c, node);
    return index >= 1 && index <= n->last ? n->log[index - 1] : 0;
}

void sim_check_truncate(struct sim_check *c, int node, raft_index last)
{
    struct check_node *n = node_of(c, node);
    ASSERT(last <= n->last);
    if (last < n->commit) {
        sim_check_fail(c, node, "state machine safety: cuts its log to %" PRIu64 ", below its commit index %" PRIu64,
                       last, n->commit);
    }
    n->last = last;
    n->stable = MIN(n->stable, last);
}

static void log_push(struct check_node *n, raft_term term)
{
    void *log = n->log;
    sim_grow(&log, &n->log_capacity, n->last + 1, sizeof(*n->log));
    n->log = log;
    n->log[n->last++] = term;
}

static void version_add(struct slot *slot, struct version version)
{
    if (slot->first.term == 0) {
        slot->first = version;
        return;
    }
    void *others = slot->others;
    sim_grow(&others, &slot->others_capacity, slot->n_others + 1, sizeof(version));
    slot->others = others;
    slot->others[slot->n_others++] = version;
}

/* hash 0: it is not known yet. */
static void version_check(struct sim_check *c, int node, struct version *version, raft_index index, raft_term before,
                          uint64_t hash)
{
    if (version->before != before || (version->hash != 0 && hash != 0 && version->hash != hash)) {
        sim_check_fail(c, node, "log matching: index %" PRIu64 " of term %" PRIu64 " is another entry than elsewhere",
                       index, version->term);
    }
    if (version->hash == 0) version->hash = hash;
}

void sim_check_append(struct sim_check *c, int node, raft_term term, uint64_t hash)
{
    struct check_node *n = node_of(c, node);
    raft_index index = n->last + 1;
    raft_term before = sim_check_term_at(c, node, n->last);
    if (term < before || term > n->term) {
        sim_check_fail(c, node, "log matching: index %" PRIu64 " has term %" PRIu64 " after term %" PRIu64
                       ", in term %" PRIu64, index, term, before, n->term);
    }
    struct slot *slot = slot_at(c, index);
    struct version *version = version_of(slot, term);
    if (version == NULL) version_add(slot, (struct version){.term = term, .before = before, .hash = hash});
    else version_check(c, node, version, index, before, hash);
    log_push(n, term);
}

void sim_check_hash(struct sim_check *c, int node, raft_index index, uint64_t hash)
{
    raft_term term = sim_check_term_at(c, node, index);
    ASSERT(term > 0 && hash > 0);
    version_check(c, node, version_of(slot_at(c, index), term), index, sim_check_term_at(c, node, index - 1), hash);
}

void sim_check_restore(struct sim_check *c, int node, raft_index index, raft_term term)
{
    struct check_node *n = node_of(c, node);
    if (index > c->committed || c->slots[index - 1].committed != term) {
        sim_check_fail(c, node, "state machine safety: is given a snapshot of index %" PRIu64 " and term %" PRIu64
                       ", which was not committed", index, term);
        return;
    }
    n->last = 0;
    for (raft_index i = 1; i <= index; i++) log_push(n, c->slots[i - 1].committed);
}

void sim_check_stable(struct sim_check *c, int node, raft_index index)
{
    struct check_node *n = node_of(c, node);
    if (index > n->last) {
        sim_check_fail(c, node, "durability: durable up to %" PRIu64 ", but its log ends at %zu", index, n->last);
    }
    n->stable = MIN(index, n->last);
}

/* Was the entry lost with a disk of that node? Whoever counted on it could not know. */
static bool is_gone(const struct sim_check *c, int node, raft_index index, raft_term term)
{
    const struct version *version = index <= c->n_slots ? version_of(&c->slots[index - 1], term) : NULL;
    return version != NULL && (version->lost & 1u << node) != 0;
}

/* Nodes whose disk has it, or had it when it was lost. */
static unsigned disks_with(const struct sim_check *c, raft_index index, raft_term term)
{
    unsigned nodes = 0;
    for (int node = 1; node <= c->nodes; node++) {
        const struct check_node *n = &c->node[node];
        if (is_gone(c, node, index, term) || (n->stable >= index && n->log[index - 1] == term)) nodes |= 1u << node;
    }
    return nodes;
}

static int count(unsigned nodes)
{
    int n = 0;
    for (; nodes != 0; nodes &= nodes - 1) n++;
    return n;
}

static bool is_quorum(const struct sim_check *c, unsigned nodes)
{
    const struct raft_conf *m = &c->members.conf;
    return 2 * count(nodes & nodes_of(c, m->voters, m->n_voters)) > m->n_voters &&
           (m->n_outgoing == 0 || 2 * count(nodes & nodes_of(c, m->outgoing, m->n_outgoing)) > m->n_outgoing);
}

/* By which the newest commit was counted. */
static void adopt(struct sim_check *c, const struct raft_conf_at *members)
{
    if (memcmp(&c->members, members, sizeof *members) == 0) return; /* nearly always */
    c->members = *members;
    for (raft_id id = 1; id <= UINT8_MAX; id++) c->been[id] |= sim_conf_has(&members->conf, id);
}

static void commit_one(struct sim_check *c, int node, raft_index index)
{
    raft_term term = sim_check_term_at(c, node, index);
    struct slot *slot = slot_at(c, index);
    if (term == 0) {
        sim_check_fail(c, node, "order: commits index %" PRIu64 " beyond its log", index);
    } else if (slot->committed == 0) {
        slot->committed = term;
        slot->committed_in = node_of(c, node)->term;
        if (index > c->committed) adopt(c, &node_of(c, node)->members);
        c->committed = MAX(c->committed, index);
        unsigned disks = disks_with(c, index, term);
        if (!is_quorum(c, disks)) {
            sim_check_fail(c, node, "durability: index %" PRIu64 " of term %" PRIu64
                           " is committed, but on %d of %d disks", index, term, count(disks), c->nodes);
        }
    } else if (slot->committed != term) {
        sim_check_fail(c, node, "state machine safety: commits index %" PRIu64 " of term %" PRIu64
                       ", elsewhere it is of term %" PRIu64, index, term, slot->committed);
    }
}

void sim_check_commit(struct sim_check *c, int node, raft_index index)
{
    struct check_node *n = node_of(c, node);
    if (index < n->commit) {
        sim_check_fail(c, node, "order: its commit index fell from %" PRIu64 " to %" PRIu64, n->commit, index);
    }
    bool leads = n->term > 0 && n->term <= c->n_leaders && c->leaders[n->term - 1] == node;
    if (leads && index > c->committed && sim_check_term_at(c, node, index) != n->term) {
        sim_check_fail(c, node, "leader completeness: commits index %" PRIu64 " of term %" PRIu64
                       " by its copies, in term %" PRIu64, index, sim_check_term_at(c, node, index), n->term);
    }
    while (n->commit < index && !c->failed) commit_one(c, node, ++n->commit);
}

/* ---- what a node says ---- */

void sim_check_says(struct sim_check *c, int node, raft_term term, raft_term durable)
{
    if (term <= durable) return;
    sim_check_fail(c, node, "durability: sends a message of term %" PRIu64 " while term %" PRIu64 " is durable", term,
                   durable);
}

void sim_check_says_stored(struct sim_check *c, int node, raft_index index, raft_index stable)
{
    if (index <= stable) return;
    sim_check_fail(c, node, "durability: says that it has index %" PRIu64 ", %" PRIu64 " is durable", index, stable);
}

void sim_check_says_vote(struct sim_check *c, int node, raft_term term, raft_id candidate)
{
    struct check_node *n = node_of(c, node);
    n->said = grown(n->said, &n->n_said, &n->said_capacity, term, 1);
    uint8_t *said = &n->said[term - 1];
    if (*said != 0 && *said != candidate) {
        sim_check_fail(c, node, "election safety: votes for %d and for %" PRIu64 " in term %" PRIu64, *said,
                       candidate, term);
    }
    *said = (uint8_t)candidate;
}

/* ---- lives ---- */

void sim_check_crash(struct sim_check *c, int node)
{
    struct check_node *n = node_of(c, node);
    n->commit = n->applied = 0;
    n->applied_us = n->state = 0;
    n->values_size = 0;
}

void sim_check_lost(struct sim_check *c, int node)
{
    struct check_node *n = node_of(c, node);
    sim_check_crash(c, node);
    n->lost = true;
    n->damaged = false;
    n->term = n->durable_term = 0;
    n->vote = 0;
    for (raft_index i = 1; i <= n->stable; i++) {
        version_of(slot_at(c, i), n->log[i - 1])->lost |= (uint16_t)(1u << node);
    }
    n->last = 0;
    n->stable = 0;
    n->n_said = 0;
}

void sim_check_refilled(struct sim_check *c, int node)
{
    bool lost = node_of(c, node)->lost;
    sim_check_lost(c, node);
    node_of(c, node)->lost = lost;
}

void sim_check_renew(struct sim_check *c, int node)
{
    ASSERT(sim_check_is_out(c, node));
    sim_check_refilled(c, node);
}

void sim_check_damaged(struct sim_check *c, int node)
{
    node_of(c, node)->damaged = true;
}

/* Of an entry on a disk: what a snapshot covers was committed. 0: it was not. */
static raft_term found_term(const struct sim_check *c, const raft_term *terms, raft_index index)
{
    if (terms[index - 1] != 0) return terms[index - 1];
    return index <= c->committed ? c->slots[index - 1].committed : 0;
}

/* A snapshot that was received and stored, and that the log does not lead to, voids the log (5): it may be on the disk
 * before the core is told of it. */
static bool is_replaced(const struct sim_check *c, const struct check_node *n, const raft_term *terms, raft_index last)
{
    raft_index covered = last;
    while (covered > 0 && terms[covered - 1] != 0) covered--;
    return covered > 0 && (covered > n->last || found_term(c, terms, covered) != n->log[covered - 1]);
}

/* Does a disk with this on it hold all that was durable? what: how the failures begin. */
static void check_kept(struct sim_check *c, int node, const char *what, raft_term term, raft_id vote,
                       const raft_term *terms, raft_index last)
{
    const struct check_node *n = node_of(c, node);
    if (term < n->durable_term) {
        sim_check_fail(c, node, "durability: %s term %" PRIu64 ", term %" PRIu64 " was durable", what, term,
                       n->durable_term);
    }
    if (term == n->term && vote != 0 && n->vote != 0 && vote != n->vote) {
        sim_check_fail(c, node, "durability: %s another vote in term %" PRIu64, what, term);
    }
    uint8_t said = term > 0 && term <= n->n_said ? n->said[term - 1] : 0;
    if (said != 0 && vote != said) {
        sim_check_fail(c, node, "durability: %s no vote for %d in term %" PRIu64 ", and it has told of one", what, said,
                       term);
    }
    if (is_replaced(c, n, terms, last)) return;
    if (last < n->stable) {
        sim_check_fail(c, node, "durability: %s a log up to %" PRIu64 ", %" PRIu64 " was durable", what, last,
                       n->stable);
    }
    for (raft_index i = 1; i <= MIN(last, n->stable) && !c->failed; i++) {
        if (found_term(c, terms, i) == n->log[i - 1]) continue;
        sim_check_fail(c, node, "durability: %s another entry at index %" PRIu64, what, i);
    }
}

void sim_check_recover(struct sim_check *c, int node, raft_term term, raft_id vote, const raft_term *terms,
                       raft_index last)
{
    struct check_node *n = node_of(c, node);
    check_kept(c, node, "came back with", term, vote, terms, last);
    for (raft_index i = n->stable + 1; i <= last && !c->failed; i++) {
        raft_term found = found_term(c, terms, i);
        if (found != 0 && version_of(slot_at(c, i), found) != NULL) continue;
        sim_check_fail(c, node, "durability: came back with an entry at index %" PRIu64 " that nobody wrote", i);
    }
    n->damaged = false;
    n->durable_term = term;
    n->term = last > 0 ? MAX(term, found_term(c, terms, last)) : term; /* a snapshot may come before its term */
    n->vote = n->term == term ? vote : 0;
    n->last = 0;
    for (raft_index i = 1; i <= last && !c->failed; i++) sim_check_append(c, node, found_term(c, terms, i), 0);
    n->stable = n->last;
}

void sim_check_disk(struct sim_check *c, int node, raft_term term, raft_id vote, const raft_term *terms,
                    raft_index last)
{
    struct check_node *n = node_of(c, node);
    raft_index newest = c->committed;
    raft_term committed = newest == 0 ? 0 : c->slots[newest - 1].committed;
    bool found = newest == 0 || (last >= newest && found_term(c, terms, newest) == committed);
    if (!n->damaged) check_kept(c, node, "its disk holds", term, vote, terms, last);
    n->disk_short = !found && !n->damaged && !is_gone(c, node, newest, committed);
}

void sim_check_disks(struct sim_check *c)
{
    unsigned whole = 0;
    for (int node = 1; node <= c->nodes; node++) whole |= c->node[node].disk_short ? 0 : 1u << node;
    if (c->committed == 0 || is_quorum(c, whole)) return;
    sim_check_fail(c, 0, "durability: index %" PRIu64 " is committed, and %d of %d disks do not hold it", c->committed,
                   c->nodes - count(whole), c->nodes);
}

/* ---- the state machine of a node, and its callers ---- */

static uint64_t mix(uint64_t state, uint64_t value)
{
    uint64_t h = (state ^ value) * UINT64_C(0xbf58476d1ce4e5b9);
    return h ^ (h >> 31);
}

static bool has_value(const struct check_node *n, uint64_t value)
{
    size_t at = value / 8;
    return at < n->values_size && (n->values[at] & 1u << value % 8) != 0;
}

static void check_value(struct sim_check *c, int node, raft_index index, uint64_t value)
{
    struct check_node *n = node_of(c, node);
    if (has_value(n, value)) {
        sim_check_fail(c, node, "exactly once: value %" PRIu64 " is applied again at index %" PRIu64, value, index);
    }
    if (fate_of(c, value)->outcome == CALL_REFUSED) {
        sim_check_fail(c, node, "exactly once: value %" PRIu64 ", refused for certain, is applied at index %" PRIu64,
                       value, index);
    }
    if (fate_of(c, value)->ended != 0 && index > fate_of(c, value)->ended) {
        sim_check_fail(c, node, "exactly once: value %" PRIu64 " is applied at index %" PRIu64
                       ", its session has ended or gone on at index %" PRIu64, value, index, fate_of(c, value)->ended);
    }
    n->values = grown(n->values, &n->values_size, &n->values_capacity, value / 8 + 1, 1);
    n->values[value / 8] |= (uint8_t)(1u << value % 8);
}

void sim_check_apply(struct sim_check *c, int node, raft_index index, uint64_t value, uint64_t time_us)
{
    struct check_node *n = node_of(c, node);
    if (index <= n->applied || index > n->commit || time_us < n->applied_us) {
        sim_check_fail(c, node, "order: applies index %" PRIu64 " at time %" PRIu64 " after index %" PRIu64
                       " at time %" PRIu64 ", commit index %" PRIu64, index, time_us, n->applied, n->applied_us,
                       n->commit);
        return;
    }
    check_value(c, node, index, value);
    n->applied = index;
    n->applied_us = time_us;
    n->state = mix(mix(mix(n->state, index), value), time_us) | 1;
    struct slot *slot = slot_at(c, index);
    if (slot->state != 0 && slot->state != n->state) {
        sim_check_fail(c, node, "state machine safety: after index %" PRIu64 " (value %" PRIu64
                       ") its state is another than elsewhere", index, value);
    }
    slot->state = n->state;
    slot->value = value;
    fate_of(c, value)->index = index;
}

struct sim_state sim_check_state(const struct sim_check *c, int node)
{
    const struct check_node *n = node_of(c, node);
    return (struct sim_state){.applied = n->applied, .time_us = n->applied_us, .digest = n->state};
}

struct sim_state sim_check_state_at(const struct sim_check *c, raft_index index)
{
    const struct slot *slot = index > 0 && index <= c->n_slots ? &c->slots[index - 1] : NULL;
    return (struct sim_state){.applied = index, .digest = slot != NULL ? slot->state : 0};
}

void sim_check_restored(struct sim_check *c, int node, struct sim_state state)
{
    struct check_node *n = node_of(c, node);
    uint64_t ought = state.applied > 0 && state.applied <= c->n_slots ? c->slots[state.applied - 1].state : 0;
    if (state.digest != ought || state.applied < n->applied) {
        sim_check_fail(c, node, "state machine safety: the state restored at index %" PRIu64 " is another than "
                       "elsewhere, or behind its own at index %" PRIu64, state.applied, n->applied);
        return;
    }
    n->applied = state.applied;
    n->applied_us = state.time_us;
    n->state = state.digest;
    for (raft_index i = 1; i <= state.applied; i++) {
        uint64_t value = c->slots[i - 1].value;
        if (value != 0 && !has_value(n, value)) check_value(c, node, i, value);
    }
}

void sim_check_propose(struct sim_check *c, uint64_t value)
{
    fate_of(c, value)->began = c->acknowledged;
}

void sim_check_acknowledge(struct sim_check *c, int node, raft_index index, uint64_t value)
{
    struct fate *fate = fate_of(c, value);
    if (fate->outcome != CALL_OPEN) {
        sim_check_fail(c, node, "exactly once: value %" PRIu64 " at index %" PRIu64 " was answered before", value,
                       index);
    }
    if (slot_at(c, index)->committed == 0 || !has_value(node_of(c, node), value)) {
        sim_check_fail(c, node, "durability: value %" PRIu64 " is acknowledged at index %" PRIu64
                       ", which is not committed or another's", value, index);
    }
    if (index <= fate->began) {
        sim_check_fail(c, node, "linearizability: value %" PRIu64 " is acknowledged at index %" PRIu64 ", %" PRIu64
                       " was acknowledged before it was proposed", value, index, fate->began);
    }
    fate->outcome = CALL_ACKNOWLEDGED;
    c->acknowledged = MAX(c->acknowledged, index);
}

void sim_check_refuse(struct sim_check *c, int node, uint64_t value)
{
    if (fate_of(c, value)->outcome != CALL_OPEN) {
        sim_check_fail(c, node, "exactly once: value %" PRIu64 " was answered before", value);
    }
    fate_of(c, value)->outcome = CALL_REFUSED;
    for (int other = 1; other <= c->nodes; other++) {
        if (!has_value(node_of(c, other), value)) continue;
        sim_check_fail(c, node, "exactly once: value %" PRIu64 " is refused for certain, but node %d has applied it",
                       value, other);
    }
}

void sim_check_overtaken(struct sim_check *c, int node, uint64_t value)
{
    raft_index index = fate_of(c, value)->index;
    if (index != 0) sim_check_acknowledge(c, node, index, value);
    else sim_check_fail(c, node, "exactly once: value %" PRIu64 " is in no state, and was told to be", value);
}

raft_index sim_check_index_of(const struct sim_check *c, uint64_t value)
{
    return value <= c->n_fates ? c->fates[value - 1].index : 0;
}

bool sim_check_answer(struct sim_check *c, int node, uint64_t value, raft_index index, uint64_t digest)
{
    const struct fate *fate = fate_of(c, value);
    if (index == 0 || index != fate->index || digest != slot_at(c, index)->state) {
        sim_check_fail(c, node, "exactly once: value %" PRIu64 ", applied at index %" PRIu64
                       ", is answered with what came of index %" PRIu64, value, fate->index, index);
    } else if (fate->outcome == CALL_OPEN) {
        sim_check_acknowledge(c, node, index, value);
        return true;
    } else if (!has_value(node_of(c, node), value)) {
        sim_check_fail(c, node, "exactly once: value %" PRIu64 " is answered once more, and not in its state", value);
    }
    return false;
}

void sim_check_expired(struct sim_check *c, int node, uint64_t value, raft_index index)
{
    struct fate *fate = fate_of(c, value);
    fate->ended = fate->ended == 0 ? index : MIN(fate->ended, index);
    if (fate->index <= index) return;
    sim_check_fail(c, node, "exactly once: the session of value %" PRIu64 " is said to have ended or gone on at index %"
                   PRIu64 ", and it is applied at index %" PRIu64, value, index, fate->index);
}

raft_index sim_check_acknowledged(const struct sim_check *c)
{
    return c->acknowledged;
}

void sim_check_barrier(struct sim_check *c, int node, raft_index began)
{
    raft_index applied = node_of(c, node)->applied;
    if (applied < began) {
        sim_check_fail(c, node, "linearizability: has passed a barrier with index %" PRIu64
                       " applied, %" PRIu64 " was acknowledged before it began", applied, began);
    }
}

raft_index sim_check_committed(const struct sim_check *c)
{
    return c->committed;
}

raft_term sim_check_committed_term(const struct sim_check *c, raft_index index)
{
    return index > 0 && index <= c->n_slots ? c->slots[index - 1].committed : 0;
}

/* Is this node to have all that there is? */
static bool ends_whole(const struct sim_check *c, int node)
{
    return !c->node[node].lost && sim_check_is_member(c, node);
}

void sim_check_end(struct sim_check *c)
{
    int first = 1;
    while (first < c->nodes && !ends_whole(c, first)) first++;
    for (int node = first; node <= c->nodes; node++) {
        const struct check_node *n = node_of(c, node), *other = node_of(c, first);
        if (!ends_whole(c, node)) continue;
        if (n->applied != other->applied || n->state != other->state) {
            sim_check_fail(c, node, "convergence: its state at index %" PRIu64 " is not that of node %d at index %"
                           PRIu64, n->applied, first, other->applied);
        }
        for (uint64_t value = 1; value <= c->n_fates; value++) {
            if (c->fates[value - 1].outcome != CALL_ACKNOWLEDGED || has_value(n, value)) continue;
            sim_check_fail(c, node, "durability: value %" PRIu64 " was acknowledged and is lost", value);
        }
    }
}
