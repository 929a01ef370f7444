"""What is trained next, in whole studies whose values are made up."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from study.run.results import HAND_SET, PROMOTION, SELECTION, TrialRecord, root
from study.search.searches import MODELS, SEARCHES, Searches, enough
from study.search.space import default

RUNGS = (0.1111, 0.3333, 1, 3, 9)
Plan = dict[str, Any]


def value(record: TrialRecord) -> float:
    """Best near the usual learning rate; rungs and seeds differ a little."""
    away = math.log(record.knobs["lr_factor"] / 0.7) ** 2
    place = math.sin(1e3 * record.knobs["lr_factor"] + record.config.seed)
    return 0.8 - 0.05 * away - 0.1 / (1 + record.config.epochs) + 0.002 * place


def end(record: TrialRecord, searches: Searches) -> None:
    record.add_epoch({"epoch": record.config.epochs, "val_map": value(record), "seconds": 1.0})
    searches.report(record)
    record.status = "finished"
    searches.tell(record)


def run(
    plan: Plan, records: list[TrialRecord] | None = None, losses: tuple[str, ...] = ("triplet",)
) -> Iterator[TrialRecord]:
    """One trial at a time, each as it ends."""
    searches = Searches(losses, rungs=RUNGS, seed=7, records=records, **plan)
    while (record := searches.ask()) is not None:
        end(record, searches)
        yield record
    assert not searches.has_more()


def asked(records: list[TrialRecord]) -> list[tuple[Any, ...]]:
    return [(r.trial_id, r.config, r.knobs, r.origin, r.follows) for r in records]


def again(records: list[TrialRecord]) -> list[TrialRecord]:
    """As they are read back from the disk."""
    return [TrialRecord.from_dict(json.loads(json.dumps(r.to_dict()))) for r in records]


def test_a_whole_search_halves_exactly_and_ends_with_the_finals() -> None:
    records = list(run({"configurations": 81, "finals": 2}))
    climbing = [r for r in records if r.origin != SELECTION]
    counts = {rung: sum(r.config.epochs == rung for r in climbing) for rung in RUNGS}
    assert counts == {0.1111: 81, 0.3333: 27, 1: 9, 3: 3, 9: 0}
    assert [r.number for r in records] == list(range(len(records)))
    assert {r.config.seed for r in climbing} == {7}
    for record in climbing:
        if record.origin == PROMOTION:
            (before,) = [r for r in climbing if r.trial_id == record.follows]
            assert record.config == before.config.replace(epochs=record.config.epochs)
            assert record.config.epochs == RUNGS[RUNGS.index(before.config.epochs) + 1]
            assert record.knobs == before.knobs
    finals = [r for r in records if r.origin == SELECTION]
    best = sorted((r for r in climbing if r.config.epochs == 3), key=lambda r: -r.score)
    with_defaults = [*best, records[0]]
    roots = {root(r, records).trial_id for r in best}
    expected = best if records[0].trial_id in roots else with_defaults
    assert [r.follows for r in finals] == 2 * [r.trial_id for r in expected]
    seeds = [r.config.seed for r in finals]
    assert seeds == [1_007] * len(expected) + [1_008] * len(expected)
    assert {r.config.epochs for r in finals} == {9}


def test_without_finals_the_ladder_has_the_last_rung_too() -> None:
    records = list(run({"configurations": 81}))
    counts = [sum(r.config.epochs == rung for r in records) for rung in RUNGS]
    assert counts == [81, 27, 9, 3, 1]
    assert not [r for r in records if r.origin == SELECTION]


@pytest.mark.parametrize("kind", SEARCHES)
@pytest.mark.filterwarnings("ignore:.*greenlet.*")
def test_a_search_that_is_continued_decides_as_one_that_was_not(kind: str) -> None:
    plan = {"configurations": 18, "finals": 2, "kind": kind}
    whole = list(run(plan))
    for stop in (1, 2, 9, 17, 18, 20, len(whole) - 3, len(whole)):
        before = again(whole[:stop])
        list(run(plan, before))  # what is asked for is added to the records
        assert asked(before) == asked(whole)


def test_what_runs_is_not_asked_for_again_and_losses_take_turns() -> None:
    searches = Searches(["triplet", "smooth_ap"], rungs=RUNGS, seed=0, configurations=3, finals=1)
    running = [record for record in iter(searches.ask, None) if record]
    assert [r.trial_id for r in running] == [
        f"{loss}-{n:03d}" for n in range(3) for loss in ("triplet", "smooth_ap")
    ]
    assert not searches.has_more()  # until one has ended
    for record in running[::2]:
        end(record, searches)
    longer = searches.ask()
    assert longer is not None and (longer.loss, longer.origin) == ("triplet", PROMOTION)
    end(longer, searches)
    final = searches.ask()
    assert final is not None and (final.loss, final.origin) == ("triplet", SELECTION)
    for record in running[1::2]:
        end(record, searches)
    # Of the two the one that has had fewer epochs.
    other = searches.ask()
    assert other is not None and (other.loss, other.origin) == ("smooth_ap", PROMOTION)


def test_a_fault_is_passed_over_and_counted() -> None:
    searches = Searches(["triplet"], rungs=RUNGS, seed=0, configurations=3, from_scratch=True)
    trials = [searches.ask() for _ in range(3)]
    for record, status in zip(trials, ("diverged", "failed", "finished"), strict=True):
        assert record is not None
        if status == "finished":
            end(record, searches)
        else:
            record.status = status
            searches.tell(record)
    longer = searches.ask()
    assert longer is not None and longer.follows == "triplet-002"
    longer.status = "diverged"
    searches.tell(longer)
    assert searches.ask() is None and not searches.has_more()


@pytest.mark.parametrize("scratch", [False, True])
def test_the_defaults_are_a_prior_unless_it_is_from_scratch(scratch: bool) -> None:
    plan = {"configurations": 30, "finals": 1, "from_scratch": scratch}
    records = list(run(plan))
    origins = [r.origin for r in records if r.follows is None]
    if scratch:
        assert origins == ["quasi-random"] * 30
        assert not any(r.hand_set for r in records)
        usual = default("triplet", epochs=RUNGS[0], seed=7)
        assert usual not in [r.config for r in records]
    else:
        assert origins[:5] == [HAND_SET, "nearby", *["quasi-random"] * 2, "nearby"]
        assert records[0].config == default("triplet", epochs=RUNGS[0], seed=7)
        finals = [r for r in records if r.origin == SELECTION]
        assert any(root(r, records).hand_set for r in finals)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.filterwarnings("ignore:.*greenlet.*")
def test_a_model_learns_from_what_it_sees(kind: str) -> None:
    """Its configurations lie nearer to the best learning rate than those without a model."""

    def distance(records: list[TrialRecord]) -> float:
        away = [abs(math.log(r.knobs["lr_factor"] / 0.7)) for r in records]
        return sum(away) / len(away)

    records = list(run({"configurations": 60, "kind": kind, "from_scratch": True}))
    begun = [r for r in records if r.follows is None]
    modelled = [r for r in begun if r.origin == kind]
    assert len(modelled) > 20
    assert distance(modelled) < 0.8 * distance([r for r in begun if r.origin != kind])


def test_the_highest_rung_with_enough_values_is_modelled() -> None:
    records = list(run({"configurations": 81}))
    for least, rung in ((1, 9), (2, 3), (4, 1), (10, 0.3333), (28, 0.1111)):
        assert {r.config.epochs for r in enough(records, least)} == {rung}
    assert enough(records, 82) == []
    records[0].status = "diverged"
    assert enough(records, 81) == []


def test_optuna_is_told_what_happened_and_by_which_metric() -> None:
    storage = optuna.storages.InMemoryStorage()
    plan = {"rungs": (1, 3), "seed": 0, "configurations": 3, "metric": "val_recall_at_1"}
    searches = Searches(["triplet"], storage=storage, **plan)
    tell: Callable[[TrialRecord], None] = searches.tell
    records = [searches.ask() for _ in range(3)]
    for number, record in enumerate(records):
        assert record is not None and record.metric == "val_recall_at_1"
        row = {"epoch": 1, "val_map": 0.1, "val_recall_at_1": 0.5 + number / 10, "seconds": 1.0}
        record.add_epoch(row)
        searches.report(record)
        searches.report(record)  # as it is after a fault
        record.status = "finished"
        tell(record)
        tell(record)
    longer = searches.ask()
    assert longer is not None and longer.follows == "triplet-002"
    for epoch, score in ((1, 0.6), (2, 0.9), (3, 0.8)):
        longer.add_epoch({"epoch": epoch, "val_recall_at_1": score, "val_map": 0, "seconds": 1.0})
        searches.report(longer)
    longer.status = "finished"
    tell(longer)
    again_ = Searches(["triplet"], records=list(searches.records), **plan)
    for told in (optuna.load_study(study_name="triplet", storage=storage),
                 again_.mirror.studies["triplet"]):  # fmt: skip
        assert told.metric_names == ["validation R@1"]
        trials = told.get_trials()
        states = [TrialState.PRUNED] * 3 + [TrialState.COMPLETE]
        assert [trial.state for trial in trials] == states
        assert trials[3].intermediate_values == {1_000: 0.6, 2_000: 0.9, 3_000: 0.8}
        assert trials[3].value == 0.9
        assert trials[3].params == trials[2].params == longer.knobs
        assert trials[3].user_attrs["follows"] == "triplet-002"
