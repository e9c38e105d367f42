local clusters = require "spec.system.cluster"
local process = require "spec.system.process"

describe("three processes, one of which is killed with SIGKILL", function()
  local cluster

  before_each(function()
    cluster = clusters.new(3)
    cluster:start()
  end)
  after_each(function() cluster:clean() end)

  ---Everything in the replicated list, as one node knows it, and how often.
  local function counts(node)
    local seen = {}
    local items = assert(process.wait_until(function() return (node:eval("return items()")) end, "a read"))
    for _, item in ipairs(items) do seen[item] = (seen[item] or 0) + 1 end
    return seen, #items
  end

  ---Starts 200 proposals on a node: a function that waits for them and gives their codes, "ok" for success.
  local function stream(node)
    node:eval [[ results, answered = {}, 0
      for i = 1, 200 do raft.go(function()
        local _, _, code = node:propose("item " .. i, { timeout = 20 })
        results[i] = code or "ok"
        answered = answered + 1
      end) end ]]
    return function()
      process.wait_until(function() return node:eval("return answered") == 200 end, "all answers")
      return node:eval("return results")
    end
  end

  ---What was acknowledged is there once; what may have been applied at most once; what was refused never.
  local function check(results, node, outcome)
    local seen = counts(node)
    for i, code in ipairs(results) do
      local n = seen["item " .. i] or 0
      if code == "ok" then assert.equal(1, n)
      elseif outcome(code) == "no" then assert.equal(0, n)
      else assert.truthy(n <= 1) end
    end
    return seen
  end

  local outcome = require "raft".outcome

  it("acknowledges everything while a follower is dead, and the follower catches up", function()
    local leader = cluster:leader()
    local follower, other = table.unpack(cluster:others(leader))
    local results = stream(other)
    follower:kill()
    results = results()
    for _, code in ipairs(results) do assert.equal("ok", code) end
    follower:start()
    check(results, follower, outcome)
  end)

  it("loses nothing and doubles nothing when the leader dies in mid-stream", function()
    local leader, term = cluster:leader()
    local follower, other = table.unpack(cluster:others(leader))
    local results = stream(follower)
    leader:kill()
    results = results()
    local next_leader, next_term = cluster:leader()
    assert.not_equal(leader.id, next_leader.id)
    assert.truthy(next_term > term)
    leader:start()
    for _, node in ipairs { follower, other, leader } do check(results, node, outcome) end
    assert.same({ counts(leader) }, { counts(other) })
  end)

  it("goes on where it was after all three have died at once", function()
    local results = stream(cluster:leader())()
    for _, node in ipairs(cluster.nodes) do node.process:kill("sigkill") end
    for _, node in ipairs(cluster.nodes) do node.process:wait() end
    cluster:start()
    cluster:leader()
    for _, node in ipairs(cluster.nodes) do check(results, node, outcome) end
    assert.equal(201, cluster.nodes[1]:eval("return node:propose('one more')"))
  end)
end)
