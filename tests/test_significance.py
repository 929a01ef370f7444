"""Intervals, paired tests and Holm's correction against hand-worked numbers and other ways."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from study.judge.significance import (
    ALPHA,
    GAPS,
    MARGIN,
    NO_DIFFERENCE,
    POWER,
    UNKNOWN,
    Difference,
    Interval,
    TTest,
    alike,
    corrected,
    difference_of_runs,
    equivalence,
    holm,
    mean_interval,
    mean_of_runs,
    paired_test,
    said,
    smallest_difference,
    superior,
    two_way,
    welch_test,
)

NAN = math.nan
CLASSES = np.arange(20) % 4  # of twenty queries


def verdicts(family: list[Difference], untold: int = 0) -> list[str]:
    return said(corrected(family, untold), alike(family, untold))


def test_the_mean_of_runs_by_hand() -> None:
    """The second query has no relevant image; run mAPs 0.2 and 0.4, query APs 0.1 and 0.5."""
    runs = {1: np.array([0.0, NAN, 0.4]), 2: np.array([0.2, NAN, 0.6])}
    mean = mean_of_runs(runs, np.array([7, 7, 8]))
    assert mean.mean == pytest.approx(0.3)
    t = 12.706204736  # of one degree of freedom, from a table; the errors are 0.2/2 and 0.4/2
    assert mean.seeds == (0, 1)  # 0.3 ± 0.1 t, as far as a mAP can lie
    assert mean.queries == (0, 1)
    wide = paired_test(np.array([0.2, 0.4]), np.zeros(2)).interval
    assert wide == pytest.approx((max(0.3 - 0.1 * t, -1), min(0.3 + 0.1 * t, 1)))


@pytest.mark.parametrize("runs", [{}, {1: np.array([0.2, 0.4])}])
def test_fewer_than_two_runs_have_no_interval_over_runs(runs: dict[int, np.ndarray]) -> None:
    mean = mean_of_runs(runs, np.array([0, 1]))
    assert np.isnan([*mean.seeds, *mean.two_way]).all()
    assert mean.queries == ((0, 1) if runs else pytest.approx((NAN, NAN), nan_ok=True))
    assert mean.mean == pytest.approx(0.3 if runs else NAN, nan_ok=True)


def test_the_paired_test_by_hand() -> None:
    """Differences 0.1, 0.2, 0.3: mean 0.2, standard error 0.1/√3, t = 2√3 of 2 degrees."""
    test = paired_test(np.array([0.5, 0.1, 0.4]), np.array([0.4, -0.1, 0.1]))
    assert test.p == pytest.approx(1 - 2 * math.sqrt(3) / math.sqrt(2 + 12))
    half = 0.430265273 / math.sqrt(3)
    assert test.interval == pytest.approx((0.2 - half, 0.2 + half))


def test_no_interval_goes_beyond_what_its_mean_can_be() -> None:
    assert mean_interval(np.array([0.9, 1.0])).high == 1
    assert mean_interval(np.array([0.0, 0.1])).low == 0
    assert paired_test(np.array([0.9, -0.9]), np.zeros(2)).interval == (-1, 1)


@pytest.mark.parametrize(("step", "p"), [(0.0, 1.0), (0.25, 0.0)])
def test_differences_without_spread(step: float, p: float) -> None:
    values = np.array([0.25, 0.5, 0.75])
    assert paired_test(values + step, values) == ((step, step), p)


def random_runs(rng: np.random.Generator, seeds: list[int]) -> dict[int, np.ndarray]:
    return {seed: rng.random(20) for seed in seeds}


def test_differences_pair_seeds_and_queries() -> None:
    rng = np.random.default_rng(0)
    first, second = random_runs(rng, [3, 1, 2]), random_runs(rng, [1, 2, 3])
    found = difference_of_runs(first, second, CLASSES)
    pairs = np.array([[first[s][q] - second[s][q] for q in range(20)] for s in (1, 2, 3)])
    for test, differences in ((found.seeds, pairs.mean(1)), (found.queries, pairs.mean(0))):
        oracle = stats.ttest_1samp(differences, 0)
        assert test.p == pytest.approx(oracle.pvalue)
        assert test.interval == pytest.approx(tuple(oracle.confidence_interval()))
        assert found.difference == pytest.approx(differences.mean())
    swapped = difference_of_runs(second, first, CLASSES)
    assert swapped.difference == pytest.approx(-found.difference)
    assert swapped.seeds.p == pytest.approx(found.seeds.p)


def test_of_unlike_seeds_all_runs_count_and_none_are_paired() -> None:
    rng = np.random.default_rng(0)
    first, second = random_runs(rng, [3, 1, 2]), random_runs(rng, [1, 9, 3, 4])
    found = difference_of_runs(first, second, CLASSES)
    ours, theirs = (np.stack([*runs.values()]) for runs in (first, second))
    assert found.difference == pytest.approx(ours.mean() - theirs.mean())
    oracle = stats.ttest_ind(ours.mean(1), theirs.mean(1), equal_var=False)
    assert found.seeds == found.welch
    assert found.seeds.p == pytest.approx(oracle.pvalue)
    assert found.seeds.interval == pytest.approx(tuple(oracle.confidence_interval()))
    queries = stats.ttest_1samp(ours.mean(0) - theirs.mean(0), 0)
    assert found.queries.p == pytest.approx(queries.pvalue)
    gaps = np.stack([first[seed] - second[seed] for seed in (1, 3)])
    expected = two_way(gaps, CLASSES, GAPS)
    assert (found.two_way.p, *found.two_way.interval) == pytest.approx(
        (expected.p, *expected.interval)
    )


def test_a_difference_needs_two_common_seeds() -> None:
    rng = np.random.default_rng(0)
    found = difference_of_runs(random_runs(rng, [1, 2]), random_runs(rng, [2, 3]), CLASSES)
    assert np.isnan([found.seeds.p, *found.seeds.interval]).all()
    assert np.isnan([found.welch.p, found.two_way.p, found.equivalence, found.smallest]).all()
    assert verdicts([found]) == ["not resolved"]


def test_of_one_run_each_the_difference_and_the_queries_are_known() -> None:
    rng = np.random.default_rng(0)
    first, second = random_runs(rng, [1]), random_runs(rng, [1])
    found = difference_of_runs(first, second, CLASSES)
    gaps = first[1].astype(float) - second[1]
    gaps = gaps[~np.isnan(gaps)]
    assert found.difference == pytest.approx(gaps.mean())
    assert found.queries.p == pytest.approx(stats.ttest_1samp(gaps, 0).pvalue)
    assert np.isnan([found.seeds.p, found.welch.p, found.two_way.p, found.smallest]).all()
    assert verdicts([found]) == ["not resolved"]
    mean = mean_of_runs(first, CLASSES)
    oracle = stats.t.interval(
        0.95, len(gaps) - 1, mean.mean, stats.sem(first[1], nan_policy="omit")
    )
    assert mean.queries == pytest.approx(oracle)
    assert np.isnan([*mean.seeds, *mean.two_way]).all()


def test_pairs_of_which_nothing_is_known_count_in_the_correction() -> None:
    test = TTest(Interval(0.1, 0.2), 0.02)
    family = [
        NO_DIFFERENCE._replace(
            seeds=test, welch=test, queries=test, equivalence=0.02, query_equivalence=0.01
        )
    ]
    assert alike(family) == [0.02] and alike(family, untold=2) == pytest.approx([0.06])
    assert corrected(family) == [0.02] and verdicts(family) == ["shown"]
    assert corrected(family, untold=2) == pytest.approx([0.06])
    assert verdicts(family, untold=2) == ["not resolved"]


def test_welch_is_scipys() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(0.5, 0.02, 5), rng.normal(0.49, 0.05, 8)
    test, oracle = (
        welch_test(first, second),
        stats.ttest_ind(first, second, equal_var=False),
    )
    assert test.p == pytest.approx(oracle.pvalue)
    assert test.interval == pytest.approx(tuple(oracle.confidence_interval()))


@pytest.mark.parametrize("gap", [0.0, 0.003, -0.004, 0.02])
def test_equivalence_is_the_larger_of_two_one_sided_tests(gap: float) -> None:
    rng = np.random.default_rng(4)
    first, second = rng.normal(0.8 + gap, 0.002, 6), rng.normal(0.8, 0.003, 5)
    above = stats.ttest_ind(first + MARGIN, second, equal_var=False, alternative="greater")
    below = stats.ttest_ind(first - MARGIN, second, equal_var=False, alternative="less")
    assert equivalence(first, second) == pytest.approx(max(above.pvalue, below.pvalue))


@pytest.mark.parametrize(("gap", "p"), [(0.004, 0.0), (0.006, 1.0)])
def test_equivalence_without_spread(gap: float, p: float) -> None:
    assert equivalence(np.full(3, 0.5 + gap), np.full(3, 0.5)) == p


def test_superiority_is_mann_whitneys_share() -> None:
    first, second = np.array([0.1, 0.4, 0.4, 0.9]), np.array([0.2, 0.4, 0.1])
    share, interval = superior(first, second)
    oracle = stats.mannwhitneyu(first, second).statistic / 12
    assert share == pytest.approx(oracle)
    assert interval.low < share < interval.high
    assert superior(second, first)[0] == pytest.approx(1 - share)
    assert superior(first + 1, second) == (1.0, (1.0, 1.0))


@pytest.mark.parametrize("family", [1, 3])
def test_the_smallest_difference_is_shown_as_often_as_it_says(family: int) -> None:
    """Simulated: five runs each whose spread is the one that was seen."""
    seen = np.array([-1.0, -0.5, 0.0, 0.5, 1.0]) * 0.01
    step = smallest_difference(seen, seen, family=family)
    rng = np.random.default_rng(5)
    draws = rng.normal(0, seen.std(ddof=1), (2, 20_000, 5))
    tests = stats.ttest_ind(draws[0] + step, draws[1], axis=1)  # of 8 degrees, as seen
    assert np.mean(tests.pvalue < ALPHA / family) == pytest.approx(POWER, abs=0.01)


def slow_two_way(values: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """Standard error and degrees of freedom for classes of one size, by sums of squares."""
    names = sorted(set(classes.tolist()))
    runs, many, mean = len(values), len(names), values.mean()
    cell = [
        [np.mean([v for v, c in zip(row, classes, strict=True) if c == name]) for name in names]
        for row in values
    ]
    of_runs = [sum(cell[r]) / many for r in range(runs)]
    of_classes = [sum(cell[r][c] for r in range(runs)) / runs for c in range(many)]
    by_runs = many * sum((m - mean) ** 2 for m in of_runs) / (runs - 1)
    by_classes = runs * sum((m - mean) ** 2 for m in of_classes) / (many - 1)
    rest = sum(
        (cell[r][c] - of_runs[r] - of_classes[c] + mean) ** 2
        for r in range(runs)
        for c in range(many)
    ) / ((runs - 1) * (many - 1))
    total = by_runs + by_classes - rest
    degrees = total**2 / (
        by_runs**2 / (runs - 1) + by_classes**2 / (many - 1) + rest**2 / ((runs - 1) * (many - 1))
    )
    return math.sqrt(total / (runs * many)), degrees


def test_two_ways_are_the_mean_squares_of_runs_and_classes() -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(0, 0.05, (5, 20)) + rng.normal(0, 0.05, 5)[:, None]
    values += rng.normal(0, 0.1, 4)[CLASSES]
    error, degrees = slow_two_way(values, CLASSES)
    test = two_way(values, CLASSES, GAPS)
    half = stats.t.ppf(0.975, degrees) * error
    assert test.interval == pytest.approx((values.mean() - half, values.mean() + half))
    assert test.p == pytest.approx(2 * stats.t.sf(abs(values.mean()) / error, degrees))


def test_two_ways_hold_the_true_mean_as_often_as_they_say() -> None:
    """Simulated: unlike numbers of queries, and a mean that is 0; queries alone would not do."""
    rng, classes = np.random.default_rng(7), np.repeat(np.arange(10), np.arange(5, 15))
    held = narrow = 0
    for _ in range(400):
        values = rng.normal(0, 0.02, (5, len(classes))) + rng.normal(0, 0.01, 5)[:, None]
        values += rng.normal(0, 0.03, 10)[classes]
        low, high = two_way(values, classes, GAPS).interval
        held += low <= 0 <= high
        low, high = mean_interval(values.mean(0), GAPS)
        narrow += low <= 0 <= high
    assert 0.92 <= held / 400 <= 0.99
    assert narrow / 400 < 0.7


def test_two_ways_are_never_narrower_than_one() -> None:
    """Where chance makes the runs more alike than the rest allows, the classes' spread stays."""
    values = np.array([[0.2, 0.0, 0.1, 0.1], [0.0, 0.2, 0.1, 0.1]])
    test = two_way(values, np.arange(4), GAPS)
    assert test.interval.low <= values.mean() <= test.interval.high
    assert np.isnan(two_way(values, np.zeros(4), GAPS).p)
    assert np.isnan(two_way(values[:1], np.arange(4), GAPS).p)


