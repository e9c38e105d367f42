/* The state of an engine, shared by its files: engine.c (life, events, requests), start.c, peers.c (what the links
 * tell), proposals.c (to the leader), ready.c (what the core wants done), feed.c (committed entries to the host),
 * ranges.c (entries that are not in memory), snapshotting.c (this node's), offers.c and fetch.c (from node to node),
 * changes.c (who the members are), readmission.c (of a voter that has lost its directory), handover.c (leadership given
 * up), status.c, fault.c. */
#ifndef RAFT_SERVER_ENGINE_STATE_H
#define RAFT_SERVER_ENGINE_STATE_H

#include "core/quorum.h"
#include "core/raft.h"
#include "server/confs.h"
#include "server/engine.h"
#include "server/links.h"
#include "server/pending.h"
#include "store/store.h"
#include "wire/transfer.h"

#pragma GCC visibility push(hidden)

enum engine_phase { ENGINE_NEW, ENGINE_JOINING, ENGINE_RUNNING, ENGINE_FAILED, ENGINE_CLOSING, ENGINE_CLOSED };

/* A batch lent to the host, in a list so that it can be freed when the host never gives it back. */
struct lent {
    struct apply_batch *batch;
    struct lent *next;
};

/* Committed entries on their way to the host. */
struct feed {
    raft_index next, commit;  /* next one to hand over; last one that may be */
    raft_index awaited;       /* the host waits until it has applied this one */
    uint64_t remind_us;       /* when the host is told of what was left for it; NEVER_US: nothing was */
    struct lent *lent;
    uint32_t n_lent;
    bool reading;
    struct store_read read;   /* of entries that are not in memory */
};

/* An append to one peer of entries that are not in memory. */
struct range {
    struct engine *engine;
    bool reading;
    struct raft_message message;
    struct store_read read;
};

/* A node that is no member yet, asking those that are. */
struct joining {
    struct io_link *link;    /* NULL: none is open */
    struct frame_reader reader;
    char address[ADDRESS_MAX + 1]; /* who is asked, or will be next */
    uint8_t next;            /* of the configured ones */
    uint64_t at_us;          /* when to ask next, or when to give this one up */
    struct joined joined;    /* the answer; id 0 = none yet */
};

/* A peer's life on its way to the disk. */
struct remembering {
    struct engine *engine;
    raft_id id;              /* 0 = free */
};

/* A member that has lost its directory, as its last hello said. */
struct returning {
    raft_id id;
    uint64_t incarnation; /* of the new one */
};

/* A snapshot that this node takes. */
struct taking {
    struct engine *engine;
    struct snapshot_order *order;
    struct store_snapshot what;
    struct io_child *child;  /* NULL: it has ended */
    char *own;               /* path of the file that it writes */
    struct store_incoming *incoming;
    struct err error;
    struct io_job job;
    bool running;            /* until the host is told */
};

/* A snapshot on its way to the host. */
struct restoring {
    struct store_view *view; /* NULL: none, or all of it is at the host */
    struct store_view_read read;
    bool reading, begun, ended;
    struct restore_part *parts; /* lent */
    uint32_t n_parts;
    raft_index restored;        /* index of one that the host has loaded and the core was not told of; 0 = none */
    raft_index replacing;       /* index of one of which the status has not told yet that it took the log's place;
                                   0 = none */
};

/* A snapshot that this node, as leader, has offered to a peer, and keeps for it. */
struct offer {
    struct engine *engine;
    raft_id to;
    struct store_view *view; /* NULL: this offer is free */
    uint32_t reads;          /* pieces being read */
    struct piece *pieces;    /* those */
    bool ending;             /* freed when no piece is being read any more */
    uint64_t offered_us, wanted_us; /* when it was told last, and when a piece was asked for last */
};

/* A piece of it. */
struct piece {
    struct offer *offer;
    struct piece *next; /* of the same offer, being read */
    struct transfer_file file;
    size_t head;        /* bytes in read.bytes before those of the file */
    struct store_view_read read;
};

/* A snapshot that this node fetches. */
struct fetching {
    struct store_incoming *incoming; /* NULL: none */
    struct transfer_file file;
    raft_id from;            /* who has it */
    uint64_t asked;          /* bytes asked for so far */
    uint64_t window;         /* bytes that may be asked for and not be here yet */
    uint64_t timed_us, timed_end; /* when the piece that ends there was asked for; 0 = none is timed */
    uint64_t heard_us;       /* when a piece came last */
    uint64_t asked_us;       /* the same, or when it was asked for anew */
    bool publishing;         /* all of it is here */
    struct store_view *view; /* of one that is here: its configuration is being read */
    struct store_view_read read;
    struct conf conf;        /* of the one that was given to the core last */
};

/* Something of this node stands still. */
struct stall {
    uint64_t since_us;       /* 0 = it does not */
    enum { STALL_NOTICED, STALL_HANDING_OVER, STALL_OVER } stage; /* of a leader's giving up */
};

