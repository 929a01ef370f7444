"""Whether what a search chose is above the hand-set defaults, on the finals' fresh seeds.

The choice is that of the highest mean over these seeds, so that its own mean flatters it. Here each
seed is judged by what the *other* seeds would have chosen: no value judges what it chose, and what
is judged is the procedure, on so many seeds less one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from study.judge.significance import GAPS, UNKNOWN, Interval, mean_interval
from study.results.studies import Study


class Verdict(NamedTuple):
    """Of one loss.

    Attributes:
        gaps: by fresh seed, how far the choice of the other seeds is above the defaults.
        interval: Student's, 95 %, of their mean; unknown of less than two.
    """

    gaps: dict[int, float]
    interval: Interval

    @property
    def mean(self) -> float:
        return float(np.mean([*self.gaps.values()])) if self.gaps else float("nan")

    def __str__(self) -> str:
        """One sentence, without its full stop."""
        count = f"{len(self.gaps)} fresh seed{'s' * (len(self.gaps) != 1)}"
        if np.isnan(self.interval.low):
            return "less than two fresh seeds cannot say whether it is above the hand-set defaults"
        said = f"{self.mean:+.4f} (95 % interval {self.interval.low:+.4f} to "
        said += f"{self.interval.high:+.4f}, {count})"
        if not any(self.gaps.values()):
            none = "the search found none above them"
            return f"it is the hand-set defaults, by each of {count}: {none}"
        if self.interval.low > 0:
            return f"it is above the hand-set defaults: {said}"
        if self.interval.high < 0:
            return f"it is below the hand-set defaults: {said}"
        return f"not resolved whether it is above the hand-set defaults: {said}"


def against_defaults(study: Study, loss: str) -> Verdict | None:
    """The verdict on a loss's finals; None if the hand-set defaults are not among them.

    As in `Study.best`, what has fewer runs than another, by a fault, is not chosen.
    """
    by_trial = {trial.trial_id: trial for trial in study.trials}
    scores = {
        name: {run.config.seed: run.score for run in runs}
        for name, runs in study.finals(loss).items()
    }
    defaults = [name for name in scores if study.root(by_trial[name]).hand_set]
    if not defaults:
        return None
    most = max(map(len, scores.values()))
    scores = {name: by for name, by in scores.items() if len(by) == most or name == defaults[0]}
    seeds = sorted(set.intersection(*(set(by) for by in scores.values())))
    gaps = {}
    for seed in seeds if len(seeds) > 1 else ():
        others = [other for other in seeds if other != seed]
        chosen = max(scores, key=lambda name: float(np.mean([scores[name][s] for s in others])))
        gaps[seed] = scores[chosen][seed] - scores[defaults[0]][seed]
    known = len(gaps) > 1
    return Verdict(gaps, mean_interval(np.array([*gaps.values()]), GAPS) if known else UNKNOWN)
