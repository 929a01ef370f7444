"""What a report is made from: a study with its networks, or a finished comparison's files."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.answer import query_differences
from analysis.evaluation import evaluate_study, load_images
from analysis.finals import Finals, has_finals, is_comparison
from analysis.runs import Results, of_comparison, of_study
from study.choices import CHOICES
from study.results import Study, StudyError
from trainables.data import DATASETS, DataError


@dataclass(frozen=True, eq=False)
class Source:
    """A study and what is known of its answer.

    Attributes:
        study: the search; of a comparison the sweep.
        results: the judged networks; None while no trial can be chosen.
        differences: as in `finals/differences.csv`; empty for a single loss.
        finals: of a finished comparison, else None.
        provisional: why the numbers are not the final ones; empty if they are.
    """

    study: Study
    results: Results | None
    differences: pd.DataFrame
    finals: Finals | None = None
    provisional: str = ""

    @property
    def name(self) -> str:
        return self.study.folder.resolve().name

    @classmethod
    def load(cls, study: Study, data_dir: Path | str | None = None) -> Source:
        """Evaluates the chosen networks, or reads what a finished comparison found.

        The test images are loaded for a finished study; of a finished comparison only to be shown,
        and those of any other stay unread.

        Raises:
            StudyError: there is no trial at all, or a file is missing or damaged.
            DataError: the images that a study is judged on are missing or damaged.
        """
        if not study.trials:
            raise StudyError(f"{study.folder} has no trial yet: there is nothing to report")
        if has_finals(study):
            finals = Finals.load(study)
            return cls(study, _with_pixels(finals, data_dir), finals.differences, finals)
        status = study.info["status"]
        if status == "finished" and is_comparison(study):
            status = "a comparison under way"
        provisional = "" if status == "finished" else str(status)
        if not study.best():
            return cls(study, None, pd.DataFrame(), None, provisional)
        judged = dataclasses.replace(study, info={**study.info, "status": status})
        images = load_images(judged, data_dir)
        evaluations = evaluate_study(study, images)
        differences = query_differences(evaluations)
        return cls(study, of_study(evaluations, images), differences, None, provisional)


def _with_pixels(finals: Finals, data_dir: Path | str | None) -> Results:
    """The comparison's results, with the images that were tested if they can be had."""
    (name,) = {config.dataset for config in finals.configs.values()}
    if name not in DATASETS:
        raise StudyError(f"the choices must be of a dataset of {', '.join(DATASETS)}; got {name}")
    dataset, results = DATASETS[name], of_comparison(finals, DATASETS[name].classes)
    try:
        test = dataset.load_test(data_dir, frozen=finals.sweep.folder / CHOICES)
    except (DataError, OSError) as error:
        return dataclasses.replace(results, no_pixels=str(error))
    held_out = finals.sweep.info["plan"].get("holdout_classes")
    if held_out:
        test = test.take(np.isin(test.labels, held_out))
    test = test.take(slice(len(results.labels)))
    if not np.array_equal(test.labels, results.labels):
        law = "the test images at hand must be those that were tested; their labels differ"
        return dataclasses.replace(results, no_pixels=law)
    return dataclasses.replace(results, pixels=test.images)
