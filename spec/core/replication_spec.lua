-- Replication: log matching, commitment, windows, lost messages, quotas.
local lab = require "spec.core.lab"

local T, HEARTBEAT = lab.T, lab.HEARTBEAT

---A follower 1 of leader 2 in term 5, or as told.
local function follower(options)
  options.id, options.voters, options.term = 1, options.voters or { 1, 2, 3 }, options.term or 5
  local n = lab.node(options)
  n:flush()
  return n
end

---A message from leader 2: entries of these terms after (index, log_term).
local function append(n, index, log_term, terms, commit, more)
  local m = { type = "append", term = 5, index = index, log_term = log_term, entries = lab.entries(terms),
    commit = commit or 0 }
  for name, value in pairs(more or {}) do m[name] = value end
  return n:step(m)
end

local function of_type(messages, type, to)
  local list = {}
  for _, m in ipairs(messages) do
    if m.type == type and (not to or m.to == to) then list[#list + 1] = m end
  end
  return list
end

local function acknowledge(n, from, index)
  assert(n:step { type = "append_reply", from = from, term = n:status().term, index = index })
end

---Peers 2 and 3 have confirmed the leader's empty entry; what that leads to is gone.
local function settled(options)
  local n = lab.leader(options or {})
  n:flush()
  for id = 2, 3 do acknowledge(n, id, n:status().last) end
  n:flush()
  return n
end

---The newest acknowledgement among messages.
local function newest_reply(messages)
  local list = of_type(messages, "append_reply")
  return list[#list]
end

---Heartbeats go out now, and the peer answers its own.
local function beat(n, from, index)
  n:tick()
  local sent = of_type(n:flush(), "heartbeat", from)[1]
  n.clock.now = n.clock.now + 10
  assert(n:step { type = "heartbeat_reply", from = from, term = sent.term, context = sent.context, index = index })
  return n:flush()
end

local function sum_sizes(list)
  local sum = 0
  for _, m in ipairs(list) do
    for _, entry in ipairs(m.entries) do sum = sum + entry.size end
  end
  return sum
end

describe("a follower", function()
  it("appends what fits on to its log, stores it, and then acknowledges it", function()
    local n = follower { lag = true }
    assert(append(n, 0, 0, { 1, 5, 5 }))
    local out = n:ready()
    assert.same({ 1, 3, 0, {} }, { out.first, out.last, out.truncate_from, out.messages })
    n:sync()
    local reply = n:ready().messages[1]
    assert.same({ "append_reply", 3 }, { reply.type, reply.index })
    assert.is_nil(reply.reject)
  end)

  it("rejects what does not fit on to its log", function()
    local n = follower { log = { 1, 1 } }
    assert(append(n, 4, 3, { 5 }))
    local reply = of_type(n:flush(), "append_reply")[1]
    assert.same({ true, 4, 2, 1 }, { reply.reject, reply.index, reply.hint, reply.log_term })
    assert.same({ 1, 1 }, n:terms())
  end)

  it("names, when it rejects, the newest place at which the logs may agree", function()
    local cases = {  -- log, previous index and term, hint and its term
      { { 1, 2, 2, 4, 4 }, 5, 3, 3, 2 }, { { 1, 2, 2, 4, 4 }, 5, 1, 1, 1 }, { { 2, 2 }, 2, 1, 0, 0 },
      { { 1, 1, 1 }, 9, 4, 3, 1 }, { {}, 9, 4, 0, 0 },
    }
    for _, case in ipairs(cases) do
      local n = follower { log = case[1] }
      assert(append(n, case[2], case[3], {}))
      local reply = of_type(n:flush(), "append_reply")[1]
      assert.same({ true, case[4], case[5] }, { reply.reject, reply.hint, reply.log_term })
    end
  end)

  it("cuts its log where an entry differs, and only there", function()
    local n = follower { log = { 1, 1, 2, 2 } }
    assert(append(n, 1, 1, { 1, 5 }))
    n:flush()
    assert.same({ 1, 1, 5 }, n:terms())
    assert.same({ { 1, 1 }, { 3, 5 } }, lab.runs(n.disk.log))
    assert.equal(3, #n.disk.log)
  end)

  it("tells the store from where on the old entries are void", function()
    local n = follower { log = { 1, 1, 2, 2 } }
    assert(append(n, 2, 1, { 5 }))
    local out = n:ready()
    assert.same({ 3, 3, 3 }, { out.truncate_from, out.first, out.last })
  end)

  it("is not cut by older appends that come late: what it has acknowledged stays", function()
    local n = follower { log = { 1 } }
    assert(append(n, 1, 1, { 5, 5, 5 }))
    n:flush()
    for _, terms in ipairs { {}, { 5 }, { 5, 5 } } do
      assert(append(n, 1, 1, terms))
      local _, out = n:flush()
      assert.equal(0, out and out.truncate_from or 0)
      assert.same({ 1, 5, 5, 5 }, n:terms())
    end
  end)

  it("takes appends out of order, and in order again", function()
    local n = follower { log = { 1 } }
    assert(append(n, 3, 5, { 5 }))
    assert.True(of_type(n:flush(), "append_reply")[1].reject)
    assert(append(n, 1, 1, { 5, 5 }))
    assert.equal(3, newest_reply(n:flush()).index)
    assert(append(n, 3, 5, { 5 }))
    assert.equal(4, newest_reply(n:flush()).index)
  end)

  it("answers a conflict at or below the commit index with a fault, and takes nothing more", function()
    for _, case in ipairs { { 2, 2, {} }, { 1, 1, { 5 } }, { 0, 0, { 5, 5, 5 } }, { 1, 3, { 5 } } } do
      local n = follower { log = { 1, 1, 1 }, applied = 2 }
      local _, text, code = append(n, table.unpack(case))
      assert.equal("corrupt", code)
      assert.truthy(#text > 10)
      assert.same({ 1, 1, 1 }, n:terms())
      assert.equal("corrupt", select(3, append(n, 3, 1, { 5 })))
    end
  end)

  it("answers entries of sinking terms behind its commit index with a fault, not with the end of the process",
    function()
      local n = follower { log = { 4, 4 }, applied = 2 }
      assert.equal("corrupt", select(3, append(n, 1, 1, { 1, 1, 1 })))
    end)

  it("answers a leader that contradicts itself within its term with a fault", function()
    local n = follower { log = { 1 } }
    assert(append(n, 1, 1, { 3, 3, 3 }))
    n:flush()
    assert.equal("corrupt", select(3, append(n, 1, 1, { 4 })))
    assert.same({ 1, 3, 3, 3 }, n:terms())
  end)

  it("commits no further than the message covers: what lies behind may differ", function()
    local n = follower { log = { 1, 1, 1 } }
    assert(append(n, 1, 1, { 1 }, 3))
    assert.equal(2, n:status().commit)
    assert(append(n, 2, 1, {}, 3))
    assert.equal(2, n:status().commit)
    assert(append(n, 3, 1, {}, 3))
    assert.equal(3, n:status().commit)
  end)

  it("never takes a commit back", function()
    local n = follower { log = { 1, 1, 1 } }
    assert(append(n, 3, 1, {}, 3))
    assert(append(n, 3, 1, {}, 1))
    assert(n:step { type = "heartbeat", term = 5, commit = 1, context = 1 })
    assert.equal(3, n:status().commit)
  end)

  it("that has lost its log is told so: a commit index beyond the log is a fault", function()
    local n = follower { log = { 1 } }
    assert.equal("corrupt", select(3, n:step { type = "heartbeat", term = 5, commit = 2, context = 1 }))
  end)

  it("does not answer the news of a commit, only heartbeats", function()
    local n = follower { log = { 1 } }
    assert(n:step { type = "heartbeat", term = 5, commit = 1 })
    local messages, out = n:flush()
    assert.same({}, of_type(messages, "heartbeat_reply"))
    assert.equal(1, out.commit)
    assert(n:step { type = "heartbeat", term = 5, commit = 1, context = 77 })
    assert.equal(77, of_type(n:flush(), "heartbeat_reply")[1].context)
  end)

  it("acknowledges again when a heartbeat shows that its acknowledgement was lost", function()
    local n = follower { log = { 1 } }
    assert(append(n, 1, 1, { 5, 5 }))
    assert.equal(3, newest_reply(n:flush()).index)  -- lost
    assert(n:step { type = "heartbeat", term = 5, commit = 1, context = 7 })
    assert.equal(3, of_type(n:flush(), "append_reply")[1].index)
    assert(n:step { type = "heartbeat", term = 5, commit = 3, context = 8 })
    assert.same({}, of_type(n:flush(), "append_reply"))  -- it has arrived
  end)

  it("tells a leader of an older term that there is a newer one", function()
    for _, type in ipairs { "append", "heartbeat" } do
      local n = follower { log = { 1 } }
      assert(n:step { type = type, term = 4, index = 1, log_term = 1, context = 9 })
      local reply = n:flush()[1]
      assert.same({ "heartbeat_reply", 5, 2 }, { reply.type, reply.term, reply.to })
    end
    local old = settled()
    assert(old:step { type = "heartbeat_reply", from = 3, term = 5 })
    assert.same({ "follower", 5, 0 }, { old:status().role, old:status().term, old:status().leader })
  end)
end)

describe("commitment", function()
  it("needs entries to be durable on a majority, the leader's own copy among them only when it is", function()
    local n = lab.leader { voters = { 1, 2, 3, 4, 5 } }
    n.lag = true
    n:ready()
    acknowledge(n, 2, 1)
    acknowledge(n, 3, 1)
    assert.equal(0, n:status().commit)
    n:sync()
    assert.equal(1, n:status().commit)
    n:ready()
    n.core:propose(1)
    n:ready()
    acknowledge(n, 2, 2)
    acknowledge(n, 3, 2)
    assert.equal(1, n:status().commit)
    acknowledge(n, 4, 2)
    assert.equal(2, n:status().commit)  -- by the others; here it is not durable yet
    assert.equal(1, n:ready().commit)   -- and not handed out before it is
    n:sync()
    assert.equal(2, n:ready().commit)
  end)

  it("does not come by counting copies of an older term's entries, but with an entry of the leader's own", function()
    local n = lab.leader { log = { 1, 2, 2 }, term = 4 }
    n:flush()
    acknowledge(n, 2, 3)
    acknowledge(n, 3, 3)
    assert.equal(0, n:status().commit)
    assert.False(n:status().ready)
    acknowledge(n, 2, 4)
    assert.equal(4, n:status().commit)
    assert.True(n:status().ready)
  end)

  it("does not count learners", function()
    local n = lab.leader { learners = { 4, 5 } }
    n:flush()
    acknowledge(n, 4, 1)
    acknowledge(n, 5, 1)
    assert.equal(0, n:status().commit)
    acknowledge(n, 3, 1)
    assert.equal(1, n:status().commit)
  end)

  it("needs both majorities of a joint configuration", function()
    local n = lab.leader { outgoing = { 1, 4, 5 } }
    n:flush()
    acknowledge(n, 2, 1)
    acknowledge(n, 3, 1)
    assert.equal(0, n:status().commit)
    acknowledge(n, 4, 1)
    assert.equal(1, n:status().commit)
  end)

  ---Node 1 leads, and its entry 4, which everybody has, is committed. waits: a follower that waits for it.
  local function committed(waits)
    local c = lab.cluster { voters = { 1, 2, 3 } }
    c:elect(1)
    if waits then c.nodes[1].core:await_commit(waits, 4) end
    c:propose(1, 3)
    c:deliver()
    return c
  end

  it("reaches followers with the next entries", function()
    local c = committed()
    c:propose(1, 1)
    c:deliver(function(m) return m.type ~= "heartbeat" end)
    for id = 2, 3 do assert.equal(4, c.nodes[id].commit) end
  end)

  it("is told to followers by itself soon, once, when no entries follow", function()
    local c = committed()
    for id = 2, 3 do assert.truthy(c.nodes[id].commit < 4) end
    local told = 0
    c:advance(lab.NEWS, true)
    c:deliver(function(m)
      if m.type == "heartbeat" then told = told + 1 end
      return true
    end)
    for id = 1, 3 do assert.equal(4, c.nodes[id].commit) end
    assert.equal(2, told)
    assert.truthy(c.nodes[1].core:deadline() > c.clock.now + lab.NEWS)
  end)

  it("is told at once to a follower that waits for it, and to no other", function()
    local c = committed(3)
    assert.equal(4, c.nodes[3].commit)
    assert.truthy(c.nodes[2].commit < 4)
    c:propose(1, 1)                                 -- it waits no longer
    c:deliver(function(m) return m.type ~= "heartbeat" end)
    c:deliver()
    assert.equal(4, c.nodes[3].commit)
  end)

  it("is told in heartbeats no further than the follower has confirmed", function()
    local n = settled()
    n.core:propose(2)
    n:flush()
    acknowledge(n, 2, 3)
    assert.equal(3, n:status().commit)
    n:tick()
    local beats = of_type(n:flush(), "heartbeat")
    local to = {}
    for _, m in ipairs(beats) do to[m.to] = math.max(to[m.to] or 0, m.commit) end
    assert.same({ [2] = 3, [3] = 1 }, to)
  end)

  it("is learned from the next heartbeat when its news were lost", function()
    local c = lab.cluster { voters = { 1, 2, 3 } }
    c:elect(1)
    c:propose(1, 1)
    c:deliver(function(m) return m.type ~= "heartbeat" end)
    c:take()
    assert.equal(1, c.nodes[3].commit)
    c:advance(2 * HEARTBEAT)
    assert.equal(2, c.nodes[3].commit)
  end)
end)

describe("back-tracking", function()
  ---Entries of `count` terms from `first` in steps of 2, each of `length` entries, after a common start.
  local function diverge(common, first, count, length)
    local log = {}
    for _ = 1, common do log[#log + 1] = 1 end
    for k = 0, count - 1 do
      for _ = 1, length do log[#log + 1] = first + 2 * k end
    end
    return log
  end

  ---How often node 3 rejects an append, until it has the log of leader 1.
  local function rejections(mine, theirs)
    local c = lab.cluster { voters = { 1, 2, 3 }, logs = { [1] = mine, [2] = mine, [3] = theirs }, term = 9999 }
    c.cut[3] = true
    c:elect(1)
    c.cut[3] = nil
    c:advance(2 * HEARTBEAT, true)
    local count = 0
    while c.nodes[3].commit < c.nodes[1]:status().last do
      local messages = c:take()
      assert(#messages > 0 and count < 1000)
      for _, m in ipairs(messages) do
        if m.reject then count = count + 1 end
        c:give(m)
      end
    end
    assert.same(c.nodes[1]:terms(), c.nodes[3]:terms())
    return count
  end

  it("over thousands of entries that are missing takes two or three round trips", function()
    local full, short = diverge(10, 3, 1, 5000), diverge(10, 3, 0, 0)
    assert.truthy(rejections(full, short) <= 2)
  end)

  it("over thousands of entries of one term that must go takes two or three round trips", function()
    assert.truthy(rejections(diverge(2000, 5, 1, 10), diverge(2000, 3, 1, 4000)) <= 3)
  end)

  it("over thousands of entries of many terms on one side takes two or three round trips", function()
    assert.truthy(rejections(diverge(10, 3, 1, 10), diverge(10, 4, 400, 5)) <= 3)
    assert.truthy(rejections(diverge(10, 4, 400, 5), diverge(10, 3, 1, 2000)) <= 3)
  end)

  it("over many terms on both sides takes one round trip for each of the terms that differ", function()
    assert.truthy(rejections(diverge(100, 3, 20, 50), diverge(100, 4, 20, 50)) <= 22)
  end)

  it("does not go back for a rejection that comes late or twice, nor below what was confirmed", function()
    local n = settled { log = { 1, 1, 1, 1 }, term = 1 }
    n.core:propose(5)
    n:flush()
    acknowledge(n, 2, 8)
    local reject = { type = "append_reply", from = 2, term = 2, reject = true, index = 8, hint = 3, log_term = 1 }
    assert(n:step(reject))
    assert.same({ "replicate", 8, 11 }, { n.core:peer(2).state, n.core:peer(2).match, n.core:peer(2).next })
    reject.index = 9
    assert(n:step(reject))
    assert.same({ "probe", 8, 9 }, { n.core:peer(2).state, n.core:peer(2).match, n.core:peer(2).next })
  end)

  it("does not go round in circles with a peer that has lost its log", function()
    local n = settled()
    n.core:unreachable(2)
    local sent = 0
    for _ = 1, 20 do
      assert(n:step { type = "append_reply", from = 2, term = 1, reject = true, index = 1, hint = 0, log_term = 0 })
      sent = sent + #of_type(n:flush(), "append", 2)
    end
    assert.equal(0, sent)
  end)
end)

describe("a leader", function()
  it("probes with one message at a time until it knows where the logs agree", function()
    local n = lab.leader {}
    local first = of_type(n:flush(), "append", 2)
    assert.equal(1, #first)
    n.core:propose(3)
    assert.same({}, of_type(n:flush(), "append", 2))
    acknowledge(n, 2, 1)
    local sent = of_type(n:flush(), "append", 2)
    assert.same({ 1, 3 }, { sent[1].index, sent[1].n_entries })
  end)

  it("probes again when a heartbeat is answered: the probe or its answer may be lost", function()
    local n = lab.leader {}
    n:flush()
    local sent = of_type(beat(n, 2, 0), "append", 2)
    assert.same({ 1, 0, 1 }, { #sent, sent[1].index, sent[1].n_entries })
  end)

  it("pipelines: entries go out before earlier ones are confirmed", function()
    local n = settled()
    for i = 1, 10 do
      n.core:propose(1)
      local sent = of_type(n:flush(), "append", 2)
      assert.same({ 1, i }, { #sent, sent[1].index })
    end
  end)

  it("fills messages up to append_bytes, and sends a larger entry alone", function()
    local n = settled { append_bytes = 100, window_bytes = 10000 }
    n.core:propose { 40, 40, 40, 500, 10, 10 }
    local counts = {}
    for _, m in ipairs(of_type(n:flush(), "append", 2)) do counts[#counts + 1] = m.n_entries end
    assert.same({ 2, 1, 1, 2 }, counts)
  end)

  it("stops when window_bytes are on the way, and goes on as they are confirmed", function()
    local n = settled { append_bytes = 100, window_bytes = 300 }
    for _ = 1, 10 do n.core:propose { 100 } end
    assert.equal(300, sum_sizes(of_type(n:flush(), "append", 2)))
    assert.equal(300, n.core:peer(2).inflight_bytes)
    acknowledge(n, 2, 3)
    assert.equal(200, sum_sizes(of_type(n:flush(), "append", 2)))
    acknowledge(n, 2, 2)  -- an old one frees nothing
    assert.equal(0, #of_type(n:flush(), "append", 2))
    acknowledge(n, 2, 6)
    acknowledge(n, 2, 11)
    n:flush()
    assert.same({ 0, 12 }, { n.core:peer(2).inflight_bytes, n.core:peer(2).next })
  end)

  it("stops at 256 messages on the way, however small", function()
    local n, sent = settled(), 0
    for _ = 1, 400 do
      n.core:propose { 0 }
      sent = sent + #of_type(n:flush(), "append", 2)
    end
    assert.equal(256, sent)
    acknowledge(n, 2, 11)
    assert.truthy(#of_type(n:flush(), "append", 2) > 0)
  end)

  it("sends a lost window again when a heartbeat shows what has arrived", function()
    local n = settled { append_bytes = 100, window_bytes = 300 }
    for _ = 1, 10 do n.core:propose { 100 } end
    n:flush()  -- entries 2 .. 4, all lost
    n.clock.now = n.clock.now + 1
    local again = of_type(beat(n, 2, 1), "append", 2)
    assert.same({ 3, 1 }, { #again, again[1].index })
  end)

  it("sends again only what is lost", function()
    local n = settled { append_bytes = 100, window_bytes = 300 }
    for _ = 1, 3 do n.core:propose { 100 } end
    n:flush()
    n.clock.now = n.clock.now + 1
    local again = of_type(beat(n, 2, 3), "append", 2)
    assert.same({ 1, 3 }, { #again, again[1].index })
  end)

  it("sends nothing again that was confirmed, though a follower that restarted says that it has nothing", function()
    local n = settled { log = { 1, 1, 1 }, term = 1 }
    n.core:propose(1)
    n:flush()
    n.clock.now = n.clock.now + 1
    local again = of_type(beat(n, 2, 0), "append", 2)
    assert.same({ 1, 4, 4, 5 }, { #again, again[1].index, n.core:peer(2).match, n.core:peer(2).next - 1 })
  end)

  it("does not take for lost what was sent after the heartbeat", function()
    local n = settled()
    n.clock.now = n.core:deadline()
    n:tick()
    local sent = of_type(n:flush(), "heartbeat", 2)[1]
    n.clock.now = n.clock.now + 1
    n.core:propose(1)
    n:flush()
    assert(n:step { type = "heartbeat_reply", from = 2, term = 1, context = sent.context, index = 1 })
    assert.same({}, of_type(n:flush(), "append", 2))
  end)

  it("takes all for lost when a link is down, and probes when the peer is heard again", function()
    local n = settled()
    for _ = 1, 5 do n.core:propose(1) end
    n:flush()
    n.core:unreachable(2)
    assert.same({ "probe", 2, 0 }, { n.core:peer(2).state, n.core:peer(2).next, n.core:peer(2).inflight_bytes })
    n.core:propose(1)
    assert.same({}, of_type(n:flush(), "append", 2))
    local sent = of_type(beat(n, 2, 1), "append", 2)
    assert.same({ 1, 1, 6 }, { #sent, sent[1].index, sent[1].n_entries })
  end)

  it("replicates again to a peer that had everything when its link went down", function()
    local n = settled()
    n.core:unreachable(2)
    beat(n, 2, 1)
    acknowledge(n, 2, 1)
    assert.equal("replicate", n.core:peer(2).state)
  end)

  it("knows how long a heartbeat takes, and when it last heard of a peer", function()
    local n = settled()
    beat(n, 2, 1)
    assert.equal(10, n.core:peer(2).rtt)
    assert.equal(n.clock.now, n.core:peer(2).contact)
    assert.is_nil(n.core:peer(1))
    assert.is_nil(n.core:peer(9))
  end)
end)

describe("the quota of uncommitted bytes", function()
  it("refuses what exceeds it, all or none, and is released by commits", function()
    local n = settled { uncommitted_bytes = 100 }
    assert.same({ 2, 1 }, { n.core:propose { 40, 50 } })
    local first, text, code = n.core:propose { 5, 6 }
    assert.is_nil(first)
    assert.equal("busy", code)
    assert.truthy(#text > 10)
    assert.equal(3, n:status().last)
    assert.equal(4, n.core:propose { 10 })
    n:flush()
    acknowledge(n, 2, 2)
    assert.equal(60, n:status().uncommitted_bytes)
    acknowledge(n, 2, 4)
    assert.equal(0, n:status().uncommitted_bytes)
  end)

  it("lets one entry in, however large: else it could never be proposed", function()
    local n = settled { uncommitted_bytes = 100 }
    assert.equal(2, n.core:propose { 1000 })
    assert.equal("busy", select(3, n.core:propose { 1 }))
  end)

  it("starts anew with each leader, whatever it had appended before", function()
    local c = lab.cluster { voters = { 1, 2, 3 }, uncommitted_bytes = 100 }
    c:elect(1)
    c.cut[1] = true
    c:propose(1, { 90 })
    c:take()
    c:advance(3 * T)
    local second = c:leader()
    assert.not_equal(1, second.id)
    assert.equal(0, second:status().uncommitted_bytes)
    c.cut[1] = nil
    c:advance(T)
    assert.equal(0, c.nodes[1]:status().uncommitted_bytes)
    second.core:step_down(c.clock.now)
    c:advance(2 * T, true)
    c:take()
    c:elect(1)
    c:propose(1, { 100 })
    c:deliver()
    assert.equal(0, c.nodes[1]:status().uncommitted_bytes)
  end)

  it("does not count entries of earlier terms that the new leader commits", function()
    local c = lab.cluster { voters = { 1, 2, 3 }, logs = { [1] = { 1, 1, 1 } }, term = 1 }
    c:elect(1)
    assert.equal(0, c.nodes[1]:status().uncommitted_bytes)
    assert.equal(4, c.nodes[1].commit)
  end)
end)

describe("the window of entries in memory", function()
  it("takes up cache_bytes, each entry with 32 bytes more, and what is not durable or not committed", function()
    local n = settled { cache_bytes = 154 }
    n.core:propose { 60, 60, 60 }
    n:flush()
    assert.equal(180, n:status().window_bytes)
    acknowledge(n, 2, 4)
    n:flush()
    n.core:propose { 30 }
    n:flush()
    assert.same({ 4, 90 }, { n:status().window, n:status().window_bytes })
    assert.is_nil(n.core:entry(3))
    assert.equal(1, n.core:term(3))
    n.core:propose { 1 }                         -- 187 bytes; of what remains without entry 4 none is committed
    n:flush()
    assert.same({ 5, 31 }, { n:status().window, n:status().window_bytes })
  end)

  it("has places for what takes the place of entries older than all of it, wherever pages begin and end", function()
    local terms = {}
    for i = 1, 1000 do terms[i] = 1 end
    for _, from in ipairs { 2, 255, 256, 257, 513, 767, 768, 769, 1000 } do
      for _, count in ipairs { 1, 255, 256, 257, 600 } do
        local n, new = follower { log = terms, term = 1 }, {}
        for i = 1, count do new[i] = 5 end
        assert(append(n, from - 1, 1, new))
        n:flush()
        assert.same({ from, from + count - 1 }, { n:status().window, n:status().last })
        for i = from, from + count - 1 do assert.equal(5, n.core:entry(i).term) end
        assert.is_nil(n.core:entry(from - 1))
      end
    end
  end)

  it("leaves older entries to be named by range, and they replicate all the same", function()
    local c = lab.cluster { voters = { 1, 2, 3 }, cache_bytes = 50, append_bytes = 100, window_bytes = 1000 }
    c:elect(1)
    c.cut[3] = true
    for _ = 1, 300 do
      c:propose(1, { 10, 10, 10, 10, 10, 10, 10, 10, 10, 10 })
      c:deliver()
    end
    c.cut[3] = nil
    c:advance(2 * HEARTBEAT, true)
    local ranges = 0
    for _ = 1, 30 do
      for _, m in ipairs(c:take()) do
        if m.was_range then
          ranges = ranges + 1
          assert.truthy(m.n_entries <= 1024)
        end
        c:give(m)
      end
    end
    assert.equal(3, ranges)
    assert.same(c.nodes[1]:terms(), c.nodes[3]:terms())
    assert.equal(3001, c.nodes[3].commit)
  end)

  it("may be read for a follower in smaller pieces than were named: the next piece follows the last", function()
    local log = {}
    for i = 1, 500 do log[i] = 1 end
    local c = lab.cluster { voters = { 1, 2, 3 }, logs = { [1] = log, [2] = log }, range_max = 100, term = 1 }
    assert(c.nodes[1].core:campaign(c.clock.now))
    local pieces = {}
    for _ = 1, 40 do
      for _, m in ipairs(c:take()) do
        if m.was_range and m.to == 3 then pieces[#pieces + 1] = m.index end
        c:give(m)
      end
      for id = 1, 3 do c:pump(c.nodes[id]) end
    end
    assert.same({ 0, 100, 200, 300, 400 }, pieces)
    assert.equal(501, c.nodes[3].commit)
  end)

  it("takes news of what was sent of a range only while that range is on the way", function()
    local n = settled()
    n.core:range_sent(2, 99, 50, n.clock.now)
    n.core:range_sent(9, 99, 50, n.clock.now)
    n.core:propose(5)
    n:flush()
    n.core:range_sent(2, 6, 0, n.clock.now)  -- confirmed already: heartbeats find out what is lost
    assert.same({ 1, 7 }, { n.core:peer(2).match, n.core:peer(2).next })
    n.core:unreachable(2)
    n.core:range_sent(2, 6, 4, n.clock.now)
    assert.equal(2, n.core:peer(2).next)
    assert.error_matches(function() n.core:range_sent(2, 5, 6, n.clock.now) end, "no more than was named")
  end)

  it("that was read slowly counts as sent when it was, not when it was asked for: it is not taken for lost", function()
    local n = lab.leader { log = { 1 }, cache_bytes = 0 }
    n:flush()
    for id = 2, 3 do acknowledge(n, id, 2) end
    n.core:propose(3000)
    n:flush()
    acknowledge(n, 2, 3002)
    n:flush()
    n.core:unreachable(3)
    assert.equal(2, of_type(beat(n, 3, 2), "append", 3)[1].index)
    acknowledge(n, 3, 100)
    local range = of_type(n:flush(), "append", 3)[1]
    local named, asked = range.index + range.n_entries, n.clock.now
    n.clock.now = asked + 500000 -- half a second of reading
    n.core:range_sent(3, named, named, n.clock.now)
    assert(n:step { type = "heartbeat_reply", from = 3, term = n:status().term, index = 100, context = asked + 1 })
    assert.equal(named + 1, n.core:peer(3).next)
  end)

  it("has one range at a time on the way to a follower", function()
    local n = lab.leader { log = { 1 }, cache_bytes = 0 }
    n:flush()
    for id = 2, 3 do acknowledge(n, id, 2) end
    n.core:propose(3000)
    n:flush()
    acknowledge(n, 2, 3002)
    n:flush()
    n.core:propose(1)
    n:flush()
    n.core:unreachable(3)
    local sent = of_type(beat(n, 3, 2), "append", 3)
    assert.same({ 1, 1024 }, { #sent, sent[1].n_entries })
    acknowledge(n, 3, 1026)
    assert.equal(1, #of_type(n:flush(), "append", 3))
  end)

  it("is empty after a restart, where all that is not committed yet is on disk too", function()
    local c = lab.cluster { voters = { 1, 2, 3 }, logs = { [1] = { 1, 1, 2 }, [2] = { 1 } }, term = 2 }
    assert.same({ 4, 0 }, { c.nodes[1]:status().window, c.nodes[1]:status().commit })
    c:elect(1)
    for id = 1, 3 do assert.same({ 1, 1, 2, 3 }, c.nodes[id]:terms()) end
  end)

  it("of a follower that restarted is cut where the leader's log differs", function()
    local c = lab.cluster { voters = { 1, 2, 3 }, logs = { [1] = { 1, 3 }, [2] = { 1, 3 }, [3] = { 1, 2, 2, 2 } } }
    c:elect(1)
    assert.same({ 1, 3, 4 }, c.nodes[3]:terms())
    assert.same({ 1, 3, 4 }, { c.nodes[3].disk.log[1].term, c.nodes[3].disk.log[2].term, c.nodes[3].disk.log[3].term })
  end)
end)

describe("a proposal", function()
  it("is refused by who does not lead", function()
    local n = follower { log = { 1 } }
    local first, _, code = n.core:propose(1)
    assert.is_nil(first)
    assert.equal("no_leader", code)
  end)

  it("tells index and term", function()
    local n = settled { log = { 1, 1 }, term = 6 }
    assert.same({ 4, 7 }, { n.core:propose(3) })
    assert.same({ 7, 7 }, { n.core:propose(1) })
  end)
end)
