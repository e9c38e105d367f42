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
---@param instance raft.Machine
---@return any
function machine.state(instance)
  if instance.snapshot then return instance:snapshot() end
  local state = {}
  for name, value in next, instance do
    if type(value) ~= "function" then state[name] = value end
  end
  return state
end

-- ---- snapshots: records of key and value, of which the first one tells the form ----

---Writes the state of an instance: by its own save, as the value that its snapshot returns, or field by field.
---@param instance raft.Machine
---@param write fun(key: any, value: any)
function machine.save(instance, write)
  local version = instance.version
  if instance.save then
    write("records", version)
    instance:save(write)
  elseif instance.snapshot then
    write("value", version)
    write(1, instance:snapshot())
  else
    write("fields", version)
    for name, value in next, instance do
      if type(value) ~= "function" then write(name, value) end
    end
  end
end

---Runs instance:load(read, count) as a coroutine that waits for records: they come some at a time.
local function load_records(instance, count)
  local next_record                -- of those that are here
  local co
  local function read()
    if coroutine.running() ~= co then error("read is for load alone, while that runs", 2) end
    while true do
      local key, value
      if next_record then key, value = next_record() end
      if key ~= nil then return key, value end
      next_record = coroutine.yield()
      if not next_record then return nil end
    end
  end
  if type(instance.load) ~= "function" then
    error("raft: the snapshot was written by machine.save, and this machine has no load", 0)
  end
  co = coroutine.create(function() instance:load(read, count) end)
  local function resume(...)
    local ok, err = coroutine.resume(co, ...)
    if not ok then error(type(err) == "string" and debug.traceback(co, err) or err, 0) end
  end
  resume()
  return function(next_of_these)
    if coroutine.status(co) ~= "dead" then resume(next_of_these) end   -- else it has read enough
  end
end

local LOADERS = {
  records = load_records,
  value = function(instance)
    if type(instance.restore) ~= "function" then
      error("raft: the snapshot was written by machine.snapshot, and this machine has no restore", 0)
    end
    return function(next_record)
      if not next_record then return end
      for _, value in next_record do instance:restore(value) end
    end
  end,
  fields = function(instance)
    return function(next_record)
      if not next_record then return end
      for key, value in next_record do instance[key] = value end
    end
  end,
}

---Makes an instance from what machine.save has written: load("begin", their number), load("records", next_record) until
---all have come, some at a time, load("end") -> instance, its apply. next_record() -> key, value; nil: that was all of
---these.
---@param given raft.Machine|(fun(): raft.Machine)|string
---@return fun(step: "begin"|"records"|"end", of: integer|(fun(): any, any)|nil): raft.Machine?, function?
function machine.loader(given)
  local instance, apply, take, version, count
  return function(step, of)
    if step == "begin" then
      take, count = nil, of - 1    -- but for the one that tells the form
      instance, apply = machine.new(given)
    elseif step == "records" then
      if not take then
        local form, its_version = of()
        local loader = LOADERS[form] or error("raft: the snapshot has a form that this version does not know", 0)
        take, version = loader(instance, count), its_version
      end
      take(of)
    else
      if take then take() end      -- that was all
      if version ~= instance.version and instance.upgrade then instance:upgrade(version, instance.version) end
      return instance, apply
    end
  end
end

---What two instances in the same state have in common, and no others: what digest returns, else all of the state,
---packed. Raises for what cannot be packed, naming it.
---@param instance raft.Machine
---@return string
function machine.digest(instance)
  if not instance.digest then return core.pack(machine.state(instance), "machine") end
  local digest = instance:digest()
  if type(digest) ~= "string" then
    error("raft: machine.digest must return a string, got " .. type(digest), 0)
  end
  return digest
end

return machine
