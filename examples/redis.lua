-- A replicated server that speaks the Redis protocol, on any server of the cluster: GET SET DEL INCR EXPIRE PEXPIRE TTL
-- PTTL PING INFO, sessions, and changes of the cluster.
--
--   lua5.4 examples/redis.lua --id 1 --dir data/1 --port 6401 --cluster 127.0.0.1:7401,127.0.0.1:7402,127.0.0.1:7403
--   redis-cli -p 6401 incr visits
--
-- `make cluster` starts three. Needs luv (Debian: lua-luv), whose loop the raft node is attached to.
--
-- What all clients send within one turn of the loop goes into one entry of the log, GETs alone into one look-up: one
-- call of raft is cheap, one for many commands is cheaper still. A connection has one of these under way at a time;
-- what its client sends meanwhile goes into a later one. So a client's commands take effect in its order, and
-- pipelining costs one round of agreement, not many.
--
-- A client that lost an answer does not know whether its command took effect. In a session it may ask again, any
-- server: SESSION NEW gives a number, say 17; SESSION 17 1 INCR visits is its first command, SESSION 17 2 ... the
-- second. The last one once more is answered with what it came to the first time.
--
-- A new server is started with --join and --listen in place of --id and --cluster. RAFT REMOVE 2 removes server 2,
-- RAFT TRANSFER 3 has server 3 lead; on any server.
local raft = require "raft"
local uv = require "luv"

local ENTRY_BYTES = 64 << 10       -- one entry is closed before it grows beyond this; a larger command goes alone
local BULK_BYTES = 512 << 10       -- of one word of a command
local WORDS_MAX = 1024             -- of one command
local REQUEST_BYTES = 1 << 20      -- of one command: raft's command_bytes
local INPUT_BYTES = 64 << 10       -- of one client that wait; it is not read from beyond that
local HEADS_MAX = 1000             -- first parts of commands that are kept

-- ---- the state machine: a table of strings, driven by lists of commands ----

local store = {}

---expires: by key, the ms of the leader's clock from which on it is no more.
function store:init() self.data, self.expires = {}, {} end

local NO_INTEGER = "-ERR value is not an integer or out of range\r\n"
local TIMES = { EX = 1000, PX = 1 }

local function integer(text) return text:match("^-?%d+$") and math.tointeger(tonumber(text)) end

local function forget(self, key) self.data[key], self.expires[key] = nil, nil end

---Removes what should be gone by now.
local function expire(self, now, key)
  local expires = self.expires[key]
  if expires and expires <= now then forget(self, key) end
end

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
  return value and "$" .. #value .. "\r\n" .. value .. "\r\n" or "$-1\r\n"
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

function execute.DEL(self, now, ...)
  local n = 0
  for _, key in ipairs { ... } do
    expire(self, now, key)
    if self.data[key] then n = n + 1 end
    forget(self, key)
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
  if expires <= now then forget(self, key) else self.expires[key] = expires end
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

---list: commands, each with the number of its words before it: { 3, "SET", "a", "1", 2, "INCR", "n" }. A flat list
---costs less to pack and unpack than tables in a table. time: the leader's clock when the entry came into the log; the
---same on every server, and it never falls.
function store:apply(list, _, time)
  local answers, now, expires = {}, math.floor(time * 1000), self.expires
  local at, i = 1, 1
  while list[at] do
    local n, run, key = list[at], execute[list[at + 1]], list[at + 2]
    if expires[key] then expire(self, now, key) end
    if n == 2 then answers[i] = run(self, now, key)
    elseif n == 3 then answers[i] = run(self, now, key, list[at + 3])
    else answers[i] = run(self, now, key, table.unpack(list, at + 3, at + n)) end
    at, i = at + 1 + n, i + 1
  end
  return answers
end

