local core = require "raft.core"
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

  ---A directory whose file says that it was written in another format, with a sound checksum.
  local function of_format(number, file)
    local j = assert(journal.new(1, nil, { list = "1=a:1 2=b:2" }):open())
    j:append { "a" }
    j:run():close()
    local image, hash = j:image(), core.wire.hash
    local bytes = image["data/" .. file]
    local other = bytes:sub(1, 8) .. string.pack("<I4", number) .. bytes:sub(13)
    if file == "identity" then
      local header, body = other:sub(1, 24), other:sub(33)
      image["data/identity"] = header .. string.pack("<i8", hash(body, hash(header))) .. body
    else
      local header = other:sub(1, 120) .. string.pack("<i8", hash(other:sub(1, 120)))
      image["data/" .. file] = header .. bytes:sub(129, 2048) .. header .. bytes:sub(2048 + 129)
    end
    return image
  end

  it("that was written in another format is refused, with what to do, and left as it is", function()
    local cases = { { "00000001.seg", 1, "another version of this program: use that one" },
      { "00000001.seg", 3, "another version of this program: use that one" },
      { "identity", 999, "written in format 999, .*: use a newer one" } }
    for _, case in ipairs(cases) do
      local file, number, says = table.unpack(case)
      local image = of_format(number, file)
      for _, rejoin in ipairs { false, true } do
        local j = journal.new(1, nil, nil, image)
        local code, message = refused(j, { rejoin = rejoin })
        assert.equal("version", code)
        assert.matches("data/" .. file .. ".*" .. says, message)
        assert.same(image, j:image())
      end
    end
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

describe("a peer's directory", function()
  it("is known by its incarnation and its lives", function()
    local j = assert(journal.new(1):open())
    assert.equal("new", j.log:judge(2, 1111, 50, { 40 }))
    j.log:remember(2, 1111, 50)
    j:run()
    local lives = {}
    for i = 1, 16 do lives[i] = 70 + 17 - i end
    for _ = 1, 2 do
      assert.equal("known", j.log:judge(2, 1111, 50, { 40 }))
      assert.equal("later", j.log:judge(2, 1111, 60, { 50, 40 }))  -- the life right after that one
      assert.equal("later", j.log:judge(2, 1111, 90, { 80, 50 }))  -- lives between that were not seen here
      assert.equal("rolled back", j.log:judge(2, 1111, 90, { 40 }))  -- it does not know of the life that was seen
      assert.equal("rolled back", j.log:judge(2, 1111, 90, { 80, 40 }))  -- nor in its next life
      assert.equal("rolled back", j.log:judge(2, 1111, 45, { 40 }))
      assert.equal("rolled back", j.log:judge(2, 1111, 45, {}))
      assert.equal("later", j.log:judge(2, 1111, 90, lives))  -- too long ago to be told of
      assert.equal("replaced", j.log:judge(2, 2222, 60, { 50 }))
      j:crash()
      assert(j:open())
    end
  end)

  it("that is an old copy of itself is told by those that saw a later life of it", function()
    local j = assert(journal.new(1):open())
    local watch = assert(journal.new(2, nil, { node = 2 }):open())
    local function judge()
      return watch.log:judge(1, j.found.incarnation, j.found.epoch, j.found.lives_before)
    end
    j:append { "a" }
    j:run():close()
    local copy = j:image()
    assert(j:open())
    assert.equal("new", judge())
    watch.log:remember(1, j.found.incarnation, j.found.epoch)
    watch:run()
    j:run():close()
    for _ = 1, 3 do
      assert(j:open())
      assert.equal("later", judge())
      j:close()
    end
    local old = assert(journal.new(3, nil, nil, copy):open())
    assert.equal(j.found.incarnation, old.found.incarnation)
    j = old
    for _ = 1, 3 do  -- however often it is started
      assert.equal("rolled back", judge())
      j:close()
      assert(j:open())
    end
  end)
end)

describe("a directory made anew", function()
  local function rotten()
    local j = assert(journal.new(1, nil, { name = "bank", list = "1=a:1 2=b:2" }):open())
    j.log:remember(2, 1111, 50)
    for i = 1, 4 do
      j:append({ ("entry %d"):format(i):rep(20) }, { term = i, vote = 1 })
      j:run(0.1)
    end
    assert(j:publish { index = 2, term = 1 })
    j:run():close()
    local image = j:image()
    local at = image["data/00000001.seg"]:find("entry 2", 1, true)
    image["data/00000001.seg"] = image["data/00000001.seg"]:sub(1, at) .. "?" .. image["data/00000001.seg"]:sub(at + 2)
    return image, j
  end

  it("sets the old one aside, whole, and is the same node with another incarnation, rejoining", function()
    local image, before = rotten()
    local j = journal.new(5, nil, { name = "bank" }, image)
    assert.equal("corrupt", (refused(j, { name = "bank" })))
    j.options = { name = "bank", node = 0, rejoin = true }
    assert(j:open())
    local found = j.found
    assert.is_true(found.created and found.rejoining)
    assert.same({ 1, "bank", "1=a:1 2=b:2", 0, 0, 0, 0 },
      { found.node, found.name, found.list, found.last, found.term, found.vote, found.snapshot.index })
    assert.not_equal(before.found.incarnation, found.incarnation)
    assert.truthy(found.epoch > before.found.epoch)
    assert.truthy(found.damaged:find("00000001.seg: damaged at offset", 1, true), found.damaged)
    assert.equal(1111, j.log:peer(2))
    for path, bytes in pairs(image) do
      local name = path:match("[^/]+$")
      if name ~= "lock" and name ~= "peers" then
        assert.equal(bytes, j.disk:file("data/" .. found.set_aside .. "/" .. name), name)
      end
    end
    j:append({ "a" }, { term = 5, vote = 0 })
    j:run():crash()
    for _ = 1, 2 do  -- with the option or without, until the others have admitted it
      assert(j:open())
      assert.is_true(j.found.rejoining)
      assert.same({ 1, found.incarnation, "" }, { j.found.last, j.found.incarnation, j.found.set_aside })
      j:crash()
      j.options = { name = "bank" }
    end
    assert(j:open())
    j.log:rejoined()
    j:run()
    assert.same({ 1, "ok" }, { j.log:remembered() })
    j:crash()
    assert(j:open())
    assert.is_false(j.found.rejoining)
    assert.equal(1, j.found.last)
  end)

  it("is nothing that a sound one needs", function()
    local j = assert(journal.new(1):open())
    j:append { "a" }
    j:run():close()
    j.options = { rejoin = true }
    assert(j:open())
    assert.is_false(j.found.rejoining)
    assert.equal(1, j.found.last)
  end)

  it("rejoins when it was emptied", function()
    local j = assert(journal.new(1, nil, { rejoin = true }):open())
    assert.is_true(j.found.rejoining and j.found.created)
    assert.equal("", j.found.set_aside)
    j:crash()
    j.options = {}
    assert(j:open())
    assert.is_true(j.found.rejoining)
    assert.equal("invalid", (refused(journal.new(1), { rejoin = true, node = 0 })))
  end)

  it("is not made for the only first member: nobody could refill it", function()
    local j = assert(journal.new(1, nil, { list = "1=a:1" }):open())
    j:append { "a" }
    j:run():close()
    local image = j:image()
    image["data/epoch"] = "garbage"
    local code, message = refused(journal.new(1, nil, nil, image), { rejoin = true })
    assert.equal("corrupt", code)
    assert.matches("cannot be refilled by others.*only first member.*data/epoch: damaged", message)
    assert.is_nil(j.disk:file "data/rejoin")
  end)

  it("keeps what it holds, under another incarnation, when the others do not count on it any more", function()
    local j = assert(journal.new(1, nil, { list = "1=a:1 2=b:2" }):open())
    j.log:remember(2, 1111, 50)
    j:append({ "a", "b" }, { term = 1, vote = 1 })
    j:run()
    local before = j.found.incarnation
    j.log:rejoin()
    j:run()
    assert.same({ 2, "ok" }, { j.log:remembered() })
    j:crash()
    for _ = 1, 2 do
      assert(j:open())
      assert.is_true(j.found.rejoining)
      assert.is_false(j.found.created)
      assert.same({ 2, 1, 1 }, { j.found.last, j.found.term, j.found.vote })
      assert.not_equal(before, j.found.incarnation)
      assert.equal(1111, j.log:peer(2))
      j:crash()
    end
  end)

  it("is another one for good, or not at all, after a crash at any operation", function()
    local changed, kept = 0, 0
    for operation = 1, 12 do
      local j = assert(journal.new(operation, { torn = 500 }, { list = "1=a:1 2=b:2" }):open())
      j:append { "a" }
      j:run()
      local before = j.found.incarnation
      j.log:rejoin()
      j.disk:die(operation)
      pcall(function() j.disk:run(0.1) end)
      j:crash()
      assert(j:open())
      local is = j.found.incarnation
      assert.equal(is ~= before, j.found.rejoining)
      changed, kept = changed + (is ~= before and 1 or 0), kept + (is == before and 1 or 0)
      j:crash()
      assert(j:open())
      assert.same({ is, is ~= before, 1 }, { j.found.incarnation, j.found.rejoining, j.found.last })
    end
    assert.is_true(changed > 0 and kept > 0)
  end)

  it("is not made for a directory of another node, or of something else", function()
    local image = rotten()
    assert.equal("foreign", (refused(journal.new(1, nil, nil, image), { name = "shop", rejoin = true })))
    local j = journal.new(1, nil, nil, { ["data/thesis.txt"] = "all of it" })
    assert.equal("foreign", (refused(j, { rejoin = true })))
    assert.equal("all of it", j.disk:file("data/thesis.txt"))
  end)

  it("is carried on after a crash at any operation, and loses no byte of the old one", function()
    local image = rotten()
    local later = 0
    for operation = 1, 110 do
      local j = journal.new(operation, { torn = 500 }, { name = "bank", rejoin = true }, image)
      j.disk:die(operation)
      if not pcall(j.open, j) then j.log = nil end
      j.disk:run(0.1)
      if j.log then j:crash() else j.disk:crash() end
      j.epoch = 0
      local sound = j:open()
      assert(sound)
      assert.is_true(j.found.rejoining)
      if j.found.set_aside == "" then later = later + 1 end
      local aside
      for _, name in ipairs(j.disk:files("data")) do aside = name:match("^set%-aside.*") or aside end
      for path, bytes in pairs(image) do
        local name = path:match("[^/]+$")
        if name ~= "lock" and name ~= "peers" then
          assert.equal(bytes, j.disk:file("data/" .. aside .. "/" .. name), name)
        end
      end
      j:append { "a" }
      j:run()
      assert.equal(1, j.log:persisted())
    end
    assert.truthy(later > 5)
  end)

  it("can be made of whatever is left of the old one", function()
    local image = rotten()
    for path in pairs(image) do
      for _, bytes in ipairs { "", "garbage", false } do
        local copy = {}
        for name, old in pairs(image) do copy[name] = old end
        copy[path] = bytes or nil
        local j = journal.new(3, nil, { name = "bank", list = "1=a:1 2=b:2", rejoin = true }, copy)
        local ok, message, code = j:open()
        if path == "data/identity" and not bytes or ok then
          assert(ok, message)
        else
          error(path .. ": " .. message .. " " .. code)
        end
        assert.is_true(j.found.rejoining)
      end
    end
  end)
end)
