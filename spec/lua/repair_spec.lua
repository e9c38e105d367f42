-- repair = "rejoin": nodes on real disks, whose directories are lost.
local core = require "raft.core"
local lab = require "spec.lua.lab"
local process = require "spec.system.process"
local progress = require "raft.progress"
local raft = require "raft"

---Three nodes; :restart(id, options) starts one anew; :lines(id) is what it logged.
local function cluster()
  local nodes = { addresses = lab.addresses(3), dirs = {}, logs = {} }
  function nodes:restart(id, options)
    self.logs[id] = {}
    local given = { id = id, dir = self.dirs[id], cluster = self.addresses, election_timeout = 0.3, heartbeat = 0.05,
      log = function(level, text) table.insert(self.logs[id], level .. ": " .. text) end }
    for name, value in pairs(options or {}) do given[name] = value end
    local node, message, code = raft.node(lab.options(given))
    self[id] = node
    return node, message, code
  end
  function nodes:lines(id) return table.concat(self.logs[id], "\n") end
  for id = 1, 3 do
    nodes.dirs[id] = lab.dir()
    assert(nodes:restart(id))
  end
  local function close()
    for id = 1, 3 do if nodes[id] then nodes[id]:close() end end
  end
  return setmetatable(nodes, { __close = close })
end

local function admitted(node, id)
  return node:wait(function(s)
    for _, member in ipairs(s.members) do
      if member.id == id then return member.role ~= "learner" and s.ready and not s.rejoining end
    end
  end, 30)
end

local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

local function segment_with(dir, text)
  for name in io.popen("ls " .. dir):lines() do
    local path = dir .. "/" .. name
    if name:find "%.seg$" and read(path):find(text, 1, true) then return path end
  end
end

describe("repair = rejoin", function()
  after_each(lab.clean)

  it("sets a damaged directory aside, and the node votes again when it has been refilled", lab.run(function()
    local nodes <close> = cluster()
    for i = 1, 20 do nodes[1]:propose { key = "k" .. i, value = i } end
    nodes[3]:barrier()
    nodes[3]:close()
    local path = segment_with(nodes.dirs[3], "k7")
    local bytes = read(path)
    local file = assert(io.open(path, "r+b"))
    file:seek("set", bytes:find("k7", 1, true) - 1)
    file:write("?")
    file:close()
    local node, message, code = nodes:restart(3)
    assert.is_nil(node)
    assert.equal("corrupt", code)
    assert.matches("%.seg: damaged at offset %d+", message)
    nodes[2]:propose { key = "more", value = 1 }
    assert(nodes:restart(3, { repair = "rejoin" }))
    assert.matches("warn: .*damaged at offset.*set aside in set%-aside%-%d+", nodes:lines(3))
    for id = 1, 3 do assert.is_truthy(admitted(nodes[id], 3)) end
    assert.equal(21, nodes[3]:read(function(m) return m.count end))
    assert.matches("warn: the others do not count on this directory.*info: the others have admitted", nodes:lines(3))
    nodes[1]:close()
    assert.equal(2, nodes[2]:propose { key = "last", value = 2 })  -- by the vote of 3
  end))

  it("refills one that was emptied; without it the node is told what can be done", lab.run(function()
    local nodes <close> = cluster()
    for i = 1, 20 do nodes[1]:propose { key = "k" .. i, value = i } end
    nodes[2]:close()
    process.remove(nodes.dirs[2])
    assert(nodes:restart(2))
    local down = nodes[2]:wait(function(s)
      for _, member in ipairs(s.members) do
        if member.down and member.down:find "another directory" then return member.down end
      end
    end, 10)
    assert.matches('restart it with repair = "rejoin"', down)
    nodes[2]:close()
    assert(nodes:restart(2, { repair = "rejoin" }))
    for id = 1, 3 do assert.is_truthy(admitted(nodes[id], 2)) end
    assert.equal(20, nodes[2]:read(function(m) return m.count end))
  end))

  ---Node 1 has had a life that its directory knows nothing of any more, and is down.
  local function rolled_back()
    local nodes = cluster()
    nodes[1]:propose { key = "a", value = 1 }
    nodes[1]:close()
    local dir, copy = nodes.dirs[1], lab.dir()
    os.execute(("cp -r %s/. %s"):format(dir, copy))
    assert(nodes:restart(1))
    for i = 1, 20 do nodes[1]:propose { key = "k" .. i, value = i } end
    nodes[1]:close()
    process.remove(dir)
    os.execute(("cp -r %s %s"):format(copy, dir))
    return nodes
  end

  it("admits one anew whose directory was replaced by an older copy", lab.run(function()
    local nodes <close> = rolled_back()
    assert(nodes:restart(1, { repair = "rejoin" }))
    assert.is_truthy(nodes[1]:wait(function(s) return s.rejoining end, 30))
    for id = 1, 3 do assert.is_truthy(admitted(nodes[id], 1)) end
    assert.equal(21, nodes[1]:read(function(m) return m.count end))
  end))

  it("is asked for by the others, by name, when a directory is an older copy", lab.run(function()
    local nodes <close> = rolled_back()
    assert(nodes:restart(1))
    assert.is_truthy(nodes[1]:wait(function(s) return s.rejoining end, 30))
    local told = "warn: peer 1 is down: it has come back with an older copy of its directory"
    while not (nodes:lines(2) .. nodes:lines(3)):find(told, 1, true) do raft.sleep(0.01) end
    nodes[1]:close()
    assert(nodes:restart(1, { repair = "rejoin" }))
    for id = 1, 3 do assert.is_truthy(admitted(nodes[id], 1)) end
  end))

  it("may be set from the first start on, and is nothing to a node alone whose log is damaged", lab.run(function()
    local options = lab.options { repair = "rejoin" }
    local node = assert(raft.node(options))
    node:propose { key = "alone", value = 1 }
    assert(node:wait(function(s) return s.ready and not s.rejoining end))
    node:close()
    local path = segment_with(options.dir, "alone")
    local file = assert(io.open(path, "r+b"))
    file:seek("set", read(path):find("alone", 1, true) - 1)
    file:write("?")
    file:close()
    local _, message, code = raft.node(options)
    assert.equal("corrupt", code)
    assert.matches("cannot be refilled by others", message)
  end))
end)

