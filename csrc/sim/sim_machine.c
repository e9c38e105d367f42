#include "sim/sim_machine.h"

#include "base/mem.h"
#include "sim/sim_queue.h"
#include "sim/sim_sessions.h"
#include "sim/sim_trace.h"
#include "store/store.h"

#define VALUE_BYTES 8u
#define VISIT_HEAD 16u /* session and sequence, before a visitor's value */
#define PENDING_BYTES (64u << 20)
#define HOST_TIMEOUTS 5u /* election timeouts for which a host may take nothing */
#define CLUSTER_NAME "sim"
#define STATE_BYTES 24u /* of a state in a snapshot */

/* ---- the state machine, and the ends of calls ---- */

static bool call_take(struct sim_member *m, uint64_t sequence, struct sim_call *out)
{
    for (size_t i = 0; i < m->n_calls; i++) {
        if (m->calls[i].sequence != sequence) continue;
        *out = m->calls[i];
        m->calls[i] = m->calls[--m->n_calls];
        return true;
    }
    sim_check_fail(m->cluster->check, m->id, "call %" PRIu64 " was answered that is not open", sequence);
    return false;
}

static void trace_answer(const struct sim_member *m, raft_index index, uint64_t value)
{
    sim_trace_add(m->cluster->config.trace, SIM_TRACE_COMMAND, sim_world_now(m->cluster->world), m->id, "value", index,
                  "%" PRIu64, value);
}

/* What a visitor is told, and may be told again. */
static void put_result(const struct sim_member *m, uint64_t value, struct buf *result)
{
    static const uint8_t filler[CLIENT_RESULT_MAX];
    uint8_t bytes[SIM_RESULT_BYTES];
    sim_result_put(bytes, value, sim_check_state(m->cluster->check, m->id));
    sim_buf_append(result, bytes, sizeof bytes);
    if (sim_result_is_large(value)) sim_buf_append(result, filler, sizeof filler);
}

static void answer(struct sim_member *m, const struct sim_call *call, raft_index index, uint64_t digest)
{
    if (sim_check_answer(m->cluster->check, m->id, call->value, index, digest)) m->cluster->acknowledged++;
    trace_answer(m, index, call->value);
    call->told(call->ctx, call->value, OK, index);
}

/* Whoever sees applied what came after a snapshot that took the log's place finds in the status that it did. */
static void check_status(const struct sim_member *m)
{
    raft_index first = host_status(m->host)->first;
    if (m->replaced == 0 || first > m->replaced) return;
    sim_check_fail(m->cluster->check, m->id, "a snapshot up to %" PRIu64 " took the place of the log, which begins at %"
                   PRIu64 " by the status", m->replaced, first);
}

static void apply(struct sim_member *m, const struct entry *command, uint64_t time_us, uint64_t sequence,
                  struct buf *result)
{
    struct sim_check *check = m->cluster->check;
    if (command->payload_size < VALUE_BYTES) {
        sim_check_fail(check, m->id, "index %" PRIu64 " is no command of ours", command->index);
        return;
    }
    uint64_t value = get_u64(command->payload);
    sim_check_apply(check, m->id, command->index, value, time_us);
    check_status(m);
    if (result != NULL) put_result(m, value, result);
    struct sim_call call;
    if (sequence == 0 || !call_take(m, sequence, &call)) return;
    if (call.value != value) {
        sim_check_fail(check, m->id, "call %" PRIu64 " of value %" PRIu64 " is answered with value %" PRIu64,
                       sequence, call.value, value);
    }
    if (call.told != NULL) {
        answer(m, &call, command->index, sim_check_state(check, m->id).digest);
        return;
    }
    sim_check_acknowledge(check, m->id, command->index, value);
    m->cluster->acknowledged++;
    trace_answer(m, command->index, value);
}

