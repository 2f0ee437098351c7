"""Recordings in SQLite: what is read, what is refused, and the real recording against its known answers."""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from f1buf.telemetry.channels import ENGINE_TEMP, FUEL_LEVEL, G_FORCE, SPEED, TIRE_PRESSURE
from f1buf.telemetry.sources import RecordingError
from f1buf.telemetry.sources.game.decoder import Decoder
from f1buf.telemetry.sources.game.recording import open_recording

# As f1-2020-telemetry creates it, but for NOT NULL, so that broken rows can be written.
SCHEMA = """
    CREATE TABLE packets (
        pkt_id INTEGER PRIMARY KEY, timestamp REAL, packetFormat INTEGER, gameMajorVersion INTEGER,
        gameMinorVersion INTEGER, packetVersion INTEGER, packetId INTEGER, sessionUID CHAR(16), sessionTime REAL,
        frameIdentifier INTEGER, playerCarIndex INTEGER, packet BLOB
    )
"""
Row = tuple[Any, Any, Any]  # pkt_id, timestamp, packet


def database(path: Path, schema: str, rows: Iterable[Row] = (), after: str = "", pragmas: Iterable[str] = ()) -> Path:
    """Write a recording of these rows."""
    connection = sqlite3.connect(path)
    connection.executescript("".join(f"PRAGMA {pragma};" for pragma in pragmas))
    connection.execute(schema)
    connection.executemany("INSERT INTO packets (pkt_id, timestamp, packet) VALUES (?, ?, ?)", rows)
    connection.commit()
    connection.executescript(after)
    connection.close()
    return path


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a recording of given rows, in a folder of its own."""

    def write(rows: Iterable[Row], name: str = "a recording?#%.sqlite3", *pragmas: str) -> Path:
        return database(tmp_path / name, SCHEMA, rows, pragmas=pragmas)

    return write


def refusal(path: Path) -> str:
    """The message, without the path, with which a file is refused."""
    before = sorted(path.parent.iterdir()) if path.parent.is_dir() else None
    with pytest.raises(RecordingError) as caught:
        open_recording(path)
    if before is not None:
        assert sorted(path.parent.iterdir()) == before
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


# What is read --------------------------------------------------------------------------------------------------------


def test_rows_come_in_recorded_order(make):
    path = make([(3, 2.0, b"third"), (1, 5, b"first"), (2, 2.5, b"")])
    with open_recording(str(path)) as recording:
        assert list(recording.datagrams()) == [(5.0, b"first"), (2.5, b""), (2.0, b"third")]
        assert list(recording.datagrams()) != []  # again from the start
        assert recording.count == 3
        assert not recording.rejected
        assert recording.path == path
    assert list(path.parent.iterdir()) == [path]


def test_unreadable_rows_are_counted_not_fatal(make):
    rows = [
        (1, 1.0, b"good"),
        (2, 1.0, "text"),
        (3, 1.0, None),
        (4, 1.0, 17),
        (5, None, b"x"),
        (6, "soon", b"x"),
        (7, float("inf"), b"x"),
        (8, b"1.0", b"x"),
        (9, 2.0, b"good"),
    ]
    path = make(rows)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE packets SET packet = CAST(x'ff41' AS TEXT) WHERE pkt_id = 2")  # no UTF-8
    connection.close()
    with open_recording(path) as recording:
        assert list(recording.datagrams()) == [(1.0, b"good"), (2.0, b"good")]
        assert recording.rejected == {"unreadable row": 7}
        assert recording.count == 9


def test_empty_recording(make):
    with open_recording(make([])) as recording:
        assert list(recording.datagrams()) == []
        assert recording.count == 0


def test_rows_are_streamed(make):
    with open_recording(make((n, n, bytes(1000)) for n in range(1000))) as recording:
        rows = recording.datagrams()
        assert next(rows) == (0.0, bytes(1000))
        rows.close()


def test_one_thread_opens_another_iterates(make):
    found: list[Any] = []
    with open_recording(make([(1, 1.0, b"a")])) as recording:
        thread = threading.Thread(target=lambda: found.extend(recording.datagrams()))
        thread.start()
        thread.join()
    assert found == [(1.0, b"a")]


def test_nothing_is_written_beside_a_recording_in_wal_mode(make):
    path = make([(1, 1.0, b"a")], "wal.sqlite3", "journal_mode=WAL")
    contents = path.read_bytes()
    assert list(path.parent.iterdir()) == [path]
    with open_recording(path) as recording:
        assert list(recording.datagrams()) == [(1.0, b"a")]
        assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == contents


def test_a_zeroed_journal_does_not_matter(make):
    path = make([(1, 1.0, b"a")], "persist.sqlite3", "journal_mode=PERSIST")
    assert path.with_name("persist.sqlite3-journal").exists()
    with open_recording(path) as recording:
        assert recording.count == 1


# What is missing, and told ------------------------------------------------------------------------------------------


def read(path: Path) -> tuple[list[tuple[float, bytes]], dict[str, int], list[tuple[int, int]]]:
    with open_recording(path) as recording:
        rows = list(recording.datagrams())
        assert recording.count == len(rows)
        return rows, dict(recording.rejected), recording.gaps


ROW = "pkt_id INTEGER PRIMARY KEY, timestamp REAL, packet BLOB"
PLAIN = f"CREATE TABLE packets ({ROW})"
WITHOUT_ROWID = f"{PLAIN} WITHOUT ROWID"
AUTOINCREMENT = PLAIN.replace("KEY", "KEY AUTOINCREMENT", 1)
UNTYPED = "CREATE TABLE packets (pkt_id, timestamp, packet)"
BY_INDEX = "CREATE TABLE packets (pkt_id INT PRIMARY KEY, timestamp, packet)"
BY_NUMBER = [
    PLAIN,
    WITHOUT_ROWID,
    AUTOINCREMENT,
    UNTYPED,
    BY_INDEX,
    "CREATE TABLE packets (pkt_id REAL, timestamp, packet)",
]


@pytest.mark.parametrize("schema", BY_NUMBER)
@pytest.mark.parametrize(
    ("ids", "missing"),
    [
        ([1, 2, 3], []),
        ([0, 1], []),
        ([-2, -1, 0, 1], []),
        ([-5, 1], [(-4, 0)]),
        ([-5, -4], []),
        ([4, 5], [(1, 3)]),
        ([1, 3, 4, 9], [(2, 2), (5, 8)]),
        ([2**40], [(1, 2**40 - 1)]),
        ([], []),
    ],
)
def test_rows_whose_numbers_are_missing_are_counted(tmp_path, schema, ids, missing):
    rows, rejected, gaps = read(database(tmp_path / "gaps", schema, [(n, n, b"%d" % n) for n in ids]))
    assert [packet for _, packet in rows] == [b"%d" % n for n in ids]
    assert gaps == missing
    assert rejected == ({"missing row": sum(last - first + 1 for first, last in missing)} if missing else {})


def test_only_the_first_gaps_are_kept(tmp_path):
    _, rejected, gaps = read(database(tmp_path / "gaps", PLAIN, [(n, n, b"") for n in range(3, 90, 3)]))
    assert gaps == [(n, n + 1) for n in range(1, 31, 3)]
    assert rejected == {"missing row": 2 * 29}


@pytest.mark.parametrize(("schema", "missing"), [(PLAIN, 2), (AUTOINCREMENT, 4)])
def test_deleted_rows_are_counted_and_are_no_error(tmp_path, schema, missing):
    """Those at the end, too, if SQLite keeps the highest number."""
    path = database(
        tmp_path / "deleted",
        schema.replace("packets", "Packets"),
        [(n, n, bytes(900)) for n in range(1, 101)],
        "DELETE FROM packets WHERE pkt_id IN (7, 8, 99, 100)",
    )
    rows, rejected, gaps = read(path)
    assert len(rows) == 96
    assert rejected == {"missing row": missing}
    assert gaps == [(7, 8), (99, 100)][: missing // 2]


def test_all_rows_are_deleted(tmp_path):
    path = database(tmp_path / "deleted", AUTOINCREMENT, [(1, 1, b""), (2, 1, b"")], "DELETE FROM packets")
    assert read(path) == ([], {"missing row": 2}, [(1, 2)])


def test_odd_and_repeated_numbers_are_counted(tmp_path):
    """In a table without a primary key; no row is left out for its number."""
    ids = [None, 1, 2, 2, 2, 3, 3.5, 4, 1e300, float("inf"), "5", b"6"]
    rows, rejected, _ = read(database(tmp_path / "odd", UNTYPED, [(n, 1.0, b"row") for n in ids]))
    assert len(rows) == len(ids)
    assert rejected == {"repeated pkt_id": 2, "pkt_id is no whole number": 6}


def test_a_view_is_read_as_a_table(tmp_path):
    path = database(tmp_path / "view", PLAIN, [(1, 1.0, b"one"), (3, 3.0, b"three")])
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "ALTER TABLE packets RENAME TO all_of_them; CREATE VIEW packets AS SELECT * FROM all_of_them"
        )
    connection.close()
    assert read(path) == ([(1.0, b"one"), (3.0, b"three")], {"missing row": 1}, [(2, 2)])


def test_each_iteration_counts_anew(tmp_path):
    with open_recording(database(tmp_path / "twice", PLAIN, [(3, None, b""), (5, 1.0, b"")])) as recording:
        for _ in range(2):
            assert list(recording.datagrams()) == [(1.0, b"")]
            assert recording.rejected == {"missing row": 3, "unreadable row": 1}
            assert recording.gaps == [(1, 2), (4, 4)]


def displaced(path: Path, page: int, by: int, pages: int | None = None) -> bytearray:
    """The bytes of a recording of which a page lies in the place of another, and the end is cut off."""
    content = bytearray(path.read_bytes())
    content[page * 4096 : page * 4096 + 4096] = content[by * 4096 : by * 4096 + 4096]
    return content[: None if pages is None else pages * 4096]


@pytest.fixture
def small(make: Callable[..., Path]) -> Path:
    """The schema, a page that names the others, and four pages of three rows each."""
    rows = [(n, n, bytes(1200)) for n in range(1, 13)]
    path = make(rows, "small.sqlite3", "page_size=4096", "journal_mode=WAL")
    assert len(path.read_bytes()) == 6 * 4096
    return path


@pytest.mark.parametrize(("by", "missing"), [(2, []), (3, [(1, 3)]), (5, [(1, 9)])])
def test_a_page_of_rows_in_place_of_all_of_them(small, by, missing):
    """SQLite finds a sound database of three rows; nothing in the file says that there were more behind them."""
    content = displaced(small, 1, by, pages=2)
    content[28:32] = (2).to_bytes(4, "big")
    small.write_bytes(content)
    connection = sqlite3.connect(f"{small.as_uri()}?immutable=1", uri=True)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    rows, _, gaps = read(small)
    assert [int(time) for time, _ in rows] == [3 * by - 5, 3 * by - 4, 3 * by - 3]
    assert gaps == missing


# What is refused -----------------------------------------------------------------------------------------------------


def test_a_path_that_is_no_file_is_refused(tmp_path):
    assert refusal(tmp_path / "missing") == "No such file or directory; expected a recording, an SQLite database"
    assert refusal(tmp_path / "missing" / "too").startswith("No such file or directory")
    assert refusal(tmp_path).startswith("not a regular file")
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe").startswith("not a regular file")


@pytest.mark.parametrize("contents", [b"", b"SQLite", b"(1436509052.249713) vcan0 044#2A366C2BBA\n" * 10])
def test_no_sqlite(tmp_path, contents):
    path = tmp_path / "file"
    path.write_bytes(contents)
    assert refusal(path) == "not an SQLite database; expected a recording with a table 'packets'"


def test_sqlite_in_name_only(tmp_path):
    (tmp_path / "file").write_bytes(b"SQLite format 3\0" + bytes(5000))
    assert refusal(tmp_path / "file").startswith("damaged or unreadable database (reading its schema): ")


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (
            "CREATE TABLE laps (time)",
            "has no table 'packets'; expected a recording in the schema of f1-2020-telemetry "
            "(a CAN log needs --dbc FILE)",
        ),
        (
            "CREATE TABLE packets (PKT_ID INTEGER PRIMARY KEY, data BLOB)",
            "its table 'packets' has no column timestamp, packet; expected pkt_id, timestamp, packet",
        ),
    ],
)
def test_another_schema(tmp_path, schema, message):
    with sqlite3.connect(tmp_path / "file") as connection:
        connection.execute(schema)
    connection.close()
    assert refusal(tmp_path / "file") == message


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_recording_still_written_to(make, mode):
    path = make([(1, 1.0, b"a")], "live.sqlite3", f"journal_mode={mode}")
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA cache_spill = 1")
    writer.execute("PRAGMA cache_size = 1")
    writer.executemany("INSERT INTO packets (timestamp, packet) VALUES (1.0, ?)", [(bytes(9000),)] * 100)
    assert refusal(path).startswith("still written to, or not closed properly (live.sqlite3-")
    writer.rollback()
    writer.close()
    with open_recording(path) as recording:
        assert recording.count == 1


def damaged(path: Path) -> Path:
    """Overwrite every page but the first 20."""
    contents = bytearray(path.read_bytes())
    contents[20 * 4096 :] = b"\xa5" * (len(contents) - 20 * 4096)
    path.write_bytes(contents)
    return path


def test_damage_in_the_middle(make):
    path = damaged(make([(n, n, bytes(1000)) for n in range(500)], "damaged.sqlite3", "page_size=4096"))
    with open_recording(path) as recording:
        found: list[Any] = []
        with pytest.raises(RecordingError, match=r"damaged or unreadable database \(after row \d+\): ") as caught:
            found.extend(recording.datagrams())
        assert len(found) > 10
        assert f"after row {len(found)}" in str(caught.value)
        assert "\n" not in str(caught.value)
        with pytest.raises(RecordingError, match=r"counting its rows"):
            _ = recording.count


def test_a_damaged_schema_that_is_no_text(make):
    path = make([(1, 1.0, b"one")], "schema.sqlite3")
    contents = path.read_bytes()
    path.write_bytes(contents.replace(b"pkt_id", b"p[t\xff\xffd", 1))  # a bracket that is never closed
    with pytest.raises(RecordingError, match=r"damaged or unreadable database \(reading its schema\): "):
        open_recording(path)


def test_damage_that_no_single_row_shows_is_an_error_at_the_end(make):
    """A page of rows lies in the place of another, so that some rows come twice, and others not at all."""
    path = make([(n, n, bytes(1000)) for n in range(500)], "doubled.sqlite3", "page_size=4096")
    contents = bytearray(path.read_bytes())
    contents[20 * 4096 : 21 * 4096] = contents[30 * 4096 : 31 * 4096]
    path.write_bytes(contents)
    found: list[Any] = []
    with (
        open_recording(path) as recording,
        pytest.raises(RecordingError, match=r"damaged .*\(after row 500\): .*order") as caught,
    ):
        found.extend(recording.datagrams())
    twice = len(found) - len(set(found))
    assert 0 < twice < len(found) == 500
    assert str(caught.value).endswith(f"; of pkt_id 0 to 499, {twice} are missing and {twice} come twice")
    assert recording.rejected == {"missing row": twice, "repeated pkt_id": twice}


def test_truncated_file(make):
    path = make([(n, n, bytes(1000)) for n in range(500)])
    contents = path.read_bytes()
    for size in [*range(16, len(contents), 4096 * 7), len(contents) - 4096, len(contents) - 1]:
        path.write_bytes(contents[:size])
        with pytest.raises(RecordingError), open_recording(path) as recording:
            for _ in recording.datagrams():
                pass


@pytest.mark.parametrize("page_size", [4096, 65_536])  # of which the last is written as a 1
def test_a_header_with_fewer_pages_than_the_file(make, page_size):
    """SQLite reads as many pages as the header says; if these are whole trees, nothing else shows the loss."""
    rows = page_size // 200
    path = make([(n, n, bytes(1000)) for n in range(rows)], "short.sqlite3", f"page_size={page_size}")
    contents = bytearray(path.read_bytes())
    pages = len(contents) // page_size
    contents[28:32] = (pages - 1).to_bytes(4, "big")
    path.write_bytes(contents)
    assert refusal(path) == f"damaged: {pages} pages, expected {pages - 1} by its header; copy it again"
    contents[92:96] = bytes(4)  # as a program leaves it that does not fill in the number of pages
    path.write_bytes(contents)
    with open_recording(path) as recording:
        assert len([*recording.datagrams()]) == rows


@pytest.mark.parametrize("by", [2, 4])
def test_a_file_cut_short_whose_header_is_not_believed(small, by):
    """SQLite takes the file's size for the number of pages then, and what is left is sound."""
    content = displaced(small, 1, by, pages=2)
    content[24:28] = (77).to_bytes(4, "big")
    small.write_bytes(content)
    assert refusal(small) == "damaged: 2 pages, expected 6 by its header; copy it again"


