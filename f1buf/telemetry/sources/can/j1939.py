"""J1939: which message a frame is one of, and messages that come in several frames (its transport protocol).

The 29 bits of an id are, from the highest: priority (3 bits), two bits of page, PDU format, PDU specific, source
address (8 bits each). Page and PDU format, and from format 240 on PDU specific, are the number of the parameter group.
Below 240 (PDU1) PDU specific is the address that the frame is sent to.
"""

import math
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from numpy.typing import NDArray

if TYPE_CHECKING:
    from cantools.database import Signal

__all__ = [
    "LARGEST",
    "Group",
    "Transport",
    "group_of",
    "is_transport",
    "no_measurement_from",
    "source_of",
    "without_priority",
]

_ANNOUNCES, _CARRIES = 0xEC00, 0xEB00  # the transport protocol's parameter groups
Array = NDArray[Any]
Meaning = TypeVar("Meaning")

_PDU2 = 240  # the first PDU format without a destination
_NOBODY, _EVERYBODY = 0xFE, 0xFF  # addresses: of none in particular, to all


def without_priority(can_id: int) -> int:
    """Return the bits that say what a message is, from whom, to whom."""
    return can_id & 0x3FFFFFF


def group_of(can_id: int) -> int:
    """Return the number of the parameter group (PGN)."""
    number = without_priority(can_id) >> 8
    return number if number >> 8 & 0xFF >= _PDU2 else number & 0x3FF00


def source_of(can_id: int) -> int:
    """Return the sender's address, 0 to 255."""
    return can_id & 0xFF


def _destination_of(can_id: int) -> int:
    return can_id >> 8 & 0xFF if can_id >> 16 & 0xFF < _PDU2 else _EVERYBODY


def is_transport(can_id: int) -> bool:
    """Say whether the frame announces or carries a message that comes in several frames."""
    return group_of(can_id) in (_ANNOUNCES, _CARRIES)


def no_measurement_from(signal: "Signal") -> float:
    """Return the least value that means "error" or "not available"; infinite where there is none.

    By SAE J1939-71 these are the numbers whose highest byte is 0xFE or 0xFF; of less than a byte, the two largest. A
    database that gives such a number a meaning says so by the signal's range.
    """
    size, conversion = signal.length, signal.conversion
    if signal.maximum is None or signal.is_signed or conversion.is_float or size < 2:
        return math.inf
    least = float(((1 << size) - (2 << max(0, size - 8))) * conversion.scale + conversion.offset)
    return least if conversion.scale > 0 and signal.maximum < least else math.inf


# Which message --------------------------------------------------------------------------------------------------------


class Group(Generic[Meaning]):
    """The messages that a database has of one parameter group.

    A single message stands for all senders and destinations, whatever addresses its id has. Of several, a frame is the
    one with its source address, or else with 0xFE (nobody's); of these the one with its destination, or else with 0xFF
    or 0xFE.

    Parameters
    ----------
    messages : iterable of (int, anything)
        Each one's id in the database, and what `messages_of` returns for it.
    """

    def __init__(self, messages: Iterable[tuple[int, Meaning]]) -> None:
        self._messages = list(messages)

    def messages_of(self, can_id: int) -> list[Meaning]:
        """Return the message that a frame with this id is; several if nothing tells them apart."""
        if len(self._messages) == 1:
            return [self._messages[0][1]]
        fits = [(_fit(own_id, can_id), message) for own_id, message in self._messages]
        best = max(fit for fit, _ in fits)
        return [message for fit, message in fits if fit == best]


def _fit(own_id: int, can_id: int) -> tuple[int, int]:
    own, its = _destination_of(own_id), _destination_of(can_id)
    to = 2 if own == its else int(own in (_NOBODY, _EVERYBODY))
    own, its = source_of(own_id), source_of(can_id)
    return (2 if own == its else int(own == _NOBODY)), to


# Messages in several frames -------------------------------------------------------------------------------------------

_RTS, _CTS, _ACKNOWLEDGED, _BAM, _ABORT = 16, 17, 19, 32, 255  # what an announcement's first byte says
_CARRIED = 7  # bytes in a frame
LARGEST = 255 * _CARRIED
"""How many bytes a message has at most."""

_MOST_OPEN = 1024  # messages at once, each of up to 1,785 bytes: a network can announce any number

_ABSURD = "transport protocol: absurd frame"
_UNANNOUNCED = "transport protocol: packet of no announced message"
_MISSING = "transport protocol: message with a missing packet"
_UNFINISHED = "transport protocol: unfinished message"


