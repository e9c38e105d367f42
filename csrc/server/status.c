/* The status of a node, for its host. */
#include "server/engine_state.h"

#include <stdio.h>

#define PUBLISH_EVERY_US (50 * US_PER_MS)
#define PUBLISH_IDLE_US US_PER_S /* when nothing moves but the times of the last contact */

static const char *disk_state(const struct engine *e, const struct store_status *store)
{
    if (store->failed) return "failed";
    if (!store->has_room) return "full";
    return e->disk_stall.since_us != 0 ? "slow" : "ok";
}

static void fill_members(const struct engine *e, struct server_status *out)
{
    out->n_members = e->members.count;
    for (uint8_t i = 0; i < e->members.count; i++) {
        const struct member *member = &e->members.list[i];
        struct member_status *m = &out->members[i];
        bool self = member->id == e->identity.node;
        struct raft_peer_status peer;
        *m = (struct member_status){.id = member->id, .connected = self, .learner = !changes_is_voter(e, member->id)};
        memcpy(m->address, member->address, sizeof m->address);
        if (e->links != NULL && !self) {
            m->connected = links_is_up(e->links, member->id);
            snprintf(m->down, sizeof m->down, "%s", links_down_reason(e->links, member->id));
        }
        if (!raft_peer_status_get(e->raft, member->id, &peer)) continue;
        m->state = peer.state;
        m->caught_up = peer.caught_up;
        m->match = peer.match;
        m->rtt_us = peer.rtt_us;
        m->contact_us = peer.contact_us;
    }
}

static enum server_phase phase_of(const struct engine *e)
{
    if (e->phase == ENGINE_FAILED) return SERVER_FAILED;
    return e->phase == ENGINE_RUNNING ? SERVER_RUNNING : SERVER_CLOSED;
}

/* A leader is known, and this node knows of an entry of its term that is committed: what this node applies from now on
 * is the present. */
static bool is_ready(const struct engine *e, const struct raft_status *raft)
{
    raft_term term;
    return e->phase == ENGINE_RUNNING && raft->leader != 0 && raft_term_at(e->raft, raft->commit, &term) &&
           term == raft->term;
}

/* A member has said so, or the configuration does that is committed: its id was given before, and is not in it. (One
 * that is on its way in finds its own id in a configuration later than those that it reads first.) */
static bool is_removed(const struct engine *e, const struct raft_status *raft)
{
    const struct conf *conf = &confs_at(&e->confs, raft->commit)->conf;
    return raft->removed || (raft->id < conf->next_id && members_find(&conf->members, raft->id) == NULL);
}

static void fill(const struct engine *e, const struct raft_status *raft, struct server_status *out)
{
    struct store_status store;
    store_status_get(e->store, &store);
    *out = (struct server_status){
        .phase = phase_of(e),
        .role = raft->role,
        .id = raft->id,
        .leader = e->phase == ENGINE_FAILED ? 0 : raft->leader, /* it hears nobody any more */
        .term = raft->term,
        .first = store.first,
        .last = raft->last,
        .durable = raft->stable,
        .commit = MIN(raft->commit, raft->stable),
        .learner = !raft->voter,
        .removed = is_removed(e, raft),
        .changing = raft->changing,
        .rejoining = e->rejoining || e->disowned,
        .transfer = raft->transfer,
        .conf_index = e->conf_index,
        .ready = is_ready(e, raft),
        .elections = raft->elections,
        .leader_contact_us = raft->role == RAFT_LEADER ? io_now(e->io) : raft->leader_contact_us,
        .log_bytes = store.bytes,
        .log_segments = store.segments,
        .sync_us = store.write_us_last,
        .sync_p99_us = store.write_us_p99,
        .disk_free = store.room,
        .disk = disk_state(e, &store),
        .host_slow = e->host_stall.since_us != 0,
        .host_lag_us = handover_host_lag_us(e, io_now(e->io)),
        .fault = e->fault.code,
    };
    struct store_snapshot snapshot = store_snapshot(e->store);
    out->snapshot_index = snapshot.index;
    out->snapshot_time_us = snapshot.time_us;
    out->snapshot_bytes = snapshot.size;
    memcpy(out->fault_text, e->fault.text, sizeof out->fault_text);
    fill_members(e, out);
}

/* When a leader was surely there. One that is cut off does not know that another leads: it goes by its majority. */
static uint64_t heard_us(const struct engine *e, const struct raft_status *raft, uint64_t now)
{
    uint64_t heard[RAFT_MEMBERS_MAX];
    size_t n = 0;
    if (raft->role != RAFT_LEADER) return raft->leader != 0 ? raft->leader_contact_us : 0;
    for (uint8_t i = 0; i < e->members.count; i++) {
        struct raft_peer_status peer;
        raft_id id = e->members.list[i].id;
        if (!changes_is_voter(e, id)) continue;
        uint64_t at_us = id == raft->id ? now : raft_peer_status_get(e->raft, id, &peer) ? peer.contact_us : 0;
        size_t at = n++;
        for (; at > 0 && heard[at - 1] < at_us; at--) heard[at] = heard[at - 1];
        heard[at] = at_us; /* newest first */
    }
    return n > 0 ? heard[n / 2] : 0;
}

void status_publish(struct engine *e, uint64_t now)
{
    if (e->raft == NULL || e->store == NULL) return;
    struct raft_status raft;
    raft_status_get(e->raft, &raft);
    e->channel->heard_us = heard_us(e, &raft, now);
    bool changed = raft.role != e->seen.role || raft.term != e->seen.term || raft.leader != e->seen.leader ||
                   is_ready(e, &raft) != e->seen_ready;
    bool moved = raft.commit != e->seen.commit || raft.last != e->seen.last;
    uint64_t due_us = moved ? e->publish_at_us : e->publish_at_us + PUBLISH_IDLE_US;
    if (!e->news && !changed && now < due_us) return;
    fill(e, &raft, mailbox_draft(&e->channel->status));
    channel_publish(e->channel);
    e->seen = raft;
    e->seen_ready = is_ready(e, &raft);
    e->news = false;
    e->publish_at_us = now + PUBLISH_EVERY_US;
}
