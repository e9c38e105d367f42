-- The command `raft` on directories that real nodes have left.
local core = require "raft.core"
local lab = require "spec.lua.lab"
local process = require "spec.system.process"

---Runs the command: what it printed, its status.
local function command(...) return process.run { "lua5.4", "lua/bin/raft", ... } end

teardown(lab.clean)

local function has(text, expected)
  assert.truthy(text:find(expected, 1, true), ("%q is not in:\n%s"):format(expected, text))
end

local function lacks(text, unexpected)
  assert.falsy(text:find(unexpected, 1, true), ("%q is in:\n%s"):format(unexpected, text))
end

local BANK = [[
local bank = {}
function bank:init() self.accounts = {} end
function bank:apply(cmd)
  if cmd.amount < 0 then error("no debts") end
  self.accounts[cmd.name] = (self.accounts[cmd.name] or 0) + cmd.amount
  return self.accounts[cmd.name]
end
return bank
]]

---The same, saved by records.
local RECORDS = BANK:gsub("return bank\n$", [[
function bank:save(write)
  for name, amount in pairs(self.accounts) do write(name, amount) end
end
function bank:load(read, count)
  self.loaded = count
  for name, amount in read do self.accounts[name] = amount end
end
return bank
]])

---A file with the machine.
local function bank_file(text)
  local path = lab.dir() .. "/bank.lua"
  local file <close> = assert(io.open(path, "w"))
  file:write(text or BANK)
  return path
end

---A directory with a log: deposits for ada (1 to 5), one that raises, one that a client sent twice; with a snapshot
---somewhere on the way if asked for.
local function written(snapshot, text)
  local dir = lab.dir()
  lab.run(function()
    local node <close> = lab.node { dir = dir, machine = assert(load(text or BANK))() }
    node:wait "ready"
    for i = 1, 5 do assert(node:propose { name = "ada", amount = i }) end
    node:propose { name = "ada", amount = -1 }
    if snapshot then assert(node:snapshot()) end
    local session = assert(node:session())
    for _ = 1, 2 do assert.equal(7, session:propose(1, { name = "bob", amount = 7 })) end
    assert(node:barrier())
  end)()
  return dir
end

---Flips bits at the first place in the log where the text stands.
local function damage(dir, text)
  local path = dir .. "/00000001.seg"
  local file <close> = assert(io.open(path, "r+"))
  local at = assert(file:read("a"):find(text, 1, true))
  file:seek("set", at - 1)
  file:write("\xff")
end

describe("raft inspect", function()
  after_each(lab.clean)

  it("tells what a node would find, on one screen", function()
    local text, code = command("inspect", written(true))
    assert.equal(0, code, text)
    has(text, 'node 1 of cluster "raft"')
    has(text, "term           1, voted for 1\n")
    has(text, "snapshot       up to index 7 (term 1)")
    has(text, "log            entries 1 to 11 (term 1): 1 barrier, 3 client, 6 command, 1 config\n")
    has(text, "members        1=127.0.0.1:")
    assert.matches("00000001.seg  %d+ batches, 11 entries, %d+ of %d+ bytes, sealed\n", text)
    has(text, "spare")
    assert.truthy(select(2, text:gsub("\n", "")) <= 24, text)
  end)

  it("lists the entries", function()
    local text = command("inspect", written(), "--entries")
    assert.matches('\n +2  term 1  %d+%-%d+%-%d+ %d+:%d+:%d+%.%d+ UTC  command  { amount = 1, name = "ada" }\n', text)
    has(text, "opens session 8\n")
    has(text, 'session 8, command 1: { amount = 7, name = "bob" }\n')
  end)

  it("names the first damage, and shows what comes before", function()
    local dir = written()
    damage(dir, "amount\x03")
    local text, code = command("inspect", dir)
    assert.equal(1, code)
    has(text, "entries 1 to 3 (term 1)")
    has(text, "A node would not start here (corrupt)")
    has(text, dir .. "/00000001.seg: damaged at offset ")
  end)

  it("says so of a directory that is none, or that a node has open", function()
    local dir = lab.dir()
    local text, code = command("inspect", dir)
    assert.equal(1, code)
    has(text, "is not a directory of a node")
    text, code = command("inspect", dir .. "/nothing")
    assert.equal(1, code)
    has(text, "no such file or directory")
    lab.run(function()
      local node <close> = lab.node { dir = dir }
      node:wait "ready"
      local inspection, _, why = core.inspect(dir)
      assert.same({ nil, "locked" }, { inspection, why })
      text, code = command("inspect", dir)
      assert.equal(1, code)
      has(text, "--force")
      text, code = command("inspect", dir, "--force")
      assert.equal(0, code, text)
    end)()
  end)
end)

