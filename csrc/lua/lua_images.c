/* core.images: a log on a disk in memory, and what is left of it by every crash and by every bit that rots, for specs.
 *
 * A spec writes the history: images:open(), :append(), :release(), ..., and :run(), which lets the lanes do one job
 * each. In each run every image that a crash may leave is recovered and checked against what was acknowledged; the
 * first one that is wrong raises, saying which it is. */
#include <stdio.h>

#include "base/mem.h"
#include "lua/lua_room.h"
#include "sim/sim_crash.h"
#include "sim/sim_ledger.h"

#define CLASS "raft.images"
#define DIR "data"
#define SECOND_ENTRIES 3u
#define OPENING_SECOND_EVERY 5u /* images of a start are few: more of them are gone on from */
#define CACHE_EVERY 8u          /* runs whose write is also found in a page cache, and lost afterwards */
#define JOBS_MAX 10000u /* no history waits longer */

struct images;

struct remembering {
    struct images *m;
    uint64_t node;
};

struct images {
    struct image_disk disk;
    struct ledger ledger;
    struct store_config config;
    struct store *store; /* NULL: there is no process */
    uint64_t seq, last;  /* appended last: seq, index */
    bool closing, closed;
    struct image_steps steps[IMAGE_ACTORS], again; /* again: of a recovery that dies */
    struct crash_loop loop;
    uint64_t runs;         /* of it */
    uint64_t second_every; /* each n-th recovery that is checked goes on, or dies while it recovers */
    struct ledger_state cached; /* what a recovery has found in a write that power loss then took away */
    struct {
        struct image_inode *inode;
        uint64_t from, to;
    } newest; /* the bytes that the last write to the log changed */
    struct {
        uint64_t recoveries, torn, created, seconds, doubles, cached;
    } counts;
    struct remembering remembering[LEDGER_PEERS];
    char wrong[4 * ERR_TEXT_MAX]; /* the first thing; empty: nothing is */
};

/* One recovery, of an image or of the disk itself. */
struct look {
    struct images *m;
    struct store *store;
    struct store_recovered recovered;
    struct block **entries;
    size_t n;
    uint64_t persisted;
    bool failed;
};

/* ---- what logs tell ---- */

static void on_persisted(void *ctx, uint64_t seq)
{
    struct images *m = ctx;
    ledger_acknowledge(&m->ledger, seq);
}

static void on_failed(void *ctx, const struct err *e)
{
    struct images *m = ctx;
    snprintf(m->wrong, sizeof m->wrong, "the log has failed: %s", e->text);
}

static void on_room(void *ctx, bool has_room)
{
    (void)ctx;
    (void)has_room;
}

static void on_closed(void *ctx)
{
    struct images *m = ctx;
    m->store = NULL;
    m->closed = true;
}

static const struct store_events events = {.persisted = on_persisted, .failed = on_failed, .room = on_room};

static void look_persisted(void *ctx, uint64_t seq)
{
    ((struct look *)ctx)->persisted = seq;
}

static void look_failed(void *ctx, const struct err *e)
{
    (void)e;
    ((struct look *)ctx)->failed = true;
}

static const struct store_events look_events = {.persisted = look_persisted, .failed = look_failed, .room = on_room};

/* ---- looking at what a crash has left ---- */

static bool wrong(struct images *m, const char *what)
{
    if (m->wrong[0] == 0) snprintf(m->wrong, sizeof m->wrong, "%s", what);
    return false;
}

static void read_done(struct store_read *read)
{
    *(bool *)read->ctx = true;
}

/* Reads entries first .. last of a store: as many as one read gives. The caller owns read->blocks. */
static int read_some(struct images *m, struct store *s, struct store_read *read, raft_index first, raft_index last)
{
    bool done = false;
    *read = (struct store_read){.first = first, .last = last, .max_bytes = SIZE_MAX, .done = read_done, .ctx = &done};
    int status = store_read_range(s, read);
    ASSERT(status == OK);
    image_run_last(&m->disk, IO_LANE_BULK);
    ASSERT(done);
    return read->status;
}

static void blocks_free(struct block **blocks, size_t n)
{
    for (size_t i = 0; i < n; i++) block_unref(blocks[i]);
    mem_free(blocks);
}

