local linear = require "raft.linear"

-- One register: { "write", value } -> true, { "read" } -> value, { "cas", old, new } -> whether.
local register = {
  init = function() return 0 end,
  step = function(state, input, output)
    local what = input[1]
    if what == "read" then return output == nil or output == state, state end
    if what == "write" then return output == nil or output == true, input[2] end
    local swaps = state == input[2]
    return output == nil or output == swaps, swaps and input[3] or state
  end,
}

-- Many of them, by name: { name, what ... }.
local registers = {
  init = register.init,
  step = function(state, input, output) return register.step(state, { table.unpack(input, 2) }, output) end,
  key = function(input) return input[1] end,
}

-- A queue: its state is a table, a new one after each step. { "push", value } -> true, { "pop" } -> value or false.
local queue = {
  init = function() return {} end,
  step = function(state, input, output)
    local after = table.move(state, 1, #state, 1, {})
    if input[1] == "push" then
      after[#after + 1] = input[2]
      return output == nil or output == true, after
    end
    local first = table.remove(after, 1) or false
    return output == nil or output == first, after
  end,
}

-- "write 1": 0 .. 10 -> true, in one line. A client is only told to make explanations readable.
local function op(client, input, called, returned, output)
  return { client = client, input = input, called = called, returned = returned, output = output }
end

local function write(client, value, called, returned) return op(client, { "write", value }, called, returned, true) end
local function read(client, value, called, returned) return op(client, { "read" }, called, returned, value) end

describe("the checker of linearizability", function()
  local function accepts(what, model, history)
    it("accepts " .. what, function() assert.same({ true }, { linear.check(history, model) }) end)
  end

  local function rejects(what, model, history, culprit)
    it("rejects " .. what, function()
      local ok, explanation = linear.check(history, model)
      assert.is_false(ok)
      assert.matches(("no order of the operations explains #%d "):format(culprit), explanation, 1, true)
    end)
  end

  accepts("nothing", register, {})
  accepts("calls one after the other", register, { write("a", 1, 0, 1), read("b", 1, 2, 3), write("a", 2, 4, 5),
    read("b", 2, 6, 7) })
  accepts("a read of either value while a write is on its way", register, { write("a", 1, 0, 10), read("b", 0, 1, 2),
    read("c", 1, 3, 4) })
  accepts("writes at the same time in the order that reads tell", register, { write("a", 1, 0, 9), write("b", 2, 0, 9),
    read("c", 2, 11, 12), read("c", 2, 13, 14) })
  accepts("what touches in one moment as concurrent", register, { write("a", 1, 0, 5), read("b", 0, 5, 6) })
  accepts("one of two compare-and-swaps winning", register, { op("a", { "cas", 0, 1 }, 0, 9, true),
    op("b", { "cas", 0, 2 }, 0, 9, false), read("c", 1, 10, 11) })
  accepts("operations in any order of the list", register, { read("b", 1, 2, 3), write("a", 1, 0, 1) })

  rejects("a stale read", register, { write("a", 1, 0, 1), write("a", 2, 2, 3), read("b", 1, 4, 5) }, 3)
  rejects("a lost write", register, { write("a", 1, 0, 1), read("b", 0, 2, 3) }, 2)
  rejects("a read of what nobody wrote", register, { write("a", 1, 0, 5), read("b", 7, 1, 2) }, 2)
  rejects("a value that comes back", register, { write("a", 1, 0, 10), read("b", 1, 1, 2), read("b", 0, 3, 4) }, 3)
  rejects("reads that see two writes in opposite orders", register, { write("a", 1, 0, 20), write("b", 2, 0, 20),
    read("c", 1, 1, 2), read("c", 2, 3, 4), read("d", 2, 5, 6), read("d", 1, 7, 8) }, 6)
  rejects("both of two compare-and-swaps winning", register, { op("a", { "cas", 0, 1 }, 0, 9, true),
    op("b", { "cas", 0, 2 }, 0, 8, true) }, 1)
  rejects("calls put in an order against real time", queue, { op("a", { "push", 1 }, 0, 1, true),
    op("a", { "push", 2 }, 2, 3, true), op("b", { "pop" }, 4, 5, 2) }, 3)
  rejects("a command applied twice", queue, { op("a", { "push", 1 }, 0, 1, true), op("b", { "pop" }, 2, 3, 1),
    op("b", { "pop" }, 4, 5, 1) }, 3)

  describe("of a call that never returned", function()
    local function unknown(client, input, called) return op(client, input, called) end

    accepts("that it took effect, at once or late", register, { unknown("a", { "write", 1 }, 0), read("b", 0, 1, 2),
      read("b", 1, 3, 4) })
    accepts("that it never did", register, { unknown("a", { "write", 1 }, 0), read("b", 0, 1, 2), read("b", 0, 3, 4) })
    accepts("that the second of two did and the first did not", register, { unknown("a", { "write", 1 }, 0),
      unknown("a", { "write", 2 }, 1), read("b", 2, 2, 3), read("b", 2, 4, 5) })
    rejects("that it took effect before it was called", register, { read("b", 1, 0, 1),
      unknown("a", { "write", 1 }, 2) }, 1)
    rejects("that it took effect and was undone", register, { unknown("a", { "write", 1 }, 0), read("b", 1, 1, 2),
      read("b", 0, 3, 4) }, 3)
    rejects("that it took effect twice", queue, { unknown("a", { "push", 1 }, 0), op("b", { "pop" }, 1, 2, 1),
      op("b", { "pop" }, 3, 4, 1) }, 3)
  end)

  describe("of a result that is not known", function()
    accepts("any", register, { op("a", { "cas", 0, 1 }, 0, 1, nil), read("b", 1, 2, 3) })
    rejects("that it has not taken effect after it returned", register, { op("a", { "write", 1 }, 0, 1, nil),
      read("b", 0, 2, 3) }, 2)
  end)

  it("keeps keys apart: each has a state of its own", function()
    local history = { op("a", { "x", "write", 1 }, 0, 1, true), op("a", { "y", "read" }, 2, 3, 0),
      op("a", { "x", "read" }, 4, 5, 1) }
    assert.is_true(linear.check(history, registers))
    history[#history + 1] = op("b", { "y", "read" }, 6, 7, 1)
    local ok, explanation = linear.check(history, registers)
    assert.is_false(ok)
    assert.matches('(key "y")', explanation, 1, true)
    assert.matches("explains #4 of client b", explanation, 1, true)
  end)

  it("takes states for the same that hash the same", function()
    local asked = 0
    local hashed = { init = queue.init, step = queue.step, hash = function(state)
      asked = asked + 1
      return table.concat(state, " ")
    end }
    assert.is_true(linear.check({ op("a", { "push", 1 }, 0, 1, true), op("b", { "pop" }, 2, 3, 1) }, hashed))
    assert.equal(2, asked)
  end)

  it("explains: the operation without a place, an order of those before, the state, and who was still open", function()
    local ok, explanation = linear.check({ write("a", 1, 0, 1), write("b", 2, 2, 30), op("c", { "write", 3 }, 3),
      read("d", 1, 4, 5), read("d", 7, 6, 7), read("d", 0, 8, 9) }, register)
    assert.is_false(ok)
    assert.equal([[
not linearizable: no order of the operations explains #5 of client d { "read" } -> 7 [6 .. 7]
what returned before can be ordered; one order ends with
  #1 of client a { "write", 1 } -> true [0 .. 1]
  #4 of client d { "read" } -> 1 [4 .. 5]
state then: 1
still open: #2 of client b { "write", 2 } -> true [2 .. 30]
still open: #3 of client c { "write", 3 } [3 .. ] ]], explanation .. " ")
  end)

  it("lets a model say how its operations read", function()
    local model = { init = register.init, step = register.step, show = function(input, output)
      return input[1] .. "=" .. tostring(output)
    end }
    local _, explanation = linear.check({ read("a", 5, 0, 1) }, model)
    assert.matches("explains #1 of client a read=5 [0 .. 1]", explanation, 1, true)
  end)

  it("gives up after as many steps as it may take", function()
    local history = {}
    for i = 1, 12 do history[i] = write(i, i, 0, 100) end
    history[13] = read("r", 99, 101, 102)
    local ok, explanation = linear.check(history, register, { steps = 1000 })
    assert.is_nil(ok)
    assert.matches("not decided within 1000 steps: too many of 13 operations were open at the same time", explanation)
  end)

  it("raises for what is no history and no model", function()
    local function raises(text, ...)
      local ok, message = pcall(linear.check, ...)
      assert.is_false(ok)
      assert.matches(text, message, 1, true)
    end
    raises("history: a list expected, got nil", nil, register)
    raises("model.step: a function expected", {}, { init = register.init })
    raises("operation #1: called: a time expected, got nil", { { input = 1 } }, register)
    raises("operation #1: it returned before it was called", { { called = 2, returned = 1 } }, register)
    raises("operation #2: a table expected, got number", { read("a", 0, 0, 1), 5 }, register)
  end)

  -- A service that takes calls at a random moment between call and return: the history is good by construction.
  local function played(seed, clients, calls, faults)
    local state, random = 0, seed
    local function below(n)
      random = random * 0x5851f42d4c957f2d + 0x14057b7ef767814f
      return (random >> 33) % n
    end
    local history, busy = {}, {}
    for at = 1, calls * 3 do
      local client = below(clients) + 1
      local item = busy[client]
      if not item then
        local kind = below(3)
        item = op(client, kind == 0 and { "read" } or kind == 1 and { "write", below(5) }
          or { "cas", below(5), below(5) }, at)
        history[#history + 1], busy[client] = item, item
      elseif item.taken == nil then
        local input = item.input
        item.taken = input[1] ~= "cas" and true or state == input[2]
        if input[1] == "read" then item.taken = state end
        if input[1] == "write" then state = input[2] elseif input[1] == "cas" and item.taken then state = input[3] end
      elseif below(1000) < faults then
        busy[client] = nil -- nobody will ever know
      else
        item.returned, item.output, busy[client] = at, item.taken, nil
      end
    end
    return history
  end

  it("decides a history in which many calls never returned", function()
    local history = {}
    for i = 1, 40 do history[i] = op("a", { "write", i % 2 + 1 }, i) end
    for i = 1, 10 do history[40 + i] = read("b", i % 2 + 1, 50 + 2 * i, 51 + 2 * i) end
    assert.same({ true }, { linear.check(history, register) })
    history[51] = read("b", 3, 90, 91)
    assert.is_false((linear.check(history, register)))
  end)

  it("decides long histories of many clients", function()
    for seed = 1, 3 do
      local history = played(seed, 5, 3000, 2)
      assert.is_true(#history > 2000)
      assert.same({ true }, { linear.check(history, register) })
      -- One read, near the end, of what nobody ever wrote.
      history[#history + 1] = read("late", 77, 8000, 8001)
      local ok, explanation = linear.check(history, register)
      assert.is_false(ok)
      assert.matches(("explains #%d of client late"):format(#history), explanation, 1, true)
    end
  end)

  it("agrees with trying every order", function()
    -- All ways to take one after the other, each after those that returned before it was called.
    local function possible(history, taken, state)
      local must = false
      for i, item in ipairs(history) do
        local first = not taken[i]
        must = must or (first and item.returned ~= nil)
        for j, other in ipairs(history) do
          first = first and (taken[j] or not other.returned or other.returned >= item.called)
        end
        local ok, after = register.step(state, item.input, item.output)
        if first and ok then
          taken[i] = true
          local works = possible(history, taken, after)
          taken[i] = nil
          if works then return true end
        end
      end
      return not must
    end
    local good, bad = 0, 0
    for seed = 1, 400 do
      local history = played(seed, 3, 4, 100)
      for i, item in ipairs(history) do -- some results are changed
        local changed = (seed + i) % 2 == 0 and item.returned and item.input[1] == "read"
        if changed then item.output = (item.output + 1) % 5 end
      end
      local expected = possible(history, {}, 0)
      assert.equal(expected, (linear.check(history, register)))
      if expected then good = good + 1 else bad = bad + 1 end
    end
    assert.is_true(good > 50 and bad > 50, ("%d good, %d bad"):format(good, bad))
  end)
end)
