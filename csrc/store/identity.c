#include "store/identity.h"

#include "store/smallfile.h"

size_t identity_encode(uint8_t *body, const struct store_identity *id)
{
    uint8_t *p = body;
    size_t name_size = strlen(id->name), list_size = strlen(id->list);
    ASSERT(name_size <= STORE_NAME_MAX && list_size <= STORE_LIST_MAX);
    memcpy(p, id->cluster, sizeof id->cluster);
    put_u64(p + 16, id->node);
    put_u64(p + 24, id->incarnation);
    put_u32(p + 32, (uint32_t)name_size);
    memcpy(p + 36, id->name, name_size);
    p += 36 + name_size;
    put_u32(p, (uint32_t)list_size);
    memcpy(p + 4, id->list, list_size);
    return (size_t)(p + 4 + list_size - body);
}

uint64_t identity_draw_incarnation(struct io *io)
{
    uint64_t drawn;
    do drawn = io_random(io);
    while (drawn == 0);
    return drawn;
}

int identity_write(struct io *io, const char *dir, const struct store_identity *id, struct err *e)
{
    uint8_t body[IDENTITY_BYTES];
    size_t size = identity_encode(body, id);
    return smallfile_write(io, dir, SMALLFILE_IDENTITY, body, size, e);
}

/* A text of at most `most` bytes into out of most + 1. */
static void read_text(struct reader *r, char *out, size_t most)
{
    uint32_t size = reader_u32(r);
    if (size > most) r->bad = true;
    const uint8_t *text = r->bad ? NULL : reader_take(r, size);
    if (text != NULL) memcpy(out, text, size);
}

bool identity_decode(struct reader *r, struct store_identity *out)
{
    const uint8_t *cluster = reader_take(r, sizeof out->cluster);
    *out = (struct store_identity){0};
    if (cluster != NULL) memcpy(out->cluster, cluster, sizeof out->cluster);
    out->node = reader_u64(r);
    out->incarnation = reader_u64(r);
    read_text(r, out->name, STORE_NAME_MAX);
    read_text(r, out->list, STORE_LIST_MAX);
    return !r->bad && r->at == r->size && out->node != 0 && out->incarnation != 0;
}

int identity_read(struct io *io, const char *dir, struct store_identity *out, struct err *e)
{
    struct buf body;
    *out = (struct store_identity){0};
    int status = smallfile_read(io, dir, SMALLFILE_IDENTITY, &body, e);
    struct reader r = {.data = body.data, .size = body.size};
    if (status == OK && !identity_decode(&r, out)) {
        status = err_set(e, ERR_CORRUPT, "%s/identity: damaged: its fields make no sense", dir);
    }
    buf_free(&body);
    return status;
}

int identity_compare(const char *dir, const struct store_identity *found, const struct store_identity *wanted,
                     struct err *e)
{
    if (strcmp(found->name, wanted->name) != 0) {
        return err_set(e, ERR_FOREIGN, "%s belongs to cluster \"%s\", not to \"%s\": give the right directory", dir,
                       found->name, wanted->name);
    }
    if (wanted->node != 0 && found->node != wanted->node) {
        return err_set(e, ERR_FOREIGN, "%s belongs to node %" PRIu64 ", not to node %" PRIu64
                       ": give each node a directory of its own", dir, found->node, wanted->node);
    }
    return OK;
}
