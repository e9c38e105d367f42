#include "store/window.h"

#include "base/mem.h"

#define PIECE (128u << 10) /* read at once, at least */

void window_init(struct window *w, struct io *io, struct io_file *file, const char *path, uint64_t file_size)
{
    *w = (struct window){.io = io, .file = file, .path = path, .file_size = file_size};
}

void window_free(struct window *w)
{
    mem_free(w->data);
    w->data = NULL;
}

static int load(struct window *w, uint64_t offset, size_t size, struct err *e)
{
    size_t got;
    if (size > w->capacity) {
        uint8_t *data = mem_resize(w->data, size);
        if (data == NULL) return err_set(e, ERR_NOMEM, "out of memory while reading the log");
        w->data = data;
        w->capacity = size;
    }
    w->at = offset;
    w->size = 0;
    int status = io_read(w->io, w->file, offset, w->data, size, &got, e);
    if (status == OK) w->size = got;
    return status;
}

int window_view(struct window *w, uint64_t offset, size_t size, const uint8_t **p, struct err *e)
{
    if (offset > w->file_size || size > w->file_size - offset) return ERR_NOENT;
    if (offset < w->at || offset - w->at > w->size || w->size - (offset - w->at) < size) {
        size_t wanted = (size_t)MIN(MAX(size, PIECE), w->file_size - offset);
        if (load(w, offset, wanted, e) != OK) return e->code;
        if (w->size < size) {
            return err_set(e, ERR_CORRUPT, "%s: damaged at offset %" PRIu64 ": the file has been cut there", w->path,
                           offset + w->size);
        }
    }
    *p = w->data + (offset - w->at);
    return OK;
}
