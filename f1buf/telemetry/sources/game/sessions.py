"""What a decoder knows of the sessions whose datagrams come: who drives, in which lap, and which slots are cars.

Anybody can send datagrams of any number of sessions. So sixteen are known at once, and one that is in use is not
forgotten for another one.

A reading's ``flags`` are the number of a roster: what was known when the reading was made. A roster gets its number
with its first reading; 4,096 are kept, more than change while a reading is on its way to the analyzers.
"""

from typing import Any, NamedTuple

from f1buf.telemetry.sessions import with_session
from f1buf.telemetry.sources.game.gaps import FrameGaps
from f1buf.telemetry.sources.game.packets import CAR_STATUS, CAR_TELEMETRY, LAP_DATA, MOTION
from f1buf.telemetry.sources.game.readings import IDS_PER_SESSION, Cars

__all__ = ["MOST_SESSIONS", "NOBODY", "NO_PLAYER", "Roster", "Session", "Sessions"]

MOST_SESSIONS = 16
"""How many are known at once: those of several games, and what others make up."""

NO_PLAYER = 255
"""The player's index where the session is watched."""

# What tests make smaller.
NUMBERS = (1 << 32) // IDS_PER_SESSION  # of sessions that have had readings; none is used twice
IN_USE = 4096  # datagrams, 17 s of one game's: a session that sent one of so many latest ones is not forgotten
ROSTERS = 1 << 16  # that a reading's flags can tell apart
ROSTERS_KEPT = 4096

_INACTIVE = 1  # the result status of a slot that holds no car: this, or 0, "invalid"
_EVERY_FRAME = (MOTION, LAP_DATA, CAR_TELEMETRY, CAR_STATUS)  # the player sets how often: "UDP Send Rate"


class Roster(NamedTuple):
    """What a reading's flags stand for."""

    drivers: tuple[str | None, ...] = ()  # by car
    laps: bytes = b""  # by car; 0 where it is not known; may be shorter
    session: int | None = None  # its uid
    several: bool = False  # whether there had been readings of other sessions, too


NOBODY = Roster()


class Session:
    """What is known of one session."""

    def __init__(self, uid: int, number: int) -> None:
        self.number = number  # its own from its first reading on; until then the next that is free
        self.heard = False  # whether there has been a reading
        self.last_used = 0  # which of the decoder's datagrams was its latest
        self.active = 0  # how many cars there are, as the participants say
        self.statuses: bytes | None = None  # by slot; None until the lap data have called a slot a car's
        self.player = NO_PLAYER
        self.cars: Cars | None = None  # whose readings are wanted; None: nobody's
        self.templates: dict[int, bytes] = {}  # of their readings, by packet id; made when they are needed
        self.roster = Roster(session=uid)
        self.flags: int | None = None  # the roster's number; None until there is a reading of it
        self.gaps = {packet_id: FrameGaps() for packet_id in _EVERY_FRAME}

    @property
    def slots(self) -> list[int]:
        """Which slots are cars."""
        if self.statuses is None:
            return list(range(self.active))
        return [slot for slot, status in enumerate(self.statuses) if status > _INACTIVE]

    def take_statuses(self, statuses: bytes) -> bool:
        """Take the result status of each slot; return whether that changes which slots are cars."""
        if statuses == self.statuses or (self.statuses is None and max(statuses) <= _INACTIVE):
            return False
        self.statuses = statuses
        return True


class Sessions:
    """The sessions of one decoder, by format year and uid.

    Attributes
    ----------
    heard : tuple of int
        The uids of those that readings came of, in that order: the latest 16.

    Notes
    -----
    One thread at a time may call it; others may call `roster_of` meanwhile.
    """

    def __init__(self) -> None:
        self.heard: tuple[int, ...] = ()
        self._known: dict[tuple[int, int], Session] = {}
        self._datagrams = 0  # how many have been asked for
        self._numbers = 0  # how many sessions have had readings
        self._rosters: dict[int, Roster] = {}  # by number
        self._last_roster = -1  # the number that was given last

    def find(self, key: tuple[int, int]) -> Session | None:
        """Return the session of a datagram, if it is known."""
        self._datagrams += 1
        if key not in self._known:  # not `get`: see `Decoder.decode`
            return None
        session = self._known[key]
        session.last_used = self._datagrams
        return session

    def begin(self, key: tuple[int, int]) -> Session | None:
        """Begin a session; return None where all that are known are in use."""
        if len(self._known) == MOST_SESSIONS and not self._forget_one():
            return None
        session = self._known[key] = Session(key[1], self._numbers)
        session.last_used = self._datagrams
        return session

    def _forget_one(self) -> bool:
        """Forget a session: one of which there was no reading, or else one that is not in use any more."""
        unheard = [key for key, session in self._known.items() if not session.heard]
        oldest = min(unheard or self._known, key=lambda key: self._known[key].last_used)
        if not unheard and self._datagrams - self._known[oldest].last_used < IN_USE:
            return False
        del self._known[oldest]
        return True

    def begin_readings(self, session: Session, uid: int) -> bool:
        """Give a session its own number, for its first reading; false where no number is left."""
        if self._numbers == NUMBERS:
            return False
        session.number, session.heard = self._numbers, True
        self._numbers += 1
        self.heard = with_session(self.heard, uid)  # where a player has changed the format it is there already
        if len(self.heard) > 1:
            for each in self._known.values():
                self.note(each, several=True)
        session.templates.clear()
        return True

    def note(self, session: Session, **changes: Any) -> None:
        """Note what is known by now: fields of the session's roster."""
        roster = session.roster._replace(**changes)
        old = session.flags is not None and (self._last_roster - session.flags) % ROSTERS >= ROSTERS_KEPT // 2
        if roster == session.roster and not old:  # an old number is given anew, before it is forgotten for others
            return
        session.roster, session.flags = roster, None
        session.templates.clear()

    def flags_of(self, session: Session) -> int:
        """Return the number of a session's roster; where it needs a new one, the oldest is forgotten."""
        if session.flags is None:
            session.flags = self._last_roster = (self._last_roster + 1) % ROSTERS
            self._rosters[session.flags] = session.roster
            self._rosters.pop((session.flags - ROSTERS_KEPT) % ROSTERS, None)
        return session.flags

    def roster_of(self, number: int, flags: int | None) -> Roster:
        """Return what flags stand for; without them the latest roster of the session of this number."""
        if flags is not None:
            return self._rosters.get(flags, NOBODY)
        its = [session for session in list(self._known.values()) if session.number == number]
        # A session without a reading has a number that another one may have got by now.
        return max(its, key=lambda session: (session.heard, session.last_used)).roster if its else NOBODY
