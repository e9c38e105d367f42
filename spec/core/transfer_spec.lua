-- Handing leadership over, and the hint that a leader's process has died.
local lab = require "spec.core.lab"

local T, HEARTBEAT = lab.T, lab.HEARTBEAT

local function of_type(messages, type)
  local list = {}
  for _, m in ipairs(messages) do
    if m.type == type then list[#list + 1] = m end
  end
  return list
end

local function cluster(options)
  options = options or {}
  options.voters = options.voters or { 1, 2, 3 }
  local c = lab.cluster(options)
  c:elect(1)
  c:advance(2 * HEARTBEAT)
  return c
end

local function transfer(c, target)
  local node = c.nodes[1]
  local chosen, text, code = node.core:transfer(target, node.clock.now)
  c:pump(node)
  return chosen, text, code
end

local function role(c, id) return c.nodes[id]:status().role end

describe("a transfer", function()
  it("makes the target campaign at once, in the next term, without a pre-vote", function()
    local c = cluster()
    assert.equal(2, transfer(c, 2))
    local m = of_type(c.pool, "timeout_now")[1]
    assert.same({ 1, 2, 1 }, { m.from, m.to, m.term })
    c:deliver(lab.of "timeout_now")
    for _, vote in ipairs(of_type(c.pool, "vote")) do
      assert.same({ false, true, 2 }, { vote.pre or false, vote.force, vote.term })
    end
    c:deliver()
    assert.same({ "follower", "leader", 2 }, { role(c, 1), role(c, 2), c.nodes[3]:status().term })
  end)

  it("waits until the target has all entries", function()
    local c = cluster()
    c.cut[2] = true
    c:propose(1, 5)
    c:deliver()
    assert.equal(2, transfer(c, 2))
    assert.equal(0, #of_type(c.pool, "timeout_now"))
    assert.equal(2, c.nodes[1]:status().transfer)
    c.cut[2] = nil
    c:advance(3 * HEARTBEAT)
    assert.same({ "leader", c.nodes[1]:status().last }, { role(c, 2), c.nodes[2]:status().last })
  end)

  it("waits even for a snapshot, if that comes in time", function()
    local c = cluster()
    c.cut[2] = true
    c:propose(1, 9)
    c:deliver()
    c.nodes[1]:snapshot()
    transfer(c, 2)
    c.cut[2] = nil
    c:advance(4 * HEARTBEAT)
    assert.same({ "leader", 11 }, { role(c, 2), c.nodes[2].disk.first })
  end)

  it("chooses who is most caught up; of those the one of highest priority, then of lowest id; and nobody who is silent",
    function()
      local function choose(priorities, behind, silent)
        local n = lab.leader { voters = { 1, 2, 3, 4 }, learners = { 5 } }
        n:flush()
        n.core:propose(2)
        n:flush()
        n.clock.now = n.clock.now + T - 1
        for id = 2, 5 do
          if id ~= silent then
            assert(n:step { type = "append_reply", from = id, term = 1, index = id == behind and 2 or 3 })
            assert(n:step { type = "heartbeat_reply", from = id, term = 1, context = 1, priority = priorities[id] })
          end
        end
        n.clock.now = n.clock.now + 2
        return (n.core:transfer(0, n.clock.now))
      end
      assert.equal(2, choose {})
      assert.equal(3, choose { [3] = 1, [5] = 9 })
      assert.equal(3, choose { [2] = -1, [3] = 5, [4] = 1 })
      assert.equal(4, choose({ [3] = 5, [4] = 1 }, 3))
      assert.equal(3, choose({}, nil, 2))
    end)

  it("takes those for equally far that have all that is committed: under load they differ all the time", function()
    local n = lab.leader { voters = { 1, 2, 3, 4, 5 } }
    n:flush()
    n.core:propose(3)
    n:flush()
    for id, index in pairs { [2] = 3, [3] = 4, [4] = 3, [5] = 2 } do
      assert(n:step { type = "append_reply", from = id, term = 1, index = index })
      assert(n:step { type = "heartbeat_reply", from = id, term = 1, context = 1, priority = id == 4 and 1 or 0 })
    end
    assert.equal(3, n:status().commit)
    assert.equal(4, (n.core:transfer(0, n.clock.now)))
  end)

  it("may be wanted to one that has stored or applied so much, and is not somebody: else to nobody", function()
    local function choose(match, applied, except)
      local n = lab.leader {}
      n:flush()
      n.core:propose(2)
      n:flush()
      for id = 2, 3 do
        assert(n:step { type = "append_reply", from = id, term = 1, index = id })
        assert(n:step { type = "heartbeat_reply", from = id, term = 1, context = 1, commit = 4 - id })
      end
      local chosen, _, code = n.core:transfer_to(match, applied, except, n.clock.now)
      assert.equal(chosen or 0, n:status().transfer)
      return chosen or code
    end
    assert.equal(3, choose(0, 0, 0))
    assert.equal(3, choose(3, 0, 0))
    assert.equal(2, choose(0, 2, 0))
    assert.equal(2, choose(0, 0, 3))
    assert.equal("conflict", choose(4, 0, 0))
    assert.equal("conflict", choose(3, 2, 0))
    assert.equal("conflict", choose(3, 0, 3))
  end)

  it("to this node itself, to one that is no voter, or to nobody is refused", function()
    local c = cluster { voters = { 1, 2 }, learners = { 3 } }
    for _, target in ipairs { 1, 3, 9 } do
      local _, text, code = transfer(c, target)
      assert.truthy(text:find("no member", 1, true))
      assert.equal("conflict", code)
    end
    c.cut[2] = true
    c.clock.now = c.clock.now + T
    assert.is_nil((transfer(c, 0)))
    local _, _, code = c.nodes[2].core:transfer(1, c.clock.now)
    assert.equal("no_leader", code)
  end)

  it("is not tried with one that nothing reaches: its link went down, or it has no vote until it is admitted anew",
    function()
      local c = cluster()
      c.nodes[1].core:unreachable(2)
      local _, text, code = transfer(c, 2)
      assert.truthy(text:find("lagging", 1, true))
      assert.equal("busy", code)
      assert(c.nodes[1].core:propose(1))                    -- nobody waits for it in vain
      assert.equal(3, transfer(c, 0))
      c.nodes[1].core:unreachable(3)
      assert.is_nil((transfer(c, 0)))
      c:advance(2 * HEARTBEAT)                              -- both answer
      assert.equal(2, transfer(c, 0))
    end)

  it("is not tried with one that was out of reach before this node led, and has not answered it yet", function()
    local n = lab.node { id = 1, voters = { 1, 2, 3 } }
    n.core:unreachable(2)
    n:win():flush()
    assert(n:step { type = "heartbeat_reply", from = 3, term = 1, context = 1 })
    assert.equal(3, (n.core:transfer(0, n.clock.now)))
  end)

  it("is not tried with one for an answer to what was said before its link went down", function()
    local n = lab.leader {}
    n:tick()
    local beats = of_type(n:flush(), "heartbeat")
    n.core:unreachable(2)
    assert(n:step { type = "heartbeat_reply", from = 2, term = 1, context = beats[1].context, round = beats[1].round })
    assert.is_nil((n.core:transfer(2, n.clock.now)))
    n:tick()
    beats = of_type(n:flush(), "heartbeat")
    assert(n:step { type = "heartbeat_reply", from = 2, term = 1, context = beats[1].context, round = beats[1].round })
    assert.equal(2, (n.core:transfer(2, n.clock.now)))
  end)

  it("to another one, while one is going on, is refused; to the same one it goes on", function()
    local c = cluster()
    c.cut[2] = true
    c:propose(1, 5)
    assert.equal(2, transfer(c, 2))
    local _, text = transfer(c, 3)
    assert.truthy(text:find("transferring", 1, true))
    c:advance(T // 2)
    assert.equal(2, transfer(c, 2))
    assert.equal(2, transfer(c, 0))
    c:advance(T // 2 + HEARTBEAT)                 -- asking again does not make it longer
    assert.equal(0, c.nodes[1]:status().transfer)
  end)

  it("refuses proposals and changes meanwhile, with a code of its own", function()
    local c = cluster()
    c.cut[2] = true
    c:propose(1, 5)
    transfer(c, 2)
    local _, text, code = c.nodes[1].core:propose(1)
    assert.same({ "transferring", "busy" }, { text:match "^%w+", code })
    _, text = c:change(1, { "remove", 3 })
    assert.equal("transferring", text:match "^%w+")
  end)

  it("that does not come about ends after an election timeout, and the leader goes on", function()
    local c = cluster()
    c.cut[2] = true
    c:propose(1, 5)
    transfer(c, 2)
    c:advance(T + 2 * HEARTBEAT)
    assert.same({ 0, "leader" }, { c.nodes[1]:status().transfer, role(c, 1) })
    assert(c.nodes[1].core:propose(1))
    c:deliver()
    assert.equal(7, c.nodes[1].commit)
  end)

  it("ends when the target's link goes down, but not when another's does", function()
    local c = cluster()
    c.cut[2] = true
    c:propose(1, 5)
    transfer(c, 2)
    c.nodes[1].core:unreachable(3)
    assert.equal(2, c.nodes[1]:status().transfer)
    c.nodes[1].core:unreachable(2)
    assert.equal(0, c.nodes[1]:status().transfer)
    assert(c.nodes[1].core:propose(1))
  end)

  it("ends when the target stops being a voter", function()
    local c = cluster { voters = { 1, 2, 3 }, spares = { 4, 5 } }
    assert(c:change(1, { "add", 4 }, { "add", 5 }))
    c:advance(3 * HEARTBEAT)
    c.cut[2] = true
    assert(c:change(1, { "remove", 2 }, { "promote", 4 }, { "promote", 5 }))
    local _, text = transfer(c, 2)
    assert.truthy(text:find("no member", 1, true))      -- it is on its way out
    c:advance(2 * HEARTBEAT)
    assert.same({ 0, "1 3 4 5||" }, { c.nodes[1]:status().transfer, lab.conf_text(c.nodes[1].core:conf()) })
  end)

  it("repeats its word with every heartbeat: one that is lost does not wedge it", function()
    local c = cluster()
    transfer(c, 2)
    assert.equal(1, #c:take(lab.of "timeout_now"))
    c:advance(2 * HEARTBEAT)
    assert.equal("leader", role(c, 2))
  end)

  it("is forgotten with the leadership: whoever leads later takes proposals", function()
    local c = cluster()
    transfer(c, 2)
    c:deliver()
    assert.equal("leader", role(c, 2))
    assert.equal(0, c.nodes[1]:status().transfer)
    assert(c.nodes[2].core:transfer(1, c.clock.now))
    c:pump(c.nodes[2])
    c:deliver()
    assert.equal("leader", role(c, 1))
    assert(c.nodes[1].core:propose(1))
  end)

  it("wins against members that hear a live leader, but not by a log that is behind", function()
    local n = lab.node { id = 3, voters = { 1, 2, 3 }, log = { 1, 1 }, term = 1 }
    assert(n:step { type = "heartbeat", from = 1, term = 1, context = 1 })
    n:flush()
    assert(n:step { type = "vote", from = 2, term = 2, index = 2, log_term = 1 })
    assert.True(of_type(n:flush(), "vote_reply")[1].reject)
    assert(n:step { type = "vote", from = 2, term = 2, index = 1, log_term = 1, force = true })
    assert.True(of_type(n:flush(), "vote_reply")[1].reject)
    assert(n:step { type = "vote", from = 2, term = 2, index = 2, log_term = 1, force = true })
    assert.equal(2, n:status().vote)
  end)

  it("is not begun by a word from another one than the leader, in another term, or to one that may not lead", function()
    local function told(options, m)
      options.id, options.term = 1, 4
      local n = lab.node(options)
      assert(n:step { type = "heartbeat", from = 2, term = 4, context = 1 })
      n:flush()
      m.type = "timeout_now"
      assert(n:step(m))
      return n:status()
    end
    assert.equal("candidate", told({ voters = { 1, 2, 3 } }, { from = 2, term = 4 }).role)
    assert.equal("follower", told({ voters = { 1, 2, 3 } }, { from = 3, term = 4 }).role)
    assert.equal("follower", told({ voters = { 1, 2, 3 } }, { from = 2, term = 3 }).role)
    assert.same({ "follower", 5 }, { told({ voters = { 1, 2, 3 } }, { from = 2, term = 5 }).role,
      told({ voters = { 1, 2, 3 } }, { from = 2, term = 5 }).term })
    assert.equal("follower", told({ voters = { 2, 3 }, learners = { 1 } }, { from = 2, term = 4 }).role)
    assert.equal("follower", told({ voters = { 2, 3 } }, { from = 2, term = 4 }).role)
  end)

  it("is done by a candidate that waits for its own vote to be durable, and for an earlier term as well", function()
    local n = lab.node { id = 1, voters = { 1, 2, 3 }, lag = true }
    assert(n:step { type = "heartbeat", from = 2, term = 4, context = 1 })
    n:ready()
    assert(n:step { type = "timeout_now", from = 2, term = 4 })
    assert.equal("follower", n:status().role)            -- term 4 is not durable yet: the leader will say it again
    n:sync()
    assert(n:step { type = "timeout_now", from = 2, term = 4 })
    assert.equal("candidate", n:status().role)
    assert.equal(0, #of_type(n:ready().messages, "vote"))
    for id = 2, 3 do assert(n:step { type = "vote_reply", from = id, term = 5 }) end
    assert.equal("candidate", n:status().role)
    n:sync()
    assert.equal("leader", n:status().role)
  end)

  it("of a leader that is no voter any more goes to one that is", function()
    local c = cluster()
    assert(c:change(1, { "remove", 1 }))
    c:deliver()
    assert.not_equal(1, c:leader().id)
    assert.equal(2, c:leader():status().term)
  end)
end)

describe("priority", function()
  it("shortens or lengthens the wait for a leader", function()
    local function wait(priority, seed)
      local n = lab.node { id = 1, voters = { 1, 2, 3 }, priority = priority, seed = seed }
      return n.core:deadline() - n.clock.now
    end
    for seed = 1, 30 do
      assert.truthy(wait(0, seed) >= T and wait(0, seed) < 2 * T)
      assert.truthy(wait(3, seed) >= T and wait(3, seed) <= T + T // 4 + 1)
      assert.truthy(wait(1 << 30, seed) >= T and wait(1 << 30, seed) <= T + 1)
      assert.truthy(wait(-1, seed) >= 2 * T and wait(-1, seed) < 3 * T)
    end
  end)

  it("is told to the leader, and how far this node has applied the log", function()
    local n = lab.node { id = 1, voters = { 1, 2 }, log = { 1, 1 }, priority = -7 }
    assert(n:step { type = "append", term = 1, index = 2, log_term = 1, commit = 2 })
    n:flush()
    n.core:applied(1)
    assert(n:step { type = "heartbeat", term = 1, context = 5, commit = 2 })
    local reply = of_type(n:flush(), "heartbeat_reply")[1]
    assert.same({ -7, 1 }, { reply.priority, reply.commit })
    n = lab.leader {}
    n:flush()
    reply.from, reply.to, reply.context = 2, 1, 1
    assert(n:step(reply))
    assert.same({ -7, 1 }, { n.core:peer(2).priority, n.core:peer(2).applied })
  end)
end)

describe("the hint that the leader's process has died", function()
  local function lost(c, ...)
    for _, id in ipairs { ... } do
      c.nodes[id].core:leader_lost(c.nodes[id].clock.now)
      c:pump(c.nodes[id])
    end
  end

  it("brings a new leader long before the election timeout", function()
    for seed = 1, 20 do
      local c = cluster { voters = { 1, 2, 3, 4, 5 }, seed = seed }
      c:crash(1)
      lost(c, 2, 3, 4, 5)
      c:advance(3 * HEARTBEAT)
      assert.truthy(c:leader())
      assert.equal(2, c:leader():status().term)
    end
  end)

  it("is acted on after a delay, another one for each, so that they do not stand against each other", function()
    local c = cluster { voters = { 1, 2, 3, 4, 5 } }
    c:crash(1)
    lost(c, 2, 3, 4, 5)
    local before = c.clock.now
    for id = 3, 5 do
      local wait = c.nodes[id].core:deadline() - before
      assert.truthy(wait > 0)
      assert.truthy(wait - (c.nodes[id - 1].core:deadline() - before) > HEARTBEAT // 8)
    end
  end)

  it("does not unseat a leader whom the others hear: they refuse, and its next word ends it", function()
    local c = cluster()
    for _ = 1, 10 do
      lost(c, 3)
      c:advance(T // 2)
      assert.same({ "leader", 1 }, { role(c, 1), c.nodes[1]:status().term })
    end
    assert.equal(1, c.nodes[3]:status().leader)
  end)

  it("is acted on once in an election timeout", function()
    local n = lab.node { id = 3, voters = { 1, 2, 3 }, term = 1 }
    local asked = 0
    for _ = 1, 20 do
      assert(n:step { type = "heartbeat", from = 1, term = 1, context = 1 })
      n.core:leader_lost(n.clock.now)
      n.clock.now = n.clock.now + T // 10
      assert(n.core:tick(n.clock.now))
      asked = asked + #of_type(n:flush(), "vote")
      n:step { type = "vote_reply", from = 1, term = 1, pre = true, reject = true }
      n:step { type = "vote_reply", from = 2, term = 1, pre = true, reject = true }
    end
    assert.equal(2 * 2, asked)
  end)

  it("makes a member grant the others a pre-vote and a vote", function()
    local n = lab.node { id = 3, voters = { 1, 2, 3 }, term = 1 }
    local function ask(pre)
      assert(n:step { type = "vote", from = 2, term = 2, pre = pre })
      return not of_type(n:flush(), "vote_reply")[1].reject
    end
    assert(n:step { type = "heartbeat", from = 1, term = 1, context = 1 })
    assert.False(ask(true))
    n.core:leader_lost(n.clock.now)
    assert.True(ask(true))
    assert(n:step { type = "heartbeat", from = 1, term = 1, context = 1 })
    assert.False(ask(true))
    n.core:leader_lost(n.clock.now)
    assert.True(ask(false))
  end)

  it("is nothing to one that knows no leader, leads itself, or may not vote", function()
    local n = lab.node { id = 3, voters = { 1, 2, 3 } }
    local deadline = n.core:deadline()
    n.core:leader_lost(n.clock.now)
    assert.equal(deadline, n.core:deadline())
    n = lab.node { id = 3, voters = { 1, 2 }, learners = { 3 }, term = 1 }
    assert(n:step { type = "heartbeat", from = 1, term = 1, context = 1 })
    deadline = n.core:deadline()
    n.core:leader_lost(n.clock.now)
    assert.equal(deadline, n.core:deadline())
    local c = cluster()
    lost(c, 1)
    c:advance(T)
    assert.same({ "leader", 1 }, { role(c, 1), c.nodes[1]:status().term })
  end)

  it("is not acted on while a lease is promised to the leader", function()
    local n = lab.node { id = 3, voters = { 1, 2, 3 }, lease = true, term = 1 }
    n.clock.now = n.clock.now + 2 * T
    assert(n:step { type = "heartbeat", from = 1, term = 1, context = 1, lease = T })
    local deadline = n.core:deadline()
    n.core:leader_lost(n.clock.now)
    assert.equal(deadline, n.core:deadline())
    assert(n:step { type = "vote", from = 2, term = 2, pre = true })
    assert.True(of_type(n:flush(), "vote_reply")[1].reject)
  end)
end)
