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
 *  6. The latest configuration in the log governs, committed or not; truncation rolls it back (dissertation 4.1).
 *     Members may therefore change with every input: messages to and from those who are not members yet, or not any
 *     more, are part of the game.
 *  7. Clocks. `now` is a monotonic clock of this node, read after the input it comes with has arrived (a message, a
 *     read): never a value that was kept while the process could have been stopped. Leases rest on one assumption more:
 *     within one election timeout T, the clocks of two members run apart by less than clock_drift_us, and they go on
 *     while a process or its machine sleeps. Without leases nothing but liveness depends on clocks.
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
    uint32_t cache_bytes;          /* most memory for entries, each counted with CACHE_ENTRY_COST more than its size
                                      (core/cache.h); but those not durable or not committed yet always stay */
    bool lease;                    /* leases for reads (dissertation 6.4.1); the same on all members: a member with
                                      leases withholds its vote for T after a start, since it may have promised it */
    uint64_t clock_drift_us;       /* see 7 above; < T */
    int32_t priority;              /* who shall rather lead. Of members equally far, a transfer takes the one of highest
                                      priority. Above 0: this node waits T .. T + T / (1 + priority) for a leader, so it
                                      mostly is the first to campaign; below 0: 2T .. 3T */
    bool withhold;                 /* begins as after raft_withhold(true) */
    const struct raft_tap *tap;    /* who watches; NULL = nobody. Outlives the core */
};

/* A run of entries of one term: from start to the next run's start - 1. */
struct raft_run {
    raft_index start;
    raft_term term;
};

/* A configuration in the log: of the CONFIG entry at this index. */
struct raft_conf_at {
    raft_index index;
    struct raft_conf conf;
};

/* What was durable when this node last stopped. Arrays are read during raft_new only.
 *
 * With a snapshot, the log may begin anywhere up to the entry after it. Where a crash came between the storing of a
 * received snapshot and the log's being replaced, the log may contradict the snapshot or end before it: then all of the
 * log is void, and to be given here as empty. (Nothing that the
 * snapshot does not cover can be committed in such a log.) */
struct raft_initial {
    raft_term term;
    raft_id vote;               /* in that term */
    raft_index snapshot;        /* last index that the newest snapshot covers; 0 = there is none */
    raft_term snapshot_term;    /* of that index; may be above term, which it then raises */
    raft_index last;            /* last index in the log; of an empty log: snapshot */
    const struct raft_run *runs; /* terms of the log's entries: ascending starts, the first one at the log's first entry
                                    (1, without a snapshot; at most snapshot + 1), ascending terms */
    size_t n_runs;
    raft_index applied;         /* known to be applied, hence committed; <= last */
    struct raft_conf conf;      /* the configuration at `snapshot`; without one: the first configuration, founding if
                                   the cluster has to begin with it, empty on a node that is to join */
    const struct raft_conf_at *confs; /* of the CONFIG entries behind `snapshot`: ascending indexes, <= last */
    size_t n_confs;
};

/* ERR_INVALID: a config or initial that contradicts itself (its text says what); ERR_NOMEM. On success the caller owns
 * *out until raft_free. The node starts as a follower. It need not be a member: then it does not campaign. */
int raft_new(struct raft **out, const struct raft_config *config, const struct raft_initial *initial, uint64_t now,
             struct err *e);
void raft_free(struct raft *r); /* NULL is allowed; drops the references to blocks */

/* ---- inputs ---- */

/* Time has passed. Call at raft_deadline() or soon after; calling earlier is harmless. OK, ERR_NOMEM, ERR_CORRUPT. */
int raft_tick(struct raft *r, uint64_t now);
/* When raft_tick next has something to do; NEVER_US when never. */
uint64_t raft_deadline(const struct raft *r);

