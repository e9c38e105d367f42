-- Elections: timeouts, pre-vote, votes and their durability, check-quorum.
local core = require "raft.core"
local lab = require "spec.core.lab"

local T, HEARTBEAT = lab.T, lab.HEARTBEAT

---A node 1 of three voters, or as told.
local function node(options)
  options = options or {}
  options.id, options.voters = options.id or 1, options.voters or { 1, 2, 3 }
  return lab.node(options)
end

---The messages of a type, and to whom they go.
local function of_type(messages, type)
  local list = {}
  for _, m in ipairs(messages) do
    if m.type == type then list[#list + 1] = m end
  end
  return list
end

---Node n has asked for pre-votes; returns the requests.
local function campaign(n)
  assert(n.core:campaign(n.clock.now))
  return n:flush()
end

---Node n has won its pre-vote with the help of node 2; nothing of its election is durable yet.
local function candidate(options)
  local n = node(options)
  campaign(n)
  assert(n:step { type = "vote_reply", term = n:status().term + 1, pre = true })
  assert.equal("candidate", n:status().role)
  return n
end

local function vote(n, m)
  m.type = "vote"
  assert(n:step(m))
  local replies = of_type(n:flush(), "vote_reply")
  assert.equal(1, #replies)
  return replies[1]
end

describe("the election timeout", function()
  it("is drawn between T and 2T, and differs from node to node and from election to election", function()
    local seen, count = {}, 0
    for seed = 1, 20 do
      local n = node { seed = seed }
      for _ = 1, 5 do
        local wait = n.core:deadline() - n.clock.now
        assert.truthy(wait >= T and wait < 2 * T)
        if not seen[wait] then seen[wait], count = true, count + 1 end
        n:tick()
        n:flush()
      end
    end
    assert.truthy(count > 90)
  end)

  it("starts a pre-vote, and another one after each further timeout", function()
    local n = node()
    for _ = 1, 3 do
      n:tick()
      local asked = of_type(n:flush(), "vote")
      assert.equal(2, #asked)
      assert.True(asked[1].pre)
    end
  end)

  it("does nothing before its time", function()
    local n = node()
    n:flush()
    assert(n.core:tick(n.core:deadline() - 1))
    assert.equal("follower", n:status().role)
    assert.False(n.core:has_ready())
  end)

  it("is started again by the leader's word", function()
    local n = node { term = 1 }
    n.clock.now = n.core:deadline() - 1
    assert(n:step { type = "heartbeat", term = 1, context = 1 })
    assert.truthy(n.core:deadline() >= n.clock.now + T)
  end)

  it("is not put off by a refused vote, nor by pre-votes, nor by a higher term heard of in passing", function()
    local n = node { log = { 1, 1 }, term = 1 }
    local deadline = n.core:deadline()
    assert.True(vote(n, { term = 2, index = 1, log_term = 1 }).reject)
    assert.is_nil(vote(n, { term = 9, pre = true, index = 5, log_term = 2 }).reject)
    assert.True(vote(n, { term = 9, pre = true, index = 1, log_term = 1 }).reject)
    assert(n:step { type = "heartbeat_reply", term = 7 })
    assert.equal(7, n:status().term)
    assert.equal(deadline, n.core:deadline())
  end)

  it("is put off by a vote that was given", function()
    local n = node()
    n.clock.now = n.core:deadline() - 1
    assert.is_nil(vote(n, { term = 1 }).reject)
    assert.truthy(n.core:deadline() >= n.clock.now + T)
  end)
end)

describe("a pre-vote", function()
  it("leaves term and vote of both sides alone", function()
    local n = node { term = 3, vote = 2 }
    for _, m in ipairs(campaign(n)) do
      assert.same({ "vote", true, 4 }, { m.type, m.pre, m.term })
    end
    assert.same({ 3, 2 }, { n:status().term, n:status().vote })
    assert.same({ 3, 2 }, { n.disk.term, n.disk.vote })

    local voter = node { term = 3, vote = 2 }
    assert.is_nil(vote(voter, { from = 3, term = 4, pre = true }).reject)
    assert.same({ 3, 2 }, { voter:status().term, voter:status().vote })
  end)

  it("is granted in the term that was asked for, so that a node that lags behind can help", function()
    local reply = vote(node { term = 3 }, { term = 8, pre = true })
    assert.same({ 8, true }, { reply.term, reply.pre })
    assert.is_nil(reply.reject)
  end)

  it("may be granted to several in the same term, since it promises nothing", function()
    local n = node()
    assert.is_nil(vote(n, { from = 2, term = 1, pre = true }).reject)
    assert.is_nil(vote(n, { from = 3, term = 1, pre = true }).reject)
  end)

  it("is refused while the leader lives, and granted once it has been silent for an election timeout", function()
    local n = node { term = 1 }
    assert(n:step { type = "heartbeat", term = 1, context = 1 })
    n:flush()
    n.clock.now = n.clock.now + T - 1
    assert.True(vote(n, { from = 3, term = 2, pre = true }).reject)
    n.clock.now = n.clock.now + 1
    assert.is_nil(vote(n, { from = 3, term = 2, pre = true }).reject)
  end)

  it("of one whose log is behind makes who refuses ask soon, when it hears no leader either", function()
    local function after(silence_us, ask, seed)
      local n = node { id = 3, log = { 1, 1 }, term = 1, seed = seed }
      assert(n:step { type = "heartbeat", from = 1, term = 1, context = 1 })
      local deadline = n.core:deadline()
      n.clock.now = n.clock.now + silence_us
      vote(n, ask)
      return n.core:deadline() - n.clock.now, deadline - n.clock.now
    end
    local behind, enough, sooner = { from = 2, term = 2, pre = true, index = 1, log_term = 1 }, T + 1, 0
    for seed = 1, 20 do
      local waits, would_wait = after(enough, behind, seed)
      assert.truthy(waits <= would_wait and waits < HEARTBEAT)
      if waits < would_wait then sooner = sooner + 1 end
    end
    assert.truthy(sooner > 10)
    for _, other in ipairs {
      { enough, { from = 2, term = 2, pre = true, index = 2, log_term = 1 } },   -- it can win
      { enough, { from = 2, term = 1, pre = true, index = 0, log_term = 0 } },   -- it knows less of terms as well
      { enough, { from = 2, term = 1, index = 0, log_term = 0 } },               -- an election is on its way already
      { T - 1, behind },                                                         -- the leader is heard
    } do
      local waits, would_wait = after(table.unpack(other))
      assert.equal(would_wait, waits)
    end
  end)

  it("of an older term is answered with the newer one, not with silence", function()
    local reply = vote(node { term = 5 }, { term = 3, pre = true })
    assert.same({ true, 5 }, { reply.reject, reply.term })
    local asking = node { term = 2 }
    campaign(asking)
    assert(asking:step { type = "vote_reply", term = 5, pre = true, reject = true })
    assert.same({ "follower", 5 }, { asking:status().role, asking:status().term })
  end)

  it("that a majority refuses ends the campaign until the next timeout", function()
    local n = node()
    campaign(n)
    for _, id in ipairs { 2, 3 } do
      assert(n:step { type = "vote_reply", from = id, term = 1, pre = true, reject = true })
    end
    assert.equal("follower", n:status().role)
    assert.same({}, n:flush())
  end)

  it("that was won goes on to the election when an earlier term has become durable", function()
    local n = node { lag = true }
    assert(n:step { type = "heartbeat_reply", term = 4 })
    assert(n.core:campaign(n.clock.now))
    n:ready()
    assert(n:step { type = "vote_reply", term = 5, pre = true })
    assert.equal(4, n:status().term)
    n:sync()
    assert.equal(5, n:status().term)
  end)
end)

describe("a candidate", function()
  it("asks for votes only when its own is durable: else it could win, crash, and win the term again", function()
    local n = candidate()
    local out = n:ready()
    assert.same({ true, 1, 1 }, { out.vote_changed, out.term, out.vote })
    assert.same({}, out.messages)
    n:sync()
    local asked = n:ready().messages
    assert.equal(2, #asked)
    assert.same({ "vote", 1 }, { asked[1].type, asked[1].term })
    assert.is_nil(asked[1].pre)
  end)

  it("counts its own vote only when it is durable", function()
    local n = candidate()
    n:ready()
    assert(n:step { type = "vote_reply", from = 2, term = 1 })
    assert.equal("candidate", n:status().role)
    n:sync()
    assert.equal("leader", n:status().role)
  end)

  it("does not take an older batch's durability for that of its own vote", function()
    local n = node { lag = true, term = 1, vote = 1 }
    assert(n:step { type = "append", term = 1, entries = { { term = 1 } } })
    n:ready()
    assert(n.core:campaign(n.clock.now))
    assert(n:step { type = "vote_reply", term = 2, pre = true })
    n:ready()
    assert(n:step { type = "vote_reply", from = 3, term = 2 })
    n:sync(1)
    assert.same({ "candidate", {} }, { n:status().role, n:ready().messages })
    n:sync(1)
    assert.equal("leader", n:status().role)
  end)

  it("does not count its own vote for an election that it has given up meanwhile", function()
    local n = candidate()
    n:ready()
    assert(n:step { type = "vote_reply", from = 2, term = 1 })
    assert(n:step { type = "heartbeat", from = 3, term = 2, context = 1 })
    n:sync()
    assert.same({ "follower", 2, 3 }, { n:status().role, n:status().term, n:status().leader })
  end)

  it("wins with a majority, and appends an empty entry of its term", function()
    local n = candidate { voters = { 1, 2, 3, 4, 5 } }
    assert.equal("candidate", n:status().role)
    assert(n:step { type = "vote_reply", from = 3, term = 1, pre = true })
    n:flush()
    assert(n:step { type = "vote_reply", from = 2, term = 1 })
    assert.equal("candidate", n:status().role)
    assert(n:step { type = "vote_reply", from = 5, term = 1 })
    assert.equal("leader", n:status().role)
    assert.same({ term = 1, type = "empty", size = 0 }, n.core:entry(1))
  end)

  it("does not count the same vote twice", function()
    local n = candidate { voters = { 1, 2, 3, 4, 5 } }
    assert(n:step { type = "vote_reply", from = 3, term = 1, pre = true })
    n:flush()
    for _ = 1, 3 do assert(n:step { type = "vote_reply", from = 2, term = 1 }) end
    assert.equal("candidate", n:status().role)
  end)

  it("does not count votes of strangers, nor of learners", function()
    local n = candidate { learners = { 4 } }
    n:flush()
    local _, _, code = n:step { type = "vote_reply", from = 9, term = 1 }
    assert.equal("invalid", code)
    assert(n:step { type = "vote_reply", from = 4, term = 1 })
    assert.equal("candidate", n:status().role)
  end)

  it("does not count late grants of its pre-vote, nor late votes while it asks again", function()
    local n = candidate()
    n:flush()
    assert(n:step { type = "vote_reply", from = 2, term = 1, pre = true })
    assert(n:step { type = "vote_reply", from = 3, term = 1, pre = true })
    assert.equal("candidate", n:status().role)
    n:tick()  -- gives the election up, and asks for pre-votes of term 2
    n:flush()
    assert(n:step { type = "vote_reply", from = 2, term = 1 })
    assert(n:step { type = "vote_reply", from = 2, term = 2 })
    assert.same({ "candidate", 1 }, { n:status().role, n:status().term })
  end)

  it("does not count votes of an earlier term", function()
    local n = candidate { term = 4 }
    n:flush()
    assert(n:step { type = "vote_reply", from = 2, term = 4 })
    assert.same({ "candidate", 5 }, { n:status().role, n:status().term })
  end)

  it("follows a leader of its own term", function()
    local n = candidate()
    n:flush()
    assert(n:step { type = "append", from = 3, term = 1 })
    assert.same({ "follower", 3, 1 }, { n:status().role, n:status().leader, n:status().vote })
  end)

  it("needs both majorities of a joint configuration", function()
    local n = node { voters = { 1, 2, 3 }, outgoing = { 1, 4, 5 } }
    campaign(n)
    assert(n:step { type = "vote_reply", from = 2, term = 1, pre = true })
    assert.equal(0, n:status().term)
    assert(n:step { type = "vote_reply", from = 5, term = 1, pre = true })
    assert.equal(1, n:status().term)
    n:flush()
    assert(n:step { type = "vote_reply", from = 2, term = 1 })
    assert(n:step { type = "vote_reply", from = 3, term = 1 })
    assert.equal("candidate", n:status().role)
    assert(n:step { type = "vote_reply", from = 4, term = 1 })
    assert.equal("leader", n:status().role)
  end)
end)

describe("a vote", function()
  it("leaves only when it is durable, and with it the term", function()
    local n = node { lag = true }
    assert(n:step { type = "vote", term = 4 })
    local out = n:ready()
    assert.same({ true, 4, 2 }, { out.vote_changed, out.term, out.vote })
    assert.same({}, out.messages)
    n:sync()
    local reply = n:ready().messages[1]
    assert.same({ "vote_reply", 4, 2 }, { reply.type, reply.term, reply.to })
  end)

  it("and its refusal, in a new term, wait for the term to be durable", function()
    local n = node { log = { 1 }, lag = true }
    assert(n:step { type = "vote", term = 4 })
    assert.same({}, n:ready().messages)
    n:sync()
    assert.True(n:ready().messages[1].reject)
  end)

  it("is given to one candidate a term, and to that one again when it repeats its request", function()
    local n = node()
    assert.is_nil(vote(n, { from = 2, term = 1 }).reject)
    assert.True(vote(n, { from = 3, term = 1 }).reject)
    assert.is_nil(vote(n, { from = 2, term = 1 }).reject)
    assert.is_nil(vote(n, { from = 3, term = 2 }).reject)
  end)

  it("that is asked for again is not stored again", function()
    local n = node()
    vote(n, { from = 2, term = 1 })
    assert(n:step { type = "vote", from = 2, term = 1 })
    assert.equal(0, n:ready().seq)
  end)

  it("is remembered over a restart", function()
    local n = node()
    assert.is_nil(vote(n, { from = 2, term = 1 }).reject)
    n:restart()
    assert.True(vote(n, { from = 3, term = 1 }).reject)
    assert.is_nil(vote(n, { from = 2, term = 1 }).reject)
  end)

  it("is not given up when the role changes within the term", function()
    local n = node()
    vote(n, { from = 2, term = 1 })
    n:tick()
    n:flush()
    assert(n:step { type = "append", from = 2, term = 1 })
    n:flush()
    assert.True(vote(n, { from = 3, term = 1 }).reject)
    assert.equal(2, n:status().vote)
  end)

  it("is not given in a term whose leader is known", function()
    local n = node { term = 1 }
    assert(n:step { type = "append", from = 2, term = 1 })
    n:flush()
    n.clock.now = n.clock.now + T
    assert.True(vote(n, { from = 3, term = 1 }).reject)
  end)

  it("goes to logs that end in a later term, or in the same term at the same or a later index", function()
    local cases = {  -- term and index of the candidate's last entry, granted by a log of terms 1 1 3 3
      { 0, 0, false }, { 1, 9, false }, { 2, 9, false }, { 3, 3, false }, { 3, 4, true }, { 3, 5, true },
      { 4, 1, true },
    }
    for _, case in ipairs(cases) do
      for _, pre in ipairs { false, true } do
        local reply = vote(node { log = { 1, 1, 3, 3 } }, { term = 9, log_term = case[1], index = case[2], pre = pre })
        assert.equal(case[3], not reply.reject)
      end
    end
  end)

  it("that was granted is not lost to an older pre-vote that comes late, while it waits for the disk", function()
    local n = node { lag = true }
    assert(n:step { type = "vote", term = 1 })
    assert(n:step { type = "vote", term = 1, pre = true })
    n:ready()
    n:sync()
    local granted = 0
    for _, m in ipairs(n:ready().messages) do
      if not m.reject then granted = granted + 1 end
    end
    assert.equal(1, granted)
  end)

  it("is not given to whoever would disturb a leader that is heard", function()
    local n = node { term = 1 }
    assert(n:step { type = "heartbeat", term = 1, context = 1 })
    n:flush()
    local reply = vote(n, { from = 3, term = 7, index = 9, log_term = 6 })
    assert.same({ true, 1 }, { reply.reject, reply.term })
    assert.equal(1, n:status().term)
  end)

  it("is given by a learner: others may have made it a voter already", function()
    local n = node { id = 4, learners = { 4 } }
    assert.is_nil(vote(n, { term = 1 }).reject)
  end)
end)

describe("a learner", function()
  it("never campaigns, not when told either", function()
    local n = node { id = 4, learners = { 4 } }
    n:tick()
    assert(n.core:campaign(n.clock.now))
    assert.equal("follower", n:status().role)
    for _, m in ipairs(n:flush()) do assert.True(m.pre) end  -- it asks, so that it learns when it was removed
    for id = 1, 3 do assert(n:step { type = "vote_reply", from = id, term = 1, pre = true }) end
    assert.same({ "follower", 0 }, { n:status().role, n:status().term })
    assert.same({}, n:flush())
  end)

  it("names a leader no longer that it does not hear any more", function()
    local n = node { id = 4, learners = { 4 } }
    assert(n:step { type = "heartbeat", from = 1, term = 3, context = 1 })
    n:flush()
    assert.equal(1, n:status().leader)
    n:tick()
    assert.same({ 0, 3 }, { n:status().leader, n:status().term })
  end)
end)

describe("a single voter", function()
  it("elects itself when its vote is durable, and commits what is durable", function()
    local n = node { voters = { 1 }, lag = true }
    n:tick()
    assert.equal("candidate", n:status().role)
    n:ready()
    n:sync()
    assert.equal("leader", n:status().role)
    assert.equal(0, n:ready().commit)
    n:sync()
    assert.equal(1, n:ready().commit)
    assert.True(n:status().ready)
  end)

  it("leads on for ever", function()
    local n = node { voters = { 1 } }
    n:tick()
    n:flush()
    for _ = 1, 50 do n:tick() end
    assert.equal("leader", n:status().role)
  end)
end)

describe("a cluster", function()
  it("elects one leader, which stays", function()
    local c = lab.cluster { voters = { 1, 2, 3, 4, 5 } }
    c:advance(3 * T)
    local leader, term = c:leader(), c:leader():status().term
    c:advance(20 * T)
    assert.equal(leader, c:leader())
    assert.equal(term, c:leader():status().term)
  end)

  it("elects another leader when it dies, and the old one follows when it is back", function()
    local c = lab.cluster { voters = { 1, 2, 3 } }
    c:elect(1)
    c:crash(1)
    c:advance(5 * T)
    assert.not_equal(1, c:leader().id)
    c:restart(1)
    c:advance(T)
    assert.equal(c:leader().id, c.nodes[1]:status().leader)
  end)

  it("is not disturbed by a node that comes back from a partition: its term has not grown", function()
    local c = lab.cluster { voters = { 1, 2, 3 } }
    c:elect(1)
    c.cut[3] = true
    c:advance(20 * T)
    assert.equal(1, c.nodes[3]:status().term)
    c.cut[3] = nil
    c:advance(2 * T)
    assert.same({ 1, 1 }, { c:leader().id, c:leader():status().term })
  end)

  it("gets a node back whose term is higher: the leader hears of it and steps down", function()
    local c = lab.cluster { voters = { 1, 2, 3 } }
    c:elect(1)
    c.nodes[3].core:step({ type = "heartbeat_reply", from = 2, to = 3, term = 9 }, c.clock.now)
    c:advance(5 * T)
    local leader = c:leader()
    assert.truthy(leader:status().term >= 9)
    for id = 1, 3 do assert.equal(leader.id, c.nodes[id]:status().leader) end
  end)

  it("is led by none without a majority: the leader steps down after an election timeout", function()
    local c = lab.cluster { voters = { 1, 2, 3 } }
    c:elect(1)
    c:advance(T)
    c.cut[2], c.cut[3] = true, true
    c:advance(T - 2 * HEARTBEAT)
    assert.equal("leader", c.nodes[1]:status().role)
    c:advance(4 * HEARTBEAT)
    assert.not_equal("leader", c.nodes[1]:status().role)
    assert.equal(0, c.nodes[1]:status().leader)
  end)

  it("keeps a leader that a majority hears, though learners and the others do not", function()
    local c = lab.cluster { voters = { 1, 2, 3 }, learners = { 4, 5 } }
    c:elect(1)
    c.cut[3], c.cut[4], c.cut[5] = true, true, true
    c:advance(10 * T)
    assert.equal("leader", c.nodes[1]:status().role)
    c.cut = { [2] = true, [3] = true }
    c:advance(2 * T)
    assert.not_equal("leader", c.nodes[1]:status().role)
  end)

  it("moves on when its leader steps down, which does not campaign for two timeouts", function()
    local c = lab.cluster { voters = { 1, 2, 3 } }
    c:elect(1)
    c:advance(T)
    c.nodes[1].core:step_down(c.clock.now)
    assert.truthy(c.nodes[1].core:deadline() >= c.clock.now + 3 * T)
    assert.same({ "follower", 0, 1 },
      { c.nodes[1]:status().role, c.nodes[1]:status().leader, c.nodes[1]:status().term })
    c:advance(4 * T)
    assert.not_equal(1, c:leader().id)
    assert.equal(c:leader().id, c.nodes[1]:status().leader)
  end)

  it("elects though one node has an old log and the shortest timeout", function()
    local c = lab.cluster { voters = { 1, 2, 3 }, logs = { [1] = { 1 }, [2] = { 1, 1, 1 }, [3] = { 1, 1, 1 } } }
    for _ = 1, 5 do
      assert(c.nodes[1].core:campaign(c.clock.now))
      c:deliver()
      c:advance(T // 4)
    end
    c:advance(4 * T)
    assert.not_equal(1, c:leader().id)
  end)

  it("that loses the candidate's disk write after it won does not give a term to two entries", function()
    local c = lab.cluster { voters = { 1, 2, 3 }, lag = true }
    c.nodes[2].lag, c.nodes[3].lag = false, false
    c:pump(c.nodes[1])
    assert(c.nodes[1].core:campaign(c.clock.now))
    c:deliver()
    assert.same({ "candidate", 1 }, { c.nodes[1]:status().role, c.nodes[1]:status().term })
    assert.same({}, c:take(lab.from(1)))
    c:crash(1)
    c:restart(1)
    assert.equal(0, c.nodes[1]:status().term)
    assert.equal(0, c.nodes[2]:status().term)  -- nobody has heard of term 1
  end)
end)

describe("two leaders in one term", function()
  it("are a contradiction, of which no further input is taken", function()
    local n = node { term = 1 }
    assert(n:step { type = "heartbeat", from = 2, term = 1, context = 1 })
    local _, _, code = n:step { type = "heartbeat", from = 3, term = 1, context = 1 }
    assert.equal("corrupt", code)
    assert.True(n:status().corrupt)
    _, _, code = n:step { type = "heartbeat", from = 2, term = 2, context = 1 }
    assert.equal("corrupt", code)
    assert.equal("corrupt", select(3, n.core:ready(n.clock.now)))
    assert.equal("corrupt", select(3, n.core:tick(n.clock.now + 9 * T)))
    assert.is_nil(n.core:deadline())
  end)
end)

describe("a core", function()
  it("refuses a configuration that contradicts itself, and says what is wrong", function()
    local good = { id = 1, voters = { 1, 2, 3 } }
    local cases = {
      { "id", 0, "member id" }, { "voters", { 2, 1 }, "voters" },
      { "voters", { 1, 1 }, "voters" }, { "voters", { 0, 1 }, "voters" }, { "learners", { 2 }, "voters" },
      { "heartbeat", 0, "heartbeat" }, { "election_timeout", 200000, "heartbeat" }, { "applied", 1, "applied" },
      { "window_bytes", 0, "window_bytes" }, { "append_bytes", 0, "append_bytes" }, { "last", 3, "terms" },
      { "term", -1, "range" }, { "runs", { { 1, 1 } }, "terms" },
    }
    for _, case in ipairs(cases) do
      local options = { [case[1]] = case[2] }
      for name, value in pairs(good) do
        if options[name] == nil then options[name] = value end
      end
      local made, text, code = core.raft(options)
      assert.is_nil(made)
      assert.equal("invalid", code)
      assert.truthy(text:find(case[3], 1, true), text)
    end
  end)

  it("refuses terms of a log that contradict each other", function()
    for _, runs in ipairs { { { 2, 1 } }, { { 1, 0 } }, { { 1, 2 }, { 2, 1 } }, { { 1, 1 }, { 1, 2 } },
      { { 1, 1 }, { 9, 2 } }, { { 1, 1 }, { 2, 4 } } } do
      local _, _, code = core.raft { id = 1, voters = { 1 }, term = 3, last = 5, runs = runs }
      assert.equal("invalid", code)
    end
    assert.truthy(core.raft { id = 1, voters = { 1 }, term = 3, last = 5, runs = { { 1, 1 }, { 5, 3 } } })
  end)

  it("names unknown and ill-typed options", function()
    assert.error_matches(function() core.raft { id = 1, voters = { 1 }, hartbeat = 3 } end, "hartbeat")
    assert.error_matches(function() core.raft { id = "x", voters = { 1 } } end, "'id' must be an integer")
  end)
end)
