local core = require "raft.core"
local lab = require "spec.server.lab"
local wire = core.wire

local NODE = "node-1:7000" -- the one server of these specs; 2 and 3 are spoken for by outsiders

describe("a node that is dialled", function()
  local w
  before_each(function() w = lab.start { 1 } end)

  local function refusal(line)
    local _, text = assert(wire.refusal_read(line:expect "refusal"))
    return text
  end

  it("answers the hello of a member with its own", function()
    local line = lab.greet(w, 2, 1)
    local hello = assert(wire.hello_read(line:expect "hello"))
    assert.equal(1, hello.from)
    assert.equal(2, hello.to)
    assert.equal("bank", hello.name)
    assert.equal(lab.list, hello.list)
  end)

  it("refuses a node of another cluster, and names both", function()
    local line = lab.greet(w, 2, 1, { name = "shop" })
    assert.equal('this is cluster "bank", not "shop"', refusal(line))
    line:wait_down(1)
  end)

  it("refuses a node with another list of members, and prints both lists", function()
    local theirs = "1=node-1:7000 2=node-2:7000"
    local text = refusal(lab.greet(w, 2, 1, { list = theirs }))
    assert.matches("lists of members differ", text)
    assert.truthy(text:find(lab.list, 1, true))
    assert.truthy(text:find(theirs, 1, true))
  end)

  it("refuses a hello that is meant for another member", function()
    assert.equal("this is member 1, not 3", refusal(lab.greet(w, 2, 1, { to = 3 })))
  end)

  it("refuses one that calls itself by this node's id", function()
    assert.equal("1 is this member itself", refusal(lab.greet(w, 2, 1, { from = 1 })))
  end)

  it("hears one that is no member as a guest, and dials it, so that it can be answered", function()
    w:listen(4, "node-4:7000")
    local guest = lab.greet(w, 4, 1, { from = 7, address = "node-4:7000" })
    guest:expect "hello"
    local back = lab.wait(w, "being dialled", function() return w:accepted(4)[1] end)
    assert.equal(7, wire.hello_read(lab.line(w, 4, nil, back):expect "hello").to)
  end)

  it("hears no more than eight guests, and forgets those that are gone", function()
    local guests = {}
    for i = 1, 8 do
      guests[i] = lab.greet(w, 4, 1, { from = 10 + i, address = "nowhere:" .. i })
      guests[i]:expect "hello"
    end
    assert.matches("too many", refusal(lab.greet(w, 4, 1, { from = 30, address = "nowhere:30" })))
    for i = 1, 8 do w:hang_up(guests[i].id) end
    w:run(1)
    lab.greet(w, 4, 1, { from = 30, address = "nowhere:30" }):expect "hello"
  end)

  it("refuses a frame that is no hello", function()
    local line = lab.line(w, 2, NODE):wait_up()
    line:send(wire.ping(3, 1))
    assert.equal("expected one hello", refusal(line))
    line:wait_down(1)
  end)

  it("refuses a member that comes back with another directory, also after a restart of its own", function()
    local cluster = lab.cluster()
    cluster:crash(2)
    assert.matches("come back with another directory", refusal(lab.greet(cluster, 2, 1)))
    cluster:crash(1)
    cluster:start(1)
    assert.matches("give it its last directory", refusal(lab.greet(cluster, 2, 1)))
  end)

  it("hears one whose directory is named by a later configuration than it knows, and takes no answers of it", function()
    local cluster, one, other, third = lab.cluster()
    cluster:crash(one) cluster:crash(third)
    cluster:listen(one, ("node-%d:7000"):format(one))
    local line = lab.greet(cluster, one, other, { named = 1000 })
    line:expect "hello"
    local ear = lab.line(cluster, one, nil, lab.wait(cluster, "being dialled", function()
      return cluster:accepted(one)[1]
    end))
    ear:expect "hello"
    ear:send(lab.hello(one, other, { named = 1000 }))
    local asked = 0
    for _ = 1, 200 do -- whatever it is asked: yes
      cluster:run(0.02)
      ear:answer_pings()
      for _, frame in ipairs(ear.frames) do
        local m = frame.type == lab.frame_type.message and wire.message_read(frame)
        if m and m.type == 5 then
          asked = asked + 1
          line:send(wire.message { type = 6, from = one, to = other, term = m.term, pre = m.pre, reject = false })
        end
      end
      ear.frames = {}
      assert.not_equal("leader", cluster:status(other).role)
    end
    assert.is_true(asked > 2)
    local term = cluster:status(other).term + 7
    line:send(wire.message { type = 3, from = one, to = other, term = term, commit = 0, context = 1 })
    cluster:run(0.02)
    assert.same({ one, term }, { cluster:status(other).leader, cluster:status(other).term })
  end)

  it("closes a link on which garbage comes, before and after the hello", function()
    local stranger = lab.line(w, 2, NODE):wait_up()
    stranger:send("GET / HTTP/1.1\r\n\r\n")
    stranger:wait_down(1)
    local member = lab.greet(w, 2, 1)
    member:expect "hello"
    member:send(("x"):rep(100))
    member:wait_down(1)
  end)

  it("closes a link on which a frame of another group comes", function()
    local member = lab.greet(w, 2, 1)
    member:expect "hello"
    member:send(wire.frame(lab.frame_type.ping, ("\0"):rep(8), "", 1))
    member:wait_down(1)
  end)

  it("closes the link of a silent stranger after five seconds", function()
    local line = lab.line(w, 2, NODE):wait_up()
    w:run(4.5)
    assert.is_true(line:poll().up)
    line:wait_down(1)
  end)

  it("grants a stranger no more time for single bytes", function()
    local line = lab.line(w, 2, NODE):wait_up()
    local hello = lab.hello(2, 1)
    for i = 1, 6 do
      line:send(hello:sub(i, i))
      w:run(1)
    end
    assert.is_false(line:poll().up)
  end)

  it("lets 64 strangers wait and no more, until some of them are gone", function()
    local lines = {}
    for i = 1, 70 do lines[i] = lab.line(w, 2, NODE) end
    w:run(0.1)
    local up = 0
    for _, line in ipairs(lines) do if line:poll().up then up = up + 1 end end
    assert.equal(64, up)
    w:run(6)
    lab.greet(w, 2, 1):expect "hello"
  end)

  it("lets members in beside its strangers, and counts them no longer", function()
    for _ = 1, 100 do lab.greet(w, 2, 1):expect "hello" end
  end)

  it("drops the older link of a member for its newest one", function()
    local old = lab.greet(w, 2, 1)
    old:expect "hello"
    local new = lab.greet(w, 2, 1)
    new:expect "hello"
    old:wait_down(1)
    new:send(wire.ping(3, 5))
    assert.equal(5, wire.ping_read(new:expect "pong"))
  end)

  it("gives up a member that says nothing for long", function()
    local line = lab.greet(w, 2, 1)
    line:expect "hello"
    w:run(0.5)
    assert.is_true(line:poll().up)
    line:wait_down(1)
  end)

  it("keeps no pongs for a peer that pings and does not read", function()
    local line = lab.greet(w, 2, 1)
    line:expect "hello"
    w:network(500000) -- what it sends stays in its queue for so long
    line:send(wire.ping(3, 1):rep(20000))
    w:run(1.5)
    local pongs = 0
    for _, frame in ipairs(line:poll().frames) do
      if frame.type == lab.frame_type.pong then pongs = pongs + 1 end
    end
    assert.is_true(pongs >= 1000 and pongs < 3000, pongs)
  end)

  describe("for the first time by a member", function()
    it("answers only when it has remembered the member's directory", function()
      w:stall(1, true)
      local line = lab.greet(w, 2, 1)
      w:run(0.1)
      assert.same({}, line:poll().frames)
      w:stall(1, false)
      line:expect "hello"
    end)

    it("answers the newest of several links", function()
      w:stall(1, true)
      local old = lab.greet(w, 2, 1)
      w:run(0.01)
      local new = lab.greet(w, 2, 1)
      w:run(0.01)
      w:stall(1, false)
      new:expect "hello"
      old:wait_down(1)
      assert.same({}, old.frames)
      assert.is_true(new:poll().up)
    end)

    it("holds to the first directory that it heard of, though it is not on the disk yet", function()
      w:stall(1, true)
      local first = lab.greet(w, 2, 1, { incarnation = 777 })
      w:run(0.01)
      local other = lab.greet(w, 2, 1, { incarnation = 778 })
      w:run(0.01)
      w:stall(1, false)
      first:expect "hello"
      assert.matches("another directory", refusal(other))
      lab.greet(w, 2, 1, { incarnation = 777 }):expect "hello"
    end)

    it("closes the link when the directory cannot be remembered, and tries again with the next one", function()
      w:run(1)
      w:stall(1, true)
      local line = lab.greet(w, 2, 1)
      w:run(0.01)
      w:fail_file(1, 2)
      w:stall(1, false)
      line:wait_down(1)
      assert.same({}, line.frames)
      lab.greet(w, 2, 1):expect "hello"
    end)

    it("survives that the member hangs up meanwhile", function()
      w:stall(1, true)
      local line = lab.greet(w, 2, 1)
      w:run(0.01)
      w:hang_up(line.id)
      w:run(0.01)
      w:stall(1, false)
      lab.greet(w, 2, 1):expect "hello"
    end)

    it("closes the link that says another word meanwhile, and lets no other link suffer from it", function()
      w:stall(1, true)
      local line = lab.greet(w, 2, 1)
      w:run(0.01)
      line:send(wire.ping(3, 1))
      w:run(0.01)
      local good = lab.greet(w, 2, 1)
      w:run(0.01)
      w:stall(1, false)
      good:expect "hello"
      assert.equal("expected one hello", refusal(line))
      w:run(0.3)
      good:send(wire.ping(3, 9))
      assert.equal(9, wire.ping_read(good:expect "pong"))
    end)

    it("can be closed meanwhile", function()
      w:stall(1, true)
      lab.greet(w, 2, 1)
      w:run(0.01)
      w:close(1)
      w:run(0.1)
      w:stall(1, false)
      w:run(1)
      assert.matches("closed 0 0", w:events(1))
    end)
  end)
end)

