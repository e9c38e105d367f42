-- Draws the trace of a simulated run as a space-time diagram: one HTML file that needs nothing else.
--
-- Nodes are lanes, time runs rightwards, messages are arrows; what was lost, what failed and where the failure was seen
-- are marked. The page scrolls, zooms, and tells about everything under the pointer. See raft.sim for how to get one.

local diagram = {}

local BEFORE_S, AFTER_S = 20, 1      -- of messages drawn around the failure
local FREQUENT_MAX = 40000           -- of messages and marks drawn, so that a browser stays quick

local FIELDS = "^(%l+)\t(%d+)\t(%d+)\t(%d+)\t(%d+)\t(%S+)\t(%d+)\t(%d+)\t([^\t]*)\t(.*)$"

---The records of a trace, as csrc/sim/sim_trace.h tells of its text.
---@param text string
---@return { kind: string, from: integer, to: integer, node: integer, peer: integer, fate: string, term: integer,
---  index: integer, name: string, details: string }[]  -- times in microseconds; to: 0 = still on
function diagram.parse(text)
  local records = {}
  for line in text:gmatch("[^\n]+") do
    local kind, from, to, node, peer, fate, term, index, name, details = line:match(FIELDS)
    if not kind then error("raft.diagram: this is no trace: " .. line:sub(1, 80), 2) end
    records[#records + 1] = { kind = kind, from = math.tointeger(from), to = math.tointeger(to),
      node = math.tointeger(node), peer = math.tointeger(peer), fate = fate, term = math.tointeger(term),
      index = math.tointeger(index), name = name, details = details }
  end
  return records
end

-- ---- JSON, as much of it as is needed ----

local function json_string(text)
  if not utf8.len(text) then text = text:gsub("[\x80-\xff]", "?") end
  return '"' .. text:gsub('[%c"\\<>&\x7f]', function(c) return ("\\u%04x"):format(c:byte()) end) .. '"'
end

---Lists become arrays; other tables become objects, their keys sorted.
local function json(value)
  if type(value) == "string" then return json_string(value) end
  if type(value) ~= "table" then return tostring(value) end
  local parts = {}
  if value[1] ~= nil or next(value) == nil then
    for i, item in ipairs(value) do parts[i] = json(item) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  local keys = {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys)
  for i, key in ipairs(keys) do parts[i] = json_string(key) .. ":" .. json(value[key]) end
  return "{" .. table.concat(parts, ",") .. "}"
end

-- ---- what the page is given ----

