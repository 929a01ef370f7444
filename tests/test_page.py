"""The published record's report in a real browser: it sorts, filters, enlarges, and asks nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from analysis import report
from study.run.cluster import ROOT
from tests.browser import asked_nobody, needs_browser, opened, until

RECORD = ROOT / "study/records/2026-11-26-held-out-split-0"
pytestmark = needs_browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("report")
    assert report.main([str(RECORD), "--output", str(made)]) == 0
    return made


@pytest.fixture(scope="module")
def page(folder: Path) -> Iterator[webdriver.Chrome]:
    with opened(folder / "index.html") as driver:
        yield driver


def section(page: webdriver.Chrome, name: str) -> WebElement:
    found = page.find_element(By.ID, name)
    page.execute_script("arguments[0].scrollIntoView()", found)
    return found


def column(part: WebElement, number: int) -> list[str]:
    script = """return [...arguments[0].querySelectorAll("tbody td:nth-child(%d)")]
        .map((cell) => cell.innerText.trim())"""
    return part.parent.execute_script(script % number, part)  # at once: there are hundreds


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
    # Those too whose configuration began with one of these: the column beside says which.
    until(
        lambda: all(
            "triplet-00" in trial or "triplet-00" in follows
            for trial, follows in zip(column(part, 1), column(part, 2), strict=True)
        )
    )
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
        assert not any(trace["type"].endswith("gl") for trace in data["data"])  # no WebGL
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
    asked_nobody(page)


def test_on_paper_figures_are_limited_in_width_alone(page: webdriver.Chrome) -> None:
    """Paper is narrow: the rules of narrow windows are not for it, and no table is cut off."""
    metrics = {"width": 650, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    widths, high, trials, whole = page.execute_script(
        "const all = [...document.querySelectorAll('figure img')];"
        "return [all.map((one) => one.getBoundingClientRect().width),"
        " all.map((one) => getComputedStyle(one).maxHeight),"
        " getComputedStyle(document.querySelector('#every-trial .scroll')).display,"
        " document.documentElement.scrollWidth]"
    )
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert max(widths) <= 650 and set(high) == {"none"} and trials == "none"
    assert whole <= 650
