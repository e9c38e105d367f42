local core = require "raft.core"
local lab = require "spec.server.lab"
local wire = core.wire

---Asks on a node and waits for the end: the code, the index, the id.
local function ask(w, id, what, ...)
  local recorder = lab.recorder(w, id)
  local number = assert(w[what](w, id, ...))
  local how = lab.ended(w, recorder, number, 30)
  local index, who
  for _, e in ipairs(recorder.all) do
    if e.sequence == number and e.what == "done" then index = e.index end
    if e.sequence == number and e.what == "who" then who = e.index end
  end
  return how, index, who
end

local function propose(w, id, text)
  local recorder = lab.recorder(w, id)
  return lab.ended(w, recorder, assert(w:propose(id, text)))
end

describe("a read", function()
  it("on the leader waits for no disk and writes nothing to the log", function()
    local w, leader = lab.cluster()
    assert.equal("applied", propose(w, leader, "a"))
    local last = w:core(leader)
    for _ = 1, 20 do
      local how, index = ask(w, leader, "read")
      assert.same({ "ok", last }, { how, index })
    end
    assert.equal(last, (w:core(leader)))
  end)

  it("on a follower asks the leader, and sees everything that was acknowledged before", function()
    local w, leader, other = lab.cluster()
    for i = 1, 20 do
      assert.equal("applied", propose(w, leader, "a" .. i))
      assert.equal("ok", (ask(w, other, "read")))
      assert.matches("a" .. i .. "\n", (w:state(other)))
    end
  end)

  it("goes to the next leader when the present one dies", function()
    local w, leader, other, third = lab.cluster()
    assert.equal("applied", propose(w, leader, "a"))
    w:cut(leader, other, true) w:cut(leader, third, true) w:cut(other, leader, true) w:cut(third, leader, true)
    assert.equal("ok", (ask(w, other, "read")))
    assert.matches("a\n", (w:state(other)))
  end)

  it("is not answered by a leader that is one no more", function()
    local w, leader, other, third = lab.cluster()
    w:cut(leader, other, true) w:cut(leader, third, true) w:cut(other, leader, true) w:cut(third, leader, true)
    local recorder = lab.recorder(w, leader)
    local number = assert(w:read(leader))
    lab.leader(w, { other, third })
    assert.equal("applied", propose(w, other, "new"))
    w:run(3)
    assert.is_nil(recorder:how(number))
    w:cancel(leader, number)
    lab.ended(w, recorder, number)
  end)
end)

describe("leadership", function()
  it("is handed over to the member that was asked for, from any node", function()
    local w, leader, other, third = lab.cluster()
    for _, target in ipairs { other, third, leader } do
      local how, _, who = ask(w, other, "transfer", target)
      assert.same({ "ok", target }, { how, who })
      assert.equal(target, lab.leader(w, { 1, 2, 3 }))
    end
  end)

  it("loses no proposal while it is handed over", function()
    local w, leader, other = lab.cluster()
    local recorder, calls = lab.recorder(w, leader), {}
    for i = 1, 50 do
      calls[i] = assert(w:propose(leader, "p" .. i))
      if i == 25 then assert(w:transfer(leader, other)) end
      w:run(0.001)
    end
    for i = 1, 50 do assert.equal("applied", lab.ended(w, recorder, calls[i])) end
    assert.equal(other, lab.leader(w, { 1, 2, 3 }))
  end)

  it("is not said to be handed over when another one leads next than was asked for", function()
    local w, leader, other, third = lab.cluster()
    local recorder = lab.recorder(w, other)
    w:slow(leader, other, 4000)      -- it hears of the next leader before it is told that it comes too late
    assert(w:transfer(leader, third))
    local number = assert(w:transfer(other, other))
    lab.wait(w, "the next leader", function() return w:status(other).leader == third end)
    assert.equal("unknown", lab.ended(w, recorder, number))
  end)

  it("is not handed over to one that is not there, and stays usable", function()
    local w, leader, other = lab.cluster()
    w:crash(other)
    assert.not_equal("ok", (ask(w, leader, "transfer", other)))
    assert.equal("applied", propose(w, leader, "a"))
    assert.equal("conflict", (ask(w, leader, "transfer", 9)))
  end)
end)

