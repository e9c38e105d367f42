local lab = require "spec.lua.lab"
local raft = require "raft"

describe("raft.node with bad options", function()
  after_each(lab.clean)

  local function raises(pattern, changes)
    local options = { id = 1, dir = "/nonexistent/raft", machine = lab.machine() }
    for name, value in pairs(changes) do
      options[name] = value
      if value == "absent" then options[name] = nil end
    end
    local ok, message = pcall(raft.node, options)
    assert.is_false(ok)
    assert.truthy(tostring(message):find("raft.node: ", 1, true), message)
    assert.truthy(tostring(message):find(pattern, 1, true), ("%q in %q"):format(pattern, message))
  end

  it("names an unknown option", function()
    raises("unknown option colour", { colour = "red" })
  end)

  it("suggests the option that was perhaps meant", function()
    raises("unknown option hearbeat (did you mean heartbeat?)", { hearbeat = 0.1 })
    raises("unknown option machien (did you mean machine?)", { machien = {} })
  end)

  it("refuses options of later versions as unknown", function()
    for _, name in ipairs { "tls", "advertise" } do
      raises("unknown option " .. name, { [name] = true })
    end
  end)

  it("refuses what does not go together with join", function()
    local join, listen = { "127.0.0.1:7001" }, "127.0.0.1:7004"
    local function fails(text, changes)
      local given = lab.options(changes)
      given.id = changes.id
      local ok, message = pcall(raft.node, given)
      assert.is_false(ok)
      assert.truthy(message:find(text, 1, true), message)
    end
    fails("id cannot be given with join", { join = join, id = 4, listen = listen })
    fails("cluster cannot be given with join", { join = join, cluster = { join[1] }, listen = listen })
    fails("listen is missing", { join = join })
    fails("join must have 1 to 15 addresses, got 0", { join = {}, listen = listen })
    fails('join[1] must be "host:port"', { join = { "there" }, listen = listen })
    fails("voter is for a node that joins", { voter = false })
  end)

  it("names each option of a wrong type", function()
    for name, wrong in pairs {
      id = "1", dir = 5, machine = 5, cluster = "127.0.0.1:7001", listen = 7001, name = {}, timeout = "5",
      election_timeout = true, heartbeat = {}, pending = 1.5, pending_bytes = "1", command_bytes = 0,
      join = "127.0.0.1:7001", voter = 1, lease = 1, priority = 1.5, cache_bytes = -1, on_apply_error = "stop", log = 3,
    } do
      raises(name .. " must be ", { [name] = wrong })
    end
  end)

  it("wants dir and machine", function()
    raises("dir is missing", { dir = "absent" })
    raises("machine is missing", { machine = "absent" })
  end)

  it("wants a table at all", function()
    assert.has_error(function() raft.node() end)
    assert.has_error(function() raft.node(5) end)
  end)

  it("takes milliseconds for a mistake", function()
    raises("election_timeout is in seconds: 1000 is more than 60", { election_timeout = 1000 })
    raises("heartbeat is in seconds", { heartbeat = 100, election_timeout = 30 })
  end)

  it("wants heartbeats more often than twice in an election timeout", function()
    raises("heartbeat (0.6) must be less than half of election_timeout (1)", { heartbeat = 0.6 })
  end)

  it("refuses numbers that are no times", function()
    for _, time in ipairs { 0, -1, 0 / 0, math.huge } do raises("timeout must be", { timeout = time }) end
  end)

  it("refuses an id that is not in the cluster list, and prints the list", function()
    raises("id 4 is not in cluster (1, 2)", { id = 4, cluster = { "127.0.0.1:7001", "127.0.0.1:7002" } })
  end)

  it("refuses ids that are none", function()
    for _, id in ipairs { 0, -1, 1.5, math.mininteger } do raises("id must be an integer above 0", { id = id }) end
    raises("cluster: ids are integers above 0, got \"a\"", { cluster = { a = "127.0.0.1:7001" } })
  end)

  it("refuses addresses that are none", function()
    for _, address in ipairs { "host", "7001", ":7001", "host:", "host:0", "host:65536", "a b:7001", "::1:7001" } do
      raises('cluster[1] must be "host:port"', { cluster = { address } })
      raises('listen must be "host:port"', { listen = address })
    end
  end)

  it("refuses an empty list, one that is too long, and one that names an address twice", function()
    raises("cluster is empty", { cluster = {} })
    local long = {}
    for id = 1, 16 do long[id] = "127.0.0.1:" .. 7000 + id end
    raises("cluster has 16 members, at most 15", { cluster = long })
    raises("cluster[1] and cluster[3] have the same address, h:1", { cluster = { "h:1", "h:2", "h:1" } })
  end)

  it("wants a machine with apply", function()
    raises("machine.apply must be a function, got nil", { machine = {} })
    raises("machine must be", { machine = function() return 5 end })
    assert.has_error(function() raft.node { id = 1, dir = "/nonexistent", machine = "no.such.module" } end)
  end)

  it("blames the line that called it", function()
    local _, message = pcall(function() raft.node { colour = "red" } end)
    assert.truthy(message:find("options_spec.lua", 1, true), message)
  end)

  it("says in its results, not by raising, what the world refuses", function()
    local node, message, code = raft.node(lab.options { dir = "/proc/raft" })
    assert.is_nil(node)
    assert.equal("io", code)
    assert.truthy(message:find("/proc/raft", 1, true), message)
  end)

  it("wants an id while the directory is empty", function()
    local options = lab.options()
    options.id = nil
    local node, message, code = raft.node(options)
    assert.is_nil(node)
    assert.equal("invalid", code)
    assert.truthy(message:find("id", 1, true), message)
  end)

  it("needs no id once the directory knows it", function()
    local options = lab.options { id = 7 }
    assert(raft.node(options)):close()
    options.id = nil
    local node <close> = assert(raft.node(options))
    assert.equal(7, node.id)
  end)

  it("refuses the directory of another node", function()
    local options = lab.options { id = 7 }
    assert(raft.node(options)):close()
    options.id = 8
    local node, message, code = raft.node(options)
    assert.is_nil(node)
    assert.equal("foreign", code)
    assert.truthy(message:find("7", 1, true) and message:find("8", 1, true), message)
  end)

  it("refuses a directory that is open already", function()
    local options = lab.options()
    local _ <close> = assert(raft.node(options))
    local other, message, code = raft.node(options)
    assert.is_nil(other)
    assert.equal("locked", code)
    assert.truthy(message:find(options.dir, 1, true), message)
  end)

  it("refuses an address that is in use", function()
    local address = lab.addresses(1)[1]
    local _ <close> = lab.node { cluster = { address } }
    local other, message, code = raft.node(lab.options { cluster = { address } })
    assert.is_nil(other)
    assert.equal("address", code)
    assert.truthy(message:find(address, 1, true), message)
  end)
end)

