local lab = require "spec.server.lab"

local SMALL = { segment_bytes = 65536, keep = 0 }

---Proposes n texts one after the other on a node, `prefix`1 .. `prefix`n, and waits until they are applied there.
local function write(w, id, prefix, n, size)
  local recorder = lab.recorder(w, id)
  for i = 1, n do
    local sequence = assert(w:propose(id, prefix .. i, size))
    if i % 50 == 0 or i == n then assert.equal("applied", lab.ended(w, recorder, sequence)) end
  end
end

local function event(w, id, what, limit)
  return lab.wait(w, "the event " .. what, function()
    for _, e in ipairs(lab.events(w, id)) do
      if e.what == what then return e end
    end
  end, limit)
end

local function same_state(w, ids, limit)
  lab.wait(w, "the same state everywhere", function()
    local state, applied = w:state(ids[1])
    for _, id in ipairs(ids) do
      local theirs, at = w:state(id)
      if theirs ~= state or at ~= applied then return false end
    end
    return true
  end, limit)
  return (w:state(ids[1]))
end

describe("a snapshot of a node", function()
  it("takes the place of the log behind it", function()
    local w, leader = lab.cluster(SMALL)
    write(w, leader, "a", 300, 500)
    assert.equal(1, w:status(leader).first)
    assert.is_true(w:snapshot(leader))
    local taken = event(w, leader, "snapshot")
    assert.equal("", taken.text)
    w:run(1)
    local first = w:status(leader).first
    assert.is_true(first > 100 and first <= taken.index + 1, first)
  end)

  it("keeps as many entries behind it as it was told to", function()
    local w, leader = lab.cluster { segment_bytes = 65536, keep = 250 }
    write(w, leader, "a", 300, 500)
    assert.is_true(w:snapshot(leader))
    local taken = event(w, leader, "snapshot")
    w:run(1)
    assert.is_true(w:status(leader).first <= taken.index - 250)
  end)

  it("is taken by itself when enough was applied since the last one", function()
    local w, leader = lab.cluster { segment_bytes = 65536, snapshot_entries = 100 }
    for i = 1, 150 do assert(w:propose(leader, "a" .. i)) end
    local taken = event(w, leader, "snapshot")
    assert.is_true(taken.index >= 100 and taken.index < 110, taken.index)
    for i = 1, 100 do assert(w:propose(leader, "b" .. i)) end
    assert.is_true(event(w, leader, "snapshot").index >= taken.index + 100)
  end)

  it("brings the state back at the next start, and the log what came after it", function()
    local w = lab.start({ 1 }, { list = { "node-1:7000" }, segment_bytes = 65536 })
    lab.leader(w, { 1 })
    write(w, 1, "a", 100)
    assert.is_true(w:snapshot(1))
    event(w, 1, "snapshot")
    write(w, 1, "b", 20)
    local state = w:state(1)
    for _, stop in ipairs { "crash", "close" } do
      w[stop](w, 1)
      w:run(1)
      assert.is_true(w:start(1, { list = { "node-1:7000" }, segment_bytes = 65536 }))
      event(w, 1, "restored")
      lab.wait(w, "the old state", function() return (w:state(1)) == state end)
    end
  end)

  it("that fails leaves everything as it was, and says why", function()
    local w, leader = lab.cluster(SMALL)
    write(w, leader, "a", 300, 500)
    assert.is_true(w:snapshot(leader, true))
    assert.equal("the machine cannot be saved", event(w, leader, "snapshot").text)
    w:run(1)
    assert.equal(1, w:status(leader).first)
    write(w, leader, "b", 10)
    assert.is_true(w:snapshot(leader))
    assert.equal("", event(w, leader, "snapshot").text)
  end)

  it("is one at a time, and not taken twice of the same state", function()
    local w, leader = lab.cluster(SMALL)
    write(w, leader, "a", 10)
    assert.is_true(w:snapshot(leader))
    assert.equal("busy", (select(3, w:snapshot(leader))))
    event(w, leader, "snapshot")
    assert.equal("io", (select(3, w:snapshot(leader))))
  end)
end)

