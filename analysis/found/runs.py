"""Networks that were judged on images, as every figure of the report takes them.

They come from the chosen networks of a study, which are evaluated here, or from the files of a
finished comparison, several seeds of each configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.found.finals import Finals
from analysis.found.words import listed, plural
from study.judge.evaluation import Evaluation
from study.judge.final_tables import protocols_of, unit_of
from study.judge.final_test import nearest_images
from study.judge.significance import mean_interval
from study.results.images import Images, name_of_test
from study.results.trials import search_of
from trainables.data import LabelledImages, Roles
from trainables.metrics import METRICS, RetrievalResult

ROLES = ("chosen", "reference")


class Judged(NamedTuple):
    """A network under one protocol.

    Attributes:
        average_precision: (Q,), NaN for a query without a relevant image.
        precision: (101,) the mean precision at recall 0, 0.01, ... 1.
        nearest: (Q, k) places of images, nearest first; None for a run that has none.
        queries: (Q,) places of the images that ask.
        relevant: (Q,) how many images of the gallery each query should find, without itself and
            those of its group.
        gallery: how many images were ranked, the query among them if it is one of them.
    """

    average_precision: np.ndarray
    precision: np.ndarray
    nearest: np.ndarray | None
    queries: np.ndarray
    relevant: np.ndarray
    gallery: int

    @property
    def mean_average_precision(self) -> float:
        return float(np.nanmean(self.average_precision, dtype=np.float64))


class Run(NamedTuple):
    """One trained network; its role is one of `ROLES`, its `search` counts repeated ones from 0."""

    trial_id: str
    loss: str
    role: str
    seed: int
    search: int
    protocols: dict[str, Judged]


@dataclass(frozen=True, eq=False)
class Results:
    """All runs of a report.

    Attributes:
        runs: the best loss first; within a loss the chosen before the references.
        summary: a row a protocol, role and loss: map, low, high (95 % over what `unit` says; NaN
            for one), query_low, query_high (over queries), both_low, both_high (over that and
            classes; NaN for one), runs, searches.
        labels: (N,) of the images.
        metrics: a row a loss: the mean over its `units` of every metric of
            `trainables.metrics.METRICS` under the first protocol; NaN where a record lacks it.
        classes: the name of label 0, 1, ...
        name: `test images` or `validation images`, and of which classes if not of all.
        note: why these are not the test images; empty if they are.
        pixels: the N images; None where they could not be had.
        no_pixels: why not, for the reader.
    """

    runs: list[Run]
    summary: pd.DataFrame
    labels: np.ndarray
    metrics: pd.DataFrame
    classes: tuple[str, ...]
    name: str = "test images"
    note: str = ""
    pixels: LabelledImages | None = field(default=None, repr=False)
    no_pixels: str = ""

    @property
    def described(self) -> str:
        """For every place that states a number: it must not be taken for the test's."""
        return self.note or self.name

    @property
    def losses(self) -> list[str]:
        """Those that have a chosen run, the best first by its mAP under the first protocol."""
        return list(dict.fromkeys(run.loss for run in self.runs if run.role == "chosen"))

    @property
    def searches(self) -> set[str]:
        """The losses whose search has a chosen run; a trial's name begins with its search's."""
        return {search_of(run.trial_id) for run in self.runs if run.role == "chosen"}

    @property
    def unit(self) -> str:
        """What its intervals are over, beside queries: `seeds`, or `searches`."""
        return unit_of(self.summary)

    @property
    def protocols(self) -> list[str]:
        """By which the images are judged; the first is the answer's."""
        return list(self.runs[0].protocols)

    @property
    def first(self) -> str:
        """The protocol of the answer."""
        return self.protocols[0]

    @property
    def under(self) -> str:
        """` under the full protocol`, of the answer, where there is another; else empty."""
        return f" under the {self.first} protocol" if len(self.protocols) > 1 else ""

    def query_labels(self, protocol: str) -> np.ndarray:
        """(Q,) the labels of the images that ask under a protocol."""
        return self.labels[self.runs[0].protocols[protocol].queries]

    def of(self, loss: str, role: str = "chosen") -> list[Run]:
        """The runs of a loss in this role, one a seed; perhaps none."""
        return [run for run in self.runs if run.loss == loss and run.role == role]

    def pictured(self, loss: str) -> Run | None:
        """The run whose nearest images are shown: the first of a loss's that has them."""
        runs = [(run, run.protocols[self.first].nearest) for run in self.of(loss)]
        return next((run for run, near in runs if near is not None and near.size), None)

    @property
    def of_which_runs(self) -> str:
        """Whose nearest images are shown, in a sentence; empty where no loss has several runs."""
        shown = [run for loss in self.losses if (run := self.pictured(loss)) is not None]
        if not shown or max(len(self.of(loss)) for loss in self.losses) == 1:
            return ""
        seeds = listed([str(seed) for seed in sorted({run.seed for run in shown})])
        said = "seeds" if " " in seeds else "seed"
        return f"The images found are those of each loss's first run ({said} {seeds})."

    def units(self, loss: str, role: str = "chosen") -> list[list[Run]]:
        """The same by what the intervals are over: a list for each of the runs, or the searches."""
        by = attrgetter("search" if self.unit == "searches" else "trial_id")
        return [list(runs) for _, runs in groupby(sorted(self.of(loss, role), key=by), key=by)]

    def mean_of(
        self, loss: str, role: str, read: Callable[[Judged], np.ndarray], protocol: str = ""
    ) -> np.ndarray:
        """The mean over `units` of what is read of each run under a protocol (empty: the first)."""
        return self.drawn(loss, role, read, protocol).mean(0)

    def drawn(
        self, loss: str, role: str, read: Callable[[Judged], np.ndarray], protocol: str = ""
    ) -> np.ndarray:
        """The same of each unit, the mean of its runs: (units, ...) in float64."""
        each = [
            np.mean(
                [read(run.protocols[protocol or self.first]) for run in unit], axis=0, dtype=float
            )
            for unit in self.units(loss, role)
        ]
        return np.stack(each)

    def counted(self, many: int) -> str:
        """So many of what the intervals are over: `5 seeds`, `1 search`."""
        return plural(many, {"seeds": "seed", "searches": "search"}[self.unit], self.unit)

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
            0,
            {name: _judged(evaluation, name, images.data.labels) for name in evaluation.protocols},
        )
        for loss, evaluation in evaluations.items()
    ]
    scores = map_table(evaluations).assign(role="chosen", runs=1, searches=1)
    scores = scores.rename(columns={"low": "query_low", "high": "query_high"})
    summary = scores.assign(low=np.nan, high=np.nan, both_low=np.nan, both_high=np.nan)
    data = images.data
    metrics = pd.DataFrame(
        {"loss": loss, **{name: metric.mean(_first(e)) for name, metric in METRICS.items()}}
        for loss, e in evaluations.items()
    )
    return Results(
        runs, summary, data.labels, metrics, images.classes, images.name, images.note, data
    )


