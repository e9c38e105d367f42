/* libraft (Debian: libraft-dev) under the same load as ours: three processes on loopback, a trivial state machine.
 *
 *   libraft load DIR BYTES WINDOW WARM SECONDS one|batch    prints one line of key=value
 *   libraft kill DIR RUNS ELECTION_MS                       kills the leader: ms until the next commit, one a line
 *
 * one: a raft_apply for each command. batch: all commands that fit the window go into one raft_apply per turn of the
 * loop. It never takes a snapshot here, which is in its favour; TCP_NODELAY is set for it, which it does not do. */
#include <raft.h>
#include <raft/uv.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "measure.h"

#define SERVERS 3
#define SILENT_S 30 /* without an answer for so long it is given up */

/* What the processes share. */
static struct shared {
    pid_t pids[SERVERS + 1];
    int ports[SERVERS + 1];
    _Atomic int leader;      /* that has committed something */
    _Atomic double committed; /* when it first did, since it leads */
    _Atomic bool finished;
} *shared;

static struct {
    bool batch, kill;
    size_t size;
    unsigned window, election_ms;
    double warm, duration;
} job;

static struct raft server;
static struct raft_fsm machine;
static uv_loop_t loop;
static int own_id;
static unsigned under_way;
static uint64_t applied, answered, first_applied, first_answered;
static double began, from, cpu;
static struct latencies latencies;

struct request {
    struct raft_apply apply;
    double born;
    unsigned n;
};

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "libraft: %s: %s\n", what, why);
    exit(1);
}

static int apply(struct raft_fsm *fsm, const struct raft_buffer *buffer, void **result)
{
    (void)fsm, (void)buffer;
    *result = NULL;
    applied++;
    return 0;
}

static int snapshot(struct raft_fsm *fsm, struct raft_buffer *buffers[], unsigned *n)
{
    (void)fsm, (void)buffers, (void)n;
    return RAFT_NOMEM;
}

static int restore(struct raft_fsm *fsm, struct raft_buffer *buffer)
{
    (void)fsm;
    raft_free(buffer->base);
    return 0;
}

static double all_cpu(void)
{
    double sum = 0;
    for (int i = 1; i <= SERVERS; i++) sum += cpu_seconds(shared->pids[i]);
    return sum;
}

static void finish(double now)
{
    double took = now - from, n = (double)(answered - first_answered);
    printf("per_second=%.0f applied_per_second=%.0f p50_us=%lu p99_us=%lu cpu_us=%.3f\n", n / took,
           (double)(applied - first_applied) / took, latencies_at(&latencies, 0.5), latencies_at(&latencies, 0.99),
           (all_cpu() - cpu) / n * 1e6);
    fflush(stdout);
    shared->finished = true;
    uv_stop(&loop);
}

static void on_applied(struct raft_apply *a, int status, void *result)
{
    struct request *r = (struct request *)a;
    (void)result;
    double now = seconds();
    under_way -= r->n;
    if (status == 0) {
        answered += r->n;
        if (shared->leader != own_id) {
            shared->committed = now;
            shared->leader = own_id;
        }
        if (from != 0 && r->born >= from) {
            for (unsigned i = 0; i < r->n; i++) latencies_note(&latencies, now - r->born);
        }
    }
    free(r);
}

static void submit(unsigned n)
{
    struct raft_buffer buffers[4096];
    struct request *r = malloc(sizeof *r);
    for (unsigned i = 0; i < n; i++) {
        buffers[i].len = job.size;
        buffers[i].base = raft_malloc(job.size);
        memset(buffers[i].base, 'x', job.size);
    }
    r->born = seconds();
    r->n = n;
    int rv = raft_apply(&server, &r->apply, buffers, n, on_applied);
    if (rv == 0) {
        under_way += n;
        return;
    }
    for (unsigned i = 0; i < n; i++) raft_free(buffers[i].base);
    free(r);
    if (!job.kill) fail("raft_apply", raft_strerror(rv));
}

/* Before the loop sleeps: fills the window. */
static void on_prepare(uv_prepare_t *handle)
{
    (void)handle;
    if (raft_state(&server) != RAFT_LEADER || shared->finished) return;
    double now = seconds();
    if (began == 0) began = now;
    if (from == 0 && answered > 0 && now - began >= job.warm) {
        from = now;
        cpu = all_cpu();
        first_answered = answered;
        first_applied = applied;
    }
    if (!job.kill && from != 0 && now - from >= job.duration) {
        finish(now);
        return;
    }
    if (job.batch && under_way < job.window) submit(job.window - under_way);
    while (!job.batch && under_way < job.window) submit(1);
}

static void set_nodelay(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (uv_handle_get_type(handle) == UV_TCP) uv_tcp_nodelay((uv_tcp_t *)handle, 1);
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
    uv_walk(&loop, set_nodelay, NULL);
}

static void must(int rv, const char *what)
{
    if (rv != 0) fail(what, raft_strerror(rv));
}

