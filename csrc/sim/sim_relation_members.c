/* Changes of members (4), and leadership handed over (3.10). */
#include "base/mem.h"
#include "sim/sim_queue.h"
#include "sim/sim_relation_state.h"

/* ---- lists of ids, sorted ---- */

static bool same_list(const raft_id *a, size_t n_a, const raft_id *b, size_t n_b)
{
    return n_a == n_b && memcmp(a, b, n_a * sizeof *a) == 0;
}

static bool is_learner(const struct raft_conf *conf, raft_id id)
{
    return sim_ids_have(conf->learners, conf->n_learners, id);
}

bool relation_is_voter(const struct raft_conf *conf, raft_id id)
{
    return sim_ids_have(conf->voters, conf->n_voters, id) || sim_ids_have(conf->outgoing, conf->n_outgoing, id);
}

/* ---- the configurations in a log (4.1) ---- */

const struct raft_conf *relation_conf(const struct server *s)
{
    return &s->confs[s->n_confs - 1].conf;
}

void relation_conf_add(struct server *s, raft_index index, const struct raft_conf *conf)
{
    void *confs = s->confs;
    sim_grow(&confs, &s->confs_capacity, s->n_confs + 1, sizeof *s->confs);
    s->confs = confs;
    s->confs[s->n_confs++] = (struct raft_conf_at){.index = index, .conf = *conf};
}

void relation_conf_cut(struct server *s, raft_index kept)
{
    while (s->n_confs > 1 && s->confs[s->n_confs - 1].index > kept) s->n_confs--;
}

void relation_conf_first(struct step *x, raft_index index, const struct raft_conf *conf)
{
    x->s->n_confs = 0;
    relation_conf_add(x->s, index, conf);
}

bool relation_may_campaign(const struct server *s)
{
    for (size_t i = 0; i < s->n_confs && !s->removed && !s->withheld; i++) {
        if (relation_is_voter(&s->confs[i].conf, s->id)) return true;
    }
    return false;
}

/* Nothing is known of a new one's log. What the leader counts on of one that leaves it may have told before. */
static void judge_membership(struct step *x, struct peer *p)
{
    const struct server *s = x->s;
    bool member = sim_conf_has(relation_conf(s), p->id);
    if (member && !p->member) {
        p->told = MAX(p->told, p->match);
        p->match = 0;
        p->next = s->last + 1;
        p->goal = s->last;
        p->next_free = true;
        p->contact_us = x->input->now;
        p->answered_us = 0;
        p->granted = p->refused = false;
    }
    p->member = member;
}

static void know_all(struct server *s, const raft_id *ids, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] != s->id) relation_know(s, ids[i]);
    }
}

void relation_adopt(struct step *x)
{
    struct server *s = x->s;
    const struct raft_conf *conf = relation_conf(s);
    know_all(s, conf->voters, conf->n_voters);
    know_all(s, conf->outgoing, conf->n_outgoing);
    know_all(s, conf->learners, conf->n_learners);
    for (size_t i = 0; i < s->n_peers; i++) judge_membership(x, &s->peers[i]);
    s->adopted_us = x->input->now;
    if (s->transfer != 0 && !relation_is_voter(conf, s->transfer)) s->transfer = 0; /* it cannot lead any more */
}

/* ---- changes (4.3) ---- */

static bool is_open(const struct server *s)
{
    const struct raft_conf_at *latest = &s->confs[s->n_confs - 1];
    return latest->index > s->commit || latest->conf.n_outgoing > 0;
}

/* Without that, two leaders could count by configurations that have no majority in common. */
static bool has_committed(const struct step *x)
{
    return term_at(x, x->s->commit) == x->s->term;
}

static void put(raft_id *ids, uint8_t *n, raft_id id)
{
    uint8_t at = 0;
    if (*n >= RAFT_MEMBERS_MAX) return;
    while (at < *n && ids[at] < id) at++;
    memmove(&ids[at + 1], &ids[at], (*n - at) * sizeof id);
    ids[at] = id;
    (*n)++;
}

