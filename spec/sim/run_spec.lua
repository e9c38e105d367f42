-- The runner of seeds, as make sim calls it.
if (os.getenv "RAFT_BUILD" or "plain") ~= "plain" then return end

local PATHS = ("LUA_PATH='lua/?.lua;lua/?/init.lua;;' LUA_CPATH='%s'"):format(package.cpath)

local function run(words)
  local pipe = assert(io.popen(("%s lua5.4 spec/sim/run.lua jobs=2 %s 2>&1"):format(PATHS, words)))
  local text = pipe:read "a"
  local ok, _, code = pipe:close()
  return text, ok and 0 or code
end

describe("the runner of seeds", function()
  it("tells the sums of all seeds, and ends with status 0 when none has failed", function()
    local text, code = run "seeds=5 from=1 with='seconds=3 nodes=3'"
    assert.matches("5 seeds, 0%.0 simulated hours, 0 failed\n  events [%d,]+, commands [%d,]+, elections %d+, ", text)
    assert.equal(0, code)
  end)

  it("tells the seed that has failed, and draws the smallest run that fails in the same way", function()
    local text, code = run "seeds=20 from=1 with='seconds=20 nodes=5 faults=crashes,lies'"
    assert.matches("\nseed %d+, 5 nodes, 20 s, commit %S+:\n  seed %d+: at ", text)
    assert.matches("replay: make sim FROM=%d+ SEEDS=1 WITH='nodes=5 seconds=20 clients=%d visitors=%d "
      .. "faults=crashes,lies'\n", text)
    local seconds, picture = text:match "smaller.-WITH='nodes=%d seconds=(%d+).-\n  picture: (%S+)"
    assert.is_true(tonumber(seconds) < 20, text)
    local file <close> = assert(io.open(picture))
    assert.matches("^<!DOCTYPE html>", file:read "a")
    assert.equal(1, code)
  end)

  it("makes the same run of a seed again by the line that it tells", function()
    local text = run "seeds=20 from=1 with='seconds=20 nodes=5 faults=crashes,lies'"
    local smallest = text:match "smaller.*"
    local failure, seed, with = smallest:match "\n  (seed [^\n]*)\n  replay: make sim FROM=(%d+) SEEDS=1 WITH='(.-)'"
    local again = run(("seeds=1 from=%s with='%s'"):format(seed, with))
    assert.truthy(again:find(failure, 1, true), again)
  end)

  it("knows of which seed a process has died", function()
    local text, code = run "seeds=2 from=7 with='nodes=10'"
    assert.matches("\nseed [78], 10 nodes, %d+ s, commit %S+:\n  lua5%.4: .-nodes: an integer from 1 to 9", text)
    assert.equal(1, code)
  end)
end)
