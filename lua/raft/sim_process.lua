-- What runs in the Lua state of a simulated node (csrc/lua/lua_process.h): raft as everywhere else, driven by the
-- simulation as by any foreign loop, the user's machine, and what tells of both.
--
-- Called as sim_process(core, here, boot, id): here.tell(kind, token, bytes) speaks to raft.sim; here.result(index,
-- bytes, raised) and here.digest(index, bytes) to the journal. Returns what the simulation calls.
local core, here, boot, id = ...
boot = core.unpack(boot)
package.path, package.cpath = boot.path, boot.cpath
for name, code in pairs(boot.modules) do package.preload[name] = assert(load(code, name, "b")) end

local raft, loop, machines = require "raft", require "raft.loop", require "raft.machine"
local pack, unpack = core.pack, core.unpack

local process = {}
local node                 -- once it has started
local waiting = {}         -- coroutines that wait for that
local proposing            -- token of the call that is about to propose
local last = 0             -- index of the last command applied

---A function that came from another state: it has captured nothing but the globals, which are this state's.
local function receive(code)
  return assert(load(code, "=(sim)", "b"))
end

local function given_machine()
  if boot.machine.code then return receive(boot.machine.code) end
  return boot.machine.module
end

-- ---- watching the machine: core.node's callbacks, as raft.node gives them, and ours around them ----

---Live values may be anything; what cannot be packed is compared by its type.
local function packed(a, b)
  local ok, bytes = pcall(pack, { a, b })
  if ok then return bytes end
  return pack { unpackable = { type(a), type(b) } }
end

local function watch_machine(callbacks)
  local machine = callbacks.machine
  local function tell(index, bytes, raised)
    last = index
    if here.result(index, bytes, raised) then here.digest(index, machines.digest(machine)) end
  end
  local watched = setmetatable({}, { __index = callbacks })
  function watched.applied(index, time, cmd, a, b)
    tell(index, packed(a, b), false)
    local applied = callbacks.applied
    if applied then applied(index, time, cmd, a, b) end
  end
  function watched.raised(index, message, traceback)
    tell(index, message, true)
    callbacks.raised(index, message, traceback)
  end
  function watched.handed(sequence)   -- which proposal belongs to which call
    if proposing then here.tell("handed", proposing, pack(sequence)) end
    proposing = nil
  end
  function watched.halted(message)
    callbacks.halted(message)
    loop.fail("the node stops itself: " .. message)
  end
  return watched
end

local new_node = core.node
function core.node(options, callbacks, stop_on_error)
  return new_node(options, watch_machine(callbacks), stop_on_error)
end

-- ---- its life ----

---Starts the node.
function process.start()
  local options = boot.node
  options.id, options.dir, options.machine = id, boot.dirs[id], given_machine()
  loop.go(function()
    local started = raft.node(options)
    if not started then return end   -- the simulation has heard of it
    node = started
    here.tell("started", 0)
    for _, waiter in ipairs(waiting) do loop.push(waiter) end
  end)
  loop.step()
end

---The host's turn. Seconds until the next one is due by itself; nil: never.
function process.turn()
  loop.step()
  return loop.timeout()
end

---Asks for an orderly end.
function process.close()
  if node then loop.go(function() node:close() end) end
end

-- ---- calls from the user's state ----

---read tells the index it saw: what is compared with a replay.
local function tell_index(token, fn)
  return function(machine, index, time)
    here.tell("read", token, pack { index = index, time = time })
    return fn(machine, index, time)
  end
end

local function run_call(token, name, call)
  if not node then
    local waiter = coroutine.running()
    waiting[#waiting + 1] = waiter
    loop.wait(waiter)
  end
  local values = call.values
  for i, code in pairs(call.functions) do
    values[i] = name == "read" and tell_index(token, receive(code)) or receive(code)
  end
  proposing = token
  local results = table.pack(pcall(node[name], node, table.unpack(values, 1, call.n)))
  proposing = nil
  if not results[1] then
    return here.tell("raise", token, (tostring(results[2]):gsub("^[^\n]-%.lua:%d+: ", "")))
  end
  results.n = results.n - 1
  table.remove(results, 1)
  local ok, bytes = pcall(pack, results, "result")
  if ok then here.tell("answer", token, bytes) else here.tell("raise", token, tostring(bytes)) end
end

---Makes a waiting call: its answer is told later.
---@param token integer
---@param name string
---@param bytes string
function process.call(token, name, bytes)
  loop.go(run_call, token, name, unpack(bytes))
end

local listening = {}

---Tells of an event, from now on; once is enough for all who listen.
---@param event raft.event
function process.listen(event)
  if not node or listening[event] then return end
  listening[event] = true
  node:on(event, function(data, name)
    here.tell("event", 0, pack { listens = event, name = name, data = data })
  end)
end

---What a call that does not wait, or a field, gives at once.
---@param name string
function process.look(name)
  if not node then return pack(nil) end
  local value = node[name]
  if type(value) == "function" then value = value(node) end
  return pack(value)
end

---Tells the digest of the node's machine as it is now, to be compared with the others'.
function process.compare()
  if last > 0 then here.digest(last, machines.digest(node.machine)) end
end

-- ---- the witness: the same commands once more, in a state of its own ----

local witness, apply

function process.witness()
  witness, apply = machines.new(given_machine())
end

---@param index integer
---@param time number
---@param bytes string
function process.apply(index, time, bytes)
  local ok, a, b = pcall(apply, witness, unpack(bytes), index, time)
  local wanted = here.result(index, ok and packed(a, b) or tostring(a), not ok)
  if wanted then here.digest(index, machines.digest(witness)) end
end

local OTHER_WAYS = 8

---May a function given to read have returned this, here and now? nil: yes; else what it returns, packed like a result.
---Such a function may depend on the order of pairs and the like without doing any harm: what differs from one time to
---the next here, too, is let pass.
---@return string?
function process.read(code, index, time, expected)
  local fn = receive(code)
  local function returned()
    local ok, a, b = pcall(fn, witness, index, time)
    return ok and packed(a, b) or ""
  end
  local first = returned()
  if first == expected then return nil end
  for _ = 1, OTHER_WAYS do
    here.reseed()
    local other = returned()
    if other ~= first then return nil end
  end
  return first
end

return process
