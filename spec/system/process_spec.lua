-- What other specs rely on when one of them fails.
local process = require "spec.system.process"

describe("a process that a spec leaves behind", function()
  it("is killed with what it starts just then", function()
    local parent = process.start { "sh", "-c", "echo begun; for i in $(seq 300); do sleep 1000 & done; wait" }
    parent:expect "begun"
    process.clean()   -- waits until nobody holds its output any more
  end)

  it("is killed, with all that it has started", function()
    local parent = process.start { "sh", "-c", "sleep 1000 & echo $! ; sleep 1000" }
    local pid = parent:expect "(%d+)\n"
    process.clean()
    process.wait_until(function()
      local file = io.open(("/proc/%s/stat"):format(pid))   -- nobody may have collected it yet
      local text = file and file:read("a") or ""
      if file then file:close() end
      return text == "" or text:find "%) Z "
    end, "its end", 10)
  end)
end)
