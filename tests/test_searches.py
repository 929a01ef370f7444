"""What is trained next, in whole studies whose values are made up."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from statistics import fmean
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from study.results.trials import GIVEN, HAND_SET, PROMOTION, SELECTION, TrialRecord, root
from study.search import searches as module
from study.search.changes import only
from study.search.draws import evenly
from study.search.ladder import finalists
from study.search.models import enough
from study.search.searches import Listed, Searches
from study.search.space import SPACE, default, knobs_of

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


@pytest.mark.parametrize("from_scratch", [False, True])
def test_where_every_knob_has_one_value_nothing_is_searched_nor_set_by_hand(
    from_scratch: bool,
) -> None:
    alone = {knob.name: only(0.01 if knob.name == "lr_factor" else knob.default)
             for knob in knobs_of("triplet")}  # fmt: skip
    searches = Searches(
        ["triplet"], configurations=1, rungs=RUNGS, seed=7, space=SPACE.changed(alone),
        from_scratch=from_scratch,
    )  # fmt: skip
    record = searches.ask()
    assert record is not None and record.origin == GIVEN and not record.hand_set
    assert record.knobs == {name: change["choices"][0] for name, change in alone.items()}


def test_more_final_seeds_later_are_those_of_having_asked_for_them_at_once() -> None:
    at_once = list(run({"configurations": 9, "finals": 4}))
    before = list(run({"configurations": 9, "finals": 1}))
    records = again(before)
    later = list(run({"configurations": 9, "finals": 4}, records))
    assert len(later) == 3 * sum(r.origin == SELECTION for r in before) > 0
    assert asked(records) == asked(at_once)


def test_without_finals_the_ladder_has_the_last_rung_too() -> None:
    records = list(run({"configurations": 81}))
    counts = [sum(r.config.epochs == rung for r in records) for rung in RUNGS]
    assert counts == [81, 27, 9, 3, 1]
    assert not [r for r in records if r.origin == SELECTION]


@pytest.mark.parametrize(
    ("kind", "losses", "every"),
    [
        *((kind, ("triplet",), 1) for kind in ("quasi-random", "random", "tpe")),
        *((kind, ("smooth_ap", "triplet"), 9) for kind in ("quasi-random", "random", "tpe")),
        ("gp", ("triplet",), 15),  # which is slow
    ],
)
@pytest.mark.filterwarnings("ignore:.*greenlet.*")
def test_a_search_that_is_continued_decides_as_one_that_was_not(
    kind: str, losses: tuple[str, ...], every: int
) -> None:
    """Killed between any two trials."""
    plan = {"configurations": 16, "finals": 2, "kind": kind}
    whole = list(run(plan, losses=losses))
    assert {r.origin for r in whole} >= {kind, "nearby", HAND_SET, PROMOTION, SELECTION}
    for stop in range(1, len(whole) + 1, every):
        before = again(whole[:stop])
        list(run(plan, before, losses))  # what is asked for is added to the records
        assert asked(before) == asked(whole)


def test_a_trial_that_is_killed_is_not_asked_for_again() -> None:
    """It is run again, from its record, before anything else is."""
    plan: Plan = {"configurations": 9, "finals": 2}
    whole = list(run(plan))
    for stop in range(len(whole)):
        before = again(whole[: stop + 1])
        before[-1].status, before[-1].epochs = "interrupted", []
        searches = Searches(["triplet"], rungs=RUNGS, seed=7, records=before, **plan)
        end(before[-1], searches)
        while (record := searches.ask()) is not None:
            end(record, searches)
        assert asked(before) == asked(whole)


@pytest.mark.parametrize("kind", ["quasi-random", "random"])
def test_a_configuration_depends_on_its_number_alone(kind: str) -> None:
    """Not on how many there are to be, nor on what has ended when it is asked for."""
    found = list(run({"configurations": 12, "kind": kind}))
    one_by_one = [r for r in found if r.follows is None]
    searches = Searches(["triplet"], rungs=RUNGS, seed=7, configurations=81, kind=kind)
    at_once = [searches.ask() for _ in range(81)]
    assert asked(one_by_one) == asked([r for r in at_once[:12] if r])
    assert len({r.config for r in at_once if r}) == 81  # no two are the same
    other = Searches(["triplet"], rungs=RUNGS, seed=8, configurations=3, kind=kind)
    first, *rest = [record for record in iter(other.ask, None) if record]
    assert first.config == one_by_one[0].config.replace(seed=8)  # the defaults
    assert all(
        mine.knobs != theirs.knobs for mine, theirs in zip(rest, one_by_one[1:], strict=False)
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 30), st.integers(1, 9), st.sampled_from([0.0, 0.4]), st.integers(0, 2**32))
def test_many_at_a_time_end_in_any_order_and_so_does_the_study(
    configurations: int, concurrent: int, faults: float, seed: int
) -> None:
    chance, running = random.Random(seed), list[TrialRecord]()
    plan: Plan = {"rungs": RUNGS, "seed": 7, "configurations": configurations, "finals": 2}
    searches = Searches(["triplet", "smooth_ap"], **plan)
    while True:
        while len(running) < concurrent and (record := searches.ask()) is not None:
            trials = searches.of(record.loss)
            assert record is trials[-1] and record.number == len(trials) - 1
            if record.origin == SELECTION:
                assert all(t.has_ended for t in trials if t.origin != SELECTION)
            elif record.follows is not None:
                (before,) = [t for t in trials if t.trial_id == record.follows]
                assert before.is_sound
            running.append(record)
        if not running:
            break
        record = running.pop(chance.randrange(len(running)))
        if chance.random() < faults:
            record.status = "diverged"
            searches.tell(record)
        else:
            end(record, searches)
    assert not searches.has_more()
    for loss in searches.base:
        trials = searches.of(loss)
        climbing = [t for t in trials if t.origin != SELECTION]
        assert sum(t.follows is None for t in climbing) == configurations
        gone = [t.follows for t in climbing if t.follows]
        assert len(set(gone)) == len(gone)
        best = {t.trial_id for t in finalists(trials)}
        finals = {(t.follows, t.config.seed) for t in trials if t.origin == SELECTION}
        assert {(name, 1_007 + n) for name in best for n in range(2)} <= finals
        assert len(finals - {(name, seed) for name in best for seed in (1_007, 1_008)}) in (0, 2)
        assert len(finals) == len(trials) - len(climbing)


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


def test_the_loss_that_has_had_the_fewest_epochs_is_next() -> None:
    """Not that of the fewest trials: of triplet all but one diverge, so that it soon has the
    finals, which are long, while the others have many short trials."""
    losses = ("triplet", "smooth_ap", "cross_entropy")
    plan: Plan = {"rungs": RUNGS, "seed": 7, "configurations": 20, "finals": 2}
    searches, records = Searches(losses, **plan), list[TrialRecord]()
    while (record := searches.ask()) is not None:
        if record.loss == "triplet" and record.follows is None and record.number != 4:
            record.status = "diverged"
            searches.tell(record)
        else:
            end(record, searches)
        records.append(record)
    for number, record in enumerate(records):
        going_on = {later.loss for later in records[number:]}
        had = {
            loss: sum(r.config.epochs for r in records[:number] if r.loss == loss)
            for loss in losses
            if loss in going_on
        }
        assert record.loss == min(had, key=lambda loss: had[loss])  # of equal ones the first


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


@pytest.mark.parametrize(("kind", "count"), [("tpe", 30), ("gp", 3)])
@pytest.mark.filterwarnings("ignore:.*greenlet.*")
def test_a_model_learns_from_what_it_sees(kind: str, count: int) -> None:
    """Its configurations lie nearer to the best learning rate than random ones, of which it knows
    24; with every third one it goes without the model."""

    def distance(found: list[TrialRecord]) -> float:
        return fmean(abs(math.log(r.knobs["lr_factor"] / 0.7)) for r in found)

    records = list(run({"configurations": 24, "kind": "random", "from_scratch": True}))
    begun = [r for r in records if r.follows is None]
    more = {"configurations": 24 + count, "kind": kind, "from_scratch": True}
    after = [r for r in run(more, records) if r.follows is None]
    assert [r.origin for r in after] == count // 3 * ["quasi-random", kind, kind]
    assert distance([r for r in after if r.origin == kind]) < 0.6 * distance(begun)


def test_a_model_waits_for_values_and_knows_those_of_the_highest_rung(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Triplet has five knobs: from 10 values on."""
    known: list[list[tuple[dict[str, Any], float]]] = []
    seeds: list[int] = []

    def modelling(kind: str, seed: int, loss: str, trials: list[TrialRecord], _: Any) -> Any:
        known.append([(trial.knobs, trial.score) for trial in trials])
        seeds.append(seed)
        return evenly("triplet", seed % 99)

    monkeypatch.setattr(module, "modelling", modelling)
    records = list(run({"configurations": 81, "kind": "tpe"}))
    assert len(knobs_of("triplet")) == 5
    begun = [r for r in records if r.follows is None]
    modelled = [r.number for r in begun if r.origin == "tpe"]
    assert modelled == [n for n in range(81) if n % 3 == 2 and n >= 10]
    # Up to then no trial is longer, as all begin before the first is promoted.
    assert known == [[(r.knobs, r.score) for r in begun[:n]] for n in modelled]
    list(run({"configurations": 84, "kind": "tpe"}, records))
    second = [r for r in records if r.config.epochs == RUNGS[1]][:27]
    assert known[-1] == [(r.knobs, r.score) for r in second]
    # A stream of its own for each, and for each seed of a study.
    plan: Plan = {"rungs": RUNGS, "configurations": 87, "kind": "tpe"}
    for seed in (7, 7, 8):
        other = Searches(["triplet"], seed=seed, records=again(records), **plan)
        while other.ask() is not None:
            pass
    assert seeds[-3] == seeds[-2] and len(seeds) == len(modelled) + 4
    assert len(set(seeds)) == len(seeds) - 1


