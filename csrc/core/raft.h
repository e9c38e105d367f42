/* The door of the consensus core (Raft: Ongaro, "Consensus: Bridging Theory and Practice", 2014).
 *
 * Pure: no I/O, no clock, no hidden randomness, no callbacks, no globals. Each input is a function and carries the
 * monotonic time `now` (us); output is one numbered batch (raft_ready) of what to persist, send and apply. The same
 * inputs give the same outputs. The contract with the caller:
 *
 *  1. One storage mode, the asynchronous one: raft_persisted(seq) acknowledges batches in order, at any later time.
 *  2. Every message handed out may be sent at once, lost, doubled or reordered. What a message promises is durable
 *     before the core hands it out, and no message leaves whose term is above the durable term (pre-votes and their
 *     replies are exempt: their term is hypothetical).
 *  3. Entries are handed out as committed only when they are durable here.
 *  4. The core knows terms, types and sizes of entries; blocks it only keeps, in a window of bounded bytes
 *     (cache_bytes). Entries older than the window are named by index alone; the caller reads them from its store.
 *  5. A call that returns ERR_NOMEM changed nothing. A contradiction (a conflict below the commit index, a commit
 *     index beyond the log) makes the core refuse every later input with ERR_CORRUPT: it never aborts on input.
 */
#ifndef RAFT_CORE_RAFT_H
#define RAFT_CORE_RAFT_H

#include "core/types.h"

#pragma GCC visibility push(hidden)

struct raft;

struct raft_config {
    raft_id id;                    /* this member, > 0 */
    uint64_t seed;                 /* of the randomised election timeouts */
    uint64_t election_timeout_us;  /* T: elections start after a random T .. 2T without a leader; > 2 heartbeats */
    uint64_t heartbeat_us;         /* > 0 */
    uint32_t append_bytes;         /* most bytes of entries in one message or one batch to persist (but always at
                                      least one entry) */
    uint32_t window_bytes;         /* most bytes of entries on the way to one follower */
    uint32_t uncommitted_bytes;    /* most bytes of entries of this leader's term that are not committed yet */
    uint32_t cache_bytes;          /* most bytes of entries kept in memory, but for those not durable or not
                                      committed yet */
    const struct raft_tap *tap;    /* who watches; NULL = nobody. Outlives the core */
};

/* A run of entries of one term: from start to the next run's start - 1. */
struct raft_run {
    raft_index start;
    raft_term term;
};

/* What was durable when this node last stopped. Arrays are read during raft_new only. */
struct raft_initial {
    raft_term term;
    raft_id vote;               /* in that term */
    raft_index last;            /* last index in the log, 0 = empty */
    const struct raft_run *runs; /* terms of entries 1 .. last: ascending starts from 1, ascending terms */
    size_t n_runs;
    raft_index applied;         /* known to be applied, hence committed; <= last */
    struct raft_conf conf;      /* the first configuration */
};

/* ERR_INVALID: a config or initial that contradicts itself (its text says what); ERR_NOMEM. On success the caller owns
 * *out until raft_free. The node starts as a follower. */
int raft_new(struct raft **out, const struct raft_config *config, const struct raft_initial *initial, uint64_t now,
             struct err *e);
void raft_free(struct raft *r); /* NULL is allowed; drops the references to blocks */

/* ---- inputs ---- */

/* Time has passed. Call at raft_deadline() or soon after; calling earlier is harmless. OK, ERR_NOMEM, ERR_CORRUPT. */
int raft_tick(struct raft *r, uint64_t now);
/* When raft_tick next has something to do; NEVER_US when never. */
uint64_t raft_deadline(const struct raft *r);

/* A message from a peer. Messages of strangers, of wrong shape or to another id are refused with ERR_INVALID and
 * change nothing. Entries that the core keeps get a reference; the caller drops its own afterwards, whatever the
 * result. OK also for what is out of date and ignored. ERR_NOMEM, ERR_CORRUPT. */
int raft_step(struct raft *r, const struct raft_message *m, uint64_t now);

/* Leader: appends n entries (term is filled in by the core) at *first .. *first + n - 1 in *term, all or none. Takes
 * references as raft_step. The caller may still stamp the blocks before the next raft_ready.
 * ERR_NOT_LEADER; ERR_BUSY: uncommitted_bytes would be exceeded; ERR_NOMEM; ERR_CORRUPT. */
int raft_propose(struct raft *r, struct raft_entry *entries, size_t n, raft_index *first, raft_term *term);

/* The batch with this seq and all before it are durable. seq: handed out and not acknowledged before. */
int raft_persisted(struct raft *r, uint64_t seq, uint64_t now);
/* Entries up to index (handed out as committed) are applied; never falls. */
void raft_applied(struct raft *r, raft_index index);
/* Nothing more can be sent to this peer (its link went down): what was on the way is taken as lost. */
void raft_unreachable(struct raft *r, raft_id peer);
/* A message about entries older than the window, of which `named` was the last, has been sent only now, and with
 * entries only up to `last` (reading them took its time, and may have given less). */
