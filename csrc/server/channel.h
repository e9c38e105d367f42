/* What the two halves of a node say to each other. The engine half (consensus, disk, links) lives in
 * events of its world (base/io.h), the host half (sessions, apply, the user's calls) on the host's thread. Two bounded
 * rings and one mailbox join them:
 *
 *   host -> engine   requests: proposals, cancellations, applied batches coming back, snapshots, close
 *   engine -> host   notices: committed batches, snapshots to restore, refusals, started, closed
 *   engine -> host   status, in a mailbox: the newest one wins, and events (leader, role, peers) are told from the
 *                    difference of two, so that they coalesce by themselves
 *
 * The engine never blocks and never finds the notices full: a proposal reserves the slot of its refusal (at most
 * `pending` of them are open), and committed batches flow by credits (CHANNEL_BATCHES). */
#ifndef RAFT_SERVER_CHANNEL_H
#define RAFT_SERVER_CHANNEL_H

#include "base/io.h"
#include "base/mailbox.h"
#include "base/ring.h"
#include "wire/members.h"
#include "store/store.h"
#include "wire/ask.h"

#pragma GCC visibility push(hidden)

#define CHANNEL_BATCHES 32u                 /* committed batches at the host at once */
#define CHANNEL_BATCH_ENTRIES 256u          /* entries in one */
#define CHANNEL_BATCH_BYTES (1u << 20)      /* bytes in one, but always at least one entry */
#define CHANNEL_RESERVE 256u                /* slots of the requests that proposals never take */
#define CHANNEL_BURST 128u                  /* proposals for which the engine is woken, though more may follow; */
#define CHANNEL_SMALL 256u                  /* after a turn of no more than these they are handed over as a whole: two
                                               batches would cost more than their going side by side gains */
#define CHANNEL_ASKS 64u                    /* asks of the host under way at once */
#define CHANNEL_PENDING_MAX 65536u          /* largest `pending` option */

/* Requests (ring_item.kind), host -> engine. */
enum request_kind {
    REQUEST_PROPOSE = 1, /* pointer: struct block, unstamped, with session; the engine owns it from now on */
    REQUEST_CANCEL,      /* value: sequence. Answered by NOTICE_REFUSED, unless it is committed already */
    REQUEST_APPLIED,     /* pointer: struct apply_batch, given back; all of it is applied */
    REQUEST_RESTORED,    /* pointer: struct restore_part, given back */
    REQUEST_SETTLED,     /* value: sequence of a proposal that a restored snapshot holds: no need to send it any more */
    REQUEST_SNAPSHOT,    /* pointer: struct snapshot_order, the engine's from now on: a child writes it */
    REQUEST_ASK,         /* pointer: struct ask, the engine's until NOTICE_ANSWERED */
    REQUEST_UNASK,       /* value: number of an ask. NOTICE_ANSWERED follows, unless it is under way already */
    REQUEST_CLOSE,       /* finish; NOTICE_CLOSED is the last notice ever. Twice is harmless */
};

/* Notices, engine -> host. */
enum notice_kind {
    NOTICE_STARTED = 1, /* code: OK, or why not (text in channel.start_error); with an error nothing else follows */
    NOTICE_COMMITTED,   /* pointer: struct apply_batch, lent until REQUEST_APPLIED */
    NOTICE_RESTORE,     /* pointer: struct restore_part, lent until REQUEST_RESTORED */
    NOTICE_SNAPSHOT,    /* pointer: struct snapshot_order, with what became of it; lent until the next
                           REQUEST_SNAPSHOT */
    NOTICE_ANSWERED,    /* pointer: struct ask, the host's again. ERR_NOT_LEADER, ERR_CLOSED: the leader did not get it;
                           ERR_TIMEOUT, ERR_UNKNOWN: it may have; else what the leader said */
    NOTICE_REFUSED,     /* value: sequence, code: why. ERR_NOT_LEADER, ERR_FULL, ERR_TOO_LARGE, ERR_FAULT: no copy of it
                           entered any log; ERR_TIMEOUT, ERR_UNKNOWN: one may have */
    NOTICE_CLOSED,      /* the engine has ended; its thread can be joined */
};

