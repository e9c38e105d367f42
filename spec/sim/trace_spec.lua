local core = require "raft.core"
local diagram = require "raft.diagram"

if os.getenv "RAFT_BUILD" == "tsan" then return end -- one thread

local function run(seed, faults, traced)
  return core.sim { seed = seed, nodes = 3, seconds = 10, faults = faults, trace = traced }
end

---How many of a report's records pass the test.
local function count(report, test)
  local n = 0
  for _, record in ipairs(diagram.parse(report.trace)) do
    if test(record) then n = n + 1 end
  end
  return n
end

---A run whose disks lie, and that a check has failed for.
local function failed_run()
  for seed = 1, 20 do
    local report = run(seed, { "crashes", "lies" }, true)
    if not report.ok then return report end
  end
  error "no seed has failed"
end

describe("the trace of a simulated run", function()
  it("is there only when it was asked for, and changes nothing of the run", function()
    for seed = 1, 5 do
      local plain, traced = run(seed), run(seed, nil, true)
      assert.is_nil(plain.trace)
      assert.equal("string", type(traced.trace))
      traced.trace = nil
      assert.same(plain, traced)
    end
  end)

  it("tells each election, crash and command that the report counts", function()
    for seed = 1, 5 do
      local report = run(seed, nil, true)
      assert.equal(report.elections, count(report, function(r) return r.kind == "role" and r.name == "leader" end))
      assert.equal(report.commands, count(report, function(r) return r.kind == "command" end))
      assert.is_true(report.crashes <= count(report, function(r) return r.name == "crash" end))
    end
  end)

  it("tells of each message when it was sent, and when it arrived or was lost", function()
    local report, fates = run(1, { "network", "partitions" }, true), {}
    for _, r in ipairs(diagram.parse(report.trace)) do
      if r.kind == "message" then
        fates[r.fate] = (fates[r.fate] or 0) + 1
        assert.is_true(r.fate == "-" and r.to == 0 or r.to >= r.from)
        assert.is_true(r.node ~= r.peer and r.node >= 1 and r.node <= 3)
      end
    end
    assert.is_true(fates.arrived > 1000, fates.arrived)
    assert.is_true(fates.lost > 0)
  end)

  it("tells of each fault when it began and when it was over", function()
    local report = run(2, { "partitions", "pauses", "disks" }, true)
    assert.is_true(count(report, function(r) return r.kind == "fault" and r.to > r.from end) > 0)
    assert.equal(0, count(report, function(r) return r.kind == "fault" and r.to == 0 end)) -- all was healed
  end)

  it("ends where a check has failed", function()
    local report = failed_run()
    local at = tonumber(report.failure:match "at (%d+%.%d+) s") * 1000000
    local moments, n = {}, 0 -- later than this: at most the one event that showed it
    for _, r in ipairs(diagram.parse(report.trace)) do
      for _, time in ipairs { r.from, r.to } do
        if time > at + 0.5 and not moments[time] then moments[time], n = true, n + 1 end
      end
    end
    assert.is_true(n <= 1, n)
  end)
end)

describe("the picture of a trace", function()
  local function message(from, node, peer)
    return ("message\t%d\t%d\t%d\t%d\tarrived\t1\t7\tappend\tentries 7..7\n"):format(from, from + 5, node, peer)
  end

  it("needs no other file and no network", function()
    local html = diagram.html { trace = run(3, nil, true).trace, title = "Seed 3", replay = "make sim FROM=3 SEEDS=1" }
    assert.matches("^<!DOCTYPE html>.*</html>%s*$", html)
    assert.is_nil(html:find "https?:")
    assert.is_nil(html:find "%ssrc=")
    assert.is_nil(html:find "%shref=")
    assert.truthy(html:find("make sim FROM=3 SEEDS=1", 1, true))
  end)

  it("marks the failure at the time and the node that its text names", function()
    local html = diagram.html { trace = message(1000, 1, 2), failure = "seed 1: at 0.001500 s, node 2: order: broken" }
    assert.truthy(html:find('"at":1500,', 1, true))
    assert.truthy(html:find('"node":2,', 1, true))
    assert.truthy(html:find('<div class="failure">seed 1: at 0.001500 s, node 2: order: broken</div>', 1, true))
  end)

  it("shows texts as they are, whatever is in them", function()
    local text = '</script><b>&\\"\1\xff$title'
    local html = diagram.html { trace = ("note\t1\t1\t1\t0\t-\t0\t0\tx\t%s\n"):format(text), failure = text, at = 1 }
    assert.is_nil(html:find("</script><b>", 1, true))
    assert.truthy(html:find('\\u003c/script\\u003e\\u003cb\\u003e\\u0026\\u005c\\u0022\\u0001?$title', 1, true))
  end)

  it("draws the newest messages when there are more than a browser likes, and only those around the failure", function()
    local lines = {}
    for i = 1, 90000 do lines[i] = message(i * 1000, 1, 2) end
    local trace = table.concat(lines)
    local _, all = diagram.html({ trace = trace, before = 1000 }):gsub("arrived\",1,", "")
    assert.equal(40000, all)
    local html, some = diagram.html({ trace = trace, at = 50, before = 10 }):gsub("arrived\",1,", "")
    assert.equal(11001, some)
    assert.truthy(html:find('"first":40000000,', 1, true))
  end)

  it("draws single cuts that begin and end together as one fault", function()
    local html = diagram.html { trace = "fault\t10\t20\t1\t2\t-\t0\t0\tcut\t\nfault\t10\t20\t2\t1\t-\t0\t0\tcut\t\n" ..
      "fault\t15\t0\t3\t1\t-\t0\t0\tcut\t\n" .. message(30, 1, 2) }
    assert.truthy(html:find('"cuts":[[10,20,"cut 1→2 2→1",0],[15,35,"cut 3→1",1]]', 1, true))
  end)

  it("refuses what is no trace", function()
    assert.error_matches(function() diagram.html { trace = "something else\n" } end, "this is no trace: something else")
  end)
end)