/* A message from a peer. Messages of wrong shape or to another id, and answers of those that are no members, are
 * refused with ERR_INVALID and change nothing. (Requests of strangers are heard: they may know a configuration that
 * is not here yet, dissertation 4.1.) Entries that the core keeps get a reference; the caller drops its own
 * afterwards, whatever the result. OK also for what is out of date and ignored. ERR_NOMEM, ERR_CORRUPT. */
int raft_step(struct raft *r, const struct raft_message *m, uint64_t now);

/* Leader: appends n entries (term is filled in by the core) at *first .. *first + n - 1 in *term, all or none. Takes
 * references as raft_step. The caller may still stamp the blocks before the next raft_ready.
 * ERR_NOT_LEADER; ERR_TRANSFERRING: it is handing over, try again at the next leader or in T; ERR_BUSY:
 * uncommitted_bytes would be exceeded; ERR_NOMEM; ERR_CORRUPT. Precondition: no CONFIG entries (raft_change). */
int raft_propose(struct raft *r, struct raft_entry *entries, size_t n, raft_index *first, raft_term *term);

/* The batch with this seq and all before it are durable. seq: handed out and not acknowledged before. */
int raft_persisted(struct raft *r, uint64_t seq, uint64_t now);
/* Entries up to index (handed out as committed, or those of a snapshot to `restore`) are applied; never falls. */
void raft_applied(struct raft *r, raft_index index);
/* Nothing more can be sent to this peer (its link went down): what was on the way is taken as lost. Until it answers a
 * later heartbeat nobody hands over to it. */
void raft_unreachable(struct raft *r, raft_id peer);
/* A message about entries older than the window, of which `named` was the last, has been sent only now, and with
 * entries only up to `last` (reading them took its time, and may have given less). */
void raft_range_sent(struct raft *r, raft_id peer, raft_index named, raft_index last, uint64_t now);
/* Starts an election now, without waiting for a timeout, but through pre-vote. Ignored by leaders and non-voters; put
 * off while a lease is promised to another leader. */
int raft_campaign(struct raft *r, uint64_t now);
/* Leader: becomes a follower without a leader, in the same term, and does not campaign for 2T (its disk or its host
 * stalls: another one shall lead). Others: no effect. */
void raft_step_down(struct raft *r, uint64_t now);

/* ---- snapshots (dissertation 5) ----
 *
 * Taking one: the caller writes a snapshot of its state machine at an index it has applied, with the configuration
 * there (raft_conf_at) and the term (raft_term_at). When it is durable: raft_snapshot_taken. Then it may release stored
 * entries up to that index or fewer, and says so with raft_compact.
 *
 * Sending: when a peer needs entries that are gone, raft_ready hands out a SNAPSHOT message that names the snapshot
 * (index, log_term) and the peer. It is an order, not to be sent itself: the caller transfers the file at its own pace,
 * on another channel, then reports with raft_snapshot_sent. Until then nothing else but heartbeats goes to the peer. A
 * newer order to the same peer takes the place of an older one (the same one again: go on). The peer may catch up
 * otherwise meanwhile: raft_peer_status_get no longer says "snapshot", and the transfer may be given up.
 *
 * Receiving: when the whole file is durable, the caller gives the core a SNAPSHOT message: from the leader, in its term
 * at the time of sending, with index, log_term and conf. If this log does not hold what the snapshot covers, raft_ready
 * hands out `restore`: then the caller replaces stored log and state machine by the snapshot. Else the snapshot is
 * not needed, and the leader is told how far this log is. */

/* A snapshot that covers entries up to index is durable, and may be sent from now on. An older one than the last is
 * ignored (a received one may have overtaken it). Precondition: index was handed out as committed. */
void raft_snapshot_taken(struct raft *r, raft_index index);
/* The stored entries up to index are gone. Ignored when they were before. Keep some behind the newest snapshot, and
 * those behind one that is on its way to a peer: else it is sent in vain. Precondition: index <= the newest
 * snapshot's (taken or restored). */
