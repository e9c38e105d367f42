-- The house rules of csrc: who may include whom, how long a function and a line may be.
local tree = require "spec.tree"

-- From the ground up. A room includes itself and the rooms below it.
local ROOMS = { "base", "core", "wire", "store", "server", "sim", "uv", "lua" }
local height = {}
for i, room in ipairs(ROOMS) do height[room] = i end

-- The rooms that must run in a simulated world know the language, not the system: what they may include of it.
local LANGUAGE = { "inttypes", "limits", "stdarg", "stdbool", "stddef", "stdint", "stdio", "stdlib", "string" }
local SYSTEM = {
  core = LANGUAGE,
  wire = LANGUAGE,
  store = LANGUAGE,
  server = { "stdatomic", table.unpack(LANGUAGE) },
  sim = LANGUAGE,
}

---Every C file and header.
local function sources()
  local list = tree.files("csrc/*/*.c")
  for _, header in ipairs(tree.files("csrc/*/*.h")) do list[#list + 1] = header end
  return list
end

local function room_of(path) return path:match("^csrc/(%w+)/") end

---Functions of a C file: name, first line, number of lines. Ours start in the first column and end with "}" in it.
local function functions(text)
  local list, line, start, head = {}, 0, nil, nil
  for content in (text .. "\n"):gmatch("(.-)\n") do
    line = line + 1
    local name = content:match("^[%w_][%w_ %*]-([%w_]+)%(") or content:match("^[%w_][%w_ %*]-%*([%w_]+)%(")
    if name then start, head = line, name end
    if content:match("^}%s*$") and start then
      list[#list + 1] = { name = head, line = start, lines = line - start + 1 }
      start = nil
    elseif content:match("^[%w_].*;%s*$") then
      start = nil
    end
  end
  return list
end

describe("the house", function()
  it("has the rooms that are known here, and no others", function()
    local found, known = {}, {}
    for _, path in ipairs(sources()) do found[room_of(path)] = true end
    for _, room in ipairs(ROOMS) do known[room] = true end
    assert.same(known, found)
  end)

  it("lets a room include only itself and the rooms below it", function()
    local broken, checked = {}, 0
    for _, path in ipairs(sources()) do
      for included in tree.read(path):gmatch('#include%s+"([^"]+)"') do
        local room = included:match("^(%w+)/")
        checked = checked + 1
        if not room or not height[room] then
          broken[#broken + 1] = ('%s includes "%s", which names no room'):format(path, included)
        elseif height[room] > height[room_of(path)] then
          broken[#broken + 1] = ("%s includes %s: a room above its own"):format(path, included)
        end
      end
    end
    assert.same({}, broken)
    assert.truthy(checked > 50)
  end)

  it("keeps the system out of the rooms that run in a simulated world", function()
    local broken = {}
    for _, path in ipairs(sources()) do
      local allowed = SYSTEM[room_of(path)]
      for header in tree.read(path):gmatch("#include%s+<([^>]+)%.h>") do
        local fine = allowed == nil
        for _, name in ipairs(allowed or {}) do fine = fine or name == header end
        if not fine then broken[#broken + 1] = ("%s includes <%s.h>"):format(path, header) end
      end
    end
    assert.same({}, broken)
  end)

  it("keeps libuv to the rooms uv and lua, and Lua to the room lua", function()
    local broken = {}
    for _, path in ipairs(sources()) do
      local text, room = tree.read(path), room_of(path)
      if text:find("<uv.h>", 1, true) and room ~= "uv" and room ~= "lua" then broken[#broken + 1] = path end
      if text:find("<lua.h>", 1, true) and room ~= "lua" then broken[#broken + 1] = path end
    end
    assert.same({}, broken)
  end)

  it("has no function that is longer than 70 lines", function()
    local long, seen = {}, 0
    for _, path in ipairs(sources()) do
      for _, f in ipairs(functions(tree.read(path))) do
        seen = seen + 1
        if f.lines > 70 then long[#long + 1] = ("%s:%d %s: %d lines"):format(path, f.line, f.name, f.lines) end
      end
    end
    assert.same({}, long)
    assert.truthy(seen > 100)
  end)

  it("has no line that is longer than 120 characters", function()
    local long = {}
    for _, path in ipairs(sources()) do
      local number = 0
      for line in io.lines(path) do
        number = number + 1
        if utf8.len(line) > 120 then long[#long + 1] = path .. ":" .. number end
      end
    end
    assert.same({}, long)
  end)

  it("hides the symbols that its headers declare", function()
    local bare = {}
    for _, path in ipairs(tree.files("csrc/*/*.h")) do
      local text = tree.read(path)
      local guard = "#ifndef RAFT_" .. path:match("^csrc/(.+)%.h$"):gsub("/", "_"):upper() .. "_H"
      if not text:find("#pragma GCC visibility push(hidden)", 1, true) or not text:find(guard, 1, true) then
        bare[#bare + 1] = path
      end
    end
    assert.same({}, bare)
  end)

  it("exports one symbol: what require looks for", function()
    local module = "build/" .. (os.getenv("RAFT_BUILD") or "plain") .. "/raft/core.so"
    local pipe <close> = assert(io.popen("nm -D --defined-only " .. module))
    local exported = {}
    for line in pipe:lines() do
      local name = line:match("%x+ [TDBR] (%S+)$")
      if name and not name:find("^__") and not name:find("san") then exported[#exported + 1] = name end
    end
    assert.same({ "luaopen_raft_core" }, exported)
  end)
end)

describe("what editors know", function()
  ---Functions of a Lua file that users call: { name, arguments, the comment above }.
  local function public(path)
    local list, comment = {}, {}
    for line in io.lines(path) do
      local class, name, arguments = line:match("^%s*function (%u?%l+)[:.]([%w_]+)%((.-)%)")
      local text = table.concat(comment, "\n")
      local users = (class == "Node" or class == "Session" or class == "raft") and not name:find("^__")
      if users and not text:find("@package", 1, true) then list[#list + 1] = { name, arguments, text } end
      if line:match("^%s*%-%-%-") then comment[#comment + 1] = line else comment = {} end
    end
    return list
  end

  it("is each argument of what users call, and that a callback may come instead of options", function()
    local missing, seen = {}, 0
    for _, file in ipairs { "init", "node", "members" } do
      for _, f in ipairs(public("lua/raft/" .. file .. ".lua")) do
        local name, arguments, comment = table.unpack(f)
        seen = seen + 1
        for argument in arguments:gmatch("[%w_]+") do
          if not comment:find("@param " .. argument .. "%f[^%w_]") then
            missing[#missing + 1] = ("%s: %s"):format(name, argument)
          end
        end
        local either = arguments:find("opts, callback", 1, true) and not comment:find("@overload.*callback")
        if either then missing[#missing + 1] = name .. ": callback alone" end
      end
    end
    assert.same({}, missing)
    assert.truthy(seen >= 18)
  end)
end)
