#include "sim/sim_names.h"

#include "base/mem.h"

/* ---- inodes ---- */

struct sim_inode *sim_inode_new(void)
{
    struct sim_inode *inode = sim_alloc(sizeof(*inode));
    inode->refs = 1;
    return inode;
}

struct sim_inode *sim_inode_ref(struct sim_inode *inode)
{
    if (inode != NULL) inode->refs++;
    return inode;
}

void sim_inode_forget_puts(struct sim_inode *inode)
{
    while (inode->puts != NULL) {
        struct sim_put *put = inode->puts;
        inode->puts = put->next;
        buf_free(&put->before);
        mem_free(put);
    }
}

void sim_inode_unref(struct sim_inode *inode)
{
    if (inode == NULL || --inode->refs > 0) return;
    sim_inode_forget_puts(inode);
    buf_free(&inode->bytes);
    mem_free(inode);
}

/* ---- tables ---- */

static struct sim_name *table_find(const struct sim_table *table, const char *path)
{
    for (size_t i = 0; i < table->count; i++) {
        if (strcmp(table->list[i].path, path) == 0) return &table->list[i];
    }
    return NULL;
}

static void table_set(struct sim_table *table, const char *path, struct sim_inode *inode)
{
    struct sim_name *name = table_find(table, path);
    sim_inode_ref(inode);
    if (name != NULL) {
        sim_inode_unref(name->inode);
        name->inode = inode;
        return;
    }
    void *list = table->list;
    sim_grow(&list, &table->capacity, table->count + 1, sizeof(struct sim_name));
    table->list = list;
    table->list[table->count++] = (struct sim_name){.path = sim_strdup(path), .inode = inode};
}

static void table_drop(struct sim_table *table, struct sim_name *name)
{
    mem_free(name->path);
    sim_inode_unref(name->inode);
    *name = table->list[--table->count];
}

static void table_clear(struct sim_table *table)
{
    while (table->count > 0) table_drop(table, &table->list[table->count - 1]);
    mem_free(table->list);
    *table = (struct sim_table){0};
}

static void table_copy(struct sim_table *to, const struct sim_table *from)
{
    table_clear(to);
    for (size_t i = 0; i < from->count; i++) table_set(to, from->list[i].path, from->list[i].inode);
}

struct sim_inode *sim_names_find(const struct sim_names *n, const char *path)
{
    const struct sim_name *name = table_find(&n->now, path);
    return name != NULL ? name->inode : NULL;
}

struct sim_inode *sim_names_durable(const struct sim_names *n, const char *path)
{
    const struct sim_name *name = table_find(&n->durable, path);
    return name != NULL ? name->inode : NULL;
}

/* ---- directories ---- */

static size_t parent_size(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? 0 : (size_t)(slash - path);
}

static bool is_child(const char *path, const char *dir)
{
    size_t size = parent_size(path);
    if (size == 0) return strcmp(dir, ".") == 0 || strcmp(dir, "/") == 0 || *dir == '\0';
    return strlen(dir) == size && memcmp(path, dir, size) == 0;
}

static bool has_dir(const struct sim_names *n, const char *dir, size_t size)
{
    if (size == 0 || (size == 1 && (*dir == '.' || *dir == '/'))) return true;
    for (size_t i = 0; i < n->n_dirs; i++) {
        if (strlen(n->dirs[i]) == size && memcmp(n->dirs[i], dir, size) == 0) return true;
    }
    return false;
}

bool sim_names_has_dir(const struct sim_names *n, const char *dir)
{
    return has_dir(n, dir, strlen(dir));
}

bool sim_names_has_parent(const struct sim_names *n, const char *path)
{
    return has_dir(n, path, parent_size(path));
}

static void dirs_add(struct sim_names *n, const char *dir, size_t size)
{
    if (has_dir(n, dir, size)) return;
    void *dirs = n->dirs;
    sim_grow(&dirs, &n->dirs_capacity, n->n_dirs + 1, sizeof(char *));
    n->dirs = dirs;
    char *copy = sim_alloc(size + 1);
    memcpy(copy, dir, size);
    n->dirs[n->n_dirs++] = copy;
}

