/* Pieces of slabs from several threads, freed by others than they came from: to be run under ThreadSanitizer too.
 *
 *   slabs N        N pieces a thread; prints "ok" and how many bytes the process held */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/prng.h"
#include "base/slab.h"

#define THREADS 3
#define HELD 4096 /* pieces on their way from one thread to the next */

struct piece {
    uint32_t size, mark;
    uint8_t bytes[];
};

/* A place holds a piece until somebody takes it away for another one. */
static struct piece *_Atomic places[HELD];
static uint64_t count;

static void check(bool claim, const char *what)
{
    if (claim) return;
    printf("%s\n", what);
    exit(1);
}

/* Bytes of this process that no file backs, but for what the kernel may take. */
static size_t held(void)
{
    char line[256];
    size_t all = 0, lazy = 0;
    FILE *f = fopen("/proc/self/smaps_rollup", "r");
    check(f != NULL, "no /proc/self/smaps_rollup");
    while (fgets(line, sizeof line, f) != NULL) {
        sscanf(line, "Anonymous: %zu", &all);
        sscanf(line, "LazyFree: %zu", &lazy);
    }
    fclose(f);
    return (all - lazy) << 10;
}

static struct piece *make(size_t size, uint32_t mark)
{
    struct piece *p = slab_alloc(sizeof *p + size);
    check(p != NULL, "no memory");
    check((uintptr_t)p % SLAB_ALIGNMENT == 0, "not aligned");
    *p = (struct piece){.size = (uint32_t)size, .mark = mark};
    memset(p->bytes, (uint8_t)mark, size);
    return p;
}

static void drop(struct piece *p)
{
    if (p == NULL) return;
    for (uint32_t i = 0; i < p->size; i++) check(p->bytes[i] == (uint8_t)p->mark, "somebody else has written there");
    slab_free(p, sizeof *p + p->size);
}

static void *swap(void *seed)
{
    struct prng prng = {.state = (uintptr_t)seed};
    for (uint64_t i = 0; i < count; i++) {
        uint64_t random = prng_next(&prng);
        size_t size = random % 64 == 0 ? (size_t)(random >> 32) % (2 * SLAB_PIECE_MAX) : (size_t)(random >> 32) % 300;
        drop(atomic_exchange(&places[random / 64 % HELD], make(size, (uint32_t)i)));
    }
    return NULL;
}

static void on_all_threads(void)
{
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) {
        check(pthread_create(&threads[i], NULL, swap, (void *)(i + 1)) == 0, "pthread_create");
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (size_t i = 0; i < HELD; i++) drop(atomic_exchange(&places[i], NULL));
}

/* As often as it takes. */
static void rest(void)
{
    for (int i = 0; i < 6; i++) slab_rest();
}

/* Many small pieces, first in and first out like a log: they take up what was asked for, and are given back. */
static void like_a_log(void)
{
    enum { N = 400000, SIZE = 112 };
    struct piece **log = malloc(N * sizeof *log);
    check(log != NULL, "malloc");
    for (size_t i = 0; i < N; i++) log[i] = NULL;
    size_t before = held();
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < N; i++) {
            drop(log[i]);
            log[i] = make(SIZE - sizeof(struct piece), (uint32_t)i);
        }
    }
    size_t full = held() - before;
    pid_t child = fork();
    if (child == 0) { /* has none of it, and may have pieces of its own */
        bool fine = held() < before + ((size_t)4 << 20);
        for (uint32_t i = 0; i < 10000; i++) drop(make(100, i));
        _exit(fine ? 0 : 1);
    }
    int status;
    check(child > 0 && waitpid(child, &status, 0) == child && status == 0, "a child has copies of slabs");
    for (size_t i = 0; i < N; i++) drop(log[i]);
    check(full < (size_t)N * SIZE * 102 / 100 + ((size_t)1 << 20), "pieces take up more than they should");
    size_t freed = held();
    slab_rest(); /* till now, they were needed */
    check(held() >= freed, "what was just in use is given away already");
    rest();
    check(held() < before + ((size_t)8 << 20), "what was freed is still held");
    for (size_t i = 0; i < N; i++) log[i] = make(SIZE - sizeof(struct piece), (uint32_t)i); /* they serve again */
    for (size_t i = 0; i < N; i++) drop(log[i]);
    free(log);
}

static void without_memory(void)
{
    mem_fail_at(2);
    void *first = slab_alloc(100), *second = slab_alloc(100), *third = slab_alloc(100);
    check(first != NULL && second == NULL && third != NULL && mem_asked() == 3, "the second one should have failed");
    slab_free(first, 100);
    slab_free(third, 100);
}

int main(int argc, char **argv)
{
    count = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    check(count > 0, "usage: slabs N");
    size_t before = held();
    on_all_threads();
    rest();
    size_t after = held() - before;
    without_memory();
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    check(after < (size_t)4 << 20, "threads that have ended still hold slabs");
    like_a_log();
#else
    (void)like_a_log;
#endif
    printf("ok: %d threads, %" PRIu64 " pieces each, %zu KiB left\n", THREADS, count, after >> 10);
    return 0;
}
