# ruff: noqa: F401 (fixtures of other files)
"""Where a comparison's whole search was repeated, its intervals are over searches, and say so."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.exported.model_card import _tested
from analysis.figures.histories import confirmed_history, history_figures
from analysis.figures.pr_curves import pr_figures, pr_table
from analysis.found.sources import Source
from analysis.page.answer import answer
from analysis.page.sections import answer_section, retrieval_sections, search_sections
from analysis.page.side_by_side import budgets_table
from study.compare_losses import tell
from study.judge import pages
from study.judge.final_test import read_test
from study.results.studies import Study
from study.results.trials import GIVEN, HAND_SET
from study.run.plan import Plan
from tests.test_final_test import finals, make, reads, sweeps_of

BOTH = ["triplet", "smooth_ap"]
NUMBER = r"0\.\d{3}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two searches of two losses, each choice on three seeds."""
    sweep, confirmation = make(tmp_path / "c", losses=BOTH, search_seeds=2)
    others = sweeps_of(sweep.folder, Plan(**sweep.info["plan"]))[1:]
    read_test(sweep, confirmation, others=others)
    return sweep.folder


def by_search(folder: Path, loss: str) -> np.ndarray:
    """The mean mAP of a loss's three runs, of each search."""
    runs = finals(Study.load(folder), "runs").query(f"loss == '{loss}' and role == 'chosen'")
    assert runs["search"].tolist() == [0, 0, 0, 1, 1, 1]
    return runs["map_full"].to_numpy().reshape(2, 3).mean(1)


def test_a_table_in_the_pages_says_how_often_the_search_was_made(folder: Path) -> None:
    text = pages.results(folder)
    assert "| full protocol | 95 % over searches | over searches and classes |" in text
    assert "| mean | 95 % over searches | over searches and classes | corrected p |" in text
    assert "Searches: 2 of each loss. Each search: 2 configurations of at most 1 epochs" in text
    assert "p is the largest over searches (paired; Welch)" in text
    assert "studies would show over searches;" in text and "over seeds" not in text
    means = by_search(folder, "triplet")
    low, high = stats.t.interval(0.95, 1, means.mean(), stats.sem(means))
    cells = f"{means.mean():.4f} | {max(low, 0):.4f} to {min(high, 1):.4f}"
    assert f"| Triplet, found by 2 searches | {cells} |" in text
    assert "| 6 × 1 epochs | 4 trials, 4 epochs, 0.0 h |" in text
    assert "Of 8 sampled configurations 8 reached the last epoch; none of the 4 choices" in text


def test_a_choice_that_one_of_two_searches_began_with_is_counted(folder: Path) -> None:
    second = Study.load(folder / "searches" / "02")
    (choice,) = [trial for trial in second.trials if trial.trial_id == "triplet-001"]
    second.write_trial(dataclasses.replace(choice, origin=HAND_SET))
    text = pages.results(folder)
    assert "| Triplet, found by 1 of 2 searches |" in text
    assert "| Smooth-AP, found by 2 searches |" in text
    assert "Of 7 sampled configurations 7 reached the last epoch; 1 of the 4 choices are" in text


def test_what_was_given_is_not_said_to_be_found_or_set_by_hand(folder: Path) -> None:
    for part in (folder, folder / "searches" / "02"):
        study = Study.load(part)
        for trial in study.trials:
            study.write_trial(dataclasses.replace(trial, origin=GIVEN))
    text = pages.results(folder)
    assert "| Triplet, as given |" in text and "| Smooth-AP, as given |" in text
    assert "Nothing was searched: all knobs were given." in text
    assert "sampled" not in text and "found by" not in text and "hand-set" not in text