/* All entries of a store, into l->entries. */
static bool look_read(struct look *l, struct err *e)
{
    const struct store_recovered *r = &l->recovered;
    size_t n = (size_t)(r->last + 1 - r->first);
    l->entries = mem_zero(n, sizeof *l->entries);
    ASSERT(l->entries != NULL);
    while (l->n < n) {
        struct store_read read;
        if (read_some(l->m, l->store, &read, r->first + l->n, r->last) != OK) {
            *e = read.error;
            return false;
        }
        memcpy(l->entries + l->n, read.blocks, read.n * sizeof *read.blocks);
        l->n += read.n;
        mem_free(read.blocks);
    }
    return true;
}

/* Recovers what is on the disk and reads it. */
static bool look_open(struct look *l, struct images *m, struct err *e)
{
    *l = (struct look){.m = m};
    int status = store_open(&l->store, &m->disk.io, &m->config, &look_events, l, &l->recovered, e);
    return status == OK && look_read(l, e);
}

static void look_end(struct look *l)
{
    if (l->store != NULL) store_abandon(l->store);
    store_recovered_free(&l->recovered);
    blocks_free(l->entries, l->n);
    image_resume(&l->m->disk, (struct image_process){0});
    *l = (struct look){.m = l->m};
}

/* Runs jobs until an append is durable. */
static bool look_wait(struct look *l, uint64_t seq)
{
    struct image_disk *d = &l->m->disk;
    for (unsigned jobs = 0; l->persisted < seq && !l->failed && jobs < JOBS_MAX; jobs++) {
        enum io_lane lane = d->jobs[IO_LANE_DISK] != NULL ? IO_LANE_DISK : IO_LANE_BULK;
        if (!image_work(d, lane)) return false;
        image_done(d, lane);
    }
    return l->persisted >= seq;
}

/* Goes on from what was found: appends, dies, recovers once more, and must find exactly that. */
static bool second_life(struct images *m, struct look *l)
{
    static const uint8_t payload[700] = "second life";
    struct ledger_state *state = &m->ledger.found;
    struct block *blocks[SECOND_ENTRIES];
    struct err e;
    struct store_batch b = {.seq = 1, .vote_changed = true, .term = state->term + 1, .vote = 2, .blocks = blocks,
                            .first = state->last + 1, .n = SECOND_ENTRIES};
    for (size_t i = 0; i < b.n; i++) {
        blocks[i] = entry_new(RAFT_ENTRY_COMMAND, payload, i * 300);
        ASSERT(blocks[i] != NULL);
        entry_stamp(blocks[i], b.first + i, state->term + 1, 0);
    }
    int status = store_append(l->store, &b);
    ASSERT(status == OK);
    ledger_state_apply(state, &b);
    for (size_t i = 0; i < b.n; i++) block_unref(blocks[i]);
    if (!look_wait(l, b.seq)) return wrong(m, "the next append does not become durable");
    look_end(l);
    bool fine = look_open(l, m, &e) || wrong(m, e.text);
    if (fine && !ledger_equal(state, &l->recovered, l->entries)) fine = wrong(m, "a second life was forgotten");
    m->counts.seconds++;
    return fine;
}

/* Says at which image something was wrong. */
static bool show_each(struct images *m, struct crash_loop *loop)
{
    if (crash_each(loop)) return true;
    size_t used = strlen(m->wrong);
    snprintf(m->wrong + used, sizeof m->wrong - used, "; image %" PRIu64 ": after %zu and %zu steps, then %s (%" PRIu64
             "), names %" PRIx32, loop->images, loop->done[0], loop->done[1], loop->how, loop->detail, loop->names);
    return false;
}

static bool look_at_image(void *ctx);

/* Recovers, dies at some moment of that, and recovers what is left. */
static bool double_crash(struct images *m, struct image_mark before)
{
    struct crash_loop inner = {
        .disk = &m->disk,
        .steps = {&m->again},
        .actors = {IMAGE_OPENING},
        .visit = look_at_image,
        .ctx = m,
        .every = 7 + m->counts.doubles % 13,
    };
    m->counts.doubles++;
    image_undo(&m->disk, before);
    uint64_t second_every = m->second_every;
    m->second_every = 0;
    bool fine = show_each(m, &inner);
    m->second_every = second_every;
    return fine;
}

