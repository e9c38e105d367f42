#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "uv/uv_internal.h"

/* Two threads keep watch by turns: one runs the loop, the other stands by.
 *
 * A brief write is done by the one that has the watch, which leaves the loop for as long: to hand it over and to hear
 * of its end would wake a thread twice, and take as long as such a write itself. Who stands by takes the loop over if
 * the write takes long, be it minutes; the two have changed places then. What is not brief, or follows a write that was
 * slow, is done by the one that stands by. */

#define LONG_US 1500u /* for so long nobody looks at the network and the time */
#define SLOW_US 700u

static struct uv_lane *disk_of(struct uv_world *w)
{
    return &w->lanes[IO_LANE_DISK];
}

/* ---- who stands by ---- */

static void call(struct uv_watch *c)
{
    uint64_t one = 1;
    ssize_t wrote;
    do wrote = write(c->call_fd, &one, sizeof one);
    while (wrote < 0 && errno == EINTR);
}

/* Puts off the time at which the loop is taken over. It is never turned off: once after the last write it rings for
 * nothing, which costs less. */
static void set_timer(struct uv_watch *c)
{
    struct itimerspec in = {.it_value.tv_nsec = LONG_US * 1000};
    int code = timerfd_settime(c->timer_fd, 0, &in, NULL);
    ASSERT(code == 0);
}

/* Sleeps until it is called or the timer rings, or wakes up for nothing. true: the timer rang. */
static bool sleep_until_called(struct uv_watch *c)
{
    uint64_t count;
    struct pollfd fds[2] = {{.fd = c->call_fd, .events = POLLIN}, {.fd = c->timer_fd, .events = POLLIN}};
    if (poll(fds, 2, -1) <= 0) return false;
    if (fds[0].revents != 0 && read(c->call_fd, &count, sizeof count) < 0) return false;
    return fds[1].revents != 0 && read(c->timer_fd, &count, sizeof count) > 0; /* else it was put off */
}

static void work(struct uv_world *w, struct io_job *job)
{
    uint64_t since_us = io_now(&w->io);
    job->work(job);
    disk_of(w)->slow = io_now(&w->io) - since_us >= SLOW_US;
}

static void do_jobs(struct uv_world *w)
{
    for (struct io_job *job; (job = lane_take(disk_of(w))) != NULL; lane_give_back(disk_of(w))) {
        work(w, job);
        lane_hand_over(disk_of(w), job);
    }
}

/* Does jobs until it has the watch: true; or until the world has ended. */
static bool stand_by(struct uv_world *w)
{
    struct uv_watch *c = &w->watch;
    bool rang = false;
    while (!rang || !post_take(&c->post)) {
        bool ended = atomic_load(&c->ended); /* before looking for jobs: none comes later */
        do_jobs(w);
        if (ended) return false;
        rang = sleep_until_called(c);
    }
    return true;
}

/* ---- who has the watch ---- */

void watch_submitted(struct uv_world *w, bool brief)
{
    if (brief) w->write_due = true;
    else call(&w->watch);
}

/* Leaves the loop for a write. false: it was taken over meanwhile. */
static bool write_here(struct uv_world *w)
{
    struct uv_watch *c = &w->watch;
    w->write_due = false;
    struct io_job *job = lane_take(disk_of(w));
    if (job == NULL) return true;
    world_end_burst(w);
    world_leave(w);
    post_leave(&c->post);
    set_timer(c); /* only now: if it rang before, it would find the post taken */
    work(w, job);
    if (!post_take(&c->post)) {
        lane_hand_over(disk_of(w), job);
        lane_give_back(disk_of(w));
        return false;
    }
    world_enter(w);
    lane_done(disk_of(w), job);
    if (lane_give_back(disk_of(w))) call(c);
    world_take_news(w);
    world_end_burst(w);
    return true;
}

/* Until the loop is taken over: false; or the world has ended. */
static bool keep_watch(struct uv_world *w)
{
    world_enter(w);
    while (w->begun && !w->stopped) {
        uv_run(&w->loop, UV_RUN_DEFAULT);
        world_enter(w);
        if (w->write_due && !write_here(w)) return false;
    }
    w->stopped = true;
    world_end_burst(w);
    while (!turn_end(&w->turn)) continue; /* nobody is told anything any more */
    w->inside = false;
    atomic_store(&w->watch.ended, true);
    call(&w->watch);
    return true;
}

/* ---- threads ---- */

static void *disk_main(void *arg)
{
    struct uv_world *w = arg;
    while (stand_by(w)) {
        if (keep_watch(w)) break;
    }
    return NULL;
}

static void *engine_main(void *arg)
{
    struct uv_world *w = arg;
    world_enter(w);
    w->begun = w->start(w->start_arg) == OK;
    return keep_watch(w) ? NULL : disk_main(w);
}

int watch_init(struct uv_world *w)
{
    struct uv_watch *c = &w->watch;
    c->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    c->timer_fd = c->call_fd < 0 ? -1 : timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (c->timer_fd >= 0) return 0;
    int code = errno;
    if (c->call_fd >= 0) close(c->call_fd);
    return code;
}

void watch_free(struct uv_world *w)
{
    close(w->watch.call_fd);
    close(w->watch.timer_fd);
}

int watch_run(struct uv_world *w)
{
    struct uv_watch *c = &w->watch;
    int code = world_spawn(&c->disk, "raft-disk", disk_main, w);
    if (code == 0) code = world_spawn(&c->engine, "raft-engine", engine_main, w);
    else return code;
    if (code == 0) return 0;
    atomic_store(&c->ended, true);
    call(c);
    pthread_join(c->disk, NULL);
    atomic_store(&c->ended, false);
    return code;
}

void watch_join(struct uv_world *w)
{
    pthread_join(w->watch.engine, NULL);
    pthread_join(w->watch.disk, NULL);
}
