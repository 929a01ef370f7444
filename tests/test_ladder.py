"""Who is trained longer: against a slow and obvious halving, for any values and any order."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.results.trials import SELECTION, TrialRecord
from study.run.cli import FINAL_SEEDS
from study.run.cluster import ROOT
from study.search import ladder
from study.search.space import default

BASE = default("triplet", epochs=1, seed=0)
RUNGS = (0.3333, 1, 3)


def ended(
    number: int,
    score: float | None,
    epochs: float = RUNGS[0],
    follows: str | None = None,
    origin: str = "random",
) -> TrialRecord:
    """A trial that has ended with a score, or, without one, by a fault."""
    record = TrialRecord(f"triplet-{number:03d}", BASE.replace(epochs=epochs), origin=origin)
    record.status, record.follows = "diverged" if score is None else "finished", follows
    if score is not None:
        record.add_epoch({"epoch": epochs, "val_map": score, "seconds": 1.0})
    return record


@pytest.mark.parametrize(
    ("epochs", "images", "expected"),
    [
        (9, 54_000, (0.1111, 0.3333, 1, 3, 9)),
        (27, 54_000, (0.1111, 0.3333, 1, 3, 9, 27)),  # 6,000 images are a ninth of an epoch
        (10, 54_000, (0.1235, 0.3704, 1.111, 3.333, 10)),
        (9, 18_000, (0.3333, 1, 3, 9)),
        (9, 17_999, (1, 3, 9)),
        (6, 3_000, (2, 6)),
        (9, 500, (9,)),
        (1, 5, (1,)),
    ],
)
def test_each_rung_is_a_third_of_the_next(
    epochs: float, images: int, expected: tuple[float, ...]
) -> None:
    found = ladder.rungs(epochs, images)
    assert found == expected
    assert all(type(rung) is int for rung in found if rung == int(rung))
    assert len(found) == 1 or found[0] * images >= 0.999 * ladder.LEAST_IMAGES


def test_the_last_rung_is_for_fresh_seeds_unless_it_is_the_only_one() -> None:
    assert ladder.climbed((1, 3, 9)) == (1, 3)
    assert ladder.climbed((9,)) == (9,)


def may_go_on(trial: TrialRecord, trials: Sequence[TrialRecord]) -> bool:
    """By counting, as ASHA's algorithm 2 has it: fewer than a third of those that ended on its rung
    are before it, and nobody has gone on from it. A fault is one of the rung, and last."""
    if trial.status != "finished" or any(other.follows == trial.trial_id for other in trials):
        return False
    here = [t for t in trials if t.config.epochs == trial.config.epochs and t.status != "running"]
    before = [t for t in here if t.status == "finished" and order(t) < order(trial)]
    return len(before) < len(here) // 3


def order(trial: TrialRecord) -> tuple[float, int]:
    return -trial.epochs[-1]["val_map"], trial.number


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(0, 2**32), st.sampled_from([0.0, 0.3, 0.9]))
def test_in_whatever_order_trials_end_the_lowest_that_may_goes_on(
    configurations: int, seed: int, faults: float
) -> None:
    """On four rungs, up to the end: whoever may go on runs before the next one ends."""
    rungs, chance = (0.3333, 1, 3, 9), random.Random(seed)
    trials = [ended(number, None, rungs[0]) for number in range(configurations)]
    running = list(trials)
    for trial in trials:
        trial.status = "running"
    while running:
        trial = running.pop(chance.randrange(len(running)))
        trial.status = "diverged" if chance.random() < faults else "finished"
        if trial.status == "finished":
            score = chance.choice((0.1, 0.4, 0.7))  # so few that some are equal
            trial.add_epoch({"epoch": trial.config.epochs, "val_map": score, "seconds": 1.0})
        while True:
            may = [t for t in trials if t.config.epochs < 9 and may_go_on(t, trials)]
            found = ladder.promotable(trials, rungs)
            if not may:
                assert found is None
                break
            first = min(may, key=lambda t: (t.config.epochs, *order(t)))
            assert found is first
            above = ladder.next_rung(first, rungs)
            assert above == rungs[rungs.index(first.config.epochs) + 1]
            trials.append(ended(len(trials), None, above, first.trial_id))
            trials[-1].status = "running"
            running.append(trials[-1])
    counts = [sum(t.config.epochs == rung for t in trials) for rung in rungs]
    for below, above in itertools.pairwise(counts):
        assert above <= below
        assert faults or above >= below // 3  # the best third, and what was among it before


scores = st.lists(st.none() | st.floats(0, 1), min_size=0, max_size=40)


@settings(deadline=None)
@given(scores)
def test_the_best_third_is_promoted_best_first_and_never_twice(values: list[float | None]) -> None:
    trials = [ended(number, value) for number, value in enumerate(values)]
    promoted: list[int] = []
    while (resting := ladder.promotable(trials, RUNGS[:2])) is not None:
        promoted.append(resting.number)
        trials.append(ended(len(trials), 0.5, RUNGS[1], resting.trial_id))
    sound = sorted(
        (number for number, value in enumerate(values) if value is not None),
        key=lambda number: (-values[number], number),  # type: ignore[operator]
    )
    assert promoted == sound[: len(values) // 3]  # a fault counts as one of the rung


@settings(deadline=None)
@given(scores)
def test_as_results_come_whoever_goes_on_was_of_the_best_third_then(
    values: list[float | None],
) -> None:
    """Each is promoted as soon as it may be: and the best third of all is among these."""
    trials: list[TrialRecord] = []
    for number, value in enumerate(values):
        trials.append(ended(number, value))
        here = [t for t in trials if t.config.epochs == RUNGS[0]]
        resting = ladder.promotable(trials, RUNGS[:2])
        if resting is not None:
            better = [t for t in here if t.is_sound and t.score > resting.score]
            assert len(better) < len(here) // 3
            trials.append(ended(len(values) + number, 0.5, RUNGS[1], resting.trial_id))
    while (resting := ladder.promotable(trials, RUNGS[:2])) is not None:
        trials.append(ended(99 + len(trials), 0.5, RUNGS[1], resting.trial_id))
    gone = [trial.follows for trial in trials if trial.follows]
    assert len(set(gone)) == len(gone)
    best = ladder.ranked([t for t in trials if t.config.epochs == RUNGS[0]])[: len(values) // 3]
    assert {t.trial_id for t in best if t.is_sound} <= set(gone)


def test_the_lower_rungs_promote_first_and_what_runs_is_not_counted() -> None:
    trials = [ended(n, 0.1 * n) for n in range(6)]
    trials += [ended(6 + n, 0.5 + n / 10, RUNGS[1], f"triplet-00{n}") for n in range(3)]
    resting = ladder.promotable(trials, RUNGS)
    assert resting is not None and resting.trial_id == "triplet-005"
    trials += [ended(9, 0.4, RUNGS[1], "triplet-005"), ended(10, 0.3, RUNGS[1], "triplet-004")]
    above = ladder.promotable(trials, RUNGS)
    assert above is not None and above.trial_id == "triplet-008"
    assert ladder.next_rung(above, RUNGS) == 3
    trials[0].status = trials[1].status = "running"
    trials[2].status = "interrupted"
    assert ladder.promotable(trials[:6], RUNGS).trial_id == "triplet-005"  # type: ignore[union-attr]
    trials[3].status = "running"
    assert ladder.promotable(trials[:6], RUNGS) is None  # two have ended


def test_what_failed_by_a_fault_of_the_machine_makes_no_room_for_others() -> None:
    """Else all that is left would go on, whatever its merit; what diverged did so by itself."""
    for status, count in (("failed", 2), ("diverged", 6)):  # of 27, of which 6 ended well
        trials = [ended(number, 0.1) for number in range(27)]
        for trial in trials[6:]:
            trial.status = status
        while (resting := ladder.promotable(trials, RUNGS[:2])) is not None:
            trials.append(ended(len(trials), 0.1, RUNGS[1], resting.trial_id))
        assert len(trials) == 27 + count


def names(trials: Sequence[TrialRecord]) -> list[str]:
    return [trial.trial_id for trial in ladder.finalists(trials)]


def test_finalists_are_the_best_of_the_highest_rungs_each_configuration_once() -> None:
    trials = [ended(n, 0.9 - 0.1 * n) for n in range(6)]
    trials += [ended(6, 0.5, RUNGS[1], "triplet-000"), ended(7, 0.6, RUNGS[1], "triplet-001")]
    assert names(trials) == ["triplet-007", "triplet-006", "triplet-002"]
    trials.append(ended(8, 0.2, RUNGS[2], "triplet-006"))
    assert names(trials) == ["triplet-008", "triplet-007", "triplet-002"]
    trials.append(ended(9, 0.99, RUNGS[2], "triplet-008", SELECTION))
    assert names(trials) == ["triplet-008", "triplet-007", "triplet-002"]
    # What diverged on a longer rung is no finalist by what it had on a shorter one.
    trials.append(ended(10, None, RUNGS[2], "triplet-007"))
    assert names(trials) == ["triplet-008", "triplet-002", "triplet-003"]
    assert names(trials[:1]) == ["triplet-000"] and names([]) == []


def test_the_cost_of_trials_is_their_number_and_their_epochs() -> None:
    trials = [ended(n, 0.5) for n in range(3)] + [ended(3, None, RUNGS[1], "triplet-000")]
    assert ladder.Cost.of(trials) == (4, pytest.approx(3 * 0.3333 + 1), 1)
    assert ladder.Cost.of([]) == (0, 0, 0)
    assert ladder.Cost(4, 2.5, 1.5).times(3) == (12, 7.5, 1.5)


@pytest.mark.parametrize(
    ("configurations", "rungs", "finals", "trials", "epochs"),
    [
        (81, (1, 3, 9), 8, 81 + 27 + 8, 81 + 81 + 72),  # the last rung is for the finals
        (81, (1, 3, 9), 0, 81 + 27 + 9, 3 * 81),
        (10, (1, 3, 9), 0, 10 + 3 + 1, 10 + 9 + 9),
        (2, (1, 3, 9), 2, 2 + 2, 2 + 18),
        (5, (9,), 3, 5 + 3, 45 + 27),
    ],
)
def test_what_exact_halving_takes(
    configurations: int, rungs: tuple[float, ...], finals: int, trials: int, epochs: float
) -> None:
    assert ladder.Cost.expected(configurations, rungs, finals) == (trials, epochs, rungs[-1])


def test_what_a_comparison_of_ones_own_images_costs() -> None:
    """As the page on them says it."""
    images, epochs = 10_000, 27
    steps = ladder.rungs(epochs, images)
    rungs = ladder.Cost.expected(81, steps, 0).epochs - epochs * (81 // 3 ** (len(steps) - 1))
    runs = (ladder.FINALISTS + 1) * FINAL_SEEDS + 5
    page = (ROOT / "study" / "OWN-IMAGES.md").read_text(encoding="utf-8")
    assert f"(81 configurations, {epochs} epochs) and {images:,} images" in page
    assert f"the rungs see {images * rungs / 1e6:.1f} million images" in page
    assert f"{images * epochs * runs / 1e6:.1f} million more" in page
