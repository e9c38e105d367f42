-- Checks what raft.node is given: every mistake raises, naming the option and what to do.

local options = {}

local function fail(format, ...)
  error("raft.node: " .. format:format(...), 0)
end

local function shown(value)
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) == "number" then return tostring(value) end
  return type(value)
end

local function is_integer(low, high)
  return function(value) return math.type(value) == "integer" and value >= low and value <= high end
end

local function is_seconds(value)
  return type(value) == "number" and value > 0 and value < math.huge
end

local function is_address(value)
  if type(value) ~= "string" then return false end
  local port = value:match("^%[[%x:.]+%]:(%d+)$") or value:match("^[^%s:%[%]]+:(%d+)$")
  port = tonumber(port)
  return port ~= nil and port >= 1 and port <= 65535
end

local function is_text(value)
  return type(value) == "string" and value ~= "" and not value:find("\0", 1, true)
end

local LEVELS = { debug = true, info = true, warn = true, error = true }

-- name = { test, what it must be, default }
local KNOWN = {
  id = { is_integer(1, math.maxinteger), "an integer above 0" },
  dir = { is_text, "a directory's path" },
  machine = { function(v) return type(v) == "table" or type(v) == "function" or type(v) == "string" end,
    "a table with apply, a function returning one, or a module's name" },
  cluster = { function(v) return type(v) == "table" end, 'a table { [id] = "host:port" }' },
  join = { function(v) return type(v) == "table" end, 'a list of members\' addresses, { "host:port" }' },
  voter = { function(v) return type(v) == "boolean" end, "true or false" },
  listen = { is_address, '"host:port"' },
  name = { function(v) return is_text(v) and #v <= 64 and not v:find("%s") end,
    "1 to 64 characters without spaces", "raft" },
  timeout = { is_seconds, "seconds above 0", 5 },
  election_timeout = { is_seconds, "seconds above 0", 1 },
  heartbeat = { is_seconds, "seconds above 0", 0.1 },
  host_timeout = { is_seconds, "seconds above 0", 10 },
  lease = { function(v) return type(v) == "boolean" end, "true or false", false },
  priority = { is_integer(-1000, 1000), "an integer from -1000 to 1000", 0 },
  pending = { is_integer(1, 65536), "an integer from 1 to 65536", 16384 },
  pending_bytes = { is_integer(1, math.maxinteger), "bytes above 0", 64 << 20 },
  command_bytes = { is_integer(1, 16 << 20), "bytes from 1 to 16 MiB", 1 << 20 },
  cache_bytes = { is_integer(0, 0xffffffff), "bytes below 4 GiB", 64 << 20 },
  snapshot = { function(v) return type(v) == "table" end, "a table { bytes, entries, keep, background }" },
  on_apply_error = { function(v) return v == "continue" or v == "halt" end, '"continue" or "halt"', "continue" },
  repair = { function(v) return v == "rejoin" end, '"rejoin", or nil' },
  log = { function(v) return v == false or type(v) == "function" or LEVELS[v] end,
    '"debug", "info", "warn", "error", a function (level, text, fields), or false', "info" },
}

