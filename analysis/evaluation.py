"""The chosen networks on images that they were not trained on: embeddings, AP, intervals.

The test split is read only for a study that is finished: its choices are frozen.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from study.evaluation import Evaluation, ProtocolResult, evaluate, judge
from study.results import Study, StudyError
from study.significance import Interval, mean_interval
from trainables.data import DATASETS, LabelledImages

__all__ = [
    "Evaluation",
    "Images",
    "Interval",
    "ProtocolResult",
    "difference",
    "evaluate",
    "evaluate_study",
    "judge",
    "load_images",
    "map_table",
    "mean_interval",
]


class Images(NamedTuple):
    """What the networks are judged on.

    Attributes:
        data: N images with their labels.
        classes: the name of label 0, 1, ...
        name: `test images` or `validation images`.
        note: why these are not the test images; empty if they are.
    """

    data: LabelledImages
    classes: tuple[str, ...]
    name: str
    note: str

    @property
    def described(self) -> str:
        """For every place that states a number: it must not be taken for the test's."""
        return self.note or self.name


def load_images(study: Study, data_dir: Path | str | None = None) -> Images:
    """The test images of a finished study; of any other study the validation images.

    Raises:
        StudyError: the chosen configurations are of no known dataset, or of several.
        DataError: the dataset's files are missing or damaged.
    """
    names = sorted({choice.config.dataset for choice in study.best().values()})
    if len(names) != 1 or names[0] not in DATASETS:
        known = ", ".join(DATASETS)
        raise StudyError(f"the choices must be of one dataset of {known}; got {', '.join(names)}")
    dataset = DATASETS[names[0]]
    status = study.info.get("status")
    if status == "finished":
        test = dataset.load_test(data_dir, frozen=study.folder / "best.json")
        return Images(test, dataset.classes, "test images", "")
    note = f"validation images, not test; the study is {status}"
    validation = dataset.load_split(data_dir).validation
    return Images(validation, dataset.classes, "validation images", note)


def evaluate_study(study: Study, images: Images) -> dict[str, Evaluation]:
    """By loss, its chosen network on these images, the best mAP under `full` first.

    Raises:
        StudyError: a checkpoint is missing, damaged, or of another configuration or epoch.
    """
    evaluations = {loss: evaluate(choice, images.data) for loss, choice in study.best().items()}
    return dict(sorted(evaluations.items(), key=lambda item: -_full_map(item[1])))


def difference(
    first: Evaluation, second: Evaluation, protocol: str = "full"
) -> tuple[float, Interval]:
    """By how much the first has the higher mAP, paired over the same queries."""
    pairs = (
        first.protocols[protocol].result.average_precision
        - second.protocols[protocol].result.average_precision
    )
    return float(np.nanmean(pairs)), mean_interval(pairs)


def map_table(evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    """A row a loss and protocol: mAP, its interval, how many queries and gallery images."""
    rows = [
        {
            "loss": loss,
            "protocol": name,
            "map": judged.mean_average_precision,
            "low": judged.interval.low,
            "high": judged.interval.high,
            "queries": judged.protocol.queries,
            "gallery": judged.protocol.gallery,
            "queries_without_relevant": judged.result.queries_without_relevant,
        }
        for loss, evaluation in evaluations.items()
        for name, judged in evaluation.protocols.items()
    ]
    return pd.DataFrame(rows)


def _full_map(evaluation: Evaluation) -> float:
    return evaluation.protocols["full"].mean_average_precision
