#include "sim/sim_trace.h"

#include "base/mem.h"
#include "sim/sim_faults.h"
#include "sim/sim_queue.h"
#include "wire/frame.h"
#include "wire/message.h"

#include <stdarg.h>
#include <stdio.h>

#define RARE_MAX 20000u     /* records of lives, roles, faults, notes */
#define FREQUENT_MAX 80000u /* and of the rest */
#define DETAILS_MAX 96u

enum fate { FATE_NONE = 0, FATE_ARRIVED, FATE_LOST };

struct record {
    uint64_t from_us, until_us; /* until: 0 = still on */
    uint64_t term, index;
    const char *name;
    uint8_t kind, node, peer, fate;
    char details[DETAILS_MAX];
};

/* The newest `limit` records: number n at n % limit. */
struct log {
    struct record *records;
    uint64_t count, limit;
};

struct sim_trace {
    bool over;
    struct log rare, frequent;
    struct frame_reader reader;
    struct seen {
        enum raft_role role;
        raft_term term;
        raft_index commit, stable;
    } seen[SIM_NODES_MAX + 1];
};

struct sim_trace *sim_trace_new(void)
{
    struct sim_trace *t = sim_alloc(sizeof(*t));
    t->rare = (struct log){.records = sim_alloc(RARE_MAX * sizeof(struct record)), .limit = RARE_MAX};
    t->frequent = (struct log){.records = sim_alloc(FREQUENT_MAX * sizeof(struct record)), .limit = FREQUENT_MAX};
    frame_reader_init(&t->reader);
    t->reader.body_max = FRAME_BODY_MAX;
    return t;
}

void sim_trace_free(struct sim_trace *t)
{
    if (t == NULL) return;
    frame_reader_free(&t->reader);
    mem_free(t->rare.records);
    mem_free(t->frequent.records);
    mem_free(t);
}

void sim_trace_stop(struct sim_trace *t)
{
    if (t != NULL) t->over = true;
}

static bool is_off(const struct sim_trace *t)
{
    return t == NULL || t->over;
}

/* ---- records ---- */

static struct record *record_at(const struct log *log, uint64_t number)
{
    return &log->records[number % log->limit];
}

static uint64_t oldest(const struct log *log)
{
    return log->count > log->limit ? log->count - log->limit : 0;
}

static struct record *record_add(struct sim_trace *t, enum sim_trace_kind kind, uint64_t now_us, int node,
                                 const char *name)
{
    struct log *log = kind < SIM_TRACE_COMMIT ? &t->rare : &t->frequent;
    struct record *r = record_at(log, log->count++);
    *r = (struct record){.from_us = now_us, .kind = (uint8_t)kind, .node = (uint8_t)node, .name = name};
    return r;
}

void sim_trace_add(struct sim_trace *t, enum sim_trace_kind kind, uint64_t now_us, int node, const char *name,
                   uint64_t index, const char *format, ...)
{
    if (is_off(t)) return;
    struct record *r = record_add(t, kind, now_us, node, name);
    r->index = index;
    r->until_us = now_us;
    if (kind == SIM_TRACE_LIFE) t->seen[node] = (struct seen){0}; /* a new life tells all of it again */
    if (format == NULL) return;
    va_list args;
    va_start(args, format);
    vsnprintf(r->details, sizeof(r->details), format, args);
    va_end(args);
    for (char *c = r->details; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ') *c = ' '; /* tabs and line ends divide records */
    }
}

void sim_trace_fault(struct sim_trace *t, uint64_t now_us, int node, int peer, const char *name, bool on)
{
    if (is_off(t)) return;
    struct record *open = NULL;
    for (uint64_t i = oldest(&t->rare); i < t->rare.count; i++) {
        struct record *r = record_at(&t->rare, i);
        bool same = r->kind == SIM_TRACE_FAULT && r->node == node && r->peer == peer && strcmp(r->name, name) == 0;
        if (same && r->until_us == 0) open = r;
    }
    if (!on && open != NULL) open->until_us = now_us;
    if (on && open == NULL) record_add(t, SIM_TRACE_FAULT, now_us, node, name)->peer = (uint8_t)peer;
}

void sim_trace_core(struct sim_trace *t, uint64_t now_us, int node, enum raft_role role, raft_term term,
                    raft_index commit, raft_index stable)
{
    static const char *const names[] = {"", "follower", "candidate", "leader"};
    if (is_off(t)) return;
    struct seen *seen = &t->seen[node], before = *seen;
    *seen = (struct seen){role, term, commit, stable};
    if (role != before.role || term != before.term) {
        struct record *r = record_add(t, SIM_TRACE_ROLE, now_us, node, role < COUNT_OF(names) ? names[role] : "?");
        r->term = term;
        r->until_us = now_us;
    }
    if (commit != before.commit) sim_trace_add(t, SIM_TRACE_COMMIT, now_us, node, "commit", commit, NULL);
    if (stable != before.stable) sim_trace_add(t, SIM_TRACE_DURABLE, now_us, node, "durable", stable, NULL);
}

/* ---- messages ---- */

