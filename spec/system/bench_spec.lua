-- The benchmarks run. They measure the plain build: under the others there is nothing to see.
if (os.getenv("RAFT_BUILD") or "plain") ~= "plain" then return end

local process = require "spec.system.process"
local tree = require "spec.tree"

---How often a figure above 0 stands in a text of JSON under this name.
local function count(json, name)
  local n = 0
  for value in json:gmatch('"' .. name .. '": ([%d.e+-]+)') do
    if tonumber(value) > 0 then n = n + 1 end
  end
  return n
end

describe("make bench", function()
  local dir = process.directory()

  teardown(function()
    process.clean()
    process.remove(dir)
  end)

  ---Runs a program of spec/bench in small: the JSON that it wrote, and what it printed.
  local function bench(program, ...)
    local file = dir .. "/figures.json"
    local text, code = process.run { "lua5.4", "spec/bench/" .. program, file, ... }
    assert.equal(0, code, text)
    return tree.read(file), text
  end

  it("measures windows and sizes on disk and in memory", function()
    local figures, text = bench("bench.lua", "cells=propose", "window=1,256", "seconds=0.1", "runs=1", "scale=0.001")
    assert.equal(8, count(figures, "per_second"))
    assert.equal(8, count(figures, "p99_us"))
    assert.truthy(count(figures, "cpu_us") > 0)   -- it is counted by ticks of 10 ms
    assert.truthy(text:find("disk +128 B +1 ") and text:find("tmpfs +1 KiB +256 "))
  end)

  it("compares two checkouts in turns", function()
    local figures = bench("bench.lua", "cells=propose", "seconds=0.1", "runs=2", "scale=0.001", "window=16",
      "bytes=128", "dir=tmpfs", "against=.")
    assert.equal(2, count(figures, "per_second"))
    assert.equal(1, count(figures, "least"))
  end)

  it("follows the hops of one command", function()
    assert.equal(1, count(bench("bench.lua", "cells=hops", "dir=tmpfs"), "the whole way"))
  end)

  it("measures a follower, reads, the core alone, and a node at rest", function()
    local figures = bench("bench.lua", "cells=follower,reads,core,rest", "dir=tmpfs", "seconds=0.1", "runs=1",
      "scale=0.001")
    assert.equal(4 + 12, count(figures, "per_second"))
    assert.equal(2, count(figures, "rss"))
  end)

  it("measures how long a cluster stands still", function()
    assert.equal(10, count(bench("bench.lua", "cells=failover", "kills=1", "dir=tmpfs"), "median"))
  end)

  it("measures a snapshot, a restart, and memory", function()
    local figures = bench("bench.lua", "cells=snapshot,restart,memory", "scale=0.01", "dir=tmpfs")
    assert.equal(1, count(figures, "copy"))
    assert.equal(2, count(figures, "opened"))
    assert.equal(5, count(figures, "follower"))
    assert.equal(1, count(figures, "entry_bytes"))
  end)
end)
