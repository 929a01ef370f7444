"""The page to look around in: what it holds, and what it does in a real browser."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from analysis import explore as program
from analysis.gallery.exploration import as_json, explore, principal_plane, thinned
from analysis.gallery.networks import Chosen, chosen
from study.results.images import validation_images
from study.results.studies import Study
from tests.browser import asked_nobody, needs_browser, opened, until
from tests.conftest import synthetic
from tests.oracles import slow_average_precision, slow_ranking
from tests.small_data import SmallData, use
from tests.small_studies import trial, write_study
from trainables.data import LabelledImages, Roles
from trainables.metrics import evaluate_roles
from trainables.trained import embed

IMAGES = synthetic(150, seed=3)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """Of two losses with random weights; its data set is a small one meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        use(patch, SmallData(IMAGES, IMAGES, IMAGES))
        trials = trial("smooth_ap", 0, [0.6]), trial("triplet", 0, [0.3])
        trials[1].config = trials[1].config.replace(seed=5)
        yield write_study(tmp_path_factory.mktemp("explored") / "study", *trials)


@pytest.fixture(scope="module")
def networks(study: Study) -> dict[str, Chosen]:
    return {loss: chosen(study, loss) for loss in ("smooth_ap", "triplet")}


def unpacked(text: str, kind: Any) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def rankings(network: Chosen) -> tuple[list[list[int]], list[float]]:
    """By picture, all others, nearest first, and the average precision; slowly, of the distances
    as the program has them."""
    embeddings, labels = embed(network.network, IMAGES), IMAGES.labels.tolist()
    orders, precisions = [], []
    for query, mine in enumerate(embeddings):
        order = slow_ranking(mine.tolist(), embeddings.tolist(), query)
        orders.append(order)
        precisions.append(slow_average_precision([labels[o] == labels[query] for o in order]))
    return orders, precisions  # type: ignore[return-value]


def test_the_page_holds_the_slow_rankings(study: Study, networks: dict[str, Chosen]) -> None:
    found = explore(validation_images(study), {f"the {name}": n for name, n in networks.items()})
    data = json.loads(as_json(found))
    assert unpacked(data["labels"], "<u4").tolist() == IMAGES.labels.tolist()
    assert data["names"][7] == "validation image 7" and data["classes"][0] == "T-shirt/top"
    for view, (loss, network) in zip(data["views"], networks.items(), strict=True):
        assert (view["loss"], view["title"]) == (loss, f"the {loss}")
        embeddings = embed(network.network, IMAGES).double()
        near = unpacked(view["nearest"], "<u2").reshape(150, 24)
        distances = unpacked(view["distances"], "<f4").reshape(150, 24)
        orders, precisions = rankings(network)
        for query in range(150):
            own = (embeddings[near[query].astype(int)] - embeddings[query]).square().sum(1)
            best = (embeddings[orders[query][:24]] - embeddings[query]).square().sum(1)
            np.testing.assert_allclose(own, best, atol=1e-6)  # the same but for equal ones
            np.testing.assert_allclose(distances[query], own, atol=1e-6)
            assert query not in near[query] and len(set(near[query])) == 24
        np.testing.assert_allclose(unpacked(view["precision"], "<f4"), precisions, atol=2e-3)
        assert view["map"] == pytest.approx(np.mean(precisions), abs=1e-4)


def test_the_sheet_holds_every_picture(study: Study, networks: dict[str, Chosen]) -> None:
    found = explore(validation_images(study), networks)
    sheet = json.loads(as_json(found))["atlas"]
    image = Image.open(io.BytesIO(base64.b64decode(sheet["source"].split(",")[1]))).convert("L")
    assert (sheet["height"], sheet["width"]) == (28, 28)
    for place in (0, 13, 149):
        line, column = divmod(place, sheet["columns"])
        box = (28 * column, 28 * line, 28 * column + 28, 28 * line + 28)
        np.testing.assert_array_equal(np.array(image.crop(box)), IMAGES.images[place, 0])


