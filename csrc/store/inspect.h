/* Looking into a directory while no node has it: for tools. Nothing in it is changed (but that the file "lock" is
 * created where it is missing). All functions block. */
#ifndef RAFT_STORE_INSPECT_H
#define RAFT_STORE_INSPECT_H

#include "store/format.h"
#include "store/store.h"

#pragma GCC visibility push(hidden)

/* Told of what is found, as it is found: headers of all segments first, then batches in order, each before its entries.
 * What a later batch voids is told of too. */
struct inspect_visitor {
    void (*segment)(void *ctx, uint64_t file, uint64_t size, const struct segment_header *header);
    void (*entry)(void *ctx, const struct entry *entry);
    void (*batch)(void *ctx, uint64_t file, const struct batch_header *batch);
    void *ctx;
};

struct inspection;

/* Looks through all of dir. force: even while a node has it, whose last writes may then look torn or missing. *out:
 * what store_open would tell (epoch: of the last life); freed by store_recovered_free. *found is OK,
 * or what store_open would refuse it with: *out and *in then tell what could be read before that. ERR_LOCKED,
 * ERR_NOMEM, ERR_IO: there is no *in. */
int inspect_open(struct inspection **in, struct io *io, const char *dir, bool force,
                 const struct inspect_visitor *visitor, struct store_recovered *out, struct err *found, struct err *e);
void inspect_close(struct inspection *in);
/* Entries from first on, as store_read has them (first, last, max_bytes, and what is out; nothing else is used). */
int inspect_read(struct inspection *in, struct store_read *read);
/* The newest sound snapshot, from its beginning; the caller closes it (snapshot_scan_close). ERR_NOENT: there is
 * none. */
struct snapshot_scan;
int inspect_snapshot(struct inspection *in, struct snapshot_scan *scan, struct err *e);

#pragma GCC visibility pop

#endif
