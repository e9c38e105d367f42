local wire = require("raft.core").wire
local lab = require "spec.wire.lab"

local function frame_of(bytes) return lab.trusting():feed(bytes)[1] end

local function refused(frame)
  local value, message, code = lab.read(frame)
  assert.is_nil(value)
  assert.equal("corrupt", code)
  assert.matches("malformed", message)
end

local function asked(what)
  local number, got = wire.ask_read(frame_of(wire.ask(-5, what)))
  assert.equal(-5, number)
  return got
end

describe("what a member asks of the leader", function()
  it("is a read, a change of members, or a transfer", function()
    assert.same({ kind = 1, lease = true, target = 0, changes = {} }, asked { kind = 1, lease = true })
    assert.same({ kind = 1, lease = false, target = 0, changes = {} }, asked { kind = 1 })
    assert.same({ kind = 3, lease = false, target = -2, changes = {} }, asked { kind = 3, target = -2 })
    local changes = {
      { op = 1, id = 0, address = "d:4" }, { op = 1, id = 9, address = ("h"):rep(255) },
      { op = 2, id = 3, address = "" }, { op = 3, id = 1, address = "" }, { op = 4, id = 2, address = "x:1" },
      { op = 5, id = -1, address = "" },
    }
    assert.same({ kind = 2, lease = false, target = 0, changes = changes }, asked { kind = 2, changes = changes })
    local many = {}
    for i = 1, 15 do many[i] = { op = 4, id = i, address = ("h"):rep(255) } end
    assert.same(many, asked { kind = 2, changes = many }.changes)
  end)

  it("is refused when it asks for nothing that is known", function()
    local meta = string.pack("<I8", 1)
    for _, rest in ipairs {
      "\0", "\4", "\xff", "\1\2", "\1\xff", "\2\0", "\2\16", "\2\255",
      "\2\1" .. string.pack("<I1I8s1", 0, 1, ""), "\2\1" .. string.pack("<I1I8s1", 6, 1, ""),
      "\2\1" .. string.pack("<I1I8s1", 1, 1, ""),      -- to be added, but nowhere
      "\2\1" .. string.pack("<I1I8s1", 4, 1, ""), "\2\1" .. string.pack("<I1I8s1", 2, 1, "a:1"),
      "\2\1" .. string.pack("<I1I8s1", 2, 0, ""),      -- nobody
      "\2\1" .. string.pack("<I1I8s1", 4, 0, "a:1"), "\2\1" .. string.pack("<I1I8s1", 1, 1, "a\n1"),
      "\2\2" .. string.pack("<I1I8s1", 2, 1, ""),
    } do
      refused { type = 12, meta = meta .. rest, entries = "" }
    end
    assert(wire.ask_read { type = 12, meta = meta .. "\2\1" .. string.pack("<I1I8s1", 2, 1, ""), entries = "" })
  end)

  it("is refused when it is cut off anywhere, or something follows, and so are the answers", function()
    for _, name in ipairs { "read", "change", "hand_over", "answer", "join", "joined", "not_joined" } do
      local frame = frame_of(lab.samples()[name])
      local meta = frame.meta
      assert(lab.read(frame))
      for size = 0, #meta - 1 do
        frame.meta = meta:sub(1, size)
        refused(frame)
      end
      frame.meta = meta .. "\0"
      refused(frame)
      frame.meta, frame.entries = meta, "x"
      refused(frame)
    end
  end)

  it("answers lack of memory as a value", function()
    local what = { kind = 3, target = 2 }
    assert.is_true(lab.fail_each_allocation(function() return wire.ask(1, what) end, wire.ask(1, what)) > 0)
  end)
end)

describe("the leader's answer", function()
  it("tells a code, an index and an id", function()
    for _, answer in ipairs {
      { number = -1, code = 0, index = -2, id = 3 }, { number = 0, code = -28, index = 0, id = 0 },
      { number = 1, code = -32768, index = 1, id = -1 },
    } do
      assert.same(answer, wire.answer_read(frame_of(wire.answer(answer))))
    end
  end)

  it("with a code that is none is refused", function()
    for _, code in ipairs { 1, 1 << 30, -32769, math.mininteger >> 32 } do
      refused(frame_of(wire.answer { number = 1, code = code, index = 1, id = 1 }))
    end
  end)
end)

describe("a stranger that wants to join", function()
  it("says which cluster, and where it is", function()
    for _, join in ipairs { { name = "bank", address = "d:4" }, { name = "", address = ("h"):rep(255) },
      { name = ("n"):rep(64), address = "x" } } do
      assert.same(join, wire.join_read(frame_of(wire.join(join))))
    end
  end)

  it("is refused without an address, or with one that could not be printed", function()
    for _, meta in ipairs { "\4bank\0", "\4bank\3a\nb", "\4ba\27k\1a", "\65" .. ("n"):rep(65) .. "\1a" } do
      refused { type = 14, meta = meta, entries = "" }
    end
  end)

  it("is told its id and the cluster, or whom to ask", function()
    assert.same(lab.joined, wire.joined_read(frame_of(wire.joined(lab.joined))))
    local told = wire.joined_read(frame_of(wire.joined { code = -3, leader = "b:2" }))
    assert.same({ -3, "b:2", 0, "" }, { told.code, told.leader, told.id, told.list })
    local longest = { code = 0, leader = ("h"):rep(255), id = -1, cluster = ("c"):rep(16), list = ("l"):rep(2048) }
    assert.same(longest, wire.joined_read(frame_of(wire.joined(longest))))
    assert.is_true(#wire.joined(longest) <= lab.stranger_max)
  end)

  it("does not take an answer that gives it no id, or too long a list", function()
    local fixed = string.pack("<i4s1", 0, "")
    local function sent(id, list) return fixed .. string.pack("<I8c16s2", id, "cluster", list) end
    assert(wire.joined_read { type = 15, meta = sent(1, "1=a"), entries = "" })
    refused { type = 15, meta = sent(0, "1=a"), entries = "" }
    refused { type = 15, meta = sent(1, ("l"):rep(2049)), entries = "" }
    refused { type = 15, meta = sent(1, "1=\n"), entries = "" }
    refused { type = 15, meta = string.pack("<i4s1", 1, ""), entries = "" }
  end)
end)
