-- Side by side with others on this machine, in turns, each in three processes on loopback:
--
--   lua5.4 spec/bench/peers.lua FILE [name=value ...]      (make bench-peers, with ONLY='cells=disk runs=5')
--
-- Ours (one command at a time from Lua coroutines, results returned), a ceiling without a protocol (ceiling.c), libraft
-- (libraft.c), etcd (etcd.go), Tarantool (tarantool.lua, two nodes), and a single redis-server against
-- examples/redis.lua. One that is not installed is left out. The figures are written to FILE as JSON, and printed as
-- tables. Options:
--   cells=disk,memory,reads,failover,redis    which parts (all)
--   runs=3 seconds=2                          medians of so many, of so many seconds; kills=7: of leaders
--   window=64 bytes=128                       one cell of disk and memory only
--   scale=0.01                                of fills and of requests; for a quick look
local lab = require "spec.bench.lab"
local outages = require "spec.bench.outages"
local report = require "spec.bench.report"
local throughput = require "spec.bench.throughput"

local KNOWN = { cells = true, runs = true, seconds = true, kills = true, window = true, bytes = true, scale = true }
local WARM_S = 0.5
local number = report.number

-- ---- who takes part ----

---name=value pairs of a line that a program printed.
local function figures_of(text, code)
  local figures = {}
  for name, value in (text:match("per_second=[^\n]*") or ""):gmatch("([%w_]+)=([%d.]+)") do
    figures[name] = tonumber(value)
  end
  if code ~= 0 or not figures.per_second then error(("status %d: %s"):format(code, text:sub(-2000)), 0) end
  return figures
end

