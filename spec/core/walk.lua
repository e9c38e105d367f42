-- A random walk through what can happen to a cluster of pure cores: messages lost, doubled and reordered, disks that
-- lag, crashes that lose what was not synced yet, partitions, clocks that run apart; members come and go, snapshots are
-- taken and sent, leadership is handed over, reads are asked for. The lab checks Raft's promises at every step; at the
-- end all is well again, and the cluster must come to agree. One seed, one walk.
local lab = require "spec.core.lab"

local walk = {}

local CONFIGURATIONS = {
  { voters = { 1, 2, 3 } },
  { voters = { 1, 2, 3, 4, 5 } },
  { voters = { 1, 2, 3 }, learners = { 4 } },
  { voters = { 1, 2, 3 }, outgoing = { 3, 4, 5 } },
  { voters = { 1, 2, 3 }, spares = { 4, 5, 6 } },
  { voters = { 1 }, spares = { 2, 3, 4 } },
  { voters = { 1, 2 }, learners = { 3 }, spares = { 4, 5 } },
}

-- How far two clocks may run apart within T, and how fast each really runs: at the bound, as far as rounding lets it.
local DRIFT = 50000
local SKEW = { 24000, -24000, 0, 20000, -20000, 10000 }

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

function walker:lose()
  local m = self:any_message()
  if m and m.type == "snapshot" then self.cluster:report(m, false) end
end

---Calls fn on each node that leads, by what it knows.
function walker:each_leader(fn)
  for id = 1, self.n do
    local node = self.cluster.nodes[id]
    if not node.down and node:status().role == "leader" then
      fn(node)
      self.cluster:pump(node)
    end
  end
end

local actions = {}

function actions.deliver(self)
  local m = self:any_message(self.random(20) == 1)
  if m then self.cluster:give(m) end
end

function actions.drop(self) self:lose() end

function actions.sync(self)
  local node = self:any_node()
  if not node.down and #node.unsynced > 0 then self.cluster:sync(node.id, self.random(#node.unsynced)) end
end

function actions.tick(self)
  local node = self.cluster:next_to_act()
  if node then
    node:tick()
    self.cluster:pump(node)
  end
end

function actions.propose(self)
  self:each_leader(function(node)
    local sizes = {}
    for i = 1, self.random(4) do
      self.size = self.size + 1  -- each entry is of another size: that is its content
      sizes[i] = self.size
    end
    node.core:propose(sizes)  -- may be refused: the quota, a transfer
  end)
end

---A random change of some members: mostly refused, with a reason that is counted.
function actions.change(self)
  self:each_leader(function(node)
    local changes = {}
    for i = 1, self.random(3) do
      local op = ({ "add", "promote", "promote", "demote", "remove", "move" })[self.random(6)]
      changes[i] = { op, self.random(self.n) }
    end
    local index, text = node.core:change(changes, node.clock.now)
    local what = index and "changed" or text:match "^%w+"
    self.cluster.counts[what] = (self.cluster.counts[what] or 0) + 1
  end)
end

function actions.snapshot(self)
  local node = self:any_node()
  if node.down or node.commit == 0 then return end
  node:snapshot(nil, self.random(8) - 1)
  self.cluster:pump(node)
end

function actions.transfer(self)
  self:each_leader(function(node) node.core:transfer(self.random(self.n + 1) - 1, node.clock.now) end)
end

function actions.read(self)
  for id = 1, self.n do
    local node = self.cluster.nodes[id]
    if not node.down then self.cluster:read(id, self.random(2) == 1) end
  end
end

function actions.leader_lost(self)
  local node = self:any_node()
  if node.down then return end
  node.core:leader_lost(node.clock.now)
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
  assert(node.core:campaign(node.clock.now))
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
  node.core:step_down(node.clock.now)
  self.cluster:pump(node)
end

function actions.applied(self)
  local node = self:any_node()
  local applied = node:status().applied
  if not node.down and node.commit > applied then node.core:applied(applied + self.random(node.commit - applied)) end
end

local WEIGHTS = { deliver = 700, drop = 40, sync = 250, tick = 24, propose = 40, crash = 4, restart = 30, cut = 6,
  join = 10, campaign = 6, unreachable = 4, step_down = 3, applied = 10, change = 20, snapshot = 6, transfer = 4,
  read = 30, leader_lost = 5 }

local wheel = {}
for name, weight in pairs(WEIGHTS) do
  for _ = 1, weight do wheel[#wheel + 1] = name end
end
table.sort(wheel)

---All is well from now on: the cluster must elect a leader, and all its members must come to hold and know what it
---holds. Who is no member any more does not lead.
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
  assert(not leader:status().changing, "a change of members never ends")
  assert(c:read(leader.id))
  c:propose(leader.id, { self.size + 1 })
  c:deliver()
  c:advance(lab.T)
  assert((leader.read[#c.reads] or 0) > 0, "a read is never answered")
  local members = " " .. lab.conf_text(leader.core:conf()):gsub("|", " ") .. " "
  for id = 1, self.n do
    local node = c.nodes[id]
    if members:find(" " .. id .. " ", 1, true) then
      assert(node.commit == leader:status().last, "node " .. id .. " does not know all that is committed")
      assert(lab.conf_text(node.core:conf()) == lab.conf_text(leader.core:conf()), "another configuration")
      assert(not node:status().removed, "a member believes that it is none")
    else
      assert(node:status().role ~= "leader", "a node leads that is no member")
    end
  end
end

---Walks; returns the cluster. trace(name, cluster), if given, is called after each step.
function walk.run(seed, steps, trace)
  local random = lab.random(seed)
  local options = { lag = true, seed = seed, append_bytes = 300, window_bytes = 2000, uncommitted_bytes = 5000,
    cache_bytes = random(2) == 1 and 500 or 100000, range_max = 10, lease = random(2) == 1, clock_drift = DRIFT,
    skew = SKEW }
  for name, list in pairs(CONFIGURATIONS[seed % #CONFIGURATIONS + 1]) do options[name] = list end
  local self = setmetatable({ cluster = lab.cluster(options), random = random, size = 0 }, walker)
  self.n = #self.cluster.nodes
  local c = self.cluster
  c.counts = {}
  for id = 1, self.n do c:pump(c.nodes[id]) end
  for _ = 1, steps do
    c.clock.now = c.clock.now + random(2000)
    local name = wheel[random(#wheel)]
    actions[name](self)
    while #c.pool > 60 do self:lose() end
    if trace then trace(name, c) end
  end
  self:heal()
  return c
end

return walk
