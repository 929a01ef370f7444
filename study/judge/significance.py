"""What repeated runs and many queries say about a mean, and about a difference of two.

Two sources of chance are looked at apart and together. *Over seeds*: how far the mean would move if
the same configuration were trained again from other initial weights and in another order, on the
same images, judged by the same queries. *Over queries*: how far it would move with other queries of
the same kind, given these trained networks and this gallery; as queries share a gallery and their
class's other images, they are not independent of each other, and this interval is too narrow. *Two
ways*: seeds and queries both random, the queries of a class one cluster; with ten classes this is a
wide interval, and an honest one. None speaks of another dataset, or of another search that might
have chosen otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

CONFIDENCE = 0.95
ALPHA = 0.05  # of a difference that is shown, and of two that are shown to be equivalent
MARGIN = 0.005  # of mAP: two losses that differ by less are equivalent in practice
POWER = 0.8  # at which the smallest difference that a design could have shown is stated
RESAMPLES = 10_000  # of the bootstrap


class Interval(NamedTuple):
    """A 95 % interval of a mean; both ends NaN where it is not known."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.3f} to {self.high:.3f}"


UNKNOWN = Interval(np.nan, np.nan)
SHARES = Interval(0.0, 1.0)  # between which a mAP lies
GAPS = Interval(-1.0, 1.0)  # between which a difference of two lies


class TTest(NamedTuple):
    """Of a mean difference: its 95 % interval, and the two-sided p of no difference."""

    interval: Interval
    p: float


NO_TEST = TTest(UNKNOWN, np.nan)


class Mean(NamedTuple):
    """A mean over runs and queries, with its intervals over each and over both."""

    mean: float
    seeds: Interval
    queries: Interval
    two_way: Interval


class Difference(NamedTuple):
    """By how much one configuration's mAP is above another's, and what the runs say of it.

    Attributes:
        difference: the mean over the runs of one less that over the runs of the other.
        seeds: Student's t-test of runs paired by seed, if both have the same; else Welch's.
        welch: Welch's t-test of the same runs, unpaired: a seed fixes the initial weights alone,
            which need not make two runs of different losses alike.
        queries: Student's t-test of queries, each averaged over the seeds.
        two_way: of seeds and classes, both random (see `two_way`).
        equivalence: p of the two one-sided tests that the difference is within ±`MARGIN` (TOST,
            Schuirmann 1987), with Welch's standard error.
        query_equivalence: the same of the queries, paired, each averaged over the seeds; where both
            are below `ALPHA` the two are equivalent.
        superiority: P(A > B), the share of all pairs of runs in which the first is above, half of
            a tie (Bouthillier et al., MLSys 2021, arXiv 2103.03098).
        superiority_interval: its 95 % percentile bootstrap over the runs.
        smallest: the smallest true difference that this design would have shown with a
            probability of `POWER`, by Welch's test alone, as one of `family` comparisons.
    """

    difference: float
    seeds: TTest
    welch: TTest
    queries: TTest
    two_way: TTest
    equivalence: float
    query_equivalence: float
    superiority: float
    superiority_interval: Interval
    smallest: float


NO_DIFFERENCE = Difference(
    np.nan, NO_TEST, NO_TEST, NO_TEST, NO_TEST, np.nan, np.nan, np.nan, UNKNOWN, np.nan
)
Runs = Mapping[int, np.ndarray]  # by seed, the AP of each query (Q,), NaN without a relevant image


def mean_interval(values: np.ndarray, within: Interval = SHARES) -> Interval:
    """Student's t interval of the mean of values (V,), those that are NaN left out.

    Args:
        within: the ends between which such a mean can lie, and the interval with it.
    """
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return UNKNOWN
    return _interval(float(values.mean()), _error(values), len(values) - 1, within)


def mean_of_runs(runs: Runs, classes: np.ndarray) -> Mean:
    """The mAP of one configuration over its runs.

    Args:
        runs: by seed, the AP of each query (Q,), NaN for a query without a relevant image.
        classes: (Q,) of the queries.

    Returns:
        The mean over runs of their mAP; its interval over the runs' mAPs; over the queries' APs,
        each averaged over the runs first; and over both. The first and the last are NaN for fewer
        than two runs, all for none.
    """
    if not runs:
        return Mean(np.nan, UNKNOWN, UNKNOWN, UNKNOWN)
    average_precision, classes = _valid(list(runs.values()), classes)
    maps = average_precision.mean(1)
    seeds, queries = mean_interval(maps), mean_interval(average_precision.mean(0))
    both = two_way(average_precision, classes, SHARES)
    return Mean(float(maps.mean()), seeds, queries, both.interval)


