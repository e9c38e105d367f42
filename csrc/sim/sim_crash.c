#include "sim/sim_crash.h"

#include "base/mem.h"

/* A write in flight. Its bytes are put on the disk and taken off it in place. */
struct flight {
    struct image_inode *inode;
    uint64_t at, size, old_size;
    const uint8_t *after;  /* what it writes */
    uint8_t *before;       /* what was there */
};

/* A sector of a write in flight that makes a difference. */
struct piece {
    struct flight *flight;
    uint64_t from, size; /* within the write */
};

struct pieces {
    struct piece *list;
    size_t n, capacity;
};

/* ---- showing an image ---- */

static void show(struct crash_loop *loop, uint32_t names)
{
    struct image_disk *d = loop->disk;
    if (loop->ended) return;
    loop->names = names;
    loop->images++;
    if (loop->images == loop->stop_at) {
        image_crash(d, names);
        loop->ended = loop->stopped = true;
    }
    if (loop->ended || loop->images % loop->every != 0) return;
    const struct image_inode *youngest = d->inodes;
    struct image_mark mark = image_mark(d);
    image_crash(d, names);
    if (!loop->visit(loop->ctx)) loop->ended = true;
    image_resume(d, (struct image_process){0});
    image_undo(d, mark);
    image_forget(d, youngest);
}

/* With each subset of the changes of names that are not synced. */
static void show_with_names(struct crash_loop *loop)
{
    uint32_t n = loop->disk->directory.n_changes;
    for (uint32_t names = 0; names < UINT32_C(1) << MIN(n, CRASH_SUBSET); names++) show(loop, names);
    if (n > CRASH_SUBSET) show(loop, UINT32_MAX);
}

/* With none of them and with all. */
static void show_with_and_without(struct crash_loop *loop)
{
    show(loop, 0);
    if (loop->disk->directory.n_changes > 0) show(loop, UINT32_MAX);
}

/* ---- a write in flight, byte by byte ---- */

static bool flight_begin(struct crash_loop *loop, int actor, struct flight *f)
{
    const struct image_steps *steps = loop->steps[actor];
    if (steps == NULL || loop->done[actor] == steps->n) return false;
    const struct image_step *step = &steps->list[loop->done[actor]];
    if (step->kind != IMAGE_WRITE || step->size == 0) return false;
    *f = (struct flight){
        .inode = step->inode,
        .at = step->at,
        .size = step->size,
        .old_size = step->inode->size,
        .after = steps->bytes.data + step->bytes,
        .before = mem_alloc((size_t)step->size),
    };
    ASSERT(f->before != NULL);
    memcpy(f->before, image_touch(loop->disk, f->inode, f->at, f->size), (size_t)f->size);
    f->inode->size = (size_t)f->old_size;
    return true;
}

/* The file as long as if it had been written up to here. */
static void flight_size(struct flight *f, uint64_t written)
{
    f->inode->size = (size_t)MAX(f->old_size, written > 0 ? f->at + written : 0);
}

static void flight_put(struct flight *f, const uint8_t *bytes, uint64_t from, uint64_t size)
{
    memcpy(f->inode->data + f->at + from, bytes + from, (size_t)size);
}

/* Each beginning of the write, then each end of it. */
static void show_cuts(struct crash_loop *loop, struct flight *f)
{
    loop->how = "the first bytes of a write";
    for (uint64_t i = 0; i < f->size && !loop->ended; i++) {
        bool same = f->before[i] == f->after[i] && f->at + i < f->old_size;
        flight_size(f, i + 1);
        flight_put(f, f->after, i, 1);
        loop->detail = i + 1;
        if (!same) show_with_and_without(loop);
    }
    loop->how = "a write without its first bytes";
    for (uint64_t i = 0; i < f->size && !loop->ended; i++) {
        flight_put(f, f->before, i, 1);
        loop->detail = i + 1;
        if (f->before[i] != f->after[i]) show_with_and_without(loop);
    }
    if (loop->stopped) return;
    flight_put(f, f->before, 0, f->size);
    flight_size(f, 0);
}

/* ---- sectors of the writes in flight ---- */

static void pieces_add(struct pieces *p, struct flight *f)
{
    for (uint64_t from = 0, size; from < f->size; from += size) {
        size = MIN(CRASH_SECTOR - (f->at + from) % CRASH_SECTOR, f->size - from);
        bool same = memcmp(f->before + from, f->after + from, (size_t)size) == 0;
        if (same && f->at + from + size <= f->old_size) continue;
        void *list = p->list;
        bool grown = mem_grow(&list, &p->capacity, p->n + 1, sizeof *p->list);
        ASSERT(grown);
        p->list = list;
        p->list[p->n++] = (struct piece){.flight = f, .from = from, .size = size};
    }
}

