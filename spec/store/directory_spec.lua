local journal = require "spec.store.journal"

local function refused(j, options)
  j.options = options
  local ok, message, code = j:open()
  assert.is_nil(ok)
  return code, message
end

describe("a directory", function()
  it("keeps who it belongs to", function()
    local j = assert(journal.new(1, nil, { dir = "some/where/deep", name = "bank", node = 3, list = "3=c:1" }):open())
    local incarnation = j.found.incarnation
    assert.not_equal(0, incarnation)
    j:crash()
    j.options = { dir = "some/where/deep", name = "bank", node = 0, list = "other" }
    assert(j:open())
    assert.same({ 3, "bank", "3=c:1", incarnation },
      { j.found.node, j.found.name, j.found.list, j.found.incarnation })
  end)

  it("has another incarnation when it was emptied", function()
    local one = assert(journal.new(1):open())
    local two = assert(journal.new(2):open())
    assert.not_equal(one.found.incarnation, two.found.incarnation)
  end)

  it("is refused to another node or cluster, with both names", function()
    local j = assert(journal.new(1, nil, { name = "bank", node = 3 }):open())
    j:crash()
    local code, message = refused(j, { name = "shop", node = 3 })
    assert.equal("foreign", code)
    assert.truthy(message:find('"bank"', 1, true) and message:find('"shop"', 1, true))
    code, message = refused(j, { name = "bank", node = 2 })
    assert.equal("foreign", code)
    assert.truthy(message:find("node 3", 1, true) and message:find("node 2", 1, true))
    j.options = { name = "bank", node = 3 }
    assert(j:open())
  end)

  it("is refused while another holds it, and free after it closed", function()
    local j = assert(journal.new(1):open())
    local first = j.log
    local code, message = refused(j, {})
    assert.equal("locked", code)
    assert.truthy(message:find("data", 1, true))
    j.log = first
    j:close()
    assert(j:open())
  end)

  it("is refused with a file of another one in it", function()
    local j = assert(journal.new(1, nil, { cluster = "A" }):open())
    j:append { "a" }
    j:run():close()
    local other = assert(journal.new(2, nil, { cluster = "B" }):open())
    other:append { "b" }
    other:run():close()
    local image = j:image()
    image["data/00000009.seg"] = other:image()["data/00000001.seg"]
    local code, message = refused(journal.new(1, nil, nil, image), { cluster = "A" })
    assert.equal("foreign", code)
    assert.truthy(message:find("00000009.seg", 1, true))
  end)

  it("is refused when it is full of something else", function()
    local j = journal.new(1, nil, nil, { ["data/thesis.txt"] = "all of it" })
    local code, message = refused(j, {})
    assert.equal("foreign", code)
    assert.truthy(message:find("thesis.txt", 1, true))
    assert.equal("all of it", j.disk:file("data/thesis.txt"))
  end)

  it("without a node's id must exist already", function()
    local code = refused(journal.new(1), { node = 0 })
    assert.equal("invalid", code)
  end)

  it("whose identity is gone but not its log is refused", function()
    local j = assert(journal.new(1):open())
    j:append { "a" }
    j:run():close()
    local image = j:image()
    image["data/identity"] = nil
    local code, message = refused(journal.new(1, nil, nil, image), {})
    assert.equal("corrupt", code)
    assert.truthy(message:find("data/identity", 1, true))
  end)

  it("asks for sensible segments", function()
    for _, options in ipairs { { segment_bytes = 4096 }, { segment_bytes = 65537 }, { spares = 0 } } do
      local code = refused(journal.new(1), options)
      assert.equal("invalid", code)
    end
  end)
end)

describe("incarnations of peers", function()
  it("are remembered durably, the newest of each", function()
    local j = assert(journal.new(1):open())
    assert.equal(0, j.log:peer(2))
    j.log:remember(2, 1111)
    j.log:remember(3, 2222)
    j.log:remember(2, 3333)
    assert.equal(0, j.log:peer(2))
    j:run()
    assert.same({ 3, "ok" }, { j.log:remembered() })
    assert.same({ 3333, 2222, 0 }, { j.log:peer(2), j.log:peer(3), j.log:peer(4) })
    j:crash()
    assert(j:open())
    assert.same({ 3333, 2222, 0 }, { j.log:peer(2), j.log:peer(3), j.log:peer(4) })
  end)

  it("that cannot be written are told, and not remembered", function()
    local j = assert(journal.new(1):open())
    j:run()
    j.disk:fill(true)
    j.log:remember(2, 1111)
    j:run()
    assert.same({ 1, "full" }, { j.log:remembered() })
    assert.equal(0, j.log:peer(2))
    j.disk:fill(false)
    j.log:remember(2, 1111)
    j:run()
    assert.same({ 2, "ok" }, { j.log:remembered() })
    assert.equal(1111, j.log:peer(2))
  end)

  it("survive a crash at any operation: the old ones or the new ones", function()
    for operation = 1, 8 do
      local j = assert(journal.new(operation, { torn = 500 }):open())
      j.log:remember(2, 1111)
      j:run()
      j.disk:die(operation)
      j.log:remember(2, 2222)
      j:run()
      local durable = j.log:peer(2)
      j:crash()
      assert(j:open())
      local peer = j.log:peer(2)
      assert.truthy(peer == durable or peer == 2222)
    end
  end)
end)
