"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const hidden = new Set();
let single = data.groups.every((group) => group.runs <= 1);

/** A new element with ATTRIBUTES and CHILDREN; in SVG if its name begins with "svg:". */
function make(name, attributes = {}, ...children) {
  const of_svg = name.startsWith("svg:");
  const element = of_svg
    ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4))
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const COLOURS = 7;
const DASHES = ["", "6 3", "2 3", "8 3 2 3"];
const colour = (group) => `var(--c${group % COLOURS})`;
const dash = (group) => DASHES[Math.floor(group / COLOURS) % DASHES.length];

/** A number as it is read: five digits, thousands apart; very small or large ones with a power. */
function show(x) {
  const size = Math.abs(x);
  if (size !== 0 && (size < 1e-3 || size >= 1e9)) return x.toExponential(3).replace(/\.?0+e/, "e");
  return x.toLocaleString("en", { maximumSignificantDigits: size >= 1e5 ? 9 : 5 });
}

function short(x) {
  const size = Math.abs(x);
  for (const [unit, letter] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (size >= unit) return `${show(x / (letter === "k" ? 1e3 : unit))}${letter}`;
  }
  return show(x);
}

/** Round numbers between LOW and HIGH, about N of them. */
function ticks(low, high, n) {
  const rough = (high - low) / n;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
    found.push(Number((i * step).toPrecision(12)));
  }
  return found;
}

/** Powers of ten from LOW to HIGH, about N of them. */
function powers(low, high, n) {
  const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9);
  const step = Math.max(1, Math.ceil((last - first + 1) / n));
  return Array.from({ length: Math.floor((last - first) / step) + 1 }, (_, i) => 10 ** (first + i * step));
}

/** Which of the increasing XS is nearest to X. */
function nearest(xs, x) {
  let low = 0, high = xs.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x - xs[middle] > xs[middle + 1] - x) low = middle + 1; else high = middle;
  }
  return low;
}

