-- A fixed work for the counting of instructions (guard.lua): a cluster of one node in memory, commands of 128 bytes
-- from 64 coroutines.  Arguments: how many commands, a new directory.
local raft = require "raft"

local WINDOW, BYTES = 64, 128
local count, dir = tonumber(arg[1]), arg[2]

local sink = {}
function sink:init() self.n = 0 end

function sink:apply()
  self.n = self.n + 1
  return self.n
end

raft.run(function()
  local node <close> = assert(raft.node { id = 1, dir = dir, machine = sink, log = false, timeout = 60 })
  assert(node:wait("ready"))
  local left, open, command = count, WINDOW, ("x"):rep(BYTES)
  for _ = 1, WINDOW do
    raft.go(function()
      while left > 0 do
        left = left - 1
        assert(node:propose(command))
      end
      open = open - 1
    end)
  end
  while open > 0 do raft.sleep(0.01) end
end)
