-- Runs specs under the builds named, each file in a process of its own:  lua5.4 spec/run.lua plain asan spec/core
-- Without paths: every spec. What failed is named once more at the end; the last line is "N passed, N failed" (and
-- skipped, if any), summed over all runs; the exit status is 0 only when nothing failed, crashed, hung, or was reported
-- by a sanitizer, in child processes too.
local uv = require "luv"

local LIMIT_S = 1200            -- a file that takes longer hangs; the slowest take a quarter of it
local SANITIZERS = {
  asan = { runtime = "libasan.so", variables = { "ASAN_OPTIONS", "UBSAN_OPTIONS" },
    options = "detect_leaks=1:print_stacktrace=1:strict_string_checks=1" },
  tsan = { runtime = "libtsan.so", variables = { "TSAN_OPTIONS" },
    options = "second_deadlock_stack=1:suppressions=" .. uv.cwd() .. "/spec/tsan.supp" },
}

local function capture(command)
  local pipe <close> = assert(io.popen(command))
  return (pipe:read("a"):gsub("%s+$", ""))
end

local root, busted = uv.cwd(), capture("command -v busted")
local results = root .. "/build/results"
assert(busted ~= "", "busted is not installed: make deps-test")

local function read_file(path)
  local file = io.open(path)
  if not file then return nil end
  local text = file:read("a")
  file:close()
  return text
end

---The files under path that are specs, sorted.
local function find_specs(path, found)
  if path:match("_spec%.lua$") then
    found[#found + 1] = path
  elseif not path:match("%.%w+$") then
    local names = {}
    for name in uv.fs_scandir_next, assert(uv.fs_scandir(path)) do names[#names + 1] = name end
    table.sort(names)
    for _, name in ipairs(names) do find_specs(path .. "/" .. name, found) end
  end
  return found
end

---The environment of a run: ours, and what the build needs. The module is preloaded as well: leaks are looked for after
---it would have been unloaded, and a report should name its functions.
local function environment(job)
  local set = { RAFT_BUILD = job.build, RAFT_COUNTS = job.base .. ".counts", RAFT_FIGURES = job.base .. ".figures" }
  local sanitizer = SANITIZERS[job.build]
  if sanitizer then
    set.LD_PRELOAD = ("%s %s/build/%s/raft/core.so"):format(
      capture("gcc -print-file-name=" .. sanitizer.runtime), root, job.build)
    set.RAFT_PRELOAD = set.LD_PRELOAD
    for _, variable in ipairs(sanitizer.variables) do
      set[variable] = ("%s:log_path=%s.report"):format(sanitizer.options, job.base)
    end
  end
  local list = {}
  for name, value in pairs(uv.os_environ()) do
    if not set[name] then list[#list + 1] = name .. "=" .. value end
  end
  for name, value in pairs(set) do list[#list + 1] = name .. "=" .. value end
  return list
end

local totals = { passed = 0, failed = 0, skipped = 0 }
local failures = {}             -- to be named at the end: far above it, their output is hard to find

---What sanitizers wrote about the run, its child processes included.
local function reports(job)
  local found = {}
  for name in uv.fs_scandir_next, assert(uv.fs_scandir(results .. "/" .. job.build)) do
    local path = results .. "/" .. job.build .. "/" .. name
    if path:sub(1, #job.base + 7) == job.base .. ".report" then found[#found + 1] = read_file(path) end
  end
  return found
end

local function note_failure(job, counts, signal)
  failures[#failures + 1] = ("FAILED: %s %s"):format(job.build, job.spec)
  for name in counts:gmatch("\n([^\n]+)") do failures[#failures + 1] = "  " .. name end
  if signal ~= 0 then failures[#failures + 1] = "  ended by signal " .. signal end
end

local function finish(job, code, signal)
  local counts = read_file(job.base .. ".counts") or ""
  local passed, failed, skipped = counts:match("(%d+) (%d+) (%d+)")
  passed, failed, skipped = tonumber(passed) or 0, tonumber(failed) or 1, tonumber(skipped) or 0
  local found = reports(job)
  if failed == 0 and (code ~= 0 or signal ~= 0 or #found > 0) then failed = 1 end
  totals.passed, totals.failed = totals.passed + passed, totals.failed + failed
  totals.skipped = totals.skipped + skipped
  print(("%-5s %-44s %4d passed%s%s  %.1f s"):format(job.build, job.spec, passed,
    failed > 0 and (", %d FAILED"):format(failed) or "", skipped > 0 and (", %d skipped"):format(skipped) or "",
    (uv.hrtime() - job.started) / 1e9))
  local figures = read_file(job.base .. ".figures") -- what the spec has to tell beside the counts
  if figures then print("      " .. figures) end
  if failed > 0 then note_failure(job, counts, signal) end
  if failed > 0 or skipped > 0 then print((read_file(job.base .. ".log") or ""):sub(-20000)) end
  if job.hung then print(("It was still running after %d s and was killed."):format(LIMIT_S)) end
  if signal ~= 0 then print("It was ended by signal " .. signal .. ".") end
  for _, text in ipairs(found) do print(text:sub(1, 20000)) end
  io.stdout:flush()
end

local function start(job, done)
  job.started = uv.hrtime()
  local log = assert(uv.fs_open(job.base .. ".log", "w", tonumber("644", 8)))
  local limit, process = uv.new_timer(), nil
  process, job.pid = uv.spawn("lua5.4", {
    args = { busted, "--ignore-lua", "--output=spec/output.lua", "--helper=spec/helper.lua", job.spec },
    env = environment(job), stdio = { nil, log, log }, detached = true,
  }, function(code, signal)
    limit:close()
    process:close()
    uv.fs_close(log)
    finish(job, code, signal)
    done()
  end)
  assert(process, job.pid)
  limit:start(LIMIT_S * 1000, 0, function()
    job.hung = true
    uv.kill(-job.pid, "sigkill")            -- the group: with the processes that the spec started
  end)
end

local builds, specs = {}, {}
for _, word in ipairs(arg) do
  if word == "plain" or SANITIZERS[word] then builds[#builds + 1] = word else find_specs(word, specs) end
end
if #builds == 0 then builds[1] = "plain" end
if #specs == 0 then find_specs("spec", specs) end

local queue, running = {}, {}
for _, build in ipairs(builds) do
  os.execute(("rm -rf '%s/%s' && mkdir -p '%s/%s'"):format(results, build, results, build))
  for _, spec in ipairs(specs) do
    local base = ("%s/%s/%s"):format(results, build, spec:gsub("^spec/", ""):gsub("/", "-"):gsub("%.lua$", ""))
    queue[#queue + 1] = { build = build, spec = spec, base = base }
  end
end

local function next_job()
  local job = table.remove(queue, 1)
  if not job then return end
  running[job] = true
  start(job, function()
    running[job] = nil
    next_job()
  end)
end

for _, name in ipairs { "sigint", "sigterm" } do
  local signal = uv.new_signal()
  signal:unref()
  signal:start(name, function()
    for job in pairs(running) do uv.kill(-job.pid, "sigkill") end
    os.exit(130)
  end)
end
for _ = 1, tonumber(os.getenv("JOBS")) or #uv.cpu_info() do next_job() end
uv.run()

for _, line in ipairs(failures) do print(line) end
print(("%d passed, %d failed%s"):format(totals.passed, totals.failed,
  totals.skipped > 0 and (", %d skipped"):format(totals.skipped) or ""))
os.exit(totals.failed == 0 and totals.passed > 0)
