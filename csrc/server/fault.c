/* The end of an engine that cannot keep its promises. */
#include "server/engine_state.h"

void engine_fail(struct engine *e, const struct err *reason)
{
    if (e->phase != ENGINE_RUNNING) return;
    e->phase = ENGINE_FAILED;
    e->fault = *reason;
    e->fault.code = reason->code == OK ? ERR_FAULT : reason->code;
    e->news = true;
    raft_step_down(e->raft, io_now(e->io));
}
