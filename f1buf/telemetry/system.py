"""The telemetry system: sources put into a ring, analyzers take out of it, nothing is lost by stopping.

How it stops
    1. The stop event is set: sources make no new readings. What they have in hand they still put.
    2. When the last source has ended, the ring is shut down, and the analyzers drain it.
    3. When it is empty, they end. All threads are joined.

    The same happens by itself when all sources end, and when a source, an analyzer or `on_alert` fails; `shutdown`
    raises the failure. If all analyzers have failed, no thread is left to drain the ring: the rest is discarded and
    counted. A thread that makes no progress for `stop_timeout` seconds while it is waited for is named in the error.

    Consumers (a recorder) have rings of their own, which end as the analyzers' does. A consumer that fails stops
    nothing but itself.
"""

import hashlib
import operator
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from f1buf import Full, RingBuffer, RingStats, SharedRingBuffer, ShutDown, Tee
from f1buf.ring.reading import READING
from f1buf.telemetry.alerts import Alert
from f1buf.telemetry.analyzers import Analyzer, Batch, BatchOrder
from f1buf.telemetry.consumers import Consumer
from f1buf.telemetry.errors import TelemetryError
from f1buf.telemetry.latency import LatencyHistogram, LatencySampler, PutTimer
from f1buf.telemetry.sensors import SENSOR_TYPES, Sensor, make_sensors
from f1buf.telemetry.sources import Source, Unwritten
from f1buf.telemetry.sources.paced import FULL_SPEED_BATCH, paced_sensors
from f1buf.telemetry.sources.shared import SharedSource
from f1buf.telemetry.tap import Tap
from f1buf.telemetry.thresholds import Event, Threshold, ThresholdTable, Tracker, dumps, load_thresholds

__all__ = ["SENSOR_TYPES", "F1TelemetrySystem", "Summary", "TelemetryError", "make_sensors"]

_LEAST_BLOCK = 4096  # readings; in shorter pieces arrays and puts are faster, see the guide on blocks
_PATIENCE_FOR_ROOM = 0.1  # [s] for a whole block; then the source puts arrays, which come in piece by piece
# Times `stop_timeout`, for a consumer: a last fsync beside other programs' writes has taken over 10 s.
_PATIENCE_WITH_DISKS = 6
_LOOK = 0.05  # [s] how often who waits for the analysis, or for the end, looks how it stands


@dataclass(frozen=True)
class Summary:
    """What a run came to."""

    readings: int
    """Made by the sources."""
    analysed: int
    """Checked against the thresholds."""
    dropped: int
    """All others, if there are analyzers: lost to the overflow policy, or to a thread that failed or did not stop."""
    seconds: float
    """From the start until the last reading was checked [s]."""
    latency_s: dict[str, float | None]
    """From put to check: ``p50``, ``p99`` and ``max`` [s]; sampled."""
    buffer: RingStats
    """The ring's counters."""
    thresholds: list[dict[str, Any]]
    """For each threshold what it is, and its ``readings``, ``samples`` and ``rises``."""

    @property
    def readings_per_s(self) -> float:
        """Readings analysed a second."""
        return self.analysed / self.seconds if self.seconds > 0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        names = ("readings", "analysed", "dropped", "seconds", "readings_per_s", "latency_s", "buffer", "thresholds")
        return {name: getattr(self, name) for name in names} | {"buffer": self.buffer._asdict()}


