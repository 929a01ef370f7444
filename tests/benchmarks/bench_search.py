"""Searches replayed on recorded curves: what each finds, and what it costs.

    python tests/benchmarks/bench_search.py --loss smooth_ap [--replays 200] [--target 0.845]
    python tests/benchmarks/bench_search.py --each       # a short table of every loss

The curves are those of `record_curves.py`: quasi-random configurations, each trained to the rungs
by a whole schedule. A replay draws its configurations from them, without putting one back; a
sampler that models takes the one nearest to what it suggests. A value that was not recorded, as of
a configuration too poor to be taken so far, is filled in by a straight line through the others'
values at this rung and the one below; how many are is said.

*Found* is the value after all epochs of what a search would choose: the best of the highest rung
that it has. *Regret* is how far that lies below the best of all recorded; medians over the replays,
with the band of 90 % of them. One process is replayed, so that core-seconds are time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[2]))

from study.results.trials import PROMOTION, TrialRecord
from study.search import ladder, searches
from study.search.models import MODELS
from study.search.space import SPACE, Space, configured, knobs_of, ranges_of
from tests.benchmarks.record_curves import (
    BEFORE,
    COMPARED,
    CURVES,
    ENDS,
    LOSSES,
    RECORDED,
    RUNGS,
    WIDER,
)
from trainables.config import TrialConfig

NEAR = 0.003
# Smooth-AP's stood before anything was recorded; the others' are 0.005 below what their hand-set
# defaults come to (`bench_from_scratch.py`).
TARGETS = {
    "smooth_ap": 0.845,
    "triplet": 0.8441,
    "cross_entropy": 0.6592,
    "normalized_softmax": 0.8563,
}
METRIC = "val_map"
PLAIN = 17.6  # core-seconds an epoch of `plain_tune.py`, on the machine of the curves


def _lines(name: str) -> list[dict[str, Any]]:
    text = (CURVES / f"{name}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


class Curves:
    """The recorded values of a loss: (configurations, rungs), those that lack filled in.

    Attributes:
        values, costs: mAP, and core-seconds of the run, at each rung.
        knobs: of each configuration.
        lowest: the first rung that was recorded.
        filled: the share of the values that was not recorded.
    """

    def __init__(self, loss: str, lines: Sequence[dict[str, Any]], space: Space = RECORDED) -> None:
        whole = [line for line in lines if line["schedule"] == "complete"]
        numbers = sorted({line["configuration"] for line in whole})
        self.loss, self.space = loss, space
        self.values = np.full((len(numbers), len(RUNGS)), np.nan)
        self.costs = np.full(self.values.shape, np.nan)
        self.knobs: list[dict[str, Any]] = [{} for _ in numbers]
        for line in whole:
            place = numbers.index(line["configuration"]), RUNGS.index(line["epochs"])
            self.values[place], self.costs[place] = line["map"], line["core_seconds"]
            self.knobs[place[0]] = line["knobs"]
        self.lowest = int(np.flatnonzero(~np.isnan(self.values).all(0))[0])
        self.filled = float(np.isnan(self.values[:, self.lowest :]).mean())
        self._fill()
        self.places = np.array([self._place(knobs) for knobs in self.knobs])

    def _place(self, knobs: dict[str, Any]) -> list[float]:
        """Along each range; in the middle of one that is not used."""
        ranges = {k.name: k.range for k in knobs_of(self.loss, self.space) if k.range is not None}
        return [r.place(knobs[n]) if n in knobs else 0.5 for n, r in ranges.items()]

    @classmethod
    def load(cls, loss: str) -> Curves:
        return cls(loss, _lines(loss))

    @cached_property
    def before(self) -> Curves:
        """Of all knobs that a search had once."""
        return Curves(self.loss, _lines(f"{self.loss}-before"), BEFORE)

    @cached_property
    def wider(self) -> Curves:
        """Of the ranges of the first recording, which are about those of `plain_tune.py`."""
        return Curves(self.loss, _lines(f"{self.loss}-wider"), SPACE.changed(WIDER))

    def _fill(self) -> None:
        """From the lowest rung upwards; costs in proportion to the epochs."""
        for rung in range(self.lowest + 1, len(RUNGS)):
            known = ~np.isnan(self.values[:, rung])
            below, here = self.values[:, rung - 1], self.values[:, rung]
            if known.sum() < 3:
                raise SystemExit(f"{self.loss}: too few values at {RUNGS[rung]:g} epochs yet")
            line = stats.theilslopes(here[known], below[known])
            here[~known] = np.clip(
                line.intercept + line.slope * below[~known], 0, here[known].max()
            )
            ratio = np.nanmedian(self.costs[:, rung] / self.costs[:, rung - 1])
            costs = self.costs[:, rung]
            costs[np.isnan(costs)] = ratio * self.costs[np.isnan(costs), rung - 1]

    def nearest(self, knobs: dict[str, Any], free: np.ndarray) -> int:
        """The free configuration whose knobs lie nearest."""
        distance = np.abs(self.places - np.array(self._place(knobs))).sum(1)
        return int(np.where(free, distance, np.inf).argmin())


class Replayed(searches.Searches):
    """The study's own search, whose configurations are the recorded ones."""

    def __init__(self, curves: Curves, seed: int, **options: Any) -> None:
        super().__init__([curves.loss], seed=seed, space=RECORDED, from_scratch=True, **options)
        self.curves, self.order = curves, np.random.default_rng(seed).permutation(len(curves.knobs))
        self.free = np.ones(len(curves.knobs), bool)

    def _new(
        self, loss: str, number: int, trials: Sequence[TrialRecord]
    ) -> tuple[TrialConfig, dict[str, Any], str]:
        pick, origin = self._pick(loss, number, trials)
        fixed = {"loss": loss, "epochs": self.rungs[0], "seed": 0}
        if origin in MODELS:
            taken = self.curves.nearest(configured(pick, fixed, RECORDED)[1], self.free)
        else:
            taken = int(next(n for n in self.order if self.free[n]))
        self.free[taken] = False
        knobs = self.curves.knobs[taken]
        config, _ = configured(lambda knob: knobs[knob.name], fixed, RECORDED)
        return config, knobs, str(taken)  # its origin says which it is


