#include "wire/message.h"

#include "base/hash.h"
#include "base/mem.h"
#include "wire/conf.h"

/* The fields of a message beyond type, from, to and term, in the order in which they travel. */
enum {
    HAS_PRE = 1,
    HAS_REJECT = 2,
    HAS_INDEX = 4,
    HAS_LOG_TERM = 8,
    HAS_HINT = 16,
    HAS_COMMIT = 32,
    HAS_CONTEXT = 64,
    HAS_ENTRIES = 128,
    HAS_FORCE = 256,
    HAS_ROUND = 512,
    HAS_LEASE = 1024,
    HAS_PRIORITY = 2048,
};

static const uint16_t fields_of[RAFT_MESSAGE_TYPES] = {
    [RAFT_APPEND] = HAS_INDEX | HAS_LOG_TERM | HAS_COMMIT | HAS_ENTRIES,
    [RAFT_APPEND_REPLY] = HAS_REJECT | HAS_INDEX | HAS_LOG_TERM | HAS_HINT,
    [RAFT_HEARTBEAT] = HAS_COMMIT | HAS_CONTEXT | HAS_ROUND | HAS_LEASE,
    [RAFT_HEARTBEAT_REPLY] = HAS_INDEX | HAS_COMMIT | HAS_CONTEXT | HAS_ROUND | HAS_PRIORITY,
    [RAFT_VOTE] = HAS_PRE | HAS_INDEX | HAS_LOG_TERM | HAS_FORCE,
    [RAFT_VOTE_REPLY] = HAS_PRE | HAS_REJECT | HAS_INDEX | HAS_LOG_TERM,
    [RAFT_TIMEOUT_NOW] = 0,
};

#define MESSAGE_META_MAX (1 + 3 * 8 + 3 + 6 * 8 + 3 * 4)

/* A snapshot goes by other ways (wire/transfer.h). */
static bool travels(uint8_t type)
{
    return type >= RAFT_APPEND && type <= RAFT_TIMEOUT_NOW;
}

/* ---- messages ---- */

static uint8_t *add_u64(uint8_t *p, uint64_t v)
{
    put_u64(p, v);
    return p + 8;
}

static size_t put_meta(uint8_t meta[MESSAGE_META_MAX], const struct raft_message *m)
{
    uint16_t fields = fields_of[m->type];
    uint8_t *p = meta;
    *p++ = m->type;
    p = add_u64(p, m->from);
    p = add_u64(p, m->to);
    p = add_u64(p, m->term);
    if (fields & HAS_PRE) *p++ = m->pre;
    if (fields & HAS_REJECT) *p++ = m->reject;
    if (fields & HAS_INDEX) p = add_u64(p, m->index);
    if (fields & HAS_LOG_TERM) p = add_u64(p, m->log_term);
    if (fields & HAS_HINT) p = add_u64(p, m->hint);
    if (fields & HAS_COMMIT) p = add_u64(p, m->commit);
    if (fields & HAS_CONTEXT) p = add_u64(p, m->context);
    if (fields & HAS_ENTRIES) {
        put_u32(p, m->n_entries);
        p += 4;
    }
    if (fields & HAS_FORCE) *p++ = m->force;
    if (fields & HAS_ROUND) p = add_u64(p, m->round);
    if (fields & (HAS_LEASE | HAS_PRIORITY)) {
        put_u32(p, fields & HAS_LEASE ? m->lease_us : (uint32_t)m->priority);
        p += 4;
    }
    return (size_t)(p - meta);
}

/* A whole frame: meta, then the blocks as they are. */
static bool write_blocks(struct buf *out, enum frame_type type, uint32_t group, const uint8_t *meta,
                         size_t size, struct block *const *blocks, size_t n)
{
    size_t start, bytes = 0;
    if (!frame_begin(out, type, group, &start)) return false;
    if (!buf_append(out, meta, size)) goto no_memory;
    frame_meta_done(out, start);
    for (size_t i = 0; i < n; i++) bytes += blocks[i]->size;
    uint8_t *at = buf_extend(out, bytes);
    if (at == NULL) goto no_memory;
    for (size_t i = 0; i < n; at += blocks[i++]->size) memcpy(at, blocks[i]->bytes, blocks[i]->size);
    frame_end(out, start);
    return true;
no_memory:
    out->size = start;
    return false;
}

