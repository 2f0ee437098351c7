"""The connection to a NATS server and its JetStream: addresses, requests, and errors in one line."""

import asyncio
import importlib
import json
import re
import ssl
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import nats
import nats.errors
from nats.aio.client import Client

from f1buf.telemetry.errors import StreamError
from f1buf.telemetry.text import one_line

__all__ = [
    "Link",
    "RefusedError",
    "StreamAddress",
    "check_stream",
    "connected",
    "connected_in_time",
    "heed_cancellation",
    "prepared",
    "went_back",
]

_T = TypeVar("_T")
_EXPECTED = "expected nats://HOST[:PORT]/STREAM, such as nats://127.0.0.1:4222/race"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
PROGRESS = "f1buf-progress"  # the stream in which the server keeps durable names
_PATIENCE = 15.0  # [s] for the first connection; over a satellite a round trip takes 0.8 s, and TLS several of them
_CONNECTING = 5.0  # [s] for each step of a connection, such as the greeting, where nats-py would wait 2 s
_ANSWER = 2.0  # [s] for an answer; without one the request is made again
_FIRST_ANSWER = 10.0  # [s] before anything starts, where a request is made once: a disk may be busy with others' fsyncs
_CLOSING = 2.0  # [s] for what is still to be sent
_BETWEEN = 0.1  # [s] between attempts to connect
OVERHEAD = 1024  # [bytes] more than the headers of a message: the server counts them towards its largest payload
# What nats-py keeps that it could not send yet: more than everything that is in flight, so that it never refuses.
_PENDING = 64 << 20

FORMAT = "1"
"""In a stream's metadata, as "f1buf": what its messages mean."""


@dataclass(frozen=True)
class StreamAddress:
    """Where a stream is: ``nats://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/STREAM[?creds=FILE&ca=FILE]``.

    What is no letter or digit in USER and PASSWORD stands as in every URL: ``%40`` for ``@``. With ``tls://`` the
    connection is encrypted. ``creds`` is a file of credentials as NATS makes them, ``ca`` a file of certificates to
    trust in place of the system's, for an encrypted connection.

    Parameters
    ----------
    url : str
        As above.

    Raises
    ------
    StreamError
        It is no such address.
    """

    url: str = field(repr=False)
    servers: tuple[str, ...] = field(init=False, repr=False)
    stream: str = field(init=False)
    options: dict[str, str] = field(init=False, repr=False)
    _user: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            parts = urllib.parse.urlsplit(self.url)
            user, _, hosts = parts.netloc.rpartition("@")
            servers = tuple(f"{parts.scheme}://{host}" for host in hosts.split(","))
            valid = all(urllib.parse.urlsplit(server).hostname for server in servers)
            _ = [urllib.parse.urlsplit(server).port for server in servers]
        except ValueError:
            valid = False
        if not valid:
            raise StreamError(f"{self}: no address of a stream; {_EXPECTED}")
        options = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        name = parts.path.removeprefix("/")
        if parts.scheme not in ("nats", "tls") or parts.fragment or set(options) - {"creds", "ca"}:
            raise StreamError(f"{self}: no address of a stream; {_EXPECTED}")
        if name == PROGRESS:
            raise StreamError(f"{self}: {name} is where the server keeps durable names; expected another name")
        if not _NAME.fullmatch(name):
            raise StreamError(
                f"{self}: the stream's name is {name!r}; expected up to 64 letters, digits, - and _ behind the host, "
                "as in nats://127.0.0.1:4222/race"
            )
        for attribute, value in (("servers", servers), ("stream", name), ("options", options), ("_user", user)):
            object.__setattr__(self, attribute, value)

    def __str__(self) -> str:
        return re.sub(r"(?<=//).*@", "", self.url).partition("?")[0]  # whatever it is, without a password

    @property
    def is_encrypted(self) -> bool:
        """Whether a connection in the clear would not do."""
        return self.servers[0].startswith("tls:") or "ca" in self.options

    def arguments(self) -> dict[str, Any]:
        """Return what `nats.connect` is to be told beside how to go on."""
        told: dict[str, Any] = {"servers": list(self.servers)}
        user, separator, password = map(urllib.parse.unquote, self._user.partition(":"))
        if separator:  # not in the servers' addresses: those that a cluster tells of later have the same users
            told |= {"user": user, "password": password}
        elif user:
            told["token"] = user
        if "creds" in self.options:
            importlib.import_module("nkeys")  # which nats-py needs once the server asks for them

            with open(self.options["creds"], "rb"):  # nor does it look at the file before
                told["user_credentials"] = self.options["creds"]
        if self.is_encrypted:
            told["tls"] = ssl.create_default_context(cafile=self.options.get("ca"))
        return told


class RefusedError(Exception):
    """The server answers a request with an error."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(description)
        self.code = code  # JetStream's own, of five digits


class _Client(Client):
    """nats-py's, which goes on without encryption where a server offers none, and sends it the password."""

    def __init__(self, is_encrypted: bool) -> None:
        super().__init__()
        self._is_encrypted = is_encrypted

    def _connect_command(self) -> bytes:  # made once the server has told what it offers, and before anything is sent
        if self._is_encrypted and not self._server_info.get("tls_required"):
            raise nats.errors.Error("the server offers no TLS")
        command: bytes = super()._connect_command()
        return command