---The answers of GETs, if the time does not matter to them: while nothing is written, no clock ticks in the log.
function store:peek(list)
  local answers = {}
  for at = 3, #list, 3 do
    local key = list[at]
    if self.expires[key] then return nil end
    answers[#answers + 1] = execute.GET(self, nil, key)
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

local byte, sub = string.byte, string.sub
local LF <const>, CR <const>, DOLLAR <const>, STAR <const>, ZERO <const>, NINE <const> = 10, 13, 36, 42, 48, 57

---The number in the line at `at`, and where the next line starts. nil: the line is not complete. nil and a message: it
---does not begin with this mark, or has no number behind that, or more than `most`. Most have one digit or two: looking
---at the bytes costs less than a pattern.
local function read_number(text, at, mark, most, message)
  local first, a, b, c, d = byte(text, at, at + 4)
  if first == mark and c == LF and b == CR and a >= ZERO and a <= NINE then return a - ZERO, at + 4 end
  if first == mark and d == LF and c == CR and a >= ZERO and a <= NINE and b >= ZERO and b <= NINE then
    return 10 * a + b - 11 * ZERO, at + 5
  end
  if not first then return nil end
  local digits, after = text:match("^(%d+)\r\n()", at + 1)
  local n = tonumber(digits)
  if first == mark and n and n <= most then return n, after end
  local goes_on = first == mark and not n and #text - at < 20 and text:find("^%d*\r?$", at + 1)
  return nil, not goes_on and message or nil
end

local words = {}                   -- of the command that was parsed last, and behind them older ones

---Is the command of n words that was parsed last one for the state machine? Gives its name large letters.
local function is_executed(n)
  if n == 0 then return false end
  local name = words[1]:upper()
  local arity = ARITY[name]
  words[1] = name
  return execute[name] and n >= arity[1] and n <= arity[2]
end

---A command as people type it, in one line.
local function parse_line(text, at)
  local line, after = text:match("^([^\r\n]*)\r?\n()", at)
  if not line then return nil, #text - at > BULK_BYTES and "too big inline request" or nil end
  local n = 0
  for word in line:gmatch("%S+") do
    n = n + 1
    words[n] = word
  end
  return n, after, is_executed(n)
end

---Reads the words from the first to the n-th; returns where the next command starts. With a size, `at` is where the
---first of them is. nil, or nil and a message: as parse.
local function read_words(text, at, first, n, size)
  for i = first, n do
    if not size then
      size, at = read_number(text, at, DOLLAR, BULK_BYTES, "expected '$' and a length")
      if not size then return nil, at end
    end
    local after = at + size
    if after >= #text then return nil end
    words[i], at, size = sub(text, at, after - 1), after + 2, nil
  end
  return at
end

-- The head of a command is all that stands before its second word, such as "*3\r\n$3\r\nSET\r\n$16\r\n". Nearly always
-- it has been seen before: looking it up by its text costs less than parsing it.
local heads, heads_kept = {}, 0    -- of commands for the state machine
local head_bytes = 0               -- of the one that was parsed last: the next one is mostly as long

local function read_head(text, at)
  local n, after = read_number(text, at, STAR, WORDS_MAX, "invalid multibulk length")
  if not n then return nil, after end
  local size, message
  after, message = read_words(text, after, 1, math.min(n, 1))
  if not after then return nil, message end
  if n > 1 then
    size, after = read_number(text, after, DOLLAR, BULK_BYTES, "expected '$' and a length")
    if not size then return nil, after end
  end
  local head = { bytes = after - at, n = n, executed = is_executed(n), name = words[1], size = size }
  if head.executed then
    if heads_kept == HEADS_MAX then heads, heads_kept = {}, 0 end
    heads[sub(text, at, after - 1)], heads_kept, head_bytes = head, heads_kept + 1, head.bytes
  end
  return head
end

---Parses the command that starts at `at`: the number of its words, where the next one starts, and whether it is for the
---state machine. nil: it is not complete. nil and a message: it never will be.
local function parse(text, at)
  local head = heads[sub(text, at, at + head_bytes - 1)]
  if not head then
    if byte(text, at) ~= STAR then return parse_line(text, at) end
    local message
    head, message = read_head(text, at)
    if not head then return nil, message end
  end
  words[1] = head.name
  local after, message = read_words(text, at + head.bytes, 2, head.n, head.size)
  if not after then return nil, message end
  return head.n, after, head.executed
end

-- ---- what is asked of the cluster together: commands of many clients ----

---reads: GETs alone, which need no entry of the log.
local function new_batch(reads)
  return { list = {}, size = 0, bytes = 0, clients = {}, counts = {}, reads = reads }
end

---Adds the command of n words that was parsed last, if that has its place here.
local function add(batch, n, bytes)
  local list, at = batch.list, batch.size + 1
  bytes = bytes + batch.bytes
  if bytes > ENTRY_BYTES and at > 1 or batch.reads and words[1] ~= "GET" then return false end
  list[at] = n
  for i = 1, n do list[at + i] = words[i] end
  batch.size, batch.bytes = at + n, bytes
  return true
end

---Answers in the state machine's place when raft could not.
local function failure(message, code)
  local certainty = raft.outcome(code)
  if code == "too_large" then return ("-ERR %s\r\n"):format(message) end
  if certainty == "no" then return ("-TRYAGAIN %s (%s)\r\n"):format(message, code) end   -- surely not applied
  return ("-UNKNOWN %s (%s)\r\n"):format(message, code)                  -- perhaps applied, or the answer is lost
end

---Gives every client its part of the answers.
local function give_out(batch, answers, message, code)
  local failed, first = not answers and failure(message, code), 1
  for i, client in ipairs(batch.clients) do
    local n = batch.counts[i]
    if failed then client:answered(failed:rep(n))
    elseif n == 1 then client:answered(answers[first])
    else client:answered(table.concat(answers, "", first, first + n - 1)) end
    first = first + n
  end
end

---Reads without an entry of the log, unless one of the keys has a deadline.
local function look_up(node, list, callback)
  node:read(function(machine) return machine:peek(list) end, function(answers, message, code)
    if answers or code then callback(answers, message, code) else node:propose(list, callback) end
  end)
end

-- ---- what the clients of this server share ----

local Server = {}
Server.__index = Server

local function new_server(node, info)
  return setmetatable({ node = node, info = info, clients = {}, reads = new_batch(true), writes = new_batch() }, Server)
end

---Takes the first of a client's next commands, and says into which batch.
function Server:take(n, bytes)
  local kind = words[1] == "GET" and "reads" or "writes"
  if not add(self[kind], n, bytes) then
    self:send(kind)
    add(self[kind], n, bytes)
  end
  return self[kind]
end

---Asks the cluster for what has been gathered.
function Server:send(kind)
  local batch = self[kind]
  if batch.size == 0 then return end
  self[kind] = new_batch(batch.reads)
  local ask = batch.reads and look_up or self.node.propose
  ask(self.node, batch.list, function(...)
    give_out(batch, ...)
    self:send_all()
  end)
end

---When all that has come has been read, and when answers have had clients go on.
function Server:send_all()
  self:send("reads")
  self:send("writes")
end

-- ---- a client ----

local Client = {}
Client.__index = Client

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
  if name == "INFO" and (command[2] or ""):lower() ~= "state" then return bulk(self.server.info()) end
end

---Works off what has come, until something has to be waited for.
function Client:work()
  local text, at = self.text, 1
  local batch, count, wrong                      -- where its commands go and how many these are; what it got wrong
  while self.waits == 0 and at <= #text do
    local n, after, executed = parse(text, at)
    if not n then
      wrong = after or #text - at > REQUEST_BYTES and "too big a request"
      break
    elseif executed then
      if not batch then batch, count = self.server:take(n, after - at), 1
      elseif add(batch, n, after - at) then count = count + 1
      else break end
    elseif batch then
      break
    elseif n > 0 then
      self:do_alone(table.move(words, 1, n, 1, {}))
    end
    at = after
  end
  self.text = at > #text and "" or sub(text, at)
  if batch then
    local i = #batch.clients + 1
    batch.clients[i], batch.counts[i], self.waits = self, count, self.waits + 1
  elseif wrong then
    self:hang_up(wrong)
  end
  if self.out[1] or self.paused then self:flush() end
end

---What does not go into a batch.
function Client:do_alone(command)
  local answer = self:answer(command)
  if answer then
    self:send(answer)
  elseif command[1] == "SESSION" then
    self:in_session(command)
  elseif command[1] == "RAFT" then
    self:change_cluster(command)
  else
    self:ask(self.server.node.read, self.server.node, function(machine, index)
      return bulk(("# State\r\napplied:%d\r\ndigest:%s\r\n"):format(index, machine:digest()))
    end)
  end
end

---Asks the cluster: call(..., callback), which is called later.
function Client:ask(call, ...)
  local arguments = table.pack(...)
  arguments[arguments.n + 1] = function(answer, message, code)
    self:answered(answer or failure(message, code))
    self.server:send_all()
  end
  self.waits = self.waits + 1
  call(table.unpack(arguments, 1, arguments.n + 1))
end

local function open_session(node, callback)
  raft.go(function()
    local session, message, code = node:session()
    callback(session and (":%d\r\n"):format(session.id), message, code)
  end)
end

---SESSION NEW, or SESSION id number command...
function Client:in_session(request)
  local node, id, number = self.server.node, integer(request[2]), request[3] and integer(request[3])
  if request[2]:upper() == "NEW" and #request == 2 then return self:ask(open_session, node) end
  local command = table.move(request, 4, #request, 1, {})
  if not (id and id > 0 and number and number > 0 and command[1]) then
    return self:send("-ERR SESSION NEW, or SESSION id number command; both count from 1\r\n")
  end
  command[1] = command[1]:upper()
  local answer = self:answer(command)
  if not answer and not execute[command[1]] then answer = "-ERR not in a session\r\n" end
  if answer then return self:send(answer) end
  self:ask(function(callback)
    node:session(id):propose(number, { #command, table.unpack(command) }, function(answers, message, code)
      callback(answers and answers[1], message, code)
    end)
  end)
end

---RAFT REMOVE id, RAFT TRANSFER id.
function Client:change_cluster(command)
  local node = self.server.node
  local call = ({ REMOVE = node.remove, TRANSFER = node.transfer })[command[2]:upper()]
  local id = integer(command[3])
  if not call or not id or id < 1 then return self:send("-ERR RAFT REMOVE id, or RAFT TRANSFER id\r\n") end
  self:ask(function(callback)
    call(node, id, function(done, message, code) callback(done and "+OK\r\n", message, code) end)
  end)
end

---An answer that it waited for.
function Client:answered(text)
  self.waits = self.waits - 1
  self:write(text)
  if self.text ~= "" or self.paused then self:work() end
end

function Client:send(text) self.out[#self.out + 1] = text end

function Client:flush()
  if self.out[1] then
    self:write(table.concat(self.out))
    self.out = {}
  end
  if self.paused and self.waits == 0 then
    self.paused = false
    self.socket:read_start(self.on_read)
  end
end

---What the socket does not take at once, it gets later: no more is done for this client until then.
function Client:write(text)
  if self.closed then return end
  local written = self.socket:try_write(text) or 0
  if written == #text then return end
  self.waits = self.waits + 1
  self.socket:write(sub(text, written + 1), function(err)
    if err then return self:close() end
    self.waits = self.waits - 1
    self:work()
    self.server:send_all()
  end)
end

function Client:received(text)
  self.text = self.text == "" and text or self.text .. text
  self:work()
  if self.waits > 0 and #self.text > INPUT_BYTES then
    self.paused = true
    self.socket:read_stop()
  end
end

---After a request that cannot be understood.
function Client:hang_up(message)
  self:send(("-ERR Protocol error: %s\r\n"):format(message))
  self:flush()
  self.text, self.waits = "", math.huge
  self.socket:read_stop()
  if not self.socket:shutdown(function() self:close() end) then self:close() end
end

function Client:close()
  if self.closed then return end
  self.closed, self.waits = true, math.huge
  self.socket:close()
  self.server.clients[self] = nil
end

function Server:accept(listener)
  local socket = uv.new_tcp()
  assert(listener:accept(socket))
  socket:nodelay(true)
  local client = setmetatable({ socket = socket, server = self, text = "", out = {}, waits = 0, paused = false,
    closed = false }, Client)
  self.clients[client] = true
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

local function options(list)
  local given = {}
  for i = 1, #list, 2 do given[list[i]] = list[i + 1] end
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
  local server, listener, turn = new_server(node, info_of(node)), uv.new_tcp(), uv.new_check()
  assert(listener:bind("127.0.0.1", opt.port))
  assert(listener:listen(128, function(err)
    if not err then server:accept(listener) end
  end))
  turn:start(function() server:send_all() end)               -- when everything has been read
  print(("server %d is ready: redis-cli -p %d"):format(node.id, opt.port))
  io.stdout:flush()
  while true do raft.sleep(3600) end
end)
os.exit(true)                                                -- at once: what clients still wait for is not coming