static bool look_at_image(void *ctx)
{
    struct images *m = ctx;
    struct look l;
    struct err e;
    struct image_mark before = image_mark(&m->disk);
    bool special = m->second_every > 0 && m->counts.recoveries % m->second_every == 0;
    bool twice = special && m->counts.recoveries / m->second_every % 2 == 0;
    m->counts.recoveries++;
    image_steps_clear(&m->again);
    m->disk.record = twice ? &m->again : NULL;
    bool fine = look_open(&l, m, &e) || wrong(m, e.text);
    m->disk.record = NULL;
    const char *what = fine ? ledger_check(&m->ledger, &l.recovered, l.entries, l.store) : NULL;
    if (what != NULL) fine = wrong(m, what);
    if (l.recovered.torn_bytes > 0) m->counts.torn++;
    if (l.recovered.created) m->counts.created++;
    if (fine && special && !twice) fine = second_life(m, &l);
    look_end(&l);
    return fine && twice ? double_crash(m, before) : fine;
}

/* After a recovery that has found m->cached, of which power loss has left this image and what the recovery has done:
 * was that enough? */
static bool look_after_loss(void *ctx)
{
    struct images *m = ctx;
    struct look l;
    struct err e;
    for (size_t i = 0; i < m->again.n; i++) image_redo(&m->disk, &m->again, &m->again.list[i], IMAGE_OPENING);
    bool fine = look_open(&l, m, &e) || wrong(m, e.text);
    if (fine && !ledger_equal(&m->cached, &l.recovered, l.entries)) {
        fine = wrong(m, "what a recovery had found was never made durable, and is lost");
    }
    look_end(&l);
    m->counts.cached++;
    return fine;
}

/* The process dies while this write of the disk lane is in flight, and the next one finds all of it, in a page cache.
 * What that one tells is a promise, though power loss may still take any part of the write away. */
static bool lose_cache(struct images *m, const struct image_steps *steps)
{
    struct look l;
    struct err e;
    struct crash_loop inner = {.disk = &m->disk, .steps = {steps}, .visit = look_after_loss, .ctx = m,
                               .every = m->loop.every};
    if (steps->n != 1 || steps->list[0].kind != IMAGE_WRITE || m->disk.directory.n_changes > 0) return true;
    struct image_mark before = image_mark(&m->disk);
    image_redo(&m->disk, steps, &steps->list[0], IMAGE_DISK);
    image_steps_clear(&m->again);
    m->disk.record = &m->again;
    bool fine = look_open(&l, m, &e) || wrong(m, e.text);
    m->disk.record = NULL;
    const char *what = fine ? ledger_check(&m->ledger, &l.recovered, l.entries, l.store) : NULL;
    if (what != NULL) fine = wrong(m, what);
    if (fine) ledger_state_copy(&m->cached, &m->ledger.found);
    look_end(&l);
    image_undo(&m->disk, before);
    return fine && show_each(m, &inner);
}

/* ---- the history: one process after the other ---- */

static struct images *to_images(lua_State *L)
{
    return luaL_checkudata(L, 1, CLASS);
}

static struct images *to_open(lua_State *L)
{
    struct images *m = to_images(L);
    luaL_argcheck(L, m->store != NULL && !m->closing, 1, "no log is open");
    return m;
}

static void raise_wrong(lua_State *L, const struct images *m)
{
    if (m->wrong[0] != 0) luaL_error(L, "%s", m->wrong);
}

/* The bytes of the log that the disk's steps, not done yet, are going to change. */
static void note_newest(struct images *m)
{
    const struct image_steps *steps = &m->steps[IMAGE_DISK];
    const struct image_names *names = &m->disk.directory.now;
    for (size_t i = 0; i < steps->n; i++) {
        const struct image_step *step = &steps->list[i];
        bool segment = false;
        for (uint32_t j = 0; j < names->count; j++) {
            if (names->list[j].inode == step->inode) segment = strstr(names->list[j].text, ".seg") != NULL;
        }
        if (step->kind != IMAGE_WRITE || !segment) continue;
        const uint8_t *old = step->inode->data + step->at, *new = steps->bytes.data + step->bytes;
        uint64_t from = step->at == 0 ? IO_BLOCK : 0, to = step->size; /* the header of a new segment is no batch */
        while (from < to && old[from] == new[from]) from++;
        while (to > from && old[to - 1] == new[to - 1]) to--;
        m->newest.inode = step->inode;
        m->newest.from = step->at + from;
        m->newest.to = step->at + to;
    }
}

