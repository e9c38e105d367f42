local tree = require "spec.tree"

describe("the rockspec", function()
  local path = "rockspec/raft-scm-1.rockspec"
  local rockspec = {}
  assert(loadfile(path, "t", rockspec))()
  local modules = rockspec.build.modules

  it("compiles every C file of the tree, and no other", function()
    local listed = { table.unpack(modules["raft.core"].sources) }
    table.sort(listed)
    assert.same(tree.files("csrc/*/*.c"), listed)
  end)

  it("installs every Lua file of the tree under the name that require knows it by, and no other", function()
    local listed, expected = {}, {}
    for name, file in pairs(modules) do
      if type(file) == "string" then listed[file] = name end
    end
    for _, file in ipairs(tree.files("lua/raft/*.lua")) do
      expected[file] = file:gsub("^lua/", ""):gsub("/init%.lua$", ""):gsub("%.lua$", ""):gsub("/", ".")
    end
    assert.same(expected, listed)
  end)

  it("links what the Makefile links", function()
    local uses_mpack = false
    for _, file in ipairs(tree.files("csrc/lua/*.c")) do
      uses_mpack = uses_mpack or tree.read(file):find('mpack.h', 1, true) ~= nil
    end
    local libraries = table.concat(modules["raft.core"].libraries, " ")
    assert.equal(uses_mpack and "uv mpack" or "uv", libraries)
    assert.same({ "_GNU_SOURCE" }, modules["raft.core"].defines)
  end)

  it("has the version of LuaRocks' rules for sources from the checkout", function()
    assert.equal("scm-1", rockspec.version)
    assert.truthy(path:find(rockspec.package .. "-" .. rockspec.version, 1, true))
  end)
end)
