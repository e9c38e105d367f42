local lab = require "spec.server.lab"

local ALL = { 1, 2, 3 }

local function wait_status(w, id, what, value)
  lab.wait(w, what .. " " .. tostring(value), function() return w:status(id)[what] == value end)
end

describe("a disk that fails", function()
  it("stops its node for good, with the reason, and the others elect another leader", function()
    local w, leader, follower, other = lab.cluster()
    local r = lab.recorder(w, leader)
    w:run(1)
    w:fail_file(leader, 1)
    local open = assert(w:propose(leader, "x"))
    wait_status(w, leader, "phase", "failed")
    local status = w:status(leader)
    assert.equal("failed", status.disk)
    assert.matches("node%-%d", status.fault)
    assert.is_false(status.ready)
    assert.equal("unknown", lab.ended(w, r, open))
    assert.not_equal(leader, lab.leader(w, { follower, other }))

    local late = w:propose(leader, "y")
    assert.equal("fault", lab.ended(w, r, late))
    w:close(leader)
    w:run(1)
    assert.equal("closed", r:poll().all[#r.all].what)
  end)

  it("can be replaced: the node goes on when it is started again", function()
    local w, leader, follower = lab.cluster()
    w:run(1)
    w:fail_file(follower, 1)
    for i = 1, 10 do w:propose(leader, "c" .. i) end
    wait_status(w, follower, "phase", "failed")
    w:close(follower)
    w:run(0.5)
    w:events(follower)
    w:start(follower)
    local r = lab.recorder(w, follower)
    lab.wait(w, "everything applied", function() return #r:poll().applied == 10 end)
  end)

  it("leaves no trace of a node that fails while it starts: it can be started again", function()
    for n = 1, 40 do
      local w = lab.start { 1, 2, 3 }
      w:run(0.5)
      w:crash(1)
      w:events(1)
      w:fail_file(1, n)
      w:start(1)
      w:run(1)
      w:fail_file(1, 0)
      if w:status(1).phase ~= "running" then
        if w:events(1):find("started 0 0 ok", 1, true) then w:crash(1) end
        w:start(1)
      end
      lab.leader(w, ALL)
    end
  end)
end)

describe("a disk that is full", function()
  local function fill_up(w, id, recorder)
    w:fill(id, true)
    return lab.wait(w, "a refusal", function()
      local sequence = w:propose(id, "x", 30000)
      return sequence and lab.ended(w, recorder, sequence) == "full"
    end)
  end

  it("makes the leader refuse proposals for certain, not stop; and all goes on when there is room", function()
    local w, leader, follower = lab.cluster { segment_bytes = 65536 }
    local r, theirs = lab.recorder(w, leader), lab.recorder(w, follower)
    fill_up(w, leader, r)
    wait_status(w, leader, "disk", "full")
    assert.equal("full", lab.ended(w, theirs, assert(w:propose(follower, "y"))))
    assert.same({ leader, "running" }, { w:status(follower).leader, w:status(leader).phase })
    w:fill(leader, false)
    wait_status(w, leader, "disk", "ok")
    assert.equal("applied", lab.ended(w, theirs, assert(w:propose(follower, "z"))))
    w:run(0.1)
    local counts = lab.count(r:poll().applied)
    assert.same({ nil, 1 }, { counts.y, counts.z })
  end)

  it("of a follower hinders nobody else, and the follower catches up when there is room", function()
    local w, leader, follower = lab.cluster { segment_bytes = 65536 }
    local r, theirs = lab.recorder(w, leader), lab.recorder(w, follower)
    w:fill(follower, true)
    for i = 1, 30 do assert.equal("applied", lab.ended(w, r, assert(w:propose(leader, "c" .. i, 30000)))) end
    assert.is_true(#theirs:poll().applied < 30)
    w:fill(follower, false)
    lab.wait(w, "everything applied", function() return #theirs:poll().applied == 30 end)
  end)

  it("does not keep its node from closing", function()
    local w, leader = lab.cluster { segment_bytes = 65536 }
    local r = lab.recorder(w, leader)
    fill_up(w, leader, r)
    w:close(leader)
    w:run(1)
    assert.equal("closed", r:poll().all[#r.all].what)
  end)
end)

describe("a disk that hangs", function()
  it("makes a leader hand over, and its node a follower that serves again later", function()
    local w, leader, follower, other = lab.cluster()
    local r = lab.recorder(w, leader)
    w:stall(leader, true)
    local sequence = assert(w:propose(leader, "x"))
    wait_status(w, leader, "disk", "slow")
    assert.not_equal(leader, lab.leader(w, { follower, other }))
    w:stall(leader, false)
    assert.equal("applied", lab.ended(w, r, sequence))
    wait_status(w, leader, "disk", "ok")
    lab.leader(w, ALL)
    assert.equal("applied", lab.ended(w, r, assert(w:propose(leader, "y"))))
    assert.same({ x = 1, y = 1 }, lab.count(r.applied))
  end)

  it("of a follower does not disturb the leader", function()
    local w, leader, follower = lab.cluster()
    local term = w:status(leader).term
    w:stall(follower, true)
    local r = lab.recorder(w, leader)
    for i = 1, 20 do assert.equal("applied", lab.ended(w, r, assert(w:propose(leader, "c" .. i)))) end
    w:run(5)
    assert.same({ "leader", term }, { w:status(leader).role, w:status(leader).term })
    assert.equal("slow", w:status(follower).disk)
    w:stall(follower, false)
    wait_status(w, follower, "disk", "ok")
  end)

  it("is called slow no longer when it goes on, even if all that hung was a seal", function()
    local w, leader, follower = lab.cluster()
    lab.ended(w, lab.recorder(w, leader), assert(w:propose(leader, "x")))
    w:run(0.05)
    w:stall(follower, true) -- what comes next is the seal of an idle log
    w:run(1)
    assert.equal("slow", w:status(follower).disk)
    w:stall(follower, false)
    w:run(1)
    assert.equal("ok", w:status(follower).disk)
  end)

  it("makes its node no leader, however long", function()
    local w, leader, follower, other = lab.cluster()
    w:stall(follower, true)
    w:crash(leader)
    w:run(20)
    assert.not_equal("leader", w:status(follower).role)
    w:stall(follower, false)
    lab.leader(w, { follower, other })
  end)
end)
