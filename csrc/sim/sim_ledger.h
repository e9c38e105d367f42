/* What a log was told and what it has acknowledged, and hence what a recovery of it may find: every acknowledged
 * append, then perhaps some of those after it, in order, the last of them up to some entry - and nothing else. */
#ifndef RAFT_SIM_SIM_LEDGER_H
#define RAFT_SIM_SIM_LEDGER_H

#include "store/store.h"

#pragma GCC visibility push(hidden)

#define LEDGER_PEERS 4u /* nodes 1 .. LEDGER_PEERS may be remembered */

struct ledger_state {
    raft_term term;
    raft_id vote;
    raft_index last;
    struct block **blocks; /* of entry i at i - 1; released ones too */
    size_t capacity;
};

struct ledger_part; /* the beginning of an append, or one entry of it */

struct ledger {
    struct ledger_state base;   /* acknowledged */
    struct ledger_state before; /* the same without the append that was acknowledged last */
    struct ledger_state found;  /* what the last check has found */
    struct ledger_part *parts;  /* not acknowledged, in order */
    size_t n_parts, parts_capacity, n_found; /* n_found: of them are in what was found */
    raft_index released;        /* entries up to here may be gone */
    uint64_t incarnation;       /* of the directory; 0: nobody was told yet that it exists */
    uint64_t life;              /* the newest epoch that was told */
    struct {
        uint64_t known, wanted; /* acknowledged; asked for */
    } peers[LEDGER_PEERS];
};

void ledger_free(struct ledger *l);
/* An append was queued. References its blocks. */
void ledger_append(struct ledger *l, const struct store_batch *b);
/* Appends up to seq are acknowledged. */
void ledger_acknowledge(struct ledger *l, uint64_t seq);
/* Everything is acknowledged: what a recovery has told is. */
void ledger_adopt(struct ledger *l, const struct store_recovered *r);

/* Checks what a recovery has found: r, the entries r->first .. r->last, the peers that s knows. NULL: it is allowed,
 * and l->found is it; else what is wrong. */
const char *ledger_check(struct ledger *l, const struct store_recovered *r, struct block *const *entries,
                         const struct store *s);
/* Is this state what a recovery has found? */
bool ledger_equal(const struct ledger_state *state, const struct store_recovered *r, struct block *const *entries);
/* Copies a state; the blocks are referenced. */
void ledger_state_copy(struct ledger_state *to, const struct ledger_state *from);
void ledger_state_free(struct ledger_state *state);
/* Adds what a batch says. */
void ledger_state_apply(struct ledger_state *state, const struct store_batch *b);

#pragma GCC visibility pop

#endif
