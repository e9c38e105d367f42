/* The host half of a node: sessions, apply, snapshots, and the open calls of this node. It owns no thread: its user
 * calls host_step when the world notified it.
 *
 * A proposal is known by its sequence: the machine's apply is told the sequence of what was proposed here, so that the
 * caller gets what its own node's apply returned. What was never applied here ends by done(), a client's repeated
 * command by repeat(). Exactly one of the three comes for every sequence, exactly once.
 *
 * State machine, session tables, the configuration, the applied index and the leader's time move together, an entry at
 * a time; a snapshot is taken between two entries and holds them all at one index (dissertation 5, 6.3). */
#ifndef RAFT_SERVER_HOST_H
#define RAFT_SERVER_HOST_H

#include "server/channel.h"
#include "server/clients.h"
#include "store/snapshot.h"
#include "wire/entry.h"

#pragma GCC visibility push(hidden)

struct host;

#define HOST_FIRST_ASK (UINT64_C(1) << 62) /* numbers of asks start here, above all sequences */

enum host_verdict { HOST_GO_ON, HOST_HALT };

/* The steps in which a snapshot takes the place of the state machine's state. */
enum host_load {
    HOST_LOAD_BEGIN,   /* a fresh machine; none of the records are here yet, but their number is known */
    HOST_LOAD_RECORDS, /* some that save has written; all of them come, in order, at least one at a time */
    HOST_LOAD_END,     /* the machine is what it was at this index */
};
struct host_records;
/* The next one of these; false: that was the last for now. It is valid until load returns. */
bool host_record_next(struct host_records *records, const uint8_t **record, uint32_t *size);
/* So many has save written. */
uint64_t host_records_total(const struct host_records *records);

/* The user's side. None of these may jump out (a Lua error is caught before it gets here). They may call host_propose,
 * host_barrier, host_cancel, host_snapshot, host_close; not host_step. */
struct host_machine {
    /* The next command in the log; time_us never falls. sequence: of our own proposal, or 0. result: NULL, or where to
     * append what it came to (empty), so that a client who asks again gets the same. It may go on with host_next().
     * HOST_HALT: the machine cannot go on (out of memory, interrupted): the node stops, this command, of those that it
     * took the last, counts as not applied here. */
    enum host_verdict (*apply)(void *ctx, const struct entry *command, uint64_t time_us, uint64_t sequence,
                               struct buf *result);
    /* Of each command, before it is applied. NULL: not wanted. */
    void (*applying)(void *ctx, const struct entry *command, uint64_t time_us, uint64_t sequence);
    /* A client's command that was applied before, proposed here once more: what apply appended then; NULL: that was too
     * large to be kept. */
    void (*repeat)(void *ctx, uint64_t sequence, const uint8_t *result, size_t size);
    /* An open call ended without an apply of its own: OK (a barrier has been passed, or a client session opened, at
     * index), or the code of NOTICE_REFUSED, ERR_CLOSED (never handed over), ERR_UNKNOWN (open when the node closed),
     * ERR_REFUSED (fenced by a later life of this node), ERR_NO_RESULT (a snapshot has overtaken it: it was applied, or
     * a client session opened), ERR_EXPIRED (the client's session is gone, or has gone on, at index). Or an ask did:
     * with what the leader has told. id: of the new member, or leader. */
    void (*done)(void *ctx, uint64_t sequence, int code, raft_index index, raft_id id);
    /* Before that: so many of so many bytes of the directory were read. NULL: not wanted. */
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    /* started(code): once, after which calls are accepted if it is OK (else host_start_error says why). */
    void (*started)(void *ctx, int code);
    /* There is a newer status. */
    void (*changed)(void *ctx, const struct server_status *status);
    /* The engine has ended; no call comes after this one. */
    void (*closed)(void *ctx);

    /* Writes the state as records of kind SNAPSHOT_MACHINE; only reads it: this may be a forked child (io_fork). */
    int (*save)(void *ctx, struct snapshot_writer *w, struct err *e);
    /* records: NULL with HOST_LOAD_END. Those that it leaves are not wanted. HOST_HALT: this is no state of its
     * own; the node stops. */
    enum host_verdict (*load)(void *ctx, enum host_load step, struct host_records *records);
    /* A snapshot that this node took is on its disk, or (order->error) there is none, and all is as it was. */
    void (*snapshot)(void *ctx, const struct snapshot_order *order, uint64_t took_us);
};

