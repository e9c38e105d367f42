#include "store/inspect.h"

#include "base/mem.h"
#include "store/internal.h"

struct inspection {
    struct store store; /* as far as reading needs one */
    char path[FORMAT_PATH_MAX]; /* of the snapshot */
};

int inspect_open(struct inspection **out, struct io *io, const char *dir, bool force,
                 const struct inspect_visitor *visitor, struct store_recovered *recovered, struct err *found,
                 struct err *e)
{
    if (strlen(dir) == 0 || strlen(dir) > FORMAT_PATH_MAX - 64) return err_set(e, ERR_INVALID, "no such directory");
    struct inspection *in = mem_zero(1, sizeof *in);
    if (in == NULL) return err_set(e, ERR_NOMEM, "out of memory while reading %s", dir);
    struct store *s = &in->store;
    s->io = io;
    s->dir = mem_strdup(dir);
    peers_init(&s->peers, io, s->dir);
    int status = s->dir != NULL ? OK : err_set(e, ERR_NOMEM, "out of memory while reading %s", dir);
    if (status == OK && !force) status = io_lock_dir(io, dir, &s->lock, e);
    if (status == ERR_LOCKED) err_wrap(e, "a node is running there");
    *recovered = (struct store_recovered){0};
    *found = (struct err){.code = OK};
    if (status == OK) found->code = recovery_look(s, visitor, recovered, found);
    if (status == OK && found->code == ERR_NOMEM) {
        *e = *found;
        status = ERR_NOMEM;
    }
    if (status == OK) {
        *out = in;
        return OK;
    }
    store_recovered_free(recovered);
    inspect_close(in);
    return status;
}

void inspect_close(struct inspection *in)
{
    struct store *s = &in->store;
    segments_clear(&s->live, NULL);
    segments_clear(&s->spares, NULL);
    snapshots_free(s);
    peers_free(&s->peers);
    map_free(&s->map);
    if (s->lock != NULL) io_unlock_dir(s->io, s->lock);
    mem_free(s->dir);
    mem_free(in);
}

int inspect_read(struct inspection *in, struct store_read *read)
{
    return read_now(&in->store, read);
}

int inspect_snapshot(struct inspection *in, struct snapshot_scan *scan, struct err *e)
{
    struct store *s = &in->store;
    struct store_snapshot newest = store_snapshot(s);
    if (newest.index == 0) return err_set(e, ERR_NOENT, "%s: there is no snapshot", s->dir);
    format_snapshot_path(in->path, s->dir, newest.index, newest.term);
    return snapshot_scan_open(scan, s->io, in->path, s->identity.cluster, NULL, e);
}
