-- A cluster of processes on this machine, for the benchmarks: starts them, gives them jobs, kills them, cleans up.
--
-- A process (node.lua) looks for its next job in a file of the cluster's directory and answers in another: its loop is
-- raft's own, undisturbed while a job is measured.
local raft = require "raft"
local uv = require "luv"

local LIMIT_S = 300            -- of one wait: longer than anything that is measured
local MEDIA = { disk = uv.cwd() .. "/build", tmpfs = "/dev/shm" }
local SETTLE_S = 0.02          -- between looks at a file

local lab = {}
local Cluster = {}
Cluster.__index = Cluster

---The timer goes on: one that were due before the loop's turn began would have it wait for something else, in vain.
function lab.sleep(seconds)
  local over, timer, ms = false, uv.new_timer(), math.max(1, seconds * 1000 // 1)
  uv.update_time()
  timer:start(ms, ms, function() over = true end)
  while not over do uv.run("once") end
  timer:close()
end

---Waits until condition() is true, and returns what it is.
function lab.wait_until(condition, what)
  local start = uv.hrtime()
  local value = condition()
  while not value do
    if (uv.hrtime() - start) / 1e9 > LIMIT_S then error(("waited %d s for %s"):format(LIMIT_S, what), 2) end
    lab.sleep(SETTLE_S)
    value = condition()
  end
  return value
end

function lab.read_file(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read("a")
  file:close()
  return text
end

function lab.write_file(path, text)
  local file = assert(io.open(path .. ".new", "wb"))
  assert(file:write(text))
  assert(file:close())
  assert(os.rename(path .. ".new", path))
end

---Calls fn(dir) with a new directory on the disk or in memory, which is removed afterwards, come what may.
function lab.with_directory(medium, fn)
  local path = assert(MEDIA[medium], "disk or tmpfs")
  local dir = assert(uv.fs_mkdtemp(path .. "/bench.XXXXXX"))
  local results = table.pack(xpcall(fn, debug.traceback, dir))
  assert(os.execute(("rm -rf '%s'"):format(dir)))
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

---n addresses on 127.0.0.1 that nobody listens on, below those that outgoing connections get.
function lab.addresses(n)
  local list, held = {}, {}
  while #list < n do
    local tcp, port = uv.new_tcp(), math.random(10000, 32000)
    if tcp:bind("127.0.0.1", port) and tcp:listen(1, function() end) then list[#list + 1] = "127.0.0.1:" .. port end
    held[#held + 1] = tcp
  end
  for _, tcp in ipairs(held) do tcp:close() end
  uv.run("nowait")
  return list
end

---Starts a program; its output goes to ours, or into a file. handle.code and handle.signal are set when it has ended.
---@param command string[]
---@param options? { env: table<string, string>?, output: string? }
function lab.spawn(command, options)
  options = options or {}
  local set, env, output = uv.os_environ(), {}, 1
  for name, value in pairs(options.env or {}) do set[name] = value end
  for name, value in pairs(set) do env[#env + 1] = name .. "=" .. value end
  if options.output then output = assert(uv.fs_open(options.output, "a", tonumber("644", 8))) end
  local process = {}
  local handle, pid = uv.spawn(command[1], { args = { table.unpack(command, 2) }, env = env,
    stdio = { nil, output, options.output and output or 2 } }, function(code, signal)
    process.code, process.signal = code, signal
    process.handle:close()
  end)
  if options.output then uv.fs_close(output) end
  process.handle, process.pid = assert(handle, command[1] .. ": " .. tostring(pid)), pid
  return process
end

function lab.wait_for(process) lab.wait_until(function() return process.code end, "the end of a process") end

---Ends a process and waits for it.
function lab.kill(process, signal)
  if not process.code then process.handle:kill(signal) end
  lab.wait_for(process)
end

---Runs a program to its end: what it printed, and its status.
function lab.capture(command, options)
  local path = os.tmpname()
  local process = lab.spawn(command, { env = options and options.env, output = path })
  lab.wait_for(process)
  local text = lab.read_file(path)
  os.remove(path)
  return text, process.signal ~= 0 and 128 + process.signal or process.code
end

---Builds a program of this folder into build/: its path. libraries: what it is linked with instead of our core.
function lab.build_c(name, libraries)
  local path = "build/" .. name
  local command = ("gcc -std=c11 -D_GNU_SOURCE -Icsrc -O2 -g -Wall -Wextra -Werror spec/bench/%s.c -o %s %s -lpthread")
    :format(name, path, libraries or "build/plain/core/*.o build/plain/base/*.o")
  if not os.execute(command) then error("cannot build spec/bench/" .. name .. ".c", 0) end
  return uv.cwd() .. "/" .. path
end

---Ends this program at once: luv 1.44 may crash when a state is closed whose handles are just closing.
function lab.leave(ok) os.exit(ok and 0 or 1) end

-- ---- a cluster ----

---Starts the process of one member.
function Cluster:start(id)
  local root = self.tree
  self.processes[id] = lab.spawn({ arg[-1] or "lua5.4", "spec/bench/node.lua", tostring(id), self.dir }, { env = {
    LUA_PATH = ("%s/lua/?.lua;%s/lua/?/init.lua;?.lua;;"):format(root, root),
    LUA_CPATH = root .. "/build/plain/?.so;;",
    LD_PRELOAD = self.preload, RAFT_TRACE = self.preload and ("%s/trace.%d"):format(self.keep, id),
  } })
end

---Gives a member something to do (node.lua has the jobs).
function Cluster:give(id, job) lab.write_file(("%s/job.%d"):format(self.dir, id), raft.pack(job)) end

---What came of the job that a member was given last. Raises when the job failed, or the process has ended.
function Cluster:result(id)
  local path, process = ("%s/result.%d"):format(self.dir, id), self.processes[id]
  local text = lab.wait_until(function()
    local text = lab.read_file(path)
    if not text and process.code then
      error(("member %d ended: status %d, signal %d"):format(id, process.code, process.signal), 0)
    end
    return text
  end, ("a job of member %d"):format(id))
  os.remove(path)
  local result = raft.unpack(text)
  if result.failed then error(("member %d: %s"):format(id, result.failed), 0) end
  return result
end

function Cluster:ask(id, job)
  self:give(id, job)
  return self:result(id)
end

---Waits until one of the members that run leads and the others know: its id.
function Cluster:leader()
  return lab.wait_until(function()
    local seen
    for id in pairs(self.processes) do
      local status = self:ask(id, { what = "status" })
      if not status.ready or seen and status.leader ~= seen then return nil end
      seen = status.leader
    end
    return seen
  end, "a leader")
end

---The first member that runs and does not lead.
function Cluster:follower()
  local leader = self:leader()
  for id in ipairs(self.addresses) do
    if id ~= leader and self.processes[id] then return id end
  end
end

function Cluster:pids()
  local list = {}
  for _, process in pairs(self.processes) do list[#list + 1] = process.pid end
  return list
end

---Ends one member: "sigkill", or "sigterm" to close it.
function Cluster:stop(id, signal)
  lab.kill(self.processes[id], signal or "sigterm")
  self.processes[id] = nil
end

function Cluster:close(signal)
  for _, process in pairs(self.processes) do
    if not process.code then process.handle:kill(signal or "sigterm") end
  end
  for id, process in pairs(self.processes) do
    lab.wait_for(process)
    self.processes[id] = nil
  end
end

---@class bench.cluster_options
---@field medium "disk"|"tmpfs"
---@field nodes integer?       3
---@field machine string?      in machines.lua: "sink"
---@field node table?          options of raft.node
---@field tree string?         another checkout, whose build is measured
---@field preload string?      a library that notes system calls (trace.c)
---@field keep string?         where its notes go, since the cluster's own directory is removed

---Calls fn(cluster) with a cluster that has a leader; it is gone afterwards.
---@param options bench.cluster_options
function lab.with_cluster(options, fn)
  return lab.with_directory(options.medium, function(dir)
    local cluster = setmetatable({ dir = dir, processes = {}, addresses = lab.addresses(options.nodes or 3),
      tree = options.tree or uv.cwd(), preload = options.preload,
      keep = options.keep or dir }, Cluster)
    lab.write_file(dir .. "/config", raft.pack { cluster = cluster.addresses, machine = options.machine or "sink",
      node = options.node or {}, keep = cluster.keep })
    local results = table.pack(xpcall(function()
      for id in ipairs(cluster.addresses) do cluster:start(id) end
      cluster:leader()
      return fn(cluster)
    end, debug.traceback))
    cluster:close(results[1] and "sigterm" or "sigkill")
    if not results[1] then error(results[2], 0) end
    return table.unpack(results, 2, results.n)
  end)
end

return lab
