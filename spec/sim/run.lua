-- Runs seeds of the simulator on all cores:  make sim SEEDS=2000 FROM=1   make soak
--   lua5.4 spec/sim/run.lua [seeds=n] [from=k] [jobs=n] [with='nodes=5 faults=crashes,disks'] [soak]
-- Each core has a process that is handed one seed at a time, so that it is known of which seed a process dies or hangs.
-- At the first failure no more seeds are begun; that seed is run again in smaller variants, and the smallest one that
-- fails in the same way is drawn (build/sim/seed-N.html). soak goes on until a failure or Ctrl-C.
-- The exit status is 0 only when every seed that was begun has ended well.
local uv = require "luv"
local core = require "raft.core"
local diagram = require "raft.diagram"
local swarm = require "spec.sim.swarm"

local HANG_S = 300            -- of one seed: none comes near it
local TELL_S, SOAK_TELL_S = 10, 600 -- between two lines about progress
local SHRINK_S = 60           -- spent on smaller variants
local NEAR = 4                -- seeds tried for each variant: with other dials, the same seed is another run
local PICTURES = "build/sim"

-- ---- one run: options come in, its report goes out, each as one line of Lua ----

local function line_of(t)
  local parts = {}
  for name, value in pairs(t) do
    local text = type(value) == "table" and "{" .. ("%q,"):rep(#value):format(table.unpack(value)) .. "}"
      or ("%q"):format(value):gsub("\n", "n")
    parts[#parts + 1] = name .. "=" .. text
  end
  return "{" .. table.concat(parts, ",") .. "}\n"
end

local function table_of(line)
  return assert(load("return " .. line, "=line", "t", {}))()
end

local function commit()
  local pipe <close> = assert(io.popen "git describe --always --dirty 2>/dev/null")
  return pipe:read "l" or "unknown"
end

local function draw(path, options, report)
  assert(diagram.write(path, {
    trace = report.trace, failure = report.failure, replay = swarm.replay(options),
    title = ("Seed %d of the simulator"):format(options.seed),
    subtitle = ("%d nodes, %.1f simulated seconds, commit %s, faults: %s"):format(options.nodes, report.simulated,
      commit(), #report.faults > 0 and table.concat(report.faults, ", ") or "none"),
  }))
end

local function work()
  io.stdout:setvbuf "line"
  for line in io.lines() do
    local options = table_of(line)
    local started, picture = os.clock(), options.picture
    options.trace, options.picture = picture ~= nil, nil
    local report = core.sim(options)
    report.cpu = os.clock() - started
    if picture then draw(picture, options, report) end
    report.trace = nil
    io.write(line_of(report))
  end
end

-- ---- processes that run them ----

local Worker = {}
Worker.__index = Worker

local function on_lines(pipe, fn)
  local rest = ""
  pipe:read_start(function(_, data)
    if not data then return pipe:close() end
    rest = rest .. data
    for line in rest:gmatch "([^\n]*)\n" do fn(line) end
    rest = rest:match "[^\n]*$"
  end)
end

function Worker.start()
  local input, output, errors = uv.new_pipe(), uv.new_pipe(), uv.new_pipe()
  local w = setmetatable({ input = input, said = {}, limit = uv.new_timer() }, Worker)
  w.handle, w.pid = uv.spawn("lua5.4", { args = { arg[0], "work" }, stdio = { input, output, errors },
    detached = true }, function(_, signal)
      w.handle:close()
      w.limit:close()
      input:close()
      w.gone = true
      local said = w.said[1] or ("ended by signal " .. signal)
      w:told { ok = false, died = true, failure = w.hung and ("runs for more than %d s"):format(HANG_S) or said }
    end)
  assert(w.handle, w.pid)
  on_lines(output, function(line) w:told(table_of(line)) end)
  on_lines(errors, function(line) table.insert(w.said, line) end)
  return w
end

function Worker:told(report)
  local done = self.done
  self.done = nil
  if not done then return end
  if not self.gone then self.limit:stop() end
  done(report)
end

---Runs one scenario; done(report). A process that dies of it makes a report of that.
function Worker:run(options, done)
  self.done = done
  self.limit:start(HANG_S * 1000, 0, function()
    self.hung = true
    self:kill()
  end)
  self.input:write(line_of(options))
end

function Worker:stop()
  if not self.gone and not self.input:is_closing() then self.input:shutdown() end
end

function Worker:kill()
  if not self.gone then uv.kill(self.pid, "sigkill") end
end

-- ---- the seeds ----

local function parse(words)
  local opts = { seeds = 100, from = 1, jobs = #uv.cpu_info(), with = "" }
  for _, word in ipairs(words) do
    local name, value = word:match "^(%l+)=(.*)$"
    if word == "soak" then
      opts.soak = true
    elseif name and opts[name] then
      if value ~= "" then opts[name] = name == "with" and value or assert(math.tointeger(tonumber(value)), word) end
    else
      error("unknown argument: " .. word, 0)
    end
  end
  if opts.soak then
    opts.seeds = math.maxinteger
    if opts.from == 1 then opts.from = tonumber(os.date "%Y%m%d") * 1000000 end
  end
  return opts
end

local function options_of(seed, with)
  return swarm.with(swarm.options(seed), with)
end

local function tell_totals(sums, started, failed)
  local wall = (uv.hrtime() - started) / 1e9
  local count = function(n) return (tostring(n):reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", "")) end
  print(("%s seeds, %.1f simulated hours, %s failed"):format(count(sums.seeds), sums.simulated / 3600, failed))
  print(("  events %s, commands %s, elections %s, crashes %s, changes of members %s, logs replaced by snapshots %s")
    :format(count(sums.events), count(sums.commands), count(sums.elections), count(sums.crashes), count(sums.changes),
      count(sums.restores)))
  print(("  %.0f s, %.0f s of CPU: %.0f simulated seconds in each of them; slowest seed %s: %.1f s"):format(wall,
    sums.cpu, sums.simulated / math.max(sums.cpu, 0.001), sums.slowest, sums.slowest_s))
end

---Runs all seeds until one fails. Returns their sums and the failed ones: { options, report }.
local function run_all(opts)
  local seed, over, workers, failed = opts.from, false, {}, {}
  local sums = { seeds = 0, simulated = 0, events = 0, commands = 0, elections = 0, crashes = 0, changes = 0,
    restores = 0, repeats = 0, ended = 0, cpu = 0, slowest = "none", slowest_s = 0 }
  local function account(options, report)
    if not report.ok then failed[#failed + 1] = { options = options, report = report } end
    if report.died then return end
    swarm.add(sums, report)
    sums.cpu = sums.cpu + report.cpu
    if report.cpu > sums.slowest_s then sums.slowest, sums.slowest_s = options.seed, report.cpu end
  end
  local function feed(worker)
    if over or #failed > 0 or seed - opts.from >= opts.seeds then return worker:stop() end
    local options = options_of(seed, opts.with)
    seed = seed + 1
    worker:run(options, function(report)
      if over then return end
      account(options, report)
      feed(worker)
    end)
  end
  local started, tell_s = uv.hrtime(), opts.soak and SOAK_TELL_S or TELL_S
  local teller = uv.new_timer()
  teller:start(tell_s * 1000, tell_s * 1000, function()
    if opts.soak then return tell_totals(sums, started, #failed) end
    print(("  %d of %d seeds, %.1f simulated hours, %.0f s"):format(sums.seeds, opts.seeds, sums.simulated / 3600,
      (uv.hrtime() - started) / 1e9))
  end)
  teller:unref()
  for _, name in ipairs { "sigint", "sigterm" } do
    local signal = uv.new_signal()
    signal:unref()
    signal:start(name, function()
      over = true
      for _, worker in ipairs(workers) do worker:kill() end
    end)
  end
  for i = 1, math.min(opts.jobs, opts.seeds) do
    workers[i] = Worker.start()
    feed(workers[i])
  end
  uv.run()
  teller:close()
  tell_totals(sums, started, #failed)
  return failed, over
end

-- ---- a failure ----

---What failed, without when and where: two runs that say the same have failed in the same way.
local function claim(report)
  return report.failure:match "node %d+: ([^:]+)" or report.failure:match "%(([^%s]+%.c:%d+)%)" or report.failure
end

local function attempt(options)
  local worker, report = Worker.start(), nil
  worker:run(options, function(r) report = r end)
  while not report do uv.run "once" end
  worker:stop()
  uv.run()
  return report
end

local function changed(options, name, value)
  local copy = {}
  for key, old in pairs(options) do copy[key] = old end
  copy[name] = value
  return copy
end

---Variants of a failed run that are smaller than it, the most promising first.
local function smaller(options, report)
  local list = {}
  local function add(name, value) list[#list + 1] = changed(options, name, value) end
  local at = tonumber(report.failure:match "at (%d+%.?%d*) s")
  if at and at + 1 < options.seconds then add("seconds", math.ceil(at)) end
  for i in ipairs(options.faults or {}) do
    local fewer = table.move(options.faults, 1, #options.faults, 1, {})
    table.remove(fewer, i)
    add("faults", #fewer > 0 and fewer or false)
  end
  if options.nodes > 3 then add("nodes", options.nodes > 5 and 5 or 3) end
  if options.clients > 1 then add("clients", 1) end
  if (options.visitors or 0) > 0 then add("visitors", 0) end
  if (options.visitors or 0) > 1 then add("visitors", 1) end
  if options.seconds > 4 then add("seconds", options.seconds // 2) end
  return list
end

---The smallest variant that was found to fail with the same claim within SHRINK_S.
local function shrink(options, report)
  local deadline = uv.hrtime() + SHRINK_S * 1000000000
  local function still_fails(variant)
    for near = 0, NEAR - 1 do
      local try = changed(variant, "seed", variant.seed + near)
      local found = attempt(try)
      if not found.ok and claim(found) == claim(report) then return try, found end
      if uv.hrtime() > deadline then return nil end
    end
  end
  local function step()
    for _, variant in ipairs(smaller(options, report)) do
      local try, found = still_fails(variant)
      if try or uv.hrtime() > deadline then return try, found end
    end
  end
  if report.faults then
    local explicit, found = still_fails(changed(options, "faults", #report.faults > 0 and report.faults or false))
    if not explicit then return options, report end
    options, report = explicit, found
  end
  local try, found = step()
  while try do
    options, report = try, found
    try, found = step()
  end
  return options, report
end

local function tell_failure(options, report)
  print(("\nseed %d, %d nodes, %d s, commit %s:\n  %s\n  replay: %s"):format(options.seed, options.nodes,
    options.seconds, commit(), report.failure, swarm.replay(options)))
end

local function examine(failed)
  for _, one in ipairs(failed) do tell_failure(one.options, one.report) end
  print "\nlooking for a smaller run that fails in the same way ..."
  local options, report = shrink(failed[1].options, failed[1].report)
  tell_failure(options, report)
  local path = ("%s/seed-%d.html"):format(PICTURES, options.seed)
  os.execute("mkdir -p " .. PICTURES)
  local drawn = attempt(changed(options, "picture", path))
  print(drawn.died and "  no picture, since the process ends of it: " .. drawn.failure or "  picture: " .. path)
end

if arg[1] == "work" then return work() end
io.stdout:setvbuf "line"
local opts = parse(arg)
local failed, over = run_all(opts)
if #failed > 0 then examine(failed) end
os.exit(#failed == 0 and (opts.soak or not over))
