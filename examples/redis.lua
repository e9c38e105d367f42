-- A replicated server that speaks the Redis protocol, on any server of the cluster: GET SET DEL INCR EXPIRE PEXPIRE TTL
-- PTTL PING INFO, sessions, and changes of the cluster.
--
--   lua5.4 examples/redis.lua --id 1 --dir data/1 --port 6401 --cluster 127.0.0.1:7401,127.0.0.1:7402,127.0.0.1:7403
--   redis-cli -p 6401 incr visits
--
-- `make cluster` starts three. Needs luv (Debian: lua-luv), whose loop the raft node is attached to.
--
-- A connection has one entry of the log under way at a time; the commands that its client sends meanwhile form the
-- next one. So a client's commands take effect in its order, and pipelining costs one round of agreement, not many.
--
-- A client that lost an answer does not know whether its command took effect. In a session it may ask again, any
-- server: SESSION NEW gives a number, say 17; SESSION 17 1 INCR visits is its first command, SESSION 17 2 ... the
-- second. The last one once more is answered with what it came to the first time.
--
-- A new server is started with --join and --listen in place of --id and --cluster. RAFT REMOVE 2 removes server 2,
-- RAFT TRANSFER 3 has server 3 lead; on any server.
local raft = require "raft"
local uv = require "luv"

local COMMANDS_MAX = 1024          -- in one entry
local ENTRY_BYTES = 512 << 10      -- likewise: one entry is closed when it has grown to this
local BULK_BYTES = 512 << 10       -- of one word of a command
local WORDS_MAX = 1024             -- of one command
local QUEUE_MAX = 4096             -- commands of one client that wait; it is not read from beyond that

-- ---- the state machine: a table of strings, driven by lists of commands ----

local store = {}

---expires: by key, the ms of the leader's clock from which on it is no more.
function store:init() self.data, self.expires = {}, {} end

local NO_INTEGER = "-ERR value is not an integer or out of range\r\n"
local TIMES = { EX = 1000, PX = 1 }

local function integer(text) return text:match("^-?%d+$") and math.tointeger(tonumber(text)) end

---The ms from which on something is no more that lasts for so many units of ms; nil and an answer: it is no time.
local function deadline(now, text, unit)
  local n = integer(text)
  if not n or n < -(1 << 50) or n > 1 << 50 then return nil, NO_INTEGER end
  return now + n * unit
end

---One command's effect and its answer, in the protocol's form. now: ms, the same on every server, because it comes from
---the log.
local execute = {}

