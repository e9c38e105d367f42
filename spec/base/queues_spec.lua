-- The queues between host and engine, and the turn, which no simulation covers: there both run in one thread.
local process = require "spec.system.process"
local tree = require "spec.tree"

local BUILD = os.getenv("RAFT_BUILD") or "plain"
local FLAGS = { asan = "-fsanitize=address,undefined", tsan = "-fsanitize=thread", plain = "-O2" }

local directory
setup(function() directory = process.directory() end)
teardown(function() process.remove(directory) end)

---A program's whole output, and whether it succeeded.
local function run(command)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local text = pipe:read("a")
  return text, pipe:close() == true
end

local function gcc(words)
  local text, fine = run("gcc -std=c11 -g -D_GNU_SOURCE -Wall -Wextra -Werror -Icsrc " .. words)
  assert(fine, text)
end

local function compile(name, flags, sources)
  local program = directory .. "/" .. name
  gcc(("%s -o %s spec/base/%s.c %s"):format(flags, program, name, sources))
  return program
end

describe("two real threads", function()
  it("exchange requests, notices and status without losing a wake-up or a value", function()
    local program = compile("stress", FLAGS[BUILD] .. " -pthread",
      "csrc/server/channel.c csrc/base/ring.c csrc/base/mailbox.c csrc/base/buf.c csrc/base/mem.c csrc/base/base.c")
    local text, fine = run(program .. (BUILD == "plain" and " 1000000" or " 100000"))
    assert.is_true(fine, text)
    assert.matches("^ok: %d+ items", text)
    print((text:gsub("\n", "")))
  end)
end)

if BUILD ~= "plain" then return end  -- what follows has a memory model of its own

local RING, MAILBOX, CHANNEL = "csrc/base/ring.c", "csrc/base/mailbox.c", "csrc/server/channel.c"
local TURN = "csrc/uv/uv_turn.c"
local TOLD = "    atomic_store(&r->tail, r->next);\n"
local READ = "    *item = r->slots[head & r->mask];\n"
local GIVEN = "    atomic_store_explicit(&r->head, head + 1, memory_order_release);\n"
local PUBLISHED = "    mailbox_publish(&c->status);\n"
local TOOK = "    return atomic_compare_exchange_strong(&p->state, &state, POST_TAKEN);\n"
local NOTIFIED = "    channel_remind(c);\n}\n"

