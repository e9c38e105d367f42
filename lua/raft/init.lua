-- raft: fault-tolerant replicated state machines. This file is the face: everything that users call begins here.
local core = require "raft.core"
local loop = require "raft.loop"
local nodes = require "raft.node"

---A state machine: a plain table that is the same on every node, because the same commands are applied to it in the
---same order. apply must depend on nothing but its arguments and the instance: no clock, no random numbers, no order
---of pairs.
---@class raft.Machine
---@field init? fun(self: raft.Machine)  on a fresh instance, at each start
---@field query? fun(self: raft.Machine, q: any, index: integer, time: number): any, any  for reads by value
---@field apply fun(self: raft.Machine, cmd: any, index: integer, time: number): any, any  time: the leader's clock,
---Unix seconds, never falls
---@field snapshot? fun(self: raft.Machine): any  the state as one value, for restore; default: the instance's fields
---@field restore? fun(self: raft.Machine, value: any)
---@field save? fun(self: raft.Machine, write: fun(key: any, value: any))  instead: the state as records
---@field load? fun(self: raft.Machine, read: fun(): any, any, count: integer)  takes them, so many:
---for key, value in read do ... end
---@field version? integer  of the state; upgrade is called when a snapshot of another one has been restored
---@field upgrade? fun(self: raft.Machine, from: integer?, to: integer?)

---@class raft.node_options
---@field dir string                where this node keeps its log; no two nodes share one
---@field machine raft.Machine|string|fun(): raft.Machine  a prototype (each start makes a fresh instance that
---inherits from it and calls init), a function returning a fresh instance, or the name of a module that returns
---one of these
---@field id? integer               this member, above 0; not needed once dir knows it
---@field cluster? table<integer, string>  { [id] = "host:port" }, the first members, equal on all of them; read only
---while dir is empty; default: this node alone
---@field join? string[]            instead of cluster and id: members' addresses, to be asked for a place. The node
---gets an id that was never used, learns, catches up, and votes. Needs listen. Once dir knows the id it only says that
---a node which has no vote when it starts shall ask for one
---@field voter? boolean            false, with join: it stays a learner, which follows and has no vote
---@field listen? string            "host:port"; default: cluster[id]
---@field name? string              of the cluster; default "raft"
---@field timeout? number           seconds, of waiting calls; default 5
---@field election_timeout? number  seconds without a leader before another one is elected; default 1
---@field heartbeat? number         seconds, below half of that; default 0.1
---@field host_timeout? number      seconds for which this program may leave a leading node's commands unapplied before
---another member takes over, one that is ahead; default 10
---@field lease? boolean            reads may rest on the leader's lease, if they ask for it. Only where the clocks of
---the members run apart by less than a tenth while election_timeout goes by; the same on all of them; default false
---@field priority? integer         who shall rather lead: -1000 to 1000; default 0
---@field pending? integer          most calls of this node under way; default 16384
---@field pending_bytes? integer    most bytes of them; default 64 MiB
---@field command_bytes? integer    largest packed command; default 1 MiB
---@field cache_bytes? integer      memory for the log: entries, and what is on its way; default 64 MiB
---@field snapshot? { bytes: integer?, entries: integer?, keep: integer?, background: boolean? }  after so many bytes or
---entries of log one is taken (0: not for that), of the log keep entries stay; background: in a child process
---@field on_apply_error? "continue"|"halt"  what an apply that raises does to the node; default "continue"
---@field repair? "rejoin"          a directory that is damaged is set aside; one that was emptied, or is an old copy of
---itself, is another one from then on: the node has no vote, is refilled by the leader, and gets its vote back when it
---has caught up. For that the others must be a majority without it. Default: such a node is refused
---@field log? "debug"|"info"|"warn"|"error"|false|fun(level: string, text: string, fields: table)  default: "info"
---and above, to stderr

---Why something failed: the third value. raft.outcome tells whether the command was applied all the same.
---@alias raft.code
---| "no_leader"  # none was known in time
---| "busy"       # too many calls are under way, or the leader could not do it yet
---| "too_large"  # more bytes than command_bytes
---| "full"       # the leader's disk has no room
---| "conflict"   # a change of the members that makes no sense as things are
---| "removed"    # this node is no member any more
---| "refused"    # a later life of this node has taken over
---| "closed"     # the node is closed
---| "fault"      # the node has stopped itself
---| "query"      # the function given to read or wait raised
---| "timeout"    # no answer in time
---| "unknown"    # the node stopped while the command was under way
---| "expired"    # the client's session is gone, or has gone on: an earlier try may have been applied
---| "no_result"  # applied, but a snapshot has overtaken what apply returned here
---| "apply"      # apply raised: counted as applied, everywhere
---| "locked"     # raft.node: another process has the directory open
---| "address"    # raft.node: cannot listen there
---| "foreign"    # raft.node: the directory is another node's or cluster's
---| "corrupt"    # raft.node: the log has rotted
---| "version"    # raft.node: the directory is of a newer version
---| "io"         # raft.node: the operating system refused
---| "invalid"    # raft.node: the directory is empty and no id was given
---| "memory"     # out of memory