function execute.GET(self, _, key)
  local value = self.data[key]
  return value and ("$%d\r\n%s\r\n"):format(#value, value) or "$-1\r\n"
end

function execute.SET(self, now, key, value, unit, n)
  local expires, wrong
  if unit then
    unit = TIMES[unit:upper()]
    if not unit or not n then return "-ERR syntax error\r\n" end
    expires, wrong = deadline(now, n, unit)
    if not expires then return wrong end
    if expires <= now then return "-ERR invalid expire time in 'set' command\r\n" end
  end
  self.data[key], self.expires[key] = value, expires
  return "+OK\r\n"
end

function execute.DEL(self, _, ...)
  local n = 0
  for _, key in ipairs { ... } do
    if self.data[key] then n = n + 1 end
    self.data[key], self.expires[key] = nil, nil
  end
  return (":%d\r\n"):format(n)
end

function execute.INCR(self, _, key)
  local n = integer(self.data[key] or "0")
  if not n then return NO_INTEGER end
  if n == math.maxinteger then return "-ERR increment or decrement would overflow\r\n" end
  self.data[key] = tostring(n + 1)
  return (":%d\r\n"):format(n + 1)
end

function execute.PEXPIRE(self, now, key, n, unit)
  local expires, wrong = deadline(now, n, unit or TIMES.PX)
  if not expires then return wrong end
  if not self.data[key] then return ":0\r\n" end
  if expires <= now then execute.DEL(self, now, key) else self.expires[key] = expires end
  return ":1\r\n"
end

function execute.EXPIRE(self, now, key, n) return execute.PEXPIRE(self, now, key, n, TIMES.EX) end

function execute.PTTL(self, now, key, unit)
  if not self.data[key] then return ":-2\r\n" end
  local expires = self.expires[key]
  unit = unit or TIMES.PX
  return expires and (":%d\r\n"):format((expires - now + unit // 2) // unit) or ":-1\r\n"
end

function execute.TTL(self, now, key) return execute.PTTL(self, now, key, TIMES.EX) end

---Removes what the command is about to touch and should be gone.
local function expire(self, command, now)
  for i = 2, command[1] == "DEL" and #command or 2 do
    local key = command[i]
    if (self.expires[key] or math.maxinteger) <= now then self.data[key], self.expires[key] = nil, nil end
  end
end

---time: the leader's clock when the entry came into the log; the same on every server, and it never falls.
function store:apply(batch, _, time)
  local answers, now = {}, math.floor(time * 1000)
  for i, command in ipairs(batch) do
    expire(self, command, now)
    answers[i] = execute[command[1]](self, now, table.unpack(command, 2))
  end
  return answers
end

---The answers of GETs, if the time does not matter to them: while nothing is written, no clock ticks in the log.
function store:peek(batch)
  local answers = {}
  for i, command in ipairs(batch) do
    if self.expires[command[2]] then return nil end
    answers[i] = execute.GET(self, nil, command[2])
  end
  return answers
end

local function hash(text)
  local h = #text
  text = text .. ("\0"):rep(-#text % 8)
  for at = 1, #text, 8 do
    h = (h ~ string.unpack("<i8", text, at)) * 0x9E3779B97F4A7C15
    h = h ~ (h >> 29)
  end
  return h
end

---Equal states have equal digests, whatever the order in which their tables are walked.
function store:digest()
  local sum = 0
  for key, value in pairs(self.data) do sum = sum + hash(key .. "\0" .. value) end
  for key, expires in pairs(self.expires) do sum = sum + hash(key .. "\0\0" .. expires) end
  return ("%016x"):format(sum)
end

-- ---- the protocol ----

local ARITY = { GET = { 2, 2 }, SET = { 3, 5 }, DEL = { 2, WORDS_MAX }, INCR = { 2, 2 }, EXPIRE = { 3, 3 },
  PEXPIRE = { 3, 3 }, TTL = { 2, 2 }, PTTL = { 2, 2 }, SESSION = { 2, WORDS_MAX }, PING = { 1, 2 }, INFO = { 1, 2 },
  RAFT = { 3, 3 }, COMMAND = { 1, WORDS_MAX }, CONFIG = { 1, WORDS_MAX } }

local function bulk(text) return ("$%d\r\n%s\r\n"):format(#text, text) end

---The words of the command that starts at `at`, and where the next one starts. nil: it is not complete yet. nil and a
---message: it will never be.
local function parse(text, at)
  local line, after = text:match("^([^\r\n]*)\r?\n()", at)
  if not line then return nil, #text - at > BULK_BYTES and "too big inline request" or nil end
  if line:sub(1, 1) ~= "*" then
    local words = {}
    for word in line:gmatch("%S+") do words[#words + 1] = word end
    return words, after
  end
  local n = math.tointeger(tonumber(line:sub(2)))
  if not n or n < 0 or n > WORDS_MAX then return nil, "invalid multibulk length" end
  local words = {}
  for i = 1, n do
    local size, start = text:match("^%$(%d+)\r\n()", after)
    if not size then
      local broken = #text - after > 20 or text:find("\n", after, true) or not text:find("^%$?%d*\r?$", after)
      return nil, broken and "expected '$' and a length" or nil
    end
    size = tonumber(size)
    if size > BULK_BYTES then return nil, "invalid bulk length" end
    if #text < start + size + 1 then return nil end
    words[i], after = text:sub(start, start + size - 1), start + size + 2
  end
  return words, after
end

-- ---- a client ----

local Client = {}
Client.__index = Client

---Answers in the state machine's place when raft could not.
local function failure(message, code)
  local certainty = raft.outcome(code)
  if code == "too_large" then return ("-ERR %s\r\n"):format(message) end
  if certainty == "no" then return ("-TRYAGAIN %s (%s)\r\n"):format(message, code) end   -- surely not applied
  return ("-UNKNOWN %s (%s)\r\n"):format(message, code)                  -- perhaps applied, or the answer is lost
end

---Answers what needs no agreement; nil for what does.
function Client:answer(command)
  local name = command[1]
  local arity = ARITY[name]
  if not arity then return ("-ERR unknown command '%s'\r\n"):format(name:sub(1, 64):gsub("%c", " ")) end
  if #command < arity[1] or #command > arity[2] then
    return ("-ERR wrong number of arguments for '%s' command\r\n"):format(name:lower())
  end
  if name == "PING" then return command[2] and bulk(command[2]) or "+PONG\r\n" end
  if name == "CONFIG" and #command == 3 then return "*2\r\n" .. bulk(command[3]) .. bulk("") end  -- CONFIG GET
  if name == "COMMAND" or name == "CONFIG" then return "*0\r\n" end
  if name == "INFO" and (command[2] or ""):lower() ~= "state" then return bulk(self.info()) end
end

---The next commands that go to the log together, or that are read together.
function Client:take_batch()
  local batch, bytes, reads = {}, 0, true
  while self.first <= self.last and #batch < COMMANDS_MAX and bytes < ENTRY_BYTES do
    local command = self.queue[self.first]
    if not execute[command[1]] or self:answer(command) then break end
    self.queue[self.first], self.first = nil, self.first + 1
    batch[#batch + 1] = command
    reads = reads and command[1] == "GET"
    for _, word in ipairs(command) do bytes = bytes + #word end
  end
  return batch, reads
end

---Works off the queue until something has to be waited for.
function Client:work()
  while not self.busy and self.first <= self.last do
    local command = self.queue[self.first]
    local answer = self:answer(command)
    if answer then
      self.queue[self.first], self.first = nil, self.first + 1
      self:send(answer)
    elseif command[1] == "INFO" then
      self.queue[self.first], self.first = nil, self.first + 1
      self:ask(1, self.node.read, self.node, function(machine, index) return { bulk(
        ("# State\r\napplied:%d\r\ndigest:%s\r\n"):format(index, machine:digest())) } end)
    elseif command[1] == "SESSION" or command[1] == "RAFT" then
      self.queue[self.first], self.first = nil, self.first + 1
      self[command[1] == "RAFT" and "change_cluster" or "in_session"](self, command)
    else
      local batch, reads = self:take_batch()
      self:ask(#batch, reads and self.look_up or self.node.propose, self.node, batch)
    end
  end
  self:flush()
  if self.paused and self.last - self.first < QUEUE_MAX / 2 then
    self.paused = false
    if not self.socket:is_closing() then self.socket:read_start(self.on_read) end
  end
end

---Asks the cluster for n answers: call(..., callback). They come later, perhaps before this returns.
function Client:ask(n, call, ...)
  local words = table.pack(...)
  words[words.n + 1] = function(answers, message, code)
    self.busy = false
    self:send(answers and table.concat(answers) or failure(message, code):rep(n))
    if not self.working then self:work_once() end
  end
  self.busy = true
  call(table.unpack(words, 1, words.n + 1))
end

---Reads without an entry of the log, unless one of the keys has a deadline.
function Client.look_up(node, batch, callback)
  node:read(function(machine) return machine:peek(batch) end, function(answers, message, code)
    if answers or code then callback(answers, message, code) else node:propose(batch, callback) end
  end)
end

local function open_session(node, callback)
  raft.go(function()
    local session, message, code = node:session()
    callback(session and { (":%d\r\n"):format(session.id) }, message, code)
  end)
end

---SESSION NEW, or SESSION id number command...
function Client:in_session(words)
  if words[2]:upper() == "NEW" and #words == 2 then return self:ask(1, open_session, self.node) end
  local id, number, command = integer(words[2]), words[3] and integer(words[3]), table.move(words, 4, #words, 1, {})
  if not (id and id > 0 and number and number > 0 and command[1]) then
    return self:send("-ERR SESSION NEW, or SESSION id number command; both count from 1\r\n")
  end
  command[1] = command[1]:upper()
  local answer = self:answer(command)
  if not answer and not execute[command[1]] then answer = "-ERR not in a session\r\n" end
  if answer then return self:send(answer) end
  local session = self.node:session(id)
  self:ask(1, session.propose, session, number, { command })
end

function Client:work_once()
  self.working = true
  self:work()
  self.working = false
end

function Client:send(text) self.out[#self.out + 1] = text end

function Client:flush()
  if #self.out == 0 or self.socket:is_closing() then return end
  self.socket:write(table.concat(self.out))
  self.out = {}
end

---RAFT REMOVE id, RAFT TRANSFER id.
function Client:change_cluster(command)
  local call = ({ REMOVE = self.node.remove, TRANSFER = self.node.transfer })[command[2]:upper()]
  local id = integer(command[3])
  if not call or not id or id < 1 then return self:send("-ERR RAFT REMOVE id, or RAFT TRANSFER id\r\n") end
  self:ask(1, function(answer)
    call(self.node, id, function(done, message, code) answer(done and { "+OK\r\n" }, message, code) end)
  end)
end

function Client:received(text)
  text = self.rest .. text
  local at = 1
  while true do
    local words, after = parse(text, at)
    if not words then
      if after then
        self:send(("-ERR Protocol error: %s\r\n"):format(after))
        self:flush()
        self.socket:read_stop()
        self.socket:shutdown(function() self:close() end)
        return
      end
      break
    end
    at = after
    if #words > 0 then
      words[1] = words[1]:upper()
      self.last = self.last + 1
      self.queue[self.last] = words
    end
  end
  self.rest = text:sub(at)
  if self.last - self.first > QUEUE_MAX and not self.paused then
    self.paused = true
    self.socket:read_stop()
  end
  self:work_once()
end

function Client:close()
  if not self.socket:is_closing() then self.socket:close() end
  self.clients[self] = nil
end

local function serve(server, node, info, clients)
  local socket = uv.new_tcp()
  assert(server:accept(socket))
  socket:nodelay(true)
  local client = setmetatable({ socket = socket, node = node, info = info, clients = clients, rest = "", out = {},
    queue = {}, first = 1, last = 0, busy = false, working = false, paused = false }, Client)
  clients[client] = true
  client.on_read = function(err, text)
    if err or not text then client:close() else client:received(text) end
  end
  socket:read_start(client.on_read)
end

-- ---- the program ----

local USAGE = [[usage: lua5.4 examples/redis.lua --id N --dir DIR --port PORT --cluster HOST:PORT,HOST:PORT,...
   or: lua5.4 examples/redis.lua --join HOST:PORT,... --listen HOST:PORT --dir DIR --port PORT
  --id       this server's place in the list, from 1
  --dir      where its log is kept
  --port     where Redis clients connect, on 127.0.0.1
  --cluster  where the servers reach each other, in the order of their ids
  --join     where some servers of a cluster are reached that runs: this one joins it
  --listen   where the others reach this one
  --snapshot a snapshot after so many MiB of log, and the log behind it is let go; by default 64
]]

local function options(words)
  local given = {}
  for i = 1, #words, 2 do given[words[i]] = words[i + 1] end
  local id, port = math.tointeger(tonumber(given["--id"])), math.tointeger(tonumber(given["--port"]))
  local joins = given["--join"] and given["--listen"]
  if not (port and given["--dir"] and (joins or id and given["--cluster"])) then
    io.stderr:write(USAGE)
    os.exit(2)
  end
  local addresses = {}
  for address in (given["--join"] or given["--cluster"]):gmatch("[^,]+") do addresses[#addresses + 1] = address end
  local mib = math.tointeger(tonumber(given["--snapshot"]))
  return { id = id, port = port, dir = given["--dir"], cluster = not joins and addresses or nil,
    join = joins and addresses or nil, listen = given["--listen"],
    snapshot = mib and { bytes = mib << 20, keep = 1000 } }
end

local function info_of(node)
  return function()
    local s = node:status()
    local voters = 0
    for _, member in ipairs(s.members) do voters = voters + (member.role == "voter" and 1 or 0) end
    return ("# Raft\r\nid:%d\r\nrole:%s\r\nterm:%d\r\nleader:%d\r\nvoters:%d\r\ncommit:%d\r\n"
      .. "applied:%d\r\nfirst:%d\r\nsnapshot:%d\r\nsnapshot_bytes:%d\r\n"):format(s.id, s.role, s.term,
      s.leader or 0, voters, s.commit, s.applied, s.first, s.snapshot.index, s.snapshot.bytes)
  end
end

local opt = options(arg)
raft.attach(uv)                                              -- luv's loop and raft's are driven together
raft.run(function()                                          -- until SIGINT or SIGTERM, which close the node
  local node <close> = assert(raft.node { id = opt.id, dir = opt.dir, machine = store, cluster = opt.cluster,
    join = opt.join, listen = opt.listen, snapshot = opt.snapshot, log = "warn" })
  local clients, server, info = {}, uv.new_tcp(), info_of(node)
  assert(server:bind("127.0.0.1", opt.port))
  assert(server:listen(128, function(err)
    if not err then serve(server, node, info, clients) end
  end))
  print(("server %d is ready: redis-cli -p %d"):format(node.id, opt.port))
  io.stdout:flush()
  while true do raft.sleep(3600) end
end)
os.exit(true)                                                -- at once: what clients still wait for is not coming
