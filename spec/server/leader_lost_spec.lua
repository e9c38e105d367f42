-- How soon a leader that has died is replaced, and what must not be taken for its death. Election timeout: 0.2 s.
local lab = require "spec.server.lab"
local wire = require("raft.core").wire

local T = 0.2

local function propose(w, id, text)
  local recorder = lab.recorder(w, id)
  return lab.ended(w, recorder, assert(w:propose(id, text)))
end

---Seconds until a node names a leader of a later term.
local function until_next(w, id, term)
  local s = 0
  while w:status(id).term == term or w:status(id).leader == 0 do
    w:run(0.001)
    s = s + 0.001
    assert(s < 60, "in vain: another leader")
  end
  return s
end

---Both ways.
local function cut(w, a, b, whether)
  w:cut(a, b, whether)
  w:cut(b, a, whether)
end

describe("a leader whose process dies", function()
  it("is replaced long before the election timeout, since nobody listens there any more", function()
    for _ = 1, 10 do
      local w, leader, follower, other = lab.cluster()
      local term = w:status(leader).term
      w:crash(leader)
      assert.truthy(until_next(w, follower, term) < T)
      assert.equal("applied", propose(w, other, "x"))
    end
  end)

  it("is replaced as soon when it has been started again, so that nobody was ever refused", function()
    local w, leader, follower, other = lab.cluster()
    local term = w:status(leader).term
    w:crash(leader)
    assert.is_true(w:start(leader))
    assert.truthy(until_next(w, follower, term) < T)
    assert.equal("applied", propose(w, other, "x"))
    assert.equal("applied", propose(w, leader, "y"))
  end)

  it("is replaced after the election timeout where it was promised a lease: it might live, and answer reads", function()
    for _ = 1, 5 do
      local w, leader, follower, other = lab.cluster { lease = 1 }
      local term = w:status(leader).term
      w:run(2 * T)
      w:crash(leader)
      assert.truthy(until_next(w, follower, term) > 0.8 * T)
      assert.equal("applied", propose(w, other, "x"))
    end
  end)

  it("without a word, with its machine, is replaced after the election timeout", function()
    local w, leader, follower, other = lab.cluster()
    local term = w:status(leader).term
    cut(w, leader, follower, true)
    cut(w, leader, other, true)
    local s = until_next(w, follower, term)
    assert.truthy(s > 0.8 * T and s < 3 * T)
    assert.equal("applied", propose(w, other, "x"))
  end)
end)

describe("a leader that lives keeps the lead", function()
  ---Is it so, in the same term, while something happens every 50 ms?
  local function keeps(w, leader, disturb, seconds)
    local term = w:status(leader).term
    for i = 1, (seconds or 5) * 20 do
      disturb(i)
      w:run(0.05)
      assert.same({ "leader", term }, { w:status(leader).role, w:status(leader).term })
    end
    assert.equal("applied", propose(w, leader, "x"))
    assert.same({ "leader", term }, { w:status(leader).role, w:status(leader).term })
  end

  it("when another machine vanishes without a word, and when that is back", function()
    local w, leader, follower, other = lab.cluster()
    keeps(w, leader, function(i)
      local gone = i > 10 and i < 90
      cut(w, leader, follower, gone)
      cut(w, other, follower, gone)
    end)
    assert.equal("applied", propose(w, follower, "y"))
  end)

  it("when a link to one of the others comes and goes", function()
    for _, period in ipairs { 1, 2, 3, 5, 8, 13 } do
      local w, leader, follower = lab.cluster()
      keeps(w, leader, function(i) cut(w, leader, follower, i // period % 2 == 1) end)
      cut(w, leader, follower, false)
      assert.equal("applied", propose(w, follower, "y"))
    end
  end)

  it("when another member dies and comes back, again and again", function()
    local w, leader, follower = lab.cluster()
    keeps(w, leader, function(i)
      if i % 4 == 1 then w:crash(follower)
      elseif i % 4 == 3 then w:start(follower) end
    end)
  end)

  it("when somebody sends garbage to everybody", function()
    local w, leader = lab.cluster()
    local vote = wire.message { type = 5, from = leader % 3 + 1, to = leader, term = 900, index = 900, log_term = 899 }
    local lines = {}
    keeps(w, leader, function(i)
      for id = 1, 3 do
        local line = lab.line(w, 9, ("node-%d:7000"):format(id))
        lines[#lines + 1] = line
        w:run(0.002)
        if i % 4 == 0 then line:send(("\255"):rep(1000))
        elseif i % 4 == 1 then line:send(vote)                      -- in the name of a member, without a hello
        elseif i % 4 == 2 then line:send(lab.hello(9, id, { list = "1=elsewhere:1" }) .. vote)
        else line:send(lab.hello(9, id) .. vote) end                -- a guest, in the name of a member
      end
    end)
  end)
end)