/* All that follow at once together, as raft's own machines in Lua do. */
static enum host_verdict on_apply(void *ctx, const struct entry *command, uint64_t time_us, uint64_t sequence,
                                  struct buf *result)
{
    struct sim_member *m = ctx;
    for (; command != NULL; command = host_next(m->host, &time_us, &sequence)) {
        apply(m, command, time_us, sequence, result);
    }
    return HOST_GO_ON;
}

static void on_repeat(void *ctx, uint64_t sequence, const uint8_t *result, size_t size)
{
    struct sim_member *m = ctx;
    struct sim_check *check = m->cluster->check;
    struct sim_call call;
    if (!call_take(m, sequence, &call)) return;
    bool large = sim_result_is_large(call.value);
    if (call.told == NULL || large != (result == NULL) || size != (large ? 0 : SIM_RESULT_BYTES) ||
        (!large && get_u64(result) != call.value)) {
        sim_check_fail(check, m->id, "exactly once: value %" PRIu64 " is answered with the result of another command",
                       call.value);
        return;
    }
    m->cluster->repeats++;
    raft_index index = large ? sim_check_index_of(check, call.value) : get_u64(result + 8);
    answer(m, &call, index, large ? sim_check_state_at(check, index).digest : get_u64(result + 16));
}

/* What may come of a question to the leader, besides what may come of a proposal. */
static bool is_ask_code(uint64_t number, int code)
{
    return number >= HOST_FIRST_ASK && (code == ERR_BUSY || (code <= ERR_CHANGING && code >= ERR_NO_VOTERS));
}

/* Codes that say for certain that no copy of a proposal entered any log. */
static bool is_refusal(int code)
{
    return code == ERR_NOT_LEADER || code == ERR_FULL || code == ERR_TOO_LARGE || code == ERR_CLOSED ||
           code == ERR_FAULT || code == ERR_REFUSED;
}

static void visit_done(struct sim_member *m, const struct sim_call *call, int code, raft_index index)
{
    struct sim_check *check = m->cluster->check;
    bool expired = code == ERR_EXPIRED && call->value != 0;
    bool opens = (code == OK || code == ERR_NO_RESULT) && call->value == 0;
    m->cluster->ended += expired;
    if (expired) {
        sim_check_expired(check, m->id, call->value, index);
    } else if (!opens && !is_refusal(code) && code != ERR_TIMEOUT && code != ERR_UNKNOWN) {
        sim_check_fail(check, m->id, "value %" PRIu64 " of a visitor ended with %s", call->value, err_name(code));
    }
    call->told(call->ctx, call->value, code, index);
}

static void on_done(void *ctx, uint64_t sequence, int code, raft_index index, raft_id id)
{
    (void)id;
    struct sim_member *m = ctx;
    struct sim_check *check = m->cluster->check;
    struct sim_call call;
    if (!call_take(m, sequence, &call)) return;
    m->cluster->changes += code == OK && call.changes;
    if (call.told != NULL) {
        visit_done(m, &call, code, index);
    } else if (code == OK && call.value == 0) {
        sim_check_barrier(check, m->id, call.began);
    } else if (code == ERR_NO_RESULT && call.value != 0) {
        sim_check_overtaken(check, m->id, call.value);
        m->cluster->acknowledged++;
        trace_answer(m, index, call.value);
    } else if (code == OK) {
        sim_check_fail(check, m->id, "value %" PRIu64 " has passed at index %" PRIu64 " without an apply", call.value,
                       index);
    } else if (!is_refusal(code) && !is_ask_code(sequence, code) && code != ERR_TIMEOUT && code != ERR_UNKNOWN) {
        sim_check_fail(check, m->id, "value %" PRIu64 " ended with %s", call.value, err_name(code));
    } else if (call.value != 0 && is_refusal(code)) {
        sim_check_refuse(check, m->id, call.value);
    }
}

static void on_started(void *ctx, int code)
{
    (void)ctx;
    (void)code;
}

static void on_changed(void *ctx, const struct server_status *status)
{
    (void)ctx;
    (void)status;
}