class Link:
    """A connection that comes back by itself; made by `connected`.

    Attributes
    ----------
    address : StreamAddress
        Of the stream.
    client : nats.aio.client.Client
        nats-py's.
    generation : int
        How often the connection was made or lost: what was on its way before may have been lost.
    trouble : str
        Why there is no connection, or what the server said last; empty while all is well.
    answer_s : float
        How long to wait for an answer [s].
    """

    def __init__(self, address: StreamAddress) -> None:
        self.address = address
        self.client: Client = _Client(address.is_encrypted)
        self.generation = 0
        self.trouble = ""
        self.answer_s = _FIRST_ANSWER
        self.on_change: Callable[[], None] = lambda: None
        self.is_left = False  # it is closed on purpose

    async def request(self, subject: str, **body: Any) -> dict[str, Any]:
        """Ask JetStream.

        Raises
        ------
        RefusedError
            It answers with an error.
        asyncio.TimeoutError, nats.errors.Error
            It does not answer.
        """
        asked = json.dumps(body).encode() if body else b""
        try:
            answer = json.loads((await self.client.request(f"$JS.API.{subject}", asked, timeout=self.answer_s)).data)
        except TimeoutError as error:
            raise TimeoutError(self.trouble or "no answer") from error  # it may be for want of permission
        if said := answer.get("error"):
            raise RefusedError(said.get("err_code", 0), said.get("description", "an error without a description"))
        return dict(answer)

    async def message_at(self, sequence: int) -> dict[str, str] | None:
        """Return the headers of the message with this number; None where it is no more."""
        from nats.js.errors import NotFoundError

        try:
            message = await self.client.jetstream(timeout=self.answer_s).get_msg(self.address.stream, seq=sequence)
        except NotFoundError:
            return None
        return message.headers or {}

    async def last_number(self, info: dict[str, Any]) -> int:
        """Return the number of the last message, of a stream of which STREAM.INFO says this; 0 where there is none.

        What that says the stream has reached need not be the number of a message
        (`findings/nats_server_number_never_stored.sh`).
        """
        said = int(info["state"]["last_seq"])
        return said if said and await self.message_at(said) is not None else (await self.last_message())[0]

    async def last_message(self, shard: int | str = "*") -> tuple[int, dict[str, str]]:
        """Return the number and the headers of the last message of a shard, or of the stream; 0 where there is none."""
        from nats.js.errors import NotFoundError

        manager, stream = self.client.jetstream(timeout=self.answer_s), self.address.stream
        try:
            message = await manager.get_last_msg(stream, f"{stream}.{shard}")
        except NotFoundError:
            return 0, {}
        return message.seq or 0, message.headers or {}

    async def note_loss(self) -> None:
        """The connection is lost; nats-py connects again."""
        if self.is_left:
            return
        self.generation += 1
        self.trouble = "the connection is lost"
        self.on_change()

    async def note_return(self) -> None:
        """It is there again."""
        self.generation += 1
        self.trouble = ""
        self.on_change()

    async def note_error(self, error: Exception) -> None:
        """Keep what the server, or nats-py, said last."""
        self.trouble = one_line(error)


@asynccontextmanager
async def connected(address: StreamAddress) -> AsyncIterator[Link]:
    """``async with connected(address) as link``: connects, or says in one line why not.

    Raises
    ------
    StreamError
        No server answers, it refuses the credentials, or the connection cannot be encrypted.
    """
    link, told, first = Link(address), _told(address), _Client(address.is_encrypted)
    # A first try that ends: with endless attempts nats-py would go on for ever with a wrong password, too. Each server,
    # and the connection after that, has its share of the time: nats-py alone would wait 2 s for it.
    once: dict[str, Any] = {
        "allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 0,
        "connect_timeout": _PATIENCE / (len(address.servers) + 1)
    }  # fmt: skip
    for_ever: dict[str, Any] = {
        "max_reconnect_attempts": -1, "reconnect_time_wait": _BETWEEN, "connect_timeout": _CONNECTING
    }  # fmt: skip
    watched: dict[str, Any] = {
        "error_cb": link.note_error, "disconnected_cb": link.note_loss, "reconnected_cb": link.note_return
    }  # fmt: skip
    try:
        try:
            async with asyncio.timeout(_PATIENCE):
                await first.connect(**told, **once, error_cb=link.note_error)
                await link.client.connect(**told, **for_ever, **watched, pending_size=_PENDING)
        except (TimeoutError, OSError, nats.errors.Error) as error:
            raise StreamError(f"{address}: {_why(error, link.trouble)}") from error
        except Exception as error:  # nats-py and nkeys fail in many ways where a file, or a greeting, is odd
            creds = address.options.get("creds")
            what = "no greeting of a NATS server" if creds is None else f"{creds}: no credentials as NATS makes them"
            raise StreamError(f"{address}: {what}: {one_line(error)}") from error
        finally:
            await _close(first)
        link.trouble = ""
        yield link
    finally:
        link.on_change = lambda: None
        link.is_left = True
        await _close(link.client)


