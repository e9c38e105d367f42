/* The abstract state of a server, and a step under judgement: shared by the files of the relation (sim_relation.h). */
#ifndef RAFT_SIM_SIM_RELATION_STATE_H
#define RAFT_SIM_SIM_RELATION_STATE_H

#include "sim/sim_relation.h"

#pragma GCC visibility push(hidden)

#define VOTES_KEPT 16u /* terms of which a vote is remembered: replies may wait for the disk while terms go by */
#define PEERS_KEPT 64u /* members, and others that have spoken */

/* What a server has been told by, and knows of, another one. */
struct peer {
    raft_id id;
    bool member;            /* of the latest configuration here */
    raft_index match, next; /* leader (figure 3.1, volatile state on leaders) */
    raft_index told;        /* leader: what it had confirmed before it was removed, and added again, in this term */
    raft_index goal;        /* leader: what it has to have before it may be given a vote (4.2.1) */
    bool next_free;         /* leader: it is new, and may be sent to from anywhere */
    uint64_t contact_us;    /* leader: its last reply in this term */
    uint64_t answered_us;   /* leader: when the newest heartbeat was sent that it has answered in this term */
    bool granted, refused;  /* candidate: what it said in this round */
    raft_term welcome;      /* it may be told that it would get a vote, in terms up to this one (9.6) */
    raft_index without;     /* it was no member by what was committed, up to here, when it last asked for a vote so */
    bool owed;              /* it has asked something in an earlier term and is to hear of the later one (3.3) */
};

/* A batch that is on its way to the disk. */
struct batch {
    raft_index last;
    raft_term term;
    raft_id vote;
};

/* The end of a log, as a candidate told it. */
struct claim {
    raft_term term;
    raft_index index;
    raft_term log_term;
};

/* A read that waits for its answer (6.4). */
struct asked {
    uint64_t context, asked_us;
    raft_index least; /* what has to be applied first */
    bool leased;      /* a lease stood for it when it arrived */
    bool failed;      /* leadership was lost since */
};

/* Figure 3.1: the state of one server. */
struct server {
    raft_id id;
    uint64_t election_timeout_us, heartbeat_us;
    uint64_t drift_us; /* by which clocks may run apart in an election timeout */
    bool lease;        /* reads may rest on leases */
    bool corrupt; /* it has found a contradiction and takes no more inputs */
    bool withheld; /* it may have forgotten what it promised: no votes, until it is admitted anew */

    /* Persistent state, and how far it is on disk. The log is the checker's, but for the configurations in it:
     * ascending, from the last one on that is committed. The last one governs (4.1). */
    raft_term term, durable_term;
    raft_id vote, durable_vote;
    raft_index last, stable;
    struct raft_conf_at *confs;
    size_t n_confs, confs_capacity;
    struct batch *batches; /* number n at n & (capacity - 1), for done < n <= handed */
    size_t batches_capacity;
    uint64_t handed, done;
    raft_index handed_last, truncated; /* entries handed to the disk; from where on it has to forget, 0 = nothing */
    raft_index restore;                /* a snapshot up to here is to replace the log on disk; 0 = none */
    raft_index snapshot, compacted;    /* the newest snapshot here (5); entries up to here are gone */
    raft_term handed_term;
    raft_id handed_vote;

