local core = require "raft.core"
local lab = require "spec.server.lab"
local wire = core.wire

local ALL = { 1, 2, 3 }
local STRIDE = ({ plain = 1, asan = 13, tsan = 97 })[os.getenv("RAFT_BUILD") or "plain"]

---One short life of a cluster, in which the n-th allocation fails. Returns how many there were.
local function live(n, options)
  local w, leader, follower, other = lab.cluster(options)
  local lives, current = {}, {} -- of nodes: who was told what, and what was asked of it
  local function begin(id)
    current[id] = { recorder = lab.recorder(w, id), calls = {} }
    lives[#lives + 1] = current[id]
  end
  local function propose(id, text)
    local sequence = w:propose(id, text, 3000)
    if sequence then current[id].calls[sequence] = text end
  end
  local function restart(id)
    current[id].recorder:poll()
    w:crash(id)
    begin(id)
    return w:start(id, options) or w:start(id, options)
  end
  for _, id in ipairs(ALL) do begin(id) end

  core.mem_fail_at(n)
  for i = 1, 3 do
    propose(leader, "l" .. i)
    propose(follower, "f" .. i)
    w:barrier(follower)
    w:run(0.02)
  end
  restart(other)
  w:run(0.3)
  propose(other, "o1")
  w:run(0.2)
  local asked = core.mem_asked()
  core.mem_fail_at(0)

  for _, id in ipairs(ALL) do
    local status = w:status(id)
    if status.fault then assert.matches("memory", status.fault) end
    if status.phase ~= "running" then restart(id) end
  end
  propose(lab.leader(w, ALL), "end")
  lab.wait(w, "the end", function()               -- of what was asked: what got lost is sent again after a while
    for _, id in ipairs(ALL) do
      if not lab.count(current[id].recorder:poll().applied)["end"] or w:pending(id) > 0 then return false end
    end
    return true
  end)
  w:run(0.2)
  for _, id in ipairs(ALL) do current[id].recorder:poll() end
  local applied = current[1].recorder.applied
  assert.same(applied, current[2].recorder.applied)
  assert.same(applied, current[3].recorder.applied)
  local counts = lab.count(applied)
  for text, times in pairs(counts) do assert.equal(1, times, text) end
  for _, life in ipairs(lives) do
    for sequence, text in pairs(life.calls) do
      local how = life.recorder:how(sequence)
      if how == "applied" then assert.equal(1, counts[text], text)
      elseif how and how ~= "unknown" and how ~= "timeout" then assert.is_nil(counts[text], text) end
    end
  end
  return asked
end

describe("a lack of memory at any moment", function()
  local options = { cache_bytes = 4096, segment_bytes = 65536 }

  it("leads to no wrong answer and no crash; who cannot go on says so", function()
    local n, asked = 1, live(0, options)
    assert.is_true(asked > 1000, asked)
    while n <= asked do
      live(n, options)
      n = n + STRIDE
    end
  end)

  it("lets a leader refuse what another member forwards, for now", function()
    local many = {}
    for i = 1, 100 do
      many[i] = wire.entry { type = 3, payload = "", session = 3, epoch = 1, sequence = i, behind = 0 }
    end
    local frame, busy, n, asked = wire.forward(many), 0, 1, 1
    while n <= asked do
      local w, _, _, out, back = lab.pair()
      core.mem_fail_at(n)
      out:send(frame)
      w:run(0.05)
      n, asked = n + 1, core.mem_asked()
      core.mem_fail_at(0)
      for _, answer in ipairs(back:poll().frames) do
        if answer.type == lab.frame_type.forward_reply then
          assert.equal(-4, (wire.forward_reply_read(answer)))
          busy = busy + 1
        end
      end
    end
    assert.is_true(busy > 0)
  end)
end)
