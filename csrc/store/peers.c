#include "store/peers.h"

#include "base/mem.h"
#include "store/internal.h"
#include "store/smallfile.h"

#define PEER_BYTES 24u /* in the file: node, incarnation, epoch */

struct peer_request {
    struct peer_request *next;
    struct peer_known peer;
    void (*done)(void *ctx, int status);
    void *ctx;
};

void peers_init(struct peers *p, struct io *io, char *dir)
{
    *p = (struct peers){.io = io, .dir = dir};
    p->waiting_end = &p->waiting;
}

static void free_requests(struct peer_request *request)
{
    while (request != NULL) {
        struct peer_request *next = request->next;
        mem_free(request);
        request = next;
    }
}

void peers_free(struct peers *p)
{
    free_requests(p->waiting);
    free_requests(p->writing);
    mem_free(p->known);
    buf_free(&p->body);
    *p = (struct peers){0};
}

bool peers_busy(const struct peers *p)
{
    return p->writing != NULL || p->waiting != NULL;
}

static struct peer_known *find(struct peer_known *known, size_t n, uint64_t node)
{
    for (size_t i = 0; i < n; i++) {
        if (known[i].node == node) return &known[i];
    }
    return NULL;
}

/* Precondition: there is room for one more. */
static void learn(struct peers *p, struct peer_known peer)
{
    struct peer_known *old = find(p->known, p->n, peer.node);
    ASSERT(old != NULL || p->n < p->capacity);
    if (old != NULL) *old = peer;
    else p->known[p->n++] = peer;
}

static bool reserve(struct peers *p, size_t more)
{
    void *known = p->known;
    bool done = mem_grow(&known, &p->capacity, p->n + more, sizeof *p->known);
    p->known = known;
    return done;
}

static bool put_peer(struct buf *body, const struct peer_known *peer)
{
    uint8_t *at = buf_extend(body, PEER_BYTES);
    if (at == NULL) return false;
    put_u64(at, peer->node);
    put_u64(at + 8, peer->incarnation);
    put_u64(at + 16, peer->epoch);
    return true;
}

/* What is known, and over it the requests. When a node appears twice the later one counts (see peers_read). */
static bool encode(struct peers *p, const struct peer_request *requests)
{
    bool done = true;
    p->body.size = 0;
    for (size_t i = 0; i < p->n && done; i++) done = put_peer(&p->body, &p->known[i]);
    for (; requests != NULL && done; requests = requests->next) done = put_peer(&p->body, &requests->peer);
    return done;
}

int peers_write(struct peers *p, struct err *e)
{
    if (!encode(p, NULL)) return err_set(e, ERR_NOMEM, "%s/peers: out of memory", p->dir);
    return smallfile_write(p->io, p->dir, SMALLFILE_PEERS, p->body.data, p->body.size, e);
}

int peers_read(struct peers *p, struct err *e)
{
    struct buf body;
    int status = smallfile_read(p->io, p->dir, SMALLFILE_PEERS, &body, e);
    if (status == OK && body.size % PEER_BYTES != 0) {
        status = err_set(e, ERR_CORRUPT, "%s/peers: damaged: its size makes no sense", p->dir);
    }
    if (status == OK && !reserve(p, body.size / PEER_BYTES)) {
        status = err_set(e, ERR_NOMEM, "%s/peers: out of memory", p->dir);
    }
    for (size_t at = 0; status == OK && at < body.size; at += PEER_BYTES) {
        const uint8_t *from = body.data + at;
        learn(p, (struct peer_known){get_u64(from), get_u64(from + 8), get_u64(from + 16)});
    }
    buf_free(&body);
    return status;
}

static void peers_work(struct io_job *job)
{
    struct peers *p = CONTAINER_OF(job, struct peers, job);
    if (p->status != OK) return;
    p->status = smallfile_write(p->io, p->dir, SMALLFILE_PEERS, p->body.data, p->body.size, &p->error);
}

static void peers_done(struct io_job *job);

/* Writes what is waiting. Lack of memory is told as a failed write is, by the job. */
static void start(struct store *s)
{
    struct peers *p = &s->peers;
    if (p->writing != NULL || p->waiting == NULL) return;
    p->writing = p->waiting;
    p->waiting = NULL;
    p->waiting_end = &p->waiting;
    p->status = encode(p, p->writing) ? OK : ERR_NOMEM;
    p->job.work = peers_work;
    p->job.done = peers_done;
    /* A link waits for it: it must not stand behind a segment that is being filled. */
    io_submit(s->io, IO_LANE_DISK, &p->job);
}

static void peers_done(struct io_job *job)
{
    struct peers *p = CONTAINER_OF(job, struct peers, job);
    struct store *s = CONTAINER_OF(p, struct store, peers);
    struct peer_request *all = p->writing;
    ASSERT(all != NULL);
    int status = p->status;
    p->writing = NULL;
    for (struct peer_request *r = all; r != NULL && status == OK; r = r->next) learn(p, r->peer);
    start(s);
    for (struct peer_request *r = all; r != NULL; r = r->next) {
        p->n_requests--;
        r->done(r->ctx, status);
    }
    free_requests(all);
    store_settle(s);
}

uint64_t store_peer(const struct store *s, uint64_t node)
{
    const struct peer_known *known = find(s->peers.known, s->peers.n, node);
    return known != NULL ? known->incarnation : 0;
}

/* Is it one of the lives that a directory has had? One that is older than all that are told of may be. */
static bool had_life(const uint64_t before[STORE_LIVES], uint64_t epoch)
{
    for (size_t i = 0; i < STORE_LIVES; i++) {
        if (before[i] == epoch) return true;
    }
    return epoch < before[STORE_LIVES - 1];
}

enum store_peer_verdict store_peer_judge(const struct store *s, uint64_t node, uint64_t incarnation, uint64_t epoch,
                                         const uint64_t before[STORE_LIVES])
{
    const struct peer_known *known = find(s->peers.known, s->peers.n, node);
    if (known == NULL) return STORE_PEER_NEW;
    if (known->incarnation != incarnation) return STORE_PEER_REPLACED;
    if (known->epoch == epoch) return STORE_PEER_KNOWN;
    return had_life(before, known->epoch) ? STORE_PEER_LATER : STORE_PEER_ROLLED_BACK;
}

int store_remember_peer(struct store *s, uint64_t node, uint64_t incarnation, uint64_t epoch,
                        void (*done)(void *ctx, int status), void *ctx)
{
    struct peers *p = &s->peers;
    ASSERT(!s->closing && node != 0 && incarnation != 0);
    if (!reserve(p, p->n_requests + 1)) return ERR_NOMEM;
    struct peer_request *request = mem_alloc(sizeof *request);
    if (request == NULL) return ERR_NOMEM;
    p->n_requests++;
    *request = (struct peer_request){
        .peer = {node, incarnation, epoch}, .done = done, .ctx = ctx};
    *p->waiting_end = request;
    p->waiting_end = &request->next;
    start(s);
    return OK;
}
