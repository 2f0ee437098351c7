"""The live page in a real browser."""

import contextlib
import threading
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from browser_helpers import DESKTOP, PHONE, browsing
from cli_helpers import free_port, readings
from helpers import wait_until

pytest.importorskip("selenium", reason="a browser is driven by selenium")
pytest.importorskip("uvicorn", reason="the live page needs uvicorn")
pytest.importorskip("starlette", reason="the live page needs starlette")

from selenium.webdriver.common.keys import Keys

from f1buf import READING
from f1buf.telemetry import ENGINE_TEMP, FUEL_LEVEL, G_FORCE, SPEED, TIRE_PRESSURE, Alert, Threshold
from f1buf.web.server import WebPage

HOSTILE = "<img src=x onerror=document.title='run'>"
THRESHOLDS = (
    Threshold("SPEED", above=330.0, message=f"too fast {HOSTILE}"),
    Threshold("G_FORCE", above=4.5, absolute=True, message="G"),
)
MINUS = "\N{MINUS SIGN}"
DRIVERS = ("ANN", "BOB", HOSTILE, "DAN", "EVE", "FAY", "GUS", "HAL")
PARTS = (
    (SPEED, None),
    (ENGINE_TEMP, None),
    *((TIRE_PRESSURE, wheel) for wheel in ("RL", "RR", "FL", "FR")),
    *((G_FORCE, axis) for axis in ("lateral", "longitudinal", "vertical")),
    (FUEL_LEVEL, None),
)
STATUS = {
    "seconds": 75.2,
    "rate": 1320.4,
    "analysed": 99_123,
    "size": 5,
    "capacity": 8192,
    "losses": {"on the network": 3},
}
STATUS |= {"latency_s": {"p50": 31e-6, "p99": 7e-3}, "rejected": 0, "recorder": "", "draining": None}


def describe(sensor, flags):
    car, part = divmod(sensor, 16)
    return {"car": car, "driver": DRIVERS[car], "lap": 2, "part": PARTS[part][1], "session": 123456789012345678}


def value_of(car, part, at):
    return (
        {SPEED: 200.0, ENGINE_TEMP: 100.0, TIRE_PRESSURE: 1.5, G_FORCE: -2.0, FUEL_LEVEL: 50.0}[PARTS[part][0]]
        + car
        + part / 100
        + at / 1000
    )


def lap(start, count, cars=8, rate=20):
    """Readings of all cars, `rate` a second of each series; `start` and `count` in seconds."""
    rows = [
        (at, 16 * car + part, channel.number, 0, value_of(car, part, at))
        for at in np.arange(start, start + count, 1 / rate).tolist()
        for car in range(cars)
        for part, (channel, _) in enumerate(PARTS)
    ]
    return np.array(rows, READING)


@contextlib.contextmanager
def served(describe=describe, port=0, status=lambda: STATUS, **options):
    page = WebPage(
        "127.0.0.1", port, describe, source=f"race {HOSTILE}", thresholds=THRESHOLDS, status=status, **options
    )
    with page:
        thread = threading.Thread(target=page.run)
        thread.start()
        try:
            yield page
        finally:
            page.ring.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def browser():
    with browsing() as browser:
        yield browser


@pytest.fixture
def page(browser):
    with served() as page:
        browser.resize(DESKTOP)
        browser.complaints()
        browser.requested()
        yield page
        browser.driver.get("about:blank")


CELLS = "[...document.querySelectorAll('table.cars tbody tr')].map(row => [...row.cells].map(cell => cell.textContent))"
LIVE = "document.querySelector('#state').textContent === 'Live'"


def shown(browser, page, fragment="", readings=None):
    page.ring.put_many(lap(0, 5) if readings is None else readings)
    wait_until(lambda: page.as_dict()["readings"] == page.ring.stats().offered, "the page to know all of them")
    browser.driver.get(page.address + fragment)
    browser.until(f"{LIVE} && document.querySelector('#tables table td')?.textContent")


