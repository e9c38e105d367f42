/* Preloaded into a process: every system call on files is interrupted now and then (EINTR), and reads and writes move
 * fewer bytes than they were asked for, as the kernel may do. RAFT_SHORT is the seed. How often is told at the end, in
 * the file named by RAFT_SHORT_LOG. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static _Atomic unsigned long state, interrupted, cut;

static unsigned long draw(void)
{
    unsigned long z = atomic_fetch_add(&state, 0x9e3779b97f4a7c15ul);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ul;
    return z ^ (z >> 27);
}

static bool interrupts(void)
{
    if (draw() % 4 != 0) return false;
    interrupted++;
    errno = EINTR;
    return true;
}

/* Part of it; of direct I/O whole blocks. */
static size_t shorter(int fd, size_t size)
{
    bool direct = (fcntl(fd, F_GETFL) & O_DIRECT) != 0;
    size_t unit = direct ? 4096 : 1;
    if (size <= unit || draw() % 4 == 0) return size;
    cut++;
    return unit * (1 + draw() % (size / unit - 1 + (size % unit != 0)));
}

/* The function behind ours. */
static void *real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

#define READ(name)                                                                                   \
    ssize_t name(int fd, void *data, size_t size, off_t at)                                          \
    {                                                                                                \
        static ssize_t (*next)(int, void *, size_t, off_t);                                          \
        if (next == NULL) next = (ssize_t(*)(int, void *, size_t, off_t))real(#name);                \
        return interrupts() ? -1 : next(fd, data, shorter(fd, size), at);\
    }
READ(pread)
READ(pread64)

#define WRITE(name)                                                                                  \
    ssize_t name(int fd, const void *data, size_t size, off_t at)                                    \
    {                                                                                                \
        static ssize_t (*next)(int, const void *, size_t, off_t);                                    \
        if (next == NULL) next = (ssize_t(*)(int, const void *, size_t, off_t))real(#name);          \
        return interrupts() ? -1 : next(fd, data, shorter(fd, size), at);\
    }
WRITE(pwrite)
WRITE(pwrite64)

#define ALLOCATE(name)                                                                               \
    int name(int fd, int mode, off_t at, off_t size)                                                 \
    {                                                                                                \
        static int (*next)(int, int, off_t, off_t);                                                  \
        if (next == NULL) next = (int (*)(int, int, off_t, off_t))real(#name);                       \
        return interrupts() ? -1 : next(fd, mode, at, size);                                         \
    }
ALLOCATE(fallocate)
ALLOCATE(fallocate64)

__attribute__((constructor)) static void begin(void)
{
    const char *seed = getenv("RAFT_SHORT");
    state = seed != NULL ? strtoul(seed, NULL, 10) : 1;
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("RAFT_SHORT_LOG");
    FILE *log = path != NULL && interrupted + cut > 0 ? fopen(path, "w") : NULL;
    if (log == NULL) return;
    fprintf(log, "%lu %lu\n", interrupted, cut);
    fclose(log);
}
