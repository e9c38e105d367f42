/* Reads without entries: what they are told is what was committed when they arrived, and a quorum still took this
 * server for the leader then (6.4). */
#include "base/mem.h"
#include "sim/sim_queue.h"
#include "sim/sim_relation_state.h"

static uint64_t answered_of(const struct step *x, raft_id id)
{
    const struct peer *p = relation_peer(x->s, id);
    return p != NULL ? p->answered_us : NEVER_US;
}

/* A quorum has promised no votes for an election timeout, from when it was asked to on (6.4.1); clocks run apart. Once
 * it has begun to hand over, others may lead before that. */
static bool has_lease(const struct step *x)
{
    const struct server *s = x->s;
    uint64_t since_us = relation_quorum_reaches(x, answered_of);
    if (!s->lease || s->handing || since_us == 0) return false;
    return since_us == NEVER_US || x->input->now < since_us + s->election_timeout_us - s->drift_us;
}

/* The first index of its term is not committed yet: then it does not know what is, but has all of it (6.4, step 1). */
static raft_index least_of(const struct step *x)
{
    raft_index index = x->s->commit;
    while (index < x->s->last && term_at(x, index) != x->s->term) index++;
    return index;
}

void relation_on_read(struct step *x)
{
    struct server *s = x->s;
    if (s->role != RAFT_LEADER) wrong(x, "6.4", "it takes a read without being the leader");
    void *reads = s->reads;
    sim_grow(&reads, &s->reads_capacity, s->n_reads + 1, sizeof *s->reads);
    s->reads = reads;
    s->reads[s->n_reads++] = (struct asked){.context = x->input->context, .asked_us = x->input->now,
                                            .least = least_of(x), .leased = x->input->lease && has_lease(x)};
}

void relation_reads_fail(struct server *s)
{
    for (size_t i = 0; i < s->n_reads; i++) s->reads[i].failed = true;
}

static void judge_answer(const struct step *x, const struct asked *read, raft_index index)
{
    const struct server *s = x->s;
    if (read->failed != (index == 0)) {
        wrong(x, "6.4", index == 0 ? "it gives up a read though it leads on"
              : "it answers a read though it has lost leadership since it was asked");
        return;
    }
    if (index == 0) return;
    if (index < read->least || index > s->commit) {
        wrong(x, "6.4", "it answers a read with index %" PRIu64 "; committed then were entries up to %" PRIu64
              ", now up to %" PRIu64, index, read->least, s->commit);
    }
    if (!read->leased && !relation_quorum_has(x, answered_of, read->asked_us)) {
        wrong(x, "6.4", "it answers a read that no quorum has confirmed, nor a lease");
    }
}

void relation_judge_reads(struct step *x, const struct raft_ready *out)
{
    struct server *s = x->s;
    for (size_t i = 0; i < out->n_reads; i++) {
        size_t at = 0;
        while (at < s->n_reads && s->reads[at].context != out->reads[i].context) at++;
        if (at == s->n_reads) {
            wrong(x, "6.4", "it answers a read that nobody waits for");
            return;
        }
        judge_answer(x, &s->reads[at], out->reads[i].index);
        memmove(&s->reads[at], &s->reads[at + 1], (--s->n_reads - at) * sizeof *s->reads);
    }
    for (size_t i = 0; i < s->n_reads; i++) {
        if (s->reads[i].failed) wrong(x, "6.4", "it keeps a read waiting for a leadership that is lost");
    }
}
