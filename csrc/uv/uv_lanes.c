#include "uv/uv_internal.h"

/* A job waits in its lane's queue, runs on the lane's thread, and then waits in the one queue of done jobs,
 * which keeps the order of each lane, for whoever has the turn. */

#define FIRST IO_LANE_BULK /* with a thread of its own */

static const char *const names[IO_LANES] = {[IO_LANE_BULK] = "raft-bulk", [IO_LANE_CHILD] = "raft-child"};

static void append(struct io_job ***last, struct io_job *job)
{
    job->next = NULL;
    **last = job;
    *last = &job->next;
}

int lanes_init(struct uv_world *w)
{
    w->done_last = &w->done_first;
    int code = pthread_mutex_init(&w->done_mutex, NULL);
    for (int i = 0; i < IO_LANES && code == 0; i++) {
        struct uv_lane *lane = &w->lanes[i];
        lane->world = w;
        lane->last = &lane->first;
        code = pthread_mutex_init(&lane->mutex, NULL);
        if (code == 0) code = pthread_cond_init(&lane->more, NULL);
    }
    return code;
}

void lanes_free(struct uv_world *w)
{
    ASSERT(w->done_first == NULL);
    for (int i = 0; i < IO_LANES; i++) {
        ASSERT(w->lanes[i].first == NULL);
        pthread_cond_destroy(&w->lanes[i].more);
        pthread_mutex_destroy(&w->lanes[i].mutex);
    }
    pthread_mutex_destroy(&w->done_mutex);
}

static bool has_more(struct uv_lane *lane)
{
    pthread_mutex_lock(&lane->mutex);
    bool more = lane->first != NULL;
    pthread_mutex_unlock(&lane->mutex);
    return more;
}

bool lane_done(struct uv_lane *lane, struct io_job *job)
{
    struct uv_world *w = lane->world;
    pthread_mutex_lock(&w->done_mutex);
    bool first = w->done_first == NULL;
    append(&w->done_last, job);
    pthread_mutex_unlock(&w->done_mutex);
    return first;
}

struct io_job *lane_take(struct uv_lane *lane)
{
    pthread_mutex_lock(&lane->mutex);
    struct io_job *job = lane->taken ? NULL : lane->first;
    if (job != NULL) {
        lane->taken = true;
        lane->first = job->next;
        if (lane->first == NULL) lane->last = &lane->first;
    }
    pthread_mutex_unlock(&lane->mutex);
    return job;
}

bool lane_give_back(struct uv_lane *lane)
{
    pthread_mutex_lock(&lane->mutex);
    lane->taken = false;
    bool more = lane->first != NULL;
    pthread_mutex_unlock(&lane->mutex);
    return more;
}

/* What follows from a durable write is short, and somebody waits for it: the thread of that lane sees to it, unless it
 * has another write to do. Else the engine is told, once a burst: by whoever finds the queue empty. */
void lane_hand_over(struct uv_lane *lane, struct io_job *job)
{
    struct uv_world *w = lane->world;
    bool first = lane_done(lane, job);
    if (lane == &w->lanes[IO_LANE_DISK] && !has_more(lane)) world_visit(w);
    else if (first) world_tell(w);
}

static struct io_job *next_job(struct uv_lane *lane)
{
    pthread_mutex_lock(&lane->mutex);
    while (lane->first == NULL && !lane->ending) pthread_cond_wait(&lane->more, &lane->mutex);
    struct io_job *job = lane->first;
    if (job != NULL) {
        lane->first = job->next;
        if (lane->first == NULL) lane->last = &lane->first;
    }
    pthread_mutex_unlock(&lane->mutex);
    return job;
}

static void *lane_main(void *arg)
{
    struct uv_lane *lane = arg;
    for (struct io_job *job = next_job(lane); job != NULL; job = next_job(lane)) {
        job->work(job);
        lane_hand_over(lane, job);
    }
    return NULL;
}

static void lane_end(struct uv_lane *lane)
{
    pthread_mutex_lock(&lane->mutex);
    lane->ending = true;
    pthread_cond_signal(&lane->more);
    pthread_mutex_unlock(&lane->mutex);
    pthread_join(lane->thread, NULL);
    lane->ending = false;
}

int lanes_run(struct uv_world *w)
{
    for (int i = FIRST; i < IO_LANES; i++) {
        int code = world_spawn(&w->lanes[i].thread, names[i], lane_main, &w->lanes[i]);
        if (code != 0) {
            while (i-- > FIRST) lane_end(&w->lanes[i]);
            return code;
        }
    }
    return 0;
}

void lanes_join(struct uv_world *w)
{
    for (int i = FIRST; i < IO_LANES; i++) lane_end(&w->lanes[i]);
}

void lanes_submit(struct io *io, enum io_lane which, struct io_job *job)
{
    struct uv_world *w = world_of(io);
    struct uv_lane *lane = &w->lanes[which];
    ASSERT(which < IO_LANES && !w->stopped);
    w->jobs++;
    pthread_mutex_lock(&lane->mutex);
    bool first = lane->first == NULL && !lane->taken;
    bool brief = first && job->brief && !lane->slow;
    append(&lane->last, job);
    pthread_mutex_unlock(&lane->mutex);
    if (which != IO_LANE_DISK) pthread_cond_signal(&lane->more); /* only now: who is woken takes the mutex at once */
    else if (first) watch_submitted(w, brief);
}

void lanes_deliver(struct uv_world *w)
{
    pthread_mutex_lock(&w->done_mutex);
    struct io_job *job = w->done_first;
    w->done_first = NULL;
    w->done_last = &w->done_first;
    pthread_mutex_unlock(&w->done_mutex);
    while (job != NULL) {
        struct io_job *next = job->next; /* done() may free the job */
        ASSERT(w->jobs > 0);
        w->jobs--;
        w->dirty = true;
        job->done(job);
        job = next;
    }
}
