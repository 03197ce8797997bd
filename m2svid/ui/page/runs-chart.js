// One chart: the curve of a tag for each run, with a cursor for pointer and keys.

import {el} from "./common.js";

const HEIGHT = 200, LEFT = 58, RIGHT = 10, TOP = 8, BOTTOM = 22; // px
const DASHES = ["", "7 3", "2 3", "9 3 2 3"]; // so that runs differ by more than color

const draw = (tag, attributes, text = "") => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return node;
};

/** A sample of a run's line. */
export function sample(slot) {
  const svg = draw("svg", {width: 30, height: 10, class: `runs-sample runs-line-${slot}`, "aria-hidden": "true"});
  svg.append(draw("line", {x1: 1, x2: 29, y1: 5, y2: 5, "stroke-dasharray": DASHES[slot]}));
  return svg;
}

/** A number with four digits. */
export const short = value => {
  const size = Math.abs(value);
  return size && (size < 1e-3 || size >= 1e6) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
};

/** Round values from low to high, about `count`. */
function ticks(low, high, count) {
  const raw = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(size => size >= raw);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({length: Math.floor(high / step + 1e-9) - first + 1}, (_, index) => (first + index) * step);
}

function logTicks(low, high) {
  const powers = ticks(Math.log10(low), Math.log10(high), 4).filter(Number.isInteger).map(power => 10 ** power);
  return powers.length > 1 ? powers : ticks(low, high, 4).filter(value => value > 0);
}

/** The index of the point that is nearest to x. */
function nearest(places, x) {
  let low = 0, high = places.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (places[middle] < x) low = middle + 1; else high = middle;
  }
  return low > 0 && x - places[low - 1] < places[low] - x ? low - 1 : low;
}

export class Chart {
  #tag; #svg; #values; #curves = []; #look = {log: false, axis: "steps"}; #cursor = null; #scale = null; #width = 0;

