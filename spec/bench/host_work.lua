-- Fixed works for the counting of instructions (guard.lua), with a node alone in memory.  Arguments: how many calls, a
-- directory, which work: `propose`, commands from coroutines; `callback`, with callbacks; `apply`, commands that
-- `propose` has left in the directory, as on a follower, where nobody waits for them; `read`, reads.
local raft = require "raft"

local WINDOW, BYTES = 64, 128
local count, dir, what = tonumber(arg[1]), arg[2], arg[3]

local sink = {}
function sink:init() self.n = 0 end

function sink:apply()
  self.n = self.n + 1
  return self.n
end

---Calls `count` times, from 64 coroutines.
local function repeated(call)
  local left, open = count, WINDOW
  for _ = 1, WINDOW do
    raft.go(function()
      while left > 0 do
        left = left - 1
        assert(call())
      end
      open = open - 1
    end)
  end
  while open > 0 do raft.sleep(0.01) end
end

local works = {}

function works.propose(node)
  local command = ("x"):rep(BYTES)
  repeated(function() return node:propose(command) end)
end

local function look(machine) return machine.n end

function works.apply(node) assert(node:read(look) == count) end

function works.callback(node)
  local command, left, open = ("x"):rep(BYTES), count, WINDOW
  local function told(result)
    assert(result)
    if left == 0 then
      open = open - 1
    else
      left = left - 1
      node:propose(command, told)
    end
  end
  for _ = 1, WINDOW do told(true) end
  while open > 0 do raft.sleep(0.01) end
end

function works.read(node)
  repeated(function() return node:read(look) end)
end

raft.run(function()
  local node <close> = assert(raft.node { id = 1, dir = dir, machine = sink, log = false, timeout = 60 })
  assert(node:wait("ready"))
  works[what](node)
end)
