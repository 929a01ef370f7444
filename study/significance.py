"""What repeated runs and many queries say about a mean, and about a difference of two.

Two sources of chance are kept apart, since neither stands for the other. *Over seeds*: how far the
mean would move if the same configuration were trained again from other initial weights and in
another order, on the same images, judged by the same queries. *Over queries*: how far it would move
with other queries of the same kind, given these trained networks and this gallery. Queries of one
gallery are not independent of each other, so the second interval is rather too narrow; and neither
speaks of another dataset, or of another search that might have chosen otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
ALPHA = 0.05  # of a difference that is shown


class Interval(NamedTuple):
    """Student's t interval of a mean; both ends NaN for fewer than two values."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.3f} to {self.high:.3f}"


UNKNOWN = Interval(np.nan, np.nan)


class Mean(NamedTuple):
    """A mean over runs and queries, with its interval over each."""

    mean: float
    seeds: Interval
    queries: Interval


class PairedTest(NamedTuple):
    """Of a mean difference of pairs: its 95 % interval, and the two-sided p of no difference."""

    interval: Interval
    p: float


class Difference(NamedTuple):
    """A mean difference, tested over seeds and over queries; the sign is that of both tests."""

    difference: float
    seeds: PairedTest
    queries: PairedTest


def mean_interval(values: np.ndarray) -> Interval:
    """The interval of the mean of values (V,), those that are NaN left out."""
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return UNKNOWN
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stats.sem(values)
    return Interval(float(values.mean() - half), float(values.mean() + half))


def mean_of_runs(runs: Mapping[int, np.ndarray]) -> Mean:
    """The mAP of one configuration over its runs.

    Args:
        runs: by seed, the AP of each query (Q,), NaN for a query without a relevant image.

    Returns:
        The mean over runs of their mAP; its interval over the runs' mAPs; and its interval over
        the queries' APs, each averaged over the runs first. Both intervals are NaN for fewer
        than two runs, the mean for none.
    """
    if not runs:
        return Mean(np.nan, UNKNOWN, UNKNOWN)
    average_precision = _valid(np.stack(list(runs.values())))
    maps = average_precision.mean(1)
    seeds = mean_interval(maps)
    queries = mean_interval(average_precision.mean(0)) if len(runs) > 1 else UNKNOWN
    return Mean(float(maps.mean()), seeds, queries)


def difference_of_runs(
    first: Mapping[int, np.ndarray], second: Mapping[int, np.ndarray]
) -> Difference:
    """By how much the first has the higher mAP, on the seeds that both have.

    The test over seeds pairs the two runs of a seed, and asks whether the difference would survive
    other seeds. The test over queries pairs the two APs of a query, each averaged over the seeds,
    and asks whether it would survive other queries. All is NaN for fewer than two common seeds.

    Args:
        first, second: by seed, the AP of each query (Q,), as for `mean_of_runs`.
    """
    common = [seed for seed in first if seed in second]
    if len(common) < 2:
        unknown = PairedTest(UNKNOWN, np.nan)
        return Difference(np.nan, unknown, unknown)
    ours = _valid(np.stack([first[seed] for seed in common]))
    theirs = _valid(np.stack([second[seed] for seed in common]))
    return Difference(
        float((ours - theirs).mean()),
        paired_test(ours.mean(1), theirs.mean(1)),
        paired_test(ours.mean(0), theirs.mean(0)),
    )


def paired_test(first: np.ndarray, second: np.ndarray) -> PairedTest:
    """Student's paired t-test of values (V,) and (V,), V >= 2."""
    differences = first - second
    if np.ptp(differences) == 0:  # without spread, t is 0/0 or infinite
        same = float(differences[0])
        return PairedTest(Interval(same, same), 1.0 if same == 0 else 0.0)
    test = stats.ttest_rel(first, second)
    low, high = test.confidence_interval(CONFIDENCE)
    return PairedTest(Interval(float(low), float(high)), float(test.pvalue))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction: below alpha, and the family-wise error is below alpha.

    The k-th smallest of m is multiplied by m - k + 1, and is at least the one before it (Holm,
    1979). A p that is NaN stays NaN, and still counts in m: the comparison was asked for.
    """
    asked = np.asarray(p, dtype=float)
    corrected = np.full(len(asked), np.nan)
    order = np.argsort(asked)  # NaN last
    factors = np.arange(len(asked), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(asked[order] * factors), 1.0)
    return corrected.tolist()


def corrected(differences: Sequence[Difference]) -> list[float]:
    """For each of a family, the larger of its two p values, each corrected over the family."""
    seeds = holm([difference.seeds.p for difference in differences])
    queries = holm([difference.queries.p for difference in differences])
    return [
        float(max(pair)) if not np.isnan(pair).any() else np.nan
        for pair in zip(seeds, queries, strict=True)
    ]


def _valid(average_precision: np.ndarray) -> np.ndarray:
    """(S, Q) as float64, without the queries that have no relevant image: the same for all runs."""
    return average_precision[:, ~np.isnan(average_precision).any(0)].astype(np.float64)
