// The status page: asks /timeline once, then follows /events. page_timeline.js draws the bars.
const $ = (id) => document.getElementById(id);
const MARK = { initialized: "✓", skipped: "–", failed: "✕", superseded: "⇄", held: "‖", deferred: "…", warning: "!" };
const ATTENTION = ["failed", "held", "deferred", "superseded"];
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
    tile("settled", facts.done, `of ${facts.total}`), tile("failed", counts.failed, "", "bad"), tile("held", counts.held, "", "warn"), tile("deferred", counts.deferred, "", "warn"),
    tile("superseded", counts.superseded), tile("skipped", counts.skipped), tile("running", head.running.length), tile("waiting", facts.waiting),
    tile("a second", facts.rate === null ? "–" : facts.rate.toFixed(facts.rate < 10 ? 1 : 0)),
    run.end === null ? tile("left, about", facts.eta_s === null ? "–" : span(facts.eta_s)) : tile("it took", span(took)));
  attention();
  list($("running"), head.running, (each) => [made("span", span(each.action_age_s)), link(each.uuid), made("span", each.action)]);
}

function attention() {
  const found = [...run.bars.values()].filter((bar) => ATTENTION.includes(bar.outcome) || bar.warnings);
  const rank = (bar) => ATTENTION.indexOf(bar.outcome);
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
