// The sections of the page that stay, and the page itself.

const SHOWN_ALERTS = 20;

function head() {
  const seconds = data.time ? data.time.seconds : 0;
  const missing = Object.entries(data.rejected).filter(([reason]) => reason.startsWith("missing"));
  const lost = [...Object.entries(data.lost), ...missing].reduce((total, [, number]) => total + number, 0);
  const facts = [
    ["Length", data.time ? lasting(seconds) : "none"],
    ["Readings", count(data.readings)],
    [Kinds, count(data.subjects.items.length)],
    [kind === "sensor" ? "Channels" : "Sensors", count(kind === "sensor" ? data.channels.length : data.series.length)],
    ["Alerts", data.alert_count ? [count(data.alert_count), "over"] : "none"],
    ["Lost or missing", lost ? [count(lost), "over"] : "none"],
  ];
  let span = "It holds no reading.";
  if (data.time) {
    span = data.time.is_unix
      ? `Recorded ${day(data.time.first)} to ${day(data.time.last)}, by your clock.`
      : `Times are the session's own: ${when(data.time.first)} to ${when(data.time.last)}.`;
  }
  const file =
    data.file.bytes === undefined ? "" : ` ${size(data.file.bytes)}, last changed ${day(data.file.changed)}.`;
  document.title = `Report: ${data.file.name}`;
  return [
    make("h1", {}, data.file.name),
    note(`${span}${file} Report made ${day(data.made)} by f1buf ${data.version}.`),
    data.problems.length
      ? make(
          "div",
          { class: "problems", role: "note" },
          make("strong", { class: "over" }, "Not all of it could be read"),
          data.problems.map((problem) => make("p", {}, problem)),
        )
      : null,
    make(
      "dl",
      {},
      facts.map(([name, value]) =>
        make(
          "div",
          {},
          make("dt", {}, name),
          Array.isArray(value) ? make("dd", { class: value[1] }, value[0]) : make("dd", {}, value),
        ),
      ),
    ),
    make(
      "nav",
      { "aria-label": "Sections" },
      sections.map(([id, title]) =>
        make(
          "a",
          {
            href: `#${id}`,
            onclick: (event) => {
              event.preventDefault(); // the link after # is for what is chosen
              const heading = document.getElementById(id);
              heading.scrollIntoView();
              heading.focus({ preventScroll: true });
            },
          },
          title,
        ),
      ),
    ),
  ];
}

function thresholdSection() {
  if (!data.thresholds.length) return [note("The readings were checked against no thresholds.")];
  return [
    table(
      "Thresholds that the readings were checked against",
      [
        ["Channel", "text"],
        ["Threshold", "text wrap"],
        ["Message", "text wrap"],
        ["Readings"],
        ["Over it"],
        ["Times it rose"],
      ],
      data.thresholds.map((each) => [
        each.channel,
        limit(each),
        each.message,
        count(each.readings),
        each.samples ? [count(each.samples), "over"] : "0",
        count(each.rises),
      ]),
    ),
  ];
}

function alertSection() {
  if (!data.alert_count) return [];
  const rows = [...data.alerts]
    .sort((a, b) => a.time - b.time)
    .map((alert) => {
      const series = seriesOf.get(`${alert.sensor} ${alert.channel}`);
      const from = series ? labelOf(series) : `sensor ${alert.sensor}`,
        value = `${show(alert.value)} ${alert.unit || ""}`.trim();
      return [
        when(alert.time),
        alert.lap === undefined ? from : `${from}, lap ${alert.lap}`,
        [`${alert.channel} ${value}`, "over", String(alert.value)],
        limit({ ...alert.threshold, channel: alert.channel }),
        alert.message,
      ];
    });
  const columns = [
    ["At", "text"],
    [Kind, "text wrap"],
    ["Reading", "text"],
    ["Threshold", "text"],
    ["Message", "text wrap"],
  ];
  const room = make(
    "div",
    {},
    table(
      `Alerts${rows.length > SHOWN_ALERTS ? `, the first ${SHOWN_ALERTS} of ${count(data.alert_count)}` : ""}`,
      columns,
      rows.slice(0, SHOWN_ALERTS),
    ),
  );
  const more = make(
    "button",
    {
      type: "button",
      onclick: () => {
        room.replaceChildren(table("Alerts", columns, rows));
        more.remove();
      },
    },
    `Show ${count(rows.length)}`,
  );
  return [
    room,
    rows.length > SHOWN_ALERTS ? more : null,
    rows.length < data.alert_count
      ? note(
          `The page holds the first ${count(rows.length)} alerts of ${count(data.alert_count)}; ` +
            "f1buf replay --alerts writes all of them to a file.",
        )
      : null,
  ];
}

