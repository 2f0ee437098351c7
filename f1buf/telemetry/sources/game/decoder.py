"""The decoder: readings of the datagrams that the F1 games send.

Five packets are decoded: motion (0), lap data (2), participants (4), car telemetry (6) and car status (7). `packets`
says where their fields are, `readings` which fields become readings, `sessions` what is known of each session.

Anybody can send a datagram: size, format, packet id and version, session time and car count are checked before one is
used, and each value after. The player's index is looked at for `cars="player"` alone: an index that is no car's rejects
no datagram, the player is then not there.

Which slots of a packet are cars
    A car keeps its slot for the whole session, and a slot that empties amid the others stays where it is. EA's
    specification, among its questions and answers, says to look at each car's result status in the lap data: where that
    is neither "invalid" nor "inactive" the slot holds valid data. So a car that has finished or retired is still read.
    The number of active cars in the participants packet says how many there are, not where; it counts until the lap
    data have called a slot a car's. A slot of which a packet has nothing but zeros is always empty there, whatever its
    status: no car has tyres at 0 psi and 0 °C, or looks in no direction.
"""

import operator
from collections import Counter
from collections.abc import Iterable
from typing import SupportsIndex

import numpy as np

from f1buf.ring.reading import READING
from f1buf.telemetry.sessions import checked_session, is_wanted, with_session
from f1buf.telemetry.sources.game.packets import FORMATS, HEADER, LAP_DATA, PACKET_VERSION, PARTICIPANTS, Format, Header
from f1buf.telemetry.sources.game.readings import (
    EXTRACTORS,
    IDS_PER_CAR,
    IDS_PER_SESSION,
    MAX_SLOTS,
    PARTS,
    Array,
    Datagram,
    car_bytes,
)
from f1buf.telemetry.sources.game.sessions import MOST_SESSIONS, NO_PLAYER, NUMBERS, Session, Sessions
from f1buf.telemetry.text import clean

__all__ = ["Decoder"]

_BEFORE_PARTICIPANTS = "before participants"
_MOST_LAPS = 200  # more than any session has
_SOUND_LAPS = bytes(lap if lap <= _MOST_LAPS else 0 for lap in range(256))  # by the lap number that was sent


