/* The files of the log: which are live, which are ready, and the keeper that prepares and recycles them.
 *
 * The keeper does one thing at a time, on the bulk lane. Released segments go strictly oldest first, each one durably
 * before the next, so that the live segments have no gap whatever moment a crash picks. They become spares, as many as
 * the log fills between two releases: a busy log writes no zeros once it has come round. */
#ifndef RAFT_STORE_SEGMENTS_H
#define RAFT_STORE_SEGMENTS_H

#include "base/io.h"
#include "store/format.h"

#pragma GCC visibility push(hidden)

struct segment {
    struct segment *next;
    uint64_t file;   /* number in its name */
    uint64_t size;   /* of the file; a multiple of IO_BLOCK */
    uint64_t number; /* live: its place in the log */
    uint64_t salt;
    uint64_t end;          /* live: where the next batch would stand */
    struct io_file *handle; /* open for writing: spares and the current one; else NULL */
};

struct segments { /* a list */
    struct segment *head, *tail;
    uint32_t count;
};
void segments_push(struct segments *list, struct segment *segment);
struct segment *segments_pop(struct segments *list); /* NULL: it is empty */
/* Takes out the first one of at least size bytes; NULL: there is none. */
struct segment *segments_take(struct segments *list, uint64_t size);
/* Closes the handles (blocks) unless io is NULL, frees all. */
void segments_clear(struct segments *list, struct io *io);

/* Smallest size of a segment, at least `usual`, that holds a batch of length bytes. */
uint64_t segment_size_for(uint64_t usual, uint64_t length);

/* More are not kept beyond those that are wanted, however much the log lets go at once. */
#define SPARES_RECYCLED_MAX 32u

enum keeper_task {
    KEEPER_NOTHING,
    KEEPER_PREPARE,
    KEEPER_RECYCLE, /* of a released segment; so is KEEPER_REMOVE */
    KEEPER_REMOVE,
    KEEPER_TRIM,    /* removes a spare that is not worth its room any more */
    KEEPER_LOOK,    /* asks how much room there is, as each task does */
};

struct keeper {
    struct io *io;
    char *dir;
    uint8_t *block;       /* aligned, for one header */
    struct segment_header header; /* of a spare, but for its size */
    uint64_t next_file;   /* name of the next new file */
    struct io_job job;
    bool busy;
    bool look_due;           /* a spare was taken: is there room for more than what is kept? */
    enum keeper_task task;
    struct segment *segment; /* what the task is about; NULL: KEEPER_LOOK */
    int status;              /* of the task */
    struct err error;
    bool short_of_room;      /* preparing failed the last time */
    bool release_failed;     /* recycling or removing did: new files go first, so that it stops nothing */
    uint64_t needed;         /* a spare of this size is waited for; 0 = none */
    uint64_t retry_at;       /* io_now; 0 = no need to wait */
    uint64_t room;           /* bytes that can still be written, as the task has seen; UINT64_MAX = not known */
};

/* dir is borrowed; cluster and node are put into header once they are known. false: no memory. */
bool keeper_init(struct keeper *k, struct io *io, char *dir);
void keeper_free(struct keeper *k);
/* Asks how much room there is, in the calling thread. */
void keeper_look(struct keeper *k);
/* Makes a spare of its size out of a new file, in the calling thread. Afterwards its handle is open. ERR_FULL,
 * ERR_IO: nothing is left (but what a crash may leave: the next recovery removes it). */
int keeper_prepare(struct keeper *k, struct segment *segment, struct err *e);
/* Durably turns a file into a spare, in the calling thread; opens its handle. ERR_IO. */
int keeper_recycle(struct keeper *k, struct segment *segment, struct err *e);

struct store;
/* So many segments have just been released: until the next time the log will fill about as many again, which then need
 * no zeros. A smaller number lowers what is kept step by step. */
void keeper_released(struct store *s, uint32_t count);
/* Starts the next task if there is one and none is running. */
void keeper_kick(struct store *s);
/* When keeper_kick has something to do again; NEVER_US: not by time. */
uint64_t keeper_deadline(const struct store *s);

#pragma GCC visibility pop

#endif
