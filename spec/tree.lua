-- The checkout as data, for the specs that look at the source itself.
local tree = {}

---The files that a shell pattern matches, sorted by bytes, relative to the checkout.
function tree.files(pattern)
  local list = {}
  local pipe <close> = assert(io.popen("LC_ALL=C ls -d " .. pattern .. " 2>/dev/null"))
  for path in pipe:lines() do list[#list + 1] = path end
  return list
end

function tree.read(path)
  local file <close> = assert(io.open(path))
  return file:read("a")
end

return tree
