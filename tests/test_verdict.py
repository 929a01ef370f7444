"""Whether a choice is above the defaults: by hand, and by simulation of where there is nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from study.judge.verdict import against_defaults
from study.results.studies import Study
from study.results.trials import HAND_SET, SELECTION, TrialRecord
from study.search.space import default

BASE = default("triplet", epochs=1, seed=0)


def study(*scores: list[float], hand_set: bool = True) -> Study:
    """Configurations, the first the defaults, with a final's score for each seed."""
    trials = [
        TrialRecord(f"triplet-{n:03d}", BASE, status="finished", origin=HAND_SET * (n == 0))
        for n in range(len(scores))
    ]
    if not hand_set:
        trials[0].origin = "random"
    for root, mine in zip(list(trials), scores, strict=True):
        for seed, score in enumerate(mine, start=1_000):
            config = BASE.replace(seed=seed, epochs=9)
            name = f"triplet-{len(trials):03d}"
            run = TrialRecord(name, config, status="finished", origin=SELECTION)
            run.follows = root.trial_id
            run.add_epoch({"epoch": 9, "val_map": score, "seconds": 1.0})
            trials.append(run)
    return Study(Path("s"), {"plan": {"losses": ["triplet"]}}, trials)


def test_each_seed_is_judged_by_what_the_others_choose() -> None:
    # By the other seeds: of the first, b (0.9 and 0.5); of the second, a; of the third, a.
    found = against_defaults(study([0.5, 0.5, 0.5], [0.8, 0.6, 0.6], [0.1, 0.9, 0.5]), "triplet")
    assert found is not None
    assert found.gaps == pytest.approx({1_000: -0.4, 1_001: 0.1, 1_002: 0.1})
    gaps = np.array([-0.4, 0.1, 0.1])
    half = stats.t.ppf(0.975, 2) * gaps.std(ddof=1) / 3**0.5
    assert found.interval == pytest.approx((gaps.mean() - half, gaps.mean() + half))
    assert str(found).startswith(
        "not resolved whether it is above the hand-set defaults: -0.0667 ("
    )


def test_what_is_above_and_what_is_below_is_said() -> None:
    above = against_defaults(study([0.5, 0.5, 0.5], [0.6, 0.61, 0.62]), "triplet")
    assert str(above).startswith("it is above the hand-set defaults: +0.1100 (95 % interval +0.08")
    only = against_defaults(study([0.5, 0.6, 0.7]), "triplet")  # the defaults are the choice
    assert only is not None and only.gaps == {1_000: 0, 1_001: 0, 1_002: 0}
    said = "it is the hand-set defaults, by each of 3 fresh seeds: the search found none above them"
    assert str(only) == said


def test_what_lacks_a_run_is_not_chosen_and_takes_no_seed_from_the_others() -> None:
    found = against_defaults(study([0.5, 0.5, 0.5], [0.6, 0.7, 0.8], [0.9, 0.9]), "triplet")
    assert found is not None
    assert found.gaps == pytest.approx({1_000: 0.1, 1_001: 0.2, 1_002: 0.3})
    short = against_defaults(study([0.5, 0.5], [0.6, 0.7, 0.8]), "triplet")  # the defaults lack one
    assert short is not None and short.gaps == pytest.approx({1_000: 0.1, 1_001: 0.2})


def test_one_seed_says_nothing_and_without_the_defaults_there_is_no_verdict() -> None:
    one = against_defaults(study([0.5], [0.6]), "triplet")
    assert one is not None and "cannot say" in str(one)
    assert against_defaults(study([0.5, 0.5], [0.6, 0.6], hand_set=False), "triplet") is None
    assert (
        against_defaults(Study(Path("s"), {"plan": {"losses": ["triplet"]}}, []), "triplet") is None
    )


def test_where_no_configuration_is_better_none_is_said_to_be() -> None:
    """Of 400 studies of equal configurations: at most the 2.5 % that a 95 % interval allows, and
    what chance adds to that. By their own means the best of four would be above in a fifth."""
    rng = np.random.default_rng(0)
    said = 0
    for _ in range(400):
        scores = 0.85 + 0.003 * rng.standard_normal((4, 5))
        found = against_defaults(study(*scores.tolist()), "triplet")
        assert found is not None
        said += found.interval.low > 0
    assert said <= stats.binom.ppf(0.999, 400, 0.025)