def test_what_is_not_shown_is_equivalent_only_by_a_test() -> None:
    rng, queries = np.random.default_rng(8), np.arange(200) % 10
    base = {seed: np.full(200, 0.5) for seed in range(5)}

    def moved(gap: float, spread: float) -> Difference:
        runs = {seed: ap + rng.normal(gap, spread) for seed, ap in base.items()}
        return difference_of_runs(runs, base, queries, family=3)

    family = [moved(0.05, 0.001), moved(0.0, 0.0005), moved(0.004, 0.02)]
    assert verdicts(family) == ["shown", "equivalent", "not resolved"]


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9, 0.01]) == pytest.approx([1.0, 1.0, 0.03])
    assert holm([0.02, NAN, 0.01]) == pytest.approx([0.04, NAN, 0.03], nan_ok=True)
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.floats(0.001, 0.999))
def test_holm_rejects_what_the_closed_test_of_bonferroni_rejects(
    p: list[float], alpha: float
) -> None:
    """Holm's is the closed test: a hypothesis falls if every set that holds it does."""
    everyone = range(len(p))
    for one in everyone:
        sets = [
            chosen
            for size in range(1, len(p) + 1)
            for chosen in itertools.combinations(everyone, size)
            if one in chosen
        ]
        margins = [len(chosen) * min(p[i] for i in chosen) - alpha for chosen in sets]
        if all(abs(margin) > 1e-9 for margin in margins):  # not at the edge, where rounding rules
            assert (holm(p)[one] < alpha) == all(margin < 0 for margin in margins)