---Runs a program of ours in a new directory: { program's words ..., verb, DIR, words ... }.
local function run_program(medium, program, verb, ...)
  local words = { ... }
  return lab.with_directory(medium, function(dir)
    local command = { verb, dir, table.unpack(words) }
    for n, word in ipairs(program) do table.insert(command, n, word) end
    return figures_of(lab.capture(command))
  end)
end

local function load_words(cell, options)
  return tostring(cell.bytes), tostring(cell.window), tostring(WARM_S), tostring(options.seconds)
end

local function run_ours(cell, options)
  return lab.with_cluster({ medium = cell.medium }, function(cluster)
    throughput.wear(cluster, options)
    return throughput.load_on(cluster, cluster:leader(), { what = cell.read and "read" or "propose",
      window = cell.window, bytes = cell.bytes }, options)
  end)
end

local function build_etcd()
  local go = "GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE=$PWD/build/go-cache go build -o build/etcd "
  if not os.execute("command -v etcd >/dev/null && command -v go >/dev/null && " .. go .. "spec/bench/etcd.go") then
    error("no etcd", 0)
  end
  return "build/etcd"
end

local ceiling, libraft, etcd            -- paths, where they can be built
local tarantool                         -- is it there?

local function find_peers()
  local function try(name, build)
    local ok, path = pcall(build)
    if not ok then print(name .. " is left out: it is not installed, or does not build") end
    return ok and path or nil
  end
  ceiling = lab.build_c("ceiling", "")
  libraft = try("libraft", function() return lab.build_c("libraft", "-l:libraft.a -luv -llz4") end)
  etcd = try("etcd", build_etcd)
  tarantool = try("Tarantool", function() return assert(os.execute("command -v tarantool >/dev/null")) end)
end

---Those that take part in a cell, ours first.
local function contestants(cell)
  local list = { { name = "raft", run = run_ours } }
  local function add(name, program, run)
    if program then list[#list + 1] = { name = name, run = run } end
  end
  if cell.read then
    add("etcd", etcd, function(c, o) return run_program(c.medium, { etcd }, "get", load_words(c, o)) end)
    return list
  end
  add("the ceiling", ceiling, function(c, o) return run_program(c.medium, { ceiling }, "load", load_words(c, o)) end)
  for how, name in pairs { one = "libraft, one a call", batch = "libraft, batches by hand" } do
    add(name, libraft, function(c, o)
      local bytes, window, warm, seconds = load_words(c, o)
      return run_program(c.medium, { libraft }, "load", bytes, window, warm, seconds, how)
    end)
  end
  add("etcd", cell.window <= 256 and etcd, function(c, o)
    return run_program(c.medium, { etcd }, "put", load_words(c, o))
  end)
  add("Tarantool, two nodes", cell.window <= 256 and tarantool, function(c, o)
    return run_program(c.medium, { "tarantool", "spec/bench/tarantool.lua" }, "put", load_words(c, o))
  end)
  table.sort(list, function(a, b) return (a.name == "raft" and "" or a.name) < (b.name == "raft" and "" or b.name) end)
  return list
end

-- ---- cells ----

---What ours does to another's figure, run by run, as a spread.
local function ratios(ours, others, field)
  local list = {}
  for n, run in ipairs(others) do list[n] = ours[n][field] / run[field] end
  return report.spread(list)
end

local function spread_text(s) return ("%.2f (%.2f .. %.2f)"):format(s.median, s.least, s.most) end

---Runs a cell in turns, and prints it.
local function run_cell(cell, options)
  local list, runs = contestants(cell), {}
  for n = 1, options.runs do
    for i, contestant in ipairs(list) do
      runs[i] = runs[i] or {}
      runs[i][n] = contestant.run(cell, options)
    end
  end
  local rows, figures = {}, { cell = cell, peers = {} }
  for i, contestant in ipairs(list) do
    local median, rate, latency = report.medians(runs[i]), ratios(runs[1], runs[i], "per_second"),
      ratios(runs[1], runs[i], "p50_us")
    median.ratio, median.latency_ratio, median.runs = rate, latency, runs[i]
    figures.peers[contestant.name] = median
    rows[i] = { contestant.name, number(median.per_second), number(median.p50_us), number(median.p99_us),
      ("%.2f"):format(median.cpu_us), i > 1 and spread_text(rate) or "", i > 1 and spread_text(latency) or "" }
  end
  print(("\n%s, %s, %d under way, medians of %d in turns"):format(cell.medium, cell.read and "linearizable reads" or
    report.bytes(cell.bytes), cell.window, options.runs))
  report.table({ "", "per second", "p50 us", "p99 us", "CPU us", "ours is so much of its rate", "of its p50" }, rows)
  return figures
end

local function run_cells(cells, options)
  local all = {}
  for _, cell in ipairs(cells) do
    if (options.window or cell.window) == cell.window and (options.bytes or cell.bytes) == cell.bytes then
      all[#all + 1] = run_cell(cell, options)
    end
  end
  if not all[1] then print("\nnothing is measured on " .. cells[1].medium .. " with this window and these bytes") end
  return all
end

-- ---- parts ----

local parts = {}

function parts.disk(options)
  local cells = {}
  for _, window in ipairs { 1, 16, 64, 256, 4096 } do
    cells[#cells + 1] = { medium = "disk", bytes = 128, window = window }
  end
  cells[#cells + 1] = { medium = "disk", bytes = 1024, window = 256 }
  return run_cells(cells, options)
end

function parts.memory(options)
  local cells = {}
  for _, window in ipairs { 1, 16, 64, 256 } do
    cells[#cells + 1] = { medium = "tmpfs", bytes = 128, window = window }
  end
  return run_cells(cells, options)
end

function parts.reads(options)
  return run_cells({ { medium = "disk", bytes = 128, window = 256, read = true } }, options)
end

---Time from the death of a leader to the next commit.
function parts.failover(options)
  local rows, figures = {}, {}
  for _, timeout in ipairs { 1, 0.15 } do
    local peers = { raft = outages.kill_leaders("disk", timeout, options.kills) }
    for name, program in pairs { libraft = libraft, etcd = etcd } do
      peers[name] = lab.with_directory("disk", function(dir)
        local text, code = lab.capture { program, "kill", dir, tostring(options.kills), ("%d"):format(timeout * 1000) }
        local list = {}
        for ms in ("\n" .. text):gmatch("\nms=([%d.]+)") do list[#list + 1] = ms / 1000 end
        if code ~= 0 or #list == 0 then error(text:sub(-2000), 0) end
        return list
      end)
    end
    for _, name in ipairs { "raft", "libraft", "etcd" } do
      local list = peers[name]
      if list then
        local s = report.spread(list)
        rows[#rows + 1] = { name, ("%g s"):format(timeout), #list, report.seconds(s.median),
          ("%s .. %s"):format(report.seconds(s.least), report.seconds(s.most)) }
        figures[#figures + 1] = { name = name, election_timeout = timeout, seconds = s, all = list }
      end
    end
  end
  print("\nkill -9 of the leader, to the next commit, on disk")
  report.table({ "", "election timeout", "times", "median", "least .. most" }, rows)
  return figures
end

-- ---- redis ----

local function port_of(address) return address:match(":(%d+)$") end

local function ping(port)
  return lab.wait_until(function() return (lab.capture { "redis-cli", "-p", port, "ping" }):find("PONG") end, "redis")
end

---A single server that syncs each write.
local function with_redis(dir, fn)
  local port = port_of(lab.addresses(1)[1])
  local process = lab.spawn({ "redis-server", "--port", port, "--dir", dir, "--appendonly", "yes", "--appendfsync",
    "always", "--save", "", "--bind", "127.0.0.1" }, { output = dir .. "/log" })
  local ok, result = pcall(function()
    ping(port)
    return fn(port)
  end)
  lab.kill(process, "sigterm")
  if not ok then error(result, 0) end
  return result
end

---Three servers of examples/redis.lua; fn gets the port of the one that leads.
local function with_example(dir, fn)
  local peers, clients, processes = lab.addresses(3), lab.addresses(3), {}
  local ok, result = pcall(function()
    for id = 1, 3 do
      processes[id] = lab.spawn({ arg[-1] or "lua5.4", "examples/redis.lua", "--id", tostring(id), "--dir",
        ("%s/%d"):format(dir, id), "--port", port_of(clients[id]), "--cluster", table.concat(peers, ",") },
        { output = dir .. "/log" })
    end
    local leader = lab.wait_until(function()
      for id = 1, 3 do
        local text = lab.capture { "redis-cli", "-p", port_of(clients[id]), "info" }
        if text:find("role:leader") then return id end
      end
    end, "a leader of the example")
    lab.wait_until(function()
      return (lab.capture { "redis-cli", "-p", port_of(clients[leader]), "set", "a", "b" }):find("OK")
    end, "the example")
    return fn(port_of(clients[leader]))
  end)
  for _, process in pairs(processes) do lab.kill(process, "sigkill") end
  if not ok then error(result, 0) end
  return result
end

local function benchmark(port, requests, pipeline)
  local text = lab.capture { "redis-benchmark", "-p", port, "-t", "set", "-c", "50", "-n", tostring(requests), "-P",
    tostring(pipeline), "--csv" }
  local rate, p50, p99 = text:match('"SET","([%d.]+)","[%d.]+","[%d.]+","([%d.]+)","[%d.]+","([%d.]+)"')
  if not rate then error(text:sub(-2000), 0) end
  return { per_second = tonumber(rate), p50_us = p50 * 1000, p99_us = p99 * 1000 }
end

---redis-benchmark -t set -c 50, against the example's three servers and one redis-server.
function parts.redis(options)
  if not os.execute("command -v redis-server >/dev/null") then
    print("redis-server is left out: it is not installed")
    return {}
  end
  local rows, figures = {}, {}
  for _, pipeline in ipairs { 1, 16 } do
    local requests = math.max(100, 50000 * pipeline // 2 * options.scale // 1 | 0)
    local ours, redis = {}, {}
    for n = 1, options.runs do
      ours[n] = lab.with_directory("disk", function(dir)
        return with_example(dir, function(port) return benchmark(port, requests, pipeline) end)
      end)
      redis[n] = lab.with_directory("disk", function(dir)
        return with_redis(dir, function(port) return benchmark(port, requests, pipeline) end)
      end)
    end
    local ratio = ratios(ours, redis, "per_second")
    for name, runs in pairs { ["three servers of examples/redis.lua"] = ours, ["one redis-server"] = redis } do
      local m = report.medians(runs)
      rows[#rows + 1] = { name, pipeline, number(m.per_second), number(m.p50_us), number(m.p99_us),
        runs == ours and spread_text(ratio) or "" }
      figures[#figures + 1] = { name = name, pipeline = pipeline, median = m, runs = runs, ratio = ratio }
    end
  end
  table.sort(rows, function(a, b) return a[2] < b[2] or a[2] == b[2] and a[1] > b[1] end)
  print(("\nredis-benchmark -t set -c 50, medians of %d in turns"):format(options.runs))
  report.table({ "", "-P", "per second", "p50 us", "p99 us", "of redis-server's rate" }, rows)
  return figures
end

local function main(file, ...)
  assert(file, "usage: lua5.4 spec/bench/peers.lua FILE [name=value ...]")
  local given = report.options({ ... }, KNOWN)
  local options = { runs = given.runs or 3, seconds = given.seconds or 2, kills = given.kills or 7,
    scale = given.scale or 1, window = given.window, bytes = given.bytes }
  local figures = { machine = report.machine(), options = options }
  find_peers()
  for name in (given.cells or "disk,memory,reads,failover,redis"):gmatch("[^,]+") do
    figures[name] = assert(parts[name], ("unknown part %q"):format(name))(options)
    report.write(file, figures)
  end
  print("\nThe figures are in " .. file .. ".")
end

local ok, err = xpcall(main, function(e) return type(e) == "string" and debug.traceback(e, 2) or e end, ...)
if not ok then io.stderr:write(tostring(err), "\n") end
lab.leave(ok)