describe("a start", function()
  after_each(lab.clean)

  it("says how far it is from its second second on, about once a second", function()
    local lines, now = {}, 100
    local tell = progress.new(function(level, text, fields) lines[#lines + 1] = { level, text, fields } end,
      function() return now end)
    tell(4 << 20, 1024 << 20)
    now = 100.99
    tell(8 << 20, 1024 << 20)
    assert.same({}, lines)
    for i, at in ipairs { 101, 101.5, 102, 102.1, 103.5 } do
      now = at
      tell((412 + i) << 20, 1024 << 20)
    end
    assert.same({ { "info", "recovering: 413 of 1024 MiB", { done = 413 << 20, total = 1024 << 20 } },
      { "info", "recovering: 415 of 1024 MiB", { done = 415 << 20, total = 1024 << 20 } },
      { "info", "recovering: 417 of 1024 MiB", { done = 417 << 20, total = 1024 << 20 } } }, lines)
  end)

  it("is told by the engine how much of its directory is read", lab.run(function()
    local clock, ticks = core.now, 0
    local options = lab.options {}
    local node = assert(raft.node(options))
    for _ = 1, 12 do node:propose(("x"):rep(1 << 19)) end
    node:close()
    local lines = {}
    options.log = function(level, text, fields)
      if text:find "^recovering" then lines[#lines + 1] = { level, text, fields } end
    end
    core.now = function()  -- to which every look at it is a second later
      ticks = ticks + 1
      return ticks
    end
    node = assert(raft.node(options))
    core.now = clock
    node:close()
    raft.sleep(0)
    assert.is_true(#lines > 0)
    local level, text, fields = table.unpack(lines[#lines])
    assert.equal("info", level)
    assert.matches("^recovering: %d+ of %d+ MiB$", text)
    assert.is_true(fields.done >= 4 << 20 and fields.done <= fields.total)
  end))
end)
