local core = require "raft.core"

-- What chaos does to clusters runs under the sanitizers in cluster_spec.lua; here it is counted, over many seeds.
if (os.getenv "RAFT_BUILD" or "plain") ~= "plain" then return end
local seeds = 20

local function run(seed, nodes, faults, traced)
  local report = core.sim { seed = seed, nodes = nodes, seconds = 20, clients = 1, faults = faults, trace = traced }
  assert.is_true(report.ok, report.failure)
  return report
end

-- What the trace of a seed tells of lives, roles, faults and the like: each record a table. And its report.
local function records_of(seed, nodes, faults)
  local report, records = run(seed, nodes, faults, true), {}
  for _, wanted in ipairs { "life", "role", "fault", "note" } do
    for line in ("\n" .. report.trace):gmatch("\n(" .. wanted .. "\t[^\n]*)") do
      local at, node, term, name, details = line:match("^%a+\t(%d+)\t%d+\t(%d+)\t%d+\t%S+\t(%d+)\t%d+\t([^\t]*)\t(.*)$")
      records[#records + 1] = { kind = wanted, at = tonumber(at), node = tonumber(node), term = tonumber(term),
        name = name, details = details }
    end
  end
  table.sort(records, function(a, b) return a.at < b.at end)
  return records, report
end

-- How often something with this name happened in the seeds 1 .. seeds.
local function count(faults)
  local names = {}
  for seed = 1, seeds do
    for _, record in ipairs(records_of(seed, 3, faults)) do names[record.name] = (names[record.name] or 0) + 1 end
  end
  return names
end

describe("the chaos that a seed makes", function()
  it("is none where none is asked for", function()
    local names = count(false)
    for _, name in ipairs { "crash", "wipe", "rot", "cut", "slow", "links break", "engine pauses", "host pauses",
      "disk stalls", "disk full", "disk slow", "clock jumps", "clock runs wrong" } do
      assert.is_nil(names[name], name)
    end
  end)

  for kind, strikes in pairs {
    partitions = { "cut" },
    links = { "slow", "cut", "links break" },
    crashes = { "crash", "stop" },
    pauses = { "engine pauses", "host pauses", "disk stalls" },
    clocks = { "clock runs wrong", "clock jumps", "wall clock jumps" },
    disks = { "disk slow", "disk full", "file operation fails" },
    rot = { "rot" },
    wipes = { "wipe" },
  } do
    it("is, of the kind " .. kind .. ", " .. table.concat(strikes, ", "), function()
      local names = count { kind }
      for _, name in ipairs(strikes) do assert.is_true((names[name] or 0) > 3, name) end
    end)
  end

  it("is another choice of kinds in each seed, and every kind is in some and not in others", function()
    local on = {}
    for seed = 1, seeds do
      for _, kind in ipairs(run(seed, 3).faults) do on[kind] = (on[kind] or 0) + 1 end
    end
    for _, kind in ipairs { "network", "partitions", "links", "crashes", "pauses", "clocks", "disks", "rot",
      "wipes", "members" } do
      assert.is_true(on[kind] > 0 and on[kind] < seeds, kind)
    end
    assert.is_nil(on.lies)
  end)

  it("is the same run when the kinds that a seed has chosen are given by name", function()
    for seed = 3, 15, 3 do   -- those in which nobody rejoins, as nobody does when kinds are named
      local drawn = run(seed, 3)
      assert.equal(drawn.hash, run(seed, 3, drawn.faults).hash)
    end
  end)

  it("never costs a cluster more than a minority of its disks", function()
    for _, nodes in ipairs { 1, 2, 3, 5 } do
      local worst = 0
      for seed = 1, seeds do
        local lost, total = {}, 0
        for _, record in ipairs(records_of(seed, nodes, { "crashes", "rot", "wipes" })) do
          if (record.name == "wipe" or record.name == "refused") and not lost[record.node] then
            lost[record.node], total = true, total + 1
          end
        end
        worst = math.max(worst, total)
      end
      assert.is_true(worst * 2 < nodes, worst)
      if nodes == 3 or nodes == 5 then assert.is_true(worst > 0) end
    end
  end)

  it("keeps clocks together where reads rest on leases, and nowhere else", function()
    local bound, wild = 0, 0
    for seed = 1, seeds do
      local records, report = records_of(seed, 3, { "clocks" })
      local farthest = 0
      for _, record in ipairs(records) do
        local jump = record.name == "clock jumps" and tonumber(record.details:match "by (%d+) us")
        farthest = math.max(farthest, jump or 0)
      end
      local far = farthest > report.timeout * 1e6 / 25
      assert.is_false(report.lease and far, ("seed %d"):format(seed))
      if report.lease then bound = bound + 1 end
      if far then wild = wild + 1 end
    end
    assert.is_true(bound >= seeds // 5 and wild >= seeds // 5, bound)
  end)

  it("changes the members, and lets them come back as others", function()
    local changes, newcomers = 0, 0
    for seed = 1, seeds do
      local records, report = records_of(seed, 5, { "members" })
      changes = changes + report.changes
      for _, record in ipairs(records) do
        if record.name == "wipe" then newcomers = newcomers + 1 end
      end
    end
    assert.is_true(changes > 5 * seeds, changes)   -- in 20 simulated seconds each
    assert.is_true(newcomers > seeds // 2, newcomers)
  end)

  it("damages bytes that a node then refuses to start with, naming the file", function()
    local refused = 0
    for seed = 1, seeds do
      for _, record in ipairs(records_of(seed, 3, { "crashes", "rot" })) do
        if record.name == "refused" then
          refused = refused + 1
          assert.matches(("^node%%-%d/%%w+"):format(record.node), record.details)
        end
      end
    end
    assert.is_true(refused >= seeds // 10, refused)
  end)

  it("wipes nodes that the others then refuse: they never get as far as a term", function()
    local wiped = 0
    for seed = 1, seeds do
      local since = {}
      for _, record in ipairs(records_of(seed, 3, { "wipes", "partitions" })) do
        if record.name == "wipe" then since[record.node], wiped = record.at, wiped + 1 end
        if record.kind == "role" and since[record.node] and record.at > since[record.node] then
          assert.equal(0, record.term, ("seed %d, node %d"):format(seed, record.node))
        end
      end
    end
    assert.is_true(wiped >= seeds // 4, wiped)
  end)

  it("is healed: a command is acknowledged within ten election timeouts", function()
    for seed = 101, 100 + seeds do
      local report = run(seed, 3)
      assert.is_true(report.recovery < 10 * report.timeout, report.recovery / report.timeout)
    end
  end)
end)
