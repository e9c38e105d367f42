/* The incarnations of peers and the newest life of each, remembered durably: how a peer is told that comes back with an
 * empty directory, or with an old copy of its own. */
#ifndef RAFT_STORE_PEERS_H
#define RAFT_STORE_PEERS_H

#include "base/io.h"

#pragma GCC visibility push(hidden)

struct peer_known {
    uint64_t node, incarnation, epoch;
};

struct peer_request; /* one store_remember_peer on its way */

struct peers {
    struct peer_known *known; /* durable */
    size_t n, capacity;
    struct peer_request *waiting, **waiting_end, *writing; /* writing: what the running job makes durable */
    size_t n_requests; /* waiting and being written; known has room for them */
    struct io *io;
    char *dir; /* borrowed */
    struct io_job job;
    struct buf body; /* of the file, as the job writes it */
    int status;
    struct err error;
};

void peers_init(struct peers *p, struct io *io, char *dir);
void peers_free(struct peers *p); /* requests too, without telling anyone */
/* Blocks. Writes the file as it is known; for a new directory. */
int peers_write(struct peers *p, struct err *e);
/* Blocks. ERR_NOENT: there is no file. */
int peers_read(struct peers *p, struct err *e);
bool peers_busy(const struct peers *p);

#pragma GCC visibility pop

#endif
