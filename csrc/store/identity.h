/* Who a directory belongs to. */
#ifndef RAFT_STORE_IDENTITY_H
#define RAFT_STORE_IDENTITY_H

#include "store/store.h"

#pragma GCC visibility push(hidden)

#define IDENTITY_BYTES (16u + 8u + 8u + 4u + STORE_NAME_MAX + 4u + STORE_LIST_MAX) /* most of an encoded one */

/* Into IDENTITY_BYTES bytes: cluster id 16, node 8, incarnation 8, then name and list, each with its size (u32) before
 * it. Returns how many it used. */
size_t identity_encode(uint8_t *body, const struct store_identity *id);
/* false: it makes no sense. */
bool identity_decode(struct reader *r, struct store_identity *out);

/* For a directory that is new, or shall be another one for its peers. Never 0. */
uint64_t identity_draw_incarnation(struct io *io);

/* All block and name the file in their errors. */

int identity_write(struct io *io, const char *dir, const struct store_identity *id, struct err *e);
/* ERR_NOENT: the directory has none. ERR_CORRUPT, ERR_VERSION, ERR_IO, ERR_NOMEM. */
int identity_read(struct io *io, const char *dir, struct store_identity *out, struct err *e);
/* ERR_FOREIGN: found is not of the cluster and node that config asks for. */
int identity_compare(const char *dir, const struct store_identity *found, const struct store_identity *wanted,
                     struct err *e);

#pragma GCC visibility pop

#endif
