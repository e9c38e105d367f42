-- The bugs of the zoo: what goes wrong, where, the old lines (exactly once in that file), the new ones in their place,
-- and how it would hurt. Some have an area: snapshots (with compaction, restarts, sessions, slow followers) or members
-- (with leadership, failover, reads). Most are classics: each has been in some implementation of Raft, or in the
-- literature.
-- spec/zoo/zoo_spec.lua checks that all of them can still be planted, make zoo that the simulator catches them.
return {
  -- ---- elections: votes and terms ----
  {
    name = "a vote is answered before it is durable",
    file = "csrc/core/elections.c",
    old = [[outbox_put(&r->outbox, &reply, granted && m->pre ? 0 : r->vote_after);]],
    new = [[outbox_put(&r->outbox, &reply, 0);]],
    harm = "after a crash the node votes for another candidate in the same term: two leaders",
  },
  {
    name = "a candidate asks for votes before its own is durable, and counts it",
    file = "csrc/core/elections.c",
    old = [[outbox_put(&r->outbox, &m, m.pre ? 0 : r->vote_after);]],
    new = [[outbox_put(&r->outbox, &m, 0);
        if (!m.pre) r->own_vote = VOTE_GRANTED;]],
    harm = "it wins, appends, crashes, forgets the term and wins it once more with another entry",
  },
  {
    name = "the vote is not stored with the term",
    file = "csrc/server/ready.c",
    old = [[.vote = ready->vote,]],
    new = [[.vote = 0,]],
    harm = "after a crash the node votes again in the same term",
  },
  {
    name = "the vote is forgotten over a restart",
    file = "csrc/core/raft.c",
    old = [[r->vote = r->durable_vote = initial->vote;]],
    new = [[r->vote = r->durable_vote = 0;]],
    harm = "after a crash the node votes again in the same term",
  },
  {
    name = "a new term is not stored unless an entry is",
    file = "csrc/core/raft.c",
    old = [[out->vote_changed = r->vote_changed;]],
    new = [[out->vote_changed = r->vote_changed && out->last >= out->first;]],
    harm = "after a crash the node is in an earlier term and votes in it again",
  },
  {
    name = "stepping back within a term clears the vote",
    file = "csrc/core/roles.c",
    old = [[if (term > r->term) set_term(r, term);]],
    new = [[if (term > r->term) set_term(r, term);
    else r->vote = 0;]],
    harm = "a candidate that lost votes once more in the same term",
  },
  {
    name = "a node votes for every candidate that asks",
    file = "csrc/core/elections.c",
    old = [[bool unbound = m->pre || r->vote == m->from || (r->vote == 0 && r->leader == 0);]],
    new = [[bool unbound = m->pre || r->vote != r->config.id;
    if (unbound && !m->pre && r->vote != m->from) r->vote = 0;]],
    harm = "two leaders in one term",
  },
  {
    name = "logs are compared by length alone before a vote",
    file = "csrc/core/log.c",
    old = [[return term > mine || (term == mine && index >= log->last);]],
    new = [[return (term > 0 || mine == 0) && index >= log->last;]],
    harm = "a leader without a committed entry",
  },
  {
    name = "logs are compared by term alone before a vote",
    file = "csrc/core/log.c",
    old = [[return term > mine || (term == mine && index >= log->last);]],
    new = [[return term > mine || (term == mine && index + 1 >= log->last);]],
    harm = "a leader without the newest committed entry",
  },
  {
    name = "a late grant of an earlier term counts",
    file = "csrc/core/elections.c",
    old = [[m->pre == r->prevoting && (m->reject || m->term == asked);]],
    new = [[m->pre == r->prevoting && (m->reject || m->term <= asked);]],
    harm = "two leaders in one term",
  },
  {
    name = "grants of a pre-vote count as votes",
    file = "csrc/core/elections.c",
    old = [[r->role == RAFT_CANDIDATE && m->pre == r->prevoting && (m->reject || m->term == asked);]],
    new = [[r->role == RAFT_CANDIDATE && (m->reject || m->term == asked);]],
    harm = "a leader that a quorum has not voted for, and two of them in one term",
  },
  {
    name = "the tally of the pre-vote is carried over into the election",
    file = "csrc/core/roles.c",
    old = [[forget_votes(r); /* its own counts when it is durable (raft_persisted) */]],
    new = [[r->own_vote = VOTE_MISSING;]],
    harm = "a leader that nobody has voted for",
  },
  {
    name = "half of the votes are enough",
    file = "csrc/core/quorum.c",
    old = [[if (granted >= least) return QUORUM_WON;]],
    new = [[if (granted + 1 >= least) return QUORUM_WON;]],
    harm = "two leaders in one term",
  },
  {
    name = "a node that lost touch unseats a leader that the others hear",
    area = "members",
    file = "csrc/core/elections.c",
    old = [[bool disturbs = !m->force && (promised || (m->term > r->term && role_has_live_leader(r, now)));]],
    new = [[bool disturbs = !m->force && promised;]],
    harm = "whoever comes back from a partition costs an election",
  },
  {
    name = "a refused candidate ignores the later term it is told of",
    file = "csrc/core/elections.c",
    old = [[if (m->reject && m->term > r->term) role_follow(r, m->term, 0, now);]],
    new = [[if (m->reject && !m->pre && m->term > r->term) role_follow(r, m->term, 0, now);]],
    harm = "the only node that could win asks in too low a term, for ever: no leader",
  },
  {
    name = "a leader of an earlier term is not told of the later one",
    file = "csrc/core/raft.c",
    old = [[if (!is_of_leader(m->type)) return;]],
    new = [[if (m->type != RAFT_VOTE) return;]],
    harm = "a node that got a later term alone never comes back into the cluster",
  },
  {
    name = "an earlier leader is told of the new term before that is durable",
    file = "csrc/core/raft.c",
    old = [[struct raft_message reply = state_message(r, RAFT_HEARTBEAT_REPLY, m->from);
    outbox_put(&r->outbox, &reply, r->vote_after);]],
    new = [[struct raft_message reply = state_message(r, RAFT_HEARTBEAT_REPLY, m->from);
    outbox_put(&r->outbox, &reply, 0);]],
    harm = "a message above the durable term: after a crash the node takes it back",
  },
  {
    name = "a new leader counts its peers as silent",
    area = "members",
    file = "csrc/core/progress.c",
    old = [[p->contact_us = now; /* a term's grace, not a word: else a new leader would step down at once */]],
    new = [[p->contact_us = 0;]],
    harm = "every leader steps down at its first tick: no progress",
  },
  {
    name = "a term heard of in passing puts off the node's own election",
    file = "csrc/core/roles.c",
    old = [[if (r->role != RAFT_FOLLOWER && r->role != RAFT_CANDIDATE) role_wait(r, now);]],
    new = [[role_wait(r, now);]],
    harm = "a node with an old log keeps all others from electing anybody",
  },
  {
    name = "the election timeout is taken for milliseconds",
    file = "csrc/core/roles.c",
    old = [[r->election_at_us = now + least_us + prng_below(&r->prng, spread_us);]],
    new = [[r->election_at_us = now + least_us / 1000 + prng_below(&r->prng, spread_us) / 1000;]],
    harm = "elections without end",
  },
  {
    name = "heartbeats are as rare as elections",
    file = "csrc/core/raft.c",
    old = [[r->heartbeat_at_us = now + r->config.heartbeat_us;]],
    new = [[r->heartbeat_at_us = now + 2 * r->config.election_timeout_us;]],
    harm = "no leader keeps its followers",
  },

  {
    name = "a candidate that nobody answers never asks again",
    file = "csrc/core/raft.c",
    old = [[return r->role == RAFT_LEADER ? MIN(r->heartbeat_at_us, replication_deadline(r)) : r->election_at_us;]],
    new = [[if (r->role == RAFT_CANDIDATE) return NEVER_US;
    return r->role == RAFT_LEADER ? r->heartbeat_at_us : r->election_at_us;]],
    harm = "votes that were lost on the way leave the cluster without a leader",
  },
  {
    name = "a leader that hears of no majority goes on leading",
    area = "members",
    file = "csrc/core/raft.c",
    old = [[if (now >= role_quorum_contact(r, now) + r->config.election_timeout_us) {
        role_follow(r, r->term, 0, now);
        return;
    }
]],
    new = [[]],
    harm = "its clients wait for it while the others have another leader",
  },
  {
    name = "a leader's word does not put off a follower's election",
    file = "csrc/core/roles.c",
    old = [[r->removed = false; /* a leader speaks to its members only */
    role_wait(r, now);]],
    new = [[r->removed = false;]],
    harm = "a healthy leader is challenged all the time",
  },

  -- ---- the log: matching, commitment ----
  {
    name = "an entry of an earlier term is committed by counting its copies",
    file = "csrc/core/replication.c",
    old = [[if (reached <= r->log.commit || log_term(&r->log, reached) != r->term) return false;]],
    new = [[if (reached <= r->log.commit) return false;]],
    harm = "the entry is overwritten later though it was committed (dissertation figure 3.7)",
  },
  {
    name = "a follower commits up to the end of its own log",
    file = "csrc/core/replication.c",
    old = [[follow_commit(r, MIN(m->commit, covered));]],
    new = [[follow_commit(r, MIN(m->commit, r->log.last));]],
    harm = "a divergent tail is committed and applied",
  },
  {
    name = "a heartbeat tells the leader's commit index, whatever the follower has confirmed",
    file = "csrc/core/replication.c",
    old = [[m.commit = MIN(p->match, r->log.commit);
        m.context = now;]],
    new = [[m.commit = r->log.commit;
        m.context = now;]],
    harm = "a follower commits entries that are not the leader's",
  },
  {
    name = "a follower acknowledges what is not durable yet",
    file = "csrc/core/replication.c",
    old = [[raft_index durable = MIN(r->verified, r->log.stable);]],
    new = [[raft_index durable = r->verified;]],
    harm = "committed entries are lost with a crash",
  },
  {
    name = "a follower takes its whole log for agreed",
    file = "csrc/core/replication.c",
    old = [[r->verified = MAX(r->verified, covered);]],
    new = [[r->verified = r->log.last;]],
    harm = "it acknowledges entries that the leader does not have",
  },
  {
    name = "what an earlier leader has shown to agree is acknowledged to the next one",
    file = "csrc/core/roles.c",
    old = [[r->verified = r->acked = 0;]],
    new = [[r->acked = 0;]],
    harm = "a follower acknowledges entries that the new leader does not have",
  },
  {
    name = "a leader counts its own copy before it is durable",
    file = "csrc/core/replication.c",
    old = [[return r->log.stable; /* its own copy counts when it is durable, like any other */]],
    new = [[return r->log.last;]],
    harm = "committed entries are lost with a crash",
  },
  {
    name = "a new leader keeps what followers had confirmed to an earlier term of its own",
    file = "csrc/core/progress.c",
    old = [[.back = p->back, .next = last + 1,]],
    new = [[.back = p->back, .match = MIN(p->match, last), .next = last + 1,]],
    harm = "entries are committed that a follower has cut off meanwhile",
  },
  {
    name = "the term of the entry before is not compared",
    file = "csrc/core/replication.c",
    old = [[if (!log_matches(&r->log, m->index, m->log_term)) {]],
    new = [[if (m->index > r->log.last) {]],
    harm = "logs with the same entry differ before it",
  },
  {
    name = "every append cuts off what comes after it",
    file = "csrc/core/replication.c",
    old = [[if (log_matches(&r->log, index, m->entries[i].term)) continue;
            if (index <= agreed(r)) return state_corrupt(r);]],
    new = [[if (index <= r->log.commit) continue;]],
    harm = "an old append, delivered late, voids entries that were acknowledged",
  },
  {
    name = "an acknowledgement from before a truncation covers what came after it",
    file = "csrc/core/replication.c",
    old = [[outbox_clamp(&r->outbox, index - 1);]],
    new = [[]],
    harm = "an entry counts as durable because another one at its index was",
  },
  {
    name = "what is durable is not taken back by a truncation",
    file = "csrc/core/log.c",
    old = [[log->stable = MIN(log->stable, from - 1);]],
    new = [[]],
    harm = "entries are acknowledged that are in no file",
  },
  {
    name = "one acknowledged batch stands for all that were handed out",
    file = "csrc/core/outbox.c",
    old = [[struct raft_batch newest = o->batches[n - 1];]],
    new = [[struct raft_batch newest = o->batches[o->n_batches - 1];]],
    harm = "entries are acknowledged while they are on their way to the disk",
  },
  {
    name = "messages leave when their batch is handed out, not when it is durable",
    file = "csrc/core/outbox.c",
    old = [[if (after <= o->done) {]],
    new = [[if (after <= o->handed) {]],
    harm = "votes and terms are told before they are durable",
  },
  {
    name = "entries are applied before they are durable here",
    file = "csrc/core/raft.c",
    old = [[out->commit = MIN(r->log.commit, r->log.stable);]],
    new = [[out->commit = r->log.commit;]],
    harm = "a caller is told that its command is done, by a node that forgets it in a crash",
  },
  {
    name = "after a restart the whole log counts as committed",
    area = "snapshots",
    file = "csrc/core/log.c",
    old = [[log->commit = log->applied = MAX(initial->applied, initial->snapshot);]],
    new = [[log->commit = log->applied = initial->last;]],
    harm = "entries are applied that the next leader voids",
  },
  {
    name = "entries leave memory before they are durable or committed",
    file = "csrc/core/log.c",
    old = [[raft_index safe = MIN(log->stable, log->commit);]],
    new = [[raft_index safe = log->last;]],
    harm = "what is to be stored is not there any more",
  },

  -- ---- replication: liveness ----
  {
    name = "a rejected probe is sent again to the same place",
    file = "csrc/core/replication.c",
    old = [[progress_become_probe(p, agree + 1);]],
    new = [[progress_become_probe(p, MAX(agree + 1, p->next));]],
    harm = "a follower whose log differs never catches up",
  },
  {
    name = "a probe whose answer was lost is never sent again",
    file = "csrc/core/replication.c",
    old = [[if (p->state == PROGRESS_PROBE) p->probe_sent = false;
    else if (p->state]],
    new = [[if (p->state]],
    harm = "a follower never catches up",
  },
  {
    name = "appends that were lost are never sent again",
    file = "csrc/core/replication.c",
    old = [[progress_find_lost(p, m->index, m->context);]],
    new = [[return OK;]],
    harm = "a follower never catches up",
  },
  {
    name = "a lost acknowledgement is never repeated",
    file = "csrc/core/replication.c",
    old = [[if (m->commit < r->acked) r->ack_due = true;]],
    new = [[]],
    harm = "in a quiet cluster the last command is never committed",
  },
  {
    name = "a new leader appends no entry of its term",
    file = "csrc/core/roles.c",
    old = [[log_append(&r->log, &empty);]],
    new = [[(void)empty;]],
    harm = "what earlier leaders left is not committed until somebody proposes",
  },
  {
    name = "looking for where two logs agree stops at a term's beginning",
    file = "csrc/core/log.c",
    old = [[index = run->start - 1;]],
    new = [[index = run->start;]],
    harm = "the node hangs",
  },

  -- ---- the log on disk ----
  {
    name = "everything queued is acknowledged with the write in flight",
    file = "csrc/store/writer.c",
    old = [[uint64_t now = io_now(s->io), seq = w->writing.seq,]],
    new = [[uint64_t now = io_now(s->io), seq = w->last_seq,]],
    harm = "acknowledged entries and votes are lost with a crash",
  },
  {
    name = "an append is acknowledged with its first part",
    file = "csrc/store/writer.c",
    old = [[if (i < a->n) break;
        b.seq = a->seq;]],
    new = [[b.seq = a->seq;
        if (i < a->n) break;]],
    harm = "acknowledged entries are lost with a crash",
  },
  {
    name = "a failed write is taken for done",
    file = "csrc/store/writer.c",
    old = [[if (w->status != OK) {
        latch(s);
    } else {]],
    new = [[{]],
    harm = "acknowledged entries are not on the disk",
  },
  {
    name = "after a failed write the log goes on with the next",
    file = "csrc/store/writer.c",
    old = [[if (w->status != OK) {
        latch(s);
    } else {]],
    new = [[if (w->status != OK) {
        w->next_batch++;
        writer_kick(s);
    } else {]],
    harm = "the log has a hole, and what comes after it is acknowledged",
  },
  {
    name = "the used part of a block is not written again with its rest",
    file = "csrc/store/writer.c",
    old = [[memmove(w->staging, w->staging + (tail - w->at), (size_t)(current->end - tail));]],
    new = [[memset(w->staging, 0, (size_t)(current->end - tail));]],
    harm = "a write destroys the end of the one before it",
  },
  {
    name = "a segment's name is not made durable",
    file = "csrc/store/segments.c",
    old = [[if (status == OK) status = io_sync_dir(k->io, k->dir, e);
        if (status == OK) return OK;]],
    new = [[if (status == OK) return OK;]],
    harm = "a whole segment of the log is lost with a crash",
  },
  {
    name = "a small file's name is not made durable",
    file = "csrc/store/smallfile.c",
    old = [[if (status == OK) status = io_sync_dir(io, dir, e);]],
    new = [[]],
    harm = "a directory loses its identity with a crash",
  },
  {
    name = "the header of a segment is written once",
    file = "csrc/store/format.c",
    old = [[memcpy(block + SEGMENT_COPY, block, SEGMENT_HEADER);]],
    new = [[]],
    harm = "a torn write leaves a segment without a header: the node cannot start",
  },
  {
    name = "the epoch is not bumped at a start",
    file = "csrc/store/recovery.c",
    old = [[epoch_begin_life(&s->epoch, next_life(s));]],
    new = [[epoch_begin_life(&s->epoch, s->epoch.life);]],
    harm = "sequences of two lives are the same: new commands are taken for applied ones",
  },
  {
    name = "a torn tail is taken for rot",
    file = "csrc/store/scan.c",
    old = [[find_later(&w, f, f->segment->end + 8, c->next, &later, &h, e);]],
    new = [[find_later(&w, f, f->segment->end, c->next - 1, &later, &h, e);]],
    harm = "a node does not start after a crash",
  },
  {
    name = "rot is taken for a torn tail",
    file = "csrc/store/scan.c",
    old = [[if (status == OK && later) {]],
    new = [[if (status == OK && later && s->map.last == 0) {]],
    harm = "acknowledged entries are cut off, silently",
  },
  {
    name = "recovery ignores truncations",
    file = "csrc/store/scan.c",
    old = [[if (h->truncate_from != 0) map_truncate(&s->map, h->truncate_from);]],
    new = [[if (h->truncate_from != 0 && h->count == 0) map_truncate(&s->map, h->truncate_from);]],
    harm = "void entries are back after a restart",
  },
  {
    name = "recovery ignores votes but those in a segment's header",
    file = "csrc/store/scan.c",
    old = [[s->vote = h->vote;
    }]],
    new = [[}]],
    harm = "after a crash the node votes again in the same term",
  },
  {
    name = "a truncation does not forget where the void entries are",
    file = "csrc/store/map.c",
    old = [[m->last = index - 1;
    if (index < m->first) {
        m->first = index;
        m->base_term = 0;
    }
    m->jump = true;]],
    new = [[m->last = index - 1;
    if (index < m->first) {
        m->first = index;
        m->base_term = 0;
    }]],
    harm = "reading the log comes to the void version of an entry",
  },
  {
    name = "a batch goes on over a later truncation",
    file = "csrc/store/writer.c",
    old = [[if (!head && (a->truncate_from != 0 || a->reset != 0 ||]],
    new = [[if (!head && (a->reset != 0 ||]],
    harm = "the truncation voids what was there before the batch, not what the batch adds first",
  },
  {
    name = "a wiped directory comes back under its old incarnation",
    file = "csrc/store/identity.c",
    old = [[do drawn = io_random(io);]],
    new = [[do drawn = io != NULL;]],
    harm = "a voter that has forgotten its vote and its entries votes on",
  },

  {
    name = "preparing a segment that failed once is never tried again",
    file = "csrc/store/segments.c",
    old = [[k->retry_at = k->status == OK ? 0 : io_now(s->io) + STORE_RETRY_US;]],
    new = [[k->retry_at = k->status == OK ? 0 : NEVER_US;]],
    harm = "a disk that was full for a moment stops the node for good",
  },
  {
    name = "room that has come back is not told",
    file = "csrc/store/store.c",
    old = [[} else if (room != s->has_room) {]],
    new = [[} else if (room < s->has_room) {]],
    harm = "a leader whose disk was full for a moment refuses everything for ever",
  },

  -- ---- proposals and sessions ----
  {
    name = "a command that was proposed twice is applied twice",
    area = "snapshots",
    file = "csrc/server/sessions.c",
    old = [[bool seen = e->sequence < session->lowest || is_seen(session, e->sequence);]],
    new = [[bool seen = e->sequence < session->lowest;]],
    harm = "exactly once is twice",
  },
  {
    name = "a copy of a settled command is new again",
    area = "snapshots",
    file = "csrc/server/sessions.c",
    old = [[bool seen = e->sequence < session->lowest || is_seen(session, e->sequence);]],
    new = [[bool seen = is_seen(session, e->sequence);]],
    harm = "exactly once is twice",
  },
  {
    name = "every proposal says that none before it is awaited",
    area = "snapshots",
    file = "csrc/server/host.c",
    old = [[(uint32_t)(h->next - h->lowest));]],
    new = [[0);]],
    harm = "a command that is overtaken by a later one is taken for applied",
  },
  {
    name = "a proposal on its way counts as never handed over",
    file = "csrc/server/proposals.c",
    old = [[proposal->copies++;]],
    new = [[]],
    harm = "a caller is told for certain that nothing happened, and it does",
  },
  {
    name = "giving up is answered as if nothing had been handed over",
    file = "csrc/server/proposals.c",
    old = [[proposal->copies == 0 ? ERR_NOT_LEADER : ERR_TIMEOUT);]],
    new = [[ERR_NOT_LEADER);]],
    harm = "a caller is told for certain that nothing happened, and it does",
  },
  {
    name = "closing is answered as if nothing had been handed over",
    file = "csrc/server/proposals.c",
    old = [[proposal->copies == 0 ? code : ERR_UNKNOWN);]],
    new = [[code);]],
    harm = "a caller is told for certain that nothing happened, and it does",
  },
  {
    name = "one refused copy stands for all",
    file = "csrc/server/proposals.c",
    old = [[if (final && proposal->copies == 0) refuse(e, sequences[i], code);]],
    new = [[if (final) refuse(e, sequences[i], code);]],
    harm = "a caller is told for certain that nothing happened, and another copy is applied",
  },
  {
    name = "proposals are not sent again when the leader changes",
    file = "csrc/server/proposals.c",
    old = [[e->retry_at_us = 0;
        pending_resend_all(&e->pending);]],
    new = [[e->retry_at_us = 0;]],
    harm = "a node that becomes the leader itself never proposes what it had forwarded",
  },
  {
    name = "proposals of which nothing is heard are not sent again",
    file = "csrc/server/engine.c",
    old = [[pending_resend_late(&e->pending, now, 2 * e->config.election_timeout_us);]],
    new = [[(void)now;]],
    harm = "a call whose forward was lost is never answered",
  },
  {
    name = "a leader's barrier does not go through the log",
    file = "csrc/server/proposals.c",
    old = [[pending_add(&e->pending, block);
]],
    new = [[pending_add(&e->pending, block);
    if (entry_view(block).type == RAFT_ENTRY_BARRIER && e->leader == e->identity.node) {
        refuse(e, sequence, OK);
        return;
    }
]],
    harm = "a leader that has been replaced and does not know it reads stale state",
  },
  {
    name = "any earlier barrier is passed with a later one",
    file = "csrc/server/host.c",
    old = [[else if (e->type != RAFT_ENTRY_EMPTY) return apply_proposed(h, e, ours);]],
    new = [[else if (e->type != RAFT_ENTRY_EMPTY) return apply_proposed(h, e, ours);
    else if (call_is_open(h, h->lowest) && call_at(h, h->lowest)->type == RAFT_ENTRY_BARRIER)
        host_call_end(h, h->lowest, OK, e->index);]],
    harm = "a barrier is passed before what was acknowledged when it began: a stale read",
  },
  {
    name = "the leader's clock is believed as it is",
    file = "csrc/server/host.c",
    old = [[h->applied_time_us = MAX(h->applied_time_us, e->time_us);]],
    new = [[h->applied_time_us = e->time_us;]],
    harm = "the time that a state machine sees falls when the leader changes",
  },

  -- ---- from the log to the state machine ----
  {
    name = "reading old entries goes on beyond the commit index",
    area = "snapshots",
    file = "csrc/server/feed.c",
    old = [[.last = MIN(MIN(status.window - 1, feed->commit), most),]],
    new = [[.last = MIN(status.window - 1, most),]],
    harm = "after a restart entries are applied that are void",
  },
  {
    name = "the feed skips an entry after a full batch",
    file = "csrc/server/feed.c",
    old = [[feed->next += batch->n;]],
    new = [[feed->next += batch->n + (batch->n == CHANNEL_BATCH_ENTRIES);]],
    harm = "an entry is never applied",
  },
  {
    name = "a feed that has read once never reads again",
    file = "csrc/server/feed.c",
    old = [[feed->reading = false;
    for (;]],
    new = [[for (;]],
    harm = "after a restart a node applies what it read first and stops",
  },
  {
    name = "older entries are read again while they are being read",
    area = "snapshots",
    file = "csrc/server/feed.c",
    old = [[while (going && e->phase == ENGINE_RUNNING && !feed->reading && feed->next <= feed->commit &&]],
    new = [[while (going && e->phase == ENGINE_RUNNING && feed->next <= feed->commit &&]],
    harm = "entries come to the state machine twice",
  },
  {
    name = "batches that were applied are not given back",
    file = "csrc/server/host.c",
    old = [[channel_give_back(h->channel, h->batch);
    h->batch = NULL;]],
    new = [[h->batch = NULL;]],
    harm = "when all credits are used up, a node applies no more",
  },
  {
    name = "committed batches flow without credits",
    file = "csrc/server/feed.c",
    old = [[while (going && e->phase == ENGINE_RUNNING && !feed->reading && feed->next <= feed->commit &&
           feed->n_lent < CHANNEL_BATCHES) {]],
    new = [[while (going && e->phase == ENGINE_RUNNING && !feed->reading && feed->next <= feed->commit) {]],
    harm = "a host that is slow makes a queue overflow",
  },
  {
    name = "a host that has used up its turn does not ask for another",
    file = "csrc/server/host.c",
    old = [[h->stepping = false;
    return more;]],
    new = [[h->stepping = false;
    return more && h->batch != NULL;]],
    harm = "a notice lies in the queue, and nobody is woken for it",
  },

  {
    name = "a status tells late that a snapshot has taken the place of the log",
    area = "snapshots",
    file = "csrc/server/snapshotting.c",
    old = [[r->replacing = 0;
    e->news = true;]],
    new = [[r->replacing = 0;]],
    harm = "a program sees applied what came after a snapshot of which it is told nothing",
  },
  {
    name = "a machine is told a number of records that has the host's own among them",
    area = "snapshots",
    file = "csrc/server/host_snapshot.c",
    old = [[return r->total - MIN(r->total, SNAPSHOT_HOST_RECORDS);]],
    new = [[return r->total;]],
    harm = "a machine that counts on it waits for records that never come",
  },

  -- ---- sessions of programs outside ----
  {
    name = "the sessions of programs outside are missing from a snapshot",
    area = "snapshots",
    file = "csrc/server/host_snapshot.c",
    old = [[snapshot_write_record(w, SNAPSHOT_CLIENTS, clients.data, clients.size);]],
    new = [[]],
    harm = "after a restart a node tells programs that their sessions have ended, and does not apply what others do",
  },
  {
    name = "sessions of programs outside end by the clock of each node",
    area = "snapshots",
    file = "csrc/server/host.c",
    old = [[clients_expire(&h->clients, h->applied_time_us);]],
    new = [[clients_expire(&h->clients, io_wall(h->channel->io));]],
    harm = "a command is applied on some nodes and not on others",
  },
  {
    name = "a command whose result is too large to be kept is new again",
    area = "snapshots",
    file = "csrc/server/clients.c",
    old = [[client->sequence = sequence;
    c->bytes]],
    new = [[if (kept != NULL) client->sequence = sequence;
    c->bytes]],
    harm = "a program that asks again has its command applied again",
  },
  {
    name = "a program is answered with what the commands of others came to",
    area = "snapshots",
    file = "csrc/server/host.c",
    old = [[h->result.size = 0;]],
    new = [[if (h->result.size > 1000) h->result.size = 0;]],
    harm = "who asks again takes another command's result for its own",
  },
  {
    name = "a session is looked for where its command is proposed",
    area = "snapshots",
    file = "csrc/server/host.c",
    old = [[struct call call = call_of(block);]],
    new = [[struct call call = call_of(block);
    if (call.client != 0 && clients_find(&h->clients, call.client) == NULL) {
        put_u64(block->bytes + ENTRY_HEADER + 8, 0);
        entry_seal(block);
    }]],
    harm = "a node that is behind tells a program that its session has ended, and an earlier try is applied after that",
  },
  {
    name = "a client's command that a snapshot has overtaken counts as applied",
    area = "snapshots",
    file = "csrc/server/host_snapshot.c",
    old = [[if (call->client == 0) host_call_end]],
    new = [[if (true) host_call_end]],
    harm = "a program is told that its command was applied, and it was turned away",
  },
  {
    name = "in a table that was restored the session used last is the first to end",
    area = "snapshots",
    file = "csrc/server/clients.c",
    old = [[client->sequence = sequence;
    if (kept == 0) return OK;]],
    new = [[client->sequence = sequence;
    if (client->older != NULL) {
        unlink_client(c, client);
        client->older = NULL;
        client->newer = c->oldest;
        c->oldest = c->oldest->older = client;
    }
    if (kept == 0) return OK;]],
    harm = "nodes end different sessions to make room, and then apply different commands",
  },
  {
    name = "in a table that was restored every session was used just now",
    area = "snapshots",
    file = "csrc/server/clients.c",
    old = [[struct client *client = add(c, id, time_us);
    if (client == NULL) return ERR_NOMEM;
    client->sequence = sequence;]],
    new = [[struct client *client = add(c, id, c->newest != NULL ? c->newest->time_us + 1 : time_us);
    if (client == NULL) return ERR_NOMEM;
    client->sequence = sequence;]],
    harm = "a session lives longer on nodes that were restarted, and they apply what others turn away",
  },
  {
    name = "a session that is asked for the same again does not count as used",
    area = "snapshots",
    file = "csrc/server/clients.c",
    old = [[(*client)->time_us = time_us;
    unlink_client(c, *client);]],
    new = [[if (sequence == (*client)->sequence) return CLIENT_REPEAT;
    (*client)->time_us = time_us;
    unlink_client(c, *client);]],
    harm = "a program that has nothing but bad luck loses its session",
  },

  -- ---- snapshots ----
  {
    name = "a snapshot is restored over a newer state",
    area = "snapshots",
    file = "csrc/core/snapshots.c",
    old = [[if (m->index > r->log.commit) {]],
    new = [[if (m->index > r->snapshot) {]],
    harm = "commands that were applied are undone",
  },
  {
    name = "a snapshot voids the entries behind it that were acknowledged",
    area = "snapshots",
    file = "csrc/core/snapshots.c",
    old = [[if (log_matches(&r->log, m->index, m->log_term)) r->log.commit = m->index;
        else if (m->index <= r->verified) return state_corrupt(r); /* this leader has shown another entry there */
        else restore(r, m, now);]],
    new = [[restore(r, m, now);]],
    harm = "committed entries are lost",
  },
  {
    name = "a log that differs at the snapshot's index is kept",
    area = "snapshots",
    file = "csrc/core/snapshots.c",
    old = [[if (log_matches(&r->log, m->index, m->log_term)) r->log.commit = m->index;]],
    new = [[if (m->index <= r->log.last) r->log.commit = m->index;]],
    harm = "a divergent log is committed and applied",
  },
  {
    name = "the log is compacted beyond the snapshot",
    area = "snapshots",
    file = "csrc/core/snapshots.c",
    old = [[ASSERT(index <= r->snapshot);
    if (index >= r->log.first)]],
    new = [[index = MAX(index, MIN(r->commit_out, r->log.stable));
    if (index >= r->log.first)]],
    harm = "entries are in no snapshot, and a follower that needs them never gets them",
  },
  {
    name = "the sessions are missing from a snapshot",
    area = "snapshots",
    file = "csrc/server/host_snapshot.c",
    old = [[snapshot_write_record(w, SNAPSHOT_SESSIONS, tables.data, tables.size);]],
    new = [[]],
    harm = "a copy of a command that the snapshot holds is applied once more",
  },
  {
    name = "the leader's time is missing from a snapshot",
    area = "snapshots",
    file = "csrc/server/host_snapshot.c",
    old = [[.time_us = h->applied_time_us, .id]],
    new = [[.time_us = 0, .id]],
    harm = "the time that a state machine sees differs from node to node",
  },
  {
    name = "a snapshot that a follower waits for is never reported",
    area = "snapshots",
    file = "csrc/server/fetch.c",
    old = [[if (t->file.index <= status.commit) {
        tell_leader(e, t->file.index, true);
    } else if]],
    new = [[if (t->file.index <= status.commit) {
        return;
    } else if]],
    harm = "the leader waits for ever, and sends it nothing else",
  },
  {
    name = "a snapshot that was received gets its name before it is durable",
    area = "snapshots",
    file = "csrc/store/incoming.c",
    old = [[int status = io_sync(in->io, in->file, e);
    io_close]],
    new = [[int status = OK;
    io_close]],
    harm = "after a power failure there is neither the snapshot nor the log that it took the place of",
  },
  {
    name = "what was lost of a snapshot on its way is not asked for again",
    area = "snapshots",
    file = "csrc/server/fetch.c",
    old = [[if (now >= f->asked_us + e->config.election_timeout_us) {]],
    new = [[if (now >= f->asked_us + UINT64_C(1000000) * e->config.election_timeout_us) {]],
    harm = "after a broken connection the follower gets no snapshot any more",
  },
  {
    name = "a snapshot that is given up is not tried again",
    area = "snapshots",
    file = "csrc/core/snapshots.c",
    old = [[progress_become_probe(p, ok ? p->snapshot + 1 : p->match + 1);]],
    new = [[if (!ok) return;
    progress_become_probe(p, p->snapshot + 1);]],
    harm = "a follower whose transfer failed once never catches up",
  },
  {
    name = "entries follow a snapshot at its own index",
    area = "snapshots",
    file = "csrc/core/snapshots.c",
    old = [[progress_become_probe(p, ok ? p->snapshot + 1 : p->match + 1);]],
    new = [[progress_become_probe(p, ok ? p->snapshot + 2 : p->match + 1);]],
    harm = "an entry is left out behind each snapshot",
  },
  {
    name = "the log goes on before the snapshot that replaced it",
    area = "snapshots",
    file = "csrc/server/snapshotting.c",
    old = [[e->feed.next = r->replacing + 1;]],
    new = [[e->feed.next = r->replacing;]],
    harm = "the state machine is given an entry that its snapshot holds",
  },
  {
    name = "a restored state is told to be older than it is",
    area = "snapshots",
    file = "csrc/server/host_snapshot.c",
    old = [[h->applied = what->index;]],
    new = [[h->applied = what->index - 1;]],
    harm = "reads are answered with what is newer or older than they ask for",
  },
  {
    name = "a snapshot keeps the sessions that were there before it",
    area = "snapshots",
    file = "csrc/server/host_snapshot.c",
    old = [[sessions_free(&h->sessions);]],
    new = [[if (h->applied == 0) sessions_free(&h->sessions);]],
    harm = "the table cannot be read, and the node stops",
  },
  {
    name = "calls that a snapshot has overtaken stay open",
    area = "snapshots",
    file = "csrc/server/host_snapshot.c",
    old = [[settle_calls(h);]],
    new = [[]],
    harm = "a caller waits for ever for what was applied long ago",
  },
  {
    name = "a snapshot is of a later state than its index says",
    area = "snapshots",
    file = "csrc/server/host_snapshot.c",
    old = [[.index = h->applied, .term]],
    new = [[.index = h->applied > 1 ? h->applied - 1 : h->applied, .term]],
    harm = "entries are applied twice after a restart",
  },
  {
    name = "a snapshot that is being read is removed",
    area = "snapshots",
    file = "csrc/store/snapshots.c",
    old = [[kept != NULL && (kept->views > 0 || kept->stuck)]],
    new = [[kept != NULL && kept->stuck]],
    harm = "what was read of it belongs to nothing",
  },
  {
    name = "the configuration of a snapshot is not taken over",
    area = "snapshots",
    file = "csrc/core/log.c",
    old = [[log->confs[0] = (struct raft_conf_at){.index = index, .conf = *conf};
    log->n_confs = 1;]],
    new = [[log->confs[0] = (struct raft_conf_at){.index = index, .conf = log->confs[log->n_confs - 1].conf};
    (void)conf;
    log->n_confs = 1;]],
    harm = "a follower counts by members of old",
  },

  -- ---- members, leadership, reads ----
  {
    name = "a configuration is kept though its entry is void",
    area = "members",
    file = "csrc/core/log.c",
    old = [[for (; log->confs[log->n_confs - 1].index >= from; log->n_confs--) log->conf_changes++;]],
    new = [[]],
    harm = "a node counts majorities of members that nobody has agreed on",
  },
  {
    name = "a follower does not adopt the configuration in its log",
    area = "members",
    file = "csrc/core/replication.c",
    old = [[if (r->log.conf_changes != conf_changes) peers_adopt(r, now);]],
    new = [[(void)conf_changes;]],
    harm = "as a candidate it asks the wrong ones, as a leader it serves them",
  },
  {
    name = "a learner counts as a voter",
    area = "members",
    file = "csrc/core/quorum.c",
    old = [[list_reached(conf->voters, conf->n_voters, deciding(conf, conf->n_voters), value, ctx);]],
    new = [[0;
    raft_id all[3 * RAFT_MEMBERS_MAX];
    size_t n = conf_members(conf, all);
    reached = list_reached(all, n, deciding(conf, n), value, ctx);]],
    harm = "an entry is committed that no majority of the voters has",
  },
  {
    name = "a joint configuration commits by one majority",
    area = "members",
    file = "csrc/core/quorum.c",
    old = [[return MIN(reached, outgoing);]],
    new = [[(void)outgoing;
    return reached;]],
    harm = "the old members elect a leader without a committed entry",
  },
  {
    name = "a joint configuration elects by one majority",
    area = "members",
    file = "csrc/core/quorum.c",
    old = [[return outgoing == QUORUM_WON ? incoming : outgoing;]],
    new = [[return outgoing == QUORUM_LOST ? outgoing : incoming;]],
    harm = "two leaders in one term",
  },
  {
    name = "two voters are exchanged without a joint configuration",
    area = "members",
    file = "csrc/core/membership.c",
    old = [[if (difference(&old, &voters) > 1) {]],
    new = [[if (difference(&old, &voters) > 2) {]],
    harm = "majorities of the old and the new voters need not meet",
  },
  {
    name = "a change of the members begins before the last one is committed",
    area = "members",
    file = "csrc/core/changes.c",
    old = [[if (state_is_changing(r)) return ERR_CHANGING;]],
    new = [[if (conf_is_joint(state_conf(r))) return ERR_CHANGING;]],
    harm = "majorities of two configurations that are in use need not meet",
  },
  {
    name = "a new leader changes the members before it has committed an entry",
    area = "members",
    file = "csrc/core/changes.c",
    old = [[if (r->log.commit < r->own_first) return ERR_NOT_READY;]],
    new = [[]],
    harm = "two leaders, each with a change of its own, have majorities that do not meet",
  },
  {
    name = "a read is answered without a round",
    area = "members",
    file = "csrc/core/leases.c",
    old = [[uint64_t round = lease && now < lease_until(r) ? 0 : r->round + 1;]],
    new = [[uint64_t round = lease || now > 0 ? 0 : r->round + 1;]],
    harm = "a leader that was replaced reads stale state",
  },
  {
    name = "a read relies on a round that is on its way",
    area = "members",
    file = "csrc/core/leases.c",
    old = [[? 0 : r->round + 1;]],
    new = [[? 0 : r->round;]],
    harm = "the round's answers tell of a time before the read: stale state",
  },
  {
    name = "a new leader reads at the commit index it began with",
    area = "members",
    file = "csrc/core/leases.c",
    old = [[.index = MAX(r->log.commit, r->own_first)};]],
    new = [[.index = r->log.commit};]],
    harm = "what an earlier leader has committed is not seen",
  },
  {
    name = "the target of a transfer is told before it has all entries",
    area = "members",
    file = "csrc/core/transfers.c",
    old = [[if (p->match < r->log.last) return;]],
    new = [[]],
    harm = "it cannot win, and the cluster is without a leader for that long",
  },
  {
    name = "a leader relies on its lease while it hands over",
    area = "members",
    file = "csrc/core/transfers.c",
    old = [[r->lease_over = true;]],
    new = [[]],
    harm = "it reads stale state while its successor commits",
  },
  {
    name = "a vote is not withheld for the lease it was promised to",
    area = "members",
    file = "csrc/core/elections.c",
    old = [[bool promised = now < r->promised_until_us;]],
    new = [[bool promised = false;]],
    harm = "another leader commits while the first one still reads by its lease",
  },
  {
    name = "the promise of a lease is forgotten over a restart",
    area = "members",
    file = "csrc/core/raft.c",
    old = [[if (config->lease && r->term > 0) r->promised_until_us = now + config->election_timeout_us;]],
    new = [[]],
    harm = "another leader commits while the first one still reads by its lease",
  },
  {
    name = "a joint configuration is not left",
    area = "members",
    file = "csrc/core/changes.c",
    old = [[append_conf(r, &conf, now);
    } else if]],
    new = [[(void)conf;
    } else if]],
    harm = "no other change is possible any more, and the old members count for ever",
  },
  {
    name = "a leader that was removed leads on",
    area = "members",
    file = "csrc/core/changes.c",
    old = [[role_follow(r, r->term, 0, now);
    r->removed]],
    new = [[r->removed]],
    harm = "it counts itself out, and its clients depend on it",
  },
  {
    name = "a learner is given a vote before it has caught up",
    area = "members",
    file = "csrc/core/changes.c",
    old = [[if (!is_caught_up(p, r->config.election_timeout_us, now)) return ERR_LAGGING;]],
    new = [[(void)now;
        (void)p;
        (void)is_caught_up;]],
    harm = "the cluster waits for it with every write",
  },
  {
    name = "a new member counts as one that has everything",
    area = "members",
    file = "csrc/core/peers.c",
    old = [[progress_reset(&r->peers[at], r->log.last, now);]],
    new = [[progress_reset(&r->peers[at], r->log.last, now);
    r->peers[at].match = r->log.last;]],
    harm = "entries are committed that it does not have",
  },
  {
    name = "a member that was removed is sent to as before",
    area = "members",
    file = "csrc/core/peers.c",
    old = [[if (!ids_have(ids, n, r->peers[i].id)) continue;]],
    new = [[(void)ids;
        (void)n;]],
    harm = "the leader serves one that must not hear of anything",
  },
  {
    name = "a node that was removed campaigns on",
    area = "members",
    file = "csrc/core/roles.c",
    old = [[if (r->removed || r->withheld) return false;]],
    new = [[if (r->withheld) return false;]],
    harm = "it disturbs the others with every election timeout",
  },
  {
    name = "a node campaigns by a configuration of long ago",
    area = "members",
    file = "csrc/core/roles.c",
    old = [[if (log->confs[i - 1].index <= log->commit) return false;]],
    new = [[]],
    harm = "a learner stands for election",
  },
  {
    name = "any refusal counts as the word that it was removed",
    area = "members",
    file = "csrc/core/elections.c",
    old = [[if (m->reject && is_overtaken(&r->log, m->index, m->log_term) && !role_has_live_leader(r, now)) {]],
    new = [[(void)is_overtaken;
    if (m->reject && !role_has_live_leader(r, now)) {]],
    harm = "a member stops to campaign, and nobody leads any more",
  },
  {
    name = "who was removed is not told",
    area = "members",
    file = "csrc/core/elections.c",
    old = [[return latest->index <= r->log.commit && !conf_is_empty(]],
    new = [[return latest->index > r->log.last && !conf_is_empty(]],
    harm = "it asks for votes for ever, and whoever waits for it does not know why",
  },
  {
    name = "who was removed is told before that is committed",
    area = "members",
    file = "csrc/core/elections.c",
    old = [[return latest->index <= r->log.commit && !conf_is_empty(]],
    new = [[return !conf_is_empty(]],
    harm = "a member is out that never was removed, when the change is lost with its leader",
  },
  {
    name = "who was removed asks only those that voted when it last heard of them",
    area = "members",
    file = "csrc/core/elections.c",
    old = [[if (election != PRE_VOTE && !conf_is_voter(state_conf(r), r->peers[i].id)) continue;]],
    new = [[if (!conf_is_voter(state_conf(r), r->peers[i].id)) continue;]],
    harm = "they are gone themselves, and it is never told",
  },
  {
    name = "a leader's word does not bring back who was told that it was removed",
    area = "members",
    file = "csrc/core/roles.c",
    old = [[r->removed = false; /* a leader speaks to its members only */]],
    new = [[]],
    harm = "one that was added again never stands for election",
  },
  {
    name = "a learner does not ask what has become of it",
    area = "members",
    file = "csrc/core/elections.c",
    old = [[if (!r->removed) request_votes(r, PRE_VOTE);]],
    new = [[]],
    harm = "one that was removed is never told",
  },
  {
    name = "a change that is refused takes the addresses of the one before",
    area = "members",
    file = "csrc/server/changes.c",
    old = [[int rv = raft_change(e->raft, changes, n, io_now(e->io), index, term);]],
    new = [[e->n_moves = 0;
    int rv = raft_change(e->raft, changes, n, io_now(e->io), index, term);]],
    harm = "a member without an address: the leader dies of it",
  },
  {
    name = "a configuration that comes again voids those behind it",
    area = "members",
    file = "csrc/server/changes.c",
    old = [[if (is_known(e, index, term)) continue;]],
    new = [[(void)is_known;]],
    harm = "the addresses of later members are lost",
  },
  {
    name = "who is no member yet cannot be answered",
    area = "members",
    file = "csrc/server/links.c",
    old = [[if (peer != NULL || h->address[0] == '\0') return peer;]],
    new = [[if (peer != NULL || h->address[0] != '\0') return peer;]],
    harm = "a node that was away while the members changed never comes back",
  },
  {
    name = "an id is given out again",
    area = "members",
    file = "csrc/server/changes.c",
    old = [[.next_id = before->next_id, .raft]],
    new = [[.next_id = 1, .raft]],
    harm = "a newcomer is taken for one that was removed",
  },
  {
    name = "the members of a log that was cut stay in the address book",
    area = "members",
    file = "csrc/server/changes.c",
    old = [[confs_drop_last(&e->confs);]],
    new = [[return;]],
    harm = "nodes dial who is no member, and the leader's entry has other members than it counts by",
  },
  {
    name = "a transfer never ends",
    area = "members",
    file = "csrc/core/raft.c",
    old = [[if (now >= r->transfer_until_us) r->transfer = 0; /* it did not come about: go on leading */]],
    new = [[]],
    harm = "a target that does not answer ends all writing",
  },
  {
    name = "a leader that hands over takes new entries",
    area = "members",
    file = "csrc/core/raft.c",
    old = [[if (r->transfer != 0) return ERR_TRANSFERRING; /* the target could never catch up */]],
    new = [[]],
    harm = "its target never catches up",
  },
  {
    name = "a transfer to a peer that is gone goes on",
    area = "members",
    file = "csrc/core/raft.c",
    old = [[if (r->transfer == peer) r->transfer = 0;]],
    new = [[]],
    harm = "nothing is written until it times out",
  },
  {
    name = "the target of a transfer asks for votes like any other",
    area = "members",
    file = "csrc/core/elections.c",
    old = [[request_votes(r, FORCED);]],
    new = [[request_votes(r, REAL);]],
    harm = "the others, which hear the leader, refuse it",
  },
  {
    name = "a lease begins when its answer arrives",
    area = "members",
    file = "csrc/core/replication.c",
    old = [[p->answered_us = MAX(p->answered_us, m->context);]],
    new = [[p->answered_us = now;]],
    harm = "it is counted on for longer than the others have promised",
  },
  {
    name = "a lease trusts all clocks",
    area = "members",
    file = "csrc/core/leases.c",
    old = [[return sent_us + r->config.election_timeout_us - r->config.clock_drift_us;]],
    new = [[return sent_us + r->config.election_timeout_us;]],
    harm = "a clock that is a little slow lets a leader read stale state",
  },
  {
    name = "the answer of one member confirms a read",
    area = "members",
    file = "csrc/core/leases.c",
    old = [[uint64_t answered = quorum_reached(state_conf(r), round_of, r);]],
    new = [[uint64_t answered = 0;
    for (size_t i = 0; i < r->n_peers; i++) answered = MAX(answered, r->peers[i].round);
    if (r->n_peers == 0) answered = round_of(r, r->config.id);]],
    harm = "a leader that was replaced reads stale state",
  },
  {
    name = "reads outlive the leadership they were asked of",
    area = "members",
    file = "csrc/core/roles.c",
    old = [[reads_fail(&r->reads);]],
    new = [[]],
    harm = "they are answered by a later leadership, or never",
  },
  {
    name = "a read does not wait until its index is applied here",
    area = "members",
    file = "csrc/server/host_asks.c",
    old = [[if (ask->answer.code != OK || ask->answer.index <= h->applied || removes(ask, h->node)) {]],
    new = [[if (ask->answer.code != OK || ask->what.kind == ASK_READ || removes(ask, h->node)) {]],
    harm = "what was acknowledged before is not seen",
  },

  -- ---- links ----
  {
    name = "a range that was read for a peer keeps its reader busy",
    area = "snapshots",
    file = "csrc/server/ranges.c",
    old = [[range->reading = false;]],
    new = [[]],
    harm = "a follower that is far behind is sent one range and never another",
  },
  {
    name = "a range of an earlier leadership is sent",
    area = "snapshots",
    file = "csrc/server/ranges.c",
    old = [[if (status.role != RAFT_LEADER || status.term != range->message.term) return false;]],
    new = [[((struct range *)range)->message.term = status.term;]],
    harm = "a node that does not lead appends to the logs of others",
  },
  {
    name = "the pause between attempts to connect has no bound",
    file = "csrc/server/links.c",
    old = [[uint64_t doubled_us = MIN(MAX(2 * d->backoff_us, LINKS_BACKOFF_MIN_US), longest_us);]],
    new = [[uint64_t doubled_us = MAX(8 * d->backoff_us, LINKS_BACKOFF_MIN_US);
    (void)longest_us;]],
    harm = "after a partition two nodes do not find each other again",
  },
  {
    name = "a link that was admitted goes on counting as a stranger's",
    file = "csrc/server/links.c",
    old = [[p->strangers--;
    struct buf frame = {0};]],
    new = [[struct buf frame = {0};]],
    harm = "after some reconnecting nobody is let in any more",
  },
  {
    name = "one that lost touch makes others stand who hear the leader",
    area = "members",
    file = "csrc/core/elections.c",
    old = [[if (m->pre && behind && current && !disturbs && r->role == RAFT_FOLLOWER && r->leader != 0)]],
    new = [[if (m->pre && behind && current && r->role == RAFT_FOLLOWER && r->leader != 0)]],
    harm = "whoever is cut off from the leader alone keeps all the others asking around",
  },
  {
    name = "a link that was lost is not dialled again",
    file = "csrc/server/links.c",
    old = [[if (d->state == DIAL_IDLE) return d->wanted ? d->dial_at_us : NEVER_US;]],
    new = [[if (d->state == DIAL_IDLE) return d->wanted && d->down[0] == '\0' ? d->dial_at_us : NEVER_US;]],
    harm = "two nodes that lost each other never find each other again",
  },
}
