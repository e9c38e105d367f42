-- The relation of allowed steps, shown steps by hand: node 1 of three. Each broken one is a step that a correct core
-- never takes; the section of the dissertation that forbids it is named.
local core = require "raft.core"

local T, HEARTBEAT = 1000000, 100000

local server = {}
server.__index = server

---Node 1 in its first life: a follower. options: term, vote, log (its terms), applied.
local function start(options)
  options = options or {}
  local log = options.log or {}
  local self = setmetatable({ check = core.sim_check(), now = 10 * T }, server)
  self.state = { role = "follower", term = options.term or log[#log] or 0, vote = options.vote or 0, leader = 0,
    conf = options.conf, last = #log, stable = #log, commit = options.applied or 0, applied = options.applied or 0,
    deadline = self.now + T }
  self.state.durable_term = self.state.term
  self.check:step(1, { type = "start", now = self.now, election_timeout = T, heartbeat = HEARTBEAT, log = log,
    lease = options.lease, drift = options.drift, conf = options.conf, term = self.state.term,
    vote = self.state.vote, applied = self.state.applied, withhold = options.withhold }, self.state)
  return self
end

---An input, after which the state is the one before with these changes.
function server:take(input, changes)
  local after = {}
  for name, value in pairs(self.state) do after[name] = value end
  for name, value in pairs(changes or {}) do after[name] = value end
  input.now = self.now
  self.check:step(1, input, after)
  after.last = (after.kept or after.last) + #(after.added or {})
  after.kept, after.added = nil, nil
  self.state = after
  return self
end

function server:wait(us)
  self.now = self.now + us
  return self
end

function server:message(type, fields, changes)
  local message = { type = type, from = 2, to = 1, term = self.state.term }
  for name, value in pairs(fields or {}) do message[name] = value end
  return self:take({ type = "step", message = message }, changes)
end

---Everything is handed to the disk: term and vote, entries up to the last; with these messages, and these changes.
function server:ready(fields, changes)
  local state = self.state
  local out = { type = "ready", term = state.term, vote = state.vote, first = (self.handed or state.stable) + 1,
    last = state.last, commit = math.min(state.commit, state.stable) }
  if state.term ~= state.durable_term or out.last >= out.first then
    self.seq = (self.seq or 0) + 1
    out.seq, out.vote_changed = self.seq, true
  end
  for name, value in pairs(fields or {}) do out[name] = value end
  self.handed = out.last
  return self:take(out, changes)
end

function server:send(message, changes)
  message.from = message.from or 1
  message.term = message.term or self.state.term
  return self:ready({ messages = { message } }, changes)
end

function server:persisted(changes)
  local state = { durable_term = self.state.term, stable = self.handed }
  for name, value in pairs(changes or {}) do state[name] = value end
  return self:take({ type = "persisted", seq = self.seq }, state)
end

---It asks for pre-votes, its election timeout is over.
function server:ask()
  self:wait(T)
  return self:take({ type = "tick" }, { role = "candidate", asking = true, leader = 0, deadline = self.now + T })
end

---It stands for election: 2 would vote for it.
function server:stand()
  local term = self.state.term + 1
  return self:ask():message("vote_reply", { pre = true, term = term },
    { term = term, vote = 1, asking = false, deadline = self.now + T }):ready():persisted()
end

---It leads: 2 has voted for it. Its empty entry is not on disk yet.
function server:lead()
  local state = self.state
  self:stand()
  return self:message("vote_reply", nil, { role = "leader", leader = 1, added = { state.term + 1 }, peers = {
    { id = 2, match = 0, next = state.last + 1 }, { id = 3, match = 0, next = state.last + 1 } } })
end

---It follows 2, in its term, which has told it of the end of its log.
function server:follow()
  return self:message("append", { index = self.state.last, log_term = self.state.term }, { leader = 2,
    deadline = self.now + T })
end

local function follower() return start { log = { 1, 1, 2 }, applied = 1 }:follow() end
local function leader() return start { log = { 1, 1, 2 }, applied = 1 }:lead() end

---Both have the leader's entries up to the index.
local function peers(match2, next2, match3, next3)
  return { { id = 2, match = match2, next = next2 }, { id = 3, match = match3, next = next3 } }
end

describe("the relation of allowed steps", function()
  local function allows(what, play)
    it("allows " .. what, function() assert.is_nil(play().check:failure()) end)
  end

  local function forbids(what, section, before, play)
    it("forbids " .. what, function()
      local s = before()
      assert.is_nil(s.check:failure())
      play(s)
      local failure = s.check:failure()
      assert.is_truthy(failure, "nothing was said")
      assert.matches(("relation (%s): "):format(section), failure, 1, true)
    end)
  end

  ---- allowed ----

  allows("a follower to start, and to stand when its election timeout is over", function() return start():stand() end)
  allows("a candidate to lead, its entry to be stored and sent, and to be committed by a quorum", function()
    local s = leader():ready({ messages = { { type = "append", from = 1, to = 2, term = 3, index = 3, log_term = 2,
      n_entries = 1, commit = 1 } } }, { peers = peers(0, 4, 0, 4) })
    s:persisted():message("append_reply", { index = 4 }, { commit = 4, peers = peers(4, 5, 0, 4) })
    return s:send({ type = "heartbeat", to = 2, commit = 4 })
  end)
  allows("a node to tell the leader of an earlier term of the later one when that is on disk", function()
    local s = start { log = { 1, 1, 2 } }:stand():wait(T):ask():message("vote_reply", { pre = true, term = 4 },
      { term = 4, vote = 1, asking = false, deadline = 14 * T })
    s:message("heartbeat", { term = 2 }):ready():persisted()
    return s:send { type = "heartbeat_reply", to = 2 }
  end)
  allows("a follower to replace what its leader has not", function()
    return follower():message("append", { term = 4, index = 1, log_term = 1, entries = { 3 }, commit = 2 },
      { term = 4, vote = 0, kept = 1, added = { 3 }, stable = 1, commit = 2, deadline = 11 * T })
  end)
  allows("a follower to keep what an old message does not mention", function()
    return follower():message("append", { index = 1, log_term = 1, entries = { 1 }, commit = 2 }, { commit = 2 })
  end)
  allows("a candidate to vote for another one in a later term", function()
    local s = start { log = { 1 } }:stand()
    return s:message("vote", { term = 3, index = 1, log_term = 1 }, { role = "follower", term = 3, vote = 2,
      deadline = s.now + T })
  end)
  allows("a leader to propose, and to step down for a later term", function()
    return leader():take({ type = "propose", n = 2 }, { added = { 3, 3 } })
      :message("heartbeat_reply", { term = 5 }, { role = "follower", term = 5, vote = 0, leader = 0, peers = {},
        deadline = 12 * T })
  end)
  allows("a refused message to change nothing", function()
    local s = leader()
    return s:take({ type = "step", result = "invalid", message = { type = "append_reply", from = 2, term = 3,
      index = 99 } })
  end)
  allows("a core that has found a contradiction anything: it takes no more inputs", function()
    local s = follower()
    s:take({ type = "step", result = "corrupt", message = { type = "append", from = 3, term = 2 } }, { leader = 3 })
    return s
  end)

  ---- terms and elections ----

  forbids("a term that rises by itself", "3.3", follower, function(s)
    s:take({ type = "applied", index = 1 }, { term = 3 })
  end)
  forbids("not to see a later term", "3.3", leader, function(s) s:message("append_reply", { term = 9, index = 1 }) end)
  forbids("a later term of a pre-vote to count", "3.3", start, function(s)
    s:message("vote", { pre = true, term = 5 }, { term = 5 })
  end)
  forbids("a vote to be forgotten", "3.4", function() return start { term = 3, vote = 3 } end, function(s)
    s:message("vote", { term = 3 }, { vote = 0 })
  end)
  forbids("two votes in one term", "3.4", function() return start { term = 3, vote = 3 } end, function(s)
    s:message("vote", { term = 3 }, { vote = 2, deadline = s.now + T })
  end)
  forbids("a vote for a log that ends in an earlier term", "3.6.1", follower, function(s)
    s:wait(2 * T):message("vote", { term = 3, index = 9, log_term = 1 }, { term = 3, vote = 2, leader = 0,
      deadline = s.now + T })
  end)
  forbids("a vote for a shorter log", "3.6.1", follower, function(s)
    s:wait(2 * T):message("vote", { term = 3, index = 2, log_term = 2 }, { term = 3, vote = 2, leader = 0,
      deadline = s.now + T })
  end)
  forbids("to refuse the first candidate of a term that has all entries", "3.4", follower, function(s)
    s:wait(2 * T):message("vote", { term = 3, index = 3, log_term = 2 }, { term = 3, vote = 0, leader = 0 })
  end)
  forbids("to be disturbed by a candidate while the leader is heard", "3.3", follower, function(s)
    s:wait(T // 2):message("vote", { term = 3, index = 3, log_term = 2 }, { term = 3, vote = 2, leader = 0,
      deadline = s.now + T })
  end)
  forbids("to campaign before the election timeout is over", "3.4", follower, function(s)
    s:wait(T // 2):take({ type = "tick" }, { role = "candidate", asking = true, leader = 0, deadline = s.now + T })
  end)
  forbids("to stand without asking first", "9.6", follower, function(s)
    s:wait(T):take({ type = "tick" }, { role = "candidate", term = 3, vote = 1, leader = 0, deadline = s.now + T })
  end)
  forbids("to stand when a majority would not vote", "9.6", function() return start():ask() end, function(s)
    s:message("vote_reply", { pre = true, reject = true, term = 0 }, { term = 1, vote = 1, asking = false,
      deadline = s.now + T })
  end)
  forbids("to stand when a majority of those would who all have to agree", "9.6",
    function() return start({ conf = { voters = { 1, 2, 3 }, founding = true } }):ask() end, function(s)
      s:message("vote_reply", { pre = true, term = 1 }, { term = 1, vote = 1, asking = false, deadline = s.now + T })
    end)
  forbids("a vote of who may have forgotten another one", "3.4",
    function() return start { withhold = true, log = { 1 } } end, function(s)
      s:message("vote", { term = 2, index = 1, log_term = 1 }, { term = 2, vote = 2, deadline = s.now + T })
    end)
  forbids("to campaign for who may have forgotten a vote", "3.4",
    function() return start { withhold = true } end, function(s) s:ask() end)
  forbids("to lead on for who may have forgotten a vote", "3.4", leader, function(s)
    s:take({ type = "withhold", n = 1 })
  end)
  forbids("a real vote to count as a pre-vote", "3.3", function() return start { term = 1 }:ask() end, function(s)
    s:message("vote_reply", { term = 1 }, { term = 2, vote = 1, asking = false, deadline = s.now + T })
  end)
  forbids("a pre-vote to count as a real vote", "3.4", function() return start():stand() end, function(s)
    s:message("vote_reply", { pre = true }, { role = "leader", leader = 1, added = { 1 },
      peers = peers(0, 1, 0, 1) })
  end)
  forbids("to lead without a majority", "3.4", function() return start():stand() end, function(s)
    s:message("vote_reply", { reject = true }, { role = "leader", leader = 1, added = { 1 },
      peers = peers(0, 1, 0, 1) })
  end)
  forbids("to count a vote of its own that is not on disk", "3.4", function()
    local s = start():ask()
    return s:message("vote_reply", { pre = true, term = 1 }, { term = 1, vote = 1, asking = false,
      deadline = s.now + T })
  end, function(s)
    s:message("vote_reply", {}, { role = "leader", leader = 1, added = { 1 }, peers = peers(0, 1, 0, 1) })
  end)
  forbids("an election timer that starts anew at a refused vote", "3.4", follower, function(s)
    s:wait(2 * T):message("vote", { term = 3, index = 1, log_term = 1 }, { term = 3, vote = 0, leader = 0,
      deadline = s.now + T })
  end)
  forbids("an election timer that does not start anew when the leader is heard", "3.4", follower, function(s)
    s:wait(T // 2):message("heartbeat", {})
  end)
  forbids("an election timeout of twice its length", "3.4", follower, function(s)
    s:message("heartbeat", {}, { deadline = s.now + 2 * T })
  end)
  forbids("to follow a second leader of one term", "3.4", follower, function(s)
    s:message("heartbeat", { from = 3 }, { leader = 3, deadline = s.now + T })
  end)
  forbids("to listen to a second leader, though it is no member", "3.4", follower, function(s)
    s:message("heartbeat", { from = 7 })
  end)
  forbids("to count on the answer of who is no member", "4.1", leader, function(s)
    s:message("append_reply", { from = 7, index = 4 })
  end)
  forbids("a leader to step down while it hears of a majority", "6.2", leader, function(s)
    s:wait(HEARTBEAT):take({ type = "tick" }, { role = "follower", leader = 0, peers = {}, deadline = s.now + T })
  end)
  forbids("a leader to go on when it hears of nobody", "6.2", leader, function(s)
    s:wait(T + HEARTBEAT):take({ type = "tick" })
  end)

  ---- logs ----

  forbids("a leader without an empty entry of its term", "3.5", function() return start { log = { 1 } }:stand() end,
    function(s) s:message("vote_reply", {}, { role = "leader", leader = 1, peers = peers(0, 2, 0, 2) }) end)
  forbids("a leader to overwrite its entries", "3.5", leader, function(s)
    s:take({ type = "propose", n = 1 }, { kept = 3, added = { 3 } })
  end)
  forbids("a follower to append by itself", "3.5", follower, function(s)
    s:take({ type = "propose", n = 1 }, { added = { 2 } })
  end)
  forbids("to append behind a gap", "3.5", follower, function(s)
    s:message("append", { index = 5, log_term = 2, entries = { 2 } }, { added = { 2 } })
  end)
  forbids("to append where the logs do not match", "3.5", follower, function(s)
    s:message("append", { index = 3, log_term = 1, entries = { 2 } }, { added = { 2 } })
  end)
  forbids("to append other entries than those of the message", "3.5", follower, function(s)
    s:message("append", { index = 3, log_term = 2, entries = { 2 } }, { added = { 1 } })
  end)
  forbids("not to append", "3.5", follower, function(s)
    s:message("append", { index = 3, log_term = 2, entries = { 2 } })
  end)
  forbids("to cut off what an old message does not mention", "3.5", follower, function(s)
    s:message("append", { index = 1, log_term = 1, entries = { 1 } }, { kept = 2, stable = 2 })
  end)
  forbids("to cut off what is committed", "3.6.3", function() return start { log = { 1, 1, 1 }, applied = 3 } end,
    function(s)
      s:message("append", { term = 3, index = 1, log_term = 1, entries = { 2 } },
        { term = 3, leader = 2, kept = 1, added = { 2 }, stable = 1, deadline = s.now + T })
    end)
  forbids("entries that vanish", "3.5", follower, function(s)
    s:message("append", { index = 3, log_term = 2, entries = { 2 } }, { added = { 2 } })
    s:message("heartbeat", {}, { kept = 3 })
  end)

  ---- commit ----

  forbids("a commit index beyond what the message covers", "3.5", follower, function(s)
    s:message("append", { index = 1, log_term = 1, commit = 3 }, { commit = 3 })
  end)
  forbids("not to take over a commit index", "3.5", follower, function(s)
    s:message("append", { index = 3, log_term = 2, commit = 3 })
  end)
  forbids("a commit index that falls", "3.5", follower, function(s)
    s:message("heartbeat", { commit = 0 }, { commit = 0 })
  end)
  forbids("a commit index beyond the log", "3.5", follower, function(s)
    s:message("heartbeat", { commit = 4 }, { commit = 4 })
  end)
  forbids("an entry of an earlier term to be committed by counting", "3.5", leader, function(s)
    s:message("append_reply", { index = 3 }, { commit = 3, peers = peers(3, 4, 0, 4) })
  end)
  forbids("a commit without a majority", "3.5", function() return leader():ready():persisted() end, function(s)
    s:message("append_reply", { index = 3 }, { commit = 4, peers = peers(3, 4, 0, 4) })
  end)
  forbids("a leader to count its own copy before it is on disk", "3.5", leader, function(s)
    s:message("append_reply", { index = 4 }, { commit = 4, peers = peers(4, 5, 0, 4) })
  end)
  forbids("a leader to count on more than a follower has confirmed", "3.5", leader, function(s)
    s:message("append_reply", { index = 3 }, { peers = peers(4, 5, 0, 4) })
  end)
  forbids("a leader to count on what a follower refused", "3.5", leader, function(s)
    s:message("append_reply", { index = 3, reject = true, hint = 1 }, { peers = peers(3, 4, 0, 4) })
  end)
  forbids("a leader to send again what is confirmed", "3.5", function()
    return leader():message("append_reply", { index = 3 }, { peers = peers(3, 4, 0, 4) })
  end, function(s) s:message("append_reply", { index = 1, reject = true }, { peers = peers(3, 2, 0, 4) }) end)
  forbids("what is sent next to change by itself", "3.5", leader, function(s)
    s:wait(HEARTBEAT):take({ type = "tick" }, { peers = peers(0, 3, 0, 4) })
  end)

  ---- the disk ----

  forbids("a term that is not stored", "3.8", function() return start():ask() end, function(s)
    s:message("vote_reply", { pre = true, term = 1 }, { term = 1, vote = 1, asking = false, deadline = s.now + T })
    s:ready { seq = 0, vote_changed = false }
  end)
  forbids("a gap in what is stored", "3.8", leader, function(s) s:ready { first = 5, last = 4 } end)
  forbids("not to tell the disk of what is void", "3.8", follower, function(s)
    s:message("append", { term = 4, index = 1, log_term = 1, entries = { 3 } },
      { term = 4, vote = 0, kept = 1, added = { 3 }, stable = 1, deadline = s.now + T })
    s.handed = 1
    s:ready()
  end)
  forbids("an old write to make new entries durable", "3.8", follower, function(s)
    s:message("append", { index = 3, log_term = 2, entries = { 2, 2 } }, { added = { 2, 2 } }):ready()
    s:message("append", { term = 4, index = 3, log_term = 2, entries = { 3, 3 } },
      { term = 4, vote = 0, kept = 3, added = { 3, 3 } })
    s:take({ type = "persisted", seq = 1 }, { stable = 5 })
  end)
  forbids("a write that nobody asked for to be acknowledged", "3.8", follower, function(s)
    s:take({ type = "persisted", seq = 1 })
  end)
  forbids("a durable term that no write has stored", "3.8", function() return start():ask() end, function(s)
    s:message("vote_reply", { pre = true, term = 1 }, { term = 1, vote = 1, asking = false, deadline = s.now + T,
      durable_term = 1 })
  end)
  forbids("entries to be applied that are not on disk", "3.5", follower, function(s)
    s:message("append", { index = 3, log_term = 2, entries = { 2 }, commit = 4 }, { added = { 2 }, commit = 4 })
    s:ready { commit = 4 }
  end)
  forbids("to apply what was not handed out", "3.5", follower, function(s)
    s:take({ type = "applied", index = 2 }, { applied = 2 })
  end)

  ---- messages out ----

  forbids("a message of a term that is not on disk", "3.8", function() return start():ask() end, function(s)
    s:message("vote_reply", { pre = true, term = 1 }, { term = 1, vote = 1, asking = false, deadline = s.now + T })
    s:send { type = "vote", to = 2 }
  end)
  forbids("to ask for votes in a term of which it is no candidate", "3.4", follower, function(s)
    s:send { type = "vote", to = 3, index = 3, log_term = 2 }
  end)
  forbids("to ask for votes with a longer log than its own", "3.6.1", function()
    return start { log = { 1 } }:stand()
  end, function(s) s:send { type = "vote", to = 2, index = 2, log_term = 1 } end)
  forbids("to grant a vote that it has not given", "3.4", follower, function(s)
    s:send { type = "vote_reply", to = 3 }
  end)
  forbids("to grant a pre-vote while it hears the leader", "9.6", function()
    return follower():wait(T // 2):message("vote", { from = 3, pre = true, term = 3, index = 3, log_term = 2 })
  end, function(s) s:send { type = "vote_reply", pre = true, to = 3, term = 3 } end)
  forbids("to grant a pre-vote to a shorter log", "9.6", function()
    return follower():wait(2 * T):message("vote", { from = 3, pre = true, term = 3, index = 2, log_term = 2 })
  end, function(s) s:send { type = "vote_reply", pre = true, to = 3, term = 3 } end)
  forbids("entries from who does not lead", "3.4", follower, function(s)
    s:send { type = "append", to = 3, index = 3 }
  end)
  forbids("entries after one that is not there", "3.5", leader, function(s)
    s:send({ type = "append", to = 2, index = 3, log_term = 1, n_entries = 1 }, { peers = peers(0, 5, 0, 4) })
  end)
  forbids("more entries than there are", "3.5", leader, function(s)
    s:send({ type = "append", to = 2, index = 3, log_term = 2, n_entries = 2 }, { peers = peers(0, 5, 0, 4) })
  end)
  forbids("entries that leave some out", "3.5", leader, function(s)
    s:send({ type = "append", to = 2, index = 4, log_term = 3 }, { peers = peers(0, 5, 0, 4) })
  end)
  forbids("a commit index above its own", "3.5", leader, function(s)
    s:send({ type = "append", to = 2, index = 3, log_term = 2, n_entries = 1, commit = 2 },
      { peers = peers(0, 5, 0, 4) })
  end)
  forbids("a heartbeat from who does not lead", "3.4", follower, function(s) s:send { type = "heartbeat", to = 3 } end)
  forbids("a heartbeat with a commit index that the follower has not confirmed", "3.5", leader, function(s)
    s:send { type = "heartbeat", to = 2, commit = 1 }
  end)
  forbids("to acknowledge what is not the leader's", "3.5", function()
    return start { log = { 1, 1, 2 } }:message("append", { index = 1, log_term = 1 }, { leader = 2,
      deadline = 11 * T })
  end, function(s) s:send { type = "append_reply", to = 2, index = 3 } end)
  forbids("to acknowledge what is not on disk", "3.5", function()
    return follower():message("append", { index = 3, log_term = 2, entries = { 2 } }, { added = { 2 } })
  end, function(s) s:send { type = "append_reply", to = 2, index = 4 } end)
  forbids("to acknowledge to who does not lead", "3.5", follower, function(s)
    s:send { type = "append_reply", to = 3, index = 3 }
  end)
  forbids("to say that it has received what it has not", "3.5", follower, function(s)
    s:send { type = "heartbeat_reply", to = 2, index = 4 }
  end)
  forbids("to leave who leads an earlier term without an answer", "3.3", function()
    return follower():message("heartbeat", { from = 3, term = 1 })
  end, function(s) s:ready() end)
  forbids("a message to who is no member", "3.1", follower, function(s) s:send { type = "heartbeat_reply", to = 4 } end)

  ---- members ----

  local THREE = { voters = { 1, 2, 3 } }

  ---It leads, and has committed an entry of its term: 4, which 2 has too.
  local function settled(options)
    options = options or {}
    options.log, options.applied = { 1, 1, 2 }, 1
    local s = start(options):lead():ready():persisted()
    return s:message("append_reply", { index = 4 }, { commit = 4, peers = peers(4, 5, 0, 4) })
  end

  ---It changes the members; that is entry 5, and it leads these: { id, match, next }.
  local function change(s, changes, conf, known, more)
    local after = { added = { 3 }, conf = conf, conf_index = s.state.last + 1, peers = {} }
    for i, p in ipairs(known) do after.peers[i] = { id = p[1], match = p[2], next = p[3] } end
    for name, value in pairs(more or {}) do after[name] = value end
    return s:take({ type = "change", changes = changes, index = s.state.last + 1 }, after)
  end

  local ADD, REMOVE_1 = { { op = "add", id = 4 } }, { { op = "remove", id = 1 } }
  local WITH_4 = { voters = { 1, 2, 3 }, learners = { 4 } }
  local JOINT = { voters = { 1, 4 }, outgoing = { 1, 2, 3 } }

  local function added() return change(settled(), ADD, WITH_4, { { 2, 4, 5 }, { 3, 0, 4 }, { 4, 0, 6 } }) end

  ---4 is a learner and has everything; that is committed.
  local function learned()
    local function known(match2, match4)
      return { { id = 2, match = match2, next = 6 }, { id = 3, match = 0, next = 4 },
        { id = 4, match = match4, next = 6 } }
    end
    return added():ready():persisted():message("append_reply", { index = 5 }, { commit = 5, peers = known(5, 0) })
      :message("append_reply", { from = 4, index = 5 }, { peers = known(5, 5) })
  end

  ---4 takes the place of 2 and 3, in one step: in between, both majorities count.
  local function joint()
    return change(learned(), { { op = "promote", id = 4 }, { op = "remove", id = 2 }, { op = "remove", id = 3 } },
      JOINT, { { 2, 5, 6 }, { 3, 0, 4 }, { 4, 5, 6 } }):ready():persisted()
  end

  allows("a learner to be added, and to be given a vote when it has caught up", function()
    return change(learned(), { { op = "promote", id = 4 } }, { voters = { 1, 2, 3, 4 } },
      { { 2, 5, 6 }, { 3, 0, 4 }, { 4, 5, 6 } })
  end)
  allows("several changes at once, by a joint configuration that is left as soon as it is committed", function()
    local s = joint():message("append_reply", { from = 4, index = 6 },
      { peers = { { id = 2, match = 5, next = 6 }, { id = 3, match = 0, next = 4 }, { id = 4, match = 6, next = 7 } } })
    return s:message("append_reply", { index = 6 }, { commit = 6, added = { 3 }, conf = { voters = { 1, 4 } },
      conf_index = 7, peers = { { id = 4, match = 6, next = 7 } } })
  end)
  allows("a leader that is removed to lead until that is committed", function()
    local s = change(settled(), REMOVE_1, { voters = { 2, 3 } }, { { 2, 4, 5 }, { 3, 0, 4 } }):ready():persisted()
    s:message("append_reply", { index = 5 }, { peers = peers(5, 6, 0, 4) })
    s:message("append_reply", { from = 3, index = 5 }, { commit = 5, role = "follower", leader = 0, removed = true,
      peers = {}, deadline = s.now + T })
    return s:send { type = "timeout_now", to = 2 }
  end)
  allows("a configuration that is cut off to govern no more", function()
    local s = follower():message("append", { index = 3, log_term = 2, entries = { 2 }, conf = WITH_4 },
      { added = { 2 }, conf = WITH_4, conf_index = 4 })
    return s:message("append", { term = 4, index = 3, log_term = 2, entries = { 3 } },
      { term = 4, vote = 0, kept = 3, added = { 3 }, conf = THREE, conf_index = 0 })
  end)
  allows("a learner to ask what has become of it, as no candidate", function()
    local s = start { log = { 1 }, conf = { voters = { 2, 3 }, learners = { 1 } } }
    s:wait(T):take({ type = "tick" }, { deadline = s.now + T })
    return s:send { type = "vote", pre = true, to = 2, term = 2, index = 1, log_term = 1 }
  end)
  allows("a member to learn that it was removed from who refuses it its vote", function()
    return start { log = { 1 } }:ask():message("vote_reply", { reject = true, pre = true, index = 9, log_term = 1 },
      { role = "follower", asking = false, removed = true })
  end)

  ---A voter with a configuration of term 2 at index 4, not known to be committed, asks for votes; the answer tells it
  ---of a log without it.
  local function told(index, log_term, removed)
    local s = follower():message("append", { index = 3, log_term = 2, entries = { 2 }, conf = WITH_4 },
      { added = { 2 }, conf = WITH_4, conf_index = 4 })
    s:wait(T):ask()
    return s:message("vote_reply", { reject = true, pre = true, term = 4, index = index, log_term = log_term },
      { term = 4, vote = 0, role = "follower", asking = false, removed = removed })
  end
  allows("a member to learn it that has a change of its own in a log that went astray", function()
    return told(3, 3, true)
  end)
  allows("a member to stay one when the other's log is behind its own", function() return told(9, 1, false) end)
  forbids("to take it that it was removed by a log that is behind", "4.2.3", function() return start {} end,
    function(s) s.check = told(3, 2, true).check end)

  forbids("a change before an entry of its term is committed", "4.1", leader, function(s)
    change(s, ADD, WITH_4, { { 2, 0, 4 }, { 3, 0, 4 }, { 4, 0, 6 } })
  end)
  forbids("a change while another one is open", "4.1", added, function(s)
    change(s, { { op = "add", id = 5 } }, { voters = { 1, 2, 3 }, learners = { 4, 5 } },
      { { 2, 4, 5 }, { 3, 0, 4 }, { 4, 0, 6 }, { 5, 0, 7 } })
  end)
  forbids("a change by a follower", "4.1", follower, function(s) change(s, ADD, WITH_4, {}) end)
  forbids("to add who is a member", "4.1", settled, function(s)
    change(s, { { op = "add", id = 3 } }, THREE, { { 2, 4, 5 }, { 3, 0, 4 } })
  end)
  forbids("to give a vote to who has not caught up", "4.2.1", function()
    return added():ready():persisted():message("append_reply", { index = 5 }, { commit = 5,
      peers = { { id = 2, match = 5, next = 6 }, { id = 3, match = 0, next = 4 }, { id = 4, match = 0, next = 6 } } })
  end, function(s)
    change(s, { { op = "promote", id = 4 } }, { voters = { 1, 2, 3, 4 } }, { { 2, 5, 6 }, { 3, 0, 4 }, { 4, 0, 6 } })
  end)
  forbids("two voters to change without a joint configuration", "4.1", settled, function(s)
    change(s, { { op = "remove", id = 2 }, { op = "remove", id = 3 } }, { voters = { 1 } }, {})
  end)
  forbids("a new configuration that waits for its commit before it governs", "4.1", settled, function(s)
    change(s, ADD, THREE, { { 2, 4, 5 }, { 3, 0, 4 } }, { conf_index = 0 })
  end)
  forbids("a follower not to count by the latest configuration in its log", "4.1", follower, function(s)
    s:message("append", { index = 3, log_term = 2, entries = { 2 }, conf = WITH_4 }, { added = { 2 } })
  end)
  forbids("a configuration to outlive the entry that was cut off", "4.1", function()
    return follower():message("append", { index = 3, log_term = 2, entries = { 2 }, conf = WITH_4 },
      { added = { 2 }, conf = WITH_4, conf_index = 4 })
  end, function(s)
    s:message("append", { term = 4, index = 3, log_term = 2, entries = { 3 } },
      { term = 4, vote = 0, kept = 3, added = { 3 } })
  end)
  forbids("a joint configuration to be committed by one of its majorities", "3.5", joint, function(s)
    s:message("append_reply", { from = 4, index = 6 }, { commit = 6, added = { 3 }, conf = { voters = { 1, 4 } },
      conf_index = 7, peers = { { id = 4, match = 6, next = 7 } } })
  end)
  forbids("not to leave a joint configuration that is committed", "3.5", function()
    return joint():message("append_reply", { from = 4, index = 6 },
      { peers = { { id = 2, match = 5, next = 6 }, { id = 3, match = 0, next = 4 }, { id = 4, match = 6, next = 7 } } })
  end, function(s)
    s:message("append_reply", { index = 6 }, { commit = 6,
      peers = { { id = 2, match = 6, next = 7 }, { id = 3, match = 0, next = 4 }, { id = 4, match = 6, next = 7 } } })
  end)
  forbids("a learner to be counted on for a commit", "3.5", function()
    local s = learned():take({ type = "propose", n = 1 }, { added = { 3 } }):ready():persisted()
    return s
  end, function(s)
    s:message("append_reply", { from = 4, index = 6 }, { commit = 6,
      peers = { { id = 2, match = 5, next = 6 }, { id = 3, match = 0, next = 4 }, { id = 4, match = 6, next = 7 } } })
  end)
  forbids("a leader that was removed to lead on", "3.4", function()
    local s = change(settled(), REMOVE_1, { voters = { 2, 3 } }, { { 2, 4, 5 }, { 3, 0, 4 } }):ready():persisted()
    return s:message("append_reply", { index = 5 }, { peers = peers(5, 6, 0, 4) })
  end, function(s) s:message("append_reply", { from = 3, index = 5 }, { commit = 5, peers = peers(5, 6, 5, 6) }) end)
  forbids("a leader that is to go to count itself", "3.4", function()
    return change(settled(), REMOVE_1, { voters = { 2, 3 } }, { { 2, 4, 5 }, { 3, 0, 4 } }):ready():persisted()
  end, function(s)
    s:message("append_reply", { index = 5 }, { commit = 5, role = "follower", leader = 0, removed = true, peers = {},
      deadline = s.now + T })
  end)
  forbids("a learner to campaign", "3.4", function()
    local s = start { log = { 1 }, conf = { voters = { 2, 3 }, learners = { 1 } } }
    return s
  end, function(s) s:ask() end)
  forbids("to take it that it was removed by what is older than what it knows", "3.4", function()
    return start { log = { 1 } }:ask()
  end, function(s)
    s:message("vote_reply", { reject = true, pre = true, index = 0 },
      { role = "follower", asking = false, removed = true })
  end)
  forbids("to tell a member that it was removed", "4.2.3", function()
    return follower():message("vote", { from = 3, pre = true, term = 3, index = 1, log_term = 1 })
  end, function(s) s:send { type = "vote_reply", pre = true, reject = true, to = 3, index = 2, log_term = 1 } end)
  forbids("to refuse a change without a reason", "4.1", settled, function(s)
    s:take { type = "change", changes = ADD, result = "changing" }
  end)
  forbids("entries to who was removed", "4.1", function()
    return change(settled(), { { op = "remove", id = 3 } }, { voters = { 1, 2 } }, { { 2, 4, 5 } })
  end, function(s) s:send { type = "append", to = 3, index = 4, log_term = 3, n_entries = 1 } end)

  ---- handing over ----

  local function handing()
    local s = settled()
    return s:take({ type = "transfer", peer = 2 }, { transfer = 2 })
  end

  allows("to hand over to a voter that has everything", function()
    return handing():send { type = "timeout_now", to = 2 }
  end)
  allows("to lead on when nobody has taken over", function()
    local s = handing():wait(T - HEARTBEAT):message("heartbeat_reply", { index = 4 }):wait(HEARTBEAT)
    return s:take({ type = "tick" }, { transfer = 0 }):take({ type = "propose", n = 1 }, { added = { 3 } })
  end)
  forbids("to ask for votes in the name of a leader that has not called", "3.10", function() return start():stand() end,
    function(s) s:send { type = "vote", to = 2, force = true } end)
  forbids("to hand over to who lacks entries", "3.10", function()
    return settled():take({ type = "transfer", peer = 3 }, { transfer = 3 })
  end, function(s) s:send { type = "timeout_now", to = 3 } end)
  forbids("to call another one than was chosen", "3.10", handing, function(s)
    s:send { type = "timeout_now", to = 3 }
  end)
  forbids("to call anybody when nobody is handed over to", "3.10", settled, function(s)
    s:send { type = "timeout_now", to = 2 }
  end)
  forbids("to hand over to a learner", "3.10", learned, function(s)
    s:take({ type = "transfer", peer = 4 }, { transfer = 4 })
  end)
  forbids("to append while it hands over", "3.10", handing, function(s)
    s:take({ type = "propose", n = 1 }, { added = { 3 } })
  end)
  forbids("to change members while it hands over", "3.10", handing, function(s)
    change(s, ADD, WITH_4, { { 2, 4, 5 }, { 3, 0, 4 }, { 4, 0, 6 } })
  end)
  forbids("to wait for the target for ever", "3.10", handing, function(s)
    s:wait(T - HEARTBEAT):message("heartbeat_reply", { index = 4 }):wait(2 * HEARTBEAT):take({ type = "tick" })
  end)
  forbids("to wait for a target that cannot be reached", "3.10", handing, function(s)
    s:take({ type = "unreachable", peer = 2 })
  end)

  ---- reads ----

  local function asked()
    local s = settled()
    return s:wait(HEARTBEAT):take { type = "read", context = 7 }
  end

  local function deposed()
    local s = asked()
    return s:message("heartbeat_reply", { term = 5 }, { role = "follower", term = 5, vote = 0, leader = 0, peers = {},
      deadline = s.now + T })
  end

  local function answer(s, index) return s:ready { reads = { { context = 7, index = index } } } end

  allows("a read to be answered when a majority still knows this leader", function()
    local s = asked():wait(10)
    return answer(s:message("heartbeat_reply", { index = 4, context = s.now }), 4)
  end)
  allows("a read to fail when leadership is lost", function()
    return answer(deposed(), 0)
  end)
  local function leased(us)
    local s = settled { lease = true, drift = T // 10 }
    s:message("heartbeat_reply", { index = 4, context = s.now })
    return s:wait(us)
  end
  allows("a read to rest on the lease", function()
    return answer(leased(T - T // 10 - 1):take { type = "read", context = 7, lease = true }, 4)
  end)

  forbids("a read without a word from a majority", "6.4", asked, function(s) answer(s, 4) end)
  forbids("a read on the answer to a heartbeat that was sent before it came", "6.4", asked, function(s)
    answer(s:message("heartbeat_reply", { index = 4, context = s.now - 1 }), 4)
  end)
  forbids("a read that does not show what was committed before", "6.4", asked, function(s)
    answer(s:message("heartbeat_reply", { index = 4, context = s.now }), 3)
  end)
  forbids("a read before an entry of its term is committed", "6.4", function()
    return leader():take { type = "read", context = 7 }
  end, function(s) answer(s:message("heartbeat_reply", { index = 4, context = s.now }), 1) end)
  forbids("a read on a lease that is over by the slowest clock", "6.4", function()
    return leased(T - T // 10):take { type = "read", context = 7, lease = true }
  end, function(s) answer(s, 4) end)
  forbids("a read on a lease after handing over has begun", "6.4", function()
    return leased(1):take({ type = "transfer", peer = 2 }, { transfer = 2 })
      :take { type = "read", context = 7, lease = true }
  end, function(s) answer(s, 4) end)
  forbids("a read on a lease that was not asked for", "6.4", function()
    return leased(1):take { type = "read", context = 7 }
  end, function(s) answer(s, 4) end)
  forbids("a read to be given up by who leads on", "6.4", asked, function(s) answer(s, 0) end)
  forbids("a read to be answered twice", "6.4", function()
    local s = asked()
    return answer(s:message("heartbeat_reply", { index = 4, context = s.now }), 4)
  end, function(s) answer(s, 4) end)
  forbids("a read to be forgotten when leadership is lost", "6.4", deposed, function(s) s:ready() end)
  forbids("a heartbeat that says that it was sent later than it was", "6.4", settled, function(s)
    s:send { type = "heartbeat", to = 2, context = s.now + 1 }
  end)

  it("tells the input, what the state is, and what it ought to be", function()
    local s = follower()
    s:message("heartbeat", { commit = 2 }, { commit = 3 })
    assert.equal("at 0.000000 s, node 1: relation (3.5): on heartbeat from 2 of term 2 its commit index is 3; "
      .. "by the rules it is 2", s.check:failure())
  end)
end)
