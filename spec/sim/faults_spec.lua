local core = require "raft.core"

-- What has happened since the last call, line by line: "node what number data".
local function log(world)
  local lines = {}
  for line in world:log():gmatch("([^\n]*)\n") do lines[#lines + 1] = line end
  return lines
end

local function run(world, us)
  world:run(us or 10000000)
  return log(world)
end

local function only(lines, what)
  local found = {}
  for _, line in ipairs(lines) do
    if line:find("^%d+ " .. what .. " ") then found[#found + 1] = line end
  end
  return found
end

local function received(lines)
  local bytes = {}
  for _, line in ipairs(only(lines, "received")) do bytes[#bytes + 1] = line:match("received %d+ (.*)") end
  return table.concat(bytes)
end

-- A link from node 1 to node 2: its ids at both ends.
local function linked(world)
  assert(world:listen(2, "two:1"))
  local id = assert(world:connect(1, "two:1"))
  local lines = run(world)
  return id, tonumber(only(lines, "accepted")[1]:match("accepted (%d+)"))
end

-- Runs until something of this kind happens; returns how long that took.
local function time_until(world, what)
  local before = world:now()
  while world:step() do
    if #only(log(world), what) > 0 then return world:now() - before end
  end
end

describe("a paused process", function()
  it("is told nothing until it goes on, then everything at once and in order", function()
    for seed = 1, 20 do
      local world = core.sim_world(seed)
      local near = linked(world)
      world:create(2, "file", 10)
      world:pause(2, true)
      world:alarm(2, 1000)
      world:wake(2)
      world:write(2, "disk", "file", 0, "x")
      for i = 1, 10 do
        world:send(near, i .. ";")
        world:run(1000)
      end
      local lines = run(world)
      assert.same({ "2 work 1 " }, lines) -- the disk's thread goes on, and cannot tell anyone
      world:pause(2, false)
      local resumed = world:now()
      lines = run(world, 500)
      assert.equal("1;2;3;4;5;6;7;8;9;10;", received(lines))
      for _, what in ipairs { "alarm", "woken", "done" } do assert.equal(1, #only(lines, what), what) end
      assert.equal(resumed + 500, world:now())
    end
  end)

  it("has a clock that goes on", function()
    local world = core.sim_world(1)
    local before = world:clock(1)
    world:pause(1, true)
    world:run(123456)
    assert.equal(before + 123456, (world:clock(1)))
  end)

  it("has a system that accepts connections for it, and a host of its own", function()
    local world = core.sim_world(1)
    world:listen(2, "two:1")
    world:pause(2, true)
    world:notify(2)
    local link = world:connect(1, "two:1")
    local lines = run(world)
    table.sort(lines)
    assert.same({ "1 connected " .. link .. " ", "2 notified 0 " }, lines)
    world:send(link, "hello")
    run(world)
    world:pause(2, false)
    lines = run(world)
    assert.matches("^2 accepted ", lines[1])
    assert.equal("hello", received(lines))
  end)

  it("never hears of what came for it when it dies instead of going on", function()
    local world = core.sim_world(1)
    local near = linked(world)
    world:pause(2, true)
    world:send(near, "lost")
    world:wake(2)
    run(world)
    world:crash(2)
    assert.same({}, only(run(world), "received"))
    world:wake(2)
    assert.same({ "2 woken 0 " }, run(world))
  end)
end)

describe("the clock of a simulated node", function()
  it("runs at a rate of its own, and its alarms with it", function()
    for _, rate in ipairs { 250000, 1000000, 4000000 } do
      local world = core.sim_world(1)
      local clock = world:clock(1)
      world:alarm(1, 100000)
      world:set_clock(1, rate)
      local took = time_until(world, "alarm")
      local exact = 100000 * 1000000 // rate
      assert.is_true(took >= exact and took <= exact + 60, rate .. ": " .. took)
      assert.is_true(world:clock(1) >= clock + 100000)
      world:run(1000000 - took)
      assert.equal(clock + rate, (world:clock(1)))
    end
  end)

  it("may stand still: no alarm rings until it goes on", function()
    local world = core.sim_world(1)
    local clock = world:clock(1)
    world:set_clock(1, 0)
    world:alarm(1, 10)
    assert.same({}, run(world))
    assert.equal(clock, (world:clock(1)))
    world:set_clock(1, 1000000)
    assert.same({ "1 alarm 0 " }, run(world, 100))
  end)

  it("may jump forward, over an alarm that then rings at once", function()
    local world = core.sim_world(1)
    local clock = world:clock(1)
    world:alarm(1, 5000000)
    world:jump_clock(1, 6000000)
    assert.equal(clock + 6000000, (world:clock(1)))
    assert.same({ "1 alarm 0 " }, run(world, 100))
    assert.same({}, run(world))
  end)

  it("never falls, whatever happens to it", function()
    local world = core.sim_world(1)
    local last = 0
    for i = 1, 1000 do
      world:set_clock(1, (i * 7919) % 4000000)
      if i % 10 == 0 then world:jump_clock(1, i) end
      world:run(i % 13)
      local clock = world:clock(1)
      assert.is_true(clock >= last)
      last = clock
    end
  end)

  it("is not its wall clock, which jumps both ways", function()
    local world = core.sim_world(1)
    local clock, wall = world:clock(1)
    world:jump_wall(1, -3600000000)
    assert.same({ clock, wall - 3600000000 }, { world:clock(1) })
    world:jump_wall(1, 7200000000)
    assert.same({ clock, wall + 3600000000 }, { world:clock(1) })
  end)
end)

describe("a simulated link that is not as it should be", function()
  it("is slow in one direction", function()
    local slowest = 0
    for seed = 1, 20 do
      local world = core.sim_world(seed)
      local near, far = linked(world)
      world:slow_link(1, 2, 500000, 0)
      world:send(near, "there")
      slowest = math.max(slowest, time_until(world, "received"))
      world:send(far, "back")
      assert.is_true(time_until(world, "received") <= 1000)
      world:slow_link(1, 2, 0, 0)
      world:send(near, "there")
      assert.is_true(time_until(world, "received") <= 1000)
    end
    assert.is_true(slowest > 400000)
  end)

  it("carries no more bytes a second than it can", function()
    local world = core.sim_world(1)
    local near = linked(world)
    world:slow_link(1, 2, 0, 10000)
    for _ = 1, 10 do world:send(near, ("x"):rep(1000)) end
    assert.equal(5000, #received(run(world, 550000)))
    assert.equal(5000, #received(run(world, 500000)))
  end)

  it("breaks at both ends when it is reset", function()
    local world = core.sim_world(1)
    local near = linked(world)
    world:reset(2, 1)
    world:send(near, "lost")
    local lines = run(world)
    table.sort(lines)
    assert.same({ "1 closed 1 connection broken", "2 closed 2 connection broken" }, lines)
  end)

  it("is half open when the news of its end is lost: the other end finds out by sending", function()
    local world = core.sim_world(1, { news_lost = 1000 })
    local near, far = linked(world)
    world:close(near)
    assert.same({}, run(world))
    world:send(far, "anybody there?")
    assert.same({ "2 closed 2 connection broken" }, run(world))
  end)

  it("delays late frames with a long tail: mostly a little, sometimes for very long", function()
    local world = core.sim_world(1, { frame_late = 1000 })
    local near = linked(world)
    local short, long = 0, 0
    for _ = 1, 300 do
      world:send(near, "x")
      local took = time_until(world, "received")
      if took <= 4000 then short = short + 1 end
      if took > 20000 then long = long + 1 end
    end
    assert.is_true(short > 150 and long > 3, short .. " " .. long)
  end)
end)

describe("a simulated disk that is not as it should be", function()
  it("is slow, until it is told to be as fast as any", function()
    local world = core.sim_world(1)
    world:create(1, "file", 10)
    world:slow_disk(1, 1000000)
    local slowest = 0
    for _ = 1, 20 do
      world:write(1, "disk", "file", 0, "x")
      slowest = math.max(slowest, time_until(world, "done"))
    end
    assert.is_true(slowest > 800000)
    world:slow_disk(1, 0)
    world:write(1, "disk", "file", 0, "x")
    assert.is_true(time_until(world, "done") < 1000)
  end)

  it("is late now and then, with a long tail", function()
    local world = core.sim_world(1, { disk_late = 500 })
    world:create(1, "file", 10)
    local long = 0
    for _ = 1, 300 do
      world:write(1, "disk", "file", 0, "x")
      if time_until(world, "done") > 4000 then long = long + 1 end
    end
    assert.is_true(long > 3 and long < 60, long)
  end)

  it("may keep any of the writes that its lanes had in flight when the process died", function()
    local seen = {}
    for seed = 1, 200 do
      local world = core.sim_world(seed)
      for _, path in ipairs { "a", "b" } do world:create(1, path, 1) end
      world:sync_dir(1, ".")
      world:write(1, "disk", "a", 0, "A")
      world:write(1, "bulk", "b", 0, "B")
      world:crash(1)
      seen[(world:read(1, "a") .. world:read(1, "b")):gsub("%z", ".")] = true
    end
    assert.same({ [".."] = true, ["A."] = true, [".B"] = true, ["AB"] = true }, seen)
  end)

  it("is empty after it was wiped", function()
    local world = core.sim_world(1)
    world:make_dir(1, "d")
    world:create(1, "d/file", 10)
    world:sync_dir(1, "d")
    world:crash(1)
    world:wipe(1)
    assert.is_nil(world:list(1, "d"))
    assert.is_nil(world:read(1, "d/file"))
  end)
end)

describe("rot", function()
  -- A file of so many writes of 1000 bytes, one behind the other; at the end all of it as it was written.
  local function log_of(seed, writes)
    local world = core.sim_world(seed, { torn = 700 })
    world:create(1, "log", 1000 * writes)
    world:sync_dir(1, ".")
    for i = 1, writes do world:write(1, "disk", "log", 1000 * (i - 1), string.char(64 + i):rep(1000)) end
    run(world)
    return world, world:read(1, "log")
  end

  it("changes a bit, or up to a sector of noise, and says where", function()
    local bits, noise = 0, 0
    for seed = 1, 100 do
      local world, before = log_of(seed, 5)
      local path, at = world:rot(1)
      assert.equal("log", path)
      local after = world:read(1, "log")
      assert.equal(#before, #after)
      assert.equal(before:sub(1, at), after:sub(1, at))
      assert.not_equal(before:byte(at + 1), after:byte(at + 1))
      assert.equal(before:sub(at + 513), after:sub(at + 513))
      if before:sub(at + 2) == after:sub(at + 2) then bits = bits + 1 else noise = noise + 1 end
    end
    assert.is_true(bits > 20 and noise > 20)
  end)

  it("leaves the newest write of a log alone, whose damage could not be told from a torn write", function()
    for seed = 1, 200 do
      local world, before = log_of(seed, 3)
      world:rot(1)
      assert.equal(before:sub(2001), world:read(1, "log"):sub(2001))
    end
  end)

  it("takes a write for old only when there is all of a later one", function()
    local torn = 0
    for seed = 1, 200 do
      local world = log_of(seed, 2)
      world:write(1, "disk", "log", 1500, "later")
      world:crash(1)
      local before = world:read(1, "log")
      if not before:find("later") then
        torn = torn + 1
        world:rot(1)
        assert.equal(before:sub(1001), world:read(1, "log"):sub(1001))
      end
    end
    assert.is_true(torn > 50)
  end)

  it("may hit a file anywhere that was written but once", function()
    local furthest = 0
    for seed = 1, 200 do
      local world = log_of(seed, 1)
      local _, at = world:rot(1)
      furthest = math.max(furthest, at)
    end
    assert.is_true(furthest > 900)
  end)

  it("finds nothing on an empty disk, nor in files of zeroes", function()
    local world = core.sim_world(1)
    assert.is_nil(world:rot(1))
    world:create(1, "file", 100)
    world:sync_dir(1, ".")
    assert.is_nil(world:rot(1))
  end)
end)
