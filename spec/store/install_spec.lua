-- A log and a snapshot together: installing one over the log, recovering with one, releasing what it covers.
local journal = require "spec.store.journal"

local function opened(options, seed, faults)
  return assert(journal.new(seed or 1, faults, options):open())
end

local function entries(n, prefix, size)
  local list = {}
  for i = 1, n do list[i] = prefix .. i .. ("."):rep(size or 0) end
  return list
end

local function reopen(j)
  j:crash()
  assert(j:open())
  return j
end

local function flip(bytes, offset)
  return bytes:sub(1, offset) .. string.char(bytes:byte(offset + 1) ~ 1) .. bytes:sub(offset + 2)
end

-- All but the files that match.
local function without(image, pattern)
  local copy = {}
  for path, bytes in pairs(image) do
    if not path:find(pattern) then copy[path] = bytes end
  end
  return copy
end

local function the_file(image, pattern)
  for path in pairs(image) do
    if path:find(pattern) then return path end
  end
end

local CONFIG = 4

describe("a log that is reset", function()
  it("goes on behind the snapshot, over whatever it held", function()
    for _, index in ipairs { 3, 10, 100 } do
      local j = opened()
      j:append(entries(10, "old "), { term = 2, vote = 1, entry_term = 2 })
      j:run()
      assert(j:publish { index = index, term = 5 })
      j:append({ "new 1", "new 2" }, { reset = index, reset_term = 5, term = 6, vote = 3, entry_term = 6 })
      assert.same({ nil, "io" }, { (j:read(1, 1)), select(3, j:read(1, 1)) })
      j:run()
      local data = j:read(index + 1, index + 2)
      assert.same({ "new 1", "new 2" }, { data[index + 1], data[index + 2] })
      local result, _, code = j:read(index, index)
      assert.same({ nil, "io" }, { result, code })
      reopen(j)
      assert(j:matches())
      assert.same({ index + 1, index + 2, 5, index, 6, 3 },
        { j.found.first, j.found.last, j.found.before, j.found.snapshot.index, j.found.term, j.found.vote })
      j:append({ "more" }, { entry_term = 7 })
      j:run()
      reopen(j)
      assert(j:matches())
    end
  end)

  it("is void at once for reading, and the reads that run find nothing", function()
    local j = opened()
    j:append(entries(10, "old "))
    j:run()
    assert(j:publish { index = 20, term = 5 })
    local read = assert(j.log:start_read(1, 5))
    j:append({}, { reset = 20, reset_term = 5 })
    j:run()
    local result, _, code = j.log:result(read)
    assert.same({ nil, "io" }, { result, code })
    assert.same({ 21, 20 }, { j.log:status().first, j.log:status().durable_last })
  end)

  it("keeps its order among appends that are queued", function()
    local j = opened()
    assert(j:publish { index = 20, term = 5 })
    j.disk:stall(true)
    j:append(entries(10, "old "))
    j:append({}, { truncate = 8 })
    j:append({ "a", "b" }, { reset = 20, reset_term = 5, entry_term = 5 })
    j:append({ "c" }, { truncate = 22, entry_term = 6 })
    j:append({}, { term = 9, vote = 2 })
    j.disk:stall(false)
    j:run()
    assert.equal(5, j.log:persisted())
    reopen(j)
    assert(j:matches())
    assert.same({ 21, 22, 9 }, { j.found.first, j.found.last, j.found.term })
    assert.same({ { start = 21, term = 5 }, { start = 22, term = 6 } }, j.found.runs)
  end)

  it("gives its segments back", function()
    local j = opened()
    for i = 1, 12 do j:append(entries(10, i .. " ", 2000)) end
    j:run()
    local before = j.log:status().segments
    assert.truthy(before > 3)
    assert(j:publish { index = 500, term = 5 })
    j:append({}, { reset = 500, reset_term = 5 })
    j:run()
    assert.equal(501, j:release(500))
    j:run()
    assert.truthy(j.log:status().segments <= 2)
    reopen(j)
    assert(j:matches())
    assert.equal(501, j.found.first)
  end)

  it("survives a crash at any operation of installing: the old log and snapshot, or the new ones", function()
    local old, between, new = 0, 0, 0
    for seed = 1, 4 do
      for operation = 1, 30 do
        local j = opened({ seal_after = 0.05 }, seed * 100 + operation, { torn = seed % 2 * 800 })
        for i = 1, 3 do j:append(entries(10, i .. " ", 1500), { term = 2, vote = 1, entry_term = 2 }) end
        j:run()
        assert(j:publish { index = 5, term = 2, id = 5 })
        j:run()
        j.disk:die(operation)
        if j:publish({ index = 40, term = 5, id = 40 }, { { 1, ("state "):rep(5000) } }) then
          j:append({ "new" }, { reset = 40, reset_term = 5, term = 6, vote = 3, entry_term = 6 })
          j:run(0.01)
          j.log:release(40)
          j:run(0.5)
        end
        local acknowledged = j.log:persisted() == 4
        j:crash()
        assert(j:open())
        if j.found.snapshot.index == 5 then
          assert.is_false(acknowledged)
          old = old + 1
        elseif j.found.last == 40 then  -- the snapshot is there, the log had not been told
          assert.is_false(acknowledged)
          assert.same({ 41, 5, 2 }, { j.found.first, j.found.before, j.found.term })
          j.base = { term = 2, vote = 1, last = 40, data = {} }
          j.appends = {}
          between = between + 1
        else
          assert.same({ 41, 41, 6 }, { j.found.first, j.found.last, j.found.term })
          new = new + 1
        end
        j.released = 40
        assert(j:matches())
        j:append({ "after" }, { entry_term = 7, term = 7, vote = 7 })
        j:run()
        reopen(j)
        assert(j:matches())
      end
    end
    assert.truthy(old > 10 and between > 5 and new > 10, ("%d %d %d"):format(old, between, new))
  end)

  it("is told from one that is damaged in any byte of what says so", function()
    local j = opened()
    j:append(entries(3, "old "))
    j:run()
    assert(j:publish { index = 40, term = 5 })
    j:append({ "new" }, { reset = 40, reset_term = 5, entry_term = 6 })
    j:run():close()
    local image = j:image()
    local path = "data/00000001.seg"
    local at = image[path]:find(("<I8I8"):pack(40, 5), 1, true) - 1
    assert.equal("RaBa", image[path]:sub(at - 79, at - 76))
    for offset = at - 80, at + 15 do
      local copy = without(image, "^$")
      copy[path] = flip(image[path], offset)
      local ok, message, code = journal.new(1, nil, nil, copy):open()
      assert.same({ nil, "corrupt" }, { ok, code })
      assert.truthy(message:find("damaged at offset " .. at - 80, 1, true), message)
    end
  end)

  it("survives crashes while it is made good for the snapshot, however often", function()
    local j = opened()
    for i = 1, 3 do j:append(entries(10, i .. " ", 1500), { entry_term = 2 }) end
    j:run()
    assert(j:publish { index = 40, term = 5 })
    j:crash()
    for operation = 1, 30 do
      j.disk:die(operation)
      j.log = nil
      local ok = pcall(j.open, j)
      j.disk:run(0.1)
      if ok and j.log then j:crash() else j.disk:crash() end
    end
    j.base, j.released, j.appends = { term = 0, vote = 0, last = 40, data = {} }, 40, {}
    assert(j:open())
    assert(j:matches())
  end)
end)