void raft_compact(struct raft *r, raft_index index);
/* Leader: the transfer to the peer has ended. ok: the peer has said that its core was given it; else it is tried
 * again when the peer is next heard of. */
void raft_snapshot_sent(struct raft *r, raft_id peer, bool ok);

/* ---- membership (dissertation 4) ----
 *
 * New members come as learners, catch up, and are promoted. Several changes in one step go through a joint
 * configuration, which the leader leaves by itself. A leader that is no voter any more steps down when that is
 * committed. CONFIG entries that the core appends are encoded by the caller (raft_attach). */

enum raft_change_op {
    RAFT_ADD = 1, /* a new member, as learner */
    RAFT_PROMOTE, /* a learner becomes a voter: must have caught up (raft_peer_status.caught_up) */
    RAFT_DEMOTE,  /* a voter becomes a learner */
    RAFT_MOVE,    /* its address changes: nothing that concerns the core, but a CONFIG entry of its own */
    RAFT_REMOVE,
};

struct raft_change {
    uint8_t op; /* enum raft_change_op */
    raft_id id;
};

/* Leader: appends a configuration with all n changes, at *index in *term. The change is open until that entry, and the
 * one that leaves a joint configuration, are committed (raft_status.changing).
 * ERR_NOT_LEADER; ERR_TRANSFERRING; ERR_NOT_READY: no entry of its own term is committed yet (without that rule, two
 * leaders could count by two configurations that have no majority in common); ERR_CHANGING: another change is open;
 * ERR_LAGGING: a learner to be promoted has not caught up; ERR_NO_MEMBER: no such member, or not of that kind;
 * ERR_ALREADY; ERR_NO_VOTERS; ERR_TOO_MANY; ERR_INVALID: no changes, or an id twice; ERR_NOMEM; ERR_CORRUPT.
 * Nothing was changed then. */
int raft_change(struct raft *r, const struct raft_change *changes, size_t n, uint64_t now, raft_index *index,
                raft_term *term);

/* Leader: the peer waits for the commit of this entry, and is told of commits at once until then; of others it hears a
 * little later, with the next append. Nothing on other nodes, or of no peer. */
void raft_await_commit(struct raft *r, raft_id peer, raft_index index);

/* Leader: the peer has come back without its log (another incarnation of a learner): what it confirmed is void. */
void raft_peer_lost(struct raft *r, raft_id peer);

/* withhold: this node may have forgotten a vote, or entries that it acknowledged (its directory was lost, or replaced
 * by an older copy). It grants no votes or pre-votes, does not campaign, not even when the leader tells it to, and
 * steps down if it leads, until withhold = false: the cluster has admitted it anew, by a configuration. It takes
 * entries and acknowledges them meanwhile: who counts on them, the configuration says. The caller keeps this over
 * restarts (raft_config.withhold). */
void raft_withhold(struct raft *r, bool withhold, uint64_t now);

/* ---- leadership ---- */

/* Leader: hands over to target, a voter; 0 = to one that has all that is committed (or is nearest to it), of those
 * the one of highest priority.
 * It waits until the target has all entries, and tells it to campaign (dissertation 3.10). *chosen is the target.
 * Meanwhile proposals and changes are refused with ERR_TRANSFERRING. It ends when another leader is heard of, and fails
 * when the target becomes unreachable or is no voter any more, or after T (raft_status.transfer is 0 again).
 * ERR_NOT_LEADER; ERR_TRANSFERRING: another transfer is going on; ERR_LAGGING: nothing reaches this voter now (it is
 * down, or has come back with another directory, and withholds its votes), and proposals shall not wait for it in vain;
 * ERR_NO_MEMBER: no other voter has that id, or with 0: none that is reached was heard of within T; ERR_CORRUPT. */
int raft_transfer(struct raft *r, raft_id target, uint64_t now, raft_id *chosen);

