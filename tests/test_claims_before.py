"""What the pages say of the two comparisons of before the plan."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from tests.claims import PAGE, README, Record, load, says

SHORT, LONG = "2026-11-24-fashion-mnist", "2026-11-24-longer-fashion-mnist"


@pytest.fixture(scope="module")
def short() -> Record:
    return load(SHORT)


@pytest.fixture(scope="module")
def long() -> Record:
    return load(LONG)


def test_which_loss_is_not_resolved(long: Record) -> None:
    spreads = [np.ptp(long.maps(protocol)) for protocol in ("full", "seed")]
    pairs = [
        long.gap(*pair) for pair in combinations(("normalized_softmax", "triplet", "smooth_ap"), 2)
    ]
    smallest = sorted(pair["smallest"] for pair in pairs)
    equal = sorted(pair["equivalence_p"] for pair in pairs)
    assert {pair["verdict"] for pair in pairs} == {"not resolved"}
    says(
        PAGE,
        f"within {spreads[0]:.4f} of each other on the full protocol",
        f"within {spreads[1]:.4f} on the seed protocol",
        f"of {smallest[0]:.4f} to {smallest[-1]:.4f}, by pair",
        f"have p from {equal[0]:.3f} to {equal[-1]:.3f}",
        f"above Smooth-AP on {long.gap('normalized_softmax', 'smooth_ap')['wins']} of 5 seeds",
    )
    says(
        README,
        f"within {spreads[0]:.4f} of each other",
        f"of {smallest[0]:.4f} to {smallest[-1]:.4f}, by pair",
    )


def test_seeds_pair_little(short: Record, long: Record) -> None:
    found = []
    for record in (short, long):
        chosen = record.runs[record.runs["role"] == "chosen"]
        table = chosen.pivot(index="seed", columns="loss", values="map_full").corr().to_numpy()
        found += list(table[np.triu_indices(3, 1)])
    says(PAGE, f"correlations from {min(found):.2f} to {max(found):.2f}")


def test_the_pattern_by_class(long: Record) -> None:
    ahead = {
        name: long.by_class("triplet", "normalized_softmax", name)
        for name in ("Shirt", "Coat", "T-shirt/top")
    }
    both = long.gap("normalized_softmax", "triplet")
    said = [f"{name} ({gap:+.3f})" for name, gap in ahead.items()]
    says(PAGE, f"is ahead on {said[0]} and behind on {said[1]} and {said[2]}")
    says(PAGE, f"{both['both_low']:.3f} to {both['both_high']:+.3f}")


@pytest.mark.parametrize("name", [SHORT, LONG])
def test_what_the_search_found(name: str) -> None:
    record = load(name)
    ended = [t for t in record.sampled if len(t.epochs) == t.config.epochs]
    hand_set = {t.trial_id for t in record.sweep.trials if t.hand_set}
    chosen = [c.trial_id in hand_set for c in record.frozen.choices.values()]
    says(
        PAGE,
        f"Of {len(record.sampled)} sampled trials {len(ended) or 'none'} reached the last epoch",
    )
    if name == LONG:
        assert all(chosen)
        says(README, "All three are hand-set starts: of 15 sampled trials none reached the last")
        assert (len(record.sampled), len(ended)) == (15, 0)
    else:
        (found,) = [c for c in record.frozen.choices.values() if c.trial_id not in hand_set]
        assert found.config.loss == "smooth_ap" and sum(chosen) == 2


def test_beside_the_seed_studys_settings(long: Record) -> None:
    gaps = [
        long.gap(first, second, "tuning")["difference"]
        for first, second in (
            ("normalized_softmax", "cross_entropy"),
            ("triplet", "triplet"),
            ("smooth_ap", "smooth_ap"),
        )
    ]
    linear = [t for t in long.sampled if t.config.loss == "cross_entropy"]
    assert all(t.status == "stopped_early" for t in linear)
    best = max(t.best["val_map"] for t in linear)
    says(PAGE, f"the choices gain {gaps[0]:.3f} (normalised softmax", f"{gaps[1]:.3f} (triplet)")
    says(PAGE, f"{gaps[2]:.3f} (Smooth-AP)", f"the best of them at {best:.3f}")
    assert {len(t.epochs) for t in long.confirmation.trials} == {20}
    says(PAGE, "trained for 20 of their 100 epochs")


def test_the_seed_studys_verdict(long: Record) -> None:
    full = long.gap("triplet", "smooth_ap", "reference")
    says(PAGE, f"triplet is {full['difference']:.3f} ahead, shown")
    assert full["verdict"] == "shown"
    assert long.gap("triplet", "smooth_ap", "reference", "seed")["verdict"] == "not resolved"
    for protocol in ("full", "seed"):
        assert long.gap("triplet", "smooth_ap", "chosen", protocol)["verdict"] == "not resolved"


def test_the_budget_decides(short: Record, long: Record) -> None:
    gaps = [short.gap("normalized_softmax", other) for other in ("triplet", "smooth_ap")]
    assert {gap["verdict"] for gap in gaps} == {"shown"}
    first, second = (gap["difference"] for gap in gaps)
    says(PAGE, f"ahead of triplet by {first:.4f} and of Smooth-AP by {second:.4f}")
    assert long.maps("full").min() > short.maps("full").max()
    low, high = long.maps("seed").min(), short.maps("seed").max()
    assert low < high
    says(PAGE, f"({low:.4f} at 20, {high:.4f} at 12)")


def test_what_is_not_resolved_by_either(short: Record, long: Record) -> None:
    both = [*short.sweep.trials, *long.sweep.trials]
    ended = [t for t in both if t.loss == "smooth_ap" and len(t.epochs) == t.config.epochs]
    taus = [t.config.loss_args["tau"] for t in ended]
    says(PAGE, f"have τ from {min(taus):.4f} to {max(taus):.3f}")
    mine = [t for t in long.sweep.trials if t.loss == "smooth_ap"]
    second = sorted(mine, key=lambda t: -t.best["val_map"])[1]
    says(
        PAGE,
        f"has τ {second.config.loss_args['tau']:.3f} ({second.best['val_map']:.3f} after 6 epochs)",
    )
    assert len(second.epochs) == 6
    sampled = [t for t in ended if not t.hand_set]
    seeds = [t.best["val_map"] for t in sampled if t.config.loss_args["numerator"] == "seed"]
    papers = sorted(
        t.best["val_map"] for t in sampled if t.config.loss_args["numerator"] == "paper"
    )
    beside = f"beside two with the paper's ({papers[0]:.3f} and {papers[1]:.3f})"
    says(PAGE, f"({seeds[0]:.3f}), {beside}")
    assert (len(seeds), len(papers)) == (1, 2)
    sampled = [*short.sampled, *long.sampled]
    sgd = [t for t in sampled if t.config.optimizer == "sgd"]
    says(PAGE, f"{len(sgd)} of the {len(sampled)} sampled trials had SGD")
    assert all(len(t.epochs) < t.config.epochs for t in sgd)
    full = "protocol == 'full' and role == 'chosen'"
    chosen = [record.summary.query(full) for record in (short, long)]
    lower = pd.concat([table["val_map"] - table["map"] for table in chosen])
    says(PAGE, f"lie {lower.min():.3f} to {lower.max():.3f} lower than in validation")
