-- The contract with storage: batches, late acknowledgements, truncation, restarts, and allocations that fail.
local core = require "raft.core"
local lab = require "spec.core.lab"

---A follower 1 of leader 2, whose disk waits for n:sync.
local function follower(options)
  options.id, options.voters, options.lag = 1, { 1, 2, 3 }, true
  local n = lab.node(options)
  n:ready()
  return n
end

local function append(n, term, index, log_term, terms, commit)
  return assert(n:step { type = "append", term = term, index = index, log_term = log_term,
    entries = lab.entries(terms), commit = commit or 0 })
end

---Index of the newest acknowledgement that is handed out now; nil: none is.
local function acknowledged(n)
  local index
  for out in n.ready, n do
    for _, m in ipairs(out.messages) do
      if m.type == "append_reply" and not m.reject then index = m.index end
    end
  end
  return index
end

describe("batches", function()
  it("are numbered from one, and only what is new makes one", function()
    local n = follower { term = 5 }
    append(n, 5, 0, 0, { 5 })
    assert.equal(1, n:ready().seq)
    append(n, 5, 1, 5, { 5 })
    local out = n:ready()
    assert.same({ 2, 2, 2, false }, { out.seq, out.first, out.last, out.vote_changed })
    assert(n:step { type = "heartbeat", term = 5, context = 1 })
    assert.equal(0, n:ready().seq)
    assert.is_nil(n:ready())
  end)

  it("hold term and vote when they changed, with the entries", function()
    local n = follower {}
    append(n, 5, 0, 0, { 5 })
    local out = n:ready()
    assert.same({ 1, true, 5, 0, 1, 1 }, { out.seq, out.vote_changed, out.term, out.vote, out.first, out.last })
  end)

  it("may be acknowledged late, and many at once", function()
    local n = follower { term = 5 }
    for i = 0, 4 do
      append(n, 5, i, i > 0 and 5 or 0, { 5 })
      assert.is_nil(acknowledged(n))
    end
    n:sync(2)
    assert.equal(2, acknowledged(n))
    n:sync(3)
    assert.equal(5, acknowledged(n))
  end)

  it("are acknowledged only once, and only those that were handed out", function()
    local n = follower { term = 5 }
    append(n, 5, 0, 0, { 5 })
    n:ready()
    assert.error_matches(function() n.core:persisted(2, n.clock.now) end, "not acknowledged yet")
    n:sync()
    assert.error_matches(function() n.core:persisted(1, n.clock.now) end, "not acknowledged yet")
  end)

  it("are bounded in bytes: of a large append, what is durable counts before all of it is", function()
    local n = follower { term = 5, append_bytes = 1000 }
    local entries = {}
    for i = 1, 10 do entries[i] = { term = 5, type = "command", size = 400 } end
    entries[11] = { term = 5, type = "command", size = 5000 } -- one that is larger than a batch makes one of its own
    assert(n:step { type = "append", term = 5, index = 0, log_term = 0, entries = entries, commit = 0 })
    local ends = {}
    for out in n.ready, n do ends[#ends + 1] = out.last end
    assert.same({ 2, 4, 6, 8, 10, 11 }, ends)
    n:sync(1)
    assert.equal(2, acknowledged(n))
    n:sync(4)
    assert.equal(10, acknowledged(n))
  end)

  it("hold what a leader sends: no entry leaves before it was handed out, the core's own behind a backlog neither",
    function()
      local n = lab.leader { voters = { 1, 2, 3 }, append_bytes = 1000, window_bytes = 100000 }
      n:flush()
      for id = 2, 3 do assert(n:step { type = "append_reply", from = id, term = 1, index = 1 }) end
      n:flush()
      assert(n.core:propose { 400, 400, 400, 400, 400 })
      assert(n.core:change({ { "demote", 3 } }, n.clock.now))
      local sent = {}
      for out in n.ready, n do
        for _, m in ipairs(out.messages) do
          if m.to == 2 and m.n_entries > 0 then sent[#sent + 1] = { m.index + m.n_entries, out.last } end
        end
      end
      assert.same({ { 3, 3 }, { 5, 5 }, { 7, 7 } }, sent)
    end)

  it("are acknowledged to the leader while newer ones keep coming", function()
    local n = follower { term = 5 }
    append(n, 5, 0, 0, { 5 })
    n:ready()
    for i = 1, 50 do
      append(n, 5, i, 5, { 5 })
      assert.is_nil(acknowledged(n))
      n:sync(1)
      assert.equal(i, acknowledged(n))
    end
  end)
end)

describe("acknowledgements", function()
  it("to a new leader start anew: those to the last one reached further", function()
    local n = follower { term = 5 }
    append(n, 5, 0, 0, { 5, 5, 5, 5, 5, 5 })
    n:ready()
    n:sync()
    assert.equal(6, acknowledged(n))
    append(n, 6, 2, 5, { 6 })
    n:ready()
    append(n, 6, 3, 6, { 6 })
    n:ready()
    n:sync(1)
    assert.equal(3, acknowledged(n))
  end)
end)

describe("a truncation", function()
  it("takes acknowledgements under way away from what it cut off", function()
    local n = follower { term = 5 }
    append(n, 5, 0, 0, { 5, 5, 5, 5 })
    n:ready()
    append(n, 6, 2, 5, { 6, 6 })
    n:ready()
    n:sync(1)  -- the disk has the old four; of the new log it holds two
    assert.equal(2, n:status().stable)
    n:sync(1)
    assert.equal(4, n:status().stable)
  end)

  it("and the same entries again: an old acknowledgement never covers a new entry (A-B-A)", function()
    local n = follower { term = 5 }
    append(n, 5, 0, 0, { 4, 5 })
    n:ready()                            -- batch 1: A
    append(n, 6, 1, 4, { 6 })
    n:ready()                            -- batch 2: B
    append(n, 7, 1, 4, { 5 })            -- a leader of term 7 that has the old entry
    n:ready()                            -- batch 3: A again
    n:sync(1)
    assert.equal(1, n:status().stable)   -- on disk is A, but B will void it
    n:sync(1)
    assert.equal(1, n:status().stable)
    assert.is_nil(acknowledged(n))       -- the term is not durable yet
    n:sync(1)
    assert.same({ 2, 2 }, { n:status().stable, acknowledged(n) })
  end)

  it("of what was never handed out concerns nobody", function()
    local n = follower { term = 5 }
    append(n, 5, 0, 0, { 5, 5, 5 })
    append(n, 6, 1, 5, { 6 })
    local out = n:ready()
    assert.same({ 0, 1, 2 }, { out.truncate_from, out.first, out.last })
  end)

  it("twice within one batch cuts at the lower of the two places", function()
    local n = follower { log = { 1, 1, 1, 1 }, term = 5 }
    append(n, 5, 2, 1, { 5, 5 })
    append(n, 6, 1, 1, { 6 })
    append(n, 7, 2, 6, { 7 })
    local out = n:ready()
    assert.same({ 2, 2, 3 }, { out.truncate_from, out.first, out.last })
    n:sync()
    assert.same({ { 1, 1 }, { 2, 6 }, { 3, 7 } }, lab.runs(n.disk.log))
  end)
end)

describe("committed entries", function()
  it("are handed out only when they are durable here", function()
    local n = follower { term = 5 }
    append(n, 5, 0, 0, { 5, 5 }, 2)
    assert.same({ 0, 2 }, { n:ready().commit, n:status().commit })
    n:sync()
    assert.equal(2, n:ready().commit)
  end)

  it("are handed out up to what is durable, no further", function()
    local n = follower { term = 5 }
    append(n, 5, 0, 0, { 5, 5 })
    n:ready()
    append(n, 5, 2, 5, { 5, 5 }, 4)
    n:ready()
    n:sync(1)
    assert.equal(2, n:ready().commit)
  end)

  it("are reported as applied, which never falls and never leads", function()
    local n = follower { term = 5 }
    append(n, 5, 0, 0, { 5, 5 }, 2)
    n:flush()
    n.core:applied(1)
    assert.equal(1, n:status().applied)
    assert.error_matches(function() n.core:applied(0) end, "never falls")
    assert.error_matches(function() n.core:applied(3) end, "never falls")
  end)
end)

describe("a restart", function()
  it("goes on from what was durable: term, vote and log", function()
    local n = follower { term = 5 }
    append(n, 5, 0, 0, { 4, 4, 5 })
    n:ready()
    n:sync()
    append(n, 5, 3, 5, { 5, 5 })
    n:ready()
    n:restart()
    local s = n:status()
    assert.same({ "follower", 5, 5, 3, 3, 0, 0 },
      { s.role, s.term, s.durable_term, s.last, s.stable, s.commit, s.leader })
    assert.same({ 4, 4, 5 }, n:terms())
  end)

  it("takes what was applied for committed, though no commit index was stored", function()
    local n = follower { log = { 1, 1, 1 }, applied = 2 }
    assert.same({ 2, 2 }, { n:status().commit, n:status().applied })
    assert.equal(2, n.core:ready(n.clock.now) and n:status().commit)
    assert.error_matches(function() n.core:applied(1) end, "never falls")
  end)

  it("hands out as committed at least what was applied, and nothing twice", function()
    local n = lab.node { id = 1, voters = { 1, 2, 3 }, log = { 1, 1, 1 }, applied = 2 }
    assert.equal(2, n:ready().commit)
    append(n, 1, 3, 1, {}, 3)
    assert.equal(3, n:ready().commit)
  end)

  it("in the middle of a leader's term is found out by its next heartbeat: what was lost is sent again", function()
    local c = lab.cluster { voters = { 1, 2, 3 } }
    c:elect(1)
    c:advance(lab.T)
    c.nodes[3].lag = true
    c:propose(1, 5)
    c:deliver()
    assert.equal(1, #c.nodes[3].disk.log)
    c:crash(3)
    c:restart(3)
    c.nodes[3].lag = false
    c:advance(3 * lab.HEARTBEAT)
    assert.equal(6, #c.nodes[3].disk.log)
    assert.equal(6, c.nodes[3].commit)
  end)
end)

describe("an allocation that fails", function()
  ---What can be seen of a core.
  local function view(n)
    local s = n:status()
    s.terms = table.concat(n:terms(), " ")
    s.deadline = n.core:deadline()
    return s
  end

  ---Makes calls on a node; a call that fails for lack of memory must have changed nothing, and is made again.
  local function caller(n, transcript)
    return function(method, ...)
      local before = view(n)
      local result, second, code = n.core[method](n.core, ...)
      if code == "memory" then
        transcript.failed = transcript.failed + 1
        if method ~= "ready" then assert.same(before, view(n)) end
        result, second = n.core[method](n.core, ...)
      end
      assert(result, second)
      return result, second
    end
  end

  ---A life that grows every array of the core: elections, many entries, many batches, many messages.
  local function live(transcript)
    local options = { id = 1, voters = { 1, 2, 3, 4, 5 }, append_bytes = 1, cache_bytes = 100 }
    local made, _, code = core.raft(options)
    if code == "memory" then
      transcript.failed = transcript.failed + 1
      made = core.raft(options)
    end
    local now = lab.S
    local n = { core = assert(made), status = lab.status, terms = lab.terms }
    local call = caller(n, transcript)
    local function take()
      local out = call("ready", now)
      for _, m in ipairs(out.messages) do
        transcript[#transcript + 1] = ("%s %d %d %d %d"):format(m.type, m.to, m.term, m.index, m.n_entries or 0)
      end
      transcript[#transcript + 1] = ("batch %d %d %d %d"):format(out.seq, out.first, out.last, out.commit)
      return out.seq
    end
    local function settle()
      while n.core:has_ready() do
        local seq = take()
        if seq > 0 then call("persisted", seq, now) end
      end
    end
    local function reply(type, from, more)
      more.type, more.from, more.to, more.term = type, from, 1, more.term or n:status().term
      call("step", more, now)
    end
    call("tick", lab.S * 3)
    for id = 2, 3 do reply("vote_reply", id, { term = 1, pre = true }) end
    call("persisted", take(), now)
    for id = 2, 3 do reply("vote_reply", id, {}) end
    local last = take()
    for id = 2, 5 do reply("append_reply", id, { index = 1 }) end
    for _ = 1, 12 do
      call("propose", 20)
      last = take()
    end
    call("persisted", last, now)
    for id = 2, 3 do reply("append_reply", id, { index = 200 }) end
    take()
    for i = 1, 10 do
      call("read", i, now)
      local index = call("change", { { i % 2 == 1 and "add" or "remove", 6 } }, now)
      settle()
      for id = 2, 3 do reply("append_reply", id, { index = index }) end
      settle()
    end
    call("change", { { "remove", 4 }, { "remove", 5 } }, now)  -- a joint configuration, and what comes after it
    settle()
    for id = 2, 3 do reply("append_reply", id, { index = n:status().last }) end
    settle()
    call("propose", 20)
    call("tick", lab.S * 3 + 1)
    local entries = {}
    for i = 1, 300 do entries[i] = { term = 3 + i // 100, size = 2 } end
    reply("append", 2, { term = 9, index = n:status().last - 20, log_term = 1, entries = entries })
    settle()
    reply("vote", 3, { term = 10, index = 999, log_term = 9 })
    call("campaign", now)
    take()
    local conf = { voters = { 1, 2, 3 }, learners = { 7, 8 } }
    call("step", { type = "snapshot", from = 2, to = 1, term = 11, index = 9999, log_term = 10, conf = conf }, now)
    entries = {}
    for i = 1, 40 do entries[i] = { term = 11, size = 0, type = "config", conf = conf } end
    reply("append", 2, { term = 11, index = 9999, log_term = 10, entries = entries })
    take()
    transcript[#transcript + 1] = table.concat(n:terms(), " ")
    return n
  end

  it("leaves the state as it was, wherever it fails, and the same call works later", function()
    local reference = { failed = 0 }
    core.mem_fail_at(0)
    live(reference)
    local asked = core.mem_asked()
    assert.truthy(asked >= 10, asked)
    assert.equal(0, reference.failed)
    local points = 0
    for k = 1, 10000 do
      local transcript = { failed = 0 }
      core.mem_fail_at(k)
      live(transcript)
      local done = core.mem_asked() < k
      core.mem_fail_at(0)
      if done then break end
      assert.equal(1, transcript.failed)
      transcript.failed = 0
      assert.same(reference, transcript)
      points = points + 1
    end
    assert.truthy(points >= asked)
  end)
end)
