#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "uv/uv_internal.h"

#define WRITE_FRAMES_MAX 64 /* frames one write gathers */

enum link_state {
    LINK_NEW,        /* to connect at the end of this burst, so that no event comes from inside io_connect */
    LINK_CONNECTING, /* resolving the name, or trying one address after the other */
    LINK_UP,
    LINK_DOWN, /* closed at the end of this burst; freed once libuv has let go of it */
};

struct uv_link {
    struct io_link link;
    struct uv_world *world;
    enum link_state state;
    bool accepted;

    /* connecting */
    struct uv_address address;
    bool resolving, refused;
    uv_getaddrinfo_t resolve;
    struct addrinfo *found, *next; /* what the resolver gave; the one to try after this one */
    uv_connect_t connect;
    uv_tcp_t tcp;
    bool tcp_open; /* libuv has it: initialised, and not closed completely */
    uv_os_fd_t fd; /* its own, once it is up: what visitors write to */

    /* writing: frames[first .. first + count - 1], of which the first `writing` are in libuv's hands */
    struct buf *frames;
    size_t first, count, capacity, writing;
    size_t sent;    /* bytes of the first frame that have left */
    size_t waiting, handed; /* bytes that have not left: here, and in libuv's hands */
    uv_write_t write;
    bool todo; /* in the world's list */
    struct uv_link *todo_before, *todo_after;
};

static struct uv_link *link_of(struct io_link *link)
{
    return CONTAINER_OF(link, struct uv_link, link);
}

/* ---- the list of links to look at when the burst ends ---- */

static void todo_add(struct uv_link *l)
{
    struct uv_world *w = l->world;
    if (l->todo) return;
    l->todo = true;
    l->todo_before = w->todo_last;
    l->todo_after = NULL;
    *(w->todo_last != NULL ? &w->todo_last->todo_after : &w->todo_first) = l;
    w->todo_last = l;
}

static void todo_remove(struct uv_link *l)
{
    struct uv_world *w = l->world;
    if (!l->todo) return;
    l->todo = false;
    *(l->todo_before != NULL ? &l->todo_before->todo_after : &w->todo_first) = l->todo_after;
    *(l->todo_after != NULL ? &l->todo_after->todo_before : &w->todo_last) = l->todo_before;
}

/* ---- life and death ---- */

static struct uv_link *link_new(struct uv_world *w)
{
    struct uv_link *l = mem_zero(1, sizeof *l);
    if (l == NULL) return NULL;
    l->world = w;
    l->tcp.data = l->resolve.data = l->connect.data = l->write.data = l;
    w->links++;
    return l;
}

/* libuv may hold the struct in two ways, and the list of what is to do until this burst ends; whoever lets go last
 * frees it. */
static void link_free_if_unused(struct uv_link *l)
{
    if (l->state != LINK_DOWN || l->tcp_open || l->resolving || l->todo) return;
    for (size_t i = 0; i < l->count; i++) buf_free(&l->frames[l->first + i]);
    mem_free(l->frames);
    uv_freeaddrinfo(l->found);
    mem_free(l);
}

static void on_closed(uv_handle_t *tcp)
{
    struct uv_link *l = tcp->data;
    l->tcp_open = false;
    link_free_if_unused(l);
}

static void tcp_init(struct uv_link *l)
{
    uv_tcp_init(&l->world->loop, &l->tcp);
    l->tcp_open = true;
}

static void link_shut(struct uv_link *l)
{
    struct uv_world *w = l->world;
    ASSERT(l->state != LINK_DOWN && w->links > 0);
    l->state = LINK_DOWN;
    todo_add(l);
    w->links--;
    if (l->accepted) w->links_accepted--;
}

static void link_release(struct uv_link *l)
{
    if (l->resolving) uv_cancel((uv_req_t *)&l->resolve);
    if (!l->tcp_open) link_free_if_unused(l);
    else if (!uv_is_closing((uv_handle_t *)&l->tcp)) uv_close((uv_handle_t *)&l->tcp, on_closed);
}

