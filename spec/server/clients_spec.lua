local core = require "raft.core"

local HOUR = 3600 * 1000000

describe("the table of clients", function()
  local clients
  before_each(function() clients = core.clients() end)

  it("answers the last command once more with its first result", function()
    clients:open(7, 0)
    assert.equal("new", clients:command(7, 1, 10, "first"))
    assert.same({ "repeat", "first" }, { clients:command(7, 1, 20, "second") })
    assert.equal("new", clients:command(7, 2, 30, "third"))
    assert.same({ "repeat", "third" }, { clients:command(7, 2, 40, "") })
  end)

  it("keeps an empty result as a result", function()
    clients:open(7, 0)
    clients:command(7, 1, 10, "")
    assert.same({ "repeat", "" }, { clients:command(7, 1, 20, "x") })
  end)

  it("cannot tell what became of a command before the last one", function()
    clients:open(7, 0)
    clients:command(7, 5, 10, "five")
    assert.same({ "expired" }, { clients:command(7, 4, 10, "four") })
    assert.same({ "expired" }, { clients:command(7, 0, 10, "none") })
    assert.same({ "repeat", "five" }, { clients:command(7, 5, 10, "") })
  end)

  it("knows no session that was not opened", function()
    assert.same({ "expired" }, { clients:command(7, 1, 0, "") })
  end)

  it("ends a session that was idle for an hour by the leader's clock, and no other", function()
    clients:open(1, 0)
    clients:open(2, 0)
    clients:command(1, 1, HOUR - 1, "late")
    assert.same({ "repeat", "late" }, { clients:command(1, 1, HOUR, "") })
    assert.equal(1, clients:count())
    assert.same({ "expired" }, { clients:command(2, 1, HOUR, "") })
    assert.same({ "expired" }, { clients:command(1, 1, 2 * HOUR, "") })
    assert.equal(0, clients:count())
  end)

  it("makes room by ending the session that was idle for longest", function()
    local most = 16384
    for id = 1, most do clients:open(id, id) end
    clients:command(1, 1, most, "used")
    clients:open(most + 1, most + 1)
    assert.equal(most, clients:count())
    assert.same({ "expired" }, { clients:command(2, 1, most + 1, "") })
    assert.same({ "repeat", "used" }, { clients:command(1, 1, most + 1, "") })
  end)

  it("remembers that a command was applied whose result is too large to be kept", function()
    clients:open(7, 0)
    clients:command(7, 1, 0, ("x"):rep(65537))
    assert.same({ "repeat" }, { clients:command(7, 1, 0, "") })
    clients:command(7, 2, 0, ("x"):rep(65536))
    assert.same({ "repeat", ("x"):rep(65536) }, { clients:command(7, 2, 0, "") })
  end)

  it("makes room for results by ending the sessions that were idle for longest", function()
    local most, large = 1024, ("x"):rep(65536)   -- 64 MiB
    for id = 1, most + 1 do clients:open(id, id) end
    for id = 1, most do clients:command(id, 1, most + id, large) end
    assert.equal(most + 1, clients:count())
    clients:command(most + 1, 1, 2 * most + 1, "x")
    assert.equal(most, clients:count())
    assert.same({ "expired" }, { clients:command(1, 1, 2 * most + 1, "") })
    assert.same({ "repeat", "x" }, { clients:command(most + 1, 1, 2 * most + 1, "") })
    clients:command(2, 2, 2 * most + 2, "in the place of a large one")
    clients:command(most + 1, 2, 2 * most + 2, large:sub(100))
    assert.equal(most, clients:count())
  end)

  describe("in a snapshot", function()
    local function fill()
      for _, id in ipairs { 3, 8, 9, 20 } do clients:open(id, id) end
      clients:command(8, 1, 30, "eight")
      clients:command(3, 4, 31, ("x"):rep(70000))
      clients:command(20, 2, 32, "")
      return clients:write()
    end

    it("is the same table again, in the same order of use", function()
      local bytes = fill()
      local copy = core.clients()
      assert.equal(#bytes, copy:read(bytes))
      assert.equal(bytes, copy:write())
      for _, c in ipairs { clients, copy } do
        assert.same({ "repeat", "eight" }, { c:command(8, 1, 40, "") })
        assert.same({ "repeat" }, { c:command(3, 4, 41, "") })
        assert.same({ "repeat", "" }, { c:command(20, 2, 42, "") })
        assert.same({ "expired" }, { c:command(9, 1, HOUR + 9, "") })
        assert.equal(3, c:count())
      end
      assert.equal(clients:write(), copy:write())
    end)

    it("is refused when it is cut off, and leaves the table empty", function()
      local bytes = fill()
      for size = 0, #bytes - 1 do
        local copy = core.clients()
        assert.equal("corrupt", (select(3, copy:read(bytes:sub(1, size)))))
        assert.equal(0, copy:count())
      end
    end)

    it("is refused with a session that is there twice", function()
      clients:open(1, 0)
      local bytes = clients:write()
      local copy = core.clients()
      assert.equal("corrupt", (select(3, copy:read("\2" .. bytes:sub(2) .. bytes:sub(5)))))
    end)
  end)
end)
