local lab = require "spec.lua.lab"
local process = require "spec.system.process"
local raft = require "raft"
local uv = require "luv"

---The names in a directory.
local function names_in(dir)
  local names, scan = {}, assert(uv.fs_scandir(dir))
  for name in function() return uv.fs_scandir_next(scan) end do names[#names + 1] = name end
  return names
end

---A node alone, ready; its options stay for the next life.
local function alone(changes)
  local options = lab.options(changes)
  options.dir = options.dir or lab.dir()
  local node = assert(raft.node(options))
  node:wait "ready"
  return node, options
end

---Three nodes that know each other, in this process: the nodes, their options.
local function cluster(changes)
  local addresses, nodes, options = lab.addresses(3), {}, {}
  for id = 1, 3 do
    options[id] = lab.options(changes)
    options[id].id, options[id].cluster, options[id].dir = id, addresses, lab.dir()
    options[id].election_timeout, options[id].heartbeat = 0.5, 0.05
    nodes[id] = assert(raft.node(options[id]))
  end
  nodes[1]:wait("ready", 30)
  return nodes, options
end

local function again(node, options)
  node:close()
  node = assert(raft.node(options))
  node:wait("ready", 30)
  return node
end

---A machine in each of the three forms, with the same behaviour.
local forms = {
  ["its own fields"] = function(machine) return machine end,
  ["one value"] = function(machine)
    function machine:snapshot() return { self.data, self.count } end
    function machine:restore(value) self.data, self.count = value[1], value[2] end
    return machine
  end,
  ["records"] = function(machine)
    function machine:save(write)
      write("count", self.count)
      for key, value in pairs(self.data) do write({ key }, value) end
    end
    function machine:load(read)
      for key, value in read do
        if key == "count" then self.count = value else self.data[key[1]] = value end
      end
    end
    return machine
  end,
}

describe("a snapshot", function()
  after_each(lab.clean)

  for form, make in pairs(forms) do
    for _, background in ipairs { true, false } do
      it("of a machine that is saved as " .. form .. (background and ", in a child" or ", here"), lab.run(function()
        local node, options = alone { machine = make(lab.machine()), snapshot = { background = background } }
        for i = 1, 50 do assert(node:propose { key = "k" .. i, value = { i, "v", i / 2 } }) end
        local index = assert(node:snapshot())
        assert.equal(index, node:status().snapshot.index)
        assert.is_true(node:status().snapshot.bytes > 0)
        assert(node:propose { key = "after", value = true })
        node = again(node, options)
        assert.same({ 51, { 7, "v", 3.5 }, true },
          node:read(function(m) return { m.count, m.data.k7, m.data.after } end))
        node:close()
      end))
    end
  end

  it("is taken by itself when so many bytes have been applied since the last one", lab.run(function()
    local node = alone { snapshot = { bytes = 100000, entries = 0, keep = 0 } }
    local taken = {}
    node:on("snapshot", function(event) taken[#taken + 1] = event end)
    for round = 1, 2 do
      for i = 1, 12 do assert(node:propose { key = "k" .. i, value = ("x"):rep(10000) }) end
      assert(node:wait(function() return #taken == round end, 30))
    end
    assert.is_true(taken[1].index >= 9 and taken[1].index <= 12, taken[1].index)
    assert.is_true(taken[2].index >= taken[1].index + 9, taken[2].index)
    node:close()
  end))

  it("of a large state waits until the log is as large", lab.run(function()
    local node, options = alone { snapshot = { bytes = 100000, entries = 5, keep = 0 } }
    for i = 1, 6 do assert(node:propose { key = i, value = ("x"):rep(500000) }) end
    local value = ("y"):rep(50000)
    local function change(count)
      for _ = 1, count do assert(node:propose { key = "changes", value = value }) end
    end
    while not node:snapshot() do raft.sleep(0.01) end
    local before = node:status().snapshot
    assert.is_true(before.bytes > 3000000)
    change(30)
    node = again(node, options)
    change(20)
    assert.equal(before.index, node:status().snapshot.index)
    change(20)
    assert.is_true(node:wait(function(s) return s.snapshot.index > before.index end, 30))
    assert.is_true(node:status().snapshot.index >= before.index + before.bytes // #value)
    node:close()
  end))

  it("is taken right between two of many commands that are applied together", lab.run(function()
    local node = alone { snapshot = { entries = 100, bytes = 0, keep = 0 } }
    local index, left = nil, 250
    node:on("snapshot", function(data) index = index or data.index end)
    for i = 1, 250 do node:propose({ key = i, value = i }, function() left = left - 1 end) end
    while left > 0 or not index do raft.sleep(0.001) end
    assert.equal(100, index)
    node:close()
  end))

  it("is taken by itself, and lets the log end", lab.run(function()
    local node = alone { snapshot = { entries = 200, keep = 10 } }
    local taken = {}
    node:on("snapshot", function(event) taken[#taken + 1] = event end)
    for i = 1, 500 do assert(node:propose { key = "k" .. i % 10, value = i }) end
    node:wait(function() return #taken >= 2 end, 30)
    assert.is_nil(taken[1].error)
    assert.is_true(taken[2].index >= taken[1].index + 200)
    node:close()
  end))

  it("that raises leaves everything as it was, and says so", lab.run(function()
    local machine = lab.machine()
    local broken = true
    function machine:snapshot() return broken and print or self.data end
    function machine:restore(data) self.data = data end
    local node, options = alone { machine = machine }
    assert(node:propose { key = "a", value = 1 })
    local event
    node:on("snapshot", function(e) event = e end)
    local index, message, code = node:snapshot()
    assert.same({ nil, "invalid" }, { index, code })
    assert.matches("function", message)
    assert.equal(message, event.error)
    assert.equal(message, node:status().snapshot.error)
    broken = false
    assert(node:snapshot())
    node = again(node, options)
    assert.equal(1, node:read(function(m) return m.data.a end))
    node:close()
  end))

  for name, break_it in pairs {
    snapshot = function(machine)
      function machine:snapshot() error("the disk of my dreams") end
      function machine:restore() end
    end,
    save = function(machine)
      function machine:save(write)
        for i = 1, 1000 do write(i, ("x"):rep(1000)) end   -- some of it is in the file by then
        error("the disk of my dreams")
      end
      function machine:load() end
    end,
  } do
    for _, background in ipairs { true, false } do
      local where = background and "in a child" or "here"
      it(("whose %s raises %s leaves everything as it was, says so, and is tried again"):format(name, where), lab.run(
        function()
          local machine = lab.machine()
          break_it(machine)
          local dir = lab.dir()
          local node, options = alone { machine = machine, dir = dir, snapshot = { background = background } }
          for i = 1, 10 do assert(node:propose { key = "k" .. i, value = i }) end
          local events = {}
          node:on("snapshot", function(e) events[#events + 1] = e end)
          local index, message = node:snapshot()
          assert.is_nil(index)
          assert.matches("the disk of my dreams", message, 1, true)
          assert.same({ 1, message }, { #events, events[1].error })
          assert.same({ 0, 1 }, { node:status().snapshot.index, node:status().first })
          for _, file in ipairs(names_in(dir)) do assert.falsy(file:find "snapshot", file) end
          assert(node:propose { key = "after", value = true })
          node:close()
          options.machine = lab.machine()   -- one that can be saved
          node = assert(raft.node(options))
          node:wait("ready", 30)
          assert.equal(11, node:read(function(m) return m.count end))
          assert(node:snapshot())
          node = again(node, options)
          assert.equal(11, node:read(function(m) return m.count end))
          node:close()
        end))
    end
  end

  it("of the same state is there already", lab.run(function()
    local node = alone()
    assert(node:propose "x")
    local index = assert(node:snapshot())
    assert.equal(index, node:snapshot())
    node:close()
  end))

  -- Only where memory is what the interpreter and the module take, not a sanitizer.
  if (os.getenv "RAFT_BUILD" or "plain") == "plain" then
    it("may be of a state that is larger than memory, which is written and read by records", lab.run(function()
      local PIECE, PIECES = 256 << 10, 512   -- 128 MiB
      local function peak()   -- KiB that this process has ever had in memory
        local file <close> = assert(io.open "/proc/self/status")
        return tonumber(file:read("a"):match "VmHWM:%s+(%d+)")
      end
      local machine, path = lab.machine(), lab.dir() .. "/peak"
      function machine:save(write)
        for i = 1, PIECES do write(i, (string.char(i % 256)):rep(PIECE)) end
        local file <close> = assert(io.open(path, "w"))
        file:write(peak())
      end
      function machine:load(read)
        self.count = 0
        for i, piece in read do
          assert(#piece == PIECE and piece:byte(1) == i % 256 and piece:byte(-1) == i % 256)
          self.count = self.count + 1
        end
      end
      local node, options = alone { machine = machine, snapshot = { bytes = 0, entries = 0 } }
      assert(node:propose "x")
      collectgarbage()
      local before = peak()
      assert(node:snapshot { timeout = 120 })
      assert.is_true(node:status().snapshot.bytes > PIECE * PIECES)
      node = again(node, options)
      assert.equal(PIECES, node:read(function(m) return m.count end))
      local file <close> = assert(io.open(path))
      for _, most in ipairs { peak(), file:read "n" } do
        assert.is_true(most < before + 96 * 1024, ("%d KiB after %d KiB"):format(most, before))
      end
      node:close()
    end))
  end

  ---A node that has saved its machine and loaded it again, of so many records; watch() is called in each turn
  ---meanwhile.
  local function restarted(machine, count, watch)
    local node, options = alone { machine = machine }
    local over = false
    assert(node:propose "x")
    assert(node:snapshot())
    node:close()
    raft.go(function()
      while not over do
        watch()
        raft.sleep(0)
      end
    end)
    node = assert(raft.node(options))
    node:wait("ready", 30)
    assert.equal(count, node:read(function(m) return m.count end))
    over = true
    return node
  end

  it("of many records is loaded some at a time: others get their turn meanwhile", lab.run(function()
    local machine, loaded, seen = lab.machine(), 0, {}
    function machine:save(write)
      for i = 1, 5000 do write(i, i) end
    end
    function machine:load(read)
      loaded = 0
      for i, value in read do
        loaded = loaded + 1
        assert(i == loaded and value == i)
      end
      self.count = loaded
    end
    local node = restarted(machine, 5000, function()
      if loaded > 0 and loaded < 5000 then seen[loaded] = true end
    end)
    local turns = 0
    for _ in pairs(seen) do turns = turns + 1 end
    assert.is_true(turns >= 10, turns)
    node:close()
  end))

  it("of large records is loaded some at a time, too", lab.run(function()
    local machine, loaded, seen = lab.machine(), 0, {}
    function machine:save(write)
      for i = 1, 200 do write(i, ("x"):rep(64 << 10)) end
    end
    function machine:load(read)
      for i in read do loaded = i end
      self.count = loaded
    end
    local node = restarted(machine, 200, function() seen[#seen + 1] = loaded end)
    for i = 2, #seen do assert.is_true(seen[i] - seen[i - 1] <= 40, seen[i] - seen[i - 1]) end
    node:close()
  end))

  it("does not set off Lua's collector by being loaded, but for what load throws away", lab.run(function()
    local machine, keeps, cycles = lab.machine(), true, 0
    local function watch()
      setmetatable({}, { __gc = function()
        cycles = cycles + 1
        if cycles >= 0 then watch() end
      end })
    end
    function machine:save(write)
      for i = 1, 10000 do write(i, ("x"):rep(2000) .. i) end
    end
    function machine:load(read)
      self.records = {}
      for i, value in read do
        self.records[i] = value
        for _ = 1, keeps and 0 or 20 do value = value .. "x" end
      end
      self.cycles = cycles
    end
    local node, options = alone { machine = machine }
    assert(node:propose "x")
    assert(node:snapshot { timeout = 60 })
    for _, case in ipairs { { keeps = true, most = 1 }, { keeps = false, least = 2 } } do
      node:close()
      keeps = case.keeps
      collectgarbage()
      cycles = 0
      watch()
      node = assert(raft.node(options))
      node:wait("ready", 60)
      local seen = node:read(function(m) return m.cycles end)
      assert.is_true(seen <= (case.most or seen) and seen >= (case.least or seen), seen)
      cycles = -1000
    end
    node:close()
  end))

  it("tells how many records it has, before the first one is loaded", lab.run(function()
    local machine, KEYS = lab.machine(), 3000
    function machine:apply() return self.told or 0 end
    function machine:save(write)
      for i = 1, KEYS do write(i, true) end
    end
    function machine:load(read, count)
      self.told, self.left = count, count
      for _ in read do self.left = self.left - 1 end
    end
    local node, options = alone { machine = machine, snapshot = { bytes = 0, entries = 0 } }
    assert(node:propose "x")
    assert(node:snapshot())
    node = again(node, options)
    assert.equal(KEYS, (node:propose "y"))
    assert.equal(0, node:read(function(m) return m.left end))
    node:close()
  end))

  it("may hold more than its machine reads", lab.run(function()
    local machine, kept = lab.machine(), nil
    function machine:save(write)
      for i = 1, 1000 do write(i, i) end
    end
    function machine:load(read)
      self.count, kept = read(), read
    end
    local node, options = alone { machine = machine }
    assert(node:propose "x")
    assert(node:snapshot())
    node = again(node, options)
    assert.same({ 1, false }, { node:read(function(m) return m.count, pcall(kept) end) })
    node:close()
  end))

  it("does not stop a machine that goes on meanwhile", lab.run(function()
    local machine = lab.machine()
    function machine:save(write)
      for i = 1, 200 do write(i, ("x"):rep(10000)) end
      write("count", self.count)
    end
    function machine:load(read)
      for key, value in read do
        if key == "count" then self.count = value end
      end
    end
    local node, options = alone { machine = machine }
    for i = 1, 20 do assert(node:propose { key = "a", value = i }) end
    local done
    raft.go(function() done = { node:snapshot() } end)
    for i = 1, 20 do assert(node:propose { key = "b", value = i }) end
    node:wait(function() return done end, 30)
    assert.is_number(done[1], done[2])
    node = again(node, options)
    assert.equal(40, node:read(function(m) return m.count end))
    node:close()
  end))

  it("of another version of the machine is brought up to date", lab.run(function()
    local old = lab.machine()
    old.version = 1
    local node, options = alone { machine = old }
    assert(node:propose { key = "a", value = 1 })
    assert(node:snapshot())
    local new = lab.machine()
    new.version = 2
    function new:upgrade(from, to) self.upgraded = { from, to } end
    options.machine = new
    node = again(node, options)
    assert.same({ 1, 2 }, node:read(function(m) return m.upgraded end))
    node:close()
  end))

  it("refuses options that make no sense", function()
    local function refused(snapshot, text)
      assert.error_matches(function() raft.node(lab.options { dir = "nowhere", snapshot = snapshot }) end, text)
    end
    refused({ byte = 1 }, "unknown option snapshot.byte %(did you mean bytes%?%)")
    refused({ entries = -1 }, "snapshot.entries must be")
    refused({ background = 1 }, "snapshot.background must be")
    refused(true, "snapshot must be a table")
  end)
end)

describe("a child that writes a snapshot", function()
  after_each(lab.clean)

  local function lines(path)
    local list, file = {}, io.open(path)
    for line in file and file:lines() or function() end do list[#list + 1] = line end
    if file then file:close() end
    return list
  end

  it("ends the use of what save was given to write with", lab.run(function()
    local machine, kept = lab.machine(), nil
    function machine:save(write)
      kept = write
      write("n", self.n)
    end
    function machine:load(read) for _ in read do self.read = true end end
    local node = alone { machine = machine, snapshot = { bytes = 0, entries = 0, background = false } }
    assert(node:propose "x")
    assert(node:snapshot { timeout = 60 })
    assert.has_error(function() kept("n", 1) end, "write was called after save had returned")
    node:close()
  end))

  it("ends the use of what load was given to read with", lab.run(function()
    local dir, kept = lab.dir(), nil
    local function machine()
      local m = lab.machine()
      function m:save(write) for i = 1, 3 do write(i, i) end end
      function m:load(read)
        kept = read
        self.first = read()   -- and leaves the others
      end
      return m
    end
    for life = 1, 2 do
      local node <close> = lab.node { dir = dir, machine = machine, snapshot = { bytes = 0, entries = 0 } }
      if life == 1 then
        assert(node:propose { key = "x", value = 1 })
        assert(node:snapshot { timeout = 60 })
      end
      assert(node:wait("ready", 60))
      if kept then assert.error_matches(kept, "read is for load alone, while that runs") end
      assert.equal(life == 2, kept ~= nil)
    end
  end))

  it("runs no finaliser, however much garbage it leaves behind", lab.run(function()
    local path, machine = lab.dir() .. "/finalised", lab.machine()
    local function garbage()
      setmetatable({}, { __gc = function()
        local file <close> = assert(io.open(path, "a"))
        file:write(("%d\n"):format(uv.os_getpid()))
      end })
    end
    function machine:save(write)
      garbage()
      for i = 1, 100 do write(i, ("x"):rep(1 << 20)) end
    end
    function machine:load(read) for _ in read do self.read = true end end
    local node = alone { machine = machine, snapshot = { bytes = 0, entries = 0 } }
    assert(node:propose "x")
    garbage()
    assert(node:snapshot { timeout = 60 })
    collectgarbage()
    assert.same({ ("%d"):format(uv.os_getpid()) }, lines(path))   -- here, and the child's own never
    node:close()
  end))

  it("keeps no descriptor but its own, and dies with its program", function()
    local told = lab.dir() .. "/child"
    local program = process.lua { "-e", ([[
      local raft, uv = require "raft", require "luv"
      local machine = { apply = function(_, cmd) return cmd end }
      function machine:save(write)
        local kept, scan = {}, uv.fs_scandir "/proc/self/fd"
        for fd in function() return (uv.fs_scandir_next(scan)) end do
          local path = uv.fs_readlink("/proc/self/fd/" .. fd)
          if tonumber(fd) > 2 and path then kept[#kept + 1] = path:match "[^/]*$" end
        end
        local file = assert(io.open(%q .. ".new", "w"))
        file:write(("%%d\n"):format(uv.os_getpid()), table.concat(kept, "\n"), "\n")
        file:close()
        os.rename(%q .. ".new", %q)
        while true do uv.sleep(1000) end
      end
      function machine:load() end
      raft.run(function()
        local node = assert(raft.node { id = 1, dir = %q, machine = machine, log = false })
        node:propose "x"
        node:snapshot { timeout = 1000 }
      end)
    ]]):format(told, told, told, lab.dir()) }
    process.wait_until(function() return #lines(told) > 0 or program:ended() end, "the child")
    local kept = lines(told)
    local child = table.remove(kept, 1)
    table.sort(kept)
    assert.equal(2, #kept, table.concat(kept, " "))
    assert.equal("own.tmp", kept[1])
    assert.matches("^pipe:", kept[2])
    program:kill "sigkill"
    program:wait()
    process.wait_until(function() return not uv.fs_stat("/proc/" .. child) end, "the child's end")
  end)
end)

describe("a follower that was away", function()
  after_each(lab.clean)

  it("is fed a snapshot when the log has no more what it needs", lab.run(function()
    local nodes, options = cluster { snapshot = { entries = 0, bytes = 0, keep = 0 } }
    nodes[3]:close()
    for i = 1, 40 do assert(nodes[1]:propose { key = "k" .. i % 4, value = ("x"):rep(500000) }) end   -- a segment
    for id = 1, 2 do assert(nodes[id]:snapshot()) end
    local index = nodes[1]:status().snapshot.index
    for id = 1, 2 do nodes[id]:wait(function(s) return s.first > 1 end, 30) end
    assert(nodes[1]:propose { key = "last", value = 1 })
    nodes[3] = assert(raft.node(options[3]))
    assert.equal(1, nodes[3]:read(function(m) return m.data.last end))
    assert.equal(41, nodes[3]:read(function(m) return m.count end))
    assert(nodes[3]:wait(function(s) return s.first > index and s.snapshot.index == index end, 30))
    for id = 1, 3 do nodes[id]:close() end
  end))
end)

describe("a session", function()
  after_each(lab.clean)

  it("gives a command that comes again the result of its first try, on any node", lab.run(function()
    local nodes = cluster()
    local session = assert(nodes[1]:session())
    assert.same({ 5, nil }, { session:propose(1, { key = "a", value = 5 }) })
    local other = nodes[2]:session(session.id)
    assert.equal(5, other:propose(1, { key = "a", value = 6 }))
    assert.same({ 7, 5 }, { other:propose(2, { key = "a", value = 7 }) })
    assert.same({ 7, 5 }, { session:propose(2, { key = "a", value = 7 }) })
    local _, _, code = session:propose(1, { key = "a", value = 5 })
    assert.equal("expired", code)
    assert.equal("maybe", raft.outcome(code))
    assert.equal(2, nodes[1]:read(function(m) return m.count end))
    for id = 1, 3 do nodes[id]:close() end
  end))

  it("remembers an error of apply as well", lab.run(function()
    local replies = { boom = function() error("boom") end }
    local node = alone { machine = lab.machine(replies) }
    local session = assert(node:session())
    for _ = 1, 2 do
      local _, message, code = session:propose(1, "boom")
      assert.equal("apply", code)
      assert.matches("boom", message)
    end
    assert.equal(1, node:read(function(m) return m.count end))
    node:close()
  end))

  it("that was never opened is told so", lab.run(function()
    local node = alone()
    local _, _, code = node:session(99):propose(1, "x")
    assert.equal("expired", code)
    assert.error_matches(function() node:session(0) end, "id must be")
    assert.error_matches(function() node:session(1):propose(0, "x") end, "seq must be")
    node:close()
  end))

  it("is in snapshots", lab.run(function()
    local node, options = alone()
    local session = assert(node:session())
    assert.equal(5, session:propose(1, { key = "a", value = 5 }))
    assert(node:snapshot())
    node = again(node, options)
    assert.equal(5, node:session(session.id):propose(1, { key = "a", value = 9 }))
    assert.equal(1, node:read(function(m) return m.count end))
    node:close()
  end))
end)
