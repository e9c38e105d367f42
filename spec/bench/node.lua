-- One process of a benchmark: a member of the cluster, which does the jobs that lab.lua gives it, one after the other.
-- Arguments: its id, the directory of the cluster.
local core = require "raft.core"
local machines = require "spec.bench.machines"
local raft = require "raft"

local LOOK_S = 0.02                          -- between looks for a job
local TICKS_A_SECOND = 100                   -- the kernel's, in /proc/PID/stat
local now = core.now
local id, dir = tonumber(arg[1]), arg[2]

local function read_file(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read("a")
  file:close()
  return text
end

local function write_file(path, text)
  local file = assert(io.open(path .. ".new", "wb"))
  file:write(text)
  file:close()
  assert(os.rename(path .. ".new", path))
end

local config = raft.unpack(read_file(dir .. "/config"))

---CPU seconds that processes have used so far, all their threads together.
local function cpu_seconds(pids)
  local sum = 0
  for _, pid in ipairs(pids) do
    local fields = {}
    for field in (read_file("/proc/" .. pid .. "/stat") or ""):match("%) (.*)"):gmatch("%S+") do
      fields[#fields + 1] = field
    end
    sum = sum + (fields[12] + fields[13]) / TICKS_A_SECOND
  end
  return sum
end

local lua_most = 0   -- bytes of Lua's heap, with what is not collected yet, whenever somebody looked

local function look_at_heap() lua_most = math.max(lua_most, collectgarbage("count") * 1024) end

---Resident memory of this process in bytes: all, and what is not backed by files. The allocator keeps what Lua gives
---back: what Lua takes of it is its heap at its largest.
local function memory()
  local text = read_file("/proc/self/status")
  look_at_heap()
  return { rss = text:match("VmRSS:%s+(%d+)") * 1024, anonymous = text:match("RssAnon:%s+(%d+)") * 1024,
    lua = lua_most }
end

-- ---- latencies: a histogram, since millions of numbers would keep the collector busy ----

---Counts by us, exact to 1 in 256.
local function note(counts, seconds)
  local us = seconds * 1e6 // 1 | 0
  local step = 1
  while us >= step << 9 do step = step << 1 end
  local slot = us - us % step
  counts[slot] = (counts[slot] or 0) + 1
end

---The value in us below or at which so large a share lies, for each share.
local function percentiles(counts, shares)
  local values, total, result = {}, 0, {}
  for us, n in pairs(counts) do
    values[#values + 1] = us
    total = total + n
  end
  table.sort(values)
  for name, share in pairs(shares) do
    local sum = 0
    for _, us in ipairs(values) do
      sum = sum + counts[us]
      result[name] = us
      if sum >= total * share then break end
    end
  end
  return result
end

-- ---- load: `window` coroutines, each with one call under way at a time ----

---@class bench.load
---@field window integer
---@field warm number           seconds before it is measured
---@field seconds number        measured
---@field pids integer[]?       whose CPU counts
---@field watched boolean?     failures are counted, and the longest gap taken; else a failure ends the job

local EVERY = 16   -- the load costs CPU where it is measured: of so many calls of a coroutine, one is timed

---The longest time without a call that ended: note() is called when one has; gap, at.
local function watch_gaps(from)
  local watch, previous = {}, nil
  function watch.note()
    local time = now()
    if time < from then return end
    if previous and time - previous > (watch.gap or 0) then watch.gap, watch.at = time - previous, previous end
    previous = time
  end
  return watch
end

---Calls call(a, b) all the time: { per_second, p50_us, p99_us, cpu_us (of one call, over all pids), calls, gap (the
---longest time without one that ended, in seconds), failures (by code) }.
local function run_load(job, call, a, b)
  local counts, calls, open, failures = {}, 0, job.window, {}
  local every = job.window < EVERY and 1 or EVERY
  local first, last
  local from = now() + job.warm
  local watch = job.watched and watch_gaps(from)
  local function mark()
    return { at = now(), calls = calls, cpu = cpu_seconds(job.pids or {}) }
  end
  raft.go(function()
    raft.sleep(job.warm)
    first = mark()
    repeat raft.sleep(job.seconds) until calls > first.calls and next(counts)   -- one at least is timed
    last = mark()
  end)
  local function failed(message, code)
    if not watch then error(("%s (%s)"):format(message, code), 0) end
    failures[code] = (failures[code] or 0) + 1
  end
  for number = 1, job.window do
    raft.go(function()
      local turn = number   -- so that they are not all timed at once
      while not last do
        turn = turn + 1
        local start = turn % every == 0 and now()
        local _, message, code = call(a, b)
        if code then
          failed(message, code)
        else
          calls = calls + 1
          if start and start >= from then note(counts, now() - start) end
          if watch then watch.note() end
        end
      end
      open = open - 1
    end)
  end
  while open > 0 do raft.sleep(LOOK_S) end
  local done = last.calls - first.calls
  local result = percentiles(counts, { p50_us = 0.5, p99_us = 0.99 })
  result.per_second, result.calls = done / (last.at - first.at), done
  result.cpu_us = (last.cpu - first.cpu) / done * 1e6
  if watch then result.gap, result.gap_at, result.failures = watch.gap, watch.at, failures end
  return result
end

-- ---- jobs ----

local jobs = {}

function jobs.status(node)
  local s = node:status()
  return { id = s.id, ready = s.ready, leader = s.leader, role = s.role, term = s.term, commit = s.commit,
    applied = s.applied, first = s.first, last = s.last, log = s.log, snapshot = s.snapshot, disk = s.disk,
    elections = s.elections, memory = memory(), uptime = s.uptime }
end

---Commands of so many bytes.
function jobs.propose(node, job)
  local command = ("x"):rep(job.bytes)
  return run_load(job, node.propose, node, command)
end

---Linearizable reads.
function jobs.read(node, job)
  local function look(machine) return machine.n end
  return run_load(job, node.read, node, look)
end

---Commands of so many bytes in the sessions of programs outside, of which so many are open (at least window).
function jobs.sessions(node, job)
  local command, all, used, opening = ("x"):rep(job.bytes), {}, 0, job.window
  for w = 1, job.window do
    raft.go(function()
      for i = w, job.count, job.window do
        all[i] = { session = assert(node:session(nil, { timeout = 60 })), seq = 0 }
      end
      opening = opening - 1
    end)
  end
  while opening > 0 do raft.sleep(LOOK_S) end
  return run_load(job, function()
    local own = all[used % job.count + 1]      -- in turns: each is done with its last command by then
    used, own.seq = used + 1, own.seq + 1
    return own.session:propose(own.seq, command)
  end)
end

---count commands of so many bytes, as fast as may be.
function jobs.fill(node, job)
  local command, left, open, start = ("x"):rep(job.bytes), job.count, job.window, now()
  for _ = 1, job.window do
    raft.go(function()
      while left > 0 do
        left = left - 1
        assert(node:propose(command, { timeout = 60 }))
      end
      open = open - 1
    end)
  end
  while open > 0 do
    raft.sleep(LOOK_S)
    look_at_heap()
  end
  return { seconds = now() - start, memory = memory() }
end

---Sets `count` keys of the machine `map`.
function jobs.keys(node, job)
  local start = now()
  for first = 1, job.count, job.batch do
    assert(node:propose({ first = first, n = math.min(job.batch, job.count - first + 1), bytes = job.bytes },
      { timeout = 60 }))
  end
  return { seconds = now() - start, memory = memory() }
end

---How long this host stands still at the most, until done().
local function watch_pauses(done)
  local result = { pause = 0 }
  raft.go(function()
    local before = now()
    while not done() do
      raft.sleep(0.001)
      local after = now()
      result.pause, before = math.max(result.pause, after - before - 0.001), after
    end
    result.over = true
  end)
  return result
end

---Watches this host for some seconds.
function jobs.pauses(_, job)
  local finish = now() + job.seconds
  local result = watch_pauses(function() return now() > finish end)
  while not result.over do raft.sleep(LOOK_S) end
  return result
end

---Takes a snapshot, and watches the host meanwhile.
function jobs.snapshot(node)
  local finished = false
  local result = watch_pauses(function() return finished end)
  raft.sleep(0.1)
  local quiet, start = result.pause, now()
  result.pause = 0
  local index = assert(node:snapshot { timeout = 120 })
  result.seconds, result.index = now() - start, index
  raft.sleep(0.1)
  finished = true
  while not result.over do raft.sleep(LOOK_S) end
  result.quiet, result.bytes = quiet, node:status().snapshot.bytes
  return result
end

function jobs.transfer(node, job)
  local start = now()
  local leader = assert(node:transfer(job.to))
  return { leader = leader, seconds = now() - start }
end

---Waits until the log is applied up to an index, or a snapshot has taken the place of the state: when it was so, and
---when the node was open, and how long its host stood still meanwhile.
function jobs.ready(node, job)
  local there = false
  local result = watch_pauses(function() return there end)
  assert(node:wait(function(s)
    return s.ready and s.applied >= (job.index or 0) and (node.restored_at or not job.restored)
  end, 300))
  result.at, result.opened, result.restored = now(), node.opened_at, node.restored_at
  there = true
  while not result.over do raft.sleep(LOOK_S) end
  return result
end

---Does nothing for some seconds, not even look for jobs: CPU seconds of the processes.
function jobs.rest(_, job)
  local before = cpu_seconds(job.pids)
  raft.sleep(job.seconds)
  return { cpu_share = (cpu_seconds(job.pids) - before) / job.seconds, memory = memory() }
end

---One command after the other: when each began and ended, in ns of the monotonic clock (for hops.lua).
function jobs.way(node, job)
  local lines, command = {}, ("x"):rep(job.bytes)
  for i = 1, job.count do
    local start = now()
    assert(node:propose(command))
    lines[i] = ("%d %d\n"):format(start * 1e9 // 1, now() * 1e9 // 1)
  end
  write_file(("%s/calls.%d"):format(config.keep, id), table.concat(lines))
  return {}
end

-- ---- the process ----

---Who started this process, and would end it.
local function parent() return read_file("/proc/self/stat"):match("%) %S+ (%d+)") end

---The next job of this member; nil: there is none.
local function next_job()
  local path = ("%s/job.%d"):format(dir, id)
  local text = read_file(path)
  if not text then return nil end
  os.remove(path)
  return raft.unpack(text)
end

raft.run(function()
  local options = { id = id, dir = dir .. "/" .. id, machine = machines[config.machine], cluster = config.cluster,
    log = "error" }
  for name, value in pairs(config.node) do options[name] = value end
  local node <close> = assert(raft.node(options))
  node.opened_at = now()
  node:on("snapshot", function(event)
    if event.from then node.restored_at = now() end
  end)
  local owner = parent()
  while parent() == owner do
    local job = next_job()
    if job then
      local ok, result = pcall(jobs[job.what], node, job)
      write_file(("%s/result.%d"):format(dir, id), raft.pack(ok and result or { failed = tostring(result) }))
    else
      raft.sleep(LOOK_S)
    end
  end
end)
