// Charts: traces, thresholds and alerts, drawn by uPlot.

const MOST_IN_LEGEND = 24;
const COLOURS = 7; // --series-1 and so on
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];

let charts = [];
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function stretchTimes(stretch) {
  return data.times[stretch.t];
}

const HOLE = -1;
const HOLE_SECONDS = 1; // without a reading, and ten times as long as usual: there a line is interrupted

/** The places of readings in the order of time, and HOLE where none came for long. */
function inOrder(times) {
  const order = times.map((_, place) => place);
  if (times.some((time, place) => place && time < times[place - 1])) order.sort((a, b) => times[a] - times[b]);
  const steps = order.slice(1).map((place, i) => times[place] - times[order[i]]);
  const usual = [...steps].sort((a, b) => a - b)[Math.floor(steps.length / 2)] || 0;
  const long = Math.max(HOLE_SECONDS, 10 * usual);
  return order.flatMap((place, i) => (i && steps[i - 1] > long ? [HOLE, place] : [place]));
}

/** The values at these places; uPlot interrupts a line at null. */
const valuesAt = (order, values) => order.map((place) => (place === HOLE ? null : values[place]));

/** The same of times or distances: a hole is amid its neighbours. */
const alongAt = (order, x) =>
  order.map((place, i) => (place === HOLE ? (x[order[i - 1]] + x[order[i + 1]]) / 2 : x[place]));

const ordersKnown = new Map(); // of whole traces, and their times, by the places of their stretches' in data.times

/** The whole trace of a series: the readings' own times, one array for all traces that share them, and values. */
function trace(series) {
  const key = series.stretches.map((stretch) => stretch.t).join();
  if (!ordersKnown.has(key)) {
    const times = series.stretches.flatMap(stretchTimes).map((time) => begin + time);
    const order = inOrder(times);
    ordersKnown.set(key, [order, alongAt(order, times)]);
  }
  const [order, times] = ordersKnown.get(key);
  return [
    times,
    valuesAt(
      order,
      series.stretches.flatMap((stretch) => stretch.v),
    ),
  ];
}

/** Traces over one row of x, as uPlot wants them: undefined where one has no value. Nothing is left out. */
function aligned(traces) {
  const same = traces.every(([x]) => x === traces[0][0]);
  if (same) return [traces[0][0], ...traces.map(([, y]) => y)];
  const at = traces.map(() => 0),
    out = [[], ...traces.map(() => [])];
  for (;;) {
    let next = Infinity;
    traces.forEach(([x], i) => {
      if (at[i] < x.length && x[at[i]] < next) next = x[at[i]];
    });
    if (next === Infinity) return out;
    out[0].push(next);
    traces.forEach(([x, y], i) => out[i + 1].push(x[at[i]] === next ? y[at[i]++] : undefined));
  }
}

/** The line of the n-th trace: colours first, then dashes, so that no two look the same for long. */
function line(colour, dash) {
  return {
    stroke: style(`--series-${(colour % COLOURS) + 1}`),
    dash: DASHES[(dash + Math.floor(colour / COLOURS)) % DASHES.length],
  };
}

function thresholdsOf(channel) {
  return data.thresholds.filter((threshold) => threshold.channel === channel.name);
}

function levels(channel) {
  return thresholdsOf(channel).flatMap((threshold) => {
    const level = threshold[side(threshold)];
    return threshold.absolute ? [level, -level] : [level];
  });
}

