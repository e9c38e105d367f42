-- Who the members are: the calls of a node that change that, and the one that hands leadership over.
--
-- All of them ask the leader, from any node. What is refused only for now ("busy": the leader is not ready yet, or
-- hands over, or a learner has not caught up) is asked again until the call's time is over.
local core = require "raft.core"
local loop = require "raft.loop"
local options = require "raft.options"

local push, wait, now, set_timer = loop.push, loop.wait, core.now, loop.set_timer
local is_id, is_address = options.is_id, options.is_address

local members = {}

local AGAIN_S = 0.1

-- ---- asking ----

---Asks, and again while the answer is "busy". Then finish(index, message, code, id); index nil: it has failed.
local function ask(call, kind, what, finish)
  local self = call.node
  local function again(message)
    if now() + AGAIN_S >= call.until_s then return finish(nil, message, "busy") end
    set_timer(now() + AGAIN_S, function() ask(call, kind, what, finish) end)
  end
  if self.ended then return finish(nil, call.refusal(self)) end
  local number, text, why = self.core:ask(kind, what)
  if not number then
    if why == "busy" then return again(text) end
    return finish(nil, text, why)
  end
  loop.deadline(self, number, math.max(call.until_s - now(), AGAIN_S))
  self.open[number] = function(index, message, code, id)
    if code == "busy" then return again(message) end
    finish(index, message, code, id)
  end
end

local refusal   -- of a node that has ended; given by raft.node

---What a waiting call begins with.
local function new_call(self, name, opts, callback, more)
  local timeout
  timeout, callback, opts = options.call(name, opts, callback, more, 4)
  return { node = self, refusal = refusal, opts = opts or {}, waiter = loop.waiter(callback, name, 4),
    until_s = now() + (timeout or self.timeout) }
end

---Ends it with the index of the configuration, or with the id that the leader has told.
local function give(call, wants_id)
  return function(index, message, code, id)
    if index then push(call.waiter, wants_id and id or index) else push(call.waiter, nil, message, code) end
  end
end

local function check_id(name, id)
  if not is_id(id) then error(("%s: an id, an integer above 0, expected, got %s"):format(name, tostring(id)), 4) end
end

local function change_one(self, operation, id, opts, callback)
  local name = "node:" .. operation
  check_id(name, id)
  local call = new_call(self, name, opts, callback)
  ask(call, "change", { { operation, id } }, give(call))
  return wait(call.waiter)
end

-- ---- adding ----

---The member with this id, or else at this address.
local function find(self, id, address)
  for _, member in ipairs(self:status().members) do
    if id and member.id == id or not id and member.address == address then return member end
  end
end

---Gives a learner its vote, when it has caught up.
local function promote_added(call, id)
  ask(call, "change", { { "promote", id } }, function(index, message, code)
    if index then return push(call.waiter, id) end
    push(call.waiter, nil, ("%d is a member, but has no vote yet (node:promote(%d) gives it one): %s"):format(id, id,
      message), code == "busy" and "timeout" or code)
  end)
end

---A learner that is there already, because an earlier call did not get further, goes on from there.
local function add(call, id, address)
  local known = find(call.node, id, address)
  local votes = call.opts.voter ~= false
  if known and known.address == address and known.role == "learner" and votes then
    return promote_added(call, known.id)
  end
  local moves = id and known and known.address ~= address
  ask(call, "change", { { moves and "move" or "add", id or 0, address } }, function(index, message, code, given)
    if not index then return push(call.waiter, nil, message, code) end
    local new = id or given
    if moves or not votes then return push(call.waiter, new) end
    promote_added(call, new)
  end)
end

-- ---- changing several at once ----

local ORDER = { "add", "promote", "demote", "remove" }

