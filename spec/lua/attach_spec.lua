local lab = require "spec.lua.lab"

describe("raft.attach", function()
  after_each(lab.clean)

  it("lets luv's loop drive nodes: coroutines, callbacks and timers of both", function()
    local output, code = lab.child [[
      local uv = require "luv"
      raft.attach(uv)
      raft.attach(uv)   -- twice is once
      local order = {}
      raft.go(function()
        local node = assert(raft.node(options()))
        order[#order + 1] = node:propose "coroutine"
        local timer = uv.new_timer()
        timer:start(5, 0, function()
          timer:close()
          node:propose("callback", function(value)
            order[#order + 1] = value
            raft.after(0.01, function()
              order[#order + 1] = "after"
              raft.go(function()
                raft.sleep(0.01)
                order[#order + 1] = tostring(node:close())
              end)
            end)
          end)
        end)
      end)
      uv.run()          -- returns by itself when neither has anything left
      print(table.concat(order, " "))
      raft.go(print, "again")
      uv.run()
    ]]
    assert.equal("coroutine callback after true\nagain\n", output)
    assert.equal(0, code)
  end)

  it("lets raft.run drive luv's loop", function()
    local output, code = lab.child [[
      local uv = require "luv"
      raft.attach(uv)
      print(raft.run(function()
        local node <close> = assert(raft.node(options()))
        local timer, ticks = uv.new_timer(), 0
        timer:start(1, 1, function() ticks = ticks + 1 end)
        while ticks < 3 do raft.sleep(0.002) end
        timer:close()
        return node:propose "done"
      end))
      print(pcall(raft.run, function() raft.go(function() error("inside", 0) end) raft.sleep(9) end))
    ]]
    assert.truthy(output:find("^done\nfalse\tinside"), output)
    assert.equal(0, code)
  end)

  it("keeps luv's loop running when a coroutine raises, and prints that", function()
    local output, code = lab.child [[
      local uv = require "luv"
      raft.attach(uv)
      raft.go(function() error("inside", 0) end)
      raft.after(0.01, function() print "still here" end)
      uv.run()
    ]]
    assert.truthy(output:find("raft: inside", 1, true), output)
    assert.truthy(output:find("still here", 1, true), output)
    assert.equal(0, code)
  end)

  it("refuses to wait inside luv's callbacks, where it would stop luv", function()
    local output = lab.child [[
      local uv = require "luv"
      raft.attach(uv)
      local timer = uv.new_timer()
      timer:start(1, 0, function()
        print(pcall(raft.sleep, 0))
        timer:close()
      end)
      uv.run()
    ]]
    assert.truthy(output:find("false\t.*inside a callback"), output)
  end)

  it("takes a signal in raft.run, which closes main's nodes", function()
    local output, code = lab.child([[
      raft.attach(require "luv")
      print(raft.run(function()
        local node <close> = assert(raft.node(options()))
        print(node:propose "ready")
        raft.sleep(3600)
      end))
    ]], function(child)
      child:expect "ready"
      child:kill "sigint"
    end)
    assert.equal("ready\nSIGINT\n", output)
    assert.equal(0, code)
  end)
end)
