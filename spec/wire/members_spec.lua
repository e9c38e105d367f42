local wire = require("raft.core").wire

local function invalid(list, text)
  local value, message, code = wire.members(list)
  assert.is_nil(value)
  assert.equal("invalid", code)
  assert.matches(text, message, 1, true)
end

describe("a list of members", function()
  it("has one form as text, in the order of ids", function()
    assert.equal("1=a:1 2=b:2 10=[::1]:7003", wire.members { { 10, "[::1]:7003" }, { 2, "b:2" }, { 1, "a:1" } })
    assert.equal("", wire.members {})
  end)

  it("is read back as it was", function()
    for _, list in ipairs { {}, { { 1, "a:1" } }, { { 1, "x=y:1" }, { 2, "b" }, { 1 << 62, ("h"):rep(255) } } } do
      assert.same(list, wire.members_parse(wire.members(list)))
    end
  end)

  it("refuses ids and addresses that are none, each with its reason", function()
    invalid({ { 0, "a:1" } }, "ids start at 1")
    invalid({ { 3, "a:1" }, { 3, "b:1" } }, "member 3 is there twice")
    invalid({ { 1, "" } }, "is empty")
    invalid({ { 1, ("h"):rep(256) } }, "longer than 255")
    invalid({ { 1, "a 1" } }, "holds a space")
    invalid({ { 1, "a\n1" } }, "control character")
  end)

  it("holds fifteen members and no more", function()
    local list = {}
    for i = 1, 15 do list[i] = { i, "h:" .. i } end
    assert.same(list, wire.members_parse(wire.members(list)))
    list[16] = { 16, "h:16" }
    invalid(list, "more than 15")
    local text = {}
    for i = 1, 16 do text[i] = i .. "=h:" .. i end
    local _, _, code = wire.members_parse(table.concat(text, " "))
    assert.equal("corrupt", code)
  end)

  it("is refused as text when there is no room for it, and fits to the byte", function()
    local list = { { 1, "a:1" }, { 2, "b:2" } }
    local text = wire.members(list)
    assert.equal(text, wire.members(list, #text + 1))
    for size = 1, #text do
      local value, message, code = wire.members(list, size)
      assert.is_nil(value)
      assert.equal("invalid", code)
      assert.matches("longer than " .. size - 1 .. " bytes", message, 1, true)
    end
  end)

  it("is refused when its text is damaged", function()
    for _, text in ipairs {
      "1", "1=", "=a", "x=a", "01=a", "0=a", "-1=a", " 1=a", "1=a ", "1=a  2=b", "1=a 1=b", "1=a 2",
      "18446744073709551616=a", "18446744073709551617=a", "1 =a", "1=\n", "1=" .. ("h"):rep(256), "1=a\t2=b",
    } do
      local value, message, code = wire.members_parse(text)
      assert.is_nil(value, text)
      assert.equal("corrupt", code)
      assert.is_true(#message > 0)
    end
  end)

  it("and the cluster's name give the cluster's id, in whatever order it was written", function()
    local id = wire.cluster_id({ { 1, "a:1" }, { 2, "b:2" } }, "bank")
    assert.equal(16, #id)
    assert.equal(id, wire.cluster_id({ { 2, "b:2" }, { 1, "a:1" } }, "bank"))
    local others = {
      wire.cluster_id({ { 1, "a:1" }, { 2, "b:2" } }, "shop"),
      wire.cluster_id({ { 1, "a:1" }, { 2, "b:3" } }, "bank"),
      wire.cluster_id({ { 1, "a:1" }, { 3, "b:2" } }, "bank"),
      wire.cluster_id({ { 1, "a:1" } }, "bank"),
      wire.cluster_id({}, "bank"),
    }
    for _, other in ipairs(others) do
      assert.not_equal(id:sub(1, 8), other:sub(1, 8))
      assert.not_equal(id:sub(9), other:sub(9))
    end
    assert.not_equal(id:sub(1, 8), id:sub(9))
  end)
end)
