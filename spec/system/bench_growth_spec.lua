-- How cost grows is measured and drawn. It measures the plain build.
if (os.getenv("RAFT_BUILD") or "plain") ~= "plain" then return end

local process = require "spec.system.process"
local tree = require "spec.tree"

describe("make bench-growth", function()
  local dir = process.directory()

  teardown(function()
    process.clean()
    process.remove(dir)
  end)

  -- How many figures each gives.
  local PARTS = { members = 4, payload = 7, window = 8, log = 1, state = 4, sessions = 4 }

  for name, points in pairs(PARTS) do
    it("measures how cost grows and draws it: " .. name, function()
      local file = dir .. "/figures.json"
      local text, code = process.run { "lua5.4", "spec/bench/growth.lua", file, "cells=" .. name, "runs=1",
        "seconds=0.1", "scale=0.01", "entries=10000", "plots=" .. dir }
      assert.equal(0, code, text)
      local _, figures = tree.read(file):gsub('"x": [1-9]', "")
      assert.equal(points, figures)
      local plot = tree.read(("%s/%s.svg"):format(dir, name))
      assert.truthy(plot:find("^<svg .*</svg>%s*$") and plot:find("prefers-color-scheme: dark", 1, true))
      local _, circles = plot:gsub("<circle", "")
      assert.truthy(circles >= points)
    end)
  end
end)
