-- A disk whose writes can be made to stall, to fail and to be slow, for one node's process (stall.c is preloaded).
local process = require "spec.system.process"

local disk = {}
local Disk = {}
Disk.__index = Disk

local library

local function build()
  if not library then
    library = process.directory() .. "/stall.so"
    local text, code = process.run { "gcc", "-shared", "-fPIC", "-O2", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror",
      "spec/system/stall.c", "-o", library, "-ldl" }
    assert(code == 0, text)
  end
  return library
end

---The disk of one node, with its files under path.
function disk.new(path) return setmetatable({ path = path }, Disk) end

---For Node:start: what its process needs.
function Disk:command()
  return { preload = build(), env = { RAFT_STALL = self.path .. ".order", RAFT_STALL_LOG = self.path .. ".log" } }
end

---"stall", "fail", or milliseconds for each write; nil: as it should be.
function Disk:order(what)
  if what then
    local file = assert(io.open(self.path .. ".order.new", "w"))
    file:write(what)
    file:close()
    assert(os.rename(self.path .. ".order.new", self.path .. ".order"))
  else
    os.remove(self.path .. ".order")
  end
end

---How many durable writes have returned so far.
function Disk:writes()
  local n, file = 0, io.open(self.path .. ".log")
  if file then
    for _ in file:lines() do n = n + 1 end
    file:close()
  end
  return n
end

function disk.clean()
  if library then process.remove((library:gsub("/stall%.so$", ""))) end
  library = nil
end

return disk