---What a node was, over time: { from, to, role, term } with role "down", "follower", "candidate" or "leader".
local function lanes(records, nodes, last)
  local list = {}
  for i = 1, nodes do list[i] = { { 0, last, "down", 0 } } end
  for _, r in ipairs(records) do
    local role = r.kind == "role" and r.name
    if r.kind == "life" and (r.name == "crash" or r.name == "stop") then role = "down" end
    if role then
      local lane = list[r.node]
      lane[#lane][2] = r.from
      lane[#lane + 1] = { r.from, last, role, r.term }
    end
  end
  return list
end

---Cuts of single pairs that begin and end together are one fault of the network: { from, to, text, row }.
local function cuts(records, last)
  local list, known = {}, {}
  for _, r in ipairs(records) do
    if r.kind == "fault" and (r.peer > 0 or r.node == 0) then
      local to = r.to > 0 and r.to or last
      local key = ("%d %d %s"):format(r.from, to, r.name)
      if not known[key] then
        known[key] = { r.from, to, r.name, 0 }
        list[#list + 1] = known[key]
      end
      if r.peer > 0 then known[key][3] = ("%s %d→%d"):format(known[key][3], r.node, r.peer) end
    end
  end
  local ends = {}
  for _, cut in ipairs(list) do
    local row = 1
    while (ends[row] or 0) > cut[1] do row = row + 1 end
    ends[row], cut[4] = cut[2], row - 1
  end
  return list, #ends
end

local RARE = { life = true, role = true, fault = true, note = true }

---Records of messages and marks within the window; the newest of them when they are too many. And where they begin.
local function choose(records, from, to)
  local chosen = {}
  for _, r in ipairs(records) do
    if not RARE[r.kind] and r.from >= from and r.from <= to then chosen[#chosen + 1] = r end
  end
  if #chosen <= FREQUENT_MAX then return chosen, math.max(from, 0) end
  local kept = table.move(chosen, #chosen - FREQUENT_MAX + 1, #chosen, 1, {})
  return kept, kept[1].from
end

local function collect(records, options, at)
  local last, nodes = at or 0, 1
  for _, r in ipairs(records) do
    last = math.max(last, r.from, r.to)
    nodes = math.max(nodes, r.node, r.peer)
  end
  local centre = at or last
  local before = math.tointeger((options.before or BEFORE_S) * 1000000 // 1)
  local frequent, first = choose(records, centre - before, centre + AFTER_S * 1000000)
  local data = { nodes = nodes, last = last, first = first, lanes = lanes(records, nodes, last),
    bands = {}, notes = {}, marks = {}, messages = {} }
  data.cuts, data.cut_rows = cuts(records, last)
  for _, r in ipairs(records) do
    if r.kind == "fault" and r.peer == 0 and r.node > 0 then
      table.insert(data.bands, { r.from, r.to > 0 and r.to or last, r.node, r.name, r.details })
    elseif r.kind == "life" or r.kind == "note" then
      table.insert(data.notes, { r.from, r.node, r.kind == "life" and r.name or "note", r.name, r.details })
    end
  end
  for _, r in ipairs(frequent) do
    if r.kind == "message" then
      table.insert(data.messages, { r.from, r.to, r.node, r.peer, r.fate, r.term, r.name, r.details })
    else
      table.insert(data.marks, { r.from, r.node, r.kind, r.index, r.details })
    end
  end
  return data
end

-- ---- the page ----

local function escaped(text)
  return (text:gsub('[&<>"]', { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }))
end

local PAGE = [==[
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>$title</title>
<style>
  :root { --ink: #1d2733; --soft: #66727f; --line: #d8dee5; --paper: #ffffff; --wash: #f5f7f9; --bad: #d1242f; }
  * { box-sizing: border-box; }
  html, body { height: 100%; margin: 0; }
  body { display: flex; flex-direction: column; color: var(--ink); background: var(--paper);
    font: 13px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
  header { padding: 12px 18px 10px; border-bottom: 1px solid var(--line); }
  h1 { font-size: 16px; margin: 0 0 2px; }
  h1 small { font-weight: normal; color: var(--soft); font-size: 13px; margin-left: 8px; }
  .failure { color: var(--bad); font-weight: 600; overflow-wrap: anywhere; white-space: pre-line; }
  .replay { color: var(--soft); }
  code { font: 12px ui-monospace, "DejaVu Sans Mono", Menlo, monospace; color: var(--ink); background: var(--wash);
    border: 1px solid var(--line); border-radius: 4px; padding: 1px 6px; user-select: all; }
  nav { display: flex; flex-wrap: wrap; gap: 4px; align-items: center; padding: 7px 18px; font-size: 12px;
    border-bottom: 1px solid var(--line); background: var(--wash); }
  nav .gap { flex: 1; }
  button { font: inherit; color: inherit; background: var(--paper); border: 1px solid var(--line); border-radius: 12px;
    padding: 1px 8px 1px 7px; cursor: pointer; display: inline-flex; align-items: center; gap: 6px; }
  button:hover { border-color: #9aa7b4; }
  button.off { opacity: 0.45; text-decoration: line-through; }
  button.plain { border-radius: 4px; padding: 1px 9px; }
  .key { display: inline-flex; align-items: center; gap: 5px; color: var(--soft); margin-right: 5px; }
  i { display: inline-block; width: 14px; height: 0; border-top: 2px solid; }
  i.box { height: 11px; width: 15px; border: 0; border-radius: 3px; }
  main { flex: 1; position: relative; min-height: 240px; }
  canvas { position: absolute; inset: 0; width: 100%; height: 100%; cursor: grab; touch-action: none; }
  canvas.drag { cursor: grabbing; }
  #tip { position: fixed; display: none; pointer-events: none; max-width: 460px; background: #1d2733f2; color: #fff;
    border-radius: 6px; padding: 7px 10px; font-size: 12px; box-shadow: 0 4px 16px #0003; z-index: 9; }
  #tip div + div { margin-top: 5px; padding-top: 5px; border-top: 1px solid #ffffff2e; }
  #tip b { font-weight: 600; } #tip span { color: #c3ccd6; } #tip em { color: #ff9c93; font-style: normal; }
</style></head><body>
<header><h1>$title<small>$subtitle</small></h1>$headlines</header>
<nav id="nav"></nav>
<main><canvas id="c"></canvas></main><div id="tip"></div>
<script>
"use strict";
const D = $data;
$script
</script></body></html>
]==]

local SCRIPT = [==[
const ROLE = { down: "#eceff2", follower: "#b9d3ee", candidate: "#f5c35b", leader: "#5fb878" };
const CLASS = {                                     // of messages, and of marks on lanes
  append: { name: "append", color: "#1f6feb" }, vote: { name: "vote", color: "#d9730d" },
  heartbeat: { name: "heartbeat", color: "#7a8794" }, forward: { name: "forward", color: "#8250df" },
  link: { name: "ping, hello", color: "#b4bec8", off: true }, other: { name: "other", color: "#0a7d8c" },
  commit: { name: "commit", color: "#0b6e4f", mark: true }, durable: { name: "durable", color: "#6e5494", mark: true },
  command: { name: "acknowledged", color: "#1a9c3e", mark: true },
};
const LEFT = 76, LANE = 30, AXIS = 22, MAP_ROW = 6;
const canvas = document.getElementById("c"), g = canvas.getContext("2d"), tip = document.getElementById("tip");
let W = 0, H = 0, view = { a: 0, b: 1 }, hits = [], hover = null, mouse = null, drag = null;

function classOf(name) {
  if (/^append/.test(name)) return "append";
  if (/vote|timeout now/.test(name)) return "vote";
  if (/^heartbeat/.test(name)) return "heartbeat";
  if (/^forward/.test(name)) return "forward";
  return /^(ping|pong|hello|refusal)$/.test(name) ? "link" : "other";
}

// ---- data: rows become objects, sorted by their beginning ----
const byTime = (x, y) => x.t - y.t;
const messages = D.messages.map(m => ({ t: m[0], end: m[1], node: m[2], peer: m[3], fate: m[4], term: m[5], name: m[6],
  details: m[7], cls: classOf(m[6]) })).filter(m => m.peer > 0).sort(byTime);
const marks = D.marks.map(m => ({ t: m[0], node: m[1], cls: m[2], index: m[3], details: m[4] })).sort(byTime);
const notes = D.notes.map(n => ({ t: n[0], node: n[1], kind: n[2], name: n[3], details: n[4] })).sort(byTime);
const longest = messages.reduce((most, m) => Math.max(most, m.end - m.t), 0);
const used = new Set(messages.map(m => m.cls).concat(marks.map(m => m.cls)));
const shown = cls => !CLASS[cls].off;

function firstAt(list, t) {                         // the first item that begins at t or later
  let low = 0, high = list.length;
  while (low < high) { const mid = (low + high) >> 1; if (list[mid].t < t) low = mid + 1; else high = mid; }
  return low;
}

// ---- geometry ----
const x = t => LEFT + (t - view.a) / (view.b - view.a) * (W - LEFT);
const timeAt = px => view.a + (px - LEFT) / (W - LEFT) * (view.b - view.a);
const mapHeight = () => D.nodes * MAP_ROW + 10;
const cutsTop = () => mapHeight() + AXIS + 6;
function laneTop(node) {
  const top = cutsTop() + D.cut_rows * 17 + 22, room = H - top - LANE - 30;
  const step = D.nodes > 1 ? Math.min(260, Math.max(LANE + 30, room / (D.nodes - 1))) : 0;
  return top + (node - 1) * step;
}
const clip = (from, to) => [Math.max(x(from), LEFT), Math.min(x(to), W)];
const seconds = t => (t / 1e6).toFixed(6) + " s";
const lasting = us => us < 1000 ? us + " µs" : us < 1e6 ? (us / 1e3).toFixed(1) + " ms" : (us / 1e6).toFixed(2) + " s";
const termColor = term => "hsl(" + (term * 137.5 % 360) + " 62% 45%)";

const FONT = " 11px system-ui, 'DejaVu Sans', sans-serif";
function text(s, at, y, color, align, weight) {
  g.fillStyle = color; g.textAlign = align || "left"; g.font = (weight || "") + FONT;
  g.fillText(s, at, y);
}
function textIn(s, from, to, y, color) {            // where there is room for it
  g.font = FONT;
  if (to - from >= g.measureText(s).width + 8) text(s, from + 5, y, color);
}
function box(l, t, w, h, color) { g.fillStyle = color; g.fillRect(l, t, Math.max(w, 1), h); }
const hatches = {};
function hatch(color) {
  if (!hatches[color]) {
    const tile = document.createElement("canvas"), p = tile.getContext("2d");
    tile.width = tile.height = 8; p.strokeStyle = color; p.lineWidth = 2;
    p.beginPath(); for (const d of [-8, 0, 8]) { p.moveTo(d, 8); p.lineTo(d + 8, 0); } p.stroke();
    hatches[color] = g.createPattern(tile, "repeat");
  }
  return hatches[color];
}

// ---- the parts of the picture ----
function drawMap() {                                // the whole run, with the part that is in view
  const at = t => LEFT + t / D.last * (W - LEFT);
  D.lanes.forEach((lane, i) => lane.forEach(([from, to, role]) =>
    box(at(from), 5 + i * MAP_ROW, at(to) - at(from), MAP_ROW - 1, ROLE[role])));
  D.cuts.concat(D.bands).forEach(c => box(at(c[0]), 2, at(c[1]) - at(c[0]), 2, "#d1242f88"));
  if (D.at !== undefined) box(at(D.at) - 1, 0, 2, mapHeight(), "#d1242f");
  g.fillStyle = "#1d273314"; g.fillRect(LEFT, 0, at(D.first) - LEFT, mapHeight());
  g.strokeStyle = "#1d2733"; g.lineWidth = 1.5;
  g.strokeRect(at(view.a), 1, Math.max(at(view.b) - at(view.a), 2), mapHeight() - 2);
  text("whole run", LEFT - 12, 4 + mapHeight() / 2, "#66727f", "right");
}

function drawAxis() {
  const span = view.b - view.a, raw = span / ((W - LEFT) / 110), top = mapHeight();
  let step = Math.pow(10, Math.floor(Math.log10(raw)));
  for (const f of [1, 2, 5, 10]) if (step * f >= raw) { step *= f; break; }
  step = Math.max(step, 1);
  const digits = Math.max(0, 6 - Math.floor(Math.log10(step) + 1e-9));
  for (let t = Math.ceil(view.a / step) * step; t <= view.b; t += step) {
    box(x(t), top + AXIS - 4, 1, H, "#eef1f4");
    if (x(t) > LEFT + 20) text((t / 1e6).toFixed(digits) + " s", x(t), top + 14, "#66727f", "center");
  }
  if (view.a < D.first) {
    const [l, r] = clip(0, D.first);
    box(l, top + AXIS, r - l, H, "#f5f7f9");
    const s = "messages before " + (D.first / 1e6).toFixed(2) + " s are not drawn";
    if (r - l > 200) text(s, r - 8, H - 12, "#66727f", "right");
  }
}

function drawCuts() {
  for (const [from, to, name, row] of D.cuts) {
    if (to < view.a || from > view.b) continue;
    const [l, r] = clip(from, to), y = cutsTop() + row * 17;
    box(l, y, r - l, 14, "#fbe3e4"); box(l, y, r - l, 14, hatch("#d1242f30"));
    textIn(name, l, r, y + 11, "#8f1a22");
    hits.push({ l, r, t: y, b: y + 14, tell: () => title(name, "fault of the network", from, to) });
  }
}

function drawLane(node) {
  const y = laneTop(node);
  for (const [from, to, role, term] of D.lanes[node - 1]) {
    if (to < view.a || from > view.b || to === from) continue;
    const [l, r] = clip(from, to);
    box(l, y, r - l, LANE, ROLE[role]);
    if (role === "down") box(l, y, r - l, LANE, hatch("#c9d0d8"));
    else box(l, y, r - l, 4, termColor(term));
    box(l, y, 1, LANE, "#ffffffb0");
    textIn(role === "down" ? "down" : role + ", term " + term, l, r, y + 16, "#1d2733");
    hits.push({ l, r, t: y, b: y + LANE, low: true, tell: () => title("node " + node + ": " +
      (role === "down" ? "down" : role + " in term " + term), "", from, to) });
  }
}

function drawBands() {
  for (const [from, to, node, name, details] of D.bands) {
    if (to < view.a || from > view.b) continue;
    const [l, r] = clip(from, to), y = laneTop(node) - 15;
    box(l, y, r - l, 14, "#fdf0d9"); box(l, y, r - l, 14, hatch("#d9730d40"));
    textIn(name, l, r, y + 11, "#8a4a06");
    const more = "node " + node + (details ? ": " + details : "");
    hits.push({ l, r, t: y, b: y + 14, tell: () => title(name, more, from, to) });
  }
}

function path(m) {                                  // from lane to lane; what did not arrive ends on its way
  const down = m.peer > m.node;
  const y1 = laneTop(m.node) + (down ? LANE : 0), y2 = laneTop(m.peer) + (down ? 0 : LANE);
  const p = { x1: x(m.t), y1, x2: x(m.end), y2 };
  if (!m.end || m.fate === "lost" && p.x2 - p.x1 < 8) {
    p.x2 = p.x1 + 10; p.y2 = y1 + (y2 - y1) * 0.4;
  } else if (m.fate === "lost") {
    p.y2 = y1 + (y2 - y1) * 0.85;
  }
  return p;
}

function drawMessage(m, heads, strong) {
  const p = path(m), lost = m.fate === "lost", color = lost ? "#d1242f" : CLASS[m.cls].color;
  g.strokeStyle = color; g.fillStyle = color; g.lineWidth = strong ? 2.6 : 1.2;
  g.setLineDash(lost || !m.end ? [4, 3] : /reply/.test(m.name) ? [7, 2] : []);
  g.beginPath(); g.moveTo(p.x1, p.y1); g.lineTo(p.x2, p.y2); g.stroke(); g.setLineDash([]);
  if (lost) {
    g.lineWidth = 1.8; g.beginPath();
    g.moveTo(p.x2 - 3.5, p.y2 - 3.5); g.lineTo(p.x2 + 3.5, p.y2 + 3.5);
    g.moveTo(p.x2 + 3.5, p.y2 - 3.5); g.lineTo(p.x2 - 3.5, p.y2 + 3.5); g.stroke();
  } else if (heads && m.end) {
    const angle = Math.atan2(p.y2 - p.y1, p.x2 - p.x1);
    g.beginPath(); g.moveTo(p.x2, p.y2);
    for (const turn of [2.75, -2.75]) g.lineTo(p.x2 + 8 * Math.cos(angle + turn), p.y2 + 8 * Math.sin(angle + turn));
    g.fill();
  }
}

function drawMessages() {
  const seen = [];
  for (let i = firstAt(messages, view.a - longest); i < messages.length && messages[i].t <= view.b; i++) {
    const m = messages[i];
    if (shown(m.cls) && (!m.end || m.end >= view.a)) seen.push(m);
  }
  g.globalAlpha = Math.max(0.08, Math.min(0.9, 500 / seen.length));
  for (const m of seen) drawMessage(m, seen.length < 1500, false);
  g.globalAlpha = 1;
  return seen;
}

function drawMarks() {                              // on the lower edge of a lane
  const free = {};
  for (let i = firstAt(marks, view.a); i < marks.length && marks[i].t <= view.b; i++) {
    const m = marks[i], px = x(m.t), y = laneTop(m.node) + LANE, color = CLASS[m.cls].color;
    if (!shown(m.cls)) continue;
    const key = m.node + m.cls, near = free[key] !== undefined && px < free[key] + 2;
    if (near) continue;
    free[key] = px;
    g.fillStyle = color; g.beginPath();
    if (m.cls === "commit") g.rect(px - 1, y - 9, 2, 9);
    else if (m.cls === "durable") g.arc(px, y - 4, 2.5, 0, 7);
    else { g.moveTo(px, y - 6); g.lineTo(px - 4, y + 1); g.lineTo(px + 4, y + 1); }
    g.fill();
    hits.push({ l: px - 4, r: px + 4, t: y - 10, b: y + 2, tell: () => title(CLASS[m.cls].name + ": index " + m.index,
      "node " + m.node + (m.details ? ", " + m.details : ""), m.t, m.t) });
  }
}

function drawNotes() {
  const SIGN = { start: ["▶", "#1a7f37"], crash: ["✖", "#d1242f"], stop: ["■", "#57606a"], wipe: ["◇", "#d1242f"],
    note: ["!", "#b35900"] };
  for (let i = firstAt(notes, view.a); i < notes.length && notes[i].t <= view.b; i++) {
    const n = notes[i], px = x(n.t), [sign, color] = SIGN[n.kind] || SIGN.note;
    if (n.node === 0) {
      box(px, mapHeight() + AXIS, 1.5, H, "#1a7f3799");
      text(n.name, px + 5, H - 12, "#1a7f37", "left", "600");
      continue;
    }
    const y = laneTop(n.node);
    box(px - 0.75, y - 3, 1.5, LANE + 6, color);
    g.fillStyle = "#fff"; g.beginPath(); g.arc(px, y - 8, 7, 0, 7); g.fill();
    g.strokeStyle = color; g.lineWidth = 1.2; g.stroke();
    text(sign, px, y - 4, color, "center", "600");
    hits.push({ l: px - 8, r: px + 8, t: y - 16, b: y, tell: () => title(n.name, "node " + n.node +
      (n.details ? ": " + n.details : ""), n.t, n.t) });
  }
}

function drawFailure() {
  if (D.at === undefined || D.at < view.a || D.at > view.b) return;
  const px = x(D.at), top = mapHeight() + AXIS;
  box(px - 8, top, 16, H, "#d1242f14"); box(px - 1, top, 2, H, "#d1242f");
  const left = px > W - 160;
  text("failure", px + (left ? -7 : 7), H - 12, "#d1242f", left ? "right" : "left", "600");
  if (D.node > 0) {
    g.strokeStyle = "#d1242f"; g.lineWidth = 3; g.beginPath();
    g.arc(px, laneTop(D.node) + LANE / 2, LANE / 2 + 5, 0, 7); g.stroke();
  }
  hits.push({ l: px - 6, r: px + 6, t: top, b: H, tell: () => "<em><b>failure</b></em><br>" + safe(D.failure) });
}

function drawLabels() {
  box(0, mapHeight() + 1, LEFT - 1, H, "#ffffff"); box(LEFT - 1, 0, 1, H, "#d8dee5");
  for (let n = 1; n <= D.nodes; n++) {
    const bad = D.at !== undefined && D.node === n;
    text("node " + n, LEFT - 12, laneTop(n) + 19, bad ? "#d1242f" : "#1d2733", "right", "600");
  }
}

let visible = [];
function draw() {
  hits = [];
  g.clearRect(0, 0, W, H);
  drawAxis(); drawCuts();
  visible = drawMessages();
  for (let n = 1; n <= D.nodes; n++) drawLane(n);   // messages pass behind the lanes between
  drawBands(); drawMarks(); drawNotes(); drawFailure();
  if (hover) drawMessage(hover, true, true);
  drawLabels();
  if (D.cut_rows > 0) text("network", LEFT - 12, cutsTop() + 11, "#8f1a22", "right", "600");
  box(0, 0, W, mapHeight() + 1, "#ffffff"); drawMap();
}
let waiting = false;
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); tell(); });
}

// ---- what is under the pointer ----
const safe = s => String(s).replace(/[&<>]/g, c => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" }[c]));
function title(head, more, from, to) {
  const when = to > from ? seconds(from) + " – " + seconds(to) + " (" + lasting(to - from) + ")" : seconds(from);
  return "<b>" + safe(head) + "</b>" + (more ? "<br>" + safe(more) : "") + "<br><span>" + when + "</span>";
}
function tellMessage(m) {
  const end = m.fate === "lost" ? "<em>lost</em>" : !m.end ? "on its way" :
    "arrived " + seconds(m.end) + " (" + lasting(m.end - m.t) + ")";
  return "<b>" + safe(m.name) + "</b> " + m.node + " → " + m.peer + (m.term ? ", term " + m.term : "") +
    (m.details ? "<br>" + safe(m.details) : "") + "<br><span>sent " + seconds(m.t) + ", " + end + "</span>";
}
function distance(m) {
  const p = path(m), dx = p.x2 - p.x1, dy = p.y2 - p.y1;
  const along = Math.max(0, Math.min(1, ((mouse.x - p.x1) * dx + (mouse.y - p.y1) * dy) / (dx * dx + dy * dy || 1)));
  return Math.hypot(mouse.x - p.x1 - along * dx, mouse.y - p.y1 - along * dy);
}
function tell() {
  const found = [];
  let nearest = null;
  if (mouse && !drag && mouse.x > LEFT) {
    const inside = hits.filter(h => mouse.x >= h.l && mouse.x <= h.r && mouse.y >= h.t && mouse.y <= h.b);
    inside.sort((p, q) => (p.low ? 1 : 0) - (q.low ? 1 : 0)).forEach(h => found.push(h.tell()));
    const near = visible.length > 6000 ? [] : visible.map(m => [distance(m), m]).filter(d => d[0] < 5);
    near.sort((p, q) => p[0] - q[0]).forEach(d => found.push(tellMessage(d[1])));
    if (near.length > 0 && inside.every(h => h.low)) nearest = near[0][1];
  }
  tip.style.display = found.length > 0 ? "block" : "none";
  if (found.length > 0) {
    const more = found.length > 6 ? ["<span>and " + (found.length - 6) + " more</span>"] : [];
    tip.innerHTML = found.slice(0, 6).concat(more).map(s => "<div>" + s + "</div>").join("");
    const r = tip.getBoundingClientRect();
    tip.style.left = Math.min(mouse.pageX + 14, innerWidth - r.width - 8) + "px";
    tip.style.top = (mouse.pageY + 18 + r.height > innerHeight ? mouse.pageY - r.height - 12 : mouse.pageY + 18) + "px";
  }
  if (nearest !== hover) { hover = nearest; redraw(); }
}

// ---- moving about ----
function look(a, b) {
  const span = Math.min(Math.max(b - a, 50), D.last * 1.1), middle = (a + b) / 2;
  a = Math.max(-span * 0.05, Math.min(middle - span / 2, D.last * 1.02 - span));
  view = { a, b: a + span };
  redraw();
}
function zoom(factor, at) { look(at - (at - view.a) * factor, at + (view.b - at) * factor); }
const middle = () => (view.a + view.b) / 2;
function home() {                                   // so near the failure that single messages can be told apart
  const end = D.at !== undefined ? D.at : D.last, before = messages.filter(m => m.t <= end && shown(m.cls));
  const from = before.length > 160 ? before[before.length - 160].t : before.length > 0 ? before[0].t : 0;
  const span = Math.max(20000, Math.min(end - from, 10e6));
  look(end - span, end + span * 0.18);
}
canvas.addEventListener("wheel", e => {
  e.preventDefault();
  const span = view.b - view.a;
  if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) {
    const by = (e.deltaX || e.deltaY) / (W - LEFT) * span;
    look(view.a + by, view.b + by);
  } else {
    zoom(Math.pow(1.0016, e.deltaY), timeAt(Math.max(e.offsetX, LEFT)));
  }
}, { passive: false });
function mapTo(px) {
  const t = (px - LEFT) / (W - LEFT) * D.last, half = (view.b - view.a) / 2;
  look(t - half, t + half);
}
canvas.addEventListener("pointerdown", e => {
  drag = { map: e.offsetY < mapHeight(), x: e.offsetX, a: view.a, b: view.b };
  if (drag.map) mapTo(e.offsetX);
  canvas.setPointerCapture(e.pointerId); canvas.classList.add("drag");
});
canvas.addEventListener("pointermove", e => {
  mouse = { x: e.offsetX, y: e.offsetY, pageX: e.clientX, pageY: e.clientY };
  if (drag && drag.map) return mapTo(e.offsetX);
  if (drag) {
    const by = (drag.x - e.offsetX) / (W - LEFT) * (drag.b - drag.a);
    return look(drag.a + by, drag.b + by);
  }
  tell();
});
for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, () => { drag = null; canvas.classList.remove("drag"); redraw(); });
}
canvas.addEventListener("pointerleave", () => { mouse = null; tell(); });
canvas.addEventListener("dblclick", e => zoom(0.3, timeAt(e.offsetX)));
addEventListener("keydown", e => {
  const by = (view.b - view.a) * 0.2;
  const act = { "+": () => zoom(0.6, middle()), "=": () => zoom(0.6, middle()), "-": () => zoom(1.67, middle()),
    ArrowLeft: () => look(view.a - by, view.b - by), ArrowRight: () => look(view.a + by, view.b + by),
    f: home, "0": () => look(0, D.last) }[e.key];
  if (act && !e.ctrlKey && !e.metaKey) { e.preventDefault(); act(); }
});

// ---- the bar: what colours mean, and switches ----
const nav = document.getElementById("nav");
function add(tag, cls, html) {
  const e = document.createElement(tag);
  e.className = cls; e.innerHTML = html; nav.append(e);
  return e;
}
for (const role of ["leader", "candidate", "follower", "down"]) {
  add("span", "key", '<i class="box" style="background:' + ROLE[role] + '"></i>' + role);
}
add("span", "key", '<i class="box" style="background:#fbe3e4;outline:1px solid #d1242f55"></i>network fault');
add("span", "key", '<i class="box" style="background:#fdf0d9;outline:1px solid #d9730d55"></i>node fault');
for (const cls of Object.keys(CLASS)) {
  if (!used.has(cls)) continue;
  const c = CLASS[cls], b = add("button", c.off ? "off" : "", '<i style="border-color:' + c.color + '"></i>' + c.name);
  b.title = "show or hide";
  b.onclick = () => { c.off = !c.off; b.classList.toggle("off", c.off); redraw(); };
}
add("span", "gap", "");
for (const [name, hint, act] of [["−", "zoom out: wheel or -", () => zoom(1.67, middle())],
    ["+", "zoom in: wheel or +", () => zoom(0.6, middle())],
    [D.at !== undefined ? "failure" : "end", "key f", home], ["whole run", "key 0", () => look(0, D.last)]]) {
  const b = add("button", "plain", name);
  b.title = hint; b.onclick = act;
}

function resize() {
  const r = canvas.getBoundingClientRect(), d = devicePixelRatio || 1;
  W = r.width; H = r.height; canvas.width = W * d; canvas.height = H * d;
  g.setTransform(d, 0, 0, d, 0, 0);
  draw();
}
addEventListener("resize", resize);
resize(); home(); draw();
]==]

---The page. Times are seconds; at and node are where the failure was seen, by default what its text says ("at 1.5 s,
---node 2: ..."); before: how much of the messages in front of it is drawn.
---@param options { trace: string, title?: string, subtitle?: string, failure?: string, replay?: string, at?: number,
---  node?: integer, before?: number }
---@return string html
function diagram.html(options)
  local at, node = options.at, options.node
  if options.failure and not at then
    at, node = options.failure:match("at (%d+%.?%d*) s, node (%d+)")
    at, node = tonumber(at), math.tointeger(node)
  end
  local at_us = at and math.tointeger((at * 1000000 + 0.5) // 1)
  local data = collect(diagram.parse(options.trace), options, at_us)
  data.at, data.node, data.failure = at_us, node or 0, options.failure
  local headlines = {}
  if options.failure then headlines[1] = ('<div class="failure">%s</div>'):format(escaped(options.failure)) end
  if options.replay then
    headlines[#headlines + 1] = ('<div class="replay">replay: <code>%s</code></div>'):format(escaped(options.replay))
  end
  local parts = { title = escaped(options.title or "A simulated run"), subtitle = escaped(options.subtitle or ""),
    headlines = table.concat(headlines), data = json(data), script = SCRIPT }
  return (PAGE:gsub("%$(%l+)", parts))
end

---Writes the page to a file.
---@param path string
---@param options table  as of diagram.html
---@return boolean|nil, string? message
function diagram.write(path, options)
  local html = diagram.html(options)
  local file, message = io.open(path, "w")
  if not file then return nil, message end
  file:write(html)
  return file:close()
end

return diagram
