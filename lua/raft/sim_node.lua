-- sim[i]: a simulated node, over all its lives. Its calls are packed, and made in the Lua state of its present process.
local core = require "raft.core"
local clients = require "raft.sim_clients"
local nodes = require "raft.node"
local options = require "raft.sim_options"
local settings = require "raft.options"

---The calls of a raft.Node, with values copied. On a node that is down they give nil, message, "closed"; on one that
---crashes meanwhile nil, message, "unknown".
---@class raft.sim.Node: raft.Node
local Node = {}

local LIMIT_S = 600      -- of a call without a timeout: then the run fails
local GRACE_S = 2        -- beyond the timeout of a call, which its own node should have ended: it is paused

local NAMES = { propose = "cmd" }                -- of the first argument, in messages
local FUNCTIONS = { read = true, wait = true }   -- whose first argument may be a function
local AT_ONCE = { status = true, members = true }
local FIELDS = { role = true, term = true, leader = true }

---Packs the arguments of a call for the node's state.
local function pack_call(name, arguments, named)
  local call = { n = arguments.n, values = {}, functions = {} }
  for i = 1, arguments.n do
    local value = arguments[i]
    if type(value) == "function" then
      call.functions[i] = options.dump(value, named, 3)
    else
      local ok, message = pcall(core.pack, value, i == 1 and NAMES[name] or "argument " .. i)
      if not ok then error(("%s: %s"):format(named, message), 3) end
      call.values[i] = value
    end
  end
  return core.pack(call), call
end

local function timeout_of(self, name, arguments)
  local last = arguments[arguments.n]
  if name == "wait" and type(last) == "number" then return last end
  if type(last) == "table" and arguments.n > 1 and type(last.timeout) == "number" then return last.timeout end
  if name == "wait" or name == "close" then return nil end
  return self.options.node.timeout or 5
end

---A call that waits, in the node's own state.
local function call_node(node, name, ...)
  local self, arguments = node.sim, table.pack(...)
  local last, callback = arguments[arguments.n], nil
  if type(last) == "function" and not (FUNCTIONS[name] and arguments.n == 1) then
    callback, arguments.n = last, arguments.n - 1
  end
  local timeout = timeout_of(self, name, arguments)
  local named = ("sim[%d]:%s"):format(node.id, name)
  local bytes, call = pack_call(name, arguments, named)
  local client = callback and { number = clients.new_number(self) } or clients.waiter(self, named)
  if self.core:state(node.id) == "down" then
    local text = ("node %d is down"):format(node.id)
    if not callback then return nil, text, "closed" end
    clients.after(self, 0, function() clients.call_back(self, callback, nil, text, "closed") end)
    return
  end
  local token = clients.new_token(self, { client = client, callback = callback, node = node.id,
    life = self.core:life(node.id), closes = name == "close" })
  local stale = name == "read" and type(arguments[2]) == "table" and arguments[2].stale   -- promises no order
  if not stale then clients.record(self, token, name, node.id, bytes, call.functions[1], client) end
  clients.after(self, timeout and timeout + GRACE_S or LIMIT_S, function()
    if timeout then return clients.wake(self, token, true, nil, "no answer in time", "timeout") end
    if self.pending[token] then
      self.failure = self.failure
        or { text = ("%s has not ended within %d simulated seconds"):format(named, LIMIT_S) }
    end
  end)
  self.core:request(node.id, "call", token, name, bytes)
  if not callback then return clients.wait(self, client) end
end

---What is known there at once. nil, message, "closed" of a node that is down or has not started yet.
local function look_at(node, name)
  local state = node.sim.core:state(node.id)
  if state ~= "running" then return nil, ("node %d is %s"):format(node.id, state), "closed" end
  return (core.unpack(node.sim.core:ask(node.id, "look", name)))
end

---As node:on, over all lives of the node.
local function listen(node, event, fn)
  local self = node.sim
  if type(fn) ~= "function" then error("sim[i]:on: a function expected, got " .. type(fn), 3) end
  if not nodes.events[event] then
    error(("sim[i]:on: unknown event %s%s"):format(tostring(event), settings.suggest(tostring(event), nodes.events)), 3)
  end
  local listener = { node = node.id, event = event, fn = fn }
  self.listeners[#self.listeners + 1] = listener
  if self.core:state(node.id) == "running" then self.core:ask(node.id, "listen", event) end
  return function()
    for i, other in ipairs(self.listeners) do
      if other == listener then return table.remove(self.listeners, i) end
    end
  end
end

local methods = { on = function(node, event, fn) return listen(node, event, fn) end }
for name, method in pairs(nodes.methods) do
  if type(method) == "function" and not name:find("^_") and name ~= "after_step" and name ~= "on" then
    methods[name] = AT_ONCE[name] and function(node) return look_at(node, name) end
      or function(node, ...) return call_node(node, name, ...) end
  end
end

function Node.__index(node, name)
  if methods[name] then return methods[name] end
  if FIELDS[name] then return (look_at(node, name)) end
end

function Node:__tostring()
  return ("sim[%d] (%s)"):format(self.id, self.sim.core:state(self.id))
end

Node.__name = "raft.sim.Node"

local node = { look = look_at }

---@param self raft.Sim
---@param id integer
---@return raft.sim.Node
function node.new(self, id)
  return setmetatable({ sim = self, id = id }, Node)
end

return node
