#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/mem.h"
#include "uv/uv_internal.h"

int dirs_rename(struct io *io, const char *from, const char *to, struct err *e)
{
    (void)io;
    return rename(from, to) == 0 ? OK : files_fail(e, "rename", from);
}

int dirs_remove(struct io *io, const char *path, struct err *e)
{
    (void)io;
    return remove(path) == 0 ? OK : files_fail(e, "remove", path);
}

/* ---- names ---- */

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_name(struct io_names *names, const char *name)
{
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) return OK;
    char *copy = mem_strdup(name);
    if (copy != NULL && mem_grow((void **)&names->names, &names->capacity, names->count + 1, sizeof copy)) {
        names->names[names->count++] = copy;
        return OK;
    }
    mem_free(copy);
    errno = ENOMEM;
    return ERR_NOMEM;
}

int dirs_list(struct io *io, const char *path, struct io_names *names, struct err *e)
{
    (void)io;
    *names = (struct io_names){0};
    DIR *dir = opendir(path);
    if (dir == NULL) return files_fail(e, "list", path);
    int code = OK;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (entry == NULL && errno == 0) break;
        if (entry == NULL || add_name(names, entry->d_name) != OK) {
            code = files_fail(e, "list", path);
            break;
        }
    }
    closedir(dir);
    if (code != OK) io_names_free(names);
    else if (names->count > 0) qsort(names->names, names->count, sizeof *names->names, compare);
    return code;
}

/* ---- directories ---- */

int dirs_sync(struct io *io, const char *path, struct err *e)
{
    (void)io;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return files_fail(e, "open directory", path);
    int code = fsync(fd) == 0 ? OK : files_fail(e, "make durable", path);
    close(fd);
    return code;
}

/* Cuts the last name off path: "a/b/" becomes "a", "a" becomes ".", "/a" becomes "/". */
static void cut_name(char *path)
{
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/') size--;
    while (size > 0 && path[size - 1] != '/') size--;
    while (size > 1 && path[size - 1] == '/') size--;
    if (size == 0) path[size++] = '.';
    path[size] = '\0';
}

/* Creates one directory, whose parent is there, unless it is there itself. scratch: as long as path. */
static int make_one(struct io *io, const char *path, char *scratch, struct err *e)
{
    struct stat s;
    if (stat(path, &s) == 0) {
        if (S_ISDIR(s.st_mode)) return OK;
        errno = ENOTDIR;
        return files_fail(e, "create directory", path);
    }
    if (mkdir(path, 0700) != 0 && errno != EEXIST) return files_fail(e, "create directory", path);
    strcpy(scratch, path);
    cut_name(scratch);
    return dirs_sync(io, scratch, e);
}

int dirs_make(struct io *io, const char *dir, struct err *e)
{
    size_t size = strlen(dir);
    char *path = mem_strdup(dir), *scratch = mem_alloc(size + 2); /* "." is longer than "" */
    int code =
        path != NULL && scratch != NULL ? OK : err_set(e, ERR_NOMEM, "out of memory to create %.200s", dir);
    for (size_t i = 1; i <= size && code == OK; i++) {
        if (dir[i] != '/' && dir[i] != '\0') continue;
        path[i] = '\0';
        code = make_one(io, path, scratch, e);
        path[i] = dir[i];
    }
    mem_free(path);
    mem_free(scratch);
    return code;
}

int dirs_room(struct io *io, const char *dir, uint64_t *bytes, struct err *e)
{
    (void)io;
    struct statvfs s;
    if (statvfs(dir, &s) != 0) return files_fail(e, "look at the room in", dir);
    *bytes = (uint64_t)s.f_bavail * s.f_frsize;
    return OK;
}

/* ---- the lock ----
 *
 * A record lock of fcntl: the only kind that a forked child does not share. (A lock of flock, or one of an
 * open file description, lives as long as any process has the descriptor: a snapshot's child would keep it
 * after its parent died.) Its two weaknesses are dealt with here: it does not exclude the process that holds
 * it, and it is gone when that process closes any descriptor of the file. So directories locked by this
 * process stand in a list, and the lock file is never opened twice. */

struct io_lock {
    int fd;
    dev_t device; /* with inode: the directory, by whatever path */
    ino_t inode;
    struct io_lock *next;
};

static pthread_mutex_t locks_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct io_lock *locks; /* held by this process, over all its nodes; guarded by locks_mutex */

static int locked_by(struct err *e, const char *dir, long process)
{
    if (process <= 0) return err_set(e, ERR_LOCKED, "%.200s is locked by another process", dir);
    return err_set(e, ERR_LOCKED, "%.200s is locked by %sprocess %ld (two nodes cannot share a directory)",
                   dir, process == (long)getpid() ? "this " : "", process);
}

static int take_lock(int fd, const char *dir, const char *path, struct err *e)
{
    struct flock wanted = {.l_type = F_WRLCK, .l_whence = SEEK_SET}, holder = wanted;
    if (fcntl(fd, F_SETLK, &wanted) == 0) return OK;
    if (errno != EACCES && errno != EAGAIN) return files_fail(e, "lock", path);
    bool known = fcntl(fd, F_GETLK, &holder) == 0 && holder.l_type != F_UNLCK;
    return locked_by(e, dir, known ? (long)holder.l_pid : 0);
}

/* Precondition: this process does not hold it. */
static int open_lock(const char *dir, int *fd, struct err *e)
{
    static const char name[] = "/lock";
    size_t size = strlen(dir) + sizeof name;
    char *path = mem_alloc(size);
    if (path == NULL) return err_set(e, ERR_NOMEM, "out of memory to lock %.200s", dir);
    snprintf(path, size, "%s%s", dir, name);
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    int code = *fd < 0 ? files_fail(e, "open", path) : take_lock(*fd, dir, path, e);
    if (code != OK && *fd >= 0) close(*fd);
    mem_free(path);
    return code;
}

static int lock_unless_held(const char *dir, struct io_lock *lock, struct err *e)
{
    struct stat s;
    if (stat(dir, &s) != 0) return files_fail(e, "look at", dir);
    for (const struct io_lock *held = locks; held != NULL; held = held->next) {
        if (held->device == s.st_dev && held->inode == s.st_ino) return locked_by(e, dir, (long)getpid());
    }
    lock->device = s.st_dev;
    lock->inode = s.st_ino;
    return open_lock(dir, &lock->fd, e);
}

int dirs_lock(struct io *io, const char *dir, struct io_lock **out, struct err *e)
{
    (void)io;
    struct io_lock *lock = mem_zero(1, sizeof *lock);
    if (lock == NULL) return err_set(e, ERR_NOMEM, "out of memory to lock %.200s", dir);
    pthread_mutex_lock(&locks_mutex);
    int code = lock_unless_held(dir, lock, e);
    if (code == OK) {
        lock->next = locks;
        locks = lock;
        *out = lock;
    }
    pthread_mutex_unlock(&locks_mutex);
    if (code != OK) mem_free(lock);
    return code;
}

/* The file stays: removing it could pull it from under another process that has just opened it. */
void dirs_unlock(struct io *io, struct io_lock *lock)
{
    (void)io;
    pthread_mutex_lock(&locks_mutex);
    struct io_lock **at = &locks;
    while (*at != lock) {
        ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = lock->next;
    close(lock->fd);
    pthread_mutex_unlock(&locks_mutex);
    mem_free(lock);
}
