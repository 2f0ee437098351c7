"""The plots: drawn from `bench/results` when a build begins, and shown by the directive `plots`.

    .. plots:: batches

shows the plot of that name, for each Python. They are not in the repository.
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
    """Draw them anew, unless no file of results is younger than they are."""
    script, results = BENCH / "plots.py", BENCH / "results"
    sources = [script, *results.iterdir()]
    drawn = [path.stat().st_mtime for path in PLOTS.glob("*.svg")]
    if not drawn or min(drawn) < max(path.stat().st_mtime for path in sources):
        command = [sys.executable, script, "--results", results, "--output", PLOTS]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


class Plots(Directive):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The first Python's plot, and those of the others behind a click."""
        name = self.arguments[0]
        found = sorted(PLOTS.glob(f"*-python*-{name}.svg"), key=python_of)
        if not found:
            raise self.error(
                f"there is no plot {name}; expected one of {sorted(path.name for path in PLOTS.iterdir())}"
            )
        first, *others = (figure(path, name) for path in found)
        return [first, *(part for other in others for part in folded(other))]


def python_of(path: Path) -> str:
    return path.stem.split("-python")[1].split("-")[0]


def figure(path: Path, name: str) -> nodes.figure:
    python = "Python " + python_of(path).replace("t", " without the GIL")
    image = nodes.image(uri=f"/_static/plots/{path.name}", alt=f"{name}, {python}")
    return nodes.figure("", image, nodes.caption("", python), classes=["plot"])


def folded(node: nodes.figure) -> list[nodes.Node]:
    image, caption = node.children
    image["loading"] = "lazy"
    node.remove(caption)
    before = nodes.raw("", f"<details><summary>{caption.astext()}</summary>", format="html")
    return [before, node, nodes.raw("", "</details>", format="html")]


def setup(app: Any) -> dict[str, Any]:
    app.connect("builder-inited", draw)
    app.add_directive("plots", Plots)
    return {"parallel_read_safe": True}
