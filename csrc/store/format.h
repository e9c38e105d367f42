/* The bytes of the log: segments and batches. Little-endian.
 *
 * A segment is a file NNNNNNNN.seg. It gets its name once, when it is prepared; whether it is in use, and where in
 * the log it belongs, is told by its header, so that taking a spare needs no operation on the directory. The first
 * block holds the header twice, in sectors of their own: one torn write leaves at least one of them whole.
 *
 *   offset size
 *        0    8  magic "RaftSeg" 0
 *        8    4  version: 2
 *       12    4  group id: 0 (several groups in one process come later)
 *       16    4  state: 1 spare, 2 live
 *       20    4  zero
 *       24   16  cluster id
 *       40    8  node
 *       48    8  size of the file
 *       56    8  number: position among the live segments, without gaps  (this and all below: 0 in a spare)
 *       64    8  salt: drawn at random for each use
 *       72    8  number of its first batch
 *       80    8  term           88  8  vote: when it became live
 *       96    8  index         104  8  term of the last entry before it
 *      112    8  zero
 *      120    8  hash of bytes 0..119
 *
 * From SEGMENT_FIRST on follow batches, each aligned to 8 bytes and never cut by the end of a segment. What does not
 * fit into one segment is stored as several batches. An entry that fits into no segment gets a larger one made for it.
 *
 *   offset size
 *        0    4  magic "RaBa"
 *        4    4  flags (enum batch_flags)
 *        8    8  salt of the segment
 *       16    8  number, ascending by 1 through all segments
 *       24    8  its offset in the file
 *       32    4  length, with this header
 *       36    4  count of entries
 *       40    8  index of the first entry
 *       48    8  entries from this index on are void, before those of this batch are added; 0 = none
 *       56    8  term           64  8  vote: with BATCH_VOTE
 *       72    8  hash, seeded by the salt: of bytes 0..71, then of the reset, then of the hash in each entry's header
 *       80   16  with BATCH_RESET: all entries before are void, the log goes on after this index (8), of this term (8)
 *                entries (wire/entry.h), each padded to 8 bytes
 *
 * Entries are not hashed again: the hash in an entry's header is of that header, which holds its payload's hash. */
#ifndef RAFT_STORE_FORMAT_H
#define RAFT_STORE_FORMAT_H

#include "base/io.h"
#include "store/store.h"

#pragma GCC visibility push(hidden)

#define FORMAT_VERSION 2u
#define FORMAT_ALIGN(size) (((size) + 7u) & ~(uint64_t)7u)

#define SEGMENT_HEADER 128u
#define SEGMENT_COPY (IO_BLOCK / 2) /* where the second copy of the header is */
#define SEGMENT_FIRST IO_BLOCK      /* offset of the first batch */

enum segment_state { SEGMENT_SPARE = 1, SEGMENT_LIVE };

struct segment_header {
    uint32_t state;
    uint8_t cluster[16];
    uint64_t node, size, number, salt, first_batch;
    raft_term term;
    raft_id vote;
    raft_index last; /* of the log before this segment */
    raft_term last_term;
};

/* Fills a block of IO_BLOCK bytes. */
void segment_header_put(uint8_t *block, const struct segment_header *h);
/* Reads a block of IO_BLOCK bytes. *damaged: the copies are not both whole and the same (a live one is believed
 * rather than a spare). ERR_CORRUPT: neither copy is whole, or both are whole, differ, and could not have come from one
 * torn write; ERR_VERSION. */
int segment_header_get(const uint8_t *block, struct segment_header *out, bool *damaged, struct err *e);

enum batch_flags {
    BATCH_VOTE = 1, /* term and vote changed */
    BATCH_SEAL = 2, /* holds nothing: proves that the batch before it was durable */
    BATCH_RESET = 4, /* the log before it is void: a snapshot has taken its place */
};

#define BATCH_HEADER 80u
#define BATCH_HASHED 72u /* bytes of the header that are under the hash */
#define BATCH_RESET_BYTES 16u
#define BATCH_MAGIC 0x61426152u

struct batch_header {
    uint32_t flags;
    uint64_t salt, number, offset;
    uint32_t length, count;
    raft_index first, truncate_from;
    raft_term term;
    raft_id vote;
    uint64_t hash;
};

/* Everything but the hash, which is put at BATCH_HASHED by batch_hash_put once the entries are in place. */
void batch_header_put(uint8_t *p, const struct batch_header *h);
/* Reads BATCH_HEADER bytes. false: not the magic. Nothing else is checked. */
bool batch_header_get(const uint8_t *p, struct batch_header *out);
/* Where the entries of a batch begin. */
static inline uint32_t batch_entries(uint32_t flags)
{
    return BATCH_HEADER + ((flags & BATCH_RESET) != 0 ? BATCH_RESET_BYTES : 0);
}
/* The hash over header and entries: begun with the header (and the reset, which stands behind it when flags say
 * so), then once for each entry. */
uint64_t batch_hash_begin(const uint8_t *header, uint32_t flags, uint64_t salt);
uint64_t batch_hash_entry(uint64_t hash, const uint8_t *entry);
/* Checks a whole record of h->length bytes, down to the payloads. NULL when it is sound, else what is wrong with it. */
const char *batch_check(const uint8_t *record, const struct batch_header *h);

/* Names of files in the directory. */
#define FORMAT_PATH_MAX 4096u
/* dir/name into out of FORMAT_PATH_MAX bytes. Precondition: it fits (store_open has refused longer ones). */
void format_path(char *out, const char *dir, const char *name);
/* dir/NNNNNNNN.seg */
void format_segment_path(char *out, const char *dir, uint64_t file);
/* dir/INDEX-TERM.snap */
void format_snapshot_path(char *out, const char *dir, raft_index index, raft_term term);
/* Index and term from a snapshot's name; false: it is no such name. */
bool format_snapshot_name(const char *name, raft_index *index, raft_term *term);
/* dir/spare-NNNNNNNN.tmp */
void format_unfinished_path(char *out, const char *dir, uint64_t file);
/* Number of a segment's file from its name; false: it is no such name. */
bool format_segment_name(const char *name, uint64_t *file);

#pragma GCC visibility pop

#endif
