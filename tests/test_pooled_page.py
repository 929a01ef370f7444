"""The page of comparisons that are taken together: figures against the records, answer, errors."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats
from selenium.webdriver.common.by import By

from analysis import report
from analysis.figures.pooled_figures import (
    classes_figure,
    differences_figure,
    draw_differences,
    draw_pooled_maps,
    pooled_maps_figure,
    pooled_maps_table,
)
from analysis.found.pooled_curves import pooled_curves
from analysis.page.pooled_page import names_of, pooled_answer, pooled_page
from study.judge.pooled import Pooled, pooled
from study.judge.pooled_tables import tables
from study.results.files import StudyError
from tests.browser import asked_nobody, needs_browser, opened
from tests.small_comparisons import MAPS, of_three_splits, write

REFERENCES = ((0.10, 0.13), (0.11, 0.12), (0.14, 0.10))


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of the same images, with references of triplet."""
    root = tmp_path_factory.mktemp("alike")
    return [write(root / str(n), maps, REFERENCES[n]) for n, maps in enumerate(MAPS)]


@pytest.fixture(scope="module")
def found(alike: list[Path]) -> Pooled:
    return pooled(alike)


def test_a_curve_is_the_mean_of_the_comparisons_each_the_mean_of_its_runs(
    alike: list[Path], found: Pooled
) -> None:
    """A run's precision at recall r is its mAP + 0.5 - r: at 0.5 it is the mAP."""
    table = pooled_curves(alike, found).set_index(["role", "loss", "recall"])
    assert len(table) == 3 * 101
    at_half = table.loc[("chosen", "triplet", 0.5)]
    values = [np.mean(maps["triplet"]) for maps in MAPS]
    test = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    expected = [np.mean(values), *np.clip(test, 0, 1)]
    assert list(at_half[["precision", "low", "high"]]) == pytest.approx(expected)
    assert (at_half["map"], at_half["runs"]) == (pytest.approx(np.mean(values)), 3)
    runs = np.array(REFERENCES).ravel()
    reference = table.loc[("reference", "triplet", 0.5)]
    test = stats.ttest_1samp(runs, 0).confidence_interval(0.95)
    expected = [runs.mean(), *test]
    assert list(reference[["precision", "low", "high"]]) == pytest.approx(expected)
    assert (reference["map"], reference["runs"]) == (pytest.approx(runs.mean()), 6)
    at_end = table.loc[("chosen", "smooth_ap", 1.0), "precision"]
    assert at_end == pytest.approx((0.61 + 0.82 + 0.40) / 3 - 0.5)


def test_what_all_losses_find_hard_is_taken_out(found: Pooled) -> None:
    table = pooled_maps_table(found).set_index(["comparison", "loss"])
    gaps = [0.10, 0.11, 0.09]
    for n, gap in enumerate(gaps):
        assert table.loc[(n, "smooth_ap"), "beside"] == pytest.approx(gap / 2)
        assert table.loc[(n, "triplet"), "beside"] == pytest.approx(-gap / 2)
    figure = Figure()
    draw_pooled_maps(figure, table.reset_index(), found)
    left, right = figure.axes
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names == ["Smooth-AP", "triplet", "triplet, reference"]
    said = [text.get_text() for text in right.texts]
    assert said == ["+0.050", "-0.050"]
    below = right.lines[4].get_xdata()  # dots, bar and mean of each loss
    test = stats.ttest_1samp(-np.array(gaps) / 2, 0).confidence_interval(0.95)
    np.testing.assert_allclose(below, test)
    assert "0.610 for Smooth-AP and 0.510 for triplet" in pooled_maps_figure(found).caption


