"""The live page's server: what it tells browsers, whom it tells nothing, and that nobody waits for it."""

import asyncio
import contextlib
import http.client
import json
import math
import resource
import socket
import threading
import time

import numpy as np
import pytest
from cli_helpers import Given, pieces, readings, watchdog
from helpers import WATCHDOG, wait_until

uvicorn = pytest.importorskip("uvicorn", reason="the live page needs uvicorn")
pytest.importorskip("starlette", reason="the live page needs starlette")

from f1buf.telemetry import F1TelemetrySystem, Threshold  # noqa: E402
from f1buf.telemetry.errors import PageError  # noqa: E402
from f1buf.web import server as module  # noqa: E402
from f1buf.web.server import WebPage  # noqa: E402


@contextlib.contextmanager
def shown(page, limit=watchdog):
    """Run the consumer while the block lasts, in a thread as the system does."""
    with limit(), page:
        thread = threading.Thread(target=page.run)
        thread.start()
        try:
            yield page
        finally:
            page.ring.shutdown()
            thread.join()


@pytest.fixture
def page():
    with shown(WebPage(thresholds=[Threshold("SPEED", above=3.0, message="<b>fast</b>")])) as page:
        yield page


@pytest.fixture(scope="module")
def still():
    """A page without readings, for requests that change nothing."""
    with shown(WebPage(), contextlib.nullcontext) as page:
        yield page


