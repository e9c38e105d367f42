/* Preloaded into the benchmark's processes: notes when each thread reads, writes and makes durable, for the hops on the
 * way of a single command. What was noted goes to the file named by RAFT_TRACE when the process ends: per line the time
 * (ns, CLOCK_MONOTONIC), what (r read, w write, D durable write begins, d has returned) and the number of bytes. */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define NOTES_MAX 200000

static struct note {
    uint64_t ns;
    long bytes;
    char what;
} notes[NOTES_MAX];
static atomic_uint n_notes;

static void note(char what, long bytes)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    unsigned i = atomic_fetch_add(&n_notes, 1);
    if (i < NOTES_MAX) notes[i] = (struct note){(uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec, bytes, what};
}

__attribute__((destructor)) static void dump(void)
{
    const char *path = getenv("RAFT_TRACE");
    FILE *file = path == NULL ? NULL : fopen(path, "w");
    unsigned n = atomic_load(&n_notes);
    for (unsigned i = 0; file != NULL && i < n && i < NOTES_MAX; i++)
        fprintf(file, "%llu %c %ld\n", (unsigned long long)notes[i].ns, notes[i].what, notes[i].bytes);
    if (file != NULL) fclose(file);
}

#define REAL(name, type, ...)                                                                                          \
    static type (*real)(__VA_ARGS__);                                                                                  \
    if (real == NULL) *(void **)&real = dlsym(RTLD_NEXT, name)

ssize_t read(int fd, void *data, size_t size)
{
    REAL("read", ssize_t, int, void *, size_t);
    ssize_t n = real(fd, data, size);
    if (n > 0) note('r', n);
    return n;
}

ssize_t write(int fd, const void *data, size_t size)
{
    REAL("write", ssize_t, int, const void *, size_t);
    note('w', (long)size);
    return real(fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    REAL("writev", ssize_t, int, const struct iovec *, int);
    long bytes = 0;
    for (int i = 0; i < count; i++) bytes += (long)parts[i].iov_len;
    note('w', bytes);
    return real(fd, parts, count);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    REAL("sendmsg", ssize_t, int, const struct msghdr *, int);
    long bytes = 0;
    for (size_t i = 0; i < message->msg_iovlen; i++) bytes += (long)message->msg_iov[i].iov_len;
    note('w', bytes);
    return real(fd, message, flags);
}

static ssize_t durable(ssize_t (*real)(int, const void *, size_t, off_t), int fd, const void *data, size_t size, off_t at)
{
    note('D', (long)size);
    ssize_t n = real(fd, data, size, at);
    note('d', (long)size);
    return n;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    REAL("pwrite", ssize_t, int, const void *, size_t, off_t);
    return durable(real, fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t at)
{
    REAL("pwrite64", ssize_t, int, const void *, size_t, off_t);
    return durable(real, fd, data, size, at);
}

int fdatasync(int fd)
{
    REAL("fdatasync", int, int);
    int status = real(fd);
    note('d', 0);
    return status;
}
