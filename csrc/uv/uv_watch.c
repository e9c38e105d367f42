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
 * slow, is done by the one that stands by.
 *
 * The host's thread may have the watch as well, while it has nothing to do but wait: what it waits for then finds it
 * awake. It is lent the watch, and leaves it whenever it goes to do something else; if that takes long, who lent it
 * takes it back. It never writes: a disk that hangs must not stop it. */

#define LONG_US 1500u /* for so long nobody looks at the network and the time */
#define SLOW_US 1200u
#define CALM 32u      /* waits of the host in a row before it asks for the watch: it may have to go again soon */

static struct uv_lane *disk_of(struct uv_world *w)
{
    return &w->lanes[IO_LANE_DISK];
}

/* ---- bells ---- */

enum { CALLED = 1, RANG = 2 };

static void call(struct uv_bell *b)
{
    world_make_readable(b->call_fd);
}

/* Puts off the time at which it rings. It is never turned off: once after the last time it rings for nothing, which
 * costs less. */
static void set_timer(struct uv_bell *b)
{
    struct itimerspec in = {.it_value.tv_nsec = LONG_US * 1000};
    int code = timerfd_settime(b->timer_fd, 0, &in, NULL);
    ASSERT(code == 0);
}

/* Sleeps until it is called (CALLED) or the timer rings (RANG), or wakes up for nothing. */
static int sleep_until_called(struct uv_bell *b)
{
    uint64_t count;
    int why = 0;
    struct pollfd fds[2] = {{.fd = b->call_fd, .events = POLLIN}, {.fd = b->timer_fd, .events = POLLIN}};
    if (poll(fds, 2, -1) <= 0) return 0;
    if (fds[0].revents != 0 && read(b->call_fd, &count, sizeof count) > 0) why |= CALLED;
    if (fds[1].revents != 0 && read(b->timer_fd, &count, sizeof count) > 0) why |= RANG; /* else it was put off */
    return why;
}

static int bell_init(struct uv_bell *b)
{
    b->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    b->timer_fd = b->call_fd < 0 ? -1 : timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (b->timer_fd >= 0) return 0;
    int code = errno;
    if (b->call_fd >= 0) close(b->call_fd);
    return code;
}

static void bell_free(struct uv_bell *b)
{
    close(b->call_fd);
    close(b->timer_fd);
}

/* ---- who stands by ---- */

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
    while (!rang || !post_take(&c->post, POST_LEFT)) {
        bool ended = atomic_load(&c->ended); /* before looking for jobs: none comes later */
        do_jobs(w);
        if (ended) return false;
        rang = (sleep_until_called(&c->standby) & RANG) != 0;
    }
    return true;
}

/* ---- who has the watch ---- */

void watch_submitted(struct uv_world *w, bool brief)
{
    if (brief && !w->watch.lent) w->write_due = true;
    else call(&w->watch.standby);
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
    post_leave(&c->post, POST_LEFT);
    set_timer(&c->standby); /* only now: if it rang before, it would find the post taken */
    work(w, job);
    if (!post_take(&c->post, POST_LEFT)) {
        lane_hand_over(disk_of(w), job);
        lane_give_back(disk_of(w));
        return false;
    }
    world_enter(w);
    lane_done(disk_of(w), job);
    if (lane_give_back(disk_of(w))) call(&c->standby);
    world_take_news(w);
    world_end_burst(w);
    return true;
}

/* With the turn, which is not given up any more: nobody is told anything from now on. */
static void end_watch(struct uv_world *w)
{
    w->stopped = true;
    world_end_burst(w);
    while (!turn_end(&w->turn)) continue;
    w->inside = false;
    atomic_store(&w->watch.ended, true);
    call(&w->watch.standby);
    call(&w->watch.lender);
}

/* To the host, which has asked for it. It begins with a look at everything. */
static void lend(struct uv_world *w)
{
    struct uv_watch *c = &w->watch;
    atomic_store(&c->wanted, false);
    c->lent = true;
    world_end_burst(w);
    world_leave(w);
    post_leave(&c->post, POST_LENT);
    set_timer(&c->lender);
    world_signal(w);
    world_make_readable(w->notify_fd);
}

enum end { ENDED, TAKEN_OVER, LENT };

static enum end keep_watch(struct uv_world *w)
{
    world_enter(w);
    w->watch.lent = false;
    while (w->begun && !w->stopped) {
        uv_run(&w->loop, UV_RUN_DEFAULT);
        world_enter(w);
        if (w->write_due && !write_here(w)) return TAKEN_OVER;
        if (!atomic_load(&w->watch.wanted) || w->write_due || w->stopped) continue;
        lend(w);
        return LENT;
    }
    end_watch(w);
    return ENDED;
}

