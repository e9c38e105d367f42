-- Three nodes in one process, each with its own threads, directory and address.
local lab = require "spec.lua.lab"
local raft = require "raft"

local function start(addresses, dirs, id)
  return assert(raft.node(lab.options {
    id = id, dir = dirs[id], cluster = addresses, election_timeout = 0.3, heartbeat = 0.05, timeout = 30,
  }))
end

local function start_all(n)
  local addresses, dirs, nodes = lab.addresses(n), {}, {}
  for id = 1, n do dirs[id] = lab.dir() end
  for id = 1, n do nodes[id] = start(addresses, dirs, id) end
  local function close()
    for _, node in pairs(nodes) do node:close() end
  end
  return setmetatable(nodes, { __close = close }), addresses, dirs
end

describe("three nodes", function()
  after_each(lab.clean)

  it("behave as one machine, whichever is asked", lab.run(function()
    local nodes <close> = start_all(3)
    for i = 1, 30 do
      local value, old = nodes[i % 3 + 1]:propose { key = "n", value = i }
      assert.same({ i, i > 1 and i - 1 or nil }, { value, old })
      assert.equal(i, nodes[(i + 1) % 3 + 1]:read(function(m) return m.data.n end))
    end
    for id = 1, 3 do assert.equal(30, nodes[id]:read(function(m) return m.count end)) end
  end))

  it("agree on one leader, and their statuses say so", lab.run(function()
    local nodes <close>, addresses = start_all(3)
    local function settled(s, leader)
      if not (s.ready and s.tolerates == 1 and #s.members == 3 and s.leader == leader) then return false end
      if s.leader_address ~= addresses[leader] then return false end
      if s.id ~= leader then return s.role == "follower" end
      for _, m in ipairs(s.members) do
        local follows = m.state == "replicate" and m.match and m.lag and m.contact
        if m.id ~= leader and not follows then return false end
      end
      return s.role == "leader"
    end
    local agreed
    repeat   -- there may be more than one election until all links are up
      local leader = nodes[1]:wait "leader"
      agreed = true
      for id = 1, 3 do agreed = agreed and settled(nodes[id]:status(), leader) end
      raft.sleep(0.01)
    until agreed
  end))

  it("go on when the leader closes, and take it back", lab.run(function()
    local nodes <close>, addresses, dirs = start_all(3)
    nodes[1]:propose { key = "a", value = 1 }
    local old = nodes[1]:wait "leader"
    local other = old % 3 + 1
    local down, leader
    nodes[other]:on("peer_down", function(data) if data.id == old then down = data end end)
    nodes[other]:on("leader", function(data) leader = data.leader or leader end)
    nodes[old]:close()
    assert.equal(2, nodes[other]:propose { key = "b", value = 2 })
    assert.not_equal(old, nodes[other].leader)
    raft.sleep(0)
    assert.equal("string", type(down.reason))
    assert.equal(nodes[other].leader, leader)

    nodes[old] = start(addresses, dirs, old)
    assert.same({ 1, 2 }, { nodes[old]:read(function(m) return m.data.a, m.data.b end) })
    assert.equal(3, nodes[old]:propose { key = "c", value = 3 })
  end))

  it("apply everything that is proposed while the leader closes exactly once", lab.run(function()
    local nodes <close> = start_all(3)
    local old = nodes[1]:wait "leader"
    local open, done, refused = 20, {}, 0
    for c = 1, 20 do
      raft.go(function()
        local node = nodes[(old + c % 2) % 3 + 1]   -- not the one that closes
        for i = 1, 20 do
          local _, _, code = node:propose { key = c .. "/" .. i, value = true }
          if code then refused = refused + 1 else done[#done + 1] = c .. "/" .. i end
        end
        open = open - 1
      end)
    end
    raft.sleep(0.02)
    nodes[old]:close()
    while open > 0 do raft.sleep(0.01) end
    assert.same({ 400, 0 }, { #done, refused })
    local node = nodes[old % 3 + 1]
    assert.equal(400, node:read(function(m) return m.count end))
    for _, key in ipairs(done) do assert.is_true(node:read(function(m) return m.data[key] end)) end
  end))

  it("count an apply that raises on every node, and go on", lab.run(function()
    local addresses, nodes, told = lab.addresses(3), {}, 0
    for id = 1, 3 do
      nodes[id] = assert(raft.node(lab.options {
        id = id, cluster = addresses, election_timeout = 0.3, heartbeat = 0.05, timeout = 30,
        machine = lab.machine { bad = function() error "bad command" end },
      }))
      nodes[id]:on("apply_error", function() told = told + 1 end)
    end
    local _, message, code = nodes[1]:propose "bad"
    assert.equal("apply", code)
    assert.truthy(message:find("bad command", 1, true))
    for id = 1, 3 do
      assert.equal("good", nodes[id]:propose "good")
      nodes[id]:barrier()
    end
    raft.sleep(0)
    assert.equal(3, told)
    for id = 1, 3 do nodes[id]:close() end
  end))
end)
