-- Ends of processes: signals and closing Lua states, at any moment.
local lab = require "spec.lua.lab"

describe("a signal", function()
  after_each(lab.clean)

  local SERVE = [[
    print(raft.run(function()
      local node <close> = assert(raft.node(options()))
      print(node:propose "ready")
      raft.sleep(3600)
    end))
    print(raft.node(options()))   -- the directory is free again
  ]]

  for name, signal in pairs { SIGINT = "sigint", SIGTERM = "sigterm" } do
    it(name .. " ends raft.run, which closes main's nodes and returns its name", function()
      local output, code = lab.child(SERVE, function(child)
        child:expect "ready"
        child:kill(signal)
      end)
      assert.truthy(output:find("^ready\n" .. name .. "\nraft.node 1 %(%a+%)\n$"), output)
      assert.equal(0, code)
    end)
  end

  it("in the middle of apply lets it end first", function()
    local output, code = lab.child([[
      local machine = { apply = function(self, cmd)
        print "applying"
        local started = core.now()
        while core.now() - started < 0.5 do end
        print "applied"
      end }
      print(raft.run(function()
        local node <close> = assert(raft.node(options { machine = machine }))
        node:propose(1, function() print "told" end)
        raft.sleep(3600)
      end))
    ]], function(child)
      child:expect "applying"
      child:kill "sigint"
    end)
    assert.truthy(output:find("^applying\napplied\ntold\nSIGINT\n$") or output:find("^applying\napplied\nSIGINT\n$"),
      output)
    assert.equal(0, code)
  end)

  it("closes a node that has thousands of commands to apply yet", function()
    local output, code = lab.child([[
      local machine = { n = 0, apply = function(self)
        self.n = self.n + 1
        return self.n
      end }
      print(raft.run(function()
        local node <close> = assert(raft.node(options { machine = machine }))
        assert(node:wait "ready")
        for _ = 1, 3000 do node:propose("x", function() end) end
        os.execute("sleep 0.5")                   -- the loop stands still: what is committed meanwhile waits for it
        raft.stop()
        raft.sleep(3600)
      end))
    ]])
    assert.equal("stop\n", output)
    assert.equal(0, code)
  end)

  it("kills when it comes again while the first was not heard", function()
    local _, _, signal = lab.child([[
      raft.run(function()
        local node <close> = assert(raft.node(options { machine = { apply = function()
          print "applying"
          while true do core.now() end   -- TSan hands signals over in system calls only
        end } }))
        node:propose(1)
      end)
    ]], function(child)
      child:expect "applying"
      child:kill "sigterm"
      child:kill "sigterm"
      while not child:ended() do
        require "spec.system.process".sleep(0.05)
        child:kill "sigterm"   -- two that were pending at once are one
      end
    end)
    assert.equal(15, signal)
  end)

  it("interrupts a main chunk without raft.run as Lua does, but never an apply", function()
    local output = lab.child([[
      local machine = { apply = function(self, cmd)
        print "applying"
        local started = core.now()
        while core.now() - started < 0.5 do end
        print "applied"
      end }
      local node <close> = assert(raft.node(options { machine = machine }))
      node:propose(1)
    ]], function(child)
      child:expect "applying"
      child:kill "sigint"
    end)
    assert.truthy(output:find("applying\napplied\n", 1, true), output)
    assert.truthy(output:find("interrupted!", 1, true), output)
  end)
end)

describe("a Lua state that closes", function()
  after_each(lab.clean)

  -- Where the state is closed; `close` does it. Each must end the process, with the status given.
  local moments = {
    ["while a node starts"] = "raft.node(options(), print) close()",
    ["right after a node has started"] = "assert(raft.node(options())) close()",
    ["while a proposal is under way"] = "assert(raft.node(options())):propose(1, print) close()",
    ["while a node closes"] = "assert(raft.node(options())):close(print) close()",
    ["after a node was closed"] = "assert(raft.node(options())):close() close()",
    ["inside apply"] = "assert(raft.node(options { machine = { apply = close } })):propose(1)",
    ["inside a reading function"] = "assert(raft.node(options())):read(close)",
    ["inside a callback"] = "local n = assert(raft.node(options())) n:propose(1, close) n:propose(2) raft.sleep(9)",
    ["inside an event handler"] = [[
      local n = assert(raft.node(options()))
      n:on("applied", close)
      n:propose(1)
      raft.sleep(9)]],
    ["inside raft.run"] = "raft.run(function() local n <close> = assert(raft.node(options())) close() end)",
    ["inside a coroutine"] = [[
      raft.run(function()
        local n <close> = assert(raft.node(options()))
        raft.go(function() n:propose(1) close() end)
        raft.sleep(9)
      end)]],
    ["with a to-be-closed node in the main chunk"] = [[
      local n <close> = assert(raft.node(options()))
      n:propose(1)
      close()]],
    ["while two nodes run"] = [[
      local a = assert(raft.node(options()))
      local b = assert(raft.node(options { dir = DIR .. "/b" }))
      a:propose(1) b:propose(1)
      close()]],
    ["after an error"] = "assert(raft.node(options())):propose(1) os.exit = close error 'so'",
  }
  for moment, program in pairs(moments) do
    it(moment .. " ends the process in order", function()
      local output, code, signal = lab.child("local function close() os.exit(7, true) end " .. program)
      assert.equal(0, signal, output)
      assert.equal(moment == "after an error" and 1 or 7, code, output)
    end)
  end

  it("by the end of the program gives the directory back", function()
    local output, code = lab.child([[
      assert(raft.node(options())):propose(1)
      local file = io.popen("echo child")   -- something else to close
    ]])
    assert.equal("", output)
    assert.equal(0, code)
  end)

  it("collects a node that nobody holds, while another one goes on", function()
    local output, code = lab.child([[
      local function callbacks(started)
        local c = { machine = {}, started = started }
        for _, name in ipairs { "apply", "result", "raised", "done", "save", "load", "snapshot", "changed", "halted",
          "closed", "failed", "progress" } do
          c[name] = function() end
        end
        return c
      end
      local function start(dir)
        local on = false
        local node = assert(core.node({ id = 1, dir = dir, name = "raft", election_timeout = 1, heartbeat = 0.1,
          host_timeout = 10, members = { { id = 1, address = core.free_address() } }, pending = 10,
          pending_bytes = 1000, command_bytes = 100, cache_bytes = 1000, lease = false, priority = 0,
          snapshot_bytes = 0, snapshot_entries = 0, snapshot_keep = 0, snapshot_apart = false },
          callbacks(function(code) on = code or true end)))
        while not on do
          core.poll(1)
          node:step(100)
        end
        return node, on
      end
      local kept = assert(raft.node(options()))
      start(DIR .. "/b")
      collectgarbage()
      collectgarbage()
      print(select(2, start(DIR .. "/b")))   -- not locked any more
      print(kept:propose "on")
    ]])
    assert.equal("true\non\n", output)
    assert.equal(0, code)
  end)
end)
