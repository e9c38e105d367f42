/* The peers follow the latest configuration in the log, whoever put it there (dissertation 4.1). */
#ifndef RAFT_CORE_PEERS_H
#define RAFT_CORE_PEERS_H

#include "core/state.h"

#pragma GCC visibility push(hidden)

/* The log's latest configuration may be another one than before: progress is kept for those that stay members, and
 * starts anew for new ones, even under an id that was a member once. */
void peers_adopt(struct raft *r, uint64_t now);

#pragma GCC visibility pop

#endif
