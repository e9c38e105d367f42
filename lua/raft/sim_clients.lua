-- The clients of a simulation: the body of a test and its coroutines. They run in the caller's state, and wait for what
-- the nodes' processes tell. Nothing happens in the simulation unless the body waits: then it goes on until the body's
-- answer has come, and the coroutines are resumed on the way.
local core = require "raft.core"

local clients = {}

local PARK = {}          -- what a client's coroutine yields when it waits for us
local NOBODY = {}        -- in place of a client, while a callback runs

---Makes what a new simulation needs of this file: the body's thread is its first client.
---@param self raft.Sim
function clients.init(self)
  self.pending = {}       -- by token: what waits
  self.late = {}          -- by token: functions to be called at a time
  self.operations = {}    -- by token: what goes into the history
  self.history_list = {}  -- the same, in order
  self.listeners = {}
  self.threads = {}
  self.token, self.number, self.order = 0, 1, 0
  self.running = { main = true, number = 1, thread = coroutine.running() }
end

---What a waiting call hands over when it ends: true and its results, or false and an error, which is the caller's.
local function finish(ok, ...)
  if not ok then error((...), 2) end
  return ...
end

---With a traceback of the test's own functions: what called it, and these files, would only hide them.
function clients.with_traceback(err, thread)
  if type(err) ~= "string" then return err end
  local text = thread and debug.traceback(thread) or debug.traceback(nil, 2)
  local lines = {}
  for line in text:gmatch "[^\n]+" do
    if line:find "in function 'xpcall'$" then break end
    local ours = line:find "raft/sim[%l_]*%.lua:%d" or line:find "^\t%(%.%.%.tail calls" or line:find "'error'$"
    if not ours then lines[#lines + 1] = line end
  end
  return #lines > 1 and err .. "\n" .. table.concat(lines, "\n") or err
end

local function resume(self, client, ...)
  local was = self.running
  self.running = client
  local ok, what = coroutine.resume(client.thread, ...)
  self.running = was
  if ok and (what == PARK or coroutine.status(client.thread) == "dead") then return end
  if ok then
    what = "a coroutine of sim:go has called coroutine.yield itself: sim:run and the calls of nodes do that"
  end
  self.failure = self.failure or { error = clients.with_traceback(what, client.thread) }
  coroutine.close(client.thread)
end

---Who waits: the client whose code is running. Raises where nobody can.
function clients.waiter(self, name)
  local thread = coroutine.running()
  local client = self.running
  if client.thread ~= thread or not client.main and not coroutine.isyieldable() then
    error(name .. " cannot wait here: use it in the function given to raft.sim or sim:go itself, or pass a callback", 3)
  end
  return client
end

---Calls a function of the test, which cannot wait. What it raises fails the run.
function clients.call_back(self, fn, ...)
  local was = self.running
  self.running = NOBODY
  local ok, err = xpcall(fn, clients.with_traceback, ...)
  self.running = was
  if not ok then self.failure = self.failure or { error = err } end
end

---Ends what waits under this token.
function clients.wake(self, token, ok, ...)
  local pending = self.pending[token]
  if not pending then return end
  self.pending[token] = nil
  if pending.callback then
    if ok then
      clients.call_back(self, pending.callback, ...)
    else
      self.failure = self.failure or { error = (...) }
    end
  elseif pending.client.main then
    pending.client.answer = table.pack(ok, ...)
  elseif coroutine.status(pending.client.thread) == "suspended" then   -- else the test is over, and it was closed
    resume(self, pending.client, ok, ...)
  end
end

---Notes a call for the history, if it is one of those that belong there.
---@param bytes string the call, packed
---@param code string? of the function that it hands over
function clients.record(self, token, name, node, bytes, code, client)
  if name ~= "propose" and name ~= "read" then return end
  self.order = self.order + 1
  local operation = { call = name, node = node, client = client.number, called = self.core:time(),
    called_order = self.order, bytes = bytes, code = code }
  self.operations[token] = operation
  self.history_list[#self.history_list + 1] = operation
end

---How such a call has ended; answer: its results, packed.
local function record_end(self, token, refused, answer)
  local operation = self.operations[token]
  if not operation then return end
  self.order = self.order + 1
  operation.returned, operation.returned_order = self.core:time(), self.order
  operation.outcome, operation.refused, operation.answer = require "raft".outcome(refused), refused, answer
end

---What processes tell, by kind.
local told = {}

function told.timer(self, _, token)
  local late = self.late[token]
  self.late[token] = nil
  if late then late() else clients.wake(self, token, true) end
end

function told.answer(self, _, token, bytes)
  local results = core.unpack(bytes)
  if self.pending[token] then record_end(self, token, results[3], bytes) end
  clients.wake(self, token, true, table.unpack(results, 1, results.n))
end

told["raise"] = function(self, _, token, text) clients.wake(self, token, false, text) end

function told.handed(self, _, token, bytes)
  self.operations[token].sequence = core.unpack(bytes)
end

function told.read(self, _, token, bytes)
  local seen = core.unpack(bytes)
  local operation = self.operations[token]
  if operation then operation.index, operation.time = seen.index, seen.time end   -- else it was stale
end

function told.ended(self, node, life, how)
  local tokens = {}
  for token, pending in pairs(self.pending) do
    if pending.node == node and pending.life == life then tokens[#tokens + 1] = token end
  end
  table.sort(tokens)
  for _, token in ipairs(tokens) do
    if self.pending[token].closes then
      clients.wake(self, token, true, true)
    else
      local text = ("node %d has %s; the command may still be applied"):format(node, how)
      clients.wake(self, token, true, nil, text, "unknown")
    end
  end
end

---A node has started: whoever listens to it listens to this life too.
function told.started(self, node)
  if self.core:state(node) == "down" then return end   -- a handler of what was told before has crashed it
  for _, listener in ipairs(self.listeners) do
    if listener.node == node then self.core:ask(node, "listen", listener.event) end
  end
end

function told.event(self, node, _, bytes)
  local event = core.unpack(bytes)
  for _, listener in ipairs(table.move(self.listeners, 1, #self.listeners, 1, {})) do
    if listener.node == node and listener.event == event.listens then
      clients.call_back(self, listener.fn, event.data, event.name)
    end
  end
end

told["go on"] = function() end

function told.failure(self, text)
  self.failure = self.failure or { text = text, divergence = self.core:divergence() }
end

---Lets the simulation go on until something is told. Raises when the run has failed.
function clients.advance(self)
  if not self.failure then
    local kind, node, token, bytes = self.core:advance()
    told[kind](self, node, token, bytes)
  end
  if self.failure then error(self.failure, 0) end
end

---Waits for the answer to what is pending under this token.
function clients.wait(self, client)
  if not client.main then return finish(coroutine.yield(PARK)) end
  while not client.answer do clients.advance(self) end
  local answer = client.answer
  client.answer = nil
  return finish(table.unpack(answer, 1, answer.n))
end

function clients.new_token(self, pending)
  self.token = self.token + 1
  self.pending[self.token] = pending
  return self.token
end

---A number for a client in the history.
function clients.new_number(self)
  self.number = self.number + 1
  return self.number
end

---Calls fn after s simulated seconds.
function clients.after(self, s, fn)
  self.token = self.token + 1
  self.late[self.token] = fn
  self.core:after(s, self.token)
end

---Starts a coroutine as a client, soon.
---@param fn function
function clients.go(self, fn, ...)
  local arguments = table.pack(...)
  local client = { number = clients.new_number(self) }
  client.thread = coroutine.create(function() fn(table.unpack(arguments, 1, arguments.n)) end)
  self.threads[#self.threads + 1] = client.thread
  self.core:after(0, clients.new_token(self, { client = client }))
end

---Closes coroutines that still wait.
function clients.close(self)
  for _, thread in ipairs(self.threads) do
    if coroutine.status(thread) == "suspended" then coroutine.close(thread) end
  end
end

return clients
