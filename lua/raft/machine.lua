-- The user's state machine, in one of three forms, as an instance that one life of one node owns.
local core = require "raft.core"

local machine = {}

local FORMS = "a table with apply, a function returning one, or a module's name"

local function new_instance(prototype)
  return setmetatable({}, { __index = prototype })
end

---A fresh instance; init has run. Raises for what is no machine.
---@param given raft.Machine|(fun(): raft.Machine)|string
---@return raft.Machine instance
---@return function apply
function machine.new(given)
  local instance = given
  if type(given) == "string" then instance = require(given) end
  if type(instance) == "function" then
    instance = instance()
  elseif type(instance) == "table" then
    instance = new_instance(instance)
  end
  if type(instance) ~= "table" then
    error(("raft.node: machine must be %s, got %s"):format(FORMS,
      type(given) == "function" and "a function returning " .. type(instance) or type(given)), 0)
  end
  if type(instance.apply) ~= "function" then
    error(("raft.node: machine.apply must be a function, got %s"):format(type(instance.apply)), 0)
  end
  if instance.init ~= nil then
    if type(instance.init) ~= "function" then
      error(("raft.node: machine.init must be a function, got %s"):format(type(instance.init)), 0)
    end
    instance:init()
  end
  return instance, instance.apply
end

---The state of an instance as one value: what its snapshot returns, else its own fields (but functions, which a machine
---that was made by a function has among them).
local function state_of(instance)
  if instance.snapshot then return instance:snapshot() end
  local state = {}
  for name, value in next, instance do
    if type(value) ~= "function" then state[name] = value end
  end
  return state
end

---What two instances in the same state have in common, and no others: what digest returns, else all of the state,
---packed. Raises for what cannot be packed, naming it.
---@param instance raft.Machine
---@return string
function machine.digest(instance)
  if not instance.digest then return core.pack(state_of(instance), "machine") end
  local digest = instance:digest()
  if type(digest) ~= "string" then
    error("raft: machine.digest must return a string, got " .. type(digest), 0)
  end
  return digest
end

return machine
