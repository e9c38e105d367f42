-- raft.sim: whole clusters of a user's machine on a simulated clock, network and disks, repeatable by seed.
--
-- The test's own code runs here, in the caller's state; each node runs in a Lua state of its own (sim_process.lua), as
-- it would run in a process of its own. Between the two, values are copied.
local clients = require "raft.sim_clients"
local core = require "raft.core"
local loop = require "raft.loop"
local node = require "raft.sim_node"
local options = require "raft.sim_options"
local report = require "raft.sim_report"
local witness = require "raft.sim_witness"

---What happens in one run: handed to the function given to raft.sim. `sim[i]` is node i, `#sim` their number.
---@class raft.Sim
---@field [integer] raft.sim.Node
---@field seed integer
---@field time number     simulated seconds since the beginning
---@field hash integer    of everything that has happened: equal for equal runs
---@field package core table
local Sim = {}

local START_S = 0.01     -- how often it is looked whether all nodes have started
local LOOK_S = 0.02      -- how often what has to come true is looked at
local SETTLE_S = 60      -- until all nodes have applied the same, once everything is healed

-- ---- running ----

---Runs the simulation for s seconds; in a coroutine of sim:go: waits for them, while others go on.
---@param s number
function Sim:run(s)
  if type(s) ~= "number" or not (s >= 0 and s < 1e9) then error("sim:run: seconds expected, got " .. tostring(s), 2) end
  local client = clients.waiter(self, "sim:run")
  self.core:after(s, clients.new_token(self, { client = client }))
  clients.wait(self, client)
end

---The same, by the name that reads better in a coroutine.
Sim.sleep = Sim.run

---Starts a coroutine: one more client of the cluster. It is closed when the function given to raft.sim returns. What it
---raises fails the run.
---@param fn fun(...)
function Sim:go(fn, ...)
  if type(fn) ~= "function" then error("sim:go: a function expected, got " .. type(fn), 2) end
  clients.go(self, fn, ...)
end

---Runs until fn() is true, which is returned; the run fails when it is not within s seconds.
---@param fn fun(): any
---@param s? number default 30
function Sim:eventually(fn, s)
  if type(fn) ~= "function" then error("sim:eventually: a function expected, got " .. type(fn), 2) end
  local deadline = self.time + (s or 30)
  while true do
    local value = fn()
    if value then return value end
    if self.time >= deadline then error(("it did not come true within %g simulated seconds"):format(s or 30), 2) end
    self:run(LOOK_S)
  end
end

---The node that leads the newest term; nil while none does.
---@return raft.sim.Node?
function Sim:leader()
  local leader, newest
  for _, member in ipairs(self.nodes) do
    local status = member:status()
    if status and status.role == "leader" and (not newest or status.term > newest) then
      leader, newest = member, status.term
    end
  end
  return leader
end

-- ---- faults ----

