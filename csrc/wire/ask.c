#include "wire/ask.h"

#define ASK_MAX (10u + RAFT_MEMBERS_MAX * (10u + ADDRESS_MAX))
#define JOINED_MAX (4u + 1u + ADDRESS_MAX + 8u + 16u + 2u + HELLO_LIST_MAX)

_Static_assert(JOINED_MAX <= FRAME_BODY_MAX_STRANGER, "strangers get an answer");

/* ---- texts ---- */

static uint8_t *put_text(uint8_t *p, const char *text, size_t max)
{
    size_t size = strlen(text);
    ASSERT(size <= max && max <= UINT8_MAX);
    *p = (uint8_t)size;
    memcpy(p + 1, text, size);
    return p + 1 + size;
}

/* Only what can be printed. */
static bool take_bytes(struct reader *r, size_t size, char *out, size_t max)
{
    const uint8_t *bytes = size <= max ? reader_take(r, size) : NULL;
    if (bytes == NULL) return false;
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] < ' ' || bytes[i] == 0x7f) return false;
    }
    memcpy(out, bytes, size);
    out[size] = '\0';
    return true;
}

static bool take_text(struct reader *r, char *out, size_t max)
{
    uint8_t size = reader_u8(r);
    return take_bytes(r, size, out, max);
}

static struct reader reader_of(const struct frame *f)
{
    return (struct reader){.data = f->meta, .size = f->meta_size};
}

static int finish(const struct frame *f, const struct reader *r, bool ok, struct err *e)
{
    if (ok && !r->bad && r->at == r->size && f->entries_size == 0) return OK;
    return err_set(e, ERR_CORRUPT, "malformed frame of type %u", f->type);
}

/* ---- members ask ---- */

static bool has_address(uint8_t op)
{
    return op == RAFT_ADD || op == RAFT_MOVE;
}

bool ask_write(struct buf *out, uint32_t group, uint64_t number, const struct ask_what *what)
{
    uint8_t meta[ASK_MAX], *p = meta;
    ASSERT(what->kind > 0 && what->kind < ASK_KINDS && what->n <= RAFT_MEMBERS_MAX);
    put_u64(p, number);
    p[8] = what->kind;
    p += 9;
    if (what->kind == ASK_READ) *p++ = what->lease;
    if (what->kind == ASK_CHANGE) *p++ = what->n;
    if (what->kind == ASK_TRANSFER) {
        put_u64(p, what->target);
        p += 8;
    }
    for (uint8_t i = 0; what->kind == ASK_CHANGE && i < what->n; i++) {
        const struct ask_change *change = &what->changes[i];
        *p = change->op;
        put_u64(p + 1, change->id);
        p = put_text(p + 9, has_address(change->op) ? change->address : "", ADDRESS_MAX);
    }
    return frame_write(out, FRAME_ASK, group, meta, (size_t)(p - meta));
}

static bool take_change(struct reader *r, struct ask_change *change)
{
    change->op = reader_u8(r);
    change->id = reader_u64(r);
    bool known = change->op >= RAFT_ADD && change->op <= RAFT_REMOVE;
    return take_text(r, change->address, ADDRESS_MAX) && known &&
           has_address(change->op) == (change->address[0] != '\0') && (change->id != 0 || change->op == RAFT_ADD);
}

int ask_read(const struct frame *f, uint64_t *number, struct ask_what *what, struct err *e)
{
    struct reader r = reader_of(f);
    *number = reader_u64(&r);
    *what = (struct ask_what){.kind = reader_u8(&r)};
    bool ok = what->kind > 0 && what->kind < ASK_KINDS;
    if (what->kind == ASK_READ) {
        uint8_t lease = reader_u8(&r);
        what->lease = lease == 1;
        ok = lease <= 1;
    } else if (what->kind == ASK_TRANSFER) {
        what->target = reader_u64(&r);
    } else if (what->kind == ASK_CHANGE) {
        what->n = reader_u8(&r);
        ok = what->n > 0 && what->n <= RAFT_MEMBERS_MAX;
        for (uint8_t i = 0; i < what->n && ok; i++) ok = take_change(&r, &what->changes[i]);
    }
    return finish(f, &r, ok, e);
}

bool answer_write(struct buf *out, uint32_t group, const struct answer *answer)
{
    uint8_t meta[28];
    put_u64(meta, answer->number);
    put_u32(meta + 8, (uint32_t)answer->code);
    put_u64(meta + 12, answer->index);
    put_u64(meta + 20, answer->id);
    return frame_write(out, FRAME_ANSWER, group, meta, sizeof meta);
}

int answer_read(const struct frame *f, struct answer *out, struct err *e)
{
    struct reader r = reader_of(f);
    out->number = reader_u64(&r);
    out->code = (int)reader_u32(&r);
    out->index = reader_u64(&r);
    out->id = reader_u64(&r);
    return finish(f, &r, out->code <= 0 && out->code >= INT16_MIN, e);
}

/* ---- strangers ask ---- */

bool join_write(struct buf *out, uint32_t group, const struct join *j)
{
    uint8_t meta[2 + HELLO_NAME_MAX + ADDRESS_MAX], *p = meta;
    p = put_text(p, j->name, HELLO_NAME_MAX);
    p = put_text(p, j->address, ADDRESS_MAX);
    return frame_write(out, FRAME_JOIN, group, meta, (size_t)(p - meta));
}

int join_read(const struct frame *f, struct join *out, struct err *e)
{
    struct reader r = reader_of(f);
    bool ok = take_text(&r, out->name, HELLO_NAME_MAX) && take_text(&r, out->address, ADDRESS_MAX);
    return finish(f, &r, ok && out->address[0] != '\0', e);
}

bool joined_write(struct buf *out, uint32_t group, const struct joined *j)
{
    uint8_t meta[JOINED_MAX], *p = meta;
    put_u32(p, (uint32_t)j->code);
    p = put_text(p + 4, j->leader, ADDRESS_MAX);
    if (j->code == OK) {
        size_t size = strlen(j->list);
        put_u64(p, j->id);
        memcpy(p + 8, j->cluster, sizeof j->cluster);
        put_u16(p + 24, (uint16_t)size);
        memcpy(p + 26, j->list, size);
        p += 26 + size;
    }
    return frame_write(out, FRAME_JOINED, group, meta, (size_t)(p - meta));
}

int joined_read(const struct frame *f, struct joined *out, struct err *e)
{
    struct reader r = reader_of(f);
    *out = (struct joined){.code = (int)reader_u32(&r)};
    bool ok = out->code <= 0 && out->code >= INT16_MIN && take_text(&r, out->leader, ADDRESS_MAX);
    if (ok && out->code == OK) {
        out->id = reader_u64(&r);
        const uint8_t *cluster = reader_take(&r, sizeof out->cluster);
        if (cluster != NULL) memcpy(out->cluster, cluster, sizeof out->cluster);
        uint16_t size = reader_u16(&r);
        ok = take_bytes(&r, size, out->list, HELLO_LIST_MAX) && out->id != 0;
    }
    return finish(f, &r, ok, e);
}
