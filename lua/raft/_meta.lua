---@meta raft.core
-- The C half, as the Lua half sees it. Not part of the public face: use `require "raft"`.
-- Times are seconds (floats), sizes bytes. Failures are `nil, message, code`; misuse raises.

---@class raft.core
---@field version string
local core = {}

-- ---- loop (lua_loop.c): one pollable descriptor a Lua state ----

---The descriptor that is readable when a node of this state, or a signal, has something for the host.
---@return integer
function core.fd() end

---Waits until the descriptor is readable, or timeout seconds (nil: for ever); then makes it unreadable again.
---@param timeout number?
---@return boolean readable
function core.poll(timeout) end

---Monotonic clock.
---@return number seconds
function core.now() end

---Catches SIGINT and SIGTERM (true) or gives back the handlers that were there before (false). A second signal while
---one is untaken ends the process as the signal by default does.
---@param on boolean
function core.signals(on) end

---Takes the signal that came in, if any.
---@return "SIGINT"|"SIGTERM"|nil
function core.signal() end

---An address with a free TCP port on 127.0.0.1, for specs: bound and let go.
---@return string address
function core.free_address() end

-- ---- values (lua_pack.c) ----

---Canonical MessagePack: integers and floats stay apart, keys are sorted. Raises for what cannot be packed, naming the
---path below `what`.
---@param value any
---@param what string? default "value"
---@return string
function core.pack(value, what) end

---@param data string
---@return any value, string? message, string? code  nil, message, "corrupt" when data is no packed value
function core.unpack(data) end

-- ---- node (lua_node.c) ----

---@class raft.core.options
---@field id integer? 0 or nil: as the directory knows
---@field dir string
---@field name string
---@field members { id: integer, address: string }[]
---@field listen string?
---@field election_timeout number
---@field heartbeat number
---@field pending integer
---@field pending_bytes integer
---@field command_bytes integer
---@field cache_bytes integer

---What a node calls, always from node:step (never from another method), on a Lua thread of the node's own that has no
---hook. All run under a protected call; an error in one of them other than apply is handed to `failed`.
---@class raft.core.callbacks
---@field machine table   the instance
---@field apply function  called as apply(machine, cmd, index, time)
---@field result fun(sequence: integer, a: any, b: any)  what apply returned for a proposal of this node
---apply raised; sequence 0: not ours
---@field raised fun(sequence: integer, index: integer, message: string, traceback: string)
---after each apply that did not raise; read anew at each step, so that it may be set and cleared
---@field applied (fun(index: integer, time: number, cmd: any, a: any, b: any))?
---ended without apply; code nil: a barrier has been passed, at index
---@field done fun(sequence: integer, code: string?, message: string?, index: integer)
---@field started fun(code: string?, message: string?)
---@field changed fun()   role, leader, term, ready, phase, disk, fault or a peer's connection differ from the last call
---the machine cannot go on: stack overflow, out of memory, or apply raised and stop_on_error
---@field halted fun(message: string)
---@field closed fun()
---@field failed fun(message: string)  a callback raised

---@class raft.core.node
local node = {} -- luacheck: ignore 241

---Starts a node's threads; started() tells how it went. Raises for ill-typed options; nil, message, code when threads
---or memory cannot be had.
---@param options raft.core.options
---@param callbacks raft.core.callbacks
---@param stop_on_error boolean? an apply that raises halts the node
---@return raft.core.node?, string? message, string? code
function core.node(options, callbacks, stop_on_error) end

---Packs and proposes. Raises for what cannot be packed (naming the path below "cmd").
---@return integer? sequence, string? message, string? code  busy too_large closed fault
function node:propose(cmd) end
---@return integer? sequence, string? message, string? code
function node:barrier() end
---@param sequence integer
function node:cancel(sequence) end
---Takes what came in and calls the callbacks; applies at most n commands. Raises inside a callback of its own.
---@param n integer
---@return boolean more  call again soon
function node:step(n) end
---True while this node is inside step (apply or another callback).
---@return boolean
function node:stepping() end
---True while this node's machine is being called.
---@return boolean
function node:applying() end
---Every field of `struct server_status`, times as seconds, `phase`, `role` as words; plus applied, applied_time,
---pending, sessions, uptime, and leader_age (seconds, nil when never heard).
---@return table
function node:status() end
---@return integer index, number time
function node:applied() end
---Member id (0 before started).
---@return integer
function node:id() end
---Starts closing: done() for open calls, then closed().
function node:close() end
---Closes and waits for the threads, without any callback; also __gc and __close; idempotent. Raises inside step.
---Afterwards every other method raises.
function node:destroy() end

return core
