// The timeline of the page: only the rows in sight are drawn.
import { $, clock, endOf, last, liveOf, made, paint, run, view } from "./page_state.js";

export const ROW = 18;
const GUTTER = 190;
const TAIL = 26;
const AXIS = 78;
const NAME = 22;
const STEPS = [30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400];

const range = () => [view.from, view.to === null ? Math.max(last(), 0.5) : view.to];
const took = (bar) => endOf(bar) - bar.began_s;
const byTime = (a, b) => took(b) - took(a);
const byStart = (a, b) => a.began_s - b.began_s || (a.uuid < b.uuid ? -1 : 1);

function isWanted(bar) {
  if (bar.began_s === null) return false;
  if (view.find && !bar.uuid.startsWith(view.find) && !bar.name.toLowerCase().includes(view.find)) return false;
  if (view.filter === "running") return bar.ended_s === null;
  if (view.filter === "attention") return Boolean(bar.attention);
  return !view.filter || [bar.outcome, bar.did].includes(view.filter);
}

export const isFollowing = () => view.follow && run.end === null && view.order === "began";

export function isAtEnd() {
  const box = $("scroll");
  return box.scrollTop + box.clientHeight >= box.scrollHeight - ROW;
}

export function arrange() {
  view.rows = [...run.bars.values()].filter(isWanted);
  view.rows.sort(view.order === "took" ? byTime : byStart);
  $("spacer").style.height = `${Math.max(view.rows.length * ROW + 6, 1)}px`;
  // Those that run are the last: they are in sight until somebody scrolls.
  const box = $("scroll");
  if (isFollowing()) box.scrollTop = box.scrollHeight;
  const before = [...run.bars.values()].filter((bar) => bar.began_s === null).length;
  document.querySelector("#timeline-title .count").textContent =
    `${view.rows.length} of ${run.total || run.bars.size}${before ? `; ${before} were settled before this start` : ""}`;
}

function sized(canvas, height) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const [pixelsWide, pixelsHigh] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== pixelsWide || canvas.height !== pixelsHigh) {
    Object.assign(canvas, { width: pixelsWide, height: pixelsHigh });
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return [pen, width];
}

export function scale(width) {
  const [from, to] = range();
  const room = width - GUTTER - TAIL;
  const x = (s) => GUTTER + ((s - from) / (to - from)) * room;
  const s = (at) => from + ((at - GUTTER) / room) * (to - from);
  return { x, s, from, to, room };
}

