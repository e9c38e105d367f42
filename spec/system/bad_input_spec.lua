-- What goes wrong around a node in the real world: each is said clearly, and nothing is lost.
local clusters = require "spec.system.cluster"
local process = require "spec.system.process"
local uv = require "luv"

---Starts a node that cannot start: its message and code.
local function refusal(node, command)
  node:launch(command)
  local status = node.process:wait()
  local code, message = node.process.output:match("! (%S+): ([^\n]*)\n")
  assert.equal(3, status, node.process.output)
  return message, code
end

---Why a node's peer refuses it, once it does.
local function reason_of(node, peer)
  return process.wait_until(function()
    local reason = node:eval(("return node:members()[%d].down"):format(peer))
    return reason and reason:find("refused", 1, true) and reason
  end, "the refusal")
end

local is_root = uv.getuid() == 0

describe("a node that cannot start", function()
  local cluster

  before_each(function() cluster = clusters.new(1) end)
  after_each(function() cluster:clean() end)

  it("names the address that another process listens on", function()
    local holder = uv.new_tcp()
    local port = tonumber(cluster.addresses[1]:match(":(%d+)$"))
    assert(holder:bind("127.0.0.1", port))
    assert(holder:listen(1, function() end))
    local message, code = refusal(cluster.nodes[1])
    holder:close()
    assert.equal("address", code)
    assert.truthy(message:find(cluster.addresses[1], 1, true), message)
  end)

  it("names the directory that belongs to another node", function()
    local node = cluster.nodes[1]
    node:start():stop()
    node.options.id = 2
    node.options.cluster = { "127.0.0.1:1", cluster.addresses[1] }
    local message, code = refusal(node)
    assert.equal("foreign", code)
    assert.truthy(message:find(node.options.dir, 1, true), message)
  end)

  it("names both clusters when the directory belongs to another one", function()
    local node = cluster.nodes[1]
    node.options.name = "coins"
    node:start():stop()
    node.options.name = "stamps"
    local message, code = refusal(node)
    assert.equal("foreign", code)
    assert.truthy(message:find("coins", 1, true) and message:find("stamps", 1, true), message)
  end)

  it("says that another process holds the directory", function()
    local one, two = cluster.nodes[1], clusters.new(1).nodes[1]
    one:start()
    two.options.dir = one.options.dir
    local message, code = refusal(two)
    process.remove(two.cluster.dir)
    assert.equal("locked", code)
    assert.truthy(message:find(one.options.dir, 1, true), message)
    assert.equal(1, one:eval("return node:propose('still here')"))
  end)

  it("names the directory that cannot be made because a file is in the way", function()
    local node = cluster.nodes[1]
    assert(io.open(node.options.dir, "w")):close()
    local message, code = refusal(node)
    assert.equal("io", code)
    assert.truthy(message:find(node.options.dir, 1, true), message)
  end)

  it("names the directory that it may not read", function()
    local node, nobody = cluster.nodes[1], nil
    node:start():stop()
    assert(os.execute("chmod 0 " .. node.options.dir))
    if is_root then                                     -- who may read everything
      nobody = { "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups" }
      local _, code = process.run { nobody[1], nobody[2], nobody[3], nobody[4], "test", "-r", uv.cwd() .. "/lua" }
      if code ~= 0 then return pending("the checkout is for root only") end
    end
    local message, code = refusal(node, { as = nobody })
    assert.equal("io", code)
    assert.truthy(message:find(node.options.dir, 1, true), message)
  end)
end)

describe("a directory without room", function()
  local cluster

  before_each(function() cluster = clusters.new(1) end)
  after_each(function()
    process.clean()
    os.execute(("umount -l '%s' 2>/dev/null"):format(cluster.nodes[1].options.dir))
    cluster:clean()
  end)

  local function mount(megabytes)
    if not is_root then return false, "only root may mount a small file system" end
    local dir = cluster.nodes[1].options.dir
    assert(uv.fs_mkdir(dir, 448))
    local text, code = process.run { "mount", "-t", "tmpfs", "-o", "size=" .. megabytes .. "m", "tmpfs", dir }
    return code == 0, text
  end

  it("keeps a new node from starting, and says so", function()
    local ok, why = mount(1)
    if not ok then return pending(why) end
    local message, code = refusal(cluster.nodes[1])
    assert.equal("full", code)
    assert.truthy(message:find("space", 1, true), message)
  end)

  it("refuses commands once it is full, and takes them again as soon as there is room", function()
    local ok, why = mount(512)
    if not ok then return pending(why) end
    local node = cluster.nodes[1]
    node:start()
    cluster:leader()
    process.sleep(1)                                     -- spare segments are prepared meanwhile
    local ballast = node.options.dir .. "/ballast"
    os.execute(("dd if=/dev/zero of='%s' bs=64k 2>/dev/null"):format(ballast))
    local code = node:eval [[ big, taken = ("x"):rep(1 << 19), 0
      while true do
        local _, _, code = node:propose(big)
        if code then return code end
        taken = taken + 1
      end ]]
    assert.equal("full", code)
    local taken = node:eval("return taken")
    assert(os.remove(ballast))
    local n = process.wait_until(function() return (node:eval("return node:propose('small')")) end, "room")
    assert.equal(taken + 1, n)
  end)
end)