/** Draw thresholds as dashed lines with their value, and alerts as triangles with an edge. */
function drawMarks(plot, channel, alerts) {
  const { ctx, bbox } = plot,
    scale = devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.lineWidth = 1.5 * scale;
  ctx.font = `600 ${12 * scale}px system-ui, sans-serif`;
  ctx.textAlign = "left";
  ctx.fillStyle = ctx.strokeStyle = style("--over");
  for (const level of levels(channel)) {
    const y = plot.valToPos(level, "y", true);
    ctx.setLineDash([6 * scale, 4 * scale]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    const isHigh = y - 18 * scale < bbox.top;
    ctx.textBaseline = isHigh ? "top" : "bottom";
    const text = [`threshold ${show(level)}`, bbox.left + 6 * scale, y + (isHigh ? 4 : -3) * scale];
    ctx.save();
    ctx.setLineDash([]);
    ctx.lineWidth = 4 * scale;
    ctx.strokeStyle = style("--ground"); // traces end before the letters begin
    ctx.strokeText(...text);
    ctx.restore();
    ctx.fillText(...text);
  }
  ctx.setLineDash([]);
  ctx.strokeStyle = style("--ground");
  for (const [time, value] of alerts) {
    const x = plot.valToPos(time, "x", true),
      y = plot.valToPos(value, "y", true),
      half = 7 * scale;
    ctx.beginPath();
    ctx.moveTo(x, y - 2 * half);
    ctx.lineTo(x + half, y);
    ctx.lineTo(x - half, y);
    ctx.closePath();
    ctx.fill();
    ctx.stroke();
  }
  ctx.restore();
}

/** From where to where y goes: all values, and thresholds that are not far away. */
function rangeOf(channel) {
  return (_plot, low, high) => {
    if (low === null || low === undefined) return [0, 1];
    const span = high - low || Math.abs(high) * 0.1 || 1;
    for (const level of levels(channel)) {
      if (level > low - span && level < high + span) [low, high] = [Math.min(low, level), Math.max(high, level)];
    }
    const margin = (high - low || span) * 0.08;
    return [low - margin, high + margin];
  };
}

const svg = (tag, attributes, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

/** Which line is which, with each one's value where the pointer is. */
function legend(traces, options) {
  const values = traces.map(() => make("b"));
  const at = make("b");
  const list = make(
    "ul",
    { class: "legend" },
    traces.map((each, place) =>
      make(
        "li",
        {},
        svg(
          "svg",
          { width: 32, height: 10, "aria-hidden": "true" },
          svg("line", {
            x1: 0,
            x2: 32,
            y1: 5,
            y2: 5,
            stroke: each.line.stroke,
            "stroke-width": 3,
            "stroke-dasharray": each.line.dash.join(" ") || "none",
          }),
        ),
        " ",
        each.label,
        " ",
        values[place],
      ),
    ),
    make("li", {}, at),
  );
  const tell = (plot) => {
    const place = plot.cursor.idx;
    at.textContent = place === null || place === undefined ? "" : `at ${options.sayX(plot.data[0][place])}`;
    values.forEach((room, i) => {
      let last = place;
      while (last > 0 && plot.data[i + 1][last] === undefined) last -= 1;
      const value = at.textContent ? plot.data[i + 1][last] : undefined;
      room.textContent = value === undefined || value === null ? "" : inUnit(value, options.channel);
    });
  };
  return [list, tell];
}

function chart(place, traces, options) {
  const [list, tell] = legend(traces, options);
  if (traces.length <= MOST_IN_LEGEND) place.after(list);
  const axis = {
    stroke: style("--faint"),
    grid: { stroke: style("--line"), width: 1 },
    ticks: { stroke: style("--line"), width: 1 },
    font: "13px system-ui, sans-serif",
  };
  const width = () => Math.max(200, place.clientWidth);
  const plot = new uPlot(
    {
      width: width(),
      height: innerWidth < 640 ? 240 : 300,
      scales: { x: { time: Boolean(options.clock) }, y: { range: rangeOf(options.channel) } },
      series: [{}, ...traces.map((each) => ({ label: each.label, width: 2, ...each.line, points: { size: 5 } }))],
      axes: [
        {
          ...axis,
          space: innerWidth < 640 ? 60 : 80,
          size: 34,
          label: options.x,
          labelFont: axis.font,
          labelSize: 22,
          labelGap: 0,
          ...(options.clock ? { values: (_plot, times) => times.map((time) => when(time).slice(0, 8)) } : {}),
        },
        {
          ...axis,
          values: (_plot, values) => values.map(show),
          size: (_plot, values) => 16 + 8 * Math.max(2, ...(values || []).map((text) => text.length)),
        },
      ],
      legend: { show: false },
      cursor: { sync: options.sync ? { key: options.sync } : undefined, y: false },
      hooks: {
        draw: [(drawn) => drawMarks(drawn, options.channel, options.alerts || [])],
        setCursor: [tell],
      },
    },
    aligned(traces.map((each) => each.points)),
    place,
  );
  charts.push({ plot, width });
}

addEventListener("resize", () => {
  for (const { plot, width } of charts) {
    if (plot.width !== width()) plot.setSize({ width: width(), height: plot.height });
  }
});

function figure(title, faint, said) {
  const place = make("div"),
    made = make(
      "figure",
      { "aria-label": said },
      make("figcaption", {}, make("strong", {}, title), make("span", { class: "faint" }, faint)),
      place,
    );
  return [made, place];
}

const shortLabelOf = (series) => {
  const subject = data.subjects.items[series.subject].label;
  return series.part ? `${subject} ${series.part}` : subject;
};

const ofChannel = (series) => `${series.channel} ${shortLabelOf(series)}`;
const labelled = tally(data.series.map(ofChannel));

/** What a channel's series is called; with its sensor's number where others would be called the same. */
const labelOf = (series) =>
  labelled.get(ofChannel(series)) > 1 ? `${shortLabelOf(series)}, sensor ${series.sensor}` : shortLabelOf(series);

const partsOf = (channel) => [
  ...new Set(data.series.filter((each) => each.channel === channel).map((each) => each.part || "")),
];