static void take(raft_id *ids, uint8_t *n, raft_id id)
{
    uint8_t kept = 0;
    for (uint8_t i = 0; i < *n; i++) {
        if (ids[i] != id) ids[kept++] = ids[i];
    }
    *n = kept;
}

/* Who is to vote has what there was when it came, and still answers (4.2.1). */
static bool keeps_up(const struct step *x, raft_id id)
{
    const struct peer *p = relation_peer(x->s, id);
    if (id == x->s->id) return true;
    return p != NULL && p->match >= p->goal && x->input->now < p->contact_us + x->s->election_timeout_us;
}

static void change_one(const struct step *x, const struct raft_change *change, struct raft_conf *conf)
{
    const struct raft_conf *old = relation_conf(x->s);
    raft_id id = change->id;
    bool voter = sim_ids_have(old->voters, old->n_voters, id), learner = is_learner(old, id);
    if ((change->op == RAFT_ADD) == (voter || learner) || (change->op == RAFT_PROMOTE && voter) ||
        (change->op == RAFT_DEMOTE && learner)) {
        wrong(x, "4.1", "it makes a change of %" PRIu64 " that makes no sense", id);
    }
    if (change->op == RAFT_PROMOTE && !keeps_up(x, id)) {
        wrong(x, "4.2.1", "it gives %" PRIu64 " a vote before it has caught up", id);
    }
    if (change->op == RAFT_MOVE) return;
    take(conf->voters, &conf->n_voters, id);
    take(conf->learners, &conf->n_learners, id);
    if (change->op == RAFT_PROMOTE) put(conf->voters, &conf->n_voters, id);
    if (change->op == RAFT_ADD || change->op == RAFT_DEMOTE) put(conf->learners, &conf->n_learners, id);
}

/* Of voters only one may change without a joint configuration (4.1, 4.3). */
static struct raft_conf changed(const struct step *x)
{
    const struct raft_conf *old = relation_conf(x->s);
    struct raft_conf conf = *old;
    size_t common = 0;
    for (size_t i = 0; i < x->input->n; i++) change_one(x, &x->input->changes[i], &conf);
    for (uint8_t i = 0; i < conf.n_voters; i++) common += sim_ids_have(old->voters, old->n_voters, conf.voters[i]);
    if (conf.n_voters == 0) wrong(x, "4.1", "nobody is left to vote");
    if (conf.n_voters + old->n_voters - 2 * common > 1) {
        memcpy(conf.outgoing, old->voters, sizeof conf.outgoing);
        conf.n_outgoing = old->n_voters;
    }
    return conf;
}

static void append(struct step *x, const struct raft_conf *conf)
{
    relation_append(x);
    relation_conf_add(x->s, x->s->last, conf);
    relation_adopt(x);
}

void relation_on_change(struct step *x)
{
    struct server *s = x->s;
    if (s->role != RAFT_LEADER) wrong(x, "4.1", "it changes the members without being the leader");
    else if (s->transfer != 0) wrong(x, "3.10", "it changes the members while it hands over");
    else if (!has_committed(x)) wrong(x, "4.1", "it changes the members before it has committed anything");
    else if (is_open(s)) wrong(x, "4.1", "it changes the members while another change is open");
    else if (x->input->index != s->last + 1) wrong(x, "4.1", "the change is not where it was told to be");
    if (sim_check_failure(x->check) != NULL) return;
    struct raft_conf conf = changed(x);
    append(x, &conf);
}

/* A joint configuration that is committed is left at once (4.3); a leader that votes no more steps down when that is
 * committed (4.2.2). */
void relation_on_commit(struct step *x)
{
    struct server *s = x->s;
    size_t old = 0;
    while (old + 1 < s->n_confs && s->confs[old + 1].index <= s->commit) old++;
    s->n_confs -= old;
    if (old > 0) memmove(s->confs, s->confs + old, s->n_confs * sizeof *s->confs);
    if (s->role != RAFT_LEADER || s->n_confs > 1 || s->confs->index > s->commit) return;
    struct raft_conf conf = s->confs->conf;
    if (conf.n_outgoing > 0) {
        conf.n_outgoing = 0;
        append(x, &conf);
    } else if (!relation_is_voter(&conf, s->id)) {
        s->left = s->term;
        relation_follow(x, 0);
        s->removed = !sim_conf_has(&conf, s->id);
    }
}

