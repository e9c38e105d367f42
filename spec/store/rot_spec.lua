-- Every bit of a directory flipped, one at a time: in what a start reads, and under a log that is open. It is refused,
-- with the file and the place, or it was in no use; only in the batch that was written last, while nothing stands
-- behind it, damage cannot be told from the torn end of a write.
local core = require "raft.core"

local EVERY = (os.getenv("RAFT_BUILD") or "plain") ~= "plain" and 101 or 1

local function drain(log)
  while log:run(true, true) do end
end

-- A log with entries of several terms, votes, a truncation and peers.
local function written(sizes)
  local log = core.images { seed = 1, every = 0 }
  assert(log:open())
  log:remember(2, 1 << 40)
  log:remember(3, 77)
  drain(log)
  for i, size in ipairs(sizes) do
    log:append({ ("%d "):format(i):rep(size), "second", "" }, { term = i, vote = i % 3, entry_term = i })
    drain(log)
  end
  log:append({ "new" }, { truncate = log:status().last - 1, term = 100, vote = 3, entry_term = 100 })
  drain(log)
  return log
end

local function closed(log)
  log:close()
  drain(log)
  return log
end

describe("a flipped bit", function()
  local function report(what, counts)
    print(("%s: %d refused, %d without effect, %d cut off as a torn tail"):format(what, counts.refused, counts.same,
      counts.cut))
  end

  it("anywhere in a segment of 64 KiB is refused or has no effect, once the log was closed", function()
    local log = closed(written { 20, 300, 9, 1500, 77 })
    local counts = log:rot(EVERY, "1.seg")
    report("closed", counts)
    assert.equal(0, counts.cut)
    assert.is_true(counts.refused > 30000 // EVERY)
    assert.is_true(counts.refused + counts.same >= 524288 // EVERY)
  end)

  it("anywhere else in that directory is refused, or mended, or has no effect", function()
    local log = closed(written { 20, 300, 9, 1500, 77 })
    for _, file in ipairs { "identity", "peers" } do
      local counts = log:rot(1, file)
      report(file, counts)
      assert.is_true(counts.refused > 200)
      assert.same({ 0, 0 }, { counts.same, counts.cut })
    end
    local counts = log:rot(1, "epoch")  -- it is there twice
    report("epoch", counts)
    assert.same({ 0, 0 }, { counts.refused, counts.cut })
    counts = log:rot(13 * EVERY, "2.seg")  -- a spare: its header is there twice, and the rest is never read
    report("spare", counts)
    assert.same({ 0, 0 }, { counts.refused, counts.cut })
  end)

  it("is refused as well when the log went idle and then died", function()
    local log = written { 20, 5, 9 }
    log:tick(2)
    drain(log)
    log:crash()
    local counts = log:rot(EVERY * 7, "1.seg")
    report("idle", counts)
    assert.equal(0, counts.cut)
    assert.is_true(counts.refused > 500 // EVERY)
  end)

  it("in the last batch of a log that died without a seal cuts that batch, and nothing else", function()
    local log = written { 20, 5, 9 }
    log:crash()
    local counts = log:rot(EVERY * 3, "1.seg")
    report("not sealed", counts)
    assert.is_true(counts.cut > 0 and counts.refused > 500 // EVERY)
  end)

  it("in any of several segments is refused or has no effect", function()
    local log = closed(written { 9000, 20, 9000, 20, 9000 })
    local counts = log:rot(EVERY * 17, ".seg")
    report("several segments", counts)
    assert.equal(0, counts.cut)
    assert.is_true(counts.refused > 10000 // EVERY)
  end)

  it("under an open log is told by whoever reads, with the file and the place", function()
    local log = written { 20, 300, 9, 1500, 77 }
    local counts = log:rot(EVERY, "1.seg")
    report("while reading", counts)
    assert.is_true(counts.refused > 30000 // EVERY)
    assert.equal(0, counts.cut)
  end)
end)
