-- Every operation on files fails once, with each error, and every allocation: the log says so, or does without; and
-- what it has acknowledged is there after the next start.
local core = require "raft.core"
local journal = require "spec.store.journal"

local OPTIONS = { seal_after = 0.05, spares = 1 }

local function entries(n, prefix, size)
  local list = {}
  for i = 1, n do list[i] = prefix .. i .. ("."):rep(size) end
  return list
end

local function append(j, ...)
  if j:append(...) == "memory" then assert.equal("ok", j:append(...)) end
end

-- What a log lives through, as steps that a failure may come into. Each leaves time for what it has begun.
local STEPS = {
  { "append", function(j)
    append(j, entries(3, "a", 3000), { term = 1, vote = 2 })
    append(j, entries(2, "b", 10), { entry_term = 1 })
    j:run(0.02)
  end },
  { "seal", function(j) j:run(0.5) end },
  { "truncate", function(j)
    append(j, entries(2, "c", 500), { truncate = j.last, term = 2, vote = 3, entry_term = 2 })
    j:run(0.02)
  end },
  { "turn to another segment", function(j)
    for i = 1, 9 do
      append(j, entries(4, "d" .. i, 6000), { entry_term = 2 })
      j:run(0.02)
    end
  end },
  { "prepare a larger one", function(j)
    append(j, entries(1, "large", 90000), { entry_term = 2 })
    j:run(3)
  end },
  { "release", function(j)
    j.released = math.max(0, math.min(j.log:status().durable_last, j.last) - 3)
    j.log:release(j.released)
    j:run(3)
  end },
  { "remember", function(j)
    j.log:remember(2, 4711)
    j:run(0.1)
  end },
}

---Reads everything; tells of an error, which must be one of those planted.
local function read_all(j, seen)
  local status = j.log:status()
  if status.durable_last < status.first then return end
  local ok, data, message, code = pcall(j.read, j, status.first, status.durable_last)
  if not ok then message, code = data, "memory" end  -- the read could not even be started
  if ok and data then return end
  assert.truthy(code == seen.code, message)
  seen.read = seen.read + 1
  assert(j:read(status.first, status.durable_last))  -- the failure was one of reading alone
end

---Lives with the n-th operation failing with this error, or the n-th allocation ("memory"). Returns false when there
---are not so many.
local function live(n, code, image, seen)
  local j = journal.new(n, { disk_min_us = 100, disk_max_us = 100 }, OPTIONS, image and image.files)
  if image then
    j.base = { term = 0, vote = 0, last = 20, data = table.move(image.data, 1, 20, 1, {}) }
  end
  local before = j.disk:operations()
  if code == "memory" then core.mem_fail_at(n) else j.disk:fail(n, code) end
  local ok, message, got = j:open()
  if not ok then
    assert.equal(code, got, message)
    assert.truthy(message:find("memory", 1, true)
      or message:find("planned failure", 1, true) and message:find("data", 1, true), message)
    seen.open = seen.open + 1
    assert(j:open())
  end
  assert.equal(image and 20 or 0, j.found.last)
  for _, step in ipairs(STEPS) do
    step[2](j)
    read_all(j, seen)
  end
  j:run(5)
  local peers, status = j.log:remembered()
  if peers == 0 then status = code end  -- it was not taken
  if status == "ok" then assert.equal(4711, j.log:peer(2))
  else
    assert.equal(code, status)
    seen.remember = seen.remember + 1
    assert.equal(0, j.log:peer(2))
  end
  if j.log:failed() then
    seen.latched = seen.latched + 1
    assert.is_true(j.log:status().failed)
    local persisted = j.log:persisted()
    j:append { "swallowed" }
    j:run()
    assert.equal(persisted, j.log:persisted())
    j.appends[#j.appends] = nil
  else
    assert.equal(j.seq, j.log:persisted())
    assert.is_true(j.log:status().has_room)
  end
  j:close()
  local failed = (code == "memory" and core.mem_asked() or j.disk:operations() - before) >= n
  j.disk:fail(0)
  core.mem_fail_at(0)
  assert(j:open())
  assert(j:matches())
  if status == "ok" then assert.equal(4711, j.log:peer(2)) end
  j:append { "and goes on" }
  j:run()
  assert.equal(j.seq, j.log:persisted())
  return failed
end

local function each(code, image, stride)
  local seen = { open = 0, latched = 0, read = 0, remember = 0, runs = 0, code = code }
  local n = 1
  while live(n, code, image, seen) do
    n = n + (stride or 1)
    seen.runs = seen.runs + 1
  end
  print(("%s: %d runs: %d refused to open, %d latched, %d reads failed, %d peers not remembered"):format(code,
    seen.runs, seen.open, seen.latched, seen.read, seen.remember))
  return seen
end

local function each_error(image)
  for _, code in ipairs { "io", "full" } do
    local seen = each(code, image)
    assert.is_true(seen.open > 10 and seen.latched > 10 and seen.read > 10 and seen.remember > 2)
  end
end

local function old_log()
  local j = assert(journal.new(1, nil, OPTIONS):open())
  for i = 1, 5 do j:append(entries(4, "old" .. i, 5000)) end
  j:run():crash()
  assert.equal(20, j.base.last)
  return { files = j:image(), data = j.base.data }
end

describe("an operation on files that fails once, whichever it is and with whatever error,", function()
  it("loses nothing that was acknowledged in a new directory", function() each_error() end)

  it("loses nothing in one that holds a log already", function() each_error(old_log()) end)
end)

describe("an allocation that fails once, whichever it is,", function()
  local stride = (os.getenv("RAFT_BUILD") or "plain") ~= "plain" and 17 or 1

  it("is told, or waited for, and loses nothing", function()
    for _, image in ipairs { false, old_log() } do
      local seen = each("memory", image, stride)
      assert.is_true((stride > 1 or seen.open > 5) and seen.runs > 300 // stride)
      assert.equal(0, seen.latched)
    end
  end)
end)
