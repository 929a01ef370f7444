"""The values of knobs in tables and on axes: none, a choice, is not a knob that is unused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from analysis.figures.knob_figures import knob_figures
from analysis.figures.parallel_coordinates import parallel_heights
from analysis.found.importance import importance
from analysis.found.knobs import (
    NONE,
    UNUSED,
    choices,
    field_ranges,
    heights,
    is_choice,
    is_log,
    knob_table,
    places,
    round_numbers,
    settings,
    ticks,
    varied,
)
from analysis.page.tables import trials_table
from study.judge.summary import best_table
from study.results.studies import Study
from study.search.space import SPACE, describe
from tests.configurations import REFERENCES
from tests.small_studies import INFO, trial
from trainables.config import TrialConfig
from trainables.knobs import Choice, Range, Span, choice, log


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Trials of triplet with and without images a class, all with SGD; one of Smooth-AP."""
    trials = [trial("triplet", number, [0.5 + 0.01 * number]) for number in range(4)]
    for record in trials[:3]:
        record.config = record.config.replace(batch_size=64)
    trials[3].config = trials[3].config.replace(batch_size=64, per_class=8)
    trials.append(trial("smooth_ap", 0, [0.4]))
    trials[4].config = trials[4].config.replace(batch_size=64)
    return Study(tmp_path, INFO | {"plan": {"losses": ["triplet", "smooth_ap"]}}, trials)


def test_none_is_a_choice_and_unused_is_none() -> None:
    found = settings(REFERENCES["smooth_ap"])
    assert found["per_class"] == NONE
    assert "momentum" not in found and "margin" not in found
    values = pd.Series([NONE, 8, None], dtype=object)
    known = choice(None, 2, 4, 8)
    assert choices(values, known) == [NONE, "2", "4", "8", UNUSED]
    assert [place for place, _ in ticks(values, known)] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_choice_of_none_has_its_column_its_slice_and_its_line(study: Study) -> None:
    table, same = trials_table(study)
    assert table.cells["images a class"].tolist() == ["8", NONE, NONE, NONE, NONE]
    assert "images a class" not in same and "images a batch 64" in same
    knobs = knob_table(study)
    of_triplet = knobs[knobs["loss"] == "triplet"]
    assert "per_class" in varied(knobs)
    assert parallel_heights(of_triplet, field_ranges(study))["per_class"].tolist() == [0, 0, 0, 1]
    figures = {figure.name: figure for figure in knob_figures(study, importance(study))}
    assert "images a class" in figures["slices"].interactive
    assert "images a class 8" in figures["parallel_triplet"].caption


def test_an_unused_knob_has_an_empty_cell_and_no_sentence(study: Study) -> None:
    table, same = trials_table(study)
    assert "momentum 0" in same and "margin 0.5" in same and "τ 0.01" in same
    assert "temperature" not in same and "temperature" not in table.cells
    assert table.cells["optimizer"].tolist() == ["sgd"] * 4 + ["adam"]


def test_the_terminal_says_none_and_a_dash(study: Study) -> None:
    lines = best_table(study).splitlines()
    assert lines[0].split()[-1] == "per_class"
    assert [line.split()[-1] for line in lines[1:5]] == ["8", "none", "none", "none"]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (2e-4, 0.3, [1e-3, 1e-2, 1e-1]),
        (0.06, 0.6, [0.1, 0.2, 0.5]),
        (0.2, 0.216, [0.2, 0.216]),
        (0.3, 0.3, [0.3]),
    ],
)
def test_a_logarithmic_axis_has_at_least_two_numbers(
    low: float, high: float, expected: list[float]
) -> None:
    assert round_numbers(low, high) == expected


@pytest.mark.parametrize("known", [log(0.05, 1.0), Span(0.0, 0.5), choice(0, 0.2, 0.5), None])
def test_a_knob_that_is_0_somewhere_has_its_place(known: Range | None) -> None:
    """Also on an axis that is a logarithmic one otherwise."""
    values = pd.Series([0, 0.2, 0.5, None], dtype=object)
    found = heights(values, known)
    assert found.is_monotonic_increasing and found.iloc[0] == 0 and found.iloc[3] == 1
    assert not is_log(values, known)
    assert is_choice(values, known) == (not isinstance(known, Span))
    assert is_log(values[1:], known) == (known == log(0.05, 1.0))


def test_a_margin_of_0_beside_a_searched_one_has_its_figures(tmp_path: Path) -> None:
    trials = []
    for loss in (losses := ["triplet", "triplet:margin=0"]):
        for number in range(3):
            record = trial("triplet", number, [0.5 + number / 10])
            margin = 0.0 if loss != "triplet" else 0.1 * (number + 1)
            config = TrialConfig(
                loss=loss, optimizer="adam", lr=0.01 * (number + 1), loss_args={"margin": margin}
            )
            trials.append(dataclasses.replace(record, trial_id=f"{loss}-00{number}", config=config))
    info = INFO | {"plan": {"losses": losses, "num_samples": 3}, "space": describe(losses, SPACE)}
    study = Study(tmp_path, info, trials)
    names = [figure.name for figure in knob_figures(study, importance(study))]
    assert names[0] == "slices" and "parallel_triplet" in names
    assert places(knob_table(study)["margin"], field_ranges(study)["margin"]).min() == 0


def test_the_ranges_of_a_study_say_what_is_a_choice_and_what_is_logarithmic(
    study: Study,
) -> None:
    """Whatever the values look like, and whatever other studies search."""
    study.info["space"] = [
        {"knob": knob, "range": known, "used by": users}
        for knob, known, users in (
            ("margin", "0.1, 0.2, 0.5", "triplet"),
            ("tau", "0.001 to 0.1", "smooth_ap"),
            ("weight_decay", "1e-06 to 0.01 (log)", "triplet"),
            ("weight_decay", "0.0, 4e-05", "smooth_ap"),
            ("lr_factor", "0.5, 1.0", "all"),
            ("batch_size", "64, 128", "triplet"),
            ("batch_size", "128, 256", "smooth_ap"),
        )
    ]
    assert field_ranges(study) == {
        "margin": Choice((0.1, 0.2, 0.5)),
        "tau": Span(0.001, 0.1),
        "weight_decay": Span(1e-6, 0.01, log=True),
        "batch_size": Choice((64, 128, 256)),
    }
