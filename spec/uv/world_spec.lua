-- What only the real world can show: the system's own errors, other processes, sockets of others.
local core = require "raft.core"
local luv = require "luv"

local library = assert(package.searchpath("raft.core", package.cpath))

local pid = math.tointeger(luv.os_getpid())

local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

---Starts Lua in a process of its own, with few descriptors; `core` is the module, arg[1] and so on are given. Its
---output comes by the pipe.
local function child(code, ...)
  local preload = os.getenv("RAFT_PRELOAD")
  local words = { "ulimit -n 200;", preload and "LD_PRELOAD=" .. quoted(preload) or "", "lua5.4", "-e",
    quoted(('core = package.loadlib(%q, "luaopen_raft_core")() '):format(library) .. code), "/dev/null" }
  for _, word in ipairs({ ... }) do words[#words + 1] = quoted(word) end
  return assert(io.popen(table.concat(words, " ") .. " 2>&1"))
end

describe("the real world", function()
  local w, dir, worlds, seen

  local function world()
    local one = assert(core.world("real"))
    worlds[#worlds + 1], seen[one] = one, {}
    return one
  end

  ---The next event of one of these kinds; those before it are dropped. Runs luv's loop, too.
  local function next_event(from, ...)
    for _ = 1, 1000 do
      while #seen[from] > 0 do
        local event = table.remove(seen[from], 1)
        for _, kind in ipairs({ ... }) do
          if event.kind == kind then return event end
        end
      end
      luv.run("nowait")
      for _, event in ipairs(from:events(0.01)) do table.insert(seen[from], event) end
    end
    error("waited in vain for " .. table.concat({ ... }, " or "))
  end

  local function fails_with(code, texts, ...)
    local result, message, got = ...
    assert.is_nil(result)
    assert.equal(code, got, message)
    for _, text in ipairs(texts) do
      assert.truthy(message:find(text, 1, true), message .. " (expected: " .. text .. ")")
    end
  end

  before_each(function()
    worlds, seen, dir = {}, {}, os.tmpname()
    os.remove(dir)
    w = world()
    assert(w:make_dir(dir))
  end)
  after_each(function()
    for _, one in ipairs(worlds) do one:stop() end
    os.execute("rm -rf " .. quoted(dir))
  end)

  it("is seen to by who visits it while it sleeps", function()
    local here = 0
    for _ = 1, 100 do
      luv.sleep(1)
      w:visit()
      if next_event(w, "woken").data == "here" then here = here + 1 end
    end
    assert.is_true(here > 0)
  end)

  describe("does a small write", function()
    ---The thread that runs the loop.
    local function keeper()
      w:alarm(0)
      return next_event(w, "keeper").data
    end

    it("on the thread that runs the loop", function()
      local same = 0
      for _ = 1, 100 do
        local before = keeper()
        w:brief(1)
        local thread = next_event(w, "work").data
        next_event(w, "done")
        if before == thread and keeper() == thread then same = same + 1 end
      end
      assert.is_true(same > 0)
    end)

    it("and goes on on another thread when that takes long, as often as it does", function()
      local taken_over = 0
      for _ = 1, 10 do
        w:brief(1) -- is slow only if the machine is
        next_event(w, "done")
        local before = keeper()
        w:brief(1, 0.25)
        local thread = next_event(w, "work").data
        w:jobs("disk", 2)
        w:alarm(0.01)
        w:wake()
        next_event(w, "woken", "done")
        local alarm = next_event(w, "keeper", "done")
        assert.equal("keeper", alarm.kind)
        assert.not_equal(thread, alarm.data)
        if thread == before then taken_over = taken_over + 1 end
        for _, number in ipairs({ 1, 1, 2 }) do assert.equal(number, next_event(w, "done").id) end
        assert.equal(alarm.data, keeper())
      end
      assert.is_true(taken_over > 0)
    end)

    it("not there after one that was slow, but on the thread that stands by", function()
      local elsewhere = 0
      for _ = 1, 10 do
        w:brief(1, 0.01)
        next_event(w, "done")
        local before = keeper()
        w:brief(1)
        if next_event(w, "work").data ~= before then elsewhere = elsewhere + 1 end
        next_event(w, "done")
      end
      assert.equal(10, elsewhere)
    end)

    it("and loses nothing and keeps the order, whenever the loop is taken over", function()
      for i = 1, 200 do
        w:brief(3, ({ 0, 0, 0, 0.0005, 0.0015, 0.002 })[i % 6 + 1])
        w:visit(i % 4)
        w:jobs("bulk", i % 3)
        w:alarm(i % 2 == 0 and 0.0015 or nil)
        for number = 1, 3 do
          local event
          repeat event = next_event(w, "done") until event.data == "disk"
          assert.equal(number, event.id)
        end
      end
      w:visit()
      next_event(w, "woken")
      next_event(w, "turn")
    end)

    it("that a visitor has asked for", function()
      local one = assert(core.world("visited"))
      worlds[#worlds + 1], seen[one] = one, {}
      for _ = 1, 100 do
        one:brief(1)
        next_event(one, "done")
      end
    end)

    it("and stops when one takes long", function()
      for _ = 1, 20 do
        local one = assert(core.world("real"))
        one:brief(2, 0.005)
        one:stop()
      end
    end)
  end)

  describe("lets the host run the loop while that waits", function()
    ---A world calls to which do not wait for another thread.
    local function visited()
      local one = assert(core.world("visited"))
      worlds[#worlds + 1], seen[one] = one, {}
      return one
    end
    before_each(function() w = visited() end)

    local HOST = io.open("/proc/thread-self/comm"):read("l")

    ---Waits as a loop does, which takes what the descriptor says.
    local function wait(one, seconds)
      one:wait(seconds, true)
      core.poll(0)
    end

    ---Waits in which the host could run the loop, until an alarm rings: on which thread?
    local function keeper(one)
      one:alarm(0)
      for _ = 1, 1000 do
        wait(one, 0.002)
        for _, event in ipairs(one:events(0)) do
          if event.kind == "keeper" then return event.data end
        end
      end
      error("no alarm")
    end

    local function lend(one)
      for _ = 1, 2000 do
        if keeper(one) == HOST then return end
      end
      error("it never did")
    end

    ---Whatever comes now is seen to by a thread of the world's own, though this one waits elsewhere.
    local function has_it_back(one)
      one:alarm(0)
      return next_event(one, "keeper").data ~= HOST
    end

    it("once that has waited often enough, and as long as it goes on to", function()
      lend(w)
      local here = 0
      for _ = 1, 100 do
        if keeper(w) == HOST then here = here + 1 end
      end
      assert.is_true(here > 50)   -- on a busy machine, the one that lent it was sooner now and then
    end)

    it("and takes it back when it is not wanted any more", function()
      for _ = 1, 8 do
        lend(w)
        w:wait(0.001, false)
        assert.is_true(has_it_back(w))
      end
    end)

    it("and takes it back when the host does something else for long", function()
      for _ = 1, 8 do
        lend(w)
        luv.sleep(3)
        assert.is_true(has_it_back(w))
      end
    end)

    it("and goes on until the time is over when nobody notifies it", function()
      lend(w)
      while core.poll(0) do end
      local start = core.now()
      w:wait(0.05, true)
      assert.is_true(core.now() - start >= 0.05)
    end)

    it("and comes back before the time is over when its descriptor is readable", function()
      lend(w)
      w:notify()
      local start = core.now()
      w:wait(60, true)
      assert.is_true(core.now() - start < 60)
      assert.is_true(core.poll(0))
    end)

    it("and writes on another thread, in order, with bytes that come and calls of all kinds meanwhile", function()
      local address = core.free_address()
      w:listen(address)
      local other = world()
      local link = other:connect(address)
      next_event(other, "connected")
      next_event(w, "accepted")
      for i = 1, 60 do
        lend(w)
        w:brief(3, ({ 0, 0, 0.0005, 0.0015, 0.002 })[i % 5 + 1])
        w:visit(i % 3)
        w:jobs("bulk", i % 2)
        other:send(link, "x")
        for _ = 1, 3 do w:wait(0.001, i % 7 > 0) end
        for number = 1, 3 do
          local event
          repeat
            event = next_event(w, "done", "work")
            if event.kind == "work" then assert.not_equal(HOST, event.data) end
          until event.kind == "done" and event.data == "disk"
          assert.equal(number, event.id)
        end
      end
    end)

    it("and stops while the host has it, or has just gone", function()
      for i = 1, 16 do
        local one = visited()
        lend(one)
        if i % 2 == 0 then one:brief(2, 0.002) end
        one:stop()
      end
    end)
  end)

  it("stops when that is asked for while its thread is at something else", function()
    for _ = 1, 20 do
      local one = assert(core.world("real"))
      one:slow()
      one:jobs("bulk", 1)
      one:stop()
    end
  end)

  it("stops at once, with open links, servers, files and jobs", function()
    local address = core.free_address()
    w:listen(address)
    w:connect(address)
    w:connect("localhost:1")
    w:open(dir .. "/a", "wc")
    w:lock_dir(dir)
    w:jobs("bulk", 100)
    w:alarm(3600)
    w:stop()
    assert.has_error(function() w:wake() end)
  end)

  it("blocks every signal in its threads", function()
    local blocked, names = 0, {}
    for task in luv.fs_scandir_next, assert(luv.fs_scandir("/proc/self/task")) do
      local status = io.open(("/proc/self/task/%s/status"):format(task))
      local text = status and status:read("a") or ""
      if status then status:close() end
      local name = text:match("Name:%s*(%S+)") or ""
      if name:find("^raft%-") then
        names[name] = true
        -- SIGKILL and SIGSTOP cannot be blocked; 32 and 33 are the C library's own, which blocks them too while it
        -- starts a thread.
        local mask = tonumber(text:match("SigBlk:%s*(%x+)"), 16)
        assert.equal(0xfffffffe7ffbfeff, mask & 0xfffffffe7ffbfeff)
        blocked = blocked + 1
      end
    end
    assert.same({ ["raft-engine"] = true, ["raft-disk"] = true, ["raft-bulk"] = true, ["raft-child"] = true }, names)
    assert.truthy(blocked >= 4)
  end)

  describe("keeps files", function()
    it("that only their owner can read", function()
      w:close(assert(w:open(dir .. "/secret", "wc")))
      assert.equal(tonumber("600", 8), luv.fs_stat(dir .. "/secret").mode & tonumber("777", 8))
      assert.equal(tonumber("700", 8), luv.fs_stat(dir).mode & tonumber("777", 8))
    end)

    it("and does not follow a symbolic link to one", function()
      w:close(assert(w:open(dir .. "/real", "wc")))
      assert(luv.fs_symlink(dir .. "/real", dir .. "/link"))
      fails_with("io", { dir .. "/link", "symbolic links are not followed" }, w:open(dir .. "/link"))
      fails_with("io", { dir .. "/link" }, w:lock_dir(dir .. "/link"))
    end)

    it("and tells a full disk from other errors", function()
      local full = assert(w:open("/dev/full", "w"))
      fails_with("full", { "/dev/full", "no space left" }, w:write(full, 0, "x"))
    end)

    it("and names the path when a directory stands where a file should, or the other way round", function()
      w:close(assert(w:open(dir .. "/file", "wc")))
      fails_with("io", { dir }, w:open(dir, "w"))
      fails_with("io", { dir .. "/file", "not a directory" }, w:make_dir(dir .. "/file"))
      fails_with("io", { dir .. "/file" }, w:make_dir(dir .. "/file/below"))
      fails_with("io", { dir .. "/file" }, w:list(dir .. "/file"))
    end)

    it("in a directory that is written with slashes at its end", function()
      assert(w:make_dir(dir .. "/x//y//"))
      assert.same({ "y" }, w:list(dir .. "/x"))
      assert(w:sync_dir(dir .. "/x/"))
    end)

    it("directly where it can, quietly through the page cache where it cannot", function()
      for _, place in ipairs({ dir, "/dev/shm" }) do
        local path = place .. "/raft-direct-" .. pid
        local file = assert(w:open(path, "wcd"))
        assert(w:fill(file, 16384))
        assert(w:write(file, 4096, ("x"):rep(4096)))
        assert.equal("\0xx", w:read(file, 4095, 3))
        w:close(file)
        w:remove(path)
      end
    end)
  end)

  describe("locks a directory", function()
    it("against another node of this process, under any name", function()
      assert(w:lock_dir(dir))
      local link = dir .. "-link"
      assert(luv.fs_symlink(dir, link))
      local me = "this process " .. pid
      fails_with("locked", { dir, me }, world():lock_dir(dir))
      fails_with("locked", { link, me }, world():lock_dir(link))
      os.remove(link)
      -- Having been refused has not let go of the lock: another process still finds it held.
      local pipe <close> = child("print(core.world('real'):lock_dir(arg[1]))", dir)
      assert.truthy(pipe:read("a"):find("locked by process " .. pid, 1, true))
    end)

    it("against other processes, until the one that holds it lets go or is killed", function()
      for _, ending in ipairs({ "w:unlock_dir(lock)", "io.popen('kill -9 $PPID'):close()" }) do
        local pipe <close> = child([[
          local w = core.world("real")
          local lock = assert(w:lock_dir(arg[1]))
          assert(io.open(arg[2], "w")):close()
          print("locked")
          io.flush()
          while io.open(arg[2]) do core.poll(0.01) end
          ]] .. ending, dir, dir .. "/go")
        assert.equal("locked", pipe:read("l"))
        fails_with("locked", { dir, "locked by process" }, w:lock_dir(dir))
        os.remove(dir .. "/go")
        pipe:read("a")
        w:unlock_dir(assert(w:lock_dir(dir)))
      end
    end)
  end)

  describe("takes addresses", function()
    it("apart, and says what is wrong with one", function()
      for text, why in pairs({
        [""] = "expected", ["host"] = "expected", [":7001"] = "host", ["host:"] = "port", ["host:0"] = "port",
        ["host:65536"] = "port", ["host:x"] = "port", ["host:-1"] = "port", ["host: 1"] = "port",
        ["::1:7001"] = "[ and ]", ["[::1]"] = "expected", ["[::1]7001"] = "expected",
        ["[::1"] = "expected", ["[host]:7001"] = "IPv6",
        [("h"):rep(256) .. ":1"] = "255",
      }) do
        fails_with("address", { text:sub(1, 100), why }, w:connect(text))
        fails_with("address", { text:sub(1, 100), why }, w:listen(text))
      end
    end)

    it("that are names", function()
      local port = core.free_address():match("%d+$")
      assert(w:listen("localhost:" .. port))
      local near = world()
      local link = near:connect("localhost:" .. port)
      next_event(near, "connected")
      near:send(link, "hello")
      assert.equal("hello", next_event(w, "received").data)
    end)

    it("that cannot be resolved, and says so by an event or an error", function()
      w:connect("no such name:7001")
      assert.equal("unreachable", next_event(w, "connected", "closed").data)
      fails_with("address", { "no such name:7001" }, w:listen("no such name:7001"))
    end)

    it("of IPv6", function()
      local port = core.free_address():match("%d+$")
      local server, message = w:listen("[::1]:" .. port)
      if not server then return pending("no IPv6 here: " .. message) end
      world():connect("[::1]:" .. port)
      next_event(w, "accepted")
    end)

    it("that are not of this machine, or taken, and says what to do", function()
      local address = core.free_address()
      assert(w:listen(address))
      fails_with("address", { address, "address already in use", "another port" }, world():listen(address))
      fails_with("address", { "192.0.2.1:7001", "no address of this machine" }, w:listen("192.0.2.1:7001"))
    end)
  end)

  describe("links", function()
    local function luv_client(address, done)
      local client = luv.new_tcp()
      client:connect("127.0.0.1", tonumber(address:match("%d+$")), function(failed)
        assert(not failed, failed)
        done(client)
      end)
      return client
    end

    it("tell a broken connection from one that was closed", function()
      local address = core.free_address()
      w:listen(address)
      luv_client(address, function(client) client:close_reset() end)
      assert.equal("connection broken", next_event(w, "closed").data)
      luv_client(address, function(client) client:shutdown() end)
      assert.equal("closed by the peer", next_event(w, "closed").data)
    end)

    it("hold what a slow reader does not take, and say how much that is", function()
      local address = core.free_address()
      local server, peer = luv.new_tcp(), nil
      server:bind("127.0.0.1", tonumber(address:match("%d+$")))
      server:listen(1, function()
        peer = luv.new_tcp()
        server:accept(peer)
      end)
      local link, frame, count = w:connect(address), ("0123456789abcdef"):rep(1000), 2000
      next_event(w, "connected")
      while not peer do luv.run("nowait") end
      for _ = 1, count do w:send(link, frame) end
      assert.truthy(w:queued(link) > 1000000)
      local got, size = {}, 0
      peer:read_start(function(failed, data)
        assert(not failed, failed)
        got[#got + 1], size = data, size + #(data or "")
      end)
      while size < count * #frame do luv.run("once") end
      assert.truthy(table.concat(got) == frame:rep(count))
      local tries = 0
      while w:queued(link) > 0 and tries < 1000 do tries = tries + #w:events(0.01) + 1 end
      assert.equal(0, w:queued(link))
      peer:read_stop()
      for _ = 1, count do w:send(link, frame) end
      w:close_link(link) -- with what is queued
      peer:close()
      server:close()
      luv.run("nowait")
    end)

    it("break when the peer goes away in the middle of a big frame", function()
      local address = core.free_address()
      w:listen(address)
      local client = luv_client(address, function() end)
      local link = next_event(w, "accepted").id
      for _ = 1, 30 do w:send(link, ("x"):rep(1 << 20)) end
      client:close_reset()
      assert.equal("connection broken", next_event(w, "closed").data)
    end)

    it("echo thousands of frames over many connections at once", function()
      local address = core.free_address()
      w:on_received("echo")
      w:listen(address)
      local near, links, got = world(), {}, {}
      for i = 1, 20 do links[i] = near:connect(address) end
      for _ = 1, 20 do got[next_event(near, "connected").id] = "" end
      local sent = {}
      for i = 1, 2000 do
        local link = links[i % 20 + 1]
        local frame = ("%d;"):format(i)
        sent[link] = (sent[link] or "") .. frame
        near:send(link, frame)
      end
      for _, link in ipairs(links) do
        while #got[link] < #sent[link] do
          local event = next_event(near, "received")
          got[event.id] = got[event.id] .. event.data
        end
        assert.equal(sent[link], got[link])
      end
    end)

    it("are accepted up to a bound; who comes after that is turned away", function()
      local address = core.free_address()
      w:listen(address)
      local near = world()
      for _ = 1, 260 do near:connect(address) end
      local accepted, closed = 0, {}
      while #closed < 4 do closed[#closed + 1] = next_event(near, "closed") end
      while accepted < 256 do
        next_event(w, "accepted")
        accepted = accepted + 1
      end
      for _, event in ipairs(w:events(0.05)) do assert.not_equal("accepted", event.kind) end
      w:close_link(1)
      near:connect(address)
      next_event(w, "accepted")
    end)

    it("are accepted again when descriptors had run out", function()
      local address = core.free_address()
      local pipe <close> = child([[
        local w = core.world("real")
        w:listen(arg[1])
        local holders = {}
        while true do
          local file = io.open("/dev/null")
          if not file then break end
          holders[#holders + 1] = file
        end
        print("listening")
        io.flush()
        for _ = 1, 5 do
          for _, event in ipairs(w:events(0.1)) do assert(event.kind ~= "accepted") end
        end
        for _, file in ipairs(holders) do file:close() end
        for _ = 1, 100 do
          for _, event in ipairs(w:events(0.1)) do
            if event.kind == "accepted" then print("accepted") os.exit() end
          end
        end
      ]], address)
      assert.equal("listening", pipe:read("l"))
      w:connect(address)
      next_event(w, "connected")
      assert.equal("accepted", pipe:read("l"))
    end)
  end)
end)
