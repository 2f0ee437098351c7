"""A server of NATS of a test's own, which may be killed and started again."""

import contextlib
import random
import socket
import subprocess
import time
from pathlib import Path

from f1buf.telemetry.nats.server import configuration, find_server

PATIENCE = 120.0  # [s] how long the server may take to start or to end, on a machine however busy


def free_port():
    """A port that nobody listens at: below those that the kernel gives out, so that it is still free later."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def greeting(port):
    """The first line of the server that listens at a port: its INFO; empty where there is none yet."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        return connection.makefile("rb").readline().decode()
    return ""


class Server:
    """
    A server as `f1buf broker` runs it, of a port and a folder of its own: ``with Server(tmp_path) as server:``.

    `more` are settings of NATS (``authorization {...}``), `max_size` is how much its streams may hold [bytes], and
    `program` is another server than the installed one. `process` is the Popen.
    """

    def __init__(self, folder, more="", max_size=1 << 30, program=None):
        self.folder = Path(folder).resolve() / "nats"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.process = None
        self._program = program or find_server()
        (self.folder / "more.conf").write_text(more)
        self._configuration = self.folder / "nats.conf"
        self._configuration.write_text(configuration(self.folder, max_size, self.folder / "more.conf"))

    @property
    def url(self):
        return f"nats://127.0.0.1:{self.port}"

    @property
    def log(self):
        """What the server has written of itself."""
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def start(self):
        """Start it, again on the same port and store; returns once it answers."""
        address = ("-a", "127.0.0.1", "-p", str(self.port))
        self.process = subprocess.Popen([self._program, "-c", self._configuration, *address], stdin=subprocess.DEVNULL)
        wait_for_greeting(self.process, self.port)
        return self

    def kill(self):
        """SIGKILL: nothing is said, written or closed; returns once it is gone."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self):
        """SIGTERM; returns the exit status once it is gone."""
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()


def wait_for_greeting(process, port):
    """Wait until the process' server answers; it gives no other sign."""
    deadline = time.monotonic() + PATIENCE
    while not greeting(port).startswith("INFO "):
        assert process.poll() is None, f"the server has ended with status {process.returncode}"
        assert time.monotonic() < deadline, f"nobody answers at port {port} after {PATIENCE} s"
        time.sleep(0.01)
