// The report's data, and texts, tables and elements made of them.

const data = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("report");
const kind = data.subjects.kind;
const kinds = `${kind}s`; // cars, messages or sensors
const Kind = kind[0].toUpperCase() + kind.slice(1);
const Kinds = `${Kind}s`;
const begin = data.time ? data.time.first : 0;

/** An element; what is no element among the children becomes text, whatever is in it. */
function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

const count = (number) => number.toLocaleString("en-US");
const many = (number, what) => `${count(number)} ${number === 1 ? what.replace(/s$/, "") : what}`;
const show = (number) => (typeof number === "number" ? String(Number(number.toPrecision(6))) : String(number));
const listed = (texts) => texts.join(", ");
const tally = (texts) => texts.reduce((counts, text) => counts.set(text, (counts.get(text) || 0) + 1), new Map());

/** A reading's time; a text stands for one that is no number. */
function when(time) {
  if (typeof time !== "number") return time;
  if (!data.time || !data.time.is_unix) return `${time.toFixed(3)} s`;
  const date = new Date(time * 1000),
    two = (number) => String(number).padStart(2, "0");
  const seconds = `${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, "0")}`;
  return `${two(date.getHours())}:${two(date.getMinutes())}:${seconds}`;
}

const day = (time) => new Date(time * 1000).toLocaleString(undefined, { dateStyle: "long", timeStyle: "short" });

function lasting(seconds) {
  if (seconds < 1e-3) return `${Number((seconds * 1e6).toPrecision(3))} µs`;
  if (seconds < 1) return `${Number((seconds * 1e3).toPrecision(3))} ms`;
  const minutes = Math.floor(seconds / 60);
  if (!minutes) return `${seconds.toFixed(3)} s`;
  return `${minutes}:${(seconds - 60 * minutes).toFixed(3).padStart(6, "0")} min`;
}

function size(bytes) {
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

const titleOf = (channel) => (channel.unit ? `${channel.name} [${channel.unit}]` : channel.name);
const inUnit = (value, channel) => `${show(value)} ${channel.unit}`.trim();
const side = (threshold) => ("above" in threshold ? "above" : "below");

function limit(threshold) {
  const unit = (data.channels.find((each) => each.name === threshold.channel) || { unit: "" }).unit;
  const sign = side(threshold) === "above" ? ">" : "<";
  let text = `${threshold.absolute ? "|x| " : ""}${sign} ${show(threshold[side(threshold)])} ${unit}`.trim();
  if (threshold.hysteresis) text += `, until back by ${show(threshold.hysteresis)}`;
  if (threshold.min_duration) text += `, for ${show(threshold.min_duration)} s`;
  return text;
}

/** A paragraph that is not the first thing to read. */
const note = (...texts) => make("p", { class: "faint" }, texts);

// -- tables -----------------------------------------------------------------------------------------------------------

let captions = 0;

/** A table. A column is [its name, class of its cells]; a cell is a text, or [a text, class, title]. */
function table(caption, columns, rows) {
  const id = `caption-${(captions += 1)}`;
  const cell = (value, place) => {
    const [text, more, title] = Array.isArray(value) ? value : [value];
    const classes = [columns[place][1], more].filter(Boolean).join(" ") || undefined;
    return place === 0
      ? make("th", { scope: "row", class: classes, title }, text)
      : make("td", { class: classes, title }, text);
  };
  return make(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": id },
    make(
      "table",
      {},
      make("caption", { id }, caption),
      make(
        "thead",
        {},
        make(
          "tr",
          {},
          columns.map(([name, its]) => make("th", { scope: "col", class: its }, name)),
        ),
      ),
      make(
        "tbody",
        {},
        rows.map((row) => make("tr", {}, row.map(cell))),
      ),
    ),
  );
}