static void on_closed(void *ctx)
{
    struct sim_member *m = ctx;
    if (m->n_calls > 0) sim_check_fail(m->cluster->check, m->id, "%zu calls are open after closing", m->n_calls);
}

/* ---- snapshots ---- */

/* Bytes that belong to this state and to no other. */
static int save_bulk(struct snapshot_writer *w, struct sim_state state, uint32_t size)
{
    uint8_t bytes[4096];
    memset(bytes, (uint8_t)state.digest, sizeof bytes);
    int rv = snapshot_write_record_begin(w, SNAPSHOT_MACHINE, size);
    for (uint32_t at = 0; at < size && rv == OK; at += sizeof bytes) {
        rv = snapshot_write_record_bytes(w, bytes, MIN(sizeof bytes, size - at));
    }
    return rv;
}

static bool is_bulk(const struct sim_member *m, const uint8_t *record, size_t size)
{
    bool same = size > 0 && record[0] == (uint8_t)m->loaded.digest && memcmp(record, record + 1, size - 1) == 0;
    return m->loaded.digest != UINT64_MAX && size == m->cluster->config.state_bytes && same;
}

/* What the checker says that the state is stands for the state. */
static int on_save(void *ctx, struct snapshot_writer *w, struct err *e)
{
    struct sim_member *m = ctx;
    struct sim_state state = sim_check_state(m->cluster->check, m->id);
    uint8_t record[STATE_BYTES];
    put_u64(record, state.applied);
    put_u64(record + 8, state.time_us);
    put_u64(record + 16, state.digest);
    int rv = snapshot_write_record(w, SNAPSHOT_MACHINE, record, sizeof record);
    uint32_t bulk = m->cluster->config.state_bytes;
    if (rv == OK && bulk > 0) rv = save_bulk(w, state, bulk);
    if (rv != OK) *e = w->error;
    return rv;
}

static void load_record(struct sim_member *m, const uint8_t *record, uint32_t size)
{
    if (is_bulk(m, record, size)) return;
    if (size != STATE_BYTES || m->loaded.digest != UINT64_MAX) {
        sim_check_fail(m->cluster->check, m->id, "a snapshot holds what the machine has not saved");
        return;
    }
    m->loaded.applied = get_u64(record);
    m->loaded.time_us = get_u64(record + 8);
    m->loaded.digest = get_u64(record + 16);
}

static enum host_verdict on_load(void *ctx, enum host_load step, struct host_records *records)
{
    struct sim_member *m = ctx;
    const uint8_t *record;
    uint32_t size;
    if (step == HOST_LOAD_BEGIN) {
        m->loaded = (struct sim_state){.digest = UINT64_MAX};
        m->to_load = host_records_total(records);
    }
    for (; step == HOST_LOAD_RECORDS && host_record_next(records, &record, &size); m->to_load--)
        load_record(m, record, size);
    if (step != HOST_LOAD_END) return HOST_GO_ON;
    if (m->to_load != 0) sim_check_fail(m->cluster->check, m->id, "a snapshot has not as many records as it says");
    if (host_applied(m->host) > 0) m->replaced = m->loaded.applied; /* else it may be its own, and the log older */
    sim_check_restored(m->cluster->check, m->id, m->loaded);
    return HOST_GO_ON;
}

static void on_snapshot(void *ctx, const struct snapshot_order *order, uint64_t took_us)
{
    struct sim_member *m = ctx;
    (void)took_us;
    if (order->error.code != OK) return;
    m->cluster->snapshots++;
    const struct store *store = engine_store(m->engine);
    if (store == NULL || store_snapshot(store).index >= order->what.index) return;
    sim_check_fail(m->cluster->check, m->id,
                   "durability: it has taken a snapshot of index %" PRIu64 ", and its newest is of %" PRIu64,
                   order->what.index, store_snapshot(store).index);
}

/* ---- the process ---- */

