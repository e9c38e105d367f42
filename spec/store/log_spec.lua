local core = require "raft.core"
local journal = require "spec.store.journal"

local MIB = 1 << 20

local function opened(options, seed, faults)
  return assert(journal.new(seed or 1, faults, options):open())
end

-- n entries named after their place.
local function entries(n, prefix, size)
  local list = {}
  for i = 1, n do
    local name = (prefix or "entry ") .. i
    list[i] = name .. ("."):rep((size or 0) - #name)
  end
  return list
end

describe("a log", function()
  it("gives back after a restart what was appended, with term and vote", function()
    local j = opened()
    assert.is_true(j.found.created)
    assert.equal(0, j.found.last)
    j:append(entries(5), { term = 3, vote = 2, entry_term = 2 })
    j:append(entries(5, "later "), { entry_term = 3 })
    j:run():close()
    assert(j:open())
    assert.is_false(j.found.created)
    assert.same({ 10, 1, 3, 2, 0 }, { j.found.last, j.found.first, j.found.term, j.found.vote, j.found.torn_bytes })
    assert.same({ { start = 1, term = 2 }, { start = 6, term = 3 } }, j.found.runs)
    assert(j:matches())
  end)

  it("acknowledges nothing before it is written, and everything after", function()
    local j = opened()
    j:run()
    j.disk:stall(true)
    j:append { "a" }
    j:append { "b" }
    j:run(5)
    assert.equal(0, j.log:persisted())
    assert.is_true(j.log:status().writing)
    j.disk:stall(false)
    j:run()
    assert.equal(2, j.log:persisted())
    assert.is_false(j.log:status().writing)
  end)

  it("tells how long its durable writes took: the last one, and the longest but one of a hundred", function()
    local j = opened()
    local function write(seconds)
      j.disk:stall(seconds > 0)
      j:append { "x" }
      j:run(seconds)
      j.disk:stall(false)
      j:run(0.05)
    end
    local function told()
      local status = j.log:status()
      return { status.write_us_last >= 500000, status.write_us_p99 >= 500000 }
    end
    assert.same({ 0, 0 }, { j.log:status().write_us_last, j.log:status().write_us_p99 })
    write(0.5)
    assert.same({ true, true }, told())
    for _ = 1, 120 do write(0) end
    assert.same({ false, false }, told())
    write(0.5)
    assert.same({ true, false }, told())
    write(0.5)
    assert.same({ true, true }, told())
    for _ = 1, 50 do write(0) end
    assert.same({ false, true }, told())
  end)

  it("writes once for all that was appended while a write was in flight", function()
    local j = opened()
    j:run()
    for i = 1, 100 do j:append { "entry " .. i } end
    j:run(0.1)
    assert.equal(100, j.log:persisted())
    assert.equal(2, j.log:status().writes)
  end)

  it("stores term and vote without an entry", function()
    local j = opened()
    j:append({}, { term = 7, vote = 3 })
    j:run():crash()
    assert(j:open())
    assert.same({ 7, 3, 0 }, { j.found.term, j.found.vote, j.found.last })
    j:append({}, { term = 8, vote = 0 })
    j:run():crash()
    assert(j:open())
    assert.same({ 8, 0 }, { j.found.term, j.found.vote })
  end)

  it("goes over many segments, and goes on after each restart", function()
    local j = opened()
    for round = 1, 6 do
      for i = 1, 10 do j:append(entries(3, round .. "," .. i .. ",", 3000)) end
      if round % 2 == 0 then j:run():close() else j:run():crash() end
      assert(j:open())
      assert(j:matches())
      assert.equal(round * 30, j.found.last)
    end
    assert.truthy(j.log:status().segments > 8)
  end)

  it("gives back entries and batches of all sizes: smaller and larger than what is read at once", function()
    local options = { segment_bytes = 4 * MIB }
    local j = opened(options)
    for round = 1, 3 do
      for _, size in ipairs { 10, 150000, 3 * MIB // 2, 70000, 524288, 500 } do
        j:append(entries(2, "round " .. round .. ", ", size))
        j:run(0.5)
      end
      j:append(entries(3000, "small, " .. round .. ", ", 30))
      j:run(0.5)
    end
    assert(j:matches())
    for _ = 1, 2 do
      j:run():close()
      assert(j:open())
      assert.equal(3 * 3012, j.found.last)
      local list = assert(j:read(1, j.found.last))
      assert.same({ 0, 3 * MIB // 2, "small, 3, 3000" }, { #list - j.found.last, #list[5], list[#list]:match "^[^.]+" })
    end
  end)

  it("cuts one append of many entries into several batches and acknowledges it with the last", function()
    local j = opened { segment_bytes = 4 * MIB }
    j:append(entries(40, "large ", 100000), { term = 2, vote = 1 })
    repeat j.disk:step() until j.log:status().writes == 1
    assert.equal(0, j.log:persisted())
    j:run():crash()
    assert(j:open())
    assert(j:matches())
    assert.equal(40, j.found.last)
  end)

  it("makes a larger segment for an entry that fits into no other", function()
    local j = opened()
    j:append { "small", ("x"):rep(200000), "small again", ("y"):rep(16 * MIB) }
    j:run(5)
    assert.equal(1, j.log:persisted())
    assert.truthy(j.log:status().bytes > 16 * MIB)
    j:crash()
    assert(j:open())
    assert(j:matches())
    j:append(entries(30, "after ", 10000))
    j:run(5)
    j:release(4)
    j:run(5)
    assert.truthy(j.log:status().bytes < MIB)
  end)

  it("writes a seal when idle and when closing, and then goes on in the same segment", function()
    local j = opened { seal_after = 0.5 }
    j:append { "a" }
    j:run(0.2)
    assert.equal(1, j.log:status().writes)
    j:run(5)
    assert.equal(2, j.log:status().writes)
    j:crash()
    assert(j:open())
    j:append { "b" }
    j:run(0.2)
    assert.equal(1, j.log:status().segments)
    j:close()
    assert(j:open())
    j:append { "c" }
    j:run(0.2)
    assert.equal(1, j.log:status().segments)
    j:crash()
    assert(j:open())
    assert(j:matches())
  end)

  it("goes on in a new segment after a stop without a seal", function()
    local j = opened()
    j:append { "a" }
    j:run(0.2):crash()
    assert(j:open())
    j:append { "b" }
    j:run(0.2)
    assert.equal(2, j.log:status().segments)
  end)

  it("has a larger epoch in each life, also when the wall clock does not move", function()
    local j, before = journal.new(1), 0
    for _ = 1, 5 do
      assert(j:open())
      assert.truthy(j.found.epoch > before)
      before = j.found.epoch
      j:crash()
    end
  end)
end)

describe("truncation", function()
  it("voids entries for good, whether they are written, in flight or queued", function()
    local j = opened()
    j:append(entries(10, "old "))
    j:run()
    j:append(entries(10, "older "))
    j:append(entries(3, "queued "))
    j:append(entries(4, "new "), { truncate = 6, entry_term = 2 })
    j:append(entries(2, "newest "), { truncate = 8, entry_term = 3 })
    assert.equal(5, j.log:status().durable_last)
    j:run()
    assert.equal(9, j.log:status().durable_last)
    assert.same({ [4] = "old 4", [5] = "old 5", [6] = "new 1", [7] = "new 2", [8] = "newest 1", [9] = "newest 2" },
      j:read(4, 9))
    j:crash()
    assert(j:open())
    assert.same({ { start = 1, term = 1 }, { start = 6, term = 2 }, { start = 8, term = 3 } }, j.found.runs)
    assert(j:matches())
  end)

  it("alone is stored too", function()
    local j = opened()
    j:append(entries(10))
    j:append({}, { truncate = 4 })
    j:run():crash()
    assert(j:open())
    assert.equal(3, j.found.last)
    j:append { "other" }
    j:run()
    assert.same({ [3] = "entry 3", [4] = "other" }, j:read(3, 4))
  end)

  it("reaches into older segments", function()
    local j = opened()
    for i = 1, 10 do j:append(entries(10, i .. " ", 2000)) end
    j:run()
    assert.truthy(j.log:status().segments > 3)
    j:append(entries(10, "new "), { truncate = 15, entry_term = 2 })
    j:run()
    assert.same({ [14] = ("2 4"):sub(1) .. ("."):rep(1997), [15] = "new 1", [16] = "new 2" }, j:read(14, 16))
    j:crash()
    assert(j:open())
    assert(j:matches())
    assert.equal(24, j.found.last)
  end)

  it("hides what it voids at once, also when that becomes durable only then", function()
    local j = opened()
    j:append(entries(10, "old "))
    j:run()
    j:append(entries(10, "in flight "))
    j:append(entries(2, "new "), { truncate = 6 })
    local writes = j.log:status().writes
    while j.log:status().writes == writes do
      j.disk:step()
      assert.equal(5, j.log:status().durable_last)
    end
    local id = j.log:start_read(6, 6)
    j:run()
    assert.is_nil((j.log:result(id)))
  end)

  it("cancels a read of what it voids, and no other", function()
    local j = opened()
    j:append(entries(10))
    j:run()
    local void, kept = j.log:start_read(1, 8), j.log:start_read(1, 4)
    j:append({ "new" }, { truncate = 5 })
    local later = j.log:start_read(5, 5)
    j:run()
    local result, message, code = j.log:result(void)
    assert.same({ nil, "io" }, { result, code })
    assert.truthy(message:find("entries from 1 on are not", 1, true))
    assert.equal(4, #j.log:result(kept))
    assert.is_nil((j.log:result(later)))
    assert.same({ [5] = "new" }, j:read(5, 5))
  end)
end)

describe("a range", function()
  it("is read from any place, as many bytes as wanted but at least one entry", function()
    local j = opened()
    for i = 1, 100 do j:append(entries(i % 4, i .. " ", i * 37)) end
    j:run()
    local base = j:settle()
    for first = 1, base.last, 7 do
      for _, most in ipairs { 1, 5000, 1 << 30 } do
        local last = math.min(base.last, first + 11)
        local data = assert(j:read(first, last, most))
        for i = first, last do assert.equal(base.data[i], data[i]) end
      end
    end
    local id = j.log:start_read(1, base.last, 1000)
    j:run()
    local size = 0
    local result = j.log:result(id)
    for _, entry in ipairs(result) do size = size + 80 + #entry.data end
    assert.truthy(size <= 1000 and #result > 1)
  end)

  it("is checked again on each reading", function()
    local j = opened()
    j:append(entries(3, "entry ", 500))
    j:run()
    local path = "data/00000001.seg"
    local bytes = j.disk:file(path)
    local at = assert(bytes:find("entry 2", 1, true))
    j.disk:put(path, bytes:sub(1, at) .. "N" .. bytes:sub(at + 2))
    assert.same({ "entry 1" .. ("."):rep(493) }, j:read(1, 1))
    local result, message, code = j:read(1, 3)
    assert.same({ nil, "corrupt" }, { result, code })
    assert.truthy(message:find("data/00000001.seg: damaged at offset %d+ .*entries 1..3"))
  end)

  it("in a file that has been cut meanwhile is refused, naming the file and the place", function()
    local j = opened()
    j:append(entries(3, "entry ", 3000))
    j:run()
    local path = "data/00000001.seg"
    local bytes = j.disk:file(path)
    local at = assert(bytes:find("entry 3", 1, true))
    j.disk:put(path, bytes:sub(1, at))
    local result, message, code = j:read(1, 3)
    assert.same({ nil, "corrupt" }, { result, code })
    assert.truthy(message:find(("%s: damaged at offset %d"):format(path, at), 1, true), message)
  end)

  it("that is not durable yet is not given", function()
    local j = opened()
    j:append { "a" }
    j:run()
    j.disk:stall(true)
    j:append { "b" }
    local both, second = j.log:start_read(1, 2), j.log:start_read(2, 2)
    j.disk:stall(false)
    j:run()
    assert.equal(1, #j.log:result(both))
    assert.same({ nil, "io" }, { (j.log:result(second)), select(3, j.log:result(second)) })
  end)
end)

describe("released segments", function()
  local function filled()
    local j = opened()
    for i = 1, 12 do j:append(entries(10, i .. " ", 2000)) end
    return j:run()
  end

  it("are used again, and their old content never comes back", function()
    local j = filled()
    local before = j.log:status()
    for round = 1, 5 do
      local middle = j.last - 40
      j:release(middle)
      assert.truthy(j.log:status().first <= middle + 1)
      for i = 1, 8 do j:append(entries(10, round .. "," .. i .. " ", 2000)) end
      j:run():crash()
      assert(j:open())
      assert(j:matches())
    end
    assert.truthy(j.log:status().segments <= before.segments + 5)
    assert.truthy(#j.disk:files("data") <= before.segments + 5 + 2 + 3)
  end)

  local function segment_files(j)
    local names = {}
    for _, name in ipairs(j.disk:files("data")) do if name:find("%.seg$") then names[#names + 1] = name end end
    return names
  end

  -- n segments of log, and what came before is let go.
  local function turn(j, n)
    for i = 1, n do j:append(entries(10, i .. " ", 5500)) end
    j:run()
    j:release(j.last)
    return j:run(5)
  end

  it("become as many spares as the log fills until the next release: no file is made any more, or removed", function()
    local j = opened()
    for _ = 1, 4 do turn(j, 12) end
    local files = segment_files(j)
    for _ = 1, 5 do
      turn(j, 12)
      assert.same(files, segment_files(j))
    end
    j:crash()
    assert(j:open())
    turn(j, 12)
    assert.same(files, segment_files(j))
  end)

  it("are kept less and less where the log has become calmer", function()
    local j = opened()
    for _ = 1, 2 do turn(j, 12) end
    assert.truthy(j.log:status().spares >= 12)
    for _ = 1, 12 do turn(j, 2) end
    assert.truthy(j.log:status().spares <= 5)
  end)

  it("are not hoarded, however much is let go at once", function()
    local j = opened()
    turn(j, 60)
    assert.equal(2 + 32, j.log:status().spares)
  end)

  it("are not kept where room is short: a snapshot needs it", function()
    local j = opened()
    for _ = 1, 2 do turn(j, 12) end
    assert.truthy(#segment_files(j) > 10)
    j.disk:fill(true)
    j:append(entries(10, "one more segment ", 5500))
    j:run(5)
    assert.equal(2, j.log:status().spares)
    assert.equal(j.log:status().segments + 2, #segment_files(j))
    assert.is_true(j.log:status().has_room)
  end)

  it("get another salt with each use", function()
    local j, seen, uses = filled(), {}, 0
    for _ = 1, 4 do
      for path, bytes in pairs(j:image()) do
        local state, number, salt = ("<I4"):unpack(bytes, 17), bytes:sub(57, 64), bytes:sub(65, 72)
        if path:find("%.seg$") and state == 2 then
          if not seen[salt] then uses = uses + 1 end
          assert.truthy(not seen[salt] or seen[salt] == number)
          seen[salt] = number
        end
      end
      j:release(j.last)
      for i = 1, 8 do j:append(entries(10, i .. " ", 2000)) end
      j:run()
    end
    assert.truthy(uses > 10)
  end)

  it("are kept while the only newer one is not durable: it would hold term and vote alone", function()
    for seed = 1, 20 do
      local j = opened(nil, seed)
      j:append(entries(3, "large ", 14000), { term = 5, vote = 2 })
      j:run()
      assert(j:publish { index = 3, term = 1, id = 1 })
      j.disk:stall(true)
      j:append(entries(1, "next ", 14000))
      j:release(3)
      assert.equal(2, j.log:status().segments)
      j:run(0.1)
      j:crash()
      j.disk:stall(false)
      assert(j:open())
      assert(j:matches())
      assert.equal(5, j.found.term)
    end
  end)

  it("go in order, whichever operation on them fails or is the last", function()
    for operation = 1, 24 do
      for _, how in ipairs { "fail", "die" } do
        local j = filled()
        j:release(110)
        j.disk[how](j.disk, operation)
        j:run(how == "fail" and 3 or 0.5)
        local segments = j.log:status().segments
        j:crash()
        assert(j:open())
        assert(j:matches())
        if how == "fail" then assert.equal(segments, j.log:status().segments) end
      end
    end
  end)

  it("are no longer read", function()
    local j = filled()
    j:release(60)
    local first = j.log:status().first
    assert.truthy(first > 1 and first <= 61)
    local result, _, code = j:read(1, 3)
    assert.same({ nil, "io" }, { result, code })
    assert.truthy(j:read(first, first))
  end)

  it("leave a log that is empty at its place", function()
    local j = filled()
    j:close()
    assert(j:open())
    j:release(120)
    j:append({ "a" })
    j:run():crash()
    assert(j:open())
    assert.equal(121, j.found.last)
    for i = 1, 8 do j:append(entries(10, i .. " ", 2000)) end
    j:run()
    j:release(j.last)
    j:run():close()
    assert(j:open())
    assert.equal(201, j.found.last)
    assert.equal(1, j.log:status().segments)
  end)
end)

describe("a disk without room", function()
  it("refuses a new directory", function()
    local j = journal.new(1)
    j.disk:fill(true)
    local ok, message, code = j:open()
    assert.same({ nil, "full" }, { ok, code })
    assert.truthy(message:find("no space left"))
    j.disk:fill(false)
    assert(j:open())
  end)

  it("stops proposals before the log is full, keeps votes going, and is left behind without a restart", function()
    local j = opened()
    j:run()
    j.disk:fill(true)
    local n = 0
    repeat
      j:append(entries(1, "entry ", 3000))
      j:run(0.01)
      n = n + 1
      assert.truthy(n < 100)
    until not j.log:status().has_room
    assert.equal(1, j.log:status().room_changes)
    local accepted = j.seq
    j:append(entries(4, "accepted before ", 3000))
    j:append({}, { term = 9, vote = 2 })
    j:run()
    assert.equal(accepted + 2, j.log:persisted())
    for _ = 1, 10 do j:append(entries(1, "too many ", 3000)) end
    local stuck = j.seq
    j:run(5)
    assert.truthy(j.log:persisted() < stuck)
    assert.is_nil(j.log:failed())
    j.disk:fill(false)
    j:run(5)
    assert.equal(stuck, j.log:persisted())
    assert.is_true(j.log:status().has_room)
    assert.equal(2, j.log:status().room_changes)
    j:crash()
    assert(j:open())
    assert(j:matches())
  end)

  it("keeps room for votes at the end of a segment", function()
    local function fill(most)
      local j = opened()
      j:run()
      j.disk:fill(true)
      for n = 1, most do
        j:append(entries(1, "small ", 100))
        j:run(0.002)
        if j.log:persisted() < n then return n end
      end
      for i = 1, 20 do j:append({}, { term = i, vote = 1 }) j:run(0.002) end
      assert.equal(most + 20, j.log:persisted())
    end
    local stuck = fill(2000)
    assert.truthy(stuck > 200)
    fill(stuck - 1)
  end)

  it("does not keep a log from closing", function()
    local j = opened()
    j:run()
    j.disk:fill(true)
    for _ = 1, 60 do j:append(entries(1, "entry ", 3000)) end
    j:run(3)
    assert.truthy(j.log:persisted() < 60)
    j:close()
    j.disk:fill(false)
    assert(j:open())
    assert(j:matches())
  end)
end)

describe("a failed write", function()
  it("latches the log: nothing more is acknowledged or written, also when closing", function()
    local j = opened()
    j:run()
    j:append { "good" }
    j:run()
    j.disk:fail(1)
    j:append { "bad" }
    j:append { "queued" }
    j:run()
    assert.truthy(j.log:failed():find("planned failure"))
    assert.equal(1, j.log:persisted())
    j:append { "swallowed" }
    j:run()
    assert.equal(1, j.log:persisted())
    local writes, operations = j.log:status().writes, j.disk:operations()
    assert.equal(1, writes)
    j:close()
    assert.equal(operations, j.disk:operations())
    assert(j:open())
    j.appends[3] = nil
    assert(j:matches())
  end)
end)

describe("memory that cannot be had", function()
  it("is told by append, which then changed nothing, or waited for", function()
    local refused = 0
    for n = 1, 40 do
      local j = opened()
      j:run()
      for i = 1, 6 do
        core.mem_fail_at(i == 3 and n or 0)
        local status = j:append(entries(20, i .. " ", 3000), { term = i, vote = 1, entry_term = i })
        if i == 3 then j:run(0.2) end
        core.mem_fail_at(0)
        if status == "memory" then refused = refused + 1 else assert.equal("ok", status) end
      end
      j:run()
      assert.equal(j.seq, j.log:persisted())
      j:crash()
      assert(j:open())
      assert(j:matches())
    end
    assert.truthy(refused > 0)
  end)

  it("ends an opening without a trace", function()
    local before = opened()
    for i = 1, 6 do before:append(entries(10, i .. " ", 2000), { entry_term = i }) end
    before:run():close()
    local image, refused = before:image(), 0
    for n = 1, 150 do
      local j = journal.new(n, nil, nil, image)
      core.mem_fail_at(n)
      local ok, _, code = j:open()
      core.mem_fail_at(0)
      if not ok then
        assert.equal("memory", code)
        refused = refused + 1
        assert(j:open())
      end
      j.base = before.base
      assert(j:matches())
    end
    assert.truthy(refused > 10)
  end)
end)
