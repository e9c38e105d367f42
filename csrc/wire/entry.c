#include "wire/entry.h"

#include "base/hash.h"

#define ENTRY_VERSION 1u

static bool is_type(uint8_t type)
{
    return type >= RAFT_ENTRY_EMPTY && type < RAFT_ENTRY_TYPES;
}

/* 0 means "not stamped", so no header may hash to it. */
static uint64_t header_hash(const uint8_t *p)
{
    uint64_t hash = hash64(p + ENTRY_AT_SIZE, ENTRY_HEADER - ENTRY_AT_SIZE, 0);
    return hash != 0 ? hash : 1;
}

static bool is_stamped(const struct block *b)
{
    return get_u64(b->bytes + ENTRY_AT_HASH) != 0;
}

struct block *entry_reserve(uint8_t type, size_t size)
{
    ASSERT(is_type(type));
    ASSERT(size <= ENTRY_PAYLOAD_MAX);
    struct block *b = block_new(ENTRY_HEADER + size);
    if (b == NULL) return NULL;
    memset(b->bytes, 0, ENTRY_HEADER);
    put_u32(b->bytes + ENTRY_AT_SIZE, (uint32_t)size);
    b->bytes[ENTRY_AT_TYPE] = type;
    b->bytes[ENTRY_AT_VERSION] = ENTRY_VERSION;
    return b;
}

void entry_seal(struct block *b)
{
    ASSERT(b->size >= ENTRY_HEADER && !is_stamped(b));
    put_u64(b->bytes + ENTRY_AT_PAYLOAD_HASH, hash64(b->bytes + ENTRY_HEADER, b->size - ENTRY_HEADER, 0));
}

struct block *entry_new(uint8_t type, const void *payload, size_t size)
{
    struct block *b = entry_reserve(type, size);
    if (b == NULL) return NULL;
    if (size > 0) memcpy(b->bytes + ENTRY_HEADER, payload, size);
    entry_seal(b);
    return b;
}

void entry_set_session(struct block *b, uint64_t session, uint64_t epoch, uint64_t sequence, uint32_t behind)
{
    ASSERT(!is_stamped(b));
    ASSERT(behind <= sequence);
    put_u64(b->bytes + ENTRY_AT_SESSION, session);
    put_u64(b->bytes + ENTRY_AT_EPOCH, epoch);
    put_u64(b->bytes + ENTRY_AT_SEQUENCE, sequence);
    put_u32(b->bytes + ENTRY_AT_BEHIND, behind);
}

void entry_stamp(struct block *b, raft_index index, raft_term term, uint64_t time_us)
{
    ASSERT(!is_stamped(b));
    ASSERT(index > 0 && term > 0);
    put_u64(b->bytes + ENTRY_AT_INDEX, index);
    put_u64(b->bytes + ENTRY_AT_TERM, term);
    put_u64(b->bytes + ENTRY_AT_TIME, time_us);
    put_u64(b->bytes + ENTRY_AT_HASH, header_hash(b->bytes));
}

uint32_t entry_size(const uint8_t *p)
{
    uint32_t size = get_u32(p + ENTRY_AT_SIZE);
    bool sane = p[ENTRY_AT_VERSION] == ENTRY_VERSION && is_type(p[ENTRY_AT_TYPE]) && size <= ENTRY_PAYLOAD_MAX &&
                get_u16(p + ENTRY_AT_ZERO) == 0 && get_u32(p + ENTRY_AT_ZERO2) == 0;
    return sane ? ENTRY_HEADER + size : 0;
}

/* What the header alone can tell, its hash (if stamped) before anything it says. NULL: sound. */
static const char *header_fault(const uint8_t *p, bool stamped)
{
    uint64_t hash = get_u64(p + ENTRY_AT_HASH);
    if (stamped && hash == 0) return "entry was never stamped by a leader";
    if (stamped && hash != header_hash(p)) return "entry header does not match its hash";
    if (!stamped && hash != 0) return "entry is stamped where a proposal was expected";
    if (p[ENTRY_AT_VERSION] != ENTRY_VERSION) return "entry has a layout that is not known here";
    if (!is_type(p[ENTRY_AT_TYPE])) return "entry has a type that is not known here";
    if (entry_size(p) == 0) return "entry header is malformed";
    struct entry it = entry_peek(p);
    if (stamped && (it.index == 0 || it.term == 0)) return "entry has no index or term";
    if (!stamped && (it.index != 0 || it.term != 0 || it.time_us != 0))
        return "proposal has an index, term or time";
    if (it.behind > it.sequence) return "entry awaits a sequence below zero";
    return NULL;
}

int entry_read(const uint8_t *data, size_t size, bool stamped, struct entry *out, uint32_t *used,
               struct err *e)
{
    if (size < ENTRY_HEADER)
        return err_set(e, ERR_CORRUPT, "entry header is cut off: %zu of %u bytes", size, ENTRY_HEADER);
    const char *fault = header_fault(data, stamped);
    if (fault != NULL) return err_set(e, ERR_CORRUPT, "%s", fault);
    uint32_t whole = entry_size(data);
    if (whole > size)
        return err_set(e, ERR_CORRUPT, "entry is cut off: %zu of %" PRIu32 " bytes", size, whole);
    if (get_u64(data + ENTRY_AT_PAYLOAD_HASH) != hash64(data + ENTRY_HEADER, whole - ENTRY_HEADER, 0))
        return err_set(e, ERR_CORRUPT, "entry payload does not match its hash");
    *out = entry_peek(data);
    *used = whole;
    return OK;
}
