"""What a sub-command feeds the telemetry system with, and why input may be of no use."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from f1buf.telemetry import Analyzer
from f1buf.telemetry.sources import Source


class Durable(Protocol):
    """A source that keeps what was done, see `f1buf.telemetry.nats.subscriber.Subscriber`."""

    keeper: Any

    @property
    def files(self) -> dict[str, Any]:
        """What is known of files of earlier runs."""

    @property
    def analysis(self) -> dict[str, Any]:
        """Where the analysis of an earlier run stood."""


@dataclass(frozen=True)
class Feed:
    """The sources of a run, and what is known of their input while they run and afterwards."""

    name: str  # for people
    sources: Sequence[Source]
    describe: Callable[[int, int], dict[str, Any]] | None = None  # for `F1TelemetrySystem.start`
    analyzer: type[Analyzer] = Analyzer
    rejected: Callable[[], dict[str, int]] = dict  # how many datagrams, frames or rows were unfit, by reason
    lost_elsewhere: Callable[[], dict[str, int]] = dict  # how many never came to this machine, by where they were lost
    item: str = "datagram"  # what `lost_here` counts
    lost_here: Callable[[], dict[str, int]] = dict  # how many this machine lost before a source had them, by where
    details: Callable[[], dict[str, Any]] = dict  # further keys of the JSON summary
    lines: Callable[[], Iterable[str]] = tuple  # further lines of the summary for people
    notices: Callable[[], Iterable[str]] = tuple  # lines that people should see now
    notes: Callable[[], list[str]] = list  # sentences about the input, in both summaries
    durable: Durable | None = None  # the source, where later runs are to go on behind what this one has done
    unusable: Callable[[], str | None] = lambda: None  # why input that was read to its end gave no reading


def added_up(*counters: Mapping[str, int]) -> dict[str, int]:
    """Return the sums of counters; other threads may count meanwhile, so each is copied in one step first."""
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(dict(counter))
    return dict(total)


ADVICE = {
    "no database entry": "is the database another car's, or of J1939 (--j1939)?",
    "not asked for": "see --channels and --ids",
    "car not there": "no car that --cars names is there; without --cars every car is read",
    "no cars": "the game says that there is no car in its session",
    "nobody plays": "the session is watched; without --cars player every car is read",
    "other session": "another session is heard, not the one chosen; without --session every one is read, and named",
}
"""What helps where nothing could be used, by the commonest reason."""


def commonest(rejected: Mapping[str, int]) -> str:
    """Return the commonest reason; empty where there is none."""
    return max(rejected, key=rejected.__getitem__, default="")


def why_unusable(item: str, rejected: Mapping[str, int]) -> str:
    """Say why no reading came of a file's datagrams, frames or readings."""
    reason = commonest(rejected)
    if not reason:
        return f"there is no reading in it: it holds no {item} that means something"
    said = f"no {item} in it could be used: {rejected[reason]:,} x {reason}"
    return f"{said}; {ADVICE[reason]}" if reason in ADVICE else said
