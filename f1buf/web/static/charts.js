// The traces: one chart for each thing that is measured, a line for each car, with the limits.

import {WINDOW, isBeyond, limitOf, limitText, rangeText} from "./run.js";

export const DASHES = [[], [9, 4], [2, 3], [12, 4, 2, 4], [5, 2], [16, 4], [6, 3, 1, 3]];
const HOLE = 2.5; // [s] without a reading that a line is interrupted for
const HEIGHT = 170; // [px]
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const colour = (i) => style(`--series-${(i % 7) + 1}`);

class Chart {
  constructor(run, lines) {
    this.run = run;
    this.lines = lines; // {series, label, place}
    this.low = Infinity; // the ends of the axis, which only grow apart
    this.high = -Infinity;
    const [first] = lines.map((line) => line.series);
    this.limits = run.limits(first);
    this.box = document.createElement("figure");
    const caption = document.createElement("figcaption");
    const title = document.createElement("h3");
    title.textContent = first.kind === "message" ? `${first.groupName} ${first.column}` : first.column;
    if (first.unit) title.append(Object.assign(document.createElement("span"), {className: "faint", textContent: ` ${first.unit}`}));
    this.legend = document.createElement("ul");
    this.entries = lines.map((line) => entry(line));
    this.legend.append(...this.entries.map((each) => each.item));
    caption.append(title, this.legend);
    this.canvas = document.createElement("div");
    this.canvas.setAttribute("role", "img");
    this.box.append(caption, this.canvas);
  }

  draw() {
    const count = WINDOW * this.run.perSecond + 1;
    const x = Array.from({length: count}, (_, i) => (i - count + 1) / this.run.perSecond);
    const series = [{}];
    const bands = [];
    this.lines.forEach((line, i) => {
      const look = {stroke: colour(line.place), width: 2, dash: DASHES[line.place % 7], points: {size: 4}};
      series.push({...look, scale: "y"}, {...look, scale: "y"});
      bands.push({series: [2 * i + 2, 2 * i + 1], fill: `${colour(line.place)}55`});
    });
    const axis = {stroke: style("--faint"), grid: {stroke: style("--line"), width: 1}, ticks: {show: false}, font: "14px system-ui, sans-serif"};
    const options = {
      width: Math.max(200, this.canvas.clientWidth), height: HEIGHT, series, bands,
      legend: {show: false}, cursor: {show: false},
      padding: [8, 16, 0, 0],
      scales: {x: {time: false, range: [-WINDOW, 0]}, y: {range: () => (this.low <= this.high ? [this.low, this.high] : [0, 1])}},
      axes: [{...axis, size: 28, values: (_, ticks) => ticks.map((at) => (at ? `−${-at} s` : "0 s"))}, {...axis, size: 64, values: (_, ticks) => ticks.map((at) => String(Number(at.toPrecision(9))).replace("-", "−"))}],
      hooks: {draw: [(plot) => this.drawLimits(plot)]},
    };
    this.data = [x, ...series.slice(1).map(() => new Array(count))];
    this.plot?.destroy();
    this.plot = new uPlot(options, this.data, this.canvas);
  }

  // `traceOf` gives the trace of a row, `endOf` the number of the bucket at the right end for a session; `live`: that is
  // the newest one.
  show(traceOf, endOf, live) {
    const newest = this.lines.map(({series}, i) => {
      const lows = this.data[2 * i + 1].fill(undefined);
      const highs = this.data[2 * i + 2].fill(undefined);
      const trace = traceOf(series.row);
      const start = endOf(series.session) - lows.length + 1;
      let before = NaN;
      trace?.n.forEach((number, j) => {
        const place = number - start;
        if (place < 0 || place >= lows.length) return;
        if (place - before > HOLE * this.run.perSecond) lows[place - 1] = highs[place - 1] = null;
        before = place;
        lows[place] = trace.low[j];
        highs[place] = trace.high[j];
        this.low = Math.min(this.low, lows[place]);
        this.high = Math.max(this.high, highs[place]);
      });
      return live ? [series.value, series.value] : [lows[before], highs[before]];
    });
    this.fit();
    this.plot.setData(this.data);
    this.tell(newest, live);
  }

  // The axis holds all limits, too.
  fit() {
    for (const each of this.limits) {
      const ends = each.absolute ? [-limitOf(each), limitOf(each)] : [limitOf(each)];
      this.low = Math.min(this.low, ...ends);
      this.high = Math.max(this.high, ...ends);
    }
    if (!(this.low <= this.high)) return;
    const span = this.high - this.low;
    if (this.fitted && this.fitted.low === this.low && this.fitted.high === this.high) return;
    const room = Math.max(span * 0.08, Math.abs(this.high) * 0.002, 1e-9);
    this.low -= room;
    this.high += room;
    this.fitted = {low: this.low, high: this.high};
  }

