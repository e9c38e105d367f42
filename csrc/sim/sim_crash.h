/* Every image of a disk that a crash may leave, while the steps of two actors are in flight.
 *
 * Each actor has done some of its steps and is in the middle of the next. A write in flight leaves any beginning of its
 * bytes, any end of them, or any set of its sectors; a change of names that is not synced is kept or lost. Where there
 * are more than CRASH_SUBSET things to choose from, every subset of each CRASH_SUBSET neighbours is tried, with all or
 * none of those before and behind them. */
#ifndef RAFT_SIM_SIM_CRASH_H
#define RAFT_SIM_SIM_CRASH_H

#include "sim/sim_image.h"

#pragma GCC visibility push(hidden)

#define CRASH_SUBSET 8u
#define CRASH_SECTOR 512u

struct crash_loop {
    struct image_disk *disk;
    const struct image_steps *steps[2]; /* not done yet: the disk is as before them. The second may be NULL */
    enum image_actor actors[2];
    /* Looks at the image on the disk; what it does there is undone. false: something is wrong, the loop ends. */
    bool (*visit)(void *ctx);
    void *ctx;
    uint64_t every;  /* only each n-th image is looked at */
    uint64_t images; /* so far, over all loops */
    uint64_t stop_at; /* the image at which the loop ends, and leaves the disk so; 0 = none */

    /* Where the loop is. */
    size_t done[2];   /* whole steps of each actor */
    const char *how;  /* the kind of image */
    uint64_t detail;  /* a byte, or the bits of the subset */
    uint32_t names;   /* bits of the changes kept */
    bool ended, stopped; /* stopped: at stop_at */
};

/* Shows all images. The disk is afterwards as it was before, unless the loop was stopped. false: visit() found
 * something wrong. */
bool crash_each(struct crash_loop *loop);

#pragma GCC visibility pop

#endif
