/* The host half of a node: sessions, apply, and the open calls of this node. It owns no thread: its user calls host_step
 * when the world notified it.
 *
 * A proposal is known by its sequence: the machine's apply is told the sequence of what was proposed here, so that the
 * caller gets what its own node's apply returned. What was never applied ends by done(). Exactly one of the two comes
 * for every sequence, exactly once. */
#ifndef RAFT_SERVER_HOST_H
#define RAFT_SERVER_HOST_H

#include "server/channel.h"
#include "wire/entry.h"

#pragma GCC visibility push(hidden)

struct host;

enum host_verdict { HOST_GO_ON, HOST_HALT };

/* The user's side. None of these may jump out (a Lua error is caught before it gets here). They may call host_propose,
 * host_barrier, host_cancel, host_close; not host_step. */
struct host_machine {
    /* The next command in the log; time_us never falls. sequence: of our own proposal, or 0. HOST_HALT: the machine
     * cannot go on (out of memory, interrupted): the node stops, the command counts as not applied here. */
    enum host_verdict (*apply)(void *ctx, const struct entry *command, uint64_t time_us, uint64_t sequence);
    /* An open call ended without an apply of its own: OK (a barrier has been passed, at index), or the code of
     * NOTICE_REFUSED, ERR_CLOSED (never handed over), ERR_UNKNOWN (open when the node closed), ERR_REFUSED (fenced by
     * a later life of this node). */
    void (*done)(void *ctx, uint64_t sequence, int code, raft_index index);
    /* started(code): once, after which calls are accepted if it is OK (else host_start_error says why). */
    void (*started)(void *ctx, int code);
    /* There is a newer status. */
    void (*changed)(void *ctx, const struct server_status *status);
    /* The engine has ended; no call comes after this one. */
    void (*closed)(void *ctx);
};

/* machine is copied; channel outlives the host. pending, pending_bytes: bounds of open proposals. NULL: no memory. */
struct host *host_new(struct channel *channel, const struct host_machine *machine, void *ctx, uint32_t pending,
                      uint64_t pending_bytes);
/* Precondition: closed() was called, or the engine never started, or its world has died (a simulated crash). */
void host_free(struct host *h);

/* Takes notices and applies, at most `entries` of them. true: there is more, call again soon. When it returns false the
 * world will notify. Not reentrant (asserted). */
bool host_step(struct host *h, uint32_t entries);

/* Proposes a block from entry_new (COMMAND); takes it whatever the result. ERR_BUSY (bounds), ERR_CLOSED, ERR_FAULT: not
 * handed over, no callback follows. *sequence is > 0. */
int host_propose(struct host *h, struct block *block, uint64_t *sequence);
/* A barrier: done(OK) when everything committed before this call is applied here. Each call is one entry:
 * callers that can share one do. Errors as host_propose, and ERR_NOMEM. */
int host_barrier(struct host *h, uint64_t *sequence);
/* Gives up waiting: done() follows soon, with ERR_NOT_LEADER or ERR_TIMEOUT (or an apply that was faster). */
void host_cancel(struct host *h, uint64_t sequence);
/* Starts closing; done() for all that is open, then closed(). Twice is harmless. */
void host_close(struct host *h);

const struct server_status *host_status(const struct host *h); /* the newest taken; valid until host_step */
const struct err *host_start_error(const struct host *h);
raft_index host_applied(const struct host *h);
uint64_t host_applied_time(const struct host *h); /* leader's clock at that entry, us */
uint32_t host_pending(const struct host *h);      /* open calls */
uint32_t host_sessions(const struct host *h);     /* in the session table */
uint64_t host_node(const struct host *h);         /* member id */

#pragma GCC visibility pop

#endif
