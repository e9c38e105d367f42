-- The comparison with others runs, with whichever are installed. It measures the plain build.
if (os.getenv("RAFT_BUILD") or "plain") ~= "plain" then return end

local process = require "spec.system.process"
local tree = require "spec.tree"

describe("make bench-peers", function()
  local dir = process.directory()

  teardown(function()
    process.clean()
    process.remove(dir)
  end)

  it("measures ours beside the ceiling and the others, with ratios", function()
    local file = dir .. "/figures.json"
    local text, code = process.run { "lua5.4", "spec/bench/peers.lua", file, "cells=memory", "window=16", "runs=1",
      "seconds=0.1", "scale=0.001" }
    assert.equal(0, code, text)
    local figures = tree.read(file)
    assert.truthy(figures:find('"raft": {"calls"', 1, true))
    assert.truthy(figures:find('"the ceiling": {"cpu_us"', 1, true))
    assert.truthy(text:find("the ceiling +[^\n]+%([%d.]+ %.%. [%d.]+%)"), text)
  end)

  it("measures the example beside redis-server, where that is installed", function()
    local file = dir .. "/figures.json"
    local text, code = process.run { "lua5.4", "spec/bench/peers.lua", file, "cells=redis", "runs=1", "scale=0.001" }
    assert.equal(0, code, text)
    if text:find("redis-server is left out", 1, true) then return pending("redis-server is not installed") end
    local _, rates = tree.read(file):gsub('"per_second": [1-9]', "")
    assert.equal(8, rates)
  end)
end)
