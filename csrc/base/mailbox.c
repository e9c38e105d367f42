#include "base/mailbox.h"

#include "base/mem.h"

#define FRESH 4u

bool mailbox_init(struct mailbox *m, size_t size)
{
    m->size = size;
    m->copies = mem_zero(3, size);
    m->mine = 0;
    m->yours = 1;
    atomic_init(&m->between, 2);
    return m->copies != NULL;
}

void mailbox_free(struct mailbox *m)
{
    mem_free(m->copies);
    m->copies = NULL;
}

void *mailbox_draft(struct mailbox *m)
{
    return m->copies + m->mine * m->size;
}

void mailbox_publish(struct mailbox *m)
{
    m->mine = atomic_exchange(&m->between, m->mine | FRESH) & ~FRESH;
    ASSERT(m->mine < 3);
}

bool mailbox_take(struct mailbox *m)
{
    if ((atomic_load(&m->between) & FRESH) == 0) return false;
    m->yours = atomic_exchange(&m->between, m->yours) & ~FRESH;
    ASSERT(m->yours < 3);
    return true;
}

const void *mailbox_read(struct mailbox *m)
{
    return m->copies + m->yours * m->size;
}
