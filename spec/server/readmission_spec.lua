-- A voter that has lost its directory, or has an older copy of it, and what the others make of it.
local lab = require "spec.server.lab"

local REJOIN = { rejoin = 1, segment_bytes = 65536 }
local PLAIN = { segment_bytes = 65536 }

---Proposes n texts on a node and waits until they are applied there.
local function write(w, id, prefix, n)
  local recorder = lab.recorder(w, id)
  for i = 1, n do assert.equal("applied", lab.ended(w, recorder, assert(w:propose(id, prefix .. i)))) end
end

local function is_voter(w, id, of)
  local member = w:status(id).members[of]
  return member and member.voter
end

---All of ids take `of` for a voter, and it takes itself for one that has its vote.
local function admitted(w, ids, of)
  lab.wait(w, "the vote of member " .. of, function()
    for _, id in ipairs(ids) do
      if not is_voter(w, id, of) then return false end
    end
    return not w:status(of).rejoining
  end, 30)
end

local function same_state(w, ids)
  lab.wait(w, "the same state everywhere", function()
    local state, applied = w:state(ids[1])
    for _, id in ipairs(ids) do
      local theirs, at = w:state(id)
      if theirs ~= state or at ~= applied then return false end
    end
    return true
  end)
end

---From half a second on, in which a leader may find out that it has no majority.
local function nobody_leads(w, ids, seconds)
  w:run(0.5)
  for _ = 1, seconds * 20 do
    w:run(0.05)
    for _, id in ipairs(ids) do assert.not_equal("leader", w:status(id).role) end
  end
end

---Why the link from one node to another is down, once it is for such a reason.
local function down(w, from, to, pattern)
  return lab.wait(w, ("%d hears from %d: %s"):format(from, to, pattern), function()
    local member = w:status(from).members[to]
    return member and not member.connected and member.down:find(pattern) and member.down
  end)
end

local function lose(w, id)
  w:crash(id)
  w:wipe(id)
end