function lapSection() {
  const overs = [
    ...new Set(
      data.series
        .filter((each) => (each.stretches || []).some((stretch) => stretch.lap !== undefined))
        .map((each) => each.channel),
    ),
  ];
  return [
    make(
      "p",
      {},
      "A lap begins with the first reading that names it. Lap times are the time from there to the next lap's " +
        "beginning; ± is how long before no reading came, so how far off they may be. Distances are worked out from " +
        "the speed: what was recorded does not have them.",
    ),
    choices("laps", "Laps to lay over each other"),
    oneOf(
      "over",
      "Channel",
      overs.map((place) => [place, keys.channels[place]]),
      chosen.over,
      (value) => (chosen.over = value),
    ),
    oneOf(
      "by",
      "Against",
      [
        ["distance", "distance"],
        ["time", "time in the lap"],
      ],
      chosen.by,
      (value) => (chosen.by = value),
    ),
    lapChart,
    lapTable,
  ];
}

function rangeSection() {
  const heads = ["Readings", "Lowest", "at", "Median", "Mean", "Deviation", "Highest", "at"].map((name) => [name]);
  const full = (number) => [show(number), "", String(number)];
  const row = (label, each) => [
    label,
    count(each.readings),
    ...(each.low === undefined
      ? Array(8).fill("")
      : [
          full(each.low.value),
          when(each.low.time),
          full(each.quartiles[1]),
          full(each.mean),
          full(each.deviation),
          full(each.high.value),
          when(each.high.time),
          standsOut(each),
        ]),
  ];
  const said = make(
    "p",
    {},
    "An outlier is a reading alone: further from both the one before and the one after it than three times its " +
      "sensor's spread, which is the width of the middle half of all readings, or their standard deviation if that " +
      "is larger. A mean is unlike the others where it is far from those of the same sensors of most cars.",
  );
  const rangeTable = (title, columns, rows) => {
    // without the last column, where nothing stands out
    const kept = rows.some((each) => each[each.length - 1][0]) ? columns.length : columns.length - 1;
    return table(
      title,
      columns.slice(0, kept),
      rows.map((each) => each.slice(0, kept)),
    );
  };
  const by = data.channels.map((channel, place) => [
    titleOf(channel),
    data.series.filter((each) => each.channel === place).sort((a, b) => a.subject - b.subject || a.sensor - b.sensor),
  ]);
  if (!by.length) return [note("There are no readings.")];
  if (by.every(([, its]) => its.length === 1)) {
    return [
      said,
      rangeTable(
        "Range of each channel",
        [["Channel", "text"], [Kind, "text"], ...heads, ["Stands out", "text wrap"]],
        by.map(([title, [each]]) => {
          const [of, ...rest] = row(labelOf(each), each);
          return [title, of, ...rest];
        }),
      ),
    ];
  }
  return [
    said,
    by.map(([title, its]) => {
      const fit = its.filter((each) => each.low !== undefined),
        odd = fit.filter((each) => standsOut(each)[0]).length;
      const low = Math.min(...fit.map((each) => each.low.value)),
        high = Math.max(...fit.map((each) => each.high.value));
      const summary = make(
        "summary",
        {},
        `${title}: ${fit.length ? `${show(low)} to ${show(high)}, ` : ""}${many(its.length, "sensors")}`,
        odd ? make("span", { class: "faint" }, `, ${odd} of them with something that stands out`) : null,
      );
      return make(
        "details",
        { open: its.length <= 8 },
        summary,
        rangeTable(
          `Ranges of ${title}`,
          [[Kind, "text"], ...heads, ["Stands out", "text wrap"]],
          its.map((each) => row(labelOf(each), each)),
        ),
      );
    }),
  ];
}

function standsOut(series) {
  const { outliers, more_outliers: more } = series;
  const said = [
    series.stands_out ? "mean unlike the others" : null,
    outliers.length
      ? `${count(outliers.length)}${more ? " or more" : ""} outlier${outliers.length > 1 ? "s" : ""}`
      : null,
  ]
    .filter(Boolean)
    .join(", ");
  const each = outliers.map(([time, value]) => `${show(value)} at ${when(time)}`);
  const first = each.length
    ? `${each.length > 2 ? ", the first" : ":"} ${each.length > 2 ? each[0] : listed(each)}`
    : "";
  return [said + first, said ? "over" : "", each.length ? listed(each) : undefined];
}