---@class raft
---@field _VERSION string
local raft = {
  _VERSION = "raft " .. core.version,
  run = loop.run, stop = loop.stop, go = loop.go, sleep = loop.sleep, after = loop.after, attach = loop.attach,
  pollfd = loop.pollfd, events = loop.events, timeout = loop.timeout, step = loop.step,
}

---Starts a node: recovers its directory, listens, applies its log again. Waits for that, not for a leader. nil,
---message, code when it cannot start. Options that are unknown or of a wrong type raise.
---@async
---@param options raft.node_options
---@param callback? fun(node: raft.Node?, message: string?, code: raft.code?)
---@return raft.Node? node
---@return string? message
---@return raft.code? code
function raft.node(options, callback)
  return nodes.new(options, callback)
end

---@class raft.sim_options
---@field machine string|fun(): raft.Machine  a module's name, or a function that makes it and has captured nothing
---@field nodes? integer    1 to 9; default 3
---@field seed? integer     decides everything that happens; default 1
---@field seeds? integer    runs so many, from seed on; default 1
---@field faults? "all"|string[]|false  what the seeds bring upon the cluster: network partitions links crashes pauses
---clocks disks rot wipes; default false: only what the test does
---@field node? table       options of raft.node for each of them, such as election_timeout; by default it logs nothing
---@field trace? string     path of an HTML file, in which a failure is drawn

---Runs body(sim) on a simulated cluster, for each seed. Raises when the test fails, when the machine turns out to be
---not deterministic, or when a promise of raft is broken, with the seed and the line that replays it: RAFT_SEED=... in
---the environment runs that seed alone. See raft.Sim.
---@param options raft.sim_options
---@param body fun(sim: raft.Sim): ...
---@return any ... what body returned the last time
function raft.sim(options, body)
  return require "raft.sim".run(options, body)
end

local OUTCOMES = {
  no_leader = "no", busy = "no", too_large = "no", full = "no", refused = "no", closed = "no", fault = "no",
  conflict = "no", removed = "no",
  query = "no", locked = "no", address = "no", foreign = "no", corrupt = "no", version = "no", io = "no",
  invalid = "no", memory = "no", timeout = "maybe", unknown = "maybe", expired = "maybe",
  apply = "yes", no_result = "yes",
}

---Was the command applied? "no": certainly not; "maybe"; "yes", also when nothing failed (code nil).
---@param code raft.code?
---@return "no"|"maybe"|"yes"
function raft.outcome(code)
  if code == nil then return "yes" end
  return OUTCOMES[code] or error("raft.outcome: unknown code " .. tostring(code), 2)
end

---Packs a value as commands are packed: equal values give equal bytes. Raises for what cannot be packed, naming its
---path.
---@param value any
---@return string
function raft.pack(value)
  return core.pack(value)
end

---@param data string
---@return any value
---@return string? message
---@return string? code "corrupt" when data is no packed value
function raft.unpack(data)
  return core.unpack(data)
end

---An empty table with room for n keys, for what a machine's load is about to fill. A table that grows is moved by Lua
---in one go each time it doubles, and the program stands still meanwhile.
---@param n integer
---@return table
function raft.table(n)
  if math.type(n) ~= "integer" or n < 0 or n > 0x7fffffff then
    error("raft.table: a number of keys expected, got " .. tostring(n), 2)
  end
  return core.table(n)
end

local function key_before(a, b)
  local x, y = type(a), type(b)
  if x ~= y then return x < y end
  if x == "boolean" then return not a and b end
  return a < b
end

---Like pairs, in an order that is the same everywhere: booleans, numbers, strings, each ascending. Other keys raise.
---@generic K, V
---@param t table<K, V>
---@return fun(): K, V
function raft.spairs(t)
  local keys = {}
  for key in pairs(t) do
    local kind = type(key)
    if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
      error(("raft.spairs: a key is a %s, which has no order"):format(kind), 2)
    end
    keys[#keys + 1] = key
  end
  table.sort(keys, key_before)
  local i = 0
  return function()
    i = i + 1
    local key = keys[i]
    if key ~= nil then return key, t[key] end
  end
end

return raft