def test_a_difference_must_hold_over_seeds_and_over_queries() -> None:
    """The same shift in every seed but in few queries, and the other way round."""
    rng = np.random.default_rng(1)
    base = {seed: rng.random(50) for seed in range(5)}
    spike = np.zeros(50)
    spike[0] = 1.0
    same_for_seeds = {s: ap + spike + 1e-4 * rng.random(50) for s, ap in base.items()}
    shifts = dict(zip(base, (1.0, -0.9, 0.8, -0.7, 0.1), strict=True))
    same_for_queries = {s: ap + shifts[s] + 1e-4 * rng.random(50) for s, ap in base.items()}
    both = {s: ap + 0.1 + 0.01 * rng.random(50) for s, ap in base.items()}
    classes = np.arange(50) % 5
    family = [
        difference_of_runs(runs, base, classes) for runs in (same_for_seeds, same_for_queries, both)
    ]
    assert family[0].seeds.p < 0.001 and family[0].queries.p > 0.1
    assert family[1].queries.p < 0.001 and family[1].seeds.p > 0.1
    found = corrected(family)
    assert found[0] > 0.1 and found[1] > 0.1 and found[2] < 0.001


def test_the_largest_p_of_each_is_what_is_corrected() -> None:
    """Corrected one kind at a time, the larger of the two would be 0.03 for both."""
    pairs = ((0.03, 0.001), (0.001, 0.03))
    tests = [[TTest(UNKNOWN, p) for p in both] for both in pairs]
    family = [NO_DIFFERENCE._replace(seeds=a, welch=a, queries=b) for a, b in tests]
    assert corrected(family) == pytest.approx([0.06, 0.06])
    unknown = [*family, NO_DIFFERENCE._replace(seeds=tests[0][0], welch=tests[0][0])]
    assert corrected(unknown) == pytest.approx([0.09, 0.09, math.nan], nan_ok=True)
    assert corrected([]) == []


