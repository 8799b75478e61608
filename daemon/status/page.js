"use strict";
// The status page: asks /timeline once, then follows /events. Draws only the rows that are in sight.
const $ = (id) => document.getElementById(id);
const MARK = { initialized: "✓", skipped: "–", failed: "✕", superseded: "⇄", held: "‖", warning: "!" };
const ATTENTION = ["failed", "held", "superseded"];
const ROW = 18, GUTTER = 112, TAIL = 26, AXIS = 78, LISTED = 200, LANES = 16;
const run = { bars: new Map(), phases: [], groups: {}, total: 0, end: null, head: null, source: null, skew: 0 };
const view = { rows: [], from: 0, to: null, chosen: null, dirty: true, drawn: false, filter: "", order: "began", find: "", follow: true };

const clock = () => performance.now() / 1000 + run.skew;
const last = () => (run.end === null ? clock() : run.end);
const range = () => [view.from, view.to === null ? Math.max(last(), 0.5) : view.to];
const verbGroup = new Map();

function span(seconds) {
  if (seconds < 0.0995) return `${Math.max(0, seconds * 1000).toFixed(0)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

function made(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim(); }
const paint = {};
function takeColours() {
  for (const name of ["text", "quiet", "grid", "line", "card", "bad", "busy", "choice", "warn", "good"]) paint[name] = colour(name);
  const tile = Object.assign(document.createElement("canvas"), { width: 6, height: 6 });
  const pen = tile.getContext("2d");
  pen.fillStyle = "#d55e00"; pen.fillRect(0, 0, 6, 6);
  pen.strokeStyle = "#fff"; pen.lineWidth = 1.4;
  for (const x of [-6, 0, 6]) { pen.beginPath(); pen.moveTo(x, 6); pen.lineTo(x + 6, 0); pen.stroke(); }
  paint.failed = tile;
}
const fillOf = (verb) => (run.groups[verbGroup.get(verb)] || { colour: "#9aa0a6" }).colour;

// What is known

async function load() {
  run.source?.close();
  let timeline;
  try {
    timeline = await (await fetch("timeline", { cache: "no-store" })).json();
  } catch { lost(true); setTimeout(load, 2000); return; }
  Object.assign(run, { bars: new Map(), phases: timeline.phases, groups: timeline.groups, total: timeline.total, end: timeline.ended_s });
  run.skew = timeline.now_s - performance.now() / 1000;
  verbGroup.clear();
  for (const [name, group] of Object.entries(run.groups)) for (const verb of group.verbs) verbGroup.set(verb, name);
  for (const bar of timeline.bars) run.bars.set(bar.uuid, bar);
  $("host").textContent = timeline.host;
  $("version").textContent = timeline.version;
  $("meta").textContent = `started ${new Date(timeline.started_at).toLocaleString()}`;
  legend();
  follow(timeline.last_event_id);
  view.dirty = true;
}

function follow(after) {
  run.source = new EventSource(`events?after=${encodeURIComponent(after)}`);
  const on = (name, take) => run.source.addEventListener(name, (event) => { lost(false); take(JSON.parse(event.data)); view.dirty = true; });
  on("progress", (head) => { run.head = head; run.skew = head.uptime_s - performance.now() / 1000; });
  on("phase", (each) => {
    const now = run.phases[run.phases.length - 1];
    if (now && now.phase === each.phase) return;
    if (now) now.ended_s = each.at_s;
    if (each.phase !== "done") run.phases.push({ phase: each.phase, began_s: each.at_s, ended_s: null });
  });
  on("work", (each) => { run.total = each.total; });
  on("began", (each) => run.bars.set(each.uuid, { uuid: each.uuid, began_s: each.at_s, ended_s: null, action: "decide", action_began_s: each.at_s, actions: [] }));
  on("action", (each) => {
    const bar = run.bars.get(each.uuid);
    if (!bar || bar.ended_s !== null) return;
    if (each.at_s > bar.action_began_s) bar.actions.push([bar.action, bar.action_began_s, each.at_s - bar.action_began_s, false]);
    Object.assign(bar, { action: each.action, action_began_s: each.at_s });
  });
  on("ended", (bar) => run.bars.set(bar.uuid, bar));
  on("done", (each) => { run.end = each.at_s; const now = run.phases[run.phases.length - 1]; if (now) now.ended_s = each.at_s; });
  on("reset", load);
  on("end", () => { run.source.close(); lost(true); setTimeout(load, 2000); });
  run.source.onerror = () => { lost(true); if (run.source.readyState === EventSource.CLOSED) setTimeout(load, 2000); };
}

function lost(yes) {
  $("lost").hidden = !yes;
  if (yes) { $("state").textContent = "no answer"; $("state").dataset.state = "unknown"; }
}

// Words

function legend() {
  const items = Object.values(run.groups).map((group) => [group.label, group.colour]);
  $("legend").replaceChildren(...[...items, ["failed", null]].map(([label, fill]) => {
    const item = made("li");
    const swatch = made("canvas");
    Object.assign(swatch, { width: 12, height: 12 });
    const pen = swatch.getContext("2d");
    pen.fillStyle = fill || pen.createPattern(paint.failed, "repeat");
    pen.fillRect(0, 0, 12, 12);
    item.append(swatch, made("span", label));
    return item;
  }));
}

function words() {
  const head = run.head;
  if (!head) return;
  const counts = head.counts, facts = head.run || { total: 0, done: 0, waiting: 0, rate: null, eta_s: null };
  $("state").textContent = head.state === "initializing" ? `initializing ${head.percent} %` : head.state;
  $("state").dataset.state = head.state;
  document.title = `${head.state === "initializing" ? `${head.percent} %` : head.state} · ${head.host}`;
  $("reason").textContent = head.state === "initializing" ? [head.phase, head.detail].filter(Boolean).join(": ") : head.state === "ready" ? "" : head.reason;
  $("bar").firstElementChild.style.width = `${facts.total ? (100 * facts.done) / facts.total : 0}%`;
  $("bar").setAttribute("aria-valuenow", head.percent);
  $("bar").toggleAttribute("data-over", head.state === "ready");
  const tile = (name, value, small = "", kind = "") => {
    const box = made("div", undefined, kind && value ? { class: kind } : {}), number = made("dd", String(value));
    if (small) number.append(made("small", ` ${small}`));
    box.append(made("dt", name), number);
    return box;
  };
  const took = run.end === null ? clock() : run.end;
  $("tiles").replaceChildren(
    tile("settled", facts.done, `of ${facts.total}`), tile("failed", counts.failed, "", "bad"), tile("held", counts.held, "", "warn"),
    tile("superseded", counts.superseded), tile("skipped", counts.skipped), tile("running", head.running.length), tile("waiting", facts.waiting),
    tile("a second", facts.rate === null ? "–" : facts.rate.toFixed(facts.rate < 10 ? 1 : 0)),
    run.end === null ? tile("left, about", facts.eta_s === null ? "–" : span(facts.eta_s)) : tile("it took", span(took)));
  attention();
  list($("running"), head.running, (each) => [made("span", span(each.action_age_s)), link(each.uuid), made("span", each.action)]);
}

function attention() {
  const found = [...run.bars.values()].filter((bar) => ATTENTION.includes(bar.outcome) || bar.warnings);
  const rank = (bar) => (ATTENTION.indexOf(bar.outcome) + 4) % 4;
  found.sort((a, b) => (ATTENTION.includes(a.outcome) ? rank(a) : 9) - (ATTENTION.includes(b.outcome) ? rank(b) : 9) || a.ended_s - b.ended_s);
  list($("attention"), found, (bar) => {
    const word = ATTENTION.includes(bar.outcome) ? bar.outcome : "warning";
    return [made("b", `${MARK[word]} ${word}`), link(bar.uuid), made("span", bar.message || (bar.because || []).join(" > "))];
  }, (bar) => (ATTENTION.includes(bar.outcome) ? bar.outcome : "warning"));
}

function list(section, all, cells, outcome) {
  section.hidden = all.length === 0;
  section.querySelector(".count").textContent = all.length > LISTED ? `${all.length}, the first ${LISTED} are listed` : all.length;
  const shown = all.slice(0, LISTED);
  const signature = JSON.stringify(shown.map((each) => [each.uuid, each.outcome, each.action, Math.round(each.action_age_s || 0)]));
  if (section.dataset.signature === signature) return;
  section.dataset.signature = signature;
  const focused = document.activeElement?.dataset?.uuid && section.contains(document.activeElement) ? document.activeElement.dataset.uuid : null;
  section.querySelector("ol").replaceChildren(...shown.map((each) => {
    const item = made("li", undefined, outcome ? { "data-outcome": outcome(each) } : {});
    item.append(...cells(each));
    return item;
  }));
  if (focused) section.querySelector(`[data-uuid="${CSS.escape(focused)}"]`)?.focus();
}

function link(uuid) {
  const button = made("button", uuid, { class: "uuid", "data-uuid": uuid, title: "show in the timeline" });
  button.addEventListener("click", () => { view.filter = view.find = ""; $("filter").value = $("find").value = ""; view.follow = false; arrange(); choose(uuid); $("scroll").focus(); });
  return button;
}

// The timeline

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

// What a person does

function listen() {
  $("filter").addEventListener("change", (event) => { view.filter = event.target.value; arrange(); $("scroll").scrollTop = 0; view.dirty = true; });
  $("order").addEventListener("change", (event) => { view.order = event.target.value; view.dirty = true; });
  $("find").addEventListener("input", (event) => { view.find = event.target.value.trim().toLowerCase(); arrange(); $("scroll").scrollTop = 0; view.dirty = true; });
  $("in").addEventListener("click", () => zoom(0.5));
  $("out").addEventListener("click", () => zoom(2));
  $("all").addEventListener("click", () => { Object.assign(view, { from: 0, to: null, dirty: true }); });
  const box = $("scroll");
  for (const name of ["wheel", "keydown", "pointerdown", "touchstart"]) box.addEventListener(name, () => { view.follow = false; }, { passive: true });
  box.addEventListener("scroll", () => { view.dirty = true; });
  box.addEventListener("keydown", (event) => {
    const index = view.rows.findIndex((bar) => bar.uuid === view.chosen), page = Math.floor(box.clientHeight / ROW) - 1;
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -view.rows.length, End: view.rows.length }[event.key];
    if (step !== undefined && view.rows.length) choose(view.rows[Math.min(Math.max(index + (index < 0 && step > 0 ? 1 : step) - (index < 0 && step > 1 ? 1 : 0), 0), view.rows.length - 1)].uuid);
    else if (event.key === "ArrowLeft") pan(-0.2);
    else if (event.key === "ArrowRight") pan(0.2);
    else if (event.key === "+") zoom(0.5);
    else if (event.key === "-") zoom(2);
    else if (event.key === "0") Object.assign(view, { from: 0, to: null, dirty: true });
    else return;
    event.preventDefault();
  });
  box.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, scale($("canvas").clientWidth).s(event.offsetX));
  }, { passive: false });
  const under = (event) => view.rows[Math.floor((event.clientY - box.getBoundingClientRect().top + box.scrollTop) / ROW)];
  box.addEventListener("click", (event) => { const bar = under(event); if (bar) choose(bar.uuid); });
  box.addEventListener("mousemove", (event) => {
    const bar = under(event), tip = $("tip"), frame = $("frame").getBoundingClientRect();
    tip.hidden = !bar;
    if (!bar) return;
    tip.replaceChildren(...described(bar));
    const x = event.clientX - frame.left, y = event.clientY - frame.top;
    tip.style.left = `${Math.min(x + 14, frame.width - tip.offsetWidth - 8)}px`;
    tip.style.top = `${y + 18 + tip.offsetHeight > frame.height ? Math.max(y - tip.offsetHeight - 12, 4) : y + 18}px`;
  });
  box.addEventListener("mouseleave", () => { $("tip").hidden = true; });
  window.addEventListener("resize", () => { view.dirty = true; });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { takeColours(); view.dirty = true; });
}

// While it runs the bars grow by themselves; afterwards only what changes is drawn.
let arranged = 0, written = 0;
function tick(now) {
  const live = run.end === null || [...(run.head?.running || [])].length > 0;
  if (view.dirty || (live && now - written > 100)) {
    if (view.dirty && now - arranged > (run.bars.size > 2000 ? 500 : 100)) { arrange(); words(); arranged = now; view.dirty = false; }
    drawAxis(); drawRows(); written = now;
    document.body.dataset.drawn = String(view.rows.length);
  }
  requestAnimationFrame(tick);
}

takeColours();
listen();
load();
requestAnimationFrame(tick);
