local wire = require("raft.core").wire
local lab = require "spec.wire.lab"

local function hello(fields)
  local h = {}
  for k, v in pairs(lab.hello) do h[k] = v end
  for k, v in pairs(fields or {}) do h[k] = v end
  return h
end

local function frame_of(bytes)
  return lab.trusting():feed(bytes)[1]
end

---The hello as a frame, with a change to its meta.
local function changed(change, fields)
  local frame = frame_of(wire.hello(hello(fields)))
  frame.meta = change(frame.meta)
  return frame
end

describe("a hello", function()
  it("comes out as it went in", function()
    assert.same(lab.hello, wire.hello_read(frame_of(wire.hello(lab.hello))))
  end)

  it("of the longest name and list passes as a stranger's frame", function()
    local longest = hello { name = ("n"):rep(64), list = ("l"):rep(2048), address = ("a"):rep(255) }
    local frames = wire.reader():feed(wire.hello(longest))
    assert.same(longest, wire.hello_read(frames[1]))
  end)

  it("is refused as another version when no protocol is common, whatever else it says", function()
    local frame = frame_of(wire.hello(hello { protocol_min = 2, protocol = 9 }))
    frame.meta = frame.meta:sub(1, 4) .. "of another layout"
    local _, message, code = wire.hello_read(frame)
    assert.equal("version", code)
    assert.matches("2 to 9", message)
  end)

  it("of a newer protocol that still speaks ours may say more at its end; one of ours may not", function()
    local function longer(meta) return meta .. "more" end
    assert.equal("bank", wire.hello_read(changed(longer, { protocol = 2 })).name)
    assert.is_nil(wire.hello_read(changed(longer)))
  end)

  it("is refused when it is cut off, empty, or not a hello at all", function()
    local size = #frame_of(wire.hello(lab.hello)).meta
    for n = 0, size - 1 do
      local _, _, code = wire.hello_read(changed(function(meta) return meta:sub(1, n) end))
      assert.equal("corrupt", code)
    end
    local _, message = wire.hello_read(frame_of(wire.ping(3, 1)))
    assert.matches("expected a hello", message)
  end)

  it("is refused without ids, or with a channel that is none", function()
    for offset, width in pairs { [20] = 8, [28] = 8, [36] = 8, [44] = 8, [189] = 1 } do
      local _, message, code = wire.hello_read(changed(function(meta)
        return meta:sub(1, offset) .. ("\0"):rep(width) .. meta:sub(offset + width + 1)
      end))
      assert.equal("corrupt", code)
      assert.matches("malformed", message)
    end
  end)

  it("is refused when its name or list is longer than any may be", function()
    local fixed = frame_of(wire.hello(lab.hello)).meta:sub(1, 190)
    local function sent(name, list, address)
      return { type = 1, meta = fixed .. string.pack("<s2s2s2", name, list, address or ""), entries = "" }
    end
    assert.equal("bank", wire.hello_read(sent("bank", "", ("a"):rep(255))).name)
    for _, frame in ipairs { sent(("n"):rep(65), ""), sent("bank", ("l"):rep(2049)), sent(("n"):rep(4000), ""),
      sent("bank", "", ("a"):rep(256)) } do
      local _, _, code = wire.hello_read(frame)
      assert.equal("corrupt", code)
    end
  end)

  it("cannot write control codes into anybody's log", function()
    for _, bad in ipairs { "a\nb", "a\rb", "\27[2J", "\127" } do
      assert.is_nil(wire.hello_read(frame_of(wire.hello(hello { list = bad }))))
    end
  end)

  it("answers lack of memory as a value", function()
    assert.is_true(lab.fail_each_allocation(function() return wire.hello(lab.hello) end, wire.hello(lab.hello)) > 0)
  end)
end)

describe("a refusal", function()
  it("carries code and text", function()
    for _, code in ipairs { -7, -19, -18, -4, -31, -32 } do
      assert.same({ code, "because" }, { wire.refusal_read(frame_of(wire.refusal(code, "because"))) })
    end
  end)

  it("is made printable, cut to a limit, and of a code known here", function()
    local refusal = { wire.refusal_read(frame_of(wire.refusal(-1000, "a\27[2Jb\n"))) }
    assert.same({ -7, "a?[2Jb?" }, refusal)
    refusal = { wire.refusal_read(frame_of(wire.refusal(-7, ("x"):rep(5000)))) }
    assert.same({ -7, ("x"):rep(399) }, refusal)
    local _, _, name = wire.refusal_read { type = 2, meta = "abc", entries = "" }
    assert.equal("corrupt", name)
  end)

  it("of more text than we would send is cut as well", function()
    local _, text = wire.refusal_read { type = 2, meta = "\xf9\xff\xff\xff" .. ("y"):rep(3000), entries = "" }
    assert.equal(("y"):rep(399), text)
  end)
end)
