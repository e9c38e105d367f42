#include "sim/sim_children.h"

#include "base/mem.h"
#include "sim/sim_queue.h"

struct io_child {
    char *path;
    struct buf bytes;
    struct err result;
    bool killed;
};

struct buf_sink {
    struct io_sink sink;
    struct io_child *child;
};

static int sink_put(struct io_sink *sink, const void *data, size_t size, struct err *e)
{
    (void)e;
    sim_buf_append(&CONTAINER_OF(sink, struct buf_sink, sink)->child->bytes, data, size);
    return OK;
}

int sim_child_fork(struct io *io, const char *path, bool apart, io_body *body, void *ctx, struct io_child **child,
                   struct err *e)
{
    (void)apart;
    struct io_file *file;
    int rv = io_open(io, path, IO_OPEN_CREATE, &file, e);
    if (rv != OK) return rv;
    io_close(io, file);
    struct io_child *c = sim_alloc(sizeof *c);
    struct buf_sink sink = {.sink.put = sink_put, .child = c};
    c->path = sim_strdup(path);
    c->result.code = body(ctx, &sink.sink, &c->result);
    *child = c;
    return OK;
}

int sim_child_join(struct io *io, struct io_child *c, struct err *e)
{
    struct io_file *file;
    if (c->killed) return err_set(e, ERR_IO, "the process that wrote the snapshot was ended by signal 9");
    if (c->result.code != OK) {
        *e = c->result;
        return e->code;
    }
    int rv = io_open(io, c->path, IO_OPEN_WRITE, &file, e);
    if (rv != OK) return rv;
    rv = io_put(io, file, 0, c->bytes.data, c->bytes.size, e);
    if (rv == OK) rv = io_sync(io, file, e);
    io_close(io, file);
    return rv;
}

void sim_child_kill(struct io *io, struct io_child *c)
{
    (void)io;
    c->killed = true;
}

void sim_child_free(struct io *io, struct io_child *c)
{
    (void)io;
    mem_free(c->path);
    buf_free(&c->bytes);
    mem_free(c);
}
