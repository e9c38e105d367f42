-- One node of a cluster, as users see it: calls that wait, events, status.
local core = require "raft.core"
local loop = require "raft.loop"
local options = require "raft.options"
local machines = require "raft.machine"
local memberships = require "raft.members"
local progress = require "raft.progress"

local push, wait, new_waiter, deadline, may_park = loop.push, loop.wait, loop.waiter, loop.deadline, loop.may_park
local call_options = options.call

---@alias raft.role "follower"|"candidate"|"leader"|"learner"|"removed"

---One node: this process's part of the replicated state machine.
---@class raft.Node
---@field id integer           this member
---@field role raft.role       as of the last turn of the loop, like the next two
---@field term integer
---@field leader integer?      the leader's id, if one is known
---@field package core raft.core.node
---@field package open table<integer|table, thread|function|table> who waits for what: what is asked of the leader by
---number, the rest by record. Proposals, reads and barriers are the core's
---@field package machine raft.Machine
---@field package timeout number
---@field package ended boolean   the core has ended; `final` is the last status
---@field package final table?
---@field package fault string?   why it stopped itself
local Node = {}
Node.__index = Node
Node.__name = "raft.node"

-- ---- logging ----

local LEVELS = { debug = 1, info = 2, warn = 3, error = 4 }

local function new_logger(self, log)
  if log == false then return function() end end
  if type(log) == "function" then
    return function(level, text, fields) push(log, level, text, fields) end
  end
  local least = LEVELS[log]
  return function(level, text)
    if LEVELS[level] < least then return end
    io.stderr:write(("%s raft[%s] %s: %s\n"):format(os.date("%Y-%m-%d %H:%M:%S"), self.id or "?", level, text))
  end
end

-- ---- events ----

---@alias raft.event
---| "leader"       # { leader?, address?, term }: another leader, or none is known any more
---| "role"         # { role, term }
---| "ready"        # {}: a leader is known and serves
---| "members"      # { members, index }: another configuration holds
---| "peer_up"      # { id }
---| "peer_down"    # { id, reason }
---| "applied"      # { index, time, cmd, results, replay }; replay: it was in this node's log when it started
---| "snapshot"     # { index, bytes, seconds, from, error }: one was taken here, or could not be (error); or one of
---another node or life has taken the place of this node's state (from = "snapshot", index)
---| "apply_error"  # { index, message, traceback }
---| "slow"         # { what, seconds }: "disk", or "host": this program left the node's commands unapplied for so long
---| "full"         # { free }: the disk has no room for new entries
---| "fault"        # { message }: the node stops itself
---| "closed"       # { reason }
---| "*"            # all of them; the second argument is the event's name
local EVENTS = { leader = true, role = true, ready = true, members = true, peer_up = true, peer_down = true,
  applied = true, snapshot = true, apply_error = true, slow = true, full = true, fault = true, closed = true,
  ["*"] = true }

