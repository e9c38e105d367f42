/* Which life of its node this is, and how far its log had come for sure.
 *
 * The life is a number for each opening, larger than any before it. The batch is noted at each opening and at a clean
 * end; a log that does not get there any more has lost something, even if what is left looks whole.
 *
 * Unlike identity and peers this changes with each start, which must not need room on the disk: the file holds it
 * twice, in blocks of their own that are overwritten one after the other, the better one last. A torn write leaves the
 * other copy; after both writes either copy alone is enough.
 *
 *   offset size
 *        0    8  magic "RaftLife"
 *        8    4  version: 1
 *       12    4  zero
 *       16    8  life
 *       24    8  number of the newest durable batch that is no seal; 0 = none
 *       32  128  lives before this one, newest first; 0 = none
 *      160    8  hash of bytes 0..159 */
#ifndef RAFT_STORE_EPOCH_H
#define RAFT_STORE_EPOCH_H

#include "base/io.h"
#include "wire/hello.h"

#pragma GCC visibility push(hidden)

struct epoch {
    uint64_t life;  /* at least the wall clock when it began, us */
    uint64_t batch; /* the newest durable one that is no seal; 0 = none */
    uint64_t before[HELLO_LIVES]; /* lives, newest first */
};

/* The next life of the same directory: life becomes the newest of those before. batch is left as it is. */
void epoch_begin_life(struct epoch *epoch, uint64_t life);

/* All block and name the file in their errors: ERR_FULL, ERR_IO, ERR_NOMEM. */

/* For a new directory; replaces what an interrupted creation has left. */
int epoch_create(struct io *io, const char *dir, const struct epoch *epoch, struct err *e);
int epoch_update(struct io *io, const char *dir, const struct epoch *epoch, struct err *e);
/* Also ERR_NOENT, ERR_CORRUPT: neither copy is whole; ERR_VERSION. */
int epoch_read(struct io *io, const char *dir, struct epoch *out, struct err *e);

#pragma GCC visibility pop

#endif
