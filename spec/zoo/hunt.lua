-- Runs seeds with the module that LUA_CPATH names until a check fails:  lua5.4 spec/zoo/hunt.lua FROM TO
-- Prints the number of each seed before it runs, so that whoever started this knows which one it died of, and
-- "failed", a tab and the failure after the one that was caught.
local core = require "raft.core"
local swarm = require "spec.sim.swarm"

io.stdout:setvbuf "line"
for seed = tonumber(arg[1]), tonumber(arg[2]) do
  print(seed)
  local report = core.sim(swarm.options(seed))
  if not report.ok then
    print("failed\t" .. report.failure)
    break
  end
end
