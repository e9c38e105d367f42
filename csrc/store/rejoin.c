#include "store/rejoin.h"

#include <stdio.h>

#include "base/mem.h"
#include "store/internal.h"
#include "store/smallfile.h"

#define SET_ASIDE "set-aside-"

int rejoin_read(struct io *io, const char *dir, struct rejoin *out, struct err *e)
{
    struct buf body;
    *out = (struct rejoin){0};
    int status = smallfile_read(io, dir, SMALLFILE_REJOIN, &body, e);
    if (status == ERR_NOENT) return OK;
    struct reader r = {.data = body.data, .size = body.size};
    if (status == OK) {
        out->step = reader_u64(&r);
        out->number = reader_u64(&r);
        bool sane = identity_decode(&r, &out->identity) && (out->step == REJOIN_MOVING || out->step == REJOIN_MOVED);
        if (!sane) status = err_set(e, ERR_CORRUPT, "%s/rejoin: damaged: its fields make no sense", dir);
    }
    buf_free(&body);
    return status;
}

int rejoin_write(struct io *io, const char *dir, const struct rejoin *rejoin, struct err *e)
{
    uint8_t body[16 + IDENTITY_BYTES];
    put_u64(body, rejoin->step);
    put_u64(body + 8, rejoin->number);
    size_t size = identity_encode(body + 16, &rejoin->identity);
    return smallfile_write(io, dir, SMALLFILE_REJOIN, body, 16 + size, e);
}

void rejoin_set_aside_name(char *out, uint64_t number)
{
    snprintf(out, STORE_SET_ASIDE_MAX, SET_ASIDE "%" PRIu64, number);
}

bool rejoin_is_set_aside(const char *name)
{
    return strncmp(name, SET_ASIDE, strlen(SET_ASIDE)) == 0;
}

static bool moves(const char *name, bool peers_too)
{
    static const char *const stay[] = {"lock", "rejoin", "lost+found"};
    for (size_t i = 0; i < COUNT_OF(stay); i++) {
        if (strcmp(name, stay[i]) == 0) return false;
    }
    return !rejoin_is_set_aside(name) && (peers_too || strcmp(name, "peers") != 0);
}

int rejoin_move(struct io *io, const char *dir, const struct rejoin *rejoin, bool peers_too, struct err *e)
{
    char aside[FORMAT_PATH_MAX], from[FORMAT_PATH_MAX], to[FORMAT_PATH_MAX], name[STORE_SET_ASIDE_MAX];
    struct io_names names = {0};
    rejoin_set_aside_name(name, rejoin->number);
    format_path(aside, dir, name);
    int status = io_make_dir(io, aside, e);
    if (status == OK) status = io_list(io, dir, &names, e);
    for (size_t i = 0; i < names.count && status == OK; i++) {
        if (!moves(names.names[i], peers_too) || strlen(names.names[i]) + strlen(aside) + 2 > sizeof to) continue;
        format_path(from, dir, names.names[i]);
        format_path(to, aside, names.names[i]);
        status = io_rename(io, from, to, e);
    }
    io_names_free(&names);
    if (status == OK) status = io_sync_dir(io, aside, e);
    return status == OK ? io_sync_dir(io, dir, e) : status;
}

/* ---- from now on another one ---- */

static void rejoin_work(struct io_job *job)
{
    struct store *s = CONTAINER_OF(job, struct store, rejoin.job);
    struct rejoin *r = &s->rejoin;
    struct rejoin mark = {.step = REJOIN_MOVED, .number = r->number, .identity = r->identity};
    r->status = rejoin_write(s->io, s->dir, &mark, &r->error);
    if (r->status == OK) r->status = identity_write(s->io, s->dir, &r->identity, &r->error);
}

static void end_job(struct store *s)
{
    s->rejoin.busy = false;
    if (!s->closing) s->rejoin.done(s->rejoin.ctx, s->rejoin.status);
    store_settle(s);
}

static void rejoin_done(struct io_job *job)
{
    struct store *s = CONTAINER_OF(job, struct store, rejoin.job);
    if (s->rejoin.status == OK) {
        s->rejoin.step = REJOIN_MOVED;
        s->identity = s->rejoin.identity;
    }
    end_job(s);
}

static void start_job(struct store *s, void (*work)(struct io_job *), void (*finish)(struct io_job *),
                      void (*done)(void *ctx, int status), void *ctx)
{
    s->rejoin.busy = true;
    s->rejoin.done = done;
    s->rejoin.ctx = ctx;
    s->rejoin.job.work = work;
    s->rejoin.job.done = finish;
    io_submit(s->io, IO_LANE_DISK, &s->rejoin.job);
}

void store_rejoin(struct store *s, void (*done)(void *ctx, int status), void *ctx)
{
    ASSERT(!s->closing && s->rejoin.step == 0 && !s->rejoin.busy);
    s->rejoin.identity = s->identity;
    s->rejoin.identity.incarnation = identity_draw_incarnation(s->io);
    start_job(s, rejoin_work, rejoin_done, done, ctx);
}

uint64_t store_incarnation(const struct store *s)
{
    return s->identity.incarnation;
}

/* ---- admitted anew ---- */

static void rejoined_work(struct io_job *job)
{
    struct store *s = CONTAINER_OF(job, struct store, rejoin.job);
    char path[FORMAT_PATH_MAX];
    struct err *e = &s->rejoin.error;
    format_path(path, s->dir, "rejoin");
    s->rejoin.status = io_remove(s->io, path, e);
    if (s->rejoin.status == ERR_NOENT) s->rejoin.status = OK; /* an earlier attempt was half successful */
    if (s->rejoin.status == OK) s->rejoin.status = io_sync_dir(s->io, s->dir, e);
}

static void rejoined_done(struct io_job *job)
{
    struct store *s = CONTAINER_OF(job, struct store, rejoin.job);
    if (s->rejoin.status == OK) s->rejoin.step = 0;
    end_job(s);
}

void store_rejoined(struct store *s, void (*done)(void *ctx, int status), void *ctx)
{
    ASSERT(!s->closing && s->rejoin.step != 0 && !s->rejoin.busy);
    start_job(s, rejoined_work, rejoined_done, done, ctx);
}
