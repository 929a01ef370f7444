"""A real browser for the pages that the project writes."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.conftest import PATIENCE

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    BROWSER is None or DRIVER is None,
    reason="The page in a browser needs Chromium: apt-get install chromium chromium-driver",
)


@contextmanager
def opened(page: Path) -> Iterator[webdriver.Chrome]:
    """The page of a file once its scripts have ended, 1280 x 1000."""
    options = webdriver.ChromeOptions()
    assert BROWSER is not None and DRIVER is not None
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1280,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.get(page.as_uri())
        until(lambda: driver.execute_script("return document.documentElement.dataset.ready"))
        yield driver
    finally:
        driver.quit()


def until(holds: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "the page did not come to that"
        time.sleep(0.1)


def asked_nobody(page: webdriver.Chrome) -> None:
    """Nothing was asked for beyond the page, and nothing went wrong, since it was opened."""
    log = page.get_log("browser")
    assert log == [], log
    messages = [json.loads(row["message"])["message"] for row in page.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"].endswith("BeSent")]
    assert any(url.startswith("file:") for url in sent)  # the page itself: the log is not empty
    assert {url.split(":", 1)[0] for url in sent} <= {"file", "data", "blob"}
