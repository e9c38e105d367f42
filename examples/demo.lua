-- The main job, end to end: five servers (examples/redis.lua) on this machine, clients that write through different
-- ones with redis-cli, a leader killed with SIGKILL in mid-stream, again and again; each time the dead server comes
-- back and catches up. Then a server is away for so long that the others have let go of the log that it needs: it gets
-- a snapshot, while the clients go on writing. Then a sixth server joins, and the leader is removed for good. At the
-- end every write is read back, and the states of the five that are left are compared.
--
--   lua5.4 examples/demo.lua [--kills N] [--seconds S] [--victim leader|any] [--dir DIR]
--
-- The exit status is 0 only if nothing acknowledged was lost, nothing was applied twice, nothing that was refused was
-- applied, and all states are equal. `make demo` runs it. Needs luv and redis-cli (Debian: lua-luv, redis-tools).
--
-- Why a lost or doubled write cannot hide: every INCR has a key of its own, so its answer and its final value are
-- exactly 1; and every writer sets one key to ascending numbers: a write applied again later would turn it back.
local uv = require "luv"

local SERVERS = 5
local ANSWER_S = 15            -- a command without an answer for this long has an unknown outcome
local RECOVER_S = 30           -- a cluster that has not recovered from a kill after this long never will
local PAUSE_MS = 2             -- between two commands of a writer
local SNAPSHOT_MIB = 8         -- of log, after which a server takes a snapshot
local FILL_BYTES, FILL_KEYS = 256 << 10, 20   -- values that make the log long and the state small
local FILL_S = 120             -- a log that has not let go by then never will
local LUA = arg[-1] or "lua5.4"
local HERE = arg[0]:match("^(.*/)") or "./"

local opt = { kills = 3, seconds = 40, victim = "leader" }
for i = 1, #arg, 2 do
  local name = arg[i]:match("^%-%-(%a+)$")
  local value = tonumber(arg[i + 1]) or arg[i + 1]
  if not (name == "kills" or name == "seconds" or name == "victim" or name == "dir") or value == nil then
    io.stderr:write("usage: lua5.4 examples/demo.lua [--kills N] [--seconds S] [--victim leader|any] [--dir DIR]\n")
    os.exit(2)
  end
  opt[name] = value
end

local function now() return uv.hrtime() / 1e9 end
local began = now()
local function say(...) print(("%6.1f s  %s"):format(now() - began, string.format(...))) io.stdout:flush() end

-- ---- coroutines on luv's loop ----

local finish   -- of the whole program: finish(status)

local function go(fn, ...)
  local co = coroutine.create(function(...)
    local ok, message = xpcall(fn, debug.traceback, ...)
    if not ok then
      io.stderr:write(message, "\n")
      finish(1)
    end
  end)
  assert(coroutine.resume(co, ...))
end

---Suspends until the function given to `start` is called, which may happen at once; returns its arguments.
local function await(start)
  local co, values, waiting = coroutine.running(), nil, false
  start(function(...)
    if values then return end
    values = table.pack(...)
    if waiting then assert(coroutine.resume(co)) end
  end)
  if not values then
    waiting = true
    coroutine.yield()
  end
  return table.unpack(values, 1, values.n)
end

local function after(ms, fn)
  local timer = uv.new_timer()
  timer:start(ms, 0, function()
    timer:close()
    fn()
  end)
  return timer
end

local function sleep(s) await(function(wake) after(math.floor(s * 1000), wake) end) end

-- ---- servers ----

---A port that nobody listens on. Below those that outgoing connections get: a server that is dead for a moment shall
---find its port free when it comes back. The socket holds it until all are found.
local function free_port()
  while true do
    local tcp, port = uv.new_tcp(), math.random(10000, 32000)
    if tcp:bind("127.0.0.1", port) and tcp:listen(1, function() end) then return port, tcp end
    tcp:close()
  end
end

local dir = opt.dir or assert(uv.fs_mkdtemp((os.getenv("TMPDIR") or "/tmp") .. "/raft-demo.XXXXXX"))
local servers, addresses = {}, {}   -- one that was removed stays in the list: gone

