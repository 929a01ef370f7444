from __future__ import annotations

import dataclasses
import json
import pickle

import numpy as np
import pytest

from tests.configurations import REFERENCES
from trainables import losses
from trainables.config import FIELDS, TrialConfig

VALID = REFERENCES["smooth_ap"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "contrastive"}, "loss must be one of .*; got 'contrastive'"),
        ({"optimizer": "lion"}, "optimizer must be one of .*; got 'lion'"),
        ({"schedule": "step"}, "schedule must be one of .*; got 'step'"),
        ({"lr": 0}, "lr must be a finite number > 0; got 0"),
        ({"lr": -1e-3}, "lr must be .*; got -0.001"),
        ({"lr": float("nan")}, "lr must be .*; got nan"),
        ({"lr": "fast"}, "lr must be .*; got 'fast'"),
        ({"weight_decay": -1.0}, "weight_decay must be .* >= 0; got -1.0"),
        ({"tau": 0}, "tau must be a finite number > 0; got 0"),
        ({"tau": None}, "tau must be a finite number > 0; got None"),
        (
            {"margin": 0.5},
            "smooth_ap has the knobs anchors, tau, numerator, positives; got 'margin'",
        ),
        ({"numerater": "seed"}, "got 'numerater'; did you mean numerator?"),
        ({"momentum": 0.9}, "momentum is used only by sgd.*adam; got 0.9"),
        ({"numerator": "half"}, "numerator must be one of paper, seed; got 'half'"),
        ({"anchors": 0}, "anchors must be an integer >= 1 or 'all'; got 0"),
        ({"anchors": "some"}, "anchors must be .*; got 'some'"),
        ({"tau": 1e-40}, r"tau must be a normal number of float32 \(1.2e-38 to .*; got 1e-40"),
        ({"lr": 1e39}, r"lr must be a normal number of float32 .*; got 1e\+39"),
        ({"lr": 10**400}, "lr must be a normal number of float32 .*; got 1000"),
        ({"lr": True}, "lr must be a finite number > 0; got True"),
        ({"lr": np.array(0.1)}, r"lr must be a finite number > 0; got array\(0.1\)"),
        ({"anchors": True}, "anchors must be an integer >= 1 or 'all'; got True"),
        ({"anchors": 2.5}, "anchors must be an integer >= 1 or 'all'; got 2.5"),
        ({"batch_size": 1}, "batch_size must be an integer >= 3 for smooth_ap; got 1"),
        ({"batch_size": 2}, "batch_size must be an integer >= 3 for smooth_ap; got 2"),
        ({"batch_size": 10**30}, "batch_size must be at most 2147483647; got 1000"),
        ({"per_class": 1}, "per_class must be an integer >= 2 or None; got 1"),
        ({"per_class": 64}, "batch_size / per_class must be at least 2 for smooth_ap; got 64 / 64"),
        ({"per_class": 7}, "per_class must divide batch_size 64; got 7"),
        ({"batch_size": 64.0}, "batch_size must be an integer .*; got 64.0"),
        ({"epochs": 0}, "epochs must be a finite number > 0; got 0"),
        ({"epochs": float("inf")}, "epochs must be a finite number > 0; got inf"),
        ({"epochs": True}, "epochs must be a finite number > 0; got True"),
        ({"seed": -1}, "seed must be an integer >= 0; got -1"),
        ({"seed": 2**32}, "seed must be at most 4294967295; got 4294967296"),
        ({"flip": 1}, "flip must be True or False; got 1"),
        ({"dataset": ""}, "dataset must be a word; got ''"),
        ({"data_fingerprint": None}, "data_fingerprint must be text; got None"),
        ({"image_size": 3}, "image_size must be an integer >= 4 or None; got 3"),
        ({"crop": 0.0}, r"crop must be a finite number in \(0, 1\]; got 0.0"),
        ({"crop": 1.5}, r"crop must be a finite number in \(0, 1\]; got 1.5"),
        ({"jitter": -0.1}, r"jitter must be a finite number in \[0, 1\]; got -0.1"),
        ({"jitter": None}, r"jitter must be a finite number in \[0, 1\]; got None"),
        ({"network": ""}, "network must be a word; got ''"),
        ({"freeze": "all"}, "freeze must be one of none, bn, stem, backbone; got 'all'"),
        ({"embedding_dim": 0}, "embedding_dim must be an integer >= 1 or None; got 0"),
        ({"loss_lr": 0.0}, "loss_lr must be a finite number > 0; got 0.0"),
    ],
)
def test_a_broken_law_is_stated_with_the_value(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VALID.replace(**changes)


@pytest.mark.parametrize("loss", ["triplet", "smooth_ap"])
def test_the_smallest_batches_that_can_hold_a_triplet(loss: str) -> None:
    config = REFERENCES[loss]
    assert config.replace(batch_size=3).batch_size == 3
    assert config.replace(batch_size=4, per_class=2).per_class == 2


def test_cross_entropy_takes_what_a_ranking_loss_cannot() -> None:
    config = REFERENCES["cross_entropy"]
    for batch_size, per_class in ((2, None), (2, 2), (8, 8)):
        config.replace(batch_size=batch_size, per_class=per_class)
    with pytest.raises(ValueError, match="batch_size must be an integer >= 2 for cross_entropy"):
        config.replace(batch_size=1)


def test_scalars_of_numpy_are_kept_as_pythons() -> None:
    config = VALID.replace(lr=np.float64(0.5), batch_size=np.int64(32), flip=np.True_)
    assert config == VALID.replace(lr=0.5, batch_size=32, flip=True)
    assert [type(x) for x in (config.lr, config.batch_size, config.flip)] == [float, int, bool]
    assert json.loads(json.dumps(config.to_dict())) == config.to_dict()


def test_margin_with_cross_entropy_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"cross_entropy has the knobs label_smoothing; got 'margin'"
    ):
        REFERENCES["cross_entropy"].replace(margin=0.5)