void raft_range_sent(struct raft *r, raft_id peer, raft_index named, raft_index last, uint64_t now);
/* Starts an election now, without waiting for a timeout, but through pre-vote. Ignored by leaders and non-voters. */
int raft_campaign(struct raft *r, uint64_t now);
/* Leader: becomes a follower without a leader, in the same term, and does not campaign for 2T (its disk or its host
 * stalls: another one shall lead). Others: no effect. */
void raft_step_down(struct raft *r, uint64_t now);

/* ---- output ---- */

/* One batch. messages are borrowed from the core until the next raft_ready. */
struct raft_ready {
    uint64_t seq;             /* acknowledge with raft_persisted; 0 = nothing to persist */
    bool vote_changed;        /* term and vote are to be persisted, in the same batch, before the entries */
    raft_term term;           /* current */
    raft_id vote;             /* current */
    raft_index truncate_from; /* stored entries from here on are void; 0 = none */
    raft_index first, last;   /* entries to persist (raft_entry_at has them all), at most append_bytes, but at least
                                 one; first > last = none */
    const struct raft_message *messages; /* send now, in this order; APPENDs without their entries */
    size_t n_messages;
    raft_index commit;        /* entries up to here may be applied: committed, and durable here; never falls */
};

/* Is there anything new to hand out? */
bool raft_has_ready(const struct raft *r);
/* Gathers what all inputs since the last call gave. ERR_NOMEM: try again later, nothing is lost. ERR_CORRUPT. */
int raft_ready(struct raft *r, uint64_t now, struct raft_ready *out);

/* ---- looking in ---- */

/* The entry in the window, borrowed until the next input; NULL when it is older than the window (or beyond last). */
const struct raft_entry *raft_entry_at(const struct raft *r, raft_index index);
/* Gives the empty entry that the core appended at its election its encoded block (the core cannot encode). Takes a
 * reference. Precondition: raft_entry_at(index)->block is NULL; to be done before the batch that holds it is stored. */
void raft_attach(struct raft *r, raft_index index, struct block *block);
/* Term of an entry (0 for index 0); false when index is beyond the log. */
bool raft_term_at(const struct raft *r, raft_index index, raft_term *term);

struct raft_status {
    raft_id id, leader, vote; /* leader: 0 = none known */
    enum raft_role role;
    raft_term term;
    raft_term durable_term;
    raft_index last, commit, stable, applied; /* stable: durable here */
    raft_index window;        /* first index in the window; last + 1 when empty */
    uint64_t window_bytes;    /* of entries in the window */
    uint64_t uncommitted_bytes;
    uint64_t leader_contact_us; /* when the leader was last heard of; 0 = never in this term */
    uint64_t elections;       /* that this node started */
    bool prevoting;           /* candidate that only asks so far whether it would win (dissertation 9.6) */
    bool ready;               /* leader that has committed an entry of its own term */
    bool corrupt;
};
void raft_status_get(const struct raft *r, struct raft_status *out);

/* How far a peer is, on the leader. false: not the leader, or not a member. */
struct raft_peer_status {
    const char *state;        /* "probe" "replicate" */
    raft_index match, next;
    uint64_t inflight_bytes;
    uint64_t contact_us;      /* last message from it in this term; 0 = never */
    uint64_t rtt_us;          /* of the last heartbeat; 0 = not known */
};
bool raft_peer_status_get(const struct raft *r, raft_id peer, struct raft_peer_status *out);

/* ---- being watched ---- */

/* The functions that change the state, raft_new first. */
enum raft_input_type {
    RAFT_INPUT_START = 1,
    RAFT_INPUT_TICK,
    RAFT_INPUT_STEP,
    RAFT_INPUT_PROPOSE,
    RAFT_INPUT_PERSISTED,
    RAFT_INPUT_APPLIED,
    RAFT_INPUT_UNREACHABLE,
    RAFT_INPUT_RANGE_SENT,
    RAFT_INPUT_CAMPAIGN,
    RAFT_INPUT_STEP_DOWN,
    RAFT_INPUT_READY,
};

/* One call of them: its arguments, and what it returned. */
struct raft_input {
    enum raft_input_type type;
    int result;                         /* OK where the function returns nothing */
    uint64_t now;                       /* where the function takes it */
    const struct raft_config *config;   /* START */
    const struct raft_initial *initial; /* START */
    const struct raft_message *message; /* STEP */
    size_t n;                           /* PROPOSE: entries */
    uint64_t seq;                       /* PERSISTED */
    raft_index index;                   /* APPLIED; RANGE_SENT: last */
    raft_id peer;                       /* UNREACHABLE, RANGE_SENT */
    const struct raft_ready *ready;     /* READY: the output, if the result is OK */
};

/* Watches a core: step() is called at the end of every function that changes the state, when the change is done (of
 * raft_new: before it returns). It may look in, and must not call what changes the state. This is how the simulator and
 * specs judge each step that the core takes. */
struct raft_tap {
    void *ctx;
    void (*step)(void *ctx, const struct raft *r, const struct raft_input *input);
};

#pragma GCC visibility pop

#endif
