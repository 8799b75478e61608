// The status page: places what the daemon sends, and follows what an operator does.
import { $, made, paint, readColours, run, view } from "./page_state.js";
import { load } from "./page_events.js";
import { drawPace } from "./page_pace.js";
import {
  arrange,
  choose,
  described,
  drawAxis,
  drawRows,
  isAtEnd,
  isFollowing,
  pan,
  ROW,
  scale,
  zoom,
} from "./page_timeline.js";

const LISTED = 200;

// What the daemon sends

function showTimeline(timeline) {
  $("host").textContent = timeline.host;
  $("version").textContent = timeline.version;
  $("meta").textContent = `started ${new Date(timeline.started_at).toLocaleString()}`;
  const groups = Object.values(timeline.groups).map((group) => [group.label, group.colour]);
  $("legend").replaceChildren(...[...groups, ["failed", null]].map(([label, colour]) => legend(label, colour)));
  const filters = timeline.filters.map(([value, text]) => made("option", text, { value }));
  $("filter").replaceChildren(...[...$("filter").children].slice(0, 3), ...filters);
  $("filter").value = view.filter;
}

function legend(label, colour) {
  const item = made("li");
  const swatch = Object.assign(made("canvas"), { width: 12, height: 12 });
  const pen = swatch.getContext("2d");
  pen.fillStyle = colour ?? pen.createPattern(paint.failed, "repeat");
  pen.fillRect(0, 0, 12, 12);
  item.append(swatch, made("span", label));
  return item;
}

function showHead() {
  const { head } = run;
  if (!head) return;
  $("state").textContent = head.state_text;
  $("state").dataset.state = head.state;
  document.title = `${head.state_text} · ${head.host}`;
  $("reason").textContent = head.state === "initializing" || head.ready ? head.headline : head.reason;
  const bar = $("bar");
  bar.firstElementChild.style.width = `${head.run?.total ? (100 * head.run.done) / head.run.total : 0}%`;
  bar.setAttribute("aria-valuenow", head.percent);
  bar.toggleAttribute("data-over", head.state === "ready");
  $("tiles").replaceChildren(...head.tiles.map(tile));
  showAttention();
  showBoots(head.pace);
  list($("running"), head.running, (each) => [made("span", each.took), link(each), made("span", each.summary)]);
}

function showBoots(pace) {
  const slowest = (pace?.ready.slowest ?? []).map((each) => ({ ...each, summary: each.text }));
  list($("pace"), slowest, (each) => [made("span", each.by ?? "no sign"), link(each), made("span", each.text)]);
  drawPace(pace);
  const unreachable = (pace?.verdicts.guests ?? []).map((each) => ({ ...each, summary: each.text }));
  list($("unreachable"), unreachable, (each) => [made("b", each.verdict), link(each), made("span", each.why)]);
}

function tile({ label, value, note, mood }) {
  const box = made("div", undefined, mood ? { class: mood } : {});
  const number = made("dd", value);
  if (note) number.append(made("small", ` ${note}`));
  box.append(made("dt", label), number);
  return box;
}

const rank = (bar) => run.attention.indexOf(bar.attention);

function showAttention() {
  const found = [...run.bars.values()].filter((bar) => bar.attention);
  found.sort((a, b) => rank(a) - rank(b) || a.ended_s - b.ended_s);
  list($("attention"), found, (bar) => [
    made("b", `${bar.mark} ${bar.attention}`),
    link(bar),
    made("span", bar.message ?? bar.summary),
  ]);
}

function list(section, all, cells) {
  section.hidden = all.length === 0;
  const count = all.length > LISTED ? `${all.length}, the first ${LISTED} are listed` : all.length;
  section.querySelector(".count").textContent = count;
  const shown = all.slice(0, LISTED);
  const signature = JSON.stringify(shown.map(({ uuid, attention, summary }) => [uuid, attention, summary]));
  if (section.dataset.signature === signature) return;
  section.dataset.signature = signature;
  const focused = section.contains(document.activeElement) ? document.activeElement.dataset.uuid : undefined;
  const items = shown.map((each) => {
    const item = made("li", undefined, each.attention ? { "data-attention": each.attention } : {});
    item.append(...cells(each));
    return item;
  });
  section.querySelector("ol").replaceChildren(...items);
  if (focused) section.querySelector(`[data-uuid="${CSS.escape(focused)}"]`)?.focus();
}

