-- Fetching a snapshot, from leaders that the spec speaks for: members 2 and 3.
local core = require "raft.core"
local lab = require "spec.server.lab"
local wire = core.wire

local T = { offer = 8, fetch = 9, chunk = 10, fetched = 11 }
local PIECE = 256 << 10

describe("a snapshot that is fetched", function()
  local w, file, bytes

  ---A snapshot of the entries up to index, of a state that says so: what an offer tells of it, and its bytes.
  local function snapshot(index, id, size)
    local conf = wire.conf { next_id = 4, voters = { 1, 2, 3 }, outgoing = {}, learners = {},
      members = { { 1, "node-1:7000" }, { 2, "node-2:7000" }, { 3, "node-3:7000" } } }
    local cluster = wire.cluster_id(wire.members_parse(lab.list), "bank")
    local text = core.snapshot { index = index, term = 1, id = id, cluster = cluster, { 1, conf },
      { 2, ("<I4"):pack(0) }, { 3, ("<I4"):pack(0) }, { 4, ("of %d %s\n"):format(index, ("x"):rep(size or 3 << 20)) } }
    return { index = index, term = 1, id = id, size = #text }, text
  end

  ---Member id as the leader of this term: what it says on its control and bulk links, and hears on its own.
  local function leader(id, term)
    local out, back = lab.impostor(w, id, 1)
    local bulk = lab.greet(w, id, 1, { channel = 2 })
    bulk:expect "hello"
    local it = {}
    function it:beat()
      out:send(wire.message { type = 3, from = id, to = 1, term = term, commit = 0, context = 1 })
      back:answer_pings()
      w:run(0.01)
    end
    ---Offsets that are asked for from now on, until none is for a while.
    function it:wanted()
      local offsets, quiet = {}, 0
      while quiet < 5 do
        self:beat()
        quiet = quiet + 1
        for _, frame in ipairs(back.frames) do
          local t = frame.type == T.fetch and wire.transfer_read(frame)
          if t then offsets[#offsets + 1], quiet = t.offset, 0 end
        end
        back.frames = {}
      end
      table.sort(offsets)
      return offsets
    end
    function it:offer(first)
      local t = { leader_term = term, first = first or file.index + 1, offset = 0, ok = false }
      for k, v in pairs(file) do t[k] = v end
      out:send(wire.transfer(T.offer, t))
    end
    function it:give(from, to, at_once)
      for at = from, to - 1, PIECE do
        local t = { offset = at, bytes = bytes:sub(at + 1, math.min(at + PIECE, to)) }
        for k, v in pairs(file) do t[k] = v end
        bulk:send(wire.transfer(T.chunk, t))
        if not at_once then self:beat() end
      end
    end
    ---What is asked for now.
    function it:asked()
      self:beat()
      local list = {}
      for _, frame in ipairs(back.frames) do
        if frame.type == T.fetch then list[#list + 1] = wire.transfer_read(frame) end
      end
      back.frames = {}
      return list
    end
    ---What it is told about offers that need no transfer any more.
    function it:heard()
      local list = {}
      for _, frame in ipairs(back:poll().frames) do
        if frame.type == T.fetched then list[#list + 1] = wire.transfer_read(frame) end
      end
      back.frames = {}
      return list
    end
    function it:hang_up()
      for _, line in ipairs { out, back, bulk } do w:hang_up(line.id) end
      w:run(0.05)
    end
    it:beat()
    return it
  end

  before_each(function()
    w = lab.start { 1 }
    file, bytes = snapshot(40, 7)
  end)

  it("is declined at once when there is as much here already", function()
    local two = leader(2, 1)
    two:offer()
    two:wanted()
    two:give(0, file.size)
    lab.wait(w, "its state", function() return select(2, w:state(1)) == 40 end)
    two:heard()
    local state = w:state(1)
    file = snapshot(30, 9)
    two:offer(1)
    local answer = lab.wait(w, "an answer", function()
      two:beat()
      return two:heard()[1]
    end)
    assert.same({ 30, true }, { answer.index, answer.ok })
    assert.same({}, two:wanted())
    assert.equal(state, (w:state(1)))
  end)

  ---Gives all that is asked for, after a while. The most that was asked for at once, and the last.
  local function serve(two, late)
    local here, most, last = 0, 0, 0
    while here < file.size do
      local up_to = here
      for _, t in ipairs(two:asked()) do
        assert.is_true(t.wanted <= PIECE)
        up_to = math.max(up_to, t.offset + t.wanted)
      end
      if up_to > here then most, last = math.max(most, up_to - here), up_to - here end
      w:run(late)
      two:give(here, up_to, true)
      here = up_to
    end
    return most, last
  end

  it("is asked for in more and more pieces while they come soon, up to 4 MiB at once", function()
    file, bytes = snapshot(40, 7, 20 << 20)
    local two = leader(2, 1)
    two:offer()
    assert.equal(4 << 20, (serve(two, 0.001)))
    lab.wait(w, "its state", function() return select(2, w:state(1)) == 40 end)
  end)

  it("is asked for little by little while it comes late", function()
    file, bytes = snapshot(40, 7, 400000)
    local two = leader(2, 1)
    two:offer()
    local most, last = serve(two, 0.06)   -- more than a quarter of the election timeout
    assert.equal(64 << 10, most)
    assert.is_true(last <= 16 << 10, last)
    lab.wait(w, "its state", function() return select(2, w:state(1)) == 40 end)
  end)

  it("is not taken faster than the disk is: pieces that nobody asked for do not fill the memory", function()
    file, bytes = snapshot(40, 7, 60 << 20)
    local two = leader(2, 1)
    two:offer()
    two:wanted()
    w:stall(1, true)
    two:give(0, 56 << 20)
    two:asked()
    w:stall(1, false)
    local at = two:wanted()[1]
    assert.is_true(at > 16 << 20 and at <= 42 << 20, at)
  end)

  it("goes on at the byte where the connection broke", function()
    local two = leader(2, 1)
    two:offer()
    assert.equal(0, two:wanted()[1])
    two:give(0, 3 * PIECE + 1000)
    two:wanted()
    two:hang_up()
    two = leader(2, 1)
    two:offer()
    assert.equal(3 * PIECE + 1000, two:wanted()[1])
  end)

  it("goes on at that byte with the next leader, if that has the same one", function()
    local two = leader(2, 1)
    two:offer()
    two:wanted()
    two:give(0, 2 * PIECE + 77)
    two:hang_up()
    local three = leader(3, 2)
    three:offer()
    assert.equal(2 * PIECE + 77, three:wanted()[1])
  end)

  it("is given up when one that is here already will do: one at a time takes the place of the log", function()
    local first, first_bytes = file, bytes
    local two = leader(2, 1)
    two:offer()
    two:wanted()
    two:give(0, file.size - 1)
    w:stall(1, true)
    two:give(file.size - 1, file.size)
    two:hang_up()
    lab.wait(w, "nobody to lead", function() return w:status(1).leader == 0 end)
    w:stall(1, false)     -- all of it is here, and nobody stands for it
    w:run(0.5)
    file, bytes = snapshot(80, 8)
    local three = leader(3, 2)
    three:offer(60)       -- it needs what is not in the first
    three:wanted()
    three:give(0, file.size - 1)
    w:stall(1, true)
    three:offer(41)       -- and now it does not
    three:beat()
    three:give(file.size - 1, file.size)
    w:stall(1, false)
    local events = {}
    for _ = 1, 200 do
      three:beat()
      for _, e in ipairs(lab.events(w, 1)) do events[#events + 1] = e.what end
    end
    file, bytes = first, first_bytes
    local state, applied = w:state(1)
    assert.same({ "of 40", 40 }, { state:sub(1, 5), applied })
    assert.equal("restored", table.concat(events, " "):match "restored.*")
  end)

  it("begins anew when another one is offered, and the one before comes no more", function()
    local two = leader(2, 1)
    two:offer()
    two:wanted()
    two:give(0, PIECE)
    two:hang_up()
    w:run(1)
    file.id = 8
    local three = leader(3, 2)
    three:offer()
    assert.equal(0, three:wanted()[1])
  end)
end)