@pytest.mark.parametrize("verdict", ["shown", "equivalent", "not resolved"])
def test_a_verdict_is_seen(found: Pooled, verdict: str) -> None:
    table = found.differences.assign(verdict=verdict)
    figure = Figure()
    draw_differences(figure, table)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [verdict]
    mark = figure.axes[0].lines[-1]
    assert (mark.get_markerfacecolor() == "white") == (verdict == "not resolved")
    made = differences_figure(found._replace(differences=table))
    assert made is not None
    counts = {
        "shown": "1 shown and none not resolved",
        "equivalent": "none shown, 1 equivalent and none not resolved",
        "not resolved": "none shown and 1 not resolved",
    }
    assert f"Of 1 difference in test mAP: {counts[verdict]}." in made.caption


def test_the_class_of_the_widest_gap_is_named(found: Pooled) -> None:
    """Triplet has 0.04 more of Trouser than its mAP, and 0.06 less of Coat; 0.1 lies between."""
    made = classes_figure(found)
    assert made is not None
    assert "on Coat, where Smooth-AP has 0.610 and triplet 0.450." in made.caption
    assert classes_figure(found._replace(classes=None)) is None


def test_the_answer_is_counted_from_the_verdicts(found: Pooled) -> None:
    said = pooled_answer(found)
    assert said == (
        "Smooth-AP (0.610): no other loss is shown to be ahead, by test mAP in 3 comparisons. "
        "Of 1 difference in test mAP: 1 shown and none not resolved."
    )
    for verdict, beginning in (
        ("not resolved", "Which loss retrieves best is not resolved: no loss is shown to be ahead"),
        ("equivalent", "All losses are equivalent within ±0.005, by test mAP in 3 comparisons."),
    ):
        table = found.differences.assign(verdict=verdict)
        assert pooled_answer(found._replace(differences=table)).startswith(beginning)


def test_one_loss_has_no_other(tmp_path: Path) -> None:
    made = [write(tmp_path / str(n), {"triplet": maps["triplet"]}) for n, maps in enumerate(MAPS)]
    found = pooled(made)
    assert pooled_answer(found).startswith("Triplet (0.510) is the test mAP in the mean of 3")
    assert differences_figure(found) is None
    page = pooled_page(made, found)
    (said,) = page.sections[0].paragraphs
    assert "ifferences" not in said and "All have the same test images" in said
    figures = {figure.name: figure for figure in page.figures}
    assert len(figures["pooled_maps"].figure.axes) == 1
    assert figures["pooled_pr_curves"].data["low"].notna().all()
    assert "farthest apart" not in figures["pooled_classes"].caption
    (classes,) = [t for t in page.tables if t.title == "Mean AP by class"]
    assert len(classes.cells) == 1  # no line of how many test a class: all do


def test_other_images_have_a_mean_without_a_band(tmp_path: Path) -> None:
    folders = of_three_splits(tmp_path)
    page = pooled_page(folders, pooled(folders))
    (curves,) = [figure for figure in page.figures if figure.name == "pooled_pr_curves"]
    assert curves.data[["low", "high"]].isna().all(axis=None)
    assert "mean over 3 comparisons)" in curves.caption and "band" not in curves.caption
    assert report.main(["--together", *map(str, folders), "--output", str(tmp_path / "p")]) == 0
    html = (tmp_path / "p" / "index.html").read_text()
    assert "where tested" in html and "trainings that were judged, of all comparisons" in html


def test_folders_of_one_name_are_told_apart(alike: list[Path], tmp_path: Path) -> None:
    for n, folder in enumerate(alike):
        shutil.copytree(folder, tmp_path / f"of {n}" / "run")
    folders = sorted(tmp_path.glob("*/run"))
    assert names_of(folders) == ["of 0/run", "of 1/run", "of 2/run"]
    assert names_of(alike) == ["0", "1", "2"]


