-- The bugs of the zoo can still be planted. That the simulator catches them is what `make zoo` is for.
local bugs = require "spec.zoo.bugs"
local plant = require "spec.zoo.plant"
local tree = require "spec.tree"

describe("the zoo", function()
  it("has at least 40 bugs, each with a name of its own, a place in the sources, and a harm", function()
    local names = {}
    for _, bug in ipairs(bugs) do
      assert.is_nil(names[bug.name], bug.name)
      names[bug.name] = true
      assert.matches("^%a.+%a$", bug.name)
      assert.matches("^csrc/%a+/[%w_]+%.c$", bug.file)
      assert.truthy(bug.harm and #bug.harm > 0, bug.name)
    end
    assert.is_true(#bugs >= 40, #bugs)
  end)

  it("has at least 15 bugs of snapshots and what goes with them, and 20 of members, leadership and reads", function()
    local count = { snapshots = 0, members = 0 }
    for _, bug in ipairs(bugs) do
      if bug.area then count[bug.area] = count[bug.area] + 1 end
    end
    assert.is_true(count.snapshots >= 15, count.snapshots)
    assert.is_true(count.members >= 20, count.members)
  end)

  it("finds the old lines of each bug exactly once, and has other ones to put there", function()
    local broken = {}
    for _, bug in ipairs(bugs) do
      local _, why = plant(bug, tree.read(bug.file))
      if why then broken[#broken + 1] = bug.name .. ": " .. why end
    end
    assert.same({}, broken)
  end)

  it("plants nothing where the old lines are missing, there twice, or the new ones", function()
    local bug = { file = "a.c", old = "x++;", new = "x--;" }
    assert.equal("y; x--; z;", plant(bug, "y; x++; z;"))
    assert.same({ nil, "a.c does not hold the old lines any more" }, { plant(bug, "y; z;") })
    assert.same({ nil, "a.c holds the old lines more than once" }, { plant(bug, "x++; x++;") })
    bug.new = bug.old
    assert.same({ nil, "the new lines are the old ones" }, { plant(bug, "x++;") })
  end)

  -- Once is enough: what compiles does not depend on the build that runs this.
  if (os.getenv "RAFT_BUILD" or "plain") == "plain" then
    it("has bugs that compile", function()
      local command = "gcc -std=c11 -D_GNU_SOURCE -Icsrc -fsyntax-only -x c - 2>&1"
      local errors = os.tmpname()
      for _, bug in ipairs(bugs) do
        local pipe = assert(io.popen(("%s >%s"):format(command, errors), "w"))
        pipe:write((plant(bug, tree.read(bug.file))))
        local compiled = pipe:close()
        assert.is_true(compiled == true, bug.name .. ":\n" .. tree.read(errors))
      end
      os.remove(errors)
    end)
  end
end)
