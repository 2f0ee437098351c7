"""Warns where the reference lacks a public name: of f1buf, of f1buf.telemetry, or of one of their classes."""

from collections.abc import Iterator
from inspect import isdatadescriptor, isroutine
from typing import Any

from sphinx.util import logging

import f1buf
import f1buf.telemetry

logger = logging.getLogger(__name__)


def public_names() -> Iterator[str]:
    for module in (f1buf.telemetry, f1buf):
        for name in module.__all__:
            if module is f1buf or name not in f1buf.__all__:
                yield f"{module.__name__}.{name}"
                yield from (f"{module.__name__}.{name}.{member}" for member in members(getattr(module, name)))


def members(value: Any) -> Iterator[str]:
    """Methods that have a docstring of their own, and properties."""
    if isinstance(value, type) and value.__module__.startswith("f1buf"):
        for name, member in vars(value).items():
            if name[0] != "_" and ((isroutine(member) and member.__doc__) or isdatadescriptor(member)):
                yield name


def check(app: Any, env: Any) -> None:
    known = env.domains.python_domain.objects
    for name in public_names():
        if name not in known:
            logger.warning("the reference lacks %s", name)


def setup(app: Any) -> dict[str, Any]:
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True}
