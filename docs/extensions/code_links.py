"""In the pages that people write, `RingBuffer.put` in backticks is a link to the reference, as it is in docstrings."""

from typing import Any

from docutils import nodes
from sphinx.util.nodes import make_refnode


def link(app: Any, doctree: nodes.document, page: str) -> None:
    objects = app.env.domains.python_domain.objects
    for literal in [*doctree.findall(nodes.literal)]:
        name = literal.astext().removesuffix("()")
        found = next((full for full in (name, f"f1buf.{name}", f"f1buf.telemetry.{name}") if full in objects), None)
        if found and not isinstance(literal.parent, nodes.reference):
            there = objects[found]
            literal.replace_self(make_refnode(app.builder, page, there.docname, there.node_id, literal.deepcopy()))


def setup(app: Any) -> dict[str, Any]:
    app.connect("doctree-resolved", link)
    return {"parallel_read_safe": True}
