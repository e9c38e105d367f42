#include "wire/conf.h"

enum { VOTER = 1, OUTGOING = 2, LEARNER = 4, RETURNS = 8 };

struct conf conf_first(const struct members *list)
{
    struct conf c = {.members = *list, .raft = members_conf(list), .next_id = 1};
    c.raft.founding = true;
    for (uint8_t i = 0; i < list->count; i++) c.next_id = MAX(c.next_id, list->list[i].id + 1);
    return c;
}

/* ---- writing ---- */

static bool is_in(const raft_id *ids, uint8_t n, raft_id id)
{
    for (uint8_t i = 0; i < n; i++) {
        if (ids[i] == id) return true;
    }
    return false;
}

static uint8_t rights_of(const struct raft_conf *raft, const struct member *member)
{
    raft_id id = member->id;
    return (uint8_t)((is_in(raft->voters, raft->n_voters, id) ? VOTER : 0) |
                     (is_in(raft->outgoing, raft->n_outgoing, id) ? OUTGOING : 0) |
                     (is_in(raft->learners, raft->n_learners, id) ? LEARNER : 0) | (member->returns ? RETURNS : 0));
}

bool conf_write(struct buf *out, const struct conf *c)
{
    uint8_t bytes[CONF_BYTES_MAX], *p = bytes;
    put_u64(p, c->next_id);
    p[8] = c->members.count;
    p += 9;
    for (uint8_t i = 0; i < c->members.count; i++) {
        const struct member *member = &c->members.list[i];
        size_t size = strlen(member->address);
        put_u64(p, member->id);
        p[8] = rights_of(&c->raft, member);
        ASSERT(p[8] != 0 && size > 0 && size <= ADDRESS_MAX);
        put_u64(p + 9, member->incarnation);
        p[17] = (uint8_t)size;
        memcpy(p + 18, member->address, size);
        p += 18 + size;
    }
    return buf_append(out, bytes, (size_t)(p - bytes));
}

/* ---- reading ---- */

static void grant(struct raft_conf *raft, raft_id id, uint8_t rights)
{
    if (rights & VOTER) raft->voters[raft->n_voters++] = id;
    if (rights & OUTGOING) raft->outgoing[raft->n_outgoing++] = id;
    if (rights & LEARNER) raft->learners[raft->n_learners++] = id;
}

static bool make_sense(uint8_t rights)
{
    if (rights & RETURNS) rights = (rights & LEARNER) ? rights & (uint8_t)~RETURNS : 0;
    return rights == VOTER || rights == OUTGOING || rights == LEARNER || rights == (VOTER | OUTGOING) ||
           rights == (LEARNER | OUTGOING);
}

static bool read_member(struct reader *r, struct conf *out, raft_id above)
{
    char address[ADDRESS_MAX + 1];
    raft_id id = reader_u64(r);
    uint8_t rights = reader_u8(r);
    uint64_t incarnation = reader_u64(r);
    uint8_t size = reader_u8(r);
    const uint8_t *bytes = reader_take(r, size);
    if (r->bad || !make_sense(rights) || id <= above || id >= out->next_id) return false;
    if (memchr(bytes, '\0', size) != NULL) return false;
    memcpy(address, bytes, size);
    address[size] = '\0';
    if (members_add(&out->members, id, address, NULL) != OK) return false;
    members_name(&out->members, id, incarnation, (rights & RETURNS) != 0);
    grant(&out->raft, id, rights);
    return true;
}

int conf_read(const uint8_t *data, size_t size, struct conf *out, struct err *e)
{
    struct reader r = {.data = data, .size = size};
    *out = (struct conf){.next_id = reader_u64(&r)};
    uint8_t count = reader_u8(&r);
    bool ok = !r.bad && count <= RAFT_MEMBERS_MAX;
    raft_id above = 0;
    for (uint8_t i = 0; i < count && ok; i++) {
        ok = read_member(&r, out, above);
        if (ok) above = out->members.list[i].id;
    }
    return ok && r.at == r.size ? OK : err_set(e, ERR_CORRUPT, "malformed configuration");
}
