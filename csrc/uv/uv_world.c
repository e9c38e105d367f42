#include "uv/uv_world.h"

#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "uv/uv_internal.h"

const char *world_reason(int code, char reason[REASON_MAX])
{
    return uv_strerror_r(uv_translate_sys_error(code), reason, REASON_MAX);
}

int world_spawn(pthread_t *thread, const char *name, void *(*main)(void *), void *arg)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* a thread inherits the mask of its maker */
    int code = pthread_create(thread, NULL, main, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code == 0) pthread_setname_np(*thread, name);
    return code;
}

/* ---- time and chance ---- */

static uint64_t clock_us(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * US_PER_S + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t world_now(struct io *io)
{
    (void)io;
    return clock_us(CLOCK_MONOTONIC);
}

/* The coarse clock is read from memory. It stands still for a tick of the kernel's, which has a hundred a second at
 * least. */
static uint64_t world_due(struct io *io, uint64_t after_us)
{
    (void)io;
    return clock_us(CLOCK_MONOTONIC_COARSE) + US_PER_S / 100 + after_us;
}

static uint64_t world_wall(struct io *io)
{
    (void)io;
    return clock_us(CLOCK_REALTIME);
}

static uint64_t world_random(struct io *io)
{
    (void)io;
    uint64_t number = 0;
    ssize_t got;
    do got = getrandom(&number, sizeof number, 0);
    while (got < 0 && errno == EINTR);
    ASSERT(got == sizeof number); /* so few bytes come whole */
    return number;
}

static void on_timer(uv_timer_t *timer);

/* The loop counts whole milliseconds of the same monotonic clock, rounded down: a timer for the rounded-up
 * time never rings early. At least one millisecond ahead: libuv runs due timers until none is left, so that
 * an engine that sets a time in the past again and again would never get any input. */
static void arm_timer(struct uv_world *w)
{
    uint64_t at_us = w->alarm_us;
    if (at_us == w->armed_us) return;
    w->armed_us = at_us;
    if (at_us == NEVER_US) {
        uv_timer_stop(&w->timer);
        return;
    }
    uint64_t at_ms = at_us / US_PER_MS + (at_us % US_PER_MS > 0), now_ms = uv_now(&w->loop);
    int code = uv_timer_start(&w->timer, on_timer, at_ms > now_ms ? at_ms - now_ms : 1, 0);
    ASSERT(code == 0);
}

/* A visitor may have put the alarm off, and leaves the timer as it is. */
static void on_timer(uv_timer_t *timer)
{
    struct uv_world *w = timer->data;
    world_enter(w);
    w->armed_us = NEVER_US;
    if (w->stopped) return;
    if (world_now(&w->io) < w->alarm_us) {
        arm_timer(w);
        return;
    }
    w->alarm_us = NEVER_US;
    w->dirty = true;
    w->io.events->alarm(w->io.engine);
}

static void world_alarm(struct io *io, uint64_t at_us)
{
    struct uv_world *w = world_of(io);
    w->alarm_us = at_us;
    if (!w->visited) arm_timer(w);
}

/* ---- bursts ---- */

static void end_events(struct uv_world *w)
{
    if (!w->dirty || w->stopped) return;
    w->dirty = false;
    w->io.events->turn(w->io.engine);
}

/* A link that breaks while it is written to starts a new burst: the loop must not sleep on it. */
void world_end_burst(struct uv_world *w)
{
    end_events(w);
    links_flush_all(w);
    servers_close(w);
    arm_timer(w);
    if (w->dirty && !w->stopped) world_signal(w);
}

/* The same inside the loop, which does not go on when the engine has finished, and is left for a write, and for the
 * host. */
static void end_burst_in_loop(struct uv_world *w)
{
    world_end_burst(w);
    if (w->stopped || w->write_due || atomic_load(&w->watch.wanted)) uv_stop(&w->loop);
}

/* Jobs that are done, io_visit, and, where it is no visitor that has the turn, io_wake. */
void world_take_news(struct uv_world *w)
{
    lanes_deliver(w);
    bool woken = atomic_exchange(&w->visit_asked, false);
    if (!w->visited && atomic_exchange(&w->wake_asked, false)) woken = true;
    if (!woken || w->stopped) return;
    w->dirty = true;
    w->io.events->woken(w->io.engine);
}

void world_enter(struct uv_world *w)
{
    if (w->inside) return;
    turn_take(&w->turn);
    w->inside = true;
}

/* Word that came meanwhile is seen to once; what comes after that waits until links and time had their turn. */
void world_leave(struct uv_world *w)
{
    if (!turn_end(&w->turn)) {
        world_take_news(w);
        end_burst_in_loop(w);
        while (!turn_end(&w->turn)) world_signal(w);
    }
    w->inside = false;
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct uv_world *w = prepare->data;
    world_enter(w);
    end_burst_in_loop(w);
    world_leave(w);
}

static void on_check(uv_check_t *check)
{
    struct uv_world *w = check->data;
    world_enter(w);
    end_burst_in_loop(w);
}

static void on_signal(uv_poll_t *wake, int status, int events)
{
    struct uv_world *w = wake->data;
    uint64_t count;
    (void)status;
    (void)events;
    world_enter(w);
    ssize_t got = read(w->wake_fd, &count, sizeof count);
    (void)got; /* nothing there: somebody else's turn has seen to it */
    atomic_exchange(&w->signalled, false); /* before looking: what comes later signals again */
    world_take_news(w);
}

/* ---- visits ---- */

/* true: something is left that only who runs the loop can do. */
static bool end_visit(struct uv_world *w)
{
    end_events(w);
    links_flush_visited(w);
    bool ends = w->todo_first != NULL || w->closing != NULL || w->alarm_us < w->armed_us;
    return w->stopped || w->write_due || ends || w->wake_asked;
}

void world_visit(struct uv_world *w)
{
    if (!turn_offer(&w->turn)) return;
    bool more = !w->begun || w->stopped;
    if (!more) {
        w->visited = true;
        world_take_news(w);
        more = end_visit(w);
        w->visited = false;
    }
    if (more) world_signal(w);
    while (!turn_end(&w->turn)) world_signal(w);
}

void world_tell(struct uv_world *w)
{
    if (!turn_tell(&w->turn)) world_signal(w);
}

/* ---- threads ---- */

void world_make_readable(int event_fd)
{
    uint64_t one = 1;
    ssize_t wrote;
    do wrote = write(event_fd, &one, sizeof one);
    while (wrote < 0 && errno == EINTR);
    /* A full counter (EAGAIN) is readable already, which is all that is wanted. */
}

/* Not libuv's own uv_async_t: its loop spins until a sender that it has preempted runs again, and where the cores are
 * few it preempts most of them. */
void world_signal(struct uv_world *w)
{
    if (!atomic_exchange(&w->signalled, true)) world_make_readable(w->wake_fd);
}

static void world_wake(struct io *io)
{
    struct uv_world *w = world_of(io);
    if (!atomic_exchange(&w->wake_asked, true)) world_tell(w);
}

static void world_wake_here(struct io *io)
{
    struct uv_world *w = world_of(io);
    atomic_store(&w->visit_asked, true);
    world_visit(w);
}

static void world_notify(struct io *io)
{
    world_make_readable(world_of(io)->notify_fd);
}

static void world_stop(struct io *io)
{
    struct uv_world *w = world_of(io);
    ASSERT(w->jobs == 0 && w->links == 0 && w->servers == 0);
    w->stopped = true;
}

static const struct io_ops ops = {
    .now = world_now,
    .due = world_due,
    .wall = world_wall,
    .random = world_random,
    .alarm = world_alarm,
    .wake = world_wake,
    .visit = world_wake_here,
    .notify = world_notify,
    .stop = world_stop,
    .submit = lanes_submit,
    .open = files_open,
    .close = files_close,
    .size = files_size,
    .read = files_read,
    .ahead = files_ahead,
    .write = files_write,
    .fill = files_fill,
    .put = files_put,
    .sync = files_sync,
    .rename = dirs_rename,
    .remove = dirs_remove,
    .list = dirs_list,
    .make_dir = dirs_make,
    .sync_dir = dirs_sync,
    .lock_dir = dirs_lock,
    .unlock_dir = dirs_unlock,
    .room = dirs_room,
    .fork = children_fork,
    .join = children_join,
    .kill = children_kill,
    .child_free = children_free,
    .listen = servers_listen,
    .unlisten = servers_unlisten,
    .connect = links_connect,
    .buffer = links_buffer,
    .send = links_send,
    .queued = links_queued,
    .close_link = links_close,
};

/* ---- the world itself ---- */

static int init_loop(struct uv_world *w)
{
    int code = uv_loop_init(&w->loop);
    if (code != 0) return code;
    w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    code = w->wake_fd < 0 ? uv_translate_sys_error(errno) : uv_poll_init(&w->loop, &w->wake, w->wake_fd);
    if (code != 0) {
        if (w->wake_fd >= 0) close(w->wake_fd);
        uv_loop_close(&w->loop);
        return code;
    }
    uv_poll_start(&w->wake, UV_READABLE, on_signal);
    uv_timer_init(&w->loop, &w->timer);
    uv_prepare_init(&w->loop, &w->prepare);
    uv_check_init(&w->loop, &w->check);
    uv_prepare_start(&w->prepare, on_prepare);
    uv_check_start(&w->check, on_check);
    w->wake.data = w->timer.data = w->prepare.data = w->check.data = w;
    return 0;
}

int uv_world_new(struct uv_world **out, int notify_fd, struct err *e)
{
    char reason[REASON_MAX];
    struct uv_world *w = mem_zero(1, sizeof *w);
    uint8_t *read_buffer = w == NULL ? NULL : mem_alloc(UV_READ_BUFFER_BYTES);
    int code = read_buffer == NULL ? UV_ENOMEM : uv_translate_sys_error(watch_init(w));
    if (code == 0 && (code = init_loop(w)) != 0) watch_free(w);
    if (code == 0) {
        code = lanes_init(w);
        if (code == 0) code = turn_init(&w->turn);
        ASSERT(code == 0); /* default mutexes need nothing that can run out */
        w->io.ops = &ops;
        w->notify_fd = notify_fd;
        w->alarm_us = w->armed_us = NEVER_US;
        w->read_buffer = read_buffer;
        *out = w;
        return OK;
    }
    mem_free(read_buffer);
    mem_free(w);
    if (code == UV_ENOMEM) return err_set(e, ERR_NOMEM, "out of memory for an event loop");
    return err_set(e, ERR_IO, "cannot make an event loop: %s (too many open files?)",
                   world_reason(-code, reason));
}

struct io *uv_world_io(struct uv_world *w)
{
    return &w->io;
}

int uv_world_run(struct uv_world *w, int (*start)(void *arg), void *arg, struct err *e)
{
    char reason[REASON_MAX];
    ASSERT(!w->running && !w->stopped);
    w->start = start;
    w->start_arg = arg;
    int code = lanes_run(w);
    if (code == 0) {
        code = watch_run(w);
        if (code == 0) {
            w->running = true;
            return OK;
        }
        lanes_join(w);
    }
    return err_set(e, ERR_IO, "cannot start a thread: %s", world_reason(code, reason));
}

void uv_world_wait(struct uv_world *w, int ms, bool keeps)
{
    ASSERT(w->running);
    watch_wait(w, ms, keeps);
}

void uv_world_join(struct uv_world *w)
{
    ASSERT(w->running);
    watch_join(w);
    lanes_join(w);
    w->running = false;
}

/* The loop is closed here and not by its thread: io_wake of another thread may come until now. */
void uv_world_free(struct uv_world *w)
{
    if (w == NULL) return;
    ASSERT(!w->running && w->jobs == 0 && w->links == 0 && w->servers == 0);
    w->stopped = true;
    uv_close((uv_handle_t *)&w->wake, NULL);
    uv_close((uv_handle_t *)&w->timer, NULL);
    uv_close((uv_handle_t *)&w->prepare, NULL);
    uv_close((uv_handle_t *)&w->check, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT); /* the close callbacks, also those of links, which free them */
    int code = uv_loop_close(&w->loop);
    ASSERT(code == 0);
    close(w->wake_fd);
    lanes_free(w);
    watch_free(w);
    turn_free(&w->turn);
    while (w->n_buffers > 0) buf_free(&w->buffers[--w->n_buffers]);
    mem_free(w->read_buffer);
    mem_free(w);
}
