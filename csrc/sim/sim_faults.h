/* The dials of a simulated world: how large it may be, and what goes wrong in it all the time. */
#ifndef RAFT_SIM_SIM_FAULTS_H
#define RAFT_SIM_SIM_FAULTS_H

#include "base/base.h"

#pragma GCC visibility push(hidden)

#define SIM_NODES_MAX 9

/* Rates in permille of occasions, times in us. All zero: a perfect world. */
struct sim_faults {
    uint32_t frame_lost, frame_doubled;
    uint32_t frame_late;        /* overtaken by later ones: a delay with a long tail */
    uint32_t link_broken;       /* within a frame that is sent */
    uint32_t connect_failed;
    uint32_t news_lost;         /* one end of a link is gone, and the other does not hear of it: it is half open */
    bool (*may_double)(const uint8_t *bytes, size_t size); /* of what is sent at once; NULL: all may be doubled */
    uint32_t torn;              /* a write in flight at a crash is torn (else lost or whole) */
    uint32_t disk_late;         /* a job takes longer: a delay with a long tail */
    uint32_t disk_lies;         /* a write is acknowledged and not made: no system survives it, checks must notice */
    uint64_t network_min_us, network_max_us; /* delay of a frame */
    uint64_t disk_min_us, disk_max_us;       /* time a job of a lane takes */
};

#pragma GCC visibility pop

#endif
