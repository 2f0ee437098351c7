"""The telemetry system: sources put into a ring, analyzers take out of it, nothing is lost by stopping.

How it stops
    1. The stop event is set: sources make no new readings. What they have in hand they still put.
    2. When the last source has ended, the ring is shut down, and the analyzers drain it.
    3. When it is empty, they end. All threads are joined.

    The same happens by itself when all sources end, and when a source or an analyzer fails; the failure is raised
    where the system is stopped. If all analyzers have failed, nobody is left to drain: the rest is discarded and
    counted. A thread that makes no progress for `stop_timeout` seconds while it is waited for is named in the error.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from f1buf import RingBuffer, RingStats, ShutDown
from f1buf._reading import READING
from f1buf.telemetry.alerts import Alert
from f1buf.telemetry.analyzers import Analyzer, Batch, BatchOrder
from f1buf.telemetry.latency import LatencySampler, PutTimer
from f1buf.telemetry.sensors import (
    EngineTemperatureSensor,
    FuelLevelSensor,
    GForceSensor,
    Sensor,
    SimulatedSensor,
    SpeedSensor,
    TirePressureSensor,
)
from f1buf.telemetry.sources import Source
from f1buf.telemetry.sources.paced import PacedSensor, Turnstile
from f1buf.telemetry.thresholds import Threshold, ThresholdTable, Tracker, load_thresholds

__all__ = ["SENSOR_TYPES", "F1TelemetrySystem", "Summary", "TelemetryError", "make_sensors"]

SENSOR_TYPES: tuple[type[SimulatedSensor], ...] = (
    EngineTemperatureSensor,
    TirePressureSensor,
    SpeedSensor,
    GForceSensor,
    FuelLevelSensor,
)
"""The five sensor types of the simulated car."""


class TelemetryError(RuntimeError):
    """Sources or analyzers that failed, or threads that did not stop.

    Attributes
    ----------
    failures : list of (str, BaseException)
        Which thread failed, and how.
    stuck : list of str
        Threads that made no progress while they were to stop.
    """

    def __init__(self, failures: Sequence[tuple[str, BaseException]], stuck: Sequence[str] = ()) -> None:
        self.failures = list(failures)
        self.stuck = list(stuck)
        said = [f"{name} failed: {type(error).__name__}: {error}" for name, error in failures]
        said += [f"{name} did not stop in time" for name in stuck]
        super().__init__("; ".join(said))


@dataclass(frozen=True)
class Summary:
    """What a run came to."""

    readings: int
    """Made by the sources."""
    analysed: int
    """Checked against the thresholds."""
    dropped: int
    """Lost to the overflow policy, or discarded because no analyzer was left."""
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
        return {
            "readings": self.readings,
            "analysed": self.analysed,
            "dropped": self.dropped,
            "seconds": self.seconds,
            "readings_per_s": self.readings_per_s,
            "latency_s": self.latency_s,
            "buffer": self.buffer._asdict(),
            "thresholds": self.thresholds,
        }


def make_sensors(
    sensors_per_type: int = 1,
    *,
    types: Iterable[type[Sensor]] = SENSOR_TYPES,
    rate: float = 100.0,
    seed: int | None = None,
) -> list[Sensor]:
    """
    Make sensors, numbered from 0.

    Parameters
    ----------
    sensors_per_type : int
        How many of each type; at least 1.
    types : iterable of Sensor classes
        Called as ``type(sensor_id, rate=rate)``, simulated ones with ``seed=seed``, too.
    rate : float
        Readings a second.
    seed : int, optional
        Of the simulated ones.
    """
    if sensors_per_type < 1:
        raise ValueError(f"sensors_per_type is {sensors_per_type}; expected at least 1")
    sensors: list[Sensor] = []
    for kind in types:
        seeded = {"seed": seed} if issubclass(kind, SimulatedSensor) else {}
        sensors += [kind(len(sensors) + i, rate=rate, **seeded) for i in range(sensors_per_type)]
    return sensors


class F1TelemetrySystem:
    """
    Sensors, a buffer, analyzers.

    Parameters
    ----------
    buffer_size : int
        How many readings the buffer holds.
    overflow : {"block", "drop_oldest", "drop_newest"}
        What happens when it is full: the sensors wait (nothing is lost), or readings are dropped and counted.
    thresholds : str, path, or iterable of Threshold
        A profile's name, a TOML file, or thresholds.
    on_alert : callable, optional
        Called with each `Alert`, in the order of the stream, by one thread at a time.
    alert_samples : bool
        Whether to report each reading over its threshold, not only the rises.
    analyzer_delay : float
        Seconds of work for each reading beside the check: a slower analysis.
    on_step : callable, optional
        Called with a text at each step of the shutdown.
    stop_timeout : float
        How long a thread that is to stop may go without progress before it is given up and named [s].

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
        stop_timeout: float = 10.0,
    ) -> None:
        is_name = isinstance(thresholds, str | os.PathLike)
        self.thresholds: tuple[Threshold, ...] = load_thresholds(thresholds) if is_name else tuple(thresholds)  # type: ignore[arg-type]
        self._buffer_size = buffer_size
        self._overflow = overflow
        self._on_alert = on_alert
        self._alert_samples = alert_samples
        self._delay = _checked_delay(analyzer_delay)
        self._on_step = on_step or (lambda text: None)
        self._stop_timeout = stop_timeout
        self._running = False
        self._summary: Summary | None = None
        self._prepare()

    def _prepare(self) -> None:
        """A buffer and counters for the next start."""
        self.ring = RingBuffer(self._buffer_size, READING, overflow=self._overflow)  # type: ignore[arg-type]
        self._stop = threading.Event()
        self._ended = threading.Event()  # all sources have ended, or something failed
        self._failures: list[tuple[str, BaseException]] = []
        self._state = threading.Lock()  # guards the two counts of threads and the failures
        self._feeding = self._analysing = 0
        self._feeders: list[threading.Thread] = []
        self._analyzers: list[threading.Thread] = []
        self._made: list[int] = []  # by source
        self._analysed = 0
        self._last_checked = 0.0

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
    ) -> None:
        """
        Start sensors and analyzers.

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

        Raises
        ------
        RuntimeError
            It is running already.
        """
        if sensors is None:
            sensors = make_sensors(sensors_per_type, rate=100.0 if rate is None else rate, seed=seed)
        sensors = list(sensors)
        turnstile = None if count is None else Turnstile(len(sensors))
        self.start(
            [
                PacedSensor(sensor, rate=rate, count=count, turnstile=turnstile, index=index)
                for index, sensor in enumerate(sensors)
            ],
            num_analyzers,
        )

    def start(
        self,
        sources: Iterable[Source],
        num_analyzers: int = 3,
        *,
        describe: Callable[[int], dict[str, Any]] | None = None,
        analyzer: type[Analyzer] = Analyzer,
    ) -> None:
        """
        Start any sources.

        Parameters
        ----------
        sources : iterable of Source
            One thread each.
        num_analyzers : int
            How many analyzer threads; at least 1.
        describe : callable, optional
            Returns what is known of a sensor id for its alerts: ``car``, ``driver``, ``part``.
        analyzer : type
            `Analyzer` or a subclass.
        """
        sources = list(sources)
        if self._running:
            raise RuntimeError("the system is running; shut it down before starting it again")
        if num_analyzers < 1:
            raise ValueError(f"num_analyzers is {num_analyzers}; expected at least 1")
        if not sources:
            raise ValueError("there are no sources; expected at least one")
        table = ThresholdTable(self.thresholds)
        if self.ring.is_shutdown:
            self._prepare()
        self._table = table
        self._tracker = Tracker(table, samples=self._alert_samples)
        self._describe = describe or (lambda sensor_id: {})
        self._latency = LatencySampler(self.ring)
        self._summary = None
        self._running = True
        self._begin_threads(sources, num_analyzers, analyzer)

    def _begin_threads(self, sources: Sequence[Source], num_analyzers: int, analyzer: type[Analyzer]) -> None:
        order = BatchOrder(self.ring, self._merge)
        for i in range(num_analyzers):
            name = f"analyzer {i + 1}"
            self._analyzers.append(
                threading.Thread(target=self._analyse, args=(name, order, analyzer), name=name, daemon=True)
            )
        for i, source in enumerate(sources):
            self._feeders.append(threading.Thread(target=self._feed, args=(i, source), name=source.name, daemon=True))
        self._made = [0] * len(sources)
        self._feeding, self._analysing = len(self._feeders), len(self._analyzers)
        self._began = self._last_checked = time.perf_counter()
        for thread in [*self._analyzers, *self._feeders]:
            thread.start()

    # -- the threads --------------------------------------------------------------------------------------------------

    def _feed(self, index: int, source: Source) -> None:
        """One source's thread."""
        timer = PutTimer(self._latency)
        try:
            for readings in source.batches(self._stop):
                self._made[index] += len(readings)
                timer.put(self.ring, readings)
        except ShutDown:
            pass  # no analyzer is left
        except BaseException as error:
            self._fail(source.name, error)
        finally:
            with self._state:
                self._feeding -= 1
                last = self._feeding == 0
            if last:
                self.ring.shutdown()  # the analyzers drain it
                self._ended.set()

    def _analyse(self, name: str, order: BatchOrder, analyzer: type[Analyzer]) -> None:
        """One analyzer's thread."""
        try:
            analyzer(order, self._table, self._delay).run()
        except BaseException as error:
            self._fail(name, error)
        finally:
            with self._state:
                self._analysing -= 1
                last = self._analysing == 0
            if last:
                self.ring.shutdown(immediate=True)  # drained, or nobody is left to do it: let no source wait for ever

    def _fail(self, name: str, error: BaseException) -> None:
        with self._state:
            self._failures.append((name, error))
        self._stop.set()
        self._ended.set()

    def _merge(self, batch: Batch) -> None:
        """The next batch of the stream has been checked; called by one analyzer at a time."""
        if batch.crossings is None:
            return
        self._analysed += len(batch.readings)
        self._last_checked = time.perf_counter()
        self._latency.checked(batch.first_position + len(batch.readings))
        for event in self._tracker.merge(batch.crossings, batch.first_position):
            if self._on_alert is not None:
                described = self._describe(int(event.reading["sensor_id"]))
                self._on_alert(Alert.from_event(event, self.thresholds[event.threshold], described))

    # -- watching and stopping ----------------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether it has been started and not been shut down yet."""
        return self._running

    @property
    def readings(self) -> int:
        """How many readings the sources have made so far."""
        return sum(self._made)

    @property
    def analysed(self) -> int:
        """How many readings have been checked so far."""
        return self._analysed

    @property
    def remaining(self) -> int:
        """How many readings have been made, and neither checked nor lost yet."""
        stats = self.ring.stats()
        return max(0, self.readings - self._analysed - stats.dropped - stats.discarded)

    @property
    def summary(self) -> Summary:
        """What the last run came to; RuntimeError before its end."""
        if self._summary is None:
            raise RuntimeError("there is no summary yet: start the system and shut it down")
        return self._summary

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all sources have ended or something failed, `timeout` seconds at most; whether that is so."""
        return self._ended.wait(timeout)

    def stop_sources(self) -> None:
        """Let the sources make no new readings; returns at once. May be called by a signal handler."""
        self._stop.set()

    def shutdown(self) -> Summary:
        """
        Stop the sources, drain the buffer, join all threads.

        Returns
        -------
        Summary
            What the run came to.

        Raises
        ------
        TelemetryError
            A source or an analyzer failed, or did not stop. `summary` is there all the same.
        RuntimeError
            It is not running.
        """
        if not self._running:
            raise RuntimeError("the system is not running")
        self._on_step("stopping the sensors")
        self._stop.set()
        stuck = self._join(self._feeders)
        if stuck:
            self.ring.shutdown()  # they would have done it
        self._on_step(f"sensors stopped; draining the buffer: {self.remaining} readings left")
        stuck += self._join(self._analyzers)
        self._running = False
        self._summary = self._summarise()
        self._on_step("all threads have ended" if not stuck else f"given up: {', '.join(stuck)}")
        if self._failures or stuck:
            error = TelemetryError(self._failures, stuck)
            raise error from (self._failures[0][1] if self._failures else None)
        return self._summary

    def _join(self, threads: list[threading.Thread]) -> list[str]:
        """Join them; the names of those that are alive after `stop_timeout` seconds without progress of any."""
        progress, since = -1, time.monotonic()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.05)
                if progress != self.readings + self._analysed:
                    progress, since = self.readings + self._analysed, time.monotonic()
                elif time.monotonic() - since > self._stop_timeout:
                    return [each.name for each in threads if each.is_alive()]
        return []

    def _summarise(self) -> Summary:
        stats = self.ring.stats()
        return Summary(
            readings=self.readings,
            analysed=self._analysed,
            dropped=stats.dropped + stats.discarded,
            seconds=max(self._last_checked - self._began, 0.0),
            latency_s=self._latency.histogram.as_dict(),
            buffer=stats,
            thresholds=self._tracker.counts(),
        )

    def run(self, duration: float | None = None, **start: Any) -> Summary:
        """
        Start, wait, shut down.

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
            A source or an analyzer failed, or did not stop.
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

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._running:
            self.shutdown()


def _checked_delay(seconds: float) -> float:
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"analyzer_delay is {seconds}; expected seconds, 0 or more")
    return float(seconds)
