/* A voter that has lost its directory, or came back with an older copy of it, may have forgotten a vote and entries
 * that it acknowledged. It has no vote until the cluster has admitted it anew (wire/conf.h says why that is safe):
 *
 *   it says so in its hellos, and withholds its votes
 *   the leader makes it a learner, by a configuration that names its new directory
 *   it is refilled, by entries or a snapshot, as any learner
 *   the leader gives it its vote back when it has caught up, by one more configuration
 *   it has both of them in its log, and knows from the second one that it votes again
 *
 * The others decide by their majority meanwhile. Where they have none without the lost vote nobody can lead, nobody can
 * be admitted, and nothing short of the old directory or an act of force (store/recover.h) can help: it is told so. */
#include "server/engine_state.h"

#include <stdio.h>

/* ---- on the leader ---- */

static struct returning *find(struct engine *e, raft_id id)
{
    for (size_t i = 0; i < e->n_returning; i++) {
        if (e->returning[i].id == id) return &e->returning[i];
    }
    return NULL;
}

static void forget(struct engine *e, struct returning *r)
{
    *r = e->returning[--e->n_returning];
}

void readmission_note(struct engine *e, raft_id id, uint64_t incarnation)
{
    struct returning *r = find(e, id);
    if (r == NULL && incarnation != 0 && e->n_returning < COUNT_OF(e->returning)) r = &e->returning[e->n_returning++];
    if (r == NULL) return;
    *r = (struct returning){id, incarnation};
    if (incarnation == 0) forget(e, r);
}

/* Takes its vote, if it has one, and names its directory. */
static void name_directory(struct engine *e, const struct member *member, uint64_t incarnation)
{
    bool voter = changes_is_voter(e, member->id);
    struct member named = *member;
    named.incarnation = incarnation;
    named.returns = voter || member->returns;
    changes_readmit(e, voter ? RAFT_DEMOTE : RAFT_MOVE, &named);
}

/* One change at a time: the next one when this one is done. */
static bool name_next(struct engine *e, const struct conf *conf)
{
    for (size_t i = 0; i < e->n_returning; i++) {
        struct returning r = e->returning[i];
        const struct member *member = members_find(&conf->members, r.id);
        if (member == NULL || member->incarnation == r.incarnation) {
            forget(e, &e->returning[i--]); /* it is gone, or named */
            continue;
        }
        name_directory(e, member, r.incarnation);
        return true;
    }
    return false;
}

/* To the directory that has caught up, and no other: not for what the one before had confirmed. */
static void give_vote_back(struct engine *e, const struct conf *conf)
{
    for (uint8_t i = 0; i < conf->members.count; i++) {
        const struct member *member = &conf->members.list[i];
        struct raft_peer_status peer;
        if (!member->returns || store_peer(e->store, member->id) != member->incarnation) continue;
        if (!raft_peer_status_get(e->raft, member->id, &peer) || !peer.caught_up) continue;
        changes_readmit(e, RAFT_PROMOTE, member);
        return;
    }
}

/* ---- on the one that comes back ---- */

static bool names(const struct engine *e, const struct conf *conf)
{
    const struct member *me = members_find(&conf->members, e->identity.node);
    return me != NULL && me->incarnation == e->identity.incarnation;
}

bool readmission_withholds(const struct engine *e, const struct conf *conf)
{
    const struct member *me = members_find(&conf->members, e->identity.node);
    if (conf->raft.founding) return false; /* all have to agree: there is nothing that all could have forgotten */
    if (e->disowned) return true;          /* not another one yet */
    if (e->rejoining) return !names(e, conf);
    return me != NULL && me->incarnation != 0 && me->incarnation != e->identity.incarnation &&
           conf_is_voter(&conf->raft, me->id);
}

static void on_rejoined(void *ctx, int status)
{
    struct engine *e = ctx;
    e->renaming = false;
    if (status != OK || e->phase != ENGINE_RUNNING) return; /* the mark is still there: tried again */
    e->rejoining = false;
    e->news = true;
    links_rejoin(e->links, false, false);
}

static void follow_conf(struct engine *e, const struct raft_status *status)
{
    const struct conf *latest = &confs_at(&e->confs, status->last)->conf;
    const struct conf *committed = &confs_at(&e->confs, status->commit)->conf;
    bool withhold = readmission_withholds(e, latest);
    if (withhold != status->withheld) raft_withhold(e->raft, withhold, io_now(e->io));
    bool voter = names(e, latest) && conf_is_voter(&latest->raft, e->identity.node);
    links_name(e->links, voter ? e->conf_index : 0);
    if (!e->rejoining || e->renaming || !names(e, committed)) return;
    if (members_find(&committed->members, e->identity.node)->returns) return; /* it will be given its vote */
    e->renaming = true;
    store_rejoined(e->store, on_rejoined, e);
}

static void on_renamed(void *ctx, int status)
{
    struct engine *e = ctx;
    e->renaming = false;
    if (status != OK || e->phase != ENGINE_RUNNING) return; /* it is disowned still, and will be told so again */
    e->identity.incarnation = store_incarnation(e->store);
    e->disowned = false;
    e->rejoining = true;
    e->news = true;
    links_rejoin(e->links, true, true);
}

void readmission_disowned(struct engine *e, int code)
{
    /* An older copy may have forgotten what it promised, and may be counted on by those that do not know: it is silent
     * from now on, if it is to rejoin or not. Another directory nobody counts on. */
    if (code != ERR_ROLLED_BACK && !e->config.rejoin) return;
    if (e->rejoining || e->renaming) return;
    e->disowned = e->news = true;
    if (!e->config.rejoin) return;
    e->renaming = true;
    store_rejoin(e->store, on_renamed, e);
}

/* ---- both ---- */

void readmission_follow(struct engine *e)
{
    struct raft_status status;
    if (!e->rejoining && !e->disowned && e->n_returning == 0 && !e->conf_news && !e->conf_returns) return;
    e->conf_news = false;
    raft_status_get(e->raft, &status);
    const struct conf *conf = &confs_at(&e->confs, status.last)->conf;
    follow_conf(e, &status);
    if (status.role != RAFT_LEADER || !status.ready || status.changing || status.transfer != 0) return;
    if (!name_next(e, conf)) give_vote_back(e, conf);
}

void readmission_outlook(const struct engine *e, raft_id id, bool rejoining, char *text, size_t size)
{
    struct raft_status status;
    raft_status_get(e->raft, &status);
    if (!rejoining) {
        snprintf(text, size, "restart it with repair = \"rejoin\", or give it its last directory");
    } else if (status.role == RAFT_LEADER) {
        snprintf(text, size, "it is refilled and gets its vote back when %s",
                 status.changing ? "the present change of members is done" : "it has caught up");
    } else if (status.leader != 0) {
        snprintf(text, size, "the leader, member %" PRIu64 ", will admit it anew", status.leader);
    } else {
        snprintf(text, size, "nobody leads who could admit it anew, and none can without a majority of the voters' "
                 "directories, of which member %" PRIu64 "'s is lost", id);
    }
}
