/* Reading a file from front to back in large pieces, with a view on any range of it. Blocks: recovery, and the bulk
 * lane. */
#ifndef RAFT_STORE_WINDOW_H
#define RAFT_STORE_WINDOW_H

#include "base/io.h"

#pragma GCC visibility push(hidden)

struct window {
    struct io *io;
    struct io_file *file;
    const char *path;   /* for errors; borrowed */
    uint64_t file_size; /* no byte from here on is looked at */
    uint64_t at;        /* of data in the file */
    uint8_t *data;
    size_t size, capacity;
    size_t piece;       /* read at once, at least */
};

void window_init(struct window *w, struct io *io, struct io_file *file, const char *path, uint64_t file_size,
                 size_t piece);
void window_free(struct window *w);

/* Points *p at bytes offset .. offset + size - 1; valid until the next call. ERR_NOENT: file_size ends before (e is
 * not set); ERR_CORRUPT: the file itself does, though it was longer; ERR_IO, ERR_NOMEM. */
int window_view(struct window *w, uint64_t offset, size_t size, const uint8_t **p, struct err *e);

#pragma GCC visibility pop

#endif
