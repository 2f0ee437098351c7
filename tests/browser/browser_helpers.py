"""A real Chromium for the tests of the pages: Debian's, driven by selenium."""

import contextlib
import json
import shutil
import time

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="these tests drive a browser with selenium")

PATIENCE = 30.0  # [s]
DESKTOP, PHONE = (1280, 900), (390, 844)
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # for root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)


def chromium():
    """The paths of Chromium and its driver; the test is left out where there is none."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    if None in found:
        pytest.skip("there is no Chromium here: apt-get install chromium chromium-driver")
    return found


class Browser:
    """One page in a browser of its own."""

    def __init__(self, driver):
        self.driver = driver

    def script(self, text, *args):
        return self.driver.execute_script(text, *args)

    def until(self, script, *args):
        """Wait until the script's result is true; return it."""
        give_up = time.monotonic() + PATIENCE
        while not (result := self.script(f"return {script}", *args)):
            assert time.monotonic() < give_up, f"never true: {script}\n{self.text()}"
            time.sleep(0.02)
        return result

    def text(self, selector="body"):
        return self.script("return document.querySelector(arguments[0]).innerText", selector)

    def resize(self, size, dark=False):
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def complaints(self):
        """What stands in the console."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requested(self):
        """The addresses of all requests so far."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return {each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"}


@contextlib.contextmanager
def browsing(size=DESKTOP):
    """A browser while the block lasts."""
    binary, driver = chromium()
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for option in (*_OPTIONS, f"--window-size={size[0]},{size[1]}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        browser = Browser(opened)
        browser.resize(size)
        yield browser
    finally:
        opened.quit()