    /* Volatile state. */
    raft_index commit, ready_commit, applied; /* ready: told to the state machine */
    enum raft_role role;
    raft_id leader;
    bool leader_lost;     /* the leader's process has died, as far as can be told from outside */
    bool removed;         /* it was told of a committed configuration without it */
    uint64_t hint_us;     /* when it last ended its timeout early for that reason */
    uint64_t promised_us; /* a leader relies on it until then: no votes (6.4.1) */
    uint64_t heard_us; /* from this term's leader; 0 = never */
    uint64_t deadline_us; /* the end of its election timeout */
    raft_index verified; /* up to here its log is known to be the leader's */
    struct claim claims[2]; /* what it asked for votes with; [1]: for pre-votes */
    raft_term called;       /* the last term in which it stands because the leader has called it (3.10) */
    bool asking;            /* candidate: only whether an election would be won (9.6) */
    bool own_vote;
    struct {
        raft_term term;
        raft_id vote;
    } votes[VOTES_KEPT]; /* term t at t % VOTES_KEPT */
    raft_term led; /* the last term that it led: to which match belongs */
    raft_id transfer;           /* leader: to whom it hands over; 0 = nobody (3.10) */
    uint64_t transfer_until_us; /* it goes on leading after that */
    uint64_t adopted_us;        /* when its members have last become others */
    bool handing;               /* leader: another one may lead at any time, since a transfer has begun */
    raft_term left;             /* the last term in which it left office, since it votes no more (4.2.2) */
    struct asked *reads;        /* in the order in which they have arrived */
    size_t n_reads, reads_capacity;
    bool leftover; /* the last output ran out of memory, and what it had gathered comes with the next */
    struct peer peers[PEERS_KEPT];
    size_t n_peers;
};

/* A step under judgement: s is the state before, and becomes the state that the rules lead to. */
struct step {
    struct sim_check *check;
    int node;
    struct server *s;
    const struct raft_input *input;
    const struct sim_core *after;
    bool next_free;   /* a leader may send again from elsewhere after this input */
    bool timer_reset; /* a new election timeout has begun */
    /* What becomes of its log: entries that it keeps, then those of the message, then those it appends itself. */
    raft_index kept;
    const struct raft_entry *gained;
    size_t n_gained, n_own;
    bool log_judged;
};

/* section: of the dissertation. */
void relation_wrong(const struct step *x, const char *section, const char *format, ...) PRINTF_LIKE(3, 4);
/* The term of an entry before the step. */
raft_term relation_term_at(const struct step *x, raft_index index);
#define wrong relation_wrong /* the rules say these on every other line */
#define term_at relation_term_at

struct peer *relation_peer(struct server *s, raft_id id);  /* NULL: never heard of */
struct peer *relation_know(struct server *s, raft_id id);  /* a stranger too */

/* A number of each voter: its match index, or when it was heard of, or 1 for a vote. */
typedef uint64_t (*value_of)(const struct step *x, raft_id id);
bool relation_quorum_has(const struct step *x, value_of value, uint64_t least);
/* The largest number that a quorum has: one of the voters' own. */
uint64_t relation_quorum_reaches(const struct step *x, value_of value);

/* The leader appends an entry of its term. */
void relation_append(struct step *x);
/* It follows; leader: 0 = nobody is known to lead. */
void relation_follow(struct step *x, raft_id leader);

/* ---- members (4): sim_relation_members.c ---- */

const struct raft_conf *relation_conf(const struct server *s); /* the one that governs */
bool relation_is_voter(const struct raft_conf *conf, raft_id id); /* of either majority */
/* May it be a voter, by a configuration that may be the last one to be committed (4.2.2), and has not forgotten a
 * vote? */
bool relation_may_campaign(const struct server *s);
/* The log begins with this configuration. */
void relation_conf_first(struct step *x, raft_index index, const struct raft_conf *conf);
void relation_conf_add(struct server *s, raft_index index, const struct raft_conf *conf);
void relation_conf_cut(struct server *s, raft_index kept); /* entries behind are void */
/* Those who are members now, since configurations were added or cut. */
void relation_adopt(struct step *x);
/* The commit index of a leader has risen: the end of a change may follow. Of others: what governs no more is
 * forgotten. */
void relation_on_commit(struct step *x);
void relation_on_change(struct step *x);
/* It asks for a vote, and may be told that it is no member any more (4.2.3). */
void relation_on_asked(const struct step *x, struct peer *p);
void relation_on_transfer(struct step *x);
void relation_on_refused(const struct step *x);
void relation_judge_timeout_now(const struct step *x, const struct raft_message *m);
void relation_same_members(const struct step *x);

/* ---- reads (6.4): sim_relation_reads.c ---- */

void relation_on_read(struct step *x);
void relation_reads_fail(struct server *s); /* leadership is lost */
void relation_judge_reads(struct step *x, const struct raft_ready *out);

#pragma GCC visibility pop

#endif
