-- A program that already lives in luv's loop, and gets a replicated counter of its ticks.
--
--   lua5.4 examples/luv_app.lua [DIR [TICKS]]
--
-- raft keeps a loop of its own; attach() lets luv's drive it. Calls with a callback return at once.
local raft = require "raft"
local uv = require "luv"

local ticks = {}
function ticks:init() self.n = 0 end
function ticks:apply(by)
  self.n = self.n + by
  return self.n
end

raft.attach(uv)

local dir, ticks_wanted = arg[1] or "data/luv_app", tonumber(arg[2]) or 5
local timer, proposed, answered = uv.new_timer(), 0, 0

raft.go(function()
  local node = assert(raft.node { id = 1, dir = dir, machine = ticks, cluster = { "127.0.0.1:7301" }, log = "warn" })

  local function on_answer(n, message)
    print(n and "tick " .. n or "not counted: " .. message)
    answered = answered + 1
    if answered == ticks_wanted then raft.go(function() node:close() end) end
  end

  timer:start(0, 100, function()                            -- the program's own work goes on in luv's callbacks
    node:propose(1, on_answer)
    proposed = proposed + 1
    if proposed == ticks_wanted then timer:close() end
  end)
end)

uv.run()                                                    -- returns when the node and the timer are closed
