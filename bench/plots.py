"""Draws what compare.py has measured, as SVG and PNG.

    python bench/plots.py RESULTS.json [--output DIR]     # DIR: bench/plots

The colours are Okabe and Ito's, which the colour-blind can tell apart; f1buf's lines are thick, the machine's limits
dashed.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, NullLocator

PLOTS = Path(__file__).with_name("plots")
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

Lines = dict[str, list[dict[str, Any]]]  # the cases of a section by title


def by_title(section: dict[str, Any], wanted: Callable[[dict[str, Any]], bool] = lambda case: True) -> Lines:
    lines: Lines = {}
    for case in section["cases"]:
        if wanted(case):
            lines.setdefault(case["title"], []).append(case)
    return lines


def styles(cases: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """How to draw the line of each: ours are seen first."""
    dashes = iter(("--", ":", "-."))
    for case in cases:
        if case["title"].startswith("limit"):
            yield {"color": "black", "linestyle": next(dashes), "linewidth": 1.5, "zorder": 2}
            continue
        color, marker = LOOKS[case["spec"]["peer"]]
        weight = {"linewidth": 3.0, "markersize": 7, "zorder": 5} if case["ours"] else {"linewidth": 1.3, "zorder": 3}
        yield {"color": color, "marker": marker, "markersize": 5, **weight}


def bar_colors(cases: list[dict[str, Any]]) -> list[str]:
    return [OURS if case["ours"] else OTHERS for case in cases]


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


def where(whole: dict[str, Any]) -> str:
    gil = "" if whole["gil"] else " without the GIL"
    quick = ", quick: no measurement" if whole["quick"] else ""
    machine = f"{whole['processor']}, {whole['cores']} cores"
    return f"Python {whole['python']}{gil}, {machine}, f1buf {whole['commit'] or whole['versions']['f1buf']}{quick}"


def titled(figure: Any, whole: dict[str, Any], what: str) -> None:
    """What in bold, under it where; both above all axes."""
    height = figure.get_figheight()
    figure.text(0.012, 1 - 0.12 / height, what, fontsize=13, fontweight="bold", va="top")
    figure.text(0.012, 1 - 0.42 / height, where(whole), fontsize=9, color="#444444", va="top")


def laid_out(figure: Any, *, right: float = 1.0) -> None:
    figure.tight_layout(rect=(0, 0, right, 1 - 0.65 / figure.get_figheight()))


def ticks(axis: Any, values: list[Any]) -> None:
    axis.set_ticks(values, [number(value) for value in values])
    axis.set_minor_locator(NullLocator())


def rates_figure(whole: dict[str, Any], lines: Lines, what: str, key: Callable[[dict[str, Any]], Any]) -> Any:
    """Throughput against something, a line each; who has one point only, also as a level."""
    figure, axes = plt.subplots(figsize=(11, 6.6))
    everything = list(dict.fromkeys(key(case["spec"]) for cases in lines.values() for case in cases))
    words = isinstance(everything[0], str)
    if not words:
        everything.sort()
    for (title, cases), style in zip(lines.items(), styles([cases[0] for cases in lines.values()]), strict=True):
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
    axes.grid(True, which="major", color="#DDDDDD")
    if words:
        axes.set_xticks(range(len(everything)), everything)
    else:
        axes.set_xscale("log", base=2)
        ticks(axes.xaxis, everything)
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(handles)), key=lambda i: -_last(handles[i]))
    axes.legend(
        [handles[i] for i in order], [labels[i] for i in order], loc="center left", bbox_to_anchor=(1.01, 0.5),
        frameon=False, fontsize=9,
    )  # fmt: skip
    titled(figure, whole, what)
    return figure, axes


def _last(handle: Any) -> float:
    return float(handle.get_ydata()[-1])


def batches(whole: dict[str, Any], section: dict[str, Any]) -> Any:
    lines = by_title(section)
    what = "Throughput by batch size: one producer, one consumer, room for 65,536 records"
    figure, axes = rates_figure(whole, lines, what, lambda spec: spec["batch"])
    axes.set_xlabel("records in a batch (bands: f1buf's slowest to fastest run)")
    laid_out(figure)
    return figure


def threads(whole: dict[str, Any], section: dict[str, Any]) -> Any:
    for case in section["cases"]:
        size = case["spec"]["batch"]
        if case["spec"]["capacity"] != 65536:
            case["title"] += f", room for {case['spec']['capacity']:,}"
        case["title"] += f", batches of {size}" if size > 1 and "put one" not in case["title"] else ""
    what = "Throughput by number of threads, room for 65,536 records"
    figure, axes = rates_figure(
        whole, by_title(section), what, lambda spec: f"{spec['producers']} x {spec['consumers']}"
    )
    axes.set_xlabel("producers x consumers (bands: f1buf's slowest to fastest run)")
    laid_out(figure)
    return figure


def capacity(whole: dict[str, Any], section: dict[str, Any]) -> Any:
    what = "Throughput by capacity: one producer, one consumer, batches of 256 unless one by one"
    figure, axes = rates_figure(whole, by_title(section), what, lambda spec: spec["capacity"])
    axes.set_xlabel("capacity [records of 24 bytes] (bands: f1buf's slowest to fastest run)")
    laid_out(figure)
    return figure


# -- what it costs --------------------------------------------------------------------------------------------------


def cost(whole: dict[str, Any], section: dict[str, Any]) -> Any:
    """Beside the throughput the CPU time and the context switches."""
    sizes = sorted({case["spec"]["batch"] for case in section["cases"]})
    wanted = 256 if 256 in sizes else sizes[-1]
    cases = [case for case in section["cases"] if case["spec"]["batch"] in (1, wanted)]
    cases.sort(key=lambda case: case["rate"])
    labels = [f"{case['title']}{f', {wanted}' if case['spec']['batch'] > 1 else ''}" for case in cases]
    panels = (
        ("million records a second", figures, [case["rate"] / 1e6 for case in cases]),
        ("ns of CPU time a record", short, [case["cpu_ns_a_record"] for case in cases]),
        ("context switches per million records", short, [switches(case) for case in cases]),
    )
    figure, row = plt.subplots(1, 3, figsize=(13, 1.6 + 0.3 * len(cases)), sharey=True)
    for axes, (name, shown, values) in zip(row, panels, strict=True):
        floor = min(value for value in values if value > 0) / 3
        axes.barh(labels, [max(value, floor) for value in values], color=bar_colors(cases))
        axes.set_xscale("log")
        axes.set_xlim(floor, max(values) * 8)
        axes.set_xlabel(name)
        axes.grid(True, axis="x", color="#DDDDDD")
        axes.set_axisbelow(True)
        axes.xaxis.set_major_formatter(FuncFormatter(shown))
        axes.xaxis.set_minor_locator(NullLocator())
        for i, value in enumerate(values):
            axes.text(max(value, floor) * 1.15, i, shown(value), va="center", size=8)
    what = f"What throughput costs: one by one and in batches of {wanted}, one producer, one consumer"
    titled(figure, whole, what)
    laid_out(figure)
    return figure


def switches(case: dict[str, Any]) -> float:
    return case["switches_per_s"] / case["rate"] * 1e6


# -- latency --------------------------------------------------------------------------------------------------------

NINES = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)


def distribution(axes: Any, cases: list[dict[str, Any]]) -> None:
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


def latencies(whole: dict[str, Any], section: dict[str, Any]) -> Any:
    cores = sorted({case["spec"]["cores"] for case in section["cases"]})
    figure, row = plt.subplots(1, len(cores), figsize=(1.5 + 6 * len(cores), 6.8), sharey=True, squeeze=False)
    for axes, count in zip(row[0], cores, strict=True):
        cases = [case for case in section["cases"] if case["spec"]["cores"] == count]
        distribution(axes, cases)
        axes.set_title("both threads on one core" if count == 1 else "each thread on its own core", fontsize=11)
        axes.yaxis.set_tick_params(labelleft=True)
    row[0][0].set_ylabel("round trip [us]")
    legend_below(figure, row[0])
    titled(figure, whole, "Round trip of one record between two threads")
    return figure


def legend_below(figure: Any, row: Any) -> None:
    """One legend for all axes, without repeating a line that several of them have."""
    found = {label: handle for axes in row for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    height, lines = figure.get_figheight(), -(-len(found) // 3)
    figure.tight_layout(rect=(0, (0.25 + 0.2 * lines) / height, 1, 1 - 0.65 / height))
    figure.legend(found.values(), found.keys(), loc="lower center", ncol=3, frameon=False, fontsize=9)


def one_distribution(whole: dict[str, Any], section: dict[str, Any]) -> Any:
    figure, axes = plt.subplots(figsize=(10, 6.4))
    distribution(axes, section["cases"])
    axes.set_ylabel("from the scheduled time to the consumer [us]")
    legend_below(figure, [axes])
    titled(figure, whole, section["title"].split(":")[0])
    return figure


def slow(whole: dict[str, Any], section: dict[str, Any]) -> Any:
    figure, row = plt.subplots(1, 2, figsize=(12, 4.2), sharey=True, width_ratios=(3, 2))
    cases = section["cases"][::-1]
    labels = [case["title"] for case in cases]
    for axes, name, values in (
        (row[0], "age of a record when it is taken, median [ms]", [case["ns"]["p50"] / 1e6 for case in cases]),
        (row[1], "lost [%]", [100 * case["runs"][0]["dropped"] / case["runs"][0]["amount"] for case in cases]),
    ):
        axes.barh(labels, values, color=bar_colors(cases))
        axes.set_xlabel(name)
        axes.set_xlim(0, max(values) * 1.2 or 1)
        for i, value in enumerate(values):
            axes.text(value, i, f" {value:,.0f}", va="center", size=9)
    titled(figure, whole, "A consumer half as fast as the producer, under each policy")
    laid_out(figure)
    return figure


def rates(whole: dict[str, Any], section: dict[str, Any]) -> Any:
    """Bars of throughput."""
    cases = sorted(section["cases"], key=lambda case: case["rate"])
    labels = [label_of(case) for case in cases]
    values = [case["rate"] / 1e6 for case in cases]
    figure, axes = plt.subplots(figsize=(11, 1.7 + 0.34 * len(cases)))
    axes.barh(labels, values, color=bar_colors(cases))
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 3, max(values) * 4)
    axes.xaxis.set_major_formatter(FuncFormatter(number))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("million records a second")
    axes.grid(True, axis="x", color="#DDDDDD")
    axes.set_axisbelow(True)
    for i, value in enumerate(values):
        axes.text(value * 1.06, i, figures(value), va="center", size=9)
    titled(figure, whole, section["title"])
    laid_out(figure)
    return figure


def label_of(case: dict[str, Any]) -> str:
    batch, capacity = case["spec"].get("batch", 1), case["spec"].get("capacity", 65536)
    title = case["title"]
    title += f", batches of {batch:,}" if batch > 1 and "batches of" not in title else ""
    return title + (f", room for {capacity:,}" if capacity != 65536 else "")


# -- all of them ----------------------------------------------------------------------------------------------------

FIGURES: dict[str, tuple[str, Callable[[dict[str, Any], dict[str, Any]], Any]]] = {  # plot: section, how
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


def draw(whole: dict[str, Any], folder: Path, stem: str) -> list[Path]:
    """Draw all sections that were measured; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with plt.rc_context({"svg.hashsalt": "f1buf", "axes.spines.top": False, "axes.spines.right": False}):
        for name, (section, make) in FIGURES.items():
            if section not in whole["sections"]:
                continue
            figure = make(whole, whole["sections"][section])
            for kind, more in (("svg", {"metadata": {"Date": None}}), ("png", {"dpi": 100})):
                path = folder / f"{stem}_{name}.{kind}"
                figure.savefig(path, **more)
                written.append(path)
            plt.close(figure)
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, metavar="RESULTS.json", help="as compare.py has written it")
    parser.add_argument("--output", type=Path, metavar="DIR", default=PLOTS, help="default: bench/plots")
    args = parser.parse_args()
    whole = json.loads(args.results.read_text(encoding="utf-8"))
    for path in draw(whole, args.output, args.results.stem):
        print(path)


if __name__ == "__main__":
    main()
