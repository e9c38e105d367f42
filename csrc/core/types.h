/* The words of the consensus core: ids, entries, configurations, messages, errors. */
#ifndef RAFT_CORE_TYPES_H
#define RAFT_CORE_TYPES_H

#include "base/base.h"
#include "base/block.h"
#include "base/err.h"

#pragma GCC visibility push(hidden)

typedef uint64_t raft_id;    /* a member; 0 = none */
typedef uint64_t raft_term;  /* 0 = before the first election */
typedef uint64_t raft_index; /* position in the log, from 1; 0 = before the first entry */

#define RAFT_MEMBERS_MAX 15 /* voters and learners of one cluster together: more makes every write slower, not safer */

/* An entry as it is given to the core: what it means is the server's business, but for its size. */
struct raft_entry {
    raft_term term;
    struct block *block; /* encoded header and payload (wire/entry.h); NULL only in specs of the core alone */
    uint32_t size;       /* bytes, as windows and quotas count them */
    uint8_t type;        /* enum raft_entry_type */
    const struct raft_conf *conf; /* of a CONFIG: what it says, copied by the core */
};

/* An entry in memory, as the core shows it. There may be millions: its term and what a CONFIG says are kept elsewhere
 * (raft_term_at, raft_conf_at). */
struct raft_cached {
    struct block *block; /* NULL until raft_attach, of one that the core itself appended */
    uint32_t size;
    uint8_t type;
};

enum raft_entry_type {
    RAFT_ENTRY_EMPTY = 1, /* what a leader appends at its election (dissertation 6.4, and 3.6.2 for why) */
    RAFT_ENTRY_COMMAND,   /* for the state machine */
    RAFT_ENTRY_BARRIER,   /* changes nothing: waited for by reads */
    RAFT_ENTRY_CONFIG,    /* who the members are from here on (dissertation 4.1) */
    RAFT_ENTRY_CLIENT,    /* a command in the session of a program outside the cluster (dissertation 6.3) */
    RAFT_ENTRY_TYPES
};

/* Who has a say. Ids are sorted and unique within each list. A joint configuration has outgoing voters too, and
 * every decision needs a majority of both lists (dissertation 4.3). A voter on its way to being a learner stands among
 * the outgoing and the learners: it votes until the joint configuration is left. All empty: this node does not know any
 * configuration yet (it is to join a cluster, whose leader will tell it).
 *
 * founding: the list that a new cluster begins with. By it all voters must agree, not a majority only. The first leader
 * replaces it with its first entry, an ordinary configuration of the same members. */
struct raft_conf {
    raft_id voters[RAFT_MEMBERS_MAX], outgoing[RAFT_MEMBERS_MAX], learners[RAFT_MEMBERS_MAX];
    uint8_t n_voters, n_outgoing, n_learners;
    bool founding; /* never in a log or a snapshot; not joint, no learners */
};

enum raft_role { RAFT_FOLLOWER = 1, RAFT_CANDIDATE, RAFT_LEADER };

enum raft_message_type {
    RAFT_APPEND = 1,      /* leader: entries after (index, log_term) */
    RAFT_APPEND_REPLY,    /* follower: durable up to index; or reject with a hint */
    RAFT_HEARTBEAT,       /* leader: still here; commit never above what the follower has confirmed */
    RAFT_HEARTBEAT_REPLY, /* follower: echoes context and round */
    RAFT_VOTE,            /* candidate; with pre: would you vote for me (dissertation 9.6) */
    RAFT_VOTE_REPLY,
    RAFT_TIMEOUT_NOW,     /* leader: campaign at once, you shall lead (dissertation 3.10) */
    RAFT_SNAPSHOT,        /* leader: the peer needs what this snapshot holds (dissertation 5). Never travels itself: see
                             raft.h, "snapshots" */
    RAFT_MESSAGE_TYPES
};

/* One struct for all; which fields a type uses is told beside each. */
struct raft_message {
    uint8_t type; /* enum raft_message_type */
    bool pre;     /* VOTE, VOTE_REPLY: of a pre-vote */
    bool reject;  /* VOTE_REPLY: not granted; APPEND_REPLY: (index, log_term) does not match here */
    bool force;   /* VOTE: at the leader's own wish: no live leader stands against it */
    raft_id from, to;
    raft_term term;      /* the sender's; of a pre-vote: the term it would have */
    raft_index index;    /* APPEND: previous; APPEND_REPLY: match, or the rejected previous; VOTE: candidate's last;
                            HEARTBEAT_REPLY: received (durable or not) and agreeing with the leader's log;
                            SNAPSHOT: the last entry it covers;
                            VOTE_REPLY reject: the log is committed up to here, and by that you are no member; 0 = no
                            word about that */
    raft_term log_term;  /* APPEND: of previous; VOTE: of the candidate's last; APPEND_REPLY reject: of hint;
                            SNAPSHOT, VOTE_REPLY reject: of index */
    raft_index hint;     /* APPEND_REPLY reject: the follower's newest index whose term may match */
    raft_index commit;   /* APPEND, HEARTBEAT; HEARTBEAT_REPLY: how far the follower has applied */
    uint64_t context;    /* HEARTBEAT: leader's clock when sent, us; HEARTBEAT_REPLY: the same */
    uint64_t round;      /* HEARTBEAT: which round of them it belongs to; HEARTBEAT_REPLY: the same */
    uint32_t lease_us;   /* HEARTBEAT: who answers gives nobody a vote for so long (dissertation 6.4.1); 0 = no lease */
    int32_t priority;    /* HEARTBEAT_REPLY: the follower's, as configured */
    uint32_t n_entries;  /* APPEND: entries index + 1 .. index + n_entries */
    const struct raft_entry *entries; /* APPEND received: n_entries of them. Handed out by the core: always NULL, the
                                         server fetches them from raft_entry_at or from the store. */
    const struct raft_conf *conf;     /* SNAPSHOT received: the configuration at index, read during raft_step only.
                                         Handed out by the core: NULL, the file holds it. */
};

#pragma GCC visibility pop

#endif
