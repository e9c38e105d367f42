#include "sim/sim_net.h"

#include "base/hash.h"
#include "base/mem.h"
#include "sim/sim_trace.h"

#include <stdlib.h>

#define UNREACHABLE_MIN_US (50 * US_PER_MS) /* until a dialler gives up */
#define UNREACHABLE_MAX_US (3 * US_PER_S)
#define CRASH_NEWS_MAX_US (500 * US_PER_MS) /* until the other end of a link hears that a process died */
#define CUTS_MAX 4u                         /* pieces that a frame is received in */

enum { DIALLER = 0, ACCEPTOR = 1 };

struct sim_end {
    struct io_link link;
    struct sim_pipe *pipe;
    uint8_t side, node;
    bool up;
    uint64_t arrived_us; /* when the newest ordered frame to this end arrives: later ones not before */
    uint64_t free_us;    /* when what was sent from this end will have left */
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
    struct sim_sent traced;
};

/* Known for good once somebody listened: which node an address leads to decides what a partition cuts. */
struct io_server {
    char *address;
    uint8_t node;
    bool open;
    struct io_server *next;
};

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

static void pipe_collect(struct sim_net *net, struct sim_pipe *pipe)
{
    if (pipe->refs > 0 || pipe->ends[DIALLER] != NULL || pipe->ends[ACCEPTOR] != NULL) return;
    struct sim_pipe **at = &net->pipes;
    while (*at != pipe) at = &(*at)->next;
    *at = pipe->next;
    mem_free(pipe->address);
    mem_free(pipe);
}

/* The memory is given back: who uses a link that is gone is caught by a sanitizer. */
static void end_free(struct sim_net *net, struct sim_end *end)
{
    struct sim_pipe *pipe = end->pipe;
    pipe->ends[end->side] = NULL;
    mem_free(end);
    pipe_collect(net, pipe);
}

static struct sim_event *pipe_event(struct sim_net *net, enum sim_event_kind kind, uint64_t at_us,
                                    struct sim_pipe *pipe, uint8_t side)
{
    struct sim_event *event = sim_queue_add(net->queue, kind, at_us);
    event->pipe = pipe;
    event->aux = side;
    pipe->refs++;
    return event;
}

/* `more` of SIM_NET_CLOSED: the reason, and whether the news must cross the network. */
#define FROM_AFAR 0x80u

static void close_later(struct sim_net *net, struct sim_pipe *pipe, uint8_t side, enum io_close reason,
                        uint8_t from_afar, uint64_t at_us)
{
    pipe_event(net, SIM_NET_CLOSED, at_us, pipe, side)->more = (uint8_t)((unsigned)reason | from_afar);
}

static const struct sim_path *path_to(const struct sim_net *net, const struct sim_pipe *pipe, uint8_t side)
{
    return &net->paths[pipe->nodes[1 - side]][pipe->nodes[side]];
}

static bool is_cut(const struct sim_net *net, const struct sim_pipe *pipe, uint8_t to_side)
{
    return path_to(net, pipe, to_side)->cut;
}

/* When what is sent now arrives at that side. */
static uint64_t arrival_us(struct sim_net *net, const struct sim_pipe *pipe, uint8_t to_side)
{
    struct sim_queue *q = net->queue;
    uint64_t slow_us = path_to(net, pipe, to_side)->slow_us;
    uint64_t at_us = q->now_us + sim_draw_us(q, net->faults->network_min_us, net->faults->network_max_us);
    return slow_us > 0 ? at_us + sim_draw_us(q, 1, slow_us) : at_us;
}

/* Until a system gives up where nothing answers. */
static uint64_t give_up_us(struct sim_net *net)
{
    return net->queue->now_us + sim_draw_us(net->queue, UNREACHABLE_MIN_US, UNREACHABLE_MAX_US);
}

/* ---- addresses ---- */

static bool address_is_sane(const char *address)
{
    const char *colon = strrchr(address, ':');
    size_t digits = colon != NULL ? strspn(colon + 1, "0123456789") : 0;
    if (colon == address || digits == 0 || digits > 5 || colon[1 + digits] != '\0') return false;
    return strtoul(colon + 1, NULL, 10) <= UINT16_MAX;
}