local function read_addresses(self, given, list)
  local ids = {}
  for id, address in pairs(given) do
    check_id("node:change: add", id)
    if not is_address(address) then
      error(('node:change: add[%d] must be "host:port", got %s'):format(id, tostring(address)), 4)
    end
    ids[#ids + 1] = id
  end
  table.sort(ids)
  for _, id in ipairs(ids) do
    list[#list + 1] = { find(self, id) and "move" or "add", id, given[id] }
  end
end

local function read_change(self, what)
  local list = {}
  if type(what) ~= "table" then error("node:change: a table expected, got " .. type(what), 3) end
  for name, given in pairs(what) do
    if not (name == "add" or name == "promote" or name == "demote" or name == "remove") then
      error("node:change: unknown operation " .. tostring(name), 3)
    end
    if type(given) ~= "table" then error(("node:change: %s must be a table, got %s"):format(name, type(given)), 3) end
  end
  for _, name in ipairs(ORDER) do
    if name == "add" then
      read_addresses(self, what.add or {}, list)
    else
      for _, id in ipairs(what[name] or {}) do
        check_id("node:change: " .. name, id)
        list[#list + 1] = { name, id }
      end
    end
  end
  if #list < 1 or #list > 15 then error(("node:change: 1 to 15 changes expected, got %d"):format(#list), 3) end
  return list
end

-- ---- a node that has joined ----

---Asks for this node's own vote until it has it.
---@param self raft.Node
function members.become_voter(self)
  local function again() set_timer(now() + AGAIN_S, function() members.become_voter(self) end) end
  if self.ended then return end
  local me = self.role ~= "removed" and find(self, self.id)
  if not me then return again() end   -- it has not read of itself yet, or was told by one that has not
  if me.role == "voter" then return end
  local call = { node = self, refusal = refusal, until_s = now() + self.timeout }
  ask(call, "change", { { "promote", self.id } }, again)
end

-- ---- the calls ----

---Adds these calls to the class of nodes.
---@param Node table
---@param refuse fun(self: raft.Node): nil, string, raft.code what a node that has ended answers
function members.extend(Node, refuse)
  refusal = refuse

  ---@alias raft.id_answer fun(id: integer?, message: string?, code: raft.code?)
  ---@alias raft.index_answer fun(index: integer?, message: string?, code: raft.code?)

  ---@class raft.add_options: raft.call_options
  ---@field voter? boolean  false: it stays a learner, which follows and has no vote

  ---Adds a member: it is started before or meanwhile, with this id, the first members as `cluster`, and `listen`.
  ---(A node that is started with `join` does all this by itself.) It begins as a learner and gets a vote when
  ---it has caught up; this waits for that. Without id: one that was never used. With the id of a member: its address is
  ---another one from now on.
  ---@async
  ---@param id integer|string  or the address
  ---@param address? string|raft.add_options
  ---@param opts? raft.add_options
  ---@param callback? raft.id_answer
  ---@return integer? id
  ---@return string? message
  ---@return raft.code? code
  ---@overload async fun(self: raft.Node, address: string, opts?: raft.add_options, callback?: raft.id_answer)
  ---@overload async fun(self: raft.Node, address: string, callback: raft.id_answer)
  ---@overload async fun(self: raft.Node, id: integer, address: string, callback: raft.id_answer)
  function Node:add(id, address, opts, callback)
    if type(id) == "string" then id, address, opts, callback = nil, id, address, opts end
    if id ~= nil and not is_id(id) then
      error(("node:add: an id, an integer above 0, expected, got %s"):format(tostring(id)), 2)
    end
    if not is_address(address) then error('node:add: "host:port" expected, got ' .. tostring(address), 2) end
    local call = new_call(self, "node:add", opts, callback, options.ADD)
    add(call, id, address)
    return wait(call.waiter)
  end

  ---Gives a learner a vote, as soon as it has caught up.
  ---@async
  ---@param id integer
  ---@param opts? raft.call_options
  ---@param callback? raft.index_answer
  ---@return integer? index of the configuration in the log
  ---@return string? message
  ---@return raft.code? code
  ---@overload async fun(self: raft.Node, id: integer, callback: raft.index_answer)
  function Node:promote(id, opts, callback) return change_one(self, "promote", id, opts, callback) end

  ---Takes a voter's vote: it goes on as a learner.
  ---@async
  ---@param id integer
  ---@param opts? raft.call_options
  ---@param callback? raft.index_answer
  ---@return integer? index
  ---@return string? message
  ---@return raft.code? code
  ---@overload async fun(self: raft.Node, id: integer, callback: raft.index_answer)
  function Node:demote(id, opts, callback) return change_one(self, "demote", id, opts, callback) end

  ---Removes a member. Its node goes on to run, and can do nothing any more (role "removed"): close it.
  ---@async
  ---@param id integer
  ---@param opts? raft.call_options
  ---@param callback? raft.index_answer
  ---@return integer? index
  ---@return string? message
  ---@return raft.code? code
  ---@overload async fun(self: raft.Node, id: integer, callback: raft.index_answer)
  function Node:remove(id, opts, callback) return change_one(self, "remove", id, opts, callback) end

  ---Makes several changes in one step: no state in between is ever seen. New members begin as learners.
  ---@async
  ---@param what { add: table<integer, string>?, promote: integer[]?, demote: integer[]?, remove: integer[]? }
  ---@param opts? raft.call_options
  ---@param callback? raft.index_answer
  ---@return integer? index
  ---@return string? message
  ---@return raft.code? code
  ---@overload async fun(self: raft.Node, what: table, callback: raft.index_answer)
  function Node:change(what, opts, callback)
    local list = read_change(self, what)
    local call = new_call(self, "node:change", opts, callback)
    ask(call, "change", list, give(call))
    return wait(call.waiter)
  end

  ---Has another voter lead: this one, once it can be reached and has caught up, or the one that is most caught up.
  ---@async
  ---@param id? integer
  ---@param opts? raft.call_options
  ---@param callback? raft.id_answer
  ---@return integer? id of the new leader
  ---@return string? message
  ---@return raft.code? code
  ---@overload async fun(self: raft.Node, opts?: raft.call_options, callback?: raft.id_answer)
  ---@overload async fun(self: raft.Node, callback: raft.id_answer)
  ---@overload async fun(self: raft.Node, id: integer, callback: raft.id_answer)
  function Node:transfer(id, opts, callback)
    if type(id) == "table" or type(id) == "function" then id, opts, callback = nil, id, opts end
    if id ~= nil and not is_id(id) then
      error(("node:transfer: an id, an integer above 0, expected, got %s"):format(tostring(id)), 2)
    end
    local call = new_call(self, "node:transfer", opts, callback)
    ask(call, "transfer", id or 0, give(call, true))
    return wait(call.waiter)
  end
end

return members