static const char *message_name(const struct raft_message *m)
{
    switch (m->type) {
    case RAFT_APPEND: return m->n_entries > 0 ? "append" : "append (probe)";
    case RAFT_APPEND_REPLY: return m->reject ? "append reply (rejected)" : "append reply";
    case RAFT_HEARTBEAT: return "heartbeat";
    case RAFT_HEARTBEAT_REPLY: return "heartbeat reply";
    case RAFT_VOTE: return m->pre ? "pre-vote" : "vote";
    case RAFT_VOTE_REPLY:
        if (m->pre) return m->reject ? "pre-vote reply (no)" : "pre-vote reply (yes)";
        return m->reject ? "vote reply (no)" : "vote reply (yes)";
    default: return "message";
    }
}

static void message_details(struct record *r, const struct raft_message *m)
{
    char *text = r->details;
    if (m->type == RAFT_APPEND && m->n_entries == 0) {
        snprintf(text, DETAILS_MAX, "after %" PRIu64 " (term %" PRIu64 "), commit %" PRIu64, m->index, m->log_term,
                 m->commit);
    } else if (m->type == RAFT_APPEND) {
        snprintf(text, DETAILS_MAX, "entries %" PRIu64 "..%" PRIu64 " after term %" PRIu64 ", commit %" PRIu64,
                 m->index + 1, m->index + m->n_entries, m->log_term, m->commit);
    } else if (m->type == RAFT_APPEND_REPLY && m->reject) {
        snprintf(text, DETAILS_MAX, "not %" PRIu64 ", perhaps %" PRIu64 " (term %" PRIu64 ")", m->index, m->hint,
                 m->log_term);
    } else if (m->type == RAFT_APPEND_REPLY || m->type == RAFT_HEARTBEAT_REPLY) {
        snprintf(text, DETAILS_MAX, "up to %" PRIu64, m->index);
    } else if (m->type == RAFT_HEARTBEAT) {
        snprintf(text, DETAILS_MAX, "commit %" PRIu64, m->commit);
    } else if (m->type == RAFT_VOTE) {
        snprintf(text, DETAILS_MAX, "last %" PRIu64 " (term %" PRIu64 ")", m->index, m->log_term);
    }
}

static void frame_describe(struct record *r, const struct frame *frame)
{
    static const char *const names[FRAME_TYPES] = {"", "hello", "refusal", "ping", "pong", "message", "forward",
                                                   "forward reply"};
    struct raft_message message;
    struct err e;
    r->name = names[frame->type] != NULL ? names[frame->type] : "frame";
    if (frame->type != FRAME_MESSAGE || message_read(frame, &message, &e) != OK) return;
    r->name = message_name(&message);
    r->term = message.term;
    r->index = message.index;
    message_details(r, &message);
    message_free(&message);
}

struct sim_sent sim_trace_sent(struct sim_trace *t, uint64_t now_us, int from, int to, const struct buf *bytes,
                               const char *how)
{
    if (is_off(t)) return (struct sim_sent){0};
    struct sim_sent sent = {.first = t->frequent.count};
    const uint8_t *data = bytes->data;
    size_t size = bytes->size;
    struct frame frame;
    struct err e;
    while (frame_reader_next(&t->reader, &data, &size, &frame, &e) == 1) {
        struct record *r = record_add(t, SIM_TRACE_MESSAGE, now_us, from, "frame");
        r->peer = (uint8_t)to;
        frame_describe(r, &frame);
        size_t used = strlen(r->details);
        if (how != NULL) {
            snprintf(r->details + used, DETAILS_MAX - used, "%s%s", used > 0 ? "; " : "", how);
        }
        sent.count++;
    }
    return sent;
}

/* The first end of a message counts: what comes later is a copy of it. */
static void sent_end(struct sim_trace *t, uint64_t now_us, struct sim_sent sent, enum fate fate)
{
    if (is_off(t)) return;
    for (uint64_t i = MAX(sent.first, oldest(&t->frequent)); i < sent.first + sent.count; i++) {
        struct record *r = record_at(&t->frequent, i);
        r->until_us = now_us;
        r->fate = (uint8_t)fate;
    }
}

void sim_trace_arrived(struct sim_trace *t, uint64_t now_us, struct sim_sent sent)
{
    sent_end(t, now_us, sent, FATE_ARRIVED);
}

void sim_trace_lost(struct sim_trace *t, uint64_t now_us, struct sim_sent sent)
{
    sent_end(t, now_us, sent, FATE_LOST);
}

/* ---- text ---- */

static void log_text(const struct log *log, struct buf *out)
{
    static const char *const kinds[] = {"", "life", "role", "fault", "note", "commit", "durable", "command", "message"};
    static const char *const fates[] = {"-", "arrived", "lost"};
    char line[DETAILS_MAX + 256];
    for (uint64_t i = oldest(log); i < log->count; i++) {
        const struct record *r = record_at(log, i);
        int size = snprintf(line, sizeof(line), "%s\t%" PRIu64 "\t%" PRIu64 "\t%d\t%d\t%s\t%" PRIu64 "\t%" PRIu64
                            "\t%s\t%s\n", kinds[r->kind], r->from_us, r->until_us, r->node, r->peer, fates[r->fate],
                            r->term, r->index, r->name, r->details);
        ASSERT(size > 0 && (size_t)size < sizeof(line));
        sim_buf_append(out, line, (size_t)size);
    }
}

void sim_trace_text(const struct sim_trace *t, struct buf *out)
{
    if (t == NULL) return;
    log_text(&t->rare, out);
    log_text(&t->frequent, out);
}
