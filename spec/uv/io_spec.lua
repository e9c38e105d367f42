-- Both worlds keep the contract of struct io.
-- Loaded and not required: it is to see the words that busted gives to a spec.
local conformance = assert(loadfile("spec/uv/io_conformance.lua", "t", _ENV))()

local root = os.tmpname()
os.remove(root)

conformance("real", root)
conformance("visited", root .. "/visited")
conformance("sim", "data")

describe("afterwards", function()
  it("leaves nothing behind", function()
    assert.truthy(os.execute("rm -rf '" .. root .. "'"))
  end)
end)
