-- Linearizable reads: rounds of heartbeats, and leases.
local lab = require "spec.core.lab"

local T, HEARTBEAT = lab.T, lab.HEARTBEAT
local DRIFT = 50000

local function of_type(messages, type)
  local list = {}
  for _, m in ipairs(messages) do
    if m.type == type then list[#list + 1] = m end
  end
  return list
end

---Leader 1 of term 1, whose empty entry peers 2 and 3 (or as told) have confirmed.
local function leader(options)
  local n = lab.leader(options or {})
  n:flush()
  for id = 2, 3 do n:step { type = "append_reply", from = id, term = 1, index = n:status().last } end
  n:flush()
  return n
end

---Peer `from` answers a heartbeat of the list.
local function answer(n, from, messages)
  for _, m in ipairs(of_type(messages, "heartbeat")) do
    if m.to == from and m.context > 0 then
      assert(n:step { type = "heartbeat_reply", from = from, term = m.term, context = m.context, round = m.round })
      n:flush()
      return
    end
  end
  error "no heartbeat to answer"
end

---Asks; returns what goes out.
local function read(n, context, lease)
  assert(n.core:read(context, n.clock.now, lease))
  return (n:flush())
end

describe("a read", function()
  it("is confirmed by a quorum's answers to heartbeats sent after it came", function()
    local n = leader()
    local sent = read(n, 7)
    assert.equal(2, #of_type(sent, "heartbeat"))
    assert.is_nil(n.read[7])
    answer(n, 2, sent)
    assert.equal(1, n.read[7])
    assert.equal(0, n:status().reads)
  end)

  it("is not confirmed by answers to heartbeats that were sent before, however late they come", function()
    local n = leader()
    n:tick()
    local before = n:flush()
    local sent = read(n, 7)
    assert.equal(0, #of_type(sent, "heartbeat"))   -- one round at a time
    answer(n, 2, before)
    answer(n, 3, before)
    assert.is_nil(n.read[7])
    n:tick()
    answer(n, 2, n:flush())
    assert.equal(1, n.read[7])
  end)

  it("under a number that was used before is confirmed anew: numbers are the caller's and never travel", function()
    local n = leader()
    local first = read(n, 7)
    answer(n, 2, first)
    assert.equal(1, n.read[7])
    n.read[7] = nil
    local second = read(n, 7)
    answer(n, 2, first)                            -- delivered twice
    answer(n, 3, first)
    assert.is_nil(n.read[7])
    answer(n, 3, second)
    assert.equal(1, n.read[7])
    for _, m in ipairs(second) do
      for name, value in pairs(m) do assert.falsy(name == "context" and value == 7) end
    end
  end)

  it("shares its round with all others that wait", function()
    local n = leader()
    local first = read(n, 1)
    local sent = 0
    for context = 2, 100 do sent = sent + #read(n, context) end
    assert.equal(0, sent)
    assert(n:step { type = "heartbeat_reply", from = 2, term = 1, context = 1, round = first[1].round })
    local second = n:flush()
    assert.equal(1, n.read[1])
    assert.is_nil(n.read[2])
    assert.equal(2, #of_type(second, "heartbeat"))
    answer(n, 3, second)
    for context = 2, 100 do assert.equal(1, n.read[context]) end
  end)

  it("names the index that was committed when it came, and writes nothing", function()
    local n = leader()
    n.core:propose(3)
    n:flush()
    n:step { type = "append_reply", from = 2, term = 1, index = 4 }
    n:flush()
    local last = n:status().last
    answer(n, 2, read(n, 7))
    assert.same({ 4, last }, { n.read[7], n:status().last })
  end)

  it("waits at a new leader for the first commit of its own term", function()
    local c = lab.cluster { voters = { 1, 2, 3 } }
    c:elect(1)
    c:propose(1, 4)
    c:deliver()
    c.clock.now = c.clock.now + 2 * T
    assert(c.nodes[2].core:campaign(c.clock.now))
    c:deliver(function(m) return m.type:find "vote" ~= nil end)
    assert.equal("leader", c.nodes[2]:status().role)
    local context = assert(c:read(2))
    c:deliver(function(m) return m.type:find "heartbeat" ~= nil end)
    assert.is_nil(c.nodes[2].read[context])
    c:deliver()
    c:advance(2 * HEARTBEAT)
    assert.equal(6, c.nodes[2].read[context])
  end)

  it("fails when leadership is lost, in whatever way, and is not forgotten", function()
    local ways = {
      function(n) assert(n:step { type = "heartbeat", from = 2, term = 2, context = 1 }) end,
      function(n) assert(n:step { type = "append_reply", from = 2, term = 9 }) end,
      function(n) n.core:step_down(n.clock.now) end,
      function(n)
        n.clock.now = n.clock.now + 3 * T
        n:tick()
      end,
    }
    for _, way in ipairs(ways) do
      local n = leader()
      read(n, 7)
      read(n, 8)
      way(n)
      n:flush()
      assert.equal("follower", n:status().role)
      assert.same({ 0, 0, 0 }, { n.read[7], n.read[8], n:status().reads })
    end
  end)

  it("of an earlier leadership is not confirmed by a later one", function()
    local c = lab.cluster { voters = { 1, 2, 3 } }
    c:elect(1)
    c:advance(2 * HEARTBEAT)
    local context = assert(c:read(1))
    local old = c:take()
    c.nodes[1].core:step_down(c.clock.now)
    c:pump(c.nodes[1])
    c.clock.now = c.clock.now + 2 * T
    c:elect(1)
    assert.equal(0, c.nodes[1].read[context])
    for _, m in ipairs(old) do c:give(m) end
    c:deliver()
    assert.equal(0, c.nodes[1].read[context])
  end)

  it("is refused by one that does not lead", function()
    local n = lab.node { id = 1, voters = { 1, 2, 3 } }
    local _, _, code = n.core:read(1, n.clock.now)
    assert.equal("no_leader", code)
  end)

  it("is refused when too many wait, and taken again when they do not", function()
    local n = leader()
    local sent = read(n, 0)
    for context = 1, 16383 do assert(n.core:read(context, n.clock.now)) end
    local _, _, code = n.core:read(16384, n.clock.now)
    assert.equal("busy", code)
    n:flush()
    answer(n, 2, sent)
    assert.equal(16383, n:status().reads)
    assert(n.core:read(16384, n.clock.now))
    n:tick()
    answer(n, 3, n:flush())
    assert.equal(0, n:status().reads)
    for context = 0, 16384 do assert(n.read[context] == 1) end
  end)

  it("is not confirmed by learners, nor by one half of a joint configuration", function()
    local n = leader { voters = { 1, 2, 3 }, learners = { 4, 5 } }
    local sent = read(n, 7)
    answer(n, 4, sent)
    answer(n, 5, sent)
    assert.is_nil(n.read[7])
    answer(n, 3, sent)
    assert.equal(1, n.read[7])
  end)

  it("of a cluster of one needs nobody; in a joint configuration a list of one is not enough", function()
    local n = lab.leader { voters = { 1 } }
    n:flush()
    assert.equal(0, #of_type(read(n, 7), "heartbeat"))
    assert.equal(1, n.read[7])

    local c = lab.cluster { voters = { 1, 2, 3 } }
    c:elect(1)
    c:advance(2 * HEARTBEAT)
    c.cut[2], c.cut[3] = true, true
    assert(c:change(1, { "demote", 2 }, { "demote", 3 }))
    local context = assert(c:read(1))
    c:advance(3 * HEARTBEAT)
    assert.is_nil(c.nodes[1].read[context])
    c.cut = {}
    c:advance(3 * HEARTBEAT)
    assert.truthy(c.nodes[1].read[context] > 0)
  end)

  it("is decided when the quorum shrinks to those that have answered", function()
    local c = lab.cluster { voters = { 1, 2, 3, 4 } }
    c:elect(1)
    c:advance(2 * HEARTBEAT)
    c.cut[3], c.cut[4] = true, true
    local context = assert(c:read(1))
    c:deliver()
    assert.is_nil(c.nodes[1].read[context])
    assert(c:change(1, { "remove", 4 }))
    assert.truthy(c.nodes[1].read[context])
  end)

  it("of a leader that others have replaced is not confirmed", function()
    local c = lab.cluster { voters = { 1, 2, 3 } }
    c:elect(1)
    c:advance(2 * HEARTBEAT)
    c.cut[1] = true
    c.clock.now = c.clock.now + T
    c:elect(2)
    c:propose(2, 5)
    c:deliver()
    local context = assert(c:read(1))
    c:deliver()
    assert.is_nil(c.nodes[1].read[context])
    c.cut[1] = nil
    c:advance(3 * HEARTBEAT)
    assert.equal(0, c.nodes[1].read[context])
  end)
end)

describe("an answer to a heartbeat", function()
  it("to a round that was never sent is refused", function()
    local n = leader()
    local sent = read(n, 7)
    local _, _, code = n:step { type = "heartbeat_reply", from = 2, term = 1, context = 1, round = sent[1].round + 1 }
    assert.equal("invalid", code)
    assert.is_nil(n.read[7])
  end)
end)

describe("a lease", function()
  local function leased(options)
    options = options or {}
    options.lease, options.clock_drift = true, DRIFT
    return leader(options)
  end

  it("answers reads alone, from the sending of heartbeats a quorum has answered, for T less the drift", function()
    local n = leased()
    assert.is_nil(n.core:lease_until())
    n:tick()
    local sent_at, sent = n.clock.now, n:flush()
    n.clock.now = n.clock.now + 30000
    answer(n, 2, sent)
    assert.equal(sent_at + T - DRIFT, n.core:lease_until())
    n.clock.now = sent_at + T - DRIFT - 1
    assert.equal(0, #of_type(read(n, 7, true), "heartbeat"))
    assert.equal(1, n.read[7])
    n.clock.now = sent_at + T - DRIFT
    assert.equal(2, #of_type(read(n, 8, true), "heartbeat"))
    assert.is_nil(n.read[8])
  end)

  it("is used only where it is asked for, and only when it is configured", function()
    local n = leased()
    n:tick()
    answer(n, 2, n:flush())
    assert.equal(2, #of_type(read(n, 7, false), "heartbeat"))
    n = leader()
    n:tick()
    local sent = n:flush()
    assert.equal(0, of_type(sent, "heartbeat")[1].lease)
    answer(n, 2, sent)
    assert.is_nil(n.core:lease_until())
    assert.equal(2, #of_type(read(n, 7, true), "heartbeat"))
  end)

  it("needs a quorum of both halves of a joint configuration, and learners give none", function()
    local n = leased { voters = { 1, 2, 3 }, learners = { 4, 5 } }
    n:tick()
    local sent = n:flush()
    answer(n, 4, sent)
    answer(n, 5, sent)
    assert.is_nil(n.core:lease_until())
    answer(n, 3, sent)
    assert.truthy(n.core:lease_until())
  end)

  it("does not rest on the promise of a member that has come back without its directory: it knows of none", function()
    local n = leased { voters = { 1, 2, 3 }, learners = { 4 } }
    n:tick()
    answer(n, 2, n:flush())
    assert.truthy(n.core:lease_until())
    n.core:peer_lost(2)
    assert.is_nil(n.core:lease_until())
    n:tick()
    answer(n, 2, n:flush())
    assert.truthy(n.core:lease_until())
  end)

  it("ends when a transfer starts, and for the rest of the term: the target may be told at any time later", function()
    local n = leased()
    n:tick()
    answer(n, 2, n:flush())
    assert.truthy(n.core:lease_until())
    assert(n.core:transfer(2, n.clock.now))
    assert.is_nil(n.core:lease_until())
    n.core:unreachable(2)
    assert.equal(0, n:status().transfer)
    n:tick()
    local sent = n:flush()
    assert.equal(0, of_type(sent, "heartbeat")[1].lease)
    answer(n, 3, sent)
    assert.is_nil(n.core:lease_until())
  end)

  it("is over with the leadership", function()
    local n = leased()
    n:tick()
    answer(n, 2, n:flush())
    n.core:step_down(n.clock.now)
    assert.is_nil(n.core:lease_until())
  end)

  it("of a cluster of one never ends", function()
    local n = lab.leader { voters = { 1 }, lease = true, clock_drift = DRIFT }
    n:flush()
    n.clock.now = n.clock.now + 9 * T
    read(n, 7, true)
    assert.equal(1, n.read[7])
  end)

  it("at a new leader waits for its first commit", function()
    local n = lab.leader { lease = true, clock_drift = DRIFT }
    local sent = n:flush()
    n:tick()
    for _, m in ipairs((n:flush())) do sent[#sent + 1] = m end
    answer(n, 2, sent)
    assert.truthy(n.core:lease_until())
    read(n, 7, true)
    assert.is_nil(n.read[7])
    n:step { type = "append_reply", from = 2, term = 1, index = 1 }
    n:flush()
    assert.equal(1, n.read[7])
  end)

  describe("promised by a member", function()
    ---Member 3, which has answered such a heartbeat of leader 1.
    local function promised()
      local n = lab.node { id = 3, voters = { 1, 2, 3 }, lease = true, term = 4 }
      n.clock.now = n.clock.now + 2 * T
      assert(n:step { type = "heartbeat", from = 1, term = 4, context = 1, lease = T })
      n:flush()
      return n
    end

    local function asks(n, term, more)
      local m = { type = "vote", from = 2, term = term }
      for name, value in pairs(more or {}) do m[name] = value end
      assert(n:step(m))
      return not of_type(n:flush(), "vote_reply")[1].reject
    end

    it("keeps it from giving a vote or a pre-vote for so long", function()
      local n = promised()
      n.clock.now = n.clock.now + T - 1
      assert.False(asks(n, 5))
      assert.False(asks(n, 5, { pre = true }))
      assert.equal(4, n:status().term)
      n.clock.now = n.clock.now + 1
      assert.True(asks(n, 5, { pre = true }))
      assert.True(asks(n, 5))
    end)

    it("holds in a later term that it has heard of in passing", function()
      local n = promised()
      assert(n:step { type = "append_reply", from = 2, term = 9 })
      assert.same({ 9, 0 }, { n:status().term, n:status().leader })
      assert.False(asks(n, 9))
      assert.False(asks(n, 10))
      n.clock.now = n.clock.now + T
      assert.True(asks(n, 10))
    end)

    it("keeps it from an election of its own: its own vote is promised too", function()
      local n = promised()
      assert(n.core:campaign(n.clock.now))
      assert.equal("follower", n:status().role)
      assert.equal(0, #n:flush())
      n:tick()
      assert.equal("candidate", n:status().role)
      assert.truthy(n.clock.now >= 3 * T)
    end)

    it("does not hold against an election that the leader itself has asked for", function()
      assert.True(asks(promised(), 5, { force = true }))
      local n = promised()
      assert(n:step { type = "timeout_now", from = 1, term = 4 })
      assert.equal("candidate", n:status().role)
    end)

    it("may have been forgotten in a restart: so it withholds its vote for T then, if it ever had a term", function()
      local n = promised()
      n:restart()
      n.clock.now = n.clock.now + T - 1
      assert.False(asks(n, 5))
      assert(n.core:campaign(n.clock.now))
      assert.equal("follower", n:status().role)
      n.clock.now = n.clock.now + 1
      assert.True(asks(n, 5))
      n = lab.node { id = 3, voters = { 1, 2, 3 }, lease = true }
      assert.True(asks(n, 1))
    end)
  end)

  ---A leader is cut off at some time, some other node is elected as early as it can be, and all along the old one is
  ---asked for reads. drift: what it believes about the clocks, which really run apart by DRIFT in T.
  local function isolate(seed, drift)
    local random = lab.random(seed)
    local c = lab.cluster { voters = { 1, 2, 3, 4, 5 }, lease = true, clock_drift = drift, priority = 1000, seed = seed,
      skew = { -24990, 24990, 24990, 24990, 24990 } }
    c.clock.now = c.clock.now + 2 * T
    c:elect(1)
    c:advance(5 * HEARTBEAT + random(HEARTBEAT))
    c.cut[1] = true
    for _ = 1, 400 do
      c:advance(4000)
      local other = c:leader()
      if other and other.id ~= 1 then
        c:propose(other.id, 1)
        c:deliver()
      end
      if c.nodes[1]:status().role == "leader" then c:read(1, true) end
    end
    assert(c:leader().id ~= 1)
    return #c.reads
  end

  it("gives no stale read under clocks that run apart as far as is allowed", function()
    local asked = 0
    for seed = 1, 25 do asked = asked + isolate(seed, DRIFT) end
    assert.truthy(asked > 25 * 50)
  end)

  it("would, if the clocks ran apart further than is assumed: so this can be seen here", function()
    local stale = 0
    for seed = 1, 25 do
      if not pcall(isolate, seed, 0) then stale = stale + 1 end
    end
    assert.truthy(stale > 0)
  end)
end)
