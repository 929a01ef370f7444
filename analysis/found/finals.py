"""What a comparison found: its frozen choices and its one reading of the test images, from files.

A comparison is a study's folder with `choices.json`, `confirmation/` (the confirming runs, a study
as well) and `finals/` (what the test gave). No network and no image is needed to read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from study.judge.choices import CHOICES, Frozen
from study.judge.comparison import CONFIRMATION, SEARCHES, sweeps_of
from study.judge.final_files import read_arrays, read_table
from study.judge.final_tables import differences_table
from study.judge.final_test import FINALS, readings
from study.judge.other_orders import orders_of_runs
from study.results.studies import Choice, Study


@dataclass(frozen=True, eq=False)
class Finals:
    """A finished comparison.

    Attributes:
        sweep: the study that searched.
        confirmation: the study of the confirming runs.
        rule: by which the choices were made, one sentence.
        frozen: when, in seconds since 1970.
        choices: by search, the first one first, what was chosen of each loss.
        seeds: of the confirming runs, in the order of the searches.
        runs, summary, classes: the tables of `finals/`; differences: what they and `arrays` say of
            each pair.
        readings: a mapping for each reading of the test images.
        arrays: by `<what>/<trial_id>`: AP of queries, curves, nearest images; and `labels`.
        left_out: by loss and role, how many of its confirming runs did not end well; none of a
            loss that lacks none.
        orders: the mean of the runs in other orders, as `orders_of_runs` has it; None if they were
            not asked for.
    """

    sweep: Study
    confirmation: Study
    rule: str
    frozen: float
    choices: list[dict[str, Choice]]
    seeds: list[int]
    runs: pd.DataFrame
    summary: pd.DataFrame
    differences: pd.DataFrame
    classes: pd.DataFrame
    readings: list[dict[str, Any]]
    arrays: Mapping[str, np.ndarray]
    left_out: Mapping[tuple[str, str], int]
    orders: pd.DataFrame | None = None

    @classmethod
    def load(cls, sweep: Study) -> Finals:
        """Of the comparison in the study's folder.

        Raises:
            StudyError: a file is missing, damaged, or does not fit the others.
        """
        folder, frozen = sweep.folder / FINALS, Frozen.load(sweep.folder)
        tables = {name: read_table(folder, name) for name in ("runs", "summary", "classes")}
        arrays = read_arrays(folder, tables["runs"], ("ap", "precision"))
        ordered = (folder / "orders.csv").exists()
        confirmation = Study.load(sweep.folder / CONFIRMATION)
        return cls(
            sweep=sweep,
            confirmation=confirmation,
            left_out=frozen.left_out(confirmation),
            readings=readings(sweep.folder),
            arrays=arrays,
            rule=frozen.rule,
            frozen=frozen.frozen,
            seeds=frozen.seeds,
            choices=[
                {choice.config.loss: choice for choice in each.values()}
                for each in (frozen.choices, *frozen.further)
            ],
            orders=orders_of_runs(read_table(folder, "orders")) if ordered else None,
            differences=differences_table(tables["runs"], arrays, sweeps_of(sweep)),
            **tables,
        )


def is_comparison(study: Study) -> bool:
    """Whether the study is the first sweep of a comparison, at whatever step that is; its further
    searches, its confirmation and an audit have its plan, and are studies by themselves."""
    started = any((study.folder / name).exists() for name in (CHOICES, CONFIRMATION))
    above = study.folder.parent
    further = above.name == SEARCHES and (above.parent / "study.json").exists()
    part = study.info.get("listed") or further
    return started or (bool(study.info["plan"].get("confirm_seeds")) and not part)


def searches(study: Study) -> int:
    """How often the search of a comparison is made, of which the study is the first; else 1."""
    return study.info["plan"].get("search_seeds") or 1 if is_comparison(study) else 1


def has_finals(study: Study) -> bool:
    """Whether the comparison is finished: its summary is written last."""
    return (study.folder / FINALS / "summary.csv").exists()