def test_a_file_that_is_written_to_while_it_is_read(make):
    path = make([(n, n, bytes(1000)) for n in range(1, 50)], "live.sqlite3")
    with open_recording(path) as recording:
        rows = recording.datagrams()
        next(rows)
        with sqlite3.connect(path) as connection:
            connection.execute("INSERT INTO packets (timestamp, packet) VALUES (1.0, ?)", (bytes(9000),))
        connection.close()
        with pytest.raises(RecordingError, match=r"written to while it was read \(after row \d+\)"):
            list(rows)


@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_that_is_removed_while_it_is_read(make, replaced):
    path = make([(n, n, bytes(1000)) for n in range(1, 50)], "gone.sqlite3")
    with open_recording(path) as recording:
        rows = recording.datagrams()
        next(rows)
        path.rename(path.with_name("kept"))
        if replaced:
            make([(1, 1, b"another")], path.name)
        assert len([*rows]) == 48


def test_closed_recording(make):
    recording = open_recording(make([(n, n, b"a") for n in range(10)]))
    rows = recording.datagrams()
    next(rows)
    recording.close()
    recording.close()
    with pytest.raises(RecordingError, match="the recording is closed"):
        next(rows)
    with pytest.raises(RecordingError, match="the recording is closed"):
        next(recording.datagrams())


