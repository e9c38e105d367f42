/* Where the entries of the log are, and of which terms: one mark for each 64 KiB of log, not one for each entry.
 *
 * A mark is the start of a batch. The entries from its index up to the next mark's are found by scanning on from
 * there. Truncation drops the marks from its index on, and what is written next gets a mark of its own: so a scan that
 * ends where the next mark begins has not come to the void version of an entry, though it still stands in its file.
 * Indexes ascend in the order of marks. */
#ifndef RAFT_STORE_MAP_H
#define RAFT_STORE_MAP_H

#include "core/raft.h"
#include "store/segments.h"

#pragma GCC visibility push(hidden)

#define MAP_MARK_BYTES 65536u /* a new mark after so much log */

struct mark {
    raft_index index;        /* first entry of the batch */
    struct segment *segment; /* that holds it */
    uint64_t offset;         /* of the batch */
};

struct map {
    struct mark *marks;
    size_t n_marks, marks_capacity;
    struct raft_run *runs; /* terms of first .. last */
    size_t n_runs, runs_capacity;
    raft_index first, last; /* first = last + 1: empty */
    raft_term base_term;    /* of entry first - 1; 0 = not known, or there is none */
    bool jump;              /* the next batch gets a mark in any case */
};

void map_init(struct map *m, raft_index last, raft_term last_term); /* empty, after that entry */
void map_free(struct map *m);

/* Makes room for one more batch with entries of n terms, so that map_add cannot fail. false: no memory. */
bool map_reserve(struct map *m, size_t n);
/* A batch at (segment, offset) holds entries first .. first + n - 1, with these runs of terms.
 * Preconditions: first follows last; map_reserve was called for it; n > 0. */
void map_add(struct map *m, struct segment *segment, uint64_t offset, raft_index first, size_t n,
             const struct raft_run *runs, size_t n_runs);
/* One more entry of the batch added last. Precondition: run.start follows last; map_reserve was called for it. */
void map_extend(struct map *m, struct raft_run run);
/* Entries from index on are void. index <= last + 1; below first the log becomes empty and starts there. */
void map_truncate(struct map *m, raft_index index);
/* All entries are void; it goes on after that one. */
void map_reset(struct map *m, raft_index last, raft_term last_term);
/* Entries up to index, which is in the log, are not wanted. */
void map_skip(struct map *m, raft_index index);
/* Forgets the marks in a segment, which is the oldest one. */
void map_drop_segment(struct map *m, const struct segment *segment);

/* Position of the last mark at or before index. Precondition: first <= index <= last. */
size_t map_find(const struct map *m, raft_index index);
/* Last index that the mark at position i is good for. */
raft_index map_mark_last(const struct map *m, size_t i);
/* Term of an entry, or of the one before the first; 0 when it is not known. Precondition: first - 1 <= index <=
 * last. */
raft_term map_term(const struct map *m, raft_index index);
/* Term of the last entry; 0 when it is not known. */
raft_term map_last_term(const struct map *m);

#pragma GCC visibility pop

#endif
