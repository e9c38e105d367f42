/* The simulated network: links are pipes with two ends; what travels through them are events.
 *
 * An end is gone when its engine closed it, was told that it is closed, or died; the other end then hears of it by an
 * event that a partition can swallow. A pipe lives until both ends are gone and no event refers to it. */
#include "base/hash.h"
#include "base/mem.h"
#include "sim/sim_internal.h"

#define LATE_FACTOR 50u                    /* a late frame takes up to so many times the longest delay */
#define UNREACHABLE_MIN_US (50 * US_PER_MS) /* until a dialler gives up */
#define UNREACHABLE_MAX_US (3 * US_PER_S)
#define CRASH_NEWS_MAX_US (500 * US_PER_MS) /* until the other end of a link hears that a process died */
#define CUTS_MAX 4u                        /* pieces that a frame is received in */

enum { DIALLER = 0, ACCEPTOR = 1 };

struct sim_end {
    struct io_link link;
    struct sim_pipe *pipe;
    uint8_t side, node;
    bool up;
    uint64_t arrived_us; /* when the newest ordered frame to this end arrives: later ones not before */
    size_t queued;       /* bytes from this end on their way */
};

struct sim_pipe {
    struct sim_end *ends[2]; /* NULL = gone */
    uint8_t nodes[2];        /* acceptor: 0 until known */
    bool broken;             /* nothing more gets through */
    uint32_t refs;           /* events */
    char *address;           /* dialled */
    struct sim_pipe *next;
};

/* Bytes on their way to one end. */
struct sim_frame {
    struct buf bytes;
    size_t counted; /* in the sender's queue */
};

/* Known for good once somebody listened: which node an address leads to decides what a partition cuts. */
struct io_server {
    char *address;
    uint8_t node;
    bool open;
    struct io_server *next;
};

static uint64_t delay_us(struct sim_world *w)
{
    return sim_draw_us(w, w->faults.network_min_us, w->faults.network_max_us);
}

/* ---- pipes ---- */

static struct sim_end *end_new(struct sim_pipe *pipe, uint8_t side, uint8_t node)
{
    struct sim_end *end = sim_alloc(sizeof(*end));
    end->pipe = pipe;
    end->side = side;
    end->node = node;
    pipe->ends[side] = end;
    pipe->nodes[side] = node;
    return end;
}

static void pipe_collect(struct sim_world *w, struct sim_pipe *pipe)
{
    if (pipe->refs > 0 || pipe->ends[DIALLER] != NULL || pipe->ends[ACCEPTOR] != NULL) return;
    struct sim_pipe **at = &w->pipes;
    while (*at != pipe) at = &(*at)->next;
    *at = pipe->next;
    mem_free(pipe->address);
    mem_free(pipe);
}

/* The memory is given back: who uses a link that is gone is caught by a sanitizer. */
static void end_free(struct sim_world *w, struct sim_end *end)
{
    struct sim_pipe *pipe = end->pipe;
    pipe->ends[end->side] = NULL;
    mem_free(end);
    pipe_collect(w, pipe);
}

static struct sim_event *pipe_event(struct sim_world *w, enum sim_event_kind kind, uint64_t at_us,
                                    struct sim_pipe *pipe, uint8_t side)
{
    struct sim_event *event = sim_event_add(w, kind, at_us);
    event->pipe = pipe;
    event->aux = side;
    pipe->refs++;
    return event;
}

/* `more` of SIM_NET_CLOSED: the reason, and whether the news must cross the network. */
#define FROM_AFAR 0x80u

static void close_later(struct sim_world *w, struct sim_pipe *pipe, uint8_t side, enum io_close reason,
                        uint8_t from_afar, uint64_t at_us)
{
    pipe_event(w, SIM_NET_CLOSED, at_us, pipe, side)->more = (uint8_t)((unsigned)reason | from_afar);
}

static bool is_cut(const struct sim_world *w, const struct sim_pipe *pipe, uint8_t to_side)
{
    return w->cut[pipe->nodes[1 - to_side]][pipe->nodes[to_side]];
}

/* ---- addresses ---- */

static bool address_is_sane(const char *address)
{
    const char *colon = strrchr(address, ':');
    if (colon == NULL || colon == address || colon[1] == '\0') return false;
    return colon[1 + strspn(colon + 1, "0123456789")] == '\0';
}

static struct io_server *server_find(const struct sim_world *w, const char *address)
{
    struct io_server *server = w->servers;
    while (server != NULL && strcmp(server->address, address) != 0) server = server->next;
    return server;
}

