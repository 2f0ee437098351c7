"""f1buf's telemetry system against the plain pattern, in one run: what `pipelines.py` says of both.

Both take turns, several times; the ratio is that of the medians. ``compare.py --only pipeline`` has the whole picture.

    python bench/plain.py [--runs N] [--seconds S] [--json]
"""

import argparse
import json
import platform
import statistics

from common import Parser, cpus, gil_enabled, positive, positive_seconds, processor
from pipelines import PIPELINES, Pipeline


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=positive, default=5, help="of each, taking turns (default: 5)")
    parser.add_argument("--seconds", type=positive_seconds, default=2.0, help="of each run (default: 2)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    rates: dict[str, list[float]] = {"plain": [], "f1buf": []}
    for name in rates:
        PIPELINES[name](Pipeline(name), 0.2)  # warm-up
    for _ in range(args.runs):
        for name, found in rates.items():
            found.append(PIPELINES[name](Pipeline(name), args.seconds))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    result = {
        "python": platform.python_version() + ("" if gil_enabled() else " no GIL"),
        "processor": processor(),
        "cores": len(cpus()),
        "readings_per_s": rates,
        "ratio": medians["f1buf"] / medians["plain"],
    }
    if args.json:
        print(json.dumps(result))
        return
    for name, values in rates.items():
        spread = f"min {min(values) / 1e6:.2f}, max {max(values) / 1e6:.2f}"
        print(f"{name:<6} {medians[name] / 1e6:8.2f} M readings/s ({spread})")
    print(f"ratio  {result['ratio']:8.1f} x  (Python {result['python']}, {result['cores']} cores)")


if __name__ == "__main__":
    main()
