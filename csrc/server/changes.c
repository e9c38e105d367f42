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
        if (rv == OK && confs_add(&e->confs, index, term, &conf) != OK)
            rv = err_set(&reason, ERR_NOMEM, "out of memory");
        if (rv != OK) engine_fail(e, &reason);
    }
}

/* ---- configurations that this core has appended ---- */

static const struct member *moved(const struct engine *e, raft_id id)
{
    for (size_t i = 0; i < e->n_moves; i++) {
        if (e->moves[i].id == id) return &e->moves[i];
    }
    return NULL;
}

/* The directory that has this voter's vote: the one that had it before; of a new voter, the one from which it has
 * caught up. */
static uint64_t vote_of(const struct engine *e, const struct conf *before, raft_id id)
{
    const struct member *was = members_find(&before->members, id);
    if (was != NULL && was->incarnation != 0 && conf_is_voter(&before->raft, id)) return was->incarnation;
    return id == e->identity.node ? e->identity.incarnation : store_peer(e->store, id);
}

static struct member describe(const struct engine *e, const struct conf *before, const struct raft_conf *raft,
                              raft_id id)
{
    const struct member *move = moved(e, id), *was = members_find(&before->members, id);
    struct member member = was != NULL ? *was : (struct member){.id = id};
    bool voter = conf_is_voter(raft, id);
    if (move != NULL) memcpy(member.address, move->address, sizeof member.address);
    if (move != NULL && move->incarnation != 0) {
        member.incarnation = move->incarnation;
        member.returns = move->returns;
    }
    if (voter) {
        member.incarnation = vote_of(e, before, id);
        member.returns = false;
    }
    return member;
}

static void include(const struct engine *e, const struct conf *before, const raft_id *ids, uint8_t n, struct conf *out)
{
    for (uint8_t i = 0; i < n; i++) {
        struct member member = describe(e, before, &out->raft, ids[i]);
        if (members_find(&out->members, ids[i]) != NULL) continue;
        int rv = members_add(&out->members, ids[i], member.address, NULL);
        ASSERT(rv == OK); /* checked when the change was asked for */
        members_name(&out->members, ids[i], member.incarnation, member.returns);
        out->next_id = MAX(out->next_id, ids[i] + 1);
    }
}

struct block *changes_encode(struct engine *e, raft_index index)
{
    forget_truncated(e);
    const struct conf *before = &confs_at(&e->confs, index - 1)->conf;
    raft_term term = 0;
    bool known = raft_term_at(e->raft, index, &term);
    ASSERT(known);
    struct conf conf = {.next_id = before->next_id, .raft = *raft_conf_at(e->raft, index)};
    struct buf bytes = {0};
    include(e, before, conf.raft.voters, conf.raft.n_voters, &conf);
    include(e, before, conf.raft.outgoing, conf.raft.n_outgoing, &conf);
    include(e, before, conf.raft.learners, conf.raft.n_learners, &conf);
    bool ok = conf_write(&bytes, &conf) && confs_add(&e->confs, index, term, &conf) == OK;
    struct block *block = ok ? entry_new(RAFT_ENTRY_CONFIG, bytes.data, bytes.size) : NULL;
    buf_free(&bytes);
    if (block != NULL) e->n_moves = 0; /* what they were for has been made */
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

/* What is asked for is kept aside until the core has taken it: of a change that was made before, and is still to be
 * encoded, nothing may be lost. */
static int propose(struct engine *e, const struct raft_change *changes, size_t n, const struct member *moves,
                   size_t n_moves, raft_index *index, raft_term *term)
{
    int rv = raft_change(e->raft, changes, n, io_now(e->io), index, term);
    if (rv != OK) return rv;
    memcpy(e->moves, moves, n_moves * sizeof *moves);
    e->n_moves = n_moves;
    e->news = true;
    return OK;
}

int changes_make(struct engine *e, const struct ask_what *what, struct answer *answer, raft_term *term)
{
    struct raft_change changes[RAFT_MEMBERS_MAX];
    struct member moves[RAFT_MEMBERS_MAX];
    struct raft_status status;
    raft_status_get(e->raft, &status);
    raft_id next_id = confs_at(&e->confs, status.last)->conf.next_id;
    size_t n_moves = 0;
    int rv = OK;
    for (uint8_t i = 0; i < what->n && rv == OK; i++) {
        struct ask_change change = what->changes[i];
        if (change.op == RAFT_ADD && change.id == 0) change.id = next_id;
        if (change.op == RAFT_ADD) next_id = MAX(next_id, change.id + 1);
        if (change.op == RAFT_ADD && answer->id == 0) answer->id = change.id;
        changes[i] = (struct raft_change){.op = change.op, .id = change.id};
        if (change.op != RAFT_ADD && change.op != RAFT_MOVE) continue;
        rv = check_address(e, &change);
        moves[n_moves] = (struct member){.id = change.id};
        memcpy(moves[n_moves++].address, change.address, sizeof change.address);
    }
    if (rv == OK && handover_first(e, what, io_now(e->io))) return ERR_TRANSFERRING; /* to be asked of the next one */
    return rv == OK ? propose(e, changes, what->n, moves, n_moves, &answer->index, term) : rv;
}

void changes_readmit(struct engine *e, enum raft_change_op op, const struct member *named)
{
    struct raft_change change = {.op = (uint8_t)op, .id = named->id};
    raft_index index;
    raft_term term;
    propose(e, &change, 1, named, 1, &index, &term);
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
    if (at->index != e->conf_index || at->term != e->conf_term || e->links_behind) {
        e->conf_index = at->index;
        e->conf_term = at->term;
        e->conf_news = true;
        e->conf_returns = false;
        e->members = at->conf.members;
        for (uint8_t i = 0; i < e->members.count; i++) e->conf_returns |= e->members.list[i].returns;
        e->links_behind = links_set(e->links, &e->members) != OK;
        e->news = true;
    }
    confs_commit(&e->confs, status.commit);
}
