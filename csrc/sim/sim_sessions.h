/* What the session table of programs outside (server/clients.h) has to be after each entry of the log, by the simplest
 * means: nothing is sorted, nothing is linked, and what is in the table is found by looking at all of it. The table of
 * each node is compared with that: an expiry too early or too late, on some nodes or on all of them, an eviction of the
 * wrong session, a command let in twice, a table that a snapshot has lost. */
#ifndef RAFT_SIM_SIM_SESSIONS_H
#define RAFT_SIM_SIM_SESSIONS_H

#include "server/clients.h"
#include "sim/sim_check.h"
#include "wire/entry.h"

#pragma GCC visibility push(hidden)

/* What the machine in C answers to a visitor's command: u64 its value, the index where it was applied, the digest of
 * the state after it. For some values it comes to more than a table keeps. */
#define SIM_RESULT_BYTES 24u
void sim_result_put(uint8_t out[SIM_RESULT_BYTES], uint64_t value, struct sim_state state);
bool sim_result_is_large(uint64_t value);

struct sim_sessions;

/* NULL: no memory. */
struct sim_sessions *sim_sessions_new(struct sim_check *check, struct client_limits limits);
void sim_sessions_free(struct sim_sessions *s);
/* The bytes of an entry in some node's log: each one that is committed has to be told before a node has applied it. */
void sim_sessions_entry(struct sim_sessions *s, const struct entry *e);
/* The table of this node, which has applied all up to index: is it what it has to be? */
void sim_sessions_judge(struct sim_sessions *s, int node, raft_index index, const struct clients *table);

#pragma GCC visibility pop

#endif
