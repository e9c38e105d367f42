/* What the files of the real world share. The struct belongs to whoever has the turn, but for the parts said to be
 * guarded or somebody's; libuv's part of it, to the thread that runs the loop. What a visitor wants of libuv is left
 * for that one, which ends its next burst with it: links to connect, to go on writing to, to close; an earlier alarm,
 * a write. */
#ifndef RAFT_UV_UV_INTERNAL_H
#define RAFT_UV_UV_INTERNAL_H

#include "base/io.h" /* first: libuv brings in <sys/param.h>, which has a MIN and MAX of its own */

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "uv/uv_turn.h"
#include "uv/uv_world.h"

#if UV_VERSION_HEX < 0x012c00
#error "raft needs libuv 1.44 or newer"
#endif

#pragma GCC visibility push(hidden)

#define UV_READ_BUFFER_BYTES (256u << 10)
#define UV_BUFFERS 4u                   /* kept for io_buffer, and of how many bytes at most: so that the steady */
#define UV_BUFFER_BYTES (1u << 20)      /* path neither allocates them nor grows them step by step */

struct uv_link;

/* Runs jobs in order: on a thread of its own, or, the disk's, on that of two which takes it (uv_watch.c). */
struct uv_lane {
    struct uv_world *world;
    pthread_t thread;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t more;
    struct io_job *first, **last;
    bool taken;  /* a thread is at its jobs; the disk's alone */
    bool slow;   /* its last write took long; of who has taken it */
    bool ending; /* the thread leaves when no job is left */
};

/* Wakes a thread: at once, or after a while. */
struct uv_bell {
    int call_fd, timer_fd;
};

/* The engine's thread and the disk's, of which one runs the loop and the other stands by, or the host's runs it; see
 * uv_watch.c. */
struct uv_watch {
    pthread_t engine, disk; /* as they begin */
    struct uv_post post;    /* of who runs the loop */
    struct uv_bell standby; /* for who stands by: there are jobs, or the world has ended; the loop was left for long */
    struct uv_bell lender;  /* for who lent it to the host: that does not want it any more, or the world has ended; the
                               host is away for long */
    bool lent;              /* the host runs it, or is to */
    uint32_t calm;          /* the host's: waits in a row in which it could have run the loop */
    _Atomic bool wanted;    /* by the host */
    _Atomic bool ended;
};

struct uv_world {
    struct io io;
    uv_loop_t loop;
    int wake_fd;          /* from other threads: there is something to see to; see world_signal */
    uv_poll_t wake;       /* of that */
    uv_timer_t timer;     /* io_alarm */
    uv_prepare_t prepare; /* ends a burst of timers, before the loop sleeps */
    uv_check_t check;     /* ends a burst of everything else, after the loop slept */
    struct uv_watch watch;
    bool running; /* between run and join; the host's */
    int (*start)(void *arg);
    void *start_arg;
    int notify_fd;
    struct uv_turn turn;
    bool inside;  /* who runs the loop has it; its own */
    bool visited; /* a visitor has it */
    bool begun;   /* the engine has started: events may be delivered */
    uint64_t alarm_us, armed_us; /* as asked for; as the timer is set. Or NEVER_US */
    bool dirty;   /* an event was delivered since the last turn */
    bool stopped; /* io_stop was called */
    bool write_due; /* who runs the loop is to leave it for a write */

    struct uv_lane lanes[IO_LANES];
    pthread_mutex_t done_mutex; /* guards the two that follow */
    struct io_job *done_first, **done_last;
    size_t jobs; /* submitted and not yet done */

    struct uv_link *todo_first, *todo_last; /* links to connect, write to or close at the end of the burst */
    struct io_server *closing;              /* servers to close then */
    size_t links, links_accepted, servers;  /* open ones */
    uint8_t *read_buffer;                   /* one for all links: bytes are handed on at once */
    struct buf buffers[UV_BUFFERS];         /* of frames that have left, empty */
    uint32_t n_buffers;

    _Atomic bool signalled; /* wake_fd was written to, and on_signal has not looked yet */
    _Atomic bool wake_asked, visit_asked;
};

static inline struct uv_world *world_of(struct io *io)
{
    return CONTAINER_OF(io, struct uv_world, io);
}

/* ---- uv_world.c ---- */

/* Any thread: has who runs the loop look at what is done and asked for. */
void world_signal(struct uv_world *w);
/* Any thread, after jobs were done or io_wake was called: tells whoever has the turn, or wakes who runs the loop. */
void world_tell(struct uv_world *w);
/* A thread that does not run the loop: the same, or sees to it here. */
void world_visit(struct uv_world *w);
/* Who runs the loop, at the beginning of each callback of libuv that may follow its sleep: takes the turn. */
void world_enter(struct uv_world *w);
/* At the end: gives it up. */
void world_leave(struct uv_world *w);
/* With the turn: delivers what is done and asked for; ends what was begun by that. */
void world_take_news(struct uv_world *w);
void world_end_burst(struct uv_world *w);
/* Any thread: writes to an eventfd. */
void world_make_readable(int event_fd);
/* Starts a thread that blocks every signal: handlers run on the host's threads only. An errno, or 0. */
int world_spawn(pthread_t *thread, const char *name, void *(*main)(void *), void *arg);
/* "no such file or directory" for an errno; static size of buffer: the caller's. Any thread. */
#define REASON_MAX 120
const char *world_reason(int code, char reason[REASON_MAX]);

