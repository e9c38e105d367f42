-- The regression guard, of the plain build: others cost what their checks cost.
if (os.getenv("RAFT_BUILD") or "plain") ~= "plain" then return end

local process = require "spec.system.process"

describe("make guard", function()
  teardown(process.clean)

  it("finds no entry that costs more instructions than what is stored", function()
    if not os.execute("command -v valgrind >/dev/null") then return pending("valgrind is not installed") end
    local text, code = process.run { "lua5.4", "spec/bench/guard.lua" }
    assert.equal(0, code, text)
    assert.truthy(text:find("three cores, an entry, 64 a batch +%d+ +%d+"), text)
  end)
end)