struct engine {
    struct engine_config config;      /* strings below */
    char *dir, *name, *listen;
    struct channel *channel;
    struct io *io;
    enum engine_phase phase;
    struct store *store;
    struct store_identity identity;
    uint64_t epoch;
    uint64_t before[STORE_LIVES];     /* lives of this directory */
    struct joining joining;
    struct confs confs;               /* in the log */
    struct members members;           /* by the one that governs */
    raft_index conf_index;            /* its index, and term */
    raft_term conf_term;
    bool conf_returns;                /* it has a member that gets its vote back */
    bool conf_news;                   /* readmission.c has not seen it yet */
    bool links_behind;                /* the links do not know all of them, for lack of memory */
    struct member moves[RAFT_MEMBERS_MAX]; /* addresses, and directories, in the newest change, until the core has
                                              handed out its entry */
    size_t n_moves;
    bool rejoining;                   /* this directory replaces one that was lost: see readmission.c */
    bool disowned;                    /* the others do not count on it, and it is not another one yet */
    bool renaming;                    /* the store is just making it so, or undoing it */
    struct returning returning[RAFT_MEMBERS_MAX]; /* members in that state */
    size_t n_returning;
    struct raft *raft;
    struct links *links;
    struct io_server *server;
    struct pending pending;
    struct feed feed;
    struct range ranges[RAFT_MEMBERS_MAX];
    struct remembering remembering[RAFT_MEMBERS_MAX];
    struct taking taking;
    struct restoring restoring;
    struct offer offers[RAFT_MEMBERS_MAX];
    struct fetching fetching;
    raft_id leader;                   /* proposals go to it, in its term: a change sends them again */
    raft_term leader_term;
    struct ask *asks;                 /* of this node's host, and those of peers that this leader serves */
    uint64_t ask_context;             /* of the read that the core was asked for last */
    uint64_t ask_again_at_us;         /* asks that were refused for now are tried again */
    uint64_t retry_at_us;             /* proposals that were refused for now are tried again */
    uint64_t resend_at_us;            /* ... and those of which nothing was heard */
    uint64_t rest_at_us;     /* slab_rest */
    struct stall disk_stall, host_stall;
    raft_index host_applied;          /* how far the host was when it was last seen to move ... */
    uint64_t host_moved_us;           /* ... or to have nothing to do: then */
    uint64_t leave_until_us;          /* closing, and still handing over; 0 = not */
    uint64_t alarmed_us;              /* when the last alarm rang */
    struct err fault;                 /* what stopped this node */
    int start_code;                   /* ERR_: starting failed late, told when all is closed */
    struct raft_status seen;          /* at the last publication: changes are news */
    bool seen_ready;
    uint64_t publish_at_us;
    bool news;
};

extern const struct io_events engine_events;   /* engine.c */
extern const struct links_events engine_peers; /* peers.c */

/* fault.c */
/* Stops taking part, for good: the reason is told by status. What is open is ended at the end of the turn. */
void engine_fail(struct engine *e, const struct err *reason);

/* proposals.c */
void proposals_add(struct engine *e, struct block *block);
void proposals_cancel(struct engine *e, uint64_t sequence);
/* Sends what is to be sent to the present leader. */
void proposals_flush(struct engine *e);
void proposals_on_forward(struct engine *e, raft_id from, const struct frame *f);
void proposals_on_forward_reply(struct engine *e, raft_id from, const struct frame *f);
/* Ends all of them: code for those that were never handed over, ERR_UNKNOWN for the others. */
void proposals_end(struct engine *e, int code);

/* ready.c */
/* Hands everything the core has ready to store, peers and feed. */
void ready_drain(struct engine *e);

/* feed.c */
void feed_pump(struct engine *e);
void feed_applied(struct engine *e, struct apply_batch *batch);
void feed_await(struct engine *e, raft_index index); /* a call at the host waits for it */
void feed_tick(struct engine *e, uint64_t now);
uint64_t feed_deadline(const struct engine *e);
void feed_free(struct engine *e);

/* start.c */
void start_joined(struct engine *e); /* the cluster has given this node a place */

/* joining.c */
void joining_begin(struct engine *e);
void joining_connected(struct engine *e);
void joining_received(struct engine *e, const uint8_t *data, size_t size);
void joining_closed(struct engine *e);
void joining_alarm(struct engine *e);
void joining_end(struct engine *e);
/* On a member: a stranger wants a place. */
bool joining_answer(struct engine *e, const struct join *j, struct joined *answer);

/* snapshotting.c */
void snapshotting_take(struct engine *e, struct snapshot_order *order);
/* The newest snapshot is another one: the log behind it may go. */
void snapshotting_taken(struct engine *e);
/* The newest snapshot goes to the host, in place of its state; entries after it follow. */
void snapshotting_restore(struct engine *e);
void snapshotting_restored(struct engine *e, struct restore_part *part);
void snapshotting_pump(struct engine *e);
/* Ends what is going on, as far as it can be; what cannot keeps the store open: busy. */
void snapshotting_stop(struct engine *e);
bool snapshotting_busy(const struct engine *e);
void snapshotting_free(struct engine *e);
void snapshotting_order_free(struct engine *e, struct snapshot_order *order); /* one that was never taken */

