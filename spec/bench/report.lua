-- What the benchmarks have in common when they tell what they saw: medians, readable tables, JSON.
local uv = require "luv"

local report = {}

---The median and the extremes of a list of numbers: { median, least, most }.
function report.spread(list)
  local sorted = table.move(list, 1, #list, 1, {})
  table.sort(sorted)
  local n = #sorted
  local middle = (sorted[(n + 1) // 2] + sorted[n // 2 + 1]) / 2
  return { median = middle, least = sorted[1], most = sorted[n] }
end

function report.median(list) return report.spread(list).median end

---The medians of equal fields of several runs: { field = median }; fields that are no numbers are taken from the first.
function report.medians(runs)
  local result = {}
  for field, value in pairs(runs[1]) do
    if type(value) == "number" then
      local list = {}
      for i, run in ipairs(runs) do list[i] = run[field] end
      local median = #list == #runs and report.median(list) or nil
      result[field] = math.tointeger(median) or median
    else
      result[field] = value
    end
  end
  return result
end

---For people: 512, 42.1 k, 1.25 M.
function report.number(n)
  if n ~= n or n == math.huge then return "-" end
  if n >= 999500 then return ("%.2f M"):format(n / 1e6) end
  if n >= 9995 then return ("%.1f k"):format(n / 1e3) end
  if n >= 10 or n == n // 1 then return ("%.0f"):format(n) end
  return ("%.2f"):format(n)
end

function report.bytes(n)
  if n >= 1 << 20 then return ("%g MiB"):format(n / (1 << 20)) end
  if n >= 1 << 10 then return ("%g KiB"):format(n / (1 << 10)) end
  return ("%g B"):format(n)
end

---Seconds, for people.
function report.seconds(s)
  if s >= 1 then return ("%.2f s"):format(s) end
  if s >= 1e-3 then return ("%.1f ms"):format(s * 1e3) end
  return ("%.0f us"):format(s * 1e6)
end

---Prints rows of strings under a head, each column as wide as it must be; the first one to the left.
function report.table(head, rows)
  local width = {}
  for i, name in ipairs(head) do width[i] = #name end
  for _, row in ipairs(rows) do
    for i in ipairs(head) do width[i] = math.max(width[i], #tostring(row[i])) end
  end
  local function line(row)
    local cells = {}
    for i in ipairs(head) do
      local text = tostring(row[i])
      local gap = (" "):rep(width[i] - #text)
      cells[i] = i == 1 and text .. gap or gap .. text
    end
    print(table.concat(cells, "  "))
  end
  line(head)
  for _, row in ipairs(rows) do line(row) end
  io.stdout:flush()
end

local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r" }

---A value as JSON: tables with a first element, and empty ones, are lists; keys are sorted. Numbers that JSON does not
---know are null.
function report.json(value, indent)
  indent = indent or ""
  local kind = type(value)
  if kind == "string" then return '"' .. value:gsub('[%c"\\]', function(c)
    return ESCAPES[c] or ("\\u%04x"):format(c:byte())
  end) .. '"' end
  if kind == "number" then
    if math.type(value) == "integer" then return tostring(value) end
    if value ~= value or value == math.huge or value == -math.huge then return "null" end
    return (("%.6g"):format(value))
  end
  if kind ~= "table" then return tostring(value) end
  local parts, deeper = {}, indent .. " "
  if value[1] ~= nil or next(value) == nil then
    for i, element in ipairs(value) do parts[i] = report.json(element, deeper) end
    local separator = type(value[1]) == "table" and ",\n" .. deeper or ", "
    return "[" .. table.concat(parts, separator) .. "]"
  end
  local keys = {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys)
  for i, key in ipairs(keys) do parts[i] = ('"%s": %s'):format(key, report.json(value[key], deeper)) end
  return "{" .. table.concat(parts, ", ") .. "}"
end

local function capture(command)
  local pipe <close> = assert(io.popen(command))
  return (pipe:read("a"):gsub("%s+$", ""))
end

---Where and when it was measured.
function report.machine()
  local cpus = uv.cpu_info()
  return { date = os.date("!%Y-%m-%dT%H:%M:%SZ"), kernel = uv.os_uname().release, cores = #cpus, cpu = cpus[1].model,
    revision = capture("git describe --always --dirty 2>/dev/null"), load = uv.loadavg() }
end

---Writes a table of figures to a file as JSON.
function report.write(path, figures)
  local file <close> = assert(io.open(path, "w"))
  file:write(report.json(figures), "\n")
end

---Arguments of the form name=value into a table; numbers are made numbers. Others are an error.
function report.options(words, known)
  local given = {}
  for _, word in ipairs(words) do
    local name, value = word:match("^(%w+)=(.*)$")
    if not name or known[name] == nil then error(("unknown option %q"):format(word), 0) end
    given[name] = tonumber(value) or value
  end
  return given
end

return report