struct host_config {
    uint32_t pending;          /* most open calls */
    uint64_t pending_bytes;    /* most bytes of open calls */
    uint64_t snapshot_bytes;   /* takes a snapshot after so many bytes of commands since the last one ... */
    uint64_t snapshot_entries; /* ... or so many entries; 0, 0: only when host_snapshot is called. Not before that log
                                  is as large as the newest snapshot, if this is no small one (dissertation 5.1.2) */
    bool snapshot_apart;       /* in a child process */
    struct client_limits clients;
};

/* Arguments are copied; channel outlives the host. NULL: no memory. */
struct host *host_new(struct channel *channel, const struct host_machine *machine, void *ctx,
                      const struct host_config *config);
/* Precondition: closed() was called, or the engine never started, or its world has died (a simulated crash). */
void host_free(struct host *h);

/* Takes notices and applies, at most `entries` of them; a record of a snapshot counts as one, and each KiB of them as
 * one more. true: there is more, call again soon. When it returns false the world will notify. Not reentrant
 * (asserted). */
bool host_step(struct host *h, uint32_t entries);

/* Proposes a block from entry_new (COMMAND, CLIENT); takes it whatever the result. ERR_BUSY (bounds), ERR_CLOSED,
 * ERR_FAULT: not handed over, no callback follows. *sequence is > 0. */
int host_propose(struct host *h, struct block *block, uint64_t *sequence);
/* From apply() alone, for machines that get ready for many commands at once: the one at hand has been applied, and here
 * is the next one, if it follows at once (valid until the next call; its result is not kept). NULL: none does, or there
 * is something to do first; apply() then returns. Meanwhile only done() may be called. */
const struct entry *host_next(struct host *h, uint64_t *time_us, uint64_t *sequence);
/* The engine learns of what was proposed, barriers included. Many proposals are flushed once, after the last. */
void host_flush(struct host *h);
/* A barrier: done(OK) when everything committed before this call is applied here. Each call is one entry:
 * callers that can share one do. Errors as host_propose, and ERR_NOMEM. */
int host_barrier(struct host *h, uint64_t *sequence);
/* Asks the leader, whoever it is: done(number, code, index, id) follows. ERR_BUSY: CHANNEL_ASKS are under way, try
 * again when one is done; ERR_CLOSED, ERR_FAULT, ERR_NOMEM: nothing was asked. With a read and a change, done() comes
 * when this node has applied the index it was told. *number: HOST_FIRST_ASK or more. */
int host_ask(struct host *h, const struct ask_what *what, uint64_t *number);
/* Gives up waiting, for a sequence or a number: done() follows soon, with ERR_NOT_LEADER or ERR_TIMEOUT (or an apply
 * that was faster). */
void host_cancel(struct host *h, uint64_t sequence);
/* Takes a snapshot now, of host_applied: snapshot() follows, unless it is an error. ERR_BUSY: one is being taken, or
 * restored; ERR_EXIST: the newest one is of this very index; ERR_CLOSED, ERR_FAULT; else as io_fork, text in e. */
int host_snapshot(struct host *h, struct err *e);
/* Starts closing; done() for all that is open, then closed(). Twice is harmless. */
void host_close(struct host *h);

const struct server_status *host_status(const struct host *h); /* the newest taken; valid until host_step */
uint64_t host_heard(const struct host *h); /* channel.heard_us */
/* What was found in the directory, for people; "" = nothing unusual. Once started. */
const char *host_start_note(const struct host *h);
const struct err *host_start_error(const struct host *h);
raft_index host_applied(const struct host *h);
uint64_t host_applied_time(const struct host *h); /* leader's clock at that entry, us */
uint32_t host_pending(const struct host *h);      /* open calls */
uint32_t host_sessions(const struct host *h);     /* in the session tables */
uint64_t host_node(const struct host *h);         /* member id */
bool host_snapshotting(const struct host *h);     /* is one being taken? */

#pragma GCC visibility pop

#endif