def damaged(folder: Path, name: str) -> Path:
    """A comparison whose file of this name is not as it should be."""
    path = next(folder.rglob(name))
    if name == "study.json":
        path.write_text(json.dumps(json.loads(path.read_text()) | {"plan": {"fold": 0}}))
    elif name == "runs.csv":
        pd.read_csv(path).drop(columns="role").to_csv(path, index=False)
    elif name == "queries.npz":
        path.write_bytes(path.read_bytes()[:100])
    else:
        path.unlink()
    return folder


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("study.json", r"study\.json has no plan: "),
        ("runs.csv", r"runs\.csv must have the columns role$"),
        ("queries.npz", r"queries\.npz cannot be read \(truncated\?\): "),
        ("summary.csv", r"comparisons are pooled when their tests are done; .* is not$"),
        ("data.json", r"there is no .*data\.json$"),
    ],
)
def test_a_damaged_comparison_is_named_in_one_line(
    alike: list[Path], tmp_path: Path, name: str, law: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = damaged(shutil.copytree(alike[0], tmp_path / "damaged"), name)
    assert report.main(["--together", str(folder), str(alike[1])]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(law, line)


def test_queries_that_are_not_told_are_asked_for(alike: list[Path], tmp_path: Path) -> None:
    folder = shutil.copytree(alike[0], tmp_path / "old")
    path = folder / "finals" / "queries.npz"
    arrays = {name: array for name, array in np.load(path).items() if name != "queries_full"}
    np.savez(path, **arrays)
    with pytest.raises(StudyError, match=r"queries\.npz must hold queries_full"):
        pooled([folder, alike[1]])


@needs_browser
def test_the_program_writes_a_page_that_opens(
    alike: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in alike:
        path = folder / "study.json"
        info = json.loads(path.read_text()) | {"command": "python study/compare_losses.py"}
        info |= {"commit": 40 * "a", "machine": {"processor": "a processor"}}
        path.write_text(json.dumps(info))
    words = ["--together", *map(str, alike), "--output", str(tmp_path)]
    assert report.main(words) == 0
    found = pooled(alike)
    assert pooled_answer(found) in capsys.readouterr().out
    names = ("pooled_maps", "pooled_differences", "pooled_pr_curves", "pooled_classes")
    assert all((tmp_path / f"{name}.{kind}").exists() for name in names for kind in ("png", "svg"))
    scores = pd.read_csv(tmp_path / "scores.csv").set_index("loss")["map"]
    assert scores["triplet"] == pytest.approx(0.51)
    with opened(tmp_path / "index.html") as page:
        assert page.find_element(By.CSS_SELECTOR, ".answer").text == pooled_answer(found)
        for name in names:
            image = page.find_element(By.CSS_SELECTOR, f"#{name} img")
            page.execute_script("arguments[0].scrollIntoView()", image)
            assert page.execute_script("return arguments[0].naturalWidth", image) > 300
        shown = page.find_elements(By.TAG_NAME, "table")
        heads = [[one.text for one in t.find_elements(By.TAG_NAME, "th")] for t in shown]
        for cells in tables(found):
            assert any(head[0] == cells.columns[0] for head in heads)
        assert "a processor" in shown[-1].text
        wide = "return document.documentElement.scrollWidth <= window.innerWidth"
        assert page.execute_script(wide)
        asked_nobody(page)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--together", "0"], "two comparisons or more must be given, once each; got 1"),
        (["--together", "0", "nowhere"], "nowhere is not a study: it has no study.json"),
        (["--together", "0", "1", "--test", "why"], "--test is for a study's own report"),
        (["--together", "0", "1", "--data-dir", "x"], "--data-dir is for a study's own report"),
        (["--together", "0", "1", "--rerank"], "--rerank is for the report of one study"),
        (["0", "1", "2"], "or with --together finished comparisons of the same losses; got 3"),
    ],
)
def test_what_cannot_be_shown_together_is_said(
    alike: list[Path], words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [str(alike[0].parent / word) if word[0] in "012n" else word for word in words]
    try:
        code = report.main(names)
    except SystemExit as end:
        code = end.code
    error = capsys.readouterr().err
    assert code == 2 and said in error and "Traceback" not in error
