// The timeline of the status page: only the rows in sight are drawn. Goes before page.js, in one script with it.
"use strict";

function arrange() {
  const wanted = (bar) => {
    if (bar.began_s === null || (view.find && !bar.uuid.startsWith(view.find))) return false;
    if (!view.filter) return true;
    if (view.filter === "running") return bar.ended_s === null;
    return view.filter === "attention" ? ATTENTION.includes(bar.outcome) || bar.warnings > 0 : bar.outcome === view.filter;
  };
  const now = last(), took = (bar) => (bar.ended_s === null ? now : bar.ended_s) - bar.began_s;
  view.rows = [...run.bars.values()].filter(wanted);
  view.rows.sort(view.order === "took" ? (a, b) => took(b) - took(a) : (a, b) => a.began_s - b.began_s || (a.uuid < b.uuid ? -1 : 1));
  $("spacer").style.height = `${Math.max(view.rows.length * ROW + 6, 1)}px`;
  // Those that run are the last: they are in sight until somebody looks elsewhere.
  if (view.follow && run.end === null && view.order === "began") $("scroll").scrollTop = $("scroll").scrollHeight;
  const before = [...run.bars.values()].filter((bar) => bar.began_s === null).length;
  document.querySelector("#timeline-title .count").textContent = `${view.rows.length} of ${run.total || run.bars.size}` + (before ? `; ${before} were settled before this start` : "");
}

function sized(canvas, height) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return [pen, width];
}

function scale(width) {
  const [from, to] = range(), room = width - GUTTER - TAIL;
  return { x: (s) => GUTTER + ((s - from) / (to - from)) * room, s: (x) => from + ((x - GUTTER) / room) * (to - from), from, to, room };
}

