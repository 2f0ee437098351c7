"""Prints the speed sections of several results side by side, as the tables in Markdown that the documents show.

It reads what compare.py has written, a file for each Python; it measures nothing, and takes no time.
"""

import lzma
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common import INTERPRETERS, RESULTS, Parser, read_results

HEADS = {"3.11": "3.11", "3.13": "3.13", "free-threaded": "3.13, no GIL"}
Line = dict[str, Any]


def lines_of(files: Iterable[Path]) -> dict[str, dict[str, Line]]:
    """Of each goal the line of each interpreter."""
    lines: dict[str, dict[str, Line]] = {}
    for file in files:
        speed = read_results(file)["speed"]
        for line in speed["goals"]:
            lines.setdefault(line["what"], {})[speed["about"]["goals"]] = line
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
    low, high = (brief(value) for value in line["quartiles"])
    if line["unit"] == "cpu":
        return amount(line)
    return f"**{brief(line['ratio'])}** ({low} to {high}); {amount(line)}"


def distance(line: Line | None) -> str:
    """How much of the aim is reached; of a latency how many times as long it takes."""
    if line is None:
        return ""
    if line["mark"] == "reaches the aim":
        return "reached"
    missed = "" if line["mark"] == "reaches the must" else f"**misses the must, {brief(line['must'])}**: "
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


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--aims", action="store_true", help="the distance to the aims in place of the ratios")
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="of results (default: those in bench/results)"
    )
    args = parser.parse_args()
    try:
        lines = lines_of(args.files or sorted(RESULTS.iterdir()))
    except (OSError, ValueError, KeyError, lzma.LZMAError) as error:
        parser.error(f"no results of compare.py's speed section: {error!r}")
    print(table(lines, distance if args.aims else ratio))


if __name__ == "__main__":
    main()
