#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void base_assert_failed(const char *claim, const char *file, int line)
{
    fprintf(stderr, "raft: broken invariant: %s (%s:%d); please report it\n", claim, file, line);
    abort();
}