def ask(page, path="/", method="GET", **headers):
    """Return the status, the headers and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=30)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read(1 << 14).decode()  # events have no end
    finally:
        connection.close()


class Browser:
    """Reads the events as a page does, and puts them together."""

    def __init__(self, page, query=""):
        self.connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=30)
        self.connection.request("GET", f"/events{query}")
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200
        self.about, self.values, self.series, self.traces, self.alerts = {}, {}, {}, {}, []
        self.messages = 0

    def read(self):
        """Take the next message in; return it, or None at the end."""
        while line := self.answer.readline():
            if line.startswith(b"data: "):
                message = json.loads(line[6:], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
                self.messages += 1
                self.about |= message
                self.series |= dict(message["series"])
                self.values |= dict(zip(*message["values"], strict=True))
                self.alerts += message["alerts"]
                for row, trace in message["traces"].items():
                    if trace.get("anew"):
                        self.traces[int(row)] = {}
                    self.traces[int(row)] |= {
                        n: ends for n, *ends in zip(*(trace[k] for k in ("n", "low", "high")), strict=True)
                    }
                return message
        return None

    def read_until(self, holds):
        while not holds(self):
            assert self.read() is not None
        return self

    def close(self):
        self.connection.close()


def test_a_browser_gets_the_latest_values_as_they_are(page):
    stream = readings([1.5, 0.1 + 0.2, math.nan, -math.inf], sensors=4)
    page.ring.put_many(stream)
    browser = Browser(page).read_until(lambda b: len(b.values) == 4)
    by_sensor = {browser.series[row]["sensor"]: value for row, value in browser.values.items()}
    assert by_sensor == {0: 1.5, 1: 0.1 + 0.2, 2: "nan", 3: "-inf"}
    assert {each["unit"] for each in browser.series.values()} == {"km/h"}
    assert browser.about["thresholds"] == [{"channel": "SPEED", "message": "<b>fast</b>", "above": 3.0}]
    page.ring.put_many(readings([9.25], start=4))
    browser.read_until(lambda b: 9.25 in b.values.values())
    browser.close()


def test_it_gets_the_traces_that_it_asks_for_and_their_news(page):
    page.ring.put_many(readings(np.arange(90.0), sensors=3))
    browser = Browser(page).read_until(lambda b: len(b.values) == 3)
    browser.close()
    (row,) = (row for row, known in browser.series.items() if known["sensor"] == 1)
    browser = Browser(page, f"?run={browser.about['run']}&rows={row}").read_until(lambda b: b.traces)
    newest = browser.about["clocks"][""]
    assert browser.traces == {row: {10 * n: [n, n] for n in range(1, 90, 3) if 10 * n >= newest - 600}}
    late = readings([500.0])
    late["sensor_id"], late["timestamp"] = 1, 88.05  # into a bucket that is there already
    page.ring.put_many(late)
    browser.read_until(lambda b: b.traces[row][880] == [88.0, 500.0])
    browser.close()


def test_another_runs_rows_are_nobodys(page):
    page.ring.put_many(readings([1.0]))
    browser = Browser(page, "?run=another&rows=0").read_until(lambda b: b.values)
    assert browser.traces == {}
    browser.close()


def test_history_goes_back_further_than_the_page_shows(page):
    page.ring.put_many(readings(np.arange(250.0)))
    browser = Browser(page).read_until(lambda b: b.values)
    browser.close()
    status, _, body = ask(page, f"/history?run={browser.about['run']}&rows=0,7&start=100&stop=131")
    assert (status, json.loads(body)["traces"]) == (
        200,
        {"0": {"n": [100, 110, 120, 130], "low": [10.0, 11.0, 12.0, 13.0], "high": [10.0, 11.0, 12.0, 13.0]}},
    )


def test_alerts_come_and_names_are_texts():
    hostile = "</script><img src=x onerror=alert(1)>"
    with shown(WebPage(describe=lambda *_: {"car": 1, "driver": hostile}, source=hostile)) as page:
        system = F1TelemetrySystem(thresholds=[Threshold("SPEED", above=3.0, message=hostile)], on_alert=page.alert)
        system.start([Given(readings([5.0]))], 1, describe=lambda *_: {"driver": hostile})
        system.wait()
        system.shutdown()
        page.ring.put_many(readings([5.0]))
        browser = Browser(page).read_until(lambda b: b.alerts and b.series)
        browser.close()
        assert [each["message"] for each in browser.alerts] == [hostile]
        assert browser.series[0]["driver"] == browser.about["source"] == hostile
        assert hostile not in ask(page)[2]


def test_the_end_of_the_run_is_told_and_the_last_state_stays_until_the_page_is_closed(monkeypatch):
    monkeypatch.setattr(module, "_LAST", WATCHDOG)  # its thread may be held up
    monkeypatch.setattr(module, "_PATIENCE", WATCHDOG)
    with watchdog():
        page = WebPage()
        thread = threading.Thread(target=page.run)
        thread.start()
        browser = Browser(page).read_until(lambda b: b.about)
        page.ring.put_many(readings([1.0, 7.5]))
        page.ring.shutdown()
        thread.join()
        browser.read_until(lambda b: b.about["ended"])
        later = Browser(page).read_until(lambda b: b.about)
        assert list(browser.values.values()) == list(later.values.values()) == [7.5]
        page.close()
        for each in (browser, later):
            while each.read() is not None:
                pass
            each.close()
        with pytest.raises(ConnectionRefusedError):
            ask(page)


# Twenty browsers ------------------------------------------------------------------------------------------------------


def deaf(page):
    """A browser that asks and never reads."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", page.port))
    connection.sendall(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    return connection


def test_twenty_browsers_of_which_one_never_reads_cost_the_analysis_no_reading(monkeypatch):
    monkeypatch.setattr(module, "_PERIOD", 0.002)
    monkeypatch.setattr(module, "_REST", 0.0)
    stream = readings(np.arange(300_000.0), sensors=200)

    class Source(Given):
        def batches(self, stop):
            for batch in super().batches(stop):
                yield batch
                stop.wait(0.001)

    with watchdog():
        page = WebPage()
        system = F1TelemetrySystem(8192, thresholds=())
        system.start([Source(*pieces(stream, 400))], 2, consumers=[page])
        wait_until(lambda: page._thread is not None)
        silent = deaf(page)
        browsers = [Browser(page) for _ in range(19)]
        threads = [
            threading.Thread(target=lambda each=each: each.read_until(lambda b: b.about.get("ended")))
            for each in browsers
        ]
        for thread in threads:
            thread.start()
        system.wait()
        summary = system.shutdown()
        for thread in threads:
            thread.join()
        page.close()
        silent.close()
    assert (summary.readings, summary.analysed, summary.dropped) == (300_000, 300_000, 0)
    assert page.as_dict() == {"readings": 300_000 - page.ring.stats().dropped, "passed_over": page.ring.stats().dropped}
    newest = {sensor: float(300_000 - 200 + sensor) for sensor in range(200)}
    for browser in browsers:
        assert {browser.series[row]["sensor"]: value for row, value in browser.values.items()} == newest
        browser.close()


def test_a_browser_that_never_reads_costs_no_memory(page, monkeypatch):
    monkeypatch.setattr(module, "_PERIOD", 0.001)
    monkeypatch.setattr(module, "_REST", 0.0)
    stream = readings(np.arange(2000.0), sensors=2000)  # messages of 40 KB
    connections = [deaf(page) for _ in range(8)]

    def rounds(count):
        for _ in range(count):
            before = page._watcher.shown
            page.ring.put_many(stream)
            wait_until(lambda before=before: page._watcher.shown > before)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = rounds(100)  # by then their connections are full
    assert rounds(300) - before < 32 * 1024  # [KiB]; 8 times 300 messages would be 96 MB
    for connection in connections:
        connection.close()


def test_the_page_rests_in_proportion_to_its_work(page, monkeypatch):
    """However long it is held up: so the least that it may rest is compared, round by round."""
    monkeypatch.setattr(module, "_PERIOD", 0.0)
    rounds, rest = [], page._rest

    async def noted(began):
        await rest(began)
        rounds.append((page._cost, time.monotonic() - began))

    monkeypatch.setattr(page, "_rest", noted)
    while len(rounds) < 10:
        before = page._watcher.shown
        page.ring.put_many(readings(np.arange(100.0), sensors=100))
        wait_until(lambda before=before: page._watcher.shown > before)
    assert all(lasted > 0.99 * min(100 * cost, 1.0) for cost, lasted in rounds)
    assert max(lasted for _, lasted in rounds) > 0.005  # though it need not rest at all, but for its work


# Who may read it ------------------------------------------------------------------------------------------------------


def test_every_answer_has_the_headers_that_browsers_heed(still):
    for path in ("/", "/static/page.js", "/static/uPlot.iife.min.js", "/history", "/nothing"):
        _, headers, _ = ask(still, path)
        assert headers["Content-Security-Policy"].startswith("default-src 'self'; ")
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "", "[", "localhost.evil.example"])
def test_a_foreign_name_is_refused(still, host):
    status, _, body = ask(still, host=host)
    assert (status, body) == (403, "The page is not known by this name: use the address that f1buf printed.\n")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1234", "[::1]:8000", "192.168.1.7", socket.gethostname()])