@pytest.mark.parametrize("epochs", [1, 0.1111, 1e-3, 3.333, 100])
def test_a_configuration_may_have_a_part_of_an_epoch(epochs: float) -> None:
    config = VALID.replace(epochs=epochs)
    again = TrialConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config and hash(again) == hash(config)
    assert again.epochs == epochs and type(again.epochs) is type(epochs)


@pytest.mark.parametrize(("momentum", "valid"), [(0.0, True), (0.99, True), (1.0, False)])
def test_momentum_lies_in_its_half_open_range(momentum: float, valid: bool) -> None:
    config = REFERENCES["cross_entropy"]
    if valid:
        assert config.replace(momentum=momentum).momentum == momentum
    else:
        with pytest.raises(ValueError, match=r"momentum must be .* in \[0, 1\); got 1.0"):
            config.replace(momentum=momentum)


def test_a_losss_arguments_may_stand_among_the_others() -> None:
    """Of several losses' that are given as None those of others are left out."""
    for config in REFERENCES.values():
        others = {"tau": None, "margin": None, "anchors": None}
        assert TrialConfig.from_dict({**others, **config.flat()}) == config


def test_a_record_from_before_a_field_came_has_its_default() -> None:
    config = VALID.replace(lr=0.5)
    later = ("crop", "jitter", "data_fingerprint", "image_size")
    old = {name: value for name, value in config.to_dict().items() if name not in later}
    assert TrialConfig.from_dict(old) == config
    assert TrialConfig.from_dict({**old, "crop": 0.25}) == config.replace(crop=0.25) != config


@pytest.mark.parametrize("loss", REFERENCES)
def test_a_configuration_survives_its_dictionary(loss: str) -> None:
    config = REFERENCES[loss]
    assert TrialConfig.from_dict(config.to_dict()) == config


def test_unknown_and_missing_knobs_are_named() -> None:
    with pytest.raises(ValueError, match=r"got \['learning_rate'\]"):
        TrialConfig.from_dict({**VALID.to_dict(), "learning_rate": 1.0})
    with pytest.raises(ValueError, match=r"\['lr', 'optimizer'\] missing"):
        TrialConfig.from_dict({"loss": "triplet"})


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        VALID.lr = 1.0  # type: ignore[misc]


def test_references_are_the_seed_studys() -> None:
    cross_entropy, triplet, smooth_ap = REFERENCES.values()
    assert (cross_entropy.optimizer, cross_entropy.lr, cross_entropy.momentum) == ("sgd", 1e-3, 0.9)
    assert (triplet.optimizer, triplet.lr, triplet.momentum) == ("sgd", 1e-3, 0.0)
    assert triplet.loss_args == {"margin": 0.5, "reduction": "sum", "anchors": 10}
    assert (smooth_ap.optimizer, smooth_ap.lr, smooth_ap.weight_decay) == ("adam", 1e-4, 4e-5)
    own = {"tau": 0.01, "numerator": "seed", "anchors": 10, "positives": "mean"}
    assert smooth_ap.loss_args == own
    assert {(c.batch_size, c.epochs, c.schedule) for c in REFERENCES.values()} == {
        (64, 100, "constant")
    }


@pytest.mark.parametrize("loss", losses.names())
def test_an_entry_begins_within_its_laws_and_ranges(loss: str) -> None:
    entry = losses.resolve(loss)
    assert entry.name == loss and entry.title and entry.source
    for knob in entry.knobs:
        knob.law(knob.name, knob.default)
        assert knob.range is None or knob.range.holds(knob.default)
        assert knob.name not in FIELDS  # a row of a table has them side by side
    config = TrialConfig(loss=loss, optimizer="adam", lr=0.1)
    assert dict(config.loss_args) == {knob.name: knob.default for knob in entry.knobs}


def test_own_arguments_are_a_value() -> None:
    config = VALID.replace(tau=0.5)
    assert config.loss_args["tau"] == 0.5 and VALID.loss_args["tau"] == 0.01
    assert config != VALID and config.replace(tau=0.01) == VALID
    assert len({config, VALID, pickle.loads(pickle.dumps(VALID))}) == 2
    with pytest.raises(TypeError):
        config.loss_args["tau"] = 1.0  # type: ignore[index]


def test_an_unknown_loss_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"got .tripplet.; did you mean triplet"):
        TrialConfig(loss="tripplet", optimizer="adam", lr=0.1)
