-- How cost grows: with members, payload, commands under way, the log's length, the state's size, sessions.
--
--   lua5.4 spec/bench/growth.lua FILE [name=value ...]      (make bench-growth, with ONLY='cells=members runs=5')
--
-- The figures are written to FILE as JSON, printed as tables, and drawn as plots. Options:
--   cells=members,payload,window,log,state,sessions   which of them (all)
--   runs=3 seconds=2         medians of so many, in turns, of so many seconds each
--   dir=disk                 where the logs are (log: always on disk); default: tmpfs, where cost is CPU alone
--   entries=10000000         of the longest log
--   plots=DIR                where the plots go (spec/bench/plots)
--   scale=0.01               of states; for a quick look
local core = require "raft.core"
local lab = require "spec.bench.lab"
local report = require "spec.bench.report"
local svg = require "spec.bench.svg"
local throughput = require "spec.bench.throughput"

local KNOWN = { cells = true, runs = true, seconds = true, dir = true, entries = true, plots = true, scale = true }
local MIB = 1 << 20
local PART = 10000000   -- entries
local NEVER = { bytes = 1 << 40, entries = 1 << 30, keep = 1 }   -- no snapshots but those asked for
local number, median = report.number, report.median
local growth = {}

---Measures at each value, in turns: a list of medians, each with its x.
local function at_each(options, values, measure)
  local runs = {}
  for n = 1, options.runs do
    for i, value in ipairs(values) do
      runs[i] = runs[i] or {}
      runs[i][n] = measure(value)
    end
  end
  local result = {}
  for i, value in ipairs(values) do
    result[i] = report.medians(runs[i])
    result[i].x = value
  end
  return result
end

---A line of a plot: this field of all, by x.
local function line(name, all, field, factor)
  local list = { name = name }
  for i, one in ipairs(all) do list[i] = { one.x, (one[field] or 0) * (factor or 1) } end
  return list
end

local function xs(all)
  local list = {}
  for i, one in ipairs(all) do list[i] = one.x end
  return list
end

local function draw(options, name, title, x, all, panels)
  x.values = xs(all)
  local text = svg.draw { title = title, x = x, panels = panels }
  lab.write_file(("%s/%s.svg"):format(options.plots, name), text)
end

---Rates, latencies and CPU of a load at each value, printed and drawn.
local function rates(options, name, title, x, all)
  print("\n" .. title)
  local rows = {}
  for i, one in ipairs(all) do
    rows[i] = { (x.format or tostring)(one.x), number(one.per_second), number(one.p50_us), number(one.p99_us),
      ("%.2f"):format(one.cpu_us) }
  end
  report.table({ x.label, "per second", "p50 us", "p99 us", "CPU us" }, rows)
  draw(options, name, title, x, all, {
    { label = "commands a second", line("rate", all, "per_second") },
    { label = "latency, us", line("median", all, "p50_us"), line("99 %", all, "p99_us") },
    { label = "CPU of one, all processes, us", line("CPU", all, "cpu_us") } })
  return all
end

local function loaded(options, cluster_options, job)
  cluster_options.medium = options.medium
  return lab.with_cluster(cluster_options, function(cluster)
    local copy = {}
    for key, value in pairs(job) do copy[key] = value end
    return throughput.load_on(cluster, cluster:leader(), copy, options)
  end)
end

function growth.members(options)
  local all = at_each(options, { 1, 3, 5, 7 }, function(nodes)
    return loaded(options, { nodes = nodes }, { what = "propose", window = 256, bytes = 128 })
  end)
  return rates(options, "members", "Members: commands of 128 B, 256 under way", { label = "members" }, all)
end

function growth.payload(options)
  local sizes = { 16, 128, 1024, 8192, 65536, 1 << 18, 1 << 20 }
  local all = at_each(options, sizes, function(bytes)
    return loaded(options, { node = { command_bytes = 2 * MIB } }, { what = "propose", window = 32, bytes = bytes })
  end)
  for _, one in ipairs(all) do one.bytes_per_second = one.per_second * one.x end
  rates(options, "payload", "Payload: 32 commands under way", { label = "payload", log = true, format = report.bytes },
    all)
  draw(options, "payload", "Payload: 32 commands under way", { label = "payload", log = true, format = report.bytes },
    all, { { label = "commands a second", line("rate", all, "per_second") },
      { label = "MiB a second", line("bytes", all, "bytes_per_second", 1 / MIB) },
      { label = "CPU of one, all processes, us", line("CPU", all, "cpu_us") } })
  return all
end

function growth.window(options)
  local all = at_each(options, { 1, 4, 16, 64, 256, 1024, 4096, 16384 }, function(window)
    return loaded(options, {}, { what = "propose", window = window, bytes = 128 })
  end)
  return rates(options, "window", "Commands under way: of 128 B", { label = "under way", log = true }, all)
end

