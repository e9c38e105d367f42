#include "server/sessions.h"

#include "base/mem.h"

void sessions_free(struct sessions *s)
{
    for (size_t i = 0; i < s->count; i++) mem_free(s->list[i]);
    mem_free(s->list);
    *s = (struct sessions){0};
}

/* The session of id, made when it is not there; NULL: no memory. */
static struct session *session_of(struct sessions *s, uint64_t id)
{
    size_t at = s->count;
    while (at > 0 && s->list[at - 1]->id >= id) at--;
    if (at < s->count && s->list[at]->id == id) return s->list[at];
    if (!mem_grow((void **)&s->list, &s->capacity, s->count + 1, sizeof *s->list)) return NULL;
    struct session *made = mem_zero(1, sizeof *made);
    if (made == NULL) return NULL;
    made->id = id;
    memmove(s->list + at + 1, s->list + at, (s->count - at) * sizeof *s->list);
    s->list[at] = made;
    s->count++;
    return made;
}

static uint64_t *word_of(struct session *session, uint64_t sequence)
{
    return &session->seen[sequence % SESSION_WINDOW / 64];
}

/* Everything below `lowest` is settled: its bits are free for later sequences. */
static void settle(struct session *session, uint64_t lowest)
{
    if (lowest <= session->lowest) return;
    if (lowest - session->lowest >= SESSION_WINDOW) memset(session->seen, 0, sizeof session->seen);
    for (uint64_t i = session->lowest; i < lowest && lowest - session->lowest < SESSION_WINDOW; i++) {
        *word_of(session, i) &= ~(UINT64_C(1) << (i % 64));
    }
    session->lowest = lowest;
}

int sessions_admit(struct sessions *s, const struct entry *e, enum session_verdict *verdict)
{
    struct session *session = session_of(s, e->session);
    if (session == NULL) return ERR_NOMEM;
    if (e->epoch > session->epoch) {
        memset(session->seen, 0, sizeof session->seen);
        session->epoch = e->epoch;
        session->lowest = 0;
    }
    *verdict = SESSION_FENCED;
    if (e->epoch < session->epoch || e->behind > e->sequence) return OK;
    settle(session, e->sequence - e->behind);
    if (e->sequence >= session->lowest && e->sequence - session->lowest >= SESSION_WINDOW) return OK;
    uint64_t bit = UINT64_C(1) << (e->sequence % 64);
    bool seen = e->sequence < session->lowest || (*word_of(session, e->sequence) & bit) != 0;
    *verdict = seen ? SESSION_DUPLICATE : SESSION_NEW;
    if (!seen) *word_of(session, e->sequence) |= bit;
    return OK;
}
