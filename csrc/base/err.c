#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>

int err_set(struct err *e, int code, const char *format, ...)
{
    if (e != NULL) {
        va_list args;
        va_start(args, format);
        e->code = code;
        vsnprintf(e->text, sizeof e->text, format, args);
        va_end(args);
    }
    return code;
}

int err_wrap(struct err *e, const char *format, ...)
{
    char inner[ERR_TEXT_MAX];
    va_list args;
    ASSERT(e != NULL && e->code != OK);
    memcpy(inner, e->text, sizeof inner);
    va_start(args, format);
    int n = vsnprintf(e->text, sizeof e->text, format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof e->text) {
        size_t room = sizeof e->text - (size_t)n;
        size_t used = (size_t)snprintf(e->text + n, room, ": %.*s", (int)(room > 3 ? room - 3 : 0), inner);
        ASSERT(used <= room || room < 4);
    }
    return e->code;
}

const char *err_name(int code)
{
    switch (code) {
    case OK: return "ok";
#define X(name, value, text)                                                                                           \
    case name: return text;
        ERR_MAP(X)
#undef X
    default: return "unknown";
    }
}