bool message_write(struct buf *out, uint32_t group, const struct raft_message *m,
                   struct block *const *entries)
{
    uint8_t meta[MESSAGE_META_MAX];
    ASSERT(travels(m->type));
    ASSERT(m->n_entries <= MESSAGE_ENTRIES_MAX && (m->n_entries == 0 || m->type == RAFT_APPEND));
    size_t size = put_meta(meta, m);
    return write_blocks(out, FRAME_MESSAGE, group, meta, size, entries, m->n_entries);
}

/* 0 or 1: another byte is damage, not truth. */
static bool take_bool(struct reader *r)
{
    uint8_t v = reader_u8(r);
    if (v > 1) r->bad = true;
    return v == 1;
}

static int read_meta(const struct frame *f, struct raft_message *m, struct err *e)
{
    struct reader r = {.data = f->meta, .size = f->meta_size};
    *m = (struct raft_message){.type = reader_u8(&r)};
    if (r.bad || !travels(m->type))
        return err_set(e, ERR_CORRUPT, "message type %u is not known", m->type);
    uint16_t fields = fields_of[m->type];
    m->from = reader_u64(&r);
    m->to = reader_u64(&r);
    m->term = reader_u64(&r);
    if (fields & HAS_PRE) m->pre = take_bool(&r);
    if (fields & HAS_REJECT) m->reject = take_bool(&r);
    if (fields & HAS_INDEX) m->index = reader_u64(&r);
    if (fields & HAS_LOG_TERM) m->log_term = reader_u64(&r);
    if (fields & HAS_HINT) m->hint = reader_u64(&r);
    if (fields & HAS_COMMIT) m->commit = reader_u64(&r);
    if (fields & HAS_CONTEXT) m->context = reader_u64(&r);
    if (fields & HAS_ENTRIES) m->n_entries = reader_u32(&r);
    if (fields & HAS_FORCE) m->force = take_bool(&r);
    if (fields & HAS_ROUND) m->round = reader_u64(&r);
    if (fields & HAS_LEASE) m->lease_us = reader_u32(&r);
    if (fields & HAS_PRIORITY) m->priority = (int32_t)reader_u32(&r);
    if (r.bad || r.at != r.size) return err_set(e, ERR_CORRUPT, "malformed message of type %u", m->type);
    return OK;
}

/* Can the announced number of entries be true? Asked before anything is allocated for them. */
static int check_count(uint32_t n, uint32_t bytes, struct err *e)
{
    if (n <= MESSAGE_ENTRIES_MAX && (uint64_t)n * ENTRY_HEADER <= bytes && (n > 0 || bytes == 0)) return OK;
    return err_set(e, ERR_CORRUPT, "%" PRIu32 " entries announced, which %" PRIu32 " bytes cannot be", n, bytes);
}

/* What a configuration says, for the core. */
static int take_conf(const struct entry *it, const struct raft_conf **out, struct err *e)
{
    struct conf conf;
    int code = conf_read(it->payload, it->payload_size, &conf, e);
    struct raft_conf *raft = code == OK ? mem_alloc(sizeof *raft) : NULL;
    if (code == OK && raft == NULL) code = err_set(e, ERR_NOMEM, "no memory for a received configuration");
    if (code == OK) *raft = conf.raft;
    *out = raft;
    return code;
}

