/* Whose turn it is. What belongs to an engine is used by one thread at a time, the one that has the turn. That is the
 * thread that runs its loop, but while that sleeps; then whoever has news (the host has proposed something, a durable
 * write has ended) may take the turn and see to it on the spot: to wake a thread on another core costs 5 to 60 us.
 *
 * Who finds the turn taken leaves word, and whoever has it looks for word before giving it up. Both are one atomic
 * variable, so that no word is lost in between. */
#ifndef RAFT_UV_UV_TURN_H
#define RAFT_UV_UV_TURN_H

#include "base/base.h" /* first: libuv brings in <sys/param.h>, which has a MIN and MAX of its own */

#include <stdatomic.h>
#include <uv.h>

#pragma GCC visibility push(hidden)

struct uv_turn {
    _Atomic uint32_t state;
    uv_sem_t ended; /* for the one that waits */
};

int turn_init(struct uv_turn *t); /* a code of libuv, or 0 */
void turn_free(struct uv_turn *t);

/* Waits for the turn. One thread only, which runs the loop. */
void turn_take(struct uv_turn *t);
/* Takes the turn if it is free: true. Else leaves word. */
bool turn_offer(struct uv_turn *t);
/* Leaves word, if somebody has the turn. false: nobody has. */
bool turn_tell(struct uv_turn *t);
/* Gives the turn up. false: there is word, which is taken; the turn stays the caller's. */
bool turn_end(struct uv_turn *t);

/* Who runs the loop. One thread does, and may leave that post: to come back, unless the one that stands by was sooner
 * (POST_LEFT); or to the host, which comes and goes, until the one that lent it takes it back (POST_LENT). All zero:
 * taken. */
enum uv_post_state { POST_TAKEN, POST_LEFT, POST_LENT };
struct uv_post {
    _Atomic int state;
};

/* Precondition: the caller has the post, and not the turn. how: POST_LEFT or POST_LENT. */
void post_leave(struct uv_post *p, enum uv_post_state how);
/* false: somebody has it, or it was left in another way. */
bool post_take(struct uv_post *p, enum uv_post_state how);

#pragma GCC visibility pop

#endif