describe("a call with bad arguments", function()
  after_each(lab.clean)

  it("raises, naming what is wrong", lab.run(function()
    local node <close> = lab.node()
    local function raises(pattern, method, ...)
      local ok, message = pcall(node[method], node, ...)
      assert.is_false(ok)
      assert.truthy(message:find(pattern, 1, true), message)
    end
    raises("node:propose: unknown option timout", "propose", 1, { timout = 1 })
    raises("node:propose: timeout must be seconds above 0, got \"1\"", "propose", 1, { timeout = "1" })
    raises("node:propose: options must be a table, got 5", "propose", 1, 5)
    raises("node:propose: callback must be a function, got 5", "propose", 1, nil, 5)
    raises("node:read: a function (machine, index, time) expected, got table", "read", {})
    raises("node:read: stale must be true or seconds above 0, got \"1\"", "read", print, { stale = "1" })
    raises("node:barrier: options must be a table", "barrier", "now")
    raises("node:wait: \"leader\", \"ready\", \"member\" or a function (status) expected, got ready?", "wait", "ready?")
    raises("node:wait: timeout must be seconds above 0", "wait", "ready", 0)
    raises("node:on: unknown event laeder (did you mean leader?)", "on", "laeder", print)
    raises("node:on: a function expected, got nil", "on", "leader")
    raises("cmd.items[3]", "propose", { items = { 1, 2, print } })
    raises("node:add: \"host:port\" expected, got here", "add", "here")
    raises("node:add: an id, an integer above 0, expected, got 0", "add", 0, "127.0.0.1:7001")
    raises("node:add: unknown option vote", "add", "127.0.0.1:7001", { vote = false })
    raises("node:promote: an id, an integer above 0, expected, got nil", "promote")
    raises("node:change: unknown operation promot", "change", { promot = { 1 } })
    raises("node:change: 1 to 15 changes expected, got 0", "change", {})
    raises("node:change: add[2] must be \"host:port\"", "change", { add = { [2] = "there" } })
    raises("node:transfer: an id, an integer above 0, expected, got 1.5", "transfer", 1.5)
    raises("cmd", "propose", coroutine.create(print))
    raises("cmd", "propose", { [{}] = 1 })
  end))
end)

describe("the helpers", function()
  it("tell by a code whether a command was applied", function()
    assert.equal("no", raft.outcome "no_leader")
    assert.equal("no", raft.outcome "closed")
    assert.equal("maybe", raft.outcome "timeout")
    assert.equal("maybe", raft.outcome "unknown")
    assert.equal("yes", raft.outcome "apply")
    assert.equal("yes", raft.outcome(nil))
    assert.has_error(function() raft.outcome "sure" end)
  end)

  it("walk a table in one order everywhere", function()
    local keys = {}
    for key, value in raft.spairs { b = 1, a = 2, [2] = 3, [1.5] = 4, [true] = 5, [false] = 6 } do
      keys[#keys + 1] = tostring(key) .. "=" .. value
    end
    assert.equal("false=6 true=5 1.5=4 2=3 a=2 b=1", table.concat(keys, " "))
    assert.has_error(function() raft.spairs { [{}] = 1 } end)
  end)

  it("make a table that has room, and does not grow when it is filled", function()
    local KEYS <const> = 1000
    local function grown(t)
      collectgarbage "stop"
      local before = collectgarbage "count"
      for key = -KEYS, -1 do t[key] = true end
      local after = collectgarbage "count"
      collectgarbage "restart"
      return after - before
    end
    assert.is_true(grown {} > 0)
    assert.equal(0, grown(raft.table(KEYS)))
    assert.is_nil(next(raft.table(0)))
    for _, wrong in ipairs { -1, 1.5, "many", 1 << 31 } do
      assert.has_error(function() raft.table(wrong) end, "raft.table: a number of keys expected, got " .. wrong)
    end
  end)

  it("pack and unpack values", function()
    assert.same({ 1, 2.5, { a = "b" } }, raft.unpack(raft.pack { 1, 2.5, { a = "b" } }))
    local value, _, code = raft.unpack("\xc1")
    assert.is_nil(value)
    assert.equal("corrupt", code)
  end)

  it("have a version", function()
    assert.truthy(raft._VERSION:find("^raft %d+%.%d+%.%d+$"))
  end)
end)