/* These actors' steps have been done: takes them back, shows what crashes within them leave, does them again. */
static void show_crashes(struct images *m, struct image_mark before, enum image_actor first, enum image_actor second)
{
    struct crash_loop *loop = &m->loop;
    struct image_process process = image_suspend(&m->disk);
    image_undo(&m->disk, before);
    loop->actors[0] = first;
    loop->actors[1] = second;
    for (size_t i = 0; i < COUNT_OF(loop->steps); i++) loop->steps[i] = &m->steps[loop->actors[i]];
    uint64_t second_every = m->second_every;
    if (first == IMAGE_OPENING) m->second_every = MIN(second_every, OPENING_SECOND_EVERY);
    else note_newest(m);
    bool cached = first == IMAGE_DISK && second_every > 0 && ++m->runs % CACHE_EVERY == 0;
    if (loop->every > 0 && show_each(m, loop) && cached) lose_cache(m, &m->steps[IMAGE_DISK]);
    m->second_every = second_every;
    image_resume(&m->disk, process);
    for (size_t i = 0; i < COUNT_OF(loop->steps); i++) {
        const struct image_steps *steps = loop->steps[i];
        for (size_t at = 0; at < steps->n; at++) image_redo(&m->disk, steps, &steps->list[at], loop->actors[i]);
    }
    image_commit(&m->disk);
}

/* Lets the lanes do the first of their jobs, and writes down what they do. */
static bool work(struct images *m, bool ran[IO_LANES])
{
    bool any = false;
    for (int lane = 0; lane < IO_LANES; lane++) {
        image_steps_clear(&m->steps[lane]);
        m->disk.record = &m->steps[lane];
        ran[lane] = ran[lane] && image_work(&m->disk, (enum io_lane)lane);
        any = any || ran[lane];
    }
    m->disk.record = NULL;
    return any;
}

/* images:run(disk, bulk): each lane asked for does its next job. false: there was none. */
static int images_run(lua_State *L)
{
    struct images *m = to_images(L);
    bool ran[IO_LANES] = {[IO_LANE_DISK] = lua_toboolean(L, 2), [IO_LANE_BULK] = lua_toboolean(L, 3)};
    struct image_mark before = image_mark(&m->disk);
    bool any = work(m, ran);
    show_crashes(m, before, IMAGE_DISK, IMAGE_BULK);
    raise_wrong(L, m);
    int first = (int)prng_below(&m->disk.prng, IO_LANES);
    for (int i = 0; i < IO_LANES; i++) {
        int lane = (first + i) % IO_LANES;
        if (ran[lane]) image_done(&m->disk, (enum io_lane)lane);
    }
    raise_wrong(L, m);
    lua_pushboolean(L, any);
    return 1;
}

/* images:open(): true; nil, message, code. */
static int images_open(lua_State *L)
{
    struct images *m = to_images(L);
    struct look l = {.m = m};
    struct err e;
    luaL_argcheck(L, m->store == NULL, 1, "it is open");
    struct image_mark before = image_mark(&m->disk);
    image_steps_clear(&m->steps[IMAGE_OPENING]);
    image_steps_clear(&m->steps[IMAGE_BULK]);
    m->disk.record = &m->steps[IMAGE_OPENING];
    int status = store_open(&m->store, &m->disk.io, &m->config, &events, m, &l.recovered, &e);
    m->disk.record = NULL;
    if (status != OK) return lua_room_fail(L, &e);
    m->seq = 0;
    m->last = l.recovered.last;
    m->closing = m->closed = false;
    show_crashes(m, before, IMAGE_OPENING, IMAGE_BULK);
    l.store = m->store;
    const char *what = look_read(&l, &e) ? ledger_check(&m->ledger, &l.recovered, l.entries, l.store) : e.text;
    if (what != NULL) wrong(m, what);
    ledger_adopt(&m->ledger, &l.recovered);
    blocks_free(l.entries, l.n);
    store_recovered_free(&l.recovered);
    raise_wrong(L, m);
    lua_pushboolean(L, true);
    return 1;
}

