-- What has gone wrong in implementations of Raft, in words, and where it is made sure that it does not here. Most are
-- covered by the specs of their room: such a line names the file and a test in it, which must be there. The others are
-- tested below. Run in all builds: what is about memory is about the sanitizers.
local core = require "raft.core"
local journal = require "spec.store.journal"
local lab = require "spec.core.lab"
local tree = require "spec.tree"

local CORE, STORE, SERVER, WIRE = "spec/core/", "spec/store/", "spec/server/", "spec/wire/"
local ELECTIONS, REPLICATION = CORE .. "elections_spec.lua", CORE .. "replication_spec.lua"
local STORAGE, MESSAGES = CORE .. "storage_spec.lua", CORE .. "bad_messages_spec.lua"
local QUORUM, WALK = CORE .. "quorum_spec.lua", CORE .. "walk_spec.lua"
local MEMBERSHIP, TRANSFER, READS = CORE .. "membership_spec.lua", CORE .. "transfer_spec.lua", CORE .. "reads_spec.lua"
local SNAPSHOTS = CORE .. "snapshots_spec.lua"
local LOG, RECOVERY, IMAGES, ROT = STORE .. "log_spec.lua", STORE .. "recovery_spec.lua", STORE .. "images_spec.lua",
  STORE .. "rot_spec.lua"
local FAULTS, DIRECTORY = STORE .. "faults_spec.lua", STORE .. "directory_spec.lua"
local LINKS, PROPOSALS, SESSIONS = SERVER .. "links_spec.lua", SERVER .. "proposals_spec.lua",
  SERVER .. "sessions_spec.lua"
local ASKS, HANDOVER, LOST = SERVER .. "asks_spec.lua", SERVER .. "handover_spec.lua", SERVER .. "leader_lost_spec.lua"
local DISK, FEED, HOST, STATUS = SERVER .. "disk_spec.lua", SERVER .. "feed_spec.lua", SERVER .. "host_spec.lua",
  SERVER .. "status_spec.lua"
local FRAME, ENTRY, MESSAGE, HELLO = WIRE .. "frame_spec.lua", WIRE .. "entry_spec.lua", WIRE .. "message_spec.lua",
  WIRE .. "hello_spec.lua"
local NODE, PACK, LOOP, SHUTDOWN = "spec/lua/node_spec.lua", "spec/lua/pack_spec.lua", "spec/lua/loop_spec.lua",
  "spec/lua/shutdown_spec.lua"
local WORLD, MEMORY, STALL = "spec/uv/world_spec.lua", "spec/lua/memory_spec.lua", "spec/system/stall_spec.lua"
local CLUSTER, INPUT = "spec/lua/cluster_spec.lua", "spec/system/bad_input_spec.lua"
local QUEUES = "spec/base/queues_spec.lua"
local FILES, INSTALL, FED = STORE .. "snapshot_spec.lua", STORE .. "install_spec.lua", SERVER .. "snapshot_spec.lua"
local TAKEN, CLIENTS = "spec/lua/snapshot_spec.lua", SERVER .. "clients_spec.lua"
local FETCH, OFFERS = SERVER .. "fetch_spec.lua", SERVER .. "offers_spec.lua"
local READMISSION, REPAIR = SERVER .. "readmission_spec.lua", "spec/lua/repair_spec.lua"
local REMOVAL = SERVER .. "removal_spec.lua"

---Each trap: what goes wrong; then pairs of a file and the beginning of a test's name in it, or a test of its own.
local function traps(about, list)
  describe(about .. ":", function()
    for _, trap in ipairs(list) do
      it(trap[1], function()
        if type(trap[2]) == "function" then return trap[2]() end
        for i = 2, #trap, 2 do
          local name = 'it("' .. trap[i + 1]
          assert.truthy(tree.read(trap[i]):find(name, 1, true), ("%s has no test %s"):format(trap[i], name))
        end
      end)
    end
  end)
end

-- ---- what the tests below share ----

local function of_type(messages, type)
  for _, m in ipairs(messages) do
    if m.type == type then return m end
  end
end

---A follower 1 of leader 2 in term 5.
local function follower(options)
  options.id, options.voters, options.term = 1, { 1, 2, 3 }, 5
  local n = lab.node(options)
  n:flush()
  return n
end

local function append(n, index, log_term, terms, commit)
  return n:step { type = "append", term = 5, index = index, log_term = log_term, entries = lab.entries(terms),
    commit = commit or 0 }
end

-- ---- consensus ----

