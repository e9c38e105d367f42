-- Decisions by majority, of simple and joint configurations.
local core = require "raft.core"

local committed, tally = core.quorum.committed, core.quorum.tally
local Y, N = true, false

describe("the index that a majority has reached", function()
  it("of a simple configuration is the middle one", function()
    local cases = {  -- voters, what they have, the answer
      { { 1 }, { 7 }, 7 }, { { 1, 2 }, { 7, 3 }, 3 }, { { 1, 2, 3 }, { 7, 3, 5 }, 5 }, { { 1, 2, 3 }, { 7, 0, 0 }, 0 },
      { { 1, 2, 3 }, { 4, 4, 4 }, 4 }, { { 1, 2, 3, 4 }, { 1, 2, 3, 4 }, 2 },
      { { 1, 2, 3, 4, 5 }, { 5, 1, 4, 2, 3 }, 3 },
      { { 1, 2, 3 }, { 9 }, 0 }, { { 1, 2, 3 }, { 9, 8 }, 8 }, { { 2, 4, 6 }, { [2] = 1, [4] = 5, [6] = 9 }, 5 },
    }
    for _, case in ipairs(cases) do assert.equal(case[3], committed(case[1], nil, case[2])) end
  end)

  it("of a joint configuration is what both majorities have reached", function()
    local cases = {
      { { 1, 2, 3 }, { 4, 5, 6 }, { 9, 9, 9, 1, 2, 3 }, 2 }, { { 1, 2, 3 }, { 4, 5, 6 }, { 1, 2, 3, 9, 9, 9 }, 2 },
      { { 1, 2, 3 }, { 1, 2, 3 }, { 1, 2, 3 }, 2 }, { { 1 }, { 1, 2, 3 }, { 9, 4, 6 }, 6 },
      { { 1 }, { 2 }, { 9, 0 }, 0 },
      { { 1, 2 }, { 2, 3 }, { 5, 6, 7 }, 5 }, { { 1, 2, 3, 4 }, { 1 }, { 3, 9, 9, 9 }, 3 },
    }
    for _, case in ipairs(cases) do assert.equal(case[4], committed(case[1], case[2], case[3])) end
  end)

  it("is, for all small configurations, the largest number that enough have reached", function()
    local function enough(voters, values, index)
      local count = 0
      for _, id in ipairs(voters) do
        if values[id] >= index then count = count + 1 end
      end
      return 2 * count > #voters
    end
    local lists = { { 1 }, { 1, 2 }, { 2, 3 }, { 1, 2, 3 }, { 2, 3, 4 }, { 1, 2, 3, 4 } }
    local checked = 0
    for pattern = 0, 3 ^ 4 - 1 do
      local values, rest = {}, pattern
      for id = 1, 4 do values[id], rest = rest % 3, rest // 3 end
      for _, voters in ipairs(lists) do
        for _, outgoing in ipairs(lists) do
          local expected = 0
          for index = 1, 2 do
            if enough(voters, values, index) and enough(outgoing, values, index) then expected = index end
          end
          assert(committed(voters, outgoing, values) == expected)
          checked = checked + 1
        end
      end
    end
    assert.equal(81 * 36, checked)
  end)
end)

describe("the tally of votes", function()
  it("of a simple configuration", function()
    local cases = {
      { { 1 }, { Y }, "won" }, { { 1 }, { N }, "lost" }, { { 1 }, {}, "pending" },
      { { 1, 2 }, { Y }, "pending" }, { { 1, 2 }, { Y, Y }, "won" }, { { 1, 2 }, { Y, N }, "lost" },
      { { 1, 2, 3 }, { Y, Y }, "won" }, { { 1, 2, 3 }, { Y, N }, "pending" }, { { 1, 2, 3 }, { N, N, nil }, "lost" },
      { { 1, 2, 3 }, { N, N, Y }, "lost" }, { { 1, 2, 3, 4 }, { Y, Y }, "pending" },
      { { 1, 2, 3, 4 }, { N, N }, "lost" }, { { 1, 2, 3, 4 }, { Y, Y, N, Y }, "won" },
      { { 1, 2, 3 }, { [7] = Y, [8] = Y }, "pending" },
    }
    for _, case in ipairs(cases) do assert.equal(case[3], tally(case[1], nil, case[2])) end
  end)

  it("of a joint configuration is won in both lists, and lost in either", function()
    local cases = {
      { { 1, 2, 3 }, { 4, 5, 6 }, { Y, Y, N, Y, Y, N }, "won" }, { { 1, 2, 3 }, { 4, 5, 6 }, { Y, Y, Y }, "pending" },
      { { 1, 2, 3 }, { 4, 5, 6 }, { Y, Y, Y, N, N }, "lost" }, { { 1, 2, 3 }, { 4, 5, 6 }, { N, N }, "lost" },
      { { 1, 2, 3 }, { 4, 5, 6 }, { nil, nil, nil, Y, Y, Y }, "pending" },
      { { 1, 2, 3 }, { 3, 4, 5 }, { Y, nil, Y, Y }, "won" }, { { 1 }, { 2 }, { Y, N }, "lost" },
    }
    for _, case in ipairs(cases) do assert.equal(case[4], tally(case[1], case[2], case[3])) end
  end)

  it("never lets two candidates win, whoever votes for whom", function()
    local voters, outgoing = { 1, 2, 3 }, { 2, 3, 4, 5 }
    for pattern = 0, 2 ^ 5 - 1 do
      local one, other = {}, {}
      for id = 1, 5 do
        one[id] = pattern >> (id - 1) & 1 == 1
        other[id] = not one[id]
      end
      assert(not (tally(voters, outgoing, one) == "won" and tally(voters, outgoing, other) == "won"))
    end
  end)
end)

it("a list of voters is not empty, sorted, and names each once", function()
  for _, voters in ipairs { {}, { 2, 1 }, { 1, 1 }, { 0 } } do
    assert.error_matches(function() committed(voters, nil, {}) end, "voters")
  end
end)
