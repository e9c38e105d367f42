/* A ceiling for replicated logs: what is left when there is no protocol.
 *
 *   ceiling load DIR BYTES WINDOW WARM SECONDS    three processes; prints one line of key=value
 *   ceiling copy DIR BYTES                        so many bytes over loopback into a file, made durable
 *
 * load: the leader keeps WINDOW entries under way. Each batch goes to two followers over TCP and into a file of each of
 * the three, durably; an entry counts when two of three files have it. Frames are hashed, and followers check that. No
 * terms, no elections, no apply, no Lua. Files are written before they are used, and used in a ring. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "measure.h"

#define FILE_BYTES (64u << 20)
#define BATCH_BYTES (1u << 20)
#define BLOCK 4096u
#define FOLLOWERS 2
#define WINDOW_MAX 65536u

struct frame {
    uint64_t hash; /* of what follows */
    uint32_t size, zero;
    uint64_t term, index;
};

/* A file that is written durably, whole blocks at a time; the last block is written again with what follows. */
struct ring {
    int fd;
    bool direct;
    size_t at;     /* where the next byte goes */
    char *staging; /* begins with what the block at `at` has already */
};

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void ring_open(struct ring *r, const char *dir, int id)
{
    char path[512];
    snprintf(path, sizeof path, "%s/ceiling.%d", dir, id);
    if (posix_memalign((void **)&r->staging, BLOCK, BATCH_BYTES + 2 * BLOCK) != 0) fail("memory");
    memset(r->staging, 0, BATCH_BYTES + 2 * BLOCK);
    int plain = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (plain < 0) fail(path);
    for (size_t at = 0; at < FILE_BYTES; at += BATCH_BYTES) {
        if (pwrite(plain, r->staging, BATCH_BYTES, (off_t)at) != (ssize_t)BATCH_BYTES) fail("filling a file");
    }
    if (fsync(plain) != 0) fail("fsync");
    r->fd = open(path, O_RDWR | O_DIRECT | O_DSYNC);
    r->direct = r->fd >= 0;
    if (r->direct) close(plain);
    else r->fd = plain;
    unlink(path);
    r->at = 0;
}

static void ring_write(struct ring *r, const char *data, size_t size)
{
    if (r->at + size + BLOCK > FILE_BYTES) r->at = 0;
    size_t head = r->at % BLOCK, end = head + size, whole = (end + BLOCK - 1) / BLOCK * BLOCK;
    memcpy(r->staging + head, data, size);
    memset(r->staging + end, 0, whole - end);
    if (pwrite(r->fd, r->staging, whole, (off_t)(r->at - head)) != (ssize_t)whole) fail("pwrite");
    if (!r->direct && fdatasync(r->fd) != 0) fail("fdatasync");
    memmove(r->staging, r->staging + end / BLOCK * BLOCK, end % BLOCK);
    r->at += size;
}

static size_t frame_bytes(size_t size) { return sizeof(struct frame) + (size + 7) / 8 * 8; }

static void frame_write(char *at, uint64_t index, const char *payload, size_t size)
{
    struct frame f = {.size = (uint32_t)size, .term = 1, .index = index};
    memcpy(at + sizeof f, payload, size);
    memcpy(at, &f, sizeof f);
    f.hash = XXH3_64bits(at + sizeof f.hash, frame_bytes(size) - sizeof f.hash);
    memcpy(at, &f.hash, sizeof f.hash);
}

static void send_all(int fd, const void *data, size_t size)
{
    for (size_t sent = 0; sent < size;) {
        ssize_t n = send(fd, (const char *)data + sent, size - sent, MSG_NOSIGNAL);
        if (n <= 0) fail("send");
        sent += (size_t)n;
    }
}

/* Receives frames, checks, writes and answers until the leader is gone. */
static void follow(int fd, const char *dir, int id, size_t size)
{
    struct ring ring;
    ring_open(&ring, dir, id);
    size_t bytes = frame_bytes(size), have = 0;
    char *buffer = malloc(BATCH_BYTES);
    uint64_t last = 0;
    send_all(fd, &last, sizeof last); /* ready */
    for (;;) {
        ssize_t n = recv(fd, buffer + have, BATCH_BYTES - have, 0);
        if (n <= 0) exit(0);
        have += (size_t)n;
        size_t whole = have / bytes * bytes;
        for (size_t at = 0; at < whole; at += bytes) {
            struct frame f;
            memcpy(&f, buffer + at, sizeof f);
            if (f.hash != XXH3_64bits(buffer + at + sizeof f.hash, bytes - sizeof f.hash)) fail("a hash");
            last = f.index;
        }
        if (whole == 0) continue;
        ring_write(&ring, buffer, whole);
        send_all(fd, &last, sizeof last);
        memmove(buffer, buffer + whole, have - whole);
        have -= whole;
    }
}

/* Starts a child that is connected by TCP; the child gets 0. */
static pid_t start(int *fd)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof a;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&a, length) != 0 || listen(listener, 1) != 0) fail("listen");
    getsockname(listener, (struct sockaddr *)&a, &length);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        *fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(*fd, (struct sockaddr *)&a, length) != 0) fail("connect");
    } else {
        *fd = accept(listener, NULL, NULL);
    }
    close(listener);
    setsockopt(*fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return pid;
}

