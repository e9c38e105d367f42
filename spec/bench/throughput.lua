-- How much a cluster does a second: proposals, from a follower too, reads; the core alone; the way of one command. Each
-- is a function (options) that prints a table and returns its figures.
local hops = require "spec.bench.hops"
local lab = require "spec.bench.lab"
local report = require "spec.bench.report"
local uv = require "luv"

local WARM_S = 0.5
local number, bytes_of = report.number, report.bytes

local throughput = {}

---Measures a load on a member, with the CPU of the whole cluster.
local function load_on(cluster, id, job, options)
  job.pids, job.warm, job.seconds = cluster:pids(), math.min(WARM_S, options.seconds), options.seconds
  return cluster:ask(id, job)
end
throughput.load_on = load_on

---Writes so much that the log has gone through all prepared segments and recycles those that it has let go.
local function wear(cluster, options)
  local count = 160000 * options.scale // 1 | 0
  cluster:ask(cluster:leader(), { what = "fill", bytes = 1024, window = 256, count = count })
end
throughput.wear = wear

---All windows and sizes on one new cluster: a list of { medium, bytes, window, per_second, ... }.
local function measure_cells(options, medium, tree)
  return lab.with_cluster({ medium = medium, tree = tree }, function(cluster)
    wear(cluster, options)
    local cells, leader = {}, cluster:leader()
    for _, bytes in ipairs(options.sizes) do
      for _, window in ipairs(options.windows) do
        local cell = load_on(cluster, leader, { what = "propose", window = window, bytes = bytes }, options)
        cell.medium, cell.bytes, cell.window = medium, bytes, window
        cells[#cells + 1] = cell
      end
    end
    return cells
  end)
end

---runs: { of one checkout, of the other }, each a list of runs. The rows of a table, with ratios where there are two.
local function compare_cells(runs)
  local rows, cells = {}, {}
  for i in ipairs(runs[1][1]) do
    local mine, others, ratios = {}, {}, {}
    for n, run in ipairs(runs[1]) do
      mine[n] = run[i]
      others[n] = runs[2] and runs[2][n][i]
      ratios[n] = others[n] and mine[n].per_second / others[n].per_second
    end
    local cell, rates = report.medians(mine), {}
    for n, run in ipairs(mine) do rates[n] = run.per_second end
    local spread = report.spread(rates)
    local row = { cell.medium, bytes_of(cell.bytes), cell.window, number(cell.per_second),
      ("%s .. %s"):format(number(spread.least), number(spread.most)), number(cell.p50_us), number(cell.p99_us),
      ("%.2f"):format(cell.cpu_us) }
    cell.rates = rates
    if others[1] then
      local other, ratio = report.medians(others), report.spread(ratios)
      cell.other, cell.ratio = other, ratio
      table.move({ number(other.per_second), number(other.p50_us), ("%.2f"):format(other.cpu_us),
        ("%.2f (%.2f .. %.2f)"):format(ratio.median, ratio.least, ratio.most) }, 1, 4, #row + 1, row)
    end
    rows[i], cells[i] = row, cell
  end
  return rows, cells
end

---Commands a second, latencies, CPU of a command over the whole cluster.
function throughput.propose(options)
  local trees, all = { uv.cwd(), options.against }, {}
  for _, medium in ipairs(options.media) do
    local runs = { {}, options.against and {} or nil }
    for n = 1, options.runs do
      for i, tree in ipairs(trees) do runs[i][n] = measure_cells(options, medium, tree) end
    end
    local rows, cells = compare_cells(runs)
    print(("\nproposals on %s, medians of %d, latencies and CPU (of one command, over all processes) in us"):format(
      medium, options.runs))
    local head = { "medium", "bytes", "window", "per second", "least .. most", "p50", "p99", "CPU" }
    if options.against then
      table.move({ "the other", "p50", "CPU", "ratio" }, 1, 4, #head + 1, head)
    end
    report.table(head, rows)
    table.move(cells, 1, #cells, #all + 1, all)
  end
  return all
end

---Measures one job on the leader and on a follower, in turns: { leader = medians, follower = medians, ratio }.
local function on_both(options, medium, job)
  local runs, ratios = { leader = {}, follower = {} }, {}
  for n = 1, options.runs do
    lab.with_cluster({ medium = medium }, function(cluster)
      wear(cluster, options)
      local place = { leader = cluster:leader(), follower = cluster:follower() }
      for _, where in ipairs { "leader", "follower" } do
        local copy = {}
        for name, value in pairs(job) do copy[name] = value end
        runs[where][n] = load_on(cluster, place[where], copy, options)
      end
      ratios[n] = runs.follower[n].per_second / runs.leader[n].per_second
    end)
  end
  return { leader = report.medians(runs.leader), follower = report.medians(runs.follower),
    ratio = report.spread(ratios) }
end

local function print_both(title, all)
  print("\n" .. title)
  local rows = {}
  for _, one in ipairs(all) do
    for _, where in ipairs { "leader", "follower" } do
      local r = one[where]
      rows[#rows + 1] = { one.medium, where, number(r.per_second), number(r.p50_us), number(r.p99_us),
        ("%.2f"):format(r.cpu_us), where == "follower" and
        ("%.2f (%.2f .. %.2f)"):format(one.ratio.median, one.ratio.least, one.ratio.most) or "" }
    end
  end
  report.table({ "medium", "on", "per second", "p50 us", "p99 us", "CPU us", "of the leader's" }, rows)
end

local function both_everywhere(options, title, job)
  local all = {}
  for i, medium in ipairs(options.media) do
    all[i] = on_both(options, medium, job)
    all[i].medium = medium
  end
  print_both(title, all)
  return all
end

---Commands that are proposed on a follower.
function throughput.follower(options)
  return both_everywhere(options, "proposals of 128 bytes, 256 under way, on the leader and on a follower",
    { what = "propose", window = 256, bytes = 128 })
end

---Linearizable reads.
function throughput.reads(options)
  return both_everywhere(options, "linearizable reads, 256 under way", { what = "read", window = 256 })
end

---Three cores in one thread: with the cache of the log that a node has by default, and with one that fits the CPU's.
function throughput.core(options)
  local trio, rows, figures = lab.build_c("trio"), {}, {}
  for _, batch in ipairs { 1, 16, 64, 256, 1024, 4096 } do
    local row = { batch }
    for _, mib in ipairs { 64, 4 } do
      local rates = {}
      for n = 1, options.runs do
        local text = lab.capture { trio, tostring(1000000 * options.scale // 1 | 0), tostring(batch), tostring(mib) }
        rates[n] = assert(tonumber(text:match("per_second=(%d+)")), text)
      end
      local spread = report.spread(rates)
      figures[#figures + 1] = { batch = batch, cache_mib = mib, per_second = spread.median, least = spread.least,
        most = spread.most }
      row[#row + 1] = number(spread.median)
      row[#row + 1] = ("%s .. %s"):format(number(spread.least), number(spread.most))
    end
    rows[#rows + 1] = row
  end
  print("\nthree cores stepped in one thread, without I/O: entries a second of CPU")
  report.table({ "a batch", "64 MiB of log in memory", "least .. most", "4 MiB", "least .. most" }, rows)
  return figures
end

---Where the time of a single command goes.
function throughput.hops(options)
  local tracer, figures, count = lab.build_c("trace", "-shared -fPIC"), {}, 500
  for _, medium in ipairs(options.media) do
    lab.with_directory(medium, function(dir)
      local leader = lab.with_cluster({ medium = medium, preload = tracer, keep = dir }, function(cluster)
        local leader = cluster:leader()
        cluster:ask(leader, { what = "way", bytes = 128, count = count })
        return leader
      end)
      local way, n = hops.analyse(dir, leader, 128)
      print(("\nthe way of a single command of 128 bytes on %s, medians of %d"):format(medium, n))
      local rows, named = {}, {}
      for i, hop in ipairs(way) do
        rows[i] = { hop.name, ("%.1f us"):format(hop.us) }
        named[hop.name] = hop.us
      end
      report.table({ "hop", "took" }, rows)
      figures[medium] = { samples = n, us = named }
    end)
  end
  return figures
end

return throughput
