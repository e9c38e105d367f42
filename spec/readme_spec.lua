local tree = require "spec.tree"

describe("README.md", function()
  local readme = tree.read("README.md")

  it("shows examples/bank.lua as it is", function()
    local shown = readme:match("```lua\n(.-)```")
    local example = tree.read("examples/bank.lua")
    assert.equal(shown, example:sub(example:find("local raft", 1, true), -1))
  end)

  it("shows the mistake and the test of examples/sim.lua as they are", function()
    local example = tree.read("examples/sim.lua")
    local shown = readme:match("## Test your machine.-```lua\n(.-)```")
    local machine, test = shown:match("^(.-)(local function test.-\nend\n)")
    assert.truthy(example:find(machine, 1, true))
    assert.truthy(example:find(test, 1, true))
  end)

  it("lists the options of raft.sim, and the methods of what it hands to a test", function()
    local raft, n = require "raft", 0
    for row in readme:match("| option of `raft.sim`.-\n(.-)\n\n"):gmatch("[^\n]+") do
      for option in row:match("^|(.-)|"):gmatch("`([%l_]+)`") do
        n = n + 1
        local _, message = pcall(raft.sim, { [option] = print }, print)
        assert.falsy(tostring(message):find("unknown option " .. option, 1, true), message)
      end
    end
    assert.equal(7, n)
    raft.sim({ machine = function() return { apply = print } end, nodes = 1 }, function(sim)
      for row in readme:match("| in the test.-\n(.-)\n\n"):gmatch("[^\n]+") do
        for method in row:match("^|(.-)|"):gmatch("`s?i?m?:(%l+)") do
          n = n + 1
          assert.equal("function", type(sim[method]), method)
        end
      end
    end)
    assert.equal(7 + 14, n)
  end)

  it("names only targets that the Makefile has", function()
    local makefile, n = tree.read("Makefile"), 0
    for target in readme:gmatch("`make ([%w%-]+)") do
      n = n + 1
      assert.truthy(makefile:find("\n" .. target .. ":", 1, true), "make " .. target)
    end
    assert.truthy(n > 4)
  end)

  it("says of each feature of Raft in which section of the dissertation it is, and in which file", function()
    local n = 0
    for row in readme:match("| feature | section | where |\n|[-|]+\n(.-)\n\n"):gmatch("[^\n]+") do
      n = n + 1
      assert.matches("^| [^|]+ | %d[%d., ]* | [^|]+ |$", row)
      assert.truthy(row:find("`%l+/[%l_]+%.c`") or row:find("the same", 1, true) or row:find("%(%)`"), row)
    end
    assert.truthy(n >= 18, n)
  end)

  it("and csrc/README.md name files and functions of csrc that are there", function()
    local map, sources, n = readme .. tree.read("csrc/README.md"), {}, 0
    for _, path in ipairs(tree.files("csrc/*/*.c")) do sources[#sources + 1] = tree.read(path) end
    local all = table.concat(sources, "\n")
    for path in map:gmatch("`(%l+/[%l_]+%.[ch])`") do
      n = n + 1
      assert.truthy(io.open("csrc/" .. path), path)
    end
    for name in map:gmatch("`([%l_]+)%(%)`") do
      n = n + 1
      assert.truthy(all:find("%f[%w_]" .. name .. "%([^;]-%)\n{"), name)
    end
    assert.truthy(n > 40, n)
    assert.truthy(readme:find("](csrc/README.md)", 1, true))
  end)

  it("links only to files that exist", function()
    for path in readme:gmatch("%]%((.-)%)") do assert.truthy(io.open(path), path) end
  end)

  it("lists every example and every room", function()
    for _, path in ipairs(tree.files("examples/*.lua")) do
      assert.truthy(readme:find("(" .. path .. ")", 1, true), path)
    end
    for _, path in ipairs(tree.files("csrc/*/")) do
      assert.truthy(readme:find("| `" .. path:match("^csrc/(.*)$") .. "`", 1, true), path)
    end
  end)

  it("names only options that raft.node knows, and the packages that the Makefile installs", function()
    local raft = require "raft"
    local n = 0
    for row in readme:match("| option of.-\n(.-)\n\n"):gmatch("[^\n]+") do
      for option in row:match("^|(.-)|"):gmatch("`([%l_]+)`") do
        n = n + 1
        local _, message = pcall(raft.node, { [option] = function() end })
        assert.falsy(tostring(message):find("unknown option " .. option, 1, true), message)
      end
    end
    assert.truthy(n > 10)
    local packages = readme:match("apt install ([^\n]+)")
    for package in packages:gmatch("%S+") do
      assert.truthy(tree.read("Makefile"):find(package, 1, true), package)
    end
  end)

  it("gives each error code the certainty that raft.outcome gives it", function()
    local raft, n = require "raft", 0
    for outcome, codes in readme:gmatch('\n| `"(%l+)"` | (.-) |') do
      for code in codes:gmatch("`([%l_]+)`") do
        n = n + 1
        assert.equal(outcome, raft.outcome(code), code)
      end
    end
    assert.equal(15, n)
  end)
end)
