#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "uv/uv_internal.h"

#define FILL_BYTES ((size_t)1 << 20) /* zeros one write of io_fill carries */
#define BEHIND_BYTES (UINT64_C(16) << 20) /* put, and perhaps not on the disk yet */
#define BOUNCE_BYTES                                                                                         \
    ((size_t)1 << 16) /* of the aligned memory that unaligned reads of a direct file go through */

struct io_file {
    int fd;
    bool synced; /* opened with O_DSYNC: every write is durable by itself */
    _Atomic bool
        direct; /* bypasses the page cache; the disk's thread may give it up while another one reads */
    uint64_t waited; /* io_put: bytes before are on the disk, or in its cache; one thread at a time puts */
    char path[];
};

static int code_of(int code)
{
    switch (code) {
    case ENOENT: return ERR_NOENT;
    case EEXIST: return ERR_EXIST;
    case ENOSPC:
    case EDQUOT: return ERR_FULL;
    case ENOMEM: return ERR_NOMEM;
    default: return ERR_IO;
    }
}

static const char *hint_of(int code)
{
    switch (code) {
    case EACCES:
    case EPERM: return " (does this user own the directory?)";
    case ENOSPC: return " (free some space)";
    case EDQUOT: return " (raise the quota or free some space)";
    case EROFS:
        return " (the file system is mounted read-only, perhaps after an error: see the kernel's log)";
    case EIO: return " (the disk reports an error: see the kernel's log)";
    case ELOOP: return " (symbolic links are not followed here)";
    case EMFILE:
    case ENFILE: return " (raise the limit of open files)";
    default: return "";
    }
}

int files_fail(struct err *e, const char *what, const char *path)
{
    int code = errno;
    char reason[REASON_MAX];
    return err_set(e, code_of(code), "cannot %s %.200s: %s%s", what, path, world_reason(code, reason),
                   hint_of(code));
}

/* O_DIRECT is asked for only once the file is open: an open() that refuses it may have created the file
 * already. */
static bool become_direct(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && fcntl(fd, F_SETFL, flags | O_DIRECT) == 0;
}

/* Some file systems take O_DIRECT and then refuse the write. */
static bool give_up_direct(struct io_file *f)
{
    int flags = fcntl(f->fd, F_GETFL);
    if (flags < 0 || fcntl(f->fd, F_SETFL, flags & ~O_DIRECT) != 0) return false;
    f->direct = false;
    return true;
}

int files_open(struct io *io, const char *path, int flags, struct io_file **file, struct err *e)
{
    (void)io;
    bool creates = (flags & IO_OPEN_CREATE) != 0, writes = creates || (flags & IO_OPEN_WRITE) != 0;
    bool direct = writes && (flags & IO_OPEN_DIRECT) != 0;
    int how = O_CLOEXEC | O_NOFOLLOW | (writes ? O_RDWR : O_RDONLY) | (creates ? O_CREAT | O_EXCL : 0) |
              (direct ? O_DSYNC : 0);
    size_t size = strlen(path) + 1;
    struct io_file *f = mem_alloc(sizeof *f + size);
    if (f == NULL) return err_set(e, ERR_NOMEM, "out of memory to open %.200s", path);
    memcpy(f->path, path, size);
    f->fd = open(path, how, 0600);
    if (f->fd < 0) {
        files_fail(e, creates ? "create" : "open", path);
        mem_free(f);
        return e->code;
    }
    f->synced = direct;
    f->waited = 0;
    f->direct = direct && become_direct(f->fd);
    *file = f;
    return OK;
}

void files_close(struct io *io, struct io_file *f)
{
    (void)io;
    close(f->fd); /* what was promised is durable: nothing is left that close could fail to write */
    mem_free(f);
}

int files_size(struct io *io, struct io_file *f, uint64_t *size, struct err *e)
{
    (void)io;
    struct stat s;
    if (fstat(f->fd, &s) != 0) return files_fail(e, "look at", f->path);
    *size = (uint64_t)s.st_size;
    return OK;
}

/* ---- reading ---- */

static bool aligned(uint64_t number)
{
    return number % IO_BLOCK == 0;
}

/* Until size bytes are read, or the end of the file comes: -1 and errno, or the number of bytes. A direct
 * file has ended where a part of a block comes; it may not be asked again from there. */
static ssize_t read_all(int fd, bool direct, uint64_t at, uint8_t *data, size_t size)
{
    size_t got = 0;
    while (got < size) {
        ssize_t n = pread(fd, data + got, size - got, (off_t)(at + got));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -1;
        got += (size_t)n;
        if (n == 0 || (direct && !aligned((uint64_t)n))) break;
    }
    return (ssize_t)got;
}

