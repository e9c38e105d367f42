local core = require "raft.core"
local pack, unpack = core.pack, core.unpack

local function hex(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local function bytes(text)
  return (text:gsub("%s", ""):gsub("%x%x", function(h) return string.char(tonumber(h, 16)) end))
end

---The same value, down to integers against floats, the sign of zero, and NaN.
local function same(a, b)
  if type(a) ~= type(b) or math.type(a) ~= math.type(b) then return false end
  if type(a) ~= "table" then
    return a == b and (a ~= 0 or math.type(a) == "integer" or 1 / a == 1 / b) or a ~= a and b ~= b
  end
  for k, v in pairs(a) do
    if not same(v, b[k]) then return false end
  end
  for k in pairs(b) do
    if a[k] == nil then return false end
  end
  return true
end

local function nested(depth)
  local value = {}
  for _ = 2, depth do value = { value } end
  return value
end

describe("packing", function()
  it("writes each value in one form", function()
    local cases = {
      { true, "c3" }, { false, "c2" },
      { 0, "00" }, { 127, "7f" }, { 128, "cc80" }, { 255, "ccff" }, { 256, "cd0100" }, { 65535, "cdffff" },
      { 65536, "ce00010000" }, { 0xffffffff, "ceffffffff" }, { 1 << 32, "cf0000000100000000" },
      { math.maxinteger, "cf7fffffffffffffff" },
      { -1, "ff" }, { -32, "e0" }, { -33, "d0df" }, { -128, "d080" }, { -129, "d1ff7f" }, { -32768, "d18000" },
      { -32769, "d2ffff7fff" }, { -(1 << 31), "d280000000" }, { -(1 << 31) - 1, "d3ffffffff7fffffff" },
      { math.mininteger, "d38000000000000000" },
      { 1.0, "cb3ff0000000000000" }, { -0.0, "cb8000000000000000" }, { math.huge, "cb7ff0000000000000" },
      { 0.1, "cb3fb999999999999a" },
      { "", "a0" }, { "a", "a161" }, { "\xff\0", "a2ff00" },
      { {}, "90" }, { { 1, 2.0 }, "9201cb4000000000000000" }, { { a = 1 }, "81a16101" },
      { { [0] = 1 }, "810001" }, { { [2] = true }, "8102c3" }, { { [1] = 1, [3] = 3 }, "8201010303" },
      { { 1, 2, x = 3 }, "8301010202a17803" },
    }
    for _, case in ipairs(cases) do
      assert.equal(case[2], hex(pack(case[1])))
      assert.is_true(same(case[1], unpack(pack(case[1]))), case[2])
    end
    assert.equal("c0", hex(pack(nil)))
  end)

  it("gives every length its shortest form, and reads it back", function()
    for size, head in pairs {
      [31] = "bf", [32] = "d920", [255] = "d9ff", [256] = "da0100", [65535] = "daffff", [65536] = "db00010000",
    } do
      local value = ("s"):rep(size)
      assert.equal(head, hex(pack(value):sub(1, #head // 2)))
      assert.is_true(value == unpack(pack(value)))
    end
    for size, heads in pairs {
      [15] = { "9f", "8f" }, [16] = { "dc0010", "de0010" }, [65535] = { "dcffff", "deffff" },
      [65536] = { "dd00010000", "df00010000" },
    } do
      local array, map = {}, {}
      for i = 1, size do
        array[i] = i
        map[-i] = i
      end
      assert.equal(heads[1], hex(pack(array):sub(1, #heads[1] // 2)))
      assert.equal(heads[2], hex(pack(map):sub(1, #heads[2] // 2)))
      assert.is_true(same(array, unpack(pack(array))))
      assert.is_true(same(map, unpack(pack(map))))
    end
  end)

  it("keeps integers and floats apart, in keys as Lua does", function()
    assert.equal("integer", math.type(unpack(pack(3))))
    assert.equal("float", math.type(unpack(pack(3.0))))
    assert.equal(pack { [1] = "x" }, pack { [1.0] = "x" })
    assert.is_true(same({ [1.5] = 1 }, unpack(pack { [1.5] = 1 })))
  end)

  it("writes one NaN, whatever bits the machine made", function()
    assert.equal("cb7ff8000000000000", hex(pack(0 / 0)))
    assert.equal(pack(0 / 0), pack(-(0 / 0)))
    local nan = unpack(pack(0 / 0))
    assert.is_true(nan ~= nan)
  end)

  it("gives the same bytes however a table was built", function()
    math.randomseed(11)
    local keys = { 1, 2, 3, -1, 1 << 40, 2.5, -2.5, true, false, "", "a", "b", "ab", ("k"):rep(300), "\0" }
    local expected
    for _ = 1, 200 do
      local t = {}
      for i = 1, math.random(0, 20) do t["gone" .. i] = i end
      for i = #keys, 2, -1 do
        local j = math.random(i)
        keys[i], keys[j] = keys[j], keys[i]
      end
      for _, k in ipairs(keys) do t[k] = tostring(k) end
      for i = 1, 20 do t["gone" .. i] = nil end
      expected = expected or pack(t)
      assert.is_true(expected == pack(t))
    end
  end)

  it("is an array for keys 1 to n also where Lua keeps them in its hash part", function()
    local t = {}
    for i = 100, 1, -1 do t[i] = i end
    local u = {}
    for i = 1, 100 do u[i] = i end
    assert.is_true(pack(t) == pack(u))
  end)

  it("is a map for anything else, however much of it looks like an array", function()
    local hole = { 1, 2, 3, 4 }
    hole[2] = nil
    local cases = { { { 1, 2, x = 3 }, "83 01 01 02 02 a178 03" }, { hole, "83 01 01 03 03 04 04" },
      { { 1, { 2 } }, "92 01 91 02" }, { { 1, [3] = 3 }, "82 01 01 03 03" }, { { 1, [1.5] = 2 }, false },
      { { 1, [-1] = 2 }, "82 01 01 ff 02" }, { { 1, [math.mininteger] = 2 }, false } }
    for _, case in ipairs(cases) do
      local packed = pack(case[1])
      if case[2] then assert.equal((case[2]:gsub(" ", "")), hex(packed)) end
      assert.is_true(same(case[1], unpack(packed)))
    end
    local deep = { 1, x = 2 }
    for _ = 1, 90 do deep = { 1, deep, x = 2 } end   -- twice the work at each level would never end
    assert.is_true(same(deep, unpack(pack(deep))))
  end)

  it("does not look at metatables", function()
    local function boom() error("called") end
    local t = setmetatable({ 1, 2 }, { __index = boom, __len = boom, __pairs = boom, __tostring = boom, __name = "T" })
    assert.equal("920102", hex(pack(t)))
  end)

  it("may hold the same table many times", function()
    local shared = { 1 }
    assert.equal("9291019101", hex(pack { shared, shared }))
  end)

  it("goes 100 deep and no deeper", function()
    assert.is_true(same(nested(100), unpack(pack(nested(100)))))
    assert.error_matches(function() pack(nested(101)) end, "nested more than 100 deep")
  end)

  it("reads back random values", function()
    math.randomseed(2024)
    local function scalar()
      local kind = math.random(7)
      if kind == 1 then return math.random(0) end
      if kind == 2 then return math.random(-300, 300) end
      if kind == 3 then return math.random() * 10.0 ^ math.random(-20, 20) end
      if kind == 4 then return math.random(2) == 1 end
      if kind == 5 then return (string.unpack("d", string.pack("j", math.random(0)))) end
      local s = {}
      for i = 1, math.random(0, 40) do s[i] = string.char(math.random(0, 255)) end
      return table.concat(s)
    end
    local function value(depth)
      if depth == 0 or math.random(3) == 1 then return scalar() end
      local t = {}
      for i = 1, math.random(0, 8) do
        local k = math.random(2) == 1 and i or scalar()
        if k == k then t[k] = value(depth - 1) end
      end
      return t
    end
    for _ = 1, 1500 do
      local v = value(3)
      local packed = pack(v)
      local got = unpack(packed)
      if not same(v, got) or pack(got) ~= packed then error("not the same: " .. hex(packed)) end
    end
  end)
end)

describe("packing what has no bytes", function()
  local function refuses(value, message)
    local ok, text = pcall(pack, value, "cmd")
    assert.is_false(ok)
    assert.matches(message, text, 1, true)
  end

  it("raises with the path to it", function()
    refuses(print, "cmd: a function cannot be packed")
    refuses({ items = { 1, 2, print } }, "cmd.items[3]: a function cannot be packed")
    refuses({ 1, 2, x = print }, "cmd.x: a function cannot be packed")
    refuses({ items = { 1, { x = io.stdout } } }, "cmd.items[2].x: a userdata cannot be packed")
    refuses({ [-3] = { coroutine.create(print) } }, "cmd[-3][1]: a thread cannot be packed")
    refuses({ ["two words"] = { [true] = { [1.5] = print } } }, 'cmd["two words"][true][1.5]: a function')
    refuses({ [("n"):rep(100)] = print }, 'cmd["' .. ("n"):rep(40) .. '"]: a function')
    assert.error_matches(function() pack { print } end, "value%[1%]: a function")
  end)

  it("raises for keys that are tables or functions", function()
    refuses({ a = { [{}] = 1 } }, "cmd.a: a table cannot be a key")
    refuses({ [print] = 1 }, "cmd: a function cannot be a key")
  end)

  it("raises for a table that holds itself, at the first place where it does", function()
    local t = { a = { b = {} } }
    t.a.b.c = t.a
    refuses(t, "cmd.a.b.c: a table that holds itself")
    local u = {}
    u[1] = u
    refuses(u, "cmd[1]: a table that holds itself")
  end)

  it("leaves nothing behind for the next call", function()
    local good, bad = { z = 1, a = { y = 2, b = 3 } }, { z = 1, a = { y = 2, b = { k = print } } }
    pack(("x"):rep(2 << 20)) -- so that the next call starts without a buffer
    local before = pack(good)
    pcall(pack, bad)
    core.mem_fail_at(0)
    for _ = 1, 1000 do pcall(pack, bad) end
    assert.equal(before, pack(good))
    assert.equal(0, core.mem_asked())
  end)

  it("raises when memory runs out, and works again afterwards", function()
    local value = {}
    for i = 1, 50 do value["k" .. i] = { ("v"):rep(i), n = { i } } end
    local expected, big, failed = pack(value), ("x"):rep(2 << 20), 0
    for n = 1, 100 do
      pack(big) -- so that the next call starts without a buffer
      core.mem_fail_at(n)
      local ok, got = pcall(pack, value)
      local asked = core.mem_asked()
      core.mem_fail_at(0)
      if ok then
        assert.is_true(asked < n)
        assert.is_true(got == expected)
        break
      end
      assert.matches("not enough memory", got)
      failed = failed + 1
    end
    assert.is_true(failed > 5 and failed < 100)
  end)
end)

describe("unpacking", function()
  local function refuses(data, message)
    local value, text, code = unpack(data)
    assert.is_nil(value)
    assert.equal("corrupt", code)
    assert.matches(message, text, 1, true)
  end

  it("reads all forms of MessagePack that Lua has values for, shortest or not", function()
    local cases = {
      { "cc01", 1 }, { "cd0001", 1 }, { "ce00000001", 1 }, { "cf0000000000000001", 1 },
      { "d001", 1 }, { "d0ff", -1 }, { "d1ffff", -1 }, { "d2ffffffff", -1 }, { "d3ffffffffffffffff", -1 },
      { "ca3fc00000", 1.5 }, { "d90161", "a" }, { "da000161", "a" }, { "db0000000161", "a" },
      { "c40161", "a" }, { "c5000161", "a" }, { "c60000000161", "a" },
      { "dc000101", { 1 } }, { "dd0000000101", { 1 } },
      { "de0001a16101", { a = 1 } }, { "df00000001a16101", { a = 1 } },
    }
    for _, case in ipairs(cases) do assert.is_true(same(case[2], unpack(bytes(case[1]))), case[1]) end
  end)

  it("refuses what is cut off anywhere", function()
    local data = pack { a = { 1, -300, 1 << 20, 1 << 40, 2.5 }, b = ("x"):rep(300), [7] = { { {} } }, c = true }
    assert.is_table(unpack(data))
    for size = 0, #data - 1 do refuses(data:sub(1, size), "cut off") end
  end)

  it("refuses what goes on after the value", function()
    refuses(pack { 1 } .. "\0", "left over at byte 2")
    refuses("\xc0\xc0", "left over")
  end)

  it("refuses keys that no table can have, or that stand twice", function()
    refuses(bytes "81 c0 01", "a key is nil")
    refuses(bytes "81 90 01", "a key is nil or a table")
    refuses(bytes "81 cb7ff8000000000000 01", "NaN")
    refuses(bytes "82 01 01 01 02", "twice")
    refuses(bytes "82 01 01 cb3ff0000000000000 02", "twice")
  end)

  it("refuses types and numbers that Lua has no value for", function()
    for _, code in ipairs { "c1", "c70000", "d40000", "d8" } do refuses(bytes(code), "no value for") end
    refuses(bytes "cf8000000000000000", "too large")
    refuses(bytes "cfffffffffffffffff", "too large")
  end)

  it("refuses what is nested more than 100 deep", function()
    assert.is_table(unpack(("\x91"):rep(99) .. "\x90"))
    refuses(("\x91"):rep(100) .. "\x90", "100 deep")
    refuses(("\x91"):rep(1000000), "100 deep")
    refuses(("\x81\x01"):rep(1000), "100 deep")
  end)

  it("believes no announced length beyond the data", function()
    for _, head in ipairs { "c6", "db", "dd", "df" } do
      for _, size in ipairs { "00000100", "7fffffff", "ffffffff" } do refuses(bytes(head .. size), "cut off") end
    end
  end)

  it("fills no table whose announced length the data cannot hold", function()
    local items = 1 << 18
    local data = "\xdd" .. string.pack(">I4", items + 1) .. ("\1"):rep(items)
    collectgarbage()
    collectgarbage "stop"
    local before = collectgarbage "count"
    refuses(data, "cut off at byte 5")
    local used = collectgarbage "count" - before
    collectgarbage "restart"
    assert.is_true(used < 1024, used)
  end)

  it("takes no more memory than the data can fill, though each level announces a lot", function()
    local size = 1 << 20
    local head = "\xdd" .. string.pack(">I4", size // 2)
    local bomb = head:rep(100) .. ("\xc0"):rep(size - 500)
    collectgarbage()
    collectgarbage "stop"
    local before = collectgarbage "count"
    local value = unpack(bomb)
    local used = collectgarbage "count" - before
    collectgarbage "restart"
    assert.is_nil(value)
    assert.is_true(used * 1024 < 40 * size, used)
  end)

  it("of garbage gives a value that packs again, or an error, never a crash", function()
    math.randomseed(5)
    local sample = pack { op = "set", key = "k", list = { 1, 2.5, "three", { four = -4 } } }
    local good = 0
    for i = 1, 20000 do
      local data
      if i % 2 == 0 then
        local at = math.random(#sample)
        data = sample:sub(1, at - 1) .. string.char(math.random(0, 255)) .. sample:sub(at + 1)
      else
        local list = {}
        for j = 1, math.random(0, 30) do list[j] = string.char(math.random(0, 255)) end
        data = table.concat(list)
      end
      local value, _, code = unpack(data)
      if code == nil then
        good = good + 1
        if not same(value, (unpack(pack(value)))) then error("not the same: " .. hex(data)) end
      end
    end
    assert.is_true(good > 100)
  end)
end)
