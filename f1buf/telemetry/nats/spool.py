"""The spool: readings on the disk that wait for a server that is away, until they are sent in their order.

A spool is a folder of Parquet parts (`f1buf.telemetry.parts`), each written whole, brought to the disk and only then
given its name, ``spool-NUMBER-ROW.parquet``. It is a queue: the publisher writes parts at its end, makes messages of
those at its front, and removes a part once the server has stored all of it.

Places
    Everything that a publisher sends has a place: a number, and a row. A part has a number. So has what is sent between
    two parts without being written, as if it were a part that never was on the disk. Places grow from message to
    message, in the order in which the stream has them. A message's header says how far it reaches (`REACHED`), so the
    stream's last message alone tells what of the spool is stored. In a part the readings stand by shard, and in the
    order in which they were put within each.

Who goes on
    ``publisher.json`` says which publishers have sent places of these numbers, and where the stream ended when the
    latest of them began. It is on the disk before the first part is, and a later publisher is in it before it sends. So
    it goes on right behind what is stored. If the stream ends with anything else, nobody knows that the spool's
    readings are newer than what is there, and a sensor's readings would come out of order: the spool is refused.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import re
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray

from f1buf.telemetry.errors import RecordingError, StreamError
from f1buf.telemetry.nats.messages import DESCRIBED, Packer
from f1buf.telemetry.parts import Descriptions, Footer, PartWriter, described_rows, read_footer, read_rows
from f1buf.telemetry.recorder import bring_name_to_disk, leave_folder
from f1buf.telemetry.sources.parquet import PART_NAME
from f1buf.telemetry.text import one_line
from f1buf.telemetry.thresholds import Threshold, dumps

__all__ = ["REACHED", "Content", "Place", "Spool"]

Array = NDArray[Any]

REACHED = "F1buf-Reached"
"""Header: the place that a message reaches, ``NUMBER:ROW``."""

_PART = 131_072  # readings in a part at most, as in a recorder's row group
_RETRY = 1.0  # [s] between attempts to write where the disk is full
_PUBLISHERS = 16  # that the file names: the latest
_STATE = "publisher.json"
_NAME = re.compile(r"spool-(\d{6,})-(\d+)\.parquet")
_LEFT_BEHIND = re.compile(r"\.spool-.*\.tmp|\.publisher\.json\.tmp")  # by a crash


class Place(NamedTuple):
    """Where a message's readings are among all that is sent."""

    number: int
    first: int
    """The row of its first reading."""
    end: int
    """The row behind its last one."""
    on_disk: bool
    """Whether a part has them."""


class Content(NamedTuple):
    """What a part holds that is to be sent."""

    readings: Array
    """READING, in the order of the part."""
    packer: Packer
    """Packs them, with what was known of their sensors when they were put."""


@dataclass(slots=True)
class _Part:
    number: int
    first: int  # the row of its first reading
    rows: int
    source: str
    thresholds: tuple[Threshold, ...]
    path: Path | None = None  # None as long as it is not on the disk
    footer: Footer | None = None  # of an earlier publisher's part
    held: tuple[Array, list[Any]] | None = None  # what is not on the disk: readings, and what is known of their sensors

    @property
    def end(self) -> tuple[int, int]:
        return self.number, self.first + self.rows


