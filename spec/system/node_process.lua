-- One node in a process of its own, driven through its standard input: each line is a number and a Lua chunk. It runs
-- in a coroutine that knows `node`, `raft`, `core`, `items()` and `spin(seconds)`; its results come back as
-- "= number results".
-- Arguments: the node's options as the text of a Lua table. `machine` is the list below unless they say otherwise.
local core = require "raft.core"
local raft = require "raft"
local uv = require "luv"

---What the specs' clusters replicate: a list that commands are added to.
local list = {}
function list:init() self.items = {} end
function list:apply(cmd)
  self.items[#self.items + 1] = cmd
  return #self.items
end

raft.attach(uv)

local function literal(value)
  if type(value) ~= "table" then return ("%q"):format(value) end
  local parts = {}
  for k, v in pairs(value) do parts[#parts + 1] = ("[%s]=%s"):format(literal(k), literal(v)) end
  return "{" .. table.concat(parts, ",") .. "}"
end

local function answer(number, ...)
  local texts = {}
  for i = 1, select("#", ...) do texts[i] = literal((select(i, ...))):gsub("\n", "n") end
  print(("= %d %s"):format(number, table.concat(texts, ", ")))
  io.stdout:flush()
end

local env = setmetatable({ raft = raft, core = core }, { __index = _G })

---The whole list, linearizable.
function env.items() return env.node:read(function(machine) return machine.items end) end

---Keeps the interpreter busy, as a script that computes would.
function env.spin(seconds)
  local over = uv.hrtime() + seconds * 1e9
  repeat until uv.hrtime() > over
end

local input = uv.new_pipe()

---Runs what comes in line by line, until the input ends.
local function serve_input()
  local rest = ""
  input:open(0)
  input:read_start(function(_, text)
    if not text then return raft.stop() end
    rest = rest .. text
    rest = rest:gsub("(%d+) ([^\n]*)\n", function(number, chunk)
      raft.go(function() answer(number, assert(load(chunk, "=" .. chunk, "t", env))()) end)
      return ""
    end)
  end)
end

local status = raft.run(function()
  local options = assert(load("return " .. arg[1], "options", "t", {}))()
  options.machine = options.machine or list
  options.log = options.log or "warn"
  local node <close>, message, code = raft.node(options)
  if not node then
    print("! " .. code .. ": " .. message)
    return 3
  end
  env.node = node
  print("ready")
  io.stdout:flush()
  serve_input()
  while true do raft.sleep(3600) end
end)
os.exit(math.type(status) == "integer" and status or 0)
