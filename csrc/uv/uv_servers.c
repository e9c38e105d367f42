#include <errno.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "uv/uv_internal.h"

/* Listening is done on a socket of our own, not by uv_listen: that one reports an address in use only late,
 * and when descriptors run out it can call back for ever without letting the loop go on. */

#define BACKLOG           128
#define ACCEPTED_MAX      256 /* accepted links open at once; who comes after that is turned away */
#define ACCEPTS_PER_BURST 32  /* other links get their turn, too */
#define ACCEPT_PAUSE_MS   100 /* when the system cannot give us a descriptor */

struct io_server {
    struct uv_world *world;
    int fd;
    bool closed;            /* not listened on any more */
    struct io_server *next; /* to be closed */
    uv_poll_t poll;
    uv_timer_t pause;
    int handles; /* that libuv still holds */
};

static void on_readable(uv_poll_t *poll, int code, int events);

static void on_closed(uv_handle_t *handle)
{
    struct io_server *s = handle->data;
    if (--s->handles == 0) mem_free(s);
}

static void on_pause_over(uv_timer_t *pause)
{
    struct io_server *s = pause->data;
    if (!s->closed) uv_poll_start(&s->poll, UV_READABLE, on_readable);
}

/* Connections wait in the system's queue meanwhile; asking at once again would only burn the processor. */
static void server_pause(struct io_server *s)
{
    uv_poll_stop(&s->poll);
    uv_timer_start(&s->pause, on_pause_over, ACCEPT_PAUSE_MS, 0);
}

static void on_readable(uv_poll_t *poll, int code, int events)
{
    struct io_server *s = poll->data;
    struct uv_world *w = s->world;
    (void)events;
    world_enter(w);
    for (int i = 0; i < ACCEPTS_PER_BURST && !s->closed; i++) {
        int fd = code == 0 ? accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC) : -1;
        if (fd >= 0 && w->links_accepted < ACCEPTED_MAX) {
            links_accept(w, fd); /* may close this server */
        } else if (fd >= 0) {
            close(fd);
        } else if (code == 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return;
        } else if (code != 0 || (errno != ECONNABORTED && errno != EINTR)) {
            server_pause(s);
            return;
        }
    }
}

/* A bound and listening socket, or -1 and errno. */
static int open_socket(const struct sockaddr *where)
{
    int yes = 1, fd = socket(where->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    /* A restarted node gets its port back while connections of its former life linger. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
        bind(fd, where, (socklen_t)address_size(where)) == 0 && listen(fd, BACKLOG) == 0) {
        return fd;
    }
    int code = errno;
    close(fd);
    errno = code;
    return -1;
}

static const char *hint_of(int code)
{
    switch (code) {
    case EADDRINUSE: return "another program, or another node, listens there; stop it or choose another port";
    case EADDRNOTAVAIL: return "it is no address of this machine; set listen to one that is";
    case EACCES: return "this user may not use the port; choose one above 1023";
    default: return "check the address";
    }
}

static int cannot_listen(struct err *e, const char *address, int code)
{
    char reason[REASON_MAX];
    return err_set(e, ERR_ADDRESS, "cannot listen on %.150s: %s (%s)", address, world_reason(code, reason),
                   hint_of(code));
}

/* Blocks while the name is looked up: a node listens once, when it starts. The first address that can be
 * bound. */
static int open_named(const char *address, const struct uv_address *parsed, int *fd, struct err *e)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int code = getaddrinfo(parsed->host, parsed->port, &hints, &found);
    if (code != 0) {
        return err_set(e, ERR_ADDRESS, "cannot listen on %.200s: %s (check the name, or use a number)",
                       address, gai_strerror(code));
    }
    *fd = -1;
    for (struct addrinfo *a = found; a != NULL && *fd < 0; a = a->ai_next) *fd = open_socket(a->ai_addr);
    code = errno;
    freeaddrinfo(found);
    return *fd < 0 ? cannot_listen(e, address, code) : OK;
}

static int server_watch(struct uv_world *w, int fd, struct io_server **server, const char *address,
                        struct err *e)
{
    struct io_server *s = mem_zero(1, sizeof *s);
    if (s == NULL) return err_set(e, ERR_NOMEM, "out of memory to listen on %.200s", address);
    int code = uv_poll_init_socket(&w->loop, &s->poll, fd);
    if (code != 0) {
        mem_free(s);
        return cannot_listen(e, address, -code);
    }
    s->world = w;
    s->fd = fd;
    s->handles = 2;
    uv_timer_init(&w->loop, &s->pause);
    s->poll.data = s->pause.data = s;
    uv_poll_start(&s->poll, UV_READABLE, on_readable);
    w->servers++;
    *server = s;
    return OK;
}

int servers_listen(struct io *io, const char *address, struct io_server **server, struct err *e)
{
    struct uv_address parsed;
    int fd = -1;
    ASSERT(!world_of(io)->visited);
    if (address_parse(address, &parsed, e) != OK) return e->code;
    if (parsed.numeric) {
        fd = open_socket((const struct sockaddr *)&parsed.where);
        if (fd < 0) return cannot_listen(e, address, errno);
    } else if (open_named(address, &parsed, &fd, e) != OK) {
        return e->code;
    }
    if (server_watch(world_of(io), fd, server, address, e) == OK) return OK;
    close(fd);
    return e->code;
}

void servers_unlisten(struct io *io, struct io_server *s)
{
    struct uv_world *w = world_of(io);
    ASSERT(s->world == w && !s->closed && w->servers > 0);
    w->servers--;
    s->closed = true;
    shutdown(s->fd, SHUT_RDWR); /* nobody gets in from now on */
    s->next = w->closing;
    w->closing = s;
}

void servers_close(struct uv_world *w)
{
    while (w->closing != NULL) {
        struct io_server *s = w->closing;
        w->closing = s->next;
        uv_close((uv_handle_t *)&s->poll, on_closed);
        uv_close((uv_handle_t *)&s->pause, on_closed);
        close(s->fd);
    }
}