/* Who suits. All zero: any voter. */
struct raft_wish {
    raft_index match, applied; /* has at least so much of the log on its disk, and has applied so much of it */
    const raft_id *except;     /* is none of these */
    size_t n_except;
};
/* As raft_transfer with 0, to one that suits. */
int raft_transfer_to(struct raft *r, const struct raft_wish *wish, uint64_t now, raft_id *chosen);

/* The leader's connection was closed, and it refuses a new one (or another incarnation answers): its process has most
 * likely died. A voter asks around after a short delay, different for each, at most once in T, and never while a
 * lease is promised; a member that was told this, or has not heard of the leader for T, grants it a pre-vote. Ignored
 * without a known leader. The leader's next word ends it. */
void raft_leader_lost(struct raft *r, uint64_t now);

/* ---- reads (dissertation 6.4) ---- */

#define RAFT_READS_MAX 16384u /* not confirmed yet */

/* Leader: asks from which index on the state machine may answer a read that arrived before now: raft_ready hands out
 * context with it, or as failed when leadership was lost. All reads that wait share one round of heartbeats. lease: no
 * round is needed while the leader holds a lease (config.lease). A new leader's reads wait for its first commit.
 * context never travels; the caller may use it twice.
 * ERR_NOT_LEADER; ERR_BUSY: RAFT_READS_MAX are waiting; ERR_NOMEM; ERR_CORRUPT. */
int raft_read(struct raft *r, uint64_t context, bool lease, uint64_t now);

struct raft_read {
    uint64_t context;
    raft_index index; /* when this is applied here, the state machine may answer; 0 = leadership was lost: ask the next
                         leader */
};

/* ---- output ---- */

/* One batch. messages and reads are borrowed from the core until the next raft_ready. */
struct raft_ready {
    uint64_t seq;             /* acknowledge with raft_persisted; 0 = nothing to persist */
    bool vote_changed;        /* term and vote are to be persisted, in the same batch, before the entries */
    raft_term term;           /* current */
    raft_id vote;             /* current */
    raft_index restore;       /* the snapshot of this index, given to raft_step, replaces the whole stored log (before
                                 the entries of this batch) and the state machine: then raft_applied(restore); 0 = none.
                                 `commit` reaches it when this batch is acknowledged */
    raft_term restore_term;   /* of that index */
    raft_index truncate_from; /* stored entries from here on are void; 0 = none */
    raft_index first, last;   /* entries to persist (raft_entry_at has them all), at most append_bytes, but at least
                                 one; first > last = none */
    const struct raft_message *messages; /* send now, in this order; APPENDs without their entries */
    size_t n_messages;
    raft_index commit;        /* entries up to here may be applied: committed, and durable here; never falls */
    const struct raft_read *reads; /* decided */
    size_t n_reads;
};

/* Is there anything new to hand out? */
bool raft_has_ready(const struct raft *r);
/* Gathers what all inputs since the last call gave. ERR_NOMEM: try again later, nothing is lost. ERR_CORRUPT. */
int raft_ready(struct raft *r, uint64_t now, struct raft_ready *out);

/* ---- looking in ---- */

/* The entry in the window, borrowed until the next input; NULL when it is older than the window (or beyond last). */
const struct raft_cached *raft_entry_at(const struct raft *r, raft_index index);
/* Gives an entry that the core itself appended (the empty one of an election, a configuration) its encoded block: the
 * core cannot encode. Takes a reference. Precondition: raft_entry_at(index)->block is NULL. To be done when
 * the batch that holds it is handed out, before that is stored and before its messages are sent. */
void raft_attach(struct raft *r, raft_index index, struct block *block);
/* Term of an entry (0 for index 0); false when index is beyond the log, or compacted (but for the last compacted
 * one). */
bool raft_term_at(const struct raft *r, raft_index index, raft_term *term);
/* The configuration that governs a log ending at index (0: the first one), borrowed until the next input; NULL: not
 * known any more. With index = UINT64_MAX: the latest. */