def test_addresses_and_this_machines_name_are_not(still, host):
    assert ask(still, host=host)[0] == 200


@pytest.mark.parametrize("path", ["/events", "/history", "/static/page.js"])
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "http://["},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site", "sec_fetch_mode": "cors"},
    ],
)
def test_another_site_reads_nothing(still, path, headers):
    status, _, body = ask(still, path, **headers)
    assert (status, body) == (403, "Other sites may not read this page.\n")


def test_the_page_itself_reads_it_and_a_link_elsewhere_opens_it(still):
    own = {"origin": f"http://127.0.0.1:{still.port}", "sec_fetch_site": "same-origin"}
    assert ask(still, "/history", **own)[0] == 400  # it lacks start and stop
    assert ask(still, "/", sec_fetch_site="cross-site", sec_fetch_mode="navigate")[0] == 200
    assert ask(still, "/", sec_fetch_site="cross-site", sec_fetch_mode="no-cors")[0] == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_it_is_only_read(still, method):
    status, headers, body = ask(still, "/", method)
    assert (status, headers["Allow"], body) == (405, "GET, HEAD", "This page is read by GET and HEAD alone.\n")


def test_head_answers_at_once(still):
    for path in ("/", "/events"):
        assert ask(still, path, "HEAD")[::2] == (200, "")


def test_beyond_this_machine_the_link_has_a_token():
    with shown(WebPage("0.0.0.0")) as page:
        assert page.address.endswith(f":{page.port}/?token={page.token}")
        assert "0.0.0.0" not in page.address  # which no browser elsewhere could open
        assert len(page.token) >= 20
        why = "The link to this page has a token: use the whole address that f1buf printed.\n"
        for path in ("/", "/events", "/history"):
            for query in ("", "?token=", f"?token={page.token[:-1]}", "?token=%C3%A9"):
                assert ask(page, path + query)[::2] == (403, why)
        assert ask(page, f"/?token={page.token}")[0] == 200
        assert ask(page, f"/history?token={page.token}")[0] == 400
        assert ask(page, "/static/page.js")[0] == 200  # which holds nothing of the run


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("start=1&stop=x", "'x': expected a whole number."),
        ("start=1", "'': expected a whole number."),
        ("start=1&stop=1" + "0" * 20, "'100000000000000000000': expected a whole number."),
        ("start=²&stop=1", "'²': expected a whole number."),
    ],
)
def test_a_query_that_makes_no_sense_is_told_so(still, query, why):
    status, _, body = ask(still, f"/history?{query}".replace("²", "%C2%B2"))
    assert (status, body) == (400, f"{why}\n")


