/* Messages of the core, and proposals on their way to the leader, as frames. What their meta holds, little-endian:
 *
 *   MESSAGE        u8 type, u64 from, to, term; then what the type uses and no more:
 *     APPEND           u64 index, log_term, commit, u32 number of entries (stamped), which follow meta
 *     APPEND_REPLY     u8 reject, u64 index, log_term, hint
 *     HEARTBEAT        u64 commit, context, round, u32 lease_us
 *     HEARTBEAT_REPLY  u64 index, commit, context, round, i32 priority
 *     VOTE             u8 pre, u64 index, log_term, u8 force
 *     VOTE_REPLY       u8 pre, reject, u64 index, log_term
 *     TIMEOUT_NOW      nothing
 *   FORWARD        u32 number of entries (not stamped), which follow meta; u64 hash over their headers: h = 0, then
 *                  h = hash of the next header with seed h (they have no header hash before the leader's stamp)
 *   FORWARD_REPLY  i32 code, u32 number of sequences, u64 each
 *   PING, PONG     u64
 *
 * Truth values are 0 or 1. Every byte has its place: what is too long or too short is refused. */
#ifndef RAFT_WIRE_MESSAGE_H
#define RAFT_WIRE_MESSAGE_H

#include "core/types.h"
#include "wire/entry.h"
#include "wire/frame.h"

#pragma GCC visibility push(hidden)

#define MESSAGE_ENTRIES_MAX 65536u /* in one frame */

/* Appends one FRAME_MESSAGE. entries: m->n_entries blocks (APPEND only; m->entries is not looked at).
 * false: no memory, out unchanged. */
bool message_write(struct buf *out, uint32_t group, const struct raft_message *m, struct block *const *entries);

/* Precondition of all reads: f->type is theirs. */

/* Reads a FRAME_MESSAGE. Entries become blocks of their own, each checked, configurations are read; their indexes must
 * follow out->index one by one, their terms must neither fall nor lie above the message's. out->entries is allocated
 * here: give it back with message_free. ERR_CORRUPT, ERR_NOMEM; nothing to free then. */
int message_read(const struct frame *f, struct raft_message *out, struct err *e);
void message_free(struct raft_message *m); /* drops the entries' references and the array */

/* Appends one FRAME_FORWARD with n > 0 unstamped entries (COMMAND or BARRIER, each with a session). */
bool forward_write(struct buf *out, uint32_t group, struct block *const *entries, size_t n);
/* Reads a FRAME_FORWARD (n > 0) into an array of n new blocks. Free each with block_unref, the array with mem_free. */
int forward_read(const struct frame *f, struct block ***entries, size_t *n, struct err *e);

/* The answer for those that were not taken: why (ERR_NOT_LEADER, ERR_BUSY, ERR_FULL, ERR_TOO_LARGE), and which. */
bool forward_reply_write(struct buf *out, uint32_t group, int code, const uint64_t *sequences, size_t n);
/* *sequences points to an allocated array (mem_free). */
int forward_reply_read(const struct frame *f, int *code, uint64_t **sequences, size_t *n, struct err *e);

/* FRAME_PING and FRAME_PONG. */
bool ping_write(struct buf *out, uint32_t group, enum frame_type type, uint64_t stamp);
int ping_read(const struct frame *f, uint64_t *stamp, struct err *e);

#pragma GCC visibility pop

#endif
