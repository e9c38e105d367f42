-- A bank of three machines that behave as one. In three terminals:
--
--   lua5.4 examples/bank.lua 1
--   lua5.4 examples/bank.lua 2
--   lua5.4 examples/bank.lua 3
--
-- Two of them are enough to go on: kill any one of them at any time, and start it again. Each deposits ten coins a
-- second; a second argument says how often.
local raft = require "raft"

local bank = {}                              -- the replicated state machine: plain Lua
function bank:init() self.accounts = {} end
function bank:apply(cmd, index, time)        -- on every node, in the same order; time: leader's clock, never falls
  local a = self.accounts
  local balance = (a[cmd.name] or 0) + cmd.amount
  if balance < 0 then return nil, "not enough money" end
  a[cmd.name] = balance
  return balance
end

local id = assert(tonumber(arg[1]), "usage: lua5.4 examples/bank.lua 1|2|3")
raft.run(function()
  local node <close> = assert(raft.node {
    id = id, dir = "data/" .. id, machine = bank,
    cluster = { "127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003" },   -- id -> address
  })
  for _ = 1, tonumber(arg[2]) or math.huge do
    print(node:propose { name = "ada", amount = 10 })                     -- on any node
    print(node:read(function(m) return m.accounts.ada end))               -- linearizable
    raft.sleep(1)
  end
end)
