/* How a new node gets into a cluster that runs (dissertation 4.2.1): it asks any member, is sent on to the leader, and
 * asks until the configuration that has it as a learner is committed. Then it has an id, and its directory can be made.
 * Asking twice does no harm: it is known by its address. */
#include "server/engine_state.h"

#include <stdio.h>

#define ASK_AGAIN_US (100 * US_PER_MS)

/* ---- the one that asks ---- */

static void ask_next(struct engine *e, uint64_t after_us)
{
    struct joining *j = &e->joining;
    if (j->link != NULL) io_link_close(e->io, j->link);
    j->link = NULL;
    frame_reader_free(&j->reader);
    j->at_us = io_now(e->io) + after_us;
    io_alarm(e->io, j->at_us);
}

static void ask_another(struct engine *e)
{
    struct joining *j = &e->joining;
    j->next = (uint8_t)((j->next + 1) % e->config.n_join);
    snprintf(j->address, sizeof j->address, "%s", e->config.join[j->next]);
    ask_next(e, ASK_AGAIN_US);
}

void joining_begin(struct engine *e)
{
    struct joining *j = &e->joining;
    *j = (struct joining){.next = 0};
    snprintf(j->address, sizeof j->address, "%s", e->config.join[0]);
    e->phase = ENGINE_JOINING;
    ask_next(e, 0);
}

void joining_alarm(struct engine *e)
{
    struct joining *j = &e->joining;
    struct err ignored;
    if (io_now(e->io) < j->at_us) {
        io_alarm(e->io, j->at_us);
        return;
    }
    if (j->link != NULL || io_connect(e->io, j->address, &j->link, &ignored) != OK) {
        ask_another(e); /* no answer in time, or it cannot be dialled */
        return;
    }
    j->link->user = NULL;
    frame_reader_init(&j->reader);
    j->at_us = io_now(e->io) + e->config.election_timeout_us;
    io_alarm(e->io, j->at_us);
}

void joining_connected(struct engine *e)
{
    struct join ask = {.name = ""};
    struct buf frame = {0};
    snprintf(ask.name, sizeof ask.name, "%s", e->name);
    snprintf(ask.address, sizeof ask.address, "%s", e->listen);
    if (join_write(&frame, LINKS_GROUP, &ask)) io_send(e->io, e->joining.link, &frame);
}

static void on_joined(struct engine *e, const struct joined *told)
{
    struct joining *j = &e->joining;
    if (told->code == OK) {
        j->joined = *told;
        ask_next(e, 0); /* hangs up */
        start_joined(e);
    } else if (told->leader[0] != '\0') {
        snprintf(j->address, sizeof j->address, "%s", told->leader);
        ask_next(e, told->code == ERR_NOT_LEADER ? 0 : ASK_AGAIN_US);
    } else {
        ask_another(e);
    }
}

void joining_received(struct engine *e, const uint8_t *data, size_t size)
{
    struct joining *j = &e->joining;
    struct frame f;
    struct err ignored;
    struct joined told;
    int more = frame_reader_next(&j->reader, &data, &size, &f, &ignored);
    if (more == 0) return;
    if (more == 1 && f.type == FRAME_JOINED && joined_read(&f, &told, &ignored) == OK) on_joined(e, &told);
    else ask_another(e);
}

void joining_closed(struct engine *e)
{
    e->joining.link = NULL;
    ask_another(e);
}

void joining_end(struct engine *e)
{
    if (e->joining.link != NULL) io_link_close(e->io, e->joining.link);
    e->joining.link = NULL;
    frame_reader_free(&e->joining.reader);
}

/* ---- the one that is asked ---- */

static const struct member *find_address(const struct conf *conf, const char *address)
{
    for (uint8_t i = 0; i < conf->members.count; i++) {
        if (strcmp(conf->members.list[i].address, address) == 0) return &conf->members.list[i];
    }
    return NULL;
}

/* The leader's word: a place that is committed, one that is asked for now, or not yet. */
static int give_place(struct engine *e, const struct join *j, const struct raft_status *status, raft_id *id)
{
    const struct member *there = find_address(&confs_at(&e->confs, status->commit)->conf, j->address);
    if (there != NULL) {
        *id = there->id;
        /* One that has been here before is another node at that address. */
        return changes_is_voter(e, there->id) || store_peer(e->store, there->id) != 0 ? ERR_ALREADY : OK;
    }
    struct ask_what what = {.kind = ASK_CHANGE, .n = 1, .changes = {{.op = RAFT_ADD}}};
    struct answer answer = {0};
    raft_term term;
    memcpy(what.changes[0].address, j->address, sizeof what.changes[0].address);
    int rv = changes_make(e, &what, &answer, &term);
    return rv == OK || rv == ERR_ALREADY ? ERR_BUSY : rv; /* it asks again when that may be committed */
}

bool joining_answer(struct engine *e, const struct join *j, struct joined *answer)
{
    struct raft_status status;
    *answer = (struct joined){.code = ERR_NOT_LEADER};
    if (e->phase != ENGINE_RUNNING || strcmp(j->name, e->identity.name) != 0) return false;
    raft_status_get(e->raft, &status);
    const struct member *leader = status.leader != 0 ? members_find(&e->members, status.leader) : NULL;
    if (leader != NULL) snprintf(answer->leader, sizeof answer->leader, "%s", leader->address);
    if (status.role != RAFT_LEADER) return true;
    answer->code = give_place(e, j, &status, &answer->id);
    memcpy(answer->cluster, e->identity.cluster, sizeof answer->cluster);
    snprintf(answer->list, sizeof answer->list, "%s", e->identity.list);
    return true;
}
