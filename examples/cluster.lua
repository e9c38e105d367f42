-- Three servers (examples/redis.lua) in the foreground, to play with: redis-cli -p 6401. Ctrl-C ends them.
--
--   lua5.4 examples/cluster.lua [DIR]
--
-- What they store stays in DIR (default: data/cluster): start again and it is still there. `make cluster` runs this.
local uv = require "luv"

local LUA = arg[-1] or "lua5.4"
local HERE = arg[0]:match("^(.*/)") or "./"
local dir = arg[1] or "data/cluster"
local ports = { "6401", "6402", "6403" }
local addresses = "127.0.0.1:7401,127.0.0.1:7402,127.0.0.1:7403"

local running, status, stopping = {}, 0, false

local function stop()
  stopping = true
  for process in pairs(running) do process:kill("sigterm") end
end

for id = 1, 3 do
  local process
  process = assert(uv.spawn(LUA, {
    args = { HERE .. "redis.lua", "--id", tostring(id), "--dir", dir .. "/" .. id, "--port", ports[id],
      "--cluster", addresses },
    stdio = { nil, 1, 2 },
    detached = true,           -- Ctrl-C is for this process: it tells them
  }, function(code, signal)
    running[process] = nil
    process:close()
    if code ~= 0 or signal ~= 0 then status = 1 end
    if not stopping then
      io.stderr:write(("server %d ended by itself (status %d, signal %d)\n"):format(id, code, signal))
      stop()
    end
    if next(running) == nil then os.exit(status) end
  end))
  running[process] = true
end

print("Ctrl-C ends the cluster.")
for _, name in ipairs { "sigint", "sigterm" } do uv.new_signal():start(name, stop) end
uv.run()
