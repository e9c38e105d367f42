local wire = require("raft.core").wire
local lab = require "spec.wire.lab"

local function refused(bytes, reader)
  local frames, message, code = (reader or lab.trusting()):feed(bytes)
  assert.is_nil(frames)
  return message, code
end

describe("the hash", function()
  it("of any number of bytes is the same on every processor: XXH3, with a seed", function()
    local bytes = {}
    for i = 0, 199999 do bytes[#bytes + 1] = string.char((i * i * 7 + i * 31 + (i >> 8) * 13) & 255) end
    bytes = table.concat(bytes)
    for size, expected in pairs {
      [4095] = { 0xeb06240b5ccc1ff6, 0x14b7706fb9aa8f63 }, [4096] = { 0xd40504231c5cfcba, 0x3900261bceb60c31 },
      [4097] = { 0xa46b8af2736ff802, 0x4a7833f1059c1c8a }, [16360] = { 0xe6d442b0bca9512c, 0xd9395b58f8f6a559 },
      [65535] = { 0x5b8ca92431549e34, 0x722071aeef6eb79a }, [100000] = { 0x20a99a2a5e8a8073, 0x1b8d070e6f3d392d },
      [199999] = { 0x808f88911e04a424, 0x8d1f141527b3b5ba },
    } do
      assert.same(expected, { wire.hash(bytes:sub(1, size), 77), wire.hash(bytes:sub(2, size), -5) }, size)
    end
  end)
end)

describe("a frame", function()
  it("comes out as it went in", function()
    local frames = lab.trusting():feed(wire.frame(5, "meta", "entries", 9))
    assert.same({ { type = 5, group = 9, meta = "meta", entries = "entries" } }, frames)
  end)

  it("may be empty", function()
    assert.same({ { type = 3, group = 0, meta = "", entries = "" } }, lab.trusting():feed(wire.frame(3, "")))
  end)

  it("is refused for a wrong magic with the first byte, so that another protocol is not waited for", function()
    local message, code = refused("GET / HTTP/1.1\r\n\r\n")
    assert.equal("corrupt", code)
    assert.matches("not a raft frame", message)
    assert.matches("not a raft frame", refused("X"))
    assert.same({}, lab.trusting():feed("RaF"))
  end)

  it("is refused with words of its own for each kind of fault", function()
    local frame = wire.frame(5, "meta", "entries")
    local cases = {
      { lab.flip(frame, 12 * 8), "header does not match its hash", "corrupt" },
      { lab.lie(frame, 5, "\2"), "version 2", "version" },
      { lab.lie(frame, 4, "\0"), "type 0", "corrupt" },
      { lab.lie(frame, 4, "\16"), "type 16", "corrupt" },
      { lab.lie(frame, 6, "\1"), "must be zero", "corrupt" },
      { lab.lie(frame, 12, string.pack("<I4", lab.frame_max + 1)), "larger than the limit", "corrupt" },
      { lab.lie(frame, 16, string.pack("<I4", 12)), "larger than its body", "corrupt" },
      { lab.lie(frame, 20, "????????"), "meta does not match its hash", "corrupt" },
    }
    for _, case in ipairs(cases) do
      local message, code = refused(case[1])
      assert.matches(case[2], message, 1, true)
      assert.equal(case[3], code)
    end
  end)

  it("believes no length in a header whose hash is wrong", function()
    local frame = wire.frame(5, "meta")
    local lie = frame:sub(1, 12) .. "\xff\xff\xff\xff" .. frame:sub(17)
    assert.matches("header does not match", refused(lie))
  end)
end)

describe("a frame reader", function()
  local stream, expected = "", {}

  ---Frames as one string: luassert's deep comparison is too slow for thousands of them.
  local function flat(frames)
    local parts = {}
    for i, f in ipairs(frames) do parts[i] = string.pack("<I1I4s4s4", f.type, f.group, f.meta, f.entries) end
    return table.concat(parts)
  end

  local function feed_in_pieces(pieces)
    local reader, got = lab.trusting(), ""
    for _, piece in ipairs(pieces) do got = got .. flat(assert(reader:feed(piece))) end
    return got
  end

  setup(function()
    local names = {}
    local samples = lab.samples()
    for name in pairs(samples) do names[#names + 1] = name end
    table.sort(names)
    for _, name in ipairs(names) do stream = stream .. samples[name] end
    expected = lab.trusting():feed(stream)
    assert.equal(#names, #expected)
  end)

  it("gives the same frames for a stream cut in two anywhere", function()
    local whole = flat(expected)
    for cut = 0, #stream do
      assert.is_true(whole == feed_in_pieces { stream:sub(1, cut), stream:sub(cut + 1) }, cut)
    end
  end)

  it("gives the same frames for a stream in pieces of any one size", function()
    local whole = flat(expected)
    for size = 1, 200 do
      local pieces = {}
      for at = 1, #stream, size do pieces[#pieces + 1] = stream:sub(at, at + size - 1) end
      assert.is_true(whole == feed_in_pieces(pieces), size)
    end
  end)

  it("gives nothing for a frame that is cut off", function()
    for name, frame in pairs(lab.samples()) do
      for size = 0, #frame - 1 do
        assert.same({}, lab.trusting():feed(frame:sub(1, size)), name)
      end
    end
  end)

  it("holds no memory while frames come whole", function()
    local reader = lab.trusting()
    assert.same(expected, reader:feed(stream))
    assert.equal(0, reader:held())
  end)

  it("holds at most twice what has come of a frame, whatever the frame announces", function()
    local reader = lab.trusting()
    local header = wire.frame(5, "", ("x"):rep(1 << 20)):sub(1, lab.header)
    header = lab.lie(header, 12, string.pack("<I4", lab.frame_max))
    assert.same({}, reader:feed(header))
    local sent = #header
    for _ = 1, 100 do
      assert.is_true(reader:held() <= 2 * sent)
      assert.same({}, reader:feed(("x"):rep(1000)))
      sent = sent + 1000
    end
  end)

  it("gives a large frame's memory back after it was taken", function()
    local reader = lab.trusting()
    local frame = wire.frame(5, "meta", ("x"):rep(1 << 20))
    assert.same({}, reader:feed(frame:sub(1, -2)))
    assert.is_true(reader:held() >= 1 << 20)
    assert.equal(1, #reader:feed(frame:sub(-1)))
    assert.same({}, reader:feed(""))
    assert.is_true(reader:held() <= 256 << 10)
  end)

  it("takes little from a stranger, refusing more before it holds any of it", function()
    local reader = wire.reader()
    assert.equal(1, #reader:feed(wire.frame(1, ("h"):rep(lab.stranger_max))))
    local message = refused(wire.frame(1, ("h"):rep(lab.stranger_max + 1)):sub(1, lab.header), reader)
    assert.matches("larger than the limit of 4096", message)
    assert.is_true(reader:held() <= 2 * lab.header)
  end)

  it("takes large frames as soon as the stranger is known, also one that came half before", function()
    local reader = wire.reader()
    local large = wire.frame(5, "meta", ("x"):rep(5 << 20))
    assert.equal(1, #reader:feed(wire.hello(lab.hello) .. large:sub(1, 20)))
    reader:trust()
    assert.same({}, reader:feed(large:sub(21, 100000)))
    local frames = reader:feed(large:sub(100001) .. wire.frame(3, "next"))
    assert.equal(2, #frames)
    assert.equal(5 << 20, #frames[1].entries)
    assert.equal("next", frames[2].meta)
  end)

  it("takes a frame of exactly the limit, and none beyond", function()
    local frame = wire.frame(5, "", ("x"):rep(lab.frame_max))
    assert.equal(lab.frame_max, #lab.trusting():feed(frame)[1].entries)
    refused(lab.lie(frame:sub(1, lab.header), 12, string.pack("<I4", lab.frame_max + 1)))
  end)

  it("answers lack of memory as a value", function()
    local frame = wire.frame(5, "meta", ("x"):rep(1000))
    local failed = lab.fail_each_allocation(function()
      local reader, frames = lab.trusting(), {}
      for at = 1, #frame, 50 do
        local got, message, code = reader:feed(frame:sub(at, at + 49))
        if not got then return nil, message, code end
        frames[#frames + 1] = got[1]
      end
      return frames
    end, lab.trusting():feed(frame))
    assert.is_true(failed > 3)
  end)
end)

describe("damage to a frame", function()
  it("is told for every bit of every kind of frame", function()
    for name, frame in pairs(lab.samples()) do
      assert(lab.read_all(frame))
      for bit = 0, #frame * 8 - 1 do
        local all = lab.read_all(lab.flip(frame, bit))
        -- A length that grew leaves a frame that waits for more; nothing is ever delivered.
        if all and #all > 0 then error(name .. ": bit " .. bit .. " was not missed") end
      end
    end
  end)

  it("cannot be mistaken for a frame: garbage never is one", function()
    math.randomseed(20240501)
    local sample = lab.samples().append
    for _ = 1, 5000 do
      local bytes = {}
      for i = 1, math.random(0, 120) do bytes[i] = string.char(math.random(0, 255)) end
      local garbage = table.concat(bytes)
      for _, start in ipairs { "", "RaFt", sample:sub(1, math.random(4, 31)) } do
        local all = lab.read_all(start .. garbage)
        if all and #all > 0 then error("taken for a frame: " .. ("%q"):format(start .. garbage)) end
      end
    end
  end)

  it("from a liar who hashes right crashes nothing", function()
    math.randomseed(7)
    for name, frame in pairs(lab.samples()) do
      local sent = lab.trusting():feed(frame)[1]
      for _ = 1, 1000 do
        local liar = { type = sent.type, group = 0, meta = sent.meta, entries = sent.entries }
        local part = #sent.entries > 0 and math.random(2) == 1 and "entries" or "meta"
        local bytes = sent[part]
        if math.random(3) == 1 then
          liar[part] = bytes:sub(1, math.random(0, #bytes))
        elseif #bytes > 0 then
          for _ = 1, math.random(3) do liar[part] = lab.flip(liar[part], math.random(0, #bytes * 8 - 1)) end
        end
        local value, message, code = lab.read(liar)
        if value == nil then
          if code ~= "corrupt" and code ~= "version" then error(name .. ": " .. code .. ": " .. message) end
        end
      end
    end
  end)
end)
