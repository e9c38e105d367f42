#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "uv/uv_internal.h"

/* A child is a copy of the whole process, of which only the thread that forked is left. It writes one file and leaves
 * by _exit: no finaliser runs, nothing that it has inherited is closed in an orderly way. What became of it comes back
 * through a pipe; that the pipe ends without a word means that it was killed. */

#define SINK_BYTES ((size_t)64 << 10)
#define SYNC_EVERY_BYTES ((uint64_t)8 << 20) /* so that the last sync does not hold up everybody's disk */
#define CHILD_NICE 10                        /* heartbeats and commits come first */

struct io_child {
    pid_t pid;       /* 0: it ran in this process */
    int pid_fd;      /* for kill; a number alone may belong to somebody else by then */
    int results_fd;  /* the pipe's end here */
    int file_fd;     /* not apart: the file, to be synced */
    struct err result;
};

struct file_sink {
    struct io_sink sink;
    const char *path;
    int fd;
    uint64_t written; /* since the last sync */
    size_t used;
    uint8_t bytes[SINK_BYTES];
};

/* ---- the file ---- */

static int write_all(struct file_sink *s, const uint8_t *data, size_t size, struct err *e)
{
    while (size > 0) {
        ssize_t wrote = write(s->fd, data, size);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return files_fail(e, "write", s->path);
        data += wrote;
        size -= (size_t)wrote;
        s->written += (uint64_t)wrote;
    }
    if (s->written < SYNC_EVERY_BYTES) return OK;
    s->written = 0;
    return fdatasync(s->fd) == 0 ? OK : files_fail(e, "write", s->path);
}

static int sink_flush(struct file_sink *s, struct err *e)
{
    size_t used = s->used;
    s->used = 0;
    return write_all(s, s->bytes, used, e);
}

static int sink_put(struct io_sink *sink, const void *data, size_t size, struct err *e)
{
    struct file_sink *s = CONTAINER_OF(sink, struct file_sink, sink);
    if (s->used + size > SINK_BYTES) {
        int rv = sink_flush(s, e);
        if (rv != OK) return rv;
    }
    if (size > SINK_BYTES) return write_all(s, data, size, e);
    memcpy(s->bytes + s->used, data, size);
    s->used += size;
    return OK;
}

/* Runs the body; the file holds all that it has put, not synced yet. */
static int run(struct file_sink *s, io_body *body, void *ctx, struct err *e)
{
    s->sink.put = sink_put;
    int rv = body(ctx, &s->sink, e);
    return rv == OK ? sink_flush(s, e) : rv;
}

/* ---- the child's side ---- */

/* Dies with its parent, is not bothered by a terminal's Ctrl-C, keeps no descriptor but its two: another process would
 * not get the port or the directory that this one seems to hold. */
static void become_child(pid_t parent, int file_fd, int results_fd)
{
    int low = MIN(file_fd, results_fd), high = MAX(file_fd, results_fd);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1); /* it died before that */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    setpriority(PRIO_PROCESS, 0, CHILD_NICE);
    prctl(PR_SET_NAME, "raft-snapshot");
    if (low > 3) syscall(SYS_close_range, 3u, (unsigned)low - 1, 0u);
    if (high > low + 1) syscall(SYS_close_range, (unsigned)low + 1, (unsigned)high - 1, 0u);
    syscall(SYS_close_range, (unsigned)high + 1, ~0u, 0u);
}

static _Noreturn void child_main(struct file_sink *s, int results_fd, io_body *body, void *ctx)
{
    struct err result = {0};
    result.code = run(s, body, ctx, &result);
    if (result.code == OK && fdatasync(s->fd) != 0) files_fail(&result, "write", s->path);
    ssize_t wrote = write(results_fd, &result, sizeof result); /* whole: it is less than PIPE_BUF */
    _exit(wrote == (ssize_t)sizeof result ? 0 : 1);
}

/* ---- the parent's side ---- */

static int fork_apart(struct io_child *c, struct file_sink *s, io_body *body, void *ctx, struct err *e)
{
    int ends[2];
    pid_t parent = getpid();
    if (pipe2(ends, O_CLOEXEC) != 0) return files_fail(e, "make a pipe for", s->path);
    c->pid = fork();
    if (c->pid == 0) {
        become_child(parent, s->fd, ends[1]);
        child_main(s, ends[1], body, ctx);
    }
    int code = errno;
    close(ends[1]);
    if (c->pid > 0) {
        c->results_fd = ends[0];
        c->pid_fd = (int)syscall(SYS_pidfd_open, c->pid, 0);
        close(s->fd);
        return OK;
    }
    close(ends[0]);
    errno = code;
    return files_fail(e, "start a process that writes", s->path);
}

static int run_here(struct io_child *c, struct file_sink *s, io_body *body, void *ctx)
{
    c->result.code = run(s, body, ctx, &c->result);
    c->file_fd = s->fd;
    return OK;
}

int children_fork(struct io *io, const char *path, bool apart, io_body *body, void *ctx, struct io_child **child,
                  struct err *e)
{
    (void)io;
    struct io_child *c = mem_zero(1, sizeof *c);
    struct file_sink *s = mem_zero(1, sizeof *s);
    int rv = c == NULL || s == NULL ? err_set(e, ERR_NOMEM, "out of memory to write %.200s", path) : OK;
    if (rv == OK) {
        s->path = path;
        s->fd = open(path, O_CLOEXEC | O_NOFOLLOW | O_WRONLY | O_CREAT | O_EXCL, 0600);
        if (s->fd < 0) rv = files_fail(e, "create", path);
    }
    if (rv == OK) {
        *c = (struct io_child){.pid_fd = -1, .results_fd = -1, .file_fd = -1};
        rv = apart ? fork_apart(c, s, body, ctx, e) : run_here(c, s, body, ctx);
        if (rv != OK) {
            close(s->fd);
            unlink(path);
        }
    }
    mem_free(s);
    if (rv == OK) *child = c;
    else mem_free(c);
    return rv;
}

static int join_process(struct io_child *c, struct err *e)
{
    struct err result;
    ssize_t got;
    int status = 0;
    do got = read(c->results_fd, &result, sizeof result);
    while (got < 0 && errno == EINTR);
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR) continue;
    if (got != (ssize_t)sizeof result) {
        int number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
        return err_set(e, ERR_IO, "the process that wrote the snapshot was ended by signal %d%s", number,
                       number == SIGKILL ? " (out of memory?)" : "");
    }
    if (result.code != OK) *e = result;
    return result.code;
}

int children_join(struct io *io, struct io_child *c, struct err *e)
{
    (void)io;
    if (c->pid != 0) return join_process(c, e);
    if (c->result.code == OK && fdatasync(c->file_fd) != 0) files_fail(&c->result, "write", "the snapshot");
    if (c->result.code != OK) *e = c->result;
    return c->result.code;
}

/* A kernel without pidfd lets it finish. */
void children_kill(struct io *io, struct io_child *c)
{
    (void)io;
    if (c->pid_fd >= 0) syscall(SYS_pidfd_send_signal, c->pid_fd, SIGKILL, NULL, 0);
}

void children_free(struct io *io, struct io_child *c)
{
    (void)io;
    if (c->pid_fd >= 0) close(c->pid_fd);
    if (c->results_fd >= 0) close(c->results_fd);
    if (c->file_fd >= 0) close(c->file_fd);
    mem_free(c);
}
