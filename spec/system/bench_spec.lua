-- The benchmark runs. It measures the plain build: under the others there is nothing to see.
if (os.getenv("RAFT_BUILD") or "plain") ~= "plain" then return end

local process = require "spec.system.process"
local tree = require "spec.tree"

describe("make bench", function()
  local dir = process.directory()

  teardown(function()
    process.clean()
    process.remove(dir)
  end)

  it("measures every window and size on disk and in memory, and the hops of one command", function()
    local file = dir .. "/bench.json"
    local text, code = process.run { "lua5.4", "spec/bench/bench.lua", file, "0.1" }
    assert.equal(0, code, text)
    local figures = tree.read(file)
    local _, results = figures:gsub('"per_second":%d+', "")
    local _, hops = figures:gsub('"the whole way":[1-9]', "")
    assert.equal(16, results)
    assert.equal(2, hops)
  end)
end)
