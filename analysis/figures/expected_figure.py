"""What a smaller search would have found, and what this one had found by when."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from analysis.figures.style import COLOURS, ReportFigure, add_legend, loss_keys, render
from analysis.found.scores import validation
from analysis.found.words import listed, loss_name
from study.results.studies import Study
from study.results.trials import SELECTION, TrialRecord

TAIL = 0.05  # of the orders, on either side of the band
EXPECTED = ["loss", "configurations", "seconds", "expected", "low", "high"]


def expected_table(study: Study) -> pd.DataFrame:
    """A row a loss and number of configurations: the best of so many, in the mean over all orders
    of those of the study (after Dodge et al., EMNLP 2019, who put each back after it was drawn).

    Columns EXPECTED: `seconds` is the number times what a configuration cost in the mean, faults
    included, the finals left out; between `low` and `high` is the best in 90 % of the orders. The
    value of a configuration is that of its longest trial.
    """
    rows = []
    for loss in study.losses:
        trials = _climbing(study, loss)
        scores = np.sort([trial.score for trial in _longest(study, trials)])
        cost = sum(_cores(study) * trial.seconds for trial in trials) / max(len(scores), 1)
        # P(all of those drawn are among the i lowest), by i
        below = np.ones(len(scores))
        for count in range(1, len(scores) + 1):
            left = np.arange(1, len(scores) + 1) - count + 1
            below = below * np.maximum(left, 0) / (len(scores) - count + 1)
            low, high = (scores[np.searchsorted(below, p - 1e-12)] for p in (TAIL, 1 - TAIL))
            expected = float(np.diff(below, prepend=0.0) @ scores)
            rows.append((loss, count, cost * count, expected, low, high))
    return pd.DataFrame(rows, columns=EXPECTED)


def found_table(study: Study) -> pd.DataFrame:
    """A row a trial of the ladder in the order in which they ended: loss, trial_id, seconds (of the
    loss so far), and the best so far, NaN before any."""
    rows = []
    for loss in study.losses:
        spent, best = 0.0, math.nan
        for trial in _climbing(study, loss):
            spent += _cores(study) * trial.seconds
            best = float(np.fmax(best, trial.score)) if trial.is_sound else best
            rows.append((loss, trial.trial_id, spent, best))
    return pd.DataFrame(rows, columns=["loss", "trial_id", "seconds", "best_so_far"])


def expected_figure(study: Study) -> ReportFigure | None:
    """None where no loss has two configurations that ended well."""
    expected, found = expected_table(study), found_table(study)
    if expected["configurations"].max() < 2 or expected.empty:
        return None
    told = [_told(loss, part) for loss, part in expected.groupby("loss", sort=False)]
    return render(
        "search_expected",
        partial(draw_expected, expected=expected, found=found, metric=study.metric),
        size=(8.6, 3.4),
        data=pd.concat([expected.assign(kind="expected"), found.assign(kind="found")]),
        caption=f"What a smaller search would have found: the best {validation(study.metric)}, in "
        f"the mean over all orders of the configurations, is {listed(told)}. A configuration has "
        "the value of its longest trial, the finals left out, and costs what one did in the mean, "
        "all its trials together. Band: the best in 90 % of the orders. Dotted: what this search "
        "had found as its trials ended.",
        alt=f"The best {validation(study.metric)} that searches of fewer configurations would have "
        "found, by the core-seconds that they would have taken.",
    )


def draw_expected(figure: Figure, expected: pd.DataFrame, found: pd.DataFrame, metric: str) -> None:
    """Of each loss a line in a band for what is expected, and dotted steps for what was found.

    The axis begins with what a single configuration has in the mean: the band is cut there.
    """
    axes = figure.subplots()
    alpha = 0.08 if expected["loss"].nunique() > 1 else 0.15
    for loss, part in expected.groupby("loss", sort=False):
        x, colour = part["seconds"], COLOURS[loss]
        axes.plot(x, part["expected"], color=colour, lw=2)
        axes.fill_between(x, part["low"], part["high"], color=colour, alpha=alpha, lw=0)
    for loss, part in found.groupby("loss", sort=False):
        x, y = part["seconds"], part["best_so_far"]
        axes.step(x, y, where="post", color=COLOURS[loss], lw=1.2, ls=":")
    axes.set(
        xlabel="core-seconds of training and evaluation, without the finals",
        ylabel=f"best {validation(metric)}",
        xscale="log",
        ylim=(expected["expected"].min(), None),
    )
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:,g}"))
    kinds = [Line2D([], [], color="0.4", lw=2, label="expected over orders")]
    kinds.append(Line2D([], [], color="0.4", lw=1.2, ls=":", label="found, as trials ended"))
    add_legend(figure, [*loss_keys(expected["loss"]), *kinds])


def _told(loss: str, part: pd.DataFrame) -> str:
    """Of a third of the configurations, and of all."""
    third, last = part.iloc[max(len(part) // 3 - 1, 0)], part.iloc[-1]
    return (
        f"{third['expected']:.3f} with {third['configurations']:.0f} and {last['expected']:.3f} "
        f"with all {last['configurations']:.0f} for {loss_name(loss)}"
    )


def _climbing(study: Study, loss: str) -> list[TrialRecord]:
    """The trials of a loss that have ended, in that order, without the finals."""
    trials = [t for t in study.trials if t.loss == loss and t.has_ended and t.origin != SELECTION]
    return sorted(trials, key=lambda trial: (trial.ended or math.inf, trial.number))


def _longest(study: Study, trials: list[TrialRecord]) -> list[TrialRecord]:
    """Of each configuration, of these trials that ended well, the one of the most epochs."""
    sound = [trial for trial in trials if trial.is_sound]
    ascending = sorted(sound, key=lambda trial: trial.config.epochs)
    return list({study.root(trial).trial_id: trial for trial in ascending}.values())


def _cores(study: Study) -> float:
    """That a trial occupies."""
    return float(study.info["plan"].get("cpus_per_trial", 1))
