/* Who a directory belongs to, and which life of its node this is. */
#ifndef RAFT_STORE_IDENTITY_H
#define RAFT_STORE_IDENTITY_H

#include "store/store.h"

#pragma GCC visibility push(hidden)

/* All block and name the file in their errors. */

/* Written once. */
int identity_write(struct io *io, const char *dir, const struct store_identity *id, struct err *e);
/* ERR_NOENT: the directory has none. ERR_CORRUPT, ERR_VERSION, ERR_IO, ERR_NOMEM. */
int identity_read(struct io *io, const char *dir, struct store_identity *out, struct err *e);
/* ERR_FOREIGN: found is not of the cluster and node that config asks for. */
int identity_compare(const char *dir, const struct store_identity *found, const struct store_identity *wanted,
                     struct err *e);

/* The epoch file also remembers the newest segment in use, so that its loss is noticed. */
struct epoch {
    uint64_t life;    /* larger at each opening: at least the wall clock, us */
    uint64_t segment; /* number of the newest live segment when it was written; 0 = none yet */
};
int epoch_write(struct io *io, const char *dir, const struct epoch *epoch, struct err *e);
int epoch_read(struct io *io, const char *dir, struct epoch *out, struct err *e);

#pragma GCC visibility pop

#endif