/* Reads whole blocks around what is wanted into aligned memory, and copies. */
static ssize_t read_bounced(int fd, uint64_t at, uint8_t *data, size_t size)
{
    uint8_t *bounce = mem_aligned(IO_BLOCK, BOUNCE_BYTES);
    if (bounce == NULL) {
        errno = ENOMEM;
        return -1;
    }
    size_t got = 0;
    while (got < size) {
        size_t skip = (at + got) % IO_BLOCK;
        ssize_t n = read_all(fd, true, at + got - skip, bounce, BOUNCE_BYTES);
        if (n < 0) {
            mem_free(bounce);
            return -1;
        }
        if ((size_t)n <= skip) break;
        size_t some = MIN((size_t)n - skip, size - got);
        memcpy(data + got, bounce + skip, some);
        got += some;
    }
    mem_free(bounce);
    return (ssize_t)got;
}

int files_read(struct io *io, struct io_file *f, uint64_t at, void *data, size_t size, size_t *got,
               struct err *e)
{
    (void)io;
    bool fits = !f->direct || (aligned(at) && aligned(size) && aligned((uintptr_t)data));
    ssize_t n = fits ? read_all(f->fd, f->direct, at, data, size) : read_bounced(f->fd, at, data, size);
    if (n < 0) return files_fail(e, "read", f->path);
    *got = (size_t)n;
    return OK;
}

void files_ahead(struct io *io, struct io_file *f, uint64_t at, uint64_t size)
{
    (void)io;
    posix_fadvise(f->fd, (off_t)at, (off_t)size, POSIX_FADV_WILLNEED);
}

/* ---- writing ---- */

static int write_all(struct io_file *f, uint64_t at, const uint8_t *data, size_t size, struct err *e)
{
    while (size > 0) {
        ssize_t n = pwrite(f->fd, data, size, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EINVAL && f->direct && give_up_direct(f)) continue;
        if (n == 0) errno = EIO;
        if (n <= 0) return files_fail(e, "write to", f->path);
        at += (uint64_t)n;
        data += n;
        size -= (size_t)n;
    }
    return OK;
}

/* Never tried again after a failure: the kernel may then report success for pages that it has dropped. */
static int sync_file(struct io_file *f, struct err *e)
{
    return fdatasync(f->fd) == 0 ? OK : files_fail(e, "make durable", f->path);
}

int files_write(struct io *io, struct io_file *f, uint64_t at, const void *data, size_t size, struct err *e)
{
    (void)io;
    ASSERT(!f->synced || (aligned(at) && aligned(size) && aligned((uintptr_t)data)));
    if (write_all(f, at, data, size, e) != OK) return e->code;
    return f->synced ? OK : sync_file(f, e);
}

/* Bytes did not get to the disk. Other errors say that the file system does not know the call: io_sync does all. */
static bool is_lost(int code)
{
    return code == EIO || code == ENOSPC || code == EDQUOT;
}

/* The kernel begins to write at once, and what it has not written yet stays within a bound: io_sync has little left
 * to wait for, and the disk is never busy with it for long when somebody waits for the log. An error that is told
 * here is not told again by io_sync. */
int files_put(struct io *io, struct io_file *f, uint64_t at, const void *data, size_t size, struct err *e)
{
    (void)io;
    ASSERT(!f->synced);
    if (write_all(f, at, data, size, e) != OK) return e->code;
    if (sync_file_range(f->fd, (off_t)at, (off_t)size, SYNC_FILE_RANGE_WRITE) != 0 && is_lost(errno))
        return files_fail(e, "write to", f->path);
    uint64_t end = at + size, until = end > BEHIND_BYTES ? end - BEHIND_BYTES : 0;
    if (until < f->waited + BEHIND_BYTES / 2) return OK;
    off_t from = (off_t)f->waited, waits = (off_t)until - from;
    f->waited = until;
    int failed = sync_file_range(f->fd, from, waits, SYNC_FILE_RANGE_WAIT_BEFORE);
    return failed != 0 && is_lost(errno) ? files_fail(e, "write to", f->path) : OK;
}

int files_sync(struct io *io, struct io_file *f, struct err *e)
{
    (void)io;
    return sync_file(f, e);
}

/* Zeros are really written: blocks that are only allocated would have to be marked as written later, by an
 * update of metadata in each durable write. */
static int write_zeros(struct io_file *f, uint64_t size, struct err *e)
{
    static _Alignas(IO_BLOCK) uint8_t zeros[FILL_BYTES]; /* never written: one page of the kernel's, many times */
    int code = OK;
    for (uint64_t at = 0; at < size && code == OK; at += FILL_BYTES) {
        code = write_all(f, at, zeros, (size_t)MIN(FILL_BYTES, size - at), e);
    }
    return code;
}

int files_fill(struct io *io, struct io_file *f, uint64_t size, struct err *e)
{
    (void)io;
    ASSERT(!f->synced || aligned(size));
    if (ftruncate(f->fd, (off_t)size) != 0) return files_fail(e, "size", f->path);
    int failed;
    do failed = size == 0 ? 0 : fallocate(f->fd, 0, 0, (off_t)size);
    while (failed != 0 && errno == EINTR);
    if (failed != 0 && errno != EOPNOTSUPP && errno != ENOSYS)
        return files_fail(e, "allocate room for", f->path);
    if (write_zeros(f, size, e) != OK) return e->code;
    return sync_file(f, e);
}