class Spool:
    """A folder of parts that wait to be sent; for one publisher at a time, and one coroutine of it.

    Parameters
    ----------
    folder : path-like
        Made where it is missing; empty, or an earlier publisher's spool.
    describe : callable or None
        Returns what is known of a sensor, from its id and the reading's flags.
    source : str
        Where the readings come from.
    thresholds : iterable of Threshold
        What they are checked against here.

    Attributes
    ----------
    folder : pathlib.Path
        As it was given.
    found : int
        How many readings an earlier publisher has left in it.
    spooled : int
        How many were written to it since.
    left : int
        How many are in it and are not known to be stored.
    trouble : str
        Why nothing can be written to it now; empty while all is well.

    Raises
    ------
    StreamError
        The folder cannot be made or written to, holds anything else, is inside a recording, is another publisher's now,
        or a part is damaged.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        describe: Callable[[int, int], dict[str, Any]] | None = None,
        *,
        source: str = "",
        thresholds: Iterable[Threshold] = (),
    ) -> None:
        self.folder = Path(folder)
        self.found = self.spooled = self.left = 0
        self.trouble = ""
        self._descriptions = Descriptions(describe)
        self._source, self._thresholds = source, tuple(thresholds)
        self._waiting: deque[_Part] = deque()  # of which no message has been made; only the last may not be on the disk
        self._sent: deque[_Part] = deque()  # whose messages are under way
        self._made = (0, 0)  # the place that the last message reaches
        self._next = 1  # the number of what comes next
        self._shards = 1
        self._state: dict[str, Any] | None = None  # what publisher.json says, or is to say
        self._is_state_written = False
        self._retry_at = 0.0
        self._leave: Callable[[], object] = lambda: None  # gives the folder free
        try:
            self._claim()
        except BaseException:
            self._leave()
            raise

    # -- before anything starts ---------------------------------------------------------------------------------------

    def _claim(self) -> None:
        """Make the folder, and refuse it if it is in use or anything else."""
        for above in Path(os.path.realpath(self.folder)).parents:
            with contextlib.suppress(OSError):  # a folder that this user may not list
                if any(map(PART_NAME.fullmatch, os.listdir(above))):
                    raise StreamError(f"{self.folder}: is inside the recording {above}; choose a folder outside")
        try:
            made = [each for each in self.folder.parents if not each.exists()]
            self.folder.mkdir(parents=True, exist_ok=True)
            for each in (self.folder, *made):
                bring_name_to_disk(each)
            self._descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            self._leave = weakref.finalize(self, leave_folder, self._descriptor, os.getpid())
            with contextlib.suppress(OSError):  # a file system without locks; below for one that is taken
                self._lock()
            names = os.listdir(self.folder)
            for name in filter(_LEFT_BEHIND.fullmatch, names):
                (self.folder / name).unlink()
            if not os.access(self.folder, os.W_OK | os.X_OK):
                raise StreamError(f"{self.folder}: cannot be written to; expected a folder that can be")
        except OSError as error:
            raise StreamError(
                f"{self.folder}: cannot be used: {error.strerror or error}; expected a new or empty folder that can be "
                "written to, or an earlier publisher's spool"
            ) from error
        self._find_parts(names)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StreamError(f"{self.folder}: another publisher or recorder has it; choose another folder") from None

    def _find_parts(self, names: list[str]) -> None:
        parts = []
        for name in names:
            match = _NAME.fullmatch(name)
            if match:
                parts.append(self._found_part(name, int(match[1]), int(match[2])))
            elif name != _STATE and not _LEFT_BEHIND.fullmatch(name):
                raise StreamError(
                    f"{self.folder}: holds {name}, which is no part of a spool; expected a new or empty folder, or an "
                    "earlier publisher's spool: choose another one"
                )
        self._waiting.extend(sorted(parts, key=lambda part: part.end))
        self.found = self.left = sum(part.rows for part in parts)
        if _STATE in names:
            self._state = self._read_state()

    def _found_part(self, name: str, number: int, first: int) -> _Part:
        path = self.folder / name
        with _damage_explained():
            footer = read_footer(path)
        if (footer.number, (footer.progress or {}).get("first")) != (number, first):
            raise StreamError(f"{path}: has another part's name; expected the name that f1buf gave it: move it away")
        return _Part(number, first, footer.rows, footer.source, footer.thresholds, path, footer)

    def _read_state(self) -> dict[str, Any]:
        path = self.folder / _STATE
        try:
            said = json.loads(path.read_bytes())
            number, row = said["position"]
            known = {"stream": str(said["stream"]), "created": str(said["created"]), "shards": int(said["shards"])}
            known |= {"publishers": list(said["publishers"]), "base": int(said["base"])}
            return known | {"position": (int(number), int(row))}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StreamError(
                f"{path}: damaged or unreadable: {one_line(error)}; remove it to send all readings of the spool, of "
                "which the stream may have some already"
            ) from error

    def begin(self, who: str, info: dict[str, Any], last: int, publisher: str, reached: str, shards: int) -> None:
        """Find out what of it is stored, and note down who goes on; again, where the stream has gone on meanwhile.

        Parameters
        ----------
        who : str
            The publisher.
        info : dict
            What STREAM.INFO says.
        last : int
            The number that the next message has to expect.
        publisher, reached : str
            Who published the stream's last message, and what its header `REACHED` says; empty where there is none.
        shards : int
            The stream's.

        Raises
        ------
        StreamError
            The spool is of another stream, or the stream ends with another publisher's message.
        """
        stream, created = info["config"]["name"], str(info.get("created"))
        publishers: list[str] = []
        if self._state is not None and self._waiting:
            publishers = self._state["publishers"]
            self._check_stream(stream, shards)
            self._made = self._stored_place(stream, created, last, publisher, reached)
        while self._waiting and self._waiting[0].end <= self._made:
            self._remove(self._waiting.popleft())
        numbers = [self._made[0], *(part.number for part in self._waiting)]
        self._next = max(numbers) + 1
        self.found = self.left = sum(part.rows - self._stored_rows(part) for part in self._waiting)
        self._shards = shards
        publishers = [*(each for each in publishers if each != who), who][-_PUBLISHERS:]
        self._state = {
            "stream": stream, "created": created, "shards": shards, "publishers": publishers,
            "base": last, "position": self._made,
        }  # fmt: skip
        if self._waiting:
            try:
                self._write_state()
            except OSError as error:
                raise StreamError(self._failure(self.folder / _STATE, error)) from error

    def _check_stream(self, stream: str, shards: int) -> None:
        state = self._state
        assert state is not None
        if (state["stream"], state["shards"]) != (stream, shards):
            raise StreamError(
                f"{self.folder}: is the spool of the stream {state['stream']} of {state['shards']} shards, and this is "
                f"{stream} of {shards}; publish to that one, or choose another folder"
            )

    def _stored_place(self, stream: str, created: str, last: int, publisher: str, reached: str) -> tuple[int, int]:
        """Return the place up to which all is stored."""
        state = self._state
        assert state is not None
        if state["created"] == created and state["base"] == last:
            place: tuple[int, int] = state["position"]
            return place
        if state["created"] != created and last == 0:
            return 0, 0  # made anew: it has nothing of the spool
        known = re.fullmatch(r"(\d+):(\d+)", reached)
        if known and publisher in state["publishers"]:
            return int(known[1]), int(known[2])
        raise StreamError(
            f"{self.folder}: holds {self.left:,} readings for the stream {stream}, which another publisher has taken "
            "over since, or which has forgotten what it had of these (its limits, a purge, a full disk): they may be "
            f"older than what is there, or in it twice; choose another folder, or remove {_STATE} in it to send all "
            "of them all the same"
        )

    def note_base(self, last: int) -> None:
        """The stream has gone on with others' messages before anything of this publisher's was stored."""
        assert self._state is not None
        self._state["base"] = last
        if self._is_state_written:
            with contextlib.suppress(OSError):  # else a later publisher refuses the spool, and says why
                self._write_state()

    def _stored_rows(self, part: _Part) -> int:
        return max(0, self._made[1] - part.first) if part.number == self._made[0] else 0

    def _write_state(self) -> None:
        """Bring publisher.json to the disk, whole."""
        temporary = self.folder / f".{_STATE}.tmp"
        with temporary.open("wb") as file:
            file.write(json.dumps(self._state).encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / _STATE)
        os.fsync(self._descriptor)
        self._is_state_written = True

    # -- what comes in ------------------------------------------------------------------------------------------------

    @property
    def holds(self) -> bool:
        """Whether readings wait here of which no message has been made."""
        return bool(self._waiting)

    @property
    def is_behind(self) -> bool:
        """Whether readings that it took are not on the disk yet."""
        return bool(self._waiting) and self._waiting[-1].path is None

    @property
    def most(self) -> int:
        """How many readings it takes at once, at most."""
        return _PART

    @property
    def notes(self) -> list[str]:
        """For each column the first value of `describe` that it cannot hold; for people."""
        return list(self._descriptions.notes.values())

    def take(self, readings: Array) -> None:
        """Take readings to the end of the queue; `write` brings them to the disk."""
        assert not self.is_behind
        if self._shards > 1:
            readings = readings.take(np.argsort(readings["sensor_id"] % self._shards, kind="stable"))
        columns = self._descriptions.columns(self._descriptions.codes(readings))
        self._descriptions.clear()
        part = _Part(self._next, 0, len(readings), self._source, self._thresholds, held=(readings, columns))
        self._waiting.append(part)
        self._next += 1

    async def write(self, *, now: bool = False) -> None:
        """Bring to the disk what was taken; where that fails, `trouble` says why, and it stays in memory.

        Parameters
        ----------
        now : bool
            Whether to try even if that failed a moment ago.
        """
        if not self.is_behind or (time.monotonic() < self._retry_at and not now):
            return
        part = self._waiting[-1]
        assert part.held is not None
        if await self._written(part, *part.held):
            part.held = None

    async def keep(self, place: Place, readings: Array, described: dict[int, dict[str, Any]]) -> bool:
        """Write the readings of a message that is not known to be stored; return whether they are on the disk."""
        part = _Part(place.number, place.first, len(readings), self._source, self._thresholds)
        descriptions = Descriptions(lambda sensor_id, flags: described.get(sensor_id << 16 | flags, {}))
        return await self._written(part, readings, descriptions.columns(descriptions.codes(readings)))

    async def _written(self, part: _Part, readings: Array, columns: list[Any]) -> bool:
        path = self.folder / f"spool-{part.number:06}-{part.first}.parquet"
        try:  # in a thread: the disk may take long, and the server is to be answered meanwhile
            await asyncio.to_thread(self._write, path, part, readings, columns)
        except (OSError, pa.ArrowException) as error:
            self.trouble = self._failure(path, error)
            self._retry_at = time.monotonic() + _RETRY
            return False
        part.path, self.trouble = path, ""
        self.spooled += part.rows
        self.left += part.rows
        return True

    def _write(self, path: Path, part: _Part, readings: Array, columns: list[Any]) -> None:
        if not self._is_state_written:
            self._write_state()
        notes = {"recording": self.folder.name, "source": part.source, "thresholds": dumps(part.thresholds)}
        writer = PartWriter(path)
        try:
            writer.write(readings, columns)
            writer.complete(notes | {"progress": {"first": part.first}}, number=part.number, last=False)
            writer.show()
        except BaseException:
            writer.discard()
            raise
        os.fsync(self._descriptor)

    @staticmethod
    def _failure(path: Path, error: Exception) -> str:
        why = getattr(error, "strerror", None) or one_line(error)
        return f"{path}: cannot be written: {why}; make room, or publish with another spool"

    # -- what goes out ------------------------------------------------------------------------------------------------

    async def front(self) -> Content:
        """Return what is to be sent of the part at the front, all of which is then sent in messages.

        Raises
        ------
        StreamError
            It is damaged.
        """
        part = self._waiting.popleft()
        self._sent.append(part)
        skipped = self._stored_rows(part)
        self._made = part.number, part.first + skipped
        readings, described = await asyncio.to_thread(self._content, part)

        def describe(sensor_id: int, flags: int) -> dict[str, Any]:
            return described.get(sensor_id << 16 | flags, {})

        packer = Packer(describe, source=part.source, thresholds=part.thresholds)
        return Content(readings[skipped:], packer)

    def _content(self, part: _Part) -> tuple[Array, dict[int, dict[str, Any]]]:
        if part.path is None:
            assert part.held is not None
            readings, columns = part.held
            self.trouble = ""  # nothing waits for the disk any more
            return readings, described_rows(readings, pa.RecordBatch.from_arrays(columns, schema=DESCRIBED))
        with _damage_explained():
            footer = part.footer or read_footer(part.path)
            rows = list(read_rows(footer, _PART))
        described = {key: said for each in rows for key, said in each.described.items()}
        return np.concatenate([each.readings for each in rows]), described

    def between(self) -> None:
        """What is sent from now on comes from no part, until `front` is called."""
        self._made = self._next, 0
        self._next += 1

    def place(self, count: int) -> Place:
        """Return the place of the next message, of so many readings."""
        number, first = self._made
        self._made = number, first + count
        on_disk = bool(self._sent) and self._sent[-1].number == number and self._sent[-1].path is not None
        return Place(number, first, first + count, on_disk)

    def note_stored(self, place: Place) -> None:
        """The server has stored a message, and all before it."""
        if place.on_disk:
            self.left -= place.end - place.first
        while self._sent and self._sent[0].end <= (place.number, place.end):
            self._remove(self._sent.popleft())

    def _remove(self, part: _Part) -> None:
        # If a power cut brings it back, the stream's last message says that it is stored.
        if part.path is not None:
            with contextlib.suppress(OSError):
                part.path.unlink()

    def close(self) -> None:
        """Leave the folder to others; empty where nothing is left."""
        if not self.left:
            with contextlib.suppress(OSError):
                (self.folder / _STATE).unlink()
        self._leave()

    def as_dict(self) -> dict[str, Any]:
        """Return what came of it, ready for JSON."""
        return {"folder": str(self.folder), "readings": self.spooled, "found": self.found, "left": self.left}

    def __str__(self) -> str:
        found = f", {self.found:,} were in it from before" if self.found else ""
        left = f"{self.left:,} are left in it for the next run" if self.left else "none is left"
        return f"{self.spooled:,} went through the spool {self.folder}{found}, {left}"


@contextlib.contextmanager
def _damage_explained() -> Iterator[None]:
    try:
        yield
    except RecordingError as error:
        what = str(error).partition("; copy it again")[0]
        raise StreamError(f"{what}; it was to be published: move it away to publish what is behind it") from error
