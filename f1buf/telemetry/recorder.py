"""The recorder: keeps every reading, in a folder of Parquet files. Needs pyarrow.

What is safe when
    A recording is a folder of parts. A part is written to a file without a name, brought to the disk, and then given
    its name: a part that is there is complete and stays as it is, whatever happens to the process or the machine. The
    folder's own name, and those of folders that had to be made for it, are brought to the disk before the first part.
    The first reading that comes begins a part, which is completed some seconds later. After a SIGKILL or a power cut
    the readings of these last seconds are missing, and so is the part that says that it is the last: a replay of the
    recording reports that. (Where the file system, such as NFS, has no files without a name, a part has a hidden name
    until it is complete, ``.part-*.tmp``. A crash leaves such a file; it is never read, and may be removed.)

What waits for what
    The recorder has a ring of its own, which fills while the recorder writes and waits for the disk. Once the ring is
    full, puts wait; or, with a drop policy, readings are dropped and counted. Memory is bounded by the ring and one row
    group, however much comes.
"""

import contextlib
import errno
import fcntl
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from f1buf import Empty, RingBuffer, ShutDown
from f1buf.ring.reading import READING
from f1buf.telemetry.consumers import losses_and_waits, losses_and_waits_text
from f1buf.telemetry.errors import RecorderError, RecordingError
from f1buf.telemetry.sources.parquet import PART_NAME
from f1buf.telemetry.thresholds import Threshold, dumps

if TYPE_CHECKING:
    from f1buf.telemetry.parts import PartWriter

__all__ = ["Recorder", "RecorderError"]

_ROW_GROUP = 131_072  # readings written at once: with half as many a real recording is 7 % larger
_CUT = ".cut.parquet"  # the name of a part that does not count yet
_LOOK_FOR_CUTS = 0.02  # [s] the same where cuts are waited for
_LOOK = 0.25  # [s] the longest that readings stay in the ring: for so long a source must know its sensors


class _Cut:
    """A part is to be completed once so many readings were taken."""

    def __init__(self, offered: int, progress: dict[str, Any]) -> None:
        self.offered, self.progress = offered, progress
        self.done = threading.Event()