def test_the_highest_rung_with_enough_values_is_modelled() -> None:
    records = list(run({"configurations": 81}))
    for least, rung in ((1, 9), (2, 3), (4, 1), (10, 0.3333), (28, 0.1111)):
        assert {r.config.epochs for r in enough(records, least)} == {rung}
    assert enough(records, 82) == []
    records[0].status = "diverged"
    assert enough(records, 81) == []


def test_optuna_is_told_what_happened_and_by_which_metric() -> None:
    storage = optuna.storages.InMemoryStorage()
    plan: Plan = {"rungs": (1, 3), "seed": 0, "configurations": 3, "metric": "val_recall_at_1"}
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


def test_optuna_has_what_failed_and_what_is_going_on() -> None:
    plan: Plan = {"rungs": (0.3333, 1), "seed": 0, "configurations": 5}
    searches = Searches(["triplet"], **plan)
    records = [record for record in iter(searches.ask, None) if record]
    for record, status in zip(records, ("diverged", "failed", "interrupted"), strict=False):
        record.status = status
        searches.tell(record)
    end(records[3], searches)

    def told(of: Searches) -> list[optuna.trial.FrozenTrial]:
        return of.mirror.studies["triplet"].get_trials()

    fail, pruned, running = TrialState.FAIL, TrialState.PRUNED, TrialState.RUNNING
    assert [trial.state for trial in told(searches)] == [fail] * 3 + [pruned, running]
    # A study that goes on runs what failed and what was interrupted again.
    later = told(Searches(["triplet"], records=again(records), **plan))
    assert [trial.state for trial in later] == [fail, running, running, pruned, running]
    for trial, record in zip(later, records, strict=True):
        assert trial.params == record.knobs
        attributes = {"trial": record.trial_id, "epochs": 0.3333, "origin": record.origin}
        assert trial.user_attrs == {**attributes, "follows": ""}
    assert later[3].intermediate_values == {333: value(records[3])}


def test_listed_trials_are_handed_out_once_and_in_their_order() -> None:
    trials = [
        TrialRecord(f"triplet-{n:03d}", default("triplet", epochs=1, seed=n)) for n in range(4)
    ]
    records = [trials[1]]
    listed = Listed(trials, records)
    found = []
    while listed.has_more():
        found.append(listed.ask())
    assert found == [trials[0], trials[2], trials[3]] and listed.ask() is None
    assert records == [trials[1], *found]
    assert not Listed(trials, records).has_more()
