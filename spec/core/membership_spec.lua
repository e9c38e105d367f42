-- Changes of members: what may follow what, who counts when, who is told.
local core = require "raft.core"
local lab = require "spec.core.lab"

local T, HEARTBEAT = lab.T, lab.HEARTBEAT
local change, leave = core.membership.change, core.membership.leave

local function of_type(messages, type)
  local list = {}
  for _, m in ipairs(messages) do
    if m.type == type then list[#list + 1] = m end
  end
  return list
end

---A cluster that node 1 leads, with an entry of its term committed; spare nodes know nothing yet.
local function cluster(options)
  local c = lab.cluster(options)
  c:elect(1)
  return c
end

local function conf(c, id) return lab.conf_text(c.nodes[id].core:conf()) end

---Adds these nodes as learners, and lets them catch up.
local function add(c, ...)
  local changes = {}
  for i, id in ipairs { ... } do changes[i] = { "add", id } end
  assert(c:change(1, table.unpack(changes)))
  c:advance(5 * HEARTBEAT)
end

describe("the next configuration", function()
  local three = { voters = { 1, 2, 3 }, learners = { 4, 5 } }

  local function becomes(from, changes, text)
    assert.equal(text, lab.conf_text(assert(change(from, changes))))
  end

  it("has one voter more or less at once, and any number of learners", function()
    becomes(three, { { "add", 9 } }, "1 2 3||4 5 9")
    becomes(three, { { "add", 9 }, { "add", 7 }, { "remove", 4 } }, "1 2 3||5 7 9")
    becomes(three, { { "promote", 4 } }, "1 2 3 4||5")
    becomes(three, { { "demote", 1 } }, "2 3||1 4 5")
    becomes(three, { { "remove", 2 } }, "1 3||4 5")
    becomes(three, { { "remove", 2 }, { "add", 9 } }, "1 3||4 5 9")
    becomes(three, { { "move", 1 }, { "move", 4 } }, "1 2 3||4 5")
  end)

  it("is a joint one when more than one voter changes", function()
    becomes(three, { { "promote", 4 }, { "promote", 5 } }, "1 2 3 4 5|1 2 3|")
    becomes(three, { { "promote", 4 }, { "remove", 1 } }, "2 3 4|1 2 3|5")
    becomes(three, { { "demote", 1 }, { "demote", 2 } }, "3|1 2 3|1 2 4 5")
    becomes(three, { { "remove", 1 }, { "remove", 2 }, { "add", 6 } }, "3|1 2 3|4 5 6")
  end)

  it("is left for the one it leads to: who was demoted votes until then", function()
    local joint = change(three, { { "demote", 1 }, { "promote", 4 } })
    assert.equal("2 3 4|1 2 3|1 5", lab.conf_text(joint))
    assert.equal("2 3 4||1 5", lab.conf_text(leave(joint)))
  end)

  it("is refused with a reason", function()
    local cases = {
      { {}, "makes no sense" }, { { { "add", 0 } }, "makes no sense" }, { { { 0, 9 } }, "makes no sense" },
      { { { 6, 9 } }, "makes no sense" }, { { { "add", 9 }, { "add", 9 } }, "makes no sense" },
      { { { "promote", 4 }, { "remove", 4 } }, "makes no sense" },
      { { { "add", 1 } }, "already" }, { { { "add", 4 } }, "already" }, { { { "promote", 1 } }, "already" },
      { { { "demote", 4 } }, "already" },
      { { { "promote", 9 } }, "no member" }, { { { "demote", 9 } }, "no member" }, { { { "remove", 9 } }, "no member" },
      { { { "move", 9 } }, "no member" },
      { { { "remove", 1 }, { "remove", 2 }, { "demote", 3 } }, "no voters" },
    }
    for _, case in ipairs(cases) do
      local next_conf, text = change(three, case[1])
      assert.is_nil(next_conf)
      assert.truthy(text:find(case[2], 1, true), text)
    end
  end)

  it("holds no more members than a cluster can, in between neither", function()
    local full = { voters = {} }
    for id = 1, 15 do full.voters[id] = id end
    local _, text = change(full, { { "add", 16 } })
    assert.truthy(text:find("too many", 1, true))
    becomes({ voters = { 1 }, learners = { 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 } },
      { { "add", 16 }, { "add", 17 }, { "remove", 2 }, { "remove", 3 } }, "1||4 5 6 7 8 9 10 11 12 13 14 15 16 17")
    _, text = change(full, { { "remove", 1 }, { "remove", 2 }, { "add", 16 } })
    assert.truthy(text:find("too many", 1, true))
    local many = {}
    for id = 1, 31 do many[id] = { "add", 100 + id } end
    _, text = change({ voters = { 1 } }, many)
    assert.truthy(text:find("makes no sense", 1, true))
  end)

  it("over single steps always has a majority in common with the one before", function()
    local random = lab.random(5)
    local ops = { "add", "promote", "demote", "remove" }
    local from, seen = { voters = { 1, 2, 3 } }, 0
    for _ = 1, 3000 do
      local next_conf = change(from, { { ops[random(4)], random(7) } })
      if next_conf then
        seen = seen + 1
        assert.is_nil(next_conf.outgoing)
        local common = 0
        for _, a in ipairs(from.voters) do
          for _, b in ipairs(next_conf.voters) do common = common + (a == b and 1 or 0) end
        end
        local a, b = #from.voters // 2 + 1, #next_conf.voters // 2 + 1
        local union = #from.voters + #next_conf.voters - common
        assert.truthy(a + b > union)
        from = next_conf
      end
    end
    assert.truthy(seen > 300)
  end)
end)

describe("a change", function()
  it("takes effect when it is appended, on each member as it arrives", function()
    local c = cluster { voters = { 1, 2, 3 } }
    assert(c:change(1, { "demote", 3 }))
    assert.same({ "1 2||3", "1 2 3||" }, { conf(c, 1), conf(c, 2) })
    assert.True(c.nodes[1]:status().changing)
    c:deliver()
    for id = 1, 3 do assert.equal("1 2||3", conf(c, id)) end
    assert.False(c.nodes[1]:status().changing)
  end)

  it("counts in an election by being in the log, whether or not anybody knows that it is committed", function()
    for winner = 1, 2 do
      local c = cluster { voters = { 1, 2, 3 } }
      c.cut[3] = true
      assert(c:change(1, { "remove", 3 }))
      c:propose(1, 1)
      c:deliver()
      for id = 1, 2 do
        c:crash(id)
        c:restart(id, 0, 0)
        assert.same({ 0, "1 2||" }, { c.nodes[id]:status().commit, conf(c, id) })
      end
      c:elect(winner)
      c:deliver()
      assert.equal(4, c.nodes[winner].commit)
    end
  end)

  it("tells its index and term, and is an entry like any other", function()
    local c = cluster { voters = { 1, 2, 3 } }
    local index, term = c:change(1, { "demote", 3 })
    assert.same({ 2, 1 }, { index, term })
    local entry = c.nodes[1].core:entry(2)
    assert.same({ "config", "1 2||3" }, { entry.type, lab.conf_text(entry.conf) })
  end)

  it("is refused while another one is open, by a leader that came meanwhile too", function()
    local c = cluster { voters = { 1, 2, 3 } }
    assert(c:change(1, { "demote", 3 }))
    local _, text = c:change(1, { "remove", 3 })
    assert.truthy(text:find("changing", 1, true))
    c:deliver(lab.to(2))
    c:take()
    c.cut[1] = true
    c.clock.now = c.clock.now + 2 * T
    assert(c.nodes[2].core:campaign(c.clock.now))  -- by {1, 2}, which it inherited
    c.cut[1] = nil
    c.nodes[1].core:step_down(c.clock.now)
    c:deliver(function(m) return m.type:find "vote" ~= nil end)
    assert.equal("leader", c.nodes[2]:status().role)
    _, text = c:change(2, { "remove", 3 })
    assert.truthy(text:find("not ready", 1, true))
    c:deliver()
    assert.equal("1 2||3", conf(c, 2))
    assert(c:change(2, { "remove", 3 }))
  end)

  it("is refused until an entry of the leader's own term is committed: two leaders could count by lists without a " ..
    "majority in common", function()
    local c = lab.cluster { voters = { 1, 2, 3, 4 } }
    assert(c.nodes[1].core:campaign(c.clock.now))
    c:deliver(function(m) return m.type:find "vote" ~= nil end)
    assert.equal("leader", c.nodes[1]:status().role)
    local _, text, code = c:change(1, { "remove", 4 })
    assert.truthy(text:find("not ready", 1, true))
    assert.equal("busy", code)
    c:deliver()
    assert(c:change(1, { "remove", 4 }))
  end)

  it("that is refused is not an empty entry, and leaves nothing behind", function()
    local c = cluster { voters = { 1, 2, 3 } }
    local last = c.nodes[1]:status().last
    for _, changes in ipairs { { { "add", 2 } }, { { "remove", 9 } }, {}, { { "promote", 3 } } } do
      local index, _, code = c:change(1, table.unpack(changes))
      assert.is_nil(index)
      assert.truthy(code == "conflict" or code == "invalid")
    end
    assert.same({ last, false }, { c.nodes[1]:status().last, c.nodes[1]:status().changing })
    local _, _, code = c:change(2, { "add", 4 })
    assert.equal("no_leader", code)
  end)

  it("is not held up by the quota for proposals", function()
    local c = cluster { voters = { 1, 2, 3 }, uncommitted_bytes = 10 }
    c:propose(1, { 10 })
    assert(c:change(1, { "demote", 3 }))
    c:deliver()
    assert.equal("1 2||3", conf(c, 2))
  end)

  it("that was not committed is rolled back when another leader overwrites it", function()
    local c = cluster { voters = { 1, 2, 3, 4, 5 } }
    c:take()
    assert(c:change(1, { "remove", 5 }))
    c:deliver(lab.to(2))
    c:take()
    assert.equal("1 2 3 4||", conf(c, 2))
    c.cut[1], c.cut[2] = true, true
    c.clock.now = c.clock.now + 2 * T
    c:elect(3)
    c.cut[1], c.cut[2] = nil, nil
    c:advance(T)
    for id = 1, 5 do assert.equal("1 2 3 4 5||", conf(c, id)) end
    assert.equal(5, #c.nodes[3].core:conf().voters)
  end)

  it("that follows another one and is overwritten leaves that in force", function()
    local n = lab.node { id = 1, voters = { 1, 2, 3 }, term = 5 }
    local function config(term, learners)
      return { term = term, type = "config", size = 1, conf = { voters = { 1, 2, 3 }, learners = learners } }
    end
    assert(n:step { type = "append", term = 5, entries = { config(5, { 4 }), { term = 5 }, config(5, { 4, 5 }) } })
    assert.equal("1 2 3||4 5", lab.conf_text(n.core:conf()))
    assert.same({ "1 2 3||", "1 2 3||4", "1 2 3||4" },
      { lab.conf_text(n.core:conf(0)), lab.conf_text(n.core:conf(1)), lab.conf_text(n.core:conf(2)) })
    assert(n:step { type = "append", from = 3, term = 6, index = 2, log_term = 5, entries = { { term = 6 } } })
    assert.equal("1 2 3||4", lab.conf_text(n.core:conf()))
    assert(n:step { type = "append", from = 2, term = 7, index = 0, log_term = 0, entries = { config(7, { 6 }) } })
    assert.same({ "1 2 3||6", 1 }, { lab.conf_text(n.core:conf()), n:status().conf_index })
    n:flush()
    n:restart()
    assert.same({ "1 2 3||6", 1 }, { lab.conf_text(n.core:conf()), n:status().conf_index })
  end)

  it("in force survives compaction, and one that is not committed can still be rolled back", function()
    local n = lab.node { id = 1, voters = { 1, 2, 3 }, term = 5 }
    local function config(learners)
      return { term = 5, type = "config", size = 1, conf = { voters = { 1, 2, 3 }, learners = learners } }
    end
    assert(n:step { type = "append", term = 5, commit = 4,
      entries = { config { 4 }, config {}, config { 5 }, { term = 5 }, config { 6 } } })
    n:flush()
    n:snapshot(4)
    assert.same({ "1 2 3||6", "1 2 3||5" }, { lab.conf_text(n.core:conf()), lab.conf_text(n.core:conf(4)) })
    assert.is_nil(n.core:conf(2))
    assert.equal("1 2 3||5", lab.conf_text(n.disk.snapshot.conf))
    assert(n:step { type = "append", from = 3, term = 6, index = 4, log_term = 5, entries = { { term = 6 } } })
    assert.equal("1 2 3||5", lab.conf_text(n.core:conf()))
  end)

  it("makes the quorum smaller, and what that has already is committed at once", function()
    local c = cluster { voters = { 1, 2, 3, 4 } }
    c:deliver()
    c.cut[3], c.cut[4] = true, true
    c:propose(1, 3)
    c:deliver()
    assert.equal(1, c.nodes[1]:status().commit)
    assert(c:change(1, { "remove", 4 }))
    assert.equal(4, c.nodes[1]:status().commit)
  end)

  it("of an address alone is an entry, and changes nothing else", function()
    local c = cluster { voters = { 1, 2, 3 } }
    assert(c:change(1, { "move", 2 }))
    assert.True(c.nodes[1]:status().changing)
    c:deliver()
    assert.same({ "1 2 3||", 2, false }, { conf(c, 3), c.nodes[3]:status().conf_index, c.nodes[1]:status().changing })
  end)
end)

describe("a joint configuration", function()
  it("is entered for several voters at once, and left when both majorities have committed it", function()
    local c = cluster { voters = { 1, 2, 3 }, spares = { 4, 5 } }
    add(c, 4, 5)
    assert(c:change(1, { "promote", 4 }, { "promote", 5 }, { "remove", 2 }, { "remove", 3 }))
    assert.equal("1 4 5|1 2 3|", conf(c, 1))
    assert.True(c.nodes[1]:status().joint)
    c:deliver()
    for _, id in ipairs { 1, 4, 5 } do assert.equal("1 4 5||", conf(c, id)) end
    assert.False(c.nodes[1]:status().changing)
  end)

  it("is not left while one of the two majorities has not committed it", function()
    for _, missing in ipairs { { 2, 3 }, { 4, 5 } } do
      local c = cluster { voters = { 1, 2, 3 }, spares = { 4, 5 } }
      add(c, 4, 5)
      for _, id in ipairs(missing) do c.cut[id] = true end
      assert(c:change(1, { "promote", 4 }, { "promote", 5 }, { "remove", 2 }, { "remove", 3 }))
      c:advance(5 * HEARTBEAT)
      assert.same({ true, c.nodes[1]:status().last - 1 }, { c.nodes[1]:status().joint, c.nodes[1]:status().commit })
      c.cut = {}
      c:advance(5 * HEARTBEAT)
      assert.equal("1 4 5||", conf(c, 1))
    end
  end)

  it("is left once, by one entry", function()
    local c = cluster { voters = { 1, 2, 3 }, spares = { 4, 5 } }
    add(c, 4, 5)
    local before = c.nodes[1]:status().last
    assert(c:change(1, { "promote", 4 }, { "promote", 5 }))
    c:advance(5 * T)
    assert.equal(before + 2, c.nodes[1]:status().last)
  end)

  it("is left by the next leader when the one that entered it is gone, and not before it has committed it itself",
    function()
      local c = cluster { voters = { 1, 2, 3 }, spares = { 4, 5 } }
      add(c, 4, 5)
      assert(c:change(1, { "promote", 4 }, { "promote", 5 }))
      c:deliver(function(m) return m.type == "append" and m.to <= 4 end)
      c:take()
      c:crash(1)
      c.clock.now = c.clock.now + 2 * T
      assert(c.nodes[2].core:campaign(c.clock.now))
      c:deliver(function(m) return m.type:find "vote" ~= nil end)
      assert.equal("leader", c.nodes[2]:status().role)
      assert.equal("1 2 3 4 5|1 2 3|", conf(c, 2))
      local last = c.nodes[2]:status().last
      assert.equal("empty", c.nodes[2].core:entry(last).type)
      c:deliver()
      assert.equal("1 2 3 4 5||", conf(c, 5))
    end)

  it("is needed for every election: votes of one half alone win nothing", function()
    local function elects(votes)
      local n = lab.node { id = 1, voters = { 1, 2, 3 }, outgoing = { 1, 4, 5 } }
      assert(n.core:campaign(n.clock.now))
      for _ = 1, 2 do
        n:flush()
        for _, id in ipairs(votes) do
          n:step { type = "vote_reply", from = id, term = n:status().term + (n:status().term == 0 and 1 or 0),
            pre = n:status().term == 0 }
        end
      end
      n:flush()
      return n:status().role == "leader"
    end
    assert.False(elects { 2, 3 })
    assert.False(elects { 4, 5 })
    assert.True(elects { 2, 4 })
  end)

  it("counts a voter that is being demoted until it is left", function()
    local c = cluster { voters = { 1, 2, 3 }, spares = { 4 } }
    add(c, 4)
    c.cut[2] = true
    assert(c:change(1, { "promote", 4 }, { "demote", 3 }))
    assert.equal("1 2 4|1 2 3|3", conf(c, 1))
    assert.same({ true, true }, { c.nodes[1]:status().voter, c.nodes[1]:status().joint })
    c:deliver(lab.to(4))
    c:deliver(function(m) return m.from == 4 or m.to == 4 end)
    assert.True(c.nodes[1]:status().joint)   -- 1 and 4 are enough for the new list, not for the old one
    c:advance(2 * HEARTBEAT)                 -- with 3 they are
    assert.equal("1 2 4||3", conf(c, 1))
    assert.same({ false, true }, { c.nodes[3]:status().voter, c.nodes[3]:status().learner })
  end)

  it("with one voter in its new list commits nothing by that one alone", function()
    local c = cluster { voters = { 1, 2, 3 } }
    c.cut[2], c.cut[3] = true, true
    assert(c:change(1, { "demote", 2 }, { "demote", 3 }))
    c:advance(2 * HEARTBEAT)
    assert.equal(1, c.nodes[1]:status().commit)
    c.cut = {}
    c:advance(2 * HEARTBEAT)
    assert.equal("1||2 3", conf(c, 3))
  end)

  it("found at a restart is left in the same way", function()
    local c = lab.cluster { voters = { 1, 2, 3 }, outgoing = { 1, 4, 5 } }
    c:elect(1)
    assert.equal("1 2 3||", conf(c, 1))
    local n = lab.node { id = 1, voters = { 1 }, outgoing = { 1, 2 }, log = { 1, 1 }, applied = 2 }
    assert(n.core:campaign(n.clock.now))
    n:flush()
    assert.equal("candidate", n:status().role)  -- not alone, though the new list is this node
  end)
end)

describe("a learner", function()
  it("has no say until it is promoted, and must have caught up for that", function()
    local c = cluster { voters = { 1 }, spares = { 2 } }
    c:propose(1, 50)
    c:deliver()
    c.cut[2] = true
    assert(c:change(1, { "add", 2 }))
    c:advance(HEARTBEAT)
    assert.same({ 52, 52 }, { c.nodes[1]:status().last, c.nodes[1]:status().commit })
    local _, text, code = c:change(1, { "promote", 2 })
    assert.truthy(text:find("lagging", 1, true))
    assert.equal("busy", code)
    c.cut[2] = nil
    c:advance(3 * HEARTBEAT)
    assert.True(c.nodes[1].core:peer(2).caught_up)
    assert(c:change(1, { "promote", 2 }))
    c:deliver()
    assert.same({ "1 2||", true }, { conf(c, 2), c.nodes[2]:status().voter })
  end)

  it("catches up in rounds; a round that takes longer than an election timeout is too slow, and they are counted",
    function()
      local n = lab.leader { voters = { 1 }, learners = { 2 } }
      n:flush()
      local function confirm(index) assert(n:step { type = "append_reply", from = 2, term = 1, index = index }) end
      local function round(us)
        local goal = n:status().last
        n.core:propose(5)
        n:flush()
        n.clock.now = n.clock.now + us
        n:tick()
        confirm(goal)
        n:flush()
        return n.core:peer(2)
      end
      local p = round(T)
      local first = p.rounds
      assert.False(p.caught_up)
      for i = 1, 10 do
        p = round(2 * T)
        assert.same({ false, first + i }, { p.caught_up, p.rounds })
      end
      p = round(T // 2)
      assert.same({ true, first + 11 }, { p.caught_up, p.rounds })
      n.core:propose(1)
      n:flush()
      for _ = 1, 11 do
        n:tick()
        n:flush()
      end
      assert.False(n.core:peer(2).caught_up)  -- the round that is open takes too long already
    end)

  it("that has everything, but was not heard of for an election timeout, is not promoted", function()
    local c = cluster { voters = { 1 }, spares = { 2 } }
    add(c, 2)
    assert.True(c.nodes[1].core:peer(2).caught_up)
    c.cut[2] = true
    c:advance(2 * T)
    local _, text = c:change(1, { "promote", 2 })
    assert.truthy(text:find("lagging", 1, true))
  end)

  it("may be this node itself, whose log is the leader's", function()
    local c = cluster { voters = { 1, 2, 3 } }
    assert(c:change(1, { "demote", 1 }))
    local _, text = c:change(1, { "promote", 1 })
    assert.truthy(text:find("changing", 1, true))
    c:deliver()
    assert.equal("follower", c.nodes[1]:status().role)
    assert.equal("2 3||1", conf(c, 2))
  end)

  it("that was promoted without knowing it gives its vote all the same: else nobody might be electable", function()
    local n = lab.node { id = 4, voters = { 1, 2, 3 }, learners = { 4 }, log = { 1 }, term = 1 }
    assert(n:step { type = "vote", from = 1, term = 2, index = 2, log_term = 1 })
    local reply = of_type(n:flush(), "vote_reply")[1]
    assert.is_nil(reply.reject)
  end)

  it("that lost its log is served from the start again", function()
    local c = cluster { voters = { 1 }, spares = { 2 } }
    add(c, 2)
    c:propose(1, 5)
    c:deliver()
    assert.equal(7, c.nodes[1].core:peer(2).match)
    c.nodes[2].disk = { term = 0, vote = 0, log = {}, first = 1, last = 0 }
    c:restart(2)
    c.nodes[1].core:peer_lost(2)
    assert.equal(0, c.nodes[1].core:peer(2).match)
    assert.False(c.nodes[1].core:peer(2).caught_up)
    c:advance(3 * HEARTBEAT)
    assert.equal(7, c.nodes[2].commit)
  end)

  it("that lost its log is not told of commits by a heartbeat that was made before that was known", function()
    local c = cluster { voters = { 1 }, spares = { 2 } }
    add(c, 2)
    c:propose(1, 5)
    c:deliver()
    c:advance(HEARTBEAT)
    local n = c.nodes[1]
    n:flush()
    n.clock.now = n.clock.now + HEARTBEAT
    n:tick()
    n.core:peer_lost(2)
    for _, m in ipairs(of_type(n:flush(), "heartbeat")) do assert.equal(0, m.commit) end
    n.clock.now = n.clock.now + HEARTBEAT
    n:tick()
    assert.equal(1, #of_type(n:flush(), "heartbeat"))   -- later ones come
  end)
end)

describe("a member", function()
  it("that is new knows nothing: it waits to be told, and does not campaign", function()
    local n = lab.node { id = 4 }
    for _ = 1, 3 do
      n:tick()
      assert.same({}, n:flush())
    end
    assert(n.core:campaign(n.clock.now))
    assert.equal("follower", n:status().role)
    assert(n:step { type = "append", from = 1, term = 3, commit = 1, entries = {
      { term = 3, type = "config", conf = { voters = { 1, 2 }, learners = { 4 } } } } })
    assert.same({ true, 1 }, { n:status().learner, n:status().leader })
  end)

  it("that is new and not started yet holds nobody up", function()
    local c = cluster { voters = { 1, 2, 3 } }
    assert(c:change(1, { "add", 9 }))
    c:deliver()
    c:propose(1, 3)
    c:advance(3 * T)
    assert.same({ 5, 1 }, { c.nodes[3].commit, c.nodes[1]:status().leader })
  end)

  it("that is new is given time before it counts as silent: the leader does not step down at once", function()
    local c = cluster { voters = { 1 }, spares = { 2 } }
    add(c, 2)
    c:advance(5 * T)
    c.cut[2] = true
    c:advance(T // 2)
    assert.equal("leader", c.nodes[1]:status().role)
    c.cut[2] = nil
    c:advance(HEARTBEAT)
    assert(c:change(1, { "promote", 2 }))
    c:advance(T // 2, true)
    assert.equal("leader", c.nodes[1]:status().role)
  end)

  it("that is added again under its old id starts anew: what it confirmed before is not believed", function()
    local c = cluster { voters = { 1, 2, 3 } }
    c:propose(1, 5)
    c:deliver()
    assert.equal(6, c.nodes[1].core:peer(3).match)
    assert(c:change(1, { "remove", 3 }))
    c:deliver()
    assert.is_nil(c.nodes[1].core:peer(3))
    assert(c:change(1, { "add", 3 }))
    assert.same({ 0, false }, { c.nodes[1].core:peer(3).match, c.nodes[1].core:peer(3).caught_up })
    c:advance(3 * HEARTBEAT)
    assert.equal("1 2||3", conf(c, 3))
  end)

  it("answers requests of one that is not in its configuration: it may be the newer one", function()
    local n = lab.node { id = 1, voters = { 1, 2, 3 }, log = { 1 }, term = 1 }
    assert(n:step { type = "vote", from = 8, term = 2, index = 3, log_term = 1 })
    local reply = of_type(n:flush(), "vote_reply")[1]
    assert.same({ 8, 2 }, { reply.to, reply.term })
    assert.is_nil(reply.reject)
    assert(n:step { type = "append", from = 8, term = 3, index = 1, log_term = 1, entries = lab.entries { 3 } })
    assert.equal(8, n:status().leader)
    assert.equal(2, of_type(n:flush(), "append_reply")[1].index)
  end)

  it("does not count votes of one that is in no configuration of its own", function()
    local n = lab.node { id = 1, voters = { 1, 2, 3 } }
    assert(n.core:campaign(n.clock.now))
    n:flush()
    for id = 4, 9 do
      local _, _, code = n:step { type = "vote_reply", from = id, term = 1, pre = true }
      assert.equal("invalid", code)
    end
    assert.equal(0, n:status().term)
  end)

  it("is not harmed by answers to more strangers than it can remember", function()
    local n = lab.node { id = 1, voters = { 1, 2, 3 }, lag = true }
    for id = 100, 2000 do assert(n:step { type = "vote", from = id, term = 7, index = 3, log_term = 1 }) end
    n:ready()
    n:sync()
    assert.truthy(#n:ready().messages > 50)
    assert(n:step { type = "heartbeat", from = 2, term = 7, context = 1 })
    assert.equal(1, #of_type(n:ready().messages, "heartbeat_reply"))
  end)
end)

describe("a leader that is removed", function()
  it("leads on until that is committed without its own vote, then steps down and leaves no gap", function()
    local c = cluster { voters = { 1, 2, 3 } }
    assert(c:change(1, { "remove", 1 }))
    c:deliver(lab.to(2))
    c:deliver(function(m) return m.from == 2 and m.type == "append_reply" end)
    assert.same({ "leader", 1 }, { c.nodes[1]:status().role, c.nodes[1]:status().commit })  -- 1 and 2 are not enough
    c:deliver(lab.to(3))
    c:deliver(function(m) return m.type == "append_reply" end)
    local told = {}
    for _, m in ipairs(of_type(c.pool, "heartbeat")) do told[m.to] = m.commit end
    assert.same({ [2] = 2, [3] = 2 }, told)         -- its last word: what is committed
    c:deliver()
    assert.same({ "follower", true }, { c.nodes[1]:status().role, c.nodes[1]:status().removed })
    local leader = c:leader()                       -- elected at once, without waiting for a timeout
    assert.truthy(leader and leader.id ~= 1)
    c:advance(lab.NEWS)
    for id = 2, 3 do assert.equal(leader:status().commit, c.nodes[id].commit) end
    c:advance(5 * T)
    assert.same({ "follower", 1 }, { c.nodes[1]:status().role, c.nodes[1]:status().term })
  end)

  it("of two lets the other one know what is committed before it goes", function()
    local c = cluster { voters = { 1, 2 } }
    assert(c:change(1, { "remove", 1 }))
    c:deliver()
    c:advance(3 * T)
    assert.same({ "leader", "follower" }, { c.nodes[2]:status().role, c.nodes[1]:status().role })
    assert.equal("2||", conf(c, 2))
  end)

  it("and crashed with the only copy of that can still be elected to finish it", function()
    local c = cluster { voters = { 1, 2 } }
    c:deliver()
    c.cut[2] = true
    assert(c:change(1, { "remove", 1 }))
    c:crash(1)
    c:restart(1)
    c:take()
    c.cut[2] = nil
    assert.equal("2||", conf(c, 1))
    c:advance(10 * T)
    assert.equal("2||", conf(c, 2))
    assert.same({ "leader", true }, { c.nodes[2]:status().role, c.nodes[1]:status().removed })
  end)

  it("through a joint configuration goes when that is left", function()
    local c = cluster { voters = { 1, 2, 3 }, spares = { 4 } }
    add(c, 4)
    assert(c:change(1, { "remove", 1 }, { "promote", 4 }))
    c:deliver()
    c:advance(HEARTBEAT)
    assert.same({ true, "2 3 4||" }, { c.nodes[1]:status().removed, conf(c, c:leader().id) })
    assert.not_equal(1, c:leader().id)
  end)
end)

describe("a leader that takes its own vote", function()
  it("leads on until that is committed without it, then follows the next one as a learner, no candidate", function()
    local c = cluster { voters = { 1, 2, 3 } }
    assert(c:change(1, { "demote", 1 }))
    c:deliver(lab.to(2))
    c:deliver(function(m) return m.from == 2 and m.type == "append_reply" end)
    assert.same({ "leader", 1 }, { c.nodes[1]:status().role, c.nodes[1]:status().commit })  -- 1 and 2 are not enough
    c:deliver()
    local leader = c:leader()
    assert.not_equal(1, leader.id)
    c:advance(5 * T)
    local status = c.nodes[1]:status()
    assert.same({ leader.id, false, true, false }, { status.leader, status.voter, status.learner, status.removed })
    c:crash(leader.id)
    c:advance(5 * T)
    assert.same({ "follower", 1 }, { c.nodes[1]:status().role, c.nodes[1]:status().elections })
  end)
end)

describe("a removed member", function()
  ---Node 3 was removed while it was cut off.
  local function removed()
    local c = cluster { voters = { 1, 2, 3 } }
    c:deliver()
    c.cut[3] = true
    assert(c:change(1, { "remove", 3 }))
    c:deliver()
    c:advance(5 * T)
    c.cut[3] = nil
    return c
  end

  it("asks around in vain, is told, and stops", function()
    local c = removed()
    local term = c.nodes[1]:status().term
    assert.equal("1 2 3||", conf(c, 3))
    c:advance(3 * T)
    assert.True(c.nodes[3]:status().removed)
    assert.same({ "leader", term }, { c.nodes[1]:status().role, c.nodes[1]:status().term })
    c:advance(20 * T, true)
    for _, m in ipairs(c.pool) do assert.not_equal(3, m.from) end
  end)

  it("that was a learner learns it as well", function()
    local c = cluster { voters = { 1, 2 }, learners = { 3 } }
    c:deliver()
    assert(c:change(1, { "remove", 3 }))
    c:deliver()
    assert.False(c.nodes[3]:status().removed)
    c:advance(3 * T)
    assert.True(c.nodes[3]:status().removed)
  end)

  it("that is added again takes part again", function()
    local c = removed()
    c:advance(3 * T)
    assert(c:change(1, { "add", 3 }))
    c:advance(3 * HEARTBEAT)
    assert.same({ false, true }, { c.nodes[3]:status().removed, c.nodes[3]:status().learner })
  end)

  it("is not told so by a member that is behind it, nor before that is committed", function()
    local n = lab.node { id = 3, voters = { 1, 2 }, term = 4 }
    assert(n:step { type = "append", term = 4, entries = {
      { term = 4, type = "command" }, { term = 4, type = "config", conf = { voters = { 1, 2, 3 } } } } })
    n:flush()
    n.clock.now = n.clock.now + 2 * T
    assert(n.core:campaign(n.clock.now))
    n:flush()
    assert(n:step { type = "vote_reply", from = 1, term = 4, pre = true, reject = true, index = 1, log_term = 4 })
    assert.False(n:status().removed)
    assert(n:step { type = "vote_reply", from = 1, term = 4, pre = true, reject = true, index = 9, log_term = 3 })
    assert.False(n:status().removed)
    assert(n:step { type = "vote_reply", from = 1, term = 4, pre = true, reject = true, index = 2, log_term = 4 })
    assert.True(n:status().removed)

    local voter = lab.node { id = 1, voters = { 1, 2, 3 }, term = 4 }
    assert(voter:step { type = "append", term = 4, entries = {
      { term = 4, type = "config", conf = { voters = { 1, 2 } } } } })
    voter:flush()
    assert(voter:step { type = "vote", from = 3, pre = true, term = 5, index = 0, log_term = 0 })
    assert.equal(0, of_type(voter:flush(), "vote_reply")[1].index)
    assert(voter:step { type = "heartbeat", term = 4, commit = 1, context = 1 })
    assert(voter:step { type = "vote", from = 3, pre = true, term = 5, index = 0, log_term = 0 })
    local reply = of_type(voter:flush(), "vote_reply")[1]
    assert.same({ 1, 4 }, { reply.index, reply.log_term })
  end)

  it("asks learners too: of those it knows they may be the only ones left who can tell it", function()
    local c = cluster { voters = { 1, 2, 3 }, learners = { 4 } }
    c:deliver()
    c.cut[3] = true
    assert(c:change(1, { "promote", 4 }, { "remove", 2 }, { "remove", 3 }))
    c:advance(HEARTBEAT)
    assert(c:change(1, { "remove", 1 }))
    c:advance(5 * T)
    assert.equal("4||", conf(c, 4))
    for _, id in ipairs { 1, 2 } do c:crash(id) end
    c.cut[3] = nil
    c:advance(3 * T)
    assert.same({ "1 2 3||4", true }, { conf(c, 3), c.nodes[3]:status().removed })
  end)

  it("learns it although its log went astray, with a change of its own at the end", function()
    local c = cluster { voters = { 1, 2, 3 } }
    c:deliver()
    c.cut[1] = true
    for _ = 1, 50 do c:propose(1, 1) end
    assert(c:change(1, { "add", 4 }))
    c:advance(5 * T)
    assert(c:change(c:leader().id, { "remove", 1 }))
    c:deliver()
    c.cut[1] = nil
    assert.True(c.nodes[1]:status().last > c:leader():status().last)
    c:advance(5 * T)
    assert.same({ "1 2 3||4", true }, { conf(c, 1), c.nodes[1]:status().removed })
  end)

  it("learns it anew in each of its lives: what it was told is not on its disk", function()
    local c = removed()
    for _ = 1, 3 do
      c:advance(3 * T)
      assert.True(c.nodes[3]:status().removed)
      c:crash(3)
      c:restart(3)
      assert.False(c.nodes[3]:status().removed)
    end
  end)

  it("that was told so wrongly gives its vote all the same, and takes part again when it hears a leader", function()
    local n = lab.node { id = 3, voters = { 1, 2, 3 }, term = 4 }
    assert(n:step { type = "vote_reply", from = 1, term = 4, pre = true, reject = true, index = 9, log_term = 4 })
    assert.True(n:status().removed)
    assert(n:step { type = "vote", from = 2, pre = true, term = 5, index = 1, log_term = 4 })
    assert.falsy(of_type(n:flush(), "vote_reply")[1].reject)
    assert(n:step { type = "heartbeat", from = 2, term = 4, context = 1 })
    assert.False(n:status().removed)
    n.clock.now = n.clock.now + 3 * T
    n:tick()
    assert.equal("candidate", n:status().role)
  end)

  it("takes that from nobody whom it does not take for a member", function()
    local n = lab.node { id = 3, voters = { 1, 2, 3 }, term = 4 }
    local _, _, code = n:step { type = "vote_reply", from = 9, term = 4, pre = true, reject = true, index = 9,
      log_term = 4 }
    assert.same({ "invalid", false }, { code, n:status().removed })
  end)

  it("does not believe it while it hears a leader", function()
    local n = lab.node { id = 3, voters = { 1, 2, 3 }, term = 4 }
    assert(n:step { type = "heartbeat", term = 4, context = 1 })
    assert(n:step { type = "vote_reply", from = 1, term = 4, pre = true, reject = true, index = 9, log_term = 4 })
    assert.False(n:status().removed)
  end)
end)