/* Consecutive committed entries on their way to apply. Allocated by the engine, freed there when it comes back. */
struct apply_batch {
    raft_index first;
    uint32_t n;
    struct block *entries[]; /* n of them; the engine holds a reference on each */
};

/* Something that the leader shall do or tell, from mem_zero. */
struct ask {
    uint64_t number;     /* given by who asks */
    struct ask_what what;
    struct answer answer; /* once it has been answered */
    struct ask *next;    /* of whoever holds it */

    /* The engine's: */
    raft_id from;        /* a peer that has asked; 0 = this node */
    enum { ASK_WAITING, ASK_SENT, ASK_SERVED } state;
    raft_id to;          /* SENT: that leader */
    uint64_t since_us;   /* in this state */
    uint64_t context;    /* SERVED, READ: in the core */
    raft_term term;      /* SERVED, CHANGE: of the entry at answer.index */
};

/* A snapshot of the state machine on its way to the disk; from mem_zero. */
struct snapshot_order {
    struct io_child *child;     /* writes the file SNAPSHOT_OWN_NAME; the engine waits for it and frees it */
    struct store_snapshot what; /* size: told when it is published */
    struct err error;           /* told at the end: code OK, or why there is no snapshot */
};
#define SNAPSHOT_OWN_NAME "own.tmp" /* in the node's directory, which is cleared of such names when it is opened */

/* Kinds of records in a snapshot (store/snapshot.h), in this order. */
enum snapshot_record {
    SNAPSHOT_CONF = 1, /* the configuration at its index (wire/conf.h) */
    SNAPSHOT_SESSIONS, /* server/sessions.h */
    SNAPSHOT_CLIENTS,  /* server/clients.h */
    SNAPSHOT_MACHINE,  /* any number: the state machine's own */
};
#define SNAPSHOT_HOST_RECORDS ((uint64_t)SNAPSHOT_MACHINE - 1) /* one of each of the others */

/* Whole records of a snapshot that takes the place of the host's state, in order. Allocated by the engine, freed there
 * when it comes back. */
#define CHANNEL_RESTORE_PARTS 2u            /* at the host at once */
#define CHANNEL_RESTORE_BYTES (1u << 20)    /* in one, but always at least one record */
struct restore_part {
    struct store_snapshot what;
    bool first, last;
    uint64_t total;             /* records of all parts */
    struct buf records;         /* none in the last one */
    struct restore_part *next;  /* the engine's */
};

enum server_phase { SERVER_STARTING = 0, SERVER_RUNNING, SERVER_FAILED, SERVER_CLOSED };

/* One member as its peers see it. */
struct member_status {
    raft_id id;
    char address[ADDRESS_MAX + 1];
    bool connected;
    char down[ERR_TEXT_MAX]; /* why the link is down, for people; "" = never tried or up */
    bool learner;            /* follows, and does not vote */
    const char *state;       /* on the leader: "probe" "replicate" "snapshot"; NULL elsewhere. Static memory */
    bool caught_up;          /* on the leader: a learner that could be promoted */
    raft_index match;        /* on the leader */
    uint64_t rtt_us, contact_us; /* on the leader; 0 = not known. contact: io_now of its last word */
};

struct server_status {
    enum server_phase phase;
    enum raft_role role;
    raft_id id, leader;      /* leader 0 = none known */
    raft_term term;
    raft_index first, last, durable, commit;
    bool learner;            /* this node has no vote (yet) */
    bool removed;            /* it was a member, and is none any more */
    bool changing;           /* a change of the members is open */
    bool rejoining;          /* its directory was lost, or is an older copy: it has no vote until it is admitted anew */
    raft_id transfer;        /* leader: to whom it is handing over; 0 = nobody */
    raft_index conf_index;   /* of the configuration that members are from; 0 = the first one */
    bool ready;              /* a leader is known and, on itself, has committed in its term */
    uint64_t elections;
    uint64_t leader_contact_us; /* io_now of the leader's last word; 0 = never */
    raft_index snapshot_index;   /* of the newest snapshot; 0 = there is none */
    uint64_t snapshot_time_us, snapshot_bytes;
    uint64_t log_bytes;
    uint32_t log_segments;
    uint64_t sync_us;        /* the last durable write took this long */
    uint64_t sync_p99_us;    /* no more than one of the last 100 took longer */
    uint64_t disk_free;      /* bytes, when a segment was last prepared; UINT64_MAX = not known */
    const char *disk;        /* "ok" "slow" "full" "failed". Static memory */
    bool host_slow;          /* this node's host has taken nothing for host_timeout_us */
    uint64_t host_lag_us;    /* for how long it has had something, and given nothing back */
    int fault;               /* 0, or the code of what stopped the node */
    char fault_text[ERR_TEXT_MAX];
    uint8_t n_members;
    struct member_status members[RAFT_MEMBERS_MAX];
};

