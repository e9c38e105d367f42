/* The simulated disk of one node: bytes become durable when a write runs, names when their directory is synced. It is
 * kept over the lives of the node's processes; open files and locks are not.
 *
 * The functions named like those of struct io are what these are for this disk; their contracts are in base/io.h. */
#ifndef RAFT_SIM_SIM_DISK_H
#define RAFT_SIM_SIM_DISK_H

#include "base/io.h"
#include "sim/sim_faults.h"
#include "sim/sim_names.h"

#pragma GCC visibility push(hidden)

struct io_file {
    struct sim_inode *inode;
    char *path;
    int flags;
    struct io_file *next;
};

struct io_lock {
    char *path;
    struct io_lock *next;
};

struct sim_disk {
    struct sim_queue *queue;
    int node; /* whose it is */
    const struct sim_faults *faults;
    struct sim_names names;
    struct io_file *files; /* open */
    struct io_lock *locks;
    bool full, dead;
    uint64_t ops, fail_at, die_at; /* 0 = off */
    int fail_code;
};

void sim_disk_init(struct sim_disk *d, struct sim_queue *q, int node, const struct sim_faults *faults);
void sim_disk_free(struct sim_disk *d);

/* The process is gone: open files and locks with it; changes of names are kept or lost. */
void sim_disk_crash(struct sim_disk *d);
void sim_disk_wipe(struct sim_disk *d); /* empty. Precondition: no file is open, no lock is held */
/* See sim_world_fail_file, sim_world_die, sim_world_rot, sim_world_file, sim_world_put_file. */
void sim_disk_fail(struct sim_disk *d, uint64_t n, int code);
void sim_disk_die(struct sim_disk *d, uint64_t n);
const char *sim_disk_rot(struct sim_disk *d, uint64_t *at);
const uint8_t *sim_disk_file(const struct sim_disk *d, const char *path, size_t *size);
bool sim_disk_put(struct sim_disk *d, const char *path, const void *data, size_t size);

int sim_disk_open(struct sim_disk *d, const char *path, int flags, struct io_file **file, struct err *e);
void sim_disk_close(struct sim_disk *d, struct io_file *file);
int sim_disk_size(struct sim_disk *d, struct io_file *file, uint64_t *size, struct err *e);
int sim_disk_read(struct sim_disk *d, struct io_file *file, uint64_t at, void *data, size_t size, size_t *got,
                  struct err *e);
int sim_disk_write(struct sim_disk *d, struct io_file *file, uint64_t at, const void *data, size_t size,
                   struct err *e);
int sim_disk_put_part(struct sim_disk *d, struct io_file *file, uint64_t at, const void *data, size_t size,
                      struct err *e); /* io_put */
int sim_disk_sync(struct sim_disk *d, struct io_file *file, struct err *e);
int sim_disk_fill(struct sim_disk *d, struct io_file *file, uint64_t size, struct err *e);
int sim_disk_rename(struct sim_disk *d, const char *from, const char *to, struct err *e);
int sim_disk_remove(struct sim_disk *d, const char *path, struct err *e);
int sim_disk_list(struct sim_disk *d, const char *dir, struct io_names *names, struct err *e);
int sim_disk_make_dir(struct sim_disk *d, const char *dir, struct err *e);
int sim_disk_sync_dir(struct sim_disk *d, const char *dir, struct err *e);
int sim_disk_lock_dir(struct sim_disk *d, const char *dir, struct io_lock **lock, struct err *e);
void sim_disk_unlock_dir(struct sim_disk *d, struct io_lock *lock);
int sim_disk_room(struct sim_disk *d, const char *dir, uint64_t *bytes, struct err *e);

#pragma GCC visibility pop

#endif
