#include "core/membership.h"

#include "core/quorum.h"

#define CHANGES_MAX (2 * RAFT_MEMBERS_MAX) /* in one step: all members replaced */

struct list {
    raft_id ids[RAFT_MEMBERS_MAX + CHANGES_MAX]; /* too many are found out at the end */
    uint8_t n;
};

static struct list list_of(const raft_id *ids, uint8_t n)
{
    struct list list = {.n = n};
    memcpy(list.ids, ids, n * sizeof *ids);
    return list;
}

static bool list_remove(struct list *list, raft_id id)
{
    for (uint8_t i = 0; i < list->n; i++) {
        if (list->ids[i] != id) continue;
        list->n--;
        memmove(&list->ids[i], &list->ids[i + 1], (list->n - i) * sizeof id);
        return true;
    }
    return false;
}

/* Precondition: it is not there. */
static void list_insert(struct list *list, raft_id id)
{
    ASSERT(list->n < COUNT_OF(list->ids));
    uint8_t at = list->n++;
    for (; at > 0 && list->ids[at - 1] > id; at--) list->ids[at] = list->ids[at - 1];
    list->ids[at] = id;
}

static int change_one(const struct raft_change *change, struct list *voters, struct list *learners)
{
    raft_id id = change->id;
    bool voted = list_remove(voters, id), learned = list_remove(learners, id);
    if (change->op != RAFT_ADD && !voted && !learned) return ERR_NO_MEMBER;
    switch (change->op) {
    case RAFT_ADD:
        if (voted || learned) return ERR_ALREADY;
        list_insert(learners, id);
        return OK;
    case RAFT_PROMOTE:
        if (voted) return ERR_ALREADY;
        list_insert(voters, id);
        return OK;
    case RAFT_DEMOTE:
        if (learned) return ERR_ALREADY;
        list_insert(learners, id);
        return OK;
    case RAFT_MOVE:
        list_insert(voted ? voters : learners, id);
        return OK;
    default:
        return OK; /* RAFT_REMOVE: it is gone from both */
    }
}

static bool changes_are_sane(const struct raft_change *changes, size_t n)
{
    if (n == 0 || n > CHANGES_MAX) return false;
    for (size_t i = 0; i < n; i++) {
        if (changes[i].op < RAFT_ADD || changes[i].op > RAFT_REMOVE || changes[i].id == 0) return false;
        for (size_t k = 0; k < i; k++) {
            if (changes[k].id == changes[i].id) return false;
        }
    }
    return true;
}

/* How many ids stand in one of two sorted lists only. */
static unsigned difference(const struct list *a, const struct list *b)
{
    unsigned common = 0;
    for (uint8_t i = 0; i < a->n; i++) {
        for (uint8_t k = 0; k < b->n; k++) common += a->ids[i] == b->ids[k];
    }
    return a->n + b->n - 2 * common;
}

int membership_change(const struct raft_conf *from, const struct raft_change *changes, size_t n, struct raft_conf *to)
{
    ASSERT(!conf_is_joint(from) && !from->founding && conf_is_valid(from));
    if (!changes_are_sane(changes, n)) return ERR_INVALID;
    struct list old = list_of(from->voters, from->n_voters), voters = old;
    struct list learners = list_of(from->learners, from->n_learners);
    for (size_t i = 0; i < n; i++) {
        int rv = change_one(&changes[i], &voters, &learners);
        if (rv != OK) return rv;
    }
    if (voters.n == 0) return ERR_NO_VOTERS;
    if (voters.n + learners.n > RAFT_MEMBERS_MAX) return ERR_TOO_MANY;
    *to = (struct raft_conf){.n_voters = voters.n, .n_learners = learners.n};
    memcpy(to->voters, voters.ids, voters.n * sizeof(raft_id));
    memcpy(to->learners, learners.ids, learners.n * sizeof(raft_id));
    if (difference(&old, &voters) > 1) {
        to->n_outgoing = old.n;
        memcpy(to->outgoing, old.ids, old.n * sizeof(raft_id));
    }
    return conf_is_valid(to) ? OK : ERR_TOO_MANY; /* in between, all of both lists are members */
}

struct raft_conf membership_leave(const struct raft_conf *joint)
{
    ASSERT(conf_is_joint(joint));
    struct raft_conf conf = *joint;
    memset(conf.outgoing, 0, sizeof conf.outgoing);
    conf.n_outgoing = 0;
    ASSERT(conf_is_valid(&conf));
    return conf;
}
