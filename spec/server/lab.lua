-- What the specs of the server share: nodes in a simulated world, and an outsider that speaks for itself.
local assert = require "luassert"
local core = require "raft.core"
local wire = core.wire

local lab = {}

lab.list = "1=node-1:7000 2=node-2:7000 3=node-3:7000"
lab.frame_type = { hello = 1, refusal = 2, ping = 3, pong = 4, message = 5, forward = 6, forward_reply = 7 }

---A world with these nodes started; options are those of core.servers and of w:start.
function lab.start(ids, options)
  local w = core.servers(options or {})
  for _, id in ipairs(ids) do assert.is_true(w:start(id, options)) end
  return w
end

---Runs until ready(...) gives something, and returns that; fails after `limit` seconds (10).
function lab.wait(w, what, ready, limit)
  for _ = 1, (limit or 10) * 100 do
    local found = ready()
    if found then return found end
    w:run(0.01)
  end
  error("in vain: " .. what, 2)
end

---The leader among ids, once one of them leads and all of them know.
function lab.leader(w, ids)
  return lab.wait(w, "a leader", function()
    for _, id in ipairs(ids) do
      local status = w:status(id)
      if status.role == "leader" and status.ready then
        for _, other in ipairs(ids) do
          local theirs = w:status(other)
          if theirs.leader ~= id or theirs.term ~= status.term then return nil end
        end
        return id
      end
    end
  end)
end

---A cluster of three that has a leader: world, leader, one follower, the other.
function lab.cluster(options)
  local w = lab.start({ 1, 2, 3 }, options)
  local leader = lab.leader(w, { 1, 2, 3 })
  return w, leader, leader % 3 + 1, (leader + 1) % 3 + 1
end

---What the host of a node was told since the last call, as a list of { what, sequence, index, text }.
function lab.events(w, id)
  local list = {}
  for what, sequence, index, text in w:events(id):gmatch("(%a+) (%d+) (%d+) ([^\n]*)\n") do
    list[#list + 1] = { what = what, sequence = tonumber(sequence), index = tonumber(index), text = text }
  end
  return list
end

---A recorder of what a host is told: r:poll() takes the news, r.ends[sequence] is the list of that call's ends
---("applied" or a code), r.applied the texts in order.
function lab.recorder(w, id)
  local r = { ends = {}, applied = {}, indexes = {}, all = {} }
  local function ended(sequence, how)
    r.ends[sequence] = r.ends[sequence] or {}
    table.insert(r.ends[sequence], how)
  end
  function r:poll()
    for _, event in ipairs(lab.events(w, id)) do
      self.all[#self.all + 1] = event
      if event.what == "apply" then
        self.applied[#self.applied + 1] = event.text
        self.indexes[#self.indexes + 1] = event.index
        if event.sequence ~= 0 then ended(event.sequence, "applied") end
      elseif event.what == "done" then
        ended(event.sequence, event.text)
      end
    end
    return self
  end
  ---How this call ended; nil: it is open. It must have ended once.
  function r:how(sequence)
    local ends = self:poll().ends[sequence]
    if ends == nil then return nil end
    assert.equal(1, #ends, "ends of call " .. sequence)
    return ends[1]
  end
  return r
end

---How a call ends.
function lab.ended(w, recorder, sequence, limit)
  return lab.wait(w, "the end of call " .. sequence, function() return recorder:how(sequence) end, limit)
end

---How many times each text was applied.
function lab.count(texts)
  local counts = {}
  for _, text in ipairs(texts) do counts[text] = (counts[text] or 0) + 1 end
  return counts
end

---A hello of member `from` to `to`, as one of this cluster unless fields say otherwise.
function lab.hello(from, to, fields)
  local it = { protocol_min = 1, protocol = 1, name = "bank", list = lab.list, from = from, to = to,
    incarnation = 777, epoch = 7, before = { 6 }, channel = 1, address = "node-" .. from .. ":7000" }
  for k, v in pairs(fields or {}) do it[k] = v end
  it.cluster = it.cluster or wire.cluster_id(wire.members_parse(it.list), it.name)
  return wire.hello(it)
end

---An outsider's end of a link: gathers frames. Without a link: dials as `node`.
function lab.line(w, node, address, link)
  local line = { id = link or assert(w:dial(node, address)), reader = wire.reader(), frames = {} }
  line.reader:trust()
  function line:poll()
    local up, down, bytes = w:link(self.id)
    if #bytes > 0 then
      for _, frame in ipairs(assert(self.reader:feed(bytes))) do self.frames[#self.frames + 1] = frame end
    end
    self.up, self.down = up, down
    return self
  end
  function line:send(bytes) return w:send(self.id, bytes) end
  function line:answer_pings()
    local others = {}
    for _, frame in ipairs(self:poll().frames) do
      if frame.type == lab.frame_type.ping then self:send(wire.ping(4, wire.ping_read(frame)))
      else others[#others + 1] = frame end
    end
    self.frames = others
  end
  ---The first frame of this type from now on; it and what came before it are taken.
  function line:expect(type, limit)
    return lab.wait(w, "a frame of type " .. type, function()
      self:poll()
      for i, frame in ipairs(self.frames) do
        if frame.type == lab.frame_type[type] then
          self.frames = table.move(self.frames, i + 1, #self.frames, 1, {})
          return frame
        end
      end
    end, limit)
  end
  function line:wait_up() lab.wait(w, "the link", function() return self:poll().up end) return self end
  function line:wait_down(limit) return lab.wait(w, "its end", function() return self:poll().down end, limit) end
  return line
end

---Dials `to` and says hello as member `from`, from the world's node of that number.
function lab.greet(w, from, to, fields)
  local line = lab.line(w, from, "node-" .. to .. ":7000"):wait_up()
  line:send(lab.hello(from, to, fields))
  return line
end

---An outsider that is taken for member `from` by `to`, in both directions: out to say things, back to hear them.
function lab.impostor(w, from, to, fields)
  w:listen(from, "node-" .. from .. ":7000") -- unless it does already
  local out = lab.greet(w, from, to, fields)
  out:expect("hello", 10)
  local lines = {}
  local back = lab.wait(w, "being dialled", function()
    for _, id in ipairs(w:accepted(from)) do
      lines[id] = lines[id] or lab.line(w, from, nil, id)
      local hello = lines[id]:poll().frames[1]
      if hello and wire.hello_read(hello).from == to then return lines[id] end
    end
  end)
  back:expect "hello"
  back:send(lab.hello(from, to, fields))
  w:run(0.01)
  return out, back
end

---Members 1 and 2 are servers, one of them leads; 3, a learner, is spoken for by the spec: world, leader, the other,
---and the lines of 3 to and from the leader. options: of w:start.
function lab.pair(options)
  local all = { list = { "node-1:7000", "node-2:7000" } }
  for name, value in pairs(options or {}) do all[name] = value end
  local w = lab.start({ 1, 2 }, all)
  local leader = lab.leader(w, { 1, 2 })
  w:change(leader, { { "add", 3, "node-3:7000" } })
  lab.wait(w, "member 3", function() return w:status(1).members[3] and w:status(2).members[3] end)
  local out, back = lab.impostor(w, 3, leader, { list = "1=node-1:7000 2=node-2:7000" })
  return w, leader, 3 - leader, out, back
end

return lab
