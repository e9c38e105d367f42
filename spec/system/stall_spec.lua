local clusters = require "spec.system.cluster"
local disk = require "spec.system.disk"
local process = require "spec.system.process"

describe("a stall", function()
  local cluster

  local function start(n)
    cluster = clusters.new(n)
    for _, node in ipairs(cluster.nodes) do node.disk = disk.new(node.options.dir) end
    return cluster:start(function(node) return node.disk:command() end)
  end

  after_each(function() cluster:clean() end)
  teardown(disk.clean)

  it("of the leader's Lua for three election timeouts causes no election", function()
    start(3)
    local leader, term = cluster:leader()
    local follower = cluster:others(leader)[1]
    local spun = leader:ask("spin(3.3) return true")
    local n = 0
    while not spun() do
      n = n + 1
      assert.equal(n, follower:eval("return node:propose('item')"))
      process.sleep(0.1)
    end
    assert.truthy(n > 3)
    local still, same = cluster:leader()
    assert.equal(leader.id, still.id)
    assert.equal(term, same)
    assert.equal(n + 1, leader:eval("return node:propose('item')"))
  end)

  it("of the leader's disk moves leadership to a member whose disk works", function()
    start(3)
    local leader, term = cluster:leader()
    local follower, other = table.unpack(cluster:others(leader))
    leader.disk:order("stall")
    local first = follower:ask("return node:propose('a', { timeout = 50 })")
    process.wait_until(function()
      local s = follower:status()
      return s.leader and s.leader ~= leader.id and s.term > term
    end, "another leader")
    assert.equal(1, process.wait_until(first, "the first answer")[1])
    assert.equal(2, other:eval("return node:propose('b', { timeout = 50 })"))
    leader.disk:order(nil)
    assert.equal(3, leader:eval("return node:propose('c', { timeout = 50 })"))
  end)

  it("of both followers' disks holds every acknowledgement back, until one of the writes has returned", function()
    start(3)
    local leader = cluster:leader()
    assert.equal(1, leader:eval("return node:propose('a')"))
    local commit = leader:eval("return node:barrier()")
    process.wait_until(function() return leader:status().commit >= commit end, "the status to show it")
    local one, two = table.unpack(cluster:others(leader))
    one.disk:order("stall")
    two.disk:order("stall")
    local writes = one.disk:writes()
    local answer = leader:ask("return node:propose('b', { timeout = 50 })")
    process.sleep(0.7)
    assert.is_nil(answer())
    assert.equal(commit, leader:status().commit)
    one.disk:order(nil)
    assert.equal(2, process.wait_until(answer, "the acknowledgement")[1])
    assert.truthy(one.disk:writes() > writes)
    two.disk:order(nil)
  end)

  it("of the only disk there is holds the answer back; each answer follows a durable write of its own", function()
    start(1)
    local node = cluster:leader()
    node.disk:order("20")
    for i = 1, 5 do
      local writes = node.disk:writes()
      assert.equal(i, node:eval("return node:propose('item', { timeout = 50 })"))
      assert.truthy(node.disk:writes() > writes)
    end
    node.disk:order("stall")
    local answer = node:ask("return node:propose('item', { timeout = 50 })")
    process.sleep(0.5)
    assert.is_nil(answer())
    node.disk:order(nil)
    assert.equal(6, process.wait_until(answer, "the answer")[1])
  end)

  it("of every disk elects nobody: no vote leaves before it is durable", function()
    start(3)
    local leader, term = cluster:leader()
    local one, two = table.unpack(cluster:others(leader))
    one.disk:order("stall")
    two.disk:order("stall")
    leader:kill()
    process.sleep(2.5)
    for _, node in ipairs { one, two } do assert.not_equal("leader", node:status().role) end
    one.disk:order(nil)
    two.disk:order(nil)
    local _, next_term = cluster:leader()
    assert.truthy(next_term > term)
  end)
end)

describe("a disk that fails a write", function()
  local cluster

  after_each(function() cluster:clean() end)
  teardown(disk.clean)

  it("makes its node stop for good, the others go on, and a restart brings it back with nothing lost", function()
    cluster = clusters.new(3)
    for _, node in ipairs(cluster.nodes) do node.disk = disk.new(node.options.dir) end
    cluster:start(function(node) return node.disk:command() end)
    local leader = cluster:leader()
    local follower = cluster:others(leader)[1]
    assert.equal(1, leader:eval("return node:propose('a')"))
    leader.disk:order("fail")
    assert.equal(2, follower:eval("return node:propose('b', { timeout = 50 })"))
    local _, message, code = leader:eval("return node:propose('c', { timeout = 5 })")
    assert.equal("fault", code, message)
    leader.process:expect("the node stops: cannot write")
    leader.disk:order(nil)
    _, _, code = leader:eval("return node:propose('c', { timeout = 5 })")
    assert.equal("fault", code)
    leader:kill()
    leader:start(leader.disk:command())
    assert.same({ "a", "b" }, leader:eval("return items()"))
  end)
end)
