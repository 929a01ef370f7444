"""Networks that were judged on images, as every figure of the report takes them.

They come from the chosen networks of a study, which are evaluated here, or from the files of a
finished comparison, several seeds of each configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from analysis.found.finals import Finals
from study.judge.evaluation import Evaluation
from study.judge.images import Images, name_of_test
from study.judge.significance import mean_interval
from study.run.results import search_of
from trainables.data import PROTOCOLS
from trainables.retrieval import nearest

ROLES = ("chosen", "reference")
NEAREST = {"full": 10, "seed": 50}  # images a query


class Judged(NamedTuple):
    """A network under one protocol: the first Q images are queries of the first `gallery`.

    Attributes:
        average_precision: (Q,), NaN for a query without a relevant image.
        precision: (101,) the mean precision at recall 0, 0.01, ... 1.
        nearest: (Q, k) gallery rows, nearest first; None for a run that has none.
        gallery: how many images were ranked, the query among them.
    """

    average_precision: np.ndarray
    precision: np.ndarray
    nearest: np.ndarray | None
    gallery: int

    @property
    def mean_average_precision(self) -> float:
        return float(np.nanmean(self.average_precision, dtype=np.float64))


class Run(NamedTuple):
    """One trained network; its role is one of `ROLES`."""

    trial_id: str
    loss: str
    role: str
    seed: int
    protocols: dict[str, Judged]


@dataclass(frozen=True, eq=False)
class Results:
    """All runs of a report.

    Attributes:
        runs: the best loss first; within a loss the chosen before the references.
        summary: a row a protocol, role and loss: map, low, high (95 % over seeds; NaN for one),
            query_low, query_high (over queries), both_low, both_high (over seeds and classes; NaN
            for one), runs.
        labels: (N,) of the images.
        classes: the name of label 0, 1, ...
        name: `test images` or `validation images`, and of which classes if not of all.
        note: why these are not the test images; empty if they are.
        pixels: (N, H, W) uint8; None where the images could not be had.
        no_pixels: why not, for the reader.
    """

    runs: list[Run]
    summary: pd.DataFrame
    labels: np.ndarray
    classes: tuple[str, ...]
    name: str = "test images"
    note: str = ""
    pixels: np.ndarray | None = field(default=None, repr=False)
    no_pixels: str = ""

    @property
    def described(self) -> str:
        """For every place that states a number: it must not be taken for the test's."""
        return self.note or self.name

    @property
    def losses(self) -> list[str]:
        """Those that have a chosen run, the best first by its mAP under the full protocol."""
        return list(dict.fromkeys(run.loss for run in self.runs if run.role == "chosen"))

    @property
    def searches(self) -> set[str]:
        """The losses whose search has a chosen run; a trial's name begins with its search's."""
        return {search_of(run.trial_id) for run in self.runs if run.role == "chosen"}

    @property
    def protocols(self) -> list[str]:
        return list(self.runs[0].protocols)

    def of(self, loss: str, role: str = "chosen") -> list[Run]:
        """The runs of a loss in this role, one a seed; perhaps none."""
        return [run for run in self.runs if run.loss == loss and run.role == role]

    def sizes(self, protocol: str) -> tuple[int, int, int]:
        """How many queries and gallery images there are, and queries without a relevant one."""
        judged = self.runs[0].protocols[protocol]
        without = int(np.isnan(judged.average_precision).sum())
        return len(judged.average_precision), judged.gallery, without


def of_study(evaluations: Mapping[str, Evaluation], images: Images) -> Results:
    """A run a loss, of the networks that were just evaluated."""
    runs = [
        Run(
            evaluation.choice.trial_id,
            loss,
            "chosen",
            evaluation.choice.config.seed,
            {name: _judged(evaluation, name) for name in evaluation.protocols},
        )
        for loss, evaluation in evaluations.items()
    ]
    scores = map_table(evaluations).assign(role="chosen", runs=1)
    scores = scores.rename(columns={"low": "query_low", "high": "query_high"})
    summary = scores.assign(low=np.nan, high=np.nan, both_low=np.nan, both_high=np.nan)
    data = images.data
    return Results(
        runs, summary, data.labels, images.classes, images.name, images.note, data.images
    )


def of_comparison(finals: Finals, classes: tuple[str, ...]) -> Results:
    """The confirmed runs of a finished comparison, without pixels."""
    runs = [
        Run(row.trial_id, row.loss, row.role, int(row.seed), _stored(finals, row.trial_id))
        for row in finals.runs.itertuples()
    ]
    summary = finals.summary
    full = summary[(summary["protocol"] == "full") & (summary["role"] == "chosen")]
    order = full.sort_values("map", ascending=False)["loss"].tolist()
    order += [run.loss for run in runs if run.loss not in order]  # of a reference alone
    runs.sort(key=lambda run: (order.index(run.loss), ROLES.index(run.role), run.seed))
    labels = finals.arrays["labels"].astype(np.int64)
    return Results(runs, summary, labels, classes, name_of_test(finals.sweep))


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


def run_table(results: Results) -> pd.DataFrame:
    """A row a run and protocol: its mAP."""
    rows = [
        {
            "protocol": name,
            "role": run.role,
            "loss": run.loss,
            "trial_id": run.trial_id,
            "seed": run.seed,
            "map": judged.mean_average_precision,
        }
        for run in results.runs
        for name, judged in run.protocols.items()
    ]
    return pd.DataFrame(rows)


def over_seeds(values: np.ndarray) -> pd.DataFrame:
    """Of values (runs, points), by point: the mean, and its 95 % interval (NaN for one run)."""
    intervals = [mean_interval(column) for column in values.T.astype(np.float64)]
    return pd.DataFrame(intervals, columns=["low", "high"]).assign(mean=values.mean(0))


def _judged(evaluation: Evaluation, protocol: str) -> Judged:
    (gallery, queries), result, _ = evaluation.protocols[protocol]
    embedded = evaluation.embeddings[:gallery]
    neighbours = nearest(
        embedded[:queries],
        embedded,
        k=min(NEAREST[protocol], gallery - 1),
        query_index=torch.arange(queries),
    )
    return Judged(result.average_precision, result.precision, neighbours.numpy(), gallery)


def _stored(finals: Finals, trial: str) -> dict[str, Judged]:
    found = {}
    for name, protocol in PROTOCOLS.items():
        neighbours = finals.arrays.get(f"nearest_{name}/{trial}")
        found[name] = Judged(
            finals.arrays[f"ap_{name}/{trial}"],
            finals.arrays[f"precision_{name}/{trial}"],
            None if neighbours is None else neighbours.astype(np.int64),
            min(protocol.gallery, len(finals.arrays["labels"])),
        )
    return found
