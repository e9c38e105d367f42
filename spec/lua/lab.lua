-- For specs of the face: bodies run inside raft.run, on nodes in directories that go away.
local core = require "raft.core"
local process = require "spec.system.process"
local raft = require "raft"

local lab = {}

local GUARD_S = 60   -- never what a spec measures
local dirs = {}

---A directory that lab.clean removes.
function lab.dir()
  local dir = process.directory()
  dirs[#dirs + 1] = dir
  return dir
end

---For after_each.
function lab.clean()
  process.clean()
  for _, dir in ipairs(dirs) do process.remove(dir) end
  dirs = {}
end

---A body for `it` that runs as the main function of raft.run. An assertion that fails in any coroutine fails the
---spec, and so does a body that hangs.
function lab.run(body)
  return function()
    local over = false
    raft.after(GUARD_S, function()
      if not over then error("the spec did not end in time") end
    end)
    local ok, err = pcall(raft.run, body)
    over = true
    if not ok then error(err, 0) end
  end
end

---A machine that keeps what it is told. Commands: { key, value }; a command that is a string is answered by `replies`.
function lab.machine(replies)
  local machine = {}
  function machine:init() self.data, self.count = {}, 0 end
  function machine:apply(cmd, index, time)
    self.count, self.index, self.time = self.count + 1, index, time
    if type(cmd) == "string" and replies and replies[cmd] then return replies[cmd](self, index, time) end
    if type(cmd) == "table" and cmd.key then
      local old = self.data[cmd.key]
      self.data[cmd.key] = cmd.value
      return cmd.value, old
    end
    return cmd
  end
  return machine
end

---Options of a node that is quick to elect itself.
function lab.options(changes)
  local options = { id = 1, machine = lab.machine(), election_timeout = 0.1, heartbeat = 0.02, timeout = 30,
    log = false }
  for name, value in pairs(changes or {}) do options[name] = value end
  options.dir = options.dir or lab.dir()
  return options
end

function lab.node(changes)
  return assert(raft.node(lab.options(changes)))
end

---Waits until the node leads and all is well; its status then.
function lab.leading(node)
  return node:wait(function(s)
    return s.role == "leader" and s.leader == s.id and s.ready and s.disk.state == "ok" and s
  end)
end

---n addresses, as the cluster option wants them. One that is free may be given out again while nobody listens on it.
function lab.addresses(n)
  local list, known = {}, {}
  while #list < n do
    local address = core.free_address()
    if not known[address] then list[#list + 1] = address end
    known[address] = true
  end
  return list
end

---Runs a program in an interpreter of its own; DIR is a directory for it. Its output, status and signal; `started` may
---do something with it first.
function lab.child(program, started)
  local text = ([[
    local raft, core = require "raft", require "raft.core"
    local DIR = %q
    local function options(changes)
      local o = { id = 1, dir = DIR, election_timeout = 0.1, heartbeat = 0.02, timeout = 30, log = false,
        machine = { apply = function(self, cmd) return cmd end } }
      for name, value in pairs(changes or {}) do o[name] = value end
      return o
    end
    io.stdout:setvbuf "no"
  ]]):format(lab.dir())
  local child = process.lua { "-e", text .. program }
  if started then started(child) end
  local code, signal = child:wait()
  return child.output, code, signal
end

return lab
