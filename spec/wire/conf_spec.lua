local wire = require("raft.core").wire
local lab = require "spec.wire.lab"

local function copy(fields)
  local c = {}
  for k, v in pairs(lab.conf) do c[k] = v end
  for k, v in pairs(fields or {}) do c[k] = v end
  return c
end

local function refused(bytes)
  local value, message, code = wire.conf_read(bytes)
  assert.is_nil(value)
  assert.equal("corrupt", code)
  assert.matches("configuration", message)
end

---The bytes of members { id, rights, address }, whatever they are.
local function bytes(next_id, members, count)
  local parts = { string.pack("<I8I1", next_id, count or #members) }
  for i, m in ipairs(members) do parts[i + 1] = string.pack("<I8I1I8s1", m[1], m[2], m[4] or 0, m[3]) end
  return table.concat(parts)
end

describe("a configuration", function()
  it("is read as it was written: who the members are, where, what each may, and which id is free", function()
    for _, conf in ipairs {
      lab.conf,
      copy { members = { { 1, "a:1" } }, voters = { 1 }, outgoing = {}, learners = {}, next_id = 2 },
      copy { members = { { 1, "a:1" }, { 2, "b:2" } }, voters = { 1 }, outgoing = {}, learners = { 2 }, next_id = -1 },
      copy { members = {}, voters = {}, outgoing = {}, learners = {}, next_id = 1 },
    } do
      assert.same(conf, wire.conf_read(wire.conf(conf)))
    end
  end)

  it("has room for fifteen members with the longest of addresses", function()
    local conf = { next_id = 1 << 62, members = {}, voters = {}, outgoing = {}, learners = {} }
    for i = 1, 15 do
      conf.members[i] = { (1 << 61) + i, ("h"):rep(255) }
      table.insert(i % 2 == 0 and conf.voters or conf.learners, (1 << 61) + i)
    end
    assert.same(conf, wire.conf_read(wire.conf(conf)))
  end)

  it("is refused when it is cut off anywhere, or something follows it", function()
    local whole = wire.conf(lab.conf)
    for size = 0, #whole - 1 do refused(whole:sub(1, size)) end
    refused(whole .. "\0")
  end)

  it("is refused when its members cannot be", function()
    assert(wire.conf_read(bytes(4, { { 1, 1, "a" }, { 3, 4, "b" } })))
    refused(bytes(4, { { 3, 1, "a" }, { 1, 4, "b" } }))            -- out of order
    refused(bytes(4, { { 1, 1, "a" }, { 1, 4, "b" } }))            -- twice
    refused(bytes(4, { { 0, 1, "a" } }))
    refused(bytes(3, { { 1, 1, "a" }, { 3, 1, "b" } }))            -- an id that was never given
    for _, rights in ipairs { 0, 5, 7, 8, 9, 10, 11, 13, 15, 16, 255 } do
      refused(bytes(4, { { 1, 1, "a" }, { 3, rights, "b" } }))
    end
    for _, rights in ipairs { 1, 2, 3, 4, 6, 12, 14 } do
      assert(wire.conf_read(bytes(4, { { 1, 1, "a" }, { 3, rights, "b" } })))
    end
    for _, address in ipairs { "", "a b", "a\nb", "a\0b", "\127" } do refused(bytes(4, { { 1, 1, address } })) end
    local many = {}
    for i = 1, 16 do many[i] = { i, 1, "a" } end
    refused(bytes(99, many))
    refused(bytes(99, many, 15))
    refused(bytes(99, many, 255))
  end)

  it("survives any damage: it is refused, or read as another one that can be", function()
    local whole, refusals = wire.conf(lab.conf), 0
    for bit = 0, #whole * 8 - 1 do
      local conf, _, code = wire.conf_read(lab.flip(whole, bit))
      if not conf then
        assert.equal("corrupt", code)
        refusals = refusals + 1
      end
    end
    assert.is_true(refusals > 100)
  end)

  it("answers lack of memory as a value", function()
    assert.equal(1, lab.fail_each_allocation(function() return wire.conf(lab.conf) end, wire.conf(lab.conf)))
  end)
end)