int sim_listen(struct io *io, const char *address, struct io_server **out, struct err *e)
{
    struct sim_node *node = sim_node_of(io);
    struct sim_world *w = node->world;
    if (!address_is_sane(address)) return err_set(e, ERR_ADDRESS, "listen on %s: not host:port", address);
    struct io_server *server = server_find(w, address);
    if (server != NULL && server->open) return err_set(e, ERR_ADDRESS, "listen on %s: address in use", address);
    if (server == NULL) {
        server = sim_alloc(sizeof(*server));
        server->address = sim_strdup(address);
        server->next = w->servers;
        w->servers = server;
    }
    server->node = node->number;
    server->open = true;
    *out = server;
    return OK;
}

void sim_unlisten(struct io *io, struct io_server *server)
{
    ASSERT(server->open && server->node == sim_node_of(io)->number);
    server->open = false;
}

/* ---- links, as an engine uses them ---- */

int sim_connect(struct io *io, const char *address, struct io_link **out, struct err *e)
{
    struct sim_node *node = sim_node_of(io);
    struct sim_world *w = node->world;
    if (!address_is_sane(address)) return err_set(e, ERR_ADDRESS, "connect to %s: not host:port", address);
    struct sim_pipe *pipe = sim_alloc(sizeof(*pipe));
    pipe->address = sim_strdup(address);
    pipe->next = w->pipes;
    w->pipes = pipe;
    struct sim_end *end = end_new(pipe, DIALLER, node->number);
    *out = &end->link;
    if (prng_chance(&w->prng, w->faults.connect_failed)) {
        uint64_t gives_up_us = w->now_us + sim_draw_us(w, UNREACHABLE_MIN_US, UNREACHABLE_MAX_US);
        close_later(w, pipe, DIALLER, IO_CLOSE_UNREACHABLE, 0, gives_up_us);
    } else {
        pipe_event(w, SIM_NET_SYN, w->now_us + delay_us(w), pipe, ACCEPTOR);
    }
    return OK;
}

/* When a frame sent now arrives. Late ones do not hold up those behind them. */
static uint64_t arrival_us(struct sim_world *w, struct sim_end *sender)
{
    uint64_t at_us = w->now_us + delay_us(w);
    if (prng_chance(&w->prng, w->faults.frame_late)) {
        return at_us + sim_draw_us(w, 0, LATE_FACTOR * w->faults.network_max_us);
    }
    struct sim_end *receiver = sender->pipe->ends[1 - sender->side];
    if (receiver == NULL) return at_us;
    receiver->arrived_us = MAX(receiver->arrived_us + 1, at_us);
    return receiver->arrived_us;
}

static void frame_send(struct sim_world *w, struct sim_end *sender, struct buf *bytes, uint64_t at_us)
{
    struct sim_frame *frame = sim_alloc(sizeof(*frame));
    frame->bytes = *bytes;
    frame->counted = bytes->size;
    sender->queued += bytes->size;
    pipe_event(w, SIM_NET_FRAME, at_us, sender->pipe, (uint8_t)(1 - sender->side))->pointer = frame;
    *bytes = (struct buf){0};
}

/* The connection breaks within this frame: some of its bytes arrive, then both ends hear of it. */
static void frame_break(struct sim_world *w, struct sim_end *sender, struct buf *bytes)
{
    struct sim_pipe *pipe = sender->pipe;
    uint64_t at_us = arrival_us(w, sender);
    bytes->size = prng_below(&w->prng, bytes->size + 1);
    frame_send(w, sender, bytes, at_us);
    close_later(w, pipe, (uint8_t)(1 - sender->side), IO_CLOSE_RESET, 0, at_us + 1);
    close_later(w, pipe, sender->side, IO_CLOSE_RESET, 0, w->now_us + delay_us(w));
}

int sim_send(struct io *io, struct io_link *link, struct buf *bytes)
{
    struct sim_world *w = sim_node_of(io)->world;
    struct sim_end *end = CONTAINER_OF(link, struct sim_end, link);
    ASSERT(end->up && end->node == sim_node_of(io)->number);
    if (w->sent != NULL) w->sent(w->sent_ctx, end->node, bytes);
    if (bytes->size == 0 || end->pipe->broken || prng_chance(&w->prng, w->faults.frame_lost)) {
        buf_free(bytes);
        return OK;
    }
    if (prng_chance(&w->prng, w->faults.link_broken)) {
        frame_break(w, end, bytes);
        end->pipe->broken = true;
        return OK;
    }
    bool (*may_double)(const uint8_t *bytes, size_t size) = w->faults.may_double;
    if (prng_chance(&w->prng, w->faults.frame_doubled) && (!may_double || may_double(bytes->data, bytes->size))) {
        struct buf copy = {0};
        sim_buf_append(&copy, bytes->data, bytes->size);
        frame_send(w, end, &copy, arrival_us(w, end));
    }
    frame_send(w, end, bytes, arrival_us(w, end));
    return OK;
}

