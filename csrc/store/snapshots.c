#include "store/snapshots.h"

#include "base/mem.h"
#include "store/internal.h"

struct kept *snapshots_newest(const struct store *s)
{
    struct kept *kept = s->snapshots.kept;
    while (kept != NULL && kept->damaged) kept = kept->next;
    return kept;
}

struct store_snapshot store_snapshot(const struct store *s)
{
    const struct kept *newest = snapshots_newest(s);
    return newest != NULL ? newest->what : (struct store_snapshot){0};
}

void snapshots_add(struct store *s, struct kept *kept)
{
    struct kept **at = &s->snapshots.kept;
    while (*at != NULL && (*at)->what.index > kept->what.index) at = &(*at)->next;
    kept->next = *at;
    *at = kept;
}

void snapshots_adopt(struct store *s, struct kept *kept)
{
    const struct store_snapshot *what = &kept->what;
    struct kept **at = &s->snapshots.kept;
    while (*at != NULL && ((*at)->what.index != what->index || (*at)->what.term != what->term)) at = &(*at)->next;
    struct kept *replaced = *at;
    if (replaced != NULL) {
        ASSERT(replaced->damaged && replaced != s->snapshots.victim); /* else the name had not been free */
        *at = replaced->next;
        mem_free(replaced);
    }
    snapshots_add(s, kept);
}

static void remove_work(struct io_job *job)
{
    struct snapshots *all = CONTAINER_OF(job, struct snapshots, job);
    struct err ignored; /* tried again later; until then it takes room, no more */
    all->status = io_remove(all->io, all->path, &ignored);
    if (all->status == ERR_NOENT) all->status = OK;
}

static void remove_done(struct io_job *job)
{
    struct store *s = CONTAINER_OF(job, struct store, snapshots.job);
    struct kept *victim = s->snapshots.victim, **at = &s->snapshots.kept;
    s->snapshots.victim = NULL;
    victim->stuck = s->snapshots.status != OK;
    if (!victim->stuck) {
        while (*at != victim) at = &(*at)->next;
        *at = victim->next;
        mem_free(victim);
    }
    snapshots_prune(s);
    store_settle(s);
}

void snapshots_prune(struct store *s)
{
    struct snapshots *all = &s->snapshots;
    struct kept *kept = snapshots_newest(s);
    if (kept == NULL || all->victim != NULL || s->closing) return;
    for (kept = kept->next; kept != NULL && (kept->views > 0 || kept->stuck); kept = kept->next) continue;
    if (kept == NULL) return;
    all->victim = kept;
    all->io = s->io;
    format_snapshot_path(all->path, s->dir, kept->what.index, kept->what.term);
    all->job.work = remove_work;
    all->job.done = remove_done;
    store_submit(s, IO_LANE_BULK, &all->job);
}

bool snapshots_busy(const struct store *s)
{
    return s->snapshots.victim != NULL || s->snapshots.incoming != NULL || s->snapshots.reads > 0;
}

void snapshots_free(struct store *s)
{
    incoming_free_all(s);
    views_free_all(s);
    while (s->snapshots.kept != NULL) {
        struct kept *kept = s->snapshots.kept;
        s->snapshots.kept = kept->next;
        mem_free(kept);
    }
}

/* ---- recovery ---- */

/* Reads all of a file. It must be what its name says. */
static int verify(struct store *s, struct kept *kept, struct snapshot_scan *scan, struct err *e)
{
    char path[FORMAT_PATH_MAX];
    const uint8_t *bytes;
    size_t size = 0;
    format_snapshot_path(path, s->dir, kept->what.index, kept->what.term);
    int status = snapshot_scan_open(scan, s->io, path, s->identity.cluster, NULL, e);
    if (status != OK) return status;
    do {
        uint64_t before = scan->at;
        status = snapshot_scan_next(scan, &bytes, &size, e);
        if (status == OK) store_progress(s, scan->at - before);
    } while (status == OK && size > 0);
    snapshot_scan_close(scan);
    if (status == OK && (scan->what.index != kept->what.index || scan->what.term != kept->what.term)) {
        status = err_set(e, ERR_CORRUPT, "%s: damaged at offset 32 (it is of index %" PRIu64 " and term %" PRIu64 ")",
                         path, scan->what.index, scan->what.term);
    }
    if (status == OK) kept->what = scan->what;
    return status;
}

static int find_files(struct store *s, const struct io_names *names, struct err *e)
{
    for (size_t i = 0; i < names->count; i++) {
        struct store_snapshot what = {0};
        if (!format_snapshot_name(names->names[i], &what.index, &what.term)) continue;
        struct kept *kept = mem_zero(1, sizeof *kept);
        if (kept == NULL) return err_set(e, ERR_NOMEM, "out of memory while opening %s", s->dir);
        kept->what = what;
        snapshots_add(s, kept);
    }
    return OK;
}

int snapshots_recover(struct store *s, const struct io_names *names, char *damaged, struct err *e)
{
    struct err why;
    damaged[0] = 0;
    if (find_files(s, names, e) != OK) return e->code;
    struct snapshot_scan *scan = mem_alloc(sizeof *scan);
    if (scan == NULL) return err_set(e, ERR_NOMEM, "out of memory while opening %s", s->dir);
    int status = s->snapshots.kept != NULL ? ERR_CORRUPT : OK;
    for (struct kept *kept = s->snapshots.kept; kept != NULL && status == ERR_CORRUPT; kept = kept->next) {
        status = verify(s, kept, scan, &why);
        kept->damaged = status == ERR_CORRUPT;
        if (status == ERR_CORRUPT && damaged[0] == 0) memcpy(damaged, why.text, sizeof why.text);
        else if (status != OK && status != ERR_CORRUPT) *e = why;
    }
    mem_free(scan);
    return status == ERR_CORRUPT ? OK : status; /* whether the log can do without it is seen later */
}
