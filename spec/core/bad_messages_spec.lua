-- Messages that make no sense: whatever a peer sends, the core refuses it and goes on, or stops with a fault; it never
-- ends the process.
local lab = require "spec.core.lab"

local HUGE = { math.maxinteger, math.mininteger, -1 }  -- as unsigned: 2^63 - 1, 2^63, 2^64 - 1

---All that can be seen of a core.
local function view(n)
  local s = n:status()
  s.terms, s.deadline, s.ready = table.concat(n:terms(), " "), n.core:deadline(), n.core:has_ready()
  s.peers = { n.core:peer(2), n.core:peer(3) }
  return s
end

---Nodes in each role, in term 5 with a log of three entries, of which one is committed.
local function nodes()
  local follower = lab.node { id = 1, voters = { 1, 2, 3 }, log = { 1, 1, 4 }, term = 5, applied = 1 }
  follower:flush()
  local candidate = lab.node { id = 1, voters = { 1, 2, 3 }, log = { 1, 1, 4 }, term = 4, applied = 1 }
  candidate.core:campaign(candidate.clock.now)
  candidate:step { type = "vote_reply", from = 3, term = 5, pre = true }
  candidate:flush()
  local leader = lab.leader { log = { 1, 1 }, term = 4, applied = 1 }
  leader:flush()
  return { follower = follower, candidate = candidate, leader = leader }
end

---A good message of each type, in term 5.
local function good(type)
  local m = { type = type, from = 2, to = 1, term = 5 }
  if type == "append" then m.index, m.log_term, m.entries = 1, 1, { { term = 1, size = 1, type = "command" } } end
  if type == "vote" then m.index, m.log_term = 3, 4 end
  if type == "snapshot" then m.index, m.log_term, m.conf = 3, 4, { voters = { 1, 2, 3 } } end
  return m
end

local TYPES = { "append", "append_reply", "heartbeat", "heartbeat_reply", "vote", "vote_reply", "timeout_now",
  "snapshot" }