/* Entry number i of the message: read, checked against its place, copied into a block. */
static int take_entry(struct raft_message *m, uint32_t i, struct reader *r, struct raft_entry *out, struct err *e)
{
    struct entry it;
    uint32_t used;
    raft_term before = i == 0 ? m->log_term : out[-1].term;
    int code = entry_read(r->data + r->at, r->size - r->at, true, &it, &used, e);
    if (code != OK) return code;
    if (it.index != m->index + 1 + i)
        return err_set(e, ERR_CORRUPT, "entry %" PRIu64 " stands where entry %" PRIu64 " belongs", it.index,
                       m->index + 1 + i);
    if (it.term < before || it.term > m->term)
        return err_set(e, ERR_CORRUPT, "entry %" PRIu64 " of term %" PRIu64 " follows term %" PRIu64
                       " in a message of term %" PRIu64, it.index, it.term, before, m->term);
    const struct raft_conf *conf = NULL;
    if (it.type == RAFT_ENTRY_CONFIG) code = take_conf(&it, &conf, e);
    if (code != OK) return code;
    struct block *b = block_new(used);
    if (b == NULL) {
        mem_free((void *)conf);
        return err_set(e, ERR_NOMEM, "no memory for a received entry");
    }
    memcpy(b->bytes, reader_take(r, used), used);
    *out = (struct raft_entry){.term = it.term, .block = b, .size = used, .type = it.type, .conf = conf};
    return OK;
}

int message_read(const struct frame *f, struct raft_message *out, struct err *e)
{
    ASSERT(f->type == FRAME_MESSAGE);
    int code = read_meta(f, out, e);
    uint32_t n = out->n_entries;
    if (code == OK) code = check_count(n, f->entries_size, e);
    if (code == OK && out->index > UINT64_MAX - n - 1)
        code = err_set(e, ERR_CORRUPT, "entry index %" PRIu64 " is out of range", out->index);
    out->n_entries = 0;
    if (code != OK || n == 0) return code;

    struct raft_entry *entries = mem_zero(n, sizeof *entries);
    if (entries == NULL) return err_set(e, ERR_NOMEM, "no memory for %" PRIu32 " received entries", n);
    struct reader r = {.data = f->entries, .size = f->entries_size};
    out->entries = entries;
    while (code == OK && out->n_entries < n) {
        code = take_entry(out, out->n_entries, &r, &entries[out->n_entries], e);
        if (code == OK) out->n_entries++;
    }
    if (code == OK && r.at != r.size) code = err_set(e, ERR_CORRUPT, "bytes follow the last entry");
    if (code != OK) message_free(out);
    return code;
}

void message_free(struct raft_message *m)
{
    for (uint32_t i = 0; i < m->n_entries; i++) {
        block_unref(m->entries[i].block);
        mem_free((void *)m->entries[i].conf);
    }
    mem_free((void *)m->entries);
    m->entries = NULL;
    m->n_entries = 0;
}

/* ---- forwarded proposals ---- */

#define FORWARD_META 12u /* u32 count, u64 hash over the headers */

/* Headers of proposals carry no hash yet (the leader's stamp brings it), so the frame brings one. */
static uint64_t chain_header(uint64_t hash, const uint8_t *entry)
{
    return hash64(entry, ENTRY_HEADER, hash);
}

bool forward_write(struct buf *out, uint32_t group, struct block *const *entries, size_t n)
{
    uint8_t meta[FORWARD_META];
    uint64_t hash = 0;
    ASSERT(n > 0 && n <= MESSAGE_ENTRIES_MAX);
    for (size_t i = 0; i < n; i++) hash = chain_header(hash, entries[i]->bytes);
    put_u32(meta, (uint32_t)n);
    put_u64(meta + 4, hash);
    return write_blocks(out, FRAME_FORWARD, group, meta, sizeof meta, entries, n);
}

/* One proposal, checked and copied into a block. */
static int take_proposal(struct reader *r, uint64_t *hash, struct block **out, struct err *e)
{
    struct entry it;
    uint32_t used;
    int code = entry_read(r->data + r->at, r->size - r->at, false, &it, &used, e);
    if (code != OK) return code;
    if (it.type == RAFT_ENTRY_EMPTY || it.type == RAFT_ENTRY_CONFIG || it.session == 0)
        return err_set(e, ERR_CORRUPT, "forwarded proposal has no session, or is none");
    struct block *b = block_new(used);
    if (b == NULL) return err_set(e, ERR_NOMEM, "no memory for a forwarded proposal");
    memcpy(b->bytes, reader_take(r, used), used);
    *hash = chain_header(*hash, b->bytes);
    *out = b;
    return OK;
}