static struct io_server *server_find(const struct sim_net *net, const char *address)
{
    struct io_server *server = net->servers;
    while (server != NULL && strcmp(server->address, address) != 0) server = server->next;
    return server;
}

int sim_net_listen(struct io *io, const char *address, struct io_server **out, struct err *e)
{
    struct sim_node *node = sim_node_of(io);
    struct sim_net *net = node->net;
    if (!address_is_sane(address)) return err_set(e, ERR_ADDRESS, "listen on %s: not host:port", address);
    struct io_server *server = server_find(net, address);
    if (server != NULL && server->open) return err_set(e, ERR_ADDRESS, "listen on %s: address in use", address);
    if (server == NULL) {
        server = sim_alloc(sizeof(*server));
        server->address = sim_strdup(address);
        server->next = net->servers;
        net->servers = server;
    }
    server->node = node->number;
    server->open = true;
    *out = server;
    return OK;
}

void sim_net_unlisten(struct io *io, struct io_server *server)
{
    ASSERT(server->open && server->node == sim_node_of(io)->number);
    server->open = false;
}

/* ---- links, as an engine uses them ---- */

int sim_net_connect(struct io *io, const char *address, struct io_link **out, struct err *e)
{
    struct sim_node *node = sim_node_of(io);
    struct sim_net *net = node->net;
    if (!address_is_sane(address)) return err_set(e, ERR_ADDRESS, "connect to %s: not host:port", address);
    struct sim_pipe *pipe = sim_alloc(sizeof(*pipe));
    pipe->address = sim_strdup(address);
    pipe->next = net->pipes;
    net->pipes = pipe;
    struct sim_end *end = end_new(pipe, DIALLER, node->number);
    *out = &end->link;
    if (sim_chance(net->queue, net->faults->connect_failed)) {
        close_later(net, pipe, DIALLER, IO_CLOSE_UNREACHABLE, 0, give_up_us(net));
    } else {
        pipe_event(net, SIM_NET_SYN, arrival_us(net, pipe, ACCEPTOR), pipe, ACCEPTOR);
    }
    return OK;
}

/* When a frame sent now arrives. Late ones do not hold up those behind them. */
static uint64_t frame_arrival_us(struct sim_net *net, struct sim_end *sender, size_t size)
{
    struct sim_queue *q = net->queue;
    uint8_t to_side = (uint8_t)(1 - sender->side);
    uint64_t at_us = arrival_us(net, sender->pipe, to_side), byte_rate = path_to(net, sender->pipe, to_side)->byte_rate;
    if (byte_rate > 0) {
        sender->free_us = MAX(sender->free_us, q->now_us) + size * US_PER_S / byte_rate;
        at_us += sender->free_us - q->now_us;
    }
    if (sim_chance(q, net->faults->frame_late)) return at_us + sim_draw_tail_us(q, net->faults->network_max_us);
    struct sim_end *receiver = sender->pipe->ends[to_side];
    if (receiver == NULL) return at_us;
    receiver->arrived_us = MAX(receiver->arrived_us + 1, at_us);
    return receiver->arrived_us;
}

static void frame_send(struct sim_net *net, struct sim_end *sender, struct buf *bytes, uint64_t at_us,
                       struct sim_sent traced)
{
    struct sim_frame *frame = sim_alloc(sizeof(*frame));
    frame->bytes = *bytes;
    frame->counted = bytes->size;
    frame->traced = traced;
    sender->queued += bytes->size;
    pipe_event(net, SIM_NET_FRAME, at_us, sender->pipe, (uint8_t)(1 - sender->side))->pointer = frame;
    *bytes = (struct buf){0};
}

/* The connection breaks within this frame: some of its bytes arrive, then both ends hear of it. */
static void frame_break(struct sim_net *net, struct sim_end *sender, struct buf *bytes)
{
    struct sim_pipe *pipe = sender->pipe;
    bytes->size = prng_below(&net->queue->prng, bytes->size + 1);
    uint64_t at_us = frame_arrival_us(net, sender, bytes->size);
    frame_send(net, sender, bytes, at_us, (struct sim_sent){0});
    close_later(net, pipe, (uint8_t)(1 - sender->side), IO_CLOSE_RESET, 0, at_us + 1);
    close_later(net, pipe, sender->side, IO_CLOSE_RESET, 0, arrival_us(net, pipe, sender->side));
    pipe->broken = true;
}

