#include "base/slab.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "base/mem.h"

#define IDLE_KEPT 32u            /* slabs that stay whole, whether they are needed or not: 2 MiB */
#define REST_MAX 256u            /* slabs that the kernel is offered at once */
#define OPEN (UINT32_C(1) << 30) /* above any number of pieces */

#ifdef __SANITIZE_ADDRESS__
#define PIECE_MAX ((size_t)0)
#else
#define PIECE_MAX SLAB_PIECE_MAX
#endif

struct slab {
    /* OPEN - freed while a thread cuts pieces from it, so that it need not count each; then those that are in use. */
    _Atomic uint32_t users;
    struct slab *next; /* idle */
    _Alignas(SLAB_ALIGNMENT) uint8_t room[];
};

/* ---- slabs: from the kernel, or idle ---- */

/* Nobody waits for the flag: who finds it set asks the kernel. A child may be forked while another thread has it. */
static struct {
    atomic_flag busy;
    struct slab *warm, *cold; /* cold: the kernel may take all of it but the first page */
    unsigned n, least;        /* of the warm ones: now; at any time since the last slab_rest() */
} idle = {.busy = ATOMIC_FLAG_INIT};

static bool idle_enter(void) { return !atomic_flag_test_and_set_explicit(&idle.busy, memory_order_acquire); }
static void idle_leave(void) { atomic_flag_clear_explicit(&idle.busy, memory_order_release); }

static struct slab *pop(struct slab **list)
{
    struct slab *s = *list;
    if (s != NULL) *list = s->next;
    return s;
}

static void push(struct slab **list, struct slab *s)
{
    s->next = *list;
    *list = s;
}

static void *map(size_t size)
{
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return pages == MAP_FAILED ? NULL : pages;
}

/* One that starts at a multiple of its size. Where one does the next one mostly does, too. */
static struct slab *slab_map(void)
{
    uint8_t *pages = map(SLAB_BYTES);
    if (pages != NULL && (uintptr_t)pages % SLAB_BYTES != 0) {
        munmap(pages, SLAB_BYTES);
        pages = map(2 * SLAB_BYTES);
        size_t before = pages == NULL ? 0 : SLAB_BYTES - (uintptr_t)pages % SLAB_BYTES;
        if (pages != NULL) munmap(pages + before + SLAB_BYTES, SLAB_BYTES - before);
        if (pages != NULL && before > 0) munmap(pages, before);
        if (pages != NULL) pages += before;
    }
    if (pages != NULL) madvise(pages, SLAB_BYTES, MADV_WIPEONFORK); /* an older kernel copies it */
    return (struct slab *)pages;
}

static struct slab *slab_take(void)
{
    struct slab *s = NULL;
    if (idle_enter()) {
        s = pop(&idle.warm);
        if (s != NULL) idle.n--;
        else s = pop(&idle.cold);
        idle.least = MIN(idle.least, idle.n);
        idle_leave();
    }
    return s != NULL ? s : slab_map();
}

static void slab_give(struct slab *s)
{
    if (!idle_enter()) {
        munmap(s, SLAB_BYTES);
        return;
    }
    push(&idle.warm, s);
    idle.n++;
    idle_leave();
}

/* One that nobody has needed since the last slab_rest(); NULL: there is none. */
static struct slab *slab_take_unneeded(void)
{
    struct slab *s = NULL;
    if (!idle_enter()) return NULL;
    if (idle.least > IDLE_KEPT) {
        s = pop(&idle.warm);
        idle.least--;
        idle.n--;
    }
    idle_leave();
    return s;
}

/* The cache of a log that is compacted now and then falls and rises again, within seconds under load: what it lets go
 * is not offered to the kernel at once, which costs both sides more than using it again. */
void slab_rest(void)
{
    struct slab *s;
    for (unsigned i = 0; i < REST_MAX && (s = slab_take_unneeded()) != NULL; i++) {
        bool kept = madvise(s, SLAB_BYTES, MADV_FREE) == 0 && idle_enter();
        if (kept) {
            push(&idle.cold, s);
            idle_leave();
        } else {
            munmap(s, SLAB_BYTES);
        }
    }
    if (!idle_enter()) return;
    idle.least = idle.n;
    idle_leave();
}

/* ---- pieces ---- */

/* The slab that this thread cuts pieces from; NULL: none. */
static _Thread_local struct {
    struct slab *slab;
    size_t used; /* of its bytes */
    uint32_t n;  /* pieces */
} own;

/* No more are cut from it. true: it has none in use either, and is the caller's. */
static bool slab_seal(struct slab *s, uint32_t n)
{
    return atomic_fetch_sub_explicit(&s->users, OPEN - n, memory_order_acq_rel) == OPEN - n;
}

static void on_thread_end(void *slab)
{
    if (slab_seal(slab, own.n)) slab_give(slab);
    own.slab = NULL;
}

static pthread_key_t end_key;
static int end_key_failed;
static void make_key(void) { end_key_failed = pthread_key_create(&end_key, on_thread_end); }

/* The thread gives this slab back when it ends; NULL: none. */
static bool slab_own(struct slab *s)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_key);
    return end_key_failed == 0 && pthread_setspecific(end_key, s) == 0;
}

/* A slab of its own for this thread, with room: that one again, when nothing of it is in use by now. */
static bool slab_open(void)
{
    struct slab *s = own.slab;
    if (s == NULL || !slab_seal(s, own.n)) s = slab_take();
    if (!slab_own(s)) {
        if (s != NULL) slab_give(s);
        s = NULL;
    }
    own.slab = s;
    if (s == NULL) return false;
    atomic_store_explicit(&s->users, OPEN, memory_order_relaxed);
    own.used = offsetof(struct slab, room);
    own.n = 0;
    return true;
}

void *slab_alloc(size_t size)
{
    ASSERT(size > 0);
    if (size > PIECE_MAX) return mem_alloc(size);
    if (mem_fails()) return NULL;
    size_t whole = (size + SLAB_ALIGNMENT - 1) / SLAB_ALIGNMENT * SLAB_ALIGNMENT;
    if ((own.slab == NULL || whole > SLAB_BYTES - own.used) && !slab_open()) return NULL;
    void *piece = (uint8_t *)own.slab + own.used;
    own.used += whole;
    own.n++;
    return piece;
}

void slab_free(void *piece, size_t size)
{
    if (size > PIECE_MAX) {
        mem_free(piece);
        return;
    }
    struct slab *s = (struct slab *)((uintptr_t)piece / SLAB_BYTES * SLAB_BYTES);
    if (atomic_fetch_sub_explicit(&s->users, 1, memory_order_acq_rel) == 1) slab_give(s);
}
