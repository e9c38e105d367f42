-- Memory for entries, cut from slabs: a program of its own, since what it claims is about threads and whole processes.
local process = require "spec.system.process"

local BUILD = os.getenv("RAFT_BUILD") or "plain"
local FLAGS = { asan = "-fsanitize=address,undefined", tsan = "-fsanitize=thread", plain = "-O2" }

describe("pieces of slabs", function()
  it("are freed by any thread, take up what they should, are given back, and no child has them", function()
    local directory <close> = setmetatable({ path = process.directory() }, { __close = function(self)
      process.remove(self.path)
    end })
    local program = directory.path .. "/slabs"
    local command = ("gcc -std=c11 -g -D_GNU_SOURCE -Wall -Wextra -Werror -Icsrc %s -pthread -o %s spec/base/slabs.c"
      .. " csrc/base/slab.c csrc/base/mem.c csrc/base/base.c && %s %d"):format(FLAGS[BUILD], program, program,
      BUILD == "plain" and 1000000 or 100000)
    local pipe <close> = assert(io.popen("(" .. command .. ") 2>&1"))
    local text = pipe:read("a")
    assert.matches("^ok: ", text)
    print((text:gsub("\n", "")))
  end)
end)
