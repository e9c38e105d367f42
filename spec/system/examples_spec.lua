-- Every example runs, as it is but for its addresses: those that it names may be taken on this machine.
local process = require "spec.system.process"
local tree = require "spec.tree"
local uv = require "luv"

describe("the example", function()
  local dir, ports

  ---Copies the examples, with addresses and ports that are free.
  before_each(function()
    dir, ports = process.directory(), {}
    assert(uv.fs_mkdir(dir .. "/examples", 448))
    for _, path in ipairs(tree.files("examples/*.lua")) do
      local text = tree.read(path):gsub("127%.0%.0%.1:(%d+)", function(port)
        ports[port] = ports[port] or process.addresses(1)[1]:match("%d+$")
        return "127.0.0.1:" .. ports[port]
      end):gsub('"(640%d)"', function(port)
        ports[port] = ports[port] or process.addresses(1)[1]:match("%d+$")
        return '"' .. ports[port] .. '"'
      end)
      local file <close> = assert(io.open(dir .. "/" .. path, "w"))
      file:write(text)
    end
  end)
  after_each(function()
    process.clean()
    process.remove(dir)
  end)

  local function example(name, ...) return process.lua { dir .. "/examples/" .. name, cwd = dir, ... } end

  ---Runs redis-cli: what it prints.
  local function redis_cli(port, ...)
    return (process.run { "redis-cli", "-p", tostring(port), ... })
  end

  it("bank.lua runs in three terminals, and each sees what the others did", function()
    local banks = {}
    for id = 1, 3 do banks[id] = example("bank.lua", tostring(id)) end
    for _, bank in ipairs(banks) do bank:expect("\n[4-9]%d\n") end
    for _, bank in ipairs(banks) do bank:kill("sigint") end
    for _, bank in ipairs(banks) do bank:wait() end
  end)

  it("bank.lua ends by itself when it is told how often to deposit", function()
    local one, two, three = example("bank.lua", "1", "6"), example("bank.lua", "2", "6"), example("bank.lua", "3")
    assert.equal(0, (one:wait()))
    assert.equal(0, (two:wait()))
    three:kill("sigint")
    three:wait()
  end)

  it("bank.lua says how it is used", function()
    local bank = example("bank.lua")
    assert.equal(1, (bank:wait()))
    assert.truthy(bank.output:find("usage: "), bank.output)
  end)

  it("counter.lua counts with three nodes in one process, and goes on counting when it is run again", function()
    for _, expected in ipairs { "from 0 to 30", "from 30 to 60" } do
      local counter = example("counter.lua", dir .. "/counter")
      assert.equal(0, (counter:wait()), counter.output)
      local _, n = counter.output:gsub(expected, "")
      assert.equal(3, n, counter.output)
    end
  end)

  it("sim.lua catches the mistake, by the same command each time, and lets the other machine pass", function()
    local first = example("sim.lua", "2")
    assert.equal(0, (first:wait()), first.output)
    assert.matches("the machine is not deterministic: index %d+, command { take = true }\n  node %d: apply returned",
      first.output)
    assert.matches("the careful machine passed\n$", first.output)
    local again = example("sim.lua", "2")
    again:wait()
    assert.equal(first.output, again.output)
  end)

  it("luv_app.lua counts its ticks, and goes on counting when it is run again", function()
    for _, expected in ipairs { "tick 1\ntick 2\ntick 3\n", "tick 4\ntick 5\ntick 6\n" } do
      local app = example("luv_app.lua", dir .. "/app", "3")
      assert.equal(0, (app:wait()), app.output)
      assert.truthy(app.output:find(expected, 1, true), app.output)
    end
  end)

  it("cluster.lua leaves three servers to play with, until it is interrupted", function()
    local cluster = example("cluster.lua", dir .. "/cluster")
    for id = 1, 3 do cluster:expect(("server %d is ready"):format(id)) end
    process.wait_until(function() return redis_cli(ports["6401"], "set", "a", "hello") == "OK\n" end, "a leader")
    assert.equal("hello\n", redis_cli(ports["6402"], "get", "a"))
    assert.equal("1\n", redis_cli(ports["6403"], "incr", "visits"))
    assert.equal("2\n", redis_cli(ports["6401"], "incr", "visits"))
    cluster:kill("sigint")
    assert.same({ 0, 0 }, { cluster:wait() }, cluster.output)
  end)

  describe("redis.lua", function()
    local servers, cluster

    local ports_of

    ---Starts all three, with these words besides, and waits until they serve.
    local function start(...)
      for id = 1, 3 do
        servers[id] = example("redis.lua", "--id", tostring(id), "--dir", dir .. "/" .. id, "--port", ports_of[id],
          "--cluster", cluster, ...)
        servers[id].port = tonumber(ports_of[id])
      end
      for _, server in ipairs(servers) do server:expect("is ready") end
      process.wait_until(function() return redis_cli(servers[1].port, "set", "warm", "up") == "OK\n" end, "a leader")
    end

    before_each(function()
      servers, ports_of = {}, {}
      local addresses = process.addresses(6)
      cluster = table.concat(addresses, ",", 1, 3)
      for id = 1, 3 do ports_of[id] = addresses[3 + id]:match(":(%d+)$") end
      start()
    end)

    ---Sends bytes as they are; the answer once it ends with the text expected at its end.
    local function raw(port, bytes, expected)
      local socket, answer, ended = uv.new_tcp(), "", false
      socket:connect("127.0.0.1", port, function(err)
        assert(not err, err)
        socket:read_start(function(_, text)
          if text then answer = answer .. text else ended = true end
        end)
        for i = 1, #bytes, 7 do socket:write(bytes:sub(i, i + 6)) end
      end)
      process.wait_until(function() return ended or answer:sub(-#expected) == expected end, expected)
      socket:close()
      return answer
    end

    it("answers GET SET DEL INCR PING INFO on every server", function()
      for i, server in ipairs(servers) do
        local port, key = server.port, "key" .. i
        assert.equal("\n", redis_cli(port, "get", key))
        assert.equal("OK\n", redis_cli(port, "set", key, "with blanks"))
        assert.equal("with blanks\n", redis_cli(servers[i % 3 + 1].port, "get", key))
        assert.equal("1\n", redis_cli(port, "del", key, "nokey"))
        assert.equal(i .. "\n", redis_cli(port, "incr", "counter"))
        assert.equal("PONG\n", redis_cli(port, "ping"))
        assert.truthy(redis_cli(port, "info"):find("id:" .. i, 1, true))
        assert.truthy(redis_cli(port, "set", "a"):find("wrong number of arguments", 1, true))
        assert.truthy(redis_cli(port, "flushall"):find("unknown command", 1, true))
      end
      assert.truthy(redis_cli(servers[1].port, "incr", "warm"):find("not an integer", 1, true))
      local digests = {}
      for i, server in ipairs(servers) do
        digests[i] = assert(redis_cli(server.port, "info", "state"):match("digest:(%x+)"))
      end
      assert.same({ digests[1], digests[1], digests[1] }, digests)
    end)

    it("answers a client that asks another server again with what came of the first try", function()
      local id = redis_cli(servers[1].port, "session", "new"):match("^(%d+)\n$")
      assert.truthy(id)
      assert.equal("1\n", redis_cli(servers[1].port, "session", id, "1", "incr", "visits"))
      assert.equal("1\n", redis_cli(servers[2].port, "session", id, "1", "incr", "visits"))
      assert.equal("2\n", redis_cli(servers[3].port, "session", id, "2", "incr", "visits"))
      assert.equal("2\n", redis_cli(servers[1].port, "session", id, "2", "incr", "visits"))
      assert.truthy(redis_cli(servers[2].port, "session", id, "1", "incr", "visits"):find("^UNKNOWN .*expired"))
      assert.equal("2\n", redis_cli(servers[1].port, "get", "visits"))
      assert.equal("2\n", redis_cli(servers[2].port, "session", id, "3", "get", "visits"))
      for _, words in ipairs { { "old" }, { id }, { id, "0", "incr", "n" }, { "x", "1", "incr", "n" }, { id, "4" } } do
        assert.truthy(redis_cli(servers[1].port, "session", table.unpack(words)):find("ERR SESSION NEW", 1, true))
      end
      assert.truthy(redis_cli(servers[1].port, "session", id, "4", "info", "state"):find("ERR not in", 1, true))
      assert.truthy(redis_cli(servers[1].port, "session", id, "4", "incr"):find("wrong number", 1, true))
    end)

    it("lets keys expire, on all servers at once, also while nothing is written", function()
      local one, two, three = servers[1].port, servers[2].port, servers[3].port
      assert.equal("-2\n", redis_cli(one, "ttl", "k"))
      assert.equal("0\n", redis_cli(one, "expire", "k", "10"))
      assert.equal("OK\n", redis_cli(one, "set", "k", "v"))
      assert.equal("-1\n", redis_cli(two, "ttl", "k"))
      assert.equal("1\n", redis_cli(two, "expire", "k", "1000"))
      local left = tonumber(redis_cli(three, "ttl", "k"))
      assert.truthy(left > 900 and left <= 1000, left)
      assert.equal("1\n", redis_cli(two, "pexpire", "k", "900000"))
      left = tonumber(redis_cli(three, "pttl", "k"))
      assert.truthy(left > 800000 and left <= 900000, left)
      assert.equal("v\n", redis_cli(three, "get", "k"))
      assert.equal("OK\n", redis_cli(one, "set", "k", "w"))
      assert.equal("-1\n", redis_cli(one, "ttl", "k"))
      assert.equal("1\n", redis_cli(one, "expire", "k", "-1"))
      assert.equal("\n", redis_cli(two, "get", "k"))
      assert.equal("OK\n", redis_cli(one, "set", "soon", "gone", "px", "50"))
      assert.equal("OK\n", redis_cli(one, "set", "later", "there", "EX", "1000"))
      process.wait_until(function() return redis_cli(two, "get", "soon") == "\n" end, "the key to expire")
      assert.equal("there\n", redis_cli(three, "get", "later"))
      assert.equal("-2\n", redis_cli(three, "ttl", "soon"))
      assert.equal("1\n", redis_cli(three, "incr", "soon"))
      assert.equal("-1\n", redis_cli(one, "ttl", "soon"))
      for _, words in ipairs { { "px" }, { "pp", "1" }, { "ex", "x" }, { "ex", "0" }, { "ex", "-1" },
        { "ex", "99999999999999999999" }, { "ex", "-9223372036854775808" } } do
        assert.truthy(redis_cli(one, "set", "k", "v", table.unpack(words)):find("^ERR "))
      end
      assert.truthy(redis_cli(one, "expire", "soon", "x"):find("^ERR "))
    end)

    it("keeps sessions and deadlines over snapshots, and when all servers are killed and come back", function()
      local function again(...)
        for _, server in ipairs(servers) do server:kill("sigkill") end
        for _, server in ipairs(servers) do server:wait() end
        start(...)
      end
      local function all_have_snapshots()
        for _, server in ipairs(servers) do
          if redis_cli(server.port, "info"):find("snapshot:0\r", 1, true) then return false end
        end
        return true
      end
      again("--snapshot", "1")
      local id = redis_cli(servers[1].port, "session", "new"):match("^(%d+)\n$")
      assert.equal("1\n", redis_cli(servers[1].port, "session", id, "1", "incr", "visits"))
      assert.equal("OK\n", redis_cli(servers[1].port, "set", "long", "v", "px", "900000"))
      assert.equal("OK\n", redis_cli(servers[1].port, "set", "short", "v", "px", "1"))
      local large = ("x"):rep(100000)
      for i = 1, 12 do assert.equal("OK\n", redis_cli(servers[i % 3 + 1].port, "set", "large", large)) end
      process.wait_until(all_have_snapshots, "a snapshot on each")
      again("--snapshot", "1")
      assert.is_true(all_have_snapshots())
      for _, server in ipairs(servers) do
        assert.equal("1\n", redis_cli(server.port, "session", id, "1", "incr", "visits"))
        local left = tonumber(redis_cli(server.port, "pttl", "long"))
        assert.truthy(left > 0 and left < 900000, left)   -- by the leader's clock, which went on meanwhile
        assert.equal("\n", redis_cli(server.port, "get", "short"))
      end
      assert.equal("2\n", redis_cli(servers[2].port, "session", id, "2", "incr", "visits"))
      local digests = {}
      for i, server in ipairs(servers) do digests[i] = redis_cli(server.port, "info", "state"):match "digest:(%x+)" end
      assert.same({ digests[1], digests[1], digests[1] }, digests)
    end)

    it("answers pipelined commands in their order, inline ones too, however they are cut", function()
      local request, expected = {}, {}
      for i = 1, 300 do
        request[#request + 1] = i % 3 == 0 and "INCR n\r\n" or "*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n"
        expected[#expected + 1] = (":%d\r\n"):format(i)
      end
      table.insert(request, 101, "PING\r\n")
      table.insert(expected, 101, "+PONG\r\n")
      table.insert(request, 201, "*2\r\n$3\r\nGET\r\n$1\r\nn\r\n")
      table.insert(expected, 201, "$3\r\n199\r\n")
      expected = table.concat(expected)
      assert.equal(expected, raw(servers[2].port, table.concat(request), expected))
    end)

    ---A client that sends all of these bytes at once: its answer grows as it reads. pause_ms: it reads that much later.
    local function client(port, bytes, pause_ms)
      local socket, it = uv.new_tcp(), {}
      local parts, size, timer = {}, 0, uv.new_timer()
      socket:connect("127.0.0.1", port, function(err)
        assert(not err, err)
        socket:write(bytes)
        timer:start(pause_ms or 0, 0, function()
          timer:close()
          socket:read_start(function(_, text) parts[#parts + 1], size = text, size + #(text or "") end)
        end)
      end)
      function it.has(expected) return size >= expected end
      function it.answer() return table.concat(parts) end
      function it.close() socket:close() end
      return it
    end

    local function request(...)
      local words = { ("*%d\r\n"):format(select("#", ...)) }
      for _, word in ipairs { ... } do words[#words + 1] = ("$%d\r\n%s\r\n"):format(#word, word) end
      return table.concat(words)
    end

    it("gives each of many clients its own answers, to reads, writes and both", function()
      local clients, expected = {}, {}
      for i = 1, 40 do
        local bytes, answers = {}, {}
        for n = 1, 50 do
          bytes[#bytes + 1] = request("INCR", "counter" .. i)
          answers[#answers + 1] = (":%d\r\n"):format(n)
          if i % 4 < 2 then
            bytes[#bytes + 1] = request("get", "counter" .. i) .. request("GET", "never" .. i)
            answers[#answers + 1] = ("$%d\r\n%d\r\n$-1\r\n"):format(#tostring(n), n)
          end
          if i % 8 == 0 then
            bytes[#bytes + 1] = request("PING", "client " .. i) .. request("DEL", "never", "ever")
            answers[#answers + 1] = ("$%d\r\nclient %d\r\n:0\r\n"):format(7 + #tostring(i), i)
          end
        end
        expected[i] = table.concat(answers)
        clients[i] = client(servers[i % 3 + 1].port, table.concat(bytes))
      end
      for i, one in ipairs(clients) do
        process.wait_until(function() return one.has(#expected[i]) end, "all answers of a client")
        assert.equal(expected[i], one.answer())
        one.close()
      end
    end)

    it("takes more than it has room for at once, and answers a client that reads late, all in order", function()
      local large = ("x"):rep(300000)
      local bytes = { request("SET", "small", "1"), request("SET", "large", large), request("GET", "small") }
      local expected = { "+OK\r\n+OK\r\n$1\r\n1\r\n" }
      for i = 1, 20000 do
        bytes[#bytes + 1] = request("INCR", "n")
        expected[#expected + 1] = (":%d\r\n"):format(i)
        if i % 400 == 0 then
          bytes[#bytes + 1] = request("GET", "large")
          expected[#expected + 1] = ("$%d\r\n%s\r\n"):format(#large, large)
        end
      end
      expected = table.concat(expected)
      local late, other = client(servers[1].port, table.concat(bytes), 1000), client(servers[1].port, request("PING"))
      process.wait_until(function() return other.has(7) end, "another client's answer meanwhile")
      process.wait_until(function() return late.has(#expected) end, "all answers")
      assert.is_true(late.answer() == expected)
      late.close()
      other.close()
    end)

    it("says what is wrong with bytes that are no request, hangs up, and goes on", function()
      for _, bytes in ipairs { "*1\r\nPING\r\n", "*x\r\n", "*1\r\n$99999999\r\n", "*9999999\r\n", "*1\r\n$/\r\n" } do
        assert.truthy(raw(servers[1].port, bytes, "never"):find("^%-ERR Protocol error"))
      end
      local answer = raw(servers[1].port, "INCR n\r\nPING\r\n*x\r\n", "never")
      assert.truthy(answer:find("^:1\r\n%+PONG\r\n%-ERR Protocol error"), answer)
      local endless = client(servers[1].port, "*9\r\n" .. ("$500000\r\n" .. ("x"):rep(500000) .. "\r\n"):rep(3))
      process.wait_until(function() return endless.has(20) end, "a refusal")
      assert.truthy(endless.answer():find("^%-ERR Protocol error: too big"))
      endless.close()
      assert.equal("PONG\n", redis_cli(servers[1].port, "ping"))
    end)

    it("takes what redis-benchmark sends", function()
      local text, code = process.run { "redis-benchmark", "-p", tostring(servers[3].port), "-t", "set,get,incr", "-n",
        "500", "-c", "20", "-q" }
      assert.equal(0, code)
      for _, name in ipairs { "SET", "GET", "INCR" } do
        assert.truthy(text:find(name .. ": [%d.]+ requests per second"), text)
      end
    end)

    it("says for certain that nothing was applied while there is no majority", function()
      servers[1]:kill("sigkill")
      servers[2]:kill("sigkill")
      local text = process.wait_until(function()
        local answer = redis_cli(servers[3].port, "set", "a", "b")
        return answer:find("^TRYAGAIN ") and answer
      end, "a refusal")
      assert.truthy(text)
    end)

    it("lets a server join, has another one lead, and removes one, as it is asked to on any of them", function()
      local address, listen = servers[2].port, process.addresses(2)
      local fourth = example("redis.lua", "--dir", dir .. "/4", "--port", listen[1]:match(":(%d+)$"), "--join", cluster,
        "--listen", listen[2])
      fourth:expect("server 4 is ready")
      local port = listen[1]:match(":(%d+)$")
      process.wait_until(function() return redis_cli(port, "info"):find("voters:4", 1, true) end, "its vote")
      assert.equal("up\n", redis_cli(port, "get", "warm"))
      process.wait_until(function()   -- where the machine is busy, another one may be elected instead
        local told = redis_cli(address, "raft", "transfer", "4")
        return told == "OK\n" and redis_cli(port, "info"):find("role:leader", 1, true)
      end, "its lead")
      assert.equal("OK\n", redis_cli(address, "raft", "remove", "4"))
      process.wait_until(function() return redis_cli(address, "info"):find("voters:3", 1, true) end, "the removal")
      assert.matches("^ERR RAFT REMOVE id", redis_cli(address, "raft", "remove", "all"))
      assert.equal("OK\n", redis_cli(address, "set", "a", "b"))
    end)

    it("ends with status 0 when it is told to", function()
      for _, server in ipairs(servers) do
        server:kill("sigterm")
        assert.same({ 0, 0 }, { server:wait() }, server.output)
      end
    end)
  end)

  it("demo.lua survives a killed leader, feeds a server, lets one in, removes the leader, and loses nothing", function()
    local demo = example("demo.lua", "--kills", "1", "--seconds", "4", "--dir", dir)
    local text = demo:expect("(commands acknowledged .*nothing acknowledged was lost, nothing was applied twice)", 300)
    assert.equal(0, (demo:wait()))
    assert.truthy(tonumber(text:match("commands acknowledged +(%d+)")) > 0)
    assert.equal("0", text:match("  lost +(%d+)"))
    assert.equal("0", text:match("applied twice +(%d+)"))
    assert.truthy(text:find("5 of 5", 1, true))
    assert.matches("fed by snapshot +server %d: %d+%.%d MiB at command %d+, and caught up", text)
    assert.matches("joined +server 6: votes after %d+%.%d+ s", text)
    assert.matches("the leader removed +server %d: no command was acknowledged for %d+%.%d+ s", text)
  end)

  it("is one that this file runs", function()
    local this = tree.read("spec/system/examples_spec.lua")
    for _, path in ipairs(tree.files("examples/*.lua")) do
      local name = path:match("([^/]+)$")
      assert.truthy(this:find(('example("%s"'):format(name), 1, true), name .. " is run by no spec")
    end
  end)
end)
