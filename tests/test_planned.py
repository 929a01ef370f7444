"""The plan of the records, and the commands that carry it out."""

from __future__ import annotations

import re
import subprocess
from itertools import combinations

import numpy as np
import pytest

from study.compare_losses import parser
from study.run.plan import APART, Plan
from tests.benchmarks.bench_search import TODAY
from tests.test_study import ROOT

FOLDER = ROOT / "study" / "records"
PLAN = (FOLDER / "2026-11-26-plan.md").read_text(encoding="utf-8")
SPLITS, CLOSED, FOLDS = (
    [f"{name}-{k}" for k in range(count)]
    for name, count in (("held-out-split", 10), ("closed", 10), ("emoji-fold", 4))
)
EXPERIMENTS = ["numerator", "tau", "sgd"]


def asked(name: str) -> dict[str, object]:
    """What the plan's command for a comparison asks for."""
    words = ["bash", str(FOLDER / "2026-11-26-plan.sh"), name]
    environment = {"PYTHON": "echo", "EMOJI": "emoji", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(words, cwd=FOLDER, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    program, *options = done.stdout.split()
    assert program == "study/compare_losses.py"
    return vars(parser().parse_args(options))


def test_the_splits_are_those_of_the_draw() -> None:
    """And balanced: each class is tested three times, no two splits share more than one."""
    p = np.random.default_rng(20261126).permutation(10)
    tested = []
    for k, name in enumerate(SPLITS):
        parts = [sorted(p[(k + np.array(part)) % 10]) for part in ([0, 1, 3], [4, 6, 7])]
        rest = sorted(set(range(10)) - {*parts[0], *parts[1]})
        row = " | ".join(", ".join(map(str, part)) for part in (rest, parts[1], parts[0]))
        assert f"| {k} | {row} |" in PLAN
        options = asked(name)
        names = ("holdout_classes", "validation_classes")
        assert [options[what] for what in names] == [[*map(str, part)] for part in parts]
        tested.append({*parts[0]})
    assert all(len(one & other) <= 1 for one, other in combinations(tested, 2))
    assert np.bincount([label for part in tested for label in part]).tolist() == [3] * 10


@pytest.mark.parametrize("names", [SPLITS, CLOSED, FOLDS])
def test_a_comparison_is_as_the_plan_has_it(names: list[str]) -> None:
    for name in names:
        options = asked(name)
        assert (options["num_samples"], options["from_scratch"]) == (81, True)
        assert options["losses"] == re.findall(r"\(`([\w:]+)`\)", PLAN)[:6]
        assert options["confirm_seeds"] == (2 if names is CLOSED else 5)
        assert options["max_epochs"] == (27 if names is FOLDS else 9)
        assert options["reference_seeds"] == (2 if name in CLOSED[:2] else 0)
        assert options.get("reference_epochs") == (100 if name in CLOSED[:2] else None)
        assert "final_seeds" not in options and "changes" not in options


def test_no_two_searches_have_runs_of_the_same_seed() -> None:
    """Those that the plan names, and no pilot had: pilots began below 10,000."""
    seeds = []
    for name in (*SPLITS, *CLOSED, *FOLDS, *EXPERIMENTS):
        options = asked(name)
        start, count = options["seed"], options.get("search_seeds", 1)
        assert isinstance(start, int) and isinstance(count, int)
        seeds += [start + APART * n for n in range(count)]
        plan = Plan(losses=["triplet"], num_samples=1, max_epochs=1, seed=start, search_seeds=count)
        assert plan.seeds() == seeds[-count:]
    assert min(np.diff(sorted(seeds))) == APART and min(seeds) == 100_000
    for name, first in ((CLOSED, "100,000"), (SPLITS, "200,000"), (FOLDS, "300,000")):
        assert f"{first} + 10,000 k" in PLAN
        assert asked(name[1])["seed"] == int(first.replace(",", "")) + 10_000
    assert "seeds 400,000, 500,000 and 600,000" in PLAN
    assert [asked(name)["seed"] for name in EXPERIMENTS] == [400_000, 500_000, 600_000]


def test_the_experiments_arms_are_those_of_the_plan() -> None:
    for name in EXPERIMENTS:
        options = asked(name)
        arms = ", ".join(f"`{loss}`" for loss in options["losses"])  # type: ignore[attr-defined]
        assert f"| {arms} |" in PLAN
        kept = ("search_seeds", "confirm_seeds", "final_seeds", "reference_seeds", "max_epochs")
        assert [options[what] for what in kept] == [5, 2, 0, 0, 9]
    assert asked("sgd")["space"] == ["study/records/2026-11-26-sgd.toml"]


def test_the_regrets_that_the_plan_quotes_are_those_of_the_replays() -> None:
    page = (ROOT / "tests" / "benchmarks" / "README.md").read_text(encoding="utf-8")
    part = page.split("**smooth_ap**: ")[1].split("For Smooth-AP, whose space")[0]
    found = re.findall(re.escape(f"| {TODAY} |") + r".*?to (0\.\d{4})\)", part)
    smooth_ap, triplet, linear, normalised = (f"{float(regret):.3f}" for regret in found)
    assert smooth_ap == triplet
    said = f"{triplet} (Smooth-AP, triplet), {normalised} (normalised softmax), {linear} (linear"
    assert f"its regret is up to {said} cross-entropy) in 95 % of the replays" in PLAN


def test_a_comparison_that_is_not_planned_is_refused() -> None:
    words = ["bash", str(FOLDER / "2026-11-26-plan.sh"), "emoji-fold-4"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2 and "the plan has no comparison emoji-fold-4" in done.stderr
