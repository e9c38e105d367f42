
#include "base/mem.h"
#include "sim/sim_queue.h"
#include "sim/sim_relation_state.h"

#include <stdarg.h>
#include <stdio.h>

struct sim_relation {
    struct sim_check *check;
    int nodes;
    struct server servers[SIM_CHECK_NODES + 1]; /* from 1 */
};

struct sim_relation *sim_relation_new(struct sim_check *check, int nodes)
{
    ASSERT(nodes >= 1 && nodes <= SIM_CHECK_NODES);
    struct sim_relation *r = mem_zero(1, sizeof *r);
    if (r == NULL) return NULL;
    r->check = check;
    r->nodes = nodes;
    return r;
}

static void server_free(struct server *s)
{
    mem_free(s->batches);
    mem_free(s->confs);
    mem_free(s->reads);
}

void sim_relation_free(struct sim_relation *r)
{
    for (int node = 1; r != NULL && node <= r->nodes; node++) server_free(&r->servers[node]);
    mem_free(r);
}

/* ---- complaints ---- */

static const char *const message_names[RAFT_MESSAGE_TYPES] = {
    [RAFT_APPEND] = "append",       [RAFT_APPEND_REPLY] = "append reply",
    [RAFT_HEARTBEAT] = "heartbeat", [RAFT_HEARTBEAT_REPLY] = "heartbeat reply",
    [RAFT_VOTE] = "vote request",   [RAFT_VOTE_REPLY] = "vote reply",
    [RAFT_TIMEOUT_NOW] = "call to campaign", [RAFT_SNAPSHOT] = "snapshot",
};

static const char *const input_names[] = {
    [RAFT_INPUT_START] = "start",         [RAFT_INPUT_TICK] = "tick",
    [RAFT_INPUT_STEP] = "message",        [RAFT_INPUT_PROPOSE] = "proposal",
    [RAFT_INPUT_PERSISTED] = "persisted", [RAFT_INPUT_APPLIED] = "applied",
    [RAFT_INPUT_UNREACHABLE] = "unreachable", [RAFT_INPUT_RANGE_SENT] = "range sent",
    [RAFT_INPUT_CAMPAIGN] = "campaign",   [RAFT_INPUT_STEP_DOWN] = "step down",
    [RAFT_INPUT_READY] = "output",        [RAFT_INPUT_SNAPSHOT_TAKEN] = "snapshot taken",
    [RAFT_INPUT_COMPACT] = "compaction",  [RAFT_INPUT_SNAPSHOT_SENT] = "snapshot sent",
    [RAFT_INPUT_CHANGE] = "change of members", [RAFT_INPUT_PEER_LOST] = "peer without its log",
    [RAFT_INPUT_TRANSFER] = "transfer",   [RAFT_INPUT_LEADER_LOST] = "leader lost",
    [RAFT_INPUT_READ] = "read",           [RAFT_INPUT_WITHHOLD] = "withholding of votes",
    [RAFT_INPUT_AWAIT_COMMIT] = "wait for a commit",
};

void relation_wrong(const struct step *x, const char *section, const char *format, ...)
{
    char text[SIM_FAILURE_MAX / 2], what[80];
    const struct raft_message *m = x->input->message;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (m == NULL) snprintf(what, sizeof what, "%s", input_names[x->input->type]);
    else snprintf(what, sizeof what, "%s%s from %" PRIu64 " of term %" PRIu64, m->pre ? "pre-" : "",
                  message_names[m->type], m->from, m->term);
    sim_check_fail(x->check, x->node, "relation (%s): on %s %s", section, what, text);
}

/* ---- majorities (3.4, 3.5; joint ones 4.3) ---- */

struct peer *relation_peer(struct server *s, raft_id id)
{
    for (size_t i = 0; i < s->n_peers; i++) {
        if (s->peers[i].id == id) return &s->peers[i];
    }
    return NULL;
}

struct peer *relation_know(struct server *s, raft_id id)
{
    struct peer *p = relation_peer(s, id);
    if (p != NULL) return p;
    size_t at = 0;
    if (s->n_peers < COUNT_OF(s->peers)) at = s->n_peers++;
    else while (s->peers[at].member) at++; /* some stranger is forgotten */
    s->peers[at] = (struct peer){.id = id};
    return &s->peers[at];
}

/* A majority; of a cluster that is to be founded, all. */
static bool majority_has(const struct step *x, const raft_id *ids, size_t n, value_of value, uint64_t least)
{
    size_t have = 0;
    for (size_t i = 0; i < n; i++) have += value(x, ids[i]) >= least;
    return relation_conf(x->s)->founding ? have == n : 2 * have > n;
}

bool relation_quorum_has(const struct step *x, value_of value, uint64_t least)
{
    const struct raft_conf *c = relation_conf(x->s);
    return majority_has(x, c->voters, c->n_voters, value, least) &&
           (c->n_outgoing == 0 || majority_has(x, c->outgoing, c->n_outgoing, value, least));
}

uint64_t relation_quorum_reaches(const struct step *x, value_of value)
{
    const struct raft_conf *c = relation_conf(x->s);
    uint64_t best = 0;
    for (size_t i = 0; i < (size_t)c->n_voters + c->n_outgoing; i++) {
        uint64_t v = value(x, i < c->n_voters ? c->voters[i] : c->outgoing[i - c->n_voters]);
        if (v > best && relation_quorum_has(x, value, v)) best = v;
    }
    return best;
}

static uint64_t match_of(const struct step *x, raft_id id)
{
    const struct peer *p = relation_peer(x->s, id);
    return p != NULL ? p->match : x->s->stable; /* its own copy counts when it is on its disk (10.2.1) */
}

static uint64_t contact_of(const struct step *x, raft_id id)
{
    const struct peer *p = relation_peer(x->s, id);
    return p != NULL ? p->contact_us : x->input->now;
}

static uint64_t grant_of(const struct step *x, raft_id id)
{
    const struct peer *p = relation_peer(x->s, id);
    return p != NULL ? p->granted : x->s->own_vote;
}

static uint64_t hope_of(const struct step *x, raft_id id)
{
    const struct peer *p = relation_peer(x->s, id);
    return p == NULL || !p->refused;
}

/* ---- logs ---- */