void relation_on_asked(const struct step *x, struct peer *p)
{
    const struct raft_conf_at *latest = &x->s->confs[x->s->n_confs - 1];
    if (latest->index <= x->s->commit && !sim_conf_has(&latest->conf, p->id)) p->without = x->s->commit;
}

/* ---- handing over (3.10) ---- */

void relation_on_transfer(struct step *x)
{
    struct server *s = x->s;
    raft_id target = x->input->peer;
    const struct raft_conf *conf = relation_conf(s);
    if (s->role != RAFT_LEADER) wrong(x, "3.10", "it hands over what it does not lead");
    if (target == s->id || !sim_ids_have(conf->voters, conf->n_voters, target)) {
        wrong(x, "3.10", "it hands over to %" PRIu64 ", which is no other voter", target);
    }
    if (s->transfer == target) return;
    if (s->transfer != 0) wrong(x, "3.10", "it hands over to two at once");
    s->transfer = target;
    s->transfer_until_us = x->input->now + s->election_timeout_us;
    s->handing = true;
}

/* The target has all entries; who leaves office names anybody that votes. */
void relation_judge_timeout_now(const struct step *x, const struct raft_message *m)
{
    const struct server *s = x->s;
    const struct peer *p = relation_peer((struct server *)s, m->to);
    bool chosen = s->role == RAFT_LEADER && m->term == s->term && s->transfer == m->to && p->match >= s->last;
    bool leaves = m->term == s->left && relation_is_voter(relation_conf(s), m->to);
    if (m->term != s->led || (!chosen && !leaves)) {
        wrong(x, "3.10", "it calls %" PRIu64 " to campaign in term %" PRIu64 ", which has entries up to %" PRIu64
              " of %" PRIu64, m->to, m->term, p->match, s->last);
    }
}

/* ---- refusals ---- */

/* What is refused is refused for a reason. */
void relation_on_refused(const struct step *x)
{
    const struct server *s = x->s;
    int code = x->input->result;
    bool asks = x->input->type == RAFT_INPUT_CHANGE || x->input->type == RAFT_INPUT_TRANSFER ||
                x->input->type == RAFT_INPUT_READ || x->input->type == RAFT_INPUT_PROPOSE;
    if (!asks) return;
    if ((code == ERR_NOT_LEADER) != (s->role != RAFT_LEADER) || (code == ERR_TRANSFERRING && s->transfer == 0) ||
        (code == ERR_CHANGING && !is_open(s)) || (code == ERR_NOT_READY && has_committed(x))) {
        wrong(x, "4.1", "it refuses without a reason: %s (%d)", err_name(code), code);
    }
}

/* ---- the end of a step ---- */

void relation_same_members(const struct step *x)
{
    const struct server *s = x->s;
    const struct raft_conf *is = x->after->conf, *ought = relation_conf(s);
    size_t members = 0;
    for (size_t i = 0; i < s->n_peers; i++) members += s->peers[i].member;
    if (x->after->conf_index != s->confs[s->n_confs - 1].index) {
        wrong(x, "4.1", "the configuration of index %" PRIu64 " governs; by the rules it is that of %" PRIu64,
              x->after->conf_index, s->confs[s->n_confs - 1].index);
    }
    if (!same_list(is->voters, is->n_voters, ought->voters, ought->n_voters) ||
        !same_list(is->outgoing, is->n_outgoing, ought->outgoing, ought->n_outgoing) ||
        !same_list(is->learners, is->n_learners, ought->learners, ought->n_learners) ||
        is->founding != ought->founding) {
        wrong(x, "4.1", "its configuration is another than that of index %" PRIu64 " by the rules",
              x->after->conf_index);
    }
    if (s->role == RAFT_LEADER && x->after->n_peers != members) {
        wrong(x, "4.1", "it leads %zu others; by its configuration there are %zu", x->after->n_peers, members);
    }
}