def test_the_power_of_four_comparisons_among_fifteen_pairs() -> None:
    """5.39 standard deviations of the paired difference (the plan's)."""
    gaps = np.array([-1.5, -0.5, 0.5, 1.5]) / np.std([-1.5, -0.5, 0.5, 1.5], ddof=1)
    found = smallest_difference(gaps, np.zeros(4), family=15, paired=True)
    assert found == pytest.approx(5.39, abs=0.01)


def test_what_few_queries_do_not_show_is_not_equivalent() -> None:
    """However sure the seeds are: other queries might say otherwise, as of what is shown."""
    rng, queries = np.random.default_rng(3), np.arange(20) % 4
    ours, theirs = rng.uniform(size=(2, 20))
    ours -= ours.mean() - theirs.mean()  # one mAP
    first = {seed: ours + rng.normal(0, 1e-4) for seed in range(5)}
    second = {seed: theirs + rng.normal(0, 1e-4) for seed in range(5)}
    found = difference_of_runs(first, second, queries)
    assert found.equivalence < 1e-6 and verdicts([found]) == ["not resolved"]
    means = [np.mean(list(runs.values()), axis=0) for runs in (first, second)]
    sides = [
        stats.ttest_1samp(means[0] - means[1], bound, alternative=side).pvalue
        for bound, side in ((-0.005, "greater"), (0.005, "less"))
    ]
    assert found.query_equivalence == pytest.approx(max(sides))
    assert alike([found]) == [found.query_equivalence]
