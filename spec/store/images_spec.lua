-- What a crash may leave of a log: every image of many histories, recovered and checked against what was acknowledged.
-- An image is made of what was in flight: a write up to any byte or from any byte on, any of its sectors, any of the
-- changes of names that no sync has made durable. core.images (csrc/lua/lua_images.c) runs the loop.
local core = require "raft.core"

local SANITIZED = (os.getenv("RAFT_BUILD") or "plain") ~= "plain"
local EVERY = SANITIZED and 101 or 1          -- which images are looked at
local SECOND_EVERY = SANITIZED and 53 or 211  -- and which of those lead to a second crash

local total = { images = 0, recoveries = 0, torn = 0, created = 0, seconds = 0, doubles = 0, cached = 0 }

-- A small generator of our own, so that a seed means the same on every machine.
local function generator(seed)
  local state = seed * 2654435761 % 4294967296 + 1
  return function(below)
    state = state * 6364136223846793005 + 1442695040888963407
    return (state >> 33) % below
  end
end

-- What may happen in a history, each with its weight; a spec gives its own weights.
local acts = {}

function acts.append(h)
  local list = {}
  for i = 1, 1 + h.random(h.many or 3) do
    list[i] = ("entry %d,%d "):format(h.term, i):rep(1 + h.random(h.size or 12))
  end
  h.log:append(list, { entry_term = h.term })
end

function acts.vote(h)
  h.term = h.term + 1
  h.log:append({}, { term = h.term, vote = h.random(4) })
end

-- What a new leader brings: a vote, the end of a conflicting tail, entries in its place - all in one batch.
function acts.truncate(h)
  local status = h.log:status()
  if status.last <= status.released then return end
  h.term = h.term + 1
  local from = status.last - h.random(math.min(6, status.last - status.released))
  h.log:append(h.random(3) > 0 and { "in its place" } or {},
    { term = h.term, vote = h.random(4), truncate = from, entry_term = h.term })
end

-- Zeros for the most part: a cut between two of them is no image of its own.
function acts.large(h)
  h.log:append({ "large" .. ("\0"):rep(h.large or 6000) .. "end", "small" }, { entry_term = h.term })
end

-- Entries that are applied go; recycled or removed with their segment when it holds no other.
function acts.release(h)
  local durable = h.log:status().durable_last
  h.log:release(math.max(h.log:status().released, durable - math.min(durable, h.random(3))))
end

function acts.remember(h)
  local node = 1 + h.random(4)
  if h.asked[node] then return end
  h.asked[node] = true
  h.log:remember(node, 1 + h.random(1 << 30))
end

function acts.idle(h)
  while h.log:run(true, true) do end
  h.asked = {}
  h.log:tick(2)
end

-- The lanes do a job, or one of them waits.
function acts.run(h)
  h.log:run(h.random(4) > 0, h.random(3) > 0)
end

function acts.die(h)
  h.log:crash()
  h.asked = {}
  assert(h.log:open())
end

function acts.close(h)
  h.log:close()
  while h.log:run(true, true) do end
  h.asked = {}
  assert(h.log:open())
end

local function history(seed, length, weights, options)
  local h = { random = generator(seed), term = 1, asked = {} }
  for name, value in pairs(options or {}) do h[name] = value end
  h.log = core.images { seed = seed, every = EVERY, second_every = SECOND_EVERY, spares = 1 + seed % 2,
    segment_bytes = h.segment_bytes }
  local wheel = {}
  for name, weight in pairs(weights) do
    for _ = 1, weight do wheel[#wheel + 1] = name end
  end
  table.sort(wheel)
  assert(h.log:open())
  for i = 1, length do
    local ok, message = pcall(acts[wheel[1 + h.random(#wheel)]], h)
    if not ok then error(("seed %d, act %d: %s"):format(seed, i, message), 0) end
  end
  for name, count in pairs(h.log:counts()) do total[name] = total[name] + count end
end

describe("no crash loses what was acknowledged, brings back what is void, or stops the next start:", function()
  it("while entries and votes are appended", function()
    for seed = 1, 8 do history(seed, 250, { append = 4, vote = 2, run = 8, idle = 1 }) end
  end)

  it("while tails are truncated and written anew", function()
    for seed = 11, 18 do history(seed, 250, { append = 4, truncate = 3, vote = 1, run = 8 }) end
  end)

  it("while logs go idle, close, die and are opened again", function()
    for seed = 21, 28 do
      history(seed, 250, { append = 4, vote = 1, run = 6, idle = 2, close = 1, die = 2, release = 2 })
    end
  end)

  it("while segments turn over and are recycled, or removed", function()
    for seed = 31, 34 do
      history(seed, 250, { append = 2, large = 4, run = 8, release = 3, truncate = 1, die = 1, idle = 1 },
        { large = 15000 })
    end
  end)

  it("while entries are larger than segments", function()
    for seed = 41, 44 do
      history(seed, 60, { large = 1, append = 2, run = 6, release = 1, die = 1 }, { large = 66000 })
    end
  end)

  it("while peers are remembered", function()
    for seed = 51, 54 do history(seed, 250, { remember = 4, append = 1, run = 6, die = 1 }) end
  end)

  it("while all of it happens at once", function()
    for seed = 61, 72 do
      history(seed, 150, { append = 6, vote = 2, truncate = 2, large = 1, release = 2, remember = 1, idle = 2, run = 12,
        die = 1, close = 1 })
    end
  end)

  it("in more than a million images", function()
    print(("%d images, %d recoveries, %d with a torn tail, %d of a directory in the making, %d second lives, %d double "
      .. "crashes, %d of a lost page cache"):format(total.images, total.recoveries, total.torn, total.created,
      total.seconds, total.doubles, total.cached))
    assert.is_true(total.images > 1000000)
    assert.is_true(total.recoveries >= 1000000 // EVERY)
    assert.is_true(total.torn > 0 and total.created > 0 and total.seconds > 0 and total.doubles > 0
      and total.cached > 0)
  end)
end)