const struct raft_conf *raft_conf_at(const struct raft *r, raft_index index);

struct raft_status {
    raft_id id, leader, vote; /* leader: 0 = none known */
    enum raft_role role;
    raft_term term;
    raft_term durable_term;
    raft_index first, last, commit, stable, applied; /* first: oldest in the log; stable: durable here */
    raft_index snapshot;      /* last index that the newest snapshot covers */
    raft_index window;        /* first index in the window; last + 1 when empty */
    uint64_t window_bytes;    /* of entries in the window */
    uint64_t uncommitted_bytes;
    uint64_t leader_contact_us; /* when the leader was last heard of; 0 = never in this term */
    uint64_t elections;       /* that this node started */
    bool prevoting;           /* candidate that only asks so far whether it would win (dissertation 9.6) */
    bool ready;               /* leader that has committed an entry of its own term */
    bool corrupt;
    bool voter, learner;      /* what it is by the latest configuration; a voter on its way to learner is both */
    bool withheld;            /* it grants no votes: see raft_withhold */
    bool removed;             /* a member has told this node, in this life, that it was removed. It does not campaign
                                 any more; a leader that takes it for a member proves otherwise */
    bool joint;               /* the latest configuration is a joint one */
    bool changing;            /* a change of members is open */
    raft_index conf_index;    /* of the latest configuration */
    raft_id transfer;         /* leader: to whom it is handing over; 0 = nobody */
    size_t reads;             /* not confirmed yet */
};
void raft_status_get(const struct raft *r, struct raft_status *out);

/* How far a peer is, on the leader. false: not the leader, or not a member. */
struct raft_peer_status {
    const char *state;        /* "probe" "replicate" "snapshot" */
    raft_index match, next;
    raft_index applied;       /* as it last told */
    raft_index snapshot;      /* in state snapshot: which one it is waiting for */
    uint64_t inflight_bytes;
    uint64_t contact_us;      /* last message from it in this term; 0 = never */
    uint64_t rtt_us;          /* of the last heartbeat; 0 = not known */
    bool caught_up;           /* its last round of catching up took less than T */
    uint32_t rounds;          /* of catching up that it has finished (dissertation 4.2.1) */
    int32_t priority;
};
bool raft_peer_status_get(const struct raft *r, raft_id peer, struct raft_peer_status *out);
/* Until when the lease holds, NEVER_US for a cluster of one; 0 = there is none. */
uint64_t raft_lease_until(const struct raft *r);

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
    RAFT_INPUT_SNAPSHOT_TAKEN,
    RAFT_INPUT_COMPACT,
    RAFT_INPUT_SNAPSHOT_SENT,
    RAFT_INPUT_CHANGE,
    RAFT_INPUT_PEER_LOST,
    RAFT_INPUT_TRANSFER,
    RAFT_INPUT_LEADER_LOST,
    RAFT_INPUT_READ,
    RAFT_INPUT_WITHHOLD,
    RAFT_INPUT_AWAIT_COMMIT,
};

/* One call of them: its arguments, and what it returned. */
struct raft_input {
    enum raft_input_type type;
    int result;                         /* OK where the function returns nothing */
    uint64_t now;                       /* where the function takes it */
    const struct raft_config *config;   /* START */
    const struct raft_initial *initial; /* START */
    const struct raft_message *message; /* STEP */
    size_t n;                           /* PROPOSE: entries; CHANGE: changes; WITHHOLD: 1 or 0 */
    const struct raft_change *changes;  /* CHANGE */
    uint64_t context;                   /* READ */
    bool lease;                         /* READ */
    uint64_t seq;                       /* PERSISTED */
    raft_index index;                   /* APPLIED, SNAPSHOT_TAKEN, COMPACT; RANGE_SENT: last; CHANGE: of its entry */
    raft_id peer;                       /* UNREACHABLE, RANGE_SENT, SNAPSHOT_SENT, PEER_LOST; TRANSFER: the chosen */
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
