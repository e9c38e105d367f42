-- Clusters whose members change while they run: all nodes in this process, each with its own threads and address.
local lab = require "spec.lua.lab"
local raft = require "raft"

local TIMES = { election_timeout = 0.3, heartbeat = 0.05, timeout = 30 }

local function options(changes)
  for name, value in pairs(TIMES) do
    if changes[name] == nil then changes[name] = value end
  end
  return lab.options(changes)
end

---n nodes that are all there, and a table of their addresses. Closed with it: all that were put into it.
local function cluster(n, changes)
  local addresses, nodes = lab.addresses(n), {}
  for id = 1, n do
    local given = { id = id, cluster = addresses }
    for name, value in pairs(changes or {}) do given[name] = value end
    nodes[id] = assert(raft.node(options(given)))
  end
  for id = 1, n do assert(nodes[id]:wait "ready") end
  return setmetatable(nodes, { __close = function()
    for _, node in pairs(nodes) do node:close() end
  end }), addresses
end

local function join(addresses, changes)
  local given = { join = addresses, listen = lab.addresses(1)[1] }
  for name, value in pairs(changes or {}) do given[name] = value end
  local o = options(given)
  o.id = nil
  return raft.node(o)
end

local function roles(node)
  local list = {}
  for i, member in ipairs(node:members()) do list[i] = member.id .. " " .. member.role end
  return table.concat(list, ", ")
end

---Waits until a node knows its members as such.
local function shows(node, wanted)
  assert(node:wait(function() return roles(node) == wanted end))
end

