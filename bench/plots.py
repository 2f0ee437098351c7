"""Draws what compare.py has measured, as SVG: a picture for each section of each file of results.

The documentation is built with the pictures of bench/results. It measures nothing; a file takes some ten seconds. The
colours are Okabe and Ito's, which the colour-blind can tell apart; f1buf's lines are thick, a machine's limits dashed.
"""

import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
from common import RESULTS, Parser, read_results

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, NullLocator

PLOTS = Path(__file__).parents[1] / "build" / "bench" / "plots"
OURS, OTHERS = "#D55E00", "#9AA5B1"  # bars
LOOKS = {  # the same in all figures: colour and marker; ours are circles
    "ring": ("#D55E00", "o"),
    "ring-rebatched": ("#E69F00", "o"),
    "f1buf.Queue": ("#7F3300", "o"),
    "f1buf.Queue-references": ("#F08A6B", "o"),
    "f1buf.Queue-bytes": ("#B8860B", "o"),
    "queue.Queue": ("#0072B2", "s"),
    "queue.Queue-references": ("#8C6BB1", "<"),
    "queue.Queue-copied": ("#9A9A4A", ">"),
    "queue.Queue-bytes": ("#222222", "*"),
    "SimpleQueue": ("#009E73", "D"),
    "SimpleQueue-references": ("#3B8EA5", "p"),
    "SimpleQueue-bytes": ("#6A7F10", "h"),
    "deque": ("#56B4E9", "^"),
    "culsans": ("#CC79A7", "v"),
    "multiprocessing.Queue": ("#777777", "P"),
    "faster-fifo": ("#004D40", "X"),
}

Case = dict[str, Any]
Section = dict[str, Any]


def styles(cases: list[Case]) -> Iterator[dict[str, Any]]:
    """How to draw the line of each: ours are seen first."""
    dashes = iter(("--", ":", "-."))
    for case in cases:
        if case["title"].startswith("limit"):
            yield {"color": "black", "linestyle": next(dashes), "linewidth": 1.5, "zorder": 2}
            continue
        color, marker = LOOKS[case["spec"]["peer"]]
        weight = {"linewidth": 3.0, "markersize": 7, "zorder": 5} if case["ours"] else {"linewidth": 1.3, "zorder": 3}
        yield {"color": color, "marker": marker, "markersize": 5, **weight}


