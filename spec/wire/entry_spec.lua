local wire = require("raft.core").wire
local lab = require "spec.wire.lab"

describe("an entry", function()
  local header = 80

  it("is a proposal until the leader stamps it", function()
    local bytes = lab.proposal()
    assert.equal(header + #"set x", #bytes)
    local it, used = wire.entry_read(bytes, false)
    assert.equal(#bytes, used)
    assert.same({
      type = 2, index = 0, term = 0, time = 0, session = 7, epoch = 3, sequence = 40, behind = 5, payload = "set x",
    }, it)
    local _, message, code = wire.entry_read(bytes, true)
    assert.equal("corrupt", code)
    assert.matches("never stamped", message)
  end)

  it("carries index, term and time once stamped, and the payload untouched", function()
    local bytes = lab.proposal()
    local stamped = wire.stamp(bytes, 12, 3, 1700000000000000)
    assert.equal(bytes:sub(header + 1), stamped:sub(header + 1))
    assert.same({
      type = 2, index = 12, term = 3, time = 1700000000000000,
      session = 7, epoch = 3, sequence = 40, behind = 5, payload = "set x",
    }, (wire.entry_read(stamped, true)))
    local _, message, code = wire.entry_read(stamped, false)
    assert.equal("corrupt", code)
    assert.matches("is stamped", message)
  end)

  it("may have no payload, or one of any bytes", function()
    for _, payload in ipairs { "", "\0", ("\xff\0"):rep(5000) } do
      local it = wire.entry_read(wire.stamp(lab.proposal { payload = payload }, 1, 1, 0), true)
      assert.equal(payload, it.payload)
    end
  end)

  it("is read from the front of what follows it", function()
    local first, second = lab.proposal(), lab.proposal { payload = "other" }
    local it, used = wire.entry_read(first .. second, false)
    assert.equal("set x", it.payload)
    assert.equal("other", wire.entry_read((first .. second):sub(used + 1), false).payload)
  end)

  it("tells its whole size by its header alone, and 0 for what is no header", function()
    local bytes = wire.stamp(lab.proposal(), 1, 1, 0)
    assert.equal(#bytes, wire.entry_size(bytes:sub(1, header)))
    assert.equal(0, wire.entry_size(("\0"):rep(header)))
    assert.equal(0, wire.entry_size(("\xff"):rep(header)))
    local huge = bytes:sub(1, 8) .. string.pack("<I4", (16 << 20) + 1) .. bytes:sub(13)
    assert.equal(0, wire.entry_size(huge))
  end)

  it("is refused when it is cut off anywhere", function()
    local bytes = wire.stamp(lab.proposal(), 1, 1, 0)
    for size = 0, #bytes - 1 do
      local it, message, code = wire.entry_read(bytes:sub(1, size), true)
      assert.is_nil(it)
      assert.equal("corrupt", code)
      assert.matches("cut off", message)
    end
  end)

  it("is refused when any bit of it is flipped", function()
    local bytes = wire.stamp(lab.proposal(), 1 << 40, 99, 1700000000000000)
    for bit = 0, #bytes * 8 - 1 do
      local it, _, code = wire.entry_read(lab.flip(bytes, bit), true)
      assert.is_nil(it)
      assert.equal("corrupt", code)
    end
  end)

  it("as a proposal is refused when it has a mark of the leader, or awaits less than nothing", function()
    local bytes = lab.proposal()
    for _, offset in ipairs { 0, 16, 24, 32 } do
      assert.is_nil(wire.entry_read(lab.flip(bytes, offset * 8), false))
    end
    local behind = bytes:sub(1, 64) .. string.pack("<I4", 41) .. bytes:sub(69)
    local _, message = wire.entry_read(behind, false)
    assert.matches("below zero", message)
  end)

  it("of a type or layout that is not known is refused, stamped or not", function()
    local bytes = lab.proposal()
    for _, byte in ipairs { "\0", "\6", "\xff" } do
      local _, message = wire.entry_read(bytes:sub(1, 12) .. byte .. bytes:sub(14), false)
      assert.matches("type", message)
    end
    local _, message = wire.entry_read(bytes:sub(1, 13) .. "\2" .. bytes:sub(15), false)
    assert.matches("layout", message)
  end)

  it("needs memory once, and says so when there is none", function()
    local expected = lab.proposal()
    assert.equal(1, lab.fail_each_allocation(lab.proposal, expected))
  end)
end)
