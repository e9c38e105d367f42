-- The state machines that the benchmarks run.
local raft = require "raft"

local machines = {}

---Costs next to nothing.
machines.sink = {}

function machines.sink:init() self.n = 0 end

function machines.sink:apply()
  self.n = self.n + 1
  return self.n
end

---Keys and values, many of them set by one command { first, n, bytes }. Any other command changes nothing.
machines.map = {}

function machines.map:init() self.values = {} end

function machines.map:apply(cmd)
  if type(cmd) ~= "table" then return 0 end
  local values, filler = self.values, ("v"):rep(cmd.bytes - 8)
  for i = cmd.first, cmd.first + cmd.n - 1 do values[("key %08d"):format(i)] = ("%08d"):format(i) .. filler end
  return cmd.n
end

---By records, so that the child that writes a snapshot holds one of them at a time.
function machines.map:save(write)
  for key, value in pairs(self.values) do write(key, value) end
end

function machines.map:load(read, count)
  local values = raft.table(count)
  for key, value in read do values[key] = value end
  self.values = values
end

return machines
