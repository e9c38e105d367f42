-- The command `raft`, offline: looks into a node's directory while the node does not run, applies its log once more, or
-- makes what is left of a lost cluster go on. lua/bin/raft is the program.
local core = require "raft.core"
local machines = require "raft.machine"
local show = require "raft.sim_report".show

local USAGE = [[
usage: raft inspect DIR [--entries] [--force]
         what a node would find in its directory: term, vote, snapshot, log, and where it is damaged
           --entries  lists every entry of the log
           --force    even while a node runs on it, whose last writes may then look torn
       raft replay DIR MACHINE [--until INDEX]
         applies snapshot and log to a fresh machine, printing each command and what it returned, then the state
           MACHINE    a file that returns the machine (it ends in .lua), or a module's name
           --until    stops after this index
       raft recover DIR [--address HOST:PORT] [--yes]
         for a cluster that has lost more than half of its voters for good: this node goes on alone. Not safe: says
         what is given up, and does it only with --yes
           --address  where this node listens from now on
The node must not be running. Status: 0 done, 1 failed or damaged, 2 not understood, or --yes is missing.
]]

local RECORD = { members = 1, sessions = 2, clients = 3, machine = 4 }   -- of a snapshot (csrc/server/channel.h)
local HOST_RECORDS = RECORD.machine - 1                                  -- one of each of the others
local SEGMENTS_SHOWN = 8   -- a screen holds the rest of the report too

---Ends the command: what a person should read, and the status.
local function fail(status, format, ...)
  error({ status = status, text = format:format(...) }, 0)
end

local function say(format, ...) io.stdout:write(format:format(...), "\n") end

-- ---- what is in a directory, as text ----

