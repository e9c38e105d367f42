/* A directory that is made anew in place of one that was lost: the same node, another incarnation, and a mark that
 * stays until the others have admitted it anew. What was there is set aside, not deleted. One that is an older copy of
 * itself keeps what it holds - it is true, and only not all - and becomes another in the same way (store_rejoin).
 *
 * The mark is the file "rejoin", written first: from then on, whenever the directory is opened, what it says is
 * carried on. Body: step 8 (enum rejoin_step), number of the directory set aside 8 (0: there was nothing), then the
 * identity that the new directory has. */
#ifndef RAFT_STORE_REJOIN_H
#define RAFT_STORE_REJOIN_H

#include "store/identity.h"

#pragma GCC visibility push(hidden)

enum rejoin_step {
    REJOIN_MOVING = 1, /* what is here goes into the directory set-aside-NNN */
    REJOIN_MOVED,      /* what is here belongs to the new directory */
};

struct rejoin {
    uint64_t step; /* 0: there is no mark */
    uint64_t number;
    struct store_identity identity;

    struct io_job job; /* writes the mark and then the identity, or removes the mark */
    bool busy;
    int status;
    struct err error;
    void (*done)(void *ctx, int status);
    void *ctx;
};

/* All block. ERR_IO, ERR_FULL, ERR_NOMEM, ERR_CORRUPT, ERR_VERSION, naming the file. */

/* step 0: there is no mark. */
int rejoin_read(struct io *io, const char *dir, struct rejoin *out, struct err *e);
int rejoin_write(struct io *io, const char *dir, const struct rejoin *rejoin, struct err *e);
/* Name of the directory set aside, into out of STORE_SET_ASIDE_MAX. */
void rejoin_set_aside_name(char *out, uint64_t number);
bool rejoin_is_set_aside(const char *name);
/* Moves all of a node's files but lock, mark and (unless too) peers into the directory set aside. Can be done again. */
int rejoin_move(struct io *io, const char *dir, const struct rejoin *rejoin, bool peers_too, struct err *e);

#pragma GCC visibility pop

#endif