class AtOnce(Replayed):
    """Promotes whatever may be, from the highest rung, before it begins another (ASHA's order)."""

    def _next(self, loss: str) -> TrialRecord | None:
        trials = self.of(loss)
        for high in range(len(self.climbed), 1, -1):
            resting = ladder.promotable(trials, self.climbed[high - 2 : high])
            if resting is not None:
                config = resting.config.replace(epochs=self.climbed[high - 1])
                begun = resting.knobs, PROMOTION, resting.trial_id
                return self._record(len(trials), config, *begun)
        return self._begun(loss, trials)


class Seen(NamedTuple):
    """After one more run: what would be chosen now, at its end; and what all runs have cost, with
    that which trains it to its end, if none has."""

    core_seconds: float
    epochs: float
    found: float


Replay = Iterator[Seen]


def _seen(curves: Curves, spent: float, epochs: float, taken: int, rung: int) -> Seen:
    """A configuration that is chosen at a rung."""
    if rung < len(RUNGS) - 1:
        spent, epochs = spent + float(curves.costs[taken, -1]), epochs + RUNGS[-1]
    return Seen(spent, epochs, float(curves.values[taken, -1]))


def promoting(
    curves: Curves,
    seed: int,
    kind: str = "random",
    configurations: int = 81,
    lowest: int = 0,
    search: type[Replayed] = Replayed,
) -> Replay:
    """The study's search, without its finals."""
    rungs = RUNGS[lowest:]
    made = search(curves, seed, configurations=configurations, rungs=rungs, kind=kind)
    number, spent, epochs = dict[str, int](), 0.0, 0.0
    best = (-1, 0.0, 0)  # rung, value, configuration
    while (record := made.ask()) is not None:
        root = record.follows
        number[record.trial_id] = int(record.origin) if root is None else number[root]
        taken, rung = number[record.trial_id], RUNGS.index(record.config.epochs)
        value = float(curves.values[taken, rung])
        record.add_epoch({"epoch": record.config.epochs, METRIC: value, "seconds": 0.0})
        record.status = "finished"
        spent, epochs = spent + float(curves.costs[taken, rung]), epochs + RUNGS[rung]
        best = max(best, (rung, value, taken))
        yield _seen(curves, spent, epochs, best[2], best[0])


