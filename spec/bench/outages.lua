-- How long a cluster stands still: when its leader is killed, when the leader's machine vanishes, when it hands over.
-- A function (options) that prints a table and returns its figures.
local core = require "raft.core"
local lab = require "spec.bench.lab"
local report = require "spec.bench.report"

local WINDOW, BYTES = 8, 128
local BEFORE_S = 0.5               -- of load before something happens
local outages = {}

---Clients on a follower, while happen(cluster, leader) takes place in the middle: { gap: the longest time without a
---commit, late: when it began after what happened, failed: proposals }.
local function watch(cluster, seconds, happen)
  local leader, follower = cluster:leader(), cluster:follower()
  cluster:give(follower, { what = "propose", window = WINDOW, bytes = BYTES, warm = BEFORE_S / 2,
    seconds = BEFORE_S + seconds, watched = true })
  lab.sleep(BEFORE_S)
  local at = core.now()
  local extra = happen(cluster, leader, follower)
  local result, failed = cluster:result(follower), 0
  for _, n in pairs(result.failures) do failed = failed + n end
  return { gap = result.gap, late = result.gap_at - at, failed = failed, extra = extra }
end

---Several runs of it, on one cluster: { gaps, gap: their spread, failed: all }.
local function repeated(count, cluster, seconds, happen, after)
  local gaps, failed, took = {}, 0, {}
  for n = 1, count do
    local one = watch(cluster, seconds, happen)
    gaps[n], failed, took[n] = one.gap, failed + one.failed, one.extra
    if after then after(cluster) end
  end
  return { gaps = gaps, gap = report.spread(gaps), failed = failed, took = took[1] and report.spread(took) }
end

---Starts again whoever is missing, and waits until all know a leader.
local function restore(cluster)
  for id in ipairs(cluster.addresses) do
    if not cluster.processes[id] then cluster:start(id) end
  end
  cluster:leader()
  lab.sleep(0.5)
end

local function kill(cluster, leader) cluster:stop(leader, "sigkill") end

---As if its machine had lost its power: its connections stay open, and nobody answers.
local function vanish(cluster, leader)
  cluster.processes[leader].handle:kill("sigstop")
  cluster.victim = leader
end

local function end_vanished(cluster)
  cluster:stop(cluster.victim, "sigkill")
  restore(cluster)
end

local function hand_over(cluster, leader, follower)
  local target = 6 - leader - follower
  local seconds = cluster:ask(leader, { what = "transfer", to = target }).seconds
  return seconds
end

local function nothing() end

---Runs fn(cluster) with a cluster of this election timeout.
local function with_timeout(medium, timeout, fn)
  return lab.with_cluster({ medium = medium, node = { election_timeout = timeout, heartbeat = timeout / 10 } }, fn)
end

local function kill_repeatedly(cluster, timeout, count)
  return repeated(count, cluster, 2 * timeout + 0.5, kill, restore)
end

---Seconds without a commit, of each of so many leaders that were killed.
function outages.kill_leaders(medium, timeout, count)
  return with_timeout(medium, timeout, function(cluster) return kill_repeatedly(cluster, timeout, count).gaps end)
end

local function row(name, timeout, r)
  return { name, ("%g s"):format(timeout), #r.gaps, report.seconds(r.gap.median),
    ("%s .. %s"):format(report.seconds(r.gap.least), report.seconds(r.gap.most)), r.failed }
end

---Time without a commit, and proposals that failed.
function outages.failover(options)
  local rows, figures = {}, {}
  for _, timeout in ipairs { 1, 0.15 } do
    with_timeout(options.media[1], timeout, function(cluster)
      local quiet = repeated(1, cluster, 1, nothing)
      local killed = kill_repeatedly(cluster, timeout, options.kills)
      local vanished = repeated(options.kills, cluster, 5 * timeout, vanish, end_vanished)
      local planned = repeated(options.kills, cluster, 0.5, hand_over)
      rows[#rows + 1] = row("nothing happens", timeout, quiet)
      rows[#rows + 1] = row("kill -9 of the leader", timeout, killed)
      rows[#rows + 1] = row("the leader's machine vanishes", timeout, vanished)
      rows[#rows + 1] = row("planned change of the leader", timeout, planned)
      figures[#figures + 1] = { election_timeout = timeout, quiet = quiet, killed = killed, vanished = vanished,
        planned = planned }
    end)
  end
  print(("\ntime without a commit, of %d clients on a follower"):format(WINDOW))
  report.table({ "what", "election timeout", "times", "median", "least .. most", "failed proposals" }, rows)
  return figures
end

return outages
