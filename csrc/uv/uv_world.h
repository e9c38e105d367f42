/* The real world: struct io on libuv. One engine thread with a loop of its own (never the user's, never
 * luv's), one thread a lane, all with every signal blocked. */
#ifndef RAFT_UV_UV_WORLD_H
#define RAFT_UV_UV_WORLD_H

#include "base/io.h"

#pragma GCC visibility push(hidden)

struct uv_world;

/* notify_fd: an eventfd that io_notify writes to; not owned. ERR_NOMEM, ERR_IO. */
int uv_world_new(struct uv_world **out, int notify_fd, struct err *e);
struct io *uv_world_io(struct uv_world *w);

/* Starts the engine's thread, which calls start(arg) and, if that returns OK, delivers events until io_stop.
 * ERR_IO: no thread was started. */
int uv_world_run(struct uv_world *w, int (*start)(void *arg), void *arg, struct err *e);
/* Host: sleeps until notify_fd is readable, ms are over (-1: never) or a signal comes, in place of a poll() of that
 * descriptor alone. keeps: it may keep watch over the loop meanwhile, so that events come from inside this call: what
 * it waits for finds it awake then, while otherwise the engine's thread is woken first, and wakes this one. Keeping
 * watch begins after some such calls in a row, and ends with the first one without. Precondition: running. */
void uv_world_wait(struct uv_world *w, int ms, bool keeps);
/* Waits for the thread to end: after io_stop, or after start failed. */
void uv_world_join(struct uv_world *w);
/* Precondition: never run, or joined. NULL is allowed. */
void uv_world_free(struct uv_world *w);

#pragma GCC visibility pop

#endif
