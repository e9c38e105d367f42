/* What the benchmark programs in C share: a clock, the CPU of processes, latencies. */
#ifndef SPEC_BENCH_MEASURE_H
#define SPEC_BENCH_MEASURE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static inline double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* CPU seconds that a process has used, all its threads together. */
static inline double cpu_seconds(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    size_t n = file == NULL ? 0 : fread(text, 1, sizeof text - 1, file);
    if (file != NULL) fclose(file);
    text[n] = '\0';
    unsigned long user = 0, system = 0;
    const char *after = strrchr(text, ')');
    if (after != NULL) sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

/* Latencies, counted by us: exact below 512, then to 1 in 256. */
#define LATENCY_SLOTS (256 * 24)

struct latencies {
    uint64_t count[LATENCY_SLOTS], total;
};

static inline void latencies_note(struct latencies *l, double took)
{
    uint64_t us = took < 0 ? 0 : (uint64_t)(took * 1e6), shift = 0;
    while (us >> shift >= 512) shift++;
    size_t slot = (size_t)(256 * shift + (us >> shift));
    l->count[slot < LATENCY_SLOTS ? slot : LATENCY_SLOTS - 1]++;
    l->total++;
}

/* The us at or below which this share of them lies. */
static inline uint64_t latencies_at(const struct latencies *l, double share)
{
    uint64_t sum = 0;
    for (size_t slot = 0; slot < LATENCY_SLOTS; slot++) {
        sum += l->count[slot];
        if (l->count[slot] != 0 && (double)sum >= share * (double)l->total)
            return slot < 512 ? slot : (uint64_t)(256 + slot % 256) << (slot / 256 - 1);
    }
    return 0;
}

#endif
