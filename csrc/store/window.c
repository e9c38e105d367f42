#include "store/window.h"

#include "base/mem.h"

void window_init(struct window *w, struct io *io, struct io_file *file, const char *path, uint64_t file_size,
                 size_t piece)
{
    *w = (struct window){.io = io, .file = file, .path = path, .file_size = file_size, .piece = piece};
}

void window_free(struct window *w)
{
    mem_free(w->data);
    w->data = NULL;
}

/* Moves on to offset and reads what is missing of size bytes from there: what is in memory is not read once more. */
static int load(struct window *w, uint64_t offset, size_t size, struct err *e)
{
    bool overlaps = offset >= w->at && offset - w->at < w->size;
    size_t got, kept = overlaps ? w->size - (size_t)(offset - w->at) : 0;
    if (kept > 0) memmove(w->data, w->data + (offset - w->at), kept);
    w->at = offset;
    w->size = kept;
    if (size > w->capacity) {
        uint8_t *data = mem_resize(w->data, size);
        if (data == NULL) return err_set(e, ERR_NOMEM, "out of memory while reading the log");
        w->data = data;
        w->capacity = size;
    }
    int status = io_read(w->io, w->file, offset + kept, w->data + kept, size - kept, &got, e);
    if (status == OK) w->size += got;
    return status;
}

int window_view(struct window *w, uint64_t offset, size_t size, const uint8_t **p, struct err *e)
{
    if (offset > w->file_size || size > w->file_size - offset) return ERR_NOENT;
    if (offset < w->at || offset - w->at > w->size || w->size - (offset - w->at) < size) {
        size_t wanted = (size_t)MIN(MAX(size, w->piece), w->file_size - offset);
        if (load(w, offset, wanted, e) != OK) return e->code;
        if (w->size < size) {
            return err_set(e, ERR_CORRUPT, "%s: damaged at offset %" PRIu64 ": the file has been cut there", w->path,
                           offset + w->size);
        }
    }
    *p = w->data + (offset - w->at);
    return OK;
}
