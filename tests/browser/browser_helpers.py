"""A page in a Chromium that changes while one looks at it."""

import contextlib
import json
import time

from helpers import WATCHDOG
from report_helpers import chromium

DESKTOP, PHONE = (1280, 900), (390, 844)


class Browser:
    """One page in a browser of its own."""

    def __init__(self, driver):
        self.driver = driver

    def script(self, text, *args):
        return self.driver.execute_script(text, *args)

    def until(self, script, *args):
        """Wait until the script's result is true; return it."""
        give_up = time.monotonic() + WATCHDOG
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
    with chromium() as driver:
        browser = Browser(driver)
        browser.resize(size)
        yield browser
