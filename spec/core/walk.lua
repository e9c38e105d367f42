-- A random walk through what can happen to a cluster of pure cores: messages lost, doubled and reordered, disks that
-- lag, crashes that lose what was not synced yet, partitions. The lab checks Raft's promises at every step; at the end
-- all is well again, and the cluster must come to agree. One seed, one walk.
local lab = require "spec.core.lab"

local walk = {}

local CONFIGURATIONS = {
  { voters = { 1, 2, 3 } },
  { voters = { 1, 2, 3, 4, 5 } },
  { voters = { 1, 2, 3 }, learners = { 4 } },
  { voters = { 1, 2, 3 }, outgoing = { 3, 4, 5 } },
}

local walker = {}
walker.__index = walker

function walker:any_node() return self.cluster.nodes[self.random(self.n)] end

---Takes a message from anywhere in the pool; nil when it is empty.
function walker:any_message(keep)
  local pool = self.cluster.pool
  if #pool == 0 then return nil end
  local at = self.random(#pool)
  local m = pool[at]
  if not keep then
    pool[at] = pool[#pool]
    pool[#pool] = nil
  end
  return m
end

local actions = {}

function actions.deliver(self)
  local m = self:any_message(self.random(20) == 1)
  if m then self.cluster:give(m) end
end

function actions.drop(self) self:any_message() end

function actions.sync(self)
  local node = self:any_node()
  if not node.down and #node.unsynced > 0 then self.cluster:sync(node.id, self.random(#node.unsynced)) end
end

function actions.tick(self)
  local first, at
  for id = 1, self.n do
    local node = self.cluster.nodes[id]
    local deadline = not node.down and node.core:deadline()
    if deadline and (not at or deadline < at) then first, at = node, deadline end
  end
  if first then
    first:tick()
    self.cluster:pump(first)
  end
end

function actions.propose(self)
  for id = 1, self.n do
    local node = self.cluster.nodes[id]
    if not node.down and node:status().role == "leader" then
      local sizes = {}
      for i = 1, self.random(4) do
        self.size = self.size + 1  -- each entry is of another size: that is its content
        sizes[i] = self.size
      end
      node.core:propose(sizes)  -- may be refused: the quota
      self.cluster:pump(node)
    end
  end
end

function actions.crash(self)
  local node = self:any_node()
  if not node.down then self.cluster:crash(node.id) end
end

---What was written but not acknowledged may have reached the disk or not; applied may be ahead of what is known here.
local function restart(self, node)
  local written = self.random(#node.unsynced + 1) - 1
  self.cluster:restart(node.id, written, self.random(node.commit + 1) - 1)
  self.cluster:pump(node)
end

function actions.restart(self)
  local node = self:any_node()
  if node.down then restart(self, node) end
end

function actions.cut(self) self.cluster.cut[self.random(self.n)] = true end

function actions.join(self) self.cluster.cut = {} end

function actions.campaign(self)
  local node = self:any_node()
  if node.down then return end
  assert(node.core:campaign(self.cluster.clock.now))
  self.cluster:pump(node)
end

function actions.unreachable(self)
  local node = self:any_node()
  if node.down then return end
  node.core:unreachable(self.random(self.n))
  self.cluster:pump(node)
end

function actions.step_down(self)
  local node = self:any_node()
  if node.down then return end
  node.core:step_down(self.cluster.clock.now)
  self.cluster:pump(node)
end

function actions.applied(self)
  local node = self:any_node()
  local applied = node:status().applied
  if not node.down and node.commit > applied then node.core:applied(applied + self.random(node.commit - applied)) end
end

local WEIGHTS = { deliver = 700, drop = 40, sync = 250, tick = 24, propose = 40, crash = 4, restart = 30, cut = 6,
  join = 10, campaign = 6, unreachable = 4, step_down = 3, applied = 10 }

local wheel = {}
for name, weight in pairs(WEIGHTS) do
  for _ = 1, weight do wheel[#wheel + 1] = name end
end
table.sort(wheel)

---All is well from now on: the cluster must elect a leader, and all must come to hold and know what it holds.
function walker:heal()
  local c = self.cluster
  c.cut = {}
  for id = 1, self.n do
    local node = c.nodes[id]
    node.lag = false
    if node.down then restart(self, node) end
    c:sync(id)
  end
  c:deliver()
  c:advance(10 * lab.T)
  local leader = assert(c:leader(), "no leader")
  c:propose(leader.id, { self.size + 1 })
  c:deliver()
  c:advance(lab.T)
  for id = 1, self.n do
    assert(c.nodes[id].commit == leader:status().last, "node " .. id .. " does not know all that is committed")
  end
end

---Walks; returns the cluster. trace(name, cluster), if given, is called after each step.
function walk.run(seed, steps, trace)
  local random = lab.random(seed)
  local options = { lag = true, seed = seed, append_bytes = 300, window_bytes = 2000, uncommitted_bytes = 5000,
    cache_bytes = random(2) == 1 and 500 or 100000, range_max = 10 }
  for name, list in pairs(CONFIGURATIONS[seed % #CONFIGURATIONS + 1]) do options[name] = list end
  local self = setmetatable({ cluster = lab.cluster(options), random = random, size = 0 }, walker)
  self.n = #self.cluster.nodes
  local c = self.cluster
  for id = 1, self.n do c:pump(c.nodes[id]) end
  for _ = 1, steps do
    c.clock.now = c.clock.now + random(2000)
    local name = wheel[random(#wheel)]
    actions[name](self)
    while #c.pool > 60 do self:any_message() end
    if trace then trace(name, c) end
  end
  self:heal()
  return c
end

return walk
