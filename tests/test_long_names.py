"""Figures of losses with long names: none lies over another, and none is cut off."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.figures.class_differences import class_differences_figure
from analysis.figures.knob_figures import knob_figures
from analysis.found.importance import importance
from study.results.studies import Study
from study.results.trials import trial_name
from tests.small_studies import INFO, trial
from trainables.config import TrialConfig

LOSSES = ("smooth_ap:numerator=paper,tau=0.01", "smooth_ap:numerator=seed", "smooth_ap+triplet")


def test_titles_lie_above_their_panels() -> None:
    pairs = list(itertools.combinations(LOSSES, 2))
    rows = [
        {"first": a, "second": b, "label": n, "difference": 0.1, "seed_low": 0.0, "seed_high": 0.2}
        for a, b in pairs
        for n in range(4)
    ]
    drawn = class_differences_figure(pd.DataFrame(rows), ("a", "b", "c", "d"), "seeds")
    assert drawn is not None
    drawn.figure.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in drawn.figure.axes]
    assert len(boxes) == 3
    assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))
    whole = drawn.figure.bbox
    assert all(whole.y1 >= box.y1 and whole.x0 <= box.x0 and box.x1 <= whole.x1 for box in boxes)


def test_a_legend_is_no_wider_than_its_figure(tmp_path: Path) -> None:
    trials = []
    for loss in LOSSES:
        for number in range(2):
            record = trial("smooth_ap", number, [0.5 + number / 10])
            fixed: dict[str, Any] = {"optimizer": "adam", "lr": 0.01 * (number + 1)}
            config = TrialConfig(loss=loss, **fixed)
            trials.append(
                dataclasses.replace(record, trial_id=trial_name(loss, number), config=config)
            )
    study = Study(tmp_path, INFO | {"plan": {"losses": list(LOSSES), "num_samples": 2}}, trials)
    slices = next(f for f in knob_figures(study, importance(study)) if f.name == "slices")
    slices.figure.draw_without_rendering()
    (legend,) = slices.figure.legends
    box = legend.get_window_extent()
    assert slices.figure.bbox.x0 <= box.x0 and box.x1 <= slices.figure.bbox.x1
    assert len(legend.get_texts()) == 4