# The real recording --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def race(recordings_dir: Path) -> tuple[Decoder, np.ndarray]:
    """Every reading of all cars of the real race, and the decoder that made them."""
    decoder = Decoder("all")
    with open_recording(recordings_dir / "f1_2026_race.sqlite3") as recording:
        assert recording.count == 7124
        batches = [decoder.decode(datagram) for _, datagram in recording.datagrams()]
        assert not recording.rejected
    return decoder, np.concatenate(batches)


def test_race_is_read_completely(race):
    decoder, readings = race
    assert len(readings) == 220_000
    assert not decoder.rejected
    assert 82.0 <= readings["timestamp"].min() < readings["timestamp"].max() <= 103.0
    numbers, counts = np.unique(readings["channel"], return_counts=True)
    assert dict(zip(numbers.tolist(), counts.tolist(), strict=True)) == {
        SPEED.number: 22_000,
        ENGINE_TEMP.number: 22_000,
        TIRE_PRESSURE.number: 88_000,
        G_FORCE.number: 66_000,
        FUEL_LEVEL.number: 22_000,
    }
    assert (np.unique(readings["sensor_id"], return_counts=True)[1] == 1000).all()


def test_race_drivers(race):
    decoder, _ = race
    assert decoder.describe(0)["driver"] == "PIASTRI"
    assert decoder.describe(8 * 16)["driver"] == "PÉREZ"
    assert decoder.describe(21 * 16)["driver"] == "NORRIS"
    assert decoder.describe(22 * 16)["driver"] is None