  drawLimits(plot) {
    const {ctx, bbox} = plot;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = style("--over");
    ctx.lineWidth = 2 * ratio;
    ctx.font = `600 ${13 * ratio}px system-ui, sans-serif`;
    ctx.textAlign = "left";
    for (const each of this.limits) {
      const above = "above" in each;
      for (const limit of each.absolute ? [limitOf(each), -limitOf(each)] : [limitOf(each)]) {
        const y = plot.valToPos(limit, "y", true);
        ctx.setLineDash([6 * ratio, 4 * ratio]);
        ctx.beginPath();
        ctx.moveTo(bbox.left, y);
        ctx.lineTo(bbox.left + bbox.width, y);
        ctx.stroke();
        const up = limit < 0 && each.absolute ? !above : above;
        ctx.textBaseline = up ? "top" : "bottom";
        ctx.fillText(limitText(each), bbox.left + 6 * ratio, y + (up ? 4 : -4) * ratio);
      }
    }
    ctx.restore();
  }

  // `newest` has of each line the latest value twice, or the lowest and the highest of its last bucket.
  tell(newest, live) {
    const values = newest.map(([low, high], i) => {
      const {series} = this.lines[i];
      return low === undefined ? "" : rangeText(series, low, high);
    });
    this.entries.forEach((each, i) => {
      each.tell(values[i], newest[i].some((value) => this.limits.some((limit) => isBeyond(limit, value))));
    });
    const said = this.lines.map(({series, label}, i) => `${label || series.column} ${values[i]} ${series.unit}`).join(", ");
    const text = `Trace of a minute, to ${said}`;
    const now = performance.now();
    if (!live || !this.told || now - this.told > 5000) {
      this.told = now;
      this.canvas.setAttribute("aria-label", text);
    }
  }

  resize() {
    if (this.plot) this.plot.setSize({width: Math.max(200, this.canvas.clientWidth), height: HEIGHT});
  }
}

function entry(line) {
  const item = document.createElement("li");
  const mark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  mark.setAttribute("viewBox", "0 0 36 8");
  mark.setAttribute("class", `mark series-${(line.place % 7) + 1}`);
  mark.setAttribute("aria-hidden", "true");
  const stroke = document.createElementNS("http://www.w3.org/2000/svg", "line");
  for (const [name, value] of Object.entries({x1: 0, y1: 4, x2: 36, y2: 4, "stroke-width": 3})) stroke.setAttribute(name, value);
  stroke.setAttribute("stroke-dasharray", DASHES[line.place % 7].join(" "));
  mark.append(stroke);
  const label = document.createElement("span");
  label.textContent = line.label;
  const value = document.createElement("b");
  item.append(mark, label, value);
  return {
    item,
    tell(text, over) {
      if (value.textContent !== text) value.textContent = text;
      value.classList.toggle("over", over);
    },
  };
}

export class Charts {
  constructor(place) {
    this.place = place;
    this.charts = new Map();
    new ResizeObserver(() => this.charts.forEach((chart) => chart.resize())).observe(place);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.charts.forEach((chart) => chart.draw()));
  }

  // `wanted` maps a chart's name to its lines.
  choose(run, wanted) {
    for (const [name, lines] of wanted) {
      const key = `${run.id} ${JSON.stringify(lines.map((line) => [line.series.row, line.label, line.place]))}`;
      const before = this.charts.get(name);
      if (before && before.key === key) {
        before.lines = lines;
        continue;
      }
      const chart = new Chart(run, lines);
      chart.key = key;
      if (before) before.box.replaceWith(chart.box);
      else this.place.append(chart.box);
      before?.plot?.destroy();
      chart.draw();
      this.charts.set(name, chart);
    }
    for (const [name, chart] of this.charts) {
      if (!wanted.has(name)) {
        chart.plot?.destroy();
        chart.box.remove();
        this.charts.delete(name);
      }
    }
    const order = [...wanted.keys()].map((name) => this.charts.get(name).box);
    order.forEach((box, i) => {
      if (this.place.children[i] !== box) this.place.insertBefore(box, this.place.children[i]);
    });
  }

  show(traceOf, endOf, live) {
    this.charts.forEach((chart) => chart.show(traceOf, endOf, live));
  }
}