describe("a node that joins", function()
  after_each(lab.clean)

  it("gets an id, catches up, and votes", lab.run(function()
    local nodes <close>, addresses = cluster(3)
    for i = 1, 50 do assert.equal(i, (nodes[1]:propose { key = "n", value = i })) end
    local told
    nodes[1]:on("members", function(data) told = data end)
    nodes[4] = assert(join { addresses[2], addresses[3] })
    assert.equal(4, nodes[4].id)
    assert.equal("voter", nodes[4]:wait "member")
    assert.equal(50, nodes[4]:read(function(m) return m.count end))
    assert.equal("x", (nodes[4]:propose { key = "b", value = "x" }))
    shows(nodes[1], "1 voter, 2 voter, 3 voter, 4 voter")
    raft.sleep(0)
    assert.equal(4, #told.members)
    assert.truthy(told.index > 50)
    assert.equal(nodes[4]:status().address, nodes[1]:members()[4].address)
  end))

  it("stays a learner if it shall have no vote", lab.run(function()
    local nodes <close>, addresses = cluster(1)
    nodes[2] = assert(join({ addresses[1] }, { voter = false }))
    assert.equal("learner", nodes[2]:wait "member")
    assert(nodes[2]:wait(function(s) return s.role == "learner" end))
    assert.equal("learner", nodes[2].role)
    assert.equal(1, (nodes[2]:propose { key = "n", value = 1 }))
    assert.equal(1, nodes[2]:read(function(m) return m.data.n end))
    assert.equal("1 voter, 2 learner", roles(nodes[1]))
    assert.equal(0, nodes[1]:status().tolerates)
    assert(nodes[2]:promote(2))
    shows(nodes[2], "1 voter, 2 voter")
  end))

  it("has the same place when it starts again", lab.run(function()
    local nodes <close>, addresses = cluster(3)
    local dir, listen = lab.dir(), lab.addresses(1)[1]
    nodes[4] = assert(join(addresses, { dir = dir, listen = listen }))
    assert(nodes[4]:wait "member")
    nodes[4]:close()
    nodes[4] = assert(join(addresses, { dir = dir, listen = listen }))
    assert.equal(4, nodes[4].id)
    assert.equal("voter", nodes[4]:wait "member")
    assert.equal(1, (nodes[4]:propose { key = "a", value = 1 }))
  end))

  it("asks for its vote though a member that was behind has told it that it is none", lab.run(function()
    local asked, role = 0, "removed"
    local node = setmetatable({ id = 4, timeout = 60, open = {},
      status = function() return { members = { { id = 4, role = "learner" } } } end,
      core = { ask = function() asked = asked + 1 return asked end } }, { __index = function(_, name)
        return name == "role" and role or nil
      end })
    require "raft.members".become_voter(node)
    raft.sleep(0.25)
    assert.equal(0, asked)
    role = "learner"                    -- a leader has spoken to it
    for _ = 1, 1000 do
      if asked == 0 then raft.sleep(0.01) end
    end
    assert.equal(1, asked)
    node.ended = true
  end))

  it("can be closed while nobody answers it", function()
    local ended
    local nobody = lab.addresses(1)
    local reason = raft.run(function()
      raft.after(0.3, raft.stop)
      ended = join(nobody)
    end)
    assert.equal("stop", reason)
    assert.is_nil(ended)
  end)
end)

describe("members", function()
  after_each(lab.clean)

  it("are added by hand: one that runs with its id gets a vote when it has caught up", lab.run(function()
    local nodes <close>, addresses = cluster(3)
    local listen = lab.addresses(1)[1]
    nodes[7] = assert(raft.node(options { id = 7, cluster = addresses, listen = listen }))
    assert.equal(7, nodes[2]:add(7, listen))
    shows(nodes[7], "1 voter, 2 voter, 3 voter, 7 voter")
    assert.equal(1, (nodes[7]:propose { key = "a", value = 1 }))
    assert.equal(8, nodes[1]:add("127.0.0.1:1", { voter = false }))
  end))

  it("that never come stay learners, and the call says so", lab.run(function()
    local nodes <close> = cluster(1)
    local id, message, code = nodes[1]:add("127.0.0.1:1", { timeout = 1 })
    assert.same({ nil, "timeout" }, { id, code })
    assert.truthy(message:find("2 is a member, but has no vote yet", 1, true), message)
    shows(nodes[1], "1 voter, 2 learner")
    assert(nodes[1]:remove(2))
    shows(nodes[1], "1 voter")
  end))

  it("are demoted, promoted and removed", lab.run(function()
    local nodes <close> = cluster(3)
    local leader = nodes[1]:wait "leader"
    local other, third = nodes[leader % 3 + 1], nodes[(leader + 1) % 3 + 1]
    assert(other:demote(other.id))
    assert(other:wait(function(s) return s.role == "learner" end))
    assert.equal(0, nodes[leader]:status().tolerates)
    assert(third:promote(other.id))
    assert(other:wait(function(s) return s.role == "follower" end))
    local role
    other:on("role", function(data) role = data.role end)
    assert(third:remove(other.id))
    assert(other:wait(function(s) return s.role == "removed" end))
    raft.sleep(0)
    assert.equal("removed", role)
    local _, _, code = other:propose { key = "a", value = 1 }
    assert.equal("removed", code)
    assert.equal("no", raft.outcome(code))
    assert.equal(1, (third:propose { key = "a", value = 1 }))
    assert.equal(2, #third:members())
  end))

  it("that were removed say so in each of their lives, and tell whoever calls", lab.run(function()
    local nodes <close>, addresses = cluster(3)
    local leader = nodes[1]:wait "leader"
    local id, dir = leader % 3 + 1, lab.dir()
    nodes[id]:close()
    assert(nodes[leader]:remove(id))
    for _ = 1, 2 do    -- it has heard of nothing at first: not of the cluster either
      local node <close> = assert(raft.node(options { id = id, cluster = addresses, dir = dir }))
      local role
      node:on("role", function(data) role = data.role end)
      assert(node:wait(function(s) return s.role == "removed" end))
      raft.sleep(0)
      assert.equal("removed", role)
      local times = { timeout = 1 }
      for _, call in ipairs { { "propose", 1, times }, { "read", print, times }, { "barrier", times },
        { "transfer", times }, { "remove", 9, times } } do
        local value, message, code = node[call[1]](node, table.unpack(call, 2))
        assert.same({ nil, "string", "removed" }, { value, type(message), code }, call[1])
      end
    end
  end))

  it("change all at once, the leader too", lab.run(function()
    local nodes <close>, addresses = cluster(3)
    local leader = nodes[1]:wait "leader"
    nodes[4] = assert(join(addresses, { voter = false }))
    assert.equal("learner", nodes[4]:wait "member")
    local index = assert(nodes[4]:change { promote = { 4 }, remove = { leader } })
    assert.equal("integer", math.type(index))
    assert(nodes[leader]:wait(function(s) return s.role == "removed" end))
    assert.equal(1, (nodes[4]:propose { key = "a", value = 1 }))
    assert.equal(3, #nodes[4]:members())
  end))

  it("may remove the leader, or itself: who leads hands over first", lab.run(function()
    local nodes <close> = cluster(3)
    local leader = nodes[1]:wait "leader"
    local role
    nodes[leader]:on("role", function(data) role = data.role end)
    assert(nodes[leader]:remove(leader))
    local other = nodes[leader % 3 + 1]
    assert.equal(1, (other:propose { key = "a", value = 1 }))
    assert.equal(2, #other:members())
    assert.not_equal(leader, other.leader)
    assert.not_equal("leader", role or nodes[leader].role)
  end))

  it("move to another address", lab.run(function()
    local nodes <close>, addresses = cluster(3)
    local leader = nodes[1]:wait "leader"
    local other, address = leader % 3 + 1, lab.addresses(1)[1]
    nodes[other]:close()
    assert.equal(other, nodes[leader]:add(other, address))
    assert.equal(address, nodes[leader]:members()[other].address)
    assert.not_equal(address, addresses[other])
  end))

  it("refuse what makes no sense, with a reason", lab.run(function()
    local nodes <close>, addresses = cluster(3)
    for _, call in ipairs {
      { "remove", 9 }, { "promote", 2 }, { "add", 2, addresses[2] }, { "add", addresses[3] }, { "transfer", 9 },
      { "change", { remove = { 1, 2, 3 } } },
    } do
      local value, message, code = nodes[1][call[1]](nodes[1], table.unpack(call, 2))
      assert.same({ nil, "string", "conflict" }, { value, type(message), code }, call[1])
    end
    assert.equal("no", raft.outcome "conflict")
    local closed
    nodes[1]:remove(9, function(value, message, code) closed = { value, type(message), code } end)
    while not closed do raft.sleep(0.01) end
    assert.same({ nil, "string", "conflict" }, closed)
  end))
end)

describe("leadership", function()
  after_each(lab.clean)

  it("is handed over, to whom is asked for or to another one", lab.run(function()
    local nodes <close> = cluster(3, { election_timeout = 2 })   -- nobody else takes it meanwhile, however busy it is
    for id = 1, 3 do
      local asked = nodes[id % 3 + 1]
      if asked:wait "leader" ~= id then assert.equal(id, asked:transfer(id)) end
      assert.equal(id, nodes[id]:wait(function(s) return s.role == "leader" and s.leader end))
      assert.equal(id, nodes[id]:transfer(id))
    end
    local next_leader = assert(nodes[3]:transfer())
    assert.not_equal(3, next_leader)
    assert.equal(1, (nodes[1]:propose { key = "a", value = 1 }))
  end))

  it("stays where it is while the one that was asked for is down, and nobody else waits for that", lab.run(function()
    local nodes <close> = cluster(3)
    local leader = nodes[1]:wait "leader"
    local down = leader % 3 + 1
    nodes[down]:close()
    assert(nodes[leader]:wait(function(s) return not s.members[down].connected end))
    local ended
    nodes[leader]:transfer(down, { timeout = 0.5 }, function(...) ended = { ... } end)
    for i = 1, 10 do assert.equal(i, (nodes[leader]:propose { key = "n", value = i })) end
    while not ended do raft.sleep(0.01) end
    assert.same({ "busy", "no" }, { ended[3], raft.outcome(ended[3]) })
    assert.truthy(ended[2]:find("cannot be reached", 1, true), ended[2])
  end))

  it("is handed over by a leader that closes, long before anyone would miss it", lab.run(function()
    local long = { election_timeout = 50 }
    local nodes <close>, addresses = cluster(1, long)   -- alone: elected at once
    for id = 2, 3 do
      nodes[id] = assert(join(addresses, long))
      assert(nodes[id]:wait "member")
    end
    assert.equal("leader", nodes[1].role)
    nodes[1]:close()
    assert.equal(1, (nodes[2]:propose { key = "a", value = 1 }))
    assert.not_equal(1, nodes[3]:wait "leader")
  end))

  it("goes to the member of the highest priority", lab.run(function()
    local addresses, nodes = lab.addresses(3), {}
    for id = 1, 3 do
      nodes[id] = assert(raft.node(options { id = id, cluster = addresses, priority = id == 2 and 10 or 0 }))
    end
    nodes[1]:wait "ready"
    nodes[1]:transfer(1)
    repeat
      raft.sleep(0.1)   -- until it has heard of the priorities, and all are equally far
      local leader = nodes[1]:transfer()
      if leader and leader ~= 2 then nodes[1]:transfer(1) end
    until leader == 2
    for id = 1, 3 do nodes[id]:close() end
  end))
end)