function lostSection() {
  const items = [
    ...Object.entries(data.lost).map(([where, number]) => ["Lost", where, count(number)]),
    ...Object.entries(data.rejected).map(([reason, number]) => ["Rejected", reason, count(number)]),
    ...[
      ["Dropped", "in the buffer", data.dropped],
      ["Left out", `of this page, as there are more than ${count(data.series.length)} series`, data.left_out],
      ["Left out", "a time or value that is no number", sum("unfit")],
      ["Left out", "of no channel", data.of_no_channel],
    ]
      .filter(([, , number]) => number)
      .map(([what, where, number]) => [what, where, count(number)]),
  ];
  const pauses = new Map(); // those of several cars are one, as the packets of a moment are
  for (const each of data.series.filter((series) => series.pause)) {
    const same = `${each.channel} ${each.pause.seconds} ${each.pause.time}`;
    pauses.set(same, [...(pauses.get(same) || []), each]);
  }
  const longest = [...pauses.values()].sort(([a], [b]) => b.pause.seconds - a.pause.seconds).slice(0, 5);
  const backwards = sum("backwards");
  return [
    items.length
      ? table(
          "What is not in the readings, and why",
          [["What", "text"], ["Where or why", "text wrap"], ["How many"]],
          items,
        )
      : make("p", {}, "Nothing was lost or rejected."),
    data.notes.map((note) => make("p", {}, note)),
    backwards
      ? make(
          "p",
          {},
          `${many(backwards, "readings")} had an earlier time than the one before, as after a flashback; ` +
            "traces are in the order of time.",
        )
      : null,
    longest.length
      ? table(
          "The longest pauses between two readings of a series",
          [["Channel", "text"], [Kind, "text"], ["Pause"], ["After"]],
          longest.map((those) => [
            keys.channels[those[0].channel],
            those.length === 1 ? labelOf(those[0]) : `${those.length} series`,
            lasting(those[0].pause.seconds),
            when(those[0].pause.time),
          ]),
        )
      : null,
  ];
}

const sum = (key) => data.series.reduce((total, each) => total + each[key], 0);

function bufferSection() {
  const { buffer, latency_s: latency } = data;
  const time = (seconds) => (seconds === null ? "none" : lasting(seconds));
  return [
    make(
      "p",
      {},
      "For this report the recording was read as fast as it goes, through the same buffer and analysis as live.",
    ),
    table(
      "The buffer while the report was made",
      [["What", "text"], ["Value"]],
      [
        ["Most readings in it at once", `${count(buffer.high_water)} of ${count(data.capacity)}`],
        ["Readings a second", count(Math.round(data.readings_per_s))],
        ["Took", lasting(data.seconds)],
        ["Source waited for room", `${many(buffer.put_waits, "times")}, ${lasting(buffer.put_wait_seconds)}`],
        ["Analysis waited for readings", `${many(buffer.get_waits, "times")}, ${lasting(buffer.get_wait_seconds)}`],
        ["From put to check, half of them within", time(latency.p50)],
        ["From put to check, 99 % within", time(latency.p99)],
        ["From put to check, at most", time(latency.max)],
      ],
    ),
  ];
}

function traceSection() {
  return [
    choices(kinds, Kinds),
    choices("channels", "Channels"),
    data.series.length
      ? note(
          data.is_thinned
            ? "Traces show the lowest and highest reading of each short piece of time: no extreme is missing; " +
                "tables are of all readings."
            : "Traces show each reading.",
          " A line is interrupted where no reading came for a second, and ten times as long as usual. ",
          "Drag over a chart to look closer, double-click to see all of it again. ▲ is an alert.",
        )
      : null,
    traces,
  ];
}

const sections = [
  ["thresholds", "Thresholds and alerts", () => [...thresholdSection(), ...alertSection()]],
  ["traces", "Traces", traceSection],
  ...(data.laps.length ? [["laps", "Laps", lapSection]] : []),
  ["ranges", "Ranges and outliers", rangeSection],
  ["lost", "Lost and rejected", lostSection],
  ["buffer", "The buffer", bufferSection],
];

function draw() {
  main.replaceChildren(
    ...head().flat().filter(Boolean),
    ...sections.map(([id, title, content]) =>
      make("section", { "aria-labelledby": id }, make("h2", { id, tabindex: "-1" }, title), content()),
    ),
  );
  drawChosen();
}

readLink();
draw();
addEventListener("hashchange", () => {
  readLink();
  draw();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawChosen);

// On paper all is light, and what is folded is open.
let folded = [];
addEventListener("beforeprint", () => {
  document.documentElement.dataset.printing = "";
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((each) => (each.open = true));
  drawChosen();
});
addEventListener("afterprint", () => {
  delete document.documentElement.dataset.printing;
  folded.forEach((each) => (each.open = false));
  drawChosen();
});
