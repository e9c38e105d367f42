-- Programs outside in simulated clusters: what they are told, and that there is something in it.
local core = require "raft.core"

local build = os.getenv "RAFT_BUILD" or "plain"
if build == "tsan" then return end -- one thread, of which ThreadSanitizer has nothing to say
local seeds = build == "plain" and 20 or 8

local function run(seed, visitors, faults)
  local report = core.sim { seed = seed, nodes = 3, seconds = 20, clients = 1, visitors = visitors, faults = faults }
  assert.is_true(report.ok, report.failure)
  return report
end

local function sum(visitors, faults)
  local sums = { commands = 0, repeats = 0, ended = 0, restores = 0 }
  for seed = 1, seeds do
    local report = run(seed, visitors, faults)
    for name in pairs(sums) do sums[name] = sums[name] + report[name] end
  end
  return sums
end

describe("programs outside a simulated cluster", function()
  it("ask again through other members, and are told what the first try came to", function()
    for _, faults in ipairs { false, true } do
      local sums = sum(5, faults)
      assert.is_true(sums.repeats > 10 * seeds, sums.repeats)
    end
  end)

  it("find that their sessions have ended, by being idle or for lack of room", function()
    local sums = sum(5)
    assert.is_true(sums.ended > 5 * seeds, sums.ended)
    assert.is_true(sums.restores > 0, sums.restores)   -- of tables too
  end)

  it("are served by a cluster of one, and by many", function()
    for _, nodes in ipairs { 1, 2, 5, 7 } do
      local report = core.sim { seed = nodes, nodes = nodes, seconds = 10, clients = 1, visitors = 16 }
      assert.is_true(report.ok, report.failure)
    end
  end)

  it("make the same run of the same seed, and are none where none are asked for", function()
    for seed = 1, 5 do
      assert.same(run(seed, 4), run(seed, 4))
      local without = run(seed)
      assert.equal(without.hash, run(seed, 0).hash)
      assert.not_equal(without.hash, run(seed, 4).hash)
      assert.same({ 0, 0 }, { without.repeats, without.ended })
    end
  end)

  it("are at most 16", function()
    assert.error_matches(function() run(1, 17) end, "visitors: an integer from 0 to 16 expected")
  end)
end)
