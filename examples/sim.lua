-- Tests a machine in the simulator: whole clusters, on a network and disks that fail by seed.
--
--   lua5.4 examples/sim.lua [SEEDS]
--
-- The first machine hands out whichever task comes first, which is another one on each node. The simulator catches
-- that, and prints the line that catches it again, at the same command.
local raft = require "raft"

-- Each simulated node has a Lua state of its own. A function that captures nothing can go there, or a module's name.
local function careless()
  local queue = {}
  function queue:init() self.tasks = {} end
  function queue:apply(cmd)
    if cmd.add then
      self.tasks[cmd.add] = true
      return true
    end
    local task = next(self.tasks)                          -- here is the mistake
    if task then self.tasks[task] = nil end
    return task
  end
  return queue
end

local function careful()
  local spairs = require "raft".spairs
  local queue = {}
  function queue:init() self.tasks = {} end
  function queue:apply(cmd)
    if cmd.add then
      self.tasks[cmd.add] = true
      return true
    end
    local task = spairs(self.tasks)()                      -- sorted: the same one everywhere
    if task then self.tasks[task] = nil end
    return task
  end
  return queue
end

local function test(sim)
  for worker = 1, 4 do
    sim:go(function()
      for i = 1, 20 do
        local node = sim[math.random(#sim)]
        node:propose { add = ("task %d of worker %d"):format(i, worker) }
        node:propose { take = true }
        sim:sleep(math.random())
      end
    end)
  end
  sim:run(5)
  sim:partition({ 1, 2 }, { 3, 4, 5 })
  sim:crash(5)
  sim:run(5)
  sim:heal()
  sim:eventually(function()                                -- and it goes on
    local leader = sim:leader()
    return leader and leader:propose { add = "one more" }
  end)
end

local options = { nodes = 5, faults = "all", seeds = tonumber(arg[1]) or 10 }

options.machine = careless
local passed, message = pcall(raft.sim, options, test)
assert(not passed, "the careless machine was not caught")
print(message)

options.machine = careful
raft.sim(options, test)
print("\nthe careful machine passed")