class _Message:
    """A message that is on its way."""

    def __init__(self, group: int, size: int, to_all: bool) -> None:
        self.group = group
        self.size = size  # bytes
        self.to_all = to_all  # nobody acknowledges it
        self.packets = -(-size // _CARRIED)
        self.data = bytearray()
        self.fault: str | None = _UNFINISHED  # what to count if nothing more comes; None once it is complete

    @property
    def received(self) -> int:
        """How many packets have come."""
        return -(-len(self.data) // _CARRIED)


class Complete(NamedTuple):
    """A message that has been put together."""

    can_id: int  # as if it had come in one frame; priority 0
    data: bytes


class Transport:
    """Puts messages together from what others send each other: it only listens.

    A message goes to all receivers (BAM), or to one that asks for packets, also again (RTS and CTS).

    Parameters
    ----------
    rejected : collections.Counter
        Counts, by reason, what does not become a message.
    """

    def __init__(self, rejected: Counter[str]) -> None:
        self._rejected = rejected
        self._open: dict[tuple[str, int, int], _Message] = {}  # by bus, source and destination; the latest last

    def take(self, bus: str, can_id: int, data: bytes) -> Complete | None:
        """Take a frame for which `is_transport` is true; return the message that it completes."""
        source, destination = source_of(can_id), _destination_of(can_id)
        if group_of(can_id) == _CARRIES:
            return self._carry((bus, source, destination), data)
        if len(data) < 8:
            self._rejected[_ABSURD] += 1
        elif data[0] in (_RTS, _BAM):
            self._announce((bus, source, destination), data)
        elif data[0] == _CTS:
            self._ask_for((bus, destination, source), data)
        elif data[0] in (_ACKNOWLEDGED, _ABORT):  # the receiver has the message, or does not want it
            self._end((bus, destination, source), _group_in(data))
            if data[0] == _ABORT:  # or the sender has given it up
                self._end((bus, source, destination), _group_in(data))
        else:
            self._rejected[_ABSURD] += 1
        return None

    def finish(self) -> None:
        """Count what was announced and has not come, when nothing more will come."""
        for key in list(self._open):
            self._end(key)

    def _announce(self, key: tuple[str, int, int], data: bytes) -> None:
        size, packets = int.from_bytes(data[1:3], "little"), data[3]
        to_all = data[0] == _BAM
        if not 8 < size <= LARGEST or packets != -(-size // _CARRIED) or to_all != (key[2] == _EVERYBODY):
            self._rejected[_ABSURD] += 1
            return
        self._end(key)
        if len(self._open) >= _MOST_OPEN:
            self._end(next(iter(self._open)))
        self._open[key] = _Message(_group_in(data), size, to_all)

    def _ask_for(self, key: tuple[str, int, int], data: bytes) -> None:
        """The receiver asks for so many packets from this one on; it may ask again."""
        count, number = data[1], data[2]
        message = self._open.get(key)
        if message is not None and message.fault is not None and count and number:
            del message.data[(number - 1) * _CARRIED :]
            message.fault = _UNFINISHED

    def _carry(self, key: tuple[str, int, int], data: bytes) -> Complete | None:
        message = self._open.get(key)
        if message is None or not data:
            self._rejected[_UNANNOUNCED if data else _ABSURD] += 1
            return None
        if message.fault == _UNFINISHED:
            wanted = min(_CARRIED, message.size - len(message.data))
            if data[0] == message.received + 1 and len(data) > wanted:
                message.data += data[1 : 1 + wanted]
            else:
                message.fault = _MISSING
        complete = message.fault == _UNFINISHED and len(message.data) == message.size
        if complete:
            message.fault = None
        if message.to_all and data[0] >= message.packets:
            self._end(key)
        return Complete(_id_of(message.group, key), bytes(message.data)) if complete else None

    def _end(self, key: tuple[str, int, int], group: int | None = None) -> None:
        """Forget a message, if it is of this group; count its fault."""
        message = self._open.get(key)
        if message is None or group not in (None, message.group):
            return
        del self._open[key]
        if message.fault is not None:
            self._rejected[message.fault] += 1


def _group_in(data: bytes) -> int:
    return int.from_bytes(data[5:8], "little") & 0x3FFFF


def _id_of(group: int, key: tuple[str, int, int]) -> int:
    _, source, destination = key
    return group << 8 | source if group >> 8 & 0xFF >= _PDU2 else (group & 0x3FF00 | destination) << 8 | source
