local core = require "raft.core"

-- Runs the world dry and returns what happened, line by line: "node what number data".
local function run(world, us)
  world:run(us or 10000000)
  local lines = {}
  for line in world:log():gmatch("([^\n]*)\n") do lines[#lines + 1] = line end
  return lines
end

local function only(lines, what)
  local found = {}
  for _, line in ipairs(lines) do
    if line:find("^%d+ " .. what .. " ") then found[#found + 1] = line end
  end
  return found
end

-- A link from node 1 to node 2: its ids at both ends.
local function linked(world)
  assert(world:listen(2, "two:1"))
  local id = assert(world:connect(1, "two:1"))
  local lines = run(world)
  return id, tonumber(only(lines, "accepted")[1]:match("accepted (%d+)"))
end

local function received(lines)
  local bytes = {}
  for _, line in ipairs(only(lines, "received")) do bytes[#bytes + 1] = line:match("received %d+ (.*)") end
  return table.concat(bytes)
end

describe("the simulated world", function()
  local function busy(seed)
    local world = core.sim_world(seed, { frame_lost = 100, frame_doubled = 100, frame_late = 100, torn = 500 })
    world:make_dir(1, "d")
    world:create(1, "d/file", 4096)
    local link = linked(world)
    for i = 1, 50 do
      world:send(link, "frame " .. i .. ";")
      world:write(1, "disk", "d/file", i * 10, "bytes")
      world:run(100)
    end
    world:crash(1)
    local lines = run(world)
    return world:hash(), table.concat(lines, "\n")
  end

  it("gives the same run for the same seed, and another one for another seed", function()
    local hash, lines = busy(7)
    local hash_again, lines_again = busy(7)
    assert.equal(hash, hash_again)
    assert.equal(lines, lines_again)
    assert.not_equal(hash, (busy(8)))
  end)

  it("rings an alarm once, and only the one that was set last", function()
    local world = core.sim_world(1)
    world:alarm(1, 1000)
    world:alarm(1, 5000)
    assert.same({}, run(world, 4000))
    assert.same({ "1 alarm 0 " }, run(world))
  end)

  it("makes one event of several wake-ups", function()
    local world = core.sim_world(1)
    for _ = 1, 3 do
      world:wake(1)
      world:notify(2)
    end
    local lines = run(world)
    table.sort(lines)
    assert.same({ "1 woken 0 ", "2 notified 0 " }, lines)
  end)

  it("has no event when nothing was asked for", function()
    assert.is_false(core.sim_world(1):step())
  end)
end)

describe("a lane of the simulated world", function()
  it("runs its jobs in order, one at a time, and tells of each after it ran", function()
    for seed = 1, 20 do
      local world = core.sim_world(seed)
      world:create(1, "file", 10)
      for _ = 1, 10 do world:write(1, "disk", "file", 0, "x") end
      local lines = run(world)
      local works, dones = only(lines, "work"), only(lines, "done")
      for i = 1, 10 do
        assert.equal(("1 work %d "):format(i), works[i])
        assert.equal(("1 done %d ok"):format(i), dones[i])
      end
      local ran = {}
      for _, line in ipairs(lines) do
        local what, number = line:match("^1 (%a+) (%d+)")
        if what == "work" then ran[number] = true else assert.is_true(ran[number]) end
      end
    end
  end)

  it("does not wait for the other lane", function()
    local overtaken = false
    for seed = 1, 20 do
      local world = core.sim_world(seed)
      world:create(1, "file", 10)
      for _ = 1, 5 do world:write(1, "bulk", "file", 0, "x") end
      local last = world:write(1, "disk", "file", 0, "x")
      local works = only(run(world), "work")
      overtaken = overtaken or works[#works] ~= ("1 work %d "):format(last)
    end
    assert.is_true(overtaken)
  end)

  it("makes no progress while the disk is stalled, and goes on afterwards", function()
    local world = core.sim_world(1)
    world:create(1, "file", 10)
    world:stall_disk(1, true)
    world:write(1, "disk", "file", 0, "x")
    assert.same({}, run(world))
    world:stall_disk(1, false)
    assert.same({ "1 work 1 ", "1 done 1 ok" }, run(world))
  end)
end)

describe("a simulated disk", function()
  it("keeps what was written over a crash, and loses what had not begun", function()
    local world = core.sim_world(1)
    world:create(1, "file", 4)
    world:sync_dir(1, ".")
    world:write(1, "disk", "file", 0, "kept")
    run(world)
    world:write(1, "disk", "file", 0, "1111")
    world:write(1, "disk", "file", 0, "2222")
    world:crash(1)
    assert.same({}, only(run(world), "done"))
    local bytes = world:read(1, "file")
    assert.is_true(bytes == "kept" or bytes == "1111", bytes)
  end)

  it("tears a write that a crash interrupts, in sectors and within one", function()
    local old, new = ("o"):rep(4096), ("n"):rep(4096)
    local kinds = { none = 0, whole = 0, cut = 0, holes = 0 }
    for seed = 1, 300 do
      local world = core.sim_world(seed, { torn = 700 })
      world:create(1, "file", 4096)
      world:sync_dir(1, ".")
      world:write(1, "disk", "file", 0, old)
      run(world)
      world:write(1, "disk", "file", 0, new)
      world:crash(1)
      local bytes = world:read(1, "file")
      local kind = bytes == old and "none" or bytes == new and "whole" or bytes:find("^n*o*$") and "cut" or "holes"
      kinds[kind] = kinds[kind] + 1
    end
    for kind, count in pairs(kinds) do assert.is_true(count > 10, kind .. ": " .. count) end
  end)

  it("may lose names that were not synced, and never those that were", function()
    local lost, kept = 0, 0
    for seed = 1, 50 do
      local world = core.sim_world(seed)
      world:make_dir(1, "d")
      world:create(1, "d/synced", 1)
      world:sync_dir(1, "d")
      world:create(1, "d/new", 1)
      world:crash(1)
      local names = world:list(1, "d")
      if names == "synced" then lost = lost + 1 else kept = kept + 1 end
      assert.is_true(names == "synced" or names == "new synced", names)
    end
    assert.is_true(lost > 5 and kept > 5)
  end)

  it("renames as a whole: the name leads to the old file or to the new one", function()
    local seen = {}
    for seed = 1, 50 do
      local world = core.sim_world(seed)
      world:create(1, "a", 1)
      world:create(1, "b", 2)
      world:sync_dir(1, ".")
      world:rename(1, "b", "a")
      world:crash(1)
      seen[world:list(1, ".") .. " " .. #world:read(1, "a")] = true
    end
    assert.same({ ["a 2"] = true, ["a b 1"] = true }, seen)
  end)

  it("keeps the bytes of a lost create out of a later file of that name", function()
    for seed = 1, 20 do
      local world = core.sim_world(seed)
      world:create(1, "file", 4)
      world:write(1, "disk", "file", 0, "past")
      run(world)
      world:crash(1)
      if not world:read(1, "file") then
        world:create(1, "file", 4)
        assert.equal("\0\0\0\0", world:read(1, "file"))
      end
    end
  end)

  it("has a lock that one holder has until it dies", function()
    local world = core.sim_world(1)
    world:make_dir(1, "d")
    assert.is_true(world:lock(1, "d"))
    local ok, _, code = world:lock(1, "d")
    assert.same({ nil, "locked" }, { ok, code })
    world:crash(1)
    assert.is_true(world:lock(1, "d"))
  end)

  it("has no room for new files when it is full", function()
    local world = core.sim_world(1)
    world:create(1, "old", 4)
    world:fill_disk(1, true)
    local ok, _, code = world:create(1, "new", 4)
    assert.same({ nil, "full" }, { ok, code })
    world:write(1, "disk", "old", 0, "fits")
    world:write(1, "disk", "old", 2, "grows")
    assert.same({ "1 done 1 ok", "1 done 2 full" }, only(run(world), "done"))
    world:fill_disk(1, false)
    assert.is_true(world:create(1, "new", 4))
  end)

  it("fails the one operation that was planned to fail", function()
    local world = core.sim_world(1)
    world:fail_file(1, 2)
    assert.is_true(world:make_dir(1, "a"))
    local ok, text, code = world:make_dir(1, "b")
    assert.same({ nil, "io" }, { ok, code })
    assert.matches("make b: planned failure", text, 1, true)
    assert.is_true(world:make_dir(1, "b"))
  end)

  it("does nothing any more for a process that is dying", function()
    local world = core.sim_world(1)
    world:die(1, 2)
    assert.is_true(world:make_dir(1, "a"))
    assert.is_nil(world:make_dir(1, "b"))
    assert.is_nil(world:make_dir(1, "c"))
    world:crash(1)
    assert.equal("a", world:list(1, "."))
  end)
end)

describe("a simulated link", function()
  it("carries bytes in order, cut anywhere", function()
    local cut = false
    for seed = 1, 20 do
      local world = core.sim_world(seed)
      local link = linked(world)
      local sent = {}
      for i = 1, 20 do
        sent[i] = ("<%d>"):format(i)
        world:send(link, sent[i])
      end
      local lines = run(world)
      assert.equal(table.concat(sent), received(lines))
      cut = cut or #lines > 20
    end
    assert.is_true(cut)
  end)

  it("loses, doubles and delays whole frames when it is told to", function()
    local function arrived(faults)
      local world = core.sim_world(3, faults)
      local link = linked(world)
      for i = 1, 100 do world:send(link, ("<%d>"):format(i)) end
      local numbers = {}
      for number in received(run(world)):gmatch("<(%d+)>") do numbers[#numbers + 1] = tonumber(number) end
      return numbers
    end
    assert.equal(100, #arrived({}))
    local lost = #arrived({ frame_lost = 300 })
    assert.is_true(lost > 50 and lost < 90)
    local doubled = #arrived({ frame_doubled = 300 })
    assert.is_true(doubled > 110 and doubled < 150)
    local late, in_order = arrived({ frame_late = 300 }), true
    assert.equal(100, #late)
    for i = 2, #late do in_order = in_order and late[i - 1] < late[i] end
    assert.is_false(in_order)
  end)

  it("breaks within a frame: some of its bytes, then both ends hear of it", function()
    for seed = 1, 20 do
      local world = core.sim_world(seed, { link_broken = 1000 })
      local link = linked(world)
      world:send(link, "a frame of some length")
      world:send(link, "lost")
      local lines = run(world)
      assert.equal(1, ("a frame of some length"):find(received(lines), 1, true))
      local closed = only(lines, "closed")
      table.sort(closed)
      assert.same({ "1 closed 1 connection broken", "2 closed 2 connection broken" }, closed)
    end
  end)

  it("is refused where nobody listens, and unreachable behind a partition", function()
    local world = core.sim_world(1)
    world:connect(1, "two:1")
    assert.same({ "1 closed 1 connection refused" }, run(world))
    world:listen(2, "two:1")
    for from = 1, 2 do
      world:cut(from, 3 - from, true)
      local link = world:connect(1, "two:1")
      assert.equal(("1 closed %d unreachable"):format(link), only(run(world), "closed")[1])
      world:cut(from, 3 - from, false)
    end
  end)

  it("is cut one way by a partition of one way", function()
    local world = core.sim_world(1)
    local near, far = linked(world)
    world:cut(1, 2, true)
    world:send(near, "there")
    world:send(far, "back")
    local lines = run(world)
    assert.equal("back", received(lines))
    world:cut(1, 2, false)
    world:send(near, "again")
    assert.equal("again", received(run(world)))
  end)

  it("closes at the other end, once", function()
    local world = core.sim_world(1)
    local near = linked(world)
    world:close(near)
    assert.same({ "2 closed 2 closed by the peer" }, run(world))
  end)

  it("breaks at the other end when a process dies, whose address is then free", function()
    local world = core.sim_world(1)
    linked(world)
    assert.is_nil(world:listen(3, "two:1"))
    world:crash(2)
    local lines = run(world)
    assert.equal(1, #lines)
    assert.matches("^1 closed 1 ", lines[1])
    assert.is_true(world:listen(3, "two:1"))
  end)

  it("stays half open when the news of a death is cut off, until something is sent over it", function()
    local world = core.sim_world(1)
    local near = linked(world)
    world:cut(2, 1, true)
    world:crash(2)
    assert.same({}, run(world))
    world:cut(2, 1, false)
    world:send(near, "hello?")
    assert.same({ "1 closed 1 connection broken" }, run(world))
  end)

  it("needs an address with a port", function()
    local world = core.sim_world(1)
    local ok, _, code = world:listen(1, "nowhere")
    assert.same({ nil, "address" }, { ok, code })
    ok, _, code = world:connect(1, "nowhere:x")
    assert.same({ nil, "address" }, { ok, code })
  end)
end)
