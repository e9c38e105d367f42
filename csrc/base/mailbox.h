/* The newest value of something, from one thread to one other, with no lock and no waiting: three copies, of which
 * the writer owns one, the reader one, and one changes hands. Older values that were never read are overwritten,
 * so that a reader who is late learns the present, not the past (events coalesce here). */
#ifndef RAFT_BASE_MAILBOX_H
#define RAFT_BASE_MAILBOX_H

#include "base/base.h"

#include <stdatomic.h>

#pragma GCC visibility push(hidden)

struct mailbox {
    uint8_t *copies;        /* three of size bytes each */
    size_t size;
    uint32_t mine, yours;   /* the writer's copy, the reader's copy */
    _Atomic uint32_t between; /* the copy that changes hands, | FRESH when unread */
};

bool mailbox_init(struct mailbox *m, size_t size); /* copies zeroed; false: no memory */
void mailbox_free(struct mailbox *m);
void *mailbox_draft(struct mailbox *m);       /* writer: the copy to fill in whole; holds an old value */
void mailbox_publish(struct mailbox *m);      /* writer: the draft becomes the newest */
bool mailbox_take(struct mailbox *m);         /* reader: true when there is a newer value than at the last call */
const void *mailbox_read(struct mailbox *m);  /* reader: the value taken last; valid until the next take */

#pragma GCC visibility pop

#endif
