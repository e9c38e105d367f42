#include "base/io.h"

#include "base/mem.h"

const char *io_close_name(enum io_close reason)
{
    switch (reason) {
    case IO_CLOSE_REFUSED: return "connection refused";
    case IO_CLOSE_UNREACHABLE: return "unreachable";
    case IO_CLOSE_EOF: return "closed by the peer";
    case IO_CLOSE_RESET: return "connection broken";
    }
    return "closed";
}

void io_names_free(struct io_names *names)
{
    for (size_t i = 0; i < names->count; i++) mem_free(names->names[i]);
    mem_free(names->names);
    *names = (struct io_names){0};
}
