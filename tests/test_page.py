"""The published record's report in a real browser: it sorts, filters, enlarges, and asks nobody."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from analysis import report
from study.run.cluster import ROOT
from tests.conftest import PATIENCE

RECORD = max((ROOT / "study/records").glob("*-fashion-mnist"))
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None,
    reason="The page in a browser needs Chromium: apt-get install chromium chromium-driver",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("report")
    assert report.main([str(RECORD), "--output", str(made)]) == 0
    return made


@pytest.fixture(scope="module")
def page(folder: Path) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    assert BROWSER is not None and DRIVER is not None
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1280,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.get((folder / "index.html").as_uri())
        until(lambda: driver.execute_script("return document.documentElement.dataset.ready"))
        yield driver
    finally:
        driver.quit()


def until(holds: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "the page did not come to that"
        time.sleep(0.1)


def section(page: webdriver.Chrome, name: str) -> WebElement:
    found = page.find_element(By.ID, name)
    page.execute_script("arguments[0].scrollIntoView()", found)
    return found


def column(part: WebElement, number: int) -> list[str]:
    cells = part.find_elements(By.CSS_SELECTOR, f"tbody td:nth-child({number})")
    return [cell.text for cell in cells]


def test_the_answer_has_the_records_numbers(page: webdriver.Chrome) -> None:
    summary = pd.read_csv(RECORD / "finals/summary.csv")
    full = summary[(summary["protocol"] == "full") & (summary["role"] == "chosen")]
    best = full.sort_values("map").iloc[-1]
    said = page.find_element(By.CSS_SELECTOR, ".answer").text
    assert f"mAP {best['map']:.3f}" in said and f"{best['low']:.3f} to {best['high']:.3f}" in said


def test_a_click_sorts_the_trials_and_the_filter_leaves_those_asked_for(
    page: webdriver.Chrome,
) -> None:
    part = section(page, "every-trial")
    heads = part.find_elements(By.CSS_SELECTOR, "thead th")
    seconds = [head.text.strip() for head in heads].index("seconds")
    before = column(part, seconds + 1)
    heads[seconds].click()
    until(lambda: column(part, seconds + 1) != before)
    shown = [float(cell.replace(",", "")) for cell in column(part, seconds + 1)]
    assert shown == sorted(shown) and len(shown) == len(before)
    box = part.find_element(By.CSS_SELECTOR, ".dt-search input")
    box.send_keys("triplet-00")
    until(lambda: all(name.startswith("triplet-00") for name in column(part, 1)))
    assert 0 < len(column(part, 1)) < len(before)
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(Keys.DELETE)
    until(lambda: len(column(part, 1)) == len(before))


def test_a_figure_is_enlarged_by_key_and_closed_again(page: webdriver.Chrome) -> None:
    figure = section(page, "pr_curves")
    figure.find_element(By.CSS_SELECTOR, "button.zoom").send_keys(Keys.ENTER)
    dialog = page.find_element(By.ID, "enlarged")
    assert dialog.get_attribute("open") is not None
    image = dialog.find_element(By.TAG_NAME, "img")
    assert image.get_attribute("alt") == figure.find_element(By.TAG_NAME, "img").get_attribute(
        "alt"
    )
    dialog.send_keys(Keys.ESCAPE)
    until(lambda: dialog.get_attribute("open") is None)


def test_figures_that_move_are_drawn_at_the_height_they_ask_for(page: webdriver.Chrome) -> None:
    figures = page.find_elements(By.CSS_SELECTOR, "figure:has(.plot)")
    assert len(figures) >= 4
    for figure in figures:
        page.execute_script("arguments[0].scrollIntoView()", figure)
        until(lambda figure=figure: "drawn" in (figure.get_attribute("class") or ""))
        plot = figure.find_element(By.CSS_SELECTOR, ".plot")
        data = json.loads(
            plot.find_element(By.TAG_NAME, "script").get_attribute("textContent") or "{}"
        )
        asked = data["layout"].get("height", 420)
        assert plot.find_element(By.CSS_SELECTOR, ".svg-container").size["height"] == asked


def test_tools_of_figures_lie_over_nothing_that_is_drawn(page: webdriver.Chrome) -> None:
    script = """
        const plot = arguments[0], tools = plot.querySelector(".modebar").getBoundingClientRect();
        const drawn = [...plot.querySelectorAll("text, .legend, .annotation, .plot")];
        return [drawn.length, drawn.filter((one) => {
          const box = one.getBoundingClientRect();
          return box.height && box.top < tools.bottom - 1 && box.right > tools.left;
        }).length];"""
    for plot in page.find_elements(By.CSS_SELECTOR, ".drawn .plot"):
        page.execute_script("arguments[0].scrollIntoView()", plot)
        seen, covered = page.execute_script(script, plot)
        assert seen > 5 and covered == 0


def test_the_theme_changes(page: webdriver.Chrome) -> None:
    colour = "return getComputedStyle(document.body).backgroundColor"
    before = page.execute_script(colour)
    button = section(page, "theme")
    button.click()
    assert page.execute_script(colour) != before
    button.click()
    assert page.execute_script(colour) == before


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_is_no_wider_than_the_window(page: webdriver.Chrome, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    width_now = "return document.documentElement.scrollWidth"
    until(lambda: page.execute_script(width_now) <= width)  # the figures follow in a moment
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_every_image_has_an_alternative_and_every_file_its_place(
    page: webdriver.Chrome, folder: Path
) -> None:
    images = page.find_elements(By.CSS_SELECTOR, "figure img")
    assert all(image.get_attribute("alt") for image in images)
    names = {figure.get_attribute("id") for figure in page.find_elements(By.TAG_NAME, "figure")}
    for suffix in ("png", "svg", "csv"):
        assert names <= {path.stem for path in folder.glob(f"*.{suffix}")}
    assert (folder / "index.html").stat().st_size < 10_000_000


def test_nothing_was_asked_for_and_nothing_went_wrong(page: webdriver.Chrome) -> None:
    """Last: the log of all that the tests above did."""
    assert page.get_log("browser") == []
    messages = [json.loads(row["message"])["message"] for row in page.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"].endswith("BeSent")]
    assert any(url.startswith("file:") for url in sent)  # the page itself: the log is not empty
    assert {url.split(":", 1)[0] for url in sent} <= {"file", "data", "blob"}