function ticks(from, to, room) {
  const raw = (to - from) / Math.max(room / 90, 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  const steps = raw > 20 ? [30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400].filter((each) => each >= raw) : [1, 2, 5, 10].map((each) => each * power).filter((each) => each >= raw);
  const step = steps[0] || 86400, found = [];
  for (let at = Math.ceil(from / step) * step; at <= to + 1e-9; at += step) found.push(at);
  return [found, (at) => (step < 0.1 ? `${(at * 1000).toFixed(0)} ms` : step < 1 ? `${at.toFixed(1)} s` : at < 60 ? `${at.toFixed(0)} s` : `${Math.floor(at / 60)}:${String(Math.round(at % 60)).padStart(2, "0")}`)];
}

function drawAxis() {
  const [pen, width] = sized($("axis"), AXIS), to = scale(width);
  pen.font = '11px system-ui, "DejaVu Sans", sans-serif';
  pen.save();
  pen.beginPath(); pen.rect(GUTTER, 0, to.room, AXIS); pen.clip();
  run.phases.forEach((each, index) => {
    const left = to.x(each.began_s), right = to.x(each.ended_s === null ? last() : each.ended_s);
    pen.fillStyle = index % 2 ? paint.grid : paint.choice; pen.fillRect(left, 4, Math.max(right - left, 1), 16);
    if (right - left > pen.measureText(each.phase).width + 8) { pen.fillStyle = paint.text; pen.fillText(each.phase, left + 4, 16); }
  });
  // How many had a slot at each moment.
  const bins = Math.max(1, Math.floor(to.room)), area = new Float64Array(bins + 1), whole = new Float64Array(bins + 2);
  for (const bar of run.bars.values()) {
    if (bar.began_s === null) continue;
    const left = Math.max(0, to.x(bar.began_s) - GUTTER), right = Math.min(bins, to.x(bar.ended_s === null ? last() : bar.ended_s) - GUTTER);
    if (right <= left) continue;
    const first = Math.floor(left), end = Math.floor(right);
    if (first === end) { area[first] += right - left; continue; }
    area[first] += first + 1 - left; area[end] += right - end;
    whole[first + 1] += 1; whole[end] -= 1;
  }
  let level = 0, most = 0.01;
  const levels = Array.from(area.subarray(0, bins), (each, x) => { level += whole[x]; most = Math.max(most, level + each); return level + each; });
  pen.fillStyle = paint.busy; pen.globalAlpha = 0.45;
  levels.forEach((each, x) => { if (each > 0) pen.fillRect(GUTTER + x, 56 - (each / most) * 32, 1, (each / most) * 32); });
  pen.restore();
  pen.fillStyle = paint.quiet; pen.textAlign = "right";
  pen.fillText("phase", GUTTER - 8, 16); pen.fillText(`at once, ≤ ${Math.round(most)}`, GUTTER - 8, 44); pen.textAlign = "left";
  const [at, label] = ticks(to.from, to.to, to.room);
  for (const each of at) { pen.fillStyle = paint.line; pen.fillRect(to.x(each), 58, 1, 5); pen.fillStyle = paint.quiet; pen.fillText(label(each), to.x(each) + 3, 73); }
}

function segmentsOf(bar) {
  return bar.ended_s === null ? [...bar.actions, [bar.action, bar.action_began_s, Math.max(0, clock() - bar.action_began_s), false]] : bar.actions;
}

function drawRows() {
  const box = $("scroll"), height = box.clientHeight, [pen, width] = sized($("canvas"), height), to = scale(width);
  const first = Math.max(0, Math.floor(box.scrollTop / ROW)), pattern = pen.createPattern(paint.failed, "repeat");
  pen.font = '11px ui-monospace, "DejaVu Sans Mono", monospace';
  for (const each of ticks(to.from, to.to, to.room)[0]) { pen.fillStyle = paint.grid; pen.fillRect(to.x(each), 0, 1, height); }
  for (let index = first; index < Math.min(view.rows.length, first + Math.ceil(height / ROW) + 1); index += 1) {
    const bar = view.rows[index], y = index * ROW - box.scrollTop + 3;
    if (bar.uuid === view.chosen) { pen.fillStyle = paint.choice; pen.fillRect(0, y - 2, width, ROW); }
    const bad = ATTENTION.includes(bar.outcome);
    pen.fillStyle = bad ? paint.bad : paint.text;
    pen.fillText(bar.ended_s === null ? "▸" : MARK[bar.warnings && !bad ? "warning" : bar.outcome] || "", 8, y + 11);
    pen.fillStyle = bad ? paint.bad : paint.quiet;
    pen.fillText(short(bar.uuid), 24, y + 11);
    pen.save(); pen.beginPath(); pen.rect(GUTTER, y - 3, to.room + 1, ROW + 2); pen.clip();
    for (const [verb, began, took, failed] of segmentsOf(bar)) {
      const left = to.x(began), wide = Math.max(to.x(began + took) - left, 1);
      if (left > width || left + wide < GUTTER) continue;
      pen.fillStyle = failed ? pattern : fillOf(verb);
      pen.fillRect(left, y, wide, ROW - 5);
    }
    pen.restore();
    const end = to.x(bar.ended_s === null ? clock() : bar.ended_s);
    if (end >= GUTTER && end <= GUTTER + to.room + 1) {
      const took = span((bar.ended_s === null ? clock() : bar.ended_s) - bar.began_s), room = pen.measureText(took).width + 6;
      const outside = end + room < width;
      if (outside) { pen.fillStyle = bad ? paint.bad : paint.quiet; pen.fillText(took, end + 5, y + 11); }
    }
  }
  if (!view.rows.length) { pen.fillStyle = paint.quiet; pen.fillText(run.bars.size ? "nothing to show" : "no instance is being worked on yet", GUTTER, 22); }
}

// The end of a UUID tells apart what its beginning, for one that was made in sequence, does not.
const short = (uuid) => `${uuid.slice(0, 4)}…${uuid.slice(-6)}`;

function choose(uuid) {
  view.chosen = uuid;
  const index = view.rows.findIndex((bar) => bar.uuid === uuid), box = $("scroll");
  if (index >= 0 && (index * ROW < box.scrollTop || (index + 2) * ROW > box.scrollTop + box.clientHeight)) box.scrollTop = index * ROW - box.clientHeight / 2;
  const bar = run.bars.get(uuid);
  $("chosen").replaceChildren(...(bar ? described(bar) : []));
  view.dirty = true;
}

function described(bar) {
  const took = span((bar.ended_s === null ? clock() : bar.ended_s) - bar.began_s), lines = [made("p", bar.uuid, { class: "uuid" })];
  lines.push(made("p", bar.ended_s === null ? `running for ${took}: ${bar.action}` : `${bar.outcome} after ${took}${bar.because?.length ? `, because ${bar.because.join(" > ")}` : ""}`));
  if (bar.message) lines.push(made("p", bar.message));
  const longest = [...segmentsOf(bar)].sort((a, b) => b[2] - a[2]).slice(0, 6);
  lines.push(made("p", longest.map(([verb, , s, failed]) => `${verb} ${span(s)}${failed ? " (failed)" : ""}`).join(" · ")));
  return lines;
}

function zoom(factor, at) {
  const [from, to] = range(), middle = at === undefined ? (from + to) / 2 : at, whole = Math.max(last(), 0.5);
  const width = Math.min(Math.max((to - from) * factor, 0.02), whole);
  view.from = Math.max(0, Math.min(middle - (middle - from) * (width / (to - from)), whole - width));
  view.to = width >= whole ? null : view.from + width;
  view.dirty = true;
}

function pan(share) {
  const [from, to] = range(), step = (to - from) * share, whole = Math.max(last(), 0.5);
  if (view.to === null) return;
  view.from = Math.max(0, Math.min(from + step, whole - (to - from))); view.to = view.from + (to - from);
  view.dirty = true;
}