size_t sim_queued(struct io *io, struct io_link *link)
{
    (void)io;
    return CONTAINER_OF(link, struct sim_end, link)->queued;
}

/* The other end hears of it after what was sent has arrived, or sooner: then the rest is lost. */
static void end_close(struct sim_world *w, struct sim_end *end, enum io_close reason, uint64_t late_us)
{
    struct sim_pipe *pipe = end->pipe;
    struct sim_end *other = pipe->ends[1 - end->side];
    if (other != NULL) {
        uint64_t at_us = w->now_us + delay_us(w) + late_us;
        if (prng_chance(&w->prng, 500)) at_us = MAX(at_us, other->arrived_us + 1);
        close_later(w, pipe, other->side, reason, FROM_AFAR, at_us);
    }
    end_free(w, end);
}

void sim_close_link(struct io *io, struct io_link *link)
{
    struct sim_end *end = CONTAINER_OF(link, struct sim_end, link);
    ASSERT(end->node == sim_node_of(io)->number);
    end_close(sim_node_of(io)->world, end, IO_CLOSE_EOF, 0);
}

/* ---- events ---- */

static void tell_closed(struct sim_world *w, struct sim_end *end, enum io_close reason)
{
    struct sim_node *node = &w->nodes[end->node - 1];
    struct sim_pipe *pipe = end->pipe;
    pipe->ends[end->side] = NULL;
    w->touched = node->number;
    node->io.events->closed(node->io.engine, &end->link, reason);
    mem_free(end);
    sim_turn(node);
}

/* The dialler's request is there: somebody listens, nobody does, or it never came. */
static void net_syn(struct sim_world *w, struct sim_pipe *pipe)
{
    struct sim_end *dialler = pipe->ends[DIALLER];
    if (dialler == NULL) return;
    struct io_server *server = server_find(w, pipe->address);
    if (server != NULL) pipe->nodes[ACCEPTOR] = server->node;
    if (server != NULL && is_cut(w, pipe, ACCEPTOR)) {
        uint64_t gives_up_us = w->now_us + sim_draw_us(w, UNREACHABLE_MIN_US, UNREACHABLE_MAX_US);
        close_later(w, pipe, DIALLER, IO_CLOSE_UNREACHABLE, 0, gives_up_us);
        return;
    }
    uint64_t answer_us = w->now_us + delay_us(w);
    if (server == NULL || !server->open) {
        close_later(w, pipe, DIALLER, IO_CLOSE_REFUSED, FROM_AFAR, answer_us);
        return;
    }
    struct sim_node *node = &w->nodes[server->node - 1];
    struct sim_end *end = end_new(pipe, ACCEPTOR, server->node);
    end->up = true;
    dialler->arrived_us = answer_us;
    pipe_event(w, SIM_NET_UP, answer_us, pipe, DIALLER);
    w->touched = node->number;
    node->io.events->accepted(node->io.engine, &end->link);
    sim_turn(node);
}

static void net_up(struct sim_world *w, struct sim_pipe *pipe)
{
    struct sim_end *end = pipe->ends[DIALLER];
    if (end == NULL) return;
    if (is_cut(w, pipe, DIALLER) || pipe->ends[ACCEPTOR] == NULL) {
        pipe->broken = true;
        uint64_t gives_up_us = w->now_us + sim_draw_us(w, UNREACHABLE_MIN_US, UNREACHABLE_MAX_US);
        close_later(w, pipe, DIALLER, IO_CLOSE_UNREACHABLE, 0, gives_up_us);
        if (pipe->ends[ACCEPTOR] != NULL) close_later(w, pipe, ACCEPTOR, IO_CLOSE_RESET, 0, gives_up_us);
        return;
    }
    struct sim_node *node = &w->nodes[end->node - 1];
    end->up = true;
    w->touched = node->number;
    node->io.events->connected(node->io.engine, &end->link);
    sim_turn(node);
}

/* Hands bytes over in pieces. The engine may close the link at any of them. */
static void end_receive(struct sim_world *w, struct sim_pipe *pipe, uint8_t side, const struct buf *bytes)
{
    struct sim_node *node = &w->nodes[pipe->nodes[side] - 1];
    w->touched = node->number;
    uint64_t pieces = 1 + prng_below(&w->prng, CUTS_MAX);
    size_t at = 0;
    while (at < bytes->size && pipe->ends[side] != NULL && !node->stopped) {
        size_t size = bytes->size - at;
        if (--pieces > 0) size = 1 + prng_below(&w->prng, size);
        else pieces = 1;
        /* A copy of its own size, so that a sanitizer sees who reads beyond it. */
        uint8_t *piece = sim_alloc(size);
        memcpy(piece, bytes->data + at, size);
        at += size;
        node->io.events->received(node->io.engine, &pipe->ends[side]->link, piece, size);
        mem_free(piece);
    }
    sim_turn(node);
}

