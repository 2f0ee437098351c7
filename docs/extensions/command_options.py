"""The directive `command-options`: what one of the command's commands takes, from its own parser.

    .. command-options:: run

Each option becomes an ``option`` of Sphinx, so that pages link to it by ``{option}`f1buf run --record```.
"""

import argparse
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

from f1buf.command.cli import build_parser


def parser_of(command: str) -> argparse.ArgumentParser:
    for action in build_parser(command)._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices[command]
    raise AssertionError("the parser has commands")


def lines_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The parser's help, as reStructuredText."""
    yield f".. program:: {parser.prog}"
    yield ""
    for action in parser._actions:
        if action.help != argparse.SUPPRESS and "--help" not in action.option_strings:
            yield from option(action, parser)
    yield "Examples::"
    yield ""
    for line in (parser.epilog or "").splitlines()[1:]:
        yield f"  {line}"


def option(action: argparse.Action, parser: argparse.ArgumentParser) -> Iterator[str]:
    value = "" if action.nargs == 0 else f" {metavar(action)}"
    names = ", ".join(name + value for name in action.option_strings) or metavar(action)
    text = " ".join(parser._get_formatter()._expand_help(action).split())
    yield f".. option:: {names}"
    yield ""
    yield f"   {marked_up(text[:1].upper() + text[1:])}{'' if text.endswith('.') else '.'}"
    yield ""


def metavar(action: argparse.Action) -> str:
    if action.metavar is None and action.choices is not None and len(tuple(action.choices)) < 9:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return str(action.metavar or action.dest.upper())


def marked_up(text: str) -> str:
    """Help texts know no markup but pairs of backticks."""
    code = re.compile(r"(`[^`]+`)")
    parts = [f"`{part}`" if code.fullmatch(part) else re.sub(r"([\\*`|_])", r"\\\1", part) for part in code.split(text)]
    return "".join(parts)


class CommandOptions(Directive):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        parser = parser_of(self.arguments[0])
        container = nodes.container()
        self.state.nested_parse(StringList([*lines_of(parser)], source=f"{parser.prog} --help"), 0, container)
        return container.children


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("command-options", CommandOptions)
    return {"parallel_read_safe": True}
