#include "store/format.h"

#include <stdio.h>

#include "base/hash.h"

static const uint8_t segment_magic[8] = "RaftSeg";

static void header_encode(uint8_t *p, const struct segment_header *h)
{
    memset(p, 0, SEGMENT_HEADER);
    memcpy(p, segment_magic, sizeof segment_magic);
    put_u32(p + 8, FORMAT_VERSION);
    put_u32(p + 16, h->state);
    memcpy(p + 24, h->cluster, sizeof h->cluster);
    put_u64(p + 40, h->node);
    put_u64(p + 48, h->size);
    put_u64(p + 56, h->number);
    put_u64(p + 64, h->salt);
    put_u64(p + 72, h->first_batch);
    put_u64(p + 80, h->term);
    put_u64(p + 88, h->vote);
    put_u64(p + 96, h->last);
    put_u64(p + 104, h->last_term);
    put_u64(p + 120, hash64(p, 120, 0));
}

/* OK, ERR_CORRUPT, ERR_VERSION. */
static int header_decode(const uint8_t *p, struct segment_header *h)
{
    if (memcmp(p, segment_magic, sizeof segment_magic) != 0) return ERR_CORRUPT;
    if (get_u64(p + 120) != hash64(p, 120, 0)) return ERR_CORRUPT;
    if (get_u32(p + 8) != FORMAT_VERSION || get_u32(p + 12) != 0) return ERR_VERSION;
    *h = (struct segment_header){
        .state = get_u32(p + 16),
        .node = get_u64(p + 40),
        .size = get_u64(p + 48),
        .number = get_u64(p + 56),
        .salt = get_u64(p + 64),
        .first_batch = get_u64(p + 72),
        .term = get_u64(p + 80),
        .vote = get_u64(p + 88),
        .last = get_u64(p + 96),
        .last_term = get_u64(p + 104),
    };
    memcpy(h->cluster, p + 24, sizeof h->cluster);
    return h->state == SEGMENT_SPARE || h->state == SEGMENT_LIVE ? OK : ERR_CORRUPT;
}

void segment_header_put(uint8_t *block, const struct segment_header *h)
{
    memset(block, 0, IO_BLOCK);
    header_encode(block, h);
    memcpy(block + SEGMENT_COPY, block, SEGMENT_HEADER);
}

int segment_header_get(const uint8_t *block, struct segment_header *out, bool *damaged, struct err *e)
{
    struct segment_header a, b;
    int status_a = header_decode(block, &a), status_b = header_decode(block + SEGMENT_COPY, &b);
    if (status_a == ERR_VERSION || status_b == ERR_VERSION) {
        return err_set(e, ERR_VERSION, "written by another version of this program: use that one");
    }
    if (status_a != OK && status_b != OK) return err_set(e, ERR_CORRUPT, "damaged header at offset 0");
    *damaged = memcmp(block, block + SEGMENT_COPY, SEGMENT_HEADER) != 0;
    if (status_a != OK || status_b != OK) {
        *out = status_a == OK ? a : b;
        return OK;
    }
    if (*damaged && a.state == b.state) {
        return err_set(e, ERR_CORRUPT, "damaged header at offset 0: its two copies contradict each other");
    }
    *out = a.state == SEGMENT_LIVE ? a : b;
    return OK;
}

void batch_header_put(uint8_t *p, const struct batch_header *h)
{
    put_u32(p, BATCH_MAGIC);
    put_u32(p + 4, h->flags);
    put_u64(p + 8, h->salt);
    put_u64(p + 16, h->number);
    put_u64(p + 24, h->offset);
    put_u32(p + 32, h->length);
    put_u32(p + 36, h->count);
    put_u64(p + 40, h->first);
    put_u64(p + 48, h->truncate_from);
    put_u64(p + 56, h->term);
    put_u64(p + 64, h->vote);
}