struct leader {
    struct ring ring;
    int fds[FOLLOWERS];
    uint64_t last, committed, confirmed[FOLLOWERS];
    double born[WINDOW_MAX];
    char *batch, *payload;
    size_t size, window;
    struct latencies latencies;
    double from, to; /* what begins and ends between them is measured */
};

/* Fills the window, sends it, writes it. */
static void propose(struct leader *l, double now)
{
    size_t bytes = frame_bytes(l->size), used = 0;
    while (l->last - l->committed < l->window && used + bytes <= BATCH_BYTES) {
        frame_write(l->batch + used, ++l->last, l->payload, l->size);
        l->born[l->last % WINDOW_MAX] = now;
        used += bytes;
    }
    if (used == 0) return;
    for (int i = 0; i < FOLLOWERS; i++) send_all(l->fds[i], l->batch, used);
    ring_write(&l->ring, l->batch, used);
}

/* Waits for answers; everything that two files have is committed, since the leader's own has all of it. */
static void hear(struct leader *l)
{
    struct pollfd polled[FOLLOWERS];
    for (int i = 0; i < FOLLOWERS; i++) polled[i] = (struct pollfd){.fd = l->fds[i], .events = POLLIN};
    poll(polled, FOLLOWERS, -1);
    for (int i = 0; i < FOLLOWERS; i++) {
        uint64_t answers[256];
        if (polled[i].revents == 0) continue;
        ssize_t n = recv(l->fds[i], answers, sizeof answers, 0);
        if (n < 8 || n % 8 != 0) fail("recv");
        l->confirmed[i] = answers[n / 8 - 1];
    }
    uint64_t commit = l->confirmed[0] > l->confirmed[1] ? l->confirmed[0] : l->confirmed[1];
    double now = seconds();
    while (l->committed < commit) {
        double born = l->born[++l->committed % WINDOW_MAX];
        if (born >= l->from && now <= l->to) latencies_note(&l->latencies, now - born);
    }
}

static int load(const char *dir, size_t size, size_t window, double warm, double duration)
{
    static struct leader l;
    pid_t pids[FOLLOWERS + 1] = {getpid()};
    for (int i = 0; i < FOLLOWERS; i++) {
        pids[i + 1] = start(&l.fds[i]);
        if (pids[i + 1] == 0) follow(l.fds[i], dir, i + 1, size);
    }
    ring_open(&l.ring, dir, 0);
    l.size = size, l.window = window, l.batch = malloc(BATCH_BYTES), l.payload = calloc(1, size + 8);
    for (int i = 0; i < FOLLOWERS; i++) {
        uint64_t ready;
        if (recv(l.fds[i], &ready, sizeof ready, MSG_WAITALL) != sizeof ready) fail("a follower");
    }
    l.from = seconds() + warm, l.to = l.from + duration;
    double now = seconds(), cpu = 0, begin = 0;
    uint64_t before = 0;
    while (now < l.to) {
        propose(&l, now);
        hear(&l);
        now = seconds();
        if (begin == 0 && now >= l.from) {
            begin = now, before = l.committed;
            for (int i = 0; i <= FOLLOWERS; i++) cpu -= cpu_seconds(pids[i]);
        }
    }
    for (int i = 0; i <= FOLLOWERS; i++) cpu += cpu_seconds(pids[i]);
    double n = (double)(l.committed - before);
    printf("per_second=%.0f p50_us=%lu p99_us=%lu cpu_us=%.3f direct=%d\n", n / (now - begin),
           latencies_at(&l.latencies, 0.5), latencies_at(&l.latencies, 0.99), cpu / n * 1e6, l.ring.direct);
    fflush(stdout);
    for (int i = 0; i < FOLLOWERS; i++) close(l.fds[i]);
    while (wait(NULL) > 0) {
    }
    return 0;
}

static int copy(const char *dir, size_t bytes)
{
    int fd;
    char path[512], *buffer = malloc(BATCH_BYTES);
    memset(buffer, 'x', BATCH_BYTES);
    pid_t pid = start(&fd);
    snprintf(path, sizeof path, "%s/ceiling.copy", dir);
    if (pid == 0) {
        int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        for (ssize_t n; (n = recv(fd, buffer, BATCH_BYTES, 0)) > 0;) {
            if (write(file, buffer, (size_t)n) != n) fail("write");
        }
        if (fdatasync(file) != 0) fail("fdatasync");
        exit(0);
    }
    double from = seconds();
    for (size_t sent = 0; sent < bytes; sent += BATCH_BYTES)
        send_all(fd, buffer, bytes - sent < BATCH_BYTES ? bytes - sent : BATCH_BYTES);
    close(fd);
    wait(NULL);
    double took = seconds() - from;
    unlink(path);
    printf("bytes=%zu seconds=%.4f bytes_per_second=%.0f\n", bytes, took, (double)bytes / took);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 7 && strcmp(argv[1], "load") == 0) {
        size_t size = strtoul(argv[3], NULL, 10), window = strtoul(argv[4], NULL, 10);
        if (size > 0 && frame_bytes(size) <= BATCH_BYTES && window > 0 && window < WINDOW_MAX)
            return load(argv[2], size, window, atof(argv[5]), atof(argv[6]));
    }
    if (argc == 4 && strcmp(argv[1], "copy") == 0) return copy(argv[2], strtoul(argv[3], NULL, 10));
    fprintf(stderr, "usage: ceiling load DIR BYTES WINDOW WARM SECONDS | ceiling copy DIR BYTES\n");
    return 2;
}
