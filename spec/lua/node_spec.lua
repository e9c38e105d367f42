local core = require "raft.core"
local lab = require "spec.lua.lab"
local raft = require "raft"

describe("a node that is the only member", function()
  after_each(lab.clean)

  it("leads without waiting for an election timeout, and again after a restart", lab.run(function()
    local dir = lab.dir()
    for life = 1, 2 do
      local node <close> = lab.node { dir = dir, election_timeout = 60, heartbeat = 1 }
      assert.equal(1, node:wait("leader", 30)) -- less than an election timeout
      assert.equal(life, (node:propose { key = "x", value = life }))
    end
  end))
end)

describe("what is proposed", function()
  after_each(lab.clean)

  ---Entries of each batch in a directory's log that has commands in it.
  local function batches(dir)
    local list = {}
    assert(core.inspect(dir, { visit = function(kind, what)
      if kind == "batch" and what.count > 3 then list[#list + 1] = what.count end
    end }))
    return list
  end

  -- But for times at which the engine is awake for another reason, and takes what is there by then.
  it("by many coroutines in one turn of the loop is one batch of the log", function()
    local dir = lab.dir()
    lab.run(function()
      local node <close> = lab.node { dir = dir }
      node:propose { key = "x", value = 0 }
      for _ = 1, 20 do
        local done = 0
        for i = 1, 100 do
          raft.go(function()
            node:propose { key = "x", value = i }
            done = done + 1
          end)
        end
        while done < 100 do raft.sleep(0.01) end
      end
    end)()
    local list = batches(dir)
    table.sort(list)
    assert.equal(100, list[#list])
  end)

  it("by many callbacks of luv is one batch too", function()
    local output = lab.child [[
      local uv = require "luv"
      raft.attach(uv)
      local list = {}
      raft.run(function()
        local o = options()
        local node = assert(raft.node(o))
        node:propose "first"
        for _ = 1, 20 do   -- as above: the engine may be awake just then
          local left = 50
          for i = 1, 50 do
            local timer = uv.new_timer()
            timer:start(20, 0, function()
              timer:close()
              node:propose(i, function() left = left - 1 end)
            end)
          end
          while left > 0 do raft.sleep(0.01) end
        end
        node:close()
        assert(require "raft.core".inspect(o.dir, { visit = function(kind, what)
          if kind == "batch" and what.count == 50 then list[#list + 1] = what.count end
        end }))
      end)
      print(#list)
    ]]
    assert.is_true(tonumber(output) >= 3, output)
  end)
end)

describe("a machine", function()
  after_each(lab.clean)

  it("may be a prototype: each node gets a fresh instance, which init prepares", lab.run(function()
    local machine = lab.machine()
    local a <close> = lab.node { machine = machine }
    local b <close> = lab.node { machine = machine }
    a:propose { key = "x", value = 1 }
    assert.equal(1, a:read(function(m) return m.data.x end))
    assert.is_nil(b:read(function(m) return m.data.x end))
    assert.is_nil(machine.data)
  end))

  it("may be a function returning a fresh instance", lab.run(function()
    local made = 0
    local node <close> = lab.node { machine = function()
      made = made + 1
      return { apply = function(self, cmd) return cmd, self.ready end, init = function(self) self.ready = "init" end }
    end }
    assert.same({ 5, "init" }, { node:propose(5) })
    assert.equal(1, made)
  end))

  it("may be the name of a module", lab.run(function()
    package.loaded["spec.lua.some_machine"] = { apply = function(_, cmd) return "module", cmd end }
    finally(function() package.loaded["spec.lua.some_machine"] = nil end)
    local node <close> = lab.node { machine = "spec.lua.some_machine" }
    assert.same({ "module", 1 }, { node:propose(1) })
  end))

  it("gets every kind of value back as it was proposed", lab.run(function()
    local node <close> = lab.node { machine = { apply = function(_, cmd) return { cmd } end } }
    for _, value in ipairs { true, false, 0, -1, math.maxinteger, math.mininteger, 1.0, 0.1, -0.0, math.huge,
      "", "a\0b", ("x"):rep(31), ("x"):rep(32), ("x"):rep(255), ("x"):rep(256), ("x"):rep(65535), ("x"):rep(65536),
      {}, { 1, 2, { 3 } }, { a = { b = { c = true } }, [7] = "seven", [1.5] = 2 } } do
      local got = node:propose(value)[1]
      assert.same(value, got)
      assert.equal(math.type(value), math.type(got))
    end
    assert.is_nil(node:propose(nil)[1])
  end))

  it("gets a copy of the command, also where it was proposed", lab.run(function()
    local node <close> = lab.node()
    local cmd = { key = "x", value = { 1 } }
    local value = node:propose(cmd)
    assert.same({ 1 }, value)
    assert.not_equal(cmd.value, value)
  end))

  it("gives each caller its own answer, whoever calls in whatever order", lab.run(function()
    local node <close> = lab.node { machine = { apply = function(_, cmd)
      local kind = cmd % 4
      if kind == 0 then return nil end
      if kind == 1 then return nil, cmd end
      if kind == 2 then return cmd end
      return cmd, false
    end } }
    local wanted = {
      [0] = function() return { nil, n = 1 } end, function(i) return { nil, i, n = 2 } end,
      function(i) return { i, n = 1 } end, function(i) return { i, false, n = 2 } end,
    }
    local seed, open = 12345, 0
    for round = 1, 20 do
      for i = 1, 40 do
        local number = round * 100 + i
        local function check(...)
          assert.same(wanted[number % 4](number), table.pack(...))
          open = open - 1
        end
        seed, open = (seed * 1103515245 + 12345) & 0x7fffffff, open + 1
        local how = seed >> 16 & 3
        if how == 0 then node:propose(number, check) end
        if how == 1 then node:propose(number, { timeout = 60 }, check) end
        if how == 2 then raft.go(function() check(node:propose(number)) end) end
        if how == 3 then raft.go(function() check(node:propose(number, { timeout = 60 })) end) end
      end
      if round % 3 == 0 then raft.sleep(0.001) end
    end
    while open > 0 do raft.sleep(0.001) end
  end))

  -- The string that a coroutine holds while it waits is taken for its command, if it is the same.
  it("gets what was proposed, whatever a debugger does to the coroutine that waits", lab.run(function()
    local node <close> = lab.node()
    for _, other in ipairs { ("y"):rep(100), ("x"):rep(99), 5, false } do
      local co, answer, replaced
      raft.go(function()
        co = coroutine.running()
        answer = node:propose(("x"):rep(100))
      end)
      raft.go(function() replaced = debug.setlocal(co, 0, 2, other) end)   -- in the same turn: it is not applied yet
      while not answer do raft.sleep(0.001) end
      assert.truthy(replaced)
      assert.equal(("x"):rep(100), answer)
    end
  end))

  it("is told ascending indexes and a time that never falls", lab.run(function()
    local seen = {}
    local node <close> = lab.node { machine = { apply = function(_, _, index, time)
      seen[#seen + 1] = { index, time }
    end } }
    local before = os.time()
    for i = 1, 20 do node:propose(i) end
    assert.equal(20, #seen)
    for i = 2, 20 do
      assert.equal(seen[i - 1][1] + 1, seen[i][1])
      assert.is_true(seen[i - 1][2] <= seen[i][2])
    end
    assert.is_true(math.abs(seen[1][2] - before) < 60)
  end))

  it("is built again from the log at a restart", lab.run(function()
    local options = lab.options()
    do
      local node <close> = assert(raft.node(options))
      for i = 1, 50 do node:propose { key = i, value = i * i } end
    end
    local node <close> = assert(raft.node(options))
    assert.equal(50, node:read(function(m) return m.count end))
    assert.equal(49, node:read(function(m) return m.data[7] end))
  end))
end)

describe("an apply that raises", function()
  after_each(lab.clean)

  local replies = {
    ["raise"] = function() error("not that") end,
    ["raise a table"] = function() error { code = 5 } end,
    ["yield"] = function() coroutine.yield() end,
    ["overflow"] = function() local function f() return 1 + f() end return f() end,
    ["memory"] = function() error("not enough memory", 0) end,   -- Lua takes this for the real thing
  }

  it("is told to the proposer and counts as applied", lab.run(function()
    local node <close> = lab.node { machine = lab.machine(replies) }
    local before = node:barrier()
    local value, message, code = node:propose "raise"
    assert.is_nil(value)
    assert.truthy(message:find("not that", 1, true))
    assert.equal("apply", code)
    assert.is_true(node:status().applied > before)
    assert.equal(1, node:read(function(m) return m.count end))
    assert.equal("on", node:propose "on")
  end))

  it("emits apply_error with a traceback", lab.run(function()
    local node <close> = lab.node { machine = lab.machine(replies) }
    local got
    node:on("apply_error", function(data) got = data end)
    node:propose "raise"
    raft.sleep(0)
    assert.is_true(got.index > 0 and got.index <= node:status().applied)
    assert.truthy(got.message:find("not that", 1, true))
    assert.truthy(got.traceback:find("stack traceback", 1, true))
  end))

  it("may raise anything, and cannot yield", lab.run(function()
    local node <close> = lab.node { machine = lab.machine(replies) }
    for cmd, text in pairs { ["raise a table"] = "error object is a table", yield = "yield" } do
      local _, message, code = node:propose(cmd)
      assert.equal("apply", code)
      assert.truthy(message:find(text, 1, true), message)
    end
  end))

  it("halts the node with on_apply_error = \"halt\"", lab.run(function()
    local node <close> = lab.node { machine = lab.machine(replies), on_apply_error = "halt" }
    local fault
    node:on("fault", function(data) fault = data.message end)
    local _, _, code = node:propose "raise"
    assert.not_equal("yes", raft.outcome(code))
    assert.equal("fault", select(3, node:propose "on"))
    raft.sleep(0)
    assert.truthy(fault:find("not that", 1, true))
    assert.truthy(node:status().fault:find("not that", 1, true))
  end))

  -- Commands that follow one another are applied under one protected call.
  it("in the midst of others is told to its own proposer, and the others get their own results", lab.run(function()
    local node <close> = lab.node { machine = lab.machine { raise = replies.raise } }
    local answers, events, errors, left = {}, {}, 0, 300
    node:on("applied", function(data) events[#events + 1] = data.cmd end)
    node:on("apply_error", function() errors = errors + 1 end)
    local bad = { [1] = true, [100] = true, [101] = true, [299] = true, [300] = true }
    for i = 1, 300 do
      node:propose(bad[i] and "raise" or { key = i, value = i }, function(value, message, code)
        answers[i] = { value, code and message:find("not that", 1, true) ~= nil, code }
        left = left - 1
      end)
    end
    while left > 0 do raft.sleep(0.001) end
    raft.sleep(0)
    for i = 1, 300 do assert.same(bad[i] and { nil, true, "apply" } or { i }, answers[i]) end
    assert.equal(5, errors)
    assert.equal(295, #events)
    assert.equal(300, node:read(function(m) return m.count end))
    local index, now = node:read(function(m, index) return m.index, index end)
    assert.equal(index, now)
  end))

  it("in the midst of others halts the node right there with on_apply_error = \"halt\"", lab.run(function()
    local options = { machine = lab.machine(replies), dir = lab.dir() }
    local node = lab.node { machine = options.machine, dir = options.dir, on_apply_error = "halt" }
    local before, answers, left = assert(node:barrier()), {}, 200
    for i = 1, 200 do
      node:propose(i == 120 and "raise" or i, function(value, _, code)
        answers[i], left = code or value, left - 1
      end)
    end
    while left > 0 do raft.sleep(0.001) end
    for i = 1, 119 do assert.equal(i, answers[i]) end
    for i = 120, 200 do assert.not_equal("yes", raft.outcome(answers[i])) end
    assert.equal(before + 119, node:status().applied)
    node:close()
    local again <close> = lab.node(options)   -- which goes on after an error
    assert.is_true(again:read(function(m) return m.count end) >= 120)
  end))

  for _, cmd in ipairs { "overflow", "memory" } do
    it("halts the node when it runs out of " .. (cmd == "memory" and cmd or "stack"), lab.run(function()
      local node <close> = lab.node { machine = lab.machine(replies) }
      local reason
      node:on("closed", function(data) reason = data.reason end)
      local _, _, code = node:propose(cmd)
      assert.not_equal("apply", code)
      node:close()
      raft.sleep(0)
      assert.truthy(reason:find(cmd == "memory" and "not enough memory" or "stack overflow", 1, true), reason)
      assert.equal("fault", select(3, node:propose "on"))
    end))
  end
end)

describe("from inside apply", function()
  after_each(lab.clean)

  it("every waiting call raises, with or without a callback, on any node", lab.run(function()
    local node, other, errors
    local function try(_, call, ...)
      local ok, message = pcall(call, ...)
      errors[#errors + 1] = ok and "no error" or message
    end
    node = lab.node { machine = { apply = function(m)
      errors = {}
      for _, n in ipairs { node, other } do
        try(m, n.propose, n, 1)
        try(m, n.propose, n, 1, print)
        try(m, n.read, n, print)
        try(m, n.barrier, n)
        try(m, n.wait, n, "ready")
      end
      try(m, raft.sleep, 0)
      try(m, raft.run)
      try(m, raft.step)
    end } }
    local _ <close> = node
    other = lab.node()
    local _ <close> = other
    node:propose(1)
    assert.equal(13, #errors)
    for i = 1, 11 do assert.truthy(errors[i]:find("cannot wait inside apply", 1, true), errors[i]) end
    for i = 12, 13 do assert.not_equal("no error", errors[i]) end
  end))

  it("close only begins", lab.run(function()
    local node
    node = lab.node { machine = { apply = function() return node:close() end } }
    local _ <close> = node
    assert.is_true(node:propose(1))
    assert.is_true(node:close())
    assert.equal("closed", select(3, node:propose(2)))
  end))
end)

describe("the three calling styles", function()
  after_each(lab.clean)

  it("give the same in a coroutine, in the main chunk and by callback", function()
    local node <close> = lab.node()
    assert.same({ 1, n = 1 }, table.pack(node:propose { key = "a", value = 1 }))
    assert.same({ 2, 1 }, { node:propose { key = "a", value = 2 } })
    raft.run(function() assert.same({ 3, 2 }, { node:propose { key = "a", value = 3 } }) end)
    local got
    assert.equal(0, select("#", node:propose({ key = "a", value = 4 }, function(...) got = { ... } end)))
    assert.is_nil(got)
    raft.run(function() while not got do raft.sleep(0.001) end end)
    assert.same({ 4, 3 }, got)
  end)

  it("are there for each waiting call", lab.run(function()
    local open, node = 0, nil
    local function check(expected)
      open = open + 1
      return function(value)
        assert.same(expected, value)
        open = open - 1
      end
    end
    open = 1
    raft.node(lab.options(), function(n)
      node = n
      open = open - 1
    end)
    while open > 0 do raft.sleep(0.001) end
    node:propose({ key = "k", value = "v" }, { timeout = 60 }, check "v")
    node:wait("leader", check(1))
    node:wait("ready", 60, check(true))
    while open > 0 do raft.sleep(0.001) end
    node:read(function(m) return m.data.k end, check "v")
    node:barrier(function(index)
      assert.equal("integer", math.type(index))
      open = open - 1
    end)
    open = open + 1
    while open > 0 do raft.sleep(0.001) end
    node:close(check(true))
    while open > 0 do raft.sleep(0.001) end
  end))

  it("tell early failures through the callback as well", lab.run(function()
    local node <close> = lab.node { command_bytes = 100 }
    local code
    assert.equal(0, select("#", node:propose(("x"):rep(101), function(_, _, c) code = c end)))
    assert.is_nil(code)
    raft.sleep(0)
    assert.equal("too_large", code)
    assert.equal("too_large", select(3, node:propose(("x"):rep(101))))
    assert.equal(("x"):rep(90), node:propose(("x"):rep(90)))
  end))

  it("let errors of a callback reach raft.run", function()
    local ok, message = pcall(raft.run, function()
      local node <close> = lab.node()
      node:propose(1, function() error("in the callback") end)
      node:propose(2)
      raft.sleep(3600)
    end)
    assert.is_false(ok)
    assert.truthy(message:find("in the callback", 1, true))
  end)
end)

describe("many proposals at once", function()
  after_each(lab.clean)

  it("are each answered with their own result, in order a coroutine", lab.run(function()
    local node <close> = lab.node()
    local open = 50
    for c = 1, 50 do
      raft.go(function()
        for i = 1, 40 do
          local value, old = node:propose { key = c, value = i }
          assert.same({ i, i > 1 and i - 1 or nil }, { value, old })
        end
        open = open - 1
      end)
    end
    while open > 0 do raft.sleep(0.005) end
    assert.equal(2000, node:read(function(m) return m.count end))
    assert.equal(0, node:status().pending)
  end))

  it("are refused as busy beyond `pending`, and nothing of those is applied", lab.run(function()
    local node <close> = lab.node { pending = 8 }
    node:wait "ready"
    local codes, applied, open = {}, 0, 64
    for i = 1, 64 do
      node:propose(i, function(_, _, code)
        if code then codes[code] = (codes[code] or 0) + 1 else applied = applied + 1 end
        open = open - 1
      end)
    end
    while open > 0 do raft.sleep(0.001) end
    assert.is_true(codes.busy > 0 and applied >= 8)
    assert.equal(64, codes.busy + applied)
    assert.equal(applied, node:read(function(m) return m.count end))
  end))
end)

describe("reads and waits", function()
  after_each(lab.clean)

  it("see all that was acknowledged before, and the index they were made at", lab.run(function()
    local node <close> = lab.node()
    for i = 1, 20 do
      node:propose { key = "n", value = i }
      local value, index = node:read(function(m, index, time) return m.data.n, { index, time } end)
      assert.equal(i, value)
      assert.is_true(index[1] >= i and index[2] > 0)
    end
  end))

  it("share barriers", lab.run(function()
    local node <close> = lab.node()
    local first, open = node:barrier(), 100
    for _ = 1, 100 do
      raft.go(function()
        node:read(function() end)
        open = open - 1
      end)
    end
    while open > 0 do raft.sleep(0.001) end
    assert.is_true(node:barrier() - first < 50)
  end))

  it("tell what a reading function raised", lab.run(function()
    local node <close> = lab.node()
    local value, message, code = node:read(function() error("no such thing") end)
    assert.is_nil(value)
    assert.equal("query", code)
    assert.truthy(message:find("no such thing", 1, true))
    assert.equal("query", select(3, node:wait(function() error("nor this") end)))
    assert.equal("query", select(3, node:read(function() node:propose(1) end)))
    assert.equal(5, node:read(function() return 5 end))
  end))

  it("wait for a leader, for readiness, for any condition", lab.run(function()
    local node <close> = lab.node()
    assert.equal(1, node:wait "leader")
    assert.is_true(node:wait("ready", 60))
    raft.go(function() for i = 1, 3 do node:propose(i) end end)
    assert.equal(4, node:wait(function(status) return status.applied >= 4 and status.applied end))
  end))

  it("end by their timeout", lab.run(function()
    local addresses = lab.addresses(2)
    local node <close> = lab.node { cluster = addresses, timeout = 0.05 }   -- no second one: no leader
    assert.equal("timeout", select(3, node:wait("leader", 0.01)))
    assert.equal("timeout", select(3, node:wait(function() end, { timeout = 0.01 })))
    assert.equal("no_leader", select(3, node:read(print)))
    assert.equal("no_leader", select(3, node:barrier { timeout = 0.01 }))
    local value, message, code = node:propose(1)
    assert.is_nil(value)
    assert.equal("no_leader", code)
    assert.truthy(message:find("no leader", 1, true))
  end))
end)

describe("timeouts", function()
  after_each(lab.clean)

  it("end every one of many calls, each kind of timeout in order", lab.run(function()
    local node <close> = lab.node { cluster = lab.addresses(2) }   -- no second one: no leader
    local open, last = 600, {}
    for i = 1, open do
      local timeout = 0.01 + i % 12 / 1000   -- more kinds than there are queues
      node:propose(i, { timeout = timeout }, function(_, _, code)
        assert.equal("no_leader", code)
        assert.is_true((last[timeout] or 0) < i)
        last[timeout], open = i, open - 1
      end)
    end
    while open > 0 do raft.sleep(0.005) end
    assert.equal(0, node:status().pending)
  end))

  it("tell what became of a call, however long this program was busy when that became known", function()
    local node <close> = lab.node { cluster = lab.addresses(2) }   -- no second one: no leader
    local function be_busy(seconds)
      local over = core.now() + seconds
      while core.now() < over do end
    end
    local code
    node:propose(1, { timeout = 0.01 }, function(_, _, why) code = why end)
    raft.after(0.02, function() be_busy(1.2) end)
    be_busy(0.03)
    raft.step()      -- asks what became of the call, and then is busy until long after the answer has come
    raft.timeout()   -- nothing has looked for the answer yet
    while not code do raft.sleep(0.005) end
    assert.equal("no_leader", code)
  end)

  it("leave alone what was answered before", lab.run(function()
    local node <close> = lab.node()
    node:wait "ready"
    local calls = 0
    node:propose(1, { timeout = 60 }, function() calls = calls + 1 end)
    node:propose(2, { timeout = 0.3 }, function() calls = calls + 1 end)
    node:barrier()
    raft.sleep(0.35)
    assert.equal(2, calls)
  end))
end)

describe("events", function()
  after_each(lab.clean)

  it("tell of peers, roles, leaders and readiness", lab.run(function()
    local addresses = lab.addresses(2)
    local a <close> = lab.node { cluster = addresses }   -- alone it cannot lead: nothing is missed
    local seen = {}
    a:on("*", function(data, event) seen[event] = data end)
    local b <close> = lab.node { id = 2, cluster = addresses }
    a:wait "ready"
    raft.sleep(0)
    assert.same({ id = 2 }, seen.peer_up)
    assert.is_true(seen.ready ~= nil and seen.leader ~= nil)
    if a.leader then
      assert.same({ leader = a.leader, address = addresses[a.leader], term = a.term }, seen.leader)
    end
    if a.role == "leader" then assert.same({ role = "leader", term = a.term }, seen.role) end
    b:close()
    while a.leader do raft.sleep(0.01) end   -- one of two is no majority
    raft.sleep(0)
    assert.equal(2, seen.peer_down.id)
    assert.equal("string", type(seen.peer_down.reason))
    assert.is_nil(seen.leader.leader)
  end))

  it("give each applied command to who listens, and tell a replay", lab.run(function()
    local options = lab.options()
    local got = {}
    local function keep(data) got[#got + 1] = data end
    do
      local node <close> = assert(raft.node(options))
      local off = node:on("applied", keep)
      node:propose { key = "x", value = 1 }
      node:propose { key = "x", value = 2 }
      off()
      node:propose { key = "x", value = 3 }
      raft.sleep(0)
      assert.equal(2, #got)
      assert.same({ { key = "x", value = 2 }, { 2, 1 }, false }, { got[2].cmd, got[2].results, got[2].replay })
    end
    local node <close> = assert(raft.node(options))
    node:on("applied", keep)
    assert.equal(3, node:read(function(m) return m.data.x end))
    node:propose { key = "x", value = 4 }
    raft.sleep(0)
    assert.is_false(got[#got].replay)
    for i = 3, #got - 1 do assert.is_true(got[i].replay) end
  end))

  it("reach raft.run when a handler raises, and the node goes on", function()
    local node <close> = lab.node()
    local off = node:on("applied", function() error("in the handler") end)
    local ok, message = pcall(raft.run, function()
      node:propose(1)
      raft.sleep(3600)
    end)
    assert.is_false(ok)
    assert.truthy(message:find("in the handler", 1, true))
    off()
    assert.equal(2, node:propose(2))
  end)

  it("go to a log function", lab.run(function()
    local lines = {}
    local node <close> = lab.node { log = function(level, text, fields)
      lines[#lines + 1] = { level = level, text = text, fields = fields }
    end }
    node:wait "ready"
    raft.sleep(0)
    local found
    for _, line in ipairs(lines) do found = found or line.text:find("leader is 1", 1, true) and line end
    assert.equal("info", found.level)
    assert.equal(1, found.fields.leader)
  end))
end)

describe("a node's status", function()
  after_each(lab.clean)

  it("has its fields", lab.run(function()
    local machine = lab.machine()
    machine.version = 7
    local node <close> = lab.node { id = 3, name = "bank", machine = machine }
    node:propose(1)
    local s = lab.leading(node)
    assert.same({ 7, "number" }, { s.machine_version, type(s.host.lag) })
    assert.same({ 3, "bank", "leader", 3, true, 0 }, { s.id, s.name, s.role, s.leader, s.ready, s.tolerates })
    assert.equal(s.address, s.leader_address)
    assert.truthy(raft._VERSION:find(s.version, 1, true))
    for _, name in ipairs { "term", "first", "last", "durable", "commit", "applied", "pending", "sessions",
      "elections" } do
      assert.equal("integer", math.type(s[name]), name)
    end
    for _, name in ipairs { "uptime", "leader_age", "applied_time" } do assert.equal("number", type(s[name]), name) end
    assert.is_true(s.log.bytes > 0 and s.log.segments > 0)
    assert.equal("ok", s.disk.state)
    assert.equal("boolean", type(s.changing))
    assert.is_true(s.disk.sync > 0 and s.disk.sync_p99 >= s.disk.sync)
    assert.is_true(math.type(s.disk.free) == "integer" and s.disk.free > 0)
    assert.is_nil(s.fault)
    assert.same({ { id = 3, address = s.address, role = "voter", connected = true } }, { {
      id = s.members[1].id, address = s.members[1].address, role = s.members[1].role,
      connected = s.members[1].connected } })
    assert.equal(1, #node:members())
    assert.truthy(tostring(node):find("^raft.node 3 %(%a+%)$"))
  end))

  it("is followed by an event when this program has left it alone for too long", lab.run(function()
    local node <close> = lab.node { host_timeout = 0.2 }
    local slow
    node:on("slow", function(data) slow = slow or data.what == "host" and data end)
    node:propose(1)
    for _ = 1, 50 do
      local done
      node:propose(2, function() done = true end)
      local over = os.clock() + 0.5
      repeat until os.clock() > over
      while not done do raft.sleep(0.01) end
      if slow then break end
    end
    assert.truthy(slow.seconds >= 0.2)
    assert.equal(1, (node:propose(1)))
  end))

  it("stays readable after close", lab.run(function()
    local node = lab.node()
    node:propose(1)
    node:close()
    local s = node:status()
    assert.equal(1, s.id)
    assert.is_false(s.ready)
    assert.is_nil(node.leader)
    assert.equal("raft.node 1 (closed)", tostring(node))
  end))
end)

describe("closing", function()
  after_each(lab.clean)

  it("ends every later call as closed", lab.run(function()
    local node = lab.node()
    assert.is_true(node:close())
    assert.is_true(node:close())
    for _, results in ipairs {
      table.pack(node:propose(1)), table.pack(node:read(print)), table.pack(node:barrier()),
      table.pack(node:wait "leader"),
    } do
      assert.same({ nil, "the node is closed", "closed", n = 3 }, results)
    end
  end))

  it("ends open calls, each once", lab.run(function()
    local addresses = lab.addresses(2)
    local node = lab.node { cluster = addresses }   -- no second one: nothing commits
    local codes, open = {}, 3
    local function take(_, _, code)
      codes[#codes + 1] = code
      open = open - 1
    end
    node:propose(1, take)
    node:read(print, take)
    node:wait("leader", take)
    raft.sleep(0.01)
    node:close()
    while open > 0 do raft.sleep(0.001) end
    raft.sleep(0.01)
    assert.equal(3, #codes)
    for _, code in ipairs(codes) do assert.truthy(code == "closed" or code == "unknown", code) end
  end))

  it("is deferred inside a callback, and says when it is done", lab.run(function()
    local node = lab.node()
    local reason
    node:on("closed", function(data) reason = data.reason end)
    node:propose(1, function() node:close() end)
    while not reason do raft.sleep(0.001) end
    assert.equal("closed", reason)
  end))

  it("happens at the end of a block, also by an error or a stop", function()
    local nodes = {}
    local function open() nodes[#nodes + 1] = lab.node() return nodes[#nodes] end
    do local _ <close> = open() end
    pcall(function()
      local _ <close> = open()
      error("out")
    end)
    raft.run(function()
      do local _ <close> = open() end
      pcall(function()
        local _ <close> = open()
        error("out")
      end)
    end)
    pcall(raft.run, function()
      local _ <close> = open()
      error("out of main")
    end)
    raft.run(function()
      local _ <close> = open()
      raft.go(raft.stop)
      raft.sleep(3600)
    end)
    assert.equal(6, #nodes)
    for _, node in ipairs(nodes) do assert.equal("closed", select(3, node:propose(1))) end
  end)

  it("happens to a node that still starts when main is stopped", function()
    local options = lab.options()
    raft.go(raft.stop)
    assert.equal("stop", raft.run(function() raft.node(options) end))
    local node <close> = assert(raft.node(options))   -- else: locked
    assert.equal(1, node.id)
  end)
end)