def stopping(
    curves: Curves, seed: int, kind: str, configurations: int, grace: int = 2, startup: int = 6
) -> Replay:
    """One run a configuration, stopped at a rung where it is not among the best third of those that
    came before it (Ray Tune's ASHA), with Optuna's TPE or random: as the study was, and as plain
    scripts are. What a run costs and has at a rung is taken from the runs of whole schedules."""
    rng = np.random.default_rng(seed)
    free = np.ones(len(curves.knobs), bool)
    sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed=seed)
    if kind == "tpe":
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    ranges = ranges_of(curves.loss, curves.space)
    reached: dict[int, list[float]] = {rung: [] for rung in range(len(RUNGS))}
    spent, epochs, best = 0.0, 0.0, (0.0, 0, 0)
    for _ in range(configurations):
        trial = study.ask(ranges)
        taken = (
            curves.nearest(trial.params, free)
            if kind == "tpe"
            else int(rng.choice(np.flatnonzero(free)))
        )
        free[taken] = False
        for rung in range(grace, len(RUNGS)):
            value = float(curves.values[taken, rung])
            reached[rung].append(value)
            cut = np.percentile(reached[rung], 100 * (1 - 1 / ladder.FACTOR))
            if value < cut:
                break
        spent, epochs = spent + float(curves.costs[taken, rung]), epochs + RUNGS[rung]
        study.tell(trial, value)
        best = max(best, (value, taken, rung))
        yield _seen(curves, spent, epochs, *best[1:])


def plain(curves: Curves, seed: int, configurations: int = 24) -> Replay:
    """`plain_tune.py`: stopping with TPE, of as many random trials first as is Optuna's default, in
    its own ranges, at what its own loop costs."""
    for seen in stopping(curves.wider, seed, "tpe", configurations, startup=10):
        yield seen._replace(core_seconds=seen.epochs * PLAIN)


def whole(curves: Curves, seed: int, configurations: int = 24) -> Replay:
    """Random configurations, each to its end."""
    order = np.random.default_rng(seed).permutation(len(curves.knobs))[:configurations]
    spent, epochs, best = 0.0, 0.0, 0.0
    for taken in order:
        best = max(best, float(curves.values[taken, -1]))
        spent, epochs = spent + float(curves.costs[taken, -1]), epochs + RUNGS[-1]
        yield Seen(spent, epochs, best)


WHOLE = "random, each to its end (24)"
STOPPING = "stopping ASHA from 1 epoch, TPE (24)"
TODAY = "promotion from 1/9 epoch, random (81)"
SCRIPT = "a plain Ray Tune + Optuna script (24)"
OF_BEFORE = "the search before, of all its knobs: stopping, TPE (24)"
ROWS: dict[str, Callable[[Curves, int], Replay]] = {
    WHOLE: whole,
    OF_BEFORE: lambda c, s: stopping(c.before, s, "tpe", 24),
    STOPPING: lambda c, s: stopping(c, s, "tpe", 24),
    SCRIPT: plain,
    "stopping ASHA from 1 epoch, random (24)": lambda c, s: stopping(c, s, "random", 24),
    TODAY: promoting,
    "the same, each promoted at once (81)": lambda c, s: promoting(c, s, search=AtOnce),
    "promotion from 1/9 epoch, TPE (81)": lambda c, s: promoting(c, s, "tpe"),
    "promotion from 1/9 epoch, GP (81)": lambda c, s: promoting(c, s, "gp"),
    "promotion from 1/3 epoch, random (27)": lambda c, s: promoting(c, s, "random", 27, 1),
}


HEAD = """\
| search | epochs | core-s | regret, 90 % of the replays | within {near} | reach {target} \
| epochs to it | core-s to it |
|---|--:|--:|---|--:|--:|--:|--:|"""


def row(name: str, replays: Sequence[Sequence[Seen]], best: float, target: float) -> str:
    """A line of the table."""
    regrets = np.array([best - replay[-1].found for replay in replays])
    low, middle, high = np.quantile(regrets, (0.05, 0.5, 0.95))
    near = float((regrets <= NEAR).mean())
    hits = [next((seen for seen in replay if seen.found >= target), None) for replay in replays]
    reached = sum(hit is not None for hit in hits) / len(hits)
    costs = [hit.core_seconds if hit else np.inf for hit in hits]
    lengths = [hit.epochs if hit else np.inf for hit in hits]
    to = f"{statistics.median(lengths):.0f} | {statistics.median(costs):.0f}".replace(
        "inf", "never"
    )
    last = [replay[-1] for replay in replays]
    epochs = statistics.median(seen.epochs for seen in last)
    spent = statistics.median(seen.core_seconds for seen in last)
    return (
        f"| {name} | {epochs:.0f} | {spent:.0f} | {middle:.4f} ({low:.4f} to {high:.4f}) "
        f"| {near:.0%} | {reached:.0%} | {to} |"
    )


