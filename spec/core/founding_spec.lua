-- How a cluster begins, and voters that withhold their votes since they may have forgotten one.
local core = require "raft.core"
local lab = require "spec.core.lab"

local T = lab.T

local function of_type(messages, type)
  local list = {}
  for _, m in ipairs(messages) do
    if m.type == type then list[#list + 1] = m end
  end
  return list
end

local function node(options)
  options.id, options.voters = 1, { 1, 2, 3 }
  return lab.node(options)
end

---Node 1 has asked for pre-votes, and those have said yes; then for votes, and those have said yes.
local function elected_by(n, pre, real)
  assert(n.core:campaign(n.clock.now))
  n:flush()
  for _, id in ipairs(pre) do assert(n:step { type = "vote_reply", from = id, term = 1, pre = true }) end
  n:flush()
  for _, id in ipairs(real) do assert(n:step { type = "vote_reply", from = id, term = 1 }) end
  n:flush()
  return n:status()
end

describe("a cluster that has not begun", function()
  it("has no leader before all of its first voters agree", function()
    local status = elected_by(node { founding = true }, { 2 }, {})
    assert.same({ "candidate", 0 }, { status.role, status.term })
    assert.equal("candidate", elected_by(node { founding = true }, { 2, 3 }, { 2 }).role)
    assert.equal("leader", elected_by(node { founding = true }, { 2, 3 }, { 2, 3 }).role)
  end)

  it("gives up an election when one of them refuses", function()
    local n = node { founding = true }
    assert(n.core:campaign(n.clock.now))
    n:flush()
    assert(n:step { type = "vote_reply", from = 2, term = 1, pre = true })
    assert(n:step { type = "vote_reply", from = 3, term = 1, pre = true, reject = true })
    assert.equal("follower", n:status().role)
  end)

  it("begins with the configuration in its log, by which a majority is enough from then on", function()
    local n = node { founding = true }
    elected_by(n, { 2, 3 }, { 2, 3 })
    local entry = n.core:entry(1)
    assert.same({ "config", { voters = { 1, 2, 3 } } }, { entry.type, entry.conf })
    assert.equal(0, n:status().commit)
    assert(n:step { type = "append_reply", from = 3, term = 1, index = 1 })
    assert.equal(1, n:status().commit)
    assert.is_true(n:status().ready)
  end)

  it("goes back to the list when that entry is cut off", function()
    local n = node { founding = true }
    local conf = { voters = { 1, 2, 3 } }
    assert(n:step { type = "append", from = 2, term = 1, entries = { { term = 1, type = "config", conf = conf } } })
    assert.same(conf, n.core:conf())
    assert(n:step { type = "append", from = 3, term = 2, entries = { { term = 2, type = "command" } } })
    assert.same({ voters = { 1, 2, 3 }, founding = true }, n.core:conf())
  end)

  it("takes no founding list from a message or a snapshot", function()
    local conf = { voters = { 1, 2, 3 }, founding = true }
    local _, _, code = node({}):step { type = "append", from = 2, term = 1,
      entries = { { term = 1, type = "config", conf = conf } } }
    assert.equal("invalid", code)
    _, _, code = core.raft { id = 1, voters = { 1, 2, 3 }, founding = true, snapshot = 5, snapshot_term = 1, term = 1 }
    assert.equal("invalid", code)
  end)

  it("of one voter begins at once", function()
    local n = lab.node { id = 1, voters = { 1 }, founding = true }
    assert(n.core:campaign(n.clock.now))
    n:flush() n:flush()
    assert.same({ "leader", 1 }, { n:status().role, n:status().commit })
    assert.equal("config", n.core:entry(1).type)
  end)
end)

describe("a node that may have forgotten a vote", function()
  it("grants no vote and no pre-vote, until it is admitted anew", function()
    for _, pre in ipairs { true, false } do
      local n = node { withhold = true, log = { 1 } }
      local ask = { type = "vote", from = 2, term = 2, index = 1, log_term = 1, pre = pre }
      assert(n:step(ask))
      assert.is_true(of_type(n:flush(), "vote_reply")[1].reject)
      ask.force = not pre
      assert(n:step(ask))
      assert.is_true(of_type(n:flush(), "vote_reply")[1].reject)
      assert.equal(0, n:status().vote)
      n.core:withhold(false, n.clock.now)
      assert(n:step(ask))
      assert.is_falsy(of_type(n:flush(), "vote_reply")[1].reject)
    end
  end)

  it("does not stand for election: not after a timeout, when asked to, or at the leader's word", function()
    local n = node { withhold = true, log = { 1 } }
    n:tick()
    assert(n.core:campaign(n.clock.now))
    assert(n:step { type = "heartbeat", from = 2, term = 1, commit = 0, context = 1 })
    n:flush()
    assert(n:step { type = "timeout_now", from = 2, term = 1 })
    n.core:leader_lost(n.clock.now)
    n.clock.now = n.clock.now + 3 * T
    n:tick()
    n:flush()
    assert.same({ "follower", 1, 0 }, { n:status().role, n:status().term, n:status().elections })
    assert.is_true(n:status().withheld)
  end)

  it("takes entries and acknowledges them, as any node", function()
    local n = node { withhold = true }
    assert(n:step { type = "append", from = 2, term = 1, commit = 1, entries = { { term = 1 }, { term = 1 } } })
    local replies = of_type(n:flush(), "append_reply")
    assert.same({ 2, 1 }, { replies[#replies].index, n:status().commit })
  end)

  it("steps down when it leads, and gives up when it stands", function()
    local n = node {}
    elected_by(n, { 2 }, { 2 })
    assert.equal("leader", n:status().role)
    n.core:withhold(true, n.clock.now)
    assert.same({ "follower", 1 }, { n:status().role, n:status().term })
    n = node {}
    assert(n.core:campaign(n.clock.now))
    n.core:withhold(true, n.clock.now)
    assert.equal("follower", n:status().role)
    assert(n:step { type = "vote_reply", from = 2, term = 1, pre = true })
    assert.same({ "follower", 0 }, { n:status().role, n:status().term })
  end)
end)