class Chart {
  constructor(figure) {
    this.figure = figure;
    this.chart = data.charts[figure.dataset.chart];
    this.at = null;
    const label = `${this.chart.title} over ${this.chart.x}; arrow keys move along it`;
    this.svg = make("svg:svg", { role: "img", tabindex: 0, "aria-label": label });
    this.readout = make("p", { class: "readout", "aria-live": "polite" });
    const table = make("details", {}, make("summary", {}, "As a table"));
    table.addEventListener("toggle", () => this.tabulate(table));
    figure.append(this.svg, this.readout, table);
    this.svg.addEventListener("pointermove", (event) => {
      const x = event.clientX - this.svg.getBoundingClientRect().left;
      this.point(this.low + (x - this.left) / this.scale);
    });
    this.svg.addEventListener("pointerleave", () => this.point(null));
    this.svg.addEventListener("blur", () => this.point(null));
    this.svg.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!way) return;
      event.preventDefault();
      this.point((this.at ?? (way > 0 ? this.low : this.high)) + (way * (this.high - this.low)) / 40);
    });
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }

  shown() {
    return this.chart.series.filter((series) => !hidden.has(series.group));
  }

  draw() {
    const width = this.svg.clientWidth, height = 220, bottom = 34, top = 8, right = 10;
    if (!width) return;
    const every = this.chart.series, shown = this.shown();
    const lines = shown.flatMap((s) => [s.y, s.low, s.high, ...(single ? s.runs.map((r) => r.y) : [])]);
    let y0 = Infinity, y1 = -Infinity, x0 = Infinity, x1 = -Infinity;
    for (const line of lines) for (const y of line ?? []) { if (y < y0) y0 = y; if (y > y1) y1 = y; }
    for (const s of every) for (const of of [s, ...s.runs]) {
      x0 = Math.min(x0, of.x[0]); x1 = Math.max(x1, of.x[of.x.length - 1]);
    }
    if (!shown.length) { y0 = 0; y1 = 1; }
    if (y0 === y1) { const room = Math.abs(y0) / 10 || 1; y0 -= room; y1 += room; }
    if (x0 === x1) { x0 -= 1; x1 += 1; }
    const logarithmic = y0 > 0 && y1 / y0 > 1000; // one great value would press all others flat
    const marks = logarithmic ? powers(y0, y1, 5) : ticks(y0, y1, 5);
    const scaled = logarithmic ? Math.log10 : (y) => y;
    const left = 10 + 6.6 * Math.max(...marks.map((y) => short(y).length));
    const scale = (width - left - right) / (x1 - x0);
    const X = (x) => left + (x - x0) * scale;
    const Y = (y) => top + ((scaled(y1) - scaled(y)) / (scaled(y1) - scaled(y0))) * (height - top - bottom);
    Object.assign(this, { low: x0, high: x1, left, scale, height, bottom, top });
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const path = (xs, ys) => xs.map((x, i) => `${i ? "L" : "M"}${X(x).toFixed(1)} ${Y(ys[i]).toFixed(1)}`).join("");
    const parts = [];
    for (const y of marks) {
      parts.push(make("svg:line", { class: "grid", x1: left, x2: width - right, y1: Y(y), y2: Y(y) }));
      parts.push(make("svg:text", { x: left - 6, y: Y(y) + 4, "text-anchor": "end" }, short(y)));
    }
    for (const x of ticks(x0, x1, Math.max(2, Math.floor(width / 110)))) {
      const anchor = X(x) > width - 20 ? "end" : "middle";
      const at = anchor === "end" ? width : X(x);
      parts.push(make("svg:text", { x: at, y: height - bottom + 16, "text-anchor": anchor }, short(x)));
    }
    parts.push(make("svg:text", { x: width - right, y: height - 4, "text-anchor": "end" }, this.chart.x));
    if (logarithmic) parts.push(make("svg:text", { x: 0, y: height - 4 }, "logarithmic"));
    for (const s of shown) {
      const stroke = colour(s.group), dashed = dash(s.group);
      if (s.low) {
        const back = path([...s.x].reverse(), [...s.low].reverse()).replace("M", "L");
        parts.push(make("svg:path", { d: `${path(s.x, s.high)}${back}Z`, style: `fill:${stroke};opacity:.16` }));
      }
      for (const run of single ? s.runs : []) {
        parts.push(make("svg:path", { d: path(run.x, run.y), style: `stroke:${stroke};opacity:.4;stroke-width:1` }));
      }
      const style = `stroke:${stroke};stroke-width:1.8;stroke-dasharray:${dashed || "none"}`;
      parts.push(make("svg:path", { class: "series", "data-group": s.group, d: path(s.x, s.y), style }));
      if (s.x.length === 1) parts.push(make("svg:circle", { cx: X(s.x[0]), cy: Y(s.y[0]), r: 3, style: `fill:${stroke}` }));
    }
    this.cursor = make("svg:line", { class: "cursor", y1: top, y2: height - bottom, visibility: "hidden" });
    this.svg.replaceChildren(...parts, this.cursor);
    this.point(this.at);
  }

  point(x) {
    this.at = x === null ? null : Math.min(this.high, Math.max(this.low, x));
    this.cursor.setAttribute("visibility", x === null ? "hidden" : "visible");
    if (x === null) { this.readout.textContent = ""; return; }
    const place = this.left + (this.at - this.low) * this.scale;
    this.cursor.setAttribute("x1", place);
    this.cursor.setAttribute("x2", place);
    const said = this.shown().map((s) => {
      const i = nearest(s.x, this.at);
      return `${data.groups[s.group].name} ${value(s, i)} at ${show(s.x[i])}`;
    });
    const more = said.length > 6 ? ` and ${said.length - 6} more` : "";
    this.readout.textContent = said.slice(0, 6).join("; ") + more;
  }

  tabulate(details) {
    if (!details.open || details.querySelector("table")) return;
    const shares = ["first", "25 %", "50 %", "75 %", "last"];
    const head = make("tr", {}, ...["", ...shares].map((text) => make("th", {}, text)));
    const rows = this.chart.series.map((s) => {
      const at = shares.map((_, k) => Math.round((k / 4) * (s.x.length - 1)));
      const cells = at.map((i) => make("td", {}, `${value(s, i)} at ${show(s.x[i])}`));
      return make("tr", {}, make("th", { scope: "row" }, data.groups[s.group].name), ...cells);
    });
    const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
    details.append(make("div", { class: "wide", tabindex: 0, role: "region", "aria-label": this.chart.title }, table));
  }
}

function value(s, i) {
  return show(s.y[i]) + (s.low ? ` (${show(s.low[i])} to ${show(s.high[i])})` : "");
}

const charts = [];
const watcher = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    if (isIntersecting) { watcher.unobserve(target); charts.push(new Chart(target)); }
  }
}, { rootMargin: "400px" });

function redraw() {
  for (const chart of charts) chart.draw();
}

function legend() {
  const place = document.getElementById("legend");
  data.groups.forEach(({ name }, group) => {
    const style = `stroke:${colour(group)};stroke-width:3;stroke-dasharray:${dash(group) || "none"}`;
    const line = make("svg:svg", { width: 22, height: 10, "aria-hidden": "true" }, make("svg:line", { x1: 0, x2: 22, y1: 5, y2: 5, style }));
    const button = make("button", { type: "button", "aria-pressed": "true" }, line, name);
    button.addEventListener("click", () => {
      if (hidden.has(group)) hidden.delete(group); else hidden.add(group);
      button.setAttribute("aria-pressed", String(!hidden.has(group)));
      redraw();
    });
    place.append(button);
  });
  if (data.groups.some((group) => group.runs > 1)) {
    const box = make("input", { type: "checkbox" });
    box.addEventListener("change", () => { single = box.checked; redraw(); });
    place.append(make("label", {}, box, "single runs"));
  }
}

/** A slider over N places called LABEL; it begins at the last one and calls TURN with each. */
function slider(n, label, turn) {
  const range = make("input", { type: "range", min: 0, max: n - 1, step: 1, "aria-label": label });
  range.value = n - 1;
  range.addEventListener("input", () => turn(Number(range.value)));
  range.hidden = n < 2;
  return range;
}

