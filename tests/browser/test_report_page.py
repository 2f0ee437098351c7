"""A report's page in a real Chromium: it draws, asks for nothing, is chosen in by keyboard, and runs no name."""

import math

import numpy as np
import pytest
from cli_helpers import call, readings
from helpers import wait_until
from recorder_helpers import record
from report_cases import HTML, page_of, short_race
from report_helpers import chromium, drawn, logged, show, tab_to

from f1buf.telemetry import Channel, Threshold


@pytest.fixture(scope="module")
def browser():
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def race(tmp_path_factory):
    """The address of a report, and its data."""
    folder = tmp_path_factory.mktemp("race")
    _, data = page_of(short_race(folder / "race.sqlite3"), folder / "race.html")
    return (folder / "race.html").as_uri(), data


def texts(driver, css):
    return driver.execute_script("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", css)


def ticked(driver, name):
    css = f"input[name={name}]:checked"
    return driver.execute_script("return [...document.querySelectorAll(arguments[0])].map((e) => e.value)", css)


def assert_nothing_wrong(driver, address):
    """The console said nothing, and nothing but the file was asked for."""
    said, asked = logged(driver)
    assert said == []
    assert [url.partition("#")[0] for url in asked] == [address]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_draws_all_and_asks_for_nothing(browser, race, width, dark):
    address, data = race
    show(browser, address, width=width, dark=dark)
    assert browser.title == "Report: race.sqlite3"
    shown = browser.execute_script("return document.body.innerText")
    assert not [mark for mark in ("[object", "undefined", "NaN", "null") if mark in shown]
    charts = drawn(browser)
    assert len(charts) == len(data["channels"]) + 1  # of the laps
    assert min(charts) > 2000
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(15, 19, 23)" if dark else "rgb(255, 255, 255)")
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('main *')].map((e) => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 12
    assert_nothing_wrong(browser, address)


def test_the_numbers_are_those_of_the_data(browser, race):
    address, data = race
    show(browser, address)
    facts = dict(zip(texts(browser, "dt"), texts(browser, "dd"), strict=True))
    assert facts["Readings"] == f"{data['readings']:,}"
    assert (facts["Alerts"], facts["Lost or missing"]) == ("1", "none")
    [alert] = data["alerts"]
    assert "22.000 s0 ANN, lap 3SPEED 350 km/h> 340 km/hApproaching top speed" in texts(browser, "tbody tr")
    assert alert["value"] == 350
    cells = browser.execute_script("return [...document.querySelectorAll('#ranges ~ details td')].map((e) => e.title)")
    for each in sorted(data["series"], key=lambda each: (each["channel"], each["subject"], each["sensor"])):
        assert str(float(cells.pop(0) or "nan")) == "nan"  # how many readings
        for expected in (each["low"]["value"], None, each["quartiles"][1], each["mean"], each["deviation"]):
            title = cells.pop(0)
            assert expected is None or float(title) == expected
        assert float(cells.pop(0)) == each["high"]["value"]
        del cells[:1]  # when; nothing stands out
    assert cells == []
    assert "fastest 10.000 s ± 0.250" in " ".join(texts(browser, "td"))


def test_what_is_over_has_a_mark_and_not_only_a_colour(browser, race):
    show(browser, race[0])
    marks = browser.execute_script(
        "return [...document.querySelectorAll('.over')].map((e) => getComputedStyle(e, '::before').content)"
    )
    assert marks
    assert all("▲" in mark for mark in marks)


def test_each_table_has_a_caption_and_heads(browser, race):
    show(browser, race[0])
    assert browser.execute_script("""
        return [...document.querySelectorAll("table")].every((table) => table.caption.textContent &&
            [...table.querySelectorAll("th")].every((head) => ["row", "col"].includes(head.scope)))""")


def test_cars_are_chosen_by_keyboard_and_the_link_says_which(browser, race):
    from selenium.webdriver.common.keys import Keys

    address, _ = race
    show(browser, address)
    assert ticked(browser, "cars") == ["0 ANN", "1 BOB"]
    tab_to(browser, "input[name=cars][value='0 ANN']").send_keys(Keys.SPACE)
    assert ticked(browser, "cars") == ["1 BOB"]
    assert set(texts(browser, "#charts .legend li")) >= {" 1 BOB "}
    assert not [text for text in texts(browser, ".legend li") if "ANN" in text]
    tab_to(browser, "input[name=channels][value=ENGINE_TEMP]").send_keys(Keys.SPACE)
    tab_to(browser, "input[name=laps][value='4']").send_keys(Keys.SPACE)
    tab_to(browser, "input[name=by]").send_keys(Keys.ARROW_RIGHT)
    link = browser.current_url
    assert_nothing_wrong(browser, address)

    def state():
        names = ("cars", "channels", "laps", "over", "by")
        return {name: ticked(browser, name) for name in names}, texts(browser, ".legend li"), len(drawn(browser))

    before = state()
    assert before[0]["by"] == ["time"]
    assert "ENGINE_TEMP" not in before[0]["channels"]
    assert "4" not in before[0]["laps"]
    show(browser, link)
    assert state() == before


def test_a_link_that_somebody_cut_or_wrote_by_hand(browser, race):
    address, _ = race
    show(
        browser,
        f"{address}#cars=1%20BOB,9%20NOBODY&channels=SPEED&laps=2,99&over=NOTHING&by=%E0%A4%A&x&toString=1&__proto__=2",
    )
    assert ticked(browser, "cars") == ["1 BOB"]
    assert ticked(browser, "channels") == ["SPEED"]
    assert ticked(browser, "laps") == ["2"]
    assert ticked(browser, "by") == ["distance"]
    assert len(drawn(browser)) == 2
    assert_nothing_wrong(browser, address)


def test_the_pointer_reads_values(browser, race):
    from selenium.webdriver import ActionChains

    address, _ = race
    show(browser, f"{address}#cars=1%20BOB&channels=SPEED")
    over = browser.find_element("css selector", "#charts .u-over")
    ActionChains(browser).move_to_element(over).perform()

    def read():
        label, at = texts(browser, "#charts .legend li")
        return label == " 1 BOB 210 km/h" and at.startswith("at 22.")

    wait_until(read, "the values under the pointer", every=0.02)


def test_a_table_wider_than_a_phone_scrolls_within_itself_and_shows_it(browser, race):
    show(browser, race[0], width=390)
    wide = browser.execute_script("""
        const wide = [...document.querySelectorAll(".scroll")].filter((each) => each.scrollWidth > each.clientWidth);
        return wide.map((each) => {
            each.scrollLeft = each.scrollWidth;
            const last = each.querySelector("thead th:last-child").getBoundingClientRect();
            const shadows = getComputedStyle(each).backgroundImage.split("linear-gradient").length - 1;
            return [each.tabIndex, last.right <= innerWidth, shadows];
        });""")
    assert wide
    assert wide == [[0, True, 4]] * len(wide)


def test_sensors_that_share_a_label_are_told_apart_by_number(browser, tmp_path):
    """Of one part, as signals of an .mf4 with one source are: two in volts, one of the same name in millivolts."""
    pytest.importorskip("pyarrow", reason="recording needs pyarrow")
    volts, millivolts = Channel("a", "V"), Channel("a", "mV")
    stream = readings(np.arange(90.0), volts, sensors=3)
    stream["channel"][stream["sensor_id"] == 1] = millivolts.number
    record(tmp_path / "same", stream, describe=lambda sensor, flags: {"part": "ECU"})
    page_of(tmp_path / "same", tmp_path / "page.html")
    address = (tmp_path / "page.html").as_uri()
    show(browser, address)
    names = [text.strip() for text in texts(browser, "#charts .legend li")]
    assert [name for name in names if name] == ["ECU, sensor 0", "ECU, sensor 2", "ECU"]
    assert ticked(browser, "channels") == ["a [V]", "a [mV]"]
    assert texts(browser, "#ranges ~ details tbody th") == ["ECU, sensor 0", "ECU, sensor 2", "ECU"]
    show(browser, f"{address}#channels=a%20[mV]")
    assert texts(browser, "#charts figcaption strong") == ["a [mV]"]
    assert_nothing_wrong(browser, address)


def test_names_with_html_are_shown_and_not_run(browser, tmp_path):
    path = short_race(tmp_path / "<img src=x onerror=alert(1)>.sqlite3", HTML, "<img src=x>", seconds=12)
    page_of(path, tmp_path / "page.html")
    address = (tmp_path / "page.html").as_uri()
    show(browser, address)
    assert texts(browser, "h1") == [path.name]
    assert f" 0 {HTML} " in texts(browser, "#charts .legend li")
    assert browser.execute_script("return [document.images.length, document.scripts.length]") == [0, 2]
    assert_nothing_wrong(browser, address)


def test_readings_that_no_chart_can_show(browser, tmp_path):
    pytest.importorskip("pyarrow", reason="recording needs pyarrow")
    stream = readings([400.0, math.nan, 500.0, math.inf, 300.0, 600.0])
    stream["timestamp"][[1, 5]] = math.inf, math.nan
    record(tmp_path / "odd", stream, thresholds=[Threshold("SPEED", above=450, message="Fast")])
    page_of(tmp_path / "odd", tmp_path / "page.html")
    address = (tmp_path / "page.html").as_uri()
    show(browser, address)
    [caption, *_], [chart] = texts(browser, "#charts figcaption"), drawn(browser)
    assert "▲ 1 alert" in caption  # of the infinite one the table alone tells
    assert chart > 2000
    assert "Left outa time or value that is no number3" in texts(browser, "tbody tr")
    assert_nothing_wrong(browser, address)


def test_a_line_is_interrupted_where_no_reading_came(browser, tmp_path):
    pytest.importorskip("pyarrow", reason="recording needs pyarrow")
    stream = readings([300.0] * 200)
    stream["timestamp"] = np.repeat([0, 60], 100) + np.tile(np.arange(100) * 0.1, 2)  # 10 s, nothing for 50 s, 10 s
    record(tmp_path / "hole", stream)
    page_of(tmp_path / "hole", tmp_path / "page.html")
    show(browser, (tmp_path / "page.html").as_uri())
    begin, *between, end = browser.execute_script("""
        const canvas = document.querySelector("canvas"), pieces = [0, 0, 0, 0, 0, 0, 0];
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        for (let at = 0; at < data.length; at += 4) { // of the first series' colour, #0072b2
            const inColour = data[at] < 20 && Math.abs(data[at + 1] - 0x72) < 20 && data[at + 3] > 200;
            if (inColour) pieces[Math.floor((at / 4 % canvas.width) / canvas.width * 7)] += 1;
        }
        return pieces;""")
    assert min(begin, end) > 100
    assert max(between[1:-1]) == 0


def test_it_is_printed_in_light_with_all_open(browser, race):
    show(browser, race[0], dark=True)
    browser.execute_script("""
        window.printed = [];
        addEventListener("beforeprint", () => printed.push(getComputedStyle(document.body).backgroundColor,
            document.querySelectorAll("details:not([open])").length, document.querySelector("canvas").clientWidth));""")
    assert len(browser.execute_cdp_cmd("Page.printToPDF", {})["data"]) > 10_000
    ground, folded, wide = browser.execute_script("return printed")
    assert (ground, folded) == ("rgb(255, 255, 255)", 0)
    assert wide <= 704  # 44rem: what paper has room for
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(15, 19, 23)"
    assert logged(browser)[0] == []


@pytest.mark.parametrize("width", [390, 1280])
def test_a_simulated_run_and_an_empty_recording(browser, tmp_path, width):
    pytest.importorskip("pyarrow", reason="recording needs pyarrow")
    call("run", "--count", 500, "--rate", "max", "--seed", 7, "--record", tmp_path / "run").ended()
    record(tmp_path / "empty")
    for name, charts in (("run", 5), ("empty", 0)):
        page_of(tmp_path / name, tmp_path / f"{name}.html")
        address = (tmp_path / f"{name}.html").as_uri()
        show(browser, address, width=width)
        assert len([pixels for pixels in drawn(browser) if pixels > 2000]) == charts
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert_nothing_wrong(browser, address)
    assert "There are no readings." in texts(browser, "#charts p")
