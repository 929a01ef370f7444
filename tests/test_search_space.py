from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import optuna
import pytest

from study.results.files import StudyError
from study.search.draws import randomly
from study.search.space import (
    CORE,
    SPACE,
    WIDE,
    Pick,
    Space,
    all_knobs,
    configured,
    default,
    describe,
    fixed_of,
    is_of_seed_study,
    knobs_of,
    ranges_of,
    reference,
    usual_lr,
)
from tests.configurations import LOSSES, REFERENCES
from trainables.config import TrialConfig
from trainables.data import Asked
from trainables.data.fashion_mnist import SMOKE_TRAIN, SMOKE_VALIDATION
from trainables.data.own import OwnData, open_data
from trainables.knobs import Choice, Span
from trainables.networks import Input


def drawn(
    loss: str, count: int, space: Space = SPACE, **fixed: Any
) -> Iterator[tuple[TrialConfig, dict[str, Any]]]:
    base = default(loss, space=space, **{"epochs": 7, "seed": 3, **fixed})
    for number in range(count):
        pick = randomly(loss, 0, number, space=space)
        yield configured(pick, fixed_of(base), space)


def given(knobs: dict[str, Any]) -> Pick:
    """Picks these values."""
    return lambda knob: knobs[knob.name]


@pytest.mark.parametrize("space", [SPACE, WIDE], ids=["core", "wide"])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_draw_is_a_valid_configuration_that_its_knobs_give_again(
    loss: str, space: Space
) -> None:
    ranges = {knob.name: knob.range for knob in knobs_of(loss, space)}
    for config, knobs in drawn(loss, 60, space):
        assert (config.loss, config.epochs, config.seed) == (loss, 7, 3)
        assert all(ranges[name].holds(value) for name, value in knobs.items())  # type: ignore[union-attr]
        assert configured(given(knobs), fixed_of(config), space) == (config, knobs)
        assert TrialConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("loss", LOSSES)
def test_every_choice_and_both_ends_of_a_range_are_reached(loss: str) -> None:
    found = [knobs for _, knobs in drawn(loss, 400, WIDE)]
    for knob in knobs_of(loss, WIDE):
        values = [knobs[knob.name] for knobs in found if knob.name in knobs]
        if isinstance(knob.range, Choice):
            assert set(values) == set(knob.range.values)
        else:
            assert knob.range is not None
            assert min(values) < 1.1 * knob.range.low * (knob.range.high / knob.range.low) ** 0.1
            assert max(values) > 0.9 * knob.range.high / (knob.range.high / knob.range.low) ** 0.1


@pytest.mark.parametrize("loss", LOSSES)
def test_the_core_is_few_knobs_and_the_wide_space_has_the_rest(loss: str) -> None:
    own = [knob.name for knob in knobs_of(loss) if knob.name not in CORE]
    assert [knob.name for knob in knobs_of(loss)] == [*CORE, *own]
    mine = [k for k in all_knobs(loss) if k.sets not in TrialConfig.__annotations__]
    assert own == [knob.name for knob in mine if knob.range is not None]
    wide = {knob.name for knob in knobs_of(loss, WIDE)}
    assert wide > {*CORE, *own, "optimizer", "schedule", "warmup", "averaging", "flip", "per_class"}
    for config, _ in drawn(loss, 20):
        kept = {"optimizer": "adam", "schedule": "cosine", "warmup": 0.5, "averaging": 0.0}
        assert {name: getattr(config, name) for name in kept} == kept
        assert (config.flip, config.shift, config.erase, config.momentum) == (False, 0, 0, None)


@pytest.mark.parametrize(
    ("optimizer", "batch_size", "expected"),
    [
        *(("adam", 256, 0.015), ("adam", 64, 0.0075), ("adamw", 1024, 0.03)),
        *(("sgd", 256, 0.1), ("sgd", 64, 0.025), ("sgd", 1024, 0.4)),
    ],
)
def test_the_usual_learning_rate_grows_with_the_batch(
    optimizer: str, batch_size: int, expected: float
) -> None:
    """With its square root for Adam, in proportion to it for SGD."""
    chosen = {"optimizer": optimizer, "batch_size": batch_size}
    assert usual_lr(chosen) == pytest.approx(expected)
    values = {**chosen, "lr_factor": 2.0, "momentum": 0.9, "per_class": None}

    def pick(knob: Any) -> Any:
        return values.get(knob.name, knob.default)

    config, knobs = configured(pick, {"loss": "triplet", "epochs": 1, "seed": 0}, WIDE)
    assert config.lr == pytest.approx(2 * expected) and knobs["lr_factor"] == 2.0
    own, _ = configured(pick, {"loss": "triplet", "epochs": 1, "seed": 0}, WIDE.around(1.5e-3))
    assert own.lr == pytest.approx(2 * expected / (1 if optimizer == "sgd" else 10))