def of_comparison(finals: Finals, classes: tuple[str, ...]) -> Results:
    """The confirmed runs of a finished comparison, without pixels."""
    runs = [
        Run(
            row.trial_id,
            row.loss,
            row.role,
            int(row.seed),
            int(row.search),
            _stored(finals, row.trial_id),
        )
        for row in finals.runs.itertuples()
    ]
    summary = finals.summary
    first = next(iter(runs[0].protocols))
    full = summary[(summary["protocol"] == first) & (summary["role"] == "chosen")]
    order = full.sort_values("map", ascending=False)["loss"].tolist()
    order += [run.loss for run in runs if run.loss not in order]  # of a reference alone
    runs.sort(key=lambda run: (order.index(run.loss), ROLES.index(run.role), run.seed))
    labels = finals.arrays["labels"].astype(np.int64)
    chosen = finals.runs[finals.runs["role"] == "chosen"].rename(columns={f"map_{first}": "map"})
    metrics = chosen.reindex(columns=["loss", "search", *METRICS])
    metrics = metrics.groupby(["loss", "search"], sort=False).mean()
    metrics = metrics.groupby("loss", sort=False).mean()
    return Results(
        runs, summary, labels, metrics.reset_index(), classes, name_of_test(finals.sweep)
    )


def map_table(evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    """A row a loss and protocol: mAP, its interval, how many queries and gallery images."""
    rows = [
        {
            "loss": loss,
            "protocol": name,
            "map": judged.mean_average_precision,
            "low": judged.interval.low,
            "high": judged.interval.high,
            "queries": len(judged.roles.queries),
            "gallery": len(judged.roles.gallery),
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


def mean_curve(values: np.ndarray) -> pd.DataFrame:
    """Of values (draws, points), by point: the mean, and its 95 % interval (NaN for one draw)."""
    intervals = [mean_interval(column) for column in values.T.astype(np.float64)]
    return pd.DataFrame(intervals, columns=["low", "high"]).assign(mean=values.mean(0))


def _first(evaluation: Evaluation) -> RetrievalResult:
    return next(iter(evaluation.protocols.values())).result


def _judged(evaluation: Evaluation, protocol: str, labels: np.ndarray) -> Judged:
    roles, result, _ = evaluation.protocols[protocol]
    return Judged(
        result.average_precision,
        result.precision,
        nearest_images(evaluation, protocol),
        roles.queries,
        roles.relevant(labels),
        len(roles.gallery),
    )


def _stored(finals: Finals, trial: str) -> dict[str, Judged]:
    arrays, labels = finals.arrays, finals.arrays["labels"].astype(np.int64)
    found = {}
    for name in protocols_of(finals.runs):
        precisions = arrays[f"ap_{name}/{trial}"]
        neighbours = arrays.get(f"nearest_{name}/{trial}")
        queries, gallery = (
            arrays[f"{part}_{name}"].astype(np.int64) for part in ("queries", "gallery")
        )
        groups = arrays.get(f"groups_{name}")
        groups = None if groups is None else groups.astype(np.int64)
        roles = Roles(queries, gallery, groups)
        found[name] = Judged(
            precisions,
            arrays[f"precision_{name}/{trial}"],
            None if neighbours is None else neighbours.astype(np.int64),
            queries,
            roles.relevant(labels),
            len(gallery),
        )
    return found
