local core = require "raft.core"

-- Another compiler, other optimisation, no sanitizer: the order of evaluation, the layout of the stack and what lies in
-- memory that nobody has written differ from this build's.
local OTHER = "clang"
local build = os.getenv "RAFT_BUILD" or "plain"
local count = build == "plain" and 20 or 5

local function runs()
  local lines = {}
  for seed = 1, count do
    local report = core.sim { seed = seed, nodes = seed % 2 == 0 and 5 or 3, seconds = 10,
      visitors = seed % 3 == 0 and 4 or 0 }
    lines[seed] = ("seed %d: %016x after %d events and %d commands"):format(seed, report.hash, report.events,
      report.commands)
  end
  return lines
end

-- The same lines from an interpreter of its own, which runs this very file.
if ... == "print" then
  print(table.concat(runs(), "\n"))
  return
end

describe("the simulator", function()
  it("makes the same run of the same seed, whatever compiled it", function()
    local module = ("build/%s/raft/core.so"):format(OTHER)
    local file = io.open(module)
    if not file then error(module .. " is missing: make build-" .. OTHER) end
    file:close()
    local command = ("RAFT_BUILD=%s LUA_CPATH='build/%s/?.so' lua5.4 spec/sim/determinism_spec.lua print")
    local pipe <close> = assert(io.popen(command:format(build, OTHER)))
    local lines = runs()
    for seed = 1, count do assert.equal(lines[seed], pipe:read "l") end
  end)
end)