static void serve(const char *dir, int id)
{
    static struct raft_uv_transport transport;
    static struct raft_io io;
    static uv_prepare_t prepare;
    static uv_timer_t timer;
    char path[512], address[64];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    own_id = id;
    shared->pids[id] = getpid();
    uv_loop_init(&loop);
    snprintf(path, sizeof path, "%s/%d", dir, id);
    mkdir(path, 0700);
    must(raft_uv_tcp_init(&transport, &loop), "raft_uv_tcp_init");
    must(raft_uv_init(&io, &loop, path, &transport), "raft_uv_init");
    machine = (struct raft_fsm){.version = 1, .apply = apply, .snapshot = snapshot, .restore = restore};
    snprintf(address, sizeof address, "127.0.0.1:%d", shared->ports[id]);
    must(raft_init(&server, &io, &machine, (raft_id)id, address), "raft_init");
    struct raft_configuration members;
    raft_configuration_init(&members);
    for (int i = 1; i <= SERVERS; i++) {
        snprintf(address, sizeof address, "127.0.0.1:%d", shared->ports[i]);
        must(raft_configuration_add(&members, (raft_id)i, address, RAFT_VOTER), "raft_configuration_add");
    }
    int rv = raft_bootstrap(&server, &members);
    if (rv != RAFT_CANTBOOTSTRAP) must(rv, "raft_bootstrap");
    raft_set_election_timeout(&server, job.election_ms);
    raft_set_heartbeat_timeout(&server, job.election_ms / 10);
    raft_set_snapshot_threshold(&server, 1u << 30);
    raft_set_pre_vote(&server, true);
    srandom((unsigned)getpid() * 2654435761u ^ (unsigned)(seconds() * 1e6));
    must(raft_start(&server), "raft_start");
    uv_prepare_init(&loop, &prepare);
    uv_prepare_start(&prepare, on_prepare);
    uv_timer_init(&loop, &timer);
    uv_timer_start(&timer, on_tick, 1, job.kill ? 1 : 10);
    uv_run(&loop, UV_RUN_DEFAULT);
    exit(0);
}

static void start(const char *dir, int id)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) serve(dir, id);
    shared->pids[id] = pid;
}

static void choose_ports(void)
{
    int fds[SERVERS + 1];
    for (int i = 1; i <= SERVERS; i++) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t length = sizeof a;
        srandom((unsigned)getpid() + (unsigned)i);
        do {
            fds[i] = socket(AF_INET, SOCK_STREAM, 0);
            shared->ports[i] = (int)(10000 + random() % 22000);
            a.sin_port = htons((uint16_t)shared->ports[i]);
        } while (bind(fds[i], (struct sockaddr *)&a, length) != 0);
    }
    for (int i = 1; i <= SERVERS; i++) close(fds[i]);
}

static void pause_ms(unsigned ms) { usleep(ms * 1000); }

/* Waits until a leader has committed something (other than `before`); false: in vain. */
static bool wait_for_leader(int before)
{
    double limit = seconds() + SILENT_S;
    while ((shared->leader == 0 || shared->leader == before) && seconds() < limit) pause_ms(1);
    return shared->leader != 0 && shared->leader != before;
}

static int kill_leaders(const char *dir, int runs)
{
    for (int run = 0; run < runs; run++) {
        if (!wait_for_leader(0)) fail("kill", "there is no leader");
        pause_ms(job.election_ms * 3 / 2 + 500);
        int victim = shared->leader;
        double killed = seconds();
        kill(shared->pids[victim], SIGKILL);
        waitpid(shared->pids[victim], NULL, 0);
        if (!wait_for_leader(victim)) fail("kill", "nobody took over");
        printf("ms=%.1f\n", (shared->committed - killed) * 1e3);
        start(dir, victim);
        pause_ms(job.election_ms);
    }
    return 0;
}

static void end_all(void)
{
    for (int i = 1; i <= SERVERS; i++) kill(shared->pids[i], SIGKILL);
    while (wait(NULL) > 0) {
    }
}

int main(int argc, char **argv)
{
    job.kill = argc == 5 && strcmp(argv[1], "kill") == 0;
    if (!job.kill && (argc != 8 || strcmp(argv[1], "load") != 0)) {
        fprintf(stderr, "usage: libraft load DIR BYTES WINDOW WARM SECONDS one|batch | kill DIR RUNS ELECTION_MS\n");
        return 2;
    }
    job.size = job.kill ? 128 : strtoul(argv[3], NULL, 10);
    job.window = job.kill ? 1 : (unsigned)strtoul(argv[4], NULL, 10);
    job.election_ms = job.kill ? (unsigned)strtoul(argv[4], NULL, 10) : 1000;
    if (!job.kill) job.warm = atof(argv[5]), job.duration = atof(argv[6]), job.batch = strcmp(argv[7], "batch") == 0;
    if (job.window == 0 || job.window > 4096) return 2;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    choose_ports();
    for (int i = 1; i <= SERVERS; i++) start(argv[2], i);
    int rv = 0;
    if (job.kill) {
        rv = kill_leaders(argv[2], atoi(argv[3]));
    } else {
        double limit = seconds() + SILENT_S + job.warm + job.duration;
        while (!shared->finished && seconds() < limit) pause_ms(10);
        rv = shared->finished ? 0 : 1;
    }
    end_all();
    return rv;
}
