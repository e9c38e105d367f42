-- Tarantool (Debian: tarantool) under the same load as ours: a synchronous space, its log synced at each write, fibers
-- in the leader's own process that replace one tuple after the other. Two nodes, and both must have it: with three,
-- Debian's 2.6 stops committing after a while.
--
--   tarantool spec/bench/tarantool.lua put DIR BYTES WINDOW WARM SECONDS    prints one line of key=value
--
-- Run by Tarantool's own LuaJIT.
-- luacheck: std luajit, globals box
local clock, fiber, fio, popen = require "clock", require "fiber", require "fio", require "popen"

local KEYS = 100000
local CONNECT_S = 20
local TICKS = 100                   -- of /proc/PID/stat, a second
local SCRIPT = fio.abspath(arg[0])  -- box.cfg changes the directory

local function configure(dir, name, others)
  assert(fio.mktree(dir .. "/" .. name))
  box.cfg { work_dir = dir .. "/" .. name, listen = "unix/:" .. dir .. "/" .. name .. ".sock",
    replication = others, replication_connect_quorum = #others, replication_connect_timeout = CONNECT_S,
    read_only = name ~= "leader", wal_mode = "fsync", replication_synchro_quorum = 2, replication_synchro_timeout = 5,
    memtx_memory = 1024 * 1024 * 1024, wal_max_size = 4 * 1024 * 1024 * 1024, checkpoint_interval = 0, log_level = 2 }
end

local function follow(dir) configure(dir, "follower", { "unix/:" .. dir .. "/leader.sock" }) end

local function lead(dir)
  configure(dir, "leader", {})
  box.schema.user.grant("guest", "super")
  local space = box.schema.space.create("bench", { is_sync = true })
  space:create_index("pk", { parts = { 1, "unsigned" } })
  return space
end

local function await_follower()
  local give_up = clock.monotonic() + CONNECT_S
  while clock.monotonic() < give_up do
    for _, replica in pairs(box.info.replication) do
      if replica.downstream and replica.downstream.status == "follow" then return end
    end
    fiber.sleep(0.05)
  end
  error("the second node does not follow")
end

---Processor time of a process so far, in seconds.
local function cpu_of(pid)
  local file = assert(io.open("/proc/" .. pid .. "/stat"))
  local user, system = file:read("*a"):match("^.*%) " .. ("%S+ "):rep(11) .. "(%d+) (%d+)")
  file:close()
  return (user + system) / TICKS
end

---Latencies in seconds, ascending, of all that began after `from` and ended before `to`.
local function load(space, bytes, window, from, to)
  local value, latencies, running, failure = ("v"):rep(bytes), {}, window, nil
  for n = 1, window do
    fiber.create(function()
      local ok, err = pcall(function()
        local began, key = clock.monotonic(), n * 7919
        while began < to do
          space:replace { key % KEYS, value }
          local ended = clock.monotonic()
          if began >= from and ended <= to then latencies[#latencies + 1] = ended - began end
          began, key = ended, key + 1
        end
      end)
      if not ok then failure = err end
      running = running - 1
    end)
  end
  while running > 0 do fiber.sleep(0.01) end
  if failure then error(failure) end
  table.sort(latencies)
  return latencies
end

local function put(dir, bytes, window, warm, seconds)
  local space = lead(dir)
  local follower = assert(popen.new({ "/usr/bin/env", "tarantool", SCRIPT, "follow", dir }))
  local ok, err = pcall(function()
    await_follower()
    local from = clock.monotonic() + warm
    local pids, before = { box.info.pid, follower:info().pid }, 0
    fiber.create(function()
      fiber.sleep(warm)
      before = cpu_of(pids[1]) + cpu_of(pids[2])
    end)
    local list = load(space, bytes, window, from, from + seconds)
    local cpu = cpu_of(pids[1]) + cpu_of(pids[2]) - before
    assert(#list > 0, "nothing was committed")
    print(("per_second=%d p50_us=%d p99_us=%d cpu_us=%.2f"):format(#list / seconds,
      list[math.ceil(#list * 0.5)] * 1e6, list[math.ceil(#list * 0.99)] * 1e6, cpu / #list * 1e6))
  end)
  follower:kill()
  if not ok then error(err) end
end

if arg[1] == "follow" then
  follow(arg[2])
else
  local ok, err = pcall(put, arg[2], tonumber(arg[3]), tonumber(arg[4]), tonumber(arg[5]), tonumber(arg[6]))
  if not ok then io.stderr:write("tarantool: ", tostring(err), "\n") end
  os.exit(ok and 0 or 1)
end
