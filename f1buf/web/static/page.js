// The live page: listens to the server, and shows what it says of the run.

import {Charts} from "./charts.js";
import {Drawings} from "./drawings.js";
import {Lists} from "./lists.js";
import {Run, WINDOW} from "./run.js";

const MOST_CARS = 7; // that are told apart in a chart
const MOST_DRAWN = 2; // cars
const FIRST = 4; // charts where nobody has chosen
const QUIET = 5000; // [ms] without a word of the server

const $ = (id) => document.getElementById(id);
const token = new URLSearchParams(location.search).get("token");

let run = null;
let events = null;
let asked = ""; // which rows' traces the server sends
let frozen = null; // {clocks, traces}: what is shown while the page is paused
let heardAt = performance.now();
let lost = ""; // what is wrong between the server and this page
let moved = false; // the token is another run's
let due = false;

// -- what is chosen, and the link that says so -------------------------------------------------------------------------

const choice = {
  cars: [], columns: new Set(), series: new Set(), made: false,

  read() {
    const said = new URLSearchParams(location.hash.slice(1));
    const list = (name) => said.getAll(name);
    this.made = location.hash.length > 1;
    this.cars = list("car").slice(0, MOST_CARS);
    this.columns = new Set(list("of"));
    this.series = new Set(list("series"));
  },

  write() {
    this.made = true;
    const said = new URLSearchParams();
    this.cars.forEach((car) => said.append("car", car));
    this.columns.forEach((name) => said.append("of", name));
    this.series.forEach((key) => said.append("series", key));
    history.replaceState(null, "", `#${said}`);
    chosen();
  },

  setCar(car, on) {
    const others = this.cars.filter((each) => each !== car);
    this.cars = on ? [...others, car].slice(-MOST_CARS) : others;
    document.querySelectorAll("input[data-key^='g ']").forEach((box) => {
      box.checked = this.cars.includes(box.dataset.key.slice(2));
    });
    this.write();
  },

  setColumn(name, on) {
    this.columns[on ? "add" : "delete"](name);
    this.write();
  },

  setSeries(key, on) {
    this.series[on ? "add" : "delete"](key);
    this.write();
  },

  // What is shown before anybody has chosen.
  guess() {
    const all = [...run.series.values()];
    const cars = all.filter((series) => series.kind === "car");
    const single = (series) => (series.part ? 1 : 0);
    this.cars = [...new Set(cars.map((series) => series.group))].slice(0, MOST_DRAWN);
    this.columns = new Set([...new Set([...cars].sort((a, b) => single(a) - single(b)).map((series) => series.column))].slice(0, FIRST));
    const others = all.filter((series) => series.kind !== "car");
    const limited = others.filter((series) => run.limits(series).length);
    this.series = new Set([...limited, ...others].slice(0, Math.max(FIRST, Math.min(limited.length, 6))).map((series) => series.key));
  },
};

// The charts that are chosen: by name their lines.
function wanted() {
  const charts = new Map();
  for (const column of [...choice.columns]) {
    const lines = [];
    choice.cars.forEach((car, place) => {
      const series = find((each) => each.kind === "car" && each.group === car && each.column === column);
      if (series) lines.push({series, label: series.groupName, place});
    });
    if (lines.length) charts.set(column, lines);
  }
  for (const key of choice.series) {
    const series = find((each) => each.kind !== "car" && each.key === key);
    if (series) charts.set(`series ${key}`, [{series, label: "", place: 0}]);
  }
  return charts;
}

function find(fits) {
  for (const series of run.series.values()) if (fits(series)) return series;
  return undefined;
}

// -- what is drawn -----------------------------------------------------------------------------------------------------

let charts, drawings, lists;

// The choice has changed, or the series: what is shown is built anew, and the server asked for its traces.
function chosen() {
  if (!run) return;
  if (!choice.made) choice.guess();
  lists.build(run);
  const lines = wanted();
  charts.choose(run, lines);
  const cars = new Map();
  for (const car of choice.cars.slice(0, MOST_DRAWN)) {
    const its = [...run.series.values()].filter((each) => each.kind === "car" && each.group === car);
    if (its.length) cars.set(car, its);
  }
  drawings.choose(run, cars);
  if (frozen) frozen.shown = false;
  $("no-charts").hidden = lines.size > 0;
  const rows = [...lines.values()].flat().map((line) => line.series.row).sort((a, b) => a - b).join();
  if (rows !== asked) {
    asked = rows;
    listen();
    if (frozen) lookBack();
  }
  show();
}

