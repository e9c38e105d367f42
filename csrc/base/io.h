/* The world a node lives in: clock, chance, files, links. Everything that a node does to the outside goes through
 * this one struct, so that two worlds can implement it: uv/ (threads, files and sockets) and sim/ (one seed, one
 * thread, faults). One conformance suite runs against both. Nothing above this header calls libuv or the kernel.
 *
 * Threads. A node's engine has a thread of its own. All events arrive there, or, while it sleeps or writes, on a thread
 * that has news for it (io_visit, the disk's lane), or on the host's while that only waits; never two at once, and each
 * sees all that the one before has done. Functions here may be called inside events. File functions block; they are
 * called while a node starts, and afterwards only from a job's work(), which runs on the thread of its lane, or on the
 * engine's own between two events. io_wake(), io_visit() and io_notify() may be called from any thread. In sim/ all of
 * it is one thread, and lanes are actors that the seed schedules.
 *
 * Units: microseconds, bytes. Paths are absolute or relative to the process; never made from a peer's bytes. */
#ifndef RAFT_BASE_IO_H
#define RAFT_BASE_IO_H

#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"

#pragma GCC visibility push(hidden)

struct io;
struct io_file;   /* an open file */
struct io_lock;   /* a held directory lock */
struct io_server; /* a listening address */

/* Work for another thread. The caller owns the struct and embeds it in its own (CONTAINER_OF). A lane runs its jobs
 * in order of submission, one at a time; done() follows as an event, in the same order. */
struct io_job {
    void (*work)(struct io_job *); /* in the lane: file functions only, on what the job alone holds */
    void (*done)(struct io_job *); /* an event; may free the job */
    struct io_job *next;           /* the world's, while submitted */
    bool brief;                    /* a hint, for IO_LANE_DISK: most likely it takes less than waking a thread does. The
                                      engine's own thread may do it; events go on if it takes long after all */
};

enum io_lane {
    IO_LANE_DISK, /* durable writes that somebody waits for: the log's, never behind anything slow */
    IO_LANE_BULK, /* reading ranges, preparing segments: may be slow, never delays a commit */
    IO_LANE_CHILD, /* waiting for a child (io_join): as slow as that is */
    IO_LANES
};

/* A connection, made or accepted. The world owns it and its memory; after closed() or io_link_close() it is gone.
 * user belongs to the engine. */
struct io_link {
    void *user;
};

/* Why a link went down. */
enum io_close {
    IO_CLOSE_REFUSED, /* connecting: nobody listens there */
    IO_CLOSE_UNREACHABLE, /* connecting: no answer, no route, name not resolved */
    IO_CLOSE_EOF,     /* the peer closed it */
    IO_CLOSE_RESET,   /* the connection broke */
};
const char *io_close_name(enum io_close reason); /* for people: "connection refused", ... Static memory. */

/* What the world tells an engine. None is called from inside a function below but io_visit. */
struct io_events {
    void (*turn)(void *engine);  /* after each burst of the others: what they gathered goes out in one piece */
    void (*alarm)(void *engine); /* the time set by io_alarm has come */
    void (*woken)(void *engine); /* io_wake or io_visit was called, once or more */
    void (*accepted)(void *engine, struct io_link *link); /* up already: bytes may follow */
    void (*connected)(void *engine, struct io_link *link);
    void (*received)(void *engine, struct io_link *link, const uint8_t *data, size_t size); /* any cut of the stream */
    void (*closed)(void *engine, struct io_link *link, enum io_close reason); /* not after io_link_close */
};

/* Names in a directory, sorted; freed by io_names_free. */
struct io_names {
    char **names;
    size_t count, capacity;
};
void io_names_free(struct io_names *names);

/* Flags of io_open. */
enum {
    IO_OPEN_WRITE = 1,  /* else for reading only */
    IO_OPEN_CREATE = 2, /* create, 0600; it is an error if it exists */
    IO_OPEN_DIRECT = 4, /* every write will be of whole IO_BLOCK blocks, aligned in file and memory: the world may
                           bypass the page cache; where it cannot, it quietly does not */
};
#define IO_BLOCK 4096u /* size and alignment of blocks for IO_OPEN_DIRECT */

