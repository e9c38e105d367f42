-- Checks what raft.sim is given, and makes what the nodes' own Lua states start with.
local core = require "raft.core"
local settings = require "raft.options"

local options = {}

-- What a node's state requires of ours: compiled once, here.
local MODULES = { "raft", "raft.loop", "raft.machine", "raft.members", "raft.node", "raft.options" }

---The code of a function that is to run in a node's state. Raises when it has captured anything.
---@param fn function
---@param name string for the message
---@param level integer
function options.dump(fn, name, level)
  if debug.getinfo(fn, "S").what == "C" then
    error(("%s: a function of C cannot run in a node's own Lua state"):format(name), level + 1)
  end
  for i = 1, math.huge do
    local upvalue = debug.getupvalue(fn, i)
    if not upvalue then break end
    if upvalue ~= "_ENV" then
      error(("%s: the function has captured %q, but it runs in the node's own Lua state, where that does not exist: "
        .. "it may use its arguments, globals and what it requires"):format(name, upvalue), level + 1)
    end
  end
  return string.dump(fn)
end

---The code of a file that package.path leads to; nil: let the node's own require find it.
local function code_of(module)
  local path = package.searchpath(module, package.path)
  local chunk = path and loadfile(path)
  return chunk and string.dump(chunk)
end

local function machine_of(given)
  if type(given) == "string" then return { module = given } end
  if type(given) == "function" then return { code = options.dump(given, "raft.sim: machine", 4) } end
  error("raft.sim: machine must be the name of a module, or a function that makes it and has captured nothing: each "
    .. "simulated node has a Lua state of its own, into which a " .. type(given) .. " cannot go", 4)
end

-- ---- options ----

local function is_integer(low, high)
  return function(v) return math.type(v) == "integer" and v >= low and v <= high end
end

local KNOWN = {
  nodes = { is_integer(1, 9), "an integer from 1 to 9", 3 },
  machine = { function(v) return v ~= nil end, "a module's name or a function" },
  seed = { is_integer(math.mininteger, math.maxinteger), "an integer", 1 },
  seeds = { is_integer(1, math.maxinteger), "an integer above 0", 1 },
  faults = { function(v) return v == false or v == "all" or type(v) == "table" end, '"all", a list of names, or false',
    false },
  node = { function(v) return type(v) == "table" end, "a table of raft.node's options", {} },
  trace = { function(v) return type(v) == "string" end, "the path of a file" },
}

local OURS = { "id", "dir", "machine", "cluster", "listen", "name" }   -- options of nodes that are not the user's

local function read_faults(given)
  if not given then return {} end
  local known, all = {}, {}
  for _, name in ipairs(core.simulation_faults) do
    known[name] = true
    if name ~= "lies" then all[#all + 1] = name end
  end
  if given == "all" then return all end
  for _, name in ipairs(given) do
    if not known[name] then
      error(("raft.sim: faults: unknown fault %s%s; known are %s"):format(tostring(name),
        settings.suggest(tostring(name), known), table.concat(core.simulation_faults, " ")), 4)
    end
  end
  return given
end

---A checked copy with defaults; RAFT_SEED in the environment takes the place of seed and seeds.
---@param given raft.sim_options
---@return table
function options.read(given)
  if type(given) ~= "table" then error("raft.sim: a table of options expected, got " .. type(given), 3) end
  local o = {}
  for name, value in pairs(given) do
    local known = KNOWN[name]
    if not known then
      error(("raft.sim: unknown option %s%s"):format(tostring(name), settings.suggest(tostring(name), KNOWN)), 3)
    end
    if not known[1](value) then
      error(("raft.sim: %s must be %s, got %s"):format(name, known[2], tostring(value)), 3)
    end
    o[name] = value
  end
  for name, known in pairs(KNOWN) do
    if o[name] == nil then o[name] = known[3] end
  end
  if o.machine == nil then error("raft.sim: machine is missing: " .. KNOWN.machine[2], 3) end
  o.faults = read_faults(o.faults)
  local replayed = os.getenv "RAFT_SEED"
  if replayed then
    o.seed, o.seeds = math.tointeger(tonumber(replayed)), 1
    if not o.seed then error("raft.sim: RAFT_SEED must be an integer, got " .. replayed, 3) end
  end
  return o
end

---Options of each node, checked as raft.node would.
local function node_options(o)
  local node = { log = false }
  for name, value in pairs(o.node) do node[name] = value end
  for _, name in ipairs(OURS) do
    if node[name] ~= nil then error(("raft.sim: node.%s is the simulation's own business"):format(name), 4) end
  end
  node.cluster = {}
  for id = 1, o.nodes do node.cluster[id] = ("node-%d:7000"):format(id) end
  node.dir, node.machine = "node", "machine"
  local ok, checked = pcall(settings.read, node)
  if not ok then error((checked:gsub("^raft%.node", "raft.sim: node")), 4) end
  if type(node.log) == "function" then error("raft.sim: node.log must be a level or false here", 4) end
  node.dir, node.machine = nil, nil
  return node, checked
end

---Options for core.simulation, as far as they do not change from seed to seed.
---@param o table as of options.read
---@return table
function options.prepare(o)
  local node, checked = node_options(o)
  local code = code_of "raft.sim_process" or error("raft.sim: raft/sim_process.lua cannot be found", 3)
  local boot = { path = package.path, cpath = package.cpath, modules = {}, machine = machine_of(o.machine), dirs = {},
    node = node }
  for _, name in ipairs(MODULES) do boot.modules[name] = code_of(name) end
  for id = 1, o.nodes do boot.dirs[id] = "node-" .. id end
  return {
    nodes = o.nodes, election_timeout = checked.election_timeout, heartbeat = checked.heartbeat,
    boot = core.pack(boot), code = code,
  }
end

return options