local function call_handlers(list, data, event)
  for _, handler in ipairs(table.move(list, 1, #list, 1, {})) do   -- a handler may remove itself
    local ok, err = xpcall(handler, debug.traceback, data, event)
    if not ok then loop.fail(err) end
  end
end

local function dispatch(self, event, data)
  call_handlers(self.handlers[event], data, event)
  call_handlers(self.handlers["*"], data, event)
end

---Handlers run after the step in which something happened, never from inside the machine.
local function emit(self, event, data)
  if self.handlers[event][1] or self.handlers["*"][1] then push(dispatch, self, event, data) end
end

local function listen_to_applies(self)
  if not (self.handlers.applied[1] or self.handlers["*"][1]) then
    self.callbacks.applied = nil
  else
    self.callbacks.applied = function(index, time, cmd, a, b)
      emit(self, "applied", { index = index, time = time, cmd = cmd, results = { a, b },
        replay = index <= (self.recovered or math.maxinteger) })
    end
  end
end

---Calls handler(data, event) for each event of this name from now on. Handlers run in the loop, one after the
---other; what they raise is raised by raft.run (or goes to stderr without it). What `applied` hands over is live: treat
---it as read-only.
---@param event raft.event
---@param handler fun(data: table, event: raft.event)
---@return fun() off stops it
function Node:on(event, handler)
  if not EVENTS[event] then
    error(("node:on: unknown event %s%s"):format(tostring(event), options.suggest(tostring(event), EVENTS)), 2)
  end
  if type(handler) ~= "function" then error("node:on: a function expected, got " .. type(handler), 2) end
  local list = self.handlers[event]
  list[#list + 1] = handler
  listen_to_applies(self)
  return function()
    for i, other in ipairs(list) do
      if other == handler then
        table.remove(list, i)
        break
      end
    end
    listen_to_applies(self)
  end
end

-- ---- what the core tells ----

local function address_of(status, id)
  for _, member in ipairs(status.members) do
    if member.id == id then return member.address end
  end
end

local function tell_role(self, s)
  if s.role == self.role then return end
  self.role = s.role
  self.log("info", ("%s in term %d"):format(s.role, s.term), { role = s.role, term = s.term })
  emit(self, "role", { role = s.role, term = s.term })
end

local function tell_leader(self, s)
  if s.leader == self.leader and (s.term == self.leader_term or not s.leader) then return end
  self.leader, self.leader_term = s.leader, s.term
  local data = { leader = s.leader, address = address_of(s, s.leader), term = s.term }
  local text = s.leader and ("leader is %d (%s), term %d"):format(s.leader, data.address, s.term)
    or ("no leader is known, term %d"):format(s.term)
  self.log("info", text, data)
  emit(self, "leader", data)
end

---@return string for people
local function describe_members(s)
  local list = {}
  for i, member in ipairs(s.members) do
    list[i] = ("%d (%s%s)"):format(member.id, member.address, member.role == "learner" and ", learner" or "")
  end
  return table.concat(list, ", ")
end

local function tell_members(self, s)
  if s.conf_index == self.conf_index then return end
  local first = self.conf_index == nil   -- what this life began with
  self.conf_index = s.conf_index
  if first then return end
  local members = self:members()
  self.log("info", "members are " .. describe_members(s), { members = members, index = s.conf_index })
  emit(self, "members", { members = members, index = s.conf_index })
end

local function tell_down(self, id, reason)
  self.log("warn", ("peer %d is down: %s"):format(id, reason), { id = id, reason = reason })
  emit(self, "peer_down", { id = id, reason = reason })
end

---One of the two will not have the other: that does not pass by itself, as a connection that cannot be made may.
local function is_objection(reason)
  return reason:find "^refused:" or reason:find "^it has come back"
end

local function tell_peer(self, id, member)
  local was, reason = self.peers[id] or false, member.down or "closed"
  self.peers[id] = member.connected
  if member.connected then
    self.objections[id] = nil
    if was then return end
    self.log("info", ("peer %d is up"):format(id), { id = id })
    emit(self, "peer_up", { id = id })
  elseif is_objection(reason) then
    if self.objections[id] ~= reason then tell_down(self, id, reason) end
    self.objections[id] = reason
  elseif was then
    tell_down(self, id, reason)
  end
end

local function tell_peers(self, s)
  for _, member in ipairs(s.members) do
    if member.id ~= s.id then tell_peer(self, member.id, member) end
  end
end

---@param s table what the core tells
local function tell_rejoining(self, s)
  local rejoining = s.rejoining or false
  if rejoining == (self.rejoining or false) then return end
  self.rejoining = rejoining
  if rejoining then
    self.log("warn", "the others do not count on this directory: no vote until they have admitted it", {})
  else
    self.log("info", "the others have admitted this directory", {})
  end
end

local function tell_fault(self, message)
  if self.fault then return end
  self.fault = message
  self.log("error", "the node stops: " .. message, { message = message })
  emit(self, "fault", { message = message })
end

---It is the host itself that was slow: told when that is over.
local function tell_host(self, s)
  if s.host_slow == self.host_slow then return end
  self.host_slow = s.host_slow
  if not s.host_slow then return end
  self.log("warn", ("this program left the node alone for %.1f s"):format(s.host_lag), { seconds = s.host_lag })
  emit(self, "slow", { what = "host", seconds = s.host_lag })
end

local function tell_disk(self, s)
  if s.disk == self.disk then return end
  self.disk = s.disk
  if s.disk == "slow" then
    self.log("warn", "the disk is slow", { seconds = s.sync })
    emit(self, "slow", { what = "disk", seconds = s.sync })
  elseif s.disk == "full" then
    self.log("warn", "the disk is full", { free = s.disk_free })
    emit(self, "full", { free = s.disk_free })
  end
end

---Nothing is in its log yet.
local function tell_new(self, s)
  if s.last > 0 or #s.members < 2 or not address_of(s, s.id) then return end
  self.log("info", "an empty log: if the cluster is new, it begins when all of its members are up, " ..
    describe_members(s), {})
end

---The node is there once it has started and its first status has come; what its log held then is replayed.
local function tell_started(self, s)
  local starting = self.starting
  if not starting or not self.accepted or s.phase == "starting" then return end
  self.starting, self.recovered = nil, s.last
  tell_new(self, s)
  if self.joins and self.voter ~= false then memberships.become_voter(self) end
  push(starting, self)
end

local function changed(self)
  local s = self.core:status()
  self.term = s.term
  tell_role(self, s)
  tell_leader(self, s)
  tell_members(self, s)
  tell_peers(self, s)
  tell_rejoining(self, s)
  tell_disk(self, s)
  tell_host(self, s)
  if s.fault then tell_fault(self, s.fault_text or s.fault) end
  if s.ready and not self.ready then emit(self, "ready", {}) end
  self.ready = s.ready
  tell_started(self, s)
end

local function refusal(self)
  if self.fault then return nil, "the node has stopped: " .. self.fault, "fault" end
  return nil, "the node is closed", "closed"
end

---@param note string? what was found in the directory
local function on_started(self, code, message, note)
  if note then self.log("warn", note, {}) end
  if code then
    self.ended = true
    push(self.starting, nil, message, code)
    for key, waiter in pairs(self.open) do   -- it was closed before it got so far
      if type(key) == "table" and key.closes then push(waiter, true) end
    end
    self.starting = nil
  else
    self.id, self.accepted = self.core:id(), true
    tell_started(self, self.core:status())
  end
end

---The core has ended: the handlers and whoever still waits hear of it. Where memory runs out it is called again.
local function finish(self)
  if self.accepted and not self.final then
    local final = self:status()
    final.ready, final.leader, self.leader, self.ready = false, nil, nil, false
    self.final = final
    self.log(self.fault and "error" or "info", "closed", {})
    emit(self, "closed", { reason = self.fault or "closed" })
  end
  if self.starting then push(self.starting, refusal(self)) end
  self.starting = nil
  self.core:end_calls(select(2, refusal(self)))
  for key, waiter in pairs(self.open) do
    if type(key) == "table" and key.closes then push(waiter, true) else push(waiter, refusal(self)) end
    self.open[key] = nil
  end
end

---The values that follow, now or by a callback later.
local function answer(callback, ...)
  if not callback then return ... end
  push(callback, ...)
end

---What a call of the core (csrc/lua/lua_calls.h) with a waiter has come to so far: true, it is under way; or how it has
---failed. It parks a coroutine of raft.go by itself; others wait here, or their callback is called.
local function settle(waiter, callback, under_way, message, code)
  if not under_way then return answer(callback, nil, message, code) end
  return wait(waiter)
end

-- ---- snapshots ----

---Whoever waits for one gets it.
local function on_snapshot(self, index, bytes, seconds, message, code)
  if message then
    self.snapshot_error = message
    self.log("warn", "no snapshot: " .. message, { index = index, error = message })
    emit(self, "snapshot", { index = index, seconds = seconds, error = message })
  else
    self.snapshot_error = nil
    self.log("info", ("snapshot at index %d: %d bytes in %.3f s"):format(index, bytes, seconds),
      { index = index, bytes = bytes, seconds = seconds })
    emit(self, "snapshot", { index = index, bytes = bytes, seconds = seconds })
  end
  local waiting = self.snapshots
  self.snapshots = {}
  for _, record in ipairs(waiting) do
    local waiter = self.open[record]
    if waiter then push(waiter, not message and index or nil, message, code) end
    self.open[record] = nil
  end
end

---A snapshot has taken the place of the state.
local function on_restored(self)
  self.log("info", "the state was restored from a snapshot", {})
  emit(self, "snapshot", { from = "snapshot" })
end

local function snapshot_expired() return "the snapshot is not ready yet", "timeout" end

---Takes a snapshot of the state machine now: its index once it is durable; the log behind it can then go. Snapshots are
---also taken by themselves: see raft.node's option `snapshot`.
---@async
---@param opts? raft.call_options
---@param callback? fun(index: integer?, message: string?, code: raft.code?)
---@return integer? index
---@return string? message
---@return raft.code? code
---@overload async fun(self: raft.Node, callback: raft.index_answer)
function Node:snapshot(opts, callback)
  local timeout
  timeout, callback = call_options("node:snapshot", opts, callback)
  local waiter = new_waiter(callback, "node:snapshot")
  if self.ended then return answer(callback, refusal(self)) end
  local index, message, code = self.core:snapshot()
  if index ~= true then return answer(callback, index, message, code) end
  local record = { expired = snapshot_expired }
  self.snapshots[#self.snapshots + 1] = record
  if timeout then deadline(self, record, timeout) end
  self.open[record] = waiter
  return wait(waiter)
end

-- ---- sessions of programs outside the cluster ----

---A session of a program outside: commands with numbers of its own, each applied once, whatever node it is sent to.
---@class raft.Session
---@field id integer   to go on with it at another node: node:session(id)
---@field package node raft.Node
local Session = {}
Session.__index = Session
Session.__name = "raft.session"

---Proposes command number seq (from 1, ascending; one at a time). The last one once more gives what it gave before.
---@async
---@param seq integer
---@param cmd any
---@param opts? raft.call_options
---@param callback? raft.answer
---@return any a
---@return any b
---@return raft.code? code "expired": the session is gone (idle for an hour), or has gone on; an earlier try may have
---applied
---@overload async fun(self: raft.Session, seq: integer, cmd: any, callback: raft.answer)
function Session:propose(seq, cmd, opts, callback)
  local node = self.node
  if math.type(seq) ~= "integer" or seq < 1 then error("session:propose: seq must be an integer above 0", 2) end
  local timeout
  timeout, callback = call_options("session:propose", opts, callback)
  local waiter = (callback or not may_park()) and new_waiter(callback, "session:propose") or nil
  if node.ended then return answer(callback, refusal(node)) end
  if not waiter then return node.core:client(self.id, seq, cmd, timeout or node.timeout) end
  return settle(waiter, callback, node.core:client(self.id, seq, cmd, timeout or node.timeout, waiter))
end

local function new_session(self, id) return setmetatable({ id = id, node = self }, Session) end

---A session for a program outside the cluster: a new one, or with id one that was opened on any node.
---@async
---@param id? integer
---@param opts? raft.call_options
---@return raft.Session?
---@return string? message
---@return raft.code? code
function Node:session(id, opts)
  if id ~= nil then
    if math.type(id) ~= "integer" or id < 1 then error("node:session: id must be an integer above 0", 2) end
    return new_session(self, id)
  end
  local timeout = call_options("node:session", opts, nil)
  local waiter = not may_park() and new_waiter(nil, "node:session") or nil
  if self.ended then return refusal(self) end
  local opened, message, code = self.core:client(0, 0, nil, timeout or self.timeout, waiter)
  if waiter and opened then opened, message, code = wait(waiter) end
  if not opened then return nil, message, code end
  return new_session(self, opened)
end

-- ---- reads ----

---Calls the function given to read, or else the machine's query with the question.
local function look(self, fn)
  if self.ended then return refusal(self) end
  return self.core:look(fn)
end

---A read of what is here, however old; within: only if a leader was heard of so many seconds ago.
local function read_here(self, fn, within, callback)
  local age = within ~= true and self.core:heard()
  if within ~= true and not (age and age <= within) then
    return answer(callback, nil, ("no leader was heard of within %s s"):format(tostring(within)), "no_leader")
  end
  return answer(callback, look(self, fn))
end

---Everything that was committed before a read was asked for is applied (or never will be here: code).
local function read_then(self, fn, index, message, code)
  if not index then return nil, message, code end
  return look(self, fn)
end

-- ---- waiting calls ----
-- What is called without options is done by the core alone, in the place of the functions that core.method is given:
-- they do the rest, and name the user's line one level further up than others would (csrc/lua/lua_calls.h).
--
-- A waiter is the caller itself. It is put into `open` last, when nothing can raise any more before it waits: what
-- comes for a call that has raised must not answer the next one. It is taken out when it has been pushed, since that
-- may raise for lack of memory: who is still in `open` is told when the node ends.

---@class raft.call_options
---@field timeout? number seconds; default: the node's `timeout`

---@alias raft.answer fun(a: any, b: any, code: raft.code?)

local parks   -- what tells the core to let the coroutine wait

---Proposes a command: nil, booleans, integers, floats, strings and tables of these (100 deep); anything else raises,
---with its path. Returns what this node's own machine returned from apply, live: treat it as read-only. A third value
---means that raft or apply failed: see raft.outcome.
---@async
---@param cmd any
---@param opts? raft.call_options
---@param callback? raft.answer
---@return any a
---@return any b
---@return raft.code? code
---@overload async fun(self: raft.Node, cmd: any, callback: raft.answer)
function Node:propose(cmd, opts, callback)
  local timeout
  if opts ~= nil or callback ~= nil then
    timeout, callback = call_options("node:propose", opts, callback, nil, 4)
  end
  local waiter = (callback or not may_park()) and new_waiter(callback, "node:propose", 4) or nil
  if self.ended then return answer(callback, refusal(self)) end
  if not waiter then return parks, timeout or self.timeout end
  return settle(waiter, callback, self.core:propose(cmd, timeout or self.timeout, waiter))
end
Node.propose, parks = core.method("propose", Node.propose)

---@class raft.read_options: raft.call_options
---@field lease? boolean       the leader's lease will do, if it holds one (raft.node's option `lease`)
---@field stale? true|number   answers at once from what is here, however old; with seconds: only if a leader was
---heard of so recently, else "no_leader"

---Calls fn(machine, index, time) on this node's machine when everything that was committed before this call is applied
---to it: a linearizable read, which writes nothing. fn must not change the machine. Returns what fn returned. With
---anything but a function: what machine:query(q, index, time) returns. The code is "query" when fn raised.
---@async
---@param fn (fun(machine: any, index: integer, time: number): any, any)|any
---@param opts? raft.read_options
---@param callback? raft.answer
---@return any a
---@return any b
---@return raft.code? code
---@overload async fun(self: raft.Node, fn: any, callback: raft.answer)
function Node:read(fn, opts, callback)
  if type(fn) ~= "function" and type(self.machine.query) ~= "function" then
    error("node:read: a function (machine, index, time) expected, got " .. type(fn) .. " (the machine has no query)", 3)
  end
  local timeout, how
  if opts ~= nil or callback ~= nil then
    timeout, callback, how = call_options("node:read", opts, callback, options.READ, 4)
  end
  local waiter = (callback or not may_park()) and new_waiter(callback, "node:read", 4) or nil
  if self.ended then return answer(callback, refusal(self)) end
  if how and how.stale then return read_here(self, fn, how.stale, callback) end
  timeout = timeout or self.timeout
  local lease = how and how.lease
  if not waiter then return parks, timeout, lease end
  local round = lease and self.core.lease or self.core.read
  if callback then
    return settle(waiter, callback, round(self.core, timeout, function(...) callback(read_then(self, fn, ...)) end))
  end
  local under_way, message, code = round(self.core, timeout, waiter)
  if not under_way then return nil, message, code end
  return read_then(self, fn, wait(waiter))
end
Node.read = core.method("read", Node.read)

---Waits until everything that was committed before this call is applied here.
---@async
---@param opts? raft.call_options
---@param callback? fun(index: integer?, message: string?, code: raft.code?)
---@return integer? index of the barrier in the log
---@return string? message
---@return raft.code? code
---@overload async fun(self: raft.Node, callback: raft.index_answer)
function Node:barrier(opts, callback)
  local timeout
  if opts ~= nil or callback ~= nil then timeout, callback = call_options("node:barrier", opts, callback) end
  local waiter = (callback or not may_park()) and new_waiter(callback, "node:barrier") or nil
  if self.ended then return answer(callback, refusal(self)) end
  if not waiter then return self.core:barrier(timeout or self.timeout) end
  return settle(waiter, callback, self.core:barrier(timeout or self.timeout, waiter))
end

local TESTS = {
  leader = function(self) return self.leader end,
  ready = function(self)
    return self.ready and self.core:applied() >= self.core:status().commit
  end,
  member = function(self)   -- it has the place that it wants
    for _, member in ipairs(self.core:status().members) do
      if member.id == self.id and (member.role == "voter" or self.voter == false) then return member.role end
    end
  end,
}

---Tests a condition under protection: whether it is over, and the answer.
local function try(self, test)
  local ok, value = xpcall(test, debug.traceback, self)
  if not ok then return true, nil, tostring(value), "query" end
  if value then return true, value end
  return false
end

---After each step: are the conditions that are waited for true?
---@package
function Node:after_step()
  if self.ended then return finish(self) end
  if self.starting and self.accepted then tell_started(self, self.core:status()) end   -- unless that has failed before
  local waits = self.waits
  if not waits[1] then return end
  self.waits = {}
  for _, record in ipairs(waits) do
    local waiter = self.open[record]
    if waiter then
      local over, value, message, code = try(self, record.test)
      if over then
        push(waiter, value, message, code)
        self.open[record] = nil
      else
        self.waits[#self.waits + 1] = record
      end
    end
  end
end

local function wait_expired() return "it did not come true in time", "timeout" end

---Waits until a leader is known (its id is returned), until this node is ready (it could answer a read now), until
---it is a member ("voter"; "learner" if it has joined with voter = false), or until fn(status) returns something
---true, which is returned; at once if it is so already. Without timeout: as long as it takes.
---@async
---@param what "leader"|"ready"|"member"|fun(status: raft.status): any
---@param timeout? number|raft.call_options
---@param callback? fun(value: any, message: string?, code: raft.code?)
---@return any value
---@return string? message
---@return raft.code? code
function Node:wait(what, timeout, callback)
  local test = TESTS[what]
  if type(what) == "function" then test = function(node) return what(node:status()) end end
  if not test then
    error(('node:wait: "leader", "ready", "member" or a function (status) expected, got %s'):format(tostring(what)), 2)
  end
  if type(timeout) == "number" then timeout = { timeout = timeout } end
  timeout, callback = call_options("node:wait", timeout, callback)
  local waiter = new_waiter(callback, "node:wait")
  if self.ended then return answer(callback, refusal(self)) end
  local over, value, message, code = try(self, test)
  if over then return answer(callback, value, message, code) end
  local record = { test = test, expired = wait_expired }
  self.waits[#self.waits + 1] = record
  if timeout then deadline(self, record, timeout) end
  self.open[record] = waiter
  return wait(waiter)
end

local function close_expired() return "the node is still closing", "timeout" end

---Closes the node: open calls end, the log is sealed, the directory is given back. Where a call cannot wait (in apply,
---in a callback) it only starts that and returns.
---@async
---@param opts? raft.call_options
---@param callback? fun(closed: true)
---@return true? closed
---@return string? message
---@return raft.code? code
---@overload async fun(self: raft.Node, callback: fun(closed: true))
function Node:close(opts, callback)
  local timeout
  timeout, callback = call_options("node:close", opts, callback)
  if self.ended then return answer(callback, true) end
  self.core:close()
  if not callback and not loop.can_wait() then return true end
  local record = { closes = true, expired = close_expired }
  local waiter = callback or new_waiter(nil, "node:close")
  if timeout then deadline(self, record, timeout) end
  self.open[record] = waiter
  return wait(waiter)
end

---For `local node <close> = ...`: waits also where nothing can yield.
function Node:__close()
  if self.ended then return end
  if loop.can_wait() then
    self:close()
  else
    self.core:close()
    loop.drain(self)
  end
end

function Node:__tostring()
  return ("raft.node %d (%s)"):format(self.id, self.ended and "closed" or self.role)
end

-- ---- looking at it ----

---@class raft.member
---@field id integer
---@field address string
---@field role "voter"|"learner"
---@field connected boolean
---@field down string?      why it is not connected
---@field state "probe"|"replicate"|"snapshot"|nil  this and the following: on the leader
---@field caught_up boolean? a learner that could be promoted
---@field match integer?    the last entry known to be in its log
---@field lag integer?      entries that it still lacks
---@field rtt number?       seconds
---@field contact number?   seconds since its last word

---@class raft.status
---@field id integer
---@field name string             of the cluster
---@field address string?         of this member
---@field version string          of this library
---@field machine_version any     of the machine, if it has one
---@field uptime number
---@field role raft.role
---@field term integer
---@field leader integer?
---@field leader_address string?
---@field leader_age number?      seconds since its last word
---@field ready boolean           a leader is known and serves
---@field changing boolean        a change of the members is open
---@field rejoining? true          its directory was lost, or is an older copy: no vote until the others admit it
---@field transfer integer?       on the leader: to whom it is handing over
---@field tolerates integer       voters that may still fail, as far as this node sees
---@field first integer           in the log
---@field last integer            in the log
---@field durable integer         here
---@field commit integer
---@field applied integer
---@field applied_time number     the leader's clock at that entry
---@field pending integer         open calls
---@field sessions integer
---@field elections integer       that this node started
---@field log { bytes: integer, segments: integer }
---@field snapshot { index: integer, time: number, bytes: integer, running: boolean, error: string? } the newest; index
---0: there is none. time: the leader's clock in it; error: why the last attempt failed
---@field disk { state: "ok"|"slow"|"full"|"failed", sync: number, sync_p99: number, free: integer? } seconds that the
---last durable write took; and no more than one of the last hundred took longer; free: bytes, when a segment of the log
---was last prepared
---@field host { lag: number } lag: seconds for which this program has left commands unapplied
---@field fault string?
---@field members raft.member[]

local function shape_members(s, id)
  local alive, voters = 0, 0
  for _, member in ipairs(s.members) do
    if member.id == id then member.connected, member.down = true, nil end
    if member.match then member.lag = math.max(0, s.last - member.match) end
    if member.role == "voter" then
      voters = voters + 1
      if member.connected then alive = alive + 1 end
    end
  end
  local tolerates = alive - (voters // 2 + 1)
  return s.leader and math.max(0, tolerates) or 0
end

---What this node knows, at once.
---@return raft.status
function Node:status()
  if self.final then return self.final end
  local s = self.core:status()
  s.name, s.version, s.machine_version = self.name, core.version, self.machine.version
  s.address = address_of(s, s.id)
  s.leader_address = address_of(s, s.leader)
  s.tolerates = shape_members(s, s.id)
  s.log = { bytes = s.log_bytes, segments = s.log_segments }
  s.snapshot = { index = s.snapshot_index, time = s.snapshot_time, bytes = s.snapshot_bytes,
    running = s.snapshotting, error = self.snapshot_error }
  s.snapshot_index, s.snapshot_time, s.snapshot_bytes, s.snapshotting = nil, nil, nil, nil
  s.disk = { state = s.disk, sync = s.sync, sync_p99 = s.sync_p99, free = s.disk_free }
  s.host = { lag = s.host_lag }
  s.disk_free, s.sync_p99, s.host_lag, s.host_slow = nil, nil, nil, nil
  s.fault = self.fault or s.fault_text
  s.log_bytes, s.log_segments, s.sync, s.phase, s.fault_text, s.conf_index = nil, nil, nil, nil, nil, nil
  return s
end

---@return raft.member[]
function Node:members()
  return self:status().members
end

-- ---- starting ----

local function new_callbacks(self, given, instance, apply)
  local load = machines.loader(given)
  return {
    machine = instance,
    apply = apply,
    raised = function(index, message, traceback)
      self.log("error", ("apply raised at index %d: %s"):format(index, traceback), { index = index, message = message })
      emit(self, "apply_error", { index = index, message = message, traceback = traceback })
    end,
    done = function(number, code, message, index, id)
      local waiter = self.open[number]
      self.open[number] = nil
      if waiter then waiter(not code and index or nil, message, code, id) end
    end,
    save = function(write) machines.save(self.machine, write) end,
    load = function(step, of)
      local restored, loaded = load(step, of)
      if restored then
        self.machine = restored
        on_restored(self)
      end
      return restored, loaded
    end,
    snapshot = function(index, bytes, us, message, code) on_snapshot(self, index, bytes, us / 1e6, message, code) end,
    started = function(code, message, note) on_started(self, code, message, note) end,
    progress = progress.new(self.log, core.now),
    changed = function() changed(self) end,
    halted = function(message) tell_fault(self, message) end,
    closed = function() self.ended = true end,
    failed = loop.fail,
  }
end

local function new_node(o)
  local self = setmetatable({
    id = o.id, name = o.name, role = "follower", term = 0, timeout = o.timeout, open = {}, waits = {},
    voter = o.voter, joins = o.join ~= nil, peers = {}, objections = {}, handlers = {}, snapshots = {},
    ended = false, ready = false, host_slow = false,
  }, Node)
  for event in pairs(EVENTS) do self.handlers[event] = {} end
  self.log = new_logger(self, o.log)
  return self
end

---A node alone has an address all the same, on which nobody calls.
local function lone_members(o)
  if not o.id then return {} end   -- the directory knows
  return { { id = o.id, address = o.listen or core.free_address() } }
end

---Started and then abandoned by an error or a signal while it was waited for: it is closed.
local ABANDONED = { __close = function(guard)
  if guard.node then guard.node:__close() end
end }

memberships.extend(Node, refusal)

local node = { methods = Node, events = EVENTS }

---@async
---@param given raft.node_options
---@param callback? fun(node: raft.Node?, message: string?, code: raft.code?)
function node.new(given, callback)
  local ok, o = pcall(options.read, given)
  if not ok then error(o, 2) end
  call_options("raft.node", nil, callback)
  local waiter = new_waiter(callback, "raft.node")
  local instance, apply = machines.new(o.machine)
  local self = new_node(o)
  self.machine, self.starting = instance, waiter
  self.callbacks = new_callbacks(self, o.machine, instance, apply)
  local alone = #o.members == 0 and not o.join
  if alone then o.members = lone_members(o) end
  local message, code
  self.core, message, code = core.node({
    id = o.id or 0, dir = o.dir, name = o.name, members = o.members,
    listen = o.listen or alone and o.members[1] and o.members[1].address or nil,
    election_timeout = o.election_timeout, heartbeat = o.heartbeat, host_timeout = o.host_timeout, pending = o.pending,
    pending_bytes = o.pending_bytes, command_bytes = o.command_bytes, cache_bytes = o.cache_bytes,
    snapshot_bytes = o.snapshot.bytes, snapshot_entries = o.snapshot.entries, snapshot_keep = o.snapshot.keep,
    snapshot_apart = o.snapshot.background, join = o.join, lease = o.lease, priority = o.priority,
    rejoin = o.repair == "rejoin",
  }, self.callbacks, o.on_apply_error == "halt")
  if not self.core then return answer(callback, nil, message, code) end
  self.core:face(self, self.timeout)
  local guard <close> = setmetatable({ node = false }, ABANDONED)
  loop.register(self)
  if callback then return end
  guard.node = self
  local started, text, why = wait(waiter)
  guard.node = false
  if started then return started end
  return nil, text, why
end

return node
