"""What the tests of recordings in Parquet share: recording, in this process or a child, and reading back."""

import contextlib
import json
import os
import subprocess
import threading
from pathlib import Path

import numpy as np
from cli_helpers import child_options
from helpers import Task, wait_until

from f1buf import READING, ShutDown
from f1buf.telemetry.recorder import Recorder, RecorderError
from f1buf.telemetry.sources.parquet import ParquetReplay, open_parquet


@contextlib.contextmanager
def recording_to(folder, describe=None, **options):
    """A recorder at work; at the end its ring is shut down, and what its thread raised is raised."""
    recorder = Recorder(folder, describe, **options)
    task = Task(recorder.run)
    try:
        yield recorder
    finally:
        recorder.ring.shutdown()
        task.result()


def record(folder, *batches, describe=None, **options):
    """Record these batches."""
    with recording_to(folder, describe, **options) as recorder:
        for batch in batches:
            recorder.ring.put_many(batch)
    return recorder


def read(folder):
    """All readings, as a replay gives them."""
    return replayed(ParquetReplay(open_parquet(folder), None))


def replayed(replay):
    return np.concatenate([np.empty(0, READING), *replay.batches(threading.Event())])


def names(folder, hidden=False):
    """The files that are seen, or the hidden ones."""
    return sorted(name for name in os.listdir(folder) if name.startswith(".") == hidden)


def part_names(n):
    return [f"part-{number:06}.parquet" for number in range(1, n + 1)]


def numbered(n, start=0):
    """Readings whose value is their number; they hardly compress."""
    out = np.zeros(n, READING)
    out["value"] = np.arange(start, start + n)
    out["timestamp"] = np.random.default_rng(start).random(n)
    out["sensor_id"] = np.arange(start, start + n) % 7
    out["channel"] = 1
    return out


def put_numbered(ring, batch=500):
    """Put readings until the ring is shut down."""
    start = 0
    with contextlib.suppress(ShutDown):
        while True:
            start += ring.put_many(numbered(batch, start))


def outcome(recorder, error):
    """What a recorder that failed came to."""
    return {
        "error": error,
        "complete": read(recorder.folder)["value"].tolist() == list(range(recorder.written)),
        "written": recorder.written,
        "lost": recorder.lost,
        "offered": recorder.ring.stats().offered,
        "parts": recorder.parts,
        "seen": names(recorder.folder),
        "hidden": names(recorder.folder, hidden=True),
    }


# Children -------------------------------------------------------------------------------------------------------------


def child(call, *before, **options):
    """A process that calls one of the functions below; `before` is a command that starts it."""
    how = child_options([], ("-c", f"import recorder_helpers; recorder_helpers.{call}"), **options)
    how["args"] = [*before, *how["args"]]
    here = Path(__file__).parent
    how["env"]["PYTHONPATH"] += os.pathsep.join(["", str(here), str(here.parent)])
    return subprocess.Popen(**how, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def keep_recording(folder):
    """Record for ever, and say how many readings are safe whenever that changes."""
    recorder = Recorder(folder, capacity=4096, part_seconds=0.01)
    tasks = [Task(recorder.run), Task(put_numbered, recorder.ring)]
    said = 0
    while all(task.is_alive() for task in tasks):
        wait_until(lambda said=said: recorder.written > said)
        said = recorder.written
        print(said, flush=True)


def record_until_it_fails(folder):
    """Print what it came to."""
    recorder = Recorder(folder, capacity=4096, part_seconds=0)
    task, feeder = Task(recorder.run), Task(put_numbered, recorder.ring)
    feeder.result()  # a put raises ShutDown: it does not wait for ever
    try:
        task.result()
    except RecorderError as error:
        print(json.dumps(outcome(recorder, str(error))))


def record_without_rights(folder):
    """Print how a folder of another user is refused."""
    import f1buf.telemetry.parts  # noqa: F401 - before the right to read it may be gone

    if os.geteuid() == 0:
        os.setuid(65534)
    try:
        Recorder(folder)
    except RecorderError as error:
        print(error)
