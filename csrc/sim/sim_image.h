/* A disk in memory for loops over millions of crashes: one directory, whose every step can be written down, taken
 * back, and done again in part.
 *
 * It is a struct io without time, links and chance of its own. The lanes stand still until they are told to run, so
 * that a loop sees what is in flight. A write is durable when it is done, a change of names when the directory has
 * been synced: sim_crash.h makes of the steps in flight every image that a crash may leave. */
#ifndef RAFT_SIM_SIM_IMAGE_H
#define RAFT_SIM_SIM_IMAGE_H

#include "base/io.h"
#include "base/prng.h"

#pragma GCC visibility push(hidden)

#define IMAGE_NAMES 40u    /* most files in the directory */
#define IMAGE_NAME_SIZE 32u
#define IMAGE_CHANGES 16u  /* most changes of names that are not synced */

struct image_inode {
    struct image_inode *next; /* the one made before it */
    uint8_t *data;
    size_t size, capacity;
};

struct image_name {
    char text[IMAGE_NAME_SIZE];
    struct image_inode *inode;
};

struct image_names {
    uint32_t count;
    struct image_name list[IMAGE_NAMES];
};

/* Who made a step: a lane, or the process itself while it opens. */
enum image_actor { IMAGE_DISK = IO_LANE_DISK, IMAGE_BULK = IO_LANE_BULK, IMAGE_OPENING, IMAGE_ACTORS };

/* A create (no from), rename or remove (no to). */
struct image_change {
    char from[IMAGE_NAME_SIZE], to[IMAGE_NAME_SIZE];
    struct image_inode *inode;
    enum image_actor actor;
};

/* Names as the process sees them, as a crash leaves them for sure, and the changes in between, in order. */
struct image_directory {
    struct image_names now, durable;
    struct image_change changes[IMAGE_CHANGES];
    uint32_t n_changes;
};

enum image_step_kind { IMAGE_WRITE = 1, IMAGE_FILL, IMAGE_CHANGE, IMAGE_SYNC };

struct image_step {
    enum image_step_kind kind;
    struct image_inode *inode; /* of a write or fill */
    uint64_t at, size;         /* of a fill: the file's new size */
    size_t bytes;              /* of a write: offset in image_steps.bytes */
    struct image_change change;
};

/* What one actor did, in order. */
struct image_steps {
    struct image_step *list;
    size_t n, capacity;
    struct buf bytes;
};

struct image_disk {
    struct io io; /* first: an io is its disk */
    struct prng prng;
    uint64_t now_us;
    struct image_directory directory;
    struct image_inode *inodes; /* the newest first */
    struct io_file *files;      /* open */
    struct io_lock *lock;
    struct io_job *jobs[IO_LANES];      /* submitted, in order */
    enum image_actor actor;             /* of the steps that come now */
    struct image_steps *record;         /* where they are written down; NULL: nowhere */
    struct image_undo *undo;
    size_t n_undo, undo_capacity;
    struct buf old; /* what the undo list puts back */
};

/* A moment to come back to. */
struct image_mark {
    size_t n_undo;
    struct prng prng;
    uint64_t now_us;
};

void image_disk_init(struct image_disk *d, uint64_t seed);
void image_disk_free(struct image_disk *d);

/* Runs the first job of a lane; false: there is none. The job is told of it by image_done. */
bool image_work(struct image_disk *d, enum io_lane lane);
void image_done(struct image_disk *d, enum io_lane lane);
/* Runs the job that was submitted last, before all others of its lane. */
void image_run_last(struct image_disk *d, enum io_lane lane);

struct image_mark image_mark(const struct image_disk *d);
/* Takes back every step since the mark. */
void image_undo(struct image_disk *d, struct image_mark mark);
/* Frees the inodes that are younger than this one: nobody needs them any more, not to do a step again either. */
void image_forget(struct image_disk *d, const struct image_inode *youngest);
/* Nothing before this moment will be taken back. */
void image_commit(struct image_disk *d);

/* Does a step again. */
void image_redo(struct image_disk *d, const struct image_steps *steps, const struct image_step *step,
                enum image_actor actor);
void image_steps_clear(struct image_steps *steps);
void image_steps_free(struct image_steps *steps);

/* What the disk knows of the process that uses it. */
struct image_process {
    struct io_file *files;
    struct io_job *jobs[IO_LANES];
    bool locked;
};
/* Sets the process aside, so that another one can look at the disk; image_resume ends that one. */
struct image_process image_suspend(struct image_disk *d);
void image_resume(struct image_disk *d, struct image_process process);

/* The process is gone, with jobs, open files and lock. Of the changes of names that were not synced, those whose bit
 * is set in `kept` have come to the disk. */
void image_crash(struct image_disk *d, uint32_t kept);
/* The bytes at .. at + size - 1 of a file may be changed at will from now on; image_undo brings them back. The file
 * becomes at least that long. */
uint8_t *image_touch(struct image_disk *d, struct image_inode *inode, uint64_t at, uint64_t size);

#pragma GCC visibility pop

#endif
