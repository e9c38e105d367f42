/* Memory for what comes and goes in about the order of the log, by the million, from any thread: entries in memory and
 * the lists of them. It costs little more than what was asked for, is given out by moving a pointer, and the kernel may
 * have it when it is not needed for a while.
 *
 * A slab is a run of pages. Each thread cuts pieces from one of its own; any thread frees them, and whoever frees a
 * slab's last piece passes it on to whatever thread needs one next. So a piece that stays holds SLAB_BYTES: what lives
 * long has no place here. A forked child sees zeros: nothing of a slab is copied for it, neither at the fork nor when
 * the parent writes afterwards. Under ASan every piece is a block of malloc's, so that its mistakes are told. */
#ifndef RAFT_BASE_SLAB_H
#define RAFT_BASE_SLAB_H

#include "base/base.h"

#pragma GCC visibility push(hidden)

#define SLAB_BYTES ((size_t)64 << 10)
#define SLAB_PIECE_MAX (SLAB_BYTES / 8) /* what is larger comes from mem_alloc */
#define SLAB_ALIGNMENT ((size_t)8)

void *slab_alloc(size_t size); /* not zeroed; NULL when out of memory (mem_fail_at counts it too) */
void slab_free(void *piece, size_t size); /* the size that was asked for. Any thread */
/* Offers the kernel memory that nobody has needed since the last call; to be called every few seconds, by any
 * thread. */
void slab_rest(void);

#pragma GCC visibility pop

#endif
