/* Small checksummed files beside the log, replaced as a whole: written aside, durable, renamed, directory synced.
 * After a crash either the old one is there or the new one.
 *
 *   offset size
 *        0    8  magic "RaftFile"
 *        8    4  version: 1
 *       12    4  kind (enum smallfile_kind)
 *       16    4  size of the body
 *       20    4  zero
 *       24    8  hash of the body, seeded by the hash of bytes 0..23
 *       32       body */
#ifndef RAFT_STORE_SMALLFILE_H
#define RAFT_STORE_SMALLFILE_H

#include "base/io.h"

#pragma GCC visibility push(hidden)

enum smallfile_kind { SMALLFILE_IDENTITY = 1, SMALLFILE_PEERS, SMALLFILE_REJOIN };

#define SMALLFILE_BODY_MAX 65536u

/* Blocks. ERR_FULL, ERR_IO, ERR_NOMEM, ERR_TOO_LARGE (body above the limit). */
int smallfile_write(struct io *io, const char *dir, enum smallfile_kind kind, const void *body, size_t size,
                    struct err *e);

/* Blocks. *body is the caller's (buf_free), also after an error. ERR_NOENT: there is no such file; ERR_CORRUPT,
 * ERR_VERSION, ERR_IO, ERR_NOMEM. */
int smallfile_read(struct io *io, const char *dir, enum smallfile_kind kind, struct buf *body, struct err *e);

/* Name of the file of a kind. Static memory. */
const char *smallfile_name(enum smallfile_kind kind);

#pragma GCC visibility pop

#endif