def of_each(replays: int) -> list[str]:
    """The short table: rows of each loss, and how many of its configurations reach its target."""
    found = []
    for loss, target in TARGETS.items():
        curves = Curves.load(loss)
        ends = curves.values[:, -1]
        share = f"{(ends >= target).mean():.0%} of {len(ends)}"
        found.append(f"| **{loss}**: {target}, {share} | | | best {ends.max():.4f} | | | | |")
        for name in (WHOLE, STOPPING, TODAY):
            seen = [list(ROWS[name](curves, seed)) for seed in range(replays)]
            found.append(row(name, seen, float(ends.max()), target))
    return found


def correlations(loss: str) -> list[str]:
    """A row a schedule: Spearman's rank correlation of each rung with the end, over configurations
    that have both, with how many those are."""
    lines = _lines(loss)
    found = []
    for schedule in dict.fromkeys(line["schedule"] for line in lines):
        mine = [line for line in lines if line["schedule"] == schedule]
        for end in ENDS:
            here = [line for line in mine if line.get("end") in (None, end)]
            values = {(x["configuration"], x["epochs"]): x["map"] for x in here}
            cells = []
            for rung in RUNGS:
                # What was trained further because it was promising would hide what others show.
                numbers = range(COMPARED)
                both = [n for n in numbers if (n, rung) in values and (n, end) in values]
                if rung >= end or len(both) < 4:
                    cells.append("-")
                    continue
                pairs = [(values[n, rung], values[n, end]) for n in both]
                rho = stats.spearmanr(*zip(*pairs, strict=True)).statistic
                cells.append(f"{rho:.2f} ({len(both)})")
            if any(cell != "-" for cell in cells):
                best = max(values[n, end] for n in range(COMPARED) if (n, end) in values)
                found.append(f"| {schedule} | {end} | {' | '.join(cells)} | {best:.4f} |")
    return found


def queries(loss: str) -> list[str]:
    """Spearman's correlation of the mAP of 1,000 queries with that of all, at each rung."""
    lines = _lines(loss)
    cells = []
    for rung in RUNGS:
        pairs = [
            (x["map"], x["map_of_1000"])
            for x in lines
            if x["epochs"] == rung and x["schedule"] == "complete" and "map_of_1000" in x
        ]
        known = len(pairs) > 3
        rho = stats.spearmanr(*zip(*pairs, strict=True)).statistic if known else np.nan
        cells.append(f"{rho:.3f} ({len(pairs)})" if known else "-")
    return [f"| {' | '.join(cells)} |"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Replay searches on recorded curves.")
    parser.add_argument("--loss", choices=LOSSES, default="smooth_ap")
    parser.add_argument("--replays", type=int, default=200)
    parser.add_argument("--target", type=float, help="a mAP (default: the loss's own)")
    parser.add_argument("--row", action="append", choices=tuple(ROWS), help="only these")
    parser.add_argument("--each", action="store_true", help="a short table of every loss instead")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if options.each:
        print(HEAD.format(near=NEAR, target="the target"), *of_each(options.replays), sep="\n")
        return
    target = options.target or TARGETS[options.loss]
    named = " | ".join(f"{rung:.3g}" for rung in RUNGS)
    print(f"{options.loss}: rank correlation of each rung with the end (configurations)\n")
    print(f"| schedule | end | {named} | best at the end |")
    print("|---|--:|" + "--:|" * (len(RUNGS) + 1))
    print("\n".join(correlations(options.loss)))
    print(f"\nRank correlation of 1,000 queries with all\n\n| {named} |")
    print("|" + "--:|" * len(RUNGS))
    print("\n".join(queries(options.loss)))
    curves = Curves.load(options.loss)
    best = float(curves.values[:, -1].max())
    print(f"\n{len(curves.knobs)} configurations, {curves.filled:.0%} of the values filled in;")
    print(f"best {best:.4f}; {options.replays} replays\n")
    print(HEAD.format(near=NEAR, target=target))
    others = {OF_BEFORE: "before", SCRIPT: "wider"}  # the recordings that rows need beside that
    unrecorded = {
        name
        for name, kind in others.items()
        if not (CURVES / f"{options.loss}-{kind}.jsonl").exists()
    }
    for name in options.row or [name for name in ROWS if name not in unrecorded]:
        replays = [list(ROWS[name](curves, seed)) for seed in range(options.replays)]
        print(row(name, replays, best, target), flush=True)


if __name__ == "__main__":
    main()
