// The sections that follow what is chosen: traces and laps.

const traces = make("div", { id: "charts" }),
  lapTable = make("div"),
  lapChart = make("div");

function drawTraces() {
  traces.replaceChildren();
  const subjects = [...chosen[kinds]].sort((a, b) => a - b);
  let drawn = 0;
  for (const place of [...chosen.channels].sort((a, b) => a - b)) {
    const channel = data.channels[place],
      parts = partsOf(place);
    const its = data.series.filter(
      (each) => each.channel === place && chosen[kinds].has(each.subject) && each.stretches,
    );
    if (!its.length) continue;
    its.sort((a, b) => a.subject - b.subject || a.sensor - b.sensor);
    const lines = its.map((each) => ({
      label: labelOf(each),
      points: trace(each),
      line:
        kind === "car"
          ? line(subjects.indexOf(each.subject), parts.indexOf(each.part || ""))
          : line(its.indexOf(each), 0),
    }));
    const alerts = data.alerts
      .filter(
        (alert) =>
          its.includes(seriesOf.get(`${alert.sensor} ${alert.channel}`)) &&
          Number.isFinite(alert.time) &&
          Number.isFinite(alert.value),
      )
      .map((alert) => [alert.time, alert.value]);
    const limits = thresholdsOf(channel).map(limit);
    const faint = [
      limits.length ? `threshold ${limits.join(" and ")}` : "no threshold",
      alerts.length ? `▲ ${many(alerts.length, "alerts")}` : null,
      lines.length > MOST_IN_LEGEND ? `${lines.length} traces, choose fewer to see which is which` : null,
    ]
      .filter(Boolean)
      .join(" · ");
    const [made, room] = figure(
      titleOf(channel),
      faint,
      `${channel.name} of ${listed(lines.map((each) => each.label))}; the numbers are under Ranges and outliers`,
    );
    traces.append(made);
    chart(room, lines, {
      channel,
      alerts,
      clock: data.time.is_unix,
      sync: "time",
      sayX: when,
      x: data.time.is_unix ? "time" : "time [s]",
    });
    drawn += 1;
  }
  if (!drawn)
    traces.append(
      note(
        data.series.length
          ? `Nothing is chosen that there are readings of: choose ${kinds} and channels above.`
          : "There are no readings.",
      ),
    );
}

/** How far a car had come at these times of a lap [m]. */
function distancesAt(times, stretch) {
  const t = stretchTimes(stretch),
    d = stretch.d;
  let place = 0;
  return times.map((time) => {
    while (place < t.length - 1 && t[place + 1] <= time) place += 1;
    if (time <= t[0] || place === t.length - 1) return d[place];
    return d[place] + ((d[place + 1] - d[place]) * (time - t[place])) / (t[place + 1] - t[place]);
  });
}

function drawLaps() {
  if (!data.laps.length) return;
  const shown = data.laps.filter((lap) => chosen[kinds].has(lap.subject));
  const times = shown.filter((lap) => lap.seconds !== undefined);
  const best = new Map();
  for (const lap of times) best.set(lap.subject, Math.min(lap.seconds, best.get(lap.subject) ?? Infinity));
  const isBest = (lap) => times.length > 1 && lap.seconds === best.get(lap.subject);
  lapTable.replaceChildren(
    shown.length
      ? table(
          "Laps of the chosen cars",
          [[Kind, "text"], ["Lap"], ["Lap time"], ["Begins at"], ["Top speed"], ["Distance"], ["Readings"], ["Alerts"]],
          shown.map((lap) => [
            data.subjects.items[lap.subject].label,
            String(lap.lap),
            lap.seconds === undefined
              ? ["not whole", "faint"]
              : `${isBest(lap) ? "fastest " : ""}${lasting(lap.seconds)} ± ${lap.within.toFixed(3)}`,
            lap.begin_heard ? when(begin + lap.first) : ["not heard", "faint"],
            lap.top_speed === undefined ? "" : `${show(lap.top_speed)} km/h`,
            lap.distance === undefined ? "" : `${count(Math.round(lap.distance))} m`,
            count(lap.readings),
            lap.alerts ? [count(lap.alerts), "over"] : "0",
          ]),
        )
      : note("Choose cars above."),
  );

  lapChart.replaceChildren();
  const channel = data.channels[chosen.over],
    lines = [];
  for (const lap of shown) {
    if (!lap.begin_heard || !chosen.laps.has(keys.laps.indexOf(String(lap.lap)))) continue;
    const ofLap = (each) => (each.stretches || []).find((stretch) => stretch.lap === lap.lap);
    const its = data.series.filter((each) => each.subject === lap.subject);
    const speed = its.map(ofLap).find((stretch) => stretch && stretch.d);
    for (const each of its.filter((series) => series.channel === chosen.over && ofLap(series))) {
      const stretch = ofLap(each),
        t = stretchTimes(stretch);
      if (chosen.by === "distance" && !speed) continue;
      const order = inOrder(t);
      const x = chosen.by === "time" ? t.map((time) => time - lap.first) : stretch.d || distancesAt(t, speed);
      lines.push({
        label: `${labelOf(each)}, lap ${lap.lap}`,
        points: [alongAt(order, x), valuesAt(order, stretch.v)],
        line: line(lines.length, 0),
      });
    }
  }
  if (!lines.length) {
    lapChart.append(
      note(
        "No lap of this choice can be laid over others: of the chosen cars " +
          "none has a reading in the chosen laps, or their beginnings were not heard.",
      ),
    );
    return;
  }
  const [made, room] = figure(
    titleOf(channel),
    `${many(lines.length, "traces")} by ${chosen.by} from the lap's beginning`,
    `${channel.name} by ${chosen.by}: ${listed(lines.map((each) => each.label))}`,
  );
  lapChart.append(made);
  const byTime = chosen.by === "time";
  chart(room, lines, {
    channel,
    x: byTime ? "time in the lap [s]" : "distance in the lap [m]",
    sayX: (x) => (byTime ? `${x.toFixed(3)} s` : `${count(Math.round(x))} m`),
  });
}

function drawChosen() {
  for (const { plot } of charts) plot.destroy();
  charts = [];
  drawTraces();
  drawLaps();
}
