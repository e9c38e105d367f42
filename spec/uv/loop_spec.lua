-- The pollable descriptor of a Lua state, its clock and its signals.
local core = require "raft.core"

local library = assert(package.searchpath("raft.core", package.cpath))

---Runs Lua in a process of its own; returns its output and how it ended.
local function run(code)
  local preload = os.getenv("RAFT_PRELOAD")
  local path = os.tmpname()
  local script = assert(io.open(path, "w"))
  script:write(('local core = package.loadlib(%q, "luaopen_raft_core")()\n'):format(library), code)
  script:close()
  local before = preload and "LD_PRELOAD='" .. preload .. "' exec" or "exec"
  local pipe = assert(io.popen(("%s lua5.4 %s 2>&1"):format(before, path)))
  local text = pipe:read("a")
  local _, how, number = pipe:close()
  os.remove(path)
  return text, how, number
end

local function kill(name) io.popen("kill -" .. name .. " $PPID"):close() end

describe("the loop's descriptor", function()
  it("is one for the whole state", function()
    assert.equal("integer", math.type(core.fd()))
    assert.equal(core.fd(), core.fd())
  end)

  it("is not readable when nothing happened, and waits at least as long as it is told", function()
    while core.poll(0) do end
    local start = core.now()
    assert.is_false(core.poll(0.02))
    assert.truthy(core.now() - start >= 0.02)
  end)

  it("refuses a negative timeout and one that is no number", function()
    assert.has_error(function() core.poll(-1) end)
    assert.has_error(function() core.poll("soon") end)
  end)
end)

describe("signals", function()
  after_each(function()
    core.signals(false)
    core.signal()
  end)

  it("make the descriptor readable, once, and are told by name, once", function()
    core.signals(true)
    for _, name in ipairs({ "INT", "TERM" }) do
      kill(name)
      while not core.poll(5) do end
      assert.is_false(core.poll(0))
      assert.equal("SIG" .. name, core.signal())
      assert.is_nil(core.signal())
    end
  end)

  it("come through while the state waits", function()
    core.signals(true)
    local later = io.popen("sleep 0.1; kill -TERM $PPID")
    while not core.poll(nil) do end
    assert.equal("SIGTERM", core.signal())
    later:close()
  end)

  it("end the process when a second one comes before the first was taken", function()
    local text, how, number = run([[
      core.signals(true)
      io.popen("kill -TERM $PPID"):close()
      print("still here")
      io.stdout:flush()
      io.popen("kill -TERM $PPID"):close()
      print("not here")
    ]])
    assert.equal("still here\n", text)
    assert.equal("signal", how)
    assert.equal(15, number)
  end)

  it("go to the handlers of before when they are given back", function()
    local text = run([[
      core.signals(true)
      core.signals(true)
      core.signals(false)
      core.signals(false)
      pcall(function()
        io.popen("kill -INT $PPID"):close()
        for _ = 1, 1e8 do end
        print("not here")
      end)
      print(core.signal())
    ]])
    assert.equal("nil\n", text)
  end)

  it("go to the handlers of before when the state ends", function()
    -- What was made first is finalized last.
    local _, how, number = run([[
      KEPT = setmetatable({}, { __gc = function() io.popen("kill -TERM $PPID"):close() end })
      core.signals(true)
    ]])
    assert.equal("signal", how)
    assert.equal(15, number)
  end)
end)

describe("a free address", function()
  it("is one that can be listened on", function()
    local w = core.world("real")
    local address = core.free_address()
    assert.truthy(address:find("^127%.0%.0%.1:%d+$"))
    assert(w:listen(address))
    w:stop()
  end)
end)
