#include "sim/sim_journal.h"

#include "base/hash.h"
#include "base/mem.h"
#include "sim/sim_faults.h"
#include "sim/sim_queue.h"

#define CHEAP_BYTES 512u /* of a digest that is taken after every command; twice as many: after every second one */

/* Where bytes stand in the journal's buffer. */
struct span {
    size_t at, size;
};

struct line {
    uint64_t time_us, session, epoch, sequence;
    struct span command, result, digest;
    uint64_t result_hash, digest_hash;
    int result_node, digest_node; /* the first; 0: none yet */
    bool known, raised;
};

struct sim_journal {
    struct line *lines; /* index i at i - 1 */
    size_t n_lines, capacity;
    struct buf bytes;
    raft_index closely_from, next_digest;
    raft_index applied[SIM_NODES_MAX + 1], equal[SIM_NODES_MAX + 1]; /* of a node in its present life */
    uint64_t hash;
    struct sim_divergence divergence; /* index 0: none; values are not set */
    struct span first;                /* what the first node said */
    struct buf differing;             /* what the second one said */
};

struct sim_journal *sim_journal_new(raft_index closely_from)
{
    struct sim_journal *j = sim_alloc(sizeof(*j));
    j->closely_from = closely_from;
    return j;
}

void sim_journal_free(struct sim_journal *j)
{
    if (j == NULL) return;
    buf_free(&j->bytes);
    buf_free(&j->differing);
    mem_free(j->lines);
    mem_free(j);
}

static struct span keep(struct sim_journal *j, struct sim_bytes bytes)
{
    struct span span = {j->bytes.size, bytes.size};
    sim_buf_append(&j->bytes, bytes.data, bytes.size);
    return span;
}

static struct sim_bytes kept(const struct sim_journal *j, struct span span)
{
    if (span.size == 0) return (struct sim_bytes){0};
    return (struct sim_bytes){j->bytes.data + span.at, span.size};
}

static struct line *line_at(const struct sim_journal *j, raft_index index)
{
    ASSERT(index >= 1 && index <= j->n_lines && j->lines[index - 1].known);
    return &j->lines[index - 1];
}

static void fold(struct sim_journal *j, uint64_t value)
{
    j->hash = hash64(&value, sizeof(value), j->hash);
}

void sim_journal_apply(struct sim_journal *j, const struct entry *command, uint64_t time_us)
{
    if (command->index > j->n_lines) {
        void *lines = j->lines;
        sim_grow(&lines, &j->capacity, command->index, sizeof(*j->lines));
        j->lines = lines;
        memset(j->lines + j->n_lines, 0, (command->index - j->n_lines) * sizeof(*j->lines));
        j->n_lines = command->index;
    }
    struct line *line = &j->lines[command->index - 1];
    if (line->known) return;
    *line = (struct line){.time_us = time_us, .session = command->session, .epoch = command->epoch,
                          .sequence = command->sequence, .known = true};
    line->command = keep(j, (struct sim_bytes){command->payload, command->payload_size});
}

/* Two nodes part: they said this and that. Only the first divergence counts. */
static void part(struct sim_journal *j, struct sim_divergence divergence, struct span first, struct sim_bytes second)
{
    if (j->divergence.index != 0) return;
    j->divergence = divergence;
    j->divergence.equal = j->equal[divergence.nodes[1]];
    j->first = first;
    sim_buf_append(&j->differing, second.data, second.size);
}

void sim_journal_result(struct sim_journal *j, int node, raft_index index, struct sim_bytes result, bool raised)
{
    struct line *line = line_at(j, index);
    uint64_t hash = raised ? 1 : hash64(result.data, result.size, 0);
    fold(j, hash);
    if (index <= j->applied[node]) j->equal[node] = 0; /* a new life, from the beginning */
    j->applied[node] = index;
    if (line->result_node == 0) {
        line->result_node = node;
        line->result_hash = hash;
        line->raised = raised;
        line->result = keep(j, result);
    } else if (line->result_hash != hash || line->raised != raised) {
        struct sim_divergence d = {.index = index, .nodes = {line->result_node, node},
                                   .raised = {line->raised, raised}};
        part(j, d, line->result, result);
    }
}

bool sim_journal_wants_digest(const struct sim_journal *j, raft_index index)
{
    bool closely = j->closely_from > 0 && index >= j->closely_from;
    return closely || line_at(j, index)->digest_node != 0 || index >= j->next_digest;
}

void sim_journal_digest(struct sim_journal *j, int node, raft_index index, struct sim_bytes digest)
{
    struct line *line = line_at(j, index);
    uint64_t hash = hash64(digest.data, digest.size, 0);
    fold(j, hash);
    if (line->digest_node == 0) {
        line->digest_node = node;
        line->digest_hash = hash;
        if (j->closely_from > 0 && index >= j->closely_from) line->digest = keep(j, digest);
        j->next_digest = MAX(j->next_digest, index + 1 + digest.size / CHEAP_BYTES);
        j->equal[node] = index;
    } else if (line->digest_hash == hash) {
        j->equal[node] = index;
    } else {
        struct sim_bytes other = line->digest.size > 0 ? digest : (struct sim_bytes){0};
        struct sim_divergence d = {.index = index, .digest = true, .nodes = {line->digest_node, node},
                                   .hashes = {line->digest_hash, hash}};
        part(j, d, line->digest, other);
    }
}

bool sim_journal_divergence(const struct sim_journal *j, struct sim_divergence *out)
{
    *out = j->divergence;
    out->values[0] = kept(j, j->first);
    out->values[1] = (struct sim_bytes){j->differing.data, j->differing.size};
    return out->index != 0;
}

raft_index sim_journal_last(const struct sim_journal *j)
{
    return j->n_lines;
}

bool sim_journal_at(const struct sim_journal *j, raft_index index, struct sim_applied *out)
{
    if (index < 1 || index > j->n_lines || !j->lines[index - 1].known) return false;
    const struct line *line = &j->lines[index - 1];
    *out = (struct sim_applied){
        .index = index, .time_us = line->time_us, .session = line->session, .epoch = line->epoch,
        .sequence = line->sequence, .command = kept(j, line->command), .result = kept(j, line->result),
        .raised = line->raised, .node = line->result_node,
    };
    return true;
}

uint64_t sim_journal_hash(const struct sim_journal *j)
{
    return j->hash;
}
