"""The page of a report: one file, which a browser opens from the disk and which asks for nothing else.

The page holds the report's data as JSON, and draws everything from that. What is in the data is shown and never run: it
stands in a block that is no program, in which no "<" is; the program puts it into the page as text; and the page's
content security policy names the hashes of its own program and styles and forbids all others, and every connection.
"""

import base64
import hashlib
from importlib.resources import files

__all__ = ["page"]


def page(data: str) -> str:
    """Return the page.

    Parameters
    ----------
    data : str
        What the report says, a JSON text: see `f1buf.telemetry.report`.

    Returns
    -------
    str
        HTML, to be written as UTF-8.
    """
    styles = "\n".join(map(_read, ("look.css", "uPlot.min.css", "report/page.css")))
    own = "\n".join(_read(f"report/{name}.js") for name in ("texts", "choice", "charts", "drawn", "sections"))
    program = f'"use strict";\n{_read("uPlot.iife.min.js")}\n{{\n{own}}}\n'
    allowed = f"script-src {_hash(program)}; style-src {_hash(styles)}"
    parts = {
        "POLICY": f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'",
        "LICENSE": _read("uPlot-LICENSE.txt"),
        "STYLES": styles,
        "PROGRAM": program,
        "DATA": data.replace("<", "\\u003c"),
    }
    text = _read("report/page.html")
    for name, part in parts.items():  # the data last: it may have the name of another part in it
        text = text.replace(f"{{{{{name}}}}}", part, 1)
    return text


def _read(name: str) -> str:
    return (files("f1buf.web") / "static" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
