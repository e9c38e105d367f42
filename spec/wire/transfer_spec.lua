local wire = require("raft.core").wire
local lab = require "spec.wire.lab"

local T = lab.frame_type

local function frame_of(bytes) return lab.trusting():feed(bytes)[1] end

local function reading(type, fields) return wire.transfer_read(frame_of(wire.transfer(type, lab.transfer(fields)))) end

local function refused(frame)
  local value, message, code = wire.transfer_read(frame)
  assert.is_nil(value)
  assert.equal("corrupt", code)
  assert.matches("snapshot", message)
end

describe("the transfer of a snapshot", function()
  it("offers, fetches, sends and reports one very file", function()
    assert.same(lab.transfer { leader_term = -9, first = 12 }, reading(T.offer, { leader_term = -9, first = 12 }))
    assert.same(lab.transfer { offset = 70000, wanted = 1 }, reading(T.fetch, { offset = 70000, wanted = 1 }))
    assert.same(lab.transfer { offset = 99995, bytes = "12345" }, reading(T.chunk, { offset = 99995, bytes = "12345" }))
    for _, ok in ipairs { true, false } do
      local told = reading(T.fetched, { ok = ok })
      assert.same({ 40, ok }, { told.index, told.ok })
    end
  end)

  it("says with an empty piece that the file is gone", function()
    assert.equal("", reading(T.chunk, { offset = 5, bytes = "" }).bytes)
  end)

  it("is refused when it is cut off anywhere, or something follows", function()
    for _, name in ipairs { "offer", "fetch", "chunk", "fetched" } do
      local frame = frame_of(lab.samples()[name])
      local meta = frame.meta
      for size = 0, #meta - 1 do
        frame.meta = meta:sub(1, size)
        refused(frame)
      end
      frame.meta = meta .. "\0"
      refused(frame)
      if name ~= "chunk" then
        frame.meta, frame.entries = meta, "x"
        refused(frame)
      end
    end
  end)

  it("is refused for a piece that is damaged, lies beyond the file, or is larger than any may be", function()
    local frame = frame_of(lab.samples().chunk)
    local whole = frame.entries
    for bit = 0, #whole * 8 - 1, 7 do
      frame.entries = lab.flip(whole, bit)
      refused(frame)
    end
    for size = 1, 8 do
      frame.entries = whole:sub(1, size)
      refused(frame)
    end
    for _, offset in ipairs { 100000 - 299, 100000, 100001, -1, math.mininteger } do
      local bytes = ("x"):rep(300)
      refused(frame_of(wire.transfer(T.chunk, lab.transfer { offset = offset, bytes = bytes })))
    end
    frame.entries = ("\0"):rep((1 << 20) + 9)
    refused(frame)
  end)

  it("is refused for a piece at another place than its hash was made for", function()
    local frame = frame_of(lab.samples().chunk)
    frame.meta = frame.meta:sub(1, 32) .. string.pack("<I8", 4097)
    refused(frame)
  end)

  it("is refused when nothing is wanted, or too much, or the snapshot covers nothing", function()
    for _, wanted in ipairs { 0, (1 << 20) + 1, 0xffffffff } do
      refused(frame_of(wire.transfer(T.fetch, lab.transfer { wanted = wanted })))
    end
    for _, type in ipairs { T.offer, T.fetch, T.chunk, T.fetched } do
      refused(frame_of(wire.transfer(type, lab.transfer { index = 0, wanted = 1 })))
    end
    local frame = frame_of(lab.samples().fetched)
    frame.meta = frame.meta:sub(1, 8) .. "\2"
    refused(frame)
  end)

  it("answers lack of memory as a value, and leaves nothing half written", function()
    for _, name in ipairs { "offer", "fetch", "chunk", "gone", "fetched" } do
      local bytes = lab.samples()[name]
      local function write()
        local t = wire.transfer_read(frame_of(bytes))
        return wire.transfer(frame_of(bytes).type, t)
      end
      assert.equal(bytes, write())
    end
    local fields = lab.transfer { bytes = ("x"):rep(100000) }
    assert.is_true(lab.fail_each_allocation(function() return wire.transfer(T.chunk, fields) end,
      wire.transfer(T.chunk, fields)) >= 2)
  end)
end)
