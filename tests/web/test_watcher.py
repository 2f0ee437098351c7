"""What the live page takes in at one look."""

import numpy as np
from cli_helpers import readings

from f1buf import READING, RingBuffer
from f1buf.web.watcher import _SLICE, Watcher


def watcher(capacity):
    ring = RingBuffer(capacity, READING, overflow="drop_oldest")
    return ring, Watcher(ring, lambda *_: {}, (), "", dict)


def test_a_look_takes_all_that_has_come_in_slices_of_one_result():
    count = 2 * _SLICE + 5
    stream = readings(np.random.default_rng(1).random(count), sensors=7)
    stream["timestamp"] = np.arange(count) * 1e-3  # a few seconds: all of it is kept
    ring, its = watcher(4 * _SLICE)
    ring.put_many(stream)
    its.look()
    assert (its.shown, len(ring)) == (count, 0)
    latest = {series.sensor_id: its.traces.latest[row] for row, series in its.traces.series.items()}
    assert latest == {one["sensor_id"]: one["value"] for one in stream}
    for row, series in its.traces.series.items():
        values = stream["value"][stream["sensor_id"] == series.sensor_id]
        course = its.traces.course(row, 0, 1 << 50)
        assert (course.low.min(), course.high.max()) == (values.min(), values.max())


def test_a_look_ends_however_fast_readings_come(monkeypatch):
    ring, its = watcher(2 * _SLICE)
    take, taken = its.traces.take, []

    def take_while_more_comes(some, now):
        taken.append(len(some))
        take(some, now)
        ring.put_many(readings(np.zeros(_SLICE)))

    monkeypatch.setattr(its.traces, "take", take_while_more_comes)
    ring.put_many(readings(np.zeros(_SLICE)))
    its.look()
    assert taken == [_SLICE] * 2


def test_a_look_is_of_a_new_revision_even_if_nothing_came():
    _, its = watcher(8)
    its.look()
    before = its.traces.revision
    its.look()
    assert its.traces.revision == before + 1