local function is_refused(n, m)
  local before = view(n)
  local _, text, code = n.core:step(m, n.clock.now)
  assert.equal("invalid", code)
  assert.truthy(#text > 10)
  assert.same(before, view(n))
end

describe("a message", function()
  it("of an unknown type is refused", function()
    for _, n in pairs(nodes()) do
      for _, type in ipairs { 0, 9, 10, 100, 255 } do is_refused(n, { type = type, from = 2, to = 1, term = 5 }) end
    end
  end)

  it("from this node itself, from nobody, or to another is refused, and so are answers of strangers", function()
    for _, n in pairs(nodes()) do
      for _, type in ipairs(TYPES) do
        for _, from in ipairs(type:find "reply" and { 0, 1, 4, -1 } or { 0, 1 }) do
          local m = good(type)
          m.from = from
          is_refused(n, m)
        end
        for _, to in ipairs { 0, 2, 9 } do
          local m = good(type)
          m.to = to
          is_refused(n, m)
        end
      end
    end
  end)

  it("without a term, or of one so large that terms could wrap, is refused", function()
    for _, n in pairs(nodes()) do
      for _, type in ipairs(TYPES) do
        for _, term in ipairs { 0, HUGE[2], HUGE[3] } do
          local m = good(type)
          m.term = term
          is_refused(n, m)
        end
      end
    end
  end)

  it("with an index so large that indexes could wrap is refused", function()
    for _, n in pairs(nodes()) do
      for _, type in ipairs { "append", "append_reply", "heartbeat_reply", "vote" } do
        for _, index in ipairs { HUGE[2], HUGE[3] } do
          local m = good(type)
          m.index, m.log_term = index, 4
          is_refused(n, m)
        end
      end
      local m = good "heartbeat"
      m.commit = -1
      is_refused(n, m)
    end
  end)

  it("that names a place in the log that cannot be is refused", function()
    local cases = {
      { "append", 0, 1 }, { "append", 1, 0 }, { "append", 1, 6 }, { "append", 1, -1 },
      { "vote", 0, 1 }, { "vote", 1, 0 }, { "vote", 1, 5 }, { "vote", 1, -1 },
    }
    for _, n in pairs(nodes()) do
      for _, case in ipairs(cases) do
        is_refused(n, { type = case[1], from = 2, to = 1, term = 5, index = case[2], log_term = case[3] })
      end
    end
  end)

  it("with entries that cannot be is refused: as a whole", function()
    local bad = {
      { term = 0 }, { term = 6 }, { term = -1 }, { term = 5, type = 0 }, { term = 5, type = 6 },
      { term = 5, type = 255 }, { term = 5, type = "config" }, { term = 5, type = "config", conf = {} },
      { term = 5, type = "config", conf = { voters = { 2, 1 } } },
    }
    for _, n in pairs(nodes()) do
      for _, entry in ipairs(bad) do
        local m = good "append"
        m.index, m.log_term, m.entries = 3, 4, { { term = 5 }, entry }
        is_refused(n, m)
      end
      is_refused(n, { type = "append", from = 2, to = 1, term = 5, entries = { { term = 5 }, { term = 3 } } })
      is_refused(n, { type = "append", from = 2, to = 1, term = 5, index = 3, log_term = 4,
        entries = { { term = 3 } } })
      is_refused(n, { type = "append", from = 2, to = 1, term = 5, n_entries = 3 })
    end
  end)

  it("that has entries though its type carries none is refused", function()
    for _, n in pairs(nodes()) do
      for _, type in ipairs(TYPES) do
        local m = good(type)
        m.entries, m.n_entries = nil, 1
        is_refused(n, m)
      end
    end
  end)

  it("that acknowledges or rejects what was never sent is refused by the leader", function()
    local n = nodes().leader
    local cases = {
      { index = 4 }, { index = HUGE[1] }, { index = 4, reject = true, hint = 1, log_term = 1 },
      { index = 2, reject = true, hint = 3, log_term = 1 }, { index = 2, reject = true, hint = 0, log_term = 1 },
      { index = 2, reject = true, hint = 1, log_term = 0 }, { index = 2, reject = true, hint = 1, log_term = 6 },
    }
    for _, case in ipairs(cases) do
      case.type, case.from, case.to, case.term = "append_reply", 2, 1, 5
      is_refused(n, case)
    end
    is_refused(n, { type = "heartbeat_reply", from = 2, to = 1, term = 5, context = -1 })
    is_refused(n, { type = "heartbeat_reply", from = 2, to = 1, term = 5, context = n.clock.now + 1 })
  end)

  it("that is out of date is taken and changes nothing but what it must be answered", function()
    for _, n in pairs(nodes()) do
      for _, type in ipairs { "append", "append_reply", "heartbeat", "heartbeat_reply", "vote_reply" } do
        local m = good(type)
        m.term = 1
        local before = view(n)
        assert(n:step(m))
        local after = view(n)
        after.ready = before.ready
        assert.same(before, after)
        n:flush()
      end
    end
  end)

  it("with a misspelt or ill-typed field raises: that is the caller's mistake", function()
    local n = nodes().follower
    assert.error_matches(function() n:step { type = "vote", trem = 5 } end, "trem")
    assert.error_matches(function() n:step { type = "vote", term = "x" } end, "'term' must be an integer")
    assert.error_matches(function() n:step { type = "vite", term = 5 } end, "vite")
  end)
end)

describe("any sequence of messages", function()
  local random = lab.random(4711)
  local function pick(list) return list[random(#list)] end

  ---Values that are nearly right, and some that are far off.
  local function number(s)
    return pick { 0, 1, 2, s.last, s.last, s.last + 1, s.last - 1, s.commit, s.commit + 1, s.term, s.term, s.term + 1,
      random(8), random(8), pick(HUGE), 1 << 31, 1 << 32, 1 << 62 }
  end

  ---Configurations, some of which cannot be.
  local function conf()
    return pick { { voters = { 1, 2, 3 } }, { voters = { 1, 2, 3 }, learners = { 4 } }, { voters = { 2, 3 } },
      { voters = { 1, 2 }, outgoing = { 2, 3 } }, { voters = { 1 } }, {}, { voters = { 3, 2 } },
      { voters = { 2, 5 }, outgoing = { 1, 2 }, learners = { 1 } } }
  end

  local function message(s)
    local m = { type = pick(TYPES), from = random(5), to = 1, term = s.term + pick { 0, 0, 0, 0, 0, 0, 1, -1 },
      index = number(s), log_term = pick { number(s), math.max(s.term - 1, 0), s.term, 1 }, hint = number(s),
      commit = pick { 0, s.commit, s.last, number(s) }, context = pick { 0, 1, number(s) }, pre = random(2) == 1,
      reject = random(2) == 1, force = random(4) == 1, round = pick { 0, 1, number(s) },
      lease = pick { 0, 0, 1000, -1 }, priority = pick { 0, 5, -5, 1 << 31 } }
    if random(12) == 1 then m.term = number(s) end
    if m.type == "snapshot" then
      m.conf = random(9) > 1 and conf() or nil
      if random(3) == 1 then m.index = s.last + random(3) end
    elseif m.type == "append" then
      m.entries = {}
      local term = m.log_term
      for i = 1, random(5) - 1 do
        term = term + (random(4) == 1 and 1 or 0)
        m.entries[i] = { term = term, size = pick { 0, 1, 100, -1 }, type = random(40) == 1 and random(9) or 2 }
        if random(8) == 1 then m.entries[i].type, m.entries[i].conf = "config", conf() end
      end
    end
    return m
  end

  ---What its owner may do with a node at any time.
  local function act(n, s)
    local now = n.clock.now
    local actions = {
      function() n:ready() end,
      function() n:sync(1) end,
      function() n:tick() end,
      function() n.core:propose(random(3)) end,
      function() n.core:change({ { pick { "add", "promote", "demote", "remove", "move" }, random(6) },
        { pick { "add", "remove" }, 6 + random(3) } }, now) end,
      function() n.core:transfer(random(4) - 1, now) end,
      function() n.core:read(1, now, random(2) == 1) end,
      function() n.core:leader_lost(now) end,
      function() n.core:unreachable(random(4)) end,
      function() n.core:peer_lost(random(4)) end,
      function() n.core:snapshot_sent(random(4), random(2) == 1) end,
      function()
        if n.commit == 0 or random(4) > 1 then return end
        n.core:snapshot_taken(n.commit)
        if s.snapshot > 0 then n.core:compact(random(s.snapshot)) end
      end,
      function()
        if s.role ~= "candidate" then return end  -- help it to win
        n:drain()
        for id = 2, 5 do n:step { type = "vote_reply", from = id, term = s.term + 1, pre = true } end
        n:drain()
        for id = 2, 5 do n:step { type = "vote_reply", from = id, term = n:status().term } end
      end,
    }
    actions[random(#actions)]()
  end

  ---A node whose disk remembers nothing: what a batch says is not looked at.
  local function node()
    local n = lab.node { id = 1, voters = { 1, 2, 3 }, learners = { 4 }, log = { 1, 1, 2 }, term = 2, lag = true,
      cache_bytes = 10, append_bytes = 3, window_bytes = 9, lease = random(2) == 1, clock_drift = 1000 }
    n.seqs = {}
    function n:ready()
      if not self.core:has_ready() then return nil end
      local out = self.core:ready(self.clock.now)
      if not out then return nil end
      if out.seq > 0 then table.insert(self.seqs, out.seq) end
      self.commit = out.commit
      return out
    end
    function n:sync(count)
      for _ = 1, math.min(count or #self.seqs, #self.seqs) do
        self.core:persisted(table.remove(self.seqs, 1), self.clock.now)
      end
    end
    function n:drain()
      while self:ready() do self:sync() end
    end
    return n
  end

  it("is survived: each is taken, refused without effect, or answered with a fault", function()
    local counts, roles = { taken = 0, invalid = 0, corrupt = 0 }, {}
    local n
    for _ = 1, 80000 do
      n = n or node()
      n.clock.now = n.clock.now + random(1000)
      local s = n:status()
      roles[s.role] = true
      if random(12) <= 6 then
        local m = message(s)
        local may_compare = random(10) == 1
        local before = may_compare and view(n)
        local ok, _, code = n.core:step(m, n.clock.now)
        code = ok and "taken" or code
        counts[code] = counts[code] + 1
        if code == "invalid" and before then assert.same(before, view(n)) end
        if code == "corrupt" then n = nil end
      elseif not s.corrupt then
        act(n, s)
      end
    end
    assert.truthy(counts.taken > 5000 and counts.invalid > 5000 and counts.corrupt > 20)
    assert.same({ follower = true, candidate = true, leader = true }, roles)
  end)
end)
