// The lists: each car with its latest values in a table, or each message's signals, or each sensor.

import {limitText, rangeText} from "./run.js";

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function tell(cell, text, over, quiet) {
  if (cell.textContent !== text) cell.textContent = text;
  cell.classList.toggle("over", over);
  cell.classList.toggle("quiet", quiet);
}

function box(id, checked, onChange) {
  const made = element("input", {type: "checkbox", checked});
  made.dataset.key = id;
  made.addEventListener("change", () => onChange(made.checked));
  return made;
}

export class Lists {
  constructor(tables, columns, choice) {
    this.tables = tables;
    this.columns = columns;
    this.choice = choice; // has what is chosen, and is told of changes
    this.cells = []; // {cell, series: [...], quiet}
    this.heads = []; // {name, lap, series: [...]}
    this.key = "";
  }

  build(run) {
    const key = `${run.id} ${run.changes}`;
    if (key === this.key) return;
    this.key = key;
    const focused = document.activeElement?.dataset?.key;
    this.cells = [];
    this.heads = [];
    const all = [...run.series.values()];
    const cars = all.filter((series) => series.kind === "car");
    const others = all.filter((series) => series.kind !== "car");
    this.tables.replaceChildren(...(cars.length ? [this.cars(run, cars)] : []), ...(others.length ? [this.others(run, others)] : []));
    this.columns.hidden = !cars.length;
    const names = [...new Set(cars.map((series) => series.column))];
    this.columns.replaceChildren(
      this.columns.querySelector("legend"),
      ...names.map((name) => element("label", {}, box(`c ${name}`, this.choice.columns.has(name), (on) => this.choice.setColumn(name, on)), name)),
    );
    if (focused) [...document.querySelectorAll("input")].find((each) => each.dataset.key === focused)?.focus();
  }

  cars(run, cars) {
    const groups = grouped(cars);
    const channels = [...new Set(cars.map((series) => series.channel))];
    const several = new Set(cars.map((series) => series.session)).size > 1;
    const units = channels.map((name) => cars.find((series) => series.channel === name).unit);
    const head = element("tr", {}, element("th", {scope: "col", textContent: "Car"}));
    channels.forEach((name, i) => {
      const heading = element("th", {scope: "col"}, name.replaceAll("_", " "));
      if (units[i]) heading.append(element("span", {className: "unit", textContent: units[i]}));
      head.append(heading);
    });
    const body = element("tbody");
    for (const [group, its] of groups) {
      const [first] = its;
      const label = element("label", {}, box(`g ${group}`, this.choice.cars.includes(group), (on) => this.choice.setCar(group, on)));
      const [name, lap] = [element("span"), element("span", {className: "lap"})];
      label.append(element("span", {className: "number", textContent: several ? group : first.car}), name, lap);
      this.heads.push({name, lap, series: its});
      const line = element("tr", {}, element("th", {scope: "row"}, label));
      for (const name of channels) {
        const cell = element("td");
        const series = its.filter((each) => each.channel === name);
        if (series.length) this.cells.push({cell, series});
        line.append(cell);
      }
      body.append(line);
    }
    const table = element("table", {className: "cars"}, element("thead", {}, head), body);
    return element("div", {className: "scrolls", tabIndex: 0, role: "region", ariaLabel: "Cars"}, table);
  }

  others(run, all) {
    const body = element("tbody");
    let before = "";
    const order = [...all].sort((a, b) => (a.group < b.group ? -1 : a.group > b.group ? 1 : a.row - b.row));
    const sensors = all.filter((each) => each.kind === "sensor").map((each) => each.column);
    const twice = new Set(sensors.filter((name, i) => sensors.indexOf(name) !== i));
    for (const series of order) {
      if (series.group !== before) {
        before = series.group;
        body.append(element("tr", {className: "group"}, element("th", {colSpan: 4, scope: "rowgroup", textContent: series.groupName})));
      }
      const label = element("label", {}, box(`s ${series.key}`, this.choice.series.has(series.key), (on) => this.choice.setSeries(series.key, on)));
      const number = series.kind === "sensor" && twice.has(series.column) ? ` ${series.sensor}` : "";
      label.append(` ${series.column}${number}`);
      const cell = element("td");
      this.cells.push({cell, series: [series]});
      const limits = run.limits(series).map(limitText).join(", ");
      body.append(element("tr", {}, element("th", {scope: "row"}, label), cell, element("td", {className: "unit", textContent: series.unit}), element("td", {className: "faint", textContent: limits})));
    }
    const headings = ["What", "Value", "Unit", "Limit"].map((name) => element("th", {scope: "col", textContent: name}));
    return element("table", {className: "others"}, element("thead", {}, element("tr", {}, ...headings)), body);
  }

  show(run) {
    const quiet = new Set(run.status?.quiet);
    for (const {name, lap, series} of this.heads) {
      tell(name, series[0].groupName, false, false);
      const number = Math.max(...series.map((each) => each.lap ?? -1));
      tell(lap, number >= 0 ? `L${number}` : "", false, false);
    }
    for (const {cell, series} of this.cells) {
      const over = series.some((each) => run.isOver(each));
      const values = series.map((each) => each.value);
      const text = rangeText(series[0], Math.min(...values), Math.max(...values));
      tell(cell, text, over, series.every((each) => quiet.has(each.row)));
    }
  }
}

function grouped(cars) {
  const groups = new Map();
  for (const series of cars) groups.set(series.group, [...(groups.get(series.group) ?? []), series]);
  return groups;
}
