/* Every interleaving of two threads on the real queues, csrc/base/ring.c and mailbox.c, csrc/server/channel.c, and on
 * csrc/uv/uv_turn.c.
 *
 *   interleave [WORD]     runs the scenarios whose names have WORD in them, up to the first that finds something
 *                         wrong; prints one line each: name, interleavings, "ok" or what is wrong
 *
 * The files are compiled into this one with atomics of our own: each access is a point at which the other thread
 * may go on. The threads are coroutines; a schedule is the list of who goes next; all schedules are tried, in order. As
 * on real machines, a store that is not sequentially consistent waits in its thread's store buffer, and leaves it at
 * any later moment that the schedule picks: what is only right without such buffers is found to be wrong.
 *
 * RING, MAILBOX, CHANNEL and TURN name other files than the real ones, so that a spec can plant a bug. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#include <uv.h>

#undef MIN /* of <sys/param.h> */
#undef MAX
#include "base/base.h"

/* ---- atomics ---- */

static uint64_t model_load(const void *at, size_t size, int order);
static void model_store(void *at, size_t size, uint64_t value, int order);
static uint64_t model_exchange(void *at, size_t size, uint64_t value);
static bool model_replace(void *at, size_t size, void *expected, uint64_t value);
static void model_wait(uv_sem_t *semaphore);
static void model_post(uv_sem_t *semaphore);

#define _Atomic
#undef atomic_init
#undef atomic_load
#undef atomic_load_explicit
#undef atomic_store
#undef atomic_store_explicit
#undef atomic_exchange
#undef atomic_compare_exchange_strong
#undef atomic_compare_exchange_weak
#define atomic_init(at, value) ((void)(*(at) = (value)))
#define atomic_load_explicit(at, order) ((__typeof__(*(at)))model_load(at, sizeof *(at), order))
#define atomic_load(at) atomic_load_explicit(at, memory_order_seq_cst)
#define atomic_store_explicit(at, value, order) model_store(at, sizeof *(at), (uint64_t)(value), order)
#define atomic_store(at, value) atomic_store_explicit(at, value, memory_order_seq_cst)
#define atomic_exchange(at, value) ((__typeof__(*(at)))model_exchange(at, sizeof *(at), (uint64_t)(value)))
#define atomic_compare_exchange_strong(at, expected, value) model_replace(at, sizeof *(at), expected, (uint64_t)(value))
#define atomic_compare_exchange_weak atomic_compare_exchange_strong
#define uv_sem_init(semaphore, value) ((void)(semaphore), (value))
#define uv_sem_destroy(semaphore) ((void)(semaphore))
#define uv_sem_wait model_wait
#define uv_sem_post model_post
#define SPINS 1

#ifndef RING
#define RING "base/ring.c"
#endif
#ifndef MAILBOX
#define MAILBOX "base/mailbox.c"
#endif
#ifndef CHANNEL
#define CHANNEL "server/channel.c"
#endif
#ifndef TURN
#define TURN "uv/uv_turn.c"
#endif
#include RING
#include MAILBOX
#include CHANNEL
#include TURN
#include "server/host.h"

/* ---- threads ---- */

#define THREADS 2
#define BUFFER_MAX 16
#define STACK_BYTES (64u << 10)
#define DEPTH_MAX 512
#define OWNED_MAX 32

struct buffered {
    void *at;
    size_t size;
    uint64_t value;
};

struct thread {
    void (*run)(void);
    bool begun, finished;
    bool *waits_for; /* a flag: the thread sleeps until it is set */
    struct buffered buffer[BUFFER_MAX];
    size_t n_buffered;
    ucontext_t context;
    jmp_buf here;
    char *stack;
};

static struct thread threads[THREADS];
static int running = -1; /* -1: none, the scenario is set up or looked at */
static jmp_buf scheduler;
static char problem[200];

static void fail(const char *format, ...) PRINTF_LIKE(1, 2);
static void fail(const char *format, ...)
{
    va_list args;
    if (problem[0] != 0) return;
    va_start(args, format);
    vsnprintf(problem, sizeof problem, format, args);
    va_end(args);
}

