-- The checks at the end of raft.sim are fed broken histories here: they must complain.
local core = require "raft.core"
local witness = require "raft.sim_witness"

---A run of a counter: operations are { call, index, value, from, to } - from and to are moments, and of a proposal
---value is what apply returned. The log has `log` (indexes of commands), which defaults to those of the proposals.
local function run(operations, changes)
  changes = changes or {}
  local commands, list, last = {}, {}, 0
  for i, o in ipairs(operations) do
    local operation = { call = o[1], node = 1, outcome = o.outcome or "yes", refused = o.refused,
      called = o[4], called_order = o[4], returned = o[5], returned_order = o[5],
      bytes = core.pack { values = { "add" } }, answer = core.pack { n = 1, o[3] } }
    if o[1] == "read" then operation.index = o[2] else operation.sequence = i end
    if o[1] == "propose" and o[2] then
      commands[o[2]] = { time = 1, session = 1, sequence = i, command = core.pack "add",
        result = core.pack { o.is or o[3] } }
      last = math.max(last, o[2])
    end
    list[#list + 1] = operation
  end
  if changes.twice then commands[last + 1], last = commands[last], last + 1 end
  local fake = {}
  function fake.last() return last end
  function fake.command(_, index) return commands[index] end
  function fake.witness() end
  function fake.failed() return false end
  function fake.ask(_, _, name, _, _, _, expected)
    if name ~= "read" or changes.reads == nil or expected == core.pack { changes.reads } then return nil end
    return core.pack { changes.reads }
  end
  local ok, err = pcall(witness.check, { core = fake, history_list = list })
  return not ok and (type(err) == "table" and err.text or error(err)) or nil
end

describe("the log as witness", function()
  it("has nothing to say about a history that has its order", function()
    assert.is_nil(run {
      { "propose", 2, 1, 1, 4 },
      { "propose", 4, 2, 2, 3 },
      { "read", 2, 1, 2.5, 6 },             -- while the second was under way: it may come before it
      { "read", 4, 2, 5, 7 },
      { "propose", 6, 3, 8, 9 },
      { "read", 7, 3, 10, 11 },
      { "propose", 9, nil, 8, nil, outcome = "maybe" },
      { "propose", nil, nil, 8, nil, outcome = "maybe" },
      { "propose", nil, nil, 8, 9, outcome = "no", refused = "no_leader" },
    })
  end)

  it("reports a read that misses what was acknowledged before it was called", function()
    assert.matches("^linearizability: a read at node 1 took effect at index 3, before command \"add\" .* at index 4",
      run { { "propose", 2, 1, 1, 2 }, { "propose", 4, 2, 3, 4 }, { "read", 3, 1, 5, 6 } } or "")
  end)

  it("reports a read that sees less than an earlier one", function()
    assert.matches("^linearizability: a read .* at index 2, before a read .* at index 4",
      run { { "propose", 2, 1, 1, 9 }, { "propose", 4, 2, 1, 9.5 }, { "read", 4, 2, 2, 3 }, { "read", 2, 1, 4, 5 } }
        or "")
  end)

  it("reports a command that takes effect before one that had returned", function()
    assert.matches("^linearizability: command", run { { "propose", 4, 2, 1, 2 }, { "propose", 2, 1, 3, 4 } } or "")
  end)

  it("reports a command without an answer that had taken effect before it was made", function()
    assert.is_nil(run { { "propose", 4, 2, 1, 2 }, { "propose", 2, nil, 1.5, nil, outcome = "maybe" } })
  end)

  it("reports what was applied twice", function()
    assert.matches("^exactly once: command \"add\" was applied at index 2 and again at index 3",
      run({ { "propose", 2, 1, 1, 2 } }, { twice = true }) or "")
  end)

  it("reports what was acknowledged and is not in the log", function()
    assert.matches("^durability: command \"add\" at node 1 was acknowledged", run { { "propose", nil, 1, 1, 2 } } or "")
  end)

  it("reports what was refused for certain, and applied", function()
    assert.matches("^exactly once: .* was refused for certain %(no_leader%), but was applied at index 2",
      run { { "propose", 2, 1, 1, 2, outcome = "no", refused = "no_leader" } } or "")
  end)

  it("reports an answer that is not what apply returned", function()
    assert.matches("^command \"add\" at node 1 was answered with 1; apply returned 5 at index 2",
      run { { "propose", 2, 1, 1, 2, is = 5 } } or "")
  end)

  it("reports a read of a state that the log never had", function()
    assert.matches("^a read at node 1 after index 2 returned 7; in a fresh state .* it returns 1",
      run({ { "propose", 2, 1, 1, 2 }, { "read", 2, 7, 3, 4 } }, { reads = 1 }) or "")
  end)
end)
