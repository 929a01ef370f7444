from __future__ import annotations

import optuna
import pytest

from study.run.results import StudyError, TrialRecord
from study.search.searches import Searches
from study.search.space import (
    SPACE,
    all_knobs,
    default,
    describe,
    is_of_seed_study,
    knobs_of,
    params,
    reference,
    sample,
    starts,
)
from tests.configurations import LOSSES, REFERENCES
from trainables.config import TrialConfig
from trainables.data import Asked
from trainables.data.fashion_mnist import SMOKE_TRAIN, SMOKE_VALIDATION
from trainables.data.own import open_data
from trainables.knobs import Choice
from trainables.networks import Input


def trials_of(loss: str, count: int) -> list[tuple[TrialConfig, optuna.trial.FrozenTrial]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    base = default(loss, epochs=7, seed=3)
    asked = [study.ask() for _ in range(count)]
    configs = [sample(trial, base) for trial in asked]
    return list(zip(configs, study.get_trials(), strict=True))


@pytest.mark.parametrize("loss", LOSSES)
def test_every_sample_is_a_valid_configuration_and_has_its_parameters_back(loss: str) -> None:
    for config, trial in trials_of(loss, 60):
        assert (config.loss, config.epochs, config.seed) == (loss, 7, 3)
        assert params(config) == trial.params


@pytest.mark.parametrize("loss", LOSSES)
def test_every_choice_and_both_ends_of_a_range_are_reached(loss: str) -> None:
    configs = [config for config, _ in trials_of(loss, 400)]
    for knob in knobs_of(loss):
        if not knob.used({"loss": loss, "optimizer": "sgd"}) and not knob.used(
            {"loss": loss, "optimizer": "adam"}
        ):
            continue
        values = [c.flat()[knob.sets] for c in configs if knob.used(c.flat())]
        if isinstance(knob.range, Choice):
            assert set(values) == set(knob.range.values)
        else:
            assert knob.range is not None
            assert min(values) < 1.1 * knob.range.low * (knob.range.high / knob.range.low) ** 0.1
            assert max(values) > 0.9 * knob.range.high / (knob.range.high / knob.range.low) ** 0.1


@pytest.mark.parametrize("loss", LOSSES)
def test_what_a_search_begins_with_lies_in_the_space(loss: str) -> None:
    for config in starts(default(loss, epochs=5, seed=1)):
        study = optuna.create_study()
        study.enqueue_trial(params(config))
        assert sample(study.ask(), config) == config


def test_only_the_seed_studys_losses_have_a_reference() -> None:
    assert set(LOSSES) - set(REFERENCES) == {"normalized_softmax"}
    assert reference("normalized_softmax", epochs=5, seed=1) is None
    assert reference("triplet", epochs=5, seed=1) == REFERENCES["triplet"].replace(epochs=5, seed=1)


def test_a_value_outside_the_space_is_named() -> None:
    config = default("smooth_ap", epochs=5, seed=0).replace(tau=9.0)
    with pytest.raises(ValueError, match=r"tau must be in .*; got 9.0"):
        params(config)


def test_a_parameter_name_has_one_distribution() -> None:
    for loss in LOSSES:
        names = [knob.name for knob in knobs_of(loss)]
        assert len(set(names)) == len(names)


def test_defaults_lie_in_their_ranges_and_the_description_has_every_knob() -> None:
    knobs = [knob for loss in LOSSES for knob in knobs_of(loss)]
    assert all(knob.range is not None and knob.range.holds(knob.default) for knob in knobs)
    rows = {row["knob"]: row for row in describe(LOSSES)}
    assert set(rows) == {knob.name for knob in knobs}
    assert all(all(row.values()) for row in rows.values())
    assert rows["anchors"]["used by"] == "triplet, smooth_ap"  # alike in both: one row
    assert rows["batch_size"]["used by"] == "all"


@pytest.mark.parametrize("loss", LOSSES)
def test_a_search_begins_with_the_reference_if_there_is_one_and_the_defaults(loss: str) -> None:
    first = [REFERENCES[loss].replace(epochs=5, seed=1)] if loss in REFERENCES else []
    usual = default(loss, epochs=5, seed=1)
    begun = [*first, usual, usual.replace(batch_size=64, lr=7e-3)]
    searches = Searches([loss], num_samples=len(begun) + 1, epochs=5, seed=1)
    *records, sampled = [record for record in iter(searches.ask, None) if record]
    assert [record.config for record in records] == begun
    assert all(record.hand_set for record in records)
    assert sampled.config not in begun and not sampled.hand_set
    assert searches.ask() is None


def test_losses_take_turns_and_have_equal_shares() -> None:
    searches = Searches(LOSSES, num_samples=2, epochs=5, seed=0)
    names = [record.trial_id for record in iter(searches.ask, None) if record]
    assert names == [f"{loss}-{n:03d}" for n in range(2) for loss in LOSSES]


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_a_continued_search_asks_what_it_would_have_asked(kind: str) -> None:
    def told(count: int, searches: Searches) -> list[TrialRecord]:
        records = []
        for n in range(count):
            record = searches.ask()
            assert record is not None
            record.add_epoch({"epoch": 1, "val_map": 1 / (3 + n % 5), "seconds": 1.0})
            searches.report(record)
            record.status = "finished"
            searches.tell(record)
            records.append(record)
        return records

    plan = {"num_samples": 12, "epochs": 1, "seed": 7, "kind": kind}
    whole = told(12, Searches(["triplet"], **plan))
    for stop in (1, 2, 9):
        rest = Searches(["triplet"], records=whole[:stop], **plan)
        asked = rest.ask()
        assert asked is not None
        assert asked.config == whole[stop].config
        assert asked.trial_id == whole[stop].trial_id


def test_a_smoke_test_has_images_for_every_batch_of_the_space() -> None:
    (knob,) = [knob for knob in SPACE.shared if knob.sets == "batch_size"]
    assert isinstance(knob.range, Choice)
    assert max(knob.range.values) <= min(SMOKE_TRAIN, SMOKE_VALIDATION)


UNSEARCHED = {"crop", "jitter", "embedding_dim", "head_lr", "loss_lr"}


@pytest.mark.parametrize("loss", LOSSES)
def test_some_knobs_are_searched_where_the_data_or_the_user_gives_a_range(loss: str) -> None:
    classes = loss in ("cross_entropy", "normalized_softmax")  # which have weights of their own
    unused = set() if classes else {"loss_lr"}
    assert {knob.name for knob in all_knobs(loss)} & UNSEARCHED == UNSEARCHED - unused
    assert not {knob.name for knob in knobs_of(loss)} & UNSEARCHED
    for name in UNSEARCHED:
        assert getattr(default(loss, epochs=1, seed=0), name) == getattr(TrialConfig, name)
    space = SPACE.changed({"crop": {"choices": ["none", 0.5]}, "loss_lr": {"range": [1.0, 9.0]}})
    searched = {knob.name for knob in knobs_of(loss, space)} & UNSEARCHED
    assert searched == ({"crop", "loss_lr"} if classes else {"crop"})
    with pytest.raises(StudyError, match=r"crop must be a finite number in \(0, 1\]; got 2"):
        SPACE.changed({"crop": {"choices": [2]}})


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("side", [4, 28, 224])
def test_what_ones_own_pictures_ask_of_the_space_can_be_searched(loss: str, side: int) -> None:
    wants = Input(3, side, side, (0.5,) * 3, (0.5,) * 3)
    space = SPACE.changed(open_data("photos", Asked(input=wants)).changes)
    base = default(loss, epochs=2, seed=0, space=space, dataset="photos", data_fingerprint="0f")
    assert base.crop is not None and base.flip and base.per_class == 4
    begun = starts(base, space)
    assert begun[0] == base and len(begun) == 2  # the seed study's is of its own data
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    sampled = [sample(study.ask(), base, space) for _ in range(60)]
    for config, trial in zip(sampled, study.get_trials(), strict=True):
        assert params(config, space) == trial.params
    for config in (*begun, *sampled):
        assert (config.dataset, config.data_fingerprint) == ("photos", "0f")
    assert {config.crop for config in sampled} >= {None, base.crop}
    assert all(config.erase < side and config.shift == 0 for config in sampled)


def test_a_search_is_told_the_metric_of_its_study() -> None:
    searches = Searches(["triplet"], num_samples=2, epochs=1, seed=0, metric="val_recall_at_1")
    record = searches.ask()
    assert record is not None and record.metric == "val_recall_at_1"
    record.add_epoch({"epoch": 1, "val_map": 0.2, "val_recall_at_1": 0.7, "seconds": 1.0})
    searches.report(record)
    record.status = "finished"
    searches.tell(record)
    again = Searches(
        ["triplet"], num_samples=2, epochs=1, seed=0, metric="val_recall_at_1", records=[record]
    )
    for told in (searches, again):
        study = told.studies["triplet"]
        assert study.metric_names == ["validation R@1"]
        (trial,) = study.get_trials()
        assert (trial.value, trial.intermediate_values) == (0.7, {1: 0.7})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seed": 3, "epochs": 2, "batch_size": 128, "precision": "float32"}, True),
        ({"dataset": "photos", "data_fingerprint": "0f"}, False),
        ({"data_fingerprint": "0f"}, False),  # of a folder by the name of fashion_mnist
        ({"network": "torchvision:resnet18"}, False),
        ({"weights": "none"}, False),
    ],
)
def test_the_seed_study_had_its_own_data_and_network(
    changes: dict[str, object], expected: bool
) -> None:
    assert is_of_seed_study(REFERENCES["triplet"].replace(**changes)) is expected


def test_a_search_from_scratch_has_nothing_that_was_set_by_hand() -> None:
    begun, free = (
        Searches(["triplet"], num_samples=8, epochs=5, seed=0, from_scratch=scratch)
        for scratch in (False, True)
    )
    first, second = ([s.ask() for _ in range(8)] for s in (begun, free))
    by_hand = starts(default("triplet", epochs=5, seed=0))
    assert [r.config for r in first if r and r.hand_set] == list(by_hand)
    assert not any(r.hand_set for r in second if r)
    assert not {r.config.describe() for r in second if r} & {c.describe() for c in by_hand}
