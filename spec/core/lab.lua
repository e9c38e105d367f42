-- A laboratory for the pure core: cores on one clock, a pool of messages that go where and when a spec says, and disks
-- that are as slow as it wants. After every step the lab checks what Raft promises (Ongaro's dissertation, figure 3.2)
-- and what the core promises to its caller (csrc/core/raft.h). Times are in microseconds.
--
-- An entry's size stands for its content: two entries of one index and term must be of one size.
local core = require "raft.core"

-- NEWS: when a peer has surely been told of a commit.
local lab = { MS = 1000, S = 1000000, T = 1000000, HEARTBEAT = 100000, NEWS = 3000 }

---A seeded generator of our own (xorshift), so that no other code disturbs it.
function lab.random(seed)
  local state = (seed * 0x9E3779B97F4A7C15) | 1
  return function(n)
    state = state ~ (state << 13)
    state = state ~ (state >> 7)
    state = state ~ (state << 17)
    return (state >> 1) % n + 1
  end
end

---A clock that runs by ppm millionths faster than another one, and offset ahead of it. Setting it moves that one.
function lab.skewed(clock, ppm, offset)
  local function read() return offset + clock.now + clock.now * ppm // 1000000 end
  return setmetatable({}, {
    __index = function(_, name) return name == "now" and read() or nil end,
    __newindex = function(_, _, value)
      clock.now = math.max(clock.now, (value - offset) * 1000000 // (1000000 + ppm))
      while read() < value do clock.now = clock.now + 1 end
    end })
end

---A configuration as text.
function lab.conf_text(conf)
  if not conf then return "" end
  local lists = {}
  for i, name in ipairs { "voters", "outgoing", "learners" } do lists[i] = table.concat(conf[name] or {}, " ") end
  return table.concat(lists, "|")
end

---- one node: a core and its disk ----

local node_class = {}
node_class.__index = node_class

---The runs of terms of a list of entries, from the first one on (1, unless told).
function lab.runs(entries, first)
  local runs, i = {}, first or 1
  while entries[i] do
    if #runs == 0 or entries[i].term ~= runs[#runs][2] then runs[#runs + 1] = { i, entries[i].term } end
    i = i + 1
  end
  return runs
end

---A list of entries of these terms, each of size 1 unless told.
function lab.entries(terms, size)
  local list = {}
  for i, term in ipairs(terms) do list[i] = { term = term, size = size or 1, type = "command" } end
  return list
end

---A crash may have come after a snapshot was stored, and before the log was replaced by it.
local function recover(disk)
  local snapshot = disk.newest
  if not snapshot then return end
  disk.snapshot = snapshot
  local entry = disk.log[snapshot.index]
  local covered = snapshot.index < disk.first or entry and entry.term == snapshot.term
  if not covered then disk.log, disk.first, disk.last = {}, snapshot.index + 1, snapshot.index end
end

---A core on what its disk holds.
local function start(node, applied)
  local disk = node.disk
  recover(disk)
  local snapshot = disk.snapshot or { index = 0, term = 0 }
  local options = { id = node.id, now = node.clock.now, seed = 7, election_timeout = lab.T, heartbeat = lab.HEARTBEAT,
    term = disk.term, vote = disk.vote, last = disk.last, runs = lab.runs(disk.log, disk.first),
    applied = applied or 0, snapshot = snapshot.index, snapshot_term = snapshot.term, confs = {} }
  for name, value in pairs(node.options) do options[name] = value end
  if snapshot.conf then
    for _, name in ipairs { "voters", "outgoing", "learners" } do options[name] = snapshot.conf[name] end
  end
  for i = snapshot.index + 1, disk.last do
    if disk.log[i].conf then table.insert(options.confs, { index = i, conf = disk.log[i].conf }) end
  end
  node.core = assert(core.raft(options))
  node.commit, node.unsynced, node.read = math.max(applied or 0, snapshot.index), {}, {}
end

---options: as for core.raft, and log = terms of the entries its disk holds, disk = { term, vote, log }, lag = true: its
---disk waits for node:sync; range_max: entries that it reads at once for a follower; applied.
function lab.node(options, clock)
  local node = setmetatable({ options = {}, clock = clock or { now = lab.S } }, node_class)
  for name, value in pairs(options) do node.options[name] = value end
  node.id, node.lag, node.range_max = options.id, options.lag, options.range_max
  local log = options.log or {}
  node.disk = options.disk or { term = options.term or log[#log] or 0, vote = options.vote or 0,
    log = lab.entries(log), first = 1, last = #log }
  for _, name in ipairs { "log", "disk", "lag", "range_max", "term", "vote", "applied" } do node.options[name] = nil end
  start(node, options.applied)
  return node
end

---The entry at an index, wherever it is.
function node_class:entry(index)
  return self.core:entry(index) or self.disk.log[index]
end

---As a server does: reads the entries that a message names from its store, at most range_max of them.
function node_class:read_range(m)
  local named = m.index + m.n_entries
  m.range, m.entries, m.was_range = nil, {}, true
  m.n_entries = math.min(m.n_entries, self.range_max or m.n_entries)
  for i = 1, m.n_entries do m.entries[i] = assert(self.disk.log[m.index + i], "a range that is not stored") end
  self.core:range_sent(m.to, named, m.index + m.n_entries, self.clock.now)
end

---The next batch: written down for node:sync. nil: there is nothing.
function node_class:ready()
  if not self.core:has_ready() then return nil end
  local out = assert(self.core:ready(self.clock.now))
  if out.seq > 0 then
    local batch = { seq = out.seq, truncate_from = out.truncate_from, restore = out.restore, entries = {} }
    if out.restore > 0 then assert(self.disk.newest.index >= out.restore, "a snapshot that was not received") end
    if out.vote_changed then batch.term, batch.vote = out.term, out.vote end
    for i = out.first, out.last do batch.entries[i] = assert(self.core:entry(i)) end
    batch.first, batch.last = out.first, out.last
    self.unsynced[#self.unsynced + 1] = batch
  end
  for _, m in ipairs(out.messages) do
    if m.range then self:read_range(m) end
    if m.type == "snapshot" then
      m.file = assert(self.disk.snapshot)
      assert(m.file.index == m.index and m.file.term == m.log_term, "another snapshot than there is")
    end
  end
  for _, read in ipairs(out.reads) do self.read[read.context] = read.index end
  assert(out.commit >= self.commit, "the commit index fell")
  self.commit = out.commit
  return out
end

---Writes the oldest batch.
local function write(disk, batch)
  if batch.term then disk.term, disk.vote = batch.term, batch.vote end
  if batch.restore > 0 then
    disk.log, disk.first, disk.last = {}, batch.restore + 1, batch.restore
    disk.snapshot = disk.newest
  end
  if batch.truncate_from > 0 then
    for i = disk.last, batch.truncate_from, -1 do disk.log[i] = nil end
    disk.last = math.min(disk.last, batch.truncate_from - 1)
  end
  assert(batch.first > batch.last or batch.first == disk.last + 1, "a batch leaves a gap in the log")
  for i = batch.first, batch.last do disk.log[i], disk.last = batch.entries[i], i end
end

---Takes a snapshot of all that is committed here (or up to index), and forgets the entries it covers but for the last
---`keep`.
function node_class:snapshot(index, keep)
  index = index or self.commit
  local file = { index = index, term = self.core:term(index), conf = self.core:conf(index) }
  if self.disk.newest and self.disk.newest.index >= index then return end
  self.disk.snapshot, self.disk.newest = file, file
  self.core:snapshot_taken(index)
  self:compact(math.max(index - (keep or 0), 0))
end

function node_class:compact(index)
  for i = self.disk.first, index do self.disk.log[i] = nil end
  self.disk.first = math.max(self.disk.first, index + 1)
  self.core:compact(index)
end

---A snapshot has arrived: it is durable before the core hears of it.
function node_class:receive(m)
  local newest = self.disk.newest
  if not newest or m.file.index > newest.index then self.disk.newest = m.file end
  return self.core:step({ type = "snapshot", from = m.from, to = m.to, term = m.term, index = m.index,
    log_term = m.log_term, conf = m.file.conf }, self.clock.now)
end

---Writes the oldest n batches (all, unless told), and acknowledges the newest of them.
function node_class:sync(n)
  n = math.min(n or #self.unsynced, #self.unsynced)
  if n == 0 then return end
  local newest
  for _ = 1, n do
    newest = table.remove(self.unsynced, 1)
    write(self.disk, newest)
  end
  assert(self.core:persisted(newest.seq, self.clock.now))
end

---Takes all batches, each written at once; returns all messages, and the last batch.
function node_class:flush()
  local messages, last = {}, nil
  for out in self.ready, self do
    table.move(out.messages, 1, #out.messages, #messages + 1, messages)
    self:sync()
    last = out
  end
  return messages, last
end

---A message to this node; sender 2 unless told.
function node_class:step(m)
  m.to, m.from = m.to or self.id, m.from or 2
  return self.core:step(m, self.clock.now)
end

---Time passes until its next deadline; it acts.
function node_class:tick()
  self.clock.now = math.max(self.clock.now, assert(self.core:deadline()))
  assert(self.core:tick(self.clock.now))
end

---Crashes and starts again: of the batches not acknowledged the first `written` have reached the disk, others not.
function node_class:restart(written, applied)
  for i = 1, written or 0 do write(self.disk, self.unsynced[i]) end
  start(self, applied)
end

function node_class:status() return self.core:status() end

---The terms of its log.
function node_class:terms()
  local list = {}
  local s = self:status()
  for k = 1, s.last - s.first + 1 do list[k] = self.core:term(s.first + k - 1) end
  return list
end

---Is elected with everybody's vote, and has appended its empty entry.
function node_class:win()
  assert(self.core:campaign(self.clock.now))
  for _ = 1, 2 do
    for _, m in ipairs(self:flush()) do
      assert(self:step { type = "vote_reply", from = m.to, term = m.term, pre = m.pre })
    end
  end
  assert(self:status().role == "leader")
  return self
end

---A node of its own that leads term 1 of voters 1, 2, 3.
function lab.leader(options)
  options.id, options.voters = options.id or 1, options.voters or { 1, 2, 3 }
  return lab.node(options):win()
end

---- many nodes ----

local cluster = {}
cluster.__index = cluster

---options: as for core.raft; voters, learners, outgoing; spares: nodes that know no configuration; lag; logs = { [id] =
---terms }; skew = { [id] = ppm }, how much faster its clock runs.
function lab.cluster(options)
  local self = setmetatable({ clock = { now = lab.S }, nodes = {}, pool = {}, cut = {}, leaders = {}, entries = {},
    committed = {}, highest = 0, reads = {} }, cluster)
  local ids, spare = {}, {}
  for _, list in ipairs { options.voters, options.outgoing or {}, options.learners or {}, options.spares or {} } do
    for _, id in ipairs(list) do ids[id] = true end
  end
  for _, id in ipairs(options.spares or {}) do spare[id] = true end
  local highest = 0
  for _, log in pairs(options.logs or {}) do highest = math.max(highest, log[#log] or 0) end
  for id in pairs(ids) do
    local mine = { id = id, log = options.logs and options.logs[id], term = options.term or highest }
    for name, value in pairs(options) do
      if name ~= "logs" and name ~= "spares" and name ~= "skew" then mine[name] = value end
    end
    if spare[id] then mine.voters, mine.outgoing, mine.learners = nil, nil, nil end
    local ppm = options.skew and options.skew[id]
    self.nodes[id] = lab.node(mine, ppm and lab.skewed(self.clock, ppm, id * 1000) or self.clock)
    for i, entry in ipairs(self.nodes[id].disk.log) do self:see_entry(self.nodes[id], i, entry) end
  end
  return self
end

---Log matching: entries of one index and term are the same, and so is all that precedes them.
function cluster:see_entry(node, index, entry)
  local key = index .. ":" .. entry.term
  local before, conf = assert(node.core:term(index - 1)), lab.conf_text(entry.conf)
  local known = self.entries[key]
  if not known then
    self.entries[key] = { size = entry.size, before = before, conf = conf }
  elseif known.size ~= entry.size or known.before ~= before or known.conf ~= conf then
    error("log matching: entry " .. key .. " differs on node " .. node.id)
  end
end

---Does the disk hold the entry, or a snapshot that covers it?
local function is_durable(node, index, entry)
  if index < node.disk.first then return true end
  local stored = node.disk.log[index]
  return stored and stored.term == entry.term and stored.size == entry.size
end

---Is the entry on the disks of a majority, of each list of voters?
function cluster:is_on_majority(conf, index, entry)
  for _, list in ipairs { conf.voters or {}, conf.outgoing } do
    local copies = 0
    for _, id in ipairs(list) do
      if is_durable(self.nodes[id], index, entry) then copies = copies + 1 end
    end
    if copies <= #list // 2 then return false end
  end
  return true
end

---State machine safety, and durability: what is committed is on the disks of a majority, by the configuration that some
---node goes by.
function cluster:see_commit(node, index)
  local known = self.committed[index]
  if known and index < node.core:status().first then return end  -- a snapshot brought it
  local entry = assert(node:entry(index))
  assert(is_durable(node, index, entry), "handed out as committed before it is durable here")
  if known then
    assert(known.term == entry.term and known.size == entry.size, "state machine safety: two entries at one index")
    return
  end
  local on_majority = false
  for _, other in pairs(self.nodes) do
    on_majority = on_majority or self:is_on_majority(other.core:conf(), index, entry)
  end
  assert(on_majority, "committed, but not durable on a majority")
  self.committed[index] = { term = entry.term, size = entry.size, seen_in = node:status().term }
  self.highest = math.max(self.highest, index)
end

---Election safety and leader completeness.
function cluster:see_leader(node, status)
  local known = self.leaders[status.term]
  assert(known == nil or known == node.id, "election safety: two leaders in term " .. status.term)
  if known then return end
  self.leaders[status.term] = node.id
  for index, entry in pairs(self.committed) do
    local mine = index >= status.first and index <= status.last and node:entry(index)
    assert(index < status.first or entry.seen_in >= status.term or mine and mine.term == entry.term
      and mine.size == entry.size, "leader completeness: a committed entry is not in the leader's log")
  end
end

---Asks a leader for a read. Whatever anybody has seen committed by now must be in what it answers.
function cluster:read(id, lease)
  local context = #self.reads + 1
  local node = self.nodes[id]
  local ok, text, code = node.core:read(context, node.clock.now, lease)
  if not ok then return nil, text, code end
  self.reads[context] = self.highest
  self:pump(node)
  return context
end

---Linearizability.
function cluster:see_reads(node)
  for context, index in pairs(node.read) do
    local least = self.reads[context]
    assert(not least or index == 0 or index >= least, "a stale read: its index is below what was committed before it")
  end
end

---What a message promises is durable.
local function see_message(node, m)
  local disk = node.disk
  local hypothetical = m.pre and not m.reject
  assert(hypothetical or m.term <= disk.term, "a message left with a term that is not durable")
  if m.type == "vote" and not m.pre and m.term == disk.term then
    assert(disk.vote == node.id, "asks for votes before its own is durable")
  elseif m.type == "vote_reply" and not m.pre and not m.reject and m.term == disk.term then
    assert(disk.vote == m.to, "a vote left that is not durable")
  elseif m.type == "append_reply" and not m.reject and m.term == node:status().term then
    assert(disk.last >= m.index, "acknowledged what is not durable")
  end
end

---Takes all that a node has to give: messages go to the pool; its disk is written at once, unless it lags.
function cluster:pump(node)
  for out in node.ready, node do
    local status, committed = node:status(), node.seen or 0
    for i = out.first, out.last do self:see_entry(node, i, node:entry(i)) end
    assert(out.truncate_from == 0 or out.truncate_from > committed, "a committed entry is cut off")
    for _, m in ipairs(out.messages) do
      see_message(node, m)
      assert(m.type ~= "append" or m.n_entries == 0 or m.index + m.n_entries <= out.last,
        "entries are sent that were not handed out for persisting")
      self.pool[#self.pool + 1] = m
    end
    for i = committed + 1, out.commit do self:see_commit(node, i) end
    node.seen = math.max(committed, out.commit)
    self:see_reads(node)
    if status.role == "leader" then self:see_leader(node, status) end
    if not node.lag then node:sync() end
  end
end

---The disk writes its oldest n batches (all, unless told), and the node acts on it.
function cluster:sync(id, n)
  self.nodes[id]:sync(n)
  self:pump(self.nodes[id])
end

---The transfer of a snapshot has ended: its sender hears of that, whatever happens on the network.
function cluster:report(m, ok)
  local sender = self.nodes[m.from]
  if sender.down then return end
  sender.core:snapshot_sent(m.to, ok)
  self:pump(sender)
end

---Gives one message to its receiver, unless one of the two is cut off or down. Answers of one that is no member any
---more are refused; nothing else is.
function cluster:give(m)
  local node = self.nodes[m.to]
  if not node or self.cut[m.to] or self.cut[m.from] or node.down then
    if m.type == "snapshot" then self:report(m, false) end
    return
  end
  local ok, text, code
  if m.type == "snapshot" then
    ok, text, code = node:receive(m)
  else
    local copy = {}
    for name, value in pairs(m) do
      if name ~= "was_range" then copy[name] = value end
    end
    ok, text, code = node.core:step(copy, node.clock.now)
  end
  local conf = lab.conf_text(node.core:conf()):gsub("|", " ")
  local stranger = not (" " .. conf .. " "):find(" " .. m.from .. " ", 1, true)
  if not ok and not (code == "invalid" and stranger and m.type:find "reply") then
    error(("%s from %d to %d, term %d, index %d: %s"):format(m.type, m.from, m.to, m.term, m.index, text))
  end
  self:pump(node)
  if m.type == "snapshot" then self:report(m, true) end
end

---Messages of the pool for which wanted(m) is true (all, unless told) leave it and are returned.
function cluster:take(wanted)
  local taken, left = {}, {}
  for _, m in ipairs(self.pool) do table.insert((not wanted or wanted(m)) and taken or left, m) end
  self.pool = left
  return taken
end

---Delivers what is in the pool and what that leads to, until nothing is left for which wanted(m) is true; returns how
---many times all that was under way arrived: the number of one-way trips.
function cluster:deliver(wanted)
  for id = 1, 99 do
    if self.nodes[id] and not self.nodes[id].down then self:pump(self.nodes[id]) end
  end
  local trips = 0
  while true do
    local batch = self:take(wanted)
    if #batch == 0 then return trips end
    trips = trips + 1
    assert(trips < 10000, "messages go round in circles")
    for _, m in ipairs(batch) do self:give(m) end
  end
end

---The node that acts next, and when, by the clock of all.
function cluster:next_to_act()
  local first, at
  for id = 1, 99 do
    local node = self.nodes[id]
    local deadline = node and not node.down and node.core:deadline()
    local wait = deadline and deadline - node.clock.now
    if wait and (not at or wait < at) then first, at = node, wait end
  end
  return first, first and self.clock.now + math.max(at, 0)
end

---Time passes: nodes act at their deadlines; what they send arrives at once, unless quiet.
function cluster:advance(us, quiet)
  local stop = self.clock.now + us
  while true do
    local node, at = self:next_to_act()
    if not node or at >= stop then break end
    node:tick()
    self:pump(node)
    if not quiet then self:deliver() end
  end
  self.clock.now = math.max(self.clock.now, stop)
end

---Makes a node lead, by an election at once.
function cluster:elect(id)
  local node = self.nodes[id]
  assert(node.core:campaign(node.clock.now))
  self:deliver()
  assert(node:status().role == "leader", "node " .. id .. " was not elected")
  return node
end

function cluster:propose(id, what)
  local first, term = assert(self.nodes[id].core:propose(what))
  self:pump(self.nodes[id])
  return first, term
end

---Proposes a change of members; delivers nothing.
function cluster:change(id, ...)
  local node = self.nodes[id]
  local index, text, code = node.core:change({ ... }, node.clock.now)
  self:pump(node)
  return index, text, code
end

---The node that leads the latest term, if any.
function cluster:leader()
  local found
  for _, node in pairs(self.nodes) do
    local status = node:status()
    if not node.down and status.role == "leader" and (not found or status.term > found:status().term) then
      found = node
    end
  end
  return found
end

function cluster:crash(id)
  self.nodes[id].down = true
end

---written: how many batches that were not acknowledged have reached the disk all the same.
function cluster:restart(id, written, applied)
  local node = self.nodes[id]
  node.down, node.seen = nil, applied or 0
  node:restart(written, applied)
end

---Filters for take and deliver.
function lab.of(type) return function(m) return m.type == type end end
function lab.to(id) return function(m) return m.to == id end end
function lab.from(id) return function(m) return m.from == id end end

lab.status, lab.terms = node_class.status, node_class.terms

return lab