static void link_down(struct uv_link *l, enum io_close reason)
{
    struct uv_world *w = l->world;
    link_shut(l);
    w->dirty = true;
    w->io.events->closed(w->io.engine, &l->link, reason);
}

void links_close(struct io *io, struct io_link *link)
{
    struct uv_link *l = link_of(link);
    ASSERT(l->world == world_of(io));
    if (l->state != LINK_DOWN) link_shut(l); /* down: called from inside its closed() */
}

/* ---- receiving ---- */

static void on_alloc(uv_handle_t *tcp, size_t size, uv_buf_t *buf)
{
    (void)size;
    struct uv_link *l = tcp->data;
    *buf = uv_buf_init((char *)l->world->read_buffer, UV_READ_BUFFER_BYTES);
}

static void on_read(uv_stream_t *tcp, ssize_t got, const uv_buf_t *buf)
{
    struct uv_link *l = tcp->data;
    struct uv_world *w = l->world;
    world_enter(w);
    if (l->state != LINK_UP || got == 0) return;
    if (got < 0) {
        link_down(l, got == UV_EOF ? IO_CLOSE_EOF : IO_CLOSE_RESET);
        return;
    }
    w->dirty = true;
    w->io.events->received(w->io.engine, &l->link, (const uint8_t *)buf->base, (size_t)got);
}

/* After connected() or accepted(), in which the engine may have closed the link. */
static void link_read(struct uv_link *l)
{
    if (l->state != LINK_UP) return;
    if (uv_read_start((uv_stream_t *)&l->tcp, on_alloc, on_read) != 0) link_down(l, IO_CLOSE_RESET);
}

/* ---- connecting ---- */

static void link_try(struct uv_link *l, const struct sockaddr *where);

static void on_closed_before_next(uv_handle_t *tcp)
{
    struct uv_link *l = tcp->data;
    if (l->state == LINK_DOWN) {
        on_closed(tcp);
        return;
    }
    struct addrinfo *now = l->next;
    l->next = now->ai_next;
    tcp_init(l);
    link_try(l, now->ai_addr);
}

/* One address did not work. A handle connects only once: the next address gets a new one in its place. */
static void link_try_failed(struct uv_link *l, int code)
{
    l->refused = l->refused || code == UV_ECONNREFUSED;
    if (l->next != NULL) {
        uv_close((uv_handle_t *)&l->tcp, on_closed_before_next);
        return;
    }
    link_down(l, l->refused ? IO_CLOSE_REFUSED : IO_CLOSE_UNREACHABLE);
}

/* On one machine, a socket that connects to a free port of the ephemeral range may get that very port as its
 * own and meet itself (TCP's simultaneous open). Nobody listens there, then. */
static bool met_itself(const uv_tcp_t *tcp)
{
    struct sockaddr_storage here = {0}, there = {0};
    int here_size = sizeof here, there_size = sizeof there;
    return uv_tcp_getsockname(tcp, (struct sockaddr *)&here, &here_size) == 0 &&
           uv_tcp_getpeername(tcp, (struct sockaddr *)&there, &there_size) == 0 && here_size == there_size &&
           memcmp(&here, &there, (size_t)here_size) == 0;
}

static void link_up(struct uv_link *l)
{
    l->state = LINK_UP;
    uv_fileno((uv_handle_t *)&l->tcp, &l->fd);
    uv_tcp_nodelay(&l->tcp, 1);
    l->world->dirty = true;
}

static void on_connected(uv_connect_t *connect, int code)
{
    struct uv_link *l = connect->data;
    struct uv_world *w = l->world;
    world_enter(w);
    if (l->state != LINK_CONNECTING) return;
    if (code == 0 && met_itself(&l->tcp)) code = UV_ECONNREFUSED;
    if (code != 0) {
        link_try_failed(l, code);
        return;
    }
    link_up(l);
    w->io.events->connected(w->io.engine, &l->link);
    link_read(l);
}

