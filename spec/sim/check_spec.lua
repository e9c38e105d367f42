local core = require "raft.core"

-- Three nodes in term 1, led by node 1, with one entry on all disks, committed and applied everywhere.
local function healthy()
  local check = core.sim_check()
  for node = 1, 3 do check:term(node, 1, 1, 1) end
  check:leader(1, 1)
  for node = 1, 3 do
    check:append(node, 1, 100)
    check:stable(node, 1)
  end
  for node = 1, 3 do
    check:commit(node, 1)
    check:apply(node, 1, 1, 5000)
  end
  check:acknowledge(2, 1, 1)
  return check
end

local function broken(what, history)
  it("reports " .. what[1], function()
    local check = healthy()
    assert.is_nil(check:failure())
    history(check)
    assert.is_truthy(check:failure(), "nothing was reported")
    assert.matches(what[2], check:failure(), 1, true)
  end)
end

describe("the checker of simulated clusters", function()
  it("has nothing to say about a healthy history", function()
    local check = healthy()
    check:crash(3)
    check:recover(3, 1, 1, { 1 })
    check:term(3, 2, 3, 2)
    check:term(2, 2, 3, 2)
    check:leader(3, 2)
    check:append(3, 2, 200)
    check:append(2, 2, 200)
    check:stable(3, 2)
    check:stable(2, 2)
    check:commit(3, 2)
    check:commit(2, 2)
    check:apply(3, 1, 1, 5000)
    for _, node in ipairs { 2, 3 } do
      check:apply(node, 2, 2, 6000)
      check:barrier(node, 2)
    end
    check:term(1, 2, 0, 2)
    check:append(1, 2, 200)
    check:commit(1, 2)
    check:apply(1, 2, 2, 6000)
    check:finish()
    assert.is_nil(check:failure())
  end)

  it("keeps the first failure", function()
    local check = healthy()
    check:commit(1, 0)
    local first = check:failure()
    check:leader(2, 1)
    assert.equal(first, check:failure())
  end)

  broken({ "two leaders of one term", "election safety" }, function(check) check:leader(2, 1) end)

  broken({ "different entries of the same index and term", "log matching" }, function(check)
    check:append(1, 1, 200)
    check:append(2, 1, 201)
  end)

  broken({ "entries that turn out to be different when they are stamped", "log matching" }, function(check)
    check:append(1, 1, 0)
    check:append(2, 1, 0)
    check:hash(1, 2, 200)
    check:hash(2, 2, 201)
  end)

  broken({ "the same entry after different ones", "log matching" }, function(check)
    check:term(1, 3, 0, 3)
    check:term(2, 3, 0, 3)
    check:append(1, 1, 200)
    check:append(2, 2, 201)
    check:append(1, 3, 300)
    check:append(2, 3, 300)
  end)

  broken({ "an entry of a term beyond the node's", "log matching" }, function(check) check:append(2, 2, 200) end)

  broken({ "a leader without a committed entry", "leader completeness" }, function(check)
    check:crash(2)
    check:append(1, 1, 200)
    check:append(3, 1, 200)
    check:stable(1, 2)
    check:stable(3, 2)
    check:commit(1, 2)
    check:term(2, 2, 2, 2)
    check:leader(2, 2)
  end)

  broken({ "different entries committed at one index", "state machine safety" }, function(check)
    for _, node in ipairs { 1, 3 } do
      check:append(node, 1, 200)
      check:stable(node, 2)
    end
    check:commit(1, 2)
    check:term(2, 2, 2, 2)
    check:append(2, 2, 201)
    check:stable(2, 2)
    check:commit(2, 2)
  end)

  broken({ "a log cut below its commit index", "state machine safety" }, function(check) check:truncate(1, 0) end)

  broken({ "states that differ at one index", "state machine safety" }, function(check)
    for node = 1, 2 do
      check:append(node, 1, 200)
      check:stable(node, 2)
    end
    check:commit(1, 2)
    check:commit(2, 2)
    check:apply(1, 2, 2, 6000)
    check:apply(2, 2, 3, 6000)
  end)

  broken({ "a commit that is not on the disks of a majority", "durability" }, function(check)
    for node = 1, 3 do check:append(node, 1, 200) end
    check:stable(1, 2)
    check:commit(1, 2)
  end)

  broken({ "an entry of an old term that is committed by its copies", "leader completeness" }, function(check)
    for node = 1, 2 do check:append(node, 1, 200) end
    for node = 1, 2 do
      check:term(node, 2, 1, 2)
      check:stable(node, 2)
    end
    check:leader(1, 2)
    check:commit(1, 2)
  end)

  broken({ "a message of a term that is not durable", "durability" }, function(check)
    check:says(2, 1, 1)
    check:says(2, 2, 1)
  end)

  broken({ "an acknowledgement of an entry that is not durable", "durability" }, function(check)
    check:says_stored(2, 1, 1)
    check:says_stored(2, 2, 1)
  end)

  broken({ "votes for two candidates of one term, in different lives", "election safety" }, function(check)
    check:says_vote(2, 2, 3)
    check:says_vote(2, 2, 3)
    check:crash(2)
    check:says_vote(2, 2, 1)
  end)

  broken({ "durable entries that are gone after a crash", "durability" }, function(check)
    check:crash(2)
    check:recover(2, 1, 1, {})
  end)

  broken({ "durable entries that are others after a crash", "durability" }, function(check)
    check:term(2, 2, 0, 2)
    check:append(2, 2, 200)
    check:stable(2, 2)
    check:append(3, 1, 201)
    check:crash(2)
    check:recover(2, 2, 0, { 1, 1 })
  end)

  broken({ "entries that nobody ever wrote", "durability" }, function(check)
    check:crash(2)
    check:recover(2, 1, 1, { 1, 1 })
  end)

  broken({ "a durable term that is forgotten", "durability" }, function(check)
    check:term(2, 4, 0, 4)
    check:crash(2)
    check:recover(2, 3, 0, { 1 })
  end)

  broken({ "another vote after a crash", "durability" }, function(check)
    check:crash(2)
    check:recover(2, 1, 3, { 1 })
  end)

  broken({ "a vote that was told and is forgotten", "durability" }, function(check)
    check:term(2, 5, 3, 5)
    check:says_vote(2, 5, 3)
    check:crash(2)
    check:recover(2, 5, 0, { 1 })
  end)

  broken({ "a disk without what was durable, while its node runs", "durability" }, function(check)
    check:disk(1, 1, 1, { 1 })
    check:disks()
    assert.is_nil(check:failure())
    check:disk(2, 1, 1, {})
  end)

  broken({ "a disk with an older term than was durable", "durability" }, function(check) check:disk(2, 0, 0, { 1 }) end)

  broken({ "a committed entry that a majority of disks does not hold", "durability" }, function(check)
    for node = 1, 2 do
      check:append(node, 1, 200)
      check:stable(node, 2)
    end
    check:commit(1, 2)
    check:term(2, 2, 3, 2)
    check:truncate(2, 1)
    check:disk(1, 1, 1, { 1, 1 })
    check:disk(2, 2, 3, { 1 })
    check:disk(3, 1, 1, { 1 })
    assert.is_nil(check:failure())
    check:disks()
  end)

  it("does not hold a damaged disk against its node, until it has to be whole again", function()
    local check = healthy()
    check:damaged(2)
    for node = 1, 3 do check:disk(node, 1, 1, node == 2 and {} or { 1 }) end
    check:disks()
    assert.is_nil(check:failure())
    check:crash(2)
    check:recover(2, 1, 1, { 1 })
    check:disk(2, 1, 1, {})
    assert.matches("durability: its disk holds a log up to 0, 1 was durable", check:failure(), 1, true)
  end)

  it("lets others count on what a disk held before it was lost, and on nothing after", function()
    local check = healthy()
    for node = 1, 2 do
      check:append(node, 1, 200)
      check:stable(node, 2)
    end
    check:lost(2) -- it has told the leader before
    check:commit(1, 2)
    assert.is_nil(check:failure())
    check:append(1, 1, 300)
    check:stable(1, 3)
    check:commit(1, 3)
    assert.matches("durability: index 3 of term 1 is committed, but on 1 of 3 disks", check:failure(), 1, true)
  end)

  it("remembers each loss of a disk that is lost more than once, also when the first one was the greater", function()
    local check = healthy()
    for hash = 200, 202 do check:append(2, 1, hash) end
    check:stable(2, 4)
    check:lost(2)
    check:term(1, 2, 1, 2)
    check:leader(1, 2)
    check:append(1, 2, 300)
    check:stable(1, 2)
    check:term(2, 2, 0, 2) -- it is filled again, with another entry at index 2
    check:append(2, 1, 100)
    check:append(2, 2, 300)
    check:stable(2, 2)
    check:lost(2)
    check:commit(1, 2)
    assert.is_nil(check:failure())
    check:disk(1, 2, 1, { 1, 2 })
    check:disk(2, 0, 0, {})
    check:disk(3, 1, 1, { 1 })
    check:disks()
    assert.is_nil(check:failure())
  end)

  broken({ "a term that falls", "order" }, function(check) check:term(2, 0, 0, 0) end)
  broken({ "a vote that changes", "order" }, function(check) check:term(2, 1, 3, 1) end)
  broken({ "a commit index that falls", "order" }, function(check) check:commit(2, 0) end)
  broken({ "a commit index beyond the log", "order" }, function(check) check:commit(2, 2) end)
  broken({ "an entry applied before it is committed", "order" }, function(check) check:apply(2, 2, 2, 6000) end)
  broken({ "an entry applied twice", "order" }, function(check) check:apply(2, 1, 1, 5000) end)

  local function second(check)
    for node = 1, 3 do
      check:append(node, 1, 200)
      check:stable(node, 2)
    end
    for node = 1, 3 do check:commit(node, 2) end
  end

  broken({ "a leader's time that falls", "order" }, function(check)
    second(check)
    check:apply(2, 2, 2, 4999)
  end)

  broken({ "a value applied at two indexes", "exactly once" }, function(check)
    second(check)
    check:apply(2, 2, 1, 6000)
  end)

  broken({ "a value applied that was refused for certain", "exactly once" }, function(check)
    second(check)
    check:refuse(1, 2)
    check:apply(2, 2, 2, 6000)
  end)

  broken({ "a value refused for certain that was applied", "exactly once" }, function(check)
    second(check)
    check:apply(2, 2, 2, 6000)
    check:refuse(1, 2)
  end)

  broken({ "a second answer", "exactly once" }, function(check) check:acknowledge(2, 1, 1) end)

  broken({ "an acknowledgement without an apply", "durability" }, function(check)
    second(check)
    check:acknowledge(2, 2, 2)
  end)

  broken({ "a proposal ordered before what was acknowledged before it began", "linearizability" }, function(check)
    second(check)
    for node = 1, 2 do
      check:append(node, 1, 300)
      check:stable(node, 3)
    end
    check:commit(1, 3)
    check:apply(1, 2, 2, 6000)
    check:apply(1, 3, 3, 6000)
    check:acknowledge(1, 3, 3)
    check:propose(2)
    check:acknowledge(1, 2, 2)
  end)

  broken({ "a barrier that is passed too early", "linearizability" }, function(check)
    second(check)
    check:apply(1, 2, 2, 6000)
    check:acknowledge(1, 2, 2)
    check:barrier(2, 2)
  end)

  -- The value 2, applied by nodes 1 and 2 at index 2, and told to its visitor by node 1.
  local function visited(check)
    second(check)
    check:propose(2)
    for node = 1, 2 do check:apply(node, 2, 2, 6000) end
    assert.is_true(check:answer(1, 2, 2, check:digest(1)))
  end

  it("lets a visitor be told the same once more, by whoever has applied it", function()
    local check = healthy()
    visited(check)
    assert.is_false(check:answer(2, 2, 2, check:digest(1)))
    check:expired(2, 2, 2)
    check:apply(3, 2, 2, 6000)
    check:finish()
    assert.is_nil(check:failure())
  end)

  broken({ "a visitor that is told another state than the first time", "exactly once" }, function(check)
    visited(check)
    check:answer(2, 2, 2, check:digest(1) + 1)
  end)

  broken({ "a visitor that is told another index", "exactly once" }, function(check)
    visited(check)
    check:answer(2, 2, 1, check:digest(1))
  end)

  broken({ "a visitor that is told by a node what it has not applied", "exactly once" }, function(check)
    visited(check)
    check:answer(3, 2, 2, check:digest(1))
  end)

  broken({ "a session that has ended and whose command is applied later", "exactly once" }, function(check)
    second(check)
    check:expired(1, 2, 1)
    check:apply(1, 2, 2, 6000)
  end)

  broken({ "a session that is said to have ended before a command of it was applied", "exactly once" }, function(check)
    visited(check)
    check:expired(3, 2, 1)
  end)

  broken({ "states that differ in the end", "convergence" }, function(check)
    second(check)
    check:apply(1, 2, 2, 6000)
    check:finish()
  end)

  broken({ "an acknowledged value that is lost", "durability" }, function(check)
    for node = 1, 3 do check:crash(node) end
    check:finish()
  end)

  it("looks at the disks of a running cluster", function()
    local seen
    for seed = 1, 10 do
      local failure = core.sim({ seed = seed, nodes = 3, seconds = 20, faults = { "lies" } }).failure
      seen = seen or (failure and failure:match("its disk holds"))
    end
    assert.equal("its disk holds", seen)
  end)
end)
