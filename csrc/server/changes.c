/* Who the members are: what the log says, and where they can be dialled (dissertation 4). */
#include "server/engine_state.h"

#include "base/mem.h"

bool changes_is_voter(const struct engine *e, raft_id id)
{
    const struct raft_conf *conf = raft_conf_at(e->raft, UINT64_MAX);
    return conf_is_voter(conf, id);
}

/* Configurations whose entries the log has no more. */
static void forget_truncated(struct engine *e)
{
    struct raft_status status;
    raft_status_get(e->raft, &status);
    while (e->confs.count > 1) {
        const struct conf_at *last = &e->confs.list[e->confs.count - 1];
        raft_term term;
        if (last->index <= status.last && (!raft_term_at(e->raft, last->index, &term) || term == last->term)) return;
        confs_drop_last(&e->confs);
    }
}

/* Known already, or older than what is: an entry may come again, after others that followed it. */
static bool is_known(const struct engine *e, raft_index index, raft_term term)
{
    for (size_t i = 0; i < e->confs.count; i++) {
        if (e->confs.list[i].index == index && e->confs.list[i].term == term) return true;
    }
    return index <= e->confs.list[0].index;
}

void changes_on_append(struct engine *e, const struct raft_message *m)
{
    struct err reason;
    struct conf conf;
    raft_term term;
    forget_truncated(e);
    for (uint32_t i = 0; i < m->n_entries; i++) {
        raft_index index = m->index + 1 + i;
        if (m->entries[i].type != RAFT_ENTRY_CONFIG) continue;
        if (!raft_term_at(e->raft, index, &term) || term != m->entries[i].term) continue; /* not taken */
        if (is_known(e, index, term)) continue;
        struct entry entry = entry_view(m->entries[i].block);
        int rv = conf_read(entry.payload, entry.payload_size, &conf, &reason);
        if (rv == OK && confs_add(&e->confs, index, term, &conf) != OK) rv = err_set(&reason, ERR_NOMEM, "out of memory");
        if (rv != OK) engine_fail(e, &reason);
    }
}

/* ---- configurations that this core has appended ---- */

static const char *address_of(const struct engine *e, const struct conf *before, raft_id id)
{
    for (size_t i = 0; i < e->n_moves; i++) {
        if (e->moves[i].id == id) return e->moves[i].address;
    }
    const struct member *member = members_find(&before->members, id);
    return member != NULL ? member->address : NULL;
}

static void include(const struct engine *e, const struct conf *before, const raft_id *ids, uint8_t n, struct conf *out)
{
    for (uint8_t i = 0; i < n; i++) {
        if (members_find(&out->members, ids[i]) != NULL) continue;
        int rv = members_add(&out->members, ids[i], address_of(e, before, ids[i]), NULL);
        ASSERT(rv == OK); /* checked when the change was asked for */
        out->next_id = MAX(out->next_id, ids[i] + 1);
    }
}

struct block *changes_encode(struct engine *e, raft_index index)
{
    forget_truncated(e);
    const struct conf *before = &confs_at(&e->confs, index - 1)->conf;
    raft_term term = raft_entry_at(e->raft, index)->term;
    struct conf conf = {.next_id = before->next_id, .raft = *raft_conf_at(e->raft, index)};
    struct buf bytes = {0};
    include(e, before, conf.raft.voters, conf.raft.n_voters, &conf);
    include(e, before, conf.raft.outgoing, conf.raft.n_outgoing, &conf);
    include(e, before, conf.raft.learners, conf.raft.n_learners, &conf);
    bool ok = conf_write(&bytes, &conf) && confs_add(&e->confs, index, term, &conf) == OK;
    struct block *block = ok ? entry_new(RAFT_ENTRY_CONFIG, bytes.data, bytes.size) : NULL;
    buf_free(&bytes);
    return block;
}

/* ---- making ---- */

static int check_address(const struct engine *e, const struct ask_change *change)
{
    struct members alone = {.count = 0};
    if (members_add(&alone, change->id, change->address, NULL) != OK) return ERR_INVALID;
    for (uint8_t i = 0; i < e->members.count; i++) {
        const struct member *member = &e->members.list[i];
        if (member->id != change->id && strcmp(member->address, change->address) == 0) return ERR_ALREADY;
    }
    return OK;
}

int changes_make(struct engine *e, const struct ask_what *what, struct answer *answer, raft_term *term)
{
    struct raft_change changes[RAFT_MEMBERS_MAX];
    struct member moves[RAFT_MEMBERS_MAX];
    size_t n_moves = 0;
    struct raft_status status;
    raft_status_get(e->raft, &status);
    raft_id next_id = confs_at(&e->confs, status.last)->conf.next_id;
    int rv = OK;
    for (uint8_t i = 0; i < what->n && rv == OK; i++) {
        struct ask_change change = what->changes[i];
        if (change.op == RAFT_ADD && change.id == 0) change.id = next_id;
        if (change.op == RAFT_ADD) next_id = MAX(next_id, change.id + 1);
        if (change.op == RAFT_ADD && answer->id == 0) answer->id = change.id;
        changes[i] = (struct raft_change){.op = change.op, .id = change.id};
        if (change.op != RAFT_ADD && change.op != RAFT_MOVE) continue;
        rv = check_address(e, &change);
        struct member *move = &moves[n_moves++];
        move->id = change.id;
        memcpy(move->address, change.address, sizeof move->address);
    }
    if (rv == OK && handover_first(e, what, io_now(e->io))) return ERR_TRANSFERRING; /* to be asked of the next one */
    if (rv == OK) rv = raft_change(e->raft, changes, what->n, io_now(e->io), &answer->index, term);
    if (rv != OK) return rv; /* the addresses of an earlier change may not be in its entry yet */
    memcpy(e->moves, moves, n_moves * sizeof *moves);
    e->n_moves = n_moves;
    e->news = true;
    return OK;
}

/* ---- following ---- */

void changes_on_restore(struct engine *e, raft_index index, raft_term term, const struct conf *conf)
{
    struct err reason;
    if (confs_add(&e->confs, index, term, conf) == OK) return;
    err_set(&reason, ERR_NOMEM, "out of memory while restoring a snapshot");
    engine_fail(e, &reason);
}

void changes_follow(struct engine *e)
{
    struct raft_status status;
    forget_truncated(e);
    raft_status_get(e->raft, &status);
    const struct conf_at *at = confs_at(&e->confs, status.last);
    if (at->index != e->conf_index || e->links_behind) {
        e->conf_index = at->index;
        e->members = at->conf.members;
        e->links_behind = links_set(e->links, &e->members) != OK;
        e->news = true;
    }
    confs_commit(&e->confs, status.commit);
}
