-- The parts of the benchmark, each a function (options) that prints a table and returns its figures.
local hops = require "spec.bench.hops"
local lab = require "spec.bench.lab"
local report = require "spec.bench.report"
local uv = require "luv"

local WARM_S = 0.5
local number, bytes_of = report.number, report.bytes

local parts = { ORDER = { "propose", "hops" } }

---Measures a load on a member, with the CPU of the whole cluster.
local function load_on(cluster, id, job, options)
  job.pids, job.warm, job.seconds = cluster:pids(), math.min(WARM_S, options.seconds), options.seconds
  return cluster:ask(id, job)
end
parts.load_on = load_on

---Writes so much that the log has gone through all prepared segments and recycles those that it has let go.
local function wear(cluster, options)
  local count = 160000 * options.scale // 1 | 0
  cluster:ask(cluster:leader(), { what = "fill", bytes = 1024, window = 256, count = count })
end
parts.wear = wear

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
function parts.propose(options)
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

---Where the time of a single command goes.
function parts.hops(options)
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

return parts
