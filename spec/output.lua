-- busted's plain output, and the counts, with the names of the specs that failed, a line each, written to the file that
-- RAFT_COUNTS names: for spec/run.lua, which must not have to guess them from lines made for people.
return function(options)
  local busted = require "busted"
  local handler = require "busted.outputHandlers.plainTerminal"(options)
  busted.subscribe({ "suite", "end" }, function()
    local path = os.getenv("RAFT_COUNTS")
    if path then
      local file <close> = assert(io.open(path, "w"))
      file:write(("%d %d %d\n"):format(handler.successesCount, handler.failuresCount + handler.errorsCount,
        handler.pendingsCount))
      for _, list in ipairs { handler.failures, handler.errors } do
        for _, failure in ipairs(list) do file:write(((failure.name or "before any spec"):gsub("%s+", " ")), "\n") end
      end
    end
    return nil, true
  end)
  return handler
end