traps("elections", {
  { "a vote, or the term in an answer, leaves before it is durable: two votes in a term after a crash",
    ELECTIONS, "leaves only when it is durable, and with it the term",
    ELECTIONS, "and its refusal, in a new term, wait for the term to be durable",
    STALL, "of every disk elects nobody" },
  { "a candidate counts its own vote before it is durable, or after it has lost that election",
    ELECTIONS, "counts its own vote only when it is durable",
    ELECTIONS, "does not count its own vote for an election that it has given up meanwhile" },
  { "a candidate asks for votes before its own is durable: it wins, crashes, and wins the same term with another log",
    ELECTIONS, "asks for votes only when its own is durable",
    ELECTIONS, "that loses the candidate's disk write after it won" },
  { "a candidate takes the durability of an older batch for that of its vote",
    ELECTIONS, "does not take an older batch's durability for that of its own vote" },
  { "the vote is cleared when the role changes within the term, or when a leader shows up",
    ELECTIONS, "is not given up when the role changes within the term",
    ELECTIONS, "is not given in a term whose leader is known" },
  { "the vote is forgotten over a restart", ELECTIONS, "is remembered over a restart" },
  { "a repeated request of the same candidate is refused: one lost reply costs an election",
    ELECTIONS, "is given to one candidate a term, and to that one again when it repeats its request" },
  { "logs are compared by index alone, by term alone, or in the wrong order",
    ELECTIONS, "goes to logs that end in a later term" },
  { "refused votes or pre-votes put off the election timeout", ELECTIONS, "is not put off by a refused vote" },
  { "a pre-vote changes term or vote", ELECTIONS, "leaves term and vote of both sides alone" },
  { "the answer to a pre-vote carries the voter's own term: the grant of a node that lags is ignored",
    ELECTIONS, "is granted in the term that was asked for" },
  { "a pre-vote of an older term is dropped in silence: clusters get stuck",
    ELECTIONS, "of an older term is answered with the newer one, not with silence" },
  { "a pre-candidate still believes in its leader, and refuses everybody else for ever", function()
    local n = follower { log = { 1 } }
    assert(n:step { type = "heartbeat", term = 5, commit = 1, context = 1 })
    n:flush()
    assert.equal(2, n:status().leader)
    repeat
      n:tick()
      local asked = of_type(n:flush(), "vote")
    until asked
    assert.same({ "candidate", 5, 0 }, { n:status().role, n:status().term, n:status().leader })
    assert(n:step { type = "vote", from = 3, pre = true, term = 6, index = 1, log_term = 1 })
    local reply = of_type(n:flush(), "vote_reply")
    assert.same({ 3, 6, false }, { reply.to, reply.term, reply.reject or false })
  end },
  { "grants of the pre-vote are counted as votes, or the other way round",
    ELECTIONS, "does not count late grants of its pre-vote, nor late votes while it asks again" },
  { "votes of strangers, of learners, of an earlier term, or of the same voter twice are counted",
    ELECTIONS, "does not count votes of strangers, nor of learners",
    ELECTIONS, "does not count votes of an earlier term", ELECTIONS, "does not count the same vote twice" },
  { "a node whose term is higher can never come back, since its leader is not answered",
    ELECTIONS, "gets a node back whose term is higher", REPLICATION, "tells a leader of an older term" },
  { "a node that comes back from a partition disturbs the leader",
    ELECTIONS, "is not disturbed by a node that comes back from a partition" },
  { "the timeout is not drawn anew: votes are split for ever", ELECTIONS, "is drawn between T and 2T" },
  { "a leader without a majority goes on leading", ELECTIONS, "is led by none without a majority" },
  { "learners count for the majority that keeps a leader", ELECTIONS, "keeps a leader that a majority hears" },
  { "votes are counted over one half of a joint configuration",
    ELECTIONS, "needs both majorities of a joint configuration",
    QUORUM, "of a joint configuration is won in both lists" },
  { "a learner campaigns, or refuses its vote though others have made it a voter already",
    ELECTIONS, "never campaigns, not when told either", ELECTIONS, "is given by a learner" },
  { "two leaders of one term are tolerated", ELECTIONS, "are a contradiction, of which no further input is taken" },
  { "a single voter waits for somebody", ELECTIONS, "elects itself when its vote is durable" },
})

traps("commitment", {
  { "entries of an older term are committed by counting copies",
    REPLICATION, "does not come by counting copies of an older term's entries" },
  { "a follower commits up to its own last entry instead of the last one that the message covers",
    REPLICATION, "commits no further than the message covers" },
  { "a heartbeat carries a commit index that the follower has not matched",
    REPLICATION, "is told in heartbeats no further than the follower has confirmed" },
  { "the commit index falls", REPLICATION, "never takes a commit back" },
  { "a joint configuration commits by one half, or by the union",
    REPLICATION, "needs both majorities of a joint configuration",
    QUORUM, "of a joint configuration is what both majorities have reached" },
  { "a leader counts entries that are not durable on itself",
    REPLICATION, "needs entries to be durable on a majority, the leader's own copy among them only when it is" },
  { "followers learn of a commit only with the next proposal",
    REPLICATION, "is told to followers by itself soon, once, when no entries follow",
    REPLICATION, "is learned from the next heartbeat when its news were lost" },
  { "a follower that lost its log is told a commit index beyond it, and dies again and again",
    REPLICATION, "that has lost its log is told so" },
  { "a term that is not known is taken for equal to another one that is not known", function()
    local n = follower { log = { 1 } }
    for _, case in ipairs { { 3, 5 }, { 2, 1 } } do  -- no entry is there
      assert(append(n, case[1], case[2], { 5 }))
      assert.is_true(of_type(n:flush(), "append_reply").reject)
    end
    assert.is_nil((append(n, 3, 0, { 5 })))  -- no entry has term 0
    assert.same({ 1 }, n:terms())
  end },
})

