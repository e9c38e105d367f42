-- One node of a cluster that has lost its quorum for good goes on alone.
local core = require "raft.core"
local journal = require "spec.store.journal"

local LIST = "1=a:1 2=b:2 3=c:3"

local function left_over(options)
  options = options or {}
  options.list = options.list or LIST
  local j = assert(journal.new(1, nil, options):open())
  j.log:remember(2, 1111, 50)
  for i = 1, 5 do
    j:append({ i .. " a", i .. " b" }, { term = i, vote = 2, entry_term = i })
    j:run(0.1)
  end
  return j
end

describe("a directory that is made to go on alone", function()
  it("gets a configuration with its node alone, in a term of its own, and another incarnation", function()
    for _, ending in ipairs { "close", "crash" } do
      local j = left_over()
      j:run()
      j[ending](j)
      local report = assert(core.recover("data", { disk = j.disk }))
      assert.same({ 1, 11, 6, "2=b:2 3=c:3" }, { report.node, report.index, report.term, report.lost })
      local incarnation = j.found.incarnation
      assert(j:open())
      assert.same({ 11, 6, 1, "" }, { j.found.last, j.found.term, j.found.vote, j.found.damaged })
      assert.equal(report.incarnation, j.found.incarnation)
      assert.not_equal(incarnation, j.found.incarnation)
      assert.equal(0, j.log:peer(2))
      assert.equal(1, #j.found.confs)
      assert.equal(11, j.found.confs[1].index)
      local data = j.found.confs[1].data
      assert.truthy(data:find("a:1", 1, true) and not data:find("b:2", 1, true))
      assert.same({ "1 a", "5 b" }, { j:read(1, 10)[1], j:read(1, 10)[10] })
      j:append({ "after" }, { entry_term = 6 })
      j:run():close()
    end
  end)

  it("may get another address, and may be made so again", function()
    local j = left_over()
    j:run():close()
    assert.equal("2=b:2 3=c:3", assert(core.recover("data", { disk = j.disk })).lost)
    local report = assert(core.recover("data", { disk = j.disk, address = "new:9" }))
    assert.same({ 12, 7, "" }, { report.index, report.term, report.lost })
    assert(j:open())
    assert.truthy(j.found.confs[2].data:find("new:9", 1, true))
  end)

  it("goes on behind a snapshot", function()
    local j = left_over()
    local conf = ("<I8B"):pack(9, 2) .. ("<I8BI8s1"):pack(1, 1, 0, "a:1") .. ("<I8BI8s1"):pack(7, 1, 0, "g:7")
    assert(j:publish({ index = 40, term = 9, time = 1 << 60 }, { { 1, conf } }))
    j:append({}, { reset = 40, reset_term = 9, term = 9, vote = 0 })
    j:run():close()
    local report = assert(core.recover("data", { disk = j.disk }))
    assert.same({ 41, 10, "7=g:7" }, { report.index, report.term, report.lost })
    local inspection = assert(core.inspect("data", { disk = j.disk }))
    local entry = inspection:read(41)[1]
    assert.same({ "config", 10, 1 << 60 }, { entry.type, entry.term, entry.time })
    inspection:close()
  end)

  it("must be at rest, sound, and no newcomer's", function()
    local j = left_over()
    local function refused(code, options)
      options.disk = j.disk
      local report, message, got = core.recover("data", options)
      assert.same({ nil, code }, { report, got }, message)
      return message
    end
    refused("locked", {})
    j:run():close()
    local image = j:image()
    local path = "data/00000001.seg"
    local at = image[path]:find("3 a", 1, true)
    local damaged = image[path]:sub(1, at) .. "X" .. image[path]:sub(at + 2)
    local epoch = image["data/epoch"]
    assert(j.disk:put(path, damaged))
    assert.truthy(refused("corrupt", {}):find("damaged at offset", 1, true))
    assert.equal(epoch, j.disk:file("data/epoch"))
    j.disk:put(path, image[path])
    j.options.rejoin = true
    j.disk:put("data/identity", "rotten")
    j.log = nil
    assert(j:open())
    j:close()
    refused("refused", {})
    j = left_over { node = 4 }
    j:run():close()
    refused("refused", {})
    assert.equal("1=a:1 2=b:2 3=c:3", assert(core.recover("data", { disk = j.disk, address = "d:4" })).lost)
    assert.same("foreign", (select(3, core.recover("/no/such/directory", {}))))
  end)

  it("survives a crash or a failure at any operation: it is done again", function()
    for operation = 1, 60 do
      for _, how in ipairs { "die", "fail" } do
        local j = left_over()
        j:run():close()
        j.disk[how](j.disk, operation)
        local report = core.recover("data", { disk = j.disk })
        j.disk:fail(0)
        if how == "die" then j.disk:crash() end
        local last = report and report.index
        report = assert(core.recover("data", { disk = j.disk }))
        assert.truthy(not last or report.index == last + 1)
        assert(j:open())
        assert.equal(report.index, j.found.last)
        assert.equal(report.index, j.found.confs[#j.found.confs].index)
        assert.equal(report.incarnation, j.found.incarnation)
      end
    end
  end)
end)
