// What the modules of the page share: the run as the daemon has sent it, what is in view, and the colours.
export const $ = (id) => document.getElementById(id);

export const run = {
  bars: new Map(),
  phases: [],
  groups: {},
  attention: [],
  total: 0,
  end: null,
  head: null,
  skew: 0,
};
export const view = {
  rows: [],
  from: 0,
  to: null,
  chosen: null,
  dirty: true,
  filter: "",
  order: "began",
  find: "",
  follow: true,
};
export const paint = {};

// Seconds since the daemon began.
export const clock = () => performance.now() / 1000 + run.skew;
export const last = () => (run.end === null ? clock() : run.end);
export const endOf = (bar) => (bar.ended_s === null ? clock() : bar.ended_s);
// What the daemon says of an instance that is being worked on.
export const liveOf = (bar) => run.head?.running.find((each) => each.uuid === bar.uuid);

export function made(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

export function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["text", "quiet", "grid", "line", "bad", "busy", "choice"]) {
    paint[name] = style.getPropertyValue(`--${name}`).trim();
  }
}

// Hatched, so that no colour is needed to see that an action failed.
export function drawFailedPattern(colour) {
  const tile = Object.assign(document.createElement("canvas"), { width: 6, height: 6 });
  const pen = tile.getContext("2d");
  pen.fillStyle = colour;
  pen.fillRect(0, 0, 6, 6);
  pen.strokeStyle = "#fff";
  pen.lineWidth = 1.4;
  for (const x of [-6, 0, 6]) {
    pen.beginPath();
    pen.moveTo(x, 6);
    pen.lineTo(x + 6, 0);
    pen.stroke();
  }
  paint.failed = tile;
}
