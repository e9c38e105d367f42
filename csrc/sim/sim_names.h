/* The names on a simulated disk: which path leads to which bytes, as the process sees it and as a crash leaves it.
 * A name that was created, renamed or removed is durable once its directory was synced; until then a crash may keep
 * the change or lose it. Directories are made durably at once (io_make_dir). */
#ifndef RAFT_SIM_SIM_NAMES_H
#define RAFT_SIM_SIM_NAMES_H

#include "sim/sim_queue.h"

#pragma GCC visibility push(hidden)

/* A write that was not synced: where, and what the file held there before. */
struct sim_put {
    struct sim_put *next;
    uint64_t at;
    size_t size, size_before; /* size_before: of the file */
    struct buf before;
};

/* The bytes of a file, however many names and open files it has. */
struct sim_inode {
    struct buf bytes;
    struct sim_put *puts;           /* not synced yet, newest first */
    bool puts_failed;               /* a sync of them has: they will never be durable for sure */
    uint32_t refs;
    uint32_t writes;                /* so far; stays at 2 */
    uint64_t newest_at, newest_end; /* what the newest one covered */
};

struct sim_name {
    char *path;
    struct sim_inode *inode;
};

struct sim_table {
    struct sim_name *list;
    size_t count, capacity;
};

/* A create, rename or remove that no sync has made durable yet. */
struct sim_change {
    char *from, *to; /* NULL: a create has no from, a remove has no to */
    struct sim_inode *inode;
};

struct sim_names {
    struct sim_table now, durable; /* as a process sees them; as a crash leaves them for sure */
    struct sim_change *changes;    /* from durable to now, in order */
    size_t n_changes, changes_capacity;
    char **dirs;
    size_t n_dirs, dirs_capacity;
};

struct sim_inode *sim_inode_new(void); /* with one reference */
struct sim_inode *sim_inode_ref(struct sim_inode *inode);
void sim_inode_unref(struct sim_inode *inode);
void sim_inode_forget_puts(struct sim_inode *inode); /* they stand as they are */

void sim_names_clear(struct sim_names *n); /* an empty disk */
void sim_names_free(struct sim_names *n);

/* What a process sees; NULL: no such file. */
struct sim_inode *sim_names_find(const struct sim_names *n, const char *path);
/* What a crash leaves for sure; NULL likewise. */
struct sim_inode *sim_names_durable(const struct sim_names *n, const char *path);
/* Makes a change for the process, to be made durable later. from: NULL = a create; to: NULL = a remove. */
void sim_names_change(struct sim_names *n, const char *from, const char *to, struct sim_inode *inode);
/* The changes in dir are durable now. */
void sim_names_sync(struct sim_names *n, const char *dir);
/* Each change that is not durable is kept or lost. */
void sim_names_crash(struct sim_names *n, struct sim_queue *q);
/* Puts a file there durably, and its directories. */
void sim_names_put(struct sim_names *n, const char *path, struct sim_inode *inode);

bool sim_names_has_dir(const struct sim_names *n, const char *dir);
bool sim_names_has_parent(const struct sim_names *n, const char *path); /* the directory that path is in */
void sim_names_make_dir(struct sim_names *n, const char *dir);          /* with its parents */
/* Calls found for each name in dir, without the directory's, in no order. */
void sim_names_list(const struct sim_names *n, const char *dir, void (*found)(void *ctx, const char *name), void *ctx);

#pragma GCC visibility pop

#endif
