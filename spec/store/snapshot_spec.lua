-- Snapshot files: written in pieces, checked as a whole, published, read, replaced.
local core = require "raft.core"
local journal = require "spec.store.journal"

local BLOCK = 16384

local function opened(options, seed, faults)
  return assert(journal.new(seed or 1, faults, options):open())
end

-- Records of all sizes, some over many blocks, and which differ.
local function records(seed, n)
  local state, list = seed, {}
  for i = 1, n do
    state = (state * 6364136223846793005 + 1442695040888963407)
    local size = (state >> 40) % 7 == 0 and (state >> 20) % 50000 or (state >> 30) % 300
    list[i] = { 1 + i % 3, (tostring(state) .. ","):rep(size // 20 + 1):sub(1, size) }
  end
  return list
end

local function read_all(j, max)
  local list = {}
  while true do
    local id = j.log:view_records(max)
    local bytes, message, code
    repeat
      assert(j.disk:step())
      bytes, message, code = j.log:part(id)
    until bytes ~= false
    if not bytes then return nil, message, code end
    if bytes == "" then return list end
    local some = assert(core.snapshot_records(bytes))
    assert.truthy(#some == 1 or #bytes <= max)
    table.move(some, 1, #some, #list + 1, list)
  end
end

local function read_part(j, offset, max)
  local id = j.log:view_bytes(offset, max)
  local bytes, message, code
  repeat
    assert(j.disk:step())
    bytes, message, code = j.log:part(id)
  until bytes ~= false
  return bytes, message, code
end

local function snapshots(j)
  local list = {}
  for _, name in ipairs(j.disk:files("data")) do
    if name:find("%.snap$") or name:find("^snapshot") then list[#list + 1] = name end
  end
  return list
end

local function flip(bytes, offset, bit)
  return bytes:sub(1, offset) .. string.char(bytes:byte(offset + 1) ~ (1 << (bit or 0))) .. bytes:sub(offset + 2)
end

describe("a snapshot file", function()
  it("gives back the records that were written, in whatever pieces, and where they are from", function()
    for seed, piece in ipairs { 1 << 30, 1, 100, BLOCK } do
      local j, list = opened(), records(seed, 60)
      local what = { index = 7 + seed, term = 3, id = 99, time = 1234567, version = 5, piece = piece }
      j:append({ "a", "b" }, { entry_term = 3 })
      assert(j:publish(what, list))
      local view = j.log:view()
      assert.same({ what.index, 3, 99, 1234567, 5 }, { view.index, view.term, view.id, view.time, view.version })
      for _, max in ipairs { 1, 1000, 100000, 1 << 30 } do
        assert.same(list, read_all(j, max))
        j.log:view_close()
        j.log:view()
      end
      j.log:view_close()
    end
  end)

  it("may hold no record, an empty one, and one that ends with a block", function()
    local full, over = ("x"):rep(BLOCK - 32), ("x"):rep(BLOCK - 31)
    for _, list in ipairs { {}, { { 1, "" } }, { { 9, full } }, { { 9, over }, { 1, "" } } } do
      local j = opened()
      assert(j:publish({ index = 1, term = 1, id = 1 }, list))
      j.log:view()
      assert.same(list, read_all(j, 10))
      j.log:view_close()
      j:crash()
      assert(j:open())
      assert.equal(1, j.found.snapshot.index)
    end
  end)

  it("is not written on once its sink has failed", function()
    local puts_of_all = (#journal.file({ index = 1, term = 1 }, records(1, 60)) - 192 + BLOCK - 1) // BLOCK + 2
    for puts = 0, puts_of_all - 1 do
      local bytes, _, code = journal.file({ index = 1, term = 1, puts = puts }, records(1, 60))
      assert.same({ nil, "full" }, { bytes, code })
    end
  end)

  it("is told from one that is damaged at any byte, cut at any byte, or longer", function()
    local file = journal.file({ index = 5, term = 2, id = 77 }, { { 1, ("some state "):rep(20) }, { 2, "more" } })
    local function publish(bytes)
      local j = opened()
      local id = assert(j.log:incoming { index = 5, term = 2, id = 77 })
      j.log:incoming_write(id, bytes)
      j.log:incoming_publish(id)
      local ok, message, code = j:wait_ended(id)
      assert.same({ nil, "corrupt" }, { ok, code }, message)
      assert.same({}, snapshots(j))
      assert.equal(0, j.log:snapshot().index)
    end
    for offset = 0, #file - 1 do publish(flip(file, offset, offset % 8)) end
    for cut = 1, #file - 1 do publish(file:sub(1, cut)) end
    publish(file .. "\0")
    publish(file .. file)
  end)

  it("is told from one with a block missing, doubled, or of another file", function()
    local list = records(4, 200)
    local file = journal.file({ index = 5, term = 2, id = 77 }, list)
    local other = journal.file({ index = 5, term = 2, id = 78 }, list)
    local changed = {}
    for i, record in ipairs(list) do changed[i] = { record[1], (record[2]:gsub("1", "2")) } end
    local twin = journal.file({ index = 5, term = 2, id = 77 }, changed)
    local function block(of, n) return of:sub(129 + (n - 1) * BLOCK, 128 + n * BLOCK) end
    local blocks = (#file - 192) // BLOCK
    assert.truthy(blocks > 4)
    local head, tail = file:sub(1, 128), file:sub(129 + blocks * BLOCK)
    local function publish(order)
      local j, parts = opened(), { head }
      for _, part in ipairs(order) do parts[#parts + 1] = part end
      parts[#parts + 1] = tail
      local id = assert(j.log:incoming { index = 5, term = 2, id = 77 })
      j.log:incoming_write(id, table.concat(parts))
      j.log:incoming_publish(id)
      return j:wait_ended(id)
    end
    local function order(change)
      local all = {}
      for n = 1, blocks do all[n] = block(file, n) end
      change(all)
      return all
    end
    assert(publish(order(function() end)))
    for _, change in ipairs {
      function(all) table.remove(all, 2) end,
      function(all) table.insert(all, 2, all[2]) end,
      function(all) all[2] = all[3] end,
      function(all) all[2] = block(other, 2) end,
      function(all) all[2] = block(twin, 2) end,
      function(all) all[2] = ("\0"):rep(BLOCK) end,
    } do
      local ok, _, code = publish(order(change))
      assert.same({ nil, "corrupt" }, { ok, code })
    end
  end)

  it("of another cluster, or another snapshot than announced, is refused", function()
    local j = opened()
    local files = { foreign = { index = 5, term = 2, cluster = "other" }, corrupt = { index = 6, term = 2 } }
    for code, what in pairs(files) do
      local id = assert(j.log:incoming { index = 5, term = 2 })
      j.log:incoming_write(id, journal.file(what))
      j.log:incoming_publish(id)
      local ok, _, got = j:wait_ended(id)
      assert.same({ nil, code }, { ok, got })
    end
    assert.same({}, snapshots(j))
  end)
end)

describe("a snapshot on its way", function()
  it("takes bytes in any pieces, and says where to go on", function()
    local j, list = opened(), records(2, 100)
    local what = { index = 5, term = 2, id = 77 }
    local file = journal.file(what, list)
    what.size = #file
    local id = assert(j.log:incoming(what))
    local at = 0
    for i = 1, 1 << 30 do
      if at == #file then break end
      local piece = file:sub(at + 1, at + 1 + i * 397 % 5000)
      assert.equal("ok", j.log:incoming_write(id, piece))
      at = at + #piece
      assert.equal(at, j.log:incoming_state(id).size)
      if i % 3 == 0 then j.disk:step() end
    end
    j:run()
    assert.equal(0, j.log:incoming_state(id).queued)
    assert.truthy(j.log:incoming_state(id).written > 3)
    assert.is_true(j.log:incoming_is(id, what))
    for name, value in pairs { index = 6, term = 3, id = 78, size = 1 } do
      local other = { index = 5, term = 2, id = 77, size = #file }
      other[name] = value
      assert.is_false(j.log:incoming_is(id, other))
    end
    assert.equal(0, j.log:snapshot().index)
    j.log:incoming_publish(id)
    assert(j:wait_ended(id))
    assert.equal(#file, j.log:snapshot().size)
  end)

  it("of the same index as another one leaves that one alone, though both are published at once", function()
    local j = opened()
    local ids = {}
    for i = 1, 2 do
      local what = { index = 5, term = 2, id = 70 + i }
      ids[i] = assert(j.log:incoming(what))
      j.log:incoming_write(ids[i], journal.file(what))
    end
    for i = 1, 2 do j.log:incoming_publish(ids[i]) end
    assert(j:wait_ended(ids[1]))
    local ok, message = j:wait_ended(ids[2])
    assert.is_nil(ok)
    assert.matches("is there already", message)
    j:run()
    assert.equal(5, j.log:snapshot().index)
    assert.equal(1, #snapshots(j))
  end)

  it("can be a file that another process has written", function()
    local j = opened()
    local id = assert(j.log:incoming { index = 5, term = 2 })
    assert(j.disk:put(j.log:incoming_state(id).path, journal.file { index = 5, term = 2 }))
    j.log:incoming_publish(id)
    assert(j:wait_ended(id))
    assert.equal(5, j.log:snapshot().index)
    id = assert(j.log:incoming { index = 6, term = 2 })
    j.log:incoming_publish(id)
    local ok, message, code = j:wait_ended(id)
    assert.same({ nil, "io" }, { ok, code })
    assert.truthy(message:find("snapshot-", 1, true), message)
  end)

  it("leaves nothing when it is dropped, whenever that is", function()
    local file = journal.file({ index = 5, term = 2 }, records(1, 400))
    for steps = 0, 14 do
      local j = opened()
      local id = assert(j.log:incoming { index = 5, term = 2 })
      j.log:incoming_write(id, file)
      if steps % 2 == 0 then j.log:incoming_publish(id) end
      for _ = 1, steps do j.disk:step() end
      if not j.log:ended(id) then j.log:incoming_drop(id) end
      j:run()
      local index = j.log:snapshot().index
      assert.equal(index == 0 and 0 or 1, #snapshots(j))
      assert.truthy(index == 0 or steps > 4)
      j:close()
    end
  end)

  it("is refused when there is a newer one, or the same", function()
    local j = opened()
    assert(j:publish { index = 5, term = 2 })
    for index = 4, 5 do
      local ok, _, code = j:publish { index = index, term = 2 }
      assert.same({ nil, "io" }, { ok, code })
    end
    assert.same({ "0000000000000005-00000002.snap" }, snapshots(j))
  end)

  it("may be one of several: the newest stays", function()
    local j = opened()
    local ids = {}
    for i, index in ipairs { 5, 9, 7 } do
      ids[i] = assert(j.log:incoming { index = index, term = 2 })
      j.log:incoming_write(ids[i], journal.file { index = index, term = 2 })
      j.log:incoming_publish(ids[i])
    end
    j:run()
    assert.equal(9, j.log:snapshot().index)
    assert.same({ "0000000000000009-00000002.snap" }, snapshots(j))
  end)

  it("replaces the one before only when it is whole and durable", function()
    local j = opened()
    assert(j:publish({ index = 5, term = 2 }, records(1, 50)))
    local id = assert(j.log:incoming { index = 6, term = 2 })
    local file = journal.file({ index = 6, term = 2 }, records(2, 50))
    j.log:incoming_write(id, file)
    j:run()
    assert.equal(5, j.log:snapshot().index)
    j.log:incoming_publish(id)
    assert(j:wait_ended(id))
    j:run()
    assert.equal(6, j.log:snapshot().index)
    assert.same({ "0000000000000006-00000002.snap" }, snapshots(j))
  end)

  it("does not mind a full disk: the one before stays, and the log goes on", function()
    local j = opened()
    j:append { "a" }
    j:run()
    assert(j:publish { index = 1, term = 1 })
    j.disk:fill(true)
    local ok, _, code = j:publish({ index = 2, term = 1 }, records(1, 50))
    assert.same({ nil, "full" }, { ok, code })
    j:append { "b" }
    j:run()
    assert.equal(2, j.log:persisted())
    assert.equal(1, j.log:snapshot().index)
    assert.equal(1, #snapshots(j))
    j.disk:fill(false)
    assert(j:publish({ index = 2, term = 1 }, records(1, 50)))
  end)

  it("is gone when the process ends before it is published, and what was unfinished is removed", function()
    local j = opened()
    local id = assert(j.log:incoming { index = 5, term = 2 })
    j.log:incoming_write(id, journal.file({ index = 5, term = 2 }, records(1, 50)))
    j:run(0.01):crash()
    assert.truthy(#snapshots(j) <= 1)
    assert(j:open())
    assert.same({}, snapshots(j))
    assert.equal(0, j.found.snapshot.index)
  end)

  it("does not stop a log from being closed", function()
    local j = opened()
    local id = assert(j.log:incoming { index = 5, term = 2 })
    j.log:incoming_write(id, journal.file({ index = 5, term = 2 }, records(1, 50)))
    j.log:incoming_publish(id)
    j:close()
    assert(j:open())
    assert.same({}, snapshots(j))
  end)

  it("survives a crash at any operation: the old one or the new one, whole", function()
    local list, old, new = records(3, 40), 0, 0
    for operation = 1, 30 do
      for _, torn in ipairs { 0, 1000 } do
        local j = opened(nil, operation, { torn = torn })
        j:append({ "a", "b" }, { entry_term = 2 })
        j:run()
        assert(j:publish({ index = 1, term = 2, id = 1 }, { { 1, "old" } }))
        j.disk:die(operation)
        j:publish({ index = 2, term = 2, id = 2 }, list)
        local durable = j.log:snapshot().index
        j:crash()
        assert(j:open())
        local index = j.found.snapshot.index
        assert.truthy(index >= durable)
        j.log:view()
        assert.same(index == 2 and list or { { 1, "old" } }, read_all(j, 5000))
        j.log:view_close()
        j:run()
        assert.equal(1, #snapshots(j))
        if index == 2 then new = new + 1 else old = old + 1 end
        assert(j:matches())
      end
    end
    assert.truthy(old > 10 and new > 10)
  end)

  it("tells of an operation that fails, and stays away, at any of them", function()
    local list, failures = records(3, 40), 0
    for operation = 1, 30 do
      local j = opened()
      j:append({ "a", "b" }, { entry_term = 2 })
      j:run()
      assert(j:publish({ index = 1, term = 2, id = 1 }, { { 1, "old" } }))
      j:run()
      j.disk:fail(operation)
      local ok, _, code = j:publish({ index = 2, term = 2, id = 2 }, list)
      if ok then
        assert.equal(2, j.log:snapshot().index)
      else
        assert.equal("io", code)
        assert.equal(1, j.log:snapshot().index)
        failures = failures + 1
      end
      j.disk:fail(0)
      j:append { "c" }
      j:run()
      assert.equal(2, j.log:persisted())
      assert(j:publish({ index = 3, term = 1, id = 3 }, list))
      j:run():crash()
      assert(j:open())
      assert.equal(3, j.found.snapshot.index)
      j:run()
      assert.equal(1, #snapshots(j))
    end
    assert.truthy(failures > 6)
  end)

  it("takes memory for what is queued, not for what is in the file", function()
    local j = opened()
    local file = journal.file({ index = 5, term = 2 }, { { 1, ("x"):rep(8 << 20) } })
    local id = assert(j.log:incoming { index = 5, term = 2 })
    for at = 1, #file, 65536 do
      j.log:incoming_write(id, file:sub(at, at + 65535))
      while j.log:incoming_state(id).queued > 0 do assert(j.disk:step()) end
    end
    j.log:incoming_publish(id)
    assert(j:wait_ended(id))
  end)

  it("is checked to its end, however large it is", function()
    local file = journal.file({ index = 5, term = 2 }, { { 1, ("x"):rep(9 << 20) } })
    for _, offset in ipairs { 1000, 5 << 20, #file - 1000 } do
      local j = opened()
      local id = assert(j.log:incoming { index = 5, term = 2 })
      j.log:incoming_write(id, flip(file, offset))
      j.log:incoming_publish(id)
      local ok, message, code = j:wait_ended(id)
      assert.same({ nil, "corrupt" }, { ok, code })
      assert.truthy(message:find("offset " .. offset - (offset - 128) % BLOCK, 1, true), message)
    end
  end)
end)

describe("a view of a snapshot", function()
  it("gives any part of the file", function()
    local j = opened()
    local file = journal.file({ index = 5, term = 2 }, records(5, 80))
    assert.truthy(#file > 3 * BLOCK)
    assert(j:publish({ index = 5, term = 2 }, records(5, 80)))
    assert.equal(#file, j.log:view().size)
    local size_of_all = #file
    for _, offset in ipairs { 0, 1, 127, 128, 129, 128 + BLOCK, BLOCK, size_of_all - 65, size_of_all - 64,
                              size_of_all - 1, size_of_all, size_of_all + 9 } do
      for _, size in ipairs { 1, 100, BLOCK, 1 << 20 } do
        assert.equal(file:sub(offset + 1, offset + size), (assert(read_part(j, offset, size))))
      end
    end
    j.log:view_close()
  end)

  it("keeps the file while newer ones come and go", function()
    local j = opened()
    assert(j:publish({ index = 5, term = 2 }, { { 1, "five" } }))
    j.log:view()
    assert(j:publish({ index = 6, term = 2 }, { { 1, "six" } }))
    assert(j:publish({ index = 7, term = 2 }, { { 1, "seven" } }))
    j:run()
    assert.same({ "0000000000000005-00000002.snap", "0000000000000007-00000002.snap" }, snapshots(j))
    assert.same({ { 1, "five" } }, read_all(j, 100))
    j.log:view_close()
    j:run()
    assert.same({ "0000000000000007-00000002.snap" }, snapshots(j))
    assert.equal(7, j.log:view().index)
    j.log:view_close()
  end)

  it("finds rot, and names the file and the offset", function()
    local j = opened()
    assert(j:publish({ index = 5, term = 2 }, records(5, 80)))
    local path = "data/0000000000000005-00000002.snap"
    j.log:view()
    assert(j.disk:put(path, flip(j.disk:file(path), 128 + BLOCK + 100)))
    assert(read_part(j, 0, BLOCK))
    local bytes, message, code = read_part(j, 0, 2 * BLOCK)
    assert.same({ nil, "corrupt" }, { bytes, code })
    assert.truthy(message:find(path .. ": damaged at offset " .. 128 + BLOCK, 1, true), message)
    bytes, message, code = read_all(j, 1 << 20)
    assert.same({ nil, "corrupt" }, { bytes, code })
    assert.truthy(message:find("offset " .. 128 + BLOCK, 1, true), message)
    j.log:view_close()
  end)

  it("is not there without a snapshot", function()
    assert.is_nil(opened().log:view())
  end)
end)

describe("lack of memory", function()
  it("for a snapshot is told, at any allocation, and changes nothing else", function()
    local list, told = records(3, 40), 0
    for n = 1, 60 do
      local j = opened()
      assert(j:publish({ index = 1, term = 2, id = 1 }, { { 1, "old" } }))
      local file = journal.file({ index = 2, term = 2 }, list)
      core.mem_fail_at(n)
      local id = j.log:incoming { index = 2, term = 2 }
      if id then
        local status = j.log:incoming_write(id, file)
        if status ~= "ok" then assert.equal("ok", j.log:incoming_write(id, file)) end
        j.log:incoming_publish(id)
        local ok, _, code = j:wait_ended(id)
        assert.truthy(ok or code == "memory")
        if not ok then told = told + 1 end
      else
        told = told + 1
      end
      core.mem_fail_at(0)
      j:append { "a" }
      j:run()
      assert.equal(1, j.log:persisted())
      assert.equal(1, #snapshots(j))
    end
    assert.truthy(told >= 2)
  end)
end)
