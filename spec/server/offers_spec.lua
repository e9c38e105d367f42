-- Offering snapshots: what a leader says to member 3, a learner that the spec speaks for.
local core = require "raft.core"
local lab = require "spec.server.lab"
local wire = core.wire

local T = { message = 5, offer = 8, fetch = 9, chunk = 10, fetched = 11 }

describe("a snapshot for a peer", function()
  local w, leader, other, out, back, bulk

  ---The answer to a heartbeat.
  local function heard(m)
    return wire.message { type = 4, from = 3, to = leader, term = m.term, index = 0, commit = 0, context = m.context,
      round = m.round }
  end

  ---Answers what the leader has sent: pings, and a bulk channel that it dials. To its appends 3 has nothing.
  ---Returns the frames of this type that came.
  local function hear(type)
    local found = {}
    for _, id in ipairs(w:accepted(3)) do
      if id ~= back.id and not bulk[id] then
        bulk[id] = lab.line(w, 3, nil, id)
        bulk[id]:send(lab.hello(3, leader, { channel = 2, list = "1=node-1:7000 2=node-2:7000" }))
      end
    end
    back:answer_pings()
    for _, frame in ipairs(back.frames) do
      local m = frame.type == T.message and wire.message_read(frame)
      if m and m.type == 1 then
        out:send(wire.message { type = 2, from = 3, to = leader, term = m.term, reject = true, index = m.index,
          log_term = 0, hint = 0 })
      elseif m and m.type == 3 then
        out:send(heard(m))
      elseif frame.type == type then
        found[#found + 1] = frame
      end
    end
    back.frames = {}
    return found
  end

  local function offered(what)
    return lab.wait(w, what, function()
      local frame = hear(T.offer)[1]
      return frame and wire.transfer_read(frame)
    end)
  end

  local function word(type, file, fields)
    local t = { index = file.index, term = file.term, id = file.id, size = file.size, offset = 0, ok = false }
    for k, v in pairs(fields) do t[k] = v end
    return wire.transfer(type, t)
  end

  local function begin()
    bulk = {}
    w, leader, other, out, back = lab.pair { segment_bytes = 65536, keep = 0 }
    for i = 1, 200 do assert(w:propose(leader, "a" .. i, 1000)) end
    lab.wait(w, "all of it", function() return (w:state(leader)):find("a200\n", 1, true) end)
    assert.is_true(w:snapshot(leader))
    lab.wait(w, "the log to let go", function() return w:status(leader).first > 50 end)
  end
  before_each(begin)

  it("is offered again when its transfer was given up while a piece of it was still being read", function()
    local file = offered "a first offer"
    w:stall(leader, true)
    out:send(word(T.fetch, file, { wanted = 65536 }))
    w:run(0.02)
    out:send(word(T.fetched, file, { ok = false }))
    for _ = 1, 5 do     -- it orders one again, and the older offer cannot end yet
      hear()
      w:run(0.01)
    end
    w:stall(leader, false)
    assert.equal(file.id, offered("another offer").id)
    assert.equal(leader, w:status(other).leader)
  end)

  it("is read in 32 pieces at once at most: whoever asks for more asks again", function()
    local file = offered "an offer"
    w:stall(leader, true)
    for i = 0, 39 do out:send(word(T.fetch, file, { wanted = 1, offset = i })) end
    w:run(0.02)
    w:stall(leader, false)
    local pieces = 0
    for _ = 1, 20 do
      hear()
      w:run(0.01)
      for _, line in pairs(bulk) do
        for _, frame in ipairs(line:poll().frames) do pieces = pieces + (frame.type == T.chunk and 1 or 0) end
        line.frames = {}
      end
    end
    assert.equal(32, pieces)
  end)

  it("is offered again when there was no memory for it", function()
    local n, asked, lost = 1, 1, 0
    while n <= asked do
      out:send(word(T.fetched, offered "a first offer", { ok = false }))
      local beat = lab.wait(w, "a heartbeat", function()   -- at the answer to it another one is ordered
        for _, frame in ipairs(back:poll().frames) do
          local m = frame.type == T.message and wire.message_read(frame)
          if m and m.type == 3 then return heard(m) end
        end
      end)
      back.frames = {}
      core.mem_fail_at(n)
      out:send(beat)
      w:run(0.02)
      asked = core.mem_asked()
      core.mem_fail_at(0)
      if w:status(leader).fault or out:poll().down or back:poll().down then lost = lost + 1 else offered("an offer") end
      n = n + 1
      begin()
    end
    assert.is_true(asked > 2 and lost < asked / 2, asked)   -- one of them is for the offer itself
  end)
end)
