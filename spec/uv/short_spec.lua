-- The kernel may interrupt any system call, and read and write less than it was asked for: nobody above notices.
local process = require "spec.system.process"

local SEEDS = 2

-- A node alone that stores much, ends, and finds it again.
local PROGRAM = [[
local raft = require "raft"
local machine = {
  init = function(self) self.bytes = 0 end,
  apply = function(self, cmd) self.bytes = self.bytes + #cmd end,
}
for life = 1, 3 do
  raft.run(function()
    local node <close> = assert(raft.node { id = 1, dir = arg[1], machine = machine, log = false })
    local before = node:read(function(m) return m.bytes end)
    assert(before == (life - 1) * 3000000, before)
    for _ = 1, 100 do
      local _, message, code = node:propose(("x"):rep(30000))
      assert(not code, message)
    end
  end)
end
]]

describe("system calls that are interrupted, and read and write less than they were asked for,", function()
  local directory, library
  setup(function()
    directory = process.directory()
    library = directory .. "/short.so"
    local text, code = process.run { "gcc", "-shared", "-fPIC", "-O2", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror",
      "spec/uv/short.c", "-o", library, "-ldl" }
    assert(code == 0, text)
  end)
  teardown(function()
    process.clean()
    process.remove(directory)
  end)

  ---Runs a program under each seed; how many calls were interrupted and cut short.
  local function each_seed(words)
    local interrupted, cut, counts = 0, 0, directory .. "/counts"
    for seed = 1, SEEDS do
      local p = process.lua { preload = library, env = { RAFT_SHORT = tostring(seed), RAFT_SHORT_LOG = counts },
        table.unpack(words(seed)) }
      assert.equal(0, p:wait(), p.output)
      local file <close> = assert(io.open(counts))
      local i, c = file:read("n", "n")
      interrupted, cut = interrupted + i, cut + c
    end
    print(("%d calls interrupted, %d cut short"):format(interrupted, cut))
    return interrupted, cut
  end

  it("let the real world keep its contract", function()
    local pipe <close> = assert(io.popen("command -v busted"))
    local busted = pipe:read("l")
    local interrupted, cut = each_seed(function()
      return { busted, "--ignore-lua", "--output=spec/output.lua", "spec/uv/io_spec.lua" }
    end)
    assert.is_true(interrupted > 30 and cut > 30)
  end)

  it("let a log keep what it acknowledged", function()
    local interrupted, cut = each_seed(function(seed)
      return { "-e", PROGRAM:gsub("arg%[1%]", ("%q"):format(directory .. "/node" .. seed)) .. "" }
    end)
    assert.is_true(interrupted > 200 and cut > 200)
  end)
end)