int forward_read(const struct frame *f, struct block ***entries, size_t *n, struct err *e)
{
    ASSERT(f->type == FRAME_FORWARD);
    if (f->meta_size != FORWARD_META) return err_set(e, ERR_CORRUPT, "malformed forward");
    uint32_t count = get_u32(f->meta), taken = 0;
    int code = check_count(count, f->entries_size, e);
    if (code != OK) return code;
    if (count == 0) return err_set(e, ERR_CORRUPT, "forward without a proposal");
    struct block **blocks = mem_alloc(count * sizeof(struct block *));
    if (blocks == NULL) return err_set(e, ERR_NOMEM, "no memory for %" PRIu32 " forwarded proposals", count);

    struct reader r = {.data = f->entries, .size = f->entries_size};
    uint64_t hash = 0;
    while (code == OK && taken < count) {
        code = take_proposal(&r, &hash, &blocks[taken], e);
        if (code == OK) taken++;
    }
    if (code == OK && r.at != r.size) code = err_set(e, ERR_CORRUPT, "bytes follow the last proposal");
    if (code == OK && hash != get_u64(f->meta + 4))
        code = err_set(e, ERR_CORRUPT, "headers of forwarded proposals do not match their hash");
    if (code == OK) {
        *entries = blocks;
        *n = count;
        return OK;
    }
    while (taken > 0) block_unref(blocks[--taken]);
    mem_free(blocks);
    return code;
}

static bool is_forward_code(int code)
{
    return code == ERR_NOT_LEADER || code == ERR_BUSY || code == ERR_FULL || code == ERR_TOO_LARGE;
}

bool forward_reply_write(struct buf *out, uint32_t group, int code, const uint64_t *sequences, size_t n)
{
    size_t start;
    ASSERT(is_forward_code(code));
    ASSERT(n > 0 && n <= MESSAGE_ENTRIES_MAX);
    if (!frame_begin(out, FRAME_FORWARD_REPLY, group, &start)) return false;
    uint8_t *p = buf_extend(out, 8 + n * 8);
    if (p == NULL) {
        out->size = start;
        return false;
    }
    put_u32(p, (uint32_t)code);
    put_u32(p + 4, (uint32_t)n);
    for (size_t i = 0; i < n; i++) put_u64(p + 8 + i * 8, sequences[i]);
    frame_meta_done(out, start);
    frame_end(out, start);
    return true;
}

int forward_reply_read(const struct frame *f, int *code, uint64_t **sequences, size_t *n, struct err *e)
{
    ASSERT(f->type == FRAME_FORWARD_REPLY);
    struct reader r = {.data = f->meta, .size = f->meta_size};
    int why = (int)reader_u32(&r);
    uint32_t count = reader_u32(&r);
    if (r.bad || !is_forward_code(why) || f->entries_size != 0 || count == 0 || count > MESSAGE_ENTRIES_MAX ||
        (size_t)count * 8 != r.size - r.at)
        return err_set(e, ERR_CORRUPT, "malformed answer to a forward");
    uint64_t *list = mem_alloc(count * sizeof *list);
    if (list == NULL) return err_set(e, ERR_NOMEM, "no memory for %" PRIu32 " sequences", count);
    for (uint32_t i = 0; i < count; i++) list[i] = reader_u64(&r);
    *code = why;
    *sequences = list;
    *n = count;
    return OK;
}

/* ---- ping and pong ---- */

bool ping_write(struct buf *out, uint32_t group, enum frame_type type, uint64_t stamp)
{
    uint8_t meta[8];
    ASSERT(type == FRAME_PING || type == FRAME_PONG);
    put_u64(meta, stamp);
    return frame_write(out, type, group, meta, sizeof meta);
}

int ping_read(const struct frame *f, uint64_t *stamp, struct err *e)
{
    ASSERT(f->type == FRAME_PING || f->type == FRAME_PONG);
    if (f->meta_size != 8 || f->entries_size != 0) return err_set(e, ERR_CORRUPT, "malformed ping");
    *stamp = get_u64(f->meta);
    return OK;
}