/* images:crash(): the process dies, and the disk is as one of the images, drawn by the seed. */
static int images_crash(lua_State *L)
{
    struct images *m = to_images(L);
    luaL_argcheck(L, m->store != NULL, 1, "no log is open");
    bool ran[IO_LANES] = {true, true};
    struct crash_loop loop = {
        .disk = &m->disk,
        .steps = {&m->steps[IMAGE_DISK], &m->steps[IMAGE_BULK]},
        .actors = {IMAGE_DISK, IMAGE_BULK},
        .every = UINT64_MAX,
    };
    struct image_mark before = image_mark(&m->disk);
    work(m, ran);
    image_undo(&m->disk, before);
    store_abandon(m->store);
    m->store = NULL;
    image_resume(&m->disk, (struct image_process){0});
    crash_each(&loop);
    loop.stop_at = 1 + prng_below(&m->disk.prng, loop.images);
    loop.images = 0;
    crash_each(&loop);
    image_commit(&m->disk);
    return 0;
}

static void set_integer(lua_State *L, const char *name, uint64_t value)
{
    lua_pushinteger(L, (lua_Integer)value);
    lua_setfield(L, -2, name);
}

static lua_Integer get_integer(lua_State *L, int table, const char *name, lua_Integer otherwise)
{
    lua_getfield(L, table, name);
    lua_Integer value = luaL_optinteger(L, -1, otherwise);
    lua_pop(L, 1);
    return value;
}

