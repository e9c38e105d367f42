#include "server/clients.h"

#include "base/mem.h"

/* ---- the table ---- */

static size_t place_of(const struct clients *c, uint64_t id)
{
    size_t low = 0, high = c->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (c->list[middle]->id < id) low = middle + 1;
        else high = middle;
    }
    return low;
}

static void unlink_client(struct clients *c, struct client *client)
{
    *(client->older != NULL ? &client->older->newer : &c->oldest) = client->newer;
    *(client->newer != NULL ? &client->newer->older : &c->newest) = client->older;
}

static void link_newest(struct clients *c, struct client *client)
{
    client->older = c->newest;
    client->newer = NULL;
    *(c->newest != NULL ? &c->newest->newer : &c->oldest) = client;
    c->newest = client;
}

static void end(struct clients *c, struct client *client)
{
    size_t at = place_of(c, client->id);
    ASSERT(at < c->count && c->list[at] == client);
    unlink_client(c, client);
    c->count--;
    memmove(c->list + at, c->list + at + 1, (c->count - at) * sizeof *c->list);
    c->bytes -= client->result_size;
    mem_free(client->result);
    mem_free(client);
}

void clients_init(struct clients *c, struct client_limits limits)
{
    if (limits.sessions == 0) limits.sessions = CLIENTS_MAX;
    if (limits.idle_us == 0) limits.idle_us = CLIENT_IDLE_US;
    *c = (struct clients){.limits = limits};
}

void clients_free(struct clients *c)
{
    while (c->oldest != NULL) end(c, c->oldest);
    mem_free(c->list);
    *c = (struct clients){.limits = c->limits};
}

const struct client *clients_find(const struct clients *c, uint64_t id)
{
    size_t at = place_of(c, id);
    return at < c->count && c->list[at]->id == id ? c->list[at] : NULL;
}

/* ---- entries ---- */

void clients_expire(struct clients *c, uint64_t time_us)
{
    while (c->oldest != NULL && time_us >= c->oldest->time_us + c->limits.idle_us) end(c, c->oldest);
}

/* The newest session, at its place; NULL: no memory. */
static struct client *add(struct clients *c, uint64_t id, uint64_t time_us)
{
    if (!mem_grow((void **)&c->list, &c->capacity, c->count + 1, sizeof *c->list)) return NULL;
    struct client *client = mem_zero(1, sizeof *client);
    if (client == NULL) return NULL;
    client->id = id;
    client->time_us = time_us;
    size_t at = place_of(c, id);
    memmove(c->list + at + 1, c->list + at, (c->count - at) * sizeof *c->list);
    c->list[at] = client;
    c->count++;
    link_newest(c, client);
    return client;
}

int clients_open(struct clients *c, uint64_t id, uint64_t time_us)
{
    ASSERT(c->count == 0 || c->list[c->count - 1]->id < id);
    struct client *idle = c->count == c->limits.sessions ? c->oldest : NULL;
    if (add(c, id, time_us) == NULL) return ERR_NOMEM;
    if (idle != NULL) end(c, idle);
    return OK;
}

enum client_verdict clients_admit(struct clients *c, uint64_t id, uint64_t sequence, uint64_t time_us,
                                  struct client **client)
{
    size_t at = place_of(c, id);
    if (at == c->count || c->list[at]->id != id) return CLIENT_EXPIRED;
    *client = c->list[at];
    (*client)->time_us = time_us;
    unlink_client(c, *client);
    link_newest(c, *client);
    if (sequence < (*client)->sequence || sequence == 0) return CLIENT_EXPIRED;
    return sequence == (*client)->sequence ? CLIENT_REPEAT : CLIENT_NEW;
}

int clients_keep(struct clients *c, struct client *client, uint64_t sequence, const void *result, size_t size)
{
    ASSERT(sequence > client->sequence && client == c->newest);
    uint8_t *kept = NULL;
    if (size <= CLIENT_RESULT_MAX) {
        kept = mem_alloc(MAX(size, 1));
        if (kept == NULL) return ERR_NOMEM;
        memcpy(kept, result, size);
    }
    mem_free(client->result);
    c->bytes -= client->result_size;
    client->result = kept;
    client->result_size = kept != NULL ? (uint32_t)size : 0;
    client->sequence = sequence;
    c->bytes += client->result_size;
    while (c->bytes > CLIENTS_BYTES_MAX) end(c, c->oldest); /* never this one: it is the newest, and small enough */
    return OK;
}

/* ---- in a snapshot ---- */

#define CLIENT_HEAD 29u

bool clients_write(const struct clients *c, struct buf *out)
{
    uint8_t *head = buf_extend(out, 4);
    if (head == NULL) return false;
    put_u32(head, (uint32_t)c->count);
    for (const struct client *client = c->oldest; client != NULL; client = client->newer) {
        uint8_t *at = buf_extend(out, CLIENT_HEAD + client->result_size);
        if (at == NULL) return false;
        put_u64(at, client->id);
        put_u64(at + 8, client->sequence);
        put_u64(at + 16, client->time_us);
        at[24] = client->result != NULL;
        put_u32(at + 25, client->result_size);
        if (client->result_size > 0) memcpy(at + CLIENT_HEAD, client->result, client->result_size);
    }
    return true;
}

static int client_read(struct clients *c, struct reader *from)
{
    uint64_t id = reader_u64(from), sequence = reader_u64(from), time_us = reader_u64(from);
    uint8_t kept = reader_u8(from);
    uint32_t size = reader_u32(from);
    const uint8_t *result = reader_take(from, size);
    size_t at = place_of(c, id);
    bool twice = at < c->count && c->list[at]->id == id;
    bool shape = kept == 1 ? size <= CLIENT_RESULT_MAX : kept == 0 && size == 0;
    if (from->bad || id == 0 || twice || !shape || c->count == c->limits.sessions) return ERR_CORRUPT;
    struct client *client = add(c, id, time_us);
    if (client == NULL) return ERR_NOMEM;
    client->sequence = sequence;
    if (kept == 0) return OK;
    client->result = mem_alloc(MAX(size, 1));
    if (client->result == NULL) return ERR_NOMEM;
    memcpy(client->result, result, size);
    client->result_size = size;
    c->bytes += size;
    return OK;
}

int clients_read(struct clients *c, struct reader *from)
{
    ASSERT(c->count == 0);
    uint32_t count = reader_u32(from);
    int rv = from->bad ? ERR_CORRUPT : OK;
    for (uint32_t i = 0; i < count && rv == OK; i++) rv = client_read(c, from);
    if (rv != OK) clients_free(c);
    return rv;
}
