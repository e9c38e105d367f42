if os.getenv "RAFT_BUILD" == "tsan" then return end -- one thread

-- Random walks: what the lab checks at each step (spec/core/lab.lua) holds on every one of them.
local walk = require "spec.core.walk"

local SEEDS, STEPS = 200, 6000

describe("on random walks through loss, lag and crashes", function()
  it("no promise of Raft is broken, and the cluster agrees in the end", function()
    local committed, terms, changes, snapshots, reads = 0, 0, 0, 0, 0
    for seed = 1, SEEDS do
      local ok, result = xpcall(walk.run, debug.traceback, seed, STEPS)
      if not ok then error(("walk.run(%d, %d): %s"):format(seed, STEPS, result), 0) end
      committed = committed + #result.committed
      for _ in pairs(result.leaders) do terms = terms + 1 end
      changes = changes + (result.counts.changed or 0)
      reads = reads + #result.reads
      for _, node in ipairs(result.nodes) do
        if node.disk.first > 1 then snapshots = snapshots + 1 end
      end
    end
    -- Something must have happened on them: leaders and members changed, entries were committed, compacted and read.
    assert.truthy(terms > 5 * SEEDS)
    assert.truthy(committed > 100 * SEEDS)
    assert.truthy(changes > 2 * SEEDS)
    assert.truthy(snapshots > 2 * SEEDS)
    assert.truthy(reads > 20 * SEEDS)
  end)

  it("the same seed gives the same walk, step for step, and another seed another one", function()
    local function record(seed)
      local lines = {}
      walk.run(seed, 600, function(name, c)
        local line = { name, c.clock.now, #c.pool }
        for _, node in ipairs(c.nodes) do
          local s = node:status()
          line[#line + 1] = ("%s %d %d %d %d %d"):format(s.role, s.term, s.vote, s.last, s.commit, s.stable)
        end
        for _, m in ipairs(c.pool) do
          line[#line + 1] = ("%s %d %d %d %d"):format(m.type, m.from, m.to, m.term, m.index)
        end
        lines[#lines + 1] = table.concat(line, "|")
      end)
      return table.concat(lines, "\n")
    end
    for seed = 1, 4 do
      local once = record(seed)
      assert.truthy(once == record(seed))
      assert.falsy(once == record(seed + 4))
    end
  end)
end)
