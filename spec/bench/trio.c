/* The consensus core alone: three of them stepped in one thread, with no disk, no network and no clock. Messages are
 * handed over at once, every batch counts as durable at once, every entry as applied.
 *
 *   trio ENTRIES BATCH CACHE_MIB   proposes so many entries, BATCH at a time; prints entries a second of CPU
 *
 * Each core keeps CACHE_MIB of entries in memory, and is measured once it has so many.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/raft.h"

#define NODES 3
#define SIZE 128u           /* of an entry, as windows count it */
#define BATCH_MAX 4096
#define STEP_US 10          /* of simulated time a round: heartbeats are rare, as they are under load */

static struct raft *nodes[NODES];
static struct block *payload; /* shared by all entries: allocating them is not the core's work */
static uint64_t now_us = 1000000;
static raft_index applied;

static void check(int rv, const char *what)
{
    if (rv == OK) return;
    fprintf(stderr, "trio: %s: %s\n", what, err_name(rv));
    exit(1);
}

/* A message with its entries, which the receiving core takes references of. All are of the one leader's term. */
static void deliver(struct raft *from, const struct raft_message *m)
{
    static struct raft_entry entries[BATCH_MAX * 4];
    struct raft_message copy = *m;
    for (uint32_t i = 0; i < m->n_entries; i++) {
        const struct raft_cached *e = raft_entry_at(from, m->index + 1 + i);
        if (e == NULL || i == sizeof entries / sizeof *entries) check(ERR_CORRUPT, "an entry that is not in the window");
        entries[i] = (struct raft_entry){.term = m->term, .block = e->block, .size = e->size, .type = e->type};
    }
    copy.entries = entries;
    check(raft_step(nodes[m->to - 1], &copy, now_us), "raft_step");
}

static void attach_blocks(struct raft *r, raft_index first, raft_index last)
{
    for (raft_index i = first; i <= last; i++) {
        if (raft_entry_at(r, i)->block == NULL) raft_attach(r, i, payload);
    }
}

/* Takes what one core has to say; false: nothing. */
static bool turn(struct raft *r)
{
    if (!raft_has_ready(r)) return false;
    struct raft_ready ready;
    check(raft_ready(r, now_us, &ready), "raft_ready");
    attach_blocks(r, ready.first, ready.last);
    for (size_t i = 0; i < ready.n_messages; i++) deliver(r, &ready.messages[i]);
    raft_index commit = ready.commit;
    if (ready.seq != 0) check(raft_persisted(r, ready.seq, now_us), "raft_persisted");
    raft_applied(r, commit);
    if (r == nodes[0]) applied = commit;
    return true;
}

static void settle(void)
{
    bool any = true;
    while (any) {
        any = false;
        for (int i = 0; i < NODES; i++) any = turn(nodes[i]) || any;
    }
}

static void start(size_t cache_mib)
{
    struct raft_initial initial = {.conf = {.voters = {1, 2, 3}, .n_voters = NODES}};
    for (int i = 0; i < NODES; i++) {
        struct raft_config config = {.id = (raft_id)i + 1, .seed = (uint64_t)i + 1, .election_timeout_us = 1000000,
                                     .heartbeat_us = 100000, .append_bytes = 1u << 20, .window_bytes = 16u << 20,
                                     .uncommitted_bytes = 64u << 20, .cache_bytes = (uint32_t)(cache_mib << 20)};
        struct err e;
        check(raft_new(&nodes[i], &config, &initial, now_us, &e), "raft_new");
    }
    check(raft_campaign(nodes[0], now_us), "raft_campaign");
    settle();
}

static void propose(size_t n)
{
    static struct raft_entry entries[BATCH_MAX];
    for (size_t i = 0; i < n; i++)
        entries[i] = (struct raft_entry){.block = payload, .size = SIZE, .type = RAFT_ENTRY_COMMAND};
    raft_index first;
    raft_term term;
    check(raft_propose(nodes[0], entries, n, &first, &term), "raft_propose");
}

/* CPU seconds of this thread: it waits for nothing, so a busy machine does not count. */
static double cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void propose_all(size_t total, size_t batch)
{
    raft_index before = applied;
    for (size_t done = 0; done < total; done += batch) {
        propose(batch < total - done ? batch : total - done);
        now_us += STEP_US;
        settle();
    }
    if (applied != before + total) check(ERR_CORRUPT, "not every entry was committed");
}

int main(int argc, char **argv)
{
    size_t words[3] = {0};
    for (int i = 1; i < argc && i <= 3; i++) words[i - 1] = strtoul(argv[i], NULL, 10);
    size_t total = words[0], batch = words[1], cache_mib = words[2];
    if (argc != 4 || total == 0 || batch == 0 || batch > BATCH_MAX || cache_mib == 0 || cache_mib > 1024) {
        fprintf(stderr, "usage: trio ENTRIES BATCH CACHE_MIB (at most %d a batch)\n", BATCH_MAX);
        return 2;
    }
    payload = block_new(SIZE);
    if (payload == NULL) check(ERR_NOMEM, "block_new");
    memset(payload->bytes, 0, SIZE);
    start(cache_mib);
    propose_all((cache_mib << 20) / SIZE, BATCH_MAX);
    double from = cpu_now();
    propose_all(total, batch);
    double took = cpu_now() - from;
    printf("entries=%zu batch=%zu cpu_seconds=%.6f per_second=%.0f\n", total, batch, took, (double)total / took);
    for (int i = 0; i < NODES; i++) raft_free(nodes[i]);
    block_unref(payload);
    return 0;
}
