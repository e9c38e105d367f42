/* Two real threads on the real queues, as fast as they can, with real sleep: to be run under ThreadSanitizer too.
 *
 *   stress N       N requests one way, N notices and N status values the other way; prints "ok" and the counts */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "server/channel.h"

static struct channel channel;
static int wake_fd, notify_fd; /* of the engine, of the host */
static uint64_t count;
static _Atomic uint64_t wakes, notifies;

static void check(bool claim, const char *what)
{
    if (claim) return;
    printf("%s\n", what);
    exit(1);
}

static void ring_bell(int fd)
{
    check(eventfd_write(fd, 1) == 0, "eventfd_write");
}

static void sleep_on(int fd)
{
    eventfd_t value;
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    check(poll(&poller, 1, 60000) == 1, "slept for a minute: a wake-up was lost");
    check(eventfd_read(fd, &value) == 0, "eventfd_read");
}

static void wake(struct io *io)
{
    (void)io;
    wakes++;
    ring_bell(wake_fd);
}

static void notify(struct io *io)
{
    (void)io;
    notifies++;
    ring_bell(notify_fd);
}

static const struct io_ops ops = {.wake = wake, .notify = notify};
static struct io io = {.ops = &ops};

/* The engine: answers each request with a notice, and publishes a status each time. */
static void *engine(void *unused)
{
    uint64_t answered = 0;
    while (answered < count) {
        struct ring_item item;
        sleep_on(wake_fd);
        do {
            while (ring_pop(&channel.requests, &item)) {
                check(item.value == answered + 1, "requests out of order");
                answered++;
                struct server_status *status = mailbox_draft(&channel.status);
                status->commit = status->last = answered;
                channel_publish(&channel);
                channel_notice(&channel, (struct ring_item){.kind = NOTICE_REFUSED, .value = answered});
            }
        } while (!ring_sleep(&channel.requests));
    }
    return unused;
}

static uint64_t told, seen;

static bool look_at_status(void)
{
    if (!mailbox_take(&channel.status)) return false;
    const struct server_status *status = mailbox_read(&channel.status);
    check(status->commit == status->last, "half of a status");
    check(status->commit > seen, "an old status");
    seen = status->commit;
    return true;
}

/* The host: has at most `pending` requests open. */
static void host(uint32_t pending)
{
    uint64_t asked = 0;
    while (told < count || seen < count) {
        struct ring_item item;
        while (asked < count && asked - told < pending) {
            bool taken = channel_request(&channel, (struct ring_item){.kind = REQUEST_PROPOSE, .value = ++asked});
            check(taken, "no room for a request");
        }
        bool more = look_at_status();
        while (ring_pop(&channel.notices, &item)) {
            check(item.value == told + 1, "notices out of order");
            told++;
            more = true;
        }
        if (!more && ring_sleep(&channel.notices) && !look_at_status()) sleep_on(notify_fd);
    }
}

int main(int argc, char **argv)
{
    pthread_t thread;
    count = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000;
    wake_fd = eventfd(0, EFD_CLOEXEC);
    notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    check(channel_init(&channel, &io, 64) == OK, "no memory");
    check(pthread_create(&thread, NULL, engine, NULL) == 0, "no thread");
    host(64);
    pthread_join(thread, NULL);
    printf("ok: %" PRIu64 " items, %" PRIu64 " wake-ups, %" PRIu64 " notifications\n", told, wakes, notifies);
    channel_free(&channel);
    return 0;
}
