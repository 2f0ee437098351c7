"""After a build: every `href` and `src` inside the pages leads to a page, and to an anchor, that is there.

Sphinx warns of the references that it resolves itself; this looks at what came out, so also at raw HTML and diagrams.
"""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sphinx.util import logging

logger = logging.getLogger(__name__)


class Page(HTMLParser):
    """What a page links to, and its anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.anchors = {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("href", "src"):
                self.targets.add(value or "")
            elif name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value or "")


def broken(root: Path) -> Iterator[tuple[str, str]]:
    """Each page, and one of its links that leads nowhere."""
    pages = {path: Page(path) for path in root.resolve().rglob("*.html")}
    for path, page in sorted(pages.items()):
        for target in sorted(page.targets):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not file.is_file() or (file in pages and unquote(parts.fragment) not in pages[file].anchors):
                yield path.relative_to(root.resolve()).as_posix(), target


def check(app: Any, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        for page, target in broken(Path(app.outdir)):
            logger.warning("%s links to %s, which is not there", page, target)


def setup(app: Any) -> dict[str, Any]:
    app.connect("build-finished", check)
    return {"parallel_read_safe": True}