def test_values_on_the_page_are_those_of_the_readings(browser, page):
    shown(browser, page)
    at = 5 - 1 / 20
    cells = browser.script(f"return {CELLS}")
    assert len(cells) == len(DRIVERS)
    for car, (head, speed, engine, tyres, force, fuel) in enumerate(cells):
        assert head == f"{car}{DRIVERS[car]}L2"
        assert (speed, engine) == (f"{value_of(car, 0, at):.0f}", f"{value_of(car, 1, at):.1f}")
        assert tyres == f"{value_of(car, 2, at):.2f}…{value_of(car, 5, at):.2f}"
        assert force.replace(MINUS, "-") == f"{value_of(car, 6, at):.2f}…{value_of(car, 8, at):.2f}"
        assert fuel == f"{value_of(car, 9, at):.1f}"
    assert browser.text("#source") == f"race {HOSTILE}"
    status = browser.text("#status").split()
    for word in ("1:15", "1,320", "99,123", "8,192", "31", "µs"):
        assert word in status
    assert "3 on the network" in browser.text("#status")


def test_they_follow_the_readings(browser, page):
    shown(browser, page)
    for speed in (331.0, 12.0):
        reading = readings([speed], start=6)
        reading["sensor_id"] = 16
        page.ring.put_many(reading)
        browser.until(f"{CELLS}[1][1] === '{speed:.0f}'")
        over = browser.script("return document.querySelectorAll('table.cars tbody tr')[1].cells[1].className")
        assert ("over" in over) == (speed > 330)


def test_traces_are_those_of_the_readings_and_the_page_shows_the_last_minute(browser, page):
    shown(browser, page, "#car=5678:1&of=SPEED", lap(0, 130))
    (label,) = browser.until(
        "(l => l.length === 1 && l[0].getAttribute('aria-label') ? [l[0].ariaLabel] : 0)"
        "(document.querySelectorAll('#charts [role=img]'))"
    )
    assert label == f"Trace of a minute, to BOB {value_of(1, 0, 129.95):.0f} km/h"
    inked = (
        "(c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter(Boolean).length)"
        "(document.querySelector('#charts canvas'))"
    )
    browser.until(f"{inked} > 1000")


def test_cars_and_channels_are_chosen_and_the_link_says_which(browser, page):
    shown(browser, page)
    titles = "[...document.querySelectorAll('#charts h3')].map(each => each.textContent.split(' ')[0])"
    assert len(browser.script(f"return {titles}")) == 4
    for key in ("g 5678:0", "g 5678:1", "g 5678:4", "c ENGINE_TEMP", "c FUEL_LEVEL", "c TIRE_PRESSURE RL"):
        browser.script("[...document.querySelectorAll('input')].find(b => b.dataset.key === arguments[0]).click()", key)
    assert browser.script(f"return {titles}") == ["SPEED"]
    assert browser.script("return [...document.querySelectorAll('#charts li span')].map(e => e.textContent)") == ["EVE"]
    link = browser.driver.current_url
    assert urlsplit(link).fragment == "car=5678%3A4&of=SPEED"
    browser.driver.get("about:blank")
    browser.driver.get(link)
    browser.until(f"{titles}.join() === 'SPEED' && document.querySelector('#charts li span').textContent === 'EVE'")
    boxes = "[...document.querySelectorAll('input:checked')].map(each => each.dataset.key)"
    assert browser.script(f"return {boxes}") == ["c SPEED", "g 5678:4"]
    browser.script(f"location.hash = '{quote('car=5678:1&of=FUEL_LEVEL', safe='=&')}'")  # as "back" does
    browser.until(f"{titles}.join() === 'FUEL_LEVEL' && {boxes}.join() === 'c FUEL_LEVEL,g 5678:1'")


