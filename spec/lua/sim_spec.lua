local raft = require "raft"
local process = require "spec.system.process"

if os.getenv "RAFT_BUILD" == "tsan" then return end -- one thread

-- Machines are functions that capture nothing: they are made in the nodes' own Lua states.

local function counter()
  local machine = {}
  function machine:init() self.n = 0 end
  function machine:apply(by)
    if by == "raise" then error "asked for" end
    self.n = self.n + by
    return self.n
  end
  return machine
end

---Keeps what it is told.
local function memory()
  local machine = {}
  function machine:init() self.told = {} end
  function machine:apply(cmd) self.told[#self.told + 1] = cmd end
  return machine
end

---Runs body on a cluster of counters, or as the options say.
local function run(options, body)
  options.machine = options.machine or counter
  return raft.sim(options, body)
end

---The message of a run that fails.
local function failure(options, body)
  local ok, message = pcall(run, options, body)
  assert.is_false(ok, "it did not fail")
  return message
end

---A test with a client for each node that proposes what commands(i) gives.
local function clients(commands, n)
  return function(sim)
    for client = 1, #sim do
      sim:go(function()
        for i = 1, n or 10 do sim[client]:propose(commands((client - 1) * (n or 10) + i)) end
      end)
    end
    sim:run(10)
  end
end

describe("raft.sim", function()
  it("runs a cluster on simulated time, with the calls of a node", function()
    run({ nodes = 5 }, function(sim)
      assert.equal(5, #sim)
      local leader = assert(sim[2]:wait("leader"))
      assert.equal(3, (sim[1]:propose(3)))
      assert.equal(7, (sim[5]:propose(4)))
      assert.equal(7, (sim[3]:read(function(m) return m.n end)))
      assert.truthy(sim[4]:barrier() > 0)
      sim:run(1)
      assert.equal(leader, sim:leader().id)
      assert.equal("leader", sim[leader].role)
      assert.equal(sim[1].term, sim[5]:status().term)
      assert.equal(leader, sim[1].leader)
      assert.equal(5, #sim[1]:members())
      assert.truthy(sim.time > 1)
      sim:run(3600)
      assert.truthy(sim.time > 3600)
    end)
  end)

  it("returns what the body returned", function()
    assert.same({ 1, nil, 3, n = 3 }, table.pack(run({}, function() return 1, nil, 3 end)))
  end)

  it("hands results over as a node does: values, then message and code", function()
    run({}, function(sim)
      local a, b, code = sim[1]:propose("raise")
      assert.is_nil(a)
      assert.matches("asked for", b)
      assert.equal("apply", code)
      a, b, code = sim[1]:read(function() error "no" end)
      assert.is_nil(a)
      assert.matches("no", b)
      assert.equal("query", code)
      assert.equal("timeout", select(3, sim[1]:wait(function(s) return s.applied > 1000 end, 1)))
    end)
  end)

  it("takes a callback in place of waiting", function()
    run({}, function(sim)
      local answers = {}
      local function note(...) answers[#answers + 1] = table.pack(...) end
      sim[1]:wait("leader")
      sim[1]:propose(1, { timeout = 30 }, note)
      sim[2]:propose(1, { timeout = 30 }, note)
      sim:crash(3)
      sim[3]:propose(1, note)
      assert.same({}, answers)
      sim:run(30)
      table.sort(answers, function(a, b) return (a[1] or 9) < (b[1] or 9) end)
      assert.same({ { 1, n = 1 }, { 2, n = 1 }, { nil, "node 3 is down", "closed", n = 3 } }, answers)
    end)
  end)

  it("tells events over all lives of a node", function()
    run({}, function(sim)
      local applied, roles = {}, 0
      local off = sim[1]:on("applied", function(e) applied[#applied + 1] = e.cmd end)
      sim[1]:on("role", function(e, name)
        assert.equal("role", name)
        assert.equal("integer", math.type(e.term))
        roles = roles + 1
      end)
      sim[2]:propose(5)
      sim[2]:propose(6)
      sim:run(1)
      assert.same({ 5, 6 }, applied)
      sim:restart(1)
      sim:run(5)
      assert.same({ 5, 6, 5, 6 }, applied)
      off()
      sim[2]:propose(7)
      sim:run(1)
      assert.equal(4, #applied)
      sim:crash(2)
      sim:crash(3)
      sim:run(5)
      assert.truthy(roles > 0)
    end)
    assert.matches("sim%[i%]:on: unknown event leder %(did you mean leader%?%)", failure({}, function(sim)
      sim[1]:on("leder", print)
    end))
  end)

  describe("clients", function()
    it("run side by side, and wait on simulated time", function()
      run({}, function(sim)
        local order = {}
        for _, s in ipairs { 3, 1, 2 } do
          sim:go(function(seconds)
            sim:sleep(seconds)
            order[#order + 1] = seconds
          end, s)
        end
        assert.same({}, order)
        sim:run(2.5)
        assert.same({ 1, 2 }, order)
        sim:run(1)
        assert.same({ 1, 2, 3 }, order)
      end)
    end)

    it("that raise fail the run, with the line of the test", function()
      local message = failure({}, function(sim)
        sim:go(function()
          sim:run(1)
          error "in a client"
        end)
        sim:run(2)
        error "not reached"
      end)
      assert.matches("sim_spec.lua:%d+: in a client", message)
      assert.matches("seed 1, at 1%.%d+ simulated seconds", message)
    end)

    it("that the test does not wait for end with it, and close what they hold", function()
      local closed = 0
      run({}, function(sim)
        sim:go(function()
          local guard <close> = setmetatable({}, { __close = function() closed = closed + 1 end })   -- luacheck: ignore
          sim:run(1000)
        end)
        sim:run(1)
      end)
      assert.equal(1, closed)
    end)

    it("that yield on their own are told so", function()
      assert.matches("coroutine.yield itself", failure({}, function(sim)
        sim:go(coroutine.yield)
        sim:run(1)
      end))
    end)
  end)

  it("runs until something is true, or says that it did not become so", function()
    run({}, function(sim)
      local leader = sim:eventually(function() return sim:leader() end)
      assert.equal("leader", leader.role)
    end)
    assert.matches("it did not come true within 3 simulated seconds", failure({}, function(sim)
      sim:eventually(function() return false end, 3)
    end))
  end)

  describe("faults by hand:", function()
    it("a crashed node is down, its calls end as unknown, and it comes back with what it had", function()
      run({}, function(sim)
        sim[1]:propose(5)
        local code
        sim:go(function() code = select(3, sim[2]:wait(function(s) return s.applied > 1000 end)) end)
        sim:run(1)
        sim:crash(2)
        sim:run(0)
        assert.equal("unknown", code)
        assert.same({ nil, "node 2 is down", "closed", n = 3 }, table.pack(sim[2]:propose(1)))
        assert.is_nil(sim[2].role)
        assert.equal("closed", select(3, sim[2]:status()))
        assert.equal(6, (sim[1]:propose(1)))
        sim:restart(2)
        assert.equal(6, (sim[2]:read(function(m) return m.n end)))
      end)
    end)

    it("restart crashes a node that is up", function()
      run({}, function(sim)
        sim[2]:wait("leader")
        sim:run(5)
        sim:restart(2)
        sim:run(1)
        assert.truthy(sim[2]:status().uptime < 2 and sim[1]:status().uptime > 4)
      end)
    end)

    it("a closed node is down until it is started again", function()
      run({}, function(sim)
        sim[3]:wait("leader")
        assert.is_true(sim[3]:close())
        sim:run(1)
        assert.equal("closed", select(3, sim[3]:propose(1)))
        sim:restart(3)
        assert.equal(1, (sim[3]:propose(1)))
      end)
    end)

    it("a partition leaves a majority at work, and heals", function()
      run({ nodes = 5 }, function(sim)
        sim[1]:wait("leader")
        sim:partition({ 1, 2 }, { 3, 4, 5 })
        assert.equal(1, (sim[3]:propose(1, { timeout = 30 })))
        assert.not_equal("yes", raft.outcome(select(3, sim[1]:propose(1, { timeout = 1 }))))
        sim:partition({ 5 })
        assert.truthy(sim[1]:propose(1, { timeout = 30 }))
        sim:heal()
        assert.truthy(sim[5]:propose(1, { timeout = 30 }))
      end)
    end)

    it("a paused node answers nothing until it goes on", function()
      run({}, function(sim)
        local leader = sim[1]:wait("leader")
        local other = leader % 3 + 1
        sim:pause(leader)
        assert.equal("timeout", select(3, sim[leader]:propose(1)))
        assert.truthy(sim[other]:propose(1, { timeout = 30 }))
        sim:resume(leader)
        assert.truthy(sim[leader]:propose(1, { timeout = 30 }))
      end)
    end)

    it("a slow node gets and says everything late", function()
      run({}, function(sim)
        local leader = sim[1]:wait("leader")
        local other = leader % 3 + 1
        local function takes()
          local began = sim.time
          for _ = 1, 10 do assert(sim[other]:propose(1, { timeout = 30 })) end
          return sim.time - began
        end
        local before = takes()
        sim:slow(other, 0.4)
        local slow = takes()
        assert.truthy(slow > before + 1)
        sim:slow(other, 0)
        sim:run(2)
        assert.truthy(takes() < slow - 1)
      end)
    end)

    it("a wiped node is refused by the others, which go on, or refilled when it shall rejoin", function()
      run({}, function(sim)
        sim[1]:wait("leader")
        sim:run(1)
        sim:wipe(2)
        sim:restart(2)
        sim:run(5)
        assert.equal("no_leader", select(3, sim[2]:propose(1)))
        assert.matches("refused: member 2 has come back with another directory", sim[2]:status().members[1].down)
        assert.truthy(sim[1]:propose(1, { timeout = 30 }))
      end)
      run({ node = { repair = "rejoin" } }, function(sim)
        sim[1]:wait("leader")
        sim:run(1)
        sim:wipe(2)
        sim:restart(2)
        sim:eventually(function() return sim[2]:propose(1, { timeout = 5 }) end)
        sim:run(2)
        assert.is_nil(sim[2]:status().rejoining)
        sim:crash(1)
        sim:eventually(function() return sim[2]:propose(1, { timeout = 5 }) end)
      end)
      assert.matches("sim:wipe: no majority of disks would be left", failure({}, function(sim)
        sim:run(5)
        sim:wipe(1)
        sim:wipe(2)
      end))
    end)
  end)

  describe("is repeatable:", function()
    local function chaos(sim)
      for _ = 1, 3 do
        sim:go(function()
          while true do
            sim[math.random(#sim)]:propose(math.random(10))
            sim:sleep(math.random() / 10)
          end
        end)
      end
      sim:run(5)
      return sim.hash, sim:history()
    end

    it("the same seed gives the same run, whatever it does; another seed gives another one", function()
      for _, faults in ipairs { false, "all" } do
        local hashes, calls = {}, 0
        for seed = 1, 3 do
          local hash, history = run({ seed = seed, faults = faults }, chaos)
          local again, history_again = run({ seed = seed, faults = faults }, chaos)
          assert.equal(hash, again)
          assert.same(history, history_again)
          calls = calls + #history
          assert.is_nil(hashes[hash])
          hashes[hash] = true
        end
        assert.truthy(calls > 10)
      end
    end)

    it("in another process too, though its own seeds and addresses are others", function()
      local script = [[
        local raft = require "raft"
        print("hash", raft.sim({ machine = function()
          return { apply = function(self, cmd) self["key" .. cmd] = cmd return cmd end }
        end, faults = "all", seed = 5 }, function(sim)
          for i = 1, 20 do sim[1]:propose(i) end
          sim[1]:read(function(m)
            local keys = {}
            for key in pairs(m) do keys[#keys + 1] = key end
            return table.concat(keys, " "), tostring {}
          end, print)
          sim:run(10)
          return sim.hash
        end))]]
      local first = process.run { "lua5.4", "-e", script }
      assert.matches("hash\t%-?%d+", first)
      assert.equal(first, (process.run { "lua5.4", "-e", script }))
      process.clean()
    end)

    it("runs several seeds, and tells the one that fails", function()
      local seeds = {}
      assert.matches("seed 13, at", failure({ seed = 11, seeds = 5 }, function(sim)
        seeds[#seeds + 1] = sim.seed
        assert(sim.seed < 13)
      end))
      assert.same({ 11, 12, 13 }, seeds)
    end)

    it("RAFT_SEED runs that seed alone, and the message tells it", function()
      local script = [[
        local raft = require "raft"
        raft.sim({ machine = function() return { apply = print } end, seeds = 5 }, function(sim)
          print("seed " .. sim.seed)
          error "as asked"
        end)]]
      local text = process.run { "lua5.4", "-e", script, env = { RAFT_SEED = "42" } }
      assert.matches("^seed 42\n", text)
      assert.matches("as asked", text)
      assert.matches("again: RAFT_SEED=42 lua5.4 %-e '", text)
      text = process.run { "lua5.4", "-e", script, env = { RAFT_SEED = "x" } }
      assert.matches("RAFT_SEED must be an integer, got x", text)
      process.clean()
    end)
  end)

  describe("what a node's program takes from chance", function()
    ---What fn returns on each of three nodes, then on the first again after a restart.
    local function on_each(fn)
      return run({}, function(sim)
        sim[1]:wait("leader")
        local results = {}
        for i = 1, 3 do results[i] = table.pack(sim[i]:read(fn)) end
        sim:restart(1)
        results[4] = table.pack(sim[1]:read(fn))
        return results
      end)
    end

    local function assert_differ(fn)
      local results = on_each(fn)
      for i = 1, 4 do
        for j = 1, i - 1 do assert.not_same(results[i], results[j]) end
      end
      assert.same(results, on_each(fn))
    end

    it("differs from node to node and life to life, and not from run to run", function()
      assert_differ(function()
        local keys = {}
        for key in pairs { a = 1, b = 2, c = 3, d = 4, e = 5, f = 6, 1, 2, 3, [true] = 1, [1.5] = 2 } do
          keys[#keys + 1] = tostring(key)
        end
        return table.concat(keys, " ")
      end)
      assert_differ(function()
        local keys = {}
        for key in next, { a = 1, b = 2, c = 3, d = 4, e = 5, f = 6, g = 7 } do keys[#keys + 1] = key end
        return table.concat(keys, " ")
      end)
      assert_differ(function() return math.random(1 << 40) end)
      assert_differ(function()
        math.randomseed()
        return math.random(1 << 40)
      end)
      assert_differ(function() return tostring {} end)
      assert_differ(function() return ("%s"):format(print) end)
      assert_differ(os.clock and function() return os.clock() end)
    end)

    it("math.randomseed with a number is what it always is", function()
      math.randomseed(7)
      local expected = math.random(1 << 40)
      for _, result in ipairs(on_each(function()
        math.randomseed(7)
        return math.random(1 << 40)
      end)) do assert.equal(expected, result[1]) end
    end)

    it("os.time and os.date are simulated, and move with the simulation", function()
      run({}, function(sim)
        sim[1]:wait("leader")
        local function look(m, index) return os.time(), os.date("!%Y") + 0 * (index + m.n) end
        local before, year = sim[1]:read(look)
        sim:run(100)
        local later = sim[1]:read(look)
        assert.truthy(later - before >= 99 and later - before <= 102)
        assert.equal(2023, year)
        assert.equal(86400, (sim[1]:read(function()
          return os.time { year = 2020, month = 1, day = 2 } - os.time { year = 2020, month = 1, day = 1 }
        end)))
        assert.equal("1970", (sim[1]:read(function() return os.date("!%Y", 0) end)))
      end)
    end)

    it("os.exit is an error there", function()
      run({}, function(sim)
        assert.matches("os.exit was called in a simulated node", select(2, sim[1]:read(function() os.exit(1) end)))
      end)
    end)

    ---Runs fn in a node's state, where it asserts things.
    local function there(fn)
      run({ nodes = 1 }, function(sim)
        local ok, message = sim[1]:read(fn)
        assert.is_true(ok, message)
      end)
    end

    it("pairs and next visit each key once, whatever is cleared or changed meanwhile", function()
      there(function()
        for _, traverse in ipairs { pairs, function(t) return next, t, nil end } do
          local t, seen, n = {}, {}, 0
          for i = 1, 50 do t["key" .. i], t[i], t[i + 0.5] = i, i, i end
          t[true], t[false], t[print], t[t] = 1, 2, 3, 4
          for key, value in traverse(t) do
            assert(not seen[key] and t[key] == value)
            seen[key], n = true, n + 1
            t[key] = n % 2 == 0 and n or nil
            assert(next(t) ~= nil)
          end
          assert(n == 154)
          for _ in traverse(t) do n = n - 1 end
          assert(n == 77)
        end
        return true
      end)
    end)

    it("pairs and next visit keys that came between two traversals, and end on an empty table", function()
      there(function()
        local t = { a = 1, b = 2 }
        for _ in next, t do end
        t.c = 3
        local n = 0
        for _ in next, t do n = n + 1 end
        assert(n == 3 and next {} == nil and select("#", next {}) == 1)
        for _ in pairs {} do error "?" end
        local key, value = next { x = "y" }
        assert(key == "x" and value == "y")
        return true
      end)
    end)

    it("pairs heeds __pairs, and both refuse what is no table", function()
      there(function()
        local function iterator(_, key) return not key and 1 or nil end
        local t = setmetatable({}, { __pairs = function(self) return iterator, self end })
        local n = 0
        for key in pairs(t) do n = n + key end
        assert(n == 1)
        assert(not pcall(pairs, 5) and not pcall(next, 5) and not pcall(pairs))
        return true
      end)
    end)
  end)

  describe("catches a machine", function()
    ---Does the failure name index, command, two nodes, and the same again when it is run again?
    local function assert_caught(machine, commands, what, options)
      options = options or {}
      options.machine = machine
      local message = failure(options, clients(commands))
      assert.matches("the machine is not deterministic: index %d+, command ", message)
      assert.matches(what, message)
      assert.equal(message, failure(options, clients(commands)))
      local index = message:match("index (%d+)")
      return tonumber(index), message
    end

    it("whose results depend on the order of pairs", function()
      assert_caught(function()
        local machine = {}
        function machine:init() self.set = {} end
        function machine:apply(cmd)
          self.set[cmd] = true
          local keys = {}
          for key in pairs(self.set) do keys[#keys + 1] = key end
          return table.concat(keys, " ")
        end
        return machine
      end, function(i) return "k" .. i end, 'node %d: apply returned "k[%d k]+"\n  node %d: apply returned "k')
    end)

    it("whose state depends on it, long before any result shows it", function()
      local index, message = assert_caught(function()
        local machine = {}
        function machine:init() self.set, self.least = {}, { any = false } end
        function machine:apply(cmd)
          self.set[cmd] = true
          if cmd == 12 then self.least.any = next(self.set) end
        end
        return machine
      end, function(i) return i end, "node %d: machine.least.any = %d+\n  node %d: machine.least.any = %d+")
      assert.truthy(index > 2)
      assert.matches("command 12\n", message)
    end)

    it("that asks for the time", function()
      assert_caught(function()
        return { apply = function(self) self.at = os.time() end }
      end, function(i) return i end, "node %d: machine.at = 1%d+")
    end)

    it("that draws random numbers", function()
      assert_caught(function()
        return { apply = function() return math.random(100) end }
      end, function(i) return i end, "node %d: apply returned %d+\n")
    end)

    it("that adds floats in the order of pairs", function()
      assert_caught(function()
        local machine = {}
        function machine:init() self.parts, self.sum = {}, 0 end
        function machine:apply(cmd)
          self.parts["k" .. cmd] = 1 / cmd
          self.sum = 0
          for _, part in pairs(self.parts) do self.sum = self.sum + part end
        end
        return machine
      end, function(i) return i + 2 end, "node %d: machine.sum = %d%.%d+\n  node %d: machine.sum = %d%.%d+")
    end)

    it("that shows addresses", function()
      assert_caught(function()
        return { apply = function(self) return tostring(self) end }
      end, function(i) return i end, 'apply returned "table: 0x%x+"')
    end)

    it("that raises only here and there", function()
      assert_caught(function()
        return { apply = function() if math.random(3) == 1 then error "bad luck" end return 1 end }
      end, function(i) return i end, "apply raised [^\n]*bad luck")
    end)

    it("in a cluster of one, by applying its log once more", function()
      assert_caught(function()
        return { apply = function() return math.random(1000) end }
      end, function(i) return i end, "applied once more, in a fresh state: apply returned", { nodes = 1 })
    end)

    it("at the very command, also when its state is too large to be looked at after each", function()
      local _, message = assert_caught(function()
        local machine = {}
        function machine:init() self.big, self.picked = ("x"):rep(20000), {} end
        function machine:apply(cmd)
          self.picked["k" .. cmd] = cmd == 17 and math.random() or cmd
        end
        return machine
      end, function(i) return i end, "machine.picked.k17 = 0%.%d+")
      assert.matches("command 17\n", message)
      assert.falsy(message:find("last seen equal", 1, true))
    end)

    it("by its own digest, if it has one; and lets pass what that does not show", function()
      local machine = function()
        return {
          apply = function(self) self.n, self.noise = (self.n or 0) + 1, math.random() end,
          digest = function(self) return "n" .. self.n end,
        }
      end
      run({ machine = machine }, clients(function(i) return i end))
      assert_caught(function()
        return {
          apply = function(self) self.n = math.random(1000) end,
          digest = function(self) return "n" .. self.n end,
        }
      end, function(i) return i end, "node %d: digest %x+\n  node %d: digest %x+")
    end)

    it("by its snapshot, if it has one", function()
      run({ machine = function()
        return { apply = function(self) self.noise = math.random() end, snapshot = function() return { 1 } end }
      end }, clients(function(i) return i end))
      assert_caught(function()
        return { apply = function(self) self.f = print self.n = math.random(99) end,
          snapshot = function(self) return { n = self.n } end }
      end, function(i) return i end, "machine.n = %d+")
    end)

    it("whose state cannot be compared, and says what to do", function()
      local message = failure({ machine = function()
        return { apply = function(self) self.handlers = { print } end }
      end }, clients(function(i) return i end))
      assert.matches("machine.handlers%[1%]: a function cannot be packed", message)
    end)

    it("that stops its node", function()
      assert.matches("node %d: .*the node stops itself: .*stack overflow", failure({ machine = function()
        return { apply = function() local function deep() return 1 + deep() end return deep() end }
      end }, clients(function(i) return i end)))
      assert.matches("the node stops itself: .*asked for", failure({ node = { on_apply_error = "halt" } }, function(sim)
        sim[1]:propose("raise")
        sim:run(1)
      end))
    end)
  end)

  it("catches disks that lie: what was acknowledged is not there", function()
    assert.matches("raft.sim: at %d", failure({ faults = { "lies" }, seeds = 50 }, function(sim)
      for i = 1, 30 do
        sim[i % 3 + 1]:propose(1)
        if i % 5 == 0 then sim:restart(i // 5 % 3 + 1) end
      end
    end))
  end)

  it("tells which of the faults it takes to fail like this", function()
    local function test(sim)
      sim:run(100)
      for id = 1, #sim do assert(sim.core:life(id) == 1, "a node has died") end
    end
    local message = failure({ faults = { "links", "crashes", "pauses" } }, test)
    assert.matches('a node has died\n.*it fails so with faults = { "crashes" }, too\nagain:', message)
    message = failure({ faults = { "links", "pauses" } }, function(sim)
      sim:run(1)
      error "always"
    end)
    assert.matches("it fails so without any faults, too", message)
  end)

  it("checks in the middle of a test too, which goes on then", function()
    run({ faults = { "partitions", "crashes" } }, function(sim)
      for i = 1, 20 do sim[i % 3 + 1]:propose(1) end
      sim:check()
      local before = sim[1]:read(function(m) return m.n end)
      assert.equal(before + 1, (sim[2]:propose(1, { timeout = 30 })))
      sim:check()
    end)
  end)

  it("runs inside raft.run too", function()
    raft.run(function()
      raft.sleep(0)
      run({}, function(sim) assert.equal(1, (sim[1]:propose(1))) end)
      raft.sleep(0)
    end)
  end)

  it("lets a machine pass that is deterministic, under all faults", function()
    run({ faults = "all", seeds = 5, nodes = 5 }, clients(function(i) return i end, 40))
  end)

  describe("functions that cross into a node's state", function()
    it("raise when they have captured something, naming it and the line of the test", function()
      local captured = 5
      local message = failure({}, function(sim)
        sim[1]:read(function(m) return m.n + captured end)
      end)
      assert.matches('sim_spec.lua:%d+: sim%[1%]:read: the function has captured "captured"', message)
      message = failure({ machine = function() return captured end }, print)
      assert.matches('raft.sim: machine: the function has captured "captured"', message)
      assert.matches("a function of C cannot run in a node's own Lua state", failure({}, function(sim)
        sim[1]:read(print)
      end))
    end)

    it("find globals there, and what they require", function()
      run({}, function(sim)
        assert.equal("1 2", (sim[1]:read(function()
          local list = {}
          for key in require "raft".spairs { [2] = true, [1] = true } do list[#list + 1] = key end
          return table.concat(list, " ")
        end)))
      end)
    end)
  end)

  it("copies values both ways, and raises with the path of what cannot be copied", function()
    run({ machine = memory }, function(sim)
      local value = { list = { 1, 2.5, "three" }, [true] = false }
      sim[1]:propose(value)
      value.list[1] = "changed"
      local told = sim[1]:read(function(m) return m.told end)
      assert.same({ { list = { 1, 2.5, "three" }, [true] = false } }, told)
      told[1].list = nil
      assert.equal(3, (sim[1]:read(function(m) return #m.told[1].list end)))
    end)
    assert.matches("sim_spec.lua:%d+: sim%[1%]:propose: cmd.items%[2%]: a function cannot be packed",
      failure({}, function(sim) sim[1]:propose { items = { 1, print } } end))
    assert.matches("sim_spec.lua:%d+: result%[1%].f: a function cannot be packed",
      failure({}, function(sim) sim[1]:read(function() return { f = print } end) end))
  end)

  it("keeps a history of its clients, without what never happened", function()
    run({}, function(sim)
      sim[1]:propose(1)
      sim:go(function() sim[2]:propose(2) end)
      sim:run(1)
      sim:crash(3)
      sim[3]:propose(4)
      sim[1]:read(function(m) return m.n end)
      sim:partition({ 1 })
      sim[1]:propose(8, { timeout = 1 })
      local history = sim:history()
      assert.equal(4, #history)
      assert.same({ call = "propose", node = 1, cmd = 1 }, { call = history[1].input.call, node = history[1].input.node,
        cmd = history[1].input.cmd })
      assert.same({ 1 }, history[1].output)
      assert.same({ 3 }, history[2].output)
      assert.not_equal(history[1].client, history[2].client)
      assert.equal("read", history[3].input.call)
      assert.same({ 3 }, history[3].output)
      assert.truthy(history[1].called < history[1].returned and history[1].returned <= history[2].called)
      assert.is_nil(history[4].returned)
      assert.is_nil(history[4].output)
    end)
  end)

  it("keeps a history that raft.linear understands", function()
    local linear = require "raft.linear"
    run({ faults = { "network", "crashes" } }, function(sim)
      sim[1]:propose(1)
      for client = 1, 3 do
        sim:go(function()
          for _ = 1, 10 do sim[client]:propose(1) end
        end)
      end
      sim:run(10)
      local model = { init = function() return 0 end, step = function(state, _, output)
        return output == nil or output[1] == state + 1, state + 1
      end }
      assert.truthy(linear.check(sim:history(), model))
      local history = sim:history()
      for _, operation in ipairs(history) do
        if operation.output then operation.output[1] = operation.output[1] + 1 break end
      end
      assert.falsy((linear.check(history, model)))
    end)
  end)

  describe("raises for misuse:", function()
    local function assert_raises(pattern, ...)
      local ok, message = pcall(raft.sim, ...)
      assert.is_false(ok)
      assert.matches(pattern, message)
    end

    it("options that are unknown or wrong, by name", function()
      assert_raises("unknown option machin %(did you mean machine%?%)", { machin = counter }, print)
      assert_raises("machine is missing", {}, print)
      assert_raises("into which a table cannot go", { machine = {} }, print)
      assert_raises("nodes must be an integer from 1 to 9, got 10", { machine = counter, nodes = 10 }, print)
      assert_raises("unknown fault crash %(did you mean crashes%?%); known are network",
        { machine = counter, faults = { "crash" } }, print)
      assert_raises("node: unknown option hartbeat %(did you mean heartbeat%?%)",
        { machine = counter, node = { hartbeat = 1 } }, print)
      assert_raises("node.dir is the simulation's own business", { machine = counter, node = { dir = "x" } }, print)
      assert_raises("a function expected, got nil", { machine = counter })
    end)

    it("a machine that cannot be made", function()
      assert_raises("module 'spec.nosuch' not found", { machine = "spec.nosuch" }, print)
      assert_raises("got a function returning number", { machine = function() return 5 end }, print)
      assert_raises("sim_spec.lua:%d+: at once", { machine = function() error "at once" end }, print)
    end)

    it("calls with wrong arguments, as on a node", function()
      assert.matches("node:propose: unknown option timout", failure({}, function(sim)
        sim[1]:propose(1, { timout = 1 })
      end))
      assert.matches('node:wait: "leader", "ready", "member" or a function', failure({}, function(sim)
        sim[1]:wait("loader")
      end))
      assert.matches("sim:crash: a node from 1 to 3 expected, got 4", failure({}, function(sim) sim:crash(4) end))
      assert.matches("sim:run: seconds expected, got x", failure({}, function(sim) sim:run("x") end))
      assert.matches("node 2 is in two groups", failure({}, function(sim) sim:partition({ 1, 2 }, { 2, 3 }) end))
    end)

    it("what belongs to the real world", function()
      local calls = { sleep = function() raft.sleep(1) end, go = function() raft.go(print) end,
        run = function() raft.run(print) end, after = function() raft.after(1, print) end,
        node = function() raft.node { id = 1, dir = "never", machine = {} } end }
      for name, call in pairs(calls) do
        assert.matches("raft%." .. name .. ".*inside raft.sim", failure({}, call))
      end
      assert.matches("raft.sim cannot be called inside raft.sim", failure({}, function() run({}, print) end))
    end)

    it("waiting where nothing can wait", function()
      assert.matches("sim:run cannot wait here", failure({}, function(sim)
        coroutine.wrap(function() sim:run(1) end)()
      end))
      assert.matches("sim:run cannot wait here", failure({}, function(sim)
        sim[1]:propose(1, function() sim:run(1) end)
        sim:run(5)
      end))
    end)

    it("waiting for ever", function()
      assert.matches("sim%[1%]:wait has not ended within 600 simulated seconds", failure({}, function(sim)
        sim[1]:wait(function(s) return s.applied > 1000 end)
      end))
    end)
  end)

  it("closes everything when the test raises, and hands on error objects with the seed in their message", function()
    local object = setmetatable({ message = "an object" }, {})
    local thrown
    local ok, err = pcall(run, {}, function(sim)
      thrown = sim
      sim:go(function() sim:run(100) end)
      sim[1]:propose(1)
      error(object)
    end)
    assert.is_false(ok)
    assert.equal(object, err)
    assert.matches("^raft.sim: an object\nseed 1, at .*again: RAFT_SEED=1 ", err.message)
    assert.matches("the simulation is over", select(2, pcall(thrown.run, thrown, 1)))
  end)

  it("draws a failure, if it is told where", function()
    local path = os.tmpname()
    local message = failure({ trace = path }, function(sim)
      sim[1]:propose(1)
      sim:crash(2)
      sim:run(1)
      error "to be drawn"
    end)
    assert.matches("drawn in " .. path, message, 1, true)
    local file <close> = assert(io.open(path))
    assert.matches("to be drawn", file:read "a", 1, true)
    os.remove(path)
  end)
end)
