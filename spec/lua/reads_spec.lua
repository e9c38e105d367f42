-- Reads: what they see, and what they cost.
local lab = require "spec.lua.lab"
local raft = require "raft"

local function cluster(changes)
  local addresses, nodes = lab.addresses(3), {}
  for id = 1, 3 do
    local given = { id = id, cluster = addresses, election_timeout = 0.3, heartbeat = 0.05 }
    for name, value in pairs(changes or {}) do given[name] = value end
    nodes[id] = lab.node(given)
  end
  for id = 1, 3 do assert(nodes[id]:wait "ready") end
  return setmetatable(nodes, { __close = function()
    for _, node in pairs(nodes) do node:close() end
  end })
end

local function get(m) return m.data.n end

describe("a read", function()
  after_each(lab.clean)

  it("sees what was acknowledged anywhere before, and writes nothing to the log", lab.run(function()
    for _, lease in ipairs { false, true } do
      local nodes <close> = cluster { lease = lease }
      for i = 1, 20 do
        nodes[i % 3 + 1]:propose { key = "n", value = i }
        assert.equal(i, nodes[(i + 1) % 3 + 1]:read(get, { lease = lease }))
      end
      local before, term = assert(nodes[1]:barrier()), nodes[1].term
      for i = 1, 300 do assert.equal(20, nodes[i % 3 + 1]:read(get, { lease = lease })) end
      local after = assert(nodes[1]:barrier())
      if nodes[1].term == term then assert.equal(before + 1, after) end
    end
  end))

  it("shares its round with others that come meanwhile", lab.run(function()
    local nodes <close> = cluster()
    nodes[1]:propose { key = "n", value = 1 }
    local open = 1000
    for i = 1, 1000 do
      nodes[i % 3 + 1]:read(get, function(value, _, code)
        assert.same({ 1, nil }, { value, code })
        open = open - 1
      end)
    end
    while open > 0 do raft.sleep(0.01) end
  end))

  it("that raises, yields or starts others keeps nobody from the answer in the same round", lab.run(function()
    local node <close> = lab.node()
    node:propose { key = "n", value = 1 }
    local readers, got, open = {
      get,
      function() error("not this one") end,
      function() error { code = 7 } end,
      function() coroutine.yield() end,
      function() return nil, "second" end,
      function() end,
      function()   -- more who wait than ever before: their places move
        for _ = 1, 200 do raft.go(function() raft.sleep(0) end) end
        return "started"
      end,
      function() return node:read(get) end,
      get,
    }, {}, 9
    for i, reader in ipairs(readers) do
      raft.go(function()
        got[i] = table.pack(node:read(reader))
        open = open - 1
      end)
    end
    while open > 0 do raft.sleep(0.01) end
    assert.same({ { 1, n = 1 }, { nil, "second", n = 2 }, { n = 1 }, { "started", n = 1 }, { 1, n = 1 } },
      { got[1], got[5], got[6], got[7], got[9] })
    local raised = { [2] = "not this one", [3] = "^table: ", [4] = "attempt to yield", [8] = "cannot wait inside" }
    for i, text in pairs(raised) do
      assert.same({ nil, "query" }, { got[i][1], got[i][3] })
      assert.truthy(got[i][2]:find(text), got[i][2])
      assert.truthy(got[i][2]:find("stack traceback", 1, true))
    end
  end))

  it("may ask the machine's query by value", lab.run(function()
    local machine = lab.machine()
    function machine:query(q, index, time)
      if q == "bad" then error "no such question" end
      return self.data[q], index > 0 and time > 0
    end
    local node <close> = lab.node { machine = machine }
    node:propose { key = "n", value = 5 }
    assert.same({ 5, true }, { node:read "n" })
    assert.same({ 5, true }, { node:read("n", { stale = true }) })
    local _, message, code = node:read "bad"
    assert.equal("query", code)
    assert.truthy(message:find("no such question", 1, true))
  end))

  it("that may be stale is answered without anybody else", lab.run(function()
    local nodes <close> = cluster()
    local leader = nodes[1]:wait "leader"
    nodes[leader]:propose { key = "n", value = 1 }
    local other = nodes[leader % 3 + 1]
    other:barrier()
    assert.equal(1, other:read(get, { stale = 50 }))
    for id = 1, 3 do
      if nodes[id] ~= other then nodes[id]:close() end
    end
    other:wait(function(s) return not s.leader end)
    assert.equal(1, other:read(get, { stale = true }))
    local value, message, code = other:read(get, { stale = 0.001 })
    assert.same({ nil, "string", "no_leader" }, { value, type(message), code })
    value, message, code = other:read(get, { timeout = 0.2 })
    assert.same({ nil, "string", "no_leader" }, { value, type(message), code })
  end))
end)
