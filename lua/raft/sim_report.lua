-- What raft.sim says about a run that has failed: what, where, and how to see it again.
local core = require "raft.core"

local report = {}

local SHOWN = 400        -- characters of a value
local DIFFERENCES = 3    -- between two states
local CAUSES = "apply must depend on nothing but its arguments and the instance: "
  .. "not on the order of pairs, clocks, random numbers or addresses"
local UNREPEATABLE = "the same seed went another way when it was run again: "
  .. "the test itself depends on something that the seed does not decide"

-- ---- values as text ----

local RANK = { number = 1, string = 2, boolean = 3 }

local function key_before(a, b)
  local x, y = RANK[type(a)] or 4, RANK[type(b)] or 4
  if x ~= y then return x < y end
  if x == 3 then return not a and b end
  return a < b
end

local function sorted_keys(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys, key_before)
  return keys
end

local function literal(value)
  if type(value) == "string" then return (("%q"):format(value):gsub("\\\n", "\\n")) end
  if type(value) ~= "table" then return tostring(value) end
  local parts, n = {}, 0
  for _, key in ipairs(sorted_keys(value)) do
    local name = "[" .. literal(key) .. "] = "
    if key == n + 1 then
      n, name = key, ""
    elseif type(key) == "string" and key:find "^[%a_][%w_]*$" then
      name = key .. " = "
    end
    parts[#parts + 1] = name .. literal(value[key])
  end
  return #parts == 0 and "{}" or "{ " .. table.concat(parts, ", ") .. " }"
end

---A value as one would write it in Lua, cut if it is long.
---@param value any
---@return string
function report.show(value)
  local text = literal(value)
  return #text <= SHOWN and text or text:sub(1, SHOWN) .. " ..."
end

---What packed results were: as many values as there are.
local function results(bytes)
  local values = core.unpack(bytes)
  if values[2] == nil then return report.show(values[1]) end
  return report.show(values[1]) .. ", " .. report.show(values[2])
end

-- ---- two machines that part ----

local function place_of(path, key)
  if type(key) == "string" and key:find "^[%a_][%w_]*$" then return path .. "." .. key end
  return path .. "[" .. literal(key) .. "]"
end

---Where two states differ: { path, a, b } each.
local function differences(a, b, path, found)
  if type(a) ~= "table" or type(b) ~= "table" then
    if core.pack(a) ~= core.pack(b) then found[#found + 1] = { path, a, b } end
    return found
  end
  local keys = {}
  for key in pairs(a) do keys[key] = true end
  for key in pairs(b) do keys[key] = true end
  for _, key in ipairs(sorted_keys(keys)) do
    if #found == DIFFERENCES then break end
    differences(a[key], b[key], place_of(path, key), found)
  end
  return found
end

local function float_digits(value)
  return math.type(value) == "float" and ("%.17g"):format(value) or report.show(value)
end

local function hex(bytes)
  return (bytes:sub(1, 16):gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

---One line for each of the two: what its state was.
local function states(first, second)
  if first.value == "" and second.value == "" then
    return ("digest %016x"):format(first.hash), ("digest %016x"):format(second.hash)
  end
  local a, b = core.unpack(first.value), core.unpack(second.value)
  if type(a) ~= "table" or type(b) ~= "table" then
    return "digest " .. hex(first.value), "digest " .. hex(second.value)
  end
  local one, two = {}, {}
  for i, difference in ipairs(differences(a, b, "machine", {})) do
    one[i] = difference[1] .. " = " .. float_digits(difference[2])
    two[i] = difference[1] .. " = " .. float_digits(difference[3])
  end
  return table.concat(one, ", "), table.concat(two, ", ")
end

local function outcome(side)
  if side.raised then return "apply raised " .. side.value end
  return "apply returned " .. results(side.value)
end

local function name_of(side)
  return side.node > 0 and "node " .. side.node or "applied once more, in a fresh state"
end

local function divergence_text(failure)
  local d = failure.divergence
  local first, second = d[1], d[2]
  local one, two
  if d.digest then one, two = states(first, second) else one, two = outcome(first), outcome(second) end
  local command = report.show(core.unpack(failure.command.command))
  local lines = {
    ("the machine is not deterministic: index %d, command %s"):format(d.index, command),
    ("  %s: %s"):format(name_of(first), one),
    ("  %s: %s"):format(second.node == first.node and name_of(second) .. ", in another life" or name_of(second), two),
  }
  if failure.vague then
    lines[#lines + 1] = ("  (states were last seen equal after index %d)"):format(d.equal)
  end
  lines[#lines + 1] = CAUSES
  return table.concat(lines, "\n")
end

-- ---- the message ----

local function quote(word)
  if word:find "^[%w_./=:,@%%+-]+$" then return word end
  return "'" .. word:gsub("'", "'\\''") .. "'"
end

---The command line of this process.
local function command_line()
  local words, first = {}, 0
  if type(arg) ~= "table" or type(arg[0]) ~= "string" then return "(run the same again)" end
  while type(arg[first - 1]) == "string" do first = first - 1 end
  for i = first, #arg do words[#words + 1] = quote(tostring(arg[i])) end
  return table.concat(words, " ")
end

local function draw(o, seed, failure, text, replay)
  local diagram = require "raft.diagram"
  local ok, message = diagram.write(o.trace, { trace = failure.trace, failure = text, replay = replay,
    title = ("raft.sim, seed %d"):format(seed), at = failure.time,
    subtitle = ("%d nodes, %.3f simulated seconds"):format(o.nodes, failure.time) })
  return ok and "drawn in " .. o.trace or "not drawn: " .. tostring(message)
end

local function text_of(failure)
  local err = failure.error
  return failure.divergence and divergence_text(failure) or failure.text
    or type(err) == "table" and type(err.message) == "string" and err.message or tostring(err)
end

---Are two failures of one test the same one, but for when and where it came?
---@return boolean
function report.alike(a, b)
  if a.divergence or b.divergence then return a.divergence ~= nil and b.divergence ~= nil end
  local function kind(failure) return (text_of(failure):match "^[^\n]*":gsub("%d+", "#")) end
  return kind(a) == kind(b)
end

local function faults_text(faults)
  if #faults == 0 then return "it fails so without any faults, too" end
  return ('it fails so with faults = { "%s" }, too'):format(table.concat(faults, '", "'))
end

---What to raise for a failure of raft.sim: text, or the error object of a test library, with the same added to its
---message.
---@return any
function report.failure(o, seed, failure)
  local err = failure.error
  local text = text_of(failure)
  local replay = ("RAFT_SEED=%d %s"):format(seed, command_line())
  local lines = { "raft.sim: " .. text,
    ("seed %d, at %.3f simulated seconds, raft %s"):format(seed, failure.time, core.version) }
  if failure.fewer then lines[#lines + 1] = faults_text(failure.fewer) end
  if failure.unrepeatable then
    lines[#lines + 1] = UNREPEATABLE
  end
  if failure.trace then lines[#lines + 1] = draw(o, seed, failure, text, replay) end
  lines[#lines + 1] = "again: " .. replay
  local message = table.concat(lines, "\n")
  if type(err) ~= "table" or type(err.message) ~= "string" then return message end
  err.message = message
  return err
end

return report
