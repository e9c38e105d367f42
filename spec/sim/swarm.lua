-- What a seed runs. Most are clusters of three or five, for a minute or two; a few are of other sizes, and a few are
-- long; in every third one programs outside have sessions. The number of a seed is all that decides, so that any of
-- them can be run again alone.
local core = require "raft.core"

local swarm = {}

local NODES = { { 62, 3 }, { 87, 5 }, { 91, 1 }, { 94, 2 }, { 97, 4 }, { 100, 7 } } -- up to this percentage: nodes

-- Which draw says that a seed has visitors: the first one that says it of no seed that found a bug before there were
-- any (seeds.lua), so that those are the runs that they were.
local VISITED = 1589

---A number from 0 to below, by the seed and which of its draws it is.
local function draw(seed, which, below)
  local x = (seed * 0x9E3779B97F4A7C15) ~ (which * 0xBF58476D1CE4E5B9)
  x = (x ~ (x >> 31)) * 0x94D049BB133111EB
  return ((x ~ (x >> 29)) >> 1) % below
end

---The options of core.sim for a seed.
function swarm.options(seed)
  local percent, nodes = draw(seed, 1, 100), nil
  for _, row in ipairs(NODES) do
    nodes = nodes or percent < row[1] and row[2]
  end
  local visitors = draw(seed, VISITED, 3) == 0 and 1 + draw(seed, 4, 8) or nil
  return { seed = seed, nodes = nodes, seconds = 60 + draw(seed, 2, 61), clients = 1 + draw(seed, 3, 5),
    visitors = visitors }
end

local SUMS = { "simulated", "events", "commands", "elections", "crashes", "changes", "restores", "repeats", "ended" }

---Adds the figures of a report, or of other sums, to sums.
function swarm.add(sums, report)
  for _, name in ipairs(SUMS) do sums[name] = (sums[name] or 0) + report[name] end
  sums.seeds = (sums.seeds or 0) + (report.seeds or 1)
end

local function is_known(seed, options)
  for name, value in pairs(swarm.options(seed)) do
    if options[name] ~= value then return false end
  end
  return options.faults == nil and options.visitors == swarm.options(seed).visitors
end

---The one line that runs this again.
function swarm.replay(options)
  local line = ("make sim FROM=%d SEEDS=1"):format(options.seed)
  if is_known(options.seed, options) then return line end
  local with = {}
  for _, name in ipairs { "nodes", "seconds", "clients", "visitors" } do
    with[#with + 1] = name .. "=" .. (options[name] or 0)
  end
  if options.faults ~= nil then
    local names = type(options.faults) == "table" and table.concat(options.faults, ",") or "none"
    with[#with + 1] = "faults=" .. (names ~= "" and names or "none")
  end
  return ("%s WITH='%s'"):format(line, table.concat(with, " "))
end

---What is written after WITH=, as changes of options.
function swarm.with(options, words)
  for name, value in words:gmatch "(%w+)=(%S+)" do
    if name ~= "faults" then
      options[name] = assert(math.tointeger(tonumber(value)), name .. ": an integer expected")
    elseif value == "none" then
      options.faults = false
    elseif value ~= "all" then
      options.faults = {}
      for kind in value:gmatch "[^,]+" do table.insert(options.faults, kind) end
    end
  end
  return options
end

---Tells whoever runs the spec files what there was.
local function tell(sums)
  local path = os.getenv "RAFT_FIGURES"
  if not path then return end
  local file <close> = assert(io.open(path, "w"))
  file:write(("%d seeds, %.1f simulated hours, %d events, %d commands, %d elections, %d crashes, %d changes of members")
    :format(sums.seeds, sums.simulated / 3600, sums.events, sums.commands, sums.elections, sums.crashes, sums.changes))
end

---Describes the seeds of one spec file: part 1 .. parts of all. describe, it: busted's, which a module does not see.
function swarm.describe(describe, it, part, parts)
  local build = os.getenv "RAFT_BUILD" or "plain"
  if build == "tsan" then return end -- one thread, of which ThreadSanitizer has nothing to say
  local seeds = (build == "plain" and 2000 or 200) // parts
  local first = (part - 1) * seeds + 1
  describe("a swarm of simulated clusters", function()
    it(("keeps its promises in seeds %d to %d"):format(first, first + seeds - 1), function()
      local sums = {}
      for seed = first, first + seeds - 1 do
        local options = swarm.options(seed)
        local report = core.sim(options)
        assert(report.ok, ("%s\nreplay: %s"):format(report.failure or "", swarm.replay(options)))
        swarm.add(sums, report)
      end
      tell(sums)
      -- Two thousand seeds are fifty hours, and there must be something in them.
      assert(sums.simulated >= seeds * 85, sums.simulated)
      assert(sums.crashes > 2 * seeds, sums.crashes)
      assert(sums.elections > 4 * seeds, sums.elections)
      assert(sums.commands > 200 * seeds, sums.commands)
      assert(sums.changes > 2 * seeds, sums.changes)
      assert(sums.restores > seeds, sums.restores)
      assert(sums.repeats > 10 * seeds and sums.ended > 2 * seeds, sums.repeats)
    end)
  end)
end

return swarm
