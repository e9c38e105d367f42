-- The loop of a Lua state: steps its nodes, runs its coroutines and timers, waits on one descriptor.
--
-- One turn takes what came in for each node (their machines' apply runs there), then timers, then everything that
-- became ready meanwhile: coroutines are resumed and callbacks called one after the other, never from inside a
-- machine. Nothing here polls: between turns it sleeps until the descriptor is readable or the next timer is due.
local core = require "raft.core"

local now, running, isyieldable, type = core.now, coroutine.running, coroutine.isyieldable, type

local loop = {}

local STEP_ENTRIES = 256   -- applied by one node before others get their turn. As FEW of csrc/lua/lua_node.c: who has
                           -- so many commands under way shall be done with them in one turn, and seem to rest then
local QUEUES_MAX = 8       -- distinct timeouts with a queue of their own
local CANCEL_S = 1         -- how long a cancelled call may take to tell what became of it

local nodes = {}                              ---@type raft.Node[]
local ours = setmetatable({}, { __mode = "k" }) ---@type table<thread, boolean> started by go
local busy = false         -- inside a turn: the main thread cannot pump another one
local again = false        -- the next turn has work already
local attached             -- the library whose loop drives this one
local asleep               -- set while the loop of an attached library is not kept alive by us
local failure              -- { error }, of a coroutine or callback, until whoever drives the loop takes it

---Reports an error of a coroutine, a callback or a handler to whoever drives the loop.
function loop.fail(err)
  again = true   -- who could not be told is told in the next turn
  if not failure then
    failure = { err }
  else
    io.stderr:write("raft: another error: ", tostring(err), "\n")
  end
end

local function take_failure()
  local taken = failure
  failure = nil
  return taken
end

local function print_failure()
  local taken = take_failure()
  if taken then io.stderr:write("raft: ", tostring(taken[1]), "\n") end
end

---Error objects that are no strings (of a test library) are kept as they are.
local function with_traceback(err)
  return type(err) == "string" and debug.traceback(err, 2) or err
end

-- ---- who waits, and who is ready (csrc/lua/lua_line.h) ----

---The main chunk pumps until its box says so.
local function tell_box(box, ...)
  box.done, box.answer = true, table.pack(...)
end

---co nil: a callback raised.
local function call_failed(co, err)
  if not co then return loop.fail(err) end
  if not ours[co] then return end   -- main, closed while it waited: nobody is there any more
  if err == nil then
    err = "a coroutine of raft.go has called coroutine.yield itself: raft.sleep and the waiting calls do that"
  end
  err = type(err) == "string" and debug.traceback(co, err) or err
  ours[co] = nil
  coroutine.close(co)   -- its to-be-closed variables
  loop.fail(err)
end

local line = core.line(ours, tell_box, call_failed, with_traceback)
local run_ready, ready, park, inside, hold = line.run, line.ready, line.park, line.inside, line.hold

---Can the running coroutine wait here, by a call of core's that parks it?
loop.may_park = line.may_park

---Puts somebody in line who is resumed, called or told with these values in this turn or the next.
---@param waiter thread|function|table
local function push(waiter, a, b, c)
  line.push(waiter, a, b, c)
  if asleep then asleep() end
end
loop.push = push

-- ---- timers: a binary heap; equal times in the order in which they were set ----

local heap, order = {}, 0

local function earlier(x, y)
  if x.at ~= y.at then return x.at < y.at end
  return x.order < y.order
end

---Calls fn(a, b) at a time of the monotonic clock, from inside the loop itself (not for code of users).
local function set_timer(at, fn, a, b)
  order = order + 1
  local timer, i = { at = at, order = order, fn = fn, a = a, b = b }, #heap + 1
  while i > 1 and earlier(timer, heap[i // 2]) do
    heap[i] = heap[i // 2]
    i = i // 2
  end
  heap[i] = timer
  if asleep then asleep() end
end
loop.set_timer = set_timer

local function pop_timer()
  local first, n = heap[1], #heap
  local last = heap[n]
  heap[n] = nil
  n = n - 1
  if n == 0 then return first end
  local i = 1
  while 2 * i <= n do
    local child = 2 * i
    if child < n and earlier(heap[child + 1], heap[child]) then child = child + 1 end
    if not earlier(heap[child], last) then break end
    heap[i] = heap[child]
    i = child
  end
  heap[i] = last
  return first
end

-- ---- deadlines of other waiting calls than proposals, reads and barriers (csrc/lua/lua_calls.c) ----
-- Thousands a second, nearly all with the same timeout, nearly all done before it: for each distinct timeout a queue in
-- order of time, of which only the head is looked at.

local queues, queue_count = {}, 0

local function give_up(node, key)
  local waiter = node.open[key]
  if not waiter then return end
  push(waiter, nil, "no answer in time; the command may still be applied", "timeout")
  node.open[key] = nil
end

local function expire(node, key)
  local waiter = node.open[key]
  if not waiter then return end
  if math.type(key) == "integer" then   -- asked of the leader: its node finds out what became of it
    node.core:cancel(key)
    set_timer(now() + CANCEL_S, give_up, node, key)
  else
    push(waiter, nil, key.expired(node))
    node.open[key] = nil
  end
end

---Doubles a queue: rings in tables, since keys that only ever grow would have Lua resize them again and again.
local function grow(queue)
  local size, mask, first = 2 * (queue.mask + 1), queue.mask, queue.head
  local function moved(old)
    local new = {}
    for i = 0, size - 1 do new[i] = i <= mask and old[(first + i) & mask] end
    return new
  end
  local at, node, key = moved(queue.at), moved(queue.node), moved(queue.key)
  queue.at, queue.node, queue.key, queue.head, queue.mask = at, node, key, 0, size - 1
end

---The call `key` of node (node.open[key]) ends after timeout seconds.
---@param node raft.Node
---@param key integer|table
---@param timeout number
function loop.deadline(node, key, timeout)
  local queue = queues[timeout]
  if not queue then
    if queue_count == QUEUES_MAX then return set_timer(now() + timeout, expire, node, key) end
    queue = { head = 0, count = 0, mask = 0, at = {}, node = {}, key = {} }
    queues[timeout], queue_count = queue, queue_count + 1
  end
  local count = queue.count
  if count > queue.mask then grow(queue) end
  local i = (queue.head + count) & queue.mask
  queue.count, queue.at[i], queue.node[i], queue.key[i] = count + 1, now() + timeout, node, key
end

---Drops what has ended from the head of a queue, ends what is due; returns when the next one is.
local function check_queue(queue, time)
  local ats, owners, keys, mask = queue.at, queue.node, queue.key, queue.mask
  while queue.count > 0 do
    local i = queue.head
    local node, key = owners[i], keys[i]
    local is_open = node.open[key]
    if is_open and ats[i] > time then return ats[i] end
    owners[i], keys[i] = false, false
    queue.head, queue.count = (i + 1) & mask, queue.count - 1
    if is_open then expire(node, key) end
  end
end

local function run_timers()
  for i = #nodes, 1, -1 do nodes[i].core:expire() end
  if not heap[1] and queue_count == 0 then return end
  local time = now()
  while heap[1] and heap[1].at <= time do
    local timer = pop_timer()
    timer.fn(timer.a, timer.b)
  end
  for _, queue in pairs(queues) do check_queue(queue, time) end
end

---Seconds until this loop has something to do by itself: 0 now, nil never.
---@return number?
local function timeout()
  if again or ready() > 0 then return 0 end
  local due, time = heap[1] and heap[1].at, now()
  for _, queue in pairs(queues) do
    local at = check_queue(queue, time)
    if at and (not due or at < due) then due = at end
  end
  local wait = due and math.max(0, due - time)
  for _, node in ipairs(nodes) do
    local s = node.core:expire()
    if s and (not wait or s < wait) then wait = s end
  end
  if ready() > 0 then return 0 end   -- a call has just expired
  return wait
end
loop.timeout = timeout

-- ---- turns ----

local function step_node(node)
  local more = node.core:step(STEP_ENTRIES)
  node:after_step()
  if node.ended then
    for i = #nodes, 1, -1 do
      if nodes[i] == node then table.remove(nodes, i) end
    end
    node.core:destroy()
  end
  return more
end

local function turn_body()
  again = false
  local more = false
  for i = #nodes, 1, -1 do
    local node = nodes[i]   -- nil: what was stepped before has closed others
    if node and step_node(node) then more = true end
  end
  run_timers()
  run_ready()
  again = again or more
end

---Hands over what was proposed meanwhile, all of it together: one batch costs little more than one command.
local function flush()
  for _, node in ipairs(nodes) do node.core:flush() end
end

---One turn. Interrupted by an error (of a debug hook: nothing else raises here), the loop can be driven on.
local function turn()
  busy = true
  hold(true)
  local ok, err = pcall(turn_body)
  flush()
  hold(attached ~= nil)
  busy = false
  if not ok then error(err, 0) end
end

---Adds a node, which is stepped until it has ended.
function loop.register(node)
  nodes[#nodes + 1] = node
  if asleep then asleep() end
end

---Steps one node alone until it has ended: no coroutine and no callback runs meanwhile. For places that must wait and
---cannot yield, such as a coroutine that is being closed.
function loop.drain(node)
  if node.core:stepping() then return end   -- its own machine is below us
  local was = busy
  busy = true
  while not node.ended do
    local more = step_node(node)
    flush()
    if not node.ended then core.poll(more and 0 or nil) end   -- who has more to do is told of nothing new
    local signal = core.signal()
    if signal then os.exit(signal == "SIGINT" and 130 or 143) end   -- the second one: it cannot wait
  end
  busy, again = was, true   -- what the descriptor said was perhaps for others
end

-- ---- waiting ----

local ELSEWHERE = "%s cannot wait %s: %s"

---The main thread is free to turn the loop: it is neither in a turn nor in a callback of the attached library.
local function can_pump()
  return not busy and not (attached and attached.loop_mode and attached.loop_mode())
end

---Is the body of raft.sim running now? Nothing real may be waited for there. Returns what was said before.
---@param on boolean
function loop.simulate(on) return line.simulated(on) end

---Raises inside the body of raft.sim.
local function refuse_simulated(name)
  if line.simulated() then
    error(name .. " is of the real world: inside raft.sim use sim:run, sim:go and the nodes sim[1], ...", 3)
  end
end

---Who waits for an answer: the callback, our coroutine, or the main chunk (a box). Raises where nothing can wait.
---Precondition of `wait`, before anything is handed over.
---@param callback function?
---@param name string for the message
---@param level integer? of the error: whose line is named
---@return thread|function|table waiter
function loop.waiter(callback, name, level)
  if inside() then
    error(ELSEWHERE:format(name, "inside apply or a function given to read",
      "use the applied event, or raft.go from there"), level or 3)
  end
  if line.simulated() then
    error(ELSEWHERE:format(name, "inside raft.sim", "use sim:run, sim:go and the nodes sim[1], ..."), level or 3)
  end
  if callback then return callback end
  local co, main = running()
  if ours[co] then
    if isyieldable() then return co end
    error(ELSEWHERE:format(name, "here",
      "it is called through something that cannot yield (table.sort, string.gsub, require, ...)"), level or 3)
  end
  if main and can_pump() then return {} end
  error(ELSEWHERE:format(name, main and "inside a callback" or "in a coroutine that raft.go did not start",
    "pass a callback as the last argument, or use raft.go"), level or 3)
end

---Can the caller wait here, as loop.waiter would have it?
function loop.can_wait()
  if inside() then return false end
  local co, main = running()
  if ours[co] then return isyieldable() end
  return main and can_pump()
end

---Sleeps until something comes in or a timer is due. A single node's engine may use this thread meanwhile.
local function sleep()
  core.poll(timeout(), not nodes[2] and nodes[1] and nodes[1].core)
end

local function pump(box)
  while not box.done do
    flush()   -- if the loop of an attached library holds it back
    sleep()
    turn()
    print_failure()
  end
  return table.unpack(box.answer, 1, box.answer.n)
end

---Waits until somebody pushes the waiter; returns what was pushed. A callback does not wait.
---@async
function loop.wait(waiter)
  local kind = type(waiter)
  if kind == "thread" then return park() end
  if kind == "table" then return pump(waiter) end
end

-- ---- the public part ----

local driving = false      -- raft.run is running
local stopped              -- why it shall end

local function check_seconds(s, name)
  if type(s) ~= "number" or s < 0 or s ~= s then
    error(("%s: seconds expected, got %s"):format(name, type(s) == "number" and s or type(s)), 3)
  end
end

local function check_function(fn, name)
  if type(fn) ~= "function" then error(("%s: a function expected, got %s"):format(name, type(fn)), 3) end
end

local function spawn(fn)
  local co = coroutine.create(fn)
  ours[co] = true
  return co
end

---Starts a coroutine in which waiting calls may be made; it runs in the next turn of the loop.
---@param fn async fun(...)
function loop.go(fn, ...)
  check_function(fn, "raft.go")
  refuse_simulated("raft.go")
  local arguments = table.pack(...)
  push(spawn(function() fn(table.unpack(arguments, 1, arguments.n)) end))
end

---Waits for s seconds.
---@async
---@param s number
function loop.sleep(s)
  check_seconds(s, "raft.sleep")
  local waiter = loop.waiter(nil, "raft.sleep")
  set_timer(now() + s, push, waiter)
  loop.wait(waiter)
end

---Calls fn after s seconds, from the loop (where waiting calls need raft.go).
---@param s number
---@param fn fun()
function loop.after(s, fn)
  check_seconds(s, "raft.after")
  refuse_simulated("raft.after")
  check_function(fn, "raft.after")
  set_timer(now() + s, push, fn)
end

---Ends raft.run, which returns "stop".
function loop.stop()
  stopped = stopped or "stop"
  again = true
end

---@param outcome { results: table? } set when main has returned
local function drive(outcome)
  while not (outcome.results or stopped or failure) do
    if attached then
      attached.run("once")
    else
      sleep()
      turn()
    end
    stopped = core.signal() or stopped
  end
end

---Closes what main left open; its error, if that raises.
local function close_main(co)
  local ok, err = true, nil
  if co then ok, err = coroutine.close(co) end
  if co then ours[co] = nil end
  if not ok then loop.fail(err) end
end

---Runs the loop: until main returns, whose results it returns; until raft.stop ("stop"); until SIGINT or SIGTERM, which
---close main's to-be-closed variables (a second one kills). Errors of main, coroutines and callbacks are raised here.
---@param main async fun(): ...
---@return any ...
---@overload fun(): "stop"|"SIGINT"|"SIGTERM"
function loop.run(main)
  if main ~= nil then check_function(main, "raft.run") end
  refuse_simulated("raft.run")
  if driving then error("raft.run is already running", 2) end
  if busy or inside() then error("raft.run cannot be called from inside the loop", 2) end
  core.signals(true)
  driving, stopped = true, nil
  local outcome, co = {}, nil
  if main then
    co = spawn(function() outcome.results = table.pack(main()) end)
    push(co)
  end
  local ok, err = pcall(drive, outcome)
  local reason = stopped
  close_main(co)
  core.signals(false)
  driving, stopped = false, nil
  local failed = take_failure()
  if not ok then error(err, 0) end
  if failed then error(failed[1], 0) end
  local results = outcome.results
  if results then return table.unpack(results, 1, results.n) end
  return reason
end

---For loops of others: wait until pollfd is readable (events "r") or timeout seconds (nil: for ever) have gone, then
---call step. `cqueues.poll(raft)` works: a self argument is ignored.
---@return integer
function loop.pollfd() return core.fd() end

---@return string
function loop.events() return "r" end

---Takes what came in, runs what is ready, never waits. Raises errors of coroutines and callbacks.
function loop.step()
  if busy then error("raft.step cannot be called from inside the loop", 2) end
  core.poll(0)
  turn()
  local failed = take_failure()
  if failed then error(failed[1], 0) end
end

-- ---- luv ----

---Drives this loop from luv's, through luv's public functions alone: each library keeps a loop of its own (the two may
---even be linked with different libuvs).
local function attach_luv(uv)
  local poll, prepare, timer = uv.new_poll(core.fd()), uv.new_prepare(), uv.new_timer()
  local handles = { poll, prepare, timer }
  local awake = true

  local function wake(on)
    awake = on
    for _, handle in ipairs(handles) do
      if on then handle:ref() else handle:unref() end
    end
    asleep = not on and function() wake(true) end or nil
  end

  local function run_turn()
    if busy then return end
    core.poll(0)
    turn()
    if not driving then print_failure() end
  end

  prepare:start(function()
    if timeout() == 0 then run_turn() end
    flush()   -- what callbacks of the library proposed
    local wait = timeout()
    uv.update_time()
    if wait then timer:start(math.ceil(wait * 1000), 0, run_turn) else timer:stop() end
    local alive = driving or wait ~= nil or #nodes > 0
    if alive ~= awake then wake(alive) end
  end)
  poll:start("r", run_turn)
end

---Attaches this loop to that of luv: uv.run() then drives both, raft.run too. Other libraries: see raft.pollfd.
---@param library table what require "luv" returned
function loop.attach(library)
  if type(library) ~= "table" or not (library.new_poll and library.new_prepare) then
    error("raft.attach: expected the luv module; other loops use raft.pollfd, events, timeout and step", 2)
  end
  if attached and attached ~= library then error("raft.attach: another loop is attached already", 2) end
  if attached then return end
  attached = library
  hold(true)
  attach_luv(library)
end

return loop
