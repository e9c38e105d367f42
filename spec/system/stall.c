/* Preloaded into a node's process: makes its disk stall, fail or count, as the file named by RAFT_STALL says.
 *
 * No such file: writes go through. A file with "stall": they wait, before anything is written, until it is gone. With
 * "fail": they fail with EIO. With a number: each takes that many milliseconds more. Every durable write that has
 * returned adds a line to the file named by RAFT_STALL_LOG. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* What the file says now; "" when there is none. */
static void read_order(char *order, size_t size)
{
    const char *path = getenv("RAFT_STALL");
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, order, size - 1);
    if (fd >= 0) close(fd);
    order[n > 0 ? n : 0] = '\0';
}

/* Does what is ordered before a write; false: the write is to fail. */
static bool obey(void)
{
    char order[32];
    read_order(order, sizeof order);
    while (strncmp(order, "stall", 5) == 0) {
        usleep(2000);
        read_order(order, sizeof order);
    }
    if (strncmp(order, "fail", 4) == 0) {
        errno = EIO;
        return false;
    }
    usleep((useconds_t)atoi(order) * 1000);
    return true;
}

static void count(const char *what)
{
    const char *path = getenv("RAFT_STALL_LOG");
    int kept = errno, fd = path == NULL ? -1 : open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0) {
        if (write(fd, what, strlen(what)) < 0) abort();
        close(fd);
    }
    errno = kept;
}

static ssize_t slow_pwrite(const char *name, int fd, const void *data, size_t size, off_t at)
{
    ssize_t (*real)(int, const void *, size_t, off_t);
    *(void **)&real = dlsym(RTLD_NEXT, name);
    if (!obey()) return -1;
    ssize_t n = real(fd, data, size, at);
    if (n > 0 && (fcntl(fd, F_GETFL) & O_DSYNC) != 0) count("write\n");
    return n;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    return slow_pwrite("pwrite", fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t at)
{
    return slow_pwrite("pwrite64", fd, data, size, at);
}

static int slow_sync(const char *name, int fd)
{
    int (*real)(int);
    *(void **)&real = dlsym(RTLD_NEXT, name);
    if (!obey()) return -1;
    int status = real(fd);
    if (status == 0) count("sync\n");
    return status;
}

int fsync(int fd)
{
    return slow_sync("fsync", fd);
}

int fdatasync(int fd)
{
    return slow_sync("fdatasync", fd);
}