def test_a_name_that_becomes_known_later_is_shown(browser):
    def known_later(sensor, flags):
        return {**describe(sensor, flags), "driver": f"DRIVER {sensor // 16}" if flags else None}

    with served(known_later) as page:
        shown(browser, page, "#car=5678:1&of=SPEED", lap(0, 1, cars=2))
        names = "['#charts li span', '#drawings h3', 'table.cars tr:last-child label span:nth-of-type(2)']"
        said = f"{names}.map(name => document.querySelector(name)?.textContent).join()"
        browser.until(f"{said} === 'Car 1,Car 1,Car 1'")
        later = lap(1, 1, cars=2)
        later["flags"] = 1
        page.ring.put_many(later)
        browser.until(f"{said} === 'DRIVER 1,DRIVER 1,DRIVER 1'")
        browser.driver.get("about:blank")


def test_drawings_show_the_wheels_and_the_forces(browser, page):
    shown(browser, page, "#car=5678:3&of=SPEED")
    at = 5 - 1 / 20
    wheels = browser.until(
        "(w => w.length === 4 && w.every(d => d.textContent) && w.map(d => d.textContent))"
        "([...document.querySelectorAll('.wheel dd')])"
    )
    assert wheels == [f"{value_of(3, part, at):.2f}" for part in (4, 5, 2, 3)]  # front ones first
    x, y = browser.script("return ['cx', 'cy'].map(n => Number(document.querySelector('.dot').getAttribute(n)))")
    assert x == pytest.approx(60 + 56 * value_of(3, 6, at) / 6)
    assert y == pytest.approx(60 - 56 * value_of(3, 7, at) / 6)


def test_pause_freezes_the_page_while_the_data_go_on_and_one_can_scroll_back(browser, page):
    shown(browser, page, "#car=5678:1&of=SPEED", lap(0, 100))
    browser.script("document.querySelector('#pause').click()")
    frozen = browser.script(f"return {CELLS}")
    page.ring.put_many(lap(100, 30))
    before = page._watcher.traces.revision
    browser.until("document.querySelector('#pause').getAttribute('aria-pressed') === 'true'")
    browser.script(
        "const back = document.querySelector('#back'); back.value = 40; back.dispatchEvent(new Event('input'))"
    )
    browser.until("document.querySelector('#when').textContent === '40 s ago'")
    then = value_of(1, 0, 99.95 - 40)
    browser.until(f"document.querySelector('#charts li b').textContent === '{then:.0f}'")
    assert browser.script(f"return {CELLS}") == frozen
    assert page._watcher.traces.revision >= before
    browser.script("document.querySelector('#pause').click()")
    browser.until(f"{CELLS}[0][1] === '{value_of(0, 0, 129.95):.0f}'")
    assert browser.script("return document.querySelector('#back').value") == "0"
    browser.until(LIVE)


def test_alerts_come(browser, page):
    shown(browser, page)
    for count in range(1, 4):
        page.alert(Alert("rise", 5.0, count, 16, "SPEED", 330.0 + count, "km/h", THRESHOLDS[0], 1, HOSTILE))
        browser.until(f"document.querySelectorAll('#alert-list li').length === {count}")
    first = browser.script("return document.querySelector('#alert-list li').textContent")
    assert "too fast <img" in first
    assert "SPEED 333 km/h" in first
    assert browser.text("#alerts-title") == "3 alerts"
    assert "333" in browser.text("#last-alert")


def test_names_with_html_are_shown_not_run(browser, page):
    shown(browser, page, f"#{quote('car=5678:2&of=SPEED&series=' + HOSTILE, safe='=&')}")
    assert browser.until("document.querySelector('#charts li span').textContent") == HOSTILE
    assert browser.script("return document.images.length") == 0
    assert browser.script("return document.title") == f"race {HOSTILE}: f1buf"


def test_nothing_is_asked_of_others_and_the_console_is_empty(browser, page):
    shown(browser, page)
    for dark in (True, False):
        browser.resize(DESKTOP, dark)
    requested = browser.requested()
    assert {urlsplit(url).netloc for url in requested if not url.startswith("about:")} == {f"127.0.0.1:{page.port}"}
    assert any(urlsplit(url).path == "/events" for url in requested)
    assert browser.complaints() == []


