/* The snapshots in a directory: which there are, those coming in (incoming.c), and views of them (views.c).
 *
 * Usually there is one. An older one stays while somebody reads it. A damaged one stays until a newer one has come: it
 * is of no use, but whoever looks into the directory shall find it. */
#ifndef RAFT_STORE_SNAPSHOTS_H
#define RAFT_STORE_SNAPSHOTS_H

#include "store/format.h"
#include "store/snapshot.h"

#pragma GCC visibility push(hidden)

/* A file with a name. */
struct kept {
    struct kept *next;
    struct store_snapshot what; /* damaged: index and term alone, as the name has them */
    bool damaged;
    bool stuck;     /* removing it has failed: tried again when the next one has come */
    uint32_t views;
};

struct snapshots {
    struct kept *kept;      /* newest first */
    struct store_incoming *incoming;
    struct store_view *views;
    size_t reads;           /* of views, running */
    uint64_t serial;        /* of names for unfinished files */
    struct kept *victim;    /* being removed */
    struct io *io;
    char path[FORMAT_PATH_MAX]; /* of victim */
    struct io_job job;
    int status;
};

struct store;

/* The newest sound one; NULL: there is none. */
struct kept *snapshots_newest(const struct store *s);
/* Adds one, in its place. */
void snapshots_add(struct store *s, struct kept *kept);
/* The same for one whose file has just got its name. A damaged one of the same name is gone by that: were it
 * remembered, removing it would remove its successor. */
void snapshots_adopt(struct store *s, struct kept *kept);
/* Removes the next file that is of no use any more, if there is one and none is being removed. */
void snapshots_prune(struct store *s);
bool snapshots_busy(const struct store *s); /* a job of theirs is running */
void snapshots_free(struct store *s);

/* Looks through the files that have names of snapshots, newest first, until one is sound. *damaged gets the text on
 * the newest one that is not; empty: there is none. Blocks. */
int snapshots_recover(struct store *s, const struct io_names *names, char *damaged, struct err *e);

/* incoming.c: for closing. */
void incoming_drop_all(struct store *s);
void incoming_free_all(struct store *s);
/* views.c */
void views_free_all(struct store *s);

#pragma GCC visibility pop

#endif