  constructor(tag) {
    this.#tag = tag;
    this.#svg = draw("svg", {height: HEIGHT, class: "runs-chart", tabindex: 0, role: "slider", "aria-label": tag});
    this.#values = el("ul", {class: "runs-values"});
    this.element = el("figure", {class: "runs-figure"}, el("figcaption", {}, tag), this.#svg, this.#values);
    this.#svg.addEventListener("pointermove", event => {
      const box = this.#svg.getBoundingClientRect();
      if (this.#scale) this.#point(this.#scale.invert(event.clientX - box.left));
    });
    this.#svg.addEventListener("pointerleave", () => this.#point(null));
    this.#svg.addEventListener("keydown", event => this.#press(event));
    new ResizeObserver(() => this.#draw()).observe(this.element);
  }

  /**
   * Draw curves.
   * @param {Array<{run: string, slot: number, points: Object, smooth?: Object}>} curves - points have steps, hours
   *   and values; a value of null is not finite.
   * @param {{log: boolean, axis: "steps"|"hours"}} look
   */
  show(curves, look) {
    [this.#curves, this.#look, this.#width] = [curves, look, 0];
    this.#draw();
  }

  #draw() {
    const width = Math.floor(this.element.clientWidth);
    if (!width || width === this.#width) return;
    this.#width = width;
    this.#svg.setAttribute("width", width);
    const {log, axis} = this.#look, usable = value => value !== null && (!log || value > 0);
    const lines = this.#curves.flatMap(curve => [curve.points, ...(curve.smooth ? [curve.smooth] : [])]);
    const values = lines.flatMap(line => line.values.filter(usable));
    const places = lines.flatMap(line => line[axis]);
    this.#svg.replaceChildren();
    this.#scale = null;
    if (!values.length) {
      this.#svg.append(draw("text", {x: LEFT, y: HEIGHT / 2}, log ? "no value above 0" : "no finite value"));
      return this.#tell();
    }
    const ends = list => list.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
    const bend = log ? Math.log10 : value => value;
    let [bottom, top] = ends(values);
    if (bottom === top) [bottom, top] = log ? [bottom / 2, top * 2] : [bottom - (Math.abs(bottom) / 10 || 1), top + (Math.abs(top) / 10 || 1)];
    const [first, last] = ends(places), span = last - first || 1;
    const x = place => LEFT + (place - first) / span * (width - LEFT - RIGHT);
    const y = value => HEIGHT - BOTTOM - (bend(value) - bend(bottom)) / (bend(top) - bend(bottom)) * (HEIGHT - TOP - BOTTOM);
    this.#scale = {x, y, usable, invert: pixel => first + (pixel - LEFT) / (width - LEFT - RIGHT) * span};
    for (const value of log ? logTicks(bottom, top) : ticks(bottom, top, 4))
      this.#svg.append(draw("line", {class: "runs-grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value)}),
        draw("text", {x: LEFT - 6, y: y(value) + 4, "text-anchor": "end"}, short(value)));
    for (const place of ticks(first, last, width / 110))
      this.#svg.append(draw("text", {x: x(place), y: HEIGHT - 6, "text-anchor": x(place) > width - 40 ? "end" : "middle"}, axis === "hours" ? `${short(place)} h` : String(place)));
    for (const curve of this.#curves) this.#curve(curve);
    this.#point(this.#cursor);
  }

  #curve({slot, points, smooth}) {
    const {x, y, usable} = this.#scale, places = line => line[this.#look.axis];
    const path = line => line.values.map((value, index) => !usable(value) ? ""
      : `${index && usable(line.values[index - 1]) ? "L" : "M"}${x(places(line)[index]).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    if (smooth) this.#svg.append(draw("path", {class: `runs-raw runs-line-${slot}`, d: path(points)}));
    this.#svg.append(draw("path", {class: `runs-line-${slot}`, d: path(smooth ?? points), "stroke-dasharray": DASHES[slot]}));
    points.values.forEach((value, index) => {
      const alone = usable(value) && ![index - 1, index + 1].some(other => usable(points.values[other] ?? null));
      if (alone) this.#svg.append(draw("circle", {class: `runs-dot-${slot}`, cx: x(places(points)[index]), cy: y(value), r: 3}));
      if (value === null) this.#svg.append(draw("text", {class: "problem", x: x(places(points)[index]), y: HEIGHT - BOTTOM, "text-anchor": "middle"}, "×"));
    });
  }

  /** Move the cursor; null shows the last values. */
  #point(place) {
    this.#cursor = place;
    this.#svg.querySelectorAll(".runs-cursor").forEach(node => node.remove());
    if (place !== null && this.#scale) {
      const x = Math.min(this.#width - RIGHT, Math.max(LEFT, this.#scale.x(place)));
      this.#svg.append(draw("line", {class: "runs-cursor", x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM}));
    }
    this.#tell();
  }

  #tell() {
    const told = this.#curves.map(curve => {
      const line = curve.smooth ?? curve.points;
      const index = this.#cursor === null ? line.values.length - 1 : nearest(line[this.#look.axis], this.#cursor);
      const value = line.values[index] === null ? "not finite" : short(line.values[index]);
      return {...curve, value, step: line.steps[index]};
    });
    this.#values.replaceChildren(...told.map(({run, slot, value, step}) => el("li", {},
      sample(slot), el("span", {class: "runs-name"}, run), el("b", {}, value), el("span", {class: "note"}, `step ${step}`))));
    const steps = this.#curves.flatMap(curve => curve.points.steps);
    this.#svg.setAttribute("aria-valuemin", Math.min(...steps));
    this.#svg.setAttribute("aria-valuemax", Math.max(...steps));
    this.#svg.setAttribute("aria-valuenow", told.length ? told[0].step : 0);
    this.#svg.setAttribute("aria-valuetext", told.map(({run, value, step}) => `${run}: ${value} at step ${step}`).join("; "));
  }

  #press(event) {
    const line = this.#curves[0]?.points[this.#look.axis];
    if (!line?.length) return;
    const at = this.#cursor === null ? line.length - 1 : nearest(line, this.#cursor);
    const jump = Math.max(1, Math.round(line.length / 20));
    const to = {ArrowLeft: at - 1, ArrowRight: at + 1, PageDown: at - jump, PageUp: at + jump, Home: 0, End: line.length - 1}[event.key];
    if (event.key === "Escape") return this.#point(null);
    if (to === undefined) return;
    event.preventDefault();
    this.#point(line[Math.min(line.length - 1, Math.max(0, to))]);
  }
}
