-- Lack of memory in the Lua half: each allocation that a program with a node makes fails once, in Lua's memory or in
-- that of the C module. Nothing crashes or hangs, no call gets the answer of another, nothing acknowledged is lost.
local core = require "raft.core"
local process = require "spec.system.process"

local EVERY = (os.getenv("RAFT_BUILD") or "plain") ~= "plain" and 7 or 1

-- What every program begins with: a node alone. The machine remembers each command and answers with it.
local PROLOGUE = [[
local raft = require "raft"
local dir, at = (...):match("^(%S+) (%d+)$")
local machine = {
  init = function(self) self.seen = {} end,
  apply = function(self, cmd) self.seen[cmd] = (self.seen[cmd] or 0) + 1 return cmd, "again" end,
}
local options = { id = 1, dir = dir, machine = machine, log = false, timeout = 5 }
local core = require "raft.core"
local function run(main)
  return function()
    core.mem_fail_at(tonumber(at))
    local ok, result = pcall(raft.run, main)
    local asked = core.mem_asked()
    core.mem_fail_at(0)
    if not ok then error(result, 0) end
    return asked .. " " .. tostring(result)
  end
end
]]

local PROGRAMS = {
  ["that gives up at the first error"] = [[
    return run(function()
      local node <close> = assert(raft.node(options))
      local off = node:on("applied", function() end)
      for i = 1, 3 do
        local result, again, code = node:propose(i)
        if result == i and again == "again" and not code then note(i) end
      end
      node:propose(4, { timeout = 1 }, function(result) if result == 4 then note(4) end end)
      off()
      assert(node:barrier())
      assert(node:wait("ready", 5))
      assert(#node:status().members == 1)
      return node:read(function(m) return m.seen[3] end)
    end)]],
  ["that goes on after every error"] = [[
    return run(function()
      local node
      repeat
        local ok, made, message, code = pcall(raft.node, options)
        if ok then node = made end
        assert(node or not ok or code == "memory" or code == "busy" or code == "locked", message)
      until node
      for i = 1, 12 do
        local ok, result, again, code = pcall(node.propose, node, i)
        if ok and not code then
          assert(result == i and again == "again", "the answer of another call: " .. tostring(result))
          note(i)
        end
        local read, value = pcall(node.read, node, function(m) return "read " .. i end)
        assert(not read or value == nil or value == "read " .. i, "the answer of another read")
        pcall(node.status, node)
        pcall(raft.sleep, 0)
      end
      node:close()
    end)]],
}

-- Which commands the directory holds, once each, as bits.
local LOOK = PROLOGUE .. [[
  return run(function()
    local node <close> = assert(raft.node(options))
    local bits = 0
    assert(node:read(function(m)
      for cmd, times in pairs(m.seen) do
        assert(times == 1, "applied twice")
        bits = bits | 1 << cmd
      end
      return true
    end))
    return bits
  end)]]

describe("a program", function()
  local directory
  before_each(function() directory = process.directory() end)
  after_each(function() process.remove(directory) end)

  ---Runs it in a fresh directory, with one allocation of Lua's or of C's failing (0: none).
  local function try(program, in_lua, in_c)
    local dir = ("%s/%d.%d"):format(directory, in_lua, in_c)
    local ok, result, asked, noted = core.starve(in_lua, PROLOGUE .. program, dir .. " " .. in_c)
    for _, blunder in ipairs { "attempt to", "bad argument", "another" } do
      assert.is_nil(result:find(blunder, 1, true), result)
    end
    if noted ~= 0 then
      local fine, bits = core.starve(0, LOOK, dir .. " 0")
      assert.is_true(fine, bits)
      assert.equal(noted, tonumber(bits:match("%d+$")) & noted)
    end
    os.execute("rm -rf " .. dir)
    return asked, ok and tonumber(result:match("^%d+"))
  end

  for what, program in pairs(PROGRAMS) do describe(what, function()
    it("survives a lack of Lua's memory at any allocation", function()
      local asked = try(program, 0, 0)
      assert.is_true(asked > 100)
      for n = 1, asked, EVERY do try(program, n, 0) end
    end)

    it("survives a lack of the module's memory at any allocation", function()
      local _, asked = try(program, 0, 0)
      assert.is_true(asked > 10)
      for n = 1, asked do try(program, 0, n) end
    end)
  end) end
end)
