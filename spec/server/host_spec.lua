local lab = require "spec.server.lab"

---Events of a host that has come to its end: "closed" is there once, as the last one.
local function assert_ended(recorder)
  local all, closed = recorder:poll().all, 0
  for _, event in ipairs(all) do if event.what == "closed" then closed = closed + 1 end end
  assert.equal(1, closed)
  assert.equal("closed", all[#all].what)
end

describe("a host", function()
  it("takes as many calls as it was told, and more when some have ended", function()
    local w, leader = lab.cluster { pending = 4 }
    local r = lab.recorder(w, leader)
    local calls = {}
    for i = 1, 4 do calls[i] = assert(w:propose(leader, "c" .. i)) end
    assert.same({ nil, "busy", "busy", n = 3 }, table.pack(w:propose(leader, "c5")))
    assert.same({ nil, "busy", "busy", n = 3 }, table.pack(w:barrier(leader)))
    for i = 1, 4 do assert.equal("applied", lab.ended(w, r, calls[i])) end
    assert.equal("applied", lab.ended(w, r, assert(w:propose(leader, "c5"))))
  end)

  it("counts a call that hangs against its bound, however many others end", function()
    local w = lab.start({ 1 }, { pending = 4 })
    local r = lab.recorder(w, 1)
    w:run(0.5)
    local first = assert(w:propose(1, "first"))
    for i = 1, 3 do
      local sequence = assert(w:propose(1, "c" .. i))
      w:cancel(1, sequence)
      assert.equal("no_leader", lab.ended(w, r, sequence))
    end
    assert.equal(1, w:pending(1))
    assert.equal("busy", select(2, w:propose(1, "beyond the window of four")))
    w:cancel(1, first)
    lab.ended(w, r, first)
    assert.truthy(w:propose(1, "x"))
  end)

  it("ends each call once, whatever happens to it", function()
    local w, leader, follower, other = lab.cluster { pending = 16 }
    local recorders, calls = {}, {}
    for id = 1, 3 do recorders[id], calls[id] = lab.recorder(w, id), {} end
    for round = 1, 150 do
      for id = 1, 3 do
        local sequence = w[round % 5 == 0 and "barrier" or "propose"](w, id, "r" .. round .. "n" .. id)
        if sequence then table.insert(calls[id], sequence) end
        if round % 3 == 0 and sequence then w:cancel(id, sequence) end
      end
      w:cut(leader, follower, round % 60 > 40)
      w:cut(follower, leader, round % 60 > 40)
      w:cut(leader, other, round % 60 > 45)
      w:run(0.01)
    end
    w:cut(leader, follower, false)
    w:cut(follower, leader, false)
    w:cut(leader, other, false)
    w:run(3)
    for id = 1, 3 do
      assert.equal(0, w:pending(id))
      for _, sequence in ipairs(calls[id]) do assert.truthy(recorders[id]:how(sequence)) end
      for text, n in pairs(lab.count(recorders[id].applied)) do assert.equal(1, n, text) end
      assert.same(recorders[1].applied, recorders[id].applied)
    end
  end)

  it("passes a barrier only behind everything committed before it", function()
    local w, leader, follower = lab.cluster()
    local here, there = lab.recorder(w, leader), lab.recorder(w, follower)
    w:pause(follower, true)
    lab.ended(w, here, assert(w:propose(leader, "x")))
    local barrier = assert(w:barrier(follower))
    w:run(1)
    assert.is_nil(there:how(barrier))
    w:pause(follower, false)
    assert.equal("ok", lab.ended(w, there, barrier))
    assert.same({ "x" }, there.applied)
  end)

  it("halts when its machine does: the command counts as not applied, the others go on", function()
    local w, leader, follower, other = lab.cluster()
    w:crash(follower)
    w:start(follower, { halt_at = 12 })
    lab.leader(w, { leader, follower, other })
    local r, theirs = lab.recorder(w, follower), lab.recorder(w, leader)
    local calls = {}
    for i = 1, 20 do calls[i] = assert(w:propose(leader, "c" .. i)) end
    for i = 1, 20 do assert.equal("applied", lab.ended(w, theirs, calls[i])) end
    w:run(1)
    assert_ended(r)
    assert.equal(11, r.indexes[#r.indexes])
    assert.equal("applied", lab.ended(w, theirs, assert(w:propose(leader, "more"))))
  end)

  it("ends its open calls when it halts, and a leader that halts is followed by another one", function()
    local w, leader, follower, other = lab.cluster()
    w:crash(leader)
    w:start(leader, { halt_at = 30 })
    lab.leader(w, { leader, follower, other })
    local r = lab.recorder(w, leader)
    local calls = {}
    for i = 1, 60 do calls[i] = assert(w:propose(leader, "c" .. i)) end
    w:run(2)
    assert_ended(r)
    local how = {}
    for i = 1, 60 do how[i] = r:how(calls[i]) or "halted" end -- the one whose apply halted has been told by it
    local counts = lab.count(how)
    assert.equal(1, counts.halted)
    assert.equal(59, (counts.applied or 0) + (counts.unknown or 0))
    local next = lab.leader(w, { follower, other })
    assert.not_equal(leader, next)
  end)

  it("ends what is open when it closes: certain where nothing was sent, unknown else", function()
    local w, leader, follower, other = lab.cluster()
    local r = lab.recorder(w, follower)
    w:cut(leader, follower, true)
    w:cut(leader, other, true)
    local sent = assert(w:propose(follower, "x"))
    w:run(0.05)
    w:close(follower)
    assert.same({ nil, "closed", "closed", n = 3 }, table.pack(w:propose(follower, "y")))
    w:run(1)
    assert.equal("unknown", r:how(sent))
    assert_ended(r)

    w = lab.start { 1 }
    r = lab.recorder(w, 1)
    w:run(0.5)
    local unsent = assert(w:propose(1, "x"))
    w:close(1)
    w:run(1)
    assert.equal("closed", r:how(unsent))
    assert_ended(r)
  end)

  it("can be closed at any moment of its life", function()
    for steps = 0, 60 do
      local w = lab.start { 1, 2, 3 }
      local r = lab.recorder(w, 1)
      w:run(steps * 0.007)
      for i = 1, 5 do w:propose(1, "c" .. i) end
      w:run(steps % 7 * 0.0003)
      w:close(1)
      w:close(1)
      w:run(1)
      assert_ended(r)
      assert.is_true(w:start(1))
      lab.leader(w, { 1, 2, 3 })
    end
  end)

  it("is told why its node cannot start, and the next attempt can succeed", function()
    local w = lab.start { 1 }
    w:run(0.5)
    w:crash(1)
    w:events(1)
    w:start(1, { name = "shop" })
    w:run(0.1)
    assert.matches("^started 0 0 foreign", w:events(1))
    w:start(1)
    w:run(0.1)
    assert.matches("^started 0 0 ok", w:events(1))
  end)

  it("is told that its address is taken", function()
    local w = lab.start { 1 }
    w:run(0.1)
    w:listen(2, "node-2:7000")
    w:crash(3)
    local list = { "node-1:7000", "node-1:7000", "node-3:7000" }
    w:start(3, { id = 2, list = list })
    w:run(1)
    assert.matches("^started 0 0 address", w:events(3))
    w:start(3)
    w:run(0.1)
    assert.matches("^started 0 0 foreign", w:events(3))
  end)
end)
