local core = require "raft.core"
local swarm = require "spec.sim.swarm"

local KINDS = { "network", "partitions", "links", "crashes", "pauses", "clocks", "disks", "rot", "wipes",
  "members" }

local function run(seed, nodes, seconds, faults)
  return core.sim { seed = seed, nodes = nodes, seconds = seconds, faults = faults }
end

-- All of it is one thread, of which ThreadSanitizer has nothing to say. Under ASan it takes ten times as long: it runs
-- every tenth seed.
local build = os.getenv "RAFT_BUILD" or "plain"
if build == "tsan" then return end
local step = build == "plain" and 1 or 10

-- Runs seeds from .. to, all of them or every so-many-th; returns the sums of their reports, scaled to all seeds.
local function run_all(from, to, nodes, seconds, faults, every)
  every = every or step
  local sums = { commands = 0, elections = 0, crashes = 0, simulated = 0 }
  for seed = from, to, every do
    local report = run(seed, nodes, seconds, faults)
    local options = { seed = seed, nodes = nodes, seconds = seconds, clients = 3, faults = faults }
    assert.is_true(report.ok, ("%s\nreplay: %s"):format(report.failure or "", swarm.replay(options)))
    for name in pairs(sums) do sums[name] = sums[name] + every * report[name] end
  end
  return sums
end

describe("a simulated cluster", function()
  it("serves commands without any fault, under one leader", function()
    local sums = run_all(1, 10, 3, 10, false, 1)     -- how much they ask for differs too much for a sample
    assert.equal(20, sums.elections) -- one at the start, one after the restart at the end
    assert.equal(0, sums.crashes)
    assert.is_true(sums.commands > 1000, sums.commands)
  end)

  for _, kind in ipairs(KINDS) do
    it("keeps its promises with faults of this kind: " .. kind, function()
      run_all(1, 10, 3, 20, { kind })
      run_all(11, 20, 5, 20, { kind })
    end)
  end

  it("keeps its promises with all kinds of faults at once", function()
    run_all(1, 20, 3, 20, KINDS)
  end)

  it("keeps its promises in the seeds that once found a bug", function()
    for _, known in ipairs(require "spec.sim.seeds") do run_all(known[1], known[1], table.unpack(known, 2)) end
  end)

  it("is the same run for the same seed", function()
    for seed = 1, 5 do
      local first, second = run(seed, 3, 10), run(seed, 3, 10)
      assert.same(first, second)
      assert.not_equal(first.hash, run(seed + 1, 3, 10).hash)
    end
  end)

  it("is caught when its disks do not write what they acknowledge", function()
    local caught = 0
    for seed = 1, 20 do
      local report = run(seed, 3, 20, { "crashes", "lies" })
      if not report.ok then caught = caught + 1 end
    end
    assert.is_true(caught >= 5, caught)
  end)

  it("names the seed, the time, the node and the claim when a check fails", function()
    for seed = 1, 20 do
      local report = run(seed, 3, 20, { "crashes", "lies" })
      if report.failure then
        assert.matches(("^seed %d: at %%d+%%.%%d+ s, node %%d: "):format(seed), report.failure)
        return
      end
    end
    error("no seed has failed")
  end)

  it("refuses options that make no sense", function()
    assert.error_matches(function() core.sim { nodes = 10 } end, "nodes: an integer from 1 to 9 expected")
    assert.error_matches(function() core.sim { seed = "x" } end, "seed: an integer")
    assert.error_matches(function() core.sim { faults = { "meteor" } } end, "invalid option 'meteor'")
  end)
end)
