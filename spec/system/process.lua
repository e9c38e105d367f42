-- Real processes for specs: started under the build that is being tested, talked to by lines, and never left behind.
local uv = require "luv"

local process = {}
local Process = {}
Process.__index = Process

local LIMIT_S = 60             -- of one wait: more than any machine needs; never what a spec measures
local living = {}

---A timer that is closed when its variable goes out of scope, whatever happens.
local function timer(first_ms, repeat_ms, fn)
  local handle = uv.new_timer()
  uv.update_time()             -- the loop may have stood still for longer than the timer is to run
  handle:start(first_ms, repeat_ms, fn)
  return setmetatable({}, { __close = function() handle:close() end })
end

---Runs the loop until condition() holds; its values. Raises after limit seconds (a minute), saying what was waited for.
function process.wait_until(condition, what, limit)
  local late = false
  limit = limit or LIMIT_S
  local clock <close> = timer(limit * 1000, 0, function() late = true end)     -- luacheck: ignore
  local tick <close> = timer(5, 5, function() end)                             -- luacheck: ignore
  local values = table.pack(condition())
  while not values[1] and not late do
    uv.run("once")
    values = table.pack(condition())
  end
  if values[1] then return table.unpack(values, 1, values.n) end
  local outputs = {}
  for p in pairs(living) do
    outputs[#outputs + 1] = ("---- %s\n%s"):format(p.name, p.output:gsub("\n= [^\n]*", ""):sub(-3000))
  end
  error(("waited %d s for %s, in vain\n%s"):format(limit, what, table.concat(outputs, "\n")), 2)
end

function process.sleep(seconds)
  local over = false
  local nap <close> = timer(math.floor(seconds * 1000), 0, function() over = true end)   -- luacheck: ignore
  while not over do uv.run("once") end
end

local function read(p, pipe)
  pipe:read_start(function(_, text)
    if text then
      p.output = p.output .. text
    else
      pipe:close()
      p.open = p.open - 1
    end
  end)
end

---Starts a program: { "program", "argument", ... , env = { NAME = value } }. Its standard and error output together are
---p.output.
function process.start(command)
  local env = uv.os_environ()
  for name, value in pairs(command.env or {}) do env[name] = value end
  local list = {}
  for name, value in pairs(env) do list[#list + 1] = name .. "=" .. value end
  local input, output, errors = uv.new_pipe(), uv.new_pipe(), uv.new_pipe()
  local p = setmetatable({ name = table.concat(command, " "):sub(1, 200), input = input, output = "", open = 2 },
    Process)
  local handle, pid = uv.spawn(command[1], {
    args = { table.unpack(command, 2) }, env = list, stdio = { input, output, errors }, cwd = command.cwd,
  }, function(code, signal)
    p.code, p.signal = code, signal
    p.handle:close()
    p:close_input()
  end)
  p.handle, p.pid = assert(handle, pid), pid
  read(p, output)
  read(p, errors)
  living[p] = true
  return p
end

---Starts the interpreter with the module of the build under test. as: words before it, such as another user's.
function process.lua(command)
  local build = os.getenv("RAFT_BUILD") or "plain"
  local preload = { os.getenv("RAFT_PRELOAD"), }
  preload[#preload + 1] = command.preload
  local env = {
    LUA_PATH = uv.cwd() .. "/?.lua;" .. uv.cwd() .. "/lua/?.lua;" .. uv.cwd() .. "/lua/?/init.lua;;",
    LUA_CPATH = uv.cwd() .. "/build/" .. build .. "/?.so;;",
    LD_PRELOAD = preload[1] and table.concat(preload, " "),
  }
  for name, value in pairs(command.env or {}) do env[name] = value end
  local words = { "lua5.4", env = env, cwd = command.cwd, table.unpack(command) }
  if command.as then
    table.insert(words, 1, "env")                      -- the sanitizer's runtime is for the interpreter alone
    table.insert(words, 2, "LD_PRELOAD=" .. (env.LD_PRELOAD or ""))
    table.move(words, 1, #words, #command.as + 1)
    table.move(command.as, 1, #command.as, 1, words)
    env.LD_PRELOAD = nil
  end
  return process.start(words)
end

function Process:ended() return self.code ~= nil and self.open == 0 end

---Waits until the output has the pattern; returns its captures. limit: seconds, of a program with limits of its own.
function Process:expect(pattern, limit)
  process.wait_until(function() return self.output:find(pattern) or self:ended() end,
    ("%q from %s"):format(pattern, self.name), limit)
  if not self.output:find(pattern) then
    error(("%s ended (status %s, signal %s) and never said %q:\n%s"):format(self.name, self.code, self.signal, pattern,
      self.output), 2)
  end
  return self.output:match(pattern)
end

function Process:write(text) self.input:write(text) end
function Process:close_input() if not self.input:is_closing() then self.input:close() end end
function Process:kill(signal) if not self.code then self.handle:kill(signal) end end

---Waits for the end: status, signal.
function Process:wait()
  process.wait_until(function() return self:ended() end, "the end of " .. self.name)
  living[self] = nil
  return self.code, self.signal
end

---Is a process there that could start others? What is stopped cannot, nor what has ended.
local function is_running(pid)
  local file = io.open(("/proc/%d/stat"):format(pid))
  if not file then return false end
  local state = (file:read("a") or ""):match("^.*%) (%S)")
  file:close()
  return state ~= nil and not ("TtZX"):find(state)
end

---Stops a process and all that it has started, and what that has: their pids. One that runs could start another one
---that is not seen.
local function stop_all(pid, list)
  list[#list + 1] = pid
  if uv.kill(pid, "sigstop") then process.wait_until(function() return not is_running(pid) end, "a process to stop") end
  for name in uv.fs_scandir_next, assert(uv.fs_scandir("/proc")) do
    local file = tonumber(name) and io.open(("/proc/%s/stat"):format(name))
    if file then
      local parent = (file:read("a") or ""):match("^.*%) %S (%d+)")
      file:close()
      if tonumber(parent) == pid then stop_all(math.tointeger(tonumber(name)), list) end
    end
  end
  return list
end

---Kills what is still there, with all that it has started, and lets the loop finish what is closing (luv 1.44 crashes
---when a state is closed before that). For after_each.
function process.clean()
  for p in pairs(living) do
    for _, pid in ipairs(p.code and {} or stop_all(p.pid, {})) do uv.kill(pid, "sigkill") end
    p:wait()
  end
  uv.walk(function(handle)
    if not handle:is_closing() then handle:close() end
  end)
  while uv.loop_alive() do uv.run("once") end
end

---A program's whole output and its status, once it has ended; as in a shell, 128 + the signal that ended it.
function process.run(command)
  local p = (command[1] == "lua5.4" and process.lua or process.start)(
    command[1] == "lua5.4" and { env = command.env, cwd = command.cwd, table.unpack(command, 2) } or command)
  p:close_input()
  local code, signal = p:wait()
  return p.output, signal ~= 0 and 128 + signal or code
end

---A new directory, removed by process.remove.
function process.directory()
  return assert(uv.fs_mkdtemp((os.getenv("TMPDIR") or "/tmp") .. "/raft-spec.XXXXXX"))
end

function process.remove(dir) assert(os.execute(("chmod -R u+rwx '%s'; rm -rf '%s'"):format(dir, dir))) end

---n addresses on 127.0.0.1 that nobody listens on. Below those that outgoing connections get, which else may take one
---while its process is being restarted.
function process.addresses(n)
  local list, held = {}, {}
  while #list < n do
    local tcp, port = uv.new_tcp(), math.random(10000, 32000)
    local free = tcp:bind("127.0.0.1", port) and tcp:listen(1, function() end)
    if free then list[#list + 1] = "127.0.0.1:" .. port end
    held[#held + 1] = tcp
  end
  local closed = 0
  for _, tcp in ipairs(held) do tcp:close(function() closed = closed + 1 end) end
  process.wait_until(function() return closed == #held end, "sockets to close")
  return list
end

return process
