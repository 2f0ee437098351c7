"""Prints what several results say of the goals side by side, as the tables in Markdown that the documents show.

It reads what compare.py, processes.py or streams.py has written, a file for each Python; it measures nothing, and takes
no time.
"""

import lzma
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common import INTERPRETERS, RESULTS, Parser, read_results

HEADS = {"3.11": "3.11", "3.13": "3.13", "free-threaded": "3.13, no GIL"}
Line = dict[str, Any]


def lines_of(files: Iterable[Path], section: str = "speed") -> dict[str, dict[str, Line]]:
    """Of each goal the line of each interpreter."""
    lines: dict[str, dict[str, Line]] = {}
    for file in files:
        kept = read_results(file).get(section)
        if kept is None:
            continue
        for line in kept["goals"] + kept.get("bounds", []):
            lines.setdefault(line["what"], {})[kept["about"]["goals"]] = line
    return lines


def amount(line: Line) -> str:
    """What f1buf reached."""
    return {
        "rate": lambda value: f"{value / 1e6:,.0f} M/s",
        "latency": lambda value: f"{value / 1e3:.2g} µs",
        "cpu": lambda value: f"{value * 1e3:.2g} ms",
    }[line["unit"]](line["f1buf"])


def ratio(line: Line | None) -> str:
    if line is None:
        return ""
    if is_bound(line):
        return f"{line['value']:,.3g} {line['unit']}"
    low, high = (brief(value) for value in line["quartiles"])
    if line["unit"] == "cpu":
        return amount(line)
    peer = f"; {line['against']}" if "; the best " in f"{line['what']}; " or "of the best " in line["what"] else ""
    return f"**{brief(line['ratio'])}** ({low} to {high}); {amount(line)}{peer}"


def is_bound(line: Line) -> bool:
    """Whether it is a value that has its own limit, not a ratio."""
    return "most" in line or "least" in line


def distance(line: Line | None) -> str:
    """How much of the aim is reached; of a latency how many times as long it takes."""
    if line is None:
        return ""
    if line["mark"] == "reaches the aim" or (line["mark"] == "reaches the must" and is_bound(line)):
        return "reached"
    most = next(line[name] for name in ("most", "least", "must") if name in line)
    missed = "" if line["mark"] == "reaches the must" else f"**misses the must, {brief(most)}**: "
    if is_bound(line):
        return f"{missed}{line['value']:,.3g} {line['unit']}"
    if line["aim"] is None:  # the aim is in nanoseconds
        return f"{missed}{amount(line)}; " + ", ".join(f"{name} {ns / 1e3:g} µs" for name, ns in line["aim_ns"].items())
    return f"{missed}{brief(line['ratio'])} of {brief(line['aim'])}, {line['ratio'] / line['aim']:.0%}"


def brief(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def table(lines: dict[str, dict[str, Line]], cell: Any) -> str:
    rows = [["what", "against", *(HEADS[name] for name in INTERPRETERS)], ["---"] * 5]
    for what, each in lines.items():
        rows.append([*map(str.strip, f"{what};".split(";")[:2]), *(cell(each.get(name)) for name in INTERPRETERS)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def bytes_table(files: Iterable[Path]) -> str:
    """Bytes a reading, which are the same for every Python: those of the first file that has them."""
    kept = next(kept for file in files if (kept := read_results(file).get("streams")) is not None)
    heads = ["readings", "in messages of", "wire", "disk", "disk, s2", "disk, an hour", "a season", "a season, s2"]
    rows = [heads, ["---"] * len(heads)]
    for size, cost in zip(kept["sizes"], kept["costs"], strict=True):
        sizes = [f"{size[name]:.1f} bytes" for name in ("wire", "disk none", "disk s2")]
        spans = ("disk none, hour", "disk none, season", "disk s2, season")
        costs = [f"{cost[f'{span} [GB]']:.3g} GB" for span in spans]
        rows.append([size["what"], f"{size['batch']:,}", *sizes, *costs])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--aims", action="store_true", help="the distance to the aims in place of the ratios")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--processes", action="store_true", help="what processes.py measures, in place of compare.py")
    which.add_argument("--streams", action="store_true", help="what streams.py measures, in place of compare.py")
    which.add_argument("--bytes", action="store_true", help="what a reading takes, and a season, as streams.py says")
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="of results (default: those in bench/results)"
    )
    args = parser.parse_args()
    section = "processes" if args.processes else "streams" if args.streams or args.bytes else "speed"
    try:
        files = args.files or sorted(RESULTS.iterdir())
        if args.bytes:
            print(bytes_table(files))
            return
        lines = lines_of(files, section)
        if not lines:
            raise KeyError(section)
    except (OSError, ValueError, KeyError, StopIteration, lzma.LZMAError) as error:
        script = "the speed section of compare.py" if section == "speed" else f"{section}.py"
        parser.error(f"no results of {script}: {error!r}")
    print(table(lines, distance if args.aims else ratio))


if __name__ == "__main__":
    main()
