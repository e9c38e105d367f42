-- What the specs of the wire share: sample frames of every kind, and how each is read.
local assert = require "luassert"
local core = require "raft.core"
local wire = core.wire

local lab = {}

lab.entry_type = { empty = 1, command = 2, barrier = 3 }
lab.frame_type = { hello = 1, refusal = 2, ping = 3, pong = 4, message = 5, forward = 6, forward_reply = 7,
  offer = 8, fetch = 9, chunk = 10, fetched = 11, ask = 12, answer = 13, join = 14, joined = 15 }
lab.header = 32 -- bytes of a frame's
lab.frame_max = 32 << 20
lab.stranger_max = 4096

---A proposal of member 7, or as given.
function lab.proposal(fields)
  local it = { type = 2, payload = "set x", session = 7, epoch = 3, sequence = 40, behind = 5 }
  for k, v in pairs(fields or {}) do it[k] = v end
  return wire.entry(it)
end

---Stamped entries from index `first` on, of these terms.
function lab.log(first, terms)
  local entries = {}
  for i, term in ipairs(terms) do
    entries[i] = wire.stamp(lab.proposal { payload = ("p"):rep(i * 3) }, first + i - 1, term, 1700000000000000 + i)
  end
  return entries
end

---An append after entry 9 of term 2, in term 4.
function lab.append(entries, fields)
  local m = { type = 1, from = 1, to = 2, term = 4, index = 9, log_term = 2, commit = 8, entries = entries }
  for k, v in pairs(fields or {}) do m[k] = v end
  return m
end

lab.hello = {
  protocol_min = 1, protocol = 1, cluster = ("c"):rep(16), name = "bank", list = "1=a:1 2=b:2",
  from = 1, to = 2, incarnation = 0x7fffffffffffffff, epoch = 7, before = { 6, 5, 2 }, named = 19,
  rejoining = true, channel = 2, address = "a:1",
}

---A joint configuration: 3 is on its way from voter to learner, 9 is coming in.
lab.conf = {
  next_id = 12, members = { { 1, "a:1", 17 }, { 2, "b:2", -1 }, { 3, "c:3", 7, true }, { 9, ("h"):rep(255) } },
  voters = { 1, 2, 9 }, outgoing = { 1, 2, 3 }, learners = { 3 },
}

lab.file = { index = 40, term = 3, id = -7, size = 100000, leader_term = 0, first = 0, offset = 0, ok = false }

---Fields of a transfer of that file.
function lab.transfer(fields)
  local t = {}
  for k, v in pairs(lab.file) do t[k] = v end
  for k, v in pairs(fields) do t[k] = v end
  return t
end

lab.joined = { code = 0, leader = "a:1", id = 7, cluster = ("c"):rep(16), list = "1=a:1 2=b:2" }

---name -> bytes of one frame of each kind.
function lab.samples()
  return {
    hello = wire.hello(lab.hello),
    refusal = wire.refusal(-18, "another cluster"),
    ping = wire.ping(3, 12345),
    pong = wire.ping(4, -1),
    append = wire.message(lab.append(lab.log(10, { 2, 3, 3, 4 }))),
    heartbeat_append = wire.message(lab.append {}),
    append_reply = wire.message {
      type = 2, from = 2, to = 1, term = 4, reject = true, index = 9, log_term = 2, hint = 5,
    },
    heartbeat = wire.message { type = 3, from = 1, to = 2, term = 4, commit = 8, context = 99 },
    heartbeat_reply = wire.message { type = 4, from = 2, to = 1, term = 4, index = 9, context = 99 },
    vote = wire.message { type = 5, from = 1, to = 2, term = 5, pre = true, index = 13, log_term = 4 },
    vote_reply = wire.message { type = 6, from = 2, to = 1, term = 5, pre = true, reject = true },
    timeout_now = wire.message { type = 7, from = 1, to = 2, term = 5 },
    forward = wire.forward { lab.proposal(), lab.proposal { type = 3, payload = "", sequence = 41 } },
    forward_reply = wire.forward_reply(-3, { 40, 41, 1 << 40 }),
    offer = wire.transfer(8, lab.transfer { leader_term = 9, first = 35 }),
    fetch = wire.transfer(9, lab.transfer { offset = 4096, wanted = 1 << 20 }),
    chunk = wire.transfer(10, lab.transfer { offset = 4096, bytes = ("x"):rep(300) }),
    gone = wire.transfer(10, lab.transfer { offset = 4096 }),
    fetched = wire.transfer(11, { index = 40, ok = true }),
    read = wire.ask(77, { kind = 1, lease = true }),
    change = wire.ask(78, { kind = 2, changes = { { op = 1, address = "d:4" }, { op = 2, id = 3 }, { op = 5, id = 1 },
      { op = 4, id = 2, address = ("h"):rep(255) } } }),
    hand_over = wire.ask(79, { kind = 3, target = 2 }),
    answer = wire.answer { number = 77, code = -20, index = 9, id = 3 },
    join = wire.join { name = "bank", address = "d:4" },
    joined = wire.joined(lab.joined),
    not_joined = wire.joined { code = -3, leader = "b:2" },
  }
end

---A reader that takes frames of any size.
function lab.trusting()
  local reader = wire.reader()
  reader:trust()
  return reader
end

local readers = {
  wire.hello_read, wire.refusal_read, wire.ping_read, wire.ping_read,
  wire.message_read, wire.forward_read, wire.forward_reply_read, wire.transfer_read, wire.transfer_read,
  wire.transfer_read, wire.transfer_read, wire.ask_read, wire.answer_read, wire.join_read, wire.joined_read,
}

---What a frame says, by its type.
function lab.read(frame)
  return readers[frame.type](frame)
end

---Reads all bytes as frames with all they hold. nil, message, code when any of it is refused.
function lab.read_all(bytes)
  local frames, message, code = lab.trusting():feed(bytes)
  if not frames then return nil, message, code end
  local all = {}
  for i, frame in ipairs(frames) do
    local value
    value, message, code = lab.read(frame)
    if value == nil then return nil, message, code end
    all[i] = value
  end
  return all
end

function lab.flip(bytes, bit)
  local at = bit // 8 + 1
  return bytes:sub(1, at - 1) .. string.char(bytes:byte(at) ~ (1 << bit % 8)) .. bytes:sub(at + 1)
end

---A frame's header with one field replaced (offset from 0) and its own hash made right again: a liar, not damage.
function lab.lie(bytes, offset, field)
  local header = bytes:sub(1, offset) .. field .. bytes:sub(offset + #field + 1, 28)
  return header .. string.pack("<I4", wire.hash(header) & 0xffffffff) .. bytes:sub(33)
end

---Runs fn with its n-th allocation failing, for every n until none is asked for any more. fn answers nil and "memory"
---then, and otherwise `expected`.
function lab.fail_each_allocation(fn, expected)
  local failed = 0
  for n = 1, 1000 do
    core.mem_fail_at(n)
    local value, _, code = fn()
    local asked = core.mem_asked()
    core.mem_fail_at(0)
    if asked < n then
      assert.same(expected, value)
      return failed
    end
    assert.is_nil(value)
    assert.equal("memory", code)
    failed = failed + 1
  end
  error("still allocating")
end

return lab