struct channel {
    struct ring requests, notices;
    /* The host's: batches given back, and proposals pushed, since the engine was last woken for them. */
    uint32_t given_back, proposed;
    uint32_t burst, turn;       /* proposals for which the engine is woken now; those since the last flush */
    struct mailbox status;      /* of struct server_status */
    struct err start_error;     /* written before NOTICE_STARTED */
    char start_note[2 * ERR_TEXT_MAX]; /* what was found in the directory, for people; "" = nothing unusual. Likewise */
    _Atomic uint64_t read_bytes, total_bytes; /* before NOTICE_STARTED: how much of the directory was read; see
                                   channel_progress */
    _Atomic uint64_t epoch;     /* of this life of the node; written before NOTICE_STARTED */
    _Atomic uint64_t node;      /* member id, as the directory has it; written before NOTICE_STARTED */
    _Atomic uint64_t heard_us;  /* io_now of when a leader was surely there: a follower heard of it, it of a majority;
                                   0 = none is known. Newer than the status */
    _Atomic uint64_t applied;   /* index that the host has applied. Newer than REQUEST_APPLIED: a sign of life */
    struct io *io;              /* for io_wake, io_notify and io_fork; set before either half runs */
    /* Written before NOTICE_STARTED, not changed afterwards: */
    const char *dir;            /* the node's directory; the engine's */
    uint8_t cluster[16];        /* the cluster's id */
    struct buf conf;            /* the configuration at the beginning of the log (wire/conf.h) */
};

/* The first sequence of a life of this node. Sequences of two lives do not meet (epochs are microseconds), so that a
 * late answer to what an earlier life forwarded is never taken for one about a proposal of this life. Below 2^62. */
static inline uint64_t channel_first_sequence(uint64_t epoch)
{
    return (epoch & ((UINT64_C(1) << 42) - 1)) << 20 | 1;
}

/* pending: most proposals open at once, <= CHANNEL_PENDING_MAX. ERR_NOMEM. */
int channel_init(struct channel *c, struct io *io, uint32_t pending);
void channel_free(struct channel *c); /* both halves have ended */

/* Host: pushes, and wakes the engine if it sleeps; with an ask it has it see to that here (io_visit). Cancellations,
 * like proposals, leave the last CHANNEL_RESERVE slots to the others: false when they would not, nothing is pushed. */
bool channel_request(struct channel *c, struct ring_item item);
/* Host: pushes a proposal, of which the engine learns with channel_flush, or when there are many (CHANNEL_BURST); the
 * block is the engine's then. A wake-up for the first of many would make a batch of that one alone, with a write and
 * two messages of its own. false: as above, and the block stays the caller's. */
bool channel_propose(struct channel *c, struct block *block);
/* Host: has the engine, if it sleeps, see to what was proposed: here, perhaps (io_visit). */
void channel_flush(struct channel *c);
/* Host: an applied batch goes back to the engine, which frees it. A wake-up for each would cost more than
 * the batch; the engine finds it at its next turn, and is woken in time before it could wait for credits. */
void channel_give_back(struct channel *c, struct apply_batch *batch);
/* Engine: the same the other way. There is always room (asserted). */
void channel_notice(struct channel *c, struct ring_item item);
/* Engine: pushes what nobody at the host waits for; it finds that when it looks, or is told with channel_remind. */
void channel_leave(struct channel *c, struct ring_item item);
void channel_remind(struct channel *c);
/* Engine, while it recovers: so many of so many bytes (more or less) were read. */
void channel_progress(struct channel *c, uint64_t done, uint64_t total);
/* Engine: publishes the draft of the status and wakes the host if it sleeps. */
void channel_publish(struct channel *c);

#pragma GCC visibility pop

#endif
