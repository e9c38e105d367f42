local core = require "raft.core"
local lab = require "spec.lua.lab"
local raft = require "raft"

describe("raft.run", function()
  after_each(lab.clean)

  it("returns what main returns, nils included", function()
    assert.same({ 1, nil, 3, n = 3 }, table.pack(raft.run(function() return 1, nil, 3 end)))
    assert.same({ n = 0 }, table.pack(raft.run(function() end)))
  end)

  it("runs until raft.stop without a main", function()
    raft.after(0, raft.stop)
    assert.equal("stop", raft.run())
  end)

  it("returns stop, and closes what main holds, when main is stopped", function()
    local closed
    raft.after(0.01, raft.stop)
    local reason = raft.run(function()
      local held <close> = setmetatable({}, { __close = function() closed = true end })
      raft.sleep(3600)
      return held
    end)
    assert.equal("stop", reason)
    assert.is_true(closed)
  end)

  it("raises errors of main with a traceback", function()
    local ok, message = pcall(raft.run, function() error("so not") end)
    assert.is_false(ok)
    assert.truthy(message:find("so not", 1, true))
    assert.truthy(message:find("stack traceback", 1, true))
  end)

  it("raises errors of coroutines, closing what they and main hold", function()
    local closed = {}
    local function held(name) return setmetatable({}, { __close = function() closed[#closed + 1] = name end }) end
    local ok, message = pcall(raft.run, function()
      local a <close> = held "main"
      raft.go(function()
        local b <close> = held "coroutine"
        raft.sleep(0.001)
        error("from the coroutine", b and 1)
      end)
      raft.sleep(3600)
      return a
    end)
    assert.is_false(ok)
    assert.truthy(message:find("from the coroutine", 1, true))
    assert.same({ "coroutine", "main" }, closed)
  end)

  it("raises error objects as they are", function()
    local object = {}
    local ok, err = pcall(raft.run, function() error(object) end)
    assert.is_false(ok)
    assert.equal(object, err)
  end)

  it("raises errors of callbacks", function()
    raft.after(0, function() error("late") end)
    local ok, message = pcall(raft.run)
    assert.is_false(ok)
    assert.truthy(message:find("late", 1, true))
  end)

  it("works again after an error", function()
    pcall(raft.run, function() error("once") end)
    assert.equal(2, raft.run(function() return 2 end))
  end)

  it("raises when it runs already", lab.run(function()
    local ok, message = pcall(raft.run, function() end)
    assert.is_false(ok)
    assert.truthy(message:find("raft.run is already running", 1, true))
  end))

  it("raises for what is no function", function()
    assert.has_error(function() raft.run(5) end)
    assert.has_error(function() raft.go(5) end)
    assert.has_error(function() raft.after(1, 5) end)
    assert.has_error(function() raft.after(-1, print) end)
    assert.has_error(function() raft.sleep("1") end)
    assert.has_error(function() raft.attach({}) end)
  end)
end)

describe("coroutines of raft.go", function()
  it("get their arguments, exactly", lab.run(function()
    local got
    raft.go(function(...) got = table.pack(...) end, 1, nil, 3, nil, 5, nil)
    raft.sleep(0)
    assert.same({ 1, nil, 3, nil, 5, nil, n = 6 }, got)
  end))

  it("wake in the order of their times, equal times in the order in which they were set", lab.run(function()
    local order, open = {}, 40
    for i = 1, 20 do
      local delay, sleeper = (i * 7 % 20) / 1000, {}
      raft.go(function()
        sleeper.least = core.now() + delay
        raft.sleep(delay)
        order[#order + 1] = sleeper
        open = open - 1
      end)
      raft.go(function()
        sleeper.most = core.now() + delay   -- until when it sleeps: between the two, however busy the machine is
        raft.sleep(0)
        open = open - 1
      end)
    end
    while open > 0 do raft.sleep(0.005) end
    for i = 2, #order do assert.is_true(order[i - 1].least <= order[i].most) end
    assert.equal(20, #order)
  end))

  it("never wake before their time", lab.run(function()
    for _, s in ipairs { 0, 0.001, 0.0105, 0.05 } do
      local start = core.now()
      raft.sleep(s)
      assert.is_true(core.now() - start >= s)
    end
  end))

  it("may not yield by themselves: nobody would resume them", function()
    local ok, message = pcall(raft.run, function()
      raft.go(coroutine.yield)
      raft.sleep(3600)
    end)
    assert.is_false(ok)
    assert.truthy(message:find("coroutine.yield", 1, true))
  end)

  it("may be closed while they wait, or before they began: nobody resumes them any more", lab.run(function()
    local went_on, waits, begins = {}, nil, nil
    raft.go(function()
      waits = coroutine.running()
      raft.sleep(0.02)
      went_on[#went_on + 1] = "slept"
    end)
    raft.sleep(0)
    assert.equal("suspended", coroutine.status(waits))
    assert.True(coroutine.close(waits))
    raft.go(function()
      begins = coroutine.running()
      raft.sleep(0)
      went_on[#went_on + 1] = "woke"
    end)
    raft.go(function() coroutine.close(begins) end) -- it is in line already
    raft.sleep(0.05)
    assert.same({}, went_on)
  end))

  it("may wait inside pcall, iterators and metamethods", lab.run(function()
    local t = setmetatable({}, { __index = function() raft.sleep(0) return 5 end })
    assert.is_true(pcall(raft.sleep, 0))
    assert.equal(5, t.x)
    for _ in function(_, n) raft.sleep(0) return not n or nil end do t.y = 1 end
  end))

  it("are told when they wait through something that cannot yield", lab.run(function()
    local ok, message = pcall(table.sort, { 2, 1 }, function() raft.sleep(0) end)
    assert.is_false(ok)
    assert.truthy(message:find("cannot yield", 1, true))
  end))
end)

describe("waiting elsewhere", function()
  it("works in the main chunk, where other coroutines go on meanwhile", function()
    local ticks = 0
    raft.go(function()
      for _ = 1, 3 do
        raft.sleep(0.001)
        ticks = ticks + 1
      end
    end)
    for _ = 1, 1000 do
      if ticks < 3 then raft.sleep(0.005) end
    end
    assert.equal(3, ticks)
  end)

  it("raises in a coroutine that is not the loop's", lab.run(function()
    local ok, message = coroutine.resume(coroutine.create(function() raft.sleep(0) end))
    assert.is_false(ok)
    assert.truthy(message:find("raft.sleep cannot wait in a coroutine that raft.go did not start", 1, true))
    assert.truthy(message:find("loop_spec.lua", 1, true))
  end))

  it("raises in a callback", lab.run(function()
    local ok, message
    raft.after(0, function() ok, message = pcall(raft.sleep, 0) end)
    raft.sleep(0.01)
    assert.is_false(ok)
    assert.truthy(message:find("inside a callback", 1, true))
  end))
end)

describe("a loop that sleeps", function()
  it("lets the engine of its only node use the thread meanwhile, and none of two", lab.run(function()
    local poll, slept = core.poll, {}
    local restore <close> = setmetatable({}, { __close = function() core.poll = poll end })   -- luacheck: ignore
    core.poll = function(timeout, node)   -- luacheck: ignore
      if timeout ~= 0 then slept[#slept + 1] = node or "nobody" end
      return poll(timeout, node)
    end
    local node <close> = lab.node {}
    for i = 1, 200 do assert.equal(i, (node:propose { key = "x", value = i })) end
    assert.equal(node.core, slept[#slept])
    local other <close> = lab.node {}
    slept = {}
    for i = 1, 10 do assert.equal(i, (other:propose { key = "x", value = i })) end
    assert.equal("nobody", slept[#slept])
  end))
end)

describe("another event loop", function()
  it("may drive this one by its descriptor, timeout and step", function()
    local woken
    raft.go(function()
      raft.sleep(0.01)
      woken = true
    end)
    assert.equal("r", raft:events())
    assert.equal("integer", math.type(raft:pollfd()))
    assert.equal(0, raft:timeout())
    raft:step()
    local timeout = raft.timeout()
    assert.is_true(timeout > 0 and timeout <= 0.01)
    while not woken do
      core.poll(raft.timeout())
      raft:step()
    end
  end)

  it("gets the errors from step", function()
    raft.go(error, "inside")
    local ok, message = pcall(raft.step)
    assert.is_false(ok)
    assert.truthy(message:find("inside", 1, true))
  end)

  it("cannot be driven from inside itself", lab.run(function()
    assert.is_false(pcall(raft.step))
  end))
end)
