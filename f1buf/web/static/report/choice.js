// What is chosen, by the reader or by the link: cars, channels, laps.

/** The names by which a link says what is chosen: labels, each of them once. */
function keysOf(labels) {
  const used = new Set();
  return labels.map((label) => {
    let key = label;
    for (let number = 2; used.has(key); number += 1) key = `${label} (${number})`;
    used.add(key);
    return key;
  });
}

const lapNumbers = [...new Set(data.laps.filter((lap) => lap.begin_heard).map((lap) => lap.lap))].sort((a, b) => a - b);
const named = tally(data.channels.map((channel) => channel.name)); // several have one name where their units differ
const keys = {
  [kinds]: keysOf(data.subjects.items.map((item) => item.label)),
  channels: keysOf(data.channels.map((each) => (named.get(each.name) > 1 ? titleOf(each) : each.name))),
  laps: lapNumbers.map(String),
};
const chosen = { [kinds]: new Set(), channels: new Set(), laps: new Set(), over: 0, by: "distance" };

function alertsBy(key) {
  const found = new Map();
  for (const alert of data.alerts) {
    const series = seriesOf.get(`${alert.sensor} ${alert.channel}`);
    if (series) found.set(series[key], (found.get(series[key]) || 0) + 1);
  }
  return found;
}

const seriesOf = new Map(data.series.map((each) => [`${each.sensor} ${data.channels[each.channel].name}`, each]));

function firstOf(places, most, key) {
  const alerts = alertsBy(key);
  return places.sort((a, b) => (alerts.get(b) || 0) - (alerts.get(a) || 0) || a - b).slice(0, most);
}

function chooseByDefault() {
  const subjects = data.subjects.items.map((_, place) => place),
    channels = data.channels.map((_, place) => place);
  chosen[kinds] = new Set(kind === "car" ? firstOf(subjects, 3, "subject") : subjects);
  chosen.channels = new Set(channels.length > 6 ? firstOf(channels, 4, "channel") : channels);
  chosen.laps = new Set(lapNumbers.slice(-3).map((lap) => keys.laps.indexOf(String(lap))));
  chosen.over = Math.max(
    0,
    data.channels.findIndex((channel) => channel.name === "SPEED"),
  );
  chosen.by = "distance";
}

function readLink() {
  chooseByDefault();
  for (const part of location.hash.slice(1).split("&")) {
    const [name, text] = part.split("=");
    if (text === undefined) continue;
    let names;
    try {
      names = text.split(",").map(decodeURIComponent);
    } catch {
      continue; // somebody cut the link
    }
    if (name === "by") chosen.by = names[0] === "time" ? "time" : "distance";
    else if (name === "over") chosen.over = Math.max(0, keys.channels.indexOf(names[0]));
    else if (Object.hasOwn(keys, name)) {
      chosen[name] = new Set(names.map((each) => keys[name].indexOf(each)).filter((place) => place >= 0));
    }
  }
}

function writeLink() {
  const parts = Object.keys(keys)
    .filter((name) => keys[name].length)
    .map(
      (name) =>
        `${name}=${[...chosen[name]]
          .sort((a, b) => a - b)
          .map((place) => encodeURIComponent(keys[name][place]))
          .join(",")}`,
    );
  if (data.laps.length) parts.push(`over=${encodeURIComponent(keys.channels[chosen.over])}`, `by=${chosen.by}`);
  history.replaceState(null, "", `#${parts.join("&")}`);
}

function change(act) {
  act();
  writeLink();
  drawChosen();
}

/** Boxes to tick, of which as many can be as one likes. */
function choices(name, label) {
  const labels = keys[name];
  if (!labels.length) return null;
  const boxes = labels.map((text, place) => {
    const box = make("input", {
      type: "checkbox",
      name,
      value: keys[name][place],
      onchange: () => change(() => (box.checked ? chosen[name].add(place) : chosen[name].delete(place))),
    });
    box.checked = chosen[name].has(place);
    return box;
  });
  const all = (on) => () =>
    change(() => {
      chosen[name] = new Set(on ? labels.map((_, place) => place) : []);
      boxes.forEach((box) => (box.checked = on));
    });
  return make(
    "fieldset",
    { class: "choose" },
    make("legend", {}, label),
    make(
      "div",
      { class: "choices" },
      boxes.map((box, place) => make("label", {}, box, make("span", {}, labels[place]))),
    ),
    labels.length > 2
      ? [
          make("button", { type: "button", onclick: all(true) }, "All"),
          make("button", { type: "button", onclick: all(false) }, "None"),
        ]
      : null,
  );
}

/** Buttons of which one is chosen. */
function oneOf(name, label, options, current, choose) {
  const inputs = options.map(([value, text]) => {
    const input = make("input", {
      type: "radio",
      name,
      value: String(value),
      onchange: () => change(() => choose(value)),
    });
    input.checked = value === current;
    return make("label", {}, input, make("span", {}, text));
  });
  return make("fieldset", { class: "choose" }, make("legend", {}, label), make("div", { class: "choices" }, inputs));
}