/* Where the body of a child puts its bytes. */
struct io_sink {
    int (*put)(struct io_sink *sink, const void *data, size_t size, struct err *e); /* OK, ERR_FULL, ERR_IO */
};
typedef int io_body(void *ctx, struct io_sink *sink, struct err *e);
struct io_child;

/* One implementation. The functions below this struct are how it is called; their comments are the contract. */
struct io_ops {
    uint64_t (*now)(struct io *);
    uint64_t (*due)(struct io *, uint64_t after_us);
    uint64_t (*wall)(struct io *);
    uint64_t (*random)(struct io *);
    void (*alarm)(struct io *, uint64_t at_us);
    void (*wake)(struct io *);
    void (*visit)(struct io *);
    void (*notify)(struct io *);
    void (*stop)(struct io *);
    void (*submit)(struct io *, enum io_lane, struct io_job *);

    int (*open)(struct io *, const char *path, int flags, struct io_file **file, struct err *);
    void (*close)(struct io *, struct io_file *);
    int (*size)(struct io *, struct io_file *, uint64_t *size, struct err *);
    int (*read)(struct io *, struct io_file *, uint64_t at, void *data, size_t size, size_t *got, struct err *);
    void (*ahead)(struct io *, struct io_file *, uint64_t at, uint64_t size);
    int (*write)(struct io *, struct io_file *, uint64_t at, const void *data, size_t size, struct err *);
    int (*fill)(struct io *, struct io_file *, uint64_t size, struct err *);
    int (*put)(struct io *, struct io_file *, uint64_t at, const void *data, size_t size, struct err *);
    int (*sync)(struct io *, struct io_file *, struct err *);
    int (*rename)(struct io *, const char *from, const char *to, struct err *);
    int (*remove)(struct io *, const char *path, struct err *);
    int (*list)(struct io *, const char *dir, struct io_names *, struct err *);
    int (*make_dir)(struct io *, const char *dir, struct err *);
    int (*sync_dir)(struct io *, const char *dir, struct err *);
    int (*lock_dir)(struct io *, const char *dir, struct io_lock **, struct err *);
    void (*unlock_dir)(struct io *, struct io_lock *);
    int (*room)(struct io *, const char *dir, uint64_t *bytes, struct err *);

    int (*fork)(struct io *, const char *path, bool apart, io_body *body, void *ctx, struct io_child **, struct err *);
    int (*join)(struct io *, struct io_child *, struct err *);
    void (*kill)(struct io *, struct io_child *);
    void (*child_free)(struct io *, struct io_child *);

    int (*listen)(struct io *, const char *address, struct io_server **, struct err *);
    void (*unlisten)(struct io *, struct io_server *);
    int (*connect)(struct io *, const char *address, struct io_link **, struct err *);
    struct buf (*buffer)(struct io *);
    int (*send)(struct io *, struct io_link *, struct buf *frame);
    size_t (*queued)(struct io *, struct io_link *);
    void (*close_link)(struct io *, struct io_link *);
};

struct io {
    const struct io_ops *ops;
    const struct io_events *events; /* set by the engine before its first use */
    void *engine;                   /* handed to every event */
};

/* ---- time and chance ---- */

/* Monotonic clock: never falls, starts anywhere. Any thread. */
static inline uint64_t io_now(struct io *io) { return io->ops->now(io); }
/* A time of that clock that is so far ahead, and perhaps IO_DUE_LATE_US more: for deadlines by the million, since it
 * costs a fraction of io_now. Any thread. */
#define IO_DUE_LATE_US (20 * US_PER_MS)
static inline uint64_t io_due(struct io *io, uint64_t after_us) { return io->ops->due(io, after_us); }
/* Wall clock, since the Unix epoch: may jump. For people and for the leader's time stamps only. Any thread. */
static inline uint64_t io_wall(struct io *io) { return io->ops->wall(io); }
/* 64 random bits: from the system in the real world, from the seed in a simulated one. */
static inline uint64_t io_random(struct io *io) { return io->ops->random(io); }
/* events.alarm at this time or soon after; replaces the time set before; NEVER_US turns it off. */
static inline void io_alarm(struct io *io, uint64_t at_us) { io->ops->alarm(io, at_us); }