class F1TelemetrySystem:
    """Sensors, a buffer, analyzers.

    Parameters
    ----------
    buffer_size : int
        How many readings the buffer holds.
    overflow : {"block", "drop_oldest", "drop_newest"}
        What happens when it is full: the sensors wait (nothing is lost), or readings are dropped and counted.
    thresholds : str, path, or iterable of Threshold
        A profile's name, a TOML file, or thresholds.
    on_alert : callable, optional
        Called with each `Alert`, in the order of the stream, by one thread at a time. What it raises ends the run in
        order: the sources stop, all that they have made is checked, and the rest of the alerts handed over; the first
        exception is told to `on_failure` and raised by `shutdown`, as of "on_alert".
    alert_samples : bool
        Whether to report each reading over its threshold, not only the rises.
    analyzer_delay : float
        Seconds of work for each reading beside the check: a slower analysis.
    on_step : callable, optional
        Called with a text at each step of the shutdown.
    on_failure : callable, optional
        Called as soon as a source, an analyzer, a consumer or a callback fails, in the thread where it fails, with the
        name of the thread or of the callback, and the exception. `shutdown` raises the exception as well, and what
        `on_failure` itself raises.
    display : RingBuffer, optional
        Of READING, with ``overflow="drop_oldest"``: for a viewer. The sources' readings are offered to it; it may
        miss some, see ``f1buf.telemetry.tap``.
    stop_timeout : float
        How long a thread that is to stop may make no progress before it is given up and named [s]. A consumer may take
        six times as long: a busy disk can hold up the last write of a recording for more than the 10 s.

    Examples
    --------
    >>> from f1buf.telemetry import F1TelemetrySystem
    >>> system = F1TelemetrySystem(buffer_size=1000)
    >>> with system:
    ...     system.start_telemetry(num_analyzers=3, count=200, seed=1)
    ...     ended = system.wait()
    >>> system.summary.readings, system.summary.analysed
    (1000, 1000)

    Notes
    -----
    A system can be started again after a shutdown; each start has a buffer and counters of its own. It is controlled
    by one thread at a time.
    """

    def __init__(
        self,
        buffer_size: int = 100,
        *,
        overflow: str = "block",
        thresholds: str | os.PathLike[str] | Iterable[Threshold] = "default",
        on_alert: Callable[[Alert], None] | None = None,
        alert_samples: bool = False,
        analyzer_delay: float = 0.0,
        on_step: Callable[[str], None] | None = None,
        on_failure: Callable[[str, BaseException], None] | None = None,
        display: RingBuffer | None = None,
        stop_timeout: float = 10.0,
    ) -> None:
        is_name = isinstance(thresholds, str | os.PathLike)
        self.thresholds: tuple[Threshold, ...] = load_thresholds(thresholds) if is_name else tuple(thresholds)  # type: ignore[arg-type]
        self._buffer_size = buffer_size
        self._overflow = overflow
        self._stop_timeout = stop_timeout
        self.on_alert = on_alert
        self.on_step = on_step
        self.on_failure = on_failure
        self.display = display
        self.alert_samples = alert_samples
        self.analyzer_delay = _checked_delay(analyzer_delay)
        self._run: _Run | None = None  # the one that is running, or the last one
        self._summary: Summary | None = None  # of the last one, once it has ended
        self._running = False
        self._ring = self._new_ring()

    def _new_ring(self) -> RingBuffer:
        return RingBuffer(self._buffer_size, READING, overflow=self._overflow)  # type: ignore[arg-type]

    # -- starting -----------------------------------------------------------------------------------------------------

    def start_telemetry(
        self,
        sensors_per_type: int = 1,
        num_analyzers: int = 3,
        *,
        sensors: Iterable[Sensor] | None = None,
        rate: float | None = 100.0,
        count: int | None = None,
        seed: int | None = None,
        consumers: Iterable[Consumer] = (),
    ) -> None:
        """Start sensors and analyzers.

        Parameters
        ----------
        sensors_per_type : int
            How many of each of the five simulated types.
        num_analyzers : int
            How many analyzer threads.
        sensors : iterable of Sensor, optional
            Sensors of your own, instead of the simulated ones.
        rate : float or None
            Readings a second of each sensor; None for as fast as it goes (in simulated time still 100 a second).
        count : int, optional
            How many readings each sensor makes; then the sensors take turns, so that a seeded run gives the same
            stream, and so the same alerts, each time.
        seed : int, optional
            Of the simulated sensors.
        consumers : iterable of Consumer
            As in `start`.

        Raises
        ------
        RuntimeError
            It is running already.
        """
        if sensors is None:
            sensors = make_sensors(sensors_per_type, rate=100.0 if rate is None else rate, seed=seed)
        self.start(paced_sensors(list(sensors), rate, count), num_analyzers, consumers=consumers)

    def start(
        self,
        sources: Iterable[Source | SharedRingBuffer],
        num_analyzers: int = 3,
        *,
        describe: Callable[[int, int], dict[str, Any]] | None = None,
        analyzer: type[Analyzer] = Analyzer,
        consumers: Iterable[Consumer] = (),
        resume: dict[str, Any] | None = None,
    ) -> None:
        """Start any sources.

        Parameters
        ----------
        sources : iterable of Source
            One thread each. A `f1buf.SharedRingBuffer` of readings is one, too.
        num_analyzers : int
            How many analyzer threads. None, if there are consumers: then the readings go only to these, for another
            process to analyse.
        describe : callable, optional
            Returns what is known of a sensor for its alerts, from its number and the reading's flags: ``car``,
            ``driver``, ``lap``, ``part``, ``session`` and ``several``, see `Alert.from_event`. What it raises ends the
            run as what `on_alert` raises does; that alert is not made.
        analyzer : type
            `Analyzer` or a subclass.
        consumers : iterable of Consumer
            They get every reading, too, in one thread each. A consumer serves one start.
        resume : dict, optional
            What `settle` returned in an earlier run, which this one goes on with: its alerts are those of one run. It
            is ignored where the thresholds are others.
        """
        feeding = [SharedSource(each) if isinstance(each, SharedRingBuffer) else each for each in sources]
        if self._running:
            raise RuntimeError("the system is running; shut it down before starting it again")
        consumers = list(consumers)
        least = 0 if consumers else 1  # or nobody would take what the sources make
        if operator.index(num_analyzers) < least:
            raise ValueError(f"num_analyzers is {num_analyzers}; expected at least {least}")
        if not feeding:
            raise ValueError("there are no sources; expected at least one")
        if self._ring.is_shutdown:
            self._ring = self._new_ring()
        self._run = _Run(self, feeding, num_analyzers, describe, analyzer, consumers, resume or {})
        self._running, self._summary = True, None
        try:
            self._run.start()
        except BaseException:
            self.shutdown()
            raise

    # -- watching and stopping ----------------------------------------------------------------------------------------

    @property
    def ring(self) -> RingBuffer:
        """The buffer of the run, or of the next one."""
        return self._ring

    @property
    def is_running(self) -> bool:
        """Whether it has been started and not been shut down yet."""
        return self._running

    @property
    def readings(self) -> int:
        """How many readings the sources have made so far."""
        return 0 if self._run is None else self._run.readings

    @property
    def analysed(self) -> int:
        """How many readings have been checked so far."""
        return 0 if self._run is None else self._run.analysed

    @property
    def remaining(self) -> int:
        """How many readings have been made, and neither checked nor lost yet."""
        return 0 if self._run is None else self._run.remaining

    @property
    def latency_s(self) -> dict[str, float | None]:
        """From put to check so far: ``p50``, ``p99`` and ``max`` [s]; sampled."""
        return (LatencyHistogram() if self._run is None else self._run.latency.histogram).as_dict()

    def describe(self, sensor_id: int, flags: int) -> dict[str, Any]:
        """What is known of a sensor of the run, from its number and a reading's flags: see `start`."""
        return {} if self._run is None else self._run.describe(sensor_id, flags)

    @property
    def summary(self) -> Summary:
        """What the last run came to; RuntimeError before its end."""
        if self._summary is None:
            raise RuntimeError("there is no summary yet: start the system and shut it down")
        return self._summary

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all sources have ended or something failed, `timeout` seconds at most; whether that is so."""
        return self._current().ended.wait(timeout)

    def settle(self) -> dict[str, Any] | None:
        """Wait until all readings that were made have been checked, and return how the analysis stands.

        For the thread of the only source, between two batches: it makes no readings meanwhile.

        Returns
        -------
        dict or None
            Ready for JSON, for `start` to go on with; None where the run is failing.
        """
        return self._current().settle()

    def restore(self, analysis: dict[str, Any]) -> None:
        """Have the analysis forget which series are over, and go on where another one was.

        For the thread of the only source, after `settle` and before it makes more readings.

        Parameters
        ----------
        analysis : dict
            As `settle` returned it; of other thresholds it is ignored.
        """
        self._current().restore(analysis)

    def stop_sources(self) -> None:
        """Let the sources make no new readings; returns at once. Not for signal handlers: it takes a lock."""
        if self._run is not None:
            self._run.stop.set()

    def shutdown(self) -> Summary:
        """Stop the sources, drain the buffer, join all threads.

        Returns
        -------
        Summary
            What the run came to.

        Raises
        ------
        TelemetryError
            A source, an analyzer, a consumer or a callback failed, or a thread did not stop. `summary` is there all
            the same.
        RuntimeError
            It is not running.
        """
        run = self._current()
        stuck = run.finish(self._stop_timeout + self.analyzer_delay)
        self._running, self._summary = False, run.summary()
        if run.failures or stuck:
            raise TelemetryError(run.failures, stuck) from (run.failures[0][1] if run.failures else None)
        return self._summary

    def _current(self) -> "_Run":
        if not self._running or self._run is None:
            raise RuntimeError("the system is not running")
        return self._run

    def run(self, duration: float | None = None, **start: Any) -> Summary:
        """Start, wait, shut down.

        Parameters
        ----------
        duration : float, optional
            How long to let the sources run [s]; without it until they end.
        **start
            For `start_telemetry`, unless the system is running already.

        Returns
        -------
        Summary
            What the run came to.

        Raises
        ------
        TelemetryError
            As of `shutdown`.
        """
        if not self._running:
            self.start_telemetry(**start)
        try:
            self.wait(duration)
        finally:
            summary = self.shutdown()
        return summary

    def __enter__(self) -> "F1TelemetrySystem":
        return self

    def __exit__(self, *error: object) -> None:
        if self._running:
            self.shutdown()


class _Run:
    """One start of the system, to its end: its threads, buffer and counters, which no other run shares."""

    def __init__(
        self,
        system: F1TelemetrySystem,
        sources: Sequence[Source],
        num_analyzers: int,
        describe: Callable[[int, int], dict[str, Any]] | None,
        analyzer: type[Analyzer],
        consumers: Sequence[Consumer],
        resume: dict[str, Any],
    ) -> None:
        self.stop = threading.Event()
        self.ended = threading.Event()  # all sources have ended, or something failed
        self.failures: list[tuple[str, BaseException]] = []
        self._failed_callbacks: set[str] = set()  # those that are called for alerts
        self.analysed = 0
        self.describe = describe or (lambda sensor_id, flags: {})
        self._system = system
        self._ring = ring = system.ring
        self._consumers = consumers
        rings = [ring] if num_analyzers else []
        rings += [consumer.ring for consumer in consumers]
        self._inlet = Tee(*rings) if len(rings) > 1 else rings[0]
        self._looking = [each.ring for each in consumers if getattr(each, "may_miss", False)]
        # A reservation drops nothing, goes to one ring, and costs more than a put where it is short.
        alone = len(rings) - len(self._looking) == 1
        in_place = alone and rings[0].overflow == "block" and rings[0].capacity >= 2 * _LEAST_BLOCK
        self._slots = rings[0] if in_place else None  # of which readings are written straight into
        self._table = ThresholdTable(system.thresholds)
        self._tracker = Tracker(self._table, samples=system.alert_samples)
        self._thresholds = hashlib.sha256(dumps(system.thresholds).encode()).hexdigest()[:16]
        self._earlier = 0  # readings of the runs that this one goes on with
        self._merged = threading.Condition()  # told after each merge
        self._settled = 0  # readings whose batch was merged, and its alerts handed over
        self.latency = LatencySampler(ring)
        self._made = [0] * len(sources)  # readings by source
        self.restore(resume)
        self._state = threading.Lock()  # guards the failures and the two counts of threads at work
        self._feeding, self._analysing = len(sources), num_analyzers
        order = BatchOrder(ring, self._merge)
        self._feeders = [_thread(source.name, self._feed, i, source) for i, source in enumerate(sources)]
        names = [f"analyzer {i + 1}" for i in range(num_analyzers)]
        self._analyzers = [_thread(name, self._analyse, name, order, analyzer) for name in names]
        self._takers = [_thread(consumer.name, self._consume, consumer) for consumer in consumers]
        self._began = self._last_checked = time.perf_counter()

    def start(self) -> None:
        """Start all threads; where one cannot be started, `finish` ends those that were."""
        threads = [*self._takers, *self._analyzers, *self._feeders]
        for i, thread in enumerate(threads):
            try:
                thread.start()
            except BaseException:
                for missing in threads[i:]:
                    if missing in self._analyzers:
                        self._left_analysis()
                    elif missing in self._feeders:
                        self._left_feeding()
                raise

    # -- the threads --------------------------------------------------------------------------------------------------

    def _feed(self, index: int, source: Source) -> None:
        """One source's thread."""
        timer = PutTimer(self.latency)
        display = self._system.display
        tap = None if display is None else Tap(display, len(self._feeders))
        taps = [Tap(ring, len(self._feeders)) for ring in self._looking]  # for what is written in place
        taps += [] if tap is None else [tap]
        try:
            for batch in source.batches(self.stop):
                if isinstance(batch, Unwritten):
                    self._write(index, batch, timer, tap, taps)
                else:
                    self._put(index, batch, timer, tap)
        except ShutDown:
            pass  # no analyzer is left
        except BaseException as error:
            self._fail(source.name, error)
        finally:
            self._left_feeding()

    def _put(self, index: int, readings: NDArray[Any], timer: PutTimer, tap: Tap | None) -> None:
        self._made[index] += len(readings)
        with timer:
            self._inlet.put_many(readings)
        if tap is not None:
            tap.offer(readings)

    def _write(self, index: int, due: Unwritten, timer: PutTimer, tap: Tap | None, taps: Sequence[Tap]) -> None:
        """Have readings written into the ring's slots, or else into arrays, until all are there or it is to stop."""
        left = due.count
        while left and not self.stop.is_set():
            written = self._write_in_place(index, due, left, timer, taps)
            if not written:
                written = min(left, FULL_SPEED_BATCH)
                readings = np.empty(written, READING)
                due.write(readings)
                self._put(index, readings, timer, tap)
            left -= written

    def _write_in_place(self, index: int, due: Unwritten, most: int, timer: PutTimer, taps: Sequence[Tap]) -> int:
        """Return how many; 0 where that cannot be, or there was no room for long: other sources' puts took it."""
        ring, n = self._slots, 0
        if ring is None:
            return 0
        block_size = min(most, ring.capacity // 2)
        try:
            with timer, ring.reserve(block_size, timeout=_PATIENCE_FOR_ROOM) as block, _forgetting_arrays():
                n = len(block)
                due.write(block.array)
                self._made[index] += n
                for tap in taps:
                    tap.offer(block.array)
        except Full:
            if n:
                raise  # the source's own
        return n

    def _left_feeding(self) -> None:
        with self._state:
            self._feeding -= 1
            last = self._feeding == 0
        if last:
            self._inlet.shutdown()  # the analyzers and consumers drain it
            self.ended.set()

    def _analyse(self, name: str, order: BatchOrder, analyzer: type[Analyzer]) -> None:
        """One analyzer's thread."""
        try:
            analyzer(order, self._table, self._system.analyzer_delay).run()
        except BaseException as error:
            self._fail(name, error)
        finally:
            self._left_analysis()

    def _left_analysis(self) -> None:
        with self._state:
            self._analysing -= 1
            last = self._analysing == 0
        if last:
            self._ring.shutdown(immediate=True)  # drained, or no thread is left to drain it: no source waits for ever

    def _consume(self, consumer: Consumer) -> None:
        """One consumer's thread; once it has ended, no put waits for room in its ring."""
        try:
            consumer.run()
        except BaseException as error:
            self._fail(consumer.name, error, fatal=False)
        finally:
            consumer.ring.shutdown(immediate=True)

    def _fail(self, name: str, error: BaseException, *, fatal: bool = True) -> None:
        with self._state:
            self.failures.append((name, error))
        if fatal:  # the run cannot go on without this thread
            self.stop.set()
            self.ended.set()
        try:
            if self._system.on_failure is not None:
                self._system.on_failure(name, error)
        except BaseException as another:
            with self._state:
                self.failures.append(("on_failure", another))

    def _merge(self, batch: Batch) -> None:
        """The next batch of the stream has been checked; called by one analyzer at a time."""
        try:
            self._take_in(batch)
        finally:
            with self._merged:
                self._settled += len(batch.readings)
                self._merged.notify_all()

    def settle(self) -> dict[str, Any] | None:
        """As `F1TelemetrySystem.settle`."""
        with self._merged:
            while self._analyzers:
                stats = self._ring.stats()
                if self._settled + stats.dropped + stats.discarded >= stats.offered:
                    break
                if self.ended.is_set():
                    return None
                self._merged.wait(_LOOK)
            readings = self._earlier + self.readings
            return {"readings": readings, "thresholds": self._thresholds, "over": self._tracker.state()}

    def restore(self, analysis: dict[str, Any]) -> None:
        """As `F1TelemetrySystem.restore`."""
        self._earlier = int(analysis.get("readings", 0)) - self.readings
        self._tracker.restore(analysis["over"] if analysis.get("thresholds") == self._thresholds else [])

    def _take_in(self, batch: Batch) -> None:
        if batch.crossings is None:
            return
        self.analysed += len(batch.readings)
        self._last_checked = time.perf_counter()
        self.latency.checked(batch.first_position + len(batch.readings))
        events = self._tracker.merge(batch.crossings, self._earlier + batch.first_position)
        if self._system.on_alert is not None:
            for event in events:
                self._hand_over(event)

    def _hand_over(self, event: Event) -> None:
        """Make an alert; a callback that raises costs no other alert, and no analyzer."""
        assert self._system.on_alert is not None
        callback = "describe"
        try:
            _time, sensor_id, _channel, flags, _value = event.reading.item()
            described = self.describe(sensor_id, flags)
            alert = Alert.from_event(event, self._table.thresholds[event.threshold], described)
            callback = "on_alert"
            self._system.on_alert(alert)
        except BaseException as error:
            if callback not in self._failed_callbacks:  # a flood of alerts may make a flood of failures
                self._failed_callbacks.add(callback)
                self._fail(callback, error)

    # -- its end ------------------------------------------------------------------------------------------------------

    def finish(self, patience: float) -> list[str]:
        """Stop the sources, drain, join; return the names of threads that made no progress for `patience` seconds."""
        self._step("stopping the sensors")
        self.stop.set()
        stuck = self._join(self._feeders, patience)
        if stuck:
            self._inlet.shutdown()  # as the last source would have done
        self._step(f"sensors stopped; draining the buffer: {self.remaining} readings left")
        stuck += self._join(self._analyzers, patience)
        stuck += self._join(self._takers, _PATIENCE_WITH_DISKS * patience)
        self._step(f"given up: {', '.join(stuck)}" if stuck else "all threads have ended")
        return stuck

    def _step(self, text: str) -> None:
        try:
            if self._system.on_step is not None:
                self._system.on_step(text)
        except BaseException as error:  # whatever a callback raises, the run ends in order
            self._fail("on_step", error)

    def _join(self, threads: list[threading.Thread], patience: float) -> list[str]:
        # Looks are counted, not seconds: where the process was stopped (Ctrl-Z), no thread could make progress.
        progress, looks = -1, 0
        for thread in threads:
            while thread.is_alive():
                thread.join(_LOOK)
                if progress != (done := self._progress()):
                    progress, looks = done, 0
                elif looks * _LOOK > patience:
                    return [each.name for each in threads if each.is_alive()]
                looks += 1
        return []

    def _progress(self) -> int:
        """Return a number that grows as long as a thread makes progress."""
        return self.readings + self.analysed + sum(consumer.ring.stats().taken for consumer in self._consumers)

    @property
    def readings(self) -> int:
        """Made so far."""
        return sum(self._made)

    @property
    def remaining(self) -> int:
        """In the buffer, or with the analyzers."""
        stats = self._ring.stats()
        return max(0, stats.offered - self.analysed - stats.dropped - stats.discarded)

    def summary(self) -> Summary:
        """What it came to."""
        stats = self._ring.stats()
        return Summary(
            readings=self.readings,
            analysed=self.analysed,
            dropped=self.readings - self.analysed if self._analyzers else 0,
            seconds=max(self._last_checked - self._began, 0.0),
            latency_s=self.latency.histogram.as_dict(),
            buffer=stats,
            thresholds=self._tracker.counts(),
        )


@contextmanager
def _forgetting_arrays() -> Iterator[None]:
    """Clear the frames that an error comes through: an array of a block that one of them kept would keep its slots."""
    try:
        yield
    except BaseException as error:
        errors, seen = [error], set()  # by `id`: those of a dataclass cannot be hashed
        while errors:
            each = errors.pop()
            if id(each) not in seen:
                seen.add(id(each))
                traceback.clear_frames(each.__traceback__)
                members = each.exceptions if isinstance(each, BaseExceptionGroup) else ()
                errors += filter(None, (each.__cause__, each.__context__, *members))
        raise


def _thread(name: str, target: Callable[..., None], *args: Any) -> threading.Thread:
    return threading.Thread(target=target, args=args, name=name, daemon=True)


def _checked_delay(seconds: float) -> float:
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"analyzer_delay is {seconds}; expected seconds, 0 or more")
    return float(seconds)
