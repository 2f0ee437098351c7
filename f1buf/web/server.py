"""The live page: a consumer of readings, and the server that browsers get the page from.

How it is divided
    `traces` keeps what is known of each series, `watcher` makes the messages, this module serves them. The thread of
    the server has an event loop; everything that is shown belongs to that thread. Ten times a second at most it takes
    what has come, and each browser's coroutine makes the difference to what that browser has, once its connection has
    taken the message before. So a slow browser skips, and one that never reads costs one message and the buffer of its
    connection.

What it costs
    After a round that took t seconds of the processor, with the messages to browsers, there is none for 100 t, but for
    a second at most: that is 1 % of one processor, with very many browsers somewhat more. With many of them the page
    moves less often. What requests cost is not counted: whoever sends many must not stop the page for others.

Who may read it
    The ``Host`` of a request must be an address, or a name that is this machine's: a foreign name that was made to
    point here is refused. So is a request that a page from elsewhere makes. Where the server is reached from other
    machines, the link has a token besides.
"""

import asyncio
import errno
import hmac
import importlib.resources
import ipaddress
import os
import secrets
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from f1buf import READING, RingBuffer
from f1buf.telemetry.alerts import Alert
from f1buf.telemetry.errors import ListenError, PageError
from f1buf.telemetry.sources.game.sockets import joined, local_addresses, resolved
from f1buf.telemetry.thresholds import Threshold
from f1buf.web.watcher import Watcher

__all__ = ["PageError", "WebPage"]

_INBOX = 262_144  # readings between two looks: all of a second at 262,000 a second
_PERIOD = 0.1  # [s] between two looks, at least
_REST = 100.0  # times as long as a round took
_LONGEST_REST = 1.0  # [s]
_SLICE = 0.05  # [s] how often it looks meanwhile whether the run has ended
_MOST_PAGES = 64  # browsers' pages that are open at once
_MOST_CONNECTIONS = 256
_SILENT = 10.0  # [s] in which a connection has to send a request
_MOST_TRACES = 128  # that one page shows
_LAST = 0.25  # [s] how long browsers may take to get the last state
_PATIENCE = 5.0  # [s] for the thread to end

