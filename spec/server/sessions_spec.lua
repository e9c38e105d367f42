local core = require "raft.core"

describe("the session table", function()
  local sessions
  before_each(function() sessions = core.sessions() end)

  it("lets each sequence of a session in once", function()
    assert.equal("new", sessions:admit(1, 10, 1, 1))
    assert.equal("duplicate", sessions:admit(1, 10, 1, 1))
    assert.equal("new", sessions:admit(1, 10, 2, 1))
    assert.equal("duplicate", sessions:admit(1, 10, 1, 1))
    assert.equal("duplicate", sessions:admit(1, 10, 2, 2))
  end)

  it("takes sequences in any order", function()
    for _, sequence in ipairs { 5, 3, 4, 1, 2 } do assert.equal("new", sessions:admit(1, 10, sequence, 1)) end
    for sequence = 1, 5 do assert.equal("duplicate", sessions:admit(1, 10, sequence, 1)) end
  end)

  it("keeps sessions of different members apart", function()
    assert.equal("new", sessions:admit(2, 10, 1, 1))
    assert.equal("new", sessions:admit(1, 10, 1, 1))
    assert.equal("new", sessions:admit(3, 10, 1, 1))
    assert.equal("duplicate", sessions:admit(2, 10, 1, 1))
  end)

  it("fences an earlier life of a member once a later one has spoken", function()
    assert.equal("new", sessions:admit(1, 10, 1, 1))
    assert.equal("new", sessions:admit(1, 11, 1, 1))
    assert.equal("fenced", sessions:admit(1, 10, 2, 1))
    assert.equal("fenced", sessions:admit(1, 10, 1, 1))
    assert.equal("duplicate", sessions:admit(1, 11, 1, 1))
  end)

  it("holds what its proposer has given up as settled: a late copy is not applied", function()
    assert.equal("new", sessions:admit(1, 10, 5, 5)) -- 1..4 are awaited no longer
    for sequence = 1, 4 do assert.equal("duplicate", sessions:admit(1, 10, sequence, 1)) end
  end)

  it("remembers exactly, over many times its window", function()
    local window = 65536
    for sequence = 1, 3 * window, 977 do
      local lowest = math.max(1, sequence - 1000)
      assert.equal("new", sessions:admit(1, 10, sequence, lowest))
      assert.equal("duplicate", sessions:admit(1, 10, sequence, lowest))
    end
  end)

  it("forgets no bit and invents none when the lowest awaited sequence moves on", function()
    assert.equal("new", sessions:admit(1, 10, 100, 1))
    assert.equal("new", sessions:admit(1, 10, 164, 90))    -- 100 is still above the lowest
    assert.equal("duplicate", sessions:admit(1, 10, 100, 90))
    assert.equal("new", sessions:admit(1, 10, 100 + 65536, 165)) -- the same bit as 100, in the next round
    assert.equal("new", sessions:admit(1, 10, 165, 165))
  end)

  it("refuses a sequence beyond its window, instead of taking it for another", function()
    assert.equal("new", sessions:admit(1, 10, 1, 1))
    assert.equal("fenced", sessions:admit(1, 10, 1 + 65536, 1))
    assert.equal("new", sessions:admit(1, 10, 65536, 1))
  end)

  it("tells what it has let in, without changing anything", function()
    sessions:admit(1, 10, 7, 3)
    for _ = 1, 2 do
      assert.is_true(sessions:has(1, 10, 7))
      assert.is_true(sessions:has(1, 10, 2))     -- given up
      assert.is_false(sessions:has(1, 10, 6))
      assert.is_false(sessions:has(1, 11, 7))
      assert.is_false(sessions:has(2, 10, 7))
      assert.is_false(sessions:has(1, 10, 3 + 65536))
    end
    assert.equal("new", sessions:admit(1, 10, 6, 3))
  end)

  describe("in a snapshot", function()
    it("is the same table again", function()
      for sequence = 1, 70000, 3 do sessions:admit(5, 10, sequence, math.max(1, sequence - 900)) end
      sessions:admit(2, 11, 1, 1)
      sessions:admit(9, 12, 65536, 1)
      local bytes = sessions:write()
      local copy = core.sessions()
      assert.equal(#bytes, copy:read(bytes))
      assert.equal(bytes, copy:write())
      for _, sequence in ipairs { 69100, 69101, 69997, 69998, 70001 } do
        assert.equal(sessions:admit(5, 10, sequence, 69100), copy:admit(5, 10, sequence, 69100))
      end
      assert.equal("duplicate", copy:admit(2, 11, 1, 1))
      assert.equal("duplicate", copy:admit(9, 12, 65536, 1))
    end)

    it("is refused when it is cut off or out of order, and leaves the table empty", function()
      sessions:admit(1, 10, 1, 1)
      sessions:admit(2, 10, 1, 1)
      local bytes = sessions:write()
      for size = 0, #bytes - 1 do
        local copy = core.sessions()
        local read, _, code = copy:read(bytes:sub(1, size))
        assert.same({ nil, "corrupt" }, { read, code })
        assert.equal("new", copy:admit(1, 10, 1, 1))
      end
      local one = (#bytes - 4) // 2
      local swapped = bytes:sub(1, 4) .. bytes:sub(5 + one) .. bytes:sub(5, 4 + one)
      assert.equal("corrupt", (select(3, core.sessions():read(swapped))))
    end)
  end)
end)
