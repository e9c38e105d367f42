#include "wire/hello.h"

/* Meta of a hello, in this order and little-endian. A newer protocol may add to the end. */
#define HELLO_FIXED (2 + 2 + 16 + (5 + HELLO_LIVES) * 8 + 1 + 1 + 3 * 2) /* versions, numbers, flag, channel, sizes */
#define REFUSAL_FIXED 4u /* the code, before the text */
#define HELLO_META_MAX (HELLO_FIXED + HELLO_NAME_MAX + HELLO_LIST_MAX + HELLO_ADDRESS_MAX)

_Static_assert(HELLO_META_MAX <= FRAME_BODY_MAX_STRANGER, "a hello must pass before it is accepted");

static uint8_t *put_text(uint8_t *p, const char *text, size_t max)
{
    size_t size = strlen(text);
    ASSERT(size <= max);
    put_u16(p, (uint16_t)size);
    memcpy(p + 2, text, size);
    return p + 2 + size;
}

/* Text that can be printed as it is: a peer must not write control codes into anybody's log. */
static bool take_text(struct reader *r, char *out, size_t max)
{
    size_t size = reader_u16(r);
    if (size > max) return false;
    const uint8_t *p = reader_take(r, size);
    if (p == NULL) return false;
    for (size_t i = 0; i < size; i++) {
        if (p[i] < ' ' || p[i] == 0x7f) return false;
    }
    memcpy(out, p, size);
    out[size] = '\0';
    return true;
}

bool hello_write(struct buf *out, uint32_t group, const struct hello *h)
{
    uint8_t meta[HELLO_META_MAX], *p = meta;
    ASSERT(h->protocol_min <= h->protocol);
    ASSERT(h->from != 0 && h->to != 0 && h->incarnation != 0 && h->epoch != 0);
    put_u16(p, h->protocol_min);
    put_u16(p + 2, h->protocol);
    memcpy(p + 4, h->cluster, sizeof h->cluster);
    put_u64(p + 20, h->from);
    put_u64(p + 28, h->to);
    put_u64(p + 36, h->incarnation);
    put_u64(p + 44, h->epoch);
    for (size_t i = 0; i < HELLO_LIVES; i++) put_u64(p + 52 + 8 * i, h->before[i]);
    p += 52 + 8 * HELLO_LIVES;
    put_u64(p, h->named);
    p[8] = h->rejoining;
    p[9] = h->channel;
    p = put_text(p + 10, h->name, HELLO_NAME_MAX);
    p = put_text(p, h->list, HELLO_LIST_MAX);
    p = put_text(p, h->address, HELLO_ADDRESS_MAX);
    return frame_write(out, FRAME_HELLO, group, meta, (size_t)(p - meta));
}

static int malformed(struct err *e)
{
    return err_set(e, ERR_CORRUPT, "malformed hello");
}

/* The rest of a hello, once the versions fit. */
static int read_fields(struct reader *r, struct hello *out, struct err *e)
{
    const uint8_t *cluster = reader_take(r, sizeof out->cluster);
    if (cluster == NULL) return malformed(e);
    memcpy(out->cluster, cluster, sizeof out->cluster);
    out->from = reader_u64(r);
    out->to = reader_u64(r);
    out->incarnation = reader_u64(r);
    out->epoch = reader_u64(r);
    for (size_t i = 0; i < HELLO_LIVES; i++) out->before[i] = reader_u64(r);
    out->named = reader_u64(r);
    uint8_t rejoining = reader_u8(r);
    out->rejoining = rejoining == 1;
    out->channel = reader_u8(r);
    if (!take_text(r, out->name, HELLO_NAME_MAX)) return malformed(e);
    if (!take_text(r, out->list, HELLO_LIST_MAX)) return malformed(e);
    if (!take_text(r, out->address, HELLO_ADDRESS_MAX) || rejoining > 1) return malformed(e);
    if (out->from == 0 || out->to == 0 || out->incarnation == 0 || out->epoch == 0) return malformed(e);
    if (out->channel != HELLO_CONTROL && out->channel != HELLO_BULK) return malformed(e);
    if (r->at < r->size && out->protocol <= HELLO_PROTOCOL) return malformed(e);
    return OK;
}

int hello_read(const struct frame *f, struct hello *out, struct err *e)
{
    if (f->type != FRAME_HELLO)
        return err_set(e, ERR_CORRUPT, "expected a hello, but got a frame of type %u", f->type);
    if (f->entries_size != 0) return malformed(e);
    struct reader r = {.data = f->meta, .size = f->meta_size};
    *out = (struct hello){.protocol_min = reader_u16(&r)};
    out->protocol = reader_u16(&r);
    if (r.bad || out->protocol_min > out->protocol) return malformed(e);
    if (out->protocol_min > HELLO_PROTOCOL || out->protocol < HELLO_PROTOCOL_MIN)
        return err_set(e, ERR_VERSION, "the peer speaks protocols %u to %u, this node %u to %u: upgrade one",
                       out->protocol_min, out->protocol, HELLO_PROTOCOL_MIN, HELLO_PROTOCOL);
    return read_fields(&r, out, e);
}

bool refusal_write(struct buf *out, uint32_t group, int code, const char *text)
{
    uint8_t meta[REFUSAL_FIXED + ERR_TEXT_MAX];
    size_t size = MIN(strlen(text), (size_t)ERR_TEXT_MAX - 1);
    ASSERT(code < 0);
    put_u32(meta, (uint32_t)code);
    memcpy(meta + REFUSAL_FIXED, text, size);
    return frame_write(out, FRAME_REFUSAL, group, meta, REFUSAL_FIXED + size);
}

int refusal_read(const struct frame *f, struct refusal *out, struct err *e)
{
    if (f->type != FRAME_REFUSAL || f->entries_size != 0 || f->meta_size < REFUSAL_FIXED)
        return err_set(e, ERR_CORRUPT, "malformed refusal");
    size_t size = MIN(f->meta_size - REFUSAL_FIXED, sizeof out->text - 1);
    static const int known[] = {ERR_VERSION, ERR_FOREIGN, ERR_BUSY, ERR_REPLACED, ERR_ROLLED_BACK};
    out->code = ERR_REFUSED;
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        if (get_u32(f->meta) == (uint32_t)known[i]) out->code = known[i];
    }
    for (size_t i = 0; i < size; i++) {
        uint8_t c = f->meta[REFUSAL_FIXED + i];
        out->text[i] = (char)(c < ' ' || c == 0x7f ? '?' : c);
    }
    out->text[size] = '\0';
    return OK;
}