def difference_of_runs(
    first: Runs, second: Runs, classes: np.ndarray, *, family: int = 1
) -> Difference:
    """By how much the first has the higher mAP, over all runs of each.

    For fewer than two common seeds all is NaN but the difference, and what the queries say of
    these very runs. Where one has seeds that the other has not, runs are
    not paired: the test over seeds is Welch's then, and the one over seeds and classes is of the
    common seeds.

    Args:
        first, second, classes: as for `mean_of_runs`.
        family: of how many comparisons this is one.
    """
    common = [seed for seed in first if seed in second]
    both, classes = _valid([*first.values(), *second.values()], classes)
    ours, theirs = both[: len(first)], both[len(first) :]
    a, b = ours.mean(1), theirs.mean(1)
    over_queries = paired_test(ours.mean(0), theirs.mean(0))
    if len(common) < 2:
        return NO_DIFFERENCE._replace(difference=float(a.mean() - b.mean()), queries=over_queries)
    mine, other = ([*runs].index for runs in (first, second))
    gaps = ours[[mine(seed) for seed in common]] - theirs[[other(seed) for seed in common]]
    superiority, sure = superior(a, b)
    alike = len(common) == len(first) == len(second)
    return Difference(
        difference=float(a.mean() - b.mean()),
        seeds=_test(float(gaps.mean()), *_paired(gaps.mean(1))) if alike else welch_test(a, b),
        welch=welch_test(a, b),
        queries=over_queries,
        two_way=two_way(gaps, classes, GAPS),
        equivalence=equivalence(a, b),
        query_equivalence=equivalence(ours.mean(0), theirs.mean(0), paired=True),
        superiority=superiority,
        superiority_interval=sure,
        smallest=smallest_difference(a, b, family=family),
    )


def paired_test(first: np.ndarray, second: np.ndarray) -> TTest:
    """Student's paired t-test of values (V,) and (V,), V >= 2."""
    return _test(float((first - second).mean()), *_paired(first - second))


def welch_test(first: np.ndarray, second: np.ndarray) -> TTest:
    """Welch's t-test of values (V,) and (W,), both at least 2."""
    return _test(float(first.mean() - second.mean()), *_welch(first, second))


def equivalence(
    first: np.ndarray, second: np.ndarray, margin: float = MARGIN, *, paired: bool = False
) -> float:
    """p of the hypothesis that the means of (V,) and (W,) differ by `margin` or more (TOST).

    The larger of two one-sided Welch tests, or paired ones (Schuirmann 1987): below alpha, the
    1 - 2 alpha interval of the difference lies within ±margin.
    """
    gap = abs(float(first.mean() - second.mean()))
    error, degrees = _paired(first - second) if paired else _welch(first, second)
    if error == 0:
        return 0.0 if gap < margin else 1.0
    return float(stats.t.sf((margin - gap) / error, degrees))


def superior(first: np.ndarray, second: np.ndarray) -> tuple[float, Interval]:
    """P(A > B) over all pairs of (V,) and (W,), half of a tie, and its bootstrap interval."""
    above = (np.sign(first[:, None] - second) + 1) / 2
    rng = np.random.default_rng(0)
    mine = rng.integers(len(first), size=(RESAMPLES, len(first)))
    theirs = rng.integers(len(second), size=(RESAMPLES, len(second)))
    drawn = above[mine[:, :, None], theirs[:, None]].mean((1, 2))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(above.mean()), Interval(float(low), float(high))


def smallest_difference(
    first: np.ndarray, second: np.ndarray, *, family: int = 1, paired: bool = False
) -> float:
    """The true difference of the means of (V,) and (W,) that is shown with probability `POWER`.

    By a two-sided Welch test, or a paired one, at `ALPHA` / `family` (what Holm's first step asks),
    whose statistic is noncentral t: Cohen, Statistical Power Analysis (1988), ch. 2.
    """
    error, degrees = _paired(first - second) if paired else _welch(first, second)
    bound = stats.t.isf(ALPHA / family / 2, degrees)

    def lack(shift: float) -> float:  # being shown with the wrong sign is too rare to count
        return POWER - float(stats.nct.sf(bound, degrees, shift))

    return error * float(optimize.brentq(lack, 0.0, 3 * bound + 3)) if error else 0.0


def could(smallest: float) -> str:
    """A true difference of mAPs that could have been shown, as text; none where it is above 1."""
    return "none" if smallest > 1 else f"{smallest:.4f}"