static void dirs_add_parents(struct sim_names *n, const char *path)
{
    for (size_t size = 1; path[0] != '\0' && path[size] != '\0'; size++) {
        if (path[size] == '/') dirs_add(n, path, size);
    }
}

void sim_names_make_dir(struct sim_names *n, const char *dir)
{
    dirs_add_parents(n, dir);
    dirs_add(n, dir, strlen(dir));
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

void sim_names_list(const struct sim_names *n, const char *dir, void (*found)(void *ctx, const char *name), void *ctx)
{
    for (size_t i = 0; i < n->now.count; i++) {
        if (is_child(n->now.list[i].path, dir)) found(ctx, last_part(n->now.list[i].path));
    }
    for (size_t i = 0; i < n->n_dirs; i++) {
        if (is_child(n->dirs[i], dir)) found(ctx, last_part(n->dirs[i]));
    }
}

/* ---- changes on their way to the disk ---- */

static void change_apply(struct sim_table *table, const struct sim_change *change)
{
    struct sim_name *old = change->from != NULL ? table_find(table, change->from) : NULL;
    if (old != NULL && old->inode == change->inode) table_drop(table, old);
    if (change->to != NULL) table_set(table, change->to, change->inode);
}

static void change_free(struct sim_change *change)
{
    mem_free(change->from);
    mem_free(change->to);
    sim_inode_unref(change->inode);
}

void sim_names_change(struct sim_names *n, const char *from, const char *to, struct sim_inode *inode)
{
    void *changes = n->changes;
    sim_grow(&changes, &n->changes_capacity, n->n_changes + 1, sizeof(struct sim_change));
    n->changes = changes;
    struct sim_change *change = &n->changes[n->n_changes++];
    change->from = from != NULL ? sim_strdup(from) : NULL;
    change->to = to != NULL ? sim_strdup(to) : NULL;
    change->inode = sim_inode_ref(inode);
    change_apply(&n->now, change);
}

void sim_names_sync(struct sim_names *n, const char *dir)
{
    size_t left = 0;
    for (size_t i = 0; i < n->n_changes; i++) {
        struct sim_change *change = &n->changes[i];
        if (is_child(change->to != NULL ? change->to : change->from, dir)) {
            change_apply(&n->durable, change);
            change_free(change);
        } else {
            n->changes[left++] = *change;
        }
    }
    n->n_changes = left;
}

/* A journal keeps changes in order up to some point; not every file system is that kind. */
void sim_names_crash(struct sim_names *n, struct sim_queue *q)
{
    bool in_order = prng_chance(&q->prng, 500);
    size_t kept = prng_below(&q->prng, n->n_changes + 1);
    for (size_t i = 0; i < n->n_changes; i++) {
        bool keep = in_order ? i < kept : prng_chance(&q->prng, 500);
        if (keep) change_apply(&n->durable, &n->changes[i]);
        change_free(&n->changes[i]);
    }
    n->n_changes = 0;
    table_copy(&n->now, &n->durable);
}

void sim_names_put(struct sim_names *n, const char *path, struct sim_inode *inode)
{
    dirs_add_parents(n, path);
    table_set(&n->now, path, inode);
    table_set(&n->durable, path, inode);
}

/* ---- life ---- */

void sim_names_clear(struct sim_names *n)
{
    for (size_t i = 0; i < n->n_changes; i++) change_free(&n->changes[i]);
    n->n_changes = 0;
    table_clear(&n->now);
    table_clear(&n->durable);
    for (size_t i = 0; i < n->n_dirs; i++) mem_free(n->dirs[i]);
    n->n_dirs = 0;
}

void sim_names_free(struct sim_names *n)
{
    sim_names_clear(n);
    mem_free(n->changes);
    mem_free(n->dirs);
    *n = (struct sim_names){0};
}
