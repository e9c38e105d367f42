-- Is a history of concurrent calls linearizable: is there one order of them, each between its call and its return, in
-- which a sequential model would have given the same results? The algorithm is that of Wing and Gong, with Lowe's
-- memory of what has been tried: operations are put into the order one after the other, taken back when they lead
-- nowhere, and a set of operations that has led to the same state once is not tried again.

local core = require "raft.core"

local linear = {}

---@class raft.linear.Operation  One call of one client, and what became of it.
---@field client any? who called; only told in explanations
---@field input any what was asked for
---@field output any what came back; nil: not known. (A result that is nothing is best told as false.)
---@field called number when it was called
---@field returned number? when it returned; nil: never, and so it may or may not have taken effect, at any time since

---@class raft.linear.Model  What the service does when it is asked one thing at a time.
---@field init fun(): any the first state
---@field step fun(state: any, input: any, output: any): boolean, any  may this be the output (nil: any may), and the
---  state afterwards. It must not change the state it is given
---@field key (fun(input: any): string|number|boolean|nil)? operations of different keys have nothing to do with each
---  other: each key has a state of its own, and is checked by itself, which is much faster
---@field hash (fun(state: any): any)? the same value for the same state, another one for another. Without it states are
---  told apart by their packed bytes, if they are tables
---@field show (fun(input: any, output: any): string)? an operation as text, for explanations

local STEPS = 1000000 -- of the search, for one key, unless told otherwise
local ORDER_SHOWN = 5 -- operations of an order in an explanation

---- text ----