static void pieces_put(struct pieces *p, size_t first, size_t n, uint64_t bits)
{
    for (size_t i = 0; i < n; i++) {
        struct piece *piece = &p->list[first + i];
        struct flight *f = piece->flight;
        flight_put(f, bits >> i & 1 ? f->after : f->before, piece->from, piece->size);
    }
}

static void pieces_put_all(struct pieces *p, size_t first, size_t end, bool after)
{
    for (size_t i = first; i < end; i++) pieces_put(p, i, 1, after);
}

static void show_subsets(struct crash_loop *loop, struct pieces *p, size_t first, size_t n, bool few)
{
    for (uint64_t bits = 0; bits < UINT64_C(1) << n && !loop->ended; bits++) {
        pieces_put(p, first, n, bits);
        loop->detail = bits;
        if (few) show_with_names(loop);
        else show_with_and_without(loop);
    }
}

static void show_sectors(struct crash_loop *loop, struct flight *flights, size_t n_flights)
{
    struct pieces p = {0};
    for (size_t i = 0; i < n_flights; i++) {
        pieces_add(&p, &flights[i]);
        flight_size(&flights[i], flights[i].size);
    }
    loop->how = "some sectors of what is written";
    bool few = p.n + loop->disk->directory.n_changes <= CRASH_SUBSET;
    for (size_t first = 0; first < p.n && !loop->ended; first += CRASH_SUBSET) {
        size_t n = MIN(p.n - first, CRASH_SUBSET);
        for (unsigned around = 0; around < 4 && !loop->ended; around++) {
            if ((around & 1 && first == 0) || (around & 2 && first + n == p.n)) continue;
            pieces_put_all(&p, 0, first, around & 1);
            pieces_put_all(&p, first + n, p.n, around & 2);
            show_subsets(loop, &p, first, n, few);
        }
    }
    mem_free(p.list);
    for (size_t i = 0; i < n_flights && !loop->stopped; i++) {
        flight_put(&flights[i], flights[i].before, 0, flights[i].size);
        flight_size(&flights[i], 0);
    }
}

/* ---- everything ---- */

/* A file that is being filled has got some length. */
static void show_fill(struct crash_loop *loop, int actor)
{
    static const uint64_t lengths[] = {1, 127, 128, 2048 + 127, IO_BLOCK - 1, IO_BLOCK, IO_BLOCK + 1};
    const struct image_steps *steps = loop->steps[actor];
    if (steps == NULL || loop->done[actor] == steps->n) return;
    struct image_step step = steps->list[loop->done[actor]];
    loop->how = "a part of a file that is being filled";
    uint64_t whole = step.size;
    for (size_t i = 0; step.kind == IMAGE_FILL && i <= COUNT_OF(lengths) && !loop->ended; i++) {
        struct image_mark mark = image_mark(loop->disk);
        loop->detail = step.size = i < COUNT_OF(lengths) ? lengths[i] : whole - 1;
        image_redo(loop->disk, steps, &step, loop->actors[actor]);
        show_with_and_without(loop);
        if (!loop->stopped) image_undo(loop->disk, mark);
    }
}

/* With loop->done[] steps done, and the next ones in flight. */
static void show_point(struct crash_loop *loop)
{
    struct flight flights[2];
    size_t n = 0;
    loop->how = "nothing that is in flight";
    loop->detail = 0;
    show_with_names(loop);
    for (int actor = 0; actor < 2; actor++) {
        const struct image_steps *other = loop->steps[1 - actor];
        size_t others = other != NULL ? other->n : 0;
        show_fill(loop, actor);
        if (loop->ended || !flight_begin(loop, actor, &flights[n])) continue;
        if (loop->done[1 - actor] == 0 || loop->done[1 - actor] == others) show_cuts(loop, &flights[n]);
        n++;
    }
    if (n > 0 && !loop->ended) show_sectors(loop, flights, n);
    for (size_t i = 0; i < n; i++) mem_free(flights[i].before);
}

static void redo_all(struct crash_loop *loop, int actor)
{
    for (size_t i = 0; i < loop->done[actor]; i++) {
        image_redo(loop->disk, loop->steps[actor], &loop->steps[actor]->list[i], loop->actors[actor]);
    }
}

bool crash_each(struct crash_loop *loop)
{
    struct image_mark mark = image_mark(loop->disk);
    size_t others = loop->steps[1] != NULL ? loop->steps[1]->n : 0;
    loop->ended = loop->stopped = false;
    for (loop->done[0] = 0; loop->done[0] <= loop->steps[0]->n && !loop->ended; loop->done[0]++) {
        for (loop->done[1] = 0; loop->done[1] <= others && !loop->ended; loop->done[1]++) {
            redo_all(loop, 0);
            redo_all(loop, 1);
            show_point(loop);
            if (!loop->stopped) image_undo(loop->disk, mark);
        }
    }
    return !loop->ended || loop->stopped;
}