function link({ uuid, name }) {
  const text = name ? `${name} (${uuid})` : uuid;
  const button = made("button", text, { class: "uuid", "data-uuid": uuid, title: "show in the timeline" });
  button.addEventListener("click", () => {
    Object.assign(view, { filter: "", find: "", follow: false });
    $("filter").value = "";
    $("find").value = "";
    arrange();
    choose(uuid);
    $("scroll").focus();
  });
  return button;
}

// What an operator does

function narrow(change) {
  Object.assign(view, change, { dirty: true });
  $("scroll").scrollTop = 0;
  arrange();
}

function showAll() {
  Object.assign(view, { from: 0, to: null, dirty: true });
}

const keys = {
  ArrowLeft: () => pan(-0.2),
  ArrowRight: () => pan(0.2),
  "+": () => zoom(0.5),
  "-": () => zoom(2),
  0: showAll,
};

function move(key) {
  const index = view.rows.findIndex((bar) => bar.uuid === view.chosen);
  const end = view.rows.length - 1;
  const page = Math.floor($("scroll").clientHeight / ROW) - 1;
  const to = {
    ArrowDown: index + 1,
    ArrowUp: index - 1,
    PageDown: index + page,
    PageUp: index - page,
    Home: 0,
    End: end,
  };
  if (!(key in to) || end < 0) return false;
  choose(view.rows[Math.min(Math.max(to[key], 0), end)].uuid);
  return true;
}

function onKey(event) {
  const act = keys[event.key];
  if (!move(event.key) && !act) return;
  act?.();
  event.preventDefault();
}

function barAt(event) {
  const box = $("scroll");
  return view.rows[Math.floor((event.clientY - box.getBoundingClientRect().top + box.scrollTop) / ROW)];
}

function showTip(event) {
  const bar = barAt(event);
  const tip = $("tip");
  tip.hidden = !bar;
  if (!bar) return;
  tip.replaceChildren(...described(bar));
  const box = $("frame").getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  const isBelow = y + 18 + tip.offsetHeight <= box.height;
  tip.style.left = `${Math.min(x + 14, box.width - tip.offsetWidth - 8)}px`;
  tip.style.top = `${isBelow ? y + 18 : Math.max(y - tip.offsetHeight - 12, 4)}px`;
}

function onWheel(event) {
  if (!event.ctrlKey) return;
  event.preventDefault();
  zoom(event.deltaY > 0 ? 1.25 : 0.8, scale($("canvas").clientWidth).s(event.offsetX));
}

function redraw() {
  view.dirty = true;
}

function stopFollowing() {
  view.follow = false;
}

// By whatever means: a scroll bar's keys, find-in-page and assistive technology send no other event.
function onScroll() {
  if (isFollowing() && !isAtEnd()) stopFollowing();
  redraw();
}

function listen() {
  $("filter").addEventListener("change", (event) => narrow({ filter: event.target.value }));
  $("order").addEventListener("change", (event) => narrow({ order: event.target.value }));
  $("find").addEventListener("input", (event) => narrow({ find: event.target.value.trim().toLowerCase() }));
  $("in").addEventListener("click", () => zoom(0.5));
  $("out").addEventListener("click", () => zoom(2));
  $("all").addEventListener("click", showAll);
  const box = $("scroll");
  for (const name of ["wheel", "keydown", "pointerdown", "touchstart"]) {
    box.addEventListener(name, stopFollowing, { passive: true });
  }
  box.addEventListener("scroll", onScroll);
  box.addEventListener("keydown", onKey);
  box.addEventListener("wheel", onWheel, { passive: false });
  box.addEventListener("click", (event) => {
    const bar = barAt(event);
    if (bar) choose(bar.uuid);
  });
  box.addEventListener("mousemove", showTip);
  box.addEventListener("mouseleave", () => {
    $("tip").hidden = true;
  });
  window.addEventListener("resize", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    readColours();
    redraw();
  });
}

// While it runs the bars grow by themselves; afterwards only what changes is drawn.
const MOVES_MS = 100;
let arranged = 0;
let drawn = 0;

function frame(now) {
  const isLive = run.end === null || run.head?.running.length > 0;
  if (paint.failed && (view.dirty || (isLive && now - drawn > MOVES_MS))) {
    if (view.dirty && now - arranged > (run.bars.size > 2000 ? 5 : 1) * MOVES_MS) {
      arrange();
      showHead();
      arranged = now;
      view.dirty = false;
    }
    drawAxis();
    drawRows();
    drawn = now;
    document.body.dataset.drawn = String(view.rows.length);
  }
  requestAnimationFrame(frame);
}

readColours();
listen();
load(showTimeline);
requestAnimationFrame(frame);