describe("a log that was damaged while its node was down", function()
  local cluster, node, segment

  before_each(function()
    cluster = clusters.new(1)
    node = cluster.nodes[1]:start()
    cluster:leader()
    for i = 1, 20 do assert.equal(i, node:eval(("return node:propose(('%d'):rep(5000))"):format(i % 10))) end
    assert.equal(0, node:stop())
    local names = {}
    for name in uv.fs_scandir_next, assert(uv.fs_scandir(node.options.dir)) do
      if name:match("%.seg$") then names[#names + 1] = name end
    end
    table.sort(names)
    segment = node.options.dir .. "/" .. names[1]
  end)
  after_each(function() cluster:clean() end)

  ---Changes the bytes of the segment from the given place on.
  local function damage(at, change)
    local file <close> = assert(io.open(segment, "r+b"))
    file:seek("set", at)
    local bytes = file:read(100)
    file:seek("set", at)
    file:write(change(bytes))
  end

  local function refuses_as_rot()
    local message, code = refusal(node)
    assert.equal("corrupt", code)
    assert.truthy(message:find(segment, 1, true), message)
  end

  it("is as it was, if nothing happened to it", function()
    node:start()
    assert.equal(21, node:eval("return node:propose('more')"))
  end)

  it("is refused when bits have flipped in the middle, naming the file", function()
    damage(40000, function(bytes) return (bytes:gsub("^.", function(c) return string.char(c:byte() ~ 4) end)) end)
    refuses_as_rot()
  end)

  it("is refused when a part has become zero, naming the file", function()
    damage(40000, function(bytes) return ("\0"):rep(#bytes) end)
    refuses_as_rot()
  end)

  it("is refused when its end is missing, naming the file", function()
    assert(os.execute(("truncate -s 40000 '%s'"):format(segment)))
    refuses_as_rot()
  end)
end)

describe("a port that strangers talk to", function()
  local cluster, node, port

  before_each(function()
    cluster = clusters.new(1)
    node = cluster.nodes[1]:start()
    cluster:leader()
    port = tonumber(cluster.addresses[1]:match(":(%d+)$"))
  end)
  after_each(function() cluster:clean() end)

  ---Sends bytes; a function that says whether the node has closed the connection.
  local function send(bytes)
    local socket, closed = uv.new_tcp(), false
    socket:connect("127.0.0.1", port, function(err)
      assert(not err, err)
      if #bytes > 0 then socket:write(bytes) end
      socket:read_start(function(failure, text)
        if failure or not text then
          closed = true
          socket:close()
        end
      end)
    end)
    return function() return closed end
  end

  local function is_closed(bytes)
    process.wait_until(send(bytes), "the node to hang up")
    assert.truthy(node:eval("return node:propose('still here')"))
  end

  it("closes connections that say nothing, at a deadline", function() is_closed("") end)
  it("closes connections that send garbage", function() is_closed(("GET / HTTP/1.1\r\n"):rep(100)) end)
  it("closes connections that send zeros", function() is_closed(("\0"):rep(4096)) end)
  it("closes connections that send ones", function() is_closed(("\255"):rep(4096)) end)

  it("closes a thousand of them, and still answers", function()
    local closed = {}
    for i = 1, 1000 do closed[i] = send(("\1"):rep(i)) end
    process.wait_until(function()
      for _, is in ipairs(closed) do if not is() then return false end end
      return true
    end, "the node to hang up on all")
    assert.truthy(node:eval("return node:propose('still here')"))
  end)

  it("does not let a node of another cluster in, and tells it so", function()
    local stranger = clusters.new(1)
    stranger.nodes[1].options.name = "strangers"
    stranger.nodes[1].options.cluster = { stranger.addresses[1], cluster.addresses[1], "127.0.0.1:1" }
    stranger.nodes[1]:start()
    local reason = reason_of(stranger.nodes[1], 2)
    assert.truthy(reason:find("raft", 1, true) and reason:find("strangers", 1, true), reason)
    assert.truthy(node:eval("return node:propose('still here')"))
    process.remove(stranger.dir)
  end)
end)

describe("a voter", function()
  local cluster

  before_each(function()
    cluster = clusters.new(3)
    cluster:start()
  end)
  after_each(function() cluster:clean() end)

  it("that comes back with an empty directory is refused by its peers, which go on", function()
    local leader = cluster:leader()
    local forgetful = cluster:others(leader)[1]
    assert.equal(1, leader:eval("return node:propose('a')"))
    forgetful:kill()
    process.remove(forgetful.options.dir)
    forgetful:start()
    assert.truthy(reason_of(forgetful, leader.id):find("directory", 1, true))
    assert.equal(2, leader:eval("return node:propose('b')"))
  end)

  it("that is told to end does so with status 0, and its cluster goes on", function()
    local leader, term = cluster:leader()
    local code, signal = leader:stop()
    assert.same({ 0, 0 }, { code, signal })
    local _, next_term = cluster:leader()
    assert.truthy(next_term > term)
    assert.truthy(cluster:others(leader)[1]:eval("return node:propose('a')"))
  end)
end)