describe("a node that dials", function()
  local w
  before_each(function() w = lab.start { 1 } end)

  ---The link that node 1 dials to this outsider next.
  local function dialled(node)
    w:listen(node, "node-" .. node .. ":7000")
    local known = #w:accepted(node)
    return lab.wait(w, "being dialled", function()
      local links = w:accepted(node)
      return #links > known and lab.line(w, node, nil, links[#links])
    end)
  end

  local function down(node)
    local member = w:status(1).members[node]
    return member and not member.connected and member.down
  end

  local function wait_down(node, pattern)
    lab.wait(w, "down: " .. pattern, function() local why = down(node) return why and why:find(pattern, 1, true) end)
  end

  it("introduces itself, and counts the link as up when a hello comes back", function()
    local line = dialled(2)
    local hello = assert(wire.hello_read(line:expect "hello"))
    assert.same({ 1, 2, "bank", lab.list }, { hello.from, hello.to, hello.name, hello.list })
    assert.is_false(w:status(1).members[2].connected)
    line:send(lab.hello(2, 1))
    lab.wait(w, "the link", function() return w:status(1).members[2].connected end)
    assert.equal("", w:status(1).members[2].down)
  end)

  it("says why nobody can be reached", function()
    wait_down(2, "connection refused")
  end)

  it("tells a refusal in full, with both lists", function()
    local text = ("the lists of members differ: here %s, there %s"):format("1=a:1 2=b:1 " .. ("x"):rep(100), lab.list)
    local line = dialled(2)
    line:expect "hello"
    line:send(wire.refusal(-7, text))
    wait_down(2, "refused: " .. text)
  end)

  it("drops a link on which another member answers, or one of another cluster", function()
    local line = dialled(2)
    line:expect "hello"
    line:send(lab.hello(3, 1))
    wait_down(2, 'member 3 of cluster "bank" answers there')
    line = dialled(2)
    line:expect "hello"
    line:send(lab.hello(2, 1, { name = "shop" }))
    wait_down(2, 'member 2 of cluster "shop" answers there')
  end)

  it("drops a link on which anything but a hello is the answer", function()
    local line = dialled(2)
    line:expect "hello"
    line:send(wire.ping(4, 1))
    wait_down(2, "no hello in answer")
    line = dialled(2)
    line:send("HTTP/1.1 400 Bad Request\r\n\r\n")
    wait_down(2, "not a raft frame")
  end)

  it("has nothing to do with a member that comes with another directory than has its vote", function()
    w = lab.cluster()
    w:crash(2) w:crash(3)
    local line = dialled(2)
    line:expect "hello"
    line:send(lab.hello(2, 1))
    wait_down(2, "it has come back with another directory")
  end)

  it("gives up when no answer comes, and dials again", function()
    dialled(2):expect "hello"
    wait_down(2, "no answer in time")
    dialled(2):expect "hello"
  end)

  it("waits no longer for an answer that comes byte by byte", function()
    local line = dialled(2)
    line:expect "hello"
    local hello = lab.hello(2, 1)
    for i = 1, 10 do
      line:send(hello:sub(i, i))
      w:run(0.05)
    end
    assert.is_false(line:poll().up)
  end)

  it("notices that a peer has vanished without a word", function()
    local line = dialled(2)
    line:expect "hello"
    line:send(lab.hello(2, 1))
    lab.wait(w, "the link", function() return w:status(1).members[2].connected end)
    line:expect "ping"
    wait_down(2, "no answer in time")
  end)

  it("keeps a link whose pings are answered", function()
    local line = dialled(2)
    line:expect "hello"
    line:send(lab.hello(2, 1))
    for _ = 1, 20 do line:send(wire.ping(4, wire.ping_read(line:expect "ping"))) end
    assert.is_true(w:status(1).members[2].connected)
  end)

  it("dials at once when a link breaks that has lasted, and not so soon when it breaks again", function()
    local function greet(line)
      line:expect "hello"
      line:send(lab.hello(2, 1))
      return line
    end
    local function dialled_after(line)
      local before, ms = #w:accepted(2), 0
      w:hang_up(line.id)
      repeat
        w:run(0.001)
        ms = ms + 1
      until #w:accepted(2) == before
      return ms
    end
    local line = greet(dialled(2))
    for _ = 1, 2 do line:expect "ping" end
    assert.truthy(dialled_after(line) <= 3)
    line = greet(lab.line(w, 2, nil, w:accepted(2)[1]))
    w:run(0.005)
    assert.truthy(dialled_after(line) >= 10)
  end)

  it("dials again and again, but not without pause", function()
    local events = w:run(60)
    assert.is_true(events < 20000, events)
    assert.equal("connection refused", down(2))
  end)
end)
