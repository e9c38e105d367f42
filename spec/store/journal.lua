-- A log on a simulated disk beside a model of it in plain tables. The model knows every append and what was
-- acknowledged, and so what a recovery may find: the acknowledged appends and perhaps some of those after them, whole
-- or up to some entry, in order - and nothing else.
local core = require "raft.core"
local assert = require "luassert"

local journal = {}
journal.__index = journal

---options: what disk:open takes. image: files to begin with (path -> bytes).
function journal.new(seed, faults, options, image)
  local self = setmetatable({ options = options or {}, appends = {}, released = 0, epoch = 0 }, journal)
  self.disk = core.disk(seed, faults)
  for path, bytes in pairs(image or {}) do assert(self.disk:put(path, bytes)) end
  self.base = { term = 0, vote = 0, last = 0, data = {} }  -- what is surely durable
  return self
end

---nil, message, code when the directory is refused.
function journal:open()
  local log, message, code = self.disk:open(self.options)
  if not log then return nil, message, code end
  self.log, self.seq, self.found = log, 0, log:recovered()
  self.last = self.found.last
  self.terms = { [self.found.first - 1] = self.found.before }
  for i, run in ipairs(self.found.runs) do
    local behind = self.found.runs[i + 1] and self.found.runs[i + 1].start or self.found.last + 1
    for index = run.start, behind - 1 do self.terms[index] = run.term end
  end
  assert(self.found.epoch > self.epoch, "the epoch does not grow")
  self.epoch = self.found.epoch
  return self
end

---entries: a list of strings; change: { term, vote, truncate, reset, reset_term, entry_term = term of the entries }.
function journal:append(entries, change)
  change = change or {}
  local first = change.truncate or (change.reset or self.last) + 1
  local list = {}
  for i, data in ipairs(entries) do
    list[i] = { term = change.entry_term or 1, data = data }
    self.terms[first + i - 1] = list[i].term
  end
  self.seq = self.seq + 1
  local append = { seq = self.seq, term = change.term, vote = change.vote, truncate = change.truncate, first = first,
    reset = change.reset, reset_term = change.reset_term, entries = list }
  local status = self.log:append(append)
  if status ~= "ok" then
    self.seq = self.seq - 1
    return status
  end
  self.appends[#self.appends + 1] = append
  if change.reset then self.released = math.max(self.released, change.reset) end
  self.last = first + #list - 1
  return status
end

local function begin(state, append)
  if append.term then state.term, state.vote = append.term, append.vote end
  if append.truncate then
    for i = append.truncate, state.last do state.data[i] = nil end
    state.last = append.truncate - 1
  end
  if append.reset then state.last, state.data = append.reset, {} end
end

local function add(state, append, i)
  state.last = append.first + i - 1
  state.data[state.last] = append.entries[i].data
end

---The bytes of a snapshot file.
function journal.file(what, records)
  local file = { cluster = "c" }
  for name, value in pairs(what) do file[name] = value end
  for i, record in ipairs(records or { { 1, "state" } }) do file[i] = record end
  return core.snapshot(file)
end

---Runs until the incoming snapshot has ended; as log:ended.
function journal:wait_ended(id)
  local ok, message, code
  repeat
    if not self.disk:step() then return nil, "nothing happens", "none" end
    ok, message, code = self.log:ended(id)
  until ok ~= false
  return ok, message, code
end

---Puts a snapshot into the directory; what: index, term, id.
function journal:publish(what, records)
  local id = assert(self.log:incoming(what))
  assert.equal("ok", self.log:incoming_write(id, journal.file(what, records)))
  self.log:incoming_publish(id)
  return self:wait_ended(id)
end

---Takes a snapshot at index, and releases what it covers.
function journal:release(index)
  if index > self.log:snapshot().index then
    local ok, message, code = self:publish { index = index, term = assert(self.terms[index]), id = index }
    if not ok then return nil, message, code end
  end
  self.released = math.max(self.released, index)
  return self.log:release(index)
end

---Moves what is acknowledged from the appends into the base.
function journal:settle()
  local persisted = self.log:persisted()
  while self.appends[1] and self.appends[1].seq <= persisted do
    local append = table.remove(self.appends, 1)
    begin(self.base, append)
    for i = 1, #append.entries do add(self.base, append, i) end
  end
  return self.base
end

---Entries first..last as a table index -> data; nil, message, code.
function journal:read(first, last, most)
  local data, from = {}, first
  while from <= last do
    local id = assert(self.log:start_read(from, last, most))
    local result, message, code
    repeat
      assert(self.disk:step())
      result, message, code = self.log:result(id)
    until result ~= false
    if not result then return nil, message, code end
    assert(#result > 0)
    for _, entry in ipairs(result) do
      assert(entry.index == from)
      data[from] = entry.data
      from = from + 1
    end
  end
  return data
end

function journal:run(seconds)
  self.disk:run(seconds or 1)
  return self
end

---Ends the process in the middle of whatever it does.
function journal:crash()
  self:settle()
  self.disk:crash()
  self.log = nil
end

function journal:close()
  self.log:close()
  repeat assert(self.disk:step()) until self.log:closed()
  self:settle()
end

local function equal(state, found, data)
  if state.last ~= found.last or state.term ~= found.term or state.vote ~= found.vote then return false end
  for i = found.first, found.last do
    if state.data[i] ~= data[i] then return false end
  end
  return true
end

---Is what the opening found one of the states that it may have found? The base is that state afterwards.
function journal:matches()
  local found, state, surplus = self.found, self.base, self.appends
  local data = found.last >= found.first and assert(self:read(found.first, found.last)) or {}
  self.appends = {}
  if found.first > self.released + 1 then return false, "entries before " .. found.first .. " are gone" end
  if equal(state, found, data) then return true end
  for _, append in ipairs(surplus) do
    begin(state, append)
    if equal(state, found, data) then return true end
    for i = 1, #append.entries do
      add(state, append, i)
      if equal(state, found, data) then return true end
    end
  end
  return false, ("found %d..%d, term %d, vote %d"):format(found.first, found.last, found.term, found.vote)
end

---All files of the directory: path -> bytes.
function journal:image()
  local image, dir = {}, self.options.dir or "data"
  for _, name in ipairs(self.disk:files(dir)) do image[dir .. "/" .. name] = self.disk:file(dir .. "/" .. name) end
  return image
end

return journal
