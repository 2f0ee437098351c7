// Drawings of a car: its four wheels, and the forces on it as a dot in a circle.

import {limitOf, numberText, partName} from "./run.js";

const WHEELS = ["FL", "FR", "RL", "RR"];
const SVG = "http://www.w3.org/2000/svg";

function node(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function tell(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

class Wheels {
  constructor(run, channel, wheels) {
    this.run = run;
    this.wheels = wheels;
    this.box = document.createElement("div");
    this.box.className = "wheels";
    const title = document.createElement("h4");
    title.textContent = `${channel} ${wheels.FL.unit}`;
    const grid = document.createElement("dl");
    this.cells = WHEELS.map((wheel) => {
      const pair = document.createElement("div");
      const name = document.createElement("dt");
      name.textContent = wheel;
      name.title = partName(wheel);
      const value = document.createElement("dd");
      pair.append(name, value);
      pair.className = `wheel ${wheel.toLowerCase()}`;
      grid.append(pair);
      return value;
    });
    this.box.append(title, grid);
  }

  show() {
    WHEELS.forEach((wheel, i) => {
      tell(this.cells[i], numberText(this.wheels[wheel]));
      this.cells[i].classList.toggle("over", this.run.isOver(this.wheels[wheel]));
    });
  }
}

class Forces {
  constructor(run, channel, axes) {
    this.run = run;
    this.axes = axes;
    const [limit] = run.limits(axes.lateral).map(limitOf);
    this.most = Math.max(limit ? limit * 1.1 : 0, 6);
    this.box = document.createElement("div");
    this.box.className = "forces";
    const title = document.createElement("h4");
    title.textContent = `${channel} ${axes.lateral.unit}`;
    this.dot = node("circle", {r: 6, class: "dot"});
    const rings = [2, 4].map((g) => node("circle", {cx: 60, cy: 60, r: this.length(g), class: "ring"}));
    const named = [2, 4].filter((g) => !limit || Math.abs(g - limit) > 1);
    const names = named.map((g) => node("text", {x: 61 + 0.71 * this.length(g), y: 59 - 0.71 * this.length(g)}, String(g)));
    const ends = limit ? [node("circle", {cx: 60, cy: 60, r: this.length(limit), class: "limit"})] : [];
    const cross = [node("path", {d: "M60 4V116M4 60H116", class: "ring"})];
    const drawing = node("svg", {viewBox: "0 0 120 120", "aria-hidden": "true"}, ...cross, ...rings, ...ends, ...names, this.dot);
    const list = document.createElement("dl");
    this.cells = Object.keys(axes).map((axis) => {
      const pair = document.createElement("div");
      const name = document.createElement("dt");
      name.textContent = axis;
      const value = document.createElement("dd");
      pair.append(name, value);
      list.append(pair);
      return [axis, value];
    });
    this.box.append(title, drawing, list);
  }

  length(g) {
    return (g / this.most) * 56;
  }

  show() {
    const [x, y] = [this.axes.lateral.value, this.axes.longitudinal.value].map((g) => (Number.isFinite(g) ? g : 0));
    const shrink = Math.min(1, this.most / Math.max(Math.hypot(x, y), 1e-9));
    this.dot.setAttribute("cx", 60 + this.length(x * shrink));
    this.dot.setAttribute("cy", 60 - this.length(y * shrink));
    for (const [axis, value] of this.cells) {
      tell(value, numberText(this.axes[axis]));
      value.classList.toggle("over", this.run.isOver(this.axes[axis]));
    }
  }
}

// The drawings of the cars whose series these are: `cars` maps each car to its series.
export class Drawings {
  constructor(place) {
    this.place = place;
    this.parts = [];
    this.key = "";
  }

  choose(run, cars) {
    const key = `${run.id} ${run.changes} ${[...cars.keys()]}`;
    if (key === this.key) return;
    this.key = key;
    this.parts = [];
    const boxes = [];
    for (const its of cars.values()) {
      const byChannel = new Map();
      for (const series of its) {
        if (series.part) byChannel.set(series.channel, {...byChannel.get(series.channel), [series.part]: series});
      }
      const parts = [];
      for (const [channel, known] of byChannel) {
        if (WHEELS.every((wheel) => wheel in known)) parts.push(new Wheels(run, channel, known));
        if ("lateral" in known && "longitudinal" in known) parts.push(new Forces(run, channel, known));
      }
      if (!parts.length) continue;
      const box = document.createElement("figure");
      const title = document.createElement("figcaption");
      title.append(Object.assign(document.createElement("h3"), {textContent: its[0].groupName}));
      box.append(title, ...parts.map((part) => part.box));
      boxes.push(box);
      this.parts.push(...parts);
    }
    this.place.replaceChildren(...boxes);
  }

  show() {
    this.parts.forEach((part) => part.show());
  }
}
