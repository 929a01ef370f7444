"""Which images a study trains on, is judged on and is tested on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study.judge import images
from study.judge.images import read_test_images, show_test_images, trained_on, validation_images
from study.run.results import Study, StudyError, TrialRecord
from tests.configurations import REFERENCES
from trainables.data import load_split
from trainables.data.ledger import LEDGER, Reading, entries


def study(folder: Path, **plan: Any) -> Study:
    """A finished study of one trial, with a file of choices."""
    study = Study.create(folder, {"status": "finished", "plan": {"losses": ["triplet"], **plan}})
    study.trials.append(TrialRecord("triplet-000", REFERENCES["triplet"]))
    study.write()
    return study


def test_all_classes(tmp_path: Path) -> None:
    whole = study(tmp_path / "s")
    split, judged = trained_on(whole.info["plan"]), validation_images(whole)
    assert (len(split.train), len(split.validation)) == (54_000, 6_000)
    np.testing.assert_array_equal(judged.data.images, split.validation.images)
    assert (judged.name, judged.note) == ("validation images", "validation images, not test")


def test_held_out_classes_are_not_trained_on_and_are_all_that_is_judged_on(tmp_path: Path) -> None:
    held_out = study(tmp_path / "s", holdout_classes=[5, 7])
    split, judged = trained_on(held_out.info["plan"]), validation_images(held_out)
    assert np.bincount(split.train.labels).tolist() == [5_400] * 5 + [0, 5_400, 0] + [5_400] * 2
    assert np.bincount(judged.data.labels).tolist() == [0] * 5 + [600, 0, 600]
    assert judged.name == "validation images of Sandal and Sneaker"
    choices = held_out.folder / "best.json"
    reading = Reading(choices, "to see", {}, 1, None)
    for test in (read_test_images(held_out, reading), show_test_images(held_out, choices)):
        assert np.bincount(test.data.labels).tolist() == [0] * 5 + [1_000, 0, 1_000]
        assert (test.name, test.note) == ("test images of Sandal and Sneaker", "")
    assert [line["why"] for line in entries(tmp_path / LEDGER)] == ["to see"]


def test_a_smoke_test_is_judged_on_what_its_trials_were(tmp_path: Path) -> None:
    small = study(tmp_path / "s", smoke_test=True)
    split, judged = trained_on(small.info["plan"]), validation_images(small)
    assert (len(split.train), len(split.validation)) == (3_000, 1_024)
    np.testing.assert_array_equal(judged.data.images, split.validation.images)
    np.testing.assert_array_equal(judged.data.images, load_split().validation.images[:1_024])
    test = show_test_images(small, small.folder / "best.json")
    assert len(test.data) == images.SMOKE_TEST == 1_000


def test_what_has_no_dataset_is_named(tmp_path: Path) -> None:
    empty = study(tmp_path / "s")
    empty.trials.clear()
    with pytest.raises(StudyError, match="must be of one dataset of fashion_mnist; got "):
        validation_images(empty)