/* The schedule says who goes on. */
static void yield(void)
{
    if (running >= 0 && _setjmp(threads[running].here) == 0) _longjmp(scheduler, 1);
}

/* Sleeps until the flag is set, and takes it. */
static void wait_for(bool *flag)
{
    threads[running].waits_for = flag;
    yield();
    threads[running].waits_for = NULL;
    *flag = false;
}

/* ---- memory ---- */

static struct {
    const void *at;
    int thread;
} owned[OWNED_MAX];
static size_t n_owned;

/* A relaxed load is fine for what only the loading thread writes; then it is no point at which to change threads. */
static void check_owner(const void *at, bool writes)
{
    size_t i = 0;
    if (running < 0) return;
    while (i < n_owned && owned[i].at != at) i++;
    if (i == n_owned && n_owned < OWNED_MAX) owned[n_owned++].thread = -1;
    owned[i].at = at;
    if (writes && owned[i].thread == -1) owned[i].thread = running;
    else if (writes && owned[i].thread != running) owned[i].thread = THREADS;
    if (!writes && owned[i].thread != -1 && owned[i].thread != running) fail("a relaxed load of what another writes");
}

static void put(void *at, size_t size, uint64_t value)
{
    memcpy(at, &value, size); /* little-endian, as everything here */
}

static void flush_one(struct thread *t)
{
    struct buffered oldest = t->buffer[0];
    t->n_buffered--;
    memmove(t->buffer, t->buffer + 1, t->n_buffered * sizeof oldest);
    put(oldest.at, oldest.size, oldest.value);
}

static void flush_all(struct thread *t)
{
    while (t->n_buffered > 0) flush_one(t);
}

static uint64_t look(const void *at, size_t size)
{
    uint64_t value = 0;
    const struct thread *t = running >= 0 ? &threads[running] : NULL;
    for (size_t i = t != NULL ? t->n_buffered : 0; i > 0; i--) {
        if (t->buffer[i - 1].at == at) return t->buffer[i - 1].value;
    }
    memcpy(&value, at, size);
    return value;
}

static uint64_t model_load(const void *at, size_t size, int order)
{
    uint64_t value = look(at, size);
    if (order == memory_order_relaxed) check_owner(at, false);
    else yield();
    return value;
}

static void model_store(void *at, size_t size, uint64_t value, int order)
{
    struct thread *t = running >= 0 ? &threads[running] : NULL;
    check_owner(at, true);
    if (t == NULL || order == memory_order_seq_cst) {
        if (t != NULL) flush_all(t);
        put(at, size, value);
    } else {
        ASSERT(t->n_buffered < BUFFER_MAX);
        t->buffer[t->n_buffered++] = (struct buffered){at, size, value};
    }
    yield();
}

static uint64_t model_exchange(void *at, size_t size, uint64_t value)
{
    if (running >= 0) flush_all(&threads[running]);
    check_owner(at, true);
    uint64_t old = look(at, size);
    put(at, size, value);
    yield();
    return old;
}

static bool model_replace(void *at, size_t size, void *expected, uint64_t value)
{
    if (running >= 0) flush_all(&threads[running]);
    uint64_t old = look(at, size);
    bool same = memcmp(&old, expected, size) == 0;
    if (same) put(at, size, value);
    else memcpy(expected, &old, size);
    yield();
    return same;
}

/* There is one semaphore, on which one thread waits. */
static bool posted;

static void model_wait(uv_sem_t *semaphore)
{
    (void)semaphore;
    wait_for(&posted);
}

static void model_post(uv_sem_t *semaphore)
{
    (void)semaphore;
    if (posted) fail("posted twice");
    posted = true;
    yield();
}

/* ---- schedules ---- */

struct scenario {
    const char *name;
    void (*set_up)(void);
    void (*threads[THREADS])(void);
    void (*look)(void);     /* afterwards: fail() what is wrong */
    void (*tear_down)(void);
    unsigned switches; /* most times that a thread is left though it could go on; 0: no bound */
};