local function shown(value)
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) ~= "table" then return tostring(value) end
  local keys, parts = {}, {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b)
    if type(a) == type(b) and (type(a) == "number" or type(a) == "string") then return a < b end
    return tostring(a) < tostring(b)
  end)
  for _, key in ipairs(keys) do
    local name = key == #parts + 1 and "" or type(key) == "string" and key .. " = " or "[" .. shown(key) .. "] = "
    parts[#parts + 1] = name .. shown(value[key])
  end
  return "{ " .. table.concat(parts, ", ") .. " }"
end

local function describe(op, model)
  local text = model.show and model.show(op.input, op.output)
    or op.returned == nil and shown(op.input)
    or ("%s -> %s"):format(shown(op.input), op.output == nil and "(not known)" or shown(op.output))
  return ("#%d%s %s [%s .. %s]"):format(op.number, op.client ~= nil and " of client " .. tostring(op.client) or "",
    text, tostring(op.called), op.returned and tostring(op.returned) or "")
end

---- the history ----

local function check_operation(item, i)
  local function fail(what) error(("linear.check: operation #%d: %s"):format(i, what), 0) end
  if type(item) ~= "table" then fail("a table expected, got " .. type(item)) end
  if type(item.called) ~= "number" then fail("called: a time expected, got " .. type(item.called)) end
  if item.returned ~= nil and type(item.returned) ~= "number" then
    fail("returned: a time or nil expected, got " .. type(item.returned))
  end
  if item.returned and item.returned < item.called then fail("it returned before it was called") end
end

---The operations of each key, in the order in which keys first come up.
local function partition(history, model)
  local parts, by_key = {}, {}
  for i, item in ipairs(history) do
    check_operation(item, i)
    local key = model.key and model.key(item.input)
    local name = key == nil and by_key or key -- by_key itself stands for nil
    local part = by_key[name]
    if not part then
      part = { key = key }
      by_key[name] = part
      parts[#parts + 1] = part
    end
    part[#part + 1] = { number = i, client = item.client, input = item.input, called = item.called,
      output = item.returned and item.output, returned = item.returned }
  end
  return parts
end

---Calls and returns in the order of time, as a list that is linked both ways, for taking out and putting back. At the
---same moment calls come first: what may have been concurrent counts as such.
local function link(part)
  local events = {}
  for _, op in ipairs(part) do
    local call = { op = op, time = op.called, rank = 0 }
    events[#events + 1] = call
    if op.returned then
      call.back = { op = op, time = op.returned, rank = 1 }
      events[#events + 1] = call.back
    end
  end
  table.sort(events, function(a, b)
    if a.time ~= b.time then return a.time < b.time end
    if a.rank ~= b.rank then return a.rank < b.rank end
    return a.op.number < b.op.number
  end)
  local head = { position = 0 }
  local last = head
  for i, event in ipairs(events) do
    event.position, event.before, last.after = i, last, event
    last = event
  end
  return head
end

local function unlink(event)
  event.before.after = event.after
  if event.after then event.after.before = event.before end
end

local function relink(event)
  event.before.after = event
  if event.after then event.after.before = event end
end

---- the search ----

-- What never returned may be put anywhere after its call, or nowhere. Two things keep that from trying all subsets of
-- such operations. Of those that ask for the same, the one that was called first is used first: nothing tells them
-- apart. And where the same operations that did return have led to the same state, having used fewer of the others is
-- never worse.

local WORD = 62 -- operations that never returned, in one integer

---A number of each operation that returned, so that a set of them has one too: these, all xored.
local function numbers()
  local state = 0
  return function()
    state = state + 0x9e3779b97f4a7c15
    local z = (state ~ (state >> 30)) * 0xbf58476d1ce4e5b9
    z = (z ~ (z >> 27)) * 0x94d049bb133111eb
    return z ~ (z >> 31)
  end
end

---What a state is known by in the memory of what has been tried.
local function name_of(model, state)
  if model.hash then state = model.hash(state) end
  if type(state) == "table" then return core.pack(state) end
  return math.type(state) == "float" and ("%a"):format(state) or type(state) .. tostring(state)
end

local search = {}
search.__index = search

local function new_search(part, model, steps)
  local next_number = numbers()
  local self = setmetatable({ model = model, steps = steps, head = link(part), state = model.init(), order = {},
    waiting = 0, set_a = 0, set_b = 0, tried = {}, used = {}, blocked = { position = 0 }, furthest = {} }, search)
  local lost, newest = 0, {}
  for event in function(_, event) return event.after end, nil, self.head do
    local op = event.op
    if event.back then
      op.a, op.b = next_number(), next_number()
      self.waiting = self.waiting + 1
    elseif not op.returned then
      op.word, op.bit = lost // WORD + 1, 1 << lost % WORD
      self.used[op.word] = 0
      local asked = core.pack(op.input)
      op.twin, newest[asked] = newest[asked], op
      lost = lost + 1
    end
  end
  return self
end

function search:is_used(op)
  return self.used[op.word] & op.bit ~= 0
end

---Has this been tried: to have ordered these operations that returned, to be in this state, with no other use of what
---never returned than now? Remembers that it has.
function search:is_tried()
  local name = ("i8i8"):pack(self.set_a, self.set_b) .. name_of(self.model, self.state)
  local uses = self.tried[name]
  if not uses then
    uses = {}
    self.tried[name] = uses
  end
  for _, use in ipairs(uses) do
    local within = true
    for word, bits in ipairs(use) do within = within and bits & ~self.used[word] == 0 end
    if within then return true end
  end
  uses[#uses + 1] = table.move(self.used, 1, #self.used, 1, {})
  return false
end

---Moves an operation into the order, or back out of it.
function search:toggle(op)
  if op.returned then
    self.set_a, self.set_b = self.set_a ~ op.a, self.set_b ~ op.b
  else
    self.used[op.word] = self.used[op.word] ~ op.bit
  end
end

---Puts the operation that this event calls next into the order, if the model agrees and it is new.
function search:take(event)
  local op, before = event.op, self.state
  if op.twin and not self:is_used(op.twin) then return false end
  local ok, after = self.model.step(before, op.input, op.output)
  -- What never returned and would change nothing need not have happened.
  if not ok or (not op.returned and rawequal(after, before)) then return false end
  self.state = after
  self:toggle(op)
  if self:is_tried() then
    self.state = before
    self:toggle(op)
    return false
  end
  self.order[#self.order + 1] = { event = event, state = before }
  unlink(event)
  if event.back then
    unlink(event.back)
    self.waiting = self.waiting - 1
  end
  return true
end

---Takes the last operation of the order back. nil: there is none.
function search:give_back()
  local last = table.remove(self.order)
  if not last then return nil end
  local event = last.event
  if event.back then
    relink(event.back)
    self.waiting = self.waiting + 1
  end
  relink(event)
  self.state = last.state
  self:toggle(event.op)
  return event
end

---An operation returns here that has no place in the order: remembers the latest such, and the shortest way there.
function search:note(event)
  local later, shorter = event.position - self.blocked.position, #self.order < #self.furthest
  if later < 0 or (later == 0 and not shorter) then return end
  self.blocked, self.furthest, self.furthest_state = event, {}, self.state
  for i, placed in ipairs(self.order) do self.furthest[i] = placed.event.op end
end

---true: there is an order; false: there is none; nil: it was given up.
function search:run()
  local event = self.head.after
  while self.waiting > 0 do
    self.steps = self.steps - 1
    if self.steps < 0 then return nil end
    if event.rank == 0 then
      event = self:take(event) and self.head.after or event.after
    else
      self:note(event)
      event = self:give_back()
      if not event then return false end
      event = event.after
    end
  end
  return true
end

---Why there is no order: the first operation (by its return) with which there is none, the others around it, and an
---order of all that had returned before.
function search:explain(part)
  local model, bad, lines = self.model, self.blocked.op, {}
  local function add(format, ...) lines[#lines + 1] = format:format(...) end
  add("not linearizable%s: no order of the operations explains %s", part.key ~= nil and
    (" (key %s)"):format(shown(part.key)) or "", describe(bad, model))
  local placed = {}
  for _, op in ipairs(self.furthest) do placed[op] = true end
  add("what returned before can be ordered%s", #self.furthest > 0 and "; one order ends with" or ": there is nothing")
  for i = math.max(1, #self.furthest - ORDER_SHOWN + 1), #self.furthest do
    add("  %s", describe(self.furthest[i], model))
  end
  add("state then: %s", shown(self.furthest_state))
  for _, op in ipairs(part) do
    local open = op ~= bad and not placed[op] and op.called <= bad.returned
    if open then add("still open: %s", describe(op, model)) end
  end
  return table.concat(lines, "\n")
end

---Checks a history against a model.
---@param history raft.linear.Operation[] in any order
---@param model raft.linear.Model
---@param options { steps: integer? }? most steps of the search for one key, default 1000000
---@return boolean? linearizable nil: not decided within so many steps
---@return string? explanation when it is not true
function linear.check(history, model, options)
  if type(history) ~= "table" then error("linear.check: history: a list expected, got " .. type(history), 0) end
  for _, name in ipairs { "init", "step" } do
    local field = type(model) == "table" and model[name]
    if type(field) ~= "function" then error(("linear.check: model.%s: a function expected"):format(name), 0) end
  end
  local steps = options and options.steps or STEPS
  local undecided
  for _, part in ipairs(partition(history, model)) do
    local one = new_search(part, model, steps)
    local ok = one:run()
    if ok == false then return false, one:explain(part) end
    if ok == nil then
      local what = part.key ~= nil and (" (key %s)"):format(shown(part.key)) or ""
      undecided = undecided or ("not decided within %d steps%s: too many of %d operations were open at the same time")
        :format(steps, what, #part)
    end
  end
  if undecided then return nil, undecided end
  return true
end

return linear
