"""Intervals, paired tests and Holm's correction against hand-worked numbers and other ways."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from study.significance import (
    corrected,
    difference_of_runs,
    holm,
    mean_of_runs,
    paired_test,
)

NAN = math.nan


def test_the_mean_of_runs_by_hand() -> None:
    """The second query has no relevant image; run mAPs 0.2 and 0.4, query APs 0.1 and 0.5."""
    runs = {1: np.array([0.0, NAN, 0.4]), 2: np.array([0.2, NAN, 0.6])}
    mean = mean_of_runs(runs)
    assert mean.mean == pytest.approx(0.3)
    t = 12.706204736  # of one degree of freedom, from a table; the errors are 0.2/2 and 0.4/2
    assert mean.seeds == pytest.approx((0.3 - 0.1 * t, 0.3 + 0.1 * t))
    assert mean.queries == pytest.approx((0.3 - 0.2 * t, 0.3 + 0.2 * t))


@pytest.mark.parametrize("runs", [{}, {1: np.array([0.2, 0.4])}])
def test_fewer_than_two_runs_have_no_interval(runs: dict[int, np.ndarray]) -> None:
    mean = mean_of_runs(runs)
    assert np.isnan([*mean.seeds, *mean.queries]).all()
    assert mean.mean == pytest.approx(0.3 if runs else NAN, nan_ok=True)


def test_the_paired_test_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, standard error 1/√3, t = 2√3, p from the t of 2 degrees."""
    test = paired_test(np.array([5.0, 1.0, 4.0]), np.array([4.0, -1.0, 1.0]))
    assert test.p == pytest.approx(1 - 2 * math.sqrt(3) / math.sqrt(2 + 12))
    half = 4.30265273 / math.sqrt(3)
    assert test.interval == pytest.approx((2 - half, 2 + half))


@pytest.mark.parametrize(("step", "p"), [(0.0, 1.0), (0.25, 0.0)])
def test_differences_without_spread(step: float, p: float) -> None:
    values = np.array([0.25, 0.5, 0.75])
    assert paired_test(values + step, values) == ((step, step), p)


def random_runs(rng: np.random.Generator, seeds: list[int]) -> dict[int, np.ndarray]:
    return {seed: rng.random(20) for seed in seeds}


def test_differences_pair_seeds_and_queries() -> None:
    rng = np.random.default_rng(0)
    first, second = random_runs(rng, [3, 1, 2]), random_runs(rng, [1, 2, 3, 4])
    found = difference_of_runs(first, second)
    pairs = np.array([[first[s][q] - second[s][q] for q in range(20)] for s in (1, 2, 3)])
    for test, differences in ((found.seeds, pairs.mean(1)), (found.queries, pairs.mean(0))):
        oracle = stats.ttest_1samp(differences, 0)
        assert test.p == pytest.approx(oracle.pvalue)
        assert test.interval == pytest.approx(tuple(oracle.confidence_interval()))
        assert found.difference == pytest.approx(differences.mean())
    swapped = difference_of_runs(second, first)
    assert swapped.difference == pytest.approx(-found.difference)
    assert swapped.seeds.p == pytest.approx(found.seeds.p)


def test_a_difference_needs_two_common_seeds() -> None:
    rng = np.random.default_rng(0)
    found = difference_of_runs(random_runs(rng, [1, 2]), random_runs(rng, [2, 3]))
    assert np.isnan([found.difference, found.seeds.p, *found.queries.interval]).all()


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
    family = [difference_of_runs(runs, base) for runs in (same_for_seeds, same_for_queries, both)]
    assert family[0].seeds.p < 0.001 and family[0].queries.p > 0.1
    assert family[1].queries.p < 0.001 and family[1].seeds.p > 0.1
    found = corrected(family)
    assert found[0] > 0.1 and found[1] > 0.1 and found[2] < 0.001