bool batch_header_get(const uint8_t *p, struct batch_header *out)
{
    *out = (struct batch_header){
        .flags = get_u32(p + 4),
        .salt = get_u64(p + 8),
        .number = get_u64(p + 16),
        .offset = get_u64(p + 24),
        .length = get_u32(p + 32),
        .count = get_u32(p + 36),
        .first = get_u64(p + 40),
        .truncate_from = get_u64(p + 48),
        .term = get_u64(p + 56),
        .vote = get_u64(p + 64),
        .hash = get_u64(p + BATCH_HASHED),
    };
    return get_u32(p) == BATCH_MAGIC;
}

uint64_t batch_hash_begin(const uint8_t *header, uint32_t flags, uint64_t salt)
{
    uint64_t hash = hash64(header, BATCH_HASHED, salt);
    return (flags & BATCH_RESET) != 0 ? hash64(header + BATCH_HEADER, BATCH_RESET_BYTES, hash) : hash;
}

uint64_t batch_hash_entry(uint64_t hash, const uint8_t *entry)
{
    return hash64(entry + ENTRY_AT_HASH, sizeof(uint64_t), hash);
}

const char *batch_check(const uint8_t *record, const struct batch_header *h)
{
    uint64_t at = batch_entries(h->flags);
    if (at > h->length) return "its length does not fit its flags";
    uint64_t hash = batch_hash_begin(record, h->flags, h->salt);
    for (uint32_t i = 0; i < h->count; i++) {
        if (h->length - at < ENTRY_HEADER) return "its entries are cut off";
        uint32_t size = entry_size(record + at);
        if (size == 0 || FORMAT_ALIGN(size) > h->length - at) return "the size of an entry makes no sense";
        hash = batch_hash_entry(hash, record + at);
        at += FORMAT_ALIGN(size);
    }
    if (at != h->length) return "its length does not fit its entries";
    if (hash != h->hash) return "its checksum differs";
    at = batch_entries(h->flags);
    for (uint32_t i = 0; i < h->count; i++) {
        struct entry entry;
        uint32_t used;
        if (entry_read(record + at, h->length - at, true, &entry, &used, NULL) != OK) {
            return "the checksum of an entry differs";
        }
        if (entry.index != h->first + i) return "its entries are not in order";
        at += FORMAT_ALIGN(used);
    }
    return NULL;
}

void format_path(char *out, const char *dir, const char *name)
{
    int n = snprintf(out, FORMAT_PATH_MAX, "%s/%s", dir, name);
    ASSERT(n > 0 && (size_t)n < FORMAT_PATH_MAX);
}

void format_segment_path(char *out, const char *dir, uint64_t file)
{
    char name[32];
    snprintf(name, sizeof name, "%08" PRIu64 ".seg", file);
    format_path(out, dir, name);
}

void format_unfinished_path(char *out, const char *dir, uint64_t file)
{
    char name[40];
    snprintf(name, sizeof name, "spare-%08" PRIu64 ".tmp", file);
    format_path(out, dir, name);
}

/* A number of 8 to 20 digits at *text, which moves on behind it. false: there is none. */
static bool read_number(const char **text, uint64_t *out)
{
    size_t digits = strspn(*text, "0123456789");
    if (digits < 8 || digits > 20) return false;
    *out = 0;
    for (size_t i = 0; i < digits; i++) {
        uint64_t digit = (uint64_t)((*text)[i] - '0');
        if (*out > (UINT64_MAX - digit) / 10) return false;
        *out = *out * 10 + digit;
    }
    *text += digits;
    return true;
}

bool format_segment_name(const char *name, uint64_t *file)
{
    return read_number(&name, file) && strcmp(name, ".seg") == 0;
}

void format_snapshot_path(char *out, const char *dir, raft_index index, raft_term term)
{
    char name[64];
    snprintf(name, sizeof name, "%016" PRIu64 "-%08" PRIu64 ".snap", index, term);
    format_path(out, dir, name);
}

bool format_snapshot_name(const char *name, raft_index *index, raft_term *term)
{
    return read_number(&name, index) && *name++ == '-' && read_number(&name, term) && strcmp(name, ".snap") == 0;
}