class Decoder:
    """Turns the datagrams of the games into readings.

    The participants packet, which the game sends at the start of a session and every 5 s, says who drives. What comes
    before it is rejected ("before participants"), except the packets of its own frame: the game sends a frame's packets
    by packet id, motion (0) before participants (4). These are kept back, and their readings returned when the
    participants packet comes. The lap data (2) say in which lap each car is, and which slots are cars; so the motion
    (0) of the frame in which a lap begins still counts as the lap before.

    Each session has sensor ids of its own, so that none continues another one's series: those of the first session with
    readings begin at 0, those of the next at 512, and so on. While 16 sessions are in use, further ones are rejected
    ("too many sessions"): a flood of forged ones displaces none that is in use. A session that was displaced and comes
    back begins anew, as another one.

    Parameters
    ----------
    cars : "all", "player" or iterable of int
        Whose readings to return, of each session: those of every car, the player's, or these car indices'.
    session : str or int, optional
        The one session to read: its number, or the last digits of it, four at least; a shorter number has zeros before
        it, ``"0099"``. Datagrams of others are rejected ("other session"). Digits that fit several sessions read all of
        these.

    Attributes
    ----------
    rejected : collections.Counter
        How many datagrams were not used, by reason; and under "absurd value" how many single readings were left out of
        datagrams that were used: NaN, infinite or physically impossible values, such as fuel with a capacity of 0.
        Packets without readings are not counted, nor are empty slots beside one that is read. A datagram without cars
        has the reason "no cars"; without any of the chosen cars, "car not there"; and where the player's car is chosen
        and the session is watched, "nobody plays".
    lost : int
        How many datagrams are missing so far, of the four packets that come every frame (motion, lap data, car
        telemetry, car status): a gap in the frame numbers of a packet counts as one for each frame. It goes down where
        datagrams come late.
    session : str or None
        The digits with which the number of a session that is read ends; None: each is read.
    sessions : tuple of int
        The game's numbers of the sessions that readings came of, in that order: the latest 16.
    others : tuple of int
        The numbers of the sessions that came and were not wanted: the latest 16.

    Raises
    ------
    ValueError
        `cars` is something else, empty, or names a car index outside 0 to 23; or `session` is no such number.

    Notes
    -----
    One thread at a time may call `decode`; others may call `describe` meanwhile, and read `lost`, `sessions`, `others`
    and a copy of `rejected`, ``dict(decoder.rejected)``.
    """

    def __init__(self, cars: str | Iterable[int] = "all", session: str | int | None = None) -> None:
        self.rejected: Counter[str] = Counter()
        self._cars = _checked_cars(cars)
        self.session = checked_session(session)
        self.lost = 0
        self.sessions: tuple[int, ...] = ()
        self.others: tuple[int, ...] = ()
        self._sessions = Sessions()
        # Of each session the latest frame, and of that one datagram by packet id: a flood cannot fill the memory.
        self._held: dict[tuple[int, int], tuple[int, dict[int, tuple[Header, bytes, float | None]]]] = {}

    def decode(self, datagram: Datagram, time: float | None = None) -> Array:
        """Return the readings of one datagram; never raises for what it contains.

        Parameters
        ----------
        datagram : bytes, bytearray or memoryview
            One UDP payload, from anybody. It may be changed afterwards.
        time : float, optional
            The timestamp of its readings [s]. Without it, session time.

        Returns
        -------
        numpy.ndarray of READING, shape (n,)
            A copy, contiguous, by car, then by part; empty if the datagram holds no readings that are wanted.
            Values: speed [km/h], engine temperature [°C], tyre pressures [bar], G-forces with their sign [G], fuel [%].
        """
        if len(datagram) < HEADER.itemsize:
            return self._reject("truncated datagram")
        header = Header.of(datagram)
        if header.packet_format not in FORMATS:
            return self._reject("unknown format year")
        # Not `get`: CPython 3.13 without the GIL locks the dictionary twice in it where another thread made the key,
        # and finds that out by giving its processor away 40 times: 30 µs, on a busy machine many milliseconds.
        form = FORMATS[header.packet_format]
        if header.packet_id not in form.packet_ids:
            return self._reject("unknown packet id")
        if header.packet_id not in form.packets:
            return _nothing()
        fault = _fault(form, header, len(datagram))
        if fault is not None:
            return self._reject(fault)
        session = self._sessions.find(header.session)
        if session is None and not is_wanted(header.session_uid, self.session):
            self.others = with_session(self.others, header.session_uid)
            return self._reject("other session")
        if header.packet_id == PARTICIPANTS:
            return self._take_participants(session, form, header, datagram)
        if session is None:
            return self._hold(header, datagram, time)
        return self._use(session, header, datagram, time)

    def describe(self, sensor_id: SupportsIndex, roster: int | None = None) -> dict[str, int | str | None]:
        """Say what a sensor id of this decoder stands for, for people.

        Parameters
        ----------
        sensor_id : int
            As in a reading: the session's number here * 512 + car * 16 + part.
        roster : int, optional
            The reading's ``flags``: they stand for what was known when it was decoded. Without them, what is known now.

        Returns
        -------
        dict
            ``"car"``: the car's index; ``"driver"``: the name in the participants packet, or None; ``"lap"``: the lap
            that the car was in, from 1, or None where the lap data have not said it, or something absurd; ``"part"``:
            the wheel ("RL", "RR", "FL", "FR") or axis ("lateral", "longitudinal", "vertical"), or None where a car has
            one such sensor only; ``"session"``: the game's number of the session, or None where it is no longer known;
            ``"several"``: whether readings of more than one session had come by then.

        Raises
        ------
        ValueError
            No reading of this decoder has this sensor id.
        """
        number, rest = divmod(operator.index(sensor_id), IDS_PER_SESSION)
        car, part = divmod(rest, IDS_PER_CAR)
        if not (0 <= number < NUMBERS and car < MAX_SLOTS and part < len(PARTS)):
            raise ValueError(
                f"sensor_id is {sensor_id}: expected car * {IDS_PER_CAR} + part, car 0 to {MAX_SLOTS - 1}, "
                f"part 0 to {len(PARTS) - 1}, and {IDS_PER_SESSION} more for each session before, "
                "as in the readings that Decoder.decode returns"
            )
        drivers, laps, uid, several = self._sessions.roster_of(number, roster)
        return {
            "car": car,
            "driver": drivers[car] if car < len(drivers) else None,
            "lap": (laps[car] if car < len(laps) else 0) or None,
            "part": PARTS[part].name,
            "session": uid,
            "several": several,
        }

    def _reject(self, reason: str) -> Array:
        self.rejected[reason] += 1
        return _nothing()

    # -- who drives, where and in which lap ---------------------------------------------------------------------------

    def _take_participants(self, session: Session | None, form: Format, header: Header, datagram: Datagram) -> Array:
        """Remember who drives; return the readings that were kept back of this packet's frame."""
        packet = np.frombuffer(datagram, form.packets[PARTICIPANTS], 1)[0]
        active = int(packet["num_active_cars"])
        if active > form.slots:
            return self._reject("impossible car count")
        session = session or self._sessions.begin(header.session)
        if session is None:
            self._held.pop(header.session, None)
            return self._reject("too many sessions")
        session.active = active
        self._choose(session)
        drivers = tuple(_driver(name) for name in packet["participants"]["name"].tolist())
        self._sessions.note(session, drivers=drivers)
        return self._release(session, header)

    def _choose(self, session: Session) -> None:
        """Find out whose readings are wanted, after a change."""
        slots = session.slots
        if self._cars != "all":
            wanted = (session.player,) if self._cars == "player" else self._cars
            slots = [slot for slot in slots if slot in wanted]
        if not slots:
            session.cars = None
        elif len(slots) == slots[-1] + 1 - slots[0]:
            session.cars = slice(slots[0], slots[-1] + 1)
        else:
            session.cars = np.array(slots, np.intp)
        session.templates.clear()

    def _take_laps(self, session: Session, header: Header, datagram: Datagram) -> Array:
        """Remember which slots are cars, and in which lap each is."""
        if session.take_statuses(car_bytes(datagram, header.packet_format, "result_status")):
            self._choose(session)
        laps = car_bytes(datagram, header.packet_format, "current_lap_num").translate(_SOUND_LAPS)
        if session.statuses is None:
            laps = laps[: session.active]
        self._sessions.note(session, laps=laps)
        return _nothing()

    # -- what comes before its session's participants -----------------------------------------------------------------

    def _hold(self, header: Header, datagram: Datagram, time: float | None) -> Array:
        """Keep a datagram until its frame is over; it counts as rejected until it is used after all."""
        frame, held = self._held.pop(header.session, (-1, {}))
        if frame != header.overall_frame_identifier:
            held = {}
        held[header.packet_id] = header, bytes(datagram), time
        self._held[header.session] = header.overall_frame_identifier, held
        if len(self._held) > MOST_SESSIONS:
            del self._held[next(iter(self._held))]
        return self._reject(_BEFORE_PARTICIPANTS)

    def _release(self, session: Session, participants: Header) -> Array:
        """Return the readings of what was kept back of the frame of a participants packet."""
        frame, packets = self._held.pop(participants.session, (-1, {}))
        held = list(packets.values()) if frame == participants.overall_frame_identifier else []
        if not held:
            return _nothing()
        self.rejected[_BEFORE_PARTICIPANTS] -= len(held)
        if not self.rejected[_BEFORE_PARTICIPANTS]:
            del self.rejected[_BEFORE_PARTICIPANTS]
        held.sort(key=lambda each: each[0].packet_id != LAP_DATA)  # first, so that the others' laps are known
        return np.concatenate([self._use(session, *each) for each in held])

    # -- readings -----------------------------------------------------------------------------------------------------

    def _use(self, session: Session, header: Header, datagram: Datagram, time: float | None) -> Array:
        """Return the readings of a datagram of a session whose participants are known."""
        gaps = session.gaps[header.packet_id]
        before = gaps.lost
        gaps.add(header.overall_frame_identifier)
        self.lost += gaps.lost - before
        if header.packet_id == LAP_DATA:
            return self._take_laps(session, header, datagram)
        if self._cars == "player" and header.player_car_index != session.player:
            session.player = header.player_car_index
            self._choose(session)
        return self._extract(session, header, datagram, header.session_time if time is None else time)

    def _extract(self, session: Session, header: Header, datagram: Datagram, time: float) -> Array:
        if self._cars == "player" and session.player == NO_PLAYER:
            return self._reject("nobody plays")
        cars = session.cars
        packet_id = header.packet_id
        extract = EXTRACTORS[header.packet_format, packet_id]
        full = None if cars is None else extract.full(datagram, cars)
        if cars is None or (full is not None and not len(full)):
            return self._reject("no cars" if self._cars == "all" else "car not there")
        if not session.heard:
            if not self._sessions.begin_readings(session, header.session_uid):
                return self._reject("too many sessions")
            self.sessions = self._sessions.heard
        if packet_id not in session.templates:
            flags = self._sessions.flags_of(session)
            session.templates[packet_id] = extract.template(cars, session.number, flags)
        template = session.templates[packet_id]
        if full is not None:
            cars, template = extract.only(full, cars, template)
        with np.errstate(all="ignore"):  # NaN and division by zero are expected, and counted
            readings, absurd = extract(datagram, cars, template, time)
        if absurd:
            self.rejected["absurd value"] += absurd
        return readings