/* offers.c */
/* The core wants this peer to have a snapshot. */
void offers_make(struct engine *e, raft_id to);
/* The bulk channel to this peer is up: what is offered can be fetched. */
void offers_up(struct engine *e, raft_id to);
void offers_on_fetch(struct engine *e, raft_id from, const struct transfer *t);
void offers_on_fetched(struct engine *e, raft_id from, const struct transfer *t);
void offers_tick(struct engine *e, uint64_t now);
uint64_t offers_deadline(const struct engine *e);
/* Ends all of them, as far as it can be; busy: the store is to be kept open for what is still being read. */
void offers_stop(struct engine *e);
void offers_free(struct engine *e); /* what a process that has died was reading */
bool offers_busy(const struct engine *e);

/* fetch.c */
void fetch_on_offer(struct engine *e, raft_id from, const struct transfer *t);
void fetch_on_chunk(struct engine *e, raft_id from, const struct transfer *t);
/* Asks for what can be taken now. */
void fetch_pump(struct engine *e);
uint64_t fetch_deadline(const struct engine *e);
void fetch_stop(struct engine *e);
bool fetch_busy(const struct engine *e);
void fetch_free(struct engine *e); /* what was being read when its world died; else nothing */

/* asks.c */
void asks_add(struct engine *e, struct ask *ask);
void asks_cancel(struct engine *e, uint64_t number);
void asks_on_ask(struct engine *e, raft_id from, const struct frame *f);
void asks_on_answer(struct engine *e, raft_id from, const struct frame *f);
/* The core has decided on reads. */
void asks_on_reads(struct engine *e, const struct raft_read *reads, size_t n);
/* The leader is another one, or not known. */
void asks_on_leader(struct engine *e);
/* The link to a member has broken: what it was asked it may not have heard. */
void asks_on_down(struct engine *e, raft_id id);
/* Once a turn: asks the leader, and sees what has come true. */
void asks_flush(struct engine *e);
uint64_t asks_deadline(const struct engine *e);
/* Ends those of this node's host: code for what the leader did not get, ERR_UNKNOWN for the rest. */
void asks_end(struct engine *e, int code);
void asks_free(struct engine *e);

/* changes.c */
/* Leader: appends what is asked for, or hands over to one that can (ERR_TRANSFERRING). ids: those given to new members.
 * As raft_change. */
int changes_make(struct engine *e, const struct ask_what *what, struct answer *answer, raft_term *term);
bool changes_is_voter(const struct engine *e, raft_id id);
/* Leader: one change for a member that comes back; named: what the configuration is to say of it. It may be refused. */
void changes_readmit(struct engine *e, enum raft_change_op op, const struct member *named);
/* The core has taken these entries: configurations among them are remembered. */
void changes_on_append(struct engine *e, const struct raft_message *m);
/* A snapshot takes the place of the log up to index, with this configuration. */
void changes_on_restore(struct engine *e, raft_index index, raft_term term, const struct conf *conf);
/* The payload of a configuration that the core has appended, unstamped, and remembered. NULL: no memory. */
struct block *changes_encode(struct engine *e, raft_index index);
/* Once a turn: the configuration that governs may be another one. */
void changes_follow(struct engine *e);

/* handover.c */
/* A leader that is to close: others shall not need a timeout to notice. false: it has nobody to hand over to. */
bool handover_begin(struct engine *e);
/* Has that come about, or taken too long? */
bool handover_is_over(const struct engine *e, uint64_t now);
/* Leader: would this change take its vote? Then it hands over to one that keeps its own, if there is one: true. */
bool handover_first(struct engine *e, const struct ask_what *what, uint64_t now);
/* Disk and host: a leader hands over when one of them stands still. */
void handover_note_ends(struct engine *e);
void handover_tick(struct engine *e, uint64_t now);
uint64_t handover_deadline(const struct engine *e);
/* For how long the host has had something, and given nothing back. */
uint64_t handover_host_lag_us(const struct engine *e, uint64_t now);

/* readmission.c */
/* A member says that it comes back with this directory in place of one that was lost; 0: that it does not. */
void readmission_note(struct engine *e, raft_id id, uint64_t incarnation);
/* Does this node withhold its votes, by this configuration? */
bool readmission_withholds(const struct engine *e, const struct conf *conf);
/* A member refuses this node for its directory: ERR_REPLACED, ERR_ROLLED_BACK. */
void readmission_disowned(struct engine *e, int code);
/* Once a turn: the next step of what is under way, on either side. */
void readmission_follow(struct engine *e);
/* What can be done for a member that is refused for its directory: a text for people. */
void readmission_outlook(const struct engine *e, raft_id id, bool rejoining, char *text, size_t size);

/* status.c */
/* Publishes the status when there is news, or when it is time. */
void status_publish(struct engine *e, uint64_t now);

/* ranges.c */
/* Reads the entries that an APPEND names, and sends it. */
void range_send(struct engine *e, const struct raft_message *m);

#pragma GCC visibility pop

#endif
