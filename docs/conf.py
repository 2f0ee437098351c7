"""How Sphinx builds the documentation. One command, at the root of a checkout in which f1buf is installed::

python -m sphinx -W --keep-going -b html docs build/docs
"""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "extensions"))

import f1buf  # noqa: E402

project = "f1buf"
author = "The f1buf maintainers"
release = version = f1buf.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "code_links",
    "command_options",
    "complete",
    "links",
    "plots",
]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3  # so that pages link to each other's sections

# Docstrings say the types; annotations would say them twice. What is compiled has none.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autosummary_generate = False  # the pages are written by hand, one a topic; the tables link into them
numpydoc_show_class_members = False  # `:members:` shows them

# `Name` in a docstring is a link where it names something that the reference has. A name in lower case may be a
# parameter; all others, and all other roles, must lead somewhere. (Inventories of other projects are not fetched:
# the documentation builds without a network.)
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [
    ("py:obj", r"[a-z_]\w*"),
    ("py:.*", r"(queue|threading|asyncio|collections|numpy|setuptools)\.[\w.]+"),
]

html_theme = "furo"
html_title = f"f1buf {release}"
html_static_path = ["_static"]
html_css_files = ["f1buf.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