function growth.sessions(options)
  local window = math.max(1, 256 * options.scale // 1 | 0)
  local all = at_each(options, { window, 4 * window, 16 * window, 64 * window }, function(count)
    return loaded(options, {}, { what = "sessions", window = window, bytes = 128, count = count })
  end)
  return rates(options, "sessions", ("Sessions of programs outside: %d commands of 128 B under way"):format(window),
    { label = "sessions open", log = true }, all)
end

---One log that grows and grows: what the next entries cost, what it takes in memory, how long a restart takes.
function growth.log(options)
  local lengths, all = {}, {}
  local length = math.min(100000, options.entries)
  while length <= options.entries do
    lengths[#lengths + 1] = length
    length = length * 10
  end
  lab.with_cluster({ medium = "disk", node = { snapshot = NEVER } }, function(cluster)
    local leader, follower = cluster:leader(), cluster:follower()
    local written = 0
    for i, entries in ipairs(lengths) do
      while written < entries do   -- in parts, none of which takes longer than a job may
        local count = math.min(PART, entries - written)
        cluster:ask(leader, { what = "fill", bytes = 8, window = 4096, count = count })
        written = written + count
      end
      local one = throughput.load_on(cluster, leader, { what = "propose", bytes = 8, window = 256 }, options)
      local status = cluster:ask(follower, { what = "status" })
      one.x, one.memory, one.log_bytes = entries, status.memory.anonymous, status.log.bytes
      cluster:stop(follower)
      local from = core.now()
      cluster:start(follower)
      local ready = cluster:ask(follower, { what = "ready", index = status.last })
      one.opened, one.applied = ready.opened - from, ready.at - from
      written = cluster:ask(leader, { what = "status" }).last
      all[i] = one
    end
  end)
  print("\nthe log's length: commands of 8 B on disk, 256 under way, no snapshots")
  local rows = {}
  for i, one in ipairs(all) do
    rows[i] = { number(one.x), ("%.0f MiB"):format(one.log_bytes / MIB), number(one.per_second), number(one.p50_us),
      ("%.1f MiB"):format(one.memory / MIB), report.seconds(one.opened), report.seconds(one.applied) }
  end
  report.table({ "entries", "log", "per second", "p50 us", "memory", "restart: open", "all applied" }, rows)
  draw(options, "log", "Length of the log: commands of 8 B on disk", { label = "entries", log = true }, all, {
    { label = "commands a second", line("rate", all, "per_second") },
    { label = "memory of a follower, MiB", line("memory", all, "memory", 1 / MIB) },
    { label = "restart, seconds", line("open", all, "opened"), line("all applied", all, "applied") } })
  return all
end

---Snapshots of states that grow.
function growth.state(options)
  local sizes = {}
  for i, keys in ipairs { 1000, 10000, 100000, 1000000 } do
    sizes[i] = math.max(10, keys * options.scale // 1 | 0)
  end
  local all = at_each({ runs = 1 }, sizes, function(keys)
    return lab.with_cluster({ medium = options.medium, machine = "map", node = { snapshot = NEVER } },
      function(cluster)
        local leader = cluster:leader()
        cluster:ask(leader, { what = "keys", count = keys, batch = 500, bytes = 100 })
        local seconds, pauses, bytes = {}, {}, 0
        for n = 1, options.runs do
          cluster:ask(leader, { what = "fill", bytes = 8, window = 1, count = 1 })
          local taken = cluster:ask(leader, { what = "snapshot" })
          seconds[n], pauses[n], bytes = taken.seconds, taken.pause, taken.bytes
        end
        cluster:stop(leader)
        local from = core.now()
        cluster:start(leader)
        local ready = cluster:ask(leader, { what = "ready" })
        return { seconds = median(seconds), pause = median(pauses), bytes = bytes, opened = ready.at - from }
      end)
  end)
  print("\nthe state's size: keys of 12 B with values of 100 B")
  local rows = {}
  for i, one in ipairs(all) do
    rows[i] = { number(one.x), ("%.2f MiB"):format(one.bytes / MIB), report.seconds(one.seconds),
      report.seconds(one.pause), report.seconds(one.opened) }
  end
  report.table({ "keys", "snapshot", "taking it", "longest pause", "restart" }, rows)
  draw(options, "state", "Size of the state: values of 100 B", { label = "keys", log = true }, all, {
    { label = "taking a snapshot, seconds", line("taking it", all, "seconds") },
    { label = "the host's longest pause, ms", line("pause", all, "pause", 1e3) },
    { label = "restart from it, seconds", line("restart", all, "opened") } })
  return all
end

local function main(file, ...)
  assert(file, "usage: lua5.4 spec/bench/growth.lua FILE [name=value ...]")
  local given = report.options({ ... }, KNOWN)
  local options = { runs = given.runs or 3, seconds = given.seconds or 2, medium = given.dir or "tmpfs",
    entries = given.entries or 10000000, plots = given.plots or "spec/bench/plots", scale = given.scale or 1 }
  local figures = { machine = report.machine(), options = options }
  for name in (given.cells or "members,payload,window,log,state,sessions"):gmatch("[^,]+") do
    figures[name] = assert(growth[name], ("unknown part %q"):format(name))(options)
    report.write(file, figures)
  end
  print(("\nThe figures are in %s, the plots in %s."):format(file, options.plots))
end

local ok, err = xpcall(main, function(e) return type(e) == "string" and debug.traceback(e, 2) or e end, ...)
if not ok then io.stderr:write(tostring(err), "\n") end
lab.leave(ok)
