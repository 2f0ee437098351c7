"""What the live page knows of each series, against a plain model that looks at one reading at a time."""

import math

import numpy as np
import pytest
from cli_helpers import pieces, readings
from hypothesis import given
from hypothesis import strategies as st

from f1buf import READING
from f1buf.telemetry import FUEL_LEVEL, SPEED, TIRE_PRESSURE
from f1buf.web import traces as module
from f1buf.web.traces import PER_SECOND, Traces


class Model:
    """The same, as its docstring says it."""

    def __init__(self):
        self.latest, self.courses, self.heads = {}, {}, {}

    def take(self, stream):
        for at, sensor, channel, _flags, value in stream.tolist():
            key = sensor, channel
            self.latest[key] = value
            if not (math.isfinite(at) and abs(at) < 1e14 and math.isfinite(value)):
                continue
            number = math.floor(at * PER_SECOND)
            course = self.courses.setdefault(key, {})
            if number < self.heads.get(key, number) - PER_SECOND:
                self.courses[key] = course = {n: ends for n, ends in course.items() if n <= number}
                self.heads[key] = number
            self.heads[key] = max(self.heads.get(key, number), number)
            low, high = course.get(number, (value, value))
            course[number] = min(low, value), max(high, value)


def stream_of(rows):
    stream = np.zeros(len(rows), READING)
    channels = (SPEED.number, TIRE_PRESSURE.number)
    for record, (at, sensor, channel, value) in zip(stream, rows, strict=True):
        record["timestamp"], record["sensor_id"], record["channel"], record["value"] = (
            at,
            sensor,
            channels[channel],
            value,
        )
    return stream


def course_of(traces, row):
    course = traces.course(row, -(2**60), 2**60)
    return {n: ends for n, *ends in zip(*(part.tolist() for part in course), strict=True)}


TIMES = st.one_of(
    st.integers(0, 60).map(lambda n: n / 25),  # goes back and forth by more than a second, and less
    st.floats(0, 20),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e300, -3.05, 1e9]),
)
VALUES = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([math.nan, math.inf, -math.inf]))


@given(
    st.lists(st.tuples(TIMES, st.integers(0, 3), st.integers(0, 1), VALUES), max_size=60),
    st.integers(1, 60),
    st.booleans(),
)
def test_courses_and_latest_values_are_those_of_the_readings(rows, size, ordered):
    if ordered:  # as nearly all streams are
        rows = sorted(rows, key=lambda row: (math.isnan(row[0]), row[0]))
    stream, traces, model = stream_of(rows), Traces(), Model()
    for piece in pieces(stream, size):
        traces.take(piece, 0.0)
        model.take(piece)
    found = {(series.sensor_id, series.channel.number): row for row, series in traces.series.items()}
    assert found.keys() == model.latest.keys()
    for key, row in found.items():
        np.testing.assert_equal(traces.latest[row], model.latest[key])
        newest = model.heads.get(key, 0)
        kept = {n: list(ends) for n, ends in model.courses.get(key, {}).items() if n > newest - traces.depth}
        shown = {n: ends for n, ends in course_of(traces, row).items() if n > newest - traces.depth}
        assert shown == kept


@given(st.lists(st.tuples(st.floats(0, 9), st.integers(0, 2), st.just(0), VALUES), max_size=40), st.integers(1, 9))
def test_the_news_make_of_an_older_state_the_newest_one(rows, size):
    traces, known, since = Traces(), {}, 0
    for count, piece in enumerate(pieces(stream_of(rows), size)):
        traces.take(piece, 0.0)
        if count % 2:
            continue  # a browser that skips
        for row in traces.series:
            news = traces.news(row, since)
            if news is None:
                known[row] = course_of(traces, row)
            else:
                known[row] |= {n: ends for n, *ends in zip(*(part.tolist() for part in news), strict=True)}
            assert known[row] == course_of(traces, row)
        since = traces.revision