static struct sim_sent trace_sent(struct sim_net *net, const struct sim_end *end, const struct buf *bytes,
                                  const char *how)
{
    struct sim_queue *q = net->queue;
    return sim_trace_sent(q->trace, q->now_us, end->node, end->pipe->nodes[1 - end->side], bytes, how);
}

int sim_net_send(struct io *io, struct io_link *link, struct buf *bytes)
{
    struct sim_net *net = sim_node_of(io)->net;
    struct sim_queue *q = net->queue;
    struct sim_end *end = CONTAINER_OF(link, struct sim_end, link);
    ASSERT(end->up && end->node == sim_node_of(io)->number);
    if (net->sent != NULL) net->sent(net->sent_ctx, end->node, bytes);
    struct sim_sent traced = trace_sent(net, end, bytes, NULL);
    if (bytes->size == 0 || end->pipe->broken || sim_chance(q, net->faults->frame_lost)) {
        sim_trace_lost(q->trace, q->now_us, traced);
        buf_free(bytes);
        return OK;
    }
    if (sim_chance(q, net->faults->link_broken)) {
        sim_trace_lost(q->trace, q->now_us, traced);
        frame_break(net, end, bytes);
        return OK;
    }
    bool (*may_double)(const uint8_t *bytes, size_t size) = net->faults->may_double;
    if (sim_chance(q, net->faults->frame_doubled) && (!may_double || may_double(bytes->data, bytes->size))) {
        struct buf copy = {0};
        sim_buf_append(&copy, bytes->data, bytes->size);
        uint64_t at_us = frame_arrival_us(net, end, copy.size);
        frame_send(net, end, &copy, at_us, trace_sent(net, end, &copy, "a copy"));
    }
    frame_send(net, end, bytes, frame_arrival_us(net, end, bytes->size), traced);
    return OK;
}

size_t sim_net_queued(struct io *io, struct io_link *link)
{
    (void)io;
    return CONTAINER_OF(link, struct sim_end, link)->queued;
}

/* The other end hears of it after what was sent has arrived, or sooner: then the rest is lost; or not at all. */
static void end_close(struct sim_net *net, struct sim_end *end, enum io_close reason, uint64_t late_us)
{
    struct sim_pipe *pipe = end->pipe;
    struct sim_end *other = pipe->ends[1 - end->side];
    if (other != NULL && !sim_chance(net->queue, net->faults->news_lost)) {
        uint64_t at_us = arrival_us(net, pipe, other->side) + late_us;
        if (prng_chance(&net->queue->prng, 500)) at_us = MAX(at_us, other->arrived_us + 1);
        close_later(net, pipe, other->side, reason, FROM_AFAR, at_us);
    }
    end_free(net, end);
}

void sim_net_close_link(struct io *io, struct io_link *link)
{
    struct sim_end *end = CONTAINER_OF(link, struct sim_end, link);
    ASSERT(end->node == sim_node_of(io)->number);
    end_close(sim_node_of(io)->net, end, IO_CLOSE_EOF, 0);
}

/* ---- events ---- */

/* The node of this end, which is now told something. */
static struct sim_node *node_told(struct sim_net *net, const struct sim_end *end)
{
    net->queue->touched = end->node;
    return &net->nodes[end->node - 1];
}

static void tell_closed(struct sim_net *net, struct sim_end *end, enum io_close reason)
{
    struct sim_node *node = node_told(net, end);
    struct sim_pipe *pipe = end->pipe;
    pipe->ends[end->side] = NULL;
    node->io.events->closed(node->io.engine, &end->link, reason);
    mem_free(end);
    sim_node_turn(node);
}

