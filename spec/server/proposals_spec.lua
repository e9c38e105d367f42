local core = require "raft.core"
local lab = require "spec.server.lab"
local wire = core.wire

local CODE = { no_leader = -3, busy = -4, too_large = -5, full = -6 }

describe("a proposal", function()
  it("is applied on every node, and answered by the one on which it was made", function()
    local w, leader, follower, other = lab.cluster()
    local here, there = lab.recorder(w, follower), lab.recorder(w, leader)
    local sequence = assert(w:propose(follower, "x"))
    assert.equal("applied", lab.ended(w, here, sequence))
    w:run(0.1)
    assert.same({ "x" }, here:poll().applied)
    assert.same({ "x" }, there:poll().applied)
    assert.same({}, there.ends)
    assert.same({ "x" }, lab.recorder(w, other):poll().applied)
  end)

  it("survives the leader's death by being sent to the next one, and is applied once", function()
    local w, leader, follower, other = lab.cluster()
    local r = lab.recorder(w, follower)
    w:crash(leader)
    local sequence = assert(w:propose(follower, "x"))
    assert.equal("applied", lab.ended(w, r, sequence))
    w:start(leader)
    w:run(1)
    for _, id in ipairs { leader, follower, other } do
      assert.same({ x = 1 }, lab.count((id == follower and r or lab.recorder(w, id)):poll().applied))
    end
  end)

  it("that no leader has ever been sent is given up with certainty", function()
    local w = lab.start { 1 }
    w:run(0.5)
    local r = lab.recorder(w, 1)
    local sequence = assert(w:propose(1, "x"))
    w:run(0.5)
    assert.is_nil(r:how(sequence))
    w:cancel(1, sequence)
    assert.equal("no_leader", lab.ended(w, r, sequence, 1))
  end)

  it("that has been sent is given up without", function()
    local w, leader, follower, other = lab.cluster()
    local r = lab.recorder(w, follower)
    w:cut(leader, follower, true)
    w:cut(leader, other, true)
    local sequence = assert(w:propose(follower, "x"))
    w:run(0.02)
    w:cancel(follower, sequence)
    assert.equal("timeout", lab.ended(w, r, sequence, 1))
  end)

  it("larger than the limit is refused at once", function()
    local w, _, follower = lab.cluster { command_bytes = 1000 }
    local r = lab.recorder(w, follower)
    local large, small = w:propose(follower, "large", 1001), w:propose(follower, "small", 1000)
    assert.equal("too_large", lab.ended(w, r, large))
    assert.equal("applied", lab.ended(w, r, small))
  end)
end)

describe("the leader", function()
  local w, leader, other, out, back

  -- Members 1 and 2 are servers, one of them leads; 3 is spoken for by the spec.
  before_each(function()
    w, leader, other, out, back = lab.pair()
  end)

  local function command(sequence, fields)
    local it = { type = 2, payload = "p" .. sequence .. " ", session = 3, epoch = 9, sequence = sequence, behind = 0 }
    for k, v in pairs(fields or {}) do it[k] = v end
    return wire.entry(it)
  end

  local function applied(id) return lab.recorder(w, id):poll().applied end

  it("takes what another member forwards", function()
    out:send(wire.forward { command(1), command(2) })
    w:run(0.2)
    assert.same({ "p1", "p2" }, applied(leader))
    assert.same({ "p1", "p2" }, applied(other))
  end)

  it("applies once what is forwarded twice", function()
    for _ = 1, 3 do out:send(wire.forward { command(1), command(2, { behind = 1 }) }) end
    w:run(0.2)
    assert.same({ "p1", "p2" }, applied(leader))
  end)

  it("takes nothing in the name of another member", function()
    out:send(wire.forward { command(1, { session = other }), command(2), command(3, { session = 8 }), command(4) })
    w:run(0.2)
    assert.same({ "p2", "p4" }, applied(leader))
  end)

  it("refuses what is too large, and takes what came along with it", function()
    local large = ("x"):rep((1 << 20) + 1)
    out:send(wire.forward { command(1), command(2, { payload = large }), command(3), command(4, { payload = large }) })
    local code, sequences = wire.forward_reply_read(back:expect "forward_reply")
    assert.same({ CODE.too_large, { 2 } }, { code, sequences })
    code, sequences = wire.forward_reply_read(back:expect "forward_reply")
    assert.same({ CODE.too_large, { 4 } }, { code, sequences })
    w:run(0.2)
    assert.same({ "p1", "p3" }, applied(leader))
  end)

  it("bears the largest number of proposals that a frame can hold", function()
    local many = {}
    for i = 1, 65536 do many[i] = command(i, { type = 3, payload = "" }) end
    local before = w:core(leader)
    out:send(wire.forward(many))
    w:run(2)
    assert.equal(before + 65536, (w:core(leader)))
    assert.equal(leader, w:status(other).leader)
  end)

  it("bears messages, forwards and answers that make no sense", function()
    local samples = {
      wire.message { type = 2, from = 3, to = leader, term = 1 << 62, reject = false, index = 1 << 62, log_term = 0,
        hint = 0 },
      wire.message { type = 4, from = 3, to = leader, term = 1, index = 1 << 61, context = -1 },
      wire.message { type = 3, from = other, to = leader, term = 1 << 40, commit = 99, context = 1 },
      wire.forward_reply(CODE.full, { 1, 2, 3, 1 << 62, -1, 0 }),
      wire.frame(6, ""), wire.frame(7, ""), wire.frame(5, "", "xx"), wire.frame(4, "zz"), wire.frame(3, "zz"),
      lab.hello(3, leader), wire.refusal(-7, "no"),
    }
    for _, bytes in ipairs(samples) do out:send(bytes) end
    w:run(1)
    local r = lab.recorder(w, other)
    assert.equal("applied", lab.ended(w, r, assert(w:propose(other, "still"))))
  end)
end)