class Recorder:
    """Writes all readings that are put into its ring to a folder of Parquet files. It makes one recording.

    Parameters
    ----------
    folder : path-like
        Made where it is missing; it must not hold a recording, nor be inside of one.
    describe : callable, optional
        Returns what is known of a sensor, from its id and the reading's flags: ``car``, ``driver``, ``lap``, ``part``,
        ``session`` (an int, as of 64 bits). Called by the recorder's thread, within a quarter of a second unless the
        recorder is behind. What a column cannot hold becomes null, or text with replacement characters; see `notes`.
    capacity : int
        How many readings the ring holds, of 24 bytes: what may come while the disk is waited for. A race at 20 times
        its speed makes 210,000 a second.
    overflow : {"block", "drop_oldest", "drop_newest"}
        What happens when the ring is full: puts wait (nothing is lost), or readings are dropped and counted.
    source : str
        Where the readings come from; kept in the files, for people.
    thresholds : iterable of Threshold
        What the readings are checked against meanwhile; kept in the files, for a replay.
    part_seconds : float
        A part is completed once its first reading has been there for so long [s]. Readings are to be safe after five
        seconds: half of that is left for writing and for the disk.
    goes_on : bool
        Whether several runs, one after the other, make one recording in the folder. Then a part is completed by `cut`
        alone, which keeps in it where the next run is to go on (`progress`); what was not cut when a run ended is not
        kept.

    Attributes
    ----------
    progress : dict or None
        What the last `cut` that counts was told, of this run or an earlier one.
    pending : dict or None
        What a `cut` was told that does not count yet.
    is_last : bool
        Whether the recording ends with this run; of a recording of several runs it does only where this is set.
    name : str
        For error messages and the names of threads.
    folder : pathlib.Path
        As it was given.
    ring : RingBuffer
        Of READING: put readings here, and shut it down to end the recording. Its order is the recording's.
    part_seconds : float
        As it was given; may be changed at any time.
    written : int
        How many readings are in complete parts.
    parts : int
        How many complete parts there are.
    bytes : int
        Their size.

    Raises
    ------
    RecorderError
        The folder cannot be made or written to, holds a recording already, is inside one or is being recorded to, or
        pyarrow is not installed.

    Examples
    --------
    >>> import os, tempfile, threading
    >>> from f1buf.telemetry import SpeedSensor
    >>> from f1buf.telemetry.recorder import Recorder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     recorder = Recorder(folder)
    ...     thread = threading.Thread(target=recorder.run)
    ...     thread.start()
    ...     accepted = recorder.ring.put_many(SpeedSensor(1, seed=1).read_batch(1000))
    ...     recorder.ring.shutdown()
    ...     thread.join()
    ...     recorder.written, os.listdir(folder)
    (1000, ['part-000001.parquet'])
    """

    name = "recorder"

    def __init__(
        self,
        folder: str | os.PathLike[str],
        describe: Callable[[int, int], dict[str, Any]] | None = None,
        *,
        capacity: int = 1_048_576,
        overflow: str = "block",
        source: str = "",
        thresholds: Iterable[Threshold] = (),
        part_seconds: float = 2.5,
        goes_on: bool = False,
    ) -> None:
        try:
            from f1buf.telemetry.parts import Descriptions
        except ImportError:
            raise RecorderError("recording needs pyarrow: pip install 'f1buf[record]'") from None
        if not part_seconds >= 0:
            raise ValueError(f"part_seconds is {part_seconds}; expected seconds, 0 or more")
        self.folder = Path(folder)
        self.ring = RingBuffer(capacity, READING, overflow=overflow)  # type: ignore[arg-type]
        self.written = self.parts = self.bytes = 0
        self._notes = {"recording": os.urandom(8).hex(), "source": source, "thresholds": dumps(thresholds)}
        self.part_seconds = math.inf if goes_on else part_seconds
        self.progress: dict[str, Any] | None = None
        self.pending: dict[str, Any] | None = None
        self.is_last = not goes_on
        self._goes_on = goes_on
        self._cut: _Cut | None = None
        self._cutting: dict[str, Any] | None = None  # what the part that is being completed is told
        self._cut_size: tuple[int, int] | None = None  # rows and bytes of this run's last cut
        self._left_off = False  # whether `run` has ended
        self._look = _LOOK_FOR_CUTS if goes_on else _LOOK
        self._earlier = 0  # parts of earlier runs
        # The row group that is being filled, and the number of each reading's description in `_described`.
        self._rows, self._codes = np.empty(_ROW_GROUP, READING), np.empty(_ROW_GROUP, np.int32)
        self._filled = 0
        self._described = Descriptions(describe)
        self._part: PartWriter | None = None  # the file that the row groups before it are in
        self._part_rows = 0
        self._since = math.inf  # when the oldest reading came that is in no complete part
        self._claim()
        self._try_out()

    # -- before anything starts ---------------------------------------------------------------------------------------

    def _claim(self) -> None:
        """Make the folder, and refuse it if it holds a recording or is being recorded to."""
        self._check_above()
        with _failure_explained(self.folder, "expected a new or empty folder that can be written to"):
            made = [each for each in self.folder.parents if not each.exists()]
            self.folder.mkdir(parents=True, exist_ok=True)
            for each in (self.folder, *made):  # the folder's name may not be on the disk yet even where it is there
                bring_name_to_disk(each)
            self._descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            self._leave = weakref.finalize(self, leave_folder, self._descriptor, os.getpid())
            names = os.listdir(self.folder)
        if not self._goes_on and any(name.endswith(".parquet") for name in names):
            raise RecorderError(
                f"{self.folder}: holds a recording already; expected a new or empty folder: choose another one"
            )
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RecorderError(f"{self.folder}: is being recorded to; choose another folder") from None
        except OSError:
            pass  # a file system without locks
        if self._goes_on:
            self._go_on(names)

    def _go_on(self, names: list[str]) -> None:
        """Learn from the last part of the earlier runs, and from a cut of which it is not known whether it counts."""
        from f1buf.telemetry.parts import read_footer
        from f1buf.telemetry.sources.parquet import open_parquet

        numbers = [int(match[1]) for match in map(PART_NAME.fullmatch, names) if match]
        last = cut = None
        try:
            if numbers:
                open_parquet(self.folder)  # refuses what is no whole recording
                last = read_footer(self.folder / f"part-{max(numbers):06}.parquet")
            if _CUT in names:
                cut = read_footer(self.folder / _CUT)
        except RecordingError as error:
            raise RecorderError(str(error)) from error
        if last is not None and (last.progress is None or last.last):
            why = "has ended" if last.progress is not None else "is not of several runs"
            raise RecorderError(f"{self.folder}: holds a recording that {why}; choose another folder")
        for footer in filter(None, (last, cut)):
            self._notes["recording"] = str(footer.recording)
        if last is not None:
            self.progress, self._earlier = last.progress, last.number or 0
        if cut is not None:
            self.pending = cut.progress

    def _check_above(self) -> None:
        """Refuse a place inside another recording: programs that read a folder read its subfolders, too."""
        for above in Path(os.path.realpath(self.folder)).parents:
            with contextlib.suppress(OSError):  # a folder that this user may not list
                if any(map(PART_NAME.fullmatch, os.listdir(above))):
                    raise RecorderError(
                        f"{self.folder}: is inside the recording {above}, whose readers would read both; "
                        "choose a folder outside"
                    )

    def _try_out(self) -> None:
        """Write an empty part and remove it."""
        with _failure_explained(self.folder, "expected a folder that can be written to"):
            part = self._new_part()
            try:
                part.complete(self._notes, number=1, last=False)
            finally:
                part.discard()

    def _new_part(self) -> "PartWriter":
        from f1buf.telemetry.parts import PartWriter

        return PartWriter(self.folder / _CUT if self._goes_on else self._path)

    @property
    def _path(self) -> Path:
        """The path of the part that is or will be written."""
        return self.folder / f"part-{self._number:06}.parquet"

    @property
    def _number(self) -> int:
        return self._earlier + self.parts + 1

    # -- the thread ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Record until the ring is shut down and drained; in a thread of its own.

        Raises
        ------
        RecorderError
            A part cannot be written: a full disk, for one. The parts before it stay as they are. The ring is shut
            down, and what is in it discarded, so that no put waits for room in it.
        """
        try:
            self._record()
        except BaseException:
            self.ring.shutdown(immediate=True)
            if self._part is not None:
                self._part.discard()
            raise
        finally:
            self._left_off = True
            self._leave()

    def _record(self) -> None:
        looked = time.monotonic()
        while (count := self._take()) is not None:
            if count:
                self._since = min(self._since, looked)  # the first one may have been in the ring since then
            looked = time.monotonic()
            if self._filled == _ROW_GROUP:
                self._write()
            self._look_for_cut()
            if self._left() == 0:
                self._complete()
        self._look_for_cut()
        if self._goes_on:
            self._forget()
        if self.is_last:
            self._complete(last=True)  # even an empty one: it tells a reader that there is no more
            self.keep_cut()

    def cut(self, progress: dict[str, Any]) -> None:
        """Complete a part with all that was put so far, and keep in it where the next run goes on.

        For the thread that puts; waits until the part is on the disk. It counts from `keep_cut` on. Where the process
        is killed before that, `pending` tells the next run, which has to call `keep_cut` or `drop_cut` first.

        Parameters
        ----------
        progress : dict
            Ready for JSON.

        Raises
        ------
        RecorderError
            The recorder has failed.
        """
        self._cut = cut = _Cut(self.ring.stats().offered, progress)
        while not cut.done.wait(_LOOK):
            if self._left_off:
                raise RecorderError(f"{self.folder}: the recorder has ended")

    def keep_cut(self) -> None:
        """Have the last `cut` count, of an earlier run, too: its part gets its name."""
        if self.pending is None:
            return
        with self._part_failure_explained():
            os.rename(self.folder / _CUT, self._path)
            os.fsync(self._descriptor)
        self.progress, self.pending = self.pending, None
        if self._cut_size is None:
            self._earlier += 1
        else:
            self._count(*self._cut_size)

    def drop_cut(self) -> None:
        """Have the last `cut` of an earlier run not count: what is in it will come again."""
        if self.pending is not None:
            with self._part_failure_explained():
                os.unlink(self.folder / _CUT)
            self.pending = None

    def _look_for_cut(self) -> None:
        cut, stats = self._cut, self.ring.stats()
        if cut is None or stats.taken + stats.dropped + stats.discarded < cut.offered:
            return
        self._cutting = cut.progress
        if self._filled or self._part is not None:
            self._complete()
        self._cut = None
        cut.done.set()

    def _forget(self) -> None:
        """Of several runs' recording: what was not cut is for the next run."""
        if self._part is not None:
            self._part.discard()
        self._part, self._part_rows, self._filled = None, 0, 0

    def _left(self) -> float:
        """Seconds until the part is to be completed."""
        return max(0.0, self._since + self.part_seconds - time.monotonic())

    def _take(self) -> int | None:
        """Wait for many readings, or until the part is due; return how many came, None once there are no more."""
        free = self._rows[self._filled :]
        # An eighth of the ring: the rest is there for what comes while they are written.
        enough = min(len(free), max(1, self.ring.capacity // 8))
        try:
            count = self.ring.get_into(free, min_count=enough, timeout=min(self._look, self._left()))
        except Empty:
            return 0
        except ShutDown:
            return None
        end = self._filled + count
        self._codes[self._filled : end] = self._described.codes(free[:count])
        self._filled = end
        return count

    def _write(self) -> None:
        """Write the row group."""
        described = self._described.columns(self._codes[: self._filled])
        with self._part_failure_explained():
            if self._part is None:
                self._part = self._new_part()
            self._part.write(self._rows[: self._filled], described)
        self._described.clear()
        self._part_rows += self._filled
        self._filled = 0

    def _complete(self, *, last: bool = False) -> None:
        """Complete the part."""
        if self._filled or self._part is None:
            self._write()
        assert self._part is not None
        with self._part_failure_explained():
            notes = {**self._notes, "progress": self._cutting} if self._goes_on else self._notes
            size = self._part.complete(notes, number=self._number, last=last)
            self._part.show()
            os.fsync(self._descriptor)
        rows = self._part_rows
        self._part, self._part_rows, self._since = None, 0, math.inf
        if self._goes_on:
            self.pending, self._cut_size = self._cutting, (rows, size)
        else:
            self._count(rows, size)

    def _count(self, rows: int, size: int) -> None:
        self.written += rows
        self.parts += 1
        self.bytes += size

    def _part_failure_explained(self) -> contextlib.AbstractContextManager[None]:
        then = f"complete parts: {self.parts}; record to a folder that can be written to"
        return _failure_explained(self._path, then)

    # -- afterwards ---------------------------------------------------------------------------------------------------

    @property
    def notes(self) -> list[str]:
        """For each column the first value of `describe` that it cannot hold; for people."""
        return list(self._described.notes.values())

    @property
    def lost(self) -> int:
        """Readings that were put and are in no complete part: while it runs, also those on their way."""
        return self.ring.stats().offered - self.written

    def as_dict(self) -> dict[str, Any]:
        """Return what came of it, ready for JSON."""
        return {
            "folder": str(self.folder),
            "readings": self.written,
            "parts": self.parts,
            "bytes": self.bytes,
            **losses_and_waits(self.ring.stats()),
            "notes": self.notes,
        }

    def __str__(self) -> str:
        notes = "".join(f"; {note}" for note in self.notes)
        return (
            f"{self.written:,} readings in {self.parts:,} parts, {self.bytes / 1e6:,.1f} MB, in {self.folder}; "
            f"{losses_and_waits_text(self.ring.stats())}{notes}"
        )


def leave_folder(descriptor: int, process: int) -> None:
    """Give a folder free that this process has locked: closing alone would leave it to children of a fork."""
    if os.getpid() == process:  # a child that forgets the object gives nothing free
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def bring_name_to_disk(folder: Path) -> None:
    """Bring a folder's name to the disk. It is in the folder above: without it its files could not be found again."""
    try:
        above = os.open(folder / "..", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(above)
        finally:
            os.close(above)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EINVAL):  # this user may not; its file system cannot
            raise
        os.sync()


@contextlib.contextmanager
def _failure_explained(path: Path, then: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RecorderError(f"{path}: cannot be written: {error.strerror or error}; {then}") from error