/* The dialler's request is there: somebody listens, nobody does, or it never came. */
static void net_syn(struct sim_net *net, struct sim_pipe *pipe)
{
    struct sim_end *dialler = pipe->ends[DIALLER];
    if (dialler == NULL) return;
    struct io_server *server = server_find(net, pipe->address);
    if (server != NULL) pipe->nodes[ACCEPTOR] = server->node;
    if (server != NULL && is_cut(net, pipe, ACCEPTOR)) {
        close_later(net, pipe, DIALLER, IO_CLOSE_UNREACHABLE, 0, give_up_us(net));
        return;
    }
    uint64_t answer_us = arrival_us(net, pipe, DIALLER);
    if (server == NULL || !server->open) {
        close_later(net, pipe, DIALLER, IO_CLOSE_REFUSED, FROM_AFAR, answer_us);
        return;
    }
    end_new(pipe, ACCEPTOR, server->node)->up = true;
    dialler->arrived_us = answer_us;
    pipe_event(net, SIM_NET_ACCEPTED, net->queue->now_us, pipe, ACCEPTOR);
    pipe_event(net, SIM_NET_UP, answer_us, pipe, DIALLER);
}

static void net_accepted(struct sim_net *net, struct sim_pipe *pipe)
{
    struct sim_end *end = pipe->ends[ACCEPTOR];
    if (end == NULL) return;
    struct sim_node *node = node_told(net, end);
    node->io.events->accepted(node->io.engine, &end->link);
    sim_node_turn(node);
}

static void net_up(struct sim_net *net, struct sim_pipe *pipe)
{
    struct sim_end *end = pipe->ends[DIALLER];
    if (end == NULL) return;
    if (is_cut(net, pipe, DIALLER) || pipe->ends[ACCEPTOR] == NULL) {
        pipe->broken = true;
        uint64_t gives_up_us = give_up_us(net);
        close_later(net, pipe, DIALLER, IO_CLOSE_UNREACHABLE, 0, gives_up_us);
        if (pipe->ends[ACCEPTOR] != NULL) close_later(net, pipe, ACCEPTOR, IO_CLOSE_RESET, 0, gives_up_us);
        return;
    }
    struct sim_node *node = node_told(net, end);
    end->up = true;
    node->io.events->connected(node->io.engine, &end->link);
    sim_node_turn(node);
}

/* Hands bytes over in pieces. The engine may close the link at any of them. */
static void end_receive(struct sim_net *net, struct sim_pipe *pipe, uint8_t side, const struct buf *bytes)
{
    struct sim_node *node = node_told(net, pipe->ends[side]);
    uint64_t pieces = 1 + prng_below(&net->queue->prng, CUTS_MAX);
    size_t at = 0;
    while (at < bytes->size && pipe->ends[side] != NULL && !node->stopped) {
        size_t size = bytes->size - at;
        if (--pieces > 0) size = 1 + prng_below(&net->queue->prng, size);
        else pieces = 1;
        /* A copy of its own size, so that a sanitizer sees who reads beyond it. */
        uint8_t *piece = sim_alloc(size);
        memcpy(piece, bytes->data + at, size);
        at += size;
        node->io.events->received(node->io.engine, &pipe->ends[side]->link, piece, size);
        mem_free(piece);
    }
    sim_node_turn(node);
}

static void net_frame(struct sim_net *net, struct sim_pipe *pipe, uint8_t side, struct sim_frame *frame)
{
    struct sim_end *sender = pipe->ends[1 - side], *receiver = pipe->ends[side];
    if (sender != NULL) sender->queued -= frame->counted;
    bool lost = is_cut(net, pipe, side) || (receiver != NULL && !receiver->up);
    if (lost || receiver == NULL) sim_trace_lost(net->queue->trace, net->queue->now_us, frame->traced);
    else sim_trace_arrived(net->queue->trace, net->queue->now_us, frame->traced);
    if (!lost && receiver != NULL) {
        sim_fold(net->queue, hash64(frame->bytes.data, frame->bytes.size, 0));
        end_receive(net, pipe, side, &frame->bytes);
    } else if (!lost && sender != NULL) {
        close_later(net, pipe, sender->side, IO_CLOSE_RESET, FROM_AFAR, arrival_us(net, pipe, sender->side));
    }
    buf_free(&frame->bytes);
    mem_free(frame);
}

static void net_closed(struct sim_net *net, struct sim_pipe *pipe, uint8_t side, uint8_t more)
{
    struct sim_end *end = pipe->ends[side];
    if (end == NULL || ((more & FROM_AFAR) != 0 && is_cut(net, pipe, side))) return;
    enum io_close reason = (enum io_close)(more & ~FROM_AFAR);
    tell_closed(net, end, reason);
}