describe("members", function()
  local LIST = { "node-1:7000", "node-2:7000", "node-3:7000" }

  it("are added, catch up, and become voters", function()
    local w, leader, other = lab.cluster()
    for i = 1, 30 do assert.equal("applied", propose(w, leader, "a" .. i)) end
    local how, _, id = ask(w, other, "change", { { "add", 0, "node-4:7000" } })
    assert.same({ "ok", 4 }, { how, id })
    assert.is_true(w:start(4, { list = LIST, id = 4, listen = "node-4:7000" }))
    lab.wait(w, "the promotion", function() return (ask(w, other, "change", { { "promote", 4 } })) == "ok" end)
    assert.equal((w:state(leader)), (w:state(4)))
    assert.equal("applied", propose(w, 4, "from the new one"))
    w:crash(other)
    w:crash(leader)         -- the two that are left are no majority of four
    local recorder = lab.recorder(w, 4)
    local call = assert(w:propose(4, "too few"))
    w:run(3)
    assert.is_nil(recorder:how(call))
    assert.is_true(w:start(other))
    assert.equal("applied", lab.ended(w, recorder, call, 30))
  end)

  it("are added with their addresses, whatever is asked for, and refused, at the same moment", function()
    local w, leader = lab.cluster()
    local recorder = lab.recorder(w, leader)
    local first = assert(w:change(leader, { { "add", 4, "node-4:7000" } }))
    local second = assert(w:change(leader, { { "add", 5, "node-5:7000" } }))
    local third = assert(w:change(leader, { { "remove", 9 } }))
    assert.equal("ok", lab.ended(w, recorder, first, 30))
    assert.equal("conflict", lab.ended(w, recorder, second, 30))
    assert.equal("conflict", lab.ended(w, recorder, third, 30))
    assert.is_true(w:start(4, { list = LIST, id = 4, listen = "node-4:7000" }))
    lab.wait(w, "the promotion", function() return (ask(w, leader, "change", { { "promote", 4 } })) == "ok" end)
  end)

  it("say where they can be dialled, also when one before them in the list is gone", function()
    local w, leader, other, third = lab.cluster()
    local last = math.max(other, third)
    assert.equal("ok", (ask(w, leader, "change", { { "remove", math.min(other, third) } })))
    w:run(1)
    w:listen(4, "node-4:7000")
    lab.greet(w, 4, last, { from = 7, address = "node-4:7000" }):expect "hello"
    local back = lab.wait(w, "being dialled", function() return w:accepted(4)[1] end)
    assert.equal(("node-%d:7000"):format(last), wire.hello_read(lab.line(w, 4, nil, back):expect "hello").address)
  end)

  it("stay known on a follower that hears of an older configuration once more", function()
    local w = lab.start { 1 }
    local out = lab.impostor(w, 2, 1) -- it says that it leads
    local function conf(last, index) -- members 1 .. last
      local it = { next_id = last + 1, members = {}, voters = { 1, 2, 3 }, outgoing = {}, learners = {} }
      for id = 1, last do
        it.members[id] = { id, ("node-%d:7000"):format(id) }
        if id > 3 then table.insert(it.learners, id) end
      end
      return wire.stamp(wire.entry { type = 4, payload = wire.conf(it) }, index, 50, 1)
    end
    local four, five = conf(4, 1), conf(5, 2)
    local function append(entries)
      out:send(wire.message { type = 1, from = 2, to = 1, term = 50, index = 0, log_term = 0, commit = 0,
        entries = entries })
      w:run(0.1)
    end
    lab.wait(w, "the entries", function()
      append { four, five }
      return w:status(1).last == 2
    end)
    assert.truthy(w:status(1).members[5])
    append { four }
    w:run(1)
    assert.truthy(w:status(1).members[5])
    assert.equal(2, w:status(1).last)
  end)

  it("are removed, the leader too, which then leads no more", function()
    local w, leader, other, third = lab.cluster()
    lab.wait(w, "the removal", function() return (ask(w, other, "change", { { "remove", leader } })) == "ok" end)
    local next_leader = lab.leader(w, { other, third })
    assert.not_equal(leader, next_leader)
    assert.equal("applied", propose(w, other, "a"))
    w:run(5)
    assert.equal(next_leader, w:status(other).leader, "the removed one disturbs")
  end)

  it("may change all at once", function()
    local w, leader, other, third = lab.cluster()
    for id = 4, 5 do
      assert.equal("ok", (ask(w, leader, "change", { { "add", id, ("node-%d:7000"):format(id) } })))
      assert.is_true(w:start(id, { list = LIST, id = id, listen = ("node-%d:7000"):format(id) }))
    end
    lab.wait(w, "the change", function()
      return (ask(w, other, "change", { { "promote", 4 }, { "promote", 5 }, { "remove", third } })) == "ok"
    end)
    w:crash(third)
    w:crash(leader)
    assert.equal("applied", propose(w, 5, "a"))
    assert.equal((w:state(4)), (w:state(5)))
  end)

  it("are refused with a reason when the change makes no sense", function()
    local w, leader = lab.cluster()
    assert.equal("conflict", (ask(w, leader, "change", { { "remove", 9 } })))
    assert.equal("conflict", (ask(w, leader, "change", { { "add", 2, "elsewhere:1" } })))
    assert.equal("conflict", (ask(w, leader, "change", { { "add", 0, "node-2:7000" } })))
    assert.equal("conflict", (ask(w, leader, "change", { { "remove", 1 }, { "remove", 2 }, { "remove", 3 } })))
    assert.equal("applied", propose(w, leader, "a"))
  end)

  it("are changed by the next leader when the one that was asked leads no more", function()
    local w, leader, other, third = lab.cluster()
    w:cut(third, other, true)      -- it shall not hear of the next leader
    assert(w:transfer(leader, third))
    lab.wait(w, "the next leader", function() return w:status(leader).leader == third end)
    assert.equal(leader, w:status(other).leader)
    local recorder = lab.recorder(w, other)
    local number = assert(w:change(other, { { "add", 4, "node-4:7000" } }))
    w:run(0.1)
    w:cut(third, other, false)
    assert.equal("ok", lab.ended(w, recorder, number))
  end)

  ---Asks a follower to remove the leader, which hands over first; its answer comes late, and the next leader is heard
  ---of before it.
  local function next_leader_is_heard_of_first()
    local w, leader, other, third = lab.cluster()
    local recorder = lab.recorder(w, other)
    w:slow(leader, other, 4000)
    assert.equal("applied", propose(w, leader, "a"))   -- the third is ahead now, and will lead
    local number = assert(w:change(other, { { "remove", leader } }))
    lab.wait(w, "the next leader", function() return w:status(other).leader == third end)
    assert.is_nil(recorder:how(number))
    return w, other, leader, recorder, number
  end

  it("are to be asked of the next leader when that is heard of before the first one has said so", function()
    local w, other, leader, recorder, number = next_leader_is_heard_of_first()
    assert.equal("busy", lab.ended(w, recorder, number))
    assert.equal("ok", (ask(w, other, "change", { { "remove", leader } })))
  end)

  it("are not known to be changed when the one that was asked is gone before its answer has come", function()
    local w, _, leader, recorder, number = next_leader_is_heard_of_first()
    w:crash(leader)
    assert.equal("unknown", lab.ended(w, recorder, number))
  end)

  it("may move to another address", function()
    local w, leader, other = lab.cluster()
    assert.equal("ok", (ask(w, leader, "change", { { "move", other, "elsewhere:7000" } })))
    w:crash(other)
    assert.is_true(w:start(other, { listen = "elsewhere:7000" }))
    w:run(1)
    assert.equal("applied", propose(w, other, "a"))
  end)

  it("that were added are known after a restart, from the log and from a snapshot", function()
    for _, snapshot in ipairs { false, true } do
      local w, leader, other = lab.cluster()
      assert.equal("ok", (ask(w, leader, "change", { { "add", 4, "node-4:7000" } })))
      if snapshot then assert.is_true(w:snapshot(other)) w:run(1) end
      for id = 1, 3 do w:crash(id) end
      for id = 1, 3 do assert.is_true(w:start(id)) end
      assert.is_true(w:start(4, { list = LIST, id = 4, listen = "node-4:7000" }))
      lab.leader(w, { 1, 2, 3 })
      lab.wait(w, "the new one to follow", function() return w:status(4).leader ~= 0 end)
      assert.equal("applied", propose(w, 4, "a"))
    end
  end)
end)

