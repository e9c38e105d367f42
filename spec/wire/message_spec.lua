local wire = require("raft.core").wire
local lab = require "spec.wire.lab"

local function frame_of(bytes)
  return lab.trusting():feed(bytes)[1]
end

local function reading(bytes)
  return wire.message_read(frame_of(bytes))
end

local function refused(read, frame)
  local value, message, code = read(frame)
  assert.is_nil(value)
  assert.equal("corrupt", code)
  return message
end

describe("a message", function()
  local zero = {
    pre = false, reject = false, index = 0, log_term = 0, hint = 0, commit = 0, context = 0, entries = {},
    force = false, round = 0, lease = 0, priority = 0, confs = {},
  }
  local full = {
    pre = true, reject = true, index = 11, log_term = 3, hint = 5, commit = 8, context = -2,
    force = true, round = -3, lease = 0xfffffffe, priority = -5,
  }
  local used = {
    { "index", "log_term", "commit" },
    { "reject", "index", "log_term", "hint" },
    { "commit", "context", "round", "lease" },
    { "index", "commit", "context", "round", "priority" },
    { "pre", "index", "log_term", "force" },
    { "pre", "reject", "index", "log_term" },
    {},
  }

  it("carries the fields of its type, and no others", function()
    for type, names in ipairs(used) do
      local sent = { type = type, from = 1, to = 2, term = 1 << 62 }
      local expected = { type = type, from = 1, to = 2, term = 1 << 62 }
      for name, value in pairs(full) do sent[name] = value end
      for name, value in pairs(zero) do expected[name] = value end
      for _, name in ipairs(names) do expected[name] = full[name] end
      assert.same(expected, reading(wire.message(sent)))
    end
  end)

  it("with false is another one than with true", function()
    local vote = { type = 6, from = 1, to = 2, term = 3, pre = false, reject = true }
    local got = reading(wire.message(vote))
    assert.is_false(got.pre)
    assert.is_true(got.reject)
  end)

  it("carries entries byte for byte", function()
    local entries = lab.log(10, { 2, 2, 3, 4 })
    assert.same(entries, reading(wire.message(lab.append(entries))).entries)
  end)

  it("carries many entries", function()
    local terms = {}
    for i = 1, 5000 do terms[i] = 2 + i // 4000 end
    local entries = lab.log(10, terms)
    for i = 1, #entries do entries[i] = wire.stamp(lab.proposal { payload = "" }, 9 + i, terms[i], i) end
    assert.same(entries, reading(wire.message(lab.append(entries))).entries)
  end)

  it("of a type that is not known is refused", function()
    local frame = frame_of(lab.samples().vote)
    for _, type in ipairs { "\0", "\8", "\9", "\xff" } do  -- 8 is a snapshot, which goes by other ways
      frame.meta = type .. frame.meta:sub(2)
      assert.matches("not known", refused(wire.message_read, frame))
    end
    frame.meta = ""
    refused(wire.message_read, frame)
  end)

  it("that is too short or too long is refused", function()
    for _, name in ipairs { "append", "append_reply", "heartbeat", "heartbeat_reply", "vote", "vote_reply",
      "timeout_now" } do
      local frame = frame_of(lab.samples()[name])
      local meta = frame.meta
      for size = 0, #meta - 1 do
        frame.meta = meta:sub(1, size)
        refused(wire.message_read, frame)
      end
      frame.meta = meta .. "\0"
      refused(wire.message_read, frame)
    end
  end)

  it("with a truth value that is neither 0 nor 1 is refused", function()
    local frame = frame_of(lab.samples().vote_reply)
    for _, byte in ipairs { "\2", "\x80", "\xff" } do
      frame.meta = frame.meta:sub(1, 25) .. byte .. "\1" .. ("\0"):rep(8)
      refused(wire.message_read, frame)
    end
    frame = frame_of(lab.samples().vote)
    assert(wire.message_read(frame))
    frame.meta = frame.meta:sub(1, -2) .. "\2"
    refused(wire.message_read, frame)
  end)

  it("carries configurations among its entries, decoded; one that is malformed makes it refused", function()
    local payload = wire.conf(lab.conf)
    local function with(bytes)
      local plain = lab.log(10, { 2 })[1]
      local config = wire.stamp(wire.entry { type = 4, payload = bytes }, 11, 3, 1)
      return frame_of(wire.message(lab.append { plain, config }))
    end
    local m = wire.message_read(with(payload))
    assert.same({ [2] = { voters = { 1, 2, 9 }, outgoing = { 1, 2, 3 }, learners = { 3 } } }, m.confs)
    assert.equal(2, #m.entries)
    for _, bad in ipairs { "", payload:sub(1, -2), payload .. "x" } do
      assert.matches("configuration", refused(wire.message_read, with(bad)))
    end
    local frame = with(payload)
    assert.equal(4, lab.fail_each_allocation(function() return wire.message_read(frame) end, m))
  end)

  it("that announces more entries than its bytes can hold is refused before any memory is asked for", function()
    local core = require "raft.core"
    local frame = frame_of(lab.samples().append)
    local meta = frame.meta
    for _, count in ipairs { 0, 5, 1000, 65536, 65537, 1 << 31, 0xffffffff } do
      frame.meta = meta:sub(1, -5) .. string.pack("<I4", count)
      core.mem_fail_at(0)
      refused(wire.message_read, frame)
      if count ~= 5 then assert.equal(0, core.mem_asked(), count) end
    end
  end)

  it("of more entries than one frame may have is refused before any memory is asked for", function()
    local core = require "raft.core"
    local frame = frame_of(lab.samples().append)
    frame.entries = ("\0"):rep(65537 * 80)
    frame.meta = frame.meta:sub(1, -5) .. string.pack("<I4", 65537)
    core.mem_fail_at(0)
    assert.matches("65537 entries", refused(wire.message_read, frame))
    assert.equal(0, core.mem_asked())
  end)

  it("is refused when an entry stands in another's place, or terms fall, or lie above the message's", function()
    local cases = {
      { lab.log(11, { 2, 3 }), "entry 11 stands where entry 10 belongs" },
      { { lab.log(10, { 2 })[1], lab.log(10, { 2 })[1] }, "entry 10 stands where entry 11 belongs" },
      { lab.log(10, { 3, 2 }), "of term 2 follows term 3" },
      { lab.log(10, { 1 }), "of term 1 follows term 2" },
      { lab.log(10, { 2, 5 }), "in a message of term 4" },
    }
    for _, case in ipairs(cases) do
      local message = refused(wire.message_read, frame_of(wire.message(lab.append(case[1]))))
      assert.matches(case[2], message, 1, true)
    end
  end)

  it("is refused when its indexes would run over", function()
    local frame = frame_of(wire.message(lab.append(lab.log(10, { 2 }), { index = -1 })))
    assert.matches("out of range", refused(wire.message_read, frame))
  end)

  it("is refused when an entry is not stamped", function()
    assert.matches("never stamped", refused(wire.message_read, frame_of(wire.message(lab.append { lab.proposal() }))))
  end)

  it("is refused when bytes follow the last entry, or entries follow where none belong", function()
    local frame = frame_of(lab.samples().append)
    frame.entries = frame.entries .. "\0"
    assert.matches("follow the last entry", refused(wire.message_read, frame))
    frame = frame_of(lab.samples().vote)
    frame.entries = lab.log(10, { 2 })[1]
    refused(wire.message_read, frame)
  end)

  it("answers lack of memory as a value, and frees what it had", function()
    local message = lab.append(lab.log(10, { 2, 3, 4 }))
    local bytes = wire.message(message)
    assert.is_true(lab.fail_each_allocation(function() return wire.message(message) end, bytes) > 0)
    local frame = frame_of(bytes)
    -- the list, and a block for each
    assert.equal(4, lab.fail_each_allocation(function() return wire.message_read(frame) end, wire.message_read(frame)))
  end)
end)

describe("a forward", function()
  local proposals = { lab.proposal(), lab.proposal { type = 3, payload = "", sequence = 41 } }

  it("carries proposals byte for byte", function()
    assert.same(proposals, wire.forward_read(frame_of(wire.forward(proposals))))
  end)

  it("is refused when a proposal is stamped, has no session, or is a leader's own entry", function()
    assert.matches("is stamped", refused(wire.forward_read, frame_of(wire.forward(lab.log(10, { 2 })))))
    for _, fields in ipairs { { session = 0 }, { type = 1 }, { type = 4 } } do
      local message = refused(wire.forward_read, frame_of(wire.forward { lab.proposal(fields) }))
      assert.matches("no session", message)
    end
  end)

  it("is refused when another proposal of the same form took its place", function()
    local frame = frame_of(wire.forward(proposals))
    frame.entries = proposals[1] .. lab.proposal { type = 3, payload = "", sequence = 42 }
    assert.matches("do not match their hash", refused(wire.forward_read, frame))
  end)

  it("is refused for counts that cannot be true", function()
    local core = require "raft.core"
    local frame = frame_of(wire.forward(proposals))
    local meta = frame.meta
    for _, count in ipairs { 0, 1, 3, 65537, 0xffffffff } do
      frame.meta = string.pack("<I4", count) .. meta:sub(5)
      core.mem_fail_at(0)
      refused(wire.forward_read, frame)
      if count ~= 1 then assert.equal(0, core.mem_asked(), count) end
    end
    refused(wire.forward_read, { type = 6, meta = ("\0"):rep(12), entries = "" })
    refused(wire.forward_read, { type = 6, meta = meta .. "\0", entries = frame.entries })
  end)

  it("answers lack of memory as a value, and frees what it had", function()
    local frame = frame_of(wire.forward(proposals))
    assert.equal(3, lab.fail_each_allocation(function() return wire.forward_read(frame) end, proposals))
  end)
end)

describe("the answer to a forward", function()
  it("names the reason and the sequences that were not taken", function()
    for _, code in ipairs { -3, -4, -5, -6 } do
      assert.same({ code, { 1, 2, -1 } }, { wire.forward_reply_read(frame_of(wire.forward_reply(code, { 1, 2, -1 }))) })
    end
  end)

  it("is refused for a reason that is none, or a count that is not true", function()
    local code = "\xfd\xff\xff\xff"
    for _, meta in ipairs {
      "", code, code .. string.pack("<I4", 0), code .. string.pack("<I4I8", 2, 1),
      code .. string.pack("<I4I8I8", 1, 1, 1),
      code .. string.pack("<I4I8", 0x20000001, 1), "\0\0\0\0" .. string.pack("<I4I8", 1, 1),
      "\xff\xff\xff\xff" .. string.pack("<I4I8", 1, 1),
    } do
      refused(wire.forward_reply_read, { type = 7, meta = meta, entries = "" })
    end
    refused(wire.forward_reply_read, { type = 7, meta = code .. string.pack("<I4I8", 1, 1), entries = "x" })
  end)

  it("answers lack of memory as a value", function()
    local frame = frame_of(wire.forward_reply(-3, { 1, 2 }))
    assert.equal(1, lab.fail_each_allocation(function() return wire.forward_reply_read(frame) end, -3))
  end)
end)

describe("a ping", function()
  it("and its pong echo a stamp, of eight bytes exactly", function()
    assert.equal(12345, wire.ping_read(frame_of(wire.ping(3, 12345))))
    assert.equal(-1, wire.ping_read(frame_of(wire.ping(4, -1))))
    refused(wire.ping_read, { type = 3, meta = "1234567", entries = "" })
    refused(wire.ping_read, { type = 3, meta = "123456789", entries = "" })
    refused(wire.ping_read, { type = 4, meta = "12345678", entries = "x" })
  end)
end)