describe("a follower that needs what the log has no more", function()
  ---A cluster of which one follower was down while the others wrote and let go of their log.
  local function behind(options, size)
    local w, leader, other, slow = lab.cluster(options)
    w:crash(slow)
    write(w, leader, "a", 300, size or 500)
    for _, id in ipairs { leader, other } do
      assert.is_true(w:snapshot(id))
      event(w, id, "snapshot")
    end
    write(w, leader, "b", 10)
    w:run(1)
    assert.is_true(w:status(leader).first > 100)
    return w, leader, other, slow
  end

  it("is fed the snapshot, and then what came after it", function()
    local w, leader, other, slow = behind(SMALL)
    assert.is_true(w:start(slow, SMALL))
    event(w, slow, "restored", 30)
    local state = same_state(w, { leader, other, slow })
    assert.matches("b10\n$", state)
    write(w, slow, "c", 10)
    same_state(w, { leader, other, slow })
  end)

  it("starts again from what it was fed", function()
    local w, leader, other, slow = behind(SMALL)
    assert.is_true(w:start(slow, SMALL))
    event(w, slow, "restored", 30)
    for _ = 1, 3 do
      w:crash(slow)
      assert.is_true(w:start(slow, SMALL))
      event(w, slow, "restored")
      same_state(w, { leader, other, slow })
    end
  end)

  it("is fed also when its leader is replaced meanwhile", function()
    local w, leader, other, slow = behind(SMALL)
    assert.is_true(w:start(slow, SMALL))
    w:run(0.05)
    w:crash(leader)
    lab.leader(w, { other, slow })
    same_state(w, { other, slow }, 30)
  end)

  it("is fed whatever breaks on the way", function()
    for seed = 1, 10 do
      local options = { seed = seed, segment_bytes = 65536 }
      local w, leader, other, slow = behind(options, 2000)
      assert.is_true(w:start(slow, options))
      for _ = 1, 5 do
        w:run(0.003 * seed)
        w:network(200, { frame_lost = 200, link_broken = 100 })
        w:run(0.05)
        w:network(200)
        if seed % 2 == 0 then
          w:crash(slow)
          assert.is_true(w:start(slow, options))
        end
      end
      same_state(w, { leader, other, slow }, 60)
    end
  end)

  it("delays no heartbeat and no commit while it is fed, however long that takes", function()
    local options = { segment_bytes = 65536, keep = 0, heartbeat_us = 20000 }
    local w, leader, other, slow = lab.cluster(options)
    w:crash(slow)
    for i = 1, 150 do assert(w:propose(leader, ("%d-%s"):format(i, ("x"):rep(8000)))) end
    for _, id in ipairs { leader, other } do
      lab.wait(w, "all of it", function() return (w:state(id)):find("150-x", 1, true) end)
      assert.is_true(w:snapshot(id))
      event(w, id, "snapshot")
    end
    w:run(1)
    w:slow(leader, slow, 400000)   -- bytes a second: three seconds of them
    assert.is_true(w:start(slow, options))
    lab.wait(w, "its leader", function() return w:status(slow).leader == leader end)
    local elections, turns, fed, longest = w:status(leader).elections, 0, false, 0
    local recorder = lab.recorder(w, leader)
    while not fed do
      local call, took = assert(w:propose(leader, "meanwhile")), 0
      repeat
        w:run(0.005)
        took = took + 1
        assert.equal(leader, w:status(slow).leader)   -- it hears of it in time
      until recorder:how(call)
      longest, turns = math.max(longest, took), turns + 1
      for _, e in ipairs(lab.events(w, slow)) do fed = fed or e.what == "restored" end
      assert.is_true(turns < 2000, "it is never fed")
    end
    assert.is_true(turns > 100, turns)                -- it took its time
    assert.is_true(longest <= 4, longest)             -- times 5 ms
    assert.equal(elections, w:status(leader).elections)
    same_state(w, { leader, other, slow }, 30)
  end)

  it("answers its own calls that the snapshot has overtaken", function()
    local w, leader, other, slow = lab.cluster(SMALL)
    local recorder = lab.recorder(w, slow)
    local sequence = assert(w:propose(slow, "mine"))
    lab.wait(w, "the leader to have it", function() return (w:state(leader)):find("mine\n", 1, true) end)
    w:pause(slow, true)     -- its host: the command is on its way to be applied there
    w:cut(leader, slow, true) w:cut(other, slow, true)
    write(w, leader, "a", 300, 500)
    for _, id in ipairs { leader, other } do
      assert.is_true(w:snapshot(id))
      event(w, id, "snapshot")
    end
    w:cut(leader, slow, false) w:cut(other, slow, false)
    w:run(2)
    w:pause(slow, false)
    same_state(w, { leader, other, slow }, 30)
    local how = lab.ended(w, recorder, sequence)
    assert.is_true(how == "applied" or how == "no_result", how)
  end)
end)

