-- Plots as self-contained SVG files, which are readable on light and on dark backgrounds: panels side by side with one
-- axis of x, each with lines of its own.
local svg = {}

local WIDTH, HEIGHT = 760, 280               -- of a plot
local LEFT, RIGHT, TOP, BOTTOM = 58, 14, 72, 44   -- margins of a panel
local LOG_FROM = 20                          -- y is logarithmic when the largest value is so many times the smallest

local STYLE = [[
svg { background: #ffffff }
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 14px; font-weight: 600 }
.faint { fill: #59636e }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.line { fill: none; stroke-width: 2; stroke-linejoin: round }
.s1 { stroke: #0969da } .s2 { stroke: #bc4c00 } .s3 { stroke: #8250df }
.f1 { fill: #0969da } .f2 { fill: #bc4c00 } .f3 { fill: #8250df }
.back { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117 }
  text { fill: #f0f6fc } .faint { fill: #9198a1 } .grid { stroke: #3d444d } .back { fill: #0d1117 }
  .s1 { stroke: #4493f8 } .s2 { stroke: #f0883e } .s3 { stroke: #ab7df8 }
  .f1 { fill: #4493f8 } .f2 { fill: #f0883e } .f3 { fill: #ab7df8 }
}]]

local function escape(text)
  return (tostring(text):gsub("[&<>]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" }))
end

---12345 as "12.35 k".
local function short(n)
  if n < 1e4 then return ("%.4g"):format(n) end
  for _, unit in ipairs { { 1e9, " G" }, { 1e6, " M" }, { 1e3, " k" } } do
    if n >= unit[1] then return ("%.4g%s"):format(n / unit[1], unit[2]) end
  end
end

---A scale from values to 0..1, and where its lines are.
local function linear_scale(most)
  local step = 10 ^ math.floor(math.log(most, 10))
  while most / step < 4 do step = step / 2 end
  local top, ticks = math.ceil(most / step) * step, {}
  for i = 0, math.floor(top / step + 0.5) do ticks[#ticks + 1] = i * step end
  return function(v) return v / top end, ticks
end

local function log_scale(least, most)
  local from, to = math.floor(math.log(least, 10)), math.ceil(math.log(most, 10))
  if to == from then to = from + 1 end
  local ticks = {}
  for exponent = from, to do ticks[#ticks + 1] = 10.0 ^ exponent end
  return function(v) return (math.log(v, 10) - from) / (to - from) end, ticks
end

local function y_scale(series)
  local least, most = math.huge, 0
  for _, line in ipairs(series) do
    for _, point in ipairs(line) do
      if point[2] > 0 then least, most = math.min(least, point[2]), math.max(most, point[2]) end
    end
  end
  if most == 0 then return linear_scale(1) end
  if most / least >= LOG_FROM then return log_scale(least, most) end
  return linear_scale(most)
end

---The places of x: the values themselves are the marks.
local function x_scale(xs, logarithmic)
  local function at(v) return logarithmic and math.log(v) or v end
  local first, last = at(xs[1]), at(xs[#xs])
  if first == last then return function() return 0.5 end end
  return function(v) return (at(v) - first) / (last - first) end
end

---Every mark that has room for its label.
local function draw_x(out, plot, left, width, bottom)
  local scale, free = x_scale(plot.x.values, plot.x.log), -math.huge
  for _, v in ipairs(plot.x.values) do
    local x, label = left + 12 + scale(v) * (width - 24), (plot.x.format or short)(v)
    if x - #label * 3.5 > free then
      out[#out + 1] = ('<text class="faint" x="%.1f" y="%d" text-anchor="middle">%s</text>'):format(x, bottom + 16,
        escape(label))
      free = x + #label * 3.5 + 4
    end
  end
  out[#out + 1] = ('<text class="faint" x="%.1f" y="%d" text-anchor="middle">%s</text>'):format(left + width / 2,
    bottom + 34, escape(plot.x.label))
  return function(v) return left + 12 + scale(v) * (width - 24) end
end

local function draw_lines(out, panel, x_at, y_at)
  for n, line in ipairs(panel) do
    local points = {}
    for _, p in ipairs(line) do
      if p[2] > 0 then
        local x, y = x_at(p[1]), y_at(p[2])
        points[#points + 1] = ("%.1f,%.1f"):format(x, y)
        out[#out + 1] = ('<circle class="f%d" cx="%.1f" cy="%.1f" r="3"><title>%s: %s</title></circle>'):format(n, x, y,
          escape(p[1]), escape(short(p[2])))
      end
    end
    out[#out + 1] = ('<polyline class="line s%d" points="%s"/>'):format(n, table.concat(points, " "))
  end
end

---Names of the lines, over the panel.
local function draw_names(out, panel, left)
  local x = left
  if #panel < 2 then return end
  for n, line in ipairs(panel) do
    out[#out + 1] = ('<rect class="f%d" x="%d" y="%d" width="10" height="3"/>'):format(n, x, TOP - 13)
    out[#out + 1] = ('<text class="faint" x="%d" y="%d">%s</text>'):format(x + 14, TOP - 8, escape(line.name))
    x = x + 26 + #line.name * 6.5 // 1 | 0
  end
end

local function draw_panel(out, plot, panel, left, width)
  local inner, bottom = width - LEFT - RIGHT, HEIGHT - BOTTOM
  local scale, ticks = y_scale(panel)
  local function y_at(v) return bottom - scale(v) * (bottom - TOP) end
  out[#out + 1] = ('<text class="faint" x="%d" y="%d">%s</text>'):format(left + 8, TOP - 28, escape(panel.label))
  for _, tick in ipairs(ticks) do
    local y = y_at(tick)
    out[#out + 1] = ('<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>'):format(left + LEFT,
      left + LEFT + inner, y, y)
    out[#out + 1] = ('<text class="faint" x="%d" y="%.1f" text-anchor="end">%s</text>'):format(left + LEFT - 6, y + 4,
      escape(short(tick)))
  end
  local x_at = draw_x(out, plot, left + LEFT, inner, bottom)
  draw_lines(out, panel, x_at, y_at)
  draw_names(out, panel, left + LEFT)
end

---@class bench.plot
---@field title string
---@field x { label: string, values: number[], log: boolean?, format: (fun(v: number): string)? }  values: ascending
---@field panels table[]   { label = , { name = , { x, y }, ... }, ... }: lines, at most three; what is not above 0 is
---left out

---The text of an SVG file.
---@param plot bench.plot
function svg.draw(plot)
  local out = { ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">')
    :format(WIDTH, HEIGHT, WIDTH, HEIGHT), ("<title>%s</title>"):format(escape(plot.title)),
    "<style>" .. STYLE .. "</style>", ('<rect class="back" width="%d" height="%d"/>'):format(WIDTH, HEIGHT),
    ('<text class="title" x="8" y="20">%s</text>'):format(escape(plot.title)) }
  local width = WIDTH // #plot.panels
  for n, panel in ipairs(plot.panels) do draw_panel(out, plot, panel, (n - 1) * width, width) end
  out[#out + 1] = "</svg>\n"
  return table.concat(out, "\n")
end

return svg