/* It asks all others for a place, unless its directory knows of one. */
static void ask_others(const struct sim_member *m, struct engine_config *config)
{
    config->id = 0;
    for (int id = 1; id <= m->cluster->config.nodes; id++) {
        if (id != m->id) sim_member_address(id, config->join[config->n_join++]);
    }
}

static void machine_start(struct sim_member *m)
{
    static const struct host_machine machine = {
        .apply = on_apply, .repeat = on_repeat, .done = on_done, .started = on_started, .changed = on_changed,
        .closed = on_closed, .save = on_save, .load = on_load, .snapshot = on_snapshot};
    struct sim_cluster *c = m->cluster;
    struct engine_config config = {
        .dir = m->dir, .name = CLUSTER_NAME, .id = m->raft_id,
        .election_timeout_us = c->config.election_timeout_us, .heartbeat_us = c->config.heartbeat_us,
        .host_timeout_us = HOST_TIMEOUTS * c->config.election_timeout_us,
        .pending = c->config.pending, .command_bytes = c->config.command_bytes,
        .cache_bytes = c->config.cache_bytes, .segment_bytes = c->config.segment_bytes, .spares = 2,
        .keep = c->config.keep, .lease = c->config.lease, .rejoin = m->rejoins,
    };
    char address[32];
    sim_member_address(m->id, address);
    config.listen = address;
    if (m->raft_id != (raft_id)m->id && !m->rejoins) ask_others(m, &config);
    for (int id = 1; id <= (c->config.first > 0 ? c->config.first : c->config.nodes); id++) {
        char other[32];
        sim_member_address(id, other);
        int rv = members_add(&config.members, (raft_id)id, other, NULL);
        ASSERT(rv == OK);
    }
    struct host_config host = {.pending = config.pending, .pending_bytes = PENDING_BYTES,
                               .snapshot_bytes = c->config.snapshot_bytes,
                               .snapshot_entries = c->config.snapshot_entries, .snapshot_apart = true,
                               .clients = c->config.clients};
    m->replaced = 0;
    sim_member_open(m, &config, &host, &machine, m);
    sim_member_run(m);
}

static uint64_t machine_turn(struct sim_member *m)
{
    uint64_t entries = 1 + prng_below(sim_world_prng(m->cluster->world), m->cluster->config.host_entries);
    return !m->closed && host_step(m->host, (uint32_t)entries) ? 0 : NEVER_US;
}

static void machine_close(struct sim_member *m)
{
    host_close(m->host);
}

static void machine_end(struct sim_member *m)
{
    sim_member_free(m);
    m->n_calls = 0;
}


/* ---- calls ---- */

static void call_add(struct sim_member *m, struct sim_call call)
{
    void *calls = m->calls;
    bool grown = mem_grow(&calls, &m->calls_capacity, m->n_calls + 1, sizeof(call));
    ASSERT(grown);
    m->calls = calls;
    m->calls[m->n_calls++] = call;
}

int sim_member_propose(struct sim_member *m, uint32_t bytes)
{
    struct sim_cluster *c = m->cluster;
    if (!m->running) return ERR_CLOSED;
    struct sim_call call = {.value = ++c->next_value};
    struct block *block = entry_reserve(RAFT_ENTRY_COMMAND, MAX(bytes, VALUE_BYTES));
    ASSERT(block != NULL);
    sim_check_propose(c->check, call.value);
    memset(block->bytes + ENTRY_HEADER, (int)(call.value & 0xff), MAX(bytes, VALUE_BYTES));
    put_u64(block->bytes + ENTRY_HEADER, call.value);
    entry_seal(block);
    int rv = host_propose(m->host, block, &call.sequence);
    host_flush(m->host);
    if (rv == OK) call_add(m, call);
    else sim_check_refuse(c->check, m->id, call.value);
    return rv;
}