def _fault(form: Format, header: Header, size: int) -> str | None:
    """Return why a datagram of a packet that is decoded cannot be trusted, None if it can."""
    expected = form.packets[header.packet_id].itemsize
    if size < expected:
        return "truncated datagram"
    if size > expected:
        return "oversized datagram"
    if header.packet_version != PACKET_VERSION:
        return "unknown packet version"
    if not 0.0 <= header.session_time < float("inf"):
        return "absurd session time"
    return None


def _checked_cars(cars: str | Iterable[int]) -> str | tuple[int, ...]:
    """Return "all", "player" or the car indices, ascending, each once."""
    expected = f"expected 'all', 'player' or car indices from 0 to {MAX_SLOTS - 1}"
    if isinstance(cars, str):
        if cars not in ("all", "player"):
            raise ValueError(f"cars is {cars!r}: {expected}")
        return cars
    try:
        indices = tuple(sorted({operator.index(car) for car in cars}))
    except TypeError:
        raise ValueError(f"cars is {cars!r}: {expected}") from None
    if not indices or indices[0] < 0 or indices[-1] >= MAX_SLOTS:
        raise ValueError(f"cars holds {list(indices)}: {expected}")
    return indices


def _driver(name: bytes) -> str | None:
    """Return a driver's name, fit to be printed: a datagram may hold a terminal's control characters."""
    return clean(name.partition(b"\0")[0].decode(errors="replace")) or None


def _nothing() -> Array:
    return np.empty(0, READING)