def test_queries_are_bounded(page):
    page.ring.put_many(readings([1.0]))
    browser = Browser(page).read_until(lambda b: b.values)
    browser.close()
    rows = ",".join(map(str, range(5000)))
    assert ask(page, f"/history?run={browser.about['run']}&rows={rows}&start=0&stop=1")[0] == 200
    with contextlib.suppress(ConnectionError):  # it need not read to its end what is too large
        assert ask(page, f"/history?rows={'1,' * 100_000}")[0] == 400
    assert ask(page)[0] == 200


def test_so_are_the_pages_that_are_open(page, monkeypatch):
    monkeypatch.setattr(module, "_MOST_PAGES", 2)
    browsers = [Browser(page), Browser(page)]
    for browser in browsers:
        browser.read()
    assert ask(page, "/events")[::2] == (503, "2 pages are open already: close one of them.\n")
    browsers[0].close()
    wait_until(lambda: page._pages < 2)
    Browser(page).close()
    browsers[1].close()


# Where it listens -----------------------------------------------------------------------------------------------------


def test_as_many_come_at_once_as_one_after_another(still, monkeypatch):
    """Requests that come together are all let in before the first is answered: the answer looks again."""
    monkeypatch.setattr(still, "_pages", module._MOST_PAGES)

    async def told():
        return [text async for text in still._events([])]

    assert asyncio.run(told()) == []


def test_connections_that_say_nothing_are_cut(page, monkeypatch):
    browser = Browser(page)  # before that: until it has sent its request, it says nothing, either
    monkeypatch.setattr(module, "_SILENT", 0.2)
    with (
        socket.create_connection(("127.0.0.1", page.port), 30) as silent,
        contextlib.suppress(ConnectionResetError),
    ):
        assert silent.recv(1) == b""
    page.ring.put_many(readings([1.0]))
    browser.read_until(lambda b: b.values)  # it has sent a request
    browser.close()


def test_the_page_never_rests_for_long(page, monkeypatch):
    """However much a round has cost: here it would be for hours."""
    monkeypatch.setattr(module, "_REST", 1e9)
    monkeypatch.setattr(module, "_LONGEST_REST", 0.01)
    browser = Browser(page)
    for value in (1.0, 2.0, 3.0):
        page.ring.put_many(readings([value]))
        browser.read_until(lambda b, value=value: value in b.values.values())
    browser.close()


def test_names_are_made_fit_to_be_shown():
    sensor = {"part": "a\nb\u202e" + "x" * 3000}
    with shown(WebPage(describe=lambda *_: sensor)) as page:
        page.ring.put_many(readings([1.0]))
        browser = Browser(page).read_until(lambda b: b.series)
        ((known),) = browser.series.values()
        assert len(known["part"]) == 100
        assert known["part"].isprintable()
        browser.close()


def test_a_port_that_is_taken_is_told_in_one_line(still):
    said = "Address already in use; choose another port, or 0 for one that is free"
    with pytest.raises(PageError, match=rf"^127\.0\.0\.1:{still.port}: {said}$"):
        WebPage(port=still.port)


@pytest.mark.parametrize("host", ["no.such.name.invalid", "192.0.2.1", "a" * 300])
def test_so_is_a_host_that_is_not_ours(host):
    with pytest.raises(PageError, match=rf"^{host}:0: (?!.*Unknown).+"):
        WebPage(host)


def test_ipv6():
    try:
        page = WebPage("::1")
    except PageError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with page:
        assert page.address == f"http://[::1]:{page.port}/"


def test_a_failure_of_the_page_is_raised_and_stops_nothing_else(monkeypatch):
    def broken(*_):
        raise OSError("no <page> today")

    failures = []
    with watchdog(), WebPage() as page:
        monkeypatch.setattr(page._watcher.traces, "take", broken)
        system = F1TelemetrySystem(thresholds=(), on_failure=lambda name, error: failures.append((name, str(error))))
        system.start([Given(readings([1.0]))], 1, consumers=[page])
        system.wait()
        with pytest.raises(Exception, match="page failed: OSError: no <page> today"):
            system.shutdown()
    assert (failures, system.summary.analysed) == ([("page", "no <page> today")], 1)
