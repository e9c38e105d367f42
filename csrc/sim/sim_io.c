#include "sim/sim_io.h"

#include "sim/sim_children.h"
#include "sim/sim_net.h"
#include "sim/sim_trace.h"

static void io_end(struct io *io)
{
    struct sim_node *node = sim_node_of(io);
    ASSERT(sim_node_idle(node) && sim_net_quiet(node->net, node->number));
    node->stopped = true;
    sim_trace_add(node->queue->trace, SIM_TRACE_LIFE, node->queue->now_us, node->number, "stop", 0, NULL);
}

/* ---- the disk of this node ---- */

static struct sim_disk *disk_of(struct io *io)
{
    return &sim_node_of(io)->disk;
}

static int file_open(struct io *io, const char *path, int flags, struct io_file **file, struct err *e)
{
    return sim_disk_open(disk_of(io), path, flags, file, e);
}

static void file_close(struct io *io, struct io_file *file)
{
    sim_disk_close(disk_of(io), file);
}

static int file_size(struct io *io, struct io_file *file, uint64_t *size, struct err *e)
{
    return sim_disk_size(disk_of(io), file, size, e);
}

static int file_read(struct io *io, struct io_file *file, uint64_t at, void *data, size_t size, size_t *got,
                     struct err *e)
{
    return sim_disk_read(disk_of(io), file, at, data, size, got, e);
}

static int file_write(struct io *io, struct io_file *file, uint64_t at, const void *data, size_t size, struct err *e)
{
    return sim_disk_write(disk_of(io), file, at, data, size, e);
}

static int file_put(struct io *io, struct io_file *file, uint64_t at, const void *data, size_t size, struct err *e)
{
    return sim_disk_put_part(disk_of(io), file, at, data, size, e);
}

static int file_sync(struct io *io, struct io_file *file, struct err *e)
{
    return sim_disk_sync(disk_of(io), file, e);
}

static int file_fill(struct io *io, struct io_file *file, uint64_t size, struct err *e)
{
    return sim_disk_fill(disk_of(io), file, size, e);
}

/* Memory is no faster for a hint. */
static void file_ahead(struct io *io, struct io_file *file, uint64_t at, uint64_t size)
{
    (void)io;
    (void)file;
    (void)at;
    (void)size;
}

static int file_rename(struct io *io, const char *from, const char *to, struct err *e)
{
    return sim_disk_rename(disk_of(io), from, to, e);
}

static int file_remove(struct io *io, const char *path, struct err *e)
{
    return sim_disk_remove(disk_of(io), path, e);
}

static int dir_list(struct io *io, const char *dir, struct io_names *names, struct err *e)
{
    return sim_disk_list(disk_of(io), dir, names, e);
}

static int dir_make(struct io *io, const char *dir, struct err *e)
{
    return sim_disk_make_dir(disk_of(io), dir, e);
}

static int dir_sync(struct io *io, const char *dir, struct err *e)
{
    return sim_disk_sync_dir(disk_of(io), dir, e);
}

static int dir_lock(struct io *io, const char *dir, struct io_lock **lock, struct err *e)
{
    return sim_disk_lock_dir(disk_of(io), dir, lock, e);
}

static void dir_unlock(struct io *io, struct io_lock *lock)
{
    sim_disk_unlock_dir(disk_of(io), lock);
}

static int dir_room(struct io *io, const char *dir, uint64_t *bytes, struct err *e)
{
    return sim_disk_room(disk_of(io), dir, bytes, e);
}

static struct buf no_buffer(struct io *io)
{
    (void)io;
    return (struct buf){0};
}

const struct io_ops sim_io_ops = {
    .now = sim_node_now, .due = sim_node_due, .wall = sim_node_wall, .random = sim_node_random, .alarm = sim_node_alarm,
    .wake = sim_node_wake, .visit = sim_node_wake, .notify = sim_node_notify, .stop = io_end, .submit = sim_node_submit,
    .open = file_open, .close = file_close, .size = file_size, .read = file_read, .ahead = file_ahead,
    .write = file_write, .fill = file_fill, .put = file_put, .sync = file_sync, .rename = file_rename,
    .remove = file_remove, .list = dir_list, .make_dir = dir_make, .sync_dir = dir_sync, .lock_dir = dir_lock,
    .unlock_dir = dir_unlock, .room = dir_room,
    .fork = sim_child_fork, .join = sim_child_join, .kill = sim_child_kill, .child_free = sim_child_free,
    .listen = sim_net_listen, .unlisten = sim_net_unlisten, .connect = sim_net_connect, .buffer = no_buffer,
    .send = sim_net_send, .queued = sim_net_queued, .close_link = sim_net_close_link,
};
