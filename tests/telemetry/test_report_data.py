"""What a report keeps of the readings: statistics, thinned traces, laps, what stands out."""

import itertools
import json
import math

import numpy as np
import pytest
from cli_helpers import CHANNELS, Given, mixed_stream, pieces, readings
from helpers import Task

from f1buf import READING
from f1buf.telemetry import ENGINE_TEMP, SPEED, Channel, F1TelemetrySystem, Threshold
from f1buf.telemetry.report import Gatherer, KeptAlerts, data, gather, outliers, report_data
from f1buf.telemetry.report.outliers import Sample, Spikes, stand_out
from f1buf.telemetry.report.thin import LEAST_POINTS, points_each, thinned


def gathered(*batches, describe=None):
    gatherer = Gatherer(describe)
    for batch in batches:
        gatherer.add(batch)
    return gatherer


def reported(*batches, describe=None, thresholds=(), **further):
    """The report's data of these readings, through the system."""
    alerts, gatherer = KeptAlerts(), Gatherer(describe)
    system = F1TelemetrySystem(1000, thresholds=thresholds, on_alert=alerts.add)
    system.start([Given(*batches)], describe=describe, consumers=[gatherer])
    system.wait()
    made = report_data(gatherer, alerts, system.shutdown(), **further)
    return json.loads(json.dumps(made, allow_nan=False))


def car_readings(times, speeds, flags=0, car=0):
    out = np.zeros(len(times), READING)
    out["timestamp"], out["value"] = times, speeds
    out["sensor_id"], out["channel"], out["flags"] = car, SPEED.number, flags
    return out


def by_lap(sensor_id, flags):
    """The lap is in the flags."""
    return {"car": sensor_id, "driver": f"D{sensor_id}", "lap": flags or None}