/* ---- threads ---- */

/* events.woken on the thread that has the loop, soon; several calls may become one. Any thread. */
static inline void io_wake(struct io *io) { io->ops->wake(io); }
/* The same for work that is short, on any thread: events may come from inside this call, if no other thread is at
 * them. */
static inline void io_visit(struct io *io) { io->ops->visit(io); }
/* Wakes the host (makes its descriptor readable). Any thread. */
static inline void io_notify(struct io *io) { io->ops->notify(io); }
/* The engine is finished: no event is delivered after this one returns. All links and servers are closed and no job
 * is submitted (precondition). */
static inline void io_stop(struct io *io) { io->ops->stop(io); }
/* Runs job->work on the lane, then job->done as an event. Never fails. */
static inline void io_submit(struct io *io, enum io_lane lane, struct io_job *job) { io->ops->submit(io, lane, job); }

/* ---- files: all return OK or an ERR_ code, and set e (never NULL) with the path and the system's reason ---- */

/* ERR_NOENT, ERR_EXIST, ERR_FULL, ERR_IO. */
static inline int io_open(struct io *io, const char *path, int flags, struct io_file **file, struct err *e)
{
    return io->ops->open(io, path, flags, file, e);
}
static inline void io_close(struct io *io, struct io_file *file) { io->ops->close(io, file); }
static inline int io_size(struct io *io, struct io_file *file, uint64_t *size, struct err *e)
{
    return io->ops->size(io, file, size, e);
}
/* Reads up to size bytes; *got is less only at the end of the file. */
static inline int io_read(struct io *io, struct io_file *file, uint64_t at, void *data, size_t size, size_t *got,
                          struct err *e)
{
    return io->ops->read(io, file, at, data, size, got, e);
}
/* A hint: these bytes will be read soon, the disk may fetch them meanwhile. Comes back at once, and cannot fail. */
static inline void io_ahead(struct io *io, struct io_file *file, uint64_t at, uint64_t size)
{
    io->ops->ahead(io, file, at, size);
}
/* Durable write, one operation: OK means that the bytes (and the file's size) are on stable storage. Where it begins
 * behind the end of the file, what lies between becomes zero. After an error
 * anything from none to all of them may be; the caller must not go on as if it knew. */
static inline int io_write(struct io *io, struct io_file *file, uint64_t at, const void *data, size_t size,
                           struct err *e)
{
    return io->ops->write(io, file, at, data, size, e);
}
/* Makes the file size bytes long, all zero and really allocated, and durable: later writes inside it find room
 * and change no metadata. ERR_FULL when there is no room (what was allocated is the caller's to remove). */
static inline int io_fill(struct io *io, struct io_file *file, uint64_t size, struct err *e)
{
    return io->ops->fill(io, file, size, e);
}
/* A write that need not be durable yet: io_read sees it at once; power loss before io_sync leaves any part of it, and
 * of several of them any, in no order. For large files written in pieces; not for one opened with IO_OPEN_DIRECT, and
 * not mixed with io_write. ERR_FULL. */
static inline int io_put(struct io *io, struct io_file *file, uint64_t at, const void *data, size_t size, struct err *e)
{
    return io->ops->put(io, file, at, data, size, e);
}
/* Makes all that was put into the file durable, by whatever handle or process. After an error anything from none to all
 * of it may be, and no later io_sync tells: the file is to be given up. */
static inline int io_sync(struct io *io, struct io_file *file, struct err *e)
{
    return io->ops->sync(io, file, e);
}
/* Replaces what has the new name. Durable only after io_sync_dir. */
static inline int io_rename(struct io *io, const char *from, const char *to, struct err *e)
{
    return io->ops->rename(io, from, to, e);
}
static inline int io_remove(struct io *io, const char *path, struct err *e) { return io->ops->remove(io, path, e); }
/* Names in dir but "." and "..", sorted by bytes. */
static inline int io_list(struct io *io, const char *dir, struct io_names *names, struct err *e)
{
    return io->ops->list(io, dir, names, e);
}
/* Creates dir, 0700, and missing parents, durably; OK if it is there already. */
static inline int io_make_dir(struct io *io, const char *dir, struct err *e) { return io->ops->make_dir(io, dir, e); }
/* Makes created, renamed and removed names in dir durable. */
static inline int io_sync_dir(struct io *io, const char *dir, struct err *e) { return io->ops->sync_dir(io, dir, e); }
/* One holder a directory, over all processes; released by unlock_dir and by the death of the process; not inherited
 * by a forked child. ERR_LOCKED when another holds it. */
