"""Long runs of `f1buf listen` against a real recording, and what became of it.

    python tools/live_runs.py race --seconds 600     the recorded race again and again, at 20 times real time
    python tools/live_runs.py garbage --seconds 60   among garbage and mutated datagrams, as fast as it takes them

The command runs in a process of its own, records everything (`race`), and is asked for its memory now and then. In a
`race` the datagrams go out by the clock. Among `garbage` each comes back by `--forward` before many more are sent, so
that none is lost before it is judged; a decoder of this process says what the command must have counted.

Exit status: 0 where every reading and count is as expected, nothing was lost and the memory stayed flat.
"""

import argparse
import contextlib
import json
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # for what it shares with the tests

from cli_helpers import child_options, read_until
from helpers import Task, recordings_folder

from f1buf.telemetry.sources.game.decoder import Decoder

ON_THE_AIR = 64  # datagrams that have been sent and not come back
CATCH_UP = 0.5  # [s] how late a sender may be and still make up for it
FLAT = 16 << 20  # [bytes] what the memory may grow by after the first tenth: the parts' buffers come and go


def recorded_race():
    path = recordings_folder() / "f1_2026_race.sqlite3"
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT timestamp, packet FROM packets ORDER BY pkt_id").fetchall()


class Command:
    """`f1buf listen` in a process of its own."""

    def __init__(self, *args):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
        self._process = subprocess.Popen(**child_options(("listen", "--port", 0, "--json", *args), **options))
        self.port = int(re.search(r":(\d+), ", read_until(self._process.stderr, "Ctrl-C stops"))[1])
        self._said = Task(self._process.stderr.read)  # unread, the pipe would fill, and the command wait
        self.memory = []  # [bytes] resident

    def look(self):
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        self.memory.append(1024 * int(re.search(r"VmRSS:\s+(\d+)", status)[1]))

    def end(self):
        self.look()
        self._process.send_signal(signal.SIGTERM)
        summary = json.loads(self._process.stdout.read())
        print(self._said.result().rpartition("\n\n")[2])
        return self._process.wait(), summary

    @property
    def growth(self):
        """How much the memory has grown since the first tenth [bytes]."""
        return max(self.memory) - self.memory[len(self.memory) // 10]


def race(seconds, speed):
    """Send the race again and again; (command, its status and summary, what it should have counted)."""
    packets, expected = recorded_race(), Decoder()
    first, last = packets[0][0], packets[-1][0]
    lap = last - first + 1 / 60  # [s] of the recording, until it begins again
    sent = readings = 0
    held_up = 0.0
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        command = Command("--record", Path(folder) / "recorded")
        sender.connect(("127.0.0.1", command.port))
        began = next_look = time.monotonic()
        for round_ in range(10**9):
            if time.monotonic() - began >= seconds:
                break
            for timestamp, datagram in packets:
                due = began + (round_ * lap + timestamp - first) / speed
                while (now := time.monotonic()) < due:
                    time.sleep(due - now)
                if now - due > CATCH_UP:  # this process was held up; the game would not send so much at once
                    began += now - due - CATCH_UP
                    held_up += now - due - CATCH_UP
                sender.send(datagram)
                readings += len(expected.decode(datagram))
                if now >= next_look:
                    command.look()
                    next_look = now + 1.0
            sent += len(packets)
        took = time.monotonic() - began
        print(f"{sent:,} datagrams in {took:.1f} s: {sent / took:,.0f} a second (held up for {held_up:.1f} s more)")
        status, summary = command.end()
    return command, status, summary, {"datagrams": sent, "readings": readings, "rejected": dict(expected.rejected)}


def garbage(seconds, seed=1):
    """Send the race among what no game sends."""
    packets, expected, rng = [datagram for _, datagram in recorded_race()], Decoder(), random.Random(seed)
    sent = readings = 0
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out,
    ):
        back.bind(("127.0.0.1", 0))
        back.settimeout(60)
        command = Command("--forward", f"127.0.0.1:{back.getsockname()[1]}")
        out.connect(("127.0.0.1", command.port))
        began = next_look = time.monotonic()
        while (now := time.monotonic()) - began < seconds:
            for datagram in unfit(packets, rng):
                readings += len(expected.decode(datagram))
                out.send(datagram)
                sent += 1
                if sent > ON_THE_AIR:
                    back.recv(65_536)
            if now >= next_look:
                command.look()
                next_look = now + 1.0
        for _ in range(min(sent, ON_THE_AIR)):
            back.recv(65_536)
        took = time.monotonic() - began
        print(f"{sent:,} datagrams in {took:.1f} s: {sent / took:,.0f} a second; seed {seed}")
        status, summary = command.end()
    return command, status, summary, {"datagrams": sent, "readings": readings, "rejected": dict(expected.rejected)}


def unfit(packets, rng):
    """A hundred datagrams of the race, in order from anywhere, with three others behind each."""
    start = rng.randrange(len(packets) - 100)
    for datagram in packets[start : start + 100]:
        yield datagram
        yield rng.randbytes(rng.randrange(1500))
        mutated = bytearray(datagram)
        for _ in range(rng.randrange(1, 4)):
            mutated[rng.randrange(min(len(mutated), rng.choice((29, 1500))))] = rng.randrange(256)
        yield bytes(mutated)
        yield datagram[: rng.randrange(len(datagram))]


def judged(command, status, summary, expected):
    """Print what came of it; whether it is as it should be."""
    network, recording = summary["network"], summary.get("recording")
    found = {
        "datagrams": network["datagrams"],
        "readings": summary["readings"],
        "rejected": summary["rejected"],
    }
    print(f"datagrams received {network['datagrams']:,}, dropped by the kernel {network['dropped']:,}")
    print(f"readings {summary['readings']:,}, analysed {summary['analysed']:,}, latency {summary['latency_s']}")
    if recording:
        print(f"recorded {recording['readings']:,} in {recording['parts']} parts, {recording['bytes'] / 1e6:.0f} MB")
    mega = [round(each / 1e6) for each in command.memory]
    print(f"memory [MB]: first {mega[0]}, after a tenth {mega[len(mega) // 10]}, at most {max(mega)}, last {mega[-1]}")
    faults = [f"{name}: {found[name]}, expected {expected[name]}" for name in found if found[name] != expected[name]]
    faults += [f"exit status {status}"] if status else []
    faults += ["readings were lost"] if summary["analysed"] != summary["readings"] else []
    faults += ["readings were not recorded"] if recording and recording["readings"] != summary["readings"] else []
    faults += [f"the memory grew by {command.growth:,} bytes"] if command.growth > FLAT else []
    print("\n".join(faults) or "all as expected")
    return not faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("race", "garbage"), help="what is sent")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="how long (default: 60)")
    parser.add_argument("--speed", type=float, default=20.0, metavar="X", help="of the race, times real (default: 20)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the garbage (default: 1)")
    args = parser.parse_args()
    if not (args.seconds > 0 and args.speed > 0):
        parser.error("--seconds and --speed: expected more than 0")
    ran = race(args.seconds, args.speed) if args.what == "race" else garbage(args.seconds, args.seed)
    return 0 if judged(*ran) else 1


if __name__ == "__main__":
    sys.exit(main())