def number(value: float, _: Any = None) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def short(value: float, _: Any = None) -> str:
    """Three digits, and k or M."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}"


def figures(value: float, _: Any = None) -> str:
    """Three digits, or all before the point."""
    return number(value) if value >= 100 else f"{value:.3g}"


def where(about: dict[str, Any]) -> str:
    gil = "" if about["gil"] else " without the GIL"
    quick = ", quick: no measurement" if about["quick"] else ""
    machine = f"{about['processor']}, {about['cores']} cores"
    return f"Python {about['python']}{gil}, {machine}, f1buf {about['commit'] or about['versions']['f1buf']}{quick}"


def titled(figure: Any, section: Section, what: str) -> None:
    """What in bold, under it where; both above all axes."""
    height = figure.get_figheight()
    figure.text(0.012, 1 - 0.12 / height, what, fontsize=13, fontweight="bold", va="top")
    figure.text(0.012, 1 - 0.42 / height, where(section["about"]), fontsize=9, color="#444444", va="top")


def below_titles(figure: Any, bottom: float = 0) -> None:
    height = figure.get_figheight()
    figure.tight_layout(rect=(0, bottom / height, 1, 1 - 0.65 / height))


def ticks(axis: Any, formatter: Callable[[float, Any], str]) -> None:
    axis.set_major_formatter(FuncFormatter(formatter))
    axis.set_minor_locator(NullLocator())


# -- throughput -----------------------------------------------------------------------------------------------------


def lines(section: Section, what: str, x_label: str, key: Callable[[dict[str, Any]], Any]) -> Any:
    """Throughput against the key, a line each; one that has a single point is drawn as a level, too."""
    figure, axes = plt.subplots(figsize=(11, 6.6))
    by_title: dict[str, list[Case]] = {}
    for case in section["cases"]:
        by_title.setdefault(case["title"], []).append(case)
    everything = list(dict.fromkeys(key(case["spec"]) for cases in by_title.values() for case in cases))
    words = isinstance(everything[0], str)
    if not words:
        everything.sort()
    for (title, cases), style in zip(by_title.items(), styles([cases[0] for cases in by_title.values()]), strict=True):
        x = [everything.index(key(case["spec"])) if words else key(case["spec"]) for case in cases]
        y = [case["rate"] / 1e6 for case in cases]
        axes.plot(x, y, label=title, **style)
        if len(x) == 1 < len(everything) and not words:
            axes.plot([x[0], everything[-1]], [y[0], y[0]], color=style["color"], linewidth=0.8, linestyle=(0, (1, 3)))
        elif cases[0]["ours"]:
            low, high = ([case["spread"][side] / 1e6 for case in cases] for side in (0, 1))
            axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(number))
    axes.set_ylabel("million records (items) a second")
    axes.set_xlabel(f"{x_label} (bands: f1buf's slowest to fastest run)")
    axes.grid(True, which="major", color="#DDDDDD")
    if words:
        axes.set_xticks(range(len(everything)), everything)
    else:
        axes.set_xscale("log", base=2)
        axes.set_xticks(everything)
        ticks(axes.xaxis, number)
    named = sorted(zip(*axes.get_legend_handles_labels(), strict=True), key=lambda line: -line[0].get_ydata()[-1])
    axes.legend(*zip(*named, strict=True), loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    titled(figure, section, what)
    below_titles(figure)
    return figure


def batches(section: Section) -> Any:
    what = "Throughput by batch size: one producer, one consumer, room for 65,536 records"
    return lines(section, what, "records in a batch", lambda spec: spec["batch"])


def threads(section: Section) -> Any:
    for case in section["cases"]:
        size = case["spec"]["batch"]
        if case["spec"]["capacity"] != 65536:
            case["title"] += f", room for {case['spec']['capacity']:,}"
        case["title"] += f", batches of {size}" if size > 1 and "put one" not in case["title"] else ""
    what = "Throughput by number of threads, room for 65,536 records"
    return lines(section, what, "producers x consumers", lambda spec: f"{spec['producers']} x {spec['consumers']}")


def capacity(section: Section) -> Any:
    what = "Throughput by capacity: one producer, one consumer, batches of 256 unless one by one"
    return lines(section, what, "capacity [records of 24 bytes]", lambda spec: spec["capacity"])


# -- bars -----------------------------------------------------------------------------------------------------------


def bars(axes: Any, cases: list[Case], values: list[float], name: str, shown: Any) -> None:
    """A logarithmic bar for each case, its value beside it."""
    floor = min(value for value in values if value > 0) / 3
    lengths = [max(value, floor) for value in values]
    axes.barh(range(len(cases)), lengths, color=[OURS if case["ours"] else OTHERS for case in cases])
    axes.set_yticks(range(len(cases)), map(label_of, cases))
    axes.set_xscale("log")
    axes.set_xlim(floor, max(values) * 8)
    axes.set_xlabel(name)
    axes.grid(True, axis="x", color="#DDDDDD")
    axes.set_axisbelow(True)
    ticks(axes.xaxis, shown)
    for i, (length, value) in enumerate(zip(lengths, values, strict=True)):
        axes.text(length * 1.15, i, shown(value), va="center", size=8)


def cost(section: Section) -> Any:
    """Beside the throughput the CPU time and the context switches."""
    sizes = sorted({case["spec"]["batch"] for case in section["cases"]})
    wanted = 256 if 256 in sizes else sizes[-1]
    cases = [case for case in section["cases"] if case["spec"]["batch"] in (1, wanted)]
    cases.sort(key=lambda case: case["rate"])
    panels = (
        ("million records a second", figures, lambda case: case["rate"] / 1e6),
        ("ns of CPU time a record", short, lambda case: case["cpu_ns_a_record"]),
        ("context switches per million records", short, lambda case: case["switches_per_s"] / case["rate"] * 1e6),
    )
    figure, row = plt.subplots(1, 3, figsize=(13, 1.6 + 0.3 * len(cases)), sharey=True)
    for axes, (name, shown, value) in zip(row, panels, strict=True):
        bars(axes, cases, list(map(value, cases)), name, shown)
    titled(figure, section, f"What throughput costs: one by one and in batches of {wanted}, one producer, one consumer")
    below_titles(figure)
    return figure


def rates(section: Section) -> Any:
    cases = sorted(section["cases"], key=lambda case: case["rate"])
    figure, axes = plt.subplots(figsize=(11, 1.7 + 0.34 * len(cases)))
    values = [case["rate"] / 1e6 for case in cases]
    bars(axes, cases, values, "million records a second", figures)
    titled(figure, section, section["title"])
    below_titles(figure)
    return figure


def label_of(case: Case) -> str:
    spec, title = case["spec"], case["title"]
    batch, capacity = spec.get("batch", 1), spec.get("capacity", 65536)
    if batch > 1 and "batches of" not in title and spec["peer"] != "plain":  # its readings are single
        title += f", batches of {batch:,}"
    return title + (f", room for {capacity:,}" if capacity != 65536 else "")


def slow(section: Section) -> Any:
    """How old a record is, and how many are lost, from 0 on."""
    figure, row = plt.subplots(1, 2, figsize=(12, 4.2), sharey=True, width_ratios=(3, 2))
    cases = section["cases"][::-1]
    for axes, name, values in (
        (row[0], "age of a record when it is taken, median [ms]", [case["ns"]["p50"] / 1e6 for case in cases]),
        (row[1], "lost [%]", [100 * case["runs"][0]["dropped"] / case["runs"][0]["amount"] for case in cases]),
    ):
        drawn = axes.barh(
            [case["title"] for case in cases], values, color=[OURS if c["ours"] else OTHERS for c in cases]
        )
        axes.set_xlabel(name)
        axes.set_xlim(0, max(values) * 1.2 or 1)
        axes.bar_label(drawn, fmt=" {:,.0f}", fontsize=9)
    titled(figure, section, "A consumer half as fast as the producer, under each policy")
    below_titles(figure)
    return figure


# -- latency --------------------------------------------------------------------------------------------------------

NINES = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)


def distribution(axes: Any, cases: list[Case]) -> None:
    """Latency at each quantile; the axis gives every further nine the same room."""
    for case, style in zip(cases, styles(cases), strict=True):
        points = [(1 / (1 - q), ns / 1e3) for q, ns in zip(case["curve_at"], case["curve_ns"], strict=True) if q < 1]
        style |= {"markevery": [50, 90, 99, len(points) - 20, len(points) - 1]} if "marker" in style else {}
        axes.plot(*zip(*points, strict=True), label=case["title"], **style)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks([1 / (1 - q) for q in NINES], ["min" if q == 0 else f"p{q * 100:g}" for q in NINES])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(1, 1e4)
    axes.yaxis.set_major_formatter(FuncFormatter(number))
    axes.grid(True, which="major", color="#DDDDDD")
    axes.set_xlabel("quantile")


def latencies(section: Section) -> Any:
    cores = sorted({case["spec"]["cores"] for case in section["cases"]})
    figure, row = plt.subplots(1, len(cores), figsize=(1.5 + 6 * len(cores), 6.8), sharey=True, squeeze=False)
    for axes, count in zip(row[0], cores, strict=True):
        distribution(axes, [case for case in section["cases"] if case["spec"]["cores"] == count])
        axes.set_title("both threads on one core" if count == 1 else "each thread on its own core", fontsize=11)
        axes.yaxis.set_tick_params(labelleft=True)
    row[0][0].set_ylabel("round trip [us]")
    legend_below(figure, row[0])
    titled(figure, section, "Round trip of one record between two threads")
    return figure


def legend_below(figure: Any, row: Any) -> None:
    """One legend for all axes, without repeating a line that several of them have."""
    found = {label: handle for axes in row for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    below_titles(figure, 0.25 + 0.2 * -(-len(found) // 3))
    figure.legend(found.values(), found.keys(), loc="lower center", ncol=3, frameon=False, fontsize=9)


def one_distribution(section: Section) -> Any:
    figure, axes = plt.subplots(figsize=(10, 6.4))
    distribution(axes, section["cases"])
    axes.set_ylabel("from the scheduled time to the consumer [us]")
    legend_below(figure, [axes])
    titled(figure, section, section["title"].split(":")[0])
    return figure


# -- all of them ----------------------------------------------------------------------------------------------------

FIGURES: dict[str, tuple[str, Callable[[Section], Any]]] = {  # plot: section, how
    "batches": ("batches", batches),
    "cost": ("batches", cost),
    "threads": ("threads", threads),
    "capacity": ("capacity", capacity),
    "latency": ("latency", latencies),
    "sensors": ("sensors", one_distribution),
    "busy": ("busy", one_distribution),
    "slow": ("slow", slow),
    "one-core": ("one-core", rates),
    "pipeline": ("pipeline", rates),
}


def draw(sections: dict[str, Any], folder: Path, stem: str) -> Iterator[Path]:
    """Draw all sections that were measured; yields the files."""
    folder.mkdir(parents=True, exist_ok=True)
    with plt.rc_context({"svg.hashsalt": "f1buf", "axes.spines.top": False, "axes.spines.right": False}):
        for name, (section, make) in FIGURES.items():
            if section in sections:
                figure, path = make(sections[section]), folder / f"{stem}-{name}.svg"
                figure.savefig(path, metadata={"Date": None})
                plt.close(figure)
                yield path


def main() -> None:
    parser = Parser(__doc__)
    add = parser.add_argument
    add(
        "--results", type=Path, default=RESULTS, metavar="DIR", help="with files of compare.py (default: bench/results)"
    )
    add("--output", type=Path, default=PLOTS, metavar="DIR", help="for the pictures (default: build/bench/plots)")
    args = parser.parse_args()
    try:
        found = {file.name.removesuffix(".json.xz"): read_results(file) for file in args.results.glob("*.json.xz")}
    except (OSError, ValueError, lzma.LZMAError) as error:
        parser.error(f"no results of compare.py: {error!r}")
    if not found:
        parser.error(f"no results in {args.results}: expected files of compare.py, named *.json.xz")
    for stem, sections in sorted(found.items()):
        for path in draw(sections, args.output, stem):
            print(path)


if __name__ == "__main__":
    main()
