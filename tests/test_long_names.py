# ruff: noqa: F401 (fixtures of other files)
"""Figures of losses with long names: none lies over another, and none is cut off."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis import report
from analysis.figures.class_differences import class_differences_figure
from analysis.figures.class_figures import _wide
from analysis.figures.histories import history_figures
from analysis.figures.knob_figures import _shift, knob_figures
from analysis.figures.style import COLOURS, PALETTE, short_name
from analysis.found.importance import importance
from analysis.found.words import loss_name, settle_names
from study.judge.final_test import read_test
from study.results.studies import Study
from study.results.trials import trial_name
from tests.small_studies import INFO, trial
from tests.test_final_test import make, reads
from trainables.config import TrialConfig
from trainables.losses import resolve

LOSSES = ("smooth_ap:numerator=paper,tau=0.01", "smooth_ap:numerator=seed", "smooth_ap+triplet")


def test_titles_lie_above_their_panels() -> None:
    pairs = list(itertools.combinations(LOSSES, 2))
    rows = [
        {"first": a, "second": b, "label": n, "difference": 0.1, "seed_low": 0.0, "seed_high": 0.2}
        for a, b in pairs
        for n in range(4)
    ]
    drawn = class_differences_figure(pd.DataFrame(rows), LOSSES[0], ("a", "b", "c", "d"), "seeds")
    assert drawn is not None
    drawn.figure.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in drawn.figure.axes]
    assert len(boxes) == 3
    assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))
    whole = drawn.figure.bbox
    assert all(whole.y1 >= box.y1 and whole.x0 <= box.x0 and box.x1 <= whole.x1 for box in boxes)


ARMS = {
    "smooth_ap:tau=0.5": "Smooth-AP (tau 0.5)",
    "smooth_ap:tau=0.01": "Smooth-AP (tau 0.01)",
    "smooth_ap": "Smooth-AP",
}
MANY = "lr=0.01,tau=0.005,weight_decay=4e-05,numerator=paper"
TOLD = {
    f"smooth_ap:{MANY},flip=true": "Smooth-AP (flip true)",
    f"smooth_ap:{MANY},flip=false": "Smooth-AP (flip false)",
    f"smooth_ap+normalized_softmax:{MANY}": "Smooth-AP + normalised softmax",
    "triplet": "triplet",
}


@pytest.mark.parametrize("names", [ARMS, TOLD])
def test_a_page_tells_of_long_settings_those_that_differ(names: dict[str, str]) -> None:
    losses = [resolve(loss).name for loss in names]
    try:
        settle_names(losses)
        assert [loss_name(loss) for loss in losses] == list(names.values())
        settle_names(losses[:1])  # alone on its page
        assert loss_name(losses[0]) == ("Smooth-AP" if names is TOLD else "Smooth-AP (tau 0.5)")
        settle_names([])
        assert loss_name(losses[0]) == resolve(losses[0]).title
    finally:
        settle_names([])


def test_no_figure_of_a_report_cuts_a_long_name(tmp_path: Path) -> None:
    """Of two arms with many settings that differ, which no page can shorten."""
    one = "warmup=0.1,tau=0.0051,weight_decay=4e-05,numerator=paper,flip=true,schedule=constant"
    other = "warmup=0.5,tau=0.0021,weight_decay=0.004,numerator=seed,flip=false,schedule=cosine"
    losses = [f"smooth_ap:{settings}" for settings in (one, other)]
    sweep, confirmation = make(tmp_path / "c", losses=losses, reference_seeds=0)
    read_test(sweep, confirmation)
    assert report.main([str(sweep.folder), "--output", str(tmp_path / "r")]) == 0
    settle_names([])
    drawn = sorted((tmp_path / "r").glob("*.png"))
    assert len(drawn) > 10
    for path in drawn:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("L"))
        for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
            assert (edge == 255).all(), path.name


def test_a_history_has_room_for_a_loss_with_settings() -> None:
    loss = "pml:MultiSimilarityLoss:alpha=2,base=0.25,beta=50"
    epoch = {"trial_id": "a-000", "loss": loss, "role": "chosen", "seed": 1, "search": 0}
    epoch |= {"train_loss": 1.0, "val_loss": 1.5, "val_map": 0.5}
    table = pd.DataFrame({**epoch, "epoch": n, "chosen": n == 2} for n in (1, 2, 3))
    (drawn,) = history_figures(table, "val_map")
    drawn.figure.draw_without_rendering()
    whole, axes = drawn.figure.bbox, drawn.figure.axes
    texts = [
        drawn.figure._suptitle,
        *(text for one in axes for text in (one.yaxis.label, one.title)),
    ]
    assert texts[0] is not None and "multi-similarity (alpha 2" in texts[0].get_text()
    for text in texts:
        box = text.get_window_extent()
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0, text
        assert box.y1 <= whole.y1, text


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


def test_the_points_of_many_losses_lie_within_their_panels() -> None:
    """And no two of twelve losses have one colour."""
    losses, values = [f"loss {n}" for n in range(12)], pd.Series(["a", "b"])
    shifts = [_shift(loss, losses, values, "optimizer") for loss in losses]
    assert max(map(abs, shifts)) < 0.5 and len(set(shifts)) == 12
    assert len(set(PALETTE) | set(COLOURS.values())) >= 12 and len(set(PALETTE)) == 12


def test_a_knob_that_a_loss_has_not_is_not_its_best(tmp_path: Path) -> None:
    """A learning rate that is fixed: the first knob on a logarithmic axis is one loss's own."""
    trials = []
    for loss, args in (("smooth_ap", {"tau": 0.02}), ("triplet", {"margin": 0.3})):
        for number in range(2):
            own = {name: value * (1 + number) for name, value in args.items()}
            config = TrialConfig(loss=loss, optimizer="adam", lr=0.01, loss_args=own)
            record = trial(loss, number, [0.5 + number / 10])
            trials.append(dataclasses.replace(record, config=config))
    plan = {"losses": ["smooth_ap", "triplet"], "num_samples": 2}
    study = Study(tmp_path, INFO | {"plan": plan}, trials)
    slices = next(f for f in knob_figures(study, importance(study)) if f.name == "slices")
    assert "the best has " in slices.caption and "nan" not in slices.caption


def test_names_that_would_be_cut_alike_stay_apart() -> None:
    """Three arms of long settings, of which two differ in the middle of their names alone."""
    settings = "flip={},lr=0.0{},schedule={},shift={},tau=0.00{},warmup={}"
    varied = [("true", 1, "cosine", 0, 1, 0.1), ("true", 1, "constant", 0, 1, 0.1)]
    varied.append(("false", 2, "cosine", 1, 2, 0.5))
    losses = [resolve(f"smooth_ap:{settings.format(*one)}").name for one in varied]
    table = pd.DataFrame(
        {"loss": loss, "role": role, "class": name, "ap": 0.1 * number, "queries": 1}
        for number, loss in enumerate(losses)
        for role in ("chosen", "reference")
        for name in ("a", "b")
    )
    try:
        wide = _wide(table)
        assert wide["a"].tolist() == pytest.approx([0, 0, 0.1, 0.1, 0.2, 0.2])
        assert len(set(wide.index)) < 6
        settle_names(losses)
        for after in ("", ", reference", ", best so far"):
            assert len({short_name(loss_name(loss) + after) for loss in losses}) == 3
        assert len(set(_wide(table).index)) == 6
        assert not loss_name(losses[2]).endswith(")" * 2) and "(1)" not in loss_name(losses[2])
    finally:
        settle_names([])
