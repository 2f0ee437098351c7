"""Reads the documentation's pages, and runs one: ``python tests/documentation.py PAGE`` does what its reader would.

A page's fenced blocks are one walk through it, from the first to the last, in one folder and one interpreter:

    python    runs
    pycon     runs, and prints what is shown
    sh        bash runs it, and it succeeds; ``f1buf`` and ``python`` are those of this interpreter
    console   as sh, each line behind a ``$``; each prints what is shown below it
    sql       DuckDB runs it
    toml      can be read
    text      is only shown

A comment in the line before a block says what else it is:

    <!-- file: NAME -->    it is written to that file, before anything runs
    <!-- output -->        it is what the block before it prints
    <!-- needs: NAMES -->  it runs where these modules are installed
    <!-- not run: WHY -->  it is compiled, or its commands are looked at: see test_documentation.py

In what is shown ``...`` stands for any text.
"""

import contextlib
import doctest
import importlib.util
import io
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(
    r"^(?:<!-- (?P<what>file|output|needs|not run)(?:: (?P<value>[^\n]*))? -->\n)?"
    r"(?P<indent>[ ]*)```(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """One fenced block of a page."""

    line: int
    """Of its first line, in the page."""
    language: str
    what: str | None
    """The comment before it: "file", "output", "needs" or "not run"."""
    value: str
    """What that comment says."""
    text: str


def pages() -> list[Path]:
    """The README, and all pages of the documentation."""
    return [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)]


def blocks(page: str) -> Iterator[Block]:
    """A page's fenced blocks, in their order."""
    for found in _FENCE.finditer(page):
        line = page.count("\n", 0, found.start("text")) + 1
        yield Block(line, found["language"].strip(), found["what"], found["value"] or "", found["text"])


def prose(page: str) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page)


def needs(block: Block) -> list[str]:
    """The modules without which a block is left out."""
    return block.value.split(", ") if block.what == "needs" else []


class _Walk:
    """What the blocks of one page share."""

    def __init__(self) -> None:
        self._names: dict[str, object] = {"__name__": "__main__"}
        self._printed: str | None = None  # by the last block; None where that was left out
        self.left_out: list[str] = []

    def step(self, block: Block) -> None:
        """Do one block."""
        missing = [name for name in needs(block) if importlib.util.find_spec(name) is None]
        if missing:
            self.left_out.append(f"line {block.line}: needs {', '.join(missing)}")
            self._printed = None
        elif block.what == "output":
            if self._printed is not None:
                same(block.text, self._printed)
        elif block.what not in ("not run", "file") and block.language in _STEPS:
            self._printed = _STEPS[block.language](self, block)

    def _python(self, block: Block) -> str:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            # The empty lines give errors the page's own line numbers.
            exec(compile("\n" * (block.line - 1) + block.text, "page", "exec"), self._names)
        return out.getvalue()

    def _pycon(self, block: Block) -> str:
        test = doctest.DocTestParser().get_doctest(block.text, self._names, "page", "page", block.line - 1)
        assert test.examples
        said = io.StringIO()
        failed = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.write, clear_globs=False).failed
        assert not failed, said.getvalue()
        self._names.update(test.globs)
        return ""

    def _sh(self, block: Block) -> str:
        return bash(block.text)

    def _console(self, block: Block) -> str:
        assert block.text.startswith("$ "), "the first line has no command"
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE):
            same(shown, bash(command))
        return ""

    def _sql(self, block: Block) -> str:
        import duckdb

        return str(duckdb.sql(block.text))

    def _toml(self, block: Block) -> str:
        tomllib.loads(block.text)
        return ""


_STEPS = {
    "python": _Walk._python,
    "pycon": _Walk._pycon,
    "sh": _Walk._sh,
    "console": _Walk._console,
    "sql": _Walk._sql,
    "toml": _Walk._toml,
}


def bash(script: str) -> str:
    """Run it; what it prints, standard error included."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    assert done.returncode == 0, f"{script}\nstatus {done.returncode}\n{done.stdout}"
    return done.stdout


def same(shown: str, printed: str) -> None:
    """Compare what a page shows with what was printed."""
    checker = doctest.OutputChecker()
    if not checker.check_output(shown, printed, doctest.ELLIPSIS):
        raise AssertionError(checker.output_difference(doctest.Example("", shown), printed, 0))


def put_on_path(folder: Path) -> None:
    """Make `f1buf` and `python` there, which run this interpreter with warnings as errors."""
    folder.mkdir()
    for name, module in (("python", ""), ("f1buf", "-m f1buf")):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -W error {module} "$@"\n')
        script.chmod(0o755)
    os.environ["PATH"] = os.pathsep.join([str(folder), os.environ["PATH"]])
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])


def main(page: str) -> None:
    """Walk through a page, in this folder; prints what had to be left out."""
    sys.path.insert(0, "")
    put_on_path(Path(".bin"))
    walk, all_blocks = _Walk(), list(blocks(Path(page).read_text(encoding="utf-8")))
    for block in all_blocks:
        if block.what == "file":
            Path(block.value).write_text(block.text, encoding="utf-8")
    for block in all_blocks:
        try:
            walk.step(block)
        except BaseException as error:
            error.add_note(f"in the block at {page}:{block.line}")
            raise
    print("\n".join(walk.left_out))


if __name__ == "__main__":
    main(sys.argv[1])
