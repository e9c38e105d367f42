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
---@param node raft.core.node|false? the only one of this state: its engine may use this thread meanwhile (uv_world.h)
---@return boolean readable
function core.poll(timeout, node) end

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

-- ---- who waits, and who is ready (lua_line.c) ----

---@class raft.core.line
---@field push fun(waiter: thread|function|table, a: any, b: any, c: any)  in line, to be run with these values
---@field ready fun(): integer      how many are in line
---@field run fun()                 runs all that are in line now
---@field may_park fun(): boolean   can the running coroutine wait here?
---@field park fun(): any           waits, until it is pushed
---@field inside fun(): boolean     below a machine, where nobody can wait
---@field hold fun(on: boolean)     what is proposed waits for node:flush
---@field simulated fun(on: boolean?): boolean  below the body of raft.sim, where nobody can wait; what it was

---@param ours table<thread, boolean>  the coroutines that may wait
---@param tell fun(waiter: table, ...: any)  tells any waiter that is no function
---@param failed fun(co: thread?, err: any)  a coroutine has raised, or (err nil) yielded by itself; co nil: a callback
---@param trace fun(err: any): any  the message handler of callbacks
---@return raft.core.line
function core.line(ours, tell, failed, trace) end

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

---An empty table with room for n keys. Raises when there is not so much memory.
---@param n integer 0 to 2^31 - 1
---@return table
function core.table(n) end

-- ---- node (lua_node.c) ----

---@class raft.core.options
---@field id integer? 0 or nil: as the directory knows
---@field dir string
---@field name string
---@field members { id: integer, address: string }[]
---@field join string[]? addresses of members to ask for a place, instead of members
---@field lease boolean
---@field rejoin boolean make a directory anew that is lost, and ask the others to admit it
---@field priority integer
---@field listen string?
---@field election_timeout number
---@field heartbeat number
---@field host_timeout number
---@field pending integer
---@field pending_bytes integer
---@field command_bytes integer
---@field cache_bytes integer
---@field snapshot_bytes integer    0: no such limit
---@field snapshot_entries integer  0: no such limit
---@field snapshot_keep integer
---@field snapshot_apart boolean    in a child process

---What a node calls, always from node:step (never from another method), on a Lua thread of the node's own that has no
---hook. All run under a protected call; an error in one of them other than apply is handed to `failed`.
---@class raft.core.callbacks
---@field machine table   the instance
---@field apply function  called as apply(machine, cmd, index, time)
---apply raised
---@field raised fun(index: integer, message: string, traceback: string)
---a command of this node is on its way; its caller does not wait yet
---@field handed (fun(sequence: integer))?
---after each apply that did not raise; read anew at each step, so that it may be set and cleared
---@field applied (fun(index: integer, time: number, cmd: any, a: any, b: any))?
---what was asked of the leader is done, or (code) not (id: of the new member, or leader)
---@field done fun(number: integer, code: string?, message: string?, index: integer, id: integer)
---writes the machine's state; write(key, value), key not nil. In a child process, or as if it were one
---@field save fun(write: fun(key: any, value: any))
---a snapshot takes the place of the state, of so many records ("begin"), which come some at a time; "end" returns the
---new machine and its apply
---@field load fun(step: "begin"|"records"|"end", of: integer|(fun(): any, any)|nil): table?, function?
---@field snapshot fun(index: integer, bytes: integer, us: integer, message: string?, code: string?)
---@field started fun(code: string?, message: string?)
---members, role, leader, term, ready, phase, disk, fault or a peer's connection differ from the last call
---@field changed fun()
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

---What users call as node:propose(cmd, opts, callback) or node:read(fn, opts, callback): without options it is done
---here, from a coroutine of raft.go or with a callback; else by otherwise, which may return `parks`, timeout, lease:
---then the coroutine waits.
---@generic T: function
---@param name "propose"|"read"
---@param otherwise T
---@return T method, lightuserdata parks
function core.method(name, otherwise) end
---Users know it as this table, which holds it from now on; timeout: of calls without options.
---@param face table
---@param timeout number seconds
function node:face(face, timeout) end