def test_the_terminal_says_over_what_its_intervals_are(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tell(folder, 1.0, None) == 0
    assert "intervals over searches, and over searches and classes:" in capsys.readouterr().out


def test_the_reports_answer_is_over_searches(folder: Path) -> None:
    source = Source.load(Study.load(folder))
    results = source.results
    assert results is not None and results.unit == "searches"
    assert [[run.search for run in one] for one in results.units("triplet")] == [[0] * 3, [1] * 3]
    said = answer(results, source.differences, BOTH)
    assert said.startswith("With 2 searches for each loss, ")
    means = by_search(folder, results.losses[0])
    low, high = stats.t.interval(0.95, 1, means.mean(), stats.sem(means))
    both = rf"over searches and classes {NUMBER} to {NUMBER}\)"
    over = f"(95 % interval over 2 searches {max(low, 0):.3f} to {min(high, 1):.3f}, "
    assert f"mAP {means.mean():.3f} {over}" in said and re.search(both, said)
    section = answer_section(source, results)
    maps, _, differences, configurations, budget = section.tables
    for table in (maps, differences):
        heads = list(table.cells)
        assert [head for head in heads if "over seeds" in head] == []
        assert any(head.startswith("95 % over searches and classes") for head in heads)
    first = maps.cells[maps.cells["configuration"] == "chosen"].iloc[0]
    assert first["trial"].endswith("-001, of the first of 2 searches") and first["runs"] == "6"
    assert configurations.title == "The chosen configurations of the first of 2 searches"
    assert set(budget.cells["trials"]) == {"4"}
    rule, _, intervals = section.paragraphs[-3:]
    assert rule.startswith("The search was made 2 times. ")
    assert "anew with 3 fresh seeds of its own (8, 9, 10, 10008, 10009 and 10010)" in rule
    assert "Student's t over searches, over queries whose AP is averaged over searches" in intervals
    assert "p over searches (paired by search, and Welch's)" in intervals
    assert "over all pairs of their searches" in intervals
    assert "bars are 95 % intervals over searches, small dots" in section.figures[0].caption


def test_the_curves_and_classes_of_the_report_are_over_searches(folder: Path) -> None:
    source = Source.load(Study.load(folder))
    assert source.results is not None and source.finals is not None
    curve = pr_table(source.results).query("loss == 'triplet' and role == 'chosen'")
    curve = curve[curve["protocol"] == "full"]
    runs = finals(source.study, "runs").query("loss == 'triplet' and role == 'chosen'")
    drawn = np.stack([source.finals.arrays[f"precision_full/{run}"] for run in runs["trial_id"]])
    means = drawn.astype(float).reshape(2, 3, -1).mean(1)
    half = stats.t.ppf(0.975, 1) * means.std(0, ddof=1) / np.sqrt(2)
    np.testing.assert_allclose(curve["precision"], means.mean(0), rtol=1e-6)
    spread = np.minimum(means.mean(0) + half, 1)
    np.testing.assert_allclose(np.minimum(curve["high"], 1), spread, rtol=1e-5)
    assert set(curve["runs"]) == {6}
    assert "mean and 95 % band over 2 searches" in pr_figures(source.results)[0].caption
    captions = [
        figure.caption
        for section in retrieval_sections(source.results, source.finals)
        for figure in section.figures
    ]
    assert any("where the 95 % interval over searches leaves out 0" in one for one in captions)
    assert not any("over seeds" in caption for caption in captions)


def test_the_report_says_which_of_the_searches_it_shows(folder: Path) -> None:
    said = "Shown is the first of 2 searches, here and below; the others are studies"
    first, *_ = search_sections(Study.load(folder))
    assert first.paragraphs[0].startswith(said)
    assert first.paragraphs[0].endswith(": searches/02 in the folder of the first.")
    second, *_ = search_sections(Study.load(folder / "searches" / "02"))
    assert not any("Shown is" in paragraph for paragraph in second.paragraphs)


def test_two_studies_on_a_page_have_the_budgets_of_their_first_searches(folder: Path) -> None:
    """Which the title says where there are others."""
    whole, second = (Source.load(Study.load(folder / part)) for part in ("", "searches/02"))
    table = budgets_table({"A": whole, "B": second})
    assert table.title == "The budgets of the first searches"
    assert table.cells["trials"].tolist() == ["2"] * 4
    assert budgets_table({"A": second, "B": second}).title == "The budgets"


def test_runs_of_several_choices_are_not_called_those_of_one(folder: Path) -> None:
    source = Source.load(Study.load(folder))
    assert source.finals is not None
    figures = history_figures(confirmed_history(source.finals), source.study.metric)
    said = "6 runs of the chosen configurations of 2 searches (seeds 8, 9, 10, 10008, 10009, 10010)"
    assert all(f", {said}: the highest" in figure.caption for figure in figures)


@pytest.mark.parametrize(
    ("searches", "said"),
    [
        (1, "Of the 6 runs of what the comparison chose for this loss: 0.5000 (95 % over seeds: "),
        (2, "Of the 6 runs of what the comparison's 2 searches chose for this loss: 0.5000 (95 % "
            "over searches: 0.4000 to 0.6000; over queries: not known)."),
    ],
)  # fmt: skip
def test_an_exported_networks_card_says_over_what_its_interval_is(searches: int, said: str) -> None:
    test = {"protocol": "full", "map": 0.5, "low": 0.4, "high": 0.6, "query_low": None}
    test |= {"query_high": None, "runs": 6, "searches": searches, "map_of_this_run": 0.51}
    assert _tested(test, "mAP")[1].startswith(said)