/* What can come next: a thread goes on, or one store leaves its buffer. */
struct choice {
    uint8_t at, n;
};

static struct choice path[DEPTH_MAX];
static size_t depth;

static void thread_main(void)
{
    threads[running].run();
    threads[running].finished = true;
    _longjmp(scheduler, 1);
}

static void go_on(int thread)
{
    struct thread *t = &threads[thread];
    running = thread;
    if (_setjmp(scheduler) == 0) {
        if (t->begun) _longjmp(t->here, 1);
        t->begun = true;
        setcontext(&t->context);
    }
    running = -1;
}

static void threads_begin(const struct scenario *s)
{
    for (int i = 0; i < THREADS; i++) {
        struct thread *t = &threads[i];
        char *stack = t->stack != NULL ? t->stack : malloc(STACK_BYTES);
        *t = (struct thread){.run = s->threads[i], .stack = stack};
        getcontext(&t->context);
        t->context.uc_stack.ss_sp = t->stack;
        t->context.uc_stack.ss_size = STACK_BYTES;
        makecontext(&t->context, thread_main, 0);
    }
    n_owned = 0;
}

static bool can_run(const struct thread *t)
{
    return !t->finished && (t->waits_for == NULL || *t->waits_for);
}

/* Runs the schedule that `path` begins with, and notes in it where it might have gone another way. */
static void run_schedule(const struct scenario *s)
{
    int last = 0;
    unsigned switches = 0;
    s->set_up();
    threads_begin(s);
    for (size_t step = 0; problem[0] == 0; step++) {
        int options[2 * THREADS], n = 0; /* a thread; THREADS + a thread whose store leaves */
        bool held = s->switches > 0 && switches >= s->switches && can_run(&threads[last]);
        for (int i = 0; i < THREADS; i++) {
            int thread = (last + i) % THREADS; /* without a switch first */
            if (can_run(&threads[thread]) && !(held && thread != last)) options[n++] = thread;
            if (threads[thread].n_buffered > 0) options[n++] = THREADS + thread;
        }
        if (n == 0) break;
        ASSERT(step < DEPTH_MAX);
        if (step == depth) path[depth++] = (struct choice){0, (uint8_t)n};
        ASSERT(path[step].n == n);
        int option = options[path[step].at];
        if (option >= THREADS) {
            flush_one(&threads[option - THREADS]);
            continue;
        }
        if (option != last && can_run(&threads[last])) switches++;
        last = option;
        go_on(option);
    }
    for (int i = 0; i < THREADS; i++) {
        if (!threads[i].finished) fail("a thread sleeps for ever: a wake-up was lost");
    }
    s->look();
    s->tear_down();
}

static uint64_t run_all(const struct scenario *s)
{
    uint64_t schedules = 0;
    depth = 0;
    do {
        run_schedule(s);
        schedules++;
        while (depth > 0 && path[depth - 1].at + 1 == path[depth - 1].n) depth--;
        if (depth > 0) path[depth - 1].at++;
    } while (depth > 0 && problem[0] == 0);
    return schedules;
}

/* ---- a ring whose consumer sleeps ---- */

static struct ring ring;
static bool woken;
static uint64_t pushed, popped, wakes, announced, goal; /* announced: how often the consumer said that it sleeps */

static void ring_set_up(size_t capacity, uint64_t items)
{
    ring_init(&ring, capacity);
    woken = false;
    pushed = popped = wakes = 0;
    announced = 1;
    goal = items;
}

static void two_items(void) { ring_set_up(4, 2); }
static void three_items(void) { ring_set_up(4, 3); }
static void four_items(void) { ring_set_up(4, 4); }
static void ring_tear_down(void) { ring_free(&ring); }

static void producer(void)
{
    while (pushed < goal) {
        if (!ring_push(&ring, (struct ring_item){.kind = 7, .value = pushed + 1})) fail("full with room");
        pushed++;
        if (ring_must_wake(&ring)) {
            wakes++;
            woken = true;
        }
    }
}

static void take(struct ring_item item)
{
    if (item.kind != 7 || item.value != popped + 1) {
        fail("item %" PRIu64 " where %" PRIu64 " was next", item.value, popped + 1);
    }
    popped++;
}