async def _close(client: Client) -> None:
    """Close a connection, whatever has become of it."""
    transport: Any = client._transport
    # AssertionError: nothing has been begun; TypeError: from Python 3.12 on asyncio writes to a connection that is lost
    # by calling None. Otherwise it is lost, or the server takes nothing any more, and nats-py waits without an end.
    with suppress(Exception):
        async with asyncio.timeout(_CLOSING):
            await client.close()
    with suppress(AttributeError):
        transport._io_writer.transport.abort()


def heed_cancellation() -> None:
    """Raise CancelledError in a task that was cancelled and goes on.

    Before Python 3.12 `asyncio.wait_for`, by which nats-py waits, loses a cancellation that comes beside an answer. To
    cancel such a task again would interrupt one that is closing what it has opened.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@asynccontextmanager
async def connected_in_time(address: StreamAddress, note_away: Callable[[str], None]) -> AsyncIterator[Link]:
    """`connected`, which waits for a server that is away.

    Parameters
    ----------
    address : StreamAddress
        Of the stream.
    note_away : callable
        Called after each attempt with what is wrong; what it raises ends the waiting.
    """
    while True:
        context = connected(address)
        try:
            link = await context.__aenter__()
            link.answer_s = _ANSWER
            break
        except StreamError as error:
            note_away(str(error))
        await asyncio.sleep(_BETWEEN)
    try:
        heed_cancellation()
        yield link
    finally:
        await context.__aexit__(None, None, None)


def prepared(address: StreamAddress, preparing: Coroutine[Any, Any, _T]) -> _T:
    """Run what is to be done before anything starts.

    Raises
    ------
    StreamError
        Whatever goes wrong.
    """
    try:
        return _result_of(preparing)
    except (TimeoutError, OSError, nats.errors.Error, RefusedError) as error:
        raise StreamError(f"{address}: the server does not answer, or may not: {one_line(error)}") from error


def _result_of(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Return what a coroutine returns, once it has; where an event loop runs here, as in a notebook, that one waits."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)  # ends at Ctrl-C
    with ThreadPoolExecutor(1) as other:  # a thread has one loop at a time
        return other.submit(asyncio.run, coroutine).result()


def _told(address: StreamAddress) -> dict[str, Any]:
    try:
        return address.arguments()
    except ImportError as error:
        raise StreamError(f"{address}: {one_line(error)}; pip install 'nats-py[nkeys]'") from error
    except OSError as error:
        name = error.filename or address.options["ca"]
        raise StreamError(f"{address}: {name}: {error.strerror or one_line(error)}") from error


def went_back(what_to_do: str) -> str:
    """Say why a stream may end before a message that was stored, and what to do.

    A server of 2.10 whose disk is full says that its streams are empty until it is started again
    (`findings/nats_server_full_disk.sh`).
    """
    return (
        f"the server has lost some, as after a power cut: {what_to_do}; or it is of version 2.10, and its disk was "
        "full: start it again"
    )


def _why(error: BaseException, said: str) -> str:
    """What went wrong at the first attempt, and what to do."""
    text = f"{one_line(error)} {said}"
    if "uthorization" in text or "uthentication" in text:
        return "the server refuses these credentials; give them in the address (nats://USER:PASSWORD@HOST/STREAM)"
    if "ostname mismatch" in text or "not valid for" in text:
        return f"no encrypted connection: {one_line(error) or said}; expected a name that the certificate has"
    if "certificate" in text.lower() or "ssl" in text.lower() or "tls" in text.lower():
        return f"no encrypted connection: {one_line(error) or said}; see ?ca=FILE, and tls:// in place of nats://"
    reason = "" if isinstance(error, asyncio.TimeoutError | nats.errors.NoServersError) else f": {one_line(error)}"
    return f"no server answers there{reason}; start one (f1buf broker), or correct the address"


# Streams --------------------------------------------------------------------------------------------------------------


def check_stream(link: Link, info: dict[str, Any]) -> int:
    """Return how many shards a stream has, of which STREAM.INFO says this.

    Raises
    ------
    StreamError
        It is another program's.
    """
    config = info["config"]
    said = config.get("metadata") or {}
    if said.get("f1buf") != FORMAT:
        raise StreamError(
            f"{link.address}: is no stream of readings that this f1buf understands; choose another stream's name"
        )
    return int(said["shards"])


async def explained(address: StreamAddress, asked: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """Return the answer to a request that is made once, at the beginning; `RefusedError` comes through.

    Raises
    ------
    StreamError
        There is no answer, or no JetStream.
    """
    try:
        return await asked
    except RefusedError as error:
        if error.code in (10039, 10076):
            raise StreamError(f"{address}: the server has no JetStream: {error}; start it with -js") from error
        raise
    except nats.errors.NoRespondersError as error:
        raise StreamError(
            f"{address}: the server has no JetStream; start it with -js, or take another one (f1buf broker)"
        ) from error
    except (TimeoutError, nats.errors.Error) as error:
        raise StreamError(f"{address}: the server does not answer, or may not: {one_line(error)}") from error
