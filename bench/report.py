"""Prints what several results say of the goals side by side, as the tables in Markdown that the documents show.

It reads what compare.py, or processes.py, has written, a file for each Python; it measures nothing, and takes no time.
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
        kept = read_results(file)[section]
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
    if "most" in line:
        return f"{line['value']:,.3g} {line['unit']}"
    low, high = (brief(value) for value in line["quartiles"])
    if line["unit"] == "cpu":
        return amount(line)
    peer = f"; {line['against']}" if "the best peer" in line["what"] else ""
    return f"**{brief(line['ratio'])}** ({low} to {high}); {amount(line)}{peer}"


def distance(line: Line | None) -> str:
    """How much of the aim is reached; of a latency how many times as long it takes."""
    if line is None:
        return ""
    if line["mark"] == "reaches the aim" or (line["mark"] == "reaches the must" and "most" in line):
        return "reached"
    most = line["most"] if "most" in line else line["must"]
    missed = "" if line["mark"] == "reaches the must" else f"**misses the must, {brief(most)}**: "
    if "most" in line:
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


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--aims", action="store_true", help="the distance to the aims in place of the ratios")
    parser.add_argument("--processes", action="store_true", help="what processes.py measures, in place of compare.py")
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="of results (default: those in bench/results)"
    )
    args = parser.parse_args()
    try:
        lines = lines_of(args.files or sorted(RESULTS.iterdir()), "processes" if args.processes else "speed")
    except (OSError, ValueError, KeyError, lzma.LZMAError) as error:
        script = "processes.py" if args.processes else "the speed section of compare.py"
        parser.error(f"no results of {script}: {error!r}")
    print(table(lines, distance if args.aims else ratio))


if __name__ == "__main__":
    main()