---The servers from number n on, one after the other: the first that is no gone one.
local function server_from(n)
  local server
  repeat
    server = servers[(n - 1) % #servers + 1]
    n = n + 1
  until not server.gone
  return server
end

---How it gets its place: as one of the first, or by asking.
local function place_of(server)
  if server.id <= SERVERS then return "--id", tostring(server.id), "--cluster" end
  return "--listen", addresses[server.id], "--join"
end

local function start_server(server)
  local a, b, c = place_of(server)
  local log = assert(uv.fs_open(("%s/%d.log"):format(dir, server.id), "a", 384))
  server.process = assert(uv.spawn(LUA, {
    args = { HERE .. "redis.lua", "--dir", ("%s/%d"):format(dir, server.id), "--port", tostring(server.port),
      "--snapshot", tostring(SNAPSHOT_MIB), a, b, c, table.concat(addresses, ",", 1, SERVERS) },
    stdio = { nil, log, log },
  }, function(code, signal)
    server.process:close()
    server.process = nil
    if not server.expected then
      say("server %d ended by itself (status %d, signal %d): see %s/%d.log", server.id, code, signal, dir, server.id)
      finish(1)
    end
    if server.ended then server.ended(code, signal) end
  end))
  server.expected = false
  uv.fs_close(log)
end

---Ends a server and waits until it is gone: its status and signal.
local function end_server(server, signal)
  server.expected = true
  return await(function(done)
    server.ended = done
    server.process:kill(signal)
  end)
end

-- ---- redis-cli: one for a question, or one that stays open ----

local function spawn_client(port, words, on_line, on_end)
  local input, output, errors = uv.new_pipe(), uv.new_pipe(), uv.new_pipe()
  local rest, open, process = "", 3, nil
  local function ended()
    open = open - 1
    if open == 0 then on_end() end
  end
  process = assert(uv.spawn("redis-cli", {
    args = { "-p", tostring(port), table.unpack(words) },
    env = { "PATH=" .. os.getenv("PATH") },
    stdio = { input, output, errors },
  }, function()
    process:close()
    input:close()
    ended()
  end))
  output:read_start(function(_, text)
    if not text then
      output:close()
      return ended()
    end
    rest = rest .. text
    rest = rest:gsub("([^\n]*)\n", function(line)
      on_line((line:gsub("\r$", "")))
      return ""
    end)
  end)
  errors:read_start(function(_, text)       -- it says there that the server is gone
    if text then return process:is_closing() or process:kill("sigkill") end
    errors:close()
    ended()
  end)
  return process, input
end

---All lines that redis-cli prints for one command.
local function ask(server, ...)
  local words, lines = { ... }, {}
  await(function(done)
    local process = spawn_client(server.port, words, function(line) lines[#lines + 1] = line end, done)
    after(2000, function() if not process:is_closing() then process:kill("sigkill") end end)
  end)
  return lines
end

---What INFO says, as a table; empty if the server does not answer.
local function info(server, section)
  local facts = {}
  for _, line in ipairs(ask(server, "info", section)) do
    local name, value = line:match("^([%w_]+):(.*)$")
    if name then facts[name] = tonumber(value) or value end
  end
  return facts
end

local Session = {}
Session.__index = Session

local function connect(server)
  local self = setmetatable({ lines = {}, ended = false }, Session)
  self.process, self.input = spawn_client(server.port, {}, function(line)
    self.lines[#self.lines + 1] = line
    if self.wake then self.wake() end
  end, function()
    self.ended = true
    if self.wake then self.wake() end
  end)
  return self
end

---Sends a command; returns the line that answers it, or nil when the connection broke or nothing came for too long.
function Session:call(command)
  if self.ended or self.input:is_closing() then return nil end
  if not self.lines[1] then
    local limit
    await(function(wake)
      self.wake = wake
      limit = after(ANSWER_S * 1000, wake)
      if command then self.input:write(command .. "\n") end
    end)
    self.wake = nil
    if not limit:is_closing() then limit:close() end
  end
  return table.remove(self.lines, 1)
end

function Session:close()
  if not self.process:is_closing() then self.process:kill("sigkill") end
end

-- ---- writers ----

local writers, writing = {}, true
local acknowledged, last_ack = 0, 0
local longest   -- the longest time between two acknowledgements, since it was set to 0

local function acked()
  local at = now()
  if longest then longest = math.max(longest, at - last_ack) end
  acknowledged, last_ack = acknowledged + 1, at
end

local problems = {}
local function problem(kind, ...)
  problems[kind] = (problems[kind] or 0) + 1
  if problems[kind] <= 5 then say("%s: %s", kind:upper(), string.format(...)) end
end

---What an answer, or the lack of one, says about a command's outcome.
local function outcome_of(answer)
  if answer == nil or answer:find("^UNKNOWN ") then return "unknown" end
  if answer:find("^TRYAGAIN ") then return "refused" end
  return "acknowledged"
end

---One writer: INCR a new key, SET its own key to the next number, through one server until that fails.
local function write(writer)
  local at, n = writer.id, 0
  while writing do
    local server = server_from(at)
    local session = connect(server)
    while writing do
      n = n + 1
      local answer = session:call(("INCR w%d:%d"):format(writer.id, n))
      local outcome = outcome_of(answer)
      writer.outcomes[n] = outcome
      if outcome == "acknowledged" then
        acked()
        if answer ~= "1" then
          problem(tonumber(answer) and "twice" or "unexpected", "INCR of a new key was answered with %s", answer)
        end
        answer = session:call(("SET w%d %d"):format(writer.id, n))
        outcome = outcome_of(answer)
        writer.set_attempted = n
        writer.sets[outcome] = writer.sets[outcome] + 1
        if outcome == "acknowledged" then
          acked()
          writer.set_acknowledged = n
          if answer ~= "OK" then problem("unexpected", "SET was answered with %s", answer) end
        end
      end
      if outcome ~= "acknowledged" then break end   -- try another server
      sleep(PAUSE_MS / 1000)
    end
    session:close()
    at = server.id + 1
    sleep(0.05)
  end
  writer.done = true
end

-- ---- the story ----

local function wait_for(what, limit, condition)
  local start = now()
  while true do
    local value = condition()
    if value then return value end
    if now() - start > limit then
      say("waited %d s for %s, in vain", limit, what)
      finish(1)
    end
    sleep(0.05)
  end
end

---The leader that a majority names: server, term.
local function find_leader()
  local votes, terms, running = {}, {}, 0
  for _, server in ipairs(servers) do
    running = running + (server.gone and 0 or 1)
    local facts = server.process and not server.gone and info(server) or {}
    if facts.leader and facts.leader ~= 0 then
      votes[facts.leader] = (votes[facts.leader] or 0) + 1
      terms[facts.leader] = facts.term
    end
  end
  for id, n in pairs(votes) do
    if n > running // 2 and servers[id] and servers[id].process then return servers[id], terms[id] end
  end
end

local function leader()
  local found, term
  wait_for("a leader", RECOVER_S, function()
    found, term = find_leader()
    return found
  end)
  return found, term
end

local gaps = {}

local function kill_and_restart(round)
  local chief, term = leader()
  local victim = chief
  if opt.victim == "any" then victim = servers[math.random(SERVERS)] end
  longest = 0
  end_server(victim, "sigkill")
  say("kill %d of %d: server %d%s, term %d, is dead", round, opt.kills, victim.id,
    victim == chief and ", the leader" or "", term)
  local next_chief, next_term = leader()
  local elected = now()
  wait_for("the next acknowledged command", RECOVER_S, function() return last_ack > elected end)
  if victim == chief then
    gaps[#gaps + 1] = longest
    say("server %d leads in term %d; no command was acknowledged for %.2f s", next_chief.id, next_term, longest)
  end
  longest = nil
  start_server(victim)
  local target = wait_for("INFO", RECOVER_S, function() return info(leader()).commit end)
  wait_for("the restarted server", RECOVER_S, function() return (info(victim).applied or 0) >= target end)
  say("server %d is back and has caught up to command %d", victim.id, target)
end

---Writes large values until the log of the leader begins behind an index: how many MiB that took.
local function fill(index)
  local chief, n = leader(), 0
  local session, start, first = connect(chief), now(), 0
  local value = ("x"):rep(FILL_BYTES)
  while first <= index do
    n = n + 1
    if session:call(("SET fill%d %s"):format(n % FILL_KEYS, value)) ~= "OK" then   -- it leads no more
      session:close()
      chief = leader()
      session = connect(chief)
    end
    if n % 8 == 0 then first = info(chief).first or 0 end
    if now() - start > FILL_S then
      say("the log still begins at %d after %d MiB", first, n * FILL_BYTES >> 20)
      finish(1)
    end
  end
  session:close()
  return n * FILL_BYTES >> 20
end

local fed   -- what the table says about it

---A follower is away until the others have let go of what it lacks.
local function stop_and_feed()
  local victim = server_from(leader().id + 1)
  end_server(victim, "sigterm")
  local had = info(leader()).commit
  say("server %d is stopped at command %d", victim.id, had)
  local mib = fill(had)
  say("%d MiB later the others have let go of the log up to there", mib)
  local before, start = acknowledged, now()
  start_server(victim)
  local target = wait_for("INFO", RECOVER_S, function() return info(leader()).commit end)
  local facts = wait_for("the server that was away", RECOVER_S, function()
    local f = info(victim)
    return (f.applied or 0) >= target and f
  end)
  if facts.first <= had then problem("unexpected", "server %d was not fed a snapshot", victim.id) end
  fed = ("server %d: %.1f MiB at command %d, and caught up after %.2f s; meanwhile %d were acknowledged"):format(
    victim.id, facts.snapshot_bytes / (1 << 20), facts.first - 1, now() - start, acknowledged - before)
  say("server %d is back: it was fed a snapshot and the commands after it, up to %d", victim.id, target)
end

local joined, removed

---One more server asks its way in while the clients write.
local function join_sixth()
  local server, before, start = servers[SERVERS + 1], acknowledged, now()
  server.gone = nil
  start_server(server)
  local facts = wait_for("the vote of the server that joins", RECOVER_S, function()
    local f = info(server)
    return f.voters == SERVERS + 1 and f.role == "follower" and f
  end)
  if facts.id ~= server.id then problem("unexpected", "the server that joins is number %d", facts.id) end
  joined = ("server %d: votes after %.2f s; meanwhile %d were acknowledged"):format(facts.id, now() - start,
    acknowledged - before)
  say("server %d has joined, has caught up to command %d, and votes", facts.id, facts.applied)
end

---The leader goes for good while the clients write.
local function remove_leader()
  local chief, term = leader()
  local asked = server_from(chief.id + 1)
  longest = 0
  local answer = ask(asked, "raft", "remove", tostring(chief.id))[1]
  if answer ~= "OK" then problem("unexpected", "the removal of server %d was answered with %s", chief.id, answer) end
  chief.gone = true
  local next_chief, next_term = leader()
  local led = now()
  wait_for("the next acknowledged command", RECOVER_S, function() return last_ack > led end)
  wait_for("its own word for it", RECOVER_S, function() return info(chief).role == "removed" end)
  local code, signal = end_server(chief, "sigterm")
  if code ~= 0 or signal ~= 0 then problem("unexpected", "it ended with status %d, signal %d", code, signal) end
  removed = ("server %d: no command was acknowledged for %.3f s"):format(chief.id, longest)
  say("server %d, the leader of term %d, is removed; server %d leads in term %d", chief.id, term, next_chief.id,
    next_term)
  longest = nil
end

---Reads a writer's keys through a server that it did not start at, and compares.
local function verify(writer, totals)
  local server = server_from(writer.id + 1)
  local session = connect(server)
  local lines = {}
  for n in ipairs(writer.outcomes) do lines[n] = ("GET w%d:%d"):format(writer.id, n) end
  lines[#lines + 1] = "GET w" .. writer.id
  session.input:write(table.concat(lines, "\n") .. "\n")
  for n, outcome in ipairs(writer.outcomes) do
    local value = session:call()
    totals[outcome] = totals[outcome] + 1
    if value == nil or not value:find("^%d*$") then
      return problem("unreadable", "w%d:%d answers %s", writer.id, n, tostring(value))
    end
    if value == "" and outcome == "acknowledged" then problem("lost", "w%d:%d", writer.id, n) end
    if value ~= "" and value ~= "1" then problem("twice", "w%d:%d is %s", writer.id, n, value) end
    if value ~= "" and outcome == "refused" then problem("refused", "w%d:%d was applied", writer.id, n) end
    if value ~= "" and outcome == "unknown" then totals.took_effect = totals.took_effect + 1 end
  end
  for outcome, n in pairs(writer.sets) do totals[outcome] = totals[outcome] + n end
  local last = tonumber(session:call()) or 0
  if last > writer.set_acknowledged then totals.took_effect = totals.took_effect + 1 end
  if last < writer.set_acknowledged then problem("lost", "w%d is %d", writer.id, last) end
  if last > writer.set_attempted then problem("twice", "w%d is %d", writer.id, last) end
  session:close()
end

---Do all servers hold the same state? Each is asked after it has applied all that was committed before.
local function compare()
  local digests, first = 0, nil
  for _, server in ipairs(servers) do
    local facts = server.gone or wait_for("the state of server " .. server.id, RECOVER_S, function()
      local f = info(server, "state")
      return f.digest and f
    end)
    if not server.gone then
      first = first or facts.digest
      if facts.digest == first then digests = digests + 1
      else problem("differ", "server %d: %s, another one: %s", server.id, facts.digest, first) end
    end
  end
  return digests
end

---How long the cluster was without a leader: each time, or of many times the shortest, the median and the longest.
local function describe_gaps()
  if #gaps == 0 then return "never" end
  local texts = {}
  for i, gap in ipairs(gaps) do texts[i] = ("%.2f s"):format(gap) end
  if #gaps <= 5 then return table.concat(texts, ", ") end
  table.sort(gaps)
  return ("%.2f s to %.2f s, median %.2f s"):format(gaps[1], gaps[#gaps], gaps[#gaps // 2 + 1])
end

local function report(totals, equal)
  local rows = {
    { "commands acknowledged", acknowledged },
    { "refused, and not applied", totals.refused - (problems.refused or 0) },
    { "outcome unknown", ("%d (at least %d took effect)"):format(totals.unknown, totals.took_effect) },
    { opt.victim == "any" and "servers killed" or "leaders killed", opt.kills },
    { "without a leader", describe_gaps() },
    { "fed by snapshot", fed },
    { "joined", joined },
    { "the leader removed", removed },
    { "lost", problems.lost or 0 },
    { "applied twice", problems.twice or 0 },
    { "equal states", ("%d of %d"):format(equal, SERVERS) },
  }
  print()
  for _, row in ipairs(rows) do print(("  %-26s %s"):format(row[1], row[2])) end
  print()
end

local function progress()
  local timer, before = uv.new_timer(), 0
  timer:start(5000, 5000, function()
    say("%d commands acknowledged, %d a second", acknowledged, (acknowledged - before) // 5)
    before = acknowledged
  end)
  return timer
end

local function main()
  local held = {}
  for id = 1, SERVERS + 1 do
    local port, resp, a, b
    port, a = free_port()
    resp, b = free_port()
    held[#held + 1], held[#held + 2] = a, b
    servers[id], addresses[id] = { id = id, port = resp, gone = id > SERVERS or nil }, "127.0.0.1:" .. port
  end
  await(function(done)
    for i, tcp in ipairs(held) do tcp:close(i == #held and done or nil) end
  end)
  for id = 1, SERVERS do start_server(servers[id]) end
  local chief, term = leader()
  say("five servers run, with their data in %s; server %d leads in term %d", dir, chief.id, term)
  for id = 1, SERVERS do
    writers[id] = { id = id, outcomes = {}, set_attempted = 0, set_acknowledged = 0,
      sets = { acknowledged = 0, refused = 0, unknown = 0 } }
    go(write, writers[id])
  end
  say("five clients write, each through a server of its own")
  local ticking, start = progress(), now()
  for round = 1, opt.kills do
    local due = start + round * opt.seconds / (opt.kills + 2)
    if due > now() then sleep(due - now()) end
    kill_and_restart(round)
  end
  stop_and_feed()
  join_sixth()
  remove_leader()
  if start + opt.seconds > now() then sleep(start + opt.seconds - now()) end
  writing = false
  for _, writer in ipairs(writers) do wait_for("a writer", ANSWER_S * 2, function() return writer.done end) end
  ticking:close()

  say("reading %d commands back", acknowledged)
  local totals, open = { acknowledged = 0, refused = 0, unknown = 0, took_effect = 0 }, #writers
  for _, writer in ipairs(writers) do
    go(function()
      verify(writer, totals)
      open = open - 1
    end)
  end
  wait_for("the verification", 600, function() return open == 0 end)
  report(totals, compare())
  for _, server in ipairs(servers) do
    local code, signal = 0, 0
    if not server.gone then code, signal = end_server(server, "sigterm") end
    if code ~= 0 or signal ~= 0 then
      problem("unexpected", "server %d ended with status %d, signal %d", server.id, code, signal)
    end
  end
  if next(problems) == nil and acknowledged > 0 then
    say("nothing acknowledged was lost, nothing was applied twice")
    finish(0)
  end
  say("FAILED; the data is kept in %s", dir)
  finish(1)
end

local finishing = false
function finish(status)
  if not finishing then
    finishing = true
    for _, server in ipairs(servers) do
      server.expected = true
      if server.process then server.process:kill("sigkill") end
    end
    if status == 0 and not opt.dir then os.execute(("rm -rf '%s'"):format(dir)) end
    io.stdout:flush()
    os.exit(status)
  end
end

for _, name in ipairs { "sigint", "sigterm" } do
  uv.new_signal():start(name, function() finish(130) end)
end
go(main)
uv.run()