---How many characters must be changed, added, removed or exchanged with their neighbour (optimal string alignment).
local function distance(a, b)
  local before, row = {}, {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local older
    older, before, row = before, row, { [0] = i }
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      row[j] = math.min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (same and 0 or 1))
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        row[j] = math.min(row[j], older[j - 2] + 1)
      end
    end
  end
  return row[#b]
end

---" (did you mean x?)" for the nearest of the names, if one is near; else "".
---@param name string
---@param names table<string, any>
function options.suggest(name, names)
  local best, best_distance
  for candidate in pairs(names) do
    local d = distance(name, candidate)
    if d <= 2 and d < #candidate and (not best or d < best_distance or d == best_distance and candidate < best) then
      best, best_distance = candidate, d
    end
  end
  return best and (" (did you mean %s?)"):format(best) or ""
end

---The members of a cluster table, sorted by id.
local function read_cluster(cluster)
  local members = {}
  for id, address in pairs(cluster) do
    if not KNOWN.id[1](id) then fail("cluster: ids are integers above 0, got %s", shown(id)) end
    if not is_address(address) then fail('cluster[%d] must be "host:port", got %s', id, shown(address)) end
    members[#members + 1] = { id = id, address = address }
  end
  if #members == 0 then fail("cluster is empty") end
  if #members > 15 then fail("cluster has %d members, at most 15 are possible", #members) end
  table.sort(members, function(a, b) return a.id < b.id end)
  return members
end

---One that was added later is not among the first members.
local function check_id_listed(id, members, listen)
  local ids = {}
  for i, member in ipairs(members) do
    if member.id == id then return end
    ids[i] = tostring(member.id)
  end
  if not listen then
    fail("id %d is not in cluster (%s): a node that was added later needs listen too", id, table.concat(ids, ", "))
  end
end

---The addresses to ask for a place.
local function read_join(o)
  if not o.join then
    if o.voter ~= nil then fail("voter is for a node that joins: see join") end
    return
  end
  for _, name in ipairs { "cluster", "id" } do
    if o[name] then fail("%s cannot be given with join: the leader tells it", name) end
  end
  if not o.listen then fail("listen is missing: with join, the address at which the others reach this node") end
  if #o.join == 0 or #o.join > 15 then fail("join must have 1 to 15 addresses, got %d", #o.join) end
  for i, address in ipairs(o.join) do
    if not is_address(address) then fail('join[%d] must be "host:port", got %s', i, shown(address)) end
  end
end

local function check_addresses_differ(members)
  local seen = {}
  for _, member in ipairs(members) do
    local other = seen[member.address]
    if other then fail("cluster[%d] and cluster[%d] have the same address, %s", other, member.id, member.address) end
    seen[member.address] = member.id
  end
end

local function check_times(o)
  for _, name in ipairs { "election_timeout", "heartbeat", "timeout" } do
    local limit = name == "timeout" and math.huge or 60
    if o[name] > limit then
      fail("%s is in seconds: %s is more than %d (milliseconds?)", name, tostring(o[name]), limit)
    end
  end
  if o.heartbeat >= o.election_timeout / 2 then
    fail("heartbeat (%s) must be less than half of election_timeout (%s)", tostring(o.heartbeat),
      tostring(o.election_timeout))
  end
end

local SNAPSHOT = {
  bytes = { is_integer(0, math.maxinteger), "bytes, or 0 for no such limit", 64 << 20 },
  entries = { is_integer(0, math.maxinteger), "a number of entries, or 0 for no such limit", 100000 },
  keep = { is_integer(0, math.maxinteger), "a number of entries", 10000 },
  background = { function(v) return type(v) == "boolean" end, "true or false", true },
}

---When snapshots are taken, with defaults.
local function read_snapshot(given)
  local snapshot = {}
  for name, value in pairs(given or {}) do
    local known = SNAPSHOT[name]
    if not known then
      fail("unknown option snapshot.%s%s", tostring(name), options.suggest(tostring(name), SNAPSHOT))
    end
    if not known[1](value) then fail("snapshot.%s must be %s, got %s", name, known[2], shown(value)) end
    snapshot[name] = value
  end
  for name, known in pairs(SNAPSHOT) do
    if snapshot[name] == nil then snapshot[name] = known[3] end
  end
  return snapshot
end

---A checked copy with defaults; `members` in place of `cluster`.
---@param given raft.node_options
---@return table
function options.read(given)
  if type(given) ~= "table" then fail("a table of options expected, got %s", shown(given)) end
  local o = {}
  for name, value in pairs(given) do
    local known = KNOWN[name]
    if not known then
      fail("unknown option %s%s", type(name) == "string" and name or shown(name),
        type(name) == "string" and options.suggest(name, KNOWN) or "")
    end
    if not known[1](value) then fail("%s must be %s, got %s", name, known[2], shown(value)) end
    o[name] = value
  end
  for name, known in pairs(KNOWN) do
    if o[name] == nil then o[name] = known[3] end
  end
  if not o.dir then fail("dir is missing: the directory that holds this node's log") end
  if not o.machine then fail("machine is missing: %s", KNOWN.machine[2]) end
  check_times(o)
  o.snapshot = read_snapshot(o.snapshot)
  o.members = o.cluster and read_cluster(o.cluster) or {}
  if o.cluster and o.id then check_id_listed(o.id, o.members, o.listen) end
  read_join(o)
  check_addresses_differ(o.members)
  return o
end

options.is_address = is_address
options.is_id = KNOWN.id[1]

local TIMEOUT = { is_seconds, "seconds above 0" }

-- What calls take besides.
options.ADD = { voter = { function(v) return type(v) == "boolean" end, "true or false" } }
options.READ = {
  lease = { function(v) return type(v) == "boolean" end, "true or false" },
  stale = { function(v) return v == true or v == false or is_seconds(v) end, "true or seconds above 0" },
}

---Takes (opts, callback) of a waiting call apart.
---@param name string of the call
---@param opts raft.call_options|function|nil
---@param callback function?
---@param more? table<string, table> what this call knows besides timeout
---@param level? integer of the error: whose line is named
---@return number? timeout
---@return function? callback
---@return table? opts
function options.call(name, opts, callback, more, level)
  if type(opts) == "function" and callback == nil then opts, callback = nil, opts end
  if callback ~= nil and type(callback) ~= "function" then
    error(("%s: callback must be a function, got %s"):format(name, shown(callback)), level or 3)
  end
  if opts == nil then return nil, callback end
  if type(opts) ~= "table" then
    error(("%s: options must be a table, got %s"):format(name, shown(opts)), level or 3)
  end
  for key, value in pairs(opts) do
    local known = key == "timeout" and TIMEOUT or more and more[key]
    if not known then error(("%s: unknown option %s"):format(name, tostring(key)), level or 3) end
    if not known[1](value) then
      error(("%s: %s must be %s, got %s"):format(name, key, known[2], shown(value)), level or 3)
    end
  end
  return opts.timeout, callback, opts
end

return options
