"""The images of a study: all that train, judge, test or show by it have them from here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from study.run.results import Study, StudyError
from trainables.config import TrialConfig
from trainables.data import DATASETS, Dataset, LabelledImages, Split, hold_out, slice_of
from trainables.data.ledger import Reading

# In a smoke test: no fewer to train and validate on than the largest batch.
SMOKE_TRAIN, SMOKE_VALIDATION, SMOKE_TEST = 3_000, 1_024, 1_000


class Images(NamedTuple):
    """What networks are judged on.

    Attributes:
        data: N images with their labels.
        classes: the name of label 0, 1, ...
        name: `test images` or `validation images`, and of which classes if not of all.
        note: why these are not the test images; empty if they are.
    """

    data: LabelledImages
    classes: tuple[str, ...]
    name: str
    note: str


def trained_on(plan: Mapping[str, Any], data_dir: Path | str | None = None) -> Split:
    """What the trials of a plan train on and are judged on meanwhile: no held-out class.

    Args:
        plan: a plan's fields, as in study.json.

    Raises:
        DataError: the dataset's files are missing or damaged.
    """
    split = DATASETS[TrialConfig.dataset].load_split(data_dir)
    split = hold_out(split, plan.get("holdout_classes") or ())
    return slice_of(split, SMOKE_TRAIN, SMOKE_VALIDATION) if plan.get("smoke_test") else split


def validation_images(study: Study, data_dir: Path | str | None = None) -> Images:
    """The validation images that a study is judged on; with held-out classes those of these.

    Raises:
        StudyError: its trials are of no known dataset, or of several.
        DataError: the dataset's files are missing or damaged.
    """
    dataset, plan = _dataset(study), study.info["plan"]
    if plan.get("holdout_classes"):
        validation = _held_out(dataset.load_split(data_dir).validation, plan)
        validation = validation.take(slice(SMOKE_VALIDATION if plan.get("smoke_test") else None))
    else:
        validation = trained_on(plan, data_dir).validation
    name, status = f"validation images{_of(dataset, plan)}", study.info.get("status")
    state = "" if status == "finished" else f"; the study is {status}"
    return Images(validation, dataset.classes, name, f"{name}, not test{state}")


def read_test_images(study: Study, reading: Reading, data_dir: Path | str | None = None) -> Images:
    """The test images that a study is judged on; the reading is entered in the ledger.

    Raises:
        StudyError: as `validation_images`.
        DataError: as `trainables.data.load_test`.
    """
    dataset = _dataset(study)
    return _tested(study, dataset, dataset.load_test(data_dir, reading=reading))


def show_test_images(study: Study, found: Path, data_dir: Path | str | None = None) -> Images:
    """The same to look at beside what a reading found, the file of its results.

    Raises:
        StudyError: as `validation_images`.
        DataError: as `trainables.data.show_test`.
    """
    dataset = _dataset(study)
    return _tested(study, dataset, dataset.show_test(data_dir, found=found))


def name_of_test(study: Study) -> str:
    """What `read_test_images` calls its images."""
    return f"test images{_of(_dataset(study), study.info['plan'])}"


def classes_of(study: Study) -> tuple[str, ...]:
    """The name of label 0, 1, ... of a study's images; StudyError as `validation_images`."""
    return _dataset(study).classes


def _tested(study: Study, dataset: Dataset, test: LabelledImages) -> Images:
    plan = study.info["plan"]
    test = _held_out(test, plan).take(slice(SMOKE_TEST if plan.get("smoke_test") else None))
    return Images(test, dataset.classes, name_of_test(study), "")


def _dataset(study: Study) -> Dataset:
    names = sorted({trial.config.dataset for trial in study.trials})
    if len(names) != 1 or names[0] not in DATASETS:
        known, got = ", ".join(DATASETS), ", ".join(names)
        raise StudyError(f"the trials must be of one dataset of {known}; got {got}")
    return DATASETS[names[0]]


def _held_out(images: LabelledImages, plan: Mapping[str, Any]) -> LabelledImages:
    """Those of the held-out classes alone; all of them if none is held out."""
    classes = plan.get("holdout_classes")
    return images.take(np.isin(images.labels, classes)) if classes else images


def _of(dataset: Dataset, plan: Mapping[str, Any]) -> str:
    names = [dataset.classes[number] for number in plan.get("holdout_classes") or ()]
    return f" of {', '.join(names[:-1])} and {names[-1]}" if names else ""
