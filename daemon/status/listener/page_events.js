// Asks /timeline once, then follows /events; both go into the state.
import { $, drawFailedPattern, run, view } from "./page_state.js";

const AGAIN_MS = 2000;
let source = null;

export function lost(yes) {
  $("lost").hidden = !yes;
  if (yes) {
    $("state").textContent = "no answer";
    $("state").dataset.state = "unknown";
  }
}

function retry(onLoad) {
  lost(true);
  setTimeout(load, AGAIN_MS, onLoad);
}

export async function load(onLoad) {
  source?.close();
  let timeline;
  try {
    timeline = await (await fetch("timeline", { cache: "no-store" })).json();
  } catch {
    retry(onLoad);
    return;
  }
  run.bars = new Map(timeline.bars.map((bar) => [bar.uuid, bar]));
  Object.assign(run, { phases: timeline.phases, total: timeline.total, end: timeline.ended_s });
  run.attention = timeline.attention;
  run.skew = timeline.now_s - performance.now() / 1000;
  run.groups = timeline.groups;
  const other = timeline.groups[timeline.other];
  const groups = Object.values(timeline.groups);
  run.colourOf = (verb) => (groups.find((group) => group.verbs.includes(verb)) ?? other).colour;
  drawFailedPattern(timeline.failed_colour);
  onLoad(timeline);
  follow(timeline.last_event_id, onLoad);
  view.dirty = true;
}

function endPhase(at_s) {
  const phase = run.phases.at(-1);
  if (phase) phase.ended_s = at_s;
}

const handlers = {
  progress(head) {
    run.head = head;
    run.skew = head.uptime_s - performance.now() / 1000;
  },
  phase({ phase, at_s }) {
    if (run.phases.at(-1)?.phase === phase) return;
    endPhase(at_s);
    if (phase !== "done") run.phases.push({ phase, began_s: at_s, ended_s: null });
  },
  work({ total }) {
    run.total = total;
  },
  began({ at_s, ...bar }) {
    run.bars.set(bar.uuid, { ...bar, began_s: at_s, ended_s: null, action_began_s: at_s, actions: [] });
  },
  action({ uuid, action, at_s }) {
    const bar = run.bars.get(uuid);
    if (!bar || bar.ended_s !== null) return;
    const took_s = at_s - bar.action_began_s;
    if (took_s > 0) bar.actions.push([bar.action, bar.action_began_s, took_s, false]);
    Object.assign(bar, { action, action_began_s: at_s });
  },
  ended(bar) {
    run.bars.set(bar.uuid, bar);
  },
  done({ at_s }) {
    run.end = at_s;
    endPhase(at_s);
  },
};

function follow(after, onLoad) {
  source = new EventSource(`events?after=${encodeURIComponent(after)}`);
  for (const [name, handle] of Object.entries(handlers)) {
    source.addEventListener(name, (event) => {
      lost(false);
      handle(JSON.parse(event.data));
      view.dirty = true;
    });
  }
  source.addEventListener("reset", () => load(onLoad));
  source.addEventListener("end", () => {
    source.close();
    retry(onLoad);
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) retry(onLoad);
    else lost(true);
  });
}
