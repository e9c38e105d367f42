-- busted's plain output, and the counts written to the file that RAFT_COUNTS names: for spec/run.lua, which must not
-- have to guess them from a line made for people.
return function(options)
  local busted = require "busted"
  local handler = require "busted.outputHandlers.plainTerminal"(options)
  busted.subscribe({ "suite", "end" }, function()
    local path = os.getenv("RAFT_COUNTS")
    if path then
      local file <close> = assert(io.open(path, "w"))
      file:write(("%d %d %d\n"):format(handler.successesCount, handler.failuresCount + handler.errorsCount,
        handler.pendingsCount))
    end
    return nil, true
  end)
  return handler
end
