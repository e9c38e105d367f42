#include "server/sessions.h"

#include "base/mem.h"

void sessions_free(struct sessions *s)
{
    for (size_t i = 0; i < s->count; i++) mem_free(s->list[i]);
    mem_free(s->list);
    *s = (struct sessions){0};
}

/* Where the session of id is, or would be. */
static size_t place_of(const struct sessions *s, uint64_t id)
{
    size_t at = s->count;
    while (at > 0 && s->list[at - 1]->id >= id) at--;
    return at;
}

/* The session of id, made when it is not there; NULL: no memory. */
static struct session *session_of(struct sessions *s, uint64_t id)
{
    size_t at = place_of(s, id);
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

static size_t word_of(uint64_t sequence)
{
    return sequence % SESSION_WINDOW / 64;
}

static bool is_seen(const struct session *session, uint64_t sequence)
{
    return (session->seen[word_of(sequence)] & UINT64_C(1) << (sequence % 64)) != 0;
}

/* Everything below `lowest` is settled: its bits are free for later sequences. */
static void settle(struct session *session, uint64_t lowest)
{
    if (lowest <= session->lowest) return;
    if (lowest - session->lowest >= SESSION_WINDOW) memset(session->seen, 0, sizeof session->seen);
    for (uint64_t i = session->lowest; i < lowest && lowest - session->lowest < SESSION_WINDOW; i++) {
        session->seen[word_of(i)] &= ~(UINT64_C(1) << (i % 64));
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
    bool seen = e->sequence < session->lowest || is_seen(session, e->sequence);
    *verdict = seen ? SESSION_DUPLICATE : SESSION_NEW;
    if (!seen) session->seen[word_of(e->sequence)] |= UINT64_C(1) << (e->sequence % 64);
    return OK;
}

bool sessions_has(const struct sessions *s, uint64_t id, uint64_t epoch, uint64_t sequence)
{
    size_t at = place_of(s, id);
    if (at == s->count || s->list[at]->id != id || s->list[at]->epoch != epoch) return false;
    const struct session *session = s->list[at];
    if (sequence >= session->lowest && sequence - session->lowest >= SESSION_WINDOW) return false;
    return sequence < session->lowest || is_seen(session, sequence);
}

/* ---- in a snapshot ---- */

/* The first sequence from `from` on that was seen, at most `end`: words without any are passed at once. */
static uint64_t next_seen(const struct session *session, uint64_t from, uint64_t end)
{
    while (from < end && !is_seen(session, from)) from = session->seen[word_of(from)] == 0 ? (from | 63) + 1 : from + 1;
    return MIN(from, end);
}

static bool session_write(const struct session *session, struct buf *out)
{
    size_t start = out->size;
    uint8_t *head = buf_extend(out, 28);
    if (head == NULL) return false;
    put_u64(head, session->id);
    put_u64(head + 8, session->epoch);
    put_u64(head + 16, session->lowest);
    uint32_t n = 0;
    uint64_t end = session->lowest + SESSION_WINDOW;
    for (uint64_t i = session->lowest; (i = next_seen(session, i, end)) < end; i++) {
        uint8_t *at = buf_extend(out, 2);
        if (at == NULL) return false;
        put_u16(at, (uint16_t)(i - session->lowest));
        n++;
    }
    put_u32(out->data + start + 24, n);
    return true;
}

bool sessions_write(const struct sessions *s, struct buf *out)
{
    uint8_t *head = buf_extend(out, 4);
    if (head == NULL) return false;
    put_u32(head, (uint32_t)s->count);
    for (size_t i = 0; i < s->count; i++) {
        if (!session_write(s->list[i], out)) return false;
    }
    return true;
}

static int session_read(struct sessions *s, struct reader *from)
{
    uint64_t id = reader_u64(from), epoch = reader_u64(from), lowest = reader_u64(from);
    uint32_t n = reader_u32(from);
    bool ascends = s->count == 0 || s->list[s->count - 1]->id < id;
    if (from->bad || !ascends || n > SESSION_WINDOW) return ERR_CORRUPT;
    struct session *session = session_of(s, id);
    if (session == NULL) return ERR_NOMEM;
    session->epoch = epoch;
    session->lowest = lowest;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t sequence = lowest + reader_u16(from);
        session->seen[word_of(sequence)] |= UINT64_C(1) << (sequence % 64);
    }
    return from->bad ? ERR_CORRUPT : OK;
}

int sessions_read(struct sessions *s, struct reader *from)
{
    ASSERT(s->count == 0);
    uint32_t count = reader_u32(from);
    int rv = from->bad ? ERR_CORRUPT : OK;
    for (uint32_t i = 0; i < count && rv == OK; i++) rv = session_read(s, from);
    if (rv != OK) sessions_free(s);
    return rv;
}