describe("a voter whose directory was lost", function()
  it("is refilled from the log, and gets its vote back", function()
    local w, leader, other, lost = lab.cluster(PLAIN)
    write(w, leader, "a", 20)
    lose(w, lost)
    write(w, leader, "b", 20)
    assert.is_true(w:start(lost, REJOIN))
    admitted(w, { leader, other, lost }, lost)
    same_state(w, { leader, other, lost })
    w:crash(other) -- now the vote counts
    write(w, leader, "c", 20)
    same_state(w, { leader, lost })
  end)

  it("is refilled by a snapshot when the log is gone", function()
    local options = { segment_bytes = 65536, keep = 0, snapshot_entries = 100 }
    local w, leader, other, lost = lab.cluster(options)
    lose(w, lost)
    local recorder = lab.recorder(w, leader)
    for i = 1, 300 do
      local sequence = assert(w:propose(leader, "a" .. i, 500))
      if i % 50 == 0 then assert.equal("applied", lab.ended(w, recorder, sequence)) end
    end
    lab.wait(w, "the log's end", function() return w:status(leader).first > 1 end)
    options.rejoin = 1
    assert.is_true(w:start(lost, options))
    admitted(w, { leader, other, lost }, lost)
    same_state(w, { leader, other, lost })
    assert.is_true(w:status(lost).first > 1)
  end)

  it("makes no majority with what is left, and is told so", function()
    local w, leader, other, lost = lab.cluster(PLAIN)
    write(w, leader, "a", 5)
    w:crash(other)
    lose(w, lost)
    w:run(2)
    assert.is_true(w:start(lost, REJOIN))
    nobody_leads(w, { leader, lost }, 5)
    assert.is_true(w:status(lost).rejoining)
    down(w, lost, leader, "come back with another directory.*nobody leads who could admit it anew")
    assert.is_true(w:start(other, PLAIN))
    admitted(w, { leader, other, lost }, lost)
  end)

  it("stays without a vote over restarts, with the option or without", function()
    local w, leader, other, lost = lab.cluster(PLAIN)
    write(w, leader, "a", 5)
    w:crash(other)
    lose(w, lost)
    for i = 1, 4 do
      assert.is_true(w:start(lost, i == 1 and REJOIN or PLAIN))
      nobody_leads(w, { lost }, 1)
      assert.is_true(w:status(lost).rejoining)
      w:crash(lost)
    end
    assert.is_true(w:start(lost, PLAIN))
    assert.is_true(w:start(other, PLAIN))
    admitted(w, { leader, other, lost }, lost)
  end)

  it("is admitted whenever it crashes meanwhile, and whoever leads", function()
    for seed = 1, 12 do
      local w, leader, other, lost = lab.cluster { segment_bytes = 65536, seed = seed }
      write(w, leader, "a", 5)
      lose(w, lost)
      assert.is_true(w:start(lost, REJOIN))
      w:run(0.02 * seed)
      if seed % 3 == 0 then w:crash(lost) else w:crash(leader) end
      w:run(0.03 * seed)
      assert.is_true(w:start(seed % 3 == 0 and lost or leader, PLAIN))
      admitted(w, { leader, other, lost }, lost)
      lab.leader(w, { 1, 2, 3 })
      write(w, other, "b", 5)
      same_state(w, { 1, 2, 3 })
    end
  end)

  it("may be lost again before it was admitted", function()
    local w, leader, other, lost = lab.cluster(PLAIN)
    write(w, leader, "a", 50)
    for i = 1, 5 do
      lose(w, lost)
      assert.is_true(w:start(lost, REJOIN))
      w:run(0.03 * i)
    end
    admitted(w, { leader, other, lost }, lost)
    same_state(w, { leader, other, lost })
  end)

  it("waits for a change of members that is under way", function()
    local w, leader, other, lost = lab.cluster(PLAIN)
    for id = 4, 5 do
      w:change(leader, { { "add", id, ("node-%d:7000"):format(id) } })
      lab.wait(w, "member " .. id, function() return w:status(leader).members[id] end)
      assert.is_true(w:start(id, { listen = ("node-%d:7000"):format(id), segment_bytes = 65536 }))
    end
    write(w, leader, "a", 5)
    lose(w, lost)
    w:run(0.2)
    w:cut(leader, other, true)
    w:change(leader, { { "promote", 4 }, { "promote", 5 } })
    assert.is_true(w:start(lost, REJOIN))
    w:run(0.1)
    w:cut(leader, other, false)
    for id = 3, 5 do admitted(w, { 1, 2, 3, 4, 5 }, id) end
    for id = 4, 5 do admitted(w, { 1, 2, 3, 4, 5 }, id) end
    same_state(w, { 1, 2, 3, 4, 5 })
  end)

  it("of a cluster of two is admitted while the other one still leads, and not without it", function()
    local two = { list = { "node-1:7000", "node-2:7000" }, segment_bytes = 65536 }
    local w = lab.start({ 1, 2 }, two)
    local leader = lab.leader(w, { 1, 2 })
    local lost = 3 - leader
    write(w, leader, "a", 5)
    lose(w, lost)
    two.rejoin = 1
    assert.is_true(w:start(lost, two)) -- before the leader has given up
    admitted(w, { 1, 2 }, lost)
    lose(w, lost)
    w:run(2)
    assert.is_true(w:start(lost, two))
    nobody_leads(w, { 1, 2 }, 5)
    down(w, lost, leader, "nobody leads who could admit it anew")
  end)

  it("that was a learner by its members' wish stays one", function()
    local w, leader, other, lost = lab.cluster(PLAIN)
    w:change(leader, { { "demote", lost } })
    lab.wait(w, "a learner", function() return not is_voter(w, lost, lost) end)
    write(w, leader, "a", 5)
    lose(w, lost)
    assert.is_true(w:start(lost, REJOIN))
    lab.wait(w, "its admission", function() return not w:status(lost).rejoining end)
    same_state(w, { leader, other, lost })
    w:run(2)
    assert.is_false(is_voter(w, leader, lost))
    w:change(leader, { { "promote", lost } })
    admitted(w, { leader, other, lost }, lost)
  end)

  it("is refused without the word that it shall rejoin, and admitted with it", function()
    local w, leader, other, lost = lab.cluster(PLAIN)
    write(w, leader, "a", 5)
    lose(w, lost)
    assert.is_true(w:start(lost, PLAIN))
    down(w, lost, leader, 'come back with another directory.*restart it with repair = "rejoin"')
    down(w, leader, lost, "it has come back with another directory")
    assert.equal("", (w:state(lost)))
    w:crash(lost)
    assert.is_true(w:start(lost, REJOIN))
    admitted(w, { leader, other, lost }, lost)
    same_state(w, { leader, other, lost })
  end)

  it("is not taken for a new one by a member that has never met it", function()
    local w = lab.start({ 1, 2, 3 }, PLAIN)
    w:cut(2, 3, true) w:cut(3, 2, true)
    assert.equal(1, lab.leader(w, { 1, 2, 3 })) -- nobody else reaches all
    write(w, 1, "a", 1)
    same_state(w, { 1, 2, 3 })
    w:cut(1, 2, true) w:cut(2, 1, true)
    write(w, 1, "b", 20) -- by 1 and 3 alone
    lose(w, 3)
    w:crash(1)
    w:cut(2, 3, false) w:cut(3, 2, false)
    assert.is_true(w:start(3, PLAIN))
    nobody_leads(w, { 2, 3 }, 10)
    down(w, 2, 3, "it has come back with another directory")
    w:cut(1, 2, false) w:cut(2, 1, false)
    assert.is_true(w:start(1, PLAIN))
    assert.equal(1, lab.leader(w, { 1, 2 }))
    same_state(w, { 1, 2 })
    assert.matches("b20", (w:state(2)))
  end)

  it("is followed by one that was away while it was admitted, once it leads", function()
    for _ = 1, 3 do
      local w, leader, other, away = lab.cluster(PLAIN)
      write(w, leader, "a", 5)
      w:crash(away)
      lose(w, other)
      assert.is_true(w:start(other, REJOIN))
      w:run(1) -- two of three are no majority without its directory
      assert.is_true(w:status(other).rejoining)
      assert.is_true(w:start(away, PLAIN))
      admitted(w, { leader, other, away }, other)
      w:crash(away)
      lose(w, leader)
      w:run(1)
      assert.is_true(w:start(away, PLAIN))
      assert.is_true(w:start(leader, REJOIN))
      admitted(w, { leader, other, away }, leader)
      w:crash(away) -- and knows nothing of what follows
      write(w, other, "b", 5)
      w:crash(leader)
      w:run(1)
      assert.is_true(w:start(away, PLAIN))
      lab.leader(w, { other, away })
      write(w, away, "c", 5)
    end
  end)
end)

