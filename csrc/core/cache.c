#include "core/cache.h"

#include "base/mem.h"

#define PAGES_MIN 16u
#define SPARE_PAGES 2u /* for as many as few entries may need, wherever they begin */

static struct raft_cache_page **slot(const struct raft_cache *c, uint64_t page)
{
    return &c->pages[page & (c->capacity - 1)];
}

static void drop_page(struct raft_cache *c, struct raft_cache_page *page)
{
    if (c->n_spare >= SPARE_PAGES) {
        slab_free(page, sizeof *page);
        return;
    }
    page->next = c->spare;
    c->spare = page;
    c->n_spare++;
}

void cache_free(struct raft_cache *c)
{
    cache_trim(c, 1, 0);
    for (struct raft_cache_page *page = c->spare, *next; page != NULL; page = next) {
        next = page->next;
        slab_free(page, sizeof *page);
    }
    mem_free(c->pages);
    *c = (struct raft_cache){0};
}

/* Slots for so many pages. */
static bool grow(struct raft_cache *c, uint64_t need)
{
    if (need <= c->capacity) return true;
    struct raft_cache old = *c;
    size_t capacity = MAX(c->capacity, PAGES_MIN);
    while (capacity < need) capacity *= 2;
    struct raft_cache_page **pages = mem_zero(capacity, sizeof(struct raft_cache_page *));
    if (pages == NULL) return false;
    c->pages = pages;
    c->capacity = capacity;
    for (uint64_t p = c->first; p < c->end; p++) *slot(c, p) = *slot(&old, p);
    mem_free(old.pages);
    return true;
}

int cache_reserve(struct raft_cache *c, size_t n)
{
    size_t need = n / CACHE_PAGE + SPARE_PAGES;
    if (c->n_spare >= need) return OK;
    if (!grow(c, c->end - c->first + need)) return ERR_NOMEM;
    while (c->n_spare < need) {
        struct raft_cache_page *page = slab_alloc(sizeof *page);
        if (page == NULL) return ERR_NOMEM;
        page->next = c->spare;
        c->spare = page;
        c->n_spare++;
    }
    return OK;
}

void cache_open(struct raft_cache *c, uint64_t page)
{
    ASSERT(c->end == 0 || page == c->end);
    ASSERT(c->spare != NULL && c->end - c->first < c->capacity);
    if (c->end == 0) c->first = page;
    c->end = page + 1;
    *slot(c, page) = c->spare;
    c->spare = c->spare->next;
    c->n_spare--;
}

void cache_trim(struct raft_cache *c, raft_index from, raft_index last)
{
    bool none = from > last;
    while (c->first < c->end && (none || c->first < from / CACHE_PAGE)) drop_page(c, *slot(c, c->first++));
    while (c->first < c->end && c->end - 1 > last / CACHE_PAGE) drop_page(c, *slot(c, --c->end));
    if (c->first == c->end) c->first = c->end = 0;
}
