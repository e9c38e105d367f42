if os.getenv "RAFT_BUILD" == "tsan" then return end -- one thread

local journal = require "spec.store.journal"

local BLOCK = 4096

-- A small generator of our own, so that a failing seed fails on every machine.
local function generator(seed)
  local state = seed * 2654435761 % 4294967296 + 1
  return function(below)
    state = (state * 6364136223846793005 + 1442695040888963407)
    return (state >> 33) % below
  end
end

local function entries(n, prefix, size)
  local list = {}
  for i = 1, n do
    local name = prefix .. i
    list[i] = name .. ("."):rep((size or 0) - #name)
  end
  return list
end

-- Where the text first stands in the image: path, offset from 0.
local function find(image, text)
  for path, bytes in pairs(image) do
    local at = bytes:find(text, 1, true)
    if at then return path, at - 1 end
  end
end

local function patch(bytes, offset, with)
  return bytes:sub(1, offset) .. with .. bytes:sub(offset + #with + 1)
end

local function flip(bytes, offset, bit)
  return patch(bytes, offset, string.char(bytes:byte(offset + 1) ~ (1 << bit)))
end

local function changed(image, path, bytes)
  local copy = {}
  for name, old in pairs(image) do copy[name] = old end
  copy[path] = bytes
  return copy
end

-- Two segments' worth of entries, ended in the way asked for: "close" or "crash".
local function written(ending, size)
  local j = assert(journal.new(1):open())
  for i = 1, 6 do
    j:append(entries(4, i .. ",", size or 4000), { term = i, vote = i % 3, entry_term = i })
    j:run(0.1)
  end
  j:run()
  if ending == "close" then j:close() else j:crash() end
  return j, j:image()
end

describe("a crash at any moment", function()
  local function append_something(j, random, n)
    local list, change = {}, {}
    for i = 1, random(4) do
      local size = random(20) == 0 and 70000 or random(3) == 0 and random(9000) or random(200)
      list[i] = n .. "," .. i .. ("."):rep(size)
    end
    change.entry_term = 1 + n // 10
    if random(5) == 0 then change.term, change.vote = n, random(4) end
    if random(6) == 0 and j.last > j.released then
      change.truncate = j.last - random(math.min(8, j.last - j.released)) + (random(5) == 0 and 1 or 0)
    end
    j:append(list, change)
  end

  local function release_something(j, random)
    local durable = j.log:status().durable_last
    local index = math.max(j.released, math.min(durable, j.last) - random(10))
    if index > 0 and index <= durable then j:release(index) end
  end

  local function live_and_die(seed, lives)
    local random = generator(seed)
    local j = journal.new(seed, { torn = seed % 4 * 300, disk_min_us = 50, disk_max_us = 3000 },
      { seal_after = 0.02, spares = 1 + seed % 2 })
    local n, torn = 0, 0
    for _ = 1, lives do
      assert(j:open())
      assert(j:matches())
      j.released = math.max(j.released, j.found.snapshot.index)  -- of a release whose end nobody saw
      if j.found.torn_bytes > 0 then torn = torn + 1 end
      if random(4) == 0 then j.disk:die(1 + random(60)) end
      for _ = 1, random(40) do
        n = n + 1
        append_something(j, random, n)
        for _ = 1, random(6) do j.disk:step() end
        if random(12) == 0 then release_something(j, random) end
        if random(25) == 0 then j:run(0.05) end
      end
      j:crash()
    end
    return torn
  end

  it("keeps all that was acknowledged, and brings nothing to life that was not appended or is void", function()
    local torn = 0
    for seed = 1, 150 do
      local ok, what = pcall(live_and_die, seed, 8)
      if not ok then error(("seed %d: %s"):format(seed, tostring(what))) end
      torn = torn + what
    end
    assert.truthy(torn > 5)
  end)

  it("while a directory is created leaves one that can be opened", function()
    for operation = 1, 40 do
      local j = journal.new(operation, { torn = 500 })
      j.disk:die(operation)
      if pcall(j.open, j) and j.log then j:append { "a" } end
      j.disk:run(1)
      if j.log then j:crash() else j.disk:crash() end
      j.epoch = 0
      assert(j:open())
      assert(j:matches())
    end
  end)

  it("while a directory is opened again loses nothing, however often it happens", function()
    local before, image = written("crash")
    local j = journal.new(1, { torn = 500 }, nil, image)
    j.base = before.base
    for operation = 1, 60 do
      j.disk:die(operation)
      j.log = nil
      local ok = pcall(j.open, j)
      j.disk:run(0.1)
      if ok and j.log then j:crash() else j.disk:crash() end
    end
    assert(j:open())
    assert(j:matches())
  end)

  it("twice in a row while a directory is opened, at any two operations, leaves one that can be opened", function()
    local before, image = written("close")
    local j = journal.new(1, nil, nil, image)
    assert(j:open())
    local operations = j.disk:operations()
    local function dies_twice(seed, first, second)
      j = journal.new(seed, { torn = 1000 }, nil, image)
      j.base = { term = before.base.term, vote = before.base.vote, last = before.base.last, data = before.base.data }
      for _, operation in ipairs { first, second } do
        j.disk:die(operation)
        pcall(j.open, j)
        j.disk:crash()
      end
      assert(j:open())
      assert(j:matches())
    end
    for first = 1, operations do
      for second = 1, operations do
        for seed = 1, 4 do dies_twice(seed, first, second) end
      end
    end
  end)
end)

describe("a failing file operation", function()
  it("is told or survived, whichever it is", function()
    local told, latched = 0, 0
    for n = 1, 120 do
      local j = journal.new(n, { torn = 300 })
      j.disk:fail(n)
      local ok, _, code = j:open()
      if not ok then
        assert.equal("io", code)
        told = told + 1
        assert(j:open())
      end
      for i = 1, 8 do
        j:append(entries(5, i .. ",", 3000))
        j:run(0.01)
        if i == 6 then
          local durable = math.min(20, j.log:status().durable_last)
          if durable > 0 then j:release(durable) end
        end
      end
      j:run(5)
      if j.log:failed() then latched = latched + 1 else assert.equal(8, j.log:persisted()) end
      j:close()
      j.disk:fail(0)
      assert(j:open())
      assert(j:matches())
    end
    assert.truthy(told > 5 and latched > 3)
  end)
end)

describe("a torn tail", function()
  -- The files before and after one more write of two blocks and a bit, and where that write is.
  local function torn_write()
    local j = written("close")
    assert(j:open())
    assert(j:matches())
    local before = j:image()
    j:append(entries(3, "tail ", 3000), { term = 9, vote = 1 })
    j:run(0.1):crash()
    local after = j:image()
    local path, at = find(after, "tail 1")
    return before, after, path, at // BLOCK * BLOCK, j.base
  end

  it("is cut at every byte to what was there before", function()
    local before, after, path, from, base = torn_write()
    local whole = after[path]
    local start = from
    while whole:byte(start + 1) == before[path]:byte(start + 1) do start = start + 1 end
    local last = 0
    for cut = start, from + 3 * BLOCK, 1 do
      if cut < start + 700 or cut % 97 == 0 then
        local bytes = whole:sub(1, cut) .. before[path]:sub(cut + 1)
        local j = journal.new(1, nil, nil, changed(before, path, bytes))
        assert(j:open())
        assert.truthy(j.found.last == 24 or j.found.last == 27 and j.found.last >= last)
        last = j.found.last
        assert.equal(last == 24 and 6 or 9, j.found.term)
        if last == 24 and cut > start + 40 then assert.truthy(j.found.torn_bytes > 0) end
      end
    end
    assert.equal(27, last)
    assert.equal(24 + 3, base.last)
  end)

  it("never comes to life again, whatever is written after it", function()
    local before, after, path, from, base = torn_write()
    for i = 25, base.last do base.data[i] = nil end
    base.last, base.term, base.vote = 24, 6, 0
    local bytes = patch(after[path], from + BLOCK, ("\0"):rep(BLOCK))  -- the middle is missing
    local j = journal.new(1, nil, nil, changed(before, path, bytes))
    j.base = base
    assert(j:open())
    assert.truthy(j.found.torn_bytes > 0)
    assert(j:matches())
    j:append(entries(2, "other ", 100))
    j:run():crash()
    local image = j:image()
    for _, tail in ipairs { bytes, after[path] } do  -- even if the missing piece should turn up
      local again = journal.new(1, nil, nil, changed(image, path, tail))
      again.base = j.base
      assert(again:open())
      assert(again:matches())
      assert.equal(26, again.found.last)
    end
  end)
end)

describe("damage to a log that was closed", function()
  it("of a bit anywhere is harmless or refused, naming file and offset", function()
    local before, image = written("close", 300)
    local random, refused, harmless = generator(1), 0, 0
    local function try(path, offset)
      local j = journal.new(1, nil, nil, changed(image, path, flip(image[path], offset, random(8))))
      local ok, message, code = j:open()
      if ok then
        j.base = { term = before.base.term, vote = before.base.vote, last = before.base.last,
          data = before.base.data }
        assert(j:matches(), path .. " " .. offset)
        harmless = harmless + 1
      else
        assert.equal("corrupt", code, message)
        assert.truthy(message:find(path, 1, true), message)
        if path:find("%.seg$") then assert.truthy(message:find("at offset %d"), message) end
        refused = refused + 1
      end
    end
    for path, bytes in pairs(image) do
      local used = #bytes
      while used > 0 and bytes:byte(used) == 0 do used = used - 1 end
      for offset = 0, math.min(used + 8, #bytes) - 1 do
        -- every byte of headers, and of the rest each few
        if offset < 160 or (offset >= BLOCK and (offset % 13 == 0 or offset < BLOCK + 700)) then try(path, offset) end
      end
    end
    assert.truthy(refused > 500 and harmless > 100)
  end)

  it("names the entries that may be lost", function()
    local _, image = written("close")
    local path, at = find(image, "2,3")
    local j = journal.new(1, nil, nil, changed(image, path, flip(image[path], at, 3)))
    local ok, message, code = j:open()
    assert.same({ nil, "corrupt" }, { ok, code })
    assert.truthy(message:find(path .. ": damaged at offset %d+ .*entries 5%.%.%d+"), message)
  end)

  it("is refused in the last batch too, because of the seal behind it", function()
    local _, image = written("close")
    local path, at = find(image, "6,4")
    local j = journal.new(1, nil, nil, changed(image, path, flip(image[path], at, 0)))
    local ok, message, code = j:open()
    assert.same({ nil, "corrupt" }, { ok, code })
    assert.truthy(message:find("entries 21..24", 1, true) or message:find("entries from 21 on", 1, true), message)
  end)

  it("is harmless in the seal itself", function()
    local before, image = written("close")
    local path, at = find(image, "6,4")
    local seal = assert(image[path]:find("RaBa", at, true)) - 1
    for offset = seal, seal + 79 do
      local j = journal.new(1, nil, nil, changed(image, path, flip(image[path], offset, offset % 8)))
      j.base = before.base
      assert(j:open())
      assert(j:matches())
    end
  end)

  it("is refused when a file is cut, empty or gone", function()
    local _, image = written("close")
    local paths, live = {}, 0
    for path in pairs(image) do paths[#paths + 1] = path end
    table.sort(paths)
    for _, path in ipairs(paths) do
      for _, bytes in ipairs { "", image[path]:sub(1, 20), image[path]:sub(1, -2), false } do
        local copy = changed(image, path, bytes or nil)
        local j = journal.new(1, nil, nil, copy)
        local ok, message, code = j:open()
        if path:find("%.seg$") and ok then  -- a spare: it holds nothing
          assert.equal(24, j.found.last)
        elseif path == "data/epoch" and ok then  -- its second copy is cut
          assert.equal(24, j.found.last)
        else
          assert.same({ nil, "corrupt" }, { ok, code })
          assert.truthy(message:find("data", 1, true))
          if path:find("%.seg$") then live = live + 1 end
        end
      end
    end
    assert.truthy(live >= 8)
  end)

  it("is refused when blocks are zero", function()
    local _, image = written("close")
    local refused = 0
    for path, bytes in pairs(image) do
      for offset = 0, #bytes - BLOCK, BLOCK do
        local zero = ("\0"):rep(BLOCK)
        if bytes:sub(offset + 1, offset + BLOCK) ~= zero and path:find("%.seg$") then
          local j = journal.new(1, nil, nil, changed(image, path, patch(bytes, offset, zero)))
          local ok, _, code = j:open()
          assert.same({ nil, "corrupt" }, { ok, code })
          refused = refused + 1
        end
      end
    end
    assert.truthy(refused > 20)
  end)
end)

describe("damage to a log that was not closed", function()
  local function damage_each(size)
    local j = assert(journal.new(1):open())
    for i = 1, 9 do  -- batches of all alignments
      j:append(entries(1, i .. ",", size + 8 * i), { term = i, entry_term = i })
      j:run(0.1)
    end
    j:crash()
    local image = j:image()
    for i = 1, 9 do
      local path, at = find(image, i .. ",1")
      for offset = at - 160, at, 3 do
        local damaged = journal.new(1, nil, nil, changed(image, path, flip(image[path], offset, i % 8)))
        local ok, message, code = damaged:open()
        if i < 9 then
          assert.same({ nil, "corrupt" }, { ok, code })
          assert.truthy(message:find("entries " .. i .. "..", 1, true) or message:find("entries from " .. i, 1, true))
        else  -- the window that remains: the last batch, when no seal was written
          assert.same({ 8, 8 }, { damaged.found.last, damaged.found.term })
        end
      end
    end
  end

  it("is refused wherever a later batch proves that it was durable", function()
    damage_each(101)
    damage_each(109)
  end)

  it("is refused in the last batch too once the log was idle", function()
    local j = assert(journal.new(1, nil, { seal_after = 1 }):open())
    j:append(entries(3, "entry ", 500))
    j:run(3):crash()
    local image = j:image()
    local path, at = find(image, "entry 3")
    local damaged = journal.new(1, nil, nil, changed(image, path, flip(image[path], at, 3)))
    local ok, _, code = damaged:open()
    assert.same({ nil, "corrupt" }, { ok, code })
  end)

  it("in one copy of a segment's header is mended", function()
    local before, image = written("crash")
    local path = find(image, "1,1")
    for _, order in ipairs { { 60, 2048 + 60 }, { 2048 + 60, 60 } } do
      local j = journal.new(1, nil, nil, changed(image, path, flip(image[path], order[1], 1)))
      j.base = before.base
      assert(j:open())
      assert(j:matches())
      j:crash()
      local mended = j:image()
      local again = journal.new(1, nil, nil, changed(mended, path, flip(mended[path], order[2], 1)))
      assert(again:open())
      again.base = before.base
      assert(again:matches())
    end
  end)

  it("in one copy of a spare's header is mended, before the write that takes the spare is torn in the other", function()
    local j = assert(journal.new(1):open())
    j:append { "a" }
    j:run():close()
    local image, spare = j:image(), nil
    for path, bytes in pairs(image) do
      if path:find("%.seg$") and bytes:byte(17) == 1 then spare = path end
    end
    for _, order in ipairs { { 60, 2048 + 60 }, { 2048 + 60, 60 } } do
      local damaged = journal.new(1, nil, nil, changed(image, spare, flip(image[spare], order[1], 1)))
      assert(damaged:open())
      damaged:crash()
      local mended = damaged:image()
      assert.is_true(mended[spare]:sub(1, BLOCK) == image[spare]:sub(1, BLOCK))
      assert(journal.new(1, nil, nil, changed(mended, spare, flip(mended[spare], order[2], 1))):open())
    end
  end)
end)

describe("garbage in every file", function()
  it("never crashes an opening", function()
    local _, image = written("crash", 300)
    local random = generator(7)
    for _ = 1, 300 do
      local copy = {}
      for path, bytes in pairs(image) do
        for _ = 1, random(3) do
          local at = random(2) == 0 and random(#bytes) or random(math.min(#bytes, 3 * BLOCK))
          local junk = {}
          for i = 1, 1 + random(40) do junk[i] = string.char(random(256)) end
          bytes = patch(bytes, math.min(at, #bytes - #junk), table.concat(junk))
        end
        copy[path] = bytes
      end
      local j = journal.new(1, nil, nil, copy)
      local ok, message = j:open()
      assert.truthy(ok or #message > 10)
    end
  end)
end)