void sim_net_event(struct sim_net *net, const struct sim_event *event)
{
    struct sim_pipe *pipe = event->pipe;
    sim_fold(net->queue, (uint64_t)pipe->nodes[0] << 8 | pipe->nodes[1]);
    switch (event->kind) {
    case SIM_NET_SYN: net_syn(net, pipe); break;
    case SIM_NET_ACCEPTED: net_accepted(net, pipe); break;
    case SIM_NET_UP: net_up(net, pipe); break;
    case SIM_NET_FRAME: net_frame(net, pipe, event->aux, event->pointer); break;
    case SIM_NET_CLOSED: net_closed(net, pipe, event->aux, event->more); break;
    default: ASSERT(false);
    }
    pipe->refs--;
    pipe_collect(net, pipe);
}

int sim_net_told(const struct sim_net *net, const struct sim_event *event)
{
    const struct sim_end *end = event->pipe->ends[event->aux];
    if (event->kind == SIM_NET_SYN || end == NULL) return 0;
    bool travels = event->kind == SIM_NET_UP || event->kind == SIM_NET_FRAME || (event->more & FROM_AFAR) != 0;
    return travels && is_cut(net, event->pipe, event->aux) ? 0 : end->node;
}

void sim_net_drop(struct sim_net *net, const struct sim_event *event)
{
    if (event->kind == SIM_NET_FRAME) {
        struct sim_frame *frame = event->pointer;
        buf_free(&frame->bytes);
        mem_free(frame);
    }
    event->pipe->refs--;
    pipe_collect(net, event->pipe);
}

/* ---- crashes ---- */

void sim_net_crash(struct sim_net *net, int node)
{
    for (struct sim_pipe *pipe = net->pipes, *next; pipe != NULL; pipe = next) {
        next = pipe->next;
        for (int side = 0; side < 2; side++) {
            if (pipe->nodes[side] != node || pipe->ends[side] == NULL) continue;
            bool last = pipe->ends[1 - side] == NULL && pipe->refs == 0;
            /* A late end lets late frames of a dead process in, while its next life is up already. */
            struct prng *prng = &net->queue->prng;
            uint64_t late_us = prng_chance(prng, 300) ? prng_below(prng, CRASH_NEWS_MAX_US) : 0;
            end_close(net, pipe->ends[side], prng_chance(prng, 500) ? IO_CLOSE_RESET : IO_CLOSE_EOF, late_us);
            if (last) break; /* the pipe is freed */
        }
    }
    for (struct io_server *server = net->servers; server != NULL; server = server->next) {
        if (server->node == node) server->open = false;
    }
}

bool sim_net_quiet(const struct sim_net *net, int node)
{
    for (const struct sim_pipe *pipe = net->pipes; pipe != NULL; pipe = pipe->next) {
        for (int side = 0; side < 2; side++) {
            if (pipe->ends[side] != NULL && pipe->nodes[side] == node) return false;
        }
    }
    for (const struct io_server *server = net->servers; server != NULL; server = server->next) {
        if (server->open && server->node == node) return false;
    }
    return true;
}

/* What is on the way may arrive before they hear of it. */
void sim_net_reset(struct sim_net *net, int a, int b)
{
    for (struct sim_pipe *pipe = net->pipes; pipe != NULL; pipe = pipe->next) {
        bool between = (pipe->nodes[0] == a && pipe->nodes[1] == b) || (pipe->nodes[0] == b && pipe->nodes[1] == a);
        if (!between || pipe->broken) continue;
        pipe->broken = true;
        for (uint8_t side = 0; side < 2; side++) {
            if (pipe->ends[side] == NULL) continue;
            close_later(net, pipe, side, IO_CLOSE_RESET, 0, arrival_us(net, pipe, side));
        }
    }
}

void sim_net_free(struct sim_net *net)
{
    for (struct sim_pipe *pipe = net->pipes, *next; pipe != NULL; pipe = next) {
        next = pipe->next;
        for (int side = 0; side < 2; side++) {
            mem_free(pipe->ends[side]);
            pipe->ends[side] = NULL;
        }
        pipe_collect(net, pipe);
    }
    while (net->servers != NULL) {
        struct io_server *server = net->servers;
        net->servers = server->next;
        mem_free(server->address);
        mem_free(server);
    }
}