def test_only_the_seed_studys_losses_have_a_reference() -> None:
    assert set(LOSSES) - set(REFERENCES) == {"normalized_softmax"}
    assert reference("normalized_softmax", epochs=5, seed=1) is None
    assert reference("triplet", epochs=5, seed=1) == REFERENCES["triplet"].replace(epochs=5, seed=1)


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
    wide = {row["knob"]: row for row in describe(LOSSES, WIDE)}
    assert wide["anchors"]["used by"] == "triplet, smooth_ap"  # alike in both: one row
    assert "anchors" not in rows
    assert rows["batch_size"]["used by"] == "all"


def test_a_smoke_test_has_images_for_every_batch_of_the_space() -> None:
    (knob,) = [knob for knob in SPACE.shared if knob.sets == "batch_size"]
    assert isinstance(knob.range, Choice)
    assert max(knob.range.values) <= min(SMOKE_TRAIN, SMOKE_VALIDATION)


UNSEARCHED = {"crop", "jitter", "embedding_dim", "head_lr", "loss_lr", "teacher_weight"}


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


def photos(images: int, side: int = 28) -> OwnData:
    """Own data of which so many images are trained on."""
    data = open_data("photos", Asked(input=Input(3, side, side, (0.5,) * 3, (0.5,) * 3)))
    data.__dict__["_train"] = np.arange(images)
    return data


@pytest.mark.parametrize(
    ("images", "batch"),
    [(9, 9), (16, 16), (319, 16), (320, 32), (639, 32), (1_279, 64), (1_280, 128), (10**6, 128)],
)
def test_one_batch_of_ones_own_pictures_of_which_an_epoch_has_ten(images: int, batch: int) -> None:
    """Or all there are."""
    whole = (16, 32, 64, 128, 256)
    for wide, sizes in ((False, (batch,)), (True, (9, *whole) if batch == 9 else whole)):
        space = (WIDE if wide else SPACE).changed(photos(images).changes_of(wide=wide))
        (knob,) = (knob for knob in space.shared if knob.sets == "batch_size")
        assert (knob.range, knob.default) == (Choice(sizes), batch)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("side", [4, 28, 224])
def test_what_ones_own_pictures_ask_of_the_space_can_be_searched(loss: str, side: int) -> None:
    space = SPACE.changed(photos(2_000, side).changes_of(wide=False))
    base = default(loss, epochs=2, seed=0, space=space, dataset="photos", data_fingerprint="0f")
    assert base.crop is not None and base.flip and base.per_class == 4
    own = {"dataset": "photos", "data_fingerprint": "0f"}
    sampled = [config for config, _ in drawn(loss, 60, space, **own)]
    for config in sampled:
        assert (config.dataset, config.data_fingerprint) == ("photos", "0f")
    assert {config.per_class for config in sampled} == {None, 2, 4, 8}
    assert all(config.flip for config in sampled)
    assert {config.crop for config in sampled} >= {None, base.crop}
    assert all(config.erase < side and config.shift == 0 for config in sampled)


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


@pytest.mark.parametrize("loss", LOSSES)
def test_optuna_has_the_same_ranges(loss: str) -> None:
    for name, distribution in ranges_of(loss, WIDE).items():
        (knob,) = [knob for knob in knobs_of(loss, WIDE) if knob.name == name]
        if isinstance(knob.range, Choice):
            assert distribution == optuna.distributions.CategoricalDistribution(knob.range.values)
        else:
            assert isinstance(knob.range, Span)
            ends = (knob.range.low, knob.range.high)
            log = knob.range.log
            assert distribution == optuna.distributions.FloatDistribution(*ends, log=log)