describe("raft replay", function()
  after_each(lab.clean)

  it("shows how a state came about: each command once, and what it returned", function()
    local text, code = command("replay", written(), bank_file())
    assert.equal(0, code, text)
    assert.matches(' 2  command  { amount = 1, name = "ada" } %-> 1\n', text)
    assert.matches(' 6  command  { amount = 5, name = "ada" } %-> 15\n', text)
    assert.matches(" 7  command  [^\n]* %-> raised [^\n]*no debts\n", text)
    assert.matches(" 9  client   [^\n]*bob[^\n]* %-> 7\n", text)
    assert.matches(" 10  client   [^\n]*bob[^\n]*not applied, its client tried again\n", text)
    has(text, "\n  accounts = { ada = 15, bob = 7 }\n")
  end)

  it("begins with the snapshot, which tells what was applied before", function()
    local text, code = command("replay", written(true), bank_file())
    assert.equal(0, code, text)
    has(text, "the snapshot of index 7\n")
    lacks(text, "amount = 5")
    has(text, "\n  accounts = { ada = 15, bob = 7 }\n")
  end)

  it("loads what a machine has saved by records", function()
    local text, code = command("replay", written(true, RECORDS), bank_file(RECORDS))
    assert.equal(0, code, text)
    has(text, "\n  accounts = { ada = 15, bob = 7 }\n")
    has(text, "\n  loaded = 1\n")
  end)

  it("stops where told, before the snapshot too if the log goes so far back", function()
    for _, snapshot in ipairs { true, false } do
      local text, code = command("replay", written(snapshot), bank_file(), "--until", "3")
      assert.equal(0, code, text)
      has(text, "after index 3,")
      has(text, "\n  accounts = { ada = 3 }\n")
    end
  end)

  it("goes as far as a damaged log can be read, and says why no farther", function()
    local dir = written()
    damage(dir, "amount\x03")
    local text, code = command("replay", dir, bank_file())
    assert.equal(1, code)
    has(text, "\n  accounts = { ada = 3 }\n")
    has(text, "damaged at offset")
  end)

  it("says what is wrong with a machine", function()
    local text, code = command("replay", written(), "no.such.module")
    assert.equal(1, code)
    has(text, "module 'no.such.module' not found")
    text, code = command("replay", written(), lab.dir() .. "/none.lua")
    assert.equal(1, code)
    has(text, "No such file")
    text, code = command("replay", written(), "raft.core")
    assert.equal(1, code)
    has(text, "machine.apply must be a function")
  end)
end)

describe("raft recover", function()
  after_each(lab.clean)

  ---The directory of one node of three, with what all three agreed on.
  local function left_over()
    local addresses, dirs = lab.addresses(3), {}
    lab.run(function()
      local nodes = {}
      for id = 1, 3 do
        dirs[id] = lab.dir()
        nodes[id] = lab.node { id = id, dir = dirs[id], cluster = addresses, election_timeout = 0.5, heartbeat = 0.05 }
      end
      assert(nodes[1]:propose({ key = "a", value = 1 }))
      for id = 1, 3 do nodes[id]:close() end
    end)()
    return dirs[1], addresses
  end

  it("changes nothing before it is told --yes, and says what is given up", function()
    local dir = left_over()
    local before = command("inspect", dir)
    local text, code = command("recover", dir)
    assert.equal(2, code)
    has(text, "LOST, even though it was committed")
    has(text, "must NEVER run again")
    has(text, "Nothing was changed")
    assert.equal(before, (command("inspect", dir)))
  end)

  it("makes a node go on alone, with all that it had", function()
    local dir, addresses = left_over()
    local text, code = command("recover", dir, "--yes")
    assert.equal(0, code, text)
    has(text, ("members no more: 2=%s 3=%s"):format(addresses[2], addresses[3]))
    has((command("inspect", dir)), ("members        1=%s\n"):format(addresses[1]))
    lab.run(function()
      local node <close> = lab.node { dir = dir }
      assert.equal(1, node:read(function(m) return m.data.a end))
      assert.equal("b", assert(node:propose "b"))
    end)()
  end)

  it("may give it another address", function()
    local dir = left_over()
    local text, code = command("recover", dir, "--yes", "--address", "127.0.0.1:9")
    assert.equal(0, code, text)
    has((command("inspect", dir)), "members        1=127.0.0.1:9\n")
  end)
end)

describe("the command raft", function()
  it("says how it is used", function()
    for _, words in ipairs { {}, { "inspekt", "x" }, { "inspect" }, { "inspect", "a", "b" }, { "replay", "x" } } do
      local text, code = command(table.unpack(words))
      assert.equal(2, code)
      has(text, "usage: raft inspect DIR")
    end
    local text, code = command("inspect", "x", "--until", "3")
    assert.equal(2, code)
    has(text, "unknown option --until")
    for _, value in ipairs { "three", "" } do
      text, code = command("replay", "x", "y", "--until", value)
      assert.equal(2, code)
      has(text, "--until needs a value")
    end
    assert.equal(2, select(2, command("recover", "x", "--address")))
  end)
end)
