#include "server/confs.h"

#include "base/mem.h"

void confs_free(struct confs *c)
{
    mem_free(c->list);
    *c = (struct confs){0};
}

int confs_add(struct confs *c, raft_index index, raft_term term, const struct conf *conf)
{
    if (!mem_grow((void **)&c->list, &c->capacity, c->count + 1, sizeof *c->list)) return ERR_NOMEM;
    while (c->count > 0 && c->list[c->count - 1].index >= index) c->count--;
    c->list[c->count++] = (struct conf_at){.index = index, .term = term, .conf = *conf};
    return OK;
}

void confs_commit(struct confs *c, raft_index index)
{
    size_t old = 0;
    while (old + 1 < c->count && c->list[old + 1].index <= index) old++;
    c->count -= old;
    memmove(c->list, c->list + old, c->count * sizeof *c->list);
}

void confs_drop_last(struct confs *c)
{
    ASSERT(c->count > 1);
    c->count--;
}

const struct conf_at *confs_at(const struct confs *c, raft_index index)
{
    size_t i = c->count;
    while (i > 0 && c->list[i - 1].index > index) i--;
    ASSERT(i > 0);
    return &c->list[i - 1];
}