/** A choice among the RUNS; it calls TURN with the number of one. */
function choice(runs, turn) {
  const select = make("select", { "aria-label": "run" }, ...runs.map((run, i) => make("option", { value: i }, run)));
  select.addEventListener("change", () => turn(Number(select.value)));
  select.hidden = runs.length < 2;
  return select;
}

function gallery(name, items) {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches && items[0].moves;
  const figure = make("figure", { class: "gallery" }, make("figcaption", {}, name));
  const image = make("img", { loading: "lazy" }), output = make("output");
  let item = items[0], range;
  const turn = (i) => {
    const { src, at } = item.frames[i];
    const where = [item.run, at].filter(Boolean).join(", ");
    image.src = src;
    image.alt = `${name} of ${where}`;
    output.textContent = where;
    range.setAttribute("aria-valuetext", where);
  };
  const open = (i) => {
    item = items[i];
    const fresh = slider(item.frames.length, `progress of ${name}`, turn);
    if (range) range.replaceWith(fresh);
    range = fresh;
    turn(item.frames.length - 1);
  };
  open(0);
  figure.append(choice(items.map(({ run }) => run), open), image, range, output);
  if (still) {
    const button = make("button", { type: "button" }, "Show the moving picture");
    image.hidden = true;
    button.addEventListener("click", () => { image.hidden = false; button.remove(); });
    image.before(button);
  }
  return figure;
}

function galleries() {
  const named = new Map();
  for (const item of data.galleries) named.set(item.name, [...(named.get(item.name) ?? []), item]);
  for (const [name, items] of named) document.getElementById("galleries").append(gallery(name, items));
}

function histogram({ name, shape, span, counts, mean, std }) {
  const most = Math.max(...counts), n = counts.length;
  const bars = counts.map((count, i) => make("svg:rect", { x: i, y: 60 - (58 * count) / most, width: 0.9, height: (58 * count) / most }));
  const said = `from ${show(span[0])} to ${show(span[1])}; mean ${show(mean)}, standard deviation ${show(std)}`;
  const drawn = make("svg:svg", { viewBox: `0 0 ${n} 60`, preserveAspectRatio: "none", role: "img", "aria-label": `${name}: ${said}` }, ...bars);
  return make("figure", {}, make("figcaption", {}, `${name} [${shape.join(" × ")}]`), drawn, make("p", {}, said));
}

/** Into PLACE: a choice among RUNS, a slider called LABEL over the STEPS of one, and what DRAW makes of a step. */
function stepped(place, runs, label, steps, draw) {
  const drawn = make("div"), output = make("output");
  let name, of_run, range;
  const turn = (i) => {
    output.textContent = `${name}, ${label} at ${show(of_run[i].progress)}`;
    range.setAttribute("aria-valuetext", output.textContent);
    drawn.replaceChildren(draw(of_run[i], of_run));
  };
  const open = (i) => {
    name = runs[i].run;
    of_run = steps(runs[i]);
    const fresh = slider(of_run.length, label, turn);
    if (range) range.replaceWith(fresh);
    range = fresh;
    turn(of_run.length - 1);
  };
  open(0);
  place.append(make("div", { class: "bar" }, choice(runs.map(({ run }) => run), open), range, output), drawn);
}

function histograms() {
  const draw = ({ tensors }) => make("div", { class: "bins" }, ...tensors.map(histogram));
  stepped(document.getElementById("histograms"), data.weights, "checkpoint", (run) => run.checkpoints, draw);
}

function norms() {
  const draw = ({ layers }, looks) => {
    const every = looks.flatMap((look) => look.layers.map(([, norm]) => norm)).filter((norm) => norm > 0).map(Math.log10);
    const low = every.reduce((a, b) => Math.min(a, b), 0) - 0.3, high = every.reduce((a, b) => Math.max(a, b), -12) + 0.1;
    const rows = layers.map(([name, norm, change]) => {
      const share = norm > 0 ? (Math.log10(norm) - low) / (high - low) : 0;
      const bar = make("span", { class: "norm", style: `width:${(100 * share).toFixed(1)}%`, "aria-hidden": "true" });
      const cells = [make("td", { class: "norms" }, bar), make("td", { class: "n" }, show(norm)), make("td", { class: "n" }, show(change))];
      return make("tr", {}, make("th", { scope: "row" }, name), ...cells);
    });
    const head = ["Layer", "", "Gradient", "Change"].map((text, i) => make("th", i > 1 ? { class: "n" } : {}, text));
    const table = make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
    return make("div", { class: "wide", tabindex: 0, role: "region", "aria-labelledby": "gradients" }, table);
  };
  stepped(document.getElementById("norms"), data.gradients, "updates", (run) => run.looks, draw);
}

legend();
for (const figure of document.querySelectorAll(".chart")) watcher.observe(figure);
if (data.galleries.length) galleries();
if (data.gradients.length) norms();
if (data.weights.length) histograms();
requestAnimationFrame(() => setTimeout(() => {
  document.documentElement.dataset.shown = Math.round(performance.now()); // ms since it was asked for
}));
