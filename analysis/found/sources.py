"""What a report is made from: a study with its networks, or a finished comparison's files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.found.finals import Finals, has_finals, is_comparison
from analysis.found.runs import Results, of_comparison, of_study
from study.judge.evaluation import Evaluation, difference, evaluate_study, trained_network
from study.judge.final_tables import DIFFERENCES
from study.judge.final_test import FINALS
from study.judge.other_orders import orders_table
from study.results.files import StudyError
from study.results.images import (
    Images,
    classes_of,
    read_test_images,
    show_test_images,
    validation_images,
)
from study.results.studies import Study
from trainables.data import DataError
from trainables.data.ledger import Reading, readings


@dataclass(frozen=True, eq=False)
class Source:
    """A study and what is known of its answer.

    Attributes:
        study: the search; of a comparison the sweep.
        results: the judged networks; None while no trial can be chosen.
        differences: as in `finals/differences.csv`; empty for a single loss.
        finals: of a finished comparison, else None.
        provisional: why the numbers are not the final ones; empty if they are.
        orders: the results in other orders, as `study.judge.other_orders` has them, where they were
            asked for.
    """

    study: Study
    results: Results | None
    differences: pd.DataFrame
    finals: Finals | None = None
    provisional: str = ""
    orders: pd.DataFrame | None = None

    @property
    def name(self) -> str:
        return self.study.folder.resolve().name

    @property
    def readings(self) -> list[dict[str, Any]]:
        """The ledger's lines of the test images that met these choices."""
        if self.finals is not None:
            return self.finals.readings
        return readings(self.study.folder / "best.json")

    @classmethod
    def load(
        cls,
        study: Study,
        data_dir: Path | str | None = None,
        *,
        test: str | None = None,
        rerank: bool = False,
    ) -> Source:
        """Evaluates the chosen networks, or reads what a finished comparison found.

        A study is judged on its validation images. Test images are read for none but a study that
        `test` asks it for; those of a finished comparison are loaded to be shown.

        Args:
            test: why the test images are to be read, which the ledger gets; None: they are not.
            rerank: whether other orders are to be looked at too; of a finished comparison they are
                what it found.

        Raises:
            StudyError: there is no trial at all, or a file is missing or damaged; or as `may_test`.
            DataError: the images that a study is judged on are missing or damaged.
        """
        if not study.trials:
            raise StudyError(f"{study.folder} has no trial yet: there is nothing to report")
        if test is not None:
            may_test(study)
        if has_finals(study):
            finals = Finals.load(study)
            if rerank and finals.orders is None:
                asked = study.info["plan"].get("rerank")
                law = "a comparison judges other orders where it was begun with --rerank"
                why = "left them out, as it said then" if asked else "was not"
                raise StudyError(f"{law}; {study.folder} {why}")
            results = _with_pixels(finals, data_dir)
            return cls(study, results, finals.differences, finals, orders=finals.orders)
        status = str(study.info["status"])
        if status == "finished" and is_comparison(study):
            status = "a comparison under way"
        provisional = "" if status == "finished" else status
        if not study.best():
            return cls(study, None, pd.DataFrame(), None, provisional)
        judged = dataclasses.replace(study, info={**study.info, "status": status})
        images = (
            validation_images(judged, data_dir) if test is None else _test(study, test, data_dir)
        )
        evaluations = evaluate_study(study, images)
        differences = query_differences(evaluations)
        ordered = orders_table(evaluations, images.data) if rerank else None
        results = of_study(evaluations, images)
        return cls(study, results, differences, None, provisional, ordered)


def may_test(study: Study) -> None:
    """StudyError unless a report may read the test images for a study.

    A comparison has a step of its own for that, also for its parts, which have its plan; another
    study must be finished and have chosen.
    """
    if is_comparison(study) or study.info["plan"].get("confirm_seeds"):
        law = "a comparison reads the test images in its last step"
        again = "compare_losses.py --resume --reread-test WHY"
        raise StudyError(f"{law}, and again with {again}; {study.folder} is one, or a part of one")
    if study.info["status"] != "finished" or not study.best():
        law = "the test images are read for a finished study with a choice"
        raise StudyError(f"{law}; {study.folder} is {study.info['status']}")


def _test(study: Study, why: str, data_dir: Path | str | None) -> Images:
    """The test images for the choices of a study; a damaged network is missed before."""
    choices = study.best()
    for choice in choices.values():
        trained_network(choice)
    reading = Reading(
        frozen=study.folder / "best.json",
        why=why,
        configurations={loss: choice.config.describe() for loss, choice in choices.items()},
        rows=len(choices),
        commit=study.info.get("commit"),
    )
    return read_test_images(study, reading, data_dir)


def _with_pixels(finals: Finals, data_dir: Path | str | None) -> Results:
    """The comparison's results, with the images that were tested if they can be had."""
    results = of_comparison(finals, classes_of(finals.sweep))
    found = finals.sweep.folder / FINALS / "summary.csv"
    try:
        test = show_test_images(finals.sweep, found, data_dir).data
    except (StudyError, DataError, OSError) as error:
        return dataclasses.replace(results, no_pixels=str(error))
    if not np.array_equal(test.labels, results.labels):
        law = "the test images at hand must be those that were tested; their labels differ"
        return dataclasses.replace(results, no_pixels=law)
    return dataclasses.replace(results, pixels=test)


def query_differences(evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    """A row a protocol and pair of a study's losses, paired by query, as `finals` has them.

    With one run a loss nothing is known over seeds, so no difference between losses is resolved.
    """
    rows = []
    for first, second in combinations(evaluations, 2):
        for protocol in evaluations[first].protocols:
            gap, sure = difference(evaluations[first], evaluations[second], protocol)
            row: dict[str, object] = {
                "protocol": protocol,
                "role": "chosen",
                "first": first,
                "second": second,
            }
            row |= {"difference": gap, "query_low": sure.low, "query_high": sure.high}
            rows.append(row | {"verdict": "not resolved", "shown": False})
    table = pd.DataFrame(rows, columns=DIFFERENCES)
    return table.sort_values("protocol", kind="stable", ignore_index=True)