describe("a follower", function()
  local w, out, back, third, ear
  local sent -- sequences that node 1 has forwarded, in order

  -- Member 1 is a server; 2 is spoken for by the spec and says that it leads, 3 too and is nobody.
  before_each(function()
    w = lab.start { 1 }
    sent = {}
    out, back = lab.impostor(w, 2, 1)
    third, ear = lab.impostor(w, 3, 1)
    w:run(0.05)
    lab.wait(w, "its leader", function()
      out:send(wire.message { type = 3, from = 2, to = 1, term = 50, commit = 0, context = 1 })
      return w:status(1).leader == 2
    end)
  end)

  local function hear()
    back:answer_pings()
    ear:answer_pings()
    for _, frame in ipairs(back.frames) do
      for _, entry in ipairs(frame.type == lab.frame_type.forward and assert(wire.forward_read(frame)) or {}) do
        sent[#sent + 1] = assert(wire.entry_read(entry, false)).sequence
      end
    end
    back.frames = {}
  end

  ---Runs, in the eyes of node 1 under a leader.
  local function run(seconds, also)
    for _ = 1, seconds // 0.01 do
      out:send(wire.message { type = 3, from = 2, to = 1, term = 50, commit = 0, context = 1 })
      if also then also() end
      w:run(0.01)
      hear()
    end
  end

  ---Sequences of the proposals that were forwarded since the last call, in order.
  local function forwarded()
    local list = sent
    sent = {}
    return list
  end

  local function count_of(sequence, list)
    local n = 0
    for _, it in ipairs(list) do if it == sequence then n = n + 1 end end
    return n
  end

  it("ends a call with the leader's refusal when no copy is anywhere else", function()
    local r = lab.recorder(w, 1)
    for name, code in pairs { full = CODE.full, too_large = CODE.too_large } do
      local sequence = w:propose(1, "x")
      run(0.05)
      assert.same({ sequence }, forwarded())
      out:send(wire.forward_reply(code, { sequence }))
      run(0.05)
      assert.equal(name, r:how(sequence))
    end
  end)

  it("sends again what the leader could not take just now, not at once, but soon", function()
    local sequence = w:propose(1, "x")
    run(0.05)
    assert.same({ sequence }, forwarded())
    out:send(wire.forward_reply(CODE.busy, { sequence }))
    run(0.02)
    assert.same({}, forwarded())
    run(0.1)
    assert.same({ sequence }, forwarded())
  end)

  it("does not end a call as refused while a copy of it may be in some log", function()
    local r = lab.recorder(w, 1)
    local sequence = w:propose(1, "x")
    run(2)
    assert.is_true(count_of(sequence, forwarded()) >= 2)
    out:send(wire.forward_reply(CODE.full, { sequence }))
    run(0.02)
    assert.is_nil(r:how(sequence))
    w:cancel(1, sequence)
    run(0.02)
    assert.equal("timeout", r:how(sequence))
  end)

  it("says for certain that nothing was taken once every copy has been refused", function()
    local r = lab.recorder(w, 1)
    local sequence = w:propose(1, "x")
    run(0.01)
    out:send(wire.forward_reply(CODE.no_leader, { sequence }))
    run(0.02)
    w:cancel(1, sequence)
    run(0.02)
    assert.equal("no_leader", r:how(sequence))
  end)

  it("is not held up by answers about proposals that it has not made", function()
    local function flood() out:send(wire.forward_reply(CODE.busy, { 900, 901, 1 << 60 })) end
    run(0.1, flood)
    local sequence = w:propose(1, "x")
    run(0.05, flood)
    assert.same({ sequence }, forwarded())
  end)

  it("is not held up by answers of a member that does not lead", function()
    local sequences = {}
    local function flood() third:send(wire.forward_reply(CODE.no_leader, sequences)) end
    for i = 1, 20 do
      sequences[i] = w:propose(1, "x" .. i)
      run(0.02, flood)
    end
    assert.same(sequences, forwarded())
  end)

  it("takes no late answer to its earlier life for one to this life", function()
    local before = w:propose(1, "x")
    run(0.05)
    w:crash(1)
    w:events(1)
    w:start(1)
    w:run(0.1)
    sent, out, back = {}, lab.impostor(w, 2, 1)
    lab.wait(w, "its leader", function()
      run(0.02)
      return w:status(1).leader == 2
    end)
    local r, sequence = lab.recorder(w, 1), w:propose(1, "y")
    run(0.05)
    assert.same({ sequence }, forwarded())
    out:send(wire.forward_reply(CODE.no_leader, { before }))
    run(0.02)
    w:cancel(1, sequence)
    run(0.02)
    assert.equal("timeout", r:how(sequence))
  end)

  it("sends again what nothing is heard of, the less often the longer", function()
    local sequence = w:propose(1, "x")
    run(60)
    local copies = count_of(sequence, forwarded())
    assert.is_true(copies >= 4 and copies <= 10, copies)
  end)

  it("does not wait longer for this leader because earlier ones have lost what it sent", function()
    local sequence = w:propose(1, "x")
    run(0.05)
    for term = 51, 62 do
      local newest = wire.message { type = 3, from = 2, to = 1, term = term, commit = 0, context = 1 }
      run(0.05, function() out:send(newest) end)
    end
    assert.equal(13, count_of(sequence, forwarded()))
    local newest = wire.message { type = 3, from = 2, to = 1, term = 62, commit = 0, context = 1 }
    run(5, function() out:send(newest) end)
    assert.is_true(count_of(sequence, forwarded()) >= 1)
  end)

  it("says that it is not the leader to whom forwards to it, even if its own disk is full", function()
    w:fill(1, true)
    for index = 1, 10 do
      local entry = wire.entry { type = 2, payload = ("x"):rep(400000), session = 2, epoch = 1, sequence = index }
      out:send(wire.message { type = 1, from = 2, to = 1, term = 50, index = index - 1,
        log_term = index > 1 and 50 or 0, commit = 0, entries = { wire.stamp(entry, index, 50, 1) } })
      run(0.05)
    end
    assert.equal("full", w:status(1).disk)
    local entry = wire.entry { type = 2, payload = "x", session = 3, epoch = 1, sequence = 1, behind = 0 }
    third:send(wire.forward { entry })
    assert.equal(CODE.no_leader, (wire.forward_reply_read(ear:expect "forward_reply")))
  end)
end)

describe("the log", function()
  ---How much the log of `leader` grows in a minute in which nothing new is proposed.
  local function growth(w, leader)
    w:run(0.5)
    local before, term = w:core(leader)
    w:run(60)
    local after, later = w:core(leader)
    assert.equal(term, later)
    return after - before
  end

  it("does not grow without end by proposals of a node whose disk hangs", function()
    local w, leader, follower = lab.cluster()
    w:stall(follower, true)
    for i = 1, 10 do w:propose(follower, "x" .. i) end
    local grown = growth(w, leader)
    assert.is_true(grown <= 100, grown)
  end)

  it("does not grow without end by proposals of a node whose host takes nothing", function()
    local w, leader, follower = lab.cluster()
    w:pause(follower, true)
    for i = 1, 50 do
      w:propose(leader, "y" .. i)
      w:run(0.01)
    end
    for i = 1, 10 do w:propose(follower, "x" .. i) end
    local grown = growth(w, leader)
    assert.is_true(grown <= 100, grown)
    w:pause(follower, false)
    w:run(1)
    local applied = lab.count(lab.recorder(w, follower):poll().applied)
    for i = 1, 10 do assert.equal(1, applied["x" .. i]) end
  end)

  it("does not grow at all by the leader's own proposals while nobody confirms them", function()
    local w, leader, follower, other = lab.cluster()
    w:stall(follower, true)
    w:stall(other, true)
    for i = 1, 10 do w:propose(leader, "x" .. i) end
    assert.equal(0, growth(w, leader))
  end)
end)