int sim_member_visit(struct sim_member *m, const struct sim_visit *visit)
{
    struct sim_call call = {.value = visit->value, .told = visit->told, .ctx = visit->ctx};
    uint32_t bytes = visit->session == 0 ? 0 : MAX(visit->bytes, VALUE_BYTES);
    if (!m->running) return ERR_CLOSED;
    struct block *block = entry_reserve(RAFT_ENTRY_CLIENT, VISIT_HEAD + bytes);
    ASSERT(block != NULL);
    uint8_t *payload = block->bytes + ENTRY_HEADER;
    memset(payload, (int)(visit->value & 0xff), VISIT_HEAD + bytes);
    put_u64(payload, visit->session);
    put_u64(payload + 8, visit->sequence);
    if (bytes > 0) put_u64(payload + VISIT_HEAD, visit->value);
    entry_seal(block);
    int rv = host_propose(m->host, block, &call.sequence);
    host_flush(m->host);
    if (rv == OK) call_add(m, call);
    return rv;
}

int sim_member_barrier(struct sim_member *m)
{
    if (!m->running) return ERR_CLOSED;
    struct sim_call call = {.began = sim_check_acknowledged(m->cluster->check)};
    int rv = host_barrier(m->host, &call.sequence);
    host_flush(m->host);
    if (rv == OK) call_add(m, call);
    return rv;
}

static int ask(struct sim_member *m, const struct ask_what *what, struct sim_call call)
{
    if (!m->running) return ERR_CLOSED;
    int rv = host_ask(m->host, what, &call.sequence);
    if (rv == OK) call_add(m, call);
    return rv;
}

int sim_member_read(struct sim_member *m, bool lease)
{
    struct ask_what what = {.kind = ASK_READ, .lease = lease};
    return ask(m, &what, (struct sim_call){.began = sim_check_acknowledged(m->cluster->check)});
}

int sim_member_transfer(struct sim_member *m, raft_id target)
{
    struct ask_what what = {.kind = ASK_TRANSFER, .target = target};
    return ask(m, &what, (struct sim_call){0});
}

/* ---- changes of members ---- */

static const struct member_status *find_member(const struct server_status *status, raft_id id)
{
    for (uint8_t i = 0; i < status->n_members; i++) {
        if (status->members[i].id == id) return &status->members[i];
    }
    return NULL;
}

/* What may be done with this node, as far as m knows; false: nothing. */
static bool draw_change(struct sim_member *m, const struct sim_member *other, struct ask_change *change)
{
    struct prng *prng = sim_world_prng(m->cluster->world);
    const struct member_status *status = find_member(host_status(m->host), other->raft_id);
    uint64_t what = prng_below(prng, 10);
    *change = (struct ask_change){.id = other->raft_id};
    if (other->raft_id == 0 || (status == NULL && other->joins)) return false;
    if (status == NULL) change->op = RAFT_ADD;
    else if (status->learner) change->op = what < 8 ? RAFT_PROMOTE : RAFT_REMOVE;
    else change->op = what < 5 ? RAFT_REMOVE : what < 8 ? RAFT_DEMOTE : RAFT_MOVE;
    if (change->op == RAFT_ADD || change->op == RAFT_MOVE) sim_member_address(other->id, change->address);
    return true;
}

/* Now and then several at once. */
static void machine_change(struct sim_member *m)
{
    struct sim_cluster *c = m->cluster;
    struct prng *prng = sim_world_prng(c->world);
    struct ask_what what = {.kind = ASK_CHANGE};
    uint64_t most = prng_chance(prng, 500) ? 1 : 1 + prng_below(prng, (uint64_t)c->config.nodes);
    uint64_t first = prng_below(prng, (uint64_t)c->config.nodes);
    if (!m->running) return;
    for (uint64_t i = 0; i < most; i++) {
        int id = 1 + (int)((first + i) % (uint64_t)c->config.nodes);
        if (draw_change(m, sim_cluster_member(c, id), &what.changes[what.n])) what.n++;
    }
    if (what.n > 0) ask(m, &what, (struct sim_call){.changes = true});
}

const struct sim_program sim_machine = {.start = machine_start, .turn = machine_turn, .close = machine_close,
                                        .end = machine_end, .change = machine_change};
