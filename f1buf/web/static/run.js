// What this page knows of the run: made of the server's messages.

export const WINDOW = 60; // [s] that a trace shows
const ALERTS = 200; // that are kept
const PLACES = {FL: "front left", FR: "front right", RL: "rear left", RR: "rear right"};

export class Run {
  constructor(about) {
    this.id = about.run;
    this.source = about.source;
    this.thresholds = about.thresholds;
    this.perSecond = about.per_second;
    this.depth = about.depth;
    this.series = new Map(); // by row
    this.firsts = new Map(); // by name the row that has had it first
    this.traces = new Map(); // by row
    this.clocks = {}; // by session the number of the newest bucket
    this.status = null;
    this.alerts = []; // the newest last
    this.alertCount = 0;
    this.ended = false;
    this.changes = 0; // of what series there are, and their names
  }

  // Take in a message; return the rows whose latest value it told.
  take(message) {
    this.depth = message.depth;
    this.ended = message.ended;
    this.clocks = message.clocks;
    this.alertCount = message.alert_count;
    this.alerts = [...this.alerts, ...message.alerts].slice(-ALERTS);
    if (message.status) this.status = message.status;
    for (const row of message.gone) {
      this.series.delete(row);
      this.traces.delete(row);
    }
    for (const [row, known] of message.series) {
      const before = this.series.get(row);
      const after = this.#toldApart(row, named(known));
      const isSame = before && before.key === after.key;
      if (!isSame || before.groupName !== after.groupName) this.changes += 1;
      if (isSame) Object.assign(before, after);
      else this.series.set(row, {...after, row, value: NaN});
    }
    if (message.gone.length) this.changes += 1;
    const [rows, values] = message.values;
    rows.forEach((row, i) => {
      const series = this.series.get(row);
      if (series) series.value = Number(String(values[i]).replace("inf", "Infinity"));
    });
    for (const [row, news] of Object.entries(message.traces)) {
      if (news.anew || !this.traces.has(Number(row))) this.traces.set(Number(row), news);
      else merge(this.traces.get(Number(row)), news, WINDOW * this.perSecond);
    }
    return rows;
  }

  // Of several with one name all but the first have the sensor's number in it, too.
  #toldApart(row, series) {
    const name = series.kind === "sensor" ? series.column : series.key;
    const first = this.firsts.get(name);
    if (first === undefined || first === row || !this.series.has(first)) {
      this.firsts.set(name, row);
      return series;
    }
    const key = series.kind === "sensor" ? series.key : `${series.key}/${series.sensor}`;
    return {...series, key, column: `${series.column} (${series.sensor})`};
  }

  limits(series) {
    return this.thresholds.filter((each) => each.channel === series.channel);
  }

  isOver(series) {
    return this.limits(series).some((each) => isBeyond(each, series.value));
  }
}

export function isBeyond(threshold, value) {
  const size = threshold.absolute ? Math.abs(value) : value;
  return "above" in threshold ? size > threshold.above : size < threshold.below;
}

export function limitOf(threshold) {
  return "above" in threshold ? threshold.above : threshold.below;
}

export function limitText(threshold) {
  const sign = "above" in threshold ? ">" : "<";
  return `${threshold.absolute ? "|x| " : ""}${sign} ${limitOf(threshold)}`;
}

// What it is called here: `group` is the car or message, `column` what is measured there, `key` both, for links.
function named(known) {
  const part = known.part ?? "";
  if (known.car !== undefined) {
    const group = known.session ? `${known.session.slice(-4)}:${known.car}` : `${known.car}`;
    const column = part ? `${known.channel} ${part}` : known.channel;
    return {...known, kind: "car", group, groupName: known.driver || `Car ${known.car}`, column, key: `${group}/${column}`};
  }
  if (part) {
    return {...known, kind: "message", group: part, groupName: part, column: known.channel, key: `${part}/${known.channel}`};
  }
  return {...known, kind: "sensor", group: "", groupName: "", column: known.channel, key: `${known.sensor}/${known.channel}`};
}

export function partName(part) {
  return PLACES[part] ?? part;
}

// The parts of a trace are in the order of their numbers; nearly all news belong to its end.
function merge(trace, news, most) {
  news.n.forEach((number, i) => {
    let place = trace.n.length;
    while (place > 0 && trace.n[place - 1] >= number) place -= 1;
    const there = trace.n[place] === number ? 1 : 0;
    trace.n.splice(place, there, number);
    trace.low.splice(place, there, news.low[i]);
    trace.high.splice(place, there, news.high[i]);
  });
  const oldest = trace.n[trace.n.length - 1] - most - 50;
  let old = 0;
  while (trace.n[old] < oldest) old += 1;
  if (old) for (const name of ["n", "low", "high"]) trace[name].splice(0, old);
}

// How many decimals tell apart values that move within `span`.
export function decimalsOf(span) {
  if (!(span > 0)) return 2;
  if (span >= 200) return 0;
  if (span >= 20) return 1;
  return Math.min(6, Math.max(2, Math.ceil(1 - Math.log10(span))));
}

export function numberText(series, value = series.value) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const span = series.range && series.range[1] - series.range[0] <= 1e7 ? series.range[1] - series.range[0] : Math.abs(value);
  const text = value.toFixed(decimalsOf(span));
  return (text.length > 12 ? value.toPrecision(5) : text).replace("-", "−");
}

// From the lowest to the highest; once, where they look the same.
export function rangeText(series, low, high) {
  const texts = [numberText(series, low), numberText(series, high)];
  return texts[0] === texts[1] ? texts[0] : texts.join("…");
}