describe("a new node", function()
  local function promoted(w, id)
    lab.wait(w, "its place", function() return w:status(id).phase == "running" end)
    lab.wait(w, "the promotion of " .. id, function() return (ask(w, id, "change", { { "promote", id } })) == "ok" end)
  end

  it("asks any member for a place, and gets an id that nobody had", function()
    local w, _, other = lab.cluster()
    assert.equal("applied", propose(w, other, "a"))
    for id = 4, 5 do
      local address = ("node-%d:7000"):format(id)
      assert.is_true(w:start(id, { join = ("node-%d:7000"):format(other), listen = address }))
      lab.wait(w, "its place", function() return w:status(id).leader ~= 0 and w:status(id).leader end)
      promoted(w, id)
      assert.equal("applied", propose(w, id, "from " .. id))
    end
    assert.equal((w:state(4)), (w:state(other)))
  end)

  it("gets no id that was given before: not that of one that was removed, not after a restart of all either", function()
    local w, _, other = lab.cluster()
    local third = ("node-%d:7000"):format(other)
    assert.is_true(w:start(4, { join = third, listen = "node-4:7000" }))
    promoted(w, 4)
    assert.equal("ok", (ask(w, other, "change", { { "remove", 4 } })))
    for id = 1, 4 do w:crash(id) end
    for id = 1, 3 do assert.is_true(w:start(id)) end
    lab.leader(w, { 1, 2, 3 })
    assert.is_true(w:start(5, { join = third, listen = "node-5:7000" }))
    promoted(w, 5)
    assert.truthy(w:status(5).members[5] and not w:status(5).members[4])
  end)

  it("gets the same place when it asks again because the answer was lost", function()
    local w, leader, other = lab.cluster()
    assert.is_true(w:start(4, { join = ("node-%d:7000"):format(other), listen = "node-4:7000" }))
    w:run(0.002)
    w:crash(4)
    w:wipe(4)
    assert.is_true(w:start(4, { join = ("node-%d:7000"):format(other), listen = "node-4:7000" }))
    promoted(w, 4)
    assert.equal("conflict", (ask(w, leader, "change", { { "add", 4, "node-4:7000" } })))
  end)

  it("waits for a leader", function()
    local w, leader, other, third = lab.cluster()
    w:crash(leader) w:crash(third)
    assert.is_true(w:start(4, { join = ("node-%d:7000"):format(other), listen = "node-4:7000" }))
    w:run(2)
    assert.equal("starting", w:status(4).phase)
    assert.is_true(w:start(leader))
    promoted(w, 4)
  end)
end)