static inline int io_lock_dir(struct io *io, const char *dir, struct io_lock **lock, struct err *e)
{
    return io->ops->lock_dir(io, dir, lock, e);
}
static inline void io_unlock_dir(struct io *io, struct io_lock *lock) { io->ops->unlock_dir(io, lock); }
/* Bytes that can still be written under dir. */
static inline int io_room(struct io *io, const char *dir, uint64_t *bytes, struct err *e)
{
    return io->ops->room(io, dir, bytes, e);
}

/* ---- children: a large state is written while the node goes on ---- */

/* Runs body(ctx, sink, e) on this process's memory as it is now. apart: in a process of its own, a forked child, while
 * this one goes on (in a simulated world, which has one process: at once); else here, before io_fork returns. What the
 * body puts becomes the file `path`, which must not exist. The body may read memory, allocate and put; it uses no
 * other part of struct io. Its error is told by io_join. Host's thread.
 * ERR_EXIST, ERR_NOENT, ERR_FULL, ERR_IO, ERR_NOMEM: nothing runs, there is no child and no file. */
static inline int io_fork(struct io *io, const char *path, bool apart, io_body *body, void *ctx,
                          struct io_child **child, struct err *e)
{
    return io->ops->fork(io, path, apart, body, ctx, child, e);
}
/* Waits for a child to end; in a job of IO_LANE_CHILD, once a child. OK: the file is whole and durable (its name needs
 * io_sync_dir). Else the body's error, or what befell the process (ERR_IO); the file may be there, in part. */
static inline int io_join(struct io *io, struct io_child *child, struct err *e) { return io->ops->join(io, child, e); }
/* Ends a child that is not wanted any more, so that io_join comes back soon. In an event. */
static inline void io_kill(struct io *io, struct io_child *child) { io->ops->kill(io, child); }
/* Precondition: joined, or its world has died (a simulated crash). In an event. */
static inline void io_child_free(struct io *io, struct io_child *child) { io->ops->child_free(io, child); }

/* ---- links: byte streams between nodes; addresses are "host:port" or "[v6]:port" ---- */

/* ERR_ADDRESS: cannot be parsed, resolved or bound (in use). Accepted links come as events. While the engine starts, or
 * in an event of a link. */
static inline int io_listen(struct io *io, const char *address, struct io_server **server, struct err *e)
{
    return io->ops->listen(io, address, server, e);
}
static inline void io_unlisten(struct io *io, struct io_server *server) { io->ops->unlisten(io, server); }
/* Starts connecting: connected() or closed() follows. An error here (ERR_ADDRESS, ERR_NOMEM, ERR_IO) means that there
 * is no link and no event. */
static inline int io_connect(struct io *io, const char *address, struct io_link **link, struct err *e)
{
    return io->ops->connect(io, address, link, e);
}
/* An empty buffer for a frame, perhaps with the room of one that has left. The caller's, like any other. */
static inline struct buf io_buffer(struct io *io) { return io->ops->buffer(io); }
/* Queues one frame on a link that is up; takes the bytes out of *frame, which is empty afterwards whatever the
 * result. ERR_NOMEM: not queued. No other failure: a broken link says so by closed(). */
static inline int io_send(struct io *io, struct io_link *link, struct buf *frame)
{
    return io->ops->send(io, link, frame);
}
/* Bytes handed to io_send that have not left yet: the caller's bound on its queue. */
static inline size_t io_queued(struct io *io, struct io_link *link) { return io->ops->queued(io, link); }
/* Closes at once and drops what was queued; no event follows. */
static inline void io_link_close(struct io *io, struct io_link *link) { io->ops->close_link(io, link); }

#pragma GCC visibility pop

#endif
