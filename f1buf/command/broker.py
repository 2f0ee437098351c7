"""`f1buf broker`: a server of NATS, which keeps what is published to it."""

import argparse
import os
import socket
from pathlib import Path

from f1buf.command.parser import number, path_name
from f1buf.command.status import UsageError
from f1buf.command.streams import say_error
from f1buf.telemetry.sources.game.sockets import joined

HELP = "keep what other processes publish, for any machine: a server of NATS"
EXAMPLES = """\
examples:
  f1buf broker                                   for this machine
  f1buf broker --host 0.0.0.0 --config nats.conf for others, too: nats.conf says who may connect
  f1buf broker --dir /srv/race --max-size 200    keep all in a folder, up to 200 GB
"""
DEFAULT_PORT = 4222


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `broker`."""
    option = parser.add_argument
    folder = "where all is kept (default: $XDG_DATA_HOME/f1buf/broker, which is mostly ~/.local/share/f1buf/broker)"
    option("--dir", type=path_name, metavar="DIR", help=folder)
    where = "where to listen: 127.0.0.1 (default) for this machine alone, 0.0.0.0 for every network (needs --config)"
    option("--host", default="127.0.0.1", metavar="ADDRESS", help=where)
    port = f"TCP port (default: {DEFAULT_PORT}, NATS's)"
    option("--port", type=number(1, 65535, whole=True), default=DEFAULT_PORT, metavar="N", help=port)
    size = "how much may be kept (default: what is there already, and nine tenths of what is free)"
    option("--max-size", type=number(0.001), metavar="GB", help=size)
    file = "settings of NATS's own, such as `authorization` and `tls`; all but the options above"
    option("--config", type=path_name, metavar="FILE", help=file)


def execute(args: argparse.Namespace) -> int:
    """Become the server."""
    from f1buf.telemetry.nats.server import ServerError, run_server

    folder = Path(args.dir) if args.dir else default_folder()
    try:
        run_server(
            folder,
            args.host,
            args.port,
            None if args.max_size is None else int(args.max_size * 1e9),
            Path(args.config) if args.config else None,
            lambda size: say_error(greeting(args, folder, size)),
        )
    except ServerError as error:
        raise UsageError(str(error)) from None


def default_folder() -> Path:
    """Return the folder for those who name none."""
    data = os.environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(data):  # as that standard has it
        try:
            data = str(Path.home() / ".local" / "share")
        except RuntimeError:
            raise UsageError("--dir: there is no home folder to choose one in; expected --dir DIR") from None
    return Path(data) / "f1buf" / "broker"


def greeting(args: argparse.Namespace, folder: Path, size: int) -> str:
    """Return what people have to know, in one line."""
    host = socket.gethostname() if args.host in ("0.0.0.0", "::") else args.host
    url = f"nats://{joined(host, args.port)}"
    asked = (
        ""
        if args.config is None
        else f" (USER:PASSWORD@ before the host, and tls://, where {args.config} asks for them)"
    )
    return (
        f"{args.prog}: listens at {url}, keeps up to {size / 1e9:,.3g} GB in {folder} (its log: {folder / 'log'}); "
        f"f1buf run --publish {url}/race, f1buf subscribe {url}/race{asked}; Ctrl-C stops"
    )
