local lab = require "spec.server.lab"

local ALL = { 1, 2, 3 }

---Proposes texts first .. last at a node, size bytes each, and waits until it has applied them all.
local function fill(w, id, recorder, first, last, size)
  for i = first, last do
    lab.wait(w, "room for a call", function() return (w:propose(id, "c" .. i, size)) end)
  end
  lab.wait(w, "all applied", function() return #recorder:poll().applied == last end, 30)
end

local function texts(last)
  local list = {}
  for i = 1, last do list[i] = "c" .. i end
  return list
end

local function applies_all(w, id, last)
  local r = lab.recorder(w, id)
  lab.wait(w, "all applied", function() return #r:poll().applied >= last end, 30)
  assert.same(texts(last), r.applied)
end

describe("a node that starts again", function()
  it("applies its whole log once more, in order, though little of it fits into memory", function()
    local options = { cache_bytes = 4096, segment_bytes = 65536 }
    local w, leader = lab.cluster(options)
    fill(w, leader, lab.recorder(w, leader), 1, 300, 2000)
    w:run(0.2)
    for _, id in ipairs(ALL) do w:crash(id) w:events(id) end
    for _, id in ipairs(ALL) do w:start(id, options) end
    for _, id in ipairs(ALL) do applies_all(w, id, 300) end
  end)

  it("applies more small entries than are read at once, or may be on their way to the host", function()
    local options = { cache_bytes = 4096, segment_bytes = 1 << 20 }
    local w, leader = lab.cluster(options)
    fill(w, leader, lab.recorder(w, leader), 1, 10000, 10)
    w:run(0.2)
    for _, id in ipairs(ALL) do w:crash(id) w:events(id) end
    for _, id in ipairs(ALL) do w:start(id, options) end
    for _, id in ipairs(ALL) do applies_all(w, id, 10000) end
  end)

  it("applies entries larger than what is read at once", function()
    local options = { cache_bytes = 4096, command_bytes = 6 << 20 }
    local w, leader = lab.cluster(options)
    fill(w, leader, lab.recorder(w, leader), 1, 4, 5 << 20)
    w:run(0.5)
    for _, id in ipairs(ALL) do w:crash(id) w:events(id) end
    for _, id in ipairs(ALL) do w:start(id, options) end
    for _, id in ipairs(ALL) do applies_all(w, id, 4) end
  end)

  it("stops, and says why, when an entry that it must apply cannot be read", function()
    local options = { cache_bytes = 4096 }
    local w, leader, follower = lab.cluster(options)
    fill(w, leader, lab.recorder(w, leader), 1, 50, 2000)
    w:run(1)
    w:crash(follower)
    w:start(follower, options)
    lab.wait(w, "its fault", function()
      w:fail_file(follower, 1)
      return w:status(follower).fault
    end)
    local status = w:status(follower)
    assert.equal("failed", status.phase)
    assert.matches("reading committed entries from %d+", status.fault)
  end)
end)

describe("a follower that was away", function()
  it("is filled from the leader's disk when the leader has dropped the entries from memory", function()
    local options = { cache_bytes = 4096, segment_bytes = 65536 }
    local w, leader, follower, away = lab.cluster(options)
    w:crash(away)
    fill(w, leader, lab.recorder(w, leader), 1, 300, 2000)
    w:events(away)
    w:start(away, options)
    applies_all(w, away, 300)
    assert.equal(leader, w:status(follower).leader)
  end)

  it("is filled while the cluster goes on", function()
    local options = { cache_bytes = 20000, segment_bytes = 65536 }
    local w, leader, _, away = lab.cluster(options)
    local r = lab.recorder(w, leader)
    w:crash(away)
    fill(w, leader, r, 1, 300, 2000)
    w:events(away)
    w:start(away, options)
    fill(w, leader, r, 301, 400, 2000)
    applies_all(w, away, 400)
  end)

  it("is filled by the next leader when the first one dies in the middle of it", function()
    local options = { cache_bytes = 4096, segment_bytes = 65536 }
    local w, leader, follower, away = lab.cluster(options)
    w:crash(away)
    fill(w, leader, lab.recorder(w, leader), 1, 400, 4000)
    w:run(0.2)
    w:events(away)
    w:start(away, options)
    local r = lab.recorder(w, away)
    while #r:poll().applied < 20 do w:run(0.0005) end
    assert.is_true(#r.applied < 400)
    w:crash(leader)
    lab.wait(w, "all of it", function() return #r:poll().applied == 400 end)
    assert.same(texts(400), r.applied)
    assert.equal(follower, lab.leader(w, { follower, away }))
  end)

  it("is filled once the leader can read again", function()
    local options = { cache_bytes = 4096, segment_bytes = 65536 }
    local w, leader, _, away = lab.cluster(options)
    w:crash(away)
    fill(w, leader, lab.recorder(w, leader), 1, 100, 2000)
    w:events(away)
    w:run(1)
    w:start(away, options)
    for _ = 1, 30 do
      w:fail_file(leader, 1)
      w:run(0.05)
    end
    w:fail_file(leader, 0)
    applies_all(w, away, 100)
    assert.is_nil(w:status(leader).fault)
  end)
end)

describe("a host that takes nothing", function()
  it("stops neither heartbeats nor commits, and applies everything later", function()
    local w, leader, follower = lab.cluster { host_timeout_us = 100000000 }
    local term = w:status(leader).term
    local r = lab.recorder(w, follower)
    w:pause(leader, true)
    for i = 1, 200 do
      lab.ended(w, r, assert(w:propose(follower, "c" .. i)))
    end
    w:run(60)
    assert.same({ leader, term }, { w:status(follower).leader, w:status(follower).term })
    w:pause(leader, false)
    applies_all(w, leader, 200)
  end)

  it("does not hinder an election", function()
    local w, leader, follower, other = lab.cluster()
    w:run(0.5) -- neither host is ahead of the other: that would be a reason to hand over
    w:pause(follower, true)
    w:pause(other, true)
    w:crash(leader)
    w:run(3)
    local _, term = w:core(follower)
    w:run(10)
    assert.equal(term, select(2, w:core(follower)))
    assert.equal(term, select(2, w:core(other)))
    w:pause(follower, false)
    w:pause(other, false)
    lab.leader(w, { follower, other })
  end)
end)

describe("a host", function()
  ---Proposes commands one after the other: how often each of two nodes' hosts looked for news meanwhile.
  local function turns(w, leader, follower, count)
    local r, at, there = lab.recorder(w, leader), w:host_turns(leader), w:host_turns(follower)
    for i = 1, count do
      local sequence = assert(w:propose(leader, "c" .. i))
      while not r:how(sequence) do w:run(0.0001) end
    end
    return w:host_turns(leader) - at, w:host_turns(follower) - there
  end

  it("whose calls wait for none of them is told of several commands at once", function()
    local w, leader, follower = lab.cluster()
    w:run(1)
    local own, others = turns(w, leader, follower, 100)
    assert.is_true(own >= 100, own .. " turns")
    assert.is_true(others <= 60, others .. " turns")
    applies_all(w, follower, 100)
  end)

  it("that does all there is in one turn has no other one for it", function()
    local w, leader, follower = lab.cluster { host_entries = 1 }
    w:run(1)
    local own = turns(w, leader, follower, 100)
    assert.is_true(own <= 120, own .. " turns")
  end)

  it("is told at once of what a read of its own waits for", function()
    local w, leader, follower = lab.cluster()
    w:run(1)
    local r, reader = lab.recorder(w, leader), lab.recorder(w, follower)
    w:stall(follower, true)
    local command = assert(w:propose(leader, "c"))
    while not r:how(command) do w:run(0.0001) end
    local read, waited = assert(w:read(follower)), 0
    w:run(0.01)
    assert.is_nil(reader:how(read))
    w:stall(follower, false)
    while not reader:how(read) do
      w:run(0.0001)
      waited = waited + 0.0001
    end
    assert.matches("c\n", (w:state(follower)))
    assert.is_true(waited < 0.002, waited)
  end)
end)
