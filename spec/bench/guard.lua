-- Guards the speed by counting, not by timing: instructions of fixed works under valgrind's callgrind, per entry,
-- against stored figures. The core's count is the same in each run; the host's, whose threads meet differently each
-- time, differ by some percent, however busy the machine is. (The engine's differs by a tenth: it is not judged.)
--
--   lua5.4 spec/bench/guard.lua            (make guard)          status 1: an entry costs more than stored
--   lua5.4 spec/bench/guard.lua --update   (make guard UPDATE=1)  stores what was counted
--
-- What one entry costs is the difference between a longer and a shorter run: starting and ending cancel out.
local lab = require "spec.bench.lab"
local report = require "spec.bench.report"

local STORED = "spec/bench/guard.txt"
local BATCH = 64

---Runs a program under callgrind: the instructions of its first thread, but for what it does in the engine's place: how
---often it finds that asleep differs from run to run.
local function count(dir, command)
  local output = dir .. "/callgrind"
  local words = { "valgrind", "--tool=callgrind", "--separate-threads=yes", "--toggle-collect=world_visit",
    "--collect-atstart=yes", "--callgrind-out-file=" .. output,
    table.unpack(command) }
  local text, code = lab.capture(words)
  if code ~= 0 then error(("%s\nstatus %d"):format(text, code), 0) end
  return tonumber(lab.read_file(output .. "-01"):match("\ntotals: (%d+)"))
end

---Instructions for one entry. program(n): the command that does n of them.
local function per_entry(dir, few, many, program)
  return (count(dir, program(many)) - count(dir, program(few))) / (many - few)
end

local HOST_FEW, HOST_MANY = 500, 4500

---What one of host_work.lua's works costs.
local function per_call(dir, what)
  return per_entry(dir, HOST_FEW, HOST_MANY, function(n)
    local function words(work)
      return { arg[-1] or "lua5.4", "spec/bench/host_work.lua", tostring(n), ("%s/%s%d"):format(dir, what, n), work }
    end
    if what == "apply" then lab.capture(words "propose") end   -- what is applied has to be there
    return words(what)
  end)
end

---The works: name, and what it costs by now.
local function measure(dir)
  local trio = lab.build_c("trio")
  local core = per_entry(dir, 5000, 25000, function(n) return { trio, tostring(n), tostring(BATCH), "1" } end)
  return { { name = "core", says = "three cores, an entry, 64 a batch", count = core, tolerance = 0.03 },
    { name = "host", says = "Lua and the binding, a command, 64 under way", count = per_call(dir, "propose"),
      tolerance = 0.06 },
    { name = "callback", says = "the same, a command with a callback", count = per_call(dir, "callback"),
      tolerance = 0.06 },
    { name = "apply", says = "the same, a command that another node has proposed", count = per_call(dir, "apply"),
      tolerance = 0.06 },
    { name = "read", says = "the same, a linearizable read", count = per_call(dir, "read"), tolerance = 0.06 } }
end

---Counts belong to a compiler and a C library.
local function tools()
  local text = lab.capture { "gcc", "--version" }
  return text:match("^[^\n]+") .. "; Lua " .. _VERSION:match("%S+$")
end

local function read_stored()
  local stored = {}
  for name, value in (lab.read_file(STORED) or ""):gmatch("(%w+): ([^\n]+)") do stored[name] = value end
  return stored
end

local function update(works)
  local lines = { "Instructions an entry, of guard.lua; `make guard UPDATE=1` writes this file.", "tools: " .. tools() }
  for _, work in ipairs(works) do lines[#lines + 1] = ("%s: %.0f"):format(work.name, work.count) end
  lab.write_file(STORED, table.concat(lines, "\n") .. "\n")
end

---Prints both figures of each work; whether none has grown.
local function compare(works, stored)
  local rows, fine, cheaper = {}, true, false
  for i, work in ipairs(works) do
    local before = tonumber(stored[work.name])
    local change = before and work.count / before - 1
    rows[i] = { work.says, before and ("%.0f"):format(before) or "-", ("%.0f"):format(work.count),
      change and ("%+.1f %%"):format(change * 100) or "-", ("%.0f %%"):format(work.tolerance * 100) }
    fine = fine and (change or 0) <= work.tolerance
    cheaper = cheaper or (change or 0) < -work.tolerance
  end
  report.table({ "instructions an entry", "stored", "now", "change", "allowed" }, rows)
  if not fine then
    print(("An entry costs more than what is stored in %s. If that is meant: make guard UPDATE=1"):format(STORED))
  elseif cheaper then
    print("An entry costs less than it did: make guard UPDATE=1 keeps that.")
  end
  return fine
end

local function main()
  local works = lab.with_directory("tmpfs", measure)
  if arg[1] == "--update" then update(works) end
  local stored = read_stored()
  local fine = compare(works, stored)
  if stored.tools == tools() then return fine end
  print(("Not judged: stored with %s, here it is %s."):format(stored.tools, tools()))
  return true
end

local ok, result = xpcall(main, debug.traceback)
if not ok then io.stderr:write(result, "\n") end
lab.leave(ok and result)