// Where the axis has numbers.
function ticks({ from, to, room }) {
  const raw = (to - from) / Math.max(room / 90, 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  const steps = raw > 20 ? STEPS : [1, 2, 5, 10].map((each) => each * power);
  const step = steps.find((each) => each >= raw) ?? 86400;
  const found = [];
  for (let at = Math.ceil(from / step) * step; at <= to + 1e-9; at += step) found.push([at, tick(at, step)]);
  return found;
}

function tick(at, step) {
  if (step < 1) return at.toFixed(step < 0.1 ? 3 : 1);
  if (at < 60) return at.toFixed(0);
  return `${Math.floor(at / 60)}:${String(Math.round(at % 60)).padStart(2, "0")}`;
}

// How many instances had a slot, for each pixel of the axis: whole pixels by differences, their edges by area.
function levels(to) {
  const bins = Math.max(1, Math.floor(to.room));
  const area = new Float64Array(bins + 1);
  const whole = new Float64Array(bins + 2);
  for (const bar of run.bars.values()) {
    if (bar.began_s === null) continue;
    const left = Math.max(0, to.x(bar.began_s) - GUTTER);
    const right = Math.min(bins, to.x(bar.ended_s === null ? last() : bar.ended_s) - GUTTER);
    if (right <= left) continue;
    const [first, end] = [Math.floor(left), Math.floor(right)];
    if (first === end) {
      area[first] += right - left;
      continue;
    }
    area[first] += first + 1 - left;
    area[end] += right - end;
    whole[first + 1] += 1;
    whole[end] -= 1;
  }
  let level = 0;
  return Array.from(area.subarray(0, bins), (each, x) => {
    level += whole[x];
    return level + each;
  });
}

function drawPhases(pen, to) {
  for (const [index, each] of run.phases.entries()) {
    const left = to.x(each.began_s);
    const right = to.x(each.ended_s === null ? last() : each.ended_s);
    pen.fillStyle = index % 2 ? paint.grid : paint.choice;
    pen.fillRect(left, 4, Math.max(right - left, 1), 16);
    if (right - left > pen.measureText(each.phase).width + 8) {
      pen.fillStyle = paint.text;
      pen.fillText(each.phase, left + 4, 16);
    }
  }
}

export function drawAxis() {
  const [pen, width] = sized($("axis"), AXIS);
  const to = scale(width);
  pen.font = '11px system-ui, "DejaVu Sans", sans-serif';
  pen.save();
  pen.beginPath();
  pen.rect(GUTTER, 0, to.room, AXIS);
  pen.clip();
  drawPhases(pen, to);
  const found = levels(to);
  const most = found.reduce((a, b) => Math.max(a, b), 0.01);
  pen.fillStyle = paint.busy;
  pen.globalAlpha = 0.45;
  for (const [x, each] of found.entries()) {
    const high = (each / most) * 32;
    if (high > 0) pen.fillRect(GUTTER + x, 56 - high, 1, high);
  }
  pen.restore();
  pen.fillStyle = paint.quiet;
  pen.textAlign = "right";
  pen.fillText("phase", GUTTER - 8, 16);
  pen.fillText(`at once, ≤ ${Math.round(most)}`, GUTTER - 8, 44);
  pen.fillText("seconds, minutes", GUTTER - 8, 73);
  pen.textAlign = "left";
  for (const [at, number] of ticks(to)) {
    pen.fillStyle = paint.line;
    pen.fillRect(to.x(at), 58, 1, 5);
    pen.fillStyle = paint.quiet;
    pen.fillText(number, to.x(at) + 3, 73);
  }
}

function segmentsOf(bar) {
  if (bar.ended_s !== null) return bar.actions;
  return [...bar.actions, [bar.action, bar.action_began_s, Math.max(0, clock() - bar.action_began_s), false]];
}

// The end of a UUID tells apart what its beginning, for one that was made in sequence, does not.
function label(bar) {
  if (!bar.name) return `${bar.uuid.slice(0, 4)}…${bar.uuid.slice(-6)}`;
  return bar.name.length > NAME ? `${bar.name.slice(0, NAME - 1)}…` : bar.name;
}

function drawRow(pen, bar, { y, to, width, pattern }) {
  if (bar.uuid === view.chosen) {
    pen.fillStyle = paint.choice;
    pen.fillRect(0, y - 2, width, ROW);
  }
  const isBad = bar.attention && bar.attention !== "warning";
  pen.fillStyle = isBad ? paint.bad : paint.text;
  pen.fillText(bar.mark, 8, y + 11);
  pen.fillStyle = isBad ? paint.bad : paint.quiet;
  pen.fillText(label(bar), 24, y + 11);
  drawSegments(pen, bar, { y, to, width, pattern });
  const end = to.x(endOf(bar));
  const text = (bar.ended_s === null ? liveOf(bar) : bar)?.took ?? "";
  const hasRoom = end + pen.measureText(text).width + 6 < width;
  if (hasRoom && end >= GUTTER && end <= GUTTER + to.room + 1) pen.fillText(text, end + 5, y + 11);
}

function drawSegments(pen, bar, { y, to, width, pattern }) {
  pen.save();
  pen.beginPath();
  pen.rect(GUTTER, y - 3, to.room + 1, ROW + 2);
  pen.clip();
  for (const [verb, began, took_s, failed] of segmentsOf(bar)) {
    const left = to.x(began);
    const wide = Math.max(to.x(began + took_s) - left, 1);
    if (left > width || left + wide < GUTTER) continue;
    pen.fillStyle = failed ? pattern : run.colourOf(verb);
    pen.fillRect(left, y, wide, ROW - 5);
  }
  pen.restore();
}

export function drawRows() {
  const box = $("scroll");
  const height = box.clientHeight;
  const [pen, width] = sized($("canvas"), height);
  const to = scale(width);
  pen.font = '11px ui-monospace, "DejaVu Sans Mono", monospace';
  pen.fillStyle = paint.grid;
  for (const [at] of ticks(to)) pen.fillRect(to.x(at), 0, 1, height);
  if (!view.rows.length) {
    pen.fillStyle = paint.quiet;
    pen.fillText(run.bars.size ? "nothing to show" : "no instance is being worked on yet", GUTTER, 22);
    return;
  }
  const pattern = pen.createPattern(paint.failed, "repeat");
  const first = Math.max(0, Math.floor(box.scrollTop / ROW));
  const rows = view.rows.slice(first, first + Math.ceil(height / ROW) + 1);
  for (const [index, bar] of rows.entries()) {
    drawRow(pen, bar, { y: (first + index) * ROW - box.scrollTop + 3, to, width, pattern });
  }
}

export function choose(uuid) {
  view.chosen = uuid;
  const box = $("scroll");
  const top = view.rows.findIndex((bar) => bar.uuid === uuid) * ROW;
  const isHidden = top < box.scrollTop || top + 2 * ROW > box.scrollTop + box.clientHeight;
  if (top >= 0 && isHidden) box.scrollTop = top - box.clientHeight / 2;
  const bar = run.bars.get(uuid);
  $("chosen").replaceChildren(...(bar ? described(bar) : []));
  view.dirty = true;
}

export function described(bar) {
  const { summary, longest } = (bar.ended_s === null ? liveOf(bar) : bar) ?? { summary: bar.action };
  const project = bar.project ? `project ${bar.project}` : "";
  const parts = [made("p", bar.uuid, { class: "uuid" })];
  for (const text of [bar.name, project, summary, bar.message, longest]) if (text) parts.push(made("p", text));
  return parts;
}

export function zoom(factor, at) {
  const [from, to] = range();
  const middle = at === undefined ? (from + to) / 2 : at;
  const whole = Math.max(last(), 0.5);
  const width = Math.min(Math.max((to - from) * factor, 0.02), whole);
  view.from = Math.max(0, Math.min(middle - (middle - from) * (width / (to - from)), whole - width));
  view.to = width >= whole ? null : view.from + width;
  view.dirty = true;
}

export function pan(share) {
  if (view.to === null) return;
  const [from, to] = range();
  const whole = Math.max(last(), 0.5);
  view.from = Math.max(0, Math.min(from + (to - from) * share, whole - (to - from)));
  view.to = view.from + (to - from);
  view.dirty = true;
}