static void link_try(struct uv_link *l, const struct sockaddr *where)
{
    int code = uv_tcp_connect(&l->connect, &l->tcp, where, on_connected);
    if (code != 0) link_try_failed(l, code);
}

static void on_resolved(uv_getaddrinfo_t *resolve, int code, struct addrinfo *found)
{
    struct uv_link *l = resolve->data;
    world_enter(l->world);
    l->resolving = false;
    l->found = found;
    if (l->state == LINK_DOWN) {
        link_free_if_unused(l);
    } else if (code != 0 || found == NULL) {
        link_down(l, IO_CLOSE_UNREACHABLE);
    } else {
        l->next = found->ai_next;
        link_try(l, found->ai_addr);
    }
}

static void link_connect(struct uv_link *l)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    l->state = LINK_CONNECTING;
    tcp_init(l);
    if (l->address.numeric) {
        link_try(l, (const struct sockaddr *)&l->address.where);
        return;
    }
    int code =
        uv_getaddrinfo(&l->world->loop, &l->resolve, on_resolved, l->address.host, l->address.port, &hints);
    l->resolving = code == 0;
    if (code != 0) link_down(l, IO_CLOSE_UNREACHABLE);
}

int links_connect(struct io *io, const char *address, struct io_link **link, struct err *e)
{
    struct uv_address parsed;
    if (address_parse(address, &parsed, e) != OK) return e->code;
    struct uv_link *l = link_new(world_of(io));
    if (l == NULL) return err_set(e, ERR_NOMEM, "out of memory for a connection to %.200s", address);
    l->address = parsed;
    todo_add(l);
    *link = &l->link;
    return OK;
}

void links_accept(struct uv_world *w, int fd)
{
    struct uv_link *l = link_new(w);
    if (l == NULL) {
        close(fd);
        return;
    }
    l->accepted = true;
    tcp_init(l);
    w->links_accepted++;
    if (uv_tcp_open(&l->tcp, fd) != 0) {
        close(fd);
        link_shut(l);
        return;
    }
    link_up(l);
    w->io.events->accepted(w->io.engine, &l->link);
    link_read(l);
}

/* ---- sending ---- */

static bool frames_push(struct uv_link *l, struct buf frame)
{
    if (l->first > 0 && l->first >= l->capacity / 2) {
        memmove(l->frames, l->frames + l->first, l->count * sizeof *l->frames);
        l->first = 0;
    }
    if (!mem_grow((void **)&l->frames, &l->capacity, l->first + l->count + 1, sizeof *l->frames))
        return false;
    l->frames[l->first + l->count++] = frame;
    return true;
}

struct buf links_buffer(struct io *io)
{
    struct uv_world *w = world_of(io);
    return w->n_buffers > 0 ? w->buffers[--w->n_buffers] : (struct buf){0};
}

static void buffer_give_back(struct uv_world *w, struct buf *buffer)
{
    if (w->n_buffers == UV_BUFFERS || buffer->capacity > UV_BUFFER_BYTES) {
        buf_free(buffer);
        return;
    }
    buffer->size = 0;
    w->buffers[w->n_buffers++] = *buffer;
}

/* Gives back what these bytes, which have left, complete. */
static void frames_drop(struct uv_link *l, size_t bytes)
{
    l->sent += bytes;
    while (l->count > 0 && l->sent >= l->frames[l->first].size) {
        l->sent -= l->frames[l->first].size;
        buffer_give_back(l->world, &l->frames[l->first]);
        l->first++;
        l->count--;
    }
    if (l->count == 0) l->first = 0;
    ASSERT(l->count > 0 || l->sent == 0);
}

static unsigned frames_gather(const struct uv_link *l, uv_buf_t bufs[WRITE_FRAMES_MAX], size_t *bytes)
{
    unsigned n = 0;
    *bytes = 0;
    for (; n < WRITE_FRAMES_MAX && n < l->count; n++) {
        const struct buf *frame = &l->frames[l->first + n];
        size_t skip = n == 0 ? l->sent : 0;
        bufs[n] = uv_buf_init((char *)frame->data + skip, (unsigned)(frame->size - skip));
        *bytes += bufs[n].len;
    }
    return n;
}

