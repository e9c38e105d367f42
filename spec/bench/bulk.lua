-- Much of something: a million keys in a snapshot, a GiB of log at a restart, ten million entries; and nothing at all,
-- a node at rest. Each is a function (options) that prints a table and returns its figures.
local core = require "raft.core"
local lab = require "spec.bench.lab"
local raft = require "raft"
local report = require "spec.bench.report"
local uv = require "luv"

local MIB = 1 << 20
local ENTRY_HEADER = 80            -- bytes, of csrc/wire/entry.h
local ENTRY_COST = 32              -- bytes, of csrc/core/cache.h: what cache_bytes counts for an entry beyond its own
local OTHER = 1 / 8                -- of cache_bytes, of csrc/server/start.c: not for entries
local NEVER = { bytes = 1 << 40, entries = 1 << 30, keep = 1 }   -- no snapshots but those asked for
local bulk = {}

local function scaled(options, n) return math.max(1, n * options.scale // 1 | 0) end

local function files(dir, pattern)
  local list = {}
  for name in uv.fs_scandir_next, assert(uv.fs_scandir(dir)) do
    if name:find(pattern) then list[#list + 1] = dir .. "/" .. name end
  end
  table.sort(list)
  return list
end

---Looks at the file that a member receives a snapshot into, until over(): when its first and last bytes were seen,
---and how many came between.
local function watch_arrival(dir, over)
  local seen = {}
  while not over() do
    local now, path = core.now(), files(dir, "^snapshot%-.*%.tmp$")[1]
    local stat = path and uv.fs_stat(path)
    if stat and stat.size > 0 and stat.size > (seen.size or 0) then
      seen.first, seen.first_size = seen.first or now, seen.first_size or stat.size
      seen.last, seen.size = now, stat.size
    end
    lab.sleep(0.002)
  end
  return seen
end

---A member that stood still, and has its old state, gets the leader's snapshot: the seconds of each part of that, bytes
---a second while it was sent, the pauses of both hosts.
local function feed(cluster, leader, follower)
  local process = cluster.processes[follower]
  cluster:give(leader, { what = "pauses", seconds = 5 })
  cluster:give(follower, { what = "ready", restored = true })
  local from = core.now()
  process.handle:kill("sigcont")
  local dir, result = ("%s/%d"):format(cluster.dir, follower), ("%s/result.%d"):format(cluster.dir, follower)
  local seen = watch_arrival(dir, function() return uv.fs_stat(result) or process.code end)
  local ready, pause = cluster:result(follower), cluster:result(leader).pause
  local fed = { seconds = ready.restored - from, pause = pause, own_pause = ready.pause }
  if seen.first and seen.last > seen.first then
    fed.before, fed.sent = seen.first - from, seen.last - seen.first
    fed.loaded = ready.restored - seen.last
    fed.rate = (seen.size - seen.first_size) / fed.sent
  end
  return fed
end

---A million keys: the host's pause while a snapshot is taken, and how fast it is sent.
function bulk.snapshot(options)
  local figures = { keys = scaled(options, 1000000) }
  lab.with_cluster({ medium = options.media[1], machine = "map", node = { snapshot = NEVER } }, function(cluster)
    local leader, follower = cluster:leader(), cluster:follower()
    local other = 6 - leader - follower
    cluster:ask(leader, { what = "keys", count = figures.keys, batch = 500, bytes = 100 })
    local before = cluster:ask(other, { what = "status" })
    figures.taken = cluster:ask(leader, { what = "snapshot" })
    figures.elections = cluster:ask(other, { what = "status" }).term - before.term
    cluster:ask(follower, { what = "ready", index = figures.taken.index })
    cluster.processes[follower].handle:kill("sigstop")
    cluster:ask(leader, { what = "fill", bytes = 1024, window = 256, count = 60000 })   -- some segments of log
    cluster:ask(leader, { what = "snapshot" })
    figures.fed = feed(cluster, leader, follower)
  end)
  local ceiling = lab.build_c("ceiling", "")
  local text = lab.with_directory(options.media[1], function(dir)
    return (lab.capture { ceiling, "copy", dir, tostring(figures.taken.bytes) })
  end)
  figures.copy = tonumber(text:match("bytes_per_second=(%d+)"))
  local fed = figures.fed
  print(("\na snapshot of %d keys, %.0f MiB"):format(figures.keys, figures.taken.bytes / MIB))
  report.table({ "what", "measured" }, {
    { "taking it", report.seconds(figures.taken.seconds) },
    { "longest pause of the host meanwhile", report.seconds(figures.taken.pause) },
    { "longest pause just before", report.seconds(figures.taken.quiet) },
    { "elections meanwhile", figures.elections },
    { "a follower that was away has it and goes on, after", report.seconds(fed.seconds) },
    { "of that: until its first bytes", fed.rate and report.seconds(fed.before) or "-" },
    { "of that: sending", fed.rate and report.seconds(fed.sent) or "-" },
    { "of that: loading", fed.rate and report.seconds(fed.loaded) or "-" },
    { "it is sent at", fed.rate and ("%.0f MiB/s"):format(fed.rate / MIB) or "too short to see" },
    { "the same bytes over loopback into a durable file", ("%.0f MiB/s"):format(figures.copy / MIB) },
    { "share", fed.rate and ("%.2f"):format(fed.rate / figures.copy) or "-" },
    { "longest pause of the leader's host meanwhile", report.seconds(fed.pause) },
    { "longest pause of its own host meanwhile", report.seconds(fed.own_pause) },
  })
  return figures
end

---Takes files out of the kernel's memory; nil where that is not possible.
local function forget(paths)
  for _, path in ipairs(paths) do
    os.execute(("dd of='%s' oflag=nocache conv=notrunc,fdatasync count=0 status=none 2>/dev/null"):format(path))
  end
end

local function read_seconds(paths)
  local from = core.now()
  for _, path in ipairs(paths) do
    local file <close> = assert(io.open(path, "rb"))
    file:setvbuf("no")
    while file:read(MIB) do end
  end
  return core.now() - from
end

---A node that starts with a GiB of log, against reading the same files.
function bulk.restart(options)
  local figures = { runs = {} }
  lab.with_cluster({ medium = options.media[1], nodes = 1, node = { snapshot = NEVER } }, function(cluster)
    local count = scaled(options, 900000)
    cluster:ask(1, { what = "fill", bytes = 1024, window = 512, count = count })
    local last = cluster:ask(1, { what = "status" }).last
    local dir = cluster.dir .. "/1"
    for n, how in ipairs { "cold", "warm" } do
      cluster:stop(1)
      local paths, bytes = files(dir, "%.seg$"), 0
      for _, path in ipairs(paths) do bytes = bytes + uv.fs_stat(path).size end
      if how == "cold" then forget(paths) end
      local read = read_seconds(paths)
      if how == "cold" then forget(paths) end
      local from = core.now()
      cluster:start(1)
      local ready = cluster:ask(1, { what = "ready", index = last })
      figures.runs[n] = { how = how, bytes = bytes, entries = last, read = read, opened = ready.opened - from,
        applied = ready.at - from }
    end
  end)
  print("\na restart: cold, and with the files in the kernel's memory")
  local rows = {}
  for n, r in ipairs(figures.runs) do
    rows[n] = { r.how, ("%.0f MiB"):format(r.bytes / MIB), r.entries, report.seconds(r.read), report.seconds(r.opened),
      ("%.2f"):format(r.opened / r.read), report.seconds(r.applied), ("%.2f"):format(r.applied / r.read) }
  end
  report.table({ "", "log", "entries", "reading it", "recovered", "ratio", "all applied", "ratio" }, rows)
  return figures
end

---Fills logs of so many entries, one after the other, and looks at the memory at each.
local function grow_log(options, cache, lengths, payload)
  local steps = {}
  lab.with_cluster({ medium = options.media[1], node = { snapshot = NEVER, cache_bytes = cache } }, function(cluster)
    local leader, follower = cluster:leader(), cluster:follower()
    local written = 0
    for i, entries in ipairs(lengths) do
      local count = scaled(options, entries) - written
      if entries > 0 then
        cluster:ask(leader, { what = "fill", bytes = payload, window = 4096, count = count })
        written = written + count
      end
      lab.sleep(0.5)                   -- the follower has applied it, too
      local s, f = cluster:ask(leader, { what = "status" }), cluster:ask(follower, { what = "status" })
      steps[i] = { entries = written, leader = s.memory.anonymous, follower = f.memory.anonymous,
        leader_lua = s.memory.lua, follower_lua = f.memory.lua, log_bytes = s.log.bytes }
    end
  end)
  return steps
end

---Memory as the log grows; what a cached entry costs, by the difference that a larger cache makes.
function bulk.memory(options)
  local payload, cache = 16, 64 * MIB
  local figures = { cache_bytes = cache }
  local steps = grow_log(options, cache, { 0, 100000, 1000000, 3000000, 10000000 }, payload)
  local small = grow_log(options, cache // 4, { 1000000 }, payload)[1]
  local entry_bytes = ENTRY_HEADER + #raft.pack(("x"):rep(payload))
  local entries = (cache - cache // 4) * (1 - OTHER) / (entry_bytes + ENTRY_COST)
  figures.steps, figures.entry_bytes = steps, entry_bytes
  figures.overhead = (steps[3].follower - small.follower) / entries - entry_bytes
  figures.grown = steps[#steps].follower - steps[1].follower
  print(("\nmemory (not backed by files) with commands of %d bytes, cache_bytes = 64 MiB"):format(payload))
  local rows = {}
  for n, s in ipairs(steps) do
    rows[n] = { s.entries }
    for i, bytes in ipairs { s.log_bytes, s.leader, s.leader_lua, s.follower, s.follower_lua } do
      rows[n][i + 1] = ("%.1f MiB"):format(bytes / MIB)
    end
  end
  report.table({ "entries", "log", "leader", "of which Lua", "follower", "of which Lua" }, rows)
  print(("the follower has grown by %.1f MiB: %.2f of cache_bytes"):format(figures.grown / MIB, figures.grown / cache))
  print(("with cache_bytes = 16 MiB the follower has %.1f MiB at %d: so a cached entry of %d bytes takes %.0f more")
    :format(small.follower / MIB, small.entries, entry_bytes, figures.overhead))
  return figures
end

---A cluster that has nothing to do.
function bulk.rest(options)
  local probe = 'print(io.open("/proc/self/status"):read("a"):match("VmRSS:%s+(%d+)"))'
  local bare = tonumber((lab.capture { arg[-1] or "lua5.4", "-e", probe })) * 1024
  local figures = { lua = bare }
  lab.with_cluster({ medium = options.media[1] }, function(cluster)
    local leader, follower = cluster:leader(), cluster:follower()
    for name, id in pairs { leader = leader, follower = follower } do
      figures[name] = cluster:ask(id, { what = "rest", seconds = options.seconds,
        pids = { cluster.processes[id].pid } })
    end
  end)
  print("\na node at rest")
  local rows = {}
  for n, name in ipairs { "leader", "follower" } do
    local r = figures[name]
    rows[n] = { name, ("%.1f MiB"):format(r.memory.rss / MIB), ("%.1f MiB"):format((r.memory.rss - bare) / MIB),
      ("%.1f MiB"):format(r.memory.anonymous / MIB), ("%.2f %%"):format(r.cpu_share * 100) }
  end
  report.table({ "", "resident", "beyond a bare lua5.4", "of that not files", "of a core" }, rows)
  return figures
end

return bulk
