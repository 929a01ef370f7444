"""The records' raw files, what follows from them by slow code, and the pages on them."""

from __future__ import annotations

import math
import re
from functools import cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from study.judge.choices import Frozen
from study.judge.comparison import CONFIRMATION, search_folder
from study.judge.final_tables import (
    class_table,
    differences_table,
    summary_table,
)
from study.results.studies import Study
from study.run.cluster import ROOT
from study.search.space import knobs_of
from trainables.knobs import Span
from trainables.losses import resolve

RECORDS = ROOT / "study" / "records"
PAGE = " ".join((RECORDS / "README.md").read_text(encoding="utf-8").split())
README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
EVERY = sorted(path.parent.name for path in RECORDS.glob("*/choices.json"))
FOLDS = [name for name in EVERY if "emoji-fold" in name]
SPLITS = [name for name in EVERY if "held-out-split" in name]
OWN = [name for name in EVERY if "closed-" in name]
BLOCK = re.compile(r"<!-- results: (.*?) -->(.*?)<!-- end of results -->", re.DOTALL)
POOLED = {
    named: block
    for named, block in BLOCK.findall((RECORDS / "README.md").read_text(encoding="utf-8"))
    if " " in named
}
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
           "eleven", "twelve", "thirteen", "fourteen", "fifteen")  # fmt: skip


class Record(NamedTuple):
    """A record's raw files, and what follows from them, computed here."""

    sweep: Study
    confirmation: Study
    frozen: Frozen
    runs: pd.DataFrame
    arrays: dict[str, np.ndarray]
    summary: pd.DataFrame
    differences: pd.DataFrame
    classes: pd.DataFrame

    def maps(self, protocol: str, role: str = "chosen") -> pd.Series:
        """The mean mAP of each loss, from the AP of the queries."""
        mine = self.runs[self.runs["role"] == role]
        aps = [float(self.arrays[f"ap_{protocol}/{t}"].astype(float).mean()) for t in mine.trial_id]
        return mine.assign(map=aps).groupby("loss")["map"].mean()

    def chosen(self, loss: str) -> list[str]:
        """The confirming runs of a loss's choice."""
        mine = (self.runs["role"] == "chosen") & (self.runs["loss"] == loss)
        return self.runs[mine]["trial_id"].tolist()


@cache
def load(name: str) -> Record:
    folder = RECORDS / name
    frozen, runs = Frozen.load(folder), pd.read_csv(folder / "finals" / "runs.csv")
    sweep, *others = (
        Study.load(search_folder(folder, 1 + n)) for n in range(1 + len(frozen.further))
    )
    arrays = dict(np.load(folder / "finals" / "queries.npz"))
    return Record(
        sweep,
        Study.load(folder / CONFIRMATION),
        frozen,
        runs,
        arrays,
        summary_table(runs, arrays, [sweep, *others]),
        differences_table(runs, arrays, [sweep, *others]),
        class_table(runs, arrays, [sweep, *others]),
    )


def says(page: str, *claims: str) -> None:
    for claim in claims:
        assert claim in page, claim


def slow_holm(p: list[float]) -> list[float]:
    found, worst = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        worst = max(worst, min(1.0, p[place] * (len(p) - rank)))
        found[place] = worst
    return found


class Slow(NamedTuple):
    """A row of a pooled table: the mean difference, its interval, in how many comparisons the
    first is ahead, the corrected p, what the plan calls it, and TOST's p."""

    difference: float
    low: float
    high: float
    ahead: int
    p: float
    verdict: str
    alike: float


def slow_rows(records: list[Record]) -> dict[tuple[str, str], Slow]:
    """By pair of losses, the higher first, what the records' AP say of it."""
    maps = pd.DataFrame([record.maps("full") for record in records])
    maps = maps[maps.mean().sort_values(ascending=False).index]
    first = records[0].sweep.info["plan"]
    common = all(
        record.sweep.info["plan"]["holdout_classes"] == first["holdout_classes"]
        for record in records
    )
    pairs, kinds = list(combinations(maps, 2)), [maps]
    if common:
        answered = {
            loss: np.mean(
                [
                    record.arrays[f"ap_full/{trial}"].astype(float)
                    for record in records
                    for trial in record.chosen(loss)
                ],
                axis=0,
            )
            for loss in maps
        }
        kinds.append(pd.DataFrame(answered))
    shown, alike = [], []
    for values in kinds:
        gaps = [values[a] - values[b] for a, b in pairs]
        shown.append([stats.ttest_1samp(gap, 0).pvalue for gap in gaps])
        sides = [
            [
                stats.ttest_1samp(gap, bound, alternative=side).pvalue
                for bound, side in ((-0.005, "greater"), (0.005, "less"))
            ]
            for gap in gaps
        ]
        alike.append([max(both) for both in sides])
    rows = {}
    largest = [slow_holm([max(of) for of in zip(*kind, strict=True)]) for kind in (shown, alike)]
    for (a, b), p, same in zip(pairs, *largest, strict=True):
        gap = maps[a] - maps[b]
        interval = stats.ttest_1samp(gap, 0).confidence_interval(0.95)
        verdict = "shown" if p < 0.05 else "equivalent" if same < 0.05 else "not resolved"
        ahead = sum(one > 0 for one in gap)
        rows[a, b] = Slow(sum(gap) / len(gap), *interval, ahead, p, verdict, same)
    return rows


def slow_verdicts(records: list[Record]) -> dict[tuple[str, str], tuple[float, str]]:
    """By pair of losses, the higher first, the mean difference and what the plan calls it."""
    return {pair: (row.difference, row.verdict) for pair, row in slow_rows(records).items()}


def ends(records: list[Record]) -> list[str]:
    """Where three choices or more of a loss lie in the outer tenth of a knob's range."""
    space = {
        loss: [one for one in knobs_of(loss) if isinstance(one.range, Span)]
        for loss in records[0].frozen.choices
    }
    found = []
    for loss, knobs in space.items():
        for knob in knobs:
            span = knob.range
            assert isinstance(span, Span)
            scale = math.log if span.log else float
            low, high = scale(span.low), scale(span.high)
            values = []
            for record in records:
                chosen = record.frozen.choices[loss].trial_id
                (trial,) = [t for t in record.sweep.trials if t.trial_id == chosen]
                values.append((scale(trial.knobs[knob.name]) - low) / (high - low))
            for end, many in (
                ("lowest", sum(value <= 0.1 for value in values)),
                ("highest", sum(value >= 0.9 for value in values)),
            ):
                if many >= 3:
                    name = {"lr_factor": "learning rate", "tau": "τ"}.get(knob.name, knob.name)
                    found.append(f"{resolve(loss).title}'s {name} in the {end} tenth ({many})")
    return found


def early(records: list[Record], loss: str) -> tuple[float, float]:
    """The median epoch at which the runs of its choices are best, and by how much on average that
    is above their last, in validation mAP."""
    runs = [
        trial
        for record in records
        for trial in record.confirmation.trials
        if trial.trial_id in record.chosen(loss)
    ]
    assert all(t.best is not None for t in runs)
    best = [t.best["epoch"] for t in runs if t.best]
    gaps = [t.score - t.epochs[-1]["val_map"] for t in runs]
    return float(np.median(best)), float(np.mean(gaps))