local function clock(us) return os.date("!%Y-%m-%d %H:%M:%S", us // 1000000) .. (".%06d UTC"):format(us % 1000000) end

local function plural(n, one, many) return ("%d %s"):format(n, n == 1 and one or many) end

local MAY = { [1] = "voter", [2] = "leaving voter", [3] = "leaving and voter", [4] = "learner",
  [6] = "leaving, learner", [12] = "learner that gets its vote back", [14] = "leaving, gets its vote back" }

---The members that the bytes of a configuration name (csrc/wire/conf.h).
local function configuration(bytes)
  local list, _, n, at = {}, ("<I8B"):unpack(bytes)
  for i = 1, n do
    local id, may, address
    id, may, _, address, at = ("<I8BI8s1"):unpack(bytes, at)
    list[i] = ("%d=%s%s"):format(id, address, may == 1 and "" or " (" .. (MAY[may] or "unknown") .. ")")
  end
  return table.concat(list, ", ")
end

---A command as one would write it in Lua.
local function command_text(bytes)
  local value, message, code = core.unpack(bytes)
  return code and "unreadable: " .. message or show(value)
end

---What an entry of type client holds: the session, the number of its command, the command; session 0 opens one.
local function client_of(entry) return ("<I8I8"):unpack(entry.data) end

local DESCRIBE = {
  empty = function() return "a leader's first" end,
  barrier = function() return "" end,
  config = function(entry) return configuration(entry.data) end,
  command = function(entry) return command_text(entry.data) end,
  client = function(entry)
    local id, sequence, at = client_of(entry)
    if id == 0 then return "opens session " .. entry.index end
    return ("session %d, command %d: %s"):format(id, sequence, command_text(entry.data:sub(at)))
  end,
}

local function describe(entry)
  local describer = DESCRIBE[entry.type] or function() return "" end
  local ok, text = pcall(describer, entry)
  return ok and text or "unreadable"
end

---The entries of the log from an index on, in order.
local function entries(inspection, from)
  return coroutine.wrap(function()
    repeat
      local list, message = inspection:read(from)
      if not list then fail(1, "%s", message) end
      for _, entry in ipairs(list) do coroutine.yield(entry) end
      from = from + #list
    until #list == 0
  end)
end

---Opens a directory at rest; visit is called for its segments and batches.
local function open(dir, force, visit)
  local inspection, message, code = core.inspect(dir, { force = force, visit = visit })
  if inspection then return inspection end
  if code == "locked" then message = message .. " (--force looks all the same)" end
  fail(1, "%s", message)
end

-- ---- raft inspect ----

---Counts what each segment holds, as the inspection walks through them.
local function segment_counter()
  local segments, by_file, voids = {}, {}, 0
  local function visit(kind, what)
    if kind == "segment" then
      segments[#segments + 1], by_file[what.file] = what, what
      what.batches, what.entries, what.bytes = 0, 0, 0
    elseif kind == "batch" then
      local segment = by_file[what.file]
      segment.batches, segment.entries = segment.batches + 1, segment.entries + what.count
      segment.bytes, segment.sealed = segment.bytes + what.length, what.seal
      if what.truncate > 0 or what.reset then voids = voids + 1 end
    end
  end
  return segments, visit, function() return voids end
end

local function print_segment(s)
  if s.state == "spare" then return say("  %08d.seg  spare, %d bytes", s.file, s.size) end
  say("  %08d.seg  %s, %s, %d of %d bytes%s", s.file, plural(s.batches, "batch", "batches"),
    plural(s.entries, "entry", "entries"), s.bytes, s.size, s.sealed and ", sealed" or "")
end

local function print_segments(segments)
  say("segments       %d", #segments)
  local hidden = #segments - SEGMENTS_SHOWN
  for i, segment in ipairs(segments) do
    if hidden <= 0 or i <= SEGMENTS_SHOWN // 2 or i > #segments - SEGMENTS_SHOWN // 2 then
      print_segment(segment)
    elseif i == SEGMENTS_SHOWN // 2 + 1 then
      say("  ... %d more", hidden)
    end
  end
end

local function print_identity(dir, r)
  say("%s: node %d of cluster %q", dir, r.node, r.name)
  say("cluster        %s", (r.cluster:gsub(".", function(c) return ("%02x"):format(c:byte()) end)))
  say("incarnation    %016x%s", r.incarnation, r.rejoining and ", rejoining: not admitted by the others yet" or "")
  say("term           %d, %s", r.term, r.vote == 0 and "no vote" or "voted for " .. r.vote)
end

local function print_snapshot(s)
  if not s then return say("snapshot       none") end
  say("snapshot       up to index %d (term %d), %d bytes, machine version %d, leader's clock %s", s.index, s.term,
    s.size, s.version, clock(s.time))
end

local function print_entry(entry)
  say("%8d  term %d  %s  %-7s  %s", entry.index, entry.term, clock(entry.time), entry.type, describe(entry))
end

local function print_log(inspection, r, listed)
  local counts, names, members, last = {}, {}, nil, nil
  for entry in entries(inspection, r.first) do
    if not counts[entry.type] then names[#names + 1] = entry.type end
    counts[entry.type] = (counts[entry.type] or 0) + 1
    if entry.type == "config" then members = describe(entry) end
    if listed then print_entry(entry) end
    last = entry
  end
  table.sort(names)
  for i, name in ipairs(names) do names[i] = ("%d %s"):format(counts[name], name) end
  if last then
    say("log            entries %d to %d (term %d): %s", r.first, r.last, last.term, table.concat(names, ", "))
  else
    say("log            empty, goes on with index %d", r.first)
  end
  if not members and r.snapshot then
    local kind, bytes = inspection:record()
    members = kind == RECORD.members and describe { type = "config", data = bytes } or nil
  end
  say("members        %s", members or r.list)
end

local function inspect(opt, dir)
  local segments, visit, voids = segment_counter()
  local inspection <close> = open(dir, opt.force, visit)
  local r = inspection:report()
  if r.node ~= 0 then
    print_identity(dir, r)
    print_snapshot(r.snapshot)
    print_log(inspection, r, opt.entries)
    if voids() > 0 then
      say("overwritten    %s, by another leader or a snapshot", plural(voids(), "end of the log", "ends of the log"))
    end
    if r.torn_bytes > 0 then
      say("torn           the last %d bytes: a write that never finished; the next start cuts it off", r.torn_bytes)
    end
    print_segments(segments)
  end
  if r.damaged then say("damaged        %s", r.damaged) end
  if r.error then fail(1, "A node would not start here (%s): %s", r.code, r.error) end
  return r.damaged and 1 or 0
end

-- ---- raft replay ----

---The machine that a file or a module gives.
local function load_machine(name)
  if not name:find("%.lua$") then
    local ok, module = pcall(require, name)
    if not ok then fail(1, "%s", module) end
    return module
  end
  local chunk, message = loadfile(name)
  if not chunk then fail(1, "%s", message) end
  local ok, module = xpcall(chunk, debug.traceback)
  if not ok then fail(1, "%s", module) end
  return module
end

---The state as the snapshot has it: machine, apply, and the two tables that keep commands from being applied twice.
local function load_snapshot(inspection, given)
  local load, sessions, clients = machines.loader(given), core.sessions(), core.clients()
  local kind, bytes, total = inspection:record()
  load("begin", (total or 0) - HOST_RECORDS)
  while kind do
    if kind == RECORD.sessions then
      sessions:read(bytes)
    elseif kind == RECORD.clients then
      clients:read(bytes)
    elseif kind == RECORD.machine then
      local record = bytes
      load("records", function()
        if not record then return nil end
        local key, at = ("<s4"):unpack(record)
        local value = record:sub(at)
        record = nil
        return (core.unpack(key)), (core.unpack(value))
      end)
    end
    kind, bytes = inspection:record()
  end
  if bytes then fail(1, "%s", bytes) end
  local instance, apply = load "end"
  return { machine = instance, apply = apply, sessions = sessions, clients = clients, time = 0 }
end

local function fresh_state(given)
  local instance, apply = machines.new(given)
  return { machine = instance, apply = apply, sessions = core.sessions(), clients = core.clients(), time = 0 }
end

---Is this entry applied? As each node decides it. And the bytes of its command, or why it is not.
local function judge(state, entry)
  local verdict = state.sessions:admit(entry.session, entry.epoch, entry.sequence, entry.lowest)
  if verdict ~= "new" then return false, verdict == "fenced" and "of an earlier life of its node" or "sent twice" end
  if entry.type == "command" then return true, entry.data end
  local id, sequence, at = client_of(entry)
  if id == 0 then
    state.clients:open(entry.index, state.time)
    return false
  end
  verdict = state.clients:command(id, sequence, state.time, "")
  if verdict == "new" then return true, entry.data:sub(at) end
  return false, verdict == "repeat" and "its client tried again" or "its session is over, or has gone on"
end

local function apply(state, entry)
  if entry.type ~= "command" and entry.type ~= "client" then return describe(entry) end
  local applies, what = judge(state, entry)
  if not applies then return describe(entry) .. (what and ": not applied, " .. what or "") end
  local command, _, code = core.unpack(what)
  if code then return "an unreadable command: a node would stop here" end
  local ok, a, b = pcall(state.apply, state.machine, command, entry.index, state.time / 1e6)
  local result = ok and (b == nil and show(a) or show(a) .. ", " .. show(b)) or "raised " .. tostring(a)
  return ("%s -> %s"):format(describe(entry), result)
end

---Where the replay begins: the snapshot, or the log's own beginning when the end lies before the snapshot.
local function begin(inspection, given, r, last)
  local snapshot = r.snapshot
  if not snapshot and r.first > 1 then
    fail(1, "the log begins at index %d, and there is no snapshot before it", r.first)
  end
  if not snapshot or last < snapshot.index and r.first == 1 then return fresh_state(given), 0 end
  if last < snapshot.index then
    fail(1, "the state at index %d cannot be had: the snapshot is of index %d, and the log begins at %d", last,
      snapshot.index, r.first)
  end
  local state = load_snapshot(inspection, given)
  state.time = snapshot.time
  say("the snapshot of index %d", snapshot.index)
  return state, snapshot.index
end

local function print_state(machine)
  local state, names = machines.state(machine), {}
  if type(state) ~= "table" then return say("state: %s", show(state)) end
  for name in pairs(state) do names[#names + 1] = name end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  say("state:")
  for _, name in ipairs(names) do say("  %s = %s", type(name) == "string" and name or show(name), show(state[name])) end
end

local function replay(opt, dir, name)
  local given = load_machine(name)
  local inspection <close> = open(dir)
  local r = inspection:report()
  if r.node == 0 then fail(1, "%s", r.error or dir .. " holds no node") end
  local last = math.min(opt["until"] or math.maxinteger, math.max(r.last, r.snapshot and r.snapshot.index or 0))
  local state, index = begin(inspection, given, r, last)
  if index < last then
    for entry in entries(inspection, index + 1) do
      state.time = math.max(state.time, entry.time)
      say("%8d  %-7s  %s", entry.index, entry.type, apply(state, entry))
      index = entry.index
      if index == last then break end
    end
  end
  say("after index %d, leader's clock %s; a log alone does not tell whether its last entries were committed", index,
    clock(state.time))
  print_state(state.machine)
  if r.error then fail(1, "The log ends here because of this: %s", r.error) end
  return 0
end

-- ---- raft recover ----

local WARNING = [[
%s: node %d of cluster %q, log up to index %d, term %d.

This makes node %d go on ALONE, as if the others had never been. It cannot be made safe:
 - what the others had acknowledged and this node never got is LOST, even though it was committed;
 - what this node has and the cluster had not committed takes effect after all;
 - the others must NEVER run again with their directories: they would go on as the old cluster.
If several nodes are left, take the one with the highest term of its last entry, and of these the longest log
(raft inspect DIR). If a majority can still be brought back, do that instead. Keep a copy of %s.
]]

local function recover(opt, dir)
  if not opt.yes then
    local inspection <close> = open(dir)
    local r = inspection:report()
    if r.error then fail(1, "%s", r.error) end
    io.stdout:write(WARNING:format(dir, r.node, r.name, r.last, r.term, r.node, dir))
    fail(2, "Nothing was changed. To do it: raft recover %s --yes", dir)
  end
  local report, message = core.recover(dir, { address = opt.address })
  if not report then fail(1, "%s", message) end
  say("%s: node %d is the only member from index %d, term %d on.", dir, report.node, report.index, report.term)
  if report.lost ~= "" then say("members no more: %s", report.lost) end
  say("Remove the directories of the others before anything is started.")
  return 0
end

-- ---- the command line ----

local function is_index(word) return math.tointeger(tonumber(word)) end

-- command = { what it does, how many words it takes, its options: true, or what reads the word behind }
local COMMANDS = {
  inspect = { inspect, 1, { entries = true, force = true } },
  replay = { replay, 2, { ["until"] = is_index } },
  recover = { recover, 1, { yes = true, address = tostring } },
}

---Takes the words of a command apart: its function, its options, its other words.
local function parse(words)
  local command = COMMANDS[words[1]]
  if not command then fail(2, "%s", USAGE) end
  local opt, rest, i = {}, {}, 2
  while words[i] do
    local name = words[i]:match("^%-%-(.+)$")
    local known = command[3][name]
    if name and not known then fail(2, "raft %s: unknown option --%s\n%s", words[1], name, USAGE) end
    if not name then
      rest[#rest + 1] = words[i]
    elseif known == true then
      opt[name] = true
    else
      i = i + 1
      opt[name] = words[i] and known(words[i])
      if not opt[name] then fail(2, "raft %s: --%s needs a value\n%s", words[1], name, USAGE) end
    end
    i = i + 1
  end
  if #rest ~= command[2] then fail(2, "%s", USAGE) end
  return command[1], opt, rest
end

---Runs the command that the words give. Prints to stdout, what went wrong to stderr.
---@param words string[]
---@return integer status 0: done; 1: failed, or damage was found; 2: not understood
return function(words)
  local ok, status = xpcall(function()
    local run, opt, rest = parse(words)
    return run(opt, table.unpack(rest))
  end, function(e) return type(e) == "table" and e or { status = 1, text = debug.traceback(e) } end)
  if ok then return status end
  io.stdout:flush()
  io.stderr:write((status.text:gsub("\n?$", "\n")))
  return status.status
end
