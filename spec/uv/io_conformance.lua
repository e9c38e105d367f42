-- The contract of struct io (csrc/base/io.h), as a suite that every world must pass: io_spec.lua runs it against the
-- real world and against the simulated one.
local core = require "raft.core"

local EXIST, NOENT = -15, -14  -- csrc/base/err.h; both have the name "io"

---@param kind "real"|"sim"
---@param root string a directory that is not there yet; its parent is
return function(kind, root)
  describe("the " .. kind .. " world", function()
    local worlds, seen

    local function world(other)
      local w = assert(core.world(kind, other))
      worlds[#worlds + 1] = w
      seen[w] = {}
      return w
    end

    ---The next event of one of these kinds that nobody has taken; what comes before it is dropped.
    local function next_event(w, ...)
      local wanted = {}
      for _, name in ipairs({ ... }) do wanted[name] = true end
      for _ = 1, 200 do
        local list = seen[w]
        while #list > 0 do
          local event = table.remove(list, 1)
          assert.not_equal("inside", event.kind, "an event came from inside an io function: " .. event.data)
          if wanted[event.kind] then return event end
        end
        for _, other in ipairs(worlds) do
          for _, event in ipairs(other:events(other == w and 0.1 or 0)) do table.insert(seen[other], event) end
        end
      end
      error("waited in vain for " .. table.concat({ ... }, " or "))
    end

    ---All bytes that arrive on a link until there are this many.
    local function collect(w, id, size)
      local parts, total = {}, 0
      while total < size do
        local event = next_event(w, "received", "closed")
        assert.equal("received", event.kind, event.data)
        assert.equal(id, event.id)
        parts[#parts + 1] = event.data
        total = total + #event.data
      end
      return table.concat(parts)
    end

    ---Two worlds and a link between them: near, its link, far, its link.
    local function pair()
      local far = world()
      local near = world(far)
      local address = core.free_address()
      assert(far:listen(address))
      local link = assert(near:connect(address))
      assert.equal(link, next_event(near, "connected", "closed").id)
      return near, link, far, next_event(far, "accepted").id
    end

    before_each(function() worlds, seen = {}, {} end)
    after_each(function()
      for _, w in ipairs(worlds) do w:stop() end
    end)

    describe("keeps files:", function()
      local w, dir
      local serial = 0
      before_each(function()
        serial = serial + 1
        w, dir = world(), ("%s/%d"):format(root, serial)
        assert(w:make_dir(dir))
      end)

      it("reads back what was written, wherever it was written", function()
        local file = assert(w:open(dir .. "/a", "wc"))
        assert(w:write(file, 0, "hello "))
        assert(w:write(file, 6, "world"))
        assert.equal(11, w:size(file))
        assert.equal("hello world", w:read(file, 0, 100))
        assert.equal("o wo", w:read(file, 4, 4))
        assert.equal("", w:read(file, 11, 10))
        assert.equal("", w:read(file, 5000, 10))
        assert(w:write(file, 3, "LO"))
        assert(w:close(file))
        file = assert(w:open(dir .. "/a"))
        assert.equal("helLO world", w:read(file, 0, 100))
        w:close(file)
      end)

      it("has zeros between the end of a file and what is written behind it", function()
        local file = assert(w:open(dir .. "/a", "wc"))
        assert(w:write(file, 0, "head"))
        assert(w:write(file, 4096, "tail"))
        assert.equal(4100, w:size(file))
        assert.equal("head" .. ("\0"):rep(4092) .. "tail", w:read(file, 0, 5000))
        w:close(file)
      end)

      it("keeps an open file that was removed apart from a new one of its name", function()
        local old = assert(w:open(dir .. "/a", "wc"))
        assert(w:write(old, 0, "old"))
        assert(w:remove(dir .. "/a"))
        local new = assert(w:open(dir .. "/a", "wc"))
        assert(w:write(new, 0, "new!"))
        assert(w:write(old, 3, "er"))
        assert.equal("new!", w:read(new, 0, 10))
        assert.equal("older", w:read(old, 0, 10))
        w:close(old)
        w:close(new)
      end)

      it("fills a file with zeros to the size that was asked for, over what it held", function()
        local file = assert(w:open(dir .. "/a", "wc"))
        assert(w:write(file, 0, ("x"):rep(100)))
        assert(w:fill(file, 3 << 20))
        assert.equal(3 << 20, w:size(file))
        assert.equal(("\0"):rep(3 << 20), w:read(file, 0, 4 << 20))
        assert(w:fill(file, 4096))
        assert.equal(4096, w:size(file))
        w:close(file)
      end)

      it("reads at once what was put into a file, and keeps it once that is synced", function()
        local file = assert(w:open(dir .. "/a", "wc"))
        assert(w:put(file, 0, "hello "))
        assert(w:put(file, 6, "world"))
        assert.equal(11, w:size(file))
        assert.equal("hello world", w:read(file, 0, 100))
        assert(w:sync(file))
        assert(w:put(file, 3, "LO"))
        w:close(file)
        file = assert(w:open(dir .. "/a", "w"))
        assert(w:sync(file))
        assert.equal("helLO world", w:read(file, 0, 100))
        w:close(file)
      end)

      it("writes whole blocks of a direct file and reads any part of it", function()
        local file = assert(w:open(dir .. "/direct", "wcd"))
        assert(w:fill(file, 64 << 10))
        local a, b = ("a"):rep(4096), ("b"):rep(8192)
        assert(w:write(file, 4096, a))
        assert(w:write(file, 8192, b))
        assert.equal(64 << 10, w:size(file))
        assert.equal("\0aaa", w:read(file, 4095, 4))
        assert.equal("ab", w:read(file, 8191, 2))
        assert.equal(("\0"):rep(4096) .. a .. b .. ("\0"):rep(48 << 10), w:read(file, 0, 1 << 20))
        assert.equal("", w:read(file, 64 << 10, 100))
        w:close(file)
        file = assert(w:open(dir .. "/direct", "wd"))
        assert(w:write(file, 0, b))
        assert.equal(("b"):rep(16384) .. "\0", w:read(file, 0, 16385))
        w:close(file)
      end)

      it("lists names in order, and forgets them as they are renamed and removed", function()
        for _, name in ipairs({ "b", "a", "B", "c10", "c9", ".hidden" }) do
          w:close(assert(w:open(dir .. "/" .. name, "wc")))
        end
        assert.same({ ".hidden", "B", "a", "b", "c10", "c9" }, w:list(dir))
        assert(w:rename(dir .. "/b", dir .. "/a"))
        assert(w:remove(dir .. "/B"))
        assert(w:sync_dir(dir))
        assert(w:make_dir(dir .. "/below"))
        assert.same({ ".hidden", "a", "below", "c10", "c9" }, w:list(dir))
      end)

      it("has the content of the new name after a rename", function()
        for _, name in ipairs({ "old", "new" }) do
          local file = assert(w:open(dir .. "/" .. name, "wc"))
          assert(w:write(file, 0, name))
          w:close(file)
        end
        assert(w:rename(dir .. "/new", dir .. "/old"))
        local file = assert(w:open(dir .. "/old"))
        assert.equal("new", w:read(file, 0, 10))
        w:close(file)
      end)

      it("creates a directory with its parents, and is content when it is there", function()
        assert(w:make_dir(dir .. "/x/y/z"))
        assert(w:make_dir(dir .. "/x/y/z"))
        assert.same({}, w:list(dir .. "/x/y/z"))
      end)

      it("names the path of what is not there, or is there already", function()
        local function fails(text, number, result, message, code)
          assert.is_nil(result)
          assert.same({ "io", number }, { code, w:code() })
          assert.truthy(message:find(text, 1, true), message)
        end
        local none = dir .. "/none"
        fails(none, NOENT, w:open(none))
        fails(none, NOENT, w:open(none, "w"))
        fails(none, NOENT, w:open(none .. "/file", "wc"))
        fails(none, NOENT, w:list(none))
        fails(none, NOENT, w:rename(none, dir .. "/some"))
        fails(none, NOENT, w:remove(none))
        fails(none, NOENT, w:sync_dir(none))
        fails(none, NOENT, w:lock_dir(none))
        local once = dir .. "/once"
        w:close(assert(w:open(once, "wc")))
        fails(once, EXIST, w:open(once, "wc"))
        fails(once, NOENT, w:rename(once, none .. "/file"))
        assert.same({ "once" }, w:list(dir))
        assert.is_nil((w:make_dir(once)))
        assert.is_nil((w:make_dir(once .. "/below")))
      end)

      for _, how in ipairs { "a process of its own", "this process" } do
        local apart = how ~= "this process"

        it("writes a file by a child in " .. how, function()
          local path, piece = dir .. "/child", ("0123456789"):rep(7001)
          assert(w:child(path, apart, piece, 30))
          local file = assert(w:open(path))
          assert.equal(30 * #piece, w:size(file))
          assert.equal(piece .. piece, w:read(file, 28 * #piece, 3 * #piece))
          assert.same({ nil, "" },
            { w:child(dir .. "/empty", apart, "", 0) and nil, w:read(assert(w:open(dir .. "/empty")), 0, 9) })
        end)

        it("tells what failed a child in " .. how, function()
          local ok, message, code = w:child(dir .. "/child", apart, "some", 1, "the machine cannot be written")
          assert.same({ nil, "the machine cannot be written", "invalid" }, { ok, message, code })
          assert(w:open(dir .. "/there", "wc"))
          ok, message, code = w:child(dir .. "/there", apart, "", 0)
          assert.is_nil(ok)
          assert.matches(dir .. "/there", message, 1, true)
          assert.equal("io", code)
        end)
      end

      it("ends a child that is not wanted any more", function()
        local ok, message, code = w:child(dir .. "/child", true, "some", 1, "hang")
        assert.is_nil(ok)
        assert.matches("signal 9", message, 1, true)
        assert.equal("io", code)
      end)

      it("gives a directory to one holder at a time", function()
        local other = kind ~= "sim" and world() or nil
        local lock = assert(w:lock_dir(dir))
        local ok, message, code = (other or w):lock_dir(dir)
        assert.is_nil(ok)
        assert.equal("locked", code)
        assert.truthy(message:find(dir, 1, true), message)
        assert(w:make_dir(dir .. "/another"))
        assert(w:unlock_dir(assert(w:lock_dir(dir .. "/another"))))
        assert(w:unlock_dir(lock))
        lock = assert((other or w):lock_dir(dir));
        (other or w):unlock_dir(lock)
      end)

      it("says how much room there is", function()
        assert.truthy(assert(w:room(dir)) > 0)
      end)
    end)

    describe("has clocks and chance:", function()
      it("the monotonic clock never falls, and moves on while an alarm is waited for", function()
        local w = world()
        local last = w:clock()
        for _ = 1, 100 do
          local now = w:clock()
          assert.is_true(now >= last)
          last = now
        end
        w:alarm(0.02)
        next_event(w, "alarm")
        assert.is_true(w:clock() >= last + 20000)
      end)

      it("a deadline is never early, and not late by more than it may be", function()
        local w = world()
        for i = 1, 3000 do
          local ahead = i % 3 * 5000
          local before = w:clock()
          local due, late = w:due(ahead)
          local after = w:clock()
          assert.is_true(due >= before + ahead)
          assert.is_true(due <= after + ahead + late)
        end
      end)

      it("the wall clock says microseconds since the Unix epoch", function()
        local _, wall = world():clock()
        assert.is_true(wall > 1600000000 * 1000000 and wall < 20000000000 * 1000000)
      end)

      it("random numbers differ, in their upper and in their lower half", function()
        local w = world()
        local upper, lower = {}, {}
        for _ = 1, 20 do
          local number = w:random()
          assert.is_nil(upper[number >> 32] or lower[number & 0xffffffff])
          upper[number >> 32], lower[number & 0xffffffff] = true, true
        end
      end)
    end)

    describe("tells the engine:", function()
      it("runs the jobs of a lane in order, and tells of them in that order", function()
        local w = world()
        local count = 500
        w:jobs("disk", count)
        w:jobs("bulk", count)
        local last = { work = { disk = 0, bulk = 0 }, done = { disk = 0, bulk = 0 } }
        while last.done.disk < count or last.done.bulk < count do
          local event = next_event(w, "work", "done")
          assert.equal(last[event.kind][event.data] + 1, event.id)
          last[event.kind][event.data] = event.id
          assert.truthy(event.kind == "work" or last.work[event.data] >= event.id)
        end
      end)

      it("ends each burst with a turn", function()
        local w = world()
        w:jobs("disk", 10)
        local done = 0
        while done < 10 do
          if next_event(w, "done", "turn").kind == "done" then done = done + 1 end
        end
        next_event(w, "turn")
        w:alarm(0.001)
        next_event(w, "alarm")
        next_event(w, "turn")
        w:wake()
        next_event(w, "woken")
        next_event(w, "turn")
      end)

      it("wakes once or more for many wake-ups, never for none", function()
        local w = world()
        w:wake(1000)
        next_event(w, "woken")
        w:jobs("disk", 1)
        next_event(w, "done")
        local woken = 0
        for _, event in ipairs(w:events(0.05)) do woken = woken + (event.kind == "woken" and 1 or 0) end
        assert.truthy(woken < 1000)
      end)

      it("is woken by visits too, whatever else comes in", function()
        local w = world()
        for i = 1, 100 do
          w:visit(10)
          w:jobs("disk", 3)
          w:alarm(i % 2 == 0 and 0.0001 or nil)
          for number = 1, 3 do assert.equal(number, next_event(w, "done").id) end
        end
        w:jobs("bulk", 1)
        next_event(w, "done")
        w:visit()
        next_event(w, "woken")
        next_event(w, "turn")
      end)

      it("notifies the host once or more for many calls, never for none", function()
        local w = world()
        local function notified()
          if kind ~= "sim" then return core.poll(0.2) end
          for _, event in ipairs(w:events(0.2)) do
            if event.kind == "notified" then return true end
          end
          return false
        end
        w:notify(1000)
        assert.is_true(notified())
        while kind ~= "sim" and core.poll(0) do end
        w:jobs("disk", 1)
        next_event(w, "done")
        assert.is_false(notified())
      end)

      it("rings the alarm that was set last, never early, and not one that was turned off", function()
        local w = world()
        for _, seconds in ipairs({ 0, 0.0004, 0.001, 0.0123, 0.03 }) do
          w:alarm(3600)
          w:alarm(seconds)
          assert.equal("", next_event(w, "alarm").data)
        end
        w:alarm(0.01)
        w:alarm(nil)
        for _, event in ipairs(w:events(0.05)) do assert.not_equal("alarm", event.kind) end
      end)
    end)

    describe("links nodes:", function()
      it("delivers bytes in order, both ways, in whatever pieces", function()
        local near, link, far, back = pair()
        local sent, reply = {}, {}
        for i = 1, 3000 do
          sent[i] = ("%d,"):format(i):rep(i % 17)
          reply[i] = ("<%d>"):format(i)
          near:send(link, sent[i])
          far:send(back, reply[i])
        end
        local whole, whole_reply = table.concat(sent), table.concat(reply)
        assert.equal(whole, collect(far, back, #whole))
        assert.equal(whole_reply, collect(near, link, #whole_reply))
      end)

      it("delivers big frames whole", function()
        local near, link, far, back = pair()
        local sent = {}
        for i = 1, 8 do
          sent[i] = string.char(64 + i):rep((1 << 20) + i)
          near:send(link, sent[i])
        end
        local whole = table.concat(sent)
        assert.truthy(whole == collect(far, back, #whole))
        assert.equal(0, near:queued(link))
      end)

      it("refuses a connection where nobody listens", function()
        local w = world()
        local link = assert(w:connect(core.free_address()))
        local event = next_event(w, "connected", "closed")
        assert.equal("closed", event.kind)
        assert.equal(link, event.id)
        assert.equal("connection refused", event.data)
      end)

      it("says that the peer closed, after what the peer had sent", function()
        local near, link, far, back = pair()
        near:send(link, "last words")
        assert.equal("last words", collect(far, back, 10))
        near:close_link(link)
        assert.equal("closed by the peer", next_event(far, "closed").data)
        for _, event in ipairs(near:events(0.05)) do assert.not_equal("closed", event.kind) end
      end)

      it("lets a link be closed inside received", function()
        local near, link, far = pair()
        far:on_received("close")
        near:send(link, "one")
        next_event(far, "received")
        assert.equal(link, next_event(near, "closed").id)
        for _, event in ipairs(far:events(0.05)) do assert.not_equal("closed", event.kind) end
      end)

      it("lets a link be closed at once, before it is up", function()
        local far = world()
        local near = world(far)
        local address = core.free_address()
        far:listen(address)
        for _ = 1, 20 do near:close_link(near:connect(address)) end
        for _, event in ipairs(near:events(0.05)) do assert.not_equal("closed", event.kind) end
        near:connect(address)
        next_event(near, "connected")
      end)

      it("stops listening when told so, and listens there again", function()
        local far = world()
        local near = world(far)
        local address = core.free_address()
        local server = assert(far:listen(address))
        assert(far:unlisten(server))
        near:connect(address)
        assert.equal("connection refused", next_event(near, "closed", "connected").data)
        assert(far:listen(address))
        near:connect(address)
        next_event(near, "connected")
      end)

      it("keeps links that were accepted when it stops listening", function()
        local far = world()
        local near = world(far)
        local address = core.free_address()
        local server = assert(far:listen(address))
        local link = assert(near:connect(address))
        next_event(near, "connected")
        local back = next_event(far, "accepted").id
        assert(far:unlisten(server))
        near:send(link, "still here")
        assert.equal("still here", collect(far, back, 10))
        far:send(back, "and back")
        assert.equal("and back", collect(near, link, 8))
      end)

      it("refuses what is no address, without a link or an event", function()
        local w = world()
        for _, address in ipairs { "nonsense", "127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", ":", "" } do
          local link, _, code = w:connect(address)
          assert.same({ nil, "address" }, { link, code }, address)
          local server, _, why = w:listen(address)
          assert.same({ nil, "address" }, { server, why }, address)
        end
        for _, event in ipairs(w:events(0.05)) do assert.equal("turn", event.kind) end
      end)

      it("refuses a second listener on an address, saying what to do", function()
        local far = world()
        local other = world(far)
        local address = core.free_address()
        assert(far:listen(address))
        local _, message, code = (kind ~= "sim" and other or far):listen(address)
        assert.equal("address", code)
        assert.truthy(message:find(address, 1, true), message)
      end)
    end)
  end)
end
