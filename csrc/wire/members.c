#include "wire/members.h"

#include <stdio.h>

#include "base/buf.h"
#include "base/hash.h"

#define MEMBER_TEXT_MAX (20u + 1u + ADDRESS_MAX + 1u) /* id, "=", address, space */

/* NULL: an address this list can hold. Whether it can be reached is found out by who listens or connects. */
static const char *address_fault(const char *address)
{
    size_t size = strlen(address);
    if (size == 0) return "is empty";
    if (size > ADDRESS_MAX) return "is longer than 255 bytes";
    for (size_t i = 0; i < size; i++) {
        uint8_t c = (uint8_t)address[i];
        if (c <= ' ' || c == 0x7f) return "holds a space or a control character";
    }
    return NULL;
}

int members_add(struct members *m, raft_id id, const char *address, struct err *e)
{
    if (id == 0) return err_set(e, ERR_INVALID, "member id 0: ids start at 1");
    if (members_find(m, id) != NULL) return err_set(e, ERR_INVALID, "member %" PRIu64 " is there twice", id);
    const char *fault = address_fault(address);
    if (fault != NULL) return err_set(e, ERR_INVALID, "address of member %" PRIu64 " %s", id, fault);
    if (m->count == RAFT_MEMBERS_MAX)
        return err_set(e, ERR_INVALID, "more than %d members: take 3 or 5", RAFT_MEMBERS_MAX);
    uint8_t at = m->count;
    while (at > 0 && m->list[at - 1].id > id) {
        m->list[at] = m->list[at - 1];
        at--;
    }
    m->list[at] = (struct member){.id = id};
    memcpy(m->list[at].address, address, strlen(address) + 1);
    m->count++;
    return OK;
}

void members_name(struct members *m, raft_id id, uint64_t incarnation, bool returns)
{
    for (uint8_t i = 0; i < m->count; i++) {
        if (m->list[i].id != id) continue;
        m->list[i].incarnation = incarnation;
        m->list[i].returns = returns;
    }
}

const struct member *members_find(const struct members *m, raft_id id)
{
    for (uint8_t i = 0; i < m->count; i++) {
        if (m->list[i].id == id) return &m->list[i];
    }
    return NULL;
}

int members_format(const struct members *m, char *out, size_t size, struct err *e)
{
    size_t used = 0;
    ASSERT(size > 0);
    out[0] = '\0';
    for (uint8_t i = 0; i < m->count; i++) {
        int n = snprintf(out + used, size - used, "%s%" PRIu64 "=%s", i > 0 ? " " : "", m->list[i].id,
                         m->list[i].address);
        ASSERT(n > 0);
        if ((size_t)n >= size - used)
            return err_set(e, ERR_INVALID, "the list of members is longer than %zu bytes", size - 1);
        used += (size_t)n;
    }
    return OK;
}

/* The id before "=", in decimal without a leading zero; 0 when it is none. Moves *text behind the "=". */
static raft_id take_id(const char **text)
{
    const char *p = *text;
    raft_id id = 0;
    if (*p == '0') return 0;
    for (; *p >= '0' && *p <= '9'; p++) {
        raft_id digit = (raft_id)(*p - '0');
        if (id > (UINT64_MAX - digit) / 10) return 0;
        id = id * 10 + digit;
    }
    if (*p != '=') return 0;
    *text = p + 1;
    return id;
}

int members_parse(struct members *m, const char *text, struct err *e)
{
    *m = (struct members){.count = 0};
    while (*text != '\0') {
        char address[ADDRESS_MAX + 1];
        raft_id id = take_id(&text);
        size_t size = strcspn(text, " ");
        if (id == 0 || size > ADDRESS_MAX)
            return err_set(e, ERR_CORRUPT, "not \"1=host:port 2=host:port\" from \"%.40s\" on", text);
        memcpy(address, text, size);
        address[size] = '\0';
        if (members_add(m, id, address, e) != OK) return e != NULL ? (e->code = ERR_CORRUPT) : ERR_CORRUPT;
        text += size;
        if (*text == ' ' && *++text == '\0')
            return err_set(e, ERR_CORRUPT, "the list of members ends in a space");
    }
    return OK;
}

struct raft_conf members_conf(const struct members *m)
{
    struct raft_conf conf = {.n_voters = m->count};
    for (uint8_t i = 0; i < m->count; i++) conf.voters[i] = m->list[i].id;
    return conf;
}

void members_cluster_id(const struct members *m, const char *name, uint8_t id[16])
{
    char text[RAFT_MEMBERS_MAX * MEMBER_TEXT_MAX + 1];
    int code = members_format(m, text, sizeof text, NULL);
    ASSERT(code == OK);
    for (unsigned half = 0; half < 2; half++) {
        uint64_t seed = hash64(name, strlen(name), half + 1);
        put_u64(id + half * 8, hash64(text, strlen(text), seed));
    }
}
