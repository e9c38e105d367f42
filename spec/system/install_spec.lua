-- The two ways to install. They compile with their own flags: once, under the plain build, is enough.
if (os.getenv("RAFT_BUILD") or "plain") ~= "plain" then return end

local process = require "spec.system.process"
local uv = require "luv"

describe("an installed raft", function()
  local dir

  before_each(function() dir = process.directory() end)
  after_each(function()
    process.clean()
    process.remove(dir)
  end)

  ---What the interpreter says that runs in the root directory and knows only the places given.
  local function version(lua_path, lua_cpath)
    return process.run { "env", "-u", "LD_PRELOAD", "LUA_PATH=" .. lua_path, "LUA_CPATH=" .. lua_cpath, "lua5.4", "-e",
      "print(require('raft')._VERSION)", cwd = "/" }
  end

  it("by LuaRocks is found from anywhere", function()
    local copy, tree = dir .. "/checkout", dir .. "/tree"
    assert(uv.fs_mkdir(copy, 448))
    assert(os.execute(("cp -r csrc lua rockspec README.md LICENSE '%s'"):format(copy)))
    local text, code = process.run { "luarocks", "--lua-version=5.4", "--tree=" .. tree, "make", cwd = copy }
    assert.equal(0, code, text)
    text, code = version(tree .. "/share/lua/5.4/?.lua;" .. tree .. "/share/lua/5.4/?/init.lua",
      tree .. "/lib/lua/5.4/?.so")
    assert.equal(0, code, text)
    assert.truthy(text:find("^raft %S+\n$"), text)
    text, code = process.run { "env", "-u", "LD_PRELOAD", "-u", "LUA_PATH", "-u", "LUA_CPATH", tree .. "/bin/raft",
      "inspect", "/no/such/directory", cwd = "/" }
    assert.same({ "cannot look at /no/such/directory: no such file or directory\n", 1 }, { text, code })
  end)

  it("by make install is found from anywhere", function()
    local text, code = process.run { "make", "install", "PREFIX=/usr", "DESTDIR=" .. dir }
    assert.equal(0, code, text)
    local usr = dir .. "/usr"
    text, code = version(usr .. "/share/lua/5.4/?.lua;" .. usr .. "/share/lua/5.4/?/init.lua",
      usr .. "/lib/lua/5.4/?.so")
    assert.equal(0, code, text)
    assert.truthy(text:find("^raft %S+\n$"), text)
    text, code = process.run { "env", "-u", "LD_PRELOAD", "LUA_PATH=" .. usr .. "/share/lua/5.4/?.lua",
      "LUA_CPATH=" .. usr .. "/lib/lua/5.4/?.so", usr .. "/bin/raft", "inspect", "/no/such/directory", cwd = "/" }
    assert.same({ "cannot look at /no/such/directory: no such file or directory\n", 1 }, { text, code })
  end)
end)
