-- Loaded before the specs of a process. The sanitizer's runtime is for the interpreter only: what else a spec starts (a
-- shell, redis-cli) must not be run under it. spec/system/process.lua gives it back to the interpreters it starts.
if os.getenv("RAFT_PRELOAD") then require "luv".os_unsetenv("LD_PRELOAD") end

-- luv 1.44 may crash when a state is closed while handles are closing. The loop ends that in one turn.
require "busted".subscribe({ "exit" }, function()
  require "luv".run("nowait")
  return nil, true
end)