/* As the engine does: csrc/server/engine.c, on_woken. */
static void consumer(void)
{
    while (popped < goal) {
        struct ring_item item;
        wait_for(&woken);
        do {
            while (ring_pop(&ring, &item)) take(item);
            announced++;
        } while (!ring_sleep(&ring));
    }
}

static void ring_look(void)
{
    if (popped != goal) fail("%" PRIu64 " of %" PRIu64 " items came through", popped, goal);
    if (wakes > announced) fail("woken %" PRIu64 " times for sleep announced %" PRIu64 " times", wakes, announced);
}

/* ---- a ring that is full now and then ---- */

static void one_slot(void) { ring_set_up(1, 3); }
static void two_slots(void) { ring_set_up(2, 4); }

static void eager_producer(void)
{
    for (uint64_t i = 0; i < goal; i++) {
        bool room = ring_has_room(&ring, 1);
        bool done = ring_push(&ring, (struct ring_item){.kind = 7, .value = pushed + 1});
        if (room && !done) fail("full though there was room");
        if (done) pushed++;
    }
}

static void eager_consumer(void)
{
    struct ring_item item;
    for (uint64_t i = 0; i < goal; i++) {
        if (ring_pop(&ring, &item)) take(item);
    }
}

static void full_look(void)
{
    struct ring_item item;
    while (ring_pop(&ring, &item)) take(item);
    if (popped != pushed) fail("%" PRIu64 " items pushed, %" PRIu64 " popped", pushed, popped);
}

/* ---- a mailbox ---- */

#define VALUES 5u

struct letter {
    uint64_t front, back;
};

static struct mailbox mailbox;
static uint64_t newest;

static void mailbox_set_up(void)
{
    mailbox_init(&mailbox, sizeof(struct letter));
    newest = 0;
}

static void mailbox_tear_down(void) { mailbox_free(&mailbox); }

static void writer(void)
{
    for (uint64_t i = 1; i <= VALUES; i++) {
        struct letter *letter = mailbox_draft(&mailbox);
        letter->front = i;
        yield(); /* the reader may look while it is half written */
        letter->back = i;
        mailbox_publish(&mailbox);
    }
}

static void read_letter(void)
{
    const struct letter *letter = mailbox_read(&mailbox);
    uint64_t front = letter->front;
    yield();
    if (front != letter->back) fail("half of a value");
    if (front < newest) fail("value %" PRIu64 " after %" PRIu64, front, newest);
    newest = front;
}

static void reader(void)
{
    for (unsigned i = 0; i < 4; i++) {
        uint64_t before = newest;
        bool fresh = mailbox_take(&mailbox);
        read_letter();
        if (fresh != (newest > before)) fail("news that are none");
    }
}

static void mailbox_look(void)
{
    mailbox_take(&mailbox);
    read_letter();
    if (newest != VALUES) fail("the last value was lost");
}

/* ---- notices and status, to a host that sleeps ---- */

static struct channel channel;
static struct host *host;
static bool notified, started, closed;
static uint64_t seen;

static void fake_wake(struct io *io) { (void)io; woken = true; } /* and a visit that finds the turn taken */
static void fake_notify(struct io *io) { (void)io; notified = true; }
static const struct io_ops fake_ops = {.wake = fake_wake, .visit = fake_wake, .notify = fake_notify};
static struct io fake_io = {.ops = &fake_ops};

static void on_started(void *ctx, int code) { (void)ctx; started = code == OK; }
static void on_closed(void *ctx) { (void)ctx; closed = true; }
static void on_changed(void *ctx, const struct server_status *status)
{
    (void)ctx;
    if (status->commit <= seen) fail("status %" PRIu64 " after %" PRIu64, status->commit, seen);
    seen = status->commit;
}
static const struct host_machine machine = {.started = on_started, .changed = on_changed, .closed = on_closed};

static void channel_set_up(void)
{
    channel_init(&channel, &fake_io, 1);
    host = host_new(&channel, &machine, NULL, &(struct host_config){.pending = 1, .pending_bytes = 1});
    woken = notified = started = closed = false;
    seen = 0;
}

