-- Looking into a directory that no node has open.
local core = require "raft.core"
local journal = require "spec.store.journal"

local function image_of(change)
  local j = assert(journal.new(1, nil, { name = "bank", list = "1=a:1" }):open())
  for i = 1, 8 do
    local truncate = i == 5 and 11 or nil
    j:append({ i .. " a", i .. " b", i .. " c" }, { term = i, vote = 1, entry_term = i, truncate = truncate })
    j:run(0.1)
  end
  if change then change(j) end
  j:run():close()
  return j:image(), j
end

local function look(image, options)
  local disk = core.disk(1)
  for path, bytes in pairs(image) do assert(disk:put(path, bytes)) end
  options = options or {}
  options.disk = disk
  local inspection, message, code = core.inspect("data", options)
  return inspection, message, code, disk
end

describe("an inspection", function()
  it("tells what a start would find, and changes nothing", function()
    local image, j = image_of(function(j) assert(j:publish { index = 7, term = 3, id = 9, version = 4 }) end)
    local inspection, _, _, disk = look(image)
    local report = inspection:report()
    assert.same({ 1, "bank", "1=a:1", j.found.incarnation, 8, 1, 1, j.last, 0 },
      { report.node, report.name, report.list, report.incarnation, report.term, report.vote, report.first, report.last,
        report.torn_bytes })
    local snapshot = report.snapshot
    assert.same({ 7, 3, 9, 4 }, { snapshot.index, snapshot.term, snapshot.id, snapshot.version })
    assert.is_nil(report.error)
    inspection:close()
    for path, bytes in pairs(image) do assert.equal(bytes, disk:file(path)) end
  end)

  it("walks through segments, batches and entries, what is void too", function()
    local seen = { segment = 0, batch = 0, entry = 0, seal = 0 }
    local image = image_of()
    local inspection = look(image, { visit = function(kind, what)
      seen[kind] = seen[kind] + 1
      if kind == "batch" and what.seal then seen.seal = seen.seal + 1 end
      if kind == "batch" and what.number == 5 then
        assert.same({ 11, 5, 1 }, { what.truncate, what.term, what.vote })
      end
      if kind == "entry" then assert.same({ "command", 3 }, { what.type, what.size }) end
    end })
    assert.same({ segment = 3, batch = 9, entry = 24, seal = 1 }, seen)
    inspection:close()
  end)

  it("passes on what a visitor raises, and gives the directory back", function()
    local image = image_of()
    local ok, message = pcall(look, image, { visit = function() error("enough", 0) end })
    assert.same({ false, "enough" }, { ok, message })
  end)

  it("reads the entries that count, in order", function()
    local image, j = image_of()
    for _, max in ipairs { 1, 200, 1 << 20 } do
      local inspection = look(image)
      local index = 1
      repeat
        local list = assert(inspection:read(index, max))
        for _, entry in ipairs(list) do
          assert.same({ index, j.base.data[index] }, { entry.index, entry.data })
          index = index + 1
        end
      until #list == 0
      assert.equal(j.last + 1, index)
      inspection:close()
    end
  end)

  it("reads the records of the snapshot", function()
    local records = { { 1, "conf" }, { 2, ("sessions"):rep(9000) }, { 3, "" }, { 3, "state" } }
    local image = image_of(function(j) assert(j:publish({ index = 7, term = 3 }, records)) end)
    local inspection = look(image)
    for _, record in ipairs(records) do
      assert.same({ record[1], record[2], #records }, { inspection:record() })
    end
    assert.same({}, { inspection:record() })
    inspection:close()
    assert.same({}, { look(image_of()):record() })
  end)

  it("says what is wrong, and shows what comes before", function()
    local image = image_of()
    local path, at
    for name, bytes in pairs(image) do
      local found = bytes:find("6 b", 1, true)
      if found then path, at = name, found end
    end
    image[path] = image[path]:sub(1, at - 1) .. "X" .. image[path]:sub(at + 1)
    local inspection = look(image)
    local report = inspection:report()
    assert.equal("corrupt", report.code)
    assert.truthy(report.error:find(path .. ": damaged at offset", 1, true), report.error)
    assert.same({ 1, 13 }, { report.first, report.last })
    assert.equal(13, #inspection:read(1))
    inspection:close()
  end)

  it("is refused while a node has the directory, unless forced", function()
    local j = assert(journal.new(1):open())
    j:append { "a" }
    j:run()
    local inspection, message, code = core.inspect("data", { disk = j.disk })
    assert.same({ nil, "locked" }, { inspection, code })
    assert.truthy(message:find("running", 1, true))
    inspection = assert(core.inspect("data", { disk = j.disk, force = true }))
    assert.equal(1, inspection:report().last)
    inspection:close()
    j:append { "b" }
    j:run():close()
  end)

  it("of something else says so", function()
    local inspection = look { ["data/thesis.txt"] = "all of it" }
    assert.equal("foreign", inspection:report().code)
    inspection:close()
    local nothing, _, code = core.inspect("/no/such/directory", {})
    assert.same({ nil, "io" }, { nothing, code })
  end)
end)