raft_term relation_term_at(const struct step *x, raft_index index)
{
    return sim_check_term_at(x->check, x->node, index);
}

/* Does a log that ends in (term, index) hold all that this one may have committed (3.6.1)? */
static bool is_up_to_date(const struct step *x, raft_index index, raft_term term)
{
    raft_term own = term_at(x, x->s->last);
    return term > own || (term == own && index >= x->s->last);
}

/* Is its log what the rules made of it? */
static void same_log(const struct step *x)
{
    const struct sim_core *a = x->after;
    size_t n = x->n_gained + x->n_own;
    if (x->log_judged) return;
    if (a->kept != x->kept || a->n_added != n || a->last != x->kept + n) {
        wrong(x, "3.5", "its log keeps %" PRIu64 " entries and gains %zu, up to %" PRIu64 "; by the rules it "
              "keeps %" PRIu64 " and gains %zu", a->kept, a->n_added, a->last, x->kept, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        raft_term term = i < x->n_gained ? x->gained[i].term : x->s->term;
        if (a->added[i] == term) continue;
        wrong(x, "3.5", "its log gains an entry of term %" PRIu64 " at index %" PRIu64 "; by the rules it is of "
              "term %" PRIu64, a->added[i], x->kept + 1 + i, term);
    }
}

/* What the disk will report was written before: it says nothing of what replaces it. */
static void clamp_batches(struct server *s, raft_index kept)
{
    s->stable = MIN(s->stable, kept);
    for (uint64_t seq = s->done + 1; seq <= s->handed; seq++) {
        struct batch *batch = &s->batches[seq & (s->batches_capacity - 1)];
        batch->last = MIN(batch->last, kept);
    }
}

static void cut_log(struct server *s, raft_index kept)
{
    s->last = kept;
    clamp_batches(s, kept);
    if (s->handed_last > kept) {
        s->handed_last = kept;
        s->truncated = s->truncated == 0 ? kept + 1 : MIN(s->truncated, kept + 1);
    }
}

/* A leader only ever appends to its log (3.5, figure 3.2). */
void relation_append(struct step *x)
{
    x->n_own++;
    x->s->last++;
}

/* The log keeps entries up to kept and gains n more, those of a message. */
static void take_entries(struct step *x, raft_index kept, const struct raft_entry *entries, size_t n)
{
    struct server *s = x->s;
    bool cut = kept < s->last, moves = cut;
    x->kept = kept;
    x->gained = entries;
    x->n_gained = n;
    if (cut) {
        cut_log(s, kept);
        relation_conf_cut(s, kept);
    }
    s->last = kept + n;
    for (size_t i = 0; i < n; i++) {
        if (entries[i].type != RAFT_ENTRY_CONFIG) continue;
        relation_conf_add(s, kept + 1 + i, entries[i].conf);
        moves = true;
    }
    if (moves) relation_adopt(x);
}

/* ---- terms and roles (3.3, 3.4) ---- */

static void forget_votes(struct server *s)
{
    for (size_t i = 0; i < s->n_peers; i++) s->peers[i].granted = s->peers[i].refused = false;
    s->own_vote = false;
}

void relation_follow(struct step *x, raft_id leader)
{
    struct server *s = x->s;
    if (s->role == RAFT_LEADER) x->timer_reset = true;
    s->role = RAFT_FOLLOWER;
    s->leader = leader;
    s->asking = false;
    s->transfer = 0;
    relation_reads_fail(s);
    forget_votes(s);
}

static void enter_term(struct server *s, raft_term term, raft_id vote)
{
    s->term = term;
    s->vote = vote;
    s->leader = 0;
    s->leader_lost = s->removed = false;
    s->heard_us = 0;
    s->verified = 0;
    s->votes[term % VOTES_KEPT].term = term;
    s->votes[term % VOTES_KEPT].vote = vote;
}

/* A later term has been heard of: whoever this was, it is a follower now (3.3). */
static void adopt_term(struct step *x, raft_term term)
{
    enter_term(x->s, term, 0);
    relation_follow(x, 0);
}

static void vote_for(struct server *s, raft_id candidate)
{
    s->vote = candidate;
    s->votes[s->term % VOTES_KEPT].vote = candidate;
}

/* Has it heard of a leader within the shortest election timeout (4.2.3)? A leader, of a quorum (6.2)? One whose process
 * has died is none to be protected. */
static bool hears_leader(const struct step *x)
{
    const struct server *s = x->s;
    uint64_t heard_us = s->role == RAFT_LEADER ? relation_quorum_reaches(x, contact_of) : s->heard_us;
    return s->leader != 0 && heard_us != 0 && !s->leader_lost && x->input->now < heard_us + s->election_timeout_us;
}

/* The first leader's first entry is the list by which the cluster was founded: from there on a majority is enough. */
static void found(struct step *x)
{
    struct raft_conf conf = *relation_conf(x->s);
    if (!conf.founding) return;
    conf.founding = false;
    relation_conf_add(x->s, x->s->last + 1, &conf);
}

/* Won: nothing is known of the others' logs, and an empty entry is the first of its term (figure 3.1; 6.4). */
static void lead(struct step *x)
{
    struct server *s = x->s;
    found(x);
    s->role = RAFT_LEADER;
    s->leader = s->id;
    s->led = s->term;
    s->handing = false;
    for (size_t i = 0; i < s->n_peers; i++) {
        struct peer *p = &s->peers[i];
        p->match = p->told = p->answered_us = 0;
        p->next = s->last + 1;
        p->goal = s->last;
        p->contact_us = x->input->now;
    }
    relation_append(x);
}

/* A new term, and the first vote of it (3.4). */
static void stand(struct step *x)
{
    struct server *s = x->s;
    enter_term(s, s->term + 1, s->id);
    forget_votes(s);
    s->asking = false;
    x->timer_reset = true;
    s->claims[0] = (struct claim){.term = s->term, .index = s->last, .log_term = term_at(x, s->last)};
}

/* A candidate may see that it has won, or that it cannot win any more (3.4). */
static void count_votes(struct step *x)
{
    struct server *s = x->s;
    const struct sim_core *a = x->after;
    if (s->role != RAFT_CANDIDATE) return;
    /* Its own vote is one that it could take back, until it is on its disk (3.8). A pre-vote binds nobody (9.6). */
    s->own_vote = s->asking || (s->durable_term == s->term && s->durable_vote == s->id);
    if (a->role == RAFT_FOLLOWER && a->term == s->term) {
        if (!relation_quorum_has(x, hope_of, 1)) relation_follow(x, 0);
        return;
    }
    bool goes_on = s->asking ? a->term > s->term : a->role == RAFT_LEADER;
    if (!goes_on) return;
    if (!relation_quorum_has(x, grant_of, 1)) {
        wrong(x, s->asking ? "9.6" : "3.4", "it %s term %" PRIu64 " without the votes of a quorum",
              s->asking ? "stands for election in" : "leads", a->term);
    }
    if (s->asking) stand(x);
    else lead(x);
}

/* What it asks for pre-votes with. */
static void claim(struct step *x)
{
    struct server *s = x->s;
    s->claims[1] = (struct claim){.term = s->term + 1, .index = s->last, .log_term = term_at(x, s->last)};
}

/* Asks whether it would win: changes neither term nor vote (9.6). */
static void ask(struct step *x)
{
    struct server *s = x->s;
    s->role = RAFT_CANDIDATE;
    s->leader = 0;
    s->asking = true;
    x->timer_reset = true;
    claim(x);
    forget_votes(s);
    count_votes(x);
}

/* Its own vote is promised like any other (6.4.1): then it waits for the end of that. Who is no voter stands for
 * nothing, but may ask what has become of it: no answer makes it a candidate (4.2.2, 4.2.3). */
static void campaign(struct step *x)
{
    struct server *s = x->s;
    if (relation_may_campaign(s) && x->input->now < s->promised_us) {
        s->deadline_us = s->promised_us;
    } else if (relation_may_campaign(s)) {
        ask(x);
    } else {
        relation_follow(x, 0); /* it stands for nothing, but its leader is gone */
        x->timer_reset = true;
        claim(x);
    }
}

/* ---- time ---- */

/* Within an election timeout the target leads, or this one goes on (3.10). It looks with every heartbeat. */
static void end_transfer(struct step *x)
{
    struct server *s = x->s;
    uint64_t now = x->input->now;
    if (s->transfer == 0) return;
    if (x->after->transfer != 0 && now >= s->transfer_until_us + s->heartbeat_us) {
        wrong(x, "3.10", "it waits for %" PRIu64 " to lead for longer than an election timeout", s->transfer);
    }
    if (x->after->transfer == 0 && now >= s->transfer_until_us) s->transfer = 0;
}

static void on_tick(struct step *x)
{
    struct server *s = x->s;
    uint64_t now = x->input->now;
    if (s->role == RAFT_LEADER) {
        /* A leader that no majority answers leads nobody (6.2). It looks with every heartbeat. */
        uint64_t deadline_us = relation_quorum_reaches(x, contact_of) + s->election_timeout_us;
        bool resigns = x->after->role == RAFT_FOLLOWER && x->after->term == s->term;
        if (resigns && now < deadline_us) wrong(x, "6.2", "it steps down though a quorum answers");
        uint64_t looked_us = MAX(deadline_us, s->adopted_us);
        if (!resigns && now >= looked_us + s->heartbeat_us) wrong(x, "6.2", "it leads on, and no quorum answers");
        if (resigns) relation_follow(x, 0);
        else end_transfer(x);
        return;
    }
    if (now >= s->deadline_us) campaign(x);
}

static void on_campaign(struct step *x)
{
    if (x->s->role != RAFT_LEADER && relation_may_campaign(x->s)) campaign(x);
}

/* It may end its election timeout early, once in the shortest one: nothing in Raft rests on how long it is (3.4). */
static void may_hurry(struct step *x)
{
    struct server *s = x->s;
    uint64_t now = x->input->now, is = x->after->deadline_us;
    bool rare = s->hint_us == 0 || now >= s->hint_us + s->election_timeout_us;
    if (is == s->deadline_us || is > s->deadline_us || is < now || !rare || now < s->promised_us) return;
    s->deadline_us = is;
    s->hint_us = now;
}

static void on_leader_lost(struct step *x)
{
    if (x->s->role != RAFT_FOLLOWER || x->s->leader == 0) return;
    x->s->leader_lost = true;
    may_hurry(x);
}

static void on_step_down(struct step *x)
{
    if (x->s->role == RAFT_LEADER) relation_follow(x, 0);
}

/* ---- elections ---- */

/* It is not disturbed by who has lost touch (4.2.3), and keeps its word to a leader that relies on it (6.4.1) - but for
 * a candidate that this leader has called (3.10). */
static bool disturbs(const struct step *x, const struct raft_message *m)
{
    if (m->force) return false;
    return x->input->now < x->s->promised_us || (m->term > x->s->term && hears_leader(x));
}

/* A pre-vote changes nothing; whether the answer may be yes is remembered (9.6). One that hears no leader and has the
 * longer log may stand for election soon: who asks cannot win. */
static void on_pre_vote(struct step *x, const struct raft_message *m)
{
    struct peer *p = relation_know(x->s, m->from);
    if (m->term <= x->s->term || disturbs(x, m)) return;
    bool could = is_up_to_date(x, m->index, m->log_term);
    if (could && !x->s->withheld) p->welcome = MAX(p->welcome, m->term);
    if (!could && x->s->role == RAFT_FOLLOWER && x->s->leader != 0) may_hurry(x);
}

static void on_vote(struct step *x, const struct raft_message *m)
{
    struct server *s = x->s;
    if (disturbs(x, m)) return;
    if (m->term > s->term) adopt_term(x, m->term);
    if (m->term < s->term) return;
    /* First come, first served, and only for who has all that may be committed (3.4, 3.6.1). Once a leader of the term
     * is known nobody needs the vote any more. */
    bool free = s->vote == 0 && !s->withheld && is_up_to_date(x, m->index, m->log_term);
    if (x->after->vote == m->from && s->vote == 0) {
        if (s->withheld) wrong(x, "3.4", "it votes, and may have forgotten another vote");
        else if (!free) wrong(x, "3.6.1", "it votes for a candidate whose log is behind its own");
        vote_for(s, m->from);
        x->timer_reset = true;
    } else if (s->vote == m->from) {
        x->timer_reset = x->after->deadline_us != s->deadline_us;
    } else if (free && s->leader == 0) {
        wrong(x, "3.4", "it refuses the first candidate of a term whose log is good enough");
    }
}

/* Who refuses knows a committed log without it, which reaches beyond the latest configuration here, or has made it
 * void: it was removed, and stands for nothing any more, unless a leader that it hears proves otherwise (4.2.3). */
static bool is_told_off(const struct step *x, const struct raft_message *m)
{
    const struct server *s = x->s;
    raft_index conf = s->confs[s->n_confs - 1].index;
    raft_term term = conf <= s->commit ? m->log_term : term_at(x, conf); /* what is committed is in both logs */
    bool beyond = m->log_term > term || (m->log_term == term && m->index >= conf);
    return m->reject && m->index > 0 && beyond && !hears_leader(x);
}

static void on_vote_reply(struct step *x, const struct raft_message *m)
{
    struct server *s = x->s;
    struct peer *p = relation_peer(s, m->from);
    if (m->reject && m->term > s->term) adopt_term(x, m->term);
    if (is_told_off(x, m)) {
        relation_follow(x, s->leader);
        s->removed = true;
        return;
    }
    bool answers = s->role == RAFT_CANDIDATE && m->pre == s->asking &&
                   (m->reject || m->term == s->claims[m->pre].term);
    if (!answers) return;
    if (m->reject) p->refused = true;
    else p->granted = true;
    count_votes(x);
}

/* The leader hands over to it: an election at once, without asking first (3.10). It need not obey. */
static void on_timeout_now(struct step *x, const struct raft_message *m)
{
    struct server *s = x->s;
    if (s->role != RAFT_FOLLOWER || s->leader != m->from || !relation_may_campaign(s)) return;
    if (x->after->term == s->term) return;
    s->role = RAFT_CANDIDATE;
    stand(x);
    s->called = s->term;
}

/* ---- replication: followers (3.5) ---- */

/* The leader of the term has spoken: who stood against it has lost (3.4). */
static void hear_leader(struct step *x, raft_id leader)
{
    struct server *s = x->s;
    if (s->leader != 0 && s->leader != leader) {
        wrong(x, "3.4", "it follows %" PRIu64 ", and %" PRIu64 " leads the same term", leader, s->leader);
    }
    relation_follow(x, leader);
    s->leader_lost = s->removed = false; /* a leader speaks to its members only */
    s->heard_us = x->input->now;
    x->timer_reset = true;
}

/* Figure 3.1, AppendEntries RPC, receiver implementation 2 .. 5. */
static void on_append(struct step *x, const struct raft_message *m)
{
    struct server *s = x->s;
    hear_leader(x, m->from);
    if (m->index > s->last || term_at(x, m->index) != m->log_term) return;
    uint32_t known = 0; /* entries of the message that are here already */
    while (known < m->n_entries && m->index + known < s->last &&
           term_at(x, m->index + known + 1) == m->entries[known].term) known++;
    raft_index kept = known < m->n_entries ? m->index + known : s->last; /* only a conflict cuts what follows */
    if (kept < MAX(s->commit, s->verified)) {
        wrong(x, "3.6.3", "it cuts entries from %" PRIu64 " on; committed are those up to %" PRIu64 ", up to %" PRIu64
              " they are the leader's", kept + 1, s->commit, s->verified);
    }
    take_entries(x, kept, m->entries + known, m->n_entries - known);
    /* What is committed here, this leader has too (3.6.3), though the message be an old one. */
    raft_index covered = MAX(m->index + m->n_entries, s->commit);
    s->verified = MAX(s->verified, covered);
    s->commit = MAX(s->commit, MIN(m->commit, covered));
}

/* The log is what the snapshot covers, and nothing else (figure 5.3, InstallSnapshot RPC, receiver implementation 7).
 * Batches on their way hold what is void now. */
static void expect_restored(struct step *x, const struct raft_message *m)
{
    struct server *s = x->s;
    x->log_judged = true;
    if (x->after->restored != m->index || x->after->last != m->index) {
        wrong(x, "5.3", "its log ends at %" PRIu64 ", restored up to %" PRIu64 "; the snapshot is of index %" PRIu64,
              x->after->last, x->after->restored, m->index);
    }
    clamp_batches(s, MIN(s->stable, s->ready_commit));
    s->last = s->commit = s->handed_last = s->restore = s->snapshot = s->compacted = m->index;
    s->truncated = 0;
    relation_conf_first(x, m->index, m->conf);
    relation_adopt(x);
}

/* One that ends in an entry of this log only says that it is committed (figure 5.3, 6). */
static void on_snapshot(struct step *x, const struct raft_message *m)
{
    struct server *s = x->s;
    hear_leader(x, m->from);
    if (m->index > s->commit) {
        bool here = m->index <= s->last && term_at(x, m->index) == m->log_term;
        if (!here && m->index <= s->verified) {
            wrong(x, "5.3", "it gives up entries up to %" PRIu64 ", which are the leader's", s->verified);
        }
        if (here) s->commit = m->index;
        else expect_restored(x, m);
    }
    s->verified = MAX(s->verified, s->commit);
}

static void on_heartbeat(struct step *x, const struct raft_message *m)
{
    struct server *s = x->s;
    hear_leader(x, m->from);
    if (m->commit > s->last) wrong(x, "3.5", "it takes a commit index beyond its log");
    s->commit = MAX(s->commit, m->commit);
    if (m->context != 0 && m->lease_us > 0) s->promised_us = MAX(s->promised_us, x->input->now + m->lease_us);
}

/* ---- replication: leaders ---- */

/* Figure 3.1, rules for leaders, last: only entries of the present term are committed by counting copies (3.6.2). A
 * change of members that ends with it may allow more. */
static void commit_by_counting(struct step *x)
{
    struct server *s = x->s;
    while (s->role == RAFT_LEADER) {
        raft_index reached = relation_quorum_reaches(x, match_of);
        if (reached <= s->commit || term_at(x, reached) != s->term) return;
        s->commit = reached;
        relation_on_commit(x);
    }
}

static void on_append_reply(struct step *x, const struct raft_message *m)
{
    struct peer *p = relation_peer(x->s, m->from);
    p->contact_us = x->input->now;
    x->next_free = true;
    if (m->reject) return;
    p->match = MAX(p->match, m->index);
    commit_by_counting(x);
}

static void on_heartbeat_reply(struct step *x, const struct raft_message *m)
{
    struct peer *p = relation_peer(x->s, m->from);
    p->contact_us = x->input->now;
    p->answered_us = MAX(p->answered_us, m->context);
    x->next_free = true; /* what was sent before and has not arrived is sent again */
}

/* ---- messages in ---- */

static void on_message(struct step *x)
{
    const struct raft_message *m = x->input->message;
    struct server *s = x->s;
    bool asks = m->type == RAFT_APPEND || m->type == RAFT_HEARTBEAT || m->type == RAFT_VOTE;
    bool answers = m->type == RAFT_APPEND_REPLY || m->type == RAFT_HEARTBEAT_REPLY || m->type == RAFT_VOTE_REPLY;
    struct peer *p = relation_know(s, m->from); /* requests of strangers are heard: they may know more (4.1) */
    if (answers && !p->member) {
        wrong(x, "4.1", "it counts on the answer of who is no member");
        return;
    }
    if (asks && m->term < s->term) p->owed = true;
    if (m->type == RAFT_VOTE) {
        relation_on_asked(x, p);
        if (m->pre) on_pre_vote(x, m);
        else on_vote(x, m);
        return;
    }
    if (m->type == RAFT_VOTE_REPLY) {
        on_vote_reply(x, m);
        return;
    }
    if (m->term < s->term) return; /* (3.3) */
    if (m->term > s->term) adopt_term(x, m->term);
    if (m->type == RAFT_APPEND) on_append(x, m);
    if (m->type == RAFT_HEARTBEAT) on_heartbeat(x, m);
    if (m->type == RAFT_SNAPSHOT) on_snapshot(x, m);
    if (m->type == RAFT_TIMEOUT_NOW) on_timeout_now(x, m);
    if (m->type == RAFT_APPEND_REPLY && s->role == RAFT_LEADER) on_append_reply(x, m);
    if (m->type == RAFT_HEARTBEAT_REPLY && s->role == RAFT_LEADER) on_heartbeat_reply(x, m);
}

/* ---- clients, the disk, the state machine ---- */

static void on_propose(struct step *x)
{
    if (x->s->role != RAFT_LEADER) wrong(x, "3.5", "it appends without being the leader");
    if (x->s->transfer != 0) wrong(x, "3.10", "it appends while it hands over");
    for (size_t i = 0; i < x->input->n; i++) relation_append(x);
}

static void on_persisted(struct step *x)
{
    struct server *s = x->s;
    if (x->input->seq <= s->done || x->input->seq > s->handed) {
        wrong(x, "3.8", "batch %" PRIu64 " is acknowledged, those on their way are %" PRIu64 " .. %" PRIu64,
              x->input->seq, s->done + 1, s->handed);
        return;
    }
    const struct batch *batch = &s->batches[x->input->seq & (s->batches_capacity - 1)];
    s->done = x->input->seq;
    s->stable = MAX(s->stable, batch->last);
    s->durable_term = batch->term;
    s->durable_vote = batch->vote;
    count_votes(x);
    if (s->role == RAFT_LEADER) commit_by_counting(x);
}

static void on_applied(struct step *x)
{
    struct server *s = x->s;
    raft_index most = MAX(s->ready_commit, s->snapshot); /* what a snapshot covers is committed (5) */
    if (x->input->index < s->applied || x->input->index > most) {
        wrong(x, "3.5", "index %" PRIu64 " is applied after %" PRIu64 ", up to %" PRIu64 " may be", x->input->index,
              s->applied, most);
    }
    s->applied = x->input->index;
}

static void on_resend(struct step *x)
{
    x->next_free = true;
}

/* It cannot be handed over to who does not hear of it (3.10). */
static void on_unreachable(struct step *x)
{
    x->next_free = true;
    if (x->s->transfer == x->input->peer) x->s->transfer = 0;
}

static void on_change(struct step *x)
{
    relation_on_change(x);
    commit_by_counting(x); /* a smaller quorum may have more already */
}

/* ---- snapshots (5) ---- */

static void on_snapshot_taken(struct step *x)
{
    struct server *s = x->s;
    if (x->input->index > s->applied) {
        wrong(x, "5.1", "a snapshot is taken at %" PRIu64 "; applied are entries up to %" PRIu64, x->input->index,
              s->applied);
    }
    s->snapshot = MAX(s->snapshot, x->input->index);
}

static void on_compact(struct step *x)
{
    struct server *s = x->s;
    if (x->input->index > s->snapshot) {
        wrong(x, "5.1", "entries up to %" PRIu64 " are dropped; its snapshot covers those up to %" PRIu64,
              x->input->index, s->snapshot);
    }
    s->compacted = MAX(s->compacted, x->input->index);
}

/* A learner has come back without its log: nothing that it confirmed counts any more. */
static void on_peer_lost(struct step *x)
{
    struct peer *p = relation_peer(x->s, x->input->peer);
    p->match = 0;
    p->goal = x->s->last;
    x->next_free = true;
}

/* When a commit is told is nothing that Raft rests on. */
static void on_await_commit(struct step *x)
{
    (void)x;
}

/* It may have forgotten a vote: it stands for nothing, until it is admitted anew. */
static void on_withhold(struct step *x)
{
    x->s->withheld = x->input->n != 0;
    if (x->s->withheld && x->s->role != RAFT_FOLLOWER) relation_follow(x, 0);
}

/* ---- output: the disk ---- */

static void batch_add(struct server *s, struct batch batch)
{
    size_t need = (size_t)(s->handed - s->done) + 1, old = s->batches_capacity;
    if (need > old) { /* its capacity is a power of two: 0, 8, 16, ... */
        struct batch *bigger = NULL;
        size_t capacity = 0;
        sim_grow((void **)&bigger, &capacity, need, sizeof batch);
        for (uint64_t seq = s->done + 1; seq <= s->handed; seq++) {
            bigger[seq & (capacity - 1)] = s->batches[seq & (old - 1)];
        }
        mem_free(s->batches);
        s->batches = bigger;
        s->batches_capacity = capacity;
    }
    s->handed++;
    s->batches[s->handed & (s->batches_capacity - 1)] = batch;
}

/* What figure 3.1 calls persistent is handed to the disk as it changes, in order and without gaps (3.8). */
static void judge_batch(struct step *x, const struct raft_ready *out)
{
    struct server *s = x->s;
    bool vote = s->term != s->handed_term || s->vote != s->handed_vote;
    if (out->term != s->term || out->vote != s->vote || (vote && !out->vote_changed)) {
        wrong(x, "3.8", "it hands out term %" PRIu64 " and vote %" PRIu64 "%s", out->term, out->vote,
              out->vote_changed ? "" : ", not to be stored");
    }
    if (out->truncate_from != s->truncated || out->first != s->handed_last + 1 || out->last > s->last ||
        out->last + 1 < out->first) {
        wrong(x, "3.8", "it hands out entries %" PRIu64 " .. %" PRIu64 " to be stored, void from %" PRIu64 "; the disk "
              "was given those up to %" PRIu64 ", void from %" PRIu64, out->first, out->last, out->truncate_from,
              s->handed_last, s->truncated);
    }
    if (out->restore != s->restore) {
        wrong(x, "5.3", "the log on disk is to be replaced by a snapshot of index %" PRIu64 "; by the rules of index %"
              PRIu64, out->restore, s->restore);
    }
    bool anything = out->vote_changed || out->truncate_from != 0 || out->restore != 0 || out->last >= out->first;
    if (anything != (out->seq != 0) || (anything && out->seq != s->handed + 1)) {
        wrong(x, "3.8", "batch %" PRIu64 " follows batch %" PRIu64, out->seq, s->handed);
    }
    if (!anything) return;
    batch_add(s, (struct batch){.last = out->last, .term = out->term, .vote = out->vote});
    s->handed_last = out->last;
    s->handed_term = out->term;
    s->handed_vote = out->vote;
    s->truncated = s->restore = 0;
}

/* ---- output: messages ---- */

/* A vote stands once it is on disk, or once a later term is: then it cannot be given again (3.8). */
static bool has_voted(const struct server *s, raft_term term, raft_id candidate)
{
    bool known = s->votes[term % VOTES_KEPT].term == term;
    if (known && s->votes[term % VOTES_KEPT].vote != candidate) return false;
    return term < s->durable_term || (term == s->durable_term && s->durable_vote == candidate);
}

static void judge_vote(const struct step *x, const struct raft_message *m)
{
    const struct claim *c = &x->s->claims[m->pre];
    if (m->term == c->term && (m->index != c->index || m->log_term != c->log_term)) {
        wrong(x, "3.6.1", "it asks for votes with a log that ends at (%" PRIu64 ", %" PRIu64 "), its own ended at (%"
              PRIu64 ", %" PRIu64 ")", m->index, m->log_term, c->index, c->log_term);
    }
    if (m->pre ? m->term > c->term : !has_voted(x->s, m->term, x->s->id)) {
        wrong(x, "3.4", "it asks for %svotes in term %" PRIu64 ", for which it does not stand", m->pre ? "pre-" : "",
              m->term);
    }
    if (m->force != (!m->pre && m->term == x->s->called)) {
        wrong(x, "3.10", "it asks for votes in term %" PRIu64 " %s the leader's name", m->term,
              m->force ? "in" : "without");
    }
}

static void judge_vote_reply(const struct step *x, const struct raft_message *m)
{
    if (m->reject && (m->index > relation_peer(x->s, m->to)->without || term_at(x, m->index) != m->log_term)) {
        wrong(x, "4.2.3", "it tells %" PRIu64 " that it was removed, by what is committed up to (%" PRIu64 ", %" PRIu64
              ")", m->to, m->index, m->log_term);
    }
    if (m->reject) return;
    if (m->pre ? m->term > relation_peer(x->s, m->to)->welcome : !has_voted(x->s, m->term, m->to)) {
        wrong(x, m->pre ? "9.6" : "3.4", "it grants %" PRIu64 " a %svote in term %" PRIu64, m->to,
              m->pre ? "pre-" : "", m->term);
    }
}

/* Figure 3.1, rules for leaders: what starts at nextIndex, after the entry before it. */
static void judge_append(struct step *x, const struct raft_message *m)
{
    struct server *s = x->s;
    struct peer *p = relation_peer(s, m->to);
    raft_index covered = m->index + m->n_entries;
    if (s->leftover) return; /* of an earlier output: the server drops it if it is out of date */
    if (s->role != RAFT_LEADER || m->term != s->term) {
        wrong(x, "3.4", "it sends entries in term %" PRIu64 ", which it does not lead", m->term);
        return;
    }
    if (!p->member) wrong(x, "4.1", "it sends entries to %" PRIu64 ", which is no member", m->to);
    if (covered > s->last || term_at(x, m->index) != m->log_term || m->index + 1 != p->next || m->commit > s->commit) {
        wrong(x, "3.5", "it sends %" PRIu64 " %u entries after (%" PRIu64 ", %" PRIu64 ") with commit index %" PRIu64
              "; its log has (%" PRIu64 ", %" PRIu64 ") there, next is %" PRIu64 ", its commit index %" PRIu64, m->to,
              m->n_entries, m->index, m->log_term, m->commit, m->index, term_at(x, m->index), p->next, s->commit);
    }
    if (m->index < s->compacted) wrong(x, "5.1", "it sends entries after %" PRIu64 ", which are gone", m->index);
    const struct sim_peer *now = x->after->peers;
    while (now < x->after->peers + x->after->n_peers && now->id != m->to) now++;
    if (now < x->after->peers + x->after->n_peers && now->next > covered) p->next = covered + 1; /* else a probe */
}

/* Who needs what is gone gets the newest snapshot (5.3). */
static void judge_snapshot(const struct step *x, const struct raft_message *m)
{
    struct server *s = x->s;
    struct peer *p = relation_peer(s, m->to);
    if (s->leftover) return;
    if (s->role != RAFT_LEADER || m->term != s->term) {
        wrong(x, "5.3", "it sends a snapshot in term %" PRIu64 ", which it does not lead", m->term);
        return;
    }
    if (m->index != s->snapshot || m->index > s->commit || m->log_term != term_at(x, m->index) ||
        p->next > s->compacted) {
        wrong(x, "5.3", "it sends %" PRIu64 " a snapshot of index %" PRIu64 " and term %" PRIu64 "; its own is "
              "of %" PRIu64 ", next is %" PRIu64 ", gone are entries up to %" PRIu64, m->to, m->index, m->log_term,
              s->snapshot, p->next, s->compacted);
    }
    p->next = m->index + 1;
}

/* It may be late: then it was sent by who led before. What it says still holds: match and commit only grew. */
static void judge_heartbeat(const struct step *x, const struct raft_message *m)
{
    const struct server *s = x->s;
    const struct peer *p = relation_peer(x->s, m->to);
    raft_index match = MAX(p->match, p->told);
    if (m->context > x->input->now) wrong(x, "6.4", "its heartbeat says that it is sent later than it is");
    if (m->term != s->led) {
        wrong(x, "3.4", "it sends a heartbeat in term %" PRIu64 ", which it does not lead", m->term);
    } else if (m->commit > MIN(match, s->commit)) {
        wrong(x, "3.5", "its heartbeat tells %" PRIu64 " of commit index %" PRIu64 ", which has confirmed %" PRIu64
              " of its %" PRIu64, m->to, m->commit, match, s->commit);
    }
}

/* What a follower says it has is on its disk, and is what the leader has (3.5, 10.2.1). Of an earlier term: it was. */
static void judge_append_reply(const struct step *x, const struct raft_message *m)
{
    const struct server *s = x->s;
    if (m->reject) {
        if (m->hint > m->index) wrong(x, "3.5", "it refuses entries after %" PRIu64 ", but not before", m->index);
        return;
    }
    if (m->term < s->term) return;
    if (m->index > MIN(s->verified, s->stable) || (s->leader != 0 && m->to != s->leader)) {
        wrong(x, "3.5", "it acknowledges entries up to %" PRIu64 " to %" PRIu64 "; up to %" PRIu64 " they are the "
              "leader's, up to %" PRIu64 " on disk", m->index, m->to, s->verified, s->stable);
    }
}

static void judge_message(struct step *x, const struct raft_message *m)
{
    struct server *s = x->s;
    bool hypothetical = m->pre && (m->type == RAFT_VOTE || !m->reject);
    if (m->from != s->id || relation_peer(s, m->to) == NULL || m->type == 0 || m->type >= RAFT_MESSAGE_TYPES) {
        wrong(x, "3.1", "it sends a message from %" PRIu64 " to %" PRIu64, m->from, m->to);
        return;
    }
    if (!hypothetical && m->term > s->durable_term) {
        wrong(x, "3.8", "it sends a %s of term %" PRIu64 ", and term %" PRIu64 " is on disk", message_names[m->type],
              m->term, s->durable_term);
    }
    if (!hypothetical) relation_peer(s, m->to)->owed = false;
    if (m->type == RAFT_VOTE) judge_vote(x, m);
    if (m->type == RAFT_VOTE_REPLY) judge_vote_reply(x, m);
    if (m->type == RAFT_APPEND) judge_append(x, m);
    if (m->type == RAFT_SNAPSHOT) judge_snapshot(x, m);
    if (m->type == RAFT_TIMEOUT_NOW) relation_judge_timeout_now(x, m);
    if (m->type == RAFT_APPEND_REPLY) judge_append_reply(x, m);
    if (m->type == RAFT_HEARTBEAT) judge_heartbeat(x, m);
    if (m->type == RAFT_HEARTBEAT_REPLY && m->term == s->term && m->index > s->verified) {
        wrong(x, "3.5", "it has received entries up to %" PRIu64 ", up to %" PRIu64 " they are the leader's", m->index,
              s->verified);
    }
}

/* Who asks in an earlier term is told of the later one (figure 3.1: "reply false if term < currentTerm"), as soon as
 * that may be told. */
static void judge_debts(struct step *x)
{
    struct server *s = x->s;
    bool told = s->durable_term == s->term && s->durable_vote == s->vote;
    for (size_t i = 0; i < s->n_peers && told; i++) {
        if (!s->peers[i].owed) continue;
        wrong(x, "3.3", "%" PRIu64 ", which asked in an earlier term, does not hear of term %" PRIu64, s->peers[i].id,
              s->term);
    }
}

static void on_ready(struct step *x)
{
    struct server *s = x->s;
    const struct raft_ready *out = x->input->ready;
    judge_batch(x, out);
    for (size_t i = 0; i < out->n_messages; i++) judge_message(x, &out->messages[i]);
    judge_debts(x);
    relation_judge_reads(x, out);
    x->next_free = s->leftover;
    s->leftover = false;
    for (size_t i = 0; i < s->n_peers; i++) s->peers[i].welcome = 0;
    if (out->commit != MIN(s->commit, s->stable) || out->commit < s->ready_commit) {
        wrong(x, "3.5", "entries up to %" PRIu64 " may be applied; up to %" PRIu64 " they are committed, up to %" PRIu64
              " on disk", out->commit, s->commit, s->stable);
    }
    s->ready_commit = out->commit;
}

/* ---- the start, and the end of a step ---- */

/* A server comes back as a follower, with what its disk holds and nothing else (3.8). */
static void on_start(struct step *x)
{
    const struct raft_config *config = x->input->config;
    const struct raft_initial *initial = x->input->initial;
    struct server *s = x->s;
    raft_index applied = MAX(initial->applied, initial->snapshot);
    server_free(s);
    *s = (struct server){
        .id = config->id,
        .election_timeout_us = config->election_timeout_us, .heartbeat_us = config->heartbeat_us,
        .lease = config->lease, .drift_us = config->clock_drift_us,
        .term = initial->term, .durable_term = initial->term, .handed_term = initial->term,
        .vote = initial->vote, .durable_vote = initial->vote, .handed_vote = initial->vote,
        .last = initial->last, .stable = initial->last, .handed_last = initial->last,
        .commit = applied, .ready_commit = applied, .applied = applied, .snapshot = initial->snapshot,
        .role = RAFT_FOLLOWER, .withheld = config->withhold,
    };
    x->kept = s->last;
    /* Of the entry before a log the term has to be known: it is the snapshot's last, or the log's first serves as
     * such. */
    bool older = initial->n_runs > 0 && initial->runs[0].start <= initial->snapshot;
    s->compacted = older ? initial->runs[0].start : initial->snapshot;
    relation_conf_first(x, initial->snapshot, &initial->conf);
    for (size_t i = 0; i < initial->n_confs; i++) {
        relation_conf_add(s, initial->confs[i].index, &initial->confs[i].conf);
    }
    relation_adopt(x);
    if (initial->snapshot_term > s->term) enter_term(s, initial->snapshot_term, 0);
    /* It may have promised something in its last life. */
    if (config->lease && initial->term > 0) s->promised_us = x->input->now + s->election_timeout_us;
    x->timer_reset = true;
}

static const char *role_of(enum raft_role role, bool asking)
{
    if (role == RAFT_LEADER) return "leader";
    return role == RAFT_FOLLOWER ? "follower" : asking ? "pre-candidate" : "candidate";
}

static void same_number(const struct step *x, const char *section, const char *what, uint64_t is, uint64_t ought)
{
    if (is == ought) return;
    wrong(x, section, "%s is %" PRIu64 "; by the rules it is %" PRIu64, what, is, ought);
}

/* A leader counts only on what each follower has confirmed, and sends from there on (figure 3.1). */
static void same_peers(struct step *x)
{
    struct server *s = x->s;
    for (size_t i = 0; i < x->after->n_peers; i++) {
        const struct sim_peer *is = &x->after->peers[i];
        struct peer *p = relation_peer(s, is->id);
        if (p == NULL || !p->member) {
            wrong(x, "4.1", "it leads %" PRIu64 ", which is no member", is->id);
            return;
        }
        same_number(x, "3.5", "what it counts on of a peer", is->match, p->match);
        if (x->next_free || p->next_free) p->next = is->next;
        p->next_free = false;
        same_number(x, "3.5", "what it sends next to a peer", is->next, p->next);
        if (is->next <= is->match || is->next > s->last + 1) {
            wrong(x, "3.5", "it sends %" PRIu64 " entries from %" PRIu64 " on, which has %" PRIu64 " of %" PRIu64,
                  is->id, is->next, is->match, s->last);
        }
    }
}

/* An election timeout begins when a leader is heard of, a vote given, an election begun, and at no other time (3.4). */
static void same_timer(struct step *x)
{
    struct server *s = x->s;
    uint64_t is = x->after->deadline_us, first = x->input->now + s->election_timeout_us;
    if (s->role == RAFT_LEADER) return;
    if (!x->timer_reset) {
        same_number(x, "3.4", "the end of its election timeout", is, s->deadline_us);
        return;
    }
    uint64_t longest = s->election_timeout_us * (x->input->type == RAFT_INPUT_STEP_DOWN ? 3 : 1);
    if (is < first || is >= first + longest) {
        wrong(x, "3.4", "its election timeout ends in %" PRId64 " us", (int64_t)(is - x->input->now));
    }
    s->deadline_us = is;
}

static void same_state(struct step *x)
{
    struct server *s = x->s;
    const struct sim_core *a = x->after;
    same_number(x, "3.3", "its term", a->term, s->term);
    same_number(x, "3.4", "its vote", a->vote, s->vote);
    if (a->role != s->role || a->asking != s->asking) {
        wrong(x, "3.4", "it is a %s; by the rules it is a %s", role_of(a->role, a->asking),
              role_of(s->role, s->asking));
    }
    same_number(x, "3.4", "its leader", a->leader, s->leader);
    same_log(x);
    same_number(x, "3.8", "its durable term", a->durable_term, s->durable_term);
    same_number(x, "3.8", "its durable index", a->stable, s->stable);
    same_number(x, "3.5", "its commit index", a->commit, s->commit);
    same_number(x, "3.5", "its applied index", a->applied, s->applied);
    if (s->role != RAFT_LEADER) relation_on_commit(x);
    relation_same_members(x);
    same_number(x, "4.2.3", "whether it was removed", a->removed, s->removed);
    same_number(x, "3.10", "whom it hands over to", a->transfer, s->transfer);
    if (s->role == RAFT_LEADER) same_peers(x);
    same_timer(x);
}

void sim_relation_step(struct sim_relation *r, int node, const struct raft_input *input, const struct sim_core *after)
{
    static void (*const rules[])(struct step *) = {
        [RAFT_INPUT_START] = on_start,       [RAFT_INPUT_TICK] = on_tick,
        [RAFT_INPUT_STEP] = on_message,      [RAFT_INPUT_PROPOSE] = on_propose,
        [RAFT_INPUT_PERSISTED] = on_persisted, [RAFT_INPUT_APPLIED] = on_applied,
        [RAFT_INPUT_UNREACHABLE] = on_unreachable, [RAFT_INPUT_RANGE_SENT] = on_resend,
        [RAFT_INPUT_CAMPAIGN] = on_campaign, [RAFT_INPUT_STEP_DOWN] = on_step_down,
        [RAFT_INPUT_READY] = on_ready,       [RAFT_INPUT_SNAPSHOT_TAKEN] = on_snapshot_taken,
        [RAFT_INPUT_COMPACT] = on_compact,   [RAFT_INPUT_SNAPSHOT_SENT] = on_resend,
        [RAFT_INPUT_CHANGE] = on_change,    [RAFT_INPUT_PEER_LOST] = on_peer_lost,
        [RAFT_INPUT_TRANSFER] = relation_on_transfer, [RAFT_INPUT_LEADER_LOST] = on_leader_lost,
        [RAFT_INPUT_READ] = relation_on_read, [RAFT_INPUT_WITHHOLD] = on_withhold,
        [RAFT_INPUT_AWAIT_COMMIT] = on_await_commit,
    };
    ASSERT(node >= 1 && node <= r->nodes);
    struct server *s = &r->servers[node];
    struct step x = {.check = r->check, .node = node, .s = s, .input = input, .after = after, .kept = s->last};
    if (sim_check_failure(r->check) != NULL || (s->corrupt && input->type != RAFT_INPUT_START)) return;
    s->corrupt = input->result == ERR_CORRUPT || after->corrupt;
    if (s->corrupt) return;
    if (input->result == OK) rules[input->type](&x);
    else relation_on_refused(&x);
    if (input->type == RAFT_INPUT_READY && input->result != OK) s->leftover = x.next_free = true;
    same_state(&x);
}
