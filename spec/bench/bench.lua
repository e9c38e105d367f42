-- What a cluster of three processes on this machine does, driven from Lua, one command at a time from each coroutine:
--
--   lua5.4 spec/bench/bench.lua FILE [SECONDS]      (make bench)
--
-- With 1, 16, 64 and 256 commands under way, of 128 bytes and 1 KiB, its logs on the disk and in memory: commands a
-- second, latencies, and the CPU that each process takes; then the hops on the way of a single command. The figures
-- are written to FILE as JSON.
local uv = require "luv"
local hops = require "spec.bench.hops"

local FILE, SECONDS = assert(arg[1], "usage: lua5.4 spec/bench/bench.lua FILE [SECONDS]"), tonumber(arg[2]) or 3
local MEDIA = { { name = "disk", path = uv.cwd() .. "/build" }, { name = "tmpfs", path = "/dev/shm" } }

local function run_until(condition)
  while not condition() do uv.run("once") end
end

local function exists(path) return uv.fs_stat(path) ~= nil end

local function read_file(path)
  local file <close> = assert(io.open(path))
  return file:read("a")
end

local function capture(command)
  local pipe <close> = assert(io.popen(command))
  return (pipe:read("a"):gsub("%s+$", ""))
end

local function free_addresses(n)
  local list, held = {}, {}
  while #list < n do
    local tcp, port = uv.new_tcp(), math.random(10000, 32000)
    if tcp:bind("127.0.0.1", port) and tcp:listen(1, function() end) then list[#list + 1] = "127.0.0.1:" .. port end
    held[#held + 1] = tcp
  end
  for _, tcp in ipairs(held) do tcp:close() end
  uv.run("nowait")
  return table.concat(list, ",")
end

---Runs three processes in dir until one says that it is done: its id. seconds 0: traced, one command after the other.
local function cluster(dir, seconds, preload)
  local list, processes, living, broken = free_addresses(3), {}, 3, nil
  for id = 1, 3 do
    local env = {}
    for name, value in pairs(uv.os_environ()) do env[#env + 1] = name .. "=" .. value end
    if preload then
      env[#env + 1] = "LD_PRELOAD=" .. preload
      env[#env + 1] = ("RAFT_TRACE=%s/trace.%d"):format(dir, id)
    end
    local process, pid = uv.spawn(arg[-1] or "lua5.4", {
      args = { "spec/bench/bench_node.lua", tostring(id), dir, list, tostring(seconds) },
      stdio = { nil, 1, 2 }, env = env,
    }, function(code, signal)
      living = living - 1
      if code ~= 0 or signal ~= 0 then broken = ("process %d: status %d, signal %d"):format(id, code, signal) end
    end)
    processes[id] = assert(process, pid)
    local file <close> = assert(io.open(("%s/%d.pid"):format(dir, id), "w"))
    file:write(pid)
  end
  local tick = uv.new_timer()
  tick:start(100, 100, function() end)
  run_until(function() return exists(dir .. "/done") or living < 3 end)
  for _, process in ipairs(processes) do process:kill("sigterm") end
  run_until(function() return living == 0 end)
  tick:close()
  assert(not broken, broken)
  return tonumber(read_file(dir .. "/done"))
end

local function with_directory(path, fn)
  local dir = assert(uv.fs_mkdtemp(path .. "/bench.XXXXXX"))
  local ok, result = xpcall(fn, debug.traceback, dir)
  os.execute(("rm -rf '%s'"):format(dir))
  if not ok then error(result, 0) end
  return result
end

local function print_results(medium, text)
  print(("\n%-6s  %6s  %6s  %10s  %9s  %9s  %s"):format(medium, "window", "bytes", "per second", "p50 us", "p99 us",
    "CPU of each process (1 = one core)"))
  for line in text:gmatch("[^\n]+") do
    local window, bytes, rate, p50, p99, leader, cpu = line:match(
      '"window":(%d+),"bytes":(%d+),"per_second":(%d+),"p50_us":(%d+),"p99_us":(%d+),"leader":(%d+),"cpu":%[(.-)%]')
    print(("%-6s  %6s  %6s  %10s  %9s  %9s  %s (%s leads)"):format("", window, bytes, rate, p50, p99, cpu, leader))
  end
end

local function print_hops(medium, list, n)
  print(("\n%s: the way of a single command of 128 bytes, medians of %d"):format(medium, n))
  for _, hop in ipairs(list) do print(("  %-34s %8.1f us"):format(hop.name, hop.us)) end
end

local function build_tracer()
  local path = uv.cwd() .. "/build/trace.so"
  assert(os.execute("gcc -shared -fPIC -O2 -D_GNU_SOURCE -Wall -Wextra -Werror spec/bench/trace.c -o " .. path))
  return path
end

local tracer, parts = build_tracer(), {}
for _, medium in ipairs(MEDIA) do
  local results = with_directory(medium.path, function(dir)
    cluster(dir, SECONDS)
    return read_file(dir .. "/results")
  end)
  print_results(medium.name, results)
  local way, n
  with_directory(medium.path, function(dir) way, n = hops.analyse(dir, cluster(dir, 0, tracer), 128) end)
  print_hops(medium.name, way, n)
  local texts = {}
  for i, hop in ipairs(way) do texts[i] = ('"%s":%.1f'):format(hop.name, hop.us) end
  parts[#parts + 1] = ('"%s":{"results":[%s],\n"hops_us":{%s}}'):format(medium.name, (results:gsub("\n", ",\n")),
    table.concat(texts, ","))
end

local file = assert(io.open(FILE, "w"))
file:write(('{"date":"%s","kernel":"%s","cores":%d,"cpu":"%s","seconds_each":%g,\n%s}\n'):format(
  os.date("!%Y-%m-%dT%H:%M:%SZ"), capture("uname -r"), #uv.cpu_info(), uv.cpu_info()[1].model, SECONDS,
  table.concat(parts, ",\n")))
file:close()
print("\nThe figures are in " .. FILE .. ".")
os.exit(true)   -- luv 1.44 may crash when a state is closed whose handles are just closing
