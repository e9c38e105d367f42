-- Members that are removed while they cannot hear of it: they are told, in each of their lives, and disturb nobody.
local lab = require "spec.server.lab"

local LIST = { "node-1:7000", "node-2:7000", "node-3:7000" }

local function change(w, id, list)
  lab.wait(w, "the change", function()
    local recorder = lab.recorder(w, id)
    return lab.ended(w, recorder, assert(w:change(id, list)), 30) == "ok"
  end)
end

local function propose(w, id, text)
  local recorder = lab.recorder(w, id)
  return lab.ended(w, recorder, assert(w:propose(id, text)), 30)
end

local function learns(w, id)
  lab.wait(w, "the news", function() return w:status(id).removed end)
end

---A cluster of three from which one was removed while it was down: world, leader, the other member, who is out.
local function without_one(options)
  local w, leader, other, gone = lab.cluster(options)
  assert.equal("applied", propose(w, gone, "a"))
  w:crash(gone)
  change(w, leader, { { "remove", gone } })
  return w, leader, other, gone
end

describe("a member that was removed while it was down", function()
  it("learns it when it comes back, though nothing in its log says so", function()
    local w, leader, _, gone = without_one()
    assert.is_true(w:start(gone))
    learns(w, gone)
    assert.truthy(w:status(gone).members[gone])
    assert.falsy(w:status(leader).members[gone])
  end)

  it("learns it in each of its lives, and none of them costs the others an election", function()
    local w, leader, other, gone = without_one()
    local term = w:status(leader).term
    for i = 1, 3 do
      assert.is_true(w:start(gone))
      learns(w, gone)
      w:run(3)
      assert.is_true(w:status(gone).removed)
      assert.same({ leader, term }, { w:status(other).leader, w:status(other).term })
      assert.equal("applied", propose(w, other, "b" .. i))
      w:crash(gone)
    end
  end)

  it("learns it of members that have been started again themselves", function()
    local w, leader, other, gone = without_one()
    for _, id in ipairs { leader, other } do w:crash(id) end
    for _, id in ipairs { leader, other, gone } do assert.is_true(w:start(id)) end
    learns(w, gone)
    assert.equal("applied", propose(w, other, "b"))
  end)

  it("learns it of one that it knows as a learner, when those that voted are gone", function()
    local w, leader, other, third = lab.cluster()
    change(w, leader, { { "add", 4, "node-4:7000" } })
    assert.is_true(w:start(4, { list = LIST, id = 4, listen = "node-4:7000" }))
    assert.equal("applied", propose(w, third, "a"))
    lab.wait(w, "word of the learner", function() return w:status(third).members[4] end)
    w:crash(third)
    change(w, leader, { { "promote", 4 }, { "remove", third }, { "remove", other } })
    change(w, 4, { { "remove", leader } })
    w:crash(leader)
    w:crash(other)
    assert.is_true(w:start(third))
    learns(w, third)
    assert.equal("applied", propose(w, 4, "b"))
  end)

  it("takes part again when it is added anew, under its old id or another one", function()
    for _, id in ipairs { "old", 4 } do
      local w, leader, _, gone = without_one()
      assert.is_true(w:start(gone))
      learns(w, gone)
      id = id == "old" and gone or id
      local address = ("node-%d:7000"):format(id)
      change(w, leader, { { "add", id, address } })
      if id ~= gone then assert.is_true(w:start(id, { list = LIST, id = id, listen = address })) end
      change(w, leader, { { "promote", id } })
      lab.wait(w, "its part", function() return not w:status(id).removed and w:status(id).leader ~= 0 end)
      assert.equal("applied", propose(w, id, "b"))
      assert.equal(id ~= gone, w:status(gone).removed)
    end
  end)

  it("believes nobody who is no member: a guest that says so is not heard", function()
    local w, leader, other, third = lab.cluster()
    local term = w:status(leader).term
    for _, id in ipairs { leader, other } do w:crash(id) end
    local wire = require "raft.core".wire
    local out = lab.impostor(w, 9, third)
    for _ = 1, 20 do
      out:send(wire.message { type = 6, from = 9, to = third, term = term, pre = true, reject = true, index = 99,
        log_term = term })
      w:run(0.1)
    end
    assert.is_false(w:status(third).removed)
    for _, id in ipairs { leader, other } do assert.is_true(w:start(id)) end
    lab.leader(w, { 1, 2, 3 })
  end)
end)