static void channel_tear_down(void)
{
    host_free(host);
    channel_free(&channel);
}

static void publish(uint64_t commit)
{
    ((struct server_status *)mailbox_draft(&channel.status))->commit = commit;
    channel_publish(&channel);
}

static void publishes_last(void)
{
    channel_notice(&channel, (struct ring_item){.kind = NOTICE_STARTED, .code = OK});
    publish(1);
    publish(2);
}

static void publishes_first(void)
{
    publish(1);
    publish(2);
    channel_notice(&channel, (struct ring_item){.kind = NOTICE_STARTED, .code = OK});
}

/* As a loop does: it waits for the descriptor, then steps until there is no more. */
static void host_loop(void)
{
    while (!started || seen < 2) {
        wait_for(&notified);
        while (host_step(host, 2)) {}
    }
}

static void channel_look(void)
{
    if (!started || seen != 2) fail("the host was not told all");
}

/* ---- requests, to an engine that sleeps ---- */

static void requests(void)
{
    for (uint64_t i = 1; i <= 2; i++) {
        if (!channel_request(&channel, (struct ring_item){.kind = REQUEST_CANCEL, .value = i})) fail("no room");
    }
}

/* The engine may find a proposal before it is told of it; and goes to sleep, or not, just when it is. What is asked tells
 * of the proposals before it. */
static void proposes_twice(void)
{
    for (uint64_t i = 1; i <= 2; i++) {
        if (!channel_propose(&channel, (struct block *)(uintptr_t)i)) fail("no room");
        channel_flush(&channel);
    }
}

static void asks_in_between(void)
{
    if (!channel_propose(&channel, (struct block *)(uintptr_t)1)) fail("no room");
    if (!channel_request(&channel, (struct ring_item){.kind = REQUEST_CANCEL, .value = 2})) fail("no room");
}

static void engine_loop(void)
{
    uint64_t last = 0;
    while (last < 2) {
        struct ring_item item;
        wait_for(&woken);
        do {
            while (ring_pop(&channel.requests, &item)) {
                if (item.value != last + 1) fail("requests out of order");
                last = item.value;
            }
        } while (!ring_sleep(&channel.requests));
    }
}

/* ---- a turn, and news for whoever has it ---- */

static struct uv_turn turn;
static int holder; /* of the turn; -1: nobody */
static uint64_t news, seen_to;

static void turn_set_up(void)
{
    turn_init(&turn);
    holder = -1;
    news = seen_to = 0;
    posted = woken = false;
}

static void turn_tear_down(void) { turn_free(&turn); }

/* With the turn: sees to what there is, as often as there is word of more. */
static void have_turn(void)
{
    bool more = true;
    while (more) {
        if (holder != -1) fail("two have the turn");
        holder = running;
        seen_to = model_load(&news, sizeof news, memory_order_acquire);
        holder = -1;
        more = !turn_end(&turn);
    }
}

static void bring_news(void)
{
    model_store(&news, sizeof news, news + 1, memory_order_seq_cst);
}

static void visitor(void)
{
    for (int i = 0; i < 2; i++) {
        bring_news();
        if (turn_offer(&turn)) have_turn();
    }
}

static void taker(void)
{
    for (int i = 0; i < 2; i++) {
        turn_take(&turn);
        have_turn();
    }
}

static void teller(void)
{
    for (int i = 0; i < 2; i++) {
        bring_news();
        if (!turn_tell(&turn)) woken = true;
    }
}

static void sleeper(void)
{
    while (seen_to < 2) {
        turn_take(&turn);
        have_turn();
        if (seen_to < 2) wait_for(&woken);
    }
}

static void turn_look(void)
{
    if (seen_to != news) fail("news were not seen to");
}

/* ---- a loop that is left for a write, and taken over if that takes long ---- */

static struct uv_post post;
static int keeper; /* who runs the loop; -1: nobody */

static void post_set_up(void)
{
    turn_set_up();
    post = (struct uv_post){0};
    keeper = 0;
}