describe("recovery with a snapshot", function()
  -- Files with 30 entries, of term 2 to 20 and of term 4 then, and a snapshot.
  local function image_with(what)
    local j = opened()
    j:append(entries(20, "two "), { entry_term = 2 })
    j:append(entries(10, "four "), { entry_term = 4 })
    j:run()
    assert(j:publish(what))
    j:run():close()
    return j:image(), j
  end

  it("keeps the whole log where it agrees with the snapshot", function()
    local image, before = image_with { index = 25, term = 4 }
    local j = journal.new(1, nil, nil, image)
    j.base = before.base
    assert(j:open())
    assert(j:matches())
    assert.same({ 1, 30, 0, 25 }, { j.found.first, j.found.last, j.found.before, j.found.snapshot.index })
  end)

  it("starts the log behind a snapshot that is ahead of it, or of another term", function()
    for _, what in ipairs { { index = 31, term = 4 }, { index = 100, term = 9 }, { index = 25, term = 5 },
                            { index = 20, term = 4 }, { index = 30, term = 5 } } do
      local image = image_with(what)
      local j = journal.new(1, nil, nil, image)
      for round = 1, 3 do
        assert(j:open())
        assert.same({ what.index + 1, what.index, what.term, {} },
          { j.found.first, j.found.last, j.found.before, j.found.runs })
        local result, _, code = j:read(5, 5)
        assert.same({ nil, "io" }, { result, code })
        if round > 1 then j:run() end
        j:crash()
      end
    end
  end)

  it("does without a damaged newest one as long as the log has what it covered", function()
    local image, before = image_with { index = 25, term = 4 }
    local path = the_file(image, "%.snap$")
    for _, bytes in ipairs { flip(image[path], 200), "", image[path]:sub(1, -2) } do
      image[path] = bytes
      local j = journal.new(1, nil, nil, image)
      j.base = before.base
      assert(j:open())
      assert(j:matches())
      assert.equal(0, j.found.snapshot.index)
      assert.truthy(j.found.damaged:find(path .. ": damaged at offset", 1, true), j.found.damaged)
      j.base = { term = 0, vote = 0, last = 30, data = before.base.data }
      assert(j:publish { index = 26, term = 4 })
      j:run()
      assert.is_nil(table.concat(j.disk:files("data"), " "):find(path:match("[^/]+$"), 1, true))
    end
  end)

  ---An image with a sound snapshot of index 25 and a damaged one of 28; the path of that.
  local function with_damaged_newer()
    local image, newer = image_with { index = 25, term = 4 }, image_with { index = 28, term = 4 }
    local path = the_file(newer, "%.snap$")
    image[path] = flip(newer[path], 200)
    return image, path
  end

  it("takes the older one, when a damaged newer one has not replaced it yet", function()
    local image, path = with_damaged_newer()
    local j = journal.new(1, nil, nil, image)
    assert(j:open())
    assert.equal(25, j.found.snapshot.index)
    assert.truthy(j.found.damaged:find(path, 1, true))
    j:run()
    assert.truthy(table.concat(j.disk:files("data"), " "):find(path:match("[^/]+$"), 1, true))
  end)

  it("is not removed by what remembers a damaged one whose name it took", function()
    local image, path = with_damaged_newer()
    local j = journal.new(1, nil, nil, image)
    assert(j:open())
    assert(j:publish { index = 28, term = 4 })
    j:run()
    assert.truthy(table.concat(j.disk:files("data"), " "):find(path:match("[^/]+$"), 1, true))
    j:crash()
    assert(j:open())
    assert.same({ 28, "" }, { j.found.snapshot.index, j.found.damaged })
  end)

  it("refuses a log that begins behind it, naming what is missing", function()
    local j = opened()
    for i = 1, 12 do j:append(entries(10, i .. " ", 2000)) end
    j:run()
    j:release(100)
    j:run()
    local first = j.log:status().first
    assert.truthy(first > 50)
    j:close()
    local image = j:image()
    local path = the_file(image, "%.snap$")
    local whole = image[path]
    for offset = 0, #whole do
      image[path] = offset < #whole and flip(whole, offset) or nil
      local again = journal.new(1, nil, nil, image)
      local ok, message, code = again:open()
      assert.is_nil(ok)
      assert.truthy(code == "corrupt" or code == "foreign", code)
      if offset < #whole then assert.truthy(message:find(path, 1, true), message) end
      if code == "corrupt" then assert.truthy(message:find("begins with entry " .. first, 1, true), message) end
    end
  end)

  it("refuses a snapshot of another cluster", function()
    local image = image_with { index = 25, term = 4 }
    local path = the_file(image, "%.snap$")
    image[path] = journal.file { index = 25, term = 4, cluster = "other" }
    local ok, message, code = journal.new(1, nil, nil, image):open()
    assert.same({ nil, "foreign" }, { ok, code })
    assert.truthy(message:find(path, 1, true))
  end)

  it("refuses a directory whose identity is gone but not its snapshot", function()
    local image = without(image_with { index = 25, term = 4 }, "identity")
    local ok, _, code = journal.new(1, nil, nil, without(image, "%.seg")):open()
    assert.same({ nil, "corrupt" }, { ok, code })
  end)

  it("finds a log whose first segments are gone, and the term before it", function()
    local j = opened()
    for i = 1, 12 do j:append(entries(10, i .. " ", 2000), { entry_term = i }) end
    j:run()
    j:release(100)
    j:run()
    local first = j.log:status().first
    assert.truthy(first > 50 and first <= 101)
    reopen(j)
    assert(j:matches())
    assert.same({ first, (first - 2) // 10 + 1 }, { j.found.first, j.found.before })
  end)

  it("gives up a first entry whose predecessor's term went with a segment", function()
    local j = opened()
    j:append(entries(10, "old "), { entry_term = 3 })
    j:run(0.1)
    reopen(j)  -- without a seal: the log goes on in a new segment
    j:append(entries(5, "new "), { truncate = 8, entry_term = 4 })
    j:run()
    assert.equal(8, j:release(9))
    j:run()
    assert.equal(1, j.log:status().segments)
    reopen(j)
    assert(j:matches())
    assert.same({ 9, 4, 12 }, { j.found.first, j.found.before, j.found.last })
    assert.same({ { start = 9, term = 4 } }, j.found.runs)
  end)

  it("hands out the configurations behind the snapshot, and no others", function()
    local j = opened()
    local function conf(name, change)
      change = change or {}
      j.seq = j.seq + 1
      local first = change.truncate or j.last + 1
      local append = { seq = j.seq, first = first, truncate = change.truncate,
        entries = { { term = 1, data = name, type = CONFIG } } }
      assert.equal("ok", j.log:append(append))
      j.last = first
    end
    conf "one"                          -- 1
    j:append(entries(9, "entry "))      -- 2 .. 10
    conf "eleven"
    conf "twelve"
    conf("twelve again", { truncate = 12 })
    conf "thirteen"
    j:run()
    reopen(j)
    local function confs()
      local list = {}
      for i, c in ipairs(j.found.confs) do list[i] = c.index .. " " .. c.data end
      return table.concat(list, ", ")
    end
    assert.equal("1 one, 11 eleven, 12 twelve again, 13 thirteen", confs())
    assert(j:publish { index = 11, term = 1 })
    reopen(j)
    assert.equal("12 twelve again, 13 thirteen", confs())
    assert(j:publish { index = 12, term = 9 })
    reopen(j)
    assert.equal("", confs())
  end)

  it("tells how far it is", function()
    local j = opened { segment_bytes = 4 << 20 }
    for _ = 1, 12 do j:append { ("x"):rep(1 << 20) } end
    j:run(5)
    assert(j:publish({ index = 12, term = 1 }, { { 1, ("x"):rep(9 << 20) } }))
    reopen(j)
    assert.truthy(j.found.progress >= 4)
  end)
end)

describe("released segments", function()
  it("are only those that a snapshot covers, whatever was asked for", function()
    local j = opened()
    for i = 1, 12 do j:append(entries(10, i .. " ", 2000)) end
    j:run()
    assert.equal(1, j.log:release(120))
    assert(j:publish { index = 50, term = 1 })
    local first = j.log:release(120)
    assert.truthy(first > 20 and first <= 51)
    assert.equal(first, j.log:status().first)
  end)

  it("take with them what stops without a clean end have cost", function()
    local j = opened()
    for i = 1, 10 do
      j:append({ "entry " .. i })
      j:run(0.1)
      reopen(j)
    end
    assert.equal(10, j.log:status().segments)
    j:append { "last" }
    j:run()
    j:release(10)
    j:run()
    assert.truthy(j.log:status().segments <= 2)
    local files = #j.disk:files("data")
    for i = 1, 40 do
      for k = 1, 3 do j:append(entries(10, i .. "," .. k .. " ", 2000)) end
      j:run()
      if i % 7 == 0 then reopen(j) end
      j:release(j.last)
      j:run()
      assert.truthy(#j.disk:files("data") <= files + 3)
    end
    reopen(j)
    assert(j:matches())
  end)
end)
