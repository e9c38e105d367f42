-- Three nodes in one process: the smallest cluster to try things on.
--
--   lua5.4 examples/counter.lua [DIR]
--
-- Run it again and it goes on counting: what was acknowledged is on disk.
local raft = require "raft"

local counter = {}
function counter:init() self.n = 0 end
function counter:apply(by)
  self.n = self.n + by
  return self.n
end

local dir = arg[1] or "data/counter"
local cluster = { "127.0.0.1:7101", "127.0.0.1:7102", "127.0.0.1:7103" }

raft.run(function()
  local nodes = {}
  for id = 1, 3 do
    nodes[id] = assert(raft.node { id = id, dir = dir .. "/" .. id, machine = counter, cluster = cluster,
      log = "warn" })
  end
  print("the leader is node " .. assert(nodes[1]:wait("leader", 10)))

  local before = assert(nodes[1]:read(function(m) return m.n end))
  local open = 30
  for i = 1, 30 do                       -- thirty at a time, through all three
    raft.go(function()
      assert(nodes[i % 3 + 1]:propose(1))
      open = open - 1
    end)
  end
  while open > 0 do raft.sleep(0.01) end

  for id, node in ipairs(nodes) do
    local n = assert(node:read(function(m) return m.n end))
    print(("node %d counted from %d to %d"):format(id, before, n))
    assert(n == before + 30, "each is applied exactly once")
  end
  for _, node in ipairs(nodes) do node:close() end
end)