static bool takes_post(enum uv_post_state how)
{
    if (!post_take(&post, how)) return false;
    if (keeper != -1) fail("two run the loop");
    keeper = running;
    return true;
}

static void run_loop_once(void)
{
    turn_take(&turn);
    if (keeper != running) fail("two run the loop");
    have_turn();
}

/* Each write is news, for who runs the loop by then. */
static void leaver(void)
{
    for (int i = 0; i < 2; i++) {
        run_loop_once();
        keeper = -1;
        post_leave(&post, POST_LEFT);
        bring_news();
        if (takes_post(POST_LEFT)) continue;
        if (turn_offer(&turn)) have_turn();
        return;
    }
    run_loop_once();
}

/* Its timer rings at any time. */
static void stand_by(void)
{
    if (takes_post(POST_LEFT) || takes_post(POST_LEFT)) run_loop_once();
}

static void post_look(void)
{
    turn_look();
    if (keeper == -1) fail("nobody runs the loop");
}

static void lent_set_up(void)
{
    post_set_up();
    post_leave(&post, POST_LENT);
    keeper = -1;
}

/* Between two waits it has something to tell the engine. */
static void host_waits(void)
{
    for (int i = 0; i < 2; i++) {
        if (takes_post(POST_LENT)) {
            run_loop_once();
            keeper = -1;
            post_leave(&post, POST_LENT);
        }
        bring_news();
        if (turn_offer(&turn)) have_turn();
    }
}

/* The timer of who lent it rings at any time; who stands by has nothing to take. */
static void lender(void)
{
    if (post_take(&post, POST_LEFT)) fail("who stands by takes what was lent");
    if (takes_post(POST_LENT) || takes_post(POST_LENT)) run_loop_once();
}

static void nothing(void) {}

static const struct scenario scenarios[] = {
    {"two items to a sleeper", two_items, {producer, consumer}, ring_look, ring_tear_down, 0},
    {"three items to a sleeper", three_items, {producer, consumer}, ring_look, ring_tear_down, 4},
    {"four items to a sleeper", four_items, {producer, consumer}, ring_look, ring_tear_down, 3},
    {"a ring of one slot", one_slot, {eager_producer, eager_consumer}, full_look, ring_tear_down, 0},
    {"a ring of two slots", two_slots, {eager_producer, eager_consumer}, full_look, ring_tear_down, 4},
    {"values in a mailbox", mailbox_set_up, {writer, reader}, mailbox_look, mailbox_tear_down, 0},
    {"requests to an engine", channel_set_up, {requests, engine_loop}, nothing, channel_tear_down, 0},
    {"news of proposals to an engine", channel_set_up, {proposes_twice, engine_loop}, nothing, channel_tear_down, 0},
    {"news of one, and a request", channel_set_up, {asks_in_between, engine_loop}, nothing, channel_tear_down, 0},
    {"a notice, then news", channel_set_up, {publishes_last, host_loop}, channel_look, channel_tear_down, 7},
    {"turns and visits", turn_set_up, {visitor, taker}, turn_look, turn_tear_down, 7},
    {"turns and word of more", turn_set_up, {teller, sleeper}, turn_look, turn_tear_down, 8},
    {"turns, and a loop that is left", post_set_up, {leaver, stand_by}, post_look, turn_tear_down, 8},
    {"turns, and a loop that is lent", lent_set_up, {host_waits, lender}, turn_look, turn_tear_down, 8},
    {"news, then a notice", channel_set_up, {publishes_first, host_loop}, channel_look, channel_tear_down, 7},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; i < COUNT_OF(scenarios) && problem[0] == 0; i++) {
        if (argc > 1 && strstr(scenarios[i].name, argv[1]) == NULL) continue;
        uint64_t schedules = run_all(&scenarios[i]);
        printf("%s: %" PRIu64 " interleavings, %s\n", scenarios[i].name, schedules, problem[0] != 0 ? problem : "ok");
        fflush(stdout);
    }
    for (int i = 0; i < THREADS; i++) free(threads[i].stack);
    return problem[0] != 0;
}
