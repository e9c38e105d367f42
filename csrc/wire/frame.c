#include "wire/frame.h"

#include "base/hash.h"

/* A reader gives back what one large frame made it hold; below this it is kept for the next one. */
#define READER_KEEP (256u << 10)

static const uint8_t magic[4] = {'R', 'a', 'F', 't'};

/* Where the fields stand in the header. */
enum {
    AT_TYPE = 4,
    AT_VERSION = 5,
    AT_ZERO = 6,
    AT_GROUP = 8,
    AT_BODY = 12,
    AT_META = 16,
    AT_META_HASH = 20,
    AT_HASH = 28
};

static uint32_t header_hash(const uint8_t *header)
{
    return (uint32_t)hash64(header, AT_HASH, 0);
}

bool frame_begin(struct buf *out, enum frame_type type, uint32_t group, size_t *start)
{
    ASSERT(type >= FRAME_HELLO && type < FRAME_TYPES);
    *start = out->size;
    uint8_t *header = buf_extend(out, FRAME_HEADER);
    if (header == NULL) return false;
    memset(header, 0, FRAME_HEADER);
    memcpy(header, magic, sizeof magic);
    header[AT_TYPE] = (uint8_t)type;
    header[AT_VERSION] = FRAME_VERSION;
    put_u32(header + AT_GROUP, group);
    return true;
}

void frame_meta_done(struct buf *out, size_t start)
{
    ASSERT(out->size >= start + FRAME_HEADER);
    ASSERT(out->size - start - FRAME_HEADER <= FRAME_BODY_MAX);
    uint8_t *header = out->data + start;
    size_t size = out->size - start - FRAME_HEADER;
    put_u32(header + AT_META, (uint32_t)size);
    put_u64(header + AT_META_HASH, hash64(header + FRAME_HEADER, size, 0));
}

void frame_end(struct buf *out, size_t start)
{
    ASSERT(out->size >= start + FRAME_HEADER);
    ASSERT(out->size - start - FRAME_HEADER <= FRAME_BODY_MAX);
    uint8_t *header = out->data + start;
    put_u32(header + AT_BODY, (uint32_t)(out->size - start - FRAME_HEADER));
    put_u32(header + AT_HASH, header_hash(header));
}

bool frame_write(struct buf *out, enum frame_type type, uint32_t group, const void *meta, size_t size)
{
    size_t start;
    if (!frame_begin(out, type, group, &start)) return false;
    if (!buf_append(out, meta, size)) {
        out->size = start;
        return false;
    }
    frame_meta_done(out, start);
    frame_end(out, start);
    return true;
}

void frame_reader_init(struct frame_reader *r)
{
    *r = (struct frame_reader){.body_max = FRAME_BODY_MAX_STRANGER};
}

void frame_reader_free(struct frame_reader *r)
{
    buf_free(&r->partial);
}

static size_t whole_size(const uint8_t *header)
{
    return FRAME_HEADER + (size_t)get_u32(header + AT_BODY);
}

/* Told from the first bytes, so that another protocol's client is sent away before it has sent 32 of them. */
static int check_magic(const uint8_t *data, size_t size, struct err *e)
{
    if (memcmp(data, magic, MIN(size, sizeof magic)) == 0) return OK;
    return err_set(e, ERR_CORRUPT, "not a raft frame: it does not begin with \"RaFt\" (another program?)");
}

/* The hash comes first: nothing else in the header is believed before. */
static int check_header(const uint8_t *header, uint32_t body_max, struct err *e)
{
    int code = check_magic(header, FRAME_HEADER, e);
    if (code != OK) return code;
    if (get_u32(header + AT_HASH) != header_hash(header))
        return err_set(e, ERR_CORRUPT, "frame header does not match its hash");
    if (header[AT_VERSION] != FRAME_VERSION)
        return err_set(e, ERR_VERSION, "frame version %u, but this node knows %u; upgrade the older one",
                       header[AT_VERSION], FRAME_VERSION);
    if (header[AT_TYPE] < FRAME_HELLO || header[AT_TYPE] >= FRAME_TYPES)
        return err_set(e, ERR_CORRUPT, "frame type %u is not known", header[AT_TYPE]);
    if (get_u16(header + AT_ZERO) != 0)
        return err_set(e, ERR_CORRUPT, "frame header has bits set that must be zero");
    uint32_t body = get_u32(header + AT_BODY), meta = get_u32(header + AT_META);
    if (body > body_max)
        return err_set(e, ERR_CORRUPT, "frame body of %" PRIu32 " bytes is larger than the limit of %" PRIu32,
                       body, body_max);
    if (meta > body)
        return err_set(e, ERR_CORRUPT, "frame meta of %" PRIu32 " bytes is larger than its body of %" PRIu32,
                       meta, body);
    return OK;
}

/* The frame that lies whole at p, in holder or elsewhere, its header checked. */
static int deliver(const uint8_t *p, struct buf *holder, struct frame *out, struct err *e)
{
    uint32_t body = get_u32(p + AT_BODY), meta = get_u32(p + AT_META);
    ASSERT(meta <= body);
    if (get_u64(p + AT_META_HASH) != hash64(p + FRAME_HEADER, meta, 0))
        return err_set(e, ERR_CORRUPT, "frame meta does not match its hash");
    *out = (struct frame){
        .type = p[AT_TYPE],
        .group = get_u32(p + AT_GROUP),
        .meta = p + FRAME_HEADER,
        .meta_size = meta,
        .entries = p + FRAME_HEADER + meta,
        .entries_size = body - meta,
        .holder = holder,
    };
    return 1;
}

/* The frame in partial was handed out by the call before; its owner is done with it. */
static void forget_delivered(struct frame_reader *r)
{
    struct buf *p = &r->partial;
    if (p->size < FRAME_HEADER || p->size < whole_size(p->data)) return;
    p->size = 0;
    if (p->capacity > READER_KEEP) buf_free(p);
}

/* Moves bytes from *data until partial holds `wanted`, or all are taken. false: no memory. */
static bool gather(struct frame_reader *r, size_t wanted, const uint8_t **data, size_t *size)
{
    ASSERT(r->partial.size <= wanted);
    size_t n = MIN(wanted - r->partial.size, *size);
    if (!buf_append(&r->partial, *data, n)) return false;
    *data += n;
    *size -= n;
    return true;
}

static int no_memory(struct err *e)
{
    return err_set(e, ERR_NOMEM, "no memory for a received frame");
}

int frame_reader_next(struct frame_reader *r, const uint8_t **data, size_t *size, struct frame *out,
                      struct err *e)
{
    struct buf *p = &r->partial;
    int code;
    ASSERT(r->body_max <= FRAME_BODY_MAX);
    forget_delivered(r);
    if (*size == 0) return 0;
    if (p->size == 0 && *size >= FRAME_HEADER) {
        const uint8_t *frame = *data;
        if ((code = check_header(frame, r->body_max, e)) != OK) return code;
        if (whole_size(frame) <= *size) {
            *size -= whole_size(frame);
            *data += whole_size(frame);
            return deliver(frame, NULL, out, e);
        }
    }
    if (p->size < FRAME_HEADER) {
        if (!gather(r, FRAME_HEADER, data, size)) return no_memory(e);
        if (p->size < FRAME_HEADER) return check_magic(p->data, p->size, e);
        if ((code = check_header(p->data, r->body_max, e)) != OK) return code;
    }
    if (!gather(r, whole_size(p->data), data, size)) return no_memory(e);
    return p->size < whole_size(p->data) ? 0 : deliver(p->data, p, out, e);
}
