// Guests that boot: the limit over time as a line, how many boot below it.
import { $, paint } from "./page_state.js";

const HEIGHT = 64;

export function drawPace(pace) {
  const section = $("pace");
  section.hidden = !pace;
  if (!pace) return;
  section.querySelector(".text").textContent = pace.text;
  section.querySelector(".count").textContent = `${pace.ready.ready} of ${pace.ready.started} ready`;
  const canvas = $("limits");
  const width = canvas.clientWidth;
  canvas.width = width * devicePixelRatio;
  canvas.height = HEIGHT * devicePixelRatio;
  const pen = canvas.getContext("2d");
  pen.scale(devicePixelRatio, devicePixelRatio);
  const { points } = pace;
  if (points.length === 0) return;
  const [first, last] = [points[0][0], points.at(-1)[0]];
  const most = Math.max(...points.map(([, limit, booting]) => Math.max(limit, booting)));
  const x = (at) => ((at - first) / Math.max(last - first, 1)) * width;
  const y = (count) => HEIGHT - 2 - (count / most) * (HEIGHT - 16);
  pen.fillStyle = paint.grid;
  stairs(pen, points, x, (point) => y(point[2]));
  pen.lineTo(width, HEIGHT);
  pen.lineTo(0, HEIGHT);
  pen.fill();
  pen.strokeStyle = paint.text;
  stairs(pen, points, x, (point) => y(point[1]));
  pen.stroke();
  pen.fillStyle = paint.quiet;
  pen.fillText(`limit ${points.at(-1)[1]}, highest ${most}`, 2, 10);
  pen.textAlign = "right";
  pen.fillText(`${Math.round(first)} to ${Math.round(last)} s`, width - 2, 10);
}

function stairs(pen, points, x, height) {
  pen.beginPath();
  pen.moveTo(0, height(points[0]));
  for (const [index, point] of points.entries()) {
    pen.lineTo(x(point[0]), height(points[Math.max(0, index - 1)]));
    pen.lineTo(x(point[0]), height(point));
  }
}
