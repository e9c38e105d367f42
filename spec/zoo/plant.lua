-- Plants a bug of spec/zoo/bugs.lua into the text of its file.

---The changed text; nil and why when the old lines are not there exactly once, or the new ones are the same.
return function(bug, text)
  local from, to = text:find(bug.old, 1, true)
  if not from then return nil, bug.file .. " does not hold the old lines any more" end
  if text:find(bug.old, from + 1, true) then return nil, bug.file .. " holds the old lines more than once" end
  if bug.old == bug.new then return nil, "the new lines are the old ones" end
  return text:sub(1, from - 1) .. bug.new .. text:sub(to + 1)
end
