-- One process of the benchmark: a node; the one that leads also drives the load, and writes down what it measured.
-- Arguments: id, directory of the cluster, its addresses with commas between, seconds for each measurement.
local core = require "raft.core"
local raft = require "raft"

local WINDOWS, SIZES = { 1, 16, 64, 256 }, { 128, 1024 }
local WARM_S = 0.5
local TICKS_A_SECOND = 100                   -- the kernel's, in /proc/PID/stat
local id, dir, list, seconds = tonumber(arg[1]), arg[2], arg[3], tonumber(arg[4])

local sink = {}                              -- a state machine that costs next to nothing
function sink:init() self.n = 0 end
function sink:apply()
  self.n = self.n + 1
  return self.n
end

local addresses = {}
for address in list:gmatch("[^,]+") do addresses[#addresses + 1] = address end

local function read_file(path)
  local file = io.open(path)
  if not file then return nil end
  local text = file:read("a")
  file:close()
  return text
end

local function write_file(path, text)
  local file = assert(io.open(path .. ".new", "w"))
  file:write(text)
  file:close()
  assert(os.rename(path .. ".new", path))
end

---CPU seconds that each process has used so far.
local function cpu_seconds()
  local used = {}
  for i in ipairs(addresses) do
    local pid = read_file(dir .. "/" .. i .. ".pid")
    local fields = {}
    for field in read_file("/proc/" .. pid .. "/stat"):match("%) (.*)"):gmatch("%S+") do fields[#fields + 1] = field end
    used[i] = (fields[12] + fields[13]) / TICKS_A_SECOND
  end
  return used
end

local function percentile(sorted, share) return sorted[math.max(1, math.ceil(#sorted * share))] end

---`window` coroutines, each with one command under way at a time.
local function measure(node, window, size)
  local command, open, took = ("x"):rep(size), window, {}
  local from = core.now() + WARM_S
  local to = from + seconds
  local before
  raft.after(WARM_S, function() before = cpu_seconds() end)
  for _ = 1, window do
    raft.go(function()
      local start = core.now()
      while start < to do
        assert(node:propose(command))
        local finish = core.now()
        if start >= from and finish <= to then took[#took + 1] = finish - start end
        start = finish
      end
      open = open - 1
    end)
  end
  while open > 0 do raft.sleep(0.05) end
  local after, used = cpu_seconds(), {}
  for i, s in ipairs(after) do used[i] = ("%.2f"):format((s - before[i]) / seconds) end
  table.sort(took)
  return ('{"window":%d,"bytes":%d,"per_second":%d,"p50_us":%d,"p99_us":%d,"leader":%d,"cpu":[%s]}'):format(
    window, size, #took / seconds // 1, percentile(took, 0.5) * 1e6 // 1, percentile(took, 0.99) * 1e6 // 1,
    node.id, table.concat(used, ","))
end

---One command at a time: when each began and ended, for the hops (trace.lua).
local function one_by_one(node, n)
  local lines, command = {}, ("x"):rep(128)
  for i = 1, n do
    local start = core.now()
    assert(node:propose(command))
    lines[i] = ("%d %d\n"):format(start * 1e9 // 1, core.now() * 1e9 // 1)
  end
  return table.concat(lines)
end

raft.run(function()
  local node <close> = assert(raft.node { id = id, dir = dir .. "/" .. id, machine = sink, cluster = addresses,
    log = "error" })
  assert(node:wait("leader", 30))
  while node.role == "leader" and not read_file(dir .. "/done") do
    assert(node:barrier())
    if seconds == 0 then
      write_file(dir .. "/calls." .. id, one_by_one(node, 500))
    else
      local results = {}
      for _, size in ipairs(SIZES) do
        for _, window in ipairs(WINDOWS) do results[#results + 1] = measure(node, window, size) end
      end
      write_file(dir .. "/results", table.concat(results, "\n"))
    end
    write_file(dir .. "/done", tostring(id))
  end
  while true do raft.sleep(3600) end
end)