# Thinner traces -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [7, 100, 5000])
@pytest.mark.parametrize("most", [LEAST_POINTS, 7, 50])
def test_a_thinned_trace_has_the_extremes_of_each_piece(count, most):
    rng = np.random.default_rng(count)
    points = np.stack([np.sort(rng.random(count)), rng.standard_normal(count), np.arange(count)])
    thin = thinned(points, most)
    assert thin.shape[1] <= most
    kept = thin[2].astype(int)
    assert np.array_equal(points[:, kept], thin)
    assert kept[0] == 0
    assert kept[-1] == count - 1
    assert np.all(np.diff(kept) > 0)
    times, values = points[0], points[1]
    ends = np.linspace(times[0], times[-1], (most - 2) // 2 + 1)
    for begin, end in itertools.pairwise(ends):
        inside = values[(times >= begin) & (times < end)] if end < times[-1] else values[times >= begin]
        if len(inside):
            assert inside.min() in thin[1]
            assert inside.max() in thin[1]


def test_short_traces_stay_as_they_are_and_those_of_one_moment_become_thin():
    points = np.stack([np.zeros(100), np.arange(100.0)])
    assert thinned(points, 100) is points
    thin = thinned(points, 10)
    assert thin.shape[1] <= 10
    assert (thin[1].min(), thin[1].max()) == (0, 99)


@pytest.mark.parametrize("counts", [[], [5], [10, 20, 30], [1000] * 7, [1, 1, 1, 10_000]])
def test_short_traces_leave_their_points_to_the_others(counts):
    each = points_each(counts, 60)
    together = sum(min(count, each) for count in counts)
    assert together <= 60 or each == LEAST_POINTS
    assert together == sum(counts) or sum(min(count, each + 1) for count in counts) > 60


# What stands out ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 1000, 50_000])
def test_a_sample_is_every_nth_value_however_it_came(size):
    values = np.random.default_rng(1).random(50_000)
    sample = Sample()
    for piece in pieces(values, size) if size > 1 else [*pieces(values[:9000], 1), values[9000:]]:
        sample.add(piece)
    assert sample.every == 8
    assert np.array_equal(sample.values, values[::8])


def spikes(values, *sizes):
    found = Spikes()
    for start, end in itertools.pairwise(np.cumsum([0, *sizes, len(values)]).tolist()):
        found.add(np.stack([np.arange(len(values))[start:end], values[start:end]]))
    return found


@pytest.mark.parametrize("sizes", [(), (1, 1, 1), (7, 40), (0, 51, 1, 1)])
def test_spikes_are_the_readings_alone_however_they_came(sizes):
    values = np.repeat(np.arange(20.0), 10)
    values[[50, 51, 60, 100]] = 90.0, 91.0, 95.0, -80.0  # the first two are not alone
    values[[0, 199]] = 500.0  # the ends have one neighbour only
    assert spikes(values, *sizes).beyond(10.0) == ([[60, 95], [100, -80]], False)
    assert spikes(values, *sizes).beyond(30.0) == ([], False)


def test_of_many_spikes_the_largest_are_kept():
    values = np.zeros(1000)
    values[1:991:3] = np.arange(1, 331)
    found, more = spikes(values, 300, 100).beyond(1.0)
    assert more
    assert [value for _, value in found] == list(range(331 - outliers.KEPT, 331))


def test_a_braking_is_no_outlier_and_a_reading_alone_is_one():
    braking = np.concatenate([np.full(900, 300.0), np.linspace(300, 80, 50), np.linspace(80, 300, 50)])
    faulty = np.full(1000, 110.0)
    faulty[500] = 0.0
    said = reported(car_readings(np.arange(1000), braking), car_readings(np.arange(1000), faulty, car=1))
    assert [each["outliers"] for each in said["series"]] == [[], [[500, 0]]]


@pytest.mark.parametrize(
    ("means", "odd"),
    [
        ([100, 101, 102, 103, 150], [4]),
        ([110] * 21 + [114], [21]),
        ([110] * 22, []),
        ([1, 2, 3, 400], []),  # too few to say
        ([], []),
    ],
)
def test_means_that_stand_out(means, odd):
    assert [place for place, stands_out in enumerate(stand_out(means)) if stands_out] == odd


def test_a_report_tells_outliers_and_unlike_means():
    values = np.tile([1.0, 2.0, 3.0, 4.0], 50)
    values[77] = 40.0
    said = reported(*(car_readings(np.arange(200.0), values + 100 * (car == 3), car=car) for car in range(6)))
    assert [each["outliers"] for each in said["series"]] == [[[77.0, 40.0 + 100 * (car == 3)]] for car in range(6)]
    assert [each["stands_out"] for each in said["series"]] == [False, False, False, True, False, False]


# The gatherer ---------------------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_readings():
    stream = mixed_stream(20_000)
    said = reported(*pieces(stream, 700))
    assert said["readings"] == sum(each["readings"] for each in said["series"]) == 20_000
    names = [channel["name"] for channel in said["channels"]]
    for each in said["series"]:
        channel = CHANNELS[[channel.name for channel in CHANNELS].index(names[each["channel"]])]
        its = stream[(stream["sensor_id"] == each["sensor"]) & (stream["channel"] == channel.number)]
        fit = its[np.isfinite(its["value"])]
        values = fit["value"]
        assert (each["readings"], each["unfit"]) == (len(its), len(its) - len(fit))
        assert each["low"]["value"] == values.min()
        assert each["high"]["value"] == values.max()
        assert each["low"]["time"] == fit["timestamp"][values.argmin()]
        assert each["high"]["time"] == fit["timestamp"][values.argmax()]
        assert each["mean"] == pytest.approx(values.mean(), rel=1e-12)
        assert each["deviation"] == pytest.approx(values.std(), rel=1e-9)
        assert each["quartiles"] == np.percentile(values, (25, 50, 75)).tolist()
        assert each["pause"]["seconds"] == np.diff(fit["timestamp"]).max()
        [stretch] = each["stretches"]
        assert stretch["v"] == values.tolist()
        assert said["times"][stretch["t"]] == fit["timestamp"].tolist()


def test_it_does_not_matter_how_the_stream_was_cut():
    stream = mixed_stream(3000)
    whole = gathered(stream)
    for size in (1, 17, 1000):
        cut = gathered(*pieces(stream, size))
        for one, other in zip(whole.series, cut.series, strict=True):
            assert (one.sensor_id, one.channel, one.readings, one.low, one.high, one.pause) == (
                *(other.sensor_id, other.channel, other.readings, other.low, other.high, other.pause),
            )
            assert other.mean == pytest.approx(one.mean)
            assert np.array_equal(one.stretches[None].points, other.stretches[None].points)


def test_many_readings_are_thinned_and_all_else_is_of_all_of_them(monkeypatch):
    monkeypatch.setattr(gather, "MOST_POINTS", 1000)
    monkeypatch.setattr(gather, "THINNED_POINTS", 200)
    values = np.random.default_rng(1).standard_normal(30_000)
    values[[3, 29_990]] = -50.0, 60.0
    gatherer = gathered(*pieces(readings(values), 100))
    [series] = gatherer.series
    assert gatherer.is_thinned
    assert series.stretches[None].held <= 1000
    trace = series.stretches[None].points[1]
    assert (trace.min(), trace.max()) == (-50, 60)
    assert np.isin(trace, values).all()
    assert series.readings == 30_000
    assert series.mean == pytest.approx(values.mean())


def test_more_series_than_a_page_can_show(monkeypatch):
    monkeypatch.setattr(gather, "MOST_SERIES", 5)
    said = reported(readings(np.arange(100.0), sensors=10))
    assert (said["readings"], said["left_out"], len(said["series"])) == (100, 50, 5)


def test_readings_of_no_channel_are_counted():
    stream = readings(np.arange(10.0))
    stream["channel"][3:5] = 0, 65_535
    said = reported(stream)
    assert (said["readings"], said["of_no_channel"], said["series"][0]["readings"]) == (10, 2, 8)


def test_what_no_chart_can_show_is_counted_and_left_out():
    stream = readings([1.0, math.nan, 2.0, math.inf, 1e200, 3.0])
    stream["timestamp"][-1] = math.nan
    said = reported(stream)
    [series] = said["series"]
    assert (series["readings"], series["unfit"]) == (6, 4)
    assert series["stretches"][0]["v"] == [1.0, 2.0]
    [nothing] = reported(readings([math.nan]))["series"]
    assert nothing["unfit"] == 1
    assert "stretches" not in nothing


def test_no_reading_at_all():
    said = reported()
    assert (said["readings"], said["series"], said["time"], said["laps"]) == (0, [], None, [])


def test_times_that_go_back_are_put_in_order_and_counted():
    said = reported(car_readings([0, 1, 2, 1.5, 3], [1, 2, 3, 4, 5]))
    [series] = said["series"]
    assert series["backwards"] == 1
    assert said["times"][0] == [0, 1, 1.5, 2, 3]
    assert series["stretches"][0]["v"] == [1, 2, 4, 3, 5]


def test_series_with_the_same_times_share_them():
    said = reported(*(car_readings(np.arange(10.0), np.arange(10.0), car=car) for car in range(4)))
    assert len(said["times"]) == 1


def test_the_gatherer_as_a_consumer():
    gatherer = Gatherer()
    task = Task(gatherer.run)
    gatherer.ring.put_many(readings(np.arange(100.0)))
    gatherer.ring.shutdown()
    task.result()
    assert gatherer.readings == 100


# Cars and laps --------------------------------------------------------------------------------------------------------

FRAME = 0.5  # [s]


def laps(*ends, speed=180.0):
    """Readings of a car at a steady speed, whose laps end at these times."""
    times = np.arange(0, ends[-1] + FRAME / 2, FRAME)
    flags = np.searchsorted(ends, times, side="right") + 1
    return car_readings(times, np.full(len(times), speed), flags)


def test_a_lap_lasts_until_the_next_one_begins():
    said = reported(laps(10, 25, 45.5), describe=by_lap)["laps"]
    assert [lap["lap"] for lap in said] == [1, 2, 3, 4]
    assert [lap["begin_heard"] for lap in said] == [False, True, True, True]
    assert [(lap.get("seconds"), lap.get("within")) for lap in said] == [
        (None, None),
        (15, 0.5),
        (20.5, 0.5),
        (None, None),
    ]
    assert [lap["first"] for lap in said] == [0, 10, 25, 45.5]
    assert [lap["readings"] for lap in said] == [20, 30, 41, 1]
    assert [lap["top_speed"] for lap in said] == [180] * 4
    assert [lap["distance"] for lap in said] == [50 * 9.5, 50 * 14.5, 50 * 20, 0]  # to the last reading, at 50 m/s


def test_a_lap_after_one_that_was_not_heard():
    stream = laps(10, 25, 45)
    said = reported(stream[stream["flags"] != 2], describe=by_lap)["laps"]
    assert [(lap["lap"], lap["begin_heard"], "seconds" in lap) for lap in said] == [
        *((1, False, False), (3, False, False), (4, True, False)),
    ]


def test_distances_go_on_from_batch_to_batch_and_no_faulty_speed_moves_a_car():
    times = np.arange(0, 10, 0.1)
    speeds = np.linspace(0, 300, len(times))
    stream = car_readings(times, speeds, flags=1)
    whole, cut = (
        gathered(*batches, describe=by_lap).series[0].stretches[1].points[2]
        for batches in ([stream], pieces(stream, 7))
    )
    assert np.allclose(whole, cut)
    assert np.allclose(whole, np.append(0, np.cumsum(np.diff(times) * (speeds[1:] + speeds[:-1]) / 2 / 3.6)))
    stream["value"][50] = 1e50
    stream["value"][60] = -1e50
    [series] = reported(stream, describe=by_lap)["series"]
    assert series["stretches"][0]["d"][-1] < 2 * whole[-1]


def test_laps_get_more_of_the_points_than_other_traces(monkeypatch):
    monkeypatch.setattr(data, "MOST_POINTS", 400)
    engine = laps(500, 1000)
    engine["channel"] = ENGINE_TEMP.number
    others = [np.array(engine) for _ in range(9)]
    for place, each in enumerate(others):
        each["sensor_id"] = 100 + place
    said = reported(laps(500, 1000), *others, describe=by_lap)
    kept = [sum(len(stretch["v"]) for stretch in each["stretches"]) for each in said["series"]]
    assert sum(kept) <= 400
    assert kept[0] > 5 * max(kept[1:])


def test_cars_messages_and_sensors():
    def said(*described):
        found = reported(
            readings([1.0] * len(described), sensors=len(described)), describe=lambda sensor, _: described[sensor]
        )
        return found["subjects"]["kind"], [item["label"] for item in found["subjects"]["items"]]

    assert said({}, {}) == ("sensor", ["sensor 0", "sensor 1"])
    assert said({"part": "ENGINE"}, {"part": "BODY (can1)"}) == ("message", ["BODY (can1)", "ENGINE"])
    assert said({"car": 3, "driver": "ANN"}, {"car": 1, "driver": None}) == ("car", ["car 1", "3 ANN"])
    two = {"car": 1, "driver": "ANN", "session": 71111, "several": True}, {"car": 1, "driver": "ANN", "session": 72222}
    assert said(*two) == ("car", ["1 ANN (1111)", "1 ANN (2222)"])


def test_channels_of_one_name_and_two_units_are_two():
    other = Channel("SPEED", "mph")
    said = reported(readings([1.0]), readings([2.0], other))
    assert [(each["name"], each["unit"]) for each in said["channels"]] == [("SPEED", "km/h"), ("SPEED", "mph")]


# Alerts ---------------------------------------------------------------------------------------------------------------


def test_the_first_alerts_are_kept_and_all_are_counted(monkeypatch):
    monkeypatch.setattr(data, "MOST_ALERTS", 3)
    stream = car_readings(np.arange(20.0), np.tile([0.0, 10.0], 10), flags=np.repeat([1, 2], 10))
    said = reported(stream, describe=by_lap, thresholds=[Threshold("SPEED", above=5.0, message="Fast")])
    assert said["alert_count"] == 10
    assert [alert["position"] for alert in said["alerts"]] == [1, 3, 5]
    assert [lap["alerts"] for lap in said["laps"]] == [5, 5]