function show() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    if (!run) return;
    showStatus();
    if (frozen) {
      if (!frozen.shown) charts.show((row) => frozen.traces.get(row), endOf, false);
      frozen.shown = true;
      return;
    }
    lists.show(run);
    drawings.show();
    charts.show((row) => run.traces.get(row), endOf, true);
    showAlerts();
  });
}

function endOf(session) {
  const back = frozen ? Number($("back").value) * run.perSecond : 0;
  return ((frozen ?? run).clocks[session] ?? 0) - back;
}

const shownStatus = new Map();

function item(name, text, over = false) {
  let pair = shownStatus.get(name);
  if (!pair) {
    pair = document.createElement("div");
    const [term, value] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    pair.append(term, value);
    $("status").append(pair);
    shownStatus.set(name, pair);
  }
  pair.hidden = text === "";
  const value = pair.lastChild;
  if (value.textContent !== text) value.textContent = text;
  value.classList.toggle("over", over);
}

const whole = (count) => Math.round(count).toLocaleString("en");

function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1) return `${Number(value.toPrecision(3))} s`;
  return value >= 1e-3 ? `${Number((value * 1e3).toPrecision(3))} ms` : `${Number((value * 1e6).toPrecision(3))} µs`;
}

function showStatus() {
  const status = run.status;
  if (!status) return;
  if ("seconds" in status) { // a program of somebody's own may not say how its run does
    const minutes = Math.floor(status.seconds / 60);
    item("elapsed", `${minutes}:${String(Math.floor(status.seconds % 60)).padStart(2, "0")}`);
    item("readings/s", whole(status.rate));
    item("analysed", whole(status.analysed));
    item("buffer", `${whole(status.size)} of ${whole(status.capacity)}`);
    const lost = Object.entries(status.losses).filter(([, count]) => count);
    item("lost", lost.length ? lost.map(([where, count]) => `${whole(count)} ${where}`).join(", ") : "nothing", lost.length > 0);
    item("rejected", status.rejected ? whole(status.rejected) : "");
    item("latency p50", seconds(status.latency_s.p50));
    item("p99", seconds(status.latency_s.p99));
    item("recorder", status.recorder);
    item("publisher", status.publisher ?? "", true);
    item("sharer", status.sharer ?? "", true);
    item("draining", status.draining ? `${whole(status.draining)} left` : "");
  }
  item("not shown here", status.passed_over ? whole(status.passed_over) : "");
}

let shownAlerts = 0;

function showAlerts() {
  const list = $("alert-list");
  const fresh = Math.min(run.alertCount - shownAlerts, run.alerts.length);
  if (fresh <= 0) return;
  shownAlerts = run.alertCount;
  for (const alert of run.alerts.slice(-fresh)) {
    const line = document.createElement("li");
    line.textContent = alert.text;
    line.className = alert.kind;
    list.prepend(line);
  }
  while (list.children.length > 50) list.lastChild.remove();
  $("last-alert").hidden = false;
  $("last-alert").textContent = run.alerts[run.alerts.length - 1].text;
  $("alerts-title").textContent = `${whole(run.alertCount)} alert${run.alertCount === 1 ? "" : "s"}`;
}

function showState() {
  let [text, kind] = frozen ? ["Paused", "paused"] : ["Live", "live"];
  if (run?.ended) [text, kind] = ["The run has ended; this is its last state", "ended"];
  else if (lost) [text, kind] = [lost, "lost"];
  if (moved) [text, kind] = ["f1buf was started again: open the address that it prints now", "lost"];
  const state = $("state");
  if (state.textContent !== text) state.textContent = text;
  state.className = kind;
}

// -- the server --------------------------------------------------------------------------------------------------------