---Packs and proposes. Raises for what cannot be packed (naming the path below "cmd"). Like the following ones it parks
---the running coroutine (precondition: may_park), which gets the answer: what apply returned, or nil, message, code.
---With a waiter - a function, or a box - it returns true at once, and the waiter gets the answer.
---@param timeout number seconds
---@param waiter function|table|nil
---@return any
function node:propose(cmd, timeout, waiter) end
---A command of a program outside. session 0: opens one, whose id is the answer.
---@param session integer
---@param number integer
---@param timeout number
---@param waiter function|table|nil
---@return any
function node:client(session, number, cmd, timeout, waiter) end
---Everything committed before is applied here: the answer is an index. All that come while a round to the leader is
---under way share the next one.
---@param timeout number
---@param waiter function|table|nil
---@return any
function node:read(timeout, waiter) end
---The same; the leader's lease will do.
---@param timeout number
---@param waiter function|table|nil
---@return any
function node:lease(timeout, waiter) end
---What fn(machine, index, time) returns, or machine:query(fn, index, time) if it is no function; or nil, message,
---"query".
---@param fn any
---@return any
function node:look(fn) end
---Everything committed before is applied here, by an entry of the log: the answer is its index.
---@param timeout number
---@param waiter function|table|nil
---@return any
function node:barrier(timeout, waiter) end
---Ends those calls that are due; seconds until the next one may be.
---@return number?
function node:expire() end
---Ends all of them.
---@param message string
---@param code string
function node:end_calls(message, code) end
---Asks the leader: done() follows. argument: "transfer": to whom, or 0; "change": { { "add"|"promote"|"demote"|"move"|
---"remove", id [, address] }, ... }, id 0 with "add": one that was never used.
---@param kind "transfer"|"change"
---@param argument integer|table
---@return integer? number, string? message, string? code
function node:ask(kind, argument) end
---@param sequence integer
function node:cancel(sequence) end
---Takes what came in and calls the callbacks; applies at most n commands. Raises inside a callback of its own.
---@param n integer
---@return boolean more  call again soon
function node:step(n) end
---Hands over what was proposed while line.hold was on.
function node:flush() end
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
---Seconds since a leader was surely there: a follower has heard of it, or it of a majority. nil: none is known.
---@return number?
function node:heard() end
---Member id (0 before started).
---@return integer
function node:id() end
---Starts closing: done() for open calls, then closed().
function node:close() end
---Closes and waits for the threads, without any callback; also __gc and __close; idempotent. Raises inside step.
---Afterwards every other method raises.
function node:destroy() end

-- ---- simulation (lua_simulation.c): a cluster of Lua states, below raft.sim ----

---The kinds of faults, by name.
---@type string[]
core.simulation_faults = {}

---@class raft.core.simulation
local simulation = {} -- luacheck: ignore 241

---A cluster whose nodes start soon. code: of sim_process.lua; boot: what it is called with, packed; closely_from: from
---that index on, digests are taken after every command and kept.
---@param options { seed: integer, nodes: integer, election_timeout: number, heartbeat: number, lease: boolean?,
---  faults: string[], code: string, boot: string, closely_from: integer?, trace: boolean? }
---@return raft.core.simulation
function core.simulation(options) end

---Runs until something is told: kind, node, token and bytes as a process told it; "ended", node, life, "crashed" or
---"closed"; "timer", 0, token; "failure", text; or "go on", after a while.
---@return string kind, integer|string|nil node, integer? token, string? bytes
function simulation:advance() end
---Tells "timer" after so many simulated seconds.
---@param seconds number
---@param token integer
function simulation:after(seconds, token) end
---Calls a function of sim_process.lua in a node's state (0: the witness), now, with plain values. Raises when there is
---none.
---@param id integer
---@param name string
function simulation:ask(id, name, ...) end
---The same, and the node takes its turn soon.
function simulation:request(id, name, ...) end
---Makes a state without a node: 0.
function simulation:witness() end
function simulation:start(id) end
function simulation:crash(id) end
---@return string? why it is not done
function simulation:wipe(id) end
function simulation:pause(id, on) end
function simulation:cut(from, to, on) end
function simulation:slow(from, to, seconds) end
function simulation:heal() end
---@return "down"|"starting"|"running"
function simulation:state(id) end
---@return boolean its disk is: it takes no part any more
function simulation:lost(id) end
---@return integer the number of its present process
function simulation:life(id) end
---@return boolean a check has
function simulation:failed() end
---@return integer index
function simulation:applied(id) end
---@return integer index, anywhere
function simulation:committed() end
---@return number seconds
function simulation:time() end
---@return integer
function simulation:hash() end
---@return integer index of the last command that was applied anywhere
function simulation:last() end
---What was applied at an index; result: of the node that applied it first, packed, or the message of what it raised.
---@return { time: number, session: integer, sequence: integer, command: string, result: string, raised: boolean,
---  node: integer }?
function simulation:command(index) end
---How two machines part first: their results at index, or their states after it (digest). equal: the last index
---before it after which the second was like the others.
---@return { index: integer, equal: integer, digest: boolean, [1]: table, [2]: table }?
function simulation:divergence() end
---The kinds of faults that the seed has chosen.
---@return string[]
function simulation:faults() end
---@return string? text, for raft.diagram
function simulation:trace() end
---Also __gc and __close; twice is harmless. Afterwards every other method raises.
function simulation:close() end

return core