local function check_id(self, id, name)
  if math.type(id) ~= "integer" or not self.nodes[id] then
    error(("%s: a node from 1 to %d expected, got %s"):format(name, #self.nodes, tostring(id)), 3)
  end
end

---Splits the nodes into groups that do not reach each other; those that are not named form one more. Takes the place of
---the partition before it.
---@param ... integer[]
function Sim:partition(...)
  local side = {}
  for i, group in ipairs { ... } do
    if type(group) ~= "table" then error("sim:partition: lists of nodes expected, got a " .. type(group), 2) end
    for _, id in ipairs(group) do
      check_id(self, id, "sim:partition")
      if side[id] then error(("sim:partition: node %d is in two groups"):format(id), 2) end
      side[id] = i
    end
  end
  for a = 1, #self.nodes do
    for b = 1, #self.nodes do
      if a ~= b then self.core:cut(a, b, side[a] ~= side[b]) end
    end
  end
end

---The process of a node dies, and with it what its disk had not made durable.
---@param id integer
function Sim:crash(id)
  check_id(self, id, "sim:crash")
  self.core:crash(id)
end

---Starts a node that is down; one that is up crashes first.
---@param id integer
function Sim:restart(id)
  check_id(self, id, "sim:restart")
  if self.core:state(id) ~= "down" then self.core:crash(id) end
  self.core:start(id)
end

---Crashes a node and empties its disk. The others will refuse it: it may have forgotten a vote.
---@param id integer
function Sim:wipe(id)
  check_id(self, id, "sim:wipe")
  local why = self.core:wipe(id)
  if why then error("sim:wipe: " .. why, 2) end
end

---A node's process stands still, as under SIGSTOP, until sim:resume.
---@param id integer
function Sim:pause(id)
  check_id(self, id, "sim:pause")
  self.core:pause(id, true)
end

---@param id integer
function Sim:resume(id)
  check_id(self, id, "sim:resume")
  self.core:pause(id, false)
end

---All that a node sends and is sent takes up to s seconds longer. 0: as fast as before.
---@param id integer
---@param s number
function Sim:slow(id, s)
  check_id(self, id, "sim:slow")
  if type(s) ~= "number" or not (s >= 0 and s <= 3600) then
    error("sim:slow: seconds expected, got " .. tostring(s), 2)
  end
  for other = 1, #self.nodes do
    if other ~= id then
      self.core:slow(id, other, s)
      self.core:slow(other, id, s)
    end
  end
end

---Ends all faults, those that the seed brings too: partitions, slowness, pauses; nodes that are down start.
function Sim:heal()
  self.core:heal()
end

-- ---- checking ----

---What keeps a node from having applied everything; nil: nothing.
local function unsettled(self, id)
  if self.core:lost(id) then return nil end
  local state, applied, committed = self.core:state(id), self.core:applied(id), self.core:committed()
  if state ~= "running" then return ("node %d is %s"):format(id, state) end
  if applied < committed then
    return ("node %d has applied %d of %d log entries"):format(id, applied, committed)
  end
end

local function settle(self)
  local deadline = self.time + SETTLE_S
  while true do
    local reason
    for id = 1, #self.nodes do reason = reason or unsettled(self, id) end
    if not reason then return end
    if self.time >= deadline then
      error({ text = ("%s, %d simulated seconds after everything was healed"):format(reason, SETTLE_S) }, 0)
    end
    self:run(LOOK_S)
  end
end

---Heals everything, waits until all nodes have applied the same, and checks: are their states equal, and those of a
---fresh instance that applies the log once more; was every command applied once, and every call answered as that order
---of commands demands, no earlier and no later than it was made. Comes by itself at the end of each run.
function Sim:check()
  self:heal()
  settle(self)
  for id = 1, #self.nodes do
    if self.core:state(id) == "running" then self.core:ask(id, "compare") end
  end
  witness.check(self)
  if self.core:failed() then clients.advance(self) end
end

---The calls of all clients so far, in the form that raft.linear checks:
---{ client =, called =, returned =, input = { call = "propose"|"read", node =, cmd = }, output = { a, b } }.
---returned and output are nil when it is not known what became of it; what was certainly not applied is left out.
---@return table[]
function Sim:history()
  local history = {}
  for _, operation in ipairs(self.history_list) do
    local known = operation.outcome == "yes"
    if known or operation.outcome ~= "no" and operation.call == "propose" then
      local results = known and core.unpack(operation.answer)
      history[#history + 1] = { client = operation.client, called = operation.called,
        returned = known and operation.returned or nil, output = results and { results[1], results[2] } or nil,
        input = { call = operation.call, node = operation.node, cmd = core.unpack(operation.bytes).values[1] } }
    end
  end
  return history
end

-- ---- one run ----

local live = {
  time = function(self) return self.core:time() end,
  hash = function(self) return self.core:hash() end,
}

local meta = { __name = "raft.Sim", __len = function(self) return #self.nodes end }

function meta.__index(self, key)
  if type(key) == "number" then return self.nodes[key] end
  local get = live[key]
  if get then return get(self) end
  return Sim[key]
end

local function new_sim(o, prepared, seed, changes)
  local settings = { seed = seed, faults = changes.faults or o.faults, closely_from = changes.closely_from,
    trace = changes.trace, lease = o.node.lease }
  for name, value in pairs(prepared) do settings[name] = value end
  local self = setmetatable({ seed = seed, options = o, core = core.simulation(settings), nodes = {} }, meta)
  clients.init(self)
  for id = 1, o.nodes do self.nodes[id] = node.new(self, id) end
  return self
end

---The test begins when all nodes are up (or the first faults are due).
local function play(self, body)
  repeat
    self:run(START_S)
    local starting = false
    for id = 1, #self.nodes do starting = starting or self.core:state(id) ~= "running" end
  until not starting or self.time > 1
  return body(self)
end

---Plays a seed once. What went wrong, if anything: { text | error, time, faults, divergence?, trace? }; else what body
---returned.
---@param changes { faults: string[]?, closely_from: integer?, trace: boolean? } against other times
local function play_seed(o, prepared, seed, body, changes)
  local self = new_sim(o, prepared, seed, changes)
  local simulation <close> = self.core
  local was = loop.simulate(true)
  math.randomseed(seed)   -- a test may draw what it does, and do the same again
  local results = table.pack(xpcall(play, clients.with_traceback, self, body))
  clients.close(self)
  local ok, err = results[1], results[2]
  if ok and not self.failure then ok, err = xpcall(self.check, clients.with_traceback, self) end
  loop.simulate(was)
  math.randomseed()
  local failure = self.failure or not ok and (type(err) == "table" and err.text and err or { error = err }) or nil
  if not failure then return nil, results end
  failure.time, failure.faults, failure.trace = self.time, simulation:faults(), simulation:trace()
  local divergence = failure.divergence
  if divergence then
    failure.command = simulation:command(divergence.index)
    for index = divergence.equal + 1, divergence.index - 1 do
      failure.vague = failure.vague or simulation:command(index) ~= nil
    end
  end
  return failure
end

---The same seed once more, looking closer: at every command where machines part, and for a picture. What it finds takes
---the place of the failure, unless the run goes another way this time.
local function look_closer(o, prepared, seed, body, failure)
  local divergence = failure.divergence
  if not divergence and not o.trace then return failure end
  local second = play_seed(o, prepared, seed, body,
    { closely_from = divergence and divergence.equal + 1, trace = o.trace ~= nil })
  if second and report.alike(failure, second) then return second end
  failure.unrepeatable = true
  return failure
end

---Which of the faults does it take? Tries first without any, then without each of them.
local function find_fewer(o, prepared, seed, body, failure)
  local faults = failure.faults
  local function fails_with(fewer)
    local again = play_seed(o, prepared, seed, body, { faults = fewer })
    return again and report.alike(failure, again)
  end
  if #faults == 0 or failure.unrepeatable then return end
  if fails_with {} then
    failure.fewer = {}
    return
  end
  for i = #faults, 1, -1 do
    local rest = table.move(faults, 1, #faults, 1, {})
    table.remove(rest, i)
    if #rest > 0 and fails_with(rest) then faults, failure.fewer = rest, rest end
  end
end

local sim = {}

---Runs body(sim) once for each seed, each time on a fresh cluster. Raises at the first failure: of the body, of one of
---its coroutines, or of a check; the message tells the seed and how to replay it.
---@param given raft.sim_options
---@param body fun(sim: raft.Sim): ...
---@return any ... what body returned the last time
function sim.run(given, body)
  local o = options.read(given)
  if type(body) ~= "function" then error("raft.sim: a function expected, got " .. type(body), 2) end
  if loop.simulate(true) then error("raft.sim cannot be called inside raft.sim", 2) end
  loop.simulate(false)
  local prepared, results = options.prepare(o), nil
  for i = 0, o.seeds - 1 do
    local seed = o.seed + i
    local failure, returned = play_seed(o, prepared, seed, body, {})
    if failure then
      failure = look_closer(o, prepared, seed, body, failure)
      find_fewer(o, prepared, seed, body, failure)
      error(report.failure(o, seed, failure), 0)
    end
    results = returned
  end
  return table.unpack(results, 2, results.n)
end

return sim