/* images:append(payloads, { term, vote, truncate, entry_term }) */
static int images_append(lua_State *L)
{
    struct images *m = to_open(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_checktype(L, 3, LUA_TTABLE);
    struct store_batch b = {
        .seq = m->seq + 1,
        .term = (raft_term)get_integer(L, 3, "term", 0),
        .vote = (raft_id)get_integer(L, 3, "vote", 0),
        .truncate_from = (raft_index)get_integer(L, 3, "truncate", 0),
        .n = (size_t)lua_rawlen(L, 2),
    };
    b.vote_changed = b.term != 0;
    b.first = b.truncate_from != 0 ? b.truncate_from : m->last + 1;
    raft_term term = (raft_term)get_integer(L, 3, "entry_term", 1);
    struct block **blocks = lua_newuserdatauv(L, (b.n + 1) * sizeof *blocks, 0);
    b.blocks = blocks;
    for (size_t i = 0; i < b.n; i++) {
        size_t size;
        lua_rawgeti(L, 2, (lua_Integer)i + 1);
        const char *payload = lua_tolstring(L, -1, &size);
        blocks[i] = entry_new(RAFT_ENTRY_COMMAND, payload, payload != NULL ? size : 0);
        ASSERT(blocks[i] != NULL);
        entry_stamp(blocks[i], b.first + i, term, 0);
        lua_pop(L, 1);
    }
    int status = store_append(m->store, &b);
    ASSERT(status == OK);
    ledger_append(&m->ledger, &b);
    for (size_t i = 0; i < b.n; i++) block_unref(blocks[i]);
    m->seq = b.seq;
    m->last = b.first + b.n - 1;
    return 0;
}

static int images_release(lua_State *L)
{
    struct images *m = to_open(L);
    raft_index index = (raft_index)luaL_checkinteger(L, 2);
    m->ledger.released = MAX(m->ledger.released, index);
    store_release(m->store, index);
    return 0;
}

static void on_remembered(void *ctx, int status)
{
    struct remembering *r = ctx;
    ASSERT(status == OK);
    r->m->ledger.peers[r->node - 1].known = r->m->ledger.peers[r->node - 1].wanted;
}

/* images:remember(node, incarnation): after what was asked before for this node is done. */
static int images_remember(lua_State *L)
{
    struct images *m = to_open(L);
    lua_Integer node = luaL_checkinteger(L, 2), incarnation = luaL_checkinteger(L, 3);
    luaL_argcheck(L, node >= 1 && node <= (lua_Integer)LEDGER_PEERS && incarnation != 0, 2, "no such peer");
    struct remembering *r = &m->remembering[node - 1];
    *r = (struct remembering){.m = m, .node = (uint64_t)node};
    m->ledger.peers[node - 1].wanted = (uint64_t)incarnation;
    int status = store_remember_peer(m->store, r->node, (uint64_t)incarnation, 1, on_remembered, r);
    ASSERT(status == OK);
    return 0;
}

/* images:tick(seconds): so much time passes. */
static int images_tick(lua_State *L)
{
    struct images *m = to_open(L);
    m->disk.now_us += (uint64_t)(luaL_checknumber(L, 2) * 1e6);
    store_tick(m->store);
    return 0;
}

/* images:close(): begins; images:run() goes on. */
static int images_close(lua_State *L)
{
    struct images *m = to_open(L);
    m->closing = true;
    store_close(m->store, on_closed, m);
    return 0;
}

/* ---- rot ---- */

/* A refusal must say what is damaged where. */
static bool says_where(const struct err *e, const char *name)
{
    return e->code == ERR_CORRUPT && strstr(e->text, name) != NULL &&
           (strstr(e->text, "at offset ") != NULL || strstr(e->text, "bytes ") != NULL);
}

struct rot_counts {
    uint64_t refused, same, cut;
};

static bool rot_wrong(struct images *m, const char *name, uint64_t bit, const char *what)
{
    if (m->wrong[0] == 0) {
        snprintf(m->wrong, sizeof m->wrong, "bit %" PRIu64 " of byte %" PRIu64 " of %s: %s", bit % 8, bit / 8, name,
                 what);
    }
    return false;
}

/* Recovers with one bit flipped: refuses, saying what; or finds what there was. Only damage to the batch that was
 * written last, when nothing was written after it, may be taken for the torn end of a write. */
static bool rot_one(struct images *m, const struct image_name *name, uint64_t bit, struct rot_counts *counts)
{
    struct look l;
    struct err e;
    const struct image_inode *youngest = m->disk.inodes;
    struct image_mark mark = image_mark(&m->disk);
    bool fine = true, in_newest = name->inode == m->newest.inode && bit / 8 >= m->newest.from && bit / 8 < m->newest.to;
    name->inode->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    if (!look_open(&l, m, &e)) {
        counts->refused++;
        fine = says_where(&e, name->text) || rot_wrong(m, name->text, bit, e.text);
    } else {
        const char *what = ledger_check(&m->ledger, &l.recovered, l.entries, l.store);
        bool cut = what != NULL && in_newest && ledger_equal(&m->ledger.before, &l.recovered, l.entries);
        if (what != NULL && !cut) fine = rot_wrong(m, name->text, bit, what);
        else if (cut) counts->cut++;
        else counts->same++;
    }
    look_end(&l);
    image_undo(&m->disk, mark);
    image_forget(&m->disk, youngest);
    name->inode->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    return fine;
}

/* Reads all entries with one bit flipped after the log was opened: an error that says what is damaged, or the same. */
static bool rot_read_one(struct images *m, const struct image_name *name, uint64_t bit, struct rot_counts *counts)
{
    struct store_status status;
    struct err e;
    store_status_get(m->store, &status);
    struct look l = {.m = m, .store = m->store, .recovered = {.first = status.first, .last = status.durable_last}};
    name->inode->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    bool read = look_read(&l, &e), fine = true;
    name->inode->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    l.recovered.term = m->ledger.base.term;
    l.recovered.vote = m->ledger.base.vote;
    if (read) {
        counts->same++;
        bool same = ledger_equal(&m->ledger.base, &l.recovered, l.entries);
        if (!same) fine = rot_wrong(m, name->text, bit, "other entries");
    } else {
        counts->refused++;
        fine = says_where(&e, name->text) || rot_wrong(m, name->text, bit, e.text);
    }
    blocks_free(l.entries, l.n);
    return fine;
}

/* images:rot(every, file): flips each every-th bit of the files whose names contain `file`, one at a time: opens a log
 * with it, or, when one is open, reads it. The counts of what came of it. */
static int images_rot(lua_State *L)
{
    struct images *m = to_images(L);
    uint64_t every = (uint64_t)luaL_optinteger(L, 2, 1), seen = 0;
    const char *file = luaL_optstring(L, 3, "");
    struct rot_counts counts = {0};
    struct image_names names = m->disk.directory.now;
    bool fine = true;
    for (uint32_t i = 0; i < names.count; i++) {
        const struct image_name *name = &names.list[i];
        uint64_t bits = strstr(name->text, file) != NULL ? name->inode->size * 8 : 0;
        for (uint64_t bit = 0; bit < bits && fine; bit++) {
            if (seen++ % every != 0) continue;
            fine = m->store == NULL ? rot_one(m, name, bit, &counts) : rot_read_one(m, name, bit, &counts);
        }
    }
    raise_wrong(L, m);
    lua_createtable(L, 0, 3);
    set_integer(L, "refused", counts.refused);
    set_integer(L, "same", counts.same);
    set_integer(L, "cut", counts.cut);
    return 1;
}

/* ---- looking in ---- */

static int images_status(lua_State *L)
{
    struct images *m = to_images(L);
    lua_newtable(L);
    set_integer(L, "last", m->last);
    set_integer(L, "released", m->ledger.released);
    set_integer(L, "waiting", m->ledger.n_parts);
    set_integer(L, "acknowledged", m->ledger.base.last);
    if (m->store != NULL) {
        struct store_status status;
        store_status_get(m->store, &status);
        set_integer(L, "first", status.first);
        set_integer(L, "durable_last", status.durable_last);
        set_integer(L, "segments", status.segments);
        set_integer(L, "spares", status.spares);
    }
    return 1;
}

static int images_counts(lua_State *L)
{
    struct images *m = to_images(L);
    lua_newtable(L);
    set_integer(L, "images", m->loop.images);
    set_integer(L, "recoveries", m->counts.recoveries);
    set_integer(L, "torn", m->counts.torn);
    set_integer(L, "created", m->counts.created);
    set_integer(L, "seconds", m->counts.seconds);
    set_integer(L, "doubles", m->counts.doubles);
    set_integer(L, "cached", m->counts.cached);
    return 1;
}

static int images_gc(lua_State *L)
{
    struct images *m = to_images(L);
    if (m->store != NULL) store_abandon(m->store);
    m->store = NULL;
    image_disk_free(&m->disk);
    ledger_free(&m->ledger);
    ledger_state_free(&m->cached);
    for (size_t i = 0; i < COUNT_OF(m->steps); i++) image_steps_free(&m->steps[i]);
    image_steps_free(&m->again);
    return 0;
}

/* core.images{ seed, segment_bytes, spares, every, second_every }: every: which images are looked at (1: all, 0: none);
 * second_every: which of them are gone on from. */
static int images_new(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    uint64_t seed = (uint64_t)get_integer(L, 1, "seed", 1);
    struct store_config config = {
        .dir = DIR,
        .segment_bytes = (uint64_t)get_integer(L, 1, "segment_bytes", STORE_SEGMENT_MIN),
        .spares = (uint32_t)get_integer(L, 1, "spares", 1),
        .seal_after_us = US_PER_S,
        .identity = {.cluster = "a cluster", .name = "images", .list = "1=a:1 2=b:1 3=c:1", .node = 1},
    };
    uint64_t every = (uint64_t)get_integer(L, 1, "every", 1);
    uint64_t second_every = (uint64_t)get_integer(L, 1, "second_every", 0);
    struct images *m = lua_newuserdatauv(L, sizeof *m, 0);
    *m = (struct images){.config = config, .second_every = second_every};
    image_disk_init(&m->disk, seed);
    m->loop = (struct crash_loop){.disk = &m->disk, .visit = look_at_image, .ctx = m, .every = every};
    luaL_setmetatable(L, CLASS);
    return 1;
}

void lua_images_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"__gc", images_gc},           {"open", images_open},     {"append", images_append}, {"run", images_run},
        {"release", images_release},   {"tick", images_tick},     {"close", images_close},   {"crash", images_crash},
        {"remember", images_remember}, {"status", images_status}, {"rot", images_rot},       {"counts", images_counts},
        {NULL, NULL},
    };
    luaL_newmetatable(L, CLASS);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    luaL_setfuncs(L, methods, 0);
    lua_pop(L, 1);
    lua_pushcfunction(L, images_new);
    lua_setfield(L, -2, "images");
}
