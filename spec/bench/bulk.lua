-- Much of something: a million keys in a snapshot, a GiB of log at a restart, ten million entries; and nothing at all,
-- a node at rest. Each is a function (options) that prints a table and returns its figures.
local core = require "raft.core"
local lab = require "spec.bench.lab"
local report = require "spec.bench.report"
local uv = require "luv"

local MIB = 1 << 20
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

---How fast the file grows that a member receives a snapshot into: bytes a second, between its first and last look.
local function growth(dir, over)
  local first, last
  while not over() do
    local now, path = core.now(), files(dir, "^snapshot%-.*%.tmp$")[1]
    local stat = path and uv.fs_stat(path)
    if stat and stat.size > 0 then
      first = first or { at = now, size = stat.size }
      if not last or stat.size > last.size then last = { at = now, size = stat.size } end
    end
    lab.sleep(0.002)
  end
  return first and last.at > first.at and (last.size - first.size) / (last.at - first.at)
end

---A member that was away gets the leader's snapshot: seconds, bytes a second while it was sent, the leader's pause.
local function feed(cluster, leader, follower, bytes)
  cluster:give(leader, { what = "pauses", seconds = 5 })
  cluster:start(follower)
  local process = cluster.processes[follower]
  cluster:give(follower, { what = "ready", restored = true })
  local dir = ("%s/%d"):format(cluster.dir, follower)
  local result_path = ("%s/result.%d"):format(cluster.dir, follower)
  local rate = growth(dir, function() return uv.fs_stat(result_path) or process.code end)
  local ready = cluster:result(follower)
  return { rate = rate, seconds = ready.restored - ready.opened, bytes = bytes, pause = cluster:result(leader).pause,
    silence = nil }
end

---A million keys: the host's pause while a snapshot is taken, and how fast it is sent.
function bulk.snapshot(options)
  local figures = { keys = scaled(options, 1000000) }
  lab.with_cluster({ medium = options.media[1], machine = "map", node = { snapshot = NEVER } }, function(cluster)
    local leader, follower = cluster:leader(), cluster:follower()
    local other = 6 - leader - follower
    cluster:ask(leader, { what = "keys", count = figures.keys, batch = 500, bytes = 100 })
    local before = cluster:ask(other, { what = "status" })
    cluster:give(other, { what = "pauses", seconds = 5 })
    figures.taken = cluster:ask(leader, { what = "snapshot" })
    figures.silence = cluster:result(other).silence
    figures.elections = cluster:ask(other, { what = "status" }).term - before.term
    cluster:stop(follower)
    cluster:ask(leader, { what = "fill", bytes = 1024, window = 256, count = 60000 })   -- some segments of log
    cluster:ask(leader, { what = "snapshot" })
    figures.fed = feed(cluster, leader, follower, figures.taken.bytes)
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
    { "longest silence of the leader, at a follower", report.seconds(figures.silence) },
    { "elections meanwhile", figures.elections },
    { "a follower gets it and has loaded it", report.seconds(fed.seconds) },
    { "as it is sent", fed.rate and ("%.0f MiB/s"):format(fed.rate / MIB) or "too short to see" },
    { "the same bytes over loopback into a durable file", ("%.0f MiB/s"):format(figures.copy / MIB) },
    { "share", fed.rate and ("%.2f"):format(fed.rate / figures.copy) or "-" },
    { "longest pause of the leader's host meanwhile", report.seconds(fed.pause) },
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

---Memory as the log grows.
function bulk.memory(options)
  local figures, payload, cache = { steps = {}, cache_bytes = 64 * MIB }, 16, 64 * MIB
  lab.with_cluster({ medium = options.media[1], node = { snapshot = NEVER, cache_bytes = cache } }, function(cluster)
    local leader, follower = cluster:leader(), cluster:follower()
    local function step(entries)
      local s, f = cluster:ask(leader, { what = "status" }), cluster:ask(follower, { what = "status" })
      figures.steps[#figures.steps + 1] = { entries = entries, leader = s.memory.anonymous,
        follower = f.memory.anonymous, log_bytes = s.log.bytes }
    end
    step(0)
    local written = 0
    for _, entries in ipairs { 100000, 1000000, 3000000, 10000000 } do
      local count = scaled(options, entries) - written
      cluster:ask(leader, { what = "fill", bytes = payload, window = 4096, count = count })
      written = written + count
      step(written)
    end
  end)
  local steps = figures.steps
  local last, first = steps[#steps], steps[1]
  local entry_bytes = last.log_bytes / last.entries
  figures.entry_bytes = entry_bytes
  local cached = math.min(cache / entry_bytes, last.entries)
  figures.overhead = (last.follower - first.follower - cached * entry_bytes) / cached
  print(("\nmemory (not backed by files) with commands of %d bytes, cache_bytes = 64 MiB"):format(payload))
  local rows = {}
  for n, s in ipairs(steps) do
    rows[n] = { s.entries, ("%.0f MiB"):format(s.log_bytes / MIB), ("%.1f MiB"):format(s.leader / MIB),
      ("%.1f MiB"):format(s.follower / MIB) }
  end
  report.table({ "entries", "log", "leader", "follower" }, rows)
  print(("overhead of a cached entry, on the follower, of all that grew: %.0f bytes"):format(figures.overhead))
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
