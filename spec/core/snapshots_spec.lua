-- Snapshots: compaction, what is sent to whom, and a received snapshot that replaces the log.
local core = require "raft.core"
local lab = require "spec.core.lab"

local T, HEARTBEAT = lab.T, lab.HEARTBEAT
local CONF = { voters = { 1, 2, 3 } }

local function of_type(messages, type)
  local list = {}
  for _, m in ipairs(messages) do
    if m.type == type then list[#list + 1] = m end
  end
  return list
end

---A follower 1 in term 5 of leader 2, as told; its disk waits when options.lag.
local function follower(options)
  options = options or {}
  options.id, options.voters, options.term = 1, options.voters or { 1, 2, 3 }, options.term or 5
  local n = lab.node(options)
  if options.lag then n:ready() else n:flush() end
  return n
end

local function append(n, index, log_term, terms, commit)
  return n:step { type = "append", term = n:status().term, index = index, log_term = log_term,
    entries = lab.entries(terms), commit = commit or 0 }
end

---A snapshot has arrived from leader 2.
local function snapshot(n, index, log_term, more)
  local m = { type = "snapshot", from = 2, to = n.id, term = n:status().term, index = index, log_term = log_term,
    file = { index = index, term = log_term, conf = CONF } }
  for name, value in pairs(more or {}) do m[name] = value end
  return n:receive(m)
end

---The newest acknowledgement among messages.
local function acknowledged(messages)
  local index
  for _, m in ipairs(of_type(messages, "append_reply")) do index = not m.reject and m.index or index end
  return index
end

---A cluster of three with a long log of leader 1, of which it keeps the last `keep` entries; node 3 was cut off.
local function cluster(keep, options)
  options = options or {}
  options.voters = options.voters or { 1, 2, 3 }
  local c = lab.cluster(options)
  c.cut[3] = true
  c:elect(1)
  for _ = 1, 20 do c:propose(1, 1) end
  c:deliver()
  c:advance(lab.NEWS)                               -- node 2 knows what is committed
  c.nodes[1]:snapshot(nil, keep or 0)
  return c
end

describe("compaction", function()
  it("keeps the term of the last entry that is gone, but forgets the ones before", function()
    local n = follower { log = { 1, 1, 2, 2, 3 }, applied = 4 }
    n:snapshot(4)
    local s = n:status()
    assert.same({ 5, 5, 4, 5 }, { s.first, s.last, s.snapshot, s.commit + 1 })
    assert.same({ 2, 3 }, { n.core:term(4), n.core:term(5) })
    assert.is_nil(n.core:term(3))
    assert(append(n, 4, 2, { 3, 5 }, 6))
    assert.equal(6, acknowledged(n:flush()))
  end)

  it("of the whole log leaves its last term, by which votes are given", function()
    local n = follower { log = { 1, 1, 3 }, applied = 3 }
    n:snapshot(3)
    assert(n.core:campaign(n.clock.now))
    local m = of_type(n:flush(), "vote")[1]
    assert.same({ 3, 3 }, { m.index, m.log_term })
    assert(n:step { type = "vote", term = 6, index = 9, log_term = 2 })
    assert.True(of_type(n:flush(), "vote_reply")[1].reject)
    assert(n:step { type = "append", term = 6, index = 3, log_term = 3, entries = lab.entries { 3, 6 } })
    n:flush()
    assert.same({ 3, 6 }, { n.core:term(4), n.core:term(5) })
  end)

  it("of less than before, or of nothing, is ignored", function()
    local n = follower { log = { 1, 1, 2, 2 }, applied = 4 }
    n:snapshot(4, 1)
    n.core:compact(2)
    n.core:compact(0)
    n.core:snapshot_taken(2)
    assert.same({ 4, 4 }, { n:status().first, n:status().snapshot })
  end)

  it("goes no further than the newest snapshot, and a snapshot no further than what is committed", function()
    local n = follower { log = { 1, 1, 1 }, applied = 2 }
    assert.error_matches(function() n.core:snapshot_taken(3) end, "committed")
    n.core:snapshot_taken(2)
    assert.error_matches(function() n.core:compact(3) end, "snapshot")
  end)

  it("frees the entries in memory", function()
    local n = follower()
    assert(append(n, 0, 0, { 5, 5, 5, 5 }, 4))
    n:flush()
    assert.equal(4, n:status().window_bytes)
    n:snapshot(3)
    assert.same({ 1, 4 }, { n:status().window_bytes, n:status().window })
    assert.is_nil(n.core:entry(3))
  end)

  it("with old appends still under way: what is compacted is skipped, and acknowledged as far as it is committed",
    function()
      local n = follower()
      assert(append(n, 0, 0, { 5, 5, 5, 5 }, 4))
      n:flush()
      n:snapshot(3)
      assert(append(n, 0, 0, { 5, 5 }))  -- all of it is gone: not appended to an empty log, nor refused
      assert.equal(4, acknowledged(n:flush()))
      assert(append(n, 1, 5, { 5, 5, 5, 5 }))
      assert.equal(5, acknowledged(n:flush()))
      assert.equal(5, n:status().last)
    end)

  it("and an append that contradicts what was compacted is a fault", function()
    local n = follower()
    assert(append(n, 0, 0, { 4, 4, 4, 4 }, 4))
    n:flush()
    n:snapshot(3)
    local _, _, code = append(n, 1, 4, { 4, 5 })
    assert.equal("corrupt", code)
  end)

  it("of a follower bounds its answer to a leader that probes below: nothing before its commit is asked for", function()
    local n = follower { log = { 1, 1, 1, 1, 2, 2 }, applied = 4 }
    n:snapshot(4)
    assert(n:step { type = "append", term = 5, index = 9, log_term = 3, entries = {} })
    local m = of_type(n:flush(), "append_reply")[1]
    assert.same({ true, 6, 2 }, { m.reject, m.hint, m.log_term })
    assert(n:step { type = "append", term = 5, index = 5, log_term = 1, entries = {} })
    m = of_type(n:flush(), "append_reply")[1]
    assert.same({ true, 4, 1 }, { m.reject, m.hint, m.log_term })

    n = follower { log = { 3, 3, 3, 3, 3 }, applied = 4 }
    n:snapshot(4)
    assert(n:step { type = "append", term = 5, index = 5, log_term = 1, entries = {} })  -- no leader can have that
    m = of_type(n:flush(), "append_reply")[1]
    assert.same({ true, 4, 3 }, { m.reject, m.hint, m.log_term })
  end)
end)

describe("a peer that needs what is compacted", function()
  it("is sent the snapshot once, and meanwhile nothing but heartbeats", function()
    local c = cluster()
    c.cut[3] = nil
    c:advance(2 * HEARTBEAT, true)
    c:deliver(function(m) return m.type ~= "snapshot" end)
    c:propose(1, 1)
    c:advance(3 * HEARTBEAT, true)
    c:deliver(function(m) return m.type ~= "snapshot" end)
    local orders = of_type(c.pool, "snapshot")
    assert.same({ 1, 3, 21, 1 }, { #orders, orders[1].to, orders[1].index, orders[1].log_term })
    assert.same({ "snapshot", 21 }, { c.nodes[1].core:peer(3).state, c.nodes[1].core:peer(3).snapshot })
    c:advance(lab.NEWS, true)
    c:deliver(lab.of "heartbeat")
    assert.equal(22, c.nodes[2].commit)
  end)

  it("has it, and then the entries behind it", function()
    local c = cluster(0)
    c:propose(1, 3)
    c:deliver()
    c.cut[3] = nil
    c:advance(T)
    assert.same({ 22, 24, 24 }, { c.nodes[3].disk.first, c.nodes[3].disk.last, c.nodes[3].commit })
    assert.equal("replicate", c.nodes[1].core:peer(3).state)
  end)

  it("gets entries instead, while the log still reaches back to it", function()
    local c = cluster(21)
    c.cut[3] = nil
    c:advance(T)
    assert.equal(1, c.nodes[3].disk.first)
    assert.equal(21, c.nodes[3].commit)
  end)

  it("goes on when the report of its transfer is lost: its answers tell", function()
    local c = cluster()
    c.cut[3] = nil
    c:advance(2 * HEARTBEAT, true)
    c:deliver(function(m) return m.type ~= "snapshot" end)
    local m = c:take(lab.of "snapshot")[1]
    assert(c.nodes[3]:receive(m))
    c:pump(c.nodes[3])
    c:take(lab.of "append_reply")  -- and its acknowledgement too
    c:advance(2 * HEARTBEAT)
    assert.equal("replicate", c.nodes[1].core:peer(3).state)
    assert.equal(21, c.nodes[1].core:peer(3).match)
  end)

  it("goes on when another snapshot than the one that was ordered has arrived", function()
    local c = cluster(5)
    c.nodes[2]:snapshot(18)
    c.cut[3] = nil
    c:advance(2 * HEARTBEAT, true)
    c:deliver(function(m) return m.type ~= "snapshot" end)
    local m = c:take(lab.of "snapshot")[1]
    m.file, m.index = c.nodes[2].disk.snapshot, 18  -- below what was ordered, but the log reaches back to it
    assert(c.nodes[3]:receive(m))
    c:deliver()
    assert.same({ "replicate", 21 }, { c.nodes[1].core:peer(3).state, c.nodes[1].core:peer(3).match })
    assert.equal(21, c.nodes[3].commit)
  end)

  it("is not sent one over and over while it is dead: only when it has been heard of again", function()
    local c = cluster()
    c.cut[3] = nil
    c:advance(2 * HEARTBEAT, true)
    c:deliver(function(m) return m.type ~= "snapshot" end)
    c.cut[3] = true
    local sent = 0
    for _ = 1, 10 do
      for _, m in ipairs(c:take(lab.of "snapshot")) do
        sent = sent + 1
        c:report(m, false)
      end
      c:advance(HEARTBEAT, true)
      c:deliver(function(m) return m.type ~= "snapshot" end)
    end
    assert.equal(1, sent)
    c.cut[3] = nil
    c:advance(T)
    assert.equal(21, c.nodes[3].commit)
  end)

  it("whose link broke in the middle is sent it again when it answers", function()
    local c = cluster()
    c.cut[3] = nil
    c:advance(2 * HEARTBEAT, true)
    c:deliver(function(m) return m.type ~= "snapshot" end)
    c:take(lab.of "snapshot")
    c.nodes[1].core:unreachable(3)
    assert.equal("probe", c.nodes[1].core:peer(3).state)
    c:advance(T)
    assert.equal(21, c.nodes[3].commit)
  end)

  it("does not move back for a rejection that was under way, nor by a report that comes too late", function()
    local c = cluster()
    c.cut[3] = nil
    c:advance(2 * HEARTBEAT, true)
    c:deliver(function(m) return m.type ~= "snapshot" end)
    local leader = c.nodes[1]
    assert(leader:step { type = "append_reply", from = 3, term = 1, reject = true, index = 20, hint = 0 })
    assert.equal("snapshot", leader.core:peer(3).state)
    c:advance(T)
    leader.core:snapshot_sent(3, false)
    leader.core:snapshot_sent(9, true)
    assert.equal("replicate", leader.core:peer(3).state)
  end)

  it("while it is being served cannot stop the others", function()
    local c = cluster(0, { voters = { 1, 2, 3, 4, 5 } })
    c.cut[4] = true
    c.cut[3] = nil
    for _ = 1, 10 do
      c:propose(1, 1)
      c:advance(HEARTBEAT, true)
      c:deliver(function(m) return m.type ~= "snapshot" end)
    end
    assert.equal(31, c.nodes[1].commit)
  end)

  it("gets another one when its own became too old on the way", function()
    local c = cluster()
    c.cut[3] = nil
    c:advance(2 * HEARTBEAT, true)
    c:deliver(function(m) return m.type ~= "snapshot" end)
    c:propose(1, 5)
    c:deliver(function(m) return m.type ~= "snapshot" end)
    c.nodes[1]:snapshot()
    c:advance(T)
    assert.same({ 26, 27 }, { c.nodes[3].commit, c.nodes[3].disk.first })
  end)

  it("may be a learner, or a member that knows nothing yet", function()
    local c = lab.cluster { voters = { 1 }, spares = { 2 } }
    c:elect(1)
    c:propose(1, 9)
    c.nodes[1]:snapshot()
    assert(c:change(1, { "add", 2 }))
    c:advance(T)
    assert.same({ 11, 11 }, { c.nodes[2].commit, c.nodes[2].disk.first })
    assert.True(c.nodes[2]:status().learner)
  end)
end)

describe("a received snapshot", function()
  it("replaces a log that does not reach so far, in one batch, before anything is acknowledged or committed", function()
    local n = follower { log = { 1, 1, 4 }, lag = true }
    assert(snapshot(n, 10, 4))
    local out = n:ready()
    assert.same({ 10, 4, 0, 11, 10 }, { out.restore, out.restore_term, out.truncate_from, out.first, out.last })
    assert.same({ 0, 0 }, { out.commit, #of_type(out.messages, "append_reply") })
    assert.same({ 10, 10, 11 }, { n:status().last, n:status().commit, n:status().first })
    n:sync()
    out = n:ready()
    assert.same({ 10, 10 }, { out.commit, acknowledged(out.messages) })
  end)

  it("replaces a log that differs, even one that is longer", function()
    local n = follower { log = { 1, 1, 1, 1, 1, 1, 1, 1 }, applied = 2 }
    assert(snapshot(n, 5, 4))
    assert.equal(5, acknowledged(n:flush()))
    assert.same({ 6, 5, 5 }, { n.disk.first, n.disk.last, n.commit })
  end)

  it("that the log matches leaves it alone, and only tells that its entries are committed", function()
    local n = follower { log = { 1, 1, 2, 2, 2 } }
    assert(snapshot(n, 3, 2))
    local messages, out = n:flush()
    assert.same({ 0, 3, 3 }, { out.restore, out.commit, acknowledged(messages) })
    assert.same({ 1, 5 }, { n.disk.first, n.disk.last })
  end)

  it("that is older than what is committed is ignored, and answered with where this node is", function()
    local n = follower { log = { 1, 1, 2, 2, 2 }, applied = 4 }
    for _, index in ipairs { 1, 3, 4 } do
      assert(snapshot(n, index, index < 3 and 1 or 2))
      local messages = n:flush()
      assert.equal(4, acknowledged(messages))
    end
    assert.same({ 1, 5, 4 }, { n:status().first, n:status().last, n:status().commit })
  end)

  it("twice is ignored the second time", function()
    local n = follower()
    assert(snapshot(n, 10, 4))
    n:flush()
    assert(append(n, 10, 4, { 5, 5 }))
    n:flush()
    assert(snapshot(n, 10, 4))
    assert.equal(12, acknowledged(n:flush()))
    assert.equal(12, n:status().last)
  end)

  it("of an earlier term is answered with the later one, and not taken", function()
    local n = follower { log = { 1 } }
    assert(snapshot(n, 10, 4, { term = 4 }))
    assert.same({ 1, 5 }, { n:status().last, of_type(n:flush(), "heartbeat_reply")[1].term })
  end)

  it("of a later term makes its sender the leader, and is durable together with the term", function()
    local n = follower { log = { 1 }, lag = true }
    assert(snapshot(n, 10, 4, { term = 7 }))
    local out = n:ready()
    assert.same({ true, 7, 10, 2 }, { out.vote_changed, out.term, out.restore, n:status().leader })
  end)

  it("from a second leader of one term, or against what the leader has shown before, is a fault", function()
    local n = follower { log = { 1 } }
    assert(append(n, 1, 1, { 2, 2, 2 }))
    local _, _, code = snapshot(n, 3, 1)
    assert.equal("corrupt", code)
    n = follower { log = { 1 } }
    assert(append(n, 1, 1, {}))
    _, _, code = snapshot(n, 9, 4, { from = 3 })
    assert.equal("corrupt", code)
  end)

  it("that makes no sense is refused", function()
    local n = follower { log = { 1 } }
    for _, case in ipairs { { 0, 0 }, { 0, 3 }, { 9, 0 }, { 9, 6 }, { -1, 4 } } do
      local _, _, code = n:step { type = "snapshot", term = 5, index = case[1], log_term = case[2], conf = CONF }
      assert.equal("invalid", code)
    end
    for _, conf in ipairs { {}, { voters = {} }, { voters = { 2, 1 } } } do
      local _, _, code = n:step { type = "snapshot", term = 5, index = 9, log_term = 3, conf = conf }
      assert.equal("invalid", code)
    end
    local _, _, code = n:step { type = "snapshot", term = 5, index = 9, log_term = 3 }
    assert.equal("invalid", code)
  end)

  it("voids the batches under way: their acknowledgements never cover entries behind it", function()
    local n = follower { lag = true }
    assert(append(n, 0, 0, { 4, 4, 4, 4, 4, 4, 4, 4 }))
    n:ready()                                  -- batch: eight entries
    assert(n:step { type = "heartbeat", from = 2, term = 6, context = 1 })
    n:ready()
    assert(snapshot(n, 3, 5))
    assert(append(n, 3, 5, { 5, 5, 5 }))
    n:ready()                                  -- batch: the snapshot, and entries 4 to 6
    n:sync(1)
    assert.equal(0, n:status().stable)
    assert.equal(0, n:ready().commit)
    n:sync(1)
    assert.equal(0, n:status().stable)
    n:sync(1)
    assert.equal(6, n:status().stable)
    assert.same({ 3, 6 }, { n:ready().commit, acknowledged(n:flush()) or 6 })
  end)

  it("lets nothing be handed out as committed before it is stored, not what was committed already either", function()
    local n = follower { lag = true }
    assert(append(n, 0, 0, { 4, 4, 4 }))
    n:ready()
    n:sync()
    n:ready()
    assert(n:step { type = "heartbeat", from = 2, term = 5, commit = 3, context = 1 })
    assert(snapshot(n, 9, 5))
    local out = n:ready()                      -- entries 1 to 3 are void by now
    assert.same({ 0, 9 }, { out.commit, out.restore })
    n:sync()
    assert.equal(9, n:ready().commit)
  end)

  it("overtaken by a newer one before it is stored gives way to it", function()
    local n = follower { lag = true }
    assert(snapshot(n, 5, 4))
    n:ready()
    assert(snapshot(n, 9, 4))
    n:ready()
    n:sync(1)
    assert.equal(0, n:status().stable)
    n:sync(1)
    assert.same({ 9, 9 }, { n:status().stable, n:ready().commit })
  end)

  it("and an own one that was being taken meanwhile: the older of the two is ignored", function()
    local n = follower { log = { 1, 1, 1 }, applied = 3 }
    assert(snapshot(n, 9, 4))
    n:flush()
    n.core:snapshot_taken(3)
    n.core:compact(2)
    assert.same({ 9, 10 }, { n:status().snapshot, n:status().first })
  end)

  it("brings its configuration, whatever this node was by the one before", function()
    local cases = {  -- conf, voter, learner
      { { voters = { 2, 3 }, learners = { 1 } }, false, true },
      { { voters = { 2, 3 } }, false, false },
      { { voters = { 2, 3 }, outgoing = { 1, 2 } }, true, false },
      { { voters = { 2, 3 }, outgoing = { 1, 2 }, learners = { 1 } }, true, true },
    }
    for _, case in ipairs(cases) do
      for _, before in ipairs { { voters = { 1, 2, 3 } }, { voters = { 2, 3 }, learners = { 1 } } } do
        local n = follower { voters = before.voters, learners = before.learners }
        assert(snapshot(n, 9, 4, { file = { index = 9, term = 4, conf = case[1] } }))
        local s = n:status()
        assert.same({ case[2], case[3], 9 }, { s.voter, s.learner, s.conf_index })
        assert.same(lab.conf_text(case[1]), lab.conf_text(n.core:conf()))
      end
    end
  end)

  it("with entries that follow it: they are taken when it has come, and asked for when it has not", function()
    local n = follower { log = { 1 } }
    assert(append(n, 10, 4, { 5, 5 }))
    assert.True(of_type(n:flush(), "append_reply")[1].reject)
    assert(snapshot(n, 10, 4))
    assert(append(n, 10, 4, { 5, 5 }, 12))
    assert.equal(12, acknowledged(n:flush()))
    assert.equal(12, n.commit)
  end)
end)

describe("a restart with a snapshot", function()
  local function start(options)
    for name, value in pairs { id = 1, voters = { 1, 2, 3 }, term = 5, snapshot = 10, snapshot_term = 4 } do
      if options[name] == nil then options[name] = value end
    end
    return core.raft(options)
  end

  it("goes on behind it: with no log, with entries that follow it, and with some that it covers", function()
    local s = assert(start {}):status()
    assert.same({ 11, 10, 10, 10, 10 }, { s.first, s.last, s.commit, s.stable, s.applied })
    s = assert(start { last = 12, runs = { { 11, 5 } } }):status()
    assert.same({ 11, 12, 10 }, { s.first, s.last, s.commit })
    local r = assert(start { last = 12, runs = { { 7, 3 }, { 9, 4 }, { 12, 5 } } })
    assert.same({ 8, 12, 10 }, { r:status().first, r:status().last, r:status().commit })
    assert.same({ 3, 3, 4, 5 }, { r:term(7), r:term(8), r:term(10), r:term(12) })
    assert.is_nil(r:term(6))
    s = assert(start { last = 10, runs = { { 10, 4 } } }):status()
    assert.same({ 11, 10 }, { s.first, s.last })
  end)

  it("takes what was applied for committed, also beyond it", function()
    local s = assert(start { last = 12, runs = { { 11, 5 } }, applied = 12 }):status()
    assert.same({ 12, 12 }, { s.commit, s.applied })
  end)

  it("goes by the configurations that stand behind it in the log, not by its own", function()
    local r = assert(start { last = 13, runs = { { 11, 5 } }, confs = {
      { index = 11, conf = { voters = { 1, 2, 3 }, learners = { 4 } } },
      { index = 13, conf = { voters = { 1, 2, 3, 4 } } } } })
    assert.equal("1 2 3 4||", lab.conf_text(r:conf()))
    assert.equal("1 2 3||4", lab.conf_text(r:conf(12)))
    assert.equal("1 2 3||", lab.conf_text(r:conf(10)))
    assert.is_nil(r:conf(9))
  end)

  it("of a term that never became durable takes that term, without a vote", function()
    local r = assert(start { term = 2, vote = 3 })
    assert.same({ 4, 0, 2 }, { r:status().term, r:status().vote, r:status().durable_term })
    local out = assert(r:ready(1))
    assert.same({ true, 4 }, { out.vote_changed, out.term })
  end)

  it("that contradicts the log is refused, and says how", function()
    local cases = {
      { { last = 12, runs = { { 12, 5 } } }, "contradict" },             -- a gap
      { { last = 12, runs = { { 9, 3 }, { 12, 5 } } }, "snapshot" },     -- another term at its index
      { { last = 9, runs = { { 8, 3 } } }, "beyond" },                   -- the log ends before it
      { { last = 12 }, "cover" }, { { snapshot_term = 0 }, "term" }, { { snapshot = 0, snapshot_term = 3 }, "term" },
      { { confs = { { index = 10, conf = CONF } } }, "configuration" },
      { { last = 12, runs = { { 11, 5 } }, confs = { { index = 13, conf = CONF } } }, "configuration" },
      { { last = 12, runs = { { 11, 5 } }, confs = { { index = 12, conf = {} } } }, "configuration" },
      { { last = 12, runs = { { 11, 5 } }, confs = { { index = 12, conf = CONF }, { index = 12, conf = CONF } } },
        "configuration" },
    }
    for _, case in ipairs(cases) do
      local made, text, code = start(case[1])
      assert.is_nil(made)
      assert.same("invalid", code)
      assert.truthy(text:find(case[2], 1, true), text)
    end
  end)

  it("between the storing of a snapshot and the replacement of the log voids what contradicts it", function()
    for written = 0, 1 do
      local n = follower { log = { 1, 1, 1, 1, 1, 1 }, applied = 2, lag = true }
      assert(snapshot(n, 4, 3))
      n:ready()
      n:restart(written)
      assert.same({ 5, 4, 4 }, { n:status().first, n:status().last, n:status().commit })
    end
  end)
end)