traps("replication", {
  { "every append truncates: one that comes late deletes what was acknowledged",
    REPLICATION, "is not cut by older appends that come late", REPLICATION, "cuts its log where an entry differs" },
  { "an append below the commit index is rejected or applied, instead of being answered with what is there", function()
    local n = follower { log = { 1, 1, 1, 1 } }
    assert(append(n, 4, 1, {}, 4))
    n:flush()
    for _, case in ipairs { { 0, 0, { 1, 1 } }, { 1, 1, {} }, { 1, 1, { 1, 1 } } } do
      assert(append(n, case[1], case[2], case[3], 1))
      local messages, out = n:flush()
      local reply = of_type(messages, "append_reply")
      assert.falsy(reply.reject)
      assert.is_true(reply.index >= case[1] + #case[3])
      assert.equal(0, out and out.truncate_from or 0)
      assert.same({ { 1, 1, 1, 1 }, 4 }, { n:terms(), n:status().commit })
    end
  end },
  { "a conflict at or below the commit index is overwritten",
    REPLICATION, "answers a conflict at or below the commit index with a fault" },
  { "a follower acknowledges what the message did not verify", function()
    local n = follower { log = { 1, 1, 1 } }
    assert(append(n, 1, 1, {}))
    assert.equal(1, of_type(n:flush(), "append_reply").index)
  end },
  { "probing goes back entry by entry, or turns in circles",
    REPLICATION, "over thousands of entries that are missing takes two or three round trips",
    REPLICATION, "over many terms on both sides takes one round trip for each of the terms that differ",
    REPLICATION, "does not go round in circles with a peer that has lost its log" },
  { "a late or forged rejection moves the next index back, below what is confirmed",
    REPLICATION, "does not go back for a rejection that comes late or twice",
    MESSAGES, "that acknowledges or rejects what was never sent is refused by the leader" },
  { "a probe is lost and nobody sends another one",
    REPLICATION, "probes again when a heartbeat is answered" },
  { "a peer that has everything stays in probing after its link was down",
    REPLICATION, "replicates again to a peer that had everything when its link went down" },
  { "a full window is lost, and the leader waits for ever", REPLICATION, "sends a lost window again" },
  { "the window is not freed, or its bytes are not counted",
    REPLICATION, "stops when window_bytes are on the way", REPLICATION, "stops at 256 messages on the way" },
  { "a limit on sizes leaves an entry behind that is larger than it",
    REPLICATION, "fills messages up to append_bytes, and sends a larger entry alone", FEED, "applies entries larger" },
  { "an entry is skipped where stored entries end and cached ones begin",
    REPLICATION, "may be read for a follower in smaller pieces", FEED, "applies its whole log once more, in order" },
  { "the quota refuses empty entries, is never released, or follows into another term",
    REPLICATION, "refuses what exceeds it, all or none", REPLICATION, "lets one entry in, however large",
    REPLICATION, "starts anew with each leader" },
  { "messages from strangers, from oneself, or of no type reach the algorithm",
    MESSAGES, "from this node itself, from nobody", MESSAGES, "of an unknown type is refused" },
  { "an acknowledgement is lost, and the leader waits for it",
    REPLICATION, "acknowledges again when a heartbeat shows that its acknowledgement was lost" },
  { "runs of the same inputs differ, because peers are visited in the order of a hash",
    WALK, "the same seed gives the same walk" },
})

traps("membership", {
  { "a configuration takes effect when it is applied, not when it is appended: a campaign counts by an old one",
    MEMBERSHIP, "takes effect when it is appended, on each member as it arrives" },
  { "a configuration stays in force though its entry was overwritten",
    MEMBERSHIP, "that was not committed is rolled back when another leader overwrites it",
    MEMBERSHIP, "that follows another one and is overwritten leaves that in force" },
  { "the configuration is lost with the log that is compacted, or one that is not committed is in a snapshot",
    MEMBERSHIP, "in force survives compaction, and one that is not committed can still be rolled back",
    SNAPSHOTS, "goes by the configurations that stand behind it in the log, not by its own",
    ASKS, "that were added are known after a restart, from the log and from a snapshot" },
  { "a snapshot's configuration is not adopted", SNAPSHOTS, "brings its configuration, whatever this node was" },
  { "a leader changes the members before it has committed an entry of its own term",
    MEMBERSHIP, "is refused until an entry of the leader's own term is committed" },
  { "two changes are open at once; a new leader does not know the one that it inherits",
    MEMBERSHIP, "is refused while another one is open, by a leader that came meanwhile too" },
  { "a change that is refused is told as made, or becomes an empty entry",
    MEMBERSHIP, "that is refused is not an empty entry", ASKS, "are refused with a reason" },
  { "several voters change in a step without a joint configuration; all are removed",
    MEMBERSHIP, "is a joint one when more than one voter changes", MEMBERSHIP, "is refused with a reason",
    MEMBERSHIP, "over single steps always has a majority in common" },
  { "a joint configuration is left before it is committed under both majorities, above all by a new leader",
    MEMBERSHIP, "is not left while one of the two majorities has not committed it",
    MEMBERSHIP, "is left by the next leader when the one that entered it is gone" },
  { "it is left twice, or never: when the leader changes, or while proposals are refused",
    MEMBERSHIP, "is left once, by one entry", MEMBERSHIP, "is not held up by the quota for proposals",
    MEMBERSHIP, "found at a restart is left in the same way" },
  { "who is demoted does not vote until the joint configuration is left",
    MEMBERSHIP, "counts a voter that is being demoted until it is left" },
  { "one list of a joint configuration has one voter, which is taken for a cluster of one",
    MEMBERSHIP, "with one voter in its new list commits nothing by that one alone",
    READS, "of a cluster of one needs nobody; in a joint configuration a list of one is not enough" },
  { "the quorum becomes smaller, and nobody looks again at what it has",
    MEMBERSHIP, "makes the quorum smaller, and what that has already is committed at once",
    READS, "is decided when the quorum shrinks to those that have answered" },
  { "a leader counts itself though it is removed",
    MEMBERSHIP, "leads on until that is committed without its own vote, then steps down and leaves no gap" },
  { "a removed leader goes on for ever, or goes before the others know",
    MEMBERSHIP, "of two lets the other one know what is committed before it goes",
    MEMBERSHIP, "and crashed with the only copy of that can still be elected to finish it" },
  { "the cluster waits for an election because its leader was removed",
    HANDOVER, "hands over first: the next one makes the change" },
  { "a removed member disturbs the others", MEMBERSHIP, "asks around in vain, is told, and stops",
    ASKS, "are removed, the leader too, which then leads no more" },
  { "a member is told that it was removed by one that is behind it",
    MEMBERSHIP, "is not told so by a member that is behind it",
    MEMBERSHIP, "does not believe it while it hears a leader" },
  { "a removed member never hears of it: those that it asks are gone, it was down, or its log went astray",
    MEMBERSHIP, "asks learners too: of those it knows they may be the only ones left who can tell it",
    MEMBERSHIP, "learns it although its log went astray, with a change of its own at the end",
    REMOVAL, "learns it when it comes back, though nothing in its log says so" },
  { "it is told once, and forgets it over a restart", MEMBERSHIP, "learns it anew in each of its lives",
    REMOVAL, "learns it in each of its lives, and none of them costs the others an election" },
  { "a wrong word silences a member for good",
    MEMBERSHIP, "that was told so wrongly gives its vote all the same, and takes part again",
    REMOVAL, "believes nobody who is no member" },
  { "a leader that takes its own vote leads on, or counts itself",
    MEMBERSHIP, "leads on until that is committed without it, then follows the next one as a learner" },
  { "the id of a former member is given to a new one",
    ASKS, "gets no id that was given before", MEMBERSHIP, "that is added again under its old id starts anew" },
  { "a new voter has nothing, and the cluster waits for it",
    MEMBERSHIP, "has no say until it is promoted, and must have caught up for that",
    MEMBERSHIP, "catches up in rounds; a round that takes longer than an election timeout is too slow" },
  { "a learner counts in a quorum, or a promoted one that has not heard of it refuses its vote",
    MEMBERSHIP, "that was promoted without knowing it gives its vote all the same",
    READS, "is not confirmed by learners, nor by one half of a joint configuration" },
  { "a new member counts as silent at once: the leader steps down",
    MEMBERSHIP, "that is new is given time before it counts as silent" },
  { "a member that was never started stalls the others",
    MEMBERSHIP, "that is new and not started yet holds nobody up" },
  { "what a former member of the same id had confirmed is believed of the new one",
    MEMBERSHIP, "that is added again under its old id starts anew",
    MEMBERSHIP, "that lost its log is served from the" },
  { "the longest log does not know the commit, and the shorter one that knows it may not lead: nobody does",
    MEMBERSHIP, "and crashed with the only copy of that can still be elected to finish it",
    MEMBERSHIP, "counts in an election by being in the log" },
  { "a member cannot answer one that it does not know yet",
    MEMBERSHIP, "answers requests of one that is not in its configuration",
    LINKS, "hears one that is no member as a guest" },
})

traps("leadership", {
  { "proposals are taken during a transfer: the target never catches up; or refused for ever after it",
    TRANSFER, "refuses proposals and changes meanwhile, with a code of its own",
    TRANSFER, "that does not come about ends after an election timeout, and the leader goes on",
    TRANSFER, "is forgotten with the leadership: whoever leads later takes proposals" },
  { "a proposal fails because leadership is handed over", ASKS, "loses no proposal while it is handed over" },
  { "the word to the target is lost, and nobody says it again", TRANSFER, "repeats its word with every heartbeat" },
  { "the target is removed or demoted, or gone, meanwhile", TRANSFER, "ends when the target stops being a voter",
    TRANSFER, "ends when the target's link goes down", ASKS, "is not handed over to one that is not there" },
  { "the target cannot be reached, or may not vote, and all wait for it",
    TRANSFER, "is not tried with one that nothing reaches", HANDOVER, "is not handed over to one that is down",
    HANDOVER, "is not handed over to one that has lost its directory, before it has its vote again" },
  { "the target is behind, or needs a snapshot", TRANSFER, "waits until the target has all entries",
    TRANSFER, "waits even for a snapshot, if that comes in time" },
  { "the target's election is refused because the leader is alive, or goes through a pre-vote",
    TRANSFER, "makes the target campaign at once, in the next term, without a pre-vote",
    TRANSFER, "wins against members that hear a live leader, but not by a log that is behind" },
  { "a transfer to oneself, to no member, to a learner, or a second one makes a mess",
    TRANSFER, "to this node itself, to one that is no voter, or to nobody is refused",
    TRANSFER, "to another one, while one is going on, is refused" },
  { "a learner, a removed node or one with an older leader campaigns because it is told to",
    TRANSFER, "is not begun by a word from another one than the leader" },
  { "a candidate that was told to campaign asks for votes while its own is not durable",
    TRANSFER, "is done by a candidate that waits for its own vote to be durable" },
  { "a leader whose disk or program stands still goes on leading; or leadership wanders among equals",
    HANDOVER, "hands over to a member that has stored more", HANDOVER, "leads on while all disks hang",
    HANDOVER, "hands over to a member that has applied more", HANDOVER, "leads on while no host takes anything",
    HANDOVER, "hands over once" },
  { "the hint of a dead leader unseats one that lives",
    TRANSFER, "does not unseat a leader whom the others hear", TRANSFER, "is acted on once in an election timeout",
    LOST, "when a link to one of the others comes and goes", LOST, "when somebody sends garbage to everybody" },
  { "all who lose their leader campaign at once", TRANSFER, "is acted on after a delay, another one for each" },
})

traps("reads", {
  { "a new leader answers before the first commit of its term", READS, "waits at a new leader for the first commit",
    READS, "at a new leader waits for its first commit" },
  { "a leader that others have replaced answers",
    READS, "of a leader that others have replaced is not confirmed",
    ASKS, "is not answered by a leader that is one no more" },
  { "answers to an earlier round confirm a later read, above all when its number was used before",
    READS, "is not confirmed by answers to heartbeats that were sent before, however late they come",
    READS, "under a number that was used before is confirmed anew" },
  { "answers of learners, of strangers, or of one half of a joint configuration count",
    READS, "is not confirmed by learners, nor by one half of a joint configuration" },
  { "reads survive a change of term, or vanish without an answer",
    READS, "fails when leadership is lost, in whatever way, and is not forgotten",
    READS, "of an earlier leadership is not confirmed by a later one" },
  { "reads pile up", READS, "is refused when too many wait, and taken again when they do not" },
  { "a lease outlives a transfer, whose word may come late",
    READS, "ends when a transfer starts, and for the rest of the term" },
  { "a lease counts from when the answers came, or holds without its leader's being heard",
    READS, "answers reads alone, from the sending of heartbeats a quorum has answered" },
  { "a lease rests on clocks that run apart further than is assumed",
    READS, "gives no stale read under clocks that run apart as far as is allowed" },
  { "a restart, a new directory or the hint of a dead leader makes a member forget the lease it has promised",
    READS, "may have been forgotten in a restart", TRANSFER, "is not acted on while a lease is promised to the leader",
    READS, "does not rest on the promise of a member that has come back without its directory" },
  { "a lease and a forced election contradict each other",
    READS, "does not hold against an election that the leader itself has asked for" },
})

traps("snapshots", {
  { "one at or below the commit index is installed, so that the state goes back, or ignored without an answer",
    SNAPSHOTS, "that is older than what is committed is ignored, and answered",
    FILES, "is refused when there is a newer one, or the same" },
  { "one that the log matches wipes the entries behind it", SNAPSHOTS, "that the log matches leaves it alone" },
  { "committed entries are handed out while one waits to be stored",
    SNAPSHOTS, "lets nothing be handed out as committed before it is stored" },
  { "a peer stays in the snapshot state: the report is lost, or it has another one than was ordered",
    SNAPSHOTS, "goes on when the report of its transfer is lost", SNAPSHOTS, "goes on when another snapshot than" },
  { "it is sent to a dead peer over and over", SNAPSHOTS, "is not sent one over and over while it is dead" },
  { "the log is compacted faster than a follower is fed, again and again",
    SNAPSHOTS, "gets another one when its own became too old on the way", FED, "is fed the snapshot, and then what" },
  { "the term of the entry before the first one is lost at compaction",
    SNAPSHOTS, "keeps the term of the last entry that is gone", INSTALL, "finds a log whose first segments are gone" },
  { "acknowledgements of entries before it count for those behind it", SNAPSHOTS, "voids the batches under way" },
  { "it is installed while a log that contradicts it remains, and a crash leaves both",
    INSTALL, "survives a crash at any operation of installing", INSTALL, "starts the log behind a snapshot",
    SNAPSHOTS, "between the storing of a snapshot and the replacement of the log" },
  { "one is taken while another one is installed, and one of the two is lost",
    SNAPSHOTS, "and an own one that was being taken meanwhile", FILES, "of the same index as another one leaves" },
  { "an empty or half-written one is taken for whole",
    FILES, "is told from one that is damaged at any byte", FILES, "replaces the one before only when it is whole",
    FILES, "is gone when the process ends before it is published" },
  { "an unfinished one is removed while it is written, or a finished one while it is read",
    FILES, "survives a crash at any operation: the old one or the new one", FILES, "keeps the file while newer ones" },
  { "the state, sessions and members in it are of different indexes", FED, "is in snapshots",
    FED, "brings the state back at the next start" },
  { "taking one fails, and the log is released all the same", FED, "that fails leaves everything as it was",
    TAKEN, "that raises leaves everything as it was" },
  { "it stops the machine, or takes as much memory as the state", TAKEN, "does not stop a machine that goes on",
    FILES, "takes memory for what is queued, not for what is in the file" },
  { "what a leader began to send is lost with it", FETCH, "goes on at that byte with the next leader",
    FETCH, "goes on at the byte where the connection broke", FED, "is fed also when its leader is replaced meanwhile",
    FED, "is fed whatever breaks on the way", FILES, "takes bytes in any pieces, and says where to go on" },
  { "over a slow link it never gets through: what was asked for holds up the pings, and the link is taken for dead",
    FED, "delays no heartbeat and no commit while it is fed",
    FETCH, "is asked for little by little while it comes late" },
  { "two of them take the place of the log at once", FETCH, "is given up when one that is here already will do" },
  { "an order for one is lost, and the peer is waited for without end",
    OFFERS, "is offered again when its transfer was given up", OFFERS, "is offered again when there was no memory" },
  { "the child that writes one runs finalisers, keeps ports and locks, or outlives its program",
    TAKEN, "runs no finaliser, however much garbage", TAKEN, "keeps no descriptor but its own, and dies" },
})

traps("directories that are lost", {
  { "an emptied directory votes again under its old id, for those that have never met the old one too",
    READMISSION, "is not taken for a new one by a member that has never met it",
    READMISSION, "is refused without the word that it shall rejoin" },
  { "an older copy of a directory goes on as if nothing was missing",
    READMISSION, "is told by its peers, and named; its node is silent", REPAIR, "is asked for by the others, by name" },
  { "what a lost directory had confirmed counts for the new one",
    READMISSION, "is refilled from the log, and gets its vote back", READMISSION, "of a learner is refilled from" },
  { "it gets its vote back before it has what it may have acknowledged",
    READMISSION, "makes no majority with what is left", READMISSION, "stays without a vote over restarts" },
  { "who was away refuses a leader whose new directory it has not heard of",
    READMISSION, "is followed by one that was away", LINKS, "hears one whose directory is named by a later" },
})

traps("the core and its storage", {
  { "the acknowledgement of an entry that was overwritten counts for the new one, also after A-B-A",
    STORAGE, "and the same entries again", STORAGE, "takes acknowledgements under way away from what it cut off" },
  { "so many acknowledgements are dropped that the tail is never released",
    STORAGE, "are acknowledged to the leader while newer ones keep coming" },
  { "the program appends without being told what the new entries replace",
    REPLICATION, "tells the store from where on the old entries are void" },
  { "a committed entry is applied before it is on one's own disk",
    STORAGE, "are handed out only when they are durable" },
  { "more is applied than the stored commit index says after a restart",
    STORAGE, "takes what was applied for committed, though no commit index was stored" },
  { "the term is written before the entries that it belongs to, or after them",
    STORAGE, "hold term and vote when they changed, with the entries", IMAGES, "while entries and votes are appended" },
  { "the leader keeps entries that could not be written", DISK, "stops its node for good, with the reason" },
  { "a lack of memory in the middle of a step leaves half of it done",
    STORAGE, "leaves the state as it was, wherever it fails" },
})

-- ---- the disk ----

traps("the disk", {
  { "term and vote are written in two steps", IMAGES, "while entries and votes are appended" },
  { "a file of state is replaced so that a crash leaves none, or half of one",
    IMAGES, "while peers are remembered", DIRECTORY, "survive a crash at any operation" },
  { "a torn end in a preallocated file is taken for damage",
    RECOVERY, "is cut at every byte to what was there before" },
  { "damage is taken for a torn end, and acknowledged entries are gone",
    ROT, "anywhere in a segment of 64 KiB is refused", RECOVERY, "is refused wherever a later batch proves" },
  { "what was cut off as torn comes back to life",
    RECOVERY, "never comes to life again, whatever is written after it" },
  { "entries that were truncated come back to life", IMAGES, "while tails are truncated and written anew",
    LOG, "voids entries for good, whether they are written, in flight or queued" },
  { "a new segment without a whole header stops the next start", IMAGES, "while segments turn over" },
  { "two crashes, one after the other, are more than a start can bear",
    RECOVERY, "while a directory is opened again loses nothing",
    RECOVERY, "in one copy of a spare's header is mended" },
  { "what recovery finds in a page cache is promised, and then lost with the power",
    IMAGES, "in more than a million images" },
  { "old content of a recycled file is taken for new", LOG, "are used again, and their old content never comes back" },
  { "a segment goes though an older one is still needed", LOG, "go in order, whichever operation on them fails",
    LOG, "are kept while the only newer one is not durable" },
  { "a file's name and its content disagree", function()
    local j = assert(journal.new(1):open())
    for i = 1, 6 do j:append({ ("%d "):format(i):rep(9000) }, { term = i, vote = 1, entry_term = i }) end
    j:run():close()
    local image, swapped, live = j:image(), {}, {}
    for path, bytes in pairs(image) do
      swapped[path] = bytes
      if path:find("%.seg$") and bytes:byte(17) == 2 then live[#live + 1] = path end
    end
    assert.is_true(#live >= 2)  -- where a segment belongs is told by its header alone
    for i, path in ipairs(live) do swapped[path] = image[live[i % #live + 1]] end
    local again = journal.new(1, nil, nil, swapped)
    again.base = j.base
    assert(again:open())
    assert(again:matches())
  end },
  { "a write fails, a later one succeeds, and what lies between is acknowledged",
    LOG, "latches the log: nothing more is acknowledged or written", FAULTS, "loses nothing that was acknowledged" },
  { "the writer is left half advanced when a write fails", FAULTS, "loses nothing in one that holds a log already" },
  { "a range is read while it is overwritten", LOG, "cancels a read of what it voids" },
  { "an error of reading is taken for the end of the log",
    FEED, "stops, and says why, when an entry that it must apply",
    LOG, "in a file that has been cut meanwhile is refused" },
  { "truncation frees what a write still uses", LOG, "voids entries for good" },
  { "lack of room stops a node for good, or takes the room for votes as well",
    LOG, "stops proposals before the log is full, keeps votes going",
    DISK, "makes the leader refuse proposals for certain" },
  { "a leader whose disk hangs keeps the lead", DISK, "makes a leader hand over", STALL, "of the leader's disk moves" },
  { "a directory that was emptied votes again", LINKS, "refuses a member that comes back with another directory" },
  { "two processes write into one directory", DIRECTORY, "is refused while another holds it" },
  { "the directory of another node or cluster is used", DIRECTORY, "is refused to another node or cluster" },
  { "a log that has lost its end looks whole", RECOVERY, "is refused when blocks are zero",
    RECOVERY, "is refused when a file is cut, empty or gone" },
})

-- ---- sessions and proposals ----

traps("sessions", {
  { "a proposal that is sent again to the next leader is applied twice",
    PROPOSALS, "survives the leader's death by being sent to the next one, and is applied once",
    PROPOSALS, "applies once what is forwarded twice" },
  { "a late copy is applied after its proposer has given it up",
    SESSIONS, "holds what its proposer has given up as settled" },
  { "an earlier life of a member goes on where a later one has spoken",
    SESSIONS, "fences an earlier life of a member", PROPOSALS, "takes no late answer to its earlier life" },
  { "the table forgets what it has seen, or takes one sequence for another",
    SESSIONS, "remembers exactly, over many times its window", SESSIONS, "refuses a sequence beyond its window" },
  { "a call is told that nothing happened while a copy of it may be in some log",
    PROPOSALS, "does not end a call as refused while a copy of it may be in some log" },
  { "a call ends twice, or never", HOST, "ends each call once, whatever happens to it" },
  { "somebody proposes in the name of another member", PROPOSALS, "takes nothing in the name of another member" },
  { "queues grow without end while something hangs",
    PROPOSALS, "does not grow without end by proposals of a node whose disk hangs",
    PROPOSALS, "does not grow without end by proposals of a node whose host takes nothing" },
  { "what closes loses what it was applying", CLUSTER, "apply everything that is proposed while the leader closes" },
})

-- ---- the network ----

traps("sessions of programs outside", {
  { "a retry through another server is applied once more", FED, "gets the first try's result from any node",
    TAKEN, "gives a command that comes again the result of its first try", TAKEN, "remembers an error of apply" },
  { "sessions expire at different commands on different nodes",
    CLIENTS, "ends a session that was idle for an hour by the leader's clock",
    CLIENTS, "makes room by ending the session that was idle for longest" },
  { "they are lost in a snapshot", CLIENTS, "is the same table again, in the same order of use",
    FED, "is in snapshots" },
  { "one that has expired is taken for new, and its last command applied again",
    FED, "that was never opened is told so", CLIENTS, "knows no session that was not opened" },
  { "who asks while a snapshot is restored is told that it was applied, though it was turned away",
    FED, "is answered from the table of a snapshot that has overtaken the answer" },
  { "the results that are kept are bounded in number and not in bytes",
    CLIENTS, "makes room for results by ending the sessions" },
})

traps("the network", {
  { "lengths and counts of the wire overflow, or are believed before they are checked",
    FRAME, "believes no length in a header whose hash is wrong", MESSAGE, "that announces more entries than its bytes",
    MESSAGE, "is refused when its indexes would run over", MESSAGES, "with an index so large that indexes could wrap" },
  { "a stream is cut where nobody expected it", FRAME, "gives the same frames for a stream cut in two anywhere" },
  { "damaged bytes are taken for a frame or an entry",
    FRAME, "is told for every bit of every kind of frame", ENTRY, "is refused when any bit of it is flipped" },
  { "somebody who announces much and sends little takes the memory",
    FRAME, "holds at most twice what has come of a frame", LINKS, "lets 64 strangers wait and no more" },
  { "a node of another cluster, or with another list of members, is let in",
    LINKS, "refuses a node of another cluster", LINKS, "refuses a node with another list of members" },
  { "two nodes have one id", LINKS, "refuses one that calls itself by this node's id" },
  { "a peer vanishes without a word, and nobody notices", LINKS, "notices that a peer has vanished without a word" },
  { "connections that say nothing, or say it byte by byte, stay for ever",
    LINKS, "closes the link of a silent stranger", LINKS, "grants a stranger no more time for single bytes" },
  { "an old link of a peer lives on beside its new one", LINKS, "drops the older link of a member for its newest one" },
  { "what a peer says gets into a log with its control codes", HELLO, "cannot write control codes into anybody's log" },
  { "garbage stops a node", INPUT, "closes connections that send garbage",
    LINKS, "closes a link on which garbage comes" },
})

-- ---- threads and Lua ----

traps("threads", {
  { "a wake-up is lost between looking and sleeping",
    QUEUES, "keeps the order, and loses no item, no value and no wake-up" },
  { "counts of references are changed by two threads", QUEUES, "exchange requests, notices and status" },
  { "a slow apply or a garbage collection costs the leader its lead",
    HOST, "takes as many calls as it was told",
    STALL, "of the leader's Lua for three election timeouts causes no election" },
  { "a thread of the library takes the signals of the program", WORLD, "blocks every signal in its threads" },
  { "timers spin", STATUS, "does little: no timer spins" },
})

traps("Lua", {
  { "the interpreter's interrupt cuts an apply in half", SHUTDOWN, "in the middle of apply lets it end first" },
  { "running out of memory or stack in apply counts as applied on one node, and not on the others",
    NODE, "halts the node when it runs out of " },
  { "an apply that raises stops every node at the same entry", NODE, "is told to the proposer and counts as applied" },
  { "a callback waits inside apply and blocks its own answer", NODE, "every waiting call raises" },
  { "an error in a callback jumps across the library", NODE, "let errors of a callback reach raft.run",
    NODE, "reach raft.run when a handler raises, and the node goes on" },
  { "a coroutine yields past the loop, and nobody resumes it", LOOP, "may not yield by themselves" },
  { "the same value is packed in two ways, and replicas that hash it differ",
    PACK, "gives the same bytes however a table was built", PACK, "writes one NaN, whatever bits the machine made" },
  { "packed data announces more than it holds", PACK, "takes no more memory than the data can fill" },
  { "a call that raised for lack of memory has its answer given to the next one",
    MEMORY, "survives a lack of Lua's memory" },
  { "a node that nobody holds is collected while it works, or never",
    SHUTDOWN, "collects a node that nobody holds, while another one goes on" },
  { "the module goes from memory while its threads run", function()
    local ok, result = core.starve(0, [[
      local core = require "raft.core"
      return function()
        local world = core.world("real")
        world:wake(10)
        return "left behind"
      end]])
    assert.same({ true, "left behind" }, { ok, result })  -- that state is closed, and with it its module
  end },
})