def count_rises(readings: np.ndarray, over: np.ndarray) -> int:
    """How often a sensor's own series changes to over; a first reading that is over counts."""
    rises = 0
    for sensor_id in np.unique(readings["sensor_id"]):
        series = over[readings["sensor_id"] == sensor_id]
        rises += int(series[0]) + int((series[1:] & ~series[:-1]).sum())
    return rises


@pytest.mark.parametrize(
    ("channel", "is_over", "samples", "rises"),
    [
        (SPEED, lambda value: value > 330, 1_401, 13),
        (SPEED, lambda value: value > 340, 40, 2),
        (ENGINE_TEMP, lambda value: value > 110, 1_000, 1),
        (ENGINE_TEMP, lambda value: value > 118, 101, 1),
        (TIRE_PRESSURE, lambda value: value < 1.9, 88_000, 88),
        (FUEL_LEVEL, lambda value: value < 15, 22_000, 22),
        (G_FORCE, lambda value: abs(value) > 5.5, 0, 0),
    ],
    ids=["SPEED>330", "SPEED>340", "ENGINE_TEMP>110", "ENGINE_TEMP>118", "TIRE_PRESSURE<1.9", "FUEL<15", "G>5.5"],
)
def test_race_against_independent_answers(race, channel, is_over, samples, rises):
    readings = race[1]
    readings = readings[readings["channel"] == channel.number]
    over = is_over(readings["value"])
    assert int(over.sum()) == samples
    assert count_rises(readings, over) == rises


@pytest.mark.parametrize(("cars", "expected"), [("player", 10_000), ([0, 21], 20_000), ([23], 0)])
def test_race_of_chosen_cars(recordings_dir, race, cars, expected):
    decoder = Decoder(cars)
    with open_recording(recordings_dir / "f1_2026_race.sqlite3") as recording:
        readings = np.concatenate([decoder.decode(datagram) for _, datagram in recording.datagrams()])
    chosen = [21] if cars == "player" else cars
    everything = race[1]
    assert len(readings) == expected
    of_chosen = everything[np.isin(everything["sensor_id"] // 16, chosen)]
    for name in ("timestamp", "sensor_id", "channel", "flags"):
        assert np.array_equal(readings[name], of_chosen[name])
    np.testing.assert_array_max_ulp(readings["value"], of_chosen["value"])  # 1: 32-bit PCs round some of them twice