describe("a new cluster", function()
  it("is founded by all of its first members, and goes on without one of them then", function()
    local w = lab.start({ 1, 2 }, PLAIN)
    nobody_leads(w, { 1, 2 }, 3)
    assert.is_true(w:start(3, PLAIN))
    local leader = lab.leader(w, { 1, 2, 3 })
    write(w, leader, "a", 1)
    w:crash(leader % 3 + 1)
    write(w, leader, "b", 5)
  end)

  it("may have the option from its first start on", function()
    local w = lab.start({ 1, 2, 3 }, REJOIN)
    local leader = lab.leader(w, { 1, 2, 3 })
    for id = 1, 3 do admitted(w, { 1, 2, 3 }, id) end
    write(w, leader, "a", 5)
    lose(w, leader)
    w:run(2)
    assert.is_true(w:start(leader, REJOIN))
    admitted(w, { 1, 2, 3 }, leader)
    same_state(w, { 1, 2, 3 })
  end)
end)

describe("a directory that was replaced by an older copy of itself", function()
  ---Member `old` has had a life, with votes and entries, that its directory does not know of any more.
  local function rolled_back(options)
    local w, leader, other, old = lab.cluster(options)
    write(w, leader, "a", 5)
    same_state(w, { leader, other, old })
    w:crash(old)
    local image = w:image(old)
    assert.is_true(w:start(old, PLAIN))
    write(w, leader, "b", 30)
    same_state(w, { leader, other, old })
    w:crash(old)
    w:wipe(old)
    for path, bytes in pairs(image) do assert.is_true(w:put(old, path, bytes)) end
    return w, leader, other, old
  end

  it("is told by its peers, and named; its node is silent", function()
    local w, leader, other, old = rolled_back(PLAIN)
    w:crash(other)
    assert.is_true(w:start(old, PLAIN))
    down(w, old, leader, 'come back with an older copy of its directory.*restart it with repair = "rejoin"')
    down(w, leader, old, "it has come back with an older copy of its directory")
    nobody_leads(w, { leader, old }, 5)
    assert.is_true(w:status(old).rejoining)
  end)

  it("keeps what it holds, and is admitted anew as another one", function()
    local w, leader, other, old = rolled_back(PLAIN)
    local before = w:status(old)
    assert.is_true(w:start(old, REJOIN))
    admitted(w, { leader, other, old }, old)
    same_state(w, { leader, other, old })
    assert.not_same(before, w:status(old))
    w:crash(other)
    write(w, leader, "c", 5)
    w:crash(old)
    assert.is_true(w:start(old, PLAIN))
    same_state(w, { leader, old })
  end)

  it("of a learner is refilled from where it is", function()
    local w, leader, other, old = lab.cluster(PLAIN)
    w:change(leader, { { "demote", old } })
    lab.wait(w, "a learner", function() return not is_voter(w, old, old) end)
    write(w, leader, "a", 5)
    same_state(w, { leader, other, old })
    w:crash(old)
    local image = w:image(old)
    assert.is_true(w:start(old, PLAIN))
    write(w, leader, "b", 30)
    same_state(w, { leader, other, old })
    lose(w, old)
    for path, bytes in pairs(image) do assert.is_true(w:put(old, path, bytes)) end
    assert.is_true(w:start(old, PLAIN))
    same_state(w, { leader, other, old })
    assert.is_nil(w:status(old).fault)
  end)
end)

describe("a log that is rotten", function()
  it("is set aside, and its node refilled", function()
    local w, leader, other, rotten = lab.cluster(PLAIN)
    write(w, leader, "a", 20)
    same_state(w, { leader, other, rotten })
    w:crash(rotten)
    local damaged
    for path, bytes in pairs(w:image(rotten)) do
      local at = path:find "%.seg$" and bytes:find("a3", 1, true)
      if at then damaged = w:put(rotten, path, bytes:sub(1, at - 1) .. "?" .. bytes:sub(at + 1)) end
    end
    assert.is_true(damaged)
    assert.is_true(w:start(rotten, PLAIN))
    w:run(0.5)
    assert.not_equal("running", w:status(rotten).phase)
    w:crash(rotten)
    assert.is_true(w:start(rotten, REJOIN))
    admitted(w, { leader, other, rotten }, rotten)
    same_state(w, { leader, other, rotten })
  end)
end)
