"""CAN databases as cantools reads them: which messages are in a file, and for which bus.

python-can and cantools are imported when they are first needed.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from f1buf.telemetry.errors import CanError
from f1buf.telemetry.text import one_line

if TYPE_CHECKING:
    from cantools.database import Database
    from cantools.database import Message as DatabaseMessage

__all__ = ["Listed", "load", "reason_of", "require_packages"]


_SILENT = logging.NullHandler()


def require_packages() -> None:
    """Import python-can and cantools; raise a CanError that says how to install them."""
    try:
        import can.cli  # noqa: F401
        import cantools  # noqa: F401
    except ImportError as error:
        raise CanError(f"CAN needs python-can 4.6 and cantools ({error}): pip install 'f1buf[can]'") from error
    # What matters they raise. A program that does not handle their logs would print them between its own lines.
    for name in ("can", "cantools"):
        logging.getLogger(name).addHandler(_SILENT)


_LONGEST_REASON = 200  # characters: a parser may quote a whole line of the file, however long


def reason_of(error: BaseException) -> str:
    """Return what an error says, as one line of 200 characters at most."""
    text = one_line(error)
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "..."


_FORMATS = {".arxml": "arxml", ".dbc": "dbc", ".kcd": "kcd", ".sym": "sym"}


class Listed(NamedTuple):
    """A message of a database."""

    message: "DatabaseMessage"
    j1939: bool  # it stands for every frame of its parameter group
    buses: frozenset[str]  # the names of the file's buses


def load(path: Path, j1939: bool) -> list[Listed]:
    """Return the messages of a file.

    Parameters
    ----------
    path : pathlib.Path
        A file that cantools can read.
    j1939 : bool
        All messages with an extended id are J1939's, whatever the file says.

    Raises
    ------
    CanError
        The file cannot be read.
    """
    import cantools.database

    try:
        content = path.read_bytes()
    except OSError as error:
        raise CanError(f"{path}: {error.strerror}; expected a CAN database: {', '.join(_FORMATS)}") from error
    file_format = _FORMATS.get(path.suffix.lower())
    try:
        # Not strict: one message that makes no sense is no reason to do without the others.
        database = cantools.database.load_string(_decoded(content), file_format, strict=False)
    except Exception as error:  # whatever a parser stumbles over
        reason = reason_of(error.__cause__ or error) if file_format else "not one of " + ", ".join(_FORMATS)
        raise CanError(f"{path}: no CAN database that cantools can read: {reason}") from error
    if not isinstance(database, cantools.database.Database):
        raise CanError(f"{path}: a database of diagnostics; expected one of CAN messages: {', '.join(_FORMATS)}")
    j1939 = j1939 or _is_j1939(database)
    buses = frozenset(message.bus_name for message in database.messages if message.bus_name)
    return [
        Listed(message, message.is_extended_frame and (j1939 or message.protocol == "j1939"), buses)
        for message in database.messages
    ]


def _decoded(content: bytes) -> str:
    """Return a database's text: in UTF-8, or else in Windows' encoding, which most tools write."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
    return text.replace("\r\n", "\n")


def _is_j1939(database: "Database") -> bool:
    """Say whether a DBC file says that its whole network is J1939, and does not say it of single messages."""
    if database.dbc is None or "VFrameFormat" in database.dbc.attribute_definitions:
        return False
    definition: Any = database.dbc.attribute_definitions.get("ProtocolType")
    if definition is None:
        return False
    attribute: Any = database.dbc.attributes.get("ProtocolType")
    value = definition.default_value if attribute is None else attribute.value
    if isinstance(value, int) and definition.choices and value < len(definition.choices):
        value = definition.choices[value]
    return str(value).upper() == "J1939"
