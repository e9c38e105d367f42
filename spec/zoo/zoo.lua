-- The zoo: bugs planted into copies of the sources, one at a time, each of which the simulator must catch:  make zoo
--   BUG=words    only the bugs whose name holds these words
--   SEEDS=400    most seeds for one bug: about twice what the rarest ones take
--   JOBS=2       bugs at a time (in the environment); default: as many as there are cores
-- COMPILE and LINK (the Makefile's commands) come from the environment. A bug is caught when a check of the simulator
-- fails, when an assertion ends the process, or when one seed runs for longer than HANG_S, which none should come near
-- to. The sources as they are must pass the same seeds. The exit status is 0 only when all of that is so.
local uv = require "luv"
local bugs = require "spec.zoo.bugs"
local plant = require "spec.zoo.plant"
local tree = require "spec.tree"

local HANG_S = 120
local MEMORY_KB = 4 << 20   -- what runs wild must not take the machine with it

local wanted, most = os.getenv "BUG" or "", tonumber(os.getenv "SEEDS") or 400
local COMPILE, LINK = assert(os.getenv "COMPILE"), assert(os.getenv "LINK")
local HOME = "build/zoo"
local OBJECTS = HOME .. "/sound"   -- a copy of the build, so that another one meanwhile does no harm
local results = { caught = {}, missed = {}, sound = false }

-- ---- processes, as coroutines ----

---Runs a shell command; its output goes to on_line. Returns its exit status and signal.
local function shell(command, on_line)
  local thread = coroutine.running()
  local output, rest, code, signal, open = uv.new_pipe(), "", nil, nil, true
  local function ended()
    if code and not open then coroutine.resume(thread, code, signal) end
  end
  local handle, pid
  handle, pid = uv.spawn("sh", { args = { "-c", "exec 2>&1; " .. command }, stdio = { nil, output } },
    function(...)
      code, signal = ...
      handle:close()
      ended()
    end)
  assert(handle, pid)
  output:read_start(function(_, data)
    for line in ((rest .. (data or "")):gmatch "([^\n]*)\n") do on_line(line, pid) end
    rest = (rest .. (data or "")):match "[^\n]*$"
    if data then return end
    if rest ~= "" then on_line(rest, pid) end
    output:close()
    open = false
    ended()
  end)
  return coroutine.yield()
end

-- ---- building ----

---The module with the bug in it, in a directory of its own: one file is compiled, all are linked. Returns the
---directory, or nil and what went wrong.
local function build(bug, number)
  local home = ("%s/%02d"):format(HOME, number)
  local object = bug.file:gsub("^csrc/", ""):gsub("%.c$", ".o")
  local text, why = plant(bug, tree.read(bug.file))
  if not text then return nil, why end
  assert(os.execute(("mkdir -p %s/raft"):format(home)))
  local source = home .. "/" .. bug.file:match "[^/]+$"
  local file <close> = assert(io.open(source, "w"))
  file:write(text)
  file:close()
  local objects = { source .. ".o" }
  for _, path in ipairs(tree.files "csrc/*/*.c") do
    local other = path:gsub("^csrc/", ""):gsub("%.c$", ".o")
    if other ~= object then objects[#objects + 1] = OBJECTS .. "/" .. other end
  end
  local compile = ("%s -c %s -o %s"):format(COMPILE, source, objects[1])
  local link = ("%s -o %s/raft/core.so"):format((LINK:gsub("OBJECTS", table.concat(objects, " "))), home)
  local said = {}
  local code = shell(compile .. " && " .. link, function(line) said[#said + 1] = line end)
  if code ~= 0 then return nil, "does not compile: " .. table.concat(said, "\n") end
  return home
end

-- ---- hunting ----

---The claim that a check of the simulator says is broken.
local function claim_of(failure)
  local said = failure:match ": at [%d.]+ s, node %d+: (.*)" or ""
  return said:match "^%l+ %([%d.]+%)" or said:match "^([%l ]+):" or "contradiction"
end

---Runs seeds 1 .. last_seed with the module in home. Returns the seed that was caught, by what, and the whole failure;
---or nil when none was.
local function hunt(home, last_seed)
  local seed, failure, last, hung = 0, nil, "", false
  local timer = uv.new_timer()
  local command = ("ulimit -v %d; LUA_CPATH='%s/?.so' exec lua5.4 spec/zoo/hunt.lua 1 %d"):format(
    MEMORY_KB, home, last_seed)
  local code, signal = shell(command, function(line, pid)
    if line:find "^%d+$" then
      seed = tonumber(line)
      timer:start(HANG_S * 1000, 0, function()
        hung = true
        uv.kill(pid, "sigkill") -- the shell is the interpreter now
      end)
    else
      failure = line:match "^failed\t(.*)" or failure
      last = line
    end
  end)
  timer:close()
  if hung then return seed, "hangs", ("seed %d still runs after %d s"):format(seed, HANG_S) end
  if failure then return seed, claim_of(failure), failure end
  if signal ~= 0 or code ~= 0 then return seed, signal == 6 and "assertion" or "crash", last end
end

local ROW = "%-78s %-24.24s %5s %8s"

---One row of the table for one bug.
local function try(bug, number)
  local started = uv.hrtime()
  local home, why = build(bug, number)
  local seed, claim, failure
  if home then seed, claim, failure = hunt(home, most) end
  local verdict = seed and claim or home and "NOT CAUGHT" or "BROKEN"
  print(ROW:format(bug.name, verdict, seed or "-", ("%.1f s"):format((uv.hrtime() - started) / 1e9)))
  if not home or wanted ~= "" then print("    " .. (failure or why or "no check has failed")) end
  if seed then
    results.caught[#results.caught + 1] = seed
    os.remove(home .. "/raft/core.so")
  else
    results.missed[#results.missed + 1] = bug.name
  end
end

---The sources as they are.
local function try_sound(last_seed)
  local started = uv.hrtime()
  local seed, _, failure = hunt(OBJECTS, last_seed)
  print(ROW:format("(no bug at all)", seed and "FAILS" or "passes", seed or last_seed,
    ("%.1f s"):format((uv.hrtime() - started) / 1e9)))
  if seed then print("    " .. failure) end
  results.sound = seed == nil
end

-- ---- all of it ----

assert(os.execute(("rm -rf %s && mkdir -p %s && cp -r build/plain %s"):format(HOME, HOME, OBJECTS)))
io.stdout:setvbuf "line"
print(ROW:format("bug", "caught by", "seeds", "time"))
local queue = {}
if wanted == "" then queue[1] = function() try_sound(most) end end
for number, bug in ipairs(bugs) do
  if bug.name:find(wanted, 1, true) then queue[#queue + 1] = function() try(bug, number) end end
end
assert(#queue > 0, "no bug has these words in its name")
local function worker()
  while #queue > 0 do table.remove(queue, 1)() end
end
for _ = 1, tonumber(os.getenv "JOBS") or #uv.cpu_info() do coroutine.wrap(worker)() end
uv.run()

local caught, missed = results.caught, results.missed
table.sort(caught)
if wanted ~= "" then
  coroutine.wrap(try_sound)(caught[#caught] or most)
  uv.run()
end
print(("%d of %d bugs are caught; median %d seeds, most %d"):format(#caught, #caught + #missed,
  caught[(#caught + 1) // 2] or 0, caught[#caught] or 0))
for _, name in ipairs(missed) do print("not caught: " .. name) end
os.exit(#missed == 0 and results.sound and #caught > 0)