/* ---- uv_lanes.c ---- */

int lanes_init(struct uv_world *w);     /* an errno, or 0 */
void lanes_free(struct uv_world *w);    /* precondition: not running */
int lanes_run(struct uv_world *w);      /* an errno, or 0; then no thread is left */
void lanes_join(struct uv_world *w);    /* runs what is still queued, then ends the threads */
void lanes_deliver(struct uv_world *w); /* calls done() of what is done */
void lanes_submit(struct io *io, enum io_lane lane, struct io_job *job);
/* Takes a lane and its next job. NULL: there is none, or somebody has the lane. */
struct io_job *lane_take(struct uv_lane *lane);
/* true: it has jobs, and nobody is called for them. */
bool lane_give_back(struct uv_lane *lane);
/* Puts a job among those that are done. true: it is the only one. */
bool lane_done(struct uv_lane *lane, struct io_job *job);
/* The same, and sees to it that it is delivered. Any thread without the turn. */
void lane_hand_over(struct uv_lane *lane, struct io_job *job);

/* ---- uv_watch.c ---- */

int watch_init(struct uv_world *w);  /* an errno, or 0 */
void watch_free(struct uv_world *w); /* precondition: not running */
int watch_run(struct uv_world *w);   /* starts both threads. An errno, or 0; then none is left */
void watch_join(struct uv_world *w);
/* Host: see uv_world_wait. */
void watch_wait(struct uv_world *w, int ms, bool keeps);
/* With the turn: the disk's lane, which nobody had, has a job now. brief: who runs the loop is to do it, unless that is
 * the host. */
void watch_submitted(struct uv_world *w, bool brief);

/* ---- uv_address.c ---- */

struct uv_address {
    char host[256];
    char port[6];
    bool numeric;                  /* host is an IPv4 or IPv6 address: no resolver is needed */
    struct sockaddr_storage where; /* when numeric */
};

/* Takes "host:port" or "[v6]:port" apart. ERR_ADDRESS. */
int address_parse(const char *text, struct uv_address *a, struct err *e);
size_t address_size(const struct sockaddr *where); /* of an IPv4 or IPv6 address, for the socket calls */

/* ---- uv_links.c ---- */

int links_connect(struct io *io, const char *address, struct io_link **link, struct err *e);
struct buf links_buffer(struct io *io);
int links_send(struct io *io, struct io_link *link, struct buf *frame);
size_t links_queued(struct io *io, struct io_link *link);
void links_close(struct io *io, struct io_link *link);
/* A link for an accepted socket, which it takes over whatever happens; says accepted(). */
void links_accept(struct uv_world *w, int fd);
/* Starts what connects, writes what was queued (one write a link, however many frames a burst gathered), closes. */
void links_flush_all(struct uv_world *w);
/* A visitor: writes what can be written at once. */
void links_flush_visited(struct uv_world *w);

/* ---- uv_servers.c ---- */

int servers_listen(struct io *io, const char *address, struct io_server **server, struct err *e);
void servers_unlisten(struct io *io, struct io_server *server);
void servers_close(struct uv_world *w); /* those that are not listened on any more; who runs the loop */

/* ---- uv_files.c ---- */

int files_open(struct io *io, const char *path, int flags, struct io_file **file, struct err *e);
void files_close(struct io *io, struct io_file *file);
int files_size(struct io *io, struct io_file *file, uint64_t *size, struct err *e);
int files_read(struct io *io, struct io_file *file, uint64_t at, void *data, size_t size, size_t *got,
               struct err *e);
void files_ahead(struct io *io, struct io_file *file, uint64_t at, uint64_t size);
int files_write(struct io *io, struct io_file *file, uint64_t at, const void *data, size_t size,
                struct err *e);
int files_fill(struct io *io, struct io_file *file, uint64_t size, struct err *e);
int files_put(struct io *io, struct io_file *file, uint64_t at, const void *data, size_t size, struct err *e);
int files_sync(struct io *io, struct io_file *file, struct err *e);

/* ---- uv_dirs.c ---- */

int dirs_rename(struct io *io, const char *from, const char *to, struct err *e);
int dirs_remove(struct io *io, const char *path, struct err *e);
int dirs_list(struct io *io, const char *dir, struct io_names *names, struct err *e);
int dirs_make(struct io *io, const char *dir, struct err *e);
int dirs_sync(struct io *io, const char *dir, struct err *e);
int dirs_lock(struct io *io, const char *dir, struct io_lock **lock, struct err *e);
void dirs_unlock(struct io *io, struct io_lock *lock);
int dirs_room(struct io *io, const char *dir, uint64_t *bytes, struct err *e);

/* ---- uv_children.c ---- */

int children_fork(struct io *io, const char *path, bool apart, io_body *body, void *ctx, struct io_child **child,
                  struct err *e);
int children_join(struct io *io, struct io_child *child, struct err *e);
void children_kill(struct io *io, struct io_child *child);
void children_free(struct io *io, struct io_child *child);

/* Sets e from errno: "cannot <what> <path>: <reason>", with what to do about it where that is known. */
int files_fail(struct err *e, const char *what, const char *path);

#pragma GCC visibility pop

#endif