def two_way(values: np.ndarray, classes: np.ndarray, within: Interval) -> TTest:
    """Of the mean of values (S, Q) of S runs and Q queries, where runs and classes are random.

    A crossed random-effects analysis of the runs and the C classes, each class one cluster of its
    queries: the variance of the mean is (M_runs + M_classes - M_both) / (S C), M being the mean
    squares, and its degrees of freedom are Satterthwaite's (Brennan, Generalizability Theory,
    2001, ch. 6; Cameron, Gelbach and Miller, JBES 2011, come to the same variance). It is never
    below what runs alone or classes alone give. A class counts by its number of queries.

    Args:
        values: without NaN.
        classes: (Q,) of the queries; fewer than two classes, or two runs, tell nothing.
        within: as for `mean_interval`.
    """
    named, of, counts = np.unique(classes, return_inverse=True, return_counts=True)
    runs, clusters, mean = len(values), len(named), float(values.mean())
    if min(runs, clusters) < 2:
        return NO_TEST
    sums = np.stack([np.bincount(of, weights=row, minlength=clusters) for row in values])
    # Of a mean of ratios: each class's deviation, weighted by its share of the queries.
    cells = (sums - mean * counts) * (clusters / len(of))
    by_run, by_class = cells.mean(1), cells.mean(0)
    rest = cells - by_run[:, None] - by_class + cells.mean()
    squares = np.array(
        [
            clusters * by_run.var(ddof=1),
            runs * by_class.var(ddof=1),
            (rest**2).sum() / ((runs - 1) * (clusters - 1)),
        ]
    )
    freedom = np.array([runs - 1, clusters - 1, (runs - 1) * (clusters - 1)])
    total = squares @ [1, 1, -1]
    if total <= squares[:2].max():
        largest = int(squares[:2].argmax())
        total, degrees = squares[largest], float(freedom[largest])
    else:
        degrees = float(total**2 / (squares**2 / freedom).sum())
    return _test(mean, float(np.sqrt(total / (runs * clusters))), degrees, within)


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


def corrected(differences: Sequence[Difference], untold: int = 0) -> list[float]:
    """For each of a family, the largest of its p over seeds, paired and not, and over queries,
    corrected over the family; NaN where one of them is.

    Args:
        untold: how many more the family has, of which nothing is known.
    """
    p = [float(np.max([d.seeds.p, d.welch.p, d.queries.p])) for d in differences]
    return holm([*p, *[np.nan] * untold])[: len(p)]


def alike(differences: Sequence[Difference], untold: int = 0) -> list[float]:
    """For each of a family, the larger of its p over seeds and over queries of a difference of
    `MARGIN` or more, corrected over the family; NaN where one of them is.

    Args:
        untold: as for `corrected`.
    """
    p = [float(np.max([d.equivalence, d.query_equivalence])) for d in differences]
    return holm([*p, *[np.nan] * untold])[: len(p)]


def said(p: Sequence[float], same: Sequence[float]) -> list[str]:
    """For each of a family `shown`, `equivalent` or `not resolved`, each at `ALPHA`.

    What is not shown is not shown to be equal either: that takes a test of its own.

    Args:
        p, same: what `corrected` and `alike` give.
    """
    return [
        "shown" if one < ALPHA else "equivalent" if equal < ALPHA else "not resolved"
        for one, equal in zip(p, same, strict=True)
    ]


def _error(values: np.ndarray) -> float:
    """The standard error of their mean. As scipy's, which takes twenty times as long: a table by
    class asks for it ten thousand times."""
    return float(values.std(ddof=1)) / math.sqrt(len(values))


@cache
def _quantile(degrees: float) -> float:
    """Student's t, within which `CONFIDENCE` lies on both sides."""
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees))


def _paired(differences: np.ndarray) -> tuple[float, float]:
    """The standard error of their mean, and its degrees of freedom."""
    return _error(differences), len(differences) - 1


def _welch(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """The standard error of a difference of two means, and its degrees of freedom."""
    parts = np.array([_error(first), _error(second)]) ** 2
    error = float(np.sqrt(parts.sum()))
    if error == 0:
        return 0.0, np.inf
    freedom = np.array([len(first), len(second)]) - 1
    return error, float(parts.sum() ** 2 / (parts**2 / freedom).sum())


def _test(mean: float, error: float, degrees: float, within: Interval = GAPS) -> TTest:
    """Student's t-test of a mean with its standard error."""
    if error == 0:  # without spread, t is 0/0 or infinite
        return TTest(Interval(mean, mean), 1.0 if mean == 0 else 0.0)
    p = 2 * float(stats.t.sf(abs(mean) / error, degrees))
    return TTest(_interval(mean, error, degrees, within), p)


def _interval(mean: float, error: float, degrees: float, within: Interval) -> Interval:
    half = _quantile(degrees) * error
    return Interval(max(mean - half, within.low), min(mean + half, within.high))


def _valid(runs: Sequence[np.ndarray], classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S, Q) as float64 and (Q,), without the queries that have no relevant image."""
    stacked = np.stack(runs).astype(np.float64)
    some = ~np.isnan(stacked).any(0)
    return stacked[:, some], classes[some]