-- Planted bugs: the file, what is wrong with it, and then pairs of a unique old text and its new text.
local BUGS = {
  { RING, "the store that ends a push may wait in the store buffer",
    TOLD, "    atomic_store_explicit(&r->tail, r->next, memory_order_release);\n" },
  { RING, "the announcement of sleep may wait there",
    "    atomic_store(&r->sleeping, true);\n",
    "    atomic_store_explicit(&r->sleeping, true, memory_order_release);\n" },
  { RING, "a consumer that has announced sleep does not look again",
    "    if (atomic_load(&r->tail) == atomic_load_explicit(&r->head, memory_order_relaxed)) return true;\n",
    "    if (r != NULL) return true;\n" },
  { RING, "an item is told of that is not there yet", TOLD, "    atomic_store(&r->tail, r->next + 1);\n" },
  { RING, "what was put is not told of", "    ring_tell(r);\n", "" },
  { RING, "a pop gives back a slot that it has not read yet", READ, "", GIVEN, GIVEN .. READ },
  { RING, "a sleeper is woken for each item",
    "atomic_load(&r->sleeping) && atomic_exchange(&r->sleeping, false)", "atomic_load(&r->sleeping)" },
  { RING, "a full ring takes one more",
    "    if (!ring_has_room(r, 1)) return false;\n", "    if (!ring_has_room(r, 0)) return false;\n" },
  { MAILBOX, "a value is not marked as new", "m->mine | FRESH)", "m->mine)" },
  { MAILBOX, "a reader takes again what it has read",
    "    if ((atomic_load(&m->between) & FRESH) == 0) return false;\n", "" },
  { MAILBOX, "a writer goes on with the copy that it has published",
    "    m->mine = atomic_exchange(&m->between, m->mine | FRESH) & ~FRESH;\n",
    "    (void)atomic_exchange(&m->between, m->mine | FRESH);\n" },
  { CHANNEL, "the host is notified of a status before it is published",
    PUBLISHED .. NOTIFIED, (PUBLISHED .. NOTIFIED):gsub("^(.-\n)(.-\n)", "%2%1"), nil },
  { CHANNEL, "the host is not notified of a status", PUBLISHED .. NOTIFIED, PUBLISHED .. "}\n" },
  { CHANNEL, "a flush does not tell of what was proposed",
    "    ring_tell(&c->requests);\n    if (ring_must_wake(&c->requests)) io_visit",
    "    if (ring_must_wake(&c->requests)) io_visit" },
  { TURN, "who has the turn does not look for word before giving it up",
    "    if ((state & WORD) != 0) return false;\n", "    if ((state & WORD) != 0) next = 0;\n",
    "next = (state & WORD) != 0 ? state & ~(uint32_t)WORD : 0;", "next = 0;" },
  { TURN, "who waits for the turn is not told that it has ended",
    "if ((state & AWAITED) != 0) uv_sem_post", "if ((state & AWAITED) != 0 && next != 0) uv_sem_post" },
  { TURN, "a visitor takes a turn that somebody has", "return (state & TAKEN) == 0;\n}\n\nbool turn_tell",
    "return true;\n}\n\nbool turn_tell" },
  { TURN, "word is left with nobody there", "    return false;\n}\n\nbool turn_end",
    "    return true;\n}\n\nbool turn_end" },
  { TURN, "who comes back to the loop does not ask whether it was taken over", TOOK,
    "    atomic_store(&p->state, state - state);\n    return true;\n" },
  { TURN, "a loop that was left may be taken by two", TOOK,
    "    bool left = atomic_load(&p->state) == state;\n    if (left) atomic_store(&p->state, POST_TAKEN);\n"
    .. "    return left;\n" },
  { TURN, "a loop that was lent is taken by who stands by", TOOK,
    "    return state != POST_TAKEN && atomic_exchange(&p->state, POST_TAKEN) != POST_TAKEN;\n" },
  { TURN, "who leaves the loop does not say so", "atomic_store(&p->state, how);",
    "atomic_store(&p->state, how - how);" },
}

local function replace(text, old, new)
  local from, to = text:find(old, 1, true)
  assert(from and not text:find(old, to + 1, true), "not there once: " .. old)
  return text:sub(1, from - 1) .. new .. text:sub(to + 1)
end

describe("every interleaving of two threads", function()
  local sources = "csrc/server/host.c csrc/server/host_asks.c csrc/server/host_snapshot.c csrc/server/sessions.c"
    .. " csrc/server/clients.c csrc/store/snapshot.c csrc/wire/entry.c"
  for _, name in ipairs { "mem", "buf", "err", "hash", "hash_wide", "block", "slab", "base" } do
    sources = ("%s csrc/base/%s.c"):format(sources, name)
  end
  -- In the names of the scenarios that matter.
  local WORDS = { [RING] = "", [MAILBOX] = "mailbox", [CHANNEL] = "news", [TURN] = "turn" }
  local objects

  setup(function()
    objects = directory .. "/support.o"
    gcc(("-O2 -r -o %s %s"):format(objects, sources))
  end)

  it("keeps the order, and loses no item, no value and no wake-up, with store buffers and without", function()
    local text, fine = run(compile("interleave", "-O2", objects))
    assert.is_true(fine, text)
    local total, scenarios = 0, 0
    for n in text:gmatch(": (%d+) interleavings, ok\n") do total, scenarios = total + n, scenarios + 1 end
    print(("%d interleavings of %d scenarios"):format(total, scenarios))
    assert.is_true(total > 1000000 and scenarios == 15)
  end)

  for _, bug in ipairs(BUGS) do
    it("is tried, and so it is found when " .. bug[2], function()
      local text = tree.read(bug[1])
      for i = 3, #bug, 2 do text = replace(text, bug[i], bug[i + 1]) end
      local path = directory .. "/planted.c"
      local file <close> = assert(io.open(path, "w"))
      assert(file:write(text):flush())
      local macro = bug[1]:match("(%w+)%.c$"):upper()
      local program = compile("interleave", ([[-O1 -D%s='"%s"']]):format(macro, path), objects)
      local told, fine = run(("%s '%s'"):format(program, WORDS[bug[1]]))
      assert.is_false(fine, told)
      assert.truthy(told:find("interleavings, %l") or told:find("broken invariant", 1, true), told)
    end)
  end
end)