/* Who lent it, until it has the watch again: true; or the world has ended. */
static bool take_back(struct uv_world *w)
{
    struct uv_watch *c = &w->watch;
    while (!atomic_load(&c->ended)) {
        if (sleep_until_called(&c->lender) != 0 && post_take(&c->post, POST_LENT)) return true;
    }
    return false;
}

/* ---- the host ---- */

/* What the loop has to do now, once. false: the world has ended. */
static bool run_once(struct uv_world *w)
{
    world_enter(w);
    uv_run(&w->loop, UV_RUN_NOWAIT);
    world_enter(w);
    if (!w->stopped) {
        world_leave(w);
        return true;
    }
    end_watch(w);
    return false;
}

static int least_ms(int a, int b)
{
    return a < 0 || (b >= 0 && b < a) ? b : a;
}

static int ms_until(uint64_t at_us, uint64_t now)
{
    return at_us == NEVER_US ? -1 : at_us <= now ? 0 : (int)((at_us - now + US_PER_MS - 1) / US_PER_MS);
}

/* Precondition: it has the watch. false: the world has ended. */
static bool wait_in_loop(struct uv_world *w, int ms)
{
    uint64_t now = io_now(&w->io), until_us = ms < 0 ? NEVER_US : now + (uint64_t)ms * US_PER_MS;
    struct pollfd fds[2] = {{.fd = w->notify_fd, .events = POLLIN},
                            {.fd = uv_backend_fd(&w->loop), .events = POLLIN}};
    do {
        uv_update_time(&w->loop);
        int n = poll(fds, 2, least_ms(uv_backend_timeout(&w->loop), ms_until(until_us, now)));
        if (n < 0) return true;
        if ((n == 0 || fds[1].revents != 0) && !run_once(w)) return false;
        now = io_now(&w->io);
    } while (fds[0].revents == 0 && now < until_us);
    return true;
}

static void wait_for_notice(const struct uv_world *w, int ms)
{
    if (ms == 0) return; /* the descriptor is read anyway */
    struct pollfd fd = {.fd = w->notify_fd, .events = POLLIN};
    poll(&fd, 1, ms);
}

/* Asks for the watch, or goes on waiting for that. */
static void ask_for_watch(struct uv_world *w)
{
    w->watch.calm = 0;
    if (!atomic_exchange(&w->watch.wanted, true)) world_signal(w);
}

void watch_wait(struct uv_world *w, int ms, bool keeps)
{
    struct uv_watch *c = &w->watch;
    c->calm = keeps && ms != 0 ? c->calm + 1 : 0;
    bool lent = ms != 0 && post_take(&c->post, POST_LENT);
    if (lent && keeps) {
        if (!wait_in_loop(w, ms)) return;
        post_leave(&c->post, POST_LENT);
        set_timer(&c->lender); /* only now: if it rang before, it would find the post taken */
        return;
    }
    if (lent) {
        post_leave(&c->post, POST_LENT);
        call(&c->lender);
    } else if (c->calm >= CALM) {
        ask_for_watch(w);
    }
    wait_for_notice(w, ms);
}

/* ---- threads ---- */

static void watch_by_turns(struct uv_world *w, bool has_watch)
{
    while (has_watch || stand_by(w)) {
        enum end how = keep_watch(w);
        if (how == ENDED) return;
        has_watch = how == LENT && take_back(w);
    }
}

static void *disk_main(void *arg)
{
    watch_by_turns(arg, false);
    return NULL;
}

static void *engine_main(void *arg)
{
    struct uv_world *w = arg;
    world_enter(w);
    w->begun = w->start(w->start_arg) == OK;
    watch_by_turns(w, true);
    return NULL;
}

int watch_init(struct uv_world *w)
{
    struct uv_watch *c = &w->watch;
    int code = bell_init(&c->standby);
    if (code != 0) return code;
    code = bell_init(&c->lender);
    if (code != 0) bell_free(&c->standby);
    return code;
}

void watch_free(struct uv_world *w)
{
    bell_free(&w->watch.standby);
    bell_free(&w->watch.lender);
}

int watch_run(struct uv_world *w)
{
    struct uv_watch *c = &w->watch;
    int code = world_spawn(&c->disk, "raft-disk", disk_main, w);
    if (code == 0) code = world_spawn(&c->engine, "raft-engine", engine_main, w);
    else return code;
    if (code == 0) return 0;
    atomic_store(&c->ended, true);
    call(&c->standby);
    pthread_join(c->disk, NULL);
    atomic_store(&c->ended, false);
    return code;
}

void watch_join(struct uv_world *w)
{
    pthread_join(w->watch.engine, NULL);
    pthread_join(w->watch.disk, NULL);
}