static void net_frame(struct sim_world *w, struct sim_pipe *pipe, uint8_t side, struct sim_frame *frame)
{
    struct sim_end *sender = pipe->ends[1 - side], *receiver = pipe->ends[side];
    if (sender != NULL) sender->queued -= frame->counted;
    bool lost = is_cut(w, pipe, side) || (receiver != NULL && !receiver->up);
    if (!lost && receiver != NULL) {
        sim_fold(w, hash64(frame->bytes.data, frame->bytes.size, 0));
        end_receive(w, pipe, side, &frame->bytes);
    } else if (!lost && sender != NULL) {
        close_later(w, pipe, sender->side, IO_CLOSE_RESET, FROM_AFAR, w->now_us + delay_us(w));
    }
    buf_free(&frame->bytes);
    mem_free(frame);
}

static void net_closed(struct sim_world *w, struct sim_pipe *pipe, uint8_t side, uint8_t more)
{
    struct sim_end *end = pipe->ends[side];
    if (end == NULL || ((more & FROM_AFAR) != 0 && is_cut(w, pipe, side))) return;
    enum io_close reason = (enum io_close)(more & ~FROM_AFAR);
    tell_closed(w, end, reason);
}

void sim_net_event(struct sim_world *w, const struct sim_event *event)
{
    struct sim_pipe *pipe = event->pipe;
    sim_fold(w, (uint64_t)pipe->nodes[0] << 8 | pipe->nodes[1]);
    switch (event->kind) {
    case SIM_NET_SYN: net_syn(w, pipe); break;
    case SIM_NET_UP: net_up(w, pipe); break;
    case SIM_NET_FRAME: net_frame(w, pipe, event->aux, event->pointer); break;
    case SIM_NET_CLOSED: net_closed(w, pipe, event->aux, event->more); break;
    default: ASSERT(false);
    }
    pipe->refs--;
    pipe_collect(w, pipe);
}

void sim_net_drop(struct sim_world *w, const struct sim_event *event)
{
    if (event->kind < SIM_NET_SYN) return;
    if (event->kind == SIM_NET_FRAME) {
        struct sim_frame *frame = event->pointer;
        buf_free(&frame->bytes);
        mem_free(frame);
    }
    event->pipe->refs--;
    pipe_collect(w, event->pipe);
}

/* ---- crashes ---- */

void sim_net_crash(struct sim_world *w, int node)
{
    for (struct sim_pipe *pipe = w->pipes, *next; pipe != NULL; pipe = next) {
        next = pipe->next;
        for (int side = 0; side < 2; side++) {
            if (pipe->nodes[side] != node || pipe->ends[side] == NULL) continue;
            bool last = pipe->ends[1 - side] == NULL && pipe->refs == 0;
            /* A late end lets late frames of a dead process in, while its next life is up already. */
            uint64_t late_us = prng_chance(&w->prng, 300) ? prng_below(&w->prng, CRASH_NEWS_MAX_US) : 0;
            end_close(w, pipe->ends[side], prng_chance(&w->prng, 500) ? IO_CLOSE_RESET : IO_CLOSE_EOF, late_us);
            if (last) break; /* the pipe is freed */
        }
    }
    for (struct io_server *server = w->servers; server != NULL; server = server->next) {
        if (server->node == node) server->open = false;
    }
}

bool sim_net_quiet(const struct sim_world *w, int node)
{
    for (const struct sim_pipe *pipe = w->pipes; pipe != NULL; pipe = pipe->next) {
        for (int side = 0; side < 2; side++) {
            if (pipe->ends[side] != NULL && pipe->nodes[side] == node) return false;
        }
    }
    for (const struct io_server *server = w->servers; server != NULL; server = server->next) {
        if (server->open && server->node == node) return false;
    }
    return true;
}

void sim_net_free(struct sim_world *w)
{
    for (struct sim_pipe *pipe = w->pipes, *next; pipe != NULL; pipe = next) {
        next = pipe->next;
        for (int side = 0; side < 2; side++) {
            mem_free(pipe->ends[side]);
            pipe->ends[side] = NULL;
        }
        pipe_collect(w, pipe);
    }
    while (w->servers != NULL) {
        struct io_server *server = w->servers;
        w->servers = server->next;
        mem_free(server->address);
        mem_free(server);
    }
}
