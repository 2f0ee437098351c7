"""The plots: drawn from `bench/results` when a build begins, and shown by the directive `plots`.

    .. plots:: batches

shows the plot of that name of each Python, where it is there. They are not in the repository.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive

DOCS = Path(__file__).parents[1]
BENCH = DOCS.parent / "bench"
PLOTS = DOCS / "_static" / "plots"


def draw(_: Any) -> None:
    command = [sys.executable, BENCH / "plots.py", "--results", BENCH / "results", "--output", PLOTS]
    subprocess.run([*map(str, command)], check=True)


class Plots(Directive):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        found = sorted(PLOTS.glob(f"*_{self.arguments[0]}.svg"))
        if not found:
            raise self.error(f"no plot is named {self.arguments[0]}; expected one of {sorted(PLOTS.glob('*.svg'))}")
        return [self.figure(path) for path in found]

    def figure(self, path: Path) -> nodes.Node:
        python = path.stem.split("_python")[-1].split("_")[0]
        image = nodes.image(uri=f"/_static/plots/{path.name}", alt=f"{self.arguments[0]} on Python {python}")
        return nodes.figure("", image, nodes.caption("", f"Python {python}"), classes=["plot"])


def setup(app: Any) -> dict[str, Any]:
    app.connect("builder-inited", draw)
    return {"parallel_read_safe": True}
