"""A Chromium without a window, driven by selenium: opened, and asked what it drew and what it asked for."""

import contextlib
import json
import os
import shutil

import pytest
from cli_helpers import free_port

DRIVEN_BY = ("chromium", "chromedriver")  # Debian: apt install chromium chromium-driver


@contextlib.contextmanager
def chromium():
    """A browser; the test is left out where there is none."""
    found = [shutil.which(name) for name in DRIVEN_BY]
    if not all(found):
        pytest.skip(f"there is no {' or no '.join(DRIVEN_BY)}: apt install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="a browser is driven by selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = found[0]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.add_argument("--headless=new")
    options.add_argument("--disable-dev-shm-usage")  # it is small in containers
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # there is none for root
    driver = webdriver.Chrome(options, webdriver.ChromeService(found[1], free_port()))
    try:
        yield driver
    finally:
        driver.quit()


def show(driver, address, *, width=1280, dark=False):
    """Open a page, in a window of this width [CSS pixels]."""
    logged(driver)  # what was before does not count
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get("about:blank")
    driver.get(address)


def logged(driver):
    """What the console said, and which addresses were asked for, since the last time."""
    said = [entry["message"] for entry in driver.get_log("browser")]
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
    return said, [url for url in asked if url != "about:blank"]


def drawn(driver):
    """How many pixels of each chart are not empty."""
    return driver.execute_script("""
        return [...document.querySelectorAll("canvas")].map((canvas) => {
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return data.filter((value, place) => place % 4 === 3 && value > 0).length;
        })""")


def tab_to(driver, css, most=300):
    """Press the tabulator until an element that this selects has the focus; return it."""
    from selenium.webdriver.common.keys import Keys

    for _ in range(most):
        driver.switch_to.active_element.send_keys(Keys.TAB)
        if driver.execute_script("return document.activeElement.matches(arguments[0])", css):
            return driver.switch_to.active_element
    raise AssertionError(f"{css} does not get the focus")