describe("a client's session", function()
  ---Opens one: its id.
  local function open(w, id)
    local recorder = lab.recorder(w, id)
    local sequence = assert(w:client(id, 0, 0, ""))
    assert.equal("ok", lab.ended(w, recorder, sequence))
    for _, e in ipairs(recorder.all) do
      if e.what == "done" and e.sequence == sequence then return e.index end
    end
  end

  ---What a command of it comes to: "apply" or "repeat" or a code, and the text.
  local function command(w, id, session, sequence, text)
    lab.events(w, id)
    local call = assert(w:client(id, session, sequence, text))
    return lab.wait(w, "an answer", function()
      for _, e in ipairs(lab.events(w, id)) do
        if e.sequence == call then return { e.what, e.text } end
      end
    end)
  end

  it("gets the first try's result from any node", function()
    local w, leader, other = lab.cluster()
    local session = open(w, leader)
    assert.same({ "apply", "one" }, command(w, leader, session, 1, "one"))
    assert.same({ "repeat", "one" }, command(w, other, session, 1, "another"))
    assert.same({ "apply", "two" }, command(w, other, session, 2, "two"))
    assert.same({ "done", "expired" }, command(w, leader, session, 1, "one"))
    assert.equal("one\ntwo\n", same_state(w, { leader, other }))
  end)

  it("is in snapshots", function()
    local w, leader, other, slow = lab.cluster(SMALL)
    w:crash(slow)
    local session = open(w, leader)
    assert.same({ "apply", "one" }, command(w, leader, session, 1, "one"))
    write(w, leader, "a", 300, 500)
    for _, id in ipairs { leader, other } do
      assert.is_true(w:snapshot(id))
      event(w, id, "snapshot")
    end
    assert.is_true(w:start(slow, SMALL))
    event(w, slow, "restored", 30)
    assert.same({ "repeat", "one" }, command(w, slow, session, 1, "again"))
    same_state(w, { leader, other, slow })
  end)

  it("is answered from the table of a snapshot that has overtaken the answer, if that has it", function()
    local w, leader, other, slow = lab.cluster(SMALL)
    local last, gone_on = open(w, leader), open(w, leader)
    w:run(0.1)
    w:cut(leader, slow, true) w:cut(other, slow, true)   -- what it proposes arrives, and it hears nothing more
    local calls = { repeats = w:client(slow, last, 1, "last"), expired = w:client(slow, gone_on, 1, "first"),
      opened = w:client(slow, 0, 0, ""), plain = w:propose(slow, "plain") }
    lab.wait(w, "the leader to have them", function() return (w:state(leader)):find("plain\n", 1, true) end)
    assert.same({ "apply", "second" }, command(w, other, gone_on, 2, "second"))
    write(w, leader, "a", 300, 500)
    for _, id in ipairs { leader, other } do
      assert.is_true(w:snapshot(id))
      event(w, id, "snapshot")
    end
    lab.events(w, slow)
    w:cut(leader, slow, false) w:cut(other, slow, false)
    same_state(w, { leader, other, slow }, 30)
    local ends = {}
    for _, e in ipairs(lab.events(w, slow)) do
      for name, call in pairs(calls) do
        if e.sequence == call then ends[name] = { e.what, e.text } end
      end
    end
    assert.same({ repeats = { "repeat", "last" }, expired = { "done", "expired" }, opened = { "done", "no_result" },
      plain = { "done", "no_result" } }, ends)
  end)

  it("that was never opened is told so", function()
    local w, leader = lab.cluster()
    assert.same({ "done", "expired" }, command(w, leader, 99, 1, "x"))
  end)
end)
