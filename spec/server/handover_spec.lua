-- Leadership that is given up on purpose: in simulated time, with an election timeout of 0.2 s.
local lab = require "spec.server.lab"

local ALL = { 1, 2, 3 }
local T = 0.2

local function propose(w, id, text)
  local recorder = lab.recorder(w, id)
  return lab.ended(w, recorder, assert(w:propose(id, text)))
end

local function change(w, id, list)
  local recorder = lab.recorder(w, id)
  return lab.ended(w, recorder, assert(w:change(id, list)), 30)
end

---Seconds until a node names another leader.
local function until_another(w, id, leader)
  local s = 0
  while w:status(id).leader == leader or w:status(id).leader == 0 do
    w:run(0.001)
    s = s + 0.001
    assert(s < 60, "in vain: another leader")
  end
  return s
end

---Does the leader lead on, in its term, for so many seconds?
local function leads_on(w, leader, term, seconds)
  for _ = 1, seconds * 10 do
    w:run(0.1)
    for id = 1, 3 do
      if id ~= leader then assert.same({ leader, term }, { w:status(id).leader, w:status(id).term }) end
    end
  end
end

describe("a leader that is closed", function()
  it("has handed over before anybody misses it", function()
    local w, leader, follower = lab.cluster()
    w:close(leader)
    assert.truthy(until_another(w, follower, leader) < T / 4)
    assert.equal("applied", propose(w, follower, "x"))
  end)

  it("closes all the same when nobody can take over", function()
    local w, leader, follower, other = lab.cluster()
    local r = lab.recorder(w, leader)
    w:crash(follower)
    w:crash(other)
    w:close(leader)
    w:run(2)
    assert.equal("closed", r:poll().all[#r.all].what)
  end)
end)

describe("a leader whose machine halts", function()
  it("has handed over before anybody misses it", function()
    local w, leader, follower, other = lab.cluster()
    w:crash(leader)
    w:start(leader, { halt_at = 30 })
    assert.equal("applied", propose(w, follower, "x"))
    local r = lab.recorder(w, follower)
    lab.ended(w, r, assert(w:transfer(follower, leader)))
    lab.leader(w, { leader, follower, other })
    local calls = {}
    for i = 1, 40 do calls[i] = assert(w:propose(follower, "c" .. i)) end
    assert.truthy(until_another(w, follower, leader) < T / 2)
    for i = 1, 40 do assert.equal("applied", lab.ended(w, r, calls[i])) end
  end)
end)

describe("a leader whose vote is to be taken", function()
  it("hands over first: the next one makes the change, and nobody waits for an election", function()
    for _, how in ipairs { "remove", "demote" } do
      local w, leader, follower, other = lab.cluster()
      local term = w:status(leader).term
      assert.equal("busy", change(w, follower, { { how, leader } }))  -- to be asked again
      assert.truthy(until_another(w, follower, leader) < T / 4)
      assert.equal("ok", change(w, follower, { { how, leader } }))
      assert.same({ term + 1, "applied" }, { w:status(follower).term, propose(w, other, "x") })
    end
  end)

  it("does not hand over to one that goes with it", function()
    local w, leader, follower, other = lab.cluster()
    for id = 4, 5 do
      local address = ("node-%d:7000"):format(id)
      assert.equal("ok", change(w, leader, { { "add", id, address } }))
      assert.is_true(w:start(id, { list = { "node-1:7000", "node-2:7000", "node-3:7000" }, id = id, listen = address }))
    end
    local list = { { "promote", 4 }, { "promote", 5 }, { "remove", leader }, { "remove", follower } }
    lab.wait(w, "the change", function()
      local how = change(w, other, list)
      assert.not_equal(follower, w:status(other).leader)
      return how == "ok"
    end)
    assert.equal("applied", propose(w, other, "x"))
  end)

  it("goes as it is when nobody can take over, and leaves no gap", function()
    local w, leader, follower, other = lab.cluster()
    local recorder = lab.recorder(w, leader)
    lab.wait(w, "the other's removal", function() return change(w, leader, { { "remove", other } }) == "ok" end)
    local removal = assert(w:change(leader, { { "remove", leader } }))
    assert.equal("busy", lab.ended(w, recorder, removal))
    lab.leader(w, { leader, follower })
    assert.equal("ok", change(w, leader, { { "remove", leader } })) -- asked by the one that goes
    assert.equal("applied", propose(w, follower, "alone"))
  end)

  it("is answered when it asks for its own removal, and learns that it is gone", function()
    local w, leader, follower = lab.cluster()
    lab.wait(w, "the removal", function() return change(w, leader, { { "remove", leader } }) == "ok" end)
    assert.equal("applied", propose(w, follower, "x"))
    lab.wait(w, "the news", function() return w:status(leader).removed end)
  end)
end)

---Asks for a hand-over: how that ends, and who leads then.
local function transfer(w, id, target)
  local recorder = lab.recorder(w, id)
  return lab.ended(w, recorder, assert(w:transfer(id, target))), w:status(id).leader
end

---Waits until the leader's link to it is down: that is before it has been silent for an election timeout.
local function cut_off(w, leader, id)
  local s = 0
  while w:status(leader).members[id].connected do
    w:run(0.001)
    s = s + 0.001
  end
  assert(s < T / 2, s)
end

describe("leadership", function()
  it("is not handed over to one that is down, however good its log was", function()
    local w, leader, follower, other = lab.cluster()
    local down, up = math.min(follower, other), math.max(follower, other)
    w:run(T) -- both have all that there is
    w:crash(down)
    cut_off(w, leader, down)
    assert.same({ "ok", up }, { transfer(w, leader, 0) })
  end)

  it("is not kept from those who want to propose for the sake of one that is down", function()
    local w, leader, follower = lab.cluster()
    w:crash(follower)
    cut_off(w, leader, follower)
    assert.same({ "busy", leader }, { transfer(w, leader, follower) })
    assert.equal("applied", propose(w, leader, "a"))
    assert.is_true(w:start(follower))
    lab.wait(w, "the hand-over", function() return transfer(w, leader, follower) == "ok" end)
  end)

  it("is not handed over to one that has lost its directory, before it has its vote again", function()
    local w, leader, follower, other = lab.cluster()
    local lost, whole = math.min(follower, other), math.max(follower, other)
    w:run(T)
    w:crash(lost)
    w:wipe(lost)
    assert.is_true(w:start(lost, { rejoin = 1 }))
    cut_off(w, leader, lost)
    assert.same({ "ok", whole }, { transfer(w, leader, 0) })
    lab.wait(w, "its vote", function() return transfer(w, whole, lost) == "ok" end)
    assert.equal(lost, lab.leader(w, { 1, 2, 3 }))
  end)

  it("is handed over to whom has it already without ado", function()
    local w, leader, follower = lab.cluster()
    local term = w:status(leader).term
    for _, id in ipairs { leader, follower } do
      local recorder = lab.recorder(w, id)
      assert.equal("ok", lab.ended(w, recorder, assert(w:transfer(id, leader))))
    end
    assert.same({ "leader", term }, { w:status(leader).role, w:status(leader).term })
  end)
end)

describe("a leader whose disk hangs", function()
  it("hands over to a member that has stored more: nobody waits for an election", function()
    local w, leader, follower, other = lab.cluster()
    local term = w:status(leader).term
    w:stall(leader, true)
    local sequence = assert(w:propose(follower, "x"))
    local s = until_another(w, follower, leader)
    assert.truthy(s > T and s < 1.5 * T)
    assert.same({ term + 1, 0 }, { w:status(follower).term, w:status(leader).elections - 1 })
    assert.equal("applied", propose(w, other, "y"))
    assert.truthy(sequence)
  end)

  it("leads on while all disks hang: nobody would do better", function()
    local w, leader, follower = lab.cluster()
    local term, r = w:status(leader).term, lab.recorder(w, follower)
    for id = 1, 3 do w:stall(id, true) end
    local sequence = assert(w:propose(follower, "x"))
    leads_on(w, leader, term, 10)
    for id = 1, 3 do w:stall(id, false) end
    assert.equal("applied", lab.ended(w, r, sequence))
    assert.equal(term, w:status(leader).term)
  end)

  it("tries that once; the others choose when it does not come about", function()
    local w, leader, follower, other = lab.cluster()
    w:stall(leader, true)
    assert(w:propose(follower, "x"))
    w:run(T / 2)
    local chosen = math.min(follower, other)  -- of two that are equally far
    w:cut(leader, chosen, true)
    w:cut(chosen, leader, true)
    local next = lab.leader(w, { follower, other })
    assert.equal("applied", propose(w, other, "y"))
    w:cut(leader, chosen, false)
    w:cut(chosen, leader, false)
    w:stall(leader, false)
    assert.equal("applied", propose(w, leader, "z"))
    assert.not_equal(leader, next)
  end)
end)

describe("a leader whose host takes nothing", function()
  local function cluster()
    local w, leader, follower, other = lab.cluster { host_timeout_us = 1000000 }
    return w, leader, follower, other, w:status(leader).term
  end

  it("hands over to a member that has applied more, and leads on if there was nothing to take", function()
    local w, leader, follower, other, term = cluster()
    w:pause(leader, true)
    leads_on(w, leader, term, 5)
    assert.equal("applied", propose(w, follower, "x"))
    local s = until_another(w, follower, leader)
    assert.truthy(s > 0.9 and s < 1 + T)
    assert.equal("applied", propose(w, other, "y"))
    w:pause(leader, false)
    local slow = 0
    for _ = 1, 10000 do
      w:run(0.000001)
      if w:status(leader).host_slow then slow = slow + 1 end
    end
    assert.truthy(slow > 0)
    w:run(0.2)                                      -- two heartbeats: what is applied is given back without a wake-up
    assert.is_false(w:status(leader).host_slow)
    lab.leader(w, ALL)
    assert.equal("applied", propose(w, leader, "z"))
  end)

  it("leads on while no host takes anything: nobody would do better", function()
    local w, leader, follower, other = cluster()
    local before = w:core(leader)
    for id = 1, 3 do w:pause(id, true) end
    for i = 1, 5 do assert(w:propose(follower, "x" .. i)) end
    w:run(20)
    assert.is_true(w:core(leader) == before + 5)
    for id = 1, 3 do w:pause(id, false) end
    w:run(0.1)
    assert.same({ leader, leader }, { w:status(follower).leader, w:status(other).leader })
  end)

  it("hands over once: whoever gets the lead back keeps it", function()
    local w, leader, follower, other = cluster()
    w:pause(leader, true)
    assert.equal("applied", propose(w, follower, "x"))
    until_another(w, follower, leader)
    w:run(0.5)
    local chief = w:status(follower).leader
    local r = lab.recorder(w, chief)
    assert.equal("ok", lab.ended(w, r, assert(w:transfer(chief, leader))))
    leads_on(w, leader, w:status(follower).term, 10)
    assert.equal("applied", propose(w, other, "y"))
  end)
end)