static void on_written(uv_write_t *write, int code)
{
    struct uv_link *l = write->data;
    world_enter(l->world);
    if (l->state != LINK_UP) return;
    if (code != 0) {
        link_down(l, IO_CLOSE_RESET);
        return;
    }
    size_t bytes = 0;
    for (size_t i = 0; i < l->writing; i++) bytes += l->frames[l->first + i].size;
    l->writing = l->handed = 0;
    frames_drop(l, bytes - l->sent);
    if (l->count > 0) todo_add(l);
}

/* The system takes no more for now: libuv goes on when it does. */
static void link_write_later(struct uv_link *l)
{
    uv_buf_t bufs[WRITE_FRAMES_MAX];
    size_t bytes;
    unsigned n = frames_gather(l, bufs, &bytes);
    if (uv_write(&l->write, (uv_stream_t *)&l->tcp, bufs, n, on_written) != 0) {
        link_down(l, IO_CLOSE_RESET);
        return;
    }
    l->writing = n;
    l->waiting -= bytes;
    l->handed = bytes;
}

/* Writes what the system takes at once: *left of *bytes. An errno, or 0. Not uv_try_write: the handle is the engine's
 * thread's, and this may be a visitor. */
static int write_now(struct uv_link *l, size_t *bytes, size_t *left)
{
    uv_buf_t bufs[WRITE_FRAMES_MAX];
    struct msghdr m = {.msg_iov = (struct iovec *)bufs, .msg_iovlen = frames_gather(l, bufs, bytes)};
    ssize_t wrote;
    do wrote = sendmsg(l->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (wrote < 0 && errno == EINTR);
    *left = wrote < 0 ? 0 : (size_t)wrote;
    l->waiting -= *left;
    frames_drop(l, *left);
    return wrote < 0 && errno != EAGAIN && errno != EWOULDBLOCK ? errno : 0;
}

static void link_write(struct uv_link *l)
{
    while (l->count > 0 && l->writing == 0) {
        size_t bytes, left;
        if (write_now(l, &bytes, &left) != 0) {
            link_down(l, IO_CLOSE_RESET);
            return;
        }
        if (left < bytes) {
            link_write_later(l);
            return;
        }
    }
}

int links_send(struct io *io, struct io_link *link, struct buf *frame)
{
    struct uv_link *l = link_of(link);
    struct buf taken = *frame;
    ASSERT(l->world == world_of(io) && l->state == LINK_UP && taken.size <= UINT32_MAX);
    *frame = (struct buf){0};
    if (taken.size == 0 || !frames_push(l, taken)) {
        int code = taken.size == 0 ? OK : ERR_NOMEM;
        buf_free(&taken);
        return code;
    }
    l->waiting += taken.size;
    todo_add(l);
    return OK;
}

size_t links_queued(struct io *io, struct io_link *link)
{
    struct uv_link *l = link_of(link);
    ASSERT(l->world == world_of(io));
    return l->waiting + l->handed;
}

void links_flush_all(struct uv_world *w)
{
    while (w->todo_first != NULL) {
        struct uv_link *l = w->todo_first;
        todo_remove(l);
        if (l->state == LINK_NEW) link_connect(l);
        else if (l->state == LINK_DOWN) link_release(l);
        else link_write(l);
    }
}

/* What does not leave at once, or breaks, stays in the list. */
void links_flush_visited(struct uv_world *w)
{
    for (struct uv_link *l = w->todo_first, *next; l != NULL; l = next) {
        size_t bytes = 0, left = 0;
        bool all = l->state == LINK_UP;
        next = l->todo_after;
        while (all && l->count > 0 && l->writing == 0) all = write_now(l, &bytes, &left) == 0 && left == bytes;
        if (all) todo_remove(l);
    }
}
