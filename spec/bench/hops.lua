-- From the notes of trace.c in three processes to the hops on the way of a single command: medians in microseconds.
local hops = {}

local function read_notes(path)
  local notes = {}
  for line in assert(io.lines(path)) do
    local ns, what, bytes = line:match("^(%d+) (%a) (%-?%d+)$")
    notes[#notes + 1] = { at = tonumber(ns), what = what, bytes = tonumber(bytes) }
  end
  table.sort(notes, function(a, b) return a.at < b.at end)
  return notes
end

---The place of the first note at or after a time.
local function place(notes, at)
  local low, high = 1, #notes + 1
  while low < high do
    local middle = (low + high) // 2
    if notes[middle].at < at then low = middle + 1 else high = middle end
  end
  return low
end

---The first note of a kind, with at least so many bytes, between two times.
local function first(notes, what, bytes, from, to)
  for i = place(notes, from), #notes do
    local note = notes[i]
    if note.at > to then return nil end
    if note.what == what and note.bytes >= bytes then return note.at end
  end
end

local function last(notes, what, from, to)
  local found
  for i = place(notes, from), #notes do
    if notes[i].at > to then break end
    if notes[i].what == what then found = notes[i].at end
  end
  return found
end

---A follower's part of one command: received, written, answered.
local function follower(notes, bytes, from, to)
  local received = first(notes, "r", bytes, from, to)
  local writing = received and first(notes, "D", bytes, received, to)
  local returned = writing and first(notes, "d", bytes, writing, to)
  local answered = returned and first(notes, "w", 32, returned, to)
  if not answered then return nil end
  return { received = received, writing = writing, returned = last(notes, "d", writing, answered),
    answered = answered }
end

local NAMES = { "host to engine, and to the wire", "wire to a follower", "follower's engine to its disk",
  "follower's durable write", "follower's disk to the wire", "wire back to the leader", "leader's engine to its host",
  "the whole way", "leader's own durable write" }

---dir: of the cluster; id: who led; bytes: of a command. A list of { name, microseconds }, and how many were traced.
function hops.analyse(dir, id, bytes)
  local leader, others, samples = read_notes(dir .. "/trace." .. id), {}, {}
  for i in ipairs(NAMES) do samples[i] = {} end
  for i = 1, 3 do
    if i ~= id then others[#others + 1] = read_notes(dir .. "/trace." .. i) end
  end
  for line in io.lines(dir .. "/calls." .. id) do
    local start, finish = line:match("(%d+) (%d+)")
    start, finish = tonumber(start), tonumber(finish)
    local sent, fastest = first(leader, "w", bytes, start, finish), nil
    for _, notes in ipairs(others) do
      local f = follower(notes, bytes, start, finish)
      if f and (not fastest or f.answered < fastest.answered) then fastest = f end
    end
    local heard = fastest and first(leader, "r", 32, fastest.answered, finish)
    local writing = first(leader, "D", bytes, start, finish)
    local written = writing and first(leader, "d", bytes, writing, finish)
    if sent and heard and written and fastest.received >= sent then
      local times = { sent - start, fastest.received - sent, fastest.writing - fastest.received,
        fastest.returned - fastest.writing, fastest.answered - fastest.returned, heard - fastest.answered,
        finish - heard, finish - start, written - writing }
      for i, ns in ipairs(times) do table.insert(samples[i], ns) end
    end
  end
  local list = {}
  for i, name in ipairs(NAMES) do
    table.sort(samples[i])
    list[i] = { name = name, us = (samples[i][#samples[i] // 2 + 1] or 0) / 1000 }
  end
  return list, #samples[1]
end

return hops
