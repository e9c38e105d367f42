-- The log as witness: it tells in which order the commands took effect, once and for all. Applied once more to a fresh
-- instance it gives the results that there should have been; and with it the history of the clients is linearizable if
-- and only if each call has its place in it between its call and its return (no search is needed: the order is known).
local core = require "raft.core"
local show = require "raft.sim_report".show

local witness = {}

local function fail(format, ...)
  error({ text = format:format(...) }, 0)
end

local function called_as(operation)
  local what = operation.call == "propose" and "command " .. show(core.unpack(operation.bytes).values[1]) or "a read"
  return ("%s at node %d"):format(what, operation.node)
end

---Finds for each proposal its index, by session and sequence. No command may be there twice.
local function place_proposals(self)
  local index_of = {}
  for index = 1, self.core:last() do
    local command = self.core:command(index)
    if command then
      local name = command.session .. "/" .. command.sequence
      if index_of[name] then
        fail("exactly once: command %s was applied at index %d and again at index %d",
          show(core.unpack(command.command)), index_of[name], index)
      end
      index_of[name] = index
    end
  end
  for _, operation in ipairs(self.history_list) do
    if operation.call == "propose" and operation.sequence then
      operation.index = index_of[operation.node .. "/" .. operation.sequence]
    end
  end
end

---Is what each caller was told so, as far as the log knows?
local function check_outcomes(self)
  for _, operation in ipairs(self.history_list) do
    local index, outcome = operation.index, operation.outcome
    if operation.call == "propose" and outcome == "yes" and not index then
      fail("durability: %s was acknowledged and is not in the log", called_as(operation))
    elseif operation.call == "propose" and outcome == "no" and index then
      fail("exactly once: %s was refused for certain (%s), but was applied at index %d", called_as(operation),
        operation.refused, index)
    end
  end
end

---A proposal stands at its index, a read just behind the one it saw.
local function position(operation)
  return operation.call == "propose" and 2 * operation.index or 2 * operation.index + 1
end

---Whatever had returned before a call stands in front of it.
local function check_order(self)
  local events = {}
  for _, operation in ipairs(self.history_list) do
    if operation.index then
      events[#events + 1] = { order = operation.called_order, operation = operation }
      if operation.outcome == "yes" then
        events[#events + 1] = { order = operation.returned_order, operation = operation, returns = true }
      end
    end
  end
  table.sort(events, function(a, b) return a.order < b.order end)
  local newest
  for _, event in ipairs(events) do
    local operation = event.operation
    if event.returns then
      if not newest or position(operation) > position(newest) then newest = operation end
    else
      operation.after = newest
    end
    local before = event.returns and operation.after
    if before and position(operation) < position(before) then
      fail("linearizability: %s took effect at index %d, before %s at index %d, which had returned when it was called",
        called_as(operation), operation.index, called_as(before), before.index)
    end
  end
end

---What the caller was told, packed like a result in the journal.
local function told(operation)
  local results = core.unpack(operation.answer)
  return core.pack { results[1], results[2] }
end

local function shown(bytes)
  local values = core.unpack(bytes)
  return values[2] == nil and show(values[1]) or show(values[1]) .. ", " .. show(values[2])
end

---Was the caller told what apply returned at that index?
local function check_result(operation, command)
  local expected = command.raised and core.pack { nil, command.result } or command.result
  if told(operation) == expected then return end
  fail("%s was answered with %s; apply returned %s at index %d", called_as(operation), shown(told(operation)),
    shown(expected), operation.index)
end

local function check_read(self, operation)
  local other = self.core:ask(0, "read", operation.code, operation.index, operation.time, told(operation))
  if not other then return end
  fail("%s after index %d returned %s; in a fresh state that applies the log once more it returns %s",
    called_as(operation), operation.index, shown(told(operation)), other ~= "" and shown(other) or "an error")
end

---Applies the log once more, to a fresh instance in a state of its own, and looks at each result on the way.
local function replay(self)
  local at, last = {}, self.core:last()
  for _, operation in ipairs(self.history_list) do
    if operation.index and operation.outcome == "yes" then
      at[operation.index] = at[operation.index] or {}
      table.insert(at[operation.index], operation)
      last = math.max(last, operation.index)
    end
  end
  self.core:witness()
  self.core:ask(0, "witness")
  for index = 0, last do
    local command = self.core:command(index)
    if command then self.core:ask(0, "apply", index, command.time, command.command) end
    if self.core:failed() then return end
    for _, operation in ipairs(at[index] or {}) do
      if operation.call == "propose" then check_result(operation, command) else check_read(self, operation) end
    end
  end
end

---Checks all that has happened so far. Raises { text = } for what is wrong; machines that part are told to the journal.
---@param self raft.Sim
function witness.check(self)
  place_proposals(self)
  check_outcomes(self)
  check_order(self)
  replay(self)
end

return witness