function listen() {
  events?.close();
  const query = new URLSearchParams();
  if (run) query.set("run", run.id);
  if (asked) query.set("rows", asked);
  if (token) query.set("token", token);
  const mine = new EventSource(`events?${query}`);
  events = mine;
  mine.onmessage = (event) => {
    if (mine === events) take(JSON.parse(event.data));
  };
  mine.onerror = () => {
    if (mine !== events) return;
    lost = "Connection lost; trying again";
    showState();
    if (run?.ended) mine.close(); // it would try each second
    if (mine.readyState === EventSource.CLOSED) again(mine);
  };
}

// Connect again, unless the token is another run's: events do not say why they were refused.
async function again(mine) {
  await new Promise((resolve) => setTimeout(resolve, run?.ended ? 5000 : 1000));
  if (token && (await fetch(`events?${new URLSearchParams({token})}`, {method: "HEAD"}).catch(() => null))?.status === 403) {
    moved = true;
    showState();
  } else if (mine === events) listen();
}

function take(message) {
  heardAt = performance.now();
  if (message.run && message.run !== run?.id) begin(message);
  else if (message.run) run.alerts = []; // all is told anew
  const changes = run.changes;
  run.take(message);
  if (run.changes !== changes) chosen();
  lost = "";
  showState();
  show();
}

// Another run than before: the server was started again.
function begin(message) {
  run = new Run(message);
  asked = "";
  shownAlerts = 0;
  $("alert-list").replaceChildren();
  $("alerts-title").textContent = "Alerts";
  $("last-alert").hidden = true;
  $("source").textContent = run.source;
  document.title = `${run.source}: f1buf`;
  if (frozen) pause(false);
}

setInterval(() => {
  if (run && !lost && performance.now() - heardAt > QUIET) {
    lost = "Nothing comes from the server";
    showState();
  }
}, 1000);

// -- pause and scroll back ---------------------------------------------------------------------------------------------

function pause(on) {
  $("pause").setAttribute("aria-pressed", String(on));
  $("pause").textContent = on ? "Go on" : "Pause";
  if (on && run) {
    frozen = {clocks: {...run.clocks}, traces: new Map([...run.traces].map(([row, trace]) => [row, structuredClone(trace)]))};
    $("back").max = Math.max(0, Math.floor(run.depth / run.perSecond) - WINDOW);
  } else {
    frozen = null;
    $("back").value = 0;
    $("when").textContent = "";
  }
  if (run) showState();
  show();
}

// Fetch the traces of the minute that the slider stands at.
async function lookBack() {
  const mine = frozen;
  const back = Number($("back").value);
  $("when").textContent = back ? `${back} s ago` : "";
  const bySession = new Map();
  for (const row of asked.split(",").filter(Boolean).map(Number)) {
    const session = run.series.get(row)?.session;
    bySession.set(session, [...(bySession.get(session) ?? []), row]);
  }
  const traces = new Map();
  for (const [session, rows] of bySession) {
    const stop = endOf(session) + 1;
    const query = new URLSearchParams({run: run.id, rows: rows.join(), start: stop - WINDOW * run.perSecond - 1, stop});
    if (token) query.set("token", token);
    try {
      const answer = await fetch(`history?${query}`);
      if (!answer.ok) throw new Error(answer.statusText);
      for (const [row, trace] of Object.entries((await answer.json()).traces)) traces.set(Number(row), trace);
    } catch {
      lost = "The server does not answer; what is shown may be older";
      showState();
      return;
    }
  }
  if (mine !== frozen || back !== Number($("back").value)) return;
  frozen.traces = traces;
  frozen.shown = false;
  show();
}

$("pause").addEventListener("click", () => pause(!frozen));
$("back").addEventListener("input", () => {
  if (!run) return;
  if (!frozen) pause(true);
  lookBack();
});
document.querySelectorAll("nav a").forEach((link) => link.addEventListener("click", (event) => {
  event.preventDefault(); // what stands behind the # says what is shown
  const part = document.querySelector(link.getAttribute("href"));
  part.scrollIntoView();
  part.focus({preventScroll: true});
}));
addEventListener("hashchange", () => {
  choice.read();
  lists.key = ""; // other boxes are checked
  chosen();
});

charts = new Charts($("charts"));
drawings = new Drawings($("drawings"));
lists = new Lists($("tables"), $("columns"), choice);
choice.read();
listen();