def test_no_peak_is_missed_however_many_readings_a_bucket_has():
    traces = Traces()
    stream = readings(np.zeros(10_000))
    stream["timestamp"] = 5.0
    stream["value"][[17, 9_000]] = 400.0, -1.0
    traces.take(stream, 0.0)
    assert course_of(traces, 0) == {50: [-1.0, 400.0]}
    traces.take(stream[:17], 0.0)  # the bucket goes on in the next batch
    assert course_of(traces, 0) == {50: [-1.0, 400.0]}


def test_the_oldest_buckets_make_room():
    traces = Traces()
    for start in range(0, 1200, 100):
        traces.take(readings(np.arange(100), start=start), 0.0)  # one a second
    numbers = list(course_of(traces, 0))
    assert len(numbers) == traces.depth // PER_SECOND
    assert numbers[-1] == 1199 * PER_SECOND


def test_memory_is_bounded_however_many_series_there_are(monkeypatch):
    monkeypatch.setattr(module, "MOST_SERIES", 256)
    monkeypatch.setattr(module, "_CELLS", 64 * 600)
    traces = Traces()
    for start in range(0, 400, 40):
        stream = readings(np.ones(40))
        stream["sensor_id"] = np.arange(start, start + 40)
        traces.take(stream, 0.0)
    assert (len(traces.series), traces.left_out) == (256, 400 - 256)
    assert traces.depth == 600
    assert all(course_of(traces, row) for row in traces.series)  # what came before there were so many is still there


def test_sessions_have_clocks_of_their_own_and_are_forgotten_when_they_are_over():
    traces = Traces(lambda sensor, flags: {"session": sensor // 10, "car": sensor % 10})
    stream = readings(np.ones(4), start=100)
    stream["sensor_id"] = 11, 12, 21, 22
    stream["timestamp"] = 100.0, 101.0, 5.0, 5.5
    traces.take(stream, 0.0)
    assert traces.clocks == {1: 1010, 2: 55}
    since = traces.revision
    for now in (30.0, 61.0):
        stream = stream[2:] if len(stream) == 4 else stream
        stream["timestamp"] += 30.0
        traces.take(stream, now)
        traces.refresh()
    assert traces.clocks == {2: 655}
    assert {series.sensor_id for series in traces.series.values()} == {21, 22}
    assert sorted(traces.gone) == [0, 1]
    assert min(traces.gone.values()) > since
    other = readings([7.0], FUEL_LEVEL)
    other["sensor_id"], other["timestamp"] = 31, 200.0
    traces.take(other, 62.0)  # takes a free row, without the buckets that were there
    (row,) = (row for row, series in traces.series.items() if series.sensor_id == 31)
    assert row in (0, 1)
    assert course_of(traces, row) == {2000: [7.0, 7.0]}
    assert traces.news(row, since) is None


def test_a_session_that_was_rewound_goes_on_from_there():
    traces = Traces()
    stream = readings(np.arange(30.0))
    traces.take(stream, 0.0)
    since = traces.revision
    traces.take(stream[10:12], 0.0)
    assert traces.clocks == {None: 110}
    assert list(course_of(traces, 0)) == list(range(0, 120, 10))
    assert traces.news(0, since) is None


def test_what_is_known_of_a_sensor_is_asked_anew_when_a_reading_says_so():
    traces = Traces(lambda sensor, flags: {"driver": f"driver {flags}", "car": 0})
    stream = readings([1.0])
    traces.take(stream, 0.0)
    since = traces.revision
    stream["flags"] = 3
    traces.take(stream, 0.1)
    traces.refresh()
    assert traces.series[0].about["driver"] == "driver 3"
    assert traces.told[0] > since


@pytest.mark.parametrize("number", [0, 65_535])
def test_a_channel_that_nobody_knows_is_counted(number):
    traces = Traces()
    stream = readings([1.0, 2.0])
    stream["channel"][0] = number
    traces.take(stream, 0.0)
    assert (traces.left_out, len(traces.series)) == (1, 1)