_FILES = {  # what there is in static/
    **{f"{name}.js": "text/javascript" for name in ("page", "run", "charts", "drawings", "lists")},
    "page.css": "text/css",
    "look.css": "text/css",
    "icon.svg": "image/svg+xml",
    "uPlot.iife.min.js": "text/javascript",
    "uPlot.min.css": "text/css",
    "uPlot-LICENSE.txt": "text/plain",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class WebPage:
    """
    A page that shows a run in browsers while it goes on: a consumer that makes nobody wait.

    It may miss readings: where they come faster than it takes them, the oldest are passed over, and the page says how
    many. The analysis loses none by it.

    Parameters
    ----------
    host : str
        Where to listen; loopback unless told otherwise. Elsewhere the link has a token, without which nothing is shown.
    port : int
        Of TCP; 0 for one that is free.
    describe : callable, optional
        Returns what is known of a sensor, from its id and the reading's flags, see
        `f1buf.telemetry.F1TelemetrySystem.start`. Called by the page's thread.
    source : str
        Where the readings come from, for people.
    thresholds : iterable of Threshold
        What the readings are checked against.
    status : callable, optional
        Returns how the run does, ready for JSON, with the keys of ``f1buf.command.progress.Progress.as_dict``: the page
        shows it in its head. Called by the page's thread.

    Attributes
    ----------
    name : str
        For error messages and the names of threads.
    ring : RingBuffer
        Of READING: put readings here, and shut it down when the run has ended.
    address : str
        The link to the page.

    Raises
    ------
    PageError
        It cannot listen there.

    Examples
    --------
    >>> from f1buf.telemetry import F1TelemetrySystem
    >>> from f1buf.web.server import WebPage
    >>> with WebPage() as page:
    ...     system = F1TelemetrySystem(on_alert=page.alert)
    ...     readings = system.run(rate=None, count=100, consumers=[page]).readings
    >>> readings, page.address.startswith("http://127.0.0.1:")
    (500, True)

    Notes
    -----
    The page is there from the start of the run until `close`: behind the run's end it shows the last state.
    """

    name = "page"
    may_miss = True

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        describe: Callable[[int, int], Mapping[str, Any]] | None = None,
        *,
        source: str = "",
        thresholds: Iterable[Threshold] = (),
        status: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self.ring = RingBuffer(_INBOX, READING, overflow="drop_oldest")
        self._socket = _listening(host, port)
        bound, self.port = self._socket.getsockname()[:2]
        ip = ipaddress.ip_address(bound.partition("%")[0])
        self.token = "" if ip.is_loopback else secrets.token_urlsafe(16)
        if ip.is_unspecified:  # every network's: the likeliest address of this machine
            host = next(iter(local_addresses(ipv6=ip.version == 6)), "localhost")
        shown = f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{self.port}/" + (f"?token={self.token}" if self.token else "")
        self._names = {"localhost", host.lower(), socket.gethostname().lower()}
        self._watcher = Watcher(self.ring, describe or (lambda *_: {}), thresholds, source, status)
        self._server = self._new_server()
        self._thread: threading.Thread | None = None
        self._drained = threading.Event()  # the run has ended, and all of it is shown
        self._closing = False
        self._is_last = False  # the messages from now on are the last ones
        self._failure: BaseException | None = None
        self._news = asyncio.Event()  # set at the end of a round, and replaced
        self._pages = 0  # that are open
        self._cost = 0.0  # [s] of the processor, of this round
        self._silent: dict[Any, float] = {}  # connections that have sent no request, and since when

    def alert(self, alert: Alert) -> None:
        """Show an alert; from any thread, as ``on_alert`` of the system."""
        self._watcher.alert(alert)

    def run(self) -> None:
        """Show the readings until the ring is shut down and drained; in a thread of its own.

        The page stays until `close`.
        """
        self._thread = threading.Thread(target=self._serve, name="page: serves", daemon=True)
        self._thread.start()
        self._drained.wait()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Take the page away, once browsers have had a moment to get the last state."""
        self._closing = True
        if self._thread is not None:
            self._thread.join(_PATIENCE)
        self._socket.close()

    def __enter__(self) -> "WebPage":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def as_dict(self) -> dict[str, Any]:
        """Return what came of it, ready for JSON."""
        return {"readings": self._watcher.shown, "passed_over": self.ring.stats().dropped}

    def __str__(self) -> str:
        return f"{self._watcher.shown:,} readings, {self.ring.stats().dropped:,} passed over"

    # -- the thread that serves ---------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            asyncio.run(self._run_server())
        except BaseException as error:
            self._failure = error
        finally:
            self._drained.set()

    async def _run_server(self) -> None:
        server = self._server
        serving = asyncio.create_task(server.serve(sockets=[self._socket]))
        try:
            await self._watch(serving)
        finally:
            server.should_exit = server.force_exit = True
            for connection in list(server.server_state.connections):  # of browsers that do not read
                if connection.transport is not None:
                    connection.transport.abort()
            await serving

    async def _watch(self, serving: "asyncio.Task[None]") -> None:
        """Take what has come, and let the browsers have it, until this is closed."""
        while not self._closing and not serving.done():
            began, self._cost = time.monotonic(), 0.0
            self._look()
            if self._watcher.ended:
                self._drained.set()
            self._drop_silent(began)
            await self._rest(began)
        self._is_last = True
        self._look()
        until = time.monotonic() + _LAST
        while self._pages and time.monotonic() < until:
            await asyncio.sleep(0.005)

    def _look(self) -> None:
        with self._counting_cost():
            self._watcher.look()
        self._news.set()
        self._news = asyncio.Event()

    @contextmanager
    def _counting_cost(self) -> Iterator[None]:
        before = time.thread_time()
        yield
        self._cost += time.thread_time() - before

    def _drop_silent(self, now: float) -> None:
        """Cut connections that have sent no request for long: they are counted, and others would not be let in."""
        silent = [each for each in self._server.server_state.connections if getattr(each, "cycle", self) is None]
        self._silent = {each: self._silent.get(each, now) for each in silent}
        for connection, since in self._silent.items():
            if now - since > _SILENT and connection.transport is not None:
                connection.transport.abort()

    async def _rest(self, began: float) -> None:
        """Wait until the next round; not where the run has just ended."""
        while not self._closing:
            until = began + min(max(_PERIOD, _REST * self._cost), _LONGEST_REST)
            if (left := until - time.monotonic()) <= 0 or (self.ring.is_shutdown and not self._watcher.ended):
                return
            await asyncio.sleep(min(left, _SLICE))

    def _new_server(self) -> uvicorn.Server:
        config = uvicorn.Config(
            _Guard(self._application(), self._names, self.token),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_MOST_CONNECTIONS,
        )
        config.load()  # now, not while the run begins
        return uvicorn.Server(config)

    # -- what it serves -----------------------------------------------------------------------------------------------

    def _application(self) -> Starlette:
        static = importlib.resources.files("f1buf.web") / "static"
        files = {name: (static / name).read_bytes() for name in _FILES}
        page = (static / "page.html").read_bytes()

        async def show_page(request: Request) -> Response:
            return Response(page, media_type="text/html")

        async def show_file(request: Request) -> Response:
            name = request.path_params["name"]
            if name not in files:
                return PlainTextResponse("There is no such file here.\n", 404)
            return Response(files[name], media_type=_FILES[name])

        routes = [
            Route("/", show_page),
            Route("/static/{name}", show_file),
            Route("/events", self._show_events),
            Route("/history", self._show_history),
        ]
        return Starlette(routes=routes)

    async def _show_events(self, request: Request) -> Response:
        """Server-sent events: what has changed, again and again."""
        try:
            rows = self._rows(request)
        except ValueError as error:
            return PlainTextResponse(f"{error}\n", 400)
        if self._pages >= _MOST_PAGES:
            return PlainTextResponse(f"{_MOST_PAGES} pages are open already: close one of them.\n", 503)
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        return StreamingResponse(self._events(rows), media_type="text/event-stream")

    async def _events(self, rows: list[int]) -> AsyncIterator[str]:
        revision = alerts = 0
        if self._pages >= _MOST_PAGES:  # others have come at the same moment
            return
        self._pages += 1
        try:
            yield "retry: 1000\n\n"
            while True:
                news, is_last = self._news, self._is_last
                with self._counting_cost():
                    text, revision, alerts = self._watcher.message(revision, alerts, rows)
                yield f"data: {text}\n\n"
                if is_last:
                    return
                await news.wait()
        finally:
            self._pages -= 1

    async def _show_history(self, request: Request) -> Response:
        """The course of some series in a stretch of time."""
        try:
            rows = self._rows(request)
            start, stop = (_number(request.query_params.get(name, "")) for name in ("start", "stop"))
        except ValueError as error:
            return PlainTextResponse(f"{error}\n", 400)
        return Response(self._watcher.history(rows, start, stop), media_type="application/json")

    def _rows(self, request: Request) -> list[int]:
        """The series that a request names, where their numbers are this run's."""
        text = request.query_params.get("rows", "")
        if not text or request.query_params.get("run") != self._watcher.run:
            return []
        rows = [_number(each) for each in text.split(",", _MOST_TRACES)[:_MOST_TRACES]]
        return list(dict.fromkeys(rows))


def _number(text: str) -> int:
    if not text.removeprefix("-").isdecimal() or len(text) > 18:
        raise ValueError(f"{text[:40]!r}: expected a whole number.")
    return int(text)


def _listening(host: str, port: int) -> socket.socket:
    name = joined(host, port)
    try:
        family, address = resolved(host, port, name)
    except ListenError as error:
        raise PageError(str(error)) from None
    both = host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server(address, family=family, backlog=128, dualstack_ipv6=both)
    except OSError as error:
        advice = "; choose another port, or 0 for one that is free" if error.errno == errno.EADDRINUSE else ""
        raise PageError(f"{name}: {os.strerror(error.errno) if error.errno else error}{advice}") from None


def _netloc(origin: str) -> str | None:
    """The host and port of an origin; None of one that is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


class _Guard:
    """Lets requests through that may read the page, and sets what browsers have to know of the answers."""

    def __init__(self, app: ASGIApp, names: set[str], token: str) -> None:
        self._app, self._names, self._token = app, names, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            await send(message)

        app = self._app
        if request.method not in ("GET", "HEAD"):
            app = PlainTextResponse("This page is read by GET and HEAD alone.\n", 405, {"Allow": "GET, HEAD"})
        elif why := self._why_not(request):
            app = PlainTextResponse(f"{why}\n", 403)
        await app(scope, receive, send_guarded)

    def _why_not(self, request: Request) -> str | None:
        """Return why a request is refused, or None."""
        host = request.headers.get("host", "")
        if not self._is_ours(host):
            return "The page is not known by this name: use the address that f1buf printed."
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "none")
        opened = request.url.path == "/" and request.headers.get("sec-fetch-mode", "navigate") == "navigate"
        foreign = origin is not None and _netloc(origin) != host.lower()
        if foreign or (site not in ("same-origin", "none") and not opened):
            return "Other sites may not read this page."
        is_static = request.url.path.startswith("/static/")
        given = request.query_params.get("token", "")
        if self._token and not is_static and not hmac.compare_digest(given.encode(), self._token.encode()):
            return "The link to this page has a token: use the whole address that f1buf printed."
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            return name in self._names
        return True