def test_of_many_pictures_some_are_shown(study: Study, networks: dict[str, Chosen]) -> None:
    found = explore(validation_images(study), networks, most=40)
    assert len(found.names) == 40 and np.bincount(found.data.labels).tolist() == [4] * 10
    assert found.names[0] == "validation image 0" and found.names[-1] == "validation image 149"
    said = "They are at most 4 of a class, evenly spaced; 110 more are not shown: AP is over those"
    assert said in program.html(found, "title", "images")
    assert "which chose each network" in program.html(found, "title", "images")
    assert "which chose" not in program.html(found, "title", "images", chose=False)


def test_of_many_classes_some_are_shown_with_all_that_is_relevant(
    study: Study, networks: dict[str, Chosen]
) -> None:
    images = validation_images(study)
    labels = np.arange(150) // 2
    pairs = images._replace(
        data=LabelledImages(images.data.images, labels), classes=tuple(map(str, range(75)))
    )
    found = explore(pairs, networks, most=60)
    assert len(found.names) == 60 and (found.relevant == 1).all()
    said = "They are of 30 of 75 classes, drawn at random; 90 more are not shown"
    assert found.left_out == said and found.views["triplet"].nearest.shape == (60, 24)


def test_a_large_class_leaves_room_for_others() -> None:
    labels = np.repeat(np.arange(101), [900] + [2] * 100)
    places, said = thinned(5 * np.arange(1100), labels, 100)
    counts = np.bincount(labels[places // 5])
    assert len(places) <= 100 and counts.max() <= 4 and (counts[1:] != 1).all()
    assert len(np.flatnonzero(counts)) >= 25 and f"{1100 - len(places):,} more are not" in said
    assert thinned(np.arange(50), np.zeros(50, int), 10)[0].tolist()[::9] == [0, 49]


def test_queries_and_gallery_apart_are_the_protocols(
    study: Study, networks: dict[str, Chosen]
) -> None:
    asks, gallery = np.arange(0, 20), np.arange(15, 100)
    groups = np.where(np.arange(150) % 4 == 0, np.arange(150) // 30, -1)
    roles = Roles(asks, gallery, groups)
    images = validation_images(study)._replace(protocols={"full": roles})
    found = explore(images, networks)
    embeddings = embed(networks["triplet"].network, IMAGES)
    wanted = evaluate_roles(embeddings, torch.from_numpy(IMAGES.labels), roles)
    view = found.views["triplet"]
    assert len(found.names) == 100 and np.isnan(view.average_precision[20:]).all()
    np.testing.assert_allclose(view.average_precision[:20], wanted.average_precision)
    assert set(view.nearest.ravel()) <= set(gallery)
    assert found.relevant[:20].tolist() == roles.relevant(IMAGES.labels).tolist()


def test_the_map_is_the_plane_of_most_variance() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 6)) * [5, 0.1, 3, 0.2, 0.1, 0.1] + 1
    places, share = principal_plane(torch.from_numpy(points))
    wanted = points[:, [0, 2]] - points[:, [0, 2]].min(0)
    for axis in (0, 1):
        assert abs(np.corrcoef(places[:, axis], wanted[:, axis])[0, 1]) > 0.99
    values = np.linalg.eigvalsh(np.cov(points.T))
    assert share == pytest.approx(values[-2:].sum() / values.sum())
    assert places.min() == 0 and places.max() == 1
    assert principal_plane(torch.ones(5, 3))[0].tolist() == [[0, 0]] * 5


def test_wrong_inputs_are_one_line(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, law in (
        ([str(tmp_path)], "is not a study"),
        ([str(study.folder), "--loss", "smoth_ap"], "did you mean smooth_ap?"),
        ([str(study.folder), "--output", "/proc/none/x.html"], "/proc/none"),
        ([str(study.folder), "--output", str(tmp_path)], "--output must be a file"),
    ):
        assert program.main(words) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and law in error and error.count("\n") == 1


@pytest.fixture(scope="module")
def page(study: Study) -> Iterator[webdriver.Chrome]:
    assert program.main([str(study.folder)]) == 0
    with opened(study.folder / "explore.html") as driver:
        yield driver


def tiles(page: webdriver.Chrome, within: str) -> list[int]:
    found = page.find_elements(By.CSS_SELECTOR, f"{within} .tile")
    return [int(one.get_attribute("data-place") or -1) for one in found]


def asked(page: webdriver.Chrome) -> int:
    return int(page.execute_script("return asked"))


@needs_browser
def test_the_lowest_average_precision_comes_first(
    page: webdriver.Chrome, networks: dict[str, Chosen]
) -> None:
    for loss, network in networks.items():
        Select(page.find_element(By.ID, "loss")).select_by_value(loss)
        _, precisions = rankings(network)
        shown = [precisions[place] for place in tiles(page, "#grid")]
        assert len(shown) == 120
        np.testing.assert_allclose(shown, sorted(precisions)[:120], atol=2e-3)
    assert "1 to 120 of 150" in page.find_element(By.ID, "count").text
    page.find_element(By.ID, "after").click()
    assert len(tiles(page, "#grid")) == 30
    assert not page.find_element(By.ID, "after").is_enabled()
    page.find_element(By.ID, "before").click()


@needs_browser
def test_a_click_shows_the_nearest_with_each_loss_and_walks_on(
    page: webdriver.Chrome, networks: dict[str, Chosen]
) -> None:
    first = page.find_element(By.CSS_SELECTOR, "#grid .tile")
    place = int(first.get_attribute("data-place") or -1)
    first.click()
    until(lambda: asked(page) == place)
    for loss, network in networks.items():
        order = rankings(network)[0][place][:24]
        near = tiles(page, f'[data-loss="{loss}"]')
        embeddings = embed(network.network, IMAGES)
        for a, b in zip(order, near, strict=True):  # but for equal distances
            gaps = (embeddings[[a, b]] - embeddings[place]).square().sum(1)
            assert gaps[0] == pytest.approx(float(gaps[1]), abs=1e-5)
        right = page.find_elements(By.CSS_SELECTOR, f'[data-loss="{loss}"] .tile.right')
        same = [one for one in near if IMAGES.labels[one] == IMAGES.labels[place]]
        assert [int(one.get_attribute("data-place") or -1) for one in right] == same
        head = page.find_element(By.CSS_SELECTOR, f'[data-loss="{loss}"] h3').text
        assert f"{len(same)} of the 24 nearest are right" in head
    onward = page.find_element(By.CSS_SELECTOR, '[data-loss="triplet"] .tile:nth-child(3)')
    there = int(onward.get_attribute("data-place") or -1)
    onward.click()
    until(lambda: asked(page) == there)
    focused = "return document.activeElement.closest('[data-loss]')?.dataset.loss"
    assert page.execute_script(focused) == "triplet"  # from where the keyboard walks on
    page.back()
    until(lambda: asked(page) == place)


@needs_browser
def test_a_class_alone(page: webdriver.Chrome) -> None:
    wanted = Select(page.find_element(By.ID, "class"))
    wanted.select_by_visible_text("Coat")
    assert sorted(tiles(page, "#grid")) == np.flatnonzero(IMAGES.labels == 4).tolist()
    Select(page.find_element(By.ID, "order")).select_by_value("own")
    assert tiles(page, "#grid") == np.flatnonzero(IMAGES.labels == 4).tolist()
    wanted.select_by_visible_text("all")
    Select(page.find_element(By.ID, "order")).select_by_value("best")


@needs_browser
def test_the_keyboard_is_enough(page: webdriver.Chrome) -> None:
    first = page.find_element(By.CSS_SELECTOR, "#grid .tile")
    page.execute_script("arguments[0].focus()", first)
    shown = tiles(page, "#grid")
    per_line = page.execute_script(
        "const t = [...document.querySelectorAll('#grid .tile')];"
        "return t.findIndex((one) => one.offsetTop > t[0].offsetTop)"
    )
    place = 0
    for key, step in ((Keys.ARROW_RIGHT, 1), (Keys.ARROW_DOWN, per_line), (Keys.ARROW_LEFT, -1)):
        page.switch_to.active_element.send_keys(key)
        place += step
        here = page.switch_to.active_element
        assert int(here.get_attribute("data-place") or -1) == shown[place]
    here.send_keys(Keys.ENTER)
    until(lambda: asked(page) == shown[place])


@needs_browser
def test_the_map_answers_to_keys_and_clicks(page: webdriver.Chrome) -> None:
    canvas = page.find_element(By.ID, "canvas")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    page.execute_script("centre = [view().places[2 * 42], view().places[2 * 42 + 1]]; zoom = 60")
    canvas.send_keys(Keys.ENTER)
    until(lambda: asked(page) >= 0)
    gap = page.execute_script(
        "const p = view().places; return Math.hypot(p[2 * asked] - p[84], p[2 * asked + 1] - p[85])"
    )
    assert gap * page.execute_script("return unit()") < 14
    before = page.execute_script("return [zoom, ...centre]")
    canvas.send_keys("-")
    canvas.send_keys(Keys.ARROW_RIGHT)
    after = page.execute_script("return [zoom, ...centre]")
    assert after[0] < before[0] and after[1] > before[1]
    page.find_element(By.ID, "whole").click()
    assert page.execute_script("return zoom") == 1
    target = page.execute_script("return framed().spot(99)")
    box = page.execute_script(
        "const b = arguments[0].getBoundingClientRect(); return [b.x, b.y]", canvas
    )
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        where = {"x": box[0] + target[0] + 1, "y": box[1] + target[1] + 1}
        page.execute_cdp_cmd(
            "Input.dispatchMouseEvent",
            {
                "type": kind,
                **where,
                "button": "none" if kind == "mouseMoved" else "left",
                "clickCount": 1,
            },
        )
    until(
        lambda: (
            page.execute_script(
                "return Math.hypot(...framed().spot(asked).map((v, i) => v - framed().spot(99)[i]))"
            )
            < 14
        )
    )
    drawn = page.execute_script(
        "paint(); const d = pen.getImageData(0, 0, canvas.width, canvas.height).data;"
        "let dark = 0; for (let i = 3; i < d.length; i += 4) dark += d[i] > 0; return dark"
    )
    assert drawn > 1_000


@needs_browser
def test_the_map_says_and_marks_what_is_in_its_middle(page: webdriver.Chrome) -> None:
    """To who moves it by keys."""
    canvas, said = page.find_element(By.ID, "canvas"), page.find_element(By.ID, "under")
    assert (canvas.aria_role, said.get_attribute("role")) == ("application", "status")
    assert canvas.value_of_css_property("touch-action") == "pan-y"
    dark = (
        "paint(); const r = devicePixelRatio || 1;"
        "const one = new OffscreenCanvas(1, 1).getContext('2d');"  # each is read once
        "one.drawImage(canvas, -canvas.width / 2 - 9 * r, -canvas.height / 2);"
        "return [...one.getImageData(0, 0, 1, 1).data]"
    )
    page.execute_script("canvas.blur(); centre = [9, 9]; zoom = 60")
    assert page.execute_script(dark)[3] == 0  # nothing is there
    page.execute_script("canvas.focus()")
    assert page.execute_script(dark) == [27, 31, 36, 255]
    before = asked(page)
    canvas.send_keys(Keys.ENTER)
    assert said.text == "No picture is near the middle." and asked(page) == before
    page.execute_script("centre = [view().places[84], view().places[85]]")
    canvas.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert ", AP " in said.text
    there = page.execute_script("return data.names[middle()]")
    assert said.text.startswith(there)
    page.find_element(By.ID, "whole").click()


@needs_browser
@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_cut_off(page: webdriver.Chrome, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    page.execute_script("document.getElementById('canvas').scrollIntoView({block: 'end'})")
    covered = page.execute_script(
        "const b = canvas.getBoundingClientRect();"
        "return document.elementFromPoint(b.right - 20, b.bottom - 20).id"
    )
    assert covered == "canvas"
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@needs_browser
def test_nothing_was_asked_for_and_nothing_went_wrong(page: webdriver.Chrome) -> None:
    """Last: the log of all that the tests above did."""
    asked_nobody(page)
