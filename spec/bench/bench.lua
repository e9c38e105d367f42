-- What a cluster of three processes on this machine does, driven from Lua, one command at a time from each coroutine:
--
--   lua5.4 spec/bench/bench.lua FILE [name=value ...]      (make bench, make bench ONLY='cells=propose window=256')
--
-- The figures are written to FILE as JSON, and printed as tables. Options:
--   cells=propose,reads  which parts: propose follower reads core hops failover snapshot restart memory rest (all)
--   window=1,256 bytes=128,1024    of `propose`; dir=disk,tmpfs: what is measured once, is on the first
--   seconds=3            of each measurement; runs=3: medians of so many clusters; kills=7: of leaders
--   against=DIR          another checkout, built: measured in turns with this one, with the ratios
--   scale=0.01           of the sizes of fills, keys and logs; for a quick look
local bulk = require "spec.bench.bulk"
local lab = require "spec.bench.lab"
local outages = require "spec.bench.outages"
local report = require "spec.bench.report"
local throughput = require "spec.bench.throughput"

local KNOWN = { cells = true, window = true, bytes = true, dir = true, seconds = true, runs = true, against = true,
  scale = true, kills = true }
local ORDER = { "propose", "follower", "reads", "core", "hops", "failover", "snapshot", "restart", "memory", "rest" }
local PARTS = {}
for _, module in ipairs { throughput, outages, bulk } do
  for name, part in pairs(module) do PARTS[name] = part end
end
local USAGE = "usage: lua5.4 spec/bench/bench.lua FILE [name=value ...]"

---"1,16" or 16 as a list.
local function list(value, convert)
  local result = {}
  for word in tostring(value):gmatch("[^,]+") do result[#result + 1] = convert(word) end
  return result
end

local function main(file, ...)
  assert(file, USAGE)
  local given = report.options({ ... }, KNOWN)
  local options = {
    windows = list(given.window or "1,16,64,256,4096", math.tointeger),
    sizes = list(given.bytes or "128,1024", math.tointeger),
    media = list(given.dir or "disk,tmpfs", tostring),
    seconds = given.seconds or 3, runs = given.runs or 3, scale = given.scale or 1, against = given.against,
    kills = given.kills or 7,
  }
  local figures = { machine = report.machine(), options = options }
  for _, name in ipairs(list(given.cells or table.concat(ORDER, ","), tostring)) do
    local part = assert(PARTS[name], ("unknown part %q"):format(name))
    figures[name] = part(options)
    report.write(file, figures)      -- what is known is not lost with what fails
  end
  print("\nThe figures are in " .. file .. ".")
end

local ok, err = xpcall(main, function(e) return type(e) == "string" and debug.traceback(e, 2) or e end, ...)
if not ok then io.stderr:write(tostring(err), "\n") end
lab.leave(ok)