@pytest.mark.parametrize("size", [DESKTOP, PHONE, (320, 640)])
def test_it_fits_the_screen(browser, page, size):
    browser.resize(size)
    shown(browser, page)
    assert browser.script("return document.documentElement.scrollWidth") <= size[0]
    smallest = (
        "Math.min(...[...document.querySelectorAll('body *')].filter(e => e.textContent && !e.closest('svg')"
        ").map(e => parseFloat(getComputedStyle(e).fontSize)))"
    )
    assert browser.script(f"return {smallest}") >= 13


def test_the_keyboard_alone_is_enough(browser, page):
    shown(browser, page)
    body = browser.driver.find_element("css selector", "body")
    reached = {}
    for _ in range(60):
        body.send_keys(Keys.TAB)
        name = browser.script(
            "const a = document.activeElement; return a.id || a.dataset.key || a.textContent.trim() || a.ariaLabel"
        )
        if name in reached or browser.script("return document.activeElement === document.body"):
            break  # behind the last one
        reached[name] = browser.script(
            "const s = getComputedStyle(document.activeElement); return s.outlineStyle !== 'none'"
        )
        body = browser.driver.switch_to.active_element
        if name == "pause":
            body.send_keys(Keys.SPACE)
            browser.until("document.querySelector('#state').textContent === 'Paused'")
            body.send_keys(Keys.ENTER)
            browser.until(LIVE)
        elif name == "back":
            body.send_keys(Keys.ARROW_LEFT)
            browser.until("document.querySelector('#when').textContent !== ''")
            browser.script("document.querySelector('#pause').click()")
        elif name == "g 5678:2":
            body.send_keys(Keys.SPACE)
            browser.until(
                "[...document.querySelectorAll('#charts li span')].some(e => e.textContent.startsWith('<img'))"
            )
    assert {"pause", "back", "c SPEED", "g 5678:0", "g 5678:7"} <= reached.keys()
    assert [name for name, is_outlined in reached.items() if not is_outlined] == []  # one sees where one is


def test_the_page_says_that_the_run_ended_and_then_finds_the_next_one(browser):
    with served(port=free_port()) as page:
        shown(browser, page)
        page.ring.put_many(lap(5, 1))
        page.ring.shutdown()
        browser.until("document.querySelector('#state').textContent.startsWith('The run has ended')")
        browser.until(f"{CELLS}[0][1] === '{value_of(0, 0, 5.95):.0f}'")
    assert browser.script("return document.querySelector('#state').textContent").startswith("The run has ended")
    with served(port=page.port) as again:  # the server was started again
        again.ring.put_many(lap(0, 1, cars=2))
        browser.until(f"{LIVE} && {CELLS}.length === 2")
        browser.complaints()  # of the time in between
    browser.driver.get("about:blank")


def test_a_server_that_is_away_is_told(browser):
    with served(port=free_port()) as page:
        shown(browser, page)
        page.close()
        browser.until("document.querySelector('#state').textContent === 'Connection lost; trying again'")
    with served(port=page.port) as again:
        again.ring.put_many(lap(0, 1))
        browser.until(LIVE)
    browser.driver.get("about:blank")


def test_sensors_without_a_car_are_listed_one_by_one(browser):
    with served(describe=lambda sensor, flags: {"part": HOSTILE} if sensor == 9 else {}) as page:
        stream = readings([1.25, 300.0], start=8)
        stream["sensor_id"] = 8, 9
        page.ring.put_many(stream)
        browser.driver.get(page.address)
        browser.until("document.querySelectorAll('table.others td').length")
        lines = "[...document.querySelectorAll('table.others tbody tr')]"
        rows = f"{lines}.map(row => [...row.cells].map(cell => cell.textContent.trim()))"
        browser.until(f"{rows}.length === 3 && {rows}[2][1]")
        assert browser.script(f"return {rows}") == [
            ["SPEED", "1", "km/h", "> 330"],
            [HOSTILE],
            ["SPEED", "300", "km/h", "> 330"],
        ]
        browser.driver.get("about:blank")
