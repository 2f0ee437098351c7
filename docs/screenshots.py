"""Make the pictures of the live page and of the report, as a browser shows them.

    python docs/screenshots.py --recording FILE [--seconds S] [--out FOLDER]

It takes a recording of the game, Debian's Chromium (`apt install chromium chromium-driver`), selenium and f1buf[web].
The live page is pictured so many seconds after the replay has begun.
"""

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from selenium import webdriver

WIDTH, HEIGHT = 1280, 860  # CSS pixels


@contextlib.contextmanager
def browser():
    """A Chromium without a window."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or sys.exit("there is no Chromium: apt install chromium")
    for option in ("--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}"):
        options.add_argument(option)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        yield driver
    finally:
        driver.quit()


def picture_page(driver, recording, seconds, out):
    """Picture the live page of a replay."""
    replay = ["-m", "f1buf", "replay", recording, "--plain", "--web", "0"]
    with subprocess.Popen([sys.executable, *replay], stderr=subprocess.PIPE, text=True) as process:
        try:
            link = next(word for line in process.stderr for word in line.split() if word.startswith("http://"))
            driver.get(link)
            time.sleep(seconds)
            driver.save_screenshot(out)
        finally:
            process.terminate()


def picture_report(driver, recording, out):
    """Picture the report of a recording: its traces, of some cars."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.html"
        subprocess.run([sys.executable, "-m", "f1buf", "report", recording, "-o", report], check=True)
        driver.get(f"file://{report}")
        time.sleep(2.0)  # it draws
        driver.execute_script("document.querySelector('#traces, [id*=trace]')?.scrollIntoView()")
        time.sleep(0.5)
        driver.save_screenshot(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recording", required=True, metavar="FILE")
    parser.add_argument("--seconds", type=float, default=14.0, metavar="S")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "_static", metavar="FOLDER")
    args = parser.parse_args()
    with browser() as driver:
        picture_page(driver, args.recording, args.seconds, str(args.out / "page.png"))
        picture_report(driver, args.recording, str(args.out / "report.png"))


if __name__ == "__main__":
    main()
