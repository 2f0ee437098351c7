"""Recordings that the tests of reports are made of, and how they look into a page."""

import json
import re

from cli_helpers import call, datagram, participants, strict_json, telemetry, write_recording

HTML = "</script><script>alert(1)//"  # as long a name as the game sends
FRAME = 0.25  # [s]


def lap_data(time, *laps, year=2026):
    """The packet with each car's lap."""
    packet = datagram(2, time, year)
    packet["lap_data"]["current_lap_num"][0, : len(laps)] = laps
    packet["lap_data"]["result_status"][0, : len(laps)] = 2  # racing
    return packet.tobytes()


def short_race(path, *drivers, seconds=45):
    """A recording of cars whose laps take 10 s, each a second behind the one before; car 0 passes 340 km/h once."""
    drivers = drivers or ("ANN", "BOB")
    rows = [(0.0, participants(0.0, *drivers))]
    for frame in range(int(seconds / FRAME)):
        time = frame * FRAME
        behind = [max(0.0, time - car) for car in range(len(drivers))]
        speeds = [200 + 10 * car + (150 if car == 0 and 22 <= at % 30 < 24 else 0) for car, at in enumerate(behind)]
        rows.append((time, lap_data(time, *(int(at // 10) + 1 for at in behind))))
        rows.append((time, telemetry(time, *speeds)))
    return write_recording(path, rows)


def report(path, *options):
    """The run of `f1buf report --json`."""
    return call("report", path, "--json", *options)


def page_of(path, page, *options, status=0):
    """Write the page; return its text and the data in it."""
    call("report", path, "-o", page, *options).ended(status)
    text = page.read_text(encoding="utf-8")
    return text, embedded(text)


def embedded(text):
    """The data in a page, as a browser finds it: up to the first end of a script."""
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    return strict_json(found[1])


def traces(data):
    """By sensor and channel the values of each series, in the order of their times."""
    found = {}
    for each in data["series"]:
        name = data["channels"][each["channel"]]["name"]
        points = [
            point
            for stretch in each["stretches"]
            for point in zip(data["times"][stretch["t"]], stretch["v"], strict=True)
        ]
        found[each["sensor"], name] = sorted(points, key=lambda point: point[0])
    return found


def without_times(data):
    """What two reports of the same recording must have in common."""
    changing = ("made", "seconds", "readings_per_s", "latency_s", "buffer")
    return json.loads(json.dumps({name: value for name, value in data.items() if name not in changing}))
