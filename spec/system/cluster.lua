-- Clusters of real processes, one node each (node_process.lua), for specs.
local process = require "spec.system.process"

local cluster = {}
local Cluster, Node = {}, {}
Cluster.__index, Node.__index = Cluster, Node

local function literal(value)
  if type(value) ~= "table" then return ("%q"):format(value) end
  local parts = {}
  for k, v in pairs(value) do parts[#parts + 1] = ("[%s]=%s"):format(literal(k), literal(v)) end
  return "{" .. table.concat(parts, ",") .. "}"
end

---n nodes, not started. options: given to every raft.node.
function cluster.new(n, options)
  local self = setmetatable({ dir = process.directory(), addresses = process.addresses(n), nodes = {} }, Cluster)
  for id = 1, n do
    self.nodes[id] = setmetatable({ id = id, asked = 0, cluster = self, options = {
      id = id, dir = self.dir .. "/" .. id, cluster = self.addresses } }, Node)
    for name, value in pairs(options or {}) do self.nodes[id].options[name] = value end
  end
  return self
end

---Starts a node's process. command: env, preload, as of process.lua.
function Node:launch(command)
  command = command or {}
  self.process = process.lua { "spec/system/node_process.lua", literal(self.options), env = command.env,
    preload = command.preload, as = command.as }
  return self
end

function Node:start(command)
  self:launch(command)
  self.process:expect("ready\n")
  return self
end

function Cluster:start(command)
  for _, node in ipairs(self.nodes) do node:launch(command and command(node)) end
  for _, node in ipairs(self.nodes) do node.process:expect("ready\n") end
  return self
end

---Runs a chunk in the node's process: a function that gives its results once they are there, nothing before.
function Node:ask(chunk)
  self.asked = self.asked + 1
  local number, p = self.asked, self.process
  p:write(("%d %s\n"):format(number, (chunk:gsub("\n", " "))))
  return function()
    local text = p.output:match(("\n= %d ([^\n]*)\n"):format(number))
    if text then return table.pack(assert(load("return " .. text))()) end
    if p:ended() then return table.pack(nil, "the process ended") end
  end
end

---The same, waiting for the results.
function Node:eval(chunk)
  local answer = self:ask(chunk)
  local values = process.wait_until(answer, "the answer to " .. chunk)
  return table.unpack(values, 1, values.n)
end

function Node:status() return self:eval("return node:status()") end

function Node:kill()
  self.process:kill("sigkill")
  self.process:wait()
end

---Ends the node by SIGTERM: status, signal.
function Node:stop()
  self.process:kill("sigterm")
  return self.process:wait()
end

---The node that a node which runs calls the leader, once there is one that runs.
function Cluster:leader()
  return process.wait_until(function()
    for _, node in ipairs(self.nodes) do
      if node.process and not node.process:ended() then
        local s = node:status()
        if s.role == "leader" then return node, s.term end
      end
    end
    process.sleep(0.05)
  end, "a leader")
end

---The nodes but one.
function Cluster:others(node)
  local list = {}
  for _, other in ipairs(self.nodes) do
    if other ~= node then list[#list + 1] = other end
  end
  return list
end

function Cluster:clean()
  process.clean()
  process.remove(self.dir)
end

return cluster
