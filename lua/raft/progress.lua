-- How far a start is: its directory may be large.

local progress = {}

---Says so when that takes longer than a second, and then about once a second.
---@param log fun(level: string, text: string, fields: table)
---@param clock fun(): number seconds, which never fall
---@return fun(done: integer, total: integer) bytes read, bytes to be read
function progress.new(log, clock)
  local next_at = clock() + 1
  return function(done, total)
    if clock() < next_at then return end
    next_at = clock() + 1
    log("info", ("recovering: %d of %d MiB"):format(done >> 20, total >> 20), { done = done, total = total })
  end
end

return progress
